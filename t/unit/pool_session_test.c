/*
 * Copyright (C) nginx-ims contributors
 *
 * Sessions: up to four in a lease, or one lease each; keys of users' hashes.
 */

#include "pool_fixture.h"


static unsigned             fed;
static ims_pool_feed_row_t  feed[16];


static void
collect(void *ctx, const ims_pool_feed_row_t *row)
{
    (void) ctx;

    feed[fed++ % 16] = *row;
}


static unsigned
heard(fixture_t *f)
{
    fed = 0;
    assert_true(ims_pool_feed(ims_pool_writer_reader(f->w), collect, NULL)
                >= 0);

    return fed;
}


static void
test_four(void **state)
{
    unsigned          i;
    fixture_t         f;
    ims_pool_grant_t  first, g;

    (void) state;

    fixture_pool(&f, 2);
    assert_int_equal(acquire(&f, "alice", 1, &first), IMS_POOL_OK);
    (void) heard(&f);

    for (i = 2; i <= 4; i++) {
        f.v.boottime += 1000;
        assert_int_equal(acquire(&f, "alice", i, &g), IMS_POOL_OK);
        assert_int_equal(g.how, IMS_POOL_SAME);
        assert_int_equal(g.lease, first.lease);
        assert_int_equal(g.end, first.end + (i - 1) * 1000);
    }

    assert_int_equal(heard(&f), 0);

    for (i = 1; i <= 4; i++) {
        assert_int_equal(lapse(&f, &first, i), IMS_POOL_LIVE);
    }

    /* the first one is renewed: the second now ends first, and makes room */

    f.v.boottime += 1000;
    assert_int_equal(renew(&f, "alice", 1, g.ident, g.lease, &g), 0);
    f.v.boottime += 1000;
    assert_int_equal(acquire(&f, "alice", 5, &g), IMS_POOL_OK);
    assert_int_equal(g.lease, first.lease);
    assert_int_equal(heard(&f), 1);
    assert_int_equal(feed[0].reason, IMS_POOL_END_SESSION);
    assert_int_equal(feed[0].lease, first.lease);
    assert_int_equal(lapse(&f, &first, 2), IMS_POOL_LAPSE_SID);

    for (i = 1; i <= 5; i++) {
        if (i != 2) {
            assert_int_equal(lapse(&f, &first, i), IMS_POOL_LIVE);
        }
    }

    /* a late DELETE of what is gone, of another, of nobody: nothing happens */

    assert_int_equal(release(&f, "alice", 2, g.ident, g.lease),
                     IMS_POOL_ENDED);
    assert_int_equal(release(&f, "bob", 3, g.ident, g.lease), IMS_POOL_ENDED);
    assert_int_equal(release(&f, "alice", 3, g.ident, g.lease - 1),
                     IMS_POOL_ENDED);
    assert_int_equal(heard(&f), 0);

    check_clean(&f);
    fixture_end(&f);
}


/* the lease ends with the last of its sessions, and not before */

static void
test_ends(void **state)
{
    uint64_t          rest;
    fixture_t         f;
    ims_pool_look_t   l;
    ims_pool_grant_t  a, b;

    (void) state;

    fixture_pool(&f, 2);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    f.v.boottime += 100000;
    assert_int_equal(acquire(&f, "alice", 2, &b), IMS_POOL_OK);
    rest = look(&f, a.ident).rec.rest;
    (void) heard(&f);

    /* the longer one goes: promised and rest stay */

    assert_int_equal(release(&f, "alice", 2, a.ident, a.lease), IMS_POOL_OK);
    assert_int_equal(heard(&f), 1);
    assert_int_equal(feed[0].reason, IMS_POOL_END_SESSION);

    l = look(&f, a.ident);
    assert_int_equal(l.rec.end, a.end);
    assert_int_equal(l.rec.promised, b.end);
    assert_int_equal(l.rec.rest, rest);
    assert_int_equal(l.rec.nsession, 1);
    assert_int_equal(lapse(&f, &a, 2), IMS_POOL_LAPSE_SID);
    check_clean(&f);

    /* its user may come back, which is no new lease */

    assert_int_equal(acquire(&f, "alice", 2, &b), IMS_POOL_OK);
    assert_int_equal(b.how, IMS_POOL_SAME);
    assert_int_equal(b.lease, a.lease);

    /* the first one's end passes: it is dead, the lease is not */

    f.v.boottime += 500000;
    assert_int_equal(lapse(&f, &a, 1), IMS_POOL_LAPSE_SID_ENDED);
    assert_int_equal(lapse(&f, &a, 2), IMS_POOL_LIVE);
    assert_int_equal(renew(&f, "alice", 1, a.ident, a.lease, &b),
                     IMS_POOL_ENDED);
    assert_int_equal(release(&f, "alice", 1, a.ident, a.lease),
                     IMS_POOL_ENDED);

    /* what is left besides the dead one is the last one */

    assert_int_equal(release(&f, "alice", 2, a.ident, a.lease), IMS_POOL_OK);
    assert_int_equal(heard(&f), 1);
    assert_int_equal(feed[0].reason, IMS_POOL_END_RELEASED);
    l = look(&f, a.ident);
    assert_int_equal(l.rec.end, l.pt);
    assert_int_equal(l.rec.nsession, 0);

    /* its place is taken without a word */

    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_int_equal(a.how, IMS_POOL_RETURNED);
    f.v.boottime += 1000;
    assert_int_equal(acquire(&f, "alice", 2, &b), IMS_POOL_OK);
    f.v.boottime += 599000;
    (void) heard(&f);
    assert_int_equal(acquire(&f, "alice", 3, &b), IMS_POOL_OK);
    l = look(&f, a.ident);
    assert_int_equal(l.rec.nsession, 2);
    assert_int_equal(lapse(&f, &a, 1), IMS_POOL_LAPSE_SID);
    assert_int_equal(heard(&f), 0);

    /* an acquire may wake a session whose end has passed */

    assert_int_equal(acquire(&f, "alice", 1, &b), IMS_POOL_OK);
    assert_int_equal(b.lease, a.lease);
    assert_int_equal(lapse(&f, &a, 1), IMS_POOL_LIVE);

    check_clean(&f);
    fixture_end(&f);
}


/* a pool per=session: the sessions of one user have a lease each */

static void
test_per_session(void **state)
{
    bool                ended;
    unsigned            n;
    uint64_t            ident;
    fixture_t           f;
    ims_pool_who_t      w;
    ims_pool_look_t     l;
    ims_pool_grant_t    a, b, c;

    (void) state;

    fixture_init(&f);
    fixture_open(&f);
    add_pool_per(&f, "web", IMS_POOL_PER_SESSION);
    add_identities(&f, "web", 1, 3);

    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_int_equal(acquire(&f, "alice", 2, &b), IMS_POOL_OK);
    assert_int_equal(b.how, IMS_POOL_NEW);
    assert_int_not_equal(a.ident, b.ident);
    assert_memory_equal(a.holder, b.holder, sizeof(a.holder));

    /* again, without the answer to the first */

    assert_int_equal(acquire(&f, "alice", 1, &c), IMS_POOL_OK);
    assert_int_equal(c.how, IMS_POOL_SAME);
    assert_int_equal(c.lease, a.lease);

    /* each may touch its own only */

    assert_int_equal(renew(&f, "alice", 2, a.ident, a.lease, &c),
                     IMS_POOL_ENDED);
    assert_int_equal(release(&f, "alice", 2, a.ident, a.lease),
                     IMS_POOL_ENDED);
    assert_int_equal(renew(&f, "alice", 1, a.ident, a.lease, &c), 0);
    check_clean(&f);

    w = who("alice", 1);
    begin(&f);
    assert_int_equal(ims_pool_release(f.w, &w, a.ident, a.lease, &ended), 0);
    assert_true(ended);
    commit(&f);
    l = look(&f, a.ident);
    assert_int_equal(l.rec.end, l.pt);
    assert_int_not_equal(ims_pool_check_lease(&l, a.lease, 1, a.holder, l.pt,
                                              NULL), IMS_POOL_LIVE);
    check_clean(&f);

    /* a live one of several is shown */

    assert_int_equal(ims_pool_by_user(f.w, IMS_STR("web"), IMS_STR("example"),
                                      IMS_STR("alice"), &ident), 0);
    assert_int_equal(ident, b.ident);

    /* the same session returns to its own, another one does not */

    assert_int_equal(acquire(&f, "alice", 1, &c), IMS_POOL_OK);
    assert_int_equal(c.how, IMS_POOL_RETURNED);
    assert_int_equal(c.ident, a.ident);
    assert_int_equal(acquire(&f, "alice", 3, &c), IMS_POOL_OK);
    assert_int_equal(c.how, IMS_POOL_NEW);
    assert_int_equal(acquire(&f, "alice", 4, &c), IMS_POOL_EXHAUSTED);

    /* revoking a user means all of them */

    begin(&f);
    assert_int_equal(ims_pool_revoke_user(f.w, IMS_STR_NULL,
                                          IMS_STR("example"),
                                          IMS_STR("alice"), false, &n), 0);
    assert_int_equal(n, 3);
    assert_int_equal(ims_pool_revoke_user(f.w, IMS_STR_NULL,
                                          IMS_STR("example"),
                                          IMS_STR("alice"), false, &n),
                     IMS_POOL_ENDED);
    commit(&f);
    check_clean(&f);

    /* somebody else gets them after the rest: the old ways are gone */

    f.v.boottime += 700000;
    assert_int_equal(acquire(&f, "bob", 1, &a), IMS_POOL_OK);
    assert_int_equal(acquire(&f, "bob", 2, &b), IMS_POOL_OK);
    assert_int_equal(acquire(&f, "carol", 1, &c), IMS_POOL_OK);
    assert_int_equal(c.how, IMS_POOL_NEW);
    assert_int_equal(ims_pool_by_user(f.w, IMS_STR("web"), IMS_STR("example"),
                                      IMS_STR("alice"), &ident),
                     IMS_POOL_NOTFOUND);
    check_clean(&f);
    fixture_end(&f);
}


static void
heard_key(void *ctx, const ims_pool_key_t *key, bool current)
{
    unsigned  *n = ctx;

    assert_int_equal(current, *n == 0);
    assert_true(key->no != 0 && key->wall != 0);
    (*n)++;
}


static uint32_t
rotate(fixture_t *f)
{
    uint32_t  no;

    begin(f);
    assert_int_equal(ims_pool_key_rotate(f->w, &no), IMS_POOL_OK);
    commit(f);

    return no;
}


/* users are found under older keys, and hashed anew */

static void
test_keys(void **state)
{
    uint32_t          no, again;
    uint64_t          ident;
    unsigned          i, n;
    fixture_t         f;
    ims_pool_grant_t  a, b, c;

    (void) state;

    fixture_pool(&f, 4);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_int_equal(acquire(&f, "bob", 1, &b), IMS_POOL_OK);
    assert_int_equal(acquire(&f, "carol", 1, &c), IMS_POOL_OK);
    assert_int_equal(rotate(&f), 2);

    assert_int_equal(ims_pool_by_user(f.w, IMS_STR("web"), IMS_STR("example"),
                                      IMS_STR("bob"), &ident), 0);
    assert_int_equal(ident, b.ident);
    assert_int_equal(renew(&f, "alice", 1, a.ident, a.lease, &a), 0);
    assert_int_equal(look(&f, a.ident).rec.hash_key, 2);
    check_clean(&f);

    /* over a restart, and twice */

    fixture_close(&f);
    fixture_open(&f);
    assert_int_equal(rotate(&f), 3);
    assert_int_equal(acquire(&f, "bob", 1, &b), IMS_POOL_OK);
    assert_int_equal(b.how, IMS_POOL_SAME);
    assert_int_equal(look(&f, b.ident).rec.hash_key, 3);
    assert_int_equal(release(&f, "carol", 1, c.ident, c.lease), IMS_POOL_OK);
    assert_int_equal(acquire(&f, "carol", 1, &c), IMS_POOL_OK);
    assert_int_equal(c.how, IMS_POOL_RETURNED);
    assert_int_equal(look(&f, c.ident).rec.hash_key, 3);
    check_clean(&f);

    /* revoked under whatever key */

    begin(&f);
    assert_int_equal(ims_pool_revoke_user(f.w, IMS_STR_NULL,
                                          IMS_STR("example"),
                                          IMS_STR("alice"), true, &n), 0);
    commit(&f);
    assert_int_equal(n, 1);

    /* she goes on to another identity, from under the older key */

    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_int_equal(a.how, IMS_POOL_NEW);
    check_clean(&f);

    n = 0;
    assert_int_equal(ims_pool_key_list(f.w, heard_key, &n), 0);
    assert_int_equal(n, 3);

    /* an aborted rotation leaves its key in the file: it is the next one */

    begin(&f);
    assert_int_equal(ims_pool_key_rotate(f.w, &no), IMS_POOL_OK);
    ims_pool_abort(f.w);
    begin(&f);
    assert_int_equal(ims_pool_key_rotate(f.w, &again), IMS_POOL_OK);
    ims_pool_abort(f.w);
    assert_int_equal(no, 4);
    assert_int_equal(again, 4);
    fixture_close(&f);
    fixture_open(&f);
    assert_int_equal(acquire(&f, "alice", 1, &b), IMS_POOL_OK);
    assert_int_equal(b.lease, a.lease);
    assert_int_equal(look(&f, b.ident).rec.hash_key, 4);

    /* dropped: bob is nobody */

    assert_int_equal(ims_pool_key_drop(f.w, 4), IMS_POOL_BADARG);
    assert_int_equal(ims_pool_key_drop(f.w, 9), IMS_POOL_NOTFOUND);
    assert_int_equal(ims_pool_key_drop(f.w, 3), IMS_POOL_OK);
    assert_int_equal(ims_pool_by_user(f.w, IMS_STR("web"), IMS_STR("example"),
                                      IMS_STR("bob"), &ident),
                     IMS_POOL_NOTFOUND);
    check_clean(&f);

    /* 16 at most, and no number twice */

    for (i = 0; i < 13; i++) {
        assert_int_equal(rotate(&f), 5 + i);
    }

    begin(&f);
    assert_int_equal(ims_pool_key_rotate(f.w, &no), IMS_POOL_EXISTS);
    commit(&f);
    assert_int_equal(ims_pool_key_drop(f.w, 1), IMS_POOL_OK);
    assert_int_equal(rotate(&f), 18);
    fixture_close(&f);
    fixture_open(&f);
    assert_int_equal(acquire(&f, "alice", 1, &b), IMS_POOL_OK);
    assert_int_equal(b.lease, a.lease);
    check_clean(&f);
    fixture_end(&f);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_four),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_per_session),
        cmocka_unit_test(test_keys),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
