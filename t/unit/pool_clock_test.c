/*
 * Copyright (C) nginx-ims contributors
 *
 * Pool time: the formula, and what becomes of leases when clocks do what
 * clocks do.
 */

#include "base/ims_clock.h"
#include "pool_fixture.h"


#define TTL     600000
#define LINGER  94000
#define HOUR    3600000ull


static void
test_formula(void **state)
{
    uint8_t           same[16], other[16];
    ims_pool_ptrow_t  row;

    (void) state;

    memset(&row, 0, sizeof(row));
    memset(same, 1, sizeof(same));
    memset(other, 2, sizeof(other));
    memcpy(row.boot_id, same, sizeof(same));
    row.pt = 1000000;
    row.boottime = 5000;

    assert_int_equal(ims_pool_pt_at(&row, 5000, same), 1000000);
    assert_int_equal(ims_pool_pt_at(&row, 5001, same), 1000001);
    assert_int_equal(ims_pool_pt_at(&row, 65000, same), 1060000);

    /* another boot: its whole uptime has passed, and nothing is known of
       the time between */

    assert_int_equal(ims_pool_pt_at(&row, 0, other), 1000000);
    assert_int_equal(ims_pool_pt_at(&row, 4000, other), 1004000);
    assert_int_equal(ims_pool_pt_at(&row, 65000, other), 1065000);

    /* the same boot, starting over: it stands still, it does not go back */

    assert_int_equal(ims_pool_pt_at(&row, 4999, same), 1000000);
    assert_int_equal(ims_pool_pt_at(&row, 0, same), 1000000);

    assert_int_equal(ims_pool_pt_at(&row, UINT64_MAX, other), UINT64_MAX);
}


static void
test_machine(void **state)
{
    uint8_t   a[16], b[16];
    uint64_t  before, pt;

    (void) state;

    before = ims_boottime_ms();
    pt = ims_pool_clock.boottime(NULL);
    assert_true(pt >= before && pt <= ims_boottime_ms());

    assert_int_equal(ims_pool_clock.boot_id(NULL, a), 0);
    assert_int_equal(ims_pool_clock.boot_id(NULL, b), 0);
    assert_memory_equal(a, b, sizeof(a));

    memset(b, 0, sizeof(b));
    assert_memory_not_equal(a, b, sizeof(a));
    assert_int_equal(ims_pool_clock.random(NULL, a, sizeof(a)), 0);
    assert_int_equal(ims_pool_clock.random(NULL, b, sizeof(b)), 0);
    assert_memory_not_equal(a, b, sizeof(a));
}


static void
test_wall(void **state)
{
    fixture_t         f;
    uint64_t          now;
    ims_pool_grant_t  a, b;

    (void) state;

    fixture_pool(&f, 2);
    assert_int_equal(acquire(&f, "alice", 1, &a), 0);
    now = a.now;

    /* five hours on: she has it still, and nobody else gets it */

    f.v.wall += 5 * HOUR;
    assert_int_equal(ims_pool_now(f.w), now);
    assert_int_equal(lapse(&f, &a, a.sid), IMS_POOL_LIVE);
    assert_int_equal(renew(&f, "alice", 1, a.ident, a.lease, &b), 0);
    assert_int_equal(b.end, a.end);

    /* ten hours back: it ends when it would have ended */

    f.v.wall -= 10 * HOUR;
    f.v.boottime += TTL - 1;
    assert_int_equal(lapse(&f, &a, a.sid), IMS_POOL_LIVE);
    f.v.boottime += 1;
    assert_int_equal(lapse(&f, &a, a.sid), IMS_POOL_LAPSE_ENDED);

    /* the wall at 0 does not make a time before 1970 of it */

    f.v.wall = 0;
    assert_int_equal(acquire(&f, "alice", 1, &a), 0);
    assert_int_equal(release(&f, "alice", 1, a.ident, a.lease), 0);
    check_clean(&f);
    fixture_end(&f);
}


static void
test_reboot(void **state)
{
    fixture_t         f;
    uint64_t          pt;
    ims_pool_grant_t  a, b;

    (void) state;

    fixture_pool(&f, 1);
    assert_int_equal(acquire(&f, "alice", 1, &a), 0);
    pt = a.now;

    /* a clock row, 100 s later; 30 s after it the power goes */

    f.v.boottime += 100000;
    begin(&f);
    assert_int_equal(ims_pool_tick(f.w), 0);
    commit(&f);
    f.v.boottime += 30000;
    assert_int_equal(ims_pool_now(f.w), pt + 130000);
    fixture_close(&f);

    /* two days later another boot, up for 7 s */

    f.v.wall += 48 * HOUR;
    f.v.boottime = 7000;
    f.v.boot_id[0]++;
    fixture_open(&f);
    assert_int_equal(f.started.now, pt + 107000);
    assert_false(f.started.fenced);

    /* the lease is stretched, never cut; so is the rest */

    assert_int_equal(lapse(&f, &a, a.sid), IMS_POOL_LIVE);
    assert_int_equal(acquire(&f, "bob", 2, &b), IMS_POOL_EXHAUSTED);
    assert_int_equal(b.retry_s, (TTL + LINGER - 107000) / 1000);
    assert_int_equal(ims_pool_pt(ims_pool_writer_reader(f.w)), pt + 107000);

    f.v.boottime += TTL - 107000 - 1;
    assert_int_equal(lapse(&f, &a, a.sid), IMS_POOL_LIVE);
    f.v.boottime += 1;
    assert_int_equal(lapse(&f, &a, a.sid), IMS_POOL_LAPSE_ENDED);
    fixture_close(&f);

    /* the same boot id with a clock that starts over: time stands still */

    f.v.boottime = 3;
    fixture_open(&f);
    pt = f.started.now;
    assert_int_equal(pt, a.now + 107000);
    f.v.boottime += 1000;
    assert_int_equal(ims_pool_now(f.w), pt + 1000);
    assert_int_equal(ims_pool_pt(ims_pool_writer_reader(f.w)), pt + 1000);

    /* and while it runs */

    begin(&f);
    assert_int_equal(ims_pool_tick(f.w), 0);
    commit(&f);
    f.v.boottime = 1;
    assert_int_equal(ims_pool_now(f.w), pt + 1000);
    begin(&f);
    assert_int_equal(ims_pool_tick(f.w), 0);
    commit(&f);
    f.v.boottime += 500;
    assert_int_equal(ims_pool_now(f.w), pt + 1500);

    check_clean(&f);
    fixture_end(&f);
}


/* one `now` a batch, from its begin; the clock row is that of the commit */

static void
test_batch(void **state)
{
    fixture_t           f;
    uint64_t            now;
    ims_pool_info_t     info;
    ims_pool_grant_t    a;
    ims_pool_who_t      w;

    (void) state;

    fixture_pool(&f, 1);
    w = who("alice", 1);

    begin(&f);
    now = ims_pool_now(f.w);
    f.v.boottime += 5000;
    assert_int_equal(ims_pool_acquire(f.w, &w, &a), 0);
    assert_int_equal(a.now, now);
    assert_int_equal(ims_pool_now(f.w), now);
    commit(&f);

    assert_int_equal(ims_pool_now(f.w), now + 5000);
    assert_int_equal(ims_pool_info(f.w, &info), 0);
    assert_int_equal(info.state.clock.pt, now);
    assert_int_equal(info.now, now + 5000);

    fixture_end(&f);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_formula),
        cmocka_unit_test(test_machine),
        cmocka_unit_test(test_wall),
        cmocka_unit_test(test_reboot),
        cmocka_unit_test(test_batch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
