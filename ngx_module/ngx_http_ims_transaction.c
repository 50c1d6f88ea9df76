
/*
 * Copyright (C) nginx-ims contributors
 *
 * Transaction records in nginx: where they are sent, when they end, and what
 * becomes of them when a core link breaks (DESIGN.md 6).
 */

#include "ngx_http_ims_proxy.h"


#define NGX_HTTP_IMS_SILENCE      30000    /* ms; then 504 */
#define NGX_HTTP_IMS_EXPIRE_MAX   256      /* records a turn */
#define NGX_HTTP_IMS_UDP_MAX      65507    /* bytes of a datagram over IPv4 */


static void ngx_http_ims_trans_arm(ngx_http_ims_worker_t *w);
static void ngx_http_ims_trans_timer(ngx_event_t *ev);
static uint64_t ngx_http_ims_trans_expired(void *arg, ims_trans_t *t,
    uint64_t now);
static void ngx_http_ims_trans_forget(ims_trans_t *t);
static void ngx_http_ims_trans_settled(ims_trans_t *t);
static ngx_uint_t ngx_http_ims_trans_unconfirmed(ims_trans_t *t);
static uint64_t ngx_http_ims_trans_linger(ims_trans_t *t);
static void ngx_http_ims_trans_resend(ims_trans_t *t, uint64_t now);
static ngx_int_t ngx_http_ims_trans_resend_request(ims_trans_t *t,
    uint64_t now);
static void ngx_http_ims_trans_failed(ims_trans_t *t, ngx_uint_t status,
    const char *reason);
static ngx_uint_t ngx_http_ims_trans_waits(ims_trans_t *t);
static void ngx_http_ims_trans_again(ims_trans_t *t);
static ngx_int_t ngx_http_ims_trans_fall_back(ims_trans_t *t);
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

    if (ims_trans_resend_due(t, now)) {
        ngx_http_ims_trans_resend(t, now);
        return ims_trans_due(t);
    }

    ims_trans_resend_stop(t);

    if (t->state >= IMS_TRANS_COMPLETED
        || d->procedure == NGX_HTTP_IMS_TRANS_HANGUP)
    {
        ngx_http_ims_trans_forget(t);
        return 0;
    }

    if (d->procedure >= NGX_HTTP_IMS_TRANS_TO_CORE) {
        t->until = ngx_http_ims_proxy_expired(t, now);

    } else {
        ngx_http_ims_count(core_timeout);
        ngx_http_ims_trans_failed(t, 504, "Core Is Silent");

        t->until = now + 64 * NGX_HTTP_IMS_T1;
    }

    return ims_trans_due(t);
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
    t->until = at;

    ims_trans_deadline(ngx_http_ims_worker->trans, t, ims_trans_due(t));
    ngx_http_ims_trans_arm(ngx_http_ims_worker);
}


void
ngx_http_ims_trans_repeat(ims_trans_t *t)
{
    if (t->transport == NGX_HTTP_IMS_UDP) {
        ims_trans_resend_start(t, ims_boottime_ms(), NGX_HTTP_IMS_T1);
    }
}


void
ngx_http_ims_trans_quiet(ims_trans_t *t)
{
    if (t->resend_at) {
        ims_trans_resend_stop(t);
        ngx_http_ims_trans_deadline(t, t->until);
    }
}


void
ngx_http_ims_trans_confirmed(ims_trans_t *t)
{
    if (t->state != IMS_TRANS_COMPLETED) {
        return;
    }

    t->state = IMS_TRANS_CONFIRMED;

    ngx_http_ims_trans_quiet(t);
    ngx_http_ims_trans_settled(t);
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
    ngx_http_ims_trans_data_t  *d;

    d = t->data;

    rc = ngx_http_ims_core_send(&d->peer, t->transport, t->slot,
                                NGX_HTTP_IMS_SEND_REQUEST, t->request->data,
                                t->request->n, d->first_write,
                                &t->link_serial);
    if (rc != NGX_OK) {
        return rc;
    }

    t->state = IMS_TRANS_CALLING;

    ngx_http_ims_trans_pending(t);
    ngx_http_ims_trans_repeat(t);

    ngx_http_ims_trans_deadline(t, ims_boottime_ms() + NGX_HTTP_IMS_SILENCE);

    return NGX_OK;
}


void
ngx_http_ims_trans_done(ims_trans_t *t, ngx_uint_t status)
{
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    t->state = IMS_TRANS_COMPLETED;
    t->status = (uint16_t) status;

    ims_trans_resend_stop(t);

    if (!t->answered) {
        ngx_http_ims_cancel_done(t);
    }

    /* what was kept for other tries is of no more use */

    if (!t->invite
        || (!t->answered && t->transport != NGX_HTTP_IMS_UDP))
    {
        /*
         * an INVITE that we answered may yet be answered by the core, and over
         * UDP a refusal comes again until it has its ACK (Timer D)
         */
        ims_trans_drop(w->trans, &t->request);
    }

    ims_trans_drop(w->trans, &t->response);

    if (ngx_http_ims_trans_unconfirmed(t)) {
        /* Timer G; a worker that leaves waits for the ACK, or Timer H */
        ims_trans_resend_start(t, ims_boottime_ms(), NGX_HTTP_IMS_T1);

    } else {
        ngx_http_ims_trans_settled(t);
    }

    ngx_http_ims_trans_deadline(t, ngx_http_ims_trans_linger(t));
}


/* nothing is waited for any more */

static void
ngx_http_ims_trans_settled(ims_trans_t *t)
{
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;
    d = t->data;

    if (d->pending) {
        d->pending = 0;
        ngx_queue_remove(&d->queue);
        w->npending--;
    }

    ngx_http_ims_worker_ended(w);
}


/* a refusal of an INVITE of the core, over UDP, that has no ACK yet */

static ngx_uint_t
ngx_http_ims_trans_unconfirmed(ims_trans_t *t)
{
    return t->direction == IMS_TRANS_TO_WIC && t->invite && t->status >= 300
           && t->reply && t->reply->n > sizeof("SIP/2.0 ") - 1
           && t->reply->data[sizeof("SIP/2.0 ") - 1] >= '3';
}


/*
 * What comes late for an INVITE, or for what we have answered ourselves, is
 * still to be recognised, and so are requests that come again over UDP (Timer
 * J).  Else streams leave nothing to absorb but what is on its way (RFC 3261
 * 17.1.2: Timers J and K are 0 there), and a chatty flow shall not run into
 * its limit with records that are done with.
 */

static uint64_t
ngx_http_ims_trans_linger(ims_trans_t *t)
{
    if (t->invite || t->answered
        || (t->direction == IMS_TRANS_TO_WIC
            && t->ingress.transport == NGX_HTTP_IMS_UDP))
    {
        return ims_boottime_ms() + 64 * NGX_HTTP_IMS_T1;
    }

    return ims_boottime_ms() + NGX_HTTP_IMS_T4;
}


/* -- again, by a timer of RFC 3261 17 ------------------------------------- */

static void
ngx_http_ims_trans_resend(ims_trans_t *t, uint64_t now)
{
    ngx_int_t   rc;
    ngx_uint_t  max;

    max = NGX_HTTP_IMS_T2;

    if (t->direction == IMS_TRANS_TO_WIC) {
        /* G */
        rc = ngx_http_ims_ingress_again(t);

    } else if (t->cancel_sent) {
        /* E, of the CANCEL */
        rc = ngx_http_ims_cancel_make(t);

    } else {
        rc = ngx_http_ims_trans_resend_request(t, now);

        if (t->invite) {
            /* A has no upper limit but B */
            max = 0;

        } else if (t->provisional || t->state == IMS_TRANS_PROCEEDING) {
            /* E: it arrived, that is known */
            t->resend_interval = NGX_HTTP_IMS_T2;
        }
    }

    if (rc != NGX_OK) {
        ims_trans_resend_stop(t);
        return;
    }

    ngx_http_ims_count(udp_resent);
    ims_trans_resend_next(t, now, max);
}


/* the same bytes, within what POOL.md 1 c allows; A and E */

static ngx_int_t
ngx_http_ims_trans_resend_request(ims_trans_t *t, uint64_t now)
{
    uint64_t                    first_write;
    ngx_http_ims_trans_data_t  *d;

    d = t->data;
    first_write = now;

    if (t->request == NULL
        || !ims_trans_again(now, d->looked, d->delay, d->end, &first_write)
        || !ngx_http_ims_trans_live(t))
    {
        return NGX_DECLINED;
    }

    return ngx_http_ims_core_send(&d->peer, t->transport, t->slot,
                                  NGX_HTTP_IMS_SEND_REQUEST,
                                  t->request->data, t->request->n,
                                  first_write, &t->link_serial);
}


/* -- when it failed -------------------------------------------------------- */

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
                && d->trans->transport == NGX_HTTP_IMS_STREAM
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

        } else if (!ngx_http_ims_trans_waits(d->trans)
                   && ngx_http_ims_trans_fall_back(d->trans) != NGX_OK)
        {
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
 * What went by TCP only for its size goes over UDP if the peer takes no TCP
 * (RFC 3261 18.1.1): the same but for the Via.
 */

static ngx_int_t
ngx_http_ims_trans_fall_back(ims_trans_t *t)
{
    uint64_t                    now, until;
    ims_str_t                   parts[5];
    ims_sip_err_t               err;
    ims_sip_msg_t              *m;
    ngx_http_ims_listen_t      *udp;
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;
    d = t->data;
    m = &w->kept;
    udp = ngx_http_ims_listen_udp(w->main, &d->peer.sockaddr.sockaddr);
    now = ims_boottime_ms();
    until = t->until;

    if (!d->large || udp == NULL || t->request == NULL
        || t->request->n > NGX_HTTP_IMS_UDP_MAX
        || !ims_trans_again(now, d->looked, d->delay, d->end, &d->first_write)
        || !ngx_http_ims_trans_live(t)
        || ims_sip_parse(m, t->request->data, t->request->n, IMS_SIP_WS, &err)
           != 0)
    {
        return NGX_DECLINED;
    }

    d->large = 0;

    parts[0] = ims_str_range(m->raw.p, m->via.whole.p);
    parts[1] = IMS_STR("SIP/2.0/UDP ");
    parts[2] = ngx_http_ims_str(&udp->advertise);
    parts[3] = ngx_http_ims_str(&udp->via_params);
    parts[4] = ims_str_range(m->via.params.p, m->raw.p + m->raw.n);

    if (!ims_trans_save(w->trans, &t->request, parts, 5)) {
        return NGX_ERROR;
    }

    t->transport = NGX_HTTP_IMS_UDP;

    if (ngx_http_ims_trans_send(t) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_http_ims_trans_deadline(t, until);

    return NGX_OK;
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
