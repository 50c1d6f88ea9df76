/*
 * Copyright (C) nginx-ims contributors
 *
 * The writer against a model: random commands, random time, aborted batches,
 * restarts, reboots, jumps of the wall clock, lost commits.  The model is
 * POOL.md lines 1 to 6 and 8 said once more, in the simplest way; beside it
 * stands one check that knows no line at all: nobody is given an identity
 * before everything that was told about it to others has passed.
 */

#include <time.h>

#include "pool_fixture.h"


#define IDENTS  12
#define USERS   30
#define SIDS    7               /* more than a lease has room for */

#if defined(__SANITIZE_ADDRESS__)
#define STEPS   100000
#else
#define STEPS   500000
#endif

#define NOBODY  UINT32_MAX


typedef struct {
    uint32_t  user;             /* whose way back leads here */
    uint32_t  last;             /* who had it last */
    bool      barred;
    bool      off;
    bool      closing;
    uint64_t  lease;
    uint64_t  end;
    uint64_t  promised;
    uint64_t  rest;
    uint64_t  send[SIDS];       /* end of each session, 0: none */
    uint64_t  began;
    uint64_t  ended;            /* early, when */
    bool      purged;
    bool      fell;             /* its rest, in this batch */
    uint64_t  told;             /* latest end told + D + margin of that time */
} m_ident_t;


typedef struct {
    m_ident_t  id[IDENTS];
    uint64_t   ttl;
    uint64_t   delay;
    uint64_t   margin;
    uint64_t   fence;
    uint64_t   hold;
    uint64_t   since;           /* the hold began */
    uint64_t   last_lease;
    unsigned   feed;            /* rows since the last look at it */
    uint64_t   out;             /* end of a session that lost its place */
    unsigned   out_of;
    uint64_t   now;
} m_t;


/* in the hands of an edge, whatever becomes of the batch */
typedef struct {
    uint64_t   id;
    unsigned   k;
    uint64_t   lease;
    uint64_t   until;
    bool       done;
} m_out_t;


typedef struct {
    fixture_t  f;
    m_t        m;
    m_out_t    out[64];
    unsigned   nout;
    uint64_t   seed;
    uint64_t   term;
    uint64_t   ident0;
    uint64_t   count[19];
} run_t;


static uint64_t
below(run_t *r, uint64_t n)
{
    return rnd(&r->seed) % n;
}


static bool
m_leased(const m_t *m, const m_ident_t *i)
{
    return i->lease > m->fence && m->now < i->end && !i->off;
}


/* does the hold concern it, or is its past known? */

static bool
m_held(const m_t *m, const m_ident_t *i)
{
    return m->hold > m->now && !(i->purged && i->promised > m->since)
           && !(i->lease != 0 && i->began > m->since);
}


/* may it be given to this user as a new one? */

static bool
m_free(const m_t *m, const m_ident_t *i, uint32_t user)
{
    return i->rest <= m->now && !i->off && !i->closing && !m_held(m, i)
           && !(i->barred && i->last == user);
}


static m_ident_t *
m_of(m_t *m, uint32_t user)
{
    unsigned  i;

    for (i = 0; i < IDENTS; i++) {
        if (m->id[i].user == user) {
            return &m->id[i];
        }
    }

    return NULL;
}


static ims_pool_who_t
m_who(uint32_t user, uint64_t sid, char *buf, size_t n)
{
    snprintf(buf, n, "user-%u", user);

    return who(buf, sid);
}


/* lines 1 and 4 from the point where the session is set */

static void
m_extend(m_t *m, m_ident_t *i, uint64_t sid, uint64_t told)
{
    unsigned  k, n;
    uint64_t  first, end;

    for (k = 0, n = 0, first = UINT64_MAX; k < SIDS; k++) {
        if (i->send[k] <= m->now) {
            i->send[k] = 0;
        }

        n += i->send[k] != 0;
        first = i->send[k] && i->send[k] < first ? i->send[k] : first;
    }

    if (i->send[sid] == 0 && n == IMS_POOL_SESSIONS) {

        /* of those that end first any may go: the record tells which */

        m->feed++;
        m->out = first;
        m->out_of = (unsigned) (i - m->id);
    }

    end = m->now + m->ttl;

    if (i->closing && end > i->end) {
        end = i->end;
    }

    i->send[sid] = end > i->send[sid] ? end : i->send[sid];
    assert_int_equal(i->send[sid], told);

    if (i->end < i->send[sid]) {
        i->end = i->send[sid];
    }

    if (i->promised < i->end) {
        i->promised = i->end;
    }

    if (i->rest < i->promised + m->delay + m->margin) {
        i->rest = i->promised + m->delay + m->margin;
    }

    if (i->told < i->send[sid] + m->delay + m->margin) {
        i->told = i->send[sid] + m->delay + m->margin;
    }
}


/*
 * The lease that just got a session that it had no room for: whose place was
 * it?  Asks what the writer did, and checks that it was one that ended first.
 */
static void
m_oust(run_t *r)
{
    unsigned         k, s, gone;
    m_ident_t       *i;
    ims_pool_rec_t   rec;

    if (r->m.out == 0) {
        return;
    }

    i = &r->m.id[r->m.out_of];
    assert_int_equal(ims_pool_w_rec(r->f.w, r->ident0 + r->m.out_of, &rec), 0);
    assert_int_equal(rec.nsession, IMS_POOL_SESSIONS);

    for (k = 1, gone = 0; k < SIDS; k++) {

        for (s = 0; s < rec.nsession && rec.session[s].sid != k; s++) {
            /* void */
        }

        if (i->send[k] && s == rec.nsession) {
            assert_int_equal(i->send[k], r->m.out);
            i->send[k] = 0;
            gone++;
        }
    }

    assert_int_equal(gone, 1);
    r->m.out = 0;
    r->count[8]++;
}


static unsigned
m_sessions(const m_t *m, const m_ident_t *i)
{
    unsigned  k, n;

    for (k = 0, n = 0; k < SIDS; k++) {
        n += i->send[k] > m->now;
    }

    return n;
}


static void
m_granted(run_t *r, const m_ident_t *i, const ims_pool_grant_t *g)
{
    assert_int_equal(g->ident, r->ident0 + (uint64_t) (i - r->m.id));
    assert_int_equal(g->lease, i->lease);
    assert_int_equal(g->end, i->send[g->sid]);
    assert_int_equal(g->lease_end, i->end);
    assert_int_equal(g->rest, i->rest);
    assert_int_equal(g->now, r->m.now);
}


static void
m_end(run_t *r, m_ident_t *i)
{
    i->end = r->m.now;
    i->ended = r->m.now;
    memset(i->send, 0, sizeof(i->send));
    r->m.feed++;
    r->count[6]++;
}


static void
op_acquire(run_t *r)
{
    int               rc;
    m_t              *m = &r->m;
    char              buf[32];
    bool              free_one, back;
    uint32_t          user;
    uint64_t          sid, first;
    unsigned          k;
    m_ident_t        *i, *old;
    ims_pool_who_t    w;
    ims_pool_grant_t  g;

    /* some come often, with one browser after the other */

    user = (uint32_t) below(r, below(r, 2) ? USERS : 5);
    sid = 1 + below(r, user < 5 ? SIDS - 1 : 2);
    w = m_who(user, sid, buf, sizeof(buf));
    rc = ims_pool_acquire(r->f.w, &w, &g);
    i = m_of(m, user);

    if (i != NULL && m_leased(m, i)
        && !(i->closing && i->end - m->now < 65000))
    {
        assert_int_equal(rc, IMS_POOL_OK);
        assert_int_equal(g.how, IMS_POOL_SAME);
        m_extend(m, i, sid, g.end);
        m_oust(r);
        m_granted(r, i, &g);
        r->count[0]++;
        return;
    }

    for (k = 0, free_one = false, first = UINT64_MAX; k < IDENTS; k++) {
        free_one |= m_free(m, &m->id[k], user);

        if (!m->id[k].off && !m->id[k].closing && m->id[k].rest > m->now
            && m->id[k].rest < first)
        {
            first = m->id[k].rest;
        }
    }

    back = i != NULL && !i->off && !i->closing && !i->barred;

    if (m->hold > m->now && (back ? m_held(m, i) : !free_one)) {
        assert_int_equal(rc, IMS_POOL_HOLD);
        assert_int_equal(g.retry_s, (m->hold - m->now + 999) / 1000);
        r->count[1]++;
        return;
    }

    r->count[17] += m->hold > m->now && rc == IMS_POOL_OK;

    if (back) {

        for (k = 0; k < r->nout; k++) {
            if (&m->id[r->out[k].k] == i && !r->out[k].done
                && r->out[k].until > m->now)
            {
                assert_int_equal(rc, IMS_POOL_BUSY);
                r->count[14]++;
                return;
            }
        }

        assert_int_equal(rc, IMS_POOL_OK);
        assert_int_equal(g.how, IMS_POOL_RETURNED);
        r->count[2]++;

    } else {
        old = i;

        if (!free_one) {
            assert_int_equal(rc, IMS_POOL_EXHAUSTED);
            assert_int_equal(g.retry_s, first == UINT64_MAX ? 60
                             : (first - m->now + 999) / 1000);
            r->count[3]++;
            return;
        }

        assert_int_equal(rc, IMS_POOL_OK);
        assert_int_equal(g.how, IMS_POOL_NEW);
        i = &m->id[g.ident - r->ident0];
        assert_true(m_free(m, i, user));

        if (old != NULL && old != i) {

            if (m_leased(m, old)) {
                m_end(r, old);
                r->count[11]++;
            }

            old->user = NOBODY;
        }

        /* the one thing that all of this is for */

        assert_true(i->rest <= m->now);
        assert_true(i->told <= m->now);
        assert_false(m_leased(m, i));
        r->count[4]++;
    }

    i->user = user;
    i->last = user;
    i->barred = false;
    i->purged = false;
    i->began = m->now;
    i->ended = 0;
    i->lease = ++m->last_lease;
    i->end = m->now;
    memset(i->send, 0, sizeof(i->send));
    m_extend(m, i, sid, g.end);
    m_granted(r, i, &g);
}


/* mostly the right words, sometimes wrong ones */

static m_ident_t *
m_pick(run_t *r, ims_pool_who_t *w, char *buf, size_t n, uint64_t *lease)
{
    uint64_t    sid;
    m_ident_t  *i;

    i = &r->m.id[below(r, IDENTS)];
    sid = 1 + below(r, SIDS - 1);

    while (below(r, 10) && i->send[sid] <= r->m.now) {
        sid = 1 + below(r, SIDS - 1);
    }

    *w = m_who(below(r, 10) ? i->user : (uint32_t) below(r, USERS), sid, buf,
               n);
    *lease = below(r, 10) ? i->lease : i->lease - 1;

    return i;
}


static bool
m_own(run_t *r, const m_ident_t *i, const ims_pool_who_t *w, uint64_t lease)
{
    char  buf[32];

    snprintf(buf, sizeof(buf), "user-%u", i->user);

    return m_leased(&r->m, i) && i->lease == lease
           && i->send[w->sid] > r->m.now && ims_str_eq(S(buf), w->user);
}


static void
op_renew(run_t *r)
{
    int               rc;
    char              buf[32];
    uint64_t          lease;
    m_ident_t        *i;
    ims_pool_who_t    w;
    ims_pool_grant_t  g;

    i = m_pick(r, &w, buf, sizeof(buf), &lease);
    rc = ims_pool_renew(r->f.w, &w, r->ident0 + (uint64_t) (i - r->m.id),
                        lease, &g);

    if (!m_own(r, i, &w, lease) || i->closing) {
        assert_int_equal(rc, IMS_POOL_ENDED);
        return;
    }

    assert_int_equal(rc, IMS_POOL_OK);
    m_extend(&r->m, i, w.sid, g.end);
    assert_int_equal(r->m.out, 0);
    m_granted(r, i, &g);
    r->count[5]++;
}


static void
op_release(run_t *r)
{
    int              rc;
    bool             ended;
    char             buf[32];
    uint64_t         lease;
    unsigned         k;
    m_ident_t       *i;
    ims_pool_who_t   w;

    i = m_pick(r, &w, buf, sizeof(buf), &lease);
    rc = ims_pool_release(r->f.w, &w, r->ident0 + (uint64_t) (i - r->m.id),
                          lease, &ended);

    if (!m_own(r, i, &w, lease)) {
        assert_int_equal(rc, IMS_POOL_ENDED);
        return;
    }

    assert_int_equal(rc, IMS_POOL_OK);
    assert_int_equal(ended, m_sessions(&r->m, i) == 1);

    if (ended) {
        m_end(r, i);
        return;
    }

    i->send[w.sid] = 0;
    i->end = 0;
    r->m.feed++;
    r->count[9]++;

    for (k = 0; k < SIDS; k++) {
        i->end = i->send[k] > i->end ? i->send[k] : i->end;
    }
}


static void
op_revoke(run_t *r)
{
    int         rc;
    bool        bar;
    char        buf[64];
    unsigned    n;
    m_ident_t  *i;

    i = &r->m.id[below(r, IDENTS)];
    bar = below(r, 4) == 0;

    switch (below(r, 3)) {

    case 0:
        rc = ims_pool_revoke_lease(r->f.w,
                                   r->ident0 + (uint64_t) (i - r->m.id),
                                   i->lease, bar, &n);
        break;

    case 1:
        snprintf(buf, sizeof(buf), "sip:web-%06u@ims.example",
                 (unsigned) (i - r->m.id) + 1);
        rc = ims_pool_revoke_impu(r->f.w, S(buf), bar, &n);
        break;

    default:
        snprintf(buf, sizeof(buf), "user-%u", i->user);
        rc = ims_pool_revoke_user(r->f.w, IMS_STR_NULL, IMS_STR("example"),
                                  S(buf), bar, &n);

        if (i->user == NOBODY) {
            assert_int_equal(rc, IMS_POOL_NOTFOUND);
            return;
        }
    }

    if (!m_leased(&r->m, i)) {
        assert_int_equal(rc, bar && i->lease ? IMS_POOL_OK : IMS_POOL_ENDED);
        assert_int_equal(n, 0);
        i->barred |= bar && i->lease;
        return;
    }

    assert_int_equal(rc, IMS_POOL_OK);
    assert_int_equal(n, 1);
    i->barred |= bar;
    r->count[10] += bar;
    m_end(r, i);
}


/* disabled: at once, or with the lease's end; and enabled again */

static void
op_disable(run_t *r)
{
    bool        now, ended;
    char        buf[64];
    unsigned    k;
    m_ident_t  *i;

    k = (unsigned) below(r, IDENTS);
    i = &r->m.id[k];
    snprintf(buf, sizeof(buf), below(r, 2) ? "sip:web-%06u@ims.example"
                                           : "web-%06u@ims.example", k + 1);

    if (below(r, 2)) {
        assert_int_equal(ims_pool_enable(r->f.w, S(buf)), IMS_POOL_OK);
        i->off = false;
        i->closing = false;
        return;
    }

    now = below(r, 2);
    assert_int_equal(ims_pool_disable(r->f.w, S(buf), now, &ended),
                     IMS_POOL_OK);
    assert_int_equal(ended, now && m_leased(&r->m, i));

    if (m_leased(&r->m, i) && !now) {
        i->closing = true;
        r->count[12]++;
        return;
    }

    if (ended) {
        m_end(r, i);
    }

    i->off = true;
    r->count[13]++;
}


static void
op_fence(run_t *r)
{
    uint64_t  fence;
    unsigned  k;

    assert_int_equal(ims_pool_revoke_pool(r->f.w, IMS_STR("web"), &fence), 0);
    assert_int_equal(fence, r->m.last_lease);

    for (k = 0; k < IDENTS; k++) {
        if (m_leased(&r->m, &r->m.id[k])) {
            r->m.id[k].ended = r->m.now;
        }
    }

    r->m.fence = fence;
    r->m.feed++;
    r->count[7]++;
}


static bool
op_purge_may(void *ctx, const ims_pool_t *pool)
{
    (void) ctx;

    return pool->head.purge;
}


/* an edge asks, or is done with one: the proof takes the place of the rest */

static void
op_purge(run_t *r)
{
    int                      rc;
    m_t                     *m = &r->m;
    uint64_t                 ident, lease;
    m_out_t                 *o;
    m_ident_t               *i;
    static ims_pool_purge_t  job;

    if (r->nout < 64 && below(r, 2)) {
        rc = ims_pool_purge_next(r->f.w, op_purge_may, NULL, &job);

        if (rc != IMS_POOL_OK) {
            assert_int_equal(rc, IMS_POOL_NOTFOUND);
            return;
        }

        o = &r->out[r->nout++];
        o->id = job.id;
        o->k = (unsigned) (job.ident - r->ident0);
        o->lease = job.lease;
        o->until = m->now + IMS_POOL_PURGE_MS;
        o->done = false;

        i = &m->id[o->k];
        assert_int_equal(job.lease, i->lease);
        assert_false(m_leased(m, i));
        assert_true(m->hold > m->now || i->rest > m->now + 2 * m->delay);

        if (m->hold <= m->now) {
            assert_true(i->ended != 0);
            assert_true(i->ended + m->delay <= m->now);

        } else if (m_held(m, i) && i->rest < m->now + 2 * m->delay) {
            /* the hold may end before a late `*` */
            i->rest = m->now + 2 * m->delay;
        }

        r->count[15]++;

        if (below(r, 2)) {
            return;
        }
    }

    if (r->nout == 0) {
        return;
    }

    o = &r->out[below(r, 2) ? r->nout - 1 : below(r, r->nout)];
    i = &m->id[o->k];
    rc = ims_pool_purged(r->f.w, o->id, &ident, &lease);

    if (o->until <= m->now) {
        assert_int_equal(rc, IMS_POOL_NOTFOUND);
        return;
    }

    if (o->lease != i->lease || m_leased(m, i)) {
        assert_int_equal(rc, IMS_POOL_ENDED);
        return;
    }

    assert_int_equal(rc, IMS_POOL_OK);
    o->done = true;
    i->end = i->end > m->now ? m->now : i->end;
    i->promised = m->now;
    i->rest = m->now + m->margin;
    i->told = i->rest;
    i->purged = true;
    i->fell = true;
    r->count[16]++;
}


static void
op_report(run_t *r)
{
    bool        alert;
    uint64_t    until, rest;
    m_ident_t  *i;

    i = &r->m.id[below(r, IDENTS)];
    until = r->m.now + below(r, 900000);

    assert_int_equal(ims_pool_report(r->f.w,
                                     r->ident0 + (uint64_t) (i - r->m.id),
                                     i->lease, 1, below(r, 30), until,
                                     &alert), 0);
    assert_false(alert);

    rest = until + r->m.margin;

    if (i->rest < rest) {
        i->rest = rest;
    }
}


static void
op_alter(run_t *r)
{
    ims_pool_spec_t        spec;
    static const uint64_t  ttl[] = { 2000, 10000, 60000, 600000 };
    static const uint64_t  delay[] = { 1000, 10000, 64000 };

    memset(&spec, 0, sizeof(spec));
    spec.name = IMS_STR("web");
    spec.ttl = r->m.ttl = ttl[below(r, 4)];
    spec.delay = r->m.delay = delay[below(r, 3)];
    spec.margin = r->m.margin = below(r, 2) ? 1000 : 30000;

    assert_int_equal(ims_pool_alter(r->f.w, &spec), 0);
}


static void
op(run_t *r)
{
    uint64_t  what;

    what = below(r, 1000);

    if (r->m.hold > r->m.now && below(r, 3) == 0) {
        op_purge(r);

    } else if (what < 450) {
        op_acquire(r);

    } else if (what < 700) {
        op_renew(r);

    } else if (what < 800) {
        op_release(r);

    } else if (what < 900) {
        op_revoke(r);

    } else if (what < 940) {
        op_report(r);

    } else if (what < 945) {
        op_fence(r);

    } else if (what < 960) {
        op_alter(r);

    } else if (what < 980) {
        op_disable(r);

    } else if (what < 992) {
        op_purge(r);

    } else {
        assert_true(ims_pool_tick(r->f.w) >= 0);
    }
}


static void
pass_time(run_t *r)
{
    uint64_t  what;

    what = below(r, 100);

    r->f.v.boottime += what < 70 ? below(r, 2000)
                       : what < 95 ? below(r, 60000) : below(r, 1000000);

    /* the wall clock goes where it likes */

    r->f.v.wall = 1700000000000 + below(r, 36000000) - 18000000;
}


static void
restart(run_t *r)
{
    int       rc;
    bool      lost;
    uint64_t  pt;
    uint32_t  no;
    unsigned  k;

    lost = below(r, 20) == 0;
    r->f.opt.commits_lost = lost;
    r->f.opt.renewals = 1 + (unsigned) below(r, 8);

    /* over a reboot pool time goes on from the last clock row at least */

    pt = r->f.w->committed.clock.pt;

    fixture_close(&r->f);

    switch (below(r, 3)) {

    case 0:     /* another boot */
        r->f.v.boottime = 1000 + below(r, 5000);
        r->f.v.boot_id[3]++;
        break;

    case 1:     /* the same boot, and yet the clock starts over */
        r->f.v.boottime = below(r, 1000);
        break;
    }

    fixture_open(&r->f);
    r->f.opt.commits_lost = false;

    if (below(r, 30) == 0) {
        /* users are hashed anew from now on; up to 16 times */
        begin(&r->f);
        rc = ims_pool_key_rotate(r->f.w, &no);
        assert_true(rc == IMS_POOL_OK || rc == IMS_POOL_EXISTS);
        commit(&r->f);
        r->count[18] += rc == IMS_POOL_OK;
    }

    assert_int_equal(r->f.started.fenced, lost);
    assert_true(r->f.started.now >= pt);

    r->m.last_lease = r->f.started.incarnation << 40;
    r->m.now = r->f.started.now;
    r->m.feed = 0;
    r->nout = 0;

    if (lost) {
        for (k = 0; k < IDENTS; k++) {
            if (m_leased(&r->m, &r->m.id[k])) {
                r->m.id[k].ended = r->m.now;
            }
        }

        r->m.fence = r->m.last_lease - 1;
        assert_true(r->f.started.hold_until >= r->m.now + r->term);
        r->m.hold = r->f.started.hold_until;
        r->m.since = r->m.now;
    }
}


/* after a batch: what is done is out of the edges' hands */

static void
m_outs(run_t *r, bool committed)
{
    unsigned  k, n;

    for (k = 0, n = 0; k < r->nout; k++) {
        if (!committed) {
            r->out[k].done = false;
        }

        if (!r->out[k].done && r->out[k].until + 100000 > r->m.now) {
            r->out[n++] = r->out[k];
        }
    }

    r->nout = n;
}


static void
hear(void *ctx, const ims_pool_feed_row_t *row)
{
    (void) ctx;

    assert_true(row->seq != 0);
}


/* what is on the disk is what the model says, and rests did not fall */

static void
compare(run_t *r, const m_t *before)
{
    int               n;
    unsigned          k;
    uint64_t          end, sid;
    m_ident_t        *i;
    ims_pool_look_t   l;
    ims_pool_lapse_e  lapse;

    for (k = 0; k < IDENTS; k++) {
        i = &r->m.id[k];
        l = look(&r->f, r->ident0 + k);

        assert_int_equal(l.rec.lease, i->lease);
        assert_int_equal(l.rec.end, i->end);
        assert_int_equal(l.rec.promised, i->promised);

        if (m_held(&r->m, i) && l.rec.rest == r->m.hold) {
            /* the search came by */
            i->rest = r->m.hold;
        }

        assert_int_equal(l.rec.rest, i->rest);
        assert_int_equal(l.fence, r->m.fence);
        assert_true(l.rec.avail <= l.rec.rest
                    || (l.rec.avail == UINT64_MAX && (i->off || i->closing)));
        assert_true(i->fell || l.rec.rest >= before->id[k].rest);
        assert_true(i->fell || l.rec.promised >= before->id[k].promised);
        i->fell = false;

        for (sid = 1; sid < SIDS; sid++) {
            lapse = ims_pool_check_lease(&l, i->lease, sid, l.rec.holder,
                                         r->m.now, &end);

            if (i->lease && m_leased(&r->m, i) && i->send[sid] > r->m.now) {
                assert_int_equal(lapse, IMS_POOL_LIVE);
                assert_int_equal(end, i->send[sid]);

            } else {
                assert_int_not_equal(lapse, IMS_POOL_LIVE);
            }
        }
    }

    n = ims_pool_feed(ims_pool_writer_reader(r->f.w), hear, NULL);
    assert_int_equal(n, r->m.feed);
    r->m.feed = 0;
}


/* each kind of answer often; of the rarest one is enough */

static bool
all_seen(const run_t *r)
{
    unsigned  k;

    for (k = 0; k < 18; k++) {
        if (r->count[k] <= (k == 11 ? 0 : 20)) {
            return false;
        }
    }

    return true;
}


static void
test_model(void **state)
{
    m_t              before;
    run_t           *r;
    ims_pool_spec_t  spec;
    char            *seed;
    uint64_t    step, k, n;

    (void) state;

    r = calloc(1, sizeof(run_t));
    assert_non_null(r);

    fixture_pool(&r->f, IDENTS);
    seed = getenv("IMS_TEST_SEED");
    r->seed = seed != NULL ? strtoull(seed, NULL, 0)
                           : (uint64_t) getpid() << 20 ^ (uint64_t) time(NULL);
    print_message("seed %llu\n", (unsigned long long) r->seed);

    for (k = 0; k < IDENTS; k++) {
        r->m.id[k].user = NOBODY;
    }

    begin(&r->f);
    memset(&spec, 0, sizeof(spec));
    spec.name = IMS_STR("web");
    spec.has_purge = true;
    spec.purge = 1;
    assert_int_equal(ims_pool_alter(r->f.w, &spec), 0);
    commit(&r->f);

    r->ident0 = (uint64_t) 1 << 32 | 1;
    r->m.ttl = 600000;
    r->m.delay = 64000;
    r->m.margin = 30000;
    r->term = 694000;
    r->m.last_lease = (uint64_t) 1 << 40;
    r->m.fence = look(&r->f, r->ident0).fence;

    /*
     * the seed is another one each time: until each kind of answer was seen
     * often enough, and no longer than ten times as long
     */

    for (step = 0;
         step < STEPS || (!all_seen(r) && step < 10 * STEPS);
         step += n)
    {
        pass_time(r);
        before = r->m;
        begin(&r->f);
        assert_true(ims_pool_now(r->f.w) >= r->m.now);
        r->m.now = ims_pool_now(r->f.w);

        n = 1 + below(r, 8);

        for (k = 0; k < n; k++) {
            op(r);
            assert_false(ims_pool_broken(r->f.w));
        }

        if (below(r, 10) == 0) {
            ims_pool_abort(r->f.w);
            r->m = before;
            m_outs(r, false);

        } else {
            commit(&r->f);
            m_outs(r, true);
        }

        compare(r, &before);

        if (below(r, 200) == 0) {
            check_clean(&r->f);
        }

        if (below(r, 300) == 0) {
            before = r->m;
            restart(r);
            compare(r, &before);
        }
    }

    check_clean(&r->f);

    print_message("%u steps: %llu same, %llu held, %llu returned, "
                  "%llu exhausted, %llu new, %llu renewed, %llu ended, "
                  "%llu fences, %llu ousted, %llu left, %llu barred, "
                  "%llu cut, %llu closing, %llu off, %llu busy, "
                  "%llu to purge, %llu purged, %llu in a hold, %llu keys\n",
                  STEPS,
                  (unsigned long long) r->count[0],
                  (unsigned long long) r->count[1],
                  (unsigned long long) r->count[2],
                  (unsigned long long) r->count[3],
                  (unsigned long long) r->count[4],
                  (unsigned long long) r->count[5],
                  (unsigned long long) r->count[6],
                  (unsigned long long) r->count[7],
                  (unsigned long long) r->count[8],
                  (unsigned long long) r->count[9],
                  (unsigned long long) r->count[10],
                  (unsigned long long) r->count[11],
                  (unsigned long long) r->count[12],
                  (unsigned long long) r->count[13],
                  (unsigned long long) r->count[14],
                  (unsigned long long) r->count[15],
                  (unsigned long long) r->count[16],
                  (unsigned long long) r->count[17],
                  (unsigned long long) r->count[18]);

    assert_true(all_seen(r));

    fixture_end(&r->f);
    free(r);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
