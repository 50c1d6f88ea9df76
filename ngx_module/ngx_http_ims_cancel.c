
/*
 * Copyright (C) nginx-ims contributors
 *
 * What goes with an INVITE hop by hop: CANCEL, and ACK of a non-2xx (RFC 3261
 * 9, 17.1.1.3).  Both are made by the edge from the INVITE as it was sent, and
 * go where that went.
 */

#include "ngx_http_ims_proxy.h"


static void ngx_http_ims_cancel_start(ims_trans_t *t,
    const ims_sip_msg_t *m);
static void ngx_http_ims_cancel_reason(ims_trans_t *t,
    const ims_sip_msg_t *m);
static void ngx_http_ims_cancel_write(ims_trans_t *t, size_t n);
static ims_sip_msg_t *ngx_http_ims_cancel_sent(ims_trans_t *t);


void
ngx_http_ims_cancel_of_client(ngx_http_ims_session_t *s, ims_sip_msg_t *m)
{
    ims_trans_t  *t;

    t = ngx_http_ims_proxy_find(s, m, IMS_TRANS_TO_CORE);

    if (t == NULL || !t->invite) {
        ngx_http_ims_reply(s, m, 481, "Transaction Does Not Exist", NULL);
        return;
    }

    ngx_http_ims_reply(s, m, 200, "OK", NULL);
    ngx_http_ims_cancel_start(t, m);
}


void
ngx_http_ims_cancel_of_core(ngx_http_ims_session_t *s,
    const ims_trans_ingress_t *in, ims_sip_msg_t *m)
{
    ims_trans_t  *t;

    t = ngx_http_ims_proxy_find(s, m, IMS_TRANS_TO_WIC);

    if (t == NULL || !t->invite) {
        ngx_http_ims_ingress_reply(in, m, 481, "Transaction Does Not Exist",
                                   NULL);
        return;
    }

    ngx_http_ims_ingress_reply(in, m, 200, "OK", NULL);
    ngx_http_ims_cancel_start(t, m);
}


static void
ngx_http_ims_cancel_start(ims_trans_t *t, const ims_sip_msg_t *m)
{
    if (t->state >= IMS_TRANS_COMPLETED || t->cancelled) {
        return;
    }

    ngx_http_ims_cancel_reason(t, m);

    t->cancelled = 1;
    ngx_http_ims_cancel_send(t);
}


/*
 * A phone that rang beside another one that was answered is told so, and lists
 * no missed call (RFC 3326).
 */

static void
ngx_http_ims_cancel_reason(ims_trans_t *t, const ims_sip_msg_t *m)
{
    ims_str_t                   value;
    ngx_http_ims_trans_data_t  *d;

    d = t->data;

    if (m->count[IMS_SIP_H_REASON] == 0 || d->reason) {
        return;
    }

    value = ims_sip_hdr_value(m, IMS_SIP_H_REASON);

    if (value.n > NGX_HTTP_IMS_REASON) {
        return;
    }

    d->reason = ngx_alloc(value.n, ngx_http_ims_worker->log);

    if (d->reason) {
        ngx_memcpy(d->reason, value.p, value.n);
        d->reason_len = (uint16_t) value.n;
    }
}


/* a CANCEL may not overtake its INVITE: it waits for the first 1xx */

void
ngx_http_ims_cancel_send(ims_trans_t *t)
{
    if (t->cancel_sent) {
        return;
    }

    if (!t->provisional) {
        t->cancel_held = 1;
        return;
    }

    ngx_http_ims_cancel_now(t);
}


void
ngx_http_ims_cancel_now(ims_trans_t *t)
{
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;
    d = t->data;

    if (t->cancel_sent || ngx_http_ims_cancel_make(t) != NGX_OK) {
        return;
    }

    t->cancelled = 1;
    t->cancel_held = 0;
    t->cancel_sent = 1;

    if (t->direction == IMS_TRANS_TO_CORE) {
        d->cancelling = 1;
        ngx_queue_insert_tail(&w->cancels, &d->cancel_queue);
    }

    ngx_http_ims_trans_repeat(t);

    /* whoever does not answer it with 487 is given up */

    ngx_http_ims_trans_deadline(t, ims_boottime_ms() + NGX_HTTP_IMS_TIMER_B);
}


/* writes it: the same again, if it was written before */

ngx_int_t
ngx_http_ims_cancel_make(ims_trans_t *t)
{
    ptrdiff_t                   n;
    ims_sip_msg_t              *sent;
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;
    d = t->data;

    sent = ngx_http_ims_cancel_sent(t);

    if (sent == NULL) {
        return NGX_DECLINED;
    }

    n = ims_proxy_hop(w->hop, w->hop_size, sent, IMS_STR("CANCEL"),
                      ims_sip_hdr_value(sent, IMS_SIP_H_TO),
                      ims_str_set(d->reason, d->reason_len));
    if (n < 0) {
        return NGX_DECLINED;
    }

    ngx_http_ims_cancel_write(t, (size_t) n);

    return NGX_OK;
}


void
ngx_http_ims_cancel_again(ngx_http_ims_addr_t *addr)
{
    ngx_queue_t                *q;
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;

    for (q = ngx_queue_head(&w->cancels);
         q != ngx_queue_sentinel(&w->cancels);
         q = ngx_queue_next(q))
    {
        d = ngx_queue_data(q, ngx_http_ims_trans_data_t, cancel_queue);

        if (d->trans->transport == NGX_HTTP_IMS_STREAM
            && ngx_cmp_sockaddr(&d->peer.sockaddr.sockaddr, d->peer.socklen,
                                &addr->sockaddr.sockaddr, addr->socklen, 1)
               == NGX_OK)
        {
            (void) ngx_http_ims_cancel_make(d->trans);
        }
    }
}


void
ngx_http_ims_cancel_done(ims_trans_t *t)
{
    ngx_http_ims_trans_data_t  *d;

    d = t->data;

    if (d->cancelling) {
        d->cancelling = 0;
        ngx_queue_remove(&d->cancel_queue);
    }
}


void
ngx_http_ims_cancel_ack(ims_trans_t *t, const ims_sip_msg_t *m)
{
    ptrdiff_t               n;
    ims_sip_msg_t          *sent;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    sent = ngx_http_ims_cancel_sent(t);

    if (sent == NULL) {
        return;
    }

    n = ims_proxy_hop(w->hop, w->hop_size, sent, IMS_STR("ACK"),
                      ims_sip_hdr_value(m, IMS_SIP_H_TO), IMS_STR_NULL);
    if (n > 0) {
        ngx_http_ims_cancel_write(t, (size_t) n);
    }
}


/* w->hop goes where the INVITE went; a CANCEL again only if there is room */

static void
ngx_http_ims_cancel_write(ims_trans_t *t, size_t n)
{
    uint32_t                    serial;
    uint64_t                    late;
    ngx_uint_t                  how;
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_session_t     *s;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;
    d = t->data;

    if (t->direction == IMS_TRANS_TO_CORE) {
        late = ims_boottime_ms() + NGX_HTTP_IMS_TIMER_B;
        how = d->cancelling ? NGX_HTTP_IMS_SEND_SPARE
                            : NGX_HTTP_IMS_SEND_ALWAYS;

        (void) ngx_http_ims_core_send(&d->peer, t->transport, t->slot, how,
                                      w->hop, n, late, &serial);
        return;
    }

    s = ngx_http_ims_flow_session(t->slot, t->generation);

    if (s && s->serial == d->serial) {
        (void) ngx_http_ims_session_send(s, w->hop, n);
    }
}


/* an INVITE as it was sent, in w->kept */

static ims_sip_msg_t *
ngx_http_ims_cancel_sent(ims_trans_t *t)
{
    ims_sip_err_t           err;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    if (t->request == NULL
        || ims_sip_parse(&w->kept, t->request->data, t->request->n,
                         IMS_SIP_WS, &err)
           != 0)
    {
        return NULL;
    }

    return &w->kept;
}
