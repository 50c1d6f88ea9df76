/*
 * Copyright (C) nginx-ims contributors
 *
 * Leases that end early, what is told of it, and reports: lines 5, 6 and 8 of
 * POOL.md section 1.  An end is brought forward here; `promised` and `rest`
 * stay where they are.
 */

#include "ims_pool_wint.h"
#include "sip/ims_sip_uri.h"


static int ims_pool_revoke(ims_pool_writer_t *w, ims_pool_rec_t *rec,
    bool bar, unsigned *n);
static int ims_pool_revoke_holder(ims_pool_writer_t *w, uint32_t pool,
    ims_str_t realm, ims_str_t user, bool bar, unsigned *known, unsigned *n);
static bool ims_pool_report_own(ims_pool_writer_t *w,
    const ims_pool_rec_t *rec, uint64_t lease);
static int ims_pool_report_reg(ims_pool_writer_t *w,
    const ims_pool_reg_t *reg);


int
ims_pool_w_feed(ims_pool_writer_t *w, const ims_pool_rec_t *rec,
    ims_pool_end_e reason)
{
    uint8_t              key[8];
    ims_pool_feed_row_t  row;

    memset(&row, 0, sizeof(row));

    row.seq = ++w->state.feed_seq;
    row.ident = rec->ident;
    row.lease = rec->lease;
    row.pt = w->now;
    row.pool = rec->pool;
    row.reason = reason;

    ims_pool_be64(key, row.seq);
    ims_pool_purge_note(w, rec->pool, rec->ident, rec->lease, reason);

    return ims_pool_w_put(w, IMS_POOL_T_FEED, key, sizeof(key), &row,
                          sizeof(row), 0);
}


int
ims_pool_w_end(ims_pool_writer_t *w, ims_pool_rec_t *rec,
    ims_pool_end_e reason)
{
    int  rc;

    rec->end = w->now;

    if (rec->flags & IMS_POOL_F_PER_SESSION) {
        rec->session[0].end = w->now;

    } else {
        rec->nsession = 0;
        memset(rec->session, 0, sizeof(rec->session));
    }

    rc = ims_pool_w_put_rec(w, rec);

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_w_hist(w, rec, w->now, reason);
    }

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_w_feed(w, rec, reason);
    }

    return rc;
}


static int
ims_pool_revoke(ims_pool_writer_t *w, ims_pool_rec_t *rec, bool bar,
    unsigned *n)
{
    int         rc;
    ims_pool_t  pool;

    rc = ims_pool_w_pool(w, rec->pool, &pool);

    if (rc != IMS_POOL_OK) {
        return IMS_POOL_INTERNAL;
    }

    if (ims_pool_state_of(rec, pool.head.fence, w->now)
        != IMS_POOL_ST_LEASED)
    {
        if (!bar || rec->lease == 0) {
            return IMS_POOL_ENDED;
        }

        rec->flags |= IMS_POOL_F_BARRED;

        return ims_pool_w_put_rec(w, rec);
    }

    if (bar) {
        rec->flags |= IMS_POOL_F_BARRED;
    }

    rc = ims_pool_w_end(w, rec, IMS_POOL_END_REVOKED);

    if (rc == IMS_POOL_OK) {
        (*n)++;
    }

    return rc;
}


int
ims_pool_revoke_lease(ims_pool_writer_t *w, uint64_t ident, uint64_t lease,
    bool bar, unsigned *n)
{
    int             rc;
    ims_pool_rec_t  rec;

    *n = 0;

    if (w->broken) {
        return IMS_POOL_INTERNAL;
    }

    rc = ims_pool_w_rec(w, ident, &rec);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    if (rec.lease != lease) {
        return IMS_POOL_ENDED;
    }

    return ims_pool_revoke(w, &rec, bar, n);
}


int
ims_pool_revoke_impu(ims_pool_writer_t *w, ims_str_t impu, bool bar,
    unsigned *n)
{
    int             rc;
    uint8_t         key[IMS_POOL_KEY_MAX];
    ptrdiff_t       len;
    ims_pool_rec_t  rec;
    ims_pool_uri_t  uri;

    *n = 0;

    if (w->broken) {
        return IMS_POOL_INTERNAL;
    }

    len = ims_sip_fold(key, sizeof(key), impu);

    if (len <= 0) {
        return IMS_POOL_BADARG;
    }

    rc = ims_pool_w_copy(w, IMS_POOL_T_URI, key, (size_t) len, &uri,
                         sizeof(uri));

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_w_rec(w, uri.ident, &rec);
    }

    return rc == IMS_POOL_OK ? ims_pool_revoke(w, &rec, bar, n) : rc;
}


int
ims_pool_revoke_user(ims_pool_writer_t *w, ims_str_t pool, ims_str_t realm,
    ims_str_t user, bool bar, unsigned *n)
{
    int         rc;
    uint32_t    number, last;
    unsigned    known;
    ims_pool_t  one;

    *n = 0;

    if (w->broken) {
        return IMS_POOL_INTERNAL;
    }

    if (!ims_pool_w_who_ok(realm, user)) {
        return IMS_POOL_BADARG;
    }

    number = 1;
    last = w->state.last_pool;

    if (pool.n) {
        rc = ims_pool_w_by_name(w, pool, &one);

        if (rc != IMS_POOL_OK) {
            return rc;
        }

        number = last = one.head.pool;
    }

    for (known = 0; number <= last; number++) {

        rc = ims_pool_revoke_holder(w, number, realm, user, bar, &known, n);

        if (rc != IMS_POOL_OK) {
            /* some may be ended already: all of it or nothing */
            return *n || bar ? ims_pool_w_fail(w, 0) : rc;
        }
    }

    if (*n || (bar && known)) {
        return IMS_POOL_OK;
    }

    return known ? IMS_POOL_ENDED : IMS_POOL_NOTFOUND;
}


/* all that a user has in one pool, whatever key his hash was made with */

static int
ims_pool_revoke_holder(ims_pool_writer_t *w, uint32_t pool, ims_str_t realm,
    ims_str_t user, bool bar, unsigned *known, unsigned *n)
{
    int             rc;
    bool            all;
    size_t          pos;
    uint8_t         hash[IMS_POOL_HOLDER_LEN], text[IMS_POOL_USER_KEY];
    uint64_t        ident;
    unsigned        i;
    ims_str_t       key;
    ims_pool_t      p;
    ims_pool_rec_t  rec;

    rc = ims_pool_w_pool(w, pool, &p);

    if (rc != IMS_POOL_OK) {
        return rc == IMS_POOL_NOTFOUND ? IMS_POOL_OK : rc;
    }

    all = p.head.per == IMS_POOL_PER_SESSION;

    for (i = 0; i < w->keys.nhash; i++) {

        ims_pool_w_hash(w, &w->keys.hash[i].key, realm, user, hash);
        key = ims_str_set(text, ims_pool_user_key(text, hash, pool, 0));
        pos = 0;

        /* an end does not take the way back */

        while (ims_pool_users_next(&w->users, key, all, &pos, &ident)) {

            rc = ims_pool_w_rec(w, ident, &rec);

            if (rc == IMS_POOL_OK && !ims_pool_users_is(&rec, key, all)) {
                continue;
            }

            if (rc == IMS_POOL_OK) {
                (*known)++;
                rc = ims_pool_revoke(w, &rec, bar, n);
            }

            if (rc != IMS_POOL_OK && rc != IMS_POOL_ENDED) {
                return rc == IMS_POOL_NOSPACE ? rc : IMS_POOL_INTERNAL;
            }
        }
    }

    return IMS_POOL_OK;
}


int
ims_pool_revoke_pool(ims_pool_writer_t *w, ims_str_t pool, uint64_t *fence)
{
    int         rc;
    ims_pool_t  p;

    if (w->broken) {
        return IMS_POOL_INTERNAL;
    }

    rc = ims_pool_w_by_name(w, pool, &p);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    *fence = w->state.last_lease;

    return ims_pool_w_fence(w, &p, *fence);
}


/* was this lease, the record's or an earlier one, the same holder's? */

static bool
ims_pool_report_own(ims_pool_writer_t *w, const ims_pool_rec_t *rec,
    uint64_t lease)
{
    uint8_t          key[16];
    ims_pool_hist_t  row;

    if (rec->lease == lease) {
        return true;
    }

    ims_pool_be64(key, rec->ident);
    ims_pool_be64(key + 8, lease);

    return ims_pool_w_copy(w, IMS_POOL_T_HIST, key, sizeof(key), &row,
                           sizeof(row)) == IMS_POOL_OK
           && memcmp(row.user, rec->user, sizeof(row.user)) == 0;
}


int
ims_pool_report(ims_pool_writer_t *w, uint64_t ident, uint64_t lease,
    uint32_t edge, uint64_t flow, uint64_t until, bool *alert)
{
    int             rc;
    uint64_t        rest;
    ims_pool_t      pool;
    ims_pool_rec_t  rec;
    ims_pool_reg_t  reg;

    *alert = false;

    if (w->broken) {
        return IMS_POOL_INTERNAL;
    }

    if (edge > UINT16_MAX) {
        return IMS_POOL_BADARG;
    }

    rc = ims_pool_w_rec(w, ident, &rec);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    if (ims_pool_w_pool(w, rec.pool, &pool) != IMS_POOL_OK) {
        return IMS_POOL_INTERNAL;
    }

    *alert = ims_pool_state_of(&rec, pool.head.fence, w->now)
             == IMS_POOL_ST_LEASED
             && !ims_pool_report_own(w, &rec, lease);

    if (until > w->now + IMS_POOL_REPORT_MAX) {
        until = w->now + IMS_POOL_REPORT_MAX;
    }

    rest = until + pool.head.margin;

    if (rest <= rec.rest) {
        return IMS_POOL_OK;
    }

    rec.rest = rest;
    rc = ims_pool_w_put_rec(w, &rec);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    memset(&reg, 0, sizeof(reg));

    reg.ident = ident;
    reg.flow = flow;
    reg.lease = lease;
    reg.until = until;
    reg.edge = edge;

    return ims_pool_report_reg(w, &reg);
}


/* for people; an edge that reports flow after flow gets its rows, no more */

static int
ims_pool_report_reg(ims_pool_writer_t *w, const ims_pool_reg_t *reg)
{
    int          rc;
    MDB_val      k, v;
    uint8_t      key[18];
    unsigned     n;
    MDB_cursor  *cursor;

    ims_pool_be64(key, reg->ident);
    key[8] = (uint8_t) (reg->edge >> 8);
    key[9] = (uint8_t) reg->edge;
    ims_pool_be64(key + 10, reg->flow);

    rc = mdb_cursor_open(w->txn, w->dbi[IMS_POOL_T_REG], &cursor);
    if (rc != 0) {
        return ims_pool_w_fail(w, rc);
    }

    k.mv_size = 8;
    k.mv_data = key;

    for (n = 0; n < IMS_POOL_REGS; n++) {
        rc = mdb_cursor_get(cursor, &k, &v, n ? MDB_NEXT : MDB_SET_RANGE);

        if (rc != 0 || memcmp(k.mv_data, key, 8) != 0) {
            break;
        }

        if (k.mv_size == sizeof(key)
            && memcmp(k.mv_data, key, sizeof(key)) == 0)
        {
            /* a row that is there may be written anew */
            n = 0;
            break;
        }
    }

    mdb_cursor_close(cursor);

    if (rc != 0 && rc != MDB_NOTFOUND) {
        return ims_pool_w_fail(w, rc);
    }

    if (n == IMS_POOL_REGS) {
        return IMS_POOL_OK;
    }

    return ims_pool_w_put(w, IMS_POOL_T_REG, key, sizeof(key), reg,
                          sizeof(*reg), 0);
}
