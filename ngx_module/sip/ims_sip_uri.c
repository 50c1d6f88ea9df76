/*
 * Copyright (C) nginx-ims contributors
 *
 * URIs: syntax.  Their canonical and folded forms are in ims_sip_canon.c.
 */

#include "sip/ims_sip_uri.h"
#include "sip/ims_sip_chars.h"
#include "sip/ims_sip_escape.h"

#include <arpa/inet.h>


static bool ims_sip_escaped(ims_str_t s, unsigned cls);
static bool ims_sip_uri_scheme(ims_str_t s, ims_sip_uri_t *u);
static bool ims_sip_uri_sip(const uint8_t *p, const uint8_t *end,
    ims_sip_uri_t *u);
static const uint8_t *ims_sip_uri_userinfo(const uint8_t *p,
    const uint8_t *end, ims_sip_uri_t *u);
static const uint8_t *ims_sip_uri_hostport(const uint8_t *p,
    const uint8_t *end, ims_sip_uri_t *u);
static bool ims_sip_uri_ip6(ims_str_t host);
static bool ims_sip_uri_params_ok(ims_str_t params);
static bool ims_sip_uri_headers_ok(ims_str_t headers);
static bool ims_sip_uri_tel(const uint8_t *p, const uint8_t *end,
    ims_sip_uri_t *u);
static bool ims_sip_name_is(ims_str_t name, const char *z);


bool
ims_sip_uri_parse(ims_str_t s, ims_sip_uri_t *u)
{
    const uint8_t  *p, *end;

    memset(u, 0, sizeof(ims_sip_uri_t));

    if (!ims_sip_uri_scheme(s, u)) {
        return false;
    }

    u->whole = s;

    p = s.p + u->scheme_name.n + 1;
    end = s.p + s.n;

    switch (u->scheme) {

    case IMS_SIP_URI_SIP:
    case IMS_SIP_URI_SIPS:
        return ims_sip_uri_sip(p, end, u);

    case IMS_SIP_URI_TEL:
        return ims_sip_uri_tel(p, end, u);

    default:
        u->opaque = ims_str_range(p, end);
        return ims_ch_all(u->opaque, IMS_CH_URI);
    }
}


/* Characters of the class, and %HH. */

static bool
ims_sip_escaped(ims_str_t s, unsigned cls)
{
    const uint8_t  *p, *end;

    p = s.p;
    end = p + s.n;

    for ( ;; ) {
        p = ims_ch_skip(p, end, cls);

        if (p == end) {
            return true;
        }

        if (ims_sip_unescape(p, end) < 0) {
            return false;
        }

        p += 3;
    }
}


static bool
ims_sip_uri_scheme(ims_str_t s, ims_sip_uri_t *u)
{
    size_t          i;
    const uint8_t  *p, *end;

    static const struct {
        ims_str_t         name;
        ims_sip_scheme_e  scheme;
    } known[] = {
        { ims_str("sip"), IMS_SIP_URI_SIP },
        { ims_str("sips"), IMS_SIP_URI_SIPS },
        { ims_str("tel"), IMS_SIP_URI_TEL },
        { ims_str("urn"), IMS_SIP_URI_URN }
    };

    if (s.n == 0 || ims_lower(s.p[0]) < 'a' || ims_lower(s.p[0]) > 'z') {
        return false;
    }

    end = s.p + s.n;

    /* ALPHA *( ALPHA / DIGIT / "+" / "-" / "." ) ":" */

    for (p = s.p; p < end && (ims_ch(*p, IMS_CH_HOST) || *p == '+'); p++) {
        /* void */
    }

    if (p == end || *p != ':') {
        return false;
    }

    u->scheme_name = ims_str_range(s.p, p);

    for (i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (ims_str_caseeq(u->scheme_name, known[i].name)) {
            u->scheme = known[i].scheme;
            break;
        }
    }

    return true;
}


/* [ userinfo "@" ] hostport uri-parameters [ "?" headers ] */

static bool
ims_sip_uri_sip(const uint8_t *p, const uint8_t *end, ims_sip_uri_t *u)
{
    const uint8_t  *q;

    p = ims_sip_uri_userinfo(p, end, u);

    if (p == NULL) {
        return false;
    }

    p = ims_sip_uri_hostport(p, end, u);

    if (p == NULL) {
        return false;
    }

    if (p < end && *p == ';') {
        q = memchr(p, '?', (size_t) (end - p));
        q = q != NULL ? q : end;

        u->params = ims_str_range(p, q);
        p = q;

        if (!ims_sip_uri_params_ok(u->params)) {
            return false;
        }
    }

    if (p == end) {
        return true;
    }

    if (*p != '?') {
        return false;
    }

    u->headers = ims_str_range(p + 1, end);

    return ims_sip_uri_headers_ok(u->headers);
}


/*
 * '@' stands nowhere but behind the user, so the first one ends it; a second
 * one then is a fault of the host or of what follows.
 */

static const uint8_t *
ims_sip_uri_userinfo(const uint8_t *p, const uint8_t *end, ims_sip_uri_t *u)
{
    const uint8_t  *at, *colon;

    at = p < end ? memchr(p, '@', (size_t) (end - p)) : NULL;

    if (at == NULL) {
        return p;
    }

    colon = memchr(p, ':', (size_t) (at - p));

    u->user = ims_str_range(p, colon != NULL ? colon : at);

    if (u->user.n == 0 || !ims_sip_escaped(u->user, IMS_CH_USER)) {
        return NULL;
    }

    if (colon != NULL) {
        u->password = ims_str_range(colon + 1, at);

        /* as the user, but without ";?/" */

        if (!ims_sip_escaped(u->password, IMS_CH_USER)
            || memchr(u->password.p, ';', u->password.n) != NULL
            || memchr(u->password.p, '?', u->password.n) != NULL
            || memchr(u->password.p, '/', u->password.n) != NULL)
        {
            return NULL;
        }
    }

    return at + 1;
}


static const uint8_t *
ims_sip_uri_hostport(const uint8_t *p, const uint8_t *end, ims_sip_uri_t *u)
{
    uint64_t        port;
    const uint8_t  *q;

    if (p < end && *p == '[') {
        q = memchr(p, ']', (size_t) (end - p));

        if (q == NULL || !ims_sip_uri_ip6(ims_str_range(p, q + 1))) {
            return NULL;
        }

        q++;

    } else {
        q = ims_ch_skip(p, end, IMS_CH_HOST);
    }

    if (q == p) {
        return NULL;
    }

    u->host = ims_str_range(p, q);

    if (q == end || *q != ':') {
        return q;
    }

    p = q + 1;
    q = ims_ch_skip(p, end, IMS_CH_DIGIT);

    if (!ims_str_u64(ims_str_range(p, q), 65535, &port) || port == 0) {
        return NULL;
    }

    u->port = (uint16_t) port;

    return q;
}


static bool
ims_sip_uri_ip6(ims_str_t host)
{
    char     text[INET6_ADDRSTRLEN];
    uint8_t  addr[16];

    if (host.n - 2 >= sizeof(text)) {
        return false;
    }

    memcpy(text, host.p + 1, host.n - 2);
    text[host.n - 2] = '\0';

    return strlen(text) == host.n - 2
           && inet_pton(AF_INET6, text, addr) == 1;
}


static bool
ims_sip_uri_params_ok(ims_str_t params)
{
    int        rc;
    ims_str_t  name, value;

    while ((rc = ims_sip_uri_param_next(&params, &name, &value)) == 1) {

        if (!ims_sip_escaped(name, IMS_CH_PARAM)
            || (value.p != NULL
                && (value.n == 0 || !ims_sip_escaped(value, IMS_CH_PARAM))))
        {
            return false;
        }
    }

    return rc == 0;
}


/* hname "=" hvalue, separated by "&" */

static bool
ims_sip_uri_headers_ok(ims_str_t headers)
{
    const uint8_t  *p, *q, *eq, *end;

    p = headers.p;
    end = p + headers.n;

    for ( ;; ) {
        q = p < end ? memchr(p, '&', (size_t) (end - p)) : NULL;
        q = q != NULL ? q : end;

        eq = p < q ? memchr(p, '=', (size_t) (q - p)) : NULL;

        if (eq == NULL || eq == p
            || !ims_sip_escaped(ims_str_range(p, eq), IMS_CH_HNV)
            || !ims_sip_escaped(ims_str_range(eq + 1, q), IMS_CH_HNV))
        {
            return false;
        }

        if (q == end) {
            return true;
        }

        p = q + 1;
    }
}


/* "+" digits and separators, or a local number (hex digits, "*", "#") */

static bool
ims_sip_uri_tel(const uint8_t *p, const uint8_t *end, ims_sip_uri_t *u)
{
    bool            global, digit;
    const uint8_t  *q;

    q = p < end ? memchr(p, ';', (size_t) (end - p)) : NULL;
    q = q != NULL ? q : end;

    u->user = ims_str_range(p, q);
    u->params = q < end ? ims_str_range(q, end) : IMS_STR_NULL;

    global = p < q && *p == '+';
    p += global;
    digit = false;

    for ( /* void */ ; p < q; p++) {

        if (!ims_ch(*p, IMS_CH_TEL) || *p == '+'
            || (global && !ims_ch(*p, IMS_CH_DIGIT)
                && !ims_sip_tel_separator(*p)))
        {
            return false;
        }

        digit = digit || !ims_sip_tel_separator(*p);
    }

    return digit && ims_sip_uri_params_ok(u->params);
}


int
ims_sip_uri_param_next(ims_str_t *rest, ims_str_t *name, ims_str_t *value)
{
    const uint8_t  *p, *q, *eq, *end;

    if (rest->n == 0) {
        return 0;
    }

    /* it starts with ';' */

    p = rest->p + 1;
    end = rest->p + rest->n;

    q = p < end ? memchr(p, ';', (size_t) (end - p)) : NULL;
    q = q != NULL ? q : end;

    eq = p < q ? memchr(p, '=', (size_t) (q - p)) : NULL;

    *name = ims_str_range(p, eq != NULL ? eq : q);
    *value = eq != NULL ? ims_str_range(eq + 1, q) : IMS_STR_NULL;
    *rest = ims_str_range(q, end);

    return name->n ? 1 : -1;
}


/* Compares a name that may have escapes with a lower-case literal. */

static bool
ims_sip_name_is(ims_str_t name, const char *z)
{
    int             c;
    const uint8_t  *p, *end;

    end = name.p + name.n;

    for (p = name.p; p < end; z++) {
        c = *p;

        if (c == '%') {
            c = ims_sip_unescape(p, end);
            p += 2;
        }

        if (c < 0 || *z == '\0' || ims_lower((uint8_t) c) != (uint8_t) *z) {
            return false;
        }

        p++;
    }

    return *z == '\0';
}


unsigned
ims_sip_uri_param(const ims_sip_uri_t *u, const char *name, ims_str_t *v)
{
    unsigned   n;
    ims_str_t  rest, pname, value;

    n = 0;
    rest = u->params;

    while (ims_sip_uri_param_next(&rest, &pname, &value) == 1) {
        if (ims_sip_name_is(pname, name)) {
            *v = value;
            n++;
        }
    }

    return n;
}
