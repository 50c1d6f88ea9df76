/*
 * Copyright (C) nginx-ims contributors
 *
 * The commands of the call flow: acquire, renew, release, report.
 */

#include "base/ims_clock.h"
#include "mgr_batch.h"


#define MGR_REALM_MAX  255
#define MGR_USER_MAX   1024


/* what acquire, renew and release have in common */
typedef struct {
    ims_pool_who_t   who;
    uint64_t         ident;
    uint64_t         lease;
    ims_str_t        nonce;
} mgr_lease_args_t;


static bool mgr_lease_args(mgr_call_t *call, bool named,
    mgr_lease_args_t *args);
static bool mgr_lease_may(mgr_call_t *call, const mgr_lease_args_t *args);
static bool mgr_lease_in_time(mgr_call_t *call, ims_str_t deadline);
static void mgr_lease_grant(mgr_call_t *call, const mgr_lease_args_t *args,
    const ims_pool_grant_t *grant);
static void mgr_lease_log(mgr_call_t *call, const char *what, ims_str_t pool,
    uint64_t ident, uint64_t lease);


static const char  *mgr_how[] = {
    [IMS_POOL_SAME] = "same",
    [IMS_POOL_RETURNED] = "returned",
    [IMS_POOL_NEW] = "new"
};


void
mgr_cmd_acquire(mgr_call_t *call)
{
    int                      rc;
    mgr_lease_args_t         args;
    static ims_pool_grant_t  grant;     /* 4 KiB and more */

    if (!mgr_lease_args(call, false, &args)) {
        return;
    }

    grant.retry_s = 0;
    rc = ims_pool_acquire(call->server->pool, &args.who, &grant);

    if (rc != IMS_POOL_OK) {
        mgr_refuse(call, rc, grant.retry_s);
        return;
    }

    mgr_lease_log(call, mgr_how[grant.how], args.who.pool, grant.ident,
                  grant.lease);
    mgr_lease_grant(call, &args, &grant);
}


void
mgr_cmd_renew(mgr_call_t *call)
{
    int                      rc;
    mgr_lease_args_t         args;
    static ims_pool_grant_t  grant;

    if (!mgr_lease_args(call, true, &args)) {
        return;
    }

    grant.retry_s = 0;
    rc = ims_pool_renew(call->server->pool, &args.who, args.ident, args.lease,
                        &grant);

    if (rc != IMS_POOL_OK) {
        mgr_refuse(call, rc, grant.retry_s);
        return;
    }

    mgr_lease_grant(call, &args, &grant);
}


void
mgr_cmd_release(mgr_call_t *call)
{
    int               rc;
    bool              ended;
    uint8_t           text[IMS_POOL_LEASE_TEXT];
    mgr_lease_args_t  args;

    if (!mgr_lease_args(call, true, &args)) {
        return;
    }

    rc = ims_pool_release(call->server->pool, &args.who, args.ident,
                          args.lease, &ended);

    if (rc != IMS_POOL_OK) {
        mgr_refuse(call, rc, 0);
        return;
    }

    if (ended) {
        mgr_lease_log(call, "released", args.who.pool, args.ident, args.lease);
    }

    ims_pool_lease_format(text, args.ident, args.lease);

    ims_resp_array(call->out, 6);
    mgr_pair(call, "nonce", args.nonce);
    mgr_pair(call, "lease", ims_str_set(text, sizeof(text)));
    mgr_pair_u64(call, "ended", ended);
}


void
mgr_cmd_report(mgr_call_t *call)
{
    int        rc;
    bool       alert;
    uint32_t   edge;
    uint64_t   ident, lease, flow, until;
    ims_str_t  text;

    text = mgr_arg(call, 1);

    if (!ims_pool_lease_parse(text, &ident, &lease)) {
        mgr_badarg(call, "lease");
        return;
    }

    if (!ims_str_u32(mgr_arg(call, 2), &edge) || edge > UINT16_MAX) {
        mgr_badarg(call, "edge is a number up to 65535");
        return;
    }

    if (!ims_hex_u64(mgr_arg(call, 3), &flow)) {
        mgr_badarg(call, "flow is 1 to 16 hex digits");
        return;
    }

    if (!ims_str_u64(mgr_arg(call, 4), UINT64_MAX, &until)) {
        mgr_badarg(call, "until is pool time in ms");
        return;
    }

    alert = false;
    rc = ims_pool_report(call->server->pool, ident, lease, edge, flow, until,
                         &alert);

    if (rc != IMS_POOL_OK) {
        mgr_refuse(call, rc, 0);
        return;
    }

    if (alert) {
        mgr_batch_log(call->server, MGR_LOG_ALERT, "edge %u reports a binding "
                      "of lease %.*s, whose identity has another holder",
                      edge, IMS_STR_ARG(text));
    }

    ims_resp_simple(call->out, "OK");
}


/* <pool> <realm> <user> [<lease>] <sid> <nonce> <deadline> */

static bool
mgr_lease_args(mgr_call_t *call, bool named, mgr_lease_args_t *args)
{
    unsigned   i;
    uint8_t    raw[16];
    ims_str_t  sid, deadline;

    memset(args, 0, sizeof(mgr_lease_args_t));

    i = 1;

    args->who.pool = mgr_arg(call, i++);
    args->who.realm = mgr_arg(call, i++);
    args->who.user = mgr_arg(call, i++);

    if (named
        && !ims_pool_lease_parse(mgr_arg(call, i++), &args->ident,
                                 &args->lease))
    {
        mgr_badarg(call, "lease");
        return false;
    }

    sid = mgr_arg(call, i++);
    args->nonce = mgr_arg(call, i++);
    deadline = mgr_arg(call, i++);

    if (sid.n != 16 || !ims_hex_u64(sid, &args->who.sid)
        || args->who.sid == 0)
    {
        mgr_badarg(call, "sid is 16 hex digits, not all 0");
        return false;
    }

    if (!ims_hex_decode(raw, sizeof(raw), args->nonce)) {
        mgr_badarg(call, "nonce is 32 hex digits");
        return false;
    }

    if (args->who.realm.n == 0 || args->who.realm.n > MGR_REALM_MAX
        || memchr(args->who.realm.p, 0, args->who.realm.n) != NULL)
    {
        mgr_badarg(call, "realm is 1 to 255 bytes without NUL");
        return false;
    }

    if (args->who.user.n == 0 || args->who.user.n > MGR_USER_MAX) {
        mgr_badarg(call, "user is 1 to 1024 bytes");
        return false;
    }

    return mgr_lease_may(call, args) && mgr_lease_in_time(call, deadline);
}


static bool
mgr_lease_may(mgr_call_t *call, const mgr_lease_args_t *args)
{
    if (call->secret == NULL
        || mgr_secret_allows(call->secret, args->who.pool, args->who.realm))
    {
        return true;
    }

    ims_resp_error(call->out, "DENIED not with this secret");

    return false;
}


/*
 * The asker has given up by then, and may be asking again: what is done later
 * would be done for nobody.
 */

static bool
mgr_lease_in_time(mgr_call_t *call, ims_str_t deadline)
{
    uint64_t  ms;

    if (!ims_str_u64(deadline, UINT64_MAX, &ms)) {
        mgr_badarg(call, "deadline is CLOCK_BOOTTIME in ms");
        return false;
    }

    if (ms == 0 && call->role == MGR_ROLE_ADMIN) {
        return true;
    }

    if (ims_boottime_ms() >= ms) {
        ims_resp_error(call->out, "LATE the deadline has passed");
        return false;
    }

    return true;
}


static void
mgr_lease_grant(mgr_call_t *call, const mgr_lease_args_t *args,
    const ims_pool_grant_t *grant)
{
    uint8_t   lease[IMS_POOL_LEASE_TEXT];
    uint8_t   sid[16], big[8];
    uint8_t   holder[ims_b64url_len(IMS_POOL_HOLDER_LEN)];
    unsigned  i;

    ims_pool_lease_format(lease, grant->ident, grant->lease);
    ims_b64url_encode(holder, grant->holder, sizeof(grant->holder));

    for (i = 0; i < 8; i++) {
        big[i] = (uint8_t) (grant->sid >> (56 - 8 * i));
    }

    ims_hex_encode(sid, big, sizeof(big));

    ims_resp_array(call->out, 2 * (12 + (size_t) grant->names.nimpu));

    mgr_pair(call, "nonce", args->nonce);
    mgr_pair(call, "lease", ims_str_set(lease, sizeof(lease)));
    mgr_pair(call, "sid", ims_str_set(sid, sizeof(sid)));
    mgr_pair(call, "holder", ims_str_set(holder, sizeof(holder)));
    mgr_pair(call, "pool", args->who.pool);
    mgr_pair_z(call, "home", grant->home);
    mgr_pair(call, "impi", grant->names.impi);

    for (i = 0; i < grant->names.nimpu; i++) {
        mgr_pair(call, "impu", grant->names.impu[i].given);
    }

    mgr_pair(call, "display", grant->names.display);
    mgr_pair_u64(call, "now", grant->now);
    mgr_pair_u64(call, "end", grant->end);
    mgr_pair_u64(call, "ttl", grant->end > grant->now
                              ? grant->end - grant->now : 0);
    mgr_pair_z(call, "state", mgr_how[grant->how]);
}


static void
mgr_lease_log(mgr_call_t *call, const char *what, ims_str_t pool,
    uint64_t ident, uint64_t lease)
{
    uint8_t  text[IMS_POOL_LEASE_TEXT];

    ims_pool_lease_format(text, ident, lease);

    /* the pool's name was found: it is made of harmless characters */

    mgr_batch_log(call->server, MGR_LOG_INFO, "pool %.*s lease %.*s %s",
                  IMS_STR_ARG(pool), (int) sizeof(text), (char *) text, what);
}
