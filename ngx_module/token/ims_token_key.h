/*
 * Copyright (C) nginx-ims contributors
 *
 * A key and what is done with it; for the files of token/ only.
 */

#ifndef _IMS_TOKEN_KEY_H_INCLUDED_
#define _IMS_TOKEN_KEY_H_INCLUDED_


#include <openssl/evp.h>

#include "base/ims_hmac.h"
#include "token/ims_token.h"


#define IMS_TOKEN_RSA_MAX      8192     /* bits */
#define IMS_TOKEN_SIG_MAX      (IMS_TOKEN_RSA_MAX / 8)
#define IMS_TOKEN_ES256_LEN    64       /* r and s, 32 bytes each */

/* {"alg":"ES256","typ":"JWT","kid":"..."} as base64url */
#define IMS_TOKEN_HEADER_MAX   ims_b64url_len(48 + IMS_TOKEN_KID_MAX)


struct ims_token_key_s {
    ims_token_alg_t   alg;

    EVP_PKEY         *pkey;         /* NULL for HS256 */
    EVP_PKEY_CTX     *verify;       /* prepared once, used again and again */
    EVP_PKEY_CTX     *sign;         /* NULL if it was not asked for */
    ims_hmac_key_t    hmac;

    size_t            kid_len;
    uint8_t           kid[IMS_TOKEN_KID_MAX];

    size_t            header_len;
    uint8_t           header[IMS_TOKEN_HEADER_MAX];
};


/* Is sig (raw bytes) this key's signature of input? */
bool ims_token_key_verify(const ims_token_key_t *k, ims_str_t input,
    ims_str_t sig);

/*
 * The signature of input, raw, into IMS_TOKEN_SIG_MAX bytes; returns its
 * length, 0 on failure.
 */
size_t ims_token_key_sign(const ims_token_key_t *k, ims_str_t input,
    uint8_t *sig);


#endif /* _IMS_TOKEN_KEY_H_INCLUDED_ */
