
/*
 * Copyright (C) nginx-ims contributors
 *
 * What requests in both directions have in common (RFC 3261 16): checks,
 * record, branch, deadlines, and the answers that the edge gives by itself.
 */

#include "ngx_http_ims_proxy.h"


static void ngx_http_ims_proxy_key(ims_trans_key_t *key, uint32_t slot,
    uint32_t generation, const ims_sip_msg_t *m, ngx_uint_t direction,
    u_char *buf, size_t size);
static ims_str_t ngx_http_ims_proxy_charging(const ims_sip_msg_t *m,
    ngx_uint_t direction);
static ims_sip_msg_t *ngx_http_ims_proxy_received(ims_trans_t *t);
static void ngx_http_ims_proxy_answer_client(ims_trans_t *t,
    ngx_uint_t status, const char *reason, const char *extra);
static void ngx_http_ims_proxy_answer_core(ims_trans_t *t, ngx_uint_t status,
    const char *reason, const char *extra);


void
ngx_http_ims_proxy_check(const ims_sip_msg_t *m,
    ngx_http_ims_refusal_t *refusal)
{
    ims_str_t      tags;
    static u_char  unsupported[256];

    ngx_memzero(refusal, sizeof(ngx_http_ims_refusal_t));

    if (!ngx_http_ims_proxy_scheme_ok(m)) {
        refusal->status = 416;
        refusal->reason = "Unsupported URI Scheme";
        return;
    }

    if (m->max_forwards == 0) {
        refusal->status = 483;
        refusal->reason = "Too Many Hops";
        return;
    }

    if (m->count[IMS_SIP_H_PROXY_REQUIRE]) {
        tags = ims_sip_hdr_value(m, IMS_SIP_H_PROXY_REQUIRE);

        *ngx_snprintf(unsupported, sizeof(unsupported) - 1,
                      "Unsupported: %*s\r\n", ngx_min(tags.n, 200), tags.p)
            = '\0';

        refusal->status = 420;
        refusal->reason = "Bad Extension";
        refusal->extra = (char *) unsupported;
    }
}


ngx_uint_t
ngx_http_ims_proxy_scheme_ok(const ims_sip_msg_t *m)
{
    switch (m->ruri.scheme) {

    case IMS_SIP_URI_SIP:
    case IMS_SIP_URI_SIPS:
    case IMS_SIP_URI_TEL:
    case IMS_SIP_URI_URN:
        return 1;

    default:
        return 0;
    }
}


/*
 * A branch that is none (RFC 2543, as a core may write it) names nothing: what
 * stands for it is what ACK and CANCEL have in common with their INVITE
 * (RFC 3261 17.2.3).
 */

static void
ngx_http_ims_proxy_key(ims_trans_key_t *key, uint32_t slot,
    uint32_t generation, const ims_sip_msg_t *m, ngx_uint_t direction,
    u_char *buf, size_t size)
{
    u_char         *p, cseq[NGX_INT64_LEN], hash[IMS_TRANS_HASH_LEN];
    ims_str_t       parts[5];
    static u_char   hex[2 * IMS_TRANS_HASH_LEN];

    p = ngx_snprintf(buf, size, "%*s:%ud", m->via.host.n, m->via.host.p,
                     (ngx_uint_t) m->via.port);

    key->slot = slot;
    key->generation = generation;
    key->direction = (uint8_t) direction;
    key->branch = m->via.branch.value;
    key->sent_by = ims_str_range(buf, p);
    key->method = m->method;

    if (!ims_sip_branch_ok(m->via.branch.value)) {

        parts[0] = m->via.whole;
        parts[1] = m->call_id;
        parts[2] = m->from_tag;
        parts[3] = ims_str_range(cseq, ngx_sprintf(cseq, "%uD", m->cseq));
        parts[4] = m->uri;

        ims_trans_hash(ngx_http_ims_worker->trans, parts, 5, hash);
        ims_hex_encode(hex, hash, sizeof(hash));

        key->branch = ims_str_set(hex, sizeof(hex));
    }
}


ims_trans_t *
ngx_http_ims_proxy_find(ngx_http_ims_session_t *s, const ims_sip_msg_t *m,
    ngx_uint_t direction)
{
    if (s->slot == NGX_HTTP_IMS_NO_SLOT) {
        return NULL;
    }

    return ngx_http_ims_proxy_find_of(s->slot, s->generation, m, direction);
}


ims_trans_t *
ngx_http_ims_proxy_find_of(uint32_t slot, uint32_t generation,
    const ims_sip_msg_t *m, ngx_uint_t direction)
{
    u_char           sent_by[NGX_HTTP_IMS_SENT_BY];
    ims_trans_key_t  key;

    ngx_http_ims_proxy_key(&key, slot, generation, m, direction, sent_by,
                           sizeof(sent_by));

    return ims_trans_find_request(ngx_http_ims_worker->trans, &key);
}


ngx_int_t
ngx_http_ims_proxy_record(ngx_http_ims_session_t *s, const ims_sip_msg_t *m,
    ngx_uint_t direction, ims_trans_t **tp)
{
    u_char                      sent_by[NGX_HTTP_IMS_SENT_BY];
    ims_str_t                   charging;
    ngx_uint_t                  procedure;
    ims_trans_t                *t;
    ims_trans_rc_t              rc;
    ims_trans_key_t             key;
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;

    ngx_http_ims_proxy_key(&key, s->slot, s->generation, m, direction, sent_by,
                           sizeof(sent_by));

    rc = ngx_http_ims_trans_new(&key, &t);

    if (rc == IMS_TRANS_EXISTS) {
        *tp = t;
        return NGX_DECLINED;
    }

    if (rc != IMS_TRANS_OK) {
        ngx_http_ims_count(trans_limit);
        return NGX_BUSY;
    }

    procedure = direction == IMS_TRANS_TO_CORE ? NGX_HTTP_IMS_TRANS_TO_CORE
                                               : NGX_HTTP_IMS_TRANS_TO_WIC;

    charging = ngx_http_ims_proxy_charging(m, direction);

    d = ngx_http_ims_trans_data(t, procedure, charging.n + 1);
    if (d == NULL) {
        ims_trans_free(w->trans, t);
        return NGX_BUSY;
    }

    d->serial = s->serial;
    d->delay = s->delay;

    if (charging.n) {
        d->text[0] = ';';
        ngx_memcpy(d->text + 1, charging.p, charging.n);
        d->charging_len = (uint16_t) (charging.n + 1);
    }

    t->invite = m->method_id == IMS_SIP_M_INVITE;
    t->in_dialog = m->to_tag.p != NULL;
    t->method = (uint16_t) m->method_id;
    t->cseq = m->cseq;
    t->created = ims_boottime_ms();

    ims_trans_hash(w->trans, &m->call_id, 1, t->call_id);
    ims_trans_hash(w->trans, &m->from_tag, 1, t->from_tag);

    *tp = t;

    return NGX_OK;
}


/* what the core's request says of charging, its responses say, too */

static ims_str_t
ngx_http_ims_proxy_charging(const ims_sip_msg_t *m, ngx_uint_t direction)
{
    ims_str_t  value;

    if (direction != IMS_TRANS_TO_WIC
        || m->count[IMS_SIP_H_P_CHARGING_VECTOR] == 0)
    {
        return IMS_STR_NULL;
    }

    value = ims_sip_hdr_value(m, IMS_SIP_H_P_CHARGING_VECTOR);

    return value.n <= NGX_HTTP_IMS_CHARGING ? value : IMS_STR_NULL;
}


ims_str_t
ngx_http_ims_proxy_branch(ngx_http_ims_session_t *s, const ims_sip_msg_t *m,
    ngx_uint_t direction, u_char *out)
{
    ims_flow_id_t      id;
    ims_flow_branch_t  b;

    id.node = (uint16_t) s->main->node;
    id.slot = s->slot;
    id.generation = s->generation;

    b.direction = (uint8_t) direction;
    b.attempt = 0;
    b.cseq = m->cseq;
    b.via_sent_by = m->via.host;
    b.via_branch = m->via.branch.value;
    b.call_id = m->call_id;
    b.from_tag = m->from_tag;
    b.r_uri = m->uri;

    return ims_str_set(out, ims_flow_branch_make(s->main->flow_keys, &id, &b,
                                                 out));
}


void
ngx_http_ims_proxy_max_forwards(ims_sip_edit_t *ed)
{
    u_char                buf[NGX_INT_T_LEN], *p;
    ims_str_t             text;
    const ims_sip_msg_t  *m;

    m = ed->m;

    if (m->max_forwards < 0) {
        ims_sip_edit_append(ed, "Max-Forwards", IMS_STR("70"));
        return;
    }

    p = ngx_sprintf(buf, "%d", m->max_forwards - 1);
    text = ims_str_range(buf, p);

    ims_sip_edit_value(ed, m->first[IMS_SIP_H_MAX_FORWARDS],
                       ims_sip_edit_cat(ed, &text, 1));
}


ngx_uint_t
ngx_http_ims_proxy_dialog(const ims_sip_msg_t *m)
{
    if (m->to_tag.p) {
        return 0;
    }

    switch (m->method_id) {

    case IMS_SIP_M_INVITE:
    case IMS_SIP_M_SUBSCRIBE:
    case IMS_SIP_M_REFER:
    case IMS_SIP_M_NOTIFY:
        return 1;

    default:
        return 0;
    }
}


void
ngx_http_ims_proxy_access(ims_sip_edit_t *ed, ngx_http_ims_loc_conf_t *conf)
{
    ims_str_t  parts[2];

    if (conf->access_network.len) {
        parts[0] = ngx_http_ims_str(&conf->access_network);
        parts[1] = IMS_STR(";network-provided");

        ims_sip_edit_append(ed, "P-Access-Network-Info",
                            ims_sip_edit_cat(ed, parts, 2));
    }
}


ims_str_t
ngx_http_ims_proxy_route(ims_sip_edit_t *ed, ngx_http_ims_main_conf_t *imcf,
    ngx_http_ims_addr_t *hop, const u_char *token, size_t n)
{
    ims_str_t               parts[5];
    ngx_http_ims_listen_t  *listen;

    listen = ngx_http_ims_advertised(imcf, hop, hop->transport);

    parts[0] = IMS_STR("<sip:");
    parts[1] = ims_str_set(token, n);
    parts[2] = IMS_STR("@");
    parts[3] = ngx_http_ims_str(&listen->advertise);
    parts[4] = ngx_http_ims_str(&listen->route_params);

    return ims_sip_edit_cat(ed, parts, 5);
}


size_t
ngx_http_ims_proxy_flatten(ims_sip_edit_t *ed, ngx_uint_t level,
    ngx_log_t *log)
{
    ptrdiff_t               n;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    n = ims_sip_edit_flatten(ed, w->message, w->message_size);

    if (n > 0) {
        return (size_t) n;
    }

    ngx_log_error(level, log, 0, "message cannot be passed: %s",
                  ed->error ? ed->error : "too long");

    return 0;
}


void
ngx_http_ims_proxy_answer(ims_trans_t *t, ngx_uint_t status,
    const char *reason, const char *extra)
{
    t->answered = 1;

    if (t->direction == IMS_TRANS_TO_CORE) {
        ngx_http_ims_proxy_answer_client(t, status, reason, extra);

    } else {
        ngx_http_ims_proxy_answer_core(t, status, reason, extra);
    }

    ngx_http_ims_trans_done(t, status);
}


/* t->response has the request as it came in, until there is an answer */

static ims_sip_msg_t *
ngx_http_ims_proxy_received(ims_trans_t *t)
{
    ims_sip_err_t           err;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    if (t->response == NULL
        || ims_sip_parse(&w->kept, t->response->data, t->response->n,
                         IMS_SIP_WS, &err)
           != 0)
    {
        return NULL;
    }

    return &w->kept;
}


static void
ngx_http_ims_proxy_answer_client(ims_trans_t *t, ngx_uint_t status,
    const char *reason, const char *extra)
{
    ims_sip_msg_t              *m;
    ngx_http_ims_session_t     *s;
    ngx_http_ims_trans_data_t  *d;

    d = t->data;
    s = ngx_http_ims_flow_session(t->slot, t->generation);

    if (s == NULL || s->serial != d->serial) {
        return;
    }

    m = ngx_http_ims_proxy_received(t);

    if (m) {
        ngx_http_ims_reply(s, m, status, reason, extra);
    }
}


static void
ngx_http_ims_proxy_answer_core(ims_trans_t *t, ngx_uint_t status,
    const char *reason, const char *extra)
{
    ims_sip_msg_t  *m;

    /* a datagram may have had no Content-Length: as on a WebSocket */

    m = ngx_http_ims_proxy_received(t);

    if (m) {
        ngx_http_ims_ingress_reply_of(t, m, status, reason, extra);
    }
}


void
ngx_http_ims_proxy_failed(ims_trans_t *t, ngx_uint_t status,
    const char *reason)
{
    ngx_http_ims_trans_data_t  *d;

    d = t->data;

    if (t->state >= IMS_TRANS_COMPLETED) {
        return;
    }

    if (status == 503) {
        ngx_http_ims_count(core_down);
    }

    ngx_http_ims_proxy_answer(t, status, reason,
                              status == 503 ? "Retry-After: 5\r\n" : NULL);

    /* it may have arrived before its link was lost: nobody shall be rung up */

    if (t->invite && d->broken) {
        ngx_http_ims_cancel_now(t);
    }
}


/*
 * INVITE: Timer B without a 1xx, Timer C with one, then CANCEL and some more
 * time for the 487.  Others: never 408 (RFC 4320).
 */

uint64_t
ngx_http_ims_proxy_expired(ims_trans_t *t, uint64_t now)
{
    if (t->invite && t->provisional && !t->cancel_sent) {
        t->cancelled = 1;
        ngx_http_ims_cancel_send(t);

        return now + NGX_HTTP_IMS_TIMER_B;
    }

    ngx_http_ims_count(core_timeout);

    if (t->invite) {
        ngx_http_ims_proxy_answer(t, 408, "Request Timeout", NULL);

    } else {
        ngx_http_ims_proxy_answer(t, 504, "Server Time-out", NULL);
    }

    return now + 64 * NGX_HTTP_IMS_T1;
}


/*
 * Requests of the core that wait for the client get 430 at once, so that the
 * core tries elsewhere; the client's own pending INVITEs are cancelled.  The
 * records live on until their deadlines.
 */

void
ngx_http_ims_proxy_flow_lost(ngx_http_ims_session_t *s)
{
    ims_trans_t                *t, *next;
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;

    for (t = ims_trans_flow_first(w->trans, s->slot, s->generation);
         t;
         t = next)
    {
        next = ims_trans_flow_next(t);
        d = t->data;

        if (t->state >= IMS_TRANS_COMPLETED || d->serial != s->serial) {
            continue;
        }

        t->orphan = 1;

        if (d->procedure == NGX_HTTP_IMS_TRANS_TO_WIC) {
            ngx_http_ims_proxy_answer(t, 430, "Flow Failed", NULL);

        } else if (d->procedure == NGX_HTTP_IMS_TRANS_TO_CORE && t->invite) {
            t->cancelled = 1;
            ngx_http_ims_cancel_send(t);
        }
    }
}
