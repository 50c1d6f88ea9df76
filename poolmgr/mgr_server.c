/*
 * Copyright (C) nginx-ims contributors
 *
 * See mgr_server.h.
 */

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "mgr_batch.h"
#include "mgr_copy.h"
#include "mgr_hlog.h"
#include "mgr_import.h"
#include "mgr_replay.h"
#include "mgr_job.h"
#include "mgr_metrics.h"
#include "mgr_notify.h"
#include "mgr_server.h"
#include "mgr_signal.h"


#define MGR_TICK_MS    1000
#define MGR_IN_KEPT    (16 * 1024)  /* an idle connection's buffer at most */
#define MGR_STOP_MS    2000         /* for the last answers of a clean stop */


static void mgr_on_connection(uv_stream_t *listener, int status);
static void mgr_conn_who(mgr_conn_t *c);
static void mgr_on_alloc(uv_handle_t *h, size_t n, uv_buf_t *buf);
static void mgr_on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);
static int mgr_conn_append(mgr_conn_t *c, const uint8_t *p, size_t n);
static void mgr_ready_remove(mgr_conn_t *c);
static void mgr_on_written(uv_write_t *req, int status);
static void mgr_on_closed(uv_handle_t *h);
static void mgr_on_check(uv_check_t *h);
static bool mgr_gathering(mgr_server_t *s);
static void mgr_on_idle(uv_idle_t *h);
static void mgr_on_tick(uv_timer_t *h);
static void mgr_conn_tick(mgr_conn_t *c);
static void mgr_on_stop_late(uv_timer_t *h);
static void mgr_server_left(mgr_server_t *s);


int
mgr_server_start(mgr_server_t *s, uv_loop_t *loop, int fd)
{
    int  rc;

    s->metrics = calloc(1, sizeof(mgr_metrics_t));

    if (s->metrics == NULL) {
        return UV_ENOMEM;
    }

    s->loop = loop;
    s->ready_tail = &s->ready_head;

    uv_check_init(loop, &s->check);
    uv_idle_init(loop, &s->idle);
    uv_timer_init(loop, &s->timer);
    uv_pipe_init(loop, &s->listener, 0);

    s->check.data = s;
    s->idle.data = s;
    s->timer.data = s;
    s->listener.data = s;

    rc = uv_pipe_open(&s->listener, fd);

    if (rc == 0) {
        rc = uv_listen((uv_stream_t *) &s->listener, 511, mgr_on_connection);
    }

    if (rc == 0) {
        rc = uv_check_start(&s->check, mgr_on_check);
    }

    if (rc == 0) {
        rc = uv_timer_start(&s->timer, mgr_on_tick, MGR_TICK_MS, MGR_TICK_MS);
    }

    return rc;
}


static void
mgr_on_connection(uv_stream_t *listener, int status)
{
    unsigned       room;
    mgr_conn_t    *c;
    mgr_server_t  *s;

    s = listener->data;

    if (status != 0) {
        mgr_log(MGR_LOG_ERR, "accept() failed: %s", uv_strerror(status));
        return;
    }

    c = calloc(1, sizeof(mgr_conn_t));

    if (c == NULL) {
        mgr_log(MGR_LOG_ALERT, "no memory for a connection");
        return;
    }

    c->server = s;
    c->number = ++s->accepted;
    c->active = uv_now(s->loop);

    uv_pipe_init(s->loop, &c->pipe, 0);
    c->pipe.data = c;

    c->next = s->conns;

    if (c->next != NULL) {
        c->next->prev = c;
    }

    s->conns = c;
    s->nconns++;

    if (uv_accept(listener, (uv_stream_t *) &c->pipe) != 0) {
        mgr_conn_close(c);
        return;
    }

    mgr_conn_who(c);

    room = MGR_CONNECTIONS;

    if (c->role != MGR_ROLE_ADMIN) {
        room -= MGR_CONN_ADMIN;
    }

    if (s->nconns > room) {

        if (mgr_noise(s)) {
            mgr_log(MGR_LOG_WARN, "*%llu refused: %u connections",
                    (unsigned long long) c->number, s->nconns);
        }

        ims_resp_error(&c->out, "BUSY too many connections");
        c->last = 1;
        mgr_conn_flush(c);
        return;
    }

    if (uv_read_start((uv_stream_t *) &c->pipe, mgr_on_alloc, mgr_on_read)
        != 0)
    {
        mgr_conn_close(c);
        return;
    }

    c->reading = 1;
}


/* root and the daemon's own user are admins, as long as they send no secret */

static void
mgr_conn_who(mgr_conn_t *c)
{
    socklen_t     len;
    uv_os_fd_t    fd;
    struct ucred  cred;

    len = sizeof(cred);

    if (uv_fileno((uv_handle_t *) &c->pipe, &fd) != 0
        || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == -1)
    {
        return;
    }

    if (cred.uid == 0 || cred.uid == geteuid()) {
        c->role = MGR_ROLE_ADMIN;
    }

    mgr_log(MGR_LOG_DEBUG, "*%llu accepted, uid %u pid %d",
            (unsigned long long) c->number, (unsigned) cred.uid,
            (int) cred.pid);
}


/* one buffer is enough: a read is copied before the next one begins */

static void
mgr_on_alloc(uv_handle_t *h, size_t n, uv_buf_t *buf)
{
    mgr_conn_t  *c;

    (void) n;

    c = h->data;
    *buf = uv_buf_init((char *) c->server->buf, sizeof(c->server->buf));
}


static void
mgr_on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    mgr_conn_t  *c;

    c = stream->data;

    if (n == 0 || c->closing) {
        return;
    }

    if (n < 0) {

        if (n != UV_EOF) {
            mgr_conn_close(c);
            return;
        }

        /* what was asked before is done yet */

        c->eof = 1;
        c->reading = 0;
        uv_read_stop(stream);

        if (!c->ready) {
            mgr_conn_flush(c);
        }

        return;
    }

    if (mgr_conn_append(c, (uint8_t *) buf->base, (size_t) n) != 0) {
        mgr_log(MGR_LOG_ALERT, "*%llu no memory",
                (unsigned long long) c->number);
        mgr_conn_close(c);
        return;
    }

    if (c->in_n - c->pos > mgr_conn_limit(c)) {
        uv_read_stop(stream);
        c->reading = 0;
    }

    if (mgr_conn_unsent(c) <= MGR_OUT_MAX) {
        mgr_ready(c);
    }
}


static int
mgr_conn_append(mgr_conn_t *c, const uint8_t *p, size_t n)
{
    size_t    cap;
    uint8_t  *in;

    if (n > c->in_cap - c->in_n) {

        for (cap = c->in_cap ? c->in_cap : 1024; n > cap - c->in_n; cap *= 2) {
            /* void */
        }

        in = realloc(c->in, cap);

        if (in == NULL) {
            return -1;
        }

        c->in = in;
        c->in_cap = cap;
    }

    memcpy(c->in + c->in_n, p, n);
    c->in_n += n;

    return 0;
}


bool
mgr_noise(mgr_server_t *s)
{
    return ++s->noise <= MGR_NOISE;
}


size_t
mgr_conn_limit(mgr_conn_t *c)
{
    return c->role == MGR_ROLE_ADMIN ? IMS_RESP_MAX_ADMIN : IMS_RESP_MAX;
}


void
mgr_conn_consume(mgr_conn_t *c)
{
    if (c->pos != 0) {
        memmove(c->in, c->in + c->pos, c->in_n - c->pos);
        c->in_n -= c->pos;
        c->pos = 0;
    }

    if (c->in_n == 0 && c->in_cap > MGR_IN_KEPT) {
        free(c->in);
        c->in = NULL;
        c->in_cap = 0;
    }

    if (!c->reading && !c->eof && !c->last && !c->closing
        && c->in_n <= mgr_conn_limit(c)
        && uv_read_start((uv_stream_t *) &c->pipe, mgr_on_alloc, mgr_on_read)
           == 0)
    {
        c->reading = 1;
    }
}


void
mgr_ready(mgr_conn_t *c)
{
    mgr_server_t  *s;

    if (c->ready || c->closing || c->last) {
        return;
    }

    s = c->server;

    c->ready = 1;
    c->ready_next = NULL;

    *s->ready_tail = c;
    s->ready_tail = &c->ready_next;
    s->nready++;
}


void
mgr_ready_first(mgr_conn_t *c)
{
    mgr_server_t  *s;

    if (c->ready || c->closing || c->last) {
        return;
    }

    s = c->server;

    c->ready = 1;
    c->ready_next = s->ready_head;
    s->ready_head = c;
    s->nready++;

    if (c->ready_next == NULL) {
        s->ready_tail = &c->ready_next;
    }
}


mgr_conn_t *
mgr_ready_pop(mgr_server_t *s)
{
    mgr_conn_t  *c;

    c = s->ready_head;

    if (c == NULL) {
        return NULL;
    }

    s->ready_head = c->ready_next;

    if (s->ready_head == NULL) {
        s->ready_tail = &s->ready_head;
    }

    c->ready = 0;
    s->nready--;

    return c;
}


/* a connection in the list must not go away: few are, and it is rare */

static void
mgr_ready_remove(mgr_conn_t *c)
{
    mgr_conn_t    **cp;
    mgr_server_t   *s;

    s = c->server;
    s->nready--;
    c->ready = 0;

    for (cp = &s->ready_head; *cp != c; cp = &(*cp)->ready_next) {
        /* void */
    }

    *cp = c->ready_next;

    if (*cp == NULL) {
        s->ready_tail = cp;
    }
}


size_t
mgr_conn_unsent(mgr_conn_t *c)
{
    return c->out.n
           + uv_stream_get_write_queue_size((uv_stream_t *) &c->pipe);
}


void
mgr_conn_flush(mgr_conn_t *c)
{
    int             n;
    uv_buf_t        buf;
    ims_resp_buf_t  spare;

    if (c->closing || c->writing) {
        return;
    }

    if (c->out.failed) {
        mgr_log(MGR_LOG_ALERT, "*%llu no memory for replies",
                (unsigned long long) c->number);
        mgr_conn_close(c);
        return;
    }

    if (c->out.n != 0) {

        buf = uv_buf_init((char *) c->out.p, (unsigned) c->out.n);
        n = uv_try_write((uv_stream_t *) &c->pipe, &buf, 1);

        if (n < 0 && n != UV_EAGAIN) {
            mgr_conn_close(c);
            return;
        }

        if (n < (int) c->out.n) {

            n = n < 0 ? 0 : n;

            spare = c->sending;
            c->sending = c->out;
            c->out = spare;
            c->out.n = 0;

            buf = uv_buf_init((char *) c->sending.p + n,
                              (unsigned) c->sending.n - (unsigned) n);

            if (uv_write(&c->write, (uv_stream_t *) &c->pipe, &buf, 1,
                         mgr_on_written)
                != 0)
            {
                mgr_conn_close(c);
                return;
            }

            c->writing = 1;
            c->stuck = 0;
            return;
        }

        c->out.n = 0;
    }

    if (c->out.cap > MGR_IN_KEPT) {
        ims_resp_free(&c->out);
    }

    if ((c->last || c->eof) && !c->ready && !c->waiting && !c->held) {
        mgr_conn_close(c);
    }
}


static void
mgr_on_written(uv_write_t *req, int status)
{
    mgr_conn_t  *c;

    c = req->handle->data;
    c->writing = 0;

    if (status != 0) {
        mgr_conn_close(c);
        return;
    }

    if (c->closing) {
        return;
    }

    ims_resp_free(&c->sending);

    /* commands may have waited for this */

    if (c->in_n != 0) {
        mgr_ready(c);
    }

    mgr_conn_flush(c);
}


void
mgr_conn_close(mgr_conn_t *c)
{
    if (c->closing) {
        return;
    }

    if (c->ready) {
        mgr_ready_remove(c);
    }

    mgr_import_orphan(c->server, c);
    mgr_replay_orphan(c->server, c);
    mgr_job_orphan(c->server, c);

    c->closing = 1;
    uv_close((uv_handle_t *) &c->pipe, mgr_on_closed);
}


static void
mgr_on_closed(uv_handle_t *h)
{
    mgr_conn_t    *c;
    mgr_server_t  *s;

    c = h->data;
    s = c->server;

    mgr_log(MGR_LOG_DEBUG, "*%llu closed", (unsigned long long) c->number);

    if (c->prev != NULL) {
        c->prev->next = c->next;

    } else {
        s->conns = c->next;
    }

    if (c->next != NULL) {
        c->next->prev = c->prev;
    }

    s->nconns--;

    free(c->in);
    ims_resp_free(&c->out);
    ims_resp_free(&c->sending);
    free(c);

    if (s->stopping) {
        mgr_server_left(s);
    }
}


/*
 * After each poll.  While some connections are still ready, an idle handle
 * keeps the next poll from waiting.
 */

static void
mgr_on_check(uv_check_t *h)
{
    mgr_server_t  *s;

    s = h->data;

    if ((s->ready_head != NULL && !mgr_gathering(s)) || s->jobs != NULL) {
        mgr_batch_run(s);
    }

    if (mgr_hlog_flush(s) == -1) {
        mgr_batch_fatal(s, "the floor cannot be written");
    }

    if (s->fatal) {
        mgr_server_stop(s, MGR_EXIT_DISK);
        return;
    }

    mgr_signals_look(s);

    if (s->stopping) {
        return;
    }

    if (s->ready_head == NULL && s->jobs == NULL) {
        uv_idle_stop(&s->idle);

    } else {
        mgr_wake(s);
    }
}


/*
 * Does the next batch wait for more clients?  Then a while has passed; libuv's
 * own timers know milliseconds only.
 */
static bool
mgr_gathering(mgr_server_t *s)
{
    uint64_t         wait;
    struct timespec  ts;

    if (s->jobs != NULL || s->stopping) {
        return false;
    }

    wait = mgr_gather_wait(&s->gather, uv_hrtime(), s->nready);

    if (wait == 0) {
        return false;
    }

    ts.tv_sec = 0;
    ts.tv_nsec = (long) wait;       /* of a commit's time: below a second */

    (void) nanosleep(&ts, NULL);

    return true;
}


void
mgr_wake(mgr_server_t *s)
{
    if (!s->stopping) {
        uv_idle_start(&s->idle, mgr_on_idle);
    }
}


static void
mgr_on_idle(uv_idle_t *h)
{
    (void) h;
}


static void
mgr_on_tick(uv_timer_t *h)
{
    mgr_conn_t    *c, *next;
    mgr_server_t  *s;

    s = h->data;
    s->tick++;

    if (s->noise > MGR_NOISE) {
        mgr_log(MGR_LOG_WARN, "%u more lines about clients left out",
                s->noise - MGR_NOISE);
    }

    s->noise = 0;

    for (c = s->conns; c != NULL; c = next) {
        next = c->next;
        mgr_conn_tick(c);
    }

    mgr_batch_tick(s);
    mgr_hlog_look(s);
    mgr_notify_alive(uv_now(s->loop));

    if (s->fatal) {
        mgr_server_stop(s, MGR_EXIT_DISK);
    }
}


static void
mgr_conn_tick(mgr_conn_t *c)
{
    size_t  left;

    if (c->closing) {
        return;
    }

    left = uv_stream_get_write_queue_size((uv_stream_t *) &c->pipe);

    if (left != 0 && left == c->stuck_left) {

        if (++c->stuck >= MGR_STUCK_S) {
            mgr_log(MGR_LOG_WARN, "*%llu does not read its answers, closed",
                    (unsigned long long) c->number);
            mgr_conn_close(c);
        }

        return;
    }

    c->stuck = 0;
    c->stuck_left = left;

    if (c->role == MGR_ROLE_NONE
        && uv_now(c->server->loop) - c->active > MGR_NOBODY_S * 1000)
    {
        mgr_conn_close(c);
    }
}


void
mgr_server_stop(mgr_server_t *s, int exit_code)
{
    mgr_conn_t  *c, *next;

    if (s->stopping) {
        return;
    }

    s->stopping = 1;
    s->exit_code = exit_code;

    uv_close((uv_handle_t *) &s->listener, NULL);
    uv_close((uv_handle_t *) &s->check, NULL);
    uv_close((uv_handle_t *) &s->idle, NULL);

    while (mgr_ready_pop(s) != NULL) {
        /* void */
    }

    for (c = s->conns; c != NULL; c = next) {
        next = c->next;

        c->waiting = 0;
        c->held = 0;
        c->last = 1;
        mgr_conn_flush(c);
    }

    mgr_copy_stop(s);

    /* those that read slowly do not hold up the end for long */

    if (s->conns == NULL) {
        mgr_server_left(s);

    } else {
        uv_timer_start(&s->timer, mgr_on_stop_late, MGR_STOP_MS, 0);
    }
}


static void
mgr_on_stop_late(uv_timer_t *h)
{
    mgr_conn_t    *c, *next;
    mgr_server_t  *s;

    s = h->data;

    for (c = s->conns; c != NULL; c = next) {
        next = c->next;
        mgr_conn_close(c);
    }
}


static void
mgr_server_left(mgr_server_t *s)
{
    if (s->conns == NULL && !uv_is_closing((uv_handle_t *) &s->timer)) {
        uv_close((uv_handle_t *) &s->timer, NULL);
    }
}
