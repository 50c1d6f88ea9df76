
/*
 * Copyright (C) nginx-ims contributors
 *
 * A connection to or from the core, as its own files see it: life in
 * ngx_http_ims_link.c, reading in ngx_http_ims_link_read.c, writing in
 * ngx_http_ims_link_write.c.
 *
 * A link of ours (to a peer) outlives its connections; an accepted one ends
 * with its only one.  A link is freed by its own event handlers and never
 * under a handler of anybody else's, so it stays good through a call of
 * ngx_http_ims_from_core().
 */

#ifndef _NGX_HTTP_IMS_LINK_H_INCLUDED_
#define _NGX_HTTP_IMS_LINK_H_INCLUDED_


#include "ngx_http_ims.h"


#define NGX_HTTP_IMS_LINK_TRY     2000   /* ms of trying until unreachable */
#define NGX_HTTP_IMS_LINK_STALL   10000  /* ms without a byte taken: broken */
#define NGX_HTTP_IMS_LINK_TICK    1000
#define NGX_HTTP_IMS_LINK_EARLY   1000   /* closed unheard before: back-off */
#define NGX_HTTP_IMS_LINK_LINGER  5000   /* ms of reading after our FIN */
#define NGX_HTTP_IMS_LINK_REAP    60000  /* ms an unconnected link is kept */
#define NGX_HTTP_IMS_LINK_HARD    4      /* times ims_link_queue: broken */
#define NGX_HTTP_IMS_LINK_SKIP    1048576 /* a message that is answered 513 */
#define NGX_HTTP_IMS_LINK_TURNS   16     /* reads in one turn of the loop */
#define NGX_HTTP_IMS_LINK_IOVS    128


struct ngx_http_ims_link_s {
    ngx_queue_t                queue;        /* all links of the worker */
    ngx_connection_t          *connection;   /* NULL: none */

    /* read as the fd of an event: must be after 3 pointers */
    ngx_int_t                  ident;

    ngx_http_ims_addr_t        addr;
    uint32_t                   serial;

    ngx_log_t                  log;
    ngx_str_t                  addr_text;
    u_char                     text[NGX_SOCKADDR_STRLEN];

    /* output, oldest first */
    ngx_http_ims_out_t        *out;
    ngx_http_ims_out_t       **out_last;
    size_t                     out_size;
    ngx_msec_t                 progress;     /* when a byte was last taken */

    /* the part of a message that was read, malloc'd */
    u_char                    *rest;
    size_t                     rest_len;
    size_t                     rest_size;
    size_t                     scanned;      /* of ims_sip_frame() */
    size_t                     msglen;
    size_t                     skip;         /* left of one that is too big */

    ngx_event_t                timer;        /* by state, see arm() */
    ngx_event_t                posted;       /* connect, or break */

    ngx_msec_t                 since;        /* trying, or connected */
    ngx_msec_t                 retry_at;     /* next attempt, if tries */
    ngx_uint_t                 tries;        /* failed ones in a row */

    unsigned                   accepted:1;
    unsigned                   trying:1;     /* since .since */
    unsigned                   connecting:1;
    unsigned                   connected:1;
    unsigned                   heard:1;      /* a message came on it */
    unsigned                   linger:1;     /* to be closed by our FIN */
    unsigned                   shut:1;       /* FIN sent */
    unsigned                   doomed:1;     /* break is posted */
};


/* ngx_http_ims_link.c */

/* the connection is of no use any more: the link may be freed in here */
void ngx_http_ims_link_break(ngx_http_ims_link_t *link);
/* the same from under somebody else's handler: posted */
void ngx_http_ims_link_doom(ngx_http_ims_link_t *link);
/* set the timer that the link's state calls for */
void ngx_http_ims_link_arm(ngx_http_ims_link_t *link);
/* an attempt to connect failed: another one, or unreachable */
void ngx_http_ims_link_failed(ngx_http_ims_link_t *link);
/* a connection of ours may carry messages */
void ngx_http_ims_link_established(ngx_http_ims_link_t *link);
/* the write event of a connection that is being opened */
ngx_int_t ngx_http_ims_link_opened(ngx_http_ims_link_t *link);
/* c->close was set: by the sweep at exit, or by the shutdown timer */
void ngx_http_ims_link_swept(ngx_http_ims_link_t *link);


/* ngx_http_ims_link_read.c */

void ngx_http_ims_link_read_handler(ngx_event_t *rev);
void ngx_http_ims_link_forget_rest(ngx_http_ims_link_t *link);


/* ngx_http_ims_link_write.c */

void ngx_http_ims_link_write_handler(ngx_event_t *wev);
/* drop what is too late; NGX_HTTP_IMS_DROP_REQUESTS, _ALL */
void ngx_http_ims_link_drop(ngx_http_ims_link_t *link, ngx_uint_t what);

#define NGX_HTTP_IMS_DROP_LATE      0
#define NGX_HTTP_IMS_DROP_REQUESTS  1   /* and what is half written */
#define NGX_HTTP_IMS_DROP_ALL       2


#endif /* _NGX_HTTP_IMS_LINK_H_INCLUDED_ */
