/*
 * Copyright (C) nginx-ims contributors
 *
 * UTF-8 validation that can stop at any byte (RFC 3629 section 4).
 */

#ifndef _IMS_UTF8_H_INCLUDED_
#define _IMS_UTF8_H_INCLUDED_


#include "base/ims_str.h"


typedef struct {
    uint8_t  need;          /* continuation bytes still to come */
    uint8_t  lo;            /* bounds of the next one */
    uint8_t  hi;
} ims_utf8_t;


/* All zero is the start of a text. */
static inline void
ims_utf8_init(ims_utf8_t *u)
{
    u->need = 0;
    u->lo = 0;
    u->hi = 0;
}


/* Takes the next bytes of a text; false as soon as they cannot be UTF-8. */
bool ims_utf8_feed(ims_utf8_t *u, const uint8_t *p, size_t n);


/* True if the text may end here. */
static inline bool
ims_utf8_done(const ims_utf8_t *u)
{
    return u->need == 0;
}


/* A whole text at once. */
bool ims_utf8_ok(ims_str_t s);


#endif /* _IMS_UTF8_H_INCLUDED_ */
