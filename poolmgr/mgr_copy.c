/*
 * Copyright (C) nginx-ims contributors
 *
 * See mgr_copy.h.
 */

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/ims_clock.h"
#include "mgr_batch.h"
#include "mgr_copy.h"
#include "mgr_hlog.h"


#define MGR_COPY_TEXT    1024       /* of a child's answer */
#define MGR_COPY_NAME    64         /* of a file in a directory */


typedef enum {
    MGR_COPY_BACKUP = 0,
    MGR_COPY_COMPACT,
    MGR_COPY_RESTORE
} mgr_copy_kind_e;

typedef struct mgr_copy_s  mgr_copy_t;

struct mgr_copy_s {
    mgr_server_t       *server;
    mgr_job_t          *job;
    mgr_copy_kind_e     kind;
    char                path[PATH_MAX];
    uint64_t            began;          /* ms */
    uint64_t            frozen;         /* ms, 0: not */
    int                 rc;
    char                err[512];
    ims_pool_check_t    check;

    uv_work_t           work;

    uv_process_t        child;
    uv_pipe_t           pipe;
    char                text[MGR_COPY_TEXT];
    size_t              ntext;
    unsigned            handles;        /* still open */
    unsigned            done:1;         /* the copy is made, or has failed */
    int64_t             status;         /* of the child */
};


static void mgr_copy_begin(mgr_call_t *call, mgr_copy_kind_e kind,
    mgr_job_pt slice);
static bool mgr_copy_path(mgr_call_t *call, char *path);
static int mgr_copy_end(mgr_server_t *s, mgr_copy_t *copy, int rc);
static void mgr_copy_refuse(mgr_copy_t *copy, ims_resp_buf_t *out);
static uint64_t mgr_copy_ms(void);

static int mgr_backup_slice(mgr_server_t *s, mgr_job_t *job,
    ims_resp_buf_t *out);
static void mgr_backup_name(char *path);
static int mgr_backup_spawn(mgr_copy_t *copy);
static void mgr_backup_on_alloc(uv_handle_t *h, size_t n, uv_buf_t *buf);
static void mgr_backup_on_read(uv_stream_t *stream, ssize_t n,
    const uv_buf_t *buf);
static void mgr_backup_on_exit(uv_process_t *child, int64_t status,
    int signo);
static void mgr_backup_on_close(uv_handle_t *h);
static void mgr_backup_answer(mgr_copy_t *copy, ims_resp_buf_t *out);

static int mgr_compact_slice(mgr_server_t *s, mgr_job_t *job,
    ims_resp_buf_t *out);
static int mgr_restore_slice(mgr_server_t *s, mgr_job_t *job,
    ims_resp_buf_t *out);
static bool mgr_copy_alone(mgr_server_t *s, mgr_job_t *job);
static int mgr_copy_work(mgr_copy_t *copy);
static void mgr_copy_on_work(uv_work_t *work);
static void mgr_copy_on_worked(uv_work_t *work, int status);
static void mgr_copy_freeze(mgr_copy_t *copy);
static void mgr_copy_thaw(mgr_copy_t *copy);
static int mgr_copy_change(mgr_copy_t *copy, ims_pool_started_t *st);


const char *
mgr_copy_text(const mgr_server_t *s)
{
    static const char *const  kinds[] = { "backup", "compact", "restore" };

    return s->copy ? kinds[s->copy->kind] : "none";
}


/* messages name a file in quotes, and say then what is wrong with it */

const char *
mgr_copy_reason(const char *err)
{
    const char  *quote;

    quote = strrchr(err, '"');

    if (quote != NULL) {
        err = quote + 1;
    }

    return err + strspn(err, ": ");
}


static uint64_t
mgr_copy_ms(void)
{
    return uv_hrtime() / 1000000;
}


static void
mgr_copy_begin(mgr_call_t *call, mgr_copy_kind_e kind, mgr_job_pt slice)
{
    mgr_copy_t    *copy;
    mgr_server_t  *s;

    s = call->server;

    if (s->copy != NULL || s->import.no != 0) {
        ims_resp_error(call->out, s->copy != NULL
                       ? "BUSY another copy is being made"
                       : "BUSY an import is under way");
        return;
    }

    copy = calloc(1, sizeof(mgr_copy_t));
    call->job = mgr_job_new(slice);

    if (copy == NULL || call->job == NULL
        || (kind != MGR_COPY_COMPACT && !mgr_copy_path(call, copy->path)))
    {
        if (copy == NULL || call->job == NULL) {
            mgr_refuse(call, IMS_POOL_INTERNAL, 0);
        }

        mgr_job_free(call->job);
        call->job = NULL;
        free(copy);
        return;
    }

    copy->server = s;
    copy->kind = kind;
    copy->job = call->job;
    copy->began = mgr_copy_ms();
    ims_pool_check_begin(&copy->check, NULL, NULL);

    call->job->must_end = true;
    call->job->u.copy = copy;
    s->copy = copy;

    mgr_log(MGR_LOG_NOTICE, "%s begun%s%s", mgr_copy_text(s),
            copy->path[0] ? ": " : "", copy->path);
}


static bool
mgr_copy_path(mgr_call_t *call, char *path)
{
    ims_str_t  arg;

    arg = mgr_arg(call, 1);

    if (arg.n == 0 || arg.p[0] != '/' || arg.n >= PATH_MAX - MGR_COPY_NAME
        || memchr(arg.p, '\0', arg.n) != NULL)
    {
        mgr_badarg(call, "a path that begins with /");
        return false;
    }

    memcpy(path, arg.p, arg.n);
    path[arg.n] = '\0';

    return true;
}


/* the job's last slice is over */

static int
mgr_copy_end(mgr_server_t *s, mgr_copy_t *copy, int rc)
{
    mgr_copy_thaw(copy);

    s->copy = NULL;
    free(copy);

    return rc;
}


static void
mgr_copy_refuse(mgr_copy_t *copy, ims_resp_buf_t *out)
{
    size_t       n;
    const char  *reason;

    mgr_log(MGR_LOG_ERR, "%s failed: %s", mgr_copy_text(copy->server),
            copy->err[0] ? copy->err : ims_pool_strerror(copy->rc));

    if (out == NULL) {
        return;
    }

    reason = mgr_copy_reason(copy->err);

    if (*reason == '\0') {
        reason = ims_pool_strerror(copy->rc);
    }

    n = strcspn(reason, "\r\n");

    ims_resp_raw(out, "-FAILED ", 8);
    ims_resp_raw(out, reason, n);
    ims_resp_raw(out, "\r\n", 2);
}


/* --- backup ------------------------------------------------------------- */

/* BACKUP <path> */

void
mgr_cmd_backup(mgr_call_t *call)
{
    mgr_copy_begin(call, MGR_COPY_BACKUP, mgr_backup_slice);
}


static int
mgr_backup_slice(mgr_server_t *s, mgr_job_t *job, ims_resp_buf_t *out)
{
    mgr_copy_t  *copy;

    copy = job->u.copy;

    if (!copy->done) {

        copy->rc = mgr_backup_spawn(copy);

        if (copy->rc == IMS_POOL_OK) {
            return MGR_JOB_PARK;
        }
    }

    if (copy->rc != IMS_POOL_OK) {
        mgr_copy_refuse(copy, out);

    } else {
        mgr_backup_answer(copy, out);
    }

    return mgr_copy_end(s, copy, IMS_POOL_OK);
}


/* in a directory a file of its own */

static void
mgr_backup_name(char *path)
{
    time_t       now;
    struct tm    tm;
    struct stat  sb;

    if (stat(path, &sb) == -1 || !S_ISDIR(sb.st_mode)) {
        return;
    }

    now = (time_t) (ims_wall_ms() / 1000);
    gmtime_r(&now, &tm);

    strftime(path + strlen(path), MGR_COPY_NAME, "/pool-%Y%m%dT%H%M%SZ.mdb",
             &tm);
}


/*
 * This program once more, whatever has become of its file.  It reads the
 * database as any reader does, and says on its standard output how it went.
 */
static int
mgr_backup_spawn(mgr_copy_t *copy)
{
    int                   rc;
    char                 *args[6];
    uv_stdio_container_t  io[3];
    uv_process_options_t  o;

    mgr_backup_name(copy->path);

    args[0] = (char *) (uintptr_t) "ims-poolmgr";
    args[1] = (char *) (uintptr_t) "--dir";
    args[2] = (char *) (uintptr_t) ims_pool_writer_dir(copy->server->pool);
    args[3] = (char *) (uintptr_t) "--backup";
    args[4] = copy->path;
    args[5] = NULL;

    memset(&o, 0, sizeof(o));
    memset(io, 0, sizeof(io));

    uv_pipe_init(copy->server->loop, &copy->pipe, 0);
    copy->pipe.data = copy;
    copy->child.data = copy;

    io[0].flags = UV_IGNORE;
    io[1].flags = UV_CREATE_PIPE|UV_WRITABLE_PIPE;
    io[1].data.stream = (uv_stream_t *) &copy->pipe;
    io[2].flags = UV_IGNORE;

    o.file = "/proc/self/exe";
    o.args = args;
    o.stdio = io;
    o.stdio_count = 3;
    o.exit_cb = mgr_backup_on_exit;

    rc = uv_spawn(copy->server->loop, &copy->child, &o);

    if (rc == 0) {
        rc = uv_read_start((uv_stream_t *) &copy->pipe, mgr_backup_on_alloc,
                           mgr_backup_on_read);
    }

    copy->handles = 2;

    if (rc == 0) {
        return IMS_POOL_OK;
    }

    /* it goes on when both handles are closed, as after the child's end */

    snprintf(copy->err, sizeof(copy->err), "no process: %s",
             uv_strerror(rc));
    copy->status = -1;

    uv_close((uv_handle_t *) &copy->pipe, mgr_backup_on_close);
    uv_close((uv_handle_t *) &copy->child, mgr_backup_on_close);

    return IMS_POOL_OK;
}


static void
mgr_backup_on_alloc(uv_handle_t *h, size_t n, uv_buf_t *buf)
{
    mgr_copy_t  *copy;

    (void) n;

    copy = h->data;
    *buf = uv_buf_init(copy->text + copy->ntext,
                       (unsigned) (sizeof(copy->text) - 1 - copy->ntext));
}


static void
mgr_backup_on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    mgr_copy_t  *copy;

    (void) buf;

    copy = stream->data;

    if (n >= 0) {
        copy->ntext += (size_t) n;
        return;
    }

    /* UV_ENOBUFS too: it has more to say than anybody wants to hear */

    if (!uv_is_closing((uv_handle_t *) stream)) {
        uv_close((uv_handle_t *) stream, mgr_backup_on_close);
    }
}


static void
mgr_backup_on_exit(uv_process_t *child, int64_t status, int signo)
{
    mgr_copy_t  *copy;

    copy = child->data;
    copy->status = signo ? 128 + signo : status;

    uv_close((uv_handle_t *) child, mgr_backup_on_close);
}


static void
mgr_backup_on_close(uv_handle_t *h)
{
    char         temp[PATH_MAX + 32];
    mgr_copy_t  *copy;

    copy = h->data;

    if (--copy->handles != 0) {
        return;
    }

    copy->done = 1;
    copy->text[copy->ntext] = '\0';

    if (copy->status != 0) {
        copy->rc = IMS_POOL_SYSTEM;

        if (copy->err[0] == '\0') {
            snprintf(copy->err, sizeof(copy->err), "%.*s",
                     (int) strcspn(copy->text, "\n"), copy->text);
        }

        /* of one that was killed this is left */

        snprintf(temp, sizeof(temp), "%s.%d.new", copy->path,
                 uv_process_get_pid(&copy->child));
        (void) unlink(temp);
    }

    if (copy->server->stopping) {
        mgr_log(MGR_LOG_WARN, "backup given up");
        (void) mgr_copy_end(copy->server, copy, IMS_POOL_OK);
        return;
    }

    mgr_job_unpark(copy->server, copy->job);
}


void
mgr_copy_stop(mgr_server_t *s)
{
    if (s->copy != NULL && s->copy->kind == MGR_COPY_BACKUP
        && s->copy->handles != 0)
    {
        (void) uv_process_kill(&s->copy->child, SIGKILL);
    }
}


/* the child's lines are names and numbers */

static void
mgr_backup_answer(mgr_copy_t *copy, ims_resp_buf_t *out)
{
    mgr_call_t          call;
    unsigned long long  bytes, rows;

    if (sscanf(copy->text, "bytes %llu rows %llu", &bytes, &rows) != 2) {
        copy->rc = IMS_POOL_INTERNAL;
        mgr_copy_refuse(copy, out);
        return;
    }

    mgr_log(MGR_LOG_NOTICE, "backup \"%s\": %llu bytes, %llu rows checked, "
            "in %llu ms", copy->path, bytes, rows,
            (unsigned long long) (mgr_copy_ms() - copy->began));

    if (out == NULL) {
        return;
    }

    memset(&call, 0, sizeof(call));
    call.out = out;

    ims_resp_array(out, 8);
    mgr_pair_z(&call, "file", copy->path);
    mgr_pair_u64(&call, "bytes", bytes);
    mgr_pair_u64(&call, "rows", rows);
    mgr_pair_u64(&call, "took", mgr_copy_ms() - copy->began);
}


/* --- another environment --------------------------------------------------- */

/* COMPACT */

void
mgr_cmd_compact(mgr_call_t *call)
{
    mgr_copy_begin(call, MGR_COPY_COMPACT, mgr_compact_slice);

    if (call->job != NULL) {
        mgr_copy_freeze(call->job->u.copy);
    }
}


/* RESTORE <path> */

void
mgr_cmd_restore(mgr_call_t *call)
{
    mgr_copy_begin(call, MGR_COPY_RESTORE, mgr_restore_slice);
}


static int
mgr_compact_slice(mgr_server_t *s, mgr_job_t *job, ims_resp_buf_t *out)
{
    uint64_t            before;
    mgr_call_t          call;
    mgr_copy_t         *copy;
    ims_pool_info_t     info;
    ims_pool_started_t  st;

    copy = job->u.copy;

    /* all that is at work is done first: it may write */

    if (!mgr_copy_alone(s, job)) {
        return IMS_POOL_MORE;
    }

    if (!copy->done) {

        if (mgr_copy_work(copy) == 0) {
            return MGR_JOB_PARK;
        }
    }

    memset(&info, 0, sizeof(info));
    (void) ims_pool_info(s->pool, &info);
    before = info.map_used;

    if (mgr_copy_change(copy, &st) != IMS_POOL_OK) {
        mgr_copy_refuse(copy, out);
        return mgr_copy_end(s, copy, IMS_POOL_OK);
    }

    (void) ims_pool_info(s->pool, &info);
    mgr_hlog_started(s);

    mgr_log(MGR_LOG_NOTICE, "compacted from %llu to %llu bytes, incarnation "
            "%llu; nothing was written for %llu ms",
            (unsigned long long) before, (unsigned long long) info.map_used,
            (unsigned long long) st.incarnation,
            (unsigned long long) (mgr_copy_ms() - copy->frozen));

    if (out != NULL) {
        memset(&call, 0, sizeof(call));
        call.out = out;

        ims_resp_array(out, 8);
        mgr_pair_u64(&call, "before", before);
        mgr_pair_u64(&call, "after", info.map_used);
        mgr_pair_u64(&call, "incarnation", st.incarnation);
        mgr_pair_u64(&call, "took", mgr_copy_ms() - copy->began);
    }

    return mgr_copy_end(s, copy, IMS_POOL_OK);
}


static int
mgr_restore_slice(mgr_server_t *s, mgr_job_t *job, ims_resp_buf_t *out)
{
    mgr_call_t          call;
    mgr_copy_t         *copy;
    ims_pool_started_t  st;

    copy = job->u.copy;

    if (!copy->done && mgr_copy_work(copy) == 0) {
        return MGR_JOB_PARK;
    }

    if (copy->rc == IMS_POOL_OK && copy->frozen == 0) {
        mgr_copy_freeze(copy);
    }

    if (copy->rc == IMS_POOL_OK && !mgr_copy_alone(s, job)) {
        return IMS_POOL_MORE;
    }

    if (mgr_copy_change(copy, &st) != IMS_POOL_OK) {
        mgr_copy_refuse(copy, out);
        return mgr_copy_end(s, copy, IMS_POOL_OK);
    }

    mgr_hlog_started(s);

    /* one that was under way is not in this environment */

    memset(&s->import, 0, sizeof(s->import));

    mgr_log(MGR_LOG_ALERT, "restored from \"%s\", incarnation %llu: all "
            "leases are ended, nothing is given for the next %llu seconds",
            copy->path, (unsigned long long) st.incarnation,
            (unsigned long long) (st.hold_until - st.now + 999) / 1000);

    if (out != NULL) {
        memset(&call, 0, sizeof(call));
        call.out = out;

        ims_resp_array(out, 8);
        mgr_pair_u64(&call, "rows", copy->check.rows);
        mgr_pair_u64(&call, "incarnation", st.incarnation);
        mgr_pair_u64(&call, "hold", (st.hold_until - st.now + 999) / 1000);
        mgr_pair_u64(&call, "took", mgr_copy_ms() - copy->began);
    }

    return mgr_copy_end(s, copy, IMS_POOL_OK);
}


static bool
mgr_copy_alone(mgr_server_t *s, mgr_job_t *job)
{
    return s->jobs == job && job->next == NULL;
}


/* in a thread, which touches nothing but the directory */

static int
mgr_copy_work(mgr_copy_t *copy)
{
    int  rc;

    copy->work.data = copy;

    rc = uv_queue_work(copy->server->loop, &copy->work, mgr_copy_on_work,
                       mgr_copy_on_worked);

    if (rc != 0) {
        copy->rc = IMS_POOL_SYSTEM;
        snprintf(copy->err, sizeof(copy->err), "no thread: %s",
                 uv_strerror(rc));
        copy->done = 1;
    }

    return rc;
}


static void
mgr_copy_on_work(uv_work_t *work)
{
    mgr_copy_t  *copy;

    copy = work->data;

    copy->rc = ims_pool_copy_begin(copy->server->pool,
                                   copy->kind == MGR_COPY_RESTORE
                                   ? copy->path : NULL, &copy->check,
                                   copy->err, sizeof(copy->err));
}


static void
mgr_copy_on_worked(uv_work_t *work, int status)
{
    mgr_copy_t  *copy;

    (void) status;

    copy = work->data;
    copy->done = 1;

    if (copy->server->stopping) {
        /* the next start takes away what was made */
        mgr_log(MGR_LOG_WARN, "%s given up", mgr_copy_text(copy->server));
        (void) mgr_copy_end(copy->server, copy, IMS_POOL_OK);
        return;
    }

    mgr_job_unpark(copy->server, copy->job);
}


static void
mgr_copy_freeze(mgr_copy_t *copy)
{
    copy->frozen = mgr_copy_ms();
    copy->server->frozen = 1;
}


/* those that wanted to write may, in the order of their connections */

static void
mgr_copy_thaw(mgr_copy_t *copy)
{
    mgr_conn_t    *c;
    mgr_server_t  *s;

    s = copy->server;
    s->frozen = 0;

    for (c = s->conns; c != NULL; c = c->next) {

        if (c->held) {
            c->held = 0;
            mgr_ready(c);
        }
    }

    if (s->ready_head != NULL) {
        mgr_wake(s);
    }
}


static int
mgr_copy_change(mgr_copy_t *copy, ims_pool_started_t *st)
{
    mgr_server_t  *s;

    s = copy->server;

    memset(st, 0, sizeof(ims_pool_started_t));

    if (copy->rc == IMS_POOL_OK) {
        copy->rc = ims_pool_copy_end(s->pool, copy->kind == MGR_COPY_RESTORE,
                                     st, copy->err, sizeof(copy->err));
    }

    if (ims_pool_broken(s->pool)) {
        mgr_batch_fatal(s, "the change to another environment failed");
    }

    return copy->rc;
}
