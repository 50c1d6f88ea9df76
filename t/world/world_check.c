/*
 * Copyright (C) nginx-ims contributors
 *
 * What must hold (POOL.md 8), seen at the registrar and at the sockets:
 *
 *   holders      no two holders bound to one identity at any instant
 *   delivered    no terminating message reaches a flow whose session is not
 *                the identity's live one
 *   late         no message of a client leaves for a lease ended more than D
 *                ago
 *   told         a lease that was told is there, whatever crashed; nobody
 *                else gets the identity before its promise and D are over
 *   asked        a REGISTER asks for no more than was promised
 *   lied         a client is told of no registration beyond its lease
 *
 * and, in strict runs, what would in time lead to one of these:
 *
 *   outlives     no binding outlives what was promised and D
 *   ours         the edge de-registers only for the identity's latest lease,
 *                and not in the last D of its rest
 *   removed      a de-REGISTER takes away its own binding and no other
 *   purged       what is purged has no binding any more
 *   newer        the edge de-registers no contact that a newer flow has
 *   slow         what was found at a look is written within 2 s, or D/2
 *   holder       a slot never changes its holder
 *   open         an ended flow is closed in time
 *   asserted     a flow asserts no identity that the pool knows as another's
 *   clock        pool time goes neither back nor ahead of true time
 *   check        ims-poolctl check finds nothing
 *   slots        at the end every slot is free
 *
 * A ghost of each lease says who has it; it is made of the pool manager's
 * answers, never of its records.  Records are read for one question alone:
 * what lease does an identity have at this instant.
 */

#include "world.h"


#define SLACK  (2 * MS)            /* pool time is in ms */


/* -- ghosts -------------------------------------------------------------- */

static identity_t *
check_identity(world_t *w, uint64_t ident)
{
    unsigned  i;

    for (i = 0; i < w->config.idents; i++) {
        if (w->identity[i].ident == ident) {
            return &w->identity[i];
        }
    }

    return NULL;
}


glease_t *
check_lease(world_t *w, uint64_t ident, uint64_t lease)
{
    glease_t  *gl;

    for (gl = w->leases; gl; gl = gl->next) {
        if (gl->epoch == w->epoch && gl->lease == lease
            && gl->ident == ident)
        {
            return gl;
        }
    }

    return NULL;
}


static bool
check_over(const world_t *w, const glease_t *gl)
{
    return gl->over_us != 0 || gl->end_us <= w->now_us;
}


/* the latest sessions; the oldest goes first */

static gsession_t *
check_session(glease_t *gl, uint64_t sid, bool add)
{
    unsigned  i;

    for (i = 0; i < gl->nsession; i++) {
        if (gl->session[i].sid == sid) {
            return &gl->session[i];
        }
    }

    if (!add) {
        return NULL;
    }

    i = gl->nsession;

    if (i == sizeof(gl->session) / sizeof(gl->session[0])) {
        for (i = 0; !gl->session[i].out; i++) { /* void */ }

        memmove(&gl->session[i], &gl->session[i + 1],
                (gl->nsession - i - 1) * sizeof(gsession_t));
        gl->nsession--;
    }

    i = gl->nsession++;
    memset(&gl->session[i], 0, sizeof(gsession_t));
    gl->session[i].sid = sid;
    gl->session[i].out = true;

    return &gl->session[i];
}


static bool
check_look(world_t *w, uint64_t ident, ims_pool_look_t *look)
{
    return w->truth != NULL
           && ims_pool_look(w->truth, ident, look) == IMS_POOL_OK;
}


static bool
check_look_live(const ims_pool_look_t *look)
{
    return look->rec.lease > look->fence && look->pt < look->rec.end
           && !(look->rec.flags & IMS_POOL_F_OFF);
}


static bool
check_pool(world_t *w, ims_pool_t *pool)
{
    int              rc;
    ims_pool_look_t  look;

    if (!check_look(w, w->identity[0].ident, &look)
        || ims_pool_snap(w->truth) != IMS_POOL_OK)
    {
        return false;
    }

    rc = ims_pool_pool(w->truth->txn, w->truth->dbi, look.rec.pool, pool);
    ims_pool_unsnap(w->truth);

    return rc == IMS_POOL_OK;
}


/* a lease begins: nobody else may have anything left of the identity */

static glease_t *
check_begin(world_t *w, identity_t *id, const pm_cmd_t *c, uint64_t at,
    bool ending)
{
    unsigned   u;
    glease_t  *gl, *old;

    old = id->now;

    if (old && !check_over(w, old)) {

        if (!ending && old->end_us > w->now_us + SLACK) {
            world_fail(w, "told", "%s: lease %llx of user %u is live, %llx is "
                       "given to user %u", id->impi,
                       (unsigned long long) old->lease, old->user,
                       (unsigned long long) c->r_lease, c->user);
        }

        old->over_us = w->now_us;
    }

    for (u = 0; u < WORLD_USERS; u++) {
        if (u != c->user && id->rest_us[u] > at + SLACK) {
            world_fail(w, "told", "%s: given to user %u, %llu ms before what "
                       "was promised to user %u has rested", id->impi, c->user,
                       (unsigned long long) (id->rest_us[u] - at) / MS, u);
        }
    }

    if (c->r_lease <= w->last_lease) {
        world_fail(w, "told", "%s: lease id %llx was given before", id->impi,
                   (unsigned long long) c->r_lease);
    }

    w->last_lease = c->r_lease;

    if (old && old->user != c->user) {
        w->count[C_handed_on]++;
    }

    gl = calloc(1, sizeof(glease_t));
    if (gl == NULL) {
        abort();
    }

    gl->ident = id->ident;
    gl->lease = c->r_lease;
    gl->epoch = w->epoch;
    gl->user = c->user;
    gl->index = (unsigned) (id - w->identity);
    gl->next = w->leases;
    w->leases = gl;
    id->now = gl;

    return gl;
}


/* nobody has two: what was left of a lease whose identity closes ends */

static void
check_only(world_t *w, const pm_cmd_t *c)
{
    unsigned   i;
    glease_t  *gl;

    for (i = 0; i < w->config.idents; i++) {
        gl = w->identity[i].now;

        if (gl && gl->user == c->user && gl->ident != c->r_ident
            && !check_over(w, gl))
        {
            gl->over_us = w->now_us;
        }
    }
}


/* a session enters; a fifth takes the place of the one that ends first */

static void
check_replace(glease_t *gl, gsession_t *gs)
{
    unsigned     i, n;
    gsession_t  *first;

    if (!gs->out) {
        return;
    }

    first = NULL;
    n = 0;

    for (i = 0; i < gl->nsession; i++) {

        if (gl->session[i].out) {
            continue;
        }

        n++;

        if (first == NULL || gl->session[i].end_us < first->end_us) {
            first = &gl->session[i];
        }
    }

    if (n >= IMS_POOL_SESSIONS) {
        first->out = true;
    }

    gs->out = false;
    gs->end_us = 0;
}


/* pool time as true time: what is over lies back */

static uint64_t
check_us(const world_t *w, uint64_t pt, uint64_t at)
{
    if (at >= pt) {
        return w->now_us + (at - pt) * MS;
    }

    return (pt - at) * MS < w->now_us ? w->now_us - (pt - at) * MS : 0;
}


static void
check_granted(world_t *w, const pm_cmd_t *c, bool ending)
{
    uint64_t     pt, at, end, rest;
    glease_t    *gl;
    gsession_t  *gs;
    identity_t  *id;

    id = check_identity(w, c->r_ident);

    if (id == NULL) {
        world_fail(w, "told", "lease of an unknown identity");
        return;
    }

    /*
     * A batch in which the process was killed may come up with the next start.
     * It was given, and promised, when it was done: the lease may have run out
     * since.
     */

    pt = w->truth ? ims_pool_pt(w->truth) : c->now;
    at = check_us(w, pt, c->now);
    end = check_us(w, pt, c->end);

    if (c->how == IMS_POOL_SAME) {
        gl = id->now;
        w->count[C_renewed]++;

        if (gl == NULL || gl->lease != c->r_lease || gl->user != c->user
            || (check_over(w, gl) && gl->end_us + SLACK < at))
        {
            world_fail(w, "told", "%s: lease %llx goes on for user %u, who has "
                       "not got it", id->impi,
                       (unsigned long long) c->r_lease, c->user);
            return;
        }

    } else {
        check_only(w, c);
        gl = check_begin(w, id, c, at, ending);
        w->count[c->how == IMS_POOL_NEW ? C_acquired : C_returned]++;
    }

    gs = check_session(gl, c->sid, true);
    check_replace(gl, gs);

    if (gs->end_us < end) {
        gs->end_us = end;
    }

    if (gs->promised_us < end) {
        gs->promised_us = end;
    }

    if (gl->end_us < end) {
        gl->end_us = end;
    }

    rest = gl->end_us + (w->pool_delay + w->pool_margin) * MS;

    if (id->rest_us[gl->user] < rest) {
        id->rest_us[gl->user] = rest;
    }

    /* a lease that was ended before its time has promised what it had */

    if (id->promised_us < gl->end_us) {
        id->promised_us = gl->end_us;
    }

    rest = id->promised_us + (w->pool_delay + w->pool_margin) * MS;

    if (id->latest_us < rest) {
        id->latest_us = rest;
    }

    TRACE(w, "pool: %s is user %u's, lease %llx, sid %llx, for %llu ms (%s)",
          id->impi, gl->user, (unsigned long long) gl->lease,
          (unsigned long long) c->sid, (unsigned long long) (c->end - c->now),
          c->how == IMS_POOL_SAME ? "same"
          : c->how == IMS_POOL_NEW ? "new" : "returned");
}


/* a session leaves; the lease is as long as the longest that stays */

static void
check_released(world_t *w, const pm_cmd_t *c)
{
    unsigned     i;
    uint64_t     end;
    glease_t    *gl;
    gsession_t  *gs;

    gl = check_lease(w, c->ident, c->lease);

    if (gl == NULL || gl->user != c->user) {
        world_fail(w, "told", "user %u releases what he has not got", c->user);
        return;
    }

    gs = check_session(gl, c->sid, false);
    end = w->now_us;

    if (gs) {
        gs->out = true;
    }

    for (i = 0; i < gl->nsession; i++) {
        if (!gl->session[i].out && gl->session[i].end_us > end) {
            end = gl->session[i].end_us;
        }
    }

    gl->end_us = end;

    if (c->ended) {
        gl->over_us = w->now_us;
    }
}


/* a binding was seen: it rests that long at least, whoever had it */

static void
check_reported(world_t *w, const pm_cmd_t *c)
{
    uint64_t     pt, rest;
    identity_t  *id;

    id = check_identity(w, c->ident);
    pt = w->truth ? ims_pool_pt(w->truth) : c->b;

    if (id == NULL || id->now == NULL || c->b <= pt) {
        return;
    }

    rest = w->now_us + (c->b - pt + w->pool_margin) * MS;

    if (id->rest_us[id->now->user] < rest) {
        id->rest_us[id->now->user] = rest;
    }

    if (id->latest_us < rest) {
        id->latest_us = rest;
    }
}


/* proven: nothing of it is left at the core, or will be */

static void
check_purged(world_t *w, const pm_cmd_t *c)
{
    unsigned          i, u;
    identity_t       *id;
    const binding_t  *b;

    id = check_identity(w, c->r_ident);
    w->count[C_purged]++;

    if (id == NULL) {
        return;
    }

    for (i = 0; i < WORLD_BINDINGS; i++) {
        b = &id->binding[i];

        if (w->config.strict && b->used && b->until_us > w->now_us) {
            world_fail(w, "purged", "%s is purged and still bound for user %u "
                       "for %llu ms", id->impi, b->gl->user,
                       (unsigned long long) (b->until_us - w->now_us) / MS);
        }
    }

    for (u = 0; u < WORLD_USERS; u++) {
        if (id->rest_us[u] > w->now_us + w->pool_margin * MS) {
            id->rest_us[u] = w->now_us + w->pool_margin * MS;
        }
    }

    id->promised_us = w->now_us;
    id->latest_us = w->now_us + w->pool_margin * MS;

    TRACE(w, "pool: %s is purged", id->impi);
}


static bool
check_ends(const pm_cmd_t *c)
{
    return c->rc == IMS_POOL_OK
           && (c->op == PM_RELEASE || c->op == PM_REVOKE_LEASE
               || c->op == PM_REVOKE_IMPU || c->op == PM_REVOKE_USER
               || c->op == PM_REVOKE_POOL || c->op == PM_DISABLE);
}


/* what ghosts and records say must be the same */

static void
check_sync(world_t *w, bool ending)
{
    bool             live;
    unsigned         i;
    glease_t        *gl;
    identity_t      *id;
    ims_pool_look_t  look;

    for (i = 0; i < w->config.idents; i++) {
        id = &w->identity[i];
        gl = id->now;

        if (gl == NULL || gl->epoch != w->epoch
            || !check_look(w, id->ident, &look))
        {
            continue;
        }

        if (look.rec.lease != gl->lease) {
            world_fail(w, "told", "%s: lease %llx of user %u was told and is "
                       "not there, but %llx", id->impi,
                       (unsigned long long) gl->lease, gl->user,
                       (unsigned long long) look.rec.lease);
            return;
        }

        live = check_look_live(&look);

        if (gl->over_us == 0 && gl->end_us > w->now_us + SLACK && !live) {

            if (!ending) {
                world_fail(w, "told", "%s: lease %llx of user %u was told and "
                           "has ended %llu ms too soon", id->impi,
                           (unsigned long long) gl->lease, gl->user,
                           (unsigned long long) (gl->end_us - w->now_us) / MS);
            }

            gl->over_us = w->now_us;
            TRACE(w, "pool: lease %llx of user %u (%s) has ended",
                  (unsigned long long) gl->lease, gl->user, id->impi);
        }

        if (gl->over_us == 0 && live
            && w->now_us + (look.rec.end - look.pt) * MS + 10 * SLACK
               < gl->end_us)
        {
            world_fail(w, "told", "%s: lease %llx of user %u was told until "
                       "%llu ms from now and has %llu ms", id->impi,
                       (unsigned long long) gl->lease, gl->user,
                       (unsigned long long) (gl->end_us - w->now_us) / MS,
                       (unsigned long long) (look.rec.end - look.pt));
        }

        if (gl->over_us != 0 && live) {
            world_fail(w, "told", "%s: lease %llx has ended and is live again",
                       id->impi, (unsigned long long) gl->lease);
        }
    }
}


void
check_batch(world_t *w, const pm_cmd_t *cmd, unsigned n)
{
    bool             ending;
    unsigned         i;
    const pm_cmd_t  *c;

    ending = false;

    for (i = 0; i < n; i++) {
        c = &cmd[i];
        ending = ending || check_ends(c);

        if (c->rc != IMS_POOL_OK) {
            w->count[C_exhausted] += c->rc == IMS_POOL_EXHAUSTED;
            w->count[C_held] += c->rc == IMS_POOL_HOLD;

            if (c->op == PM_REPLAY) {
                w->count[C_unproven]++;
                TRACE(w, "no replay: %s", w->pm->err);
            }

            continue;
        }

        switch (c->op) {

        case PM_ACQUIRE:
        case PM_RENEW:
            check_granted(w, c, ending);
            break;

        case PM_ALTER:
            w->pool_ttl = c->a;
            w->pool_delay = c->b;
            w->pool_margin = c->c;
            w->pm->delay = c->b;
            w->count[C_alters]++;
            TRACE(w, "pool: ttl %llu, D %llu, margin %llu ms",
                  (unsigned long long) c->a, (unsigned long long) c->b,
                  (unsigned long long) c->c);
            break;

        case PM_RELEASE:
            w->count[C_released]++;
            check_released(w, c);
            break;

        case PM_REVOKE_POOL:
            w->count[C_fenced]++;
            break;

        case PM_REPORT:
            w->count[C_reports]++;
            check_reported(w, c);
            break;

        case PM_PURGE_NEXT:
            w->count[C_purges]++;
            break;

        case PM_PURGED:
            check_purged(w, c);
            break;

        case PM_TICK:
        case PM_ENABLE:
            break;

        case PM_REPLAY:
            w->count[C_replayed]++;
            TRACE(w, "the hold is ended by the log, %llu are held",
                  (unsigned long long) c->a);
            break;

        default:
            w->count[C_revoked]++;
            break;
        }
    }

    check_sync(w, ending);
}


/* can it be seen that this command was committed? */

static bool
check_seen(world_t *w, const pm_cmd_t *c)
{
    unsigned          i;
    glease_t         *gl;
    gsession_t       *gs;
    ims_pool_t        pool;
    ims_pool_look_t   look;

    if (c->rc != IMS_POOL_OK) {
        return false;
    }

    switch (c->op) {

    case PM_ACQUIRE:
    case PM_RENEW:
        if (!check_look(w, c->r_ident, &look)
            || look.rec.lease != c->r_lease)
        {
            return false;
        }

        gl = check_lease(w, c->r_ident, c->r_lease);

        if (gl == NULL) {
            return true;
        }

        gs = check_session(gl, c->sid, false);

        for (i = 0; i < look.rec.nsession; i++) {
            if (look.rec.session[i].sid == c->sid
                && look.rec.session[i].end == c->end)
            {
                return gs == NULL
                       || gs->end_us + SLACK
                          < w->now_us + (c->end - look.pt) * MS;
            }
        }

        return false;

    case PM_PURGED:
        return check_look(w, c->r_ident, &look)
               && look.rec.lease == c->r_lease
               && (look.rec.flags & IMS_POOL_F_PURGED);

    case PM_RELEASE:
        gl = check_lease(w, c->ident, c->lease);
        gs = gl ? check_session(gl, c->sid, false) : NULL;

        if (gs == NULL || gs->out || !check_look(w, c->ident, &look)) {
            return false;
        }

        for (i = 0; i < look.rec.nsession; i++) {
            if (look.rec.session[i].sid == c->sid) {
                return look.rec.lease != c->lease;
            }
        }

        return true;

    case PM_ALTER:
        return check_pool(w, &pool)
               && pool.head.ttl == c->a && pool.head.delay == c->b
               && pool.head.margin == c->c
               && (w->pool_ttl != c->a || w->pool_delay != c->b
                   || w->pool_margin != c->c);

    default:
        if (!check_ends(c)) {
            return false;
        }

        for (i = 0; i < w->config.idents; i++) {
            gl = w->identity[i].now;

            if (gl && gl->epoch == w->epoch && !check_over(w, gl)
                && check_look(w, gl->ident, &look)
                && (!check_look_live(&look) || look.rec.lease != gl->lease))
            {
                return true;
            }
        }

        return false;
    }
}


/* all of a batch is there, or nothing of it */

bool
check_crash(world_t *w, const pm_cmd_t *cmd, unsigned n)
{
    unsigned  i;

    for (i = 0; i < n; i++) {
        if (check_seen(w, &cmd[i])) {
            w->count[C_pm_mid_commit]++;
            check_batch(w, cmd, n);
            return true;
        }
    }

    check_sync(w, false);

    return false;
}


/* pool time stood still: everything in it is later now, in true time */

void
check_reboot(world_t *w)
{
    int64_t    now, shift;
    unsigned   i, u;
    glease_t  *gl;

    if (w->truth == NULL) {
        return;
    }

    now = (int64_t) (w->now_us / MS) - (int64_t) ims_pool_pt(w->truth);

    if (w->pt_ms == 0) {
        w->pt_ms = now;
        return;
    }

    shift = now - w->pt_ms;

    if (shift < -2 && w->config.strict) {
        world_fail(w, "clock", "pool time is %lld ms ahead",
                   (long long) -shift);
    }

    w->pt_ms = now;

    if (shift <= 0) {
        return;
    }

    for (gl = w->leases; gl; gl = gl->next) {
        gl->end_us += (uint64_t) shift * MS;

        for (i = 0; i < gl->nsession; i++) {
            gl->session[i].end_us += (uint64_t) shift * MS;
            gl->session[i].promised_us += (uint64_t) shift * MS;
        }
    }

    for (i = 0; i < w->config.idents; i++) {
        w->identity[i].promised_us += (uint64_t) shift * MS;
        w->identity[i].latest_us += (uint64_t) shift * MS;

        for (u = 0; u < WORLD_USERS; u++) {
            if (w->identity[i].rest_us[u]) {
                w->identity[i].rest_us[u] += (uint64_t) shift * MS;
            }
        }
    }
}


/* every lease that was given has ended; what rests is not forgotten here */

void
check_restored(world_t *w)
{
    unsigned   i;
    glease_t  *gl;

    for (gl = w->leases; gl; gl = gl->next) {
        if (!check_over(w, gl)) {
            gl->over_us = w->now_us;
        }
    }

    for (i = 0; i < w->config.idents; i++) {
        w->identity[i].now = NULL;
    }

    w->pool_ttl = w->backup_pool[0];
    w->pool_delay = w->backup_pool[1];
    w->pool_margin = w->backup_pool[2];
    w->pm->delay = w->pool_delay;

    w->epoch++;
    w->last_lease = 0;
    w->pt_ms = 0;
}


bool
check_live(world_t *w, const glease_t *gl, uint64_t sid, uint64_t *end_pt,
    uint64_t *pt)
{
    unsigned         i;
    ims_pool_look_t  look;

    if (gl == NULL || gl->epoch != w->epoch
        || !check_look(w, gl->ident, &look) || look.rec.lease != gl->lease
        || !check_look_live(&look))
    {
        return false;
    }

    for (i = 0; i < look.rec.nsession; i++) {
        if (look.rec.session[i].sid == sid
            && look.pt < look.rec.session[i].end)
        {
            if (end_pt) {
                *end_pt = look.rec.session[i].end;
                *pt = look.pt;
            }

            return true;
        }
    }

    return false;
}


/* -- at the sockets ------------------------------------------------------ */

/*
 * A client's own de-REGISTER may leave as long as nobody else can have begun
 * (POOL.md 1, small print): for what is still his.
 */

static void
check_leaving(world_t *w, const cmsg_t *m)
{
    const glease_t    *gl;
    const identity_t  *id;

    gl = m->gl;
    id = &w->identity[gl->index];

    if (id->now == NULL || id->now->user != gl->user
        || m->looked_us + w->config.delay_us
           > id->rest_us[gl->user] + SLACK)
    {
        world_fail(w, "late", "a de-REGISTER of user %u leaves when %s is "
                   "not his any more", gl->user, id->impi);
    }
}


/* x; UINT32_MAX: it is no REGISTER */

static uint32_t
check_expires(const ims_sip_msg_t *sip)
{
    uint32_t  x;

    if (sip->method_id != IMS_SIP_M_REGISTER
        || !ims_sip_delta(ims_sip_hdr_value(sip, IMS_SIP_H_EXPIRES), &x))
    {
        return UINT32_MAX;
    }

    return x;
}


static void
check_asked(world_t *w, const cmsg_t *m, const ims_sip_msg_t *sip)
{
    uint32_t           x;
    ims_str_t          value;
    gsession_t        *gs;
    ims_sip_values_t   it;
    ims_sip_contact_t  c;

    ims_sip_values(&it, sip, IMS_SIP_H_CONTACT);

    if (ims_sip_value_next(&it, &value) != 1
        || !ims_sip_contact_parse(value, &c) || c.star)
    {
        return;
    }

    /* both places, since registrars differ in what they believe */

    if (!ims_sip_delta(ims_sip_hdr_value(sip, IMS_SIP_H_EXPIRES), &x)
        || c.expires.name.p == NULL
        || !ims_str_eq(c.expires.value,
                       ims_sip_hdr_value(sip, IMS_SIP_H_EXPIRES)))
    {
        world_fail(w, "asked", "Expires and Contact's expires differ");
        return;
    }

    if (x == 0) {
        return;
    }

    gs = check_session(m->gl, m->sid, false);

    if (gs == NULL || m->looked_us + x * SEC > gs->promised_us + SLACK) {
        world_fail(w, "asked", "user %u, lease %llx: asks for %u s, promised "
                   "are %lld ms", m->gl->user,
                   (unsigned long long) m->gl->lease, x,
                   gs ? ((long long) gs->promised_us
                         - (long long) m->looked_us) / 1000 : 0);
    }
}


void
check_core_write(world_t *w, const cmsg_t *m, const ims_sip_msg_t *sip)
{
    uint64_t         over, most;
    const glease_t  *gl;

    gl = m->gl;

    if (gl == NULL) {
        world_fail(w, "late", "a message of nobody's lease leaves the edge");
        return;
    }

    most = m->delay * MS / 2 > 2 * SEC ? m->delay * MS / 2 : 2 * SEC;

    if (w->config.strict && !m->other
        && w->now_us > m->looked_us + most + SLACK)
    {
        world_fail(w, "slow", "%.*s written %llu ms after the look",
                   IMS_STR_ARG(sip->method),
                   (unsigned long long) (w->now_us - m->looked_us) / MS);
    }

    if (m->own) {
        return;
    }

    if (check_expires(sip) == 0) {
        check_leaving(w, m);
        return;
    }

    over = gl->over_us ? gl->over_us : gl->end_us;

    if (over < w->now_us && w->now_us - over > m->delay * MS + SLACK) {
        world_fail(w, "late", "%.*s of user %u leaves %llu ms after lease "
                   "%llx has ended", IMS_STR_ARG(sip->method), gl->user,
                   (unsigned long long) (w->now_us - over) / MS,
                   (unsigned long long) gl->lease);
    }

    if (sip->method_id == IMS_SIP_M_REGISTER) {
        check_asked(w, m, sip);
    }
}


void
check_delivery(world_t *w, const session_t *s, unsigned index)
{
    if (s->gl == NULL || s->gl->index != index) {
        world_fail(w, "delivered", "a message for identity %u reaches a flow "
                   "of identity %d", index, s->gl ? (int) s->gl->index : -1);
        return;
    }

    if (!check_live(w, s->gl, s->sid, NULL, NULL)) {
        world_fail(w, "delivered", "a message for %s reaches user %u, whose "
                   "lease %llx or session is not live",
                   w->identity[index].impi, s->gl->user,
                   (unsigned long long) s->gl->lease);
    }
}


void
check_told(world_t *w, const session_t *s, uint32_t told)
{
    uint64_t  end, pt;

    if (told == 0) {
        return;
    }

    if (!check_live(w, s->gl, s->sid, &end, &pt)) {
        world_fail(w, "lied", "user %u is told that he is registered for %u s "
                   "on an ended lease", s->gl ? s->gl->user : NOBODY, told);

    } else if (pt + told * 1000ull > end) {
        world_fail(w, "lied", "user %u is told that he is registered for %u s,"
                   " the lease has %llu ms", s->gl->user, told,
                   (unsigned long long) (end - pt));
    }
}


void
check_bound(world_t *w, const session_t *s)
{
    unsigned                i, k, pos;
    ims_flow_ident_t        id;
    const ims_flow_data_t  *d;

    if (!w->config.strict || s->gl == NULL) {
        return;
    }

    d = ims_flow_peek(&w->flows, s->slot);

    for (pos = 0; ims_flow_identity(d, &pos, &id); /* void */) {

        for (i = 0; i < w->config.idents; i++) {
            for (k = 0; k < w->identity[i].nimpu; k++) {

                if (i != s->gl->index
                    && ims_sip_uri_same(id.uri,
                                        ims_str_z(w->identity[i].impu[k])))
                {
                    world_fail(w, "asserted", "user %u's flow may assert %s",
                               s->gl->user, w->identity[i].impu[k]);
                }
            }
        }
    }
}


void
check_slot(world_t *w, uint32_t slot, glease_t *gl)
{
    uint32_t   gen;
    glease_t  *old;

    gen = ims_flow_generation(&w->flows, slot);
    old = w->slot_gl[slot];

    if (w->config.strict && old && gl && w->slot_gen[slot] == gen
        && (old->user != gl->user || old->index != gl->index))
    {
        world_fail(w, "holder", "flow %u goes from user %u, identity %u, to "
                   "user %u, identity %u", slot, old->user, old->index,
                   gl->user, gl->index);
    }

    w->slot_gl[slot] = gl;
    w->slot_gen[slot] = gen;
}


/* right after a worker has read the feed on its timer */

void
check_sessions(world_t *w, worker_t *k)
{
    uint64_t         over;
    session_t       *s;
    const glease_t  *gl;

    if (!w->config.strict || w->now_us < k->ran_us + 2 * SEC) {
        return;
    }

    for (s = k->sessions; s; s = s->next) {
        gl = s->gl;

        if (gl == NULL || s->closing) {
            continue;
        }

        over = gl->over_us ? gl->over_us : gl->end_us;

        if (over + 1100 * MS < w->now_us) {
            world_fail(w, "open", "user %u's flow is open %llu ms after lease "
                       "%llx has ended", gl->user,
                       (unsigned long long) (w->now_us - over) / MS,
                       (unsigned long long) gl->lease);
            return;
        }
    }
}


void
check_deregister(world_t *w, uint32_t slot, const ims_flow_data_t *d)
{
    unsigned                i;
    session_t              *s;
    const glease_t         *gl;
    const ims_flow_data_t  *o;

    if (!w->config.strict) {
        return;
    }

    gl = check_lease(w, d->ident, d->lease);

    if (gl == NULL || w->identity[gl->index].now != gl) {
        world_fail(w, "ours", "the edge de-registers for lease %llx, which "
                   "is not the identity's any more",
                   (unsigned long long) d->lease);
        return;
    }

    if (w->now_us + w->config.delay_us
        >= w->identity[gl->index].latest_us + SLACK)
    {
        world_fail(w, "ours", "the edge de-registers for lease %llx in the "
                   "last D of its rest", (unsigned long long) d->lease);
    }

    for (i = 0; i < w->config.workers; i++) {

        if (!w->worker[i].alive) {
            continue;
        }

        for (s = w->worker[i].sessions; s; s = s->next) {

            if (s->slot == NO_SLOT || s->slot == slot || !s->registered
                || s->closing || w->slot_us[s->slot] < w->slot_us[slot]
                || ims_flow_owner(&w->flows, s->slot) != s->owner)
            {
                continue;
            }

            o = ims_flow_peek(&w->flows, s->slot);

            if (o->lease == d->lease
                && ims_str_eq(ims_flow_contact(o), ims_flow_contact(d)))
            {
                world_fail(w, "newer", "the edge de-registers the contact of "
                           "flow %u, which flow %u has", slot, s->slot);
            }
        }
    }
}


/* -- at the registrar ---------------------------------------------------- */

void
check_binding(world_t *w, unsigned index, const binding_t *b)
{
    unsigned          i;
    identity_t       *id;
    const binding_t  *o;

    id = &w->identity[index];

    for (i = 0; i < WORLD_BINDINGS; i++) {
        o = &id->binding[i];

        if (o->used && o->until_us > w->now_us && o->gl->user != b->gl->user) {
            world_fail(w, "holders", "%s is bound for user %u and, for %llu ms "
                       "more, for user %u", id->impu[b->impu], b->gl->user,
                       (unsigned long long) (o->until_us - w->now_us) / MS,
                       o->gl->user);
        }
    }

    if (w->config.strict && b->until_us > id->rest_us[b->gl->user] + SLACK) {
        world_fail(w, "outlives", "%s is bound for user %u for %llu ms longer "
                   "than was promised", id->impu[b->impu], b->gl->user,
                   (unsigned long long) (b->until_us
                                         - id->rest_us[b->gl->user]) / MS);
    }
}


void
check_unbinding(world_t *w, unsigned index, const binding_t *b,
    const cmsg_t *m, ims_str_t contact)
{
    if (!w->config.strict || b->until_us <= w->now_us) {
        return;
    }

    if (b->gl->user != m->gl->user) {
        world_fail(w, "removed", "%s: a de-REGISTER of user %u's takes away "
                   "user %u's binding", w->identity[index].impu[b->impu],
                   m->gl->user, b->gl->user);

    } else if (m->own && !ims_str_eq(ims_str_z(b->contact), contact)) {
        world_fail(w, "removed", "%s: the edge's de-REGISTER of <%.*s> takes "
                   "away <%s>", w->identity[index].impu[b->impu],
                   IMS_STR_ARG(contact), b->contact);
    }
}


/* -- at the end ---------------------------------------------------------- */

void
check_end(world_t *w)
{
    uint32_t  slot;

    if (!w->config.strict) {
        return;
    }

    for (slot = 0; slot < w->flows.nslots; slot++) {
        if (ims_flow_owner(&w->flows, slot) != 0) {
            world_fail(w, "slots", "slot %u is still taken: owner %llx",
                       slot, (unsigned long long) ims_flow_owner(&w->flows,
                                                                 slot));
        }
    }
}
