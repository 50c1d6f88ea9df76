/*
 * Copyright (C) nginx-ims contributors
 */

#include <arpa/inet.h>

#include "ws/ims_origin.h"


#define IMS_ORIGIN_HOST_MAX  253


static const struct {
    ims_str_t  scheme;
    uint16_t   port;
} ims_origin_ports[] = {
    { ims_str("https"), 443 },
    { ims_str("http"), 80 },
    { ims_str("wss"), 443 },
    { ims_str("ws"), 80 },
};


static uint16_t
ims_origin_default_port(ims_str_t scheme)
{
    size_t  i;

    for (i = 0; i < sizeof(ims_origin_ports) / sizeof(ims_origin_ports[0]);
         i++)
    {
        if (ims_str_caseeq(scheme, ims_origin_ports[i].scheme)) {
            return ims_origin_ports[i].port;
        }
    }

    return 0;
}


static bool
ims_origin_alpha(uint8_t c)
{
    c = ims_lower(c);

    return c >= 'a' && c <= 'z';
}


static bool
ims_origin_alnum(uint8_t c)
{
    return ims_origin_alpha(c) || (c >= '0' && c <= '9');
}


/* takes "scheme://" off the text */

static bool
ims_origin_scheme(ims_str_t *text, ims_str_t *scheme)
{
    size_t   n;
    uint8_t  c;

    for (n = 0; n < text->n && text->p[n] != ':'; n++) {
        c = text->p[n];

        if (n == 0 ? !ims_origin_alpha(c)
                   : !ims_origin_alnum(c) && c != '+' && c != '-' && c != '.')
        {
            return false;
        }
    }

    if (n == 0 || text->n - n < 3 || memcmp(text->p + n, "://", 3) != 0) {
        return false;
    }

    *scheme = ims_str_set(text->p, n);
    text->p += n + 3;
    text->n -= n + 3;

    return true;
}


/* an address in brackets, in the one form that browsers write */

static bool
ims_origin_ipv6(ims_str_t host)
{
    char             text[INET6_ADDRSTRLEN], again[INET6_ADDRSTRLEN];
    struct in6_addr  addr;

    if (host.n < 4 || host.n - 2 >= sizeof(text)
        || host.p[host.n - 1] != ']')
    {
        return false;
    }

    memcpy(text, host.p + 1, host.n - 2);
    text[host.n - 2] = '\0';

    return inet_pton(AF_INET6, text, &addr) == 1
           && inet_ntop(AF_INET6, &addr, again, sizeof(again)) != NULL
           && ims_str_caseeq(ims_str_z(text), ims_str_z(again));
}


/* letters, digits, hyphens, underscores; no empty label, so no trailing dot */

static bool
ims_origin_name(ims_str_t host)
{
    size_t   i, label;
    uint8_t  c;

    if (host.n == 0 || host.n > IMS_ORIGIN_HOST_MAX) {
        return false;
    }

    label = 0;

    for (i = 0; i < host.n; i++) {
        c = host.p[i];

        if (c == '.') {
            if (label == 0) {
                return false;
            }

            label = 0;
            continue;
        }

        if (!ims_origin_alnum(c) && c != '-' && c != '_') {
            return false;
        }

        label++;
    }

    return label != 0;
}


static bool
ims_origin_port(ims_str_t text, uint16_t *port)
{
    uint64_t  v;

    if (text.n == 0 || text.p[0] == '0' || !ims_str_u64(text, 65535, &v)) {
        return false;
    }

    *port = (uint16_t) v;

    return true;
}


bool
ims_origin_parse(ims_origin_t *o, ims_str_t text)
{
    size_t  n;

    if (!ims_origin_scheme(&text, &o->scheme) || text.n == 0) {
        return false;
    }

    n = 0;

    if (text.p[0] == '[') {
        while (n < text.n && text.p[n++] != ']') { /* void */ }

    } else {
        while (n < text.n && text.p[n] != ':') {
            n++;
        }
    }

    o->host = ims_str_set(text.p, n);
    o->port = ims_origin_default_port(o->scheme);

    if (text.p[0] == '[' ? !ims_origin_ipv6(o->host)
                         : !ims_origin_name(o->host))
    {
        return false;
    }

    if (n == text.n) {
        return true;
    }

    return text.p[n] == ':'
           && ims_origin_port(ims_str_set(text.p + n + 1, text.n - n - 1),
                              &o->port);
}


bool
ims_origin_equal(const ims_origin_t *a, const ims_origin_t *b)
{
    return a->port == b->port
           && ims_str_caseeq(a->scheme, b->scheme)
           && ims_str_caseeq(a->host, b->host);
}


/* true if sub is one or more labels and a dot before host */

static bool
ims_origin_below(ims_str_t sub, ims_str_t host)
{
    size_t  n;

    if (sub.n < host.n + 2) {
        return false;
    }

    n = sub.n - host.n;

    return sub.p[n - 1] == '.'
           && ims_str_caseeq(ims_str_set(sub.p + n, host.n), host);
}


/*
 * A wildcard over a whole top-level domain would let in everybody; over the
 * end of an address it means nothing.
 */

static bool
ims_origin_wild_ok(ims_str_t host)
{
    const uint8_t  *dot;

    if (host.p[0] == '[') {
        return false;
    }

    dot = memrchr(host.p, '.', host.n);

    if (dot == NULL) {
        return ims_str_caseeq(host, IMS_STR("localhost"));
    }

    return dot[1] < '0' || dot[1] > '9';
}


int
ims_origin_rule_parse(ims_origin_rule_t *rule, ims_str_t text,
    const char **err)
{
    size_t     n;
    uint8_t    plain[IMS_ORIGIN_HOST_MAX + 64];
    ims_str_t  rest, scheme;

    rule->subdomains = false;
    rest = text;

    if (!ims_origin_scheme(&rest, &scheme)) {
        *err = "an origin is scheme://host[:port]";
        return -1;
    }

    if (rest.n > 2 && rest.p[0] == '*' && rest.p[1] == '.') {
        rule->subdomains = true;
        n = (size_t) (rest.p - text.p);

        if (text.n - 2 > sizeof(plain)) {
            *err = "too long";
            return -1;
        }

        /* parsed without the wildcard, then moved onto the caller's text */

        memcpy(plain, text.p, n);
        memcpy(plain + n, rest.p + 2, rest.n - 2);

        if (!ims_origin_parse(&rule->origin,
                              ims_str_set(plain, text.n - 2)))
        {
            *err = "not a host and port behind \"*.\"";
            return -1;
        }

        rule->origin.scheme = scheme;
        rule->origin.host.p = rest.p + 2;

        if (!ims_origin_wild_ok(rule->origin.host)) {
            *err = "\"*.\" needs a domain of two labels or more behind it";
            return -1;
        }

        return 0;
    }

    if (!ims_origin_parse(&rule->origin, text)) {
        *err = "an origin is scheme://host[:port], without path or "
               "trailing slash";
        return -1;
    }

    return 0;
}


bool
ims_origin_match(const ims_origin_rule_t *rules, size_t n, ims_str_t origin)
{
    size_t                    i;
    ims_origin_t              o;
    const ims_origin_rule_t  *r;

    if (!ims_origin_parse(&o, origin)) {
        return false;
    }

    for (i = 0; i < n; i++) {
        r = &rules[i];

        if (!r->subdomains) {
            if (ims_origin_equal(&r->origin, &o)) {
                return true;
            }

            continue;
        }

        if (r->origin.port == o.port
            && ims_str_caseeq(r->origin.scheme, o.scheme)
            && ims_origin_below(o.host, r->origin.host))
        {
            return true;
        }
    }

    return false;
}
