/*
 * Copyright (C) nginx-ims contributors
 *
 * Tokens: what is signed here is taken here, and every way known to get
 * another one taken is refused with its own reason.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "token/ims_token_key.h"


#define NOW     1700000000
#define SECRET  "0123456789abcdef0123456789abcdef"
#define ISS     "https://wwsf.example"
#define AUD     "https://edge.example"


/* PEM texts, made once */
static char               ec_pem[4096], ec_pub[4096], ec2_pem[4096];
static char               rsa_pem[4096], rsa_pub[4096], rsa1024[4096];
static char               p384_pem[4096], ed_pem[4096];
static uint8_t            rsa_der[1024];
static size_t             rsa_der_n;

static ims_token_key_t   *ec, *ec2, *rsa, *hs, *ec_verify;
static ims_token_issuer_t  es_issuer, rs_issuer, hs_issuer, many_issuer;
static ims_token_key_t   *many_keys[2];

static const ims_token_issuer_t  *issuers[] = {
    &es_issuer, &rs_issuer, &hs_issuer, &many_issuer
};

#define NISSUERS  (sizeof(issuers) / sizeof(issuers[0]))


static void
write_pem(EVP_PKEY *pkey, char *private, char *public)
{
    int   n;
    BIO  *bio;

    assert_non_null(pkey);

    bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_PrivateKey(bio, pkey, NULL, NULL, 0, NULL,
                                              NULL), 1);
    n = BIO_read(bio, private, 4095);
    assert_true(n > 0);
    private[n] = '\0';
    BIO_free(bio);

    if (public != NULL) {
        bio = BIO_new(BIO_s_mem());
        assert_int_equal(PEM_write_bio_PUBKEY(bio, pkey), 1);
        n = BIO_read(bio, public, 4095);
        assert_true(n > 0);
        public[n] = '\0';
        BIO_free(bio);
    }
}


static ims_token_key_t *
load(ims_token_alg_t alg, const char *text, bool private, const char *kid)
{
    char              err[200];
    ims_token_key_t  *k;

    if (ims_token_key_load(&k, alg, ims_str_z(text), private, ims_str_z(kid),
                           err, sizeof(err)) != 0)
    {
        fail_msg("key: %s", err);
    }

    return k;
}


static void
issuer(ims_token_issuer_t *is, const char *iss, ims_token_alg_t alg,
    ims_token_key_t **keys, unsigned n)
{
    memset(is, 0, sizeof(ims_token_issuer_t));

    is->iss = ims_str_z(iss);
    is->aud = IMS_STR(AUD);
    is->alg = alg;
    is->keys = keys;
    is->nkeys = n;
    is->leeway = 5;
}


static int
setup(void **state)
{
    uint8_t   *p;
    EVP_PKEY  *pkey;

    (void) state;

    pkey = EVP_EC_gen("P-256");
    write_pem(pkey, ec_pem, ec_pub);
    EVP_PKEY_free(pkey);

    pkey = EVP_EC_gen("P-256");
    write_pem(pkey, ec2_pem, NULL);
    EVP_PKEY_free(pkey);

    pkey = EVP_EC_gen("P-384");
    write_pem(pkey, p384_pem, NULL);
    EVP_PKEY_free(pkey);

    pkey = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    write_pem(pkey, ed_pem, NULL);
    EVP_PKEY_free(pkey);

    pkey = EVP_RSA_gen(1024);
    write_pem(pkey, rsa1024, NULL);
    EVP_PKEY_free(pkey);

    pkey = EVP_RSA_gen(2048);
    write_pem(pkey, rsa_pem, rsa_pub);
    p = rsa_der;
    rsa_der_n = (size_t) i2d_PUBKEY(pkey, &p);
    EVP_PKEY_free(pkey);

    ec = load(IMS_TOKEN_ES256, ec_pem, true, "ec-1");
    ec2 = load(IMS_TOKEN_ES256, ec2_pem, true, "ec-2");
    ec_verify = load(IMS_TOKEN_ES256, ec_pub, false, "ec-1");
    rsa = load(IMS_TOKEN_RS256, rsa_pem, true, "");
    hs = load(IMS_TOKEN_HS256, SECRET, true, "hs");

    many_keys[0] = ec_verify;
    many_keys[1] = ec2;

    issuer(&es_issuer, ISS, IMS_TOKEN_ES256, &ec_verify, 1);
    issuer(&rs_issuer, "rs", IMS_TOKEN_RS256, &rsa, 1);
    issuer(&hs_issuer, "hs", IMS_TOKEN_HS256, &hs, 1);
    issuer(&many_issuer, "many", IMS_TOKEN_ES256, many_keys, 2);

    return 0;
}


static int
teardown(void **state)
{
    (void) state;

    ims_token_key_free(ec);
    ims_token_key_free(ec2);
    ims_token_key_free(ec_verify);
    ims_token_key_free(rsa);
    ims_token_key_free(hs);
    ims_token_key_free(NULL);

    return 0;
}


static void
claims(ims_token_claims_t *c)
{
    memset(c, 0, sizeof(ims_token_claims_t));

    c->iss = IMS_STR(ISS);
    c->aud = IMS_STR(AUD);
    c->sub = IMS_STR("AAECAwQFBgcICQoLDA0ODw");
    c->impi = IMS_STR("web-000001@ims.example");
    c->impu[0] = IMS_STR("sip:web-000001@ims.example");
    c->impu[1] = IMS_STR("tel:+4930123456");
    c->nimpu = 2;
    c->ident = 0x100000001;
    c->lease_id = 0x10000000002a;
    c->session = 0x00ff00ff00ff00ff;
    c->pool = IMS_STR("web");
    c->origin = IMS_STR("https://site.example");
    c->scope = IMS_STR("openid " IMS_TOKEN_SCOPE);
    c->jti = IMS_STR("42");
    c->iat = NOW;
    c->exp = NOW + 600;
}


static ims_token_code_t
verify_at(ims_str_t jws, int64_t now, ims_token_claims_t *out,
    const char **claim)
{
    int                        rc;
    uint8_t                   *exact;
    ims_token_err_t            err;
    const ims_token_issuer_t  *is;

    /* memory of exactly its length: a sanitizer sees any step beyond */

    exact = malloc(jws.n ? jws.n : 1);
    assert_non_null(exact);

    if (jws.n) {
        memcpy(exact, jws.p, jws.n);
    }

    is = NULL;
    rc = ims_token_verify(issuers, NISSUERS, ims_str_set(exact, jws.n), now,
                          out, &is, &err);
    free(exact);

    assert_int_equal(rc == 0, err.code == IMS_TOKEN_OK);
    assert_true(err.code < IMS_TOKEN_NERRORS);
    assert_int_equal(err.claim != NULL, err.code == IMS_TOKEN_CLAIM_MISSING
                                        || err.code == IMS_TOKEN_CLAIM_BAD);

    if (err.code == IMS_TOKEN_OK || err.code == IMS_TOKEN_EXPIRED) {
        assert_true(ims_str_eq(is->iss, out->iss));

    } else {
        assert_null(is);
        assert_int_equal(out->used, 0);
        assert_int_equal(out->nimpu, 0);
        assert_int_equal(out->exp, 0);
        assert_null(out->impi.p);
    }

    if (claim != NULL) {
        *claim = err.claim;
    }

    assert_int_equal(ERR_peek_error(), 0);

    return err.code;
}


static ims_token_code_t
verify(ims_str_t jws)
{
    ims_token_claims_t  out;

    return verify_at(jws, NOW, &out, NULL);
}


static ims_str_t
sign(const ims_token_key_t *k, const ims_token_claims_t *c)
{
    size_t           n;
    ims_token_err_t  err;
    static uint8_t   dst[IMS_TOKEN_MAX];

    if (ims_token_sign(k, c, dst, sizeof(dst), &n, &err) != 0) {
        fail_msg("sign: %s %s", ims_token_strerror(err.code),
                 err.claim ? err.claim : "");
    }

    return ims_str_set(dst, n);
}


/* a token of any header and claims, well signed with k */

static ims_str_t
forge(const ims_token_key_t *k, ims_str_t header, ims_str_t body)
{
    size_t          n;
    uint8_t        *p, sig[IMS_TOKEN_SIG_MAX];
    static uint8_t  dst[4 * IMS_TOKEN_MAX];

    p = dst;
    p += ims_b64url_encode(p, header.p, header.n);
    *p++ = '.';
    p += ims_b64url_encode(p, body.p, body.n);

    n = k ? ims_token_key_sign(k, ims_str_range(dst, p), sig) : 0;
    assert_true(k == NULL || n != 0);

    *p++ = '.';
    p += ims_b64url_encode(p, sig, n);

    return ims_str_range(dst, p);
}


#define EC_HEADER  "{\"alg\":\"ES256\",\"kid\":\"ec-1\"}"
#define ALL(iss, exp)                                                        \
    "{\"iss\":\"" iss "\",\"aud\":\"" AUD "\","                              \
    "\"sub\":\"AAECAwQFBgcICQoLDA0ODw\",\"impi\":\"a@b\","                   \
    "\"impu\":\"sip:a@b\",\"lease\":\"1-2\",\"sid\":\"0000000000000001\","   \
    "\"pool\":\"web\",\"scope\":\"" IMS_TOKEN_SCOPE "\",\"exp\":" exp "}"


static void
test_round_trip(void **state)
{
    size_t              i;
    ims_str_t           jws;
    ims_token_claims_t  c, out, copy;
    const struct {
        const ims_token_key_t  *k;
        const char             *iss;
    } ways[] = {
        { ec, ISS }, { rsa, "rs" }, { hs, "hs" }, { ec2, "many" },
        { ec, "many" },
    };

    (void) state;

    for (i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        claims(&c);
        c.iss = ims_str_z(ways[i].iss);
        jws = sign(ways[i].k, &c);

        memset(&out, 0xa5, sizeof(out));
        assert_int_equal(verify_at(jws, NOW, &out, NULL), IMS_TOKEN_OK);

        ims_token_claims_copy(&copy, &out);
        memset(&out, 0xa5, sizeof(out));

        assert_true(ims_str_eq(copy.iss, c.iss));
        assert_true(ims_str_eq(copy.aud, c.aud));
        assert_true(ims_str_eq(copy.sub, c.sub));
        assert_true(ims_str_eq(copy.impi, c.impi));
        assert_int_equal(copy.nimpu, 2);
        assert_true(ims_str_eq(copy.impu[0], c.impu[0]));
        assert_true(ims_str_eq(copy.impu[1], c.impu[1]));
        assert_true(ims_str_eq(copy.lease,
                               IMS_STR("100000001-10000000002a")));
        assert_true(copy.ident == c.ident);
        assert_true(copy.lease_id == c.lease_id);
        assert_true(ims_str_eq(copy.sid, IMS_STR("00ff00ff00ff00ff")));
        assert_true(copy.session == c.session);
        assert_true(ims_str_eq(copy.pool, c.pool));
        assert_true(ims_str_eq(copy.origin, c.origin));
        assert_true(ims_str_eq(copy.scope, IMS_STR(IMS_TOKEN_SCOPE)));
        assert_true(ims_str_eq(copy.jti, c.jti));
        assert_true(copy.iat == c.iat);
        assert_true(copy.nbf == 0);
        assert_true(copy.exp == c.exp);
    }

    /* the least that there can be, one IMPU as a string */

    claims(&c);
    c.nimpu = 1;
    c.origin = c.jti = IMS_STR_NULL;
    c.iat = 0;
    assert_int_equal(verify_at(sign(ec, &c), NOW, &out, NULL), IMS_TOKEN_OK);
    assert_int_equal(out.nimpu, 1);
    assert_null(out.origin.p);
    assert_null(out.jti.p);
    assert_true(out.iat == 0);
}


/* ES256: a DER integer of r or s may be 31 to 33 bytes long */

static void
test_es256_lengths(void **state)
{
    unsigned            i;
    char                jti[16];
    ims_token_claims_t  c;

    (void) state;

    claims(&c);

    for (i = 0; i < 2000; i++) {
        c.jti = ims_str_set(jti, (size_t) snprintf(jti, sizeof(jti), "%u", i));
        assert_int_equal(verify(sign(ec, &c)), IMS_TOKEN_OK);
    }
}


static void
test_times(void **state)
{
    ims_str_t           jws;
    ims_token_claims_t  c, out;

    (void) state;

    claims(&c);
    jws = sign(ec, &c);

    assert_int_equal(verify_at(jws, c.exp + 4, &out, NULL), IMS_TOKEN_OK);
    assert_int_equal(verify_at(jws, c.exp + 5, &out, NULL),
                     IMS_TOKEN_EXPIRED);
    assert_true(ims_str_eq(out.impi, c.impi));      /* filled all the same */
    assert_true(out.exp == c.exp);
    assert_int_equal(verify_at(jws, INT64_MAX, &out, NULL),
                     IMS_TOKEN_EXPIRED);

    /* expired and something else: the something else */

    es_issuer.aud = IMS_STR("other");
    assert_int_equal(verify_at(jws, c.exp + 5, &out, NULL),
                     IMS_TOKEN_WRONG_AUDIENCE);
    es_issuer.aud = IMS_STR(AUD);

    claims(&c);
    c.scope = IMS_STR("openid");
    assert_int_equal(verify_at(sign(ec, &c), c.exp + 5, &out, NULL),
                     IMS_TOKEN_SCOPE_MISSING);
    claims(&c);
    assert_int_equal(verify_at(sign(ec2, &c), c.exp + 5, &out, NULL),
                     IMS_TOKEN_UNKNOWN_KID);

    claims(&c);
    c.nbf = NOW + 5;
    jws = sign(ec, &c);
    assert_int_equal(verify_at(jws, NOW, &out, NULL), IMS_TOKEN_OK);
    assert_int_equal(verify_at(jws, NOW - 1, &out, NULL),
                     IMS_TOKEN_NOT_YET_VALID);

    c.nbf = c.exp + 1000;
    assert_int_equal(verify_at(sign(ec, &c), c.exp + 100, &out, NULL),
                     IMS_TOKEN_NOT_YET_VALID);
}


/*
 * Every byte cut off, changed in each bit, taken out or doubled.  ES256 takes
 * (r, -s) beside (r, s), but that is no change of one bit.
 */

static void
test_damage(void **state)
{
    size_t              i, k;
    uint8_t             text[IMS_TOKEN_MAX];
    ims_str_t           jws;
    unsigned            bit;
    ims_token_claims_t  c;
    const struct {
        const ims_token_key_t  *k;
        const char             *iss;
    } ways[] = { { ec, ISS }, { rsa, "rs" }, { hs, "hs" } };

    (void) state;

    for (k = 0; k < 3; k++) {
        claims(&c);
        c.iss = ims_str_z(ways[k].iss);
        jws = sign(ways[k].k, &c);
        assert_int_equal(verify(jws), IMS_TOKEN_OK);

        for (i = 0; i < jws.n; i++) {
            assert_int_not_equal(verify(ims_str_set(jws.p, i)), IMS_TOKEN_OK);
            assert_int_not_equal(verify(ims_str_set(jws.p + i + 1,
                                                    jws.n - i - 1)),
                                 IMS_TOKEN_OK);

            for (bit = 0; bit < 8; bit++) {
                memcpy(text, jws.p, jws.n);
                text[i] ^= (uint8_t) (1 << bit);
                assert_int_not_equal(verify(ims_str_set(text, jws.n)),
                                     IMS_TOKEN_OK);
            }

            memcpy(text, jws.p, i);
            memcpy(text + i, jws.p + i + 1, jws.n - i - 1);
            assert_int_not_equal(verify(ims_str_set(text, jws.n - 1)),
                                 IMS_TOKEN_OK);

            memcpy(text, jws.p, i + 1);
            memcpy(text + i + 1, jws.p + i, jws.n - i);
            assert_int_not_equal(verify(ims_str_set(text, jws.n + 1)),
                                 IMS_TOKEN_OK);
        }

        /* something behind it */

        memcpy(text, jws.p, jws.n);

        for (i = 0; i < 256; i++) {
            text[jws.n] = (uint8_t) i;
            assert_int_not_equal(verify(ims_str_set(text, jws.n + 1)),
                                 IMS_TOKEN_OK);
        }
    }
}


static void
test_structure(void **state)
{
    size_t          i;
    ims_str_t       jws;
    uint8_t         json[IMS_TOKEN_MAX];
    static uint8_t  big[IMS_TOKEN_MAX + 1];
    static const char *const  texts[] = {
        "", ".", "..", "...", "a", "a.b", "a.b.c", "e30.e30.AA.AA",
        "e30.e30.AA.", "e30..AA", ".e30.AA", "e30=.e30.AA", "e3 0.e30.AA",
        "bnVsbA.e30.AA", "e30.bnVsbA.AA", "e30.W10.AA", "e30.MQ.AA",
        "e30.ImEi.AA", "e30.e30gMQ.AA", "e30.ewB9.AA", "e31.e30.AA",
    };

    (void) state;

    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (verify(ims_str_z(texts[i])) != IMS_TOKEN_MALFORMED) {
            fail_msg("\"%s\"", texts[i]);
        }
    }

    assert_int_equal(verify(IMS_STR("e30.e30.")), IMS_TOKEN_UNKNOWN_ISSUER);
    assert_int_equal(verify(IMS_STR("e30.e30.AA")), IMS_TOKEN_UNKNOWN_ISSUER);

    assert_int_equal(verify(IMS_STR_NULL), IMS_TOKEN_MALFORMED);

    memset(big, 'A', sizeof(big));
    assert_int_equal(verify(ims_str_set(big, sizeof(big))),
                     IMS_TOKEN_TOO_LARGE);
    assert_int_equal(verify(ims_str_set(big, sizeof(big) - 1)),
                     IMS_TOKEN_MALFORMED);
    big[8] = big[20] = '.';
    assert_int_equal(verify(ims_str_set(big, IMS_TOKEN_MAX)),
                     IMS_TOKEN_MALFORMED);

    /* well signed, and yet: duplicates, depth, NUL, trailing text */

    jws = forge(ec, IMS_STR(EC_HEADER), IMS_STR(ALL(ISS, "1800000000")));
    assert_int_equal(verify(jws), IMS_TOKEN_OK);

    jws = forge(ec, IMS_STR(EC_HEADER),
                IMS_STR("{\"impi\":\"x@y\"," ALL(ISS, "1800000000")));
    assert_int_equal(verify(jws), IMS_TOKEN_MALFORMED);

    jws = forge(ec, IMS_STR(EC_HEADER),
                IMS_STR("{\"impi\":\"x@y\",\"iss\":\"" ISS "\","
                        "\"impi\":\"a@b\"}"));
    assert_int_equal(verify(jws), IMS_TOKEN_MALFORMED);

    jws = forge(ec, IMS_STR("{\"alg\":\"none\",\"alg\":\"ES256\"}"),
                IMS_STR(ALL(ISS, "1800000000")));
    assert_int_equal(verify(jws), IMS_TOKEN_MALFORMED);

    jws = forge(ec, IMS_STR(EC_HEADER), IMS_STR(ALL(ISS, "1800000000") "x"));
    assert_int_equal(verify(jws), IMS_TOKEN_MALFORMED);

    jws = forge(ec, IMS_STR(EC_HEADER), IMS_STR(ALL(ISS, "1800000000") "\0"));
    assert_int_equal(verify(jws), IMS_TOKEN_MALFORMED);

    jws = forge(ec, IMS_STR(EC_HEADER),
                IMS_STR("{\"x\":[[[[[[[[1]]]]]]]]}"));
    assert_int_equal(verify(jws), IMS_TOKEN_MALFORMED);

    jws = forge(ec, IMS_STR(EC_HEADER),
                IMS_STR("{\"x\":[[[[[[[\"[[[[\\\"[[[[\"]]]]]]]}"));
    assert_int_equal(verify(jws), IMS_TOKEN_UNKNOWN_ISSUER);

    memset(json, '[', sizeof(json));
    jws = forge(NULL, IMS_STR("{}"), ims_str_set(json, 6000));
    assert_int_equal(verify(jws), IMS_TOKEN_MALFORMED);

    for (i = 0; i + 5 < 6000; i += 5) {
        memcpy(json + i, "{\"a\":", 5);
    }

    jws = forge(NULL, ims_str_set(json, i), IMS_STR("{}"));
    assert_int_equal(verify(jws), IMS_TOKEN_MALFORMED);
}


static void
test_none(void **state)
{
    size_t                    i;
    char                      header[64];
    ims_str_t                 jws, good, body;
    uint8_t                   text[IMS_TOKEN_MAX];
    ims_token_claims_t        c;
    static const char *const  algs[] = {
        "\"none\"", "\"None\"", "\"nOnE\"", "\"NONE\"", "\"\"", "null", "0",
        "[\"ES256\"]", "\"es256\"", "\"ES256 \"", "\"ES384\"", "\"RS256\"",
        "\"HS256\"", "\"PS256\"", "\"EdDSA\"", "\"ES256\\u0041\"",
    };

    (void) state;

    body = IMS_STR(ALL(ISS, "1800000000"));

    for (i = 0; i < sizeof(algs) / sizeof(algs[0]); i++) {
        snprintf(header, sizeof(header), "{\"alg\":%s}", algs[i]);

        jws = forge(NULL, ims_str_z(header), body);
        assert_int_equal(verify(jws), IMS_TOKEN_ALG_MISMATCH);
        assert_int_equal(verify(ims_str_set(jws.p, jws.n - 1)),
                         IMS_TOKEN_MALFORMED);

        /* even with a good signature */

        assert_int_equal(verify(forge(ec, ims_str_z(header), body)),
                         IMS_TOKEN_ALG_MISMATCH);
    }

    assert_int_equal(verify(forge(ec, IMS_STR("{}"), body)),
                     IMS_TOKEN_ALG_MISMATCH);

    /* no state is left: bad signatures are still bad, good ones good */

    assert_int_equal(verify(forge(NULL, IMS_STR(EC_HEADER), body)),
                     IMS_TOKEN_BAD_SIGNATURE);

    claims(&c);
    good = sign(ec, &c);
    memcpy(text, good.p, good.n);
    text[good.n - 10] = text[good.n - 10] == 'A' ? 'B' : 'A';
    assert_int_equal(verify(ims_str_set(text, good.n)),
                     IMS_TOKEN_BAD_SIGNATURE);
    assert_int_equal(verify(good), IMS_TOKEN_OK);

    /* 64 zero bytes, and r and s of the group's order: CVE-2022-21449 */

    jws = forge(NULL, IMS_STR(EC_HEADER), body);
    memcpy(text, jws.p, jws.n);
    memset(text + jws.n, 'A', 86);
    assert_int_equal(verify(ims_str_set(text, jws.n + 86)),
                     IMS_TOKEN_BAD_SIGNATURE);
    memset(text + jws.n, '_', 85);
    text[jws.n + 85] = 'w';
    assert_int_equal(verify(ims_str_set(text, jws.n + 86)),
                     IMS_TOKEN_BAD_SIGNATURE);
}


/* HS256 made with what is public of the others (CVE-2016-10555) */

static void
test_confusion(void **state)
{
    size_t           i, j;
    ims_str_t        header;
    uint8_t          zero[32];
    ims_token_key_t  fake;
    const struct {
        const void  *p;
        size_t       n;
    } secrets[] = {
        { rsa_pub, strlen(rsa_pub) },
        { rsa_pub, strlen(rsa_pub) - 1 },
        { ec_pub, strlen(ec_pub) },
        { rsa_der, rsa_der_n },
        { "", 0 },
        { "\0", 1 },
        { "\"\"", 2 },
        { zero, sizeof(zero) },
    };

    (void) state;

    memset(zero, 0, sizeof(zero));
    memset(&fake, 0, sizeof(fake));
    fake.alg = IMS_TOKEN_HS256;

    for (i = 0; i < sizeof(secrets) / sizeof(secrets[0]); i++) {
        ims_hmac_key(&fake.hmac, secrets[i].p, secrets[i].n);

        header = IMS_STR("{\"alg\":\"HS256\"}");

        assert_int_equal(verify(forge(&fake, header,
                                      IMS_STR(ALL(ISS, "1800000000")))),
                         IMS_TOKEN_ALG_MISMATCH);
        assert_int_equal(verify(forge(&fake, header,
                                      IMS_STR(ALL("rs", "1800000000")))),
                         IMS_TOKEN_ALG_MISMATCH);
        assert_int_equal(verify(forge(&fake, header,
                                      IMS_STR(ALL("hs", "1800000000")))),
                         IMS_TOKEN_BAD_SIGNATURE);

        /* the right alg in the header over a MAC */

        assert_int_equal(verify(forge(&fake, IMS_STR("{\"alg\":\"RS256\"}"),
                                      IMS_STR(ALL("rs", "1800000000")))),
                         IMS_TOKEN_BAD_SIGNATURE);
    }

    /* one issuer's key says nothing for another */

    for (i = 0; i < 3; i++) {
        static const char *const  headers[] = {
            "{\"alg\":\"ES256\"}", "{\"alg\":\"RS256\"}", "{\"alg\":\"HS256\"}"
        };
        static const char *const  bodies[] = {
            ALL(ISS, "1800000000"), ALL("rs", "1800000000"),
            ALL("hs", "1800000000")
        };
        const ims_token_key_t *const  keys[] = { ec, rsa, hs };

        for (j = 0; j < 3; j++) {
            assert_int_equal(verify(forge(keys[i], ims_str_z(headers[i]),
                                          ims_str_z(bodies[j]))),
                             i == j ? IMS_TOKEN_OK : IMS_TOKEN_ALG_MISMATCH);
            assert_int_equal(verify(forge(keys[i], ims_str_z(headers[j]),
                                          ims_str_z(bodies[j]))),
                             i == j ? IMS_TOKEN_OK : IMS_TOKEN_BAD_SIGNATURE);
        }
    }
}


static void
test_kid(void **state)
{
    size_t                    i;
    ims_str_t                 body, many;
    static char               longer[5000];
    static const char *const  headers[] = {
        "{\"alg\":\"ES256\",\"kid\":\"ec-2\"}",
        "{\"alg\":\"ES256\",\"kid\":\"ec-3\"}",
        "{\"alg\":\"ES256\",\"kid\":\"hs\"}",
        "{\"alg\":\"ES256\",\"kid\":\"\"}",
        "{\"alg\":\"ES256\",\"kid\":\"ec-1 \"}",
        "{\"alg\":\"ES256\",\"kid\":\"EC-1\"}",
        "{\"alg\":\"ES256\",\"kid\":\"../../dev/null\"}",
        "{\"alg\":\"ES256\",\"kid\":\"ec-1\\\"\"}",
        "{\"alg\":\"ES256\",\"kid\":null}",
        "{\"alg\":\"ES256\",\"kid\":1}",
        "{\"alg\":\"ES256\",\"kid\":[\"ec-1\"]}",
        "{\"alg\":\"ES256\",\"kid\":{}}",
    };

    (void) state;

    body = IMS_STR(ALL(ISS, "1800000000"));
    many = IMS_STR(ALL("many", "1800000000"));

    for (i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        if (verify(forge(ec, ims_str_z(headers[i]), body))
            != IMS_TOKEN_UNKNOWN_KID)
        {
            fail_msg("%s", headers[i]);
        }
    }

    assert_int_equal(verify(forge(ec, IMS_STR("{\"alg\":\"ES256\","
                                              "\"kid\":\"ec-1\\u0000\"}"),
                                  body)), IMS_TOKEN_MALFORMED);

    snprintf(longer, sizeof(longer), "{\"alg\":\"ES256\",\"kid\":\"%04000d\"}",
             1);
    assert_int_equal(verify(forge(ec, ims_str_z(longer), body)),
                     IMS_TOKEN_UNKNOWN_KID);

    /* several keys: each by its own name only, none without a name */

    assert_int_equal(verify(forge(ec, IMS_STR(EC_HEADER), many)),
                     IMS_TOKEN_OK);
    assert_int_equal(verify(forge(ec2, IMS_STR(EC_HEADER), many)),
                     IMS_TOKEN_BAD_SIGNATURE);
    assert_int_equal(verify(forge(ec2, ims_str_z(headers[0]), many)),
                     IMS_TOKEN_OK);
    assert_int_equal(verify(forge(ec, IMS_STR("{\"alg\":\"ES256\"}"), many)),
                     IMS_TOKEN_UNKNOWN_KID);

    /* a single key needs no name */

    assert_int_equal(verify(forge(ec, IMS_STR("{\"alg\":\"ES256\"}"), body)),
                     IMS_TOKEN_OK);
}


/* keys that the token brings along or points to are not looked at */

static void
test_headers(void **state)
{
    char       header[2048], x[64], y[64];
    ims_str_t  body;

    (void) state;

    body = IMS_STR(ALL(ISS, "1800000000"));

    /* ec2's token with a jwk of it: any would do, the header is not read */

    memset(x, 'A', sizeof(x));
    memset(y, 'B', sizeof(y));
    snprintf(header, sizeof(header), "{\"alg\":\"ES256\",\"jwk\":{\"kty\":"
             "\"EC\",\"crv\":\"P-256\",\"x\":\"%.43s\",\"y\":\"%.43s\"},"
             "\"jku\":\"http://127.0.0.1:9/keys\",\"x5u\":\"file:///etc/x\","
             "\"x5c\":[\"MII\"]}", x, y);
    assert_int_equal(verify(forge(ec2, ims_str_z(header), body)),
                     IMS_TOKEN_BAD_SIGNATURE);
    assert_int_equal(verify(forge(ec, ims_str_z(header), body)),
                     IMS_TOKEN_OK);

    assert_int_equal(verify(forge(ec, IMS_STR("{\"alg\":\"ES256\",\"crit\":"
                                              "[\"exp\"],\"exp\":1}"), body)),
                     IMS_TOKEN_CRIT);
    assert_int_equal(verify(forge(ec, IMS_STR("{\"alg\":\"ES256\",\"crit\":"
                                              "\"b64\"}"), body)),
                     IMS_TOKEN_CRIT);
    assert_int_equal(verify(forge(ec, IMS_STR("{\"alg\":\"ES256\",\"crit\":"
                                              "null}"), body)),
                     IMS_TOKEN_CRIT);

    /* RFC 9068 */

    assert_int_equal(verify(forge(ec, IMS_STR("{\"alg\":\"ES256\",\"typ\":"
                                              "\"at+jwt\"}"), body)),
                     IMS_TOKEN_OK);
}


/* the claims of ALL with one replaced; NULL: left out */

static ims_token_code_t
with(const char *name, const char *value, const char **claim)
{
    char                json[IMS_TOKEN_MAX];
    size_t              i, n;
    ims_token_claims_t  out;
    static const char  *const  base[][2] = {
        { "iss", "\"" ISS "\"" },
        { "aud", "\"" AUD "\"" },
        { "sub", "\"AAECAwQFBgcICQoLDA0ODw\"" },
        { "impi", "\"a@b\"" },
        { "impu", "\"sip:a@b\"" },
        { "lease", "\"1-2\"" },
        { "sid", "\"0000000000000001\"" },
        { "pool", "\"web\"" },
        { "scope", "\"" IMS_TOKEN_SCOPE "\"" },
        { "exp", "1800000000" },
    };

    n = (size_t) snprintf(json, sizeof(json), "{\"x\":1");

    for (i = 0; i < sizeof(base) / sizeof(base[0]); i++) {
        if (strcmp(base[i][0], name) != 0) {
            n += (size_t) snprintf(json + n, sizeof(json) - n, ",\"%s\":%s",
                                   base[i][0], base[i][1]);
        }
    }

    if (value != NULL) {
        n += (size_t) snprintf(json + n, sizeof(json) - n, ",\"%s\":%s", name,
                               value);
    }

    n += (size_t) snprintf(json + n, sizeof(json) - n, "}");
    assert_true(n < sizeof(json));

    return verify_at(forge(ec, IMS_STR(EC_HEADER), ims_str_set(json, n)), NOW,
                     &out, claim);
}


#define GOOD     IMS_TOKEN_OK
#define BAD      IMS_TOKEN_CLAIM_BAD
#define MISSING  IMS_TOKEN_CLAIM_MISSING
#define BROKEN   IMS_TOKEN_MALFORMED

static const struct {
    const char        *name;
    const char        *value;
    ims_token_code_t   code;
} values[] = {

    { "iss", NULL, IMS_TOKEN_UNKNOWN_ISSUER },
    { "iss", "\"\"", IMS_TOKEN_UNKNOWN_ISSUER },
    { "iss", "\"https://wwsf.example.evil\"", IMS_TOKEN_UNKNOWN_ISSUER },
    { "iss", "\"https://wwsf.exampl\"", IMS_TOKEN_UNKNOWN_ISSUER },
    { "iss", "[\"" ISS "\"]", IMS_TOKEN_UNKNOWN_ISSUER },
    { "iss", "null", IMS_TOKEN_UNKNOWN_ISSUER },

    { "aud", NULL, MISSING },
    { "aud", "[\"x\",\"" AUD "\"]", GOOD },
    { "aud", "[\"x\"]", IMS_TOKEN_WRONG_AUDIENCE },
    { "aud", "[]", IMS_TOKEN_WRONG_AUDIENCE },
    { "aud", "\"\"", IMS_TOKEN_WRONG_AUDIENCE },
    { "aud", "\"" AUD "/\"", IMS_TOKEN_WRONG_AUDIENCE },
    { "aud", "\"x " AUD "\"", IMS_TOKEN_WRONG_AUDIENCE },
    { "aud", "[\"" AUD "\",1]", BAD },
    { "aud", "{\"" AUD "\":1}", BAD },
    { "aud", "null", BAD },
    { "aud", "true", BAD },

    { "scope", NULL, IMS_TOKEN_SCOPE_MISSING },
    { "scope", "\"openid " IMS_TOKEN_SCOPE " x\"", GOOD },
    { "scope", "[\"openid\",\"" IMS_TOKEN_SCOPE "\"]", GOOD },
    { "scope", "\"openid\"", IMS_TOKEN_SCOPE_MISSING },
    { "scope", "\"\"", IMS_TOKEN_SCOPE_MISSING },
    { "scope", "[]", IMS_TOKEN_SCOPE_MISSING },
    { "scope", "\"" IMS_TOKEN_SCOPE "x\"", IMS_TOKEN_SCOPE_MISSING },
    { "scope", "\"x" IMS_TOKEN_SCOPE "\"", IMS_TOKEN_SCOPE_MISSING },
    { "scope", "\"openid," IMS_TOKEN_SCOPE "\"", IMS_TOKEN_SCOPE_MISSING },
    { "scope", "[\"" IMS_TOKEN_SCOPE "\",null]", BAD },
    { "scope", "7", BAD },

    { "sub", NULL, MISSING },
    { "sub", "\"\"", BAD },
    { "sub", "\"AAECAwQFBgcICQoLDA0OD\"", BAD },
    { "sub", "\"AAECAwQFBgcICQoLDA0ODwA\"", BAD },
    { "sub", "\"AAECAwQFBgcICQoLDA0OD+\"", BAD },
    { "sub", "\"AAECAwQFBgcICQoLDA0ODx\"", BAD },
    { "sub", "1", BAD },

    { "impi", NULL, MISSING },
    { "impi", "\"\"", BAD },
    { "impi", "\"a\"", BAD },
    { "impi", "\"a@\"", BAD },
    { "impi", "\"@b\"", BAD },
    { "impi", "\"a@b@c\"", BAD },
    { "impi", "\"a@b\\\"\"", BAD },
    { "impi", "\"a\\\\@b\"", BAD },
    { "impi", "\"a@b\\u000d\\u000aX: y\"", BAD },
    { "impi", "\"a@b\\u0000\"", BROKEN },
    { "impi", "\"a @b\"", BAD },
    { "impi", "\"a@b\\u007f\"", BAD },
    { "impi", "\"\\u00e9@b\"", BAD },
    { "impi", "[\"a@b\"]", BAD },
    { "impi", "null", BAD },
    { "impi", "1", BAD },

    { "impu", NULL, MISSING },
    { "impu", "\"\"", BAD },
    { "impu", "[]", BAD },
    { "impu", "[\"sip:a@b\"]", GOOD },
    { "impu", "[\"sip:1@b\",\"sip:2@b\",\"sip:3@b\",\"sip:4@b\",\"sip:5@b\","
      "\"sip:6@b\",\"sip:7@b\",\"tel:+8\"]", GOOD },
    { "impu", "[\"sip:1@b\",\"sip:2@b\",\"sip:3@b\",\"sip:4@b\",\"sip:5@b\","
      "\"sip:6@b\",\"sip:7@b\",\"tel:+8\",\"tel:+9\"]", BAD },
    { "impu", "[\"sip:a@b\",\"\"]", BAD },
    { "impu", "[\"sip:a@b\",7]", BAD },
    { "impu", "[\"sip:a@b\",[\"sip:c@d\"]]", BAD },
    { "impu", "{\"0\":\"sip:a@b\"}", BAD },
    { "impu", "null", BAD },
    { "impu", "\"SIP:a@b;user=phone\"", GOOD },
    { "impu", "\"sips:a@b:5061\"", GOOD },
    { "impu", "\"tel:+49-30-1;phone-context=x\"", GOOD },
    { "impu", "\"sip:\"", BAD },
    { "impu", "\"a@b\"", BAD },
    { "impu", "\"mailto:a@b\"", BAD },
    { "impu", "\"<sip:a@b>\"", BAD },
    { "impu", "\"sip:a@b>\\u000d\\u000aP-Asserted-Identity: <sip:v@x\"", BAD },
    { "impu", "\"sip:a@b\\r\\nX: y\"", BAD },
    { "impu", "\"sip:a@b\\n\"", BAD },
    { "impu", "\"sip:a@b\\t\"", BAD },
    { "impu", "\"sip:a@b\\u0000\"", BROKEN },
    { "impu", "\"sip:a@b\\\"\"", BAD },
    { "impu", "\"sip:a@b\\\\\"", BAD },
    { "impu", "\"sip:a b@c\"", BAD },
    { "impu", "\"sip:a@b?Subject=x\"", BAD },
    { "impu", "\"sip:a%41@b\"", GOOD },
    { "impu", "\"sip:a%0d%0a@b\"", BAD },
    { "impu", "\"sip:a%0D@b\"", BAD },
    { "impu", "\"sip:a%00@b\"", BAD },
    { "impu", "\"sip:a%7f@b\"", BAD },
    { "impu", "\"sip:a%4@b\"", BAD },
    { "impu", "\"sip:a@b%\"", BAD },
    { "impu", "\"sip:a@b%4\"", BAD },
    { "impu", "\"sip:\\u00fc@b\"", BAD },

    { "lease", NULL, MISSING },
    { "lease", "\"\"", BAD },
    { "lease", "\"-\"", BAD },
    { "lease", "\"1-\"", BAD },
    { "lease", "\"-2\"", BAD },
    { "lease", "\"12\"", BAD },
    { "lease", "\"1-2-3\"", BAD },
    { "lease", "\"g-2\"", BAD },
    { "lease", "\"A-2\"", BAD },
    { "lease", "\"1-+2\"", BAD },
    { "lease", "\"1- 2\"", BAD },
    { "lease", "\"ffffffffffffffff-ffffffffffffffff\"", GOOD },
    { "lease", "\"10000000000000000-1\"", BAD },
    { "lease", "12", BAD },

    { "sid", NULL, MISSING },
    { "sid", "\"000000000000001\"", BAD },
    { "sid", "\"00000000000000001\"", BAD },
    { "sid", "\"000000000000000g\"", BAD },
    { "sid", "\"000000000000000F\"", BAD },
    { "sid", "\"0x00000000000001\"", BAD },
    { "sid", "1", BAD },

    { "pool", NULL, MISSING },
    { "pool", "\"\"", BAD },
    { "pool", "\"a\\\"b\"", BAD },
    { "pool", "\"a\\r\\nb\"", BAD },
    { "pool", "1", BAD },

    { "origin", "\"https://site.example\"", GOOD },
    { "origin", "\"null\"", BAD },
    { "origin", "\"\"", BAD },
    { "origin", "\"https://site.example/\"", BAD },
    { "origin", "null", BAD },
    { "origin", "[\"https://site.example\"]", BAD },

    { "jti", "\"x\"", GOOD },
    { "jti", "\"\"", BAD },
    { "jti", "\"a\\u001fb\"", BAD },
    { "jti", "\"a\\u0085b\"", BAD },
    { "jti", "\"a\\u00a0\\u20acb\"", GOOD },
    { "jti", "7", BAD },

    { "exp", NULL, MISSING },
    { "exp", "1800000000", GOOD },
    { "exp", "253402300799", GOOD },
    { "exp", "253402300800", BAD },
    { "exp", "9223372036854775807", BAD },
    { "exp", "9223372036854775808", BROKEN },
    { "exp", "\"1800000000\"", BAD },
    { "exp", "1800000000.0", BAD },
    { "exp", "1.8e9", BAD },
    { "exp", "1e300", BAD },
    { "exp", "1e999", BROKEN },
    { "exp", "-1", BAD },
    { "exp", "-1800000000", BAD },
    { "exp", "0", BAD },
    { "exp", "-0", BAD },
    { "exp", "01800000000", BROKEN },
    { "exp", "null", BAD },
    { "exp", "true", BAD },
    { "exp", "[1800000000]", BAD },
    { "exp", "{}", BAD },
    { "exp", "1700000000", GOOD },              /* the leeway */
    { "exp", "1699999995", IMS_TOKEN_EXPIRED },
    { "exp", "1", IMS_TOKEN_EXPIRED },

    { "nbf", "1700000005", GOOD },
    { "nbf", "1700000006", IMS_TOKEN_NOT_YET_VALID },
    { "nbf", "\"1700000000\"", BAD },
    { "nbf", "-1", BAD },
    { "nbf", "1e300", BAD },
    { "nbf", "null", BAD },
    { "iat", "1700000000", GOOD },
    { "iat", "1.5", BAD },
    { "iat", "\"now\"", BAD },
};


static void
test_claims(void **state)
{
    char               text[800];
    size_t             i;
    const char        *claim;
    ims_token_code_t   code;

    (void) state;

    for (i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        code = with(values[i].name, values[i].value, &claim);

        if (code != values[i].code) {
            fail_msg("%s: %s: %s, not %s", values[i].name,
                     values[i].value ? values[i].value : "absent",
                     ims_token_strerror(code),
                     ims_token_strerror(values[i].code));
        }

        if (code == BAD || code == MISSING) {
            assert_string_equal(claim, values[i].name);
        }
    }

    snprintf(text, sizeof(text), "\"%0255d\"", 1);
    assert_int_equal(with("jti", text, &claim), IMS_TOKEN_OK);
    snprintf(text, sizeof(text), "\"%0256d\"", 1);
    assert_int_equal(with("jti", text, &claim), IMS_TOKEN_CLAIM_BAD);
    snprintf(text, sizeof(text), "\"sip:%0505d@b\"", 1);
    assert_int_equal(with("impu", text, &claim), IMS_TOKEN_OK);
    snprintf(text, sizeof(text), "\"sip:%0506d@b\"", 1);
    assert_int_equal(with("impu", text, &claim), IMS_TOKEN_CLAIM_BAD);
}


/* more than a reader has room for */

static void
test_room(void **state)
{
    char                json[IMS_TOKEN_MAX], uris[8][512];
    size_t              i, n;
    const char         *claim;
    ims_token_err_t     err;
    ims_token_claims_t  c;
    uint8_t             dst[IMS_TOKEN_MAX];

    (void) state;

    n = (size_t) snprintf(json, sizeof(json), "[");
    claims(&c);

    for (i = 0; i < 8; i++) {
        snprintf(uris[i], sizeof(uris[i]), "sip:%0300u@b", (unsigned) i);
        c.impu[i] = ims_str_z(uris[i]);
        n += (size_t) snprintf(json + n, sizeof(json) - n, "%s\"%s\"",
                               i ? "," : "", uris[i]);
    }

    snprintf(json + n, sizeof(json) - n, "]");

    assert_int_equal(with("impu", json, &claim), IMS_TOKEN_CLAIM_BAD);

    c.nimpu = 8;
    assert_int_equal(ims_token_sign(ec, &c, dst, sizeof(dst), &n, &err), -1);
    assert_int_equal(err.code, IMS_TOKEN_TOO_LARGE);

    c.nimpu = 5;
    assert_int_equal(verify(sign(ec, &c)), IMS_TOKEN_OK);
}


/* nothing is signed that would be refused, nothing written beyond cap */

static void
test_sign_refuses(void **state)
{
    size_t              i, n, full;
    uint8_t             dst[IMS_TOKEN_MAX + 1];
    ims_token_err_t     err;
    ims_token_claims_t  c;

    (void) state;

#define refused(field, value, code_, claim_)                                  \
    claims(&c);                                                               \
    c.field = value;                                                          \
    assert_int_equal(ims_token_sign(ec, &c, dst, sizeof(dst), &n, &err), -1); \
    assert_int_equal(err.code, code_);                                        \
    assert_string_equal(err.claim, claim_)

    refused(iss, IMS_STR_NULL, MISSING, "iss");
    refused(iss, IMS_STR("a\"b"), BAD, "iss");
    refused(aud, IMS_STR_NULL, BAD, "aud");
    refused(sub, IMS_STR("user@example"), BAD, "sub");
    refused(sub, IMS_STR_NULL, MISSING, "sub");
    refused(impi, IMS_STR("a@b\r\nX: y"), BAD, "impi");
    refused(impi, IMS_STR_NULL, MISSING, "impi");
    refused(impu[1], IMS_STR("sip:a@b>"), BAD, "impu");
    refused(impu[1], IMS_STR("sip:a\0@b"), BAD, "impu");
    refused(nimpu, 0, MISSING, "impu");
    refused(nimpu, 9, BAD, "impu");
    refused(lease, IMS_STR("x"), BAD, "lease");
    refused(sid, IMS_STR("1"), BAD, "sid");
    refused(pool, IMS_STR("\xff\xfe"), BAD, "pool");
    refused(origin, IMS_STR("null"), BAD, "origin");
    refused(scope, IMS_STR_NULL, BAD, "scope");
    refused(jti, IMS_STR("a\0b"), BAD, "jti");
    refused(exp, 0, MISSING, "exp");
    refused(exp, -1, BAD, "exp");
    refused(exp, INT64_MAX, BAD, "exp");
    refused(nbf, -1, BAD, "nbf");
    refused(iat, INT64_MIN, BAD, "iat");

#undef refused

    /* a public key signs nothing */

    claims(&c);
    assert_int_equal(ims_token_sign(ec_verify, &c, dst, sizeof(dst), &n, &err),
                     -1);
    assert_int_equal(err.code, IMS_TOKEN_FAILURE);

    full = sign(ec, &c).n;

    for (i = 0; i < full; i++) {
        dst[i] = 0x5a;
        assert_int_equal(ims_token_sign(ec, &c, dst, i, &n, &err), -1);
        assert_int_equal(err.code, IMS_TOKEN_TOO_LARGE);
        assert_int_equal(dst[i], 0x5a);
    }

    assert_int_equal(ims_token_sign(ec, &c, dst, full, &n, &err), 0);
    assert_int_equal(n, full);
}


static void
no_key(ims_token_alg_t alg, const char *text, size_t n, bool private,
    const char *kid)
{
    char              err[200];
    ims_token_key_t  *k;

    k = (ims_token_key_t *) &k;
    err[0] = '\0';

    assert_int_equal(ims_token_key_load(&k, alg, ims_str_set(text, n), private,
                                        ims_str_z(kid), err, sizeof(err)), -1);
    assert_null(k);
    assert_true(strlen(err) > 5);
    assert_int_equal(ERR_peek_error(), 0);

    if (n > 20) {
        assert_null(strstr(err, "MI"));
    }
}


static void
test_keys(void **state)
{
    char              kid[IMS_TOKEN_KID_MAX + 2];
    ims_token_alg_t   alg;
    ims_token_key_t  *k;

    (void) state;

#define no(alg, text, private)  no_key(alg, text, strlen(text), private, "k")

    no(IMS_TOKEN_ES256, "", false);
    no(IMS_TOKEN_ES256, "not PEM", false);
    no(IMS_TOKEN_ES256, rsa_pem, true);
    no(IMS_TOKEN_ES256, rsa_pub, false);
    no(IMS_TOKEN_ES256, p384_pem, true);
    no(IMS_TOKEN_ES256, ed_pem, true);
    no(IMS_TOKEN_ES256, ec_pub, true);
    no(IMS_TOKEN_RS256, ec_pem, true);
    no(IMS_TOKEN_RS256, ec_pub, false);
    no(IMS_TOKEN_RS256, rsa1024, true);
    no(IMS_TOKEN_RS256, rsa_pub, true);
    no(IMS_TOKEN_RS256, SECRET, false);
    no(IMS_TOKEN_HS256, "", true);
    no(IMS_TOKEN_HS256, "0123456789abcdef0123456789abcde", true);
    no(IMS_TOKEN_HS256, rsa_pub, true);
    no(IMS_TOKEN_HS256, ec_pem, true);
    no_key(IMS_TOKEN_HS256, (char *) rsa_der, rsa_der_n, true, "k");
    no_key(IMS_TOKEN_ES256, ec_pem, strlen(ec_pem) / 2, true, "k");
    no_key(IMS_TOKEN_ES256, ec_pem, strlen(ec_pem), true, "a b");
    no_key(IMS_TOKEN_ES256, ec_pem, strlen(ec_pem), true, "a\"b");
    no_key(IMS_TOKEN_ES256, ec_pem, strlen(ec_pem), true, "a\\b");
    no_key(IMS_TOKEN_ES256, ec_pem, strlen(ec_pem), true, "\xc3\xa9");

#undef no

    memset(kid, 'k', sizeof(kid));
    kid[IMS_TOKEN_KID_MAX + 1] = '\0';
    no_key(IMS_TOKEN_ES256, ec_pem, strlen(ec_pem), true, kid);
    kid[IMS_TOKEN_KID_MAX] = '\0';
    k = load(IMS_TOKEN_RS256, rsa_pub, false, kid);
    assert_int_equal(ims_token_key_alg(k), IMS_TOKEN_RS256);
    assert_true(ims_str_eq(ims_token_key_kid(k), ims_str_z(kid)));
    ims_token_key_free(k);

    assert_true(ims_token_alg_parse(IMS_STR("HS256"), &alg));
    assert_int_equal(alg, IMS_TOKEN_HS256);
    assert_false(ims_token_alg_parse(IMS_STR("none"), &alg));
    assert_false(ims_token_alg_parse(IMS_STR("es256"), &alg));
    assert_false(ims_token_alg_parse(IMS_STR(""), &alg));
}


/* examples from outside: RFC 7515 A.3, ES256, and A.1, HS256 */

static void
test_rfc_es256(void **state)
{
    char             pem[300], err[100];
    uint8_t          der[91], sig[64];
    ims_str_t        input;
    ims_token_key_t  *k;
    static const uint8_t  spki[] = {
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d,
        0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01,
        0x07, 0x03, 0x42, 0x00, 0x04
    };

    (void) state;

    memcpy(der, spki, 27);
    assert_int_equal(ims_b64url_decode(der + 27, 32,
        IMS_STR("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU")), 32);
    assert_int_equal(ims_b64url_decode(der + 59, 32,
        IMS_STR("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0")), 32);

    strcpy(pem, "-----BEGIN PUBLIC KEY-----\n");
    EVP_EncodeBlock((uint8_t *) pem + strlen(pem), der, sizeof(der));
    /* lines of at most 64 are for writers; readers take longer ones */
    strcat(pem, "\n-----END PUBLIC KEY-----\n");

    assert_int_equal(ims_token_key_load(&k, IMS_TOKEN_ES256, ims_str_z(pem),
                                        false, IMS_STR(""), err, sizeof(err)),
                     0);

    input = IMS_STR("eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzM"
                    "DA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp"
                    "0cnVlfQ");
    assert_int_equal(ims_b64url_decode(sig, sizeof(sig),
        IMS_STR("DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa"
                "8ISlSApmWQxfKTUJqPP3-Kg6NU1Q")), 64);

    assert_true(ims_token_key_verify(k, input, ims_str_set(sig, 64)));
    input.n--;
    assert_false(ims_token_key_verify(k, input, ims_str_set(sig, 64)));

    ims_token_key_free(k);
}


static void
test_rfc_hs256(void **state)
{
    size_t           n;
    uint8_t          secret[64], mac[32];
    ims_token_key_t  *k;
    char             err[100];
    ims_str_t        input;

    (void) state;

    n = (size_t) ims_b64url_decode(secret, sizeof(secret),
            IMS_STR("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75"
                    "aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"));
    assert_int_equal(n, 64);
    assert_int_equal(ims_token_key_load(&k, IMS_TOKEN_HS256,
                         ims_str_set(secret, n), true, IMS_STR(""), err,
                         sizeof(err)), 0);

    input = IMS_STR("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2"
                    "UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlL"
                    "mNvbS9pc19yb290Ijp0cnVlfQ");
    assert_int_equal(ims_b64url_decode(mac, sizeof(mac),
        IMS_STR("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")), 32);
    assert_true(ims_token_key_verify(k, input, ims_str_set(mac, 32)));
    mac[31] ^= 1;
    assert_false(ims_token_key_verify(k, input, ims_str_set(mac, 32)));
    assert_false(ims_token_key_verify(k, input, ims_str_set(mac, 31)));

    ims_token_key_free(k);
}


static void
test_digest(void **state)
{
    uint8_t  a[IMS_TOKEN_DIGEST_LEN], b[IMS_TOKEN_DIGEST_LEN];

    (void) state;

    ims_token_digest(IMS_STR("a.b.c"), a);
    ims_token_digest(IMS_STR("a.b.c"), b);
    assert_memory_equal(a, b, sizeof(a));
    ims_token_digest(IMS_STR("a.b.d"), b);
    assert_memory_not_equal(a, b, sizeof(a));
}


static double
now_us(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);

    return (double) ts.tv_sec * 1e6 + (double) ts.tv_nsec / 1e3;
}


/* IMS_BENCH=1 in the environment: figures, no verdict */

static void
bench(void)
{
    int                 i, n;
    size_t              j, len;
    double              t;
    uint8_t             dst[IMS_TOKEN_MAX], digest[IMS_TOKEN_DIGEST_LEN];
    ims_str_t           jws;
    ims_token_err_t     err;
    ims_token_claims_t  c, out;
    const struct {
        const char             *name;
        const ims_token_key_t  *k;
        const char             *iss;
    } ways[] = { { "ES256", ec, ISS }, { "RS256", rsa, "rs" },
                 { "HS256", hs, "hs" } };

    n = 5000;

    for (j = 0; j < 3; j++) {
        claims(&c);
        c.iss = ims_str_z(ways[j].iss);

        t = now_us();

        for (i = 0; i < n; i++) {
            ims_token_sign(ways[j].k, &c, dst, sizeof(dst), &len, &err);
        }

        printf("%s sign %.1f us", ways[j].name, (now_us() - t) / n);

        jws = ims_str_set(dst, len);
        t = now_us();

        for (i = 0; i < n; i++) {
            ims_token_verify(issuers, NISSUERS, jws, NOW, &out, NULL, &err);
        }

        printf(", verify %.1f us", (now_us() - t) / n);
        t = now_us();

        for (i = 0; i < n; i++) {
            ims_token_digest(jws, digest);
        }

        printf(", digest of %u bytes %.2f us\n", (unsigned) len,
               (now_us() - t) / n);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_es256_lengths),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_structure),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_confusion),
        cmocka_unit_test(test_kid),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_claims),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_sign_refuses),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_rfc_es256),
        cmocka_unit_test(test_rfc_hs256),
        cmocka_unit_test(test_digest),
    };

    if (getenv("IMS_BENCH") != NULL) {
        setup(NULL);
        bench();
        teardown(NULL);
        return 0;
    }

    return cmocka_run_group_tests(tests, setup, teardown);
}
