/*
 * Copyright (C) nginx-ims contributors
 *
 * Responses of our own to a request.  The request may be one that the parser
 * refused: nothing here relies on more than the lines being there.
 */

#include "sip/ims_sip.h"
#include "sip/ims_sip_out.h"


static bool ims_sip_reply_via(ims_out_t *o, const ims_sip_msg_t *m,
    const ims_sip_reply_t *r);
static void ims_sip_reply_top_via(ims_out_t *o, ims_str_t value,
    const ims_sip_reply_t *r);
static void ims_sip_reply_param(ims_out_t *o, ims_str_t *rest,
    const ims_sip_param_t *old);
static void ims_sip_reply_to(ims_out_t *o, ims_str_t value,
    const ims_sip_reply_t *r);


ptrdiff_t
ims_sip_reply(uint8_t *dst, size_t cap, const ims_sip_msg_t *m,
    const ims_sip_reply_t *r)
{
    size_t     i;
    ims_str_t  v;
    ims_out_t  out, *o;

    static const struct {
        unsigned     id;
        const char  *name;
    } copied[] = {
        { IMS_SIP_H_FROM, "From: " },
        { IMS_SIP_H_TO, "To: " },
        { IMS_SIP_H_CALL_ID, "Call-ID: " },
        { IMS_SIP_H_CSEQ, "CSeq: " }
    };

    out = ims_out_set(dst, cap);
    o = &out;

    ims_out_z(o, "SIP/2.0 ");
    ims_out_u64(o, r->status);
    ims_out_c(o, ' ');
    ims_out_z(o, r->reason);
    ims_out_z(o, "\r\n");

    if (!ims_sip_reply_via(o, m, r)) {
        return -1;
    }

    for (i = 0; i < sizeof(copied) / sizeof(copied[0]); i++) {
        v = ims_sip_hdr_value(m, copied[i].id);

        if (v.n == 0) {

            if (copied[i].id == IMS_SIP_H_CSEQ) {
                return -1;
            }

            continue;
        }

        ims_out_z(o, copied[i].name);

        if (copied[i].id == IMS_SIP_H_TO) {
            ims_sip_reply_to(o, v, r);

        } else {
            ims_out_str(o, v);
        }

        ims_out_z(o, "\r\n");
    }

    ims_out_str(o, r->extra);

    ims_out_z(o, "Content-Length: ");
    ims_out_u64(o, r->body.n);
    ims_out_z(o, "\r\n\r\n");
    ims_out_str(o, r->body);

    return o->over ? -1 : (ptrdiff_t) o->n;
}


static bool
ims_sip_reply_via(ims_out_t *o, const ims_sip_msg_t *m,
    const ims_sip_reply_t *r)
{
    bool      top;
    uint16_t  i;

    top = true;

    for (i = m->first[IMS_SIP_H_VIA]; i != IMS_SIP_NONE; i = m->hdr[i].next) {

        if (m->hdr[i].value.n == 0) {
            continue;
        }

        ims_out_z(o, "Via: ");

        if (top && r->received.n) {
            ims_sip_reply_top_via(o, m->hdr[i].value, r);

        } else {
            ims_out_str(o, m->hdr[i].value);
        }

        ims_out_z(o, "\r\n");
        top = false;
    }

    return !top;
}


/* The line with the topmost value: received and rport set in the first one. */

static void
ims_sip_reply_top_via(ims_out_t *o, ims_str_t value, const ims_sip_reply_t *r)
{
    ims_str_t         top, rest;
    ims_sip_via_t     via;
    ims_sip_values_t  it;
    const uint8_t    *end;

    ims_sip_values_text(&it, value);

    if (ims_sip_value_next(&it, &top) != 1 || !ims_sip_via_parse(top, &via)) {
        ims_out_str(o, value);
        return;
    }

    end = top.p + top.n;
    rest = top;

    /* copy around the old ones, in whichever order they stand */

    if (via.received.whole.p < via.rport.whole.p) {
        ims_sip_reply_param(o, &rest, &via.received);
        ims_sip_reply_param(o, &rest, &via.rport);

    } else {
        ims_sip_reply_param(o, &rest, &via.rport);
        ims_sip_reply_param(o, &rest, &via.received);
    }

    ims_out_str(o, rest);

    ims_out_z(o, ";received=");
    ims_out_str(o, r->received);

    if (via.rport.name.p != NULL) {
        ims_out_z(o, ";rport=");
        ims_out_u64(o, r->rport);
    }

    ims_out_str(o, ims_str_range(end, value.p + value.n));
}


/* What stands before an old parameter; the parameter is left out. */

static void
ims_sip_reply_param(ims_out_t *o, ims_str_t *rest, const ims_sip_param_t *old)
{
    const uint8_t  *end;

    if (old->whole.p == NULL) {
        return;
    }

    end = rest->p + rest->n;

    ims_out_str(o, ims_str_range(rest->p, old->whole.p));

    *rest = ims_str_range(old->whole.p + old->whole.n, end);
}


static void
ims_sip_reply_to(ims_out_t *o, ims_str_t value, const ims_sip_reply_t *r)
{
    ims_sip_addr_t   to;
    ims_sip_param_t  tag;

    ims_out_str(o, value);

    if (r->to_tag.n == 0 || r->status == 100
        || !ims_sip_addr_parse(value, &to)
        || ims_sip_param_find(to.params, "tag", &tag) != 0)
    {
        return;
    }

    ims_out_z(o, ";tag=");
    ims_out_str(o, r->to_tag);
}
