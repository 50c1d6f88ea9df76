/*
 * Copyright (C) nginx-ims contributors
 *
 * The worker list.
 *
 * A row is claimed and given up by compare-and-swap of its word, which has
 * state, generation and pid in one: a claimer that dies before it filled the
 * row is known by its pid.  The other fields are written between "joining" and
 * "live", and read between two looks at the word.
 */

#include <errno.h>
#include <signal.h>

#include "flow/ims_flow_shm.h"


#define IMS_ROW_FREE     0ull
#define IMS_ROW_JOINING  1ull
#define IMS_ROW_LIVE     2ull

#define IMS_ROW_EXITING  (1ull << 54)

#define ims_row_state(w)  ((w) >> 52 & 3)
#define ims_row_gen(w)    ((uint32_t) ((w) >> 32) & 0xfffff)
#define ims_row_pid(w)    ((pid_t) (uint32_t) (w))


static uint64_t
ims_row_word(uint64_t state, uint32_t gen, pid_t pid)
{
    return state << 52 | (uint64_t) (gen & 0xfffff) << 32 | (uint32_t) pid;
}


bool
ims_flow_worker(const ims_flow_table_t *t, uint32_t row, ims_flow_worker_t *w)
{
    uint64_t         word;
    ims_flow_row_t  *r;

    if (row == 0 || row >= IMS_FLOW_ROWS) {
        return false;
    }

    r = &t->rows[row];
    word = ims_flow_load(&r->word);

    if (ims_row_state(word) != IMS_ROW_LIVE) {
        return false;
    }

    w->id = ims_flow_get(&r->id);
    w->start_ms = ims_flow_get(&r->start_ms);
    w->master = ims_flow_get(&r->master);
    w->cycle = ims_flow_get(&r->cycle);
    w->version = ims_flow_get(&r->version);
    w->pid = ims_row_pid(word);
    w->exiting = (word & IMS_ROW_EXITING) != 0;
    w->row = row;
    w->row_gen = ims_row_gen(word);

    /* pairs with the fence in join: a newer field means a newer word here */

    __atomic_thread_fence(__ATOMIC_ACQUIRE);

    return ((ims_flow_load(&r->word) ^ word) & ~IMS_ROW_EXITING) == 0;
}


bool
ims_flow_worker_of(const ims_flow_table_t *t, uint64_t owner,
    ims_flow_worker_t *w)
{
    return ims_flow_worker(t, ims_flow_owner_row(owner), w)
           && w->row_gen == ims_flow_owner_gen(owner);
}


bool
ims_flow_owner_alive(const ims_flow_table_t *t, uint64_t owner,
    const ims_flow_worker_t *me, ims_flow_alive_pt alive, void *arg)
{
    ims_flow_worker_t  w;

    if (me != NULL
        && ims_flow_owner_row(owner) == me->row
        && ims_flow_owner_gen(owner) == me->row_gen)
    {
        return me->row != 0;
    }

    return ims_flow_worker_of(t, owner, &w)
           && (alive == NULL || alive(arg, &w));
}


/* a row that nobody needs any more; never judged by pid once it is live */

static bool
ims_flow_row_dead(const ims_flow_table_t *t, uint32_t row, uint64_t word,
    ims_flow_alive_pt alive, void *arg)
{
    ims_flow_worker_t  w;

    switch (ims_row_state(word)) {

    case IMS_ROW_JOINING:
        return kill(ims_row_pid(word), 0) == -1 && errno == ESRCH;

    case IMS_ROW_LIVE:
        return alive != NULL
               && ims_flow_worker(t, row, &w)
               && w.row_gen == ims_row_gen(word)
               && !alive(arg, &w);

    default:
        return false;
    }
}


static void
ims_flow_row_fill(ims_flow_row_t *r, uint64_t joining,
    const ims_flow_worker_t *w)
{
    __atomic_thread_fence(__ATOMIC_RELEASE);

    ims_flow_set(&r->id, w->id);
    ims_flow_set(&r->start_ms, w->start_ms);
    ims_flow_set(&r->master, w->master);
    ims_flow_set(&r->cycle, w->cycle);
    ims_flow_set(&r->version, w->version);

    ims_flow_store(&r->word, ims_row_word(IMS_ROW_LIVE, ims_row_gen(joining),
                                          ims_row_pid(joining)));
}


ims_flow_rc_t
ims_flow_join(ims_flow_table_t *t, ims_flow_worker_t *w,
    ims_flow_alive_pt alive, void *arg)
{
    bool             steal;
    uint32_t         row;
    uint64_t         word, joining;
    unsigned         pass;
    ims_flow_row_t  *r;

    for (pass = 0; pass < 2; pass++) {
        steal = pass == 1;

        for (row = 1; row < IMS_FLOW_ROWS; row++) {
            r = &t->rows[row];
            word = ims_flow_load(&r->word);

            if (ims_row_state(word) != IMS_ROW_FREE
                && !(steal && ims_flow_row_dead(t, row, word, alive, arg)))
            {
                continue;
            }

            joining = ims_row_word(IMS_ROW_JOINING, ims_row_gen(word) + 1,
                                   w->pid);

            if (ims_flow_cas(&r->word, word, joining)) {
                w->row = row;
                w->row_gen = ims_row_gen(joining);
                ims_flow_row_fill(r, joining, w);

                return IMS_FLOW_OK;
            }
        }
    }

    return IMS_FLOW_FULL;
}


/* the generation stays, so that owner words of this life never come back */

static void
ims_flow_row_free(ims_flow_table_t *t, uint32_t row, uint64_t word)
{
    (void) ims_flow_cas(&t->rows[row].word, word,
                        ims_row_word(IMS_ROW_FREE, ims_row_gen(word), 0));
}


void
ims_flow_leave(ims_flow_table_t *t, const ims_flow_worker_t *me)
{
    uint64_t  word;

    if (me->row == 0) {
        return;
    }

    word = ims_flow_load(&t->rows[me->row].word);

    if (ims_row_state(word) == IMS_ROW_LIVE
        && ims_row_gen(word) == me->row_gen)
    {
        ims_flow_row_free(t, me->row, word);
    }
}


void
ims_flow_exiting(ims_flow_table_t *t, ims_flow_worker_t *me)
{
    uint64_t  word;

    if (me->row == 0) {
        return;
    }

    me->exiting = 1;
    word = ims_flow_load(&t->rows[me->row].word);

    if (ims_row_state(word) == IMS_ROW_LIVE
        && ims_row_gen(word) == me->row_gen)
    {
        (void) ims_flow_cas(&t->rows[me->row].word, word,
                            word | IMS_ROW_EXITING);
    }
}


uint32_t
ims_flow_reap(ims_flow_table_t *t, const ims_flow_worker_t *me,
    ims_flow_alive_pt alive, void *arg)
{
    uint32_t  row, n;
    uint64_t  word;

    n = 0;

    for (row = 1; row < IMS_FLOW_ROWS; row++) {
        word = ims_flow_load(&t->rows[row].word);

        if ((me != NULL && row == me->row)
            || !ims_flow_row_dead(t, row, word, alive, arg))
        {
            continue;
        }

        ims_flow_row_free(t, row, word);
        n++;
    }

    return n;
}
