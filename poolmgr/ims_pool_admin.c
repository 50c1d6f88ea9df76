/*
 * Copyright (C) nginx-ims contributors
 *
 * Pools.
 */

#include "ims_pool_wint.h"


#define IMS_POOL_TTL         (600 * 1000ull)
#define IMS_POOL_TTL_MAX     (3600 * 1000ull)
#define IMS_POOL_DELAY       (64 * 1000ull)
#define IMS_POOL_MARGIN      (30 * 1000ull)
#define IMS_POOL_CORE_MIN    60

/* what an administrator may ask for, ms and s */
#define IMS_POOL_TTL_LEAST   1000ull
#define IMS_POOL_TTL_MOST    (30 * 86400 * 1000ull)
#define IMS_POOL_DELAY_MOST  (86400 * 1000ull)
#define IMS_POOL_CORE_MOST   86400


static bool ims_pool_name_ok(ims_str_t name);
static bool ims_pool_home_ok(ims_str_t home);
static bool ims_pool_realms_ok(ims_str_t realms);
static bool ims_pool_times_ok(const ims_pool_head_t *h);
static void ims_pool_spec_times(ims_pool_head_t *h,
    const ims_pool_spec_t *spec);
static int ims_pool_put_new(ims_pool_writer_t *w, ims_pool_t *pool);
static int ims_pool_w_fence_row(ims_pool_writer_t *w, const ims_pool_t *pool);


int
ims_pool_create(ims_pool_writer_t *w, const ims_pool_spec_t *spec,
    uint32_t *pool)
{
    int               rc;
    ims_pool_t        p;
    ims_pool_head_t  *h;

    if (w->broken) {
        return IMS_POOL_INTERNAL;
    }

    if (!ims_pool_name_ok(spec->name) || !ims_pool_home_ok(spec->home)
        || !ims_pool_realms_ok(spec->realms))
    {
        return IMS_POOL_BADARG;
    }

    rc = ims_pool_w_by_name(w, spec->name, &p);

    if (rc != IMS_POOL_NOPOOL) {
        return rc == IMS_POOL_OK ? IMS_POOL_EXISTS : rc;
    }

    if (!ims_pool_space_for(w, IMS_POOL_SPACE_ALL)) {
        return IMS_POOL_NOSPACE;
    }

    memset(&p, 0, sizeof(p));
    h = &p.head;

    h->ttl = IMS_POOL_TTL;
    h->delay = IMS_POOL_DELAY;
    h->core_min = IMS_POOL_CORE_MIN;
    h->per = spec->per;
    h->edges = IMS_POOL_EDGES_LOCAL;
    h->created_wall = w->wall;

    ims_pool_spec_times(h, spec);

    h->nname = (uint16_t) spec->name.n;
    memcpy(p.name, spec->name.p, spec->name.n);

    h->nhome = (uint16_t) spec->home.n;
    memcpy(p.home, spec->home.p, spec->home.n);

    h->nrealms = (uint16_t) spec->realms.n;

    if (spec->realms.n) {
        memcpy(p.realms, spec->realms.p, spec->realms.n);
    }

    if (!ims_pool_times_ok(h)) {
        return IMS_POOL_BADARG;
    }

    rc = ims_pool_put_new(w, &p);

    if (rc == IMS_POOL_OK) {
        *pool = h->pool;
    }

    return rc;
}


static int
ims_pool_put_new(ims_pool_writer_t *w, ims_pool_t *pool)
{
    int               rc;
    ims_pool_head_t  *h;

    h = &pool->head;

    /* the floor first: it must cover what this pool will promise */

    rc = ims_pool_floor_write(w, w->floor.incarnation, ims_pool_term(h));

    if (rc != IMS_POOL_OK) {
        return rc == IMS_POOL_NOSPACE ? rc : IMS_POOL_INTERNAL;
    }

    h->pool = ++w->state.last_pool;

    /* ids given before this pool was made are none of its own */

    h->fence = w->state.last_lease;
    h->fence_pt = w->now;

    rc = ims_pool_w_put(w, IMS_POOL_T_POOLNAME, pool->name, h->nname,
                        &h->pool, sizeof(h->pool), 0);

    return rc == IMS_POOL_OK ? ims_pool_w_put_pool(w, pool) : rc;
}


int
ims_pool_alter(ims_pool_writer_t *w, const ims_pool_spec_t *spec)
{
    int               rc;
    ims_pool_t        p;
    ims_pool_head_t  *h;

    if (w->broken) {
        return IMS_POOL_INTERNAL;
    }

    rc = ims_pool_w_by_name(w, spec->name, &p);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    h = &p.head;

    if (spec->home.n || !ims_pool_realms_ok(spec->realms)
        || (spec->has_per && spec->per != h->per))
    {
        return IMS_POOL_BADARG;
    }

    ims_pool_spec_times(h, spec);

    if (spec->realms.p != NULL) {
        h->nrealms = (uint16_t) spec->realms.n;
        memcpy(p.realms, spec->realms.p, spec->realms.n);
        p.realms[spec->realms.n] = '\0';
    }

    if (!ims_pool_times_ok(h)) {
        return IMS_POOL_BADARG;
    }

    rc = ims_pool_floor_write(w, w->floor.incarnation, ims_pool_term(h));

    if (rc != IMS_POOL_OK) {
        return rc == IMS_POOL_NOSPACE ? rc : IMS_POOL_INTERNAL;
    }

    return ims_pool_w_put_pool(w, &p);
}


/* fields of spec that are 0 keep what they have; new ones get the default */

static void
ims_pool_spec_times(ims_pool_head_t *h, const ims_pool_spec_t *spec)
{
    if (spec->ttl) {
        h->ttl = spec->ttl;
    }

    if (spec->ttl_max) {
        h->ttl_max = spec->ttl_max;

    } else if (h->ttl_max == 0) {
        h->ttl_max = h->ttl > IMS_POOL_TTL_MAX ? h->ttl : IMS_POOL_TTL_MAX;
    }

    if (spec->delay) {
        h->delay = spec->delay;
    }

    if (spec->margin) {
        h->margin = spec->margin;

    } else if (h->margin == 0) {
        h->margin = IMS_POOL_MARGIN + h->ttl_max / 1000;
    }

    if (spec->core_min) {
        h->core_min = spec->core_min;
    }

    if (spec->has_purge) {
        h->purge = spec->purge;
    }
}


static bool
ims_pool_times_ok(const ims_pool_head_t *h)
{
    return h->ttl >= IMS_POOL_TTL_LEAST && h->ttl <= h->ttl_max
           && h->ttl_max <= IMS_POOL_TTL_MOST
           && h->delay <= IMS_POOL_DELAY_MOST
           && h->margin <= IMS_POOL_DELAY_MOST
           && h->core_min <= IMS_POOL_CORE_MOST;
}


static bool
ims_pool_name_char(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z')
           || (c >= 'A' && c <= 'Z') || c == '-' || c == '.' || c == '_';
}


static bool
ims_pool_name_ok(ims_str_t name)
{
    size_t  i;

    for (i = 0; i < name.n; i++) {
        if (!ims_pool_name_char(name.p[i])) {
            return false;
        }
    }

    return name.n != 0 && name.n <= IMS_POOL_NAME_MAX;
}


/* a host name in lower case: it is compared as bytes, and written into SIP */

static bool
ims_pool_home_ok(ims_str_t home)
{
    size_t  i;

    for (i = 0; i < home.n; i++) {
        if (!ims_pool_name_char(home.p[i]) || home.p[i] == '_'
            || home.p[i] != ims_lower(home.p[i]))
        {
            return false;
        }
    }

    return home.n != 0 && home.n <= IMS_POOL_HOME_MAX && home.p[0] != '.'
           && home.p[0] != '-' && home.p[home.n - 1] != '.';
}


/* words of printable ASCII with one comma between two of them */

static bool
ims_pool_realms_ok(ims_str_t realms)
{
    size_t  i, word;

    if (realms.n == 0) {
        return true;
    }

    word = 0;

    for (i = 0; i < realms.n; i++) {

        if (realms.p[i] == ',') {
            if (word == 0) {
                return false;
            }

            word = 0;
            continue;
        }

        if (realms.p[i] <= ' ' || realms.p[i] >= 0x7f
            || ++word > IMS_POOL_REALM_MAX)
        {
            return false;
        }
    }

    return word != 0 && realms.n <= IMS_POOL_REALMS_MAX;
}


uint64_t
ims_pool_term(const ims_pool_head_t *h)
{
    return h->ttl_max + h->delay + h->margin;
}


int
ims_pool_w_term(ims_pool_writer_t *w, uint64_t *term)
{
    int         rc;
    uint32_t    number;
    ims_pool_t  pool;

    *term = 0;

    for (number = 1; number <= w->state.last_pool; number++) {

        rc = ims_pool_w_pool(w, number, &pool);

        if (rc == IMS_POOL_NOTFOUND) {
            continue;
        }

        if (rc != IMS_POOL_OK) {
            return rc;
        }

        if (*term < ims_pool_term(&pool.head)) {
            *term = ims_pool_term(&pool.head);
        }
    }

    return IMS_POOL_OK;
}


int
ims_pool_w_fence(ims_pool_writer_t *w, ims_pool_t *pool, uint64_t fence)
{
    int             rc;
    ims_pool_rec_t  whole;

    pool->head.fence = fence;
    pool->head.fence_pt = w->now;

    rc = ims_pool_w_put_pool(w, pool);

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_w_fence_row(w, pool);
    }

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    /* ident 0 */

    memset(&whole, 0, sizeof(whole));
    whole.pool = pool->head.pool;
    whole.lease = fence;

    return ims_pool_w_feed(w, &whole, IMS_POOL_END_FENCED);
}


/* history: the first fence above a lease is the one that ended it */

static int
ims_pool_w_fence_row(ims_pool_writer_t *w, const ims_pool_t *pool)
{
    int              rc;
    uint8_t          key[16];
    ims_pool_hist_t  row;

    memset(&row, 0, sizeof(row));

    row.ident = pool->head.pool;
    row.lease = pool->head.fence;
    row.pool = pool->head.pool;
    row.reason = IMS_POOL_END_FENCED;
    row.start = w->now;
    row.end = w->now;
    row.start_wall = w->wall;
    row.end_wall = w->wall;

    ims_pool_be64(key, row.ident);
    ims_pool_be64(key + 8, row.lease);

    rc = ims_pool_w_put(w, IMS_POOL_T_HIST, key, sizeof(key), &row,
                        sizeof(row), MDB_NOOVERWRITE);

    return rc == IMS_POOL_EXISTS ? IMS_POOL_OK : rc;
}


int
ims_pool_fenced_at(MDB_txn *txn, const MDB_dbi *dbi, uint32_t pool,
    uint64_t lease, uint64_t *pt)
{
    int              rc;
    MDB_val          k, v;
    uint8_t          key[16];
    ims_str_t        text;
    MDB_cursor      *cursor;
    ims_pool_hist_t  row;

    if (mdb_cursor_open(txn, dbi[IMS_POOL_T_HIST], &cursor) != 0) {
        return IMS_POOL_UNKNOWN;
    }

    ims_pool_be64(key, pool);
    ims_pool_be64(key + 8, lease);
    k.mv_size = sizeof(key);
    k.mv_data = key;

    rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);

    if (rc != 0 || k.mv_size != sizeof(key) || memcmp(k.mv_data, key, 8) != 0)
    {
        rc = rc == 0 || rc == MDB_NOTFOUND ? IMS_POOL_NOTFOUND
                                           : IMS_POOL_UNKNOWN;

    } else if (ims_pool_row_open(&k, &v, &text) && text.n == sizeof(row)) {
        memcpy(&row, text.p, sizeof(row));
        *pt = row.start;
        rc = IMS_POOL_OK;

    } else {
        rc = IMS_POOL_UNKNOWN;
    }

    mdb_cursor_close(cursor);

    return rc;
}


int
ims_pool_w_fence_all(ims_pool_writer_t *w, uint64_t fence)
{
    int         rc;
    uint32_t    number;
    ims_pool_t  pool;

    for (number = 1; number <= w->state.last_pool; number++) {

        rc = ims_pool_w_pool(w, number, &pool);

        if (rc == IMS_POOL_NOTFOUND) {
            continue;
        }

        if (rc == IMS_POOL_OK) {
            rc = ims_pool_w_fence(w, &pool, fence);
        }

        if (rc != IMS_POOL_OK) {
            return rc;
        }
    }

    return IMS_POOL_OK;
}
