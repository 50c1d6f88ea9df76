/*
 * Copyright (C) nginx-ims contributors
 *
 * The table of commands, what they have in common, and those that concern the
 * connection alone.
 */

#include "mgr_command.h"
#include "mgr_metrics.h"


static void mgr_cmd_auth(mgr_call_t *call);
static void mgr_cmd_ping(mgr_call_t *call);
static void mgr_cmd_hello(mgr_call_t *call);
static void mgr_cmd_quit(mgr_call_t *call);
static void mgr_cmd_ok(mgr_call_t *call);
static void mgr_cmd_select(mgr_call_t *call);
static void mgr_cmd_empty(mgr_call_t *call);


#define WWSF   (MGR_ROLE_WWSF|MGR_ROLE_ADMIN)
#define EDGE   (MGR_ROLE_EDGE|MGR_ROLE_ADMIN)
#define ADMIN  MGR_ROLE_ADMIN
#define ANY    IMS_RESP_ARGS

static const mgr_command_t  mgr_commands[] = {

    /* name, sub, roles, kind, min, max, run */

    { "ACQUIRE", NULL, WWSF, MGR_CMD_WRITE, 7, 7, mgr_cmd_acquire },
    { "RENEW", NULL, WWSF, MGR_CMD_WRITE, 8, 8, mgr_cmd_renew },
    { "RELEASE", NULL, WWSF, MGR_CMD_WRITE, 8, 8, mgr_cmd_release },
    { "REPORT", NULL, EDGE, MGR_CMD_WRITE, 5, 5, mgr_cmd_report },
    { "PURGE", "NEXT", EDGE, MGR_CMD_WRITE, 4, 4, mgr_cmd_purge_next },
    { "PURGED", NULL, EDGE, MGR_CMD_WRITE, 2, 2, mgr_cmd_purged },

    { "PING", NULL, 0, MGR_CMD_CONN, 1, 2, mgr_cmd_ping },
    { "AUTH", NULL, 0, MGR_CMD_CONN, 2, 2, mgr_cmd_auth },
    { "QUIT", NULL, 0, MGR_CMD_CONN, 1, 1, mgr_cmd_quit },
    { "INFO", NULL, 0, MGR_CMD_READ, 1, 2, mgr_cmd_info },

    { "POOL", "CREATE", ADMIN, MGR_CMD_WRITE, 4, ANY, mgr_cmd_pool_create },
    { "POOL", "ALTER", ADMIN, MGR_CMD_WRITE, 3, ANY, mgr_cmd_pool_alter },
    { "POOL", "DISABLE", ADMIN, MGR_CMD_WRITE, 3, 4, mgr_cmd_pool_disable },
    { "POOL", "ENABLE", ADMIN, MGR_CMD_WRITE, 3, 3, mgr_cmd_pool_enable },
    { "POOL", "DROP", ADMIN, MGR_CMD_WRITE, 3, 4, mgr_cmd_pool_drop },
    { "POOL", "LIST", ADMIN, MGR_CMD_AFTER, 2, 2, mgr_cmd_pool_list },
    { "POOL", "STAT", ADMIN, MGR_CMD_AFTER, 3, 3, mgr_cmd_pool_stat },

    { "IMPORT", "LOOK", ADMIN, MGR_CMD_READ, 5, 5, mgr_cmd_import_look },
    { "IMPORT", "BEGIN", ADMIN, MGR_CMD_WRITE, 3, 5, mgr_cmd_import_begin },
    { "IMPORT", "ROWS", ADMIN, MGR_CMD_WRITE, 5, 5, mgr_cmd_import_rows },
    { "IMPORT", "END", ADMIN, MGR_CMD_WRITE, 3, 3, mgr_cmd_import_end },
    { "IMPORT", "ABORT", ADMIN, MGR_CMD_WRITE, 3, 3, mgr_cmd_import_abort },

    { "IDENTITY", "ADD", ADMIN, MGR_CMD_WRITE, 7, 6 + IMS_POOL_IMPUS,
      mgr_cmd_identity_add },
    { "IDENTITY", "DISABLE", ADMIN, MGR_CMD_WRITE, 3, 4,
      mgr_cmd_identity_disable },
    { "IDENTITY", "ENABLE", ADMIN, MGR_CMD_WRITE, 3, 3,
      mgr_cmd_identity_enable },
    { "IDENTITY", "REMOVE", ADMIN, MGR_CMD_WRITE, 3, 3,
      mgr_cmd_identity_remove },
    { "IDENTITY", "LIST", ADMIN, MGR_CMD_AFTER, 5, 6, mgr_cmd_identity_list },
    { "EXPORT", NULL, ADMIN, MGR_CMD_AFTER, 3, 4, mgr_cmd_export },

    { "SHOW", "LEASE", ADMIN, MGR_CMD_AFTER, 3, 3, mgr_cmd_show_lease },
    { "SHOW", "IMPU", ADMIN, MGR_CMD_AFTER, 3, 3, mgr_cmd_show_impu },
    { "SHOW", "IMPI", ADMIN, MGR_CMD_AFTER, 3, 3, mgr_cmd_show_impi },
    { "SHOW", "USER", ADMIN, MGR_CMD_AFTER, 5, 5, mgr_cmd_show_user },
    { "LIST", NULL, ADMIN, MGR_CMD_AFTER, 4, 5, mgr_cmd_list },

    { "REVOKE", "LEASE", ADMIN, MGR_CMD_WRITE, 3, 4, mgr_cmd_revoke_lease },
    { "REVOKE", "IMPU", ADMIN, MGR_CMD_WRITE, 3, 4, mgr_cmd_revoke_impu },
    { "REVOKE", "USER", ADMIN, MGR_CMD_WRITE, 5, 6, mgr_cmd_revoke_user },
    { "REVOKE", "POOL", ADMIN, MGR_CMD_WRITE, 3, 3, mgr_cmd_revoke_pool },

    { "HISTORY", "NAME", ADMIN, MGR_CMD_AFTER, 6, 8, mgr_cmd_history_name },
    { "HISTORY", "LEASE", ADMIN, MGR_CMD_AFTER, 3, 5, mgr_cmd_history_lease },
    { "HISTORY", "USER", ADMIN, MGR_CMD_AFTER, 7, 7, mgr_cmd_history_user },

    { "KEY", "ROTATE", ADMIN, MGR_CMD_WRITE, 2, 2, mgr_cmd_key_rotate },
    { "KEY", "LIST", ADMIN, MGR_CMD_AFTER, 2, 2, mgr_cmd_key_list },
    { "KEY", "DROP", ADMIN, MGR_CMD_AFTER, 3, 3, mgr_cmd_key_drop },

    { "HOLD", NULL, ADMIN, MGR_CMD_WRITE, 2, 2, mgr_cmd_hold },
    { "REPLAY", "BEGIN", ADMIN, MGR_CMD_AFTER, 2, 2, mgr_cmd_replay_begin },
    { "REPLAY", "FILE", ADMIN, MGR_CMD_AFTER, 4, 4, mgr_cmd_replay_file },
    { "REPLAY", "LINES", ADMIN, MGR_CMD_AFTER, 3, 3, mgr_cmd_replay_lines },
    { "REPLAY", "END", ADMIN, MGR_CMD_AFTER, 2, 2, mgr_cmd_replay_end },
    { "CHECK", NULL, ADMIN, MGR_CMD_AFTER, 1, 1, mgr_cmd_check },
    { "BACKUP", NULL, ADMIN, MGR_CMD_AFTER, 2, 2, mgr_cmd_backup },
    { "COMPACT", NULL, ADMIN, MGR_CMD_AFTER, 1, 1, mgr_cmd_compact },
    { "RESTORE", NULL, ADMIN, MGR_CMD_AFTER, 2, 2, mgr_cmd_restore },
    { "METRICS", NULL, ADMIN, MGR_CMD_AFTER, 1, 1, mgr_cmd_metrics },

    /* harmless answers for redis-cli, redis-benchmark and libraries */

    { "HELLO", NULL, 0, MGR_CMD_CONN, 1, ANY, mgr_cmd_hello },
    { "COMMAND", NULL, 0, MGR_CMD_CONN, 1, ANY, mgr_cmd_empty },
    { "CLIENT", NULL, 0, MGR_CMD_CONN, 1, ANY, mgr_cmd_ok },
    { "CONFIG", "GET", 0, MGR_CMD_CONN, 2, ANY, mgr_cmd_empty },
    { "SELECT", NULL, 0, MGR_CMD_CONN, 2, 2, mgr_cmd_select },

    { NULL, NULL, 0, 0, 0, 0, NULL }
};

/* the last row of the counters is for what was refused before it ran */
_Static_assert(sizeof(mgr_commands) / sizeof(mgr_commands[0])
               < MGR_METRICS_COMMANDS, "counters for every command");

#undef WWSF
#undef EDGE
#undef ADMIN
#undef ANY


static const struct {
    int          rc;
    const char  *line;
} mgr_errors[] = {
    { IMS_POOL_ENDED, "ENDED no live lease of this user and session" },
    { IMS_POOL_DENIED, "DENIED realm not of this pool" },
    { IMS_POOL_NOPOOL, "NOPOOL no such pool" },
    { IMS_POOL_NOTFOUND, "NOTFOUND no such thing" },
    { IMS_POOL_EXISTS, "EXISTS the name is taken" },
    { IMS_POOL_BADARG, "BADARG not acceptable" },
    { IMS_POOL_BUSY, "BUSY something is under way, try again" },
    { IMS_POOL_NOTEMPTY, "NOTEMPTY the pool has identities" },
    { IMS_POOL_NOSPACE, "NOSPACE map or disk is full" },
    { 0, NULL }
};


unsigned
mgr_command_number(const mgr_command_t *command)
{
    return (unsigned) (command - mgr_commands);
}


const mgr_command_t *
mgr_command_at(unsigned number)
{
    return number < sizeof(mgr_commands) / sizeof(mgr_commands[0]) - 1
           ? &mgr_commands[number] : NULL;
}


const mgr_command_t *
mgr_command_find(mgr_call_t *call)
{
    bool                  named;
    unsigned              n;
    const mgr_command_t  *c;

    named = false;
    n = mgr_args(call);

    for (c = mgr_commands; c->name != NULL; c++) {

        if (!mgr_arg_is(call, 0, c->name)) {
            continue;
        }

        named = true;

        if (c->sub == NULL || (n > 1 && mgr_arg_is(call, 1, c->sub))) {
            break;
        }
    }

    if (c->name == NULL) {
        ims_resp_error(call->out, named ? "ERR unknown subcommand"
                                        : "ERR unknown command");
        return NULL;
    }

    if (c->roles != 0 && call->role == MGR_ROLE_NONE) {
        ims_resp_error(call->out, "NOAUTH send AUTH first");
        return NULL;
    }

    if (c->roles != 0 && !(c->roles & call->role)) {
        ims_resp_error(call->out, "DENIED not in this role");
        return NULL;
    }

    if (n < c->min || n > c->max) {
        mgr_badarg(call, "wrong number of arguments");
        return NULL;
    }

    return c;
}


unsigned
mgr_args(const mgr_call_t *call)
{
    return call->parser->nargs;
}


ims_str_t
mgr_arg(const mgr_call_t *call, unsigned i)
{
    if (i >= call->parser->nargs) {
        return IMS_STR_NULL;
    }

    return ims_resp_arg(call->parser, call->buf, i);
}


bool
mgr_arg_is(const mgr_call_t *call, unsigned i, const char *word)
{
    return ims_str_caseeq(mgr_arg(call, i), ims_str_z(word));
}


void
mgr_badarg(mgr_call_t *call, const char *text)
{
    ims_resp_raw(call->out, "-BADARG ", 8);
    ims_resp_raw(call->out, text, strcspn(text, "\r\n"));
    ims_resp_raw(call->out, "\r\n", 2);
}


void
mgr_refuse(mgr_call_t *call, int rc, uint32_t retry_s)
{
    unsigned  i;

    if (rc == IMS_POOL_EXHAUSTED || rc == IMS_POOL_HOLD) {
        ims_resp_error_n(call->out,
                         rc == IMS_POOL_HOLD ? "HOLD" : "EXHAUSTED",
                         retry_s ? retry_s : 1);
        return;
    }

    for (i = 0; mgr_errors[i].line != NULL; i++) {
        if (mgr_errors[i].rc == rc) {
            ims_resp_error(call->out, mgr_errors[i].line);
            return;
        }
    }

    if (mgr_noise(call->server)) {
        mgr_log(MGR_LOG_ERR, "a command failed: %s", ims_pool_strerror(rc));
    }

    ims_resp_error(call->out, "INTERNAL see the log");
}


void
mgr_pair(mgr_call_t *call, const char *name, ims_str_t value)
{
    ims_resp_bulk_z(call->out, name);
    ims_resp_bulk(call->out, value);
}


void
mgr_pair_z(mgr_call_t *call, const char *name, const char *value)
{
    mgr_pair(call, name, ims_str_z(value));
}


void
mgr_pair_u64(mgr_call_t *call, const char *name, uint64_t value)
{
    ims_resp_bulk_z(call->out, name);
    ims_resp_bulk_u64(call->out, value);
}


static void
mgr_cmd_auth(mgr_call_t *call)
{
    mgr_conn_t          *c;
    const mgr_secret_t  *s;

    c = call->conn;
    s = mgr_secrets_find(call->server->secrets, mgr_arg(call, 1));

    if (s == NULL) {
        if (mgr_noise(call->server)) {
            mgr_log(MGR_LOG_WARN, "*%llu sent a wrong secret",
                    (unsigned long long) c->number);
        }

        ims_resp_error(call->out, "WRONGPASS no such secret");

        if (++c->wrongpass >= MGR_WRONGPASS) {
            c->last = 1;
        }

        return;
    }

    c->secret = s;
    c->role = s->role;

    ims_resp_simple(call->out, "OK");
}


static void
mgr_cmd_ping(mgr_call_t *call)
{
    if (mgr_args(call) == 1) {
        ims_resp_simple(call->out, "PONG");
        return;
    }

    ims_resp_bulk(call->out, mgr_arg(call, 1));
}


static void
mgr_cmd_hello(mgr_call_t *call)
{
    if (mgr_args(call) > 2) {
        mgr_badarg(call, "HELLO takes a version only");
        return;
    }

    if (mgr_args(call) == 2 && !mgr_arg_is(call, 1, "2")) {
        ims_resp_error(call->out, "NOPROTO RESP2 is spoken here");
        return;
    }

    ims_resp_array(call->out, 8);
    mgr_pair_z(call, "server", "ims-poolmgr");
    mgr_pair_z(call, "version", MGR_VERSION);
    ims_resp_bulk_z(call->out, "proto");
    ims_resp_int(call->out, 2);
    mgr_pair_z(call, "role", mgr_role_text(call->role));
}


static void
mgr_cmd_quit(mgr_call_t *call)
{
    call->conn->last = 1;
    ims_resp_simple(call->out, "OK");
}


static void
mgr_cmd_ok(mgr_call_t *call)
{
    ims_resp_simple(call->out, "OK");
}


static void
mgr_cmd_select(mgr_call_t *call)
{
    if (!mgr_arg_is(call, 1, "0")) {
        mgr_badarg(call, "there is one database, 0");
        return;
    }

    ims_resp_simple(call->out, "OK");
}


static void
mgr_cmd_empty(mgr_call_t *call)
{
    ims_resp_array(call->out, 0);
}
