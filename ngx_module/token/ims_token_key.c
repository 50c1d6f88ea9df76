/*
 * Copyright (C) nginx-ims contributors
 *
 * Keys are read once: parsing a PEM costs several times what a signature
 * does.  The operations themselves are the bare ones over a SHA-256 that is
 * computed beside them, on a context prepared once for each key.
 */

#include <stdio.h>
#include <stdlib.h>

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <openssl/x509.h>

#include "token/ims_token_key.h"


#define IMS_TOKEN_DER_MAX  72       /* two 33-byte integers in a sequence */


static const char *ims_token_key_kid_set(ims_token_key_t *k, ims_str_t kid);
static void ims_token_key_header(ims_token_key_t *k);
static const char *ims_token_key_secret(ims_token_key_t *k, ims_str_t secret);
static const char *ims_token_key_pem(ims_token_key_t *k, ims_str_t pem,
    bool need_private);
static EVP_PKEY *ims_token_pem_read(ims_str_t pem, bool private);
static int ims_token_pem_password(char *buf, int size, int rw, void *data);
static const char *ims_token_key_fits(const ims_token_key_t *k);
static EVP_PKEY_CTX *ims_token_key_ctx(const ims_token_key_t *k, bool sign);
static size_t ims_token_es256_to_der(uint8_t *der, const uint8_t *raw);
static uint8_t *ims_token_der_integer(uint8_t *dst, const uint8_t *n);
static bool ims_token_es256_from_der(uint8_t *raw, const uint8_t *der,
    size_t n);


static const char *const  ims_token_alg_names[IMS_TOKEN_NALGS] = {
    "ES256",
    "RS256",
    "HS256"
};


bool
ims_token_alg_parse(ims_str_t name, ims_token_alg_t *alg)
{
    unsigned  i;

    for (i = 0; i < IMS_TOKEN_NALGS; i++) {
        if (ims_str_eq(name, ims_str_z(ims_token_alg_names[i]))) {
            *alg = (ims_token_alg_t) i;
            return true;
        }
    }

    return false;
}


const char *
ims_token_alg_name(ims_token_alg_t alg)
{
    return (unsigned) alg < IMS_TOKEN_NALGS ? ims_token_alg_names[alg] : "?";
}


int
ims_token_key_load(ims_token_key_t **kp, ims_token_alg_t alg,
    ims_str_t pem_or_secret, bool need_private, ims_str_t kid, char *err,
    size_t errlen)
{
    const char       *fault;
    ims_token_key_t  *k;

    *kp = NULL;

    k = calloc(1, sizeof(ims_token_key_t));
    if (k == NULL) {
        snprintf(err, errlen, "no memory");
        return -1;
    }

    k->alg = alg;

    /* what goes wrong in here is told by fault, not left in OpenSSL's queue */

    ERR_set_mark();

    fault = ims_token_key_kid_set(k, kid);

    if (fault == NULL) {
        fault = alg == IMS_TOKEN_HS256
                ? ims_token_key_secret(k, pem_or_secret)
                : ims_token_key_pem(k, pem_or_secret, need_private);
    }

    ERR_pop_to_mark();

    if (fault != NULL) {
        snprintf(err, errlen, "%s", fault);
        ims_token_key_free(k);
        return -1;
    }

    ims_token_key_header(k);

    *kp = k;

    return 0;
}


void
ims_token_key_free(ims_token_key_t *k)
{
    if (k == NULL) {
        return;
    }

    EVP_PKEY_CTX_free(k->verify);
    EVP_PKEY_CTX_free(k->sign);
    EVP_PKEY_free(k->pkey);

    OPENSSL_cleanse(k, sizeof(ims_token_key_t));
    free(k);
}


ims_token_alg_t
ims_token_key_alg(const ims_token_key_t *k)
{
    return k->alg;
}


ims_str_t
ims_token_key_kid(const ims_token_key_t *k)
{
    return ims_str_set(k->kid, k->kid_len);
}


static const char *
ims_token_key_kid_set(ims_token_key_t *k, ims_str_t kid)
{
    size_t  i;

    if (kid.n > IMS_TOKEN_KID_MAX) {
        return "key id is too long";
    }

    for (i = 0; i < kid.n; i++) {
        if (kid.p[i] <= 0x20 || kid.p[i] >= 0x7f || kid.p[i] == '"'
            || kid.p[i] == '\\')
        {
            return "key id has a character other than printable ASCII, "
                   "or a space, quote or backslash";
        }

        k->kid[i] = kid.p[i];
    }

    k->kid_len = kid.n;

    return NULL;
}


/* the same for every token of this key, so it is written once */

static void
ims_token_key_header(ims_token_key_t *k)
{
    int   n;
    char  json[48 + IMS_TOKEN_KID_MAX];

    n = snprintf(json, sizeof(json), "{\"alg\":\"%s\",\"typ\":\"JWT\"%s%.*s%s}",
                 ims_token_alg_names[k->alg],
                 k->kid_len ? ",\"kid\":\"" : "",
                 (int) k->kid_len, (const char *) k->kid,
                 k->kid_len ? "\"" : "");

    k->header_len = ims_b64url_encode(k->header, json, (size_t) n);
}


static const char *
ims_token_key_secret(ims_token_key_t *k, ims_str_t secret)
{
    EVP_PKEY             *pkey;
    const unsigned char  *p;

    if (secret.n < IMS_TOKEN_SECRET_MIN) {
        return "secret is shorter than 32 bytes";
    }

    /* a public key is no secret, though it may be long and look random */

    if (memmem(secret.p, secret.n, "-----BEGIN", 10) != NULL) {
        return "secret is a PEM file; its algorithm is ES256 or RS256";
    }

    p = secret.p;
    pkey = d2i_PUBKEY(NULL, &p, (long) secret.n);

    if (pkey != NULL) {
        EVP_PKEY_free(pkey);
        return "secret is a public key; its algorithm is ES256 or RS256";
    }

    ims_hmac_key(&k->hmac, secret.p, secret.n);

    return NULL;
}


static const char *
ims_token_key_pem(ims_token_key_t *k, ims_str_t pem, bool need_private)
{
    const char  *fault;

    k->pkey = ims_token_pem_read(pem, true);

    if (k->pkey == NULL) {
        if (need_private) {
            return "no private key in PEM form, without a password";
        }

        k->pkey = ims_token_pem_read(pem, false);

        if (k->pkey == NULL) {
            return "no key in PEM form";
        }
    }

    fault = ims_token_key_fits(k);
    if (fault != NULL) {
        return fault;
    }

    k->verify = ims_token_key_ctx(k, false);

    if (k->verify == NULL || EVP_PKEY_public_check(k->verify) != 1) {
        return "key is damaged";
    }

    if (need_private) {
        k->sign = ims_token_key_ctx(k, true);

        if (k->sign == NULL || EVP_PKEY_pairwise_check(k->sign) != 1) {
            return "private and public part of the key do not belong together";
        }
    }

    return NULL;
}


static EVP_PKEY *
ims_token_pem_read(ims_str_t pem, bool private)
{
    BIO       *bio;
    EVP_PKEY  *pkey;

    if (pem.n == 0 || pem.n > 0x10000) {
        return NULL;
    }

    bio = BIO_new_mem_buf(pem.p, (int) pem.n);
    if (bio == NULL) {
        return NULL;
    }

    pkey = private
           ? PEM_read_bio_PrivateKey(bio, NULL, ims_token_pem_password, NULL)
           : PEM_read_bio_PUBKEY(bio, NULL, ims_token_pem_password, NULL);

    BIO_free(bio);

    return pkey;
}


/* instead of OpenSSL's own, which would ask on the terminal */

static int
ims_token_pem_password(char *buf, int size, int rw, void *data)
{
    (void) buf;
    (void) size;
    (void) rw;
    (void) data;

    return -1;
}


static const char *
ims_token_key_fits(const ims_token_key_t *k)
{
    int   bits;
    char  group[32];

    if (k->alg == IMS_TOKEN_ES256) {

        if (!EVP_PKEY_is_a(k->pkey, "EC")
            || EVP_PKEY_get_utf8_string_param(k->pkey,
                                              OSSL_PKEY_PARAM_GROUP_NAME,
                                              group, sizeof(group), NULL) != 1
            || strcmp(group, SN_X9_62_prime256v1) != 0)
        {
            return "ES256 needs an EC key on curve P-256";
        }

        return NULL;
    }

    if (!EVP_PKEY_is_a(k->pkey, "RSA")) {
        return "RS256 needs an RSA key";
    }

    bits = EVP_PKEY_get_bits(k->pkey);

    if (bits < IMS_TOKEN_RSA_MIN || bits > IMS_TOKEN_RSA_MAX) {
        return "RS256 needs an RSA key of 2048 to 8192 bits";
    }

    return NULL;
}


static EVP_PKEY_CTX *
ims_token_key_ctx(const ims_token_key_t *k, bool sign)
{
    EVP_PKEY_CTX  *ctx;

    ctx = EVP_PKEY_CTX_new(k->pkey, NULL);
    if (ctx == NULL) {
        return NULL;
    }

    if ((sign ? EVP_PKEY_sign_init(ctx) : EVP_PKEY_verify_init(ctx)) != 1
        || EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()) != 1
        || (k->alg == IMS_TOKEN_RS256
            && EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) != 1))
    {
        EVP_PKEY_CTX_free(ctx);
        return NULL;
    }

    return ctx;
}


bool
ims_token_key_verify(const ims_token_key_t *k, ims_str_t input, ims_str_t sig)
{
    int      rc;
    uint8_t  digest[SHA256_DIGEST_LENGTH], der[IMS_TOKEN_DER_MAX];

    if (k->alg == IMS_TOKEN_HS256) {
        ims_hmac(&k->hmac, input.p, input.n, digest, sizeof(digest));

        return sig.n == sizeof(digest)
               && ims_equal_ct(sig.p, digest, sizeof(digest));
    }

    if (k->alg == IMS_TOKEN_ES256) {
        if (sig.n != IMS_TOKEN_ES256_LEN) {
            return false;
        }

        sig = ims_str_set(der, ims_token_es256_to_der(der, sig.p));
    }

    SHA256(input.p, input.n, digest);

    ERR_set_mark();

    rc = EVP_PKEY_verify(k->verify, sig.p, sig.n, digest, sizeof(digest));

    ERR_pop_to_mark();

    return rc == 1;
}


size_t
ims_token_key_sign(const ims_token_key_t *k, ims_str_t input, uint8_t *sig)
{
    int      rc;
    size_t   n;
    uint8_t  digest[SHA256_DIGEST_LENGTH], der[IMS_TOKEN_DER_MAX];

    if (k->alg == IMS_TOKEN_HS256) {
        ims_hmac(&k->hmac, input.p, input.n, sig, IMS_HMAC_LEN);
        return IMS_HMAC_LEN;
    }

    if (k->sign == NULL) {
        return 0;
    }

    SHA256(input.p, input.n, digest);

    ERR_set_mark();

    if (k->alg == IMS_TOKEN_ES256) {
        n = sizeof(der);
        rc = EVP_PKEY_sign(k->sign, der, &n, digest, sizeof(digest));

        if (rc == 1 && ims_token_es256_from_der(sig, der, n)) {
            n = IMS_TOKEN_ES256_LEN;

        } else {
            n = 0;
        }

    } else {
        n = IMS_TOKEN_SIG_MAX;
        rc = EVP_PKEY_sign(k->sign, sig, &n, digest, sizeof(digest));

        if (rc != 1) {
            n = 0;
        }
    }

    ERR_pop_to_mark();

    return n;
}


/*
 * JWS has r and s as two 32-byte numbers (RFC 7518 section 3.4), OpenSSL as a
 * DER sequence of two integers: shortest form, positive.
 */

static size_t
ims_token_es256_to_der(uint8_t *der, const uint8_t *raw)
{
    uint8_t  *p;

    p = ims_token_der_integer(der + 2, raw);
    p = ims_token_der_integer(p, raw + 32);

    der[0] = 0x30;
    der[1] = (uint8_t) (p - der - 2);

    return (size_t) (p - der);
}


static uint8_t *
ims_token_der_integer(uint8_t *dst, const uint8_t *n)
{
    size_t  len;

    for (len = 32; len > 1 && n[0] == 0; len--) {
        n++;
    }

    *dst++ = 0x02;
    *dst++ = (uint8_t) (len + (n[0] >> 7));

    if (n[0] & 0x80) {
        *dst++ = 0;
    }

    memcpy(dst, n, len);

    return dst + len;
}


static bool
ims_token_es256_from_der(uint8_t *raw, const uint8_t *der, size_t n)
{
    size_t          i, len;
    const uint8_t  *end;

    if (n < 8 || der[0] != 0x30 || der[1] != n - 2) {
        return false;
    }

    end = der + n;
    der += 2;

    memset(raw, 0, IMS_TOKEN_ES256_LEN);

    for (i = 1; i <= 2; i++) {

        if (end - der < 3 || der[0] != 0x02) {
            return false;
        }

        len = der[1];
        der += 2;

        if (len == 0 || len > (size_t) (end - der)) {
            return false;
        }

        for ( /* void */ ; len > 1 && *der == 0; len--) {
            der++;
        }

        if (len > 32) {
            return false;
        }

        memcpy(raw + 32 * i - len, der, len);
        der += len;
    }

    return der == end;
}
