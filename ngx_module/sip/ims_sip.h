/*
 * Copyright (C) nginx-ims contributors
 *
 * SIP messages as slices (RFC 3261): strict, without copies or allocation,
 * in time linear to the length.
 *
 * Everything points into the caller's buffer and is valid as long as that is.
 * The buffer is changed in place before it is looked at: folded lines are
 * unfolded (the CRLF becomes two spaces) and spaces in front of a header's
 * colon go behind it, so that what was checked is what is sent.
 */

#ifndef _IMS_SIP_H_INCLUDED_
#define _IMS_SIP_H_INCLUDED_


#include "base/ims_str.h"
#include "sip/ims_sip_hdr.h"
#include "sip/ims_sip_uri.h"


#define IMS_SIP_MAX_HEADERS   256
#define IMS_SIP_NONE          0xffff      /* no such header */


typedef enum {
    IMS_SIP_M_OTHER = 0,
    IMS_SIP_M_REGISTER,
    IMS_SIP_M_INVITE,
    IMS_SIP_M_ACK,
    IMS_SIP_M_BYE,
    IMS_SIP_M_CANCEL,
    IMS_SIP_M_OPTIONS,
    IMS_SIP_M_MESSAGE,
    IMS_SIP_M_SUBSCRIBE,
    IMS_SIP_M_NOTIFY,
    IMS_SIP_M_INFO,
    IMS_SIP_M_UPDATE,
    IMS_SIP_M_PRACK,
    IMS_SIP_M_REFER,
    IMS_SIP_M_PUBLISH
} ims_sip_method_e;


/* one parameter; name.p == NULL: absent */
typedef struct {
    ims_str_t           name;
    ims_str_t           value;      /* as written, with its quotes;
                                       {NULL, 0} without '=' */
    ims_str_t           whole;      /* from its ';' to the value's end */
} ims_sip_param_t;


typedef struct {
    ims_str_t           whole;
    ims_str_t           transport;  /* "WSS" */
    ims_str_t           host;       /* [..] kept around IPv6 */
    ims_str_t           params;     /* from the first ';', inclusive */
    ims_sip_param_t     branch;
    ims_sip_param_t     received;
    ims_sip_param_t     rport;
    uint16_t            port;       /* 0: none given */
} ims_sip_via_t;


/* name-addr or addr-spec with what follows it */
typedef struct {
    ims_str_t           whole;
    ims_str_t           display;    /* as written, with its quotes */
    ims_str_t           uri;
    ims_str_t           params;     /* from the first ';', inclusive */
    bool                bracketed;
} ims_sip_addr_t;


typedef struct {
    bool                star;       /* "*", nothing else is set */
    ims_sip_addr_t      addr;
    ims_sip_param_t     expires;
    ims_sip_param_t     q;
    ims_sip_param_t     instance;   /* +sip.instance */
    ims_sip_param_t     reg_id;
} ims_sip_contact_t;


typedef struct {
    ims_str_t           name;       /* as written */
    ims_str_t           value;      /* trimmed, unfolded */
    ims_str_t           line;       /* with its CRLF */
    uint16_t            id;         /* ims_sip_hdr_id_t */
    uint16_t            next;       /* next of the same id, IMS_SIP_NONE */
} ims_sip_hdr_t;


/* about 17 KB: one a worker, not one a message */
typedef struct {
    ims_str_t           raw;        /* the whole message */
    ims_str_t           start;      /* the first line, without CRLF */
    ims_str_t           body;

    bool                request;

    /* request: from the first line; response: from CSeq */
    ims_str_t           method;
    unsigned            method_id;

    ims_str_t           uri;        /* Request-URI as text and parsed */
    ims_sip_uri_t       ruri;

    unsigned            status;     /* response: 100 to 699 */
    ims_str_t           reason;

    uint32_t            cseq;
    int                 max_forwards;      /* -1: absent (RFC 3261 16.3) */
    ims_str_t           call_id;
    ims_sip_via_t       via;               /* the topmost */
    ims_sip_addr_t      from;
    ims_sip_addr_t      to;
    ims_str_t           from_tag;          /* {NULL, 0}: none */
    ims_str_t           to_tag;

    unsigned            nhdr;
    ims_sip_hdr_t       hdr[IMS_SIP_MAX_HEADERS];

    /* by id; IMS_SIP_H_OTHER is counted but not chained */
    uint16_t            first[IMS_SIP_H_COUNT];
    uint16_t            last[IMS_SIP_H_COUNT];
    uint16_t            count[IMS_SIP_H_COUNT];
} ims_sip_msg_t;


typedef struct {
    unsigned            status;     /* what to answer: 400, 505, 513 */
    const char         *reason;     /* static text, names the fault */
    size_t              offset;     /* where in the buffer, about */

    /*
     * True if this is a request (not ACK) of which enough was understood for
     * ims_sip_reply(): Via and CSeq are in the message.
     */
    bool                answerable;
} ims_sip_err_t;


/* flags of ims_sip_parse(): which transport's rule for the body */
#define IMS_SIP_WS      1   /* RFC 7118 5: Content-Length optional, but if
                               present equal to what follows the headers */
#define IMS_SIP_STREAM  2   /* Content-Length required, and equal */
#define IMS_SIP_DGRAM   4   /* RFC 3261 18.3: optional; more bytes than it
                               says are cut off, fewer are an error */

/*
 * Parses and checks one message of n bytes.  0, or -1 with *err set; m is
 * then good for ims_sip_reply() only, and for that only if err->answerable.
 *
 * Refused: bare CR or LF, control characters (but HTAB, and quoted pairs in
 * quoted strings, as the grammar has it), a header name that is not a token,
 * a folded first header, no empty line, more than IMS_SIP_MAX_HEADERS
 * headers; repeated headers that may appear once, long and compact names
 * counted together; no Via, From, To, Call-ID or CSeq; any Via value, From,
 * To, Call-ID, CSeq, Max-Forwards, Content-Length or Request-URI against the
 * grammar or out of range; a CSeq method other than the request's; a
 * Content-Length against the rule of the transport.
 *
 * Left to who uses them: all other headers; the scheme of the Request-URI
 * (416); branches without the magic cookie (ims_sip_branch_ok()); absent
 * From tags (RFC 2543); absent Max-Forwards.
 */
int ims_sip_parse(ims_sip_msg_t *m, uint8_t *buf, size_t n, unsigned flags,
    ims_sip_err_t *err);


/* ims_sip_frame() */
#define IMS_SIP_FRAME_OK          0   /* a message of *msglen bytes is here */
#define IMS_SIP_FRAME_MORE        1   /* read on, call again */
#define IMS_SIP_FRAME_KEEPALIVE   2   /* CRLF CRLF: drop *msglen bytes, answer
                                         CRLF (RFC 5626 4.4.1) */
#define IMS_SIP_FRAME_CRLF        3   /* stray CRLF: drop *msglen bytes */
#define IMS_SIP_FRAME_ERROR     (-1)  /* not SIP, or no way to tell its end:
                                         the connection is of no use */
#define IMS_SIP_FRAME_TOO_BIG   (-2)  /* longer than max: *msglen bytes, or 0
                                         if its headers do not end within max;
                                         not to be called again for it */

/*
 * The length of the first message in a stream (RFC 3261 18.3, 20.14).
 * buf always starts at the message; *scanned and *msglen are set to 0 by the
 * caller before each message and left alone between calls for it, which makes
 * any number of calls linear.  Exactly one Content-Length (or l), digits only.
 */
int ims_sip_frame(const uint8_t *buf, size_t n, size_t max, size_t *scanned,
    size_t *msglen);

/*
 * The headers of a message whose body is of no interest, made into a message
 * without one: its length, the Content-Length in it is 0.  0: the headers are
 * not all there.
 */
size_t ims_sip_frame_bodiless(uint8_t *buf, size_t n);


/* The first header of an id, NULL if there is none. */
static inline const ims_sip_hdr_t *
ims_sip_hdr(const ims_sip_msg_t *m, unsigned id)
{
    return m->first[id] == IMS_SIP_NONE ? NULL : &m->hdr[m->first[id]];
}


/* The value of the first header of an id, {NULL, 0} if there is none. */
static inline ims_str_t
ims_sip_hdr_value(const ims_sip_msg_t *m, unsigned id)
{
    return m->first[id] == IMS_SIP_NONE ? IMS_STR_NULL
                                        : m->hdr[m->first[id]].value;
}


/*
 * Walks over the comma-separated values of all headers of an id.
 *
 *     ims_sip_values(&it, m, IMS_SIP_H_ROUTE);
 *     while ((rc = ims_sip_value_next(&it, &v)) == 1) { ... it.hdr ... }
 *
 * 1: *v is a value, trimmed, from the header with index it.hdr.  0: no more.
 * -1: an empty value between commas, or a quote or '<' that is not closed.
 * Not for Authorization and its kin, Date, or other headers whose commas are
 * no separators.
 */
typedef struct {
    const ims_sip_msg_t  *m;
    const uint8_t        *p;
    const uint8_t        *end;
    uint16_t              hdr;
    uint16_t              next;
} ims_sip_values_t;

void ims_sip_values(ims_sip_values_t *it, const ims_sip_msg_t *m, unsigned id);
int ims_sip_value_next(ims_sip_values_t *it, ims_str_t *v);

/* The same over a single text: it.hdr is IMS_SIP_NONE. */
void ims_sip_values_text(ims_sip_values_t *it, ims_str_t text);

/*
 * The first value of a header id and how many there are, at most 2 counted;
 * -1 if malformed.
 */
int ims_sip_value_first(const ims_sip_msg_t *m, unsigned id, ims_str_t *v);

/* True if a list of tokens (Supported, Require, ...) has that one. */
bool ims_sip_list_has(const ims_sip_msg_t *m, unsigned id, const char *token);


/* Each takes one value, trimmed.  False if it is not by the grammar. */
bool ims_sip_via_parse(ims_str_t value, ims_sip_via_t *v);
bool ims_sip_addr_parse(ims_str_t value, ims_sip_addr_t *a);
bool ims_sip_cseq_parse(ims_str_t value, uint32_t *num, ims_str_t *method);

/*
 * A Contact value.  False also if expires, q, +sip.instance or reg-id stand
 * there twice.  The values are not judged: ims_sip_delta() for expires.
 */
bool ims_sip_contact_parse(ims_str_t value, ims_sip_contact_t *c);

unsigned ims_sip_method_id(ims_str_t method);

/* z9hG4bK and at least one more character (RFC 3261 8.1.1.7) */
bool ims_sip_branch_ok(ims_str_t branch);


/*
 * Takes the next ";name[=value]" off *rest (which starts with ';' or is
 * empty).  1, 0 at the end, -1 if malformed.
 */
int ims_sip_param_next(ims_str_t *rest, ims_sip_param_t *p);

/*
 * Looks for a parameter, name in any case.  Returns how often it is there
 * (*p is the first one), 0, or -1 if the parameters are malformed.
 */
int ims_sip_param_find(ims_str_t params, const char *name,
    ims_sip_param_t *p);

/*
 * The value only, if the parameter is there exactly once and has one: as
 * written, with its quotes.
 */
bool ims_sip_param(ims_str_t params, const char *name, ims_str_t *value);

/*
 * What is between the quotes (escapes left as they are); a value that is not
 * a quoted string is returned unchanged.
 */
ims_str_t ims_sip_unquoted(ims_str_t value);


/* Splits "Scheme params" (Authorization and its kin, WWW-Authenticate). */
bool ims_sip_auth_parse(ims_str_t value, ims_str_t *scheme, ims_str_t *params);

/*
 * An auth-param (comma-separated name=value) by name, in any case; value as
 * written, with its quotes.  Returns how often it is there, 0, or -1 if the
 * list is malformed.
 */
int ims_sip_auth_param(ims_str_t params, const char *name, ims_str_t *value);

/*
 * The token of "Bearer <token68>" (RFC 8898), "Bearer access_token="..."" or
 * unquoted (TS 24.371 A.3.2).  False for other schemes, for an empty or
 * malformed token and for a repeated access_token.
 */
bool ims_sip_bearer(ims_str_t value, ims_str_t *token);


/* delta-seconds: digits only, at most 2^32 - 1 */
bool ims_sip_delta(ims_str_t s, uint32_t *v);


typedef struct {
    unsigned            status;
    const char         *reason;

    /* put into To if that has none and the status is not 100; may be absent */
    ims_str_t           to_tag;

    /* for the topmost Via; absent = leave it as it is */
    ims_str_t           received;
    uint16_t            rport;      /* written if the client asked for it */

    ims_str_t           extra;      /* whole header lines, each with CRLF */
    ims_str_t           body;       /* extra has its Content-Type */
} ims_sip_reply_t;

/*
 * Writes a response to request m (RFC 3261 8.2.6): Via lines in order, From,
 * To, Call-ID, CSeq, extra, Content-Length, body.  Returns the length, or -1
 * if it does not fit or m lacks one of those headers.
 */
ptrdiff_t ims_sip_reply(uint8_t *dst, size_t cap, const ims_sip_msg_t *m,
    const ims_sip_reply_t *r);


#endif /* _IMS_SIP_H_INCLUDED_ */
