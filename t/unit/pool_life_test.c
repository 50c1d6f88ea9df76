/*
 * Copyright (C) nginx-ims contributors
 *
 * Identities and pools that are barred, disabled, removed, dropped.
 */

#include "pool_fixture.h"


#define FIRST  ((uint64_t) 1 << 32 | 1)


static int
disable(fixture_t *f, const char *name, bool now)
{
    int   rc;
    bool  ended;

    begin(f);
    rc = ims_pool_disable(f->w, S(name), now, &ended);
    commit(f);

    return rc;
}


static int
enable(fixture_t *f, const char *name)
{
    int  rc;

    begin(f);
    rc = ims_pool_enable(f->w, S(name));
    commit(f);

    return rc;
}


static int
removed(fixture_t *f, const char *name, bool *ended)
{
    int  rc;

    begin(f);
    rc = ims_pool_remove(f->w, S(name), ended);
    commit(f);

    return rc;
}


static int
add(fixture_t *f, const char *pool, const char *impi, const char *impu,
    uint64_t *ident)
{
    int                    rc;
    ims_pool_identity_t    row;
    ims_pool_row_result_t  res;

    memset(&row, 0, sizeof(row));
    row.nimpu = 1;
    row.impi = S(impi);
    row.impu[0] = S(impu);

    begin(f);
    rc = ims_pool_identity_add(f->w, S(pool), &row, 0, ident, &res);
    commit(f);

    return rc;
}


static bool
is_known(fixture_t *f, const char *impu)
{
    int       rc;
    uint64_t  ident;

    rc = ims_pool_by_uri(ims_pool_writer_reader(f->w), S(impu), &ident, NULL);
    assert_true(rc == IMS_POOL_OK || rc == IMS_POOL_NOTFOUND);

    return rc == IMS_POOL_OK;
}


static int
bar(fixture_t *f, uint64_t ident, uint64_t lease, unsigned *n)
{
    int  rc;

    begin(f);
    rc = ims_pool_revoke_lease(f->w, ident, lease, true, n);
    commit(f);

    return rc;
}


/* who was barred does not return, and does not get it as a new one either */

static void
test_bar(void **state)
{
    unsigned          n;
    fixture_t         f;
    ims_pool_grant_t  a, b, c;

    (void) state;

    fixture_pool(&f, 2);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_int_equal(bar(&f, a.ident, a.lease, &n), IMS_POOL_OK);
    assert_int_equal(n, 1);
    assert_int_equal(acquire(&f, "alice", 1, &b), IMS_POOL_OK);
    assert_int_equal(b.how, IMS_POOL_NEW);
    assert_int_not_equal(b.ident, a.ident);
    check_clean(&f);

    /* the other one, too: nothing is left for her, even when both rest out */

    assert_int_equal(bar(&f, b.ident, b.lease, &n), IMS_POOL_OK);
    f.v.boottime += 700000;
    assert_int_equal(acquire(&f, "alice", 1, &c), IMS_POOL_EXHAUSTED);
    assert_int_equal(acquire(&f, "alice", 2, &c), IMS_POOL_EXHAUSTED);

    /* for others they are free; then the bar is gone */

    assert_int_equal(acquire(&f, "bob", 1, &c), IMS_POOL_OK);
    assert_int_equal(c.ident, a.ident);
    assert_int_equal(look(&f, c.ident).rec.flags, 0);
    assert_int_equal(release(&f, "bob", 1, c.ident, c.lease), IMS_POOL_OK);
    f.v.boottime += 700000;
    assert_int_equal(acquire(&f, "alice", 1, &c), IMS_POOL_OK);
    assert_int_equal(c.ident, a.ident);
    assert_int_equal(c.how, IMS_POOL_NEW);
    check_clean(&f);

    /* barred after the end; a second time; nobody to bar */

    assert_int_equal(release(&f, "alice", 1, c.ident, c.lease), IMS_POOL_OK);
    assert_int_equal(bar(&f, c.ident, c.lease, &n), IMS_POOL_OK);
    assert_int_equal(n, 0);
    assert_int_equal(bar(&f, c.ident, c.lease, &n), IMS_POOL_OK);
    assert_int_equal(acquire(&f, "alice", 1, &c), IMS_POOL_EXHAUSTED);

    begin(&f);
    assert_int_equal(ims_pool_revoke_user(f.w, IMS_STR_NULL,
                                          IMS_STR("example"),
                                          IMS_STR("nobody"), true, &n),
                     IMS_POOL_NOTFOUND);
    commit(&f);
    check_clean(&f);
    fixture_end(&f);
}


static void
test_disable(void **state)
{
    bool              ended;
    fixture_t         f;
    ims_pool_look_t   l;
    ims_pool_grant_t  a, b;

    (void) state;

    fixture_pool(&f, 2);

    /* nobody has it: nobody gets it */

    assert_int_equal(disable(&f, "sip:WEB-000001@ims.example", false), 0);
    assert_int_equal(look(&f, FIRST).rec.flags, IMS_POOL_F_DISABLED);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_int_equal(a.ident, FIRST + 1);
    assert_int_equal(acquire(&f, "bob", 1, &b), IMS_POOL_EXHAUSTED);
    check_clean(&f);
    assert_int_equal(enable(&f, "web-000001@ims.example"), 0);
    assert_int_equal(enable(&f, "web-000001@ims.example"), 0);
    assert_int_equal(look(&f, FIRST).rec.flags, 0);
    assert_int_equal(acquire(&f, "bob", 1, &b), IMS_POOL_OK);
    assert_int_equal(b.ident, FIRST);
    check_clean(&f);

    /* it is held: the lease runs out, no longer than it was */

    f.v.boottime += 100000;
    assert_int_equal(disable(&f, "web-000001@ims.example", false), 0);
    l = look(&f, FIRST);
    assert_int_equal(ims_pool_check_lease(&l, b.lease, 1, b.holder, l.pt,
                                          NULL), IMS_POOL_LIVE);
    assert_int_equal(renew(&f, "bob", 1, b.ident, b.lease, &a),
                     IMS_POOL_ENDED);
    assert_int_equal(acquire(&f, "bob", 2, &a), IMS_POOL_OK);
    assert_int_equal(a.how, IMS_POOL_SAME);
    assert_int_equal(a.end, b.end);
    assert_int_equal(look(&f, FIRST).rec.rest, l.rec.rest);
    check_clean(&f);

    /* too little is left: another one, and the old one ends */

    f.v.boottime += 450000;
    assert_int_equal(acquire(&f, "bob", 1, &a), IMS_POOL_EXHAUSTED);
    assert_int_equal(ims_pool_check_lease(&l, b.lease, 1, b.holder, l.pt,
                                          NULL), IMS_POOL_LIVE);
    add_identities(&f, "web", 3, 1);
    assert_int_equal(acquire(&f, "bob", 1, &a), IMS_POOL_OK);
    assert_int_equal(a.ident, FIRST + 2);
    l = look(&f, FIRST);
    assert_int_equal(l.rec.end, l.pt);
    assert_int_equal(l.rec.flags, IMS_POOL_F_CLOSING|IMS_POOL_F_PARTED);
    check_clean(&f);

    /* enabled, it rests as promised, and bob has no way back to it */

    assert_int_equal(enable(&f, "web-000001@ims.example"), 0);
    assert_int_equal(acquire(&f, "carol", 1, &b), IMS_POOL_EXHAUSTED);
    assert_int_equal(b.retry_s, (l.rec.rest - l.pt + 999) / 1000);
    check_clean(&f);

    /* at once */

    begin(&f);
    assert_int_equal(ims_pool_disable(f.w, IMS_STR("web-000003@ims.example"),
                                      true, &ended), 0);
    commit(&f);
    assert_true(ended);
    l = look(&f, a.ident);
    assert_int_equal(ims_pool_check_lease(&l, a.lease, 1, a.holder, l.pt,
                                          NULL), IMS_POOL_LAPSE_OFF);
    assert_int_equal(enable(&f, "web-000003@ims.example"), 0);
    l = look(&f, a.ident);
    assert_int_equal(ims_pool_check_lease(&l, a.lease, 1, a.holder, l.pt,
                                          NULL), IMS_POOL_LAPSE_ENDED);
    assert_int_equal(acquire(&f, "bob", 1, &b), IMS_POOL_OK);
    assert_int_equal(b.how, IMS_POOL_RETURNED);

    assert_int_equal(disable(&f, "nobody@ims.example", true),
                     IMS_POOL_NOTFOUND);
    assert_int_equal(disable(&f, "", true), IMS_POOL_BADARG);
    check_clean(&f);
    fixture_end(&f);
}


/* many that are disabled are not in the way of the one that is free */

static void
test_disabled_many(void **state)
{
    char              name[64];
    bool              ended;
    unsigned          i;
    fixture_t         f;
    ims_pool_grant_t  a;

    (void) state;

    fixture_pool(&f, 10000);
    begin(&f);

    for (i = 1; i < 10000; i++) {
        snprintf(name, sizeof(name), "web-%06u@ims.example", i);
        assert_int_equal(ims_pool_disable(f.w, S(name), false, &ended), 0);
    }

    commit(&f);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_int_equal(a.ident, FIRST + 9999);
    assert_int_equal(acquire(&f, "bob", 1, &a), IMS_POOL_EXHAUSTED);
    assert_true(a.retry_s > 600);
    check_clean(&f);
    fixture_end(&f);
}


/* removed: names are taken until it has rested, in every pool */

static void
test_remove(void **state)
{
    bool              alert, ended;
    uint64_t          ident;
    fixture_t         f;
    ims_pool_grant_t  a, b;

    (void) state;

    fixture_pool(&f, 2);
    add_pool(&f, "other");
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_int_equal(removed(&f, "sip:web-000001@ims.example", &ended), 0);
    assert_true(ended);
    assert_int_equal(removed(&f, "sip:web-000001@ims.example", &ended),
                     IMS_POOL_NOTFOUND);
    assert_int_equal(disable(&f, "sip:web-000001@ims.example", false),
                     IMS_POOL_NOTFOUND);
    assert_int_equal(look(&f, a.ident).rec.flags, IMS_POOL_F_REMOVING);
    check_clean(&f);

    assert_int_equal(add(&f, "web", "new@ims.example",
                         "sip:web-000001@ims.example", &ident),
                     IMS_POOL_EXISTS);
    assert_int_equal(add(&f, "other", "web-000001@ims.example",
                         "sip:new@ims.example", &ident), IMS_POOL_EXISTS);

    /* alice gets the other one, and may not come back */

    assert_int_equal(acquire(&f, "alice", 1, &b), IMS_POOL_OK);
    assert_int_not_equal(b.ident, a.ident);

    /* a binding is seen: it rests longer */

    f.v.boottime += 600000;
    begin(&f);
    assert_int_equal(ims_pool_report(f.w, a.ident, a.lease, 1, 1,
                                     ims_pool_now(f.w) + 200000, &alert), 0);
    commit(&f);
    f.v.boottime += 100000;
    ticks(&f);
    assert_true(is_known(&f, "sip:web-000001@ims.example"));
    assert_int_equal(add(&f, "other", "new@ims.example",
                         "sip:web-000001@ims.example", &ident),
                     IMS_POOL_EXISTS);
    check_clean(&f);

    /* rested: the names are free before the broom comes */

    f.v.boottime += 200000;
    assert_int_equal(add(&f, "other", "new@ims.example",
                         "sip:web-000001@ims.example", &ident), IMS_POOL_OK);
    assert_int_not_equal(ident, a.ident);
    check_clean(&f);
    ticks(&f);
    assert_int_equal(ims_pool_by_impi(ims_pool_writer_reader(f.w),
                                      IMS_STR("web-000001@ims.example"),
                                      &ident), IMS_POOL_NOTFOUND);
    check_clean(&f);

    /* never leased, so it need not rest: the broom takes it */

    assert_int_equal(removed(&f, "new@ims.example", &ended), 0);
    assert_false(ended);
    ticks(&f);
    assert_false(is_known(&f, "sip:web-000001@ims.example"));
    check_clean(&f);

    /* disabled, then removed */

    add_identities(&f, "other", 7, 1);
    assert_int_equal(disable(&f, "web-000007@ims.example", false), 0);
    assert_int_equal(removed(&f, "web-000007@ims.example", &ended), 0);
    check_clean(&f);
    ticks(&f);
    assert_false(is_known(&f, "sip:web-000007@ims.example"));
    check_clean(&f);

    /* one row may bring the names of two that are gone */

    add_identities(&f, "web", 20, 1);
    assert_int_equal(removed(&f, "web-000002@ims.example", &ended), 0);
    assert_int_equal(removed(&f, "web-000020@ims.example", &ended), 0);
    f.v.boottime += 1000000;
    assert_int_equal(add(&f, "web", "web-000020@ims.example",
                         "sip:web-000002@ims.example", &ident), IMS_POOL_OK);
    check_clean(&f);

    /* what a last lease was is in the history */

    fixture_close(&f);
    fixture_open(&f);
    check_clean(&f);
    fixture_end(&f);
}


static void
test_pool_disable(void **state)
{
    fixture_t         f;
    ims_pool_look_t   l;
    ims_pool_grant_t  a, b;

    (void) state;

    fixture_pool(&f, 2);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);

    begin(&f);
    assert_int_equal(ims_pool_pool_disable(f.w, IMS_STR("web"), false), 0);
    commit(&f);
    assert_int_equal(acquire(&f, "alice", 1, &b), IMS_POOL_HOLD);
    assert_int_equal(b.retry_s, 60);
    assert_int_equal(acquire(&f, "bob", 1, &b), IMS_POOL_HOLD);
    assert_int_equal(renew(&f, "alice", 1, a.ident, a.lease, &b),
                     IMS_POOL_HOLD);
    l = look(&f, a.ident);
    assert_int_equal(ims_pool_check_lease(&l, a.lease, 1, a.holder, l.pt,
                                          NULL), IMS_POOL_LIVE);

    begin(&f);
    assert_int_equal(ims_pool_pool_enable(f.w, IMS_STR("web")), 0);
    commit(&f);
    assert_int_equal(renew(&f, "alice", 1, a.ident, a.lease, &b), 0);

    begin(&f);
    assert_int_equal(ims_pool_pool_disable(f.w, IMS_STR("web"), true), 0);
    assert_int_equal(ims_pool_pool_disable(f.w, IMS_STR("nix"), true),
                     IMS_POOL_NOPOOL);
    commit(&f);
    l = look(&f, a.ident);
    assert_int_equal(ims_pool_check_lease(&l, a.lease, 1, a.holder, l.pt,
                                          NULL), IMS_POOL_LAPSE_FENCED);
    assert_int_equal(release(&f, "alice", 1, a.ident, a.lease),
                     IMS_POOL_ENDED);
    check_clean(&f);
    fixture_end(&f);
}


static int
drop(fixture_t *f, const char *name, bool all)
{
    int  rc;

    begin(f);
    rc = ims_pool_drop(f->w, S(name), all);
    commit(f);

    return rc;
}


static void
test_drop(void **state)
{
    uint64_t          ident;
    fixture_t         f;
    ims_pool_t        pool;
    ims_pool_grant_t  a, b;

    (void) state;

    fixture_pool(&f, 1700);
    add_pool(&f, "empty");
    assert_int_equal(drop(&f, "empty", false), IMS_POOL_OK);
    assert_int_equal(ims_pool_get(f.w, IMS_STR("empty"), &pool),
                     IMS_POOL_NOPOOL);
    assert_int_equal(drop(&f, "empty", false), IMS_POOL_NOPOOL);
    check_clean(&f);

    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_int_equal(disable(&f, "web-001000@ims.example", false), 0);
    assert_int_equal(drop(&f, "web", false), IMS_POOL_NOTEMPTY);
    assert_int_equal(acquire(&f, "alice", 1, &b), IMS_POOL_OK);
    assert_int_equal(drop(&f, "web", true), IMS_POOL_OK);
    check_clean(&f);

    assert_int_equal(acquire(&f, "alice", 1, &b), IMS_POOL_NOPOOL);
    assert_int_equal(renew(&f, "alice", 1, a.ident, a.lease, &b),
                     IMS_POOL_NOPOOL);
    assert_int_equal(add(&f, "web", "x@ims.example", "sip:x@ims.example",
                         &ident), IMS_POOL_NOPOOL);

    /* killed in its middle, and gone on */

    fixture_close(&f);
    fixture_open(&f);
    ticks(&f);
    check_clean(&f);

    /* all but the one that rests are gone */

    ticks(&f);
    assert_int_equal(ims_pool_get(f.w, IMS_STR("web"), &pool), IMS_POOL_OK);
    assert_int_equal(pool.head.identities, 1);
    assert_true(is_known(&f, "sip:web-000001@ims.example"));
    f.v.boottime += 700000;
    ticks(&f);
    ticks(&f);
    assert_int_equal(ims_pool_get(f.w, IMS_STR("web"), &pool),
                     IMS_POOL_NOPOOL);
    check_clean(&f);

    /* the name is free again */

    add_pool(&f, "web");
    add_identities(&f, "web", 1, 1);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_int_equal(a.how, IMS_POOL_NEW);
    check_clean(&f);
    fixture_end(&f);
}


/* which of two fences ended a lease? */

static void
test_fences(void **state)
{
    uint8_t           key[16];
    uint64_t          fence, pt;
    fixture_t         f;
    ims_pool_hist_t   h;
    ims_pool_grant_t  a, b;

    (void) state;

    fixture_pool(&f, 1);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    f.v.boottime += 1000;
    begin(&f);
    pt = ims_pool_now(f.w);
    assert_int_equal(ims_pool_revoke_pool(f.w, IMS_STR("web"), &fence), 0);
    commit(&f);
    f.v.boottime += 1000;
    begin(&f);
    assert_int_equal(ims_pool_revoke_pool(f.w, IMS_STR("web"), &fence), 0);
    commit(&f);

    assert_int_equal(acquire(&f, "alice", 1, &b), IMS_POOL_OK);
    assert_int_equal(b.how, IMS_POOL_RETURNED);

    begin(&f);
    ims_pool_be64(key, a.ident);
    ims_pool_be64(key + 8, a.lease);
    assert_int_equal(ims_pool_w_copy(f.w, IMS_POOL_T_HIST, key, 16, &h,
                                     sizeof(h)), 0);
    assert_int_equal(h.end, pt);
    assert_int_equal(h.reason, IMS_POOL_END_FENCED);
    ims_pool_abort(f.w);
    check_clean(&f);
    fixture_end(&f);
}


/*
 * A binding was seen at the core, of whatever lease: in every state the
 * identity rests longer, nothing else of it changes, and nobody new gets it
 * before.
 */

static void
report_in_state(fixture_t *f, uint64_t lease)
{
    bool              alert;
    uint64_t          until, margin;
    ims_pool_look_t   before, after;
    ims_pool_grant_t  g;

    margin = 30000;
    before = look(f, FIRST);
    until = before.pt + 5000000;

    begin(f);
    assert_int_equal(ims_pool_report(f->w, FIRST, lease, 1, 7, until, &alert),
                     IMS_POOL_OK);
    commit(f);
    check_clean(f);

    after = look(f, FIRST);
    assert_int_equal(after.rec.rest, until + margin);
    assert_int_equal(after.rec.lease, before.rec.lease);
    assert_int_equal(after.rec.start, before.rec.start);
    assert_int_equal(after.rec.end, before.rec.end);
    assert_int_equal(after.rec.promised, before.rec.promised);
    assert_int_equal(after.rec.flags, before.rec.flags);
    assert_int_equal(after.rec.nsession, before.rec.nsession);

    /* a shorter one after it does not lower that */

    begin(f);
    assert_int_equal(ims_pool_report(f->w, FIRST, lease, 1, 8, until - 1,
                                     &alert), IMS_POOL_OK);
    commit(f);
    assert_int_equal(look(f, FIRST).rec.rest, until + margin);

    f->v.boottime += until + margin - before.pt - 1;
    assert_int_not_equal(acquire(f, "nobody yet", 99, &g), IMS_POOL_OK);
    f->v.boottime += 1;
    check_clean(f);
}


static void
test_report_states(void **state)
{
    bool              ended;
    uint64_t          id, lease;
    fixture_t         f;
    ims_pool_grant_t  g;

    (void) state;

    /* free: never leased, so that nobody knows what was seen */

    fixture_pool(&f, 1);
    report_in_state(&f, 12345);

    /* leased, by the lease itself and by an earlier one; run out meanwhile */

    assert_int_equal(acquire(&f, "alice", 1, &g), IMS_POOL_OK);
    report_in_state(&f, g.lease);
    assert_int_equal(acquire(&f, "bob", 1, &g), IMS_POOL_OK);
    report_in_state(&f, g.lease - 1);

    /* resting, after a release; then long free */

    assert_int_equal(acquire(&f, "carol", 1, &g), IMS_POOL_OK);
    lease = g.lease;
    assert_int_equal(release(&f, "carol", 1, g.ident, g.lease), IMS_POOL_OK);
    report_in_state(&f, lease);
    f.v.boottime += 10000000;
    report_in_state(&f, lease);

    /* disabled while it is leased, and enabled before it has rested */

    assert_int_equal(acquire(&f, "dave", 1, &g), IMS_POOL_OK);
    assert_int_equal(disable(&f, "web-000001@ims.example", true), 0);
    report_in_state(&f, g.lease);
    assert_int_equal(enable(&f, "web-000001@ims.example"), 0);
    assert_int_equal(acquire(&f, "erin", 1, &g), IMS_POOL_OK);

    /* behind the pool's fence */

    begin(&f);
    assert_int_equal(ims_pool_revoke_pool(f.w, IMS_STR("web"), &id), 0);
    commit(&f);
    report_in_state(&f, g.lease);

    /* on its way out: its names are free no sooner */

    assert_int_equal(acquire(&f, "frank", 1, &g), IMS_POOL_OK);
    assert_int_equal(removed(&f, "web-000001@ims.example", &ended), 0);
    assert_true(ended);
    report_in_state(&f, g.lease);
    assert_int_equal(add(&f, "web", "web-000001@ims.example",
                         "sip:web-000001@ims.example", &id), IMS_POOL_OK);
    assert_int_not_equal(id, FIRST);
    check_clean(&f);
    fixture_end(&f);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_bar),
        cmocka_unit_test(test_disable),
        cmocka_unit_test(test_disabled_many),
        cmocka_unit_test(test_remove),
        cmocka_unit_test(test_pool_disable),
        cmocka_unit_test(test_drop),
        cmocka_unit_test(test_fences),
        cmocka_unit_test(test_report_states),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
