
/*
 * Copyright (C) nginx-ims contributors
 *
 * Where a request of the core came in, and the way back there (RFC 3261
 * 18.2.2): the same connection, through the worker that has it; if worker or
 * connection is gone, an open link to the same address; else the sent-by of
 * its Via, but only to an address of the core's.
 */

#include "ngx_http_ims_proxy.h"


#define NGX_HTTP_IMS_ANSWER_WAIT  32000   /* ms until a response is too late */


static void ngx_http_ims_ingress_sent_by(ims_trans_ingress_t *in,
    const ims_sip_msg_t *m);
static ngx_http_ims_link_t *ngx_http_ims_ingress_other(
    const ims_trans_ingress_t *in);


void
ngx_http_ims_ingress_of_link(ims_trans_ingress_t *in,
    ngx_http_ims_link_t *link, const ims_sip_msg_t *m)
{
    ngx_http_ims_addr_t  *addr;

    ngx_memzero(in, sizeof(ims_trans_ingress_t));

    addr = ngx_http_ims_link_addr(link);

    in->worker = ngx_http_ims_worker->id;
    in->serial = ngx_http_ims_link_serial(link);

    if (addr->socklen <= IMS_TRANS_ADDR_MAX) {
        in->addr_len = (uint8_t) addr->socklen;
        ngx_memcpy(in->addr, &addr->sockaddr, addr->socklen);
    }

    ngx_http_ims_ingress_sent_by(in, m);
}


void
ngx_http_ims_ingress_of_dgram(ims_trans_ingress_t *in,
    const ims_flow_dgram_t *head, const ims_sip_msg_t *m)
{
    ngx_memzero(in, sizeof(ims_trans_ingress_t));

    in->worker = head->worker;
    in->serial = head->serial;
    in->addr_len = head->addr_len;
    ngx_memcpy(in->addr, head->addr, head->addr_len);

    ngx_http_ims_ingress_sent_by(in, m);
}


static void
ngx_http_ims_ingress_sent_by(ims_trans_ingress_t *in, const ims_sip_msg_t *m)
{
    u_char  *p;

    p = ngx_snprintf(in->sent_by, sizeof(in->sent_by), "%*s:%ud",
                     m->via.host.n, m->via.host.p,
                     (ngx_uint_t) (m->via.port ? m->via.port : 5060));

    in->sent_by_len = (uint8_t) (p - in->sent_by);
}


void
ngx_http_ims_ingress_send(const ims_trans_ingress_t *in, uint32_t slot,
    uint32_t generation, ngx_uint_t how, u_char *data, size_t n)
{
    ims_flow_dgram_t        head;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    if (in->worker != w->id) {

        ngx_memzero(&head, sizeof(head));
        head.kind = IMS_FLOW_DGRAM_RESPONSE;
        head.node = (uint16_t) w->main->node;
        head.slot = slot;
        head.generation = generation;
        head.arg = how == NGX_HTTP_IMS_SEND_SPARE;
        head.worker = in->worker;
        head.serial = in->serial;
        head.addr_len = in->addr_len;
        ngx_memcpy(head.addr, in->addr, in->addr_len);

        if (ngx_http_ims_deliver(in->worker, &head, data, n) != NGX_DECLINED) {
            return;
        }

        /* that worker is dead, and its connections with it */
    }

    ngx_http_ims_ingress_out(in, how, data, n);
}


void
ngx_http_ims_ingress_out(const ims_trans_ingress_t *in, ngx_uint_t how,
    u_char *data, size_t n)
{
    uint64_t                late;
    ngx_int_t               rc;
    ngx_http_ims_link_t    *link;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;
    late = ims_boottime_ms() + NGX_HTTP_IMS_ANSWER_WAIT;

    link = in->worker == w->id ? ngx_http_ims_link_find(in->serial) : NULL;

    if (link == NULL) {
        link = ngx_http_ims_ingress_other(in);
    }

    rc = link ? ngx_http_ims_link_send(link, how, data, n, late) : NGX_ERROR;

    /* what the queue has no room for was counted there */

    if (rc != NGX_OK && rc != NGX_BUSY) {
        ngx_http_ims_count(response_lost);
        ngx_log_error(NGX_LOG_ERR, w->log, 0,
                      "response has no way back to the core");
    }
}


static ngx_http_ims_link_t *
ngx_http_ims_ingress_other(const ims_trans_ingress_t *in)
{
    ngx_str_t               text;
    ngx_http_ims_addr_t     addr;
    ngx_http_ims_link_t    *link;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    if (in->addr_len && in->addr_len <= sizeof(addr.sockaddr)) {
        ngx_memzero(&addr, sizeof(addr));
        ngx_memcpy(&addr.sockaddr, in->addr, in->addr_len);
        addr.socklen = in->addr_len;

        link = ngx_http_ims_link_open_to(&addr);

        if (link) {
            return link;
        }
    }

    /* a literal address only: no name is resolved for what a peer wrote */

    text.data = (u_char *) in->sent_by;
    text.len = in->sent_by_len;

    if (ngx_http_ims_literal(&text, &addr) != NGX_OK
        || !ngx_http_ims_core_allowed(w->main, &addr.sockaddr.sockaddr))
    {
        return NULL;
    }

    return ngx_http_ims_link_get(&addr, 0);
}


void
ngx_http_ims_ingress_reply(const ims_trans_ingress_t *in,
    const ims_sip_msg_t *m, ngx_uint_t status, const char *reason,
    const char *extra)
{
    size_t                  n;
    u_char                  text[NGX_SOCKADDR_STRLEN];
    ims_str_t               received;
    in_port_t               port;
    ngx_http_ims_addr_t     addr;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    port = 0;
    received = IMS_STR_NULL;

    if (in->addr_len) {
        ngx_memzero(&addr, sizeof(addr));
        ngx_memcpy(&addr.sockaddr, in->addr, in->addr_len);

        n = ngx_sock_ntop(&addr.sockaddr.sockaddr, in->addr_len, text,
                          sizeof(text), 0);
        received = ims_str_set(text, n);
        port = ngx_inet_get_port(&addr.sockaddr.sockaddr);
    }

    n = ngx_http_ims_write_reply(m, status, reason, extra, received, port);

    if (n == 0) {
        return;
    }

    ngx_log_error(NGX_LOG_INFO, w->log, 0, "%*s of the core answered %ui: %s",
                  ngx_min(m->method.n, 32), m->method.p, status, reason);

    ngx_http_ims_ingress_send(in, 0, 0, NGX_HTTP_IMS_SEND_ALWAYS, w->message,
                              n);
}
