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
#define IMS_POOL_TOTAL_TRIES  5


typedef void (*ims_pool_check_pt)(ims_pool_checker_t *c, const MDB_val *k,
    ims_str_t row);

/* before the first row of a tree, and behind the last; true: once more */
typedef void (*ims_pool_check_begin_pt)(ims_pool_checker_t *c);
typedef bool (*ims_pool_check_end_pt)(ims_pool_checker_t *c);


static void ims_pool_check_state(ims_pool_checker_t *c, const MDB_val *k,
    ims_str_t row);
static void ims_pool_check_poolname(ims_pool_checker_t *c, const MDB_val *k,
    ims_str_t row);
static void ims_pool_check_pool(ims_pool_checker_t *c, const MDB_val *k,
    ims_str_t row);
static void ims_pool_check_ident(ims_pool_checker_t *c, const MDB_val *k,
    ims_str_t row);
static void ims_pool_check_renewal(ims_pool_checker_t *c, const MDB_val *k,
    ims_str_t row);
static bool ims_pool_check_renewed(ims_pool_checker_t *c,
    const ims_pool_renewal_t *r, uint64_t no);
static void ims_pool_check_total_begin(ims_pool_checker_t *c);
static void ims_pool_check_total_row(ims_pool_checker_t *c, const MDB_val *k,
    ims_str_t row);
static bool ims_pool_check_total_end(ims_pool_checker_t *c);
static void ims_pool_check_name(ims_pool_checker_t *c, const MDB_val *k,
    ims_str_t row);
static void ims_pool_check_avail(ims_pool_checker_t *c, const MDB_val *k,
    ims_str_t row);
static void ims_pool_check_uri(ims_pool_checker_t *c, const MDB_val *k,
    ims_str_t row);
static void ims_pool_check_hist(ims_pool_checker_t *c, const MDB_val *k,
    ims_str_t row);
static void ims_pool_check_feed(ims_pool_checker_t *c, const MDB_val *k,
    ims_str_t row);
static bool ims_pool_check_place(ims_pool_checker_t *c,
    const ims_pool_rec_t *rec);
static bool ims_pool_check_staged(ims_pool_checker_t *c,
    const ims_pool_rec_t *rec);
static bool ims_pool_check_holder(ims_pool_checker_t *c,
    const ims_pool_rec_t *rec, const ims_pool_t *pool);
static void ims_pool_check_sums(ims_pool_checker_t *c, uint64_t *sum);
static bool ims_pool_check_past(ims_pool_checker_t *c, uint64_t ident);
static bool ims_pool_check_feed_end(ims_pool_checker_t *c);
static void ims_pool_check_reg(ims_pool_checker_t *c, const MDB_val *k,
    ims_str_t row);
static void ims_pool_check_key(ims_pool_checker_t *c, const MDB_val *k,
    ims_str_t row);
static void ims_pool_check_import(ims_pool_checker_t *c, const MDB_val *k,
    ims_str_t row);
static void ims_pool_check_clock(ims_pool_checker_t *c, const MDB_val *k,
    ims_str_t row);
static unsigned ims_pool_check_block(ims_pool_checker_t *c, const MDB_val *k,
    const MDB_val *v);
static void ims_pool_check_one(ims_pool_checker_t *c, const MDB_val *k,
    bool good, ims_str_t row);
static int ims_pool_check_phase(ims_pool_checker_t *c, unsigned max);
static void ims_pool_check_importing(ims_pool_checker_t *c);
static void ims_pool_check_last(ims_pool_checker_t *c);


static const struct {
    ims_pool_tree_e           tree;
    ims_pool_check_pt         row;
    ims_pool_check_begin_pt   begin;
    ims_pool_check_end_pt     end;
} ims_pool_phases[] = {
    { IMS_POOL_T_META,     ims_pool_check_state,     NULL, NULL },
    { IMS_POOL_T_POOL,     ims_pool_check_pool,      NULL, NULL },
    { IMS_POOL_T_POOLNAME, ims_pool_check_poolname,  NULL, NULL },
    { IMS_POOL_T_IDENT,    ims_pool_check_ident,     NULL, NULL },
    { IMS_POOL_T_IDENT,    ims_pool_check_total_row,
                           ims_pool_check_total_begin,
                           ims_pool_check_total_end             },
    { IMS_POOL_T_RENEWAL,  ims_pool_check_renewal,   NULL, NULL },
    { IMS_POOL_T_NAME,     ims_pool_check_name,      NULL, NULL },
    { IMS_POOL_T_URI,      ims_pool_check_uri,       NULL, NULL },
    { IMS_POOL_T_AVAIL,    ims_pool_check_avail,     NULL, NULL },
    { IMS_POOL_T_HIST,     ims_pool_check_hist,      NULL, NULL },
    { IMS_POOL_T_FEED,     ims_pool_check_feed,      NULL,
                           ims_pool_check_feed_end              },
    { IMS_POOL_T_REG,      ims_pool_check_reg,       NULL, NULL },
    { IMS_POOL_T_KEY,      ims_pool_check_key,       NULL, NULL },
    { IMS_POOL_T_IMPORT,   ims_pool_check_import,    NULL, NULL },
    { IMS_POOL_T_STAT,     ims_pool_check_clock,     NULL, NULL },
};

#define IMS_POOL_PHASES                                                       \
    (sizeof(ims_pool_phases) / sizeof(ims_pool_phases[0]))


const char *
ims_pool_fault_text(ims_pool_fault_e fault)
{
    static const char *const  text[] = {
        "row damaged", "times out of order", "number above the last one given",
        "avail row wrong", "a user with two identities, or none",
        "names and uri differ", "no such pool", "gap in the feed",
        "total wrong", "incarnation above the floor", "leases overlap",
        "staged without an import", "pages lost or used twice",
        "file or its mode wrong", "renewal of no lease"
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


void
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

    memset(&c, 0, sizeof(c));

    c.check = check;
    c.env = w->env;
    c.txn = r->txn;
    c.dbi = r->dbi;
    c.recent = r->recent;
    c.users = &w->users;
    c.state = r->state;
    c.floor = w->floor;
    c.pt = ims_pool_pt(r);

    if (!w->users.loaded) {
        /* a copy, of which nobody is the writer */
        rc = ims_pool_users_load(&w->users, r->txn, r->dbi, &w->clock);

        if (rc != IMS_POOL_OK) {
            ims_pool_unsnap(r);
            return rc;
        }
    }

    ims_pool_check_importing(&c);

    if (check->phase == IMS_POOL_PHASES) {
        ims_pool_check_last(&c);
        ims_pool_check_pages(&c);
        ims_pool_check_readers(&c);
        ims_pool_check_files(&c, w);

        check->phase++;
        rc = IMS_POOL_OK;

    } else {
        rc = ims_pool_check_phase(&c, max);
    }

    ims_pool_unsnap(r);

    return rc;
}


/* the import that is not finished, if there is one */

static void
ims_pool_check_importing(ims_pool_checker_t *c)
{
    uint8_t  key[4];

    ims_pool_be32(key, c->state.import_no);

    c->importing = ims_pool_row_copy(c->txn, c->dbi[IMS_POOL_T_IMPORT], key,
                                     sizeof(key), &c->import,
                                     sizeof(c->import)) == IMS_POOL_OK
                   && c->import.state != IMS_POOL_IMPORT_DONE
                   && c->import.state != IMS_POOL_IMPORT_UNDONE;
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

    if (check->nkey == 0 && ims_pool_phases[check->phase].begin != NULL) {
        ims_pool_phases[check->phase].begin(c);
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

    for (n = 0; rc == 0 && n < max; /* void */ ) {

        check->nkey = (unsigned) k.mv_size;
        memcpy(check->key, k.mv_data, k.mv_size);

        if (ims_pool_phases[check->phase].tree == IMS_POOL_T_IDENT) {
            n += ims_pool_check_block(c, &k, &v);

        } else {
            ims_pool_check_one(c, &k, ims_pool_row_open(&k, &v, &row), row);
            n++;
        }

        rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    }

    mdb_cursor_close(cursor);

    if (rc != 0 && rc != MDB_NOTFOUND) {
        return IMS_POOL_INTERNAL;
    }

    if (rc == MDB_NOTFOUND) {

        if (ims_pool_phases[check->phase].end == NULL
            || !ims_pool_phases[check->phase].end(c))
        {
            check->phase++;
        }

        check->nkey = 0;
    }

    return IMS_POOL_MORE;
}


static void
ims_pool_check_one(ims_pool_checker_t *c, const MDB_val *k, bool good,
    ims_str_t row)
{
    c->check->rows++;

    if (good) {
        ims_pool_phases[c->check->phase].row(c, k, row);

    } else {
        ims_pool_fault(c, IMS_POOL_FAULT_ROW,
                       k->mv_size >= 8 ? ims_pool_get64(k->mv_data) : 0);
    }
}


/*
 * A row of records, each taken for one, with a key as other trees have it; how
 * many there were.
 */

static unsigned
ims_pool_check_block(ims_pool_checker_t *c, const MDB_val *k, const MDB_val *v)
{
    uint8_t                key[8];
    MDB_val                one;
    uint64_t               ident;
    unsigned               i, n;
    ims_str_t              row;
    const uint8_t         *slot;
    ims_pool_block_head_t  h;

    one.mv_size = sizeof(key);
    one.mv_data = key;

    if (!ims_pool_block_open(k, v, &h) || h.used == 0) {
        ident = 0;

        if (k->mv_size == sizeof(ident)) {
            memcpy(&ident, k->mv_data, sizeof(ident));
        }

        ims_pool_be64(key, ident);
        ims_pool_check_one(c, &one, false, ims_str_set(NULL, 0));
        return 1;
    }

    for (i = 0, n = 0; i < IMS_POOL_BLOCK; i++) {

        if ((h.used >> i & 1) == 0) {
            continue;
        }

        ident = h.first + i;
        ims_pool_be64(key, ident);
        slot = (const uint8_t *) v->mv_data + offsetof(ims_pool_block_t, slot)
               + i * IMS_POOL_SLOT;

        ims_pool_check_one(c, &one, ims_pool_slot_row(slot, ident, &row), row);
        n++;
    }

    return n;
}


static void
ims_pool_check_state(ims_pool_checker_t *c, const MDB_val *k, ims_str_t row)
{
    /* what is in it was looked at when the snapshot was taken */

    if (!ims_str_eq(ims_str_set(k->mv_data, k->mv_size),
                    ims_str_z(IMS_POOL_STATE_KEY))
        || row.n != sizeof(ims_pool_state_t)
        || c->state.renew_first > c->state.renew_mid
        || c->state.renew_mid > c->state.renew_last + 1)
    {
        ims_pool_fault(c, IMS_POOL_FAULT_ROW, 0);
    }
}


static void
ims_pool_check_poolname(ims_pool_checker_t *c, const MDB_val *k,
    ims_str_t row)
{
    uint32_t    number;
    ims_pool_t  pool;

    if (row.n != sizeof(number)) {
        ims_pool_fault(c, IMS_POOL_FAULT_ROW, 0);
        return;
    }

    memcpy(&number, row.p, sizeof(number));

    if (ims_pool_pool(c->txn, c->dbi, number, &pool) != IMS_POOL_OK
        || !ims_str_eq(ims_str_set(k->mv_data, k->mv_size),
                       ims_str_set(pool.name, pool.head.nname)))
    {
        ims_pool_fault(c, IMS_POOL_FAULT_POOL, number);
    }
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
        || u.ident != rec->ident || u.pool != rec->pool)
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

        len = ims_sip_canon(uri, sizeof(uri), names.impu[i].canon);

        if (len <= 0 || !ims_str_eq(ims_str_set(uri, (size_t) len),
                                    names.impu[i].canon))
        {
            return false;
        }

        len = ims_sip_fold(uri, sizeof(uri), names.impu[i].canon);

        if (len <= 0
            || ims_pool_row_copy(c->txn, c->dbi[IMS_POOL_T_URI], uri,
                                 (size_t) len, &u, sizeof(u)) != IMS_POOL_OK
            || u.ident != rec->ident || u.ordinal > i || u.pool != rec->pool)
        {
            return false;
        }
    }

    return names.nimpu != 0;
}


/* its row of avail is there, and no later than its rest */

static bool
ims_pool_check_place(ims_pool_checker_t *c, const ims_pool_rec_t *rec)
{
    uint8_t           key[IMS_POOL_AVAIL_KEY];
    ims_str_t         empty;
    ims_pool_avail_t  a;

    if (rec->avail > rec->rest
        && (rec->avail != IMS_POOL_NEVER || !(rec->flags & IMS_POOL_F_SHUT)))
    {
        return false;
    }

    a = ims_pool_avail_of(rec);
    ims_pool_avail_key(key, &a);

    /* a staged one has none yet */

    return ims_pool_row(c->txn, c->dbi[IMS_POOL_T_AVAIL], key, sizeof(key),
                        &empty)
           == ((rec->flags & IMS_POOL_F_STAGED) ? IMS_POOL_NOTFOUND
                                                : IMS_POOL_OK);
}


/* staged are those of the import under way, and of an open one all */

static bool
ims_pool_check_staged(ims_pool_checker_t *c, const ims_pool_rec_t *rec)
{
    bool  mine;

    mine = c->importing && rec->import_no == c->import.import_no
           && rec->ident >= c->import.first
           && rec->ident < c->import.first + c->import.count;

    if (rec->flags & IMS_POOL_F_STAGED) {
        return mine;
    }

    return !mine || c->import.state == IMS_POOL_IMPORT_PUBLISHING;
}


/*
 * The holder has one way to it, and no other identity meanwhile: but of one
 * that is being closed he may have got the next before its end.
 */
static bool
ims_pool_check_holder(ims_pool_checker_t *c, const ims_pool_rec_t *rec,
    const ims_pool_t *pool)
{
    bool            own;
    size_t          pos;
    uint8_t         text[IMS_POOL_USER_KEY];
    uint64_t        ident;
    ims_str_t       key;
    ims_pool_rec_t  other;

    if (rec->lease == 0) {
        return true;
    }

    if (rec->flags & IMS_POOL_F_PARTED) {
        return (rec->flags & IMS_POOL_F_SHUT)
               || ims_pool_state_of(rec, pool->head.fence, c->pt)
                  != IMS_POOL_ST_LEASED;
    }

    key = ims_str_set(text, ims_pool_holder_key(text, rec));

    for (own = false, pos = 0;
         ims_pool_users_next(c->users, key, false, &pos, &ident); )
    {
        if (ident == rec->ident) {
            own = true;

        } else if (ims_pool_rec(c->txn, c->dbi, ident, &other) == IMS_POOL_OK
                   && ims_pool_users_is(&other, key, false))
        {
            return false;
        }
    }

    /* a session is a part of the key where there is one for each, only there */

    return own && ((rec->flags & IMS_POOL_F_PER_SESSION) != 0)
                  == (pool->head.per == IMS_POOL_PER_SESSION);
}


static void
ims_pool_check_ident(ims_pool_checker_t *c, const MDB_val *k, ims_str_t row)
{
    bool            right;
    uint64_t        ident;
    ims_pool_t      pool;
    ims_pool_rec_t  rec;

    ident = k->mv_size == 8 ? ims_pool_get64(k->mv_data) : 0;

    if (!ims_pool_rec_decode(row, ident, &rec)) {
        ims_pool_fault(c, IMS_POOL_FAULT_ROW, ident);
        return;
    }

    right = ims_pool_check_times(&rec);

    if (ims_pool_recent_add(c->recent, &rec)) {
        right = right && ims_pool_check_times(&rec);
    }

    if (!right) {
        ims_pool_fault(c, IMS_POOL_FAULT_TIMES, ident);
    }

    if (rec.renewed > c->state.renew_last) {
        ims_pool_fault(c, IMS_POOL_FAULT_RENEWAL, ident);
    }

    if (rec.lease > c->state.last_lease
        || (ident >> 32 == c->state.block
            && (uint32_t) ident > c->state.last_index))
    {
        ims_pool_fault(c, IMS_POOL_FAULT_LEASE, ident);
    }

    if (ims_pool_pool(c->txn, c->dbi, rec.pool, &pool) != IMS_POOL_OK) {
        ims_pool_fault(c, IMS_POOL_FAULT_POOL, ident);
        memset(&pool, 0, sizeof(pool));
    }

    if (!ims_pool_check_place(c, &rec)) {
        ims_pool_fault(c, IMS_POOL_FAULT_AVAIL, ident);
    }

    if (!ims_pool_check_staged(c, &rec)) {
        ims_pool_fault(c, IMS_POOL_FAULT_IMPORT, ident);
    }

    if (!ims_pool_check_holder(c, &rec, &pool)) {
        ims_pool_fault(c, IMS_POOL_FAULT_USER, ident);
    }

    if (!ims_pool_check_names(c, &rec)) {
        ims_pool_fault(c, IMS_POOL_FAULT_NAMES, ident);
    }
}


static void
ims_pool_check_renewal(ims_pool_checker_t *c, const MDB_val *k, ims_str_t row)
{
    size_t              i;
    uint64_t            no;
    ims_pool_renewal_t  r;

    no = k->mv_size == IMS_POOL_RENEWAL_KEY ? ims_pool_get64(k->mv_data) : 0;

    if (no == 0 || no > c->state.renew_last || row.n == 0
        || row.n % sizeof(r) != 0)
    {
        ims_pool_fault(c, IMS_POOL_FAULT_ROW, no);
        return;
    }

    for (i = 0; i < row.n; i += sizeof(r)) {

        memcpy(&r, row.p + i, sizeof(r));

        if (!ims_pool_check_renewed(c, &r, no)) {
            ims_pool_fault(c, IMS_POOL_FAULT_RENEWAL, r.ident);
        }
    }
}


/*
 * One that counts is a session's of the record's lease, and no longer than any
 * may be; those before `first` are in the record.
 */
static bool
ims_pool_check_renewed(ims_pool_checker_t *c, const ims_pool_renewal_t *r,
    uint64_t no)
{
    int             rc;
    unsigned        i;
    ims_pool_rec_t  rec;

    rc = ims_pool_rec(c->txn, c->dbi, r->ident, &rec);

    if (rc != IMS_POOL_OK || no <= rec.renewed) {
        /* removed since, told of, or done with */
        return true;
    }

    for (i = 0; i < rec.nsession; i++) {
        if (rec.session[i].sid == r->sid) {
            return rec.lease == r->lease
                   && (r->end <= c->pt || r->end - c->pt <= c->floor.term)
                   && (no >= c->state.renew_first
                       || rec.session[i].end >= r->end);
        }
    }

    return false;
}


/*
 * The identities of each pool (of several together, where there are very many
 * pools), recounted.  They may come and go between two slices: then the count
 * says nothing, and is taken again.
 */
static void
ims_pool_check_sums(ims_pool_checker_t *c, uint64_t *sum)
{
    uint32_t    number;
    ims_pool_t  pool;

    memset(sum, 0, IMS_POOL_CHECK_SUMS * sizeof(uint64_t));

    for (number = 1; number <= c->state.last_pool; number++) {
        if (ims_pool_pool(c->txn, c->dbi, number, &pool) == IMS_POOL_OK) {
            sum[number % IMS_POOL_CHECK_SUMS] += pool.head.identities;
        }
    }
}


static void
ims_pool_check_total_begin(ims_pool_checker_t *c)
{
    ims_pool_check_t  *check;

    check = c->check;

    memset(check->count, 0, sizeof(check->count));
    ims_pool_check_sums(c, check->sum);

    check->last_index = c->state.last_index;
    check->import_no = c->state.import_no;
    check->steady = !c->importing;
}


static void
ims_pool_check_total_row(ims_pool_checker_t *c, const MDB_val *k,
    ims_str_t row)
{
    ims_pool_rec_t  rec;

    c->check->rows--;

    if (k->mv_size == 8
        && ims_pool_rec_decode(row, ims_pool_get64(k->mv_data), &rec)
        && !(rec.flags & IMS_POOL_F_STAGED))
    {
        c->check->count[rec.pool % IMS_POOL_CHECK_SUMS]++;
    }
}


static bool
ims_pool_check_total_end(ims_pool_checker_t *c)
{
    unsigned           i;
    uint64_t           all, sum[IMS_POOL_CHECK_SUMS];
    ims_pool_check_t  *check;

    check = c->check;
    ims_pool_check_sums(c, sum);

    /* with no new ones the totals can only have fallen */

    if (!check->steady || check->last_index != c->state.last_index
        || check->import_no != c->state.import_no
        || memcmp(check->sum, sum, sizeof(sum)) != 0)
    {
        return ++check->tries < IMS_POOL_TOTAL_TRIES;
    }

    for (i = 0, all = 0; i < IMS_POOL_CHECK_SUMS; i++) {
        if (check->count[i] != sum[i]) {
            ims_pool_fault(c, IMS_POOL_FAULT_TOTAL, i);
        }

        all += check->count[i];
    }

    if (all != c->state.records) {
        ims_pool_fault(c, IMS_POOL_FAULT_TOTAL, 0);
    }

    return false;
}


/* of an identity, or of one that was removed and has a history */

static void
ims_pool_check_name(ims_pool_checker_t *c, const MDB_val *k, ims_str_t row)
{
    int                rc;
    uint64_t           ident;
    ims_pool_rec_t     rec;
    ims_pool_names_t   names;

    ident = k->mv_size == 8 ? ims_pool_get64(k->mv_data) : 0;

    if (!ims_pool_names_decode(row, ident, &names)) {
        ims_pool_fault(c, IMS_POOL_FAULT_ROW, ident);
        return;
    }

    rc = ims_pool_rec(c->txn, c->dbi, ident, &rec);

    /* a damaged record was told of */

    if (rc == IMS_POOL_NOTFOUND && !ims_pool_check_past(c, ident)) {
        ims_pool_fault(c, IMS_POOL_FAULT_NAMES, ident);
    }
}


static bool
ims_pool_check_past(ims_pool_checker_t *c, uint64_t ident)
{
    int          rc;
    bool         found;
    uint8_t      key[16];
    MDB_val      k, v;
    MDB_cursor  *cursor;

    if (mdb_cursor_open(c->txn, c->dbi[IMS_POOL_T_HIST], &cursor) != 0) {
        return false;
    }

    ims_pool_be64(key, ident);
    ims_pool_be64(key + 8, 0);
    k.mv_size = sizeof(key);
    k.mv_data = key;

    rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    found = rc == 0 && k.mv_size == sizeof(key)
            && memcmp(k.mv_data, key, 8) == 0;

    mdb_cursor_close(cursor);

    return found;
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
    ims_pool_rec_t   rec;
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

    if (ims_pool_rec(c->txn, c->dbi, h.ident, &rec) == IMS_POOL_OK
        && rec.lease < h.lease)
    {
        ims_pool_fault(c, IMS_POOL_FAULT_HIST, h.ident);
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


/* its newest row is the last one written: only old ones are ever pruned */

static bool
ims_pool_check_feed_end(ims_pool_checker_t *c)
{
    if (c->check->last_seq != 0 && c->check->last_seq != c->state.feed_seq) {
        ims_pool_fault(c, IMS_POOL_FAULT_FEED, c->state.feed_seq);
    }

    return false;
}


static void
ims_pool_check_reg(ims_pool_checker_t *c, const MDB_val *k, ims_str_t row)
{
    uint8_t         key[18];
    ims_pool_reg_t  reg;

    if (row.n == sizeof(reg) && k->mv_size == sizeof(key)) {

        memcpy(&reg, row.p, sizeof(reg));
        ims_pool_be64(key, reg.ident);
        key[8] = (uint8_t) (reg.edge >> 8);
        key[9] = (uint8_t) reg.edge;
        ims_pool_be64(key + 10, reg.flow);

        if (memcmp(key, k->mv_data, sizeof(key)) == 0) {
            return;
        }
    }

    ims_pool_fault(c, IMS_POOL_FAULT_ROW, 0);
}


static void
ims_pool_check_key(ims_pool_checker_t *c, const MDB_val *k, ims_str_t row)
{
    ims_pool_key_t  key;

    if (row.n == sizeof(key) && k->mv_size == 4) {

        memcpy(&key, row.p, sizeof(key));

        if (key.no == ims_pool_get32(k->mv_data)) {
            return;
        }
    }

    ims_pool_fault(c, IMS_POOL_FAULT_ROW, 0);
}


static void
ims_pool_check_import(ims_pool_checker_t *c, const MDB_val *k, ims_str_t row)
{
    ims_pool_import_t  imp;

    if (row.n != sizeof(imp) || k->mv_size != 4) {
        ims_pool_fault(c, IMS_POOL_FAULT_ROW, 0);
        return;
    }

    memcpy(&imp, row.p, sizeof(imp));

    if (imp.import_no != ims_pool_get32(k->mv_data)) {
        ims_pool_fault(c, IMS_POOL_FAULT_ROW, imp.import_no);
        return;
    }

    /* only the last one can be under way */

    if (imp.import_no > c->state.import_no || imp.done > imp.count
        || (imp.import_no != c->state.import_no
            && imp.state != IMS_POOL_IMPORT_DONE
            && imp.state != IMS_POOL_IMPORT_UNDONE))
    {
        ims_pool_fault(c, IMS_POOL_FAULT_IMPORT, imp.import_no);
    }
}


static void
ims_pool_check_clock(ims_pool_checker_t *c, const MDB_val *k, ims_str_t row)
{
    const uint8_t        *key;
    ims_pool_clockrow_t   clock;

    key = k->mv_data;

    /* other figures are nobody's concern */

    if (key[0] != 'c') {
        return;
    }

    if (k->mv_size != 9 || row.n != sizeof(clock)) {
        ims_pool_fault(c, IMS_POOL_FAULT_ROW, 0);
        return;
    }

    memcpy(&clock, row.p, sizeof(clock));

    if (clock.pt != ims_pool_get64(key + 1)) {
        ims_pool_fault(c, IMS_POOL_FAULT_ROW, clock.pt);

    } else if (clock.pt > c->pt) {
        ims_pool_fault(c, IMS_POOL_FAULT_TIMES, clock.pt);
    }
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
