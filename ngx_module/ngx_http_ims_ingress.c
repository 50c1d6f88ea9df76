
/*
 * Copyright (C) nginx-ims contributors
 *
 * Where a request of the core came in, and the way back there (RFC 3261
 * 18.2.2): the same connection, through the worker that has it; if worker or
 * connection is gone, an open link to the same address; else the sent-by of
 * its Via, but only to an address of the core's.
 *
 * Over UDP it is the address that the request came from, on the same socket,
 * which every worker has: at the port that it came from if the Via asks for
 * that (RFC 3581), else at that of sent-by.
 */

#include "ngx_http_ims_proxy.h"


#define NGX_HTTP_IMS_ANSWER_WAIT  32000   /* ms until a response is too late */
#define NGX_HTTP_IMS_TAG          16      /* bytes of a To tag of ours */


static void ngx_http_ims_ingress_sent_by(ims_trans_ingress_t *in,
    const ims_sip_msg_t *m);
static ngx_int_t ngx_http_ims_ingress_datagram(const ims_trans_ingress_t *in,
    u_char *data, size_t n);
static ngx_http_ims_link_t *ngx_http_ims_ingress_other(
    const ims_trans_ingress_t *in);
static size_t ngx_http_ims_ingress_write(const ims_trans_ingress_t *in,
    const ims_sip_msg_t *m, ngx_uint_t status, const char *reason,
    const char *extra);
static ims_str_t ngx_http_ims_ingress_tag(const ims_sip_msg_t *m,
    u_char *branch);
static void ngx_http_ims_ingress_keep(ims_trans_t *t, u_char *data, size_t n);
static void ngx_http_ims_ingress_lost(void);


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
ngx_http_ims_ingress_of_udp(ims_trans_ingress_t *in, uint32_t socket,
    ngx_http_ims_addr_t *from, const ims_sip_msg_t *m)
{
    ngx_http_ims_addr_t  addr;

    ngx_memzero(in, sizeof(ims_trans_ingress_t));

    in->worker = ngx_http_ims_worker->id;
    in->transport = NGX_HTTP_IMS_UDP;
    in->link = socket;

    addr = *from;

    if (m->via.whole.n && m->via.rport.name.p == NULL) {
        ngx_inet_set_port(&addr.sockaddr.sockaddr,
                          m->via.port ? m->via.port : 5060);
    }

    if (addr.socklen <= IMS_TRANS_ADDR_MAX) {
        in->addr_len = (uint8_t) addr.socklen;
        ngx_memcpy(in->addr, &addr.sockaddr, addr.socklen);
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
    in->transport = head->transport;
    in->link = head->link;
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

    if (in->transport == NGX_HTTP_IMS_UDP
        && ngx_http_ims_ingress_datagram(in, data, n) == NGX_OK)
    {
        return;
    }

    if (in->worker != w->id) {

        ngx_memzero(&head, sizeof(head));
        head.kind = IMS_FLOW_DGRAM_RESPONSE;
        head.node = (uint16_t) w->main->node;
        head.slot = slot;
        head.generation = generation;
        head.arg = how == NGX_HTTP_IMS_SEND_SPARE;
        head.worker = in->worker;
        head.serial = in->serial;
        head.transport = in->transport;
        head.link = in->link;
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

    if (in->transport == NGX_HTTP_IMS_UDP) {

        if (ngx_http_ims_ingress_datagram(in, data, n) != NGX_OK) {
            ngx_http_ims_ingress_lost();
        }

        return;
    }

    link = in->worker == w->id ? ngx_http_ims_link_find(in->serial) : NULL;

    if (link == NULL) {
        link = ngx_http_ims_ingress_other(in);
    }

    rc = link ? ngx_http_ims_link_send(link, how, data, n, late) : NGX_ERROR;

    /* what the queue has no room for was counted there */

    if (rc != NGX_OK && rc != NGX_BUSY) {
        ngx_http_ims_ingress_lost();
    }
}


static void
ngx_http_ims_ingress_lost(void)
{
    ngx_http_ims_count(response_lost);

    ngx_log_error(NGX_LOG_ERR, ngx_http_ims_worker->log, 0,
                  "response has no way back to the core");
}


/* from any worker: they have the same sockets */

static ngx_int_t
ngx_http_ims_ingress_datagram(const ims_trans_ingress_t *in, u_char *data,
    size_t n)
{
    ngx_http_ims_addr_t  addr;

    if (in->addr_len == 0) {
        return NGX_DECLINED;
    }

    ngx_http_ims_ingress_address(in, &addr);

    if (!ngx_http_ims_core_allowed(ngx_http_ims_worker->main,
                                   &addr.sockaddr.sockaddr))
    {
        /* it is none of the core's any more */
        return NGX_DECLINED;
    }

    return ngx_http_ims_udp_send(&addr, in->link, data, n);
}


void
ngx_http_ims_ingress_address(const ims_trans_ingress_t *in,
    ngx_http_ims_addr_t *addr)
{
    ngx_memzero(addr, sizeof(ngx_http_ims_addr_t));
    ngx_memcpy(&addr->sockaddr, in->addr, in->addr_len);

    addr->socklen = in->addr_len;
    addr->transport = in->transport;
}


/* what answers a request of that record; over UDP it may be asked for again */

void
ngx_http_ims_ingress_answer(ims_trans_t *t, ngx_uint_t how, u_char *data,
    size_t n)
{
    ngx_http_ims_ingress_keep(t, data, n);
    ngx_http_ims_ingress_send(&t->ingress, t->slot, t->generation, how, data,
                              n);
}


static void
ngx_http_ims_ingress_keep(ims_trans_t *t, u_char *data, size_t n)
{
    ims_str_t                   text;
    ngx_http_ims_trans_data_t  *d;

    if (t->ingress.transport != NGX_HTTP_IMS_UDP) {
        return;
    }

    text = ims_str_set(data, n);
    (void) ims_trans_save(ngx_http_ims_worker->trans, &t->reply, &text, 1);

    d = t->data;
    d->looked = ims_boottime_ms();
}


/*
 * The same response again.  It was made when the lease had just been looked
 * at: D later it is not to be seen any more (DESIGN.md 3, invariant 6).
 */

ngx_int_t
ngx_http_ims_ingress_again(ims_trans_t *t)
{
    ngx_http_ims_trans_data_t  *d;

    d = t->data;

    if (t->reply == NULL
        || (!t->answered && ims_boottime_ms() >= d->looked + d->delay))
    {
        return NGX_DECLINED;
    }

    ngx_http_ims_ingress_send(&t->ingress, t->slot, t->generation,
                              NGX_HTTP_IMS_SEND_SPARE, t->reply->data,
                              t->reply->n);

    return NGX_OK;
}


/*
 * received and rport of the core's own Via (RFC 3261 18.2.1, RFC 3581 4), into
 * a response that lost ours.  On streams nobody needs them.
 */

void
ngx_http_ims_ingress_received(const ims_trans_ingress_t *in,
    ims_sip_edit_t *ed)
{
    u_char               text[NGX_SOCKADDR_STRLEN], port[NGX_INT_T_LEN], *p;
    ims_str_t            value;
    ims_sip_via_t        via;
    ims_sip_values_t     it;
    ngx_http_ims_addr_t  addr;

    if (in->transport != NGX_HTTP_IMS_UDP || in->addr_len == 0) {
        return;
    }

    ims_sip_values(&it, ed->m, IMS_SIP_H_VIA);

    if (ims_sip_value_next(&it, &value) != 1
        || ims_sip_value_next(&it, &value) != 1
        || !ims_sip_via_parse(value, &via))
    {
        return;
    }

    ngx_http_ims_ingress_address(in, &addr);

    p = text + ngx_sock_ntop(&addr.sockaddr.sockaddr, addr.socklen, text,
                             NGX_SOCKADDR_STRLEN, 0);

    ims_sip_edit_param(ed, via.whole, &via.received, "received",
                       ims_str_range(text, p));

    if (via.rport.name.p) {
        p = ngx_sprintf(port, "%ui", (ngx_uint_t)
                            ngx_inet_get_port(&addr.sockaddr.sockaddr));

        ims_sip_edit_param(ed, via.whole, &via.rport, "rport",
                           ims_str_range(port, p));
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
    size_t  n;

    n = ngx_http_ims_ingress_write(in, m, status, reason, extra);

    if (n) {
        ngx_http_ims_ingress_send(in, 0, 0, NGX_HTTP_IMS_SEND_ALWAYS,
                                  ngx_http_ims_worker->message, n);
    }
}


void
ngx_http_ims_ingress_reply_of(ims_trans_t *t, const ims_sip_msg_t *m,
    ngx_uint_t status, const char *reason, const char *extra)
{
    size_t  n;

    n = ngx_http_ims_ingress_write(&t->ingress, m, status, reason, extra);

    if (n) {
        ngx_http_ims_ingress_answer(t, NGX_HTTP_IMS_SEND_ALWAYS,
                                    ngx_http_ims_worker->message, n);
    }
}


/*
 * The same for a request that is repeated, whichever worker gets it (RFC 3261
 * 8.2.7): what our branch for it would end with.
 */

static ims_str_t
ngx_http_ims_ingress_tag(const ims_sip_msg_t *m, u_char *branch)
{
    size_t                  n;
    ims_flow_id_t           id;
    ims_flow_branch_t       b;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    ngx_memzero(&id, sizeof(ims_flow_id_t));
    id.node = (uint16_t) w->main->node;

    b.direction = IMS_TRANS_TO_WIC;
    b.attempt = 0;
    b.cseq = m->cseq;
    b.via_sent_by = m->via.host;
    b.via_branch = m->via.branch.value;
    b.call_id = m->call_id;
    b.from_tag = m->from_tag;
    b.r_uri = m->uri;

    n = ims_flow_branch_make(w->main->flow_keys, &id, &b, branch);

    return ims_str_set(branch + n - NGX_HTTP_IMS_TAG, NGX_HTTP_IMS_TAG);
}


static size_t
ngx_http_ims_ingress_write(const ims_trans_ingress_t *in,
    const ims_sip_msg_t *m, ngx_uint_t status, const char *reason,
    const char *extra)
{
    size_t                  n;
    u_char                  text[NGX_SOCKADDR_STRLEN];
    u_char                  branch[IMS_FLOW_BRANCH_MAX];
    ims_str_t               received, tag;
    in_port_t               port;
    ngx_http_ims_addr_t     addr;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    port = 0;
    received = IMS_STR_NULL;
    tag = IMS_STR_NULL;

    if (in->transport == NGX_HTTP_IMS_UDP) {
        tag = ngx_http_ims_ingress_tag(m, branch);
    }

    if (in->addr_len) {
        ngx_http_ims_ingress_address(in, &addr);

        n = ngx_sock_ntop(&addr.sockaddr.sockaddr, in->addr_len, text,
                          sizeof(text), 0);
        received = ims_str_set(text, n);
        port = ngx_inet_get_port(&addr.sockaddr.sockaddr);
    }

    n = ngx_http_ims_write_reply(m, status, reason, extra, tag, received,
                                 port);

    if (n) {
        ngx_log_error(NGX_LOG_INFO, w->log, 0,
                      "%*s of the core answered %ui: %s",
                      ngx_min(m->method.n, 32), m->method.p, status, reason);
    }

    return n;
}
