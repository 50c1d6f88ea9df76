
/*
 * Copyright (C) nginx-ims contributors
 *
 * Requests of a dialog whose client has no connection at the moment: they wait
 * up to 5 s for it to come back, so that a change of network does not end a
 * call.
 */

#include "ngx_http_ims_proxy.h"


#define NGX_HTTP_IMS_HELD_MAX   256     /* requests a worker */
#define NGX_HTTP_IMS_HELD_LOOK  100     /* ms */


typedef struct {
    ngx_queue_t           queue;
    ims_trans_ingress_t   in;
    uint64_t              deadline;     /* BOOTTIME ms */
    size_t                n;
    u_char                data[];
} ngx_http_ims_held_request_t;


static ngx_uint_t ngx_http_ims_held_has(const ims_sip_msg_t *m);
static void ngx_http_ims_held_timer(ngx_event_t *ev);


static struct {
    ngx_queue_t           queue;
    ngx_uint_t            n;
    uint64_t              retrying;     /* deadline of the one at hand */
    ngx_event_t           event;
} ngx_http_ims_held;


ngx_int_t
ngx_http_ims_held_add(const ims_trans_ingress_t *in, const ims_sip_msg_t *m)
{
    uint64_t                      now;
    ngx_event_t                  *ev;
    ngx_http_ims_worker_t        *w;
    ngx_http_ims_held_request_t  *h;

    w = ngx_http_ims_worker;
    now = ims_boottime_ms();

    if (in->transport == NGX_HTTP_IMS_UDP && ngx_http_ims_held_has(m)) {
        /* it is repeated while it waits */
        return NGX_OK;
    }

    if (ngx_http_ims_held.n == NGX_HTTP_IMS_HELD_MAX
        || (ngx_http_ims_held.retrying && ngx_http_ims_held.retrying <= now))
    {
        return NGX_ERROR;
    }

    h = ngx_alloc(sizeof(ngx_http_ims_held_request_t) + m->raw.n, w->log);
    if (h == NULL) {
        return NGX_ERROR;
    }

    h->in = *in;
    h->n = m->raw.n;
    ngx_memcpy(h->data, m->raw.p, m->raw.n);
    h->deadline = ngx_http_ims_held.retrying;

    if (h->deadline == 0) {
        h->deadline = now + NGX_HTTP_IMS_HOLD;
        ngx_http_ims_count(held);
    }

    if (ngx_http_ims_held.queue.next == NULL) {
        ngx_queue_init(&ngx_http_ims_held.queue);
    }

    ngx_queue_insert_tail(&ngx_http_ims_held.queue, &h->queue);
    ngx_http_ims_held.n++;

    ev = &ngx_http_ims_held.event;

    if (!ev->timer_set) {
        ev->handler = ngx_http_ims_held_timer;
        ev->data = &w->dummy;
        ev->log = w->log;
        ngx_add_timer(ev, NGX_HTTP_IMS_HELD_LOOK);
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_ims_held_has(const ims_sip_msg_t *m)
{
    ngx_queue_t                  *q;
    ngx_http_ims_held_request_t  *h;

    if (ngx_http_ims_held.n == 0) {
        return 0;
    }

    for (q = ngx_queue_head(&ngx_http_ims_held.queue);
         q != ngx_queue_sentinel(&ngx_http_ims_held.queue);
         q = ngx_queue_next(q))
    {
        h = ngx_queue_data(q, ngx_http_ims_held_request_t, queue);

        if (h->n == m->raw.n && ngx_memcmp(h->data, m->raw.p, h->n) == 0) {
            ngx_http_ims_count(udp_repeated);
            return 1;
        }
    }

    return 0;
}


/* each is tried anew as if it came now, but keeps its deadline */

static void
ngx_http_ims_held_timer(ngx_event_t *ev)
{
    ngx_uint_t                    n;
    ngx_queue_t                  *q;
    ims_sip_err_t                 err;
    ngx_http_ims_worker_t        *w;
    ngx_http_ims_held_request_t  *h;

    w = ngx_http_ims_worker;

    for (n = ngx_http_ims_held.n; n; n--) {

        q = ngx_queue_head(&ngx_http_ims_held.queue);
        h = ngx_queue_data(q, ngx_http_ims_held_request_t, queue);

        ngx_queue_remove(q);
        ngx_http_ims_held.n--;
        ngx_http_ims_held.retrying = h->deadline;

        if (ims_sip_parse(&w->sip, h->data, h->n, IMS_SIP_WS, &err) == 0) {
            ngx_http_ims_terminating(&h->in, &w->sip, 0);
        }

        ngx_free(h);
    }

    ngx_http_ims_held.retrying = 0;

    if (ngx_http_ims_held.n && !ev->timer_set) {
        ngx_add_timer(ev, NGX_HTTP_IMS_HELD_LOOK);
    }
}
