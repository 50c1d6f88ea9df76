/*
 * Copyright (C) nginx-ims contributors
 *
 * The flow table under several processes that are killed.
 *
 * "hammer" runs workers that do everything at random while the parent kills
 * one after the other; each checks that it never reads a torn slot, and that
 * nobody writes to a slot that it owns.  "each step" kills a process after
 * every so many machine instructions of a flow's whole life.  Afterwards every
 * slot must be usable again.
 */

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/ims_clock.h"
#include "flow/ims_flow_shm.h"


#define SLOTS      64
#define WORKERS    4
#define KEYS       48
#define IDS        4096

#define HAMMER_MS  3000


/* shared by all processes */
typedef struct {
    uint32_t           dead[IDS];         /* by worker id; set after wait() */
    uint32_t           stop;
    uint64_t           fail_line;         /* first failed check of a child */
    uint64_t           ops;
    uint64_t           swaps;
    uint64_t           lost_writes;
    uint64_t           claims;
    uint64_t           busy;
    uint64_t           torn;
} shared_t;


/* what a worker knows of a slot that it owns */
typedef struct {
    uint64_t           word;
    uint64_t           seed;              /* last written; 0: not yet */
    uint32_t           gen;
} own_t;


typedef struct {
    ims_flow_table_t   t;
    ims_flow_worker_t  me;
    uint64_t           rnd;
    uint32_t           serial;
    own_t              own[SLOTS];
    ims_flow_sweep_t   sweep;
} worker_t;


static shared_t  *sh;


#define check(e)                                                              \
    if (!(e)) {                                                               \
        __atomic_store_n(&sh->fail_line, __LINE__, __ATOMIC_SEQ_CST);         \
        _exit(1);                                                             \
    }

#define count(c)  __atomic_fetch_add(&sh->c, 1, __ATOMIC_RELAXED)


static uint64_t
next_random(worker_t *w)
{
    w->rnd ^= w->rnd << 13;
    w->rnd ^= w->rnd >> 7;
    w->rnd ^= w->rnd << 17;

    return w->rnd;
}


static bool
alive(void *arg, const ims_flow_worker_t *w)
{
    (void) arg;

    return w->id < IDS && !__atomic_load_n(&sh->dead[w->id], __ATOMIC_SEQ_CST);
}


/* everything in the data follows from seed, so a torn slot shows */

static void
pattern(ims_flow_data_t *d, uint64_t seed, uint64_t lease)
{
    size_t  i;

    memset(d, 0, sizeof(ims_flow_data_t));

    d->lease = lease;
    memset(d->instance, (int) lease, sizeof(d->instance));
    d->sid = seed;
    d->ident = ~seed;
    d->used = (uint16_t) (seed % sizeof(d->area));

    for (i = 0; i < d->used; i++) {
        d->area[i] = (uint8_t) (seed >> (i % 8 * 8));
    }
}


static bool
whole(const ims_flow_data_t *d)
{
    size_t   i;
    uint8_t  inst[16];

    memset(inst, (int) d->lease, sizeof(inst));

    if (d->lease == 0) {
        return d->sid == 0 && d->ident == 0 && d->used == 0;
    }

    if (d->ident != ~d->sid
        || d->used != d->sid % sizeof(d->area)
        || memcmp(inst, d->instance, sizeof(inst)) != 0)
    {
        return false;
    }

    for (i = 0; i < d->used; i++) {
        if (d->area[i] != (uint8_t) (d->sid >> (i % 8 * 8))) {
            return false;
        }
    }

    return true;
}


static void
forget(worker_t *w, uint32_t slot)
{
    memset(&w->own[slot], 0, sizeof(own_t));
}


static void
write_slot(worker_t *w, uint32_t slot, uint64_t lease)
{
    uint64_t         seed;
    own_t           *o;
    ims_flow_rc_t    rc;
    ims_flow_data_t  d;

    o = &w->own[slot];
    seed = next_random(w);
    pattern(&d, seed, lease);

    rc = ims_flow_write(&w->t, slot, o->word, &d);

    switch (rc) {

    case IMS_FLOW_OK:
        o->seed = seed;
        break;

    case IMS_FLOW_LOST:
        count(lost_writes);
        forget(w, slot);
        break;

    case IMS_FLOW_BUSY:
    case IMS_FLOW_DEAD:
        count(busy);

        if (ims_flow_free_dead(&w->t, slot, &w->me, alive, NULL)
            == IMS_FLOW_OK)
        {
            count(torn);
            forget(w, slot);
        }

        break;

    default:
        check(0);
    }
}


/* a slot that we own has what we wrote, or belongs to another by now */

static void
check_own(worker_t *w, uint32_t slot)
{
    own_t            *o;
    ims_flow_view_t   v;

    o = &w->own[slot];

    if (ims_flow_read(&w->t, slot, &v) != IMS_FLOW_OK) {
        return;
    }

    check(whole(&v.data));

    if (o->word == 0 || v.owner != o->word) {
        forget(w, slot);
        return;
    }

    check(v.generation == o->gen);
    check(v.data.sid == o->seed);
}


static void
op_new(worker_t *w)
{
    uint32_t  slot, gen, other;
    uint64_t  word;

    word = ims_flow_owner_word(&w->me, ++w->serial);

    if (ims_flow_alloc(&w->t, word, &slot, &gen) != IMS_FLOW_OK) {
        return;
    }

    check(slot < SLOTS);
    check(ims_flow_peek(&w->t, slot)->lease == 0
          || ims_flow_owner(&w->t, slot) != word);

    w->own[slot] = (own_t) { word, 0, gen };

    write_slot(w, slot, 1 + next_random(w) % KEYS);

    if (w->own[slot].word) {
        (void) ims_flow_index_put(&w->t, slot, &other);
    }
}


static void
op_takeover(worker_t *w)
{
    uint8_t           inst[16];
    uint32_t          slot, gen;
    uint64_t          lease, word, owner;
    ims_flow_view_t   v;

    lease = 1 + next_random(w) % KEYS;
    memset(inst, (int) lease, sizeof(inst));

    if (ims_flow_find(&w->t, lease, inst, &slot, &gen) != IMS_FLOW_OK) {
        return;
    }

    check(slot < SLOTS);

    owner = ims_flow_owner(&w->t, slot);
    word = ims_flow_owner_word(&w->me, ++w->serial);

    if (ims_flow_swap(&w->t, slot, gen, owner, word) != IMS_FLOW_OK) {
        return;
    }

    count(swaps);

    /* what the slot has from now on, it has from us */

    if (ims_flow_read(&w->t, slot, &v) == IMS_FLOW_OK && v.owner == word) {
        check(whole(&v.data));
        check(v.generation == gen);

        /* its owner may have given it another lease since the look-up */

        w->own[slot] = (own_t) { word, v.data.sid, gen };
    }
}


static void
due(void *arg, uint32_t slot, uint32_t generation, uint64_t owner)
{
    worker_t         *w = arg;
    uint64_t          claim;
    ims_flow_rc_t     rc;
    ims_flow_view_t   v;

    if (ims_flow_claim(&w->t, slot, generation, owner, &w->me, &claim)
        != IMS_FLOW_OK)
    {
        return;
    }

    count(claims);

    rc = ims_flow_read(&w->t, slot, &v);
    check(rc != IMS_FLOW_OK || whole(&v.data));

    if (next_random(w) % 4 == 0) {
        (void) ims_flow_unclaim(&w->t, slot, claim, 1);
        return;
    }

    (void) ims_flow_free(&w->t, slot, claim, &w->me);
}


static void
op_sweep(worker_t *w, uint64_t now)
{
    w->sweep.now_ms = now;
    w->sweep.grace_ms = 3;
    w->sweep.me = &w->me;
    w->sweep.alive = alive;
    w->sweep.arg = w;
    w->sweep.due = due;

    w->sweep.dead = 0;

    ims_flow_sweep(&w->t, &w->sweep, SLOTS);

    __atomic_fetch_add(&sh->torn, w->sweep.dead, __ATOMIC_RELAXED);
}


static void
op_any(worker_t *w)
{
    own_t     *o;
    uint32_t   slot;

    slot = (uint32_t) (next_random(w) % SLOTS);
    o = &w->own[slot];

    switch (next_random(w) % 16) {

    case 0:
    case 1:
    case 2:
        op_new(w);
        break;

    case 3:
    case 4:
    case 5:
        op_takeover(w);
        break;

    case 6:
        op_sweep(w, ims_boottime_ms());
        break;

    case 7:
        if (o->word) {
            (void) ims_flow_release(&w->t, slot, o->word, ims_boottime_ms());
            forget(w, slot);
        }
        break;

    case 8:
        if (o->word) {
            (void) ims_flow_free(&w->t, slot, o->word, &w->me);
            forget(w, slot);
        }
        break;

    case 9:
    case 10:
    case 11:
    case 12:
        if (o->word) {
            write_slot(w, slot, 1 + next_random(w) % KEYS);
        }
        break;

    default:
        check_own(w, slot);
    }

    count(ops);
}


static void
worker_join(worker_t *w, uint64_t id)
{
    w->me.id = id;
    w->me.pid = getpid();
    w->rnd = 0x9e3779b97f4a7c15ull * (id + 1);

    check(ims_flow_join(&w->t, &w->me, alive, NULL) == IMS_FLOW_OK);
}


static pid_t
spawn(const worker_t *with, uint64_t id)
{
    pid_t      pid;
    worker_t   w;

    pid = fork();

    if (pid == 0) {
        w = *with;
        w.t.hint = 0;
        worker_join(&w, id);

        while (!__atomic_load_n(&sh->stop, __ATOMIC_RELAXED)) {
            op_any(&w);
        }

        _exit(0);
    }

    assert_true(pid > 0);

    return pid;
}


/* all workers are dead: after their grace every slot is free, and works */

static void
all_back(worker_t *w)
{
    bool             seen[SLOTS];
    uint8_t          inst[16];
    uint32_t         i, slot, gen;
    uint64_t         word;

    for (i = 0; i < 3 * 64; i++) {
        op_sweep(w, ims_boottime_ms() + 10 * i);
        ims_flow_reap(&w->t, &w->me, alive, NULL);
    }

    for (i = 0; i < SLOTS; i++) {
        assert_true(ims_flow_owner(&w->t, i) == 0);
        assert_false(ims_flow_seq_odd(ims_flow_slot(&w->t, i)->seq));
    }

    assert_int_equal(ims_flow_used(&w->t), 0);

    for (i = 1; i <= KEYS; i++) {
        memset(inst, (int) i, sizeof(inst));
        assert_int_equal(ims_flow_find(&w->t, i, inst, &slot, &gen),
                         IMS_FLOW_NOTFOUND);
    }

    memset(seen, 0, sizeof(seen));
    word = ims_flow_owner_word(&w->me, 1);

    for (i = 0; i < SLOTS; i++) {
        assert_int_equal(ims_flow_alloc(&w->t, word, &slot, &gen),
                         IMS_FLOW_OK);
        assert_false(seen[slot]);
        assert_true(ims_flow_peek(&w->t, slot)->lease == 0);
        seen[slot] = true;
    }

    assert_int_equal(ims_flow_alloc(&w->t, word, &slot, &gen), IMS_FLOW_FULL);

    for (i = 0; i < SLOTS; i++) {
        assert_int_equal(ims_flow_free(&w->t, i, word, &w->me), IMS_FLOW_OK);
    }
}


typedef struct {
    char      dir[64];
    worker_t  w;
} fixture_t;


static int
setup(void **state)
{
    char        err[IMS_FLOW_ERR_LEN];
    fixture_t  *f;

    f = calloc(1, sizeof(fixture_t));
    snprintf(f->dir, sizeof(f->dir), "/tmp/ims-race-XXXXXX");
    assert_non_null(mkdtemp(f->dir));

    assert_int_equal(ims_flow_table_open(&f->w.t, f->dir, SLOTS, (uid_t) -1,
                                         err),
                     IMS_FLOW_OK);

    sh = mmap(NULL, sizeof(shared_t), PROT_READ|PROT_WRITE,
              MAP_SHARED|MAP_ANONYMOUS, -1, 0);
    assert_true(sh != MAP_FAILED);

    *state = f;

    return 0;
}


static int
teardown(void **state)
{
    char        path[128];
    fixture_t  *f = *state;

    ims_flow_table_close(&f->w.t);
    munmap(sh, sizeof(shared_t));

    snprintf(path, sizeof(path), "%s/flows.1", f->dir);
    unlink(path);
    snprintf(path, sizeof(path), "%s/flows.lock", f->dir);
    unlink(path);
    assert_int_equal(rmdir(f->dir), 0);
    free(f);

    return 0;
}


static void
hammer(void **state)
{
    int         status;
    pid_t       pid[WORKERS];
    uint32_t    id[WORKERS], next, i, kills;
    uint64_t    end;
    fixture_t  *f = *state;

    next = 1;

    for (i = 0; i < WORKERS; i++) {
        id[i] = next++;
        pid[i] = spawn(&f->w, id[i]);
    }

    end = ims_boottime_ms() + HAMMER_MS;

    for (kills = 0; ims_boottime_ms() < end && next < IDS - 1; kills++) {
        usleep(1000 + kills * 977 % 9000);

        i = kills % WORKERS;
        kill(pid[i], SIGKILL);
        assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);

        if (!WIFSIGNALED(status)) {
            break;                        /* a check failed */
        }

        __atomic_store_n(&sh->dead[id[i]], 1, __ATOMIC_SEQ_CST);
        id[i] = next++;
        pid[i] = spawn(&f->w, id[i]);
    }

    __atomic_store_n(&sh->stop, 1, __ATOMIC_SEQ_CST);

    for (i = 0; i < WORKERS; i++) {
        waitpid(pid[i], &status, 0);
        __atomic_store_n(&sh->dead[id[i]], 1, __ATOMIC_SEQ_CST);
    }

    print_message("%llu operations, %u kills, %llu take-overs, %llu claims, "
                  "%llu writes lost, %llu busy, %llu torn freed\n",
                  (unsigned long long) sh->ops, kills,
                  (unsigned long long) sh->swaps,
                  (unsigned long long) sh->claims,
                  (unsigned long long) sh->lost_writes,
                  (unsigned long long) sh->busy,
                  (unsigned long long) sh->torn);

    if (sh->fail_line) {
        fail_msg("check in line %u failed", (unsigned) sh->fail_line);
    }

    assert_true(kills > 20);
    assert_true(sh->ops > 10000 && sh->swaps > 100 && sh->claims > 100);

    worker_join(&f->w, next);
    all_back(&f->w);
}


/* -- killed at each step ---- */

static void
life(worker_t *w, uint64_t id)
{
    uint32_t         slot, gen, other;
    uint64_t         word, claim;
    ims_flow_data_t  d;

    worker_join(w, id);

    word = ims_flow_owner_word(&w->me, 1);
    pattern(&d, 40, 7);

    ims_flow_alloc(&w->t, word, &slot, &gen);
    ims_flow_write(&w->t, slot, word, &d);
    ims_flow_index_put(&w->t, slot, &other);
    ims_flow_release(&w->t, slot, word, 1);
    ims_flow_swap(&w->t, slot, gen, 1, word);
    ims_flow_claim(&w->t, slot, gen, word, &w->me, &claim);
    ims_flow_free(&w->t, slot, claim, &w->me);
    ims_flow_leave(&w->t, &w->me);
}


/* how far it got: false if it ran to its end within n instructions */

static bool
killed_after(fixture_t *f, uint64_t id, uint32_t n)
{
    int        status;
    pid_t      pid;
    uint32_t   i;

    pid = fork();

    if (pid == 0) {
        worker_t  w = f->w;

        if (ptrace(PTRACE_TRACEME, 0, 0, 0) != 0) {
            _exit(77);
        }

        raise(SIGSTOP);
        life(&w, id);
        _exit(0);
    }

    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);

    if (WIFEXITED(status)) {
        assert_int_equal(WEXITSTATUS(status), 77);
        skip();
    }

    for (i = 0; i < n; i++) {

        if (ptrace(PTRACE_SINGLESTEP, pid, 0, 0) != 0) {
            break;
        }

        assert_int_equal(waitpid(pid, &status, 0), pid);

        if (WIFEXITED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            return false;
        }
    }

    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));

    return true;
}


static void
each_step(void **state)
{
    uint32_t         n, runs, lost, torn, i;
    uint64_t         id, end;
    fixture_t       *f = *state;
    ims_flow_view_t  v;

    worker_join(&f->w, 1);
    runs = lost = torn = 0;
    end = ims_boottime_ms() + 3 * HAMMER_MS;

    /* every instruction at first, then with growing strides */

    for (n = 1, id = 2; id < IDS; n += 1 + n / 60, id++) {

        if (!killed_after(f, id, n)) {
            break;
        }

        runs++;
        sh->dead[id] = 1;

        for (i = 0; i < SLOTS; i++) {
            lost += ims_flow_owner(&f->w.t, i) != 0;
            torn += ims_flow_seq_odd(ims_flow_slot(&f->w.t, i)->seq);

            if (ims_flow_read(&f->w.t, i, &v) == IMS_FLOW_OK) {
                assert_true(whole(&v.data));
            }
        }

        all_back(&f->w);

        if (ims_boottime_ms() > end) {
            break;
        }
    }

    print_message("%u kills within %u instructions: %u held a slot, "
                  "%u in a write\n", runs, n, lost, torn);

    assert_true(runs > 50);
    assert_true(lost > 0);
}


#define with_table(f)  cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
    const struct CMUnitTest  tests[] = {
        with_table(hammer),
        with_table(each_step),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
