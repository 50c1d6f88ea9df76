
/*
 * Copyright (C) nginx-ims contributors
 *
 * What the files of the edge's own subscription to the event package reg share
 * (TS 24.229 5.2.3, RFC 3680, RFC 6665): ngx_http_ims_reg_event.c subscribes,
 * ngx_http_ims_reg_notify.c is told.
 *
 * Nothing rests on it: without an answer of the core a flow is as it is.
 */

#ifndef _NGX_HTTP_IMS_REG_EVENT_H_INCLUDED_
#define _NGX_HTTP_IMS_REG_EVENT_H_INCLUDED_


#include "ngx_http_ims_proxy.h"
#include "reg/ims_reginfo.h"


#define NGX_HTTP_IMS_REG_EVENT_ID     32    /* of Call-ID, hex */
#define NGX_HTTP_IMS_REG_EVENT_TAG    16    /* of our tag, hex */
#define NGX_HTTP_IMS_REG_EVENT_FAR    128   /* of the notifier's tag, most */
#define NGX_HTTP_IMS_REG_EVENT_ROUTE  1024  /* of its route set, most */


/*
 * The subscription of a session.  It is the session's, not the slot's: whoever
 * takes the flow over subscribes anew, and a NOTIFY of this one gets 481.
 */

struct ngx_http_ims_reg_event_s {
    u_char                        call_id[NGX_HTTP_IMS_REG_EVENT_ID];
    u_char                        tag[NGX_HTTP_IMS_REG_EVENT_TAG];

    uint32_t                      cseq;         /* of our last SUBSCRIBE */
    uint32_t                      far_cseq;     /* of the last good NOTIFY */
    uint32_t                      version;      /* of the last document */

    unsigned                      asked:1;      /* a SUBSCRIBE is in flight, */
    unsigned                      again:1;      /* and another is to follow */
    unsigned                      notified:1;   /* far_cseq is set */
    unsigned                      versioned:1;  /* version is set */
    unsigned                      gap:1;        /* a document was missed, and
                                                   the whole state asked for */
    unsigned                      renew:1;      /* the next one is a new one */

    uint16_t                      impu_len;
    uint16_t                      far_len;      /* 0: no dialog yet */
    uint16_t                      target_len;   /* 0: no 2xx yet, or of no
                                                   use in a dialog */
    uint16_t                      route_len;

    u_char                       *route;        /* malloc'd: target, routes */
    u_char                        far[NGX_HTTP_IMS_REG_EVENT_FAR];
    u_char                        impu[IMS_SIP_IDENTITY_MAX];
};


/* ngx_http_ims_reg_event.c */

/* SUBSCRIBE, within its dialog if that lives, else a new one */
void ngx_http_ims_reg_event_ask(ngx_http_ims_session_t *s);
/* it is over: the session has none any more */
void ngx_http_ims_reg_event_forget(ngx_http_ims_session_t *s);


#endif /* _NGX_HTTP_IMS_REG_EVENT_H_INCLUDED_ */
