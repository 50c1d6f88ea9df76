/*
 * Copyright (C) nginx-ims contributors
 *
 * The way from users to identities, held against a list that is searched from
 * one end to the other.
 */

#include "pool_fixture.h"


#define KEYS   60
#define IDENTS 40


typedef struct {
    uint8_t   key[IMS_POOL_USER_KEY];
    size_t    n;
    unsigned  has[IDENTS];
} model_t;


static model_t  model[KEYS], before[KEYS];


/* few keys, some of them of one user, and their first bits are all the same */

static void
keys(uint64_t *seed)
{
    size_t    k;
    uint8_t   hash[IMS_POOL_HOLDER_LEN];
    uint64_t  session;

    memset(model, 0, sizeof(model));

    for (k = 0; k < KEYS; k++) {
        memset(hash, 0, sizeof(hash));
        hash[3] = (uint8_t) (k / 3);
        hash[15] = (uint8_t) (k / 6);
        session = k % 3 ? rnd(seed) : 0;
        model[k].n = ims_pool_user_key(model[k].key, hash, 1 + k % 2,
                                       session);
    }
}


static ims_str_t
key_of(size_t k)
{
    return ims_str_set(model[k].key, model[k].n);
}


/* all of the model's are found; what is found besides is a hint like others */

static void
compare(const ims_pool_users_t *u)
{
    size_t    k, i, pos, n, all;
    uint64_t  ident;
    unsigned  found[IDENTS];

    for (k = 0, all = 0; k < KEYS; k++) {

        memset(found, 0, sizeof(found));
        pos = 0;

        while (ims_pool_users_next(u, key_of(k), false, &pos, &ident)) {
            assert_in_range(ident, 1, IDENTS);
            found[ident - 1]++;
        }

        for (i = 0, n = 0; i < IDENTS; i++) {
            assert_true(found[i] >= model[k].has[i]);
            n += model[k].has[i];
        }

        all += n;
    }

    assert_int_equal(u->n, all);
}


static void
test_random(void **state)
{
    size_t            k, i;
    unsigned          n, m;
    uint64_t          seed;
    ims_pool_users_t  u;

    (void) state;

    seed = 5;
    memset(&u, 0, sizeof(u));
    u.secret = rnd(&seed) | 1;
    keys(&seed);
    compare(&u);

    for (n = 0; n < 3000; n++) {

        memcpy(before, model, sizeof(model));

        for (m = 0; m < rnd(&seed) % 40; m++) {

            k = rnd(&seed) % KEYS;
            i = rnd(&seed) % IDENTS;

            if (rnd(&seed) % 2 && !model[k].has[i]) {
                assert_true(ims_pool_users_add(&u, key_of(k), 1 + i));
                model[k].has[i] = 1;

            } else {
                /* one that is not there as well */
                assert_true(ims_pool_users_del(&u, key_of(k), 1 + i));
                model[k].has[i] = 0;
            }
        }

        if (rnd(&seed) % 3 == 0) {
            ims_pool_users_aborted(&u);
            memcpy(model, before, sizeof(model));

        } else {
            ims_pool_users_committed(&u);
        }

        if (n % 50 == 0) {
            compare(&u);
        }
    }

    compare(&u);
    ims_pool_users_free(&u);
}


/* a user's sessions, by any of their keys or by none */

static void
test_sessions(void **state)
{
    size_t            pos;
    uint8_t           hash[IMS_POOL_HOLDER_LEN], text[IMS_POOL_USER_KEY];
    uint64_t          ident, i, sum;
    ims_str_t         key;
    ims_pool_users_t  u;

    (void) state;

    memset(&u, 0, sizeof(u));
    u.secret = 0xd6e8feb86659fd93ull;
    memset(hash, 0x5a, sizeof(hash));

    for (i = 1; i <= 1000; i++) {
        key = ims_str_set(text, ims_pool_user_key(text, hash, 7, i));
        assert_true(ims_pool_users_add(&u, key, i));
    }

    for (i = 1; i <= 1000; i++) {
        key = ims_str_set(text, ims_pool_user_key(text, hash, 7, i));
        pos = 0;
        assert_true(ims_pool_users_next(&u, key, false, &pos, &ident));
        assert_int_equal(ident, i);
    }

    key = ims_str_set(text, ims_pool_user_key(text, hash, 7, 0));

    for (pos = 0, sum = 0;
         ims_pool_users_next(&u, key, true, &pos, &ident);
         sum += ident)
    {
        /* void */
    }

    assert_int_equal(sum, 500500);
    ims_pool_users_free(&u);
}


/* after a start the table is what it was */

static void
test_start(void **state)
{
    char              name[32];
    unsigned          i;
    fixture_t         f;
    ims_pool_grant_t  g[8], h;

    (void) state;

    fixture_pool(&f, 8);

    for (i = 0; i < 8; i++) {
        snprintf(name, sizeof(name), "user%u", i);
        assert_int_equal(acquire(&f, name, 1, &g[i]), 0);
    }

    assert_int_equal(release(&f, "user1", 1, g[1].ident, g[1].lease), 0);

    /* what one batch did is not there when it is thrown away */

    begin(&f);
    f.v.boottime += 1000000;
    ims_pool_abort(f.w);
    begin(&f);
    {
        ims_pool_who_t  a = who("new", 1);

        assert_int_equal(ims_pool_acquire(f.w, &a, &h), 0);
    }
    ims_pool_abort(f.w);
    check_clean(&f);
    assert_int_equal(f.w->users.n, 8);

    /* passed on: its last holder gets another one */

    assert_int_equal(acquire(&f, "new", 1, &h), 0);
    assert_int_equal(f.w->users.n, 8);
    fixture_close(&f);
    fixture_open(&f);
    assert_int_equal(f.w->users.n, 8);
    check_clean(&f);

    for (i = 0; i < 8; i++) {
        if (g[i].ident != h.ident) {
            snprintf(name, sizeof(name), "user%u", i);
            assert_int_equal(acquire(&f, name, 1, &h), 0);
            assert_int_equal(h.how, IMS_POOL_RETURNED);
            assert_int_equal(h.ident, g[i].ident);
        }
    }

    check_clean(&f);
    fixture_end(&f);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
