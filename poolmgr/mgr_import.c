/*
 * Copyright (C) nginx-ims contributors
 *
 * IMPORT LOOK, BEGIN, ROWS, END, ABORT.  The rows are staged, up to 2,000 a
 * command and transaction; END makes them all count, anything else (a fault,
 * ABORT, the connection's end, a crash) takes all of them out again.
 *
 * What an import costs is its syncs, two a transaction, far more than its work.
 * So a transaction takes as many rows as a lease may wait for, and no more.
 */

#include <stdio.h>

#include "mgr_batch.h"
#include "mgr_import.h"
#include "mgr_job.h"


#define MGR_IMPORT_ROWS  2000       /* rows a command: one transaction */
#define MGR_IMPORT_STEP  500        /* rows published or taken out at once, */
#define MGR_IMPORT_NS    10000000   /* for so long in one transaction */


/* the rows of one command */
typedef struct {
    unsigned              n;
    const char           *why;          /* the row after them is none */
    ims_pool_identity_t   row[MGR_IMPORT_ROWS];
} mgr_rows_t;

/* what a look finds */
typedef struct {
    mgr_call_t           *call;
    uint64_t              line;         /* of the first row */
    unsigned              from;         /* rows looked at before */
    unsigned              n;
    ims_resp_buf_t        faults;
} mgr_look_t;


static bool mgr_import_mine(mgr_call_t *call);
static bool mgr_import_few(mgr_call_t *call, ims_str_t rows);
static const uint8_t *mgr_import_parse(const uint8_t *p, const uint8_t *end,
    mgr_rows_t *rows);
static bool mgr_import_row(const uint8_t *p, const uint8_t *last,
    ims_pool_identity_t *row, const char **why);
static void mgr_look_row(void *ctx, unsigned i,
    const ims_pool_row_result_t *res);
static void mgr_look_fault(mgr_look_t *look, uint64_t line, const char *word,
    const char *text, unsigned at, uint32_t pool);
static void mgr_import_fault(mgr_call_t *call, uint64_t line, const char *word,
    const char *text);
static mgr_job_t *mgr_import_job(mgr_call_t *call, bool quiet);
static int mgr_import_slice(mgr_server_t *s, mgr_job_t *job,
    ims_resp_buf_t *out);
static int mgr_import_steps(mgr_server_t *s, uint32_t no);


/* one command at a time: too long for the stack */
static mgr_rows_t  mgr_rows;


/* IMPORT LOOK <pool> <number of the first line> <rows>: writes nothing */

void
mgr_cmd_import_look(mgr_call_t *call)
{
    int             rc;
    ims_str_t       rows;
    mgr_look_t      look;
    const uint8_t  *p, *end;

    memset(&look, 0, sizeof(look));
    look.call = call;

    rows = mgr_arg(call, 4);

    if (!ims_str_u64(mgr_arg(call, 3), UINT32_MAX, &look.line)) {
        mgr_badarg(call, "the first line's number");
        return;
    }

    if (!mgr_import_few(call, rows)) {
        return;
    }

    p = rows.p;
    end = rows.p + rows.n;

    do {
        p = mgr_import_parse(p, end, &mgr_rows);

        rc = ims_pool_import_look(call->server->pool, mgr_arg(call, 2),
                                  mgr_rows.row, mgr_rows.n, mgr_look_row,
                                  &look);

        look.from += mgr_rows.n;

        if (mgr_rows.why != NULL) {
            mgr_look_fault(&look, look.line + look.from, "BADROW",
                           mgr_rows.why, 0, 0);
            look.from++;
        }

    } while (rc == IMS_POOL_OK && p < end);

    if (rc != IMS_POOL_OK) {
        mgr_refuse(call, rc, 0);

    } else {
        ims_resp_array(call->out, look.n);
        ims_resp_raw(call->out, look.faults.p, look.faults.n);
        call->out->failed |= look.faults.failed;
    }

    ims_resp_free(&look.faults);
}


static void
mgr_look_row(void *ctx, unsigned i, const ims_pool_row_result_t *res)
{
    bool         taken;
    mgr_look_t  *look = ctx;

    taken = res->fault == IMS_POOL_ROW_IMPI_TAKEN
            || res->fault == IMS_POOL_ROW_IMPU_TAKEN;

    mgr_look_fault(look, look->line + look->from + i,
                   taken && res->pool ? "DUPLICATE" : "BADROW",
                   ims_pool_row_fault_text(res->fault), res->at, res->pool);
}


/* line, word, text, which IMPU, the pool that has it */

static void
mgr_look_fault(mgr_look_t *look, uint64_t line, const char *word,
    const char *text, unsigned at, uint32_t pool)
{
    char             name[IMS_POOL_NAME_MAX + 1];
    ims_resp_buf_t  *out;

    out = &look->faults;
    look->n++;

    ims_resp_array(out, 5);
    ims_resp_bulk_u64(out, line);
    ims_resp_bulk_z(out, word);
    ims_resp_bulk_z(out, text);
    ims_resp_bulk_u64(out, at);
    ims_resp_bulk_z(out, pool ? mgr_pool_name(look->call->server, pool, name)
                              : "");
}


/* IMPORT BEGIN <pool> [REST <seconds>] */

void
mgr_cmd_import_begin(mgr_call_t *call)
{
    int            rc;
    uint32_t       no;
    uint64_t       rest;
    ims_str_t      pool;
    mgr_import_t  *import;

    rest = 0;
    pool = mgr_arg(call, 2);

    if (mgr_args(call) != 3
        && (mgr_args(call) != 5 || !mgr_arg_is(call, 3, "REST")
            || !ims_str_u64(mgr_arg(call, 4), 366 * 86400, &rest)))
    {
        mgr_badarg(call, "IMPORT BEGIN pool [REST seconds]");
        return;
    }

    rc = ims_pool_import_begin(call->server->pool, pool, rest * 1000, &no);

    if (rc != IMS_POOL_OK) {
        mgr_refuse(call, rc, 0);
        return;
    }

    import = &call->server->import;

    import->no = no;
    import->owner = call->conn->number;
    import->rows = 0;

    mgr_batch_log(call->server, MGR_LOG_NOTICE, "import %u into pool %.*s",
                  no, IMS_STR_ARG(pool));

    ims_resp_int(call->out, no);
}


/*
 * IMPORT ROWS <import> <number of the first line> <rows>
 *
 * A row: IMPI, display name, IMPUs, separated by tabs and ended by LF.
 */

void
mgr_cmd_import_rows(mgr_call_t *call)
{
    int                     rc;
    uint64_t                line;
    unsigned                done;
    ims_str_t               rows;
    mgr_import_t           *import;
    ims_pool_row_result_t   res;

    if (!mgr_import_mine(call)) {
        return;
    }

    if (!ims_str_u64(mgr_arg(call, 3), UINT32_MAX, &line)) {
        mgr_badarg(call, "the first line's number");
        return;
    }

    rows = mgr_arg(call, 4);

    if (!mgr_import_few(call, rows)) {
        return;
    }

    (void) mgr_import_parse(rows.p, rows.p + rows.n, &mgr_rows);

    import = &call->server->import;

    rc = ims_pool_import_rows(call->server->pool, import->no, mgr_rows.row,
                              mgr_rows.n, &done, &res);

    import->rows += done;
    line += done;

    if (rc == IMS_POOL_EXISTS || rc == IMS_POOL_BADARG) {
        mgr_import_fault(call, line,
                         rc == IMS_POOL_EXISTS ? "DUPLICATE" : "BADROW",
                         ims_pool_row_fault_text(res.fault));
        return;
    }

    if (rc != IMS_POOL_OK) {
        mgr_refuse(call, rc, 0);
        return;
    }

    if (mgr_rows.why != NULL) {
        mgr_import_fault(call, line, "BADROW", mgr_rows.why);
        return;
    }

    ims_resp_int(call->out, import->rows);
}


/* IMPORT END <import>: answered when all of it can be leased */

void
mgr_cmd_import_end(mgr_call_t *call)
{
    int  rc;

    if (!mgr_import_mine(call)) {
        return;
    }

    rc = ims_pool_import_end(call->server->pool, call->server->import.no);

    if (rc != IMS_POOL_OK) {
        mgr_refuse(call, rc, 0);
        return;
    }

    mgr_batch_log(call->server, MGR_LOG_NOTICE, "import %u ended, %llu rows",
                  call->server->import.no,
                  (unsigned long long) call->server->import.rows);

    call->job = mgr_import_job(call, false);
}


/* IMPORT ABORT <import> */

void
mgr_cmd_import_abort(mgr_call_t *call)
{
    int  rc;

    if (!mgr_import_mine(call)) {
        return;
    }

    rc = ims_pool_import_undo(call->server->pool, call->server->import.no);

    if (rc != IMS_POOL_OK) {
        mgr_refuse(call, rc, 0);
        return;
    }

    mgr_batch_log(call->server, MGR_LOG_NOTICE, "import %u taken out",
                  call->server->import.no);

    call->job = mgr_import_job(call, false);

    if (call->job != NULL) {
        call->job->u.import.rows = 0;
    }
}


static bool
mgr_import_mine(mgr_call_t *call)
{
    uint64_t       no;
    mgr_import_t  *import;

    import = &call->server->import;

    if (ims_str_u64(mgr_arg(call, 2), UINT32_MAX, &no) && no != 0
        && no == import->no && import->owner == call->conn->number)
    {
        return true;
    }

    ims_resp_error(call->out, "NOTFOUND no such import of this connection");

    return false;
}


static bool
mgr_import_few(mgr_call_t *call, ims_str_t rows)
{
    size_t    i;
    unsigned  n;

    n = 0;

    for (i = 0; i < rows.n; i++) {
        n += rows.p[i] == '\n';
    }

    if (n <= MGR_IMPORT_ROWS) {
        return true;
    }

    mgr_badarg(call, "more than 2000 rows in a command");

    return false;
}


/* Rows up to one that is none (why), which is passed over, or to the end. */

static const uint8_t *
mgr_import_parse(const uint8_t *p, const uint8_t *end, mgr_rows_t *rows)
{
    const uint8_t  *last;

    rows->n = 0;
    rows->why = NULL;

    while (p < end && rows->why == NULL) {

        last = memchr(p, '\n', (size_t) (end - p));

        if (last == NULL) {
            rows->why = "the row has no end";
            return end;
        }

        if (mgr_import_row(p, last, &rows->row[rows->n], &rows->why)) {
            rows->n++;
        }

        p = last + 1;
    }

    return p;
}


static bool
mgr_import_row(const uint8_t *p, const uint8_t *last, ims_pool_identity_t *row,
    const char **why)
{
    unsigned        i;
    ims_str_t       field;
    const uint8_t  *tab;

    row->nimpu = 0;
    row->display = IMS_STR_NULL;

    for (i = 0; p <= last; i++, p = tab + 1) {

        tab = memchr(p, '\t', (size_t) (last - p));
        tab = tab ? tab : last;
        field = ims_str_range(p, tab);

        if (i == 0) {
            row->impi = field;

        } else if (i == 1) {
            row->display = field;

        } else if (row->nimpu < IMS_POOL_IMPUS) {
            row->impu[row->nimpu++] = field;

        } else {
            *why = "too many IMPUs";
            return false;
        }
    }

    return true;
}


/* The import is over: its rows go out again, while others are served. */

static void
mgr_import_fault(mgr_call_t *call, uint64_t line, const char *word,
    const char *text)
{
    int   rc;
    char  reply[160];

    rc = ims_pool_import_undo(call->server->pool, call->server->import.no);

    if (rc != IMS_POOL_OK) {
        mgr_refuse(call, rc, 0);
        return;
    }

    mgr_batch_log(call->server, MGR_LOG_NOTICE,
                  "import %u taken out: %s in line %llu",
                  call->server->import.no, text, (unsigned long long) line);

    snprintf(reply, sizeof(reply), "%s %llu %s", word,
             (unsigned long long) line, text);
    ims_resp_error(call->out, reply);

    call->job = mgr_import_job(call, true);
}


/*
 * The decision is in the transaction; the rest of the work goes in slices.
 * Without memory for that it waits for the next start of the daemon.
 */

static mgr_job_t *
mgr_import_job(mgr_call_t *call, bool quiet)
{
    mgr_job_t     *job;
    mgr_import_t  *import;

    import = &call->server->import;
    job = mgr_job_new(mgr_import_slice);

    if (job != NULL) {
        job->must_end = true;
        job->quiet = quiet;
        job->u.import.no = import->no;
        job->u.import.rows = import->rows;
        job->u.import.decided = true;

    } else {
        mgr_log(MGR_LOG_ALERT, "no memory to end an import");

        if (!quiet) {
            ims_resp_error(call->out, "INTERNAL see the log");
        }
    }

    import->no = 0;

    return job;
}


static int
mgr_import_slice(mgr_server_t *s, mgr_job_t *job, ims_resp_buf_t *out)
{
    int         rc, done;
    uint32_t    no;
    mgr_call_t  call;

    no = job->u.import.no;
    rc = ims_pool_begin(s->pool);

    if (rc == IMS_POOL_OK) {

        if (!job->u.import.decided) {
            rc = ims_pool_import_undo(s->pool, no);
        }

        if (rc == IMS_POOL_OK) {
            rc = mgr_import_steps(s, no);
        }

        if (rc < 0 || ims_pool_broken(s->pool)) {
            ims_pool_abort(s->pool);
            rc = rc < 0 ? rc : IMS_POOL_INTERNAL;

        } else {
            done = ims_pool_commit(s->pool);
            s->commits++;
            rc = done == IMS_POOL_OK ? rc : done;
        }
    }

    if (rc == IMS_POOL_MORE) {
        job->u.import.decided = true;
        return rc;
    }

    if (rc == IMS_POOL_UNKNOWN) {
        mgr_batch_fatal(s, "a commit failed, its outcome is unknown");
    }

    if (rc != IMS_POOL_OK) {
        mgr_log(MGR_LOG_ALERT, "import %u is not finished: %s; a new start "
                "goes on with it", no, ims_pool_strerror(rc));
    }

    if (out == NULL) {
        return rc;
    }

    if (rc != IMS_POOL_OK) {
        memset(&call, 0, sizeof(call));
        call.server = s;
        call.out = out;
        mgr_refuse(&call, rc, 0);
        return rc;
    }

    ims_resp_int(out, job->u.import.rows);

    return IMS_POOL_OK;
}


static int
mgr_import_steps(mgr_server_t *s, uint32_t no)
{
    int       rc;
    uint64_t  begin;

    begin = uv_hrtime();

    do {
        rc = ims_pool_import_step(s->pool, no, MGR_IMPORT_STEP);

    } while (rc == IMS_POOL_MORE && uv_hrtime() - begin < MGR_IMPORT_NS);

    return rc;
}


void
mgr_import_orphan(mgr_server_t *s, mgr_conn_t *c)
{
    mgr_job_t  *job;

    if (s->import.no == 0 || s->import.owner != c->number) {
        return;
    }

    mgr_log(MGR_LOG_WARN, "import %u was left unfinished, it is taken out",
            s->import.no);

    job = mgr_job_new(mgr_import_slice);

    if (job == NULL) {
        mgr_log(MGR_LOG_ALERT, "no memory to take out an import");
        return;
    }

    job->must_end = true;
    job->u.import.no = s->import.no;

    s->import.no = 0;
    mgr_job_start(s, job, NULL);
}
