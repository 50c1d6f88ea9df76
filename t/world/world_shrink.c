/*
 * Copyright (C) nginx-ims contributors
 *
 * A failing run made smaller: fewer kinds of trouble, then fewer actions, by
 * leaving out ever smaller pieces as long as the same check fails.
 */

#include "world.h"


#define SHRINK_RUNS  600


static bool
shrink_fails(world_t *w, const config_t *c, const char *what)
{
    world_run(w, c);

    return w->failed && strcmp(w->what, what) == 0;
}


static void
shrink_set(uint8_t *mask, uint64_t from, uint64_t to, bool out)
{
    for ( ; from < to; from++) {
        if (out) {
            mask[from / 8] |= (uint8_t) (1 << from % 8);

        } else {
            mask[from / 8] &= (uint8_t) ~(1 << from % 8);
        }
    }
}


static bool
shrink_is_out(const uint8_t *mask, uint64_t k)
{
    return mask[k / 8] >> k % 8 & 1;
}


static uint64_t
shrink_left(const uint8_t *mask, uint64_t n)
{
    uint64_t  k, left;

    left = 0;

    for (k = 0; k < n; k++) {
        left += !shrink_is_out(mask, k);
    }

    return left;
}


static void
shrink_features(world_t *w, config_t *c, const char *what)
{
    unsigned  i, was;

    for (i = 0; i < 18; i++) {
        was = c->features;

        if (!(was & 1u << i)) {
            continue;
        }

        c->features &= ~(1u << i);

        if (!shrink_fails(w, c, what)) {
            c->features = was;
        }
    }
}


uint64_t
world_shrink(world_t *w, config_t *c)
{
    bool      less;
    char      what[32];
    uint8_t  *mask, *try;
    uint64_t  n, size, from, to, runs;

    strcpy(what, w->what);
    n = w->actions;
    c->until_us = w->now_us + SEC;
    c->trace = false;

    mask = calloc(2, n / 8 + 1);
    if (mask == NULL) {
        return n;
    }

    try = mask + n / 8 + 1;
    c->mask = mask;
    c->nmask = n;

    if (!shrink_fails(w, c, what)) {
        /* it fails at the end only */
        free(mask);
        c->mask = NULL;
        return n;
    }

    shrink_features(w, c, what);
    runs = 0;

    for (size = (n + 1) / 2; size != 0; size = less ? size : size / 2) {
        less = false;

        for (from = 0; from < n && runs < SHRINK_RUNS; from = to) {
            to = from + size < n ? from + size : n;

            memcpy(try, mask, n / 8 + 1);
            shrink_set(try, from, to, true);

            if (memcmp(try, mask, n / 8 + 1) == 0) {
                continue;
            }

            runs++;
            c->mask = try;

            if (shrink_fails(w, c, what)) {
                memcpy(mask, try, n / 8 + 1);
                less = size > 1;
            }

            c->mask = mask;
        }

        if (runs >= SHRINK_RUNS) {
            break;
        }
    }

    return shrink_left(mask, n);
}
