
/*
 * Copyright (C) nginx-ims contributors
 *
 * Requests of the core: routed by the flow token in their Route to wherever
 * the flow's connection is, and handed to the client there.
 */

#include "ngx_http_ims_proxy.h"


/* what the Route of a request says */
typedef struct {
    ims_proxy_routes_t   routes;
    ims_flow_token_t     token;
    unsigned             strict:1;     /* our URI was in the Request-URI */
} ngx_http_ims_target_t;


static ngx_uint_t ngx_http_ims_terminating_confirms(
    const ims_trans_ingress_t *in, ims_sip_msg_t *m,
    ngx_http_ims_target_t *target, ngx_uint_t hop);
static ngx_uint_t ngx_http_ims_terminating_target(ims_sip_msg_t *m,
    ngx_http_ims_target_t *target, const char **reason);
static ngx_uint_t ngx_http_ims_terminating_token(ims_sip_msg_t *m,
    ngx_http_ims_target_t *target, const char **reason);
static void ngx_http_ims_terminating_here(ngx_http_ims_session_t *s,
    const ims_trans_ingress_t *in, ims_sip_msg_t *m,
    ngx_http_ims_target_t *target);
static void ngx_http_ims_terminating_start(ngx_http_ims_session_t *s,
    const ims_trans_ingress_t *in, ims_sip_msg_t *m,
    ngx_http_ims_target_t *target);
static void ngx_http_ims_terminating_again(ims_trans_t *t,
    const ims_trans_ingress_t *in);
static ngx_int_t ngx_http_ims_terminating_send(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m, ngx_http_ims_target_t *target, ims_trans_t *t,
    const char **reason);
static const char *ngx_http_ims_terminating_edit(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m, ngx_http_ims_target_t *target, ims_str_t branch);
static void ngx_http_ims_terminating_pop(ims_sip_edit_t *ed,
    ngx_http_ims_target_t *target);
static void ngx_http_ims_terminating_record_route(ngx_http_ims_session_t *s,
    ims_sip_edit_t *ed, const ims_trans_ingress_t *in);
static void ngx_http_ims_terminating_called(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m, ims_trans_t *t);
static void ngx_http_ims_terminating_ack(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m, ngx_http_ims_target_t *target);


void
ngx_http_ims_terminating(const ims_trans_ingress_t *in, ims_sip_msg_t *m,
    ngx_uint_t hop)
{
    uint64_t                 owner;
    ngx_uint_t               status;
    const char              *reason;
    ims_flow_rc_t            rc;
    ngx_http_ims_target_t    target;
    ngx_http_ims_worker_t   *w;
    ngx_http_ims_session_t  *s;

    w = ngx_http_ims_worker;

    if (ngx_http_ims_reg_notify(in, m, hop)) {
        return;
    }

    status = ngx_http_ims_terminating_target(m, &target, &reason);

    if (status) {
        goto refuse;
    }

    s = ngx_http_ims_flow_session(target.token.id.slot,
                                  target.token.id.generation);

    if (s && !s->closing
        && ims_flow_owner(w->main->flows, s->slot) == s->owner)
    {
        ngx_http_ims_terminating_here(s, in, m, &target);
        return;
    }

    if (m->method_id == IMS_SIP_M_ACK
        && ngx_http_ims_terminating_confirms(in, m, &target, hop))
    {
        return;
    }

    status = 430;
    reason = "Flow Failed";

    rc = ims_flow_resolve(w->main->flows, target.token.id.slot,
                          target.token.id.generation, &owner);

    if (rc == IMS_FLOW_OK) {

        if (ims_flow_is_owned(owner)
            && ngx_http_ims_terminating_elsewhere(in, m, owner,
                                                  &target.token.id, hop)
               == NGX_OK)
        {
            return;
        }

        /*
         * without a connection at the moment: with an initial request the
         * core tries the next binding, a dialog waits for the client
         */

        if (target.token.kind != IMS_FLOW_TOKEN_PATH
            && !ims_flow_is_claim(owner)
            && ngx_http_ims_held_add(in, m) == NGX_OK)
        {
            return;
        }
    }

    ngx_http_ims_count(flow_token_dead);

refuse:

    if (m->method_id != IMS_SIP_M_ACK) {
        ngx_http_ims_ingress_reply(in, m, status, reason, NULL);
    }
}


/*
 * The flow is gone, or elsewhere by now, but the worker that refused an INVITE
 * of the core over UDP goes on saying so until it gets the ACK.
 */

static ngx_uint_t
ngx_http_ims_terminating_confirms(const ims_trans_ingress_t *in,
    ims_sip_msg_t *m, ngx_http_ims_target_t *target, ngx_uint_t hop)
{
    uint32_t                slot;
    uint64_t                prev;
    ims_trans_t            *t;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    t = ngx_http_ims_proxy_find_of(target->token.id.slot,
                                   target->token.id.generation, m,
                                   IMS_TRANS_TO_WIC);

    if (t && t->invite) {
        ngx_http_ims_trans_confirmed(t);
        return 1;
    }

    slot = target->token.id.slot;

    /* the key is older than the table may be: a slot that there was */

    if (in->transport != NGX_HTTP_IMS_UDP || hop
        || slot >= w->main->flows->nslots
        || ims_flow_is_owned(ims_flow_owner(w->main->flows, slot)))
    {
        return 0;
    }

    prev = ims_flow_prev_owner(w->main->flows, slot);

    return ngx_http_ims_terminating_elsewhere(in, m, prev, &target->token.id,
                                              hop)
           == NGX_OK;
}


/* 0, or the status of the answer */

static ngx_uint_t
ngx_http_ims_terminating_target(ims_sip_msg_t *m,
    ngx_http_ims_target_t *target, const char **reason)
{
    ngx_uint_t              status;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    if (!ims_proxy_routes(m, IMS_SIP_H_ROUTE, &target->routes)) {
        *reason = "Bad Route";
        return 400;
    }

    status = ngx_http_ims_terminating_token(m, target, reason);
    if (status) {
        return status;
    }

    if (target->token.id.node != (uint16_t) w->main->node) {
        *reason = "Flow Of Another Node";
        return 404;
    }

    /* a Path token is for initial requests, the others for their dialog */

    if (m->method_id != IMS_SIP_M_CANCEL && m->method_id != IMS_SIP_M_ACK
        && (target->token.kind == IMS_FLOW_TOKEN_PATH) != (m->to_tag.p == NULL))
    {
        ngx_http_ims_count(flow_token_forged);
        *reason = "Flow Token Of Another Kind";
        return 403;
    }

    return 0;
}


static ngx_uint_t
ngx_http_ims_terminating_token(ims_sip_msg_t *m,
    ngx_http_ims_target_t *target, const char **reason)
{
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    /*
     * A strict router has put our URI into the Request-URI, and the client's
     * at the end of Route (RFC 3261 16.4).
     */

    target->strict = target->routes.n && m->ruri.user.n
                     && ims_flow_token_core(w->main->flow_keys, m->ruri.user,
                                            m->call_id, &target->token)
                        == IMS_FLOW_TOKEN_OK;

    if (target->strict) {
        return 0;
    }

    if (target->routes.n == 0) {

        if (!ngx_http_ims_proxy_scheme_ok(m)) {
            *reason = "Unsupported URI Scheme";
            return 416;
        }

        /* dispatchers ping */

        if (m->method_id == IMS_SIP_M_OPTIONS && m->ruri.user.n == 0) {
            *reason = "OK";
            return 200;
        }

        *reason = "Not Found";
        return 404;
    }

    switch (ims_flow_token_core(w->main->flow_keys,
                                ims_proxy_user(target->routes.uri[0]),
                                m->call_id, &target->token))
    {
    case IMS_FLOW_TOKEN_OK:
        return 0;

    case IMS_FLOW_TOKEN_FORGED:
        ngx_http_ims_count(flow_token_forged);
        *reason = "Forged Flow Token";
        return 403;

    default: /* IMS_FLOW_TOKEN_MALFORMED */
        *reason = "Not Found";
        return 404;
    }
}


ngx_int_t
ngx_http_ims_terminating_elsewhere(const ims_trans_ingress_t *in,
    ims_sip_msg_t *m, uint64_t owner, const ims_flow_id_t *id, ngx_uint_t hop)
{
    ngx_int_t               rc;
    ims_flow_dgram_t        head;
    ims_flow_worker_t       other;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    if (hop >= 3
        || !ims_flow_worker_of(w->main->flows, owner, &other)
        || other.id == w->id)
    {
        return NGX_DECLINED;
    }

    ngx_memzero(&head, sizeof(head));
    head.kind = IMS_FLOW_DGRAM_REQUEST;
    head.node = id->node;
    head.slot = id->slot;
    head.generation = id->generation;
    head.arg = hop + 1;
    head.worker = in->worker;
    head.serial = in->serial;
    head.transport = in->transport;
    head.link = in->link;
    head.addr_len = in->addr_len;
    ngx_memcpy(head.addr, in->addr, in->addr_len);

    rc = ngx_http_ims_deliver(other.id, &head, (u_char *) m->raw.p, m->raw.n);

    if (rc != NGX_BUSY) {
        return rc;
    }

    if (m->method_id != IMS_SIP_M_ACK) {
        ngx_http_ims_ingress_reply(in, m, 503, "Worker Overloaded",
                                   "Retry-After: 1\r\n");
    }

    return NGX_OK;
}


static void
ngx_http_ims_terminating_here(ngx_http_ims_session_t *s,
    const ims_trans_ingress_t *in, ims_sip_msg_t *m,
    ngx_http_ims_target_t *target)
{
    ngx_int_t                rc;
    ngx_http_ims_refusal_t   refusal;

    if (m->method_id == IMS_SIP_M_CANCEL) {
        ngx_http_ims_cancel_of_core(s, in, m);
        return;
    }

    rc = s->registered ? ngx_http_ims_flow_check(s) : NGX_DECLINED;

    if (m->method_id == IMS_SIP_M_ACK) {

        if (rc == NGX_OK) {
            ngx_http_ims_terminating_ack(s, m, target);
        }

        return;
    }

    if (rc == NGX_DECLINED) {
        ngx_http_ims_ingress_reply(in, m, 430, "Flow Failed", NULL);
        return;
    }

    if (rc != NGX_OK) {
        ngx_http_ims_ingress_reply(in, m, 503, "Pool Unavailable",
                                   "Retry-After: 5\r\n");
        return;
    }

    ngx_http_ims_proxy_check(m, &refusal);

    if (refusal.status) {
        ngx_http_ims_count(sip_refused);
        ngx_http_ims_ingress_reply(in, m, refusal.status, refusal.reason,
                                   refusal.extra);
        return;
    }

    ngx_http_ims_terminating_start(s, in, m, target);
}


static void
ngx_http_ims_terminating_start(ngx_http_ims_session_t *s,
    const ims_trans_ingress_t *in, ims_sip_msg_t *m,
    ngx_http_ims_target_t *target)
{
    ngx_int_t               rc;
    ims_str_t               raw;
    ims_trans_t            *t;
    const char             *reason;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    rc = ngx_http_ims_proxy_record(s, m, IMS_TRANS_TO_WIC, &t);

    if (rc == NGX_DECLINED) {
        ngx_http_ims_terminating_again(t, in);
        return;
    }

    if (rc != NGX_OK) {
        ngx_http_ims_ingress_reply(in, m, 503, "Too Many Transactions",
                                   "Retry-After: 5\r\n");
        return;
    }

    t->ingress = *in;
    raw = m->raw;

    if (!ims_trans_save(w->trans, &t->response, &raw, 1)) {
        ngx_http_ims_trans_free(t);
        ngx_http_ims_ingress_reply(in, m, 500, "Out Of Memory", NULL);
        return;
    }

    if (t->invite) {
        ngx_http_ims_ingress_reply_of(t, m, 100, "Trying", NULL);
    }

    if (ngx_http_ims_terminating_send(s, m, target, t, &reason) != NGX_OK) {
        ngx_http_ims_proxy_answer(t, reason ? 400 : 430,
                                  reason ? reason : "Flow Failed", NULL);
        return;
    }

    ngx_http_ims_count(terminating);
}


/*
 * A request that came before.  Streams do not lose what was answered; over UDP
 * the last answer goes out once more (RFC 3261 17.2), but a 2xx to an INVITE,
 * which its sender repeats (RFC 6026 7.1).
 */

static void
ngx_http_ims_terminating_again(ims_trans_t *t, const ims_trans_ingress_t *in)
{
    if (in->transport != NGX_HTTP_IMS_UDP) {
        return;
    }

    ngx_http_ims_count(udp_repeated);

    if (t->state != IMS_TRANS_ACCEPTED && t->state != IMS_TRANS_CONFIRMED) {
        (void) ngx_http_ims_ingress_again(t);
    }
}


/* NGX_ERROR: reason, or none if the client is gone */

static ngx_int_t
ngx_http_ims_terminating_send(ngx_http_ims_session_t *s, ims_sip_msg_t *m,
    ngx_http_ims_target_t *target, ims_trans_t *t, const char **reason)
{
    size_t                   n;
    u_char                   branch[IMS_FLOW_BRANCH_MAX];
    ims_str_t                b, out;
    ngx_http_ims_worker_t   *w;

    w = ngx_http_ims_worker;

    b = ngx_http_ims_proxy_branch(s, m, IMS_TRANS_TO_WIC, branch);

    *reason = ngx_http_ims_terminating_edit(s, m, target, b);
    if (*reason) {
        return NGX_ERROR;
    }

    if (ngx_http_ims_proxy_dialog(m)) {
        ngx_http_ims_terminating_record_route(s, &w->edit, &t->ingress);
        t->record_routed = 1;
    }

    /* what a response of the client will be held against */

    if (!ims_proxy_hashes(m, 0, 0, t->via_hash, t->rr_hash)) {
        *reason = "Bad Via Or Record-Route";
        return NGX_ERROR;
    }

    ngx_http_ims_terminating_called(s, m, t);

    n = ngx_http_ims_proxy_flatten(&w->edit, NGX_LOG_ERR,
                                   s->connection->log);
    out = ims_str_set(w->message, n);

    if (n == 0
        || (t->invite && !ims_trans_save(w->trans, &t->request, &out, 1)))
    {
        *reason = "Message Cannot Be Passed";
        return NGX_ERROR;
    }

    ims_trans_set_branch(w->trans, t, b, m->method);
    ngx_http_ims_trans_pending(t);
    ngx_http_ims_trans_deadline(t, t->created
                                   + (t->invite ? NGX_HTTP_IMS_TIMER_B
                                                : NGX_HTTP_IMS_NON_INVITE));

    return ngx_http_ims_session_send(s, w->message, n);
}


static const char *
ngx_http_ims_terminating_edit(ngx_http_ims_session_t *s, ims_sip_msg_t *m,
    ngx_http_ims_target_t *target, ims_str_t branch)
{
    ims_str_t                parts[4];
    const char              *reason;
    ims_sip_edit_t          *ed;
    ngx_http_ims_listen_t   *listen;
    ngx_http_ims_worker_t   *w;

    w = ngx_http_ims_worker;
    listen = s->main->listens->elts;
    ed = &w->edit;

    ims_sip_edit_init(ed, m, w->scratch, w->scratch_size);

    if (ims_sip_policy_apply(ed, IMS_SIP_CORE_REQUEST, &reason) != 0) {
        return reason;
    }

    parts[0] = s->secure ? IMS_STR("SIP/2.0/WSS ") : IMS_STR("SIP/2.0/WS ");
    parts[1] = ngx_http_ims_str(&listen[0].advertise);
    parts[2] = IMS_STR(";branch=");
    parts[3] = branch;

    ims_sip_edit_top(ed, "Via", ims_sip_edit_cat(ed, parts, 4));
    ngx_http_ims_proxy_max_forwards(ed);
    ngx_http_ims_terminating_pop(ed, target);

    return NULL;
}


/*
 * Our own Route value is done with, a strict router's message is mended.  The
 * values that stay are written anew, one a line.
 */

static void
ngx_http_ims_terminating_pop(ims_sip_edit_t *ed,
    ngx_http_ims_target_t *target)
{
    unsigned             i, drop;
    ims_proxy_routes_t  *r;

    r = &target->routes;
    drop = 0;

    if (target->strict) {
        drop = r->n - 1;
        ims_sip_edit_ruri(ed, r->uri[drop]);
    }

    ims_sip_edit_drop_id(ed, IMS_SIP_H_ROUTE);

    for (i = 0; i < r->n; i++) {
        if (i != drop) {
            ims_sip_edit_append(ed, "Route", r->value[i]);
        }
    }
}


/* good for both sides: all that it covers is known when it is made */

static void
ngx_http_ims_terminating_record_route(ngx_http_ims_session_t *s,
    ims_sip_edit_t *ed, const ims_trans_ingress_t *in)
{
    size_t               n;
    u_char               token[IMS_FLOW_TOKEN_MAX];
    ims_str_t            value;
    ims_flow_id_t        id;
    ims_flow_dialog_t    dialog;
    ims_proxy_routes_t   rr;
    ngx_http_ims_addr_t  hop;

    id.node = (uint16_t) s->main->node;
    id.slot = s->slot;
    id.generation = s->generation;

    if (!ims_proxy_routes(ed->m, IMS_SIP_H_RECORD_ROUTE, &rr)) {
        /* refused right after, by ims_proxy_hashes() */
        rr.n = 0;
    }

    dialog.call_id = ed->m->call_id;
    dialog.wic_tag = IMS_STR_NULL;
    dialog.far_tag = ed->m->from_tag;
    dialog.routes = rr.uri;
    dialog.nroutes = rr.n;

    n = ims_flow_token_rr_wic(s->main->flow_keys, IMS_FLOW_TOKEN_RR_TERM, &id,
                              &dialog, token);

    ngx_http_ims_ingress_address(in, &hop);

    value = ngx_http_ims_proxy_route(ed, s->main, &hop, token, n);

    if (ed->m->count[IMS_SIP_H_RECORD_ROUTE]) {
        ims_sip_edit_before(ed, ed->m->first[IMS_SIP_H_RECORD_ROUTE],
                            "Record-Route", value);

    } else {
        ims_sip_edit_append(ed, "Record-Route", value);
    }
}


/* the IMPU meant: what the client's responses will assert */

static void
ngx_http_ims_terminating_called(ngx_http_ims_session_t *s, ims_sip_msg_t *m,
    ims_trans_t *t)
{
    ims_str_t       called, impu;
    ims_sip_addr_t  addr;

    called = ims_sip_hdr_value(m, IMS_SIP_H_P_CALLED_PARTY_ID);

    if (called.n && ims_sip_addr_parse(called, &addr)) {
        called = addr.uri;
    }

    impu = ims_proxy_called(ims_flow_peek(s->main->flows, s->slot), called);

    if (impu.n <= sizeof(t->impu)) {
        t->impu_len = (uint8_t) impu.n;
        ngx_memcpy(t->impu, impu.p, impu.n);
    }
}


static void
ngx_http_ims_terminating_ack(ngx_http_ims_session_t *s, ims_sip_msg_t *m,
    ngx_http_ims_target_t *target)
{
    size_t                  n;
    u_char                  branch[IMS_FLOW_BRANCH_MAX];
    ims_str_t               b;
    ims_trans_t            *t;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    t = ngx_http_ims_proxy_find(s, m, IMS_TRANS_TO_WIC);

    if (t && t->invite) {
        /* of a non-2xx: ours was sent with that response */

        ngx_http_ims_trans_confirmed(t);
        return;
    }

    if (m->max_forwards == 0 || m->to_tag.p == NULL
        || target->token.kind == IMS_FLOW_TOKEN_PATH)
    {
        return;
    }

    b = ngx_http_ims_proxy_branch(s, m, IMS_TRANS_TO_WIC, branch);

    if (ngx_http_ims_terminating_edit(s, m, target, b) != NULL) {
        return;
    }

    n = ngx_http_ims_proxy_flatten(&w->edit, NGX_LOG_ERR,
                                   s->connection->log);

    if (n) {
        (void) ngx_http_ims_session_send(s, w->message, n);
    }
}
