/*
 * Copyright (C) nginx-ims contributors
 *
 * Purge: line 9 of POOL.md section 1.  An edge removes all bindings of an
 * identity at the core, and only that proof lowers `promised` and `rest`.
 *
 * What may be purged is remembered in memory: leases that ended early, by the
 * time at which their commit returned; after a start, those of the feed.  What
 * is forgotten (a restart, a full list) just rests.
 */

#include <stdlib.h>

#include "ims_pool_wint.h"


#define IMS_POOL_PURGE_RING   16384     /* ends waiting, a power of 2 */
#define IMS_POOL_PURGE_BATCH  4096      /* ends of one batch */
#define IMS_POOL_PURGE_OUT    256       /* in the hands of edges */
#define IMS_POOL_PURGE_WALK   1000      /* identities looked at in a call */

#define IMS_POOL_PURGE_SEND   2000      /* ms to the first write, at most */


/* an early end; ident 0: of a whole pool, lease is its fence */
typedef struct {
    uint64_t  ident;
    uint64_t  lease;
    uint64_t  since;            /* PT at which it was on the disk */
    uint32_t  pool;
} ims_pool_purge_end_t;

typedef struct {
    uint64_t  id;               /* 0: a free place */
    uint64_t  ident;
    uint64_t  lease;
    uint64_t  until;            /* PT */
    bool      done;             /* in this batch */
} ims_pool_purge_out_t;

struct ims_pool_purges_s {
    bool                  any;          /* does any pool want it? */

    ims_pool_purge_end_t  batch[IMS_POOL_PURGE_BATCH];
    unsigned              nbatch;

    ims_pool_purge_end_t  ring[IMS_POOL_PURGE_RING];
    unsigned              head;
    unsigned              tail;

    ims_pool_purge_out_t  out[IMS_POOL_PURGE_OUT];
    unsigned              nout;

    ims_pool_purge_end_t  walk;         /* a whole pool at work */
    uint64_t              pos;
    bool                  walking;

    uint64_t              lost;         /* ends that found no place */
};


static int ims_pool_purge_any(void *ctx, const ims_pool_t *pool);
static void ims_pool_purge_push(ims_pool_writer_t *w,
    const ims_pool_purge_end_t *end);
static int ims_pool_purge_feed(ims_pool_writer_t *w);
static void ims_pool_purge_expire(ims_pool_writer_t *w);
static int ims_pool_purge_rest(ims_pool_writer_t *w, ims_pool_rec_t *rec,
    const ims_pool_head_t *h);
static bool ims_pool_purge_replayed(const ims_pool_writer_t *w,
    const ims_pool_rec_t *rec);
static bool ims_pool_purge_due(ims_pool_writer_t *w,
    const ims_pool_purge_end_t *end, const ims_pool_t *pool,
    ims_pool_rec_t *rec);
static int ims_pool_purge_one(ims_pool_writer_t *w,
    const ims_pool_purge_end_t *end, const ims_pool_t *pool,
    ims_pool_purge_t *job);
static int ims_pool_purge_ring(ims_pool_writer_t *w, ims_pool_purge_may_pt may,
    void *ctx, ims_pool_purge_t *job);
static int ims_pool_purge_walk(ims_pool_writer_t *w, ims_pool_purge_may_pt may,
    void *ctx, ims_pool_purge_t *job, unsigned *looked);
static int ims_pool_purge_hist(ims_pool_writer_t *w,
    const ims_pool_rec_t *rec);


int
ims_pool_purges_open(ims_pool_writer_t *w)
{
    int  rc;

    if (w->purges == NULL) {
        w->purges = calloc(1, sizeof(ims_pool_purges_t));

        if (w->purges == NULL) {
            return IMS_POOL_SYSTEM;
        }

    } else {
        memset(w->purges, 0, sizeof(ims_pool_purges_t));
    }

    rc = ims_pool_purges_look(w);

    return rc == IMS_POOL_OK ? ims_pool_purge_feed(w) : rc;
}


void
ims_pool_purges_close(ims_pool_writer_t *w)
{
    free(w->purges);
    w->purges = NULL;
}


/* a pool was made or altered, as committed */

int
ims_pool_purges_look(ims_pool_writer_t *w)
{
    w->purges->any = false;

    return ims_pool_list(w, ims_pool_purge_any, w->purges);
}


static int
ims_pool_purge_any(void *ctx, const ims_pool_t *pool)
{
    ims_pool_purges_t  *p = ctx;

    p->any |= pool->head.purge != 0;

    return 0;
}


/* what ended early in the last 15 minutes */

static int
ims_pool_purge_feed(ims_pool_writer_t *w)
{
    int                   rc;
    MDB_val               k, v;
    uint8_t               key[8];
    uint64_t              first, seq;
    ims_str_t             row;
    MDB_cursor           *cursor;
    ims_pool_reader_t    *r;
    ims_pool_feed_row_t   f;

    if (!w->purges->any) {
        return IMS_POOL_OK;
    }

    r = w->reader;

    if (ims_pool_snap(r) != IMS_POOL_OK) {
        return IMS_POOL_INTERNAL;
    }

    if (mdb_cursor_open(r->txn, r->dbi[IMS_POOL_T_FEED], &cursor) != 0) {
        ims_pool_unsnap(r);
        return IMS_POOL_INTERNAL;
    }

    seq = r->state.feed_seq;
    first = seq > IMS_POOL_PURGE_RING ? seq - IMS_POOL_PURGE_RING + 1 : 1;

    ims_pool_be64(key, first);
    k.mv_size = sizeof(key);
    k.mv_data = key;

    for (rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
         rc == 0;
         rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT))
    {
        if (ims_pool_row_open(&k, &v, &row) && row.n == sizeof(f)) {
            memcpy(&f, row.p, sizeof(f));
            ims_pool_purge_note(w, f.pool, f.ident, f.lease, f.reason);

            if (w->purges->nbatch == IMS_POOL_PURGE_BATCH) {
                ims_pool_purge_committed(w);
            }
        }
    }

    mdb_cursor_close(cursor);
    ims_pool_unsnap(r);

    /* each of them counts from this start on */

    ims_pool_purge_committed(w);

    return rc == MDB_NOTFOUND ? IMS_POOL_OK : IMS_POOL_INTERNAL;
}


/* --- what ends ------------------------------------------------------------ */

void
ims_pool_purge_note(ims_pool_writer_t *w, uint32_t pool, uint64_t ident,
    uint64_t lease, ims_pool_end_e reason)
{
    ims_pool_purges_t  *p;

    p = w->purges;

    if (p == NULL || !p->any || reason == IMS_POOL_END_SESSION) {
        return;
    }

    if (p->nbatch == IMS_POOL_PURGE_BATCH) {
        p->lost++;
        return;
    }

    p->batch[p->nbatch++] = (ims_pool_purge_end_t) {
        .ident = ident, .lease = lease, .pool = pool
    };
}


void
ims_pool_purge_aborted(ims_pool_writer_t *w)
{
    unsigned            i;
    ims_pool_purges_t  *p;

    p = w->purges;

    if (p == NULL) {
        return;
    }

    p->nbatch = 0;

    for (i = 0; p->nout && i < IMS_POOL_PURGE_OUT; i++) {
        p->out[i].done = false;
    }
}


/*
 * The commit has returned: from this moment on no REGISTER is let through on
 * these leases.
 */
void
ims_pool_purge_committed(ims_pool_writer_t *w)
{
    unsigned            i;
    uint64_t            now;
    ims_pool_purges_t  *p;

    p = w->purges;

    if (p == NULL) {
        return;
    }

    for (i = 0; p->nout && i < IMS_POOL_PURGE_OUT; i++) {
        if (p->out[i].done) {
            p->out[i].done = false;
            p->out[i].id = 0;
            p->nout--;
        }
    }

    if (p->nbatch == 0) {
        return;
    }

    now = ims_pool_now(w);

    for (i = 0; i < p->nbatch; i++) {
        p->batch[i].since = now;
        ims_pool_purge_push(w, &p->batch[i]);
    }

    p->nbatch = 0;
}


static void
ims_pool_purge_push(ims_pool_writer_t *w, const ims_pool_purge_end_t *end)
{
    ims_pool_purges_t  *p;

    p = w->purges;

    if (p->tail - p->head == IMS_POOL_PURGE_RING) {
        /* the oldest has rested longest */
        p->head++;
        p->lost++;
    }

    p->ring[p->tail++ % IMS_POOL_PURGE_RING] = *end;
}


/* --- out ------------------------------------------------------------------- */

static void
ims_pool_purge_expire(ims_pool_writer_t *w)
{
    unsigned            i;
    ims_pool_purges_t  *p;

    p = w->purges;

    for (i = 0; p->nout && i < IMS_POOL_PURGE_OUT; i++) {
        if (p->out[i].id && p->out[i].until <= w->now) {
            p->out[i].id = 0;
            p->nout--;
        }
    }
}


bool
ims_pool_purge_is_out(ims_pool_writer_t *w, uint64_t ident)
{
    unsigned            i;
    ims_pool_purges_t  *p;

    p = w->purges;

    for (i = 0; p->nout && i < IMS_POOL_PURGE_OUT; i++) {
        if (p->out[i].id && p->out[i].ident == ident && !p->out[i].done
            && p->out[i].until > w->now)
        {
            return true;
        }
    }

    return false;
}


int
ims_pool_purge_next(ims_pool_writer_t *w, ims_pool_purge_may_pt may, void *ctx,
    ims_pool_purge_t *job)
{
    int                 rc;
    unsigned            looked;
    ims_pool_purges_t  *p;

    if (w->broken) {
        return IMS_POOL_INTERNAL;
    }

    p = w->purges;
    ims_pool_purge_expire(w);

    for (looked = 0;
         p->nout < IMS_POOL_PURGE_OUT && looked < IMS_POOL_PURGE_WALK; )
    {
        rc = p->walking ? ims_pool_purge_walk(w, may, ctx, job, &looked)
                        : IMS_POOL_NOTFOUND;

        if (rc == IMS_POOL_NOTFOUND) {
            rc = ims_pool_purge_ring(w, may, ctx, job);
        }

        /* NOTFOUND: nothing is due; MORE: a whole pool is, begin with it */

        if (rc != IMS_POOL_MORE) {
            return rc;
        }
    }

    return IMS_POOL_NOTFOUND;
}


/* the ends in their order; those of which nothing will become go out */

static int
ims_pool_purge_ring(ims_pool_writer_t *w, ims_pool_purge_may_pt may, void *ctx,
    ims_pool_purge_t *job)
{
    int                    rc;
    unsigned               i;
    ims_pool_t             pool;
    ims_pool_purges_t     *p;
    ims_pool_purge_end_t  *end;

    p = w->purges;
    pool.head.pool = 0;

    for (i = p->head; i != p->tail; i++) {

        end = &p->ring[i % IMS_POOL_PURGE_RING];

        if (end->pool == 0) {
            /* done, behind one that waits */
            p->head += i == p->head;
            continue;
        }

        if (pool.head.pool != end->pool
            && ims_pool_w_pool(w, end->pool, &pool) != IMS_POOL_OK)
        {
            pool.head.pool = 0;
            end->pool = 0;
            p->head += i == p->head;
            continue;
        }

        if (end->since + pool.head.delay > w->now || !may(ctx, &pool)
            || (end->ident == 0 && p->walking))
        {
            continue;
        }

        if (end->ident == 0) {
            p->walk = *end;
            p->pos = 0;
            p->walking = true;
            rc = IMS_POOL_MORE;

        } else {
            rc = ims_pool_purge_one(w, end, &pool, job);

            if (rc == IMS_POOL_BUSY) {
                /* D was longer when the lease was given */
                continue;
            }
        }

        end->pool = 0;
        p->head += i == p->head;

        if (rc != IMS_POOL_NOTFOUND) {
            return rc;
        }
    }

    return IMS_POOL_NOTFOUND;
}


/*
 * The identities of a pool that was fenced, one after the other.  MORE: this
 * one is not to be purged, or it was the last; NOTFOUND: enough for now.
 */
static int
ims_pool_purge_walk(ims_pool_writer_t *w, ims_pool_purge_may_pt may, void *ctx,
    ims_pool_purge_t *job, unsigned *looked)
{
    int                    rc;
    bool                   found;
    uint64_t               fenced, ident;
    ims_pool_t             pool;
    ims_pool_rec_t         rec;
    ims_pool_recs_t        it;
    ims_pool_purges_t     *p;
    ims_pool_purge_end_t   e;

    p = w->purges;

    if (ims_pool_w_pool(w, p->walk.pool, &pool) != IMS_POOL_OK) {
        p->walking = false;
        return IMS_POOL_MORE;
    }

    if (!may(ctx, &pool)) {
        return IMS_POOL_NOTFOUND;
    }

    rc = ims_pool_recs_open(&it, w->txn, w->dbi, p->pos);
    if (rc != 0) {
        return ims_pool_w_fail(w, rc);
    }

    for (found = false; !found && *looked < IMS_POOL_PURGE_WALK; (*looked)++) {

        rc = ims_pool_recs_next(&it, &ident, &rec);

        if (rc != IMS_POOL_OK && rc != IMS_POOL_UNKNOWN) {
            break;
        }

        p->pos = ident + 1;

        found = rc == IMS_POOL_OK && rec.pool == p->walk.pool
                && rec.lease <= p->walk.lease;
    }

    ims_pool_recs_close(&it);

    if (!found) {

        if (rc == IMS_POOL_OK || rc == IMS_POOL_UNKNOWN) {
            return IMS_POOL_NOTFOUND;
        }

        p->walking = false;
        return IMS_POOL_MORE;
    }

    if (ims_pool_w_rec(w, rec.ident, &rec) != IMS_POOL_OK) {
        return IMS_POOL_MORE;
    }

    /* one that had run out before is no early end */

    if (!ims_pool_w_held(w, &rec) && !ims_pool_purge_replayed(w, &rec)
        && (ims_pool_fenced_at(w->txn, w->dbi, rec.pool, rec.lease, &fenced)
            != IMS_POOL_OK || fenced >= rec.end))
    {
        return IMS_POOL_MORE;
    }

    e = p->walk;
    e.ident = rec.ident;
    e.lease = rec.lease;

    rc = ims_pool_purge_one(w, &e, &pool, job);

    if (rc == IMS_POOL_BUSY) {
        /* D was longer when this lease was given: here again, later */
        p->pos = rec.ident;
        return IMS_POOL_NOTFOUND;
    }

    return rc == IMS_POOL_NOTFOUND ? IMS_POOL_MORE : rc;
}


/* may it be purged, and is it worth it?  BUSY: later, perhaps */

static int
ims_pool_purge_one(ims_pool_writer_t *w, const ims_pool_purge_end_t *end,
    const ims_pool_t *pool, ims_pool_purge_t *job)
{
    int                    rc;
    uint64_t               delay;
    unsigned               i;
    ims_pool_rec_t         rec;
    ims_pool_purges_t     *p;
    ims_pool_purge_out_t  *out;

    p = w->purges;

    rc = ims_pool_w_rec(w, end->ident, &rec);

    if (rc != IMS_POOL_OK) {
        return IMS_POOL_NOTFOUND;
    }

    if (!ims_pool_purge_due(w, end, pool, &rec)) {
        return IMS_POOL_NOTFOUND;
    }

    delay = pool->head.delay;

    if (rec.lease != 0 && rec.linger != delay + pool->head.margin
        && rec.linger > delay)
    {
        /* D or margin were altered: no shorter than what was promised by */
        delay = rec.linger;
    }

    if (end->since + delay > w->now) {
        return IMS_POOL_BUSY;
    }

    for (i = 0; p->out[i].id != 0; i++) {
        /* there is a free place: the caller has looked */
    }

    out = &p->out[i];

    if (w->clock.random(w->clock.ctx, &out->id, sizeof(out->id)) != 0
        || out->id == 0
        || ims_pool_w_names(w, rec.ident, &job->names) != IMS_POOL_OK)
    {
        out->id = 0;
        return IMS_POOL_NOTFOUND;
    }

    rc = ims_pool_purge_rest(w, &rec, &pool->head);

    if (rc != IMS_POOL_OK) {
        out->id = 0;
        return rc;
    }

    out->ident = rec.ident;
    out->lease = rec.lease;
    out->until = w->now + IMS_POOL_PURGE_MS;
    out->done = false;
    p->nout++;

    delay = pool->head.delay < IMS_POOL_PURGE_SEND ? pool->head.delay
                                                   : IMS_POOL_PURGE_SEND;

    job->id = out->id;
    job->ident = rec.ident;
    job->lease = rec.lease;
    job->send_by = w->boottime + delay;
    job->answer_by = w->boottime + IMS_POOL_PURGE_MS;

    memcpy(job->pool, pool->name, sizeof(job->pool));
    memcpy(job->home, pool->home, sizeof(job->home));

    return IMS_POOL_OK;
}


/*
 * A hold may end while the edge is at work: then the record itself keeps others
 * away as long as a late `*` may be under way.
 */
static int
ims_pool_purge_rest(ims_pool_writer_t *w, ims_pool_rec_t *rec,
    const ims_pool_head_t *h)
{
    int       rc;
    uint64_t  rest;

    rest = w->now + 2 * h->delay;

    if (!ims_pool_w_held(w, rec) || rec->rest >= rest) {
        return IMS_POOL_OK;
    }

    rec->rest = rest;
    rc = ims_pool_w_avail_place(w, rec, rec->flags);

    return rc == IMS_POOL_OK ? ims_pool_w_put_rec(w, rec) : rc;
}


/* held on by a replay: the lease ended with the lost commits, at the latest */

static bool
ims_pool_purge_replayed(const ims_pool_writer_t *w, const ims_pool_rec_t *rec)
{
    const ims_pool_state_t  *s;

    s = &w->state;

    return s->hold_rest > w->now && rec->rest >= s->hold_rest
           && rec->lease >> IMS_POOL_LEASE_BITS < s->hold_inc;
}


static bool
ims_pool_purge_due(ims_pool_writer_t *w, const ims_pool_purge_end_t *end,
    const ims_pool_t *pool, ims_pool_rec_t *rec)
{
    uint64_t  rest;

    rest = rec->rest;

    if (ims_pool_w_held(w, rec) && rest < w->state.hold_until) {
        rest = w->state.hold_until;
    }

    return pool->head.purge && pool->head.edges == IMS_POOL_EDGES_LOCAL
           && rec->lease == end->lease
           && !(rec->flags & IMS_POOL_F_STAGED)
           && ims_pool_state_of(rec, pool->head.fence, w->now)
              != IMS_POOL_ST_LEASED
           && rest > w->now + 2 * pool->head.delay
           && !ims_pool_purge_is_out(w, rec->ident);
}


/* --- and back ---------------------------------------------------------------- */

int
ims_pool_purged(ims_pool_writer_t *w, uint64_t id, uint64_t *ident,
    uint64_t *lease)
{
    int                    rc;
    unsigned               i;
    ims_pool_t             pool;
    ims_pool_rec_t         rec;
    ims_pool_purges_t     *p;
    ims_pool_purge_out_t  *out;

    if (w->broken) {
        return IMS_POOL_INTERNAL;
    }

    p = w->purges;
    ims_pool_purge_expire(w);

    for (i = 0; i < IMS_POOL_PURGE_OUT; i++) {
        if (id != 0 && p->out[i].id == id) {
            break;
        }
    }

    if (i == IMS_POOL_PURGE_OUT) {
        return IMS_POOL_NOTFOUND;
    }

    out = &p->out[i];

    rc = ims_pool_w_rec(w, out->ident, &rec);

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_w_pool(w, rec.pool, &pool);
    }

    if (rc != IMS_POOL_OK) {
        return rc == IMS_POOL_NOTFOUND ? IMS_POOL_ENDED : rc;
    }

    if (rec.lease != out->lease
        || ims_pool_state_of(&rec, pool.head.fence, w->now)
           == IMS_POOL_ST_LEASED)
    {
        return IMS_POOL_ENDED;
    }

    *ident = rec.ident;
    *lease = rec.lease;

    /* the place is free after the commit: the command may come again */

    out->done = true;

    rc = ims_pool_w_past(w, &rec, &pool.head);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    if (rec.end > w->now) {
        /* of a fenced one, as the history has it now */
        rec.end = w->now;

        for (i = 0; i < rec.nsession; i++) {
            if (rec.session[i].end > rec.end) {
                rec.session[i].end = rec.end;
            }
        }
    }

    rec.promised = w->now;
    rec.rest = w->now + pool.head.margin;
    rec.flags |= IMS_POOL_F_PURGED;

    rc = ims_pool_purge_hist(w, &rec);

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_w_avail_place(w, &rec, rec.flags);
    }

    return rc == IMS_POOL_OK ? ims_pool_w_put_rec(w, &rec) : rc;
}


/* the history says how long the identity rested */

static int
ims_pool_purge_hist(ims_pool_writer_t *w, const ims_pool_rec_t *rec)
{
    int              rc;
    uint8_t          key[16];
    ims_pool_hist_t  row;

    if (rec->lease == 0) {
        return IMS_POOL_OK;
    }

    ims_pool_be64(key, rec->ident);
    ims_pool_be64(key + 8, rec->lease);

    rc = ims_pool_w_copy(w, IMS_POOL_T_HIST, key, sizeof(key), &row,
                         sizeof(row));

    if (rc != IMS_POOL_OK) {
        return rc == IMS_POOL_NOTFOUND ? IMS_POOL_OK : rc;
    }

    row.rest = rec->rest;

    return ims_pool_w_put(w, IMS_POOL_T_HIST, key, sizeof(key), &row,
                          sizeof(row), 0);
}
