
/*
 * Copyright (C) nginx-ims contributors
 *
 * REGISTER of a client: token, lease and names, judged by the register rules
 * (reg/) with a fresh look into the pool.  POOL.md 1, line E, a and b.
 */

#include "ngx_http_ims_register.h"


static ngx_int_t ngx_http_ims_register_token(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m, ims_reg_request_t *q, ims_reg_grant_t **fresh);
static const char *ngx_http_ims_register_origin(ngx_http_ims_session_t *s,
    const ims_token_issuer_t *issuer, ims_token_claims_t *claims);
static ngx_uint_t ngx_http_ims_register_issuer_may(
    const ims_reg_grant_t *grant);
static void ngx_http_ims_register_refuse(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m, ims_reg_why_e why, ims_pool_lapse_e lapse);


uint32_t
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
    const char                  *why;
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

    why = ngx_http_ims_register_origin(s, issuer, &claims);

    if (why) {
        ngx_http_ims_count(register_origin);

        ngx_log_error(NGX_LOG_INFO, s->connection->log, 0,
                      "ims session %uD: %s", s->serial, why);

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


/*
 * What was judged at the handshake for a token shown there holds for one shown
 * here: a page can only bring tokens of issuers that serve it.
 */

static const char *
ngx_http_ims_register_origin(ngx_http_ims_session_t *s,
    const ims_token_issuer_t *issuer, ims_token_claims_t *claims)
{
    ims_origin_t  bound, own;

    if (s->origin.len
        && ngx_http_ims_issuer_serves(issuer->data, &s->origin,
                                      s->connection->log)
           != NGX_OK)
    {
        return "issuer of the token does not serve this Origin";
    }

    if (claims->origin.n == 0) {
        return NULL;
    }

    if (ims_origin_parse(&bound, claims->origin)
        && ims_origin_parse(&own, ngx_http_ims_str(&s->origin))
        && ims_origin_equal(&bound, &own))
    {
        return NULL;
    }

    return "token is bound to another Origin";
}


/* w->look and w->names; NGX_DECLINED: there is no such identity */

ngx_int_t
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


void
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
    u_char                    extra[256 + IMS_TOKEN_STR_MAX], *p;
    ims_str_t                 scope;
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

        /* of several issuers the first is as good as any */

        scope = s->conf->token_issuers[0]->scope;

        if (scope.n == 0) {
            scope = IMS_STR(IMS_TOKEN_SCOPE);
        }

        p = ngx_sprintf(p, "WWW-Authenticate: Bearer realm=\"%*s\","
                        "scope=\"%*s\"%s%s%s\r\n",
                        ngx_min(m->ruri.host.n, 128), m->ruri.host.p,
                        scope.n, scope.p,
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


void
ngx_http_ims_register_unavailable(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m, const char *reason)
{
    ngx_http_ims_reply(s, m, 503, reason, "Retry-After: 5\r\n");
}
