
/*
 * Copyright (C) nginx-ims contributors
 *
 * A token shown at the WebSocket handshake, judged in the access phase:
 * NGX_OK only for a verified one, NGX_DECLINED when none was shown and none
 * is demanded, so that "satisfy" and the site's own login mean what they say.
 */

#include "ngx_http_ims.h"
#include "ws/ims_ws_handshake.h"


static ngx_int_t ngx_http_ims_access_shown(ngx_http_request_t *r,
    ngx_http_ims_loc_conf_t *ilcf, ngx_http_ims_ctx_t *ctx, ngx_str_t *token);
static ngx_int_t ngx_http_ims_access_bearer(ngx_http_request_t *r,
    ngx_str_t *token);
static ngx_int_t ngx_http_ims_access_subprotocol(ngx_http_request_t *r,
    ngx_str_t *token);
static ngx_uint_t ngx_http_ims_access_is_jws(ims_str_t s);
static ngx_int_t ngx_http_ims_access_verify(ngx_http_request_t *r,
    ngx_http_ims_loc_conf_t *ilcf, ngx_http_ims_ctx_t *ctx, ngx_str_t *token);
static const char *ngx_http_ims_access_bound(ngx_http_request_t *r,
    ngx_http_ims_ctx_t *ctx, ngx_http_ims_issuer_t *issuer,
    ims_token_claims_t *claims);
static ngx_int_t ngx_http_ims_access_refuse(ngx_http_request_t *r,
    ngx_int_t status, const char *error);


ngx_int_t
ngx_http_ims_access_handler(ngx_http_request_t *r)
{
    ngx_int_t                 rc;
    ngx_str_t                 token;
    ngx_http_ims_ctx_t       *ctx;
    ngx_http_ims_loc_conf_t  *ilcf;

    ilcf = ngx_http_get_module_loc_conf(r, ngx_http_ims_module);

    if (ilcf->endpoint != NGX_HTTP_IMS_IS_WEBSOCKET
        || ilcf->token_mode == NGX_HTTP_IMS_TOKEN_OFF)
    {
        return NGX_DECLINED;
    }

    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "ims access handler");

    ctx = ngx_http_get_module_ctx(r, ngx_http_ims_module);

    if (ctx == NULL || !ctx->origin_judged) {
        ngx_log_error(NGX_LOG_ALERT, r->connection->log, 0,
                      "ims token reached without a verdict on the Origin");
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ctx->token_good) {
        return NGX_OK;
    }

    rc = ngx_http_ims_access_shown(r, ilcf, ctx, &token);

    if (rc == NGX_OK) {
        return ngx_http_ims_access_verify(r, ilcf, ctx, &token);
    }

    if (rc == NGX_ERROR) {
        ngx_http_ims_count(handshake_token_bad);
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "handshake refused: malformed Authorization");
        return ngx_http_ims_access_refuse(r, NGX_HTTP_UNAUTHORIZED,
                                          "invalid_token");
    }

    if (ilcf->token_mode == NGX_HTTP_IMS_TOKEN_OPTIONAL) {
        return NGX_DECLINED;
    }

    ngx_http_ims_count(handshake_token_missing);
    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "handshake refused: no token");

    return ngx_http_ims_access_refuse(r, NGX_HTTP_UNAUTHORIZED, NULL);
}


/*
 * The first carrier that has one is taken, what a script wrote before what a
 * browser sends by itself.  NGX_DECLINED: none; NGX_ERROR: not to be read.
 */

static ngx_int_t
ngx_http_ims_access_shown(ngx_http_request_t *r,
    ngx_http_ims_loc_conf_t *ilcf, ngx_http_ims_ctx_t *ctx, ngx_str_t *token)
{
    ngx_int_t  rc;

    rc = ngx_http_ims_access_bearer(r, token);
    if (rc != NGX_DECLINED) {
        return rc;
    }

    if (ctx->shown.len) {
        *token = ctx->shown;
        return NGX_OK;
    }

    if (ngx_http_ims_access_subprotocol(r, token) == NGX_OK) {
        return NGX_OK;
    }

    if (ilcf->token_cookie.len
        && ngx_http_ims_cookie_in(r, &ilcf->token_cookie, token) == NGX_OK
        && token->len)
    {
        return NGX_OK;
    }

    return NGX_DECLINED;
}


/* other schemes than Bearer are the site's own business */

static ngx_int_t
ngx_http_ims_access_bearer(ngx_http_request_t *r, ngx_str_t *token)
{
    ims_str_t         value, t;
    ngx_uint_t        i, found;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    found = 0;
    part = &r->headers_in.headers.part;

    for ( ; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (!ims_str_caseeq(ngx_http_ims_str(&h[i].key),
                                IMS_STR("authorization")))
            {
                continue;
            }

            value = ngx_http_ims_str(&h[i].value);

            if (value.n < 6
                || !ims_str_caseeq(ims_str_set(value.p, 6), IMS_STR("bearer"))
                || (value.n > 6 && value.p[6] != ' ' && value.p[6] != '\t'))
            {
                continue;
            }

            if (found++ || !ims_sip_bearer(value, &t)) {
                return NGX_ERROR;
            }

            token->data = (u_char *) t.p;
            token->len = t.n;
        }
    }

    return found ? NGX_OK : NGX_DECLINED;
}


/*
 * "Sec-WebSocket-Protocol: sip, eyJ...": the one thing besides the URL and
 * cookies that a page can put into a handshake.
 */

static ngx_int_t
ngx_http_ims_access_subprotocol(ngx_http_request_t *r, ngx_str_t *token)
{
    ims_str_t         list, member;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    part = &r->headers_in.headers.part;

    for ( ; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (!ims_str_caseeq(ngx_http_ims_str(&h[i].key),
                                IMS_STR("sec-websocket-protocol")))
            {
                continue;
            }

            list = ngx_http_ims_str(&h[i].value);

            while (ims_http_token_list_next(&list, &member)) {
                if (ngx_http_ims_access_is_jws(member)) {
                    token->data = (u_char *) member.p;
                    token->len = member.n;
                    return NGX_OK;
                }
            }
        }
    }

    return NGX_DECLINED;
}


/* three parts: no subprotocol in use looks so */

static ngx_uint_t
ngx_http_ims_access_is_jws(ims_str_t s)
{
    size_t      i;
    ngx_uint_t  dots;

    for (i = 0, dots = 0; i < s.n; i++) {
        dots += s.p[i] == '.';
    }

    return dots == 2 && s.n > 3 && ngx_memcmp(s.p, "eyJ", 3) == 0;
}


static ngx_int_t
ngx_http_ims_access_verify(ngx_http_request_t *r,
    ngx_http_ims_loc_conf_t *ilcf, ngx_http_ims_ctx_t *ctx, ngx_str_t *token)
{
    const char                *why;
    ims_token_err_t            err;
    ims_token_claims_t        *claims;
    const ims_token_issuer_t  *issuer;

    claims = ngx_palloc(r->pool, sizeof(ims_token_claims_t));
    if (claims == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ims_token_verify(ilcf->token_issuers, ilcf->ntoken_issuers,
                         ngx_http_ims_str(token),
                         (int64_t) (ims_wall_ms() / 1000), claims, &issuer,
                         &err)
        != 0)
    {
        if (err.code == IMS_TOKEN_FAILURE) {
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                          "token could not be verified: %s",
                          ims_token_strerror(err.code));
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        ngx_http_ims_count(handshake_token_bad);
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "handshake refused: token %s%s%s",
                      ims_token_strerror(err.code), err.claim ? ": " : "",
                      err.claim ? err.claim : "");

        return err.code == IMS_TOKEN_SCOPE_MISSING
               ? ngx_http_ims_access_refuse(r, NGX_HTTP_FORBIDDEN,
                                            "insufficient_scope")
               : ngx_http_ims_access_refuse(r, NGX_HTTP_UNAUTHORIZED,
                                            "invalid_token");
    }

    why = ngx_http_ims_access_bound(r, ctx, issuer->data, claims);

    if (why) {
        ngx_http_ims_count(handshake_token_bad);
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "handshake refused: %s", why);
        return NGX_HTTP_FORBIDDEN;
    }

    ctx->token = *token;
    ctx->claims = claims;
    ctx->issuer = issuer->data;
    ctx->token_good = 1;

    return NGX_OK;
}


/* a good token, but of this issuer, for this identity, on this page? */

static const char *
ngx_http_ims_access_bound(ngx_http_request_t *r, ngx_http_ims_ctx_t *ctx,
    ngx_http_ims_issuer_t *issuer, ims_token_claims_t *claims)
{
    ims_origin_t  claimed, sent;

    if (ngx_http_ims_issuer_may(issuer, claims->pool, claims->impu,
                                claims->nimpu)
        != NGX_OK)
    {
        return "issuer may not speak for this identity";
    }

    if (ctx->origin_present
        && ngx_http_ims_issuer_serves(issuer, &ctx->origin,
                                      r->connection->log)
           != NGX_OK)
    {
        return "issuer does not serve this origin";
    }

    if (claims->origin.p == NULL) {
        return NULL;
    }

    if (!ctx->origin_present
        || !ims_origin_parse(&claimed, claims->origin)
        || !ims_origin_parse(&sent, ngx_http_ims_str(&ctx->origin))
        || !ims_origin_equal(&claimed, &sent))
    {
        return "token is bound to another origin";
    }

    return NULL;
}


/* RFC 6750 section 3 */

static ngx_int_t
ngx_http_ims_access_refuse(ngx_http_request_t *r, ngx_int_t status,
    const char *error)
{
    u_char           *p;
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memzero(h, sizeof(ngx_table_elt_t));

    h->value.data = ngx_pnalloc(r->pool, sizeof("Bearer realm=\"ims\", "
                                                "error=\"insufficient_scope"
                                                "\""));
    if (h->value.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    p = ngx_cpymem(h->value.data, "Bearer realm=\"ims\"",
                   sizeof("Bearer realm=\"ims\"") - 1);

    if (error) {
        p = ngx_sprintf(p, ", error=\"%s\"", error);
    }

    h->value.len = p - h->value.data;
    h->hash = 1;
    ngx_str_set(&h->key, "WWW-Authenticate");

    r->headers_out.www_authenticate = h;

    return status;
}
