
/*
 * Copyright (C) nginx-ims contributors
 *
 * Requests of a client towards the core: outside of a dialog by the kept
 * Service-Route, inside of one by the Route that our own Record-Route token
 * vouches for.  Where to connect is never what a client wrote.
 */

#include "ngx_http_ims_proxy.h"


static ngx_int_t ngx_http_ims_originating_dialog(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m, ims_proxy_routes_t *routes);
static void ngx_http_ims_originating_start(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m, const ims_proxy_routes_t *routes, ims_str_t impu);
static ngx_int_t ngx_http_ims_originating_send(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m, const ims_proxy_routes_t *routes, ims_str_t impu,
    ims_trans_t *t);
static const char *ngx_http_ims_originating_write(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m, const ims_proxy_routes_t *routes, ims_str_t branch,
    ims_str_t impu, ngx_http_ims_addr_t *hop, ngx_uint_t *transport,
    size_t *n);
static const char *ngx_http_ims_originating_edit(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m, const ims_proxy_routes_t *routes, ims_str_t branch,
    ims_str_t impu, ngx_http_ims_addr_t *hop, ngx_uint_t transport);
static void ngx_http_ims_originating_routes(ims_sip_edit_t *ed,
    const ims_proxy_routes_t *routes);
static const char *ngx_http_ims_originating_expires(
    ngx_http_ims_session_t *s, ims_sip_edit_t *ed);
static void ngx_http_ims_originating_identity(ngx_http_ims_session_t *s,
    ims_sip_edit_t *ed, ims_str_t impu);
static void ngx_http_ims_originating_record_route(ngx_http_ims_session_t *s,
    ims_sip_edit_t *ed, ngx_http_ims_addr_t *hop);
static void ngx_http_ims_originating_ack(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m);
static void ngx_http_ims_hop_transport(ngx_http_ims_session_t *s,
    const ims_sip_uri_t *u, ngx_uint_t transport, ngx_http_ims_addr_t *addr);


void
ngx_http_ims_originating(ngx_http_ims_session_t *s, ims_sip_msg_t *m)
{
    ims_str_t               impu;
    ims_proxy_routes_t      routes;
    ngx_http_ims_refusal_t  refusal;

    if (m->method_id == IMS_SIP_M_ACK) {
        ngx_http_ims_originating_ack(s, m);
        return;
    }

    ngx_http_ims_proxy_check(m, &refusal);

    if (refusal.status) {
        ngx_http_ims_count(sip_refused);
        ngx_http_ims_reply(s, m, refusal.status, refusal.reason,
                           refusal.extra);
        return;
    }

    impu = ims_proxy_asserted(ims_flow_peek(s->main->flows, s->slot), m);

    if (impu.n == 0) {
        ngx_http_ims_count(sip_refused);
        ngx_http_ims_reply(s, m, 403, "No Identity May Be Asserted", NULL);
        return;
    }

    if (m->to_tag.p) {

        if (ngx_http_ims_originating_dialog(s, m, &routes) != NGX_OK) {
            ngx_http_ims_count(dialog_forged);
            ngx_http_ims_reply(s, m, 403, "Not A Dialog Of This Flow", NULL);
            return;
        }

    } else if (ngx_http_ims_service_route(s, impu, &routes) != NGX_OK) {
        ngx_http_ims_reply(s, m, 500, "Bad Service-Route", NULL);
        return;
    }

    ngx_http_ims_originating_start(s, m, &routes, impu);
}


/*
 * The top Route must be ours, made for this dialog, and vouch for the values
 * behind it: otherwise a To tag made up would be a way around Service-Route.
 */

static ngx_int_t
ngx_http_ims_originating_dialog(ngx_http_ims_session_t *s, ims_sip_msg_t *m,
    ims_proxy_routes_t *routes)
{
    unsigned           i;
    ims_flow_token_t   tok;
    ims_flow_dialog_t  dialog;

    if (!ims_proxy_routes(m, IMS_SIP_H_ROUTE, routes) || routes->n == 0) {
        return NGX_DECLINED;
    }

    dialog.call_id = m->call_id;
    dialog.wic_tag = m->from_tag;
    dialog.far_tag = m->to_tag;
    dialog.routes = &routes->uri[1];
    dialog.nroutes = routes->n - 1;

    if (ims_flow_token_wic(s->main->flow_keys, ims_proxy_user(routes->uri[0]),
                           &dialog, &tok)
        != IMS_FLOW_TOKEN_OK
        || tok.id.node != (uint16_t) s->main->node
        || tok.id.slot != s->slot
        || tok.id.generation != s->generation)
    {
        return NGX_DECLINED;
    }

    /* ours is done with */

    for (i = 1; i < routes->n; i++) {
        routes->uri[i - 1] = routes->uri[i];
        routes->value[i - 1] = routes->value[i];
    }

    routes->n--;

    return NGX_OK;
}


ngx_int_t
ngx_http_ims_service_route(ngx_http_ims_session_t *s, ims_str_t impu,
    ims_proxy_routes_t *routes)
{
    unsigned                pos;
    ims_str_t               route;
    ims_flow_ident_t        id;
    const ims_flow_data_t  *data;

    route = IMS_STR_NULL;
    data = ims_flow_peek(s->main->flows, s->slot);

    for (pos = 0; ims_flow_identity(data, &pos, &id); /* void */) {

        if (id.until_pt == 0 || id.route.n == 0) {
            continue;
        }

        if (route.n == 0 || ims_str_eq(id.uri, impu)) {
            route = id.route;
        }
    }

    /* without any: to the peer of the registration */

    return ngx_http_ims_route_values(route, routes);
}


ngx_int_t
ngx_http_ims_route_values(ims_str_t text, ims_proxy_routes_t *routes)
{
    int               rc;
    ims_str_t         value;
    ims_sip_addr_t    addr;
    ims_sip_values_t  it;

    routes->n = 0;

    ims_sip_values_text(&it, text);

    while ((rc = ims_sip_value_next(&it, &value)) == 1) {

        if (routes->n == IMS_PROXY_ROUTES
            || !ims_sip_addr_parse(value, &addr))
        {
            return NGX_ERROR;
        }

        routes->uri[routes->n] = addr.uri;
        routes->value[routes->n] = value;
        routes->n++;
    }

    return rc == 0 ? NGX_OK : NGX_ERROR;
}


static void
ngx_http_ims_originating_start(ngx_http_ims_session_t *s, ims_sip_msg_t *m,
    const ims_proxy_routes_t *routes, ims_str_t impu)
{
    ngx_int_t               rc;
    ims_str_t               raw;
    ims_trans_t            *t;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    rc = ngx_http_ims_proxy_record(s, m, IMS_TRANS_TO_CORE, &t);

    if (rc == NGX_DECLINED) {
        /* a retransmission */
        return;
    }

    if (rc != NGX_OK) {
        ngx_http_ims_reply(s, m, 503, "Too Many Transactions",
                           "Retry-After: 5\r\n");
        return;
    }

    raw = m->raw;

    if (!ims_trans_save(w->trans, &t->response, &raw, 1)) {
        ngx_http_ims_trans_free(t);
        ngx_http_ims_reply(s, m, 500, "Out Of Memory", NULL);
        return;
    }

    if (t->invite) {
        ngx_http_ims_reply(s, m, 100, "Trying", NULL);
    }

    if (ngx_http_ims_originating_send(s, m, routes, impu, t) != NGX_OK) {
        return;
    }

    ngx_http_ims_trans_deadline(t, t->created
                                   + (t->invite ? NGX_HTTP_IMS_TIMER_B
                                                : NGX_HTTP_IMS_NON_INVITE));
    ngx_http_ims_count(originating);
}


/* NGX_ERROR: the request was answered */

static ngx_int_t
ngx_http_ims_originating_send(ngx_http_ims_session_t *s, ims_sip_msg_t *m,
    const ims_proxy_routes_t *routes, ims_str_t impu, ims_trans_t *t)
{
    size_t                      n;
    u_char                      branch[IMS_FLOW_BRANCH_MAX];
    ims_str_t                   b, out;
    ngx_uint_t                  transport;
    const char                 *reason;
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;
    d = t->data;

    if (ngx_http_ims_next_hop(s, routes->n ? routes->uri[0] : IMS_STR_NULL,
                              &d->peer)
        != NGX_OK)
    {
        ngx_http_ims_proxy_answer(t, 504, "Next Hop Unknown", NULL);
        return NGX_ERROR;
    }

    b = ngx_http_ims_proxy_branch(s, m, IMS_TRANS_TO_CORE, branch);
    reason = ngx_http_ims_originating_write(s, m, routes, b, impu, &d->peer,
                                            &transport, &n);

    if (reason) {
        ngx_http_ims_count(sip_policy);
        ngx_http_ims_proxy_answer(t, 400, reason, NULL);
        return NGX_ERROR;
    }

    t->transport = (uint8_t) transport;
    d->large = transport != d->peer.transport;

    out = ims_str_set(w->message, n);

    if (n == 0 || !ims_trans_save(w->trans, &t->request, &out, 1)) {
        ngx_http_ims_proxy_answer(t, 500, "Message Cannot Be Passed", NULL);
        return NGX_ERROR;
    }

    ims_trans_set_branch(w->trans, t, b, m->method);

    d->looked = t->created;
    d->first_write = d->looked + NGX_HTTP_IMS_FIRST_WRITE;
    d->delay = ngx_min(s->delay, 2 * NGX_HTTP_IMS_TIMER_B);
    d->end = d->looked + NGX_HTTP_IMS_TIMER_B;

    if (ngx_http_ims_trans_send(t) != NGX_OK) {
        ngx_http_ims_proxy_answer(t, 503, "Core Busy", "Retry-After: 5\r\n");
        return NGX_ERROR;
    }

    return NGX_OK;
}


/*
 * The message for that hop in w->message, and by which transport it goes there:
 * what is too large for UDP by TCP, with a Via that says so (RFC 3261 18.1.1).
 * NULL, or why it cannot go.
 */

static const char *
ngx_http_ims_originating_write(ngx_http_ims_session_t *s, ims_sip_msg_t *m,
    const ims_proxy_routes_t *routes, ims_str_t branch, ims_str_t impu,
    ngx_http_ims_addr_t *hop, ngx_uint_t *transport, size_t *n)
{
    const char  *reason;

    *transport = hop->transport;

    for ( ;; ) {
        reason = ngx_http_ims_originating_edit(s, m, routes, branch, impu,
                                               hop, *transport);
        if (reason) {
            return reason;
        }

        *n = ngx_http_ims_proxy_flatten(&ngx_http_ims_worker->edit,
                                        NGX_LOG_INFO, s->connection->log);

        if (*transport != NGX_HTTP_IMS_UDP || *n <= NGX_HTTP_IMS_UDP_REQUEST) {
            return NULL;
        }

        ngx_http_ims_count(udp_large);
        *transport = NGX_HTTP_IMS_STREAM;
    }
}


static const char *
ngx_http_ims_originating_edit(ngx_http_ims_session_t *s, ims_sip_msg_t *m,
    const ims_proxy_routes_t *routes, ims_str_t branch, ims_str_t impu,
    ngx_http_ims_addr_t *hop, ngx_uint_t transport)
{
    ims_str_t                parts[7];
    const char              *reason;
    ims_sip_edit_t          *ed;
    ngx_http_ims_listen_t   *listen;
    ngx_http_ims_worker_t   *w;

    w = ngx_http_ims_worker;
    listen = ngx_http_ims_advertised(s->main, hop, transport);
    ed = &w->edit;

    ims_sip_edit_init(ed, m, w->scratch, w->scratch_size);

    if (ims_sip_policy_apply(ed, IMS_SIP_WIC_REQUEST, &reason) != 0) {
        return reason;
    }

    parts[0] = IMS_STR("SIP/2.0/");
    parts[1] = ngx_http_ims_str(&listen->transport);
    parts[2] = IMS_STR(" ");
    parts[3] = ngx_http_ims_str(&listen->advertise);
    parts[4] = ngx_http_ims_str(&listen->via_params);
    parts[5] = IMS_STR(";branch=");
    parts[6] = branch;

    ims_sip_edit_top(ed, "Via", ims_sip_edit_cat(ed, parts, 7));
    ims_sip_edit_received(ed, ngx_http_ims_str(&s->connection->addr_text),
                          ngx_inet_get_port(s->connection->sockaddr));

    ngx_http_ims_proxy_max_forwards(ed);
    ngx_http_ims_originating_routes(ed, routes);

    reason = ngx_http_ims_originating_expires(s, ed);
    if (reason) {
        return reason;
    }

    if (ngx_http_ims_proxy_dialog(m)) {
        ngx_http_ims_originating_record_route(s, ed, hop);
    }

    if (m->method_id != IMS_SIP_M_ACK) {
        ngx_http_ims_originating_identity(s, ed, impu);
    }

    return NULL;
}


/*
 * Route, in their order; to a strict router the message goes as RFC 3261 16.6
 * step 6 has it.
 */

static void
ngx_http_ims_originating_routes(ims_sip_edit_t *ed,
    const ims_proxy_routes_t *routes)
{
    unsigned   i, strict;
    ims_str_t  parts[3];

    strict = routes->n && !ims_proxy_loose(routes->uri[0]);

    for (i = strict; i < routes->n; i++) {
        ims_sip_edit_append(ed, "Route", routes->value[i]);
    }

    if (strict) {
        parts[0] = IMS_STR("<");
        parts[1] = ed->m->uri;
        parts[2] = IMS_STR(">");

        ims_sip_edit_append(ed, "Route", ims_sip_edit_cat(ed, parts, 3));
        ims_sip_edit_ruri(ed, routes->uri[0]);
    }
}


/*
 * What a client asks the core to keep may not outlast its lease: the expiry is
 * cut as that of a REGISTER is (POOL.md 1).
 */

static const char *
ngx_http_ims_originating_expires(ngx_http_ims_session_t *s,
    ims_sip_edit_t *ed)
{
    u_char                buf[NGX_INT64_LEN], *p;
    uint32_t              asked;
    uint64_t              pt, room;
    ims_str_t             text;
    const ims_sip_msg_t  *m;

    m = ed->m;

    if (m->method_id != IMS_SIP_M_SUBSCRIBE
        && m->method_id != IMS_SIP_M_PUBLISH
        && m->method_id != IMS_SIP_M_REFER)
    {
        return NULL;
    }

    asked = 3600;

    if (m->count[IMS_SIP_H_EXPIRES]) {

        if (!ims_sip_delta(ims_sip_hdr_value(m, IMS_SIP_H_EXPIRES), &asked)) {
            return "Bad Expires";
        }

    } else if (m->method_id == IMS_SIP_M_REFER) {
        return NULL;
    }

    pt = ims_pool_pt(ngx_http_ims_pool_reader(ngx_http_ims_worker));
    room = s->end > pt + 1000 ? (s->end - pt) / 1000 - 1 : 0;

    p = ngx_sprintf(buf, "%uL", ngx_min((uint64_t) asked, room));
    text = ims_str_range(buf, p);
    text = ims_sip_edit_cat(ed, &text, 1);

    if (m->count[IMS_SIP_H_EXPIRES]) {
        ims_sip_edit_value(ed, m->first[IMS_SIP_H_EXPIRES], text);

    } else {
        ims_sip_edit_append(ed, "Expires", text);
    }

    return NULL;
}


static void
ngx_http_ims_originating_identity(ngx_http_ims_session_t *s,
    ims_sip_edit_t *ed, ims_str_t impu)
{
    u_char                  noise[16], icid[32];
    ims_str_t               parts[5];
    const ims_flow_data_t  *data;

    data = ims_flow_peek(s->main->flows, s->slot);

    parts[0] = IMS_STR("<");
    parts[1] = impu;
    parts[2] = IMS_STR(">");

    ims_sip_edit_append(ed, "P-Asserted-Identity",
                        ims_sip_edit_cat(ed, parts, 3));

    ngx_http_ims_random(noise, sizeof(noise));
    ims_hex_encode(icid, noise, sizeof(noise));

    parts[0] = IMS_STR("icid-value=\"");
    parts[1] = ims_str_set(icid, sizeof(icid));
    parts[2] = IMS_STR("\";orig-ioi=\"");
    parts[3] = ims_flow_home(data);
    parts[4] = IMS_STR("\"");

    ims_sip_edit_append(ed, "P-Charging-Vector",
                        ims_sip_edit_cat(ed, parts, 5));

    ngx_http_ims_proxy_access(ed, s->conf);
}


/* for the core only; towards the client it is made anew in each answer */

static void
ngx_http_ims_originating_record_route(ngx_http_ims_session_t *s,
    ims_sip_edit_t *ed, ngx_http_ims_addr_t *hop)
{
    size_t         n;
    u_char         token[IMS_FLOW_TOKEN_MAX];
    ims_flow_id_t  id;

    id.node = (uint16_t) s->main->node;
    id.slot = s->slot;
    id.generation = s->generation;

    n = ims_flow_token_rr(s->main->flow_keys, &id, ed->m->call_id, token);

    ims_sip_edit_append(ed, "Record-Route",
                        ngx_http_ims_proxy_route(ed, s->main, hop, token, n));
}


/*
 * ACK of a 2xx goes through like any request of the dialog, but has no record
 * and no answer; that of a non-2xx is the edge's own matter.
 */

static void
ngx_http_ims_originating_ack(ngx_http_ims_session_t *s, ims_sip_msg_t *m)
{
    size_t                  n;
    u_char                  branch[IMS_FLOW_BRANCH_MAX];
    uint32_t                serial;
    uint64_t                late;
    ims_str_t               b;
    ngx_uint_t              transport;
    ims_trans_t            *t;
    ims_proxy_routes_t      routes;
    ngx_http_ims_addr_t     addr;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    t = ngx_http_ims_proxy_find(s, m, IMS_TRANS_TO_CORE);

    if (t && t->invite) {

        if (t->state == IMS_TRANS_COMPLETED) {
            t->state = IMS_TRANS_CONFIRMED;
        }

        return;
    }

    if (m->to_tag.p == NULL || m->max_forwards == 0
        || ngx_http_ims_originating_dialog(s, m, &routes) != NGX_OK
        || ngx_http_ims_next_hop(s, routes.n ? routes.uri[0] : IMS_STR_NULL,
                                 &addr)
           != NGX_OK)
    {
        ngx_http_ims_count(dialog_forged);
        ngx_log_error(NGX_LOG_INFO, s->connection->log, 0,
                      "ims session %uD: ACK without a dialog of this flow",
                      s->serial);
        return;
    }

    b = ngx_http_ims_proxy_branch(s, m, IMS_TRANS_TO_CORE, branch);

    if (ngx_http_ims_originating_write(s, m, &routes, b, IMS_STR_NULL, &addr,
                                       &transport, &n))
    {
        ngx_http_ims_count(sip_policy);
        return;
    }

    if (n) {
        late = ims_boottime_ms() + NGX_HTTP_IMS_FIRST_WRITE;

        (void) ngx_http_ims_core_send(&addr, transport, s->slot,
                                      NGX_HTTP_IMS_SEND_SPARE, w->message, n,
                                      late, &serial);
    }
}


/*
 * A literal address of a URI that the core wrote, if it is one of the core's
 * (ims_core_allow); a name, if ims_core_host lists it; else the peer that took
 * the registration.  By the transport that the URI names, else by that of the
 * registration.
 */

ngx_int_t
ngx_http_ims_next_hop(ngx_http_ims_session_t *s, ims_str_t uri,
    ngx_http_ims_addr_t *addr)
{
    u_char                buf[256], *p;
    ngx_int_t             rc;
    ngx_str_t             text;
    ims_sip_uri_t         u;
    ngx_http_ims_addr_t   peer;

    rc = ngx_http_ims_flow_peer(ims_flow_peek(s->main->flows, s->slot),
                                &peer);

    if (uri.n && ims_sip_uri_parse(uri, &u) && u.host.n
        && u.host.n < sizeof(buf) - 8)
    {
        p = ngx_sprintf(buf, "%*s:%ud", u.host.n, u.host.p,
                        (ngx_uint_t) (u.port ? u.port : 5060));
        text.data = buf;
        text.len = p - buf;

        if (ngx_http_ims_literal(&text, addr) == NGX_OK) {

            if (ngx_http_ims_core_allowed(s->main,
                                          &addr->sockaddr.sockaddr))
            {
                ngx_http_ims_hop_transport(s, &u, peer.transport, addr);
                return NGX_OK;
            }

        } else if (ngx_http_ims_core_host(s->main, u.host, u.port, addr)
                   == NGX_OK)
        {
            ngx_http_ims_hop_transport(s, &u,
                                       addr->transport == NGX_HTTP_IMS_UDP
                                       ? NGX_HTTP_IMS_UDP : peer.transport,
                                       addr);
            return NGX_OK;
        }

        ngx_log_error(NGX_LOG_INFO, s->connection->log, 0,
                      "route \"%V\" is not among the core's addresses: "
                      "to the registrar's peer", &text);
    }

    *addr = peer;

    return rc;
}


/*
 * What the URI says, else what the caller knows.  UDP only where there is one,
 * and never where the core is to be reached by TLS.
 */

static void
ngx_http_ims_hop_transport(ngx_http_ims_session_t *s, const ims_sip_uri_t *u,
    ngx_uint_t transport, ngx_http_ims_addr_t *addr)
{
    ims_str_t  value;

    if (ims_sip_param(u->params, "transport", &value)) {
        transport = ims_str_caseeq(value, IMS_STR("udp"))
                    ? NGX_HTTP_IMS_UDP : NGX_HTTP_IMS_STREAM;
    }

    if (s->main->core_ssl || u->scheme == IMS_SIP_URI_SIPS
        || ngx_http_ims_listen_udp(s->main, &addr->sockaddr.sockaddr) == NULL)
    {
        transport = NGX_HTTP_IMS_STREAM;
    }

    addr->transport = transport;
}
