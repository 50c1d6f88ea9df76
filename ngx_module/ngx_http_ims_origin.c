
/*
 * Copyright (C) nginx-ims contributors
 *
 * The Origin header, judged in the preaccess phase: a refusal here is final,
 * "satisfy any" has no say in it.  A good one is NGX_DECLINED, since NGX_OK
 * would pass over limit_req and limit_conn.
 */

#include "ngx_http_ims.h"


static ngx_int_t ngx_http_ims_origin_websocket(ngx_http_request_t *r,
    ngx_http_ims_loc_conf_t *ilcf, ngx_http_ims_ctx_t *ctx);
static ngx_int_t ngx_http_ims_origin_identity(ngx_http_request_t *r,
    ngx_http_ims_loc_conf_t *ilcf, ngx_http_ims_ctx_t *ctx);
static ngx_uint_t ngx_http_ims_origin_cross_site(ngx_http_request_t *r);
static ngx_int_t ngx_http_ims_origin_cors(ngx_http_request_t *r,
    ngx_http_ims_ctx_t *ctx);
static ngx_int_t ngx_http_ims_origin_preflight(ngx_http_request_t *r);
static ngx_int_t ngx_http_ims_origin_read(ngx_http_request_t *r,
    ngx_http_ims_loc_conf_t *ilcf, ngx_http_ims_ctx_t *ctx);
static void ngx_http_ims_origin_hide_token(ngx_http_request_t *r,
    ngx_http_ims_ctx_t *ctx);
static void ngx_http_ims_origin_blank(ngx_str_t *s);


ngx_int_t
ngx_http_ims_origin_handler(ngx_http_request_t *r)
{
    ngx_http_ims_ctx_t       *ctx;
    ngx_http_ims_loc_conf_t  *ilcf;

    ilcf = ngx_http_get_module_loc_conf(r, ngx_http_ims_module);

    if (ilcf->endpoint != NGX_HTTP_IMS_IS_WEBSOCKET
        && ilcf->endpoint != NGX_HTTP_IMS_IS_IDENTITY)
    {
        return NGX_DECLINED;
    }

    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "ims origin handler");

    ctx = ngx_http_get_module_ctx(r, ngx_http_ims_module);

    if (ctx == NULL) {
        ctx = ngx_pcalloc(r->pool, sizeof(ngx_http_ims_ctx_t));
        if (ctx == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        ngx_http_set_ctx(r, ctx, ngx_http_ims_module);
    }

    if (ilcf->endpoint == NGX_HTTP_IMS_IS_WEBSOCKET) {
        return ngx_http_ims_origin_websocket(r, ilcf, ctx);
    }

    return ngx_http_ims_origin_identity(r, ilcf, ctx);
}


static ngx_int_t
ngx_http_ims_origin_websocket(ngx_http_request_t *r,
    ngx_http_ims_loc_conf_t *ilcf, ngx_http_ims_ctx_t *ctx)
{
    ngx_int_t  rc;

    /* before anything can log the request line */

    ngx_http_ims_origin_hide_token(r, ctx);

    rc = ngx_http_ims_origin_read(r, ilcf, ctx);

    if (rc == NGX_DECLINED && !ilcf->origin_missing_ok) {
        ngx_http_ims_count(origin_missing);
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "handshake refused: no Origin");
        return NGX_HTTP_FORBIDDEN;
    }

    if (rc == NGX_ERROR) {
        ngx_http_ims_count(origin_foreign);
        return NGX_HTTP_FORBIDDEN;
    }

    ctx->origin_judged = 1;

    return NGX_DECLINED;
}


/*
 * Browsers send Origin with every POST and DELETE of a script, so that a
 * request without one was not made by a page, or is not to be trusted.
 */

static ngx_int_t
ngx_http_ims_origin_identity(ngx_http_request_t *r,
    ngx_http_ims_loc_conf_t *ilcf, ngx_http_ims_ctx_t *ctx)
{
    ngx_int_t  rc;
    ngx_str_t  vary;

    ngx_str_set(&vary, "Origin");

    if (ngx_http_ims_header_out(r, "Vary", &vary) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_ims_origin_read(r, ilcf, ctx);

    if (rc == NGX_DECLINED
        && (r->method & (NGX_HTTP_POST|NGX_HTTP_DELETE))
        && (!ilcf->origin_missing_ok || ngx_http_ims_origin_cross_site(r)))
    {
        ngx_http_ims_count(identity_origin);
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "identity request refused: no Origin");
        return NGX_HTTP_FORBIDDEN;
    }

    if (rc == NGX_ERROR) {
        ngx_http_ims_count(identity_origin);
        return NGX_HTTP_FORBIDDEN;
    }

    ctx->origin_judged = 1;

    if (rc == NGX_DECLINED) {
        return NGX_DECLINED;
    }

    if (ngx_http_ims_origin_cors(r, ctx) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (r->method == NGX_HTTP_OPTIONS) {
        return ngx_http_ims_origin_preflight(r);
    }

    return NGX_DECLINED;
}


static ngx_uint_t
ngx_http_ims_origin_cross_site(ngx_http_request_t *r)
{
    ngx_uint_t        n;
    ngx_table_elt_t  *h;

    h = ngx_http_ims_header_in(r, "sec-fetch-site", &n);

    return n && !(n == 1
                  && ims_str_eq(ngx_http_ims_str(&h->value),
                                IMS_STR("same-origin")));
}


/*
 * Set here and not with the answer, so that the answers of other modules and
 * errors have them, too: without them a page cannot even read the status.
 */

static ngx_int_t
ngx_http_ims_origin_cors(ngx_http_request_t *r, ngx_http_ims_ctx_t *ctx)
{
    ngx_str_t  yes, expose;

    ngx_str_set(&yes, "true");
    ngx_str_set(&expose, "Retry-After");

    if (ngx_http_ims_header_out(r, "Access-Control-Allow-Origin",
                                &ctx->origin)
        != NGX_OK
        || ngx_http_ims_header_out(r, "Access-Control-Allow-Credentials",
                                   &yes)
           != NGX_OK
        || ngx_http_ims_header_out(r, "Access-Control-Expose-Headers",
                                   &expose)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* a preflight has no credentials: it must not come to the access phase */

static ngx_int_t
ngx_http_ims_origin_preflight(ngx_http_request_t *r)
{
    ngx_str_t  methods, headers, age;

    ngx_str_set(&methods, "POST, DELETE");
    ngx_str_set(&headers, "Authorization, Content-Type");
    ngx_str_set(&age, "600");

    if (ngx_http_ims_header_out(r, "Access-Control-Allow-Methods", &methods)
        != NGX_OK
        || ngx_http_ims_header_out(r, "Access-Control-Allow-Headers",
                                   &headers)
           != NGX_OK
        || ngx_http_ims_header_out(r, "Access-Control-Max-Age", &age)
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_HTTP_NO_CONTENT;
}


/*
 * NGX_OK: one Origin, on the list; NGX_DECLINED: none; NGX_ERROR: foreign,
 * which is logged, or twice, which no browser does.
 */

static ngx_int_t
ngx_http_ims_origin_read(ngx_http_request_t *r,
    ngx_http_ims_loc_conf_t *ilcf, ngx_http_ims_ctx_t *ctx)
{
    u_char            text[NGX_HTTP_IMS_LOG_TEXT];
    ngx_uint_t        n;
    ngx_table_elt_t  *h;

    h = ngx_http_ims_header_in(r, "origin", &n);

    if (n == 0) {
        return NGX_DECLINED;
    }

    if (n > 1) {
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "refused: %ui Origin headers", n);
        return NGX_ERROR;
    }

    if (ngx_http_ims_origin_ok(ilcf, &h->value) != NGX_OK) {
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "refused: origin \"%s\" is not on the list",
                      ngx_http_ims_log_text(text, &h->value));
        return NGX_ERROR;
    }

    ctx->origin_present = 1;
    ctx->origin = h->value;

    return NGX_OK;
}


ngx_int_t
ngx_http_ims_origin_ok(ngx_http_ims_loc_conf_t *ilcf, ngx_str_t *origin)
{
    ngx_uint_t               i;
    ngx_http_ims_issuer_t  **issuer;

    if (ilcf->endpoint == NGX_HTTP_IMS_IS_IDENTITY) {
        return ngx_http_ims_issuer_serves(ilcf->identity_issuer, origin,
                                          ngx_cycle->log);
    }

    issuer = ilcf->accept_issuers->elts;

    for (i = 0; i < ilcf->accept_issuers->nelts; i++) {
        if (ngx_http_ims_issuer_serves(issuer[i], origin, ngx_cycle->log)
            == NGX_OK)
        {
            return NGX_OK;
        }
    }

    return NGX_DECLINED;
}


/*
 * A token in the query would be in every access log, and in the error log
 * behind "request:".  It is copied, and its bytes are written over in all
 * that nginx keeps of the request line.
 */

static void
ngx_http_ims_origin_hide_token(ngx_http_request_t *r, ngx_http_ims_ctx_t *ctx)
{
    ngx_str_t  value;

    if (ctx->shown.data == NULL
        && ngx_http_arg(r, (u_char *) "access_token",
                        sizeof("access_token") - 1, &value)
           == NGX_OK)
    {
        ctx->shown.data = ngx_pstrdup(r->pool, &value);
        ctx->shown.len = ctx->shown.data ? value.len : 0;
    }

    ngx_http_ims_origin_blank(&r->args);
    ngx_http_ims_origin_blank(&r->unparsed_uri);
    ngx_http_ims_origin_blank(&r->request_line);
}


static void
ngx_http_ims_origin_blank(ngx_str_t *s)
{
    u_char  *p, *last, *found;

    p = s->data;
    last = p + s->len;

    while (p < last) {
        found = ngx_strlcasestrn(p, last, (u_char *) "access_token=",
                                 sizeof("access_token=") - 2);
        if (found == NULL) {
            return;
        }

        p = found + sizeof("access_token=") - 1;

        if (found > s->data && found[-1] != '?' && found[-1] != '&') {
            continue;
        }

        while (p < last && *p != '&' && *p != ' ' && *p != '#') {
            *p++ = 'x';
        }
    }
}
