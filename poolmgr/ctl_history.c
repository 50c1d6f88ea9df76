/*
 * Copyright (C) nginx-ims contributors
 *
 * ims-poolctl history: who held what, when.
 */

#include <stdlib.h>
#include <time.h>

#include "ctl.h"


static int ctl_history_call(ctl_t *ctl, const char **args, unsigned n,
    unsigned cursor);
static int ctl_time(const char *text, char *ms, size_t cap);
static bool ctl_time_zone(const char *p, long *offset);


static const char *const  ctl_history_columns[] = {
    "from", "to", "reason", "impu", "lease", "user", "was", NULL
};


/*
 * history --impu X | --impi X | --lease L  [--user U [--realm R]]
 * history --user U [--realm R]
 */

int
ctl_history(ctl_t *ctl, unsigned argc, char **argv)
{
    char         from[24], to[24];
    unsigned     n, cursor;
    const char  *args[8], *name;

    (void) argc;
    (void) argv;

    if (ctl->nimpu > 1
        || (ctl->nimpu != 0) + (ctl->impi != NULL) + (ctl->lease != NULL) > 1
        || (ctl->nimpu == 0 && ctl->impi == NULL && ctl->lease == NULL
            && ctl->user == NULL))
    {
        ctl_error("one of --impu, --impi and --lease, or --user");
        return CTL_USAGE;
    }

    if (ctl->at != NULL && (ctl->from != NULL || ctl->to != NULL)) {
        ctl_error("--at, or --from and --to");
        return CTL_USAGE;
    }

    if (ctl_time(ctl->at ? ctl->at : ctl->from, from, sizeof(from)) != 0
        || ctl_time(ctl->at ? ctl->at : ctl->to, to, sizeof(to)) != 0)
    {
        return CTL_USAGE;
    }

    n = 0;
    cursor = 0;
    name = ctl->nimpu ? ctl->impu[0] : ctl->impi;
    args[n++] = "HISTORY";

    if (ctl->lease != NULL) {
        args[n++] = "LEASE";
        args[n++] = ctl->lease;

    } else if (name != NULL) {
        args[n++] = "NAME";
        args[n++] = name;
        args[n++] = from;
        args[n++] = to;
        cursor = n++;
    }

    if (n == 1) {
        args[n++] = "USER";
        args[n++] = ctl->realm ? ctl->realm : CTL_REALM;
        args[n++] = ctl->user;
        args[n++] = from;
        args[n++] = to;
        cursor = n++;

    } else if (ctl->user != NULL) {
        args[n++] = ctl->realm ? ctl->realm : CTL_REALM;
        args[n++] = ctl->user;
    }

    return ctl_history_call(ctl, args, n, cursor);
}


static int
ctl_history_call(ctl_t *ctl, const char **args, unsigned n, unsigned cursor)
{
    int           rc;
    bool          more;
    char          text[64];
    redisReply   *reply;
    ctl_table_t  *table;

    table = ctl_table_new(ctl, ctl_history_columns);

    if (table == NULL) {
        ctl_error("no memory");
        return CTL_REFUSED;
    }

    memcpy(text, "0", 2);

    do {
        if (cursor) {
            args[cursor] = text;
        }

        rc = ctl_ask(ctl, n, args, &reply);

        if (rc != CTL_OK) {
            return rc;
        }

        ctl_table_rows(table, reply->element[1]);
        snprintf(text, sizeof(text), "%s", reply->element[0]->str);
        more = cursor && strcmp(text, "0") != 0;
        freeReplyObject(reply);

    } while (more);

    rc = ctl_table_empty(table) ? CTL_REFUSED : CTL_OK;
    ctl_table_end(table);

    return rc;
}


/*
 * "2026-11-22 14:30", "2026-11-22T14:30:05.250Z", "...+01:00", seconds since
 * 1970, to milliseconds; nothing is "-".  Local time unless a zone is told.
 */

static int
ctl_time(const char *text, char *ms, size_t cap)
{
    long         offset;
    char        *end;
    time_t       t;
    unsigned     i, milli;
    uint64_t     seconds;
    struct tm    tm;
    const char  *p;

    static const char *const  forms[] = {
        "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M",
        "%Y-%m-%d %H:%M", "%Y-%m-%d", NULL
    };

    if (text == NULL) {
        snprintf(ms, cap, "-");
        return 0;
    }

    if (ims_str_u64(ims_str_z(text), UINT32_MAX, &seconds)) {
        snprintf(ms, cap, "%llu", (unsigned long long) seconds * 1000);
        return 0;
    }

    for (i = 0, p = NULL; p == NULL && forms[i] != NULL; i++) {
        memset(&tm, 0, sizeof(tm));
        p = strptime(text, forms[i], &tm);
    }

    milli = 0;

    if (p != NULL && *p == '.' && p[-3] == ':') {
        milli = (unsigned) (strtod(p, &end) * 1000 + 0.5);
        p = end;
    }

    if (p == NULL || milli > 999 || (*p != '\0' && !ctl_time_zone(p, &offset)))
    {
        ctl_error("\"%s\" is no time: such as \"2026-01-31 14:30:05\", with Z "
                  "or +01:00 behind it unless it is local, or seconds since "
                  "1970", text);
        return -1;
    }

    if (*p == '\0') {
        tm.tm_isdst = -1;
        t = mktime(&tm);

    } else {
        t = timegm(&tm) - offset;
    }

    snprintf(ms, cap, "%llu", (unsigned long long) t * 1000 + milli);

    return 0;
}


static bool
ctl_time_zone(const char *p, long *offset)
{
    int       n;
    char      sign;
    unsigned  h, m;

    *offset = 0;

    if (strcmp(p, "Z") == 0) {
        return true;
    }

    n = 0;

    if (sscanf(p, "%c%2u:%2u%n", &sign, &h, &m, &n) != 3 || p[n] != '\0'
        || (sign != '+' && sign != '-') || h > 15 || m > 59)
    {
        return false;
    }

    *offset = (long) (h * 3600 + m * 60);

    if (sign == '-') {
        *offset = -*offset;
    }

    return true;
}
