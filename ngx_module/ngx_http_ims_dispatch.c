
/*
 * Copyright (C) nginx-ims contributors
 *
 * A message came, from a client, the core or another worker: whose business
 * is it.
 */

#include "ngx_http_ims_proxy.h"


static void ngx_http_ims_client_request(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m);
static void ngx_http_ims_client_refuse(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m, ngx_uint_t status, const char *reason,
    const char *extra);
static void ngx_http_ims_client_bad(ngx_http_ims_session_t *s,
    const char *why);
static void ngx_http_ims_core_response(ims_sip_msg_t *m, ngx_uint_t hop);
static void ngx_http_ims_core_elsewhere(ims_sip_msg_t *m, ngx_uint_t hop);


void
ngx_http_ims_from_client(ngx_http_ims_session_t *s, u_char *data, size_t n)
{
    ims_sip_msg_t          *m;
    ims_sip_err_t           err;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;
    m = &w->sip;

    if (ims_sip_parse(m, data, n, IMS_SIP_WS, &err) != 0) {
        ngx_http_ims_count(sip_bad);

        ngx_log_error(NGX_LOG_INFO, s->connection->log, 0,
                      "ims session %uD: malformed SIP at byte %uz: %s",
                      s->serial, err.offset, err.reason);

        if (err.answerable) {
            ngx_http_ims_reply(s, m, err.status, err.reason, NULL);

        } else {
            ngx_http_ims_client_bad(s, "malformed SIP");
        }

        return;
    }

    if (!m->request) {
        ngx_http_ims_response_of_client(s, m);
        return;
    }

    ngx_http_ims_client_request(s, m);
}


/* what cannot be answered is dropped; the third time it is the last */

static void
ngx_http_ims_client_bad(ngx_http_ims_session_t *s, const char *why)
{
    if (++s->bad_responses == 3) {
        ngx_http_ims_session_close(s, IMS_WS_POLICY, why);
    }
}


static void
ngx_http_ims_client_request(ngx_http_ims_session_t *s, ims_sip_msg_t *m)
{
    ngx_int_t  rc;

    if (!ims_sip_branch_ok(m->via.branch.value)) {
        ngx_http_ims_count(sip_bad);

        if (m->method_id != IMS_SIP_M_ACK) {
            ngx_http_ims_reply(s, m, 400, "Branch Without Magic Cookie",
                               NULL);
        }

        return;
    }

    if (m->method_id == IMS_SIP_M_REGISTER) {
        ngx_http_ims_register(s, m);
        return;
    }

    rc = s->registered ? ngx_http_ims_flow_check(s) : NGX_ABORT;

    switch (rc) {

    case NGX_OK:

        if (m->method_id == IMS_SIP_M_CANCEL) {
            ngx_http_ims_cancel_of_client(s, m);

        } else {
            ngx_http_ims_originating(s, m);
        }

        break;

    case NGX_ABORT:
        ngx_http_ims_count(sip_not_registered);
        ngx_http_ims_client_refuse(s, m, 403, "Register First", NULL);
        break;

    case NGX_DECLINED:
        ngx_http_ims_client_refuse(s, m, 403, "Lease Ended", NULL);
        break;

    default:
        ngx_http_ims_client_refuse(s, m, 503, "Pool Unavailable",
                                   "Retry-After: 5\r\n");
        break;
    }
}


/* an ACK is never answered (RFC 3261 17) */

static void
ngx_http_ims_client_refuse(ngx_http_ims_session_t *s, ims_sip_msg_t *m,
    ngx_uint_t status, const char *reason, const char *extra)
{
    if (m->method_id != IMS_SIP_M_ACK) {
        ngx_http_ims_reply(s, m, status, reason, extra);
    }
}


void
ngx_http_ims_from_core(ngx_http_ims_link_t *link, u_char *data, size_t n)
{
    ims_sip_msg_t          *m;
    ims_sip_err_t           err;
    ims_trans_ingress_t     in;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;
    m = &w->sip;

    if (ims_sip_parse(m, data, n, IMS_SIP_STREAM, &err) != 0) {
        ngx_http_ims_count(core_bad);

        ngx_log_error(NGX_LOG_ERR, w->log, 0,
                      "malformed SIP from the core at byte %uz: %s",
                      err.offset, err.reason);

        if (err.answerable) {
            ngx_http_ims_ingress_of_link(&in, link, m);
            ngx_http_ims_ingress_reply(&in, m, err.status, err.reason, NULL);
        }

        return;
    }

    if (m->request) {
        ngx_http_ims_ingress_of_link(&in, link, m);
        ngx_http_ims_terminating(&in, m, 0);
        return;
    }

    ngx_http_ims_core_answer(m, ngx_http_ims_link_serial(link), 0);
}


void
ngx_http_ims_core_answer(ims_sip_msg_t *m, uint32_t serial, ngx_uint_t hop)
{
    if (!ngx_http_ims_probe_response(m)
        && !ngx_http_ims_purge_response(serial, m))
    {
        ngx_http_ims_core_response(m, hop);
    }
}


void
ngx_http_ims_from_worker(const ims_flow_dgram_t *head, u_char *data, size_t n)
{
    ims_sip_err_t            err;
    ims_trans_ingress_t      in;
    ngx_http_ims_worker_t   *w;
    ngx_http_ims_session_t  *s;

    w = ngx_http_ims_worker;

    ngx_http_ims_count(deliver_received);

    if (head->kind == IMS_FLOW_DGRAM_REQUEST
        || head->kind == IMS_FLOW_DGRAM_RESPONSE)
    {
        /* a datagram of the core's may have had no Content-Length */

        if (ims_sip_parse(&w->sip, data, n, IMS_SIP_WS, &err) != 0
            || w->sip.request != (head->kind == IMS_FLOW_DGRAM_REQUEST))
        {
            ngx_http_ims_count(deliver_bad);
            return;
        }

        ngx_http_ims_ingress_of_dgram(&in, head, &w->sip);
    }

    switch (head->kind) {

    case IMS_FLOW_DGRAM_REQUEST:
        ngx_http_ims_terminating(&in, &w->sip, (ngx_uint_t) head->arg);
        return;

    case IMS_FLOW_DGRAM_RESPONSE:

        if (head->serial || head->transport == NGX_HTTP_IMS_UDP) {
            /* a client's, on its way out by a connection of ours */
            ngx_http_ims_ingress_out(&in, head->arg ? NGX_HTTP_IMS_SEND_SPARE
                                                    : NGX_HTTP_IMS_SEND_ALWAYS,
                                     data, n);
            return;
        }

        ngx_http_ims_core_answer(&w->sip, 0, (ngx_uint_t) head->arg);
        return;

    case IMS_FLOW_DGRAM_TAKEN_OVER:

        s = ngx_http_ims_flow_session(head->slot, head->generation);

        if (s && s->owner == head->arg) {
            ngx_http_ims_flow_taken(s);
        }

        return;

    case IMS_FLOW_DGRAM_CLOSE:

        s = ngx_http_ims_flow_session(head->slot, head->generation);

        if (s) {
            ngx_http_ims_session_close(s, (ngx_uint_t) head->arg,
                                       "replaced by a newer connection");
        }

        return;

    default:
        ngx_http_ims_count(deliver_bad);
        return;
    }
}


/*
 * A response is looked for among our own records, then at the owner of the
 * slot that its branch names (hop 0), then once at its previous owner (1).
 */

static void
ngx_http_ims_core_response(ims_sip_msg_t *m, ngx_uint_t hop)
{
    ims_trans_t                *t;
    ngx_http_ims_trans_data_t  *d;

    t = ims_trans_find_response(ngx_http_ims_worker->trans,
                                m->via.branch.value, m->method);

    if (t == NULL) {
        ngx_http_ims_core_elsewhere(m, hop);
        return;
    }

    d = t->data;

    switch (d->procedure) {

    case NGX_HTTP_IMS_TRANS_REGISTER:
        ngx_http_ims_register_response(t, m);
        break;

    case NGX_HTTP_IMS_TRANS_DEREGISTER:
        ngx_http_ims_sweeper_response(t, m);
        break;

    case NGX_HTTP_IMS_TRANS_SUBSCRIBE:
        ngx_http_ims_reg_event_response(t, m);
        break;

    case NGX_HTTP_IMS_TRANS_TO_CORE:
        ngx_http_ims_response_of_core(t, m);
        break;

    case NGX_HTTP_IMS_TRANS_HANGUP:

        if (m->status >= 200) {
            ngx_http_ims_trans_done(t, m->status);
        }

        break;

    default:
        /* a branch that went to a client comes back from there only */
        ngx_http_ims_count(response_unmatched);
        break;
    }
}


static void
ngx_http_ims_core_elsewhere(ims_sip_msg_t *m, ngx_uint_t hop)
{
    uint64_t                owner;
    ims_flow_id_t           id;
    ims_flow_dgram_t        head;
    ims_flow_table_t       *t;
    ims_flow_worker_t       other;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;
    t = w->main->flows;

    if (!ims_flow_branch_parse(m->via.branch.value, &id)
        || id.node != w->main->node || id.slot >= t->nslots)
    {
        goto unmatched;
    }

    for ( /* void */ ; hop < 2; hop++) {

        owner = hop == 0 ? ims_flow_owner(t, id.slot)
                         : ims_flow_prev_owner(t, id.slot);

        if (!ims_flow_worker_of(t, owner, &other) || other.id == w->id) {
            continue;
        }

        ngx_memzero(&head, sizeof(head));
        head.kind = IMS_FLOW_DGRAM_RESPONSE;
        head.node = id.node;
        head.slot = id.slot;
        head.generation = id.generation;
        head.arg = hop + 1;
        head.worker = w->id;

        if (ngx_http_ims_deliver(other.id, &head, (u_char *) m->raw.p,
                                 m->raw.n)
            == NGX_OK)
        {
            return;
        }
    }

unmatched:

    ngx_http_ims_count(response_unmatched);

    ngx_log_error(NGX_LOG_INFO, w->log, 0,
                  "response %ui of the core without a record",
                  (ngx_uint_t) m->status);
}


void
ngx_http_ims_reply(ngx_http_ims_session_t *s, const ims_sip_msg_t *m,
    ngx_uint_t status, const char *reason, const char *extra)
{
    size_t                  n;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    ngx_log_error(NGX_LOG_INFO, s->connection->log, 0,
                  "ims session %uD: %*s answered %ui: %s", s->serial,
                  ngx_min(m->method.n, 32), m->method.p, status, reason);

    n = ngx_http_ims_write_reply(m, status, reason, extra, IMS_STR_NULL,
                                 ngx_http_ims_str(&s->connection->addr_text),
                                 ngx_inet_get_port(s->connection->sockaddr));
    if (n) {
        (void) ngx_http_ims_session_send(s, w->message, n);
    }
}


size_t
ngx_http_ims_write_reply(const ims_sip_msg_t *m, ngx_uint_t status,
    const char *reason, const char *extra, ims_str_t to_tag,
    ims_str_t received, in_port_t port)
{
    u_char                  noise[8], tag[16];
    ptrdiff_t               n;
    ims_sip_reply_t         r;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    if (to_tag.n == 0) {
        ngx_http_ims_random(noise, sizeof(noise));
        ims_hex_encode(tag, noise, sizeof(noise));
        to_tag = ims_str_set(tag, sizeof(tag));
    }

    ngx_memzero(&r, sizeof(ims_sip_reply_t));

    r.status = (unsigned) status;
    r.reason = reason;
    r.to_tag = to_tag;
    r.received = received;
    r.rport = port;
    r.extra = ims_str_z(extra ? extra : "");

    n = ims_sip_reply(w->message, w->message_size, m, &r);

    return n > 0 ? (size_t) n : 0;
}


/* our Via off a response: its line, or the first value of it */

void
ngx_http_ims_drop_via(ims_sip_edit_t *ed)
{
    ims_str_t             value, rest;
    ims_sip_values_t      it;
    const ims_sip_hdr_t  *h;

    h = ims_sip_hdr(ed->m, IMS_SIP_H_VIA);

    ims_sip_values_text(&it, h->value);

    if (ims_sip_value_next(&it, &value) == 1
        && ims_sip_value_next(&it, &rest) == 1)
    {
        ims_sip_edit_splice(ed, ims_str_range(value.p, rest.p), IMS_STR(""));
        return;
    }

    ims_sip_edit_drop(ed, ed->m->first[IMS_SIP_H_VIA]);
}
