/*
 * Copyright (C) nginx-ims contributors
 *
 * ims-poolctl: what its files share.
 */

#ifndef _CTL_H_INCLUDED_
#define _CTL_H_INCLUDED_


#include <stdio.h>

#include <hiredis/hiredis.h>

#include "base/ims_str.h"
#include "ims_pool.h"


/* exit status */
#define CTL_OK         0
#define CTL_REFUSED    1        /* the daemon, or a file's contents */
#define CTL_USAGE      2
#define CTL_AWAY       3        /* the daemon cannot be reached */
#define CTL_PARTLY     4        /* done, but for some lines of a file */

#define CTL_SOCKET     "/run/ims/pool.sock"
#define CTL_REALM      "poolctl"    /* of users named without --realm */
#define CTL_TIMEOUT    60       /* s */
#define CTL_RANGES     IMS_POOL_IMPUS


/* bits of the options that a command takes */
enum {
    CTL_O_REALM   = 0x0001,
    CTL_O_SID     = 0x0002,
    CTL_O_STATE   = 0x0004,
    CTL_O_REST    = 0x0008,
    CTL_O_RANGE   = 0x0010,
    CTL_O_IMPI    = 0x0020,
    CTL_O_DISPLAY = 0x0040,
    CTL_O_POOL    = 0x0080,     /* times and realms of a pool */
    CTL_O_BAR     = 0x0100,
    CTL_O_NOW     = 0x0200,
    CTL_O_ALL     = 0x0400,
    CTL_O_IMPU    = 0x0800,
    CTL_O_HISTORY = 0x1000,     /* lease, user, times */
    CTL_O_KEEP    = 0x2000,
    CTL_O_DRY     = 0x4000,
    CTL_O_YES     = 0x8000
};

typedef struct {
    const char     *socket;
    const char     *secret_file;
    unsigned        timeout;
    bool            json;
    bool            progress;           /* standard error is a terminal */

    unsigned        given;              /* CTL_O_* */
    const char     *realm;
    const char     *sid;
    const char     *state;
    const char     *rest;
    const char     *impi;
    const char     *display;
    const char     *range[CTL_RANGES];
    unsigned        nrange;
    const char     *lease;
    const char     *user;
    const char     *at;
    const char     *from;
    const char     *to;
    const char     *impu[IMS_POOL_IMPUS];
    unsigned        nimpu;
    const char     *pool[16];           /* words for POOL CREATE and ALTER */
    unsigned        npool;

    redisContext   *redis;
    FILE           *out;
} ctl_t;

typedef struct {
    const char     *words;              /* "pool create" */
    const char     *args;               /* as the help shows them */
    unsigned        min;
    unsigned        max;
    unsigned        options;
    int           (*run)(ctl_t *ctl, unsigned argc, char **argv);
    const char     *brief;
    const char     *help;
} ctl_command_t;


/* ctl_conn.c */

/* 0, or the exit status after a message */
int ctl_connect(ctl_t *ctl);

/*
 * Sends one command and waits for its reply.  NULL: the daemon went away, a
 * message was printed, the status is CTL_AWAY.  Else to be freed.
 */
redisReply *ctl_call(ctl_t *ctl, unsigned argc, const ims_str_t *argv);
redisReply *ctl_call_z(ctl_t *ctl, unsigned argc, const char **argv);

/*
 * The same in two steps, for several commands under way: what is queued is sent
 * with the next reply that is waited for.
 */
bool ctl_queue(ctl_t *ctl, unsigned argc, const ims_str_t *argv);
redisReply *ctl_reply(ctl_t *ctl);

/* Is it an error?  Then it is printed for people, and freed. */
bool ctl_refused(ctl_t *ctl, redisReply *reply);

/*
 * One command and its reply, which is no error and is to be freed; or, after a
 * message, CTL_AWAY or CTL_REFUSED.
 */
int ctl_ask(ctl_t *ctl, unsigned argc, const char **argv, redisReply **reply);

/* ctl_admin.c: a command whose answer is names and values, to be printed. */
int ctl_pairs(ctl_t *ctl, const char **args, unsigned n);

/* "ims-poolctl: ..." to standard error */
void ctl_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));


/* ctl_out.c */

/* A flat array of names and values: as aligned lines, or as an object. */
void ctl_out_pairs(ctl_t *ctl, const redisReply *reply);

/* An array of such arrays: as a table, or as an array of objects. */
typedef struct ctl_table_s  ctl_table_t;

ctl_table_t *ctl_table_new(ctl_t *ctl, const char *const *columns);
void ctl_table_rows(ctl_table_t *t, const redisReply *rows);
bool ctl_table_empty(const ctl_table_t *t);
void ctl_table_end(ctl_table_t *t);

/* One thing done. */
void ctl_out_done(ctl_t *ctl, const char *name, const char *value,
    const char *text);
void ctl_out_number(ctl_t *ctl, const char *name, uint64_t value,
    const char *text);

void ctl_out_two(ctl_t *ctl, const char *name, uint64_t value,
    const char *name2, uint64_t value2);

/* The reply of CHECK: figures, then a kind and a place for each fault. */
void ctl_out_check(ctl_t *ctl, const redisReply *reply);

/* The text of INFO. */
void ctl_out_info(ctl_t *ctl, const redisReply *reply);


/* ctl_lease.c */
int ctl_acquire(ctl_t *ctl, unsigned argc, char **argv);
int ctl_renew(ctl_t *ctl, unsigned argc, char **argv);
int ctl_release(ctl_t *ctl, unsigned argc, char **argv);
int ctl_report(ctl_t *ctl, unsigned argc, char **argv);

/* ctl_admin.c */
int ctl_pool_create(ctl_t *ctl, unsigned argc, char **argv);
int ctl_pool_alter(ctl_t *ctl, unsigned argc, char **argv);
int ctl_pool_disable(ctl_t *ctl, unsigned argc, char **argv);
int ctl_pool_enable(ctl_t *ctl, unsigned argc, char **argv);
int ctl_pool_drop(ctl_t *ctl, unsigned argc, char **argv);
int ctl_pool_list(ctl_t *ctl, unsigned argc, char **argv);
int ctl_pool_stat(ctl_t *ctl, unsigned argc, char **argv);
int ctl_show(ctl_t *ctl, unsigned argc, char **argv);
int ctl_list(ctl_t *ctl, unsigned argc, char **argv);
int ctl_revoke(ctl_t *ctl, unsigned argc, char **argv);
int ctl_identity_add(ctl_t *ctl, unsigned argc, char **argv);
int ctl_identity_disable(ctl_t *ctl, unsigned argc, char **argv);
int ctl_identity_enable(ctl_t *ctl, unsigned argc, char **argv);
int ctl_identity_list(ctl_t *ctl, unsigned argc, char **argv);
int ctl_identity_remove(ctl_t *ctl, unsigned argc, char **argv);
int ctl_purge_next(ctl_t *ctl, unsigned argc, char **argv);
int ctl_purge_done(ctl_t *ctl, unsigned argc, char **argv);
int ctl_hold_replay(ctl_t *ctl, unsigned argc, char **argv);
int ctl_hold(ctl_t *ctl, unsigned argc, char **argv);
int ctl_key_rotate(ctl_t *ctl, unsigned argc, char **argv);
int ctl_key_list(ctl_t *ctl, unsigned argc, char **argv);
int ctl_key_drop(ctl_t *ctl, unsigned argc, char **argv);
int ctl_info(ctl_t *ctl, unsigned argc, char **argv);
int ctl_metrics(ctl_t *ctl, unsigned argc, char **argv);
int ctl_ping(ctl_t *ctl, unsigned argc, char **argv);
int ctl_check(ctl_t *ctl, unsigned argc, char **argv);

/* ctl_copy.c */
int ctl_backup(ctl_t *ctl, unsigned argc, char **argv);
int ctl_compact(ctl_t *ctl, unsigned argc, char **argv);
int ctl_restore(ctl_t *ctl, unsigned argc, char **argv);

/* ctl_history.c */
int ctl_history(ctl_t *ctl, unsigned argc, char **argv);

/* ctl_import.c */
int ctl_import(ctl_t *ctl, unsigned argc, char **argv);

/* ctl_export.c */
int ctl_export(ctl_t *ctl, unsigned argc, char **argv);


#endif /* _CTL_H_INCLUDED_ */
