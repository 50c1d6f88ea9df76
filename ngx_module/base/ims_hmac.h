/*
 * Copyright (C) nginx-ims contributors
 *
 * HMAC-SHA-256 with the key prepared once (RFC 2104).
 *
 * Flow tokens, branches, datagrams and holder tags are all MACs over a few
 * dozen bytes, several a message: preparing the key each time, or fetching an
 * algorithm through EVP, would cost more than the hashing.
 */

#ifndef _IMS_HMAC_H_INCLUDED_
#define _IMS_HMAC_H_INCLUDED_


#include "base/ims_str.h"


#define IMS_HMAC_LEN    32

typedef struct {
    /* SHA-256 states after the padded key; opaque, 112 bytes each at OpenSSL */
    uint64_t  inner[16];
    uint64_t  outer[16];
} ims_hmac_key_t;


/* Any key length; a key is prepared once, then used read-only. */
void ims_hmac_key(ims_hmac_key_t *k, const void *key, size_t n);

/*
 * MAC of the parts, *each preceded by its length* (u32, big-endian), so that
 * parts cannot flow into each other.  out gets the first outlen (<= 32) bytes.
 */
void ims_hmac_parts(const ims_hmac_key_t *k, const ims_str_t *parts,
    unsigned nparts, uint8_t *out, size_t outlen);

/* Plain HMAC of one buffer, no length prefix. */
void ims_hmac(const ims_hmac_key_t *k, const void *data, size_t n,
    uint8_t *out, size_t outlen);

/* Plain SHA-256, first outlen bytes, of parts with length prefixes as above. */
void ims_sha256_parts(const ims_str_t *parts, unsigned nparts, uint8_t *out,
    size_t outlen);


#endif /* _IMS_HMAC_H_INCLUDED_ */
