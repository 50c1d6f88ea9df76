/*
 * Copyright (C) nginx-ims contributors
 *
 * Writing into a buffer of fixed size: what does not fit sets `over`, which
 * stays set, so that only the end result has to be looked at.
 */

#ifndef _IMS_SIP_OUT_H_INCLUDED_
#define _IMS_SIP_OUT_H_INCLUDED_


#include "base/ims_str.h"


typedef struct {
    uint8_t  *p;
    size_t    n;
    size_t    cap;
    bool      over;
} ims_out_t;


static inline ims_out_t
ims_out_set(void *p, size_t cap)
{
    return (ims_out_t) { (uint8_t *) p, 0, cap, false };
}


static inline void
ims_out_put(ims_out_t *o, const void *p, size_t n)
{
    if (n > o->cap - o->n) {
        o->over = true;
        return;
    }

    if (n) {
        memcpy(o->p + o->n, p, n);
        o->n += n;
    }
}


static inline void
ims_out_str(ims_out_t *o, ims_str_t s)
{
    ims_out_put(o, s.p, s.n);
}


static inline void
ims_out_z(ims_out_t *o, const char *z)
{
    ims_out_put(o, z, strlen(z));
}


static inline void
ims_out_c(ims_out_t *o, uint8_t c)
{
    ims_out_put(o, &c, 1);
}


static inline void
ims_out_u64(ims_out_t *o, uint64_t v)
{
    uint8_t   d[20];
    unsigned  i;

    i = sizeof(d);

    do {
        d[--i] = (uint8_t) ('0' + v % 10);
        v /= 10;
    } while (v);

    ims_out_put(o, d + i, sizeof(d) - i);
}


#endif /* _IMS_SIP_OUT_H_INCLUDED_ */
