/*
 * Copyright (C) nginx-ims contributors
 *
 * The sweeper: finds what dead workers left.
 *
 * It goes by the marks, and looks in each pass at one 64th of the unmarked
 * slots as well, since a killed allocator may have left a slot without one.
 */

#include "flow/ims_flow_shm.h"


#define IMS_SWEEP_CACHE  64


/* a worker's life is asked for once a call, not once a slot */
typedef struct {
    uint32_t  key[IMS_SWEEP_CACHE];       /* row and generation */
    bool      alive[IMS_SWEEP_CACHE];
} ims_sweep_cache_t;


static bool
ims_sweep_alive(ims_flow_table_t *t, ims_flow_sweep_t *s,
    ims_sweep_cache_t *c, uint64_t owner)
{
    uint32_t  key, i;

    key = (uint32_t) (owner >> 32);
    i = ims_flow_owner_row(owner) % IMS_SWEEP_CACHE;

    if (key == 0) {
        return false;
    }

    if (c->key[i] != key) {
        c->key[i] = key;
        c->alive[i] = ims_flow_owner_alive(t, owner, s->me, s->alive, s->arg);
    }

    return c->alive[i];
}


/* its grace is over */

static void
ims_sweep_due(ims_flow_table_t *t, ims_flow_sweep_t *s, uint32_t slot,
    uint64_t owner)
{
    uint32_t  gen;
    uint64_t  claim, now, lease;

    if (ims_flow_read_head(t, slot, &lease, sizeof(lease), &now, &gen)
        != IMS_FLOW_OK
        || now != owner)
    {
        return;
    }

    if (lease != 0) {
        s->due(s->arg, slot, gen, owner);
        return;
    }

    if (ims_flow_claim(t, slot, gen, owner, s->me, &claim) == IMS_FLOW_OK
        && ims_flow_free(t, slot, claim, s->me) == IMS_FLOW_OK)
    {
        s->freed++;
    }
}


/*
 * A claim of our own row: a de-registration under way, or the last step of
 * freeing that a late taker was in the way of.  Freeing is never under way
 * here, so a slot without a lease is the latter.
 */

static void
ims_sweep_own_claim(ims_flow_table_t *t, uint32_t slot, uint64_t owner)
{
    uint64_t  now, lease;
    uint32_t  gen;

    if (ims_flow_read_head(t, slot, &lease, sizeof(lease), &now, &gen)
        == IMS_FLOW_OK
        && lease == 0 && now == owner)
    {
        (void) ims_flow_free_end(t, slot, owner);
    }
}


static void
ims_sweep_owned(ims_flow_table_t *t, ims_flow_sweep_t *s,
    ims_sweep_cache_t *c, uint32_t slot, uint64_t owner)
{
    if (ims_flow_is_lost(owner)) {

        if (s->now_ms >= ims_flow_lost_since(owner) + s->grace_ms) {
            ims_sweep_due(t, s, slot, owner);
        }

        return;
    }

    if (owner == ims_flow_owner_word(s->me, 0)) {
        ims_sweep_own_claim(t, slot, owner);
        return;
    }

    if (!ims_sweep_alive(t, s, c, owner)
        && ims_flow_release(t, slot, owner, s->now_ms) == IMS_FLOW_OK)
    {
        s->orphaned++;
    }
}


static void
ims_sweep_slot(ims_flow_table_t *t, ims_flow_sweep_t *s,
    ims_sweep_cache_t *c, uint32_t slot, bool marked)
{
    uint64_t  owner, seq;

    owner = ims_flow_owner(t, slot);

    if (ims_flow_is_free(owner)) {

        if (marked) {
            ims_flow_unmark(t, slot);
            s->repaired++;
        }

        return;
    }

    if (!marked) {
        ims_flow_mark(t, slot);
        s->repaired++;
    }

    seq = ims_flow_load(&ims_flow_slot(t, slot)->seq);

    if (!ims_flow_seq_odd(seq)) {
        ims_sweep_owned(t, s, c, slot, owner);
        return;
    }

    if (!ims_sweep_alive(t, s, c, ims_flow_seq_writer(seq))
        && ims_flow_free_dead(t, slot, s->me, s->alive, s->arg)
           == IMS_FLOW_OK)
    {
        s->dead++;
    }
}


void
ims_flow_sweep(ims_flow_table_t *t, ims_flow_sweep_t *s, uint32_t n)
{
    bool               marked;
    uint32_t           i, word;
    uint64_t           marks, look;
    ims_sweep_cache_t  cache;

    memset(&cache, 0, sizeof(cache));

    for (n = (n + 63) / 64; n; n--) {

        if (s->cursor >= t->nmarks) {
            s->cursor = 0;
            s->pass++;
        }

        word = s->cursor++;
        marks = ims_flow_load(&t->marks[word]);
        look = (word + s->pass) % 64 == 0 ? UINT64_MAX : marks;

        while (look) {
            i = (uint32_t) __builtin_ctzll(look);
            look &= look - 1;
            marked = (marks >> i & 1) != 0;

            ims_sweep_slot(t, s, &cache, word * 64 + i, marked);
        }
    }
}


/* the head of a slot's data, up to what is looked for */

typedef struct {
    uint64_t  lease;
    uint8_t   instance[16];
    uint64_t  ident;
} ims_sweep_head_t;

_Static_assert(offsetof(ims_flow_data_t, ident)
               == offsetof(ims_sweep_head_t, ident),
               "ident is where the head has it");


static void
ims_sweep_newer(const ims_flow_table_t *t, uint32_t slot,
    ims_flow_lease_t *leases, unsigned n)
{
    bool              unread;
    uint32_t          gen;
    uint64_t          owner;
    unsigned          i;
    ims_sweep_head_t  head;

    if (ims_flow_is_free(ims_flow_owner(t, slot))) {
        return;
    }

    unread = ims_flow_read_head(t, slot, &head, sizeof(head), &owner, &gen)
             != IMS_FLOW_OK;

    for (i = 0; i < n; i++) {
        leases[i].newer |= unread || (head.ident == leases[i].ident
                                      && head.lease > leases[i].lease);
    }
}


void
ims_flow_newer(const ims_flow_table_t *t, ims_flow_lease_t *leases, unsigned n)
{
    uint32_t  i, word;
    uint64_t  marks;

    for (i = 0; i < n; i++) {
        leases[i].newer = false;
    }

    for (word = 0; word < t->nmarks; word++) {
        marks = ims_flow_load(&t->marks[word]);

        while (marks) {
            i = (uint32_t) __builtin_ctzll(marks);
            marks &= marks - 1;

            ims_sweep_newer(t, word * 64 + i, leases, n);
        }
    }
}
