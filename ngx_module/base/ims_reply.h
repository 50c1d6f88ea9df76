/*
 * Copyright (C) nginx-ims contributors
 *
 * The client's side of RESP2, as narrow as the pool manager speaks it
 * (doc/pool-protocol.md): commands are arrays of bulk strings, a reply is a
 * line, a number, a bulk string, a flat array of these, or an array of such
 * arrays.
 *
 * Nothing is copied or allocated, and no length that the other end announces
 * is believed before it is held against a limit.
 */

#ifndef _IMS_REPLY_H_INCLUDED_
#define _IMS_REPLY_H_INCLUDED_


#include "base/ims_str.h"


#define IMS_REPLY_ELEMENTS   384
#define IMS_REPLY_ROWS       16         /* arrays in an array */
#define IMS_REPLY_MAX        (64 * 1024)    /* bytes a reply, framing too */


typedef struct {
    uint8_t      type;          /* '+', '-', ':', '$' or '*' */
    ims_str_t    text;          /* of '+', '-', '$'; absent: the null string */
    int64_t      number;        /* of ':' */
    unsigned     n;             /* of a flat '*': its elements, as text */
    ims_str_t    element[IMS_REPLY_ELEMENTS];

    /* of an array of arrays (n is 0 then): where each begins and ends */
    unsigned     nrows;
    struct {
        uint16_t  first;
        uint16_t  end;
    } row[IMS_REPLY_ROWS];
} ims_reply_t;


/* Opaque but for zeroing: how far a reply was understood. */
typedef struct {
    uint32_t     pos;           /* from the reply's first byte */
    uint32_t     left;          /* elements still to come */
    uint32_t     seen;
    uint32_t     row_left;      /* likewise, of the array in it */
    uint32_t     nrows;
    uint16_t     row[IMS_REPLY_ROWS];
    bool         array;
    struct {
        uint32_t  off;
        uint32_t  len;
        bool      null;
    } slice[IMS_REPLY_ELEMENTS];
} ims_reply_parser_t;


void ims_reply_reset(ims_reply_parser_t *p);

/*
 * Goes on with the reply that begins at buf[0]; n bytes of it, and of what
 * follows, have arrived.  The buffer may have moved since the last call, so
 * long as it still begins with the same reply.
 *
 * Returns the reply's length and fills *r, whose slices point into buf; or 0
 * if more is needed; or -1 if this is no such reply, or longer than
 * IMS_REPLY_MAX: the connection is then of no use.  Reset before the next one.
 */
ptrdiff_t ims_reply_parse(ims_reply_parser_t *p, const uint8_t *buf, size_t n,
    ims_reply_t *r);

/*
 * In an array of names and values: the i-th value (from 0) of that name.
 * Absent slice: there is none.
 */
ims_str_t ims_reply_value(const ims_reply_t *r, const char *name, unsigned i);

/* The same in one of an array's arrays; row < r->nrows. */
ims_str_t ims_reply_row_value(const ims_reply_t *r, unsigned row,
    const char *name, unsigned i);


/* Bytes that a command of these arguments takes. */
size_t ims_command_len(const ims_str_t *args, unsigned nargs);

/* Writes it; dst holds ims_command_len() bytes.  Returns its end. */
uint8_t *ims_command_write(uint8_t *dst, const ims_str_t *args,
    unsigned nargs);


#endif /* _IMS_REPLY_H_INCLUDED_ */
