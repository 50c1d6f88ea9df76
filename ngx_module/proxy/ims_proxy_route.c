/*
 * Copyright (C) nginx-ims contributors
 */

#include "base/ims_hmac.h"
#include "proxy/ims_proxy.h"


#define IMS_PROXY_VIAS  64


bool
ims_proxy_routes(const ims_sip_msg_t *m, unsigned id, ims_proxy_routes_t *r)
{
    int               rc;
    ims_str_t         value;
    ims_sip_addr_t    addr;
    ims_sip_values_t  it;

    r->n = 0;

    ims_sip_values(&it, m, id);

    while ((rc = ims_sip_value_next(&it, &value)) == 1) {

        if (r->n == IMS_PROXY_ROUTES || !ims_sip_addr_parse(value, &addr)
            || !addr.bracketed)
        {
            return false;
        }

        r->uri[r->n] = addr.uri;
        r->value[r->n] = value;
        r->hdr[r->n] = it.hdr;
        r->n++;
    }

    return rc == 0;
}


bool
ims_proxy_loose(ims_str_t uri)
{
    ims_str_t      v;
    ims_sip_uri_t  u;

    return ims_sip_uri_parse(uri, &u) && ims_sip_uri_param(&u, "lr", &v) > 0;
}


ims_str_t
ims_proxy_user(ims_str_t uri)
{
    ims_sip_uri_t  u;

    if (!ims_sip_uri_parse(uri, &u)
        || (u.scheme != IMS_SIP_URI_SIP && u.scheme != IMS_SIP_URI_SIPS))
    {
        return IMS_STR_NULL;
    }

    return u.user;
}


bool
ims_proxy_is_ours(ims_str_t uri, const ims_flow_keys_t *keys,
    const ims_flow_id_t *id, ims_str_t call_id)
{
    ims_flow_token_t  tok;

    return ims_flow_token_core(keys, ims_proxy_user(uri), call_id, &tok)
           == IMS_FLOW_TOKEN_OK
           && tok.kind != IMS_FLOW_TOKEN_PATH
           && tok.id.slot == id->slot
           && tok.id.generation == id->generation;
}


int
ims_proxy_our_route(const ims_proxy_routes_t *r, const ims_flow_keys_t *keys,
    const ims_flow_id_t *id, ims_str_t call_id)
{
    unsigned  i;

    for (i = r->n; i > 0; i--) {

        if (ims_proxy_is_ours(r->uri[i - 1], keys, id, call_id)) {
            return (int) i - 1;
        }
    }

    return -1;
}


bool
ims_proxy_hashes(const ims_sip_msg_t *m, unsigned skip_via, unsigned skip_rr,
    uint8_t via[16], uint8_t rr[16])
{
    int               rc;
    unsigned          n;
    ims_str_t         value, parts[IMS_PROXY_VIAS];
    ims_sip_values_t  it;

    n = 0;
    ims_sip_values(&it, m, IMS_SIP_H_VIA);

    while ((rc = ims_sip_value_next(&it, &value)) == 1) {

        if (skip_via) {
            skip_via--;
            continue;
        }

        if (n == IMS_PROXY_VIAS) {
            return false;
        }

        parts[n++] = value;
    }

    if (rc != 0) {
        return false;
    }

    ims_sha256_parts(parts, n, via, 16);

    n = 0;
    ims_sip_values(&it, m, IMS_SIP_H_RECORD_ROUTE);

    while ((rc = ims_sip_value_next(&it, &value)) == 1) {

        if (skip_rr) {
            skip_rr--;
            continue;
        }

        if (n == IMS_PROXY_VIAS) {
            return false;
        }

        parts[n++] = value;
    }

    if (rc != 0) {
        return false;
    }

    ims_sha256_parts(parts, n, rr, 16);

    return true;
}
