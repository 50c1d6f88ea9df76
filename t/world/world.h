/*
 * Copyright (C) nginx-ims contributors
 *
 * The world test (POOL.md 8): everything between a user's browser and the
 * registrar, in one program and in virtual time.
 *
 * Real are: the pool's writer, in a process of its own that is killed; its
 * environment and its reader; tokens; the register rules (reg/); SIP parser
 * and editor; flow table, flow tokens, transaction records.  Modelled are: the
 * daemon around the writer, ims_identity, what nginx drives (sessions, timers,
 * links: the edge), networks, registrar, users.
 *
 * A run is a list of actions (action k: at a time and with random numbers that
 * depend on seed and k alone) and what follows from them.  Each event has its
 * own random numbers, derived from its cause, so that leaving out an action
 * leaves the others as they were: a failing run shrinks to the few actions
 * that matter (world_shrink.c).
 *
 *   world_main.c      command line
 *   world_run.c       events, time, configuration, life and end of a run
 *   world_action.c    what is done to this world
 *   world_pm.c        the pool manager's process
 *   world_site.c      the daemon's batches, ims_identity
 *   world_user.c      browsers
 *   world_edge.c      workers, sessions, flows      (ngx_http_ims_flow.c, ...)
 *   world_register.c  REGISTER                      (ngx_http_ims_register*.c)
 *   world_sweeper.c   the edge's de-REGISTER        (ngx_http_ims_sweeper.c)
 *   world_link.c      records and core links   (.._transaction.c, .._link*)
 *   world_purge.c     the edge's part of a purge
 *   world_core.c      network and registrar
 *   world_check.c     what must hold, and the ghosts that know it
 *   world_mutant.c    rules broken on purpose
 *
 * Times: *_us true time of the run, us from its start; *_ms CLOCK_BOOTTIME of
 * the host; *_pt pool time, ms.
 */

#ifndef _WORLD_H_INCLUDED_
#define _WORLD_H_INCLUDED_


#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/ims_str.h"
#include "flow/ims_flow_table.h"
#include "flow/ims_flow_token.h"
#include "flow/ims_trans.h"
#include "ims_pool_int.h"
#include "ims_pool_writer.h"
#include "reg/ims_register.h"
#include "sip/ims_sip.h"
#include "sip/ims_sip_edit.h"
#include "token/ims_token.h"


#define WORLD_WORKERS    4
#define WORLD_USERS      16
#define WORLD_DEVICES    20
#define WORLD_IDENTS     8
#define WORLD_IMPUS      3
#define WORLD_PEERS      2
#define WORLD_BINDINGS   64         /* of one identity */
#define WORLD_TEXT       4096       /* a SIP message */
#define WORLD_SLOTS      256        /* of the flow table */
#define WORLD_POOL       "web"
#define WORLD_HOME       "ims.example"
#define WORLD_REALM      "site"

#define NOBODY           UINT32_MAX

#define MS               1000ull    /* in us */
#define SEC              1000000ull


/* -- what may happen in a run; all but shrunk ones have most of it ------- */

#define WORLD_F_PM_KILL      0x00001    /* the pool manager is killed */
#define WORLD_F_WORKER_KILL  0x00002
#define WORLD_F_HOST_CRASH   0x00004
#define WORLD_F_RESTORE      0x00008    /* an old environment comes back */
#define WORLD_F_STALL        0x00010    /* processes do not run for a while */
#define WORLD_F_WALL         0x00020    /* wall clock jumps */
#define WORLD_F_REVOKE       0x00040
#define WORLD_F_FENCE        0x00080
#define WORLD_F_ALTER        0x00100    /* ttl, D, margin are changed */
#define WORLD_F_LINK         0x00200    /* core links stall and break */
#define WORLD_F_LOSS         0x00400
#define WORLD_F_DUP          0x00800
#define WORLD_F_KIOSK        0x01000    /* users share browsers */
#define WORLD_F_BARE         0x02000    /* clients without instance-id */
#define WORLD_F_OLD_TOKEN    0x04000    /* old and strangers' tokens */
#define WORLD_F_TORN         0x08000    /* killed in a write of the table */
#define WORLD_F_SWAP         0x10000    /* the daemon's answers are swapped */
#define WORLD_F_FOREIGN      0x20000    /* P-Associated-URI of another */
#define WORLD_F_ALL          0x3ffff


typedef struct world_s     world_t;
typedef struct event_s     event_t;
typedef struct session_s   session_t;
typedef struct worker_s    worker_t;
typedef struct device_s    device_t;
typedef struct glease_s    glease_t;
typedef struct pm_s        pm_t;

typedef void (*event_pt)(world_t *w, event_t *e);


/* -- mutants ------------------------------------------------------------- */

/*
 * name and the rule that is broken.  MU(NONE) first.
 */
#define WORLD_MUTANTS(MU)                                                     \
    MU(NONE, "none")                                                          \
    /* the pool manager */                                                    \
    MU(REST_WITHOUT_D, "rest = promised, without D")                          \
    MU(REST_FROM_END, "release and revocation lower promised and rest")       \
    MU(RENEW_NO_PROMISE, "a renewal does not raise promised and rest")        \
    MU(RENEWALS_DROPPED, "renewals go before they are in the records")        \
    MU(RENEWALS_FORGOTTEN, "renewals are not read at a start")                \
    MU(TOLD_EARLY, "answers are told before the commit")                      \
    MU(NO_HOLD, "no hold after lost commits")                                 \
    MU(NO_INCARNATION_FENCE, "no fence after lost commits")                   \
    MU(REPLAY_NO_LIVE, "a replay forgets who was live at the last commit")    \
    MU(REPLAY_NO_LINES, "a replay forgets whom the log names")                \
    MU(REPLAY_RETURN, "the last holder returns to what a replay holds")       \
    MU(PURGE_WITHOUT_D, "a purge before D is over")                           \
    MU(NO_FEED_ROW, "no feed row for a release or revocation")                \
    /* ims_identity */                                                        \
    MU(NO_NONCE, "an answer is taken for another's")                          \
    /* E a, b */                                                              \
    MU(NO_LOOK, "no look at the lease before a REGISTER goes on")             \
    MU(NO_CUT, "x is not cut to the lease's end")                             \
    MU(NO_CORE_MIN, "core_min is not minded")                                 \
    MU(NO_LEASE_ID, "the lease id is not compared")                           \
    MU(NO_HOLDER, "the holder is not compared")                               \
    MU(NO_SESSION, "the session is not compared")                             \
    MU(NO_SESSION_END, "the lease's end is taken for the session's")          \
    MU(NO_FENCE, "the pool's fence is not compared")                          \
    MU(NO_END, "a lease's end is not compared")                               \
    MU(WALL_CLOCK, "the wall clock instead of pool time")                     \
    /* c */                                                                   \
    MU(LATE_WRITE, "a first write later than 2 s")                            \
    MU(RESEND_ANY_TIME, "the same bytes again at any time")                   \
    MU(RETRY_WITHOUT_LOOK, "another peer without a new look")                 \
    MU(OTHERS_ANY_D, "requests but REGISTER are sent again for 32 s, as by D") \
    MU(DELAY_OF_POOL, "the pool's D where the lease was given with less")     \
    /* d */                                                                   \
    MU(NO_SECOND_LOOK, "no look at a 2xx")                                    \
    MU(TELL_GRANTED, "the client is told more than its room")                 \
    MU(NO_FOREIGN, "P-Associated-URI of another identity is taken")           \
    /* e */                                                                   \
    MU(NO_FEED, "the feed is not read")                                       \
    MU(NO_FLOW_END, "a flow's end is not compared")                           \
    MU(NO_GENERATION, "a slot's generation is not compared")                  \
    MU(NO_EPOCH, "a fenced pool's flows are not looked at in time")           \
    /* f, g */                                                                \
    MU(NO_CLOSE, "an ended flow stays open")                                  \
    MU(PURGE_UNPROVEN, "a purge is told of without its 200")                  \
    MU(DEREG_NO_LOOK, "de-REGISTER without the look")                         \
    MU(DEREG_LAST_D, "de-REGISTER in the last D of the rest")                 \
    MU(DEREG_INSTANCE, "the instance in the edge's de-REGISTER")              \
    MU(ANSWER_ENTERS, "an answer makes its flow the newest of its device")    \
    MU(DEREG_NEWER, "de-REGISTER of a contact that a newer flow has")         \
    MU(LEAVING_ANY_TIME, "de-REGISTER without a token at any time")

typedef enum {
#define MU(id, text)  MU_ ## id,
    WORLD_MUTANTS(MU)
#undef MU
    MU_COUNT
} mutant_e;

/* the one of this process; the wrapped calls look at it */
extern mutant_e  world_mutant;

const char *world_mutant_name(mutant_e m);
const char *world_mutant_text(mutant_e m);
bool world_mutant_find(const char *name, mutant_e *m);


/* -- configuration of a run ---------------------------------------------- */

typedef struct {
    uint64_t  seed;
    uint64_t  steps;                /* events, timers not counted */
    unsigned  features;
    unsigned  workers;
    unsigned  users;
    unsigned  devices;
    unsigned  idents;

    uint64_t  delay_us;             /* D as it truly is */
    uint64_t  ttl;                  /* ms, of the pool at first; likewise */
    uint64_t  margin;
    uint64_t  delay;
    uint32_t  core_min;             /* s */
    uint64_t  grace;                /* ms */
    uint64_t  gap_us;               /* mean time between two actions */
    bool      purge;
    bool      replay;               /* there is a log, and it ends holds */
    unsigned  trouble;              /* of 100 actions, so many are such */
    unsigned  links;                /* and so many break a link */
    bool      stalls;               /* for longer than an identity rests */
    bool      script;               /* user_script(), no chance */

    uint32_t  reg_min;              /* s; the registrar's */
    uint32_t  reg_max;
    bool      reg_raises;           /* else 423 */
    bool      reg_instance;         /* matches by instance */
    bool      reg_cseq;             /* minds CSeq of a Call-ID */
    unsigned  reg_under;            /* tells so many percent of it */

    bool      strict;               /* all checks, or POOL.md 8's five alone */
    bool      trace;
    bool      quiet;
    const uint8_t  *mask;           /* a bit an action: left out */
    uint64_t        nmask;          /* actions that it covers; none beyond */
    uint64_t        until_us;       /* end of a run with a mask */
} config_t;

/* The configuration that a seed draws. */
void world_config(config_t *c, uint64_t seed);

/* What a mutant needs to show, where that is rare in any world. */
void world_mutant_config(config_t *c);


/* -- events -------------------------------------------------------------- */

struct event_s {
    uint64_t   at_us;
    uint64_t   order;               /* among those of one time */
    uint64_t   seed;
    event_pt   fn;
    worker_t  *worker;              /* runs in it, or not at all */
    uint32_t   life;                /* of that worker */
    unsigned   timer:1;             /* after messages; no step */
    uint64_t   a;
    uint64_t   b;
    void      *p;                   /* one block of malloc(), freed after fn */
};


/* -- ghosts: what truly is, as no part of the system knows it ------------ */

typedef struct {
    uint64_t  sid;
    uint64_t  end_us;               /* latest told */
    uint64_t  promised_us;          /* the same; no release lowers it */
    bool      out;                  /* released, or replaced by a fifth */
} gsession_t;

struct glease_s {
    glease_t    *next;
    uint64_t     ident;
    uint64_t     lease;
    uint32_t     epoch;             /* a restore begins another */
    uint32_t     user;
    unsigned     index;             /* of the identity */
    uint64_t     end_us;            /* as promised */
    uint64_t     over_us;           /* 0: not ended early */
    unsigned     nsession;
    gsession_t   session[16];       /* latest ones */
};


typedef struct {
    bool       used;
    char       contact[128];
    char       instance[64];
    char       path[64];            /* flow token */
    char       call_id[48];
    uint32_t   cseq;
    unsigned   impu;
    uint64_t   until_us;
    uint64_t   lease_us;            /* when it was made */
    glease_t  *gl;
} binding_t;


typedef struct {
    uint64_t   ident;
    char       impi[64];
    unsigned   nimpu;
    char       impu[WORLD_IMPUS][64];   /* canonical */

    glease_t  *now;                 /* the latest one */

    /* the latest moment until which each user's bindings may live */
    uint64_t   rest_us[WORLD_USERS];
    uint64_t   promised_us;         /* the latest of all its leases */
    uint64_t   latest_us;           /* no record of it rests for longer */

    binding_t  binding[WORLD_BINDINGS];
} identity_t;


/* -- the pool manager ---------------------------------------------------- */

typedef enum {
    PM_ACQUIRE = 0,
    PM_RENEW,
    PM_RELEASE,
    PM_REPORT,
    PM_REVOKE_LEASE,
    PM_REVOKE_IMPU,
    PM_REVOKE_USER,
    PM_REVOKE_POOL,
    PM_DISABLE,
    PM_ENABLE,
    PM_ALTER,
    PM_PURGE_NEXT,
    PM_PURGED,
    PM_TICK,
    PM_REPLAY
} pm_op_e;

#define PM_BATCH  32
#define PM_LOG    16384

/* a line of the history log */
typedef struct {
    uint64_t              ident;    /* 0: a start */
    uint64_t              lease;
    ims_pool_log_start_t  start;
} pm_line_t;

typedef struct {
    pm_op_e   op;
    uint32_t  user;
    uint64_t  sid;
    uint64_t  ident;
    uint64_t  lease;
    uint64_t  a, b, c;              /* ttl, D, margin; flow, until; bar, now */
    char      text[64];             /* an IMPU or IMPI */

    /* what came of it */
    int       rc;
    int       how;
    uint32_t  retry_s;
    uint64_t  r_ident;
    uint64_t  r_lease;
    uint64_t  now;
    uint64_t  end;
    uint64_t  rest;
    bool      ended;
    bool      late;                 /* past its deadline: not executed */
    uint8_t   holder[IMS_POOL_HOLDER_LEN];
    char      impi[64];
    unsigned  nimpu;
    char      impu[WORLD_IMPUS][64];

    /* who waits for it */
    worker_t *worker;
    uint32_t  life;
    uint32_t  conn;                 /* of that worker's client */
    uint64_t  call;
    uint64_t  nonce;
    uint64_t  deadline_ms;
} pm_cmd_t;

/* where the process is killed */
typedef enum {
    PM_KILL_NOT = 0,
    PM_KILL_BEFORE,                 /* the commit */
    PM_KILL_CALL,                   /* in the at-th system call of it */
    PM_KILL_CALL_HALF,
    PM_KILL_AFTER
} pm_kill_e;

/* shared with the process */
struct pm_s {
    uint64_t            boottime;   /* the clock of all */
    uint64_t            wall;
    uint8_t             boot_id[16];
    uint64_t            random;

    mutant_e            mutant;
    uint64_t            delay;      /* of the pool, for mutants */
    bool                commits_lost;

    int                 rc;         /* of a start, of a commit */
    ims_pool_started_t  started;
    char                err[256];
    uint64_t            faults;     /* of a check */
    unsigned            first_fault;
    uint64_t            first_ident;

    config_t            config;     /* for the first start */
    uint64_t            first[WORLD_IDENTS];        /* idents made */

    pm_line_t           log[PM_LOG];    /* on the disk, as it were */
    unsigned            nlog;

    pm_kill_e           kill;
    unsigned            kill_at;
    unsigned            done;       /* commands done in this batch */
    unsigned            n;
    pm_cmd_t            cmd[PM_BATCH];
};

/* world_pm.c */
bool pm_share(world_t *w);
void pm_unshare(world_t *w);
/* a new process; false: it did not start, w->pm->rc and err say why */
bool pm_start(world_t *w);
void pm_kill(world_t *w);
/* one batch of w->pm->cmd: false if the process died in it */
bool pm_batch(world_t *w);
/* ims_pool_check_*(): faults in w->pm->faults */
bool pm_check(world_t *w);


/* -- site, users --------------------------------------------------------- */

typedef struct {
    bool       there;
    size_t     n;
    char       text[1536];
    glease_t  *gl;
    uint64_t   sid;
    uint64_t   ident;
    uint64_t   lease;
} token_t;

struct device_s {
    unsigned   index;
    bool       kiosk;
    uint32_t   user;
    uint64_t   sid;                 /* the cookie's; 0: none yet */
    token_t    token;
    token_t    old[3];
    uint64_t   ends_us;             /* as the page thinks */
    char       impu[WORLD_IMPUS][64];
    unsigned   nimpu;
    char       contact[128];
    char       instance[64];        /* empty: none */
    bool       asking;              /* a POST is under way */
    uint64_t   conn;                /* WebSocket; 0: none */
    unsigned   impu_at;             /* to register next */
    bool       registered;
    uint64_t   refresh_us;
    uint64_t   wait_us;             /* not before */
    uint32_t   cseq;
    uint32_t   nid;
    uint32_t   branch;
};


/* one WebSocket, seen from both ends */
typedef struct {
    uint64_t   id;
    unsigned   device;
    worker_t  *worker;
    uint32_t   life;
    uint64_t   up_us;               /* arrival of the last byte, to the edge */
    uint64_t   down_us;
    bool       client_open;
    bool       edge_open;
    session_t *session;
} conn_t;

/* results of the daemon itself */
#define SITE_LATE    (-1000)
#define SITE_AWAY    (-1001)

#define WORLD_CONNS  256            /* at the same time */


/* -- the edge ------------------------------------------------------------ */

typedef struct out_s  out_t;

struct out_s {
    out_t     *next;
    uint64_t   deadline_ms;
    void      *cmsg;                /* cmsg_t */
};

typedef struct {
    uint32_t   serial;
    uint64_t   stalled_us;          /* takes nothing until then */
    uint64_t   down_us;             /* cannot be connected until then */
    bool       trying;
    uint64_t   tried_us;
    out_t     *out;
} link_t;

struct worker_s {
    unsigned              index;
    bool                  alive;
    uint32_t              life;     /* raised by each start */
    uint64_t              id;
    uint64_t              stalled_us;
    uint64_t              ran_us;   /* out of a stall since */
    ims_flow_worker_t     me;
    ims_flow_sweep_t      sweep;
    ims_pool_reader_t    *reader;
    ims_trans_pool_t     *trans;
    session_t            *sessions;
    session_t            *slices;   /* to be looked at anew */
    uint32_t              serial;
    uint32_t              epoch;
    uint32_t              core_min;
    unsigned              nderegister;
    struct {
        uint64_t  id;               /* 0: none */
        uint64_t  answer_by;        /* ms */
        unsigned  left;             /* a bit an IMPU */
    }                     purge[8];
    struct tdata_s       *records;
    uint64_t              trans_ms; /* the timer that is set; 0: none */
    link_t                link[WORLD_PEERS];

    /* the client of the pool manager */
    uint32_t              conn;
    struct {
        bool      used;
        uint64_t  call;
        uint64_t  nonce;
        uint64_t  asked_ms;
        uint64_t  deadline_ms;
        unsigned  device;
        uint32_t  user;
        uint64_t  sid;
        pm_op_e   op;
    }                     call[16];
    uint64_t              calls;
};

struct session_s {
    session_t        *next;
    worker_t         *worker;
    conn_t           *conn;
    uint32_t          serial;

    uint32_t          slot;
    uint32_t          generation;
    uint64_t          owner;

    uint64_t          ident;
    uint64_t          lease;
    uint64_t          sid;
    uint64_t          end;
    uint8_t           holder[IMS_POOL_HOLDER_LEN];
    uint32_t          epoch;

    ims_reg_grant_t  *grant;
    glease_t         *grant_gl;     /* ghosts of grant and lease */
    glease_t         *gl;

    uint64_t          until;        /* registered until, PT */
    uint64_t          delay;        /* D, ms */
    uint64_t          opened_ms;
    uint64_t          timer;        /* counts; the latest is the valid one */

    unsigned          registered:1;
    unsigned          registering:1;
    unsigned          closing:1;
    unsigned          detached:1;
    unsigned          flow_over:1;
};

#define NO_SLOT  UINT32_MAX

/* procedures of a record */
#define TRANS_REGISTER    1
#define TRANS_DEREGISTER  2
#define TRANS_OTHER       3

typedef struct tdata_s  tdata_t;

struct tdata_s {
    tdata_t     *next;              /* of the worker's */
    tdata_t     *prev;
    ims_trans_t *trans;
    unsigned   procedure;
    unsigned   peer;
    uint64_t   claim;
    uint64_t   sid;
    uint64_t   looked_ms;
    uint64_t   looked_pt;
    uint64_t   end_ms;
    uint64_t   delay;
    uint64_t   first_write_ms;
    unsigned   tries;
    uint32_t   serial;
    uint32_t   expires;
    uint32_t   core_min;
    uint32_t   reg_id;
    uint16_t   instance_len;
    uint16_t   contact_len;
    uint16_t   aor_len;
    unsigned   pending:1;
    unsigned   resent:1;
    glease_t  *gl;
    uint8_t    text[];              /* instance, contact, aor */
};

/* a message on a core link */
typedef struct {
    unsigned   peer;
    worker_t  *worker;
    uint32_t   life;
    uint32_t   serial;              /* of the link */
    bool       request;
    bool       own;                 /* the edge's own de-REGISTER */
    bool       other;               /* a client's, but no REGISTER */
    uint64_t   purge;               /* of that number */
    uint64_t   looked_us;
    uint64_t   looked_pt;
    uint64_t   delay;               /* D, as the edge knew it; ms */
    uint64_t   sid;
    glease_t  *gl;
    size_t     n;
    uint8_t    text[];
} cmsg_t;

/* a request of the core's: its Route, and whom it is for */
typedef struct {
    char       token[64];
    unsigned   index;               /* of the identity */
    unsigned   hop;
} tmsg_t;

/* a message on a WebSocket */
typedef struct {
    uint64_t   conn;
    glease_t  *gl;                  /* of the token shown */
    size_t     n;
    uint8_t    text[];
} wmsg_t;


/* -- the world ----------------------------------------------------------- */

struct world_s {
    config_t            config;
    uint64_t            now_us;
    uint64_t            boot_us;    /* when the host was started */
    int64_t             wall_ms;    /* wall clock less true time */
    bool                host_up;
    uint64_t            rng;        /* of the present event */

    event_t           **heap;
    unsigned            nheap;
    unsigned            maxheap;
    uint64_t            order;
    uint64_t            actions;    /* begun */
    uint64_t            steps;
    bool                draining;

    char                base[64];
    char                dir[96];
    char                state[96];  /* of the edge: flow table */

    pm_t               *pm;
    int                 pm_fd;
    int                 pm_pid;     /* 0: it does not run */
    bool                pm_lost;    /* its next start is told of a loss */
    bool                pm_fences;  /* its next start must fence */
    uint64_t            pm_stalled_us;
    bool                pm_turn;
    unsigned            pm_nqueue;
    pm_cmd_t            pm_queue[PM_BATCH * 4];
    uint64_t            pm_backup;  /* incarnation of the copy; 0: none */
    unsigned            pm_nmaybe;  /* of the batch in which it died */
    pm_cmd_t            pm_maybe[PM_BATCH];
    uint64_t            pool_ttl;
    uint64_t            pool_delay;
    uint64_t            pool_margin;
    uint64_t            backup_pool[3];     /* the same, of the copy */

    ims_pool_clock_t    clock;
    ims_pool_reader_t  *base_reader;    /* the process's environment */
    ims_pool_reader_t  *truth;          /* the checks' own */

    ims_flow_table_t    flows;
    bool                flows_open;
    ims_flow_keys_t     keys;
    ims_token_key_t    *sign;
    ims_token_issuer_t  issuer;
    const ims_token_issuer_t  *issuers[1];

    worker_t            worker[WORLD_WORKERS];
    device_t            device[WORLD_DEVICES];
    conn_t              conn[WORLD_CONNS];
    uint64_t            conns;
    identity_t          identity[WORLD_IDENTS];
    glease_t           *leases;
    uint32_t            epoch;
    uint64_t            last_lease;     /* of this epoch */
    int64_t             pt_ms;          /* true time less pool time */
    glease_t           *slot_gl[WORLD_SLOTS];
    uint32_t            slot_gen[WORLD_SLOTS];
    uint64_t            slot_us[WORLD_SLOTS];   /* its latest REGISTER */

    /* one process, one thread: shared by all workers */
    ims_pool_look_t     look;
    ims_pool_names_t    names;
    ims_flow_data_t     data;
    ims_flow_view_t     view;
    ims_sip_msg_t       sip;
    ims_sip_msg_t       sip2;
    ims_sip_edit_t      edit;
    uint8_t             scratch[16384];
    uint8_t             message[WORLD_TEXT];
    uint8_t             input[WORLD_TEXT];

    bool                failed;
    char                what[32];       /* the check */
    char                why[512];
    uint64_t            count[64];
};

/* what happened how often, so that a run that tests nothing is seen */
#define WORLD_COUNTS(CN)                                                      \
    CN(acquired) CN(returned) CN(renewed) CN(exhausted) CN(held)              \
    CN(released) CN(revoked) CN(fenced) CN(handed_on)                         \
    CN(registers) CN(forwarded) CN(written) CN(bound) CN(refreshed)           \
    CN(raised) CN(answered_423) CN(too_short) CN(no_lease) CN(no_token)       \
    CN(second_look) CN(took_over) CN(busy_claim) CN(ended_flows)              \
    CN(late_drop) CN(resent) CN(retried) CN(silence)                          \
    CN(deregistered) CN(dereg_removed) CN(dereg_not_ours) CN(unregistered)    \
    CN(stars) CN(terminating) CN(delivered) CN(refused_430) CN(originated)    \
    CN(originated_403) CN(pm_kills) CN(pm_mid_commit) CN(worker_kills)        \
    CN(host_crashes) CN(restores) CN(stalls) CN(wall_jumps) CN(alters)        \
    CN(torn) CN(swapped) CN(foreign) CN(reports) CN(newer_flow) CN(gaps)      \
    CN(reopened) CN(mismatch) CN(lost) CN(purges) CN(purged) \
    CN(replayed) CN(unproven)

typedef enum {
#define CN(id)  C_ ## id,
    WORLD_COUNTS(CN)
#undef CN
    C_COUNT
} count_e;

_Static_assert(C_COUNT <= 64, "room for all counters");

const char *world_count_name(unsigned i);


/* -- world_run.c --------------------------------------------------------- */

uint64_t world_mix(uint64_t a, uint64_t b);
uint64_t world_rnd(world_t *w);
uint64_t world_below(world_t *w, uint64_t n);
bool world_chance(world_t *w, unsigned in);      /* one in so many */
/* a delay up to max: often none, often all of it */
uint64_t world_delay(world_t *w, uint64_t max_us);
bool world_may(const world_t *w, unsigned feature);

event_t *world_event(world_t *w, uint64_t at_us, event_pt fn);
event_t *world_timer(world_t *w, uint64_t at_us, event_pt fn);
event_t *world_worker_event(world_t *w, worker_t *k, uint64_t at_us,
    event_pt fn);
event_t *world_worker_timer(world_t *w, worker_t *k, uint64_t at_us,
    event_pt fn);

uint64_t world_boottime(const world_t *w);       /* ms */
uint64_t world_wall(const world_t *w);           /* ms */
void world_clock(world_t *w);                    /* into the shared page */

/* a run, from configuration to its end; w is the caller's, large */
void world_run(world_t *w, const config_t *c);
void world_trace(world_t *w, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#define TRACE(w, ...)                                                         \
    do { if ((w)->config.trace) world_trace(w, __VA_ARGS__); } while (0)

/* smaller: *c with a mask (to be freed) that still fails; actions left */
uint64_t world_shrink(world_t *w, config_t *c);

/* world_action.c */
void world_action(world_t *w);
void world_host_crash(world_t *w, bool restore);
void world_backup(world_t *w);
void world_pm_crashed(world_t *w);

/* world_site.c */
void site_ask(world_t *w, worker_t *k, device_t *d, pm_op_e op);
void site_admin(world_t *w, const pm_cmd_t *cmd);
void site_timer(world_t *w, worker_t *k);
void site_report(world_t *w, worker_t *k, uint64_t ident, uint64_t lease,
    uint64_t flow, uint64_t until);
void site_worker_gone(world_t *w, worker_t *k);

/* world_user.c */
void user_init(world_t *w);
void user_step(world_t *w, device_t *d);
void user_script(world_t *w);
/* the token goes to the old ones */
void user_keep(world_t *w, device_t *d);
void user_answered(world_t *w, device_t *d, int rc, uint32_t retry_s);
void user_got(world_t *w, device_t *d, const ims_sip_msg_t *m);
void user_closed(world_t *w, device_t *d, conn_t *c);
void user_disconnect(world_t *w, device_t *d);

/* world_edge.c */
bool edge_start(world_t *w, worker_t *k);
void edge_kill(world_t *w, worker_t *k, bool torn);
bool edge_open_base(world_t *w, int *rc);
void edge_close_base(world_t *w);
conn_t *edge_conn(world_t *w, uint64_t id);
conn_t *edge_connect(world_t *w, device_t *d, worker_t *k);
void edge_client_message(world_t *w, event_t *e);
void edge_client_gone(world_t *w, event_t *e);
void edge_request(world_t *w, event_t *e);
void edge_response(world_t *w, event_t *e);
void edge_registered(world_t *w, session_t *s, uint64_t until);
int edge_names(world_t *w, worker_t *k, uint64_t ident);
int edge_record(world_t *w, worker_t *k, uint64_t ident);
void edge_send(world_t *w, session_t *s, const uint8_t *p, size_t n);
void edge_reply(world_t *w, session_t *s, const ims_sip_msg_t *m,
    unsigned status, const char *reason, const char *extra);
void edge_close(world_t *w, session_t *s, const char *why);
int edge_attach(world_t *w, session_t *s, const ims_reg_grant_t *g,
    const uint8_t *instance, bool has);
session_t *edge_session(worker_t *k, uint32_t slot, uint32_t generation);
int edge_write(world_t *w, session_t *s);
int edge_enter(world_t *w, session_t *s);
void edge_lease(world_t *w, session_t *s, const ims_reg_grant_t *g,
    glease_t *gl, uint64_t end);
int edge_look(world_t *w, session_t *s);
int edge_check(world_t *w, session_t *s);
int edge_feed(world_t *w, worker_t *k);
bool edge_alive(void *arg, const ims_flow_worker_t *me);
/* pool time as this worker computes it */
uint64_t edge_pt(world_t *w, worker_t *k);

/* results of the edge's functions, as nginx has them */
#define E_OK        0
#define E_ERROR    (-1)
#define E_BUSY     (-3)
#define E_DECLINED (-5)
#define E_AGAIN    (-2)

/* world_register.c */
void reg_request(world_t *w, session_t *s, ims_sip_msg_t *m, glease_t *gl);
void reg_response(world_t *w, worker_t *k, ims_trans_t *t, ims_sip_msg_t *m);
void reg_failed(world_t *w, worker_t *k, ims_trans_t *t, unsigned status,
    const char *reason);
ims_str_t reg_text(tdata_t *d, unsigned which);

/* world_sweeper.c */
void sweeper_turn(world_t *w, worker_t *k);
void sweeper_response(world_t *w, worker_t *k, ims_trans_t *t,
    ims_sip_msg_t *m);
void sweeper_failed(world_t *w, worker_t *k, ims_trans_t *t);

/* world_link.c */
int link_send_trans(world_t *w, worker_t *k, ims_trans_t *t, uint64_t sid);
int link_send(world_t *w, worker_t *k, unsigned peer, cmsg_t *m,
    uint64_t deadline_ms);
void link_clear(worker_t *k);
void link_stall(world_t *w, worker_t *k, unsigned peer, uint64_t us);
void link_break(world_t *w, worker_t *k, unsigned peer, uint64_t down_us);
/* what the record keeps, zeroed, with room for text */
tdata_t *trans_data(worker_t *k, ims_trans_t *t, unsigned procedure,
    size_t text);
void trans_done(world_t *w, worker_t *k, ims_trans_t *t, unsigned status);
void trans_free(world_t *w, worker_t *k, ims_trans_t *t);
void trans_timer(world_t *w, worker_t *k);

/* world_purge.c */
void purge_ask(world_t *w, worker_t *k);
void purge_job(world_t *w, event_t *e);
bool purge_response(world_t *w, worker_t *k, const cmsg_t *m,
    const ims_sip_msg_t *sip);

/* world_core.c */
void core_write(world_t *w, const cmsg_t *m);
void core_call(world_t *w);
int world_ident_of(const world_t *w, ims_str_t uri, unsigned *impu);

/* world_check.c */
void world_fail(world_t *w, const char *what, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* a batch was committed, or (after a crash) may have been: true if it was */
void check_batch(world_t *w, const pm_cmd_t *cmd, unsigned n);
bool check_crash(world_t *w, const pm_cmd_t *cmd, unsigned n);
/* the host has started again, or an old environment has */
void check_reboot(world_t *w);
void check_restored(world_t *w);
glease_t *check_lease(world_t *w, uint64_t ident, uint64_t lease);
/* the lease as it is now: is it live, until when (PT) may the session be */
bool check_live(world_t *w, const glease_t *gl, uint64_t sid, uint64_t *end_pt,
    uint64_t *pt);
void check_core_write(world_t *w, const cmsg_t *m, const ims_sip_msg_t *sip);
void check_binding(world_t *w, unsigned index, const binding_t *b);
void check_unbinding(world_t *w, unsigned index, const binding_t *b,
    const cmsg_t *m, ims_str_t contact);
void check_delivery(world_t *w, const session_t *s, unsigned index);
void check_told(world_t *w, const session_t *s, uint32_t told);
void check_bound(world_t *w, const session_t *s);
void check_slot(world_t *w, uint32_t slot, glease_t *gl);
void check_sessions(world_t *w, worker_t *k);
void check_deregister(world_t *w, uint32_t slot, const ims_flow_data_t *d);
void check_end(world_t *w);


#endif /* _WORLD_H_INCLUDED_ */
