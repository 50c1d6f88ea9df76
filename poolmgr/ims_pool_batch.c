/*
 * Copyright (C) nginx-ims contributors
 *
 * A batch: one transaction, one `now`, rows with their CRCs.
 */

#include <errno.h>

#include "ims_pool_wint.h"


#define IMS_POOL_TICK_ROWS   1000
#define IMS_POOL_TICK_FOLD   200


/* largest value: a row of `name` or `pool` and its CRC */
#define IMS_POOL_ROW_MAX     (IMS_POOL_NAMES_MAX + IMS_POOL_CRC_LEN)


static bool ims_pool_alive(ims_pool_writer_t *w);
static int ims_pool_tick_feed(ims_pool_writer_t *w);
static int ims_pool_tick_avail(ims_pool_writer_t *w);


int
ims_pool_begin(ims_pool_writer_t *w)
{
    int  rc;

    if (w->dead || w->txn != NULL) {
        return IMS_POOL_UNKNOWN;
    }

    rc = mdb_txn_begin(w->env, NULL, 0, &w->txn);

    if (rc != 0) {
        w->txn = NULL;

        if (rc == ENOSPC || rc == ENOMEM || rc == MDB_MAP_FULL) {
            return IMS_POOL_NOSPACE;
        }

        w->dead = 1;
        return IMS_POOL_UNKNOWN;
    }

    w->boottime = w->clock.boottime(w->clock.ctx);
    w->wall = w->clock.wall(w->clock.ctx);
    w->now = ims_pool_pt_at(&w->committed.clock, w->boottime, w->boot_id);

    w->state = w->committed;
    w->dirty = 0;
    w->broken = 0;
    w->nospace = 0;
    w->pools = 0;

    ims_pool_fold_begin(w);

    if (!ims_pool_space_look(w)) {
        ims_pool_abort(w);
        return IMS_POOL_NOSPACE;
    }

    return IMS_POOL_OK;
}


uint64_t
ims_pool_now(ims_pool_writer_t *w)
{
    if (w->txn != NULL) {
        return w->now;
    }

    return ims_pool_pt_at(&w->committed.clock,
                          w->clock.boottime(w->clock.ctx), w->boot_id);
}


bool
ims_pool_broken(const ims_pool_writer_t *w)
{
    return w->broken || w->dead;
}


void
ims_pool_abort(ims_pool_writer_t *w)
{
    if (w->txn != NULL) {
        mdb_txn_abort(w->txn);
        w->txn = NULL;
    }

    ims_pool_purge_aborted(w);
    ims_pool_users_aborted(&w->users);
    ims_pool_events_drop(w);

    w->state = w->committed;
    w->dirty = 0;
    w->broken = 0;
    w->pools = 0;
}


int
ims_pool_commit(ims_pool_writer_t *w)
{
    int  rc;

    if (w->txn == NULL || w->broken) {
        rc = w->nospace ? IMS_POOL_NOSPACE : IMS_POOL_INTERNAL;
        ims_pool_abort(w);
        return rc;
    }

    if (!w->dirty) {
        ims_pool_abort(w);
        return IMS_POOL_OK;
    }

    w->state.clock.pt = w->now;
    w->state.clock.boottime = w->boottime;
    w->state.clock.wall = w->wall;
    memcpy(w->state.clock.boot_id, w->boot_id, sizeof(w->boot_id));

    w->state.lined = w->lined;

    rc = ims_pool_floor_mark(w);

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_fold(w);
    }

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_w_put(w, IMS_POOL_T_META, IMS_POOL_STATE_KEY,
                            sizeof(IMS_POOL_STATE_KEY) - 1, &w->state,
                            sizeof(w->state), 0);
    }

    if (rc != IMS_POOL_OK) {
        ims_pool_fold_failed(w);
        ims_pool_abort(w);
        return rc;
    }

    rc = mdb_txn_commit(w->txn);
    w->txn = NULL;

    if (rc == 0) {
        ims_pool_fold_committed(w);
        ims_pool_users_committed(&w->users);
        w->committed = w->state;
        w->commits++;

        if (w->pools && w->purges != NULL) {
            /* what cannot be read is not purged */
            (void) ims_pool_purges_look(w);
        }

        w->pools = 0;
        ims_pool_purge_committed(w);
        ims_pool_events_tell(w);

        return IMS_POOL_OK;
    }

    ims_pool_fold_failed(w);
    ims_pool_purge_aborted(w);
    ims_pool_users_aborted(&w->users);
    ims_pool_events_drop(w);
    w->pools = 0;
    w->state = w->committed;

    if ((rc == ENOSPC || rc == MDB_MAP_FULL || rc == MDB_TXN_FULL)
        && ims_pool_alive(w))
    {
        /* the pages did not all get out, and the meta page was not begun */
        return IMS_POOL_NOSPACE;
    }

    w->dead = 1;

    return IMS_POOL_UNKNOWN;
}


/* after a failed write of the meta page LMDB refuses every transaction */

static bool
ims_pool_alive(ims_pool_writer_t *w)
{
    MDB_txn  *txn;

    if (mdb_txn_begin(w->env, NULL, 0, &txn) != 0) {
        return false;
    }

    mdb_txn_abort(txn);

    return true;
}


int
ims_pool_w_fail(ims_pool_writer_t *w, int rc)
{
    w->broken = 1;

    if (rc == ENOSPC || rc == MDB_MAP_FULL || rc == MDB_TXN_FULL) {
        w->nospace = 1;
        return IMS_POOL_NOSPACE;
    }

    return IMS_POOL_INTERNAL;
}


static int
ims_pool_w_rc(ims_pool_writer_t *w, int rc)
{
    if (rc == IMS_POOL_UNKNOWN) {
        w->damaged++;
        return IMS_POOL_INTERNAL;
    }

    return rc;
}


int
ims_pool_w_rec(ims_pool_writer_t *w, uint64_t ident, ims_pool_rec_t *rec)
{
    int  rc;

    rc = ims_pool_w_rc(w, ims_pool_rec(w->txn, w->dbi, ident, rec));

    if (rc == IMS_POOL_OK) {
        (void) ims_pool_recent_add(&w->fold.recent, rec);
        (void) ims_pool_renewals_add(&w->fold.batch, rec);
    }

    return rc;
}


int
ims_pool_w_pool(ims_pool_writer_t *w, uint32_t number, ims_pool_t *pool)
{
    return ims_pool_w_rc(w, ims_pool_pool(w->txn, w->dbi, number, pool));
}


int
ims_pool_w_row(ims_pool_writer_t *w, ims_pool_tree_e tree, const void *key,
    size_t nkey, ims_str_t *row)
{
    return ims_pool_w_rc(w, ims_pool_row(w->txn, w->dbi[tree], key, nkey,
                                         row));
}


int
ims_pool_w_copy(ims_pool_writer_t *w, ims_pool_tree_e tree, const void *key,
    size_t nkey, void *out, size_t n)
{
    return ims_pool_w_rc(w, ims_pool_row_copy(w->txn, w->dbi[tree], key, nkey,
                                              out, n));
}


int
ims_pool_w_by_name(ims_pool_writer_t *w, ims_str_t name, ims_pool_t *pool)
{
    int       rc;
    uint32_t  number;

    if (name.n == 0 || name.n > IMS_POOL_NAME_MAX) {
        return IMS_POOL_NOPOOL;
    }

    rc = ims_pool_w_copy(w, IMS_POOL_T_POOLNAME, name.p, name.n, &number,
                         sizeof(number));

    if (rc == IMS_POOL_NOTFOUND) {
        return IMS_POOL_NOPOOL;
    }

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_w_pool(w, number, pool);
    }

    return rc == IMS_POOL_NOTFOUND ? IMS_POOL_INTERNAL : rc;
}


int
ims_pool_w_put(ims_pool_writer_t *w, ims_pool_tree_e tree, const void *key,
    size_t nkey, const void *data, size_t n, unsigned flags)
{
    uint8_t  row[IMS_POOL_ROW_MAX];

    if (n > sizeof(row) - IMS_POOL_CRC_LEN) {
        return ims_pool_w_fail(w, EINVAL);
    }

    if (n) {
        memcpy(row, data, n);
    }

    return ims_pool_w_put_row(w, tree, key, nkey, row, n, flags);
}


int
ims_pool_w_put_row(ims_pool_writer_t *w, ims_pool_tree_e tree,
    const void *key, size_t nkey, uint8_t *row, size_t n, unsigned flags)
{
    int       rc;
    MDB_val   k, v;
    uint32_t  crc;

    crc = ims_pool_crc32c(0, key, nkey);

    if (n) {
        crc = ims_pool_crc32c(crc, row, n);
    }

    memcpy(row + n, &crc, sizeof(crc));

    k.mv_size = nkey;
    k.mv_data = (void *) key;
    v.mv_size = n + sizeof(crc);
    v.mv_data = row;

    rc = mdb_put(w->txn, w->dbi[tree], &k, &v, flags);

    if (rc == MDB_KEYEXIST) {
        return IMS_POOL_EXISTS;
    }

    if (rc != 0) {
        return ims_pool_w_fail(w, rc);
    }

    w->dirty = 1;

    return IMS_POOL_OK;
}


int
ims_pool_w_put_rec(ims_pool_writer_t *w, ims_pool_rec_t *rec)
{
    int               rc;
    ims_pool_block_t  block;

    rec->renewed = w->fold.no;

    rc = ims_pool_block_read(w->txn, w->dbi, rec->ident, &block);

    if (rc == IMS_POOL_UNKNOWN) {
        return ims_pool_w_fail(w, 0);
    }

    w->state.records += !ims_pool_block_has(&block, rec->ident);
    ims_pool_block_set(&block, rec);

    return ims_pool_w_put_block(w, &block);
}


int
ims_pool_w_del_rec(ims_pool_writer_t *w, uint64_t ident)
{
    int               rc;
    ims_pool_block_t  block;

    rc = ims_pool_block_read(w->txn, w->dbi, ident, &block);

    if (rc == IMS_POOL_UNKNOWN) {
        return ims_pool_w_fail(w, 0);
    }

    if (!ims_pool_block_has(&block, ident)) {
        return IMS_POOL_OK;
    }

    w->state.records--;
    ims_pool_block_clear(&block, ident);

    if (block.head.used == 0) {
        return ims_pool_w_del(w, IMS_POOL_T_IDENT, &block.head.first,
                              sizeof(block.head.first));
    }

    return ims_pool_w_put_block(w, &block);
}


int
ims_pool_w_put_block(ims_pool_writer_t *w, const ims_pool_block_t *block)
{
    int      rc;
    MDB_val  k, v;

    k.mv_size = sizeof(block->head.first);
    k.mv_data = (void *) &block->head.first;
    v.mv_size = sizeof(ims_pool_block_t);
    v.mv_data = (void *) block;

    rc = mdb_put(w->txn, w->dbi[IMS_POOL_T_IDENT], &k, &v, 0);

    if (rc != 0) {
        return ims_pool_w_fail(w, rc);
    }

    w->dirty = 1;

    return IMS_POOL_OK;
}


int
ims_pool_w_put_pool(ims_pool_writer_t *w, const ims_pool_t *pool)
{
    uint8_t                 key[4], row[sizeof(ims_pool_t)], *p;
    const ims_pool_head_t  *h;

    h = &pool->head;
    p = row;

    memcpy(p, h, sizeof(ims_pool_head_t));
    p += sizeof(ims_pool_head_t);

    memcpy(p, pool->name, h->nname);
    p += h->nname;

    memcpy(p, pool->home, h->nhome);
    p += h->nhome;

    memcpy(p, pool->realms, h->nrealms);
    p += h->nrealms;

    ims_pool_be32(key, h->pool);
    w->pools = 1;

    return ims_pool_w_put(w, IMS_POOL_T_POOL, key, sizeof(key), row,
                          (size_t) (p - row), 0);
}


int
ims_pool_w_del(ims_pool_writer_t *w, ims_pool_tree_e tree, const void *key,
    size_t nkey)
{
    int      rc;
    MDB_val  k;

    k.mv_size = nkey;
    k.mv_data = (void *) key;

    rc = mdb_del(w->txn, w->dbi[tree], &k, NULL);

    if (rc == MDB_NOTFOUND) {
        return IMS_POOL_OK;
    }

    if (rc != 0) {
        return ims_pool_w_fail(w, rc);
    }

    w->dirty = 1;

    return IMS_POOL_OK;
}


int
ims_pool_tick(ims_pool_writer_t *w)
{
    int       rc, more;
    unsigned  i;

    static int (*const parts[])(ims_pool_writer_t *w) = {
        ims_pool_clock_tick, ims_pool_tick_feed, ims_pool_tick_avail,
        ims_pool_tick_dropped, ims_pool_tick_removed, ims_pool_tick_hist
    };

    if (w->broken) {
        return IMS_POOL_INTERNAL;
    }

    /* the clock row goes out with the commit */

    w->dirty = 1;
    ims_pool_hold_tick(w);
    ims_pool_fold_tick(w, IMS_POOL_TICK_FOLD);

    for (i = 0, more = IMS_POOL_OK; i < sizeof(parts) / sizeof(parts[0]); i++)
    {
        rc = parts[i](w);

        if (rc < 0) {
            return rc;
        }

        if (rc == IMS_POOL_MORE) {
            more = rc;
        }
    }

    return ims_pool_fold_more(w) ? IMS_POOL_MORE : more;
}


static int
ims_pool_tick_feed(ims_pool_writer_t *w)
{
    int                  rc;
    MDB_val              k, v;
    unsigned             n;
    ims_str_t            row;
    MDB_cursor          *cursor;
    ims_pool_feed_row_t  f;

    rc = mdb_cursor_open(w->txn, w->dbi[IMS_POOL_T_FEED], &cursor);
    if (rc != 0) {
        return ims_pool_w_fail(w, rc);
    }

    for (n = 0; n < IMS_POOL_TICK_ROWS; n++) {
        rc = mdb_cursor_get(cursor, &k, &v, n ? MDB_NEXT : MDB_FIRST);

        if (rc != 0) {
            break;
        }

        /* a damaged row is of no use to anyone: readers see the gap */

        if (ims_pool_row_open(&k, &v, &row) && row.n == sizeof(f)) {
            memcpy(&f, row.p, sizeof(f));

            if (f.pt + IMS_POOL_FEED_KEPT >= w->now) {
                break;
            }

        } else {
            w->damaged++;
        }

        rc = mdb_cursor_del(cursor, 0);

        if (rc != 0) {
            break;
        }
    }

    mdb_cursor_close(cursor);

    if (rc != 0 && rc != MDB_NOTFOUND) {
        return ims_pool_w_fail(w, rc);
    }

    return n == IMS_POOL_TICK_ROWS ? IMS_POOL_MORE : IMS_POOL_OK;
}


static int
ims_pool_tick_avail(ims_pool_writer_t *w)
{
    int       rc, more;
    uint32_t  pool;

    more = IMS_POOL_OK;

    for (pool = 1; pool <= w->state.last_pool; pool++) {
        rc = ims_pool_w_settle(w, pool, IMS_POOL_TICK_ROWS);

        if (rc < 0) {
            return rc;
        }

        if (rc == IMS_POOL_MORE) {
            more = rc;
        }
    }

    return more;
}


int
ims_pool_reader_check(ims_pool_writer_t *w, unsigned *freed)
{
    int  dead;

    dead = 0;

    if (mdb_reader_check(w->env, &dead) != 0) {
        return IMS_POOL_INTERNAL;
    }

    if (freed != NULL) {
        *freed = (unsigned) dead;
    }

    return IMS_POOL_OK;
}
