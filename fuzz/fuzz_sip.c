/*
 * Copyright (C) nginx-ims contributors
 *
 * SIP input: parser in its three modes, framing, canonical URIs, header table
 * and editor, with what must hold whatever comes in.
 *
 * The first byte chooses mode and direction, the rest is the message.
 */

#include <stdio.h>
#include <stdlib.h>

#include "sip/ims_sip.h"
#include "sip/ims_sip_edit.h"
#include "sip/ims_sip_policy.h"


#define MUST(cond)                                                            \
    do {                                                                      \
        if (!(cond)) {                                                        \
            fprintf(stderr, "fuzz_sip.c:%d: %s\n", __LINE__, #cond);          \
            abort();                                                          \
        }                                                                     \
    } while (0)


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static ims_sip_msg_t   msg, again;
static ims_sip_edit_t  ed;


static void
uri_holds(ims_str_t text)
{
    uint8_t        a[1100], b[1100];
    ptrdiff_t      n, m;
    ims_sip_uri_t  u;

    if (!ims_sip_uri_parse(text, &u)) {
        MUST(!ims_sip_identity_ok(text));
        return;
    }

    n = ims_sip_uri_canon(a, sizeof(a), &u);

    if (n < 0) {
        MUST(!ims_sip_identity_ok(text));
        return;
    }

    /* a fixed point, and its folded form is that of what it was made of */

    m = ims_sip_canon(b, sizeof(b), ims_str_set(a, (size_t) n));
    MUST(m == n && memcmp(a, b, (size_t) n) == 0);

    m = ims_sip_fold(b, sizeof(b), ims_str_set(a, (size_t) n));
    n = ims_sip_uri_fold(a, sizeof(a), &u);
    MUST(m == n && (n < 0 || memcmp(a, b, (size_t) n) == 0));
}


static void
values_hold(const ims_sip_msg_t *m, unsigned id)
{
    int                rc;
    ims_str_t          v, s, t;
    ims_sip_via_t      via;
    ims_sip_addr_t     addr;
    ims_sip_param_t    p;
    ims_sip_contact_t  c;
    ims_sip_values_t   it;

    ims_sip_values(&it, m, id);

    while ((rc = ims_sip_value_next(&it, &v)) == 1) {
        MUST(v.n > 0);
        MUST(v.p >= m->hdr[it.hdr].value.p);
        MUST(v.p + v.n <= m->hdr[it.hdr].value.p + m->hdr[it.hdr].value.n);
        MUST(m->hdr[it.hdr].id == id);

        (void) ims_sip_via_parse(v, &via);
        (void) ims_sip_contact_parse(v, &c);

        if (ims_sip_addr_parse(v, &addr)) {
            MUST(ims_sip_param_find(addr.params, "tag", &p) >= 0);
            uri_holds(addr.uri);
        }
    }

    v = ims_sip_hdr_value(m, id);

    if (ims_sip_auth_parse(v, &s, &t)) {
        (void) ims_sip_auth_param(t, "username", &s);
    }

    if (ims_sip_bearer(v, &t)) {
        MUST(t.n > 0 && memchr(t.p, '"', t.n) == NULL);
    }
}


/* No line can be ended, and no header begun, by what is in a line. */

static void
lines_hold(const ims_sip_msg_t *m, bool refused)
{
    size_t                j;
    unsigned              i;
    const uint8_t        *p;
    const ims_sip_hdr_t  *h;

    for (i = 0; i < m->nhdr; i++) {
        h = &m->hdr[i];
        p = h->line.p;

        MUST(h->name.n > 0 && h->name.p == p && p[h->name.n] == ':');
        MUST(p[h->line.n - 2] == '\r' && p[h->line.n - 1] == '\n');

        /* of a refused message the bad lines are missing */

        MUST(i == 0 || p == m->hdr[i - 1].line.p + m->hdr[i - 1].line.n
             || (refused && p > m->hdr[i - 1].line.p));

        for (j = 0; j < h->line.n - 2; j++) {

            MUST(p[j] != '\r' && p[j] != '\n');

            /* other control characters as quoted pairs only */

            if ((p[j] < 0x20 && p[j] != '\t') || p[j] == 0x7f) {
                MUST(j > h->name.n && p[j - 1] == '\\');
            }
        }
    }
}


static void
frame_holds(const ims_sip_msg_t *m)
{
    size_t  scanned, len, half;

    /* what the parser took from a stream is what the framing finds */

    scanned = len = 0;
    half = m->raw.n / 2;

    (void) ims_sip_frame(m->raw.p, half, SIZE_MAX, &scanned, &len);

    MUST(ims_sip_frame(m->raw.p, m->raw.n, SIZE_MAX, &scanned, &len)
         == IMS_SIP_FRAME_OK);
    MUST(len == m->raw.n);
}


/* The parser never disagrees with the framing about a length. */

static void
stream_holds(const uint8_t *data, size_t n)
{
    int             rc;
    size_t          scanned, len, part;
    uint8_t        *buf;
    ims_sip_err_t   err;

    scanned = len = 0;

    for (part = 0; part < n; part += n / 3 + 1) {
        rc = ims_sip_frame(data, part, SIZE_MAX, &scanned, &len);

        if (rc != IMS_SIP_FRAME_MORE) {
            break;
        }
    }

    rc = ims_sip_frame(data, n, SIZE_MAX, &scanned, &len);

    if (rc == IMS_SIP_FRAME_KEEPALIVE || rc == IMS_SIP_FRAME_CRLF) {
        MUST(len == 2 || len == 4);
        return;
    }

    if (rc != IMS_SIP_FRAME_OK) {
        return;
    }

    MUST(len <= n);

    buf = malloc(len);
    MUST(buf != NULL);
    memcpy(buf, data, len);

    if (ims_sip_parse(&msg, buf, len, IMS_SIP_STREAM, &err) != 0) {
        MUST(strstr(err.reason, "Content-Length") == NULL
             || strstr(err.reason, "Repeated") != NULL);
        MUST(strcmp(err.reason, "Missing empty line") != 0);
    }

    free(buf);
}


static void
edit_holds(ims_sip_dir_e dir)
{
    uint8_t           *out;
    uint8_t            scratch[8192];
    unsigned           i;
    ptrdiff_t          n;
    const char        *reason;
    ims_sip_err_t      err;
    ims_sip_policy_e   e;

    ims_sip_edit_init(&ed, &msg, scratch, sizeof(scratch));

    if (ims_sip_policy_apply(&ed, dir, &reason) != 0) {
        MUST(dir == IMS_SIP_WIC_REQUEST);
        return;
    }

    ims_sip_edit_received(&ed, IMS_STR("192.0.2.1"), 4711);

    if (ims_sip_edit_finish(&ed) != 0) {
        MUST(ed.error != NULL);
        return;
    }

    out = malloc(ed.total);
    MUST(out != NULL);

    n = ims_sip_edit_flatten(&ed, out, ed.total);

    if (n < 0) {
        /* the arena has room for one finish only: nothing else */
        MUST(ed.error != NULL);
        free(out);
        return;
    }

    MUST((size_t) n == ed.total);

    if (ims_sip_parse(&again, out, (size_t) n, IMS_SIP_STREAM, &err) != 0) {
        /* one line more than may be: our Content-Length */
        MUST(err.status == 513);
        free(out);
        return;
    }

    lines_hold(&again, false);
    frame_holds(&again);

    MUST(again.count[IMS_SIP_H_CONTENT_LENGTH] == 1);
    MUST(ims_str_eq(again.body, msg.body));
    MUST(ims_str_eq(again.call_id, msg.call_id));
    MUST(ims_str_eq(again.from_tag, msg.from_tag));
    MUST(ims_str_eq(again.to_tag, msg.to_tag));
    MUST(again.via.received.name.p != NULL);

    for (i = 0; i < again.nhdr; i++) {
        e = ims_sip_policy(dir, &again, i);
        MUST(e == IMS_SIP_KEEP);

        e = ims_sip_policy_entry(dir, again.hdr[i].id);
        MUST(e != IMS_SIP_STRIP && e != IMS_SIP_INSERT);
    }

    free(out);
}


static void
reply_holds(void)
{
    uint8_t          *out;
    size_t            cap;
    ptrdiff_t         n;
    ims_sip_err_t     err;
    ims_sip_reply_t   r;

    memset(&r, 0, sizeof(r));
    r.status = 400;
    r.reason = "Bad Request";
    r.to_tag = IMS_STR("tt");
    r.received = IMS_STR("192.0.2.1");
    r.rport = 65535;

    cap = msg.raw.n * 5 + 512;
    out = malloc(cap);
    MUST(out != NULL);

    n = ims_sip_reply(out, cap, &msg, &r);
    MUST(n > 0);

    /* may be refused for what was copied, but is one message */

    if (ims_sip_parse(&again, out, (size_t) n, IMS_SIP_STREAM, &err) == 0) {
        MUST(!again.request && again.status == 400);
        lines_hold(&again, false);
    }

    MUST(again.count[IMS_SIP_H_CONTENT_LENGTH] == 1);

    free(out);
}


/*
 * What is left of a datagram is handed on, to other workers too, and read there
 * as a message that ends where its bytes end.
 */

static void
datagram_holds(const ims_sip_msg_t *m)
{
    uint8_t              *copy;
    ims_sip_err_t         err;

    static ims_sip_msg_t  again;

    copy = malloc(m->raw.n);
    MUST(copy != NULL);
    memcpy(copy, m->raw.p, m->raw.n);

    MUST(ims_sip_parse(&again, copy, m->raw.n, IMS_SIP_WS, &err) == 0);
    MUST(again.body.n == m->body.n && again.nhdr == m->nhdr);

    free(copy);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int             rc;
    uint8_t        *buf;
    unsigned        flags, id;
    ims_sip_err_t   err;

    if (size < 1) {
        return 0;
    }

    flags = 1u << (data[0] % 3);

    buf = malloc(size);
    MUST(buf != NULL);
    memcpy(buf, data + 1, size - 1);

    uri_holds(ims_str_set(buf, size - 1));
    stream_holds(buf, size - 1);

    rc = ims_sip_parse(&msg, buf, size - 1, flags, &err);

    if (rc != 0) {
        MUST(err.reason != NULL && err.status >= 400 && err.status < 600);

        if (err.answerable) {
            reply_holds();
        }

        lines_hold(&msg, true);
        free(buf);
        return 0;
    }

    lines_hold(&msg, false);

    if (flags == IMS_SIP_STREAM) {
        frame_holds(&msg);

    } else if (flags == IMS_SIP_DGRAM) {
        datagram_holds(&msg);
    }

    for (id = 1; id < IMS_SIP_H_COUNT; id++) {
        values_hold(&msg, id);
    }

    if (msg.request) {
        uri_holds(msg.uri);
        reply_holds();
        edit_holds(data[0] & 0x80 ? IMS_SIP_CORE_REQUEST
                                  : IMS_SIP_WIC_REQUEST);
    } else {
        edit_holds(data[0] & 0x80 ? IMS_SIP_CORE_RESPONSE
                                  : IMS_SIP_WIC_RESPONSE);
    }

    free(buf);

    return 0;
}
