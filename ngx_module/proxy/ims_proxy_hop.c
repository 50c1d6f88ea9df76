/*
 * Copyright (C) nginx-ims contributors
 */

#include "proxy/ims_proxy.h"


static void
ims_proxy_line(ims_out_t *o, const char *name, ims_str_t value)
{
    ims_out_z(o, name);
    ims_out_z(o, ": ");
    ims_out_str(o, value);
    ims_out_z(o, "\r\n");
}


ptrdiff_t
ims_proxy_hop(uint8_t *dst, size_t cap, const ims_sip_msg_t *sent,
    ims_str_t method, ims_str_t to, ims_str_t reason)
{
    uint16_t   i;
    ims_out_t  o;

    o = ims_out_set(dst, cap);

    ims_out_str(&o, method);
    ims_out_c(&o, ' ');
    ims_out_str(&o, sent->uri);
    ims_out_z(&o, " SIP/2.0\r\n");

    ims_proxy_line(&o, "Via", sent->via.whole);

    for (i = sent->first[IMS_SIP_H_ROUTE]; i != IMS_SIP_NONE;
         i = sent->hdr[i].next)
    {
        ims_proxy_line(&o, "Route", sent->hdr[i].value);
    }

    ims_out_z(&o, "Max-Forwards: 70\r\n");
    ims_proxy_line(&o, "From", ims_sip_hdr_value(sent, IMS_SIP_H_FROM));
    ims_proxy_line(&o, "To", to);
    ims_proxy_line(&o, "Call-ID", sent->call_id);

    ims_out_z(&o, "CSeq: ");
    ims_out_u64(&o, sent->cseq);
    ims_out_c(&o, ' ');
    ims_out_str(&o, method);
    ims_out_z(&o, "\r\n");

    if (reason.n) {
        ims_proxy_line(&o, "Reason", reason);
    }

    ims_out_z(&o, "Content-Length: 0\r\n\r\n");

    return o.over ? -1 : (ptrdiff_t) o.n;
}


ptrdiff_t
ims_proxy_in_dialog(uint8_t *dst, size_t cap, const ims_sip_msg_t *sent,
    const ims_sip_msg_t *ok, const ims_proxy_routes_t *rr, unsigned ours,
    ims_str_t method, uint32_t cseq, ims_str_t via)
{
    unsigned        i;
    ims_out_t       o;
    ims_str_t       contact;
    ims_sip_addr_t  target;

    if (ims_sip_value_first(ok, IMS_SIP_H_CONTACT, &contact) < 1
        || !ims_sip_addr_parse(contact, &target) || ours > rr->n)
    {
        return -1;
    }

    o = ims_out_set(dst, cap);

    ims_out_str(&o, method);
    ims_out_c(&o, ' ');
    ims_out_str(&o, target.uri);
    ims_out_z(&o, " SIP/2.0\r\n");

    ims_proxy_line(&o, "Via", via);

    for (i = ours; i > 0; i--) {
        ims_proxy_line(&o, "Route", rr->value[i - 1]);
    }

    ims_out_z(&o, "Max-Forwards: 70\r\n");
    ims_proxy_line(&o, "From", ims_sip_hdr_value(sent, IMS_SIP_H_FROM));
    ims_proxy_line(&o, "To", ims_sip_hdr_value(ok, IMS_SIP_H_TO));
    ims_proxy_line(&o, "Call-ID", sent->call_id);

    ims_out_z(&o, "CSeq: ");
    ims_out_u64(&o, cseq);
    ims_out_c(&o, ' ');
    ims_out_str(&o, method);
    ims_out_z(&o, "\r\nContent-Length: 0\r\n\r\n");

    return o.over ? -1 : (ptrdiff_t) o.n;
}
