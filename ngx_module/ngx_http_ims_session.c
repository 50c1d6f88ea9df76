
/*
 * Copyright (C) nginx-ims contributors
 *
 * A session: one WebSocket after its handshake.  Reads frames, writes frames,
 * pings, closes.  What a SIP message means is the business of
 * ngx_http_ims_dispatch.c.
 *
 * The per-worker read buffer is shared by all sessions and links, so nothing
 * that could read or destroy another session is called while it is in use:
 * closes are posted.
 */

#include "ngx_http_ims.h"


#define NGX_HTTP_IMS_READ_TURNS   16
#define NGX_HTTP_IMS_LINGER       2000    /* ms for the peer's Close */
#define NGX_HTTP_IMS_SEND_STALL   30000   /* ms without any progress */


static void ngx_http_ims_session_start(ngx_event_t *ev);
static void ngx_http_ims_session_free_request(ngx_connection_t *c,
    ngx_http_request_t *r);
static void ngx_http_ims_session_free_http(ngx_connection_t *c,
    ngx_http_connection_t *hc);
static void ngx_http_ims_session_wait(ngx_event_t *ev);
static void ngx_http_ims_session_read(ngx_event_t *rev);
static ngx_int_t ngx_http_ims_session_recv(ngx_http_ims_session_t *s);
static void ngx_http_ims_session_decode(ngx_http_ims_session_t *s, u_char *p,
    u_char *end);
static void ngx_http_ims_session_message(ngx_http_ims_session_t *s,
    ims_ws_event_t *ev);
static void ngx_http_ims_session_error(ngx_http_ims_session_t *s,
    ims_ws_event_t *ev);
static void ngx_http_ims_session_timer(ngx_http_ims_session_t *s);
static void ngx_http_ims_session_arm(ngx_http_ims_session_t *s);
static void ngx_http_ims_session_write(ngx_event_t *wev);
static ngx_int_t ngx_http_ims_session_flush(ngx_http_ims_session_t *s);
static ngx_int_t ngx_http_ims_session_queue(ngx_http_ims_session_t *s,
    ngx_uint_t opcode, u_char *data, size_t n);
static void ngx_http_ims_session_closing(ngx_event_t *ev);
static void ngx_http_ims_session_end(ngx_http_ims_session_t *s);


/*
 * Made before the 101 is sent, so that a lack of memory is still an HTTP
 * answer.  The session takes over what the phases found out, in memory of its
 * own.
 */

ngx_http_ims_session_t *
ngx_http_ims_session_create(ngx_http_request_t *r, ngx_http_ims_ctx_t *ctx,
    ngx_http_ims_loc_conf_t *ilcf)
{
    size_t                   n;
    ngx_http_ims_worker_t   *w;
    ngx_http_ims_session_t  *s;

    w = ngx_http_ims_worker;

    /* frames may have come together with the handshake */

    n = r->header_in->last - r->header_in->pos;

    s = ngx_calloc(sizeof(ngx_http_ims_session_t) + ctx->origin.len + n,
                   r->connection->log);
    if (s == NULL) {
        return NULL;
    }

    s->limit = ngx_http_ims_limit_take(r->connection);
    if (s->limit == NULL) {
        ngx_free(s);
        return NULL;
    }

    s->connection = r->connection;
    s->main = w->main;
    s->conf = ilcf;
    s->slot = NGX_HTTP_IMS_NO_SLOT;
    s->out_last = &s->out;
    s->opened = ngx_current_msec;
    s->text = 1;
#if (NGX_HTTP_SSL)
    s->secure = r->connection->ssl != NULL;
#endif

    s->origin.data = (u_char *) &s[1];
    s->origin.len = ctx->origin.len;
    ngx_memcpy(s->origin.data, ctx->origin.data, ctx->origin.len);

    s->early.data = s->origin.data + s->origin.len;
    s->early.len = n;
    ngx_memcpy(s->early.data, r->header_in->pos, n);

    if (ctx->token_good) {
        s->grant = ims_reg_grant_new(ctx->claims, ngx_http_ims_str(&ctx->token),
                                     ctx->issuer);
        if (s->grant == NULL) {
            ngx_http_ims_limit_give(s->limit);
            ngx_free(s);
            return NULL;
        }
    }

    do {
        s->serial = ++w->serial;
    } while (s->serial == 0);

    ims_ws_init(&s->ws, w->main->max_message);
    ngx_queue_init(&s->ident_queue);

    s->close_event.handler = ngx_http_ims_session_closing;
    s->close_event.data = s;
    s->close_event.log = r->connection->log;

    ngx_queue_insert_tail(&w->sessions, &s->queue);
    w->nsessions++;

    return s;
}


/* for a session that never started */

void
ngx_http_ims_session_destroy(ngx_http_ims_session_t *s)
{
    ngx_queue_remove(&s->queue);
    ngx_http_ims_worker->nsessions--;

    ims_reg_grant_free(s->grant);
    ngx_http_ims_limit_give(s->limit);
    ngx_free(s);
}


/*
 * The content handler's caller still uses the request: until the posted event
 * runs, whatever happens to the connection is only noted.
 */

void
ngx_http_ims_session_takeover(ngx_http_ims_session_t *s,
    ngx_http_request_t *r)
{
    s->request = r;

    r->read_event_handler = ngx_http_block_reading;
    r->write_event_handler = ngx_http_request_empty_handler;

    s->connection->read->handler = ngx_http_ims_session_wait;
    s->connection->write->handler = ngx_http_ims_session_wait;

    s->close_event.handler = ngx_http_ims_session_start;
    ngx_post_event(&s->close_event, &ngx_posted_events);
}


static void
ngx_http_ims_session_wait(ngx_event_t *ev)
{
    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, ev->log, 0, "ims session wait");
}


/*
 * From here on there is no request: it is freed, with the buffers of header
 * and TLS, as ngx_http_set_keepalive() does, and the access log has its line.
 */

static void
ngx_http_ims_session_start(ngx_event_t *ev)
{
    ngx_connection_t        *c;
    ngx_http_request_t      *r;
    ngx_http_connection_t   *hc;
    ngx_http_ims_session_t  *s;

    s = ev->data;
    c = s->connection;
    r = s->request;
    hc = r->http_connection;

    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, c->log, 0, "ims session start");

    s->request = NULL;
    s->close_event.handler = ngx_http_ims_session_closing;

    ngx_http_ims_session_free_request(c, r);

    ngx_http_ims_session_free_http(c, hc);

    c->data = s;
    c->sent = 0;
    c->destroyed = 0;
    c->log->action = "serving SIP over WebSocket";

    c->read->handler = ngx_http_ims_session_read;
    c->write->handler = ngx_http_ims_session_write;

    if (c->read->timer_set) {
        ngx_del_timer(c->read);
    }

    if (c->write->timer_set) {
        ngx_del_timer(c->write);
    }

    ngx_log_error(NGX_LOG_INFO, c->log, 0,
                  "ims session %uD opened%s", s->serial,
                  s->grant ? " with a token" : "");

    /* short messages, each in a write of its own */

    (void) ngx_tcp_nodelay(c);

    s->last_read = ngx_current_msec;
    ngx_http_ims_session_arm(s);

    if (s->closing) {
        /* a drain found it before it began */
        ngx_post_event(&s->close_event, &ngx_posted_events);
        return;
    }

    if (s->early.len) {
        ngx_http_ims_session_decode(s, s->early.data,
                                    s->early.data + s->early.len);
    }

    ngx_http_ims_session_read(c->read);
}


/*
 * The address that realip found is that of the request, and goes with it: the
 * session keeps it, for Via, for logs and for its limit.
 */

static void
ngx_http_ims_session_free_request(ngx_connection_t *c, ngx_http_request_t *r)
{
    socklen_t         socklen;
    ngx_str_t         text;
    ngx_sockaddr_t    sa;
    struct sockaddr  *kept;

    text = c->addr_text;
    socklen = c->socklen;
    ngx_memcpy(&sa, c->sockaddr, ngx_min(socklen, sizeof(sa)));

    r->keepalive = 0;
    ngx_http_free_request(r, 0);

    if (c->addr_text.data == text.data || socklen > sizeof(sa)) {
        return;
    }

    kept = ngx_pnalloc(c->pool, socklen);

    if (kept) {
        ngx_memcpy(kept, &sa, socklen);

        /* the text is in the connection's pool already */

        c->sockaddr = kept;
        c->socklen = socklen;
        c->addr_text = text;
    }
}


static void
ngx_http_ims_session_free_http(ngx_connection_t *c, ngx_http_connection_t *hc)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    b = c->buffer;

    if (b && b->start && ngx_pfree(c->pool, b->start) == NGX_OK) {
        b->start = NULL;
    }

    for (cl = hc->free; cl; cl = cl->next) {
        (void) ngx_pfree(c->pool, cl->buf->start);
    }

    for (cl = hc->busy; cl; cl = cl->next) {
        (void) ngx_pfree(c->pool, cl->buf->start);
    }

    hc->free = NULL;
    hc->busy = NULL;
    hc->nbusy = 0;

#if (NGX_HTTP_SSL)
    if (c->ssl) {
        ngx_ssl_free_buffer(c);
    }
#endif
}


static void
ngx_http_ims_session_read(ngx_event_t *rev)
{
    ngx_uint_t               turn;
    ngx_connection_t        *c;
    ngx_http_ims_session_t  *s;

    c = rev->data;
    s = c->data;

    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, c->log, 0, "ims session read");

    /* worker_shutdown_timeout, or an idle sweep */

    if (c->close) {
        c->close = 0;

        if (c->error) {
            /* the shutdown timer: a goodbye, but no waiting for another */
            c->error = 0;
            s->no_linger = 1;
        }

        ngx_http_ims_session_close(s, IMS_WS_GOING_AWAY, "worker is leaving");
        return;
    }

    if (rev->timedout) {
        rev->timedout = 0;
        ngx_http_ims_session_timer(s);
        return;
    }

    for (turn = 0; turn < NGX_HTTP_IMS_READ_TURNS; turn++) {
        if (ngx_http_ims_session_recv(s) != NGX_OK) {
            break;
        }
    }

    if (s->peer_gone) {
        return;
    }

    if (rev->ready && turn == NGX_HTTP_IMS_READ_TURNS) {
        /* others have their turn first */
        ngx_post_event(rev, &ngx_posted_next_events);
    }

    if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        ngx_http_ims_session_close(s, 0, "event error");
    }
}


/* one read; NGX_OK: there may be more */

static ngx_int_t
ngx_http_ims_session_recv(ngx_http_ims_session_t *s)
{
    ssize_t                 n;
    ngx_connection_t       *c;
    ngx_http_ims_worker_t  *w;

    c = s->connection;
    w = ngx_http_ims_worker;

    n = c->recv(c, w->buffer, w->buffer_size);

    if (n == NGX_AGAIN) {
        return NGX_AGAIN;
    }

    if (n == NGX_ERROR || n == 0) {
        s->peer_gone = 1;
        ngx_http_ims_session_close(s, 0, n ? "read error" : "client is gone");
        return NGX_ERROR;
    }

    s->last_read = ngx_current_msec;
    s->ping_sent = 0;

    ngx_http_ims_session_decode(s, w->buffer, w->buffer + n);

    return s->peer_gone ? NGX_ERROR : NGX_OK;
}


static void
ngx_http_ims_session_decode(ngx_http_ims_session_t *s, u_char *p, u_char *end)
{
    size_t          pong_len;
    u_char          pong[IMS_WS_CONTROL_MAX];
    ngx_uint_t      pinged;
    ims_ws_event_t  ev;

    pinged = 0;
    pong_len = 0;

    for ( ;; ) {

        switch (ims_ws_decode(&s->ws, &p, end, &ev)) {

        case IMS_WS_MESSAGE:
            if (!s->closing) {
                ngx_http_ims_session_message(s, &ev);
            }
            break;

        case IMS_WS_PING:

            /* many pings in one read get one pong */

            pinged = 1;
            pong_len = ev.len;
            ngx_memcpy(pong, ev.data, ev.len);
            break;

        case IMS_WS_PONG:
            break;

        case IMS_WS_CLOSE:
            s->close_received = 1;
            ngx_http_ims_session_close(s, ev.code == IMS_WS_NO_STATUS
                                          ? IMS_WS_NORMAL : ev.code,
                                       "closed by the client");
            break;

        case IMS_WS_ERROR:
            ngx_http_ims_session_error(s, &ev);
            break;

        default: /* IMS_WS_NEED_MORE */

            if (pinged && !s->closing) {
                (void) ngx_http_ims_session_queue(s, IMS_WS_OP_PONG, pong,
                                                  pong_len);
                (void) ngx_http_ims_session_flush(s);
            }

            return;
        }
    }
}


static void
ngx_http_ims_session_message(ngx_http_ims_session_t *s, ims_ws_event_t *ev)
{
    s->text = ev->opcode == IMS_WS_OP_TEXT;

    /* keep-alive of RFC 5626 section 4.4.1 */

    if (ev->len == 4 && ngx_memcmp(ev->data, "\r\n\r\n", 4) == 0) {
        (void) ngx_http_ims_session_send(s, (u_char *) "\r\n", 2);
        return;
    }

    if (ev->len == 2 && ngx_memcmp(ev->data, "\r\n", 2) == 0) {
        return;
    }

    ngx_http_ims_from_client(s, ev->data, ev->len);
}


static void
ngx_http_ims_session_error(ngx_http_ims_session_t *s, ims_ws_event_t *ev)
{
    switch (ev->code) {

    case IMS_WS_BAD_DATA:
        ngx_http_ims_count(ws_bad_utf8);
        break;

    case IMS_WS_TOO_BIG:
        ngx_http_ims_count(ws_too_big);
        break;

    default:
        ngx_http_ims_count(ws_protocol_error);
        break;
    }

    ngx_log_error(NGX_LOG_INFO, s->connection->log, 0,
                  "ims session %uD: bad frame: %s", s->serial, ev->reason);

    ngx_http_ims_session_close(s, ev->code, ev->reason);
}


/* one timer a connection, never cancelable: it keeps the worker */

static void
ngx_http_ims_session_timer(ngx_http_ims_session_t *s)
{
    ngx_msec_t  idle;

    if (s->closing) {

        /* before the Close was sent it is not the peer that is late */

        if (s->close_sent) {
            ngx_http_ims_session_end(s);
        }

        return;
    }

    if (!s->registered
        && ngx_current_msec - s->opened >= s->conf->register_timeout)
    {
        ngx_http_ims_count(ws_unregistered);
        ngx_http_ims_session_close(s, IMS_WS_POLICY, "not registered");
        return;
    }

    idle = ngx_current_msec - s->last_read;

    if (s->ping_sent && idle >= s->conf->ping_interval + s->conf->pong_timeout)
    {
        ngx_http_ims_count(ws_pong_timeout);
        s->peer_gone = 1;
        ngx_http_ims_session_close(s, 0, "no pong");
        return;
    }

    if (!s->ping_sent && idle >= s->conf->ping_interval) {
        s->ping_sent = 1;

        if (ngx_http_ims_session_queue(s, IMS_WS_OP_PING, NULL, 0) != NGX_OK
            || ngx_http_ims_session_flush(s) != NGX_OK)
        {
            return;
        }
    }

    ngx_http_ims_session_arm(s);
}


/* the earliest of: ping, pong, end of the time to register */

static void
ngx_http_ims_session_arm(ngx_http_ims_session_t *s)
{
    ngx_msec_t      due;
    ngx_msec_int_t  left, reg;

    due = s->last_read + s->conf->ping_interval;

    if (s->ping_sent) {
        due += s->conf->pong_timeout;
    }

    left = due - ngx_current_msec;

    if (!s->registered) {
        reg = s->opened + s->conf->register_timeout - ngx_current_msec;

        if (reg < left) {
            left = reg;
        }
    }

    ngx_add_timer(s->connection->read, left > 0 ? left : 1);
}


ngx_int_t
ngx_http_ims_session_send(ngx_http_ims_session_t *s, u_char *data, size_t n)
{
    ngx_uint_t  opcode;

    /* an answer may still go out before the Close that follows it */

    if (s->close_sent || s->peer_gone) {
        return NGX_ERROR;
    }

    opcode = s->text && ims_utf8_ok(ims_str_set(data, n))
             ? IMS_WS_OP_TEXT : IMS_WS_OP_BINARY;

    if (ngx_http_ims_session_queue(s, opcode, data, n) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_ims_session_flush(s);
}


static ngx_int_t
ngx_http_ims_session_queue(ngx_http_ims_session_t *s, ngx_uint_t opcode,
    u_char *data, size_t n)
{
    size_t               len;
    u_char               head[IMS_WS_HEADER_MAX];
    ngx_http_ims_out_t  *out;

    len = ims_ws_frame_header(head, (uint8_t) opcode, n);

    /* with what each costs: many short ones are not to take more than a few */

    if (s->out_size + sizeof(ngx_http_ims_out_t) + len + n
        > s->conf->send_queue
        && opcode != IMS_WS_OP_CLOSE)
    {
        ngx_http_ims_count(ws_slow_reader);
        ngx_log_error(NGX_LOG_INFO, s->connection->log, 0,
                      "ims session %uD: client does not read, %uz bytes wait",
                      s->serial, s->out_size);
        ngx_http_ims_session_close(s, IMS_WS_POLICY, "slow reader");
        return NGX_ERROR;
    }

    out = ngx_alloc(sizeof(ngx_http_ims_out_t) + len + n, s->connection->log);
    if (out == NULL) {
        ngx_http_ims_session_close(s, 0, "no memory");
        return NGX_ERROR;
    }

    out->next = NULL;
    out->size = len + n;
    out->sent = 0;
    ngx_memcpy(out->data, head, len);

    if (n) {
        ngx_memcpy(out->data + len, data, n);
    }

    *s->out_last = out;
    s->out_last = &out->next;
    s->out_size += sizeof(ngx_http_ims_out_t) + out->size;

    return NGX_OK;
}


static ngx_int_t
ngx_http_ims_session_flush(ngx_http_ims_session_t *s)
{
    ssize_t              n;
    ngx_connection_t    *c;
    ngx_http_ims_out_t  *out;

    c = s->connection;

    if (s->peer_gone) {
        return NGX_ERROR;
    }

    while (s->out) {
        out = s->out;

        n = c->send(c, out->data + out->sent, out->size - out->sent);

        if (n == NGX_ERROR) {
            s->peer_gone = 1;
            ngx_http_ims_session_close(s, 0, "write error");
            return NGX_ERROR;
        }

        if (n == NGX_AGAIN || n == 0) {
            break;
        }

        out->sent += n;
        s->out_size -= n;

        if (out->sent < out->size) {
            continue;
        }

        s->out = out->next;
        s->out_size -= sizeof(ngx_http_ims_out_t);
        ngx_free(out);

        if (s->out == NULL) {
            s->out_last = &s->out;
        }
    }

    if (s->out == NULL) {

        if (c->write->timer_set) {
            ngx_del_timer(c->write);
        }

        return NGX_OK;
    }

    ngx_add_timer(c->write, NGX_HTTP_IMS_SEND_STALL);

    if (ngx_handle_write_event(c->write, 0) != NGX_OK) {
        s->peer_gone = 1;
        ngx_http_ims_session_close(s, 0, "event error");
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_ims_session_write(ngx_event_t *wev)
{
    ngx_connection_t        *c;
    ngx_http_ims_session_t  *s;

    c = wev->data;
    s = c->data;

    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, c->log, 0, "ims session write");

    if (wev->timedout) {
        wev->timedout = 0;
        ngx_http_ims_count(ws_slow_reader);
        s->peer_gone = 1;
        ngx_http_ims_session_close(s, 0, "client does not read");
        return;
    }

    if (ngx_http_ims_session_flush(s) != NGX_OK) {
        return;
    }

    if (s->close_sent && s->out == NULL && s->close_received) {
        ngx_http_ims_session_end(s);
    }
}


void
ngx_http_ims_session_close(ngx_http_ims_session_t *s, ngx_uint_t code,
    const char *reason)
{
    if (!s->closing) {
        s->closing = 1;
        s->close_code = code;
        s->close_reason = reason;

        ngx_log_error(NGX_LOG_INFO, s->connection->log, 0,
                      "ims session %uD closes with %ui: %s", s->serial, code,
                      reason);
    }

    /* again, if meanwhile the peer is gone or has answered */

    if (!s->close_event.posted) {
        ngx_post_event(&s->close_event, &ngx_posted_events);
    }
}


static void
ngx_http_ims_session_closing(ngx_event_t *ev)
{
    u_char                   frame[2 + IMS_WS_CONTROL_MAX];
    size_t                   n;
    ngx_http_ims_session_t  *s;

    s = ev->data;

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, s->connection->log, 0,
                   "ims session closing %ui", (ngx_uint_t) s->close_code);

    if (!s->detached) {
        s->detached = 1;
        ngx_http_ims_flow_detach(s);
    }

    if (s->peer_gone || s->close_code == 0) {
        ngx_http_ims_session_end(s);
        return;
    }

    if (!s->close_sent) {
        s->close_sent = 1;

        n = ims_ws_close_frame(frame, s->close_code,
                               ims_str_z(s->close_reason));

        /* payload only: the queue puts its own header before it */

        if (ngx_http_ims_session_queue(s, IMS_WS_OP_CLOSE, frame + 2, n - 2)
            != NGX_OK
            || ngx_http_ims_session_flush(s) != NGX_OK)
        {
            return;
        }

        ngx_add_timer(s->connection->read, NGX_HTTP_IMS_LINGER);
    }

    if (s->no_linger || (s->close_received && s->out == NULL)) {
        ngx_http_ims_session_end(s);
    }
}


static void
ngx_http_ims_session_end(ngx_http_ims_session_t *s)
{
    ngx_connection_t       *c;
    ngx_http_ims_out_t     *out;
    ngx_http_ims_worker_t  *w;

    c = s->connection;
    w = ngx_http_ims_worker;

    if (!s->detached) {
        s->detached = 1;
        ngx_http_ims_flow_detach(s);
    }

    if (s->close_event.posted) {
        ngx_delete_posted_event(&s->close_event);
    }

    while (s->out) {
        out = s->out;
        s->out = out->next;
        ngx_free(out);
    }

    ims_ws_free(&s->ws);
    ims_reg_grant_free(s->grant);
    ngx_http_ims_limit_give(s->limit);

    ngx_queue_remove(&s->queue);
    w->nsessions--;

    ngx_free(s);

    ngx_http_ims_worker_ended(w);

    /* a lost TLS connection is not worth waiting for its close_notify */

#if (NGX_HTTP_SSL)
    if (c->ssl) {
        c->ssl->no_wait_shutdown = 1;
    }
#endif

    c->read->handler = ngx_http_empty_handler;
    c->write->handler = ngx_http_empty_handler;

    ngx_http_close_connection(c);
}
