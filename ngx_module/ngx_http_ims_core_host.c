
/*
 * Copyright (C) nginx-ims contributors
 *
 * ims_core_host: the names of core nodes that may stand in Service-Route and
 * in Route, and where they are: at a fixed address, or wherever the DNS says,
 * which is asked on a timer and never because of a message.  An address from
 * the DNS counts only if it is within ims_core_allow.
 */

#include "ngx_http_ims.h"


#define NGX_HTTP_IMS_CORE_ADDRS    8
#define NGX_HTTP_IMS_CORE_AGAIN    5000     /* ms after a failure */
#define NGX_HTTP_IMS_CORE_MAX      3600000


typedef struct {
    ngx_str_t             name;       /* lower case */
    ngx_str_t             service;    /* SRV: "_sip._tcp" */
    in_port_t             port;       /* of an address without SRV */
    ngx_http_ims_addr_t   addr;       /* fixed: socklen != 0 */
} ngx_http_ims_core_host_t;


/* what the DNS said; a worker's own, since configuration is not written to */

typedef struct {
    ngx_event_t                event;
    ngx_http_ims_core_host_t  *host;
    ngx_uint_t                 n;
    ngx_uint_t                 failed;      /* logged once an outage */
    ngx_http_ims_addr_t        addrs[NGX_HTTP_IMS_CORE_ADDRS];
} ngx_http_ims_core_name_t;


static char *ngx_http_ims_core_host_dns(ngx_conf_t *cf,
    ngx_http_ims_core_host_t *host, ngx_str_t *value, ngx_uint_t n);
static char *ngx_http_ims_core_host_fixed(ngx_conf_t *cf,
    ngx_http_ims_core_host_t *host, ngx_str_t *text);
static void ngx_http_ims_core_host_ask(ngx_event_t *ev);
static void ngx_http_ims_core_host_answer(ngx_resolver_ctx_t *ctx);
static void ngx_http_ims_core_host_take(ngx_http_ims_core_name_t *name,
    ngx_resolver_ctx_t *ctx);
static ngx_uint_t ngx_http_ims_core_host_transport(
    ngx_http_ims_core_host_t *host);
static ngx_http_ims_core_name_t *ngx_http_ims_core_host_name(
    ngx_http_ims_core_host_t *host);


static ngx_http_ims_core_name_t  *ngx_http_ims_core_names;
static ngx_uint_t                 ngx_http_ims_ncore_names;


char *
ngx_http_ims_core_host_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_ims_main_conf_t  *imcf = conf;

    ngx_str_t                 *value;
    ngx_http_ims_core_host_t  *host;

    value = cf->args->elts;

    if (imcf->core_hosts == NULL) {
        imcf->core_hosts = ngx_array_create(cf->pool, 4,
                                            sizeof(ngx_http_ims_core_host_t));
        if (imcf->core_hosts == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    host = ngx_array_push(imcf->core_hosts);
    if (host == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(host, sizeof(ngx_http_ims_core_host_t));

    host->name = value[1];
    host->port = 5060;
    ngx_strlow(host->name.data, host->name.data, host->name.len);

    if (value[2].len == 7 && ngx_strncmp(value[2].data, "resolve", 7) == 0) {
        return ngx_http_ims_core_host_dns(cf, host, &value[3],
                                          cf->args->nelts - 3);
    }

    if (cf->args->nelts > 3) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\" of ims_core_host",
                           &value[3]);
        return NGX_CONF_ERROR;
    }

    return ngx_http_ims_core_host_fixed(cf, host, &value[2]);
}


static char *
ngx_http_ims_core_host_dns(ngx_conf_t *cf, ngx_http_ims_core_host_t *host,
    ngx_str_t *value, ngx_uint_t n)
{
    ngx_int_t   port;
    ngx_uint_t  i;

    for (i = 0; i < n; i++) {

        if (ngx_strncmp(value[i].data, "service=", 8) == 0
            && value[i].len > 8)
        {
            host->service.data = value[i].data + 8;
            host->service.len = value[i].len - 8;
            continue;
        }

        if (ngx_strncmp(value[i].data, "port=", 5) == 0) {
            port = ngx_atoi(value[i].data + 5, value[i].len - 5);

            if (port > 0 && port < 65536) {
                host->port = (in_port_t) port;
                continue;
            }
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\" of ims_core_host",
                           &value[i]);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_ims_core_host_fixed(ngx_conf_t *cf, ngx_http_ims_core_host_t *host,
    ngx_str_t *text)
{
    ngx_url_t  u;

    ngx_memzero(&u, sizeof(ngx_url_t));
    u.url = *text;
    u.default_port = 5060;

    if (ngx_parse_url(cf->pool, &u) != NGX_OK || u.naddrs == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%s in ims_core_host \"%V\"",
                           u.err ? u.err : "no address", text);
        return NGX_CONF_ERROR;
    }

    if (u.family == AF_UNIX
        || u.addrs[0].socklen > sizeof(host->addr.sockaddr))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "ims_core_host \"%V\" is not an IP address", text);
        return NGX_CONF_ERROR;
    }

    ngx_memcpy(&host->addr.sockaddr, u.addrs[0].sockaddr, u.addrs[0].socklen);
    host->addr.socklen = u.addrs[0].socklen;

    return NGX_CONF_OK;
}


/* postconfiguration: names for the DNS need a resolver */

char *
ngx_http_ims_core_hosts_check(ngx_conf_t *cf, ngx_http_ims_main_conf_t *imcf)
{
    ngx_uint_t                 i;
    ngx_http_core_loc_conf_t  *clcf;
    ngx_http_ims_core_host_t  *host;

    if (imcf->core_hosts == NULL) {
        return NGX_CONF_OK;
    }

    host = imcf->core_hosts->elts;
    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    for (i = 0; i < imcf->core_hosts->nelts; i++) {

        if (host[i].addr.socklen) {
            continue;
        }

        if (clcf->resolver == NULL || clcf->resolver->connections.nelts == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"ims_core_host %V resolve\" needs a "
                               "\"resolver\" in the http block",
                               &host[i].name);
            return NGX_CONF_ERROR;
        }

        imcf->resolver = clcf->resolver;

        /* what stands in the http block itself is not merged by anybody */

        imcf->resolver_timeout = clcf->resolver_timeout;
        ngx_conf_init_msec_value(imcf->resolver_timeout, 30000);
    }

    return NGX_CONF_OK;
}


ngx_int_t
ngx_http_ims_core_hosts_init(ngx_http_ims_worker_t *w)
{
    ngx_uint_t                 i, n;
    ngx_event_t               *ev;
    ngx_http_ims_core_host_t  *host;
    ngx_http_ims_core_name_t  *name;

    if (w->main->core_hosts == NULL) {
        return NGX_OK;
    }

    host = w->main->core_hosts->elts;
    n = w->main->core_hosts->nelts;

    name = ngx_pcalloc(w->cycle->pool, n * sizeof(ngx_http_ims_core_name_t));
    if (name == NULL) {
        return NGX_ERROR;
    }

    ngx_http_ims_core_names = name;
    ngx_http_ims_ncore_names = n;

    for (i = 0; i < n; i++) {
        name[i].host = &host[i];

        if (host[i].addr.socklen) {
            continue;
        }

        ev = &name[i].event;
        ev->handler = ngx_http_ims_core_host_ask;
        ev->data = &w->dummy;
        ev->log = w->log;
        ev->cancelable = 1;

        ngx_add_timer(ev, 1);
    }

    return NGX_OK;
}


static void
ngx_http_ims_core_host_ask(ngx_event_t *ev)
{
    ngx_resolver_ctx_t        *ctx;
    ngx_http_ims_worker_t     *w;
    ngx_http_ims_core_name_t  *name;

    w = ngx_http_ims_worker;
    name = (ngx_http_ims_core_name_t *)
               ((u_char *) ev - offsetof(ngx_http_ims_core_name_t, event));

    ngx_add_timer(ev, NGX_HTTP_IMS_CORE_AGAIN);

    ctx = ngx_resolve_start(w->main->resolver, NULL);

    if (ctx == NULL || ctx == NGX_NO_RESOLVER) {
        return;
    }

    ctx->name = name->host->name;
    ctx->service = name->host->service;
    ctx->handler = ngx_http_ims_core_host_answer;
    ctx->data = name;
    ctx->timeout = w->main->resolver_timeout;

    /* on an error the context is gone, and the timer asks again */

    (void) ngx_resolve_name(ctx);
}


static void
ngx_http_ims_core_host_answer(ngx_resolver_ctx_t *ctx)
{
    time_t                     left;
    ngx_msec_t                 next;
    ngx_http_ims_core_name_t  *name;

    name = ctx->data;
    next = NGX_HTTP_IMS_CORE_AGAIN;

    if (ctx->state) {

        /* what was known stays: an outage of the DNS is none of the core */

        if (!name->failed) {
            name->failed = 1;
            ngx_log_error(NGX_LOG_ERR, ngx_http_ims_worker->log, 0,
                          "ims_core_host \"%V\" could not be resolved: %s",
                          &name->host->name,
                          ngx_resolver_strerror(ctx->state));
        }

    } else {
        name->failed = 0;
        ngx_http_ims_core_host_take(name, ctx);

        left = ctx->valid - ngx_time();

        if (left > 0) {
            next = ngx_min((ngx_msec_t) left * 1000, NGX_HTTP_IMS_CORE_MAX);
        }

        next = ngx_max(next, 1000);
    }

    ngx_resolve_name_done(ctx);

    ngx_add_timer(&name->event, next);
}


/* the nodes of the lowest priority (SRV), in the order of the answer */

static void
ngx_http_ims_core_host_take(ngx_http_ims_core_name_t *name,
    ngx_resolver_ctx_t *ctx)
{
    u_short                 best;
    ngx_uint_t              i;
    ngx_http_ims_addr_t    *addr;
    ngx_resolver_addr_t    *a;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;
    name->n = 0;
    best = 0xffff;

    for (i = 0; i < ctx->naddrs; i++) {
        best = ngx_min(best, ctx->addrs[i].priority);
    }

    for (i = 0; i < ctx->naddrs; i++) {
        a = &ctx->addrs[i];

        if (a->priority != best || name->n == NGX_HTTP_IMS_CORE_ADDRS
            || a->socklen > sizeof(addr->sockaddr))
        {
            continue;
        }

        if (!ngx_http_ims_core_allowed(w->main, a->sockaddr)) {
            ngx_log_error(NGX_LOG_ERR, w->log, 0,
                          "an address of ims_core_host \"%V\" is not within "
                          "ims_core_allow", &name->host->name);
            continue;
        }

        addr = &name->addrs[name->n++];
        ngx_memzero(addr, sizeof(ngx_http_ims_addr_t));
        ngx_memcpy(&addr->sockaddr, a->sockaddr, a->socklen);
        addr->socklen = a->socklen;
        addr->transport = ngx_http_ims_core_host_transport(name->host);

        if (name->host->service.len == 0) {
            ngx_inet_set_port(&addr->sockaddr.sockaddr, name->host->port);
        }
    }
}


/* what the service says: what the URI says comes first, nothing else last */

static ngx_uint_t
ngx_http_ims_core_host_transport(ngx_http_ims_core_host_t *host)
{
    return host->service.len > 5
           && ngx_strncasecmp(host->service.data + host->service.len - 5,
                              (u_char *) "._udp", 5) == 0
           ? NGX_HTTP_IMS_UDP : NGX_HTTP_IMS_STREAM;
}


static ngx_http_ims_core_name_t *
ngx_http_ims_core_host_name(ngx_http_ims_core_host_t *host)
{
    ngx_uint_t  i;

    for (i = 0; i < ngx_http_ims_ncore_names; i++) {
        if (ngx_http_ims_core_names[i].host == host) {
            return &ngx_http_ims_core_names[i];
        }
    }

    return NULL;
}


ngx_int_t
ngx_http_ims_core_host(ngx_http_ims_main_conf_t *imcf, ims_str_t host,
    in_port_t port, ngx_http_ims_addr_t *addr)
{
    ngx_uint_t                 i;
    ngx_http_ims_core_host_t  *hosts;
    ngx_http_ims_core_name_t  *name;

    if (imcf->core_hosts == NULL) {
        return NGX_DECLINED;
    }

    hosts = imcf->core_hosts->elts;

    for (i = 0; i < imcf->core_hosts->nelts; i++) {

        if (!ims_str_caseeq(ngx_http_ims_str(&hosts[i].name), host)) {
            continue;
        }

        if (hosts[i].addr.socklen) {
            *addr = hosts[i].addr;

        } else {
            name = ngx_http_ims_core_host_name(&hosts[i]);

            if (name == NULL || name->n == 0) {
                return NGX_DECLINED;
            }

            *addr = name->addrs[0];
        }

        if (port) {
            ngx_inet_set_port(&addr->sockaddr.sockaddr, port);
        }

        return NGX_OK;
    }

    return NGX_DECLINED;
}


ngx_int_t
ngx_http_ims_literal(ngx_str_t *text, ngx_http_ims_addr_t *addr)
{
    u_char     *p, *last;
    size_t      len;
    ngx_int_t   port;
    in_addr_t   inaddr;

    ngx_memzero(addr, sizeof(ngx_http_ims_addr_t));

    last = text->data + text->len;

    for (p = last; p > text->data && p[-1] != ':'; p--) { /* void */ }

    if (p == text->data) {
        return NGX_DECLINED;
    }

    port = ngx_atoi(p, last - p);

    if (port < 1 || port > 65535) {
        return NGX_DECLINED;
    }

    len = p - 1 - text->data;

#if (NGX_HAVE_INET6)

    if (len > 2 && text->data[0] == '[' && text->data[len - 1] == ']') {

        if (ngx_inet6_addr(text->data + 1, len - 2,
                           addr->sockaddr.sockaddr_in6.sin6_addr.s6_addr)
            != NGX_OK)
        {
            return NGX_DECLINED;
        }

        addr->sockaddr.sockaddr_in6.sin6_family = AF_INET6;
        addr->sockaddr.sockaddr_in6.sin6_port = htons((in_port_t) port);
        addr->socklen = sizeof(struct sockaddr_in6);

        return NGX_OK;
    }

#endif

    inaddr = ngx_inet_addr(text->data, len);

    if (inaddr == INADDR_NONE) {
        return NGX_DECLINED;
    }

    addr->sockaddr.sockaddr_in.sin_family = AF_INET;
    addr->sockaddr.sockaddr_in.sin_port = htons((in_port_t) port);
    addr->sockaddr.sockaddr_in.sin_addr.s_addr = inaddr;
    addr->socklen = sizeof(struct sockaddr_in);

    return NGX_OK;
}
