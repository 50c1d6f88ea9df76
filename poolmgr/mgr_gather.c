/*
 * Copyright (C) nginx-ims contributors
 *
 * See mgr_gather.h.
 */

#include "mgr_gather.h"


#define MGR_GATHER_PART   2             /* of a commit's time is waited */
#define MGR_GATHER_MAX    2000000       /* ns, whatever a commit takes */
#define MGR_GATHER_LOOKS  8             /* in one wait */
#define MGR_GATHER_LOST   6             /* 2, 4, ... 64 batches left out */


static void mgr_gather_judge(mgr_gather_t *g, unsigned ready, bool all);


void
mgr_gather_commit(mgr_gather_t *g, uint64_t took)
{
    g->commit = g->commit == 0 ? took : (7 * g->commit + took) / 8;
    g->made = 1;
}


void
mgr_gather_batch(mgr_gather_t *g, uint64_t now, unsigned served,
    unsigned again)
{
    g->before = g->served;
    g->served = served;
    g->again = again;
    g->first = 0;

    if (g->skip) {
        g->skip--;
    }

    /* the time runs from the answers on: they take their own */

    g->wait = g->commit / MGR_GATHER_PART;

    if (g->wait > MGR_GATHER_MAX) {
        g->wait = MGR_GATHER_MAX;
    }

    g->until = g->made ? now + g->wait : 0;
    g->made = 0;
}


uint64_t
mgr_gather_wait(mgr_gather_t *g, uint64_t now, unsigned ready)
{
    bool      all;
    uint64_t  left, look;

    all = ready >= g->served + g->before - g->again;

    if (all || g->skip || now >= g->until) {
        mgr_gather_judge(g, ready, all);
        return 0;
    }

    if (g->first == 0) {
        g->first = ready;
    }

    /* to be woken for each of them would cost more than to look now and then */

    left = g->until - now;
    look = g->wait / MGR_GATHER_LOOKS + 1;

    return left < look ? left : look;
}


/*
 * A wait to the end cost a part of a commit: it has to bring that part of a
 * batch.
 */
static void
mgr_gather_judge(mgr_gather_t *g, unsigned ready, bool all)
{
    unsigned  came;

    if (g->first == 0) {
        return;
    }

    came = ready > g->first ? ready - g->first : 0;

    if (all || came * MGR_GATHER_PART >= g->first) {
        g->lost = 0;

    } else {
        g->lost += g->lost < MGR_GATHER_LOST;
        g->skip = 1u << g->lost;
    }

    g->first = 0;
}
