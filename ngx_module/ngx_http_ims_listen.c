
/*
 * Copyright (C) nginx-ims contributors
 *
 * Where the core connects to us, and who may.
 */

#include "ngx_http_ims.h"


/* what stands behind the address */
typedef struct {
    ngx_str_t                     advertise;
    unsigned                      ssl:1;
    unsigned                      udp:1;
} ngx_http_ims_listen_params_t;


static char *ngx_http_ims_listen_params(ngx_conf_t *cf,
    ngx_http_ims_listen_params_t *params);
static char *ngx_http_ims_listen_advertise(ngx_conf_t *cf, ngx_str_t *value,
    ngx_str_t *advertise);
static char *ngx_http_ims_listen_add(ngx_conf_t *cf,
    ngx_http_ims_main_conf_t *imcf, ngx_addr_t *addr,
    ngx_http_ims_listen_params_t *params);
static void ngx_http_ims_listen_texts(ngx_http_ims_listen_t *listen);
static ngx_int_t ngx_http_ims_listen_socket(ngx_conf_t *cf,
    ngx_http_ims_main_conf_t *imcf, ngx_http_ims_listen_t *listen);
static ngx_int_t ngx_http_ims_listen_advertise_ok(ngx_str_t *s);
static size_t ngx_http_ims_listen_host_len(ngx_str_t *s);
static const char *ngx_http_ims_listens_lack(ngx_http_ims_main_conf_t *imcf);
static ngx_int_t ngx_http_ims_listen_admit(ngx_connection_t *c);
static void ngx_http_ims_listen_handler(ngx_connection_t *c);
#if (NGX_SSL)
static void ngx_http_ims_listen_ssl_handler(ngx_connection_t *c);
#endif


/* ims_listen ADDR [tls|udp] [advertise=HOST:PORT] */

char *
ngx_http_ims_listen(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_ims_main_conf_t  *imcf = conf;

    char                          *rv;
    ngx_str_t                     *value;
    ngx_url_t                      u;
    ngx_uint_t                     i;
    ngx_http_ims_listen_params_t   params;

    value = cf->args->elts;

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url = value[1];
    u.listen = 1;

    rv = ngx_http_ims_listen_params(cf, &params);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    u.default_port = params.ssl ? 5061 : 5060;

    if (ngx_parse_url(cf->pool, &u) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%s in \"%V\" of the "
                           "\"%V\" directive",
                           u.err ? u.err : "invalid address", &u.url,
                           &cmd->name);
        return NGX_CONF_ERROR;
    }

    for (i = 0; i < u.naddrs; i++) {
        rv = ngx_http_ims_listen_add(cf, imcf, &u.addrs[i], &params);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_ims_listen_params(ngx_conf_t *cf,
    ngx_http_ims_listen_params_t *params)
{
    ngx_str_t   *value;
    ngx_uint_t   i;

    ngx_memzero(params, sizeof(ngx_http_ims_listen_params_t));

    value = cf->args->elts;

    for (i = 2; i < cf->args->nelts; i++) {

#if (NGX_SSL)
        if (ngx_strcmp(value[i].data, "tls") == 0) {
            params->ssl = 1;
            continue;
        }
#endif

        if (ngx_strcmp(value[i].data, "tls") == 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"ims_listen\": \"%V\" needs an nginx with "
                               "TLS", &value[i]);
            return NGX_CONF_ERROR;
        }

        if (ngx_strcmp(value[i].data, "udp") == 0) {
            params->udp = 1;
            continue;
        }

        if (ngx_strncmp(value[i].data, "advertise=", 10) == 0) {

            if (ngx_http_ims_listen_advertise(cf, &value[i],
                                              &params->advertise)
                != NGX_CONF_OK)
            {
                return NGX_CONF_ERROR;
            }

            continue;
        }

        if (ngx_strcmp(value[i].data, "reuseport") == 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"ims_listen\": \"%V\" is not taken: all "
                               "workers share one socket, so that a reload "
                               "loses nothing", &value[i]);
            return NGX_CONF_ERROR;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"ims_listen\": invalid parameter \"%V\"",
                           &value[i]);
        return NGX_CONF_ERROR;
    }

    if (params->ssl && params->udp) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"ims_listen %V\": \"tls\" and \"udp\" do not go "
                           "together", &value[1]);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_ims_listen_advertise(ngx_conf_t *cf, ngx_str_t *value,
    ngx_str_t *advertise)
{
    if (advertise->data) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"ims_listen\": duplicate \"advertise\"");
        return NGX_CONF_ERROR;
    }

    advertise->data = value->data + 10;
    advertise->len = value->len - 10;

    if (ngx_http_ims_listen_advertise_ok(advertise) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"ims_listen\": \"%V\" is not "
                           "\"advertise=HOST:PORT\"", value);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_ims_listen_add(ngx_conf_t *cf, ngx_http_ims_main_conf_t *imcf,
    ngx_addr_t *addr, ngx_http_ims_listen_params_t *params)
{
    ngx_uint_t              i;
    ngx_http_ims_listen_t  *listen;

#if (NGX_HAVE_UNIX_DOMAIN)
    if (addr->sockaddr->sa_family == AF_UNIX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"ims_listen\": \"%V\" cannot be written into a "
                           "Via: give an IP address", &addr->name);
        return NGX_CONF_ERROR;
    }
#endif

    if (params->advertise.len == 0 && ngx_inet_wildcard(addr->sockaddr)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"ims_listen %V\" needs \"advertise=HOST:PORT\": "
                           "the core must know one address of this machine",
                           &addr->name);
        return NGX_CONF_ERROR;
    }

    if (imcf->listens == NULL) {
        imcf->listens = ngx_array_create(cf->pool, 2,
                                         sizeof(ngx_http_ims_listen_t));
        if (imcf->listens == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    listen = imcf->listens->elts;

    for (i = 0; i < imcf->listens->nelts; i++) {
        if (listen[i].udp == params->udp
            && ngx_cmp_sockaddr(&listen[i].sockaddr.sockaddr,
                                listen[i].socklen, addr->sockaddr,
                                addr->socklen, 1)
               == NGX_OK)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "duplicate \"ims_listen\" of \"%V\"",
                               &addr->name);
            return NGX_CONF_ERROR;
        }
    }

    listen = ngx_array_push(imcf->listens);
    if (listen == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(listen, sizeof(ngx_http_ims_listen_t));
    ngx_memcpy(&listen->sockaddr, addr->sockaddr, addr->socklen);

    listen->socklen = addr->socklen;
    listen->addr_text = addr->name;
    listen->advertise = params->advertise.len ? params->advertise
                                              : addr->name;
    listen->ssl = params->ssl;
    listen->udp = params->udp;

    ngx_http_ims_listen_texts(listen);

    if (ngx_http_ims_listen_socket(cf, imcf, listen) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static void
ngx_http_ims_listen_texts(ngx_http_ims_listen_t *listen)
{
    if (listen->udp) {
        ngx_str_set(&listen->transport, "UDP");
        ngx_str_set(&listen->route_params, ";transport=udp;lr>");

        /* RFC 3581: answers come to where the request came from */

        ngx_str_set(&listen->via_params, ";rport");

    } else if (listen->ssl) {
        ngx_str_set(&listen->transport, "TLS");
        ngx_str_set(&listen->route_params, ";transport=tls;lr>");

    } else {
        ngx_str_set(&listen->transport, "TCP");
        ngx_str_set(&listen->route_params, ";transport=tcp;lr>");
    }
}


static ngx_int_t
ngx_http_ims_listen_socket(ngx_conf_t *cf, ngx_http_ims_main_conf_t *imcf,
    ngx_http_ims_listen_t *listen)
{
    struct sockaddr  *sa;
    ngx_listening_t  *ls;

    sa = &listen->sockaddr.sockaddr;

    ls = ngx_create_listening(cf, sa, listen->socklen);
    if (ls == NULL) {
        return NGX_ERROR;
    }

    /*
     * listen->ls stays NULL: the array that ls is in moves when it grows, and
     * a connection has its own way to its listening socket
     */

    ls->addr_ntop = 1;
    ls->handler = ngx_http_ims_listen_handler;
#if (NGX_SSL)
    if (listen->ssl) {
        ls->handler = ngx_http_ims_listen_ssl_handler;
    }
#endif
    ls->pool_size = 256;
    ls->logp = &cf->cycle->new_log;
    ls->log.data = &ls->addr_text;
    ls->log.handler = ngx_accept_log_error;
    ls->servers = imcf;
    ls->wildcard = ngx_inet_wildcard(sa);

    if (listen->udp) {
        /* read by ngx_http_ims_udp.c: nobody is accepted */
        ls->type = SOCK_DGRAM;

    } else {
        ls->keepalive = 1;
    }

#if (NGX_HAVE_INET6)
    if (sa->sa_family == AF_INET6) {
        ls->ipv6only = 1;
    }
#endif

    return NGX_OK;
}


/*
 * Via, Path and Record-Route name one place a transport, the first: the core
 * answers there if a link of ours is gone, so it is of the links' transport.
 */

char *
ngx_http_ims_listens_order(ngx_conf_t *cf, ngx_http_ims_main_conf_t *imcf)
{
    ngx_uint_t              i, n;
    ngx_http_ims_listen_t  *listen, first;

    if (imcf->listens == NULL) {
        return NGX_CONF_OK;
    }

    listen = imcf->listens->elts;

    for (i = 0; i < imcf->listens->nelts; i++) {

        if (!listen[i].udp && listen[i].ssl == (imcf->core_ssl ? 1 : 0)) {
            first = listen[i];
            ngx_memmove(&listen[1], &listen[0],
                        i * sizeof(ngx_http_ims_listen_t));
            listen[0] = first;

            break;
        }
    }

    if (i == imcf->listens->nelts) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%s",
                           ngx_http_ims_listens_lack(imcf));
        return NGX_CONF_ERROR;
    }

    /* the first of each family: the last one taken */

    n = 0;

    for (i = imcf->listens->nelts; i-- > 0; /* void */) {

        if (!listen[i].udp) {
            continue;
        }

        if (++n > NGX_HTTP_IMS_UDP_SOCKETS) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "more than %d \"ims_listen\" with \"udp\": "
                               "\"%V\"", NGX_HTTP_IMS_UDP_SOCKETS,
                               &listen[i].addr_text);
            return NGX_CONF_ERROR;
        }

        if (listen[i].sockaddr.sockaddr.sa_family == AF_INET) {
            imcf->udp4 = &listen[i];

        } else {
            imcf->udp6 = &listen[i];
        }
    }

    return NGX_CONF_OK;
}


static const char *
ngx_http_ims_listens_lack(ngx_http_ims_main_conf_t *imcf)
{
    ngx_uint_t              i;
    ngx_http_ims_listen_t  *listen;

    if (imcf->core_ssl) {
        return "\"ims_core_ssl on\" needs an \"ims_listen\" with \"tls\"";
    }

    listen = imcf->listens->elts;

    for (i = 0; i < imcf->listens->nelts; i++) {
        if (listen[i].ssl) {
            return "\"ims_listen\" with \"tls\" alone needs "
                   "\"ims_core_ssl on\"";
        }
    }

    return "\"ims_listen\" with \"udp\" alone: large requests go by TCP, so "
           "one without \"udp\" is needed too";
}


ngx_http_ims_listen_t *
ngx_http_ims_advertised(ngx_http_ims_main_conf_t *imcf,
    ngx_http_ims_addr_t *hop, ngx_uint_t transport)
{
    ngx_http_ims_listen_t  *listen;

    listen = NULL;

    if (transport == NGX_HTTP_IMS_UDP) {
        listen = ngx_http_ims_listen_udp(imcf, &hop->sockaddr.sockaddr);
    }

    return listen ? listen : imcf->listens->elts;
}


ngx_http_ims_listen_t *
ngx_http_ims_listen_udp(ngx_http_ims_main_conf_t *imcf, struct sockaddr *sa)
{
    switch (sa->sa_family) {

    case AF_INET:
        return imcf->udp4;

#if (NGX_HAVE_INET6)
    case AF_INET6:
        return imcf->udp6;
#endif

    default:
        return NULL;
    }
}


/*
 * HOST ":" PORT as a sent-by has it (RFC 3261 25.1), port always: an IPv4
 * address, a name, or an IPv6 address in brackets.
 */

static ngx_int_t
ngx_http_ims_listen_advertise_ok(ngx_str_t *s)
{
    size_t     n;
    ngx_int_t  port;

    n = ngx_http_ims_listen_host_len(s);

    if (n == 0 || n > 64 || n + 1 >= s->len || s->data[n] != ':') {
        return NGX_ERROR;
    }

    port = ngx_atoi(s->data + n + 1, s->len - n - 1);

    if (port < 1 || port > 65535 || s->len - n - 1 > 5) {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static size_t
ngx_http_ims_listen_host_len(ngx_str_t *s)
{
    u_char  *p, *last, addr[16];

    last = s->data + s->len;

    if (s->len && s->data[0] == '[') {
        p = ngx_strlchr(s->data, last, ']');

        if (p == NULL) {
            return 0;
        }

#if (NGX_HAVE_INET6)
        if (ngx_inet6_addr(s->data + 1, p - s->data - 1, addr) != NGX_OK) {
            return 0;
        }
#else
        (void) addr;
#endif

        return p + 1 - s->data;
    }

    for (p = s->data; p < last; p++) {

        if ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z')
            || (*p >= '0' && *p <= '9'))
        {
            continue;
        }

        /* never first, last or doubled */

        if ((*p == '.' || *p == '-') && p > s->data && p + 1 < last
            && p[1] != '.' && p[1] != ':' && p[-1] != '.')
        {
            continue;
        }

        break;
    }

    return p - s->data;
}


/* ims_core_allow CIDR ... | all */

char *
ngx_http_ims_core_allow(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_ims_main_conf_t  *imcf = conf;

    ngx_int_t    rc;
    ngx_str_t   *value;
    ngx_uint_t   i;
    ngx_cidr_t  *cidr;

    if (imcf->core_allow == NULL) {
        imcf->core_allow = ngx_array_create(cf->pool, 4, sizeof(ngx_cidr_t));
        if (imcf->core_allow == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        cidr = ngx_array_push(imcf->core_allow);
        if (cidr == NULL) {
            return NGX_CONF_ERROR;
        }

        ngx_memzero(cidr, sizeof(ngx_cidr_t));

        if (ngx_strcmp(value[i].data, "all") == 0) {
            cidr->family = AF_INET;

#if (NGX_HAVE_INET6)
            cidr = ngx_array_push(imcf->core_allow);
            if (cidr == NULL) {
                return NGX_CONF_ERROR;
            }

            ngx_memzero(cidr, sizeof(ngx_cidr_t));
            cidr->family = AF_INET6;
#endif
            continue;
        }

        rc = ngx_ptocidr(&value[i], cidr);

        if (rc == NGX_ERROR) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid address \"%V\" in \"%V\"",
                               &value[i], &cmd->name);
            return NGX_CONF_ERROR;
        }

        if (rc == NGX_DONE) {
            ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                               "low address bits of %V are meaningless",
                               &value[i]);
        }
    }

    return NGX_CONF_OK;
}


ngx_uint_t
ngx_http_ims_core_allowed(ngx_http_ims_main_conf_t *imcf, struct sockaddr *sa)
{
    if (imcf->core_allow == NULL) {
        return 0;
    }

    return ngx_cidr_match(sa, imcf->core_allow) == NGX_OK;
}


static ngx_int_t
ngx_http_ims_listen_admit(ngx_connection_t *c)
{
    ngx_http_ims_main_conf_t  *imcf;

    imcf = c->listening->servers;

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, c->log, 0,
                   "ims core connection from %V", &c->addr_text);

    if (!ngx_http_ims_core_allowed(imcf, c->sockaddr)) {
        ngx_http_ims_count(core_refused);

        ngx_log_error(NGX_LOG_WARN, c->log, 0,
                      "core connection from %V refused by \"ims_core_allow\"",
                      &c->addr_text);

        ngx_http_ims_listen_close(c);
        return NGX_DECLINED;
    }

    if (ngx_http_ims_worker == NULL) {
        ngx_http_ims_listen_close(c);
        return NGX_DECLINED;
    }

    return NGX_OK;
}


static void
ngx_http_ims_listen_handler(ngx_connection_t *c)
{
    if (ngx_http_ims_listen_admit(c) == NGX_OK
        && ngx_http_ims_link_accept(c) != NGX_OK)
    {
        ngx_http_ims_listen_close(c);
    }
}


#if (NGX_SSL)

static void
ngx_http_ims_listen_ssl_handler(ngx_connection_t *c)
{
    if (ngx_http_ims_listen_admit(c) == NGX_OK) {
        ngx_http_ims_ssl_accept(c);
    }
}

#endif


void
ngx_http_ims_listen_close(ngx_connection_t *c)
{
    ngx_pool_t  *pool;

#if (NGX_STAT_STUB)
    (void) ngx_atomic_fetch_add(ngx_stat_active, -1);
#endif

#if (NGX_SSL)
    ngx_http_ims_ssl_close(c);
#endif

    pool = c->pool;

    ngx_close_connection(c);
    ngx_destroy_pool(pool);
}
