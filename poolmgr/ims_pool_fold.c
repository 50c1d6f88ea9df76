/*
 * Copyright (C) nginx-ims contributors
 *
 * How renewals get into the records: see ims_pool_renewal.c for why they are
 * not written there at once.
 *
 *   commits  ... first ....... mid ............. last
 *   rows     (deleted)  old part     new part
 *
 * When as many renewals were made as there are identities (within bounds), or
 * when housekeeping comes by a minute after the first or later, the new part
 * becomes the old one.  Some of the commits then take rows of the old part's
 * identities, in order, and write their records: whole rows, several at a time,
 * since each page that a commit touches is written to the disk; and so many
 * that all is done before the new part is full again.  With the last of them
 * `first` is `mid`.  Each commit also deletes some of the rows before `first`:
 * more than it writes.
 *
 * Every state between two commits can be started from: a renewal that is in
 * its record already changes nothing when it is added again.
 */

#include <errno.h>
#include <stdlib.h>

#include "ims_pool_wint.h"


#define IMS_POOL_FOLD_LEAST   1024      /* renewals of a part */
#define IMS_POOL_FOLD_MOST    (1 << 17)
#define IMS_POOL_FOLD_AGE     60000     /* ms, of its first one */
#define IMS_POOL_FOLD_BATCH   1024      /* renewals of one commit */
#define IMS_POOL_FOLD_SLICE   1024      /* records written by one commit, */
#define IMS_POOL_FOLD_SHORT   16        /* with little space, */
#define IMS_POOL_FOLD_LOOK    256       /* and that need not be written */
#define IMS_POOL_FOLD_STEP    128       /* and, of a large part, at least */
#define IMS_POOL_FOLD_SWEEP   16        /* rows deleted by one commit */
#define IMS_POOL_FOLD_PAUSE   8         /* batches, after one that failed */


static int ims_pool_fold_rows(ims_pool_writer_t *w);
static int ims_pool_fold_row(ims_pool_writer_t *w, uint32_t part, uint8_t *row,
    size_t n);
static unsigned ims_pool_fold_limit(ims_pool_writer_t *w);
static bool ims_pool_fold_full(ims_pool_writer_t *w, unsigned limit);
static void ims_pool_fold_order(ims_pool_fold_t *f);
static uint64_t *ims_pool_fold_sort(uint64_t *a, uint64_t *b, size_t n);
static int ims_pool_fold_slice(ims_pool_writer_t *w, unsigned limit);
static size_t ims_pool_fold_due(ims_pool_writer_t *w, unsigned limit);
static int ims_pool_fold_block(ims_pool_writer_t *w, size_t *wrote);
static bool ims_pool_fold_one(ims_pool_writer_t *w, ims_pool_block_t *block,
    uint64_t ident);
static int ims_pool_fold_sweep(ims_pool_writer_t *w);


int
ims_pool_fold_open(ims_pool_writer_t *w, MDB_txn *txn)
{
    ims_pool_fold_close(w);

    return ims_pool_recent_read(&w->fold.recent, txn, w->dbi, &w->committed,
                                &w->fold.lost);
}


void
ims_pool_fold_close(ims_pool_writer_t *w)
{
    ims_pool_recent_free(&w->fold.recent);
    ims_pool_renewals_free(&w->fold.batch);
    free(w->fold.ident);
    memset(&w->fold, 0, sizeof(w->fold));
}


void
ims_pool_fold_begin(ims_pool_writer_t *w)
{
    ims_pool_fold_t  *f;

    f = &w->fold;

    ims_pool_renewals_clear(&f->batch);
    f->no = w->committed.renew_last + 1;
    f->batch_at = f->at;
    f->batch_swept = f->swept;
    f->slice = 0;
    f->tick = false;
    f->pause -= f->pause != 0;
}


void
ims_pool_fold_failed(ims_pool_writer_t *w)
{
    w->fold.pause = IMS_POOL_FOLD_PAUSE;
}


void
ims_pool_fold_tick(ims_pool_writer_t *w, unsigned slice)
{
    w->fold.tick = true;
    w->fold.slice = slice;
}


bool
ims_pool_fold_more(const ims_pool_writer_t *w)
{
    return w->fold.swept != w->committed.renew_first
           || (w->state.renew_first != w->state.renew_mid
               && w->fold.pause == 0
               && ims_pool_space_for(w, IMS_POOL_SPACE_GO_ON));
}


int
ims_pool_w_put_renewal(ims_pool_writer_t *w, ims_pool_rec_t *rec,
    unsigned session)
{
    ims_pool_fold_t     *f;
    ims_pool_renewal_t   r;

    f = &w->fold;

    /*
     * A record that this batch has written is ahead of the batch's renewals.
     * Where space is short nothing is begun that has to be finished later.
     * After the commit nothing may fail: room is made now.
     */

    if (rec->renewed == f->no || f->batch.n == IMS_POOL_FOLD_BATCH
        || f->recent.made >= IMS_POOL_RENEWALS / 2
        || !ims_pool_space_for(w, IMS_POOL_SPACE_ALL)
        || !ims_pool_renewals_room(&f->batch, 1)
        || !ims_pool_renewals_room(&f->recent.new, f->batch.n + 1))
    {
        return ims_pool_w_put_rec(w, rec);
    }

    r.ident = rec->ident;
    r.lease = rec->lease;
    r.sid = rec->session[session].sid;
    r.end = rec->session[session].end;

    ims_pool_renewals_put(&f->batch, &r, f->no);
    w->dirty = 1;

    return IMS_POOL_OK;
}


int
ims_pool_fold(ims_pool_writer_t *w)
{
    int       rc;
    unsigned  limit;

    w->state.renew_last = w->fold.no;

    rc = ims_pool_fold_rows(w);

    if (rc != IMS_POOL_OK || w->fold.pause) {
        return rc;
    }

    limit = ims_pool_fold_limit(w);

    if (w->state.renew_first != w->state.renew_mid) {
        rc = ims_pool_fold_slice(w, limit);

    } else if (ims_pool_fold_full(w, limit)) {
        w->state.renew_mid = w->fold.no + 1;
    }

    return rc == IMS_POOL_OK ? ims_pool_fold_sweep(w) : rc;
}


void
ims_pool_fold_committed(ims_pool_writer_t *w)
{
    size_t              i;
    ims_pool_fold_t    *f;
    ims_pool_recent_t  *recent;

    f = &w->fold;
    recent = &f->recent;

    for (i = 0; f->batch.n != 0 && i < (size_t) 1 << f->batch.bits; i++) {
        if (f->batch.slot[i].no != 0) {
            ims_pool_renewals_put(&recent->new, &f->batch.slot[i].r, f->no);
        }
    }

    if (recent->made == 0) {
        f->since = w->now;
    }

    recent->made += f->batch.n;
    recent->next = f->no + 1;
    f->at = f->batch_at;
    f->swept = f->batch_swept;

    if (recent->first != w->state.renew_first) {
        ims_pool_renewals_free(&recent->old);
        free(f->ident);
        f->ident = NULL;
        f->n = 0;
        f->at = 0;
        f->due = 0;
    }

    if (recent->mid != w->state.renew_mid) {
        ims_pool_recent_freeze(recent);
    }

    recent->first = w->state.renew_first;
    recent->mid = w->state.renew_mid;
}


int
ims_pool_fold_all(ims_pool_writer_t *w)
{
    int               rc;
    bool              old;
    size_t            at;
    ims_pool_fold_t  *f;

    f = &w->fold;

    while (f->recent.new.n != 0 || f->recent.first != f->recent.mid) {

        rc = ims_pool_begin(w);

        if (rc != IMS_POOL_OK) {
            return rc;
        }

        w->dirty = 1;
        at = f->at;
        old = f->recent.first != f->recent.mid;
        f->slice = IMS_POOL_FOLD_SLICE;

        if (!old) {
            w->state.renew_mid = f->no + 1;
        }

        rc = ims_pool_commit(w);

        if (rc != IMS_POOL_OK) {
            return rc;
        }

        if (old && f->recent.first != f->recent.mid && f->at == at) {
            /* no space or no memory to go on with */
            return IMS_POOL_NOSPACE;
        }
    }

    rc = ims_pool_begin(w);

    if (rc == IMS_POOL_OK && mdb_drop(w->txn, w->dbi[IMS_POOL_T_RENEWAL], 0)
                             != 0)
    {
        rc = ims_pool_w_fail(w, 0);
    }

    if (rc != IMS_POOL_OK) {
        ims_pool_abort(w);
        return rc;
    }

    w->dirty = 1;

    return ims_pool_commit(w);
}


/* --- the batch's rows ---------------------------------------------------- */

static int
ims_pool_fold_rows(ims_pool_writer_t *w)
{
    int                         rc;
    size_t                      i, n, last;
    uint32_t                    part;
    const ims_pool_renewals_t  *t;
    uint8_t                     row[IMS_POOL_RENEWALS_ROW
                                    * sizeof(ims_pool_renewal_t)
                                    + IMS_POOL_CRC_LEN];

    t = &w->fold.batch;

    if (t->n == 0) {
        return IMS_POOL_OK;
    }

    last = ((size_t) 1 << t->bits) - 1;
    part = 0;

    for (i = 0, n = 0; i <= last; i++) {

        if (t->slot[i].no != 0) {
            memcpy(row + n, &t->slot[i].r, sizeof(ims_pool_renewal_t));
            n += sizeof(ims_pool_renewal_t);
        }

        if (n + IMS_POOL_CRC_LEN == sizeof(row) || (i == last && n != 0)) {

            rc = ims_pool_fold_row(w, part++, row, n);

            if (rc != IMS_POOL_OK) {
                return rc;
            }

            n = 0;
        }
    }

    return IMS_POOL_OK;
}


/* always behind all others */

static int
ims_pool_fold_row(ims_pool_writer_t *w, uint32_t part, uint8_t *row, size_t n)
{
    uint8_t  key[IMS_POOL_RENEWAL_KEY];

    ims_pool_be64(key, w->fold.no);
    key[8] = (uint8_t) (part >> 8);
    key[9] = (uint8_t) part;

    return ims_pool_w_put_row(w, IMS_POOL_T_RENEWAL, key, sizeof(key), row, n,
                              MDB_APPEND);
}


/* --- from the new part to the old one ------------------------------------ */

static unsigned
ims_pool_fold_limit(ims_pool_writer_t *w)
{
    if (w->opt.renewals) {
        return w->opt.renewals < IMS_POOL_FOLD_MOST ? w->opt.renewals
                                                    : IMS_POOL_FOLD_MOST;
    }

    if (w->state.records < IMS_POOL_FOLD_LEAST) {
        return IMS_POOL_FOLD_LEAST;
    }

    return w->state.records < IMS_POOL_FOLD_MOST ? (unsigned) w->state.records
                                                 : IMS_POOL_FOLD_MOST;
}


/* is it time?  Housekeeping looks at the age as well */

static bool
ims_pool_fold_full(ims_pool_writer_t *w, unsigned limit)
{
    uint64_t          made;
    ims_pool_fold_t  *f;

    f = &w->fold;
    made = f->recent.made + f->batch.n;

    return made >= limit
           || (f->tick && f->recent.made != 0
               && w->now >= f->since + IMS_POOL_FOLD_AGE);
}


/* --- into the records ---------------------------------------------------- */

/* the identities of the old part, each once */

static void
ims_pool_fold_order(ims_pool_fold_t *f)
{
    size_t                      i, n;
    uint64_t                   *all, *sorted;
    const ims_pool_renewals_t  *t;

    t = &f->recent.old;
    f->at = 0;
    f->batch_at = 0;
    f->n = 0;

    if (t->n == 0) {
        return;
    }

    all = malloc(2 * t->n * sizeof(uint64_t));
    f->ident = malloc(t->n * sizeof(uint64_t));

    if (all == NULL || f->ident == NULL) {
        free(all);
        free(f->ident);
        f->ident = NULL;
        return;
    }

    for (i = 0, n = 0; i < (size_t) 1 << t->bits; i++) {
        if (t->slot[i].no != 0) {
            all[n++] = t->slot[i].r.ident;
        }
    }

    sorted = ims_pool_fold_sort(all, all + n, n);

    for (i = 0; i < n; i++) {
        if (f->n == 0 || f->ident[f->n - 1] != sorted[i]) {
            f->ident[f->n++] = sorted[i];
        }
    }

    free(all);
}


/*
 * By bytes, the last one first; most of them are the same in all.  qsort()
 * would keep everybody waiting five times as long.  Returns the one of both
 * that has them in order.
 */
static uint64_t *
ims_pool_fold_sort(uint64_t *a, uint64_t *b, size_t n)
{
    size_t     i, j, count, at[256];
    uint64_t  *swap;
    unsigned   shift;

    for (shift = 0; shift < 64; shift += 8) {

        memset(at, 0, sizeof(at));

        for (i = 0; i < n; i++) {
            at[a[i] >> shift & 0xff]++;
        }

        if (at[a[0] >> shift & 0xff] == n) {
            continue;
        }

        for (i = 0, j = 0; i < 256; i++) {
            count = at[i];
            at[i] = j;
            j += count;
        }

        for (i = 0; i < n; i++) {
            b[at[a[i] >> shift & 0xff]++] = a[i];
        }

        swap = a;
        a = b;
        b = swap;
    }

    return a;
}


static int
ims_pool_fold_slice(ims_pool_writer_t *w, unsigned limit)
{
    int               rc;
    size_t            n, look, from, wrote;
    ims_pool_fold_t  *f;

    f = &w->fold;

    if (!ims_pool_space_for(w, IMS_POOL_SPACE_GO_ON)) {
        return IMS_POOL_OK;
    }

    if (f->ident == NULL) {
        ims_pool_fold_order(f);

        if (f->ident == NULL && f->recent.old.n != 0) {
            /* no memory: another time */
            return IMS_POOL_OK;
        }
    }

    n = ims_pool_fold_due(w, limit);

    /* those that are done, by a start before this one, cost little */

    look = n == 0 ? 0 : n + IMS_POOL_FOLD_LOOK;

    while (n != 0 && look != 0 && f->batch_at < f->n) {

        from = f->batch_at;
        rc = ims_pool_fold_block(w, &wrote);

        if (rc != IMS_POOL_OK) {
            return rc;
        }

        n -= wrote < n ? wrote : n;
        look -= f->batch_at - from < look ? f->batch_at - from : look;
    }

    if (f->batch_at == f->n) {
        w->state.renew_first = w->state.renew_mid;
    }

    return IMS_POOL_OK;
}


/*
 * How many records to write now.  To be through when the new part is full, a
 * batch owes, of what is left, the share that it is of the room that is left;
 * it is put off until it is worth a few rows.
 */
static size_t
ims_pool_fold_due(ims_pool_writer_t *w, unsigned limit)
{
    size_t            left, room, step, n;
    ims_pool_fold_t  *f;

    f = &w->fold;

    left = f->n - f->batch_at;
    room = f->recent.made < limit ? limit - f->recent.made : 1;

    if (room <= f->batch.n) {
        f->due = left;

    } else {
        f->due += left * f->batch.n / room + 1;
    }

    if (!ims_pool_space_for(w, IMS_POOL_SPACE_ALL)) {
        f->due = 0;
        return IMS_POOL_FOLD_SHORT;
    }

    /* of a small part so few that it is still written in many steps */

    step = limit / IMS_POOL_FOLD_STEP;
    step = step < IMS_POOL_FOLD_STEP ? step : IMS_POOL_FOLD_STEP;

    if (f->due < step && f->due < left && f->slice == 0) {
        return 0;
    }

    n = f->due < f->slice ? f->slice : f->due;
    f->due = 0;

    return n < IMS_POOL_FOLD_SLICE ? n : IMS_POOL_FOLD_SLICE;
}


/* the next row of records, with all of it that the old part has */

static int
ims_pool_fold_block(ims_pool_writer_t *w, size_t *wrote)
{
    int               rc;
    size_t            from;
    uint64_t          row;
    ims_pool_fold_t  *f;
    ims_pool_block_t  block;

    f = &w->fold;
    from = f->batch_at;
    row = f->ident[from] / IMS_POOL_BLOCK;
    *wrote = 0;

    rc = ims_pool_block_read(w->txn, w->dbi, f->ident[from], &block);

    for ( /* void */ ; f->batch_at < f->n; f->batch_at++) {

        if (f->ident[f->batch_at] / IMS_POOL_BLOCK != row) {
            break;
        }

        if (rc == IMS_POOL_OK) {
            *wrote += ims_pool_fold_one(w, &block, f->ident[f->batch_at]);
        }
    }

    if (rc == IMS_POOL_UNKNOWN) {
        w->damaged += f->batch_at - from;
    }

    return *wrote == 0 ? IMS_POOL_OK : ims_pool_w_put_block(w, &block);
}


/* was there anything that its record does not say? */

static bool
ims_pool_fold_one(ims_pool_writer_t *w, ims_pool_block_t *block,
    uint64_t ident)
{
    bool            changed;
    ims_pool_rec_t  rec;

    if (!ims_pool_block_has(block, ident)) {
        /* removed since */
        return false;
    }

    if (!ims_pool_slot_rec(block->slot[ident % IMS_POOL_BLOCK], ident, &rec)) {
        /* nobody's until it is cured */
        w->damaged++;
        return false;
    }

    changed = ims_pool_recent_add(&w->fold.recent, &rec);
    changed |= ims_pool_renewals_add(&w->fold.batch, &rec);

    if (changed) {
        rec.renewed = w->fold.no;
        ims_pool_block_set(block, &rec);
    }

    return changed;
}


/* rows that nobody reads any more, from the first one on */

static int
ims_pool_fold_sweep(ims_pool_writer_t *w)
{
    int               rc;
    MDB_val           k, v;
    unsigned          n, max;
    uint64_t          first;
    MDB_cursor       *cursor;
    ims_pool_fold_t  *f;

    f = &w->fold;
    first = w->committed.renew_first;

    if (f->swept == first) {
        return IMS_POOL_OK;
    }

    rc = mdb_cursor_open(w->txn, w->dbi[IMS_POOL_T_RENEWAL], &cursor);
    if (rc != 0) {
        return ims_pool_w_fail(w, rc);
    }

    /* a batch writes a row for each IMS_POOL_RENEWALS_ROW renewals */

    max = IMS_POOL_FOLD_SWEEP + f->batch.n + f->slice;

    for (n = 0; n < max; n++) {
        rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST);

        if (rc == MDB_NOTFOUND
            || (rc == 0 && k.mv_size == IMS_POOL_RENEWAL_KEY
                && ims_pool_get64(k.mv_data) >= first))
        {
            f->batch_swept = first;
            rc = 0;
            break;
        }

        if (rc == 0) {
            rc = mdb_cursor_del(cursor, 0);
        }

        if (rc != 0) {
            break;
        }
    }

    mdb_cursor_close(cursor);

    return rc == 0 ? IMS_POOL_OK : ims_pool_w_fail(w, rc);
}
