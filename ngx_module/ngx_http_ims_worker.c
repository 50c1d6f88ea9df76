
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
#define NGX_HTTP_IMS_DRAIN_STEP  100    /* ms */


static ngx_int_t ngx_http_ims_worker_memory(ngx_http_ims_worker_t *w);
static ngx_int_t ngx_http_ims_worker_join(ngx_http_ims_worker_t *w);
static void ngx_http_ims_worker_tick(ngx_event_t *ev);
static void ngx_http_ims_worker_tick_now(ngx_http_ims_worker_t *w);
static void ngx_http_ims_worker_quit(ngx_http_ims_worker_t *w);
static ngx_uint_t ngx_http_ims_worker_successor(ngx_http_ims_worker_t *w);
static void ngx_http_ims_worker_drain_start(ngx_http_ims_worker_t *w,
    const char *why);
static void ngx_http_ims_worker_drain(ngx_http_ims_worker_t *w);
static ngx_uint_t ngx_http_ims_worker_drain_queue(ngx_queue_t *sessions,
    ngx_uint_t max, ngx_uint_t calls, ngx_uint_t act);
static void ngx_http_ims_worker_leave(ngx_http_ims_worker_t *w);


ngx_int_t
ngx_http_ims_worker_init(ngx_http_ims_worker_t *w)
{
    ngx_event_t  *ev;

    ngx_queue_init(&w->sessions);
    ngx_queue_init(&w->recheck);
    ngx_queue_init(&w->pending);
    ngx_queue_init(&w->cancels);

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
        || ngx_http_ims_udp_init(w) != NGX_OK
        || ngx_http_ims_core_hosts_init(w) != NGX_OK
        || ngx_http_ims_pool_init(w) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_ims_sweeper_init(w);
    ngx_http_ims_probe_init(w);
    ngx_http_ims_cores_init(w);
    ngx_http_ims_purge_init(w);

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

    ngx_http_ims_purge_exit(w);
    ngx_http_ims_links_exit(w);
    ngx_http_ims_udp_exit(w);
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

    ev->cancelable = !ngx_exiting || w->leaving;

    ngx_add_timer(ev, w->draining ? NGX_HTTP_IMS_DRAIN_STEP
                                  : NGX_HTTP_IMS_TICK);
}


static void
ngx_http_ims_worker_tick_now(ngx_http_ims_worker_t *w)
{
    if (w->tick_event.timer_set) {
        ngx_del_timer(&w->tick_event);
    }

    w->tick_event.cancelable = 0;

    ngx_add_timer(&w->tick_event, 1);
}


void
ngx_http_ims_worker_exiting(ngx_http_ims_worker_t *w, ngx_uint_t hurry)
{
    if (!w->me.exiting) {
        w->exit_since = ngx_current_msec;
        w->exit_looked = ngx_current_msec - NGX_HTTP_IMS_TICK;
        w->me.exiting = 1;

        ims_flow_exiting(w->main->flows, &w->me);
    }

    if (hurry && !w->hurried) {

        /* worker_shutdown_timeout: sessions and links are told by nginx */

        ngx_log_error(NGX_LOG_NOTICE, w->log, 0,
                      "worker_shutdown_timeout: %ui sessions are closed",
                      w->nsessions);

        w->hurried = 1;
        w->trans_event.cancelable = 1;
        ngx_http_ims_worker_leave(w);
    }

    ngx_http_ims_worker_tick_now(w);
}


void
ngx_http_ims_worker_ended(ngx_http_ims_worker_t *w)
{
    if (w->me.exiting && !w->leaving && w->nsessions == 0 && w->npending == 0)
    {
        ngx_http_ims_worker_tick_now(w);
    }
}


/*
 * The signal of a reload, of an upgrade and of a shutdown are the same for a
 * worker.  What tells them apart is whether any worker serves on: then its
 * flows stay until they end by themselves, or until ims_drain_after.
 */

static void
ngx_http_ims_worker_quit(ngx_http_ims_worker_t *w)
{
    if (w->leaving) {
        return;
    }

    if (w->nsessions == 0 && w->npending == 0) {
        ngx_http_ims_worker_leave(w);
        return;
    }

    if (w->draining) {
        ngx_http_ims_worker_drain(w);
        return;
    }

    if (ngx_current_msec - w->exit_looked < NGX_HTTP_IMS_TICK) {
        return;
    }

    w->exit_looked = ngx_current_msec;

    if (!ngx_http_ims_worker_successor(w)) {

        /* it may be starting, or one that died may be followed by another */

        if (++w->exit_turns < NGX_HTTP_IMS_SUCCESSOR) {
            return;
        }

        ngx_http_ims_worker_drain_start(w, "no worker follows this one");
        return;
    }

    w->exit_turns = 0;

    if (w->main->drain_after
        && ngx_current_msec - w->exit_since >= w->main->drain_after)
    {
        ngx_http_ims_worker_drain_start(w, "ims_drain_after is over");
    }
}


/*
 * A worker that serves on: of a later cycle, of another master (a new binary),
 * or of the same cycle, when an upgrade is taken back.
 */

static ngx_uint_t
ngx_http_ims_worker_successor(ngx_http_ims_worker_t *w)
{
    uint32_t           row;
    ims_flow_worker_t  other;

    for (row = 1; row < IMS_FLOW_ROWS; row++) {

        if (ims_flow_worker(w->main->flows, row, &other)
            && !other.exiting && other.id != w->id
            && ngx_http_ims_worker_alive(other.id))
        {
            return 1;
        }
    }

    return 0;
}


/* -- drain ----------------------------------------------------------------- */

static void
ngx_http_ims_worker_drain_start(ngx_http_ims_worker_t *w, const char *why)
{
    ngx_log_error(NGX_LOG_NOTICE, w->log, 0, "%s: %ui sessions are closed",
                  why, w->nsessions);

    w->draining = 1;
    w->drain_end = ngx_current_msec + w->main->drain_time;

    ngx_http_ims_worker_drain(w);
}


/*
 * Clients that are told to go come back elsewhere, all of them: so a few each
 * step, and those in a call when the time is over.
 */

static void
ngx_http_ims_worker_drain(ngx_http_ims_worker_t *w)
{
    ngx_uint_t      n;
    ngx_msec_int_t  left;

    left = w->drain_end - ngx_current_msec;

    if (left <= 0) {
        ngx_http_ims_worker_drain_queue(&w->sessions, (ngx_uint_t) -1, 1, 1);
        ngx_http_ims_worker_drain_queue(&w->recheck, (ngx_uint_t) -1, 1, 1);
        return;
    }

    n = ngx_http_ims_worker_drain_queue(&w->sessions, (ngx_uint_t) -1, 0, 0)
        + ngx_http_ims_worker_drain_queue(&w->recheck, (ngx_uint_t) -1, 0, 0);

    /* rounded up: the first at once, the last before the time is over */

    n = (n * NGX_HTTP_IMS_DRAIN_STEP + left - 1) / left;

    n -= ngx_http_ims_worker_drain_queue(&w->sessions, n, 0, 1);
    (void) ngx_http_ims_worker_drain_queue(&w->recheck, n, 0, 1);
}


/* how many sessions, at most max, were (act) or could be told to go */

static ngx_uint_t
ngx_http_ims_worker_drain_queue(ngx_queue_t *sessions, ngx_uint_t max,
    ngx_uint_t calls, ngx_uint_t act)
{
    ngx_uint_t               n;
    ngx_queue_t             *q;
    ngx_http_ims_session_t  *s;

    n = 0;

    for (q = ngx_queue_head(sessions);
         q != ngx_queue_sentinel(sessions) && n < max;
         q = ngx_queue_next(q))
    {
        s = ngx_queue_data(q, ngx_http_ims_session_t, queue);

        if (s->closing || (s->dialogs && !calls)) {
            continue;
        }

        n++;

        if (act) {
            ngx_http_ims_session_close(s, IMS_WS_GOING_AWAY,
                                       "server is leaving");
        }
    }

    return n;
}


/*
 * The last flow is gone.  What the core has under way is read until it has
 * seen our goodbye; the links' own timers hold the worker meanwhile.
 */

static void
ngx_http_ims_worker_leave(ngx_http_ims_worker_t *w)
{
    ngx_log_error(NGX_LOG_INFO, w->log, 0,
                  "no flow is left, the worker leaves");

    w->leaving = 1;

    /* a new de-registration would hold the worker */

    if (w->sweep_event.timer_set) {
        ngx_del_timer(&w->sweep_event);
    }

    ngx_http_ims_delivery_leave(w);
    ngx_http_ims_links_leave(w);
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
