
/*
 * Copyright (C) nginx-ims contributors
 *
 * What the files of the REGISTER procedure share: ngx_http_ims_register.c
 * (may it go on), _register_send.c (on its way) and _register_answer.c (what
 * came back).
 */

#ifndef _NGX_HTTP_IMS_REGISTER_H_INCLUDED_
#define _NGX_HTTP_IMS_REGISTER_H_INCLUDED_


#include "ngx_http_ims.h"


/* the texts behind a record's data, in this order */

typedef enum {
    NGX_HTTP_IMS_REG_INSTANCE = 0,
    NGX_HTTP_IMS_REG_CONTACT,
    NGX_HTTP_IMS_REG_AOR,              /* To, canonical */
    NGX_HTTP_IMS_REG_TEXTS
} ngx_http_ims_register_text_e;

/* room for all identities that a slot is asked to hold */
#define NGX_HTTP_IMS_REG_IDENTS                                               \
    (IMS_POOL_IMPUS + IMS_REG_ASSERTED_MAX + 2)


/* ngx_http_ims_register.c */

/* seconds: what the core raises shorter expiries to, by conf, pool, any 423 */
uint32_t ngx_http_ims_register_core_min(ngx_http_ims_session_t *s);
/*
 * A fresh look at an identity and its names, into w->look and w->names.
 * NGX_DECLINED: there is none; NGX_ERROR: nothing is known (503).
 */
ngx_int_t ngx_http_ims_register_look(ngx_http_ims_session_t *s,
    uint64_t ident);
/* a and b of POOL.md 1 E for that look */
void ngx_http_ims_register_judge(ngx_http_ims_session_t *s, ims_sip_msg_t *m,
    ims_reg_request_t *q, const ims_reg_grant_t *grant, ims_reg_verdict_t *v);
void ngx_http_ims_register_unavailable(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m, const char *reason);


/* ngx_http_ims_register_send.c */

/* what was judged good goes to the core, or is answered */
void ngx_http_ims_register_go(ngx_http_ims_session_t *s, ims_sip_msg_t *m,
    ims_reg_request_t *q, ims_reg_verdict_t *v, uint64_t looked);
/* another peer, from the start: a new look, a new branch */
ngx_int_t ngx_http_ims_register_next(ngx_http_ims_session_t *s,
    ims_trans_t *t);
/* answer the REGISTER that the record keeps */
void ngx_http_ims_register_answer(ngx_http_ims_session_t *s, ims_trans_t *t,
    ngx_uint_t status, const char *reason, const char *extra);
/* what Via (of that transport) and Path say to this peer of where we are */
void ngx_http_ims_register_places(ims_reg_forward_t *f,
    ngx_http_ims_addr_t *peer, ngx_uint_t via);
ims_str_t ngx_http_ims_register_text(ngx_http_ims_trans_data_t *d,
    ngx_http_ims_register_text_e which);


#endif /* _NGX_HTTP_IMS_REGISTER_H_INCLUDED_ */
