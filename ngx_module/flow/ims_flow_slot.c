/*
 * Copyright (C) nginx-ims contributors
 *
 * The life of a slot.
 *
 * Two rules keep a write and a take-over apart without a lock:
 *
 *   a writer    makes seq odd, then looks at owner: not its own, it backs out
 *   a taker     changes owner, then looks at seq: odd, it waits
 *
 * All four are sequentially consistent, so at least one of the two sees the
 * other.  If the writer looked first, the taker finds seq odd and reads the
 * data only when the write is whole; if the taker came first, nothing is
 * written.  A generation changes only within a write, hence a taker that then
 * finds the generation it meant has the flow it meant.
 *
 * owner becomes 0 as the last step of freeing, after data, generation and seq
 * are as the next owner needs them.
 */

#include <sched.h>

#include "flow/ims_flow_shm.h"


#define IMS_FLOW_SPINS       256      /* a write takes well below 1 us */
#define IMS_FLOW_SPIN_YIELD  64       /* unless its process is not running */


static inline void
ims_flow_pause(unsigned turn)
{
    if (turn % IMS_FLOW_SPIN_YIELD == IMS_FLOW_SPIN_YIELD - 1) {
        sched_yield();
        return;
    }

#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}


/* -- copying ------------------------------------------------------------- */

/* words, since a racing reader may look at them (and then drop them) */

static void
ims_flow_copy_in(void *dst, const void *src, size_t n)
{
    size_t           i;
    uint64_t        *to;
    const uint64_t  *from;

    to = dst;
    from = src;

    for (i = 0; i < n / 8; i++) {
        ims_flow_set(&to[i], from[i]);
    }
}


static void
ims_flow_copy_out(void *dst, const void *src, size_t n)
{
    size_t           i;
    uint64_t        *to;
    const uint64_t  *from;

    to = dst;
    from = src;

    for (i = 0; i < n / 8; i++) {
        to[i] = ims_flow_get(&from[i]);
    }
}


static size_t
ims_flow_data_len(uint16_t used)
{
    return offsetof(ims_flow_data_t, area) + ((used + 7u) & ~7u);
}


/* -- the sequence lock --------------------------------------------------- */

/* BUSY, or DEAD if the writer has left the worker list */

static ims_flow_rc_t
ims_flow_even(const ims_flow_table_t *t, const ims_flow_slot_t *s,
    uint64_t *seq)
{
    unsigned           i;
    ims_flow_worker_t  w;

    for (i = 0; i < IMS_FLOW_SPINS; i++) {
        *seq = ims_flow_load(&s->seq);

        if (!ims_flow_seq_odd(*seq)) {
            return IMS_FLOW_OK;
        }

        ims_flow_pause(i);
    }

    return ims_flow_worker_of(t, ims_flow_seq_writer(*seq), &w)
           ? IMS_FLOW_BUSY : IMS_FLOW_DEAD;
}


/* *seq is for ims_flow_write_end() */

static ims_flow_rc_t
ims_flow_write_begin(const ims_flow_table_t *t, ims_flow_slot_t *s,
    uint64_t owner, uint64_t *seq)
{
    ims_flow_rc_t  rc;

    do {
        if (ims_flow_load(&s->owner) != owner) {
            return IMS_FLOW_LOST;
        }

        rc = ims_flow_even(t, s, seq);
        if (rc != IMS_FLOW_OK) {
            return rc;
        }

    } while (!ims_flow_cas(&s->seq, *seq, ims_flow_seq_write(*seq, owner)));

    if (ims_flow_load(&s->owner) != owner) {
        (void) ims_flow_cas(&s->seq, ims_flow_seq_write(*seq, owner), *seq);
        return IMS_FLOW_LOST;
    }

    /* a reader that sees a word written below sees an odd seq after it */

    __atomic_thread_fence(__ATOMIC_RELEASE);

    return IMS_FLOW_OK;
}


/* fails only if we were taken for dead: then seq is another's */

static void
ims_flow_write_end(ims_flow_slot_t *s, uint64_t owner, uint64_t seq)
{
    (void) ims_flow_cas(&s->seq, ims_flow_seq_write(seq, owner),
                        ims_flow_seq_next(seq));
}


/* -- reading ------------------------------------------------------------- */

uint64_t
ims_flow_owner(const ims_flow_table_t *t, uint32_t slot)
{
    return ims_flow_load(&ims_flow_slot(t, slot)->owner);
}


uint64_t
ims_flow_prev_owner(const ims_flow_table_t *t, uint32_t slot)
{
    return ims_flow_get(&ims_flow_slot(t, slot)->prev);
}


uint32_t
ims_flow_generation(const ims_flow_table_t *t, uint32_t slot)
{
    return ims_flow_load(&ims_flow_slot(t, slot)->generation)
           + t->file->gen_base;
}


ims_flow_rc_t
ims_flow_resolve(const ims_flow_table_t *t, uint32_t slot,
    uint32_t generation, uint64_t *owner)
{
    if (slot >= t->nslots) {
        return IMS_FLOW_NOTFOUND;
    }

    *owner = ims_flow_owner(t, slot);

    if (ims_flow_generation(t, slot) != generation) {
        return IMS_FLOW_STALE;
    }

    return ims_flow_is_free(*owner) ? IMS_FLOW_NOTFOUND : IMS_FLOW_OK;
}


const ims_flow_data_t *
ims_flow_peek(const ims_flow_table_t *t, uint32_t slot)
{
    return &ims_flow_slot(t, slot)->data;
}


/* true if seq is still the one that the reading began with */

static bool
ims_flow_read_valid(const ims_flow_slot_t *s, uint64_t seq)
{
    __atomic_thread_fence(__ATOMIC_ACQUIRE);

    return ims_flow_get(&s->seq) == seq;
}


ims_flow_rc_t
ims_flow_read_head(const ims_flow_table_t *t, uint32_t slot, void *dst,
    size_t n, uint64_t *owner, uint32_t *generation)
{
    uint64_t          seq;
    unsigned          i;
    ims_flow_rc_t     rc;
    ims_flow_slot_t  *s;

    s = ims_flow_slot(t, slot);

    for (i = 0; i < IMS_FLOW_SPINS; i++) {

        rc = ims_flow_even(t, s, &seq);
        if (rc != IMS_FLOW_OK) {
            return rc;
        }

        *owner = ims_flow_load(&s->owner);
        *generation = ims_flow_generation(t, slot);
        ims_flow_copy_out(dst, &s->data, n);

        if (ims_flow_read_valid(s, seq)) {
            return IMS_FLOW_OK;
        }
    }

    return IMS_FLOW_BUSY;
}


ims_flow_rc_t
ims_flow_read(const ims_flow_table_t *t, uint32_t slot, ims_flow_view_t *view)
{
    uint16_t          used;
    uint64_t          seq;
    unsigned          i;
    ims_flow_rc_t     rc;
    ims_flow_slot_t  *s;

    if (slot >= t->nslots) {
        return IMS_FLOW_NOTFOUND;
    }

    s = ims_flow_slot(t, slot);

    for (i = 0; i < IMS_FLOW_SPINS; i++) {

        rc = ims_flow_even(t, s, &seq);
        if (rc != IMS_FLOW_OK) {
            return rc;
        }

        view->owner = ims_flow_load(&s->owner);
        view->prev = ims_flow_get(&s->prev);
        view->generation = ims_flow_generation(t, slot);

        used = ims_flow_get(&s->data.used);

        if (used <= sizeof(view->data.area)) {
            ims_flow_copy_out(&view->data, &s->data, ims_flow_data_len(used));
        }

        if (ims_flow_read_valid(s, seq)) {
            return ims_flow_is_free(view->owner)
                   || used > sizeof(view->data.area)
                   ? IMS_FLOW_NOTFOUND : IMS_FLOW_OK;
        }
    }

    return IMS_FLOW_BUSY;
}


/* -- marks: which slots are taken, as hints ------------------------------ */

/*
 * The owner word is the truth.  A mark that is set on a free slot hides it
 * until a sweeper comes by; one that is missing costs an attempt.
 */

void
ims_flow_mark(ims_flow_table_t *t, uint32_t slot)
{
    __atomic_fetch_or(&t->marks[slot / 64], 1ull << slot % 64,
                      __ATOMIC_SEQ_CST);
}


void
ims_flow_unmark(ims_flow_table_t *t, uint32_t slot)
{
    __atomic_fetch_and(&t->marks[slot / 64], ~(1ull << slot % 64),
                       __ATOMIC_SEQ_CST);

    /* somebody took it between our freeing and our unmarking */

    if (!ims_flow_is_free(ims_flow_owner(t, slot))) {
        ims_flow_mark(t, slot);
    }
}


uint32_t
ims_flow_used(const ims_flow_table_t *t)
{
    uint32_t  i, n;

    n = 0;

    for (i = 0; i < t->nmarks; i++) {
        n += (uint32_t) __builtin_popcountll(ims_flow_get(&t->marks[i]));
    }

    return n;
}


/* a slot of this word of marks, or false */

static bool
ims_flow_alloc_in(ims_flow_table_t *t, uint32_t word, uint64_t owner,
    uint32_t *slot)
{
    uint64_t  marks, bit;
    uint32_t  n;

    for ( ;; ) {
        marks = ims_flow_get(&t->marks[word]);

        if (marks == UINT64_MAX) {
            return false;
        }

        n = (uint32_t) __builtin_ctzll(~marks);
        bit = 1ull << n;

        /* the mark first: two allocators seldom try the same slot */

        if (__atomic_fetch_or(&t->marks[word], bit, __ATOMIC_SEQ_CST) & bit) {
            continue;
        }

        *slot = word * 64 + n;

        if (ims_flow_cas(&ims_flow_slot(t, *slot)->owner, 0, owner)) {

            /* a sweeper may have seen the mark before the owner */

            if (!(ims_flow_load(&t->marks[word]) & bit)) {
                ims_flow_mark(t, *slot);
            }

            return true;
        }

        /* taken, and its mark was missing: now it has one */
    }
}


ims_flow_rc_t
ims_flow_alloc(ims_flow_table_t *t, uint64_t owner, uint32_t *slot,
    uint32_t *generation)
{
    uint32_t  i, word;

    /* each process begins elsewhere and goes round */

    if (t->hint == 0) {
        t->hint = 1 + ims_flow_owner_row(owner) * 2654435761u % t->nmarks;
    }

    for (i = 0; i < t->nmarks; i++) {
        word = (t->hint - 1 + i) % t->nmarks;

        if (ims_flow_alloc_in(t, word, owner, slot)) {
            t->hint = word + 1;
            *generation = ims_flow_generation(t, *slot);

            return IMS_FLOW_OK;
        }
    }

    return IMS_FLOW_FULL;
}


/* -- owners -------------------------------------------------------------- */

ims_flow_rc_t
ims_flow_write(ims_flow_table_t *t, uint32_t slot, uint64_t owner,
    const ims_flow_data_t *data)
{
    uint64_t          seq;
    ims_flow_rc_t     rc;
    ims_flow_slot_t  *s;

    if (data->used > sizeof(data->area)) {
        return IMS_FLOW_TOOBIG;
    }

    s = ims_flow_slot(t, slot);

    rc = ims_flow_write_begin(t, s, owner, &seq);
    if (rc != IMS_FLOW_OK) {
        return rc;
    }

    ims_flow_copy_in(&s->data, data, ims_flow_data_len(data->used));
    ims_flow_write_end(s, owner, seq);

    return ims_flow_load(&s->owner) == owner ? IMS_FLOW_OK : IMS_FLOW_LOST;
}


/* the previous owner is a hint, so its word need not change with the owner */

static void
ims_flow_remember(ims_flow_slot_t *s, uint64_t owner)
{
    if (ims_flow_is_owned(owner)) {
        ims_flow_set(&s->prev, owner);
    }
}


static uint64_t
ims_flow_lost_word(uint64_t ms)
{
    ms &= 0xfffffffffffffull;

    return ms ? ms : 1;
}


ims_flow_rc_t
ims_flow_release(ims_flow_table_t *t, uint32_t slot, uint64_t owner,
    uint64_t now_ms)
{
    ims_flow_slot_t  *s;

    s = ims_flow_slot(t, slot);

    if (ims_flow_load(&s->owner) != owner) {
        return IMS_FLOW_LOST;
    }

    ims_flow_remember(s, owner);

    return ims_flow_cas(&s->owner, owner, ims_flow_lost_word(now_ms))
           ? IMS_FLOW_OK : IMS_FLOW_LOST;
}


ims_flow_rc_t
ims_flow_unclaim(ims_flow_table_t *t, uint32_t slot, uint64_t claim,
    uint64_t since_ms)
{
    return ims_flow_cas(&ims_flow_slot(t, slot)->owner, claim,
                        ims_flow_lost_word(since_ms))
           ? IMS_FLOW_OK : IMS_FLOW_LOST;
}


ims_flow_rc_t
ims_flow_swap(ims_flow_table_t *t, uint32_t slot, uint32_t generation,
    uint64_t expected, uint64_t owner)
{
    uint64_t          seq;
    ims_flow_rc_t     rc;
    ims_flow_slot_t  *s;

    if (slot >= t->nslots || ims_flow_is_free(expected)) {
        return IMS_FLOW_STALE;
    }

    s = ims_flow_slot(t, slot);

    if (ims_flow_generation(t, slot) != generation) {
        return IMS_FLOW_STALE;
    }

    rc = ims_flow_even(t, s, &seq);
    if (rc != IMS_FLOW_OK) {
        return rc;
    }

    if (ims_flow_load(&s->owner) != expected) {
        return IMS_FLOW_LOST;
    }

    ims_flow_remember(s, expected);

    if (!ims_flow_cas(&s->owner, expected, owner)) {
        return IMS_FLOW_LOST;
    }

    rc = ims_flow_even(t, s, &seq);

    if (rc == IMS_FLOW_OK && ims_flow_generation(t, slot) != generation) {
        rc = IMS_FLOW_STALE;
    }

    /*
     * A write that began before us and does not end, or another flow than the
     * one meant, which had the same word or was being freed: all as it was.
     */

    if (rc != IMS_FLOW_OK) {
        (void) ims_flow_cas(&s->owner, owner, expected);
    }

    return rc;
}


ims_flow_rc_t
ims_flow_claim(ims_flow_table_t *t, uint32_t slot, uint32_t generation,
    uint64_t expected, const ims_flow_worker_t *me, uint64_t *claim)
{
    *claim = ims_flow_owner_word(me, 0);

    if (expected == *claim) {
        return IMS_FLOW_LOST;         /* two de-registrations of one worker */
    }

    return ims_flow_swap(t, slot, generation, expected, *claim);
}


/* -- freeing ------------------------------------------------------------- */

/*
 * The last step.  A taker who came too late has put its word over ours, and
 * puts ours back when it sees the new generation: wait for that a little, and
 * else leave it to this worker's next sweep.
 */

bool
ims_flow_free_end(ims_flow_table_t *t, uint32_t slot, uint64_t claim)
{
    unsigned  i;

    for (i = 0; i < IMS_FLOW_SPINS; i++) {

        if (ims_flow_cas(&ims_flow_slot(t, slot)->owner, claim, 0)) {
            ims_flow_unmark(t, slot);
            return true;
        }

        ims_flow_pause(i);
    }

    return false;
}


/* in a write, seq odd and ours; owner is claim */

static void
ims_flow_wipe(ims_flow_table_t *t, uint32_t slot, uint64_t seq, uint64_t claim)
{
    size_t            i;
    uint64_t         *p;
    ims_flow_slot_t  *s;

    s = ims_flow_slot(t, slot);
    p = (uint64_t *) &s->data;

    ims_flow_index_remove(t, s->data.lease, s->data.instance, slot);

    for (i = 0; i < sizeof(s->data) / 8; i++) {
        ims_flow_set(&p[i], 0);
    }

    ims_flow_set(&s->prev, 0);
    ims_flow_store(&s->generation, s->generation + 1);
    ims_flow_write_end(s, claim, seq);

    ims_flow_free_end(t, slot, claim);
}


ims_flow_rc_t
ims_flow_free(ims_flow_table_t *t, uint32_t slot, uint64_t owner,
    const ims_flow_worker_t *me)
{
    uint64_t          seq, claim;
    ims_flow_rc_t     rc;
    ims_flow_slot_t  *s;

    s = ims_flow_slot(t, slot);
    claim = ims_flow_owner_word(me, 0);

    /* from here on a sweeper frees it if we do not get to the end */

    if (owner != claim && !ims_flow_cas(&s->owner, owner, claim)) {
        return IMS_FLOW_LOST;
    }

    rc = ims_flow_write_begin(t, s, claim, &seq);
    if (rc != IMS_FLOW_OK) {
        return rc;
    }

    ims_flow_wipe(t, slot, seq, claim);

    return IMS_FLOW_OK;
}


ims_flow_rc_t
ims_flow_free_dead(ims_flow_table_t *t, uint32_t slot,
    const ims_flow_worker_t *me, ims_flow_alive_pt alive, void *arg)
{
    uint64_t          seq, owner, claim;
    ims_flow_slot_t  *s;

    s = ims_flow_slot(t, slot);
    claim = ims_flow_owner_word(me, 0);
    seq = ims_flow_load(&s->seq);

    if (!ims_flow_seq_odd(seq)
        || ims_flow_owner_alive(t, ims_flow_seq_writer(seq), me, alive, arg))
    {
        return IMS_FLOW_BUSY;
    }

    owner = ims_flow_load(&s->owner);

    if (ims_flow_owner_row(owner) != me->row
        && ims_flow_owner_alive(t, owner, me, alive, arg))
    {
        return IMS_FLOW_LOST;
    }

    /* the dead one's write becomes ours, with another count */

    if (!ims_flow_cas(&s->seq, seq,
                      ims_flow_seq_write(ims_flow_seq_next(seq), claim)))
    {
        return IMS_FLOW_BUSY;
    }

    if (!ims_flow_cas(&s->owner, owner, claim)) {
        ims_flow_store(&s->seq, seq);
        return IMS_FLOW_BUSY;
    }

    ims_flow_wipe(t, slot, ims_flow_seq_next(seq), claim);

    return IMS_FLOW_OK;
}
