/*
 * Copyright (C) nginx-ims contributors
 *
 * The frame decoder: however a stream is cut, the events are the same.
 *
 * The first byte seeds the cuts, the second the limit; the rest is the stream.
 * Bytes that a mask would make are as likely as others, so the fuzzer needs no
 * help to get beyond the header.
 */

#include <stdio.h>
#include <stdlib.h>

#include "ws/ims_origin.h"
#include "ws/ims_ws.h"
#include "ws/ims_ws_handshake.h"


typedef struct {
    uint64_t  hash;             /* of all events in order */
    unsigned  count;
} trace_t;


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static void
trace(trace_t *t, const void *data, size_t n)
{
    const uint8_t  *p = data;

    while (n--) {
        t->hash = (t->hash ^ *p++) * 0x100000001b3ULL;
    }
}


static void
check(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}


static void
feed(ims_ws_t *ws, const uint8_t *p, size_t n, size_t limit, trace_t *t)
{
    uint8_t         *copy, *pos;
    ims_ws_event_e   e;
    ims_ws_event_t   ev;

    copy = malloc(n ? n : 1);
    check(copy != NULL, "no memory");
    memcpy(copy, p, n);
    pos = copy;

    while ((e = ims_ws_decode(ws, &pos, copy + n, &ev)) != IMS_WS_NEED_MORE) {
        t->count++;
        trace(t, &e, sizeof(e));
        trace(t, &ev.opcode, sizeof(ev.opcode));
        trace(t, &ev.code, sizeof(ev.code));
        trace(t, &ev.len, sizeof(ev.len));
        trace(t, ev.data, ev.len);

        check(e != IMS_WS_MESSAGE || ev.len <= limit, "message over limit");
        check(e != IMS_WS_MESSAGE || ev.opcode != IMS_WS_OP_TEXT
              || ims_utf8_ok(ims_str_set(ev.data, ev.len)),
              "text that is not UTF-8");
        check(e == IMS_WS_MESSAGE || ev.len <= IMS_WS_CONTROL_MAX,
              "long control frame");
        check(e != IMS_WS_ERROR || ims_ws_close_code_ok(ev.code),
              "error without a code to send");

        if (ev.len) {
            memset(ev.data, 0xee, ev.len);
        }
    }

    check(pos == copy + n, "bytes left over");
    check(ims_ws_held(ws) <= limit + IMS_WS_CONTROL_MAX, "holds too much");

    free(copy);
}


/* the functions that take any text: they may not read beyond it */

static void
texts(const uint8_t *data, size_t size)
{
    uint8_t            *copy, dst[2 + IMS_WS_CONTROL_MAX];
    ims_str_t           s;
    const char         *err;
    ims_origin_t        o;
    ims_origin_rule_t   rule;

    copy = malloc(size ? size : 1);
    check(copy != NULL, "no memory");
    memcpy(copy, data, size);
    s = ims_str_set(copy, size);

    if (ims_origin_parse(&o, s)) {
        check(ims_origin_rule_parse(&rule, s, &err) == 0
              && ims_origin_match(&rule, 1, s), "origin unlike itself");
    }

    (void) ims_origin_rule_parse(&rule, s, &err);
    (void) ims_http_token_list_has(s, IMS_STR("sip"));
    (void) ims_ws_close_frame(dst, 1000, s);

    if (ims_ws_key_ok(s)) {
        ims_ws_accept_key(dst, s);
    }

    free(copy);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t    limit, n;
    trace_t   whole = { 0 }, cut = { 0 };
    uint32_t  seed;
    ims_ws_t  ws;

    if (size < 2) {
        return 0;
    }

    seed = data[0];
    limit = (size_t) data[1] * 8;
    data += 2;
    size -= 2;

    texts(data, size);

    ims_ws_init(&ws, limit);
    feed(&ws, data, size, limit, &whole);
    ims_ws_free(&ws);

    ims_ws_init(&ws, limit);

    while (size) {
        seed = seed * 1103515245 + 12345;
        n = (seed >> 16) % 9;

        if (n > size) {
            n = size;
        }

        feed(&ws, data, n, limit, &cut);
        data += n;
        size -= n;
    }

    ims_ws_free(&ws);

    check(whole.count == cut.count && whole.hash == cut.hash,
          "events depend on the cuts");

    return 0;
}
