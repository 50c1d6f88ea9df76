/*
 * Copyright (C) nginx-ims contributors
 *
 * Reading for people: states, lists, figures.  Snapshots of the last commit,
 * a bounded number of rows each.
 */

#include "ims_pool_wint.h"


ims_pool_st_e
ims_pool_state_of(const ims_pool_rec_t *rec, uint64_t fence, uint64_t pt)
{
    if (rec->flags & IMS_POOL_F_OFF) {
        return IMS_POOL_ST_OFF;
    }

    if (rec->lease > fence && pt < rec->end) {
        return IMS_POOL_ST_LEASED;
    }

    if (rec->flags & IMS_POOL_F_CLOSING) {
        return IMS_POOL_ST_OFF;
    }

    return pt < rec->rest ? IMS_POOL_ST_RESTING : IMS_POOL_ST_FREE;
}


const char *
ims_pool_st_text(ims_pool_st_e st)
{
    static const char *const  text[] = {
        "free", "leased", "resting", "off"
    };

    return (size_t) st < sizeof(text) / sizeof(text[0]) ? text[st] : "?";
}


/* in a batch what it has done so far, else what is committed */

int
ims_pool_get(ims_pool_writer_t *w, ims_str_t name, ims_pool_t *pool)
{
    int                 rc;
    uint32_t            number;
    ims_pool_reader_t  *r;

    if (w->txn != NULL) {
        return w->broken ? IMS_POOL_INTERNAL
                         : ims_pool_w_by_name(w, name, pool);
    }

    if (name.n == 0 || name.n > IMS_POOL_NAME_MAX) {
        return IMS_POOL_NOPOOL;
    }

    r = w->reader;

    if (ims_pool_snap(r) != IMS_POOL_OK) {
        return IMS_POOL_INTERNAL;
    }

    rc = ims_pool_row_copy(r->txn, r->dbi[IMS_POOL_T_POOLNAME], name.p,
                           name.n, &number, sizeof(number));

    if (rc == IMS_POOL_NOTFOUND) {
        rc = IMS_POOL_NOPOOL;

    } else if (rc != IMS_POOL_OK
               || ims_pool_pool(r->txn, r->dbi, number, pool) != IMS_POOL_OK)
    {
        rc = IMS_POOL_INTERNAL;
    }

    ims_pool_unsnap(r);

    return rc;
}


/* of several sessions the first that is live, else the first */

static int
ims_pool_by_hash(ims_pool_writer_t *w, const ims_pool_t *pool,
    const uint8_t *hash, uint64_t *ident)
{
    int                 rc, found;
    bool                all;
    size_t              pos;
    uint8_t             text[IMS_POOL_USER_KEY];
    uint64_t            one;
    ims_str_t           key;
    ims_pool_rec_t      rec;
    ims_pool_reader_t  *r;

    r = w->reader;
    found = IMS_POOL_NOTFOUND;
    all = pool->head.per == IMS_POOL_PER_SESSION;
    key = ims_str_set(text, ims_pool_user_key(text, hash, pool->head.pool, 0));
    pos = 0;

    while (ims_pool_users_next(&w->users, key, all, &pos, &one)) {

        rc = ims_pool_rec(r->txn, r->dbi, one, &rec);

        if (rc != IMS_POOL_OK) {
            /* it may well be his */
            found = found == IMS_POOL_OK ? found : IMS_POOL_INTERNAL;
            continue;
        }

        if (!ims_pool_users_is(&rec, key, all)) {
            continue;
        }

        (void) ims_pool_recent_add(r->recent, &rec);

        if (ims_pool_state_of(&rec, pool->head.fence, ims_pool_pt(r))
            == IMS_POOL_ST_LEASED)
        {
            *ident = one;
            return IMS_POOL_OK;
        }

        if (found != IMS_POOL_OK) {
            *ident = one;
            found = IMS_POOL_OK;
        }
    }

    return found;
}


int
ims_pool_by_user(ims_pool_writer_t *w, ims_str_t pool, ims_str_t realm,
    ims_str_t user, uint64_t *ident)
{
    int                 rc;
    uint8_t             hash[IMS_POOL_HOLDER_LEN];
    unsigned            i;
    ims_pool_t          p;
    ims_pool_reader_t  *r;

    if (!ims_pool_w_who_ok(realm, user)) {
        return IMS_POOL_BADARG;
    }

    rc = ims_pool_get(w, pool, &p);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    r = w->reader;

    if (ims_pool_snap(r) != IMS_POOL_OK) {
        return IMS_POOL_INTERNAL;
    }

    rc = IMS_POOL_NOTFOUND;

    for (i = 0; rc == IMS_POOL_NOTFOUND && i < w->keys.nhash; i++) {

        ims_pool_w_hash(w, &w->keys.hash[i].key, realm, user, hash);
        rc = ims_pool_by_hash(w, &p, hash, ident);
    }

    ims_pool_unsnap(r);

    return rc;
}


int
ims_pool_list(ims_pool_writer_t *w, ims_pool_pool_pt cb, void *ctx)
{
    int                 rc;
    uint32_t            number;
    ims_pool_t          pool;
    ims_pool_reader_t  *r;

    r = w->reader;

    if (ims_pool_snap(r) != IMS_POOL_OK) {
        return IMS_POOL_INTERNAL;
    }

    rc = IMS_POOL_OK;

    for (number = 1; number <= r->state.last_pool; number++) {

        rc = ims_pool_pool(r->txn, r->dbi, number, &pool);

        if (rc == IMS_POOL_NOTFOUND) {
            rc = IMS_POOL_OK;
            continue;
        }

        if (rc != IMS_POOL_OK) {
            rc = IMS_POOL_INTERNAL;
            break;
        }

        if (cb(ctx, &pool) != 0) {
            break;
        }
    }

    ims_pool_unsnap(r);

    return rc;
}


/* the fence of a pool, kept from one record to the next */

static bool
ims_pool_walk_fence(ims_pool_reader_t *r, uint32_t number, ims_pool_t *pool)
{
    return pool->head.pool == number
           || ims_pool_pool(r->txn, r->dbi, number, pool) == IMS_POOL_OK;
}


int
ims_pool_walk(ims_pool_writer_t *w, uint32_t number, int state, uint64_t *pos,
    unsigned max, ims_pool_rec_pt cb, void *ctx)
{
    int                 rc;
    unsigned            n;
    uint64_t            pt, ident;
    ims_pool_t          pool;
    ims_pool_st_e       st;
    ims_pool_rec_t      rec;
    ims_pool_recs_t     it;
    ims_pool_reader_t  *r;

    r = w->reader;
    pool.head.pool = 0;

    if (ims_pool_snap(r) != IMS_POOL_OK) {
        return IMS_POOL_INTERNAL;
    }

    if (ims_pool_recs_open(&it, r->txn, r->dbi, *pos) != 0) {
        ims_pool_unsnap(r);
        return IMS_POOL_INTERNAL;
    }

    pt = ims_pool_pt(r);

    for (n = 0; n < max; n++) {
        rc = ims_pool_recs_next(&it, &ident, &rec);

        if (rc != IMS_POOL_OK && rc != IMS_POOL_UNKNOWN) {
            break;
        }

        *pos = ident + 1;

        if (rc == IMS_POOL_UNKNOWN) {
            w->damaged++;
            continue;
        }

        (void) ims_pool_recent_add(r->recent, &rec);

        if ((number != 0 && rec.pool != number)
            || !ims_pool_walk_fence(r, rec.pool, &pool))
        {
            continue;
        }

        st = ims_pool_state_of(&rec, pool.head.fence, pt);

        if ((state == -1 || state == (int) st) && cb(ctx, &rec, st) != 0) {
            break;
        }
    }

    ims_pool_recs_close(&it);
    ims_pool_unsnap(r);

    return n == max ? IMS_POOL_MORE : IMS_POOL_OK;
}


static int
ims_pool_stat_row(void *ctx, const ims_pool_rec_t *rec, ims_pool_st_e st)
{
    ims_pool_stat_t  *stat;

    stat = ctx;

    stat->total++;
    stat->count[st]++;

    if ((st == IMS_POOL_ST_LEASED || st == IMS_POOL_ST_RESTING)
        && (stat->first_rest == 0 || rec->rest < stat->first_rest))
    {
        stat->first_rest = rec->rest;
    }

    return 0;
}


int
ims_pool_stat_slice(ims_pool_writer_t *w, uint32_t pool, ims_pool_stat_t *st,
    unsigned max)
{
    return ims_pool_walk(w, pool, -1, &st->pos, max, ims_pool_stat_row, st);
}


static uint64_t
ims_pool_entries(ims_pool_reader_t *r, ims_pool_tree_e tree)
{
    MDB_stat  st;

    return mdb_stat(r->txn, r->dbi[tree], &st) == 0 ? st.ms_entries : 0;
}


int
ims_pool_info(ims_pool_writer_t *w, ims_pool_info_t *info)
{
    MDB_stat            st;
    MDB_envinfo         env;
    ims_pool_reader_t  *r;

    r = w->reader;

    if (ims_pool_snap(r) != IMS_POOL_OK) {
        return IMS_POOL_INTERNAL;
    }

    memset(info, 0, sizeof(ims_pool_info_t));

    info->state = r->state;
    info->now = ims_pool_pt(r);
    info->identities = r->state.records;
    info->users = w->users.n;
    info->renewals = w->fold.recent.old.n + w->fold.recent.new.n;
    info->hist = ims_pool_entries(r, IMS_POOL_T_HIST);
    info->feed = ims_pool_entries(r, IMS_POOL_T_FEED);

    ims_pool_unsnap(r);

    (void) mdb_env_info(w->env, &env);
    (void) mdb_env_stat(w->env, &st);

    info->map_size = env.me_mapsize;
    info->map_used = (uint64_t) (env.me_last_pgno + 1) * st.ms_psize;
    info->reserve = w->reserve;
    info->space_left = ims_pool_space_left(w, &env);
    info->txn = env.me_last_txnid;
    info->readers = env.me_numreaders;
    info->readers_max = env.me_maxreaders;
    info->commits = w->commits;
    info->damaged = w->damaged;

    return IMS_POOL_OK;
}
