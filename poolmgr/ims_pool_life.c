/*
 * Copyright (C) nginx-ims contributors
 *
 * Identities and pools that are disabled, enabled again, or removed.
 *
 * An identity that may not be given has its row of `avail` at the end of time.
 * A removed one waits in the queue of pool 0 until it has rested; so long its
 * names stay taken.
 */

#include <errno.h>

#include "ims_pool_wint.h"
#include "sip/ims_sip_uri.h"


#define IMS_POOL_LIFE_ROWS  500     /* a call of housekeeping */


static int ims_pool_life_find(ims_pool_writer_t *w, ims_str_t name,
    ims_pool_rec_t *rec, ims_pool_t *pool);
static int ims_pool_life_remove(ims_pool_writer_t *w, ims_pool_rec_t *rec,
    ims_pool_st_e st, bool *ended);
static int ims_pool_forget_names(ims_pool_writer_t *w, uint64_t ident,
    uint32_t past);
static int ims_pool_forget_uri(ims_pool_writer_t *w, const void *key,
    size_t n, uint64_t ident);
static int ims_pool_forget_holder(ims_pool_writer_t *w,
    const ims_pool_rec_t *rec);
static int ims_pool_tick_rows(ims_pool_writer_t *w, uint32_t pool,
    uint64_t until, ims_pool_avail_t *rows, unsigned max, unsigned *n);
static int ims_pool_tick_drop(ims_pool_writer_t *w, uint32_t number);


/* an IMPU has a scheme, an IMPI has none */

int
ims_pool_find(ims_pool_writer_t *w, ims_str_t name, uint64_t *ident)
{
    int             rc;
    uint8_t         key[IMS_POOL_KEY_MAX];
    ptrdiff_t       n;
    ims_pool_uri_t  uri;

    if (name.n != 0 && memchr(name.p, ':', name.n) == NULL) {
        n = (ptrdiff_t) ims_pool_impi_key(key, sizeof(key), name);

    } else {
        n = ims_sip_fold(key, sizeof(key), name);
    }

    if (n <= 0) {
        return IMS_POOL_BADARG;
    }

    rc = ims_pool_w_copy(w, IMS_POOL_T_URI, key, (size_t) n, &uri,
                         sizeof(uri));

    if (rc == IMS_POOL_OK) {
        *ident = uri.ident;
    }

    return rc;
}


static int
ims_pool_life_find(ims_pool_writer_t *w, ims_str_t name, ims_pool_rec_t *rec,
    ims_pool_t *pool)
{
    int       rc;
    uint64_t  ident;

    if (w->broken) {
        return IMS_POOL_INTERNAL;
    }

    rc = ims_pool_find(w, name, &ident);

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_w_rec(w, ident, rec);
    }

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    if (ims_pool_w_pool(w, rec->pool, pool) != IMS_POOL_OK) {
        return IMS_POOL_INTERNAL;
    }

    /* an import's rows are the import's; what is removed stays so */

    return rec->flags & IMS_POOL_F_STAGED ? IMS_POOL_BUSY
           : rec->flags & IMS_POOL_F_REMOVING ? IMS_POOL_NOTFOUND
           : IMS_POOL_OK;
}


int
ims_pool_disable(ims_pool_writer_t *w, ims_str_t name, bool now, bool *ended)
{
    int             rc;
    uint16_t        flags;
    ims_pool_t      pool;
    ims_pool_rec_t  rec;

    *ended = false;

    rc = ims_pool_life_find(w, name, &rec, &pool);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    flags = rec.flags;

    if (ims_pool_state_of(&rec, pool.head.fence, w->now)
        != IMS_POOL_ST_LEASED)
    {
        flags |= IMS_POOL_F_DISABLED;

    } else if (now) {
        flags |= IMS_POOL_F_DISABLED;
        *ended = true;

    } else {
        flags |= IMS_POOL_F_CLOSING;
    }

    if (flags == rec.flags) {
        return IMS_POOL_OK;
    }

    rc = ims_pool_w_avail_place(w, &rec, flags);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    return *ended ? ims_pool_w_end(w, &rec, IMS_POOL_END_DISABLED)
                  : ims_pool_w_put_rec(w, &rec);
}


int
ims_pool_enable(ims_pool_writer_t *w, ims_str_t name)
{
    int             rc;
    ims_pool_t      pool;
    ims_pool_rec_t  rec;

    rc = ims_pool_life_find(w, name, &rec, &pool);

    if (rc != IMS_POOL_OK || !(rec.flags & IMS_POOL_F_SHUT)) {
        return rc;
    }

    rc = ims_pool_w_avail_place(w, &rec,
                                (uint16_t) (rec.flags & ~IMS_POOL_F_SHUT));

    return rc == IMS_POOL_OK ? ims_pool_w_put_rec(w, &rec) : rc;
}


int
ims_pool_remove(ims_pool_writer_t *w, ims_str_t name, bool *ended)
{
    int             rc;
    ims_pool_t      pool;
    ims_pool_rec_t  rec;

    *ended = false;

    rc = ims_pool_life_find(w, name, &rec, &pool);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    return ims_pool_life_remove(w, &rec,
                                ims_pool_state_of(&rec, pool.head.fence,
                                                  w->now),
                                ended);
}


static int
ims_pool_life_remove(ims_pool_writer_t *w, ims_pool_rec_t *rec,
    ims_pool_st_e st, bool *ended)
{
    int  rc;

    rc = ims_pool_w_avail_place(w, rec, rec->flags | IMS_POOL_F_REMOVING);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    *ended = st == IMS_POOL_ST_LEASED;

    return *ended ? ims_pool_w_end(w, rec, IMS_POOL_END_REMOVED)
                  : ims_pool_w_put_rec(w, rec);
}


/* --- after the rest ---------------------------------------------------- */

int
ims_pool_w_forget(ims_pool_writer_t *w, uint64_t ident)
{
    int               rc;
    uint8_t           akey[IMS_POOL_AVAIL_KEY];
    ims_pool_t        pool;
    ims_pool_rec_t    rec;
    ims_pool_avail_t  a;

    rc = ims_pool_w_rec(w, ident, &rec);

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_w_pool(w, rec.pool, &pool);
    }

    if (rc != IMS_POOL_OK) {
        return ims_pool_w_fail(w, 0);
    }

    rc = ims_pool_w_past(w, &rec, &pool.head);

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_forget_holder(w, &rec);
    }

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_forget_names(w, ident, rec.lease ? rec.pool : 0);
    }

    if (rc == IMS_POOL_OK) {
        a = ims_pool_avail_of(&rec);
        ims_pool_avail_key(akey, &a);
        rc = ims_pool_w_del(w, IMS_POOL_T_AVAIL, akey, sizeof(akey));
    }

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_w_del_rec(w, ident);
    }

    if (rc == IMS_POOL_OK) {
        pool.head.identities--;
        rc = ims_pool_w_put_pool(w, &pool);
    }

    return rc;
}


int
ims_pool_w_unstage(ims_pool_writer_t *w, uint64_t ident)
{
    int  rc;

    rc = ims_pool_forget_names(w, ident, 0);

    return rc == IMS_POOL_OK ? ims_pool_w_del_rec(w, ident) : rc;
}


static int
ims_pool_forget_holder(ims_pool_writer_t *w, const ims_pool_rec_t *rec)
{
    size_t   n;
    uint8_t  key[IMS_POOL_USER_KEY];

    if (rec->lease == 0 || (rec->flags & IMS_POOL_F_PARTED)) {
        return IMS_POOL_OK;
    }

    n = ims_pool_holder_key(key, rec);

    return ims_pool_users_del(&w->users, ims_str_set(key, n), rec->ident)
           ? IMS_POOL_OK : ims_pool_w_fail(w, ENOMEM);
}


/* past: the pool of one that has a history, which still asks for names */

static int
ims_pool_forget_names(ims_pool_writer_t *w, uint64_t ident, uint32_t past)
{
    int               rc;
    size_t            n;
    uint8_t           key[8], uri[IMS_POOL_KEY_MAX];
    unsigned          i;
    ptrdiff_t         len;
    ims_pool_names_t  names;

    rc = ims_pool_w_names(w, ident, &names);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    n = ims_pool_impi_key(uri, sizeof(uri), names.impi);
    rc = ims_pool_forget_uri(w, uri, n, ident);

    for (i = 0; rc == IMS_POOL_OK && i < names.nimpu; i++) {
        len = ims_sip_fold(uri, sizeof(uri), names.impu[i].given);

        if (len > 0) {
            rc = ims_pool_forget_uri(w, uri, (size_t) len, ident);
        }
    }

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    if (past) {
        return ims_pool_former_keep(w, &names, past);
    }

    ims_pool_be64(key, ident);

    return ims_pool_w_del(w, IMS_POOL_T_NAME, key, sizeof(key));
}


/* only rows that lead to this identity go: the others are somebody else's */

static int
ims_pool_forget_uri(ims_pool_writer_t *w, const void *key, size_t n,
    uint64_t ident)
{
    int             rc;
    ims_pool_uri_t  uri;

    rc = ims_pool_w_copy(w, IMS_POOL_T_URI, key, n, &uri, sizeof(uri));

    if (rc == IMS_POOL_OK && uri.ident == ident) {
        return ims_pool_w_del(w, IMS_POOL_T_URI, key, n);
    }

    return rc == IMS_POOL_NOTFOUND ? IMS_POOL_OK : rc;
}


/* --- housekeeping ------------------------------------------------------- */

/* the first rows of one pool's part of `avail` */

static int
ims_pool_tick_rows(ims_pool_writer_t *w, uint32_t pool, uint64_t until,
    ims_pool_avail_t *rows, unsigned max, unsigned *n)
{
    int               rc;
    MDB_val           k, v;
    uint8_t           key[IMS_POOL_AVAIL_KEY];
    MDB_cursor       *cursor;
    ims_pool_avail_t  a;

    *n = 0;

    rc = mdb_cursor_open(w->txn, w->dbi[IMS_POOL_T_AVAIL], &cursor);
    if (rc != 0) {
        return ims_pool_w_fail(w, rc);
    }

    memset(&a, 0, sizeof(a));
    a.pool = pool;
    ims_pool_avail_key(key, &a);

    k.mv_size = sizeof(key);
    k.mv_data = key;

    while (*n < max) {
        rc = mdb_cursor_get(cursor, &k, &v, *n ? MDB_NEXT : MDB_SET_RANGE);

        if (rc != 0 || !ims_pool_avail_parse(&k, &a) || a.pool != pool
            || a.time > until)
        {
            break;
        }

        rows[(*n)++] = a;
    }

    mdb_cursor_close(cursor);

    return rc == 0 || rc == MDB_NOTFOUND ? IMS_POOL_OK
                                         : ims_pool_w_fail(w, rc);
}


int
ims_pool_tick_removed(ims_pool_writer_t *w)
{
    int               rc;
    unsigned          i, n;
    ims_pool_rec_t    rec;
    ims_pool_avail_t  rows[IMS_POOL_LIFE_ROWS];

    rc = ims_pool_tick_rows(w, IMS_POOL_REMOVED, w->now, rows,
                            IMS_POOL_LIFE_ROWS, &n);

    for (i = 0; rc == IMS_POOL_OK && i < n; i++) {

        if (ims_pool_w_rec(w, rows[i].ident, &rec) != IMS_POOL_OK) {
            continue;
        }

        if (rec.rest <= w->now) {
            rc = ims_pool_w_forget(w, rec.ident);
            continue;
        }

        rc = ims_pool_w_avail_place(w, &rec, rec.flags);

        if (rc == IMS_POOL_OK) {
            rc = ims_pool_w_put_rec(w, &rec);
        }
    }

    return rc != IMS_POOL_OK ? rc
           : n == IMS_POOL_LIFE_ROWS ? IMS_POOL_MORE : IMS_POOL_OK;
}


/* of a pool that is being dropped all identities are removed, then it goes */

static int
ims_pool_tick_drop(ims_pool_writer_t *w, uint32_t number)
{
    int               rc;
    bool              ended;
    unsigned          i, n;
    ims_pool_t        pool;
    ims_pool_rec_t    rec;
    ims_pool_avail_t  rows[IMS_POOL_LIFE_ROWS];
    uint8_t           key[4];

    rc = ims_pool_w_pool(w, number, &pool);

    if (rc != IMS_POOL_OK || !(pool.head.flags & IMS_POOL_PF_DROPPING)) {
        return rc == IMS_POOL_NOTFOUND ? IMS_POOL_OK : rc;
    }

    rc = ims_pool_tick_rows(w, number, UINT64_MAX, rows, IMS_POOL_LIFE_ROWS,
                            &n);

    for (i = 0; rc == IMS_POOL_OK && i < n; i++) {
        if (ims_pool_w_rec(w, rows[i].ident, &rec) == IMS_POOL_OK) {
            rc = ims_pool_life_remove(w, &rec,
                                      ims_pool_state_of(&rec, pool.head.fence,
                                                        w->now),
                                      &ended);
        }
    }

    if (rc != IMS_POOL_OK || n == IMS_POOL_LIFE_ROWS) {
        return rc == IMS_POOL_OK ? IMS_POOL_MORE : rc;
    }

    /* an import into it would lose its ground */

    if (pool.head.identities != 0 || ims_pool_w_importing(w)) {
        return IMS_POOL_OK;
    }

    rc = ims_pool_w_del(w, IMS_POOL_T_POOLNAME, pool.name, pool.head.nname);

    ims_pool_be32(key, number);

    return rc == IMS_POOL_OK
           ? ims_pool_w_del(w, IMS_POOL_T_POOL, key, sizeof(key)) : rc;
}


int
ims_pool_tick_dropped(ims_pool_writer_t *w)
{
    int       rc, more;
    uint32_t  number;

    more = IMS_POOL_OK;

    for (number = 1; number <= w->state.last_pool; number++) {
        rc = ims_pool_tick_drop(w, number);

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
ims_pool_hold_for(ims_pool_writer_t *w, uint64_t ms)
{
    if (w->broken) {
        return IMS_POOL_INTERNAL;
    }

    w->state.hold_asked = ms ? w->now + ms : 0;
    w->dirty = 1;

    return IMS_POOL_OK;
}


/* --- pools --------------------------------------------------------------- */

int
ims_pool_pool_disable(ims_pool_writer_t *w, ims_str_t name, bool now)
{
    int         rc;
    ims_pool_t  pool;

    if (w->broken) {
        return IMS_POOL_INTERNAL;
    }

    rc = ims_pool_w_by_name(w, name, &pool);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    pool.head.flags |= IMS_POOL_PF_DISABLED;

    return now ? ims_pool_w_fence(w, &pool, w->state.last_lease)
               : ims_pool_w_put_pool(w, &pool);
}


int
ims_pool_pool_enable(ims_pool_writer_t *w, ims_str_t name)
{
    int         rc;
    ims_pool_t  pool;

    if (w->broken) {
        return IMS_POOL_INTERNAL;
    }

    rc = ims_pool_w_by_name(w, name, &pool);

    if (rc != IMS_POOL_OK || !(pool.head.flags & IMS_POOL_PF_DISABLED)) {
        return rc;
    }

    pool.head.flags &= ~IMS_POOL_PF_DISABLED;

    return ims_pool_w_put_pool(w, &pool);
}


int
ims_pool_drop(ims_pool_writer_t *w, ims_str_t name, bool all)
{
    int         rc;
    ims_pool_t  pool;

    if (w->broken) {
        return IMS_POOL_INTERNAL;
    }

    rc = ims_pool_w_by_name(w, name, &pool);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    if (ims_pool_w_importing(w)) {
        return IMS_POOL_BUSY;
    }

    if (pool.head.identities != 0 && !all) {
        return IMS_POOL_NOTEMPTY;
    }

    pool.head.flags |= IMS_POOL_PF_DROPPING;

    rc = ims_pool_w_fence(w, &pool, w->state.last_lease);

    /* at once if there is little to do; housekeeping does the rest */

    return rc == IMS_POOL_OK
           ? (ims_pool_tick_drop(w, pool.head.pool) < 0 ? IMS_POOL_INTERNAL
                                                        : IMS_POOL_OK)
           : rc;
}
