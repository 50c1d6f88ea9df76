/*
 * Copyright (C) nginx-ims contributors
 *
 * Renewals: what is in tree `renewal`, in the tables of who reads it, and in
 * the records sooner or later, is one and the same at any moment.
 */

#include "pool_fixture.h"


#define TTL     600000
#define LINGER  94000
#define PACE    2000            /* identities, and renewals of a part */


/* the record as its row has it */

static ims_pool_rec_t
row_of(fixture_t *f, uint64_t ident)
{
    ims_pool_rec_t      rec;
    ims_pool_reader_t  *r;

    r = ims_pool_writer_reader(f->w);

    assert_int_equal(ims_pool_snap(r), 0);
    assert_int_equal(ims_pool_rec(r->txn, r->dbi, ident, &rec), 0);
    ims_pool_unsnap(r);

    return rec;
}


static size_t
rows(fixture_t *f)
{
    MDB_stat            st;
    ims_pool_reader_t  *r;

    r = ims_pool_writer_reader(f->w);

    assert_int_equal(ims_pool_snap(r), 0);
    assert_int_equal(mdb_stat(r->txn, r->dbi[IMS_POOL_T_RENEWAL], &st), 0);
    ims_pool_unsnap(r);

    return st.ms_entries;
}


/* a reader of its own, as another process has one */

static ims_pool_reader_t *
other(fixture_t *f)
{
    ims_pool_reader_t  *r;

    assert_int_equal(ims_pool_reader_borrow(&r, f->w->env, f->w->dbi,
                                            &f->clock, NULL), 0);

    return r;
}


static uint64_t
end_by(ims_pool_reader_t *r, uint64_t ident)
{
    ims_pool_look_t  l;

    assert_int_equal(ims_pool_look(r, ident, &l), 0);

    return l.rec.end;
}


static void
test_seen(void **state)
{
    fixture_t           f;
    ims_pool_rec_t      row;
    ims_pool_look_t     l;
    ims_pool_grant_t    a, b;
    ims_pool_reader_t  *r;

    (void) state;

    fixture_pool(&f, 2);
    assert_int_equal(acquire(&f, "alice", 1, &a), 0);
    r = other(&f);
    assert_int_equal(end_by(r, a.ident), a.end);

    f.v.boottime += 1000;
    assert_int_equal(renew(&f, "alice", 1, a.ident, a.lease, &b), 0);
    assert_int_equal(b.end, a.end + 1000);
    assert_int_equal(b.lease_end, b.end);
    assert_int_equal(b.rest, b.end + LINGER);

    /* not in its row, and in every view */

    row = row_of(&f, a.ident);
    assert_int_equal(row.end, a.end);
    assert_int_equal(rows(&f), 1);

    assert_int_equal(ims_pool_look(r, a.ident, &l), 0);
    assert_int_equal(l.rec.end, b.end);
    assert_int_equal(l.rec.session[0].end, b.end);
    assert_int_equal(l.rec.promised, b.end);
    assert_int_equal(l.rec.rest, b.rest);
    assert_int_equal(look(&f, a.ident).rec.rest, b.rest);

    /* one that raises nothing is no write at all */

    assert_int_equal(renew(&f, "alice", 1, a.ident, a.lease, &b), 0);
    assert_int_equal(rows(&f), 1);

    ims_pool_close(r);
    check_clean(&f);
    fixture_end(&f);
}


/* nobody else before the rest of the last renewal, whatever happens between */

static void
test_promise(void **state)
{
    unsigned          i;
    fixture_t         f;
    ims_pool_grant_t  a, b, c;

    (void) state;

    fixture_pool(&f, 1);
    assert_int_equal(acquire(&f, "alice", 1, &a), 0);

    for (i = 0; i < 5; i++) {
        f.v.boottime += 1000;
        assert_int_equal(renew(&f, "alice", 1, a.ident, a.lease, &b), 0);
        fixture_close(&f);
        fixture_open(&f);
        assert_false(f.started.fenced);
        assert_int_equal(lapse(&f, &a, 1), IMS_POOL_LIVE);
        assert_int_equal(look(&f, a.ident).rec.rest, b.rest);
    }

    f.v.boottime += b.rest - b.now - 1;
    assert_int_equal(acquire(&f, "bob", 2, &c), IMS_POOL_EXHAUSTED);
    assert_int_equal(lapse(&f, &a, 1), IMS_POOL_LAPSE_ENDED);
    f.v.boottime += 1;
    assert_int_equal(acquire(&f, "bob", 2, &c), 0);
    assert_int_equal(c.ident, a.ident);
    assert_int_equal(lapse(&f, &a, 1), IMS_POOL_LAPSE_OTHER);

    check_clean(&f);
    fixture_end(&f);
}


/* what ended stays so: with rows and tables that know of its renewals */

static void
ended(uint8_t per)
{
    unsigned            i;
    fixture_t           f;
    ims_pool_look_t     l;
    ims_pool_grant_t    a, g;
    ims_pool_reader_t  *r;

    fixture_init(&f);
    fixture_open(&f);
    add_pool_per(&f, "web", per);
    add_identities(&f, "web", 1, 2);

    assert_int_equal(acquire(&f, "alice", 1, &a), 0);
    r = other(&f);
    f.v.boottime += 1000;
    assert_int_equal(renew(&f, "alice", 1, a.ident, a.lease, &g), 0);
    assert_int_equal(end_by(r, a.ident), g.end);

    f.v.boottime += 1000;
    assert_int_equal(release(&f, "alice", 1, a.ident, a.lease), 0);

    assert_int_equal(ims_pool_look(r, a.ident, &l), 0);
    assert_int_not_equal(ims_pool_check_lease(&l, a.lease, 1, a.holder, l.pt,
                                              NULL), IMS_POOL_LIVE);
    assert_int_equal(l.rec.end, l.pt);
    assert_int_equal(l.rec.rest, g.rest);
    ims_pool_close(r);

    for (i = 0; i < 2; i++) {
        assert_int_not_equal(lapse(&f, &a, 1), IMS_POOL_LIVE);
        assert_int_equal(look(&f, a.ident).rec.rest, g.rest);
        assert_int_equal(renew(&f, "alice", 1, a.ident, a.lease, &g),
                         IMS_POOL_ENDED);
        g.rest = look(&f, a.ident).rec.rest;
        fixture_close(&f);
        fixture_open(&f);
    }

    /* the next one is another lease, and renewals are its own */

    assert_int_equal(acquire(&f, "alice", 1, &g), 0);
    assert_int_equal(g.how, IMS_POOL_RETURNED);
    assert_int_equal(g.ident, a.ident);
    assert_int_equal(look(&f, a.ident).rec.end, g.end);
    assert_int_equal(lapse(&f, &a, 1), IMS_POOL_LAPSE_OTHER);

    check_clean(&f);
    fixture_end(&f);
}


static void
test_ended(void **state)
{
    (void) state;

    ended(IMS_POOL_PER_USER);
    ended(IMS_POOL_PER_SESSION);
}


/* a write that lowers what renewals had raised, as a purge does */

static void
test_lowered(void **state)
{
    fixture_t         f;
    ims_pool_rec_t    rec;
    ims_pool_grant_t  a, b;

    (void) state;

    fixture_pool(&f, 1);
    assert_int_equal(acquire(&f, "alice", 1, &a), 0);
    f.v.boottime += 1000;
    assert_int_equal(renew(&f, "alice", 1, a.ident, a.lease, &b), 0);

    begin(&f);
    assert_int_equal(ims_pool_w_rec(f.w, a.ident, &rec), 0);
    assert_int_equal(rec.rest, b.rest);
    rec.end = rec.session[0].end = rec.promised = f.w->now;
    rec.rest = f.w->now + 1;
    rec.flags |= IMS_POOL_F_PURGED;
    assert_int_equal(ims_pool_w_put_rec(f.w, &rec), 0);
    assert_int_equal(ims_pool_w_rec(f.w, a.ident, &rec), 0);
    assert_int_equal(rec.rest, f.w->now + 1);
    commit(&f);

    assert_int_equal(look(&f, a.ident).rec.rest, rec.rest);
    assert_int_equal(look(&f, a.ident).rec.end, rec.end);
    fixture_close(&f);
    fixture_open(&f);
    assert_int_equal(look(&f, a.ident).rec.rest, rec.rest);
    assert_int_equal(look(&f, a.ident).rec.end, rec.end);

    fixture_end(&f);
}


/* several commands of one batch, in all orders that matter */

static void
test_batch(void **state)
{
    bool              b;
    fixture_t         f;
    ims_pool_who_t    alice, second;
    ims_pool_grant_t  a, g, h;

    (void) state;

    fixture_pool(&f, 2);
    alice = who("alice", 1);
    second = who("alice", 2);

    /* given and renewed; the row is ahead of the batch's renewals */

    begin(&f);
    assert_int_equal(ims_pool_acquire(f.w, &alice, &a), 0);
    assert_int_equal(ims_pool_renew(f.w, &alice, a.ident, a.lease, &g), 0);
    assert_int_equal(ims_pool_acquire(f.w, &second, &g), 0);
    commit(&f);
    assert_int_equal(lapse(&f, &a, 1), IMS_POOL_LIVE);
    assert_int_equal(lapse(&f, &a, 2), IMS_POOL_LIVE);

    /* both renewed, one of them twice */

    f.v.boottime += 1000;
    begin(&f);
    assert_int_equal(ims_pool_renew(f.w, &alice, a.ident, a.lease, &g), 0);
    assert_int_equal(ims_pool_renew(f.w, &second, a.ident, a.lease, &h), 0);
    assert_int_equal(ims_pool_renew(f.w, &second, a.ident, a.lease, &h), 0);
    commit(&f);
    assert_int_equal(g.end, a.end + 1000);
    assert_int_equal(h.end, a.end + 1000);
    assert_int_equal(row_of(&f, a.ident).end, a.end);
    assert_int_equal(look(&f, a.ident).rec.session[0].end, g.end);
    assert_int_equal(look(&f, a.ident).rec.session[1].end, g.end);

    /* renewed, and one session released: the rest of it lives on */

    f.v.boottime += 1000;
    begin(&f);
    assert_int_equal(ims_pool_renew(f.w, &alice, a.ident, a.lease, &g), 0);
    assert_int_equal(ims_pool_release(f.w, &second, a.ident, a.lease, &b), 0);
    assert_false(b);
    commit(&f);
    assert_int_equal(lapse(&f, &a, 1), IMS_POOL_LIVE);
    assert_int_equal(lapse(&f, &a, 2), IMS_POOL_LAPSE_SID);
    assert_int_equal(look(&f, a.ident).rec.end, a.end + 2000);

    /* renewed and ended, and had again */

    f.v.boottime += 1000;
    begin(&f);
    assert_int_equal(ims_pool_renew(f.w, &alice, a.ident, a.lease, &g), 0);
    assert_int_equal(ims_pool_release(f.w, &alice, a.ident, a.lease, &b), 0);
    assert_int_equal(ims_pool_renew(f.w, &alice, a.ident, a.lease, &h),
                     IMS_POOL_ENDED);
    assert_int_equal(ims_pool_acquire(f.w, &alice, &h), 0);
    commit(&f);
    assert_int_not_equal(h.lease, a.lease);
    assert_int_equal(lapse(&f, &a, 1), IMS_POOL_LAPSE_OTHER);
    assert_int_equal(lapse(&f, &h, 1), IMS_POOL_LIVE);
    assert_int_equal(look(&f, a.ident).rec.rest, g.end + LINGER);

    /* thrown away */

    f.v.boottime += 1000;
    begin(&f);
    assert_int_equal(ims_pool_renew(f.w, &alice, h.ident, h.lease, &g), 0);
    ims_pool_abort(f.w);
    assert_int_equal(look(&f, h.ident).rec.end, h.end);
    begin(&f);
    assert_int_equal(ims_pool_acquire(f.w, &second, &g), 0);
    commit(&f);
    assert_int_equal(look(&f, h.ident).rec.session[0].end, h.end);

    check_clean(&f);
    fixture_end(&f);
}


/*
 * Into the records, a row or more at a time; rows of renewals go; each step can
 * be started from.
 */

static void
test_fold(void **state)
{
    char              name[32];
    unsigned          i, n;
    uint64_t          first;
    fixture_t         f;
    ims_pool_who_t    a;
    ims_pool_grant_t  g[120], h;

    (void) state;

    fixture_pool(&f, 140);
    f.opt.renewals = 120;
    fixture_close(&f);
    fixture_open(&f);

    for (i = 0; i < 120; i++) {
        snprintf(name, sizeof(name), "user%u", i);
        assert_int_equal(acquire(&f, name, 1, &g[i]), 0);
    }

    first = f.w->committed.renew_first;
    f.v.boottime += 1000;

    for (i = 0; i < 120; i++) {
        assert_int_equal(f.w->committed.renew_mid, first);
        snprintf(name, sizeof(name), "user%u", i);
        assert_int_equal(renew(&f, name, 1, g[i].ident, g[i].lease, &h), 0);
    }

    /* the part is full: the next commits take it to the records */

    assert_true(f.w->committed.renew_mid > first);
    assert_int_equal(rows(&f), 120);

    for (n = 0; n < 200 && f.w->committed.renew_first == first; n++) {
        f.v.boottime += 1;
        begin(&f);
        a = who("user3", 1);
        assert_int_equal(ims_pool_acquire(f.w, &a, &h), 0);
        commit(&f);

        if (n % 3 == 0) {
            fixture_close(&f);
            fixture_open(&f);
        }

        for (i = 0; i < 120; i++) {
            assert_int_equal(look(&f, g[i].ident).rec.end,
                             i == 3 ? h.end : g[i].end + 1000);
        }

        check_clean(&f);
    }

    assert_true(n > 2 && n < 121);

    for (i = 0; i < 120; i++) {
        assert_true(row_of(&f, g[i].ident).end >= g[i].end + 1000);
    }

    for (i = 0; i < 10; i++) {
        tick(&f);
    }

    assert_true(rows(&f) <= n);
    check_clean(&f);
    fixture_end(&f);
}


/* leases of user0, user1, ... in one commit */

static void
acquire_batch(fixture_t *f, ims_pool_grant_t *g, unsigned n)
{
    char            name[32];
    unsigned        i;
    ims_pool_who_t  a;

    begin(f);

    for (i = 0; i < n; i++) {
        snprintf(name, sizeof(name), "user%u", i);
        a = who(name, 1);
        assert_int_equal(ims_pool_acquire(f->w, &a, &g[i]), 0);
    }

    commit(f);
}


/* and n of them longer, likewise */

static void
renew_batch(fixture_t *f, const ims_pool_grant_t *g, unsigned first,
    unsigned n)
{
    char              name[32];
    unsigned          i;
    ims_pool_who_t    a;
    ims_pool_grant_t  h;

    begin(f);

    for (i = first; i < first + n; i++) {
        snprintf(name, sizeof(name), "user%u", i);
        a = who(name, 1);
        assert_int_equal(ims_pool_renew(f->w, &a, g[i].ident, g[i].lease, &h),
                         0);
    }

    commit(f);
}


/* all of a part is in its records before the next is full, in few commits */

static void
test_pace(void **state)
{
    size_t     at;
    uint64_t   first, mid;
    unsigned   i, wrote;
    fixture_t  f;
    static ims_pool_grant_t  g[PACE];

    (void) state;

    fixture_pool(&f, PACE);
    f.w->opt.renewals = PACE;
    acquire_batch(&f, g, PACE);
    first = f.w->committed.renew_first;
    mid = first;
    wrote = 0;

    /* the second time round the first part is written */

    for (i = 0; i < 2 * PACE; i += 10) {

        if (i == PACE) {
            mid = f.w->committed.renew_mid;
            assert_true(mid > first);
        }

        at = f.w->fold.at;
        f.v.boottime += 10;
        renew_batch(&f, g, i % PACE, 10);
        wrote += f.w->fold.at != at;
    }

    assert_int_equal(f.w->committed.renew_first, mid);
    assert_true(wrote > 20);
    assert_true(wrote <= PACE / 10 / 2 + 1);
    check_clean(&f);
    fixture_end(&f);
}


/* of one commit more than a row has room for, and more than a commit has */

static void
test_many(void **state)
{
    unsigned           i, n;
    fixture_t          f;
    ims_pool_reader_t *r;
    static ims_pool_grant_t  g[1100];

    (void) state;

    n = sizeof(g) / sizeof(g[0]);
    fixture_pool(&f, n);
    r = other(&f);

    acquire_batch(&f, g, n);
    f.v.boottime += 1000;
    renew_batch(&f, g, 0, n);
    assert_int_equal(rows(&f), (1024 + IMS_POOL_RENEWALS_ROW - 1)
                               / IMS_POOL_RENEWALS_ROW);

    for (i = 0; i < n; i++) {
        assert_int_equal(end_by(r, g[i].ident), g[i].end + 1000);
    }

    ims_pool_close(r);
    fixture_close(&f);
    fixture_open(&f);

    for (i = 0; i < n; i++) {
        assert_int_equal(look(&f, g[i].ident).rec.end, g[i].end + 1000);
    }

    check_clean(&f);
    fixture_end(&f);
}


static void
sessions_of_one(fixture_t *f, unsigned n, const ims_pool_grant_t *g)
{
    unsigned          i;
    ims_pool_grant_t  h;

    for (i = 0; i < n; i++) {
        f->v.boottime += 100;
        assert_int_equal(renew(f, "alice", 1, g->ident, g->lease, &h), 0);
    }
}


/* one session for ever, commit by commit: rows are not kept for ever */

static void
test_one(void **state)
{
    unsigned          i;
    fixture_t         f;
    ims_pool_grant_t  g;

    (void) state;

    fixture_pool(&f, 1);
    f.opt.renewals = 50;
    fixture_close(&f);
    fixture_open(&f);
    assert_int_equal(acquire(&f, "alice", 1, &g), 0);

    for (i = 0; i < 100; i++) {
        sessions_of_one(&f, 100, &g);
        assert_in_range(rows(&f), 1, 150);
    }

    /* and who comes seldom does not leave them either */

    f.opt.renewals = 5000;
    fixture_close(&f);
    fixture_open(&f);
    sessions_of_one(&f, 500, &g);
    f.v.boottime += 60000;

    for (i = 0; i < 8; i++) {
        tick(&f);
    }

    assert_int_equal(rows(&f), 0);
    check_clean(&f);
    fixture_end(&f);
}


/* with little space a lease's record is written at once, as ends are */

static void
test_short(void **state)
{
    unsigned          i;
    fixture_t         f;
    ims_pool_grant_t  g, h;

    (void) state;

    fixture_pool(&f, 1);
    assert_int_equal(acquire(&f, "alice", 1, &g), 0);
    sessions_of_one(&f, 100, &g);
    assert_int_equal(rows(&f), 100);
    i = (unsigned) f.w->committed.renew_mid;

    f.v.boottime += 100;
    begin(&f);
    f.w->space = IMS_POOL_SPACE_GO_ON;
    {
        ims_pool_who_t  a = who("alice", 1);

        assert_int_equal(ims_pool_renew(f.w, &a, g.ident, g.lease, &h), 0);
    }
    commit(&f);
    assert_int_equal(rows(&f), 100);
    assert_int_equal(row_of(&f, g.ident).rest, h.rest);
    assert_int_equal(f.w->committed.renew_mid, i);
    f.w->space = IMS_POOL_SPACE_ALL;

    /* after a commit that failed nothing but what was asked is written */

    ims_pool_fold_failed(f.w);
    f.w->opt.renewals = 1;
    sessions_of_one(&f, 3, &g);
    assert_int_equal(f.w->committed.renew_mid, i);
    sessions_of_one(&f, 30, &g);
    assert_true(f.w->committed.renew_mid > i);
    check_clean(&f);
    fixture_end(&f);
}


/* many sessions of one lease: four places, and the last ones have them */

static void
test_sessions(void **state)
{
    unsigned             i;
    ims_pool_rec_t       rec;
    ims_pool_renewal_t   one;
    ims_pool_renewals_t  t;

    (void) state;

    memset(&t, 0, sizeof(t));
    memset(&one, 0, sizeof(one));
    one.ident = 7;
    one.lease = 9;

    for (i = 1; i <= 100000; i++) {
        one.sid = i;
        one.end = i;
        assert_true(ims_pool_renewals_room(&t, 1));
        ims_pool_renewals_put(&t, &one, i);
    }

    assert_int_equal(t.n, IMS_POOL_SESSIONS);

    memset(&rec, 0, sizeof(rec));
    rec.ident = 7;
    rec.lease = 9;
    rec.nsession = IMS_POOL_SESSIONS;

    for (i = 0; i < IMS_POOL_SESSIONS; i++) {
        rec.session[i].sid = 100000 - i;
    }

    assert_true(ims_pool_renewals_add(&t, &rec));

    for (i = 0; i < IMS_POOL_SESSIONS; i++) {
        assert_int_equal(rec.session[i].end, 100000 - i);
    }

    ims_pool_renewals_free(&t);
}


/* a tick folds what nobody else does */

static void
test_tick(void **state)
{
    unsigned          i;
    fixture_t         f;
    ims_pool_grant_t  g, h;

    (void) state;

    fixture_pool(&f, 2);
    f.opt.renewals = 2;
    fixture_close(&f);
    fixture_open(&f);
    assert_int_equal(acquire(&f, "alice", 1, &g), 0);
    assert_int_equal(acquire(&f, "bob", 2, &h), 0);
    f.v.boottime += 1000;
    assert_int_equal(renew(&f, "alice", 1, g.ident, g.lease, &g), 0);
    assert_int_equal(renew(&f, "bob", 2, h.ident, h.lease, &h), 0);

    for (i = 0; i < 4; i++) {
        tick(&f);
    }

    assert_int_equal(rows(&f), 0);
    assert_int_equal(row_of(&f, g.ident).rest, g.rest);
    assert_int_equal(row_of(&f, h.ident).rest, h.rest);

    fixture_end(&f);
}


/* renewals that cannot be read were promised: as if commits were lost */

static void
test_damaged(void **state)
{
    uint8_t             key[IMS_POOL_RENEWAL_KEY];
    MDB_val             k, v;
    unsigned            i;
    fixture_t           f;
    ims_pool_look_t     l;
    ims_pool_grant_t    a, b, c;
    ims_pool_reader_t  *r;

    (void) state;

    fixture_pool(&f, 3);
    assert_int_equal(acquire(&f, "alice", 1, &a), 0);
    assert_int_equal(acquire(&f, "bob", 2, &b), 0);
    f.v.boottime += 1000;
    assert_int_equal(renew(&f, "alice", 1, a.ident, a.lease, &a), 0);

    begin(&f);
    memset(key, 0, sizeof(key));
    ims_pool_be64(key, f.w->committed.renew_last);
    k.mv_size = sizeof(key);
    k.mv_data = key;
    assert_int_equal(mdb_get(f.w->txn, f.w->dbi[IMS_POOL_T_RENEWAL], &k, &v),
                     0);
    {
        uint8_t  copy[64];

        assert_true(v.mv_size <= sizeof(copy));
        memcpy(copy, v.mv_data, v.mv_size);
        copy[20] ^= 4;
        v.mv_data = copy;
        assert_int_equal(mdb_put(f.w->txn, f.w->dbi[IMS_POOL_T_RENEWAL], &k,
                                 &v, 0), 0);
    }
    f.w->dirty = 1;
    commit(&f);

    /* a reader that comes now knows nothing, not less */

    assert_int_equal(ims_pool_reader_borrow(&r, f.w->env, f.w->dbi, &f.clock,
                                            NULL), IMS_POOL_UNKNOWN);
    assert_true(check_faults(&f, false) > 0);

    fixture_close(&f);
    fixture_open(&f);
    assert_true(f.started.fenced);
    assert_true(f.started.hold_until >= a.rest);
    assert_int_equal(lapse(&f, &b, 2), IMS_POOL_LAPSE_FENCED);
    assert_int_equal(acquire(&f, "carol", 3, &c), IMS_POOL_HOLD);

    /* it is not kept: the next start is as any, and readers read again */

    for (i = 0; i < 4; i++) {
        tick(&f);
    }

    r = other(&f);
    assert_int_equal(ims_pool_look(r, a.ident, &l), 0);
    ims_pool_close(r);
    assert_int_equal(rows(&f), 0);

    fixture_close(&f);
    fixture_open(&f);
    assert_false(f.started.fenced);
    check_clean(&f);
    fixture_end(&f);
}


/*
 * Readers that look now and then, at whatever the writer has made of it in
 * between: what they see is what the writer knows, and what was told.
 */

#define USERS    24
#define READERS  4
#define ROUNDS   4000

static void
test_random(void **state)
{
    int                 rc;
    bool                b;
    char                name[32];
    unsigned            i, k, u, n;
    uint64_t            seed, end[USERS];
    fixture_t           f;
    ims_pool_who_t      a;
    ims_pool_rec_t      rec;
    ims_pool_look_t     l;
    ims_pool_grant_t    g[USERS], one;
    ims_pool_reader_t  *r[READERS];

    (void) state;

    seed = 77;
    fixture_pool(&f, USERS);
    f.opt.renewals = 7;
    fixture_close(&f);
    fixture_open(&f);

    for (i = 0; i < READERS; i++) {
        r[i] = other(&f);
    }

    memset(end, 0, sizeof(end));
    memset(g, 0, sizeof(g));

    for (n = 0; n < ROUNDS; n++) {

        f.v.boottime += 1 + rnd(&seed) % 3000;
        begin(&f);

        for (i = 0; i < 1 + rnd(&seed) % 5; i++) {
            u = (unsigned) (rnd(&seed) % USERS);
            snprintf(name, sizeof(name), "user%u", u);
            a = who(name, 1 + rnd(&seed) % 2);

            switch (rnd(&seed) % 8) {

            case 0:
                rc = ims_pool_release(f.w, &a, g[u].ident, g[u].lease, &b);
                break;

            case 1:
                rc = ims_pool_acquire(f.w, &a, &one);

                if (rc == IMS_POOL_OK) {
                    g[u] = one;
                }

                break;

            default:
                rc = ims_pool_renew(f.w, &a, g[u].ident, g[u].lease, &one);
                break;
            }

            assert_true(rc == IMS_POOL_OK || rc == IMS_POOL_ENDED
                        || rc == IMS_POOL_EXHAUSTED);
        }

        if (rnd(&seed) % 16 == 0) {
            ims_pool_abort(f.w);

            /* a lease of which it is not known whether it is one */

            for (u = 0; u < USERS; u++) {
                if (g[u].ident
                    && look(&f, g[u].ident).rec.lease != g[u].lease)
                {
                    memset(&g[u], 0, sizeof(g[u]));
                }
            }

        } else {
            commit(&f);
        }

        for (i = 0; i < READERS; i++) {

            /* the first always, the last seldom */

            if (rnd(&seed) % (1 + i * i * i) != 0) {
                continue;
            }

            for (k = 0; k < USERS; k++) {
                begin(&f);
                assert_int_equal(ims_pool_w_rec(f.w, (1ull << 32) + 1 + k,
                                                &rec), 0);
                ims_pool_abort(f.w);
                assert_int_equal(ims_pool_look(r[i], rec.ident, &l), 0);
                rec.renewed = l.rec.renewed;
                assert_memory_equal(&l.rec, &rec, sizeof(rec));

                /* a lease only grows, or ends */

                assert_true(rec.rest >= end[k]);
                end[k] = rec.rest;
            }
        }

        if (rnd(&seed) % 97 == 0) {

            for (i = 0; i < READERS; i++) {
                ims_pool_close(r[i]);
            }

            fixture_close(&f);
            fixture_open(&f);
            check_clean(&f);

            for (i = 0; i < READERS; i++) {
                r[i] = other(&f);
            }
        }
    }

    assert_true(rows(&f) < 64);
    assert_true(f.w->committed.renew_first > 100);

    for (i = 0; i < READERS; i++) {
        ims_pool_close(r[i]);
    }

    check_clean(&f);
    fixture_end(&f);
}


/* the table itself: beyond its first size, up to the most, and empty again */

static void
test_table(void **state)
{
    unsigned             i;
    ims_pool_rec_t       rec;
    ims_pool_renewal_t   one;
    ims_pool_renewals_t  t;

    (void) state;

    memset(&t, 0, sizeof(t));
    memset(&rec, 0, sizeof(rec));
    rec.lease = 9;
    rec.nsession = 2;
    rec.linger = 5;
    one.lease = 9;

    assert_false(ims_pool_renewals_room(&t, IMS_POOL_RENEWALS + 1));
    assert_false(ims_pool_renewals_add(&t, &rec));

    for (i = 1; i <= 10000; i++) {
        one.ident = i % 5000;
        one.sid = i;
        one.end = 100000 + i;
        assert_true(ims_pool_renewals_room(&t, 1));
        ims_pool_renewals_put(&t, &one, i);
    }

    assert_int_equal(t.n, 10000);
    assert_false(ims_pool_renewals_room(&t, IMS_POOL_RENEWALS));

    rec.ident = 7;
    rec.session[0].sid = 7;
    rec.session[1].sid = 5007;
    assert_true(ims_pool_renewals_add(&t, &rec));
    assert_int_equal(rec.session[0].end, 100007);
    assert_int_equal(rec.session[1].end, 105007);
    assert_int_equal(rec.end, 105007);
    assert_int_equal(rec.rest, 105012);
    assert_false(ims_pool_renewals_add(&t, &rec));

    /* of another lease, or in the record already */

    memset(rec.session, 0, sizeof(rec.session));
    rec.session[0].sid = 7;
    rec.session[1].sid = 5007;
    rec.lease = 8;
    assert_false(ims_pool_renewals_add(&t, &rec));
    rec.lease = 9;
    rec.renewed = 5006;
    assert_true(ims_pool_renewals_add(&t, &rec));
    assert_int_equal(rec.session[0].end, 0);
    rec.session[1].end = 0;
    rec.renewed = 5007;
    assert_false(ims_pool_renewals_add(&t, &rec));

    ims_pool_renewals_clear(&t);
    assert_int_equal(t.n, 0);
    rec.renewed = 0;
    assert_false(ims_pool_renewals_add(&t, &rec));
    ims_pool_renewals_free(&t);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_seen),
        cmocka_unit_test(test_promise),
        cmocka_unit_test(test_ended),
        cmocka_unit_test(test_lowered),
        cmocka_unit_test(test_batch),
        cmocka_unit_test(test_fold),
        cmocka_unit_test(test_pace),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_one),
        cmocka_unit_test(test_short),
        cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_tick),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
