
/*
 * Copyright (C) nginx-ims contributors
 *
 * Which core may have registered the identities of a pool: all nodes of all
 * groups of ims_pass where a token for that pool is taken; and since when that
 * is so.
 *
 * A proof that nothing is bound there is worth nothing if, a while ago, the
 * configuration led elsewhere.  So the nodes are remembered in the state
 * directory over reloads and restarts, and as long as a worker lives that has
 * others, it is as if they changed just now.
 */

#include "ngx_http_ims.h"
#include <ngx_md5.h>


#define NGX_HTTP_IMS_CORE_FILE  "nodes"
#define NGX_HTTP_IMS_CORE_SUM   16
#define NGX_HTTP_IMS_CORE_TEXT  (2 * NGX_HTTP_IMS_CORE_SUM + NGX_INT64_LEN + 2)


static ngx_int_t ngx_http_ims_core_pools(ngx_cycle_t *cycle,
    ngx_http_ims_main_conf_t *imcf, ngx_http_ims_loc_conf_t *conf,
    ngx_http_ims_issuer_t *issuer);
static ngx_http_ims_core_t *ngx_http_ims_core_add(ngx_cycle_t *cycle,
    ngx_http_ims_main_conf_t *imcf, ngx_http_ims_loc_conf_t *conf,
    ngx_http_ims_issuer_t *issuer, ngx_str_t *pool);
static ngx_int_t ngx_http_ims_core_groups(ngx_http_ims_main_conf_t *imcf,
    ngx_http_ims_core_t *core);
static ngx_uint_t ngx_http_ims_core_takes(ngx_http_ims_loc_conf_t *conf,
    ngx_str_t *pool);
static ngx_uint_t ngx_http_ims_core_known(ngx_http_ims_addr_t *addrs,
    ngx_uint_t n, ngx_http_ims_addr_t *addr);
static void ngx_http_ims_core_sum(ngx_http_ims_main_conf_t *imcf,
    u_char sum[NGX_HTTP_IMS_CORE_SUM]);
static ngx_int_t ngx_http_ims_core_recall(ngx_cycle_t *cycle,
    ngx_http_ims_main_conf_t *imcf, u_char sum[NGX_HTTP_IMS_CORE_SUM]);
static ngx_int_t ngx_http_ims_core_read(ngx_cycle_t *cycle, u_char *name,
    u_char sum[NGX_HTTP_IMS_CORE_SUM], uint64_t *since);
static ngx_int_t ngx_http_ims_core_save(ngx_cycle_t *cycle, u_char *name,
    u_char sum[NGX_HTTP_IMS_CORE_SUM], uint64_t since);


/* the master's: what the configuration before this one was like */

static struct {
    uint32_t                      cycle;        /* the nodes are the same since
                                                   then; 0: none was before */
    u_char                        sum[NGX_HTTP_IMS_CORE_SUM];
} ngx_http_ims_core_mapped;


/* the worker's: the nodes as they were when last looked at */

static u_char  ngx_http_ims_core_seen[NGX_HTTP_IMS_CORE_SUM];


ngx_int_t
ngx_http_ims_cores_config(ngx_cycle_t *cycle, ngx_http_ims_main_conf_t *imcf)
{
    u_char                     sum[NGX_HTTP_IMS_CORE_SUM];
    ngx_uint_t                 i, k;
    ngx_http_ims_core_t       *core;
    ngx_http_ims_issuer_t    **issuer;
    ngx_http_ims_loc_conf_t  **pass;

    if (imcf->flows == NULL || imcf->passes == NULL) {
        return NGX_OK;
    }

    imcf->cores = ngx_array_create(cycle->pool, 4,
                                   sizeof(ngx_http_ims_core_t));
    if (imcf->cores == NULL) {
        return NGX_ERROR;
    }

    pass = imcf->passes->elts;

    for (i = 0; i < imcf->passes->nelts; i++) {
        issuer = pass[i]->accept_issuers->elts;

        for (k = 0; k < pass[i]->accept_issuers->nelts; k++) {
            if (ngx_http_ims_core_pools(cycle, imcf, pass[i], issuer[k])
                != NGX_OK)
            {
                return NGX_ERROR;
            }
        }
    }

    core = imcf->cores->elts;

    for (i = 0; i < imcf->cores->nelts; i++) {
        if (ngx_http_ims_core_groups(imcf, &core[i]) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    ngx_http_ims_core_sum(imcf, sum);

    return ngx_http_ims_core_recall(cycle, imcf, sum);
}


static ngx_int_t
ngx_http_ims_core_pools(ngx_cycle_t *cycle, ngx_http_ims_main_conf_t *imcf,
    ngx_http_ims_loc_conf_t *conf, ngx_http_ims_issuer_t *issuer)
{
    ngx_str_t   *pool;
    ngx_uint_t   i;

    if (issuer->pools == NULL) {
        return NGX_OK;
    }

    pool = issuer->pools->elts;

    for (i = 0; i < issuer->pools->nelts; i++) {
        if (ngx_http_ims_core_add(cycle, imcf, conf, issuer, &pool[i])
            == NULL)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_http_ims_core_t *
ngx_http_ims_core_add(ngx_cycle_t *cycle, ngx_http_ims_main_conf_t *imcf,
    ngx_http_ims_loc_conf_t *conf, ngx_http_ims_issuer_t *issuer,
    ngx_str_t *pool)
{
    ngx_uint_t            i;
    ngx_http_ims_core_t  *core;

    core = imcf->cores->elts;

    for (i = 0; i < imcf->cores->nelts; i++) {
        if (ims_str_eq(ngx_http_ims_str(&core[i].pool),
                       ngx_http_ims_str(pool)))
        {
            return &core[i];
        }
    }

    core = ngx_array_push(imcf->cores);
    if (core == NULL) {
        return NULL;
    }

    core->pool = *pool;
    core->conf = conf;
    core->issuer = issuer;

    if (ngx_array_init(&core->groups, cycle->pool, 1,
                       sizeof(ngx_http_ims_group_t *))
        != NGX_OK)
    {
        return NULL;
    }

    return core;
}


static ngx_int_t
ngx_http_ims_core_groups(ngx_http_ims_main_conf_t *imcf,
    ngx_http_ims_core_t *core)
{
    ngx_uint_t                 i, k;
    ngx_http_ims_group_t     **group;
    ngx_http_ims_loc_conf_t  **pass;

    pass = imcf->passes->elts;

    for (i = 0; i < imcf->passes->nelts; i++) {

        if (!ngx_http_ims_core_takes(pass[i], &core->pool)) {
            continue;
        }

        group = core->groups.elts;

        for (k = 0; k < core->groups.nelts; k++) {
            if (group[k] == pass[i]->group) {
                break;
            }
        }

        if (k < core->groups.nelts) {
            continue;
        }

        group = ngx_array_push(&core->groups);
        if (group == NULL) {
            return NGX_ERROR;
        }

        *group = pass[i]->group;
    }

    return NGX_OK;
}


/* an issuer that names no pools may speak for any */

static ngx_uint_t
ngx_http_ims_core_takes(ngx_http_ims_loc_conf_t *conf, ngx_str_t *pool)
{
    ngx_str_t               *name;
    ngx_uint_t               i, k;
    ngx_http_ims_issuer_t  **issuer;

    issuer = conf->accept_issuers->elts;

    for (i = 0; i < conf->accept_issuers->nelts; i++) {

        if (issuer[i]->pools == NULL) {
            return 1;
        }

        name = issuer[i]->pools->elts;

        for (k = 0; k < issuer[i]->pools->nelts; k++) {
            if (ims_str_eq(ngx_http_ims_str(&name[k]),
                           ngx_http_ims_str(pool)))
            {
                return 1;
            }
        }
    }

    return 0;
}


ngx_uint_t
ngx_http_ims_core_peers(ngx_http_ims_core_t *core,
    ngx_http_ims_addr_t addrs[NGX_HTTP_IMS_CORE_PEERS])
{
    ngx_uint_t              i, k, n, m;
    ngx_http_ims_addr_t     some[NGX_HTTP_IMS_CORE_PEERS + 1];
    ngx_http_ims_group_t  **group;

    group = core->groups.elts;
    n = 0;

    for (i = 0; i < core->groups.nelts; i++) {

        m = ngx_http_ims_peer_list(group[i], some,
                                   NGX_HTTP_IMS_CORE_PEERS + 1);

        for (k = 0; k < m; k++) {

            if (ngx_http_ims_core_known(addrs, n, &some[k])) {
                continue;
            }

            if (n == NGX_HTTP_IMS_CORE_PEERS) {
                return 0;
            }

            addrs[n++] = some[k];
        }
    }

    return n;
}


static ngx_uint_t
ngx_http_ims_core_known(ngx_http_ims_addr_t *addrs, ngx_uint_t n,
    ngx_http_ims_addr_t *addr)
{
    ngx_uint_t  i;

    for (i = 0; i < n; i++) {
        if (ngx_cmp_sockaddr(&addrs[i].sockaddr.sockaddr, addrs[i].socklen,
                             &addr->sockaddr.sockaddr, addr->socklen, 1)
            == NGX_OK)
        {
            return 1;
        }
    }

    return 0;
}


/* of pools and nodes, in the order of the configuration */

static void
ngx_http_ims_core_sum(ngx_http_ims_main_conf_t *imcf,
    u_char sum[NGX_HTTP_IMS_CORE_SUM])
{
    ngx_md5_t             md5;
    ngx_uint_t            i, k, n;
    ngx_http_ims_addr_t   addrs[NGX_HTTP_IMS_CORE_PEERS];
    ngx_http_ims_core_t  *core;

    ngx_md5_init(&md5);

    core = imcf->cores->elts;

    for (i = 0; i < imcf->cores->nelts; i++) {
        ngx_md5_update(&md5, core[i].pool.data, core[i].pool.len);
        ngx_md5_update(&md5, "", 1);

        n = ngx_http_ims_core_peers(&core[i], addrs);

        for (k = 0; k < n; k++) {
            ngx_md5_update(&md5, &addrs[k].sockaddr, addrs[k].socklen);
        }

        ngx_md5_update(&md5, "", 1);
    }

    ngx_md5_final(sum, &md5);
}


/* -- since when ------------------------------------------------------------ */

/*
 * A first start knows of nothing before it.  A start (no reload) does not know
 * how long the workers of the last one had other nodes after they changed: it
 * may have been until now.
 */

static ngx_int_t
ngx_http_ims_core_recall(ngx_cycle_t *cycle, ngx_http_ims_main_conf_t *imcf,
    u_char sum[NGX_HTTP_IMS_CORE_SUM])
{
    u_char     old[NGX_HTTP_IMS_CORE_SUM], name[NGX_MAX_PATH];
    uint64_t   since, now;
    ngx_int_t  rc;

    (void) ngx_snprintf(name, sizeof(name), "%V/" NGX_HTTP_IMS_CORE_FILE "%Z",
                        &imcf->state_dir);

    rc = ngx_http_ims_core_read(cycle, name, old, &since);

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    now = ims_boottime_ms();

    if (rc == NGX_DECLINED) {
        since = 0;

    } else if (ngx_memcmp(old, sum, NGX_HTTP_IMS_CORE_SUM) != 0
               || since > now
               || (since && ngx_http_ims_core_mapped.cycle == 0))
    {
        since = now;
    }

    if (ngx_http_ims_core_mapped.cycle == 0
        || ngx_memcmp(ngx_http_ims_core_mapped.sum, sum,
                      NGX_HTTP_IMS_CORE_SUM)
           != 0)
    {
        ngx_http_ims_core_mapped.cycle = imcf->cycle_no;
        ngx_memcpy(ngx_http_ims_core_mapped.sum, sum, NGX_HTTP_IMS_CORE_SUM);
    }

    imcf->core_cycle = ngx_http_ims_core_mapped.cycle;
    imcf->core_since = since;

    return ngx_http_ims_core_save(cycle, name, sum, since);
}


/* NGX_DECLINED: there is none */

static ngx_int_t
ngx_http_ims_core_read(ngx_cycle_t *cycle, u_char *name,
    u_char sum[NGX_HTTP_IMS_CORE_SUM], uint64_t *since)
{
    u_char     text[NGX_HTTP_IMS_CORE_TEXT];
    ssize_t    n;
    ngx_fd_t   fd;
    ims_str_t  s;

    fd = ngx_open_file(name, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {

        if (ngx_errno == NGX_ENOENT) {
            return NGX_DECLINED;
        }

        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      ngx_open_file_n " \"%s\" failed", name);
        return NGX_ERROR;
    }

    n = ngx_read_fd(fd, text, sizeof(text));

    (void) ngx_close_file(fd);

    s = ims_str_set(text, n > 0 ? n : 0);

    /* what is not understood is like other nodes */

    *since = 0;
    ngx_memzero(sum, NGX_HTTP_IMS_CORE_SUM);

    if (s.n < 2 * NGX_HTTP_IMS_CORE_SUM + 3 || s.p[s.n - 1] != '\n'
        || !ims_hex_decode(sum, NGX_HTTP_IMS_CORE_SUM,
                           ims_str_set(s.p, 2 * NGX_HTTP_IMS_CORE_SUM))
        || !ims_str_u64(ims_str_range(s.p + 2 * NGX_HTTP_IMS_CORE_SUM + 1,
                                      s.p + s.n - 1),
                        UINT64_MAX, since))
    {
        ngx_memzero(sum, NGX_HTTP_IMS_CORE_SUM);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_ims_core_save(ngx_cycle_t *cycle, u_char *name,
    u_char sum[NGX_HTTP_IMS_CORE_SUM], uint64_t since)
{
    u_char    text[NGX_HTTP_IMS_CORE_TEXT], hex[2 * NGX_HTTP_IMS_CORE_SUM];
    u_char    temp[NGX_MAX_PATH + 5], *last;
    ngx_fd_t  fd;

    ims_hex_encode(hex, sum, NGX_HTTP_IMS_CORE_SUM);

    last = ngx_sprintf(text, "%*s %uL\n", sizeof(hex), hex, since);

    (void) ngx_snprintf(temp, sizeof(temp), "%s.new%Z", name);

    fd = ngx_open_file(temp, NGX_FILE_WRONLY, NGX_FILE_TRUNCATE, 0600);

    if (fd == NGX_INVALID_FILE) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      ngx_open_file_n " \"%s\" failed", temp);
        return NGX_ERROR;
    }

    if (ngx_write_fd(fd, text, last - text) != last - text
        || fsync(fd) == -1)
    {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      ngx_write_fd_n " \"%s\" failed", temp);
        (void) ngx_close_file(fd);
        return NGX_ERROR;
    }

    if (ngx_close_file(fd) == NGX_FILE_ERROR
        || ngx_rename_file(temp, name) == NGX_FILE_ERROR)
    {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      ngx_rename_file_n " \"%s\" to \"%s\" failed", temp,
                      name);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/*
 * The counters' neighbour, so that it is known to a worker that is respawned:
 * seconds, rounded up, since an atomic may have 32 bits.
 */

#define ngx_http_ims_core_changed(imcf)                                       \
    ((imcf)->counters[NGX_HTTP_IMS_NCOUNTERS])


void
ngx_http_ims_core_watch(ngx_http_ims_worker_t *w)
{
    u_char              sum[NGX_HTTP_IMS_CORE_SUM];
    uint32_t            row;
    ngx_uint_t          changed;
    ims_flow_worker_t   other;

    ngx_http_ims_core_sum(w->main, sum);

    /* names of an upstream may be resolved anew */

    changed = ngx_memcmp(ngx_http_ims_core_seen, sum, sizeof(sum)) != 0;
    ngx_memcpy(ngx_http_ims_core_seen, sum, sizeof(sum));

    for (row = 1; row < IMS_FLOW_ROWS && !changed; row++) {

        if (!ims_flow_worker(w->main->flows, row, &other)
            || other.id == w->id)
        {
            continue;
        }

        changed = (other.master != w->me.master
                   || other.cycle < w->main->core_cycle)
                  && ngx_http_ims_worker_alive(other.id);
    }

    if (changed) {
        ngx_http_ims_core_changed(w->main) = (ngx_atomic_uint_t)
                                             (ims_boottime_ms() / 1000 + 1);
    }
}


uint64_t
ngx_http_ims_core_since(ngx_http_ims_worker_t *w)
{
    return ngx_max(w->main->core_since,
                   (uint64_t) ngx_http_ims_core_changed(w->main) * 1000);
}


void
ngx_http_ims_cores_init(ngx_http_ims_worker_t *w)
{
    ngx_memcpy(ngx_http_ims_core_seen, ngx_http_ims_core_mapped.sum,
               sizeof(ngx_http_ims_core_seen));
}
