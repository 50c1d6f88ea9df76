/*
 * Copyright (C) nginx-ims contributors
 *
 * Where a message ends in a stream.
 *
 * Two readers that see different ends are what request smuggling is made of,
 * hence: lines end with CRLF only, the one Content-Length is digits only, and
 * the parser, which sees the message next, checks all of it once more.
 */

#include "sip/ims_sip.h"
#include "sip/ims_sip_chars.h"


static int ims_sip_frame_start(const uint8_t *buf, size_t n, size_t *msglen);
static size_t ims_sip_frame_headers(const uint8_t *buf, size_t n,
    size_t *scanned);
static bool ims_sip_frame_length(const uint8_t *buf, size_t n, uint64_t *len,
    ims_str_t *value);
static bool ims_sip_frame_is_length(const uint8_t *p, const uint8_t *end,
    ims_str_t *value);


int
ims_sip_frame(const uint8_t *buf, size_t n, size_t max, size_t *scanned,
    size_t *msglen)
{
    int       rc;
    size_t     head;
    uint64_t   len;
    ims_str_t  value;

    if (*msglen == 0) {

        if (*scanned == 0) {
            rc = ims_sip_frame_start(buf, n, msglen);

            if (rc != IMS_SIP_FRAME_OK) {
                return rc;
            }
        }

        head = ims_sip_frame_headers(buf, n, scanned);

        if (head == 0) {
            return n >= max ? IMS_SIP_FRAME_TOO_BIG : IMS_SIP_FRAME_MORE;
        }

        if (!ims_sip_frame_length(buf, head, &len, &value)) {
            return IMS_SIP_FRAME_ERROR;
        }

        *msglen = head + (size_t) len;

        if (head > max || len > max - head) {
            return IMS_SIP_FRAME_TOO_BIG;
        }
    }

    return n >= *msglen ? IMS_SIP_FRAME_OK : IMS_SIP_FRAME_MORE;
}


size_t
ims_sip_frame_bodiless(uint8_t *buf, size_t n)
{
    size_t     head, scanned;
    uint64_t   len;
    ims_str_t  value;

    scanned = 0;
    head = ims_sip_frame_headers(buf, n, &scanned);

    if (head == 0 || !ims_sip_frame_length(buf, head, &len, &value)) {
        return 0;
    }

    memset(buf + (value.p - buf), '0', value.n);

    return head;
}


/* Keep-alives, and what cannot be a message from its first byte on. */

static int
ims_sip_frame_start(const uint8_t *buf, size_t n, size_t *msglen)
{
    size_t  i;

    static const uint8_t  ping[4] = { '\r', '\n', '\r', '\n' };

    for (i = 0; i < n && i < sizeof(ping) && buf[i] == ping[i]; i++) {
        /* void */
    }

    if (i == sizeof(ping)) {
        *msglen = 4;
        return IMS_SIP_FRAME_KEEPALIVE;
    }

    if (i == n) {
        return IMS_SIP_FRAME_MORE;
    }

    if (i >= 2) {
        *msglen = 2;
        return IMS_SIP_FRAME_CRLF;
    }

    return i == 0 && ims_ch(buf[0], IMS_CH_TOKEN) ? IMS_SIP_FRAME_OK
                                                  : IMS_SIP_FRAME_ERROR;
}


/* The length up to and with the empty line, 0 if that is not there yet. */

static size_t
ims_sip_frame_headers(const uint8_t *buf, size_t n, size_t *scanned)
{
    const uint8_t  *p, *end;

    p = buf + *scanned;
    end = buf + n;

    while (p < end) {
        p = memchr(p, '\n', (size_t) (end - p));

        if (p == NULL) {
            break;
        }

        p++;

        if (p - buf >= 4 && memcmp(p - 4, "\r\n\r\n", 4) == 0) {
            return (size_t) (p - buf);
        }
    }

    *scanned = n;

    return 0;
}


/* Exactly one Content-Length among the lines of the header block. */

static bool
ims_sip_frame_length(const uint8_t *buf, size_t n, uint64_t *len,
    ims_str_t *value)
{
    bool            found;
    ims_str_t       v;
    const uint8_t  *p, *end, *eol, *next;

    found = false;
    end = buf + n - 2;

    for (p = buf; p < end; p = next) {

        /* the end of the line with its folds */

        for (eol = p; /* void */ ; eol++) {
            eol = memchr(eol, '\n', (size_t) (end - eol));

            if (eol == NULL) {
                return false;
            }

            if (eol > p && eol[-1] == '\r' && eol[1] != ' ' && eol[1] != '\t')
            {
                break;
            }
        }

        next = eol + 1;

        if (!ims_sip_frame_is_length(p, eol - 1, &v)) {
            continue;
        }

        if (found || !ims_str_u64(v, UINT32_MAX, len)) {
            return false;
        }

        *value = v;
        found = true;
    }

    return found;
}


static bool
ims_sip_frame_is_length(const uint8_t *p, const uint8_t *end,
    ims_str_t *value)
{
    const uint8_t  *q;

    q = ims_ch_skip(p, end, IMS_CH_TOKEN);

    if (ims_sip_hdr_id(p, (size_t) (q - p)) != IMS_SIP_H_CONTENT_LENGTH) {
        return false;
    }

    q = ims_ch_skip_ws(q, end);

    if (q == end || *q != ':') {
        return false;
    }

    /* folds are spaces here: what is left between them must be digits */

    for (q++; q < end && (*q == ' ' || *q == '\t' || *q == '\r'
                          || *q == '\n'); q++)
    {
        /* void */
    }

    while (end > q && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'
                       || end[-1] == '\n'))
    {
        end--;
    }

    *value = ims_str_range(q, end);

    return true;
}
