/*
 * Copyright (C) nginx-ims contributors
 *
 * The order in which identities are given: tree `avail`, one row an identity,
 * whose time is a lower bound of the record's rest.
 *
 * Renewals raise the rest and leave the row where it is; who comes to a row
 * whose record rests longer moves it back.  A renewal costs one such move at
 * most, whenever it is made.
 */

#include "ims_pool_wint.h"


#define IMS_POOL_HEADS       64     /* rows looked at in one go */
#define IMS_POOL_FIRST       16     /* of those that rest, to tell the first */
#define IMS_POOL_ROUNDS      64     /* goes of one command */
#define IMS_POOL_RETRY_S     60     /* nothing in the pool at all */


/* What one go over the head of a pool's rows found. */
typedef struct {
    ims_pool_rec_t    rec;                      /* if found */
    ims_pool_avail_t  back[IMS_POOL_HEADS];     /* rows that came too early */
    unsigned          nback;
    unsigned          found:1;
    unsigned          end:1;        /* no further rows of which time <= now */
} ims_pool_heads_t;


static int ims_pool_avail_scan(ims_pool_writer_t *w, ims_pool_avail_t *from,
    const uint8_t *holder, ims_pool_heads_t *heads);
static void ims_pool_avail_judge(ims_pool_writer_t *w,
    const ims_pool_avail_t *a, const uint8_t *holder,
    ims_pool_heads_t *heads);
static int ims_pool_avail_back(ims_pool_writer_t *w,
    const ims_pool_heads_t *heads);
static int ims_pool_avail_first(ims_pool_writer_t *w, uint32_t pool,
    uint64_t *first);
static int ims_pool_avail_retry(ims_pool_writer_t *w, uint32_t pool,
    uint32_t *retry_s);


int
ims_pool_w_pick(ims_pool_writer_t *w, uint32_t pool, const uint8_t *holder,
    ims_pool_rec_t *rec, uint32_t *retry_s)
{
    int               rc;
    unsigned          round;
    ims_pool_heads_t  heads;
    ims_pool_avail_t  from;

    memset(&from, 0, sizeof(from));
    from.pool = pool;

    if (w->state.hold_until > w->now) {
        /* what may be given now has got its place since */
        from.time = w->state.hold_since;
    }

    for (round = 0; round < IMS_POOL_ROUNDS; round++) {

        rc = ims_pool_avail_scan(w, &from, holder, &heads);

        if (rc == IMS_POOL_OK) {
            rc = ims_pool_avail_back(w, &heads);
        }

        if (rc != IMS_POOL_OK) {
            return rc;
        }

        if (heads.found) {
            *rec = heads.rec;
            return IMS_POOL_OK;
        }

        if (heads.end) {
            return ims_pool_avail_retry(w, pool, retry_s);
        }
    }

    /* the rest of the moves is left to the next command */

    *retry_s = 1;

    return IMS_POOL_EXHAUSTED;
}


int
ims_pool_w_settle(ims_pool_writer_t *w, uint32_t pool, unsigned max)
{
    int               rc;
    unsigned          n;
    ims_pool_heads_t  heads;
    ims_pool_avail_t  from;

    memset(&from, 0, sizeof(from));
    from.pool = pool;

    for (n = 0; n < max; n += IMS_POOL_HEADS) {

        rc = ims_pool_avail_scan(w, &from, NULL, &heads);

        if (rc == IMS_POOL_OK) {
            rc = ims_pool_avail_back(w, &heads);
        }

        if (rc != IMS_POOL_OK || heads.found || heads.end) {
            return rc;
        }
    }

    return IMS_POOL_MORE;
}


/*
 * Up to IMS_POOL_HEADS rows from *from on, which is moved behind the last one
 * looked at; nothing is written, so that a cursor is safe.
 */
static int
ims_pool_avail_scan(ims_pool_writer_t *w, ims_pool_avail_t *from,
    const uint8_t *holder, ims_pool_heads_t *heads)
{
    int               rc;
    MDB_val           k, v;
    uint8_t           key[IMS_POOL_AVAIL_KEY];
    unsigned          n;
    MDB_cursor       *cursor;
    ims_pool_avail_t  a;

    heads->nback = 0;
    heads->found = 0;
    heads->end = 0;

    rc = mdb_cursor_open(w->txn, w->dbi[IMS_POOL_T_AVAIL], &cursor);
    if (rc != 0) {
        return ims_pool_w_fail(w, rc);
    }

    ims_pool_avail_key(key, from);
    k.mv_size = sizeof(key);
    k.mv_data = key;

    for (n = 0; n < IMS_POOL_HEADS && !heads->found; n++) {

        rc = mdb_cursor_get(cursor, &k, &v, n ? MDB_NEXT : MDB_SET_RANGE);

        if (rc != 0 || !ims_pool_avail_parse(&k, &a) || a.pool != from->pool
            || a.time > w->now)
        {
            heads->end = 1;
            break;
        }

        ims_pool_avail_judge(w, &a, holder, heads);

        from->time = a.time;
        from->ident = a.ident + 1;
    }

    mdb_cursor_close(cursor);

    if (rc != 0 && rc != MDB_NOTFOUND) {
        return ims_pool_w_fail(w, rc);
    }

    return IMS_POOL_OK;
}


static void
ims_pool_avail_judge(ims_pool_writer_t *w, const ims_pool_avail_t *a,
    const uint8_t *holder, ims_pool_heads_t *heads)
{
    uint8_t          key[8];
    ims_str_t        row;
    ims_pool_rec_t  *rec;

    rec = &heads->rec;
    ims_pool_be64(key, a->ident);

    /* what is damaged is never given; the others go on */

    if (ims_pool_w_rec(w, a->ident, rec) != IMS_POOL_OK
        || ims_pool_w_row(w, IMS_POOL_T_NAME, key, sizeof(key), &row)
           != IMS_POOL_OK)
    {
        return;
    }

    if (rec->pool != a->pool || rec->avail != a->time) {
        w->damaged++;
        return;
    }

    if (rec->flags & (IMS_POOL_F_OFF|IMS_POOL_F_SHUT)) {
        return;
    }

    if (rec->rest > w->now || (holder != NULL && ims_pool_w_held(w, rec))) {
        heads->back[heads->nback++] = *a;
        return;
    }

    if ((rec->flags & IMS_POOL_F_BARRED) && holder != NULL
        && memcmp(rec->holder, holder, sizeof(rec->holder)) == 0)
    {
        return;
    }

    heads->found = 1;
}


static int
ims_pool_avail_back(ims_pool_writer_t *w, const ims_pool_heads_t *heads)
{
    int             rc;
    unsigned        i;
    ims_pool_rec_t  rec;

    for (i = 0; i < heads->nback; i++) {

        rc = ims_pool_w_rec(w, heads->back[i].ident, &rec);

        if (rc == IMS_POOL_OK && rec.rest <= w->now) {
            /* one that is held */
            rec.rest = w->state.hold_until;
        }

        if (rc == IMS_POOL_OK) {
            rc = ims_pool_w_avail_move(w, &rec, rec.rest);
        }

        if (rc == IMS_POOL_OK) {
            rc = ims_pool_w_put_rec(w, &rec);
        }

        if (rc != IMS_POOL_OK) {
            return rc;
        }
    }

    return IMS_POOL_OK;
}


/*
 * When the first record that rests has rested, IMS_POOL_NEVER if none does.  A
 * row's time is a lower bound, so that the first row's record may rest for long
 * and the next one's not: until the rows are later than the best of their
 * records.  Not more than some of them, as whoever is refused may ask often:
 * then nobody is told too little, and hardly ever much too much.
 */

static int
ims_pool_avail_first(ims_pool_writer_t *w, uint32_t pool, uint64_t *first)
{
    int               rc;
    MDB_val           k, v;
    uint8_t           key[IMS_POOL_AVAIL_KEY];
    unsigned          n;
    MDB_cursor       *cursor;
    ims_pool_rec_t    rec;
    ims_pool_avail_t  a;

    *first = IMS_POOL_NEVER;

    rc = mdb_cursor_open(w->txn, w->dbi[IMS_POOL_T_AVAIL], &cursor);
    if (rc != 0) {
        return ims_pool_w_fail(w, rc);
    }

    a.pool = pool;
    a.time = w->now + 1;
    a.ident = 0;
    ims_pool_avail_key(key, &a);

    k.mv_size = sizeof(key);
    k.mv_data = key;

    for (n = 0; n < IMS_POOL_FIRST; n++) {

        rc = mdb_cursor_get(cursor, &k, &v, n ? MDB_NEXT : MDB_SET_RANGE);

        if (rc != 0 || !ims_pool_avail_parse(&k, &a) || a.pool != pool
            || a.time >= *first)
        {
            break;
        }

        if (ims_pool_w_rec(w, a.ident, &rec) == IMS_POOL_OK
            && !(rec.flags & (IMS_POOL_F_OFF|IMS_POOL_F_SHUT))
            && rec.rest < *first)
        {
            *first = rec.rest;
        }
    }

    mdb_cursor_close(cursor);

    if (rc != 0 && rc != MDB_NOTFOUND) {
        return ims_pool_w_fail(w, rc);
    }

    return IMS_POOL_OK;
}


/* with nothing to give: in how many seconds there may be something */

static int
ims_pool_avail_retry(ims_pool_writer_t *w, uint32_t pool, uint32_t *retry_s)
{
    int       rc;
    uint64_t  first, s;

    rc = ims_pool_avail_first(w, pool, &first);
    if (rc != IMS_POOL_OK) {
        return rc;
    }

    if (first == IMS_POOL_NEVER) {
        *retry_s = IMS_POOL_RETRY_S;
        return IMS_POOL_EXHAUSTED;
    }

    s = first > w->now ? (first - w->now + 999) / 1000 : 1;
    *retry_s = s < UINT32_MAX ? (uint32_t) s : UINT32_MAX;

    return IMS_POOL_EXHAUSTED;
}


int
ims_pool_w_avail_place(ims_pool_writer_t *w, ims_pool_rec_t *rec,
    uint16_t flags)
{
    int               rc;
    uint8_t           key[IMS_POOL_AVAIL_KEY];
    ims_pool_avail_t  a;

    a = ims_pool_avail_of(rec);
    ims_pool_avail_key(key, &a);

    rc = ims_pool_w_del(w, IMS_POOL_T_AVAIL, key, sizeof(key));

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    rec->flags = flags;

    /* a removed one is on its way out, whatever else it is */

    rec->avail = (flags & IMS_POOL_F_SHUT) && !(flags & IMS_POOL_F_REMOVING)
                 ? IMS_POOL_NEVER : rec->rest;

    a = ims_pool_avail_of(rec);
    ims_pool_avail_key(key, &a);

    return ims_pool_w_put(w, IMS_POOL_T_AVAIL, key, sizeof(key), NULL, 0, 0);
}


int
ims_pool_w_avail_move(ims_pool_writer_t *w, ims_pool_rec_t *rec, uint64_t time)
{
    int               rc;
    uint8_t           key[IMS_POOL_AVAIL_KEY];
    ims_pool_avail_t  a;

    a = ims_pool_avail_of(rec);
    ims_pool_avail_key(key, &a);

    rc = ims_pool_w_del(w, IMS_POOL_T_AVAIL, key, sizeof(key));

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    rec->avail = time;
    a.time = time;
    ims_pool_avail_key(key, &a);

    return ims_pool_w_put(w, IMS_POOL_T_AVAIL, key, sizeof(key), NULL, 0, 0);
}
