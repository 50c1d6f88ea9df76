/*
 * Copyright (C) nginx-ims contributors
 *
 * Character classes of the SIP grammar (RFC 3261 25.1), one table.
 */

#ifndef _IMS_SIP_CHARS_H_INCLUDED_
#define _IMS_SIP_CHARS_H_INCLUDED_


#include "base/ims_str.h"


#define IMS_CH_TOKEN    0x001   /* token */
#define IMS_CH_WORD     0x002   /* word, as in Call-ID, but '@' */
#define IMS_CH_UNRES    0x004   /* unreserved */
#define IMS_CH_USER     0x008   /* user-unreserved and unreserved */
#define IMS_CH_PARAM    0x010   /* param-unreserved and unreserved */
#define IMS_CH_HNV      0x020   /* hnv-unreserved and unreserved */
#define IMS_CH_HOST     0x040   /* hostname, IPv4address */
#define IMS_CH_TEL      0x080   /* phonedigit-hex with visual separators, + */
#define IMS_CH_URI      0x100   /* printable, no space, quotes or <> */
#define IMS_CH_T68      0x200   /* token68, but the '=' at its end */
#define IMS_CH_VALUE    0x400   /* value of a header parameter, unquoted */
#define IMS_CH_DIGIT    0x800

extern const uint16_t  ims_sip_chars[256];


static inline bool
ims_ch(uint8_t c, unsigned cls)
{
    return (ims_sip_chars[c] & cls) != 0;
}


/* The first byte from p on that is not in the class. */
static inline const uint8_t *
ims_ch_skip(const uint8_t *p, const uint8_t *end, unsigned cls)
{
    while (p < end && (ims_sip_chars[*p] & cls)) {
        p++;
    }

    return p;
}


static inline const uint8_t *
ims_ch_skip_ws(const uint8_t *p, const uint8_t *end)
{
    while (p < end && (*p == ' ' || *p == '\t')) {
        p++;
    }

    return p;
}


/* True if s is not empty and all of it is in the class. */
static inline bool
ims_ch_all(ims_str_t s, unsigned cls)
{
    return s.n != 0 && ims_ch_skip(s.p, s.p + s.n, cls) == s.p + s.n;
}


#endif /* _IMS_SIP_CHARS_H_INCLUDED_ */
