/*
 * Copyright (C) nginx-ims contributors
 *
 * History: who held which identity from when to when.
 *
 * The current holder is the record itself; a row is written when a lease ends
 * early or another one follows.  Pool time is turned into wall time by the
 * rows of the clock in tree `stat`: one for each boot and each step of the wall
 * clock, so that a power cut, or a clock that was set right, moves no lease.
 */

#include <stdlib.h>

#include "ims_pool_wint.h"
#include "sip/ims_sip_uri.h"


#define IMS_POOL_CLOCK_STEP   1000      /* ms that a wall clock may wander */
#define IMS_POOL_PRUNE_ROWS   5000
#define IMS_POOL_EVENTS_MAX   65536
#define IMS_POOL_FORMER_IMPI  UINT32_MAX


struct ims_pool_events_s {
    ims_pool_event_pt  cb;
    void              *ctx;
    bool               users;       /* with names in clear */

    ims_pool_event_t  *event;
    size_t             n;
    size_t             cap;

    uint8_t           *text;        /* of realms and users */
    size_t             ntext;
    size_t             captext;

    uint64_t           lost;
};


static void ims_pool_event(ims_pool_writer_t *w, const ims_pool_event_t *ev,
    ims_str_t realm, ims_str_t user);
static bool ims_pool_event_text(ims_pool_events_t *e, ims_str_t s);
static int ims_pool_clock_last(MDB_txn *txn, const MDB_dbi *dbi, uint64_t pt,
    ims_pool_clockrow_t *row);
static int ims_pool_clock_put(ims_pool_writer_t *w, uint64_t pt,
    uint64_t wall);
static void ims_pool_past_row(ims_pool_past_t *past,
    const ims_pool_hist_t *row);
static int ims_pool_history_rows(ims_pool_writer_t *w,
    ims_pool_history_t *pos, unsigned max, ims_pool_past_pt cb, void *ctx);
static int ims_pool_history_recs(ims_pool_writer_t *w,
    ims_pool_history_t *pos, unsigned max, ims_pool_past_pt cb, void *ctx);
static int ims_pool_past_rec(ims_pool_reader_t *r, ims_pool_rec_t *rec,
    ims_pool_past_t *past);
static size_t ims_pool_former_key(uint8_t *key, const void *uri, size_t n,
    uint64_t ident);
static int ims_pool_former_put(ims_pool_writer_t *w, const void *uri, size_t n,
    const ims_pool_uri_t *row);
static int ims_pool_prune_former(ims_pool_writer_t *w, uint64_t ident);


/* --- events ---------------------------------------------------------------- */

int
ims_pool_events(ims_pool_writer_t *w, ims_pool_event_pt cb, void *ctx,
    bool users)
{
    if (w->events == NULL) {
        w->events = calloc(1, sizeof(ims_pool_events_t));

        if (w->events == NULL) {
            return IMS_POOL_SYSTEM;
        }
    }

    w->events->cb = cb;
    w->events->ctx = ctx;
    w->events->users = users;

    return IMS_POOL_OK;
}


uint64_t
ims_pool_events_lost(const ims_pool_writer_t *w)
{
    return w->events == NULL ? 0 : w->events->lost;
}


void
ims_pool_events_close(ims_pool_writer_t *w)
{
    if (w->events != NULL) {
        ims_pool_events_drop(w);
        free(w->events->event);
        free(w->events->text);
        free(w->events);
        w->events = NULL;
    }
}


void
ims_pool_events_drop(ims_pool_writer_t *w)
{
    ims_pool_events_t  *e;

    e = w->events;

    if (e != NULL && e->n != 0) {

        /* an acquire has no text */

        if (e->ntext != 0) {
            explicit_bzero(e->text, e->ntext);
        }

        e->n = 0;
        e->ntext = 0;
    }
}


void
ims_pool_events_tell(ims_pool_writer_t *w)
{
    size_t              i;
    ims_pool_event_t   *ev;
    ims_pool_events_t  *e;

    e = w->events;

    if (e == NULL || e->n == 0) {
        return;
    }

    for (i = 0; i < e->n; i++) {
        ev = &e->event[i];

        /* offsets until now: the text may have moved */

        if (ev->realm.n) {
            ev->realm.p = e->text + (size_t) ev->realm.p;
            ev->user.p = e->text + (size_t) ev->user.p;
        }

        e->cb(e->ctx, ev);
    }

    ims_pool_events_drop(w);
}


static void
ims_pool_event(ims_pool_writer_t *w, const ims_pool_event_t *ev,
    ims_str_t realm, ims_str_t user)
{
    size_t              cap;
    ims_pool_event_t   *p;
    ims_pool_events_t  *e;

    e = w->events;

    if (e == NULL || e->cb == NULL) {
        return;
    }

    if (e->n == e->cap) {

        cap = e->cap ? e->cap * 2 : 64;
        p = cap <= IMS_POOL_EVENTS_MAX
            ? realloc(e->event, cap * sizeof(ims_pool_event_t)) : NULL;

        if (p == NULL) {
            e->lost++;
            return;
        }

        e->event = p;
        e->cap = cap;
    }

    p = &e->event[e->n];
    *p = *ev;
    p->realm = IMS_STR_NULL;
    p->user = IMS_STR_NULL;

    if (e->users && realm.n) {

        p->realm = ims_str_set((void *) e->ntext, realm.n);

        if (ims_pool_event_text(e, realm)) {
            p->user = ims_str_set((void *) e->ntext, user.n);
        }

        if (p->user.n == 0 || !ims_pool_event_text(e, user)) {
            p->realm.n = 0;
            p->user.n = 0;
        }
    }

    e->n++;
}


static bool
ims_pool_event_text(ims_pool_events_t *e, ims_str_t s)
{
    size_t    cap;
    uint8_t  *p;

    if (s.n > e->captext - e->ntext) {

        for (cap = e->captext ? e->captext : 1024; cap - e->ntext < s.n;
             cap *= 2)
        {
            /* void */
        }

        p = realloc(e->text, cap);

        if (p == NULL) {
            return false;
        }

        e->text = p;
        e->captext = cap;
    }

    memcpy(e->text + e->ntext, s.p, s.n);
    e->ntext += s.n;

    return true;
}


/* of a start: a lease whose line is perhaps not in the log */

void
ims_pool_event_late(ims_pool_writer_t *w, const ims_pool_rec_t *rec,
    uint64_t wall)
{
    ims_pool_event_t  ev;

    if (w->events == NULL || w->events->cb == NULL) {
        return;
    }

    memset(&ev, 0, sizeof(ev));

    ev.kind = IMS_POOL_EV_BEGIN;
    ev.how = IMS_POOL_NEW;
    ev.wall = w->clock.wall(w->clock.ctx);
    ev.past.ident = rec->ident;
    ev.past.lease = rec->lease;
    ev.past.pool = rec->pool;
    ev.past.hash_key = rec->hash_key;
    ev.past.issuer = rec->issuer;
    ev.past.start_wall = wall;

    memcpy(ev.past.user, rec->user, sizeof(ev.past.user));

    w->events->cb(w->events->ctx, &ev);
}


void
ims_pool_event_begin(ims_pool_writer_t *w, const ims_pool_rec_t *rec,
    const ims_pool_who_t *who, ims_pool_how_e how)
{
    ims_pool_event_t  ev;

    if (w->events == NULL) {
        return;
    }

    memset(&ev, 0, sizeof(ev));

    ev.kind = IMS_POOL_EV_BEGIN;
    ev.how = how;
    ev.wall = w->wall;
    ev.past.ident = rec->ident;
    ev.past.lease = rec->lease;
    ev.past.pool = rec->pool;
    ev.past.hash_key = rec->hash_key;
    ev.past.issuer = rec->issuer;

    /* as its end will tell it: this very clock may be a millisecond off that */

    ev.past.start_wall = ims_pool_wall_at(w->txn, w->dbi, rec->start);

    memcpy(ev.past.user, rec->user, sizeof(ev.past.user));

    ims_pool_event(w, &ev, who->realm, who->user);
}


/* --- the clock --------------------------------------------------------------- */

/* the last row at or before pt */

static int
ims_pool_clock_last(MDB_txn *txn, const MDB_dbi *dbi, uint64_t pt,
    ims_pool_clockrow_t *row)
{
    int          rc;
    MDB_val      k, v;
    uint8_t      key[9];
    ims_str_t    text;
    MDB_cursor  *cursor;

    if (mdb_cursor_open(txn, dbi[IMS_POOL_T_STAT], &cursor) != 0) {
        return IMS_POOL_UNKNOWN;
    }

    key[0] = 'c';
    ims_pool_be64(key + 1, pt);
    k.mv_size = sizeof(key);
    k.mv_data = key;

    rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);

    if (rc == MDB_NOTFOUND) {
        rc = mdb_cursor_get(cursor, &k, &v, MDB_LAST);

    } else if (rc == 0 && (k.mv_size != sizeof(key)
                           || memcmp(k.mv_data, key, sizeof(key)) != 0))
    {
        rc = mdb_cursor_get(cursor, &k, &v, MDB_PREV);
    }

    if (rc != 0 || k.mv_size != sizeof(key)
        || *(const uint8_t *) k.mv_data != 'c')
    {
        rc = rc == 0 || rc == MDB_NOTFOUND ? IMS_POOL_NOTFOUND
                                           : IMS_POOL_UNKNOWN;

    } else if (ims_pool_row_open(&k, &v, &text) && text.n == sizeof(*row)) {
        memcpy(row, text.p, sizeof(*row));
        rc = IMS_POOL_OK;

    } else {
        rc = IMS_POOL_UNKNOWN;
    }

    mdb_cursor_close(cursor);

    return rc;
}


uint64_t
ims_pool_wall_at(MDB_txn *txn, const MDB_dbi *dbi, uint64_t pt)
{
    ims_pool_clockrow_t  row;

    if (pt == 0 || ims_pool_clock_last(txn, dbi, pt, &row) != IMS_POOL_OK) {
        return 0;
    }

    return row.wall + (pt - row.pt);
}


static int
ims_pool_clock_put(ims_pool_writer_t *w, uint64_t pt, uint64_t wall)
{
    uint8_t              key[9];
    ims_pool_clockrow_t  row;

    key[0] = 'c';
    ims_pool_be64(key + 1, pt);

    row.pt = pt;
    row.wall = wall;

    return ims_pool_w_put(w, IMS_POOL_T_STAT, key, sizeof(key), &row,
                          sizeof(row), 0);
}


/*
 * In another boot pool time went on from the last row when the machine came up,
 * whenever that was.
 */
int
ims_pool_clock_start(ims_pool_writer_t *w)
{
    int                      rc;
    const ims_pool_ptrow_t  *c;

    c = &w->committed.clock;

    if (memcmp(c->boot_id, w->boot_id, sizeof(w->boot_id)) != 0
        && w->wall > w->boottime)
    {
        rc = ims_pool_clock_put(w, c->pt, w->wall - w->boottime);

        if (rc != IMS_POOL_OK) {
            return rc;
        }
    }

    return ims_pool_clock_tick(w);
}


/* a step of the wall clock is a row */

int
ims_pool_clock_tick(ims_pool_writer_t *w)
{
    int                  rc;
    int64_t              off;
    ims_pool_clockrow_t  row;

    rc = ims_pool_clock_last(w->txn, w->dbi, w->now, &row);

    if (rc == IMS_POOL_OK) {
        off = (int64_t) (w->wall - row.wall - (w->now - row.pt));

        if (off <= IMS_POOL_CLOCK_STEP && off >= -IMS_POOL_CLOCK_STEP) {
            return IMS_POOL_OK;
        }
    }

    return ims_pool_clock_put(w, w->now, w->wall);
}


/* --- rows ------------------------------------------------------------------ */

int
ims_pool_w_hist(ims_pool_writer_t *w, const ims_pool_rec_t *rec, uint64_t end,
    ims_pool_end_e reason)
{
    int               rc;
    uint8_t           key[16];
    ims_pool_hist_t   row;
    ims_pool_event_t  ev;

    memset(&row, 0, sizeof(row));

    row.ident = rec->ident;
    row.lease = rec->lease;
    row.hash_key = rec->hash_key;
    row.issuer = rec->issuer;
    row.pool = rec->pool;
    row.reason = reason;
    row.start = rec->start;
    row.end = end;
    row.rest = rec->rest;
    row.start_wall = ims_pool_wall_at(w->txn, w->dbi, rec->start);
    row.end_wall = end == w->now ? w->wall
                                 : ims_pool_wall_at(w->txn, w->dbi, end);

    memcpy(row.user, rec->user, sizeof(row.user));

    ims_pool_be64(key, rec->ident);
    ims_pool_be64(key + 8, rec->lease);

    rc = ims_pool_w_put(w, IMS_POOL_T_HIST, key, sizeof(key), &row,
                        sizeof(row), MDB_NOOVERWRITE);

    if (rc == IMS_POOL_EXISTS) {
        /* written when it ended early: that row knows better */
        return IMS_POOL_OK;
    }

    if (rc == IMS_POOL_OK && w->events != NULL) {
        memset(&ev, 0, sizeof(ev));
        ev.kind = IMS_POOL_EV_END;
        ev.wall = w->wall;
        ims_pool_past_row(&ev.past, &row);
        ims_pool_event(w, &ev, IMS_STR_NULL, IMS_STR_NULL);
    }

    return rc;
}


static void
ims_pool_past_row(ims_pool_past_t *past, const ims_pool_hist_t *row)
{
    memset(past, 0, sizeof(ims_pool_past_t));

    past->ident = row->ident;
    past->lease = row->lease;
    past->hash_key = row->hash_key;
    past->issuer = row->issuer;
    past->pool = row->pool;
    past->reason = row->reason;
    past->start_wall = row->start_wall;
    past->end_wall = row->end_wall;

    memcpy(past->user, row->user, sizeof(past->user));
}


/* the record's own lease, if no row tells of it */

static int
ims_pool_past_rec(ims_pool_reader_t *r, ims_pool_rec_t *rec,
    ims_pool_past_t *past)
{
    int         rc;
    uint64_t    end, fenced;
    ims_pool_t  pool;

    (void) ims_pool_recent_add(r->recent, rec);

    rc = ims_pool_pool(r->txn, r->dbi, rec->pool, &pool);

    if (rc != IMS_POOL_OK) {
        return IMS_POOL_UNKNOWN;
    }

    memset(past, 0, sizeof(ims_pool_past_t));

    past->ident = rec->ident;
    past->lease = rec->lease;
    past->hash_key = rec->hash_key;
    past->issuer = rec->issuer;
    past->pool = rec->pool;
    past->reason = IMS_POOL_END_EXPIRED;
    past->start_wall = ims_pool_wall_at(r->txn, r->dbi, rec->start);

    memcpy(past->user, rec->user, sizeof(past->user));

    end = rec->end;

    if (rec->lease <= pool.head.fence
        && ims_pool_fenced_at(r->txn, r->dbi, rec->pool, rec->lease, &fenced)
           == IMS_POOL_OK
        && fenced < end)
    {
        end = fenced > rec->start ? fenced : rec->start;
        past->reason = IMS_POOL_END_FENCED;
    }

    past->end_wall = ims_pool_wall_at(r->txn, r->dbi, end);

    if (ims_pool_state_of(rec, pool.head.fence, ims_pool_pt(r))
        == IMS_POOL_ST_LEASED)
    {
        past->reason = IMS_POOL_END_NONE;
    }

    return IMS_POOL_OK;
}


const char *
ims_pool_end_text(ims_pool_end_e reason)
{
    static const char *const  text[] = {
        "live", "expired", "released", "session", "revoked", "disabled",
        "removed", "fenced"
    };

    return (size_t) reason < sizeof(text) / sizeof(text[0]) ? text[reason]
                                                            : "?";
}


/* --- reading ----------------------------------------------------------------- */

int
ims_pool_history(ims_pool_writer_t *w, uint64_t ident, uint64_t *lease,
    unsigned max, ims_pool_past_pt cb, void *ctx)
{
    int                 rc;
    uint8_t             key[16];
    MDB_val             k, v;
    unsigned            n;
    uint64_t            last;
    ims_str_t           text;
    MDB_cursor         *cursor;
    ims_pool_rec_t      rec;
    ims_pool_hist_t     row;
    ims_pool_past_t     past;
    ims_pool_reader_t  *r;

    r = w->reader;

    if (ims_pool_snap(r) != IMS_POOL_OK) {
        return IMS_POOL_INTERNAL;
    }

    if (mdb_cursor_open(r->txn, r->dbi[IMS_POOL_T_HIST], &cursor) != 0) {
        ims_pool_unsnap(r);
        return IMS_POOL_INTERNAL;
    }

    ims_pool_be64(key, ident);
    ims_pool_be64(key + 8, *lease);
    k.mv_size = sizeof(key);
    k.mv_data = key;

    last = *lease ? *lease - 1 : 0;
    rc = 0;

    for (n = 0; n < max; n++) {
        rc = mdb_cursor_get(cursor, &k, &v, n ? MDB_NEXT : MDB_SET_RANGE);

        if (rc != 0 || k.mv_size != sizeof(key)
            || memcmp(k.mv_data, key, 8) != 0)
        {
            break;
        }

        last = ims_pool_get64((const uint8_t *) k.mv_data + 8);

        if (!ims_pool_row_open(&k, &v, &text) || text.n != sizeof(row)) {
            w->damaged++;
            continue;
        }

        memcpy(&row, text.p, sizeof(row));
        ims_pool_past_row(&past, &row);
        cb(ctx, &past);
    }

    mdb_cursor_close(cursor);
    *lease = last + 1;

    if (n == max) {
        ims_pool_unsnap(r);
        return IMS_POOL_MORE;
    }

    if (rc != 0 && rc != MDB_NOTFOUND) {
        ims_pool_unsnap(r);
        return IMS_POOL_INTERNAL;
    }

    if (ims_pool_rec(r->txn, r->dbi, ident, &rec) == IMS_POOL_OK
        && rec.lease > last
        && ims_pool_past_rec(r, &rec, &past) == IMS_POOL_OK)
    {
        cb(ctx, &past);
    }

    ims_pool_unsnap(r);

    return IMS_POOL_OK;
}


/* first all rows of `hist`, then the records of which it says nothing */

int
ims_pool_history_walk(ims_pool_writer_t *w, ims_pool_history_t *pos,
    unsigned max, ims_pool_past_pt cb, void *ctx)
{
    int  rc;

    if (ims_pool_snap(w->reader) != IMS_POOL_OK) {
        return IMS_POOL_INTERNAL;
    }

    rc = pos->records ? ims_pool_history_recs(w, pos, max, cb, ctx)
                      : ims_pool_history_rows(w, pos, max, cb, ctx);

    ims_pool_unsnap(w->reader);

    if (rc == IMS_POOL_OK && !pos->records) {
        pos->records = true;
        pos->ident = 0;
        pos->lease = 0;

        return IMS_POOL_MORE;
    }

    return rc;
}


static int
ims_pool_history_rows(ims_pool_writer_t *w, ims_pool_history_t *pos,
    unsigned max, ims_pool_past_pt cb, void *ctx)
{
    int                 rc;
    uint8_t             key[16];
    MDB_val             k, v;
    unsigned            n;
    ims_str_t           text;
    MDB_cursor         *cursor;
    ims_pool_hist_t     row;
    ims_pool_past_t     past;
    ims_pool_reader_t  *r;

    r = w->reader;

    if (mdb_cursor_open(r->txn, r->dbi[IMS_POOL_T_HIST], &cursor) != 0) {
        return IMS_POOL_INTERNAL;
    }

    ims_pool_be64(key, pos->ident);
    ims_pool_be64(key + 8, pos->lease);
    k.mv_size = sizeof(key);
    k.mv_data = key;
    rc = 0;

    for (n = 0; n < max; n++) {
        rc = mdb_cursor_get(cursor, &k, &v, n ? MDB_NEXT : MDB_SET_RANGE);

        if (rc != 0) {
            break;
        }

        pos->ident = ims_pool_get64(k.mv_data);

        if (!ims_pool_row_open(&k, &v, &text)) {
            w->damaged++;
            pos->ident++;
            continue;
        }

        pos->lease = ims_pool_get64((const uint8_t *) k.mv_data + 8) + 1;

        if (text.n != sizeof(row)) {
            continue;
        }

        memcpy(&row, text.p, sizeof(row));

        if (row.ident > UINT32_MAX) {
            ims_pool_past_row(&past, &row);
            cb(ctx, &past);
        }
    }

    mdb_cursor_close(cursor);

    return rc == 0 ? IMS_POOL_MORE
           : rc == MDB_NOTFOUND ? IMS_POOL_OK : IMS_POOL_INTERNAL;
}


static int
ims_pool_history_recs(ims_pool_writer_t *w, ims_pool_history_t *pos,
    unsigned max, ims_pool_past_pt cb, void *ctx)
{
    int                 rc;
    uint8_t             key[16];
    unsigned            n;
    uint64_t            ident;
    ims_str_t           text;
    ims_pool_rec_t      rec;
    ims_pool_recs_t     it;
    ims_pool_past_t     past;
    ims_pool_reader_t  *r;

    r = w->reader;

    if (ims_pool_recs_open(&it, r->txn, r->dbi, pos->ident) != 0) {
        return IMS_POOL_INTERNAL;
    }

    rc = IMS_POOL_OK;

    for (n = 0; n < max; n++) {
        rc = ims_pool_recs_next(&it, &ident, &rec);

        if (rc != IMS_POOL_OK && rc != IMS_POOL_UNKNOWN) {
            break;
        }

        pos->ident = ident + 1;

        if (rc == IMS_POOL_UNKNOWN) {
            w->damaged++;
            continue;
        }

        if (rec.lease == 0) {
            continue;
        }

        ims_pool_be64(key, rec.ident);
        ims_pool_be64(key + 8, rec.lease);

        if (ims_pool_row(r->txn, r->dbi[IMS_POOL_T_HIST], key, sizeof(key),
                         &text)
            == IMS_POOL_NOTFOUND
            && ims_pool_past_rec(r, &rec, &past) == IMS_POOL_OK)
        {
            cb(ctx, &past);
        }
    }

    ims_pool_recs_close(&it);

    return n == max ? IMS_POOL_MORE
           : rc == IMS_POOL_NOTFOUND ? IMS_POOL_OK : IMS_POOL_INTERNAL;
}


int
ims_pool_past_is(ims_pool_writer_t *w, const ims_pool_past_t *past,
    ims_str_t realm, ims_str_t user)
{
    uint8_t   hash[IMS_POOL_HOLDER_LEN];
    unsigned  i;

    if (!ims_pool_w_who_ok(realm, user)) {
        return 0;
    }

    for (i = 0; i < w->keys.nhash; i++) {
        if (w->keys.hash[i].no == past->hash_key) {
            ims_pool_w_hash(w, &w->keys.hash[i].key, realm, user, hash);
            return memcmp(hash, past->user, sizeof(hash)) == 0;
        }
    }

    return -1;
}


/* --- identities that were removed -------------------------------------------- */

/* long names do not fit beside an ident: their hash does */

static size_t
ims_pool_former_key(uint8_t *key, const void *uri, size_t n, uint64_t ident)
{
    ims_str_t  part;

    key[0] = IMS_POOL_FORMER;
    part = ims_str_set(uri, n);
    ims_sha256_parts(&part, 1, key + 1, 16);
    ims_pool_be64(key + 17, ident);

    return IMS_POOL_FORMER_KEY;
}


static int
ims_pool_former_put(ims_pool_writer_t *w, const void *uri, size_t n,
    const ims_pool_uri_t *row)
{
    uint8_t  key[IMS_POOL_FORMER_KEY];

    return ims_pool_w_put(w, IMS_POOL_T_URI, key,
                          ims_pool_former_key(key, uri, n, row->ident), row,
                          sizeof(*row), 0);
}


int
ims_pool_former_keep(ims_pool_writer_t *w, const ims_pool_names_t *names,
    uint32_t pool)
{
    int             rc;
    size_t          n;
    uint8_t         uri[IMS_POOL_KEY_MAX];
    unsigned        i;
    ptrdiff_t       len;
    ims_pool_uri_t  row;

    memset(&row, 0, sizeof(row));
    row.ident = names->ident;
    row.pool = pool;
    row.ordinal = IMS_POOL_FORMER_IMPI;

    n = ims_pool_impi_key(uri, sizeof(uri), names->impi);
    rc = ims_pool_former_put(w, uri, n, &row);

    for (i = 0; rc == IMS_POOL_OK && i < names->nimpu; i++) {
        row.ordinal = i;
        len = ims_sip_fold(uri, sizeof(uri), names->impu[i].given);

        if (len > 0) {
            rc = ims_pool_former_put(w, uri, (size_t) len, &row);
        }
    }

    return rc;
}


bool
ims_pool_former_fits(const MDB_val *k, const ims_pool_uri_t *row,
    const ims_pool_names_t *names)
{
    uint8_t    key[IMS_POOL_FORMER_KEY], uri[IMS_POOL_KEY_MAX];
    unsigned   i;
    ptrdiff_t  len;

    /* two IMPUs of one identity may fold to one key: the last one wrote it */

    for (i = 0; i <= names->nimpu; i++) {

        len = i == names->nimpu
              ? (ptrdiff_t) ims_pool_impi_key(uri, sizeof(uri), names->impi)
              : ims_sip_fold(uri, sizeof(uri), names->impu[i].given);

        if (len > 0 && k->mv_size == IMS_POOL_FORMER_KEY) {
            ims_pool_former_key(key, uri, (size_t) len, row->ident);

            if (memcmp(key, k->mv_data, sizeof(key)) == 0) {
                return true;
            }
        }
    }

    return false;
}


int
ims_pool_former(ims_pool_writer_t *w, ims_str_t name, uint64_t *ident,
    unsigned max)
{
    int                 rc;
    uint8_t             uri[IMS_POOL_KEY_MAX], key[IMS_POOL_FORMER_KEY];
    MDB_val             k, v;
    unsigned            n;
    ptrdiff_t           len;
    ims_str_t           text;
    MDB_cursor         *cursor;
    ims_pool_uri_t      row;
    ims_pool_reader_t  *r;

    len = name.n != 0 && memchr(name.p, ':', name.n) == NULL
          ? (ptrdiff_t) ims_pool_impi_key(uri, sizeof(uri), name)
          : ims_sip_fold(uri, sizeof(uri), name);

    if (len <= 0) {
        return IMS_POOL_BADARG;
    }

    r = w->reader;

    if (ims_pool_snap(r) != IMS_POOL_OK) {
        return IMS_POOL_INTERNAL;
    }

    if (mdb_cursor_open(r->txn, r->dbi[IMS_POOL_T_URI], &cursor) != 0) {
        ims_pool_unsnap(r);
        return IMS_POOL_INTERNAL;
    }

    k.mv_size = ims_pool_former_key(key, uri, (size_t) len, 0);
    k.mv_data = key;

    for (n = 0; n < max; ) {
        rc = mdb_cursor_get(cursor, &k, &v, n ? MDB_NEXT : MDB_SET_RANGE);

        if (rc != 0 || k.mv_size != sizeof(key)
            || memcmp(k.mv_data, key, 17) != 0)
        {
            break;
        }

        if (!ims_pool_row_open(&k, &v, &text) || text.n != sizeof(row)) {
            break;
        }

        memcpy(&row, text.p, sizeof(row));
        ident[n++] = row.ident;
    }

    mdb_cursor_close(cursor);

    if (n < max
        && ims_pool_row_copy(r->txn, r->dbi[IMS_POOL_T_URI], uri,
                             (size_t) len, &row, sizeof(row)) == IMS_POOL_OK)
    {
        ident[n++] = row.ident;
    }

    ims_pool_unsnap(r);

    return (int) n;
}


/* --- kept for a set time -------------------------------------------------------- */

void
ims_pool_history_keep(ims_pool_writer_t *w, uint64_t ms)
{
    w->keep = ms;
}


int
ims_pool_tick_hist(ims_pool_writer_t *w)
{
    int              rc;
    bool             gone;
    MDB_val          k, v;
    uint8_t          key[16];
    unsigned         n, nident;
    uint64_t         ident[64];
    ims_str_t        text;
    MDB_cursor      *cursor;
    MDB_cursor_op    op;
    ims_pool_hist_t  row;

    if (w->keep == 0) {
        return IMS_POOL_OK;
    }

    rc = mdb_cursor_open(w->txn, w->dbi[IMS_POOL_T_HIST], &cursor);
    if (rc != 0) {
        return ims_pool_w_fail(w, rc);
    }

    ims_pool_be64(key, w->prune_ident);
    ims_pool_be64(key + 8, w->prune_lease);
    k.mv_size = sizeof(key);
    k.mv_data = key;
    op = MDB_SET_RANGE;

    for (n = 0, nident = 0; n < IMS_POOL_PRUNE_ROWS && nident < 64; n++) {

        rc = mdb_cursor_get(cursor, &k, &v, op);

        if (rc != 0) {
            break;
        }

        op = MDB_NEXT;
        w->prune_ident = ims_pool_get64(k.mv_data);
        w->prune_lease = ims_pool_get64((const uint8_t *) k.mv_data + 8) + 1;

        gone = ims_pool_row_open(&k, &v, &text) && text.n == sizeof(row);

        if (gone) {
            memcpy(&row, text.p, sizeof(row));

            /* fences are few, and needed as long as a lease is below them */

            gone = row.ident > UINT32_MAX && row.end + w->keep < w->now
                   && row.rest < w->now;
        }

        if (!gone) {
            continue;
        }

        rc = mdb_cursor_del(cursor, 0);

        if (rc != 0) {
            break;
        }

        w->dirty = 1;

        if (nident == 0 || ident[nident - 1] != row.ident) {
            ident[nident++] = row.ident;
        }
    }

    mdb_cursor_close(cursor);

    if (rc != 0 && rc != MDB_NOTFOUND) {
        return ims_pool_w_fail(w, rc);
    }

    if (rc != 0) {
        /* once through: from the beginning again, next time */
        w->prune_ident = 0;
        w->prune_lease = 0;
    }

    for (n = 0, rc = IMS_POOL_OK; rc == IMS_POOL_OK && n < nident; n++) {
        rc = ims_pool_prune_former(w, ident[n]);
    }

    return rc;
}


/* of a removed identity nothing is left to tell: its names go as well */

static int
ims_pool_prune_former(ims_pool_writer_t *w, uint64_t ident)
{
    int               rc;
    size_t            n;
    uint8_t           key[16], uri[IMS_POOL_KEY_MAX];
    uint8_t           fkey[IMS_POOL_FORMER_KEY];
    MDB_val           k, v;
    unsigned          i;
    ptrdiff_t         len;
    MDB_cursor       *cursor;
    ims_pool_rec_t    rec;
    ims_pool_names_t  names;

    rc = ims_pool_w_rec(w, ident, &rec);

    if (rc != IMS_POOL_NOTFOUND) {
        return IMS_POOL_OK;
    }

    rc = mdb_cursor_open(w->txn, w->dbi[IMS_POOL_T_HIST], &cursor);
    if (rc != 0) {
        return ims_pool_w_fail(w, rc);
    }

    ims_pool_be64(key, ident);
    ims_pool_be64(key + 8, 0);
    k.mv_size = sizeof(key);
    k.mv_data = key;
    rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);

    if (rc == 0 && memcmp(k.mv_data, key, 8) != 0) {
        rc = MDB_NOTFOUND;
    }

    mdb_cursor_close(cursor);

    if (rc != MDB_NOTFOUND || ims_pool_w_names(w, ident, &names) != IMS_POOL_OK)
    {
        return IMS_POOL_OK;
    }

    n = ims_pool_impi_key(uri, sizeof(uri), names.impi);
    rc = ims_pool_w_del(w, IMS_POOL_T_URI, fkey,
                        ims_pool_former_key(fkey, uri, n, ident));

    for (i = 0; rc == IMS_POOL_OK && i < names.nimpu; i++) {
        len = ims_sip_fold(uri, sizeof(uri), names.impu[i].given);

        if (len > 0) {
            rc = ims_pool_w_del(w, IMS_POOL_T_URI, fkey,
                                ims_pool_former_key(fkey, uri, (size_t) len,
                                                    ident));
        }
    }

    return rc == IMS_POOL_OK
           ? ims_pool_w_del(w, IMS_POOL_T_NAME, key, 8) : rc;
}
