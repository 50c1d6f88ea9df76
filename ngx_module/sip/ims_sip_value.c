/*
 * Copyright (C) nginx-ims contributors
 *
 * What stands in header values: lists, parameters, Via, addresses, CSeq,
 * Contact, credentials.
 */

#include "sip/ims_sip.h"
#include "sip/ims_sip_chars.h"

#include <arpa/inet.h>


static const uint8_t *ims_sip_quoted_end(const uint8_t *p,
    const uint8_t *end);
static bool ims_sip_take_params(ims_str_t params);
static bool ims_sip_absolute_uri(ims_str_t uri);
static const uint8_t *ims_sip_display_end(const uint8_t *p,
    const uint8_t *end);
static const uint8_t *ims_sip_via_protocol(const uint8_t *p,
    const uint8_t *end, ims_sip_via_t *v);
static const uint8_t *ims_sip_via_host(const uint8_t *p, const uint8_t *end,
    ims_sip_via_t *v);
static int ims_sip_auth_param_next(ims_str_t *rest, ims_str_t *name,
    ims_str_t *value);
static bool ims_sip_token68(ims_str_t s);


static const struct {
    ims_str_t  name;
    unsigned   id;
} ims_sip_methods[] = {
    { ims_str("REGISTER"), IMS_SIP_M_REGISTER },
    { ims_str("INVITE"), IMS_SIP_M_INVITE },
    { ims_str("ACK"), IMS_SIP_M_ACK },
    { ims_str("BYE"), IMS_SIP_M_BYE },
    { ims_str("CANCEL"), IMS_SIP_M_CANCEL },
    { ims_str("OPTIONS"), IMS_SIP_M_OPTIONS },
    { ims_str("MESSAGE"), IMS_SIP_M_MESSAGE },
    { ims_str("SUBSCRIBE"), IMS_SIP_M_SUBSCRIBE },
    { ims_str("NOTIFY"), IMS_SIP_M_NOTIFY },
    { ims_str("INFO"), IMS_SIP_M_INFO },
    { ims_str("UPDATE"), IMS_SIP_M_UPDATE },
    { ims_str("PRACK"), IMS_SIP_M_PRACK },
    { ims_str("REFER"), IMS_SIP_M_REFER },
    { ims_str("PUBLISH"), IMS_SIP_M_PUBLISH }
};


unsigned
ims_sip_method_id(ims_str_t method)
{
    size_t  i;

    for (i = 0; i < sizeof(ims_sip_methods) / sizeof(ims_sip_methods[0]); i++)
    {
        if (ims_str_eq(method, ims_sip_methods[i].name)) {
            return ims_sip_methods[i].id;
        }
    }

    return IMS_SIP_M_OTHER;
}


bool
ims_sip_branch_ok(ims_str_t branch)
{
    static const ims_str_t  cookie = ims_str("z9hG4bK");

    return branch.n > cookie.n
           && ims_str_caseeq(ims_str_set(branch.p, cookie.n), cookie);
}


bool
ims_sip_delta(ims_str_t s, uint32_t *v)
{
    return ims_str_u32(s, v);
}


/* p is at the opening quote.  Behind the closing one; NULL if there is none */

static const uint8_t *
ims_sip_quoted_end(const uint8_t *p, const uint8_t *end)
{
    for (p++; p < end; p++) {

        if (*p == '"') {
            return p + 1;
        }

        if (*p == '\\') {
            p++;
        }
    }

    return NULL;
}


void
ims_sip_values(ims_sip_values_t *it, const ims_sip_msg_t *m, unsigned id)
{
    it->m = m;
    it->p = NULL;
    it->end = NULL;
    it->hdr = IMS_SIP_NONE;
    it->next = m->first[id];
}


void
ims_sip_values_text(ims_sip_values_t *it, ims_str_t text)
{
    text = ims_str_trim(text);

    it->m = NULL;
    it->p = text.n ? text.p : NULL;
    it->end = text.n ? text.p + text.n : NULL;
    it->hdr = IMS_SIP_NONE;
    it->next = IMS_SIP_NONE;
}


int
ims_sip_value_next(ims_sip_values_t *it, ims_str_t *v)
{
    const uint8_t        *p;
    const ims_sip_hdr_t  *h;

    /* p == NULL: between headers; p == end: behind a comma, so never a 0 */

    while (it->p == NULL) {

        if (it->next == IMS_SIP_NONE) {
            return 0;
        }

        h = &it->m->hdr[it->next];

        it->hdr = it->next;
        it->next = h->next;

        if (h->value.n) {
            it->p = h->value.p;
            it->end = h->value.p + h->value.n;
        }
    }

    for (p = it->p; p < it->end && *p != ','; p++) {

        if (*p == '"') {
            p = ims_sip_quoted_end(p, it->end);

        } else if (*p == '<') {
            p = memchr(p, '>', (size_t) (it->end - p));

            if (p != NULL) {
                p++;
            }

        } else {
            continue;
        }

        if (p == NULL) {
            return -1;
        }

        p--;
    }

    *v = ims_str_trim(ims_str_range(it->p, p));

    if (v->n == 0) {
        return -1;
    }

    it->p = p == it->end ? NULL : p + 1;

    return 1;
}


int
ims_sip_value_first(const ims_sip_msg_t *m, unsigned id, ims_str_t *v)
{
    int               rc;
    ims_str_t         other;
    ims_sip_values_t  it;

    ims_sip_values(&it, m, id);

    rc = ims_sip_value_next(&it, v);

    if (rc != 1) {
        return rc;
    }

    rc = ims_sip_value_next(&it, &other);

    return rc == -1 ? -1 : 1 + rc;
}


bool
ims_sip_list_has(const ims_sip_msg_t *m, unsigned id, const char *token)
{
    ims_str_t         v;
    ims_sip_values_t  it;

    ims_sip_values(&it, m, id);

    while (ims_sip_value_next(&it, &v) == 1) {
        if (ims_str_caseeq(v, ims_str_z(token))) {
            return true;
        }
    }

    return false;
}


int
ims_sip_param_next(ims_str_t *rest, ims_sip_param_t *pm)
{
    const uint8_t  *p, *q, *end, *start;

    if (rest->n == 0) {
        return 0;
    }

    end = rest->p + rest->n;
    start = ims_ch_skip_ws(rest->p, end);

    if (start == end) {
        return 0;
    }

    if (*start != ';') {
        return -1;
    }

    p = ims_ch_skip_ws(start + 1, end);
    q = ims_ch_skip(p, end, IMS_CH_TOKEN);

    if (q == p) {
        return -1;
    }

    pm->name = ims_str_range(p, q);
    pm->value = IMS_STR_NULL;

    p = ims_ch_skip_ws(q, end);

    if (p < end && *p == '=') {
        p = ims_ch_skip_ws(p + 1, end);

        q = p < end && *p == '"' ? ims_sip_quoted_end(p, end)
                                 : ims_ch_skip(p, end, IMS_CH_VALUE);

        if (q == NULL || q == p) {
            return -1;
        }

        pm->value = ims_str_range(p, q);
    }

    pm->whole = ims_str_range(start, q);
    *rest = ims_str_range(q, end);

    return 1;
}


int
ims_sip_param_find(ims_str_t params, const char *name, ims_sip_param_t *p)
{
    int              rc, n;
    ims_sip_param_t  pm;

    n = 0;
    memset(p, 0, sizeof(ims_sip_param_t));

    while ((rc = ims_sip_param_next(&params, &pm)) == 1) {
        if (ims_str_caseeq(pm.name, ims_str_z(name)) && n++ == 0) {
            *p = pm;
        }
    }

    return rc == -1 ? -1 : n;
}


bool
ims_sip_param(ims_str_t params, const char *name, ims_str_t *value)
{
    ims_sip_param_t  p;

    if (ims_sip_param_find(params, name, &p) != 1 || p.value.p == NULL) {
        return false;
    }

    *value = p.value;

    return true;
}


ims_str_t
ims_sip_unquoted(ims_str_t value)
{
    if (value.n >= 2 && value.p[0] == '"' && value.p[value.n - 1] == '"') {
        return ims_str_set(value.p + 1, value.n - 2);
    }

    return value;
}


static bool
ims_sip_take_params(ims_str_t params)
{
    int              rc;
    ims_sip_param_t  p;

    while ((rc = ims_sip_param_next(&params, &p)) == 1) { /* void */ }

    return rc == 0;
}


/* scheme ":" and something printable */

static bool
ims_sip_absolute_uri(ims_str_t uri)
{
    const uint8_t  *p, *end;

    end = uri.p + uri.n;

    for (p = uri.p; p < end && *p != ':'; p++) {

        /* ALPHA *( ALPHA / DIGIT / "+" / "-" / "." ) */

        if (!ims_ch(*p, IMS_CH_HOST) && *p != '+') {
            return false;
        }
    }

    return p != uri.p && end - p > 1 && ims_lower(uri.p[0]) >= 'a'
           && ims_lower(uri.p[0]) <= 'z' && ims_ch_all(uri, IMS_CH_URI);
}


/* The '<' behind a display name of tokens; NULL if these lead elsewhere. */

static const uint8_t *
ims_sip_display_end(const uint8_t *p, const uint8_t *end)
{
    const uint8_t  *q;

    for ( ;; ) {
        if (p < end && *p == '<') {
            return p;
        }

        q = ims_ch_skip(p, end, IMS_CH_TOKEN);

        if (q == p) {
            return NULL;
        }

        p = ims_ch_skip_ws(q, end);
    }
}


bool
ims_sip_addr_parse(ims_str_t value, ims_sip_addr_t *a)
{
    const uint8_t  *p, *q, *end;

    memset(a, 0, sizeof(ims_sip_addr_t));

    if (value.n == 0) {
        return false;
    }

    p = value.p;
    end = p + value.n;

    a->whole = value;

    if (*p == '"') {
        q = ims_sip_quoted_end(p, end);

        if (q == NULL) {
            return false;
        }

        a->display = ims_str_range(p, q);
        p = ims_ch_skip_ws(q, end);

        if (p == end || *p != '<') {
            return false;
        }

    } else {
        q = ims_sip_display_end(p, end);

        if (q != NULL && q != p) {
            a->display = ims_str_trim(ims_str_range(p, q));
        }

        p = q != NULL ? q : p;
    }

    if (*p == '<') {
        q = memchr(p, '>', (size_t) (end - p));

        if (q == NULL) {
            return false;
        }

        a->bracketed = true;
        a->uri = ims_str_range(p + 1, q);
        p = q + 1;

    } else {
        /* RFC 3261 20.10: no comma, question mark or parameter of its own */

        for (q = p; q < end && *q != ';' && *q != ' ' && *q != '\t'; q++) {
            if (*q == ',' || *q == '?') {
                return false;
            }
        }

        a->uri = ims_str_range(p, q);
        p = q;
    }

    a->params = ims_str_range(ims_ch_skip_ws(p, end), end);

    return ims_sip_absolute_uri(a->uri) && ims_sip_take_params(a->params);
}


bool
ims_sip_contact_parse(ims_str_t value, ims_sip_contact_t *c)
{
    size_t            i;
    ims_str_t         rest;
    ims_sip_param_t   p;

    const struct {
        ims_str_t         name;
        ims_sip_param_t  *to;
    } known[] = {
        { ims_str("expires"), &c->expires },
        { ims_str("q"), &c->q },
        { ims_str("+sip.instance"), &c->instance },
        { ims_str("reg-id"), &c->reg_id }
    };

    memset(c, 0, sizeof(ims_sip_contact_t));

    if (value.n == 1 && value.p[0] == '*') {
        c->star = true;
        return true;
    }

    if (!ims_sip_addr_parse(value, &c->addr)) {
        return false;
    }

    rest = c->addr.params;

    while (ims_sip_param_next(&rest, &p) == 1) {

        for (i = 0; i < sizeof(known) / sizeof(known[0]); i++) {

            if (!ims_str_caseeq(p.name, known[i].name)) {
                continue;
            }

            if (known[i].to->name.p != NULL) {
                return false;
            }

            *known[i].to = p;
        }
    }

    return true;
}


/* sent-protocol LWS: "SIP / 2.0 / WSS " */

static const uint8_t *
ims_sip_via_protocol(const uint8_t *p, const uint8_t *end, ims_sip_via_t *v)
{
    unsigned        i;
    ims_str_t       part[3];
    const uint8_t  *q;

    for (i = 0; i < 3; i++) {
        p = ims_ch_skip_ws(p, end);
        q = ims_ch_skip(p, end, IMS_CH_TOKEN);

        part[i] = ims_str_range(p, q);
        p = q;

        if (part[i].n == 0) {
            return NULL;
        }

        if (i < 2) {
            p = ims_ch_skip_ws(p, end);

            if (p == end || *p++ != '/') {
                return NULL;
            }
        }
    }

    if (!ims_str_caseeq(part[0], IMS_STR("SIP"))
        || !ims_str_eq(part[1], IMS_STR("2.0")))
    {
        return NULL;
    }

    v->transport = part[2];

    q = ims_ch_skip_ws(p, end);

    return q == p ? NULL : q;
}


/* sent-by: host [ ":" port ] */

static const uint8_t *
ims_sip_via_host(const uint8_t *p, const uint8_t *end, ims_sip_via_t *v)
{
    char            ip6[INET6_ADDRSTRLEN];
    uint8_t         addr[16];
    uint64_t        port;
    const uint8_t  *q, *s;

    if (p < end && *p == '[') {
        q = memchr(p, ']', (size_t) (end - p));

        if (q == NULL || (size_t) (q - p - 1) >= sizeof(ip6)) {
            return NULL;
        }

        memcpy(ip6, p + 1, (size_t) (q - p - 1));
        ip6[q - p - 1] = '\0';

        if (inet_pton(AF_INET6, ip6, addr) != 1) {
            return NULL;
        }

        q++;

    } else {
        q = ims_ch_skip(p, end, IMS_CH_HOST);
    }

    if (q == p) {
        return NULL;
    }

    v->host = ims_str_range(p, q);

    s = ims_ch_skip_ws(q, end);

    if (s == end || *s != ':') {
        return s;
    }

    p = ims_ch_skip_ws(s + 1, end);
    q = ims_ch_skip(p, end, IMS_CH_DIGIT);

    if (!ims_str_u64(ims_str_range(p, q), 65535, &port) || port == 0) {
        return NULL;
    }

    v->port = (uint16_t) port;

    return q;
}


bool
ims_sip_via_parse(ims_str_t value, ims_sip_via_t *v)
{
    int               rc;
    ims_str_t         rest;
    const uint8_t    *p, *end;
    ims_sip_param_t   pm, *to;

    memset(v, 0, sizeof(ims_sip_via_t));

    if (value.n == 0) {
        return false;
    }

    v->whole = value;
    end = value.p + value.n;

    p = ims_sip_via_protocol(value.p, end, v);

    if (p == NULL) {
        return false;
    }

    p = ims_sip_via_host(p, end, v);

    if (p == NULL) {
        return false;
    }

    v->params = ims_str_range(ims_ch_skip_ws(p, end), end);
    rest = v->params;

    while ((rc = ims_sip_param_next(&rest, &pm)) == 1) {

        to = ims_str_caseeq(pm.name, IMS_STR("branch")) ? &v->branch
             : ims_str_caseeq(pm.name, IMS_STR("received")) ? &v->received
             : ims_str_caseeq(pm.name, IMS_STR("rport")) ? &v->rport
             : NULL;

        if (to == NULL) {
            continue;
        }

        /* a second one, or a value missing where there must be one */

        if (to->name.p != NULL || (to != &v->rport && pm.value.n == 0)) {
            return false;
        }

        *to = pm;
    }

    if (rc == -1) {
        return false;
    }

    /* a branch is compared, and written to the core, as it is: a token */

    return (v->branch.name.p == NULL
            || ims_ch_all(v->branch.value, IMS_CH_TOKEN))
           && (v->rport.value.p == NULL
               || ims_ch_all(v->rport.value, IMS_CH_DIGIT));
}


bool
ims_sip_cseq_parse(ims_str_t value, uint32_t *num, ims_str_t *method)
{
    uint64_t        n;
    const uint8_t  *p, *q, *end;

    if (value.n == 0) {
        return false;
    }

    end = value.p + value.n;

    p = ims_ch_skip(value.p, end, IMS_CH_DIGIT);
    q = ims_ch_skip_ws(p, end);

    if (q == p || !ims_ch_all(ims_str_range(q, end), IMS_CH_TOKEN)) {
        return false;
    }

    /* RFC 3261 8.1.1.5: less than 2^31 */

    if (!ims_str_u64(ims_str_range(value.p, p), 0x7fffffff, &n)) {
        return false;
    }

    *num = (uint32_t) n;
    *method = ims_str_range(q, end);

    return true;
}


bool
ims_sip_auth_parse(ims_str_t value, ims_str_t *scheme, ims_str_t *params)
{
    const uint8_t  *p, *q, *end;

    if (value.n == 0) {
        return false;
    }

    end = value.p + value.n;

    p = ims_ch_skip(value.p, end, IMS_CH_TOKEN);
    q = ims_ch_skip_ws(p, end);

    if (p == value.p || (q == p && q != end)) {
        return false;
    }

    *scheme = ims_str_range(value.p, p);
    *params = ims_str_range(q, end);

    return true;
}


/* Takes "name = value" and the comma behind it: 1, 0 at the end, -1. */

static int
ims_sip_auth_param_next(ims_str_t *rest, ims_str_t *name, ims_str_t *value)
{
    const uint8_t  *p, *q, *end;

    if (rest->n == 0) {
        return 0;
    }

    end = rest->p + rest->n;
    p = ims_ch_skip_ws(rest->p, end);

    if (p == end) {
        return 0;
    }

    q = ims_ch_skip(p, end, IMS_CH_TOKEN);

    if (q == p) {
        return -1;
    }

    *name = ims_str_range(p, q);
    p = ims_ch_skip_ws(q, end);

    if (p == end || *p != '=') {
        return -1;
    }

    p = ims_ch_skip_ws(p + 1, end);

    q = p < end && *p == '"' ? ims_sip_quoted_end(p, end)
                             : ims_ch_skip(p, end, IMS_CH_VALUE);

    if (q == NULL || q == p) {
        return -1;
    }

    *value = ims_str_range(p, q);

    p = ims_ch_skip_ws(q, end);

    if (p != end && (*p != ',' || ims_ch_skip_ws(++p, end) == end)) {
        return -1;
    }

    *rest = ims_str_range(p, end);

    return 1;
}


int
ims_sip_auth_param(ims_str_t params, const char *name, ims_str_t *value)
{
    int        rc, n;
    ims_str_t  pname, pvalue;

    n = 0;

    while ((rc = ims_sip_auth_param_next(&params, &pname, &pvalue)) == 1) {
        if (ims_str_caseeq(pname, ims_str_z(name)) && n++ == 0) {
            *value = pvalue;
        }
    }

    return rc == -1 ? -1 : n;
}


static bool
ims_sip_token68(ims_str_t s)
{
    const uint8_t  *p, *end;

    if (s.n == 0) {
        return false;
    }

    end = s.p + s.n;
    p = ims_ch_skip(s.p, end, IMS_CH_T68);

    if (p == s.p) {
        return false;
    }

    while (p < end && *p == '=') {
        p++;
    }

    return p == end;
}


bool
ims_sip_bearer(ims_str_t value, ims_str_t *token)
{
    int        rc;
    ims_str_t  scheme, params, v;

    if (!ims_sip_auth_parse(value, &scheme, &params)
        || !ims_str_caseeq(scheme, IMS_STR("Bearer")))
    {
        return false;
    }

    rc = ims_sip_auth_param(params, "access_token", &v);

    if (rc == 1) {
        v = ims_sip_unquoted(v);

    } else if (rc > 1) {
        return false;

    } else {
        v = params;
    }

    if (!ims_sip_token68(v)) {
        return false;
    }

    *token = v;

    return true;
}
