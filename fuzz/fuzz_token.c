/*
 * Copyright (C) nginx-ims contributors
 *
 * Tokens.  Input that is the text of a token goes in as it is.  Everything is
 * also taken as claims, and put, signed, behind a good header: so the fuzzer
 * gets past the signature, and what it finds accepted must obey the rules.
 * corpus/token has claims to begin with.
 */

#include <stdio.h>
#include <stdlib.h>

#include "token/ims_token_key.h"


#define NOW     1700000000
#define SECRET  "0123456789abcdef0123456789abcdef"
#define HEADER  "{\"alg\":\"HS256\"}"


static ims_token_key_t           *key;
static ims_token_issuer_t         issuer;
static const ims_token_issuer_t  *issuers[] = { &issuer };


int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static void
check(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}


int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    char  err[200];

    (void) argc;
    (void) argv;

    check(ims_token_key_load(&key, IMS_TOKEN_HS256, IMS_STR(SECRET), true,
                             IMS_STR(""), err, sizeof(err)) == 0, "key");

    issuer.iss = IMS_STR("i");
    issuer.aud = IMS_STR("a");
    issuer.alg = IMS_TOKEN_HS256;
    issuer.keys = &key;
    issuer.nkeys = 1;
    issuer.scope = IMS_STR("s");

    return 0;
}


static void
clean(ims_str_t s)
{
    size_t  i;

    for (i = 0; i < s.n; i++) {
        check(s.p[i] > 0x20 && s.p[i] < 0x7f && s.p[i] != '"'
              && s.p[i] != '<' && s.p[i] != '>' && s.p[i] != '\\',
              "identity with a character that may not be in it");
    }
}


static bool
verify(ims_str_t jws, ims_token_claims_t *out)
{
    int               rc;
    unsigned          i;
    uint8_t          *exact;
    ims_token_err_t   err;

    exact = malloc(jws.n ? jws.n : 1);
    check(exact != NULL, "no memory");
    memcpy(exact, jws.p, jws.n);

    rc = ims_token_verify(issuers, 1, ims_str_set(exact, jws.n), NOW, out,
                          NULL, &err);
    free(exact);

    check((rc == 0) == (err.code == IMS_TOKEN_OK), "result and code differ");

    if (rc != 0 && err.code != IMS_TOKEN_EXPIRED) {
        check(out->used == 0 && out->nimpu == 0, "claims of a bad token");
        return false;
    }

    check((out->exp > NOW) == (rc == 0), "expired, but not by its exp");
    check(out->nimpu > 0 && out->nimpu <= IMS_TOKEN_IMPU_MAX, "nimpu");
    clean(out->impi);

    for (i = 0; i < out->nimpu; i++) {
        clean(out->impu[i]);
    }

    return true;
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t              n;
    uint8_t            *p, sig[IMS_TOKEN_SIG_MAX];
    uint8_t             text[2 * IMS_TOKEN_MAX];
    ims_token_err_t     err;
    ims_token_claims_t  c, again;

    (void) verify(ims_str_set(data, size), &c);

    if (size > IMS_TOKEN_MAX) {
        return 0;
    }

    p = text;
    p += ims_b64url_encode(p, HEADER, sizeof(HEADER) - 1);
    *p++ = '.';
    p += ims_b64url_encode(p, data, size);
    n = ims_token_key_sign(key, ims_str_range(text, p), sig);
    *p++ = '.';
    p += ims_b64url_encode(p, sig, n);

    if (!verify(ims_str_range(text, p), &c)) {
        return 0;
    }

    /* what was taken can be written, and says the same when read again */

    check(ims_token_sign(key, &c, text, sizeof(text), &n, &err) == 0,
          "what is taken cannot be signed");
    check(verify(ims_str_set(text, n), &again), "own token refused");
    check(c.used == again.used && memcmp(c.buf, again.buf, c.used) == 0
          && c.exp == again.exp && c.nbf == again.nbf && c.iat == again.iat
          && c.ident == again.ident && c.lease_id == again.lease_id
          && c.session == again.session, "own token differs");

    return 0;
}
