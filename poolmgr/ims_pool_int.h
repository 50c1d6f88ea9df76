/*
 * Copyright (C) nginx-ims contributors
 *
 * What reader and writer share and nobody else sees: rows, keys, trees.
 */

#ifndef _IMS_POOL_INT_H_INCLUDED_
#define _IMS_POOL_INT_H_INCLUDED_


#include <lmdb.h>
#include <sys/stat.h>

#include "ims_pool.h"


#define IMS_POOL_CRC_LEN     4
#define IMS_POOL_KEY_MAX     511
#define IMS_POOL_PATH_MAX    1024

#define IMS_POOL_STATE_KEY   "state"


/* --- rows ------------------------------------------------------------- */

/* CRC-32C (RFC 3720 B.4); crc is 0 or the result for the bytes before. */
uint32_t ims_pool_crc32c(uint32_t crc, const void *p, size_t n);

/* The bytes of a value before its CRC; false if the CRC is wrong. */
bool ims_pool_row_open(const MDB_val *key, const MDB_val *val,
    ims_str_t *row);

/* A row by its key: IMS_POOL_OK, _NOTFOUND, _UNKNOWN (LMDB or CRC). */
int ims_pool_row(MDB_txn *txn, MDB_dbi dbi, const void *key, size_t nkey,
    ims_str_t *row);

/* The same copied; a row of any other length is _UNKNOWN. */
int ims_pool_row_copy(MDB_txn *txn, MDB_dbi dbi, const void *key, size_t nkey,
    void *out, size_t n);

/*
 * Record, pool and names: decoded, lengths and repeated keys checked.  A record
 * is as its row has it: recent renewals are not in it.
 */
bool ims_pool_rec_decode(ims_str_t row, uint64_t ident, ims_pool_rec_t *rec);

bool ims_pool_pool_decode(ims_str_t row, uint32_t number, ims_pool_t *pool);
int ims_pool_pool(MDB_txn *txn, const MDB_dbi *dbi, uint32_t number,
    ims_pool_t *pool);

bool ims_pool_names_decode(ims_str_t row, uint64_t ident,
    ims_pool_names_t *names);

/* Returns the row's length, 0 if it does not fit cap. */
size_t ims_pool_names_encode(const ims_pool_names_t *names,
    uint32_t import_no, uint8_t *dst, size_t cap);

/* IMS_POOL_OK, _NOT_OURS, _SCHEMA_DIFFERS, _UNKNOWN. */
int ims_pool_state(MDB_txn *txn, const MDB_dbi *dbi, ims_pool_state_t *state);


/* --- records, twenty to a row (ims_pool_block.c) ------------------------ */

/* Bytes of a record that are stored, before its CRC. */
static inline size_t
ims_pool_rec_bytes(unsigned nsession)
{
    /* room for one session always: it is there in most of a record's life */

    return offsetof(ims_pool_rec_t, session)
           + (nsession ? nsession : 1) * sizeof(ims_pool_session_t);
}


static inline size_t
ims_pool_rec_size(const ims_pool_rec_t *rec)
{
    return ims_pool_rec_bytes(rec->nsession);
}


/*
 * A record by its identity.  IMS_POOL_OK, _NOTFOUND, _UNKNOWN: LMDB failed, or
 * the record or its row is damaged.
 */
int ims_pool_rec(MDB_txn *txn, const MDB_dbi *dbi, uint64_t ident,
    ims_pool_rec_t *rec);

/*
 * The same in two steps: where it is, and where the entry of its row is in the
 * tree, both valid as long as the snapshot; and what it says, false if it is
 * damaged.  The cursor is one of tree `ident`.
 */
int ims_pool_slot(MDB_cursor *cursor, uint64_t ident, const uint8_t **slot,
    const void **entry);
bool ims_pool_slot_rec(const uint8_t *slot, uint64_t ident,
    ims_pool_rec_t *rec);

/*
 * The bytes of a record before its CRC; false if that is wrong.  None, if it
 * does not say how many.
 */
bool ims_pool_slot_row(const uint8_t *slot, uint64_t ident, ims_str_t *row);

/*
 * A copy of the row that ident's record belongs into.  IMS_POOL_OK; _NOTFOUND:
 * there is none yet, block is empty; _UNKNOWN.
 */
int ims_pool_block_read(MDB_txn *txn, const MDB_dbi *dbi, uint64_t ident,
    ims_pool_block_t *block);
bool ims_pool_block_has(const ims_pool_block_t *block, uint64_t ident);

/* Which records are in a row?  False: it does not say, and nothing is known. */
bool ims_pool_block_open(const MDB_val *k, const MDB_val *v,
    ims_pool_block_head_t *h);

/* A record into the row that it belongs into, or out of it. */
void ims_pool_block_set(ims_pool_block_t *block, const ims_pool_rec_t *rec);
void ims_pool_block_clear(ims_pool_block_t *block, uint64_t ident);

/* All records in the order of their identities, within one transaction. */
typedef struct {
    MDB_cursor              *cursor;
    uint64_t                 from;
    uint64_t                 first;     /* of the row */
    const uint8_t           *slots;
    uint32_t                 used;      /* those of it that are to come */
    bool                     good;      /* it says which there are */
    bool                     begun;
} ims_pool_recs_t;

/* From that identity on.  0, or an error of LMDB's: then nothing is open. */
int ims_pool_recs_open(ims_pool_recs_t *it, MDB_txn *txn, const MDB_dbi *dbi,
    uint64_t from);

/*
 * IMS_POOL_OK; _UNKNOWN: ident's record, or all of a row up to ident, is
 * damaged, rec is what it seems to say (zeros: nothing), others may follow;
 * _NOTFOUND: that was all; _INTERNAL: LMDB failed.
 */
int ims_pool_recs_next(ims_pool_recs_t *it, uint64_t *ident,
    ims_pool_rec_t *rec);
void ims_pool_recs_close(ims_pool_recs_t *it);

/* No more records than that are there.  0, or an error of LMDB's. */
int ims_pool_recs_most(MDB_txn *txn, const MDB_dbi *dbi, size_t *n);


/* --- keys ------------------------------------------------------------- */

extern const char *const  ims_pool_tree_names[IMS_POOL_TREES];

/*
 * Opens all trees, with MDB_CREATE in flags makes them.  0 or an error of
 * LMDB's: MDB_VERSION_MISMATCH if they are those of another version.
 */
int ims_pool_trees(MDB_txn *txn, MDB_dbi *dbi, unsigned flags);

static inline void
ims_pool_be32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t) (v >> 24);
    p[1] = (uint8_t) (v >> 16);
    p[2] = (uint8_t) (v >> 8);
    p[3] = (uint8_t) v;
}


static inline void
ims_pool_be64(uint8_t *p, uint64_t v)
{
    ims_pool_be32(p, (uint32_t) (v >> 32));
    ims_pool_be32(p + 4, (uint32_t) v);
}


static inline uint32_t
ims_pool_get32(const uint8_t *p)
{
    return (uint32_t) p[0] << 24 | (uint32_t) p[1] << 16
           | (uint32_t) p[2] << 8 | (uint32_t) p[3];
}


static inline uint64_t
ims_pool_get64(const uint8_t *p)
{
    return (uint64_t) ims_pool_get32(p) << 32 | ims_pool_get32(p + 4);
}


/*
 * Identities that may not be given have the time NEVER; removed ones stand,
 * by the end of their rest, under pool number 0.
 */
#define IMS_POOL_AVAIL_KEY   20     /* pool u32, time u64, ident u64 */
#define IMS_POOL_NEVER       UINT64_MAX
#define IMS_POOL_REMOVED     0

typedef struct {
    uint32_t  pool;
    uint64_t  time;
    uint64_t  ident;
} ims_pool_avail_t;

static inline void
ims_pool_avail_key(uint8_t *key, const ims_pool_avail_t *a)
{
    ims_pool_be32(key, a->pool);
    ims_pool_be64(key + 4, a->time);
    ims_pool_be64(key + 12, a->ident);
}


/* A record's row. */
static inline ims_pool_avail_t
ims_pool_avail_of(const ims_pool_rec_t *rec)
{
    return (ims_pool_avail_t) {
        (rec->flags & IMS_POOL_F_REMOVING) ? IMS_POOL_REMOVED : rec->pool,
        rec->avail, rec->ident
    };
}


static inline bool
ims_pool_avail_parse(const MDB_val *key, ims_pool_avail_t *a)
{
    if (key->mv_size != IMS_POOL_AVAIL_KEY) {
        return false;
    }

    a->pool = ims_pool_get32(key->mv_data);
    a->time = ims_pool_get64((const uint8_t *) key->mv_data + 4);
    a->ident = ims_pool_get64((const uint8_t *) key->mv_data + 12);

    return true;
}


#define IMS_POOL_USER_PREFIX 20     /* hash 16, pool u32 */
#define IMS_POOL_USER_KEY    28     /* and session u64, if there is one */

/* Returns the key's length. */
static inline size_t
ims_pool_user_key(uint8_t *key, const uint8_t *hash, uint32_t pool,
    uint64_t session)
{
    memcpy(key, hash, IMS_POOL_HOLDER_LEN);
    ims_pool_be32(key + IMS_POOL_HOLDER_LEN, pool);

    if (session == 0) {
        return IMS_POOL_USER_PREFIX;
    }

    ims_pool_be64(key + IMS_POOL_USER_PREFIX, session);

    return IMS_POOL_USER_KEY;
}


/* The key that leads the record's holder to it. */
static inline size_t
ims_pool_holder_key(uint8_t *key, const ims_pool_rec_t *rec)
{
    return ims_pool_user_key(key, rec->user, rec->pool,
                             (rec->flags & IMS_POOL_F_PER_SESSION)
                             ? rec->session[0].sid : 0);
}


#define IMS_POOL_FORMER      0x01
#define IMS_POOL_FORMER_KEY  25     /* and 16 bytes of a hash, ident u64 */

/* Is this the key of one of the identity's names? */
bool ims_pool_former_fits(const MDB_val *k, const ims_pool_uri_t *row,
    const ims_pool_names_t *names);

/* Wall time of a pool time, by the rows of the clock; 0: nothing is known. */
uint64_t ims_pool_wall_at(MDB_txn *txn, const MDB_dbi *dbi, uint64_t pt);

/* Key in `uri` of an IMPI: 0x00 and the IMPI in lower case; 0: too long. */
size_t ims_pool_impi_key(uint8_t *key, size_t cap, ims_str_t impi);


/* --- process ---------------------------------------------------------- */

/* Boot id, PID and time namespace of this process.  0 = ok. */
int ims_pool_where(const ims_pool_clock_t *clock, uint8_t *boot_id,
    uint64_t *pid_ns, uint64_t *time_ns);

/* Formats into err if there is room for one; returns rc. */
int ims_pool_err(char *err, size_t errlen, int rc, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/*
 * Is the file as long as its pages reach?  Who touches the map behind the end
 * of a file that was cut off is killed (SIGBUS).  0, or an error of LMDB's.
 */
int ims_pool_env_whole(MDB_env *env);

/*
 * The directory name that DIR/current holds, checked to be "env.<n>".
 * IMS_POOL_OK, _NOT_THERE (no link), _NOT_OURS (something else), _NO_ACCESS.
 */
int ims_pool_current(const char *dir, char *name, size_t cap, uint64_t *n);


/* --- renewals (ims_pool_renewal.c) -------------------------------------- */

#define IMS_POOL_RENEWALS    (1 << 18)  /* in one table, at the most */
#define IMS_POOL_RENEWAL_KEY 10         /* commit u64, part u16 */

typedef struct {
    ims_pool_renewal_t       r;
    uint64_t                 no;        /* of its commit; 0: free */
} ims_pool_renewed_t;

/*
 * Open addressing by identity, up to IMS_POOL_SESSIONS entries each.  Who
 * renews chooses his session's number: it has no say in the place.
 */
typedef struct {
    ims_pool_renewed_t      *slot;
    unsigned                 bits;      /* 2^bits slots, if there are any */
    unsigned                 n;
} ims_pool_renewals_t;

/*
 * What is in tree `renewal`, in the memory of who reads it: an older part that
 * the writer is working into the records, and a newer one.
 */
typedef struct {
    ims_pool_renewals_t      old;       /* commits first .. mid - 1 */
    ims_pool_renewals_t      new;       /* commits mid .. next - 1 */
    uint64_t                 first;
    uint64_t                 mid;
    uint64_t                 next;
    uint64_t                 made;      /* in the new part, one of the same
                                           session after the other counted */
} ims_pool_recent_t;

/* Room for n more.  false: no memory, or more than there may be. */
bool ims_pool_renewals_room(ims_pool_renewals_t *t, unsigned n);

/*
 * Into the room that there is.  Of more sessions than a record can have the
 * oldest is dropped: one that does not count any more.
 */
void ims_pool_renewals_put(ims_pool_renewals_t *t, const ims_pool_renewal_t *r,
    uint64_t no);

/* Forgets all; those of a small table without giving its memory back. */
void ims_pool_renewals_clear(ims_pool_renewals_t *t);
void ims_pool_renewals_free(ims_pool_renewals_t *t);

/* Those of an identity may be wanted: fetched, no more. */
void ims_pool_recent_fetch(const ims_pool_recent_t *recent, uint64_t ident);

/* Adds what counts to a record; true if it changed. */
bool ims_pool_renewals_add(const ims_pool_renewals_t *t, ims_pool_rec_t *rec);
bool ims_pool_recent_add(const ims_pool_recent_t *recent, ims_pool_rec_t *rec);

/*
 * Brings it up to the snapshot of txn, whose state this is.  IMS_POOL_UNKNOWN:
 * a row is damaged, or LMDB failed; with lost these are left out, and counted
 * there.  IMS_POOL_INTERNAL: no memory.
 */
int ims_pool_recent_read(ims_pool_recent_t *recent, MDB_txn *txn,
    const MDB_dbi *dbi, const ims_pool_state_t *state, unsigned *lost);

/* The new part is the old one from now on, and what was that goes. */
void ims_pool_recent_freeze(ims_pool_recent_t *recent);
void ims_pool_recent_free(ims_pool_recent_t *recent);


/* --- hints (ims_pool_hint.c) -------------------------------------------- */

typedef struct ims_pool_hint_s  ims_pool_hint_t;

typedef struct {
    uintptr_t                base;      /* a row in the map */
    ims_pool_hint_t         *hint;      /* of others; NULL: none */
} ims_pool_hints_t;

/* The record may be wanted: the processor is told where it was. */
void ims_pool_hint_fetch(const ims_pool_hints_t *h, uint64_t ident);

/* It was here, see ims_pool_slot().  Without memory there are no hints. */
void ims_pool_hint_note(ims_pool_hints_t *h, uint64_t ident,
    const uint8_t *slot, const void *entry);
void ims_pool_hint_free(ims_pool_hints_t *h);


/* --- reader ----------------------------------------------------------- */

#define IMS_POOL_SEEN        8

/* What a look tells of a pool, as it is in one snapshot. */
typedef struct {
    size_t                   txn;       /* 0: nothing */
    ims_pool_head_t          head;
    char                     name[IMS_POOL_NAME_MAX + 1];
    char                     home[IMS_POOL_HOME_MAX + 1];
} ims_pool_seen_t;

struct ims_pool_reader_s {
    MDB_env                 *env;
    MDB_txn                 *txn;       /* reset between two uses, or turns */
    MDB_cursor              *records;   /* renewed for each snapshot */
    MDB_dbi                  dbi[IMS_POOL_TREES];
    const ims_pool_clock_t  *clock;

    uint8_t                  boot_id[16];
    size_t                   state_txn; /* snapshot that state is of */
    ims_pool_state_t         state;

    ims_pool_recent_t       *recent;    /* own, or the writer's */
    ims_pool_recent_t        own;
    ims_pool_hints_t         hints;

    size_t                   feed_txn;  /* snapshot of the last feed read */
    uint64_t                 feed_seq;

    char                     dir[IMS_POOL_PATH_MAX];
    char                     target[32];        /* what current said */
    dev_t                    dev;               /* of data.mdb */
    ino_t                    ino;

    unsigned                 borrowed:1;        /* env is the writer's */
    unsigned                 turn:1;    /* uses of the same turn follow */
    unsigned                 kept:1;    /* txn is not reset, for them */
    unsigned                 bound:1;   /* records is a cursor of txn */

    ims_pool_seen_t          pools[IMS_POOL_SEEN];
    ims_pool_feed_row_t      feed[IMS_POOL_FEED_MAX];
};

/*
 * A reader on an environment that is open already; dbi's are copied.  recent:
 * the writer's, who keeps it at the last commit; NULL: the reader's own.
 */
int ims_pool_reader_borrow(ims_pool_reader_t **rp, MDB_env *env,
    const MDB_dbi *dbi, const ims_pool_clock_t *clock,
    ims_pool_recent_t *recent);

/*
 * The newest snapshot, and giving it back, or keeping it for the next use of a
 * turn.  Between them r->txn may be read.
 */
int ims_pool_snap(ims_pool_reader_t *r);
void ims_pool_unsnap(ims_pool_reader_t *r);


#endif /* _IMS_POOL_INT_H_INCLUDED_ */
