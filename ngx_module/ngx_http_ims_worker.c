
/*
 * Copyright (C) nginx-ims contributors
 *
 * The state of one worker: made in init_process, kept until it leaves.
 */

#include "ngx_http_ims.h"
#include <openssl/rand.h>


#define NGX_HTTP_IMS_VERSION     1
#define NGX_HTTP_IMS_TICK        1000   /* ms */
#define NGX_HTTP_IMS_SUCCESSOR   5      /* looks for one, a tick apart */


static ngx_int_t ngx_http_ims_worker_memory(ngx_http_ims_worker_t *w);
static ngx_int_t ngx_http_ims_worker_join(ngx_http_ims_worker_t *w);
static void ngx_http_ims_worker_tick(ngx_event_t *ev);
static void ngx_http_ims_worker_quit(ngx_http_ims_worker_t *w);
static ngx_uint_t ngx_http_ims_worker_successor(ngx_http_ims_worker_t *w);


ngx_int_t
ngx_http_ims_worker_init(ngx_http_ims_worker_t *w)
{
    ngx_event_t  *ev;

    ngx_queue_init(&w->sessions);
    ngx_queue_init(&w->recheck);
    ngx_queue_init(&w->pending);

    if (ngx_http_ims_pool_client_init(w) != NGX_OK) {
        return NGX_ERROR;
    }

    if (w->main->flows == NULL) {
        /* a site without an edge */
        return NGX_OK;
    }

    if (ngx_http_ims_worker_memory(w) != NGX_OK
        || ngx_http_ims_worker_join(w) != NGX_OK
        || ngx_http_ims_trans_init(w) != NGX_OK
        || ngx_http_ims_groups_init(w) != NGX_OK
        || ngx_http_ims_links_init(w) != NGX_OK
        || ngx_http_ims_pool_init(w) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_ims_sweeper_init(w);

    ev = &w->tick_event;
    ev->handler = ngx_http_ims_worker_tick;
    ev->data = &w->dummy;
    ev->log = w->log;
    ev->cancelable = 1;
    w->dummy.fd = (ngx_socket_t) -1;

    ngx_add_timer(ev, NGX_HTTP_IMS_TICK);

    return NGX_OK;
}


static ngx_int_t
ngx_http_ims_worker_memory(ngx_http_ims_worker_t *w)
{
    ngx_uint_t    i, n;
    ngx_pool_t   *pool;

    pool = w->cycle->pool;

    /* a message, frame headers and the start of the next one */

    w->buffer_size = w->main->max_message + 4096;
    w->message_size = w->main->max_message + 8192;
    w->scratch_size = 16384;

    w->buffer = ngx_palloc(pool, w->buffer_size);
    w->message = ngx_palloc(pool, w->message_size);
    w->scratch = ngx_palloc(pool, w->scratch_size);

    w->hop_size = 8192;
    w->hop = ngx_palloc(pool, w->hop_size);

    if (w->buffer == NULL || w->message == NULL || w->scratch == NULL
        || w->hop == NULL)
    {
        return NGX_ERROR;
    }

    for (n = 1024; n < w->main->flows->nslots / 4; n *= 2) { /* void */ }

    w->nbuckets = n;
    w->idents = ngx_palloc(pool, n * sizeof(ngx_queue_t));
    w->slots = ngx_palloc(pool, n * sizeof(ngx_queue_t));

    if (w->idents == NULL || w->slots == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < n; i++) {
        ngx_queue_init(&w->idents[i]);
        ngx_queue_init(&w->slots[i]);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_ims_worker_join(ngx_http_ims_worker_t *w)
{
    ims_flow_rc_t  rc;

    ngx_http_ims_random((u_char *) &w->id, sizeof(w->id));

    w->me.id = w->id;
    w->me.start_ms = ims_boottime_ms();
    w->me.master = w->main->master_id;
    w->me.cycle = w->main->cycle_no;
    w->me.version = NGX_HTTP_IMS_VERSION;
    w->me.pid = ngx_pid;

    /* others take a worker for dead whose socket they cannot connect to */

    if (ngx_http_ims_delivery_init(w) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = ims_flow_join(w->main->flows, &w->me, ngx_http_ims_flow_alive, w);

    if (rc != IMS_FLOW_OK) {
        ngx_log_error(NGX_LOG_EMERG, w->log, 0,
                      "the worker list of the flow table is full");
        return NGX_ERROR;
    }

    return NGX_OK;
}


void
ngx_http_ims_worker_exit(ngx_http_ims_worker_t *w)
{
    ngx_http_ims_pool_client_exit(w);

    if (w->main->flows == NULL) {
        return;
    }

    ngx_http_ims_links_exit(w);
    ngx_http_ims_delivery_exit(w);
    ngx_http_ims_pool_exit(w);

    ims_flow_leave(w->main->flows, &w->me);
    ims_trans_pool_destroy(w->trans);
}


static void
ngx_http_ims_worker_tick(ngx_event_t *ev)
{
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    if (ngx_exiting) {
        ngx_http_ims_worker_quit(w);
    }

    ngx_add_timer(ev, NGX_HTTP_IMS_TICK);
}


/*
 * The signal of a reload and that of a shutdown are the same for a worker.
 * What tells them apart is whether there are workers that came after it: then
 * its flows stay until they end by themselves.
 */

static void
ngx_http_ims_worker_quit(ngx_http_ims_worker_t *w)
{
    ngx_queue_t             *q;
    ngx_http_ims_session_t  *s;

    if (!w->me.exiting) {
        ims_flow_exiting(w->main->flows, &w->me);
        w->me.exiting = 1;
    }

    if (w->nsessions == 0) {

        if (!w->leaving) {
            w->leaving = 1;
            ngx_http_ims_links_leave(w);
        }

        return;
    }

    /* looked for each time: those that followed may be told to quit as well */

    if (ngx_http_ims_worker_successor(w)) {
        w->exit_turns = 0;
        return;
    }

    if (++w->exit_turns < NGX_HTTP_IMS_SUCCESSOR) {
        return;
    }

    ngx_log_error(NGX_LOG_NOTICE, w->log, 0,
                  "no worker follows this one: %ui sessions are closed",
                  w->nsessions);

    for (q = ngx_queue_head(&w->sessions);
         q != ngx_queue_sentinel(&w->sessions);
         q = ngx_queue_next(q))
    {
        s = ngx_queue_data(q, ngx_http_ims_session_t, queue);
        ngx_http_ims_session_close(s, IMS_WS_GOING_AWAY, "server is leaving");
    }

    for (q = ngx_queue_head(&w->recheck);
         q != ngx_queue_sentinel(&w->recheck);
         q = ngx_queue_next(q))
    {
        s = ngx_queue_data(q, ngx_http_ims_session_t, queue);
        ngx_http_ims_session_close(s, IMS_WS_GOING_AWAY, "server is leaving");
    }
}


/* a living worker of a later cycle, or of another master (a new binary) */

static ngx_uint_t
ngx_http_ims_worker_successor(ngx_http_ims_worker_t *w)
{
    uint32_t           row;
    ims_flow_worker_t  other;

    for (row = 1; row < IMS_FLOW_ROWS; row++) {

        if (!ims_flow_worker(w->main->flows, row, &other)
            || other.exiting || other.id == w->id)
        {
            continue;
        }

        if (other.master == w->me.master && other.cycle <= w->me.cycle) {
            continue;
        }

        if (ngx_http_ims_worker_alive(other.id)) {
            return 1;
        }
    }

    return 0;
}


void
ngx_http_ims_random(u_char *dst, size_t n)
{
    size_t  i;

    if (RAND_bytes(dst, (int) n) == 1) {
        return;
    }

    /* for names that need to be unlike, not secret */

    for (i = 0; i < n; i++) {
        dst[i] = (u_char) ngx_random();
    }
}
