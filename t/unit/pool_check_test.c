/*
 * Copyright (C) nginx-ims contributors
 *
 * The check sees what it looks for: one fault is planted at a time, with a
 * right CRC, and has to be named, by its kind and where it is.
 */

#include <fcntl.h>

#include "pool_fixture.h"
#include "sip/ims_sip_uri.h"


#pragma GCC diagnostic ignored "-Wunused-parameter"


#define ID(n)    ((uint64_t) 1 << 32 | (n))
#define WHERE    64


/* what is there: see build() */
typedef struct {
    fixture_t         f;
    ims_pool_grant_t  alice;        /* web, identity 1, ended, then carol's */
    ims_pool_grant_t  bob;          /* web, identity 2 */
    ims_pool_grant_t  carol;
    ims_pool_grant_t  dave;         /* two, per=session */
    uint32_t          import_no;    /* not finished: identities 6 and 7 */
} house_t;

/* the environment, while nobody else has it */
typedef struct {
    MDB_env  *env;
    MDB_txn  *txn;
    MDB_dbi   dbi[IMS_POOL_TREES];
} raw_t;

typedef void (*plant_pt)(house_t *h, raw_t *raw);

typedef struct {
    unsigned  n;
    struct {
        ims_pool_fault_e  fault;
        uint64_t          at;
    } where[WHERE];
} seen_t;


/* --- the environment, row by row ------------------------------------------ */

static void
raw_open(house_t *h, raw_t *raw)
{
    char      path[160];
    unsigned  i;

    snprintf(path, sizeof(path), "%s/current", h->f.dir);

    assert_int_equal(mdb_env_create(&raw->env), 0);
    assert_int_equal(mdb_env_set_maxdbs(raw->env, 32), 0);
    assert_int_equal(mdb_env_set_mapsize(raw->env, (size_t) 1 << 30), 0);
    assert_int_equal(mdb_env_open(raw->env, path, 0, 0660), 0);
    assert_int_equal(mdb_txn_begin(raw->env, NULL, 0, &raw->txn), 0);

    for (i = 0; i < IMS_POOL_TREES; i++) {
        assert_int_equal(mdb_dbi_open(raw->txn, ims_pool_tree_names[i], 0,
                                      &raw->dbi[i]), 0);
    }
}


static void
raw_close(raw_t *raw)
{
    assert_int_equal(mdb_txn_commit(raw->txn), 0);
    mdb_env_close(raw->env);
}


static void
raw_put(raw_t *raw, ims_pool_tree_e tree, const void *key, size_t nkey,
    const void *row, size_t n)
{
    MDB_val   k, v;
    uint8_t   buf[8192];
    uint32_t  crc;

    assert_true(n + 4 <= sizeof(buf));

    if (n) {
        memcpy(buf, row, n);
    }

    crc = ims_pool_crc32c(0, key, nkey);
    crc = n ? ims_pool_crc32c(crc, row, n) : crc;
    memcpy(buf + n, &crc, 4);

    k.mv_size = nkey;
    k.mv_data = (void *) key;
    v.mv_size = n + 4;
    v.mv_data = buf;

    assert_int_equal(mdb_put(raw->txn, raw->dbi[tree], &k, &v, 0), 0);
}


static size_t
raw_get(raw_t *raw, ims_pool_tree_e tree, const void *key, size_t nkey,
    void *row, size_t cap)
{
    MDB_val  k, v;

    k.mv_size = nkey;
    k.mv_data = (void *) key;

    assert_int_equal(mdb_get(raw->txn, raw->dbi[tree], &k, &v), 0);
    assert_true(v.mv_size >= 4 && v.mv_size - 4 <= cap);
    memcpy(row, v.mv_data, v.mv_size - 4);

    return v.mv_size - 4;
}


static void
raw_del(raw_t *raw, ims_pool_tree_e tree, const void *key, size_t nkey)
{
    MDB_val  k;

    k.mv_size = nkey;
    k.mv_data = (void *) key;

    assert_int_equal(mdb_del(raw->txn, raw->dbi[tree], &k, NULL), 0);
}


/* the row that an identity's record is in */

static void
raw_block(raw_t *raw, uint64_t ident, ims_pool_block_t *block)
{
    assert_int_equal(ims_pool_block_read(raw->txn, raw->dbi, ident, block), 0);
}


static void
raw_put_block(raw_t *raw, uint64_t ident, const ims_pool_block_t *block)
{
    MDB_val   k, v;
    uint64_t  first;

    first = ident - ident % IMS_POOL_BLOCK;
    k.mv_size = sizeof(first);
    k.mv_data = &first;
    v.mv_size = sizeof(*block);
    v.mv_data = (void *) block;

    assert_int_equal(mdb_put(raw->txn, raw->dbi[IMS_POOL_T_IDENT], &k, &v, 0),
                     0);
}


static void
raw_rec(raw_t *raw, uint64_t ident, ims_pool_rec_t *rec)
{
    assert_int_equal(ims_pool_rec(raw->txn, raw->dbi, ident, rec), 0);
}


static void
raw_put_rec(raw_t *raw, const ims_pool_rec_t *rec)
{
    ims_pool_block_t  block;

    raw_block(raw, rec->ident, &block);
    ims_pool_block_set(&block, rec);
    raw_put_block(raw, rec->ident, &block);
}


static void
raw_state(raw_t *raw, ims_pool_state_t *state, bool put)
{
    static const char  key[] = IMS_POOL_STATE_KEY;

    if (put) {
        raw_put(raw, IMS_POOL_T_META, key, sizeof(key) - 1, state,
                sizeof(*state));
        return;
    }

    (void) raw_get(raw, IMS_POOL_T_META, key, sizeof(key) - 1, state,
                   sizeof(*state));
}


static size_t
uri_key(uint8_t *key, const char *impu)
{
    ptrdiff_t  n;

    n = strchr(impu, ':') != NULL
        ? ims_sip_fold(key, IMS_POOL_KEY_MAX, S(impu))
        : (ptrdiff_t) ims_pool_impi_key(key, IMS_POOL_KEY_MAX, S(impu));
    assert_true(n > 0);

    return (size_t) n;
}


static size_t
avail_key(uint8_t *key, const ims_pool_rec_t *rec)
{
    ims_pool_avail_t  a;

    a = ims_pool_avail_of(rec);
    ims_pool_avail_key(key, &a);

    return IMS_POOL_AVAIL_KEY;
}


static size_t
hist_key(uint8_t *key, uint64_t ident, uint64_t lease)
{
    ims_pool_be64(key, ident);
    ims_pool_be64(key + 8, lease);

    return 16;
}


/* --- what is in it ------------------------------------------------------- */

static void
build(house_t *h)
{
    bool                   alert;
    fixture_t             *f;
    uint64_t               ident;
    ims_pool_who_t         who_dave;
    ims_pool_identity_t    row;
    ims_pool_row_result_t  res;

    memset(h, 0, sizeof(*h));
    f = &h->f;

    fixture_pool(f, 2);
    add_pool_per(f, "two", IMS_POOL_PER_SESSION);
    add_identities(f, "two", 100, 3);

    assert_int_equal(acquire(f, "alice", 1, &h->alice), 0);
    assert_int_equal(acquire(f, "bob", 2, &h->bob), 0);
    assert_int_equal(release(f, "alice", 1, h->alice.ident, h->alice.lease),
                     0);

    f->v.boottime += 800000;
    assert_int_equal(acquire(f, "carol", 3, &h->carol), 0);
    assert_int_equal(h->carol.ident, h->alice.ident);
    assert_int_equal(acquire(f, "bob", 2, &h->bob), 0);

    /* a second row of the feed, and one report */

    assert_int_equal(acquire(f, "carol", 4, &h->carol), 0);
    begin(f);
    assert_int_equal(ims_pool_report(f->w, h->bob.ident, h->bob.lease, 1, 7,
                                     h->bob.end, &alert), 0);
    commit(f);

    who_dave = who("dave", 9);
    who_dave.pool = IMS_STR("two");
    begin(f);
    assert_int_equal(ims_pool_acquire(f->w, &who_dave, &h->dave), 0);
    commit(f);

    begin(f);
    assert_int_equal(ims_pool_import_begin(f->w, S("web"), 0, &h->import_no),
                     0);
    memset(&row, 0, sizeof(row));
    row.nimpu = 1;
    row.impi = S("new-1@ims.example");
    row.impu[0] = S("sip:new-1@ims.example");
    assert_int_equal(ims_pool_import_row(f->w, h->import_no, &row, &ident,
                                         &res), 0);
    assert_int_equal(ident, ID(6));
    commit(f);
}


/* the import that it leaves open */

static void
undo(house_t *h)
{
    begin(&h->f);
    assert_int_equal(ims_pool_import_undo(h->f.w, h->import_no), 0);
    assert_int_equal(ims_pool_import_step(h->f.w, h->import_no, 10), 0);
    commit(&h->f);
}


static void
see(void *ctx, ims_pool_fault_e fault, uint64_t at)
{
    seen_t  *seen = ctx;

    assert_true(seen->n < WHERE);
    seen->where[seen->n].fault = fault;
    seen->where[seen->n++].at = at;
}


static void
look_all(fixture_t *f, seen_t *seen)
{
    int               rc;
    ims_pool_check_t  check;

    memset(seen, 0, sizeof(*seen));
    ims_pool_check_begin(&check, see, seen);

    do {
        rc = ims_pool_check_slice(f->w, &check, 3);
        assert_true(rc >= 0);
    } while (rc == IMS_POOL_MORE);

    assert_true(check.pages > 0 && check.pages_free < check.pages);
}


static bool
has(const seen_t *seen, ims_pool_fault_e fault, uint64_t at)
{
    unsigned  i;

    for (i = 0; i < seen->n; i++) {
        if (seen->where[i].fault == fault && seen->where[i].at == at) {
            return true;
        }
    }

    return false;
}


static void
print_seen(const seen_t *seen)
{
    char      place[IMS_POOL_PLACE_MAX];
    unsigned  i;

    for (i = 0; i < seen->n; i++) {
        ims_pool_fault_place(seen->where[i].fault, seen->where[i].at, place);
        print_error("  %s at %s\n",
                    ims_pool_fault_text(seen->where[i].fault), place);
    }
}


/* --- faults -------------------------------------------------------------- */

static void
plant_nothing(house_t *h, raw_t *raw)
{
}


static void
plant_crc(house_t *h, raw_t *raw)
{
    ims_pool_block_t  block;

    raw_block(raw, ID(2), &block);
    block.slot[ID(2) % IMS_POOL_BLOCK][40] ^= 1;
    raw_put_block(raw, ID(2), &block);
}


/* a good record in another's slot */

static void
plant_key(house_t *h, raw_t *raw)
{
    ims_pool_block_t  block;

    raw_block(raw, ID(2), &block);
    memcpy(block.slot[ID(2) % IMS_POOL_BLOCK],
           block.slot[ID(1) % IMS_POOL_BLOCK], IMS_POOL_SLOT);
    raw_put_block(raw, ID(2), &block);
}


/* more sessions than there may be: its length is not known then */

static void
plant_length(house_t *h, raw_t *raw)
{
    ims_pool_block_t  block;

    raw_block(raw, ID(2), &block);
    block.slot[ID(2) % IMS_POOL_BLOCK][offsetof(ims_pool_rec_t, nsession)] = 5;
    raw_put_block(raw, ID(2), &block);
}


/* a row that does not say any more which records are in it */

static void
plant_head(house_t *h, raw_t *raw)
{
    ims_pool_block_t  block;

    raw_block(raw, ID(2), &block);
    block.head.used ^= 1u << ID(2) % IMS_POOL_BLOCK;
    raw_put_block(raw, ID(2), &block);
}


/* one under the key of another */

static void
plant_block(house_t *h, raw_t *raw)
{
    ims_pool_block_t  block;

    raw_block(raw, ID(2), &block);
    raw_put_block(raw, ID(2) + 5 * IMS_POOL_BLOCK, &block);
}


/* a record that is gone, with a right CRC */

static void
plant_gone(house_t *h, raw_t *raw)
{
    ims_pool_block_t  block;

    raw_block(raw, ID(2), &block);
    ims_pool_block_clear(&block, ID(2));
    raw_put_block(raw, ID(2), &block);
}


static void
plant_records(house_t *h, raw_t *raw)
{
    ims_pool_state_t  state;

    raw_state(raw, &state, false);
    state.records++;
    raw_state(raw, &state, true);
}


static void
plant_promised(house_t *h, raw_t *raw)
{
    ims_pool_rec_t  rec;

    raw_rec(raw, ID(2), &rec);
    rec.promised = rec.end - 1;
    raw_put_rec(raw, &rec);
}


static void
plant_start(house_t *h, raw_t *raw)
{
    ims_pool_rec_t  rec;

    raw_rec(raw, ID(2), &rec);
    rec.start = rec.end + 1;
    raw_put_rec(raw, &rec);
}


static void
plant_rest(house_t *h, raw_t *raw)
{
    ims_pool_rec_t  rec;

    raw_rec(raw, ID(2), &rec);
    rec.rest = rec.promised + rec.linger - 1;
    raw_put_rec(raw, &rec);
}


static void
plant_session(house_t *h, raw_t *raw)
{
    ims_pool_rec_t  rec;

    raw_rec(raw, ID(2), &rec);
    rec.session[0].end++;
    raw_put_rec(raw, &rec);
}


static void
plant_clock(house_t *h, raw_t *raw)
{
    uint8_t              key[9];
    ims_pool_clockrow_t  clock;

    key[0] = 'c';
    clock.pt = UINT64_MAX / 2;
    clock.wall = 1;
    ims_pool_be64(key + 1, clock.pt);
    raw_put(raw, IMS_POOL_T_STAT, key, sizeof(key), &clock, sizeof(clock));
}


static void
plant_lease(house_t *h, raw_t *raw)
{
    ims_pool_rec_t    rec;
    ims_pool_state_t  state;

    raw_state(raw, &state, false);
    raw_rec(raw, ID(2), &rec);
    rec.lease = state.last_lease + 1;

    /* the next start raises the incarnation, and with it the last id */

    rec.lease += (uint64_t) 2 << IMS_POOL_LEASE_BITS;
    raw_put_rec(raw, &rec);
}


static void
plant_index(house_t *h, raw_t *raw)
{
    ims_pool_state_t  state;

    raw_state(raw, &state, false);
    state.last_index = 4;
    raw_state(raw, &state, true);
}


static void
plant_avail_missing(house_t *h, raw_t *raw)
{
    uint8_t         key[IMS_POOL_AVAIL_KEY];
    ims_pool_rec_t  rec;

    raw_rec(raw, ID(2), &rec);
    raw_del(raw, IMS_POOL_T_AVAIL, key, avail_key(key, &rec));
}


static void
plant_avail_twice(house_t *h, raw_t *raw)
{
    uint8_t         key[IMS_POOL_AVAIL_KEY];
    ims_pool_rec_t  rec;

    raw_rec(raw, ID(2), &rec);
    rec.avail--;
    raw_put(raw, IMS_POOL_T_AVAIL, key, avail_key(key, &rec), NULL, 0);
}


static void
plant_avail_nobody(house_t *h, raw_t *raw)
{
    uint8_t         key[IMS_POOL_AVAIL_KEY];
    ims_pool_rec_t  rec;

    raw_rec(raw, ID(2), &rec);
    rec.ident = ID(77);
    raw_put(raw, IMS_POOL_T_AVAIL, key, avail_key(key, &rec), NULL, 0);
}


static void
plant_avail_pool(house_t *h, raw_t *raw)
{
    uint8_t         key[IMS_POOL_AVAIL_KEY];
    ims_pool_rec_t  rec;

    raw_rec(raw, ID(2), &rec);
    raw_del(raw, IMS_POOL_T_AVAIL, key, avail_key(key, &rec));
    rec.pool = 2;
    raw_put(raw, IMS_POOL_T_AVAIL, key, avail_key(key, &rec), NULL, 0);
}


/* it would be given when it has not rested */

static void
plant_avail_late(house_t *h, raw_t *raw)
{
    uint8_t         key[IMS_POOL_AVAIL_KEY];
    ims_pool_rec_t  rec;

    raw_rec(raw, ID(2), &rec);
    raw_del(raw, IMS_POOL_T_AVAIL, key, avail_key(key, &rec));
    rec.avail = rec.rest + 1;
    raw_put(raw, IMS_POOL_T_AVAIL, key, avail_key(key, &rec), NULL, 0);
    raw_put_rec(raw, &rec);
}


/* the holder of 2 has 1 as well */

static void
plant_user_twice(house_t *h, raw_t *raw)
{
    ims_pool_rec_t  rec, other;

    raw_rec(raw, ID(2), &rec);
    raw_rec(raw, ID(1), &other);
    memcpy(other.user, rec.user, sizeof(rec.user));
    raw_put_rec(raw, &other);
}


/* nothing leads to what is leased: the record says that its holder left it */

static void
plant_user_parted(house_t *h, raw_t *raw)
{
    ims_pool_rec_t  rec;

    raw_rec(raw, ID(2), &rec);
    rec.flags |= IMS_POOL_F_PARTED;
    raw_put_rec(raw, &rec);
}


/* a session's in a pool per=user: a second way to hold something there */

static void
plant_user_session(house_t *h, raw_t *raw)
{
    ims_pool_rec_t  rec;

    raw_rec(raw, ID(2), &rec);
    rec.flags |= IMS_POOL_F_PER_SESSION;
    raw_put_rec(raw, &rec);
}


/* as if the last commit had made it, or some long ago, which are swept */

static void
put_renewal(raw_t *raw, const ims_pool_renewal_t *r, bool recent)
{
    uint8_t           key[IMS_POOL_RENEWAL_KEY];
    uint64_t          no;
    ims_pool_state_t  state;

    memset(key, 0, sizeof(key));
    assert_int_equal(ims_pool_state(raw->txn, raw->dbi, &state), 0);

    if (recent) {
        ims_pool_be64(key, state.renew_last);
        raw_put(raw, IMS_POOL_T_RENEWAL, key, sizeof(key), r, sizeof(*r));
        return;
    }

    for (no = 1; no <= 100; no++) {
        ims_pool_be64(key, no);
        raw_put(raw, IMS_POOL_T_RENEWAL, key, sizeof(key), r, sizeof(*r));
    }

    state.renew_first = state.renew_mid = state.renew_last = 101;
    raw_put(raw, IMS_POOL_T_META, IMS_POOL_STATE_KEY,
            sizeof(IMS_POOL_STATE_KEY) - 1, &state, sizeof(state));
}


static void
renewal_of(raw_t *raw, uint64_t ident, ims_pool_renewal_t *r)
{
    ims_pool_rec_t  rec;

    raw_rec(raw, ident, &rec);

    r->ident = ident;
    r->lease = rec.lease;
    r->sid = rec.session[0].sid;
    r->end = rec.end + 1;
}


static void
plant_renewal_right(house_t *h, raw_t *raw)
{
    ims_pool_renewal_t  r;

    renewal_of(raw, ID(2), &r);
    put_renewal(raw, &r, true);
}


static void
plant_renewal_lease(house_t *h, raw_t *raw)
{
    ims_pool_renewal_t  r;

    renewal_of(raw, ID(2), &r);
    r.lease--;
    put_renewal(raw, &r, true);
}


static void
plant_renewal_session(house_t *h, raw_t *raw)
{
    ims_pool_renewal_t  r;

    renewal_of(raw, ID(2), &r);
    r.sid++;
    put_renewal(raw, &r, true);
}


static void
plant_renewal_long(house_t *h, raw_t *raw)
{
    ims_pool_renewal_t  r;

    renewal_of(raw, ID(2), &r);
    r.end = UINT64_MAX / 2;
    put_renewal(raw, &r, true);
}


/* a renewal that never came to its record */

static void
plant_renewal_lost(house_t *h, raw_t *raw)
{
    ims_pool_rec_t      rec;
    ims_pool_renewal_t  r;

    raw_rec(raw, ID(2), &rec);
    rec.renewed = 0;
    raw_put_rec(raw, &rec);

    renewal_of(raw, ID(2), &r);
    put_renewal(raw, &r, false);
}


static void
plant_renewed_ahead(house_t *h, raw_t *raw)
{
    ims_pool_rec_t  rec;

    raw_rec(raw, ID(2), &rec);
    rec.renewed = UINT64_MAX / 2;
    raw_put_rec(raw, &rec);
}


static void
plant_name_missing(house_t *h, raw_t *raw)
{
    uint8_t  key[8];

    ims_pool_be64(key, ID(2));
    raw_del(raw, IMS_POOL_T_NAME, key, sizeof(key));
}


static void
put_name(raw_t *raw, uint64_t ident, const char *impi, const char *impu,
    const char *canon)
{
    size_t            n;
    uint8_t           key[8], row[IMS_POOL_NAMES_MAX];
    ims_pool_names_t  names;

    memset(&names, 0, sizeof(names));
    names.ident = ident;
    names.impi = S(impi);
    names.nimpu = 1;
    names.impu[0].given = S(impu);
    names.impu[0].canon = S(canon);

    n = ims_pool_names_encode(&names, 0, row, sizeof(row));
    assert_true(n > 0);

    ims_pool_be64(key, ident);
    raw_put(raw, IMS_POOL_T_NAME, key, sizeof(key), row, n);
}


static void
plant_name_nobody(house_t *h, raw_t *raw)
{
    put_name(raw, ID(77), "x@ims.example", "sip:x@ims.example",
             "sip:x@ims.example");
}


/* what is kept as canonical is another form of the same */

static void
plant_name_canon(house_t *h, raw_t *raw)
{
    put_name(raw, ID(2), "web-000002@ims.example",
             "sip:web-000002@ims.example", "sip:web-000002@IMS.example");
}


static void
plant_uri_missing(house_t *h, raw_t *raw)
{
    uint8_t  key[IMS_POOL_KEY_MAX];

    raw_del(raw, IMS_POOL_T_URI, key,
            uri_key(key, "sip:web-000002@ims.example"));
}


static void
plant_uri_impi(house_t *h, raw_t *raw)
{
    uint8_t  key[IMS_POOL_KEY_MAX];

    raw_del(raw, IMS_POOL_T_URI, key, uri_key(key, "web-000002@ims.example"));
}


static void
put_uri(raw_t *raw, const char *name, uint64_t ident, unsigned ordinal,
    uint32_t pool)
{
    uint8_t         key[IMS_POOL_KEY_MAX];
    ims_pool_uri_t  uri;

    memset(&uri, 0, sizeof(uri));
    uri.ident = ident;
    uri.ordinal = ordinal;
    uri.pool = pool;
    raw_put(raw, IMS_POOL_T_URI, key, uri_key(key, name), &uri, sizeof(uri));
}


static void
plant_uri_nobody(house_t *h, raw_t *raw)
{
    put_uri(raw, "sip:x@ims.example", ID(77), 0, 1);
}


static void
plant_uri_ordinal(house_t *h, raw_t *raw)
{
    put_uri(raw, "sip:web-000002@ims.example", ID(2), 1, 1);
}


static void
plant_uri_pool(house_t *h, raw_t *raw)
{
    put_uri(raw, "sip:web-000002@ims.example", ID(2), 0, 2);
}


/* an IMPU of pool two is one of web as well */

static void
plant_two_pools(house_t *h, raw_t *raw)
{
    put_name(raw, ID(2), "web-000002@ims.example",
             "sip:web-000100@ims.example", "sip:web-000100@ims.example");
}


static void
plant_pool_missing(house_t *h, raw_t *raw)
{
    ims_pool_rec_t  rec;

    raw_rec(raw, ID(2), &rec);
    rec.pool = 9;
    raw_put_rec(raw, &rec);
}


static void
plant_pool_name(house_t *h, raw_t *raw)
{
    uint32_t  number;

    number = 2;
    raw_put(raw, IMS_POOL_T_POOLNAME, "web", 3, &number, sizeof(number));
}


static void
plant_pool_name_nobody(house_t *h, raw_t *raw)
{
    uint32_t  number;

    number = 9;
    raw_put(raw, IMS_POOL_T_POOLNAME, "nix", 3, &number, sizeof(number));
}


static void
plant_feed_gap(house_t *h, raw_t *raw)
{
    uint8_t              key[8];
    ims_pool_feed_row_t  row;
    ims_pool_state_t     state;

    raw_state(raw, &state, false);

    memset(&row, 0, sizeof(row));
    row.seq = state.feed_seq + 2;
    row.ident = ID(2);
    row.lease = 1;
    row.pool = 1;
    row.pt = state.clock.pt;
    row.reason = IMS_POOL_END_REVOKED;

    ims_pool_be64(key, row.seq);
    raw_put(raw, IMS_POOL_T_FEED, key, sizeof(key), &row, sizeof(row));

    state.feed_seq = row.seq;
    raw_state(raw, &state, true);
}


/* the last rows are lost: readers would never notice */

static void
plant_feed_end(house_t *h, raw_t *raw)
{
    ims_pool_state_t  state;

    raw_state(raw, &state, false);
    state.feed_seq += 3;
    raw_state(raw, &state, true);
}


static void
add_total(raw_t *raw, uint32_t number, int64_t n)
{
    size_t           len;
    uint8_t          key[4], row[2048];
    ims_pool_head_t  head;

    ims_pool_be32(key, number);
    len = raw_get(raw, IMS_POOL_T_POOL, key, sizeof(key), row, sizeof(row));
    memcpy(&head, row, sizeof(head));
    head.identities += (uint64_t) n;
    memcpy(row, &head, sizeof(head));
    raw_put(raw, IMS_POOL_T_POOL, key, sizeof(key), row, len);
}


static void
plant_total(house_t *h, raw_t *raw)
{
    add_total(raw, 1, 1);
}


/* one too many here, one too few there: the sum is right */

static void
plant_total_swapped(house_t *h, raw_t *raw)
{
    add_total(raw, 1, 1);
    add_total(raw, 2, -1);
}


static void
edit_hist(house_t *h, raw_t *raw, ims_pool_hist_t *hist, bool put)
{
    size_t   n;
    uint8_t  key[16];

    n = hist_key(key, h->alice.ident, h->alice.lease);

    if (put) {
        raw_put(raw, IMS_POOL_T_HIST, key, n, hist, sizeof(*hist));

    } else {
        (void) raw_get(raw, IMS_POOL_T_HIST, key, n, hist, sizeof(*hist));
    }
}


static void
plant_hist_order(house_t *h, raw_t *raw)
{
    ims_pool_hist_t  hist;

    edit_hist(h, raw, &hist, false);
    hist.start = hist.end + 1;
    edit_hist(h, raw, &hist, true);
}


static void
plant_hist_overlap(house_t *h, raw_t *raw)
{
    ims_pool_rec_t   rec;
    ims_pool_hist_t  hist;

    raw_rec(raw, h->alice.ident, &rec);
    edit_hist(h, raw, &hist, false);
    hist.end = rec.start + 1;
    hist.rest = hist.end;
    edit_hist(h, raw, &hist, true);
}


/* carol got it while it rested for alice's sake */

static void
plant_hist_rest(house_t *h, raw_t *raw)
{
    ims_pool_rec_t   rec;
    ims_pool_hist_t  hist;

    raw_rec(raw, h->alice.ident, &rec);
    edit_hist(h, raw, &hist, false);
    hist.rest = rec.start + 1;
    edit_hist(h, raw, &hist, true);
}


/* a lease that the record knows nothing of */

static void
plant_hist_later(house_t *h, raw_t *raw)
{
    uint8_t          key[16];
    ims_pool_rec_t   rec;
    ims_pool_hist_t  hist;

    raw_rec(raw, h->alice.ident, &rec);
    edit_hist(h, raw, &hist, false);
    hist.lease = rec.lease + 1;
    hist.start = rec.end + 1;
    hist.end = hist.start;
    raw_put(raw, IMS_POOL_T_HIST, key,
            hist_key(key, hist.ident, hist.lease), &hist, sizeof(hist));
}


static void
plant_staged(house_t *h, raw_t *raw)
{
    uint8_t         key[IMS_POOL_AVAIL_KEY];
    ims_pool_rec_t  rec;

    raw_rec(raw, ID(2), &rec);
    raw_del(raw, IMS_POOL_T_AVAIL, key, avail_key(key, &rec));
    rec.flags |= IMS_POOL_F_STAGED;
    raw_put_rec(raw, &rec);
}


static void
plant_import_old(house_t *h, raw_t *raw)
{
    uint8_t            key[4];
    ims_pool_import_t  imp;

    ims_pool_be32(key, 1);
    (void) raw_get(raw, IMS_POOL_T_IMPORT, key, sizeof(key), &imp,
                   sizeof(imp));
    imp.state = IMS_POOL_IMPORT_OPEN;
    raw_put(raw, IMS_POOL_T_IMPORT, key, sizeof(key), &imp, sizeof(imp));
}


static void
plant_reg(house_t *h, raw_t *raw)
{
    uint8_t         key[18];
    ims_pool_reg_t  reg;

    memset(&reg, 0, sizeof(reg));
    memset(key, 0, sizeof(key));
    reg.ident = ID(2);
    reg.flow = 9;
    ims_pool_be64(key, ID(1));
    raw_put(raw, IMS_POOL_T_REG, key, sizeof(key), &reg, sizeof(reg));
}


static void
plant_hash_key(house_t *h, raw_t *raw)
{
    uint8_t         key[4];
    ims_pool_key_t  row;

    memset(&row, 0, sizeof(row));
    row.no = 3;
    ims_pool_be32(key, 4);
    raw_put(raw, IMS_POOL_T_KEY, key, sizeof(key), &row, sizeof(row));
}


static void
plant_meta(house_t *h, raw_t *raw)
{
    raw_put(raw, IMS_POOL_T_META, "more", 4, "x", 1);
}


static void
test_planted(void **state)
{
    static const struct {
        const char        *name;
        plant_pt           plant;
        ims_pool_fault_e   fault;       /* FAULTS: none at all */
        uint64_t           at;
    } plants[] = {
        { "nothing", plant_nothing, IMS_POOL_FAULTS, 0 },
        { "CRC", plant_crc, IMS_POOL_FAULT_ROW, ID(2) },
        { "another's key", plant_key, IMS_POOL_FAULT_ROW, ID(2) },
        { "length", plant_length, IMS_POOL_FAULT_ROW, ID(2) },
        { "row of records", plant_head, IMS_POOL_FAULT_ROW,
          ID(2) - ID(2) % IMS_POOL_BLOCK },
        { "row under another key", plant_block, IMS_POOL_FAULT_ROW,
          ID(2) - ID(2) % IMS_POOL_BLOCK + 5 * IMS_POOL_BLOCK },
        { "a record gone", plant_gone, IMS_POOL_FAULT_AVAIL, ID(2) },
        { "number of records", plant_records, IMS_POOL_FAULT_TOTAL, 0 },
        { "row of meta", plant_meta, IMS_POOL_FAULT_ROW, 0 },
        { "row of reg", plant_reg, IMS_POOL_FAULT_ROW, 0 },
        { "row of key", plant_hash_key, IMS_POOL_FAULT_ROW, 0 },
        { "promised", plant_promised, IMS_POOL_FAULT_TIMES, ID(2) },
        { "start", plant_start, IMS_POOL_FAULT_TIMES, ID(2) },
        { "rest", plant_rest, IMS_POOL_FAULT_TIMES, ID(2) },
        { "session", plant_session, IMS_POOL_FAULT_TIMES, ID(2) },
        { "clock", plant_clock, IMS_POOL_FAULT_TIMES, UINT64_MAX / 2 },
        { "lease", plant_lease, IMS_POOL_FAULT_LEASE, ID(2) },
        { "index", plant_index, IMS_POOL_FAULT_LEASE, ID(5) },
        { "avail missing", plant_avail_missing, IMS_POOL_FAULT_AVAIL, ID(2) },
        { "avail twice", plant_avail_twice, IMS_POOL_FAULT_AVAIL, ID(2) },
        { "avail of nobody", plant_avail_nobody, IMS_POOL_FAULT_AVAIL,
          ID(77) },
        { "avail pool", plant_avail_pool, IMS_POOL_FAULT_AVAIL, ID(2) },
        { "avail > rest", plant_avail_late, IMS_POOL_FAULT_AVAIL, ID(2) },
        { "user twice", plant_user_twice, IMS_POOL_FAULT_USER, ID(1) },
        { "parted, live", plant_user_parted, IMS_POOL_FAULT_USER, ID(2) },
        { "session's user", plant_user_session, IMS_POOL_FAULT_USER, ID(2) },
        { "renewal", plant_renewal_right, IMS_POOL_FAULTS, 0 },
        { "renewal's lease", plant_renewal_lease, IMS_POOL_FAULT_RENEWAL,
          ID(2) },
        { "its session", plant_renewal_session, IMS_POOL_FAULT_RENEWAL,
          ID(2) },
        { "its end", plant_renewal_long, IMS_POOL_FAULT_RENEWAL, ID(2) },
        { "renewal lost", plant_renewal_lost, IMS_POOL_FAULT_RENEWAL, ID(2) },
        { "renewed ahead", plant_renewed_ahead, IMS_POOL_FAULT_RENEWAL,
          ID(2) },
        { "name missing", plant_name_missing, IMS_POOL_FAULT_NAMES, ID(2) },
        { "name of nobody", plant_name_nobody, IMS_POOL_FAULT_NAMES, ID(77) },
        { "not canonical", plant_name_canon, IMS_POOL_FAULT_NAMES, ID(2) },
        { "uri missing", plant_uri_missing, IMS_POOL_FAULT_NAMES, ID(2) },
        { "IMPI's missing", plant_uri_impi, IMS_POOL_FAULT_NAMES, ID(2) },
        { "uri of nobody", plant_uri_nobody, IMS_POOL_FAULT_NAMES, ID(77) },
        { "uri ordinal", plant_uri_ordinal, IMS_POOL_FAULT_NAMES, ID(2) },
        { "uri pool", plant_uri_pool, IMS_POOL_FAULT_NAMES, ID(2) },
        { "in two pools", plant_two_pools, IMS_POOL_FAULT_NAMES, ID(2) },
        { "pool missing", plant_pool_missing, IMS_POOL_FAULT_POOL, ID(2) },
        { "pool's name", plant_pool_name, IMS_POOL_FAULT_POOL, 1 },
        { "name of no pool", plant_pool_name_nobody, IMS_POOL_FAULT_POOL, 9 },
        { "feed gap", plant_feed_gap, IMS_POOL_FAULT_FEED, 3 },
        { "feed end", plant_feed_end, IMS_POOL_FAULT_FEED, 4 },
        { "total", plant_total, IMS_POOL_FAULT_TOTAL, 1 },
        { "totals swapped", plant_total_swapped, IMS_POOL_FAULT_TOTAL, 2 },
        { "lease ends first", plant_hist_order, IMS_POOL_FAULT_HIST, ID(1) },
        { "leases overlap", plant_hist_overlap, IMS_POOL_FAULT_HIST, ID(1) },
        { "next in the rest", plant_hist_rest, IMS_POOL_FAULT_HIST, ID(1) },
        { "a later lease", plant_hist_later, IMS_POOL_FAULT_HIST, ID(1) },
        { "staged", plant_staged, IMS_POOL_FAULT_IMPORT, ID(2) },
        { "old import open", plant_import_old, IMS_POOL_FAULT_IMPORT, 1 },
    };

    raw_t     raw;
    seen_t    seen;
    size_t    i;
    house_t   h;
    unsigned  wrong;

    wrong = 0;

    for (i = 0; i < sizeof(plants) / sizeof(plants[0]); i++) {

        build(&h);
        check_clean(&h.f);
        fixture_close(&h.f);

        raw_open(&h, &raw);
        plants[i].plant(&h, &raw);
        raw_close(&raw);

        fixture_open(&h.f);
        look_all(&h.f, &seen);

        if (plants[i].fault == IMS_POOL_FAULTS
            ? seen.n != 0 : !has(&seen, plants[i].fault, plants[i].at))
        {
            print_error("%s is not seen, but:\n", plants[i].name);
            print_seen(&seen);
            wrong++;
        }

        fixture_end(&h.f);
    }

    assert_int_equal(wrong, 0);
}


/* --- of an import under way ----------------------------------------------- */

/* a staged one that is out too early, without a restart that undoes it */

static void
test_staged(void **state)
{
    seen_t          seen;
    house_t         h;
    ims_pool_rec_t  rec;

    build(&h);
    check_clean(&h.f);

    begin(&h.f);
    assert_int_equal(ims_pool_w_rec(h.f.w, ID(6), &rec), 0);
    assert_true(rec.flags & IMS_POOL_F_STAGED);
    rec.flags = 0;
    assert_int_equal(ims_pool_w_put_rec(h.f.w, &rec), 0);
    assert_int_equal(ims_pool_w_avail_move(h.f.w, &rec, rec.rest), 0);
    commit(&h.f);

    look_all(&h.f, &seen);
    assert_true(has(&seen, IMS_POOL_FAULT_IMPORT, ID(6)));

    fixture_end(&h.f);
}


/* --- below the rows ------------------------------------------------------- */

/*
 * One number is cut off a list of free pages.  Where a row lies in the file is
 * told by its page, which begins with its number.
 */
static void
lose_page(house_t *h)
{
    int          fd;
    char         path[160];
    size_t       len, pgno, at;
    MDB_env     *env;
    MDB_txn     *txn;
    MDB_val      k, v;
    MDB_stat     st;
    uint8_t     *page;
    MDB_cursor  *cursor;

    snprintf(path, sizeof(path), "%s/current", h->f.dir);

    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_open(env, path, MDB_RDONLY, 0660), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, MDB_RDONLY, &txn), 0);
    assert_int_equal(mdb_cursor_open(txn, 0, &cursor), 0);
    assert_int_equal(mdb_env_stat(env, &st), 0);

    at = 0;
    len = 0;

    /* the newest list: the next commits take pages from the oldest ones */

    while (mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0) {

        memcpy(&len, v.mv_data, sizeof(len));

        if (len > 1) {
            page = (uint8_t *) ((uintptr_t) v.mv_data
                                & ~((uintptr_t) st.ms_psize - 1));
            memcpy(&pgno, page, sizeof(pgno));
            at = pgno * st.ms_psize
                 + (size_t) ((uint8_t *) v.mv_data - page);
        }
    }

    assert_true(at != 0);

    mdb_cursor_close(cursor);
    mdb_txn_abort(txn);
    mdb_env_close(env);

    snprintf(path, sizeof(path), "%s/current/data.mdb", h->f.dir);
    fd = open(path, O_RDWR|O_CLOEXEC);
    assert_true(fd != -1);
    assert_int_equal(pread(fd, &len, sizeof(len), (off_t) at), sizeof(len));
    len--;
    assert_int_equal(pwrite(fd, &len, sizeof(len), (off_t) at), sizeof(len));
    close(fd);
}


static void
test_pages(void **state)
{
    seen_t    seen;
    house_t   h;
    unsigned  i;

    build(&h);

    undo(&h);

    for (i = 0; i < 20; i++) {
        add_identities(&h.f, "two", 1000 + i * 10, 10);
        check_clean(&h.f);
    }

    fixture_close(&h.f);
    lose_page(&h);
    fixture_open(&h.f);

    look_all(&h.f, &seen);

    if (seen.n != 1 || seen.where[0].fault != IMS_POOL_FAULT_PAGES) {
        print_seen(&seen);
        fail_msg("a lost page is not seen");
    }

    fixture_end(&h.f);
}


static void
test_files(void **state)
{
    static const struct {
        const char  *name;
        mode_t       wrong;
        const char  *place;
    } files[] = {
        { "", 0755, "directory" },
        { "/env.1", 0700, "environment" },
        { "/env.1/data.mdb", 0644, "data.mdb" },
        { "/env.1/lock.mdb", 0666, "lock.mdb" },
        { "/keys", 0640, "keys" },
        { "/floor", 0606, "floor" },
    };

    char         path[128], place[IMS_POOL_PLACE_MAX];
    seen_t       seen;
    size_t       i;
    house_t      h;
    struct stat  sb;

    build(&h);

    for (i = 0; i < sizeof(files) / sizeof(files[0]); i++) {

        snprintf(path, sizeof(path), "%s%s", h.f.dir, files[i].name);
        assert_int_equal(stat(path, &sb), 0);
        assert_int_equal(chmod(path, files[i].wrong), 0);

        look_all(&h.f, &seen);
        assert_int_equal(seen.n, 1);
        assert_int_equal(seen.where[0].fault, IMS_POOL_FAULT_FILE);
        ims_pool_fault_place(seen.where[0].fault, seen.where[0].at, place);
        assert_string_equal(place, files[i].place);

        assert_int_equal(chmod(path, sb.st_mode & 07777), 0);
    }

    /* one that is not there any more */

    snprintf(path, sizeof(path), "%s/floor", h.f.dir);
    assert_int_equal(unlink(path), 0);
    look_all(&h.f, &seen);
    assert_int_equal(seen.n, 1);

    /* what was taken for a test may not be what keeps a pool */

    h.f.w->opt.is_volatile = false;
    look_all(&h.f, &seen);

    if (strncmp(h.f.base, "/dev/shm", 8) == 0) {
        assert_int_equal(seen.n, 2);
        ims_pool_fault_place(seen.where[1].fault, seen.where[1].at, place);
        assert_string_equal(place, "file system");
    }

    fixture_end(&h.f);
}


static void
test_floor(void **state)
{
    seen_t   seen;
    house_t  h;

    build(&h);

    h.f.w->floor.incarnation--;
    look_all(&h.f, &seen);
    assert_int_equal(seen.n, 1);
    assert_int_equal(seen.where[0].fault, IMS_POOL_FAULT_FLOOR);
    h.f.w->floor.incarnation++;

    h.f.w->floor.term--;
    look_all(&h.f, &seen);
    assert_int_equal(seen.n, 2);        /* both pools */
    assert_int_equal(seen.where[0].fault, IMS_POOL_FAULT_FLOOR);

    fixture_end(&h.f);
}


/* who reads, in another process, and how old what he sees is */

static void
test_readers(void **state)
{
    int                 rc, up[2], down[2], status;
    char                ch;
    pid_t               pid;
    house_t             h;
    unsigned            i;
    ims_pool_check_t    check;
    ims_pool_grant_t    g;
    ims_pool_reader_t  *r;

    build(&h);
    assert_int_equal(pipe(up), 0);
    assert_int_equal(pipe(down), 0);

    pid = fork();

    if (pid == 0) {
        close(up[0]);
        close(down[1]);

        rc = ims_pool_open_clock(&r, h.f.dir, &h.f.clock, NULL, 0);
        rc = rc == IMS_POOL_OK ? ims_pool_snap(r) : rc;
        ch = rc == IMS_POOL_OK ? 'y' : 'n';

        if (write(up[1], &ch, 1) != 1 || read(down[0], &ch, 1) < 0) {
            _exit(1);
        }

        _exit(0);
    }

    close(up[1]);
    close(down[0]);
    assert_int_equal(read(up[0], &ch, 1), 1);
    assert_int_equal(ch, 'y');

    for (i = 0; i < 5; i++) {
        h.f.v.boottime++;
        assert_int_equal(acquire(&h.f, "bob", 2, &g), 0);
    }

    ims_pool_check_begin(&check, NULL, NULL);

    do {
        rc = ims_pool_check_slice(h.f.w, &check, 1000);
    } while (rc == IMS_POOL_MORE);

    assert_int_equal(rc, IMS_POOL_OK);
    assert_int_equal(ims_pool_check_total(&check), 0);
    assert_int_equal(check.readers, 1);
    assert_int_equal(check.behind, 5);

    close(down[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(up[0]);

    fixture_end(&h.f);
}


/* identities come and go between the slices, and nothing is found */

static void
test_online(void **state)
{
    int                rc;
    char               name[32];
    bool               ended;
    house_t            h;
    unsigned           i, more, turn;
    ims_pool_check_t   check;

    build(&h);
    undo(&h);
    more = 10000;

    for (i = 0; i < 20; i++) {

        turn = 0;
        ims_pool_check_begin(&check, fault_print, NULL);

        do {
            rc = ims_pool_check_slice(h.f.w, &check, 1 + i % 5);
            assert_true(rc >= 0);

            if (turn++ % 7 == i % 7 && turn < 100) {
                add_identities(&h.f, "web", more, 2);
                snprintf(name, sizeof(name), "web-%06u@ims.example", more);
                more += 2;
                begin(&h.f);
                assert_int_equal(ims_pool_remove(h.f.w, S(name), &ended), 0);
                (void) ims_pool_tick(h.f.w);
                commit(&h.f);
            }

        } while (rc == IMS_POOL_MORE);

        assert_int_equal(ims_pool_check_total(&check), 0);
    }

    fixture_end(&h.f);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_planted),
        cmocka_unit_test(test_staged),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_floor),
        cmocka_unit_test(test_readers),
        cmocka_unit_test(test_online),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
