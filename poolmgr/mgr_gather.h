/*
 * Copyright (C) nginx-ims contributors
 *
 * How long a batch waits for company.
 *
 * A commit costs two syncs whether it holds one lease or fifty, and clients
 * that were answered together ask again together, a moment later.  The first
 * of them would get a commit of its own, and all others wait for it.  So after
 * a commit the next batch waits until as many connections have something to
 * say as were served by the last two, but at most for a fixed part of what a
 * commit takes on this disk: who asks alone, or after a pause, never waits.
 */

#ifndef _MGR_GATHER_H_INCLUDED_
#define _MGR_GATHER_H_INCLUDED_


#include <stdbool.h>
#include <stdint.h>


typedef struct {
    uint64_t  commit;       /* ns, moving average */
    uint64_t  wait;         /* ns that a batch waits at most, */
    uint64_t  until;        /* and the hrtime at which that is over */
    unsigned  served;       /* connections of the last batch, */
    unsigned  before;       /* of the one before, */
    unsigned  again;        /* and of the last those that were in both */
    unsigned  first;        /* ready when this wait began; 0: none yet */
    unsigned  lost;         /* waits in a row that brought too little */
    unsigned  skip;         /* batches that do not wait, for that reason */
    unsigned  made:1;       /* this batch had a commit */
} mgr_gather_t;


/* The commit of this batch took so many ns. */
void mgr_gather_commit(mgr_gather_t *g, uint64_t took);

/*
 * A batch is over at now (hrtime), its answers are written.  served:
 * connections that got some; again: those of them that the batch before had
 * answered too.
 */
void mgr_gather_batch(mgr_gather_t *g, uint64_t now, unsigned served,
    unsigned again);

/*
 * With so many connections ready: ns to sleep before they are counted again,
 * 0: begin the next batch.
 */
uint64_t mgr_gather_wait(mgr_gather_t *g, uint64_t now, unsigned ready);


#endif /* _MGR_GATHER_H_INCLUDED_ */
