/*
 * Copyright (C) nginx-ims contributors
 */

#include "flow/ims_siphash.h"


#define IMS_ROTL(x, b)  (((x) << (b)) | ((x) >> (64 - (b))))


static inline void
ims_sipround(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = IMS_ROTL(v[1], 13) ^ v[0];
    v[3] = IMS_ROTL(v[3], 16) ^ v[2];
    v[0] = IMS_ROTL(v[0], 32);

    v[2] += v[1];
    v[0] += v[3];
    v[1] = IMS_ROTL(v[1], 17) ^ v[2];
    v[3] = IMS_ROTL(v[3], 21) ^ v[0];
    v[2] = IMS_ROTL(v[2], 32);
}


static inline void
ims_sip_word(uint64_t v[4], uint64_t m)
{
    v[3] ^= m;
    ims_sipround(v);
    ims_sipround(v);
    v[0] ^= m;
}


/* little-endian whatever the machine is: the test vectors say so */

static inline uint64_t
ims_sip_load(const uint8_t *p, size_t n)
{
    size_t    i;
    uint64_t  m;

    m = 0;

    for (i = 0; i < n; i++) {
        m |= (uint64_t) p[i] << (8 * i);
    }

    return m;
}


uint64_t
ims_siphash(const ims_siphash_key_t *k, const void *data, size_t n)
{
    size_t          left;
    uint64_t        v[4];
    const uint8_t  *p;

    v[0] = k->k0 ^ 0x736f6d6570736575ull;
    v[1] = k->k1 ^ 0x646f72616e646f6dull;
    v[2] = k->k0 ^ 0x6c7967656e657261ull;
    v[3] = k->k1 ^ 0x7465646279746573ull;

    p = data;

    for (left = n; left >= 8; left -= 8) {
        ims_sip_word(v, ims_sip_load(p, 8));
        p += 8;
    }

    ims_sip_word(v, (uint64_t) n << 56 | ims_sip_load(p, left));

    v[2] ^= 0xff;

    ims_sipround(v);
    ims_sipround(v);
    ims_sipround(v);
    ims_sipround(v);

    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
