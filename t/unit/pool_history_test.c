/*
 * Copyright (C) nginx-ims contributors
 *
 * History: rows, wall time over steps and reboots, removed identities, how long
 * it is kept; events.
 */

#include "pool_fixture.h"


#define FIRST  ((uint64_t) 1 << 32 | 1)
#define DAY    86400000ull


static ims_pool_past_t   past[64];
static unsigned          npast;
static ims_pool_event_t  event[64];
static char              name[64][64];
static unsigned          nevent;


static void
collect(void *ctx, const ims_pool_past_t *p)
{
    (void) ctx;

    past[npast++ % 64] = *p;
}


static void
hear(void *ctx, const ims_pool_event_t *ev)
{
    (void) ctx;

    snprintf(name[nevent % 64], sizeof(name[0]), "%.*s/%.*s",
             IMS_STR_ARG(ev->realm), IMS_STR_ARG(ev->user));
    event[nevent++ % 64] = *ev;
}


static unsigned
history(fixture_t *f, uint64_t ident)
{
    int       rc;
    uint64_t  lease;

    npast = 0;
    lease = 0;

    do {
        rc = ims_pool_history(f->w, ident, &lease, 2, collect, NULL);
        assert_true(rc >= 0);
    } while (rc == IMS_POOL_MORE);

    return npast;
}


static void
pass(fixture_t *f, uint64_t ms)
{
    f->v.boottime += ms;
    f->v.wall += ms;
}


static void
test_rows(void **state)
{
    unsigned          n;
    uint64_t          t0, fence;
    fixture_t         f;
    ims_pool_grant_t  a, b;

    (void) state;

    fixture_pool(&f, 1);
    t0 = f.v.wall;
    assert_int_equal(history(&f, FIRST), 0);

    /* live */

    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_int_equal(history(&f, FIRST), 1);
    assert_int_equal(past[0].reason, IMS_POOL_END_NONE);
    assert_int_equal(past[0].start_wall, t0);
    assert_int_equal(past[0].end_wall, t0 + 600000);

    /* released */

    pass(&f, 1000);
    assert_int_equal(release(&f, "alice", 1, a.ident, a.lease), IMS_POOL_OK);
    assert_int_equal(history(&f, FIRST), 1);
    assert_int_equal(past[0].reason, IMS_POOL_END_RELEASED);
    assert_int_equal(past[0].end_wall, t0 + 1000);

    /* expired, and nobody after it */

    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    pass(&f, 700000);
    assert_int_equal(history(&f, FIRST), 2);
    assert_int_equal(past[1].reason, IMS_POOL_END_EXPIRED);
    assert_int_equal(past[1].start_wall, t0 + 1000);
    assert_int_equal(past[1].end_wall, t0 + 601000);

    /* somebody after it; revoked; fenced */

    assert_int_equal(acquire(&f, "bob", 1, &b), IMS_POOL_OK);
    pass(&f, 1000);
    begin(&f);
    assert_int_equal(ims_pool_revoke_lease(f.w, b.ident, b.lease, false, &n),
                     0);
    commit(&f);
    assert_int_equal(acquire(&f, "bob", 1, &b), IMS_POOL_OK);
    pass(&f, 1000);
    begin(&f);
    assert_int_equal(ims_pool_revoke_pool(f.w, IMS_STR("web"), &fence), 0);
    commit(&f);
    pass(&f, 1000);
    begin(&f);
    assert_int_equal(ims_pool_revoke_pool(f.w, IMS_STR("web"), &fence), 0);
    commit(&f);

    assert_int_equal(history(&f, FIRST), 4);
    assert_int_equal(past[1].end_wall, t0 + 601000);
    assert_int_equal(past[2].reason, IMS_POOL_END_REVOKED);
    assert_int_equal(past[2].end_wall, t0 + 702000);
    assert_int_equal(past[3].reason, IMS_POOL_END_FENCED);
    assert_int_equal(past[3].end_wall, t0 + 703000);

    /* who was it? */

    assert_int_equal(ims_pool_past_is(f.w, &past[0], IMS_STR("example"),
                                      IMS_STR("alice")), 1);
    assert_int_equal(ims_pool_past_is(f.w, &past[0], IMS_STR("example"),
                                      IMS_STR("bob")), 0);
    assert_int_equal(ims_pool_past_is(f.w, &past[0], IMS_STR("other"),
                                      IMS_STR("alice")), 0);
    assert_int_equal(ims_pool_past_is(f.w, &past[3], IMS_STR("example"),
                                      IMS_STR("bob")), 1);
    past[3].hash_key = 99;
    assert_int_equal(ims_pool_past_is(f.w, &past[3], IMS_STR("example"),
                                      IMS_STR("bob")), -1);
    check_clean(&f);
    fixture_end(&f);
}


/* the wall clock is set, the machine is off for a day: times stay true */

static void
test_clock(void **state)
{
    uint64_t          t0, t1;
    fixture_t         f;
    ims_pool_grant_t  a, b;

    (void) state;

    fixture_pool(&f, 3);
    t0 = f.v.wall;
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    pass(&f, 50000);
    ticks(&f);

    /* set an hour back, seen at the next minute */

    pass(&f, 50000);
    f.v.wall -= 3600000;
    ticks(&f);
    pass(&f, 50000);
    assert_int_equal(release(&f, "alice", 1, a.ident, a.lease), IMS_POOL_OK);
    assert_int_equal(history(&f, a.ident), 1);
    assert_int_equal(past[0].start_wall, t0);
    assert_int_equal(past[0].end_wall, t0 + 150000 - 3600000);

    /* a lease; the power goes 100 s later, for a day; 30 s of a new boot */

    t1 = f.v.wall;
    assert_int_equal(acquire(&f, "bob", 1, &b), IMS_POOL_OK);
    pass(&f, 100000);
    ticks(&f);
    fixture_close(&f);
    f.v.wall += DAY;
    f.v.boottime = 30000;
    f.v.boot_id[1]++;
    fixture_open(&f);

    /* it lives for the 500 s that were left, from the boot on */

    assert_int_equal(history(&f, b.ident), 1);
    assert_int_equal(past[0].reason, IMS_POOL_END_NONE);
    assert_int_equal(past[0].start_wall, t1);
    assert_int_equal(past[0].end_wall,
                     t1 + 100000 + DAY - 30000 + 500000);

    /* what ended before is where it was */

    assert_int_equal(history(&f, a.ident), 1);
    assert_int_equal(past[0].start_wall, t0);
    check_clean(&f);

    /* a wall clock that is younger than the machine's uptime */

    fixture_close(&f);
    f.v.wall = 5000;
    f.v.boot_id[1]++;
    fixture_open(&f);
    ticks(&f);
    check_clean(&f);
    fixture_end(&f);
}


static void
test_events(void **state)
{
    bool              ended;
    fixture_t         f;
    ims_pool_who_t    w;
    ims_pool_grant_t  a;

    (void) state;

    fixture_pool(&f, 1);
    assert_int_equal(ims_pool_events(f.w, hear, NULL, true), 0);
    nevent = 0;

    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_int_equal(nevent, 1);
    assert_int_equal(event[0].kind, IMS_POOL_EV_BEGIN);
    assert_int_equal(event[0].how, IMS_POOL_NEW);
    assert_int_equal(event[0].past.lease, a.lease);
    assert_string_equal(name[0], "example/alice");

    /* a second session and a renewal are no news; nor is what never was */

    assert_int_equal(acquire(&f, "alice", 2, &a), IMS_POOL_OK);
    assert_int_equal(renew(&f, "alice", 1, a.ident, a.lease, &a), 0);
    assert_int_equal(release(&f, "alice", 2, a.ident, a.lease), 0);
    w = who("alice", 1);
    begin(&f);
    assert_int_equal(ims_pool_release(f.w, &w, a.ident, a.lease, &ended), 0);
    ims_pool_abort(f.w);
    assert_int_equal(nevent, 1);

    /* an end that is noticed late, and several in one batch */

    pass(&f, 1000000);
    assert_int_equal(nevent, 1);
    w = who("a very long user name that makes the text grow beyond its first "
            "size when it is told together with the other one", 1);
    begin(&f);
    assert_int_equal(ims_pool_acquire(f.w, &w, &a), 0);
    assert_int_equal(ims_pool_release(f.w, &w, a.ident, a.lease, &ended), 0);
    assert_int_equal(ims_pool_acquire(f.w, &w, &a), 0);
    assert_int_equal(nevent, 1);
    commit(&f);
    assert_int_equal(nevent, 5);
    assert_int_equal(event[1].kind, IMS_POOL_EV_END);
    assert_int_equal(event[1].past.reason, IMS_POOL_END_EXPIRED);
    assert_int_equal(event[2].kind, IMS_POOL_EV_BEGIN);
    assert_memory_equal(name[2], "example/a very", 14);
    assert_int_equal(event[3].past.reason, IMS_POOL_END_RELEASED);
    assert_int_equal(event[4].how, IMS_POOL_RETURNED);

    /* hashed only */

    assert_int_equal(ims_pool_events(f.w, hear, NULL, false), 0);
    assert_int_equal(release(&f, w.user.n ? (const char *) w.user.p : "", 1,
                             a.ident, a.lease), 0);
    assert_int_equal(acquire(&f, (const char *) w.user.p, 1, &a), 0);
    assert_string_equal(name[nevent - 1], "/");
    assert_int_equal(ims_pool_events_lost(f.w), 0);
    check_clean(&f);
    fixture_end(&f);
}


/* the very first event has no text, and there is no buffer for any */

static void
test_events_without_text(void **state)
{
    fixture_t         f;
    ims_pool_grant_t  a;

    (void) state;

    fixture_pool(&f, 1);
    assert_int_equal(ims_pool_events(f.w, hear, NULL, false), 0);
    nevent = 0;

    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_int_equal(nevent, 1);
    assert_string_equal(name[0], "/");
    fixture_end(&f);
}


static unsigned
former(fixture_t *f, const char *uri, uint64_t *ident)
{
    int  n;

    n = ims_pool_former(f->w, S(uri), ident, 8);
    assert_true(n >= 0);

    return (unsigned) n;
}


/* a number that was removed, imported again, and asked for */

static void
test_former(void **state)
{
    bool              ended;
    uint64_t          ident[8];
    fixture_t         f;
    ims_pool_grant_t  a;
    ims_pool_names_t  names;

    (void) state;

    fixture_pool(&f, 2);
    ims_pool_history_keep(f.w, DAY);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    begin(&f);
    assert_int_equal(ims_pool_remove(f.w, IMS_STR("web-000001@ims.example"),
                                     &ended), 0);
    assert_int_equal(ims_pool_remove(f.w, IMS_STR("web-000002@ims.example"),
                                     &ended), 0);
    commit(&f);
    pass(&f, 1000000);
    ticks(&f);
    check_clean(&f);
    assert_int_equal(former(&f, "sip:web-000001@ims.example", ident), 1);
    assert_int_equal(ident[0], a.ident);
    assert_int_equal(former(&f, "web-000001@ims.example", ident), 1);
    assert_int_equal(history(&f, a.ident), 1);
    assert_int_equal(past[0].reason, IMS_POOL_END_REMOVED);
    assert_int_equal(ims_pool_names(ims_pool_writer_reader(f.w), a.ident,
                                    &names), 0);

    /* that one nobody ever had */

    assert_int_equal(former(&f, "sip:web-000002@ims.example", ident), 0);
    assert_int_equal(ims_pool_names(ims_pool_writer_reader(f.w), FIRST + 1,
                                    &names), IMS_POOL_NOTFOUND);

    /* the same number once more: both are found */

    add_identities(&f, "web", 1, 1);
    assert_int_equal(former(&f, "sip:WEB-000001@ims.example", ident), 2);
    assert_int_equal(ident[0], a.ident);
    assert_true(ident[1] > a.ident);
    check_clean(&f);
    assert_int_equal(ims_pool_former(f.w, IMS_STR(""), ident, 8),
                     IMS_POOL_BADARG);

    /* the history forgets it, names and all */

    pass(&f, DAY - 1000000);
    ticks(&f);
    assert_int_equal(former(&f, "sip:web-000001@ims.example", ident), 2);
    pass(&f, 1);
    ticks(&f);
    assert_int_equal(former(&f, "sip:web-000001@ims.example", ident), 1);
    assert_int_equal(ims_pool_names(ims_pool_writer_reader(f.w), a.ident,
                                    &names), IMS_POOL_NOTFOUND);
    assert_int_equal(history(&f, a.ident), 0);
    check_clean(&f);
    fixture_end(&f);
}


/* kept for a set time; what rests, and fences, longer */

static void
test_keep(void **state)
{
    char                user[16];
    unsigned            i;
    uint64_t            fence;
    fixture_t           f;
    ims_pool_grant_t    a;
    ims_pool_info_t     info;

    (void) state;

    fixture_pool(&f, 300);

    for (i = 0; i < 300; i++) {
        snprintf(user, sizeof(user), "u%u", i);
        assert_int_equal(acquire(&f, user, 1, &a), IMS_POOL_OK);
        assert_int_equal(release(&f, user, 1, a.ident, a.lease), 0);
        assert_int_equal(acquire(&f, user, 1, &a), IMS_POOL_OK);
    }

    begin(&f);
    assert_int_equal(ims_pool_revoke_pool(f.w, IMS_STR("web"), &fence), 0);
    commit(&f);
    assert_int_equal(ims_pool_info(f.w, &info), 0);
    assert_int_equal(info.hist, 301);

    /* for ever */

    pass(&f, 1000 * DAY);
    ticks(&f);
    assert_int_equal(ims_pool_info(f.w, &info), 0);
    assert_int_equal(info.hist, 301);

    ims_pool_history_keep(f.w, 1000 * DAY);

    for (i = 0; i < 10; i++) {
        ticks(&f);
    }

    assert_int_equal(ims_pool_info(f.w, &info), 0);
    assert_int_equal(info.hist, 301);
    pass(&f, 1000);

    for (i = 0; i < 10; i++) {
        ticks(&f);
    }

    assert_int_equal(ims_pool_info(f.w, &info), 0);
    assert_int_equal(info.hist, 1);

    /* the fence still tells when the records' leases ended */

    assert_int_equal(history(&f, FIRST), 1);
    assert_int_equal(past[0].reason, IMS_POOL_END_FENCED);
    check_clean(&f);
    fixture_end(&f);
}


/* all of it, in slices: each lease once */

static void
test_walk(void **state)
{
    int                 rc;
    char                user[16];
    bool                seen[64];
    unsigned            i, max;
    fixture_t           f;
    ims_pool_grant_t    a;
    ims_pool_history_t  pos;

    (void) state;

    fixture_pool(&f, 10);

    /* 20 leases: 10 in rows, of which 5 are the record's, 5 + 5 else */

    for (i = 0; i < 10; i++) {
        snprintf(user, sizeof(user), "u%u", i);
        assert_int_equal(acquire(&f, user, 1, &a), IMS_POOL_OK);
        assert_int_equal(release(&f, user, 1, a.ident, a.lease), 0);
        assert_int_equal(acquire(&f, user, 1, &a), IMS_POOL_OK);

        if (i & 1) {
            assert_int_equal(release(&f, user, 1, a.ident, a.lease), 0);
        }
    }

    for (max = 1; max < 8; max++) {

        memset(&pos, 0, sizeof(pos));
        memset(seen, 0, sizeof(seen));
        npast = 0;

        do {
            rc = ims_pool_history_walk(f.w, &pos, max, collect, NULL);
            assert_true(rc >= 0);
        } while (rc == IMS_POOL_MORE);

        assert_int_equal(npast, 20);

        for (i = 0; i < npast; i++) {
            assert_false(seen[past[i].lease & 63]);
            seen[past[i].lease & 63] = true;
        }
    }

    fixture_end(&f);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_clock),
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_events_without_text),
        cmocka_unit_test(test_former),
        cmocka_unit_test(test_keep),
        cmocka_unit_test(test_walk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
