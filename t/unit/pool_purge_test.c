/*
 * Copyright (C) nginx-ims contributors
 *
 * Purge: what edges may do, when, and what it proves; and holds.
 */

#include "pool_fixture.h"


#define FIRST  ((uint64_t) 1 << 32 | 1)
#define D      64000
#define MARGIN 30000


static void
set_purge(fixture_t *f, uint8_t purge)
{
    ims_pool_spec_t  spec;

    memset(&spec, 0, sizeof(spec));
    spec.name = IMS_STR("web");
    spec.purge = purge;
    spec.has_purge = true;

    begin(f);
    assert_int_equal(ims_pool_alter(f->w, &spec), 0);
    commit(f);
}


static void
purge_pool(fixture_t *f, unsigned n)
{
    fixture_pool(f, n);
    set_purge(f, 1);
}


static bool
may(void *ctx, const ims_pool_t *pool)
{
    return ctx == NULL || strcmp(ctx, pool->name) == 0;
}


static ims_pool_purge_t  job;


static int
next(fixture_t *f)
{
    int  rc;

    begin(f);
    rc = ims_pool_purge_next(f->w, may, NULL, &job);
    commit(f);

    return rc;
}


static int
purged(fixture_t *f, uint64_t id)
{
    int       rc;
    uint64_t  ident, lease;

    begin(f);
    rc = ims_pool_purged(f->w, id, &ident, &lease);
    commit(f);

    return rc;
}


static void
test_release(void **state)
{
    uint64_t          rest;
    fixture_t         f;
    ims_pool_look_t   l;
    ims_pool_grant_t  a, b;

    (void) state;

    purge_pool(&f, 1);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_int_equal(next(&f), IMS_POOL_NOTFOUND);
    f.v.boottime += 10000;
    assert_int_equal(release(&f, "alice", 1, a.ident, a.lease), IMS_POOL_OK);
    rest = look(&f, a.ident).rec.rest;

    /* not before D after the commit */

    assert_int_equal(next(&f), IMS_POOL_NOTFOUND);
    f.v.boottime += D - 1;
    assert_int_equal(next(&f), IMS_POOL_NOTFOUND);
    f.v.boottime += 1;
    assert_int_equal(next(&f), IMS_POOL_OK);
    assert_int_equal(job.ident, a.ident);
    assert_int_equal(job.lease, a.lease);
    assert_int_equal(job.send_by, f.v.boottime + 2000);
    assert_int_equal(job.answer_by, f.v.boottime + 32000);
    assert_string_equal(job.pool, "web");
    assert_string_equal(job.home, "ims.example");
    assert_true(ims_str_eq(job.names.impu[0].given,
                           IMS_STR("sip:web-000001@ims.example")));

    /* one edge at a time, and nobody comes back meanwhile */

    assert_int_equal(next(&f), IMS_POOL_NOTFOUND);
    assert_int_equal(acquire(&f, "alice", 1, &b), IMS_POOL_BUSY);
    assert_int_equal(acquire(&f, "bob", 1, &b), IMS_POOL_EXHAUSTED);
    assert_int_equal(purged(&f, job.id + 1), IMS_POOL_NOTFOUND);
    assert_int_equal(purged(&f, 0), IMS_POOL_NOTFOUND);

    f.v.boottime += 31999;
    assert_int_equal(look(&f, a.ident).rec.rest, rest);
    assert_int_equal(purged(&f, job.id), IMS_POOL_OK);
    l = look(&f, a.ident);
    assert_int_equal(l.rec.promised, l.pt);
    assert_int_equal(l.rec.rest, l.pt + MARGIN);
    assert_int_equal(l.rec.avail, l.rec.rest);
    assert_int_equal(l.rec.flags, IMS_POOL_F_PURGED);
    check_clean(&f);

    /* done is done */

    assert_int_equal(purged(&f, job.id), IMS_POOL_NOTFOUND);
    assert_int_equal(next(&f), IMS_POOL_NOTFOUND);

    /* alice may return, others come after the rest */

    assert_int_equal(acquire(&f, "bob", 1, &b), IMS_POOL_EXHAUSTED);
    assert_int_equal(b.retry_s, MARGIN / 1000);
    f.v.boottime += MARGIN;
    assert_int_equal(acquire(&f, "bob", 1, &b), IMS_POOL_OK);
    assert_int_equal(look(&f, a.ident).rec.flags, 0);
    check_clean(&f);
    fixture_end(&f);
}


/* the last holder came back first, or the answer too late */

static void
test_late(void **state)
{
    fixture_t         f;
    ims_pool_grant_t  a, b;

    (void) state;

    purge_pool(&f, 1);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_int_equal(release(&f, "alice", 1, a.ident, a.lease), IMS_POOL_OK);
    f.v.boottime += D;
    assert_int_equal(acquire(&f, "alice", 1, &b), IMS_POOL_OK);
    assert_int_equal(next(&f), IMS_POOL_NOTFOUND);
    assert_int_equal(release(&f, "alice", 1, b.ident, b.lease), IMS_POOL_OK);
    f.v.boottime += D;
    assert_int_equal(next(&f), IMS_POOL_OK);
    assert_int_equal(job.lease, b.lease);

    /* 32 s later the holder is let in again, and the answer is worth nothing */

    f.v.boottime += 32000;
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_int_equal(purged(&f, job.id), IMS_POOL_NOTFOUND);
    check_clean(&f);
    fixture_end(&f);
}


/* what is not worth it, or not asked for */

static void
test_not(void **state)
{
    fixture_t         f;
    ims_pool_grant_t  a, b;

    (void) state;

    /* an end by expiry */

    purge_pool(&f, 3);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    f.v.boottime += 600000;
    assert_int_equal(next(&f), IMS_POOL_NOTFOUND);
    f.v.boottime += D;
    assert_int_equal(next(&f), IMS_POOL_NOTFOUND);

    /* released shortly before the end: 2 D of rest would not be left */

    assert_int_equal(acquire(&f, "bob", 1, &a), IMS_POOL_OK);
    f.v.boottime += 600000 + MARGIN - 2 * D;
    assert_int_equal(release(&f, "bob", 1, a.ident, a.lease), IMS_POOL_OK);
    f.v.boottime += D;
    assert_int_equal(next(&f), IMS_POOL_NOTFOUND);

    /* a second before, it is */

    assert_int_equal(acquire(&f, "carol", 1, &a), IMS_POOL_OK);
    f.v.boottime += 600000 + MARGIN - 2 * D - 1;
    assert_int_equal(release(&f, "carol", 1, a.ident, a.lease), IMS_POOL_OK);
    f.v.boottime += D;
    assert_int_equal(next(&f), IMS_POOL_OK);

    /* one session of two */

    f.v.boottime += 1000000;
    assert_int_equal(acquire(&f, "dave", 1, &a), IMS_POOL_OK);
    assert_int_equal(acquire(&f, "dave", 2, &b), IMS_POOL_OK);
    assert_int_equal(release(&f, "dave", 2, a.ident, a.lease), IMS_POOL_OK);
    f.v.boottime += D;
    assert_int_equal(next(&f), IMS_POOL_NOTFOUND);

    /* the pool does not want it */

    assert_int_equal(release(&f, "dave", 1, a.ident, a.lease), IMS_POOL_OK);
    set_purge(&f, 0);
    f.v.boottime += D;
    assert_int_equal(next(&f), IMS_POOL_NOTFOUND);
    set_purge(&f, 1);
    check_clean(&f);
    fixture_end(&f);
}


/* an aborted end is none; an aborted proof proves nothing */

static void
test_abort(void **state)
{
    bool              ended;
    uint64_t          ident, lease, rest;
    fixture_t         f;
    ims_pool_who_t    w;
    ims_pool_grant_t  a;

    (void) state;

    purge_pool(&f, 1);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    w = who("alice", 1);
    begin(&f);
    assert_int_equal(ims_pool_release(f.w, &w, a.ident, a.lease, &ended), 0);
    ims_pool_abort(f.w);
    f.v.boottime += D;
    assert_int_equal(next(&f), IMS_POOL_NOTFOUND);

    assert_int_equal(release(&f, "alice", 1, a.ident, a.lease), IMS_POOL_OK);
    f.v.boottime += D;
    assert_int_equal(next(&f), IMS_POOL_OK);
    rest = look(&f, a.ident).rec.rest;
    begin(&f);
    assert_int_equal(ims_pool_purged(f.w, job.id, &ident, &lease), 0);
    ims_pool_abort(f.w);
    assert_int_equal(look(&f, a.ident).rec.rest, rest);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_BUSY);
    assert_int_equal(purged(&f, job.id), IMS_POOL_OK);
    assert_true(look(&f, job.ident).rec.rest < rest);
    check_clean(&f);
    fixture_end(&f);
}


/* D was longer when the lease was given */

static void
test_lowered(void **state)
{
    fixture_t         f;
    ims_pool_spec_t   spec;
    ims_pool_grant_t  a;

    (void) state;

    purge_pool(&f, 1);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_int_equal(release(&f, "alice", 1, a.ident, a.lease), IMS_POOL_OK);

    memset(&spec, 0, sizeof(spec));
    spec.name = IMS_STR("web");
    spec.delay = 1000;
    begin(&f);
    assert_int_equal(ims_pool_alter(f.w, &spec), 0);
    commit(&f);

    f.v.boottime += D;
    assert_int_equal(next(&f), IMS_POOL_NOTFOUND);
    f.v.boottime += MARGIN - 1;
    assert_int_equal(next(&f), IMS_POOL_NOTFOUND);
    f.v.boottime += 1;
    assert_int_equal(next(&f), IMS_POOL_OK);
    assert_int_equal(job.send_by, f.v.boottime + 1000);
    check_clean(&f);
    fixture_end(&f);
}


/* a whole pool that was fenced, over a restart */

static void
test_fence(void **state)
{
    char              user[16];
    unsigned          i, n;
    uint64_t          fence;
    fixture_t         f;
    ims_pool_look_t   l;
    ims_pool_grant_t  a;

    (void) state;

    purge_pool(&f, 600);

    for (i = 0; i < 400; i++) {
        snprintf(user, sizeof(user), "u%u", i);
        assert_int_equal(acquire(&f, user, 1, &a), IMS_POOL_OK);
    }

    begin(&f);
    assert_int_equal(ims_pool_revoke_pool(f.w, IMS_STR("web"), &fence), 0);
    commit(&f);

    /* from the start of the writer on D has to pass again */

    f.v.boottime += D - 1;
    fixture_close(&f);
    fixture_open(&f);
    f.v.boottime += D - 1;
    assert_int_equal(next(&f), IMS_POOL_NOTFOUND);
    f.v.boottime += 1;

    for (n = 0, i = 0; i < 20; i++) {

        while (next(&f) == IMS_POOL_OK) {
            assert_int_equal(job.ident, FIRST + n);
            assert_int_equal(purged(&f, job.id), IMS_POOL_OK);
            l = look(&f, job.ident);
            assert_int_equal(l.rec.rest, l.pt + MARGIN);
            assert_true(l.rec.end <= l.pt);
            n++;
        }
    }

    assert_int_equal(n, 400);
    check_clean(&f);

    /* the first one's next holder comes long before 600 s and D are over */

    f.v.boottime += MARGIN;

    for (i = 0; i < 201; i++) {
        snprintf(user, sizeof(user), "v%u", i);
        assert_int_equal(acquire(&f, user, 1, &a), IMS_POOL_OK);
    }

    assert_int_equal(a.ident, FIRST);
    check_clean(&f);
    fixture_end(&f);
}


/* as many as fit are out at a time; the rest waits for them */

static void
test_many(void **state)
{
    char              user[16];
    unsigned          i, n;
    uint64_t          id[300];
    fixture_t         f;
    ims_pool_grant_t  a;

    (void) state;

    purge_pool(&f, 300);

    for (i = 0; i < 300; i++) {
        snprintf(user, sizeof(user), "u%u", i);
        assert_int_equal(acquire(&f, user, 1, &a), IMS_POOL_OK);
        assert_int_equal(release(&f, user, 1, a.ident, a.lease), IMS_POOL_OK);
    }

    f.v.boottime += D;

    for (n = 0; next(&f) == IMS_POOL_OK; n++) {
        id[n] = job.id;
    }

    assert_int_equal(n, 256);
    assert_int_equal(purged(&f, id[17]), IMS_POOL_OK);
    assert_int_equal(next(&f), IMS_POOL_OK);
    assert_int_equal(next(&f), IMS_POOL_NOTFOUND);
    f.v.boottime += 32000;

    for (n = 0; next(&f) == IMS_POOL_OK; n++) {
        /* void */
    }

    assert_int_equal(n, 43);
    check_clean(&f);
    fixture_end(&f);
}


/* a removed one rests shorter; a disabled one, too, but stays off */

static void
test_off(void **state)
{
    bool              ended;
    uint64_t          ident;
    fixture_t         f;
    ims_pool_grant_t  a, b;

    (void) state;

    purge_pool(&f, 2);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_int_equal(acquire(&f, "bob", 1, &b), IMS_POOL_OK);
    begin(&f);
    assert_int_equal(ims_pool_remove(f.w, IMS_STR("web-000001@ims.example"),
                                     &ended), 0);
    assert_int_equal(ims_pool_disable(f.w, IMS_STR("web-000002@ims.example"),
                                      true, &ended), 0);
    commit(&f);
    f.v.boottime += D;
    assert_int_equal(next(&f), IMS_POOL_OK);
    assert_int_equal(job.ident, a.ident);
    assert_int_equal(purged(&f, job.id), IMS_POOL_OK);
    assert_int_equal(next(&f), IMS_POOL_OK);
    assert_int_equal(job.ident, b.ident);
    assert_int_equal(purged(&f, job.id), IMS_POOL_OK);
    check_clean(&f);

    f.v.boottime += MARGIN;
    begin(&f);
    assert_true(ims_pool_tick(f.w) >= 0);
    commit(&f);
    assert_int_equal(ims_pool_by_impi(ims_pool_writer_reader(f.w),
                                      IMS_STR("web-000001@ims.example"),
                                      &ident), IMS_POOL_NOTFOUND);
    assert_int_equal(acquire(&f, "carol", 1, &a), IMS_POOL_EXHAUSTED);
    check_clean(&f);
    fixture_end(&f);
}


/* commits may be lost: nothing is given, but what was proven unbound */

static void
test_hold(void **state)
{
    fixture_t         f;
    ims_pool_look_t   l;
    ims_pool_grant_t  a, b;

    (void) state;

    purge_pool(&f, 3);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    fixture_close(&f);
    f.opt.commits_lost = true;
    fixture_open(&f);
    f.opt.commits_lost = false;

    assert_int_equal(acquire(&f, "alice", 1, &b), IMS_POOL_HOLD);
    assert_int_equal(b.retry_s, 694);
    assert_int_equal(acquire(&f, "bob", 1, &b), IMS_POOL_HOLD);

    /* each identity is to be purged, those that were never leased as well */

    assert_int_equal(next(&f), IMS_POOL_NOTFOUND);
    f.v.boottime += D;
    assert_int_equal(next(&f), IMS_POOL_OK);
    assert_int_equal(job.ident, a.ident);
    assert_int_equal(purged(&f, job.id), IMS_POOL_OK);
    assert_int_equal(next(&f), IMS_POOL_OK);
    assert_int_equal(job.lease, 0);
    assert_int_equal(purged(&f, job.id), IMS_POOL_OK);
    check_clean(&f);

    /* over a restart, too: the hold goes on, and so does what is proven */

    fixture_close(&f);
    fixture_open(&f);
    assert_int_equal(acquire(&f, "bob", 1, &b), IMS_POOL_HOLD);
    assert_int_equal(acquire(&f, "alice", 1, &b), IMS_POOL_OK);
    assert_int_equal(b.how, IMS_POOL_RETURNED);
    f.v.boottime += MARGIN;
    assert_int_equal(acquire(&f, "bob", 1, &b), IMS_POOL_OK);
    assert_int_equal(b.ident, FIRST + 1);
    assert_int_equal(acquire(&f, "carol", 1, &a), IMS_POOL_HOLD);
    check_clean(&f);

    /* a lease of the hold's own time is like any other */

    assert_int_equal(renew(&f, "bob", 1, b.ident, b.lease, &a), IMS_POOL_OK);
    assert_int_equal(release(&f, "bob", 1, b.ident, b.lease), IMS_POOL_OK);
    assert_int_equal(acquire(&f, "bob", 1, &b), IMS_POOL_OK);
    assert_int_equal(b.how, IMS_POOL_RETURNED);

    f.v.boottime += 600000;
    assert_int_equal(acquire(&f, "carol", 1, &a), IMS_POOL_OK);
    assert_int_equal(a.ident, FIRST + 2);
    l = look(&f, a.ident);
    assert_true(l.rec.rest > l.pt);
    check_clean(&f);
    fixture_end(&f);
}


/* a hold by command: leases live on, and nothing new begins */

static void
test_hold_asked(void **state)
{
    fixture_t         f;
    ims_pool_grant_t  a, b;

    (void) state;

    purge_pool(&f, 3);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_int_equal(acquire(&f, "bob", 1, &b), IMS_POOL_OK);
    assert_int_equal(release(&f, "bob", 1, b.ident, b.lease), IMS_POOL_OK);

    begin(&f);
    assert_int_equal(ims_pool_hold_for(f.w, 100000), 0);
    commit(&f);
    fixture_close(&f);
    fixture_open(&f);

    assert_int_equal(acquire(&f, "bob", 1, &b), IMS_POOL_HOLD);
    assert_int_equal(b.retry_s, 100);
    assert_int_equal(acquire(&f, "carol", 1, &b), IMS_POOL_HOLD);
    assert_int_equal(acquire(&f, "alice", 1, &b), IMS_POOL_OK);
    assert_int_equal(acquire(&f, "alice", 2, &b), IMS_POOL_OK);
    assert_int_equal(renew(&f, "alice", 1, a.ident, a.lease, &b), 0);

    f.v.boottime += 100000;
    assert_int_equal(acquire(&f, "carol", 1, &b), IMS_POOL_OK);

    begin(&f);
    assert_int_equal(ims_pool_hold_for(f.w, 100000), 0);
    commit(&f);
    assert_int_equal(acquire(&f, "bob", 1, &b), IMS_POOL_HOLD);
    begin(&f);
    assert_int_equal(ims_pool_hold_for(f.w, 0), 0);
    commit(&f);
    assert_int_equal(acquire(&f, "bob", 1, &b), IMS_POOL_OK);
    check_clean(&f);
    fixture_end(&f);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_release),
        cmocka_unit_test(test_late),
        cmocka_unit_test(test_not),
        cmocka_unit_test(test_abort),
        cmocka_unit_test(test_lowered),
        cmocka_unit_test(test_fence),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_off),
        cmocka_unit_test(test_hold),
        cmocka_unit_test(test_hold_asked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
