/*
 * Copyright (C) nginx-ims contributors
 *
 * The history log as a proof: from when on it has every lease, and what a start
 * must add to it.
 *
 * A lease is committed, then its line is written and synced, then it is told.
 * Who is killed in between has leases without lines: the next start writes
 * them, since the record, or somebody who asks again, knows them.
 */

#include <stdlib.h>

#include "ims_pool_wint.h"


/* Leases that began after the last line that is known to be on the disk. */
typedef struct {
    ims_pool_rec_t  *rec;
    size_t           n;
    size_t           cap;
} ims_pool_late_t;


static int ims_pool_log_anew(ims_pool_writer_t *w, uint64_t inode);
static int ims_pool_late_read(ims_pool_writer_t *w, ims_pool_late_t *late,
    uint64_t **wall);
static bool ims_pool_late_all(const ims_pool_writer_t *w, size_t n);
static int ims_pool_late_find(ims_pool_writer_t *w, MDB_txn *txn,
    ims_pool_late_t *late);
static bool ims_pool_late_add(ims_pool_late_t *late,
    const ims_pool_rec_t *rec);
static int ims_pool_late_order(const void *a, const void *b);


int
ims_pool_log_on(ims_pool_writer_t *w, uint64_t inode)
{
    if (w->floor.logged && w->floor.log == w->committed.log) {
        return ims_pool_floor_log(w, w->floor.log, w->floor.logged,
                                  w->floor.mark, inode);
    }

    return ims_pool_log_anew(w, inode);
}


/*
 * The state has the log's number before the floor has, and the floor none
 * meanwhile: killed in between, or refused, there is no log that is complete.
 */
static int
ims_pool_log_anew(ims_pool_writer_t *w, uint64_t inode)
{
    int       rc;
    uint64_t  log, last;

    rc = ims_pool_log_off(w);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    if (w->clock.random(w->clock.ctx, &log, sizeof(log)) != 0) {
        return IMS_POOL_SYSTEM;
    }

    log = log ? log : 1;
    last = w->committed.last_lease;
    rc = ims_pool_begin(w);

    if (rc == IMS_POOL_OK) {
        w->lined = last;
        w->state.log = log;
        w->dirty = 1;
        rc = ims_pool_commit(w);
    }

    return rc != IMS_POOL_OK ? rc
           : ims_pool_floor_log(w, log, last, last + IMS_POOL_MARK_STEP,
                                inode);
}


int
ims_pool_log_off(ims_pool_writer_t *w)
{
    return w->floor.there ? ims_pool_floor_log(w, 0, 0, 0, 0) : IMS_POOL_OK;
}


bool
ims_pool_log_complete(const ims_pool_writer_t *w)
{
    return w->floor.logged != 0;
}


void
ims_pool_log_synced(ims_pool_writer_t *w)
{
    if (w->floor.logged) {
        w->lined = w->committed.last_lease;
    }
}


void
ims_pool_log_start(const ims_pool_writer_t *w, ims_pool_log_start_t *start)
{
    const ims_pool_state_t  *s;

    s = &w->committed;
    memset(start, 0, sizeof(ims_pool_log_start_t));

    start->wall = w->clock.wall(w->clock.ctx);
    start->incarnation = s->incarnation;
    start->run = s->run;
    start->last = s->begun;

    /* also a later start, if none was given since: that one has no line yet */

    if (s->hold_inc != 0 && s->begun == s->hold_inc << IMS_POOL_LEASE_BITS) {
        start->lost = true;
        start->last = s->hold_least;
        start->before = s->hold_inode;
    }
}


int
ims_pool_log_late(ims_pool_writer_t *w)
{
    int              rc;
    bool             all;
    size_t           i;
    uint64_t        *wall;
    ims_pool_late_t  late;

    if (w->floor.logged == 0 || w->committed.begun <= w->lined) {
        return IMS_POOL_OK;
    }

    wall = NULL;
    memset(&late, 0, sizeof(late));

    rc = ims_pool_snap(w->reader);

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_late_read(w, &late, &wall);
        ims_pool_unsnap(w->reader);
    }

    all = ims_pool_late_all(w, late.n);

    for (i = 0; rc == IMS_POOL_OK && i < late.n; i++) {
        ims_pool_event_late(w, &late.rec[i], wall[i]);
    }

    free(wall);
    free(late.rec);

    return rc == IMS_POOL_OK && !all ? IMS_POOL_INTERNAL : rc;
}


/* and the wall times of their starts */

static int
ims_pool_late_read(ims_pool_writer_t *w, ims_pool_late_t *late,
    uint64_t **wall)
{
    int                 rc;
    size_t              i;
    ims_pool_reader_t  *r;

    r = w->reader;
    rc = ims_pool_late_find(w, r->txn, late);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    *wall = calloc(late->n + 1, sizeof(uint64_t));

    if (*wall == NULL) {
        return IMS_POOL_INTERNAL;
    }

    for (i = 0; i < late->n; i++) {
        (*wall)[i] = ims_pool_wall_at(r->txn, r->dbi, late->rec[i].start);
    }

    return IMS_POOL_OK;
}


/* a record knows the last lease of a batch only, and no line may be missing */

static bool
ims_pool_late_all(const ims_pool_writer_t *w, size_t n)
{
    uint64_t  begun;

    begun = w->committed.begun;

    return begun >> IMS_POOL_LEASE_BITS == w->lined >> IMS_POOL_LEASE_BITS
           && n == begun - w->lined;
}


/* in order of their numbers, as the log has all others */

static int
ims_pool_late_find(ims_pool_writer_t *w, MDB_txn *txn, ims_pool_late_t *late)
{
    int              rc;
    uint64_t         ident;
    ims_pool_rec_t   rec;
    ims_pool_recs_t  it;

    if (ims_pool_recs_open(&it, txn, w->dbi, 0) != 0) {
        return IMS_POOL_INTERNAL;
    }

    /* of one that is damaged nobody knows whether it was that */

    do {
        rc = ims_pool_recs_next(&it, &ident, &rec);

        if (rc == IMS_POOL_OK && rec.lease > w->lined
            && !ims_pool_late_add(late, &rec))
        {
            rc = IMS_POOL_INTERNAL;
        }

    } while (rc == IMS_POOL_OK);

    ims_pool_recs_close(&it);

    if (late->n) {
        qsort(late->rec, late->n, sizeof(ims_pool_rec_t),
              ims_pool_late_order);
    }

    return rc == IMS_POOL_NOTFOUND ? IMS_POOL_OK : IMS_POOL_INTERNAL;
}


static bool
ims_pool_late_add(ims_pool_late_t *late, const ims_pool_rec_t *rec)
{
    size_t           cap;
    ims_pool_rec_t  *p;

    if (late->n == late->cap) {
        cap = late->cap ? late->cap * 2 : 64;
        p = realloc(late->rec, cap * sizeof(ims_pool_rec_t));

        if (p == NULL) {
            return false;
        }

        late->rec = p;
        late->cap = cap;
    }

    late->rec[late->n++] = *rec;

    return true;
}


static int
ims_pool_late_order(const void *a, const void *b)
{
    const ims_pool_rec_t  *one = a, *two = b;

    return one->lease < two->lease ? -1 : one->lease > two->lease;
}
