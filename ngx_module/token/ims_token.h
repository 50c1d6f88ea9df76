/*
 * Copyright (C) nginx-ims contributors
 *
 * Access tokens: JWS compact (RFC 7515, 7519, 8725) with the claims that tie
 * an identity to a lease.
 *
 * Keys belong to an issuer and are parsed once, at configuration.  The
 * issuer's algorithm is pinned there; a token that names another is refused
 * before its signature is looked at.
 *
 * Nothing here is thread-safe: one nginx worker, one thread.
 */

#ifndef _IMS_TOKEN_H_INCLUDED_
#define _IMS_TOKEN_H_INCLUDED_


#include "base/ims_str.h"


#define IMS_TOKEN_MAX           8192    /* a token's text, in bytes */
#define IMS_TOKEN_IMPU_MAX      8
#define IMS_TOKEN_URI_MAX       511     /* an IMPU, an IMPI */
#define IMS_TOKEN_STR_MAX       255     /* any other claim */
#define IMS_TOKEN_SUB_LEN       22      /* 128 bits as base64url */
#define IMS_TOKEN_SID_LEN       16      /* 64 bits as hex */
#define IMS_TOKEN_KID_MAX       64
#define IMS_TOKEN_BUF           2048
#define IMS_TOKEN_DIGEST_LEN    16
#define IMS_TOKEN_SECRET_MIN    32      /* HS256 */
#define IMS_TOKEN_RSA_MIN       2048    /* bits */

/* TS 33.203 X.4.2.3; the text calls it a placeholder, so it can be set */
#define IMS_TOKEN_SCOPE         "webrtc-ims-client-access-to-ims"


typedef enum {
    IMS_TOKEN_ES256 = 0,
    IMS_TOKEN_RS256,
    IMS_TOKEN_HS256,
    IMS_TOKEN_NALGS
} ims_token_alg_t;


typedef struct ims_token_key_s  ims_token_key_t;


/* "ES256", "RS256", "HS256", letters as written.  False: none of them. */
bool ims_token_alg_parse(ims_str_t name, ims_token_alg_t *alg);
const char *ims_token_alg_name(ims_token_alg_t alg);


/*
 * Reads a key: PEM with a P-256 key (ES256) or an RSA key of >= 2048 bits
 * (RS256), public or private; or the bytes of a secret (HS256, >= 32, which
 * may not be PEM or a public key's DER).  need_private: for signing.
 * kid: 0 to IMS_TOKEN_KID_MAX printable bytes, no quote or backslash; empty:
 * the header has none.  Everything is copied.
 *
 * Returns 0 and the key, or -1 and a text for the configuration's error line;
 * that text never has bytes of the key in it.
 */
int ims_token_key_load(ims_token_key_t **k, ims_token_alg_t alg,
    ims_str_t pem_or_secret, bool need_private, ims_str_t kid, char *err,
    size_t errlen);

/* NULL is allowed.  A secret is wiped. */
void ims_token_key_free(ims_token_key_t *k);

ims_token_alg_t ims_token_key_alg(const ims_token_key_t *k);
ims_str_t ims_token_key_kid(const ims_token_key_t *k);


/* Made at configuration, constant at run time. */
typedef struct {
    ims_str_t          iss;
    ims_str_t          aud;
    ims_token_alg_t    alg;
    ims_token_key_t  **keys;        /* each of that alg; kids differ */
    unsigned           nkeys;
    ims_str_t          scope;       /* empty: IMS_TOKEN_SCOPE */
    uint32_t           leeway;      /* seconds, for exp and nbf */
    void              *data;        /* the owner's: identities, origins */
} ims_token_issuer_t;


typedef struct {
    ims_str_t   iss;
    ims_str_t   aud;                /* ours, of however many */
    ims_str_t   sub;                /* holder tag, IMS_TOKEN_SUB_LEN bytes */
    ims_str_t   impi;
    ims_str_t   impu[IMS_TOKEN_IMPU_MAX];
    unsigned    nimpu;              /* >= 1 */
    ims_str_t   lease;              /* as it stands in the token */
    uint64_t    ident;              /* its first part */
    uint64_t    lease_id;           /* its second part */
    ims_str_t   sid;                /* IMS_TOKEN_SID_LEN hex digits */
    uint64_t    session;            /* the same as a number */
    ims_str_t   pool;
    ims_str_t   origin;             /* absent: not bound */
    ims_str_t   scope;              /* verify: the required one; sign: all */
    ims_str_t   jti;                /* absent if there was none */
    int64_t     iat;                /* wall clock, s since 1970; 0: none */
    int64_t     nbf;                /* 0: none */
    int64_t     exp;

    /* verify: what the slices point to; sign: not used */
    size_t      used;
    uint8_t     buf[IMS_TOKEN_BUF];
} ims_token_claims_t;


typedef enum {
    IMS_TOKEN_OK = 0,
    IMS_TOKEN_MALFORMED,        /* not three strict base64url parts, JSON */
    IMS_TOKEN_TOO_LARGE,
    IMS_TOKEN_CRIT,             /* header `crit`: nothing of it is known */
    IMS_TOKEN_UNKNOWN_ISSUER,
    IMS_TOKEN_ALG_MISMATCH,     /* `none` and the like included */
    IMS_TOKEN_UNKNOWN_KID,
    IMS_TOKEN_BAD_SIGNATURE,
    IMS_TOKEN_CLAIM_MISSING,    /* ...and below: signature was good */
    IMS_TOKEN_CLAIM_BAD,
    IMS_TOKEN_WRONG_AUDIENCE,
    IMS_TOKEN_SCOPE_MISSING,
    IMS_TOKEN_NOT_YET_VALID,
    IMS_TOKEN_EXPIRED,          /* the only fault; claims are filled in */
    IMS_TOKEN_FAILURE,          /* ours: no memory, the library */
    IMS_TOKEN_NERRORS
} ims_token_code_t;


typedef struct {
    ims_token_code_t   code;
    const char        *claim;   /* CLAIM_*: its name, static; else NULL */
} ims_token_err_t;


/* Static text, in lower case, without anything of the token. */
const char *ims_token_strerror(ims_token_code_t code);


/*
 * Verifies a token at the time now (wall clock, seconds since 1970).
 *
 * Order: size; structure; issuer by `iss`; `alg` equal to the issuer's; key by
 * `kid` among the issuer's (without one only if it has a single key);
 * signature; then every claim.  Headers jwk, jku, x5u, x5c are not looked at.
 *
 * Required: iss, aud, sub, impi, impu, lease, sid, pool, scope, exp.
 * Optional: origin, jti, iat, nbf.  Strings hold no control character and are
 * UTF-8; identities moreover nothing that could end a quoted string or a
 * <URI>, escaped or not.
 *
 * Returns 0 (out is filled) or -1 with *err set.  *issuer, if not NULL, is the
 * one whose key fitted, set with out.  On IMS_TOKEN_EXPIRED everything else
 * was found good and out and *issuer are filled as well; on any other error
 * out holds nothing.
 *
 * out points into itself: do not assign it, use ims_token_claims_copy().
 */
int ims_token_verify(const ims_token_issuer_t *const *issuers, size_t n,
    ims_str_t jws, int64_t now, ims_token_claims_t *out,
    const ims_token_issuer_t **issuer, ims_token_err_t *err);

void ims_token_claims_copy(ims_token_claims_t *dst,
    const ims_token_claims_t *src);


/*
 * Writes a token with the claims of c: the strings that are present, impu as
 * a string if it is one and as an array otherwise, numbers other than 0.
 * lease is taken from ident and lease_id, sid from session, if the slice is
 * absent.  The claims are held against the same rules as in verification, so
 * that nothing is signed here that would be refused there.
 *
 * Returns 0 and *len, or -1 with *err (CLAIM_*, TOO_LARGE if cap is not
 * enough, FAILURE).  IMS_TOKEN_MAX bytes are always enough.
 */
int ims_token_sign(const ims_token_key_t *k, const ims_token_claims_t *c,
    uint8_t *dst, size_t cap, size_t *len, ims_token_err_t *err);


/*
 * A token's fingerprint: SHA-256, cut.  Kept on a flow, it tells that a
 * re-REGISTER shows the very token already verified there, without any
 * cryptography of keys; its exp must still be looked at.
 */
void ims_token_digest(ims_str_t jws, uint8_t out[IMS_TOKEN_DIGEST_LEN]);


#endif /* _IMS_TOKEN_H_INCLUDED_ */
