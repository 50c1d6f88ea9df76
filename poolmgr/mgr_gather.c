/*
 * Copyright (C) nginx-ims contributors
 *
 * See mgr_gather.h.
 */

#include "mgr_gather.h"


#define MGR_GATHER_PART   4             /* of a commit's time is waited */
#define MGR_GATHER_MAX    2000000       /* ns, whatever a commit takes */
#define MGR_GATHER_LOST   6             /* 2, 4, ... 64 batches left out */


static void mgr_gather_judge(mgr_gather_t *g, unsigned ready);


void
mgr_gather_commit(mgr_gather_t *g, uint64_t now, uint64_t took)
{
    uint64_t  wait;

    g->commit = g->commit == 0 ? took : (7 * g->commit + took) / 8;

    wait = g->commit / MGR_GATHER_PART;
    g->until = now + (wait < MGR_GATHER_MAX ? wait : MGR_GATHER_MAX);
}


void
mgr_gather_batch(mgr_gather_t *g, unsigned served, unsigned again)
{
    g->before = g->served;
    g->served = served;
    g->again = again;
    g->first = 0;

    if (g->skip) {
        g->skip--;
    }
}


uint64_t
mgr_gather_wait(mgr_gather_t *g, uint64_t now, unsigned ready)
{
    if (g->skip || now >= g->until
        || ready >= g->served + g->before - g->again)
    {
        mgr_gather_judge(g, ready);
        return 0;
    }

    if (g->first == 0) {
        g->first = ready;
    }

    return g->until - now;
}


/* the wait cost a part of a commit: it has to bring the same part of a batch */

static void
mgr_gather_judge(mgr_gather_t *g, unsigned ready)
{
    unsigned  came;

    if (g->first == 0) {
        return;
    }

    came = ready > g->first ? ready - g->first : 0;

    if (came * MGR_GATHER_PART >= g->first) {
        g->lost = 0;

    } else {
        g->lost += g->lost < MGR_GATHER_LOST;
        g->skip = 1u << g->lost;
    }

    g->first = 0;
}
