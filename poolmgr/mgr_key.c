/*
 * Copyright (C) nginx-ims contributors
 *
 * KEY ROTATE, LIST, DROP: the keys that users are hashed with.
 */

#include "mgr_batch.h"
#include "mgr_job.h"


typedef struct {
    mgr_call_t      *call;
    ims_resp_buf_t   rows;
    size_t           n;
} mgr_key_ctx_t;


static void mgr_key_row(void *ctx, const ims_pool_key_t *key, bool current);
static int mgr_key_drop_slice(mgr_server_t *s, mgr_job_t *job,
    ims_resp_buf_t *out);
static int mgr_key_used(void *ctx, const ims_pool_rec_t *rec,
    ims_pool_st_e st);


void
mgr_cmd_key_rotate(mgr_call_t *call)
{
    int       rc;
    uint32_t  no;

    rc = ims_pool_key_rotate(call->server->pool, &no);

    if (rc == IMS_POOL_EXISTS) {
        mgr_badarg(call, "there are 16 keys: drop one first");
        return;
    }

    if (rc != IMS_POOL_OK) {
        mgr_refuse(call, rc, 0);
        return;
    }

    mgr_batch_log(call->server, MGR_LOG_NOTICE,
                  "users are hashed with key %u from now on", no);
    ims_resp_int(call->out, no);
}


void
mgr_cmd_key_list(mgr_call_t *call)
{
    int            rc;
    mgr_call_t     rows;
    mgr_key_ctx_t  ctx;

    memset(&ctx, 0, sizeof(ctx));
    rows = *call;
    rows.out = &ctx.rows;
    ctx.call = &rows;

    rc = ims_pool_key_list(call->server->pool, mgr_key_row, &ctx);

    if (rc == IMS_POOL_OK) {
        ims_resp_array(call->out, ctx.n);
        ims_resp_raw(call->out, ctx.rows.p, ctx.rows.n);
        call->out->failed |= ctx.rows.failed;

    } else {
        mgr_refuse(call, rc, 0);
    }

    ims_resp_free(&ctx.rows);
}


static void
mgr_key_row(void *ctx, const ims_pool_key_t *key, bool current)
{
    mgr_key_ctx_t  *kc = ctx;

    kc->n++;

    ims_resp_array(kc->call->out, 6);
    mgr_pair_u64(kc->call, "key", key->no);
    mgr_pair_u64(kc->call, "created", key->wall);
    mgr_pair_z(kc->call, "state", current ? "current" : "old");
}


/* KEY DROP <number> */

void
mgr_cmd_key_drop(mgr_call_t *call)
{
    uint64_t    no;
    mgr_job_t  *job;

    if (!ims_str_u64(mgr_arg(call, 2), UINT32_MAX, &no) || no == 0) {
        mgr_badarg(call, "a key's number");
        return;
    }

    job = mgr_job_new(mgr_key_drop_slice);

    if (job == NULL) {
        mgr_refuse(call, IMS_POOL_INTERNAL, 0);
        return;
    }

    job->u.key.no = (uint32_t) no;
    call->job = job;
}


/*
 * A live lease under an old key gets no company: whoever comes is hashed with
 * the current one.  So what the walk has not seen there, is not there.
 */

static int
mgr_key_drop_slice(mgr_server_t *s, mgr_job_t *job, ims_resp_buf_t *out)
{
    int         rc;
    mgr_call_t  call;

    if (out == NULL) {
        return IMS_POOL_OK;
    }

    rc = ims_pool_walk(s->pool, 0, IMS_POOL_ST_LEASED, &job->u.key.pos,
                       MGR_JOB_ROWS, mgr_key_used, job);

    if (rc == IMS_POOL_MORE) {
        return rc;
    }

    memset(&call, 0, sizeof(call));
    call.server = s;
    call.out = out;

    if (rc == IMS_POOL_OK && job->u.key.used) {
        rc = IMS_POOL_BUSY;
    }

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_key_drop(s->pool, job->u.key.no);
    }

    if (rc == IMS_POOL_BADARG) {
        mgr_badarg(&call, "this is the current key");
        return rc;
    }

    if (rc != IMS_POOL_OK) {
        mgr_refuse(&call, rc, 0);
        return rc;
    }

    mgr_log(MGR_LOG_NOTICE, "key %u is dropped: who was hashed with it is "
            "nobody now", job->u.key.no);
    ims_resp_simple(out, "OK");

    return rc;
}


static int
mgr_key_used(void *ctx, const ims_pool_rec_t *rec, ims_pool_st_e st)
{
    mgr_job_t  *job = ctx;

    (void) st;

    job->u.key.used += rec->hash_key == job->u.key.no;

    return 0;
}
