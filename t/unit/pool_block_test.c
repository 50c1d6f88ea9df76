/*
 * Copyright (C) nginx-ims contributors
 *
 * Rows of records, held against a list: put, taken out, walked over, damaged;
 * and the hints, which may be as wrong as they like.
 */

#include "pool_fixture.h"


#define FIRST  ((uint64_t) 1 << 32)
#define IDENTS 130              /* of seven rows, the ends of which are free */
#define STEPS  6000


static ims_pool_rec_t  model[IDENTS];       /* ident 0: none */


static uint64_t
records(void)
{
    unsigned  i;
    uint64_t  n;

    for (i = 0, n = 0; i < IDENTS; i++) {
        n += model[i].ident != 0;
    }

    return n;
}


static void
same(const ims_pool_rec_t *a, const ims_pool_rec_t *b)
{
    assert_memory_equal(a, b, sizeof(*a));
}


/* one by one, and all in their order from anywhere on */

static void
compare(fixture_t *f, uint64_t from)
{
    int              rc;
    unsigned         i;
    uint64_t         ident;
    MDB_txn         *txn;
    ims_pool_rec_t   rec;
    ims_pool_recs_t  it;

    assert_int_equal(mdb_txn_begin(f->w->env, NULL, MDB_RDONLY, &txn), 0);

    for (i = 0; i < IDENTS; i++) {
        rc = ims_pool_rec(txn, f->w->dbi, FIRST + i, &rec);
        assert_int_equal(rc, model[i].ident ? IMS_POOL_OK : IMS_POOL_NOTFOUND);

        if (rc == IMS_POOL_OK) {
            same(&rec, &model[i]);
        }
    }

    assert_int_equal(ims_pool_recs_open(&it, txn, f->w->dbi, from), 0);

    for (i = from < FIRST ? 0 : (unsigned) (from - FIRST); i < IDENTS; i++) {

        if (model[i].ident != 0) {
            assert_int_equal(ims_pool_recs_next(&it, &ident, &rec), 0);
            assert_int_equal(ident, FIRST + i);
            same(&rec, &model[i]);
        }
    }

    assert_int_equal(ims_pool_recs_next(&it, &ident, &rec), IMS_POOL_NOTFOUND);
    ims_pool_recs_close(&it);
    mdb_txn_abort(txn);
}


static void
step(fixture_t *f, uint64_t *seed)
{
    unsigned         i;
    ims_pool_rec_t  *rec;

    i = (unsigned) (rnd(seed) % IDENTS);
    rec = &model[i];

    if (rnd(seed) % 3 == 0) {
        memset(rec, 0, sizeof(*rec));
        assert_int_equal(ims_pool_w_del_rec(f->w, FIRST + i), IMS_POOL_OK);
        return;
    }

    memset(rec, 0, sizeof(*rec));
    rec->ident = FIRST + i;
    rec->lease = rnd(seed);
    rec->end = rnd(seed);
    rec->nsession = (uint16_t) (rnd(seed) % (IMS_POOL_SESSIONS + 1));

    for (i = 0; i < rec->nsession; i++) {
        rec->session[i].sid = rnd(seed);
        rec->session[i].end = rnd(seed);
    }

    assert_int_equal(ims_pool_w_put_rec(f->w, rec), IMS_POOL_OK);
}


static void
test_rows(void **state)
{
    int                   rc;
    unsigned              i;
    uint64_t              seed;
    fixture_t             f;
    static ims_pool_rec_t before[IDENTS];

    (void) state;

    fixture_init(&f);
    fixture_open(&f);
    memset(model, 0, sizeof(model));
    seed = 7;

    for (i = 0; i < STEPS; i++) {

        memcpy(before, model, sizeof(model));
        begin(&f);

        do {
            step(&f, &seed);
        } while (rnd(&seed) % 4);

        assert_int_equal(f.w->state.records, records());

        if (rnd(&seed) % 8 == 0) {
            ims_pool_abort(f.w);
            memcpy(model, before, sizeof(model));

        } else {
            commit(&f);
        }

        assert_int_equal(f.w->committed.records, records());
        compare(&f, FIRST - 1 + rnd(&seed) % (IDENTS + 2));
    }

    compare(&f, 0);

    /* the last record of a row takes the row with it */

    begin(&f);

    for (i = 0, rc = 0; i < IDENTS; i++) {
        rc |= ims_pool_w_del_rec(f.w, FIRST + i);
    }

    assert_int_equal(rc, 0);
    commit(&f);

    memset(model, 0, sizeof(model));
    compare(&f, 0);
    assert_int_equal(f.w->committed.records, 0);

    begin(&f);
    {
        MDB_stat  st;

        assert_int_equal(mdb_stat(f.w->txn, f.w->dbi[IMS_POOL_T_IDENT], &st),
                         0);
        assert_int_equal(st.ms_entries, 0);
    }
    ims_pool_abort(f.w);

    fixture_end(&f);
}


/* a row of another length, at one end of the tree, between two, or anything */

static void
test_length(void **state)
{
    MDB_val           k, v;
    uint64_t          ident, first;
    fixture_t         f;
    ims_pool_rec_t    rec;
    ims_pool_recs_t   it;
    ims_pool_block_t  block;

    (void) state;

    fixture_pool(&f, 90);
    begin(&f);

    assert_int_equal(ims_pool_block_read(f.w->txn, f.w->dbi, FIRST + 30,
                                         &block), 0);
    first = block.head.first;
    k.mv_size = sizeof(first);
    k.mv_data = &first;
    v.mv_size = sizeof(block) - 1;
    v.mv_data = &block;
    assert_int_equal(mdb_put(f.w->txn, f.w->dbi[IMS_POOL_T_IDENT], &k, &v, 0),
                     0);

    assert_int_equal(ims_pool_rec(f.w->txn, f.w->dbi, FIRST + 30, &rec),
                     IMS_POOL_UNKNOWN);
    assert_int_equal(ims_pool_block_read(f.w->txn, f.w->dbi, FIRST + 30,
                                         &block), IMS_POOL_UNKNOWN);

    /* who comes to it, or begins within it, goes on behind it */

    assert_int_equal(ims_pool_recs_open(&it, f.w->txn, f.w->dbi, FIRST + 30),
                     0);
    assert_int_equal(ims_pool_recs_next(&it, &ident, &rec), IMS_POOL_UNKNOWN);
    assert_int_equal(ident, first + IMS_POOL_BLOCK - 1);
    assert_int_equal(rec.ident, 0);
    assert_int_equal(ims_pool_recs_next(&it, &ident, &rec), IMS_POOL_OK);
    assert_int_equal(ident, first + IMS_POOL_BLOCK);
    ims_pool_recs_close(&it);

    ims_pool_abort(f.w);
    fixture_end(&f);
}


static void
test_hints(void **state)
{
    uint64_t          i, seed;
    uint8_t          *map;
    ims_pool_hints_t  h;

    (void) state;

    memset(&h, 0, sizeof(h));
    map = calloc(64, 4096);
    assert_non_null(map);
    seed = 3;

    ims_pool_hint_fetch(&h, FIRST);

    for (i = 0; i < 200000; i++) {
        ims_pool_hint_note(&h, FIRST + i, map + rnd(&seed) % 64 * 4096 + 16,
                           map + rnd(&seed) % (64 * 4096));
        ims_pool_hint_fetch(&h, FIRST + i);
        ims_pool_hint_fetch(&h, rnd(&seed));
    }

    /* far off, and before the first one */

    ims_pool_hint_note(&h, 5, (const uint8_t *) (uintptr_t) UINT64_MAX,
                       NULL);
    ims_pool_hint_fetch(&h, 5);
    ims_pool_hint_note(&h, 5, (const uint8_t *) (uintptr_t) 4096, map);
    ims_pool_hint_fetch(&h, 5);

    ims_pool_hint_free(&h);
    assert_null(h.hint);
    free(map);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_length),
        cmocka_unit_test(test_hints),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
