/*
 * Copyright (C) nginx-ims contributors
 */

#include "flow/ims_flow_token.h"


#define IMS_TOKEN_HEAD    12          /* kind, key id, node, slot, generation */
#define IMS_TOKEN_MAC     10
#define IMS_TOKEN_MAC2    8
#define IMS_TOKEN_SHORT   (IMS_TOKEN_HEAD + IMS_TOKEN_MAC)
#define IMS_TOKEN_LONG    (IMS_TOKEN_SHORT + IMS_TOKEN_MAC2)

#define IMS_BRANCH_HEAD   (IMS_TOKEN_HEAD - 1)         /* no kind */
#define IMS_BRANCH_LEN    (IMS_BRANCH_HEAD + IMS_TOKEN_MAC)
#define IMS_BRANCH_TEXT   (7 + ims_b32_len(IMS_BRANCH_LEN))

_Static_assert(ims_b64url_len(IMS_TOKEN_LONG) <= IMS_FLOW_TOKEN_MAX,
               "token must fit");
_Static_assert(IMS_BRANCH_TEXT <= IMS_FLOW_BRANCH_MAX, "branch must fit");


/*
 * One key serves several purposes: the first part of each MAC's input names
 * the purpose, and parts are length-prefixed, so that no output of one is good
 * for another.
 */
static const ims_str_t  ims_label_path = ims_str("path");
static const ims_str_t  ims_label_rr = ims_str("rr core");
static const ims_str_t  ims_label_event = ims_str("event");
static const ims_str_t  ims_label_wic = ims_str("rr wic");
static const ims_str_t  ims_label_branch = ims_str("branch");


static uint8_t *
ims_put_u16(uint8_t *p, uint16_t v)
{
    *p++ = (uint8_t) (v >> 8);
    *p++ = (uint8_t) v;

    return p;
}


static uint8_t *
ims_put_u32(uint8_t *p, uint32_t v)
{
    p = ims_put_u16(p, (uint16_t) (v >> 16));

    return ims_put_u16(p, (uint16_t) v);
}


static uint32_t
ims_get_u16(const uint8_t *p)
{
    return (uint32_t) p[0] << 8 | p[1];
}


static uint32_t
ims_get_u32(const uint8_t *p)
{
    return ims_get_u16(p) << 16 | ims_get_u16(p + 2);
}


/* node, slot, generation: common to tokens and branches */

static uint8_t *
ims_put_id(uint8_t *p, const ims_flow_id_t *id)
{
    p = ims_put_u16(p, id->node);
    p = ims_put_u32(p, id->slot);

    return ims_put_u32(p, id->generation);
}


static void
ims_get_id(const uint8_t *p, ims_flow_id_t *id)
{
    id->node = (uint16_t) ims_get_u16(p);
    id->slot = ims_get_u32(p + 2);
    id->generation = ims_get_u32(p + 6);
}


static void
ims_token_head(uint8_t *raw, const ims_flow_keys_t *keys,
    ims_flow_token_kind_t kind, const ims_flow_id_t *id)
{
    raw[0] = (uint8_t) kind;
    raw[1] = keys->id[0];
    ims_put_id(raw + 2, id);
}


/* the MAC that the core is checked for */

static void
ims_token_mac(const ims_hmac_key_t *key, const uint8_t *raw,
    ims_str_t call_id, uint8_t *mac)
{
    bool       path;
    ims_str_t  parts[3];

    path = raw[0] == IMS_FLOW_TOKEN_PATH;

    parts[0] = path ? ims_label_path
               : raw[0] == IMS_FLOW_TOKEN_EVENT ? ims_label_event
                                                : ims_label_rr;
    parts[1] = ims_str_set(raw, IMS_TOKEN_HEAD);
    parts[2] = call_id;

    ims_hmac_parts(key, parts, path ? 2 : 3, mac, IMS_TOKEN_MAC);
}


/* the MAC that the WIC is checked for; false: too many routes */

static bool
ims_token_mac2(const ims_hmac_key_t *key, const uint8_t *raw,
    const ims_flow_dialog_t *d, uint8_t *mac)
{
    unsigned   i, n;
    ims_str_t  parts[5 + IMS_FLOW_ROUTES_MAX];

    if (d->nroutes > IMS_FLOW_ROUTES_MAX) {
        return false;
    }

    n = 0;
    parts[n++] = ims_label_wic;
    parts[n++] = ims_str_set(raw, IMS_TOKEN_HEAD);
    parts[n++] = d->call_id;
    parts[n++] = d->far_tag;
    parts[n++] = raw[0] == IMS_FLOW_TOKEN_RR_ORIG ? d->wic_tag : IMS_STR_NULL;

    for (i = 0; i < d->nroutes; i++) {
        parts[n++] = d->routes[i];
    }

    ims_hmac_parts(key, parts, n, mac, IMS_TOKEN_MAC2);

    return true;
}


size_t
ims_flow_token_path(const ims_flow_keys_t *keys, const ims_flow_id_t *id,
    uint8_t *out)
{
    uint8_t  raw[IMS_TOKEN_SHORT];

    ims_token_head(raw, keys, IMS_FLOW_TOKEN_PATH, id);
    ims_token_mac(&keys->key[0], raw, IMS_STR_NULL, raw + IMS_TOKEN_HEAD);

    return ims_b64url_encode(out, raw, sizeof(raw));
}


size_t
ims_flow_token_rr(const ims_flow_keys_t *keys, const ims_flow_id_t *id,
    ims_str_t call_id, uint8_t *out)
{
    uint8_t  raw[IMS_TOKEN_SHORT];

    ims_token_head(raw, keys, IMS_FLOW_TOKEN_RR, id);
    ims_token_mac(&keys->key[0], raw, call_id, raw + IMS_TOKEN_HEAD);

    return ims_b64url_encode(out, raw, sizeof(raw));
}


size_t
ims_flow_token_event(const ims_flow_keys_t *keys, const ims_flow_id_t *id,
    ims_str_t call_id, uint8_t *out)
{
    uint8_t  raw[IMS_TOKEN_SHORT];

    ims_token_head(raw, keys, IMS_FLOW_TOKEN_EVENT, id);
    ims_token_mac(&keys->key[0], raw, call_id, raw + IMS_TOKEN_HEAD);

    return ims_b64url_encode(out, raw, sizeof(raw));
}


size_t
ims_flow_token_rr_wic(const ims_flow_keys_t *keys, ims_flow_token_kind_t kind,
    const ims_flow_id_t *id, const ims_flow_dialog_t *d, uint8_t *out)
{
    uint8_t  raw[IMS_TOKEN_LONG];

    ims_token_head(raw, keys, kind, id);
    ims_token_mac(&keys->key[0], raw, d->call_id, raw + IMS_TOKEN_HEAD);

    if (!ims_token_mac2(&keys->key[0], raw, d, raw + IMS_TOKEN_SHORT)) {
        return 0;
    }

    return ims_b64url_encode(out, raw, sizeof(raw));
}


/*
 * Text to bytes, form only.  base64url is decoded strictly, so there is one
 * text for a token.
 */

static bool
ims_token_decode(ims_str_t text, uint8_t *raw)
{
    ptrdiff_t  n;

    n = ims_b64url_decode(raw, IMS_TOKEN_LONG, text);

    if (n != IMS_TOKEN_SHORT && n != IMS_TOKEN_LONG) {
        return false;
    }

    switch (raw[0]) {

    case IMS_FLOW_TOKEN_PATH:
    case IMS_FLOW_TOKEN_RR:
    case IMS_FLOW_TOKEN_EVENT:
        return n == IMS_TOKEN_SHORT;

    case IMS_FLOW_TOKEN_RR_ORIG:
    case IMS_FLOW_TOKEN_RR_TERM:
        return n == IMS_TOKEN_LONG;

    default:
        return false;
    }
}


static void
ims_token_set(ims_flow_token_t *tok, const uint8_t *raw)
{
    tok->kind = (ims_flow_token_kind_t) raw[0];
    ims_get_id(raw + 2, &tok->id);
}


/* the first MAC */

static ims_flow_token_rc_t
ims_token_check(const ims_flow_keys_t *keys, const uint8_t *raw,
    ims_str_t call_id, ims_flow_token_t *tok)
{
    uint8_t                mac[IMS_TOKEN_MAC];
    const ims_hmac_key_t  *key;

    key = ims_flow_key(keys, raw[1]);
    if (key == NULL) {
        return IMS_FLOW_TOKEN_FORGED;
    }

    ims_token_mac(key, raw, call_id, mac);

    if (!ims_equal_ct(mac, raw + IMS_TOKEN_HEAD, IMS_TOKEN_MAC)) {
        return IMS_FLOW_TOKEN_FORGED;
    }

    ims_token_set(tok, raw);

    return IMS_FLOW_TOKEN_OK;
}


ims_flow_token_rc_t
ims_flow_token_core(const ims_flow_keys_t *keys, ims_str_t text,
    ims_str_t call_id, ims_flow_token_t *tok)
{
    uint8_t  raw[IMS_TOKEN_LONG];

    if (!ims_token_decode(text, raw)) {
        return IMS_FLOW_TOKEN_MALFORMED;
    }

    if (raw[0] == IMS_FLOW_TOKEN_EVENT) {
        return IMS_FLOW_TOKEN_FORGED;
    }

    return ims_token_check(keys, raw, call_id, tok);
}


ims_flow_token_rc_t
ims_flow_token_event_core(const ims_flow_keys_t *keys, ims_str_t text,
    ims_str_t call_id, ims_flow_token_t *tok)
{
    uint8_t  raw[IMS_TOKEN_LONG];

    if (!ims_token_decode(text, raw) || raw[0] != IMS_FLOW_TOKEN_EVENT) {
        return IMS_FLOW_TOKEN_MALFORMED;
    }

    return ims_token_check(keys, raw, call_id, tok);
}


ims_flow_token_rc_t
ims_flow_token_wic(const ims_flow_keys_t *keys, ims_str_t text,
    const ims_flow_dialog_t *d, ims_flow_token_t *tok)
{
    bool                   core, wic;
    uint8_t                raw[IMS_TOKEN_LONG];
    uint8_t                mac[IMS_TOKEN_MAC], mac2[IMS_TOKEN_MAC2];
    const ims_hmac_key_t  *key;

    if (!ims_token_decode(text, raw)) {
        return IMS_FLOW_TOKEN_MALFORMED;
    }

    key = ims_flow_key(keys, raw[1]);

    if (key == NULL
        || (raw[0] != IMS_FLOW_TOKEN_RR_ORIG
            && raw[0] != IMS_FLOW_TOKEN_RR_TERM)
        || !ims_token_mac2(key, raw, d, mac2))
    {
        return IMS_FLOW_TOKEN_FORGED;
    }

    ims_token_mac(key, raw, d->call_id, mac);

    /* both, always: which of them failed is not to be seen from the time */

    core = ims_equal_ct(mac, raw + IMS_TOKEN_HEAD, IMS_TOKEN_MAC);
    wic = ims_equal_ct(mac2, raw + IMS_TOKEN_SHORT, IMS_TOKEN_MAC2);

    if (!(core & wic)) {
        return IMS_FLOW_TOKEN_FORGED;
    }

    ims_token_set(tok, raw);

    return IMS_FLOW_TOKEN_OK;
}


static void
ims_branch_mac(const ims_hmac_key_t *key, const uint8_t *raw,
    const ims_flow_branch_t *b, uint8_t *mac)
{
    uint8_t    nums[6];
    ims_str_t  parts[8];

    nums[0] = b->direction;
    nums[1] = b->attempt;
    ims_put_u32(nums + 2, b->cseq);

    parts[0] = ims_label_branch;
    parts[1] = ims_str_set(raw, IMS_BRANCH_HEAD);
    parts[2] = ims_str_set(nums, sizeof(nums));
    parts[3] = b->via_sent_by;
    parts[4] = b->via_branch;
    parts[5] = b->call_id;
    parts[6] = b->from_tag;
    parts[7] = b->r_uri;

    ims_hmac_parts(key, parts, 8, mac, IMS_TOKEN_MAC);
}


size_t
ims_flow_branch_make(const ims_flow_keys_t *keys, const ims_flow_id_t *id,
    const ims_flow_branch_t *b, uint8_t *out)
{
    uint8_t  raw[IMS_BRANCH_LEN];

    raw[0] = keys->id[0];
    ims_put_id(raw + 1, id);
    ims_branch_mac(&keys->key[0], raw, b, raw + IMS_BRANCH_HEAD);

    memcpy(out, IMS_FLOW_BRANCH_COOKIE, 7);

    return 7 + ims_b32_encode(out + 7, raw, sizeof(raw));
}


/* peers may change the case of a branch, and no two differ in case alone */

static bool
ims_branch_decode(ims_str_t branch, uint8_t *raw)
{
    size_t   i;
    uint8_t  low[IMS_BRANCH_TEXT];

    if (branch.n != IMS_BRANCH_TEXT
        || !ims_str_caseeq(ims_str_set(branch.p, 7),
                           IMS_STR(IMS_FLOW_BRANCH_COOKIE)))
    {
        return false;
    }

    for (i = 7; i < branch.n; i++) {
        low[i] = ims_lower(branch.p[i]);
    }

    return ims_b32_decode(raw, IMS_BRANCH_LEN,
                          ims_str_range(low + 7, low + branch.n))
           == IMS_BRANCH_LEN;
}


bool
ims_flow_branch_parse(ims_str_t branch, ims_flow_id_t *id)
{
    uint8_t  raw[IMS_BRANCH_LEN];

    if (!ims_branch_decode(branch, raw)) {
        return false;
    }

    ims_get_id(raw + 1, id);

    return true;
}


ims_flow_token_rc_t
ims_flow_branch_verify(const ims_flow_keys_t *keys, ims_str_t branch,
    const ims_flow_branch_t *b, ims_flow_id_t *id)
{
    uint8_t                raw[IMS_BRANCH_LEN], mac[IMS_TOKEN_MAC];
    const ims_hmac_key_t  *key;

    if (!ims_branch_decode(branch, raw)) {
        return IMS_FLOW_TOKEN_MALFORMED;
    }

    key = ims_flow_key(keys, raw[0]);
    if (key == NULL) {
        return IMS_FLOW_TOKEN_FORGED;
    }

    ims_branch_mac(key, raw, b, mac);

    if (!ims_equal_ct(mac, raw + IMS_BRANCH_HEAD, IMS_TOKEN_MAC)) {
        return IMS_FLOW_TOKEN_FORGED;
    }

    ims_get_id(raw + 1, id);

    return IMS_FLOW_TOKEN_OK;
}
