/*
 * Copyright (C) nginx-ims contributors
 */

/*
 * The low-level SHA-256 calls are marked deprecated in OpenSSL 3, but only
 * they let a prepared state be copied without an allocation.
 */
#define OPENSSL_SUPPRESS_DEPRECATED

#include <openssl/sha.h>

#include "base/ims_hmac.h"


#define IMS_HMAC_BLOCK  64

_Static_assert(sizeof(SHA256_CTX) <= sizeof(((ims_hmac_key_t *) 0)->inner),
               "a SHA-256 state must fit ims_hmac_key_t");


static void
ims_hmac_pad(uint64_t *state, const uint8_t *key, uint8_t with)
{
    size_t      i;
    uint8_t     pad[IMS_HMAC_BLOCK];
    SHA256_CTX  ctx;

    for (i = 0; i < IMS_HMAC_BLOCK; i++) {
        pad[i] = key[i] ^ with;
    }

    SHA256_Init(&ctx);
    SHA256_Update(&ctx, pad, sizeof(pad));

    memcpy(state, &ctx, sizeof(ctx));
}


void
ims_hmac_key(ims_hmac_key_t *k, const void *key, size_t n)
{
    uint8_t  block[IMS_HMAC_BLOCK];

    memset(block, 0, sizeof(block));

    if (n > sizeof(block)) {
        SHA256(key, n, block);

    } else if (n) {
        memcpy(block, key, n);
    }

    memset(k, 0, sizeof(ims_hmac_key_t));
    ims_hmac_pad(k->inner, block, 0x36);
    ims_hmac_pad(k->outer, block, 0x5c);
}


static void
ims_sha_parts(SHA256_CTX *ctx, const ims_str_t *parts, unsigned nparts)
{
    uint8_t   len[4];
    unsigned  i;

    for (i = 0; i < nparts; i++) {
        len[0] = (uint8_t) (parts[i].n >> 24);
        len[1] = (uint8_t) (parts[i].n >> 16);
        len[2] = (uint8_t) (parts[i].n >> 8);
        len[3] = (uint8_t) parts[i].n;

        SHA256_Update(ctx, len, sizeof(len));
        SHA256_Update(ctx, parts[i].p, parts[i].n);
    }
}


static void
ims_hmac_finish(const ims_hmac_key_t *k, SHA256_CTX *ctx, uint8_t *out,
    size_t outlen)
{
    uint8_t     digest[IMS_HMAC_LEN];
    SHA256_CTX  outer;

    SHA256_Final(digest, ctx);

    memcpy(&outer, k->outer, sizeof(outer));
    SHA256_Update(&outer, digest, sizeof(digest));
    SHA256_Final(digest, &outer);

    memcpy(out, digest, outlen < sizeof(digest) ? outlen : sizeof(digest));
}


void
ims_hmac_parts(const ims_hmac_key_t *k, const ims_str_t *parts,
    unsigned nparts, uint8_t *out, size_t outlen)
{
    SHA256_CTX  ctx;

    memcpy(&ctx, k->inner, sizeof(ctx));
    ims_sha_parts(&ctx, parts, nparts);
    ims_hmac_finish(k, &ctx, out, outlen);
}


void
ims_hmac(const ims_hmac_key_t *k, const void *data, size_t n, uint8_t *out,
    size_t outlen)
{
    SHA256_CTX  ctx;

    memcpy(&ctx, k->inner, sizeof(ctx));
    SHA256_Update(&ctx, data, n);
    ims_hmac_finish(k, &ctx, out, outlen);
}


void
ims_sha256_parts(const ims_str_t *parts, unsigned nparts, uint8_t *out,
    size_t outlen)
{
    uint8_t     digest[IMS_HMAC_LEN];
    SHA256_CTX  ctx;

    SHA256_Init(&ctx);
    ims_sha_parts(&ctx, parts, nparts);
    SHA256_Final(digest, &ctx);

    memcpy(out, digest, outlen < sizeof(digest) ? outlen : sizeof(digest));
}
