/*
 * Copyright (C) nginx-ims contributors
 *
 * The frame decoder: the same events however the bytes are cut, every
 * violation with its code, and memory that follows what was received.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ws/ims_ws.h"


#define LIMIT  65536


typedef struct {
    uint8_t  *p;
    size_t    n;
    size_t    cap;
} bytes_t;


static void
add(bytes_t *b, const void *p, size_t n)
{
    if (b->n + n > b->cap) {
        b->cap = (b->n + n) * 2 + 64;
        b->p = realloc(b->p, b->cap);
        assert_non_null(b->p);
    }

    if (n) {
        memcpy(b->p + b->n, p, n);
    }

    b->n += n;
}


static void
add_u8(bytes_t *b, unsigned v)
{
    uint8_t  c = (uint8_t) v;

    add(b, &c, 1);
}


static void
drop(bytes_t *b)
{
    free(b->p);
    memset(b, 0, sizeof(bytes_t));
}


/* a client's frame; first: FIN, RSV and opcode */

static void
frame(bytes_t *b, unsigned first, const void *payload, size_t n)
{
    int             shift;
    size_t          i;
    const uint8_t  *p = payload;
    static uint8_t  mask[4] = { 0x37, 0xfa, 0x00, 0x3d };

    mask[2]++;
    add_u8(b, first);

    if (n < 126) {
        add_u8(b, 0x80 | (unsigned) n);

    } else if (n < 65536) {
        add_u8(b, 0x80 | 126);
        add_u8(b, (unsigned) (n >> 8));
        add_u8(b, (unsigned) n);

    } else {
        add_u8(b, 0x80 | 127);

        for (shift = 56; shift >= 0; shift -= 8) {
            add_u8(b, (unsigned) ((uint64_t) n >> shift));
        }
    }

    add(b, mask, 4);

    for (i = 0; i < n; i++) {
        add_u8(b, p[i] ^ mask[i & 3]);
    }
}


#define text(b, first, s)  frame(b, first, s, sizeof(s) - 1)


/*
 * One read: its bytes lie in memory of exactly their length, so that a
 * sanitizer sees any step beyond.  Every event is written into log.
 */

static void
feed(ims_ws_t *ws, const uint8_t *p, size_t n, bytes_t *log)
{
    uint8_t         *copy, *pos;
    ims_ws_event_e   e;
    ims_ws_event_t   ev;

    copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, p, n);
    pos = copy;

    while ((e = ims_ws_decode(ws, &pos, copy + n, &ev)) != IMS_WS_NEED_MORE) {
        add_u8(log, e);
        add_u8(log, ev.opcode);
        add(log, &ev.code, sizeof(ev.code));
        add(log, &ev.len, sizeof(ev.len));
        add(log, ev.data, ev.len);

        if (ev.len) {
            memset(ev.data, 0xee, ev.len);      /* it is the caller's */
        }

        if (e == IMS_WS_ERROR) {
            assert_non_null(ev.reason);
            add(log, ev.reason, strlen(ev.reason));
        }
    }

    assert_ptr_equal(pos, copy + n);
    free(copy);
}


static void
same(const bytes_t *a, const bytes_t *b)
{
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->p, b->p, a->n);
}


/* a stream of all kinds of frames, as short as can be for two cuts */

static void
all_kinds(bytes_t *b)
{
    uint8_t  big[130];

    memset(big, 'x', sizeof(big));

    text(b, 0x81, "REGISTER sip:ims.example SIP/2.0\r\n\r\n");
    text(b, 0x82, "\x00\xff\x80 binary");
    text(b, 0x89, "ping");
    text(b, 0x8a, "");
    text(b, 0x81, "");
    text(b, 0x01, "fra\xe2");
    text(b, 0x89, "between fragments");
    text(b, 0x00, "\x82");
    text(b, 0x00, "");
    text(b, 0x8a, "pong");
    text(b, 0x80, "\xac" "gment");
    text(b, 0x02, "");
    text(b, 0x80, "late \xff");
    frame(b, 0x81, big, 125);
    frame(b, 0x81, big, 126);
    frame(b, 0x89, big, 125);
    text(b, 0x81, "\r\n\r\n");
    text(b, 0x01, "");
    text(b, 0x80, "");
    text(b, 0x88, "\x03\xe8" "bye \xc3\xa9");
    text(b, 0x81, "after the close");
}


static void
test_cuts(void **state)
{
    size_t    i, j;
    bytes_t   in = { 0 }, want = { 0 }, got = { 0 };
    ims_ws_t  ws;

    (void) state;

    all_kinds(&in);

    ims_ws_init(&ws, LIMIT);
    feed(&ws, in.p, in.n, &want);
    assert_int_equal(ims_ws_held(&ws), 0);
    assert_true(want.n > 600);

    /* cut in three, at every pair of places; i == j: cut in two */

    for (i = 0; i <= in.n; i++) {
        for (j = i; j <= in.n; j++) {
            got.n = 0;
            ims_ws_init(&ws, LIMIT);

            feed(&ws, in.p, i, &got);
            feed(&ws, in.p + i, j - i, &got);
            feed(&ws, in.p + j, in.n - j, &got);

            assert_int_equal(ims_ws_held(&ws), 0);
            same(&want, &got);
        }
    }

    /* byte by byte */

    got.n = 0;
    ims_ws_init(&ws, LIMIT);

    for (i = 0; i < in.n; i++) {
        feed(&ws, in.p + i, 1, &got);
    }

    assert_int_equal(ims_ws_held(&ws), 0);
    same(&want, &got);

    drop(&in);
    drop(&want);
    drop(&got);
}


/* the events themselves, not only that they are always the same */

static void
test_events(void **state)
{
    bytes_t          in = { 0 };
    uint8_t         *pos, *end, *at;
    ims_ws_t         ws;
    ims_ws_event_t   ev;

    (void) state;

    text(&in, 0x81, "hello");
    text(&in, 0x02, "frag");
    text(&in, 0x89, "p");
    text(&in, 0x80, "ment");
    text(&in, 0x88, "\x0f\xa0" "why");
    text(&in, 0x81, "late");

    ims_ws_init(&ws, LIMIT);
    at = pos = in.p;
    end = in.p + in.n;

    assert_int_equal(ims_ws_decode(&ws, &pos, end, &ev), IMS_WS_MESSAGE);
    assert_int_equal(ev.opcode, IMS_WS_OP_TEXT);
    assert_int_equal(ev.len, 5);
    assert_memory_equal(ev.data, "hello", 5);
    assert_ptr_equal(ev.data, at + 6);          /* where it was read */
    assert_ptr_equal(pos, at + 11);
    assert_int_equal(ims_ws_held(&ws), 0);

    assert_int_equal(ims_ws_decode(&ws, &pos, end, &ev), IMS_WS_PING);
    assert_int_equal(ev.len, 1);
    assert_memory_equal(ev.data, "p", 1);

    assert_int_equal(ims_ws_decode(&ws, &pos, end, &ev), IMS_WS_MESSAGE);
    assert_int_equal(ev.opcode, IMS_WS_OP_BINARY);
    assert_int_equal(ev.len, 8);
    assert_memory_equal(ev.data, "fragment", 8);

    assert_int_equal(ims_ws_decode(&ws, &pos, end, &ev), IMS_WS_CLOSE);
    assert_int_equal(ev.code, 4000);
    assert_int_equal(ev.len, 3);
    assert_memory_equal(ev.data, "why", 3);

    assert_int_equal(ims_ws_decode(&ws, &pos, end, &ev), IMS_WS_NEED_MORE);
    assert_ptr_equal(pos, end);

    drop(&in);

    text(&in, 0x88, "");
    ims_ws_init(&ws, LIMIT);
    pos = in.p;
    assert_int_equal(ims_ws_decode(&ws, &pos, in.p + in.n, &ev),
                     IMS_WS_CLOSE);
    assert_int_equal(ev.code, IMS_WS_NO_STATUS);
    assert_int_equal(ev.len, 0);
    drop(&in);
}


/* the code of the error that a stream ends in, checked whole and in bytes */

static unsigned
fault(const bytes_t *in, size_t limit)
{
    size_t           i, n;
    uint8_t         *copy, *pos;
    unsigned         code[2];
    ims_ws_t         ws;
    ims_ws_event_e   e;
    ims_ws_event_t   ev;

    copy = malloc(in->n);
    assert_non_null(copy);

    for (i = 0; i < 2; i++) {
        memcpy(copy, in->p, in->n);
        ims_ws_init(&ws, limit);
        code[i] = 0;
        pos = copy;

        for (n = i ? 1 : in->n; n <= in->n; n++) {
            do {
                e = ims_ws_decode(&ws, &pos, copy + n, &ev);

                if (e == IMS_WS_ERROR) {
                    assert_int_equal(code[i], 0);
                    code[i] = ev.code;
                    assert_non_null(ev.reason);
                }
            } while (e != IMS_WS_NEED_MORE);
        }

        if (code[i]) {
            assert_int_equal(ims_ws_held(&ws), 0);
        }

        ims_ws_free(&ws);
    }

    free(copy);
    assert_int_equal(code[0], code[1]);

    return code[0];
}


static const struct {
    const char  *what;
    const char  *bytes;
    size_t       n;
    unsigned     code;
} faults[] = {

#define f(what, s, code)  { what, s, sizeof(s) - 1, code }
#define M                 "\0\0\0\0"

    f("good text", "\x81\x82" M "ok", 0),
    f("not masked", "\x81\x02" "ok", 1002),
    f("not masked, empty", "\x81\x00", 1002),
    f("RSV1", "\xc1\x82" M "ok", 1002),
    f("RSV2", "\xa1\x82" M "ok", 1002),
    f("RSV3", "\x91\x82" M "ok", 1002),
    f("RSV1 on a ping", "\xc9\x80" M, 1002),
    f("opcode 3", "\x83\x80" M, 1002),
    f("opcode 4", "\x84\x80" M, 1002),
    f("opcode 5", "\x85\x80" M, 1002),
    f("opcode 6", "\x86\x80" M, 1002),
    f("opcode 7", "\x87\x80" M, 1002),
    f("opcode b", "\x8b\x80" M, 1002),
    f("opcode c", "\x8c\x80" M, 1002),
    f("opcode d", "\x8d\x80" M, 1002),
    f("opcode e", "\x8e\x80" M, 1002),
    f("opcode f", "\x8f\x80" M, 1002),
    f("ping fragmented", "\x09\x80" M, 1002),
    f("pong fragmented", "\x0a\x80" M, 1002),
    f("close fragmented", "\x08\x80" M, 1002),
    f("ping of 126", "\x89\xfe\x00\x7e" M, 1002),
    f("ping with a 64-bit length", "\x89\xff\0\0\0\0\0\0\0\1" M, 1002),
    f("close with a 16-bit length", "\x88\xfe\x00\x02" M, 1002),
    f("continuation first", "\x80\x80" M, 1002),
    f("continuation after a message", "\x81\x80" M "\x80\x80" M, 1002),
    f("text in a text", "\x01\x80" M "\x81\x80" M, 1002),
    f("binary in a text", "\x01\x80" M "\x02\x80" M, 1002),
    f("125 in 16 bits", "\x82\xfe\x00\x7d" M, 1002),
    f("0 in 16 bits", "\x82\xfe\x00\x00" M, 1002),
    f("65535 in 64 bits", "\x82\xff\0\0\0\0\0\0\xff\xff" M, 1002),
    f("0 in 64 bits", "\x82\xff\0\0\0\0\0\0\0\0" M, 1002),
    f("2^63", "\x82\xff\x80\0\0\0\0\0\0\0" M, 1002),
    f("2^64 - 1", "\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff" M, 1002),
    f("2^63 - 1", "\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff" M, 1009),
    f("2^32", "\x82\xff\0\0\0\1\0\0\0\0" M, 1009),
    f("2^32 - 1", "\x82\xff\0\0\0\0\xff\xff\xff\xff" M, 1009),
    f("65537", "\x82\xff\0\0\0\0\0\1\0\1" M, 1009),
    f("65536, nothing of it", "\x82\xff\0\0\0\0\0\1\0\0" M, 0),
    f("one byte and 65536", "\x02\x81" M "x\x80\xff\0\0\0\0\0\1\0\0" M, 1009),
    f("close with one byte", "\x88\x81" M "\x03", 1002),
    f("close 0", "\x88\x82" M "\0\0", 1002),
    f("close 999", "\x88\x82" M "\x03\xe7", 1002),
    f("close 1000", "\x88\x82" M "\x03\xe8", 0),
    f("close 1004", "\x88\x82" M "\x03\xec", 1002),
    f("close 1005", "\x88\x82" M "\x03\xed", 1002),
    f("close 1006", "\x88\x82" M "\x03\xee", 1002),
    f("close 1015", "\x88\x82" M "\x03\xf7", 1002),
    f("close 1016", "\x88\x82" M "\x03\xf8", 1002),
    f("close 2999", "\x88\x82" M "\x0b\xb7", 1002),
    f("close 3000", "\x88\x82" M "\x0b\xb8", 0),
    f("close 5000", "\x88\x82" M "\x13\x88", 1002),
    f("close 65535", "\x88\x82" M "\xff\xff", 1002),
    f("close, reason not UTF-8", "\x88\x83" M "\x03\xe8\xff", 1007),
    f("close, reason cut", "\x88\x84" M "\x03\xe8\xe2\x82", 1007),
    f("bare continuation byte", "\x81\x81" M "\x80", 1007),
    f("overlong slash", "\x81\x82" M "\xc0\xaf", 1007),
    f("overlong, three bytes", "\x81\x83" M "\xe0\x80\xaf", 1007),
    f("overlong, four bytes", "\x81\x84" M "\xf0\x80\x80\xaf", 1007),
    f("surrogate", "\x81\x83" M "\xed\xa0\x80", 1007),
    f("beyond U+10FFFF", "\x81\x84" M "\xf4\x90\x80\x80", 1007),
    f("five bytes", "\x81\x85" M "\xf8\x88\x80\x80\x80", 1007),
    f("character cut off", "\x81\x82" M "\xe2\x82", 1007),
    f("character cut off, fragments", "\x01\x81" M "\xe2\x80\x81" M "\x82",
      1007),
    f("bad in the second fragment", "\x01\x81" M "\xe2\x00\x81" M "a", 1007),
    f("early: the text is not whole", "\x81\x8a" M "ab\xff", 1007),
    f("the same in binary", "\x82\x82" M "\xc0\xaf", 0),
    f("last of all characters", "\x81\x84" M "\xf4\x8f\xbf\xbf", 0),
    f("U+D7FF", "\x81\x83" M "\xed\x9f\xbf", 0),

#undef M
#undef f
};


static void
test_faults(void **state)
{
    size_t   i;
    bytes_t  in;
    unsigned  code;

    (void) state;

    for (i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        in.p = (uint8_t *) (uintptr_t) faults[i].bytes;
        in.n = faults[i].n;

        code = fault(&in, LIMIT);

        if (code != faults[i].code) {
            fail_msg("%s: %u, not %u", faults[i].what, code, faults[i].code);
        }
    }
}


static void
test_sizes(void **state)
{
    size_t               i, cut;
    bytes_t              in = { 0 }, want = { 0 }, got = { 0 };
    uint8_t             *payload;
    ims_ws_t             ws;
    static const size_t  sizes[] = { 0, 1, 124, 125, 126, 127, 4095, 65534,
                                     65535, 65536 };

    (void) state;

    payload = malloc(LIMIT + 1);
    assert_non_null(payload);
    memset(payload, 'y', LIMIT + 1);

    for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        in.n = want.n = 0;
        frame(&in, 0x81, payload, sizes[i]);

        ims_ws_init(&ws, LIMIT);
        feed(&ws, in.p, in.n, &want);
        assert_int_equal(want.p[0], IMS_WS_MESSAGE);
        assert_int_equal(want.n, 4 + sizeof(size_t) + sizes[i]);

        for (cut = 0; cut <= in.n; cut += cut < 20 ? 1 : 997) {
            got.n = 0;
            ims_ws_init(&ws, LIMIT);
            feed(&ws, in.p, cut, &got);
            feed(&ws, in.p + cut, in.n - cut, &got);
            assert_int_equal(ims_ws_held(&ws), 0);
            same(&want, &got);
        }
    }

    in.n = 0;
    frame(&in, 0x81, payload, LIMIT + 1);
    assert_int_equal(fault(&in, LIMIT), 1009);
    assert_int_equal(fault(&in, LIMIT + 1), 0);

    /* the sum of fragments counts */

    in.n = 0;
    frame(&in, 0x01, payload, 60);
    frame(&in, 0x00, payload, 40);
    assert_int_equal(fault(&in, 100), 0);
    frame(&in, 0x80, payload, 1);
    assert_int_equal(fault(&in, 100), 1009);
    assert_int_equal(fault(&in, 101), 0);

    free(payload);
    drop(&in);
    drop(&want);
    drop(&got);
}


/* memory follows what came, and goes with the message */

static void
test_memory(void **state)
{
    size_t          i;
    uint8_t         byte, *pos, *p;
    bytes_t         in = { 0 };
    ims_ws_t        ws;
    ims_ws_event_t  ev;
    static uint8_t  zero[LIMIT];

    (void) state;

    frame(&in, 0x82, zero, LIMIT);
    ims_ws_init(&ws, LIMIT);

    for (i = 0; i < in.n; i++) {
        byte = in.p[i];
        pos = &byte;

        if (i + 1 == in.n) {
            assert_int_equal(ims_ws_decode(&ws, &pos, &byte + 1, &ev),
                             IMS_WS_MESSAGE);
            assert_int_equal(ev.len, LIMIT);
            break;
        }

        assert_int_equal(ims_ws_decode(&ws, &pos, &byte + 1, &ev),
                         IMS_WS_NEED_MORE);

        /* the header has 14 bytes */

        assert_true(ims_ws_held(&ws)
                    <= (i < 14 ? 0 : i < 256 ? 256 : 2 * i));
        assert_true(ims_ws_held(&ws) <= LIMIT + IMS_WS_CONTROL_MAX);
    }

    assert_true(ims_ws_held(&ws) != 0);
    pos = &byte;
    assert_int_equal(ims_ws_decode(&ws, &pos, pos, &ev), IMS_WS_NEED_MORE);
    assert_int_equal(ims_ws_held(&ws), 0);

    /* given up half-way: nothing leaks, twice is no harm */

    p = malloc(100);
    assert_non_null(p);
    memcpy(p, in.p, 100);
    pos = p;
    assert_int_equal(ims_ws_decode(&ws, &pos, p + 100, &ev),
                     IMS_WS_NEED_MORE);
    assert_true(ims_ws_held(&ws) != 0);
    ims_ws_free(&ws);
    ims_ws_free(&ws);
    assert_int_equal(ims_ws_held(&ws), 0);

    free(p);
    drop(&in);
}


static void
test_fragments(void **state)
{
    size_t          i, events;
    bytes_t         in = { 0 };
    uint8_t        *pos;
    ims_ws_t        ws;
    ims_ws_event_t  ev;

    (void) state;

    text(&in, 0x01, "");

    for (i = 2; i < IMS_WS_FRAGMENTS_MAX; i++) {
        text(&in, 0x00, "");
    }

    text(&in, 0x80, "");
    assert_int_equal(fault(&in, LIMIT), 0);
    drop(&in);

    text(&in, 0x01, "a");

    for (i = 0; i < IMS_WS_FRAGMENTS_MAX; i++) {
        frame(&in, 0x00, "b", i & 1);
    }

    assert_int_equal(fault(&in, LIMIT), 1008);
    drop(&in);

    /* the count begins anew with each message; pings are not counted */

    for (i = 0; i < IMS_WS_FRAGMENTS_MAX; i++) {
        text(&in, 0x01, "a");
        text(&in, 0x89, "");
        text(&in, 0x80, "b");
    }

    ims_ws_init(&ws, LIMIT);
    pos = in.p;
    events = 0;

    while (ims_ws_decode(&ws, &pos, in.p + in.n, &ev) != IMS_WS_NEED_MORE) {
        assert_null(ev.reason);
        events++;
    }

    assert_int_equal(events, 2 * IMS_WS_FRAGMENTS_MAX);
    drop(&in);
}


static void
test_encode(void **state)
{
    size_t     n;
    uint8_t    dst[2 + IMS_WS_CONTROL_MAX + 1], reason[200];
    ims_str_t  s;

    (void) state;

    assert_int_equal(ims_ws_frame_header(dst, IMS_WS_OP_TEXT, 0), 2);
    assert_memory_equal(dst, "\x81\x00", 2);
    assert_int_equal(ims_ws_frame_header(dst, IMS_WS_OP_PONG, 125), 2);
    assert_memory_equal(dst, "\x8a\x7d", 2);
    assert_int_equal(ims_ws_frame_header(dst, IMS_WS_OP_TEXT, 126), 4);
    assert_memory_equal(dst, "\x81\x7e\x00\x7e", 4);
    assert_int_equal(ims_ws_frame_header(dst, IMS_WS_OP_BINARY, 65535), 4);
    assert_memory_equal(dst, "\x82\x7e\xff\xff", 4);
    assert_int_equal(ims_ws_frame_header(dst, IMS_WS_OP_TEXT, 65536), 10);
    assert_memory_equal(dst, "\x81\x7f\0\0\0\0\0\1\0\0", 10);

    s = IMS_STR("bye");
    assert_int_equal(ims_ws_close_frame(dst, 1001, s), 7);
    assert_memory_equal(dst, "\x88\x05\x03\xe9" "bye", 7);
    assert_int_equal(ims_ws_close_frame(dst, 1005, s), 2);
    assert_memory_equal(dst, "\x88\x00", 2);
    assert_int_equal(ims_ws_close_frame(dst, 1000, IMS_STR("\xff")), 4);
    assert_memory_equal(dst, "\x88\x02\x03\xe8", 4);

    /* cut before the character that does not fit, not within */

    memset(reason, 'r', sizeof(reason));
    memcpy(reason + 121, "\xe2\x82\xac", 3);
    dst[sizeof(dst) - 1] = 0x5a;
    n = ims_ws_close_frame(dst, 1008, ims_str_set(reason, sizeof(reason)));
    assert_int_equal(n, 4 + 121);
    assert_int_equal(dst[1], 2 + 121);

    memset(reason, 'r', sizeof(reason));
    n = ims_ws_close_frame(dst, 1008, ims_str_set(reason, sizeof(reason)));
    assert_int_equal(n, 2 + IMS_WS_CONTROL_MAX);
    assert_int_equal(dst[sizeof(dst) - 1], 0x5a);
}


/* every sequence of up to three bytes, against the definition by value */

static bool
slow_utf8(const uint8_t *p, size_t n)
{
    size_t    i, len;
    uint32_t  v;

    while (n) {
        len = p[0] < 0x80 ? 1 : p[0] >> 5 == 6 ? 2 : p[0] >> 4 == 14 ? 3
              : p[0] >> 3 == 30 ? 4 : 0;

        if (len == 0 || len > n) {
            return false;
        }

        v = len == 1 ? p[0] : p[0] & (0x7fu >> len);

        for (i = 1; i < len; i++) {
            if ((p[i] & 0xc0) != 0x80) {
                return false;
            }

            v = v << 6 | (p[i] & 0x3f);
        }

        if ((len == 2 && v < 0x80) || (len == 3 && v < 0x800)
            || (len == 4 && (v < 0x10000 || v > 0x10ffff))
            || (v >= 0xd800 && v <= 0xdfff))
        {
            return false;
        }

        p += len;
        n -= len;
    }

    return true;
}


static void
test_utf8(void **state)
{
    uint8_t   p[16];
    uint32_t  v;

    (void) state;

    for (v = 0; v < 1 << 24; v += v < 1 << 16 ? 1 : 3) {
        p[0] = (uint8_t) (v >> 16);
        p[1] = (uint8_t) (v >> 8);
        p[2] = (uint8_t) v;
        p[3] = 0x80;

        if (ims_utf8_ok(ims_str_set(p, 3)) != slow_utf8(p, 3)
            || ims_utf8_ok(ims_str_set(p, 4)) != slow_utf8(p, 4))
        {
            fail_msg("%06x", v);
        }
    }

    for (v = 0; v < 1 << 16; v++) {
        memset(p, 'a', sizeof(p));
        p[6] = 0xf0 | (v & 7);
        p[7] = (uint8_t) (v >> 8);
        p[8] = 0x80 | (v >> 3 & 0x3f);
        p[9] = 0xbf;

        assert_int_equal(ims_utf8_ok(ims_str_set(p, sizeof(p))),
                         slow_utf8(p, sizeof(p)));
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_fragments),
        cmocka_unit_test(test_encode),
        cmocka_unit_test(test_utf8),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
