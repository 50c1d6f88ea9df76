/*
 * Copyright (C) nginx-ims contributors
 *
 * The administrator's commands for what identities and pools may do: IDENTITY
 * ADD, DISABLE, ENABLE, REMOVE; POOL DISABLE, ENABLE, DROP.
 */

#include <stdio.h>

#include "mgr_batch.h"


#define MGR_REST_MAX   (366ull * 86400)     /* s */


static bool mgr_life_now(mgr_call_t *call, unsigned i, bool *now);
static void mgr_life_done(mgr_call_t *call, int rc, const char *what,
    bool ended);


/* IDENTITY ADD <pool> <rest> <IMPI> <display name> <IMPU> [<IMPU> ...] */

void
mgr_cmd_identity_add(mgr_call_t *call)
{
    int                    rc;
    char                   text[96];
    unsigned               i;
    uint64_t               rest, ident;
    ims_pool_identity_t    row;
    ims_pool_row_result_t  res;

    if (!ims_str_u64(mgr_arg(call, 3), MGR_REST_MAX, &rest)) {
        mgr_badarg(call, "rest is a number of seconds");
        return;
    }

    memset(&row, 0, sizeof(row));
    memset(&res, 0, sizeof(res));

    row.impi = mgr_arg(call, 4);
    row.display = mgr_arg(call, 5);
    row.nimpu = mgr_args(call) - 6;

    for (i = 0; i < row.nimpu; i++) {
        row.impu[i] = mgr_arg(call, 6 + i);
    }

    rc = ims_pool_identity_add(call->server->pool, mgr_arg(call, 2), &row,
                               rest * 1000, &ident, &res);

    if ((rc == IMS_POOL_EXISTS || rc == IMS_POOL_BADARG)
        && res.fault != IMS_POOL_ROW_OK)
    {
        snprintf(text, sizeof(text), "%s 1 %s",
                 rc == IMS_POOL_EXISTS ? "DUPLICATE" : "BADROW",
                 ims_pool_row_fault_text(res.fault));
        ims_resp_error(call->out, text);
        return;
    }

    if (rc != IMS_POOL_OK) {
        mgr_refuse(call, rc, 0);
        return;
    }

    mgr_batch_log(call->server, MGR_LOG_NOTICE,
                  "identity %016llx added to pool %.*s",
                  (unsigned long long) ident, IMS_STR_ARG(mgr_arg(call, 2)));

    snprintf(text, sizeof(text), "%016llx", (unsigned long long) ident);
    ims_resp_bulk_z(call->out, text);
}


/* IDENTITY DISABLE <IMPU or IMPI> [NOW] */

void
mgr_cmd_identity_disable(mgr_call_t *call)
{
    int   rc;
    bool  now, ended;

    if (!mgr_life_now(call, 3, &now)) {
        return;
    }

    rc = ims_pool_disable(call->server->pool, mgr_arg(call, 2), now, &ended);

    mgr_life_done(call, rc, "disabled", ended);
}


/* IDENTITY ENABLE <IMPU or IMPI> */

void
mgr_cmd_identity_enable(mgr_call_t *call)
{
    mgr_life_done(call,
                  ims_pool_enable(call->server->pool, mgr_arg(call, 2)),
                  "enabled", false);
}


/* IDENTITY REMOVE <IMPU or IMPI> */

void
mgr_cmd_identity_remove(mgr_call_t *call)
{
    int   rc;
    bool  ended;

    rc = ims_pool_remove(call->server->pool, mgr_arg(call, 2), &ended);

    mgr_life_done(call, rc, "removed", ended);
}


/* number of leases that ended */

static void
mgr_life_done(mgr_call_t *call, int rc, const char *what, bool ended)
{
    uint64_t  ident;

    if (rc == IMS_POOL_BADARG) {
        mgr_badarg(call, "not an IMPU or IMPI");
        return;
    }

    if (rc != IMS_POOL_OK) {
        mgr_refuse(call, rc, 0);
        return;
    }

    if (ims_pool_find(call->server->pool, mgr_arg(call, 2), &ident)
        == IMS_POOL_OK)
    {
        mgr_batch_log(call->server, MGR_LOG_NOTICE, "identity %016llx %s%s",
                      (unsigned long long) ident, what,
                      ended ? ", its lease ended" : "");
    }

    ims_resp_int(call->out, ended);
}


static bool
mgr_life_now(mgr_call_t *call, unsigned i, bool *now)
{
    *now = mgr_args(call) > i;

    if (*now && !mgr_arg_is(call, i, "NOW")) {
        mgr_badarg(call, "NOW, or nothing");
        return false;
    }

    return true;
}


/* POOL DISABLE <name> [NOW] */

void
mgr_cmd_pool_disable(mgr_call_t *call)
{
    int   rc;
    bool  now;

    if (!mgr_life_now(call, 3, &now)) {
        return;
    }

    rc = ims_pool_pool_disable(call->server->pool, mgr_arg(call, 2), now);

    if (rc != IMS_POOL_OK) {
        mgr_refuse(call, rc, 0);
        return;
    }

    mgr_batch_log(call->server, MGR_LOG_NOTICE, "pool %.*s disabled%s",
                  IMS_STR_ARG(mgr_arg(call, 2)),
                  now ? ", its leases ended" : "");
    ims_resp_simple(call->out, "OK");
}


/* POOL ENABLE <name> */

void
mgr_cmd_pool_enable(mgr_call_t *call)
{
    int  rc;

    rc = ims_pool_pool_enable(call->server->pool, mgr_arg(call, 2));

    if (rc != IMS_POOL_OK) {
        mgr_refuse(call, rc, 0);
        return;
    }

    mgr_batch_log(call->server, MGR_LOG_NOTICE, "pool %.*s enabled",
                  IMS_STR_ARG(mgr_arg(call, 2)));
    ims_resp_simple(call->out, "OK");
}


/* POOL DROP <name> [ALL] */

void
mgr_cmd_pool_drop(mgr_call_t *call)
{
    int   rc;
    bool  all;

    all = mgr_args(call) > 3;

    if (all && !mgr_arg_is(call, 3, "ALL")) {
        mgr_badarg(call, "ALL, or nothing");
        return;
    }

    rc = ims_pool_drop(call->server->pool, mgr_arg(call, 2), all);

    if (rc != IMS_POOL_OK) {
        mgr_refuse(call, rc, 0);
        return;
    }

    call->server->housekeep = 1;

    mgr_batch_log(call->server, MGR_LOG_NOTICE,
                  "pool %.*s is dropped, its leases ended",
                  IMS_STR_ARG(mgr_arg(call, 2)));
    ims_resp_simple(call->out, "OK");
}
