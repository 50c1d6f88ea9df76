/*
 * Copyright (C) nginx-ims contributors
 */

#include "reg/ims_register.h"
#include "sip/ims_sip_policy.h"


/* texts of the headers that the edge writes; the same in both messages */

typedef struct {
    ims_str_t  via;
    ims_str_t  authorization;
    ims_str_t  path;
    ims_str_t  visited;
    ims_str_t  charging;
} ims_reg_lines_t;


#define IMS_REG_CAT(ed, ...)                                                  \
    ims_sip_edit_cat(ed, (const ims_str_t[]) { __VA_ARGS__ },                 \
                     sizeof((const ims_str_t[]) { __VA_ARGS__ })              \
                     / sizeof(ims_str_t))


static ims_str_t
ims_reg_number(ims_sip_edit_t *ed, uint32_t n)
{
    uint8_t    buf[10];
    ims_out_t  o;

    o = ims_out_set(buf, sizeof(buf));
    ims_out_u64(&o, n);

    return IMS_REG_CAT(ed, ims_str_set(buf, o.n));
}


/*
 * Trusted Node Authentication (TS 33.203 X.4.2.3 step 5): the same header on
 * every REGISTER, since the scheme may not change for later ones (P.4).
 */

static ims_str_t
ims_reg_authorization(ims_sip_edit_t *ed, const ims_reg_forward_t *f)
{
    ims_str_t  entity;

    entity = f->entity.n == 0 ? IMS_STR("")
             : IMS_REG_CAT(ed, IMS_STR(",authorization-entity=\""), f->entity,
                           IMS_STR("\""));

    return IMS_REG_CAT(ed, IMS_STR("Digest username=\""), f->impi,
                       IMS_STR("\",realm=\""), f->home,
                       IMS_STR("\",nonce=\"\",uri=\"sip:"), f->home,
                       IMS_STR("\",response=\"\","
                               "integrity-protected=\"auth-done\""),
                       entity);
}


static void
ims_reg_lines(ims_sip_edit_t *ed, const ims_reg_forward_t *f,
    ims_reg_lines_t *l)
{
    ims_str_t  transport;

    transport = ims_str_caseeq(f->transport, IMS_STR("udp"))
                ? IMS_STR("udp")
                : ims_str_caseeq(f->transport, IMS_STR("tls"))
                  ? IMS_STR("tls") : IMS_STR("tcp");

    l->via = IMS_REG_CAT(ed, IMS_STR("SIP/2.0/"),
                         f->via_transport.n ? f->via_transport : f->transport,
                         IMS_STR(" "),
                         f->via_advertise.n ? f->via_advertise : f->advertise,
                         f->via_params, IMS_STR(";branch="), f->branch);

    l->authorization = ims_reg_authorization(ed, f);

    l->path = IMS_REG_CAT(ed, IMS_STR("<sip:"), f->path_token,
                          f->path_token.n ? IMS_STR("@") : IMS_STR(""),
                          f->advertise, IMS_STR(";transport="), transport,
                          IMS_STR(";lr;ob>"));

    l->visited = f->visited.n ? f->visited : f->home;

    l->charging = IMS_REG_CAT(ed, IMS_STR("icid-value=\""), f->icid,
                              IMS_STR("\";orig-ioi=\"Type 1"), l->visited,
                              IMS_STR("\""));
}


/* x into Expires, inserted if missing, and into the Contact (POOL.md 1 b) */

static void
ims_reg_expires(ims_sip_edit_t *ed, const ims_reg_request_t *q,
    const ims_reg_forward_t *f)
{
    ims_str_t             x;
    const ims_sip_msg_t  *m;

    m = ed->m;
    x = ims_reg_number(ed, f->expires);

    if (m->count[IMS_SIP_H_EXPIRES]) {
        ims_sip_edit_value(ed, m->first[IMS_SIP_H_EXPIRES], x);

    } else {
        ims_sip_edit_append(ed, "Expires", x);
    }

    if (!q->contact.star) {
        ims_sip_edit_param(ed, q->contact.addr.whole, &q->contact.expires,
                           "expires", x);
        return;
    }

    if (f->own_contact.n) {
        ims_sip_edit_value(ed, m->first[IMS_SIP_H_CONTACT],
                           IMS_REG_CAT(ed, IMS_STR("<"), f->own_contact,
                                       IMS_STR(">;expires=0")));
    }
}


static const char *
ims_reg_max_forwards(ims_sip_edit_t *ed, unsigned *status)
{
    const ims_sip_msg_t  *m;

    m = ed->m;

    if (m->max_forwards == 0) {
        *status = 483;
        return "Too Many Hops";
    }

    if (m->max_forwards < 0) {
        ims_sip_edit_append(ed, "Max-Forwards", IMS_STR("70"));
        return NULL;
    }

    ims_sip_edit_value(ed, m->first[IMS_SIP_H_MAX_FORWARDS],
                       ims_reg_number(ed, (uint32_t) m->max_forwards - 1));

    return NULL;
}


const char *
ims_reg_forward(ims_sip_edit_t *ed, const ims_reg_request_t *q,
    const ims_reg_forward_t *f, unsigned *status)
{
    const char       *reason;
    ims_reg_lines_t   l;

    if (ims_sip_policy_apply(ed, IMS_SIP_WIC_REQUEST, &reason) != 0) {
        *status = 400;
        return reason;
    }

    reason = ims_reg_max_forwards(ed, status);
    if (reason) {
        return reason;
    }

    ims_reg_lines(ed, f, &l);

    ims_sip_edit_ruri(ed, IMS_REG_CAT(ed, IMS_STR("sip:"), f->home));
    ims_sip_edit_top(ed, "Via", l.via);
    ims_sip_edit_received(ed, f->received, f->rport);

    ims_reg_expires(ed, q, f);

    ims_sip_edit_append(ed, "Authorization", l.authorization);
    ims_sip_edit_append(ed, "Path", l.path);

    if (!ims_sip_list_has(ed->m, IMS_SIP_H_REQUIRE, "path")) {
        ims_sip_edit_append(ed, "Require", IMS_STR("path"));
    }

    ims_sip_edit_append(ed, "P-Visited-Network-ID",
                        IMS_REG_CAT(ed, IMS_STR("\""), l.visited,
                                    IMS_STR("\"")));
    ims_sip_edit_append(ed, "P-Charging-Vector", l.charging);

    if (f->access_network.n) {
        ims_sip_edit_append(ed, "P-Access-Network-Info",
                            IMS_REG_CAT(ed, f->access_network,
                                        IMS_STR(";network-provided")));
    }

    if (ims_sip_edit_finish(ed) != 0) {
        *status = 500;
        return ed->error;
    }

    return NULL;
}


static void
ims_reg_line(ims_out_t *o, const char *name, ims_str_t value)
{
    ims_out_z(o, name);
    ims_out_z(o, ": ");
    ims_out_str(o, value);
    ims_out_z(o, "\r\n");
}


ptrdiff_t
ims_reg_deregister(uint8_t *dst, size_t cap, const ims_reg_deregister_t *d)
{
    uint8_t          arena[4096];
    ims_out_t        o;
    ims_sip_edit_t   ed;
    ims_reg_lines_t  l;

    /* only the arena of the editor is used: there is no message to edit */

    ed.scratch = ims_out_set(arena, sizeof(arena));
    ed.error = NULL;

    ims_reg_lines(&ed, &d->f, &l);

    o = ims_out_set(dst, cap);

    ims_out_z(&o, "REGISTER sip:");
    ims_out_str(&o, d->f.home);
    ims_out_z(&o, " SIP/2.0\r\n");
    ims_reg_line(&o, "Via", l.via);
    ims_out_z(&o, "Max-Forwards: 70\r\nFrom: <");
    ims_out_str(&o, d->impu);
    ims_out_z(&o, ">;tag=");
    ims_out_str(&o, d->from_tag);
    ims_out_z(&o, "\r\nTo: <");
    ims_out_str(&o, d->impu);
    ims_out_z(&o, ">\r\n");
    ims_reg_line(&o, "Call-ID", d->call_id);
    ims_out_z(&o, "CSeq: ");
    ims_out_u64(&o, d->cseq);
    ims_out_z(&o, " REGISTER\r\nContact: ");

    if (d->contact.n) {
        ims_out_z(&o, "<");
        ims_out_str(&o, d->contact);
        ims_out_z(&o, ">;expires=0");

    } else {
        ims_out_z(&o, "*");
    }

    ims_out_z(&o, "\r\nExpires: 0\r\n");
    ims_reg_line(&o, "Authorization", l.authorization);
    ims_reg_line(&o, "Path", l.path);
    ims_out_z(&o, "Require: path\r\nSupported: path\r\n"
                  "P-Visited-Network-ID: \"");
    ims_out_str(&o, l.visited);
    ims_out_z(&o, "\"\r\n");
    ims_reg_line(&o, "P-Charging-Vector", l.charging);
    ims_out_z(&o, "Content-Length: 0\r\n\r\n");

    return o.over || ed.scratch.over || ed.error ? -1 : (ptrdiff_t) o.n;
}
