/*
 * Copyright (C) nginx-ims contributors
 *
 * See mgr_batch.h.
 */

#include <stdarg.h>
#include <stdio.h>

#include "mgr_batch.h"
#include "mgr_hlog.h"
#include "mgr_job.h"
#include "mgr_metrics.h"


#define MGR_READERS_TICKS  10
#define MGR_CLOCK_TICKS    50       /* "once a minute" at the latest */


typedef struct {
    mgr_conn_t           *conn;
    const mgr_command_t  *command;      /* NULL: refused before it ran */
    mgr_job_t            *job;
    size_t                at;           /* in conn->in */
    size_t                out;          /* its reply, in conn->out */
    size_t                out_end;
    unsigned              role;
    const mgr_secret_t   *secret;
} mgr_batch_cmd_t;

typedef struct {
    unsigned              n;
    bool                  open;         /* a transaction is open */
    mgr_import_t          import;       /* as it was before */
    ims_resp_buf_t        log;          /* level byte and text, NUL */
    mgr_batch_cmd_t       cmd[MGR_BATCH_MAX];
} mgr_batch_t;

/* what became of one connection's next command */
typedef enum {
    MGR_NEXT_DONE = 0,
    MGR_NEXT_NONE,          /* it has none, or may not have it now */
    MGR_NEXT_AFTER,         /* wants to see what this batch does */
    MGR_NEXT_BROKEN         /* and with it the transaction */
} mgr_next_e;


static bool mgr_batch_gather(mgr_server_t *s, mgr_batch_t *b);
static mgr_next_e mgr_batch_next(mgr_server_t *s, mgr_batch_t *b,
    mgr_conn_t *c);
static void mgr_batch_garbage(mgr_server_t *s, mgr_conn_t *c, int rc);
static bool mgr_batch_do(mgr_server_t *s, mgr_batch_t *b,
    mgr_batch_cmd_t *cmd);
static void mgr_batch_call(mgr_server_t *s, mgr_batch_cmd_t *cmd,
    const ims_resp_parser_t *parser, mgr_call_t *call);
static mgr_batch_cmd_t *mgr_batch_add(mgr_server_t *s, mgr_batch_t *b,
    mgr_conn_t *c);
static bool mgr_batch_begin(mgr_server_t *s, mgr_batch_t *b, mgr_call_t *call);
static void mgr_batch_commit(mgr_server_t *s, mgr_batch_t *b, bool broken);
static void mgr_batch_replay(mgr_server_t *s, mgr_batch_t *b);
static int mgr_batch_timed_commit(mgr_server_t *s);
static int mgr_batch_alone(mgr_server_t *s, mgr_batch_cmd_t *cmd);
static void mgr_batch_failed(mgr_batch_cmd_t *cmd, int rc);
static void mgr_batch_unknown(mgr_server_t *s, mgr_batch_t *b);
static void mgr_batch_undo_out(mgr_batch_t *b);
static void mgr_batch_redo_out(mgr_batch_cmd_t *cmd);
static void mgr_batch_finish(mgr_server_t *s, mgr_batch_t *b);
static void mgr_batch_count(mgr_server_t *s, mgr_batch_cmd_t *cmd);
static void mgr_batch_space(mgr_server_t *s);
static void mgr_keep(mgr_server_t *s);
static int mgr_keep_slice(mgr_server_t *s, mgr_job_t *job,
    ims_resp_buf_t *out);
static void mgr_batch_log_flush(mgr_batch_t *b, bool write);


/* one process, one server: the list is too long for the stack */
static mgr_batch_t  mgr_batch;


void
mgr_batch_run(mgr_server_t *s)
{
    bool          broken;
    mgr_batch_t  *b;

    b = &mgr_batch;

    b->n = 0;
    b->open = false;
    b->import = s->import;

    s->turn++;

    broken = mgr_batch_gather(s, b);

    if (b->n != 0) {
        s->batches++;
        mgr_metrics_batch(s, b->n);
    }

    if (b->open) {
        mgr_batch_commit(s, b, broken);

    } else {
        mgr_batch_log_flush(b, true);
    }

    mgr_batch_finish(s, b);
    mgr_keep(s);
    mgr_jobs_run(s);
}


/*
 * One command of each connection in turn, until all are done or the batch is
 * full.  Those that had their share come after those that had nothing.
 * Returns true if the transaction broke.
 */

static bool
mgr_batch_gather(mgr_server_t *s, mgr_batch_t *b)
{
    bool          broken;
    uint64_t      begin;
    mgr_next_e    next;
    mgr_conn_t   *c, *full, **tail;

    full = NULL;
    tail = &full;
    broken = false;
    begin = uv_hrtime();

    while (b->n < MGR_BATCH_MAX && uv_hrtime() - begin < MGR_BATCH_NS) {

        c = mgr_ready_pop(s);

        if (c == NULL) {
            break;
        }

        next = mgr_batch_next(s, b, c);

        if (next == MGR_NEXT_AFTER) {
            mgr_ready_first(c);
            break;
        }

        if (next == MGR_NEXT_NONE) {
            continue;
        }

        if (c->share < MGR_SHARE_MAX && c->share_bytes < MGR_SHARE_BYTES) {
            mgr_ready(c);

        } else {
            c->ready_next = NULL;
            *tail = c;
            tail = &c->ready_next;
        }

        if (next == MGR_NEXT_BROKEN) {
            broken = true;
            break;
        }
    }

    while (full != NULL) {
        c = full;
        full = c->ready_next;
        mgr_ready(c);
    }

    return broken;
}


static mgr_next_e
mgr_batch_next(mgr_server_t *s, mgr_batch_t *b, mgr_conn_t *c)
{
    int               rc;
    mgr_batch_cmd_t  *cmd;

    if (c->closing || c->last || c->waiting || c->held
        || mgr_conn_unsent(c) > MGR_OUT_MAX)
    {
        return MGR_NEXT_NONE;
    }

    rc = ims_resp_parse(&c->parser, c->in + c->pos, c->in_n - c->pos,
                        mgr_conn_limit(c));

    if (rc == IMS_RESP_AGAIN) {

        /* half a command, and no more will come */

        if (c->eof) {
            c->last = 1;

            if (c->turn != s->turn) {
                mgr_conn_flush(c);
            }
        }

        return MGR_NEXT_NONE;
    }

    cmd = mgr_batch_add(s, b, c);

    if (rc != IMS_RESP_OK) {
        mgr_batch_garbage(s, c, rc);
        cmd->out_end = c->out.n;
        return MGR_NEXT_DONE;
    }

    if (!mgr_batch_do(s, b, cmd)) {
        b->n--;
        return c->held ? MGR_NEXT_NONE : MGR_NEXT_AFTER;
    }

    s->commands++;

    c->active = uv_now(s->loop);
    c->share++;
    c->share_bytes += c->parser.pos;
    c->pos += c->parser.pos;
    ims_resp_reset(&c->parser);

    cmd->out_end = c->out.n;

    return b->open && ims_pool_broken(s->pool) ? MGR_NEXT_BROKEN
                                               : MGR_NEXT_DONE;
}


static void
mgr_batch_garbage(mgr_server_t *s, mgr_conn_t *c, int rc)
{
    if (rc != IMS_RESP_GARBAGE) {
        ims_resp_error(&c->out, rc == IMS_RESP_TOO_BIG
                                ? "BADARG command too long"
                                : "BADARG too many arguments");
    }

    if (mgr_noise(s)) {
        mgr_log(MGR_LOG_INFO, "*%llu does not speak the protocol, closed",
                (unsigned long long) c->number);
    }

    c->last = 1;
}


/*
 * false: not in this batch, since it wants to see what the batch wrote; or, of
 * a connection that is held then, not before writing is allowed again
 */

static bool
mgr_batch_do(mgr_server_t *s, mgr_batch_t *b, mgr_batch_cmd_t *cmd)
{
    mgr_call_t            call;
    mgr_conn_t           *c;
    const mgr_command_t  *command;

    c = cmd->conn;
    mgr_batch_call(s, cmd, &c->parser, &call);

    command = mgr_command_find(&call);

    if (command == NULL) {
        return true;
    }

    if (command->kind == MGR_CMD_AFTER && b->open) {
        return false;
    }

    if (command->kind == MGR_CMD_WRITE && s->frozen) {
        c->held = 1;
        return false;
    }

    cmd->command = command;

    if (command->kind != MGR_CMD_WRITE || mgr_batch_begin(s, b, &call)) {
        command->run(&call);
    }

    cmd->job = call.job;
    c->waiting = call.job != NULL && !call.job->quiet;

    return true;
}


static void
mgr_batch_call(mgr_server_t *s, mgr_batch_cmd_t *cmd,
    const ims_resp_parser_t *parser, mgr_call_t *call)
{
    call->server = s;
    call->conn = cmd->conn;
    call->parser = parser;
    call->buf = cmd->conn->in + cmd->at;
    call->role = cmd->role;
    call->secret = cmd->secret;
    call->out = &cmd->conn->out;
    call->job = NULL;
}


static mgr_batch_cmd_t *
mgr_batch_add(mgr_server_t *s, mgr_batch_t *b, mgr_conn_t *c)
{
    mgr_batch_cmd_t  *cmd;

    if (c->turn != s->turn) {
        c->turn = s->turn;
        c->share = 0;
        c->share_bytes = 0;
    }

    cmd = &b->cmd[b->n++];

    cmd->conn = c;
    cmd->command = NULL;
    cmd->job = NULL;
    cmd->at = c->pos;
    cmd->out = c->out.n;
    cmd->out_end = c->out.n;
    cmd->role = c->role;
    cmd->secret = c->secret;

    return cmd;
}


/* false: the error was written */

static bool
mgr_batch_begin(mgr_server_t *s, mgr_batch_t *b, mgr_call_t *call)
{
    int  rc;

    if (b->open) {
        return true;
    }

    rc = ims_pool_begin(s->pool);

    if (rc == IMS_POOL_OK) {
        b->open = true;
        return true;
    }

    if (rc == IMS_POOL_NOSPACE) {
        mgr_refuse(call, rc, 0);
        return false;
    }

    /* nothing was done yet, so that nothing is in doubt for the client */

    mgr_batch_fatal(s, "no transaction can be begun");
    ims_resp_error(call->out, "INTERNAL see the log");

    return false;
}


static void
mgr_batch_commit(mgr_server_t *s, mgr_batch_t *b, bool broken)
{
    int       rc;
    uint64_t  begin;

    if (broken) {
        ims_pool_abort(s->pool);
        rc = IMS_POOL_INTERNAL;

    } else {
        begin = uv_hrtime();
        rc = mgr_batch_timed_commit(s);
        mgr_gather_commit(&s->gather, uv_hrtime() - begin);
    }

    b->open = false;

    switch (rc) {

    case IMS_POOL_OK:
        mgr_batch_log_flush(b, true);
        break;

    case IMS_POOL_UNKNOWN:
        mgr_batch_log_flush(b, false);
        mgr_batch_unknown(s, b);
        break;

    default:
        mgr_log(MGR_LOG_ERR, "a batch of %u commands failed (%s), each is "
                "done alone", b->n, ims_pool_strerror(rc));
        mgr_batch_log_flush(b, false);
        mgr_batch_replay(s, b);
    }
}


static int
mgr_batch_timed_commit(mgr_server_t *s)
{
    int       rc;
    uint64_t  begin;

    begin = uv_hrtime();
    rc = ims_pool_commit(s->pool);
    mgr_metrics_commit(s, uv_hrtime() - begin);
    s->commits++;

    return rc;
}


/* Nothing of the batch happened: each writing command once more, alone. */

static void
mgr_batch_replay(mgr_server_t *s, mgr_batch_t *b)
{
    int               rc;
    size_t            out;
    unsigned          i;
    mgr_import_t      before;
    ims_resp_buf_t   *buf;
    mgr_batch_cmd_t  *cmd;

    s->replays++;
    s->import = b->import;

    mgr_batch_undo_out(b);

    for (i = 0; i < b->n; i++) {

        cmd = &b->cmd[i];

        if (cmd->command == NULL || cmd->command->kind != MGR_CMD_WRITE) {
            mgr_batch_redo_out(cmd);
            continue;
        }

        buf = &cmd->conn->out;
        out = buf->n;
        before = s->import;

        rc = s->fatal ? IMS_POOL_UNKNOWN : mgr_batch_alone(s, cmd);

        mgr_batch_log_flush(b, rc == IMS_POOL_OK);

        if (rc != IMS_POOL_OK) {
            s->import = before;
            buf->n = out;
            mgr_batch_failed(cmd, rc);
        }

        cmd->out = out;
        cmd->out_end = buf->n;
    }

    for (i = 0; i < b->n; i++) {
        ims_resp_free(&b->cmd[i].conn->undone);
    }
}


static int
mgr_batch_alone(mgr_server_t *s, mgr_batch_cmd_t *cmd)
{
    int                rc;
    mgr_call_t         call;
    mgr_conn_t        *c;
    ims_resp_parser_t  parser;

    c = cmd->conn;

    mgr_job_free(cmd->job);
    cmd->job = NULL;

    ims_resp_reset(&parser);
    mgr_batch_call(s, cmd, &parser, &call);

    /* it was whole before */

    if (ims_resp_parse(&parser, call.buf, c->in_n - cmd->at,
                       IMS_RESP_MAX_ADMIN)
        != IMS_RESP_OK)
    {
        return IMS_POOL_INTERNAL;
    }

    rc = ims_pool_begin(s->pool);

    if (rc != IMS_POOL_OK) {

        if (rc != IMS_POOL_NOSPACE) {
            mgr_batch_fatal(s, "no transaction can be begun");
            rc = IMS_POOL_INTERNAL;
        }

        return rc;
    }

    cmd->command->run(&call);

    cmd->job = call.job;
    c->waiting = call.job != NULL && !call.job->quiet;

    /* of a broken transaction it aborts and says why */

    rc = mgr_batch_timed_commit(s);

    if (rc == IMS_POOL_UNKNOWN) {
        mgr_batch_fatal(s, "a commit failed, its outcome is unknown");

    } else if (rc != IMS_POOL_OK) {
        mgr_log(MGR_LOG_ALERT, "%s failed in the database: %s",
                cmd->command->name, ims_pool_strerror(rc));
    }

    return rc;
}


/* It left no trace, or (UNKNOWN) perhaps one. */

static void
mgr_batch_failed(mgr_batch_cmd_t *cmd, int rc)
{
    ims_resp_buf_t  *out;

    out = &cmd->conn->out;

    mgr_job_free(cmd->job);
    cmd->job = NULL;
    cmd->conn->waiting = 0;

    switch (rc) {

    case IMS_POOL_UNKNOWN:
        ims_resp_error(out, "UNKNOWN the disk failed, ask again");
        break;

    case IMS_POOL_NOSPACE:
        ims_resp_error(out, "NOSPACE map or disk is full");
        break;

    default:
        ims_resp_error(out, "INTERNAL see the log");
    }
}


/* Done or not, nobody knows: every writing command of the batch says so. */

static void
mgr_batch_unknown(mgr_server_t *s, mgr_batch_t *b)
{
    unsigned          i;
    mgr_batch_cmd_t  *cmd;

    mgr_batch_fatal(s, "a commit failed, its outcome is unknown");
    mgr_batch_undo_out(b);

    for (i = 0; i < b->n; i++) {

        cmd = &b->cmd[i];

        if (cmd->command == NULL || cmd->command->kind != MGR_CMD_WRITE) {
            mgr_batch_redo_out(cmd);
            continue;
        }

        cmd->out = cmd->conn->out.n;
        mgr_batch_failed(cmd, IMS_POOL_UNKNOWN);
        cmd->out_end = cmd->conn->out.n;
    }

    for (i = 0; i < b->n; i++) {
        ims_resp_free(&b->cmd[i].conn->undone);
    }
}


/* Takes this batch's replies back; they stay in undone for redo_out. */

static void
mgr_batch_undo_out(mgr_batch_t *b)
{
    unsigned          i;
    mgr_conn_t       *c;
    mgr_batch_cmd_t  *cmd;

    for (i = 0; i < b->n; i++) {

        cmd = &b->cmd[i];
        c = cmd->conn;

        if (c->undone.p == NULL && c->out.p != NULL) {
            c->undone = c->out;
            memset(&c->out, 0, sizeof(c->out));
            c->out.failed = c->undone.failed;
            ims_resp_raw(&c->out, c->undone.p, cmd->out);
        }
    }
}


static void
mgr_batch_redo_out(mgr_batch_cmd_t *cmd)
{
    size_t       out;
    mgr_conn_t  *c;

    c = cmd->conn;
    out = c->out.n;

    if (c->undone.p != NULL) {
        ims_resp_raw(&c->out, c->undone.p + cmd->out,
                     cmd->out_end - cmd->out);
        cmd->out = out;
        cmd->out_end = c->out.n;
    }
}


/* What was done is committed, or never will be: answer, and go on. */

static void
mgr_batch_finish(mgr_server_t *s, mgr_batch_t *b)
{
    unsigned          i, served, again;
    mgr_conn_t       *c;
    mgr_batch_cmd_t  *cmd;

    served = 0;
    again = 0;

    /* who is killed after an answer has written what led to it */

    if (mgr_hlog_flush(s) == -1) {
        mgr_batch_fatal(s, "the floor cannot be written");
        mgr_batch_unknown(s, b);
    }

    for (i = 0; i < b->n; i++) {

        cmd = &b->cmd[i];
        mgr_batch_count(s, cmd);

        if (cmd->job != NULL) {
            cmd->job->command = cmd->command;
            mgr_job_start(s, cmd->job, cmd->job->quiet ? NULL : cmd->conn);
            cmd->job = NULL;
        }
    }

    for (i = 0; i < b->n; i++) {

        c = b->cmd[i].conn;

        if (c->closing || c->turn == 0) {
            continue;
        }

        c->turn = 0;        /* once for each connection */

        served++;
        again += c->served == s->turn - 1;
        c->served = s->turn;

        mgr_conn_consume(c);

        /* one that waited only for room in its own output */

        if (c->in_n != 0 && !c->waiting && !c->held) {
            mgr_ready(c);
        }

        mgr_conn_flush(c);
    }

    mgr_gather_batch(&s->gather, uv_hrtime(), served, again);
}


/* of those that are answered later, the job counts */

static void
mgr_batch_count(mgr_server_t *s, mgr_batch_cmd_t *cmd)
{
    ims_resp_buf_t  *out;

    out = &cmd->conn->out;

    if (cmd->out_end > cmd->out && cmd->out_end <= out->n) {
        mgr_metrics_reply(s, cmd->command,
                          ims_str_set(out->p + cmd->out,
                                      cmd->out_end - cmd->out));
    }
}


void
mgr_batch_tick(mgr_server_t *s)
{
    unsigned  freed;

    if (s->stopping) {
        return;
    }

    mgr_batch_space(s);

    if (s->tick % MGR_READERS_TICKS == 0
        && ims_pool_reader_check(s->pool, &freed) == IMS_POOL_OK
        && freed != 0)
    {
        mgr_log(MGR_LOG_NOTICE, "%u slots of dead readers freed", freed);
    }

    if (s->tick % MGR_CLOCK_TICKS != 0) {
        return;
    }

    s->housekeep = 1;
    mgr_keep(s);
}


/* said when it changes, and not by each command that meets it */

static void
mgr_batch_space(mgr_server_t *s)
{
    unsigned  space;

    static const char *const  texts[] = {
        "disk or map are full but for ends of leases: leases are not "
        "lengthened any more",
        "disk or map are nearly full: nothing new is given or imported",
        "there is space again"
    };

    for (space = IMS_POOL_SPACE_ALL;
         !ims_pool_space_for(s->pool, (ims_pool_space_e) space); space--)
    {
        /* void */
    }

    if (space + 1 == s->space || (s->space == 0
                                  && space == IMS_POOL_SPACE_ALL))
    {
        return;
    }

    mgr_log(space == IMS_POOL_SPACE_ALL ? MGR_LOG_NOTICE : MGR_LOG_ALERT,
            "%s", texts[space]);
    s->space = space + 1;
}


/* the job of it, if there is any to do and none at work */

static void
mgr_keep(mgr_server_t *s)
{
    mgr_job_t  *job;

    if (!s->housekeep || s->keeping || s->frozen || s->stopping) {
        return;
    }

    job = mgr_job_new(mgr_keep_slice);

    if (job != NULL) {
        job->must_end = true;
        s->keeping = 1;
        s->housekeep = 0;
        mgr_job_start(s, job, NULL);
        mgr_wake(s);
    }
}


static int
mgr_keep_slice(mgr_server_t *s, mgr_job_t *job, ims_resp_buf_t *out)
{
    int  rc, more;

    (void) job;
    (void) out;

    more = IMS_POOL_OK;
    rc = ims_pool_begin(s->pool);

    if (rc == IMS_POOL_OK) {

        rc = ims_pool_tick(s->pool);

        if (rc < 0 || ims_pool_broken(s->pool)) {
            ims_pool_abort(s->pool);
            rc = rc < 0 ? rc : IMS_POOL_INTERNAL;

        } else {
            more = rc;
            rc = mgr_batch_timed_commit(s);
        }
    }

    if (rc == IMS_POOL_UNKNOWN) {
        mgr_batch_fatal(s, "a commit failed, its outcome is unknown");

    } else if (rc < 0) {
        mgr_log(MGR_LOG_ALERT, "housekeeping failed: %s",
                ims_pool_strerror(rc));
    }

    if (rc == IMS_POOL_OK && more == IMS_POOL_MORE) {
        return IMS_POOL_MORE;
    }

    s->keeping = 0;

    return rc;
}


void
mgr_batch_fatal(mgr_server_t *s, const char *what)
{
    if (!s->fatal) {
        mgr_log(MGR_LOG_EMERG, "%s: leaving, to be started anew", what);
    }

    s->fatal = 1;
}


void
mgr_batch_log(mgr_server_t *s, mgr_log_level_t level, const char *fmt, ...)
{
    int           n;
    char          line[512];
    va_list       args;
    mgr_batch_t  *b;

    (void) s;

    if (!mgr_log_on(level)) {
        return;
    }

    b = &mgr_batch;

    line[0] = (char) level;

    va_start(args, fmt);
    n = vsnprintf(line + 1, sizeof(line) - 1, fmt, args);
    va_end(args);

    if (n > (int) sizeof(line) - 2) {
        n = (int) sizeof(line) - 2;
    }

    ims_resp_raw(&b->log, line, (size_t) n + 2);
}


static void
mgr_batch_log_flush(mgr_batch_t *b, bool write)
{
    size_t       i;
    const char  *line;

    for (i = 0; write && i < b->log.n; i += strlen(line) + 2) {
        line = (const char *) b->log.p + i + 1;
        mgr_log((mgr_log_level_t) b->log.p[i], "%s", line);
    }

    b->log.n = 0;
    b->log.failed = false;
}
