/*
 * Copyright (C) nginx-ims contributors
 *
 * libjwt holds and reads header and claims, but it is not given the token:
 * jwt_decode() takes foreign characters in base64, stops at a NUL, lets the
 * last of two equal members win, and wants `typ` to be JWT.  So the segments
 * are decoded here, strictly, and it gets their JSON, where it refuses
 * duplicates.  Its getters answer 0 for a number that is a string or a real,
 * hence numbers and lists are taken from a claim's JSON text.
 *
 * The jwt_t lives in ims_token_verify() only, and nothing of it but `iss`,
 * `alg`, `kid` and the presence of `crit` is looked at before the signature.
 */

#include <errno.h>
#include <stdlib.h>

#include <jansson.h>
#include <jwt.h>

#include "token/ims_token_claims.h"
#include "token/ims_token_key.h"


#define IMS_TOKEN_DEPTH  8          /* nesting of the JSON */


typedef struct {
    ims_str_t  header;              /* base64url, as received */
    ims_str_t  claims;
    ims_str_t  signature;
    ims_str_t  signed_part;         /* header "." claims */
} ims_token_parts_t;


static ims_token_code_t ims_token_split(ims_token_parts_t *parts,
    ims_str_t jws);
static ims_token_code_t ims_token_parse(const ims_token_parts_t *parts,
    jwt_t *jwt);
static bool ims_token_json(char *dst, size_t cap, ims_str_t segment);
static bool ims_token_shallow(const char *json);
static ims_token_code_t ims_token_trust(const ims_token_parts_t *parts,
    jwt_t *jwt, const ims_token_issuer_t *const *issuers, size_t n,
    const ims_token_issuer_t **issuer);
static bool ims_token_absent(void);
static const ims_token_key_t *ims_token_pick(const ims_token_issuer_t *issuer,
    jwt_t *jwt);
static bool ims_token_signed(const ims_token_key_t *k,
    const ims_token_parts_t *parts);
static int ims_token_read(jwt_t *jwt, const ims_token_issuer_t *issuer,
    ims_token_claims_t *out, ims_token_err_t *err);
static int ims_token_read_strings(jwt_t *jwt, ims_token_claims_t *out,
    ims_token_err_t *err);
static int ims_token_read_times(jwt_t *jwt, ims_token_claims_t *out,
    ims_token_err_t *err);
static int ims_token_read_impu(jwt_t *jwt, ims_token_claims_t *out,
    ims_token_err_t *err);
static int ims_token_read_list(jwt_t *jwt, const char *name, json_t **list,
    ims_token_err_t *err);
static bool ims_token_list_has(const json_t *list, ims_str_t want,
    bool words);
static int ims_token_judge(const ims_token_issuer_t *issuer, jwt_t *jwt,
    int64_t now, ims_token_claims_t *out, ims_token_err_t *err);


int
ims_token_verify(const ims_token_issuer_t *const *issuers, size_t n,
    ims_str_t jws, int64_t now, ims_token_claims_t *out,
    const ims_token_issuer_t **issuer, ims_token_err_t *err)
{
    int                        rc;
    jwt_t                     *jwt;
    ims_token_code_t           code;
    ims_token_parts_t          parts;
    const ims_token_issuer_t  *found;

    memset(out, 0, offsetof(ims_token_claims_t, buf));
    memset(err, 0, sizeof(ims_token_err_t));

    code = ims_token_split(&parts, jws);
    if (code != IMS_TOKEN_OK) {
        return ims_token_fail(err, code, NULL);
    }

    if (jwt_new(&jwt) != 0) {
        return ims_token_fail(err, IMS_TOKEN_FAILURE, NULL);
    }

    found = NULL;
    code = ims_token_parse(&parts, jwt);

    if (code == IMS_TOKEN_OK) {
        code = ims_token_trust(&parts, jwt, issuers, n, &found);
    }

    rc = code == IMS_TOKEN_OK ? ims_token_judge(found, jwt, now, out, err)
                              : ims_token_fail(err, code, NULL);

    jwt_free(jwt);

    if (rc != 0 && err->code != IMS_TOKEN_EXPIRED) {
        memset(out, 0, offsetof(ims_token_claims_t, buf));
        return -1;
    }

    if (issuer != NULL) {
        *issuer = found;
    }

    return rc;
}


static ims_token_code_t
ims_token_split(ims_token_parts_t *parts, ims_str_t jws)
{
    const uint8_t  *dot1, *dot2, *end;

    if (jws.n > IMS_TOKEN_MAX) {
        return IMS_TOKEN_TOO_LARGE;
    }

    if (jws.n == 0) {
        return IMS_TOKEN_MALFORMED;
    }

    end = jws.p + jws.n;

    dot1 = memchr(jws.p, '.', jws.n);
    if (dot1 == NULL) {
        return IMS_TOKEN_MALFORMED;
    }

    dot2 = memchr(dot1 + 1, '.', (size_t) (end - dot1 - 1));
    if (dot2 == NULL) {
        return IMS_TOKEN_MALFORMED;
    }

    parts->header = ims_str_range(jws.p, dot1);
    parts->claims = ims_str_range(dot1 + 1, dot2);
    parts->signature = ims_str_range(dot2 + 1, end);
    parts->signed_part = ims_str_range(jws.p, dot2);

    if (memchr(dot2 + 1, '.', parts->signature.n) != NULL) {
        return IMS_TOKEN_MALFORMED;
    }

    return IMS_TOKEN_OK;
}


static ims_token_code_t
ims_token_parse(const ims_token_parts_t *parts, jwt_t *jwt)
{
    char  json[IMS_TOKEN_MAX / 4 * 3 + 1];

    if (!ims_token_json(json, sizeof(json), parts->header)
        || jwt_add_headers_json(jwt, json) != 0)
    {
        return IMS_TOKEN_MALFORMED;
    }

    if (!ims_token_json(json, sizeof(json), parts->claims)
        || jwt_add_grants_json(jwt, json) != 0)
    {
        return IMS_TOKEN_MALFORMED;
    }

    return IMS_TOKEN_OK;
}


/* a segment's JSON as a C string: neither a NUL nor deep nesting in it */

static bool
ims_token_json(char *dst, size_t cap, ims_str_t segment)
{
    ptrdiff_t  n;

    n = ims_b64url_decode((uint8_t *) dst, cap - 1, segment);

    if (n <= 0 || memchr(dst, '\0', (size_t) n) != NULL) {
        return false;
    }

    dst[n] = '\0';

    return ims_token_shallow(dst);
}


/* the parser recurses, so this is looked at before it runs */

static bool
ims_token_shallow(const char *json)
{
    bool      quoted;
    unsigned  depth;

    quoted = false;
    depth = 0;

    for ( /* void */ ; *json; json++) {

        if (quoted) {
            if (*json == '\\' && json[1] != '\0') {
                json++;

            } else if (*json == '"') {
                quoted = false;
            }

            continue;
        }

        switch (*json) {

        case '"':
            quoted = true;
            break;

        case '{':
        case '[':
            if (++depth > IMS_TOKEN_DEPTH) {
                return false;
            }

            break;

        case '}':
        case ']':
            if (depth) {
                depth--;
            }

            break;
        }
    }

    return true;
}


/* whose token is it, and did they sign it? */

static ims_token_code_t
ims_token_trust(const ims_token_parts_t *parts, jwt_t *jwt,
    const ims_token_issuer_t *const *issuers, size_t n,
    const ims_token_issuer_t **issuer)
{
    size_t                  i;
    const char             *alg;
    ims_str_t               iss;
    const ims_token_key_t  *k;

    if (jwt_get_header(jwt, "crit") != NULL || !ims_token_absent()) {
        return IMS_TOKEN_CRIT;
    }

    iss = ims_str_z(jwt_get_grant(jwt, "iss"));

    for (i = 0; i < n; i++) {
        if (iss.n && ims_str_eq(issuers[i]->iss, iss)) {
            break;
        }
    }

    if (i == n) {
        return IMS_TOKEN_UNKNOWN_ISSUER;
    }

    /* not jwt_get_alg(): that is libjwt's view, and NONE without a key */

    alg = jwt_get_header(jwt, "alg");

    if (alg == NULL
        || strcmp(alg, ims_token_alg_name(issuers[i]->alg)) != 0)
    {
        return IMS_TOKEN_ALG_MISMATCH;
    }

    k = ims_token_pick(issuers[i], jwt);
    if (k == NULL) {
        return IMS_TOKEN_UNKNOWN_KID;
    }

    if (!ims_token_signed(k, parts)) {
        return IMS_TOKEN_BAD_SIGNATURE;
    }

    *issuer = issuers[i];

    return IMS_TOKEN_OK;
}


/*
 * Why did a getter give NULL: nothing there, or not what was asked for?  The
 * getters of strings say ENOENT, those of JSON EINVAL.
 */

static bool
ims_token_absent(void)
{
    return errno == ENOENT || errno == EINVAL;
}


static const ims_token_key_t *
ims_token_pick(const ims_token_issuer_t *issuer, jwt_t *jwt)
{
    unsigned                i;
    const char             *kid;
    const ims_token_key_t  *k;

    kid = jwt_get_header(jwt, "kid");

    if (kid == NULL && (!ims_token_absent() || issuer->nkeys != 1)) {
        return NULL;
    }

    for (i = 0; i < issuer->nkeys; i++) {
        k = issuer->keys[i];

        if (k->alg != issuer->alg) {
            continue;
        }

        if (kid == NULL || ims_str_eq(ims_token_key_kid(k), ims_str_z(kid))) {
            return k;
        }
    }

    return NULL;
}


static bool
ims_token_signed(const ims_token_key_t *k, const ims_token_parts_t *parts)
{
    uint8_t    sig[IMS_TOKEN_SIG_MAX];
    ptrdiff_t  n;

    n = ims_b64url_decode(sig, sizeof(sig), parts->signature);

    return n > 0
           && ims_token_key_verify(k, parts->signed_part,
                                   ims_str_set(sig, (size_t) n));
}


/*
 * The signature is good.  The end is looked at last: that a token has expired
 * is said only of one that is right in everything else.
 */

static int
ims_token_judge(const ims_token_issuer_t *issuer, jwt_t *jwt, int64_t now,
    ims_token_claims_t *out, ims_token_err_t *err)
{
    int64_t  leeway;

    if (ims_token_read(jwt, issuer, out, err) != 0) {
        return -1;
    }

    leeway = issuer->leeway;

    if (out->nbf && out->nbf - leeway > now) {
        return ims_token_fail(err, IMS_TOKEN_NOT_YET_VALID, NULL);
    }

    if (out->exp + leeway <= now) {
        return ims_token_fail(err, IMS_TOKEN_EXPIRED, NULL);
    }

    return 0;
}


static int
ims_token_read(jwt_t *jwt, const ims_token_issuer_t *issuer,
    ims_token_claims_t *out, ims_token_err_t *err)
{
    bool        has_aud, has_scope;
    json_t     *list;
    ims_str_t   scope;

    if (ims_token_read_strings(jwt, out, err) != 0
        || ims_token_read_impu(jwt, out, err) != 0
        || ims_token_read_times(jwt, out, err) != 0
        || ims_token_claims_check(out, err) != 0)
    {
        return -1;
    }

    (void) ims_token_lease_parse(out->lease, &out->ident, &out->lease_id);
    (void) ims_hex_u64(out->sid, &out->session);

    if (ims_token_read_list(jwt, "aud", &list, err) != 0) {
        return -1;
    }

    if (list == NULL) {
        return ims_token_fail(err, IMS_TOKEN_CLAIM_MISSING, "aud");
    }

    has_aud = ims_token_list_has(list, issuer->aud, false);
    json_decref(list);

    if (ims_token_read_list(jwt, "scope", &list, err) != 0) {
        return -1;
    }

    scope = issuer->scope.n ? issuer->scope : IMS_STR(IMS_TOKEN_SCOPE);
    has_scope = ims_token_list_has(list, scope, true);
    json_decref(list);

    if (!has_aud) {
        return ims_token_fail(err, IMS_TOKEN_WRONG_AUDIENCE, NULL);
    }

    if (!has_scope) {
        return ims_token_fail(err, IMS_TOKEN_SCOPE_MISSING, NULL);
    }

    if (!ims_token_store(out, &out->aud, issuer->aud)
        || !ims_token_store(out, &out->scope, scope))
    {
        return ims_token_fail(err, IMS_TOKEN_TOO_LARGE, NULL);
    }

    return 0;
}


static int
ims_token_read_strings(jwt_t *jwt, ims_token_claims_t *out,
    ims_token_err_t *err)
{
    const char              *value;
    const ims_token_rule_t  *rule;

    for (rule = ims_token_rules; rule->name != NULL; rule++) {

        value = jwt_get_grant(jwt, rule->name);

        if (value == NULL) {
            if (!ims_token_absent()) {
                return ims_token_fail(err, IMS_TOKEN_CLAIM_BAD, rule->name);
            }

            continue;
        }

        if (!ims_token_store(out, ims_token_slot(out, rule),
                             ims_str_z(value)))
        {
            return ims_token_fail(err, IMS_TOKEN_CLAIM_BAD, rule->name);
        }
    }

    return 0;
}


static int
ims_token_read_times(jwt_t *jwt, ims_token_claims_t *out,
    ims_token_err_t *err)
{
    bool         ok;
    char        *json;
    size_t       i;
    uint64_t     v;
    const struct {
        const char  *name;
        int64_t     *value;
    } times[] = {
        { "iat", &out->iat },
        { "nbf", &out->nbf },
        { "exp", &out->exp },
    };

    for (i = 0; i < sizeof(times) / sizeof(times[0]); i++) {

        json = jwt_get_grants_json(jwt, times[i].name);

        if (json == NULL) {
            if (!ims_token_absent()) {
                return ims_token_fail(err, IMS_TOKEN_FAILURE, NULL);
            }

            continue;
        }

        /* an integer and not 0, which stands for none */

        ok = ims_str_u64(ims_str_z(json), IMS_TOKEN_TIME_MAX, &v) && v != 0;
        free(json);

        if (!ok) {
            return ims_token_fail(err, IMS_TOKEN_CLAIM_BAD, times[i].name);
        }

        *times[i].value = (int64_t) v;
    }

    return 0;
}


static int
ims_token_read_impu(jwt_t *jwt, ims_token_claims_t *out,
    ims_token_err_t *err)
{
    bool     ok;
    size_t   i, n;
    json_t  *list;

    if (ims_token_read_list(jwt, "impu", &list, err) != 0) {
        return -1;
    }

    n = json_array_size(list);
    ok = list == NULL || (n > 0 && n <= IMS_TOKEN_IMPU_MAX);

    for (i = 0; ok && i < n; i++) {
        ok = ims_token_store(out, &out->impu[i],
                 ims_str_z(json_string_value(json_array_get(list, i))));
    }

    json_decref(list);

    if (!ok) {
        return ims_token_fail(err, IMS_TOKEN_CLAIM_BAD, "impu");
    }

    out->nimpu = (unsigned) n;

    return 0;
}


/* a string or an array of strings, as an array; NULL if there is none */

static int
ims_token_read_list(jwt_t *jwt, const char *name, json_t **list,
    ims_token_err_t *err)
{
    char    *text;
    size_t   i;
    json_t  *value;

    *list = NULL;

    text = jwt_get_grants_json(jwt, name);

    if (text == NULL) {
        return ims_token_absent()
               ? 0 : ims_token_fail(err, IMS_TOKEN_FAILURE, NULL);
    }

    value = json_loads(text, JSON_DECODE_ANY, NULL);
    free(text);

    if (json_is_string(value)) {
        *list = json_pack("[o]", value);
        return *list != NULL ? 0
                             : ims_token_fail(err, IMS_TOKEN_FAILURE, NULL);
    }

    for (i = 0; i < json_array_size(value); i++) {
        if (!json_is_string(json_array_get(value, i))) {
            break;
        }
    }

    if (!json_is_array(value) || i < json_array_size(value)) {
        json_decref(value);
        return ims_token_fail(err, IMS_TOKEN_CLAIM_BAD, name);
    }

    *list = value;

    return 0;
}


static bool
ims_token_list_has(const json_t *list, ims_str_t want, bool words)
{
    size_t     i;
    ims_str_t  value;

    for (i = 0; i < json_array_size(list); i++) {

        value = ims_str_z(json_string_value(json_array_get(list, i)));

        if (words ? ims_token_words_have(value, want)
                  : ims_str_eq(value, want))
        {
            return true;
        }
    }

    return false;
}
