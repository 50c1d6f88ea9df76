/*
 * Copyright (C) nginx-ims contributors
 *
 * ims-poolctl acquire, renew, release, report.
 */

#include <errno.h>
#include <sys/random.h>

#include "base/ims_clock.h"
#include "ctl.h"


static int ctl_lease(ctl_t *ctl, const char *command, const char *pool,
    const char *user, const char *lease);
static int ctl_random_hex(char *dst, size_t n);
static int ctl_pool_time(ctl_t *ctl, uint64_t *now);


int
ctl_acquire(ctl_t *ctl, unsigned argc, char **argv)
{
    (void) argc;

    return ctl_lease(ctl, "ACQUIRE", argv[0], argv[1], NULL);
}


int
ctl_renew(ctl_t *ctl, unsigned argc, char **argv)
{
    (void) argc;

    return ctl_lease(ctl, "RENEW", argv[0], argv[1], argv[2]);
}


int
ctl_release(ctl_t *ctl, unsigned argc, char **argv)
{
    (void) argc;

    return ctl_lease(ctl, "RELEASE", argv[0], argv[1], argv[2]);
}


static int
ctl_lease(ctl_t *ctl, const char *command, const char *pool, const char *user,
    const char *lease)
{
    int           rc;
    char          sid[17], nonce[33], deadline[24];
    unsigned      n;
    const char   *argv[8];
    redisReply   *reply;

    if (lease != NULL && ctl->sid == NULL) {
        ctl_error("--sid is needed: the session that acquire told");
        return CTL_USAGE;
    }

    if (ctl_random_hex(sid, 16) != 0 || ctl_random_hex(nonce, 32) != 0) {
        return CTL_REFUSED;
    }

    snprintf(deadline, sizeof(deadline), "%llu",
             (unsigned long long) ims_boottime_ms() + ctl->timeout * 1000);

    n = 0;
    argv[n++] = command;
    argv[n++] = pool;
    argv[n++] = ctl->realm ? ctl->realm : CTL_REALM;
    argv[n++] = user;

    if (lease != NULL) {
        argv[n++] = lease;
    }

    argv[n++] = ctl->sid ? ctl->sid : sid;
    argv[n++] = nonce;
    argv[n++] = deadline;

    rc = ctl_ask(ctl, n, argv, &reply);

    if (rc != CTL_OK) {
        return rc;
    }

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2
        || reply->element[1]->type != REDIS_REPLY_STRING
        || strcmp(reply->element[1]->str, nonce) != 0)
    {
        ctl_error("the answer is not the one to this command");
        freeReplyObject(reply);
        return CTL_AWAY;
    }

    /* the nonce has done its work: people need not see it */

    reply->element += 2;
    reply->elements -= 2;

    ctl_out_pairs(ctl, reply);

    reply->element -= 2;
    reply->elements += 2;
    freeReplyObject(reply);

    return CTL_OK;
}


static int
ctl_random_hex(char *dst, size_t n)
{
    uint8_t  raw[16];

    if (getrandom(raw, n / 2, 0) != (ssize_t) (n / 2)) {
        ctl_error("getrandom() failed: %s", strerror(errno));
        return -1;
    }

    raw[0] |= 1;                /* a sid is never 0 */

    ims_hex_encode((uint8_t *) dst, raw, n / 2);
    dst[n] = '\0';

    return 0;
}


/* report LEASE EDGE FLOW UNTIL, UNTIL as pool time or "+SECONDS" */

int
ctl_report(ctl_t *ctl, unsigned argc, char **argv)
{
    int          rc;
    char         until[24];
    uint64_t     now, seconds;
    const char  *args[5];
    redisReply  *reply;

    (void) argc;

    args[0] = "REPORT";
    args[1] = argv[0];
    args[2] = argv[1];
    args[3] = argv[2];
    args[4] = argv[3];

    if (argv[3][0] == '+') {

        if (!ims_str_u64(ims_str_z(argv[3] + 1), UINT32_MAX, &seconds)) {
            ctl_error("UNTIL is pool time in ms, or +SECONDS");
            return CTL_USAGE;
        }

        if (ctl_pool_time(ctl, &now) != 0) {
            return CTL_AWAY;
        }

        snprintf(until, sizeof(until), "%llu",
                 (unsigned long long) now + seconds * 1000);
        args[4] = until;
    }

    rc = ctl_ask(ctl, 5, args, &reply);

    if (rc != CTL_OK) {
        return rc;
    }

    freeReplyObject(reply);
    ctl_out_done(ctl, "result", "ok", "reported");

    return CTL_OK;
}


static int
ctl_pool_time(ctl_t *ctl, uint64_t *now)
{
    int          rc;
    char        *p;
    ims_str_t    v;
    const char  *args[1];
    redisReply  *reply;

    args[0] = "INFO";
    reply = ctl_call_z(ctl, 1, args);

    if (reply == NULL) {
        return -1;
    }

    rc = -1;
    p = reply->type == REDIS_REPLY_STRING
        ? strstr(reply->str, "\npool_time:") : NULL;

    if (p != NULL) {
        p += sizeof("\npool_time:") - 1;
        v = ims_str_set(p, strcspn(p, "\r\n"));
        rc = ims_str_u64(v, UINT64_MAX, now) ? 0 : -1;
    }

    freeReplyObject(reply);

    if (rc != 0) {
        ctl_error("the daemon does not tell its time");
    }

    return rc;
}
