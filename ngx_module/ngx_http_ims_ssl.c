
/*
 * Copyright (C) nginx-ims contributors
 *
 * TLS towards the core: links of ours as its client, ims_listen as its
 * server.  A link knows of it only that its connection has c->ssl.
 */

#include "ngx_http_ims_link.h"


#if (NGX_SSL)

#define NGX_HTTP_IMS_SSL_DEPTH    4       /* of a chain of certificates */
#define NGX_HTTP_IMS_SSL_TIMEOUT  10000   /* ms of a handshake accepted */


static ngx_ssl_t *ngx_http_ims_ssl_create(ngx_conf_t *cf,
    ngx_http_ims_main_conf_t *imcf);
static char *ngx_http_ims_ssl_init_core(ngx_conf_t *cf,
    ngx_http_ims_main_conf_t *imcf);
static char *ngx_http_ims_ssl_init_listen(ngx_conf_t *cf,
    ngx_http_ims_main_conf_t *imcf);
static ngx_int_t ngx_http_ims_ssl_name_is_address(ngx_str_t *name);
static void ngx_http_ims_ssl_connected(ngx_connection_t *c);
static ngx_int_t ngx_http_ims_ssl_verify(ngx_connection_t *c,
    ngx_http_ims_main_conf_t *imcf);
static ngx_int_t ngx_http_ims_ssl_verify_name(ngx_connection_t *c,
    ngx_str_t *name);
static void ngx_http_ims_ssl_accepted(ngx_connection_t *c);
static ngx_int_t ngx_http_ims_ssl_verify_client(ngx_connection_t *c);


/* -- configuration --------------------------------------------------------- */

char *
ngx_http_ims_ssl_init(ngx_conf_t *cf, ngx_http_ims_main_conf_t *imcf)
{
    ngx_uint_t              i;
    ngx_http_ims_listen_t  *listen;

    if (imcf->core_ssl && ngx_http_ims_ssl_init_core(cf, imcf) != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (imcf->listens == NULL) {
        return NGX_CONF_OK;
    }

    listen = imcf->listens->elts;

    for (i = 0; i < imcf->listens->nelts; i++) {
        if (listen[i].ssl) {
            return ngx_http_ims_ssl_init_listen(cf, imcf);
        }
    }

    return NGX_CONF_OK;
}


static ngx_ssl_t *
ngx_http_ims_ssl_create(ngx_conf_t *cf, ngx_http_ims_main_conf_t *imcf)
{
    ngx_ssl_t           *ssl;
    ngx_uint_t           protocols;
    ngx_pool_cleanup_t  *cln;

    ssl = ngx_pcalloc(cf->pool, sizeof(ngx_ssl_t));
    if (ssl == NULL) {
        return NULL;
    }

    ssl->log = cf->log;

    protocols = imcf->core_ssl_protocols
                ? imcf->core_ssl_protocols
                : NGX_CONF_BITMASK_SET|NGX_SSL_TLSv1_2|NGX_SSL_TLSv1_3;

    if (ngx_ssl_create(ssl, protocols, NULL) != NGX_OK) {
        return NULL;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        ngx_ssl_cleanup_ctx(ssl);
        return NULL;
    }

    cln->handler = ngx_ssl_cleanup_ctx;
    cln->data = ssl;

    return ssl;
}


static char *
ngx_http_ims_ssl_init_core(ngx_conf_t *cf, ngx_http_ims_main_conf_t *imcf)
{
    ngx_ssl_t  *ssl;

    if (imcf->core_ssl_verify && (imcf->core_ssl_trusted.len == 0
                                  || imcf->core_ssl_name.len == 0))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"ims_core_ssl\" needs "
                           "\"ims_core_ssl_trusted_certificate\" and "
                           "\"ims_core_ssl_name\" to verify the core, or "
                           "\"ims_core_ssl_verify off\"");
        return NGX_CONF_ERROR;
    }

    if ((imcf->core_ssl_certificate.len == 0)
        != (imcf->core_ssl_certificate_key.len == 0))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"ims_core_ssl_certificate\" and "
                           "\"ims_core_ssl_certificate_key\" need each other");
        return NGX_CONF_ERROR;
    }

    ssl = ngx_http_ims_ssl_create(cf, imcf);
    if (ssl == NULL) {
        return NGX_CONF_ERROR;
    }

    if (imcf->core_ssl_certificate.len
        && ngx_ssl_certificate(cf, ssl, &imcf->core_ssl_certificate,
                               &imcf->core_ssl_certificate_key, NULL)
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (ngx_ssl_trusted_certificate(cf, ssl, &imcf->core_ssl_trusted,
                                    NGX_HTTP_IMS_SSL_DEPTH)
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    imcf->core_ssl_ctx = ssl;

    return NGX_CONF_OK;
}


static char *
ngx_http_ims_ssl_init_listen(ngx_conf_t *cf, ngx_http_ims_main_conf_t *imcf)
{
    ngx_ssl_t  *ssl;

    if (imcf->listen_certificate.len == 0
        || imcf->listen_certificate_key.len == 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"ims_listen\" with \"tls\" needs "
                           "\"ims_listen_certificate\" and "
                           "\"ims_listen_certificate_key\"");
        return NGX_CONF_ERROR;
    }

    ssl = ngx_http_ims_ssl_create(cf, imcf);
    if (ssl == NULL) {
        return NGX_CONF_ERROR;
    }

    if (ngx_ssl_certificate(cf, ssl, &imcf->listen_certificate,
                            &imcf->listen_certificate_key, NULL)
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (imcf->listen_client.len
        && ngx_ssl_client_certificate(cf, ssl, &imcf->listen_client,
                                      NGX_HTTP_IMS_SSL_DEPTH)
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    /* connections last: a core that comes back shows its certificate again */

    SSL_CTX_set_session_cache_mode(ssl->ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(ssl->ctx, SSL_OP_NO_TICKET);
#ifdef TLS1_3_VERSION
    (void) SSL_CTX_set_num_tickets(ssl->ctx, 0);
#endif

    imcf->listen_ssl_ctx = ssl;

    return NGX_CONF_OK;
}


/* SNI has no addresses (RFC 6066 3), and certificates keep them apart */

static ngx_int_t
ngx_http_ims_ssl_name_is_address(ngx_str_t *name)
{
    u_char  addr[16];

    if (ngx_inet_addr(name->data, name->len) != INADDR_NONE) {
        return 1;
    }

#if (NGX_HAVE_INET6)
    return ngx_inet6_addr(name->data, name->len, addr) == NGX_OK;
#else
    (void) addr;
    return 0;
#endif
}


/* -- links of ours --------------------------------------------------------- */

ngx_int_t
ngx_http_ims_ssl_connect(ngx_http_ims_link_t *link)
{
    ngx_int_t                  rc;
    ngx_connection_t          *c;
    ngx_http_ims_main_conf_t  *imcf;

    c = link->connection;
    imcf = ngx_http_ims_worker->main;

    link->log.action = "TLS handshake with core";

    /* nginx keeps the state of TLS in the connection's pool */

    c->pool = ngx_create_pool(512, &link->log);
    if (c->pool == NULL) {
        return NGX_ERROR;
    }

    if (ngx_ssl_create_connection(imcf->core_ssl_ctx, c, NGX_SSL_CLIENT)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    c->sendfile = 0;

    /* parameters of the configuration end with a NUL */

    if (imcf->core_ssl_name.len
        && !ngx_http_ims_ssl_name_is_address(&imcf->core_ssl_name)
        && SSL_set_tlsext_host_name(c->ssl->connection,
                                    (char *) imcf->core_ssl_name.data)
           == 0)
    {
        ngx_ssl_error(NGX_LOG_ERR, c->log, 0,
                      "SSL_set_tlsext_host_name() failed");
        return NGX_ERROR;
    }

    rc = ngx_ssl_handshake(c);

    if (rc == NGX_AGAIN) {
        c->ssl->handler = ngx_http_ims_ssl_connected;
        return NGX_AGAIN;
    }

    if (rc != NGX_OK || ngx_http_ims_ssl_verify(c, imcf) != NGX_OK) {
        ngx_http_ims_count(core_tls);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_ims_ssl_connected(ngx_connection_t *c)
{
    ngx_http_ims_link_t  *link;

    link = c->data;

    if (!c->ssl->handshaked
        || ngx_http_ims_ssl_verify(c, ngx_http_ims_worker->main) != NGX_OK)
    {
        ngx_http_ims_count(core_tls);
        ngx_http_ims_link_failed(link);
        return;
    }

    c->read->handler = ngx_http_ims_link_read_handler;
    c->write->handler = ngx_http_ims_link_write_handler;

    ngx_http_ims_link_established(link);
    ngx_http_ims_link_write_handler(c->write);
}


static ngx_int_t
ngx_http_ims_ssl_verify(ngx_connection_t *c, ngx_http_ims_main_conf_t *imcf)
{
    long  rc;

    if (!imcf->core_ssl_verify) {
        return NGX_OK;
    }

    rc = SSL_get_verify_result(c->ssl->connection);

    if (rc != X509_V_OK) {
        ngx_log_error(NGX_LOG_ERR, c->log, 0,
                      "certificate of the core does not verify: (%l:%s)",
                      rc, X509_verify_cert_error_string(rc));
        return NGX_ERROR;
    }

    if (ngx_http_ims_ssl_verify_name(c, &imcf->core_ssl_name) != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, c->log, 0,
                      "certificate of the core is not for \"%V\"",
                      &imcf->core_ssl_name);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_ims_ssl_verify_name(ngx_connection_t *c, ngx_str_t *name)
{
    int    rc;
    X509  *cert;

    if (!ngx_http_ims_ssl_name_is_address(name)) {
        return ngx_ssl_check_host(c, name);
    }

    cert = SSL_get_peer_certificate(c->ssl->connection);
    if (cert == NULL) {
        return NGX_ERROR;
    }

    rc = X509_check_ip_asc(cert, (char *) name->data, 0);

    X509_free(cert);

    return rc == 1 ? NGX_OK : NGX_ERROR;
}


/* -- connections accepted -------------------------------------------------- */

void
ngx_http_ims_ssl_accept(ngx_connection_t *c)
{
    ngx_int_t                  rc;
    ngx_http_ims_main_conf_t  *imcf;

    imcf = c->listening->servers;

    c->log->action = "TLS handshake with core";

    if (ngx_ssl_create_connection(imcf->listen_ssl_ctx, c, 0) != NGX_OK) {
        ngx_http_ims_listen_close(c);
        return;
    }

    c->sendfile = 0;

    ngx_add_timer(c->read, NGX_HTTP_IMS_SSL_TIMEOUT);

    rc = ngx_ssl_handshake(c);

    if (rc == NGX_AGAIN) {
        c->ssl->handler = ngx_http_ims_ssl_accepted;
        return;
    }

    ngx_http_ims_ssl_accepted(c);
}


static void
ngx_http_ims_ssl_accepted(ngx_connection_t *c)
{
    if (!c->ssl->handshaked || ngx_http_ims_ssl_verify_client(c) != NGX_OK) {
        ngx_http_ims_count(core_tls);
        ngx_http_ims_listen_close(c);
        return;
    }

    if (c->read->timer_set) {
        ngx_del_timer(c->read);
    }

    /* a worker that leaves has no use for a new connection */

    if (ngx_exiting || ngx_http_ims_link_accept(c) != NGX_OK) {
        ngx_http_ims_listen_close(c);
    }
}


static ngx_int_t
ngx_http_ims_ssl_verify_client(ngx_connection_t *c)
{
    long                       rc;
    X509                      *cert;
    ngx_http_ims_main_conf_t  *imcf;

    imcf = c->listening->servers;

    if (imcf->listen_client.len == 0) {
        return NGX_OK;
    }

    rc = SSL_get_verify_result(c->ssl->connection);

    if (rc != X509_V_OK) {
        ngx_log_error(NGX_LOG_WARN, c->log, 0,
                      "core connection from %V refused: its certificate does "
                      "not verify: (%l:%s)", &c->addr_text, rc,
                      X509_verify_cert_error_string(rc));
        return NGX_ERROR;
    }

    cert = SSL_get_peer_certificate(c->ssl->connection);

    if (cert == NULL) {
        ngx_log_error(NGX_LOG_WARN, c->log, 0,
                      "core connection from %V refused: no certificate",
                      &c->addr_text);
        return NGX_ERROR;
    }

    X509_free(cert);

    return NGX_OK;
}


/* -- the end --------------------------------------------------------------- */

void
ngx_http_ims_ssl_goodbye(ngx_connection_t *c)
{
    /* close_notify of our direction; what the core still says is read */

    if (SSL_shutdown(c->ssl->connection) < 0) {
        ngx_log_debug0(NGX_LOG_DEBUG_HTTP, c->log, 0,
                       "ims link: no room for close_notify");
    }

    ERR_clear_error();
}


void
ngx_http_ims_ssl_close(ngx_connection_t *c)
{
    if (c->ssl == NULL) {
        return;
    }

    /* nothing is sent or awaited: this ends at once */

    c->ssl->no_wait_shutdown = 1;
    c->ssl->no_send_shutdown = 1;

    (void) ngx_ssl_shutdown(c);
}

#endif /* NGX_SSL */
