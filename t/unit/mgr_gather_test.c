/*
 * Copyright (C) nginx-ims contributors
 *
 * How long a batch waits for company: never alone, never after a pause, never
 * for longer than a part of a commit, and not again where it did not help.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mgr_gather.c"


/* cmocka gives each test a state, which none here needs */
#pragma GCC diagnostic ignored "-Wunused-parameter"


#define COMMIT  1000000         /* ns */
#define WAIT    (COMMIT / MGR_GATHER_PART)
#define LOOK    (WAIT / MGR_GATHER_LOOKS + 1)


static mgr_gather_t  g;
static uint64_t      now;


/* a batch of so many connections, and when its commit is over */

static void
batch(unsigned served, unsigned again)
{
    now += COMMIT;
    mgr_gather_commit(&g, COMMIT);
    mgr_gather_batch(&g, now, served, again);
}


static void
begin(void)
{
    memset(&g, 0, sizeof(g));
    now = 1000 * (uint64_t) COMMIT;
}


static void
test_first(void **state)
{
    begin();
    assert_int_equal(mgr_gather_wait(&g, now, 1), 0);
}


static void
test_alone(void **state)
{
    unsigned  i;

    begin();

    for (i = 0; i < 10; i++) {
        batch(1, i != 0);
        assert_int_equal(mgr_gather_wait(&g, now, 1), 0);
    }
}


/* 30 were answered, 20 came meanwhile: both together are 50 */

static void
test_two_groups(void **state)
{
    begin();
    batch(20, 0);
    batch(30, 0);

    assert_int_equal(mgr_gather_wait(&g, now, 20), LOOK);
    assert_int_equal(mgr_gather_wait(&g, now + WAIT / 2, 49), LOOK);
    assert_int_equal(mgr_gather_wait(&g, now + WAIT / 2, 50), 0);

    /* and from then on they stay together */

    batch(50, 30);
    assert_int_equal(mgr_gather_wait(&g, now, 1), LOOK);
    assert_int_equal(mgr_gather_wait(&g, now + 1, 50), 0);
    batch(50, 50);
    assert_int_equal(mgr_gather_wait(&g, now, 49), LOOK);
    assert_int_equal(mgr_gather_wait(&g, now + 1, 50), 0);
}


static void
test_over(void **state)
{
    begin();
    batch(20, 0);
    batch(30, 0);

    assert_int_equal(mgr_gather_wait(&g, now + WAIT - 1, 20), 1);
    assert_int_equal(mgr_gather_wait(&g, now + WAIT, 20), 0);

    /* after a pause nobody waits */

    batch(50, 50);
    assert_int_equal(mgr_gather_wait(&g, now + 10 * COMMIT, 1), 0);
}


/* those that do not come back are waited for ever more seldom */

static void
test_in_vain(void **state)
{
    unsigned  i, waits;

    begin();
    batch(1, 0);

    for (i = 0, waits = 0; i < 1000; i++) {
        batch(1, 0);

        if (mgr_gather_wait(&g, now, 1) != 0) {
            waits++;
            assert_int_equal(mgr_gather_wait(&g, now + WAIT, 1), 0);
        }
    }

    assert_in_range(waits, 6, 30);

    /* one wait that helps, and all is well */

    do {
        batch(2, 0);
    } while (mgr_gather_wait(&g, now, 1) == 0);

    assert_int_equal(mgr_gather_wait(&g, now + 1, 4), 0);
    batch(2, 0);
    assert_int_equal(mgr_gather_wait(&g, now, 1), LOOK);
}


/* fewer than there were: connections end while they wait */

static void
test_fewer(void **state)
{
    begin();
    batch(20, 0);
    batch(30, 0);

    assert_int_equal(mgr_gather_wait(&g, now, 20), LOOK);
    assert_int_equal(mgr_gather_wait(&g, now + WAIT, 3), 0);
    batch(3, 3);
    assert_int_equal(mgr_gather_wait(&g, now, 1), 0);
}


/* the last one of fifty is worth a look, whenever it comes in time */

static void
test_last_one(void **state)
{
    unsigned  i;

    begin();
    batch(50, 0);

    for (i = 0; i < 10; i++) {
        batch(50, 50);
        assert_int_equal(mgr_gather_wait(&g, now, 49), LOOK);
        assert_int_equal(mgr_gather_wait(&g, now + LOOK, 50), 0);
    }
}


/* what only reads is not worth a wait */

static void
test_no_commit(void **state)
{
    begin();
    batch(20, 0);
    batch(30, 0);
    mgr_gather_batch(&g, now, 30, 0);

    assert_int_equal(mgr_gather_wait(&g, now, 1), 0);
}


static void
test_slow_disk(void **state)
{
    begin();
    batch(20, 0);
    mgr_gather_commit(&g, 100000000000ull);
    mgr_gather_batch(&g, now, 30, 0);

    assert_int_equal(mgr_gather_wait(&g, now, 1),
                     MGR_GATHER_MAX / MGR_GATHER_LOOKS + 1);
    assert_int_equal(mgr_gather_wait(&g, now + MGR_GATHER_MAX, 1), 0);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_first),
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_two_groups),
        cmocka_unit_test(test_over),
        cmocka_unit_test(test_in_vain),
        cmocka_unit_test(test_fewer),
        cmocka_unit_test(test_last_one),
        cmocka_unit_test(test_no_commit),
        cmocka_unit_test(test_slow_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
