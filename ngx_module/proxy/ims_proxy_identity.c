/*
 * Copyright (C) nginx-ims contributors
 */

#include "proxy/ims_proxy.h"


/* the member of the assertable set that a URI names; else the default */

static ims_str_t
ims_proxy_member(const ims_flow_data_t *d, ims_str_t wanted, bool *hit)
{
    unsigned          pos;
    uint16_t          best;
    ims_str_t         first;
    ims_flow_ident_t  id;

    first = IMS_STR_NULL;
    best = IMS_FLOW_NOT_ASSERTABLE;
    *hit = false;

    for (pos = 0; ims_flow_identity(d, &pos, &id); /* void */) {

        if (id.position == IMS_FLOW_NOT_ASSERTABLE) {
            continue;
        }

        if (wanted.n && ims_sip_uri_same(id.uri, wanted)) {
            *hit = true;
            return id.uri;
        }

        if (id.position < best) {
            best = id.position;
            first = id.uri;
        }
    }

    return first;
}


ims_str_t
ims_proxy_asserted(const ims_flow_data_t *d, const ims_sip_msg_t *m)
{
    bool              hit;
    ims_str_t         value, uri;
    ims_sip_addr_t    addr;
    ims_sip_values_t  it;

    ims_sip_values(&it, m, IMS_SIP_H_P_PREFERRED_IDENTITY);

    while (ims_sip_value_next(&it, &value) == 1) {

        if (!ims_sip_addr_parse(value, &addr)) {
            continue;
        }

        uri = ims_proxy_member(d, addr.uri, &hit);

        if (hit) {
            return uri;
        }
    }

    return ims_proxy_member(d, IMS_STR_NULL, &hit);
}


ims_str_t
ims_proxy_called(const ims_flow_data_t *d, ims_str_t called)
{
    bool  hit;

    return ims_proxy_member(d, called, &hit);
}
