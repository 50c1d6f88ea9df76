
/*
 * Copyright (C) nginx-ims contributors
 *
 * ims_core_host: the names of core nodes that may stand in Service-Route and
 * in Route, and their addresses.  Nothing that a message says is ever
 * resolved.
 */

#include "ngx_http_ims.h"


typedef struct {
    ngx_str_t             name;       /* lower case */
    ngx_http_ims_addr_t   addr;
} ngx_http_ims_core_host_t;


char *
ngx_http_ims_core_host_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_ims_main_conf_t  *imcf = conf;

    ngx_url_t                  u;
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

    ngx_memzero(&u, sizeof(ngx_url_t));
    u.url = value[2];
    u.default_port = 5060;

    if (ngx_parse_url(cf->pool, &u) != NGX_OK || u.naddrs == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%s in ims_core_host \"%V\"",
                           u.err ? u.err : "no address", &value[2]);
        return NGX_CONF_ERROR;
    }

    if (u.family == AF_UNIX
        || u.addrs[0].socklen > sizeof(host->addr.sockaddr))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "ims_core_host \"%V\" is not an IP address",
                           &value[2]);
        return NGX_CONF_ERROR;
    }

    host = ngx_array_push(imcf->core_hosts);
    if (host == NULL) {
        return NGX_CONF_ERROR;
    }

    host->name = value[1];
    ngx_strlow(host->name.data, host->name.data, host->name.len);

    ngx_memzero(&host->addr, sizeof(ngx_http_ims_addr_t));
    ngx_memcpy(&host->addr.sockaddr, u.addrs[0].sockaddr, u.addrs[0].socklen);
    host->addr.socklen = u.addrs[0].socklen;

    return NGX_CONF_OK;
}


ngx_int_t
ngx_http_ims_core_host(ngx_http_ims_main_conf_t *imcf, ims_str_t host,
    in_port_t port, ngx_http_ims_addr_t *addr)
{
    ngx_uint_t                 i;
    ngx_http_ims_core_host_t  *hosts;

    if (imcf->core_hosts == NULL) {
        return NGX_DECLINED;
    }

    hosts = imcf->core_hosts->elts;

    for (i = 0; i < imcf->core_hosts->nelts; i++) {

        if (!ims_str_caseeq(ngx_http_ims_str(&hosts[i].name), host)) {
            continue;
        }

        *addr = hosts[i].addr;

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
