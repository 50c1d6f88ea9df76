/*
 * Copyright (C) nginx-ims contributors
 *
 * The message parser: one pass over the lines, then the few headers without
 * which there is no answer.
 *
 * The first fault is kept; after it the pass goes on from the next line, so
 * that a request with one bad line can still be answered by name.
 */

#include "sip/ims_sip.h"
#include "sip/ims_sip_chars.h"


typedef struct {
    ims_sip_msg_t  *m;
    ims_sip_err_t  *err;
    uint8_t        *buf;
    uint8_t        *end;
    bool            failed;
} ims_sip_parser_t;


static const uint8_t *ims_sip_scan(const uint8_t *p, const uint8_t *end);
static uint8_t *ims_sip_scan_quoted(uint8_t *p, uint8_t *end);
static void ims_sip_fail(ims_sip_parser_t *pr, const uint8_t *at,
    unsigned status, const char *reason);
static uint8_t *ims_sip_next_line(uint8_t *p, uint8_t *end);
static uint8_t *ims_sip_start_line(ims_sip_parser_t *pr);
static void ims_sip_request_line(ims_sip_parser_t *pr, ims_str_t line);
static void ims_sip_status_line(ims_sip_parser_t *pr, ims_str_t line);
static uint8_t *ims_sip_headers(ims_sip_parser_t *pr, uint8_t *p);
static uint8_t *ims_sip_header(ims_sip_parser_t *pr, uint8_t *line);
static uint8_t *ims_sip_header_end(ims_sip_parser_t *pr, uint8_t *p);
static void ims_sip_add(ims_sip_parser_t *pr, const uint8_t *line, size_t nlen,
    const uint8_t *eol);
static void ims_sip_body(ims_sip_parser_t *pr, const uint8_t *p,
    unsigned flags);
static void ims_sip_check(ims_sip_parser_t *pr);
static void ims_sip_check_via(ims_sip_parser_t *pr);
static void ims_sip_check_addr(ims_sip_parser_t *pr, unsigned id,
    ims_sip_addr_t *a, ims_str_t *tag, const char *reason);
static void ims_sip_check_call_id(ims_sip_parser_t *pr);
static void ims_sip_check_cseq(ims_sip_parser_t *pr);
static bool ims_sip_answerable(const ims_sip_msg_t *m);


#define IMS_SIP_VERSION  "SIP/2.0"


static const struct {
    unsigned     id;
    const char  *missing;
} ims_sip_mandatory[] = {
    { IMS_SIP_H_VIA, "Missing Via header" },
    { IMS_SIP_H_FROM, "Missing From header" },
    { IMS_SIP_H_TO, "Missing To header" },
    { IMS_SIP_H_CALL_ID, "Missing Call-ID header" },
    { IMS_SIP_H_CSEQ, "Missing CSeq header" }
};

#define IMS_SIP_NMANDATORY                                                    \
    (sizeof(ims_sip_mandatory) / sizeof(ims_sip_mandatory[0]))


int
ims_sip_parse(ims_sip_msg_t *m, uint8_t *buf, size_t n, unsigned flags,
    ims_sip_err_t *err)
{
    uint8_t           *p;
    ims_sip_parser_t   pr;

    /* all but hdr[], of which only the first nhdr are ever read */
    memset(m, 0, offsetof(ims_sip_msg_t, hdr));
    memset(m->first, 0xff, sizeof(m->first));
    memset(m->count, 0, sizeof(m->count));

    m->raw = ims_str_set(buf, n);
    m->max_forwards = -1;

    memset(err, 0, sizeof(ims_sip_err_t));

    pr.m = m;
    pr.err = err;
    pr.buf = buf;
    pr.end = buf + n;
    pr.failed = false;

    p = ims_sip_start_line(&pr);

    if (p != NULL) {
        p = ims_sip_headers(&pr, p);
    }

    if (p != NULL) {
        ims_sip_body(&pr, p, flags);
    }

    if (!pr.failed) {
        ims_sip_check(&pr);
    }

    if (!pr.failed) {
        return 0;
    }

    err->answerable = ims_sip_answerable(m);

    return -1;
}


/*
 * The first control character from p on (HTAB and DEL included): eight bytes
 * a step, since most of a message is passed here and nowhere else.
 */

static const uint8_t *
ims_sip_scan(const uint8_t *p, const uint8_t *end)
{
    uint64_t  w, x, hit;

    const uint64_t  ones = 0x0101010101010101ULL;

    while (end - p >= 8) {
        memcpy(&w, p, 8);

        /* the lowest bit set is right: a byte below 0x20, or 0x7f */

        x = w ^ (ones * 0x7f);
        hit = ((w - ones * 0x20) & ~w) | ((x - ones) & ~x);

        if (hit & (ones * 0x80)) {
            break;
        }

        p += 8;
    }

    while (p < end && *p >= 0x20 && *p != 0x7f) {
        p++;
    }

    return p;
}


/*
 * The slow way over a value with control characters: these are allowed as
 * quoted pairs in quoted strings (RFC 4475 3.1.1.2 has such a message).
 * Returns the first one that is not, CR and LF included.
 */

static uint8_t *
ims_sip_scan_quoted(uint8_t *p, uint8_t *end)
{
    bool  quoted;

    quoted = false;

    for ( /* void */ ; p < end; p++) {

        if (*p == '"') {
            quoted = !quoted;

        } else if (*p == '\\' && quoted) {
            /* CR and LF cannot be quoted: they are looked at next */

            if (end - p >= 2 && p[1] != '\r' && p[1] != '\n') {
                p++;
            }

        } else if (*p == '\r' && end - p >= 3 && p[1] == '\n'
                   && (p[2] == ' ' || p[2] == '\t'))
        {
            p[0] = ' ';
            p[1] = ' ';

        } else if ((*p < 0x20 && *p != '\t') || *p == 0x7f) {
            return p;
        }
    }

    return p;
}


static void
ims_sip_fail(ims_sip_parser_t *pr, const uint8_t *at, unsigned status,
    const char *reason)
{
    if (pr->failed) {
        return;
    }

    pr->failed = true;
    pr->err->status = status;
    pr->err->reason = reason;
    pr->err->offset = (size_t) (at - pr->buf);
}


/* Behind the next CRLF, NULL if there is none. */

static uint8_t *
ims_sip_next_line(uint8_t *p, uint8_t *end)
{
    uint8_t  *lf;

    while (p < end) {
        lf = memchr(p, '\n', (size_t) (end - p));

        if (lf == NULL) {
            return NULL;
        }

        if (lf > p && lf[-1] == '\r') {
            return lf + 1;
        }

        p = lf + 1;
    }

    return NULL;
}


static uint8_t *
ims_sip_start_line(ims_sip_parser_t *pr)
{
    uint8_t    *p, *eol;
    ims_str_t   line;

    /*
     * what the line itself is wrong about comes first, hence the end of line
     * is found without looking at what is on it
     */

    p = ims_sip_next_line(pr->buf, pr->end);

    if (p == NULL) {
        ims_sip_fail(pr, pr->buf, 400, "Missing empty line");
        return NULL;
    }

    eol = p - 2;

    line = ims_str_range(pr->buf, eol);
    pr->m->start = line;

    if (line.n >= 4 && memcmp(line.p, "SIP/", 4) == 0) {
        ims_sip_status_line(pr, line);

    } else {
        pr->m->request = true;
        ims_sip_request_line(pr, line);
    }

    return p;
}


static void
ims_sip_request_line(ims_sip_parser_t *pr, ims_str_t line)
{
    ims_str_t       version;
    ims_sip_msg_t  *m;
    const uint8_t  *p, *end, *last;

    m = pr->m;
    p = line.p;
    end = line.p + line.n;

    last = ims_ch_skip(p, end, IMS_CH_TOKEN);

    if (last == p || last == end || *last != ' ') {
        ims_sip_fail(pr, last, 400, "Malformed Request-Line");
        return;
    }

    m->method = ims_str_range(p, last);
    m->method_id = ims_sip_method_id(m->method);

    p = last + 1;
    last = p < end ? memchr(p, ' ', (size_t) (end - p)) : NULL;

    if (last == NULL) {
        ims_sip_fail(pr, p, 400, "Malformed Request-Line");
        return;
    }

    m->uri = ims_str_range(p, last);
    version = ims_str_range(last + 1, end);

    if (!ims_str_eq(version, IMS_STR(IMS_SIP_VERSION))) {

        if (version.n == sizeof(IMS_SIP_VERSION) - 1
            && memcmp(version.p, "SIP/", 4) == 0
            && ims_ch(version.p[4], IMS_CH_DIGIT)
            && version.p[5] == '.'
            && ims_ch(version.p[6], IMS_CH_DIGIT))
        {
            ims_sip_fail(pr, version.p, 505, "Version Not Supported");
            return;
        }

        ims_sip_fail(pr, version.p, 400, "Malformed Request-Line");
        return;
    }

    /* RFC 3261 table 1: no headers in a Request-URI */

    if (!ims_sip_uri_parse(m->uri, &m->ruri) || m->ruri.headers.p != NULL) {
        ims_sip_fail(pr, p, 400, "Malformed Request-URI");
    }
}


static void
ims_sip_status_line(ims_sip_parser_t *pr, ims_str_t line)
{
    uint64_t        status;
    ims_sip_msg_t  *m;
    const uint8_t  *p, *end;

    m = pr->m;
    p = line.p;
    end = p + line.n;

    /* "SIP/2.0 200 " */

    if (line.n < 12 || memcmp(p, IMS_SIP_VERSION " ", 8) != 0 || p[11] != ' '
        || !ims_str_u64(ims_str_set(p + 8, 3), 699, &status) || status < 100)
    {
        ims_sip_fail(pr, p, 400, "Malformed Status-Line");
        return;
    }

    m->status = (unsigned) status;
    m->reason = ims_str_range(p + 12, end);

    for (p = m->reason.p; /* void */ ; p++) {
        p = ims_sip_scan(p, end);

        if (p == end) {
            break;
        }

        if (*p != '\t') {
            ims_sip_fail(pr, p, 400, "Control character in Status-Line");
            break;
        }
    }
}


/* Returns where the body begins, NULL if the headers have no end. */

static uint8_t *
ims_sip_headers(ims_sip_parser_t *pr, uint8_t *p)
{
    bool      first;
    uint8_t  *next;

    first = true;

    while (pr->end - p >= 2) {

        if (p[0] == '\r' && p[1] == '\n') {
            return p + 2;
        }

        if (pr->m->nhdr == IMS_SIP_MAX_HEADERS) {
            ims_sip_fail(pr, p, 513, "Too many headers");
            return NULL;
        }

        if (*p == ' ' || *p == '\t') {
            /* a fold of a good header was taken with it */

            ims_sip_fail(pr, p, 400, first ? "Space before first header"
                                           : "Malformed header line");
            next = ims_sip_next_line(p, pr->end);

        } else {
            next = ims_sip_header(pr, p);
        }

        if (next == NULL) {
            p = pr->end;
            break;
        }

        p = next;
        first = false;
    }

    ims_sip_fail(pr, p, 400, "Missing empty line");

    return NULL;
}


/* One header with its folds.  Returns the next line, NULL if it has no end. */

static uint8_t *
ims_sip_header(ims_sip_parser_t *pr, uint8_t *line)
{
    size_t          nlen;
    uint8_t        *p, *eol;
    const uint8_t  *q;

    q = ims_ch_skip(line, pr->end, IMS_CH_TOKEN);
    nlen = (size_t) (q - line);

    q = ims_ch_skip_ws(q, pr->end);
    p = line + (q - line);

    if (p == pr->end) {
        return NULL;
    }

    if (nlen == 0 || *p != ':') {
        ims_sip_fail(pr, p, 400, "Malformed header name");
        return ims_sip_next_line(p, pr->end);
    }

    if (p != line + nlen) {
        /* RFC 3261 25.1 HCOLON: allowed, never passed on */

        *p = ' ';
        p = line + nlen;
        *p = ':';
    }

    eol = ims_sip_header_end(pr, p + 1);

    if (eol == NULL) {
        return NULL;
    }

    if (eol[0] != '\r' || eol[1] != '\n') {
        return ims_sip_next_line(eol, pr->end);
    }

    ims_sip_add(pr, line, nlen, eol);

    return eol + 2;
}


/*
 * Unfolds from p on.  Returns the CRLF that ends the header, or the byte that
 * is wrong (the failure is noted), or NULL at the end of the message.
 */

static uint8_t *
ims_sip_header_end(ims_sip_parser_t *pr, uint8_t *p)
{
    uint8_t  *q, *value;

    value = p;

    for ( ;; ) {
        q = p + (ims_sip_scan(p, pr->end) - p);

        if (q < pr->end && *q == '\t') {
            p = q + 1;
            continue;
        }

        if (q < pr->end && *q != '\r' && *q != '\n') {
            /* perhaps a quoted pair; from here on byte by byte, once a line */
            q = ims_sip_scan_quoted(value, pr->end);
        }

        if (pr->end - q < 2) {
            return NULL;
        }

        if (q[0] != '\r' || q[1] != '\n') {
            ims_sip_fail(pr, q, 400,
                         *q == '\r' ? "Bare CR in header"
                         : *q == '\n' ? "Bare LF in header"
                         : "Control character in header");
            return q;
        }

        if (pr->end - q < 3 || (q[2] != ' ' && q[2] != '\t')) {
            return q;
        }

        q[0] = ' ';
        q[1] = ' ';

        p = q + 2;
    }
}


static void
ims_sip_add(ims_sip_parser_t *pr, const uint8_t *line, size_t nlen,
    const uint8_t *eol)
{
    unsigned        id, i;
    ims_sip_hdr_t  *h;
    ims_sip_msg_t  *m;

    m = pr->m;
    id = ims_sip_hdr_id(line, nlen);
    i = m->nhdr++;

    h = &m->hdr[i];
    h->name = ims_str_set(line, nlen);
    h->value = ims_str_trim(ims_str_range(line + nlen + 1, eol));
    h->line = ims_str_range(line, eol + 2);
    h->id = (uint16_t) id;
    h->next = IMS_SIP_NONE;

    if (m->count[id]++ == 0) {
        m->first[id] = (uint16_t) i;
        m->last[id] = (uint16_t) i;
        return;
    }

    if (id == IMS_SIP_H_OTHER) {
        return;
    }

    m->hdr[m->last[id]].next = (uint16_t) i;
    m->last[id] = (uint16_t) i;

    if (ims_sip_hdr_single(id)) {
        ims_sip_fail(pr, line, 400, ims_sip_hdr_repeated(id));
    }
}


static void
ims_sip_body(ims_sip_parser_t *pr, const uint8_t *p, unsigned flags)
{
    size_t          n;
    uint64_t        len;
    ims_sip_msg_t  *m;

    m = pr->m;
    n = (size_t) (pr->end - p);
    m->body = ims_str_set(p, n);

    if (m->count[IMS_SIP_H_CONTENT_LENGTH] == 0) {

        if (flags & IMS_SIP_STREAM) {
            ims_sip_fail(pr, p, 400, "Missing Content-Length header");
        }

        return;
    }

    if (!ims_str_u64(ims_sip_hdr_value(m, IMS_SIP_H_CONTENT_LENGTH),
                     UINT32_MAX, &len))
    {
        ims_sip_fail(pr, p, 400, "Malformed Content-Length header");
        return;
    }

    if (len < n && (flags & IMS_SIP_DGRAM)) {
        m->body.n = (size_t) len;
        m->raw.n -= n - (size_t) len;
        return;
    }

    if (len != n) {
        ims_sip_fail(pr, p, 400, "Content-Length does not match the body");
    }
}


static void
ims_sip_check(ims_sip_parser_t *pr)
{
    unsigned        i;
    uint64_t        v;
    ims_sip_msg_t  *m;

    m = pr->m;

    for (i = 0; i < IMS_SIP_NMANDATORY; i++) {
        if (m->count[ims_sip_mandatory[i].id] == 0) {
            ims_sip_fail(pr, m->raw.p, 400, ims_sip_mandatory[i].missing);
            return;
        }
    }

    ims_sip_check_via(pr);

    ims_sip_check_addr(pr, IMS_SIP_H_FROM, &m->from, &m->from_tag,
                       "Malformed From header");
    ims_sip_check_addr(pr, IMS_SIP_H_TO, &m->to, &m->to_tag,
                       "Malformed To header");

    ims_sip_check_call_id(pr);
    ims_sip_check_cseq(pr);

    if (m->count[IMS_SIP_H_MAX_FORWARDS]) {

        if (!ims_str_u64(ims_sip_hdr_value(m, IMS_SIP_H_MAX_FORWARDS), 255,
                         &v))
        {
            ims_sip_fail(pr, m->raw.p, 400, "Malformed Max-Forwards header");
            return;
        }

        m->max_forwards = (int) v;
    }
}


static void
ims_sip_check_via(ims_sip_parser_t *pr)
{
    int                rc;
    ims_str_t          v;
    ims_sip_via_t      other, *via;
    ims_sip_values_t   it;

    ims_sip_values(&it, pr->m, IMS_SIP_H_VIA);

    via = &pr->m->via;

    while ((rc = ims_sip_value_next(&it, &v)) == 1) {

        if (!ims_sip_via_parse(v, via)) {
            rc = -1;
            break;
        }

        via = &other;
    }

    /* via untouched: Via lines without a value */

    if (rc == -1 || via == &pr->m->via) {
        ims_sip_fail(pr, pr->m->raw.p, 400, "Malformed Via header");
    }
}


static void
ims_sip_check_addr(ims_sip_parser_t *pr, unsigned id, ims_sip_addr_t *a,
    ims_str_t *tag, const char *reason)
{
    int              rc;
    ims_sip_param_t  p;

    if (!ims_sip_addr_parse(ims_sip_hdr_value(pr->m, id), a)) {
        ims_sip_fail(pr, pr->m->raw.p, 400, reason);
        return;
    }

    rc = ims_sip_param_find(a->params, "tag", &p);

    if (rc == 0) {
        return;
    }

    /* a tag is a token: it is compared as bytes and written by us */

    if (rc != 1 || !ims_ch_all(p.value, IMS_CH_TOKEN)) {
        ims_sip_fail(pr, pr->m->raw.p, 400, reason);
        return;
    }

    *tag = p.value;
}


/* callid = word [ "@" word ] */

static void
ims_sip_check_call_id(ims_sip_parser_t *pr)
{
    ims_str_t       v;
    const uint8_t  *p, *end;

    v = ims_sip_hdr_value(pr->m, IMS_SIP_H_CALL_ID);
    end = v.p + v.n;

    p = ims_ch_skip(v.p, end, IMS_CH_WORD);

    if (p != v.p && p != end && *p == '@') {
        p = p + 1 == end ? p : ims_ch_skip(p + 1, end, IMS_CH_WORD);
    }

    if (p != end || v.n == 0) {
        ims_sip_fail(pr, v.p, 400, "Malformed Call-ID header");
        return;
    }

    pr->m->call_id = v;
}


static void
ims_sip_check_cseq(ims_sip_parser_t *pr)
{
    ims_str_t       v, method;
    ims_sip_msg_t  *m;

    m = pr->m;
    v = ims_sip_hdr_value(m, IMS_SIP_H_CSEQ);

    if (!ims_sip_cseq_parse(v, &m->cseq, &method)) {
        ims_sip_fail(pr, v.p, 400, "Malformed CSeq header");
        return;
    }

    if (!m->request) {
        m->method = method;
        m->method_id = ims_sip_method_id(method);
        return;
    }

    if (!ims_str_eq(method, m->method)) {
        ims_sip_fail(pr, v.p, 400, "CSeq method does not match the request");
    }
}


/* What lacks From, To or Call-ID is told so without them (RFC 4475 3.3.1). */

static bool
ims_sip_answerable(const ims_sip_msg_t *m)
{
    return m->request && m->method.n && m->method_id != IMS_SIP_M_ACK
           && ims_sip_hdr_value(m, IMS_SIP_H_VIA).n
           && ims_sip_hdr_value(m, IMS_SIP_H_CSEQ).n;
}
