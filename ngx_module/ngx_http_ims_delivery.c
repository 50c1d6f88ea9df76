
/*
 * Copyright (C) nginx-ims contributors
 *
 * Datagrams between workers: the own socket that others send to, and a
 * connected socket with an ordered queue for each worker that we send to.
 *
 * A worker's id is random and names its socket, so one that is dead stays
 * dead.  Only a refused connection or an absent name says so; any other error
 * is ours.
 */

#include "ngx_http_ims.h"
#include <dirent.h>


#define NGX_HTTP_IMS_DELIVERY_QUEUE  (1024 * 1024)
#define NGX_HTTP_IMS_DELIVERY_SNDBUF (512 * 1024)
#define NGX_HTTP_IMS_DELIVERY_TURNS  64      /* datagrams in a turn */
#define NGX_HTTP_IMS_DELIVERY_TICK   1000    /* ms, while something waits */
#define NGX_HTTP_IMS_DELIVERY_STALL  10000   /* ms: a worker that hangs */
#define NGX_HTTP_IMS_DELIVERY_IDLE   60000   /* ms until forgotten */
#define NGX_HTTP_IMS_DELIVERY_FRESH  1000    /* ms that alive() is believed */


typedef struct ngx_http_ims_dgram_s  ngx_http_ims_dgram_t;

struct ngx_http_ims_dgram_s {
    ngx_http_ims_dgram_t         *next;
    size_t                        size;
    u_char                        data[];
};


/* a worker that we send to, or were asked about */

typedef struct {
    ngx_queue_t                   queue;       /* all of them */
    ngx_connection_t             *connection;  /* NULL: not open */

    /* read as the fd of an event: must be after 3 pointers */
    ngx_int_t                     ident;

    uint64_t                      id;
    ngx_http_ims_dgram_t         *out;
    ngx_http_ims_dgram_t        **out_last;
    size_t                        out_size;
    ngx_event_t                   timer;
    ngx_msec_t                    used;
    ngx_msec_t                    progress;    /* when one was last taken */
    ngx_msec_t                    tested;
    unsigned                      known:1;     /* .tested and .dead are set */
    unsigned                      dead:1;
} ngx_http_ims_dest_t;


static ngx_int_t ngx_http_ims_delivery_address(ngx_str_t *dir, uint64_t id,
    struct sockaddr_un *sun);
static ngx_socket_t ngx_http_ims_delivery_bind(ngx_http_ims_worker_t *w,
    struct sockaddr_un *sun);
static ngx_socket_t ngx_http_ims_delivery_socket(ngx_log_t *log);
static void ngx_http_ims_delivery_read_handler(ngx_event_t *rev);
static ngx_int_t ngx_http_ims_delivery_read(ngx_connection_t *c);
static void ngx_http_ims_delivery_empty_handler(ngx_event_t *ev);
static void ngx_http_ims_delivery_write_handler(ngx_event_t *wev);

static ngx_http_ims_dest_t *ngx_http_ims_dest_get(uint64_t id);
static ngx_int_t ngx_http_ims_dest_open(ngx_http_ims_dest_t *dest);
static void ngx_http_ims_dest_close(ngx_http_ims_dest_t *dest);
static void ngx_http_ims_dest_free(ngx_http_ims_dest_t *dest);
static void ngx_http_ims_dest_died(ngx_http_ims_dest_t *dest);
static ngx_int_t ngx_http_ims_dest_send(ngx_http_ims_dest_t *dest,
    u_char *data, size_t n);
static ngx_int_t ngx_http_ims_dest_queue(ngx_http_ims_dest_t *dest,
    u_char *data, size_t n);
static void ngx_http_ims_dest_flush(ngx_http_ims_dest_t *dest);
static ngx_uint_t ngx_http_ims_dest_drop(ngx_http_ims_dest_t *dest);
static void ngx_http_ims_dest_arm(ngx_http_ims_dest_t *dest);
static void ngx_http_ims_dest_timer_handler(ngx_event_t *ev);
static ngx_uint_t ngx_http_ims_delivery_refused(ngx_err_t err);
static ngx_err_t ngx_http_ims_delivery_test(struct sockaddr_un *sun,
    ngx_log_t *log);


static struct {
    ngx_connection_t             *connection;  /* the own socket */
    struct sockaddr_un            sun;
    ngx_queue_t                   dests;
    u_char                       *buf;         /* an encoded datagram */
    size_t                        size;
} ngx_http_ims_delivery;


ngx_int_t
ngx_http_ims_delivery_init(ngx_http_ims_worker_t *w)
{
    ngx_socket_t       s;
    ngx_connection_t  *c;

    ngx_memzero(&ngx_http_ims_delivery, sizeof(ngx_http_ims_delivery));
    ngx_queue_init(&ngx_http_ims_delivery.dests);

    ngx_http_ims_delivery.size = w->main->max_message
                                 + IMS_FLOW_DGRAM_OVERHEAD;
    ngx_http_ims_delivery.buf = ngx_palloc(w->cycle->pool,
                                           ngx_http_ims_delivery.size);
    if (ngx_http_ims_delivery.buf == NULL) {
        return NGX_ERROR;
    }

    if (ngx_http_ims_delivery_address(&w->main->state_dir, w->id,
                                      &ngx_http_ims_delivery.sun)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    s = ngx_http_ims_delivery_bind(w, &ngx_http_ims_delivery.sun);

    if (s == (ngx_socket_t) -1) {
        return NGX_ERROR;
    }

    c = ngx_get_connection(s, w->log);

    if (c == NULL) {
        (void) ngx_close_socket(s);
        return NGX_ERROR;
    }

    ngx_http_ims_delivery.connection = c;

    /* swept at exit, which is how a worker learns of it at once */

    c->idle = 1;
    c->log = w->log;
    c->log_error = NGX_ERROR_ERR;
    c->read->log = w->log;
    c->write->log = w->log;
    c->read->handler = ngx_http_ims_delivery_read_handler;
    c->write->handler = ngx_http_ims_delivery_empty_handler;

    return ngx_handle_read_event(c->read, 0);
}


void
ngx_http_ims_delivery_leave(ngx_http_ims_worker_t *w)
{
    ngx_connection_t  *c;

    c = ngx_http_ims_delivery.connection;

    if (c == NULL) {
        return;
    }

    /* no new senders; those connected are heard until we are gone */

    (void) unlink(ngx_http_ims_delivery.sun.sun_path);

    ngx_post_event(c->read, &ngx_posted_events);
}


void
ngx_http_ims_delivery_exit(ngx_http_ims_worker_t *w)
{
    ngx_queue_t          *q;
    ngx_http_ims_dest_t  *dest;

    if (ngx_http_ims_delivery.connection == NULL) {
        return;
    }

    /* the name first: nobody shall connect to what is about to go */

    (void) unlink(ngx_http_ims_delivery.sun.sun_path);

    ngx_close_connection(ngx_http_ims_delivery.connection);
    ngx_http_ims_delivery.connection = NULL;

    while (!ngx_queue_empty(&ngx_http_ims_delivery.dests)) {
        q = ngx_queue_head(&ngx_http_ims_delivery.dests);
        dest = ngx_queue_data(q, ngx_http_ims_dest_t, queue);

        ngx_http_ims_dest_free(dest);
    }
}


static ngx_int_t
ngx_http_ims_delivery_address(ngx_str_t *dir, uint64_t id,
    struct sockaddr_un *sun)
{
    u_char  *p, *last;

    ngx_memzero(sun, sizeof(struct sockaddr_un));
    sun->sun_family = AF_UNIX;

    last = (u_char *) sun->sun_path + sizeof(sun->sun_path) - 1;
    p = ngx_slprintf((u_char *) sun->sun_path, last, "%V/%016xL.sock", dir,
                     id);

    return p < last ? NGX_OK : NGX_ERROR;
}


/* -- the own socket -------------------------------------------------------- */

static ngx_socket_t
ngx_http_ims_delivery_bind(ngx_http_ims_worker_t *w, struct sockaddr_un *sun)
{
    int           rc;
    mode_t        mask;
    ngx_err_t     err;
    ngx_socket_t  s;

    s = ngx_http_ims_delivery_socket(w->log);

    if (s == (ngx_socket_t) -1) {
        return s;
    }

    mask = umask(0177);
    rc = bind(s, (struct sockaddr *) sun, sizeof(struct sockaddr_un));
    err = ngx_socket_errno;
    (void) umask(mask);

    if (rc == -1) {
        ngx_log_error(NGX_LOG_EMERG, w->log, err,
                      "bind() of worker socket \"%s\" failed", sun->sun_path);
        (void) ngx_close_socket(s);
        return (ngx_socket_t) -1;
    }

    return s;
}


/* room for the largest message; the kernel holds a sender's bytes, not ours */

static ngx_socket_t
ngx_http_ims_delivery_socket(ngx_log_t *log)
{
    int           value;
    ngx_socket_t  s;

    s = ngx_socket(AF_UNIX, SOCK_DGRAM, 0);

    if (s == (ngx_socket_t) -1) {
        ngx_log_error(NGX_LOG_ALERT, log, ngx_socket_errno,
                      ngx_socket_n " for a worker socket failed");
        return s;
    }

    if (ngx_nonblocking(s) == -1) {
        ngx_log_error(NGX_LOG_ALERT, log, ngx_socket_errno,
                      ngx_nonblocking_n " of a worker socket failed");
        (void) ngx_close_socket(s);
        return (ngx_socket_t) -1;
    }

    value = NGX_HTTP_IMS_DELIVERY_SNDBUF;

    if (setsockopt(s, SOL_SOCKET, SO_SNDBUF, (const void *) &value,
                   sizeof(int))
        == -1)
    {
        ngx_log_error(NGX_LOG_WARN, log, ngx_socket_errno,
                      "setsockopt(SO_SNDBUF) of a worker socket failed, "
                      "ignored");
    }

    return s;
}


static void
ngx_http_ims_delivery_read_handler(ngx_event_t *rev)
{
    ngx_uint_t         turns;
    ngx_connection_t  *c;

    c = rev->data;

    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, c->log, 0, "ims delivery read handler");

    /* it closes in exit_process only: the worker is told to finish */

    if (c->close) {
        c->close = 0;
        ngx_http_ims_worker_exiting(ngx_http_ims_worker, c->error);
        c->error = 0;
    }

    rev->ready = 1;

    for (turns = 0; turns < NGX_HTTP_IMS_DELIVERY_TURNS; turns++) {

        switch (ngx_http_ims_delivery_read(c)) {

        case NGX_OK:
            continue;

        case NGX_AGAIN:
            rev->ready = 0;
            (void) ngx_handle_read_event(rev, 0);
            return;

        default: /* NGX_ERROR: of that one call */
            continue;
        }
    }

    ngx_post_event(rev, &ngx_posted_next_events);
}


static ngx_int_t
ngx_http_ims_delivery_read(ngx_connection_t *c)
{
    ssize_t                 n;
    ngx_err_t               err;
    ims_flow_dgram_t        head;
    ims_flow_dgram_rc_t     rc;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    /* the length is that of the datagram even if the buffer is shorter */

    n = recv(c->fd, w->buffer, w->buffer_size, MSG_TRUNC);

    if (n == -1) {
        err = ngx_socket_errno;

        if (err == NGX_EAGAIN) {
            return NGX_AGAIN;
        }

        if (err != NGX_EINTR) {
            ngx_log_error(NGX_LOG_ALERT, c->log, err,
                          "recv() from worker socket failed");
        }

        return NGX_ERROR;
    }

    rc = (size_t) n > w->buffer_size ? IMS_FLOW_DGRAM_BAD_LENGTH
                                     : ims_flow_dgram_decode(w->main->flow_keys,
                                                             w->buffer, n,
                                                             &head);

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, c->log, 0,
                   "ims datagram of %z bytes: %d", n, (int) rc);

    if (rc != IMS_FLOW_DGRAM_OK) {
        ngx_http_ims_count(deliver_bad);
        ngx_log_error(NGX_LOG_WARN, c->log, 0,
                      "datagram of %z bytes dropped: %s", n,
                      rc == IMS_FLOW_DGRAM_BAD_MAC
                      ? "not from a worker with our flow key"
                      : "not of our version");
        return NGX_OK;
    }

    ngx_http_ims_from_worker(&head, (u_char *) head.msg.p, head.msg.n);

    return NGX_OK;
}


static void
ngx_http_ims_delivery_empty_handler(ngx_event_t *ev)
{
    ngx_connection_t  *c;

    c = ev->data;
    c->close = 0;

    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, ev->log, 0,
                   "ims delivery empty handler");
}


/* -- sending --------------------------------------------------------------- */

ngx_int_t
ngx_http_ims_deliver(uint64_t worker_id, ims_flow_dgram_t *head, u_char *data,
    size_t n)
{
    size_t                  size;
    ngx_int_t               rc;
    struct iovec            iov;
    ngx_http_ims_dest_t    *dest;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    iov.iov_base = data;
    iov.iov_len = n;

    size = ims_flow_dgram_encode(w->main->flow_keys, head, &iov, n ? 1 : 0,
                                 ngx_http_ims_delivery.buf,
                                 ngx_http_ims_delivery.size);
    if (size == 0) {
        ngx_log_error(NGX_LOG_ALERT, w->log, 0,
                      "message of %uz bytes does not fit a datagram", n);
        return NGX_BUSY;
    }

    dest = ngx_http_ims_dest_get(worker_id);

    if (dest == NULL) {
        return NGX_BUSY;
    }

    dest->used = ngx_current_msec;

    rc = ngx_http_ims_dest_open(dest);

    if (rc == NGX_OK) {
        rc = dest->out ? NGX_AGAIN
                       : ngx_http_ims_dest_send(dest,
                                                ngx_http_ims_delivery.buf,
                                                size);
    }

    if (rc == NGX_AGAIN) {
        rc = ngx_http_ims_dest_queue(dest, ngx_http_ims_delivery.buf, size);
    }

    if (rc == NGX_DECLINED) {
        ngx_http_ims_count(deliver_dead);
        ngx_http_ims_dest_died(dest);

    } else if (rc != NGX_OK) {
        ngx_http_ims_count(deliver_full);
        rc = NGX_BUSY;
    }

    ngx_http_ims_dest_arm(dest);

    return rc;
}


ngx_uint_t
ngx_http_ims_worker_alive(uint64_t worker_id)
{
    struct sockaddr_un      sun;
    ngx_http_ims_dest_t    *dest;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    if (worker_id == w->id) {
        return 1;
    }

    /* without memory for an answer none is made up: alive is the safe one */

    dest = ngx_http_ims_dest_get(worker_id);

    if (dest == NULL) {
        return 1;
    }

    if (dest->known
        && (dest->dead || ngx_current_msec - dest->tested
                          < NGX_HTTP_IMS_DELIVERY_FRESH))
    {
        return !dest->dead;
    }

    if (ngx_http_ims_delivery_address(&w->main->state_dir, worker_id, &sun)
        != NGX_OK)
    {
        return 1;
    }

    dest->known = 1;
    dest->tested = ngx_current_msec;

    if (ngx_http_ims_delivery_refused(ngx_http_ims_delivery_test(&sun,
                                                                 w->log)))
    {
        ngx_http_ims_dest_died(dest);
    }

    ngx_http_ims_dest_arm(dest);

    return !dest->dead;
}


static ngx_http_ims_dest_t *
ngx_http_ims_dest_get(uint64_t id)
{
    ngx_queue_t          *q;
    ngx_http_ims_dest_t  *dest;

    for (q = ngx_queue_head(&ngx_http_ims_delivery.dests);
         q != ngx_queue_sentinel(&ngx_http_ims_delivery.dests);
         q = ngx_queue_next(q))
    {
        dest = ngx_queue_data(q, ngx_http_ims_dest_t, queue);

        if (dest->id == id) {
            return dest;
        }
    }

    dest = ngx_calloc(sizeof(ngx_http_ims_dest_t), ngx_http_ims_worker->log);
    if (dest == NULL) {
        return NULL;
    }

    dest->id = id;
    dest->ident = -1;
    dest->used = ngx_current_msec;
    dest->out_last = &dest->out;
    dest->timer.handler = ngx_http_ims_dest_timer_handler;
    dest->timer.data = dest;
    dest->timer.log = ngx_http_ims_worker->log;

    ngx_queue_insert_head(&ngx_http_ims_delivery.dests, &dest->queue);

    return dest;
}


/* NGX_OK, NGX_DECLINED: dead, NGX_ERROR: no socket to be had */

static ngx_int_t
ngx_http_ims_dest_open(ngx_http_ims_dest_t *dest)
{
    ngx_err_t               err;
    ngx_socket_t            s;
    ngx_connection_t       *c;
    struct sockaddr_un      sun;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    if (dest->dead) {
        return NGX_DECLINED;
    }

    if (dest->connection) {
        return NGX_OK;
    }

    if (ngx_http_ims_delivery_address(&w->main->state_dir, dest->id, &sun)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    s = ngx_http_ims_delivery_socket(w->log);

    if (s == (ngx_socket_t) -1) {
        return NGX_ERROR;
    }

    if (connect(s, (struct sockaddr *) &sun, sizeof(struct sockaddr_un))
        == -1)
    {
        err = ngx_socket_errno;
        (void) ngx_close_socket(s);

        if (ngx_http_ims_delivery_refused(err)) {
            return NGX_DECLINED;
        }

        ngx_log_error(NGX_LOG_ERR, w->log, err,
                      "connect() to worker socket \"%s\" failed",
                      sun.sun_path);
        return NGX_ERROR;
    }

    c = ngx_get_connection(s, w->log);

    if (c == NULL) {
        (void) ngx_close_socket(s);
        return NGX_ERROR;
    }

    c->data = dest;
    c->log_error = NGX_ERROR_ERR;
    c->read->log = w->log;
    c->write->log = w->log;
    c->read->handler = ngx_http_ims_delivery_empty_handler;
    c->write->handler = ngx_http_ims_delivery_write_handler;
    c->write->ready = 1;

    dest->connection = c;
    dest->progress = ngx_current_msec;

    return NGX_OK;
}


static void
ngx_http_ims_dest_close(ngx_http_ims_dest_t *dest)
{
    if (dest->connection) {
        ngx_close_connection(dest->connection);
        dest->connection = NULL;
    }
}


static void
ngx_http_ims_dest_free(ngx_http_ims_dest_t *dest)
{
    ngx_http_ims_dest_close(dest);
    (void) ngx_http_ims_dest_drop(dest);

    if (dest->timer.timer_set) {
        ngx_del_timer(&dest->timer);
    }

    ngx_queue_remove(&dest->queue);
    ngx_free(dest);
}


static void
ngx_http_ims_dest_died(ngx_http_ims_dest_t *dest)
{
    ngx_uint_t  n;

    n = dest->out ? ngx_http_ims_dest_drop(dest) : 0;

    if (!dest->dead) {
        ngx_log_error(NGX_LOG_NOTICE, ngx_http_ims_worker->log, 0,
                      "worker %016xL is dead, %ui datagrams for it lost",
                      dest->id, n);
    }

    while (n--) {
        ngx_http_ims_count(deliver_dead);
    }

    dest->known = 1;
    dest->dead = 1;
    dest->tested = ngx_current_msec;

    ngx_http_ims_dest_close(dest);
}


/* NGX_OK, NGX_AGAIN, NGX_DECLINED: dead, NGX_ERROR */

static ngx_int_t
ngx_http_ims_dest_send(ngx_http_ims_dest_t *dest, u_char *data, size_t n)
{
    ssize_t            rc;
    ngx_err_t          err;
    ngx_connection_t  *c;

    c = dest->connection;

    do {
        rc = send(c->fd, data, n, MSG_NOSIGNAL);
        err = (rc == -1) ? ngx_socket_errno : 0;
    } while (err == NGX_EINTR);

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, c->log, err,
                   "ims datagram to %016xL: %z of %uz", dest->id, rc, n);

    if (rc >= 0) {
        ngx_http_ims_count(deliver_sent);
        dest->progress = ngx_current_msec;
        return NGX_OK;
    }

    if (err == NGX_EAGAIN || err == ENOBUFS) {
        c->write->ready = 0;

        return ngx_handle_write_event(c->write, 0) == NGX_OK ? NGX_AGAIN
                                                             : NGX_ERROR;
    }

    if (ngx_http_ims_delivery_refused(err)) {
        return NGX_DECLINED;
    }

    ngx_log_error(NGX_LOG_ALERT, c->log, err,
                  "send() of %uz bytes to worker %016xL failed", n, dest->id);

    return NGX_ERROR;
}


static ngx_int_t
ngx_http_ims_dest_queue(ngx_http_ims_dest_t *dest, u_char *data, size_t n)
{
    ngx_http_ims_dgram_t  *out;

    if (dest->out_size + n > NGX_HTTP_IMS_DELIVERY_QUEUE) {
        return NGX_BUSY;
    }

    out = ngx_alloc(sizeof(ngx_http_ims_dgram_t) + n,
                    ngx_http_ims_worker->log);
    if (out == NULL) {
        return NGX_ERROR;
    }

    out->next = NULL;
    out->size = n;
    ngx_memcpy(out->data, data, n);

    *dest->out_last = out;
    dest->out_last = &out->next;
    dest->out_size += n;

    return NGX_OK;
}


static void
ngx_http_ims_delivery_write_handler(ngx_event_t *wev)
{
    ngx_connection_t     *c;
    ngx_http_ims_dest_t  *dest;

    c = wev->data;
    dest = c->data;

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, c->log, 0,
                   "ims delivery write handler, queued:%uz", dest->out_size);

    ngx_http_ims_dest_flush(dest);
    ngx_http_ims_dest_arm(dest);
}


static void
ngx_http_ims_dest_flush(ngx_http_ims_dest_t *dest)
{
    ngx_int_t              rc;
    ngx_http_ims_dgram_t  *out;

    while (dest->out) {
        out = dest->out;

        rc = ngx_http_ims_dest_send(dest, out->data, out->size);

        if (rc == NGX_AGAIN) {
            return;
        }

        if (rc == NGX_DECLINED) {
            ngx_http_ims_dest_died(dest);
            return;
        }

        /* rc == NGX_OK, or NGX_ERROR: that one will never go */

        dest->out = out->next;
        dest->out_size -= out->size;

        if (dest->out == NULL) {
            dest->out_last = &dest->out;
        }

        ngx_free(out);
    }
}


static ngx_uint_t
ngx_http_ims_dest_drop(ngx_http_ims_dest_t *dest)
{
    ngx_uint_t             n;
    ngx_http_ims_dgram_t  *out;

    for (n = 0; dest->out; n++) {
        out = dest->out;
        dest->out = out->next;
        ngx_free(out);
    }

    dest->out_last = &dest->out;
    dest->out_size = 0;

    return n;
}


/* only what waits to be sent holds a worker that is to leave */

static void
ngx_http_ims_dest_arm(ngx_http_ims_dest_t *dest)
{
    ngx_uint_t  cancelable;

    cancelable = (dest->out == NULL);

    if (dest->timer.timer_set) {

        if (dest->timer.cancelable == cancelable) {
            return;
        }

        ngx_del_timer(&dest->timer);
    }

    dest->timer.cancelable = cancelable;

    ngx_add_timer(&dest->timer, cancelable ? NGX_HTTP_IMS_DELIVERY_IDLE
                                           : NGX_HTTP_IMS_DELIVERY_TICK);
}


static void
ngx_http_ims_dest_timer_handler(ngx_event_t *ev)
{
    ngx_uint_t            n;
    ngx_http_ims_dest_t  *dest;

    dest = ev->data;

    if (dest->out == NULL) {

        if (ngx_current_msec - dest->used >= NGX_HTTP_IMS_DELIVERY_IDLE) {
            ngx_http_ims_dest_free(dest);
            return;
        }

        ngx_http_ims_dest_arm(dest);
        return;
    }

    ngx_http_ims_dest_flush(dest);

    if (dest->out
        && ngx_current_msec - dest->progress >= NGX_HTTP_IMS_DELIVERY_STALL)
    {
        n = ngx_http_ims_dest_drop(dest);

        ngx_log_error(NGX_LOG_ERR, ev->log, 0,
                      "worker %016xL takes nothing, %ui datagrams dropped",
                      dest->id, n);

        while (n--) {
            ngx_http_ims_count(deliver_full);
        }
    }

    ngx_http_ims_dest_arm(dest);
}


/* -- who lives ------------------------------------------------------------- */

static ngx_uint_t
ngx_http_ims_delivery_refused(ngx_err_t err)
{
    /*
     * a connected socket says ECONNREFUSED once and ENOTCONN after it;
     * ECONNRESET is a worker that went with our datagrams unread
     */

    return err == NGX_ECONNREFUSED || err == NGX_ENOENT
           || err == NGX_ENOTCONN || err == NGX_ECONNRESET;
}


static ngx_err_t
ngx_http_ims_delivery_test(struct sockaddr_un *sun, ngx_log_t *log)
{
    ngx_err_t     err;
    ngx_socket_t  s;

    s = ngx_socket(AF_UNIX, SOCK_DGRAM, 0);

    if (s == (ngx_socket_t) -1) {
        err = ngx_socket_errno;
        ngx_log_error(NGX_LOG_ALERT, log, err,
                      ngx_socket_n " for a worker socket failed");
        return err;
    }

    err = 0;

    if (connect(s, (struct sockaddr *) sun, sizeof(struct sockaddr_un)) == -1)
    {
        err = ngx_socket_errno;
    }

    (void) ngx_close_socket(s);

    return err;
}


void
ngx_http_ims_delivery_sweep(ngx_cycle_t *cycle, ngx_http_ims_main_conf_t *imcf)
{
    DIR                 *dir;
    uint64_t             id;
    ims_str_t            name;
    struct dirent       *de;
    struct sockaddr_un   sun;

    dir = opendir((const char *) imcf->state_dir.data);

    if (dir == NULL) {
        ngx_log_error(NGX_LOG_WARN, cycle->log, ngx_errno,
                      "opendir() \"%V\" failed, dead worker sockets stay",
                      &imcf->state_dir);
        return;
    }

    while ((de = readdir(dir)) != NULL) {

        name = ims_str_z(de->d_name);

        if (name.n != 16 + sizeof(".sock") - 1
            || ngx_memcmp(name.p + 16, ".sock", sizeof(".sock") - 1) != 0
            || !ims_hex_u64(ims_str_set(name.p, 16), &id)
            || ngx_http_ims_delivery_address(&imcf->state_dir, id, &sun)
               != NGX_OK)
        {
            continue;
        }

        /* somebody listens, or we cannot tell */

        if (ngx_http_ims_delivery_test(&sun, cycle->log) != NGX_ECONNREFUSED) {
            continue;
        }

        ngx_log_error(NGX_LOG_INFO, cycle->log, 0,
                      "socket \"%s\" of a dead worker removed", sun.sun_path);

        if (unlink(sun.sun_path) == -1) {
            ngx_log_error(NGX_LOG_WARN, cycle->log, ngx_errno,
                          ngx_delete_file_n " \"%s\" failed", sun.sun_path);
        }
    }

    (void) closedir(dir);
}
