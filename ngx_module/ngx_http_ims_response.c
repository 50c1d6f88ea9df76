
/*
 * Copyright (C) nginx-ims contributors
 *
 * Responses: a client's only for a request that it was sent, and with that
 * request's Via and Record-Route; the core's by the branch that is ours.
 * Where a response goes is what the record says, never its text.
 */

#include "ngx_http_ims_proxy.h"


static void ngx_http_ims_response_unwanted(ngx_http_ims_session_t *s,
    const char *why);
static ngx_uint_t ngx_http_ims_response_late(ims_trans_t *t,
    const ims_sip_msg_t *m);
static void ngx_http_ims_response_too_late(ims_trans_t *t,
    ims_sip_msg_t *m);
static ngx_uint_t ngx_http_ims_response_fits(ims_trans_t *t,
    ims_sip_msg_t *m);
static ngx_uint_t ngx_http_ims_response_routes_fit(ims_trans_t *t,
    ims_sip_msg_t *m);
static ngx_uint_t ngx_http_ims_response_own_route(ims_trans_t *t,
    ims_sip_msg_t *m);
static size_t ngx_http_ims_response_to_core(ngx_http_ims_session_t *s,
    ims_trans_t *t, ims_sip_msg_t *m);
static void ngx_http_ims_response_charging(ngx_http_ims_session_t *s,
    ims_sip_edit_t *ed, ims_trans_t *t);
static void ngx_http_ims_response_unfit(ims_trans_t *t, ims_sip_msg_t *m);
static size_t ngx_http_ims_response_to_client(ngx_http_ims_session_t *s,
    ims_trans_t *t, ims_sip_msg_t *m);
static void ngx_http_ims_response_record_route(ngx_http_ims_session_t *s,
    ims_trans_t *t, ims_sip_edit_t *ed);
static void ngx_http_ims_response_dialogs(ngx_http_ims_session_t *s,
    ims_trans_t *t, ims_sip_msg_t *m);
static void ngx_http_ims_response_state(ims_trans_t *t, ims_sip_msg_t *m);


void
ngx_http_ims_response_of_client(ngx_http_ims_session_t *s, ims_sip_msg_t *m)
{
    size_t                  n;
    ngx_uint_t              how;
    ims_trans_t            *t;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    t = ims_trans_find_response(w->trans, m->via.branch.value, m->method);

    if (t == NULL || t->direction != IMS_TRANS_TO_WIC || t->slot != s->slot
        || t->generation != s->generation)
    {
        if (m->method_id != IMS_SIP_M_CANCEL) {
            ngx_http_ims_response_unwanted(s, "response without a request");
        }

        return;
    }

    if (m->method_id == IMS_SIP_M_CANCEL) {
        /* of our own CANCEL */
        return;
    }

    if (!ngx_http_ims_response_fits(t, m)) {
        ngx_http_ims_response_unwanted(s, "response of another request");
        return;
    }

    if (t->invite && m->status >= 300) {
        ngx_http_ims_cancel_ack(t, m);
    }

    if (ngx_http_ims_response_late(t, m)) {
        ngx_http_ims_response_too_late(t, m);
        return;
    }

    /* nothing of a lease that has ended is passed */

    if (ngx_http_ims_flow_check(s) != NGX_OK) {
        return;
    }

    if (m->status == 503) {
        /* RFC 3261 16.7 item 6: nobody is to take the edge for overloaded */
        ngx_http_ims_proxy_answer(t, 500, "Client Unavailable", NULL);
        return;
    }

    if (m->status == 408 && !t->invite) {
        /* RFC 4320 */
        ngx_http_ims_proxy_answer(t, 504, "Server Time-out", NULL);
        return;
    }

    if (m->status > 100) {

        n = ngx_http_ims_response_to_core(s, t, m);

        if (n == 0) {
            ngx_http_ims_proxy_answer(t, 500, "Bad Response Of The Client",
                                      NULL);
            return;
        }

        /* a client may send any number of these: no link is to break of it */

        how = m->status < 200 || t->state == IMS_TRANS_ACCEPTED
              ? NGX_HTTP_IMS_SEND_SPARE : NGX_HTTP_IMS_SEND_ALWAYS;

        ngx_http_ims_ingress_answer(t, how, w->message, n);
    }

    ngx_http_ims_response_dialogs(s, t, m);
    ngx_http_ims_response_state(t, m);
}


static void
ngx_http_ims_response_unwanted(ngx_http_ims_session_t *s, const char *why)
{
    ngx_http_ims_count(response_from_client);

    ngx_log_error(NGX_LOG_INFO, s->connection->log, 0,
                  "ims session %uD: %s", s->serial, why);

    if (++s->bad_responses == 3) {
        ngx_http_ims_session_close(s, IMS_WS_POLICY, why);
    }
}


/* answered already, maybe by us; further 2xx of an INVITE go through */

static ngx_uint_t
ngx_http_ims_response_late(ims_trans_t *t, const ims_sip_msg_t *m)
{
    if (t->state < IMS_TRANS_COMPLETED) {
        return 0;
    }

    return t->state != IMS_TRANS_ACCEPTED || m->status / 100 != 2;
}


/*
 * Whoever is rung up, or answers, for an INVITE that the edge has answered by
 * itself would be in a call with nobody.  A client that answers after all will
 * miss its ACK and hang up.
 */

static void
ngx_http_ims_response_too_late(ims_trans_t *t, ims_sip_msg_t *m)
{
    if (!t->answered || !t->invite) {
        return;
    }

    if (m->status < 200) {
        t->provisional = 1;
        t->cancelled = 1;
        ngx_http_ims_cancel_send(t);

    } else if (m->status < 300 && t->direction == IMS_TRANS_TO_CORE) {
        ngx_http_ims_hangup(t, m);
    }
}


static ngx_uint_t
ngx_http_ims_response_fits(ims_trans_t *t, ims_sip_msg_t *m)
{
    u_char                  hash[IMS_TRANS_HASH_LEN];
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    if (m->cseq != t->cseq) {
        return 0;
    }

    ims_trans_hash(w->trans, &m->call_id, 1, hash);

    if (ngx_memcmp(hash, t->call_id, sizeof(hash)) != 0) {
        return 0;
    }

    ims_trans_hash(w->trans, &m->from_tag, 1, hash);

    if (ngx_memcmp(hash, t->from_tag, sizeof(hash)) != 0) {
        return 0;
    }

    return ngx_http_ims_response_routes_fit(t, m);
}


/*
 * The Via list below ours is how the response finds its way, the Record-Route
 * how the dialog will: both are the core's, and come back as they were sent.
 * A response that makes no dialog need not repeat Record-Route.  Within one it
 * says nothing to anybody (RFC 3261 12.2): some clients put their own route set
 * there, and it goes no further.
 */

static ngx_uint_t
ngx_http_ims_response_routes_fit(ims_trans_t *t, ims_sip_msg_t *m)
{
    u_char  via[16], rr[16];

    if (!ims_proxy_hashes(m, 1, t->record_routed ? 1 : 0, via, rr)
        || ngx_memcmp(via, t->via_hash, sizeof(via)) != 0)
    {
        return 0;
    }

    if (t->in_dialog) {
        return 1;
    }

    if (m->count[IMS_SIP_H_RECORD_ROUTE] == 0
        && (m->status == 100 || m->status >= 300 || !t->invite
            || !t->record_routed
            || (m->status < 200 && m->to_tag.p == NULL)))
    {
        return 1;
    }

    if (t->record_routed && !ngx_http_ims_response_own_route(t, m)) {
        return 0;
    }

    return ngx_memcmp(rr, t->rr_hash, sizeof(rr)) == 0;
}


/* the value that was on top of the request's list is on top of it still */

static ngx_uint_t
ngx_http_ims_response_own_route(ims_trans_t *t, ims_sip_msg_t *m)
{
    ims_flow_id_t           id;
    ims_proxy_routes_t      rr;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    id.node = (uint16_t) w->main->node;
    id.slot = t->slot;
    id.generation = t->generation;

    return ims_proxy_routes(m, IMS_SIP_H_RECORD_ROUTE, &rr)
           && rr.n
           && ims_proxy_is_ours(rr.uri[0], w->main->flow_keys, &id,
                                m->call_id);
}


static size_t
ngx_http_ims_response_to_core(ngx_http_ims_session_t *s, ims_trans_t *t,
    ims_sip_msg_t *m)
{
    ims_str_t               parts[3];
    const char             *reason;
    ims_sip_edit_t         *ed;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;
    ed = &w->edit;

    ims_sip_edit_init(ed, m, w->scratch, w->scratch_size);

    if (ims_sip_policy_apply(ed, IMS_SIP_WIC_RESPONSE, &reason) != 0) {
        ngx_http_ims_count(sip_policy);
        return 0;
    }

    ngx_http_ims_drop_via(ed);
    ngx_http_ims_ingress_received(&t->ingress, ed);

    if (t->in_dialog) {
        ims_sip_edit_drop_id(ed, IMS_SIP_H_RECORD_ROUTE);
    }

    if (t->impu_len) {
        parts[0] = IMS_STR("<");
        parts[1] = ims_str_set(t->impu, t->impu_len);
        parts[2] = IMS_STR(">");

        ims_sip_edit_append(ed, "P-Asserted-Identity",
                            ims_sip_edit_cat(ed, parts, 3));
    }

    ngx_http_ims_response_charging(s, ed, t);
    ngx_http_ims_proxy_access(ed, s->conf);

    return ngx_http_ims_proxy_flatten(ed, NGX_LOG_INFO, w->log);
}


/* the request's P-Charging-Vector, and where it ended (RFC 7315 5.6) */

static void
ngx_http_ims_response_charging(ngx_http_ims_session_t *s, ims_sip_edit_t *ed,
    ims_trans_t *t)
{
    int                         rc;
    ims_str_t                   params, parts[4];
    ims_sip_param_t             ioi;
    ngx_http_ims_trans_data_t  *d;

    d = t->data;

    if (d->charging_len == 0) {
        return;
    }

    params = ims_str_set(d->text, d->charging_len);
    rc = ims_sip_param_find(params, "term-ioi", &ioi);

    if (rc < 0) {
        return;
    }

    parts[0] = ims_str_range(params.p + 1, params.p + params.n);
    parts[1] = IMS_STR(";term-ioi=\"");
    parts[2] = ims_flow_home(ims_flow_peek(s->main->flows, s->slot));
    parts[3] = IMS_STR("\"");

    ims_sip_edit_append(ed, "P-Charging-Vector",
                        ims_sip_edit_cat(ed, parts, rc == 0 ? 4 : 1));
}


void
ngx_http_ims_response_of_core(ims_trans_t *t, ims_sip_msg_t *m)
{
    size_t                      n;
    ngx_int_t                   rc;
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_session_t     *s;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;
    d = t->data;

    if (m->method_id == IMS_SIP_M_CANCEL) {
        /* of our own CANCEL */
        ngx_http_ims_cancel_done(t);

        if (t->cancel_sent && m->status >= 200) {
            ngx_http_ims_trans_quiet(t);
        }

        return;
    }

    if (t->invite && m->status >= 300) {
        ngx_http_ims_cancel_ack(t, m);
    }

    if (ngx_http_ims_response_late(t, m)) {
        ngx_http_ims_response_too_late(t, m);
        return;
    }

    s = ngx_http_ims_flow_session(t->slot, t->generation);

    if (s && (s->serial != d->serial || s->close_sent || s->peer_gone)) {
        s = NULL;
    }

    /* nothing is told of to whom the lease is not any more */

    rc = s ? ngx_http_ims_flow_check(s) : NGX_OK;

    if (rc != NGX_OK) {
        s = NULL;
    }

    if (s == NULL && t->invite && m->status / 100 == 2) {
        ngx_http_ims_hangup(t, m);
    }

    if (rc == NGX_ERROR && m->status >= 200) {
        ngx_http_ims_proxy_answer(t, 503, "Pool Unavailable",
                                  "Retry-After: 5\r\n");
        return;
    }

    if (s && m->status == 503) {
        /* RFC 3261 16.7 item 6: we are not overloaded, that peer is */
        ngx_http_ims_proxy_answer(t, 500, "Core Unavailable",
                                  "Retry-After: 5\r\n");
        return;
    }

    if (s && m->status == 408 && !t->invite) {
        /* RFC 4320 */
        ngx_http_ims_proxy_answer(t, 504, "Server Time-out", NULL);
        return;
    }

    /* 100: ours was sent at once */

    if (s && m->status > 100) {
        n = ngx_http_ims_response_to_client(s, t, m);

        if (n == 0 && m->status >= 200) {
            ngx_http_ims_response_unfit(t, m);
            return;
        }

        if (n) {
            (void) ngx_http_ims_session_send(s, w->message, n);
        }

        ngx_http_ims_response_dialogs(s, t, m);
    }

    ngx_http_ims_response_state(t, m);
}


/* an answer of the core that cannot be passed: there has to be another one */

static void
ngx_http_ims_response_unfit(ims_trans_t *t, ims_sip_msg_t *m)
{
    if (t->invite && m->status / 100 == 2) {
        ngx_http_ims_hangup(t, m);
    }

    if (t->state < IMS_TRANS_COMPLETED) {
        ngx_http_ims_proxy_answer(t, 500, "Bad Response Of The Core", NULL);
    }
}


static size_t
ngx_http_ims_response_to_client(ngx_http_ims_session_t *s, ims_trans_t *t,
    ims_sip_msg_t *m)
{
    const char             *reason;
    ims_sip_edit_t         *ed;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;
    ed = &w->edit;

    ims_sip_edit_init(ed, m, w->scratch, w->scratch_size);

    if (ims_sip_policy_apply(ed, IMS_SIP_CORE_RESPONSE, &reason) != 0) {
        ngx_log_error(NGX_LOG_ERR, s->connection->log, 0,
                      "ims session %uD: the core's answer is refused: %s",
                      s->serial, reason);
        return 0;
    }

    ngx_http_ims_drop_via(ed);

    if (m->status < 300) {
        ngx_http_ims_response_record_route(s, t, ed);
    }

    return ngx_http_ims_proxy_flatten(ed, NGX_LOG_ERR, s->connection->log);
}


/*
 * Our own value becomes one that vouches for this dialog, as this fork has
 * made it: its tags, and the values on the core's side of ours in the order in
 * which the client's Route will have them.
 */

static void
ngx_http_ims_response_record_route(ngx_http_ims_session_t *s,
    ims_trans_t *t, ims_sip_edit_t *ed)
{
    int                         ours;
    size_t                      n;
    u_char                      token[IMS_FLOW_TOKEN_MAX];
    unsigned                    i;
    ims_str_t                   far[IMS_PROXY_ROUTES];
    ims_flow_id_t               id;
    ims_flow_dialog_t           dialog;
    ims_proxy_routes_t          rr;
    const ims_sip_msg_t        *m;
    ngx_http_ims_trans_data_t  *d;

    m = ed->m;
    d = t->data;

    id.node = (uint16_t) s->main->node;
    id.slot = s->slot;
    id.generation = s->generation;

    if (!ims_proxy_routes(m, IMS_SIP_H_RECORD_ROUTE, &rr)) {
        return;
    }

    ours = ims_proxy_our_route(&rr, s->main->flow_keys, &id, m->call_id);

    if (ours < 0) {
        return;
    }

    for (i = 0; i < (unsigned) ours; i++) {
        far[i] = rr.uri[ours - 1 - (int) i];
    }

    dialog.call_id = m->call_id;
    dialog.wic_tag = m->from_tag;
    dialog.far_tag = m->to_tag;
    dialog.routes = far;
    dialog.nroutes = (unsigned) ours;

    n = ims_flow_token_rr_wic(s->main->flow_keys, IMS_FLOW_TOKEN_RR_ORIG, &id,
                              &dialog, token);

    if (n) {
        ims_sip_edit_splice(ed, rr.value[ours],
                            ngx_http_ims_proxy_route(ed, s->main, &d->peer,
                                                     token, n));
    }
}


/*
 * A flow counts its calls, so that a drain lets them end.  The count is in its
 * slot, too, for whoever takes it over.
 */

static void
ngx_http_ims_response_dialogs(ngx_http_ims_session_t *s, ims_trans_t *t,
    ims_sip_msg_t *m)
{
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    if (t->state >= IMS_TRANS_COMPLETED) {
        return;
    }

    if (t->invite && !t->in_dialog && m->status / 100 == 2) {
        s->dialogs++;

    } else if (t->method == IMS_SIP_M_BYE && s->dialogs && m->status >= 200
               && m->status != 401 && m->status != 407)
    {
        /* whatever the answer is, the call is over (RFC 3261 15.1.1) */
        s->dialogs--;

    } else {
        return;
    }

    w->data = *ims_flow_peek(s->main->flows, s->slot);
    w->data.dialogs = (uint32_t) s->dialogs;

    (void) ims_flow_write(s->main->flows, s->slot, s->owner, &w->data);
}


/* where the transaction is after this response */

static void
ngx_http_ims_response_state(ims_trans_t *t, ims_sip_msg_t *m)
{
    if (m->status >= 200) {
        ngx_http_ims_trans_done(t, m->status);

        if (t->invite && m->status < 300) {
            t->state = IMS_TRANS_ACCEPTED;
        }

        return;
    }

    t->state = IMS_TRANS_PROCEEDING;

    if (!t->invite) {
        return;
    }

    t->provisional = 1;

    if (!t->cancel_sent) {
        /* Timer A is over */
        ims_trans_resend_stop(t);
    }

    if (t->cancel_held) {
        ngx_http_ims_cancel_send(t);
    }

    if (!t->cancel_sent) {
        ngx_http_ims_trans_deadline(t, ims_boottime_ms()
                                       + NGX_HTTP_IMS_TIMER_C);
    }
}
