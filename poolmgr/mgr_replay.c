/*
 * Copyright (C) nginx-ims contributors
 *
 * REPLAY BEGIN, FILE, LINES, END: what the history log says of leases that lost
 * commits knew.  Until END has proven that none is missing nothing happens, and
 * until its last transaction the hold goes on.
 */

#include <stdio.h>

#include "mgr_batch.h"
#include "mgr_hlog.h"
#include "mgr_job.h"
#include "mgr_replay.h"


#define MGR_REPLAY_LINES  1000      /* a command */
#define MGR_REPLAY_NS     10000000  /* for so long in one transaction */
#define MGR_REPLAY_WORDS  (2 + 1 + IMS_POOL_IMPUS)


static bool mgr_replay_mine(mgr_call_t *call);
static void mgr_replay_drop(mgr_server_t *s);
static void mgr_replay_unproven(mgr_call_t *call);
static int mgr_replay_line(mgr_call_t *call, ims_str_t line);
static int mgr_replay_begin(mgr_call_t *call, const ims_str_t *word,
    unsigned n);
static int mgr_replay_start(mgr_call_t *call, const ims_str_t *word,
    unsigned n);
static bool mgr_replay_hex(ims_str_t word, uint64_t *v);
static int mgr_replay_slice(mgr_server_t *s, mgr_job_t *job,
    ims_resp_buf_t *out);
static void mgr_replay_told(mgr_call_t *call, const ims_pool_replayed_t *done,
    uint64_t seconds);
static int mgr_replay_steps(mgr_server_t *s, mgr_job_t *job,
    ims_pool_replayed_t *done);
static void mgr_replay_cleanup(mgr_job_t *job);


/* REPLAY BEGIN */

void
mgr_cmd_replay_begin(mgr_call_t *call)
{
    int            rc;
    char           err[160], line[192];
    mgr_replay_t  *replay;

    replay = &call->server->replay;

    if (replay->ending || (replay->replay != NULL
                           && replay->owner != call->conn->number))
    {
        mgr_refuse(call, IMS_POOL_BUSY, 0);
        return;
    }

    mgr_replay_drop(call->server);

    rc = ims_pool_replay_open(&replay->replay, call->server->pool, err,
                              sizeof(err));

    if (rc != IMS_POOL_OK) {
        snprintf(line, sizeof(line), "%s %s",
                 rc == IMS_POOL_BADARG ? "UNPROVEN" : "INTERNAL", err);
        ims_resp_error(call->out, line);
        return;
    }

    replay->owner = call->conn->number;

    ims_resp_simple(call->out, "OK");
}


/* REPLAY FILE <inode> <device>: the lines that follow are of this file */

void
mgr_cmd_replay_file(mgr_call_t *call)
{
    uint64_t  inode, dev;

    if (!mgr_replay_mine(call)) {
        return;
    }

    if (!ims_str_u64(mgr_arg(call, 2), UINT64_MAX, &inode)
        || !ims_str_u64(mgr_arg(call, 3), UINT64_MAX, &dev))
    {
        mgr_badarg(call, "the numbers of an inode and its device");
        return;
    }

    /* devices change their numbers, so only of a file that is open */

    if (mgr_hlog_alike(call->server, dev, inode)) {
        inode = 0;
    }

    if (ims_pool_replay_file(call->server->replay.replay, inode)
        != IMS_POOL_OK)
    {
        mgr_replay_unproven(call);
        return;
    }

    ims_resp_simple(call->out, "OK");
}


/*
 * REPLAY LINES <lines>, each of words separated by tabs and ended by LF:
 *
 *   B lease IMPI IMPU ...                  a lease that began
 *   S incarnation run last [before]        a start, or the head of a file
 */

void
mgr_cmd_replay_lines(mgr_call_t *call)
{
    unsigned        n;
    ims_str_t       lines;
    const uint8_t  *p, *end, *last;

    if (!mgr_replay_mine(call)) {
        return;
    }

    lines = mgr_arg(call, 2);
    end = lines.p + lines.n;

    for (p = lines.p, n = 0; p < end; p = last + 1, n++) {

        last = memchr(p, '\n', (size_t) (end - p));

        if (last == NULL || n == MGR_REPLAY_LINES) {
            mgr_badarg(call, "up to 1000 lines, each with an end");
            mgr_replay_drop(call->server);
            return;
        }

        if (mgr_replay_line(call, ims_str_range(p, last)) != IMS_POOL_OK) {
            return;
        }
    }

    ims_resp_simple(call->out, "OK");
}


/* REPLAY END: answered when the hold is over */

void
mgr_cmd_replay_end(mgr_call_t *call)
{
    mgr_job_t     *job;
    mgr_server_t  *s;

    if (!mgr_replay_mine(call)) {
        return;
    }

    s = call->server;

    /* what is written now is not in a copy, and was not over in a backup */

    if (s->copy != NULL || s->replay.ending) {
        mgr_refuse(call, IMS_POOL_BUSY, 0);
        return;
    }

    if (ims_pool_replay_prove(s->replay.replay, s->pool) != IMS_POOL_OK) {
        mgr_replay_unproven(call);
        return;
    }

    job = mgr_job_new(mgr_replay_slice);

    if (job == NULL) {
        mgr_refuse(call, IMS_POOL_INTERNAL, 0);
        return;
    }

    job->cleanup = mgr_replay_cleanup;
    job->u.replay.server = s;
    job->u.replay.replay = s->replay.replay;
    s->replay.replay = NULL;
    s->replay.ending = true;

    call->job = job;
}


void
mgr_replay_orphan(mgr_server_t *s, mgr_conn_t *c)
{
    if (s->replay.replay != NULL && s->replay.owner == c->number) {
        mgr_replay_drop(s);
    }
}


static void
mgr_replay_drop(mgr_server_t *s)
{
    ims_pool_replay_close(s->replay.replay);
    s->replay.replay = NULL;
}


static bool
mgr_replay_mine(mgr_call_t *call)
{
    mgr_replay_t  *replay;

    replay = &call->server->replay;

    if (replay->replay != NULL && replay->owner == call->conn->number) {
        return true;
    }

    ims_resp_error(call->out, "NOTFOUND no replay of this connection");

    return false;
}


/* its text has numbers of leases, and no byte of the client's */

static void
mgr_replay_unproven(mgr_call_t *call)
{
    char         line[192];
    const char  *text;

    text = ims_pool_replay_text(call->server->replay.replay);

    mgr_log(MGR_LOG_WARN, "replay refused, the hold goes on: %s", text);

    snprintf(line, sizeof(line), "UNPROVEN %s", text);
    ims_resp_error(call->out, line);

    mgr_replay_drop(call->server);
}


static int
mgr_replay_line(mgr_call_t *call, ims_str_t line)
{
    int             rc;
    unsigned        n;
    ims_str_t       word[MGR_REPLAY_WORDS];
    const uint8_t  *p, *end, *tab;

    end = line.p + line.n;

    for (p = line.p, n = 0; p <= end && n < MGR_REPLAY_WORDS; p = tab + 1) {
        tab = memchr(p, '\t', (size_t) (end - p));
        tab = tab ? tab : end;
        word[n++] = ims_str_range(p, tab);
    }

    rc = IMS_POOL_UNKNOWN;

    if (p > end && ims_str_eq(word[0], IMS_STR("B"))) {
        rc = mgr_replay_begin(call, word, n);

    } else if (p > end && ims_str_eq(word[0], IMS_STR("S"))) {
        rc = mgr_replay_start(call, word, n);
    }

    if (rc == IMS_POOL_OK) {
        return rc;
    }

    if (rc == IMS_POOL_BADARG) {
        mgr_replay_unproven(call);

    } else {
        mgr_badarg(call, "a line is none");
        mgr_replay_drop(call->server);
    }

    return rc;
}


static int
mgr_replay_begin(mgr_call_t *call, const ims_str_t *word, unsigned n)
{
    uint64_t  ident, lease;

    if (n < 2 || !ims_pool_lease_parse(word[1], &ident, &lease)) {
        return IMS_POOL_UNKNOWN;
    }

    return ims_pool_replay_begin(call->server->replay.replay,
                                 call->server->pool, ident, lease, word + 2,
                                 n - 2);
}


static int
mgr_replay_start(mgr_call_t *call, const ims_str_t *word, unsigned n)
{
    ims_pool_log_start_t  start;

    memset(&start, 0, sizeof(start));
    start.lost = n == 5;

    if ((n != 4 && n != 5)
        || !ims_str_u64(word[1], UINT32_MAX, &start.incarnation)
        || !mgr_replay_hex(word[2], &start.run)
        || !mgr_replay_hex(word[3], &start.last)
        || (start.lost && !mgr_replay_hex(word[4], &start.before)))
    {
        return IMS_POOL_UNKNOWN;
    }

    return ims_pool_replay_start(call->server->replay.replay, &start);
}


/* 64 bits as the log has them */

static bool
mgr_replay_hex(ims_str_t word, uint64_t *v)
{
    return word.n == 16 && ims_hex_u64(word, v);
}


/* --- what follows from it ------------------------------------------------ */

static int
mgr_replay_slice(mgr_server_t *s, mgr_job_t *job, ims_resp_buf_t *out)
{
    int                  rc;
    mgr_call_t           call;
    ims_pool_replayed_t  done;

    rc = mgr_replay_steps(s, job, &done);

    if (rc == IMS_POOL_MORE) {
        return rc;
    }

    if (rc == IMS_POOL_UNKNOWN) {
        mgr_batch_fatal(s, "a commit failed, its outcome is unknown");
    }

    memset(&call, 0, sizeof(call));
    call.server = s;
    call.out = out;

    if (rc != IMS_POOL_OK) {
        mgr_log(MGR_LOG_ALERT, "replay: %s; the hold goes on",
                ims_pool_strerror(rc));

        if (out != NULL) {
            mgr_refuse(&call, rc, 0);
        }

        return rc;
    }

    mgr_replay_told(&call, &done, job->u.replay.hold);

    return rc;
}


static void
mgr_replay_told(mgr_call_t *call, const ims_pool_replayed_t *done,
    uint64_t seconds)
{
    mgr_log(MGR_LOG_ALERT, "the history log ended the hold: %llu of %llu "
            "identities rest as long as it would have lasted, %llu seconds",
            (unsigned long long) done->held,
            (unsigned long long) done->records, (unsigned long long) seconds);

    if (call->out != NULL) {
        ims_resp_array(call->out, 8);
        mgr_pair_u64(call, "leases", done->lines);
        mgr_pair_u64(call, "identities", done->records);
        mgr_pair_u64(call, "held", done->held);
        mgr_pair_u64(call, "for", seconds);
    }
}


/* one transaction */

static int
mgr_replay_steps(mgr_server_t *s, mgr_job_t *job, ims_pool_replayed_t *done)
{
    int       rc, end;
    uint64_t  begin, now;

    rc = ims_pool_begin(s->pool);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    begin = uv_hrtime();
    now = ims_pool_now(s->pool);

    do {
        rc = ims_pool_replay_step(job->u.replay.replay, s->pool, MGR_JOB_ROWS,
                                  done);

    } while (rc == IMS_POOL_MORE && uv_hrtime() - begin < MGR_REPLAY_NS);

    if (rc < 0 || ims_pool_broken(s->pool)) {
        ims_pool_abort(s->pool);
        return rc < 0 ? rc : IMS_POOL_INTERNAL;
    }

    end = ims_pool_commit(s->pool);
    s->commits++;

    if (rc == IMS_POOL_OK) {
        job->u.replay.hold = done->until > now
                             ? (done->until - now + 999) / 1000 : 0;
    }

    return end == IMS_POOL_OK ? rc : end;
}


static void
mgr_replay_cleanup(mgr_job_t *job)
{
    ims_pool_replay_close(job->u.replay.replay);
    job->u.replay.server->replay.ending = false;
}
