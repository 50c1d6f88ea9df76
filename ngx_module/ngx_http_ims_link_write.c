
/*
 * Copyright (C) nginx-ims contributors
 *
 * The output of a core link: a queue of whole messages, written together once
 * in a turn of the event loop.
 */

#include "ngx_http_ims_link.h"


static ngx_int_t ngx_http_ims_link_flush(ngx_http_ims_link_t *link);
static ngx_int_t ngx_http_ims_link_write(ngx_http_ims_link_t *link);
#if (NGX_SSL)
static ngx_int_t ngx_http_ims_link_write_ssl(ngx_http_ims_link_t *link);
#endif
static ngx_uint_t ngx_http_ims_link_iovs(ngx_http_ims_link_t *link,
    struct iovec *iov, size_t *size);
static void ngx_http_ims_link_written(ngx_http_ims_link_t *link, size_t n);
static ngx_uint_t ngx_http_ims_link_droppable(ngx_http_ims_out_t *out,
    ngx_uint_t what, uint64_t now);


ngx_int_t
ngx_http_ims_link_send(ngx_http_ims_link_t *link, ngx_uint_t how,
    u_char *data, size_t n, uint64_t deadline)
{
    size_t               limit;
    ngx_http_ims_out_t  *out;

    if (link->linger || (link->doomed && link->accepted)) {
        return NGX_ERROR;
    }

    limit = ngx_http_ims_worker->main->link_queue;

    if (how != NGX_HTTP_IMS_SEND_ALWAYS && link->out_size + n > limit) {
        ngx_http_ims_count(core_link_full);
        return NGX_BUSY;
    }

    if (link->out_size + n > limit * NGX_HTTP_IMS_LINK_HARD) {
        ngx_log_error(NGX_LOG_ERR, &link->log, 0,
                      "core takes nothing: %uz bytes are waiting",
                      link->out_size);
        ngx_http_ims_count(core_link_full);
        ngx_http_ims_link_doom(link);
        return NGX_ERROR;
    }

    out = ngx_alloc(sizeof(ngx_http_ims_out_t) + n, &link->log);
    if (out == NULL) {
        return NGX_ERROR;
    }

    out->next = NULL;
    out->deadline = deadline;
    out->size = n;
    out->sent = 0;
    out->begun = 0;
    out->always = (how != NGX_HTTP_IMS_SEND_REQUEST);
    ngx_memcpy(out->data, data, n);

    /* a full socket has been full since the last byte that it took */

    if (link->out == NULL
        && (!link->connected || link->connection->write->ready))
    {
        link->progress = ngx_current_msec;
    }

    *link->out_last = out;
    link->out_last = &out->next;
    link->out_size += n;

    if (link->connected) {
        ngx_post_event(link->connection->write, &ngx_posted_events);

    } else if (!link->trying) {
        ngx_post_event(&link->posted, &ngx_posted_events);
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_ims_core_send(ngx_http_ims_addr_t *addr, ngx_uint_t transport,
    uint32_t slot, ngx_uint_t how, u_char *data, size_t n, uint64_t deadline,
    uint32_t *serial)
{
    ngx_int_t             rc;
    ngx_http_ims_link_t  *link;

    *serial = 0;

    if (transport == NGX_HTTP_IMS_UDP) {
        rc = ngx_http_ims_udp_send(addr, 0, data, n);
        return rc == NGX_OK ? NGX_OK : NGX_ERROR;
    }

    link = ngx_http_ims_link_get(addr, slot);

    if (link == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_http_ims_link_send(link, how, data, n, deadline);

    if (rc == NGX_OK) {
        *serial = link->serial;
    }

    return rc;
}


void
ngx_http_ims_link_write_handler(ngx_event_t *wev)
{
    ngx_connection_t     *c;
    ngx_http_ims_link_t  *link;

    c = wev->data;
    link = c->data;

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, c->log, 0,
                   "ims link write handler, queued:%uz", link->out_size);

    if (link->connecting && ngx_http_ims_link_opened(link) != NGX_OK) {
        return;
    }

    if (ngx_http_ims_link_flush(link) != NGX_OK) {
        ngx_http_ims_link_break(link);
        return;
    }

    ngx_http_ims_link_arm(link);
}


static ngx_int_t
ngx_http_ims_link_flush(ngx_http_ims_link_t *link)
{
    ngx_int_t          rc;
    ngx_connection_t  *c;

    c = link->connection;

    c->log->action = "writing to core";

    if (link->out) {
        ngx_http_ims_link_drop(link, NGX_HTTP_IMS_DROP_LATE);
    }

#if (NGX_SSL)
    rc = c->ssl ? ngx_http_ims_link_write_ssl(link)
                : ngx_http_ims_link_write(link);
#else
    rc = ngx_http_ims_link_write(link);
#endif

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    if (link->linger && !link->shut && link->out == NULL) {

#if (NGX_SSL)
        if (c->ssl) {
            ngx_http_ims_ssl_goodbye(c);
        }
#endif

        if (ngx_shutdown_socket(c->fd, NGX_WRITE_SHUTDOWN) == -1) {
            ngx_connection_error(c, ngx_socket_errno,
                                 ngx_shutdown_socket_n " of core link failed");
            return NGX_ERROR;
        }

        link->shut = 1;
    }

    return ngx_handle_write_event(c->write, 0);
}


static ngx_int_t
ngx_http_ims_link_write(ngx_http_ims_link_t *link)
{
    size_t             size;
    ssize_t            n;
    ngx_err_t          err;
    ngx_uint_t         niov;
    ngx_event_t       *wev;
    struct iovec       iov[NGX_HTTP_IMS_LINK_IOVS];
    ngx_connection_t  *c;

    c = link->connection;
    wev = c->write;

    while (link->out && wev->ready) {

        niov = ngx_http_ims_link_iovs(link, iov, &size);

        n = writev(c->fd, iov, niov);

        ngx_log_debug3(NGX_LOG_DEBUG_HTTP, c->log, 0,
                       "ims link writev: %z of %uz, %ui parts",
                       n, size, niov);

        if (n == -1) {
            err = ngx_socket_errno;

            if (err == NGX_EINTR) {
                continue;
            }

            if (err != NGX_EAGAIN) {
                ngx_connection_error(c, err, "writev() to core failed");
                return NGX_ERROR;
            }

            wev->ready = 0;
            break;
        }

        if ((size_t) n < size) {
            wev->ready = 0;
        }

        ngx_http_ims_link_written(link, n);
    }

    return NGX_OK;
}


#if (NGX_SSL)

/*
 * A record that did not fit the socket has the bytes already: they must be
 * offered again, and so are not to be dropped.
 */

static ngx_int_t
ngx_http_ims_link_write_ssl(ngx_http_ims_link_t *link)
{
    ssize_t              n;
    ngx_connection_t    *c;
    ngx_http_ims_out_t  *out;

    c = link->connection;

    while (link->out && c->write->ready) {
        out = link->out;

        n = c->send(c, out->data + out->sent, out->size - out->sent);

        if (n == NGX_AGAIN) {
            out->begun = 1;
            break;
        }

        if (n <= 0) {
            return NGX_ERROR;
        }

        ngx_http_ims_link_written(link, n);
    }

    return NGX_OK;
}

#endif


static ngx_uint_t
ngx_http_ims_link_iovs(ngx_http_ims_link_t *link, struct iovec *iov,
    size_t *size)
{
    ngx_uint_t           n;
    ngx_http_ims_out_t  *out;

    n = 0;
    *size = 0;

    for (out = link->out; out && n < NGX_HTTP_IMS_LINK_IOVS; out = out->next) {
        iov[n].iov_base = out->data + out->sent;
        iov[n].iov_len = out->size - out->sent;
        *size += iov[n].iov_len;
        n++;
    }

    return n;
}


static void
ngx_http_ims_link_written(ngx_http_ims_link_t *link, size_t n)
{
    size_t               part;
    ngx_http_ims_out_t  *out;

    link->progress = ngx_current_msec;
    link->out_size -= n;

    while (n) {
        out = link->out;
        part = ngx_min(n, out->size - out->sent);

        out->sent += part;
        n -= part;

        if (out->sent == out->size) {
            link->out = out->next;
            ngx_free(out);
        }
    }

    if (link->out == NULL) {
        link->out_last = &link->out;
    }
}


void
ngx_http_ims_link_drop(ngx_http_ims_link_t *link, ngx_uint_t what)
{
    uint64_t              now;
    ngx_http_ims_out_t   *out, **last;

    now = ims_boottime_ms();

    last = &link->out;

    while (*last) {
        out = *last;

        if (!ngx_http_ims_link_droppable(out, what, now)) {
            last = &out->next;
            continue;
        }

        if (what == NGX_HTTP_IMS_DROP_LATE) {
            ngx_http_ims_count(core_late);
        }

        *last = out->next;
        link->out_size -= out->size - out->sent;

        ngx_free(out);
    }

    link->out_last = last;
}


static ngx_uint_t
ngx_http_ims_link_droppable(ngx_http_ims_out_t *out, ngx_uint_t what,
    uint64_t now)
{
    switch (what) {

    case NGX_HTTP_IMS_DROP_LATE:
        return out->sent == 0 && !out->begun
               && out->deadline && out->deadline < now;

    case NGX_HTTP_IMS_DROP_REQUESTS:
        return out->sent || out->begun || !out->always;

    default: /* NGX_HTTP_IMS_DROP_ALL */
        return 1;
    }
}
