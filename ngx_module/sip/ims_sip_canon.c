/*
 * Copyright (C) nginx-ims contributors
 *
 * Canonical and folded forms of URIs; what may be an identity.
 */

#include "sip/ims_sip_uri.h"
#include "sip/ims_sip_chars.h"
#include "sip/ims_sip_escape.h"
#include "sip/ims_sip_out.h"

#include <arpa/inet.h>


/* longer ones are no identities: bounds the buffers here */
#define IMS_SIP_CANON_MAX  1024


static void ims_sip_put_escaped(ims_out_t *o, ims_str_t s, bool lower);
static void ims_sip_put_lower(ims_out_t *o, ims_str_t s);
static void ims_sip_put_host(ims_out_t *o, ims_str_t host);
static void ims_sip_put_number(ims_out_t *o, ims_str_t number);
static bool ims_sip_put_params(ims_out_t *o, const ims_sip_uri_t *u,
    const char *const *names, unsigned n);
static void ims_sip_put_urn(ims_out_t *o, const ims_sip_uri_t *u);
static bool ims_sip_user_unescaped(ims_out_t *o, ims_str_t user);
static bool ims_sip_global_number(ims_str_t s);
static bool ims_sip_local_number(ims_str_t s);
static void ims_sip_fold_context(ims_out_t *o, ims_str_t context);
static bool ims_sip_fold_tel(ims_out_t *o, const ims_sip_uri_t *u);
static bool ims_sip_fold_sip(ims_out_t *o, const ims_sip_uri_t *u);
static bool ims_sip_is_phone(const ims_sip_uri_t *u);


/* sorted, as they are written */
static const char *const  ims_sip_kept_sip[] = {
    "gr", "maddr", "method", "ttl", "user"
};

static const char *const  ims_sip_kept_tel[] = {
    "ext", "isub", "phone-context"
};


ptrdiff_t
ims_sip_uri_canon(uint8_t *dst, size_t cap, const ims_sip_uri_t *u)
{
    bool       ok, tls;
    ims_out_t  out, *o;

    if (u->whole.n > IMS_SIP_CANON_MAX || u->headers.p != NULL) {
        return -1;
    }

    out = ims_out_set(dst, cap);
    o = &out;
    ok = true;

    ims_sip_put_lower(o, u->scheme_name);
    ims_out_c(o, ':');

    switch (u->scheme) {

    case IMS_SIP_URI_SIP:
    case IMS_SIP_URI_SIPS:

        if (u->user.p != NULL) {
            ims_sip_put_escaped(o, u->user, false);

            if (u->password.p != NULL) {
                ims_out_c(o, ':');
                ims_sip_put_escaped(o, u->password, false);
            }

            ims_out_c(o, '@');
        }

        ims_sip_put_host(o, u->host);

        tls = u->scheme == IMS_SIP_URI_SIPS;

        if (u->port != 0 && u->port != (tls ? 5061 : 5060)) {
            ims_out_c(o, ':');
            ims_out_u64(o, u->port);
        }

        ok = ims_sip_put_params(o, u, ims_sip_kept_sip, 5);
        break;

    case IMS_SIP_URI_TEL:
        ims_sip_put_number(o, u->user);
        ok = ims_sip_put_params(o, u, ims_sip_kept_tel, 3);
        break;

    case IMS_SIP_URI_URN:
        ims_sip_put_urn(o, u);
        break;

    default:
        ims_out_str(o, u->opaque);
    }

    if (!ok || o->over || o->n > IMS_SIP_CANON_MAX) {
        return -1;
    }

    return (ptrdiff_t) o->n;
}


/*
 * Unreserved characters unescaped, the hex digits of other escapes in upper
 * case; what is written here is read back as the same.
 */

static void
ims_sip_put_escaped(ims_out_t *o, ims_str_t s, bool lower)
{
    int             c;
    const uint8_t  *p, *end;

    static const char  hex[] = "0123456789ABCDEF";

    end = s.p + s.n;

    for (p = s.p; p < end; p++) {

        if (*p != '%') {
            ims_out_c(o, lower ? ims_lower(*p) : *p);
            continue;
        }

        c = ims_sip_unescape(p, end);

        if (c < 0) {
            /* never from a parsed URI */
            o->over = true;
            return;
        }

        if (ims_ch((uint8_t) c, IMS_CH_UNRES)) {
            ims_out_c(o, lower ? ims_lower((uint8_t) c) : (uint8_t) c);

        } else {
            ims_out_c(o, '%');
            ims_out_c(o, (uint8_t) hex[c >> 4]);
            ims_out_c(o, (uint8_t) hex[c & 15]);
        }

        p += 2;
    }
}


static void
ims_sip_put_lower(ims_out_t *o, ims_str_t s)
{
    size_t  i;

    for (i = 0; i < s.n; i++) {
        ims_out_c(o, ims_lower(s.p[i]));
    }
}


static void
ims_sip_put_host(ims_out_t *o, ims_str_t host)
{
    char     text[INET6_ADDRSTRLEN];
    uint8_t  addr[16];

    if (host.n < 2 || host.p[0] != '[') {
        ims_sip_put_lower(o, host);
        return;
    }

    if (host.n - 2 >= sizeof(text)) {
        o->over = true;
        return;
    }

    memcpy(text, host.p + 1, host.n - 2);
    text[host.n - 2] = '\0';

    if (inet_pton(AF_INET6, text, addr) != 1
        || inet_ntop(AF_INET6, addr, text, sizeof(text)) == NULL)
    {
        o->over = true;
        return;
    }

    ims_out_c(o, '[');
    ims_out_z(o, text);
    ims_out_c(o, ']');
}


static void
ims_sip_put_number(ims_out_t *o, ims_str_t number)
{
    size_t  i;

    for (i = 0; i < number.n; i++) {
        if (!ims_sip_tel_separator(number.p[i])) {
            ims_out_c(o, ims_lower(number.p[i]));
        }
    }
}


static bool
ims_sip_put_params(ims_out_t *o, const ims_sip_uri_t *u,
    const char *const *names, unsigned n)
{
    uint8_t    text[IMS_SIP_CANON_MAX];
    unsigned   i, found;
    ims_str_t  v;
    ims_out_t  value;

    for (i = 0; i < n; i++) {
        found = ims_sip_uri_param(u, names[i], &v);

        if (found == 0) {
            continue;
        }

        if (found > 1) {
            return false;
        }

        ims_out_c(o, ';');
        ims_out_z(o, names[i]);

        if (v.p == NULL) {
            continue;
        }

        ims_out_c(o, '=');

        /* escapes first: a separator may have been one */

        value = ims_out_set(text, sizeof(text));
        ims_sip_put_escaped(&value, v, true);
        v = ims_str_set(text, value.n);

        if (u->scheme == IMS_SIP_URI_TEL
            && (ims_sip_global_number(v) || ims_sip_local_number(v)))
        {
            ims_sip_put_number(o, v);

        } else {
            ims_out_str(o, v);
        }

        o->over |= value.over;
    }

    return true;
}


/* "urn:" NID ":" NSS: the NID has no case (RFC 8141 3.1) */

static void
ims_sip_put_urn(ims_out_t *o, const ims_sip_uri_t *u)
{
    size_t          nid;
    const uint8_t  *colon;

    colon = memchr(u->opaque.p, ':', u->opaque.n);
    nid = colon != NULL ? (size_t) (colon - u->opaque.p) : 0;

    ims_sip_put_lower(o, ims_str_set(u->opaque.p, nid));
    ims_out_put(o, u->opaque.p + nid, u->opaque.n - nid);
}


/* "+", digits and separators, a digit among them */

static bool
ims_sip_global_number(ims_str_t s)
{
    size_t  i;
    bool    digit;

    if (s.n < 2 || s.p[0] != '+') {
        return false;
    }

    digit = false;

    for (i = 1; i < s.n; i++) {

        if (ims_ch(s.p[i], IMS_CH_DIGIT)) {
            digit = true;

        } else if (!ims_sip_tel_separator(s.p[i])) {
            return false;
        }
    }

    return digit;
}


static bool
ims_sip_local_number(ims_str_t s)
{
    size_t  i;
    bool    digit;

    digit = false;

    for (i = 0; i < s.n; i++) {

        if (s.p[i] == '+' || !ims_ch(s.p[i], IMS_CH_TEL)) {
            return false;
        }

        digit = digit || !ims_sip_tel_separator(s.p[i]);
    }

    return digit;
}


ptrdiff_t
ims_sip_uri_fold(uint8_t *dst, size_t cap, const ims_sip_uri_t *u)
{
    bool           ok;
    uint8_t        text[IMS_SIP_CANON_MAX];
    ptrdiff_t      n;
    ims_out_t      out;
    ims_sip_uri_t  c;

    /*
     * made from the canonical form, so that what is the same by that is the
     * same here, and what has none has no folded form
     */

    n = ims_sip_uri_canon(text, sizeof(text), u);

    if (n < 0 || !ims_sip_uri_parse(ims_str_set(text, (size_t) n), &c)) {
        return -1;
    }

    out = ims_out_set(dst, cap);

    switch (c.scheme) {

    case IMS_SIP_URI_SIP:
    case IMS_SIP_URI_SIPS:
        ok = ims_sip_fold_sip(&out, &c);
        break;

    case IMS_SIP_URI_TEL:
        ok = ims_sip_fold_tel(&out, &c);
        break;

    default:
        ims_sip_put_lower(&out, c.whole);
        ok = true;
    }

    return ok && !out.over ? (ptrdiff_t) out.n : -1;
}


/* A domain, or a global number prefix without its separators. */

static void
ims_sip_fold_context(ims_out_t *o, ims_str_t context)
{
    if (ims_sip_global_number(context)) {
        ims_sip_put_number(o, context);
        return;
    }

    if (context.n > 1 && context.p[context.n - 1] == '.') {
        context.n--;
    }

    ims_sip_put_host(o, context);
}


static bool
ims_sip_fold_tel(ims_out_t *o, const ims_sip_uri_t *u)
{
    ims_str_t  context;

    if (ims_sip_global_number(u->user)) {
        ims_out_z(o, "tel:");
        ims_sip_put_number(o, u->user);
        return true;
    }

    ims_out_z(o, "sip:");
    ims_sip_put_number(o, u->user);
    ims_out_c(o, '@');

    context = IMS_STR_NULL;

    (void) ims_sip_uri_param(u, "phone-context", &context);

    ims_sip_fold_context(o, context);

    return true;
}


static bool
ims_sip_fold_sip(ims_out_t *o, const ims_sip_uri_t *u)
{
    uint8_t         text[IMS_SIP_CANON_MAX];
    ims_str_t       number, context;
    ims_out_t       user;
    ims_sip_uri_t   tel;
    const uint8_t  *semi;

    user = ims_out_set(text, sizeof(text));

    if (!ims_sip_user_unescaped(&user, u->user)) {
        return false;
    }

    /* a telephone-subscriber as user: "+1-201;ext=5" */

    number = ims_str_set(text, user.n);
    semi = memchr(text, ';', user.n);

    memset(&tel, 0, sizeof(tel));

    if (semi != NULL) {
        number.n = (size_t) (semi - text);
        tel.params = ims_str_range(semi, text + user.n);
    }

    if (ims_sip_global_number(number)) {
        ims_out_z(o, "tel:");
        ims_sip_put_number(o, number);
        return true;
    }

    ims_out_z(o, "sip:");

    if (ims_sip_is_phone(u) && ims_sip_local_number(number)) {
        context = u->host;

        (void) ims_sip_uri_param(&tel, "phone-context", &context);

        ims_sip_put_number(o, number);
        ims_out_c(o, '@');
        ims_sip_fold_context(o, context);

        return true;
    }

    if (u->user.p != NULL) {
        ims_sip_put_lower(o, ims_str_set(text, user.n));
        ims_out_c(o, '@');
    }

    ims_sip_fold_context(o, u->host);

    return true;
}


/* All escapes out but those of '%' and '@', which would read as others. */

static bool
ims_sip_user_unescaped(ims_out_t *o, ims_str_t user)
{
    int             c;
    const uint8_t  *p, *end;

    if (user.n == 0) {
        return true;
    }

    end = user.p + user.n;

    for (p = user.p; p < end; p++) {
        c = *p == '%' ? ims_sip_unescape(p, end) : *p;

        if (c < 0) {
            return false;
        }

        if (*p == '%' && (c == '%' || c == '@')) {
            ims_out_put(o, p, 3);

        } else {
            ims_out_c(o, (uint8_t) c);
        }

        p += *p == '%' ? 2 : 0;
    }

    return !o->over;
}


static bool
ims_sip_is_phone(const ims_sip_uri_t *u)
{
    ims_str_t  v;

    return ims_sip_uri_param(u, "user", &v) == 1
           && ims_str_caseeq(v, IMS_STR("phone"));
}


ptrdiff_t
ims_sip_canon(uint8_t *dst, size_t cap, ims_str_t uri)
{
    ims_sip_uri_t  u;

    return ims_sip_uri_parse(uri, &u) ? ims_sip_uri_canon(dst, cap, &u) : -1;
}


ptrdiff_t
ims_sip_fold(uint8_t *dst, size_t cap, ims_str_t uri)
{
    ims_sip_uri_t  u;

    return ims_sip_uri_parse(uri, &u) ? ims_sip_uri_fold(dst, cap, &u) : -1;
}


bool
ims_sip_uri_same(ims_str_t a, ims_str_t b)
{
    uint8_t    ca[IMS_SIP_CANON_MAX], cb[IMS_SIP_CANON_MAX];
    ptrdiff_t  na, nb;

    na = ims_sip_canon(ca, sizeof(ca), a);
    nb = ims_sip_canon(cb, sizeof(cb), b);

    return na >= 0 && na == nb && memcmp(ca, cb, (size_t) na) == 0;
}


bool
ims_sip_identity_ok(ims_str_t uri)
{
    int             c;
    uint8_t         dst[IMS_SIP_IDENTITY_MAX];
    ims_sip_uri_t   u;
    const uint8_t  *p, *end;

    if (uri.n > IMS_SIP_IDENTITY_MAX || !ims_sip_uri_parse(uri, &u)) {
        return false;
    }

    if (u.scheme != IMS_SIP_URI_TEL
        && ((u.scheme != IMS_SIP_URI_SIP && u.scheme != IMS_SIP_URI_SIPS)
            || u.user.p == NULL || u.password.p != NULL))
    {
        return false;
    }

    end = uri.p + uri.n;

    for (p = uri.p; p < end; p++) {
        c = *p == '%' ? ims_sip_unescape(p, end) : *p;

        /*
         * a comma may stand in a user part, but not where the identity is
         * written without angle brackets
         */

        if (c <= 0x20 || c == 0x7f || c == '"' || c == '<' || c == '>'
            || c == '\\' || c == '%' || *p == ',')
        {
            return false;
        }
    }

    return ims_sip_uri_canon(dst, sizeof(dst), &u) >= 0
           && ims_sip_uri_fold(dst, sizeof(dst), &u) >= 0;
}


bool
ims_sip_impi_ok(ims_str_t impi)
{
    ims_str_t       user, host;
    const uint8_t  *at, *p;

    if (impi.n == 0 || impi.n > IMS_SIP_IDENTITY_MAX) {
        return false;
    }

    at = memchr(impi.p, '@', impi.n);

    if (at == NULL) {
        return false;
    }

    user = ims_str_range(impi.p, at);
    host = ims_str_range(at + 1, impi.p + impi.n);

    /* RFC 4282 2.1 dot-string, near enough; an escape's '%' is a token's */

    for (p = user.p; p < at; p++) {
        if (!ims_ch(*p, IMS_CH_TOKEN) && strchr("#$&/=?^{|}", *p) == NULL) {
            return false;
        }

        if (*p == '\0') {
            return false;
        }
    }

    return user.n != 0 && ims_ch_all(host, IMS_CH_HOST);
}
