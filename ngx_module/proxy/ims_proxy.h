/*
 * Copyright (C) nginx-ims contributors
 *
 * Rules of the edge as a transaction-stateful proxy, without sockets and
 * without nginx (RFC 3261 16, RFC 3325, DESIGN.md 6): who is asserted, what a
 * response of a client must repeat, the Route of a request in a dialog, and
 * the messages that a proxy makes by itself.
 */

#ifndef _IMS_PROXY_H_INCLUDED_
#define _IMS_PROXY_H_INCLUDED_


#include "base/ims_str.h"
#include "sip/ims_sip.h"
#include "sip/ims_sip_edit.h"
#include "flow/ims_flow_table.h"
#include "flow/ims_flow_token.h"


#define IMS_PROXY_ROUTES   IMS_FLOW_ROUTES_MAX


/* -- identity ------------------------------------------------------------ */

/*
 * The IMPU to assert for a request of the client (TS 24.229 5.2.6.3): the
 * one of the assertable set that a P-Preferred-Identity names, else the
 * default.  From plays no part.  What is returned is the stored URI, a slice
 * of d, never the client's text; {NULL, 0}: nothing may be asserted.
 */
ims_str_t ims_proxy_asserted(const ims_flow_data_t *d, const ims_sip_msg_t *m);

/* The default of the set, or the member that called names, if it does. */
ims_str_t ims_proxy_called(const ims_flow_data_t *d, ims_str_t called);


/* -- routes -------------------------------------------------------------- */

typedef struct {
    unsigned        n;
    ims_str_t       uri[IMS_PROXY_ROUTES];     /* without <> */
    ims_str_t       value[IMS_PROXY_ROUTES];   /* as it stands */
    uint16_t        hdr[IMS_PROXY_ROUTES];
} ims_proxy_routes_t;

/* All values of Route or Record-Route.  False: malformed, or too many. */
bool ims_proxy_routes(const ims_sip_msg_t *m, unsigned id,
    ims_proxy_routes_t *r);

/* True if a Route URI has the parameter lr (RFC 3261 16.4). */
bool ims_proxy_loose(ims_str_t uri);

/* User part of a sip URI, {NULL, 0} if there is none: a flow token's place. */
ims_str_t ims_proxy_user(ims_str_t uri);

/* Is that URI of Record-Route ours, in the dialog of that Call-ID? */
bool ims_proxy_is_ours(ims_str_t uri, const ims_flow_keys_t *keys,
    const ims_flow_id_t *id, ims_str_t call_id);

/*
 * Which of the values that came back for a request of the client is ours; -1:
 * none.  The edge is its first proxy, so it is the last one that fits: a call
 * to oneself has gone through the edge twice.
 */
int ims_proxy_our_route(const ims_proxy_routes_t *r,
    const ims_flow_keys_t *keys, const ims_flow_id_t *id, ims_str_t call_id);


/* -- responses of a client ----------------------------------------------- */

/*
 * Two hashes of a message: of the Via values below the top one (skip = 1, or
 * 0 for all), and of the Record-Route values (skip_rr from the top).  False:
 * malformed.  Values are compared parsed: white space between them, and how
 * they are spread over lines, make no difference.
 */
bool ims_proxy_hashes(const ims_sip_msg_t *m, unsigned skip_via,
    unsigned skip_rr, uint8_t via[16], uint8_t rr[16]);


/* -- messages of our own ------------------------------------------------- */

/*
 * CANCEL (RFC 3261 9.1) or ACK of a non-2xx (17.1.1.3) for a request that we
 * sent: its top Via, its Route.  to: the To value, of the response for an ACK.
 * reason: why it is cancelled (RFC 3326), {NULL, 0}: nothing is said of it.
 * The length, or -1 if it does not fit.
 */
ptrdiff_t ims_proxy_hop(uint8_t *dst, size_t cap, const ims_sip_msg_t *sent,
    ims_str_t method, ims_str_t to, ims_str_t reason);

/*
 * A request inside the dialog that a 2xx of our INVITE has made, as the
 * INVITE's sender would write it: target is its Contact, Route its
 * Record-Route values above ours, reversed.  The length, or -1: it does not
 * fit, or the 2xx has no Contact.
 */
ptrdiff_t ims_proxy_in_dialog(uint8_t *dst, size_t cap,
    const ims_sip_msg_t *sent, const ims_sip_msg_t *ok,
    const ims_proxy_routes_t *rr, unsigned ours, ims_str_t method,
    uint32_t cseq, ims_str_t via);


#endif /* _IMS_PROXY_H_INCLUDED_ */
