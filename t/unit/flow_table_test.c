/*
 * Copyright (C) nginx-ims contributors
 *
 * The flow table in one process: file, worker list, life of a slot, index,
 * sweeper, packed texts.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "flow/ims_flow_shm.h"


#define SLOTS  128


typedef struct {
    char               dir[64];
    ims_flow_table_t   t;
    ims_flow_worker_t  a;
    ims_flow_worker_t  b;
    bool               dead[16];          /* by worker id */
    unsigned           asked;
    uint32_t           due;
    uint32_t           due_slot;
    uint64_t           due_owner;
} fixture_t;


static bool
alive(void *arg, const ims_flow_worker_t *w)
{
    fixture_t  *f = arg;

    f->asked++;

    return !f->dead[w->id];
}


static void
join(fixture_t *f, ims_flow_worker_t *w, uint64_t id)
{
    memset(w, 0, sizeof(ims_flow_worker_t));

    w->id = id;
    w->start_ms = id * 1000;
    w->master = 42;
    w->cycle = 7;
    w->version = 1;
    w->pid = getpid();

    assert_int_equal(ims_flow_join(&f->t, w, alive, f), IMS_FLOW_OK);
    assert_int_not_equal(w->row, 0);
}


static int
setup(void **state)
{
    char        err[IMS_FLOW_ERR_LEN];
    fixture_t  *f;

    f = calloc(1, sizeof(fixture_t));
    snprintf(f->dir, sizeof(f->dir), "/tmp/ims-flow-XXXXXX");
    assert_non_null(mkdtemp(f->dir));

    assert_int_equal(ims_flow_table_open(&f->t, f->dir, SLOTS, (uid_t) -1,
                                         err),
                     IMS_FLOW_OK);
    join(f, &f->a, 1);
    join(f, &f->b, 2);

    *state = f;

    return 0;
}


static void
remove_in(const char *dir, const char *name)
{
    char  path[128];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    unlink(path);
}


static int
teardown(void **state)
{
    fixture_t  *f = *state;

    ims_flow_table_close(&f->t);

    remove_in(f->dir, "flows.1");
    remove_in(f->dir, "flows.lock");
    assert_int_equal(rmdir(f->dir), 0);
    free(f);

    return 0;
}


static void
fill(ims_flow_data_t *d, uint64_t lease, uint8_t inst)
{
    memset(d, 0, sizeof(ims_flow_data_t));

    d->lease = lease;
    d->sid = lease * 3;
    memset(d->instance, inst, sizeof(d->instance));
    assert_int_equal(ims_flow_set_texts(d, IMS_STR("ims.example"),
                                        IMS_STR("web-1@ims.example"),
                                        IMS_STR("sip:x@y.invalid")),
                     IMS_FLOW_OK);
}


/* a slot of worker w with that key, in the index */

static uint32_t
flow(fixture_t *f, const ims_flow_worker_t *w, uint32_t serial,
    uint64_t lease, uint8_t inst, uint32_t *gen)
{
    uint32_t         slot, other;
    uint64_t         word;
    ims_flow_data_t  d;

    word = ims_flow_owner_word(w, serial);
    fill(&d, lease, inst);

    assert_int_equal(ims_flow_alloc(&f->t, word, &slot, gen), IMS_FLOW_OK);
    assert_int_equal(ims_flow_write(&f->t, slot, word, &d), IMS_FLOW_OK);
    assert_int_equal(ims_flow_index_put(&f->t, slot, &other), IMS_FLOW_OK);

    return slot;
}


/* -- the file ---- */

/* as if the file were of another boot */

static void
other_boot(const char *dir)
{
    char             path[128];
    FILE            *file;
    ims_flow_file_t  h;

    snprintf(path, sizeof(path), "%s/flows.1", dir);

    file = fopen(path, "r+");
    assert_non_null(file);
    assert_int_equal(fread(&h, sizeof(h), 1, file), 1);
    h.boot[0] = h.boot[0] == 'x' ? 'y' : 'x';
    rewind(file);
    assert_int_equal(fwrite(&h, sizeof(h), 1, file), 1);
    fclose(file);
}


static void
file_open(void **state)
{
    char              err[IMS_FLOW_ERR_LEN], path[128];
    uint32_t          slot, gen, owner_gen;
    uint64_t          owner;
    fixture_t        *f = *state;
    struct stat       st;
    ims_flow_table_t  u;

    snprintf(path, sizeof(path), "%s/flows.1", f->dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_true(st.st_blocks * 512 >= st.st_size);       /* no SIGBUS later */

    /* a second opener has the same table, whatever number it wants */

    assert_int_equal(ims_flow_table_open(&u, f->dir, 2 * SLOTS, (uid_t) -1,
                                         err),
                     IMS_FLOW_OK);
    assert_int_equal(u.nslots, SLOTS);

    slot = flow(f, &f->a, 5, 100, 1, &gen);
    assert_int_equal(ims_flow_resolve(&u, slot, gen, &owner), IMS_FLOW_OK);
    assert_true(owner == ims_flow_owner_word(&f->a, 5));

    /* not while somebody has it open, even of another boot */

    ims_flow_table_close(&u);
    other_boot(f->dir);
    assert_int_equal(ims_flow_table_open(&u, f->dir, SLOTS, (uid_t) -1, err),
                     IMS_FLOW_ERROR);
    assert_non_null(strstr(err, "in use"));

    /* nobody: made anew, and tokens of before are stale */

    ims_flow_table_close(&f->t);
    assert_int_equal(ims_flow_table_open(&f->t, f->dir, SLOTS, (uid_t) -1,
                                         err),
                     IMS_FLOW_OK);
    assert_int_equal(ims_flow_used(&f->t), 0);
    owner_gen = ims_flow_generation(&f->t, slot);
    assert_int_not_equal(owner_gen, gen);

    ims_flow_table_close(&f->t);
    assert_int_equal(ims_flow_table_open(&f->t, f->dir, SLOTS, (uid_t) -1,
                                         err),
                     IMS_FLOW_OK);
    assert_int_equal(ims_flow_generation(&f->t, slot), owner_gen);

    /* another number, nobody there */

    ims_flow_table_close(&f->t);
    assert_int_equal(ims_flow_table_open(&f->t, f->dir, 2 * SLOTS - 5,
                                         (uid_t) -1, err),
                     IMS_FLOW_OK);
    assert_int_equal(f->t.nslots, 2 * SLOTS);

    /* cut short, nobody there */

    ims_flow_table_close(&f->t);
    assert_int_equal(truncate(path, 5000), 0);
    assert_int_equal(ims_flow_table_open(&f->t, f->dir, SLOTS, (uid_t) -1,
                                         err),
                     IMS_FLOW_OK);
    assert_int_equal(f->t.nslots, SLOTS);
}


static void
file_refused(void **state)
{
    char              err[IMS_FLOW_ERR_LEN], path[128];
    fixture_t        *f = *state;
    ims_flow_table_t  u;

    assert_int_equal(ims_flow_table_open(&u, f->dir, 63, (uid_t) -1, err),
                     IMS_FLOW_ERROR);
    assert_int_equal(ims_flow_table_open(&u, f->dir, IMS_FLOW_SLOTS_MAX + 1,
                                         (uid_t) -1, err),
                     IMS_FLOW_ERROR);
    assert_int_equal(ims_flow_table_open(&u, "/nonexistent", SLOTS,
                                         (uid_t) -1, err),
                     IMS_FLOW_ERROR);
    assert_non_null(strstr(err, "/nonexistent"));

    ims_flow_table_close(&f->t);
    snprintf(path, sizeof(path), "%s/flows.1", f->dir);
    unlink(path);
    assert_int_equal(symlink("/dev/null", path), 0);
    assert_int_equal(ims_flow_table_open(&f->t, f->dir, SLOTS, (uid_t) -1,
                                         err),
                     IMS_FLOW_ERROR);
}


/* masters that start at once, with different numbers, have one table */

static void
file_race(void **state)
{
    int               i, j, to[2], go[2], status;
    char              err[IMS_FLOW_ERR_LEN], c;
    pid_t             pid[4];
    uint32_t          got[4];
    fixture_t        *f = *state;
    ims_flow_table_t  u;

    ims_flow_table_close(&f->t);

    for (j = 0; j < 10; j++) {
        remove_in(f->dir, "flows.1");
        assert_int_equal(pipe(to), 0);
        assert_int_equal(pipe(go), 0);

        for (i = 0; i < 4; i++) {
            pid[i] = fork();

            if (pid[i] == 0) {
                close(go[1]);

                if (ims_flow_table_open(&u, f->dir, 64u * (i + 1),
                                        (uid_t) -1, err)
                    != IMS_FLOW_OK
                    || write(to[1], &u.file->gen_base, 4) != 4)
                {
                    _exit(1);
                }

                /* keep it open until all have seen it */

                _exit(read(go[0], &c, 1) == 0 ? 0 : 2);
            }
        }

        for (i = 0; i < 4; i++) {
            assert_int_equal(read(to[0], &got[i], 4), 4);
            assert_int_equal(got[i], got[0]);
        }

        close(go[0]);
        close(go[1]);
        close(to[0]);
        close(to[1]);

        for (i = 0; i < 4; i++) {
            assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
            assert_int_equal(status, 0);
        }
    }
}


/* -- worker list ---- */

static void
rows(void **state)
{
    uint32_t           i;
    uint64_t           word;
    fixture_t         *f = *state;
    ims_flow_worker_t  w, c;

    assert_int_not_equal(f->a.row, f->b.row);
    assert_true(ims_flow_worker(&f->t, f->a.row, &w));
    assert_true(w.id == 1 && w.start_ms == 1000 && w.master == 42);
    assert_int_equal(w.cycle, 7);
    assert_int_equal(w.pid, getpid());
    assert_int_equal(w.exiting, 0);
    assert_false(ims_flow_worker(&f->t, 0, &w));
    assert_false(ims_flow_worker(&f->t, IMS_FLOW_ROWS, &w));
    assert_false(ims_flow_worker(&f->t, 77, &w));

    ims_flow_exiting(&f->t, &f->a);
    assert_true(ims_flow_worker(&f->t, f->a.row, &w));
    assert_int_equal(w.exiting, 1);

    /* a word of a row's earlier life names nobody */

    word = ims_flow_owner_word(&f->a, 9);
    assert_int_equal(ims_flow_owner_row(word), f->a.row);
    assert_int_equal(ims_flow_owner_gen(word), f->a.row_gen);
    assert_int_equal(ims_flow_owner_serial(word), 9);
    assert_true(ims_flow_worker_of(&f->t, word, &w));

    ims_flow_leave(&f->t, &f->a);
    assert_false(ims_flow_worker_of(&f->t, word, &w));

    join(f, &c, 3);
    assert_int_equal(c.row, f->a.row);
    assert_int_not_equal(c.row_gen, f->a.row_gen);
    assert_false(ims_flow_worker_of(&f->t, word, &w));

    ims_flow_leave(&f->t, &f->a);         /* not its row any more */
    ims_flow_exiting(&f->t, &f->a);
    assert_true(ims_flow_worker(&f->t, c.row, &w));
    assert_int_equal(w.exiting, 0);

    /* generations do not spill into the state at their end */

    for (i = 0; i < 3; i++) {
        f->t.rows[c.row].word |= 0xfffffull << 32;
        c.row_gen = 0xfffff;
        ims_flow_leave(&f->t, &c);
        join(f, &c, 3);
        assert_int_equal(c.row_gen, 0);
    }
}


static void
rows_full(void **state)
{
    uint32_t           i, n;
    fixture_t         *f = *state;
    ims_flow_worker_t  w;

    n = 2;

    memset(&w, 0, sizeof(w));
    w.id = 4;
    w.pid = getpid();

    while (ims_flow_join(&f->t, &w, alive, f) == IMS_FLOW_OK) {
        n++;
        w.id = 4 + n % 2;
    }

    assert_int_equal(n, IMS_FLOW_ROWS - 1);

    /* a dead worker's row is taken by the next */

    f->dead[1] = true;
    assert_int_equal(ims_flow_join(&f->t, &w, alive, f), IMS_FLOW_OK);
    assert_int_equal(w.row, f->a.row);
    assert_int_equal(ims_flow_join(&f->t, &w, alive, f), IMS_FLOW_FULL);

    /* a claimer that died before its row was filled */

    f->t.rows[9].word = 1ull << 52 | 5ull << 32 | 0x3fffff;
    assert_false(ims_flow_worker(&f->t, 9, &w));
    assert_int_equal(ims_flow_join(&f->t, &w, alive, f), IMS_FLOW_OK);
    assert_int_equal(w.row, 9);
    assert_int_equal(w.row_gen, 6);

    f->dead[4] = f->dead[5] = true;
    n = ims_flow_reap(&f->t, &f->b, alive, f);
    assert_true(n > IMS_FLOW_ROWS / 2);

    for (n = 0, i = 1; i < IMS_FLOW_ROWS; i++) {
        n += ims_flow_worker(&f->t, i, &w);
    }

    assert_int_equal(n, 1);               /* b */
}


/* -- life of a slot ---- */

static void
slot_life(void **state)
{
    uint32_t          slot, gen, again, gen2;
    uint64_t          one, two, claim;
    fixture_t        *f = *state;
    ims_flow_data_t   d;
    ims_flow_view_t   v;

    one = ims_flow_owner_word(&f->a, 1);
    two = ims_flow_owner_word(&f->b, 1);

    slot = flow(f, &f->a, 1, 100, 1, &gen);
    assert_int_equal(ims_flow_used(&f->t), 1);

    assert_int_equal(ims_flow_read(&f->t, slot, &v), IMS_FLOW_OK);
    assert_true(v.owner == one && v.prev == 0);
    assert_int_equal(v.generation, gen);
    assert_true(v.data.lease == 100);
    assert_true(ims_str_eq(ims_flow_impi(&v.data),
                           IMS_STR("web-1@ims.example")));

    /* only the owner writes */

    fill(&d, 200, 2);
    assert_int_equal(ims_flow_write(&f->t, slot, two, &d), IMS_FLOW_LOST);
    assert_true(ims_flow_peek(&f->t, slot)->lease == 100);

    /* take-over: of what is there, by what is there */

    assert_int_equal(ims_flow_swap(&f->t, slot, gen + 1, one, two),
                     IMS_FLOW_STALE);
    assert_int_equal(ims_flow_swap(&f->t, SLOTS, gen, one, two),
                     IMS_FLOW_STALE);
    assert_int_equal(ims_flow_swap(&f->t, slot, gen, 0, two), IMS_FLOW_STALE);
    assert_int_equal(ims_flow_swap(&f->t, slot, gen, one + 1, two),
                     IMS_FLOW_LOST);
    assert_int_equal(ims_flow_swap(&f->t, slot, gen, one, two), IMS_FLOW_OK);
    assert_true(ims_flow_prev_owner(&f->t, slot) == one);
    assert_int_equal(ims_flow_generation(&f->t, slot), gen);

    assert_int_equal(ims_flow_write(&f->t, slot, one, &d), IMS_FLOW_LOST);
    assert_int_equal(ims_flow_release(&f->t, slot, one, 5000), IMS_FLOW_LOST);
    assert_int_equal(ims_flow_free(&f->t, slot, one, &f->a), IMS_FLOW_LOST);

    /* lost, and taken up again */

    assert_int_equal(ims_flow_release(&f->t, slot, two, 5000), IMS_FLOW_OK);
    assert_true(ims_flow_is_lost(ims_flow_owner(&f->t, slot)));
    assert_true(ims_flow_lost_since(ims_flow_owner(&f->t, slot)) == 5000);
    assert_true(ims_flow_prev_owner(&f->t, slot) == two);
    assert_int_equal(ims_flow_swap(&f->t, slot, gen, 5000, one), IMS_FLOW_OK);
    assert_true(ims_flow_prev_owner(&f->t, slot) == two);

    /* claimed: nobody else's; given back; claimed and freed */

    assert_int_equal(ims_flow_claim(&f->t, slot, gen, one, &f->a, &claim),
                     IMS_FLOW_OK);
    assert_true(ims_flow_is_claim(ims_flow_owner(&f->t, slot)));
    assert_int_equal(ims_flow_claim(&f->t, slot, gen, claim, &f->a, &claim),
                     IMS_FLOW_LOST);
    assert_int_equal(ims_flow_write(&f->t, slot, claim, &d), IMS_FLOW_OK);
    assert_int_equal(ims_flow_unclaim(&f->t, slot, claim, 7), IMS_FLOW_OK);
    assert_int_equal(ims_flow_unclaim(&f->t, slot, claim, 7), IMS_FLOW_LOST);
    assert_int_equal(ims_flow_claim(&f->t, slot, gen, 7, &f->b, &claim),
                     IMS_FLOW_OK);
    assert_int_equal(ims_flow_free(&f->t, slot, claim, &f->b), IMS_FLOW_OK);

    /* gone: generation, data and index */

    assert_int_equal(ims_flow_resolve(&f->t, slot, gen, &one), IMS_FLOW_STALE);
    assert_int_equal(ims_flow_read(&f->t, slot, &v), IMS_FLOW_NOTFOUND);
    assert_true(ims_flow_peek(&f->t, slot)->lease == 0);
    assert_int_equal(ims_flow_used(&f->t), 0);
    assert_int_equal(ims_flow_find(&f->t, 100, d.instance, &again, &gen2),
                     IMS_FLOW_NOTFOUND);
}


static void
slot_full(void **state)
{
    uint32_t    i, slot, gen, gens[SLOTS];
    uint64_t    word;
    bool        seen[SLOTS] = { false };
    fixture_t  *f = *state;

    word = ims_flow_owner_word(&f->a, 1);

    for (i = 0; i < SLOTS; i++) {
        assert_int_equal(ims_flow_alloc(&f->t, word + i, &slot, &gen),
                         IMS_FLOW_OK);
        assert_true(slot < SLOTS);
        assert_false(seen[slot]);
        seen[slot] = true;
        gens[slot] = gen;
    }

    assert_int_equal(ims_flow_alloc(&f->t, word, &slot, &gen), IMS_FLOW_FULL);
    assert_int_equal(ims_flow_used(&f->t), SLOTS);

    /* one comes free: found, with another generation */

    for (i = 0; i < 1000; i++) {
        slot = i * 37 % SLOTS;
        assert_int_equal(ims_flow_free(&f->t, slot,
                                       ims_flow_owner(&f->t, slot), &f->a),
                         IMS_FLOW_OK);
        assert_int_equal(ims_flow_alloc(&f->t, word, &slot, &gen),
                         IMS_FLOW_OK);
        assert_int_equal(slot, i * 37 % SLOTS);
        assert_int_equal(gen, gens[slot] + 1);
        gens[slot] = gen;
        assert_true(ims_flow_owner(&f->t, slot) == word);
    }

    assert_int_equal(ims_flow_resolve(&f->t, SLOTS, 0, &word),
                     IMS_FLOW_NOTFOUND);
}


/* a write that never ends: nobody waits, and the slot comes back */

static void
slot_torn(void **state)
{
    uint32_t           slot, gen, got;
    uint64_t           one, two, seq;
    fixture_t         *f = *state;
    ims_flow_view_t    v;
    ims_flow_slot_t   *s;
    ims_flow_data_t    d;

    one = ims_flow_owner_word(&f->a, 1);
    two = ims_flow_owner_word(&f->b, 1);

    slot = flow(f, &f->a, 1, 100, 1, &gen);
    s = ims_flow_slot(&f->t, slot);
    fill(&d, 100, 1);

    seq = s->seq;
    s->seq = ims_flow_seq_write(seq, one);
    assert_true(ims_flow_seq_odd(s->seq));
    assert_true(ims_flow_seq_writer(s->seq) == ims_flow_owner_word(&f->a, 0));

    assert_int_equal(ims_flow_read(&f->t, slot, &v), IMS_FLOW_BUSY);
    assert_int_equal(ims_flow_write(&f->t, slot, one, &d), IMS_FLOW_BUSY);
    assert_int_equal(ims_flow_swap(&f->t, slot, gen, one, two), IMS_FLOW_BUSY);
    assert_int_equal(ims_flow_find(&f->t, 100, d.instance, &got, &got),
                     IMS_FLOW_BUSY);
    assert_true(s->owner == one);

    /* its writer lives */

    assert_int_equal(ims_flow_free_dead(&f->t, slot, &f->b, alive, f),
                     IMS_FLOW_BUSY);

    f->dead[1] = true;
    assert_int_equal(ims_flow_reap(&f->t, &f->b, alive, f), 1);
    assert_int_equal(ims_flow_swap(&f->t, slot, gen, one, two), IMS_FLOW_DEAD);
    assert_int_equal(ims_flow_read(&f->t, slot, &v), IMS_FLOW_DEAD);

    assert_int_equal(ims_flow_free_dead(&f->t, slot, &f->b, alive, f),
                     IMS_FLOW_OK);
    assert_int_equal(ims_flow_resolve(&f->t, slot, gen, &one), IMS_FLOW_STALE);
    assert_false(ims_flow_seq_odd(s->seq));
    assert_true(ims_flow_seq_count(s->seq) > ims_flow_seq_count(seq));
    assert_true(s->owner == 0);

    /* the take-over came before the writer died: the new owner frees */

    join(f, &f->a, 3);
    one = ims_flow_owner_word(&f->a, 1);
    slot = flow(f, &f->b, 1, 100, 1, &gen);
    s = ims_flow_slot(&f->t, slot);
    s->seq = ims_flow_seq_write(s->seq, one);
    f->dead[3] = true;
    ims_flow_reap(&f->t, &f->b, alive, f);

    assert_int_equal(ims_flow_write(&f->t, slot, two, &d), IMS_FLOW_DEAD);

    join(f, &f->a, 4);
    assert_int_equal(ims_flow_free_dead(&f->t, slot, &f->a, alive, f),
                     IMS_FLOW_LOST);
    assert_int_equal(ims_flow_free_dead(&f->t, slot, &f->b, alive, f),
                     IMS_FLOW_OK);
    assert_int_equal(ims_flow_used(&f->t), 0);
}


/* -- index ---- */

static void
index_basic(void **state)
{
    uint8_t     inst[16];
    uint32_t    one, two, gen1, gen2, slot, gen, other;
    fixture_t  *f = *state;

    memset(inst, 1, sizeof(inst));

    one = flow(f, &f->a, 1, 100, 1, &gen1);
    two = flow(f, &f->a, 2, 100, 2, &gen2);      /* second device */

    assert_int_equal(ims_flow_find(&f->t, 100, inst, &slot, &gen),
                     IMS_FLOW_OK);
    assert_int_equal(slot, one);
    assert_int_equal(gen, gen1);
    assert_int_equal(ims_flow_find(&f->t, 101, inst, &slot, &gen),
                     IMS_FLOW_NOTFOUND);
    assert_int_equal(ims_flow_find(&f->t, 0, inst, &slot, &gen),
                     IMS_FLOW_NOTFOUND);

    memset(inst, 2, sizeof(inst));
    assert_int_equal(ims_flow_find(&f->t, 100, inst, &slot, &gen),
                     IMS_FLOW_OK);
    assert_int_equal(slot, two);

    /* again is the same; another slot of the same key displaces */

    assert_int_equal(ims_flow_index_put(&f->t, two, &other), IMS_FLOW_OK);
    assert_int_equal(other, IMS_FLOW_NONE);

    {
        uint64_t         word = ims_flow_owner_word(&f->b, 3);
        uint32_t         three, gen3;
        ims_flow_data_t  d;

        fill(&d, 100, 2);
        assert_int_equal(ims_flow_alloc(&f->t, word, &three, &gen3),
                         IMS_FLOW_OK);
        assert_int_equal(ims_flow_index_put(&f->t, three, &other),
                         IMS_FLOW_LOST);          /* has no key yet */
        assert_int_equal(ims_flow_write(&f->t, three, word, &d), IMS_FLOW_OK);
        assert_int_equal(ims_flow_index_put(&f->t, three, &other),
                         IMS_FLOW_OK);
        assert_int_equal(other, two);
        assert_int_equal(ims_flow_find(&f->t, 100, inst, &slot, &gen),
                         IMS_FLOW_OK);
        assert_int_equal(slot, three);
        assert_int_equal(gen, gen3);

        ims_flow_index_del(&f->t, three);
        assert_int_equal(ims_flow_find(&f->t, 100, inst, &slot, &gen),
                         IMS_FLOW_NOTFOUND);
    }
}


/* entries of slots that a crash freed without them: never believed, reused */

static void
index_stale(void **state)
{
    uint8_t           inst[16];
    uint32_t          i, j, k, slot, gen, other, full;
    uint64_t          word, *copy;
    fixture_t        *f = *state;
    ims_flow_data_t   d;

    copy = malloc((f->t.index_mask + 1) * sizeof(uint64_t));
    full = 0;

    for (i = 0; i < 60; i++) {

        for (j = 0; j < SLOTS; j++) {
            word = ims_flow_owner_word(&f->a, j + 1);
            assert_int_equal(ims_flow_alloc(&f->t, word, &slot, &gen),
                             IMS_FLOW_OK);
            fill(&d, 1000 + i, (uint8_t) j);
            assert_int_equal(ims_flow_write(&f->t, slot, word, &d),
                             IMS_FLOW_OK);
            full += ims_flow_index_put(&f->t, slot, &other) != IMS_FLOW_OK;
            assert_int_equal(other, IMS_FLOW_NONE);
        }

        for (j = 0; j < SLOTS; j++) {
            memset(inst, (int) j, sizeof(inst));
            assert_int_equal(ims_flow_find(&f->t, 1000 + i, inst, &slot,
                                           &gen),
                             IMS_FLOW_OK);
            assert_true(ims_flow_peek(&f->t, slot)->lease == 1000 + i);
            assert_int_equal(ims_flow_peek(&f->t, slot)->instance[5], j);
        }

        /* all freed, but their entries are there again */

        memcpy(copy, f->t.index, (f->t.index_mask + 1) * sizeof(uint64_t));

        for (j = 0; j < SLOTS; j++) {
            assert_int_equal(ims_flow_free(&f->t, j, ims_flow_owner(&f->t, j),
                                           &f->a),
                             IMS_FLOW_OK);
        }

        for (k = 0; k <= f->t.index_mask; k++) {
            assert_true(f->t.index[k] == 0
                        || f->t.index[k] == copy[k]);
        }

        memcpy(f->t.index, copy, (f->t.index_mask + 1) * sizeof(uint64_t));

        memset(inst, 3, sizeof(inst));
        assert_int_equal(ims_flow_find(&f->t, 1000 + i, inst, &slot, &gen),
                         IMS_FLOW_NOTFOUND);
    }

    assert_int_equal(full, 0);

    /* nonsense in it */

    for (k = 0; k <= f->t.index_mask; k++) {
        f->t.index[k] = 0x9e3779b97f4a7c15ull * (k + 1);
    }

    slot = flow(f, &f->a, 1, 5, 5, &gen);
    memset(inst, 5, sizeof(inst));
    assert_int_equal(ims_flow_find(&f->t, 5, inst, &i, &gen), IMS_FLOW_OK);
    assert_int_equal(i, slot);

    free(copy);
}


/* -- sweeper ---- */

static void
due(void *arg, uint32_t slot, uint32_t generation, uint64_t owner)
{
    fixture_t  *f = arg;

    f->due++;
    f->due_slot = slot;
    f->due_owner = owner;

    assert_int_equal(ims_flow_generation(&f->t, slot), generation);
    assert_true(ims_flow_owner(&f->t, slot) == owner);
}


static void
sweep(fixture_t *f, ims_flow_sweep_t *s, uint64_t now)
{
    s->now_ms = now;
    s->grace_ms = 32000;
    s->me = &f->b;
    s->alive = alive;
    s->arg = f;
    s->due = due;

    f->due = 0;
    f->asked = 0;

    ims_flow_sweep(&f->t, s, SLOTS);
}


static void
sweep_grace(void **state)
{
    uint32_t          slot, mine, gen;
    uint64_t          claim;
    fixture_t        *f = *state;
    ims_flow_sweep_t  s;

    memset(&s, 0, sizeof(s));

    slot = flow(f, &f->a, 1, 100, 1, &gen);
    (void) flow(f, &f->a, 2, 100, 2, &gen);
    mine = flow(f, &f->b, 1, 101, 1, &gen);

    sweep(f, &s, 1000000);
    assert_int_equal(f->due, 0);
    assert_int_equal(f->asked, 1);        /* once for both of a's */
    assert_true(ims_flow_is_owned(ims_flow_owner(&f->t, slot)));

    /* a loses one connection: its grace, to the millisecond */

    assert_int_equal(ims_flow_release(&f->t, slot,
                                      ims_flow_owner_word(&f->a, 1), 1000000),
                     IMS_FLOW_OK);
    sweep(f, &s, 1031999);
    assert_int_equal(f->due, 0);
    sweep(f, &s, 1032000);
    assert_int_equal(f->due, 1);
    assert_int_equal(f->due_slot, slot);

    /* claimed: not shown again; the try failed: again, then */

    gen = ims_flow_generation(&f->t, slot);
    assert_int_equal(ims_flow_claim(&f->t, slot, gen, f->due_owner, &f->b,
                                    &claim),
                     IMS_FLOW_OK);
    sweep(f, &s, 1100000);
    assert_int_equal(f->due, 0);
    assert_int_equal(ims_flow_unclaim(&f->t, slot, claim, 1090000),
                     IMS_FLOW_OK);
    sweep(f, &s, 1100000);
    assert_int_equal(f->due, 0);
    sweep(f, &s, 1122000);
    assert_int_equal(f->due, 1);

    /* a dies: its claim and its flow get their grace from now */

    assert_int_equal(ims_flow_claim(&f->t, slot, gen, f->due_owner, &f->a,
                                    &claim),
                     IMS_FLOW_OK);
    f->dead[1] = true;
    sweep(f, &s, 2000000);
    assert_int_equal(f->due, 0);
    assert_true(s.orphaned == 2);
    sweep(f, &s, 2032000);
    assert_int_equal(f->due, 2);
    assert_true(ims_flow_is_owned(ims_flow_owner(&f->t, mine)));
    assert_int_equal(f->asked, 0);
}


/* what a crash leaves at each step of alloc and free */

static void
sweep_repair(void **state)
{
    uint32_t          slot, gen, i;
    uint64_t          claim;
    fixture_t        *f = *state;
    ims_flow_sweep_t  s;
    ims_flow_slot_t  *p;

    memset(&s, 0, sizeof(s));
    f->dead[1] = true;

    /* marked, not owned */

    ims_flow_mark(&f->t, 70);
    assert_int_equal(ims_flow_used(&f->t), 1);
    sweep(f, &s, 1000);
    assert_int_equal(ims_flow_used(&f->t), 0);

    /* owned, not marked; no data yet: freed after its grace */

    p = ims_flow_slot(&f->t, 70);
    gen = ims_flow_generation(&f->t, 70);
    p->owner = ims_flow_owner_word(&f->a, 5);

    for (i = 0; i < 64; i++) {
        sweep(f, &s, 2000);
    }

    assert_true(ims_flow_is_lost(p->owner));
    sweep(f, &s, 40000);
    assert_true(p->owner == 0);
    assert_int_equal(ims_flow_generation(&f->t, 70), gen + 1);
    assert_int_equal(ims_flow_used(&f->t), 0);
    assert_true(s.freed == 1);

    /* torn, of a dead one: freed at once */

    slot = flow(f, &f->b, 1, 100, 1, &gen);
    p = ims_flow_slot(&f->t, slot);
    p->owner = ims_flow_owner_word(&f->a, 7);
    p->seq = ims_flow_seq_write(p->seq, p->owner);
    sweep(f, &s, 50000);
    assert_true(p->owner == 0);
    assert_true(s.dead == 1);
    assert_int_equal(f->due, 0);

    /* our own, freed but for the last step */

    slot = flow(f, &f->b, 1, 100, 1, &gen);
    p = ims_flow_slot(&f->t, slot);
    claim = ims_flow_owner_word(&f->b, 0);
    assert_int_equal(ims_flow_free(&f->t, slot, p->owner, &f->b), IMS_FLOW_OK);
    p->owner = claim;
    ims_flow_mark(&f->t, slot);
    sweep(f, &s, 60000);
    assert_true(p->owner == 0);
    assert_int_equal(ims_flow_used(&f->t), 0);
}


/* for a purge: does any flow have a later lease of that identity */

static void
newer_leases(void **state)
{
    uint32_t          slot, gen;
    uint64_t          word;
    fixture_t        *f = *state;
    ims_flow_data_t   d;
    ims_flow_slot_t  *p;
    ims_flow_lease_t  l[4] = {
        { .ident = 7, .lease = 99 }, { .ident = 7, .lease = 100 },
        { .ident = 7, .lease = 101 }, { .ident = 8, .lease = 1 }
    };

    ims_flow_newer(&f->t, l, 4);
    assert_false(l[0].newer || l[1].newer || l[2].newer || l[3].newer);

    slot = flow(f, &f->a, 1, 100, 1, &gen);
    word = ims_flow_owner_word(&f->a, 1);
    fill(&d, 100, 1);
    d.ident = 7;
    assert_int_equal(ims_flow_write(&f->t, slot, word, &d), IMS_FLOW_OK);

    ims_flow_newer(&f->t, l, 4);
    assert_true(l[0].newer);
    assert_false(l[1].newer || l[2].newer || l[3].newer);

    /* so does one that lost its connection */

    assert_int_equal(ims_flow_release(&f->t, slot, word, 1000), IMS_FLOW_OK);
    ims_flow_newer(&f->t, l, 4);
    assert_true(l[0].newer);
    assert_false(l[1].newer);

    /* what cannot be read may be anything */

    p = ims_flow_slot(&f->t, slot);
    p->seq |= 1;
    ims_flow_newer(&f->t, l, 4);
    assert_true(l[0].newer && l[1].newer && l[2].newer && l[3].newer);
    p->seq &= ~1ull;

    ims_flow_newer(&f->t, l, 0);
}


/* -- texts ---- */

static void
texts(void **state)
{
    unsigned          pos, i, n;
    char              big[IMS_FLOW_CONTACT_MAX + 1];
    ims_flow_data_t   d, was;
    ims_flow_ident_t  ids[64], id;

    (void) state;

    memset(big, 'x', sizeof(big));
    fill(&d, 1, 1);
    was = d;

    assert_int_equal(ims_flow_set_texts(&d, IMS_STR("a"), IMS_STR("b"),
                                        ims_str_set(big, sizeof(big))),
                     IMS_FLOW_TOOBIG);
    assert_memory_equal(&d, &was, sizeof(d));

    assert_true(ims_str_eq(ims_flow_home(&d), IMS_STR("ims.example")));
    assert_true(ims_str_eq(ims_flow_contact(&d), IMS_STR("sip:x@y.invalid")));

    pos = 0;
    assert_false(ims_flow_identity(&d, &pos, &id));

    /* round trip, with the route kept once */

    for (i = 0; i < 64; i++) {
        ids[i].uri = IMS_STR("sip:web-000001@ims.example");
        ids[i].route = i == 1 ? IMS_STR_NULL
                              : IMS_STR("<sip:orig@scscf.ims.example:6060;lr>");
        ids[i].until_pt = 1000 + i;
        ids[i].position = (uint16_t) (i == 2 ? IMS_FLOW_NOT_ASSERTABLE : i);
        ids[i].tag = (uint16_t) (7 * i);
    }

    for (n = 0; n <= 64; n++) {

        if (ims_flow_set_identities(&d, ids, n) != IMS_FLOW_OK) {
            break;
        }

        assert_int_equal(d.flags & IMS_FLOW_F_NO_TAKEOVER, 0);
        pos = 0;

        for (i = 0; i < n; i++) {
            assert_true(ims_flow_identity(&d, &pos, &id));
            assert_true(ims_str_eq(id.uri, ids[i].uri));
            assert_true(ims_str_eq(id.route, ids[i].route));
            assert_true(id.until_pt == ids[i].until_pt);
            assert_int_equal(id.position, ids[i].position);
            assert_int_equal(id.tag, ids[i].tag);
        }

        assert_false(ims_flow_identity(&d, &pos, &id));
    }

    assert_in_range(n, 30, 60);
    assert_int_equal(d.flags & IMS_FLOW_F_NO_TAKEOVER, IMS_FLOW_F_NO_TAKEOVER);
    assert_int_equal(d.nidents, 0);
    assert_true(ims_str_eq(ims_flow_contact(&d), IMS_STR("sip:x@y.invalid")));

    assert_int_equal(ims_flow_set_identities(&d, ids, 3), IMS_FLOW_OK);
    assert_int_equal(d.flags & IMS_FLOW_F_NO_TAKEOVER, 0);
}


/* a hostile or half-written area: nothing outside of it is touched */

static void
texts_unsound(void **state)
{
    size_t             i;
    unsigned           pos, k, turns;
    ims_flow_data_t   *d, good;
    ims_flow_ident_t   ids[3], id;

    (void) state;

    memset(ids, 0, sizeof(ids));

    for (i = 0; i < 3; i++) {
        ids[i].uri = IMS_STR("sip:a@b");
        ids[i].route = IMS_STR("<sip:c;lr>");
    }

    fill(&good, 1, 1);
    assert_int_equal(ims_flow_set_identities(&good, ids, 3), IMS_FLOW_OK);
    d = malloc(sizeof(ims_flow_data_t));

    for (i = offsetof(ims_flow_data_t, home_len);
         i < offsetof(ims_flow_data_t, area) + good.used; i++)
    {
        for (k = 1; k < 256; k++) {
            *d = good;
            ((uint8_t *) d)[i] ^= (uint8_t) k;
            pos = 0;
            turns = 0;

            (void) ims_flow_contact(d);

            while (ims_flow_identity(d, &pos, &id)) {
                assert_true(id.uri.p >= d->area
                            && id.uri.p + id.uri.n
                               <= d->area + sizeof(d->area));
                assert_true(id.route.p >= d->area
                            && id.route.p + id.route.n
                               <= d->area + sizeof(d->area));
                assert_true(++turns < sizeof(d->area));
            }
        }
    }

    free(d);
}


#define with_table(f)  cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
    const struct CMUnitTest  tests[] = {
        with_table(file_open),
        with_table(file_refused),
        with_table(file_race),
        with_table(rows),
        with_table(rows_full),
        with_table(slot_life),
        with_table(slot_full),
        with_table(slot_torn),
        with_table(index_basic),
        with_table(index_stale),
        with_table(sweep_grace),
        with_table(sweep_repair),
        with_table(newer_leases),
        cmocka_unit_test(texts),
        cmocka_unit_test(texts_unsound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
