/*
 * Copyright (C) nginx-ims contributors
 */

#include "base/ims_hmac.h"
#include "token/ims_token_claims.h"
#include "ws/ims_origin.h"
#include "ws/ims_utf8.h"


static int ims_token_times_check(const ims_token_claims_t *c,
    ims_token_err_t *err);
static bool ims_token_quotable_ok(ims_str_t value);
static bool ims_token_sub_ok(ims_str_t value);
static bool ims_token_sid_ok(ims_str_t value);
static bool ims_token_lease_ok(ims_str_t value);
static bool ims_token_origin_ok(ims_str_t value);
static bool ims_token_impi_ok(ims_str_t value);
static bool ims_token_impu_ok(ims_str_t value);


#define ims_token_at(member)  offsetof(ims_token_claims_t, member)

/* iss and pool are repeated in SIP headers and in log lines, within quotes */

const ims_token_rule_t  ims_token_rules[] = {
    { "iss", ims_token_at(iss), true, ims_token_quotable_ok },
    { "sub", ims_token_at(sub), true, ims_token_sub_ok },
    { "impi", ims_token_at(impi), true, ims_token_impi_ok },
    { "lease", ims_token_at(lease), true, ims_token_lease_ok },
    { "sid", ims_token_at(sid), true, ims_token_sid_ok },
    { "pool", ims_token_at(pool), true, ims_token_quotable_ok },
    { "origin", ims_token_at(origin), false, ims_token_origin_ok },
    { "jti", ims_token_at(jti), false, ims_token_text_ok },
    { NULL, 0, false, NULL }
};


static const char *const  ims_token_texts[IMS_TOKEN_NERRORS] = {
    "token is good",
    "token is malformed",
    "token is too large",
    "token has a critical extension",
    "token is of an unknown issuer",
    "token has another algorithm than its issuer",
    "token has an unknown key id",
    "token has a bad signature",
    "token lacks a claim",
    "token has a bad claim",
    "token is for another audience",
    "token lacks the scope",
    "token is not yet valid",
    "token has expired",
    "token could not be handled"
};


const char *
ims_token_strerror(ims_token_code_t code)
{
    return (unsigned) code < IMS_TOKEN_NERRORS ? ims_token_texts[code]
                                               : "unknown token error";
}


int
ims_token_fail(ims_token_err_t *err, ims_token_code_t code, const char *claim)
{
    err->code = code;
    err->claim = claim;

    return -1;
}


int
ims_token_claims_check(const ims_token_claims_t *c, ims_token_err_t *err)
{
    unsigned                 i;
    const ims_str_t         *value;
    const ims_token_rule_t  *rule;

    for (rule = ims_token_rules; rule->name != NULL; rule++) {
        value = ims_token_slot(c, rule);

        if (value->p == NULL) {
            if (rule->required) {
                return ims_token_fail(err, IMS_TOKEN_CLAIM_MISSING,
                                      rule->name);
            }

            continue;
        }

        if (!rule->ok(*value)) {
            return ims_token_fail(err, IMS_TOKEN_CLAIM_BAD, rule->name);
        }
    }

    if (c->nimpu == 0) {
        return ims_token_fail(err, IMS_TOKEN_CLAIM_MISSING, "impu");
    }

    for (i = 0; i < c->nimpu; i++) {
        if (i == IMS_TOKEN_IMPU_MAX || !ims_token_impu_ok(c->impu[i])) {
            return ims_token_fail(err, IMS_TOKEN_CLAIM_BAD, "impu");
        }
    }

    return ims_token_times_check(c, err);
}


static int
ims_token_times_check(const ims_token_claims_t *c, ims_token_err_t *err)
{
    if (c->exp == 0) {
        return ims_token_fail(err, IMS_TOKEN_CLAIM_MISSING, "exp");
    }

    if (c->exp < 0 || c->exp > IMS_TOKEN_TIME_MAX) {
        return ims_token_fail(err, IMS_TOKEN_CLAIM_BAD, "exp");
    }

    if (c->nbf < 0 || c->nbf > IMS_TOKEN_TIME_MAX) {
        return ims_token_fail(err, IMS_TOKEN_CLAIM_BAD, "nbf");
    }

    if (c->iat < 0 || c->iat > IMS_TOKEN_TIME_MAX) {
        return ims_token_fail(err, IMS_TOKEN_CLAIM_BAD, "iat");
    }

    return 0;
}


bool
ims_token_text_ok(ims_str_t value)
{
    size_t   i;
    uint8_t  c;

    if (value.n == 0 || value.n > IMS_TOKEN_STR_MAX || !ims_utf8_ok(value)) {
        return false;
    }

    for (i = 0; i < value.n; i++) {
        c = value.p[i];

        if (c < 0x20 || c == 0x7f) {
            return false;
        }

        /* U+0080 to U+009F are controls as well */

        if (c == 0xc2 && value.p[i + 1] < 0xa0) {
            return false;
        }
    }

    return true;
}


static bool
ims_token_quotable_ok(ims_str_t value)
{
    return ims_token_text_ok(value)
           && memchr(value.p, '"', value.n) == NULL
           && memchr(value.p, '\\', value.n) == NULL;
}


static bool
ims_token_sub_ok(ims_str_t value)
{
    uint8_t  tag[16];

    return ims_b64url_decode(tag, sizeof(tag), value) == sizeof(tag);
}


/* one value, one text: the edge compares leases and sessions as strings too */

static bool
ims_token_hex_lower(ims_str_t value, uint64_t *v)
{
    size_t  i;

    for (i = 0; i < value.n; i++) {
        if (value.p[i] >= 'A' && value.p[i] <= 'F') {
            return false;
        }
    }

    return ims_hex_u64(value, v);
}


static bool
ims_token_sid_ok(ims_str_t value)
{
    uint64_t  v;

    return value.n == IMS_TOKEN_SID_LEN && ims_token_hex_lower(value, &v);
}


bool
ims_token_lease_parse(ims_str_t value, uint64_t *ident, uint64_t *lease_id)
{
    const uint8_t  *dash;

    dash = value.n ? memchr(value.p, '-', value.n) : NULL;

    return dash != NULL
           && ims_token_hex_lower(ims_str_range(value.p, dash), ident)
           && ims_token_hex_lower(ims_str_range(dash + 1, value.p + value.n),
                                  lease_id);
}


static bool
ims_token_lease_ok(ims_str_t value)
{
    uint64_t  ident, lease_id;

    return ims_token_lease_parse(value, &ident, &lease_id);
}


static bool
ims_token_origin_ok(ims_str_t value)
{
    ims_origin_t  o;

    return value.n <= IMS_TOKEN_STR_MAX && ims_origin_parse(&o, value);
}


/*
 * An identity is written between quotes or angle brackets, so nothing in it
 * may end those; an escape must be one, and not of a control character, for
 * whoever decodes it later.
 */

static bool
ims_token_identity_ok(ims_str_t value)
{
    size_t   i;
    uint8_t  c;

    if (value.n == 0 || value.n > IMS_TOKEN_URI_MAX) {
        return false;
    }

    for (i = 0; i < value.n; i++) {
        c = value.p[i];

        if (c <= 0x20 || c >= 0x7f || c == '"' || c == '<' || c == '>'
            || c == '\\')
        {
            return false;
        }

        if (c == '%') {
            if (value.n - i < 3
                || !ims_hex_decode(&c, 1, ims_str_set(value.p + i + 1, 2))
                || c < 0x20 || c == 0x7f)
            {
                return false;
            }

            i += 2;
        }
    }

    return true;
}


/* a network access identifier, user@realm (TS 23.003 13.3) */

static bool
ims_token_impi_ok(ims_str_t value)
{
    const uint8_t  *at;

    if (!ims_token_identity_ok(value)) {
        return false;
    }

    at = memchr(value.p, '@', value.n);

    return at != NULL && at != value.p && at != value.p + value.n - 1
           && memchr(at + 1, '@', (size_t) (value.p + value.n - at - 1))
              == NULL;
}


/* a SIP or tel URI without headers (TS 23.003 13.4) */

static bool
ims_token_impu_ok(ims_str_t value)
{
    size_t                  i;
    static const ims_str_t  schemes[] = {
        ims_str("sip:"), ims_str("sips:"), ims_str("tel:")
    };

    if (!ims_token_identity_ok(value)) {
        return false;
    }

    for (i = 0; i < value.n; i++) {
        if (strchr("?^`{|}", value.p[i]) != NULL) {
            return false;
        }
    }

    for (i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        if (value.n > schemes[i].n
            && ims_str_caseeq(ims_str_set(value.p, schemes[i].n), schemes[i]))
        {
            return true;
        }
    }

    return false;
}


bool
ims_token_words_have(ims_str_t list, ims_str_t word)
{
    size_t  n;

    while (list.n) {

        for (n = 0; n < list.n && list.p[n] != ' '; n++) { /* void */ }

        if (n && ims_str_eq(ims_str_set(list.p, n), word)) {
            return true;
        }

        if (n < list.n) {
            n++;
        }

        list.p += n;
        list.n -= n;
    }

    return false;
}


bool
ims_token_store(ims_token_claims_t *c, ims_str_t *dst, ims_str_t value)
{
    if (value.n > sizeof(c->buf) - c->used) {
        return false;
    }

    memcpy(c->buf + c->used, value.p, value.n);

    *dst = ims_str_set(c->buf + c->used, value.n);
    c->used += value.n;

    return true;
}


static void
ims_token_rebase(ims_str_t *s, const ims_token_claims_t *src,
    ims_token_claims_t *dst)
{
    if (s->p != NULL) {
        s->p = dst->buf + (s->p - src->buf);
    }
}


void
ims_token_claims_copy(ims_token_claims_t *dst, const ims_token_claims_t *src)
{
    unsigned                 i;
    const ims_token_rule_t  *rule;

    memcpy(dst, src, offsetof(ims_token_claims_t, buf));
    memcpy(dst->buf, src->buf, src->used);

    for (rule = ims_token_rules; rule->name != NULL; rule++) {
        ims_token_rebase(ims_token_slot(dst, rule), src, dst);
    }

    ims_token_rebase(&dst->aud, src, dst);
    ims_token_rebase(&dst->scope, src, dst);

    for (i = 0; i < dst->nimpu; i++) {
        ims_token_rebase(&dst->impu[i], src, dst);
    }
}


void
ims_token_digest(ims_str_t jws, uint8_t out[IMS_TOKEN_DIGEST_LEN])
{
    ims_sha256_parts(&jws, 1, out, IMS_TOKEN_DIGEST_LEN);
}
