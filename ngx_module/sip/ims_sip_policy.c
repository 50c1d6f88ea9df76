/*
 * Copyright (C) nginx-ims contributors
 *
 * The header table.
 */

#include "sip/ims_sip_policy.h"
#include "sip/ims_sip_chars.h"
#include "sip/ims_sip_escape.h"


/* walks over the parameters of a text; see ims_sip_policy_next_cut() */
typedef struct {
    const uint8_t  *p;
    const uint8_t  *end;
    bool            at;            /* '@' of this URI is behind us */
    bool            bracket;       /* inside of '<' and '>' */
    bool            open;          /* a quote that nothing closes was met */
    bool            empty;         /* nothing is left of the user yet */
} ims_sip_cuts_t;


static bool ims_sip_policy_registered(const ims_sip_msg_t *m);
static bool ims_sip_policy_auth(const ims_sip_msg_t *m, ims_str_t value);
static bool ims_sip_policy_has_bearer(ims_str_t value);
static bool ims_sip_policy_private(const ims_sip_msg_t *m);
static bool ims_sip_policy_contains(ims_str_t s, const char *lower);
static void ims_sip_policy_uris(ims_sip_edit_t *ed);
static bool ims_sip_policy_any_cut(ims_str_t s);
static bool ims_sip_policy_next_cut(ims_sip_cuts_t *it, ims_str_t *cut);
static const uint8_t *ims_sip_policy_cut_end(ims_sip_cuts_t *it,
    const uint8_t *q);
static const uint8_t *ims_sip_policy_quoted_end(const uint8_t *p,
    const uint8_t *end);
static bool ims_sip_policy_trusted(const uint8_t *p, const uint8_t *end);
static void ims_sip_policy_ruri(ims_sip_edit_t *ed);


#define K           IMS_SIP_KEEP
#define S           IMS_SIP_STRIP
#define I           IMS_SIP_INSERT
#define ONE         IMS_SIP_IF_SINGLE
#define AUTH        IMS_SIP_IF_AUTH
#define ACCESS      IMS_SIP_IF_ACCESS
#define PRIVACY     IMS_SIP_IF_PRIVACY
#define REGISTERED  IMS_SIP_IF_REGISTERED

#define ROW(id, a, b, c, d)  [IMS_SIP_H_##id] = { a, b, c, d }

static const uint8_t  ims_sip_policy_table[IMS_SIP_H_COUNT][IMS_SIP_DIRS] = {

    /*               from the WIC      to the WIC
                     request response  request  response */

    /* routing: the edge's word, never the client's */

    ROW(VIA,                 ONE, K,   K, K),
    ROW(ROUTE,               I, S,     K, K),
    ROW(RECORD_ROUTE,        I, K,     K, K),
    ROW(PATH,                I, S,     S, S),
    ROW(SERVICE_ROUTE,       S, S,     S, REGISTERED),

    /* credentials: TS 33.203 P.3, RFC 8898 */

    ROW(AUTHORIZATION,       AUTH, S,  AUTH, S),
    ROW(PROXY_AUTHORIZATION, AUTH, S,  AUTH, S),
    ROW(SECURITY_CLIENT,     S, S,     K, K),
    ROW(SECURITY_SERVER,     S, S,     K, K),
    ROW(SECURITY_VERIFY,     S, S,     K, K),
    ROW(TURN_CRED,           S, S,     S, S),

    /* who it is: RFC 3325, 4244, 5806, 7044; TS 24.229 4.4 */

    ROW(P_ASSERTED_IDENTITY,          I, I,  PRIVACY, PRIVACY),
    ROW(P_PREFERRED_IDENTITY,         S, S,  S, S),
    ROW(REMOTE_PARTY_ID,              S, S,  PRIVACY, PRIVACY),
    ROW(P_ASSERTED_SERVICE,           S, S,  K, K),
    ROW(P_ASSOCIATED_URI,             S, S,  K, K),
    ROW(P_CALLED_PARTY_ID,            S, S,  K, K),
    ROW(P_SERVED_USER,                S, S,  S, S),
    ROW(P_PROFILE_KEY,                S, S,  S, S),
    ROW(P_PRIVATE_NETWORK_INDICATION, S, S,  K, K),
    ROW(P_USER_DATABASE,              S, S,  S, S),
    ROW(ADDITIONAL_IDENTITY,          S, S,  K, K),
    ROW(ATTESTATION_INFO,             S, S,  S, S),
    ROW(ORIGINATION_ID,               S, S,  S, S),
    ROW(HISTORY_INFO,                 S, S,  K, K),
    ROW(DIVERSION,                    S, S,  K, K),

    /* where it is, and who pays: RFC 7315, 5503, 8496 */

    ROW(P_VISITED_NETWORK_ID,          I, S,  S, S),
    ROW(P_ACCESS_NETWORK_INFO,         ACCESS, ACCESS,  S, S),
    ROW(CELLULAR_NETWORK_INFO,         S, S,  S, S),
    ROW(P_CHARGING_VECTOR,             I, I,  S, S),
    ROW(P_CHARGING_FUNCTION_ADDRESSES, S, S,  S, S),
    ROW(P_CHARGE_INFO,                 S, S,  S, S),
    ROW(RELAYED_CHARGE,                S, S,  S, S),
    ROW(P_MEDIA_AUTHORIZATION,         S, S,  K, K),
    ROW(P_DCS_TRACE_PARTY_ID,          S, S,  S, S),
    ROW(P_DCS_OSPS,                    S, S,  S, S),
    ROW(P_DCS_BILLING_INFO,            S, S,  S, S),
    ROW(P_DCS_LAES,                    S, S,  S, S),
    ROW(P_DCS_REDIRECT,                S, S,  S, S),

    /* how it is treated: TS 24.229 4.4, 7.2 */

    ROW(RESOURCE_PRIORITY,     S, S,  K, K),
    ROW(PRIORITY_SHARE,        S, S,  S, S),
    ROW(PRIORITY_VERSTAT,      S, S,  K, K),
    ROW(FEATURE_CAPS,          S, S,  K, K),
    ROW(RESTORATION_INFO,      S, S,  S, S),
    ROW(SERVICE_INTERACT_INFO, S, S,  S, S),
    ROW(RESPONSE_SOURCE,       S, S,  K, K),
    ROW(REASON,                K, S,  K, K)
};

#undef K
#undef S
#undef I
#undef ONE
#undef AUTH
#undef ACCESS
#undef PRIVACY
#undef REGISTERED
#undef ROW


/* where a WIC can name a number with parameters of the trust domain */
static const uint8_t  ims_sip_policy_uri_headers[] = {
    IMS_SIP_H_FROM, IMS_SIP_H_TO, IMS_SIP_H_CONTACT, IMS_SIP_H_REFER_TO,
    IMS_SIP_H_REFERRED_BY, IMS_SIP_H_REPLY_TO
};

static const char *const  ims_sip_policy_uri_params[] = {
    "cpc", "oli", "iotl", "verstat"
};


ims_sip_policy_e
ims_sip_policy_entry(ims_sip_dir_e dir, unsigned id)
{
    if (dir >= IMS_SIP_DIRS || id >= IMS_SIP_H_COUNT) {
        return IMS_SIP_KEEP;
    }

    return (ims_sip_policy_e) ims_sip_policy_table[id][dir];
}


ims_sip_policy_e
ims_sip_policy(ims_sip_dir_e dir, const ims_sip_msg_t *m, unsigned hdr)
{
    unsigned          id;
    ims_str_t         v;
    ims_sip_policy_e  entry;

    id = m->hdr[hdr].id;
    entry = ims_sip_policy_entry(dir, id);

    switch (entry) {

    case IMS_SIP_IF_AUTH:
        return ims_sip_policy_auth(m, m->hdr[hdr].value) ? IMS_SIP_STRIP
                                                         : IMS_SIP_KEEP;

    case IMS_SIP_IF_ACCESS:

        if (m->method_id == IMS_SIP_M_REGISTER) {
            return IMS_SIP_INSERT;
        }

        return ims_sip_policy_contains(m->hdr[hdr].value, "network-provided")
               ? IMS_SIP_STRIP : IMS_SIP_KEEP;

    case IMS_SIP_IF_PRIVACY:
        return ims_sip_policy_private(m) ? IMS_SIP_STRIP : IMS_SIP_KEEP;

    case IMS_SIP_IF_REGISTERED:
        return ims_sip_policy_registered(m) ? IMS_SIP_KEEP : IMS_SIP_STRIP;

    case IMS_SIP_IF_SINGLE:
        return ims_sip_value_first(m, id, &v) == 1 ? IMS_SIP_KEEP
                                                   : IMS_SIP_REFUSE;

    default:
        return entry;
    }
}


static bool
ims_sip_policy_registered(const ims_sip_msg_t *m)
{
    return !m->request && m->method_id == IMS_SIP_M_REGISTER
           && m->status >= 200 && m->status < 300;
}


/*
 * True if credentials are not to pass.  Looked for anywhere in the text: what
 * is hidden by broken quotes is not to reach a parser that reads it another
 * way, and a Digest that mentions such a name is no loss.
 */

static bool
ims_sip_policy_auth(const ims_sip_msg_t *m, ims_str_t value)
{
    return m->method_id == IMS_SIP_M_REGISTER
           || ims_sip_policy_contains(value, "integrity-protected")
           || ims_sip_policy_contains(value, "authorization-entity")
           || ims_sip_policy_contains(value, "access_token")
           || ims_sip_policy_has_bearer(value);
}


/* "Bearer" as the scheme, also behind a comma (joined lines) */

static bool
ims_sip_policy_has_bearer(ims_str_t value)
{
    const uint8_t  *p, *q, *end;

    end = value.p + value.n;

    for (p = value.p; p < end; p = q + 1) {
        p = ims_ch_skip_ws(p, end);
        q = ims_ch_skip(p, end, IMS_CH_TOKEN);

        if ((q == end || *q != '=')
            && ims_str_caseeq(ims_str_range(p, q), IMS_STR("bearer")))
        {
            return true;
        }

        while (q < end && *q != ',') {
            q++;
        }
    }

    return false;
}


/* priv-value "id" (RFC 3325 9.3) */

static bool
ims_sip_policy_private(const ims_sip_msg_t *m)
{
    uint16_t        i;
    const uint8_t  *p, *q, *end;

    for (i = m->first[IMS_SIP_H_PRIVACY]; i != IMS_SIP_NONE;
         i = m->hdr[i].next)
    {
        p = m->hdr[i].value.p;
        end = p + m->hdr[i].value.n;

        while (p < end) {
            q = ims_ch_skip(p, end, IMS_CH_TOKEN);

            if (ims_str_caseeq(ims_str_range(p, q), IMS_STR("id"))) {
                return true;
            }

            p = q + 1;
        }
    }

    return false;
}


/* Is the text in s, in any case? */

static bool
ims_sip_policy_contains(ims_str_t s, const char *lower)
{
    size_t  i, j, n;

    n = strlen(lower);

    for (i = 0; i + n <= s.n; i++) {

        for (j = 0; j < n; j++) {
            if (ims_lower(s.p[i + j]) != (uint8_t) lower[j]) {
                break;
            }
        }

        if (j == n) {
            return true;
        }
    }

    return false;
}


int
ims_sip_policy_apply(ims_sip_edit_t *ed, ims_sip_dir_e dir,
    const char **reason)
{
    unsigned              i;
    const ims_sip_msg_t  *m;

    m = ed->m;

    for (i = 0; i < m->nhdr; i++) {

        if (m->hdr[i].id == IMS_SIP_H_OTHER) {
            continue;
        }

        switch (ims_sip_policy(dir, m, i)) {

        case IMS_SIP_STRIP:
        case IMS_SIP_INSERT:
            ims_sip_edit_drop(ed, i);
            break;

        case IMS_SIP_REFUSE:
            *reason = "More than one Via";
            return -1;

        default:
            break;
        }
    }

    if (dir == IMS_SIP_WIC_REQUEST || dir == IMS_SIP_WIC_RESPONSE) {
        ims_sip_policy_uris(ed);
    }

    return 0;
}


static void
ims_sip_policy_uris(ims_sip_edit_t *ed)
{
    size_t          k;
    uint16_t        i;
    ims_str_t       v, cut;
    ims_sip_cuts_t  it;

    for (k = 0; k < sizeof(ims_sip_policy_uri_headers); k++) {

        for (i = ed->m->first[ims_sip_policy_uri_headers[k]];
             i != IMS_SIP_NONE;
             i = ed->m->hdr[i].next)
        {
            v = ed->m->hdr[i].value;

            if (!ims_sip_policy_any_cut(v)) {
                continue;
            }

            it = (ims_sip_cuts_t) { .p = v.p, .end = v.p + v.n };

            while (ed->error == NULL && ims_sip_policy_next_cut(&it, &cut)) {
                ims_sip_edit_splice(ed, cut, IMS_STR(""));
            }
        }
    }

    if (ed->m->request && ims_sip_policy_any_cut(ed->m->uri)) {
        ims_sip_policy_ruri(ed);
    }
}


/* Nearly every text has none: found out without a look at each byte. */

static bool
ims_sip_policy_any_cut(ims_str_t s)
{
    const uint8_t  *p, *end;

    end = s.p + s.n;

    for (p = s.p; p < end; p++) {
        p = memchr(p, ';', (size_t) (end - p));

        if (p == NULL) {
            return false;
        }

        if (ims_sip_policy_trusted(ims_ch_skip_ws(p + 1, end), end)) {
            return true;
        }
    }

    return false;
}


/*
 * The next ";cpc=..." in a text, URI or header parameter, with its value, but
 * not in a quoted string.  Does not rely on the text being well formed; what
 * was well formed still is without it.
 */

static bool
ims_sip_policy_next_cut(ims_sip_cuts_t *it, ims_str_t *cut)
{
    const uint8_t  *p, *q;

    for (p = it->p; p < it->end; p++) {

        switch (*p) {

        case '"':
            q = it->open ? NULL : ims_sip_policy_quoted_end(p, it->end);
            it->open = q == NULL;
            p = it->open ? p : q;
            break;

        case '<':
        case '>':
            it->bracket = *p == '<';
            it->at = false;
            break;

        case '@':
            it->at = true;
            break;

        case ';':
            q = ims_ch_skip_ws(p + 1, it->end);

            if (!ims_sip_policy_trusted(q, it->end)) {
                break;
            }

            q = ims_sip_policy_cut_end(it, q);

            /* a user that is all parameters goes with its '@' */

            it->empty = it->p == p ? it->empty : p[-1] == ':';

            if (it->empty && q < it->end && *q == '@') {
                it->at = true;
                q++;
            }

            *cut = ims_str_range(p, q);
            it->p = q;

            return true;
        }
    }

    return false;
}


/*
 * Where the parameter at q ends.  In brackets it may be one of the user part;
 * without them it is the header's, and '@' or '?' may be in its value.
 */

static const uint8_t *
ims_sip_policy_cut_end(ims_sip_cuts_t *it, const uint8_t *q)
{
    const uint8_t  *s;

    for ( /* void */ ; q < it->end && *q != ';' && *q != '>'; q++) {

        if (it->bracket ? *q == '?' || (*q == '@' && !it->at) : *q == ',') {
            break;
        }

        if (*q == '"') {
            s = ims_sip_policy_quoted_end(q, it->end);

            if (s == NULL) {
                break;
            }

            q = s;
        }
    }

    return q;
}


/* The closing quote of the string that begins at p, NULL if it has none. */

static const uint8_t *
ims_sip_policy_quoted_end(const uint8_t *p, const uint8_t *end)
{
    for (p++; p < end && *p != '"'; p++) {
        if (*p == '\\') {
            p++;
        }
    }

    return p < end ? p : NULL;
}


/* Is the name at p, escapes resolved, one that only the core may set? */

static bool
ims_sip_policy_trusted(const uint8_t *p, const uint8_t *end)
{
    int             c;
    size_t          i;
    const char     *z;
    const uint8_t  *q;

    for (i = 0; i < sizeof(ims_sip_policy_uri_params) / sizeof(char *); i++) {
        q = p;

        for (z = ims_sip_policy_uri_params[i]; *z && q < end; z++) {
            c = ims_sip_unescape(q, end);
            q += c < 0 ? 1 : 3;
            c = c < 0 ? q[-1] : c;

            if (ims_lower((uint8_t) c) != (uint8_t) *z) {
                break;
            }
        }

        /* a longer name is another one; '%' may go on with anything */

        if (*z == '\0' && (q == end || *q == '%'
                           || !ims_ch(*q, IMS_CH_TOKEN)))
        {
            return true;
        }
    }

    return false;
}


static void
ims_sip_policy_ruri(ims_sip_edit_t *ed)
{
    ims_str_t        cut, piece;
    const uint8_t   *from, *text;
    ims_sip_cuts_t   it;

    from = ed->m->uri.p;
    text = NULL;

    it = (ims_sip_cuts_t) { .p = from, .end = from + ed->m->uri.n,
                            .bracket = true };

    /* pieces put into the arena one after the other are one text */

    while (ims_sip_policy_next_cut(&it, &cut)) {
        piece = ims_str_range(from, cut.p);
        piece = ims_sip_edit_cat(ed, &piece, 1);

        text = text != NULL ? text : piece.p;
        from = it.p;
    }

    if (text == NULL) {
        return;
    }

    piece = ims_str_range(from, it.end);
    piece = ims_sip_edit_cat(ed, &piece, 1);

    if (ed->error == NULL) {
        ims_sip_edit_ruri(ed, ims_str_range(text, piece.p + piece.n));
    }
}
