/*
 * Copyright (C) nginx-ims contributors
 *
 * The daemon's connections: what is read, kept and written, and for how long.
 * What the commands do is mgr_batch.h and mgr_command.h.
 */

#ifndef _MGR_SERVER_H_INCLUDED_
#define _MGR_SERVER_H_INCLUDED_


#include <uv.h>

#include "ims_pool_resp.h"
#include "ims_pool_writer.h"
#include "mgr_gather.h"
#include "mgr_secret.h"


#define MGR_VERSION       "0.1"
#define MGR_EXIT_DISK     3             /* start it again */

#define MGR_NOISE         10            /* log lines a second of one's making */
#define MGR_OUT_MAX       (64 * 1024)   /* unread replies that stop a client */
#define MGR_STUCK_S       10            /* then it is closed */
#define MGR_NOBODY_S      60            /* a connection without a role, idle */
#define MGR_WRONGPASS     3
#define MGR_CONNECTIONS   1024
#define MGR_CONN_ADMIN    16            /* of them kept free for admins */


typedef struct mgr_conn_s     mgr_conn_t;
typedef struct mgr_server_s   mgr_server_t;
typedef struct mgr_hlog_s     mgr_hlog_t;
typedef struct mgr_metrics_s  mgr_metrics_t;
struct mgr_signal_s;

/* the import under way; no == 0: none */
typedef struct {
    uint32_t             no;
    uint64_t             owner;         /* number of the connection */
    uint64_t             rows;
} mgr_import_t;

/* the replay under way; NULL: none */
typedef struct {
    ims_pool_replay_t   *replay;
    uint64_t             owner;         /* number of the connection */
    bool                 ending;        /* one is proven, and at work */
} mgr_replay_t;

struct mgr_conn_s {
    uv_pipe_t            pipe;
    uv_write_t           write;
    mgr_server_t        *server;

    mgr_conn_t          *next;          /* all connections */
    mgr_conn_t          *prev;
    mgr_conn_t          *ready_next;    /* those with something to do */

    /* what came in; the command in work begins at in[pos] */
    uint8_t             *in;
    size_t               in_n;
    size_t               in_cap;
    size_t               pos;
    ims_resp_parser_t    parser;

    ims_resp_buf_t       out;           /* replies, not yet being written */
    ims_resp_buf_t       sending;       /* in the hands of libuv */
    ims_resp_buf_t       undone;        /* out of a batch being replayed */
    size_t               stuck_left;    /* unsent at the last tick */

    unsigned             role;
    const mgr_secret_t  *secret;        /* NULL: role by the peer's uid */
    uint64_t             number;
    uint64_t             active;        /* uv_now() of the last command */
    uint64_t             turn;          /* of the batch that it is in */
    uint64_t             served;        /* turn of the last one it was in */
    uint32_t             share;         /* of it: commands, bytes */
    uint32_t             share_bytes;
    uint16_t             stuck;         /* ticks without progress */
    uint8_t              wrongpass;

    unsigned             ready:1;       /* in the ready list */
    unsigned             waiting:1;     /* for the reply of a job */
    unsigned             held:1;        /* until the server writes again */
    unsigned             reading:1;
    unsigned             writing:1;
    unsigned             eof:1;         /* the peer has no more to say */
    unsigned             last:1;        /* close when all is written */
    unsigned             closing:1;
};

struct mgr_server_s {
    uv_loop_t           *loop;
    uv_pipe_t            listener;
    uv_check_t           check;         /* after each poll: one batch */
    uv_idle_t            idle;          /* while some are ready: no waiting */
    uv_timer_t           timer;         /* housekeeping, each second */

    ims_pool_writer_t   *pool;
    mgr_secret_t        *secrets;

    mgr_hlog_t          *hlog;          /* NULL: none */
    struct mgr_signal_s *signal;

    mgr_import_t         import;
    mgr_replay_t         replay;
    struct mgr_job_s    *jobs;
    struct mgr_job_s    *parked;        /* those that wait for something */
    struct mgr_copy_s   *copy;          /* backup and the like under way */

    mgr_conn_t          *conns;
    mgr_conn_t          *ready_head;
    mgr_conn_t         **ready_tail;
    unsigned             nready;
    mgr_gather_t         gather;
    unsigned             nconns;
    uint64_t             accepted;
    uint64_t             tick;
    uint64_t             turn;

    uint64_t             commands;      /* counters of INFO */
    uint64_t             batches;
    uint64_t             commits;
    uint64_t             replays;
    uint64_t             purged;
    uint64_t             started;       /* wall ms */
    mgr_metrics_t       *metrics;

    unsigned             space;         /* as logged last, and 1; 0: never */
    unsigned             noise;         /* lines of this second, MGR_NOISE */
    int                  exit_code;
    unsigned             stopping:1;
    unsigned             fatal:1;       /* stop after this batch */
    unsigned             housekeep:1;   /* there is more of it to do */
    unsigned             keeping:1;     /* by a job */
    unsigned             frozen:1;      /* nothing may be written now */

    uint8_t              buf[64 * 1024];    /* one read at a time */
};


/*
 * Takes over fd, a listening Unix socket, and prepares the loop; run the loop
 * after it.  Returns 0 or a libuv error.
 */
int mgr_server_start(mgr_server_t *s, uv_loop_t *loop, int fd);

/* No new commands; the loop ends when everything is closed. */
void mgr_server_stop(mgr_server_t *s, int exit_code);

/* To the end of the ready list, or to its head, if it is in neither. */
void mgr_ready(mgr_conn_t *c);
void mgr_ready_first(mgr_conn_t *c);
mgr_conn_t *mgr_ready_pop(mgr_server_t *s);

/* There is work: the next poll does not wait. */
void mgr_wake(mgr_server_t *s);

/*
 * Writes what out holds, as far as the peer takes it, and closes if the
 * connection has nothing more to do.
 */
void mgr_conn_flush(mgr_conn_t *c);

/* Forgets the commands done (in[0 .. pos)) and reads on. */
void mgr_conn_consume(mgr_conn_t *c);

/* Replies that the peer has not taken, bytes. */
size_t mgr_conn_unsent(mgr_conn_t *c);

/*
 * May one more line be logged that a client can cause at will?  What is left
 * out is counted, and told once a second.
 */
bool mgr_noise(mgr_server_t *s);

/* The limit of bytes for one command of this connection. */
size_t mgr_conn_limit(mgr_conn_t *c);

/* At once; what is not written is lost.  Safe to call twice. */
void mgr_conn_close(mgr_conn_t *c);


#endif /* _MGR_SERVER_H_INCLUDED_ */
