/*
 * Copyright (C) nginx-ims contributors
 *
 * The daemon's batches, and ims_identity with its client of the pool manager
 * (ngx_http_ims_identity.c, ngx_http_ims_pool_client.c): commands with nonce
 * and deadline, answers in order, a token for the right user.
 */

#include "world.h"


#define SITE_TIMEOUT    2000        /* ms */
#define SITE_LEASE_MIN  2000        /* ms */
#define SITE_CALLS      16


static void site_turn(world_t *w, event_t *e);
static void site_answer_event(world_t *w, event_t *e);


/* -- the daemon ---------------------------------------------------------- */

static void
site_queue(world_t *w, const pm_cmd_t *cmd)
{
    if (w->pm_pid == 0 || w->pm_nqueue == PM_BATCH * 4) {
        return;
    }

    w->pm_queue[w->pm_nqueue++] = *cmd;

    if (!w->pm_turn) {
        w->pm_turn = true;
        world_event(w, w->now_us + world_below(w, 5 * MS), site_turn);
    }
}


static void
site_answers(world_t *w)
{
    unsigned   i;
    event_t   *e;
    pm_cmd_t  *c;
    uint64_t   at;

    at = w->now_us;

    for (i = 0; i < w->pm->n; i++) {
        c = &w->pm->cmd[i];

        if (c->worker == NULL || c->op == PM_PURGED) {
            continue;
        }

        /* in order: one stream a worker */

        at += world_chance(w, 20) ? world_below(w, 3 * SEC)
                                  : world_below(w, 2 * MS);

        e = world_worker_event(w, c->worker, at, c->op == PM_PURGE_NEXT
                                                 ? purge_job
                                                 : site_answer_event);
        e->life = c->life;
        e->p = malloc(sizeof(pm_cmd_t));

        if (e->p == NULL) {
            abort();
        }

        *(pm_cmd_t *) e->p = *c;
    }
}


/* two answers change places: the daemon, or what is between, is broken */

static void
site_swap(world_t *w)
{
    pm_cmd_t   t;
    pm_cmd_t  *a, *b;
    worker_t  *k;

    if (w->pm->n < 2 || !world_may(w, WORLD_F_SWAP) || !world_chance(w, 30)) {
        return;
    }

    a = &w->pm->cmd[0];
    b = &w->pm->cmd[1];

    if (a->worker && a->worker == b->worker && a->life == b->life
        && a->conn == b->conn && a->op < PM_PURGE_NEXT
        && b->op < PM_PURGE_NEXT)
    {
        t = *a;
        *a = *b;
        *b = t;
        k = a->worker;
        w->count[C_swapped]++;
        TRACE(w, "worker %u: two answers are swapped", k->index);
    }
}


static void
site_kill_at(world_t *w)
{
    pm_t  *pm;

    pm = w->pm;
    pm->kill = PM_KILL_NOT;

    if (!world_may(w, WORLD_F_PM_KILL) || !world_chance(w, 150)) {
        return;
    }

    pm->kill = (pm_kill_e) (1 + world_below(w, 4));
    pm->kill_at = (unsigned) world_below(w, 4);
}


static void
site_turn(world_t *w, event_t *e)
{
    unsigned   i;
    pm_cmd_t  *c;
    pm_t      *pm;

    (void) e;

    pm = w->pm;
    w->pm_turn = false;

    if (w->pm_pid == 0) {
        w->pm_nqueue = 0;
        return;
    }

    if (w->pm_stalled_us > w->now_us) {
        w->pm_turn = true;
        world_event(w, w->pm_stalled_us, site_turn);
        return;
    }

    pm->n = w->pm_nqueue < PM_BATCH ? w->pm_nqueue : PM_BATCH;

    for (i = 0; i < pm->n; i++) {
        c = &pm->cmd[i];
        *c = w->pm_queue[i];
        c->late = c->deadline_ms && world_boottime(w) >= c->deadline_ms;
    }

    w->pm_nqueue -= pm->n;
    memmove(w->pm_queue, w->pm_queue + pm->n,
            w->pm_nqueue * sizeof(pm_cmd_t));

    site_kill_at(w);

    if (!pm_batch(w)) {

        if (world_mutant == MU_TOLD_EARLY && pm->done == pm->n) {
            check_batch(w, pm->cmd, pm->n);
        }

        world_pm_crashed(w);
        return;
    }

    if (pm->rc != IMS_POOL_OK) {
        world_fail(w, "told", "commit: %d", pm->rc);
        return;
    }

    check_batch(w, pm->cmd, pm->n);
    site_swap(w);
    site_answers(w);

    if (w->pm_nqueue) {
        w->pm_turn = true;
        world_event(w, w->now_us + MS, site_turn);
    }
}


/* from the command line */

void
site_admin(world_t *w, const pm_cmd_t *cmd)
{
    site_queue(w, cmd);
}


/* -- ims_identity -------------------------------------------------------- */

static void
site_arrive(world_t *w, event_t *e)
{
    site_queue(w, e->p);
}


static void
site_send(world_t *w, const pm_cmd_t *cmd)
{
    event_t  *e;

    /* a stream keeps its order: the way there takes no time worth a model */

    e = world_event(w, w->now_us, site_arrive);
    e->p = malloc(sizeof(pm_cmd_t));

    if (e->p == NULL) {
        abort();
    }

    *(pm_cmd_t *) e->p = *cmd;
}


static void
site_post(world_t *w, event_t *e)
{
    unsigned   i;
    worker_t  *k;
    device_t  *d;
    pm_cmd_t   cmd;

    k = e->worker;
    d = &w->device[e->a];

    for (i = 0; i < SITE_CALLS && k->call[i].used; i++) { /* void */ }

    if (w->pm_pid == 0 || i == SITE_CALLS) {
        user_answered(w, d, SITE_AWAY, 5);
        return;
    }

    memset(&cmd, 0, sizeof(cmd));
    cmd.op = (pm_op_e) e->b;
    cmd.user = d->user;
    cmd.worker = k;
    cmd.life = k->life;
    cmd.conn = k->conn;
    cmd.call = ++k->calls;
    cmd.nonce = world_rnd(w);
    cmd.deadline_ms = world_boottime(w) + SITE_TIMEOUT;

    /* made before the call: a repeated call is for the same session */

    if (d->sid == 0) {
        d->sid = world_rnd(w) | 1;
    }

    cmd.sid = d->sid;
    cmd.ident = d->token.ident;
    cmd.lease = d->token.lease;

    if (cmd.op != PM_ACQUIRE && !d->token.there) {
        user_answered(w, d, IMS_POOL_ENDED, 0);
        return;
    }

    k->call[i].used = true;
    k->call[i].call = cmd.call;
    k->call[i].nonce = cmd.nonce;
    k->call[i].asked_ms = world_boottime(w);
    k->call[i].deadline_ms = cmd.deadline_ms;
    k->call[i].device = d->index;
    k->call[i].user = d->user;
    k->call[i].sid = d->sid;
    k->call[i].op = cmd.op;

    site_send(w, &cmd);
}


void
site_ask(world_t *w, worker_t *k, device_t *d, pm_op_e op)
{
    event_t  *e;

    d->asking = true;

    e = world_worker_event(w, k, w->now_us + world_below(w, 20 * MS),
                           site_post);
    e->a = d->index;
    e->b = op;
}


/* everything of the connection fails, and it is made anew */

static void
site_reset(world_t *w, worker_t *k)
{
    unsigned  i;

    k->conn++;

    for (i = 0; i < SITE_CALLS; i++) {
        if (k->call[i].used) {
            k->call[i].used = false;
            user_answered(w, &w->device[k->call[i].device], SITE_AWAY, 1);
        }
    }
}


void
site_worker_gone(world_t *w, worker_t *k)
{
    site_reset(w, k);
}


/* who gave up keeps its place: the answers of a stream have their order */

void
site_timer(world_t *w, worker_t *k)
{
    unsigned  i;

    for (i = 0; i < SITE_CALLS; i++) {
        if (k->call[i].used
            && world_boottime(w) > k->call[i].deadline_ms + 1000)
        {
            site_reset(w, k);
            return;
        }
    }
}


static bool
site_sign(world_t *w, device_t *d, const pm_cmd_t *c, uint64_t left,
    glease_t *gl, uint64_t sid)
{
    uint8_t                    sub[IMS_TOKEN_SUB_LEN];
    int64_t                    wall;
    unsigned                   i;
    token_t                   *t;
    ims_token_err_t            err;
    static ims_token_claims_t  k;

    memset(&k, 0, sizeof(k));

    k.iss = w->issuer.iss;
    k.aud = w->issuer.aud;
    k.scope = IMS_STR(IMS_TOKEN_SCOPE);
    k.sub = ims_str_set(sub, ims_b64url_encode(sub, c->holder,
                                               sizeof(c->holder)));
    k.impi = ims_str_z(c->impi);
    k.nimpu = c->nimpu;

    for (i = 0; i < c->nimpu; i++) {
        k.impu[i] = ims_str_z(c->impu[i]);
    }

    k.ident = c->r_ident;
    k.lease_id = c->r_lease;
    k.session = sid;
    k.pool = IMS_STR(WORLD_POOL);

    wall = (int64_t) world_wall(w);
    k.iat = wall / 1000;
    k.nbf = k.iat;
    k.exp = (wall + (int64_t) left) / 1000 - 1;

    if (d->token.there) {
        user_keep(w, d);
    }

    t = &d->token;

    if (ims_token_sign(w->sign, &k, (uint8_t *) t->text, sizeof(t->text),
                       &t->n, &err)
        != 0)
    {
        world_fail(w, "begin", "no token: %s %s",
                   ims_token_strerror(err.code), err.claim ? err.claim : "");
        return false;
    }

    t->there = true;
    t->gl = gl;
    t->sid = sid;
    t->ident = c->r_ident;
    t->lease = c->r_lease;

    d->nimpu = c->nimpu;

    for (i = 0; i < c->nimpu; i++) {
        snprintf(d->impu[i], sizeof(d->impu[i]), "%s", c->impu[i]);
    }

    d->ends_us = w->now_us + left * MS;

    return true;
}


static void
site_granted(world_t *w, device_t *d, const pm_cmd_t *c, unsigned i,
    worker_t *k)
{
    uint64_t   passed;
    glease_t  *gl;

    passed = world_boottime(w) - k->call[i].asked_ms;

    if (c->end - c->now < passed + SITE_LEASE_MIN) {
        user_answered(w, d, SITE_AWAY, 1);
        return;
    }

    if (d->user != k->call[i].user) {
        /* somebody else sits there now */
        user_answered(w, d, SITE_AWAY, 1);
        return;
    }

    /*
     * The ghost is that of who asked: with a stranger's answer the token
     * names a lease that he has not got.
     */

    gl = check_lease(w, c->r_ident, c->r_lease);

    if (gl && gl->user != d->user) {
        world_fail(w, "told", "user %u is given the lease of user %u",
                   d->user, gl->user);
        return;
    }

    if (gl && site_sign(w, d, c, c->end - c->now - passed, gl,
                        k->call[i].sid))
    {
        user_answered(w, d, IMS_POOL_OK, 0);
    }
}


static void
site_answer_event(world_t *w, event_t *e)
{
    unsigned   i, j;
    worker_t  *k;
    device_t  *d;
    pm_cmd_t  *c;

    k = e->worker;
    c = e->p;

    if (c->conn != k->conn) {
        return;
    }

    /* the oldest that waits */

    j = SITE_CALLS;

    for (i = 0; i < SITE_CALLS; i++) {
        if (k->call[i].used
            && (j == SITE_CALLS || k->call[i].call < k->call[j].call))
        {
            j = i;
        }
    }

    if (j == SITE_CALLS) {
        return;
    }

    /* refusals do not repeat the nonce */

    if (c->rc == IMS_POOL_OK && c->nonce != k->call[j].nonce
        && world_mutant != MU_NO_NONCE)
    {
        w->count[C_mismatch]++;
        TRACE(w, "worker %u: an answer has another's nonce", k->index);
        site_reset(w, k);
        return;
    }

    d = &w->device[k->call[j].device];
    k->call[j].used = false;

    if (c->rc == IMS_POOL_OK
        && (c->op == PM_ACQUIRE || c->op == PM_RENEW))
    {
        site_granted(w, d, c, j, k);
        return;
    }

    if (c->rc == IMS_POOL_ENDED && d->token.there
        && c->op == PM_RENEW)
    {
        d->token.there = false;
    }

    if (c->rc == IMS_POOL_OK && c->op == PM_RELEASE && d->token.there) {
        user_keep(w, d);
        d->token.there = false;
    }

    user_answered(w, d, c->rc, c->retry_s);
}


/* unacknowledged, and lost now and then */

void
site_report(world_t *w, worker_t *k, uint64_t ident, uint64_t lease,
    uint64_t flow, uint64_t until)
{
    pm_cmd_t  cmd;

    (void) k;

    if (world_chance(w, 3)) {
        return;
    }

    memset(&cmd, 0, sizeof(cmd));
    cmd.op = PM_REPORT;
    cmd.ident = ident;
    cmd.lease = lease;
    cmd.a = flow;
    cmd.b = until;

    site_send(w, &cmd);
}
