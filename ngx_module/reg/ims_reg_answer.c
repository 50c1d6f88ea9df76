/*
 * Copyright (C) nginx-ims contributors
 */

#include "reg/ims_register.h"


/*
 * The very URI, which the client will look for as well.  A registrar that does
 * not go by instances lists what the device had before beside it.
 */

static bool
ims_reg_is_exact(const ims_sip_contact_t *c, ims_str_t contact)
{
    return ims_str_eq(c->addr.uri, contact)
           || ims_sip_uri_same(c->addr.uri, contact);
}


/*
 * Is that Contact the one we sent: by instance and reg-id where the client
 * has them, else by the URI.
 */

static bool
ims_reg_is_ours(const ims_sip_contact_t *c, ims_str_t contact,
    ims_str_t instance, uint32_t reg_id)
{
    uint32_t  id;

    if (instance.p && c->instance.name.p) {
        id = 0;

        if (c->reg_id.name.p && !ims_str_u32(c->reg_id.value, &id)) {
            return false;
        }

        return id == reg_id
               && ims_str_caseeq(ims_sip_unquoted(c->instance.value),
                                 instance);
    }

    return ims_reg_is_exact(c, contact);
}


static bool
ims_reg_answer_contact(ims_reg_answer_t *a, const ims_sip_msg_t *m,
    ims_str_t contact, ims_str_t instance, uint32_t reg_id)
{
    int                rc;
    bool               exact, is;
    uint32_t           expires;
    ims_str_t          value;
    ims_sip_values_t   it;
    ims_sip_contact_t  c;

    a->found = false;
    a->granted = 0;
    exact = false;

    ims_sip_values(&it, m, IMS_SIP_H_CONTACT);

    while ((rc = ims_sip_value_next(&it, &value)) == 1) {

        if (!ims_sip_contact_parse(value, &c)) {
            return false;
        }

        if (c.star || !ims_reg_is_ours(&c, contact, instance, reg_id)) {
            continue;
        }

        if (c.expires.name.p) {
            if (!ims_sip_delta(c.expires.value, &expires)) {
                return false;
            }

        } else if (m->count[IMS_SIP_H_EXPIRES] == 0
                   || !ims_sip_delta(ims_sip_hdr_value(m, IMS_SIP_H_EXPIRES),
                                     &expires))
        {
            return false;
        }

        is = ims_reg_is_exact(&c, contact);

        /* listed twice, the longer one is what may hold */

        if (!a->found || (is && !exact)
            || (is == exact && expires > a->granted))
        {
            exact = is;
            a->found = true;
            a->granted = expires;
            a->hdr = it.hdr;
            a->value = value;
            a->expires = c.expires;
        }
    }

    return rc == 0;
}


static bool
ims_reg_answer_route(ims_reg_answer_t *a, const ims_sip_msg_t *m,
    uint8_t *buf)
{
    int               rc;
    ims_out_t         o;
    ims_str_t         value;
    ims_sip_addr_t    addr;
    ims_sip_values_t  it;

    o = ims_out_set(buf, IMS_REG_ROUTE_MAX);

    ims_sip_values(&it, m, IMS_SIP_H_SERVICE_ROUTE);

    while ((rc = ims_sip_value_next(&it, &value)) == 1) {

        if (!ims_sip_addr_parse(value, &addr) || !addr.bracketed) {
            return false;
        }

        if (o.n) {
            ims_out_c(&o, ',');
        }

        ims_out_str(&o, value);
    }

    a->route = ims_str_set(buf, o.n);

    return rc == 0 && !o.over;
}


static bool
ims_reg_answer_asserted(ims_reg_answer_t *a, const ims_sip_msg_t *m)
{
    int               rc;
    ims_str_t         value;
    ims_sip_addr_t    addr;
    ims_sip_values_t  it;

    a->nasserted = 0;

    ims_sip_values(&it, m, IMS_SIP_H_P_ASSOCIATED_URI);

    while ((rc = ims_sip_value_next(&it, &value)) == 1) {

        if (!ims_sip_addr_parse(value, &addr)
            || a->nasserted == IMS_REG_ASSERTED_MAX)
        {
            return false;
        }

        a->asserted[a->nasserted++] = addr.uri;
    }

    return rc == 0;
}


bool
ims_reg_answer(ims_reg_answer_t *a, const ims_sip_msg_t *m,
    ims_str_t contact, ims_str_t instance, uint32_t reg_id, uint8_t *buf,
    const char **reason)
{
    if (!ims_reg_answer_contact(a, m, contact, instance, reg_id)) {
        *reason = "bad Contact";
        return false;
    }

    if (!ims_reg_answer_route(a, m, buf)) {
        *reason = "bad Service-Route";
        return false;
    }

    if (!ims_reg_answer_asserted(a, m)) {
        *reason = "bad P-Associated-URI";
        return false;
    }

    return true;
}
