/*
 * Copyright (C) nginx-ims contributors
 *
 * Transaction records of the edge (RFC 3261 16, 17; RFC 4320; RFC 6026).
 *
 * One record type for both directions, held by the worker that holds the flow.
 * The states, timers and messages are the caller's: here is only where the
 * records live, how they are found, limited and expired.
 *
 * A record is found by two keys: that of the *request* as received (slot,
 * direction, top Via's branch and sent-by, method) and, for responses, by the
 * *branch* that we put above it (and the method in CSeq).  ACK and CANCEL find
 * the record of their INVITE by either, and have none of their own.
 *
 * Keys are kept as 128 bits of a keyed hash, so a record has a fixed size and
 * nobody can make two keys collide.  Records come from a slab and the saved
 * messages from lists of free buffers: in the steady state nothing is
 * allocated.  Costs are O(1), and O(log records) for deadlines.
 *
 * Times are milliseconds of whatever clock the caller uses; 0 is "none".
 */

#ifndef _IMS_TRANS_H_INCLUDED_
#define _IMS_TRANS_H_INCLUDED_


#include "base/ims_str.h"


#define IMS_TRANS_SENT_BY_MAX  64
#define IMS_TRANS_IMPU_MAX     128
#define IMS_TRANS_ADDR_MAX     32
#define IMS_TRANS_HASH_LEN     16

/* directions, as in branches */
#define IMS_TRANS_TO_CORE      1
#define IMS_TRANS_TO_WIC       2


typedef enum {
    IMS_TRANS_OK = 0,
    IMS_TRANS_EXISTS,        /* a retransmission: *t is its record */
    IMS_TRANS_FLOW_LIMIT,    /* answer 503 */
    IMS_TRANS_WORKER_LIMIT,  /* answer 503 */
    IMS_TRANS_NOMEM
} ims_trans_rc_t;


/* RFC 3261 17 and RFC 6026, the states of client and server side together */
typedef enum {
    IMS_TRANS_CALLING = 0,   /* sent on, or waiting to be */
    IMS_TRANS_PROCEEDING,    /* a provisional response came */
    IMS_TRANS_COMPLETED,     /* a final response was passed or made */
    IMS_TRANS_ACCEPTED,      /* INVITE: a 2xx was passed; more may come */
    IMS_TRANS_CONFIRMED      /* INVITE: ACK of the non-2xx came */
} ims_trans_state_t;


typedef struct ims_trans_pool_s  ims_trans_pool_t;
typedef struct ims_trans_flow_s  ims_trans_flow_t;
typedef struct ims_trans_s       ims_trans_t;


/* a saved message */
typedef struct ims_trans_buf_s   ims_trans_buf_t;

struct ims_trans_buf_s {
    ims_trans_buf_t    *next;             /* private */
    uint32_t            size_class;       /* private */
    uint32_t            n;
    uint8_t             data[];
};


/* the request, as received */
typedef struct {
    uint32_t            slot;
    uint32_t            generation;
    uint8_t             direction;
    ims_str_t           branch;           /* top Via's; case is folded */
    ims_str_t           sent_by;          /* top Via's; case is folded */
    ims_str_t           method;           /* ACK and CANCEL mean INVITE */
} ims_trans_key_t;


/* where the request came in, and its responses go out */
typedef struct {
    uint64_t            worker;           /* worker id; 0: this one */
    uint32_t            serial;           /* of its connection */
    uint32_t            link;
    uint8_t             transport;
    uint8_t             addr_len;
    uint8_t             addr[IMS_TRANS_ADDR_MAX];        /* received from */
    uint8_t             sent_by_len;
    uint8_t             sent_by[IMS_TRANS_SENT_BY_MAX];  /* host[:port] */
} ims_trans_ingress_t;


struct ims_trans_s {

    /* private: kept by the functions below */

    ims_trans_t        *req_next;
    ims_trans_t        *rsp_next;
    ims_trans_t        *flow_prev;
    ims_trans_t        *flow_next;
    ims_trans_flow_t   *flow;
    uint32_t            heap_pos;
    unsigned            in_use:1;
    unsigned            has_branch:1;
    uint8_t             req_key[IMS_TRANS_HASH_LEN];
    uint8_t             rsp_key[IMS_TRANS_HASH_LEN];

    /* set by ims_trans_new() and not changed */

    uint32_t            slot;
    uint32_t            generation;
    uint8_t             direction;

    /* read only; ims_trans_deadline() sets it */

    uint64_t            deadline;

    /* the caller's: all zero at first */

    ims_trans_state_t   state;

    unsigned            invite:1;
    unsigned            answered:1;       /* the final response is ours */
    unsigned            provisional:1;    /* a 1xx came */
    unsigned            cancelled:1;      /* CANCEL came or was made by us */
    unsigned            cancel_held:1;    /* waits for the first 1xx */
    unsigned            cancel_sent:1;
    unsigned            orphan:1;         /* the flow has gone elsewhere */
    unsigned            in_dialog:1;      /* the request had a To tag */
    unsigned            record_routed:1;  /* our Record-Route is in it */

    uint8_t             attempt;          /* as in the branch */
    uint8_t             transport;        /* of the link below */
    uint16_t            status;           /* of the last response passed */
    uint16_t            method;           /* the caller's number of it */
    uint32_t            cseq;

    uint32_t            peer;             /* where the request was sent, */
    uint32_t            link;             /* link id */
    uint32_t            link_serial;      /* and that link's connection */

    ims_trans_ingress_t ingress;

    uint8_t             call_id[IMS_TRANS_HASH_LEN];   /* ims_trans_hash() */
    uint8_t             from_tag[IMS_TRANS_HASH_LEN];
    uint8_t             via_hash[IMS_TRANS_HASH_LEN];  /* list below ours */
    uint8_t             rr_hash[IMS_TRANS_HASH_LEN];   /* likewise */

    uint8_t             impu_len;                      /* IMPU meant */
    uint8_t             impu[IMS_TRANS_IMPU_MAX];

    uint64_t            created;
    uint64_t            until;            /* Timer B, C, F, H, J or K */
    uint64_t            resend_at;        /* UDP: timers A, E, G; 0: none */
    uint32_t            resend_interval;

    ims_trans_buf_t    *request;          /* ims_trans_save(): same again */
    ims_trans_buf_t    *response;
    ims_trans_buf_t    *reply;            /* UDP: the last one sent back */

    void               *data;
};


typedef struct {
    uint32_t            max;              /* records a worker, >= 1 */
    uint32_t            max_flow;         /* records a flow, >= 1 */
    size_t              cache;            /* bytes of free buffers kept */
} ims_trans_conf_t;


/* NULL: no memory.  The hash seed is drawn here. */
ims_trans_pool_t *ims_trans_pool_create(const ims_trans_conf_t *conf);

/* Frees every record, without a call to anybody. */
void ims_trans_pool_destroy(ims_trans_pool_t *p);

/*
 * A record for a request that was not seen yet; no deadline is set.  OK, or
 * EXISTS with the record in *t; else *t is NULL.
 */
ims_trans_rc_t ims_trans_new(ims_trans_pool_t *p, const ims_trans_key_t *key,
    ims_trans_t **t);

/*
 * Whom ims_trans_new() refused for, by limit (FLOW_LIMIT, WORKER_LIMIT), a
 * record that may be freed for it: one whose final response was passed, and
 * that is only there for what comes too late.  Never an INVITE that has a 2xx
 * or was answered by us: one may come yet; nor one that has something to send
 * again.  NULL: all are needed, or none was found soon.
 */
ims_trans_t *ims_trans_spare(ims_trans_pool_t *p, const ims_trans_key_t *key,
    ims_trans_rc_t limit);

/* NULL: none.  generation of the key counts: another flow is another key. */
ims_trans_t *ims_trans_find_request(ims_trans_pool_t *p,
    const ims_trans_key_t *key);

/*
 * The branch that we put above the request; again for another attempt, after
 * which responses to the earlier one are no longer found.  method as in CSeq.
 */
void ims_trans_set_branch(ims_trans_pool_t *p, ims_trans_t *t,
    ims_str_t branch, ims_str_t method);

/* By a response's top Via branch and CSeq method.  NULL: none. */
ims_trans_t *ims_trans_find_response(ims_trans_pool_t *p, ims_str_t branch,
    ims_str_t method);

/* Gives the record and its buffers back, whatever its state. */
void ims_trans_free(ims_trans_pool_t *p, ims_trans_t *t);


/* -- deadlines ----------------------------------------------------------- */

/* Sets, moves or (0) removes the deadline. */
void ims_trans_deadline(ims_trans_pool_t *p, ims_trans_t *t, uint64_t at);

/* The earliest one; 0: none. */
uint64_t ims_trans_next_deadline(const ims_trans_pool_t *p);

/*
 * Called with the deadline removed.  Returns the next one, or 0: the record is
 * freed.  It may make and free other records, not this one.
 */
typedef uint64_t (*ims_trans_expire_pt)(void *arg, ims_trans_t *t,
    uint64_t now);

/*
 * Calls cb for the records whose deadline is <= now, earliest first, at most
 * max of them; what cb returns is at least now + 1, so no record has two turns.
 * Returns the number of calls.
 */
uint32_t ims_trans_expire(ims_trans_pool_t *p, uint64_t now,
    ims_trans_expire_pt cb, void *arg, uint32_t max);


/* -- sending again over UDP (RFC 3261 17) -------------------------------- */

/*
 * Timer A, E or G: what was sent at `now` is due again after t1.  It touches
 * no deadline: the caller sets that to ims_trans_due().
 */
void ims_trans_resend_start(ims_trans_t *t, uint64_t now, uint32_t t1);

/*
 * It was sent again at `now`: the next time after twice the interval, which
 * grows to max (T2), or for ever if that is 0 (Timer A).
 */
void ims_trans_resend_next(ims_trans_t *t, uint64_t now, uint32_t max);

void ims_trans_resend_stop(ims_trans_t *t);

/* When the record wants a look: resend_at, or until if that is earlier. */
uint64_t ims_trans_due(const ims_trans_t *t);

/* Is it its time to send again, and not yet its end? */
bool ims_trans_resend_due(const ims_trans_t *t, uint64_t now);

/*
 * May what was sent be sent once more, the same bytes by a timer or over
 * another link (POOL.md 1 c)?  Only before the lease's end and within half of
 * D from the look, and what is allowed now may not be written later than that
 * either: *first_write (now and the most that a message may wait) is cut to it.
 */
bool ims_trans_again(uint64_t now, uint64_t looked, uint64_t delay,
    uint64_t end, uint64_t *first_write);


/* -- records of one flow ------------------------------------------------- */

/*
 * Walk: the next one is to be taken before the present one is freed.  Order is
 * that of creation.
 */
ims_trans_t *ims_trans_flow_first(ims_trans_pool_t *p, uint32_t slot,
    uint32_t generation);
ims_trans_t *ims_trans_flow_next(const ims_trans_t *t);

uint32_t ims_trans_flow_count(ims_trans_pool_t *p, uint32_t slot,
    uint32_t generation);


/* -- saved messages and hashes ------------------------------------------- */

/*
 * Copies the pieces into *buf (&t->request, &t->response), replacing what was
 * there, of which they may be parts.  False: no memory, or above 128 KiB; *buf
 * is NULL then.
 */
bool ims_trans_save(ims_trans_pool_t *p, ims_trans_buf_t **buf,
    const ims_str_t *pieces, unsigned npieces);
void ims_trans_drop(ims_trans_pool_t *p, ims_trans_buf_t **buf);

/* Hash of any number of parts, for the fields above. */
void ims_trans_hash(const ims_trans_pool_t *p, const ims_str_t *parts,
    unsigned nparts, uint8_t out[IMS_TRANS_HASH_LEN]);


/* -- figures ------------------------------------------------------------- */

typedef struct {
    uint32_t            records;          /* now */
    uint32_t            flows;            /* with records, now */
    uint32_t            slab;             /* records ever allocated */
    uint64_t            created;
    uint64_t            refused;          /* by either limit */
    uint64_t            mallocs;          /* flat in the steady state */
    size_t              cached;           /* bytes of free buffers */
} ims_trans_stat_t;

void ims_trans_stat(const ims_trans_pool_t *p, ims_trans_stat_t *s);


#endif /* _IMS_TRANS_H_INCLUDED_ */
