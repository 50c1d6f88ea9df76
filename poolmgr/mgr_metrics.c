/*
 * Copyright (C) nginx-ims contributors
 *
 * See mgr_metrics.h.
 */

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/ims_clock.h"
#include "mgr_hlog.h"
#include "mgr_job.h"
#include "mgr_metrics.h"


/* one pool's figures, gathered in slices */
typedef struct mgr_metrics_pool_s {
    uint32_t         no;
    char             name[IMS_POOL_NAME_MAX + 1];
    ims_pool_stat_t  stat;
} mgr_metrics_pool_t;

typedef struct {
    mgr_job_t  *job;
    bool        failed;
} mgr_metrics_list_t;

typedef enum {
    MGR_COUNTER = 0,
    MGR_GAUGE,
    MGR_HISTOGRAM
} mgr_metric_e;


static int mgr_metrics_pool(void *ctx, const ims_pool_t *pool);
static int mgr_metrics_slice(mgr_server_t *s, mgr_job_t *job,
    ims_resp_buf_t *out);
static void mgr_metrics_free(mgr_job_t *job);
static void mgr_metrics_text(mgr_server_t *s, mgr_job_t *job,
    const ims_pool_info_t *info, ims_resp_buf_t *text);
static void mgr_metrics_figures(mgr_server_t *s, const ims_pool_info_t *info,
    ims_resp_buf_t *text);
static void mgr_metrics_pools(mgr_server_t *s, mgr_job_t *job,
    ims_resp_buf_t *text);
static void mgr_metrics_replies(mgr_server_t *s, ims_resp_buf_t *text);
static void mgr_metrics_lower(char *text);
static void mgr_metrics_histogram(const mgr_histogram_t *h, const char *name,
    const char *help, const uint64_t *limit, double unit,
    ims_resp_buf_t *text);
static void mgr_metrics_put(mgr_histogram_t *h, const uint64_t *limit,
    uint64_t value);
static unsigned mgr_metrics_result(ims_str_t reply);
static void mgr_metrics_head(ims_resp_buf_t *text, const char *name,
    mgr_metric_e type, const char *help);
static void mgr_metrics_line(ims_resp_buf_t *text, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static uint64_t mgr_metrics_rss(void);


/* the first word of an error; "ok" is whatever is none */
static const char *const  mgr_results[MGR_METRICS_RESULTS] = {
    "ok", "EXHAUSTED", "HOLD", "ENDED", "LATE", "BUSY", "NOPOOL", "NOTFOUND",
    "DENIED", "NOAUTH", "WRONGPASS", "BADARG", "EXISTS", "DUPLICATE",
    "BADROW", "NOTEMPTY", "NOSPACE", "FAILED", "UNKNOWN", "INTERNAL", "other"
};

/* upper ends; the last bucket has none */
static const uint64_t  mgr_commit_ns[MGR_METRICS_BUCKETS - 1] = {
    100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000, 25000000,
    100000000, 500000000, 2500000000
};

static const uint64_t  mgr_batch_n[MGR_METRICS_BUCKETS - 1] = {
    1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 999
};


void
mgr_metrics_reply(mgr_server_t *s, const mgr_command_t *command,
    ims_str_t reply)
{
    unsigned  no;

    no = command ? mgr_command_number(command) : MGR_METRICS_COMMANDS - 1;

    if (no < MGR_METRICS_COMMANDS) {
        s->metrics->replies[no][mgr_metrics_result(reply)]++;
    }
}


static unsigned
mgr_metrics_result(ims_str_t reply)
{
    size_t    n;
    unsigned  i;

    if (reply.n == 0 || reply.p[0] != '-') {
        return 0;
    }

    for (i = 1; i < MGR_METRICS_RESULTS - 1; i++) {
        n = strlen(mgr_results[i]);

        if (reply.n > n + 1 && memcmp(reply.p + 1, mgr_results[i], n) == 0
            && (reply.p[n + 1] == ' ' || reply.p[n + 1] == '\r'))
        {
            return i;
        }
    }

    return MGR_METRICS_RESULTS - 1;
}


void
mgr_metrics_commit(mgr_server_t *s, uint64_t ns)
{
    mgr_metrics_put(&s->metrics->commit, mgr_commit_ns, ns);
}


void
mgr_metrics_batch(mgr_server_t *s, unsigned commands)
{
    mgr_metrics_put(&s->metrics->batch, mgr_batch_n, commands);
}


static void
mgr_metrics_put(mgr_histogram_t *h, const uint64_t *limit, uint64_t value)
{
    unsigned  i;

    for (i = 0; i < MGR_METRICS_BUCKETS - 1 && value > limit[i]; i++) {
        /* void */
    }

    h->bucket[i]++;
    h->count++;
    h->sum += value;
}


void
mgr_cmd_metrics(mgr_call_t *call)
{
    int                 rc;
    mgr_job_t          *job;
    mgr_metrics_list_t  list;

    job = mgr_job_new(mgr_metrics_slice);

    if (job == NULL) {
        mgr_refuse(call, IMS_POOL_INTERNAL, 0);
        return;
    }

    job->cleanup = mgr_metrics_free;

    list.job = job;
    list.failed = false;

    rc = ims_pool_list(call->server->pool, mgr_metrics_pool, &list);

    if (rc != IMS_POOL_OK || list.failed) {
        mgr_job_free(job);
        mgr_refuse(call, rc != IMS_POOL_OK ? rc : IMS_POOL_INTERNAL, 0);
        return;
    }

    call->job = job;
}


static int
mgr_metrics_pool(void *ctx, const ims_pool_t *pool)
{
    mgr_metrics_list_t  *list = ctx;

    mgr_job_t           *job;
    mgr_metrics_pool_t  *p;

    job = list->job;

    p = realloc(job->u.metrics.pool,
                (job->u.metrics.n + 1) * sizeof(mgr_metrics_pool_t));

    if (p == NULL) {
        list->failed = true;
        return 0;
    }

    job->u.metrics.pool = p;
    p += job->u.metrics.n++;

    memset(p, 0, sizeof(mgr_metrics_pool_t));
    p->no = pool->head.pool;
    snprintf(p->name, sizeof(p->name), "%s", pool->name);

    return 0;
}


static void
mgr_metrics_free(mgr_job_t *job)
{
    free(job->u.metrics.pool);
}


static int
mgr_metrics_slice(mgr_server_t *s, mgr_job_t *job, ims_resp_buf_t *out)
{
    int                  rc;
    mgr_call_t           call;
    ims_pool_info_t      info;
    ims_resp_buf_t       text;
    mgr_metrics_pool_t  *p;

    if (job->u.metrics.at < job->u.metrics.n) {

        p = &job->u.metrics.pool[job->u.metrics.at];
        rc = ims_pool_stat_slice(s->pool, p->no, &p->stat, MGR_JOB_ROWS);

        if (rc == IMS_POOL_OK) {
            job->u.metrics.at++;
            rc = IMS_POOL_MORE;
        }

    } else {
        rc = ims_pool_info(s->pool, &info);
    }

    if (rc == IMS_POOL_MORE || out == NULL) {
        return rc;
    }

    if (rc != IMS_POOL_OK) {
        memset(&call, 0, sizeof(call));
        call.server = s;
        call.out = out;
        mgr_refuse(&call, rc, 0);
        return rc;
    }

    memset(&text, 0, sizeof(text));
    mgr_metrics_text(s, job, &info, &text);

    out->failed |= text.failed;
    ims_resp_bulk(out, ims_str_set(text.p, text.n));
    ims_resp_free(&text);

    return IMS_POOL_OK;
}


static void
mgr_metrics_text(mgr_server_t *s, mgr_job_t *job,
    const ims_pool_info_t *info, ims_resp_buf_t *text)
{
    mgr_metrics_figures(s, info, text);
    mgr_metrics_pools(s, job, text);
    mgr_metrics_replies(s, text);

    mgr_metrics_histogram(&s->metrics->commit, "ims_pool_commit_seconds",
                          "Time of a commit, with its sync to the disk.",
                          mgr_commit_ns, 1e9, text);
    mgr_metrics_histogram(&s->metrics->batch, "ims_pool_batch_commands",
                          "Commands done in one turn.", mgr_batch_n, 1, text);
}


static void
mgr_metrics_figures(mgr_server_t *s, const ims_pool_info_t *info,
    ims_resp_buf_t *text)
{
    size_t                   i;
    uint64_t                 hold;
    const ims_pool_state_t  *st;

    st = &info->state;
    hold = st->hold_until > st->hold_asked ? st->hold_until : st->hold_asked;

    const struct {
        const char    *name;
        mgr_metric_e   type;
        const char    *help;
        uint64_t       value;
    } figures[] = {
        { "ims_pool_uptime_seconds", MGR_GAUGE,
          "Seconds since the daemon started.",
          (ims_wall_ms() - s->started) / 1000 },
        { "ims_pool_resident_bytes", MGR_GAUGE,
          "Memory of the daemon, the database's pages in it.",
          mgr_metrics_rss() },
        { "ims_pool_incarnation", MGR_GAUGE,
          "Starts of this database, restored ones included.",
          st->incarnation },
        { "ims_pool_hold_seconds", MGR_GAUGE,
          "Seconds for which nothing is given.",
          hold > info->now ? (hold - info->now + 999) / 1000 : 0 },
        { "ims_pool_clients", MGR_GAUGE, "Connections.", s->nconns },
        { "ims_pool_connections_total", MGR_COUNTER, "Connections accepted.",
          s->accepted },
        { "ims_pool_commits_total", MGR_COUNTER,
          "Commits, housekeeping included.", info->commits },
        { "ims_pool_replayed_batches_total", MGR_COUNTER,
          "Batches that failed and were done command by command.",
          s->replays },
        { "ims_pool_leases_total", MGR_COUNTER,
          "Leases begun since the database was made.", st->given },
        { "ims_pool_purged_total", MGR_COUNTER,
          "Identities purged at the core.", s->purged },
        { "ims_pool_users", MGR_GAUGE, "Users that are known.", info->users },
        { "ims_pool_renewals_waiting", MGR_GAUGE,
          "Renewals that are not in the records yet.", info->renewals },
        { "ims_pool_history_rows", MGR_GAUGE, "Former leases that are kept.",
          info->hist },
        { "ims_pool_history_lost_total", MGR_COUNTER,
          "Lines of the history log that could not be written.",
          mgr_hlog_lost(s) },
        { "ims_pool_history_complete", MGR_GAUGE,
          "1: the history log could end a hold, 0: not synced, or with gaps.",
          ims_pool_log_complete(s->pool) },
        { "ims_pool_feed_rows", MGR_GAUGE,
          "Early ends that workers may still have to read.", info->feed },
        { "ims_pool_map_bytes", MGR_GAUGE, "Limit of the database.",
          info->map_size },
        { "ims_pool_map_used_bytes", MGR_GAUGE, "Of it in use.",
          info->map_used },
        { "ims_pool_readers", MGR_GAUGE, "Processes that read the database.",
          info->readers },
        { "ims_pool_readers_max", MGR_GAUGE, "Their limit.",
          info->readers_max },
        { "ims_pool_damaged_rows_total", MGR_COUNTER,
          "Rows whose checksum was wrong when they were read.",
          info->damaged },
        { NULL, MGR_GAUGE, NULL, 0 }
    };

    for (i = 0; figures[i].name != NULL; i++) {
        mgr_metrics_head(text, figures[i].name, figures[i].type,
                         figures[i].help);
        mgr_metrics_line(text, "%s %" PRIu64 "\n", figures[i].name,
                         figures[i].value);
    }
}


/* a family's samples must stand together: one loop each */

static void
mgr_metrics_pools(mgr_server_t *s, mgr_job_t *job, ims_resp_buf_t *text)
{
    size_t                     i;
    double                     wait;
    unsigned                   st;
    uint64_t                   now;
    const mgr_metrics_pool_t  *p;

    now = ims_pool_now(s->pool);

    mgr_metrics_head(text, "ims_pool_identities", MGR_GAUGE,
                     "Identities of a pool by what they are.");

    for (i = 0; i < job->u.metrics.n; i++) {
        p = &job->u.metrics.pool[i];

        for (st = 0; st < IMS_POOL_STATES; st++) {
            mgr_metrics_line(text, "ims_pool_identities{pool=\"%s\","
                             "state=\"%s\"} %" PRIu64 "\n", p->name,
                             ims_pool_st_text((ims_pool_st_e) st),
                             p->stat.count[st]);
        }
    }

    mgr_metrics_head(text, "ims_pool_next_free_seconds", MGR_GAUGE,
                     "How long a newcomer has to wait for an identity.");

    for (i = 0; i < job->u.metrics.n; i++) {
        p = &job->u.metrics.pool[i];
        wait = 0;

        if (p->stat.count[IMS_POOL_ST_FREE] == 0 && p->stat.first_rest > now) {
            wait = (double) (p->stat.first_rest - now) / 1000;
        }

        mgr_metrics_line(text, "ims_pool_next_free_seconds{pool=\"%s\"} "
                         "%.3f\n", p->name, wait);
    }
}


/* those of which there was none are left out */

static void
mgr_metrics_replies(mgr_server_t *s, ims_resp_buf_t *text)
{
    char                  name[64], result[16];
    unsigned              i, r;
    const mgr_command_t  *command;

    mgr_metrics_head(text, "ims_pool_commands_total", MGR_COUNTER,
                     "Commands by name and by what was answered.");

    for (i = 0; i < MGR_METRICS_COMMANDS; i++) {

        command = mgr_command_at(i);

        snprintf(name, sizeof(name), "%s%s%s",
                 command ? command->name : "refused",
                 command && command->sub ? " " : "",
                 command && command->sub ? command->sub : "");
        mgr_metrics_lower(name);

        for (r = 0; r < MGR_METRICS_RESULTS; r++) {

            if (s->metrics->replies[i][r] == 0) {
                continue;
            }

            snprintf(result, sizeof(result), "%s", mgr_results[r]);
            mgr_metrics_lower(result);

            mgr_metrics_line(text, "ims_pool_commands_total{command=\"%s\","
                             "result=\"%s\"} %" PRIu64 "\n", name, result,
                             s->metrics->replies[i][r]);
        }
    }
}


static void
mgr_metrics_lower(char *text)
{
    for ( /* void */ ; *text != '\0'; text++) {
        if (*text >= 'A' && *text <= 'Z') {
            *text |= 0x20;
        }
    }
}


static void
mgr_metrics_histogram(const mgr_histogram_t *h, const char *name,
    const char *help, const uint64_t *limit, double unit,
    ims_resp_buf_t *text)
{
    uint64_t  n;
    unsigned  i;

    mgr_metrics_head(text, name, MGR_HISTOGRAM, help);

    n = 0;

    for (i = 0; i < MGR_METRICS_BUCKETS - 1; i++) {
        n += h->bucket[i];
        mgr_metrics_line(text, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name,
                         (double) limit[i] / unit, n);
    }

    mgr_metrics_line(text, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name,
                     h->count);
    mgr_metrics_line(text, "%s_sum %.9g\n", name, (double) h->sum / unit);
    mgr_metrics_line(text, "%s_count %" PRIu64 "\n", name, h->count);
}


static void
mgr_metrics_head(ims_resp_buf_t *text, const char *name, mgr_metric_e type,
    const char *help)
{
    static const char  *types[] = { "counter", "gauge", "histogram" };

    mgr_metrics_line(text, "# HELP %s %s\n", name, help);
    mgr_metrics_line(text, "# TYPE %s %s\n", name, types[type]);
}


static void
mgr_metrics_line(ims_resp_buf_t *text, const char *fmt, ...)
{
    int      n;
    char     line[256];
    va_list  args;

    va_start(args, fmt);
    n = vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);

    if (n < 0 || n >= (int) sizeof(line)) {
        text->failed = true;
        return;
    }

    ims_resp_raw(text, line, (size_t) n);
}


/* of /proc/self/statm; 0: it cannot be read */

static uint64_t
mgr_metrics_rss(void)
{
    FILE                *f;
    unsigned long long   size, pages;

    f = fopen("/proc/self/statm", "re");

    if (f == NULL) {
        return 0;
    }

    if (fscanf(f, "%llu %llu", &size, &pages) != 2) {
        pages = 0;
    }

    fclose(f);

    return (uint64_t) pages * (uint64_t) sysconf(_SC_PAGESIZE);
}
