
/*
 * Copyright (C) nginx-ims contributors
 *
 * RESP to the pool manager over its Unix socket (doc/pool-protocol.md).
 *
 * One connection a worker and role, made when first needed and kept.
 * Commands are pipelined; each waits in one queue for its answer, in order,
 * and the nonce in the answer must be its own.  A caller that gives up only
 * loses its handler: its place in the queue stays until the answer came.
 * Nothing here blocks, and nothing is asked twice: the caller answers 503.
 */

#include "ngx_http_ims.h"

#include <openssl/rand.h>


#define NGX_HTTP_IMS_POOL_CALLS      1024       /* waiting, a connection */
#define NGX_HTTP_IMS_POOL_IOVS       64
#define NGX_HTTP_IMS_POOL_NONCE      32
#define NGX_HTTP_IMS_POOL_TRY        100        /* ms between two connects */
#define NGX_HTTP_IMS_POOL_TRY_MAX    2000


typedef enum {
    NGX_HTTP_IMS_POOL_AUTH = 0,
    NGX_HTTP_IMS_POOL_COMMAND,
    NGX_HTTP_IMS_POOL_PLAIN,            /* without a nonce */
    NGX_HTTP_IMS_POOL_REPORT
} ngx_http_ims_pool_kind_e;


struct ngx_http_ims_pool_call_s {
    ngx_queue_t                   queue;
    ngx_http_ims_pool_client_t   *client;
    ngx_http_ims_pool_answer_pt   handler;      /* NULL: nobody waits */
    void                         *data;
    uint64_t                      asked;        /* BOOTTIME ms */
    uint64_t                      deadline;
    ngx_http_ims_pool_kind_e      kind;
    u_char                        nonce[NGX_HTTP_IMS_POOL_NONCE];
    size_t                        size;
    size_t                        sent;
    u_char                        bytes[];
};


struct ngx_http_ims_pool_client_s {
    /* event ident must be after 3 pointers as in ngx_connection_t */
    ngx_http_ims_worker_t        *worker;
    ngx_connection_t             *connection;   /* NULL: none */
    ngx_str_t                    *secret;
    ngx_socket_t                  ident;

    const char                   *role;

    ngx_queue_t                   calls;
    ngx_uint_t                    ncalls;
    ngx_uint_t                    nwaiting;     /* calls with a handler */

    ngx_event_t                   timer;        /* the nearest deadline */
    ngx_event_t                   retry;
    ngx_msec_t                    backoff;
    ngx_msec_t                    tried;

    u_char                       *in;           /* IMS_REPLY_MAX bytes */
    size_t                        in_pos;
    size_t                        in_last;
    ims_reply_parser_t            parser;
    ims_reply_t                   reply;

    unsigned                      failed:1;     /* the last connect */
    unsigned                      down:1;       /* and the log says so */
    unsigned                      slow:1;       /* likewise */
    unsigned                      refused:1;    /* likewise */
};


static ngx_http_ims_pool_client_t *ngx_http_ims_pool_client(
    ngx_http_ims_worker_t *w, ngx_http_ims_pool_client_t **slot,
    ngx_str_t *secret, const char *role);
static ngx_http_ims_pool_call_t *ngx_http_ims_pool_make(
    ngx_http_ims_pool_client_t *client, const ims_str_t *args,
    ngx_uint_t nargs);
static void ngx_http_ims_pool_push(ngx_http_ims_pool_client_t *client,
    ngx_http_ims_pool_call_t *call);
static void ngx_http_ims_pool_wait(ngx_http_ims_pool_client_t *client,
    ngx_http_ims_pool_call_t *call, ngx_http_ims_pool_answer_pt handler,
    void *data, uint64_t now);

static ngx_int_t ngx_http_ims_pool_connect(
    ngx_http_ims_pool_client_t *client);
static ngx_int_t ngx_http_ims_pool_open(ngx_http_ims_pool_client_t *client);
static ngx_int_t ngx_http_ims_pool_auth(ngx_http_ims_pool_client_t *client);
static void ngx_http_ims_pool_down(ngx_http_ims_pool_client_t *client,
    ngx_err_t err, const char *what);
static void ngx_http_ims_pool_retry(ngx_event_t *ev);
static void ngx_http_ims_pool_close(ngx_http_ims_pool_client_t *client,
    ngx_http_ims_pool_code_e code);

static void ngx_http_ims_pool_write(ngx_event_t *wev);
static ngx_int_t ngx_http_ims_pool_flush(ngx_http_ims_pool_client_t *client,
    ngx_connection_t *c);
static ngx_uint_t ngx_http_ims_pool_gather(ngx_http_ims_pool_client_t *client,
    struct iovec *iov);
static void ngx_http_ims_pool_written(ngx_http_ims_pool_client_t *client,
    size_t n);

static void ngx_http_ims_pool_read(ngx_event_t *rev);
static ngx_int_t ngx_http_ims_pool_replies(
    ngx_http_ims_pool_client_t *client);
static ngx_int_t ngx_http_ims_pool_reply(ngx_http_ims_pool_client_t *client);
static ngx_int_t ngx_http_ims_pool_authenticated(
    ngx_http_ims_pool_client_t *client);
static void ngx_http_ims_pool_mismatch(ngx_http_ims_pool_client_t *client,
    const char *what);
static ngx_int_t ngx_http_ims_pool_answer(ngx_http_ims_pool_client_t *client,
    ngx_http_ims_pool_call_t *call, ngx_http_ims_pool_answer_t *answer);
static void ngx_http_ims_pool_error(ims_str_t line,
    ngx_http_ims_pool_answer_t *answer);
static void ngx_http_ims_pool_finish(ngx_http_ims_pool_client_t *client,
    ngx_http_ims_pool_call_t *call, ngx_http_ims_pool_answer_t *answer);
static void ngx_http_ims_pool_tell(ngx_http_ims_pool_client_t *client,
    ngx_http_ims_pool_call_t *call, ngx_http_ims_pool_answer_t *answer);
static void ngx_http_ims_pool_expire(ngx_event_t *ev);
static void ngx_http_ims_pool_unwait(ngx_http_ims_pool_client_t *client);


static const struct {
    ims_str_t                     word;
    ngx_http_ims_pool_code_e      code;
} ngx_http_ims_pool_errors[] = {
    { ims_str("EXHAUSTED"), NGX_HTTP_IMS_POOL_EXHAUSTED },
    { ims_str("HOLD"), NGX_HTTP_IMS_POOL_HOLD },
    { ims_str("ENDED"), NGX_HTTP_IMS_POOL_ENDED },
    { ims_str("LATE"), NGX_HTTP_IMS_POOL_BUSY },
    { ims_str("BUSY"), NGX_HTTP_IMS_POOL_BUSY },
    { ims_str("UNKNOWN"), NGX_HTTP_IMS_POOL_BUSY }
};


ngx_http_ims_pool_call_t *
ngx_http_ims_pool_call(ngx_http_ims_worker_t *w, const ims_str_t *args,
    ngx_uint_t nargs, ngx_http_ims_pool_answer_pt handler, void *data,
    ngx_http_ims_pool_code_e *code)
{
    u_char                       deadline[NGX_INT64_LEN];
    u_char                       nonce[NGX_HTTP_IMS_POOL_NONCE];
    u_char                       random[NGX_HTTP_IMS_POOL_NONCE / 2];
    uint64_t                     now;
    ims_str_t                    all[NGX_HTTP_IMS_POOL_ARGS + 2];
    ngx_http_ims_pool_call_t    *call;
    ngx_http_ims_pool_client_t  *client;

    *code = NGX_HTTP_IMS_POOL_AWAY;

    client = ngx_http_ims_pool_client(w, &w->wwsf, &w->main->wwsf_secret,
                                      "wwsf");

    if (client == NULL || ngx_http_ims_pool_connect(client) != NGX_OK) {
        return NULL;
    }

    *code = NGX_HTTP_IMS_POOL_BUSY;

    if (client->ncalls >= NGX_HTTP_IMS_POOL_CALLS
        || nargs > NGX_HTTP_IMS_POOL_ARGS
        || RAND_bytes(random, sizeof(random)) != 1)
    {
        return NULL;
    }

    now = ims_boottime_ms();

    ims_hex_encode(nonce, random, sizeof(random));

    ngx_memcpy(all, args, nargs * sizeof(ims_str_t));
    all[nargs] = ims_str_set(nonce, sizeof(nonce));
    all[nargs + 1] = ims_str_range(deadline,
                                   ngx_sprintf(deadline, "%uL",
                                               now + w->main->pool_timeout));

    call = ngx_http_ims_pool_make(client, all, nargs + 2);
    if (call == NULL) {
        return NULL;
    }

    ngx_memcpy(call->nonce, nonce, sizeof(nonce));

    call->kind = NGX_HTTP_IMS_POOL_COMMAND;

    ngx_http_ims_pool_wait(client, call, handler, data, now);

    *code = NGX_HTTP_IMS_POOL_OK;

    return call;
}


ngx_http_ims_pool_call_t *
ngx_http_ims_pool_edge(ngx_http_ims_worker_t *w, const ims_str_t *args,
    ngx_uint_t nargs, ngx_http_ims_pool_answer_pt handler, void *data)
{
    ngx_http_ims_pool_call_t    *call;
    ngx_http_ims_pool_client_t  *client;

    client = ngx_http_ims_pool_client(w, &w->edge, &w->main->edge_secret,
                                      "edge");

    if (client == NULL
        || client->ncalls >= NGX_HTTP_IMS_POOL_CALLS
        || ngx_http_ims_pool_connect(client) != NGX_OK)
    {
        return NULL;
    }

    call = ngx_http_ims_pool_make(client, args, nargs);
    if (call == NULL) {
        return NULL;
    }

    call->kind = NGX_HTTP_IMS_POOL_PLAIN;

    ngx_http_ims_pool_wait(client, call, handler, data, ims_boottime_ms());

    return call;
}


void
ngx_http_ims_pool_cancel(ngx_http_ims_pool_call_t *call)
{
    if (call->handler) {
        call->handler = NULL;
        ngx_http_ims_pool_unwait(call->client);
    }
}


void
ngx_http_ims_pool_report(ngx_http_ims_worker_t *w, uint64_t ident,
    uint64_t lease, uint64_t flow, uint64_t until)
{
    u_char                       l[2 * 16 + 1], e[NGX_INT64_LEN],
                                 f[NGX_INT64_LEN], u[NGX_INT64_LEN];
    ims_str_t                    args[5];
    ngx_http_ims_pool_call_t    *call;
    ngx_http_ims_pool_client_t  *client;

    if (w->main->pool_socket.len == 0 || w->main->edge_secret.len == 0) {
        return;
    }

    client = ngx_http_ims_pool_client(w, &w->edge, &w->main->edge_secret,
                                      "edge");

    if (client == NULL
        || client->ncalls >= NGX_HTTP_IMS_POOL_CALLS
        || ngx_http_ims_pool_connect(client) != NGX_OK)
    {
        return;
    }

    args[0] = IMS_STR("REPORT");
    args[1] = ims_str_range(l, ngx_sprintf(l, "%016xL-%016xL", ident, lease));
    args[2] = ims_str_range(e, ngx_sprintf(e, "%ui", w->main->node));
    args[3] = ims_str_range(f, ngx_sprintf(f, "%xL", flow));
    args[4] = ims_str_range(u, ngx_sprintf(u, "%uL", until));

    call = ngx_http_ims_pool_make(client, args, 5);
    if (call == NULL) {
        return;
    }

    call->kind = NGX_HTTP_IMS_POOL_REPORT;

    ngx_http_ims_pool_push(client, call);
}


ngx_uint_t
ngx_http_ims_pool_client_up(ngx_http_ims_worker_t *w)
{
    return w->wwsf && w->wwsf->connection;
}


ngx_int_t
ngx_http_ims_pool_client_init(ngx_http_ims_worker_t *w)
{
    w->wwsf = NULL;
    w->edge = NULL;

    return NGX_OK;
}


void
ngx_http_ims_pool_client_exit(ngx_http_ims_worker_t *w)
{
    ngx_uint_t                    i;
    ngx_queue_t                  *q;
    ngx_http_ims_pool_client_t  **client;

    client = &w->wwsf;

    for (i = 0; i < 2; i++, client = &w->edge) {
        if (*client == NULL) {
            continue;
        }

        /* requests that the process takes with it are not answered any more */

        for (q = ngx_queue_head(&(*client)->calls);
             q != ngx_queue_sentinel(&(*client)->calls);
             q = ngx_queue_next(q))
        {
            ngx_http_ims_pool_cancel(ngx_queue_data(q,
                                            ngx_http_ims_pool_call_t, queue));
        }

        ngx_http_ims_pool_close(*client, NGX_HTTP_IMS_POOL_AWAY);

        if ((*client)->retry.timer_set) {
            ngx_del_timer(&(*client)->retry);
        }
    }
}


static ngx_http_ims_pool_client_t *
ngx_http_ims_pool_client(ngx_http_ims_worker_t *w,
    ngx_http_ims_pool_client_t **slot, ngx_str_t *secret, const char *role)
{
    ngx_http_ims_pool_client_t  *client;

    if (*slot) {
        return *slot;
    }

    client = ngx_pcalloc(w->cycle->pool, sizeof(ngx_http_ims_pool_client_t));
    if (client == NULL) {
        return NULL;
    }

    client->in = ngx_palloc(w->cycle->pool, IMS_REPLY_MAX);
    if (client->in == NULL) {
        return NULL;
    }

    client->worker = w;
    client->secret = secret;
    client->role = role;
    client->ident = (ngx_socket_t) -1;
    client->backoff = NGX_HTTP_IMS_POOL_TRY;

    ngx_queue_init(&client->calls);

    client->timer.handler = ngx_http_ims_pool_expire;
    client->timer.data = client;
    client->timer.log = w->log;

    client->retry.handler = ngx_http_ims_pool_retry;
    client->retry.data = client;
    client->retry.log = w->log;
    client->retry.cancelable = 1;

    *slot = client;

    return client;
}


/* malloc'd: a call outlives the request that made it */

static ngx_http_ims_pool_call_t *
ngx_http_ims_pool_make(ngx_http_ims_pool_client_t *client,
    const ims_str_t *args, ngx_uint_t nargs)
{
    size_t                     size;
    ngx_http_ims_pool_call_t  *call;

    size = ims_command_len(args, nargs);

    call = ngx_alloc(sizeof(ngx_http_ims_pool_call_t) + size,
                     client->worker->log);
    if (call == NULL) {
        return NULL;
    }

    ngx_memzero(call, sizeof(ngx_http_ims_pool_call_t));

    (void) ims_command_write(call->bytes, args, nargs);

    call->client = client;
    call->size = size;

    return call;
}


/* written at the end of this turn of the loop, together with its neighbours */

static void
ngx_http_ims_pool_push(ngx_http_ims_pool_client_t *client,
    ngx_http_ims_pool_call_t *call)
{
    ngx_queue_insert_tail(&client->calls, &call->queue);
    client->ncalls++;

    ngx_post_event(client->connection->write, &ngx_posted_events);
}


static void
ngx_http_ims_pool_wait(ngx_http_ims_pool_client_t *client,
    ngx_http_ims_pool_call_t *call, ngx_http_ims_pool_answer_pt handler,
    void *data, uint64_t now)
{
    ngx_msec_t  timeout;

    timeout = client->worker->main->pool_timeout;

    call->handler = handler;
    call->data = data;
    call->asked = now;
    call->deadline = now + timeout;

    client->nwaiting++;

    /* requests wait without timers of their own: this one keeps the worker */

    if (!client->timer.timer_set) {
        ngx_add_timer(&client->timer, timeout);
    }

    ngx_http_ims_pool_push(client, call);
}


/*
 * A connection, made now if there is none: on a Unix socket that takes no
 * waiting.  After a failure the next try is not before 100 ms; requests in
 * between fail at once.
 */

static ngx_int_t
ngx_http_ims_pool_connect(ngx_http_ims_pool_client_t *client)
{
    if (client->connection) {
        return NGX_OK;
    }

    if (client->failed
        && ngx_current_msec - client->tried < NGX_HTTP_IMS_POOL_TRY)
    {
        return NGX_ERROR;
    }

    client->failed = 1;
    client->tried = ngx_current_msec;

    if (ngx_http_ims_pool_open(client) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_http_ims_pool_auth(client) != NGX_OK) {
        ngx_http_ims_pool_close(client, NGX_HTTP_IMS_POOL_AWAY);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_ims_pool_open(ngx_http_ims_pool_client_t *client)
{
    ngx_err_t            err;
    ngx_log_t           *log;
    ngx_str_t           *path;
    ngx_int_t            event;
    ngx_socket_t         s;
    ngx_connection_t    *c;
    struct sockaddr_un   sun;

    log = client->worker->log;
    path = &client->worker->main->pool_socket;

    s = ngx_socket(AF_UNIX, SOCK_STREAM, 0);

    if (s == (ngx_socket_t) -1) {
        ngx_http_ims_pool_down(client, ngx_socket_errno, "socket() failed");
        return NGX_ERROR;
    }

    ngx_memzero(&sun, sizeof(struct sockaddr_un));
    sun.sun_family = AF_UNIX;
    ngx_memcpy(sun.sun_path, path->data, path->len);

    if (ngx_nonblocking(s) == -1
        || fcntl(s, F_SETFD, FD_CLOEXEC) == -1
        || connect(s, (struct sockaddr *) &sun, sizeof(struct sockaddr_un))
           == -1)
    {
        err = ngx_socket_errno;
        (void) ngx_close_socket(s);

        ngx_http_ims_pool_down(client, err,
            err == NGX_EACCES ? "connect() failed: nginx's user must be a "
                                "member of the socket's group"
                              : "connect() failed");
        return NGX_ERROR;
    }

    c = ngx_get_connection(s, log);

    if (c == NULL) {
        (void) ngx_close_socket(s);
        ngx_http_ims_pool_down(client, 0, "no free worker_connections");
        return NGX_ERROR;
    }

    c->data = client;
    c->log_error = NGX_ERROR_ERR;
    c->recv = ngx_recv;
    c->idle = 1;
    c->read->log = log;
    c->write->log = log;
    c->read->handler = ngx_http_ims_pool_read;
    c->write->handler = ngx_http_ims_pool_write;
    c->number = ngx_atomic_fetch_add(ngx_connection_counter, 1);

    client->connection = c;

    if (ngx_add_conn) {
        if (ngx_add_conn(c) == NGX_OK) {
            c->write->ready = 1;
            return NGX_OK;
        }

    } else {
        event = (ngx_event_flags & NGX_USE_CLEAR_EVENT) ? NGX_CLEAR_EVENT
                                                        : NGX_LEVEL_EVENT;

        if (ngx_add_event(c->read, NGX_READ_EVENT, event) == NGX_OK) {
            c->write->ready = 1;
            return NGX_OK;
        }
    }

    ngx_http_ims_pool_close(client, NGX_HTTP_IMS_POOL_AWAY);
    ngx_http_ims_pool_down(client, 0, "no event for its socket");

    return NGX_ERROR;
}


static ngx_int_t
ngx_http_ims_pool_auth(ngx_http_ims_pool_client_t *client)
{
    ims_str_t                  args[2];
    ngx_http_ims_pool_call_t  *call;

    args[0] = IMS_STR("AUTH");
    args[1] = ngx_http_ims_str(client->secret);

    call = ngx_http_ims_pool_make(client, args, 2);
    if (call == NULL) {
        return NGX_ERROR;
    }

    call->kind = NGX_HTTP_IMS_POOL_AUTH;

    ngx_http_ims_pool_push(client, call);

    return NGX_OK;
}


/* one line an outage, not one a request */

static void
ngx_http_ims_pool_down(ngx_http_ims_pool_client_t *client, ngx_err_t err,
    const char *what)
{
    if (!client->down) {
        ngx_log_error(NGX_LOG_ERR, client->worker->log, err,
                      "pool manager at \"%V\" is away (%s): %s",
                      &client->worker->main->pool_socket, client->role, what);
        client->down = 1;
    }

    if (client->retry.timer_set || ngx_exiting || ngx_terminate || ngx_quit) {
        return;
    }

    ngx_add_timer(&client->retry, client->backoff);

    client->backoff = ngx_min(client->backoff * 2, NGX_HTTP_IMS_POOL_TRY_MAX);
}


static void
ngx_http_ims_pool_retry(ngx_event_t *ev)
{
    ngx_http_ims_pool_client_t  *client = ev->data;

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, ev->log, 0,
                   "ims pool manager: connecting again (%s)", client->role);

    if (client->connection || ngx_exiting) {
        return;
    }

    client->failed = 0;

    (void) ngx_http_ims_pool_connect(client);
}


/* the connection is of no further use; all that wait on it are told */

static void
ngx_http_ims_pool_close(ngx_http_ims_pool_client_t *client,
    ngx_http_ims_pool_code_e code)
{
    ngx_queue_t                  calls, *q;
    ngx_http_ims_pool_call_t    *call;
    ngx_http_ims_pool_answer_t   answer;

    if (client->connection) {
        ngx_close_connection(client->connection);
        client->connection = NULL;
    }

    client->in_pos = 0;
    client->in_last = 0;
    ims_reply_reset(&client->parser);

    if (ngx_queue_empty(&client->calls)) {
        return;
    }

    /* a handler may make the first call on a new connection */

    ngx_queue_init(&calls);
    ngx_queue_add(&calls, &client->calls);
    ngx_queue_init(&client->calls);
    client->ncalls = 0;

    while (!ngx_queue_empty(&calls)) {
        q = ngx_queue_head(&calls);
        ngx_queue_remove(q);
        call = ngx_queue_data(q, ngx_http_ims_pool_call_t, queue);

        ngx_memzero(&answer, sizeof(ngx_http_ims_pool_answer_t));
        answer.code = code;

        ngx_http_ims_pool_tell(client, call, &answer);
        ngx_free(call);
    }
}


static void
ngx_http_ims_pool_write(ngx_event_t *wev)
{
    ngx_connection_t            *c;
    ngx_http_ims_pool_client_t  *client;

    c = wev->data;
    client = c->data;

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, wev->log, 0,
                   "ims pool manager: write handler (%s)", client->role);

    if (wev->ready && ngx_http_ims_pool_flush(client, c) != NGX_OK) {

        /* what it answered before it went can still be read */

        ngx_http_ims_pool_read(c->read);

        if (client->connection == c) {
            ngx_http_ims_pool_down(client, 0, "writing failed");
            ngx_http_ims_pool_close(client, NGX_HTTP_IMS_POOL_AWAY);
        }

        return;
    }

    if (ngx_handle_write_event(wev, 0) != NGX_OK) {
        ngx_http_ims_pool_down(client, 0, "no event for its socket");
        ngx_http_ims_pool_close(client, NGX_HTTP_IMS_POOL_AWAY);
    }
}


static ngx_int_t
ngx_http_ims_pool_flush(ngx_http_ims_pool_client_t *client,
    ngx_connection_t *c)
{
    ssize_t       n;
    ngx_err_t     err;
    ngx_uint_t    niov;
    struct iovec  iov[NGX_HTTP_IMS_POOL_IOVS];

    for ( ;; ) {
        niov = ngx_http_ims_pool_gather(client, iov);

        if (niov == 0) {
            return NGX_OK;
        }

        n = writev(c->fd, iov, niov);

        if (n == -1) {
            err = ngx_socket_errno;

            if (err == NGX_EINTR) {
                continue;
            }

            if (err == NGX_EAGAIN) {
                c->write->ready = 0;
                return NGX_OK;
            }

            ngx_log_debug0(NGX_LOG_DEBUG_HTTP, c->log, err,
                           "ims pool manager: writev() failed");
            return NGX_ERROR;
        }

        ngx_http_ims_pool_written(client, n);
    }
}


/*
 * The unwritten calls are at the tail.  Walked from there, so that the cost
 * is of what is to be written, not of what waits for answers.
 */

static ngx_uint_t
ngx_http_ims_pool_gather(ngx_http_ims_pool_client_t *client,
    struct iovec *iov)
{
    ngx_uint_t                 n;
    ngx_queue_t               *q;
    ngx_http_ims_pool_call_t  *call;

    for (q = ngx_queue_last(&client->calls);
         q != ngx_queue_sentinel(&client->calls);
         q = ngx_queue_prev(q))
    {
        call = ngx_queue_data(q, ngx_http_ims_pool_call_t, queue);

        if (call->sent == call->size) {
            break;
        }
    }

    for (n = 0, q = ngx_queue_next(q);
         n < NGX_HTTP_IMS_POOL_IOVS
         && q != ngx_queue_sentinel(&client->calls);
         n++, q = ngx_queue_next(q))
    {
        call = ngx_queue_data(q, ngx_http_ims_pool_call_t, queue);

        iov[n].iov_base = call->bytes + call->sent;
        iov[n].iov_len = call->size - call->sent;
    }

    return n;
}


static void
ngx_http_ims_pool_written(ngx_http_ims_pool_client_t *client, size_t n)
{
    size_t                     size;
    ngx_queue_t               *q;
    ngx_http_ims_pool_call_t  *call;

    for (q = ngx_queue_head(&client->calls);
         n && q != ngx_queue_sentinel(&client->calls);
         q = ngx_queue_next(q))
    {
        call = ngx_queue_data(q, ngx_http_ims_pool_call_t, queue);

        size = ngx_min(n, call->size - call->sent);
        call->sent += size;
        n -= size;
    }
}


static void
ngx_http_ims_pool_read(ngx_event_t *rev)
{
    ssize_t                      n;
    ngx_connection_t            *c;
    ngx_http_ims_pool_client_t  *client;

    c = rev->data;
    client = c->data;

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, rev->log, 0,
                   "ims pool manager: read handler (%s)", client->role);

    if (c->close) {
        c->close = 0;

        /* the worker leaves: an idle connection at once, others when served */

        if (c->error || client->nwaiting == 0) {
            ngx_http_ims_pool_close(client, NGX_HTTP_IMS_POOL_AWAY);
            return;
        }
    }

    while (rev->ready) {
        n = c->recv(c, client->in + client->in_last,
                    IMS_REPLY_MAX - client->in_last);

        if (n == NGX_AGAIN) {
            break;
        }

        if (n == NGX_ERROR || n == 0) {
            ngx_http_ims_pool_down(client, 0, "connection lost");
            ngx_http_ims_pool_close(client, NGX_HTTP_IMS_POOL_AWAY);
            return;
        }

        client->in_last += n;

        if (ngx_http_ims_pool_replies(client) != NGX_OK) {
            return;
        }
    }

    if (ngx_exiting && client->nwaiting == 0) {
        ngx_http_ims_pool_close(client, NGX_HTTP_IMS_POOL_AWAY);
        return;
    }

    if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        ngx_http_ims_pool_down(client, 0, "no event for its socket");
        ngx_http_ims_pool_close(client, NGX_HTTP_IMS_POOL_AWAY);
    }
}


/* NGX_ERROR: the connection is closed */

static ngx_int_t
ngx_http_ims_pool_replies(ngx_http_ims_pool_client_t *client)
{
    ptrdiff_t  n;

    while (client->in_pos < client->in_last) {
        n = ims_reply_parse(&client->parser, client->in + client->in_pos,
                            client->in_last - client->in_pos, &client->reply);

        if (n == 0) {
            break;
        }

        if (n == -1) {
            ngx_http_ims_pool_mismatch(client, "it sent what is no reply");
            return NGX_ERROR;
        }

        client->in_pos += n;
        ims_reply_reset(&client->parser);

        if (ngx_http_ims_pool_reply(client) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    if (client->in_pos) {
        client->in_last -= client->in_pos;
        ngx_memmove(client->in, client->in + client->in_pos, client->in_last);
        client->in_pos = 0;
    }

    return NGX_OK;
}


/* one reply for the call at the queue's head */

static ngx_int_t
ngx_http_ims_pool_reply(ngx_http_ims_pool_client_t *client)
{
    ngx_queue_t                 *q;
    ngx_http_ims_pool_call_t    *call;
    ngx_http_ims_pool_answer_t   answer;

    q = ngx_queue_head(&client->calls);
    call = ngx_queue_data(q, ngx_http_ims_pool_call_t, queue);

    if (ngx_queue_empty(&client->calls) || call->sent < call->size) {
        ngx_http_ims_pool_mismatch(client, "it answered what was not asked");
        return NGX_ERROR;
    }

    client->slow = 0;

    ngx_memzero(&answer, sizeof(ngx_http_ims_pool_answer_t));

    if (ngx_http_ims_pool_answer(client, call, &answer) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_http_ims_pool_finish(client, call, &answer);

    return NGX_OK;
}


/* NGX_ERROR: the connection is closed, the call gone with it */

static ngx_int_t
ngx_http_ims_pool_answer(ngx_http_ims_pool_client_t *client,
    ngx_http_ims_pool_call_t *call, ngx_http_ims_pool_answer_t *answer)
{
    u_char      text[NGX_HTTP_IMS_LOG_TEXT];
    ngx_str_t   line;
    ims_str_t   nonce;

    if (call->kind == NGX_HTTP_IMS_POOL_AUTH) {
        return ngx_http_ims_pool_authenticated(client);
    }

    if (client->reply.type == '-') {
        ngx_http_ims_pool_error(client->reply.text, answer);

        if (call->kind == NGX_HTTP_IMS_POOL_REPORT) {
            line.data = (u_char *) client->reply.text.p;
            line.len = client->reply.text.n;
            ngx_log_error(NGX_LOG_WARN, client->worker->log, 0,
                          "pool manager refused a report: \"%s\"",
                          ngx_http_ims_log_text(text, &line));
        }

        return NGX_OK;
    }

    if (call->kind == NGX_HTTP_IMS_POOL_REPORT) {
        return NGX_OK;
    }

    if (call->kind == NGX_HTTP_IMS_POOL_PLAIN) {
        answer->reply = &client->reply;
        return NGX_OK;
    }

    nonce = ims_reply_value(&client->reply, "nonce", 0);

    if (nonce.n != NGX_HTTP_IMS_POOL_NONCE
        || !ims_equal_ct(nonce.p, call->nonce, NGX_HTTP_IMS_POOL_NONCE))
    {
        ngx_http_ims_pool_mismatch(client, "an answer has another's nonce");
        return NGX_ERROR;
    }

    answer->code = NGX_HTTP_IMS_POOL_OK;
    answer->reply = &client->reply;

    return NGX_OK;
}


static ngx_int_t
ngx_http_ims_pool_authenticated(ngx_http_ims_pool_client_t *client)
{
    if (client->reply.type != '+') {

        /* worth a line of its own: waiting will not cure it */

        if (!client->refused) {
            ngx_log_error(NGX_LOG_ERR, client->worker->log, 0,
                          "pool manager at \"%V\" does not know our secret "
                          "(%s)", &client->worker->main->pool_socket,
                          client->role);
            client->refused = 1;
        }

        ngx_http_ims_pool_down(client, 0, "not authorized");
        ngx_http_ims_pool_close(client, NGX_HTTP_IMS_POOL_AWAY);
        return NGX_ERROR;
    }

    if (client->down) {
        ngx_log_error(NGX_LOG_NOTICE, client->worker->log, 0,
                      "pool manager at \"%V\" is back (%s)",
                      &client->worker->main->pool_socket, client->role);
        client->down = 0;
    }

    client->failed = 0;
    client->refused = 0;
    client->backoff = NGX_HTTP_IMS_POOL_TRY;

    if (client->retry.timer_set) {
        ngx_del_timer(&client->retry);
    }

    return NGX_OK;
}


/*
 * Answers are out of step: any of them could be signed for the wrong user.
 * None that waits on this connection is believed any more.
 */

static void
ngx_http_ims_pool_mismatch(ngx_http_ims_pool_client_t *client,
    const char *what)
{
    ngx_http_ims_count(identity_mismatch);

    ngx_log_error(NGX_LOG_ALERT, client->worker->log, 0,
                  "pool manager at \"%V\" is out of step (%s): %s",
                  &client->worker->main->pool_socket, client->role, what);

    ngx_http_ims_pool_close(client, NGX_HTTP_IMS_POOL_MISMATCH);
}


/* "-WORD" or "-WORD seconds" */

static void
ngx_http_ims_pool_error(ims_str_t line, ngx_http_ims_pool_answer_t *answer)
{
    ims_str_t       word;
    ngx_uint_t      i;
    const uint8_t  *sp;

    answer->code = NGX_HTTP_IMS_POOL_REFUSED;
    answer->error = line;

    word = line;
    sp = memchr(line.p, ' ', line.n);

    if (sp) {
        word.n = sp - line.p;
        (void) ims_str_u64(ims_str_range(sp + 1, line.p + line.n), 86400 * 365,
                           &answer->retry_after);
    }

    for (i = 0;
         i < sizeof(ngx_http_ims_pool_errors)
             / sizeof(ngx_http_ims_pool_errors[0]);
         i++)
    {
        if (ims_str_eq(word, ngx_http_ims_pool_errors[i].word)) {
            answer->code = ngx_http_ims_pool_errors[i].code;
            return;
        }
    }
}


static void
ngx_http_ims_pool_finish(ngx_http_ims_pool_client_t *client,
    ngx_http_ims_pool_call_t *call, ngx_http_ims_pool_answer_t *answer)
{
    ngx_queue_remove(&call->queue);
    client->ncalls--;

    ngx_http_ims_pool_tell(client, call, answer);

    ngx_free(call);
}


static void
ngx_http_ims_pool_tell(ngx_http_ims_pool_client_t *client,
    ngx_http_ims_pool_call_t *call, ngx_http_ims_pool_answer_t *answer)
{
    ngx_http_ims_pool_answer_pt  handler;

    handler = call->handler;

    if (handler == NULL) {
        return;
    }

    call->handler = NULL;
    ngx_http_ims_pool_unwait(client);

    answer->asked = call->asked;

    handler(call->data, answer);
}


static void
ngx_http_ims_pool_expire(ngx_event_t *ev)
{
    ngx_http_ims_pool_client_t  *client = ev->data;

    uint64_t                     now;
    ngx_queue_t                 *q;
    ngx_http_ims_pool_call_t    *call;
    ngx_http_ims_pool_answer_t   answer;

    now = ims_boottime_ms();

    /* no handler removes a call: these only end by answers or a close */

    for (q = ngx_queue_head(&client->calls);
         q != ngx_queue_sentinel(&client->calls);
         q = ngx_queue_next(q))
    {
        call = ngx_queue_data(q, ngx_http_ims_pool_call_t, queue);

        if (call->handler == NULL) {
            continue;
        }

        if (call->deadline > now) {
            ngx_add_timer(ev, (ngx_msec_t) (call->deadline - now));
            return;
        }

        if (!client->slow) {
            ngx_log_error(NGX_LOG_ERR, client->worker->log, 0,
                          "pool manager at \"%V\" does not answer (%s)",
                          &client->worker->main->pool_socket, client->role);
            client->slow = 1;
        }

        ngx_memzero(&answer, sizeof(ngx_http_ims_pool_answer_t));
        answer.code = NGX_HTTP_IMS_POOL_TIMEOUT;

        ngx_http_ims_pool_tell(client, call, &answer);
    }
}


/* one handler fewer; without any, nothing may keep a leaving worker */

static void
ngx_http_ims_pool_unwait(ngx_http_ims_pool_client_t *client)
{
    client->nwaiting--;

    if (client->nwaiting == 0 && client->timer.timer_set) {
        ngx_del_timer(&client->timer);
    }
}
