
/*
 * Copyright (C) nginx-ims contributors
 *
 * What the files of the proxy procedures share: originating requests
 * (ngx_http_ims_originating.c), terminating ones (_terminating.c), responses
 * (_response.c), CANCEL and ACK (_cancel.c), requests that wait for a client
 * (_held.c), and the way back to where a request of the core came in
 * (_ingress.c).
 */

#ifndef _NGX_HTTP_IMS_PROXY_H_INCLUDED_
#define _NGX_HTTP_IMS_PROXY_H_INCLUDED_


#include "ngx_http_ims.h"
#include "proxy/ims_proxy.h"


#define NGX_HTTP_IMS_TIMER_B      (64 * NGX_HTTP_IMS_T1)
#define NGX_HTTP_IMS_TIMER_C      185000            /* ms, RFC 3261 16.6 */
#define NGX_HTTP_IMS_NON_INVITE   30000             /* ms; then 504 */
#define NGX_HTTP_IMS_CHARGING     1024              /* bytes, of the header */
#define NGX_HTTP_IMS_REASON       512               /* bytes, of a CANCEL's */
#define NGX_HTTP_IMS_HOLD         5000              /* ms without connection */


/* ngx_http_ims_proxy.c: what both directions need */

/* a request that the edge itself refuses */
typedef struct {
    ngx_uint_t                    status;           /* 0: go on */
    const char                   *reason;
    const char                   *extra;            /* header lines, or NULL */
} ngx_http_ims_refusal_t;

/* Max-Forwards, Proxy-Require, scheme of the Request-URI */
void ngx_http_ims_proxy_check(const ims_sip_msg_t *m,
    ngx_http_ims_refusal_t *refusal);
/* is the scheme of the Request-URI one that a core can route */
ngx_uint_t ngx_http_ims_proxy_scheme_ok(const ims_sip_msg_t *m);
/* the record of a new request; NGX_DECLINED: a retransmission; NGX_BUSY: 503 */
ngx_int_t ngx_http_ims_proxy_record(ngx_http_ims_session_t *s,
    const ims_sip_msg_t *m, ngx_uint_t direction, ims_trans_t **tp);
/* the record of that request, or of the INVITE of an ACK or CANCEL, or NULL */
ims_trans_t *ngx_http_ims_proxy_find(ngx_http_ims_session_t *s,
    const ims_sip_msg_t *m, ngx_uint_t direction);
/* the same of a flow that may have no session */
ims_trans_t *ngx_http_ims_proxy_find_of(uint32_t slot, uint32_t generation,
    const ims_sip_msg_t *m, ngx_uint_t direction);
/* our branch for it, in out (IMS_FLOW_BRANCH_MAX) */
ims_str_t ngx_http_ims_proxy_branch(ngx_http_ims_session_t *s,
    const ims_sip_msg_t *m, ngx_uint_t direction, u_char *out);
/* Max-Forwards less one, or 70 */
void ngx_http_ims_proxy_max_forwards(ims_sip_edit_t *ed);
/* does this request make a dialog */
ngx_uint_t ngx_http_ims_proxy_dialog(const ims_sip_msg_t *m);
/* P-Access-Network-Info, if the edge says where its clients are */
void ngx_http_ims_proxy_access(ims_sip_edit_t *ed,
    ngx_http_ims_loc_conf_t *conf);
/* "<sip:token@advertise;transport=tcp;lr>" for that hop, in the arena */
ims_str_t ngx_http_ims_proxy_route(ims_sip_edit_t *ed,
    ngx_http_ims_main_conf_t *imcf, ngx_http_ims_addr_t *hop,
    const u_char *token, size_t n);
/* write the edited message to w->message; 0: it cannot be done (logged) */
size_t ngx_http_ims_proxy_flatten(ims_sip_edit_t *ed, ngx_uint_t level,
    ngx_log_t *log);
/* a final answer by the edge to the request of a record, either direction */
void ngx_http_ims_proxy_answer(ims_trans_t *t, ngx_uint_t status,
    const char *reason, const char *extra);
/* no answer came, or its link is gone */
void ngx_http_ims_proxy_failed(ims_trans_t *t, ngx_uint_t status,
    const char *reason);
/* the deadline of a record has passed; returns the next one */
uint64_t ngx_http_ims_proxy_expired(ims_trans_t *t, uint64_t now);
/* the flow loses its connection: 430 to the core, CANCEL for the client */
void ngx_http_ims_proxy_flow_lost(ngx_http_ims_session_t *s);


/* ngx_http_ims_originating.c */

void ngx_http_ims_originating(ngx_http_ims_session_t *s, ims_sip_msg_t *m);
/* where a URI of the core's leads: a peer, or the one of the registration */
ngx_int_t ngx_http_ims_next_hop(ngx_http_ims_session_t *s, ims_str_t uri,
    ngx_http_ims_addr_t *addr);
/*
 * The Service-Route of the registration of that IMPU, or, for one of its
 * implicit set, of the first registration that has one.
 */
ngx_int_t ngx_http_ims_service_route(ngx_http_ims_session_t *s,
    ims_str_t impu, ims_proxy_routes_t *routes);
/* the values of a kept route set */
ngx_int_t ngx_http_ims_route_values(ims_str_t text,
    ims_proxy_routes_t *routes);


/* ngx_http_ims_terminating.c */

/*
 * A request of the core: to the flow that its Route names, in this worker or
 * another one (hop counts the workers that it went through).
 */
void ngx_http_ims_terminating(const ims_trans_ingress_t *in, ims_sip_msg_t *m,
    ngx_uint_t hop);
/* to the worker of that owner; NGX_DECLINED: there is none */
ngx_int_t ngx_http_ims_terminating_elsewhere(const ims_trans_ingress_t *in,
    ims_sip_msg_t *m, uint64_t owner, const ims_flow_id_t *id, ngx_uint_t hop);


/* ngx_http_ims_reg_notify.c */

/*
 * A request of the core to the Contact of a subscription of the edge's own: it
 * was answered, or handed to another worker.  0: it is another one.
 */
ngx_uint_t ngx_http_ims_reg_notify(const ims_trans_ingress_t *in,
    ims_sip_msg_t *m, ngx_uint_t hop);


/* ngx_http_ims_response.c */

void ngx_http_ims_response_of_client(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m);
void ngx_http_ims_response_of_core(ims_trans_t *t, ims_sip_msg_t *m);


/* ngx_http_ims_cancel.c */

void ngx_http_ims_cancel_of_client(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m);
void ngx_http_ims_cancel_of_core(ngx_http_ims_session_t *s,
    const ims_trans_ingress_t *in, ims_sip_msg_t *m);
/* CANCEL of the INVITE that the record has sent, now or after its first 1xx */
void ngx_http_ims_cancel_send(ims_trans_t *t);
/* the same without a 1xx, for an INVITE that has a broken link behind it */
void ngx_http_ims_cancel_now(ims_trans_t *t);
/* the CANCEL itself, first or again; NGX_DECLINED: it cannot be made */
ngx_int_t ngx_http_ims_cancel_make(ims_trans_t *t);
/* the connection to that node was lost, and maybe what was written to it */
void ngx_http_ims_cancel_again(ngx_http_ims_addr_t *addr);
/* the CANCEL was answered, or its record ends */
void ngx_http_ims_cancel_done(ims_trans_t *t);
/* ACK of a non-2xx, to where the INVITE went; m: that response */
void ngx_http_ims_cancel_ack(ims_trans_t *t, const ims_sip_msg_t *m);


/* ngx_http_ims_hangup.c */

/* a 2xx of an INVITE that is over for the client: ACK and BYE */
void ngx_http_ims_hangup(ims_trans_t *t, ims_sip_msg_t *m);


/* ngx_http_ims_ingress.c */

void ngx_http_ims_ingress_of_link(ims_trans_ingress_t *in,
    ngx_http_ims_link_t *link, const ims_sip_msg_t *m);
/* the address that its answer goes to; of none if it is not known */
void ngx_http_ims_ingress_address(const ims_trans_ingress_t *in,
    ngx_http_ims_addr_t *addr);
/* received from there, on the UDP socket of that id */
void ngx_http_ims_ingress_of_udp(ims_trans_ingress_t *in, uint32_t socket,
    ngx_http_ims_addr_t *from, const ims_sip_msg_t *m);
void ngx_http_ims_ingress_of_dgram(ims_trans_ingress_t *in,
    const ims_flow_dgram_t *head, const ims_sip_msg_t *m);
/* a response, whole, back to where the request came in; how: ..._SEND_ */
void ngx_http_ims_ingress_send(const ims_trans_ingress_t *in, uint32_t slot,
    uint32_t generation, ngx_uint_t how, u_char *data, size_t n);
/* the same on a link of this worker, by serial, else by address */
void ngx_http_ims_ingress_out(const ims_trans_ingress_t *in, ngx_uint_t how,
    u_char *data, size_t n);
/* the edge's own answer to a request that came in there */
void ngx_http_ims_ingress_reply(const ims_trans_ingress_t *in,
    const ims_sip_msg_t *m, ngx_uint_t status, const char *reason,
    const char *extra);
/* the same for a request with a record */
void ngx_http_ims_ingress_reply_of(ims_trans_t *t, const ims_sip_msg_t *m,
    ngx_uint_t status, const char *reason, const char *extra);
/* a response, whole, to the request of a record of the core's; how: as above */
void ngx_http_ims_ingress_answer(ims_trans_t *t, ngx_uint_t how, u_char *data,
    size_t n);
/* the last of these once more; NGX_DECLINED: there is none, or not any more */
ngx_int_t ngx_http_ims_ingress_again(ims_trans_t *t);
/* over UDP: where the request was received from, into the Via below ours */
void ngx_http_ims_ingress_received(const ims_trans_ingress_t *in,
    ims_sip_edit_t *ed);


/* ngx_http_ims_held.c: in-dialog requests for a flow without connection */

/* NGX_ERROR: no room, or it waited long enough; the caller answers 430 */
ngx_int_t ngx_http_ims_held_add(const ims_trans_ingress_t *in,
    const ims_sip_msg_t *m);


#endif /* _NGX_HTTP_IMS_PROXY_H_INCLUDED_ */
