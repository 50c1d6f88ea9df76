/*
 * Copyright (C) nginx-ims contributors
 *
 * Ranges of names: "sip:web-[0000-9999]@ims.example".
 */

#include "ims_pool_wint.h"


#define IMS_POOL_RANGE_DIGITS  9


/*
 * A bracket with a colon in it is an IPv6 address; any other one must be a
 * range, and the only one.
 */
bool
ims_pool_range_parse(ims_str_t text, ims_pool_range_t *range)
{
    ims_str_t       in, first, last;
    const uint8_t  *p, *end, *open, *close, *dash;

    memset(range, 0, sizeof(ims_pool_range_t));
    range->before = text;

    end = text.p + text.n;

    for (p = text.p; p < end; p = close + 1) {
        open = memchr(p, '[', (size_t) (end - p));
        close = open == NULL ? NULL
                             : memchr(open, ']', (size_t) (end - open));

        if (open == NULL) {
            break;
        }

        if (close == NULL) {
            return false;
        }

        in = ims_str_range(open + 1, close);

        if (memchr(in.p, ':', in.n) != NULL) {
            continue;
        }

        dash = memchr(in.p, '-', in.n);

        if (dash == NULL || range->width) {
            return false;
        }

        first = ims_str_range(in.p, dash);
        last = ims_str_range(dash + 1, close);

        if (first.n != last.n || first.n > IMS_POOL_RANGE_DIGITS
            || !ims_str_u32(first, &range->first)
            || !ims_str_u32(last, &range->last)
            || range->first > range->last)
        {
            return false;
        }

        range->width = (unsigned) first.n;
        range->before = ims_str_range(text.p, open);
        range->after = ims_str_range(close + 1, end);
    }

    return text.n != 0;
}


uint32_t
ims_pool_range_count(const ims_pool_range_t *range)
{
    return range->last - range->first + 1;
}


size_t
ims_pool_range_name(const ims_pool_range_t *range, uint32_t i, uint8_t *dst,
    size_t cap)
{
    size_t    n;
    uint8_t  *p;
    unsigned  d;
    uint32_t  v;

    n = range->before.n + range->width + range->after.n;

    if (n > cap) {
        return 0;
    }

    memcpy(dst, range->before.p, range->before.n);
    p = dst + range->before.n;

    v = range->first + i;

    for (d = range->width; d > 0; d--) {
        p[d - 1] = (uint8_t) ('0' + v % 10);
        v /= 10;
    }

    if (range->after.n) {
        memcpy(p + range->width, range->after.p, range->after.n);
    }

    return n;
}
