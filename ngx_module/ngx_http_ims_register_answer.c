
/*
 * Copyright (C) nginx-ims contributors
 *
 * The core's answer to a REGISTER: the second look, the binding, and what the
 * client is told.  POOL.md 1, line E, d.
 */

#include "ngx_http_ims_register.h"


static void ngx_http_ims_register_ok(ngx_http_ims_session_t *s,
    ims_trans_t *t, ims_sip_msg_t *m);
static ngx_uint_t ngx_http_ims_register_foreign(ngx_http_ims_session_t *s,
    ims_reg_answer_t *a);
static void ngx_http_ims_register_bind(ngx_http_ims_session_t *s,
    ims_trans_t *t, ims_reg_answer_t *a, uint64_t pt);
static void ngx_http_ims_register_shrink(ngx_http_ims_session_t *s,
    const ims_flow_ident_t *ids, unsigned n, ims_str_t aor);
static void ngx_http_ims_register_failed_by_core(ngx_http_ims_session_t *s,
    ims_trans_t *t, ims_sip_msg_t *m);
static void ngx_http_ims_register_unbind(ngx_http_ims_session_t *s,
    ims_trans_t *t);
static void ngx_http_ims_register_pass(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m, ims_reg_answer_t *a, uint32_t told);


void
ngx_http_ims_register_response(ims_trans_t *t, ims_sip_msg_t *m)
{
    ngx_http_ims_session_t     *s;
    ngx_http_ims_trans_data_t  *d;

    d = t->data;

    if (t->state >= IMS_TRANS_COMPLETED) {
        /* a retransmission */
        return;
    }

    if (m->status < 200) {
        t->provisional = 1;
        return;
    }

    ngx_http_ims_peer_result(d->conf->group, &d->peer, m->status == 503);

    s = ngx_http_ims_flow_session(t->slot, t->generation);

    if (s == NULL || s->serial != d->serial || s->closing) {
        /* the slot says what may be bound: the sweeper will undo it */
        ngx_http_ims_trans_done(t, m->status);
        return;
    }

    if (m->status < 300) {
        s->registering = 0;
        ngx_http_ims_register_ok(s, t, m);

    } else {
        ngx_http_ims_register_failed_by_core(s, t, m);
    }
}


/* d: the second look, then the binding */

static void
ngx_http_ims_register_ok(ngx_http_ims_session_t *s, ims_trans_t *t,
    ims_sip_msg_t *m)
{
    u_char                      route[IMS_REG_ROUTE_MAX];
    uint32_t                    room, told;
    uint64_t                    left;
    ims_str_t                   instance;
    ngx_int_t                   rc;
    ngx_uint_t                  bound;
    const char                 *reason;
    ims_reg_answer_t            a;
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;
    d = t->data;

    rc = d->expires ? ngx_http_ims_flow_look(s) : NGX_OK;

    if (rc == NGX_DECLINED) {
        /* the session is being closed, and will be de-registered */
        ngx_http_ims_count(register_second_look);
        ngx_http_ims_register_answer(s, t, 403, "Lease Ended", NULL);
        ngx_http_ims_trans_done(t, 403);
        return;
    }

    if (rc != NGX_OK) {
        ngx_http_ims_count(register_unknown);
        ngx_http_ims_register_answer(s, t, 503, "Pool Unavailable",
                                     "Retry-After: 5\r\n");
        ngx_http_ims_trans_done(t, 503);
        return;
    }

    instance = IMS_STR_NULL;

    if (d->instance_len) {
        instance = ngx_http_ims_register_text(d, NGX_HTTP_IMS_REG_INSTANCE);
    }

    if (!ims_reg_answer(&a, m,
                        ngx_http_ims_register_text(d, NGX_HTTP_IMS_REG_CONTACT),
                        instance, d->reg_id, route, &reason))
    {
        ngx_log_error(NGX_LOG_ERR, s->connection->log, 0,
                      "ims session %uD: the core's answer to REGISTER is of "
                      "no use: %s", s->serial, reason);
        ngx_http_ims_register_answer(s, t, 500, "Bad Answer Of The Core",
                                     NULL);
        ngx_http_ims_trans_done(t, 500);
        return;
    }

    if (ngx_http_ims_register_foreign(s, &a)) {
        s->flow_over = 1;
        ngx_http_ims_register_answer(s, t, 403, "Identity Of Another Holder",
                                     NULL);
        ngx_http_ims_session_close(s, IMS_WS_POLICY,
                                   "identity of another holder");
        ngx_http_ims_trans_done(t, 403);
        return;
    }

    left = s->end > w->look.pt ? (s->end - w->look.pt) / 1000 : 0;
    room = d->expires == 0 ? UINT32_MAX
           : left > 1 ? (uint32_t) ngx_min(left - 1, UINT32_MAX) : 0;

    if (a.granted > ngx_max(d->expires, d->core_min)) {
        ngx_http_ims_count(register_granted_more);
        ngx_log_error(NGX_LOG_ALERT, s->connection->log, 0,
                      "ims session %uD: the core granted %uD s where %uD were "
                      "asked for; raise ims_core_min_expires or mend the core",
                      s->serial, a.granted, d->expires);
        ngx_http_ims_pool_report(w, s->ident, s->lease,
                                 (uint64_t) s->slot << 32 | s->generation,
                                 w->look.pt + 1000 * (uint64_t) a.granted);
    }

    told = ngx_min(a.granted, room);

    ngx_http_ims_register_bind(s, t, &a,
                               ims_pool_pt(ngx_http_ims_pool_reader(w)));
    ngx_http_ims_count(register_ok);

    ngx_log_error(NGX_LOG_INFO, s->connection->log, 0,
                  "ims session %uD: %s, lease %016xL-%016xL, %uD s granted, "
                  "%uD told", s->serial,
                  s->registered ? "registered" : "de-registered", s->ident,
                  s->lease, a.granted, told);

    ngx_http_ims_register_pass(s, m, &a, told);
    bound = a.found && d->expires;
    ngx_http_ims_trans_done(t, 200);

    if (bound) {
        ngx_http_ims_reg_event_registered(s);
    }
}


/*
 * P-Associated-URI may name what the pool does not know (a tel URI of the
 * subscription), but never what it knows as somebody else's.
 */

static ngx_uint_t
ngx_http_ims_register_foreign(ngx_http_ims_session_t *s, ims_reg_answer_t *a)
{
    int                 rc;
    u_char              folded[IMS_POOL_URI_MAX];
    uint64_t            ident;
    unsigned            i;
    ptrdiff_t           n;
    ims_pool_reader_t  *reader;

    reader = ngx_http_ims_pool_reader(ngx_http_ims_worker);

    for (i = 0; i < a->nasserted; i++) {

        n = ims_sip_fold(folded, sizeof(folded), a->asserted[i]);

        if (n > 0) {
            rc = ims_pool_by_uri(reader, ims_str_set(folded, (size_t) n),
                                 &ident, NULL);

            if (rc == IMS_POOL_NOTFOUND
                || (rc == IMS_POOL_OK && ident == s->ident))
            {
                continue;
            }
        }

        ngx_http_ims_count(register_foreign_uri);
        ngx_log_error(NGX_LOG_ALERT, s->connection->log, 0,
                      "ims session %uD: URI %ui of the core's P-Associated-URI "
                      "belongs to another identity than %016xL, or cannot be "
                      "judged", s->serial, (ngx_uint_t) i + 1, s->ident);
        return 1;
    }

    return 0;
}


/* what is registered and what may be asserted, into the slot */

static void
ngx_http_ims_register_bind(ngx_http_ims_session_t *s, ims_trans_t *t,
    ims_reg_answer_t *a, uint64_t pt)
{
    unsigned                    i, n, pos;
    uint64_t                    until;
    ims_str_t                   aor;
    ngx_uint_t                  aor_done;
    ims_flow_data_t            *old;
    ims_flow_ident_t            ids[NGX_HTTP_IMS_REG_IDENTS];
    ims_flow_ident_t            id;
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;
    d = t->data;

    w->data = *ims_flow_peek(s->main->flows, s->slot);
    old = &w->view.data;
    *old = w->data;

    aor = ngx_http_ims_register_text(d, NGX_HTTP_IMS_REG_AOR);
    until = a->found ? pt + 1000 * (uint64_t) a->granted : 0;
    aor_done = 0;
    n = 0;

    /* the assertable set is that of the latest 200, in its order */

    for (i = 0; i < a->nasserted; i++) {
        ngx_memzero(&ids[n], sizeof(ims_flow_ident_t));
        ids[n].uri = a->asserted[i];
        ids[n].position = (uint16_t) i;

        if (ims_sip_uri_same(a->asserted[i], aor)) {
            ids[n].until_pt = until;
            ids[n].route = a->route;
            aor_done = 1;
        }

        n++;
    }

    if (!aor_done && until) {
        ngx_memzero(&ids[n], sizeof(ims_flow_ident_t));
        ids[n].uri = aor;
        ids[n].until_pt = until;
        ids[n].route = a->route;
        ids[n].position = a->nasserted ? IMS_FLOW_NOT_ASSERTABLE : 0;
        n++;
    }

    /* other IMPUs of the flow stay registered as they are */

    for (pos = 0; ims_flow_identity(old, &pos, &id); /* void */) {

        if (id.until_pt <= pt || ims_sip_uri_same(id.uri, aor)
            || n == sizeof(ids) / sizeof(ids[0]))
        {
            continue;
        }

        for (i = 0; i < n; i++) {
            if (ims_sip_uri_same(ids[i].uri, id.uri)) {
                ids[i].until_pt = id.until_pt;
                ids[i].route = id.route;
                break;
            }
        }

        if (i == n) {
            if (a->nasserted) {
                id.position = IMS_FLOW_NOT_ASSERTABLE;
            }

            ids[n++] = id;
        }
    }

    if (ims_flow_set_identities(&w->data, ids, n) == IMS_FLOW_TOOBIG) {
        ngx_http_ims_register_shrink(s, ids, n, aor);
    }

    until = 0;

    for (i = 0; i < n; i++) {
        if (ids[i].until_pt > pt) {
            until = ngx_max(until, ids[i].until_pt);
        }
    }

    ngx_http_ims_flow_registered(s, until);

    (void) ngx_http_ims_flow_write(s);
}


/*
 * A set that the slot cannot hold is cut to the one identity that was
 * registered just now.  Such a slot is not taken over: what it lacks would be
 * missed then.
 */

static void
ngx_http_ims_register_shrink(ngx_http_ims_session_t *s,
    const ims_flow_ident_t *ids, unsigned n, ims_str_t aor)
{
    unsigned                i;
    ims_flow_ident_t        id;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    ngx_http_ims_count(flow_no_takeover);

    ngx_log_error(NGX_LOG_WARN, s->connection->log, 0,
                  "ims session %uD: %ui identities and their Service-Route do "
                  "not fit the flow table: only the registered one is kept",
                  s->serial, (ngx_uint_t) n);

    for (i = 0; i < n; i++) {

        if (ids[i].until_pt && ims_sip_uri_same(ids[i].uri, aor)) {
            id = ids[i];

            /* barred it stays, else it is the default */

            if (id.position != IMS_FLOW_NOT_ASSERTABLE) {
                id.position = 0;
            }

            (void) ims_flow_set_identities(&w->data, &id, 1);
            break;
        }
    }

    w->data.flags |= IMS_FLOW_F_NO_TAKEOVER;
}


/* nothing was bound by this REGISTER */

static void
ngx_http_ims_register_unbind(ngx_http_ims_session_t *s, ims_trans_t *t)
{
    unsigned                    n, pos;
    ims_str_t                   aor;
    ims_flow_data_t            *old;
    ims_flow_ident_t            ids[NGX_HTTP_IMS_REG_IDENTS];
    ngx_http_ims_worker_t      *w;

    w = ngx_http_ims_worker;

    w->data = *ims_flow_peek(s->main->flows, s->slot);
    old = &w->view.data;
    *old = w->data;

    aor = ngx_http_ims_register_text(t->data, NGX_HTTP_IMS_REG_AOR);
    n = 0;
    pos = 0;

    while (n < sizeof(ids) / sizeof(ids[0])
           && ims_flow_identity(old, &pos, &ids[n]))
    {
        if (ids[n].tag && ims_sip_uri_same(ids[n].uri, aor)) {
            continue;
        }

        n++;
    }

    (void) ims_flow_set_identities(&w->data, ids, n);
    (void) ngx_http_ims_flow_write(s);
}


static void
ngx_http_ims_register_failed_by_core(ngx_http_ims_session_t *s,
    ims_trans_t *t, ims_sip_msg_t *m)
{
    uint32_t                    min;
    uint64_t                    pt;
    ngx_uint_t                  status, challenged, level;
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;
    d = t->data;
    status = m->status;

    if (status == 503 && d->tries < ngx_http_ims_peer_count(d->conf->group)
        && ngx_http_ims_register_next(s, t) == NGX_OK)
    {
        return;
    }

    /* if that failed, the message at hand is the client's: not used for 503 */

    s->registering = 0;
    ngx_http_ims_count(register_refused_core);

    challenged = status == 401 || status == 407;
    level = challenged ? NGX_LOG_ERR : NGX_LOG_INFO;

    ngx_log_error(level, s->connection->log, 0,
                  "ims session %uD: REGISTER refused by the core with %ui%s",
                  s->serial, status,
                  challenged ? ": it does not honour "
                               "integrity-protected=\"auth-done\"" : "");

    if (status != 408 && (status < 500 || status >= 600)) {
        ngx_http_ims_register_unbind(s, t);

        /* else it may be bound all the same: the slot goes on saying so */
    }

    switch (status) {

    case 401:
    case 407:
        /* a Digest challenge is not for the client, who has no password */
        ngx_http_ims_register_answer(s, t, 403, "Refused By The Core", NULL);
        break;

    case 408:
        /* RFC 4320 */
        ngx_http_ims_register_answer(s, t, 504, "Core Is Silent",
                                     "Retry-After: 5\r\n");
        break;

    case 503:
        /* RFC 3261 16.7 item 6: we are not overloaded, one peer is */
        ngx_http_ims_register_answer(s, t, 500, "Core Unavailable",
                                     "Retry-After: 5\r\n");
        break;

    case 423:
        if (ims_sip_delta(ims_sip_hdr_value(m, IMS_SIP_H_MIN_EXPIRES), &min))
        {
            w->core_min = ngx_max(w->core_min, ngx_min(min, 86400));

            /* JsSIP repeats at once with Min-Expires: a loop if it is cut */

            pt = ims_pool_pt(ngx_http_ims_pool_reader(w));

            if (s->end > pt && (uint64_t) min + 1 < (s->end - pt) / 1000) {
                ngx_http_ims_register_pass(s, m, NULL, 0);
                break;
            }
        }

        ngx_http_ims_register_answer(s, t, 401, "Lease Ends Too Soon",
            "WWW-Authenticate: Bearer realm=\"ims\",error=\"invalid_token\""
            "\r\n");
        break;

    default:
        ngx_http_ims_register_pass(s, m, NULL, 0);
        break;
    }

    ngx_http_ims_trans_done(t, status);
}


/* the core's answer without what is the trust domain's (a: of a 2xx) */

static void
ngx_http_ims_register_pass(ngx_http_ims_session_t *s, ims_sip_msg_t *m,
    ims_reg_answer_t *a, uint32_t told)
{
    u_char                  number[NGX_INT32_LEN], timer[NGX_INT32_LEN], *p;
    ptrdiff_t               n;
    ims_str_t               x;
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
        return;
    }

    ngx_http_ims_drop_via(ed);

    if (a && a->found) {
        p = ngx_sprintf(number, "%uD", told);
        x = ims_str_range(number, p);

        ims_sip_edit_param(ed, a->value, &a->expires, "expires", x);

        if (m->count[IMS_SIP_H_EXPIRES]) {
            ims_sip_edit_value(ed, m->first[IMS_SIP_H_EXPIRES], x);
        }

        /* RFC 5626 4.4.1: how long an idle flow is kept */

        if (!m->count[IMS_SIP_H_FLOW_TIMER]) {
            p = ngx_sprintf(timer, "%ui",
                            (ngx_uint_t) (s->conf->ping_interval
                                          + s->conf->pong_timeout) / 1000);
            ims_sip_edit_append(ed, "Flow-Timer", ims_str_range(timer, p));
        }
    }

    n = ims_sip_edit_flatten(ed, w->message, w->message_size);

    if (n < 0) {
        ngx_log_error(NGX_LOG_ERR, s->connection->log, 0,
                      "ims session %uD: the core's answer cannot be passed: "
                      "%s", s->serial, ed->error ? ed->error : "too long");
        return;
    }

    (void) ngx_http_ims_session_send(s, w->message, (size_t) n);
}
