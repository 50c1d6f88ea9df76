/*
 * Copyright (C) nginx-ims contributors
 */

#include "reg/ims_register.h"


static void
ims_reg_value(ims_out_t *o, const char *before, ims_str_t value,
    const char *after)
{
    ims_out_z(o, before);
    ims_out_str(o, value);
    ims_out_z(o, after);
}


ptrdiff_t
ims_reg_subscribe(uint8_t *dst, size_t cap, const ims_reg_subscribe_t *q)
{
    unsigned   i;
    ims_out_t  o;

    o = ims_out_set(dst, cap);

    ims_reg_value(&o, "SUBSCRIBE ", q->target.n ? q->target : q->impu,
                  " SIP/2.0\r\n");

    ims_reg_value(&o, "Via: SIP/2.0/", q->transport, " ");
    ims_reg_value(&o, "", q->advertise, ";branch=");
    ims_reg_value(&o, "", q->branch, "\r\nMax-Forwards: 70\r\n");

    for (i = 0; i < q->nroutes; i++) {
        ims_reg_value(&o, "Route: ", q->routes[i], "\r\n");
    }

    ims_reg_value(&o, "From: <sip:", q->advertise, ">;tag=");
    ims_reg_value(&o, "", q->from_tag, "\r\n");
    ims_reg_value(&o, "To: <", q->impu, ">");

    if (q->to_tag.n) {
        ims_reg_value(&o, ";tag=", q->to_tag, "");
    }

    ims_reg_value(&o, "\r\nCall-ID: ", q->call_id, "\r\nCSeq: ");
    ims_out_u64(&o, q->cseq);
    ims_reg_value(&o, " SUBSCRIBE\r\nContact: <", q->contact, ">\r\n");
    ims_reg_value(&o, "P-Asserted-Identity: <sip:", q->advertise, ">\r\n");
    ims_reg_value(&o, "P-Charging-Vector: icid-value=\"", q->icid,
                  "\";orig-ioi=\"");
    ims_reg_value(&o, "", q->home, "\"\r\nExpires: ");
    ims_out_u64(&o, q->expires);
    ims_out_z(&o, "\r\nEvent: reg\r\nAccept: application/reginfo+xml\r\n"
                  "Content-Length: 0\r\n\r\n");

    return o.over ? -1 : (ptrdiff_t) o.n;
}
