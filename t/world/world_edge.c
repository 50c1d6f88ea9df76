/*
 * Copyright (C) nginx-ims contributors
 *
 * Workers, WebSockets, and flows: the sequence of ngx_http_ims_worker.c,
 * _pool.c, _session.c, _flow.c, _dispatch.c, _terminating.c and
 * _originating.c.  Functions are in the order of those files and named like
 * them.
 */

#include <unistd.h>

#include "world.h"
#include "flow/ims_flow_shm.h"


#define EDGE_LEASE_CHECK       1000     /* ms */
#define EDGE_SWEEP             1000
#define EDGE_REGISTER_TIMEOUT  32000
#define EDGE_SLICE             2        /* flows a turn; there: 256 */


static void edge_lease_check(world_t *w, event_t *e);
static void edge_sweep(world_t *w, event_t *e);
static void edge_open_pool(world_t *w, worker_t *k);
static void edge_recheck(world_t *w, worker_t *k, uint64_t ident);
static void edge_detach(world_t *w, session_t *s);
static void edge_arm(world_t *w, session_t *s);
static uint64_t edge_bound(world_t *w, worker_t *k, uint32_t slot, bool sure);
static int edge_index(world_t *w, session_t *s);
static void edge_taken(world_t *w, session_t *s);


/* -- workers ------------------------------------------------------------- */

static worker_t *
edge_worker(world_t *w, uint64_t id)
{
    unsigned  i;

    for (i = 0; i < w->config.workers; i++) {
        if (w->worker[i].alive && w->worker[i].id == id) {
            return &w->worker[i];
        }
    }

    return NULL;
}


bool
edge_alive(void *arg, const ims_flow_worker_t *me)
{
    return edge_worker(arg, me->id) != NULL;
}


static bool
edge_table(world_t *w)
{
    char  err[IMS_FLOW_ERR_LEN];

    if (w->flows_open) {
        return true;
    }

    w->flows_open = ims_flow_table_open(&w->flows, w->state, WORLD_SLOTS,
                                        (uid_t) -1, err)
                    == IMS_FLOW_OK;

    return w->flows_open;
}


bool
edge_start(world_t *w, worker_t *k)
{
    uint32_t          life;
    unsigned          index;
    ims_trans_conf_t  conf;

    life = k->life;
    index = k->index;
    memset(k, 0, sizeof(worker_t));
    k->index = index;
    k->life = life + 1;

    if (!edge_table(w)) {
        return false;
    }

    k->alive = true;
    k->id = world_rnd(w) | 1;
    k->ran_us = w->now_us;
    k->me.id = k->id;
    k->me.start_ms = world_boottime(w);
    k->me.pid = getpid();

    if (ims_flow_join(&w->flows, &k->me, edge_alive, w) != IMS_FLOW_OK) {
        return false;
    }

    conf.max = 4096;
    conf.max_flow = 64;
    conf.cache = 65536;
    k->trans = ims_trans_pool_create(&conf);

    edge_open_pool(w, k);

    TRACE(w, "worker %u starts, pool %s", k->index,
          k->reader ? "open" : "not open");

    world_worker_timer(w, k, w->now_us + EDGE_LEASE_CHECK * MS,
                       edge_lease_check);
    world_worker_timer(w, k, w->now_us + world_below(w, EDGE_SWEEP * MS),
                       edge_sweep);

    return true;
}


/* in the middle of a write, which will never end */

static void
edge_tear(world_t *w, worker_t *k)
{
    uint64_t          owner;
    uint32_t          slot;
    ims_flow_slot_t  *s;

    for (slot = 0; slot < w->flows.nslots; slot++) {
        s = ims_flow_slot(&w->flows, slot);
        owner = s->owner;

        if (ims_flow_owner_row(owner) == k->me.row
            && ims_flow_owner_gen(owner) == k->me.row_gen
            && !ims_flow_seq_odd(s->seq) && world_chance(w, 2))
        {
            w->count[C_torn]++;
            TRACE(w, "flow %u is torn", slot);
            s->seq = ims_flow_seq_write(s->seq, owner);
            memset(&s->data.area[8], 0xee, 200);
            s->data.lease ^= 1;
            return;
        }
    }
}


static void
edge_client_closed(world_t *w, event_t *e)
{
    conn_t  *c;

    c = edge_conn(w, e->a);

    if (c) {
        c->client_open = false;
        user_closed(w, &w->device[c->device], c);
    }
}


/* the client sees the end after what was sent before it */

static void
edge_conn_close(world_t *w, conn_t *c)
{
    c->edge_open = false;
    c->session = NULL;
    c->down_us = (c->down_us > w->now_us ? c->down_us : w->now_us)
                 + world_delay(w, SEC);
    world_event(w, c->down_us, edge_client_closed)->a = c->id;
}


static void
edge_session_free(session_t *s)
{
    ims_reg_grant_free(s->grant);
    free(s);
}


void
edge_kill(world_t *w, worker_t *k, bool torn)
{
    unsigned   i;
    session_t *s;

    if (torn) {
        edge_tear(w, k);
    }

    for (i = 0; i < WORLD_CONNS; i++) {
        if (w->conn[i].id && w->conn[i].worker == k
            && w->conn[i].life == k->life && w->conn[i].edge_open)
        {
            edge_conn_close(w, &w->conn[i]);
        }
    }

    while (k->slices) {
        s = k->slices;
        k->slices = s->next;
        edge_session_free(s);
    }

    while (k->sessions) {
        s = k->sessions;
        k->sessions = s->next;
        edge_session_free(s);
    }

    link_clear(k);
    ims_trans_pool_destroy(k->trans);
    k->trans = NULL;
    ims_pool_close(k->reader);
    k->reader = NULL;
    k->alive = false;
    site_worker_gone(w, k);
}


/* -- the pool's reader --------------------------------------------------- */

/* one environment a process: the workers here share it */

bool
edge_open_base(world_t *w, int *rc)
{
    *rc = IMS_POOL_OK;

    if (w->base_reader == NULL) {
        *rc = ims_pool_open_clock(&w->base_reader, w->dir, &w->clock, NULL,
                                  0);
    }

    if (*rc == IMS_POOL_OK && w->truth == NULL) {
        *rc = ims_pool_reader_borrow(&w->truth, w->base_reader->env,
                                     w->base_reader->dbi, &w->clock, NULL);
    }

    return *rc == IMS_POOL_OK;
}


void
edge_close_base(world_t *w)
{
    ims_pool_close(w->truth);
    ims_pool_close(w->base_reader);
    w->truth = NULL;
    w->base_reader = NULL;
}


static void
edge_open_pool(world_t *w, worker_t *k)
{
    int                 rc;
    ims_pool_reader_t  *r;

    if (!edge_open_base(w, &rc)
        || ims_pool_reader_borrow(&r, w->base_reader->env,
                                  w->base_reader->dbi, &w->clock, NULL)
           != IMS_POOL_OK)
    {
        return;
    }

    k->reader = r;

    /* flows that are older than this reader may have ended unheard */

    edge_recheck(w, k, 0);
}


static void
edge_feed_row(void *ctx, const ims_pool_feed_row_t *row)
{
    world_t   *w;
    unsigned   i;

    w = ((void **) ctx)[0];
    i = (unsigned) (uintptr_t) ((void **) ctx)[1];

    edge_recheck(w, &w->worker[i], row->ident);
}


int
edge_feed(world_t *w, worker_t *k)
{
    int    rc;
    void  *ctx[2];

    if (k->reader == NULL) {
        return E_ERROR;
    }

    if (world_mutant == MU_NO_FEED) {
        return E_OK;
    }

    ctx[0] = w;
    ctx[1] = (void *) (uintptr_t) k->index;

    rc = ims_pool_feed(k->reader, edge_feed_row, ctx);

    if (rc != 0) {
        TRACE(w, "worker %u: feed %d, up to %llu", k->index, rc,
              (unsigned long long) k->reader->feed_seq);
    }

    if (rc >= 0) {
        return E_OK;
    }

    if (rc == IMS_POOL_GAP) {
        w->count[C_gaps]++;
        edge_recheck(w, k, 0);
        return E_OK;
    }

    w->count[C_reopened]++;
    ims_pool_close(k->reader);
    k->reader = NULL;
    edge_open_pool(w, k);

    return k->reader ? E_OK : E_ERROR;
}


/* a turn of the event loop is as long as it can be: until the next check */

static void
edge_lease_check(world_t *w, event_t *e)
{
    worker_t   *k;
    session_t  *s;

    k = e->worker;

    if (k->reader == NULL) {
        edge_open_pool(w, k);

    } else {
        ims_pool_turn_end(k->reader);
        (void) edge_feed(w, k);
    }

    check_sessions(w, k);
    site_timer(w, k);
    purge_ask(w, k);

    for (s = k->sessions; s; s = s->next) {
        if (!s->registered && !s->closing
            && world_boottime(w) - s->opened_ms >= EDGE_REGISTER_TIMEOUT)
        {
            edge_close(w, s, "not registered");
        }
    }

    world_worker_timer(w, k, w->now_us + EDGE_LEASE_CHECK * MS,
                       edge_lease_check);
}


static void
edge_sweep(world_t *w, event_t *e)
{
    sweeper_turn(w, e->worker);
    world_worker_timer(w, e->worker, w->now_us + EDGE_SWEEP * MS, edge_sweep);
}


uint64_t
edge_pt(world_t *w, worker_t *k)
{
    uint64_t  pt;

    pt = ims_pool_pt(k->reader);

    return world_mutant == MU_WALL_CLOCK ? pt + (uint64_t) w->wall_ms : pt;
}


static int
edge_looked(world_t *w, int rc)
{
    if (rc != IMS_POOL_OK) {
        return rc == IMS_POOL_NOTFOUND ? E_DECLINED : E_ERROR;
    }

    if (world_mutant == MU_WALL_CLOCK) {
        w->look.pt += (uint64_t) w->wall_ms;
    }

    if (world_mutant == MU_DELAY_OF_POOL) {
        w->look.delay = w->pool_delay;
    }

    return E_OK;
}


/* ngx_http_ims_register_look(); its own first lines are the feed's */

int
edge_names(world_t *w, worker_t *k, uint64_t ident)
{
    if (edge_feed(w, k) != E_OK) {
        return E_ERROR;
    }

    ims_pool_turn_begin(k->reader);

    return edge_looked(w, ims_pool_look_names(k->reader, ident, &w->look,
                                              &w->names));
}


int
edge_record(world_t *w, worker_t *k, uint64_t ident)
{
    if (k->reader == NULL) {
        return E_ERROR;
    }

    ims_pool_turn_begin(k->reader);

    return edge_looked(w, ims_pool_look(k->reader, ident, &w->look));
}


/* -- WebSockets ---------------------------------------------------------- */

conn_t *
edge_conn(world_t *w, uint64_t id)
{
    conn_t  *c;

    c = &w->conn[id % WORLD_CONNS];

    return id && c->id == id ? c : NULL;
}


conn_t *
edge_connect(world_t *w, device_t *d, worker_t *k)
{
    conn_t     *c;
    session_t  *s;

    c = &w->conn[(w->conns + 1) % WORLD_CONNS];

    if (c->edge_open || c->client_open) {
        /* an old one is still there: leave it that number */
        w->conns++;
        return NULL;
    }

    s = calloc(1, sizeof(session_t));
    if (s == NULL) {
        abort();
    }

    memset(c, 0, sizeof(conn_t));
    c->id = ++w->conns;
    c->device = d->index;
    c->worker = k;
    c->life = k->life;
    c->client_open = true;
    c->edge_open = true;
    c->session = s;

    s->worker = k;
    s->conn = c;
    s->serial = ++k->serial;
    s->slot = NO_SLOT;
    s->opened_ms = world_boottime(w);
    s->next = k->sessions;
    k->sessions = s;

    TRACE(w, "device %u of user %u: connection %llu to worker %u", d->index,
          d->user, (unsigned long long) c->id, k->index);

    return c;
}


static void
edge_client_got(world_t *w, event_t *e)
{
    conn_t         *c;
    wmsg_t         *m;
    device_t       *d;
    ims_sip_err_t   err;

    m = e->p;
    c = edge_conn(w, m->conn);

    if (c == NULL || !c->client_open) {
        return;
    }

    d = &w->device[c->device];
    memcpy(w->input, m->text, m->n);

    if (d->conn == c->id
        && ims_sip_parse(&w->sip, w->input, m->n, IMS_SIP_WS, &err) == 0)
    {
        user_got(w, d, &w->sip);
    }
}


void
edge_send(world_t *w, session_t *s, const uint8_t *p, size_t n)
{
    conn_t   *c;
    event_t  *e;
    wmsg_t   *m;

    c = s->conn;

    if (!c->client_open) {
        return;
    }

    m = malloc(sizeof(wmsg_t) + n);
    if (m == NULL) {
        abort();
    }

    m->conn = c->id;
    m->n = n;
    memcpy(m->text, p, n);

    c->down_us = (c->down_us > w->now_us ? c->down_us : w->now_us)
                 + world_delay(w, SEC);

    e = world_event(w, c->down_us, edge_client_got);
    e->p = m;
}


void
edge_reply(world_t *w, session_t *s, const ims_sip_msg_t *m, unsigned status,
    const char *reason, const char *extra)
{
    ptrdiff_t        n;
    ims_sip_reply_t  r;

    TRACE(w, "worker %u: %.*s answered %u %s", s->worker->index,
          IMS_STR_ARG(m->method), status, reason);

    memset(&r, 0, sizeof(r));
    r.status = status;
    r.reason = reason;
    r.to_tag = IMS_STR("edge");
    r.received = IMS_STR("192.0.2.1");
    r.extra = ims_str_z(extra ? extra : "");

    n = ims_sip_reply(w->message, sizeof(w->message), m, &r);

    if (n > 0) {
        edge_send(w, s, w->message, (size_t) n);
    }
}


static session_t *
edge_by_serial(worker_t *k, uint32_t serial)
{
    session_t  *s;

    for (s = k->sessions; s; s = s->next) {
        if (s->serial == serial) {
            return s;
        }
    }

    return NULL;
}


static void
edge_closing(world_t *w, event_t *e)
{
    session_t  *s, **p;

    s = edge_by_serial(e->worker, (uint32_t) e->a);

    if (s == NULL) {
        return;
    }

    if (!s->detached) {
        s->detached = 1;
        edge_detach(w, s);
    }

    for (p = &e->worker->sessions; *p != s; p = &(*p)->next) { /* void */ }

    *p = s->next;

    edge_conn_close(w, s->conn);
    edge_session_free(s);
}


void
edge_close(world_t *w, session_t *s, const char *why)
{
    if (s->closing) {
        return;
    }

    s->closing = 1;
    TRACE(w, "worker %u: session %u closes: %s", s->worker->index, s->serial,
          why);

    world_worker_event(w, s->worker, w->now_us, edge_closing)->a = s->serial;
}


void
edge_client_gone(world_t *w, event_t *e)
{
    conn_t  *c;

    c = edge_conn(w, e->a);

    if (c && c->session) {
        edge_close(w, c->session, "client is gone");
    }
}


/* -- a flow's slot ------------------------------------------------------- */

static void
edge_own(world_t *w, session_t *s, uint32_t slot, uint32_t generation)
{
    (void) w;

    s->slot = slot;
    s->generation = generation;
    s->owner = ims_flow_owner_word(&s->worker->me, s->serial);
}


static int
edge_new(world_t *w, session_t *s)
{
    uint32_t  slot, generation;

    if (ims_flow_alloc(&w->flows,
                       ims_flow_owner_word(&s->worker->me, s->serial), &slot,
                       &generation)
        != IMS_FLOW_OK)
    {
        return E_DECLINED;
    }

    edge_own(w, s, slot, generation);

    return E_OK;
}


static void
edge_taken_event(world_t *w, event_t *e)
{
    uint64_t    owner;
    session_t  *s;

    memcpy(&owner, e->p, sizeof(owner));
    s = edge_session(e->worker, (uint32_t) e->a, (uint32_t) e->b);

    if (s && s->owner == owner) {
        edge_taken(w, s);
    }
}


static void
edge_close_event(world_t *w, event_t *e)
{
    session_t  *s;

    s = edge_session(e->worker, (uint32_t) e->a, (uint32_t) e->b);

    if (s) {
        edge_close(w, s, "replaced by a newer connection");
    }
}


static event_t *
edge_datagram(world_t *w, uint64_t owner, event_pt fn, uint32_t slot,
    uint32_t generation)
{
    event_t            *e;
    worker_t           *k;
    ims_flow_worker_t   other;

    if (!ims_flow_worker_of(&w->flows, owner, &other)) {
        return NULL;
    }

    k = edge_worker(w, other.id);

    if (k == NULL) {
        return NULL;
    }

    e = world_worker_event(w, k, w->now_us + world_below(w, 20 * MS), fn);
    e->a = slot;
    e->b = generation;

    return e;
}


static void
edge_tell_old(world_t *w, worker_t *k, uint64_t owner, uint32_t slot,
    uint32_t generation)
{
    event_t    *e;
    session_t  *s;

    if (!ims_flow_is_owned(owner)) {
        return;
    }

    if (ims_flow_owner_row(owner) == k->me.row
        && ims_flow_owner_gen(owner) == k->me.row_gen)
    {
        s = edge_session(k, slot, generation);

        if (s) {
            edge_taken(w, s);
        }

        return;
    }

    e = edge_datagram(w, owner, edge_taken_event, slot, generation);

    if (e) {
        e->p = malloc(sizeof(owner));

        if (e->p == NULL) {
            abort();
        }

        memcpy(e->p, &owner, sizeof(owner));
    }
}


static int
edge_take(world_t *w, session_t *s, const ims_reg_grant_t *g, uint32_t slot,
    uint32_t generation)
{
    uint64_t                mine;
    worker_t               *k;
    ims_flow_rc_t           rc;
    ims_flow_view_t        *view;
    const ims_flow_data_t  *data;

    k = s->worker;
    view = &w->view;

    rc = ims_flow_read(&w->flows, slot, view);

    if (rc == IMS_FLOW_DEAD) {
        (void) ims_flow_free_dead(&w->flows, slot, &k->me, edge_alive, w);
        return E_AGAIN;
    }

    if (rc != IMS_FLOW_OK) {
        return rc == IMS_FLOW_BUSY ? E_BUSY : E_AGAIN;
    }

    if (view->generation != generation
        || view->data.ident != g->ident
        || view->data.lease != g->lease
        || memcmp(view->data.holder, g->holder, IMS_POOL_HOLDER_LEN) != 0
        || (view->data.flags & IMS_FLOW_F_NO_TAKEOVER))
    {
        return edge_new(w, s);
    }

    if (ims_flow_is_claim(view->owner)
        && ims_flow_owner_alive(&w->flows, view->owner, &k->me, edge_alive, w))
    {
        w->count[C_busy_claim]++;
        return E_BUSY;
    }

    mine = ims_flow_owner_word(&k->me, s->serial);
    rc = ims_flow_swap(&w->flows, slot, generation, view->owner, mine);

    switch (rc) {

    case IMS_FLOW_OK:
        break;

    case IMS_FLOW_BUSY:
        return E_BUSY;

    case IMS_FLOW_DEAD:
        (void) ims_flow_free_dead(&w->flows, slot, &k->me, edge_alive, w);
        return E_AGAIN;

    default:
        return E_AGAIN;
    }

    data = ims_flow_peek(&w->flows, slot);

    if (data->lease != g->lease
        || memcmp(data->holder, g->holder, IMS_POOL_HOLDER_LEN) != 0)
    {
        (void) ims_flow_release(&w->flows, slot, mine, world_boottime(w));
        edge_tell_old(w, k, view->owner, slot, generation);
        return edge_new(w, s);
    }

    w->count[C_took_over]++;
    TRACE(w, "worker %u: session %u takes over flow %u", k->index, s->serial,
          slot);

    edge_tell_old(w, k, view->owner, slot, generation);
    edge_own(w, s, slot, generation);
    edge_registered(w, s, edge_bound(w, k, slot, true));

    return E_OK;
}


int
edge_attach(world_t *w, session_t *s, const ims_reg_grant_t *g,
    const uint8_t *instance, bool has)
{
    int       rc;
    uint32_t  slot, generation;
    unsigned  tries;

    if (s->slot != NO_SLOT) {
        return ims_flow_owner(&w->flows, s->slot) == s->owner ? E_OK : E_BUSY;
    }

    if (!has) {
        return edge_new(w, s);
    }

    for (tries = 0; tries < 3; tries++) {

        if (ims_flow_find(&w->flows, g->lease, instance, &slot, &generation)
            != IMS_FLOW_OK)
        {
            return edge_new(w, s);
        }

        rc = edge_take(w, s, g, slot, generation);

        if (rc != E_AGAIN) {
            return rc;
        }
    }

    return E_BUSY;
}


static void
edge_taken(world_t *w, session_t *s)
{
    s->slot = NO_SLOT;
    s->registered = 0;

    edge_close(w, s, "replaced by a newer connection");
}


static void
edge_detach(world_t *w, session_t *s)
{
    uint32_t   slot;
    uint64_t   now;
    worker_t  *k;

    k = s->worker;

    if (s->slot == NO_SLOT) {
        return;
    }

    slot = s->slot;
    s->slot = NO_SLOT;

    if (ims_flow_owner(&w->flows, slot) != s->owner) {
        return;
    }

    if (edge_bound(w, k, slot, false) == 0) {
        (void) ims_flow_free(&w->flows, slot, s->owner, &k->me);
        return;
    }

    now = world_boottime(w);

    if (s->flow_over) {
        now = now > w->config.grace ? now - w->config.grace : 1;
    }

    (void) ims_flow_release(&w->flows, slot, s->owner, now);
}


static uint64_t
edge_bound(world_t *w, worker_t *k, uint32_t slot, bool sure)
{
    uint64_t                pt, until;
    unsigned                pos;
    ims_flow_ident_t        id;
    const ims_flow_data_t  *data;

    pt = k->reader ? edge_pt(w, k) : 0;
    data = ims_flow_peek(&w->flows, slot);
    until = 0;

    if (data->lease == 0) {
        return 0;
    }

    for (pos = 0; ims_flow_identity(data, &pos, &id); /* void */) {
        if (id.until_pt > pt && id.until_pt > until && !(sure && id.tag)) {
            until = id.until_pt;
        }
    }

    return until;
}


session_t *
edge_session(worker_t *k, uint32_t slot, uint32_t generation)
{
    session_t  *s;

    for (s = k->sessions; s; s = s->next) {
        if (s->slot == slot
            && (s->generation == generation
                || world_mutant == MU_NO_GENERATION))
        {
            return s;
        }
    }

    return NULL;
}


static void
edge_displace(world_t *w, worker_t *k, uint32_t slot)
{
    uint32_t    generation;
    session_t  *s;

    generation = ims_flow_generation(&w->flows, slot);
    s = edge_session(k, slot, generation);

    if (s) {
        edge_close(w, s, "replaced by a newer connection");
        return;
    }

    (void) edge_datagram(w, ims_flow_owner(&w->flows, slot), edge_close_event,
                         slot, generation);
}


/* w->data to the slot */

int
edge_write(world_t *w, session_t *s)
{
    if (ims_flow_write(&w->flows, s->slot, s->owner, &w->data)
        != IMS_FLOW_OK)
    {
        return E_ERROR;
    }

    check_slot(w, s->slot, s->gl);

    if (world_mutant == MU_ANSWER_ENTERS) {
        (void) edge_index(w, s);
    }

    return E_OK;
}


static int
edge_index(world_t *w, session_t *s)
{
    uint32_t       other;
    ims_flow_rc_t  rc;

    rc = ims_flow_index_put(&w->flows, s->slot, &other);

    if (!(w->data.flags & IMS_FLOW_F_INSTANCE)) {
        /* only so that the sweeper knows which flow of a Contact is newest */
        return E_OK;
    }

    if (rc == IMS_FLOW_OK && other != IMS_FLOW_NONE) {
        edge_displace(w, s->worker, other);
    }

    return rc == IMS_FLOW_STALE ? E_ERROR : E_OK;
}


/* the same, and it is the newest of its lease and device */

int
edge_enter(world_t *w, session_t *s)
{
    const ims_flow_data_t  *old;

    old = ims_flow_peek(&w->flows, s->slot);

    if (old->lease != w->data.lease
        || memcmp(old->instance, w->data.instance, 16) != 0)
    {
        ims_flow_index_del(&w->flows, s->slot);
    }

    if (edge_write(w, s) != E_OK) {
        return E_ERROR;
    }

    return edge_index(w, s);
}


/* -- its lease ----------------------------------------------------------- */

void
edge_lease(world_t *w, session_t *s, const ims_reg_grant_t *g, glease_t *gl,
    uint64_t end)
{
    s->ident = g->ident;
    s->lease = g->lease;
    s->sid = g->sid;
    s->end = end;
    s->delay = w->look.delay;
    s->epoch = s->worker->epoch;
    s->gl = gl;
    memcpy(s->holder, g->holder, IMS_POOL_HOLDER_LEN);

    edge_arm(w, s);
}


static void
edge_lease_timer(world_t *w, event_t *e)
{
    uint64_t    pt;
    worker_t   *k;
    session_t  *s;

    k = e->worker;
    s = edge_by_serial(k, (uint32_t) e->a);

    if (s == NULL || s->closing || s->timer != e->b) {
        return;
    }

    pt = k->reader ? edge_pt(w, k) : 0;

    if (s->registered && s->until <= pt) {
        edge_registered(w, s, 0);
    }

    if (k->reader && pt < s->end) {
        edge_arm(w, s);
        return;
    }

    if (edge_look(w, s) == E_ERROR) {
        e = world_worker_timer(w, k, w->now_us + EDGE_LEASE_CHECK * MS,
                               edge_lease_timer);
        e->a = s->serial;
        e->b = s->timer;
    }
}


static void
edge_arm(world_t *w, session_t *s)
{
    event_t   *e;
    uint64_t   pt, left;

    pt = s->worker->reader ? edge_pt(w, s->worker) : s->end;
    left = s->end > pt ? s->end - pt : 0;

    if (s->registered && s->until < s->end) {
        left = s->until > pt ? s->until - pt : 0;
    }

    if (left > 24 * 3600 * 1000) {
        left = 24 * 3600 * 1000;
    }

    e = world_worker_timer(w, s->worker, w->now_us + (left + 1) * MS,
                           edge_lease_timer);
    e->a = s->serial;
    e->b = ++s->timer;
}


void
edge_registered(world_t *w, session_t *s, uint64_t until)
{
    s->registered = until != 0;
    s->until = until;

    if (s->registered) {
        edge_arm(w, s);
        return;
    }

    s->opened_ms = world_boottime(w);
}


int
edge_look(world_t *w, session_t *s)
{
    int               rc;
    uint64_t          end;
    worker_t         *k;
    ims_pool_lapse_e  lapse;

    k = s->worker;
    rc = edge_record(w, k, s->ident);

    if (rc == E_ERROR) {
        return E_ERROR;
    }

    lapse = rc == E_DECLINED ? IMS_POOL_LAPSE_OFF
            : ims_pool_check_lease(&w->look, s->lease, s->sid, s->holder,
                                   w->look.pt, &end);

    if (lapse == IMS_POOL_LIVE) {
        s->end = end;
        s->delay = w->look.delay;
        s->epoch = k->epoch;
        edge_arm(w, s);
        return E_OK;
    }

    if (world_mutant == MU_NO_CLOSE) {
        s->end = w->look.pt + 3600000;
        return E_DECLINED;
    }

    w->count[C_ended_flows]++;
    TRACE(w, "worker %u: session %u: lease %llx: %s", k->index, s->serial,
          (unsigned long long) s->lease, ims_pool_lapse_text(lapse));

    s->flow_over = 1;
    s->registered = 0;
    edge_close(w, s, "lease ended");

    return E_DECLINED;
}


int
edge_check(world_t *w, session_t *s)
{
    worker_t  *k;

    k = s->worker;

    if (edge_feed(w, k) != E_OK) {
        return E_ERROR;
    }

    if (s->closing) {
        return E_DECLINED;
    }

    if (s->epoch == k->epoch
        && (edge_pt(w, k) < s->end || world_mutant == MU_NO_FLOW_END))
    {
        return E_OK;
    }

    return edge_look(w, s);
}


static void
edge_recheck_slice(world_t *w, event_t *e)
{
    unsigned    n;
    worker_t   *k;
    session_t  *s;

    k = e->worker;

    for (n = 0; n < EDGE_SLICE; n++) {

        for (s = k->sessions; s && s->epoch == k->epoch; s = s->next) {
            /* void */
        }

        if (s == NULL) {
            return;
        }

        /* there it leaves the list of those that wait; here by its epoch */

        s->epoch = k->epoch;

        if (s->ident && !s->closing && edge_look(w, s) == E_ERROR) {
            s->end = 0;
            edge_arm(w, s);
        }
    }

    world_worker_event(w, k, w->now_us + world_below(w, 50 * MS),
                       edge_recheck_slice);
}


static void
edge_recheck(world_t *w, worker_t *k, uint64_t ident)
{
    session_t  *s;

    if (ident == 0) {

        if (world_mutant == MU_NO_EPOCH) {
            return;
        }

        k->epoch++;
        world_worker_event(w, k, w->now_us, edge_recheck_slice);
        return;
    }

    for (s = k->sessions; s; s = s->next) {
        if (s->ident == ident && !s->closing && edge_look(w, s) == E_ERROR) {
            s->end = 0;
            edge_arm(w, s);
        }
    }
}


/* -- messages ------------------------------------------------------------ */

static void
edge_originating(world_t *w, session_t *s, ims_sip_msg_t *m)
{
    char                sent_by[64];
    uint8_t             branch[IMS_FLOW_BRANCH_MAX];
    tdata_t            *d;
    unsigned            n;
    ptrdiff_t           len;
    ims_str_t           via, out;
    ims_trans_t        *t;
    ims_flow_id_t       id;
    ims_trans_key_t     key;
    ims_flow_branch_t   b;

    if (!s->registered) {
        edge_reply(w, s, m, 403, "Register First", NULL);
        return;
    }

    switch (edge_check(w, s)) {

    case E_OK:
        break;

    case E_DECLINED:
        w->count[C_originated_403]++;
        edge_reply(w, s, m, 403, "Lease Ended", NULL);
        return;

    default:
        edge_reply(w, s, m, 503, "Pool Unavailable", NULL);
        return;
    }

    n = (unsigned) snprintf(sent_by, sizeof(sent_by), "%.*s",
                            IMS_STR_ARG(m->via.host));

    key.slot = s->slot;
    key.generation = s->generation;
    key.direction = IMS_TRANS_TO_CORE;
    key.branch = m->via.branch.value;
    key.sent_by = ims_str_set(sent_by, n);
    key.method = m->method;

    if (ims_trans_new(s->worker->trans, &key, &t) != IMS_TRANS_OK) {
        return;
    }

    id.node = 1;
    id.slot = s->slot;
    id.generation = s->generation;

    memset(&b, 0, sizeof(b));
    b.direction = IMS_TRANS_TO_CORE;
    b.cseq = m->cseq;
    b.via_sent_by = m->via.host;
    b.via_branch = m->via.branch.value;
    b.call_id = m->call_id;
    b.from_tag = m->from_tag;
    b.r_uri = m->uri;

    out = ims_str_set(branch, ims_flow_branch_make(&w->keys, &id, &b,
                                                   branch));

    ims_sip_edit_init(&w->edit, m, w->scratch, sizeof(w->scratch));
    via = ims_sip_edit_cat(&w->edit, (ims_str_t[]) {
                               IMS_STR("SIP/2.0/TCP edge.example:5060;branch="),
                               out }, 2);
    ims_sip_edit_top(&w->edit, "Via", via);
    len = ims_sip_edit_flatten(&w->edit, w->message, sizeof(w->message));
    d = trans_data(s->worker, t, TRANS_OTHER, 0);

    if (len < 0) {
        world_fail(w, "begin", "a client's MESSAGE cannot be passed");
        trans_free(w, s->worker, t);
        return;
    }

    ims_trans_set_branch(s->worker->trans, t, out, m->method);
    out = ims_str_set(w->message, (size_t) len);

    if (!ims_trans_save(s->worker->trans, &t->request, &out, 1)) {
        abort();
    }

    /* as _originating.c has it */

    d->peer = (unsigned) world_below(w, WORLD_PEERS);
    d->serial = s->serial;
    d->gl = s->gl;
    d->looked_ms = world_boottime(w);
    d->looked_pt = edge_pt(w, s->worker);
    d->first_write_ms = d->looked_ms + 2000;
    d->delay = world_mutant == MU_OTHERS_ANY_D || s->delay > 64000 ? 64000
               : s->delay;
    d->end_ms = d->looked_ms + 32000;

    if (link_send_trans(w, s->worker, t, s->sid) == E_OK) {
        w->count[C_originated]++;

    } else {
        trans_free(w, s->worker, t);
    }
}


void
edge_client_message(world_t *w, event_t *e)
{
    conn_t         *c;
    wmsg_t         *m;
    session_t      *s;
    ims_sip_err_t   err;

    m = e->p;
    c = edge_conn(w, m->conn);
    s = c ? c->session : NULL;

    if (s == NULL || s->closing) {
        return;
    }

    memcpy(w->input, m->text, m->n);

    if (ims_sip_parse(&w->sip, w->input, m->n, IMS_SIP_WS, &err) != 0) {
        world_fail(w, "begin", "a client's message is malformed: %s",
                   err.reason);
        return;
    }

    if (w->sip.method_id == IMS_SIP_M_REGISTER) {
        reg_request(w, s, &w->sip, m->gl);

    } else {
        edge_originating(w, s, &w->sip);
    }
}


/* of the core, for the client: tmsg_t */

static void
edge_here(world_t *w, session_t *s, const tmsg_t *m)
{
    if (!s->registered || edge_check(w, s) != E_OK) {
        w->count[C_refused_430]++;
        return;
    }

    w->count[C_delivered]++;
    check_delivery(w, s, m->index);
}


void
edge_request(world_t *w, event_t *e)
{
    uint64_t           owner;
    event_t           *there;
    tmsg_t            *m;
    worker_t          *k;
    session_t         *s;
    ims_flow_rc_t      rc;
    ims_flow_token_t   token;

    m = e->p;
    k = e->worker;

    if (ims_flow_token_core(&w->keys, ims_str_z(m->token), IMS_STR("x"),
                            &token)
        != IMS_FLOW_TOKEN_OK)
    {
        world_fail(w, "begin", "a flow token is not ours");
        return;
    }

    s = edge_session(k, token.id.slot, token.id.generation);

    if (s && !s->closing
        && ims_flow_owner(&w->flows, s->slot) == s->owner)
    {
        edge_here(w, s, m);
        return;
    }

    rc = ims_flow_resolve(&w->flows, token.id.slot, token.id.generation,
                          &owner);

    if (world_mutant == MU_NO_GENERATION && rc == IMS_FLOW_STALE) {
        rc = IMS_FLOW_OK;
    }

    if (rc == IMS_FLOW_OK && ims_flow_is_owned(owner) && m->hop < 3
        && ims_flow_owner_row(owner) != k->me.row)
    {
        there = edge_datagram(w, owner, edge_request, token.id.slot,
                              token.id.generation);

        if (there) {
            there->p = malloc(sizeof(tmsg_t));

            if (there->p == NULL) {
                abort();
            }

            *(tmsg_t *) there->p = *m;
            ((tmsg_t *) there->p)->hop++;
            return;
        }
    }

    w->count[C_refused_430]++;
}


/* of the core, to a request of ours: cmsg_t, hop in a */

void
edge_response(world_t *w, event_t *e)
{
    uint64_t        owner;
    cmsg_t         *m;
    event_t        *there;
    tdata_t        *d;
    worker_t       *k;
    ims_trans_t    *t;
    ims_flow_id_t   id;
    ims_sip_err_t   err;

    m = e->p;
    k = e->worker;

    memcpy(w->input, m->text, m->n);

    if (ims_sip_parse(&w->sip, w->input, m->n, IMS_SIP_STREAM, &err) != 0) {
        world_fail(w, "begin", "the core's answer is malformed: %s",
                   err.reason);
        return;
    }

    if (m->purge && purge_response(w, k, m, &w->sip)) {
        return;
    }

    t = ims_trans_find_response(k->trans, w->sip.via.branch.value,
                                w->sip.method);

    if (t) {
        d = t->data;

        switch (d->procedure) {

        case TRANS_REGISTER:
            reg_response(w, k, t, &w->sip);
            break;

        case TRANS_DEREGISTER:
            sweeper_response(w, k, t, &w->sip);
            break;

        default:
            if (t->state < IMS_TRANS_COMPLETED) {
                trans_done(w, k, t, w->sip.status);
            }

            break;
        }

        return;
    }

    if (!ims_flow_branch_parse(w->sip.via.branch.value, &id)
        || id.slot >= w->flows.nslots)
    {
        return;
    }

    for ( /* void */ ; e->a < 2; e->a++) {
        owner = e->a == 0 ? ims_flow_owner(&w->flows, id.slot)
                          : ims_flow_prev_owner(&w->flows, id.slot);

        if (ims_flow_owner_row(owner) == k->me.row) {
            continue;
        }

        there = edge_datagram(w, owner, edge_response, 0, 0);

        if (there) {
            there->a = e->a + 1;
            there->p = malloc(sizeof(cmsg_t) + m->n);

            if (there->p == NULL) {
                abort();
            }

            memcpy(there->p, m, sizeof(cmsg_t) + m->n);
            return;
        }
    }
}
