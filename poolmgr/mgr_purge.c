/*
 * Copyright (C) nginx-ims contributors
 *
 * PURGE NEXT and PURGED, for edges; HOLD.
 */

#include <stdio.h>

#include "mgr_batch.h"


#define MGR_PURGES     64           /* of one answer */
#define MGR_HOLD_MAX   (366ull * 86400)


static bool mgr_purge_may(void *ctx, const ims_pool_t *pool);
static void mgr_purge_job(mgr_call_t *call, ims_resp_buf_t *out,
    const ims_pool_purge_t *job);


/* PURGE NEXT <pool>|* <max>: an array, perhaps an empty one */

void
mgr_cmd_purge_next(mgr_call_t *call)
{
    int                      rc;
    uint64_t                 i, n, max;
    mgr_call_t               jobs;
    ims_resp_buf_t           out;
    static ims_pool_purge_t  job;       /* 4 KiB and more */

    if (!ims_str_u64(mgr_arg(call, 3), MGR_PURGES, &max) || max == 0) {
        mgr_badarg(call, "1 to 64 at a time");
        return;
    }

    memset(&out, 0, sizeof(out));
    rc = IMS_POOL_OK;

    jobs = *call;
    jobs.out = &out;

    for (i = 0, n = 0; i < max; i++) {

        rc = ims_pool_purge_next(call->server->pool, mgr_purge_may, call,
                                 &job);

        if (rc != IMS_POOL_OK) {
            break;
        }

        mgr_purge_job(&jobs, &out, &job);
        n++;
    }

    if (rc == IMS_POOL_OK || rc == IMS_POOL_NOTFOUND) {
        call->out->failed |= out.failed;
        ims_resp_array(call->out, n);
        ims_resp_raw(call->out, out.p, out.n);

    } else {
        mgr_refuse(call, rc, 0);
    }

    ims_resp_free(&out);
}


static bool
mgr_purge_may(void *ctx, const ims_pool_t *pool)
{
    mgr_call_t  *call = ctx;

    return (mgr_arg_is(call, 2, "*")
            || ims_str_eq(mgr_arg(call, 2), ims_str_z(pool->name)))
           && (call->secret == NULL
               || mgr_secret_allows(call->secret, ims_str_z(pool->name),
                                    IMS_STR_NULL));
}


static void
mgr_purge_job(mgr_call_t *call, ims_resp_buf_t *out,
    const ims_pool_purge_t *job)
{
    char      text[17];
    uint8_t   lease[IMS_POOL_LEASE_TEXT];
    unsigned  i;

    ims_resp_array(out, 2 * (7 + (size_t) job->names.nimpu));

    snprintf(text, sizeof(text), "%016llx", (unsigned long long) job->id);
    mgr_pair_z(call, "purge", text);

    ims_pool_lease_format(lease, job->ident, job->lease);
    mgr_pair(call, "lease",
             ims_str_set(lease, job->lease ? sizeof(lease) : 0));

    mgr_pair_z(call, "pool", job->pool);
    mgr_pair_z(call, "home", job->home);
    mgr_pair(call, "impi", job->names.impi);

    for (i = 0; i < job->names.nimpu; i++) {
        mgr_pair(call, "impu", job->names.impu[i].given);
    }

    mgr_pair_u64(call, "send_by", job->send_by);
    mgr_pair_u64(call, "answer_by", job->answer_by);

    mgr_batch_log(call->server, MGR_LOG_INFO,
                  "pool %s lease %.*s to be purged at the core", job->pool,
                  (int) sizeof(lease), (char *) lease);
}


/* PURGED <purge> */

void
mgr_cmd_purged(mgr_call_t *call)
{
    int        rc;
    uint8_t    text[IMS_POOL_LEASE_TEXT];
    uint64_t   id, ident, lease;
    ims_str_t  arg;

    arg = mgr_arg(call, 1);

    if (arg.n != 16 || !ims_hex_u64(arg, &id)) {
        mgr_badarg(call, "purge is 16 hex digits");
        return;
    }

    rc = ims_pool_purged(call->server->pool, id, &ident, &lease);

    if (rc != IMS_POOL_OK) {
        mgr_refuse(call, rc, 0);
        return;
    }

    call->server->purged++;
    ims_pool_lease_format(text, ident, lease);

    mgr_batch_log(call->server, MGR_LOG_INFO, "lease %.*s purged",
                  (int) sizeof(text), (char *) text);
    ims_resp_simple(call->out, "OK");
}


/* HOLD <seconds>|END */

void
mgr_cmd_hold(mgr_call_t *call)
{
    int       rc;
    uint64_t  seconds;

    seconds = 0;

    if (!mgr_arg_is(call, 1, "END")
        && (!ims_str_u64(mgr_arg(call, 1), MGR_HOLD_MAX, &seconds)
            || seconds == 0))
    {
        mgr_badarg(call, "a number of seconds, or END");
        return;
    }

    rc = ims_pool_hold_for(call->server->pool, seconds * 1000);

    if (rc != IMS_POOL_OK) {
        mgr_refuse(call, rc, 0);
        return;
    }

    if (seconds) {
        mgr_batch_log(call->server, MGR_LOG_NOTICE,
                      "nothing is given for the next %llu seconds, by command",
                      (unsigned long long) seconds);

    } else {
        mgr_batch_log(call->server, MGR_LOG_NOTICE,
                      "the hold by command is ended");
    }

    ims_resp_simple(call->out, "OK");
}
