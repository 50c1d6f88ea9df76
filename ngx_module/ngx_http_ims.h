
/*
 * Copyright (C) nginx-ims contributors
 *
 * What the files of ngx_http_ims_module share: configuration, the state of
 * one worker, a session (WebSocket), and the functions by which one concept
 * uses another.  The byte-level parts have headers of their own below
 * sip/, ws/, token/, reg/ and flow/, and poolmgr/ims_pool.h.
 */

#ifndef _NGX_HTTP_IMS_H_INCLUDED_
#define _NGX_HTTP_IMS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "base/ims_str.h"
#include "base/ims_clock.h"
#include "base/ims_reply.h"
#include "sip/ims_sip.h"
#include "sip/ims_sip_uri.h"
#include "sip/ims_sip_edit.h"
#include "sip/ims_sip_policy.h"
#include "ws/ims_ws.h"
#include "ws/ims_origin.h"
#include "token/ims_token.h"
#include "flow/ims_flow_table.h"
#include "flow/ims_flow_key.h"
#include "flow/ims_flow_token.h"
#include "flow/ims_flow_dgram.h"
#include "flow/ims_trans.h"
#include "reg/ims_register.h"
#include "ims_pool.h"


typedef struct ngx_http_ims_session_s  ngx_http_ims_session_t;
typedef struct ngx_http_ims_link_s     ngx_http_ims_link_t;
typedef struct ngx_http_ims_group_s    ngx_http_ims_group_t;
typedef struct ngx_http_ims_pool_s     ngx_http_ims_pool_t;
typedef struct ngx_http_ims_worker_s   ngx_http_ims_worker_t;
typedef struct ngx_http_ims_limit_s    ngx_http_ims_limit_t;
typedef struct ngx_http_ims_reg_event_s  ngx_http_ims_reg_event_t;
typedef struct ngx_http_ims_pool_client_s  ngx_http_ims_pool_client_t;


/* counters: one name, one reject reason or event; shown by ims_status */

#define NGX_HTTP_IMS_COUNTERS(X)                                              \
    /* handshake */                                                           \
    X(handshakes,               "WebSocket handshakes accepted")              \
    X(handshake_bad,            "handshakes refused: method, version, key")   \
    X(origin_missing,           "refused: no Origin")                         \
    X(origin_foreign,           "refused: Origin not on the list")            \
    X(handshake_limit,          "refused: too many WebSockets")               \
    X(handshake_token_bad,      "refused: bad token at the handshake")        \
    X(handshake_token_missing,  "refused: no token at the handshake")         \
    /* WebSocket */                                                           \
    X(ws_protocol_error,        "closed 1002: protocol error")                \
    X(ws_bad_utf8,              "closed 1007: bad UTF-8")                     \
    X(ws_too_big,               "closed 1009: message too big")               \
    X(ws_slow_reader,           "closed 1008: client does not read")          \
    X(ws_pong_timeout,          "closed: no pong")                            \
    X(ws_unregistered,          "closed 1008: never registered")              \
    /* identity (WWSF) */                                                     \
    X(identity_given,           "identities handed out")                      \
    X(identity_released,        "sessions released")                          \
    X(identity_origin,          "identity requests refused: Origin")          \
    X(identity_user,            "identity requests refused: no user")         \
    X(identity_conflict,        "identity release refused: not the holder")   \
    X(identity_exhausted,       "pool exhausted")                             \
    X(identity_hold,            "pool in a hold")                             \
    X(identity_unavailable,     "pool manager away")                          \
    X(identity_refused,         "pool manager refused")                       \
    X(identity_mismatch,        "answers of the pool manager out of step")    \
    /* REGISTER */                                                            \
    X(register_received,        "REGISTER from clients")                      \
    X(register_forwarded,       "REGISTER forwarded")                         \
    X(register_ok,              "REGISTER answered 2xx")                      \
    X(register_refused_core,    "REGISTER refused by the core")               \
    X(register_bad,             "REGISTER malformed")                         \
    X(register_no_token,        "REGISTER without token")                     \
    X(register_token_bad,       "REGISTER with a bad token")                  \
    X(register_token_expired,   "REGISTER with an expired token")             \
    X(register_identity,        "REGISTER: identity not in the token")        \
    X(register_issuer,          "REGISTER: issuer may not speak for it")      \
    X(register_origin,          "REGISTER: token is for another Origin")      \
    X(register_lease,           "REGISTER: lease not live")                   \
    X(register_other_impi,      "REGISTER for a second IMPI on a flow")       \
    X(register_short,           "REGISTER: lease ends too soon")              \
    X(register_busy,            "REGISTER while one is in flight")            \
    X(register_second_look,     "2xx refused by the second look")             \
    X(register_granted_more,    "core granted more than asked")               \
    X(register_foreign_uri,     "2xx named an identity of another holder")    \
    X(register_unknown,         "REGISTER: pool database unreadable")         \
    X(register_no_slot,         "REGISTER: flow table full")                  \
    X(deregister_sent,          "de-REGISTER sent by the edge")               \
    X(deregister_done,          "de-REGISTER of the edge answered")           \
    /* purge */                                                               \
    X(purge_begun,              "identities whose purge was begun")           \
    X(purge_done,               "identities purged")                          \
    X(purge_failed,             "purges without a proof")                     \
    X(purge_skipped,            "purges not begun")                           \
    /* registration events */                                                 \
    X(reg_event_sent,           "SUBSCRIBE to registration events sent")      \
    X(reg_event_refused,        "SUBSCRIBE refused, unanswered or not sent")  \
    X(reg_event_notify,         "NOTIFY of registration events taken")        \
    X(reg_event_unknown,        "NOTIFY refused: of no subscription of ours") \
    X(reg_event_bad,            "NOTIFY refused: not registration events")    \
    X(reg_event_old,            "NOTIFY out of order, or of an old version")  \
    X(reg_event_ended,          "NOTIFY that ended registrations of a flow")  \
    /* flows and leases */                                                    \
    X(flow_lease_ended,         "flows closed: lease ended")                  \
    X(flow_taken_over,          "flows taken over by a new connection")       \
    X(flow_lost,                "connections of registered flows lost")       \
    X(flow_no_takeover,         "flows too large for the flow table")         \
    /* messages */                                                            \
    X(sip_bad,                  "malformed SIP from clients")                 \
    X(sip_not_registered,       "requests before registration")               \
    X(sip_policy,               "requests refused by the header table")       \
    X(sip_refused,              "requests refused with 403, 416, 420, 483")   \
    X(dialog_forged,            "in-dialog requests of no dialog here")       \
    X(originating,              "requests of clients forwarded")              \
    X(terminating,              "requests of the core handed to clients")     \
    X(held,                     "in-dialog requests held for a client")       \
    X(hangup,                   "late answers hung up: nobody waited")        \
    X(trans_limit,              "requests over the transaction limit")        \
    X(response_lost,            "responses without a way back to the core")   \
    X(response_unmatched,       "responses without a record")                 \
    X(response_from_client,     "responses of clients without a record")      \
    X(core_bad,                 "malformed SIP from the core")                \
    X(core_refused,             "core connections refused by ims_core_allow") \
    X(core_tls,                 "core connections refused: TLS")              \
    X(probe_failed,             "OPTIONS to core nodes without a good answer") \
    X(core_down,                "requests answered 503: core down")           \
    X(core_timeout,             "requests answered 504: core silent")         \
    X(core_link_broken,         "core links broken")                          \
    X(core_link_full,           "messages refused: link queue full")          \
    X(core_resent,              "requests sent again on a new link")          \
    X(core_late,                "requests dropped: first write too late")     \
    /* UDP */                                                                 \
    X(udp_received,             "datagrams of the core")                      \
    X(udp_refused,              "datagrams refused by ims_core_allow")        \
    X(udp_too_big,              "datagrams above ims_max_message")            \
    X(udp_unsent,               "datagrams that could not be sent")           \
    X(udp_resent,               "messages sent again by a timer")             \
    X(udp_repeated,             "requests that the core repeated over UDP")   \
    X(udp_large,                "requests too large for UDP, sent by TCP")    \
    /* delivery between workers */                                            \
    X(deliver_sent,             "datagrams to other workers")                 \
    X(deliver_received,         "datagrams from other workers")               \
    X(deliver_bad,              "datagrams dropped: bad MAC or version")      \
    X(deliver_full,             "datagrams refused: queue full")              \
    X(deliver_dead,             "datagrams to dead workers")                  \
    X(flow_token_forged,        "requests from the core with a forged token") \
    X(flow_token_dead,          "requests from the core for a dead flow")


typedef enum {
#define X(name, text)  NGX_HTTP_IMS_C_##name,
    NGX_HTTP_IMS_COUNTERS(X)
#undef X
    NGX_HTTP_IMS_NCOUNTERS
} ngx_http_ims_counter_e;


/* an issuer of tokens: who signs, with what, for whom, from where */

typedef struct {
    ngx_str_t                     name;       /* in the configuration */
    ims_token_issuer_t            token;      /* iss, aud, alg, keys, scope */
    ims_token_key_t              *sign;       /* NULL: verification only */
    ngx_array_t                  *keys;       /* ims_token_key_t * */
    ngx_array_t                  *pools;      /* ngx_str_t */
    ngx_array_t                  *domains;    /* ngx_str_t, lower case */
    ngx_array_t                  *origins;    /* ims_origin_rule_t */
#if (NGX_PCRE)
    ngx_array_t                  *origins_re; /* ngx_regex_elt_t */
#endif
} ngx_http_ims_issuer_t;


/* the core that registers the identities of a pool */

typedef struct {
    ngx_str_t                     pool;
    ngx_array_t                   groups;     /* ngx_http_ims_group_t * */
    struct ngx_http_ims_loc_conf_s  *conf;    /* of the first that leads there */
    ngx_http_ims_issuer_t        *issuer;     /* likewise */
} ngx_http_ims_core_t;

#define NGX_HTTP_IMS_CORE_PEERS   16          /* nodes of one */


/* ims_listen */

typedef struct {
    ngx_sockaddr_t                sockaddr;
    socklen_t                     socklen;
    ngx_str_t                     addr_text;
    ngx_str_t                     advertise;  /* HOST:PORT in Via and Path */
    ngx_str_t                     transport;  /* "TCP" */
    ngx_str_t                     via_params; /* ";rport" over UDP */
    ngx_str_t                     route_params; /* ";transport=tcp;lr>" */
    unsigned                      ssl:1;
    unsigned                      udp:1;
    ngx_listening_t              *ls;
} ngx_http_ims_listen_t;


typedef struct {
    ngx_str_t                     state_dir;
    ngx_int_t                     nslots;
    ngx_int_t                     node;

    ngx_str_t                     pool_dir;
    ngx_str_t                     pool_socket;
    ngx_str_t                     wwsf_secret;      /* read by the master */
    ngx_str_t                     edge_secret;
    ngx_msec_t                    pool_timeout;     /* a command's deadline */

    ngx_array_t                  *issuers;          /* ngx_http_ims_issuer_t * */
    ngx_array_t                  *listens;          /* ngx_http_ims_listen_t;
                                                       first: for Via, Path */
    ngx_http_ims_listen_t        *udp4;             /* the same over UDP, */
    ngx_http_ims_listen_t        *udp6;             /* a family each */
    ngx_array_t                  *core_allow;       /* ngx_cidr_t */
    ngx_array_t                  *core_hosts;       /* ims_core_host */
    ngx_resolver_t               *resolver;         /* for them */
    ngx_msec_t                    resolver_timeout;
    ngx_array_t                  *groups;           /* ngx_http_ims_group_t * */
    ngx_array_t                  *passes;           /* locations with ims_pass:
                                                       ngx_http_ims_loc_conf_t * */
    ngx_flag_t                    purge;

    ngx_msec_t                    lease_check;
    ngx_msec_t                    flow_grace;
    ngx_msec_t                    core_probe;       /* 0: no OPTIONS sent */
    ngx_msec_t                    drain_time;       /* over which 1001 is spread */
    ngx_msec_t                    drain_after;      /* of a reload; 0: never */
    ngx_int_t                     worker_transactions;
    ngx_int_t                     flow_transactions;
    ngx_int_t                     worker_sessions;  /* 0: no limit */
    size_t                        max_message;
    size_t                        link_queue;       /* bytes a core link holds */

    /* TLS towards the core */
    ngx_flag_t                    core_ssl;         /* of our links */
    ngx_flag_t                    core_ssl_verify;
    ngx_uint_t                    core_ssl_protocols;
    ngx_str_t                     core_ssl_name;    /* SNI, and verified */
    ngx_str_t                     core_ssl_trusted;
    ngx_str_t                     core_ssl_certificate;
    ngx_str_t                     core_ssl_certificate_key;
    ngx_str_t                     listen_certificate;
    ngx_str_t                     listen_certificate_key;
    ngx_str_t                     listen_client;    /* CA; empty: not asked */
#if (NGX_SSL)
    ngx_ssl_t                    *core_ssl_ctx;
    ngx_ssl_t                    *listen_ssl_ctx;
#endif

    /* set by init_module in the master, inherited by fork */
    ims_flow_table_t             *flows;            /* NULL: no edge here */
    ims_flow_keys_t              *flow_keys;
    uint64_t                      master_id;        /* random, of the master */
    uint32_t                      cycle_no;         /* its configuration cycle */
    ngx_array_t                  *cores;            /* ngx_http_ims_core_t */
    uint32_t                      core_cycle;       /* they are as then, */
    uint64_t                      core_since;       /* BOOTTIME ms; 0: ever */

    ngx_shm_zone_t               *counters_zone;
    ngx_atomic_t                 *counters;         /* NGX_HTTP_IMS_NCOUNTERS
                                                       and one of _core.c */
} ngx_http_ims_main_conf_t;


typedef struct ngx_http_ims_loc_conf_s {
    /* eP-CSCF: ims_pass and what a WebSocket location takes */
    ngx_http_ims_group_t         *group;            /* NULL: no ims_pass */
    ngx_array_t                  *accept_issuers;   /* ngx_http_ims_issuer_t * */
    const ims_token_issuer_t    **token_issuers;    /* the same, for verify */
    ngx_uint_t                    ntoken_issuers;
    ngx_uint_t                    token_mode;       /* NGX_HTTP_IMS_TOKEN_* */
    ngx_str_t                     token_cookie;
    ngx_flag_t                    origin_missing_ok;
    ngx_msec_t                    ping_interval;
    ngx_msec_t                    pong_timeout;
    ngx_msec_t                    register_timeout;
    time_t                        core_min_expires;
    size_t                        send_queue;
    ngx_int_t                     address_sessions; /* 0: no limit */
    ngx_str_t                     visited_network;
    ngx_str_t                     access_network;
    ngx_flag_t                    authorization_entity;
    ngx_flag_t                    reg_event;

    /* WWSF: ims_identity */
    ngx_str_t                     identity_pool;    /* empty: no ims_identity */
    ngx_http_ims_issuer_t        *identity_issuer;
    ngx_http_complex_value_t     *identity_user;    /* NULL: anonymous */
    ngx_str_t                     identity_realm;   /* default: issuer's name */
    ngx_http_complex_value_t     *identity_ws_uri;  /* NULL: derived */
    ngx_str_t                     identity_cookie;
    ngx_str_t                     identity_path;    /* of the cookie */
    ngx_flag_t                    identity_anonymous;
    ngx_uint_t                    endpoint;         /* NGX_HTTP_IMS_IS_* */
} ngx_http_ims_loc_conf_t;

#define NGX_HTTP_IMS_TOKEN_OFF       0      /* not looked at here */
#define NGX_HTTP_IMS_TOKEN_OPTIONAL  1      /* a shown one must be good */
#define NGX_HTTP_IMS_TOKEN_REQUIRED  2

#define NGX_HTTP_IMS_IS_NOTHING      0
#define NGX_HTTP_IMS_IS_WEBSOCKET    1      /* ims_pass */
#define NGX_HTTP_IMS_IS_IDENTITY     2      /* ims_identity */
#define NGX_HTTP_IMS_IS_STATUS       3      /* ims_status */


/* request context, from preaccess to the content handler */

typedef struct {
    unsigned                      origin_judged:1;
    unsigned                      origin_present:1;
    unsigned                      token_good:1;
    ngx_str_t                     origin;           /* as sent */
    ngx_str_t                     shown;            /* ?access_token= */
    ngx_str_t                     token;            /* verified bytes */
    ngx_http_ims_issuer_t        *issuer;           /* of the token */
    ims_token_claims_t           *claims;           /* in r->pool */
} ngx_http_ims_ctx_t;


/* an address of a core peer, as the link table is keyed by it */

/* how a core is reached: slots and datagrams between workers have the number */

#define NGX_HTTP_IMS_STREAM       0      /* TCP, or TLS (ims_core_ssl) */
#define NGX_HTTP_IMS_UDP          1

typedef struct {
    ngx_sockaddr_t                sockaddr;
    socklen_t                     socklen;
    ngx_uint_t                    transport;
} ngx_http_ims_addr_t;


/* queued output of a WebSocket session or a core link */

typedef struct ngx_http_ims_out_s  ngx_http_ims_out_t;

struct ngx_http_ims_out_s {
    ngx_http_ims_out_t           *next;
    uint64_t                      deadline;  /* BOOTTIME ms of the first write */
    uint32_t                      size;
    uint32_t                      sent;
    unsigned                      always:1;  /* links: NGX_HTTP_IMS_SEND_ALWAYS */
    unsigned                      begun:1;   /* links: in a record of TLS */
    u_char                        data[];
};


/* a session: one WebSocket.  malloc'd, never points into a request. */

struct ngx_http_ims_session_s {
    ngx_connection_t             *connection;
    ngx_http_ims_main_conf_t     *main;
    ngx_http_ims_loc_conf_t      *conf;
    ngx_http_request_t           *request;          /* until it is taken over */

    ngx_queue_t                   queue;            /* worker->sessions */
    ngx_queue_t                   ident_queue;      /* worker->idents */
    ngx_queue_t                   slot_queue;       /* worker->slots */

    ngx_http_ims_limit_t         *limit;            /* of its address */
    ims_ws_t                      ws;
    uint32_t                      serial;           /* in the owner word */

    ngx_http_ims_out_t           *out;
    ngx_http_ims_out_t          **out_last;
    size_t                        out_size;

    ngx_event_t                   close_event;      /* posted */
    ngx_event_t                   lease_event;      /* when the lease ends */

    /* the slot that this connection owns; NGX_HTTP_IMS_NO_SLOT: none yet */
    uint32_t                      slot;
    uint32_t                      generation;
    uint64_t                      owner;            /* our word in it */

    /* the flow's lease (POOL.md 1 E); ident 0: none yet */
    uint64_t                      ident;
    uint64_t                      lease;
    uint64_t                      sid;
    uint64_t                      end;              /* PT, as last looked at */
    uint64_t                      until;            /* PT, registered till then */
    uint64_t                      delay;            /* D, ms, likewise */
    uint32_t                      epoch;            /* recheck_epoch then */
    u_char                        holder[IMS_POOL_HOLDER_LEN];

    ims_reg_grant_t              *grant;            /* its verified token */
    ngx_http_ims_reg_event_t     *reg_event;        /* NULL: none */

    ngx_str_t                     origin;           /* behind the struct */
    ngx_str_t                     early;            /* frames read with the
                                                       handshake, likewise */
    ngx_msec_t                    opened;
    ngx_msec_t                    last_read;

    unsigned                      secure:1;         /* wss */
    unsigned                      text:1;           /* client sends text */
    unsigned                      registered:1;
    unsigned                      registering:1;    /* one is in flight */
    unsigned                      ping_sent:1;
    unsigned                      closing:1;
    unsigned                      close_sent:1;
    unsigned                      close_received:1;
    unsigned                      peer_gone:1;      /* no more reads, writes */
    unsigned                      detached:1;       /* from its slot */
    unsigned                      no_linger:1;      /* nor for its Close */
    unsigned                      flow_over:1;      /* no grace: de-register */
    unsigned                      bad_responses:2;

    ngx_uint_t                    dialogs;          /* calls, about */
    ngx_uint_t                    close_code;
    const char                   *close_reason;
};

#define NGX_HTTP_IMS_NO_SLOT      ((uint32_t) -1)


/* what one worker process holds; exists from init_process on */

struct ngx_http_ims_worker_s {
    ngx_http_ims_main_conf_t     *main;
    ngx_cycle_t                  *cycle;
    ngx_log_t                    *log;

    ims_flow_worker_t             me;               /* id, row */
    uint64_t                      id;               /* me.id */
    uint32_t                      serial;           /* last given */

    ngx_queue_t                   sessions;
    ngx_uint_t                    nsessions;
    ngx_queue_t                  *idents;           /* buckets of sessions */
    ngx_queue_t                  *slots;            /* likewise */
    ngx_uint_t                    nbuckets;         /* a power of 2 */

    ims_trans_pool_t             *trans;
    ngx_event_t                   trans_event;      /* deadlines */
    ngx_queue_t                   pending;          /* records without answer */
    ngx_queue_t                   cancels;          /* CANCELs without one */
    ngx_uint_t                    npending;
    ngx_http_ims_pool_t          *pool;
    ngx_http_ims_pool_client_t   *wwsf;             /* made at first use */
    ngx_http_ims_pool_client_t   *edge;

    ngx_event_t                   sweep_event;
    ims_flow_sweep_t              sweep;
    ngx_uint_t                    nderegister;      /* the edge's, in flight */

    ngx_queue_t                   recheck;          /* sessions to look at */
    ngx_event_t                   recheck_event;
    uint32_t                      recheck_epoch;

    ngx_event_t                   tick_event;
    ngx_connection_t              dummy;            /* data of bare timers */

    u_char                       *buffer;           /* one read, any socket */
    size_t                        buffer_size;
    u_char                       *message;          /* an edited message */
    size_t                        message_size;
    u_char                       *scratch;          /* the editor's arena */
    size_t                        scratch_size;

    u_char                       *hop;              /* a CANCEL or ACK of ours */
    size_t                        hop_size;

    ims_sip_msg_t                 sip;              /* the message at hand */
    ims_sip_msg_t                 kept;             /* one of a record */
    ims_sip_edit_t                edit;
    ims_pool_look_t               look;
    ims_pool_names_t              names;
    ims_flow_view_t               view;
    ims_flow_data_t               data;

    ngx_uint_t                    exit_turns;       /* looks for a successor */
    ngx_msec_t                    exit_looked;      /* the last of them */
    ngx_msec_t                    exit_since;       /* told to finish */
    ngx_msec_t                    drain_end;        /* if draining */
    uint32_t                      core_min;         /* s; raised by any 423 */
    unsigned                      draining:1;       /* flows are closed */
    unsigned                      hurried:1;        /* worker_shutdown_timeout */
    unsigned                      leaving:1;        /* the last flow is gone */
};


extern ngx_module_t            ngx_http_ims_module;
extern ngx_http_ims_worker_t  *ngx_http_ims_worker;   /* NULL outside workers */


/* ngx_http_ims_module.c */

#define ngx_http_ims_count(name)                                              \
    ngx_http_ims_count_(NGX_HTTP_IMS_C_##name)

void ngx_http_ims_count_(ngx_http_ims_counter_e n);

static ngx_inline ims_str_t
ngx_http_ims_str(ngx_str_t *s)
{
    return ims_str_set(s->data, s->len);
}


/* ngx_http_ims_request.c: headers, by name and in every version of nginx */

/* the first header line of that name (lower case), and how many there are */
ngx_table_elt_t *ngx_http_ims_header_in(ngx_http_request_t *r,
    const char *name, ngx_uint_t *n);
/* add an answer's header, or replace the one that is there; name: static */
ngx_int_t ngx_http_ims_header_out(ngx_http_request_t *r, const char *name,
    ngx_str_t *value);
/* the first cookie of that name: NGX_OK or NGX_DECLINED */
ngx_int_t ngx_http_ims_cookie_in(ngx_http_request_t *r, ngx_str_t *name,
    ngx_str_t *value);
/* a peer's text for the log: printable, quotes escaped, cut; NUL behind it */
#define NGX_HTTP_IMS_LOG_TEXT  128
u_char *ngx_http_ims_log_text(u_char buf[NGX_HTTP_IMS_LOG_TEXT],
    ngx_str_t *text);


/* ngx_http_ims_issuer.c: the ims_issuer {} block */

char *ngx_http_ims_issuer_block(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
/* NULL if there is no issuer of that name */
ngx_http_ims_issuer_t *ngx_http_ims_issuer_find(ngx_http_ims_main_conf_t *imcf,
    ngx_str_t *name);
/*
 * May this issuer speak for that identity: its pools, if it has any, must
 * hold the pool, and its domains, if any, the home domain of each IMPU.
 */
ngx_int_t ngx_http_ims_issuer_may(ngx_http_ims_issuer_t *issuer,
    ims_str_t pool, const ims_str_t *impus, ngx_uint_t nimpus);
/* is that Origin value one that the issuer serves: NGX_OK or NGX_DECLINED */
ngx_int_t ngx_http_ims_issuer_serves(ngx_http_ims_issuer_t *issuer,
    ngx_str_t *origin, ngx_log_t *log);


/* ngx_http_ims_origin.c: preaccess phase */

ngx_int_t ngx_http_ims_origin_handler(ngx_http_request_t *r);
/* does one of the location's issuers serve that origin */
ngx_int_t ngx_http_ims_origin_ok(ngx_http_ims_loc_conf_t *ilcf,
    ngx_str_t *origin);


/* ngx_http_ims_access.c: access phase, the token at the handshake */

ngx_int_t ngx_http_ims_access_handler(ngx_http_request_t *r);


/* ngx_http_ims_identity.c: WWSF */

char *ngx_http_ims_identity(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_ims_identity_user(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


/*
 * ngx_http_ims_pool_client.c: RESP to the pool manager, one connection a
 * worker and role, pipelined; answers are matched by order and nonce.
 */

typedef struct ngx_http_ims_pool_call_s  ngx_http_ims_pool_call_t;

typedef enum {
    NGX_HTTP_IMS_POOL_OK = 0,
    NGX_HTTP_IMS_POOL_EXHAUSTED,    /* no identity is free */
    NGX_HTTP_IMS_POOL_HOLD,         /* nothing is given for a while */
    NGX_HTTP_IMS_POOL_ENDED,        /* not, or no longer, the holder */
    NGX_HTTP_IMS_POOL_BUSY,         /* try again: LATE, BUSY, our queue full */
    NGX_HTTP_IMS_POOL_REFUSED,      /* anything else it said */
    NGX_HTTP_IMS_POOL_AWAY,         /* no connection, or it broke */
    NGX_HTTP_IMS_POOL_TIMEOUT,      /* no answer before the deadline */
    NGX_HTTP_IMS_POOL_MISMATCH      /* the answer was another's */
} ngx_http_ims_pool_code_e;

typedef struct {
    ngx_http_ims_pool_code_e      code;
    uint64_t                      retry_after;  /* s; 0: it did not say */
    ims_str_t                     error;        /* its line, for the log */
    /* OK: names and values, checked against the nonce */
    const ims_reply_t            *reply;
    /* BOOTTIME ms: nothing in the answer was true before */
    uint64_t                      asked;
} ngx_http_ims_pool_answer_t;

/* what *answer points to is valid in the call only */
typedef void (*ngx_http_ims_pool_answer_pt)(void *data,
    const ngx_http_ims_pool_answer_t *answer);

/*
 * Sends a command of the wwsf role; nonce and deadline are put behind args
 * (at most NGX_HTTP_IMS_POOL_ARGS).  The handler is called once, never from
 * in here.  NULL: nothing was sent, *code says why.
 */
ngx_http_ims_pool_call_t *ngx_http_ims_pool_call(ngx_http_ims_worker_t *w,
    const ims_str_t *args, ngx_uint_t nargs,
    ngx_http_ims_pool_answer_pt handler, void *data,
    ngx_http_ims_pool_code_e *code);
/*
 * The same with a command of the edge role, without nonce and deadline: of the
 * answer nothing was checked, and it may be a line as well as an array.  NULL:
 * nothing was sent.
 */
ngx_http_ims_pool_call_t *ngx_http_ims_pool_edge(ngx_http_ims_worker_t *w,
    const ims_str_t *args, ngx_uint_t nargs,
    ngx_http_ims_pool_answer_pt handler, void *data);
/* the caller gives up: its handler is not called; the place in line stays */
void ngx_http_ims_pool_cancel(ngx_http_ims_pool_call_t *call);
/* pool report, lossy: a registration at the core may last until PT ms */
void ngx_http_ims_pool_report(ngx_http_ims_worker_t *w, uint64_t ident,
    uint64_t lease, uint64_t flow, uint64_t until);
/* init_process (connects to nothing) and exit_process (closes what is open) */
ngx_int_t ngx_http_ims_pool_client_init(ngx_http_ims_worker_t *w);
void ngx_http_ims_pool_client_exit(ngx_http_ims_worker_t *w);
/* for ims_status: is there a connection of the wwsf role */
ngx_uint_t ngx_http_ims_pool_client_up(ngx_http_ims_worker_t *w);

#define NGX_HTTP_IMS_POOL_ARGS  8


/* ngx_http_ims_pool.c: the reader of the pool's database, and its feed */

ngx_int_t ngx_http_ims_pool_init(ngx_http_ims_worker_t *w);
void ngx_http_ims_pool_exit(ngx_http_ims_worker_t *w);
/* the reader, or NULL while the database cannot be read (answer 503) */
ims_pool_reader_t *ngx_http_ims_pool_reader(ngx_http_ims_worker_t *w);
/*
 * Settle the flows whose leases ended early since the last call: nanoseconds
 * if nothing was committed.  NGX_ERROR: nothing is known (503).
 */
ngx_int_t ngx_http_ims_pool_feed(ngx_http_ims_worker_t *w);


/* ngx_http_ims_worker.c: the state of a worker, from start to leaving */

ngx_int_t ngx_http_ims_worker_init(ngx_http_ims_worker_t *w);
void ngx_http_ims_worker_exit(ngx_http_ims_worker_t *w);
/*
 * The sweep of idle connections at exit, or (hurry) the shutdown timer, came by
 * a connection of ours: from here on the tick holds the worker until it left.
 */
void ngx_http_ims_worker_exiting(ngx_http_ims_worker_t *w, ngx_uint_t hurry);
/* a session or a pending record ended: in an exiting worker, was it the last */
void ngx_http_ims_worker_ended(ngx_http_ims_worker_t *w);
/* random bytes for icids, Call-IDs and the like */
void ngx_http_ims_random(u_char *dst, size_t n);


/* ngx_http_ims_handshake.c: from HTTP to WebSocket */

char *ngx_http_ims_pass(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);


/* ngx_http_ims_limit.c: WebSockets a worker and an address */

/* is there no room for one more of this connection's address */
ngx_uint_t ngx_http_ims_limit_reached(ngx_connection_t *c,
    ngx_http_ims_loc_conf_t *ilcf);
/* counts one more; NULL: no memory.  Given back when the session ends. */
ngx_http_ims_limit_t *ngx_http_ims_limit_take(ngx_connection_t *c);
void ngx_http_ims_limit_give(ngx_http_ims_limit_t *limit);


/* ngx_http_ims_session.c: frames in and out, pings, close */

ngx_http_ims_session_t *ngx_http_ims_session_create(ngx_http_request_t *r,
    ngx_http_ims_ctx_t *ctx, ngx_http_ims_loc_conf_t *ilcf);
void ngx_http_ims_session_destroy(ngx_http_ims_session_t *s);
void ngx_http_ims_session_takeover(ngx_http_ims_session_t *s,
    ngx_http_request_t *r);
/*
 * Queue one SIP message as one WebSocket message and write what can be
 * written.  The bytes are copied.  NGX_ERROR: the session is being closed.
 */
ngx_int_t ngx_http_ims_session_send(ngx_http_ims_session_t *s, u_char *data,
    size_t n);
/*
 * Say goodbye (Close with the code after what is queued) and close.  Posted:
 * safe from any handler; the session is gone at a later turn of the loop.
 * code 0: close without a frame.
 */
void ngx_http_ims_session_close(ngx_http_ims_session_t *s, ngx_uint_t code,
    const char *reason);


/* ngx_http_ims_flow.c: a session and its slot */

/*
 * Gives the session a slot for this lease and device: the one it has, the one
 * that the device left behind (take-over), or a new one.  NGX_OK; NGX_BUSY: a
 * sweeper has it, try later; NGX_DECLINED: the table is full.
 */
ngx_int_t ngx_http_ims_flow_attach(ngx_http_ims_session_t *s,
    ims_reg_grant_t *grant, const u_char instance[16], ngx_uint_t has_instance);
/* the session ends: its slot is lost, due for de-registration, or free */
void ngx_http_ims_flow_detach(ngx_http_ims_session_t *s);
/* the session goes on without its slot, which another connection has now */
void ngx_http_ims_flow_taken(ngx_http_ims_session_t *s);
/* the session of a slot in this worker, or NULL */
ngx_http_ims_session_t *ngx_http_ims_flow_session(uint32_t slot,
    uint32_t generation);
/* w->data is written to the session's slot; NGX_ERROR: it is ours no more */
ngx_int_t ngx_http_ims_flow_write(ngx_http_ims_session_t *s);
/*
 * The same for a REGISTER that goes on: from now on this is the flow that its
 * lease and device are found by, or, without an instance-id, the newest of its
 * Contact.  An answer must not do that: it may be late, and the device have
 * another flow by then.
 */
ngx_int_t ngx_http_ims_flow_enter(ngx_http_ims_session_t *s);
/* the lease that the session's flow is on, from its grant and a look */
void ngx_http_ims_flow_lease(ngx_http_ims_session_t *s,
    const ims_reg_grant_t *grant, uint64_t end);
/* registered until that pool time, when it lapses by itself; 0: no more */
void ngx_http_ims_flow_registered(ngx_http_ims_session_t *s, uint64_t until);
/*
 * E of POOL.md: may a message pass now?  NGX_OK; NGX_DECLINED: the lease has
 * ended and the session is being closed; NGX_ERROR: nothing is known (503).
 */
ngx_int_t ngx_http_ims_flow_check(ngx_http_ims_session_t *s);
/* the same by a look in any case; w->look has it then */
ngx_int_t ngx_http_ims_flow_look(ngx_http_ims_session_t *s);
/* look anew at the flows of an identity, or (0) at all of this worker */
void ngx_http_ims_flow_recheck(uint64_t ident);
/* the peer that took the registration of a slot; NGX_ERROR: none is noted */
ngx_int_t ngx_http_ims_flow_peer(const ims_flow_data_t *data,
    ngx_http_ims_addr_t *addr);
/* callback for ims_flow_*() */
bool ngx_http_ims_flow_alive(void *arg, const ims_flow_worker_t *w);


/* ngx_http_ims_register.c: REGISTER of a client and its answer */

void ngx_http_ims_register(ngx_http_ims_session_t *s, ims_sip_msg_t *m);
void ngx_http_ims_register_response(ims_trans_t *t, ims_sip_msg_t *m);
/* no answer came: 503 or 504 to the client, or the next peer */
void ngx_http_ims_register_failed(ims_trans_t *t, ngx_uint_t status,
    const char *reason);


/* ngx_http_ims_sweeper.c: slots that nobody owns, the edge's de-REGISTER */

void ngx_http_ims_sweeper_init(ngx_http_ims_worker_t *w);
void ngx_http_ims_sweeper_response(ims_trans_t *t, ims_sip_msg_t *m);
void ngx_http_ims_sweeper_failed(ims_trans_t *t);


/* ngx_http_ims_core.c: which core a pool's identities are registered at */

/* init_module: from the locations; and what was remembered of them */
ngx_int_t ngx_http_ims_cores_config(ngx_cycle_t *cycle,
    ngx_http_ims_main_conf_t *imcf);
void ngx_http_ims_cores_init(ngx_http_ims_worker_t *w);
/* all its nodes; 0: there are none, or more than that */
ngx_uint_t ngx_http_ims_core_peers(ngx_http_ims_core_t *core,
    ngx_http_ims_addr_t addrs[NGX_HTTP_IMS_CORE_PEERS]);
/* once a second: does anybody have others */
void ngx_http_ims_core_watch(ngx_http_ims_worker_t *w);
/* BOOTTIME ms since when nobody has; 0: nobody ever had */
uint64_t ngx_http_ims_core_since(ngx_http_ims_worker_t *w);


/* ngx_http_ims_purge.c: identities whose leases ended early, at the core */

void ngx_http_ims_purge_init(ngx_http_ims_worker_t *w);
void ngx_http_ims_purge_exit(ngx_http_ims_worker_t *w);
/*
 * Is that the answer to one: then it is done with.  serial: of the link that
 * it came by.
 */
ngx_uint_t ngx_http_ims_purge_response(uint32_t serial,
    const ims_sip_msg_t *m);
/* the connection of that serial is of no use any more */
void ngx_http_ims_purge_broken(uint32_t serial);


/* ngx_http_ims_reg_event.c: the edge's own subscription (ims_reg_event) */

void ngx_http_ims_reg_event_registered(ngx_http_ims_session_t *s);
void ngx_http_ims_reg_event_response(ims_trans_t *t, ims_sip_msg_t *m);
void ngx_http_ims_reg_event_failed(ims_trans_t *t, ngx_uint_t status);
/* the session loses its slot */
void ngx_http_ims_reg_event_end(ngx_http_ims_session_t *s);


/* ngx_http_ims_transaction.c: records, deadlines, sending */

#define NGX_HTTP_IMS_T1           500               /* ms, RFC 3261 17 */
#define NGX_HTTP_IMS_T2           4000
#define NGX_HTTP_IMS_T4           5000

/* which procedure a record belongs to */
#define NGX_HTTP_IMS_TRANS_REGISTER    1
#define NGX_HTTP_IMS_TRANS_DEREGISTER  2
#define NGX_HTTP_IMS_TRANS_SUBSCRIBE   3      /* the edge's own */
#define NGX_HTTP_IMS_TRANS_TO_CORE     4
#define NGX_HTTP_IMS_TRANS_TO_WIC      5
#define NGX_HTTP_IMS_TRANS_HANGUP      6

/* room for the sent-by of a Via, as it is part of a record's key */
#define NGX_HTTP_IMS_SENT_BY           288

#define NGX_HTTP_IMS_FIRST_WRITE  2000      /* ms from the look (POOL.md 1 c) */

/*
 * What ims_trans_t.data points to, malloc'd: freed with the record.
 * t->request has the bytes sent, for sending them again; t->response, until
 * there is an answer, the bytes that the client sent, for another peer.
 */
typedef struct {
    ngx_queue_t                   queue;            /* worker->pending */
    ngx_queue_t                   cancel_queue;     /* worker->cancels */
    ims_trans_t                  *trans;
    ngx_uint_t                    procedure;
    ngx_http_ims_addr_t           peer;
    ngx_http_ims_loc_conf_t      *conf;             /* REGISTER */
    uint64_t                      claim;            /* de-REGISTER: our word */

    uint64_t                      looked;           /* BOOTTIME ms of the look */
    uint64_t                      end;              /* lease's end, BOOTTIME ms */
    uint64_t                      delay;            /* D, ms */
    uint64_t                      first_write;      /* BOOTTIME ms at the latest */

    ngx_uint_t                    tries;            /* peers tried */
    uint32_t                      serial;           /* of the session */
    uint32_t                      expires;          /* x */
    uint32_t                      core_min;
    uint32_t                      reg_id;
    uint32_t                      hung_up;          /* the fork with our BYE */
    uint16_t                      instance_len;     /* 0: none */
    uint16_t                      contact_len;
    uint16_t                      aor_len;
    uint16_t                      charging_len;
    uint16_t                      reason_len;
    u_char                       *reason;           /* of a CANCEL, malloc'd */
    unsigned                      pending:1;
    unsigned                      broken:1;         /* its link was lost */
    unsigned                      resent:1;
    unsigned                      cancelling:1;     /* in worker->cancels */
    unsigned                      large:1;          /* by TCP for its size */
    u_char                        text[];           /* REGISTER: instance,
                                                       Contact, canonical To;
                                                       de-REGISTER: IMPU;
                                                       SUBSCRIBE: Call-ID;
                                                       of the core: its
                                                       P-Charging-Vector behind
                                                       a ";" */
} ngx_http_ims_trans_data_t;

/*
 * ims_trans_new(), at a limit in place of a record that is only there for what
 * comes too late.
 */
ims_trans_rc_t ngx_http_ims_trans_new(const ims_trans_key_t *key,
    ims_trans_t **t);
/* t->data of a new record, with room for text; NULL: no memory */
ngx_http_ims_trans_data_t *ngx_http_ims_trans_data(ims_trans_t *t,
    ngx_uint_t procedure, size_t text);
/* the record waits for an answer: it keeps a worker that is leaving */
void ngx_http_ims_trans_pending(ims_trans_t *t);
/*
 * Send t->request to the peer of t->data by t->transport.  NGX_OK: on its way,
 * the record's deadline is set; NGX_BUSY: link full; NGX_ERROR.
 */
ngx_int_t ngx_http_ims_trans_send(ims_trans_t *t);
/* a final answer was given: the record stays for 64*T1 */
void ngx_http_ims_trans_done(ims_trans_t *t, ngx_uint_t status);
/* when what the record waits for is over; it may be sent again before */
void ngx_http_ims_trans_deadline(ims_trans_t *t, uint64_t at);
/* over UDP: what was sent goes out again until it is answered */
void ngx_http_ims_trans_repeat(ims_trans_t *t);
/* it needs not to be sent again */
void ngx_http_ims_trans_quiet(ims_trans_t *t);
/* our final response to an INVITE of the core has its ACK */
void ngx_http_ims_trans_confirmed(ims_trans_t *t);
void ngx_http_ims_trans_free(ims_trans_t *t);
ngx_int_t ngx_http_ims_trans_init(ngx_http_ims_worker_t *w);


/* ngx_http_ims_dispatch.c: a message came; whose business is it */

void ngx_http_ims_from_client(ngx_http_ims_session_t *s, u_char *data,
    size_t n);
/* a whole message read from a core link; data is writable, valid in the call */
void ngx_http_ims_from_core(ngx_http_ims_link_t *link, u_char *data, size_t n);
/* a response of the core's, whichever way it came, through so many workers */
void ngx_http_ims_core_answer(ims_sip_msg_t *m, uint32_t serial,
    ngx_uint_t hop);
/* a whole message that another worker handed to us */
void ngx_http_ims_from_worker(const ims_flow_dgram_t *head, u_char *data,
    size_t n);
/* answer a client's request; extra: header lines, each with CRLF, or NULL */
void ngx_http_ims_reply(ngx_http_ims_session_t *s, const ims_sip_msg_t *m,
    ngx_uint_t status, const char *reason, const char *extra);
/* the same into w->message; the length, or 0.  to_tag: none, a random one */
size_t ngx_http_ims_write_reply(const ims_sip_msg_t *m, ngx_uint_t status,
    const char *reason, const char *extra, ims_str_t to_tag,
    ims_str_t received, in_port_t port);
/* our Via off a response */
void ngx_http_ims_drop_via(ims_sip_edit_t *ed);
/* which ims_listen stands in Via, Path and Record-Route towards that address */
ngx_http_ims_listen_t *ngx_http_ims_advertised(ngx_http_ims_main_conf_t *imcf,
    ngx_http_ims_addr_t *hop, ngx_uint_t transport);
/* the one with "udp" that can send there, or NULL */
ngx_http_ims_listen_t *ngx_http_ims_listen_udp(ngx_http_ims_main_conf_t *imcf,
    struct sockaddr *sa);


/* ngx_http_ims_peer.c: which core takes an initial REGISTER */

/* ims_pass NAME [udp]: find or make the group of upstream NAME */
ngx_http_ims_group_t *ngx_http_ims_group_add(ngx_conf_t *cf, ngx_str_t *name,
    ngx_uint_t transport);
/* postconfiguration: refuse groups that are not plain round robin */
char *ngx_http_ims_groups_check(ngx_conf_t *cf, ngx_http_ims_main_conf_t *imcf);
/* init_process: the kept synthetic request a group */
ngx_int_t ngx_http_ims_groups_init(ngx_http_ims_worker_t *w);
/*
 * The next peer for an initial REGISTER.  NGX_OK: *addr filled; NGX_BUSY:
 * none is up.
 */
ngx_int_t ngx_http_ims_peer_choose(ngx_http_ims_group_t *group,
    ngx_http_ims_addr_t *addr);
/* tell the group how that peer did (max_fails counts failures) */
void ngx_http_ims_peer_result(ngx_http_ims_group_t *group,
    ngx_http_ims_addr_t *addr, ngx_uint_t failed);
/* their addresses, those marked "down" left out; how many, at most max */
ngx_uint_t ngx_http_ims_peer_list(ngx_http_ims_group_t *group,
    ngx_http_ims_addr_t *addrs, ngx_uint_t max);
/* how many peers, backups included: the bound of tries */
ngx_uint_t ngx_http_ims_peer_count(ngx_http_ims_group_t *group);


/* ngx_http_ims_probe.c: OPTIONS to the peers of the groups */

void ngx_http_ims_probe_init(ngx_http_ims_worker_t *w);
/* is that the answer to one: then it is done with */
ngx_uint_t ngx_http_ims_probe_response(const ims_sip_msg_t *m);


/* ngx_http_ims_link.c: connections to and from the core */

/*
 * The link for messages of that slot to that address: opened when first
 * used; always the same one for one slot while it lives, so that a CANCEL
 * never overtakes its INVITE.  Never NULL but out of memory.
 *
 * A link is not to be kept beyond the handler that asked for it: its serial
 * is.  A serial names one connection: sent is what was queued under it, and
 * when that connection breaks the link goes on under another.
 */
ngx_http_ims_link_t *ngx_http_ims_link_get(ngx_http_ims_addr_t *addr,
    uint32_t slot);
/* by serial, for the answer on the connection of the request; NULL: gone */
ngx_http_ims_link_t *ngx_http_ims_link_find(uint32_t serial);
/* an open link to or from that address (no port compared if it came in) */
ngx_http_ims_link_t *ngx_http_ims_link_open_to(ngx_http_ims_addr_t *addr);

#define NGX_HTTP_IMS_SEND_REQUEST   0   /* refused when the queue is full */
#define NGX_HTTP_IMS_SEND_ALWAYS    1   /* responses, ACK, CANCEL */
#define NGX_HTTP_IMS_SEND_SPARE     2   /* those of which there may be any
                                           number: dropped when it is full */

/*
 * Queue a message (copied).  It is dropped unwritten if its first byte cannot
 * be written before `deadline` (BOOTTIME ms; 0: none).  NGX_OK, NGX_BUSY
 * (queue full), NGX_ERROR (no memory, or the link is being closed).
 *
 * When a connection breaks, requests that still wait are dropped with it (who
 * sent them sends again, under the new serial); what was sent ALWAYS and not
 * begun goes out on the next connection of a link of ours.
 */
ngx_int_t ngx_http_ims_link_send(ngx_http_ims_link_t *link, ngx_uint_t how,
    u_char *data, size_t n, uint64_t deadline);
uint32_t ngx_http_ims_link_serial(ngx_http_ims_link_t *link);

/*
 * To that address over UDP, or (a slot's message) over a link.  *serial is the
 * link's, 0 over UDP.  What ngx_http_ims_link_send() returns.
 */
ngx_int_t ngx_http_ims_core_send(ngx_http_ims_addr_t *addr,
    ngx_uint_t transport, uint32_t slot, ngx_uint_t how, u_char *data,
    size_t n, uint64_t deadline, uint32_t *serial);
ngx_http_ims_addr_t *ngx_http_ims_link_addr(ngx_http_ims_link_t *link);

/*
 * init_process; when the last flow is gone: half-close all and read them empty
 * for 5 s; exit_process: close what is left.
 */
ngx_int_t ngx_http_ims_links_init(ngx_http_ims_worker_t *w);
void ngx_http_ims_links_leave(ngx_http_ims_worker_t *w);
void ngx_http_ims_links_exit(ngx_http_ims_worker_t *w);
/* take over a connection that ims_listen accepted; NGX_ERROR: it is not */
ngx_int_t ngx_http_ims_link_accept(ngx_connection_t *c);

/*
 * Called by ngx_http_ims_link.c, posted: the connection of that serial broke,
 * or could not be opened (unreachable is set after 2 s of trying).  Nothing
 * of that serial is queued any more.  Implemented in
 * ngx_http_ims_transaction.c, which sends pending requests again or gives up.
 */
void ngx_http_ims_link_broken(ngx_http_ims_addr_t *addr, uint32_t serial,
    ngx_uint_t unreachable);


/* ngx_http_ims_listen.c: ims_listen and ims_core_allow */

char *ngx_http_ims_listen(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_ims_core_allow(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
/* init_main_conf: the ims_listen of our links' transport comes first */
char *ngx_http_ims_listens_order(ngx_conf_t *cf,
    ngx_http_ims_main_conf_t *imcf);
/* close a connection that is no link yet */
void ngx_http_ims_listen_close(ngx_connection_t *c);
/* is that address a core's (ims_core_allow)? port not compared */
ngx_uint_t ngx_http_ims_core_allowed(ngx_http_ims_main_conf_t *imcf,
    struct sockaddr *sa);


/* ngx_http_ims_udp.c: datagrams from and to the core */

#define NGX_HTTP_IMS_UDP_REQUEST  1300    /* bytes; RFC 3261 18.1.1 */
#define NGX_HTTP_IMS_UDP_SOCKETS  16      /* ims_listen with "udp" */

/* init_process, after the events of the listening sockets; exit_process */
ngx_int_t ngx_http_ims_udp_init(ngx_http_ims_worker_t *w);
void ngx_http_ims_udp_exit(ngx_http_ims_worker_t *w);
/*
 * One datagram, from the socket of that id if there is one (0: from the one
 * that Via names).  NGX_OK: sent, or lost as datagrams are; NGX_ERROR: it
 * cannot be (logged); NGX_DECLINED: no socket for such an address.
 */
ngx_int_t ngx_http_ims_udp_send(ngx_http_ims_addr_t *to, uint32_t id,
    u_char *data, size_t n);


/* ngx_http_ims_ssl.c: TLS towards the core */

#if (NGX_SSL)

/* init_main_conf: the contexts of links and of ims_listen */
char *ngx_http_ims_ssl_init(ngx_conf_t *cf, ngx_http_ims_main_conf_t *imcf);
/*
 * A link of ours is connected.  NGX_OK, NGX_AGAIN (goes on by itself, with
 * ngx_http_ims_link_established() or _failed()), NGX_ERROR.
 */
ngx_int_t ngx_http_ims_ssl_connect(ngx_http_ims_link_t *link);
/* a connection to an ims_listen with "tls": a link once the handshake is good */
void ngx_http_ims_ssl_accept(ngx_connection_t *c);
/* close_notify before a half-close */
void ngx_http_ims_ssl_goodbye(ngx_connection_t *c);
/* before ngx_close_connection(); nothing if there is no TLS */
void ngx_http_ims_ssl_close(ngx_connection_t *c);

#endif


/* ngx_http_ims_core_host.c: names of core nodes in routes */

char *ngx_http_ims_core_host_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
/* postconfiguration: names for the DNS need a resolver */
char *ngx_http_ims_core_hosts_check(ngx_conf_t *cf,
    ngx_http_ims_main_conf_t *imcf);
/* init_process: begin to ask for them */
ngx_int_t ngx_http_ims_core_hosts_init(ngx_http_ims_worker_t *w);
/* the address of a listed name; NGX_DECLINED: it is not listed */
ngx_int_t ngx_http_ims_core_host(ngx_http_ims_main_conf_t *imcf,
    ims_str_t host, in_port_t port, ngx_http_ims_addr_t *addr);
/* "ADDRESS:PORT" or "[ADDRESS]:PORT", no name is resolved */
ngx_int_t ngx_http_ims_literal(ngx_str_t *text, ngx_http_ims_addr_t *addr);


/* ngx_http_ims_delivery.c: datagrams between workers */

ngx_int_t ngx_http_ims_delivery_init(ngx_http_ims_worker_t *w);
/* the last flow is gone: unlink the name and read the own socket empty */
void ngx_http_ims_delivery_leave(ngx_http_ims_worker_t *w);
void ngx_http_ims_delivery_exit(ngx_http_ims_worker_t *w);
/*
 * Hand a message to another worker.  NGX_OK: queued or sent; NGX_BUSY: its
 * queue is full; NGX_DECLINED: that worker is dead.
 */
ngx_int_t ngx_http_ims_deliver(uint64_t worker_id, ims_flow_dgram_t *head,
    u_char *data, size_t n);
/* is the worker of that id alive: connect to its socket (cached for a second) */
ngx_uint_t ngx_http_ims_worker_alive(uint64_t worker_id);
/* master, init_module: remove socket names that nobody listens on */
void ngx_http_ims_delivery_sweep(ngx_cycle_t *cycle,
    ngx_http_ims_main_conf_t *imcf);


/* ngx_http_ims_status.c */

char *ngx_http_ims_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);


#endif /* _NGX_HTTP_IMS_H_INCLUDED_ */
