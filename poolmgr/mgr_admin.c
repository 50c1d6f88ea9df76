/*
 * Copyright (C) nginx-ims contributors
 *
 * The administrator's commands: pools, what is leased to whom, revocation,
 * figures, check.
 */

#include <stdio.h>
#include <unistd.h>

#include "base/ims_clock.h"
#include "sip/ims_sip_uri.h"
#include "mgr_batch.h"
#include "mgr_copy.h"
#include "mgr_hlog.h"
#include "mgr_job.h"


#define MGR_SECONDS_MAX   (366ull * 86400)
#define MGR_POOL_FIELDS   15


static bool mgr_pool_spec(mgr_call_t *call, unsigned i, ims_pool_spec_t *spec);
static bool mgr_pool_option(mgr_call_t *call, unsigned i,
    ims_pool_spec_t *spec);
static int mgr_pool_row(void *ctx, const ims_pool_t *pool);
static void mgr_pool_pairs(mgr_call_t *call, const ims_pool_t *pool);
static int mgr_pool_count(void *ctx, const ims_pool_t *pool);
static int mgr_stat_slice(mgr_server_t *s, mgr_job_t *job,
    ims_resp_buf_t *out);
static void mgr_show(mgr_call_t *call, uint64_t ident);
static void mgr_show_rec(mgr_call_t *call, const ims_pool_look_t *look,
    const ims_pool_names_t *names);
static int mgr_pool_name_cb(void *ctx, const ims_pool_t *pool);
static bool mgr_revoke_bar(mgr_call_t *call, unsigned i, bool *bar);
static void mgr_revoked(mgr_call_t *call, int rc, unsigned n);
static int mgr_check_slice(mgr_server_t *s, mgr_job_t *job,
    ims_resp_buf_t *out);
static void mgr_check_fault(void *ctx, ims_pool_fault_e fault,
    uint64_t ident);
static void mgr_info_text(mgr_server_t *s, const ims_pool_info_t *info,
    ims_resp_buf_t *text);
static void mgr_info_line(ims_resp_buf_t *text, const char *name,
    uint64_t value);


/* --- pools ------------------------------------------------------------ */

/* an option's word, where its seconds go, and what a second is there */
static const struct {
    const char  *word;
    size_t       offset;
    unsigned     scale;             /* 1: a uint32_t of seconds */
} mgr_pool_seconds[] = {
    { "TTL", offsetof(ims_pool_spec_t, ttl), 1000 },
    { "TTLMAX", offsetof(ims_pool_spec_t, ttl_max), 1000 },
    { "D", offsetof(ims_pool_spec_t, delay), 1000 },
    { "MARGIN", offsetof(ims_pool_spec_t, margin), 1000 },
    { "MINEXPIRES", offsetof(ims_pool_spec_t, core_min), 1 },
    { NULL, 0, 0 }
};


void
mgr_cmd_pool_create(mgr_call_t *call)
{
    int              rc;
    uint32_t         no;
    ims_pool_spec_t  spec;

    memset(&spec, 0, sizeof(spec));

    spec.name = mgr_arg(call, 2);
    spec.home = mgr_arg(call, 3);

    if (!mgr_pool_spec(call, 4, &spec)) {
        return;
    }

    rc = ims_pool_create(call->server->pool, &spec, &no);

    if (rc == IMS_POOL_BADARG) {
        mgr_badarg(call, "name, home domain, realms or times of the pool");
        return;
    }

    if (rc != IMS_POOL_OK) {
        mgr_refuse(call, rc, 0);
        return;
    }

    mgr_batch_log(call->server, MGR_LOG_NOTICE, "pool %.*s created",
                  IMS_STR_ARG(spec.name));

    ims_resp_simple(call->out, "OK");
}


void
mgr_cmd_pool_alter(mgr_call_t *call)
{
    int              rc;
    ims_pool_spec_t  spec;

    memset(&spec, 0, sizeof(spec));

    spec.name = mgr_arg(call, 2);

    if (!mgr_pool_spec(call, 3, &spec)) {
        return;
    }

    rc = ims_pool_alter(call->server->pool, &spec);

    if (rc == IMS_POOL_BADARG) {
        mgr_badarg(call, "realms or times of the pool, or another PER");
        return;
    }

    if (rc != IMS_POOL_OK) {
        mgr_refuse(call, rc, 0);
        return;
    }

    mgr_batch_log(call->server, MGR_LOG_NOTICE, "pool %.*s altered",
                  IMS_STR_ARG(spec.name));

    ims_resp_simple(call->out, "OK");
}


static bool
mgr_pool_spec(mgr_call_t *call, unsigned i, ims_pool_spec_t *spec)
{
    for ( ; i < mgr_args(call); i += 2) {

        if (i + 1 == mgr_args(call)) {
            mgr_badarg(call, "an option without its value");
            return false;
        }

        if (!mgr_pool_option(call, i, spec)) {
            return false;
        }
    }

    return true;
}


static bool
mgr_pool_option(mgr_call_t *call, unsigned i, ims_pool_spec_t *spec)
{
    char      *dst;
    unsigned   k;
    uint64_t   v;
    uint32_t   v32;

    for (k = 0; mgr_pool_seconds[k].word != NULL; k++) {

        if (!mgr_arg_is(call, i, mgr_pool_seconds[k].word)) {
            continue;
        }

        if (!ims_str_u64(mgr_arg(call, i + 1), MGR_SECONDS_MAX, &v) || v == 0)
        {
            mgr_badarg(call, "a time of the pool is seconds, at least 1");
            return false;
        }

        dst = (char *) spec + mgr_pool_seconds[k].offset;

        if (mgr_pool_seconds[k].scale == 1) {
            v32 = (uint32_t) v;
            memcpy(dst, &v32, sizeof(v32));

        } else {
            v *= mgr_pool_seconds[k].scale;
            memcpy(dst, &v, sizeof(v));
        }

        return true;
    }

    if (mgr_arg_is(call, i, "REALMS")) {

        spec->realms = mgr_arg(call, i + 1);

        if (mgr_arg_is(call, i + 1, "*")) {
            spec->realms = IMS_STR("");
        }

        return true;
    }

    if (mgr_arg_is(call, i, "PURGE")) {

        spec->has_purge = true;
        spec->purge = mgr_arg_is(call, i + 1, "on");

        if (spec->purge || mgr_arg_is(call, i + 1, "off")) {
            return true;
        }

        mgr_badarg(call, "PURGE is on or off");
        return false;
    }

    if (mgr_arg_is(call, i, "PER")) {

        spec->has_per = true;
        spec->per = mgr_arg_is(call, i + 1, "session")
                    ? IMS_POOL_PER_SESSION : IMS_POOL_PER_USER;

        if (spec->per == IMS_POOL_PER_SESSION
            || mgr_arg_is(call, i + 1, "user"))
        {
            return true;
        }

        mgr_badarg(call, "PER is user or session");
        return false;
    }

    mgr_badarg(call, "no such option of a pool");

    return false;
}


typedef struct {
    mgr_call_t  *call;
    size_t       n;
} mgr_pool_ctx_t;


void
mgr_cmd_pool_list(mgr_call_t *call)
{
    int             rc;
    size_t          out;
    mgr_pool_ctx_t  ctx;

    ctx.call = call;
    ctx.n = 0;

    rc = ims_pool_list(call->server->pool, mgr_pool_count, &ctx);

    if (rc != IMS_POOL_OK) {
        mgr_refuse(call, rc, 0);
        return;
    }

    out = call->out->n;

    ims_resp_array(call->out, ctx.n);

    rc = ims_pool_list(call->server->pool, mgr_pool_row, &ctx);

    if (rc != IMS_POOL_OK) {
        call->out->n = out;
        mgr_refuse(call, rc, 0);
    }
}


static int
mgr_pool_count(void *ctx, const ims_pool_t *pool)
{
    mgr_pool_ctx_t  *pc = ctx;

    (void) pool;
    pc->n++;

    return 0;
}


static int
mgr_pool_row(void *ctx, const ims_pool_t *pool)
{
    mgr_pool_ctx_t  *pc = ctx;

    /* no commit comes in between: what was counted is what is told */

    ims_resp_array(pc->call->out, 2 * MGR_POOL_FIELDS);
    mgr_pool_pairs(pc->call, pool);

    return 0;
}


static void
mgr_pool_pairs(mgr_call_t *call, const ims_pool_t *pool)
{
    const ims_pool_head_t  *head;

    head = &pool->head;

    mgr_pair_z(call, "name", pool->name);
    mgr_pair_z(call, "home", pool->home);
    mgr_pair_z(call, "realms", pool->realms[0] ? pool->realms : "*");
    mgr_pair_z(call, "per",
               head->per == IMS_POOL_PER_SESSION ? "session" : "user");
    mgr_pair_z(call, "edges",
               head->edges == IMS_POOL_EDGES_REMOTE ? "remote" : "local");
    mgr_pair_z(call, "purge", head->purge ? "on" : "off");
    mgr_pair_z(call, "state",
               head->flags & IMS_POOL_PF_DROPPING ? "dropping"
               : head->flags & IMS_POOL_PF_DISABLED ? "disabled" : "enabled");
    mgr_pair_u64(call, "ttl", head->ttl);
    mgr_pair_u64(call, "ttl_max", head->ttl_max);
    mgr_pair_u64(call, "d", head->delay);
    mgr_pair_u64(call, "margin", head->margin);
    mgr_pair_u64(call, "min_expires", head->core_min);
    mgr_pair_u64(call, "identities", head->identities);
    mgr_pair_hex(call, "fence", head->fence);
    mgr_pair_u64(call, "created", head->created_wall);
}


void
mgr_cmd_pool_stat(mgr_call_t *call)
{
    int         rc;
    mgr_job_t  *job;

    job = mgr_job_new(mgr_stat_slice);

    if (job == NULL) {
        mgr_refuse(call, IMS_POOL_INTERNAL, 0);
        return;
    }

    rc = ims_pool_get(call->server->pool, mgr_arg(call, 2), &job->u.stat.pool);

    if (rc != IMS_POOL_OK) {
        mgr_job_free(job);
        mgr_refuse(call, rc, 0);
        return;
    }

    call->job = job;
}


static int
mgr_stat_slice(mgr_server_t *s, mgr_job_t *job, ims_resp_buf_t *out)
{
    int                     rc;
    unsigned                i;
    uint64_t                now, next;
    mgr_call_t              call;
    ims_pool_stat_t        *st;
    const ims_pool_head_t  *head;

    st = &job->u.stat.stat;
    head = &job->u.stat.pool.head;

    rc = ims_pool_stat_slice(s->pool, head->pool, st, MGR_JOB_ROWS);

    if (rc == IMS_POOL_MORE || out == NULL) {
        return rc;
    }

    memset(&call, 0, sizeof(call));
    call.server = s;
    call.out = out;

    if (rc != IMS_POOL_OK) {
        mgr_refuse(&call, rc, 0);
        return rc;
    }

    now = ims_pool_now(s->pool);
    next = 0;

    /* how long a newcomer waits, were he to come now */

    if (st->count[IMS_POOL_ST_FREE] == 0 && st->first_rest > now) {
        next = (st->first_rest - now + 999) / 1000;
    }

    ims_resp_array(out, 2 * (MGR_POOL_FIELDS + 2 + IMS_POOL_STATES));

    mgr_pool_pairs(&call, &job->u.stat.pool);
    mgr_pair_u64(&call, "total", st->total);

    for (i = 0; i < IMS_POOL_STATES; i++) {
        mgr_pair_u64(&call, ims_pool_st_text((ims_pool_st_e) i), st->count[i]);
    }

    mgr_pair_u64(&call, "next_free", next);

    return IMS_POOL_OK;
}


/* --- who has what ----------------------------------------------------- */

void
mgr_cmd_show_lease(mgr_call_t *call)
{
    int              rc;
    uint64_t         ident, lease;
    ims_pool_look_t  look;

    if (!ims_pool_lease_parse(mgr_arg(call, 2), &ident, &lease)) {
        mgr_badarg(call, "lease");
        return;
    }

    rc = ims_pool_look(ims_pool_writer_reader(call->server->pool), ident,
                       &look);

    if (rc == IMS_POOL_OK && look.rec.lease != lease) {
        rc = IMS_POOL_NOTFOUND;
    }

    if (rc != IMS_POOL_OK) {
        mgr_refuse(call, rc, 0);
        return;
    }

    mgr_show(call, ident);
}


void
mgr_cmd_show_impu(mgr_call_t *call)
{
    int        rc;
    uint8_t    folded[IMS_POOL_URI_MAX];
    uint64_t   ident;
    ptrdiff_t  n;

    n = ims_sip_fold(folded, sizeof(folded), mgr_arg(call, 2));

    if (n < 0) {
        mgr_badarg(call, "not a URI of an identity");
        return;
    }

    rc = ims_pool_by_uri(ims_pool_writer_reader(call->server->pool),
                         ims_str_set(folded, (size_t) n), &ident, NULL);

    if (rc != IMS_POOL_OK) {
        mgr_refuse(call, rc, 0);
        return;
    }

    mgr_show(call, ident);
}


void
mgr_cmd_show_impi(mgr_call_t *call)
{
    int       rc;
    uint64_t  ident;

    rc = ims_pool_by_impi(ims_pool_writer_reader(call->server->pool),
                          mgr_arg(call, 2), &ident);

    if (rc != IMS_POOL_OK) {
        mgr_refuse(call, rc, 0);
        return;
    }

    mgr_show(call, ident);
}


void
mgr_cmd_show_user(mgr_call_t *call)
{
    int       rc;
    uint64_t  ident;

    rc = ims_pool_by_user(call->server->pool, mgr_arg(call, 2),
                          mgr_arg(call, 3), mgr_arg(call, 4), &ident);

    if (rc != IMS_POOL_OK) {
        mgr_refuse(call, rc, 0);
        return;
    }

    mgr_show(call, ident);
}


static void
mgr_show(mgr_call_t *call, uint64_t ident)
{
    int                      rc;
    ims_pool_look_t          look;
    static ims_pool_names_t  names;     /* 4 KiB and more */

    rc = ims_pool_look_names(ims_pool_writer_reader(call->server->pool),
                             ident, &look, &names);

    if (rc != IMS_POOL_OK) {
        mgr_refuse(call, rc, 0);
        return;
    }

    mgr_show_rec(call, &look, &names);
}


static void
mgr_show_rec(mgr_call_t *call, const ims_pool_look_t *look,
    const ims_pool_names_t *names)
{
    char                   name[IMS_POOL_NAME_MAX + 1];
    uint8_t                holder[ims_b64url_len(IMS_POOL_HOLDER_LEN)];
    unsigned               i;
    const ims_pool_rec_t  *rec;

    rec = &look->rec;

    ims_resp_array(call->out, 2 * (15 + (size_t) names->nimpu
                                   + 2 * (size_t) rec->nsession));

    mgr_pair_hex(call, "ident", rec->ident);
    mgr_pair_lease(call, rec);
    mgr_pair_z(call, "state",
               ims_pool_st_text(ims_pool_state_of(rec, look->fence,
                                                  look->pt)));
    mgr_pair_flags(call, rec->flags);
    mgr_pair_z(call, "pool", mgr_pool_name(call->server, rec->pool, name));
    mgr_pair_z(call, "home", look->home);
    mgr_pair(call, "impi", names->impi);

    for (i = 0; i < names->nimpu; i++) {
        mgr_pair(call, "impu", names->impu[i].given);
    }

    mgr_pair(call, "display", names->display);

    ims_b64url_encode(holder, rec->holder, sizeof(rec->holder));
    mgr_pair(call, "holder",
             ims_str_set(holder, rec->lease ? sizeof(holder) : 0));

    mgr_pair_u64(call, "now", look->pt);
    mgr_pair_u64(call, "start", rec->start);
    mgr_pair_u64(call, "end", rec->end);
    mgr_pair_u64(call, "promised", rec->promised);
    mgr_pair_u64(call, "rest", rec->rest);
    mgr_pair_u64(call, "started", rec->start_wall);

    for (i = 0; i < rec->nsession; i++) {
        mgr_pair_hex(call, "sid", rec->session[i].sid);
        mgr_pair_u64(call, "sid_end", rec->session[i].end);
    }
}


void
mgr_pair_flags(mgr_call_t *call, unsigned flags)
{
    char      text[96];
    size_t    n;
    unsigned  i;

    static const struct {
        unsigned     flag;
        const char  *name;
    } names[] = {
        { IMS_POOL_F_DISABLED, "disabled" },
        { IMS_POOL_F_REMOVING, "removing" },
        { IMS_POOL_F_STAGED, "staged" },
        { IMS_POOL_F_CLOSING, "closing" },
        { IMS_POOL_F_BARRED, "barred" },
        { IMS_POOL_F_PURGED, "purged" },
        { 0, NULL }
    };

    text[0] = '\0';

    for (i = 0, n = 0; names[i].name != NULL; i++) {
        if (flags & names[i].flag) {
            n += (size_t) snprintf(text + n, sizeof(text) - n, "%s%s",
                                   n ? "," : "", names[i].name);
        }
    }

    mgr_pair_z(call, "flags", text);
}


/* the last lease, or nothing if there never was one */

void
mgr_pair_lease(mgr_call_t *call, const ims_pool_rec_t *rec)
{
    uint8_t  text[IMS_POOL_LEASE_TEXT];

    ims_pool_lease_format(text, rec->ident, rec->lease);
    mgr_pair(call, "lease",
             ims_str_set(text, rec->lease ? sizeof(text) : 0));
}


void
mgr_pair_hex(mgr_call_t *call, const char *name, uint64_t v)
{
    char  text[17];

    snprintf(text, sizeof(text), "%016llx", (unsigned long long) v);
    mgr_pair_z(call, name, text);
}


typedef struct {
    uint32_t     no;
    char        *name;
} mgr_pool_name_t;


const char *
mgr_pool_name(mgr_server_t *s, uint32_t no, char *name)
{
    mgr_pool_name_t  ctx;

    /* numbers are never given twice, and names never change */

    static uint32_t  last;
    static char      last_name[IMS_POOL_NAME_MAX + 1];

    if (no == last) {
        memcpy(name, last_name, sizeof(last_name));
        return name;
    }

    ctx.no = no;
    ctx.name = name;
    name[0] = '\0';

    (void) ims_pool_list(s->pool, mgr_pool_name_cb, &ctx);

    if (name[0] != '\0') {
        last = no;
        memcpy(last_name, name, sizeof(last_name));
    }

    return name;
}


static int
mgr_pool_name_cb(void *ctx, const ims_pool_t *pool)
{
    mgr_pool_name_t  *pn = ctx;

    if (pool->head.pool != pn->no) {
        return 0;
    }

    memcpy(pn->name, pool->name, sizeof(pool->name));

    return 1;
}


/* --- revocation ------------------------------------------------------- */

void
mgr_cmd_revoke_lease(mgr_call_t *call)
{
    int       rc;
    bool      bar;
    unsigned  n;
    uint64_t  ident, lease;

    if (!ims_pool_lease_parse(mgr_arg(call, 2), &ident, &lease)) {
        mgr_badarg(call, "lease");
        return;
    }

    if (!mgr_revoke_bar(call, 3, &bar)) {
        return;
    }

    n = 0;
    rc = ims_pool_revoke_lease(call->server->pool, ident, lease, bar, &n);

    if (rc == IMS_POOL_OK) {
        mgr_batch_log(call->server, MGR_LOG_NOTICE,
                      "lease %016llx-%016llx revoked",
                      (unsigned long long) ident, (unsigned long long) lease);
    }

    mgr_revoked(call, rc, n);
}


void
mgr_cmd_revoke_impu(mgr_call_t *call)
{
    int       rc;
    bool      bar;
    unsigned  n;

    if (!mgr_revoke_bar(call, 3, &bar)) {
        return;
    }

    n = 0;
    rc = ims_pool_revoke_impu(call->server->pool, mgr_arg(call, 2), bar, &n);

    if (rc == IMS_POOL_OK) {
        mgr_batch_log(call->server, MGR_LOG_NOTICE,
                      "%u leases revoked by IMPU", n);
    }

    mgr_revoked(call, rc, n);
}


void
mgr_cmd_revoke_user(mgr_call_t *call)
{
    int        rc;
    bool       bar;
    unsigned   n;
    ims_str_t  pool;

    if (!mgr_revoke_bar(call, 5, &bar)) {
        return;
    }

    n = 0;
    pool = mgr_arg(call, 2);

    if (mgr_arg_is(call, 2, "*")) {
        pool = IMS_STR("");
    }

    rc = ims_pool_revoke_user(call->server->pool, pool, mgr_arg(call, 3),
                              mgr_arg(call, 4), bar, &n);

    if (rc == IMS_POOL_OK) {
        mgr_batch_log(call->server, MGR_LOG_NOTICE,
                      "%u leases revoked by user", n);
    }

    mgr_revoked(call, rc, n);
}


void
mgr_cmd_revoke_pool(mgr_call_t *call)
{
    int        rc;
    uint64_t   fence;
    ims_str_t  pool;

    fence = 0;
    pool = mgr_arg(call, 2);

    rc = ims_pool_revoke_pool(call->server->pool, pool, &fence);

    if (rc != IMS_POOL_OK) {
        mgr_refuse(call, rc, 0);
        return;
    }

    mgr_batch_log(call->server, MGR_LOG_NOTICE, "pool %.*s revoked, leases up "
                  "to %016llx are ended", IMS_STR_ARG(pool),
                  (unsigned long long) fence);

    ims_resp_simple(call->out, "OK");
}


static bool
mgr_revoke_bar(mgr_call_t *call, unsigned i, bool *bar)
{
    *bar = mgr_args(call) > i;

    if (*bar && !mgr_arg_is(call, i, "BAR")) {
        mgr_badarg(call, "BAR, or nothing");
        return false;
    }

    return true;
}


static void
mgr_revoked(mgr_call_t *call, int rc, unsigned n)
{
    if (rc != IMS_POOL_OK) {
        mgr_refuse(call, rc, 0);
        return;
    }

    ims_resp_int(call->out, n);
}


/* --- check ------------------------------------------------------------ */

void
mgr_cmd_check(mgr_call_t *call)
{
    call->job = mgr_job_new(mgr_check_slice);

    if (call->job == NULL) {
        mgr_refuse(call, IMS_POOL_INTERNAL, 0);
        return;
    }

    ims_pool_check_begin(&call->job->u.check, mgr_check_fault, call->job);
}


static int
mgr_check_slice(mgr_server_t *s, mgr_job_t *job, ims_resp_buf_t *out)
{
    int         rc;
    uint64_t    total;
    mgr_call_t  call;

    rc = ims_pool_check_slice(s->pool, &job->u.check, MGR_JOB_ROWS);

    if (rc == IMS_POOL_MORE) {
        return rc;
    }

    total = ims_pool_check_total(&job->u.check);

    if (rc == IMS_POOL_OK && total != 0) {
        mgr_log(MGR_LOG_ALERT, "the check found %llu faults",
                (unsigned long long) total);
    }

    if (out == NULL) {
        return rc;
    }

    memset(&call, 0, sizeof(call));
    call.server = s;
    call.out = out;

    if (rc != IMS_POOL_OK || job->faults.failed) {
        rc = rc == IMS_POOL_OK ? IMS_POOL_INTERNAL : rc;
        mgr_refuse(&call, rc, 0);
        return rc;
    }

    ims_resp_array(out, 2 * (6 + (size_t) job->nfaults));
    mgr_pair_u64(&call, "rows", job->u.check.rows);
    mgr_pair_u64(&call, "faults", total);
    mgr_pair_u64(&call, "pages", job->u.check.pages);
    mgr_pair_u64(&call, "pages_free", job->u.check.pages_free);
    mgr_pair_u64(&call, "readers", job->u.check.readers);
    mgr_pair_u64(&call, "oldest_snapshot", job->u.check.behind);
    ims_resp_raw(out, job->faults.p, job->faults.n);

    return IMS_POOL_OK;
}


static void
mgr_check_fault(void *ctx, ims_pool_fault_e fault, uint64_t ident)
{
    char        text[IMS_POOL_PLACE_MAX];
    mgr_job_t  *job = ctx;

    ims_pool_fault_place(fault, ident, text);

    ims_resp_bulk_z(&job->faults, ims_pool_fault_text(fault));
    ims_resp_bulk_z(&job->faults, text);

    job->nfaults++;
}


/* --- info ------------------------------------------------------------- */

void
mgr_cmd_info(mgr_call_t *call)
{
    int              rc;
    ims_pool_info_t  info;
    ims_resp_buf_t   text;

    rc = ims_pool_info(call->server->pool, &info);

    if (rc != IMS_POOL_OK) {
        mgr_refuse(call, rc, 0);
        return;
    }

    memset(&text, 0, sizeof(text));
    mgr_info_text(call->server, &info, &text);

    call->out->failed |= text.failed;
    ims_resp_bulk(call->out, ims_str_set(text.p, text.n));
    ims_resp_free(&text);
}


static void
mgr_info_text(mgr_server_t *s, const ims_pool_info_t *info,
    ims_resp_buf_t *text)
{
    size_t                   i;
    uint64_t                 hold, asked, rest;
    const ims_pool_state_t  *st;

    st = &info->state;
    hold = st->hold_until > info->now ? st->hold_until - info->now : 0;
    asked = st->hold_asked > info->now ? st->hold_asked - info->now : 0;
    rest = st->hold_rest > info->now ? st->hold_rest - info->now : 0;

    const struct {
        const char  *name;
        uint64_t     value;
    } lines[] = {
        { "process_id", (uint64_t) getpid() },
        { "uptime_in_seconds", (ims_wall_ms() - s->started) / 1000 },
        { "connected_clients", s->nconns },
        { "total_connections_received", s->accepted },
        { "total_commands_processed", s->commands },
        { "batches", s->batches },
        { "commits", info->commits },
        { "replayed_batches", s->replays },
        { "schema", st->schema },
        { "node", st->node },
        { "incarnation", st->incarnation },
        { "pool_time", info->now },
        { "hold_seconds", (hold + 999) / 1000 },
        { "hold_asked_seconds", (asked + 999) / 1000 },
        { "hold_rest_seconds", (rest + 999) / 1000 },
        { "hold_replay", hold && st->hold_pt },
        { "purged", s->purged },
        { "leases_given", st->given },
        { "feed_seq", st->feed_seq },
        { "identities", info->identities },
        { "users", info->users },
        { "renewals_waiting", info->renewals },
        { "history", info->hist },
        { "feed_rows", info->feed },
        { "map_size", info->map_size },
        { "map_used", info->map_used },
        { "reserve", info->reserve },
        { "space_left", info->space_left },
        { "transaction", info->txn },
        { "readers", info->readers },
        { "readers_max", info->readers_max },
        { "history_lost", mgr_hlog_lost(s) },
        { "history_complete", ims_pool_log_complete(s->pool) },
        { "damaged_rows", info->damaged },
        { NULL, 0 }
    };

    ims_resp_raw(text, "# Server\r\nims_poolmgr_version:" MGR_VERSION "\r\n",
                 sizeof("# Server\r\nims_poolmgr_version:" MGR_VERSION "\r\n")
                 - 1);

    for (i = 0; lines[i].name != NULL; i++) {
        mgr_info_line(text, lines[i].name, lines[i].value);
    }

    ims_resp_raw(text, "copy:", 5);
    ims_resp_raw(text, mgr_copy_text(s), strlen(mgr_copy_text(s)));
    ims_resp_raw(text, "\r\n", 2);
}


static void
mgr_info_line(ims_resp_buf_t *text, const char *name, uint64_t value)
{
    int   n;
    char  line[96];

    n = snprintf(line, sizeof(line), "%s:%llu\r\n", name,
                 (unsigned long long) value);
    ims_resp_raw(text, line, (size_t) n);
}
