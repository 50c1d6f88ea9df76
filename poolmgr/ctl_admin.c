/*
 * Copyright (C) nginx-ims contributors
 *
 * ims-poolctl pool ..., show, list, revoke, info, ping, check.
 */

#include <stdlib.h>

#include "ctl.h"


#define CTL_WORDS  24


static int ctl_pool_spec(ctl_t *ctl, const char **args, unsigned n,
    const char *done);
static int ctl_done(ctl_t *ctl, const char **args, unsigned n,
    const char *done);
static int ctl_table(ctl_t *ctl, const char **args, unsigned n,
    const char *const *columns);
static int ctl_walk(ctl_t *ctl, const char **args, unsigned n, unsigned argc,
    char **argv, const char *const *columns);
static int ctl_named(ctl_t *ctl, const char *word, const char *sub,
    unsigned argc, char **argv, const char *more, const char *done);


static const char *const  ctl_pool_columns[] = {
    "name", "home", "realms", "per", "state", "ttl", "ttl_max", "d",
    "margin", "min_expires", "identities", NULL
};

static const char *const  ctl_purge_columns[] = {
    "purge", "lease", "home", "impi", "impu", "send_by", NULL
};

static const char *const  ctl_key_columns[] = {
    "key", "state", "created", NULL
};

static const char *const  ctl_identity_columns[] = {
    "impi", "impu", "display", "pool", "state", "flags", NULL
};

static const char *const  ctl_list_columns[] = {
    "impu", "state", "lease", "start", "end", "rest", NULL
};


int
ctl_pool_create(ctl_t *ctl, unsigned argc, char **argv)
{
    const char  *args[CTL_WORDS];

    (void) argc;

    args[0] = "POOL";
    args[1] = "CREATE";
    args[2] = argv[0];
    args[3] = argv[1];

    return ctl_pool_spec(ctl, args, 4, "created");
}


int
ctl_pool_alter(ctl_t *ctl, unsigned argc, char **argv)
{
    const char  *args[CTL_WORDS];

    (void) argc;

    args[0] = "POOL";
    args[1] = "ALTER";
    args[2] = argv[0];

    return ctl_pool_spec(ctl, args, 3, "altered");
}


static int
ctl_pool_spec(ctl_t *ctl, const char **args, unsigned n, const char *done)
{
    unsigned  i;

    for (i = 0; i < ctl->npool; i++) {
        args[n++] = ctl->pool[i];
    }

    return ctl_done(ctl, args, n, done);
}


static int
ctl_done(ctl_t *ctl, const char **args, unsigned n, const char *done)
{
    int          rc;
    redisReply  *reply;

    rc = ctl_ask(ctl, n, args, &reply);

    if (rc != CTL_OK) {
        return rc;
    }

    if (reply->type == REDIS_REPLY_INTEGER) {
        ctl_out_number(ctl, done, (uint64_t) reply->integer, done);

    } else {
        ctl_out_done(ctl, "result", "ok", done);
    }

    freeReplyObject(reply);

    return CTL_OK;
}


int
ctl_pairs(ctl_t *ctl, const char **args, unsigned n)
{
    int          rc;
    redisReply  *reply;

    rc = ctl_ask(ctl, n, args, &reply);

    if (rc != CTL_OK) {
        return rc;
    }

    ctl_out_pairs(ctl, reply);
    freeReplyObject(reply);

    return CTL_OK;
}


int
ctl_pool_disable(ctl_t *ctl, unsigned argc, char **argv)
{
    return ctl_named(ctl, "POOL", "DISABLE", argc, argv,
                     ctl->given & CTL_O_NOW ? "NOW" : NULL, "disabled");
}


int
ctl_pool_enable(ctl_t *ctl, unsigned argc, char **argv)
{
    return ctl_named(ctl, "POOL", "ENABLE", argc, argv, NULL, "enabled");
}


int
ctl_pool_drop(ctl_t *ctl, unsigned argc, char **argv)
{
    return ctl_named(ctl, "POOL", "DROP", argc, argv,
                     ctl->given & CTL_O_ALL ? "ALL" : NULL, "dropped");
}


/* two words, a name, and perhaps one word more */

static int
ctl_named(ctl_t *ctl, const char *word, const char *sub, unsigned argc,
    char **argv, const char *more, const char *done)
{
    const char  *args[4];

    (void) argc;

    args[0] = word;
    args[1] = sub;
    args[2] = argv[0];
    args[3] = more;

    return ctl_done(ctl, args, more ? 4 : 3, done);
}


int
ctl_identity_add(ctl_t *ctl, unsigned argc, char **argv)
{
    int          rc;
    unsigned     i, n;
    const char  *args[6 + IMS_POOL_IMPUS];
    redisReply  *reply;

    (void) argc;

    if (ctl->nimpu == 0) {
        ctl_error("--impu is needed");
        return CTL_USAGE;
    }

    n = 0;
    args[n++] = "IDENTITY";
    args[n++] = "ADD";
    args[n++] = argv[0];
    args[n++] = ctl->rest ? ctl->rest : "0";
    args[n++] = argv[1];
    args[n++] = ctl->display ? ctl->display : "";

    for (i = 0; i < ctl->nimpu; i++) {
        args[n++] = ctl->impu[i];
    }

    rc = ctl_ask(ctl, n, args, &reply);

    if (rc != CTL_OK) {
        return rc;
    }

    ctl_out_done(ctl, "ident", reply->str, "added");
    freeReplyObject(reply);

    return CTL_OK;
}


int
ctl_identity_disable(ctl_t *ctl, unsigned argc, char **argv)
{
    return ctl_named(ctl, "IDENTITY", "DISABLE", argc, argv,
                     ctl->given & CTL_O_NOW ? "NOW" : NULL, "ended");
}


int
ctl_identity_enable(ctl_t *ctl, unsigned argc, char **argv)
{
    return ctl_named(ctl, "IDENTITY", "ENABLE", argc, argv, NULL, "ended");
}


int
ctl_identity_remove(ctl_t *ctl, unsigned argc, char **argv)
{
    return ctl_named(ctl, "IDENTITY", "REMOVE", argc, argv, NULL, "ended");
}


int
ctl_pool_list(ctl_t *ctl, unsigned argc, char **argv)
{
    const char  *args[2];

    (void) argc;
    (void) argv;

    args[0] = "POOL";
    args[1] = "LIST";

    return ctl_table(ctl, args, 2, ctl_pool_columns);
}


static int
ctl_table(ctl_t *ctl, const char **args, unsigned n,
    const char *const *columns)
{
    int           rc;
    redisReply   *reply;
    ctl_table_t  *table;

    rc = ctl_ask(ctl, n, args, &reply);

    if (rc != CTL_OK) {
        return rc;
    }

    table = ctl_table_new(ctl, columns);

    if (table != NULL) {
        ctl_table_rows(table, reply);
        ctl_table_end(table);
    }

    freeReplyObject(reply);

    return CTL_OK;
}


int
ctl_pool_stat(ctl_t *ctl, unsigned argc, char **argv)
{
    const char  *args[3];

    (void) argc;

    args[0] = "POOL";
    args[1] = "STAT";
    args[2] = argv[0];

    return ctl_pairs(ctl, args, 3);
}


/* show LEASE | IMPU | IMPI, or show user POOL USER */

int
ctl_show(ctl_t *ctl, unsigned argc, char **argv)
{
    uint64_t     ident, lease;
    const char  *args[5];

    args[0] = "SHOW";

    if (argc == 3 && strcmp(argv[0], "user") == 0) {
        args[1] = "USER";
        args[2] = argv[1];
        args[3] = ctl->realm ? ctl->realm : CTL_REALM;
        args[4] = argv[2];

        return ctl_pairs(ctl, args, 5);
    }

    if (argc != 1) {
        ctl_error("show LEASE, show IMPU, show IMPI or show user POOL USER");
        return CTL_USAGE;
    }

    if (ims_pool_lease_parse(ims_str_z(argv[0]), &ident, &lease)) {
        args[1] = "LEASE";

    } else if (strchr(argv[0], ':') != NULL) {
        args[1] = "IMPU";

    } else if (strchr(argv[0], '@') != NULL) {
        args[1] = "IMPI";

    } else {
        ctl_error("\"%s\" is neither a lease nor an IMPU nor an IMPI",
                  argv[0]);
        return CTL_USAGE;
    }

    args[2] = argv[0];

    return ctl_pairs(ctl, args, 3);
}


int
ctl_list(ctl_t *ctl, unsigned argc, char **argv)
{
    const char  *args[5];

    args[0] = "LIST";

    return ctl_walk(ctl, args, 1, argc, argv, ctl_list_columns);
}


int
ctl_identity_list(ctl_t *ctl, unsigned argc, char **argv)
{
    const char  *args[6];

    args[0] = "IDENTITY";
    args[1] = "LIST";

    return ctl_walk(ctl, args, 2, argc, argv, ctl_identity_columns);
}


/* n words, then pool, state, cursor and count */

static int
ctl_walk(ctl_t *ctl, const char **args, unsigned n, unsigned argc, char **argv,
    const char *const *columns)
{
    int           rc;
    bool          more;
    char          cursor[24];
    redisReply   *reply;
    ctl_table_t  *table;

    table = ctl_table_new(ctl, columns);

    if (table == NULL) {
        ctl_error("no memory");
        return CTL_REFUSED;
    }

    args[n++] = argc ? argv[0] : "*";
    args[n++] = ctl->state ? ctl->state : "*";
    args[n++] = cursor;
    args[n++] = "500";

    memcpy(cursor, "0", 2);

    do {
        rc = ctl_ask(ctl, n, args, &reply);

        if (rc != CTL_OK) {
            break;
        }

        ctl_table_rows(table, reply->element[1]);

        snprintf(cursor, sizeof(cursor), "%s", reply->element[0]->str);
        more = strcmp(cursor, "0") != 0;

        freeReplyObject(reply);

    } while (more);

    if (rc == CTL_OK) {
        ctl_table_end(table);
    }

    return rc;
}


/* revoke lease LEASE | impu IMPU | user POOL|* USER | pool POOL */

int
ctl_revoke(ctl_t *ctl, unsigned argc, char **argv)
{
    unsigned     i, n;
    const char  *args[6];

    static const struct {
        const char  *what;
        const char  *word;
        unsigned     argc;
    } forms[] = {
        { "lease", "LEASE", 2 },
        { "impu", "IMPU", 2 },
        { "user", "USER", 3 },
        { "pool", "POOL", 2 },
        { NULL, NULL, 0 }
    };

    for (i = 0; forms[i].what != NULL; i++) {
        if (strcmp(forms[i].what, argv[0]) == 0 && forms[i].argc == argc) {
            break;
        }
    }

    if (forms[i].what == NULL) {
        ctl_error("revoke lease LEASE, revoke impu IMPU, revoke user POOL|* "
                  "USER or revoke pool POOL");
        return CTL_USAGE;
    }

    args[0] = "REVOKE";
    args[1] = forms[i].word;
    args[2] = argv[1];

    n = 3;

    if (argc == 3) {
        args[n++] = ctl->realm ? ctl->realm : CTL_REALM;
        args[n++] = argv[2];
    }

    if (ctl->given & CTL_O_BAR) {
        args[n++] = "BAR";
    }

    return ctl_done(ctl, args, n, "revoked");
}


int
ctl_purge_next(ctl_t *ctl, unsigned argc, char **argv)
{
    const char  *args[4];

    args[0] = "PURGE";
    args[1] = "NEXT";
    args[2] = argc ? argv[0] : "*";
    args[3] = "64";

    return ctl_table(ctl, args, 4, ctl_purge_columns);
}


int
ctl_purge_done(ctl_t *ctl, unsigned argc, char **argv)
{
    const char  *args[2];

    (void) argc;

    args[0] = "PURGED";
    args[1] = argv[0];

    return ctl_done(ctl, args, 2, "purged");
}


int
ctl_hold(ctl_t *ctl, unsigned argc, char **argv)
{
    const char  *args[2];

    (void) argc;

    args[0] = "HOLD";
    args[1] = argv[0];

    return ctl_done(ctl, args, 2, strcmp(argv[0], "end") == 0 ? "hold ended"
                                                              : "on hold");
}


int
ctl_key_rotate(ctl_t *ctl, unsigned argc, char **argv)
{
    const char  *args[2];

    (void) argc;
    (void) argv;

    args[0] = "KEY";
    args[1] = "ROTATE";

    return ctl_done(ctl, args, 2, "key");
}


int
ctl_key_list(ctl_t *ctl, unsigned argc, char **argv)
{
    const char  *args[2];

    (void) argc;
    (void) argv;

    args[0] = "KEY";
    args[1] = "LIST";

    return ctl_table(ctl, args, 2, ctl_key_columns);
}


int
ctl_key_drop(ctl_t *ctl, unsigned argc, char **argv)
{
    return ctl_named(ctl, "KEY", "DROP", argc, argv, NULL, "dropped");
}


int
ctl_info(ctl_t *ctl, unsigned argc, char **argv)
{
    int          rc;
    const char  *args[1];
    redisReply  *reply;

    (void) argc;
    (void) argv;

    args[0] = "INFO";

    rc = ctl_ask(ctl, 1, args, &reply);

    if (rc != CTL_OK) {
        return rc;
    }

    ctl_out_info(ctl, reply);
    freeReplyObject(reply);

    return CTL_OK;
}


int
ctl_ping(ctl_t *ctl, unsigned argc, char **argv)
{
    const char  *args[1];

    (void) argc;
    (void) argv;

    args[0] = "PING";

    return ctl_done(ctl, args, 1, "the pool manager is there");
}


int
ctl_check(ctl_t *ctl, unsigned argc, char **argv)
{
    int          rc;
    uint64_t     faults;
    const char  *args[1];
    redisReply  *reply;

    (void) argc;
    (void) argv;

    args[0] = "CHECK";

    rc = ctl_ask(ctl, 1, args, &reply);

    if (rc != CTL_OK) {
        return rc;
    }

    faults = 1;

    if (reply->type == REDIS_REPLY_ARRAY && reply->elements >= 4) {
        (void) ims_str_u64(ims_str_set(reply->element[3]->str,
                                       reply->element[3]->len),
                           UINT64_MAX, &faults);
    }

    ctl_out_check(ctl, reply);
    rc = faults ? CTL_REFUSED : CTL_OK;

    freeReplyObject(reply);

    return rc;
}
