
/*
 * Copyright (C) nginx-ims contributors
 *
 * Core links: the table of a worker, how a link is opened, breaks, is tried
 * again, and how the worker leaves.
 *
 *     unused -> trying -> connected -> (break) -> unused, or trying at once
 *                  |                              if something waits
 *                  +-> unreachable after 2 s: what waited is given up
 *
 * What others must know of is told from a posted event, so that nobody's
 * handler is called from under a reader.
 */

#include "ngx_http_ims_link.h"


typedef struct ngx_http_ims_link_notice_s  ngx_http_ims_link_notice_t;

struct ngx_http_ims_link_notice_s {
    ngx_http_ims_link_notice_t   *next;
    ngx_http_ims_addr_t           addr;
    uint32_t                      serial;
    ngx_uint_t                    unreachable;
};


static ngx_http_ims_link_t *ngx_http_ims_link_create(struct sockaddr *sa,
    socklen_t socklen);
static void ngx_http_ims_link_free(ngx_http_ims_link_t *link);
static uint32_t ngx_http_ims_link_new_serial(void);
static void ngx_http_ims_link_connect(ngx_http_ims_link_t *link);
static void ngx_http_ims_link_setup(ngx_http_ims_link_t *link,
    ngx_connection_t *c);
static void ngx_http_ims_link_give_up(ngx_http_ims_link_t *link);
static void ngx_http_ims_link_back_off(ngx_http_ims_link_t *link);
static void ngx_http_ims_link_close(ngx_http_ims_link_t *link);
static void ngx_http_ims_link_lost(ngx_http_ims_link_t *link);
static void ngx_http_ims_link_timer_handler(ngx_event_t *ev);
static void ngx_http_ims_link_posted_handler(ngx_event_t *ev);
static void ngx_http_ims_link_set_timer(ngx_http_ims_link_t *link,
    ngx_msec_int_t after, ngx_uint_t cancelable);
static void ngx_http_ims_link_leave(ngx_http_ims_link_t *link);
static void ngx_http_ims_link_notice(ngx_http_ims_link_t *link,
    ngx_uint_t unreachable);
static void ngx_http_ims_link_notices_handler(ngx_event_t *ev);
static u_char *ngx_http_ims_link_log_error(ngx_log_t *log, u_char *buf,
    size_t len);


/* a worker's links; about as many as the core has nodes */

static struct {
    ngx_queue_t                    links;
    ngx_http_ims_link_notice_t    *notices;
    ngx_http_ims_link_notice_t   **last_notice;
    ngx_event_t                    event;
} ngx_http_ims_links;


/* ms until the next attempt after so many failed ones; a quarter of jitter */

static ngx_msec_t  ngx_http_ims_link_delays[] = { 50, 100, 250, 500, 1000 };


ngx_int_t
ngx_http_ims_links_init(ngx_http_ims_worker_t *w)
{
    ngx_memzero(&ngx_http_ims_links, sizeof(ngx_http_ims_links));

    ngx_queue_init(&ngx_http_ims_links.links);

    ngx_http_ims_links.last_notice = &ngx_http_ims_links.notices;
    ngx_http_ims_links.event.handler = ngx_http_ims_link_notices_handler;
    ngx_http_ims_links.event.log = w->log;

    return NGX_OK;
}


ngx_http_ims_link_t *
ngx_http_ims_link_get(ngx_http_ims_addr_t *addr, uint32_t slot)
{
    ngx_queue_t          *q;
    ngx_http_ims_link_t  *link;

    /* one link a peer: the slot has no say yet */

    (void) slot;

    for (q = ngx_queue_head(&ngx_http_ims_links.links);
         q != ngx_queue_sentinel(&ngx_http_ims_links.links);
         q = ngx_queue_next(q))
    {
        link = ngx_queue_data(q, ngx_http_ims_link_t, queue);

        if (!link->accepted && !link->linger
            && ngx_cmp_sockaddr(&link->addr.sockaddr.sockaddr,
                                link->addr.socklen, &addr->sockaddr.sockaddr,
                                addr->socklen, 1)
               == NGX_OK)
        {
            return link;
        }
    }

    link = ngx_http_ims_link_create(&addr->sockaddr.sockaddr, addr->socklen);

    if (link) {
        ngx_http_ims_link_arm(link);
    }

    return link;
}


ngx_http_ims_link_t *
ngx_http_ims_link_find(uint32_t serial)
{
    ngx_queue_t          *q;
    ngx_http_ims_link_t  *link;

    for (q = ngx_queue_head(&ngx_http_ims_links.links);
         q != ngx_queue_sentinel(&ngx_http_ims_links.links);
         q = ngx_queue_next(q))
    {
        link = ngx_queue_data(q, ngx_http_ims_link_t, queue);

        if (link->serial == serial) {
            return link;
        }
    }

    return NULL;
}


ngx_http_ims_link_t *
ngx_http_ims_link_open_to(ngx_http_ims_addr_t *addr)
{
    ngx_queue_t          *q;
    ngx_http_ims_link_t  *link;

    for (q = ngx_queue_head(&ngx_http_ims_links.links);
         q != ngx_queue_sentinel(&ngx_http_ims_links.links);
         q = ngx_queue_next(q))
    {
        link = ngx_queue_data(q, ngx_http_ims_link_t, queue);

        if (link->connected && !link->linger && !link->doomed
            && ngx_cmp_sockaddr(&link->addr.sockaddr.sockaddr,
                                link->addr.socklen, &addr->sockaddr.sockaddr,
                                addr->socklen, !link->accepted)
               == NGX_OK)
        {
            return link;
        }
    }

    return NULL;
}


uint32_t
ngx_http_ims_link_serial(ngx_http_ims_link_t *link)
{
    return link->serial;
}


ngx_http_ims_addr_t *
ngx_http_ims_link_addr(ngx_http_ims_link_t *link)
{
    return &link->addr;
}


static ngx_http_ims_link_t *
ngx_http_ims_link_create(struct sockaddr *sa, socklen_t socklen)
{
    ngx_http_ims_link_t  *link;

    if (socklen > sizeof(ngx_sockaddr_t)) {
        return NULL;
    }

    link = ngx_calloc(sizeof(ngx_http_ims_link_t), ngx_http_ims_worker->log);
    if (link == NULL) {
        return NULL;
    }

    ngx_memcpy(&link->addr.sockaddr, sa, socklen);
    link->addr.socklen = socklen;

    link->ident = -1;
    link->serial = ngx_http_ims_link_new_serial();
    link->out_last = &link->out;

    link->addr_text.data = link->text;
    link->addr_text.len = ngx_sock_ntop(sa, socklen, link->text,
                                        NGX_SOCKADDR_STRLEN, 1);

    link->log = *ngx_http_ims_worker->log;
    link->log.handler = ngx_http_ims_link_log_error;
    link->log.data = link;
    link->log.action = NULL;

    link->timer.handler = ngx_http_ims_link_timer_handler;
    link->timer.data = link;
    link->timer.log = &link->log;

    link->posted.handler = ngx_http_ims_link_posted_handler;
    link->posted.data = link;
    link->posted.log = &link->log;

    ngx_queue_insert_tail(&ngx_http_ims_links.links, &link->queue);

    return link;
}


static void
ngx_http_ims_link_free(ngx_http_ims_link_t *link)
{
    ngx_http_ims_link_close(link);
    ngx_http_ims_link_drop(link, NGX_HTTP_IMS_DROP_ALL);

    if (link->timer.timer_set) {
        ngx_del_timer(&link->timer);
    }

    if (link->posted.posted) {
        ngx_delete_posted_event(&link->posted);
    }

    ngx_queue_remove(&link->queue);
    ngx_free(link);
}


static uint32_t
ngx_http_ims_link_new_serial(void)
{
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    if (++w->serial == 0) {
        w->serial = 1;
    }

    return w->serial;
}


/* -- opening --------------------------------------------------------------- */

static void
ngx_http_ims_link_connect(ngx_http_ims_link_t *link)
{
    ngx_int_t              rc;
    ngx_peer_connection_t  pc;

    ngx_memzero(&pc, sizeof(ngx_peer_connection_t));

    pc.sockaddr = &link->addr.sockaddr.sockaddr;
    pc.socklen = link->addr.socklen;
    pc.name = &link->addr_text;
    pc.get = ngx_event_get_peer;
    pc.log = &link->log;
    pc.log_error = NGX_ERROR_ERR;
    pc.so_keepalive = 1;

    link->log.action = "connecting to core";

    rc = ngx_event_connect_peer(&pc);

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, &link->log, 0,
                   "ims link connect: %i, try:%ui, queued:%uz",
                   rc, link->tries, link->out_size);

    if (rc != NGX_OK && rc != NGX_AGAIN) {
        ngx_http_ims_link_failed(link);
        return;
    }

    ngx_http_ims_link_setup(link, pc.connection);

    link->connecting = 1;

    if (rc == NGX_OK) {
        ngx_post_event(pc.connection->write, &ngx_posted_events);
    }

    ngx_http_ims_link_arm(link);
}


/* what connections of either direction have in common */

static void
ngx_http_ims_link_setup(ngx_http_ims_link_t *link, ngx_connection_t *c)
{
#if (defined TCP_USER_TIMEOUT)
    int  value;
#endif

    link->connection = c;
    link->heard = 0;

    c->data = link;
    c->idle = 1;
    c->log = &link->log;
    c->read->log = &link->log;
    c->write->log = &link->log;
    c->read->handler = ngx_http_ims_link_read_handler;
    c->write->handler = ngx_http_ims_link_write_handler;

    link->log.connection = c->number;

    if (link->addr.sockaddr.sockaddr.sa_family == AF_UNIX) {
        return;
    }

    (void) ngx_tcp_nodelay(c);

#if (defined TCP_USER_TIMEOUT)

    /* a core that is gone without a word takes no requests with it for long */

    value = NGX_HTTP_IMS_LINK_STALL;

    if (setsockopt(c->fd, IPPROTO_TCP, TCP_USER_TIMEOUT,
                   (const void *) &value, sizeof(int))
        == -1)
    {
        ngx_log_error(NGX_LOG_WARN, c->log, ngx_socket_errno,
                      "setsockopt(TCP_USER_TIMEOUT) failed, ignored");
    }

#endif
}


ngx_int_t
ngx_http_ims_link_opened(ngx_http_ims_link_t *link)
{
    int                err;
    socklen_t          len;
    ngx_connection_t  *c;

    c = link->connection;

    err = 0;
    len = sizeof(int);

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, (void *) &err, &len) == -1) {
        err = ngx_socket_errno;
    }

    if (err) {
        (void) ngx_connection_error(c, err, "connect() to core failed");
        ngx_http_ims_link_failed(link);
        return NGX_DECLINED;
    }

#if (NGX_SSL)

    if (ngx_http_ims_worker->main->core_ssl) {

        switch (ngx_http_ims_ssl_connect(link)) {

        case NGX_OK:
            break;

        case NGX_AGAIN:
            return NGX_DECLINED;

        default:
            ngx_http_ims_link_failed(link);
            return NGX_DECLINED;
        }
    }

#endif

    ngx_http_ims_link_established(link);

    return NGX_OK;
}


void
ngx_http_ims_link_established(ngx_http_ims_link_t *link)
{
    ngx_connection_t  *c;

    c = link->connection;

    link->log.action = NULL;

    ngx_log_error(NGX_LOG_INFO, c->log, 0, "core link opened");

    link->connecting = 0;
    link->connected = 1;
    link->trying = 0;
    link->since = ngx_current_msec;
    link->progress = ngx_current_msec;

    /* what came meanwhile gave no event of its own */

    if (c->read->ready) {
        ngx_post_event(c->read, &ngx_posted_events);
    }
}


ngx_int_t
ngx_http_ims_link_accept(ngx_connection_t *c)
{
    ngx_http_ims_link_t  *link;

    link = ngx_http_ims_link_create(c->sockaddr, c->socklen);
    if (link == NULL) {
        return NGX_ERROR;
    }

    link->accepted = 1;
    link->connected = 1;
    link->since = ngx_current_msec;

    c->log_error = NGX_ERROR_ERR;
    c->pool->log = &link->log;

    ngx_http_ims_link_setup(link, c);

    ngx_log_error(NGX_LOG_INFO, c->log, 0, "core link accepted");

    if (c->read->ready) {
        ngx_post_event(c->read, &ngx_posted_events);

    } else if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
        ngx_http_ims_link_break(link);
    }

    return NGX_OK;
}


/* -- failing --------------------------------------------------------------- */

/* an attempt failed: another one while the two seconds last */

void
ngx_http_ims_link_failed(ngx_http_ims_link_t *link)
{
    ngx_http_ims_link_close(link);
    ngx_http_ims_link_back_off(link);

    if (ngx_current_msec - link->since >= NGX_HTTP_IMS_LINK_TRY) {
        ngx_http_ims_link_give_up(link);
        return;
    }

    ngx_http_ims_link_arm(link);
}


static void
ngx_http_ims_link_give_up(ngx_http_ims_link_t *link)
{
    ngx_log_error(NGX_LOG_ERR, &link->log, 0,
                  "core could not be reached for %ui ms",
                  (ngx_uint_t) NGX_HTTP_IMS_LINK_TRY);

    ngx_http_ims_link_drop(link, NGX_HTTP_IMS_DROP_ALL);

    link->trying = 0;

    ngx_http_ims_link_notice(link, 1);
    ngx_http_ims_link_arm(link);
}


static void
ngx_http_ims_link_back_off(ngx_http_ims_link_t *link)
{
    ngx_msec_t  delay;
    ngx_uint_t  n;

    n = sizeof(ngx_http_ims_link_delays) / sizeof(ngx_msec_t);

    delay = ngx_http_ims_link_delays[ngx_min(link->tries, n - 1)];
    delay += ngx_random() % (delay / 4);

    link->tries++;
    link->retry_at = ngx_current_msec + delay;
}


void
ngx_http_ims_link_doom(ngx_http_ims_link_t *link)
{
    link->doomed = 1;
    ngx_post_event(&link->posted, &ngx_posted_events);
}


void
ngx_http_ims_link_break(ngx_http_ims_link_t *link)
{
    ngx_uint_t  early;

    if (link->linger) {

        /* we said goodbye first */

        ngx_http_ims_link_free(link);
        return;
    }

    early = !link->heard
            && ngx_current_msec - link->since < NGX_HTTP_IMS_LINK_EARLY;

    ngx_http_ims_link_close(link);
    ngx_http_ims_link_notice(link, 0);

    if (link->accepted) {
        ngx_http_ims_link_free(link);
        return;
    }

    /* a core that takes connections only to drop them is not hammered */

    if (early) {
        ngx_http_ims_link_back_off(link);

    } else {
        link->tries = 0;
    }

    ngx_http_ims_link_lost(link);
}


/* what is left of a link of ours without its connection */

static void
ngx_http_ims_link_lost(ngx_http_ims_link_t *link)
{
    link->doomed = 0;

    ngx_http_ims_link_drop(link, NGX_HTTP_IMS_DROP_REQUESTS);

    if (link->out && !link->trying) {
        ngx_post_event(&link->posted, &ngx_posted_events);
    }

    ngx_http_ims_link_arm(link);
}


static void
ngx_http_ims_link_close(ngx_http_ims_link_t *link)
{
    ngx_pool_t        *pool;
    ngx_connection_t  *c;

    c = link->connection;

    if (c == NULL) {
        return;
    }

    link->connection = NULL;
    link->connecting = 0;
    link->connected = 0;

    link->skip = 0;

    ngx_http_ims_link_forget_rest(link);

#if (NGX_STAT_STUB)
    if (link->accepted) {
        (void) ngx_atomic_fetch_add(ngx_stat_active, -1);
    }
#endif

#if (NGX_SSL)
    ngx_http_ims_ssl_close(c);
#endif

    pool = c->pool;

    ngx_close_connection(c);

    if (pool) {
        ngx_destroy_pool(pool);
    }
}


/* -- time ------------------------------------------------------------------ */

/*
 * One timer, by state.  It holds an exiting worker only while something waits
 * to be written, or our goodbye to be answered.
 */

void
ngx_http_ims_link_arm(ngx_http_ims_link_t *link)
{
    ngx_msec_t  at;

    if (link->linger) {
        return;
    }

    if (link->connected) {

        if (link->out) {
            ngx_http_ims_link_set_timer(link, NGX_HTTP_IMS_LINK_TICK, 0);

        } else if (link->timer.timer_set) {
            ngx_del_timer(&link->timer);
        }

        return;
    }

    if (!link->trying) {
        ngx_http_ims_link_set_timer(link, NGX_HTTP_IMS_LINK_REAP, 1);
        return;
    }

    at = link->since + NGX_HTTP_IMS_LINK_TRY;

    if (!link->connecting && (ngx_msec_int_t) (link->retry_at - at) < 0) {
        at = link->retry_at;
    }

    ngx_http_ims_link_set_timer(link, at - ngx_current_msec, 0);
}


static void
ngx_http_ims_link_set_timer(ngx_http_ims_link_t *link, ngx_msec_int_t after,
    ngx_uint_t cancelable)
{
    if (link->timer.timer_set) {
        ngx_del_timer(&link->timer);
    }

    link->timer.cancelable = cancelable;

    ngx_add_timer(&link->timer, ngx_max(after, 1));
}


static void
ngx_http_ims_link_timer_handler(ngx_event_t *ev)
{
    ngx_http_ims_link_t  *link;

    link = ev->data;

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, ev->log, 0,
                   "ims link timer, queued:%uz", link->out_size);

    if (link->linger) {
        ngx_http_ims_link_free(link);
        return;
    }

    if (link->connected) {

        if (ngx_current_msec - link->progress >= NGX_HTTP_IMS_LINK_STALL) {
            ngx_log_error(NGX_LOG_ERR, &link->log, NGX_ETIMEDOUT,
                          "core takes nothing: %uz bytes are waiting",
                          link->out_size);
            ngx_http_ims_link_break(link);
            return;
        }

        ngx_http_ims_link_drop(link, NGX_HTTP_IMS_DROP_LATE);
        ngx_http_ims_link_arm(link);
        return;
    }

    if (!link->trying) {
        ngx_http_ims_link_free(link);
        return;
    }

    if (ngx_current_msec - link->since >= NGX_HTTP_IMS_LINK_TRY) {

        if (link->connecting) {
            ngx_log_error(NGX_LOG_ERR, &link->log, NGX_ETIMEDOUT,
                          "connect() to core timed out");
            ngx_http_ims_link_failed(link);
            return;
        }

        ngx_http_ims_link_give_up(link);
        return;
    }

    ngx_http_ims_link_connect(link);
}


static void
ngx_http_ims_link_posted_handler(ngx_event_t *ev)
{
    ngx_http_ims_link_t  *link;

    link = ev->data;

    if (link->doomed) {

        if (link->connected) {
            ngx_http_ims_link_break(link);

        } else {
            ngx_http_ims_link_notice(link, 0);
            ngx_http_ims_link_lost(link);
        }

        return;
    }

    if (link->connection || link->trying || link->out == NULL) {
        return;
    }

    link->trying = 1;
    link->since = ngx_current_msec;

    if (link->tries
        && (ngx_msec_int_t) (link->retry_at - ngx_current_msec) > 0)
    {
        ngx_http_ims_link_arm(link);
        return;
    }

    ngx_http_ims_link_connect(link);
}


/* -- leaving --------------------------------------------------------------- */

/*
 * nginx sweeps idle connections when the worker is told to finish.  One with
 * flows keeps its links until ngx_http_ims_links_leave(); one without has
 * nothing to wait for but what the core has under way.
 */

void
ngx_http_ims_link_swept(ngx_http_ims_link_t *link)
{
    ngx_connection_t  *c;

    c = link->connection;

    c->close = 0;

    if (c->error) {
        ngx_http_ims_link_free(link);
        return;
    }

    if (ngx_http_ims_worker->leaving) {
        ngx_http_ims_link_leave(link);
    }
}


void
ngx_http_ims_links_leave(ngx_http_ims_worker_t *w)
{
    ngx_queue_t          *q, *next;
    ngx_http_ims_link_t  *link;

    for (q = ngx_queue_head(&ngx_http_ims_links.links);
         q != ngx_queue_sentinel(&ngx_http_ims_links.links);
         q = next)
    {
        next = ngx_queue_next(q);
        link = ngx_queue_data(q, ngx_http_ims_link_t, queue);

        ngx_http_ims_link_leave(link);
    }
}


/* half-close when the last byte is out, then read until the core's FIN */

static void
ngx_http_ims_link_leave(ngx_http_ims_link_t *link)
{
    if (link->linger || !link->connected) {
        return;
    }

    link->linger = 1;

    ngx_http_ims_link_set_timer(link, NGX_HTTP_IMS_LINK_LINGER, 0);

    ngx_post_event(link->connection->write, &ngx_posted_events);
}


void
ngx_http_ims_links_exit(ngx_http_ims_worker_t *w)
{
    ngx_queue_t                 *q;
    ngx_http_ims_link_t         *link;
    ngx_http_ims_link_notice_t  *notice;

    while (!ngx_queue_empty(&ngx_http_ims_links.links)) {
        q = ngx_queue_head(&ngx_http_ims_links.links);
        link = ngx_queue_data(q, ngx_http_ims_link_t, queue);

        ngx_http_ims_link_free(link);
    }

    while (ngx_http_ims_links.notices) {
        notice = ngx_http_ims_links.notices;
        ngx_http_ims_links.notices = notice->next;
        ngx_free(notice);
    }

    if (ngx_http_ims_links.event.posted) {
        ngx_delete_posted_event(&ngx_http_ims_links.event);
    }
}


/* -- telling --------------------------------------------------------------- */

/*
 * The serial is done with: from here on the link goes by another.  Without
 * memory for the notice the records' own timers do its work, later.
 */

static void
ngx_http_ims_link_notice(ngx_http_ims_link_t *link, ngx_uint_t unreachable)
{
    ngx_http_ims_link_notice_t  *notice;

    notice = ngx_alloc(sizeof(ngx_http_ims_link_notice_t), &link->log);

    if (notice) {
        notice->next = NULL;
        notice->addr = link->addr;
        notice->serial = link->serial;
        notice->unreachable = unreachable;

        *ngx_http_ims_links.last_notice = notice;
        ngx_http_ims_links.last_notice = &notice->next;

        ngx_post_event(&ngx_http_ims_links.event, &ngx_posted_events);
    }

    link->serial = ngx_http_ims_link_new_serial();
}


static void
ngx_http_ims_link_notices_handler(ngx_event_t *ev)
{
    ngx_http_ims_link_notice_t  *notice;

    while (ngx_http_ims_links.notices) {
        notice = ngx_http_ims_links.notices;
        ngx_http_ims_links.notices = notice->next;

        if (ngx_http_ims_links.notices == NULL) {
            ngx_http_ims_links.last_notice = &ngx_http_ims_links.notices;
        }

        ngx_http_ims_link_broken(&notice->addr, notice->serial,
                                 notice->unreachable);
        ngx_free(notice);
    }
}


static u_char *
ngx_http_ims_link_log_error(ngx_log_t *log, u_char *buf, size_t len)
{
    u_char               *p;
    ngx_http_ims_link_t  *link;

    if (log->action) {
        p = ngx_snprintf(buf, len, " while %s", log->action);
        len -= p - buf;
        buf = p;
    }

    link = log->data;

    return ngx_snprintf(buf, len, ", core: %V", &link->addr_text);
}
