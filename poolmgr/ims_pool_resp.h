/*
 * Copyright (C) nginx-ims contributors
 *
 * The pool manager's side of RESP2, as far as POOL.md section 3 takes it: a
 * command is an array of bulk strings, nothing else, depth 1.  What the wire
 * says is in doc/pool-protocol.md.
 *
 * The parser copies nothing and allocates nothing.  It is resumable at any
 * byte: what was understood is kept as offsets from the command's first byte,
 * so the buffer may grow or move between two calls.
 */

#ifndef _IMS_POOL_RESP_H_INCLUDED_
#define _IMS_POOL_RESP_H_INCLUDED_


#include "base/ims_str.h"


#define IMS_RESP_ARGS       64              /* arguments, the name included */
#define IMS_RESP_MAX        (64 * 1024)     /* bytes a command, framing too */
#define IMS_RESP_MAX_ADMIN  (1024 * 1024)


/* what ims_resp_parse() returns */
enum {
    IMS_RESP_OK = 0,
    IMS_RESP_AGAIN,         /* the command is not complete */
    IMS_RESP_GARBAGE,       /* not this protocol: close without a word */
    IMS_RESP_TOO_MANY,      /* over IMS_RESP_ARGS arguments */
    IMS_RESP_TOO_BIG        /* over the limit of bytes */
};

typedef struct {
    uint32_t        off;
    uint32_t        len;
} ims_resp_slice_t;

/* Zeroed before each command (ims_resp_reset), otherwise opaque but nargs. */
typedef struct {
    uint32_t          nargs;    /* announced; complete after IMS_RESP_OK */
    uint32_t          seen;     /* arguments complete */
    uint32_t          pos;      /* bytes understood; the length after OK */
    unsigned          head:1;   /* the array's header was read */
    unsigned          body:1;   /* in the bytes of args[seen] */
    ims_resp_slice_t  args[IMS_RESP_ARGS];
} ims_resp_parser_t;


void ims_resp_reset(ims_resp_parser_t *p);

/*
 * Goes on with the command that begins at buf[0]; n is what has arrived of it
 * and of whatever follows, max the limit of bytes for one command.
 *
 * After IMS_RESP_OK the command is buf[0 .. p->pos) and its arguments are
 * ims_resp_arg(); reset before the next.  An announced length is held against
 * max before one byte of it is waited for: more than max + 1 bytes need never
 * be buffered.  Errors are final; numbers are digits only, one CRLF each.
 */
int ims_resp_parse(ims_resp_parser_t *p, const uint8_t *buf, size_t n,
    size_t max);

/* Argument i, a slice of buf; i < p->nargs. */
ims_str_t ims_resp_arg(const ims_resp_parser_t *p, const uint8_t *buf,
    unsigned i);


/*
 * Replies are appended to a growing buffer.  When memory ends, the buffer
 * remembers that (failed) and takes nothing more: test it once, at the end.
 */
typedef struct {
    uint8_t        *p;
    size_t          n;
    size_t          cap;
    bool            failed;
} ims_resp_buf_t;


/* n more bytes of room, uninitialised; NULL if there is no memory */
uint8_t *ims_resp_room(ims_resp_buf_t *b, size_t n);
void ims_resp_raw(ims_resp_buf_t *b, const void *p, size_t n);
void ims_resp_free(ims_resp_buf_t *b);

/*
 * "+" and "-" lines.  line is a text of ours, never of a client: CR and LF in
 * it would forge a reply, so that it is cut there.
 */
void ims_resp_simple(ims_resp_buf_t *b, const char *line);
void ims_resp_error(ims_resp_buf_t *b, const char *line);

/* "-WORD <number>" */
void ims_resp_error_n(ims_resp_buf_t *b, const char *word, uint64_t n);

void ims_resp_int(ims_resp_buf_t *b, uint64_t n);
void ims_resp_array(ims_resp_buf_t *b, size_t n);
void ims_resp_bulk(ims_resp_buf_t *b, ims_str_t s);
void ims_resp_bulk_z(ims_resp_buf_t *b, const char *z);
void ims_resp_bulk_u64(ims_resp_buf_t *b, uint64_t n);


#endif /* _IMS_POOL_RESP_H_INCLUDED_ */
