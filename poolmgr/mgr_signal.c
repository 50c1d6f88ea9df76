/*
 * Copyright (C) nginx-ims contributors
 *
 * See mgr_signal.h.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "mgr_copy.h"
#include "mgr_hlog.h"
#include "mgr_notify.h"
#include "mgr_signal.h"


#define MGR_LISTEN_FD    3          /* sd_listen_fds(3) */
#define MGR_OURS         "ims-poolmgr"
#define MGR_ARGS         64
#define MGR_HANDOVER_MS  2000       /* for what was asked already */


static void mgr_on_signal(uv_signal_t *h, int signo);
static void mgr_reload(mgr_server_t *s);
static void mgr_reload_secrets(mgr_server_t *s, mgr_secret_t *list);
static void mgr_handover(mgr_server_t *s);
static bool mgr_handover_busy(mgr_server_t *s);
static void mgr_handover_on_alloc(uv_handle_t *h, size_t n, uv_buf_t *buf);
static void mgr_handover_on_read(uv_stream_t *stream, ssize_t n,
    const uv_buf_t *buf);
static void mgr_handover_on_exit(uv_process_t *child, int64_t status,
    int signo);
static void mgr_handover_on_close(uv_handle_t *h);


static uv_signal_t  mgr_signal_handles[4];


int
mgr_signals_start(mgr_server_t *s, mgr_signal_t *sig)
{
    int       rc;
    unsigned  i;

    static const int  signals[4] = { SIGTERM, SIGINT, SIGHUP, SIGUSR2 };

    s->signal = sig;

    for (i = 0, rc = 0; i < 4 && rc == 0; i++) {

        uv_signal_init(s->loop, &mgr_signal_handles[i]);
        mgr_signal_handles[i].data = s;
        rc = uv_signal_start(&mgr_signal_handles[i], mgr_on_signal,
                             signals[i]);

        /* only connections keep the loop alive */
        uv_unref((uv_handle_t *) &mgr_signal_handles[i]);
    }

    return rc;
}


static void
mgr_on_signal(uv_signal_t *h, int signo)
{
    mgr_server_t  *s;

    s = h->data;

    switch (signo) {

    case SIGHUP:
        mgr_notify_reloading();
        mgr_reload(s);
        mgr_notify("READY=1");
        break;

    case SIGUSR2:
        mgr_handover(s);
        break;

    default:
        mgr_log(MGR_LOG_NOTICE, "signal %d, stopping", signo);
        mgr_notify("STOPPING=1");
        s->signal->handover = false;
        mgr_server_stop(s, 0);
    }
}


/* --- reload ---------------------------------------------------------------- */

static void
mgr_reload(mgr_server_t *s)
{
    char           err[512];
    mgr_secret_t  *list;

    if (s->stopping) {
        return;
    }

    mgr_hlog_reopen(s);

    list = NULL;
    err[0] = '\0';

    if (mgr_secrets_load(&list, s->signal->secrets, s->signal->owner, err,
                         sizeof(err))
        != 0)
    {
        mgr_log(MGR_LOG_ERR, "%s: the secrets stay as they were", err);
        mgr_secrets_free(list);
        return;
    }

    mgr_reload_secrets(s, list);
    mgr_log(MGR_LOG_NOTICE, "secrets and history log are opened anew");
}


/* who came in with a secret that is no more, goes */

static void
mgr_reload_secrets(mgr_server_t *s, mgr_secret_t *list)
{
    mgr_conn_t          *c, *next;
    mgr_secret_t        *old;
    const mgr_secret_t  *found;

    old = s->secrets;
    s->secrets = list;

    for (c = s->conns; c != NULL; c = next) {
        next = c->next;

        if (c->secret == NULL) {
            continue;
        }

        found = mgr_secrets_same(list, c->secret);
        c->secret = found;

        if (found != NULL) {
            c->role = found->role;
            continue;
        }

        mgr_log(MGR_LOG_NOTICE, "*%llu closed: its secret is withdrawn",
                (unsigned long long) c->number);
        c->role = MGR_ROLE_NONE;
        mgr_conn_close(c);
    }

    mgr_secrets_free(old);
}


/* --- another program --------------------------------------------------------- */

/*
 * First it is asked whether it would start at all.  That it exits well is not
 * enough: a file that is no program is taken for a script, and does, too.
 */

static void
mgr_handover(mgr_server_t *s)
{
    int                   i, n, rc;
    char                 *args[MGR_ARGS];
    mgr_signal_t         *sig;
    uv_stdio_container_t  io[3];
    uv_process_options_t  o;

    sig = s->signal;

    if (s->stopping || sig->testing || sig->handover) {
        return;
    }

    if (mgr_handover_busy(s)) {
        return;
    }

    n = 0;
    args[n++] = sig->argv[0];
    args[n++] = (char *) (uintptr_t) "--test";

    for (i = 1; sig->argv[i] != NULL && n < MGR_ARGS - 1; i++) {
        args[n++] = sig->argv[i];
    }

    args[n] = NULL;

    memset(&o, 0, sizeof(o));
    memset(io, 0, sizeof(io));

    io[0].flags = UV_IGNORE;
    io[1].flags = UV_CREATE_PIPE|UV_WRITABLE_PIPE;
    io[1].data.stream = (uv_stream_t *) &sig->pipe;
    io[2].flags = UV_INHERIT_FD;
    io[2].data.fd = STDERR_FILENO;

    o.file = sig->argv[0];
    o.args = args;
    o.stdio = io;
    o.stdio_count = 3;
    o.exit_cb = mgr_handover_on_exit;

    uv_pipe_init(s->loop, &sig->pipe, 0);
    sig->test.data = s;
    sig->pipe.data = s;
    sig->ntext = 0;
    sig->handles = 2;
    sig->good = false;
    sig->testing = true;

    rc = uv_spawn(s->loop, &sig->test, &o);

    if (rc == 0) {
        rc = uv_read_start((uv_stream_t *) &sig->pipe, mgr_handover_on_alloc,
                           mgr_handover_on_read);
    }

    if (rc != 0) {
        mgr_log(MGR_LOG_ERR, "cannot run \"%s\": %s", sig->argv[0],
                uv_strerror(rc));
        uv_close((uv_handle_t *) &sig->pipe, mgr_handover_on_close);
        uv_close((uv_handle_t *) &sig->test, mgr_handover_on_close);
    }
}


/* what would be lost, or would have to be done again */

static bool
mgr_handover_busy(mgr_server_t *s)
{
    if (s->copy == NULL && s->import.no == 0) {
        return false;
    }

    mgr_log(MGR_LOG_ERR, "no other program while %s is under way (%s): going "
            "on as before", s->copy ? "a copy" : "an import",
            s->copy ? mgr_copy_text(s) : "of identities");

    return true;
}


static void
mgr_handover_on_alloc(uv_handle_t *h, size_t n, uv_buf_t *buf)
{
    mgr_server_t  *s;
    mgr_signal_t  *sig;

    (void) n;

    s = h->data;
    sig = s->signal;

    *buf = uv_buf_init(sig->text + sig->ntext,
                       (unsigned) (sizeof(sig->text) - sig->ntext));
}


static void
mgr_handover_on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    mgr_server_t  *s;

    (void) buf;

    s = stream->data;

    if (n >= 0) {
        s->signal->ntext += (size_t) n;

    } else if (!uv_is_closing((uv_handle_t *) stream)) {
        uv_close((uv_handle_t *) stream, mgr_handover_on_close);
    }
}


static void
mgr_handover_on_exit(uv_process_t *child, int64_t status, int signo)
{
    mgr_server_t  *s;

    s = child->data;
    s->signal->good = status == 0 && signo == 0;

    uv_close((uv_handle_t *) child, mgr_handover_on_close);
}


static void
mgr_handover_on_close(uv_handle_t *h)
{
    mgr_server_t  *s;
    mgr_signal_t  *sig;

    s = h->data;
    sig = s->signal;

    if (--sig->handles != 0) {
        return;
    }

    sig->testing = false;

    if (s->stopping) {
        return;
    }

    if (!sig->good || sig->ntext != sizeof(MGR_WOULD_START) - 1
        || memcmp(sig->text, MGR_WOULD_START, sig->ntext) != 0)
    {
        mgr_log(MGR_LOG_ERR, "\"%s\" would not start: going on as before",
                sig->argv[0]);
        return;
    }

    if (mgr_handover_busy(s)) {
        return;
    }

    sig->handover = true;
    sig->since = uv_now(s->loop);
    mgr_wake(s);
}


void
mgr_signals_look(mgr_server_t *s)
{
    mgr_signal_t  *sig;

    sig = s->signal;

    if (sig == NULL || !sig->handover || s->stopping) {
        return;
    }

    /*
     * what was read is answered, as long as it does come to an end; who comes
     * now waits in the backlog
     */

    if ((s->ready_head == NULL && s->jobs == NULL && s->copy == NULL)
        || uv_now(s->loop) - sig->since > MGR_HANDOVER_MS)
    {
        mgr_log(MGR_LOG_NOTICE, "handing over to \"%s\"", sig->argv[0]);
        mgr_server_stop(s, MGR_EXIT_HANDOVER);
    }
}


int
mgr_signal_inherited(const char *path, bool *given, char *err, size_t errlen)
{
    int                  type, on;
    socklen_t            len;
    const char          *pid, *n, *names;
    struct sockaddr_un   sun;

    pid = getenv("LISTEN_PID");
    n = getenv("LISTEN_FDS");
    names = getenv("LISTEN_FDNAMES");

    if (pid == NULL || n == NULL || strtol(pid, NULL, 10) != (long) getpid()) {
        return -1;
    }

    *given = names == NULL || strcmp(names, MGR_OURS) != 0;

    if (strcmp(n, "1") != 0) {
        snprintf(err, errlen, "LISTEN_FDS is %s: one socket is meant", n);
        return -2;
    }

    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");

    memset(&sun, 0, sizeof(sun));
    len = sizeof(sun) - 1;

    if (getsockname(MGR_LISTEN_FD, (struct sockaddr *) &sun, &len) == -1
        || sun.sun_family != AF_UNIX || strcmp(sun.sun_path, path) != 0)
    {
        snprintf(err, errlen, "the socket that was handed over is not \"%s\"",
                 path);
        return -2;
    }

    len = sizeof(int);

    if (getsockopt(MGR_LISTEN_FD, SOL_SOCKET, SO_TYPE, &type, &len) == -1
        || type != SOCK_STREAM
        || getsockopt(MGR_LISTEN_FD, SOL_SOCKET, SO_ACCEPTCONN, &on, &len)
           == -1
        || !on)
    {
        snprintf(err, errlen, "\"%s\" is no stream socket that listens",
                 path);
        return -2;
    }

    (void) fcntl(MGR_LISTEN_FD, F_SETFD, FD_CLOEXEC);
    (void) fcntl(MGR_LISTEN_FD, F_SETFL, O_NONBLOCK);

    return MGR_LISTEN_FD;
}


void
mgr_signal_exec(mgr_signal_t *sig)
{
    char  pid[32];

    if (sig->fd == MGR_LISTEN_FD) {
        (void) fcntl(sig->fd, F_SETFD, 0);

    } else if (dup2(sig->fd, MGR_LISTEN_FD) == -1) {
        mgr_log(MGR_LOG_EMERG, "dup2() failed: %s", strerror(errno));
        return;
    }

    snprintf(pid, sizeof(pid), "%ld", (long) getpid());

    setenv("LISTEN_PID", pid, 1);
    setenv("LISTEN_FDS", "1", 1);
    setenv("LISTEN_FDNAMES", sig->given ? "init" : MGR_OURS, 1);

    if (strchr(sig->argv[0], '/') != NULL) {
        execv(sig->argv[0], sig->argv);

    } else {
        execvp(sig->argv[0], sig->argv);
    }

    mgr_log(MGR_LOG_EMERG, "cannot run \"%s\": %s", sig->argv[0],
            strerror(errno));
}
