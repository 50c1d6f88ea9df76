/*
 * Copyright (C) nginx-ims contributors
 *
 * The parser against the attacks of PEERS.md D10, D14 to D18, D29; values,
 * framing, replies, names.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "sip/ims_sip.h"
#include "sip/ims_sip_chars.h"


#define MAX   70000

#define VIA    "Via: SIP/2.0/WSS x.invalid;branch=z9hG4bK1;rport\r\n"
#define FROM   "From: <sip:a@ims.example>;tag=t1\r\n"
#define TO     "To: <sip:a@ims.example>\r\n"
#define CALL   "Call-ID: c1\r\n"
#define CSEQ   "CSeq: 1 REGISTER\r\n"
#define FWD    "Max-Forwards: 70\r\n"
#define LINE   "REGISTER sip:ims.example SIP/2.0\r\n"
#define FIVE   VIA FROM TO CALL CSEQ
#define OPEN   LINE FIVE FWD
#define END    "\r\n"


static uint8_t        buf[MAX], out[MAX];
static ims_sip_msg_t  msg;
static ims_sip_err_t  err;


static int
parse_n(const void *p, size_t n, unsigned flags)
{
    int       rc;
    uint8_t  *copy;

    /* a block of its own size: a read beyond is seen by the sanitizer */

    copy = malloc(n + 1);
    assert_non_null(copy);
    memcpy(copy, p, n);

    rc = ims_sip_parse(&msg, copy, n, flags, &err);
    free(copy);

    assert_true(n <= MAX);
    memcpy(buf, p, n);
    assert_int_equal(ims_sip_parse(&msg, buf, n, flags, &err), rc);

    return rc;
}


static int
parse(const char *z)
{
    return parse_n(z, strlen(z), IMS_SIP_WS);
}


static void
refused(const char *z, unsigned status, const char *reason)
{
    if (parse(z) == 0) {
        fail_msg("taken: %s", z);
    }

    if (err.status != status || strcmp(err.reason, reason) != 0) {
        fail_msg("%u %s for %s", err.status, err.reason, z);
    }
}


static void
assert_slice(ims_str_t s, const char *z)
{
    if (!ims_str_eq(s, ims_str_z(z))) {
        fail_msg("\"%.*s\" is not \"%s\"", IMS_STR_ARG(s), z);
    }
}


static void
test_good(void **state)
{
    (void) state;

    assert_int_equal(parse(OPEN "l: 0\r\n" END), 0);
    assert_true(msg.request);
    assert_int_equal(msg.method_id, IMS_SIP_M_REGISTER);
    assert_slice(msg.uri, "sip:ims.example");
    assert_slice(msg.ruri.host, "ims.example");
    assert_slice(msg.call_id, "c1");
    assert_slice(msg.from_tag, "t1");
    assert_null(msg.to_tag.p);
    assert_slice(msg.via.branch.value, "z9hG4bK1");
    assert_non_null(msg.via.rport.name.p);
    assert_null(msg.via.rport.value.p);
    assert_int_equal(msg.max_forwards, 70);
    assert_int_equal(msg.nhdr, 7);
    assert_int_equal(msg.body.n, 0);

    /* RFC 7118: no Content-Length at all */

    assert_int_equal(parse(OPEN END "body"), 0);
    assert_slice(msg.body, "body");

    assert_int_equal(parse_n(OPEN END, sizeof(OPEN END) - 1,
                             IMS_SIP_STREAM), -1);
    assert_string_equal(err.reason, "Missing Content-Length header");

    assert_int_equal(parse("SIP/2.0 200 OK\r\n" FIVE END), 0);
    assert_false(msg.request);
    assert_int_equal(msg.status, 200);
    assert_slice(msg.reason, "OK");
    assert_int_equal(msg.method_id, IMS_SIP_M_REGISTER);

    /* no Max-Forwards */

    assert_int_equal(parse(LINE FIVE END), 0);
    assert_int_equal(msg.max_forwards, -1);
}


/* D14: space and worse around a header's name */

static void
test_names(void **state)
{
    size_t  i;
    char    z[1024];

    static const char *const  bad[] = {
        "P-Asserted-Identity\x01: <sip:v@x>\r\n",
        "P-Asserted-Identity\x0b: <sip:v@x>\r\n",
        "P-Asserted-Identity\xc2\xa0: <sip:v@x>\r\n",
        "P-Asserted-Identity\x7f: <sip:v@x>\r\n",
        "P-Asserted Identity: <sip:v@x>\r\n",
        "P-Asserted-Identity <sip:v@x>\r\n",
        "P-Asserted-Identity\r\n",
        ": <sip:v@x>\r\n",
        "\"x\": <sip:v@x>\r\n",
        "(x): <sip:v@x>\r\n",
    };

    (void) state;

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(z, sizeof(z), "%s%s%s", OPEN, bad[i], END);
        refused(z, 400, "Malformed header name");
        assert_true(err.answerable);

        snprintf(z, sizeof(z), "%s%s%s%s", LINE, bad[i], FIVE, END);
        refused(z, 400, "Malformed header name");
        assert_true(err.answerable);
    }

    assert_int_equal(parse_n(OPEN "X\0: y\r\n" END,
                             sizeof(OPEN "X\0: y\r\n" END) - 1, IMS_SIP_WS),
                     -1);
    assert_string_equal(err.reason, "Malformed header name");

    refused(LINE " X: y\r\n" FIVE END, 400, "Space before first header");
    refused(LINE "\tX: y\r\n" FIVE END, 400, "Space before first header");

    /* the grammar allows space before the colon: it is moved behind it */

    assert_int_equal(parse(OPEN "P-Asserted-Identity \t : <sip:v@x>\r\n" END),
                     0);
    assert_int_equal(msg.count[IMS_SIP_H_P_ASSERTED_IDENTITY], 1);
    assert_slice(msg.hdr[6].line,
                 "P-Asserted-Identity:\t   <sip:v@x>\r\n");
    assert_slice(msg.hdr[6].value, "<sip:v@x>");
}


/* D15: line ends and folds */

static void
test_lines(void **state)
{
    ims_str_t  v;

    (void) state;

    refused("REGISTER sip:ims.example SIP/2.0\n" FIVE END, 400,
            "Malformed Request-Line");
    refused(OPEN "X: a\nP-Asserted-Identity: <sip:v@x>\r\n" END, 400,
            "Bare LF in header");
    refused(OPEN "X: a\rP-Asserted-Identity: <sip:v@x>\r\n" END, 400,
            "Bare CR in header");
    refused(OPEN "X: a\r\r\n" END, 400, "Bare CR in header");
    refused(OPEN "X: a\n\r\n" END, 400, "Bare LF in header");
    refused(OPEN "X: \x01" "a\r\n" END, 400, "Control character in header");
    refused(OPEN "X: a\x7f\r\n" END, 400, "Control character in header");
    refused(OPEN "X: \\\x01\r\n" END, 400, "Control character in header");
    refused(OPEN "X: \"\x01\"\r\n" END, 400, "Control character in header");
    refused(OPEN "X: \"\\\n\"\r\n" END, 400, "Bare LF in header");
    refused(OPEN "X: \"\x01\\\r\"\r\n" END, 400,
            "Control character in header");
    refused(OPEN "X: \"\\\x01\\\r\"\r\n" END, 400, "Bare CR in header");

    /* a quoted pair may be one; folds go on behind it */

    assert_int_equal(parse(OPEN "X: \"\\\x01\\\r\n \\\x02\"\r\n\ty\r\n" END),
                     0);
    assert_slice(msg.hdr[6].value, "\"\\\x01\\   \\\x02\"  \ty");
    assert_int_equal(msg.nhdr, 7);

    /* no empty line */

    refused(LINE VIA, 400, "Missing empty line");
    refused(OPEN, 400, "Missing empty line");
    assert_true(err.answerable);
    refused(OPEN "X: y", 400, "Missing empty line");
    refused(OPEN "X", 400, "Missing empty line");
    refused(OPEN "\r", 400, "Missing empty line");
    refused("", 400, "Missing empty line");
    refused("REGISTER", 400, "Missing empty line");
    refused("\r\n", 400, "Malformed Request-Line");

    /* folds: in a name-addr, in credentials, in a length, of nothing */

    assert_int_equal(parse(LINE VIA TO CALL CSEQ
                           "From:\r\n <sip:a@ims.example>\r\n\t;tag=t1\r\n"
                           "Authorization: Digest\r\n username=\"x\",\r\n"
                           " integrity-protected=\"auth-done\"\r\n"
                           "Content-Length:\r\n 3\r\n \r\n" END "abc"), 0);
    assert_slice(msg.from_tag, "t1");
    assert_slice(msg.body, "abc");

    v = ims_sip_hdr_value(&msg, IMS_SIP_H_AUTHORIZATION);
    assert_slice(v, "Digest   username=\"x\",   "
                    "integrity-protected=\"auth-done\"");
    assert_null(memchr(v.p, '\r', v.n));

    /* a fold of a bad line is part of it: the rest is still understood */

    refused(LINE "X\x01: y\r\n z\r\n" FIVE END, 400, "Malformed header name");
    assert_true(err.answerable);
}


/* D16: every name that may stand once only, with every pair of spellings */

static void
test_repeated(void **state)
{
    char          z[1024], want[64], *p;
    unsigned      id, i, j, n;
    const char   *name, *a, *b;
    char          spell[4][40];

    (void) state;

    for (id = 1; id < IMS_SIP_H_COUNT; id++) {
        name = (const char *) ims_sip_hdr_name(id).p;
        n = 0;

        strcpy(spell[n++], name);
        strcpy(spell[n], name);

        for (p = spell[n++]; *p; p++) {
            *p = (char) (*p >= 'a' && *p <= 'z' ? *p - 32 : *p);
        }

        if (ims_sip_hdr_compact(id)) {
            snprintf(spell[n++], 40, "%c", ims_sip_hdr_compact(id));
            snprintf(spell[n++], 40, "%c", ims_sip_hdr_compact(id) - 32);
        }

        for (i = 0; i < n; i++) {
            for (j = 0; j < n; j++) {
                a = spell[i];
                b = spell[j];

                snprintf(z, sizeof(z), "%s%s: 1\r\n%s: 1\r\n%s", LINE, a,
                         b, END);
                snprintf(want, sizeof(want), "Repeated %s header", name);

                assert_int_equal(parse(z), -1);

                if (ims_sip_hdr_single(id)) {
                    assert_string_equal(err.reason, want);
                } else {
                    assert_int_not_equal(strncmp(err.reason, "Rep", 3), 0);
                }

                assert_int_equal(msg.count[id], 2);
                assert_int_equal(msg.first[id], 0);
                assert_int_equal(msg.hdr[0].next, 1);
            }
        }
    }

    /* those that the issue names, whatever the table says */

    static const char *const  single[] = {
        "From", "f", "To", "t", "Call-ID", "i", "CSeq", "Max-Forwards",
        "Content-Length", "l", "Content-Type", "c", "Expires", "Min-Expires",
        "Event", "o", "RSeq", "RAck"
    };

    for (i = 0; i < sizeof(single) / sizeof(single[0]); i++) {
        id = ims_sip_hdr_id((const uint8_t *) single[i], strlen(single[i]));
        assert_true(ims_sip_hdr_single(id));
    }

    refused(OPEN "f: <sip:b@x>;tag=2\r\n" END, 400, "Repeated From header");
    assert_true(err.answerable);
    assert_slice(ims_sip_hdr_value(&msg, IMS_SIP_H_FROM),
                 "<sip:a@ims.example>;tag=t1");
}


static void
test_missing(void **state)
{
    (void) state;

    refused(LINE FROM TO CALL CSEQ END, 400, "Missing Via header");
    assert_false(err.answerable);
    refused(LINE VIA TO CALL CSEQ END, 400, "Missing From header");
    assert_true(err.answerable);
    refused(LINE VIA FROM CALL CSEQ END, 400, "Missing To header");
    refused(LINE VIA FROM TO CSEQ END, 400, "Missing Call-ID header");
    refused(LINE VIA FROM TO CALL END, 400, "Missing CSeq header");
    assert_false(err.answerable);
}


static void
test_fields(void **state)
{
    size_t  i;
    char    z[1024];

    static const struct {
        const char  *line;
        const char  *reason;
    } bad[] = {
        { "Max-Forwards: 256\r\n", "Malformed Max-Forwards header" },
        { "Max-Forwards: -1\r\n", "Malformed Max-Forwards header" },
        { "Max-Forwards: 7 0\r\n", "Malformed Max-Forwards header" },
        { "Max-Forwards:\r\n", "Malformed Max-Forwards header" },
        { "Max-Forwards: 99999999999999999999\r\n",
          "Malformed Max-Forwards header" },
        { "Content-Length: +0\r\n", "Malformed Content-Length header" },
        { "Content-Length: -1\r\n", "Malformed Content-Length header" },
        { "Content-Length: 0x0\r\n", "Malformed Content-Length header" },
        { "Content-Length: 0 0\r\n", "Malformed Content-Length header" },
        { "Content-Length: 0,0\r\n", "Malformed Content-Length header" },
        { "Content-Length: 0;\r\n", "Malformed Content-Length header" },
        { "Content-Length:\r\n", "Malformed Content-Length header" },
        { "Content-Length: 4294967296\r\n",
          "Malformed Content-Length header" },
        { "Content-Length: 18446744073709551616\r\n",
          "Malformed Content-Length header" },
        { "Content-Length: 2147483648\r\n",
          "Content-Length does not match the body" },
        { "l: 1\r\n", "Content-Length does not match the body" },
        { "Via: SIP/2.0/WSS x;branch=a;branch=b\r\n",
          "Malformed Via header" },
        { "Via: SIP/2.0/WSS x;received=1.1.1.1;RECEIVED=2.2.2.2\r\n",
          "Malformed Via header" },
        { "Via: SIP/2.0/WSS x:0\r\n", "Malformed Via header" },
        { "Via: SIP/2.0/WSS x:123456789012\r\n", "Malformed Via header" },
        { "Via: SIP/2.0/WSS x:65536\r\n", "Malformed Via header" },
        { "Via: SIP/2.0/WSS [::1\r\n", "Malformed Via header" },
        { "Via: SIP/2.0/WSS [::g]\r\n", "Malformed Via header" },
        { "Via: SIP/2.0/WSS x y\r\n", "Malformed Via header" },
        { "Via: SIP/2.0/WSS x;\r\n", "Malformed Via header" },
        { "Via: SIP/2.0/WSS x;;a\r\n", "Malformed Via header" },
        { "Via: SIP/2.0/WSS x;branch\r\n", "Malformed Via header" },
        { "Via: SIP/2.0/WSS x;branch=\"z9hG4bK\"\r\n",
          "Malformed Via header" },
        { "Via: SIP/2.0/WSS x;rport=abc\r\n", "Malformed Via header" },
        { "Via: SIP/2.0/WSSx\r\n", "Malformed Via header" },
        { "Via: SIP/3.0/WSS x\r\n", "Malformed Via header" },
        { "Via: SIP/2.0/WSS x,\r\n", "Malformed Via header" },
        { "Via: ,SIP/2.0/WSS x\r\n", "Malformed Via header" },
    };

    (void) state;

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(z, sizeof(z), "%s%s%s", LINE FIVE, bad[i].line, END);
        refused(z, 400, bad[i].reason);
        assert_true(err.answerable);
    }

    assert_int_equal(parse(LINE FIVE
                           "Via: SIP/2.0/TCP [2001:db8::1] : 5060;x=[::1]"
                           "\r\n" END), 0);
}


static void
test_addresses(void **state)
{
    size_t          i;
    char            z[1024];
    ims_sip_addr_t  a;

    static const char *const  bad[] = {
        "", "<>", "<sip:a@x", "sip:a@x>", "\"a <sip:a@x>", "\"a\" sip:a@x",
        "\"a\\\" <sip:a@x>", "a, b <sip:a@x>", "<sip:a@x>,<sip:b@x>",
        "<sip:a@x> x", "<sip:a@x>;", "<sip:a@x>;tag", "<sip:a@x>;tag=",
        "<sip:a@x>;tag=1;tag=2", "<sip:a@x>;tag=1;TAG=1",
        "<sip:a@x>;tag=\"1\"", "<sip:a@x>;tag=a b", "<sip:a@x>;tag=1@2",
        "< sip:a@x>", "<sip:a@x >", "<sip:a @x>", "<<sip:a@x>>",
        "sip:a@x?h=v", "sip:a,b@x", "<sip>", "<sip:>", "sip", "<:a@x>",
        "a b", "<sip:a\"b@x>", "<1sip:a@x>",
    };

    (void) state;

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(z, sizeof(z), "%sFrom: %s\r\n%s", LINE VIA TO CALL CSEQ,
                 bad[i], END);
        refused(z, 400, "Malformed From header");

        snprintf(z, sizeof(z), "%sTo: %s\r\n%s", LINE VIA FROM CALL CSEQ,
                 bad[i], END);
        refused(z, 400, "Malformed To header");
    }

    assert_true(ims_sip_addr_parse(
                    IMS_STR("\"A \\\"<b>\\\\\" <sip:a@x;p>;q=\"a;b,>\";r"),
                    &a));
    assert_slice(a.display, "\"A \\\"<b>\\\\\"");
    assert_slice(a.uri, "sip:a@x;p");
    assert_slice(a.params, ";q=\"a;b,>\";r");

    assert_true(ims_sip_addr_parse(IMS_STR("sip:a@x ; tag = 1"), &a));
    assert_slice(a.uri, "sip:a@x");
    assert_slice(a.params, "; tag = 1");
    assert_false(a.bracketed);

    assert_true(ims_sip_addr_parse(IMS_STR("T. W <tel:+1;x>"), &a));
    assert_slice(a.display, "T. W");
    assert_slice(a.uri, "tel:+1;x");
}


static void
test_start_lines(void **state)
{
    size_t  i;
    char    z[1024];

    static const struct {
        const char  *line;
        unsigned     status;
        const char  *reason;
    } bad[] = {
        { "REGISTER sip:x SIP/3.0", 505, "Version Not Supported" },
        { "REGISTER sip:x SIP/2.1", 505, "Version Not Supported" },
        { "REGISTER sip:x SIP/2.00", 400, "Malformed Request-Line" },
        { "REGISTER sip:x sip/2.0", 400, "Malformed Request-Line" },
        { "REGISTER sip:x HTTP/1.1", 400, "Malformed Request-Line" },
        { "REGISTER sip:x", 400, "Malformed Request-Line" },
        { "REGISTER", 400, "Malformed Request-Line" },
        { "REGISTER  SIP/2.0", 400, "Malformed Request-URI" },
        { " REGISTER sip:x SIP/2.0", 400, "Malformed Request-Line" },
        { "REG\tISTER sip:x SIP/2.0", 400, "Malformed Request-Line" },
        { "REGISTER sip:x SIP/2.0 ", 400, "Malformed Request-Line" },
        { "REGISTER\tsip:x\tSIP/2.0", 400, "Malformed Request-Line" },
        { "REGISTER sip:a\x01@x SIP/2.0", 400, "Malformed Request-URI" },
        { "REGISTER sip:a@x:123456789012 SIP/2.0", 400,
          "Malformed Request-URI" },
        { "REGISTER sip:a@@x SIP/2.0", 400, "Malformed Request-URI" },
        { "REGISTER sip:%zz@x SIP/2.0", 400, "Malformed Request-URI" },
        { "REGISTER sip:x?a=b SIP/2.0", 400, "Malformed Request-URI" },
        { "REGISTER sip:[::1 SIP/2.0", 400, "Malformed Request-URI" },
        { "SIP/2.0 99 x", 400, "Malformed Status-Line" },
        { "SIP/2.0 099 x", 400, "Malformed Status-Line" },
        { "SIP/2.0 700 x", 400, "Malformed Status-Line" },
        { "SIP/2.0 2000 x", 400, "Malformed Status-Line" },
        { "SIP/2.0 200", 400, "Malformed Status-Line" },
        { "SIP/2.0 +20 x", 400, "Malformed Status-Line" },
        { "SIP/3.0 200 x", 400, "Malformed Status-Line" },
        { "SIP/2.0  200 x", 400, "Malformed Status-Line" },
        { "SIP/2.0 200 a\x01", 400, "Control character in Status-Line" },
        { "SIP/2.0 200 a\rb", 400, "Control character in Status-Line" },
    };

    (void) state;

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(z, sizeof(z), "%s\r\n%s%s", bad[i].line, FIVE, END);
        refused(z, bad[i].status, bad[i].reason);

        if (bad[i].line[0] == 'S') {
            assert_false(err.answerable);
        }
    }

    /* an ACK is never answered */

    refused("ACK sip:x?h=v SIP/2.0\r\n" VIA FROM TO CALL
            "CSeq: 1 ACK\r\n" END, 400, "Malformed Request-URI");
    assert_false(err.answerable);

    refused("INVITE sip:x SIP/2.0\r\n" FIVE END, 400,
            "CSeq method does not match the request");
    refused("register sip:x SIP/2.0\r\n" FIVE END, 400,
            "CSeq method does not match the request");

    static const char *const  cseq[] = {
        "", "1", "REGISTER", "1REGISTER", "2147483648 REGISTER",
        "-1 REGISTER", "1 REGISTER x", "1 REG\"ISTER", "1, REGISTER",
        "36893488147419103232 REGISTER"
    };

    for (i = 0; i < sizeof(cseq) / sizeof(cseq[0]); i++) {
        snprintf(z, sizeof(z), "%sCSeq: %s\r\n%s", LINE VIA FROM TO CALL,
                 cseq[i], END);
        refused(z, 400, "Malformed CSeq header");
    }

    assert_int_equal(parse(LINE VIA FROM TO CALL
                           "CSeq: 2147483647 REGISTER\r\n" END), 0);
    assert_int_equal(msg.cseq, 2147483647);

    static const char *const  id[] = { "", "@", "a@", "@a", "a b", "a@b@c",
                                       "a,b", "a;b" };

    for (i = 0; i < sizeof(id) / sizeof(id[0]); i++) {
        snprintf(z, sizeof(z), "%sCall-ID: %s\r\n%s", LINE VIA FROM TO CSEQ,
                 id[i], END);
        refused(z, 400, "Malformed Call-ID header");
    }
}


/* D17, D18: lengths and second messages */

static void
test_bodies(void **state)
{
    (void) state;

    refused(OPEN "Content-Length: 0\r\n" END OPEN END, 400,
            "Content-Length does not match the body");
    refused(OPEN "Content-Length: 4\r\n" END "abc", 400,
            "Content-Length does not match the body");
    refused(OPEN "Content-Length: 4\r\n" END "abcde", 400,
            "Content-Length does not match the body");
    refused(OPEN "l: 3\r\nContent-Length: 3\r\n" END "abc", 400,
            "Repeated Content-Length header");

    assert_int_equal(parse(OPEN "l: 3\r\n" END "a\0c"), -1);
    assert_int_equal(parse_n(OPEN "l: 3\r\n" END "a\0c",
                             sizeof(OPEN "l: 3\r\n" END "a\0c") - 1,
                             IMS_SIP_WS), 0);
    assert_int_equal(msg.body.n, 3);

    /* RFC 3261 18.3: what a datagram has behind its body is not of it */

    assert_int_equal(parse_n(OPEN "l: 1\r\n" END "abc",
                             sizeof(OPEN "l: 1\r\n" END "abc") - 1,
                             IMS_SIP_DGRAM), 0);
    assert_slice(msg.body, "a");
    assert_int_equal(msg.raw.n, sizeof(OPEN "l: 1\r\n" END "a") - 1);

    assert_int_equal(parse_n(OPEN "l: 4\r\n" END "abc",
                             sizeof(OPEN "l: 4\r\n" END "abc") - 1,
                             IMS_SIP_DGRAM), -1);
}


/* D29: much of everything, in time that grows with the length only */

static void
test_much(void **state)
{
    size_t    i, n;
    uint64_t  steps;
    char     *z, *p;

    (void) state;

    z = malloc(MAX);
    assert_non_null(z);

    p = z + sprintf(z, OPEN);

    for (i = 0; i < IMS_SIP_MAX_HEADERS - 6; i++) {
        p += sprintf(p, "X-%zu: y\r\n", i);
    }

    strcpy(p, END);
    assert_int_equal(parse(z), 0);
    assert_int_equal(msg.nhdr, IMS_SIP_MAX_HEADERS);

    strcpy(p, "X: y\r\n" END);
    refused(z, 513, "Too many headers");
    assert_true(err.answerable);

    /* a tag of 60 kB, 5000 Via parameters, 20000 quoted pairs with folds */

    p = z + sprintf(z, LINE VIA TO CALL CSEQ "From: <sip:a@x>;tag=");
    memset(p, 'a', 60000);
    strcpy(p + 60000, "\r\n" END);
    assert_int_equal(parse(z), 0);
    assert_int_equal(msg.from_tag.n, 60000);

    p = z + sprintf(z, LINE FIVE "Via: SIP/2.0/TCP x");

    for (i = 0; i < 5000; i++) {
        p += sprintf(p, ";p%zu=1", i);
    }

    strcpy(p, "\r\n" END);
    assert_int_equal(parse(z), 0);

    p = z + sprintf(z, LINE FIVE "X: \"");

    for (i = 0; i < 10000; i++) {
        p += sprintf(p, "\\\x01\\\r\n ");
    }

    strcpy(p, "\"\r\n" END);
    n = strlen(z);
    steps = (uint64_t) clock();
    assert_int_equal(parse_n(z, n, IMS_SIP_WS), 0);
    assert_true((uint64_t) clock() - steps < CLOCKS_PER_SEC / 4);

    free(z);
}


static void
test_hdr_names(void **state)
{
    unsigned   id, i;
    uint8_t    up[64];
    ims_str_t  name;

    (void) state;

    for (id = 1; id < IMS_SIP_H_COUNT; id++) {
        name = ims_sip_hdr_name(id);
        assert_true(name.n > 1 && name.n < sizeof(up));
        assert_int_equal(ims_sip_hdr_id(name.p, name.n), id);

        for (i = 0; i < name.n; i++) {
            up[i] = (uint8_t) (name.p[i] >= 'a' && name.p[i] <= 'z'
                               ? name.p[i] - 32 : name.p[i]);
        }

        assert_int_equal(ims_sip_hdr_id(up, name.n), id);

        /* one byte other, one more, one less: another name */

        for (i = 0; i < name.n; i++) {
            up[i] ^= 0x03;
            assert_int_not_equal(ims_sip_hdr_id(up, name.n), id);
            up[i] ^= 0x03;
        }

        up[name.n] = 'x';
        assert_int_equal(ims_sip_hdr_id(up, name.n + 1), IMS_SIP_H_OTHER);

        /* "T" is "To" */
        assert_true(name.n == 2 || ims_sip_hdr_id(up, name.n - 1) != id);

        if (ims_sip_hdr_compact(id)) {
            up[0] = (uint8_t) ims_sip_hdr_compact(id);
            assert_int_equal(ims_sip_hdr_id(up, 1), id);
            up[0] -= 32;
            assert_int_equal(ims_sip_hdr_id(up, 1), id);
        }
    }

    /* each letter is that of the name that claims it, or nobody's */

    for (i = 0; i < 256; i++) {
        up[0] = (uint8_t) i;
        id = ims_sip_hdr_id(up, 1);

        if (id != IMS_SIP_H_OTHER) {
            assert_int_equal(ims_sip_hdr_compact(id), ims_lower(up[0]));
        }
    }

    assert_int_equal(ims_sip_hdr_id(NULL, 0), IMS_SIP_H_OTHER);
}


/* The table of character classes, derived once more. */

static void
test_chars(void **state)
{
    int       c;
    size_t    i;
    unsigned  cls;

#define AN    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
#define MARK  "-_.!~*'()"

    static const struct {
        unsigned     cls;
        const char  *chars;
    } classes[] = {
        { IMS_CH_TOKEN, AN "-.!%*_+`'~" },
        { IMS_CH_WORD, AN "-.!%*_+`'~()<>:\\\"/[]?{}" },
        { IMS_CH_UNRES, AN MARK },
        { IMS_CH_USER, AN MARK "&=+$,;?/" },
        { IMS_CH_PARAM, AN MARK "[]/:&+$" },
        { IMS_CH_HNV, AN MARK "[]/?:+$" },
        { IMS_CH_HOST, AN "-." },
        { IMS_CH_TEL, "0123456789abcdefABCDEF*#-.()+" },
        { IMS_CH_T68, AN "-._~+/" },
        { IMS_CH_DIGIT, "0123456789" },
        { IMS_CH_URI, AN MARK "#$%&+,/:;=?@[\\]^`{|}" },
    };

    (void) state;

    for (i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
        for (c = 0; c < 256; c++) {
            cls = ims_sip_chars[c] & classes[i].cls;
            assert_int_equal(cls != 0,
                             c != 0 && strchr(classes[i].chars, c) != NULL);
        }
    }

    for (c = 0; c < 256; c++) {
        assert_int_equal((ims_sip_chars[c] & IMS_CH_VALUE) != 0,
                         c > 0x20 && c != 0x7f
                         && (c >= 0x80 || strchr(";,\"<>\\", c) == NULL));
    }
}


static void
test_values(void **state)
{
    size_t            i;
    unsigned          n;
    int               rc;
    ims_str_t         v;
    ims_sip_values_t  it;

    static const struct {
        const char  *text;
        int          n;         /* values; -1: malformed behind them */
    } lists[] = {
        { "", 0 }, { "  ", 0 }, { "a", 1 }, { "a,b", 2 }, { " a , b ", 2 },
        { "<sip:a,b@x>,b", 2 }, { "\"a,b\" <sip:x>, b", 2 },
        { "\"a\\\",b\" <sip:x>", 1 }, { "<sip:x;a=\"b>,c", 2 },
        { ",", -1 }, { "a,", -1 }, { ",a", -1 }, { "a,,b", -1 },
        { "\"a", -1 }, { "<a", -1 }, { "a,\"b", -1 }, { "\"a\\", -1 },
    };

    (void) state;

    for (i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        ims_sip_values_text(&it, ims_str_z(lists[i].text));

        n = 0;

        while ((rc = ims_sip_value_next(&it, &v)) == 1) {
            n++;
        }

        if (rc == -1 ? lists[i].n != -1 : (int) n != lists[i].n) {
            fail_msg("%s: %d, %u values", lists[i].text, rc, n);
        }
    }

    assert_int_equal(parse(OPEN "Route: <sip:1>\r\nRoute:\r\n"
                           "ROUTE: <sip:2>, <sip:3>\r\nX: y\r\n"
                           "Route: <sip:4>\r\n" END), 0);

    ims_sip_values(&it, &msg, IMS_SIP_H_ROUTE);

    for (n = 1; n <= 4; n++) {
        assert_int_equal(ims_sip_value_next(&it, &v), 1);
        assert_int_equal(v.p[5], '0' + n);
        assert_int_equal(it.hdr, n == 1 ? 6 : n == 4 ? 10 : 8);
    }

    assert_int_equal(ims_sip_value_next(&it, &v), 0);
    assert_int_equal(ims_sip_value_first(&msg, IMS_SIP_H_ROUTE, &v), 2);
    assert_int_equal(ims_sip_value_first(&msg, IMS_SIP_H_PATH, &v), 0);
}


static void
test_params(void **state)
{
    uint32_t           d;
    ims_str_t          v;
    ims_sip_param_t    p;
    ims_sip_contact_t  c;

    (void) state;

    assert_int_equal(ims_sip_param_find(IMS_STR(";A=1;b;a = \"x;\\\"y\""),
                                        "a", &p), 2);
    assert_slice(p.value, "1");
    assert_slice(p.whole, ";A=1");
    assert_int_equal(ims_sip_param_find(IMS_STR(";A=1;b"), "b", &p), 1);
    assert_null(p.value.p);
    assert_int_equal(ims_sip_param_find(IMS_STR(";A=1;b"), "c", &p), 0);
    assert_null(p.name.p);
    assert_int_equal(ims_sip_param_find(IMS_STR(";A=1;;"), "A", &p), -1);
    assert_int_equal(ims_sip_param_find(IMS_STR("A=1"), "A", &p), -1);
    assert_int_equal(ims_sip_param_find(IMS_STR(";a=\"x"), "a", &p), -1);
    assert_int_equal(ims_sip_param_find(IMS_STR(";a=\"x\"y"), "a", &p), -1);

    assert_false(ims_sip_param(IMS_STR(";a;b=1"), "a", &v));
    assert_true(ims_sip_param(IMS_STR(";a;b=[::1]"), "B", &v));
    assert_slice(v, "[::1]");
    assert_slice(ims_sip_unquoted(IMS_STR("\"<urn:x>\"")), "<urn:x>");
    assert_slice(ims_sip_unquoted(IMS_STR("\"")), "\"");

    assert_true(ims_sip_contact_parse(
        IMS_STR("<sip:u@x.invalid;transport=ws>;+sip.ice;reg-id=1"
                ";+sip.instance=\"<urn:uuid:1-2>\";expires=600;q=0.5"), &c));
    assert_slice(c.instance.value, "\"<urn:uuid:1-2>\"");
    assert_slice(c.reg_id.value, "1");
    assert_slice(c.expires.value, "600");
    assert_slice(c.expires.whole, ";expires=600");
    assert_slice(c.q.value, "0.5");

    assert_true(ims_sip_contact_parse(IMS_STR("*"), &c));
    assert_true(c.star);
    assert_false(ims_sip_contact_parse(IMS_STR("*;expires=0"), &c));
    assert_false(ims_sip_contact_parse(
        IMS_STR("<sip:x>;expires=1;Expires=600000"), &c));
    assert_false(ims_sip_contact_parse(
        IMS_STR("<sip:x>;+sip.instance=\"a\";+SIP.INSTANCE=\"b\""), &c));
    assert_false(ims_sip_contact_parse(IMS_STR(""), &c));

    assert_true(ims_sip_delta(IMS_STR("600"), &d));
    assert_int_equal(d, 600);
    assert_true(ims_sip_delta(IMS_STR("4294967295"), &d));
    assert_false(ims_sip_delta(IMS_STR("4294967296"), &d));
    assert_false(ims_sip_delta(IMS_STR("\"600\""), &d));
    assert_false(ims_sip_delta(IMS_STR("abc"), &d));
    assert_false(ims_sip_delta(IMS_STR(""), &d));
    assert_false(ims_sip_delta(IMS_STR(" 1"), &d));
    assert_false(ims_sip_delta(IMS_STR("1.0"), &d));
}


static void
test_credentials(void **state)
{
    size_t     i;
    ims_str_t  t, scheme, params;

    static const struct {
        const char  *value;
        const char  *token;       /* NULL: refused */
    } bearer[] = {
        { "Bearer abc.def-_~+/==", "abc.def-_~+/==" },
        { "bEARER   abc", "abc" },
        { "Bearer access_token=\"abc.d\"", "abc.d" },
        { "bearer Access_Token = \"abc.d\" , realm=\"x\"", "abc.d" },
        { "Bearer realm=\"x\",access_token=abc.d", "abc.d" },
        { "Bearer", NULL },
        { "Bearer ", NULL },
        { "Bearer\"abc\"", NULL },
        { "Bearer abc def", NULL },
        { "Bearer abc,def", NULL },
        { "Bearer \"abc\"", NULL },
        { "Bearer a=b=c", NULL },
        { "Bearer access_token=\"\"", NULL },
        { "Bearer access_token=\"a b\"", NULL },
        { "Bearer access_token=\"a\\\"b\"", NULL },
        { "Bearer access_token=\"a", NULL },
        { "Bearer access_token=a,access_token=b", NULL },
        { "Bearer access_token=\"a\",ACCESS_TOKEN=\"b\"", NULL },
        { "Digest access_token=\"a\"", NULL },
        { "Bearerx abc", NULL },
        { "=", NULL },
        { "", NULL },
    };

    (void) state;

    for (i = 0; i < sizeof(bearer) / sizeof(bearer[0]); i++) {
        if (ims_sip_bearer(ims_str_z(bearer[i].value), &t)
            != (bearer[i].token != NULL))
        {
            fail_msg("%s", bearer[i].value);
        }

        if (bearer[i].token) {
            assert_slice(t, bearer[i].token);
        }
    }

    assert_true(ims_sip_auth_parse(
        IMS_STR("Digest username=\"a,b\", realm=x ,nonce=\"\\\"\""), &scheme,
        &params));
    assert_slice(scheme, "Digest");
    assert_int_equal(ims_sip_auth_param(params, "USERNAME", &t), 1);
    assert_slice(t, "\"a,b\"");
    assert_int_equal(ims_sip_auth_param(params, "realm", &t), 1);
    assert_slice(t, "x");
    assert_int_equal(ims_sip_auth_param(params, "opaque", &t), 0);
    assert_int_equal(ims_sip_auth_param(IMS_STR("a=b,a=c"), "a", &t), 2);
    assert_int_equal(ims_sip_auth_param(IMS_STR("a=b,"), "a", &t), -1);
    assert_int_equal(ims_sip_auth_param(IMS_STR("a=b c=d"), "a", &t), -1);
    assert_int_equal(ims_sip_auth_param(IMS_STR("a"), "a", &t), -1);
}


#define STREAM  LINE FIVE "Content-Length: 3\r\n" END "abc"

static void
test_frame(void **state)
{
    int       rc;
    char      z[1024];
    size_t    i, n, scanned, len;
    uint8_t  *part;

    static const struct {
        const char  *lines;
        int          rc;
    } heads[] = {
        { "l: 3\r\n", IMS_SIP_FRAME_OK },
        { "L : 3 \r\n", IMS_SIP_FRAME_OK },
        { "Content-Length:\r\n\t3\r\n \r\n", IMS_SIP_FRAME_OK },
        { "content-length: 0003\r\n", IMS_SIP_FRAME_OK },
        { "X: a\r\n l: 9\r\nl: 3\r\n", IMS_SIP_FRAME_OK },
        { "X: a\nl: 9\r\nl: 3\r\n", IMS_SIP_FRAME_OK },
        { "", IMS_SIP_FRAME_ERROR },
        { "X: a\r\n l: 3\r\n", IMS_SIP_FRAME_ERROR },
        { "l: 3\r\nl: 3\r\n", IMS_SIP_FRAME_ERROR },
        { "l: 3\r\nContent-Length: 4\r\n", IMS_SIP_FRAME_ERROR },
        { "l: +3\r\n", IMS_SIP_FRAME_ERROR },
        { "l: -3\r\n", IMS_SIP_FRAME_ERROR },
        { "l: 0x3\r\n", IMS_SIP_FRAME_ERROR },
        { "l: 3 3\r\n", IMS_SIP_FRAME_ERROR },
        { "l: 3\r\n 3\r\n", IMS_SIP_FRAME_ERROR },
        { "l: 3, 3\r\n", IMS_SIP_FRAME_ERROR },
        { "l:\r\n", IMS_SIP_FRAME_ERROR },
        { "l: 4294967296\r\n", IMS_SIP_FRAME_ERROR },
        { "l: 18446744073709551619\r\n", IMS_SIP_FRAME_ERROR },
        { "l\x01: 3\r\n", IMS_SIP_FRAME_ERROR },
        { "l: 4294967295\r\n", IMS_SIP_FRAME_TOO_BIG },
        { "l: 1000\r\n", IMS_SIP_FRAME_TOO_BIG },
        { "l: 4\r\n", IMS_SIP_FRAME_MORE },
    };

    (void) state;

    /* a byte a call, and only as many as were read */

    scanned = len = 0;

    for (i = 1; i < sizeof(STREAM) - 1; i++) {
        part = malloc(i);
        assert_non_null(part);
        memcpy(part, STREAM, i);
        rc = ims_sip_frame(part, i, 1024, &scanned, &len);
        free(part);
        assert_int_equal(rc, IMS_SIP_FRAME_MORE);
    }

    assert_int_equal(ims_sip_frame((const uint8_t *) STREAM "SIP", i + 3,
                                   1024, &scanned, &len), IMS_SIP_FRAME_OK);
    assert_int_equal(len, sizeof(STREAM) - 1);

    for (i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        n = (size_t) snprintf(z, sizeof(z), "%s%s%s%s", LINE FIVE,
                              heads[i].lines, END, "abc");
        scanned = len = 0;
        rc = ims_sip_frame((uint8_t *) z, n, 1024, &scanned, &len);

        if (rc != heads[i].rc) {
            fail_msg("%s: %d", heads[i].lines, rc);
        }

        if (rc == IMS_SIP_FRAME_OK) {
            assert_int_equal(len, n);
        }
    }

    static const struct {
        const char  *bytes;
        int          rc;
        size_t       len;
    } starts[] = {
        { "", IMS_SIP_FRAME_MORE, 0 },
        { "\r", IMS_SIP_FRAME_MORE, 0 },
        { "\r\n", IMS_SIP_FRAME_MORE, 0 },
        { "\r\n\r", IMS_SIP_FRAME_MORE, 0 },
        { "\r\n\r\n", IMS_SIP_FRAME_KEEPALIVE, 4 },
        { "\r\n\r\nREGISTER", IMS_SIP_FRAME_KEEPALIVE, 4 },
        { "\r\nREGISTER", IMS_SIP_FRAME_CRLF, 2 },
        { "\r\n\rx", IMS_SIP_FRAME_CRLF, 2 },
        { "\rx", IMS_SIP_FRAME_ERROR, 0 },
        { "\nx", IMS_SIP_FRAME_ERROR, 0 },
        { " x", IMS_SIP_FRAME_ERROR, 0 },
        { "\x16\x03\x01", IMS_SIP_FRAME_ERROR, 0 },
    };

    for (i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
        scanned = len = 0;
        rc = ims_sip_frame((const uint8_t *) starts[i].bytes,
                           strlen(starts[i].bytes), 1024, &scanned, &len);
        assert_int_equal(rc, starts[i].rc);
        assert_int_equal(len, starts[i].len);
    }

    /* no end of the headers within the limit */

    memset(z, 'a', sizeof(z));
    scanned = len = 0;
    assert_int_equal(ims_sip_frame((uint8_t *) z, 1023, 1024, &scanned, &len),
                     IMS_SIP_FRAME_MORE);
    assert_int_equal(ims_sip_frame((uint8_t *) z, 1024, 1024, &scanned, &len),
                     IMS_SIP_FRAME_TOO_BIG);
    assert_int_equal(len, 0);
}


/* one that is too big: how much of it there is, and what is left to answer */

static void
test_frame_too_big(void **state)
{
    size_t         n, scanned, len;
    uint8_t        big[256];
    ims_sip_err_t  why;
    ims_sip_msg_t  seen;

    static const char  text[] =
        "OPTIONS sip:a SIP/2.0\r\n"
        "Via: SIP/2.0/TCP a;branch=z9hG4bK1\r\n"
        "From: <sip:a>;tag=1\r\nTo: <sip:a>\r\nCall-ID: 1\r\n"
        "CSeq: 1 OPTIONS\r\nContent-Length:\r\n 5000 \r\n\r\n";

    (void) state;

    n = sizeof(text) - 1;
    memcpy(big, text, n);
    memset(big + n, 'x', 10);

    scanned = len = 0;
    assert_int_equal(ims_sip_frame(big, n - 1, 1024, &scanned, &len),
                     IMS_SIP_FRAME_MORE);
    assert_int_equal(ims_sip_frame_bodiless(big, n - 1), 0);
    assert_int_equal(ims_sip_frame(big, n + 10, 1024, &scanned, &len),
                     IMS_SIP_FRAME_TOO_BIG);
    assert_int_equal(len, n + 5000);

    assert_int_equal(ims_sip_frame_bodiless(big, n + 10), n);
    assert_non_null(memmem(big, n, "Content-Length:\r\n 0000 \r\n", 24));
    assert_int_equal(ims_sip_parse(&seen, big, n, IMS_SIP_STREAM, &why), 0);
    assert_int_equal(seen.body.n, 0);
}


static void
test_reply(void **state)
{
    ptrdiff_t        n;
    ims_sip_reply_t  r;

    (void) state;

    assert_int_equal(parse(LINE
        "v: SIP/2.0/WSS x.invalid;rport;branch=z9hG4bK1;received=9.9.9.9 , "
        "SIP/2.0/TCP y\r\n"
        FROM "t: \"T\" <sip:a@ims.example>\r\n"
        "Via: SIP/2.0/UDP z\r\n" CALL CSEQ "X: y\r\n" END), 0);

    memset(&r, 0, sizeof(r));
    r.status = 401;
    r.reason = "Unauthorized";
    r.to_tag = IMS_STR("tt");
    r.received = IMS_STR("192.0.2.1");
    r.rport = 4711;
    r.extra = IMS_STR("WWW-Authenticate: Bearer realm=\"x\"\r\n");
    r.body = IMS_STR("abc");

    n = ims_sip_reply(out, sizeof(out), &msg, &r);

    assert_slice(ims_str_set(out, (size_t) n),
        "SIP/2.0 401 Unauthorized\r\n"
        "Via: SIP/2.0/WSS x.invalid;branch=z9hG4bK1;received=192.0.2.1"
        ";rport=4711 , SIP/2.0/TCP y\r\n"
        "Via: SIP/2.0/UDP z\r\n"
        "From: <sip:a@ims.example>;tag=t1\r\n"
        "To: \"T\" <sip:a@ims.example>;tag=tt\r\n"
        "Call-ID: c1\r\n"
        "CSeq: 1 REGISTER\r\n"
        "WWW-Authenticate: Bearer realm=\"x\"\r\n"
        "Content-Length: 3\r\n"
        "\r\nabc");

    /* what we write we can read */

    assert_int_equal(ims_sip_parse(&msg, out, (size_t) n, IMS_SIP_STREAM,
                                   &err), 0);
    assert_slice(msg.to_tag, "tt");
    assert_slice(msg.via.received.value, "192.0.2.1");

    /* a To tag stays; 100 has none; no rport unless asked for */

    assert_int_equal(parse("OPTIONS sip:x SIP/2.0\r\n"
        "Via: SIP/2.0/WSS x.invalid\r\n" FROM
        "To: <sip:b@x>;tag=old\r\n" CALL "CSeq: 2 OPTIONS\r\n" END), 0);

    memset(&r, 0, sizeof(r));
    r.status = 200;
    r.reason = "OK";
    r.to_tag = IMS_STR("tt");
    r.received = IMS_STR("192.0.2.1");

    n = ims_sip_reply(out, sizeof(out), &msg, &r);

    assert_slice(ims_str_set(out, (size_t) n),
        "SIP/2.0 200 OK\r\n"
        "Via: SIP/2.0/WSS x.invalid;received=192.0.2.1\r\n"
        FROM "To: <sip:b@x>;tag=old\r\n" CALL "CSeq: 2 OPTIONS\r\n"
        "Content-Length: 0\r\n\r\n");

    assert_int_equal(ims_sip_reply(out, (size_t) n - 1, &msg, &r), -1);
    assert_int_equal(ims_sip_reply(out, (size_t) n, &msg, &r), n);

    assert_int_equal(parse(OPEN END), 0);
    r.status = 100;
    n = ims_sip_reply(out, sizeof(out), &msg, &r);
    assert_null(memmem(out, (size_t) n, "tag=tt", 6));

    /* a message that was refused for its first line is answered as well */

    refused("REGISTER sip:x SIP/7.0\r\n" FIVE END, 505,
            "Version Not Supported");
    assert_true(err.answerable);
    r.status = err.status;
    r.reason = err.reason;
    n = ims_sip_reply(out, sizeof(out), &msg, &r);
    assert_true(n > 0);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_repeated),
        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_start_lines),
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_much),
        cmocka_unit_test(test_hdr_names),
        cmocka_unit_test(test_chars),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_params),
        cmocka_unit_test(test_credentials),
        cmocka_unit_test(test_frame),
        cmocka_unit_test(test_frame_too_big),
        cmocka_unit_test(test_reply),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
