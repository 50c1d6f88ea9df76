/*
 * Copyright (C) nginx-ims contributors
 *
 * The rules of the proxy: who is asserted, what must be repeated, which Route
 * is ours, and the messages of its own.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "flow/ims_flow_key.h"
#include "proxy/ims_proxy.h"


#define KEY  "7 00112233445566778899aabbccddeeff"                             \
             "00112233445566778899aabbccddeeff\n"

#define HEAD                                                                  \
    "INVITE sip:bob@ims.example SIP/2.0\r\n"                                  \
    "Via: SIP/2.0/WS a.invalid;branch=z9hG4bKtop\r\n"                         \
    "Max-Forwards: 69\r\n"                                                    \
    "To: <sip:bob@ims.example>\r\n"                                           \
    "From: <sip:web-1@ims.example>;tag=f1\r\n"                                \
    "Call-ID: call-1\r\n"                                                     \
    "CSeq: 7 INVITE\r\n"

#define TAIL  "Content-Length: 0\r\n\r\n"


static uint8_t          buf[16384];
static ims_sip_msg_t    msg;
static ims_sip_err_t    err;
static ims_flow_data_t  data;

static const ims_flow_id_t  id = { 1, 77, 0xdeadbeef };


static const ims_sip_msg_t *
message(const char *more)
{
    int  n;

    n = snprintf((char *) buf, sizeof(buf), HEAD "%s" TAIL, more);
    assert_int_equal(ims_sip_parse(&msg, buf, (size_t) n, IMS_SIP_STREAM,
                                   &err),
                     0);

    return &msg;
}


static void
set_of(const ims_flow_ident_t *ids, unsigned n)
{
    memset(&data, 0, sizeof(data));

    assert_int_equal(ims_flow_set_texts(&data, IMS_STR("ims.example"),
                                        IMS_STR("web-1@ims.example"),
                                        IMS_STR("sip:c@a.invalid")),
                     IMS_FLOW_OK);
    assert_int_equal(ims_flow_set_identities(&data, ids, n), IMS_FLOW_OK);
}


static ims_flow_ident_t
ident(const char *uri, uint16_t position)
{
    ims_flow_ident_t  i;

    memset(&i, 0, sizeof(i));
    i.uri = ims_str_z(uri);
    i.position = position;
    i.until_pt = 1000;

    return i;
}


static void
assert_text(ims_str_t s, const char *expected)
{
    char  text[512];

    assert_true(s.n < sizeof(text));
    memcpy(text, s.n ? (const char *) s.p : "", s.n);
    text[s.n] = '\0';

    assert_string_equal(text, expected);
}


static void
two_identities(void)
{
    ims_flow_ident_t  ids[3];

    /* neither in their order, nor all of them to be asserted */

    ids[0] = ident("tel:+4930123", 1);
    ids[1] = ident("sip:barred@ims.example", IMS_FLOW_NOT_ASSERTABLE);
    ids[2] = ident("sip:web-1@ims.example", 0);

    set_of(ids, 3);
}


static void
identity_is_the_default_or_the_preferred(void **state)
{
    size_t  i;

    static const struct {
        const char  *more, *expected;
    } t[] = {
        { "", "sip:web-1@ims.example" },
        { "P-Preferred-Identity: <tel:+4930123>\r\n", "tel:+4930123" },
        { "P-Preferred-Identity: \"Me\" <tel:+49-30-123>\r\n",
          "tel:+4930123" },
        { "P-Preferred-Identity: <SIP:web-1@IMS.example>\r\n",
          "sip:web-1@ims.example" },
        { "P-Preferred-Identity: <sip:evil@ims.example>, <tel:+4930123>\r\n",
          "tel:+4930123" },
        { "P-Preferred-Identity: <sip:evil@ims.example>\r\n"
          "P-Preferred-Identity: <tel:+4930123>\r\n", "tel:+4930123" },
        { "P-Preferred-Identity: <sip:evil@ims.example>\r\n",
          "sip:web-1@ims.example" },
        { "P-Preferred-Identity: <sip:barred@ims.example>\r\n",
          "sip:web-1@ims.example" },
        { "P-Preferred-Identity: <sip:WEB-1@ims.example>\r\n",
          "sip:web-1@ims.example" },
        { "P-Preferred-Identity: <>\r\n", "sip:web-1@ims.example" },
        { "P-Asserted-Identity: <tel:+4930123>\r\n",
          "sip:web-1@ims.example" },
    };

    (void) state;
    two_identities();

    for (i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        assert_text(ims_proxy_asserted(&data, message(t[i].more)),
                    t[i].expected);
    }
}


static void
identity_is_the_stored_text(void **state)
{
    ims_str_t             s;
    const ims_sip_msg_t  *m;

    (void) state;
    two_identities();

    m = message("P-Preferred-Identity: <tel:+4930123>\r\n");
    s = ims_proxy_asserted(&data, m);

    assert_true(s.p >= data.area && s.p < data.area + sizeof(data.area));
}


static void
identity_of_nobody(void **state)
{
    ims_flow_ident_t  ids[1];

    (void) state;

    ids[0] = ident("sip:barred@ims.example", IMS_FLOW_NOT_ASSERTABLE);
    set_of(ids, 1);
    assert_int_equal(ims_proxy_asserted(&data, message("")).n, 0);
    assert_int_equal(ims_proxy_called(&data,
                         IMS_STR("sip:barred@ims.example")).n, 0);

    set_of(ids, 0);
    assert_int_equal(ims_proxy_asserted(&data, message("")).n, 0);
}


static void
identity_called(void **state)
{
    (void) state;
    two_identities();

    assert_text(ims_proxy_called(&data, IMS_STR("tel:+4930123")),
                "tel:+4930123");
    assert_text(ims_proxy_called(&data, IMS_STR("sip:x@y")),
                "sip:web-1@ims.example");
    assert_text(ims_proxy_called(&data, IMS_STR_NULL),
                "sip:web-1@ims.example");
}


static void
routes_of_all_lines(void **state)
{
    ims_proxy_routes_t  r;

    (void) state;

    assert_true(ims_proxy_routes(message(""), IMS_SIP_H_ROUTE, &r));
    assert_int_equal(r.n, 0);

    assert_true(ims_proxy_routes(message(
        "Route: <sip:a@h;lr>;x=\"1,2\" , \"A, B\" <sip:b@h>\r\n"
        "Route: <sip:c@h>\r\n"), IMS_SIP_H_ROUTE, &r));
    assert_int_equal(r.n, 3);
    assert_text(r.uri[0], "sip:a@h;lr");
    assert_text(r.uri[1], "sip:b@h");
    assert_text(r.uri[2], "sip:c@h");
    assert_text(r.value[0], "<sip:a@h;lr>;x=\"1,2\"");
    assert_int_not_equal(r.hdr[0], r.hdr[2]);

    assert_false(ims_proxy_routes(message("Route: sip:a@h;lr\r\n"),
                                  IMS_SIP_H_ROUTE, &r));
}


static void
routes_too_many(void **state)
{
    int                 i;
    size_t              n;
    char                text[2048];
    ims_proxy_routes_t  r;

    (void) state;

    n = 0;
    for (i = 0; i < IMS_PROXY_ROUTES; i++) {
        n += (size_t) sprintf(text + n, "Route: <sip:r%d@h;lr>\r\n", i);
    }

    assert_true(ims_proxy_routes(message(text), IMS_SIP_H_ROUTE, &r));
    assert_int_equal(r.n, IMS_PROXY_ROUTES);

    (void) sprintf(text + n, "Route: <sip:more@h;lr>\r\n");
    assert_false(ims_proxy_routes(message(text), IMS_SIP_H_ROUTE, &r));
}


static void
route_parts(void **state)
{
    (void) state;

    assert_true(ims_proxy_loose(IMS_STR("sip:a@h;lr")));
    assert_true(ims_proxy_loose(IMS_STR("sip:h;transport=tcp;LR=on")));
    assert_false(ims_proxy_loose(IMS_STR("sip:a@h")));
    assert_false(ims_proxy_loose(IMS_STR("sip:lr@lr;lrx")));
    assert_false(ims_proxy_loose(IMS_STR("")));

    assert_text(ims_proxy_user(IMS_STR("sip:tok@h:1;lr")), "tok");
    assert_text(ims_proxy_user(IMS_STR("sips:tok@h")), "tok");
    assert_null(ims_proxy_user(IMS_STR("sip:h;lr")).p);
    assert_null(ims_proxy_user(IMS_STR("tel:+4930")).p);
    assert_null(ims_proxy_user(IMS_STR("")).p);
}


static int
ours(const uint8_t *token, size_t n, const char *call_id)
{
    char                 text[256];
    ims_flow_keys_t      keys;
    ims_proxy_routes_t   r;

    (void) snprintf(text, sizeof(text),
                    "Record-Route: <sip:far@h;lr>, <sip:%.*s@h:1;lr>\r\n",
                    (int) n, (const char *) token);

    assert_true(ims_flow_keys_parse(&keys, ims_str_z(KEY)));
    assert_true(ims_proxy_routes(message(text), IMS_SIP_H_RECORD_ROUTE, &r));

    return ims_proxy_our_route(&r, &keys, &id, ims_str_z(call_id));
}


static void
route_of_ours(void **state)
{
    size_t           n;
    uint8_t          token[IMS_FLOW_TOKEN_MAX];
    ims_flow_id_t    other;
    ims_flow_keys_t  keys;

    (void) state;

    assert_true(ims_flow_keys_parse(&keys, ims_str_z(KEY)));

    n = ims_flow_token_rr(&keys, &id, IMS_STR("call-1"), token);
    assert_int_equal(ours(token, n, "call-1"), 1);
    assert_int_equal(ours(token, n, "call-2"), -1);

    /* of another flow, of another life of the slot, altered, for Path */

    other = id;
    other.slot++;
    n = ims_flow_token_rr(&keys, &other, IMS_STR("call-1"), token);
    assert_int_equal(ours(token, n, "call-1"), -1);

    other = id;
    other.generation++;
    n = ims_flow_token_rr(&keys, &other, IMS_STR("call-1"), token);
    assert_int_equal(ours(token, n, "call-1"), -1);

    n = ims_flow_token_rr(&keys, &id, IMS_STR("call-1"), token);
    token[n / 2] = token[n / 2] == 'A' ? 'B' : 'A';
    assert_int_equal(ours(token, n, "call-1"), -1);

    n = ims_flow_token_path(&keys, &id, token);
    assert_int_equal(ours(token, n, "call-1"), -1);
}


/* of a call to oneself: both values are ours, the caller's is the last */

static void
route_of_ours_twice(void **state)
{
    size_t              n;
    char                text[512];
    uint8_t             token[IMS_FLOW_TOKEN_MAX];
    ims_flow_keys_t     keys;
    ims_proxy_routes_t  r;

    (void) state;

    assert_true(ims_flow_keys_parse(&keys, ims_str_z(KEY)));

    n = ims_flow_token_rr(&keys, &id, IMS_STR("call-1"), token);

    (void) snprintf(text, sizeof(text),
                    "Record-Route: <sip:%.*s@h:1;lr>, <sip:far@h;lr>, "
                    "<sip:%.*s@h:1;lr>\r\n",
                    (int) n, (const char *) token,
                    (int) n, (const char *) token);

    assert_true(ims_proxy_routes(message(text), IMS_SIP_H_RECORD_ROUTE, &r));
    assert_int_equal(ims_proxy_our_route(&r, &keys, &id, IMS_STR("call-1")),
                     2);
    assert_true(ims_proxy_is_ours(r.uri[0], &keys, &id, IMS_STR("call-1")));
    assert_false(ims_proxy_is_ours(r.uri[1], &keys, &id, IMS_STR("call-1")));
    assert_false(ims_proxy_is_ours(r.uri[0], &keys, &id, IMS_STR("call-2")));
}


typedef struct {
    uint8_t  via[16];
    uint8_t  rr[16];
} hashes_t;


static hashes_t
hashes(const char *more, unsigned skip_via, unsigned skip_rr)
{
    hashes_t  h;

    assert_true(ims_proxy_hashes(message(more), skip_via, skip_rr, h.via,
                                 h.rr));
    return h;
}


static bool
same(const char *a, const char *b)
{
    hashes_t  x, y;

    x = hashes(a, 1, 0);
    y = hashes(b, 1, 0);

    return memcmp(&x, &y, sizeof(x)) == 0;
}


#define VIA_1  "SIP/2.0/TCP h1:5060;branch=z9hG4bK1"
#define VIA_2  "SIP/2.0/UDP h2;branch=z9hG4bK2;received=10.0.0.1"

static void
hashes_do_not_see_the_form(void **state)
{
    static const char  plain[] = "Via: " VIA_1 "\r\nVia: " VIA_2 "\r\n"
                                 "Record-Route: <sip:a@h;lr>\r\n"
                                 "Record-Route: <sip:b@h;lr>\r\n";

    (void) state;

    assert_true(same(plain, "Via: " VIA_1 ", " VIA_2 "\r\n"
                            "Record-Route: <sip:a@h;lr>,<sip:b@h;lr>\r\n"));
    assert_true(same(plain, "v: " VIA_1 " ,\t" VIA_2 "\r\n"
                            "record-route: <sip:a@h;lr> , <sip:b@h;lr>\r\n"));
    assert_true(same(plain, "v:" VIA_1 ",\r\n  " VIA_2 "\r\n"
                            "Record-Route: <sip:a@h;lr>,\r\n"
                            "\t<sip:b@h;lr>\r\n"));
    assert_true(same(plain, "Record-Route: <sip:a@h;lr>\r\n"
                            "VIA : " VIA_1 "\r\n"
                            "Record-Route: <sip:b@h;lr>\r\n"
                            "v: " VIA_2 "\r\n"));
}


static void
hashes_see_every_change(void **state)
{
    size_t  i;

    static const char  plain[] = "Via: " VIA_1 "\r\nVia: " VIA_2 "\r\n"
                                 "Record-Route: <sip:a@h;lr>\r\n"
                                 "Record-Route: <sip:b@h;lr>\r\n";

    static const char  *other[] = {
        "Via: " VIA_2 ", " VIA_1 "\r\n"
        "Record-Route: <sip:a@h;lr>,<sip:b@h;lr>\r\n",
        "Via: " VIA_1 "\r\n"
        "Record-Route: <sip:a@h;lr>,<sip:b@h;lr>\r\n",
        "Via: " VIA_1 ", " VIA_2 ", " VIA_2 "\r\n"
        "Record-Route: <sip:a@h;lr>,<sip:b@h;lr>\r\n",
        "Via: " VIA_1 ", " VIA_2 "\r\n"
        "Record-Route: <sip:b@h;lr>,<sip:a@h;lr>\r\n",
        "Via: " VIA_1 ", " VIA_2 "\r\nRecord-Route: <sip:a@h;lr>\r\n",
        "Via: " VIA_1 ", " VIA_2 "\r\n",
        "Via: " VIA_1 ", " VIA_2 "\r\n"
        "Record-Route: <sip:a@h;lr>,<sip:b@h>\r\n",
        "Via: " VIA_1 ", " VIA_2 ";rport\r\n"
        "Record-Route: <sip:a@h;lr>,<sip:b@h;lr>\r\n",
    };

    (void) state;

    for (i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
        assert_false(same(plain, other[i]));
    }

    /* one value is not two that look like it */

    assert_false(same("Record-Route: <sip:a@h;lr>,<sip:b@h;lr>\r\n",
                      "Record-Route: <sip:a@h;lr>;x=\",<sip:b@h;lr>\"\r\n"));
}


static void
hashes_skip(void **state)
{
    hashes_t  request, response;

    (void) state;

    /* as a terminating request goes out, and its response comes back */

    request = hashes("Via: " VIA_1 "\r\nRecord-Route: <sip:b@h;lr>\r\n", 0, 0);
    (void) snprintf((char *) buf, sizeof(buf),
        "SIP/2.0 200 OK\r\n"
        "Via: SIP/2.0/WS e:1;branch=z9hG4bKours\r\n"
        "Via: SIP/2.0/WS a.invalid;branch=z9hG4bKtop, " VIA_1 "\r\n"
        "Record-Route: <sip:ours@e;lr>, <sip:b@h;lr>\r\n"
        "To: <sip:bob@ims.example>;tag=t\r\n"
        "From: <sip:web-1@ims.example>;tag=f1\r\n"
        "Call-ID: call-1\r\nCSeq: 7 INVITE\r\n" TAIL);
    assert_int_equal(ims_sip_parse(&msg, buf, strlen((char *) buf),
                                   IMS_SIP_STREAM, &err), 0);
    assert_true(ims_proxy_hashes(&msg, 1, 1, response.via, response.rr));
    assert_memory_equal(&request, &response, sizeof(request));
}


static void
hashes_of_too_many(void **state)
{
    int       i;
    size_t    n;
    char      text[4096];
    hashes_t  h;

    (void) state;

    n = 0;
    for (i = 0; i < 70; i++) {
        n += (size_t) sprintf(text + n, "Record-Route: <sip:r%d@h;lr>\r\n",
                              i);
    }

    assert_false(ims_proxy_hashes(message(text), 0, 0, h.via, h.rr));
}


static void
hop_messages(void **state)
{
    ptrdiff_t             n;
    uint8_t               out[2048];
    const ims_sip_msg_t  *m;

    static const char  expected[] =
        "CANCEL sip:bob@ims.example SIP/2.0\r\n"
        "Via: SIP/2.0/WS a.invalid;branch=z9hG4bKtop\r\n"
        "Route: <sip:a@h;lr>\r\n"
        "Route: <sip:b@h;lr>,<sip:c@h>\r\n"
        "Max-Forwards: 70\r\n"
        "From: <sip:web-1@ims.example>;tag=f1\r\n"
        "To: <sip:bob@ims.example>;tag=far\r\n"
        "Call-ID: call-1\r\n"
        "CSeq: 7 CANCEL\r\n"
        "Content-Length: 0\r\n\r\n";

    (void) state;

    m = message("Via: " VIA_1 "\r\nRoute: <sip:a@h;lr>\r\n"
                "Route: <sip:b@h;lr>,<sip:c@h>\r\n"
                "Require: 100rel\r\nP-Asserted-Identity: <sip:x@y>\r\n");

    n = ims_proxy_hop(out, sizeof(out), m, IMS_STR("CANCEL"),
                      IMS_STR("<sip:bob@ims.example>;tag=far"), IMS_STR_NULL);

    assert_int_equal(n, sizeof(expected) - 1);
    assert_memory_equal(out, expected, (size_t) n);

    /* it fits, or it is none */

    assert_int_equal(ims_proxy_hop(out, (size_t) n, m, IMS_STR("CANCEL"),
                         IMS_STR("<sip:bob@ims.example>;tag=far"),
                         IMS_STR_NULL), n);
    assert_int_equal(ims_proxy_hop(out, (size_t) n - 1, m, IMS_STR("CANCEL"),
                         IMS_STR("<sip:bob@ims.example>;tag=far"),
                         IMS_STR_NULL), -1);
    assert_int_equal(ims_proxy_hop(out, 0, m, IMS_STR("ACK"),
                         IMS_STR("<sip:bob@ims.example>"),
                         IMS_STR_NULL), -1);

    /* why it is cancelled */

    n = ims_proxy_hop(out, sizeof(out), m, IMS_STR("CANCEL"),
                      IMS_STR("<sip:bob@ims.example>"),
                      IMS_STR("SIP;cause=200"));
    assert_true(n > 0);
    assert_non_null(strstr((char *) out, "CSeq: 7 CANCEL\r\n"
                           "Reason: SIP;cause=200\r\nContent-Length: 0"));
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(identity_is_the_default_or_the_preferred),
        cmocka_unit_test(identity_is_the_stored_text),
        cmocka_unit_test(identity_of_nobody),
        cmocka_unit_test(identity_called),
        cmocka_unit_test(routes_of_all_lines),
        cmocka_unit_test(routes_too_many),
        cmocka_unit_test(route_parts),
        cmocka_unit_test(route_of_ours),
        cmocka_unit_test(route_of_ours_twice),
        cmocka_unit_test(hashes_do_not_see_the_form),
        cmocka_unit_test(hashes_see_every_change),
        cmocka_unit_test(hashes_skip),
        cmocka_unit_test(hashes_of_too_many),
        cmocka_unit_test(hop_messages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
