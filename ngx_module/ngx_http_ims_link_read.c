
/*
 * Copyright (C) nginx-ims contributors
 *
 * The input of a core link: SIP messages out of a stream.
 *
 * Whole messages are handled in the worker's read buffer.  Only the beginning
 * of a message whose end has not come is copied into memory of the link's own,
 * which grows with the bytes received and goes when the message is done.
 */

#include "ngx_http_ims_link.h"
#include "ngx_http_ims_proxy.h"


static ngx_int_t ngx_http_ims_link_read(ngx_http_ims_link_t *link);
static ngx_int_t ngx_http_ims_link_room(ngx_http_ims_link_t *link);
static ngx_int_t ngx_http_ims_link_messages(ngx_http_ims_link_t *link,
    u_char *data, size_t len, size_t *used);
static void ngx_http_ims_link_too_big(ngx_http_ims_link_t *link, u_char *data,
    size_t n);
static ngx_int_t ngx_http_ims_link_keep_rest(ngx_http_ims_link_t *link,
    u_char *data, size_t len);


void
ngx_http_ims_link_read_handler(ngx_event_t *rev)
{
    ngx_int_t             rc;
    ngx_uint_t            turns;
    ngx_connection_t     *c;
    ngx_http_ims_link_t  *link;

    c = rev->data;
    link = c->data;

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, c->log, 0,
                   "ims link read handler, kept:%uz", link->rest_len);

    if (c->close) {
        ngx_http_ims_link_swept(link);
        return;
    }

    if (link->connecting) {

        /* an answer before the write event, or an error */

        ngx_http_ims_link_write_handler(c->write);
        return;
    }

    c->log->action = "reading from core";

    for (turns = 0; rev->ready; turns++) {

        if (turns == NGX_HTTP_IMS_LINK_TURNS) {
            ngx_post_event(rev, &ngx_posted_next_events);
            return;
        }

        rc = ngx_http_ims_link_read(link);

        if (rc == NGX_AGAIN) {
            break;
        }

        if (rc != NGX_OK || link->doomed) {
            ngx_http_ims_link_break(link);
            return;
        }
    }

    if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        ngx_http_ims_link_break(link);
    }
}


/* one recv() and the messages that it brought; NGX_DONE: end of the stream */

static ngx_int_t
ngx_http_ims_link_read(ngx_http_ims_link_t *link)
{
    size_t                  size, len, used;
    u_char                 *buf;
    ssize_t                 n;
    ngx_connection_t       *c;
    ngx_http_ims_worker_t  *w;

    c = link->connection;
    w = ngx_http_ims_worker;

    if (link->rest) {

        if (ngx_http_ims_link_room(link) != NGX_OK) {
            return NGX_ERROR;
        }

        buf = link->rest;
        size = link->rest_size;

    } else {
        buf = w->buffer;
        size = w->buffer_size;
    }

    n = c->recv(c, buf + link->rest_len, size - link->rest_len);

    if (n == NGX_AGAIN || n == NGX_ERROR) {
        return n;
    }

    if (n == 0) {
        if (link->rest_len) {
            ngx_log_error(NGX_LOG_ERR, c->log, 0,
                          "core closed in the middle of a message");
        } else {
            ngx_log_error(NGX_LOG_INFO, c->log, 0,
                          "core closed the connection");
        }

        return NGX_DONE;
    }

    len = link->rest_len + n;

    if (ngx_http_ims_link_messages(link, buf, len, &used) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_ims_link_keep_rest(link, buf + used, len - used);
}


static ngx_int_t
ngx_http_ims_link_room(ngx_http_ims_link_t *link)
{
    size_t   size;
    u_char  *p;

    if (link->rest_size - link->rest_len >= 1024) {
        return NGX_OK;
    }

    /* the framing gives up at max_message: this doubles a few times only */

    size = link->rest_size * 2;

    p = ngx_alloc(size, &link->log);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(p, link->rest, link->rest_len);
    ngx_free(link->rest);

    link->rest = p;
    link->rest_size = size;

    return NGX_OK;
}


static ngx_int_t
ngx_http_ims_link_messages(ngx_http_ims_link_t *link, u_char *data,
    size_t len, size_t *used)
{
    int      rc;
    size_t   max, n, size;
    u_char  *p;

    max = ngx_http_ims_worker->main->max_message;

    p = data;
    n = len;

    while (n && !link->doomed) {

        if (link->skip) {
            size = ngx_min(link->skip, n);
            link->skip -= size;
            p += size;
            n -= size;
            continue;
        }

        rc = ims_sip_frame(p, n, max, &link->scanned, &link->msglen);

        if (rc == IMS_SIP_FRAME_MORE) {
            break;
        }

        if (rc == IMS_SIP_FRAME_TOO_BIG && link->msglen
            && link->msglen <= NGX_HTTP_IMS_LINK_SKIP)
        {
            /* others use this link as well: it is read past */

            link->heard = 1;
            link->skip = link->msglen;
            link->scanned = 0;
            link->msglen = 0;

            ngx_http_ims_link_too_big(link, p, n);
            continue;
        }

        switch (rc) {

        case IMS_SIP_FRAME_OK:
            link->heard = 1;
            ngx_http_ims_from_core(link, p, link->msglen);
            break;

        case IMS_SIP_FRAME_KEEPALIVE:
            (void) ngx_http_ims_link_send(link, NGX_HTTP_IMS_SEND_ALWAYS,
                                          (u_char *) CRLF, 2,
                                          ims_boottime_ms() + 10000);
            break;

        case IMS_SIP_FRAME_CRLF:
            break;

        default:
            ngx_http_ims_count(core_bad);
            ngx_log_error(NGX_LOG_ERR, &link->log, 0,
                          rc == IMS_SIP_FRAME_TOO_BIG
                          ? "core sent a message above ims_max_message, "
                            "closing"
                          : "core sent what is not SIP, closing");
            return NGX_ERROR;
        }

        p += link->msglen;
        n -= link->msglen;

        link->scanned = 0;
        link->msglen = 0;
    }

    *used = p - data;

    return NGX_OK;
}


/* its headers at least are here: a request gets 513 */

static void
ngx_http_ims_link_too_big(ngx_http_ims_link_t *link, u_char *data,
    size_t n)
{
    size_t                  head;
    ims_sip_msg_t          *m;
    ims_sip_err_t           err;
    ims_trans_ingress_t     in;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;
    m = &w->sip;

    ngx_http_ims_count(core_bad);

    ngx_log_error(NGX_LOG_ERR, &link->log, 0,
                  "core sent a message above ims_max_message, it is "
                  "answered 513 or dropped");

    /* an answer needs no body: what is there is a message without one */

    head = ims_sip_frame_bodiless(data, n);

    if (head == 0
        || ims_sip_parse(m, data, head, IMS_SIP_STREAM, &err) != 0
        || !m->request || m->method_id == IMS_SIP_M_ACK)
    {
        return;
    }

    ngx_http_ims_ingress_of_link(&in, link, m);
    ngx_http_ims_ingress_reply(&in, m, 513, "Message Too Large", NULL);
}


static ngx_int_t
ngx_http_ims_link_keep_rest(ngx_http_ims_link_t *link, u_char *data,
    size_t len)
{
    if (len == 0) {
        if (link->rest) {
            ngx_http_ims_link_forget_rest(link);
        }

        return NGX_OK;
    }

    if (link->rest) {
        if (data != link->rest) {
            ngx_memmove(link->rest, data, len);
        }

        link->rest_len = len;

        return NGX_OK;
    }

    link->rest_size = ngx_max(2 * len, 4096);

    link->rest = ngx_alloc(link->rest_size, &link->log);
    if (link->rest == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(link->rest, data, len);
    link->rest_len = len;

    return NGX_OK;
}


void
ngx_http_ims_link_forget_rest(ngx_http_ims_link_t *link)
{
    if (link->rest) {
        ngx_free(link->rest);
        link->rest = NULL;
    }

    link->rest_len = 0;
    link->rest_size = 0;
    link->scanned = 0;
    link->msglen = 0;
}
