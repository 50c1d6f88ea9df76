/*
 * Copyright (C) nginx-ims contributors
 *
 * jansson writes the claims; the signing input is put together here, since
 * libjwt 1.10.2 writes an alg only together with its key as PEM, which it
 * parses for every token.
 */

#include <stdio.h>

#include <jansson.h>

#include "token/ims_token_claims.h"
#include "token/ims_token_key.h"


#define IMS_TOKEN_LEASE_TEXT  33        /* two u64 in hex and a dash */


static int ims_token_complete(ims_token_claims_t *full, uint8_t *text,
    const ims_token_claims_t *c, ims_token_err_t *err);
static json_t *ims_token_object(const ims_token_claims_t *c);
static json_t *ims_token_impus(const ims_token_claims_t *c);
static void ims_token_put(json_t *object, bool *ok, const char *name,
    json_t *value);


int
ims_token_sign(const ims_token_key_t *k, const ims_token_claims_t *c,
    uint8_t *dst, size_t cap, size_t *len, ims_token_err_t *err)
{
    char                json[IMS_TOKEN_MAX / 4 * 3];
    size_t              n, sig_len;
    json_t             *object;
    uint8_t            *p, sig[IMS_TOKEN_SIG_MAX];
    uint8_t             text[IMS_TOKEN_LEASE_TEXT + IMS_TOKEN_SID_LEN + 2];
    ims_token_claims_t  full;

    memset(err, 0, sizeof(ims_token_err_t));

    if (ims_token_complete(&full, text, c, err) != 0) {
        return -1;
    }

    object = ims_token_object(&full);
    if (object == NULL) {
        return ims_token_fail(err, IMS_TOKEN_FAILURE, NULL);
    }

    n = json_dumpb(object, json, sizeof(json), JSON_COMPACT);
    json_decref(object);

    if (n == 0) {
        return ims_token_fail(err, IMS_TOKEN_FAILURE, NULL);
    }

    if (cap > IMS_TOKEN_MAX) {
        cap = IMS_TOKEN_MAX;
    }

    if (n > sizeof(json) || k->header_len + 1 + ims_b64url_len(n) > cap) {
        return ims_token_fail(err, IMS_TOKEN_TOO_LARGE, NULL);
    }

    p = dst;
    memcpy(p, k->header, k->header_len);
    p += k->header_len;
    *p++ = '.';
    p += ims_b64url_encode(p, json, n);

    sig_len = ims_token_key_sign(k, ims_str_range(dst, p), sig);

    if (sig_len == 0) {
        return ims_token_fail(err, IMS_TOKEN_FAILURE, NULL);
    }

    if ((size_t) (p - dst) + 1 + ims_b64url_len(sig_len) > cap) {
        return ims_token_fail(err, IMS_TOKEN_TOO_LARGE, NULL);
    }

    *p++ = '.';
    p += ims_b64url_encode(p, sig, sig_len);

    *len = (size_t) (p - dst);

    return 0;
}


/* the claims with lease and sid written out, if they pass */

static int
ims_token_complete(ims_token_claims_t *full, uint8_t *text,
    const ims_token_claims_t *c, ims_token_err_t *err)
{
    int       n;
    size_t    total;
    unsigned  i;

    const ims_token_rule_t  *rule;

    memcpy(full, c, offsetof(ims_token_claims_t, buf));

    if (full->lease.p == NULL) {
        n = snprintf((char *) text, IMS_TOKEN_LEASE_TEXT + 1, "%llx-%llx",
                     (unsigned long long) c->ident,
                     (unsigned long long) c->lease_id);
        full->lease = ims_str_set(text, (size_t) n);
    }

    if (full->sid.p == NULL) {
        text += IMS_TOKEN_LEASE_TEXT + 1;
        n = snprintf((char *) text, IMS_TOKEN_SID_LEN + 1, "%016llx",
                     (unsigned long long) c->session);
        full->sid = ims_str_set(text, (size_t) n);
    }

    if (ims_token_claims_check(full, err) != 0) {
        return -1;
    }

    if (!ims_token_text_ok(full->aud)) {
        return ims_token_fail(err, IMS_TOKEN_CLAIM_BAD, "aud");
    }

    if (!ims_token_text_ok(full->scope)) {
        return ims_token_fail(err, IMS_TOKEN_CLAIM_BAD, "scope");
    }

    /* what a reader has room for */

    total = full->aud.n + full->scope.n;

    for (rule = ims_token_rules; rule->name != NULL; rule++) {
        total += ims_token_slot(full, rule)->n;
    }

    for (i = 0; i < full->nimpu; i++) {
        total += full->impu[i].n;
    }

    return total <= IMS_TOKEN_BUF
           ? 0 : ims_token_fail(err, IMS_TOKEN_TOO_LARGE, NULL);
}


static json_t *
ims_token_object(const ims_token_claims_t *c)
{
    bool                     ok;
    json_t                  *o;
    ims_str_t               *value;
    const ims_token_rule_t  *rule;

    o = json_object();
    ok = o != NULL;

    for (rule = ims_token_rules; rule->name != NULL; rule++) {
        value = ims_token_slot(c, rule);

        if (value->p != NULL) {
            ims_token_put(o, &ok, rule->name,
                          json_stringn((const char *) value->p, value->n));
        }
    }

    ims_token_put(o, &ok, "aud",
                  json_stringn((const char *) c->aud.p, c->aud.n));
    ims_token_put(o, &ok, "scope",
                  json_stringn((const char *) c->scope.p, c->scope.n));
    ims_token_put(o, &ok, "impu", ims_token_impus(c));

    if (c->iat) {
        ims_token_put(o, &ok, "iat", json_integer(c->iat));
    }

    if (c->nbf) {
        ims_token_put(o, &ok, "nbf", json_integer(c->nbf));
    }

    ims_token_put(o, &ok, "exp", json_integer(c->exp));

    if (!ok) {
        json_decref(o);
        return NULL;
    }

    return o;
}


static json_t *
ims_token_impus(const ims_token_claims_t *c)
{
    unsigned   i;
    json_t    *list;

    if (c->nimpu == 1) {
        return json_stringn((const char *) c->impu[0].p, c->impu[0].n);
    }

    list = json_array();

    for (i = 0; i < c->nimpu; i++) {
        if (json_array_append_new(list,
                json_stringn((const char *) c->impu[i].p, c->impu[i].n))
            != 0)
        {
            json_decref(list);
            return NULL;
        }
    }

    return list;
}


/* a value that could not be made is NULL, which jansson refuses */

static void
ims_token_put(json_t *object, bool *ok, const char *name, json_t *value)
{
    if (json_object_set_new(object, name, value) != 0) {
        *ok = false;
    }
}
