/*
 * Copyright (C) nginx-ims contributors
 *
 * The 49 messages of RFC 4475, each as one WebSocket message: what the parser
 * says of it, and for those that it takes, that the message comes out of the
 * editor with the same headers in the same order and the same meaning.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "sip/ims_sip.h"
#include "sip/ims_sip_edit.h"


#define MAX  16384

typedef struct {
    const char  *name;
    unsigned     status;       /* 0: taken */
    const char  *reason;
    bool         answerable;
} torture_t;


static const torture_t  messages[] = {

    /* 3.1.1 valid */
    { "wsinv", 0, NULL, false },
    { "intmeth", 0, NULL, false },
    { "esc01", 0, NULL, false },
    { "escnull", 0, NULL, false },
    { "esc02", 0, NULL, false },
    { "lwsdisp", 0, NULL, false },
    { "longreq", 0, NULL, false },
    { "dblreq", 400, "Content-Length does not match the body", true },
    { "semiuri", 0, NULL, false },
    { "transports", 0, NULL, false },
    { "mpart01", 0, NULL, false },
    { "unreason", 0, NULL, false },
    { "noreason", 0, NULL, false },

    /* 3.1.2 invalid */
    { "badinv01", 400, "Malformed Via header", true },
    { "clerr", 400, "Content-Length does not match the body", true },
    { "ncl", 400, "Malformed Content-Length header", true },
    { "scalar02", 400, "Malformed CSeq header", true },
    { "scalarlg", 400, "Malformed CSeq header", false },
    { "quotbal", 400, "Malformed To header", true },
    { "ltgtruri", 400, "Malformed Request-URI", true },
    { "lwsruri", 400, "Malformed Request-Line", true },
    { "lwsstart", 400, "Malformed Request-Line", true },
    { "trws", 400, "Malformed Request-Line", true },
    { "escruri", 400, "Malformed Request-URI", true },
    { "baddate", 0, NULL, false },
    { "regbadct", 0, NULL, false },
    { "badaspec", 400, "Malformed To header", true },
    { "baddn", 400, "Malformed From header", true },
    { "badvers", 505, "Version Not Supported", true },
    { "mismatch01", 400, "CSeq method does not match the request", true },
    { "mismatch02", 400, "CSeq method does not match the request", true },
    { "bigcode", 400, "Malformed Status-Line", false },

    /* 3.2, 3.3, 3.4 */
    { "badbranch", 0, NULL, false },
    { "insuf", 400, "Missing From header", true },
    { "unkscm", 0, NULL, false },
    { "novelsc", 0, NULL, false },
    { "unksm2", 0, NULL, false },
    { "bext01", 0, NULL, false },
    { "invut", 0, NULL, false },
    { "regaut01", 0, NULL, false },
    { "multi01", 400, "Repeated CSeq header", true },
    { "mcl01", 400, "Repeated Content-Length header", true },
    { "bcast", 0, NULL, false },
    { "zeromf", 0, NULL, false },
    { "cparam01", 0, NULL, false },
    { "cparam02", 0, NULL, false },
    { "regescrt", 0, NULL, false },
    { "sdp01", 0, NULL, false },
    { "inv2543", 0, NULL, false }
};

#define NMESSAGES  (sizeof(messages) / sizeof(messages[0]))


static uint8_t         buf[MAX], again[MAX], scratch[MAX], out[MAX];
static ims_sip_msg_t   msg, msg2;
static ims_sip_edit_t  ed;
static ims_sip_err_t   err;


static size_t
load(const char *name)
{
    char    path[512];
    FILE   *f;
    size_t  n;

    const char  *src = getenv("IMS_SRC");

    snprintf(path, sizeof(path), "%s/t/torture/rfc4475/%s.dat",
             src ? src : ".", name);

    f = fopen(path, "rb");

    if (f == NULL) {
        fail_msg("%s: not found", path);
        return 0;
    }

    n = fread(buf, 1, sizeof(buf), f);
    fclose(f);

    return n;
}


static void
take(const char *name)
{
    size_t  n;

    n = load(name);

    if (ims_sip_parse(&msg, buf, n, IMS_SIP_WS, &err) != 0) {
        fail_msg("%s: %s", name, err.reason);
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
test_verdicts(void **state)
{
    int              rc;
    size_t           i, n;
    ptrdiff_t        len;
    ims_sip_reply_t  r;

    (void) state;

    assert_int_equal(NMESSAGES, 49);

    for (i = 0; i < NMESSAGES; i++) {
        n = load(messages[i].name);
        rc = ims_sip_parse(&msg, buf, n, IMS_SIP_WS, &err);

        if ((rc == 0) != (messages[i].status == 0)) {
            fail_msg("%s: %s", messages[i].name, rc ? err.reason : "taken");
        }

        if (rc == 0) {
            continue;
        }

        if (strcmp(err.reason, messages[i].reason) != 0) {
            fail_msg("%s: \"%s\", not \"%s\"", messages[i].name, err.reason,
                     messages[i].reason);
        }

        assert_int_equal(err.status, messages[i].status);

        if (err.answerable != messages[i].answerable) {
            fail_msg("%s: answerable", messages[i].name);
        }

        if (!err.answerable) {
            continue;
        }

        memset(&r, 0, sizeof(r));
        r.status = err.status;
        r.reason = err.reason;
        r.to_tag = IMS_STR("ours");

        len = ims_sip_reply(out, sizeof(out), &msg, &r);

        if (len <= 0) {
            fail_msg("%s: no answer", messages[i].name);
        }
    }
}


/* Everything but the editor's Content-Length comes out as it went in. */

static void
test_round_trip(void **state)
{
    size_t     i, n;
    unsigned   j, k;
    ptrdiff_t  len;

    (void) state;

    for (i = 0; i < NMESSAGES; i++) {

        if (messages[i].status != 0) {
            continue;
        }

        n = load(messages[i].name);
        assert_int_equal(ims_sip_parse(&msg, buf, n, IMS_SIP_WS, &err), 0);

        ims_sip_edit_init(&ed, &msg, scratch, sizeof(scratch));
        len = ims_sip_edit_flatten(&ed, again, sizeof(again));
        assert_true(len > 0);
        assert_int_equal((size_t) len, ed.total);

        if (ims_sip_parse(&msg2, again, (size_t) len, IMS_SIP_STREAM, &err)
            != 0)
        {
            fail_msg("%s again: %s", messages[i].name, err.reason);
        }

        assert_true(ims_str_eq(msg.start, msg2.start));
        assert_true(ims_str_eq(msg.body, msg2.body));
        assert_true(ims_str_eq(msg.method, msg2.method));
        assert_int_equal(msg.cseq, msg2.cseq);
        assert_int_equal(msg2.count[IMS_SIP_H_CONTENT_LENGTH], 1);
        assert_int_equal(msg2.hdr[msg2.nhdr - 1].id,
                         IMS_SIP_H_CONTENT_LENGTH);

        for (j = 0, k = 0; j < msg.nhdr; j++) {

            if (msg.hdr[j].id == IMS_SIP_H_CONTENT_LENGTH) {
                continue;
            }

            assert_true(ims_str_eq(msg.hdr[j].line, msg2.hdr[k].line));
            k++;
        }

        assert_int_equal(k, msg2.nhdr - 1);
    }
}


static void
test_wsinv(void **state)
{
    ims_str_t          v;
    ims_sip_via_t      via;
    ims_sip_contact_t  c;
    ims_sip_values_t   it;

    (void) state;

    take("wsinv");

    assert_slice(msg.to_tag, "1918181833n");
    assert_slice(msg.from_tag, "98asjd8");
    assert_slice(msg.from.display, "\"J Rosenberg \\\\\\\"\"");
    assert_int_equal(msg.max_forwards, 68);
    assert_int_equal(msg.cseq, 9);
    assert_slice(ims_sip_hdr_value(&msg, IMS_SIP_H_SUBJECT), "");

    /* one line of one value, one line of two */

    ims_sip_values(&it, &msg, IMS_SIP_H_VIA);

    assert_int_equal(ims_sip_value_next(&it, &v), 1);
    assert_true(ims_sip_via_parse(v, &via));
    assert_slice(via.transport, "UDP");
    assert_slice(via.host, "192.0.2.2");
    assert_slice(via.branch.value, "390skdjuw");
    assert_false(ims_sip_branch_ok(via.branch.value));

    assert_int_equal(ims_sip_value_next(&it, &v), 1);
    assert_true(ims_sip_via_parse(v, &via));
    assert_slice(via.transport, "TCP");
    assert_slice(via.host, "spindle.example.com");
    assert_slice(via.branch.value, "z9hG4bK9ikj8");
    assert_true(ims_sip_branch_ok(via.branch.value));

    assert_int_equal(ims_sip_value_next(&it, &v), 1);
    assert_true(ims_sip_via_parse(v, &via));
    assert_slice(via.host, "192.168.255.111");
    assert_slice(via.branch.value, "z9hG4bK30239");

    assert_int_equal(ims_sip_value_next(&it, &v), 0);

    assert_int_equal(ims_sip_value_first(&msg, IMS_SIP_H_CONTACT, &v), 1);
    assert_true(ims_sip_contact_parse(v, &c));
    assert_slice(c.addr.uri, "sip:jdrosen@example.com");
    assert_slice(c.q.value, "0.33");

    assert_int_equal(ims_sip_value_first(&msg, IMS_SIP_H_ROUTE, &v), 1);
    assert_slice(v, "<sip:services.example.com;lr;unknownwith=value;"
                    "unknown-no-value>");

    /* no line is folded any more, no space stands in front of a colon */

    assert_int_equal(msg.hdr[0].line.p[2], ':');
    assert_null(memmem(msg.raw.p, msg.raw.n, "\r\n ", 3));
}


static void
test_values(void **state)
{
    ims_str_t          v, scheme, params;
    ims_sip_addr_t     a;
    ims_sip_contact_t  c;
    ims_sip_uri_t      u;

    (void) state;

    take("intmeth");
    assert_int_equal(msg.method_id, IMS_SIP_M_OTHER);
    assert_int_equal(msg.max_forwards, 255);
    assert_slice(msg.ruri.password,
                 "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)");
    assert_slice(msg.from_tag, "_token~1'+`*%!-.");
    assert_int_equal(msg.from.display.n, 30);

    take("esc01");
    assert_slice(msg.ruri.user, "sips%3Auser%40example.com");
    assert_slice(msg.ruri.host, "example.net");
    assert_true(ims_sip_uri_same(msg.to.uri, IMS_STR("sip:user@example.com")));

    take("escnull");
    assert_int_equal(ims_sip_value_first(&msg, IMS_SIP_H_CONTACT, &v), 2);
    assert_false(ims_sip_identity_ok(msg.to.uri));

    /* "C%6Fntact" is no Contact, "RE%47IST%45R" no REGISTER */

    take("esc02");
    assert_int_equal(msg.method_id, IMS_SIP_M_OTHER);
    assert_int_equal(msg.count[IMS_SIP_H_CONTACT], 2);

    take("lwsdisp");
    assert_slice(msg.from.display, "caller");

    take("longreq");
    assert_int_equal(msg.count[IMS_SIP_H_VIA], 34);
    assert_null(msg.via.branch.name.p);

    take("semiuri");
    assert_slice(msg.ruri.user, "user;par=u%40example.net");
    assert_int_equal(msg.ruri.params.n, 0);

    take("transports");
    assert_int_equal(msg.count[IMS_SIP_H_VIA], 5);

    take("mpart01");
    assert_int_equal(msg.body.n, 553);

    take("noreason");
    assert_int_equal(msg.status, 100);
    assert_int_equal(msg.reason.n, 0);
    assert_false(msg.request);

    take("unreason");
    assert_int_equal(msg.status, 200);
    assert_int_equal(msg.method_id, IMS_SIP_M_INVITE);

    /* taken as messages; the value is for whoever needs it to refuse */

    take("regbadct");
    assert_int_equal(ims_sip_value_first(&msg, IMS_SIP_H_CONTACT, &v), 1);
    assert_false(ims_sip_contact_parse(v, &c));

    take("regescrt");
    assert_int_equal(ims_sip_value_first(&msg, IMS_SIP_H_CONTACT, &v), 1);
    assert_true(ims_sip_contact_parse(v, &c));
    assert_true(ims_sip_uri_parse(c.addr.uri, &u));
    assert_slice(u.headers, "Route=%3Csip:sip.example.com%3E");

    take("badbranch");
    assert_slice(msg.via.branch.value, "z9hG4bK");
    assert_false(ims_sip_branch_ok(msg.via.branch.value));

    take("inv2543");
    assert_null(msg.via.branch.name.p);
    assert_null(msg.from_tag.p);
    assert_int_equal(msg.max_forwards, -1);

    take("unkscm");
    assert_int_equal(msg.ruri.scheme, IMS_SIP_URI_OTHER);

    take("novelsc");
    assert_slice(msg.ruri.scheme_name, "soap.beep");

    take("unksm2");
    assert_false(ims_sip_identity_ok(msg.to.uri));

    take("bext01");
    assert_true(ims_sip_list_has(&msg, IMS_SIP_H_PROXY_REQUIRE,
                                 "nordoanyproxiessupportthis"));
    assert_false(ims_sip_list_has(&msg, IMS_SIP_H_REQUIRE, "nothing"));

    take("regaut01");
    assert_true(ims_sip_auth_parse(
                    ims_sip_hdr_value(&msg, IMS_SIP_H_AUTHORIZATION),
                    &scheme, &params));
    assert_slice(scheme, "NoOneKnowsThisScheme");
    assert_int_equal(ims_sip_auth_param(params, "Opaque-Data", &v), 1);
    assert_slice(v, "here");

    take("zeromf");
    assert_int_equal(msg.max_forwards, 0);

    /* the parameter is the header's without, the URI's with brackets */

    take("cparam01");
    assert_int_equal(ims_sip_value_first(&msg, IMS_SIP_H_CONTACT, &v), 1);
    assert_true(ims_sip_addr_parse(v, &a));
    assert_slice(a.params, ";unknownparam");

    take("cparam02");
    assert_int_equal(ims_sip_value_first(&msg, IMS_SIP_H_CONTACT, &v), 1);
    assert_true(ims_sip_addr_parse(v, &a));
    assert_int_equal(a.params.n, 0);
}


/* Two messages in a stream: the second begins behind the first's CRLF. */

static void
test_dblreq_stream(void **state)
{
    size_t  n, scanned, len;

    (void) state;

    n = load("dblreq");
    scanned = len = 0;

    assert_int_equal(ims_sip_frame(buf, n, MAX, &scanned, &len),
                     IMS_SIP_FRAME_OK);
    assert_int_equal(ims_sip_parse(&msg, buf, len, IMS_SIP_STREAM, &err), 0);
    assert_int_equal(msg.method_id, IMS_SIP_M_REGISTER);

    n -= len;
    memmove(buf, buf + len, n);
    scanned = len = 0;

    assert_int_equal(ims_sip_frame(buf, n, MAX, &scanned, &len),
                     IMS_SIP_FRAME_CRLF);

    n -= len;
    memmove(buf, buf + len, n);
    scanned = len = 0;

    assert_int_equal(ims_sip_frame(buf, n, MAX, &scanned, &len),
                     IMS_SIP_FRAME_OK);
    assert_int_equal(ims_sip_parse(&msg, buf, len, IMS_SIP_STREAM, &err), 0);
    assert_int_equal(msg.method_id, IMS_SIP_M_INVITE);
}


/* Every message cut at every byte: nothing is read beyond, nothing crashes. */

static void
test_truncated(void **state)
{
    int       rc;
    size_t    i, n, cut;
    uint8_t  *part;

    (void) state;

    for (i = 0; i < NMESSAGES; i++) {
        n = load(messages[i].name);

        for (cut = 0; cut < n; cut++) {

            /* of its own, so that the sanitizer sees a read beyond */

            part = malloc(cut + 1);
            assert_non_null(part);
            memcpy(part, buf, cut);

            rc = ims_sip_parse(&msg, part, cut, IMS_SIP_STREAM, &err);

            /* whole messages inside: dblreq's first request */

            if (rc == 0) {
                assert_string_equal(messages[i].name, "dblreq");
                assert_int_equal(cut, 300);
            }

            free(part);
        }
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_wsinv),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_dblreq_stream),
        cmocka_unit_test(test_truncated),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
