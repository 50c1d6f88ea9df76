/*
 * Copyright (C) nginx-ims contributors
 *
 * The world test as it runs each time: a million steps in worlds of fixed
 * seeds, some worlds of new ones, then each mutant, which must be killed.
 *
 * IMS_WORLD_NEW: how many new ones, if not as many as usual.  Their first seed
 * is printed, and a failure prints the command that repeats it.  By hand:
 * build/world.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>
#include <time.h>

#include "t/world/world.h"


#if defined(__SANITIZE_ADDRESS__)
#define WORLDS    12
#define NEW       0
#define TRIES     60
#else
#define WORLDS    50
#define NEW       2
#define TRIES     200
#endif

#define STEPS     20000


/*
 * Where the rare ones were killed when this was written.  A model that was
 * changed since has other runs: then they are looked for.
 */
static const uint64_t  hint[MU_COUNT] = {
    [MU_REPLAY_NO_LIVE] = 5,
    [MU_REPLAY_NO_LINES] = 41,
    [MU_REPLAY_RETURN] = 2,
    [MU_NO_CORE_MIN] = 49,
    [MU_NO_LEASE_ID] = 3,
    [MU_WALL_CLOCK] = 5,
    [MU_LATE_WRITE] = 8,
    [MU_RESEND_ANY_TIME] = 4,
    [MU_OTHERS_ANY_D] = 68,
    [MU_DELAY_OF_POOL] = 149,
    [MU_NO_SECOND_LOOK] = 3,
    [MU_NO_FOREIGN] = 3,
    [MU_NO_FLOW_END] = 8,
    [MU_ANSWER_ENTERS] = 19,
    [MU_DEREG_NEWER] = 4,
};

static world_t   world;
static uint64_t  count[C_COUNT];


static void
run(uint64_t seed, uint64_t *steps)
{
    unsigned  i;
    config_t  c;

    world_config(&c, seed);
    c.steps = STEPS;
    world_mutant_config(&c);
    world_run(&world, &c);
    *steps += world.steps;

    for (i = 0; i < C_COUNT; i++) {
        count[i] += world.count[i];
    }
}


static void
run_good(uint64_t seed, uint64_t *steps)
{
    run(seed, steps);

    if (world.failed) {
        fail_msg("%s: %s\nagain, and smaller: "
                 "build/world --shrink --steps %d --seed %llu",
                 world.what, world.why, STEPS, (unsigned long long) seed);
    }
}


static void
test_worlds(void **state)
{
    uint64_t     seed, steps;
    unsigned     i, n;
    const char  *news;

    (void) state;

    steps = 0;

    for (i = 1; i <= WORLDS; i++) {
        run_good(i, &steps);
    }

    print_message("%llu steps of fixed seeds\n", (unsigned long long) steps);

    news = getenv("IMS_WORLD_NEW");
    n = news != NULL ? (unsigned) strtoul(news, NULL, 10) : NEW;
    seed = (uint64_t) time(NULL) * 1000;

    print_message("%u new seeds from %llu\n", n, (unsigned long long) seed);

    for (i = 0; i < n; i++) {
        run_good(seed + i, &steps);
    }

    print_message("%llu steps\n", (unsigned long long) steps);

    /* a run in which nothing happens is no test */

    for (i = 0; i < C_COUNT; i++) {
        if (count[i] == 0 && i != C_reopened && i != C_gaps) {
            print_error("%s: never\n", world_count_name(i));
        }
    }

    assert_true(count[C_handed_on] > 100);
    assert_true(count[C_delivered] > 1000);
    assert_true(count[C_bound] > 1000);
    assert_true(count[C_second_look] > 2);
    assert_true(count[C_dereg_removed] > 100);
    assert_true(count[C_pm_mid_commit] > 0);
    assert_true(count[C_restores] > 0);
    assert_true(count[C_resent] > 10);
    assert_true(count[C_took_over] > 10);
    assert_true(count[C_purged] > 0);
    assert_true(count[C_replayed] > 0);
}


static void
test_mutants(void **state)
{
    uint64_t  steps;
    unsigned  m, i;

    (void) state;

    for (m = 1; m < MU_COUNT; m++) {
        world_mutant = (mutant_e) m;
        steps = 0;
        world.failed = false;

        if (hint[m]) {
            run(hint[m], &steps);
        }

        for (i = 0; i < TRIES && !world.failed; i++) {
            run(1 + i, &steps);
        }

        if (!world.failed) {
            fail_msg("mutant %s lives after %llu steps: %s",
                     world_mutant_name(world_mutant),
                     (unsigned long long) steps,
                     world_mutant_text(world_mutant));
        }

        print_message("%s: %s, %llu steps\n",
                      world_mutant_name(world_mutant), world.what,
                      (unsigned long long) steps);
    }

    world_mutant = MU_NONE;
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_worlds),
        cmocka_unit_test(test_mutants),
    };

    setvbuf(stdout, NULL, _IOLBF, 0);

    return cmocka_run_group_tests(tests, NULL, NULL);
}
