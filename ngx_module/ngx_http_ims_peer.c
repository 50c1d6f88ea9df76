
/*
 * Copyright (C) nginx-ims contributors
 *
 * Which peer of an upstream {} group takes an initial REGISTER.
 *
 * Only the choice is nginx's: the round robin balancer is asked directly,
 * past whatever wraps it, with one kept request a worker and group.  A choice
 * holds nothing: the balancer's count of connections is given back in the
 * same call.  How a peer did is told later, when it is known.
 */

#include "ngx_http_ims.h"


struct ngx_http_ims_group_s {
    ngx_http_upstream_srv_conf_t     *upstream;
    ngx_str_t                         name;
    ngx_uint_t                        transport;
    u_char                           *file;     /* of the first ims_pass */
    ngx_uint_t                        line;

    /* a worker's own, NULL in the master */
    ngx_http_request_t               *request;
    ngx_http_upstream_rr_peer_data_t  rrp;
};


static void ngx_http_ims_group_check_ports(ngx_conf_t *cf,
    ngx_http_ims_group_t *group);
static ngx_int_t ngx_http_ims_group_check_udp(ngx_conf_t *cf,
    ngx_http_ims_main_conf_t *imcf, ngx_http_ims_group_t *group);
static ngx_int_t ngx_http_ims_group_check_servers(ngx_conf_t *cf,
    ngx_http_ims_main_conf_t *imcf, ngx_http_ims_group_t *group);
static ngx_http_request_t *ngx_http_ims_group_request(
    ngx_http_ims_worker_t *w);
static ngx_int_t ngx_http_ims_group_begin(ngx_http_ims_group_t *group);
static void ngx_http_ims_group_end(ngx_http_ims_group_t *group);
static void ngx_http_ims_peer_put_back(ngx_http_ims_group_t *group);
static ngx_int_t ngx_http_ims_peer_take(ngx_http_upstream_rr_peer_data_t *rrp,
    ngx_http_upstream_rr_peers_t *peers, ngx_http_ims_addr_t *addr);


/* peers that come and go while nginx runs are counted since 1.27.3 */

#ifdef ngx_http_upstream_rr_peer_ref

#define ngx_http_ims_peer_ref(peers, peer)                                    \
    ngx_http_upstream_rr_peer_ref(peers, peer)
#define ngx_http_ims_peer_unref(peers, peer)                                  \
    ngx_http_upstream_rr_peer_unref(peers, peer)

#else

#define ngx_http_ims_peer_ref(peers, peer)
#define ngx_http_ims_peer_unref(peers, peer)  NGX_OK

#endif


ngx_http_ims_group_t *
ngx_http_ims_group_add(ngx_conf_t *cf, ngx_str_t *name, ngx_uint_t transport)
{
    ngx_url_t                      u;
    ngx_uint_t                     i;
    ngx_http_ims_group_t          *group, **groups;
    ngx_http_ims_main_conf_t      *imcf;
    ngx_http_upstream_srv_conf_t  *uscf;

    imcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_ims_module);

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url = *name;
    u.default_port = 5060;
    u.no_resolve = 1;

    uscf = ngx_http_upstream_add(cf, &u, 0);
    if (uscf == NULL) {
        return NULL;
    }

    if (imcf->groups == NULL) {
        imcf->groups = ngx_array_create(cf->pool, 4,
                                        sizeof(ngx_http_ims_group_t *));
        if (imcf->groups == NULL) {
            return NULL;
        }
    }

    groups = imcf->groups->elts;

    for (i = 0; i < imcf->groups->nelts; i++) {
        if (groups[i]->upstream == uscf
            && groups[i]->transport == transport)
        {
            return groups[i];
        }
    }

    group = ngx_pcalloc(cf->pool, sizeof(ngx_http_ims_group_t));
    if (group == NULL) {
        return NULL;
    }

    group->upstream = uscf;
    group->name = *name;
    group->transport = transport;
    group->file = cf->conf_file->file.name.data;
    group->line = cf->conf_file->line;

    groups = ngx_array_push(imcf->groups);
    if (groups == NULL) {
        return NULL;
    }

    *groups = group;

    return group;
}


char *
ngx_http_ims_groups_check(ngx_conf_t *cf, ngx_http_ims_main_conf_t *imcf)
{
    ngx_uint_t              i;
    ngx_http_ims_group_t  **groups, *group;

    if (imcf->groups == NULL) {
        return NGX_CONF_OK;
    }

    groups = imcf->groups->elts;

    for (i = 0; i < imcf->groups->nelts; i++) {
        group = groups[i];

        if (group->upstream->peer.init_upstream
            && group->upstream->peer.init_upstream
               != ngx_http_upstream_init_round_robin)
        {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "\"ims_pass\" takes plain round robin only: "
                          "upstream \"%V\" has another balancing method or "
                          "\"keepalive\" in %s:%ui",
                          &group->name, group->file, group->line);
            return NGX_CONF_ERROR;
        }

        if (group->upstream->flags & NGX_HTTP_UPSTREAM_CREATE) {
            ngx_http_ims_group_check_ports(cf, group);
        }

        if (group->transport == NGX_HTTP_IMS_UDP
            && ngx_http_ims_group_check_udp(cf, imcf, group) != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


/* "server 192.0.2.1;" means port 80 in an upstream block */

static void
ngx_http_ims_group_check_ports(ngx_conf_t *cf, ngx_http_ims_group_t *group)
{
    ngx_uint_t                   i;
    ngx_http_upstream_server_t  *server;

    if (group->upstream->servers == NULL) {
        return;
    }

    server = group->upstream->servers->elts;

    for (i = 0; i < group->upstream->servers->nelts; i++) {

        if (server[i].naddrs == 0
            || ngx_inet_get_port(server[i].addrs[0].sockaddr) != 80)
        {
            continue;
        }

        ngx_log_error(NGX_LOG_WARN, cf->log, 0,
                      "server \"%V\" of upstream \"%V\" has port 80, the "
                      "default of \"server\": a SIP core's is mostly 5060",
                      &server[i].name, &group->name);
    }
}


static ngx_int_t
ngx_http_ims_group_check_udp(ngx_conf_t *cf, ngx_http_ims_main_conf_t *imcf,
    ngx_http_ims_group_t *group)
{
    if (imcf->udp4 == NULL && imcf->udp6 == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"ims_pass %V udp\" needs an \"ims_listen\" with "
                      "\"udp\" in %s:%ui",
                      &group->name, group->file, group->line);
        return NGX_ERROR;
    }

    if (imcf->core_ssl) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"ims_pass %V udp\" and \"ims_core_ssl on\" do not go "
                      "together: over UDP there is no TLS in %s:%ui",
                      &group->name, group->file, group->line);
        return NGX_ERROR;
    }

    return ngx_http_ims_group_check_servers(cf, imcf, group);
}


/* over UDP there is no connection that would tell an answer from a forgery */

static ngx_int_t
ngx_http_ims_group_check_servers(ngx_conf_t *cf,
    ngx_http_ims_main_conf_t *imcf, ngx_http_ims_group_t *group)
{
    ngx_addr_t                  *addr;
    ngx_uint_t                   i, k;
    ngx_http_upstream_server_t  *server;

    if (group->upstream->servers == NULL) {
        return NGX_OK;
    }

    server = group->upstream->servers->elts;

    for (i = 0; i < group->upstream->servers->nelts; i++) {

        for (k = 0; k < server[i].naddrs; k++) {
            addr = &server[i].addrs[k];

            if (ngx_http_ims_listen_udp(imcf, addr->sockaddr) == NULL) {
                ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                              "\"ims_pass %V udp\": no \"ims_listen\" with "
                              "\"udp\" can send to \"%V\" in %s:%ui",
                              &group->name, &addr->name, group->file,
                              group->line);
                return NGX_ERROR;
            }

            if (ngx_http_ims_core_allowed(imcf, addr->sockaddr)) {
                continue;
            }

            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "\"ims_pass %V udp\": \"%V\" is not within "
                          "\"ims_core_allow\", its answers would be refused "
                          "in %s:%ui",
                          &group->name, &addr->name, group->file,
                          group->line);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_ims_groups_init(ngx_http_ims_worker_t *w)
{
    ngx_uint_t              i;
    ngx_http_ims_group_t  **groups;

    if (w->main->groups == NULL) {
        return NGX_OK;
    }

    groups = w->main->groups->elts;

    for (i = 0; i < w->main->groups->nelts; i++) {
        groups[i]->request = ngx_http_ims_group_request(w);

        if (groups[i]->request == NULL) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* as much of a request as the balancer looks at */

static ngx_http_request_t *
ngx_http_ims_group_request(ngx_http_ims_worker_t *w)
{
    ngx_pool_t           *pool;
    ngx_http_request_t   *r;
    ngx_http_upstream_t  *u;

    pool = w->cycle->pool;

    r = ngx_pcalloc(pool, sizeof(ngx_http_request_t));
    if (r == NULL) {
        return NULL;
    }

    u = ngx_pcalloc(pool, sizeof(ngx_http_upstream_t));
    if (u == NULL) {
        return NULL;
    }

    r->connection = ngx_pcalloc(pool, sizeof(ngx_connection_t));
    if (r->connection == NULL) {
        return NULL;
    }

    /* groups of more than 64 peers take memory from it at each choice */

    r->pool = ngx_create_pool(512, w->log);
    if (r->pool == NULL) {
        return NULL;
    }

    r->connection->log = w->log;
    r->connection->pool = r->pool;
    r->main = r;
    r->upstream = u;
    u->peer.log = w->log;

    return r;
}


ngx_int_t
ngx_http_ims_peer_choose(ngx_http_ims_group_t *group,
    ngx_http_ims_addr_t *addr)
{
    ngx_int_t               rc;
    ngx_peer_connection_t  *pc;

    if (ngx_http_ims_group_begin(group) != NGX_OK) {
        return NGX_BUSY;
    }

    pc = &group->request->upstream->peer;

    rc = ngx_http_upstream_get_round_robin_peer(pc, &group->rrp);

    if (rc != NGX_OK) {
        ngx_http_ims_group_end(group);
        return NGX_BUSY;
    }

    if (pc->socklen > sizeof(ngx_sockaddr_t)) {
        rc = NGX_BUSY;

    } else {
        ngx_memzero(addr, sizeof(ngx_http_ims_addr_t));
        ngx_memcpy(&addr->sockaddr, pc->sockaddr, pc->socklen);
        addr->socklen = pc->socklen;
        addr->transport = group->transport;
    }

    ngx_http_ims_peer_put_back(group);
    ngx_http_ims_group_end(group);

    return rc;
}


static ngx_int_t
ngx_http_ims_group_begin(ngx_http_ims_group_t *group)
{
    ngx_http_request_t  *r;

    r = group->request;

    if (r == NULL) {
        return NGX_ERROR;
    }

    r->upstream->peer.data = &group->rrp;

    return ngx_http_upstream_init_round_robin_peer(r, group->upstream);
}


static void
ngx_http_ims_group_end(ngx_http_ims_group_t *group)
{
    if (group->rrp.tried != &group->rrp.data) {
        ngx_reset_pool(group->request->pool);
    }

    group->rrp.current = NULL;
}


/*
 * Not by the balancer's own free(): that would take a peer on probation for a
 * good one before a byte was sent to it.
 */

static void
ngx_http_ims_peer_put_back(ngx_http_ims_group_t *group)
{
    ngx_http_upstream_rr_peer_t   *peer;
    ngx_http_upstream_rr_peers_t  *peers;

    peer = group->rrp.current;
    peers = group->rrp.peers;

    ngx_http_upstream_rr_peers_rlock(peers);
    ngx_http_upstream_rr_peer_lock(peers, peer);

    peer->conns--;

    if (ngx_http_ims_peer_unref(peers, peer) == NGX_OK) {
        ngx_http_upstream_rr_peer_unlock(peers, peer);
    }

    ngx_http_upstream_rr_peers_unlock(peers);
}


void
ngx_http_ims_peer_result(ngx_http_ims_group_t *group,
    ngx_http_ims_addr_t *addr, ngx_uint_t failed)
{
    ngx_http_upstream_rr_peers_t  *peers;

    if (ngx_http_ims_group_begin(group) != NGX_OK) {
        return;
    }

    for (peers = group->rrp.peers; peers; peers = peers->next) {

        if (ngx_http_ims_peer_take(&group->rrp, peers, addr) == NGX_OK) {
            ngx_http_upstream_free_round_robin_peer(
                                             &group->request->upstream->peer,
                                             &group->rrp,
                                             failed ? NGX_PEER_FAILED : 0);
            break;
        }
    }

    /* no such peer: an address that the group has given up since */

    ngx_http_ims_group_end(group);
}


/* as if the balancer had just chosen that peer: free() gives it back */

static ngx_int_t
ngx_http_ims_peer_take(ngx_http_upstream_rr_peer_data_t *rrp,
    ngx_http_upstream_rr_peers_t *peers, ngx_http_ims_addr_t *addr)
{
    ngx_http_upstream_rr_peer_t  *peer;

    ngx_http_upstream_rr_peers_wlock(peers);

    for (peer = peers->peer; peer; peer = peer->next) {

        if (ngx_cmp_sockaddr(peer->sockaddr, peer->socklen,
                             &addr->sockaddr.sockaddr, addr->socklen, 1)
            == NGX_OK)
        {
            break;
        }
    }

    if (peer) {
        peer->conns++;
        ngx_http_ims_peer_ref(peers, peer);

        rrp->peers = peers;
        rrp->current = peer;
    }

    ngx_http_upstream_rr_peers_unlock(peers);

    return peer ? NGX_OK : NGX_DECLINED;
}


ngx_uint_t
ngx_http_ims_peer_list(ngx_http_ims_group_t *group, ngx_http_ims_addr_t *addrs,
    ngx_uint_t max)
{
    ngx_uint_t                     n;
    ngx_http_upstream_rr_peer_t   *peer;
    ngx_http_upstream_rr_peers_t  *peers;

    n = 0;

    for (peers = group->upstream->peer.data; peers; peers = peers->next) {

        ngx_http_upstream_rr_peers_rlock(peers);

        for (peer = peers->peer; peer && n < max; peer = peer->next) {

            if (peer->down || peer->socklen > sizeof(ngx_sockaddr_t)) {
                continue;
            }

            ngx_memzero(&addrs[n], sizeof(ngx_http_ims_addr_t));
            ngx_memcpy(&addrs[n].sockaddr, peer->sockaddr, peer->socklen);
            addrs[n].socklen = peer->socklen;
            addrs[n++].transport = group->transport;
        }

        ngx_http_upstream_rr_peers_unlock(peers);
    }

    return n;
}


ngx_uint_t
ngx_http_ims_peer_count(ngx_http_ims_group_t *group)
{
    ngx_uint_t                     n;
    ngx_http_upstream_rr_peers_t  *peers;

    peers = group->upstream->peer.data;

    ngx_http_upstream_rr_peers_rlock(peers);

    n = peers->number;

    if (peers->next) {
        n += peers->next->number;
    }

    ngx_http_upstream_rr_peers_unlock(peers);

    return n;
}
