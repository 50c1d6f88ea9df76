
/*
 * Copyright (C) nginx-ims contributors
 *
 * REGISTER of a client and its answer: the register rules (reg/) tied to
 * session, pool, flow table, records and core links.  POOL.md 1, line E, a to
 * d, in this order.
 */

#include "ngx_http_ims.h"


static uint32_t ngx_http_ims_register_core_min(ngx_http_ims_session_t *s);
static ngx_int_t ngx_http_ims_register_token(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m, ims_reg_request_t *q, ims_reg_grant_t **fresh);
static ngx_int_t ngx_http_ims_register_origin(ngx_http_ims_session_t *s,
    ims_token_claims_t *claims);
static ngx_int_t ngx_http_ims_register_look(ngx_http_ims_session_t *s,
    uint64_t ident);
static void ngx_http_ims_register_judge(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m, ims_reg_request_t *q, const ims_reg_grant_t *grant,
    ims_reg_verdict_t *v);
static ngx_uint_t ngx_http_ims_register_issuer_may(
    const ims_reg_grant_t *grant);
static void ngx_http_ims_register_refuse(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m, ims_reg_why_e why, ims_pool_lapse_e lapse);
static void ngx_http_ims_register_unavailable(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m, const char *reason);
static void ngx_http_ims_register_go(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m, ims_reg_request_t *q, ims_reg_verdict_t *v,
    uint64_t looked);
static ngx_int_t ngx_http_ims_register_slot(ngx_http_ims_session_t *s,
    ims_reg_request_t *q, ims_reg_verdict_t *v);
static ngx_int_t ngx_http_ims_register_record(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m, ims_reg_request_t *q, ims_reg_verdict_t *v,
    uint64_t looked, ims_trans_t **tp);
static ngx_int_t ngx_http_ims_register_peer(ngx_http_ims_session_t *s,
    ims_trans_t *t);
static ngx_int_t ngx_http_ims_register_note_peer(ngx_http_ims_session_t *s,
    ims_trans_t *t);
static const char *ngx_http_ims_register_write(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m, ims_reg_request_t *q, ims_reg_verdict_t *v,
    ims_trans_t *t, unsigned *status);
static ngx_int_t ngx_http_ims_register_next(ngx_http_ims_session_t *s,
    ims_trans_t *t);
static void ngx_http_ims_register_provisional(ngx_http_ims_session_t *s,
    ims_reg_request_t *q, uint64_t until);

static void ngx_http_ims_register_ok(ngx_http_ims_session_t *s,
    ims_trans_t *t, ims_sip_msg_t *m);
static ngx_uint_t ngx_http_ims_register_foreign(ngx_http_ims_session_t *s,
    ims_reg_answer_t *a);
static void ngx_http_ims_register_bind(ngx_http_ims_session_t *s,
    ims_trans_t *t, ims_reg_answer_t *a, uint64_t pt);
static void ngx_http_ims_register_failed_by_core(ngx_http_ims_session_t *s,
    ims_trans_t *t, ims_sip_msg_t *m);
static void ngx_http_ims_register_unbind(ngx_http_ims_session_t *s,
    ims_trans_t *t);
static void ngx_http_ims_register_pass(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m, ims_reg_answer_t *a, uint32_t told);
static void ngx_http_ims_register_answer(ngx_http_ims_session_t *s,
    ims_trans_t *t, ngx_uint_t status, const char *reason,
    const char *extra);


/* texts behind a record's data, in this order */

static ims_str_t
ngx_http_ims_register_text(ngx_http_ims_trans_data_t *d, ngx_uint_t which)
{
    u_char      *p;
    ngx_uint_t   i;
    uint16_t     len[4];

    len[0] = d->instance_len;
    len[1] = d->contact_len;
    len[2] = d->aor_len;
    len[3] = d->uri_len;

    p = d->text;

    for (i = 0; i < which; i++) {
        p += len[i];
    }

    return ims_str_set(p, len[which]);
}

#define ngx_http_ims_register_contact(d)  ngx_http_ims_register_text(d, 1)
#define ngx_http_ims_register_aor(d)      ngx_http_ims_register_text(d, 2)
#define ngx_http_ims_register_uri(d)      ngx_http_ims_register_text(d, 3)


/* s; what the core raises shorter expiries to: by conf, pool and any 423 */

static uint32_t
ngx_http_ims_register_core_min(ngx_http_ims_session_t *s)
{
    uint32_t                min;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;
    min = (uint32_t) s->conf->core_min_expires;

    if (min < w->look.core_min) {
        min = w->look.core_min;
    }

    return min < w->core_min ? w->core_min : min;
}


void
ngx_http_ims_register(ngx_http_ims_session_t *s, ims_sip_msg_t *m)
{
    uint64_t            looked, ident;
    unsigned            status;
    ngx_int_t           rc;
    const char         *reason;
    ims_reg_grant_t    *grant, *fresh;
    ims_reg_verdict_t   v;
    ims_reg_request_t   q;

    ngx_http_ims_count(register_received);

    status = ims_reg_read(&q, m, &reason);

    if (status) {
        ngx_http_ims_count(register_bad);
        ngx_http_ims_reply(s, m, status, reason, NULL);
        return;
    }

    if (s->registering) {
        ngx_http_ims_count(register_busy);
        ngx_http_ims_reply(s, m, 500, "Another REGISTER Is In Flight",
                           "Retry-After: 1\r\n");
        return;
    }

    fresh = NULL;

    if (ngx_http_ims_register_token(s, m, &q, &fresh) != NGX_OK) {
        return;
    }

    grant = fresh ? fresh : s->grant;
    ident = grant ? grant->ident : s->ident;

    if (ident == 0) {
        ngx_http_ims_register_refuse(s, m, IMS_REG_NO_TOKEN, IMS_POOL_LIVE);
        return;
    }

    looked = ims_boottime_ms();
    rc = ngx_http_ims_register_look(s, ident);

    if (rc == NGX_ERROR) {
        ngx_http_ims_count(register_unknown);
        ngx_http_ims_register_unavailable(s, m, "Pool Unavailable");

    } else if (rc == NGX_DECLINED) {
        ngx_http_ims_register_refuse(s, m, IMS_REG_LEASE,
                                     IMS_POOL_LAPSE_OFF);

    } else {
        ngx_http_ims_register_judge(s, m, &q, grant, &v);

        if (v.why != IMS_REG_GO) {
            ngx_http_ims_register_refuse(s, m, v.why, v.lapse);

        } else {

            if (fresh) {
                ims_reg_grant_free(s->grant);
                s->grant = fresh;
                fresh = NULL;
            }

            ngx_http_ims_register_go(s, m, &q, &v, looked);
        }
    }

    ims_reg_grant_free(fresh);
}


/*
 * The token shown: the one that the session has already (no cryptography), or
 * another one, verified into *fresh.  NGX_ERROR: it was answered.
 */

static ngx_int_t
ngx_http_ims_register_token(ngx_http_ims_session_t *s, ims_sip_msg_t *m,
    ims_reg_request_t *q, ims_reg_grant_t **fresh)
{
    u_char                       digest[IMS_TOKEN_DIGEST_LEN];
    ims_token_err_t              err;
    const ims_token_issuer_t    *issuer;
    static ims_token_claims_t    claims;

    if (q->token.p == NULL) {
        return NGX_OK;
    }

    ims_token_digest(q->token, digest);

    if (s->grant && ims_equal_ct(digest, s->grant->digest, sizeof(digest))) {
        return NGX_OK;
    }

    if (ims_token_verify(s->conf->token_issuers, s->conf->ntoken_issuers,
                         q->token, ngx_time(), &claims, &issuer, &err)
        != 0 && err.code != IMS_TOKEN_EXPIRED)
    {
        ngx_http_ims_count(register_token_bad);

        ngx_log_error(NGX_LOG_INFO, s->connection->log, 0,
                      "ims session %uD: bad token in REGISTER: %s%s%s",
                      s->serial, ims_token_strerror(err.code),
                      err.claim ? ": " : "", err.claim ? err.claim : "");

        ngx_http_ims_reply(s, m, 403, "Bad Token", NULL);
        ngx_http_ims_session_close(s, IMS_WS_POLICY, "bad token");
        return NGX_ERROR;
    }

    if (ngx_http_ims_register_origin(s, &claims) != NGX_OK) {
        ngx_http_ims_count(register_origin);

        ngx_log_error(NGX_LOG_INFO, s->connection->log, 0,
                      "ims session %uD: token is bound to another Origin",
                      s->serial);

        ngx_http_ims_reply(s, m, 403, "Token Of Another Origin", NULL);
        ngx_http_ims_session_close(s, IMS_WS_POLICY, "bad token");
        return NGX_ERROR;
    }

    *fresh = ims_reg_grant_new(&claims, q->token, issuer);

    if (*fresh == NULL) {
        ngx_http_ims_reply(s, m, 500, "Out Of Memory", NULL);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_ims_register_origin(ngx_http_ims_session_t *s,
    ims_token_claims_t *claims)
{
    ims_origin_t  bound, own;

    if (claims->origin.n == 0) {
        return NGX_OK;
    }

    if (ims_origin_parse(&bound, claims->origin)
        && ims_origin_parse(&own, ngx_http_ims_str(&s->origin))
        && ims_origin_equal(&bound, &own))
    {
        return NGX_OK;
    }

    return NGX_DECLINED;
}


/* w->look and w->names; NGX_DECLINED: there is no such identity */

static ngx_int_t
ngx_http_ims_register_look(ngx_http_ims_session_t *s, uint64_t ident)
{
    int                     rc;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    /* reopens an environment that was given up */

    if (ngx_http_ims_pool_feed(w) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = ims_pool_look_names(ngx_http_ims_pool_reader(w), ident, &w->look,
                             &w->names);

    switch (rc) {

    case IMS_POOL_OK:
        return NGX_OK;

    case IMS_POOL_NOTFOUND:
        return NGX_DECLINED;

    default:
        ngx_log_error(NGX_LOG_ERR, s->connection->log, 0,
                      "look at identity %016xL failed: %s", ident,
                      ims_pool_strerror(rc));
        return NGX_ERROR;
    }
}


static void
ngx_http_ims_register_judge(ngx_http_ims_session_t *s, ims_sip_msg_t *m,
    ims_reg_request_t *q, const ims_reg_grant_t *grant, ims_reg_verdict_t *v)
{
    ims_reg_case_t                c;
    ngx_http_ims_worker_t        *w;
    const ims_token_issuer_t     *issuer;

    w = ngx_http_ims_worker;

    ngx_memzero(&c, sizeof(ims_reg_case_t));

    c.req = q;
    c.msg = m;
    c.grant = grant;
    c.look = &w->look;
    c.names = &w->names;
    c.flow_ident = s->ident;
    c.flow_lease = s->lease;
    ngx_memcpy(c.flow_holder, s->holder, IMS_POOL_HOLDER_LEN);

    if (s->registered) {
        c.flow_contact = ims_flow_contact(ims_flow_peek(s->main->flows,
                                                        s->slot));
    }

    c.core_min = ngx_http_ims_register_core_min(s);

    if (grant) {
        issuer = grant->issuer;
        c.expired = ngx_time() >= grant->exp + (time_t) issuer->leeway;
    }

    ims_reg_judge(&c, v);

    if (v->why == IMS_REG_GO && grant
        && !ngx_http_ims_register_issuer_may(grant))
    {
        ngx_http_ims_count(register_issuer);
        v->why = IMS_REG_IDENTITY;
    }
}


/* a token good for one site says nothing about another's identities */

static ngx_uint_t
ngx_http_ims_register_issuer_may(const ims_reg_grant_t *grant)
{
    unsigned                   i;
    ims_str_t                  impus[IMS_POOL_IMPUS];
    ims_pool_names_t          *names;
    const ims_token_issuer_t  *issuer;

    issuer = grant->issuer;
    names = &ngx_http_ims_worker->names;

    for (i = 0; i < names->nimpu; i++) {
        impus[i] = names->impu[i].canon;
    }

    return ngx_http_ims_issuer_may(issuer->data,
                                   ims_str_z(ngx_http_ims_worker->look.pool),
                                   impus, names->nimpu)
           == NGX_OK;
}


static void
ngx_http_ims_register_refuse(ngx_http_ims_session_t *s, ims_sip_msg_t *m,
    ims_reg_why_e why, ims_pool_lapse_e lapse)
{
    u_char                    extra[256], *p;
    const ims_reg_refusal_t  *refusal;

    switch (why) {

    case IMS_REG_NO_TOKEN:
        ngx_http_ims_count(register_no_token);
        break;

    case IMS_REG_EXPIRED:
        ngx_http_ims_count(register_token_expired);
        break;

    case IMS_REG_SHORT:
        ngx_http_ims_count(register_short);
        break;

    case IMS_REG_LEASE:
        ngx_http_ims_count(register_lease);
        break;

    case IMS_REG_OTHER_IMPI:
        ngx_http_ims_count(register_other_impi);
        break;

    default:
        ngx_http_ims_count(register_identity);
        break;
    }

    refusal = ims_reg_refusal(why);

    ngx_log_error(NGX_LOG_INFO, s->connection->log, 0,
                  "ims session %uD: REGISTER refused with %ui: %s%s%s",
                  s->serial, (ngx_uint_t) refusal->status, refusal->reason,
                  why == IMS_REG_LEASE ? ": " : "",
                  why == IMS_REG_LEASE ? ims_pool_lapse_text(lapse) : "");

    p = extra;

    if (refusal->challenge) {
        p = ngx_sprintf(p, "WWW-Authenticate: Bearer realm=\"%*s\","
                        "scope=\"%s\"%s%s%s\r\n",
                        ngx_min(m->ruri.host.n, 128), m->ruri.host.p,
                        IMS_TOKEN_SCOPE,
                        *refusal->challenge ? ",error=\"" : "",
                        refusal->challenge,
                        *refusal->challenge ? "\"" : "");
    }

    *p = '\0';

    ngx_http_ims_reply(s, m, refusal->status, refusal->reason,
                       (char *) extra);

    if (refusal->close) {

        if (why == IMS_REG_LEASE) {
            s->flow_over = 1;
        }

        ngx_http_ims_session_close(s, IMS_WS_POLICY, refusal->reason);
    }
}


static void
ngx_http_ims_register_unavailable(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m, const char *reason)
{
    ngx_http_ims_reply(s, m, 503, reason, "Retry-After: 5\r\n");
}


static void
ngx_http_ims_register_go(ngx_http_ims_session_t *s, ims_sip_msg_t *m,
    ims_reg_request_t *q, ims_reg_verdict_t *v, uint64_t looked)
{
    unsigned      status;
    ngx_int_t     rc;
    ims_trans_t  *t;
    const char   *reason;

    switch (ngx_http_ims_register_slot(s, q, v)) {

    case NGX_OK:
        break;

    case NGX_BUSY:
        ngx_http_ims_count(register_busy);
        ngx_http_ims_reply(s, m, 500, "Flow Is Being De-registered",
                           "Retry-After: 5\r\n");
        return;

    default:
        ngx_http_ims_count(register_no_slot);
        ngx_log_error(NGX_LOG_ERR, s->connection->log, 0,
                      "no room in the flow table for session %uD", s->serial);
        ngx_http_ims_register_unavailable(s, m, "Too Many Flows");
        return;
    }

    rc = ngx_http_ims_register_record(s, m, q, v, looked, &t);

    if (rc == NGX_DECLINED) {
        /* a retransmission */
        return;
    }

    if (rc != NGX_OK) {
        ngx_http_ims_count(trans_limit);
        ngx_http_ims_register_unavailable(s, m, "Too Many Transactions");
        return;
    }

    if (ngx_http_ims_register_peer(s, t) != NGX_OK) {
        ngx_http_ims_count(core_down);
        ngx_http_ims_trans_free(t);
        ngx_http_ims_register_unavailable(s, m, "Core Down");
        return;
    }

    if (ngx_http_ims_register_note_peer(s, t) != NGX_OK) {
        ngx_http_ims_trans_free(t);
        return;
    }

    reason = ngx_http_ims_register_write(s, m, q, v, t, &status);

    if (reason) {
        ngx_http_ims_count(sip_policy);
        ngx_http_ims_trans_free(t);
        ngx_http_ims_reply(s, m, status, reason, NULL);
        return;
    }

    if (ngx_http_ims_trans_send(t) != NGX_OK) {
        ngx_http_ims_count(core_down);
        ngx_http_ims_trans_free(t);
        ngx_http_ims_register_unavailable(s, m, "Core Busy");
        return;
    }

    s->registering = 1;
    ngx_http_ims_count(register_forwarded);

    ngx_log_error(NGX_LOG_INFO, s->connection->log, 0,
                  "ims session %uD: REGISTER forwarded, lease "
                  "%016xL-%016xL, expires %uD of %uD, flow %uD:%uD",
                  s->serial, s->ident, s->lease, v->expires, q->asked,
                  s->slot, s->generation);
}


/*
 * The slot is written *before* the REGISTER goes out: should this worker die,
 * whoever sweeps it knows what to de-register.
 */

static ngx_int_t
ngx_http_ims_register_slot(ngx_http_ims_session_t *s, ims_reg_request_t *q,
    ims_reg_verdict_t *v)
{
    u_char                  instance[16];
    ngx_int_t               rc;
    ngx_uint_t              has;
    ims_flow_data_t        *data;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    if (s->slot != NGX_HTTP_IMS_NO_SLOT && q->asked == 0) {
        /* nothing is added to it */
        return NGX_OK;
    }

    if (s->grant == NULL) {
        /* only a de-registration goes on without one */
        return NGX_DECLINED;
    }

    has = ims_reg_instance(q, instance);

    if (!has) {
        ngx_http_ims_random(instance, sizeof(instance));
    }

    rc = ngx_http_ims_flow_attach(s, s->grant, instance, has);
    if (rc != NGX_OK) {
        return rc;
    }

    ngx_http_ims_flow_lease(s, s->grant, v->end);

    /* what is registered stays: a REGISTER for another IMPU comes on top */

    data = &w->data;
    *data = *ims_flow_peek(s->main->flows, s->slot);

    if (has) {
        ngx_memcpy(data->instance, instance, sizeof(instance));
        data->flags |= IMS_FLOW_F_INSTANCE;

    } else if (data->lease == 0) {
        ngx_memcpy(data->instance, instance, sizeof(instance));
    }

    if (data->lease == 0) {
        ngx_http_ims_random(data->dereg_id, sizeof(data->dereg_id));
    }

    data->lease = s->lease;
    data->ident = s->ident;
    data->sid = s->sid;
    data->end_pt = v->end;
    ngx_memcpy(data->holder, s->holder, IMS_POOL_HOLDER_LEN);

    ngx_http_ims_register_provisional(s, q, w->look.pt + 1000
        * (uint64_t) ngx_max(v->expires, ngx_http_ims_register_core_min(s)));

    return ngx_http_ims_flow_write(s) == NGX_OK ? NGX_OK : NGX_BUSY;
}


/*
 * w->data: home, IMPI and Contact, and To's identity as one that may be
 * registered until then.
 */

static void
ngx_http_ims_register_provisional(ngx_http_ims_session_t *s,
    ims_reg_request_t *q, uint64_t until)
{
    unsigned                n, pos;
    ngx_uint_t              known;
    ims_flow_ident_t        ids[IMS_POOL_IMPUS + IMS_REG_ASSERTED_MAX + 1];
    ims_flow_data_t        *old;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    old = &w->view.data;
    *old = w->data;

    (void) ims_flow_set_texts(&w->data, ims_str_z(w->look.home),
                              w->names.impi,
                              q->contact.star ? ims_flow_contact(old)
                                              : q->contact.addr.uri);

    n = 0;
    pos = 0;
    known = 0;

    while (n < IMS_POOL_IMPUS + IMS_REG_ASSERTED_MAX
           && ims_flow_identity(old, &pos, &ids[n]))
    {
        if (ims_sip_uri_same(ids[n].uri, q->aor)) {
            known = 1;
            ids[n].until_pt = ngx_max(ids[n].until_pt, until);
        }

        n++;
    }

    if (!known) {
        ngx_memzero(&ids[n], sizeof(ims_flow_ident_t));
        ids[n].uri = q->aor;
        ids[n].until_pt = until;
        ids[n].position = IMS_FLOW_NOT_ASSERTABLE;
        ids[n].tag = 1;
        n++;
    }

    if (ims_flow_set_identities(&w->data, ids, n) == IMS_FLOW_TOOBIG) {
        ngx_http_ims_count(flow_no_takeover);
    }
}


static ngx_int_t
ngx_http_ims_register_record(ngx_http_ims_session_t *s, ims_sip_msg_t *m,
    ims_reg_request_t *q, ims_reg_verdict_t *v, uint64_t looked,
    ims_trans_t **tp)
{
    u_char                     *p, sent_by[IMS_TRANS_SENT_BY_MAX];
    ims_str_t                   contact, raw;
    ims_trans_t                *t;
    ims_trans_rc_t              rc;
    ims_trans_key_t             key;
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;

    p = ngx_snprintf(sent_by, sizeof(sent_by), "%*s:%ud", m->via.host.n,
                     m->via.host.p, (ngx_uint_t) m->via.port);

    key.slot = s->slot;
    key.generation = s->generation;
    key.direction = IMS_TRANS_TO_CORE;
    key.branch = m->via.branch.value;
    key.sent_by = ims_str_range(sent_by, p);
    key.method = m->method;

    rc = ims_trans_new(w->trans, &key, &t);

    if (rc == IMS_TRANS_EXISTS) {
        return NGX_DECLINED;
    }

    if (rc != IMS_TRANS_OK) {
        return NGX_ERROR;
    }

    contact = q->contact.star
              ? ims_flow_contact(ims_flow_peek(s->main->flows, s->slot))
              : q->contact.addr.uri;

    d = ngx_calloc(sizeof(ngx_http_ims_trans_data_t) + q->instance.n
                   + contact.n + q->aor.n + m->to.uri.n, w->log);
    raw = m->raw;

    if (d == NULL || !ims_trans_save(w->trans, &t->response, &raw, 1)) {
        ngx_free(d);
        ims_trans_free(w->trans, t);
        return NGX_ERROR;
    }

    t->data = d;
    t->cseq = m->cseq;
    t->method = (uint16_t) m->method_id;

    d->procedure = NGX_HTTP_IMS_TRANS_REGISTER;
    d->conf = s->conf;
    d->serial = s->serial;
    d->expires = v->expires;
    d->core_min = ngx_http_ims_register_core_min(s);
    d->reg_id = q->reg_id;
    d->looked = looked;
    d->first_write = looked + NGX_HTTP_IMS_FIRST_WRITE;
    d->delay = w->look.delay;
    d->end = v->end ? looked + (v->end - w->look.pt)
                    : looked + NGX_HTTP_IMS_FIRST_WRITE;

    d->instance_len = (uint16_t) q->instance.n;
    d->contact_len = (uint16_t) contact.n;
    d->aor_len = (uint16_t) q->aor.n;
    d->uri_len = (uint16_t) m->to.uri.n;

    p = d->text;
    p = ngx_cpymem(p, q->instance.p, q->instance.n);
    p = ngx_cpymem(p, contact.p, contact.n);
    p = ngx_cpymem(p, q->aor.p, q->aor.n);
    ngx_memcpy(p, m->to.uri.p, m->to.uri.n);

    *tp = t;

    return NGX_OK;
}


/*
 * An initial REGISTER goes to a peer of the group; a later one to the peer
 * that has the binding.
 */

static ngx_int_t
ngx_http_ims_register_peer(ngx_http_ims_session_t *s, ims_trans_t *t)
{
    const ims_flow_data_t      *data;
    ngx_http_ims_trans_data_t  *d;

    d = t->data;
    data = ims_flow_peek(s->main->flows, s->slot);

    if (d->tries++ == 0 && s->registered && data->peer_len
        && data->peer_len <= sizeof(d->peer.sockaddr))
    {
        ngx_memcpy(&d->peer.sockaddr, data->peer, data->peer_len);
        d->peer.socklen = data->peer_len;
        return NGX_OK;
    }

    return ngx_http_ims_peer_choose(d->conf->group, &d->peer);
}


/* who is asked is known to the sweeper before it is asked */

static ngx_int_t
ngx_http_ims_register_note_peer(ngx_http_ims_session_t *s, ims_trans_t *t)
{
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;
    d = t->data;

    w->data = *ims_flow_peek(s->main->flows, s->slot);

    if (d->peer.socklen > IMS_FLOW_ADDR_MAX) {
        return NGX_ERROR;
    }

    ngx_memcpy(w->data.peer, &d->peer.sockaddr, d->peer.socklen);
    w->data.peer_len = (uint8_t) d->peer.socklen;

    return ngx_http_ims_flow_write(s);
}


/* the message for the core, into t->request; NULL or why not */

static const char *
ngx_http_ims_register_write(ngx_http_ims_session_t *s, ims_sip_msg_t *m,
    ims_reg_request_t *q, ims_reg_verdict_t *v, ims_trans_t *t,
    unsigned *status)
{
    u_char                      branch[IMS_FLOW_BRANCH_MAX], icid[32];
    u_char                      token[IMS_FLOW_TOKEN_MAX], noise[16];
    const char                 *reason;
    ims_flow_id_t               id;
    ims_flow_branch_t           b;
    ims_reg_forward_t           f;
    ngx_http_ims_listen_t      *listen;
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;
    d = t->data;
    listen = s->main->listens->elts;

    id.node = (uint16_t) s->main->node;
    id.slot = s->slot;
    id.generation = s->generation;

    t->attempt = (uint8_t) (d->tries - 1);

    b.direction = IMS_TRANS_TO_CORE;
    b.attempt = t->attempt;
    b.cseq = m->cseq;
    b.via_sent_by = m->via.host;
    b.via_branch = m->via.branch.value;
    b.call_id = m->call_id;
    b.from_tag = m->from_tag;
    b.r_uri = m->uri;

    ngx_memzero(&f, sizeof(ims_reg_forward_t));

    f.branch = ims_str_set(branch, ims_flow_branch_make(s->main->flow_keys,
                                                        &id, &b, branch));
    f.path_token = ims_str_set(token, ims_flow_token_path(s->main->flow_keys,
                                                          &id, token));

    ngx_http_ims_random(noise, sizeof(noise));
    ims_hex_encode(icid, noise, sizeof(noise));

    f.icid = ims_str_set(icid, sizeof(icid));
    f.home = ims_str_z(w->look.home);
    f.impi = w->names.impi;
    f.advertise = ngx_http_ims_str(&listen[0].advertise);
    f.transport = ngx_http_ims_str(&listen[0].transport);
    f.visited = ngx_http_ims_str(&s->conf->visited_network);
    f.access_network = ngx_http_ims_str(&s->conf->access_network);
    f.received = ngx_http_ims_str(&s->connection->addr_text);
    f.rport = ngx_inet_get_port(s->connection->sockaddr);
    f.expires = v->expires;

    if (s->conf->authorization_entity && s->grant) {
        f.entity = ((ims_token_issuer_t *) s->grant->issuer)->iss;
    }

    /* POOL.md 1: "*" would take the bindings of the lease's other sessions */

    if (q->contact.star && (w->look.rec.nsession != 1 || s->grant == NULL)) {
        f.own_contact = ngx_http_ims_register_contact(d);
    }

    ims_sip_edit_init(&w->edit, m, w->scratch, w->scratch_size);

    reason = ims_reg_forward(&w->edit, q, &f, status);
    if (reason) {
        return reason;
    }

    ims_trans_set_branch(w->trans, t, f.branch, m->method);

    if (!ims_trans_save(w->trans, &t->request, w->edit.out, w->edit.nout)) {
        *status = 500;
        return "Out Of Memory";
    }

    return NULL;
}


/*
 * No answer can come any more: another peer is tried from the start (a new
 * look, a new branch), or the client is told.
 */

void
ngx_http_ims_register_failed(ims_trans_t *t, ngx_uint_t status,
    const char *reason)
{
    ngx_http_ims_session_t     *s;
    ngx_http_ims_trans_data_t  *d;

    d = t->data;
    s = ngx_http_ims_flow_session(t->slot, t->generation);

    ngx_http_ims_peer_result(d->conf->group, &d->peer, 1);

    if (s == NULL || s->serial != d->serial || s->closing) {
        ngx_http_ims_trans_done(t, status);
        return;
    }

    if (status == 503 && d->tries < ngx_http_ims_peer_count(d->conf->group)
        && ngx_http_ims_register_next(s, t) == NGX_OK)
    {
        return;
    }

    if (status == 503) {
        ngx_http_ims_count(core_down);
    }

    ngx_log_error(NGX_LOG_ERR, s->connection->log, 0,
                  "ims session %uD: REGISTER failed: %s", s->serial, reason);

    s->registering = 0;
    ngx_http_ims_register_answer(s, t, status, reason, "Retry-After: 5\r\n");
    ngx_http_ims_trans_done(t, status);
}


static ngx_int_t
ngx_http_ims_register_next(ngx_http_ims_session_t *s, ims_trans_t *t)
{
    unsigned                    status;
    const char                 *reason;
    ims_sip_err_t               err;
    ims_sip_msg_t              *m;
    ims_reg_request_t           q;
    ims_reg_verdict_t           v;
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;
    d = t->data;
    m = &w->sip;

    if (ims_sip_parse(m, t->response->data, t->response->n, IMS_SIP_WS, &err)
        != 0
        || ims_reg_read(&q, m, &reason) != 0)
    {
        return NGX_ERROR;
    }

    d->looked = ims_boottime_ms();
    d->first_write = d->looked + NGX_HTTP_IMS_FIRST_WRITE;
    d->resent = 0;

    if (ngx_http_ims_register_look(s, s->ident) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_http_ims_register_judge(s, m, &q, s->grant, &v);

    if (v.why != IMS_REG_GO
        || ngx_http_ims_register_peer(s, t) != NGX_OK
        || ngx_http_ims_register_note_peer(s, t) != NGX_OK
        || ngx_http_ims_register_write(s, m, &q, &v, t, &status) != NULL)
    {
        return NGX_ERROR;
    }

    d->expires = v.expires;
    d->end = v.end ? d->looked + (v.end - w->look.pt) : d->first_write;

    return ngx_http_ims_trans_send(t);
}


/* answer the REGISTER that the record keeps */

static void
ngx_http_ims_register_answer(ngx_http_ims_session_t *s, ims_trans_t *t,
    ngx_uint_t status, const char *reason, const char *extra)
{
    ims_sip_err_t           err;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    if (t->response == NULL
        || ims_sip_parse(&w->sip, t->response->data, t->response->n,
                         IMS_SIP_WS, &err)
           != 0)
    {
        return;
    }

    ngx_http_ims_reply(s, &w->sip, status, reason, extra);
}


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
    ngx_int_t                   rc;
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

    if (!ims_reg_answer(&a, m, ngx_http_ims_register_contact(d),
                        d->instance_len
                        ? ngx_http_ims_register_text(d, 0) : IMS_STR_NULL,
                        d->reg_id, route, &reason))
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
    ngx_http_ims_trans_done(t, 200);
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
    ims_flow_ident_t            ids[IMS_POOL_IMPUS + IMS_REG_ASSERTED_MAX + 2];
    ims_flow_ident_t            id;
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;
    d = t->data;

    w->data = *ims_flow_peek(s->main->flows, s->slot);
    old = &w->view.data;
    *old = w->data;

    aor = ngx_http_ims_register_aor(d);
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
        ngx_http_ims_count(flow_no_takeover);
    }

    s->registered = 0;

    for (i = 0; i < n; i++) {
        if (ids[i].until_pt > pt) {
            s->registered = 1;
        }
    }

    if (!s->registered) {
        /* ims_register_timeout begins again */
        s->opened = ngx_current_msec;
    }

    (void) ngx_http_ims_flow_write(s);
}


/* nothing was bound by this REGISTER */

static void
ngx_http_ims_register_unbind(ngx_http_ims_session_t *s, ims_trans_t *t)
{
    unsigned                    n, pos;
    ims_str_t                   aor;
    ims_flow_data_t            *old;
    ims_flow_ident_t            ids[IMS_POOL_IMPUS + IMS_REG_ASSERTED_MAX + 2];
    ngx_http_ims_worker_t      *w;

    w = ngx_http_ims_worker;

    w->data = *ims_flow_peek(s->main->flows, s->slot);
    old = &w->view.data;
    *old = w->data;

    aor = ngx_http_ims_register_aor((ngx_http_ims_trans_data_t *) t->data);
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
    ngx_uint_t                  challenged, level;
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;
    d = t->data;

    if (m->status == 503 && d->tries < ngx_http_ims_peer_count(d->conf->group)
        && ngx_http_ims_register_next(s, t) == NGX_OK)
    {
        return;
    }

    s->registering = 0;
    ngx_http_ims_count(register_refused_core);

    challenged = m->status == 401 || m->status == 407;
    level = challenged ? NGX_LOG_ERR : NGX_LOG_INFO;

    ngx_log_error(level, s->connection->log, 0,
                  "ims session %uD: REGISTER refused by the core with %ui%s",
                  s->serial, (ngx_uint_t) m->status,
                  challenged ? ": it does not honour "
                               "integrity-protected=\"auth-done\"" : "");

    ngx_http_ims_register_unbind(s, t);

    switch (m->status) {

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

    ngx_http_ims_trans_done(t, m->status);
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
