
/*
 * Copyright (C) nginx-ims contributors
 *
 * ims_pass: the WebSocket handshake (RFC 6455 section 4.2, RFC 7118) and the
 * takeover of the connection from the HTTP module.
 */

#include "ngx_http_ims.h"
#include "ws/ims_ws_handshake.h"


static ngx_int_t ngx_http_ims_handshake_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_ims_handshake_check(ngx_http_request_t *r,
    ngx_str_t *key);
static ngx_int_t ngx_http_ims_handshake_http(ngx_http_request_t *r);
static ngx_int_t ngx_http_ims_handshake_upgrade(ngx_http_request_t *r);
static ngx_int_t ngx_http_ims_handshake_refuse(ngx_http_request_t *r,
    ngx_int_t status, const char *why);
static ngx_table_elt_t *ngx_http_ims_header(ngx_http_request_t *r,
    const char *name, ngx_uint_t *n);
static ngx_uint_t ngx_http_ims_header_has(ngx_http_request_t *r,
    const char *name, ims_str_t token, ngx_uint_t exact);
static ngx_int_t ngx_http_ims_add_header(ngx_http_request_t *r,
    const char *name, u_char *value, size_t len);
static ngx_int_t ngx_http_ims_handshake_answer(ngx_http_request_t *r,
    ngx_str_t *key);


static ngx_int_t
ngx_http_ims_handshake_handler(ngx_http_request_t *r)
{
    ngx_int_t                 rc;
    ngx_str_t                 key;
    ngx_http_ims_ctx_t       *ctx;
    ngx_http_ims_session_t   *s;
    ngx_http_ims_loc_conf_t  *ilcf;

    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "ims handshake handler");

    ctx = ngx_http_get_module_ctx(r, ngx_http_ims_module);

    if (ctx == NULL || !ctx->origin_judged) {
        ngx_log_error(NGX_LOG_ALERT, r->connection->log, 0,
                      "ims_pass reached without a verdict on the Origin");
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_str_null(&key);

    rc = ngx_http_ims_handshake_check(r, &key);

    if (rc == NGX_DONE) {
        /* refused, and answered */
        return NGX_OK;
    }

    if (rc != NGX_OK) {
        return rc;
    }

    ilcf = ngx_http_get_module_loc_conf(r, ngx_http_ims_module);

    if (ngx_http_ims_limit_reached(r->connection, ilcf)) {
        ngx_http_ims_count(handshake_limit);
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "ims handshake refused with 503: too many WebSockets");
        return NGX_HTTP_SERVICE_UNAVAILABLE;
    }

    s = ngx_http_ims_session_create(r, ctx, ilcf);
    if (s == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_ims_handshake_answer(r, &key);

    if (rc != NGX_OK) {
        ngx_http_ims_session_destroy(s);
        return rc == NGX_DECLINED ? NGX_HTTP_INTERNAL_SERVER_ERROR : NGX_ERROR;
    }

    ngx_http_ims_count(handshakes);

    /* the caller still uses the request, so the takeover itself is posted */

    r->main->count++;
    ngx_http_ims_session_takeover(s, r);

    return NGX_DONE;
}


static ngx_int_t
ngx_http_ims_handshake_check(ngx_http_request_t *r, ngx_str_t *key)
{
    ngx_int_t         rc;
    ngx_uint_t        n;
    ngx_table_elt_t  *h;

    rc = ngx_http_ims_handshake_http(r);
    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_http_ims_handshake_upgrade(r);
    if (rc != NGX_OK) {
        return rc;
    }

    h = ngx_http_ims_header(r, "sec-websocket-key", &n);

    if (n != 1 || !ims_ws_key_ok(ngx_http_ims_str(&h->value))) {
        return ngx_http_ims_handshake_refuse(r, NGX_HTTP_BAD_REQUEST,
                                             "bad Sec-WebSocket-Key");
    }

    *key = h->value;

    if (!ngx_http_ims_header_has(r, "sec-websocket-protocol", IMS_STR("sip"), 1))
    {
        return ngx_http_ims_handshake_refuse(r, NGX_HTTP_BAD_REQUEST,
                                             "no subprotocol \"sip\"");
    }

    if (ngx_exiting || ngx_terminate) {
        return ngx_http_ims_handshake_refuse(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                             "worker is leaving");
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_ims_handshake_http(ngx_http_request_t *r)
{
    if (r != r->main) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "ims_pass in a subrequest");
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (r->method != NGX_HTTP_GET) {
        (void) ngx_http_ims_add_header(r, "Allow", (u_char *) "GET", 3);
        return ngx_http_ims_handshake_refuse(r, NGX_HTTP_NOT_ALLOWED,
                                             "method is not GET");
    }

    /* there is no Upgrade in HTTP/2 and HTTP/3 */

    if (r->http_version != NGX_HTTP_VERSION_11) {
        return ngx_http_ims_handshake_refuse(r, NGX_HTTP_BAD_REQUEST,
                                             "protocol is not HTTP/1.1");
    }

    /* a body would be read as frames: request smuggling */

    if (r->headers_in.content_length_n > 0 || r->headers_in.chunked) {
        return ngx_http_ims_handshake_refuse(r, NGX_HTTP_BAD_REQUEST,
                                             "request has a body");
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_ims_handshake_upgrade(ngx_http_request_t *r)
{
    ngx_uint_t         n;
    ngx_table_elt_t   *h;
    static const char  why[] = "not a WebSocket version 13 upgrade";

    h = ngx_http_ims_header(r, "sec-websocket-version", &n);

    if (ngx_http_ims_header_has(r, "upgrade", IMS_STR("websocket"), 0)
        && ngx_http_ims_header_has(r, "connection", IMS_STR("upgrade"), 0)
        && n == 1 && h->value.len == 2
        && ngx_strncmp(h->value.data, "13", 2) == 0)
    {
        return NGX_OK;
    }

    if (ngx_http_ims_add_header(r, "Upgrade", (u_char *) "websocket", 9)
        != NGX_OK
        || ngx_http_ims_add_header(r, "Sec-WebSocket-Version",
                                   (u_char *) "13", 2)
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_ims_handshake_refuse(r, 426, why);
}


/* the status to return, or NGX_DONE: the answer was sent */

static ngx_int_t
ngx_http_ims_handshake_refuse(ngx_http_request_t *r, ngx_int_t status,
    const char *why)
{
    ngx_int_t  rc;

    ngx_http_ims_count(handshake_bad);

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "ims handshake refused with %i: %s", status, why);

    if (status != 426) {
        return status;
    }

    /* nginx has no page for 426, so the answer is sent from here */

    r->headers_out.status = 426;
    ngx_str_set(&r->headers_out.status_line, "426 Upgrade Required");
    r->headers_out.content_length_n = 0;
    r->header_only = 1;

    rc = ngx_http_send_header(r);

    return rc == NGX_ERROR || rc > NGX_OK ? rc : NGX_DONE;
}


/* the first header of that name (lower case), and how many there are */

static ngx_table_elt_t *
ngx_http_ims_header(ngx_http_request_t *r, const char *name, ngx_uint_t *n)
{
    size_t            len;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h, *first;

    *n = 0;
    first = NULL;
    len = ngx_strlen(name);

    for (part = &r->headers_in.headers.part; part; part = part->next) {

        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].key.len == len
                && ngx_strncasecmp(h[i].key.data, (u_char *) name, len) == 0)
            {
                if ((*n)++ == 0) {
                    first = &h[i];
                }
            }
        }
    }

    return first;
}


/*
 * Is the token a member of the header's list, on any of its lines.  exact: a
 * browser compares the subprotocol chosen with what it offered letter by
 * letter.
 */

static ngx_uint_t
ngx_http_ims_header_has(ngx_http_request_t *r, const char *name,
    ims_str_t token, ngx_uint_t exact)
{
    size_t            len;
    ims_str_t         list, member;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    len = ngx_strlen(name);

    for (part = &r->headers_in.headers.part; part; part = part->next) {

        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].key.len != len
                || ngx_strncasecmp(h[i].key.data, (u_char *) name, len) != 0)
            {
                continue;
            }

            list = ngx_http_ims_str(&h[i].value);

            while (ims_http_token_list_next(&list, &member)) {
                if (exact ? ims_str_eq(member, token)
                          : ims_str_caseeq(member, token))
                {
                    return 1;
                }
            }
        }
    }

    return 0;
}


static ngx_int_t
ngx_http_ims_add_header(ngx_http_request_t *r, const char *name,
    u_char *value, size_t len)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    h->hash = 1;
#if (nginx_version >= 1023000)
    h->next = NULL;
#endif
    h->key.data = (u_char *) name;
    h->key.len = ngx_strlen(name);
    h->value.data = value;
    h->value.len = len;

    return NGX_OK;
}


/*
 * 101, all of it handed to the socket: what follows are frames, and the
 * request is about to be freed.  NGX_DECLINED: nothing was sent.
 */

static ngx_int_t
ngx_http_ims_handshake_answer(ngx_http_request_t *r, ngx_str_t *key)
{
    u_char  *accept;

    accept = ngx_pnalloc(r->pool, IMS_WS_ACCEPT_LEN);
    if (accept == NULL) {
        return NGX_DECLINED;
    }

    ims_ws_accept_key(accept, ngx_http_ims_str(key));

    /* the header filter writes "Connection: upgrade" by itself */

    if (ngx_http_ims_add_header(r, "Upgrade", (u_char *) "websocket", 9)
        != NGX_OK
        || ngx_http_ims_add_header(r, "Sec-WebSocket-Accept", accept,
                                   IMS_WS_ACCEPT_LEN)
           != NGX_OK
        || ngx_http_ims_add_header(r, "Sec-WebSocket-Protocol",
                                   (u_char *) "sip", 3)
           != NGX_OK)
    {
        return NGX_DECLINED;
    }

    r->keepalive = 0;
    r->headers_out.status = NGX_HTTP_SWITCHING_PROTOCOLS;
    ngx_str_set(&r->headers_out.status_line, "101 Switching Protocols");

    if (ngx_http_send_header(r) != NGX_OK
        || ngx_http_send_special(r, NGX_HTTP_FLUSH) == NGX_ERROR)
    {
        return NGX_ERROR;
    }

    if (r->out || r->connection->buffered) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "the handshake's answer does not fit the socket");
        return NGX_ERROR;
    }

    return NGX_OK;
}


char *
ngx_http_ims_pass(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_ims_loc_conf_t *ilcf = conf;

    ngx_str_t                 *value;
    ngx_uint_t                 transport;
    ngx_http_core_loc_conf_t  *clcf;

    if (ilcf->endpoint != NGX_HTTP_IMS_IS_NOTHING) {
        return ilcf->group ? "is duplicate"
                           : "conflicts with another handler of the location";
    }

    value = cf->args->elts;

    transport = NGX_HTTP_IMS_STREAM;

    if (cf->args->nelts == 3) {

        if (ngx_strcmp(value[2].data, "udp") != 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"ims_pass\": invalid parameter \"%V\"",
                               &value[2]);
            return NGX_CONF_ERROR;
        }

        transport = NGX_HTTP_IMS_UDP;
    }

    ilcf->group = ngx_http_ims_group_add(cf, &value[1], transport);
    if (ilcf->group == NULL) {
        return NGX_CONF_ERROR;
    }

    ilcf->endpoint = NGX_HTTP_IMS_IS_WEBSOCKET;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = ngx_http_ims_handshake_handler;

    return NGX_CONF_OK;
}
