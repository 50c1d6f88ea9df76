
/*
 * Copyright (C) nginx-ims contributors
 *
 * NOTIFY of the edge's own subscription to registration events.  It comes to
 * the Request-URI that our Contact has named, at whatever connection, and is
 * handed to the worker that has the flow.
 *
 * It only ever ends something: an identity that the core has ended is unbound
 * from the flow, and a flow without any is closed.  The lease is not touched.
 */

#include "ngx_http_ims_reg_event.h"
#include "ngx_http_ims_register.h"


static ngx_int_t ngx_http_ims_reg_notify_elsewhere(
    const ims_trans_ingress_t *in, ims_sip_msg_t *m, const ims_flow_id_t *id,
    ngx_uint_t hop);
static void ngx_http_ims_reg_notify_here(ngx_http_ims_session_t *s,
    const ims_trans_ingress_t *in, ims_sip_msg_t *m);
static ngx_uint_t ngx_http_ims_reg_notify_news(ngx_http_ims_session_t *s,
    const ims_reginfo_t *r, ngx_uint_t *gap);
static void ngx_http_ims_reg_notify_check(ngx_http_ims_session_t *s,
    const ims_sip_msg_t *m, ngx_http_ims_refusal_t *refusal);
static ngx_uint_t ngx_http_ims_reg_notify_ours(ngx_http_ims_session_t *s,
    const ims_sip_msg_t *m);
static void ngx_http_ims_reg_notify_read(ngx_http_ims_session_t *s,
    const ims_sip_msg_t *m, ims_reginfo_t *r, ngx_http_ims_refusal_t *refusal);
static ngx_uint_t ngx_http_ims_reg_notify_is(ims_str_t value,
    const char *token);
static void ngx_http_ims_reg_notify_take(ngx_http_ims_session_t *s,
    const ims_reginfo_t *r);
static ngx_uint_t ngx_http_ims_reg_notify_unbind(ngx_http_ims_session_t *s,
    const ims_reginfo_t *r, uint64_t *until);
static ngx_uint_t ngx_http_ims_reg_notify_asked(ngx_http_ims_session_t *s,
    ims_str_t impu);


/* 0: none of ours, somebody else's business */

ngx_uint_t
ngx_http_ims_reg_notify(const ims_trans_ingress_t *in, ims_sip_msg_t *m,
    ngx_uint_t hop)
{
    ims_flow_token_t         tok;
    ngx_http_ims_worker_t   *w;
    ngx_http_ims_session_t  *s;

    w = ngx_http_ims_worker;

    if (m->ruri.user.n == 0 || m->count[IMS_SIP_H_ROUTE]) {
        return 0;
    }

    switch (ims_flow_token_event_core(w->main->flow_keys, m->ruri.user,
                                      m->call_id, &tok))
    {
    case IMS_FLOW_TOKEN_OK:
        break;

    case IMS_FLOW_TOKEN_FORGED:
        ngx_http_ims_count(flow_token_forged);

        if (m->method_id != IMS_SIP_M_ACK) {
            ngx_http_ims_ingress_reply(in, m, 403, "Forged Flow Token", NULL);
        }

        return 1;

    default: /* IMS_FLOW_TOKEN_MALFORMED */
        return 0;
    }

    if (m->method_id != IMS_SIP_M_NOTIFY) {

        if (m->method_id != IMS_SIP_M_ACK) {
            ngx_http_ims_ingress_reply(in, m, 405, "Method Not Allowed",
                                       "Allow: NOTIFY\r\n");
        }

        return 1;
    }

    s = tok.id.node == (uint16_t) w->main->node
        ? ngx_http_ims_flow_session(tok.id.slot, tok.id.generation) : NULL;

    if (s && !s->closing
        && ims_flow_owner(w->main->flows, s->slot) == s->owner)
    {
        ngx_http_ims_reg_notify_here(s, in, m);
        return 1;
    }

    if (ngx_http_ims_reg_notify_elsewhere(in, m, &tok.id, hop) != NGX_OK) {
        ngx_http_ims_count(reg_event_unknown);
        ngx_http_ims_ingress_reply(in, m, 481, "Subscription Does Not Exist",
                                   NULL);
    }

    return 1;
}


static ngx_int_t
ngx_http_ims_reg_notify_elsewhere(const ims_trans_ingress_t *in,
    ims_sip_msg_t *m, const ims_flow_id_t *id, ngx_uint_t hop)
{
    uint64_t                owner;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    if (id->node != (uint16_t) w->main->node
        || ims_flow_resolve(w->main->flows, id->slot, id->generation, &owner)
           != IMS_FLOW_OK
        || !ims_flow_is_owned(owner))
    {
        return NGX_DECLINED;
    }

    return ngx_http_ims_terminating_elsewhere(in, m, owner, id, hop);
}


static void
ngx_http_ims_reg_notify_here(ngx_http_ims_session_t *s,
    const ims_trans_ingress_t *in, ims_sip_msg_t *m)
{
    ngx_uint_t                 news, gap;
    ims_reginfo_t              r;
    ngx_http_ims_refusal_t     refusal;
    ngx_http_ims_reg_event_t  *re;

    ngx_http_ims_reg_notify_check(s, m, &refusal);

    if (refusal.status == 0) {
        ngx_http_ims_reg_notify_read(s, m, &r, &refusal);
    }

    if (refusal.status) {
        ngx_http_ims_ingress_reply(in, m, refusal.status, refusal.reason,
                                   refusal.extra);
        return;
    }

    re = s->reg_event;

    if (re->notified && m->cseq == re->far_cseq) {
        /* a retransmission */
        ngx_http_ims_ingress_reply(in, m, 200, "OK", NULL);
        return;
    }

    ngx_http_ims_count(reg_event_notify);
    ngx_http_ims_ingress_reply(in, m, 200, "OK", NULL);

    re->far_len = (uint16_t) m->from_tag.n;
    ngx_memcpy(re->far, m->from_tag.p, m->from_tag.n);
    re->far_cseq = m->cseq;
    re->notified = 1;

    gap = 0;
    news = m->body.n && ngx_http_ims_reg_notify_news(s, &r, &gap);

    if (ngx_http_ims_reg_notify_is(ims_sip_hdr_value(m,
                                            IMS_SIP_H_SUBSCRIPTION_STATE),
                                   "terminated"))
    {
        /* the next 2xx of a REGISTER asks for another one */

        ngx_log_error(NGX_LOG_INFO, s->connection->log, 0,
                      "ims session %uD: the core has ended the subscription to "
                      "its registration events", s->serial);

        ngx_http_ims_reg_event_forget(s);
        gap = 0;
    }

    if (!news) {
        return;
    }

    ngx_http_ims_reg_notify_take(s, &r);

    if (gap && !s->closing && ngx_http_ims_flow_check(s) == NGX_OK) {
        /* RFC 3680 4.9: a refresh brings the full state, once */
        s->reg_event->gap = 1;
        ngx_http_ims_reg_event_ask(s);
    }
}


/*
 * Is the document newer than the last one; gap: and was one in between missed,
 * of which it does not say everything.
 */

static ngx_uint_t
ngx_http_ims_reg_notify_news(ngx_http_ims_session_t *s,
    const ims_reginfo_t *r, ngx_uint_t *gap)
{
    ngx_http_ims_reg_event_t  *re;

    re = s->reg_event;
    *gap = 0;

    /*
     * Some notifiers (Kamailio's pua_reginfo) number nothing: each of their
     * documents is a whole one of version 0.  CSeq keeps these in order.
     */

    if (re->versioned && r->version <= re->version
        && !(r->full && r->version == 0 && re->version == 0))
    {
        ngx_http_ims_count(reg_event_old);
        ngx_log_error(NGX_LOG_INFO, s->connection->log, 0,
                      "ims session %uD: registration information %uD is not "
                      "newer than %uD", s->serial, r->version, re->version);
        return 0;
    }

    *gap = !r->full && !re->gap
           && (!re->versioned || r->version - re->version > 1);

    re->version = r->version;
    re->versioned = 1;

    return 1;
}


/* is it of our subscription, and in order */

static void
ngx_http_ims_reg_notify_check(ngx_http_ims_session_t *s,
    const ims_sip_msg_t *m, ngx_http_ims_refusal_t *refusal)
{
    ngx_http_ims_reg_event_t  *re;

    ngx_memzero(refusal, sizeof(ngx_http_ims_refusal_t));

    if (!ngx_http_ims_reg_notify_ours(s, m)) {
        ngx_http_ims_count(reg_event_unknown);
        refusal->status = 481;
        refusal->reason = "Subscription Does Not Exist";
        return;
    }

    re = s->reg_event;

    if (!ngx_http_ims_reg_notify_is(ims_sip_hdr_value(m, IMS_SIP_H_EVENT),
                                    "reg"))
    {
        ngx_http_ims_count(reg_event_bad);
        refusal->status = 489;
        refusal->reason = "Bad Event";
        refusal->extra = "Allow-Events: reg\r\n";
        return;
    }

    if (re->notified && m->cseq < re->far_cseq) {
        /* RFC 3261 12.2.2 */
        ngx_http_ims_count(reg_event_old);
        refusal->status = 500;
        refusal->reason = "CSeq Out Of Order";
        return;
    }

    if (m->count[IMS_SIP_H_SUBSCRIPTION_STATE] == 0) {
        ngx_http_ims_count(reg_event_bad);
        refusal->status = 400;
        refusal->reason = "Missing Subscription-State";
    }
}


/* RFC 6665 4.4.1: the first NOTIFY may be here before the 2xx is */

static ngx_uint_t
ngx_http_ims_reg_notify_ours(ngx_http_ims_session_t *s,
    const ims_sip_msg_t *m)
{
    ngx_http_ims_reg_event_t  *re;

    re = s->reg_event;

    return re
           && ims_str_eq(m->call_id, ims_str_set(re->call_id,
                                                 sizeof(re->call_id)))
           && ims_str_eq(m->to_tag, ims_str_set(re->tag, sizeof(re->tag)))
           && m->from_tag.n && m->from_tag.n <= sizeof(re->far)
           && (re->far_len == 0
               || ims_str_eq(m->from_tag, ims_str_set(re->far, re->far_len)));
}


/* a body is all good or refused, and none is a good one */

static void
ngx_http_ims_reg_notify_read(ngx_http_ims_session_t *s,
    const ims_sip_msg_t *m, ims_reginfo_t *r, ngx_http_ims_refusal_t *refusal)
{
    const char  *reason;

    if (m->body.n == 0) {
        return;
    }

    if (!ngx_http_ims_reg_notify_is(ims_sip_hdr_value(m,
                                                      IMS_SIP_H_CONTENT_TYPE),
                                    "application/reginfo+xml"))
    {
        ngx_http_ims_count(reg_event_bad);
        refusal->status = 415;
        refusal->reason = "Unsupported Media Type";
        refusal->extra = "Accept: application/reginfo+xml\r\n";
        return;
    }

    if (m->body.n > IMS_REGINFO_SIZE) {
        ngx_http_ims_count(reg_event_bad);
        refusal->status = 413;
        refusal->reason = "Request Entity Too Large";
        return;
    }

    if (!ims_reginfo_read(r, m->body,
                          ims_flow_contact(ims_flow_peek(s->main->flows,
                                                         s->slot)),
                          &reason))
    {
        ngx_http_ims_count(reg_event_bad);
        ngx_log_error(NGX_LOG_ERR, s->connection->log, 0,
                      "ims session %uD: registration information of the core "
                      "is of no use: %s", s->serial, reason);
        refusal->status = 400;
        refusal->reason = "Bad Registration Information";
    }
}


/* the token that a value begins with, parameters apart */

static ngx_uint_t
ngx_http_ims_reg_notify_is(ims_str_t value, const char *token)
{
    size_t  n;

    for (n = 0; n < value.n; n++) {
        if (value.p[n] == ';' || value.p[n] == ' ' || value.p[n] == '\t') {
            break;
        }
    }

    return ims_str_caseeq(ims_str_set(value.p, n), ims_str_z(token));
}


static void
ngx_http_ims_reg_notify_take(ngx_http_ims_session_t *s,
    const ims_reginfo_t *r)
{
    uint64_t    until;
    ngx_uint_t  ended;

    if (!s->registered) {
        /* nothing is bound, so nothing ends */
        return;
    }

    ended = ngx_http_ims_reg_notify_unbind(s, r, &until);

    if (ended) {
        ngx_http_ims_count(reg_event_ended);
        ngx_log_error(NGX_LOG_INFO, s->connection->log, 0,
                      "ims session %uD: the core has ended %ui registrations "
                      "of flow %uD:%uD, lease %016xL-%016xL", s->serial, ended,
                      s->slot, s->generation, s->ident, s->lease);
    }

    if (until) {

        /* never later: the slot has what a REGISTER in flight may bring, too */

        if (until < s->until) {
            ngx_http_ims_flow_registered(s, until);
        }

        return;
    }

    s->flow_over = 1;
    s->registered = 0;
    ngx_http_ims_session_close(s, IMS_WS_POLICY,
                               "registration ended by the core");
}


/*
 * How many registrations of the slot have ended, and until when (PT) it is
 * registered now; 0: no more.  An IMPU that has ended is no more asserted
 * either.  One that was not registered is not counted.
 */

static ngx_uint_t
ngx_http_ims_reg_notify_unbind(ngx_http_ims_session_t *s,
    const ims_reginfo_t *r, uint64_t *until)
{
    unsigned                  n, pos;
    uint64_t                  pt;
    ngx_uint_t                ended, changed;
    ims_flow_data_t          *old;
    ims_flow_ident_t          ids[NGX_HTTP_IMS_REG_IDENTS], *id;
    ims_pool_reader_t        *reader;
    ngx_http_ims_worker_t    *w;
    const ims_reginfo_aor_t  *a;

    w = ngx_http_ims_worker;
    reader = ngx_http_ims_pool_reader(w);
    pt = reader ? ims_pool_pt(reader) : 0;

    w->data = *ims_flow_peek(s->main->flows, s->slot);
    old = &w->view.data;
    *old = w->data;

    *until = 0;
    ended = 0;
    changed = 0;
    n = 0;
    pos = 0;

    while (n < NGX_HTTP_IMS_REG_IDENTS
           && ims_flow_identity(old, &pos, &ids[n]))
    {
        id = &ids[n];
        a = id->tag ? NULL : ims_reginfo_find(r, id->uri);

        if (a && a->ended) {
            changed = 1;

            if (id->until_pt > pt) {
                ended++;
                ngx_log_error(NGX_LOG_INFO, s->connection->log, 0,
                              "ims session %uD: a registration has ended: %s",
                              s->serial, ims_reginfo_event_text(a->event));
            }

            if (!ngx_http_ims_reg_notify_asked(s, id->uri)) {
                continue;
            }

            /* a REGISTER for it is on its way: it may be bound once more */

            id->tag = 1;
            id->position = IMS_FLOW_NOT_ASSERTABLE;

        } else if (a && a->shortened
                   && id->until_pt > pt + 1000 * (uint64_t) a->expires)
        {
            changed = 1;
            id->until_pt = pt + 1000 * (uint64_t) a->expires;
        }

        if (id->until_pt > pt && !id->tag) {
            *until = ngx_max(*until, id->until_pt);
        }

        n++;
    }

    if (changed) {
        (void) ims_flow_set_identities(&w->data, ids, n);

        /* what a slot lacked before, it still lacks */

        w->data.flags |= old->flags & IMS_FLOW_F_NO_TAKEOVER;

        (void) ngx_http_ims_flow_write(s);
    }

    return ended;
}


/* is a REGISTER of that IMPU in flight */

static ngx_uint_t
ngx_http_ims_reg_notify_asked(ngx_http_ims_session_t *s, ims_str_t impu)
{
    ims_trans_t                *t;
    ngx_http_ims_trans_data_t  *d;

    for (t = ims_trans_flow_first(ngx_http_ims_worker->trans, s->slot,
                                  s->generation);
         t;
         t = ims_trans_flow_next(t))
    {
        d = t->data;

        if (d->procedure == NGX_HTTP_IMS_TRANS_REGISTER
            && t->state < IMS_TRANS_COMPLETED && d->expires
            && ims_sip_uri_same(ngx_http_ims_register_text(d,
                                                    NGX_HTTP_IMS_REG_AOR),
                                impu))
        {
            return 1;
        }
    }

    return 0;
}
