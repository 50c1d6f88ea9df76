/*
 * Copyright (C) nginx-ims contributors
 *
 * Edits of a parsed message as a list of slices: what is not touched is sent
 * from where it was received.
 *
 * All texts given to the editor are slices too and must live until the output
 * was used; texts put together on the way go to the scratch arena, by
 * ims_sip_edit_cat().  Whatever fails (arena or list full, a control
 * character in a header value) is remembered and comes out at finish: the
 * calls in between need no test.
 */

#ifndef _IMS_SIP_EDIT_H_INCLUDED_
#define _IMS_SIP_EDIT_H_INCLUDED_


#include "sip/ims_sip.h"
#include "sip/ims_sip_out.h"


#define IMS_SIP_EDIT_MAX      96     /* edits, dropped headers not counted */
/* a piece around each edit and each run of dropped headers */
#define IMS_SIP_EDIT_SLICES                                                   \
    (IMS_SIP_MAX_HEADERS / 2 + 3 * IMS_SIP_EDIT_MAX + 8)

/* an edit of the header block: `len` bytes at `at` become `text` */
typedef struct {
    const uint8_t        *at;
    size_t                len;
    ims_str_t             text;
} ims_sip_splice_t;


typedef struct {
    const ims_sip_msg_t  *m;

    ims_str_t             start;
    ims_str_t             body;
    ims_out_t             scratch;

    unsigned              nsplice;
    ims_sip_splice_t      splice[IMS_SIP_EDIT_MAX];   /* sorted by place */

    unsigned              nappend;
    ims_str_t             append[IMS_SIP_EDIT_MAX];

    uint8_t               drop[IMS_SIP_MAX_HEADERS];

    const char           *error;      /* static text, NULL if all is well */

    /* the result of ims_sip_edit_finish() */
    unsigned              nout;
    ims_str_t             out[IMS_SIP_EDIT_SLICES];
    size_t                total;
} ims_sip_edit_t;


/* scratch: where texts are put together; some hundred bytes an inserted line */
void ims_sip_edit_init(ims_sip_edit_t *ed, const ims_sip_msg_t *m,
    void *scratch, size_t cap);

/* A copy of parts one behind the other, in the arena. */
ims_str_t ims_sip_edit_cat(ims_sip_edit_t *ed, const ims_str_t *parts,
    unsigned nparts);

/* Another first line; text without CRLF. */
void ims_sip_edit_start(ims_sip_edit_t *ed, ims_str_t line);

/* Another Request-URI, method and version as they are. */
void ims_sip_edit_ruri(ims_sip_edit_t *ed, ims_str_t uri);

/* Drop a header by its index, or all of an id.  The last word on a header. */
void ims_sip_edit_drop(ims_sip_edit_t *ed, unsigned hdr);
void ims_sip_edit_drop_id(ims_sip_edit_t *ed, unsigned id);

/* Another value for a header: its name stays. */
void ims_sip_edit_value(ims_sip_edit_t *ed, unsigned hdr, ims_str_t value);

/*
 * Replace bytes inside a header: old is a slice of the message (of length 0:
 * insert there).  Edits of one message may not overlap.
 */
void ims_sip_edit_splice(ims_sip_edit_t *ed, ims_str_t old, ims_str_t text);

/*
 * Set a parameter: replaces *old where present, else appends
 * ";name[=value]" to the value `of` (a Via, Contact, ... as parsed).
 * value.p == NULL: without "=".
 */
void ims_sip_edit_param(ims_sip_edit_t *ed, ims_str_t of,
    const ims_sip_param_t *old, const char *name, ims_str_t value);

/*
 * received= and, if the client asked for it, rport= of the topmost Via
 * (RFC 3261 18.2.1, RFC 3581 4).  received= is always written: with .invalid
 * names (RFC 7118 5.2) it never equals the host.
 */
void ims_sip_edit_received(ims_sip_edit_t *ed, ims_str_t addr, uint16_t port);

/*
 * Insert a header "name: value" above all others, before the header with that
 * index, or below all others (in the order of the calls).  name is static;
 * a control character in value is an error.
 */
void ims_sip_edit_top(ims_sip_edit_t *ed, const char *name, ims_str_t value);
void ims_sip_edit_before(ims_sip_edit_t *ed, unsigned hdr, const char *name,
    ims_str_t value);
void ims_sip_edit_append(ims_sip_edit_t *ed, const char *name,
    ims_str_t value);

/* Another body; Content-Type is the caller's matter. */
void ims_sip_edit_body(ims_sip_edit_t *ed, ims_str_t body);

/*
 * Puts the message together: ed->out[0 .. nout - 1], ed->total bytes.  The
 * Content-Length lines of the message are left out, one of our own with the
 * right number is the last header.  0, or -1 with ed->error.
 */
int ims_sip_edit_finish(ims_sip_edit_t *ed);

/* Finish and copy out.  The length, or -1 (error, or cap too small). */
ptrdiff_t ims_sip_edit_flatten(ims_sip_edit_t *ed, void *dst, size_t cap);


#endif /* _IMS_SIP_EDIT_H_INCLUDED_ */
