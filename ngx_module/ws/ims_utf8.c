/*
 * Copyright (C) nginx-ims contributors
 */

#include "ws/ims_utf8.h"


/* the lead byte says how many follow and what the first of them may be */

static bool
ims_utf8_lead(ims_utf8_t *u, uint8_t c)
{
    u->lo = 0x80;
    u->hi = 0xbf;

    if (c >= 0xc2 && c <= 0xdf) {
        u->need = 1;
        return true;
    }

    if (c >= 0xe0 && c <= 0xef) {
        u->need = 2;

        if (c == 0xe0) {
            u->lo = 0xa0;       /* else it would have fitted two bytes */

        } else if (c == 0xed) {
            u->hi = 0x9f;       /* the surrogates */
        }

        return true;
    }

    if (c >= 0xf0 && c <= 0xf4) {
        u->need = 3;

        if (c == 0xf0) {
            u->lo = 0x90;       /* else it would have fitted three */

        } else if (c == 0xf4) {
            u->hi = 0x8f;       /* beyond U+10FFFF */
        }

        return true;
    }

    return false;
}


bool
ims_utf8_feed(ims_utf8_t *u, const uint8_t *p, size_t n)
{
    uint64_t        word;
    const uint8_t  *end;

    end = p + n;

    while (p < end) {

        if (u->need) {
            if (*p < u->lo || *p > u->hi) {
                return false;
            }

            u->need--;
            u->lo = 0x80;
            u->hi = 0xbf;
            p++;
            continue;
        }

        /* SIP is nearly all ASCII */

        while (end - p >= 8) {
            memcpy(&word, p, 8);

            if (word & 0x8080808080808080ULL) {
                break;
            }

            p += 8;
        }

        while (p < end && *p < 0x80) {
            p++;
        }

        if (p < end && !ims_utf8_lead(u, *p++)) {
            return false;
        }
    }

    return true;
}


bool
ims_utf8_ok(ims_str_t s)
{
    ims_utf8_t  u;

    ims_utf8_init(&u);

    return ims_utf8_feed(&u, s.p, s.n) && ims_utf8_done(&u);
}
