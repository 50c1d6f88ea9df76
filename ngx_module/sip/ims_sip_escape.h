/*
 * Copyright (C) nginx-ims contributors
 *
 * What the files on URIs share: escapes, separators, parameters.
 */

#ifndef _IMS_SIP_ESCAPE_H_INCLUDED_
#define _IMS_SIP_ESCAPE_H_INCLUDED_


#include "base/ims_str.h"


static inline int
ims_sip_hex(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }

    c = ims_lower(c);

    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}


/* The byte that %HH at p stands for, -1 if that is none. */
static inline int
ims_sip_unescape(const uint8_t *p, const uint8_t *end)
{
    int  h, l;

    if (end - p < 3 || *p != '%') {
        return -1;
    }

    h = ims_sip_hex(p[1]);
    l = ims_sip_hex(p[2]);

    return h < 0 || l < 0 ? -1 : h * 16 + l;
}


/* RFC 3966 visual-separator */
static inline bool
ims_sip_tel_separator(uint8_t c)
{
    return c == '-' || c == '.' || c == '(' || c == ')';
}


/*
 * Takes ";name[=value]" off the parameters of a URI: 1, 0 at the end, -1 if
 * there is no name.  *value is {NULL, 0} without '='.
 */
int ims_sip_uri_param_next(ims_str_t *rest, ims_str_t *name,
    ims_str_t *value);


#endif /* _IMS_SIP_ESCAPE_H_INCLUDED_ */
