
/*
 * Copyright (C) nginx-ims contributors
 *
 * A session and its slot of the flow table, and the lease that both depend on
 * (POOL.md 1 E).
 */

#include "ngx_http_ims_proxy.h"


#define NGX_HTTP_IMS_RECHECK_SLICE  256


static ngx_int_t ngx_http_ims_flow_new(ngx_http_ims_session_t *s);
static ngx_int_t ngx_http_ims_flow_take(ngx_http_ims_session_t *s,
    ims_reg_grant_t *grant, uint32_t slot, uint32_t generation);
static void ngx_http_ims_flow_own(ngx_http_ims_session_t *s, uint32_t slot,
    uint32_t generation);
static void ngx_http_ims_flow_tell_old(uint64_t owner, uint32_t slot,
    uint32_t generation);
static void ngx_http_ims_flow_displace(uint32_t slot);
static uint64_t ngx_http_ims_flow_bound(ngx_http_ims_worker_t *w,
    uint32_t slot, ngx_uint_t sure);
static void ngx_http_ims_flow_lease_timer(ngx_event_t *ev);
static void ngx_http_ims_flow_arm(ngx_http_ims_session_t *s);
static void ngx_http_ims_flow_recheck_all(ngx_event_t *ev);
static void ngx_http_ims_flow_forget(ngx_queue_t *q);


static ngx_queue_t *
ngx_http_ims_flow_bucket(ngx_queue_t *buckets, uint64_t key)
{
    key *= 0x9e3779b97f4a7c15ull;

    return &buckets[(key >> 32) & (ngx_http_ims_worker->nbuckets - 1)];
}


static void
ngx_http_ims_flow_forget(ngx_queue_t *q)
{
    ngx_queue_remove(q);
    ngx_queue_init(q);
}


ngx_int_t
ngx_http_ims_flow_attach(ngx_http_ims_session_t *s, ims_reg_grant_t *grant,
    const u_char instance[16], ngx_uint_t has_instance)
{
    uint32_t           slot, generation;
    ngx_int_t          rc;
    ngx_uint_t         tries;
    ims_flow_table_t  *t;

    t = s->main->flows;

    if (s->slot != NGX_HTTP_IMS_NO_SLOT) {
        return ims_flow_owner(t, s->slot) == s->owner ? NGX_OK : NGX_BUSY;
    }

    if (!has_instance) {
        return ngx_http_ims_flow_new(s);
    }

    for (tries = 0; tries < 3; tries++) {

        if (ims_flow_find(t, grant->lease, instance, &slot, &generation)
            != IMS_FLOW_OK)
        {
            return ngx_http_ims_flow_new(s);
        }

        rc = ngx_http_ims_flow_take(s, grant, slot, generation);

        if (rc != NGX_AGAIN) {
            return rc;
        }
    }

    return NGX_BUSY;
}


static ngx_int_t
ngx_http_ims_flow_new(ngx_http_ims_session_t *s)
{
    uint32_t                slot, generation;
    ims_flow_rc_t           rc;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    rc = ims_flow_alloc(s->main->flows,
                        ims_flow_owner_word(&w->me, s->serial), &slot,
                        &generation);

    if (rc != IMS_FLOW_OK) {
        return NGX_DECLINED;
    }

    ngx_http_ims_flow_own(s, slot, generation);

    return NGX_OK;
}


/*
 * The device was here before, with this very lease: its slot goes over to the
 * new connection, and with it all that was registered.  NGX_AGAIN: the slot
 * changed meanwhile.
 */

static ngx_int_t
ngx_http_ims_flow_take(ngx_http_ims_session_t *s, ims_reg_grant_t *grant,
    uint32_t slot, uint32_t generation)
{
    uint64_t                mine;
    ims_flow_rc_t           rc;
    ims_flow_view_t        *view;
    ims_flow_table_t       *t;
    ngx_http_ims_worker_t  *w;
    const ims_flow_data_t  *data;

    w = ngx_http_ims_worker;
    t = s->main->flows;
    view = &w->view;

    rc = ims_flow_read(t, slot, view);

    if (rc == IMS_FLOW_DEAD) {
        (void) ims_flow_free_dead(t, slot, &w->me, ngx_http_ims_flow_alive, w);
        return NGX_AGAIN;
    }

    if (rc != IMS_FLOW_OK) {
        return rc == IMS_FLOW_BUSY ? NGX_BUSY : NGX_AGAIN;
    }

    if (view->generation != generation
        || view->data.ident != grant->ident
        || view->data.lease != grant->lease
        || ngx_memcmp(view->data.holder, grant->holder,
                      IMS_POOL_HOLDER_LEN) != 0
        || (view->data.flags & IMS_FLOW_F_NO_TAKEOVER))
    {
        return ngx_http_ims_flow_new(s);
    }

    /* a sweeper is de-registering it: two REGISTERs would cross */

    if (ims_flow_is_claim(view->owner)
        && ims_flow_owner_alive(t, view->owner, &w->me,
                                ngx_http_ims_flow_alive, w))
    {
        return NGX_BUSY;
    }

    mine = ims_flow_owner_word(&w->me, s->serial);

    rc = ims_flow_swap(t, slot, generation, view->owner, mine);

    switch (rc) {

    case IMS_FLOW_OK:
        break;

    case IMS_FLOW_BUSY:
        return NGX_BUSY;

    case IMS_FLOW_DEAD:
        (void) ims_flow_free_dead(t, slot, &w->me, ngx_http_ims_flow_alive, w);
        return NGX_AGAIN;

    default:
        return NGX_AGAIN;
    }

    /* the old owner could write up to the swap: only now it is certain */

    data = ims_flow_peek(t, slot);

    if (data->lease != grant->lease
        || ngx_memcmp(data->holder, grant->holder, IMS_POOL_HOLDER_LEN) != 0)
    {
        (void) ims_flow_release(t, slot, mine, ims_boottime_ms());
        ngx_http_ims_flow_tell_old(view->owner, slot, generation);
        return ngx_http_ims_flow_new(s);
    }

    ngx_http_ims_count(flow_taken_over);

    ngx_log_error(NGX_LOG_INFO, s->connection->log, 0,
                  "ims session %uD takes over flow %uD:%uD", s->serial, slot,
                  generation);

    ngx_http_ims_flow_tell_old(view->owner, slot, generation);
    ngx_http_ims_flow_own(s, slot, generation);
    s->dialogs = data->dialogs;

    ngx_http_ims_flow_registered(s, ngx_http_ims_flow_bound(w, slot, 1));

    return NGX_OK;
}


static void
ngx_http_ims_flow_own(ngx_http_ims_session_t *s, uint32_t slot,
    uint32_t generation)
{
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    s->slot = slot;
    s->generation = generation;
    s->owner = ims_flow_owner_word(&w->me, s->serial);

    ngx_queue_insert_tail(ngx_http_ims_flow_bucket(w->slots, slot),
                          &s->slot_queue);
}


/* whoever had the slot closes that connection */

static void
ngx_http_ims_flow_tell_old(uint64_t owner, uint32_t slot, uint32_t generation)
{
    ims_flow_dgram_t         head;
    ims_flow_worker_t        other;
    ngx_http_ims_worker_t   *w;
    ngx_http_ims_session_t  *s;

    w = ngx_http_ims_worker;

    if (!ims_flow_is_owned(owner)) {
        return;
    }

    if (ims_flow_owner_row(owner) == w->me.row
        && ims_flow_owner_gen(owner) == w->me.row_gen)
    {
        s = ngx_http_ims_flow_session(slot, generation);

        if (s) {
            ngx_http_ims_flow_taken(s);
        }

        return;
    }

    if (!ims_flow_worker_of(w->main->flows, owner, &other)) {
        return;
    }

    ngx_memzero(&head, sizeof(head));
    head.kind = IMS_FLOW_DGRAM_TAKEN_OVER;
    head.node = (uint16_t) w->main->node;
    head.slot = slot;
    head.generation = generation;
    head.arg = owner;
    head.worker = w->id;

    (void) ngx_http_ims_deliver(other.id, &head, NULL, 0);
}


void
ngx_http_ims_flow_taken(ngx_http_ims_session_t *s)
{
    ngx_http_ims_proxy_flow_lost(s);
    ngx_http_ims_reg_event_end(s);
    ngx_http_ims_flow_forget(&s->slot_queue);

    s->slot = NGX_HTTP_IMS_NO_SLOT;
    s->registered = 0;

    ngx_http_ims_session_close(s, IMS_WS_POLICY,
                               "replaced by a newer connection");
}


void
ngx_http_ims_flow_detach(ngx_http_ims_session_t *s)
{
    uint32_t                slot;
    uint64_t                now;
    ims_flow_table_t       *t;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;
    t = s->main->flows;

    ngx_http_ims_flow_forget(&s->ident_queue);

    if (s->lease_event.timer_set) {
        ngx_del_timer(&s->lease_event);
    }

    if (s->slot == NGX_HTTP_IMS_NO_SLOT) {
        return;
    }

    ngx_http_ims_proxy_flow_lost(s);
    ngx_http_ims_reg_event_end(s);
    ngx_http_ims_flow_forget(&s->slot_queue);

    slot = s->slot;
    s->slot = NGX_HTTP_IMS_NO_SLOT;

    if (ims_flow_owner(t, slot) != s->owner) {
        return;
    }

    if (!ngx_http_ims_flow_bound(w, slot, 0)) {
        (void) ims_flow_free(t, slot, s->owner, &w->me);
        return;
    }

    /* a flow whose lease has ended gets no grace */

    now = ims_boottime_ms();

    if (s->flow_over) {
        now = now > s->main->flow_grace ? now - s->main->flow_grace : 1;

    } else {
        ngx_http_ims_count(flow_lost);
    }

    (void) ims_flow_release(t, slot, s->owner, now);
}


/*
 * Until when (PT) anything is registered on the slot (sure), or may be: an
 * answer is outstanding.  0: nothing is.
 */

static uint64_t
ngx_http_ims_flow_bound(ngx_http_ims_worker_t *w, uint32_t slot,
    ngx_uint_t sure)
{
    uint64_t                pt, until;
    unsigned                pos;
    ims_flow_ident_t        id;
    ims_pool_reader_t      *reader;
    const ims_flow_data_t  *data;

    reader = ngx_http_ims_pool_reader(w);
    pt = reader ? ims_pool_pt(reader) : 0;
    data = ims_flow_peek(w->main->flows, slot);
    until = 0;

    if (data->lease == 0) {
        return 0;
    }

    for (pos = 0; ims_flow_identity(data, &pos, &id); /* void */) {
        if (id.until_pt > pt && !(sure && id.tag)) {
            until = ngx_max(until, id.until_pt);
        }
    }

    return until;
}


ngx_http_ims_session_t *
ngx_http_ims_flow_session(uint32_t slot, uint32_t generation)
{
    ngx_queue_t             *q, *bucket;
    ngx_http_ims_session_t  *s;

    bucket = ngx_http_ims_flow_bucket(ngx_http_ims_worker->slots, slot);

    for (q = ngx_queue_head(bucket);
         q != ngx_queue_sentinel(bucket);
         q = ngx_queue_next(q))
    {
        s = ngx_queue_data(q, ngx_http_ims_session_t, slot_queue);

        if (s->slot == slot && s->generation == generation) {
            return s;
        }
    }

    return NULL;
}


ngx_int_t
ngx_http_ims_flow_write(ngx_http_ims_session_t *s)
{
    return ims_flow_write(s->main->flows, s->slot, s->owner,
                          &ngx_http_ims_worker->data)
           == IMS_FLOW_OK ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_http_ims_flow_enter(ngx_http_ims_session_t *s)
{
    uint32_t                other;
    ims_flow_rc_t           rc;
    ims_flow_table_t       *t;
    ngx_http_ims_worker_t  *w;
    const ims_flow_data_t  *old;

    w = ngx_http_ims_worker;
    t = s->main->flows;

    old = ims_flow_peek(t, s->slot);

    if (old->lease != w->data.lease
        || ngx_memcmp(old->instance, w->data.instance, 16) != 0)
    {
        ims_flow_index_del(t, s->slot);
    }

    if (ngx_http_ims_flow_write(s) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = ims_flow_index_put(t, s->slot, &other);

    if (!(w->data.flags & IMS_FLOW_F_INSTANCE)) {
        /* only so that the sweeper knows which flow of a Contact is newest */
        return NGX_OK;
    }

    if (rc == IMS_FLOW_OK && other != IMS_FLOW_NONE) {
        ngx_http_ims_flow_displace(other);
    }

    /* another connection of the device was faster: it will be found next time */

    return rc == IMS_FLOW_STALE ? NGX_ERROR : NGX_OK;
}


/* a slot of the same lease and device that can be found no more */

static void
ngx_http_ims_flow_displace(uint32_t slot)
{
    uint64_t                 owner;
    ims_flow_dgram_t         head;
    ims_flow_worker_t        other;
    ngx_http_ims_worker_t   *w;
    ngx_http_ims_session_t  *s;

    w = ngx_http_ims_worker;

    ngx_memzero(&head, sizeof(head));
    head.kind = IMS_FLOW_DGRAM_CLOSE;
    head.node = (uint16_t) w->main->node;
    head.slot = slot;
    head.generation = ims_flow_generation(w->main->flows, slot);
    head.arg = IMS_WS_POLICY;
    head.worker = w->id;

    s = ngx_http_ims_flow_session(slot, head.generation);

    if (s) {
        ngx_http_ims_session_close(s, IMS_WS_POLICY,
                                   "replaced by a newer connection");
        return;
    }

    owner = ims_flow_owner(w->main->flows, slot);

    if (ims_flow_worker_of(w->main->flows, owner, &other)
        && other.id != w->id)
    {
        (void) ngx_http_ims_deliver(other.id, &head, NULL, 0);
    }
}


void
ngx_http_ims_flow_lease(ngx_http_ims_session_t *s,
    const ims_reg_grant_t *grant, uint64_t end)
{
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    if (s->ident != grant->ident) {
        ngx_http_ims_flow_forget(&s->ident_queue);
        ngx_queue_insert_tail(ngx_http_ims_flow_bucket(w->idents,
                                                       grant->ident),
                              &s->ident_queue);
    }

    s->ident = grant->ident;
    s->lease = grant->lease;
    s->sid = grant->sid;
    s->end = end;
    s->delay = w->look.delay;
    s->epoch = w->recheck_epoch;
    ngx_memcpy(s->holder, grant->holder, IMS_POOL_HOLDER_LEN);

    ngx_http_ims_flow_arm(s);
}


static void
ngx_http_ims_flow_arm(ngx_http_ims_session_t *s)
{
    uint64_t            pt, left;
    ims_pool_reader_t  *reader;

    reader = ngx_http_ims_pool_reader(ngx_http_ims_worker);
    pt = reader ? ims_pool_pt(reader) : s->end;
    left = s->end > pt ? s->end - pt : 0;

    if (s->registered && s->until < s->end) {
        left = s->until > pt ? s->until - pt : 0;
    }

    if (left > 24 * 3600 * 1000) {
        left = 24 * 3600 * 1000;
    }

    s->lease_event.handler = ngx_http_ims_flow_lease_timer;
    s->lease_event.data = s->connection;
    s->lease_event.log = s->connection->log;
    s->lease_event.cancelable = 1;

    ngx_add_timer(&s->lease_event, (ngx_msec_t) left + 1);
}


/*
 * A registration that is not refreshed is over at the core, too.  From then on
 * the flow is as one that never registered.
 */

void
ngx_http_ims_flow_registered(ngx_http_ims_session_t *s, uint64_t until)
{
    s->registered = until != 0;
    s->until = until;

    if (s->registered) {
        ngx_http_ims_flow_arm(s);
        return;
    }

    /* ims_register_timeout begins again; the timer looks at it */

    s->opened = ngx_current_msec;
    ngx_add_timer(s->connection->read, 1);
}


static void
ngx_http_ims_flow_lease_timer(ngx_event_t *ev)
{
    uint64_t                 pt;
    ngx_connection_t        *c;
    ims_pool_reader_t       *reader;
    ngx_http_ims_session_t  *s;

    c = ev->data;
    s = c->data;

    if (s->closing) {
        return;
    }

    reader = ngx_http_ims_pool_reader(ngx_http_ims_worker);
    pt = reader ? ims_pool_pt(reader) : 0;

    if (s->registered && s->until <= pt) {
        ngx_log_error(NGX_LOG_INFO, c->log, 0,
                      "ims session %uD: its registration was not refreshed",
                      s->serial);
        ngx_http_ims_flow_registered(s, 0);
    }

    if (reader && pt < s->end) {
        ngx_http_ims_flow_arm(s);
        return;
    }

    if (ngx_http_ims_flow_look(s) == NGX_ERROR) {
        /* nothing is known: its messages get 503 until it is */
        ngx_add_timer(ev, s->main->lease_check);
    }
}


ngx_int_t
ngx_http_ims_flow_look(ngx_http_ims_session_t *s)
{
    int                     rc;
    uint64_t                end;
    ims_pool_lapse_e        lapse;
    ims_pool_reader_t      *reader;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;
    reader = ngx_http_ims_pool_reader(w);

    if (reader == NULL) {
        return NGX_ERROR;
    }

    rc = ims_pool_look(reader, s->ident, &w->look);

    if (rc != IMS_POOL_OK && rc != IMS_POOL_NOTFOUND) {
        return NGX_ERROR;
    }

    lapse = rc == IMS_POOL_NOTFOUND ? IMS_POOL_LAPSE_OFF
            : ims_pool_check_lease(&w->look, s->lease, s->sid, s->holder,
                                   w->look.pt, &end);

    if (lapse == IMS_POOL_LIVE) {
        s->end = end;
        s->delay = w->look.delay;
        s->epoch = w->recheck_epoch;
        ngx_http_ims_flow_arm(s);
        return NGX_OK;
    }

    ngx_http_ims_count(flow_lease_ended);

    ngx_log_error(NGX_LOG_INFO, s->connection->log, 0,
                  "ims session %uD: lease %016xL-%016xL: %s", s->serial,
                  s->ident, s->lease, ims_pool_lapse_text(lapse));

    s->flow_over = 1;
    s->registered = 0;
    ngx_http_ims_session_close(s, IMS_WS_POLICY, "lease ended");

    return NGX_DECLINED;
}


ngx_int_t
ngx_http_ims_flow_check(ngx_http_ims_session_t *s)
{
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    /* nanoseconds, unless something was committed since */

    if (ngx_http_ims_pool_feed(w) != NGX_OK) {
        return NGX_ERROR;
    }

    if (s->closing) {
        return NGX_DECLINED;
    }

    if (s->epoch == w->recheck_epoch
        && ims_pool_pt(ngx_http_ims_pool_reader(w)) < s->end)
    {
        return NGX_OK;
    }

    return ngx_http_ims_flow_look(s);
}


void
ngx_http_ims_flow_recheck(uint64_t ident)
{
    ngx_queue_t             *q, *next, *bucket;
    ngx_http_ims_worker_t   *w;
    ngx_http_ims_session_t  *s;

    w = ngx_http_ims_worker;

    if (ident == 0) {

        /*
         * in slices, since there may be many of them; a message of one whose
         * turn has not come yet is not passed before its own look
         */

        w->recheck_epoch++;

        if (!ngx_queue_empty(&w->sessions)) {
            ngx_queue_add(&w->recheck, &w->sessions);
            ngx_queue_init(&w->sessions);
        }

        w->recheck_event.handler = ngx_http_ims_flow_recheck_all;
        w->recheck_event.data = &w->dummy;
        w->recheck_event.log = w->log;

        ngx_post_event(&w->recheck_event, &ngx_posted_events);
        return;
    }

    bucket = ngx_http_ims_flow_bucket(w->idents, ident);

    for (q = ngx_queue_head(bucket); q != ngx_queue_sentinel(bucket); q = next)
    {
        next = ngx_queue_next(q);
        s = ngx_queue_data(q, ngx_http_ims_session_t, ident_queue);

        if (s->ident == ident && !s->closing
            && ngx_http_ims_flow_look(s) == NGX_ERROR)
        {
            /* its end is forgotten, so that the next message looks again */
            s->end = 0;
            ngx_http_ims_flow_arm(s);
        }
    }
}


static void
ngx_http_ims_flow_recheck_all(ngx_event_t *ev)
{
    ngx_uint_t               n;
    ngx_queue_t             *q;
    ngx_http_ims_worker_t   *w;
    ngx_http_ims_session_t  *s;

    w = ngx_http_ims_worker;

    for (n = 0; n < NGX_HTTP_IMS_RECHECK_SLICE; n++) {

        if (ngx_queue_empty(&w->recheck)) {
            return;
        }

        q = ngx_queue_head(&w->recheck);
        ngx_queue_remove(q);
        ngx_queue_insert_tail(&w->sessions, q);

        s = ngx_queue_data(q, ngx_http_ims_session_t, queue);

        if (s->ident && !s->closing
            && ngx_http_ims_flow_look(s) == NGX_ERROR)
        {
            s->end = 0;
            ngx_http_ims_flow_arm(s);
        }
    }

    ngx_post_event(ev, &ngx_posted_next_events);
}


ngx_int_t
ngx_http_ims_flow_peer(const ims_flow_data_t *data, ngx_http_ims_addr_t *addr)
{
    if (data->peer_len == 0 || data->peer_len > sizeof(addr->sockaddr)) {
        return NGX_ERROR;
    }

    ngx_memzero(addr, sizeof(ngx_http_ims_addr_t));
    ngx_memcpy(&addr->sockaddr, data->peer, data->peer_len);

    addr->socklen = data->peer_len;

    /* a reload may have taken the UDP away */

    if (data->peer_transport == NGX_HTTP_IMS_UDP
        && ngx_http_ims_listen_udp(ngx_http_ims_worker->main,
                                   &addr->sockaddr.sockaddr))
    {
        addr->transport = NGX_HTTP_IMS_UDP;
    }

    return NGX_OK;
}


bool
ngx_http_ims_flow_alive(void *arg, const ims_flow_worker_t *w)
{
    return ngx_http_ims_worker_alive(w->id);
}
