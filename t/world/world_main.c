/*
 * Copyright (C) nginx-ims contributors
 *
 * The world test by hand.
 *
 *   world [--seed N] [--worlds N] [--steps N] [--mutant NAME|all] [--five]
 *         [--shrink] [--trace] [--features HEX] [--counts]
 */

#include <getopt.h>
#include <time.h>

#include "world.h"


static world_t  world;
static uint64_t world_sum[C_COUNT];


typedef struct {
    uint64_t  seed;
    uint64_t  worlds;
    uint64_t  steps;
    unsigned  features;
    bool      five;
    bool      shrink;
    bool      trace;
    bool      counts;
} options_t;


static void
main_counts(void)
{
    unsigned  i;

    for (i = 0; i < C_COUNT; i++) {
        printf("%s%s %llu", i ? ", " : "", world_count_name(i),
               (unsigned long long) world_sum[i]);
    }

    putchar('\n');
}


static void
main_config(config_t *c, const options_t *o, uint64_t seed)
{
    world_config(c, seed);

    c->steps = o->steps;
    c->features &= o->features;
    c->strict = !o->five;
    c->trace = o->trace;
    world_mutant_config(c);
}


static void
main_failed(const options_t *o, config_t *c)
{
    uint64_t  left;

    printf("seed %llu: FAILED %s after %llu steps, %llu actions, %.0f s: %s\n",
           (unsigned long long) c->seed, world.what,
           (unsigned long long) world.steps,
           (unsigned long long) world.actions,
           (double) world.now_us / SEC, world.why);

    if (!o->shrink) {
        return;
    }

    left = world_shrink(&world, c);
    printf("shrunk to %llu actions, features %x:\n",
           (unsigned long long) left, c->features);

    c->trace = true;
    world_run(&world, c);
    free((void *) c->mask);
}


/* the number of worlds that failed */

static unsigned
main_worlds(const options_t *o, uint64_t *steps)
{
    unsigned  failed, i;
    uint64_t  k;
    config_t  c;

    failed = 0;

    for (k = 0; k < o->worlds; k++) {
        main_config(&c, o, o->seed + k);
        world_run(&world, &c);
        *steps += world.steps;

        for (i = 0; i < C_COUNT; i++) {
            world_sum[i] += world.count[i];
        }

        if (world.failed) {
            failed++;
            main_failed(o, &c);

            if (o->shrink) {
                break;
            }
        }
    }

    return failed;
}


static int
main_mutants(const options_t *o)
{
    unsigned  m, alive;
    uint64_t  k, steps;
    config_t  c;

    alive = 0;

    for (m = 1; m < MU_COUNT; m++) {
        world_mutant = (mutant_e) m;
        steps = 0;

        for (k = 0; k < o->worlds; k++) {
            main_config(&c, o, o->seed + k);
            world_run(&world, &c);
            steps += world.steps;

            if (world.failed) {
                break;
            }
        }

        if (k == o->worlds) {
            alive++;
        }

        printf("%-20s %-9s %-10s seed %-3llu %9llu steps  %s\n",
               world_mutant_name(world_mutant),
               k == o->worlds ? "ALIVE" : "killed",
               k == o->worlds ? "" : world.what,
               (unsigned long long) (o->seed + k), (unsigned long long) steps,
               k == o->worlds ? world_mutant_text(world_mutant) : world.why);
        fflush(stdout);
    }

    printf("%u of %u mutants killed\n", MU_COUNT - 1 - alive, MU_COUNT - 1);

    return alive != 0;
}


static int
main_usage(void)
{
    fputs("usage: world [--seed N] [--worlds N] [--steps N] "
          "[--mutant NAME|all]\n"
          "             [--five] [--shrink] [--trace] [--features HEX] "
          "[--counts]\n", stderr);

    return 2;
}


int
main(int argc, char **argv)
{
    int        opt;
    bool       all;
    uint64_t   steps;
    unsigned   failed;
    options_t  o;

    static const struct option  options[] = {
        { "seed", required_argument, NULL, 's' },
        { "worlds", required_argument, NULL, 'w' },
        { "steps", required_argument, NULL, 'n' },
        { "mutant", required_argument, NULL, 'm' },
        { "features", required_argument, NULL, 'f' },
        { "five", no_argument, NULL, '5' },
        { "shrink", no_argument, NULL, 'k' },
        { "trace", no_argument, NULL, 't' },
        { "counts", no_argument, NULL, 'c' },
        { NULL, 0, NULL, 0 }
    };

    memset(&o, 0, sizeof(o));
    o.seed = (uint64_t) time(NULL);
    o.worlds = 1;
    o.steps = 20000;
    o.features = WORLD_F_ALL;
    all = false;

    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {

        switch (opt) {
        case 's':
            o.seed = strtoull(optarg, NULL, 0);
            break;
        case 'w':
            o.worlds = strtoull(optarg, NULL, 0);
            break;
        case 'n':
            o.steps = strtoull(optarg, NULL, 0);
            break;
        case 'f':
            o.features = (unsigned) strtoul(optarg, NULL, 16);
            break;
        case 'm':
            all = strcmp(optarg, "all") == 0;

            if (!all && !world_mutant_find(optarg, &world_mutant)) {
                return main_usage();
            }

            break;
        case '5':
            o.five = true;
            break;
        case 'k':
            o.shrink = true;
            break;
        case 't':
            o.trace = true;
            break;
        case 'c':
            o.counts = true;
            break;
        default:
            return main_usage();
        }
    }

    printf("seed %llu\n", (unsigned long long) o.seed);

    if (all) {
        return main_mutants(&o);
    }

    steps = 0;
    failed = main_worlds(&o, &steps);

    if (o.counts) {
        main_counts();
    }

    printf("%llu worlds, %llu steps, %u failed\n",
           (unsigned long long) o.worlds, (unsigned long long) steps, failed);

    return failed != 0;
}
