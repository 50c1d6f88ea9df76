/*
 * Copyright (C) nginx-ims contributors
 *
 * The invariants, looked for in what is on the disk.
 *
 * A phase walks one tree in slices and holds every row against the other
 * trees of the same snapshot; so it may run while leases are given.
 */

#include "ims_pool_wint.h"
#include "sip/ims_sip_uri.h"


#define IMS_POOL_FAULTS_TOLD  20


typedef struct {
    ims_pool_check_t  *check;
    MDB_txn           *txn;
    const MDB_dbi     *dbi;
    ims_pool_state_t   state;
    ims_pool_floor_t   floor;
} ims_pool_checker_t;

typedef void (*ims_pool_check_pt)(ims_pool_checker_t *c, const MDB_val *k,
    ims_str_t row);


static void ims_pool_check_pool(ims_pool_checker_t *c, const MDB_val *k,
    ims_str_t row);
static void ims_pool_check_ident(ims_pool_checker_t *c, const MDB_val *k,
    ims_str_t row);
static void ims_pool_check_avail(ims_pool_checker_t *c, const MDB_val *k,
    ims_str_t row);
static void ims_pool_check_user(ims_pool_checker_t *c, const MDB_val *k,
    ims_str_t row);
static void ims_pool_check_uri(ims_pool_checker_t *c, const MDB_val *k,
    ims_str_t row);
static void ims_pool_check_hist(ims_pool_checker_t *c, const MDB_val *k,
    ims_str_t row);
static void ims_pool_check_feed(ims_pool_checker_t *c, const MDB_val *k,
    ims_str_t row);
static int ims_pool_check_phase(ims_pool_checker_t *c, unsigned max);
static void ims_pool_check_last(ims_pool_checker_t *c);


static const struct {
    ims_pool_tree_e    tree;
    ims_pool_check_pt  row;
} ims_pool_phases[] = {
    { IMS_POOL_T_POOL,  ims_pool_check_pool  },
    { IMS_POOL_T_IDENT, ims_pool_check_ident },
    { IMS_POOL_T_AVAIL, ims_pool_check_avail },
    { IMS_POOL_T_USER,  ims_pool_check_user  },
    { IMS_POOL_T_URI,   ims_pool_check_uri   },
    { IMS_POOL_T_HIST,  ims_pool_check_hist  },
    { IMS_POOL_T_FEED,  ims_pool_check_feed  },
};

#define IMS_POOL_PHASES                                                       \
    (sizeof(ims_pool_phases) / sizeof(ims_pool_phases[0]))


const char *
ims_pool_fault_text(ims_pool_fault_e fault)
{
    static const char *const  text[] = {
        "row damaged", "times out of order", "lease above the last one given",
        "avail row wrong", "user row and holder differ",
        "names and uri differ", "no such pool", "gap in the feed",
        "total wrong", "incarnation above the floor", "leases overlap"
    };

    return (size_t) fault < sizeof(text) / sizeof(text[0]) ? text[fault] : "?";
}


void
ims_pool_check_begin(ims_pool_check_t *check, ims_pool_fault_pt cb, void *ctx)
{
    memset(check, 0, sizeof(ims_pool_check_t));

    check->cb = cb;
    check->ctx = ctx;
}


uint64_t
ims_pool_check_total(const ims_pool_check_t *check)
{
    unsigned  i;
    uint64_t  n;

    n = 0;

    for (i = 0; i < IMS_POOL_FAULTS; i++) {
        n += check->faults[i];
    }

    return n;
}


static void
ims_pool_fault(ims_pool_checker_t *c, ims_pool_fault_e fault, uint64_t ident)
{
    ims_pool_check_t  *check;

    check = c->check;

    if (check->faults[fault]++ < IMS_POOL_FAULTS_TOLD && check->cb != NULL) {
        check->cb(check->ctx, fault, ident);
    }
}


int
ims_pool_check_slice(ims_pool_writer_t *w, ims_pool_check_t *check,
    unsigned max)
{
    int                  rc;
    ims_pool_reader_t   *r;
    ims_pool_checker_t   c;

    if (check->phase > IMS_POOL_PHASES) {
        return IMS_POOL_OK;
    }

    r = w->reader;

    if (ims_pool_snap(r) != IMS_POOL_OK) {
        return IMS_POOL_INTERNAL;
    }

    c.check = check;
    c.txn = r->txn;
    c.dbi = r->dbi;
    c.state = r->state;
    c.floor = w->floor;

    if (check->phase == IMS_POOL_PHASES) {
        ims_pool_check_last(&c);
        check->phase++;
        rc = IMS_POOL_OK;

    } else {
        rc = ims_pool_check_phase(&c, max);
    }

    ims_pool_unsnap(r);

    return rc;
}


/* up to max rows of the phase's tree, behind the last one seen */

static int
ims_pool_check_phase(ims_pool_checker_t *c, unsigned max)
{
    int                rc;
    MDB_val            k, v;
    unsigned           n;
    ims_str_t          row;
    MDB_cursor        *cursor;
    ims_pool_check_t  *check;

    check = c->check;

    if (mdb_cursor_open(c->txn, c->dbi[ims_pool_phases[check->phase].tree],
                        &cursor)
        != 0)
    {
        return IMS_POOL_INTERNAL;
    }

    k.mv_size = check->nkey;
    k.mv_data = check->key;

    rc = mdb_cursor_get(cursor, &k, &v,
                        check->nkey ? MDB_SET_RANGE : MDB_FIRST);

    if (rc == 0 && check->nkey && k.mv_size == check->nkey
        && memcmp(k.mv_data, check->key, check->nkey) == 0)
    {
        rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    }

    for (n = 0; rc == 0 && n < max; n++) {

        check->rows++;
        check->nkey = (unsigned) k.mv_size;
        memcpy(check->key, k.mv_data, k.mv_size);

        if (ims_pool_row_open(&k, &v, &row)) {
            ims_pool_phases[check->phase].row(c, &k, row);

        } else {
            ims_pool_fault(c, IMS_POOL_FAULT_ROW,
                           k.mv_size >= 8 ? ims_pool_get64(k.mv_data) : 0);
        }

        rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    }

    mdb_cursor_close(cursor);

    if (rc != 0 && rc != MDB_NOTFOUND) {
        return IMS_POOL_INTERNAL;
    }

    if (rc == MDB_NOTFOUND) {
        check->phase++;
        check->nkey = 0;
    }

    return IMS_POOL_MORE;
}


static void
ims_pool_check_pool(ims_pool_checker_t *c, const MDB_val *k, ims_str_t row)
{
    uint32_t    number, other;
    ims_pool_t  pool;

    number = k->mv_size == 4 ? ims_pool_get32(k->mv_data) : 0;

    if (!ims_pool_pool_decode(row, number, &pool)) {
        ims_pool_fault(c, IMS_POOL_FAULT_ROW, number);
        return;
    }

    if (ims_pool_row_copy(c->txn, c->dbi[IMS_POOL_T_POOLNAME], pool.name,
                          pool.head.nname, &other, sizeof(other))
        != IMS_POOL_OK || other != number || number > c->state.last_pool)
    {
        ims_pool_fault(c, IMS_POOL_FAULT_POOL, number);
    }

    if (ims_pool_term(&pool.head) > c->floor.term) {
        ims_pool_fault(c, IMS_POOL_FAULT_FLOOR, number);
    }
}


static bool
ims_pool_check_times(const ims_pool_rec_t *rec)
{
    uint64_t  end;
    unsigned  i;

    if (rec->avail > rec->rest
        && (rec->avail != IMS_POOL_NEVER || !(rec->flags & IMS_POOL_F_SHUT)))
    {
        return false;
    }

    if (rec->lease == 0) {
        return rec->end == 0 && rec->nsession == 0
               && (rec->promised == 0 || (rec->flags & IMS_POOL_F_PURGED));
    }

    for (i = 0, end = 0; i < rec->nsession; i++) {
        if (rec->session[i].sid == 0 || rec->session[i].end > rec->end) {
            return false;
        }

        if (end < rec->session[i].end) {
            end = rec->session[i].end;
        }
    }

    if (rec->nsession != 0 && end != rec->end) {
        return false;
    }

    if ((rec->flags & IMS_POOL_F_PER_SESSION) && rec->nsession != 1) {
        return false;
    }

    return rec->start <= rec->end && rec->end <= rec->promised
           && ((rec->flags & IMS_POOL_F_PURGED)
               || rec->promised + rec->linger <= rec->rest);
}


/* every name of the identity leads back to it */

static bool
ims_pool_check_names(ims_pool_checker_t *c, const ims_pool_rec_t *rec)
{
    size_t             n;
    uint8_t            key[8], uri[IMS_POOL_KEY_MAX];
    unsigned           i;
    ptrdiff_t          len;
    ims_str_t          row;
    ims_pool_uri_t     u;
    ims_pool_names_t   names;

    ims_pool_be64(key, rec->ident);

    if (ims_pool_row(c->txn, c->dbi[IMS_POOL_T_NAME], key, sizeof(key), &row)
        != IMS_POOL_OK || !ims_pool_names_decode(row, rec->ident, &names))
    {
        return false;
    }

    n = ims_pool_impi_key(uri, sizeof(uri), names.impi);

    if (ims_pool_row_copy(c->txn, c->dbi[IMS_POOL_T_URI], uri, n, &u,
                          sizeof(u)) != IMS_POOL_OK
        || u.ident != rec->ident)
    {
        return false;
    }

    for (i = 0; i < names.nimpu; i++) {

        len = ims_sip_canon(uri, sizeof(uri), names.impu[i].given);

        if (len <= 0 || !ims_str_eq(ims_str_set(uri, (size_t) len),
                                    names.impu[i].canon))
        {
            return false;
        }

        len = ims_sip_fold(uri, sizeof(uri), names.impu[i].canon);

        if (len <= 0
            || ims_pool_row_copy(c->txn, c->dbi[IMS_POOL_T_URI], uri,
                                 (size_t) len, &u, sizeof(u)) != IMS_POOL_OK
            || u.ident != rec->ident || u.ordinal > i)
        {
            return false;
        }
    }

    return names.nimpu != 0;
}


static bool
ims_pool_check_holder(ims_pool_checker_t *c, const ims_pool_rec_t *rec)
{
    size_t           n;
    uint8_t          key[IMS_POOL_USER_KEY];
    ims_pool_user_t  user;

    if (rec->lease == 0 || (rec->flags & IMS_POOL_F_PARTED)) {
        return true;
    }

    n = ims_pool_holder_key(key, rec);

    return ims_pool_row_copy(c->txn, c->dbi[IMS_POOL_T_USER], key, n, &user,
                             sizeof(user)) == IMS_POOL_OK
           && user.ident == rec->ident && user.hash_key == rec->hash_key;
}


static void
ims_pool_check_ident(ims_pool_checker_t *c, const MDB_val *k, ims_str_t row)
{
    uint8_t           key[IMS_POOL_AVAIL_KEY];
    uint64_t          ident;
    ims_str_t         empty;
    ims_pool_t        pool;
    ims_pool_rec_t    rec;
    ims_pool_avail_t  a;

    ident = k->mv_size == 8 ? ims_pool_get64(k->mv_data) : 0;

    if (!ims_pool_rec_decode(row, ident, &rec)) {
        ims_pool_fault(c, IMS_POOL_FAULT_ROW, ident);
        return;
    }

    if (!ims_pool_check_times(&rec)) {
        ims_pool_fault(c, IMS_POOL_FAULT_TIMES, ident);
    }

    if (rec.lease > c->state.last_lease) {
        ims_pool_fault(c, IMS_POOL_FAULT_LEASE, ident);
    }

    if (ims_pool_pool(c->txn, c->dbi, rec.pool, &pool) != IMS_POOL_OK) {
        ims_pool_fault(c, IMS_POOL_FAULT_POOL, ident);
    }

    a = ims_pool_avail_of(&rec);
    ims_pool_avail_key(key, &a);

    /* a staged one has none yet */

    if (ims_pool_row(c->txn, c->dbi[IMS_POOL_T_AVAIL], key, sizeof(key),
                     &empty)
        != ((rec.flags & IMS_POOL_F_STAGED) ? IMS_POOL_NOTFOUND
                                            : IMS_POOL_OK))
    {
        ims_pool_fault(c, IMS_POOL_FAULT_AVAIL, ident);
    }

    if (!ims_pool_check_holder(c, &rec)) {
        ims_pool_fault(c, IMS_POOL_FAULT_USER, ident);
    }

    if (!ims_pool_check_names(c, &rec)) {
        ims_pool_fault(c, IMS_POOL_FAULT_NAMES, ident);
    }
}


/* with the above: exactly one row an identity, equal to its record's */

static void
ims_pool_check_avail(ims_pool_checker_t *c, const MDB_val *k, ims_str_t row)
{
    ims_pool_rec_t    rec;
    ims_pool_avail_t  a;

    if (!ims_pool_avail_parse(k, &a) || row.n != 0) {
        ims_pool_fault(c, IMS_POOL_FAULT_ROW, 0);
        return;
    }

    if (ims_pool_rec(c->txn, c->dbi, a.ident, &rec) != IMS_POOL_OK
        || rec.avail != a.time || ims_pool_avail_of(&rec).pool != a.pool)
    {
        ims_pool_fault(c, IMS_POOL_FAULT_AVAIL, a.ident);
    }
}


static void
ims_pool_check_user(ims_pool_checker_t *c, const MDB_val *k, ims_str_t row)
{
    size_t           n;
    uint8_t          key[IMS_POOL_USER_KEY];
    ims_str_t        found;
    ims_pool_rec_t   rec;
    ims_pool_user_t  user;

    if (row.n != sizeof(user)) {
        ims_pool_fault(c, IMS_POOL_FAULT_ROW, 0);
        return;
    }

    memcpy(&user, row.p, sizeof(user));
    found = ims_str_set(k->mv_data, k->mv_size);
    n = ims_pool_user_key(key, user.user, user.pool, user.session);

    if (!ims_str_eq(ims_str_set(key, n), found)
        || ims_pool_rec(c->txn, c->dbi, user.ident, &rec) != IMS_POOL_OK
        || rec.hash_key != user.hash_key
        || (rec.flags & IMS_POOL_F_PARTED)
        || !ims_str_eq(ims_str_set(key, ims_pool_holder_key(key, &rec)),
                       found))
    {
        ims_pool_fault(c, IMS_POOL_FAULT_USER, user.ident);
    }
}


static void
ims_pool_check_uri(ims_pool_checker_t *c, const MDB_val *k, ims_str_t row)
{
    uint8_t           key[8], folded[IMS_POOL_KEY_MAX];
    ptrdiff_t         len;
    ims_str_t         text;
    ims_pool_uri_t    uri;
    ims_pool_names_t  names;

    if (row.n != sizeof(uri)) {
        ims_pool_fault(c, IMS_POOL_FAULT_ROW, 0);
        return;
    }

    memcpy(&uri, row.p, sizeof(uri));
    ims_pool_be64(key, uri.ident);

    if (ims_pool_row(c->txn, c->dbi[IMS_POOL_T_NAME], key, sizeof(key), &text)
        != IMS_POOL_OK || !ims_pool_names_decode(text, uri.ident, &names))
    {
        ims_pool_fault(c, IMS_POOL_FAULT_NAMES, uri.ident);
        return;
    }

    if (*(const uint8_t *) k->mv_data == IMS_POOL_FORMER) {

        if (!ims_pool_former_fits(k, &uri, &names)) {
            ims_pool_fault(c, IMS_POOL_FAULT_NAMES, uri.ident);
        }

        return;
    }

    if (*(const uint8_t *) k->mv_data == '\0') {
        len = (ptrdiff_t) ims_pool_impi_key(folded, sizeof(folded),
                                            names.impi);

    } else {
        len = uri.ordinal < names.nimpu
              ? ims_sip_fold(folded, sizeof(folded),
                             names.impu[uri.ordinal].given)
              : -1;
    }

    if (len <= 0 || !ims_str_eq(ims_str_set(folded, (size_t) len),
                                ims_str_set(k->mv_data, k->mv_size)))
    {
        ims_pool_fault(c, IMS_POOL_FAULT_NAMES, uri.ident);
    }
}


/*
 * The lease that followed: the next row of this identity, or the record's.
 * user and start; false if there is none.
 */
static bool
ims_pool_check_next(ims_pool_checker_t *c, const ims_pool_hist_t *h,
    ims_pool_hist_t *next)
{
    int              rc;
    bool             found;
    uint8_t          key[16];
    MDB_val          k, v;
    ims_str_t        row;
    MDB_cursor      *cursor;
    ims_pool_rec_t   rec;

    if (mdb_cursor_open(c->txn, c->dbi[IMS_POOL_T_HIST], &cursor) != 0) {
        return false;
    }

    ims_pool_be64(key, h->ident);
    ims_pool_be64(key + 8, h->lease + 1);
    k.mv_size = sizeof(key);
    k.mv_data = key;

    rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);

    found = rc == 0 && memcmp(k.mv_data, key, 8) == 0
            && ims_pool_row_open(&k, &v, &row) && row.n == sizeof(*next);

    if (found) {
        memcpy(next, row.p, sizeof(*next));
    }

    mdb_cursor_close(cursor);

    if (found) {
        return true;
    }

    if (ims_pool_rec(c->txn, c->dbi, h->ident, &rec) != IMS_POOL_OK
        || rec.lease <= h->lease)
    {
        return false;
    }

    memcpy(next->user, rec.user, sizeof(next->user));
    next->hash_key = rec.hash_key;
    next->start = rec.start;

    return true;
}


static void
ims_pool_check_hist(ims_pool_checker_t *c, const MDB_val *k, ims_str_t row)
{
    bool             other;
    uint8_t          key[16];
    ims_pool_hist_t  h, next;

    if (row.n != sizeof(h) || k->mv_size != sizeof(key)) {
        ims_pool_fault(c, IMS_POOL_FAULT_ROW, 0);
        return;
    }

    memcpy(&h, row.p, sizeof(h));
    ims_pool_be64(key, h.ident);
    ims_pool_be64(key + 8, h.lease);

    if (memcmp(key, k->mv_data, sizeof(key)) != 0) {
        ims_pool_fault(c, IMS_POOL_FAULT_ROW, h.ident);
        return;
    }

    if (h.start > h.end || h.lease > c->state.last_lease) {
        ims_pool_fault(c, IMS_POOL_FAULT_HIST, h.ident);
        return;
    }

    if (h.ident <= UINT32_MAX) {
        /* a pool's fence */
        return;
    }

    if (!ims_pool_check_next(c, &h, &next)) {
        return;
    }

    /* hashes of two keys cannot be compared */

    other = next.hash_key == h.hash_key
            && memcmp(next.user, h.user, sizeof(h.user)) != 0;

    if (next.start < h.end || (other && next.start < h.rest)) {
        ims_pool_fault(c, IMS_POOL_FAULT_HIST, h.ident);
    }
}


static void
ims_pool_check_feed(ims_pool_checker_t *c, const MDB_val *k, ims_str_t row)
{
    uint64_t              seq;
    ims_pool_feed_row_t   f;
    ims_pool_check_t     *check;

    check = c->check;
    seq = k->mv_size == 8 ? ims_pool_get64(k->mv_data) : 0;

    if (row.n != sizeof(f)) {
        ims_pool_fault(c, IMS_POOL_FAULT_ROW, seq);
        return;
    }

    memcpy(&f, row.p, sizeof(f));

    if (f.seq != seq || seq > c->state.feed_seq
        || (check->last_seq != 0 && seq != check->last_seq + 1))
    {
        ims_pool_fault(c, IMS_POOL_FAULT_FEED, seq);
    }

    check->last_seq = seq;
}


/* what needs no walk: one snapshot for all of it */

static void
ims_pool_check_last(ims_pool_checker_t *c)
{
    MDB_stat    st;
    uint32_t    number;
    uint64_t    total;
    ims_pool_t  pool;

    total = 0;

    for (number = 1; number <= c->state.last_pool; number++) {
        if (ims_pool_pool(c->txn, c->dbi, number, &pool) == IMS_POOL_OK) {
            total += pool.head.identities;
        }
    }

    if (mdb_stat(c->txn, c->dbi[IMS_POOL_T_AVAIL], &st) != 0
        || st.ms_entries != total)
    {
        ims_pool_fault(c, IMS_POOL_FAULT_TOTAL, total);
    }

    if (c->state.incarnation > c->floor.incarnation
        || c->state.last_lease >> IMS_POOL_LEASE_BITS != c->state.incarnation)
    {
        ims_pool_fault(c, IMS_POOL_FAULT_FLOOR, c->state.incarnation);
    }
}
