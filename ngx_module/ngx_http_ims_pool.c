
/*
 * Copyright (C) nginx-ims contributors
 *
 * The reader of the pool's database in this worker: opened when it can be,
 * reopened when the environment is given up, and the feed of early ends.
 */

#include "ngx_http_ims.h"


struct ngx_http_ims_pool_s {
    ims_pool_reader_t  *reader;
    ngx_event_t         event;      /* each ims_lease_check */
    ngx_event_t         turn;       /* posted: the end of this turn */
    ngx_connection_t    dummy;      /* the events' data, for debug logging */
    int                 failure;    /* what was logged last */
};


static void ngx_http_ims_pool_turn_end(ngx_event_t *ev);
static void ngx_http_ims_pool_timer(ngx_event_t *ev);
static void ngx_http_ims_pool_open(ngx_http_ims_worker_t *w);
static void ngx_http_ims_pool_lost(ngx_http_ims_worker_t *w, int rc);
static void ngx_http_ims_pool_row(void *ctx, const ims_pool_feed_row_t *row);


ngx_int_t
ngx_http_ims_pool_init(ngx_http_ims_worker_t *w)
{
    ngx_http_ims_pool_t  *pool;

    pool = ngx_pcalloc(w->cycle->pool, sizeof(ngx_http_ims_pool_t));
    if (pool == NULL) {
        return NGX_ERROR;
    }

    w->pool = pool;

    if (w->main->pool_dir.len == 0) {
        return NGX_OK;
    }

    pool->dummy.fd = (ngx_socket_t) -1;
    pool->event.handler = ngx_http_ims_pool_timer;
    pool->event.data = &pool->dummy;
    pool->event.log = w->log;
    pool->event.cancelable = 1;

    pool->turn.handler = ngx_http_ims_pool_turn_end;
    pool->turn.data = &pool->dummy;
    pool->turn.log = w->log;

    ngx_http_ims_pool_open(w);
    ngx_add_timer(&pool->event, w->main->lease_check);

    return NGX_OK;
}


void
ngx_http_ims_pool_exit(ngx_http_ims_worker_t *w)
{
    if (w->pool) {
        ims_pool_close(w->pool->reader);
        w->pool->reader = NULL;
    }
}


/*
 * Whoever asks for the reader is going to look: from the first time of a turn
 * of the event loop until its posted events are done, one snapshot is enough
 * for all.  A worker that exits calls handlers outside of a turn, too, and may
 * wait with such an event posted.
 */

ims_pool_reader_t *
ngx_http_ims_pool_reader(ngx_http_ims_worker_t *w)
{
    ngx_http_ims_pool_t  *pool;

    pool = w->pool;

    if (pool == NULL || pool->reader == NULL) {
        return NULL;
    }

    if (!pool->turn.posted && !ngx_exiting) {
        ims_pool_turn_begin(pool->reader);
        ngx_post_event(&pool->turn, &ngx_posted_events);
    }

    return pool->reader;
}


static void
ngx_http_ims_pool_turn_end(ngx_event_t *ev)
{
    ngx_http_ims_pool_t  *pool;

    pool = ngx_http_ims_worker->pool;

    if (pool->reader) {
        ims_pool_turn_end(pool->reader);
    }
}


static void
ngx_http_ims_pool_timer(ngx_event_t *ev)
{
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    if (w->pool->reader && ims_pool_moved(w->pool->reader) != IMS_POOL_OK) {
        ngx_http_ims_pool_lost(w, IMS_POOL_REOPEN);
    }

    if (w->pool->reader == NULL) {
        ngx_http_ims_pool_open(w);

    } else {
        ngx_http_ims_pool_feed(w);
    }

    ngx_add_timer(ev, w->main->lease_check);
}


static void
ngx_http_ims_pool_open(ngx_http_ims_worker_t *w)
{
    int                   rc;
    char                  err[256];
    ngx_uint_t            level;
    ngx_http_ims_pool_t  *pool;

    pool = w->pool;

    rc = ims_pool_open(&pool->reader, (char *) w->main->pool_dir.data, err,
                       sizeof(err));

    if (rc == IMS_POOL_OK) {
        ngx_log_error(NGX_LOG_NOTICE, w->log, 0, "pool \"%V\" opened",
                      &w->main->pool_dir);
        pool->failure = IMS_POOL_OK;

        /* flows that are older than this reader may have ended unheard */

        ngx_http_ims_flow_recheck(0);
        return;
    }

    pool->reader = NULL;

    if (rc != pool->failure) {
        pool->failure = rc;
        level = rc == IMS_POOL_NOT_THERE ? NGX_LOG_WARN : NGX_LOG_ERR;

        ngx_log_error(level, w->log, 0, "pool \"%V\" cannot be read: %s",
                      &w->main->pool_dir, err);
    }
}


static void
ngx_http_ims_pool_lost(ngx_http_ims_worker_t *w, int rc)
{
    ngx_log_error(NGX_LOG_WARN, w->log, 0, "pool \"%V\" is opened anew: %s",
                  &w->main->pool_dir, ims_pool_strerror(rc));

    ims_pool_close(w->pool->reader);
    w->pool->reader = NULL;
}


/*
 * Settles the flows whose leases ended early since the last call.  NGX_OK: the
 * feed is read up to the newest commit; NGX_ERROR: nothing is known.
 */

ngx_int_t
ngx_http_ims_pool_feed(ngx_http_ims_worker_t *w)
{
    int  rc;

    if (w->pool->reader == NULL) {
        return NGX_ERROR;
    }

    rc = ims_pool_feed(w->pool->reader, ngx_http_ims_pool_row, w);

    if (rc >= 0) {
        return NGX_OK;
    }

    if (rc == IMS_POOL_GAP) {
        ngx_log_error(NGX_LOG_NOTICE, w->log, 0,
                      "rows of the pool's feed were missed: all flows are "
                      "looked at");
        ngx_http_ims_flow_recheck(0);
        return NGX_OK;
    }

    ngx_http_ims_pool_lost(w, rc);
    ngx_http_ims_pool_open(w);

    return w->pool->reader ? NGX_OK : NGX_ERROR;
}


static void
ngx_http_ims_pool_row(void *ctx, const ims_pool_feed_row_t *row)
{
    ngx_http_ims_flow_recheck(row->ident);
}
