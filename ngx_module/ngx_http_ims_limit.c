
/*
 * Copyright (C) nginx-ims contributors
 *
 * How many WebSockets a worker holds, and how many of one address.
 * limit_conn does not see them: it counts requests, and the request of a
 * WebSocket ends with its handshake.  Only living sessions are counted, and a
 * worker that dies takes its counts with it.
 */

#include "ngx_http_ims.h"


#define NGX_HTTP_IMS_LIMIT_BUCKETS  1024


struct ngx_http_ims_limit_s {
    ngx_queue_t    queue;
    ngx_uint_t     sessions;
    size_t         len;
    u_char         addr[16];
};


static size_t ngx_http_ims_limit_addr(struct sockaddr *sa, u_char *addr);
static ngx_http_ims_limit_t *ngx_http_ims_limit_find(u_char *addr, size_t len,
    ngx_queue_t **bucket);


static ngx_queue_t  ngx_http_ims_limit_buckets[NGX_HTTP_IMS_LIMIT_BUCKETS];


ngx_uint_t
ngx_http_ims_limit_reached(ngx_connection_t *c, ngx_http_ims_loc_conf_t *ilcf)
{
    u_char                  addr[16];
    size_t                  len;
    ngx_queue_t            *bucket;
    ngx_http_ims_limit_t   *limit;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    if (w->main->worker_sessions
        && w->nsessions >= (ngx_uint_t) w->main->worker_sessions)
    {
        return 1;
    }

    if (ilcf->address_sessions == 0) {
        return 0;
    }

    len = ngx_http_ims_limit_addr(c->sockaddr, addr);
    limit = ngx_http_ims_limit_find(addr, len, &bucket);

    return limit && limit->sessions >= (ngx_uint_t) ilcf->address_sessions;
}


ngx_http_ims_limit_t *
ngx_http_ims_limit_take(ngx_connection_t *c)
{
    u_char                 addr[16];
    size_t                 len;
    ngx_queue_t           *bucket;
    ngx_http_ims_limit_t  *limit;

    len = ngx_http_ims_limit_addr(c->sockaddr, addr);
    limit = ngx_http_ims_limit_find(addr, len, &bucket);

    if (limit == NULL) {
        limit = ngx_calloc(sizeof(ngx_http_ims_limit_t), c->log);
        if (limit == NULL) {
            return NULL;
        }

        limit->len = len;
        ngx_memcpy(limit->addr, addr, len);
        ngx_queue_insert_tail(bucket, &limit->queue);
    }

    limit->sessions++;

    return limit;
}


void
ngx_http_ims_limit_give(ngx_http_ims_limit_t *limit)
{
    if (limit && --limit->sessions == 0) {
        ngx_queue_remove(&limit->queue);
        ngx_free(limit);
    }
}


/* of IPv6 the network of a subscriber, not each address in it */

static size_t
ngx_http_ims_limit_addr(struct sockaddr *sa, u_char *addr)
{
    switch (sa->sa_family) {

    case AF_INET:
        ngx_memcpy(addr, &((struct sockaddr_in *) sa)->sin_addr, 4);
        return 4;

#if (NGX_HAVE_INET6)
    case AF_INET6:
        ngx_memcpy(addr, &((struct sockaddr_in6 *) sa)->sin6_addr, 8);
        return 8;
#endif

    default:
        /* AF_UNIX: a proxy in front, one address for all */
        return 0;
    }
}


static ngx_http_ims_limit_t *
ngx_http_ims_limit_find(u_char *addr, size_t len, ngx_queue_t **bucket)
{
    ngx_queue_t           *q;
    ngx_http_ims_limit_t  *limit;

    *bucket = &ngx_http_ims_limit_buckets[ngx_murmur_hash2(addr, len)
                                          % NGX_HTTP_IMS_LIMIT_BUCKETS];

    if ((*bucket)->next == NULL) {
        ngx_queue_init(*bucket);
    }

    for (q = ngx_queue_head(*bucket);
         q != ngx_queue_sentinel(*bucket);
         q = ngx_queue_next(q))
    {
        limit = ngx_queue_data(q, ngx_http_ims_limit_t, queue);

        if (limit->len == len && ngx_memcmp(limit->addr, addr, len) == 0) {
            return limit;
        }
    }

    return NULL;
}
