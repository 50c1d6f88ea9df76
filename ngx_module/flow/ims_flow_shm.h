/*
 * Copyright (C) nginx-ims contributors
 *
 * Layout of the flow table file; private to flow/.  A change of it is a new
 * IMS_FLOW_LAYOUT.
 *
 *   page 0   header          | 4096 rows of 64 bytes (worker list)
 *   marks    1 bit a slot    | index  u64 an entry  | slots of 2 KiB
 *
 * each part beginning at a page.  There are no pointers in it.  Zero bytes are
 * a sound empty table.
 */

#ifndef _IMS_FLOW_SHM_H_INCLUDED_
#define _IMS_FLOW_SHM_H_INCLUDED_


#include "flow/ims_flow_table.h"
#include "flow/ims_siphash.h"


#define IMS_FLOW_PAGE       4096
#define IMS_FLOW_MAGIC      0x77306c662d736d69ull      /* "ims-fl0w" */
#define IMS_FLOW_BOOT_LEN   40

#define IMS_FLOW_ROW_SIZE   64

#define IMS_FLOW_LINE       8             /* index entries a cache line */
#define IMS_FLOW_WINDOW     32            /* entries where a key may be */


struct ims_flow_file_s {
    uint64_t           magic;
    uint32_t           layout;
    uint32_t           slot_size;
    uint64_t           size;
    uint32_t           nslots;
    uint32_t           index_len;         /* a power of two */
    uint32_t           gen_base;          /* added to a slot's generation, so
                                             that tokens for the file before
                                             this one are stale */
    uint32_t           spare;
    ims_siphash_key_t  seed;
    char               boot[IMS_FLOW_BOOT_LEN];
};


/* word: exiting 1 (bit 54) | state 2 (52) | generation 20 (32) | pid 32 */

struct ims_flow_row_s {
    uint64_t           word;
    uint64_t           id;
    uint64_t           start_ms;
    uint64_t           master;
    uint32_t           cycle;
    uint32_t           version;
    uint64_t           spare[3];
};


struct ims_flow_slot_s {
    uint64_t           seq;
    uint64_t           owner;
    uint64_t           prev;
    uint32_t           generation;        /* less gen_base */
    uint32_t           spare[9];

    ims_flow_data_t    data;              /* from the second cache line on */
};

_Static_assert(sizeof(ims_flow_file_t) <= IMS_FLOW_PAGE, "header");
_Static_assert(sizeof(struct ims_flow_row_s) == IMS_FLOW_ROW_SIZE, "row");
_Static_assert(sizeof(struct ims_flow_slot_s) == IMS_FLOW_SLOT_SIZE, "slot");
_Static_assert(offsetof(struct ims_flow_slot_s, data) == 64, "data");
_Static_assert(offsetof(ims_flow_data_t, lease) == 0
               && offsetof(ims_flow_data_t, instance) == 8, "index key");
_Static_assert(offsetof(ims_flow_data_t, area) % 8 == 0, "copied in words");


/*
 * Every access to the mapping is atomic.  Owner and seq words are sequentially
 * consistent: the argument in ims_flow_slot.c needs one order of all of them.
 */

#define ims_flow_load(p)     __atomic_load_n(p, __ATOMIC_SEQ_CST)
#define ims_flow_store(p, v) __atomic_store_n(p, v, __ATOMIC_SEQ_CST)
#define ims_flow_get(p)      __atomic_load_n(p, __ATOMIC_RELAXED)
#define ims_flow_set(p, v)   __atomic_store_n(p, v, __ATOMIC_RELAXED)


static inline bool
ims_flow_cas(uint64_t *p, uint64_t from, uint64_t to)
{
    return __atomic_compare_exchange_n(p, &from, to, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_SEQ_CST);
}


static inline ims_flow_slot_t *
ims_flow_slot(const ims_flow_table_t *t, uint32_t slot)
{
    return (ims_flow_slot_t *) (t->slots + (size_t) slot * IMS_FLOW_SLOT_SIZE);
}


/* -- the sequence word ---- */

#define ims_flow_seq_odd(s)     ((s) & 1)
#define ims_flow_seq_count(s)   ((s) >> 33)

/* what an owner word would say of the writer: row and generation, serial 0 */
#define ims_flow_seq_writer(s)  (((s) >> 1) << 32)

static inline uint64_t
ims_flow_seq_write(uint64_t s, uint64_t owner)
{
    return (s & ~0x1ffffffffull) | owner >> 32 << 1 | 1;
}


static inline uint64_t
ims_flow_seq_next(uint64_t s)
{
    return (ims_flow_seq_count(s) + 1) << 33;
}


/* -- ims_flow_slot.c, for index and sweeper ---- */

/*
 * The first n bytes (a multiple of 8) of the data as one consistent piece,
 * with owner and generation of the same moment.  BUSY, DEAD.
 */
ims_flow_rc_t ims_flow_read_head(const ims_flow_table_t *t, uint32_t slot,
    void *dst, size_t n, uint64_t *owner, uint32_t *generation);

/* Sets or clears the mark of a slot. */
void ims_flow_mark(ims_flow_table_t *t, uint32_t slot);
void ims_flow_unmark(ims_flow_table_t *t, uint32_t slot);

/* The owner word of a wiped slot becomes 0, if it is claim. */
bool ims_flow_free_end(ims_flow_table_t *t, uint32_t slot, uint64_t claim);


/* -- ims_flow_index.c ---- */

void ims_flow_index_remove(ims_flow_table_t *t, uint64_t lease,
    const uint8_t instance[16], uint32_t slot);


#endif /* _IMS_FLOW_SHM_H_INCLUDED_ */
