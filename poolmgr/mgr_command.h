/*
 * Copyright (C) nginx-ims contributors
 *
 * What the commands do (doc/pool-protocol.md).  The table is in
 * mgr_command.c, the functions are in the files named below.
 *
 * A function appends exactly one reply to call->out, or sets call->job, which
 * replies later.  It decides before it writes, and does nothing outside of the
 * writer's transaction and of what the batch keeps until the commit
 * (mgr_batch_log, server->import, call->job): a batch may be thrown away and
 * its commands run again one by one.
 */

#ifndef _MGR_COMMAND_H_INCLUDED_
#define _MGR_COMMAND_H_INCLUDED_


#include "mgr_log.h"
#include "mgr_server.h"



typedef struct mgr_call_s  mgr_call_t;
typedef struct mgr_job_s   mgr_job_t;

typedef void (*mgr_command_pt)(mgr_call_t *call);

/* what a command touches */
enum {
    MGR_CMD_CONN = 0,       /* the connection alone: never run again */
    MGR_CMD_READ,           /* what is committed, whatever the batch did */
    MGR_CMD_AFTER,          /* reads, and sees all that came before it */
    MGR_CMD_WRITE
};

typedef struct {
    const char         *name;
    const char         *sub;        /* second word, or NULL */
    uint8_t             roles;      /* 0: anybody */
    uint8_t             kind;
    uint8_t             min;        /* arguments, the words included */
    uint8_t             max;
    mgr_command_pt      run;
} mgr_command_t;

struct mgr_call_s {
    mgr_server_t              *server;
    mgr_conn_t                *conn;
    const ims_resp_parser_t   *parser;
    const uint8_t             *buf;         /* the command's first byte */
    unsigned                   role;        /* when the command was read */
    const mgr_secret_t        *secret;
    ims_resp_buf_t            *out;
    mgr_job_t                 *job;
};


/*
 * The command that is meant, if this role may use it in this form; else NULL
 * after the error was written.
 */
const mgr_command_t *mgr_command_find(mgr_call_t *call);

/* Rows of the table, from 0; NULL beyond the last. */
unsigned mgr_command_number(const mgr_command_t *command);
const mgr_command_t *mgr_command_at(unsigned number);

/* Argument i as it came; the null slice if there are fewer. */
ims_str_t mgr_arg(const mgr_call_t *call, unsigned i);
unsigned mgr_args(const mgr_call_t *call);

/* Is it this word, in any case? */
bool mgr_arg_is(const mgr_call_t *call, unsigned i, const char *word);

/* "-BADARG text" */
void mgr_badarg(mgr_call_t *call, const char *text);

/* The error for a result of the writer; retry_s with EXHAUSTED and HOLD. */
void mgr_refuse(mgr_call_t *call, int rc, uint32_t retry_s);

/* Name and value of a flat reply. */
void mgr_pair(mgr_call_t *call, const char *name, ims_str_t value);
void mgr_pair_z(mgr_call_t *call, const char *name, const char *value);
void mgr_pair_u64(mgr_call_t *call, const char *name, uint64_t value);
void mgr_pair_hex(mgr_call_t *call, const char *name, uint64_t value);

/* A record's flags, and its last lease, if it ever had one. */
void mgr_pair_flags(mgr_call_t *call, unsigned flags);
void mgr_pair_lease(mgr_call_t *call, const ims_pool_rec_t *rec);


/*
 * The name of a pool by its number, in name, which has room for one; empty if
 * it is gone.
 */
const char *mgr_pool_name(mgr_server_t *s, uint32_t no, char *name);


/* mgr_lease.c: wwsf and edge */
void mgr_cmd_acquire(mgr_call_t *call);
void mgr_cmd_renew(mgr_call_t *call);
void mgr_cmd_release(mgr_call_t *call);
void mgr_cmd_report(mgr_call_t *call);

/* mgr_purge.c */
void mgr_cmd_purge_next(mgr_call_t *call);
void mgr_cmd_purged(mgr_call_t *call);
void mgr_cmd_hold(mgr_call_t *call);

/* mgr_admin.c */
void mgr_cmd_info(mgr_call_t *call);
void mgr_cmd_pool_create(mgr_call_t *call);
void mgr_cmd_pool_alter(mgr_call_t *call);
void mgr_cmd_pool_list(mgr_call_t *call);
void mgr_cmd_pool_stat(mgr_call_t *call);
void mgr_cmd_show_lease(mgr_call_t *call);
void mgr_cmd_show_impu(mgr_call_t *call);
void mgr_cmd_show_impi(mgr_call_t *call);
void mgr_cmd_show_user(mgr_call_t *call);
void mgr_cmd_revoke_lease(mgr_call_t *call);
void mgr_cmd_revoke_impu(mgr_call_t *call);
void mgr_cmd_revoke_user(mgr_call_t *call);
void mgr_cmd_revoke_pool(mgr_call_t *call);
void mgr_cmd_check(mgr_call_t *call);

/* mgr_list.c */
void mgr_cmd_list(mgr_call_t *call);
void mgr_cmd_identity_list(mgr_call_t *call);
void mgr_cmd_export(mgr_call_t *call);

/* mgr_metrics.c */
void mgr_cmd_metrics(mgr_call_t *call);

/* mgr_life.c */
void mgr_cmd_identity_add(mgr_call_t *call);
void mgr_cmd_identity_disable(mgr_call_t *call);
void mgr_cmd_identity_enable(mgr_call_t *call);
void mgr_cmd_identity_remove(mgr_call_t *call);
void mgr_cmd_pool_disable(mgr_call_t *call);
void mgr_cmd_pool_enable(mgr_call_t *call);
void mgr_cmd_pool_drop(mgr_call_t *call);

/* mgr_history.c */
void mgr_cmd_history_name(mgr_call_t *call);
void mgr_cmd_history_lease(mgr_call_t *call);
void mgr_cmd_history_user(mgr_call_t *call);

/* mgr_copy.c */
void mgr_cmd_backup(mgr_call_t *call);
void mgr_cmd_compact(mgr_call_t *call);
void mgr_cmd_restore(mgr_call_t *call);

/* mgr_key.c */
void mgr_cmd_key_rotate(mgr_call_t *call);
void mgr_cmd_key_list(mgr_call_t *call);
void mgr_cmd_key_drop(mgr_call_t *call);

/* mgr_import.c */
void mgr_cmd_import_look(mgr_call_t *call);
void mgr_cmd_import_begin(mgr_call_t *call);
void mgr_cmd_import_rows(mgr_call_t *call);
void mgr_cmd_import_end(mgr_call_t *call);
void mgr_cmd_import_abort(mgr_call_t *call);

/* mgr_replay.c */
void mgr_cmd_replay_begin(mgr_call_t *call);
void mgr_cmd_replay_file(mgr_call_t *call);
void mgr_cmd_replay_lines(mgr_call_t *call);
void mgr_cmd_replay_end(mgr_call_t *call);


#endif /* _MGR_COMMAND_H_INCLUDED_ */
