/*
 * Copyright (C) nginx-ims contributors
 */

#include "base/ims_hmac.h"
#include "reg/ims_register.h"


static const char *
ims_reg_read_contact(ims_reg_request_t *q, const ims_sip_msg_t *m)
{
    uint32_t          expires;
    ims_str_t         value;
    ims_sip_uri_t     uri;
    ims_sip_values_t  it;

    ims_sip_values(&it, m, IMS_SIP_H_CONTACT);

    switch (ims_sip_value_next(&it, &value)) {
    case 1:
        break;
    case 0:
        return "REGISTER without Contact";
    default:
        return "Bad Contact";
    }

    if (!ims_sip_contact_parse(value, &q->contact)) {
        return "Bad Contact";
    }

    if (ims_sip_value_next(&it, &value) != 0) {
        return "More than one Contact";
    }

    /* an expiry that registrars could read in different ways is no expiry */

    q->asked = IMS_REG_EXPIRES;

    if (m->count[IMS_SIP_H_EXPIRES]
        && !ims_sip_delta(ims_sip_hdr_value(m, IMS_SIP_H_EXPIRES), &q->asked))
    {
        return "Bad Expires";
    }

    if (q->contact.star) {
        return m->count[IMS_SIP_H_EXPIRES] && q->asked == 0
               ? NULL : "Contact * needs Expires 0";
    }

    if (q->contact.expires.name.p) {

        if (!ims_sip_delta(q->contact.expires.value, &expires)) {
            return "Bad expires of Contact";
        }

        q->asked = expires;
    }

    if (q->contact.addr.uri.n > IMS_REG_CONTACT_MAX) {
        return "Contact too long";
    }

    if (!ims_sip_uri_parse(q->contact.addr.uri, &uri)
        || (uri.scheme != IMS_SIP_URI_SIP && uri.scheme != IMS_SIP_URI_SIPS))
    {
        return "Contact is not a SIP URI";
    }

    /*
     * TS 24.229 5.4.8: of an emergency registration the registrar sets the
     * expiry as it likes, and takes nothing back
     */

    if (ims_sip_uri_param(&uri, "sos", &value) != 0) {
        return "Emergency registration";
    }

    return NULL;
}


static const char *
ims_reg_read_outbound(ims_reg_request_t *q)
{
    q->instance = IMS_STR_NULL;
    q->reg_id = 0;

    if (q->contact.star || q->contact.instance.name.p == NULL) {
        return NULL;
    }

    q->instance = ims_sip_unquoted(q->contact.instance.value);

    if (q->instance.n == 0) {
        return "Bad +sip.instance";
    }

    if (q->contact.reg_id.name.p
        && (!ims_str_u32(q->contact.reg_id.value, &q->reg_id)
            || q->reg_id == 0 || q->reg_id > 0x7fffffff))
    {
        return "Bad reg-id";
    }

    return NULL;
}


static const char *
ims_reg_read_token(ims_reg_request_t *q, const ims_sip_msg_t *m)
{
    uint16_t   i;
    ims_str_t  token, scheme, params;

    q->token = IMS_STR_NULL;

    for (i = m->first[IMS_SIP_H_AUTHORIZATION]; i != IMS_SIP_NONE;
         i = m->hdr[i].next)
    {
        if (!ims_sip_auth_parse(m->hdr[i].value, &scheme, &params)) {
            return "Bad Authorization";
        }

        /* others are not for us, and stripped all the same */

        if (!ims_str_caseeq(scheme, IMS_STR("Bearer"))) {
            continue;
        }

        if (q->token.p) {
            return "More than one Bearer token";
        }

        if (!ims_sip_bearer(m->hdr[i].value, &token)) {
            return "Bad Bearer token";
        }

        q->token = token;
    }

    return NULL;
}


unsigned
ims_reg_read(ims_reg_request_t *q, const ims_sip_msg_t *m,
    const char **reason)
{
    ptrdiff_t  n;

    n = ims_sip_canon(q->aor_buf, sizeof(q->aor_buf), m->to.uri);

    if (n < 0 || !ims_sip_identity_ok(m->to.uri)) {
        *reason = "To is not an identity";
        return 400;
    }

    q->aor = ims_str_set(q->aor_buf, (size_t) n);

    if (!ims_sip_uri_same(m->from.uri, m->to.uri)) {
        *reason = "Third-party REGISTER";
        return 403;
    }

    *reason = ims_reg_read_contact(q, m);

    if (*reason == NULL) {
        *reason = ims_reg_read_outbound(q);
    }

    if (*reason == NULL) {
        *reason = ims_reg_read_token(q, m);
    }

    return *reason ? 400 : 0;
}


bool
ims_reg_instance(const ims_reg_request_t *q, uint8_t out[16])
{
    uint8_t    id[4];
    ims_str_t  parts[2];

    if (q->instance.p == NULL) {

        /* no instance has a NUL in it */

        parts[0] = ims_str_set("", 1);
        parts[1] = q->contact.addr.uri;

        ims_sha256_parts(parts, 2, out, 16);

        return false;
    }

    id[0] = (uint8_t) (q->reg_id >> 24);
    id[1] = (uint8_t) (q->reg_id >> 16);
    id[2] = (uint8_t) (q->reg_id >> 8);
    id[3] = (uint8_t) q->reg_id;

    parts[0] = q->instance;
    parts[1] = ims_str_set(id, sizeof(id));

    ims_sha256_parts(parts, 2, out, 16);

    return true;
}
