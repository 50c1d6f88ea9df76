/*
 * Copyright (C) nginx-ims contributors
 *
 * Tree `ident`: records, twenty to a row.
 *
 * A row is larger than LMDB puts into a leaf, so it has a page of its own, and
 * the leaves hold but keys: those of a million identities fit in a processor's
 * cache.  A look at random then misses it for the record alone, not at each
 * step of a search among records; and a row that changes is still one page.
 *
 * Each record in it has a CRC of its own: a damaged one says nothing, and the
 * others are as good as before.
 */

#include "ims_pool_int.h"


#define IMS_POOL_BLOCK_CRC  offsetof(ims_pool_block_head_t, crc)

_Static_assert(IMS_POOL_SLOT >= sizeof(ims_pool_rec_t) + IMS_POOL_CRC_LEN,
               "a record of four sessions has room");
_Static_assert(IMS_POOL_BLOCK < 32, "used has a bit for each");


static uint32_t ims_pool_block_crc(uint64_t first,
    const ims_pool_block_head_t *h);
static uint32_t ims_pool_slot_crc(uint64_t ident, const uint8_t *slot,
    size_t n);
static int ims_pool_slot_in(const MDB_val *k, const MDB_val *v,
    uint64_t ident, const uint8_t **slot);
static int ims_pool_recs_row(ims_pool_recs_t *it, uint64_t *ident);


static inline uint64_t
ims_pool_block_first(uint64_t ident)
{
    return ident - ident % IMS_POOL_BLOCK;
}


static inline unsigned
ims_pool_block_slot(uint64_t ident)
{
    return (unsigned) (ident % IMS_POOL_BLOCK);
}


/* --- a row ------------------------------------------------------------------ */

static uint32_t
ims_pool_block_crc(uint64_t first, const ims_pool_block_head_t *h)
{
    return ims_pool_crc32c(ims_pool_crc32c(0, &first, sizeof(first)), h,
                           IMS_POOL_BLOCK_CRC);
}


bool
ims_pool_block_open(const MDB_val *k, const MDB_val *v,
    ims_pool_block_head_t *h)
{
    uint64_t  first;

    if (k->mv_size != sizeof(first)
        || v->mv_size != sizeof(ims_pool_block_t))
    {
        return false;
    }

    memcpy(&first, k->mv_data, sizeof(first));
    memcpy(h, v->mv_data, sizeof(ims_pool_block_head_t));

    return h->crc == ims_pool_block_crc(first, h) && h->first == first
           && first == ims_pool_block_first(first)
           && h->used >> IMS_POOL_BLOCK == 0;
}


int
ims_pool_block_read(MDB_txn *txn, const MDB_dbi *dbi, uint64_t ident,
    ims_pool_block_t *block)
{
    int                    rc;
    uint64_t               first;
    MDB_val                k, v;
    ims_pool_block_head_t  h;

    first = ims_pool_block_first(ident);
    k.mv_size = sizeof(first);
    k.mv_data = &first;

    rc = mdb_get(txn, dbi[IMS_POOL_T_IDENT], &k, &v);

    if (rc == MDB_NOTFOUND) {
        memset(block, 0, sizeof(ims_pool_block_t));
        block->head.first = ims_pool_block_first(ident);
        return IMS_POOL_NOTFOUND;
    }

    if (rc != 0 || !ims_pool_block_open(&k, &v, &h)) {
        return IMS_POOL_UNKNOWN;
    }

    memcpy(block, v.mv_data, sizeof(ims_pool_block_t));

    return IMS_POOL_OK;
}


bool
ims_pool_block_has(const ims_pool_block_t *block, uint64_t ident)
{
    return block->head.used >> ims_pool_block_slot(ident) & 1;
}


void
ims_pool_block_set(ims_pool_block_t *block, const ims_pool_rec_t *rec)
{
    size_t    n;
    uint8_t  *slot;
    uint32_t  crc;

    n = ims_pool_rec_size(rec);
    slot = block->slot[ims_pool_block_slot(rec->ident)];

    memset(slot, 0, IMS_POOL_SLOT);
    memcpy(slot, rec, n);
    crc = ims_pool_slot_crc(rec->ident, slot, n);
    memcpy(slot + n, &crc, sizeof(crc));

    block->head.used |= (uint32_t) 1 << ims_pool_block_slot(rec->ident);
    block->head.crc = ims_pool_block_crc(block->head.first, &block->head);
}


void
ims_pool_block_clear(ims_pool_block_t *block, uint64_t ident)
{
    memset(block->slot[ims_pool_block_slot(ident)], 0, IMS_POOL_SLOT);

    block->head.used &= ~((uint32_t) 1 << ims_pool_block_slot(ident));
    block->head.crc = ims_pool_block_crc(block->head.first, &block->head);
}


/* --- a record ---------------------------------------------------------------- */

static uint32_t
ims_pool_slot_crc(uint64_t ident, const uint8_t *slot, size_t n)
{
    uint8_t  key[8];

    ims_pool_be64(key, ident);

    return ims_pool_crc32c(ims_pool_crc32c(0, key, sizeof(key)), slot, n);
}


/* how long a record is, it says itself */

bool
ims_pool_slot_row(const uint8_t *slot, uint64_t ident, ims_str_t *row)
{
    size_t    n;
    uint16_t  nsession;
    uint32_t  crc;

    memcpy(&nsession, slot + offsetof(ims_pool_rec_t, nsession),
           sizeof(nsession));

    if (nsession > IMS_POOL_SESSIONS) {
        *row = ims_str_set(slot, 0);
        return false;
    }

    n = ims_pool_rec_bytes(nsession);
    memcpy(&crc, slot + n, sizeof(crc));

    *row = ims_str_set(slot, n);

    return crc == ims_pool_slot_crc(ident, slot, n);
}


bool
ims_pool_slot_rec(const uint8_t *slot, uint64_t ident, ims_pool_rec_t *rec)
{
    ims_str_t  row;

    return ims_pool_slot_row(slot, ident, &row)
           && ims_pool_rec_decode(row, ident, rec);
}


/* of ident, in its row, if that says that it is there */

static int
ims_pool_slot_in(const MDB_val *k, const MDB_val *v, uint64_t ident,
    const uint8_t **slot)
{
    ims_pool_block_head_t  h;

    if (!ims_pool_block_open(k, v, &h)) {
        return IMS_POOL_UNKNOWN;
    }

    if ((h.used >> ims_pool_block_slot(ident) & 1) == 0) {
        return IMS_POOL_NOTFOUND;
    }

    *slot = (const uint8_t *) v->mv_data + offsetof(ims_pool_block_t, slot)
            + ims_pool_block_slot(ident) * IMS_POOL_SLOT;

    return IMS_POOL_OK;
}


int
ims_pool_slot(MDB_cursor *cursor, uint64_t ident, const uint8_t **slot,
    const void **entry)
{
    int       rc;
    uint64_t  first;
    MDB_val   k, v;

    first = ims_pool_block_first(ident);
    k.mv_size = sizeof(first);
    k.mv_data = &first;

    rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_KEY);

    if (rc != 0) {
        return rc == MDB_NOTFOUND ? IMS_POOL_NOTFOUND : IMS_POOL_UNKNOWN;
    }

    /* the key is the tree's own now */

    *entry = k.mv_data;

    return ims_pool_slot_in(&k, &v, ident, slot);
}


int
ims_pool_rec(MDB_txn *txn, const MDB_dbi *dbi, uint64_t ident,
    ims_pool_rec_t *rec)
{
    int             rc;
    uint64_t        first;
    MDB_val         k, v;
    const uint8_t  *slot;

    first = ims_pool_block_first(ident);
    k.mv_size = sizeof(first);
    k.mv_data = &first;

    rc = mdb_get(txn, dbi[IMS_POOL_T_IDENT], &k, &v);

    if (rc != 0) {
        return rc == MDB_NOTFOUND ? IMS_POOL_NOTFOUND : IMS_POOL_UNKNOWN;
    }

    rc = ims_pool_slot_in(&k, &v, ident, &slot);

    if (rc == IMS_POOL_OK && !ims_pool_slot_rec(slot, ident, rec)) {
        return IMS_POOL_UNKNOWN;
    }

    return rc;
}


/* --- one after the other ------------------------------------------------------ */

int
ims_pool_recs_open(ims_pool_recs_t *it, MDB_txn *txn, const MDB_dbi *dbi,
    uint64_t from)
{
    it->from = from;
    it->used = 0;
    it->begun = false;

    return mdb_cursor_open(txn, dbi[IMS_POOL_T_IDENT], &it->cursor);
}


void
ims_pool_recs_close(ims_pool_recs_t *it)
{
    mdb_cursor_close(it->cursor);
}


int
ims_pool_recs_most(MDB_txn *txn, const MDB_dbi *dbi, size_t *n)
{
    int       rc;
    MDB_stat  st;

    rc = mdb_stat(txn, dbi[IMS_POOL_T_IDENT], &st);

    if (rc == 0) {
        *n = st.ms_entries * IMS_POOL_BLOCK;
    }

    return rc;
}


int
ims_pool_recs_next(ims_pool_recs_t *it, uint64_t *ident, ims_pool_rec_t *rec)
{
    int        rc;
    bool       good;
    unsigned   i;
    ims_str_t  row;

    memset(rec, 0, sizeof(ims_pool_rec_t));

    while (it->used == 0) {
        rc = ims_pool_recs_row(it, ident);

        if (rc != IMS_POOL_OK) {
            return rc;
        }
    }

    i = (unsigned) __builtin_ctz(it->used);
    it->used &= it->used - 1;
    *ident = it->first + i;

    good = ims_pool_slot_row(it->slots + i * IMS_POOL_SLOT, *ident, &row)
           && it->good;

    if (!ims_pool_rec_decode(row, *ident, rec)) {
        memset(rec, 0, sizeof(ims_pool_rec_t));
        return IMS_POOL_UNKNOWN;
    }

    return good ? IMS_POOL_OK : IMS_POOL_UNKNOWN;
}


/*
 * The next row.  One of another length stands for its last identity: who goes
 * on behind that one leaves it.
 */
static int
ims_pool_recs_row(ims_pool_recs_t *it, uint64_t *ident)
{
    int                    rc;
    uint64_t               first;
    MDB_val                k, v;
    ims_pool_block_head_t  h;

    first = ims_pool_block_first(it->from);
    k.mv_size = sizeof(first);
    k.mv_data = &first;

    rc = mdb_cursor_get(it->cursor, &k, &v,
                        it->begun ? MDB_NEXT : MDB_SET_RANGE);

    if (rc == MDB_NOTFOUND) {
        return IMS_POOL_NOTFOUND;
    }

    if (rc != 0 || k.mv_size != sizeof(first)) {
        return IMS_POOL_INTERNAL;
    }

    it->begun = true;
    memcpy(&it->first, k.mv_data, sizeof(it->first));
    it->slots = (const uint8_t *) v.mv_data + offsetof(ims_pool_block_t, slot);

    if (it->first > UINT64_MAX - IMS_POOL_BLOCK) {
        return IMS_POOL_INTERNAL;
    }

    if (v.mv_size != sizeof(ims_pool_block_t)) {
        *ident = it->first + IMS_POOL_BLOCK - 1;
        return IMS_POOL_UNKNOWN;
    }

    it->good = ims_pool_block_open(&k, &v, &h);
    it->used = it->good ? h.used : ((uint32_t) 1 << IMS_POOL_BLOCK) - 1;

    if (it->first < it->from) {
        it->used &= ~(uint32_t) 0 << (it->from - it->first);
    }

    return IMS_POOL_OK;
}
