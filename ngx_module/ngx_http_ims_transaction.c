
/*
 * Copyright (C) nginx-ims contributors
 *
 * Transaction records in nginx: where they are sent, when they end, and what
 * becomes of them when a core link breaks (DESIGN.md 6).
 */

#include "ngx_http_ims_proxy.h"


#define NGX_HTTP_IMS_SILENCE      30000    /* ms; then 504 */
#define NGX_HTTP_IMS_EXPIRE_MAX   256      /* records a turn */


static void ngx_http_ims_trans_arm(ngx_http_ims_worker_t *w);
static void ngx_http_ims_trans_timer(ngx_event_t *ev);
static uint64_t ngx_http_ims_trans_expired(void *arg, ims_trans_t *t,
    uint64_t now);
static void ngx_http_ims_trans_forget(ims_trans_t *t);
static void ngx_http_ims_trans_failed(ims_trans_t *t, ngx_uint_t status,
    const char *reason);
static ngx_uint_t ngx_http_ims_trans_waits(ims_trans_t *t);
static void ngx_http_ims_trans_again(ims_trans_t *t);
static ngx_uint_t ngx_http_ims_trans_live(ims_trans_t *t);


ngx_int_t
ngx_http_ims_trans_init(ngx_http_ims_worker_t *w)
{
    ims_trans_conf_t  conf;

    conf.max = (uint32_t) w->main->worker_transactions;
    conf.max_flow = (uint32_t) w->main->flow_transactions;
    conf.cache = 1024 * 1024;

    w->trans = ims_trans_pool_create(&conf);
    if (w->trans == NULL) {
        return NGX_ERROR;
    }

    w->trans_event.handler = ngx_http_ims_trans_timer;
    w->trans_event.data = &w->dummy;
    w->trans_event.log = w->log;

    return NGX_OK;
}


/*
 * A worker may leave with records that were answered: they only absorb what
 * comes too late.
 */

static void
ngx_http_ims_trans_arm(ngx_http_ims_worker_t *w)
{
    uint64_t  next, now;

    next = ims_trans_next_deadline(w->trans);

    if (next == 0) {

        if (w->trans_event.timer_set) {
            ngx_del_timer(&w->trans_event);
        }

        return;
    }

    now = ims_boottime_ms();

    w->trans_event.cancelable = w->npending == 0 || w->hurried;
    ngx_add_timer(&w->trans_event,
                  next > now ? (ngx_msec_t) (next - now) : 1);
}


static void
ngx_http_ims_trans_timer(ngx_event_t *ev)
{
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, ev->log, 0, "ims transaction timer");

    (void) ims_trans_expire(w->trans, ims_boottime_ms(),
                            ngx_http_ims_trans_expired, w,
                            NGX_HTTP_IMS_EXPIRE_MAX);

    ngx_http_ims_trans_arm(w);
}


static uint64_t
ngx_http_ims_trans_expired(void *arg, ims_trans_t *t, uint64_t now)
{
    ngx_http_ims_trans_data_t  *d;

    d = t->data;

    if (t->state < IMS_TRANS_COMPLETED
        && d->procedure >= NGX_HTTP_IMS_TRANS_TO_CORE)
    {
        return ngx_http_ims_proxy_expired(t, now);
    }

    if (t->state < IMS_TRANS_COMPLETED) {
        ngx_http_ims_count(core_timeout);
        ngx_http_ims_trans_failed(t, 504, "Core Is Silent");

        return now + 64 * NGX_HTTP_IMS_T1;
    }

    ngx_http_ims_trans_forget(t);

    return 0;
}


static void
ngx_http_ims_trans_forget(ims_trans_t *t)
{
    ngx_http_ims_trans_data_t  *d;

    d = t->data;

    if (d->pending) {
        ngx_queue_remove(&d->queue);
        ngx_http_ims_worker->npending--;
    }

    ngx_http_ims_cancel_done(t);

    if (d->reason) {
        ngx_free(d->reason);
    }

    ngx_free(d);
    t->data = NULL;
}


void
ngx_http_ims_trans_free(ims_trans_t *t)
{
    ngx_http_ims_trans_forget(t);
    ims_trans_free(ngx_http_ims_worker->trans, t);
}


void
ngx_http_ims_trans_deadline(ims_trans_t *t, uint64_t at)
{
    ims_trans_deadline(ngx_http_ims_worker->trans, t, at);
    ngx_http_ims_trans_arm(ngx_http_ims_worker);
}


ims_trans_rc_t
ngx_http_ims_trans_new(const ims_trans_key_t *key, ims_trans_t **t)
{
    ims_trans_t            *spare;
    ims_trans_rc_t          rc;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    rc = ims_trans_new(w->trans, key, t);

    if (rc != IMS_TRANS_FLOW_LIMIT && rc != IMS_TRANS_WORKER_LIMIT) {
        return rc;
    }

    spare = ims_trans_spare(w->trans, key, rc);

    if (spare == NULL) {
        return rc;
    }

    ngx_http_ims_trans_free(spare);

    return ims_trans_new(w->trans, key, t);
}


ngx_http_ims_trans_data_t *
ngx_http_ims_trans_data(ims_trans_t *t, ngx_uint_t procedure, size_t text)
{
    ngx_http_ims_trans_data_t  *d;

    d = ngx_calloc(sizeof(ngx_http_ims_trans_data_t) + text,
                   ngx_http_ims_worker->log);
    if (d == NULL) {
        return NULL;
    }

    d->procedure = procedure;
    d->trans = t;
    t->data = d;

    return d;
}


void
ngx_http_ims_trans_pending(ims_trans_t *t)
{
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;
    d = t->data;

    if (!d->pending) {
        d->pending = 1;
        ngx_queue_insert_tail(&w->pending, &d->queue);
        w->npending++;
    }
}


ngx_int_t
ngx_http_ims_trans_send(ims_trans_t *t)
{
    ngx_int_t                   rc;
    ngx_http_ims_link_t        *link;
    ngx_http_ims_trans_data_t  *d;

    d = t->data;

    link = ngx_http_ims_link_get(&d->peer, t->slot);
    if (link == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_http_ims_link_send(link, NGX_HTTP_IMS_SEND_REQUEST,
                                t->request->data, t->request->n,
                                d->first_write);
    if (rc != NGX_OK) {
        return rc;
    }

    t->link_serial = ngx_http_ims_link_serial(link);
    t->state = IMS_TRANS_CALLING;

    ngx_http_ims_trans_pending(t);

    ngx_http_ims_trans_deadline(t, ims_boottime_ms() + NGX_HTTP_IMS_SILENCE);

    return NGX_OK;
}


void
ngx_http_ims_trans_done(ims_trans_t *t, ngx_uint_t status)
{
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;
    d = t->data;

    t->state = IMS_TRANS_COMPLETED;
    t->status = (uint16_t) status;

    if (d->pending) {
        d->pending = 0;
        ngx_queue_remove(&d->queue);
        w->npending--;
    }

    if (!t->answered) {
        ngx_http_ims_cancel_done(t);
    }

    /* what was kept for other tries is of no more use */

    if (!t->invite || !t->answered) {
        /* an INVITE that we answered may yet be answered by the core */
        ims_trans_drop(w->trans, &t->request);
    }

    ims_trans_drop(w->trans, &t->response);

    /*
     * What comes late for an INVITE, or for what we have answered ourselves, is
     * still to be recognised.  Else streams leave nothing to absorb but what is
     * on its way (RFC 3261 17.1.2: Timers J and K are 0 there), and a chatty
     * flow shall not run into its limit with records that are done with.
     */

    ngx_http_ims_trans_deadline(t, ims_boottime_ms()
                                   + (t->invite || t->answered
                                      ? 64 * NGX_HTTP_IMS_T1
                                      : NGX_HTTP_IMS_T4));

    ngx_http_ims_worker_ended(w);
}


static void
ngx_http_ims_trans_failed(ims_trans_t *t, ngx_uint_t status,
    const char *reason)
{
    ngx_http_ims_trans_data_t  *d;

    d = t->data;

    switch (d->procedure) {

    case NGX_HTTP_IMS_TRANS_REGISTER:
        ngx_http_ims_register_failed(t, status, reason);
        break;

    case NGX_HTTP_IMS_TRANS_DEREGISTER:
        ngx_http_ims_sweeper_failed(t);
        break;

    case NGX_HTTP_IMS_TRANS_SUBSCRIBE:
        ngx_http_ims_reg_event_failed(t, status);
        break;

    default: /* NGX_HTTP_IMS_TRANS_TO_CORE, _TO_WIC */
        ngx_http_ims_proxy_failed(t, status, reason);
        break;
    }
}


/*
 * A broken link is not a failed request: what went over it is sent once more,
 * same bytes and branch, to the same peer.  A peer that cannot be reached for
 * 2 s has failed.
 */

void
ngx_http_ims_link_broken(ngx_http_ims_addr_t *addr, uint32_t serial,
    ngx_uint_t unreachable)
{
    ngx_queue_t                *q, *next, hit;
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;

    ngx_http_ims_count(core_link_broken);
    ngx_http_ims_purge_broken(serial);

    ngx_http_ims_cancel_again(addr);

    /* answering and sending again change the queue: first pick, then act */

    ngx_queue_init(&hit);

    for (q = ngx_queue_head(&w->pending);
         q != ngx_queue_sentinel(&w->pending);
         q = next)
    {
        next = ngx_queue_next(q);
        d = ngx_queue_data(q, ngx_http_ims_trans_data_t, queue);

        if (d->trans->link_serial == serial
            || (unreachable
                && ngx_cmp_sockaddr(&d->peer.sockaddr.sockaddr,
                                    d->peer.socklen, &addr->sockaddr.sockaddr,
                                    addr->socklen, 1)
                   == NGX_OK))
        {
            ngx_queue_remove(q);
            ngx_queue_insert_tail(&hit, q);
        }
    }

    while (!ngx_queue_empty(&hit)) {
        q = ngx_queue_head(&hit);
        ngx_queue_remove(q);
        ngx_queue_insert_tail(&w->pending, q);

        d = ngx_queue_data(q, ngx_http_ims_trans_data_t, queue);

        if (!unreachable) {
            d->broken = 1;
            ngx_http_ims_trans_again(d->trans);

        } else if (!ngx_http_ims_trans_waits(d->trans)) {
            ngx_http_ims_trans_failed(d->trans, 503, "Core Unreachable");
        }
    }
}


/* its answer may still come to another connection of ours */

static ngx_uint_t
ngx_http_ims_trans_waits(ims_trans_t *t)
{
    return t->invite && t->provisional;
}


static void
ngx_http_ims_trans_again(ims_trans_t *t)
{
    uint64_t                    now, first_write;
    ngx_http_ims_trans_data_t  *d;

    d = t->data;
    now = ims_boottime_ms();

    if (d->resent || ngx_http_ims_trans_waits(t)) {
        return;
    }

    first_write = now + NGX_HTTP_IMS_FIRST_WRITE;

    if (!ims_trans_again(now, d->looked, d->delay, d->end, &first_write)
        || !ngx_http_ims_trans_live(t))
    {
        ngx_http_ims_trans_failed(t, 503, "Core Link Broken");
        return;
    }

    d->resent = 1;
    ngx_http_ims_count(core_resent);

    d->first_write = first_write;

    if (ngx_http_ims_trans_send(t) != NGX_OK) {
        ngx_http_ims_trans_failed(t, 503, "Core Link Broken");
    }
}


/*
 * POOL.md 1 e: a request that is written again needs its lease as if it came
 * now.  The REGISTERs have their own rule, c.
 */

static ngx_uint_t
ngx_http_ims_trans_live(ims_trans_t *t)
{
    ngx_http_ims_session_t     *s;
    ngx_http_ims_trans_data_t  *d;

    d = t->data;

    if (d->procedure != NGX_HTTP_IMS_TRANS_TO_CORE
        && d->procedure != NGX_HTTP_IMS_TRANS_SUBSCRIBE)
    {
        return 1;
    }

    s = ngx_http_ims_flow_session(t->slot, t->generation);

    return s && s->serial == d->serial && ngx_http_ims_flow_check(s) == NGX_OK;
}
