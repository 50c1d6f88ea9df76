/*
 * Copyright (C) nginx-ims contributors
 *
 * The index (lease, instance) -> slot: an open hash table of hints.
 *
 * An entry is 32 bits of the hash and slot + 1.  A key may be in any of the
 * IMS_FLOW_WINDOW entries that begin at its place, and nowhere else, so that a
 * look-up ends without chains that a crash could break.  What an entry says is
 * believed only after a look at the slot; entries that a crash left behind are
 * written over.  The hash is keyed: clients choose their instance-ids.
 */

#include "flow/ims_flow_shm.h"


#define IMS_INDEX_TRIES  8

#define ims_index_slot(e)  ((uint32_t) (e) - 1)
#define ims_index_tag(e)   ((uint32_t) ((e) >> 32))


/* the head of ims_flow_data_t */
typedef struct {
    uint64_t  lease;
    uint8_t   instance[16];
} ims_index_key_t;

_Static_assert(sizeof(ims_index_key_t) == 24, "hashed as bytes");


typedef enum {
    IMS_INDEX_OTHER = 0,       /* a live entry of another key */
    IMS_INDEX_SAME,
    IMS_INDEX_STALE,
    IMS_INDEX_UNKNOWN          /* its slot is being written */
} ims_index_verdict_t;


static uint64_t
ims_index_hash(const ims_flow_table_t *t, const ims_index_key_t *key)
{
    return ims_siphash(&t->file->seed, key, sizeof(ims_index_key_t));
}


static uint64_t
ims_index_entry(uint64_t hash, uint32_t slot)
{
    return (hash & 0xffffffff00000000ull) | (slot + 1);
}


static uint64_t *
ims_index_at(const ims_flow_table_t *t, uint64_t hash, unsigned i)
{
    uint32_t  start;

    start = (uint32_t) hash & ~(IMS_FLOW_LINE - 1u);

    return &t->index[(start + i) & t->index_mask];
}


/* hash is the key's; the entry is in that key's window */

static ims_index_verdict_t
ims_index_judge(const ims_flow_table_t *t, uint64_t entry,
    const ims_index_key_t *key, uint32_t *generation)
{
    uint64_t         owner, hash;
    uint32_t         slot, gen;
    ims_index_key_t  now;

    slot = ims_index_slot(entry);

    if (slot >= t->nslots) {
        return IMS_INDEX_STALE;
    }

    if (ims_flow_read_head(t, slot, &now, sizeof(now), &owner, &gen)
        != IMS_FLOW_OK)
    {
        return IMS_INDEX_UNKNOWN;
    }

    if (ims_flow_is_free(owner) || now.lease == 0) {
        return IMS_INDEX_STALE;
    }

    if (memcmp(&now, key, sizeof(now)) == 0) {
        *generation = gen;
        return IMS_INDEX_SAME;
    }

    hash = ims_index_hash(t, &now);

    return ims_index_tag(hash) == ims_index_tag(entry)
           ? IMS_INDEX_OTHER : IMS_INDEX_STALE;
}


ims_flow_rc_t
ims_flow_find(const ims_flow_table_t *t, uint64_t lease,
    const uint8_t instance[16], uint32_t *slot, uint32_t *generation)
{
    uint64_t         hash, e;
    unsigned         i;
    ims_flow_rc_t    rc;
    ims_index_key_t  key;

    if (lease == 0) {
        return IMS_FLOW_NOTFOUND;
    }

    key.lease = lease;
    memcpy(key.instance, instance, sizeof(key.instance));

    hash = ims_index_hash(t, &key);
    rc = IMS_FLOW_NOTFOUND;

    for (i = 0; i < IMS_FLOW_WINDOW; i++) {
        e = ims_flow_load(ims_index_at(t, hash, i));

        if (e == 0 || ims_index_tag(e) != ims_index_tag(hash)) {
            continue;
        }

        switch (ims_index_judge(t, e, &key, generation)) {

        case IMS_INDEX_SAME:
            *slot = ims_index_slot(e);
            return IMS_FLOW_OK;

        case IMS_INDEX_UNKNOWN:
            rc = IMS_FLOW_BUSY;
            break;

        default:
            break;
        }
    }

    return rc;
}


/*
 * The entry that e is to replace, in *at, and what it holds, in *was: that of
 * the same key, else an empty one, else a stale one.  False: none.
 */

static bool
ims_index_place(ims_flow_table_t *t, uint64_t hash,
    const ims_index_key_t *key, unsigned *at, uint64_t *was, bool *same)
{
    bool      found;
    uint32_t  gen;
    uint64_t  e;
    unsigned  i;

    *at = 0;
    *was = 0;
    *same = false;

    found = false;

    for (i = 0; i < IMS_FLOW_WINDOW; i++) {
        e = ims_flow_load(ims_index_at(t, hash, i));

        if (e == 0) {
            if (!found) {
                found = true;
                *at = i;
            }

            continue;
        }

        if (ims_index_tag(e) == ims_index_tag(hash)
            && ims_index_judge(t, e, key, &gen) == IMS_INDEX_SAME)
        {
            *at = i;
            *was = e;
            *same = true;

            return true;
        }
    }

    for (i = 0; !found && i < IMS_FLOW_WINDOW; i++) {
        e = ims_flow_load(ims_index_at(t, hash, i));

        if (e == 0
            || ims_index_judge(t, e, key, &gen) == IMS_INDEX_STALE)
        {
            found = true;
            *at = i;
            *was = e;
        }
    }

    return found;
}


/*
 * Two workers may have entered the same key at the same time in two places.
 * Each looks after it has written, so at least one sees the other; the place
 * that look-ups come to first wins.
 */

static ims_flow_rc_t
ims_index_settle(ims_flow_table_t *t, uint64_t hash,
    const ims_index_key_t *key, uint64_t own, unsigned at, uint32_t *other)
{
    uint32_t   gen;
    uint64_t   e, *p;
    unsigned   i;

    for (i = 0; i < IMS_FLOW_WINDOW; i++) {
        p = ims_index_at(t, hash, i);
        e = ims_flow_load(p);

        if (e == 0 || e == own
            || ims_index_tag(e) != ims_index_tag(hash)
            || ims_index_judge(t, e, key, &gen) != IMS_INDEX_SAME)
        {
            continue;
        }

        *other = ims_index_slot(e);

        if (i < at) {
            (void) ims_flow_cas(ims_index_at(t, hash, at), own, 0);
            return IMS_FLOW_STALE;
        }

        (void) ims_flow_cas(p, e, 0);
    }

    return IMS_FLOW_OK;
}


ims_flow_rc_t
ims_flow_index_put(ims_flow_table_t *t, uint32_t slot, uint32_t *other)
{
    bool             same;
    uint64_t         hash, own, was;
    unsigned         at, try;
    ims_index_key_t  key;

    *other = IMS_FLOW_NONE;

    memcpy(&key, ims_flow_peek(t, slot), sizeof(key));

    if (key.lease == 0) {
        return IMS_FLOW_LOST;
    }

    hash = ims_index_hash(t, &key);
    own = ims_index_entry(hash, slot);

    for (try = 0; try < IMS_INDEX_TRIES; try++) {

        if (!ims_index_place(t, hash, &key, &at, &was, &same)) {
            return IMS_FLOW_FULL;
        }

        if (was == own) {
            return IMS_FLOW_OK;
        }

        if (!ims_flow_cas(ims_index_at(t, hash, at), was, own)) {
            continue;
        }

        if (same) {
            *other = ims_index_slot(was);
        }

        return ims_index_settle(t, hash, &key, own, at, other);
    }

    return IMS_FLOW_FULL;
}


void
ims_flow_index_remove(ims_flow_table_t *t, uint64_t lease,
    const uint8_t instance[16], uint32_t slot)
{
    uint64_t         hash, own, *p;
    unsigned         i;
    ims_index_key_t  key;

    key.lease = lease;
    memcpy(key.instance, instance, sizeof(key.instance));

    hash = ims_index_hash(t, &key);
    own = ims_index_entry(hash, slot);

    for (i = 0; i < IMS_FLOW_WINDOW; i++) {
        p = ims_index_at(t, hash, i);

        if (ims_flow_load(p) == own) {
            (void) ims_flow_cas(p, own, 0);
        }
    }
}


void
ims_flow_index_del(ims_flow_table_t *t, uint32_t slot)
{
    const ims_flow_data_t  *d;

    d = ims_flow_peek(t, slot);

    if (d->lease != 0) {
        ims_flow_index_remove(t, d->lease, d->instance, slot);
    }
}
