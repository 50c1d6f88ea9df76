/*
 * Copyright (C) nginx-ims contributors
 *
 * Transaction records: keys, limits, deadlines, buffers.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "flow/ims_trans.h"


static const ims_trans_conf_t  conf = {
    .max = 1000, .max_flow = 64, .cache = 1 << 20
};


static int
setup(void **state)
{
    *state = ims_trans_pool_create(&conf);
    assert_non_null(*state);

    return 0;
}


static int
teardown(void **state)
{
    ims_trans_pool_destroy(*state);

    return 0;
}


static ims_trans_key_t
key(uint32_t slot, const char *branch, const char *method)
{
    return (ims_trans_key_t) {
        .slot = slot,
        .generation = 9,
        .direction = IMS_TRANS_TO_CORE,
        .branch = ims_str_z(branch),
        .sent_by = IMS_STR("host.invalid"),
        .method = ims_str_z(method)
    };
}


static ims_trans_t *
make(ims_trans_pool_t *p, uint32_t slot, const char *branch,
    const char *method)
{
    ims_trans_t      *t;
    ims_trans_key_t   k;

    k = key(slot, branch, method);
    assert_int_equal(ims_trans_new(p, &k, &t), IMS_TRANS_OK);

    return t;
}


static void
by_request(void **state)
{
    ims_trans_t       *t, *u;
    ims_trans_key_t    k, x;
    ims_trans_pool_t  *p = *state;

    t = make(p, 1, "z9hG4bKabc", "INVITE");
    k = key(1, "z9hG4bKabc", "INVITE");

    assert_int_equal(t->slot, 1);
    assert_int_equal(t->generation, 9);
    assert_int_equal(t->state, IMS_TRANS_CALLING);
    assert_ptr_equal(ims_trans_find_request(p, &k), t);

    /* a retransmission; ACK and CANCEL; case of branch and host */

    assert_int_equal(ims_trans_new(p, &k, &u), IMS_TRANS_EXISTS);
    assert_ptr_equal(u, t);

    x = k;
    x.method = IMS_STR("ACK");
    assert_ptr_equal(ims_trans_find_request(p, &x), t);
    x.method = IMS_STR("CANCEL");
    assert_ptr_equal(ims_trans_find_request(p, &x), t);
    x.branch = IMS_STR("Z9HG4BKABC");
    x.sent_by = IMS_STR("Host.Invalid");
    assert_ptr_equal(ims_trans_find_request(p, &x), t);

    /* anything else is another */

#define other(field, value)                                                   \
    x = k;                                                                    \
    x.field = value;                                                          \
    assert_null(ims_trans_find_request(p, &x))

    other(slot, 2);
    other(generation, 10);
    other(direction, IMS_TRANS_TO_WIC);
    other(branch, IMS_STR("z9hG4bKabd"));
    other(branch, IMS_STR_NULL);
    other(sent_by, IMS_STR("host.invali"));
    other(method, IMS_STR("invite"));
    other(method, IMS_STR("BYE"));

#undef other

    /* parts do not flow together */

    x = k;
    x.branch = IMS_STR("z9hG4bKabch");
    x.sent_by = IMS_STR("ost.invalid");
    assert_null(ims_trans_find_request(p, &x));

    ims_trans_free(p, t);
    assert_null(ims_trans_find_request(p, &k));
}


static void
by_response(void **state)
{
    ims_str_t          one = IMS_STR("z9hG4bK0ne"), two = IMS_STR("z9hG4bK2wo");
    ims_str_t          invite = IMS_STR("INVITE");
    ims_trans_t       *t, *r;
    ims_trans_pool_t  *p = *state;

    t = make(p, 1, "a", "INVITE");
    r = make(p, 1, "b", "REGISTER");

    assert_null(ims_trans_find_response(p, one, invite));

    ims_trans_set_branch(p, t, one, invite);
    ims_trans_set_branch(p, r, one, IMS_STR("REGISTER"));

    assert_ptr_equal(ims_trans_find_response(p, one, invite), t);
    assert_ptr_equal(ims_trans_find_response(p, one, IMS_STR("CANCEL")), t);
    assert_ptr_equal(ims_trans_find_response(p, IMS_STR("Z9hg4Bk0NE"), invite),
                     t);
    assert_ptr_equal(ims_trans_find_response(p, one, IMS_STR("REGISTER")), r);
    assert_null(ims_trans_find_response(p, one, IMS_STR("BYE")));

    /* another peer, another branch: the first one's answer is late */

    ims_trans_set_branch(p, t, two, invite);
    assert_null(ims_trans_find_response(p, one, invite));
    assert_ptr_equal(ims_trans_find_response(p, two, invite), t);
    assert_ptr_equal(ims_trans_find_response(p, one, IMS_STR("REGISTER")), r);

    ims_trans_free(p, t);
    assert_null(ims_trans_find_response(p, two, invite));
    ims_trans_free(p, r);
    ims_trans_free(p, r);                 /* once is enough */
}


static void
limits(void **state)
{
    char               name[32];
    uint32_t           i, n;
    ims_trans_t       *t, *next;
    ims_trans_key_t    k;
    ims_trans_stat_t   s;
    ims_trans_pool_t  *p = *state;

    for (i = 0; i < conf.max_flow; i++) {
        snprintf(name, sizeof(name), "b%u", i);
        make(p, 1, name, "MESSAGE");
    }

    k = key(1, "more", "MESSAGE");
    assert_int_equal(ims_trans_new(p, &k, &t), IMS_TRANS_FLOW_LIMIT);
    assert_null(t);
    assert_int_equal(ims_trans_flow_count(p, 1, 9), conf.max_flow);

    /* a retransmission of a known one is not refused */

    k = key(1, "b0", "MESSAGE");
    assert_int_equal(ims_trans_new(p, &k, &t), IMS_TRANS_EXISTS);

    /* another generation is another flow */

    k.generation++;
    assert_int_equal(ims_trans_new(p, &k, &t), IMS_TRANS_OK);

    for (i = conf.max_flow + 1; i < conf.max; i++) {
        make(p, 2 + i, "b", "MESSAGE");
    }

    k = key(5000, "b", "MESSAGE");
    assert_int_equal(ims_trans_new(p, &k, &t), IMS_TRANS_WORKER_LIMIT);
    assert_null(t);

    ims_trans_stat(p, &s);
    assert_int_equal(s.records, conf.max);
    assert_true(s.refused == 2);

    /* the walk is in order of creation and allows freeing */

    for (n = 0, t = ims_trans_flow_first(p, 1, 9); t != NULL; t = next, n++) {
        next = ims_trans_flow_next(t);
        snprintf(name, sizeof(name), "b%u", n);
        k = key(1, name, "MESSAGE");
        assert_ptr_equal(ims_trans_find_request(p, &k), t);

        if (n % 3) {
            ims_trans_free(p, t);
        }
    }

    assert_int_equal(n, conf.max_flow);
    assert_int_equal(ims_trans_flow_count(p, 1, 9), (n + 2) / 3);

    while ((t = ims_trans_flow_first(p, 1, 9)) != NULL) {
        ims_trans_free(p, t);
    }

    assert_int_equal(ims_trans_flow_count(p, 1, 9), 0);
    k = key(5000, "b", "MESSAGE");
    assert_int_equal(ims_trans_new(p, &k, &t), IMS_TRANS_OK);
}


/* at a limit the finished make room, but never those that wait */

static void
spare_records(void **state)
{
    char               name[32];
    uint32_t           i;
    ims_trans_t       *t, *second;
    ims_trans_key_t    k;
    ims_trans_pool_t  *p = *state;

    second = NULL;

    for (i = 0; i < conf.max_flow; i++) {
        snprintf(name, sizeof(name), "b%u", i);
        t = make(p, 1, name, "MESSAGE");
        ims_trans_deadline(p, t, 1000 + i);

        t->state = i % 3 == 0 ? IMS_TRANS_CALLING
                   : i % 3 == 1 ? IMS_TRANS_ACCEPTED : IMS_TRANS_PROCEEDING;

        if (i == 1) {
            second = t;
        }
    }

    k = key(1, "more", "MESSAGE");
    assert_null(ims_trans_spare(p, &k, IMS_TRANS_FLOW_LIMIT));
    assert_null(ims_trans_spare(p, &k, IMS_TRANS_WORKER_LIMIT));

    second->state = IMS_TRANS_CONFIRMED;
    assert_ptr_equal(ims_trans_spare(p, &k, IMS_TRANS_FLOW_LIMIT), second);
    assert_ptr_equal(ims_trans_spare(p, &k, IMS_TRANS_WORKER_LIMIT), second);

    /* it has something to send again */

    second->resend_at = 1;
    assert_null(ims_trans_spare(p, &k, IMS_TRANS_FLOW_LIMIT));
    assert_null(ims_trans_spare(p, &k, IMS_TRANS_WORKER_LIMIT));
    second->resend_at = 0;

    second->state = IMS_TRANS_COMPLETED;
    second->answered = 1;
    assert_ptr_equal(ims_trans_spare(p, &k, IMS_TRANS_FLOW_LIMIT), second);
    second->invite = 1;
    assert_null(ims_trans_spare(p, &k, IMS_TRANS_FLOW_LIMIT));
    second->invite = 0;

    ims_trans_free(p, second);
    assert_int_equal(ims_trans_new(p, &k, &t), IMS_TRANS_OK);

    /* those of another flow are none of this one's */

    t->state = IMS_TRANS_COMPLETED;
    k = key(2, "other", "MESSAGE");
    assert_null(ims_trans_spare(p, &k, IMS_TRANS_FLOW_LIMIT));
}


/* -- deadlines ---- */

typedef struct {
    uint64_t           last;
    uint32_t           calls;
    uint32_t           again;             /* how many to re-arm */
    ims_trans_pool_t  *pool;
    ims_trans_t       *victim;
} expiry_t;


static uint64_t
expired(void *arg, ims_trans_t *t, uint64_t now)
{
    expiry_t  *e = arg;

    e->calls++;
    assert_true(t->until <= now);
    assert_true(t->until >= e->last);     /* earliest first */
    assert_int_equal(t->deadline, 0);
    e->last = t->until;

    if (e->victim != NULL && e->victim != t) {
        ims_trans_free(e->pool, e->victim);
        e->victim = NULL;
    }

    if (e->again) {
        e->again--;
        t->until = now + 1;
        return now - 5;                   /* in the past: the next call */
    }

    return 0;
}


static void
deadlines(void **state)
{
    char               name[32];
    uint32_t           i, n;
    uint64_t           at, rnd;
    expiry_t           e;
    ims_trans_t       *t[900];
    ims_trans_pool_t  *p = *state;

    memset(&e, 0, sizeof(e));
    e.pool = p;
    rnd = 88172645463325252ull;

    assert_true(ims_trans_next_deadline(p) == 0);
    assert_int_equal(ims_trans_expire(p, 1u << 30, expired, &e, 10), 0);

    for (i = 0; i < 900; i++) {
        snprintf(name, sizeof(name), "b%u", i);
        t[i] = make(p, i, name, "MESSAGE");
    }

    /* set, moved both ways, removed, at random; the heap knows the least */

    for (n = 0; n < 20000; n++) {
        rnd ^= rnd << 13;
        rnd ^= rnd >> 7;
        rnd ^= rnd << 17;

        i = rnd % 900;
        at = rnd >> 20 & 0xfff;
        t[i]->until = at;
        ims_trans_deadline(p, t[i], at);

        if (n % 500 == 0) {
            at = 0;

            for (i = 0; i < 900; i++) {
                if (t[i]->deadline && (at == 0 || t[i]->deadline < at)) {
                    at = t[i]->deadline;
                }
            }

            assert_true(ims_trans_next_deadline(p) == at);
        }
    }

    for (i = 0; i < 900; i++) {
        t[i]->until = 1000 + i * 7919 % 900;
        ims_trans_deadline(p, t[i], t[i]->until);
    }

    /* no more than asked for, none before its time, no record twice */

    assert_int_equal(ims_trans_expire(p, 999, expired, &e, 1000), 0);
    assert_int_equal(ims_trans_expire(p, 1099, expired, &e, 60), 60);
    assert_int_equal(ims_trans_expire(p, 1099, expired, &e, 1000), 40);

    e.again = 10;
    assert_int_equal(ims_trans_expire(p, 1199, expired, &e, 1000), 100);
    e.last = 0;
    assert_true(ims_trans_next_deadline(p) == 1200);
    assert_int_equal(ims_trans_expire(p, 1200, expired, &e, 1000), 11);

    /* the callback may free another */

    e.victim = t[0];                      /* until 1000: gone already */
    for (i = 0; i < 900; i++) {
        if (t[i]->until == 1300) {
            e.victim = t[i];
        }
    }

    assert_int_equal(ims_trans_expire(p, 1299, expired, &e, 1000), 99);
    assert_null(e.victim);
    assert_int_equal(ims_trans_expire(p, 5000, expired, &e, 1000), 599);
    assert_true(ims_trans_next_deadline(p) == 0);

    {
        ims_trans_stat_t  s;

        ims_trans_stat(p, &s);
        assert_int_equal(s.records, 0);
        assert_int_equal(s.flows, 0);
    }
}


/* -- buffers ---- */

static void
buffers(void **state)
{
    size_t             n, i;
    uint8_t           *big;
    ims_str_t          piece[3];
    ims_trans_t       *t;
    ims_trans_stat_t   s;
    ims_trans_pool_t  *p = *state;

    t = make(p, 1, "b", "MESSAGE");
    big = malloc(131073);

    for (i = 0; i < 131073; i++) {
        big[i] = (uint8_t) (i * 31);
    }

    /* round every size class */

    for (n = 1; n <= 131072; n = n < 500 ? n * 2 + 1 : n * 2 - n / 3) {
        piece[0] = ims_str_set(big, n / 2);
        piece[1] = IMS_STR_NULL;
        piece[2] = ims_str_set(big + n / 2, n - n / 2);

        assert_true(ims_trans_save(p, &t->request, piece, 3));
        assert_int_equal(t->request->n, n);
        assert_memory_equal(t->request->data, big, n);
    }

    piece[0] = ims_str_set(big, 131072);
    assert_true(ims_trans_save(p, &t->request, piece, 1));
    piece[0] = ims_str_set(big, 131073);
    assert_false(ims_trans_save(p, &t->request, piece, 1));
    assert_null(t->request);
    ims_trans_drop(p, &t->request);

    /* pieces of the old one */

    piece[0] = IMS_STR("SIP/2.0 200 OK");
    assert_true(ims_trans_save(p, &t->response, piece, 1));
    piece[1] = ims_str_set(t->response->data, 7);
    piece[0] = ims_str_set(t->response->data + 8, 6);
    assert_true(ims_trans_save(p, &t->response, piece, 2));
    assert_int_equal(t->response->n, 13);
    assert_memory_equal(t->response->data, "200 OKSIP/2.0", 13);

    ims_trans_free(p, t);
    ims_trans_stat(p, &s);
    assert_true(s.cached <= conf.cache);

    free(big);
}


/* at constant load nothing is allocated, and nothing grows */

static uint64_t
gone(void *arg, ims_trans_t *t, uint64_t now)
{
    (void) arg;
    (void) t;
    (void) now;

    return 0;
}


static void
steady(void **state)
{
    char               name[32];
    uint32_t           i;
    uint64_t           mallocs;
    uint8_t            msg[2000];
    ims_str_t          piece;
    ims_trans_t       *t;
    ims_trans_stat_t   s;
    ims_trans_pool_t  *p = *state;

    memset(msg, 'x', sizeof(msg));
    mallocs = 0;

    for (i = 0; i < 100000; i++) {
        snprintf(name, sizeof(name), "z9hG4bK%u", i);

        t = make(p, i % 50, name, "INVITE");
        ims_trans_set_branch(p, t, ims_str_z(name), IMS_STR("INVITE"));

        piece = ims_str_set(msg, 300 + i % 1700);
        assert_true(ims_trans_save(p, &t->request, &piece, 1));

        ims_trans_deadline(p, t, i + 400);
        ims_trans_expire(p, i, gone, NULL, 100);

        if (i == 10000) {
            ims_trans_stat(p, &s);
            mallocs = s.mallocs;
        }
    }

    ims_trans_stat(p, &s);
    assert_true(mallocs > 0 && s.mallocs == mallocs);
    assert_in_range(s.records, 400, 401);
    assert_in_range(s.slab, 401, 512);
    assert_int_equal(s.flows, 50);
}


static void
hashes(void **state)
{
    uint8_t            a[16], b[16];
    unsigned           i;
    ims_str_t          many[100];
    ims_str_t          one[2] = { ims_str("ab"), ims_str("c") };
    ims_str_t          two[2] = { ims_str("a"), ims_str("bc") };
    ims_str_t          three[3] = { ims_str("ab"), ims_str("c"), ims_str("") };
    ims_trans_pool_t  *p = *state, *q;

    ims_trans_hash(p, one, 2, a);
    ims_trans_hash(p, one, 2, b);
    assert_memory_equal(a, b, 16);

    ims_trans_hash(p, two, 2, b);
    assert_memory_not_equal(a, b, 16);
    ims_trans_hash(p, three, 3, b);
    assert_memory_not_equal(a, b, 16);
    ims_trans_hash(p, NULL, 0, b);
    assert_memory_not_equal(a, b, 16);

    /* a long Via list, changed at each place */

    for (i = 0; i < 100; i++) {
        many[i] = IMS_STR("SIP/2.0/TCP h");
    }

    ims_trans_hash(p, many, 100, a);

    for (i = 0; i < 100; i++) {
        many[i] = IMS_STR("SIP/2.0/TCP g");
        ims_trans_hash(p, many, 100, b);
        assert_memory_not_equal(a, b, 16);
        many[i] = IMS_STR("SIP/2.0/TCP h");
    }

    ims_trans_hash(p, many, 99, b);
    assert_memory_not_equal(a, b, 16);
    ims_trans_hash(p, one, 2, a);

    /* another worker, another key */

    q = ims_trans_pool_create(&conf);
    assert_non_null(q);
    ims_trans_hash(q, one, 2, b);
    assert_memory_not_equal(a, b, 16);
    ims_trans_pool_destroy(q);
}


/* what may be sent again may not be written later than D/2 or the end */

static void
sent_again(void **state)
{
    uint64_t  at;

    (void) state;

    at = 5000;
    assert_true(ims_trans_again(3000, 1000, 64000, 100000, &at));
    assert_int_equal(at, 5000);

    /* half of D is over at 33000 */

    at = 34500;
    assert_true(ims_trans_again(32500, 1000, 64000, 100000, &at));
    assert_int_equal(at, 33000);

    at = 35000;
    assert_false(ims_trans_again(33000, 1000, 64000, 100000, &at));

    /* the lease ends before that */

    at = 6000;
    assert_true(ims_trans_again(4000, 1000, 64000, 5000, &at));
    assert_int_equal(at, 5000);

    at = 7000;
    assert_false(ims_trans_again(5000, 1000, 64000, 5000, &at));
}


/* when what is resent by `next` goes out until `until`, in ms from the start */

static unsigned
resent_at(ims_trans_t *t, uint32_t max, uint64_t *at, unsigned n)
{
    uint64_t  now;
    unsigned  i;

    for (i = 0; i < n; i++) {
        now = ims_trans_due(t);

        if (!ims_trans_resend_due(t, now)) {
            break;
        }

        at[i] = now - 1000;
        ims_trans_resend_next(t, now, max);
    }

    return i;
}


/* RFC 3261 17.1.1.2: an INVITE goes out seven times before Timer B */

static void
timer_a(void **state)
{
    unsigned     i;
    uint64_t     at[16];
    ims_trans_t  t;

    static const uint64_t  due[] = { 500, 1500, 3500, 7500, 15500, 31500 };

    (void) state;

    memset(&t, 0, sizeof(t));
    t.until = 1000 + 64 * 500;

    assert_false(ims_trans_resend_due(&t, 1500));
    assert_int_equal(ims_trans_due(&t), t.until);

    ims_trans_resend_start(&t, 1000, 500);
    assert_false(ims_trans_resend_due(&t, 1499));
    assert_true(ims_trans_resend_due(&t, 1500));

    assert_int_equal(resent_at(&t, 0, at, 16), 6);

    for (i = 0; i < 6; i++) {
        assert_int_equal(at[i], due[i]);
    }

    assert_int_equal(ims_trans_due(&t), t.until);
}


/* 17.1.2.2 and 17.2.1, Timers E and G: twice as long, up to T2 */

static void
timer_e(void **state)
{
    unsigned     i;
    uint64_t     at[16];
    ims_trans_t  t;

    static const uint64_t  due[] = {
        500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500
    };

    (void) state;

    memset(&t, 0, sizeof(t));
    t.until = 1000 + 64 * 500;

    ims_trans_resend_start(&t, 1000, 500);

    assert_int_equal(resent_at(&t, 4000, at, 16), 10);

    for (i = 0; i < 10; i++) {
        assert_int_equal(at[i], due[i]);
    }

    /* one that was late counts from when it was sent */

    ims_trans_resend_start(&t, 1000, 500);
    ims_trans_resend_next(&t, 1700, 4000);
    assert_int_equal(t.resend_at, 2700);

    /* "Proceeding": T2 from then on */

    t.resend_interval = 4000;
    ims_trans_resend_next(&t, 3000, 4000);
    assert_int_equal(t.resend_at, 7000);

    ims_trans_resend_stop(&t);
    assert_false(ims_trans_resend_due(&t, 7000));
    assert_int_equal(ims_trans_due(&t), t.until);
}


/* an interval without a maximum does not wrap into a short one */

static void
timer_end(void **state)
{
    unsigned     i;
    uint32_t     before;
    ims_trans_t  t;

    (void) state;

    memset(&t, 0, sizeof(t));
    t.until = UINT64_MAX;

    ims_trans_resend_start(&t, 1000, 500);

    for (i = 0; i < 64; i++) {
        before = t.resend_interval;
        ims_trans_resend_next(&t, ims_trans_due(&t), 0);
        assert_true(t.resend_interval >= before);
    }

    /* at the end nothing is sent, even if it was due first */

    t.until = t.resend_at + 5;
    assert_true(ims_trans_resend_due(&t, t.until - 1));
    assert_false(ims_trans_resend_due(&t, t.until));
    assert_int_equal(ims_trans_due(&t), t.resend_at);
}


/* the last answer is the record's, and goes with it */

static void
kept_reply(void **state)
{
    ims_str_t          text;
    ims_trans_t       *t;
    ims_trans_key_t    k;
    ims_trans_pool_t  *p;
    ims_trans_stat_t   before, after;

    p = *state;

    k = key(1, "b1", "INVITE");
    assert_int_equal(ims_trans_new(p, &k, &t), IMS_TRANS_OK);
    assert_null(t->reply);

    text = IMS_STR("SIP/2.0 100 Trying");
    assert_true(ims_trans_save(p, &t->reply, &text, 1));
    text = IMS_STR("SIP/2.0 486 Busy Here");
    assert_true(ims_trans_save(p, &t->reply, &text, 1));
    assert_memory_equal(t->reply->data, text.p, text.n);

    ims_trans_stat(p, &before);
    ims_trans_free(p, t);
    ims_trans_stat(p, &after);
    assert_true(after.cached > before.cached);
}


#define with_pool(f)  cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
    const struct CMUnitTest  tests[] = {
        with_pool(by_request),
        with_pool(by_response),
        with_pool(limits),
        with_pool(spare_records),
        with_pool(deadlines),
        cmocka_unit_test(sent_again),
        cmocka_unit_test(timer_a),
        cmocka_unit_test(timer_e),
        cmocka_unit_test(timer_end),
        with_pool(kept_reply),
        with_pool(buffers),
        with_pool(steady),
        with_pool(hashes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
