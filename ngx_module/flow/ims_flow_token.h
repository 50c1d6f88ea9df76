/*
 * Copyright (C) nginx-ims contributors
 *
 * Flow tokens (user part of our Path and Record-Route URIs, RFC 5626 5.2) and
 * branches of our Via (RFC 3261 8.1.1.7, 16.6 step 8).
 *
 * A token names a slot of the flow table and its generation, not a worker or a
 * connection: it is the same before and after a take-over.
 *
 *   bytes: kind 1 | key id 1 | node 2 | slot 4 | generation 4 | MAC 10
 *          [| second MAC 8]        base64url: 30, or 40 characters
 *
 * A Path token is good for initial requests from the core.  In a Record-Route
 * token the MAC covers the Call-ID too, so that it is good in one dialog only.
 * That is what the core is checked for.  The second MAC is what the WIC is
 * checked for, and covers what it could change to escape its Service-Route:
 * the far tag and the Route values that follow ours.
 *
 * An event token stands in the Contact of the edge's own SUBSCRIBE, and its MAC
 * covers that Call-ID: it is good for the NOTIFYs of that subscription and for
 * nothing else, and nothing else is good for them.
 */

#ifndef _IMS_FLOW_TOKEN_H_INCLUDED_
#define _IMS_FLOW_TOKEN_H_INCLUDED_


#include "base/ims_str.h"
#include "flow/ims_flow_key.h"


#define IMS_FLOW_TOKEN_MAX     48         /* room for any token; no NUL */
#define IMS_FLOW_BRANCH_MAX    48         /* room for a branch; no NUL */

#define IMS_FLOW_BRANCH_COOKIE  "z9hG4bK"


typedef struct {
    uint16_t   node;
    uint32_t   slot;
    uint32_t   generation;
} ims_flow_id_t;


typedef enum {
    IMS_FLOW_TOKEN_PATH = 1,
    IMS_FLOW_TOKEN_RR,             /* no second MAC: towards the core, as long
                                      as the far tag is not known */
    IMS_FLOW_TOKEN_RR_ORIG,        /* second MAC covers the WIC's tag */
    IMS_FLOW_TOKEN_RR_TERM,        /* does not: made before there is one */
    IMS_FLOW_TOKEN_EVENT           /* Contact of a subscription of ours */
} ims_flow_token_kind_t;


typedef enum {
    IMS_FLOW_TOKEN_OK = 0,
    IMS_FLOW_TOKEN_MALFORMED,      /* not one of ours at all: 404, 403 */
    IMS_FLOW_TOKEN_FORGED          /* MAC or key wrong, or other dialog: 403 */
} ims_flow_token_rc_t;


typedef struct {
    ims_flow_token_kind_t  kind;
    ims_flow_id_t          id;
} ims_flow_token_t;


/* what a Record-Route token is bound to */
typedef struct {
    ims_str_t              call_id;
    ims_str_t              wic_tag;       /* RR_ORIG only */
    ims_str_t              far_tag;
    const ims_str_t       *routes;        /* URIs on the core's side of ours, in
                                             the order in which the WIC's Route
                                             will have them after ours */
    unsigned               nroutes;       /* <= IMS_FLOW_ROUTES_MAX */
} ims_flow_dialog_t;

#define IMS_FLOW_ROUTES_MAX    16


/* They return the length written to out, which has IMS_FLOW_TOKEN_MAX bytes. */
size_t ims_flow_token_path(const ims_flow_keys_t *keys,
    const ims_flow_id_t *id, uint8_t *out);
size_t ims_flow_token_rr(const ims_flow_keys_t *keys, const ims_flow_id_t *id,
    ims_str_t call_id, uint8_t *out);
size_t ims_flow_token_event(const ims_flow_keys_t *keys,
    const ims_flow_id_t *id, ims_str_t call_id, uint8_t *out);

/*
 * kind: RR_ORIG or RR_TERM.  Returns 0 if there are too many routes (answer
 * 500; nothing else is refused).
 */
size_t ims_flow_token_rr_wic(const ims_flow_keys_t *keys,
    ims_flow_token_kind_t kind, const ims_flow_id_t *id,
    const ims_flow_dialog_t *d, uint8_t *out);

/*
 * Check of a token in a request *from the core*.  A Path token is taken
 * whatever call_id is; that it is good for initial requests only (tok->kind)
 * is the caller's rule.  *tok is set only if OK; whether the slot still has
 * this generation is for ims_flow_resolve() to say.  An event token is FORGED.
 */
ims_flow_token_rc_t ims_flow_token_core(const ims_flow_keys_t *keys,
    ims_str_t text, ims_str_t call_id, ims_flow_token_t *tok);

/*
 * Check of the user in a Request-URI *from the core*: OK for an event token of
 * that Call-ID; MALFORMED for whatever is not an event token.
 */
ims_flow_token_rc_t ims_flow_token_event_core(const ims_flow_keys_t *keys,
    ims_str_t text, ims_str_t call_id, ims_flow_token_t *tok);

/*
 * Check in an in-dialog request *from the WIC*: kinds RR_ORIG and RR_TERM with
 * both MACs right; everything else that is one of ours is FORGED.
 */
ims_flow_token_rc_t ims_flow_token_wic(const ims_flow_keys_t *keys,
    ims_str_t text, const ims_flow_dialog_t *d, ims_flow_token_t *tok);


/* what a branch is made of; see DESIGN.md 6, "Branch" */
typedef struct {
    uint8_t                direction;     /* IMS_TRANS_TO_CORE, _TO_WIC */
    uint8_t                attempt;       /* 0; + 1 for each other peer tried */
    uint32_t               cseq;
    ims_str_t              via_sent_by;   /* of the received top Via, */
    ims_str_t              via_branch;    /* empty for requests of our own */
    ims_str_t              call_id;
    ims_str_t              from_tag;
    ims_str_t              r_uri;
} ims_flow_branch_t;


/*
 * "z9hG4bK" and lower-case base32 (branches are compared without regard to
 * case) of: key id 1 | node 2 | slot 4 | generation 4 | MAC 10.  The same
 * request gives the same branch in any worker at any time; CANCEL and the ACK
 * of a non-2xx give that of their INVITE.  Returns the length.
 */
size_t ims_flow_branch_make(const ims_flow_keys_t *keys,
    const ims_flow_id_t *id, const ims_flow_branch_t *b, uint8_t *out);

/*
 * Slot and generation of a branch, *not* authenticated: they only say where to
 * look for the record, whose branch must equal the whole of it.
 */
bool ims_flow_branch_parse(ims_str_t branch, ims_flow_id_t *id);

/* By recomputation, for those who have the parts but no record. */
ims_flow_token_rc_t ims_flow_branch_verify(const ims_flow_keys_t *keys,
    ims_str_t branch, const ims_flow_branch_t *b, ims_flow_id_t *id);


#endif /* _IMS_FLOW_TOKEN_H_INCLUDED_ */
