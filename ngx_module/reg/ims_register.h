/*
 * Copyright (C) nginx-ims contributors
 *
 * The rules of REGISTER at the edge, without sockets and without nginx
 * (DESIGN.md 6 "REGISTER", POOL.md 1 E): what a request says, whether it may
 * go on and for how long, what is sent instead, what an answer grants.
 *
 *     ims_reg_read()       the facts of a client's REGISTER, or 400
 *     ims_reg_judge()      a and b: token, lease, names, room
 *     ims_reg_forward()    the message as it goes to the core
 *     ims_reg_answer()     the facts of the core's 2xx
 *     ims_reg_deregister() the edge's own de-REGISTER (d, f, g)
 *     ims_reg_subscribe()  the edge's own SUBSCRIBE to the event package reg
 *
 * PT is pool time in ms; expiries are in seconds.
 */

#ifndef _IMS_REGISTER_H_INCLUDED_
#define _IMS_REGISTER_H_INCLUDED_


#include "base/ims_str.h"
#include "sip/ims_sip.h"
#include "sip/ims_sip_edit.h"
#include "token/ims_token.h"
#include "flow/ims_flow_token.h"
#include "ims_pool.h"


#define IMS_REG_CONTACT_MAX   512      /* a Contact's URI; longer: 400 */
#define IMS_REG_EXPIRES       600      /* asked for if nothing is said */
#define IMS_REG_ASSERTED_MAX  16       /* URIs of a P-Associated-URI */
#define IMS_REG_ROUTE_MAX     1024     /* bytes of a Service-Route */


/* -- what a verified token grants --------------------------------------- */

/*
 * The claims that matter, kept on a session for as long as its token is its
 * own.  One block of malloc().
 */
typedef struct {
    const void  *issuer;               /* the caller's; not looked at here */
    uint64_t     ident;
    uint64_t     lease;
    uint64_t     sid;
    int64_t      exp;                  /* wall clock, s */
    uint8_t      holder[IMS_POOL_HOLDER_LEN];
    uint8_t      digest[IMS_TOKEN_DIGEST_LEN];
    uint16_t     impi_len;
    uint16_t     nimpu;
    uint16_t     impu_len[IMS_TOKEN_IMPU_MAX];
    uint8_t      text[];               /* IMPI, then each IMPU, canonical */
} ims_reg_grant_t;

/*
 * Of claims that ims_token_verify() accepted for the token's text jws.  NULL:
 * no memory, or a claim that verification should not have let pass.
 */
ims_reg_grant_t *ims_reg_grant_new(const ims_token_claims_t *c, ims_str_t jws,
    const void *issuer);

/* NULL is taken. */
void ims_reg_grant_free(ims_reg_grant_t *g);

ims_str_t ims_reg_grant_impi(const ims_reg_grant_t *g);

/* True if the canonical IMPU is among those of the token. */
bool ims_reg_grant_has(const ims_reg_grant_t *g, ims_str_t canon);


/* -- the request --------------------------------------------------------- */

typedef struct {
    uint8_t            aor_buf[IMS_SIP_IDENTITY_MAX * 3];
    ims_str_t          aor;            /* To's URI, canonical */
    ims_sip_contact_t  contact;        /* star, or the one Contact */
    ims_str_t          instance;       /* +sip.instance unquoted, or absent */
    uint32_t           reg_id;         /* 0: none */
    uint32_t           asked;          /* s; 0: de-registration */
    ims_str_t          token;          /* of the Bearer; {NULL, 0}: none */
} ims_reg_request_t;

/*
 * Reads a REGISTER of a client: one Contact, or "*" with Expires 0; From and
 * To one address of record; at most one Bearer.  Slices point into the
 * message.  Returns 0, or the status to answer and a static text.
 */
unsigned ims_reg_read(ims_reg_request_t *q, const ims_sip_msg_t *m,
    const char **reason);

/*
 * 16 bytes that name a client's device: a hash of instance and reg-id.  False
 * if there is no instance: they name its Contact then, and a device is not
 * known by them.
 */
bool ims_reg_instance(const ims_reg_request_t *q, uint8_t out[16]);


/* -- the judgement (E a, b) ---------------------------------------------- */

typedef enum {
    IMS_REG_GO = 0,
    IMS_REG_NO_TOKEN,          /* 401, the flow stays */
    IMS_REG_EXPIRED,           /* 401 invalid_token: exp is the only fault */
    IMS_REG_SHORT,             /* 401 invalid_token: renew the lease first */
    IMS_REG_IDENTITY,          /* 403 + 1008: not what the token covers */
    IMS_REG_LEASE,             /* 403 + 1008: the lease is not live */
    IMS_REG_OTHER_IMPI,        /* 403: a flow has one IMPI */
    IMS_REG_OTHER_CONTACT,     /* 403: and one Contact */
    IMS_REG_HOME,              /* 403: Request-URI is not the home domain */
    IMS_REG_UNREGISTERED       /* 403: de-registration of what is not there */
} ims_reg_why_e;

typedef struct {
    const ims_reg_request_t  *req;
    const ims_sip_msg_t      *msg;

    /*
     * The token shown, or the flow's own; NULL: neither.  expired: its only
     * fault is exp.
     */
    const ims_reg_grant_t    *grant;
    bool                      expired;

    /* the flow: what it is registered for; ident 0: nothing yet */
    uint64_t                  flow_ident;
    uint64_t                  flow_lease;
    uint8_t                   flow_holder[IMS_POOL_HOLDER_LEN];
    ims_str_t                 flow_contact;   /* empty: none */

    /* of the same snapshot, of grant's or the flow's identity */
    const ims_pool_look_t    *look;
    const ims_pool_names_t   *names;

    uint32_t                  core_min;       /* s */
} ims_reg_case_t;

typedef struct {
    ims_reg_why_e     why;
    ims_pool_lapse_e  lapse;       /* IMS_REG_LEASE: why */
    uint64_t          end;         /* session's end, PT */
    uint32_t          room;        /* s that may be granted from look->pt on */
    uint32_t          expires;     /* s to ask of the core: x */
    unsigned          impu;        /* index of To in names */
} ims_reg_verdict_t;

void ims_reg_judge(const ims_reg_case_t *c, ims_reg_verdict_t *v);

/* How a refusal is answered. */
typedef struct {
    unsigned     status;
    const char  *reason;
    bool         close;            /* and 1008 */
    const char  *challenge;        /* error="..." of a 401, NULL: none */
} ims_reg_refusal_t;

/* Never NULL; not for IMS_REG_GO. */
const ims_reg_refusal_t *ims_reg_refusal(ims_reg_why_e why);


/* -- what goes to the core ----------------------------------------------- */

/* all but expires, contact and received: the same for the edge's own */
typedef struct {
    ims_str_t   home;
    ims_str_t   impi;
    ims_str_t   advertise;         /* HOST:PORT of Path */
    ims_str_t   transport;         /* "TCP", likewise */
    ims_str_t   via_advertise;     /* of Via; none: the same */
    ims_str_t   via_transport;     /* likewise */
    ims_str_t   via_params;        /* ";rport", or none */
    ims_str_t   branch;
    ims_str_t   path_token;        /* empty: of no flow */
    ims_str_t   icid;
    ims_str_t   visited;           /* empty: home */
    ims_str_t   access_network;    /* value of P-Access-Network-Info; or none */
    ims_str_t   entity;            /* authorization-entity; or none */

    ims_str_t   received;          /* the client's address and port */
    uint16_t    rport;

    uint32_t    expires;           /* x */
    ims_str_t   own_contact;       /* in place of "*"; empty: as it is */
} ims_reg_forward_t;

/*
 * Edits the REGISTER in ed (initialised with its message).  Returns NULL, or
 * a static text with the status to answer: 400 by the header table, 483, 500.
 */
const char *ims_reg_forward(ims_sip_edit_t *ed, const ims_reg_request_t *q,
    const ims_reg_forward_t *f, unsigned *status);


/* -- the answer (E d) ---------------------------------------------------- */

typedef struct {
    bool       found;              /* our Contact is in it */
    uint32_t   granted;            /* s; 0 if not found */
    uint16_t   hdr;                /* of that Contact, */
    ims_str_t  value;              /* the value, */
    ims_sip_param_t  expires;      /* and its parameter */

    ims_str_t  route;              /* Service-Route values, comma-separated, in
                                      the caller's buffer */
    unsigned   nasserted;          /* P-Associated-URI; none: the To IMPU */
    ims_str_t  asserted[IMS_REG_ASSERTED_MAX];
} ims_reg_answer_t;

/*
 * Reads a 2xx of a REGISTER whose Contact had this URI and, if instance is
 * present, +sip.instance and reg-id.  buf (IMS_REG_ROUTE_MAX) gets the
 * Service-Route.  False: it cannot be used (malformed, or more than fits);
 * *reason says why.
 */
bool ims_reg_answer(ims_reg_answer_t *a, const ims_sip_msg_t *m,
    ims_str_t contact, ims_str_t instance, uint32_t reg_id, uint8_t *buf,
    const char **reason);


/* -- the edge's own de-REGISTER ------------------------------------------ */

typedef struct {
    ims_reg_forward_t  f;          /* expires, received are not used */
    ims_str_t          impu;
    ims_str_t          contact;    /* exact URI; empty: "*", all there are */
    ims_str_t          call_id;
    ims_str_t          from_tag;
    uint32_t           cseq;
} ims_reg_deregister_t;

/*
 * Writes it: exact Contact URI without instance or reg-id, since registrars
 * match by those first and would remove the user's new binding.  The length,
 * or -1 if it does not fit.
 */
ptrdiff_t ims_reg_deregister(uint8_t *dst, size_t cap,
    const ims_reg_deregister_t *d);


/* -- the edge's own subscription (TS 24.229 5.2.3, RFC 3680) ------------- */

typedef struct {
    ims_str_t         impu;        /* To, and outside of a dialog whom to ask */
    ims_str_t         target;      /* in a dialog: its remote target */
    ims_str_t         to_tag;      /* likewise */
    const ims_str_t  *routes;      /* values of Route, in order */
    unsigned          nroutes;
    ims_str_t         advertise;   /* HOST:PORT of Via, and our own name */
    ims_str_t         transport;   /* "TCP" */
    ims_str_t         branch;
    ims_str_t         contact;     /* URI where NOTIFY shall come to */
    ims_str_t         call_id;
    ims_str_t         from_tag;
    ims_str_t         icid;
    ims_str_t         home;
    uint32_t          cseq;
    uint32_t          expires;     /* s */
} ims_reg_subscribe_t;

/* Writes it: no byte is a client's.  The length, or -1 if it does not fit. */
ptrdiff_t ims_reg_subscribe(uint8_t *dst, size_t cap,
    const ims_reg_subscribe_t *q);


#endif /* _IMS_REGISTER_H_INCLUDED_ */
