/*
 * Copyright (C) nginx-ims contributors
 *
 * The slice editor: parse, edit, parse again.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>

#include "sip/ims_sip_edit.h"


#define MESSAGE                                                               \
    "REGISTER sip:ims.example SIP/2.0\r\n"                                    \
    "Via: SIP/2.0/WSS x.invalid;rport;branch=z9hG4bK1, SIP/2.0/TCP y\r\n"     \
    "l: 3\r\n"                                                                \
    "From: <sip:a@ims.example>;tag=t1\r\n"                                    \
    "To: <sip:a@ims.example>\r\n"                                             \
    "Authorization: Bearer t1\r\n"                                            \
    "Call-ID: c1\r\n"                                                         \
    "Authorization: Bearer t2\r\n"                                            \
    "CSeq: 1 REGISTER\r\n"                                                    \
    "Contact: <sip:a@x.invalid;transport=ws>;expires=600;reg-id=1\r\n"        \
    "X-Last:\r\n"                                                             \
    "\r\nabc"


static uint8_t         buf[8192], out[16384], scratch[4096];
static ims_sip_msg_t   msg, again;
static ims_sip_edit_t  ed;
static ims_sip_err_t   err;


static void
begin(void)
{
    memcpy(buf, MESSAGE, sizeof(MESSAGE));

    assert_int_equal(ims_sip_parse(&msg, buf, sizeof(MESSAGE) - 1,
                                   IMS_SIP_WS, &err), 0);
    ims_sip_edit_init(&ed, &msg, scratch, sizeof(scratch));
}


/* The edited message is the text, and is one that we take from a stream. */

static void
finish(const char *want)
{
    ptrdiff_t  n;

    n = ims_sip_edit_flatten(&ed, out, sizeof(out) - 1);

    if (n < 0) {
        fail_msg("%s", ed.error ? ed.error : "too long");
    }

    out[n] = '\0';
    assert_int_equal((size_t) n, ed.total);
    assert_string_equal((char *) out, want);

    if (ims_sip_parse(&again, out, (size_t) n, IMS_SIP_STREAM, &err) != 0) {
        fail_msg("%s", err.reason);
    }
}


static void
broken(const char *why)
{
    assert_int_equal(ims_sip_edit_finish(&ed), -1);
    assert_string_equal(ed.error, why);
    assert_int_equal(ims_sip_edit_flatten(&ed, out, sizeof(out)), -1);
}


static void
test_untouched(void **state)
{
    (void) state;

    begin();

    finish("REGISTER sip:ims.example SIP/2.0\r\n"
           "Via: SIP/2.0/WSS x.invalid;rport;branch=z9hG4bK1, SIP/2.0/TCP y"
           "\r\n"
           "From: <sip:a@ims.example>;tag=t1\r\n"
           "To: <sip:a@ims.example>\r\n"
           "Authorization: Bearer t1\r\n"
           "Call-ID: c1\r\n"
           "Authorization: Bearer t2\r\n"
           "CSeq: 1 REGISTER\r\n"
           "Contact: <sip:a@x.invalid;transport=ws>;expires=600;reg-id=1\r\n"
           "X-Last:\r\n"
           "Content-Length: 3\r\n"
           "\r\nabc");

    /* in front of the length, behind it, our length, the body */

    assert_int_equal(ed.nout, 4);
}


static void
test_register(void **state)
{
    char               copy[2048];
    ims_str_t          v;
    ims_sip_contact_t  c;

    (void) state;

    begin();

    assert_int_equal(ims_sip_value_first(&msg, IMS_SIP_H_CONTACT, &v), 1);
    assert_true(ims_sip_contact_parse(v, &c));

    /* in an order other than that of the places */

    ims_sip_edit_append(&ed, "Path", IMS_STR("<sip:t@e;lr>"));
    ims_sip_edit_param(&ed, c.addr.whole, &c.expires, "expires",
                       IMS_STR("60"));
    ims_sip_edit_append(&ed, "Require", IMS_STR("path"));
    ims_sip_edit_drop_id(&ed, IMS_SIP_H_AUTHORIZATION);
    ims_sip_edit_before(&ed, 5, "Authorization", IMS_STR("Digest x"));
    ims_sip_edit_received(&ed, IMS_STR("192.0.2.1"), 4711);
    ims_sip_edit_top(&ed, "Via", IMS_STR("SIP/2.0/TCP e:5070;branch=b"));
    ims_sip_edit_top(&ed, "X-Second", IMS_STR("2"));
    ims_sip_edit_start(&ed, IMS_STR("REGISTER sip:home SIP/2.0"));
    ims_sip_edit_value(&ed, 9, IMS_STR("new"));

    finish("REGISTER sip:home SIP/2.0\r\n"
           "Via: SIP/2.0/TCP e:5070;branch=b\r\n"
           "X-Second: 2\r\n"
           "Via: SIP/2.0/WSS x.invalid;rport=4711;branch=z9hG4bK1"
           ";received=192.0.2.1, SIP/2.0/TCP y\r\n"
           "From: <sip:a@ims.example>;tag=t1\r\n"
           "To: <sip:a@ims.example>\r\n"
           "Authorization: Digest x\r\n"
           "Call-ID: c1\r\n"
           "CSeq: 1 REGISTER\r\n"
           "Contact: <sip:a@x.invalid;transport=ws>;expires=60;reg-id=1\r\n"
           "X-Last:new\r\n"
           "Path: <sip:t@e;lr>\r\n"
           "Require: path\r\n"
           "Content-Length: 3\r\n"
           "\r\nabc");

    assert_int_equal(again.count[IMS_SIP_H_AUTHORIZATION], 1);

    /* finish twice is the same message */

    finish((const char *) memcpy(copy, out, ed.total + 1));
}


static void
test_params(void **state)
{
    ims_str_t          v;
    ims_sip_contact_t  c;

    (void) state;

    begin();

    assert_int_equal(ims_sip_value_first(&msg, IMS_SIP_H_CONTACT, &v), 1);
    assert_true(ims_sip_contact_parse(v, &c));

    /* absent: appended; without a value; taken out */

    ims_sip_edit_param(&ed, c.addr.whole, &c.q, "q", IMS_STR("0.5"));
    ims_sip_edit_param(&ed, c.addr.whole, &c.instance, "ob", IMS_STR_NULL);
    ims_sip_edit_splice(&ed, c.reg_id.whole, IMS_STR(""));
    ims_sip_edit_body(&ed, IMS_STR("0123456789"));

    finish("REGISTER sip:ims.example SIP/2.0\r\n"
           "Via: SIP/2.0/WSS x.invalid;rport;branch=z9hG4bK1, SIP/2.0/TCP y"
           "\r\n"
           "From: <sip:a@ims.example>;tag=t1\r\n"
           "To: <sip:a@ims.example>\r\n"
           "Authorization: Bearer t1\r\n"
           "Call-ID: c1\r\n"
           "Authorization: Bearer t2\r\n"
           "CSeq: 1 REGISTER\r\n"
           "Contact: <sip:a@x.invalid;transport=ws>;expires=600;q=0.5;ob\r\n"
           "X-Last:\r\n"
           "Content-Length: 10\r\n"
           "\r\n0123456789");

    /* the client's own received is replaced */

    static const char  spoof[] =
        "OPTIONS sip:x SIP/2.0\r\n"
        "Via: SIP/2.0/WSS x;received=9.9.9.9;rport=1;branch=b\r\n"
        "From: <sip:a@x>;tag=t\r\nTo: <sip:b@x>\r\nCall-ID: c\r\n"
        "CSeq: 1 OPTIONS\r\n\r\n";

    memcpy(buf, spoof, sizeof(spoof));
    assert_int_equal(ims_sip_parse(&msg, buf, sizeof(spoof) - 1, IMS_SIP_WS,
                                   &err), 0);
    ims_sip_edit_init(&ed, &msg, scratch, sizeof(scratch));
    ims_sip_edit_received(&ed, IMS_STR("2001:db8::1"), 65535);
    ims_sip_edit_ruri(&ed, IMS_STR("sip:y"));

    finish("OPTIONS sip:y SIP/2.0\r\n"
           "Via: SIP/2.0/WSS x;received=2001:db8::1;rport=65535;branch=b\r\n"
           "From: <sip:a@x>;tag=t\r\nTo: <sip:b@x>\r\nCall-ID: c\r\n"
           "CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n");
}


/* Drops win over what was edited inside, lines in front stay. */

static void
test_dropped(void **state)
{
    unsigned  i;

    (void) state;

    begin();

    ims_sip_edit_value(&ed, 4, IMS_STR("x"));
    ims_sip_edit_before(&ed, 4, "X-Before", IMS_STR("1"));
    ims_sip_edit_drop(&ed, 4);
    ims_sip_edit_drop(&ed, 4);
    ims_sip_edit_drop(&ed, 999);
    ims_sip_edit_value(&ed, 6, IMS_STR("Digest y"));
    ims_sip_edit_drop(&ed, 9);

    finish("REGISTER sip:ims.example SIP/2.0\r\n"
           "Via: SIP/2.0/WSS x.invalid;rport;branch=z9hG4bK1, SIP/2.0/TCP y"
           "\r\n"
           "From: <sip:a@ims.example>;tag=t1\r\n"
           "To: <sip:a@ims.example>\r\n"
           "X-Before: 1\r\n"
           "Call-ID: c1\r\n"
           "Authorization: Digest y\r\n"
           "CSeq: 1 REGISTER\r\n"
           "Contact: <sip:a@x.invalid;transport=ws>;expires=600;reg-id=1\r\n"
           "Content-Length: 3\r\n"
           "\r\nabc");

    /* all of them */

    begin();

    for (i = 0; i < msg.nhdr; i++) {
        ims_sip_edit_drop(&ed, i);
    }

    assert_int_equal(ims_sip_edit_finish(&ed), 0);
    assert_int_equal(ed.total, sizeof("REGISTER sip:ims.example SIP/2.0\r\n"
                                      "Content-Length: 3\r\n\r\nabc") - 1);
}


static void
test_errors(void **state)
{
    unsigned   i;
    ims_str_t  v;

    (void) state;

    begin();
    ims_sip_edit_append(&ed, "X", IMS_STR("a\r\nP-Asserted-Identity: b"));
    ims_sip_edit_append(&ed, "X", IMS_STR("fine"));
    broken("control character in a header to insert");

    begin();
    ims_sip_edit_top(&ed, "X", ims_str_set("a\0b", 3));
    broken("control character in a header to insert");

    begin();
    ims_sip_edit_start(&ed, IMS_STR("REGISTER sip:x SIP/2.0\r\nX: y"));
    broken("control character in a first line");

    begin();
    ims_sip_edit_value(&ed, 0, IMS_STR("a\nb"));
    broken("edit out of place");

    /* not of this message, over the end of a line, over its beginning */

    begin();
    ims_sip_edit_splice(&ed, IMS_STR("elsewhere"), IMS_STR("x"));
    broken("edit out of place");

    begin();
    v = msg.hdr[0].value;
    v.n += 1;
    ims_sip_edit_splice(&ed, v, IMS_STR("x"));
    broken("edit out of place");

    begin();
    ims_sip_edit_splice(&ed, msg.hdr[1].line, IMS_STR("x"));
    broken("edit out of place");

    begin();
    v = msg.body;
    v.n = 0;
    ims_sip_edit_splice(&ed, v, IMS_STR("x"));
    broken("edit out of place");

    begin();
    ims_sip_edit_splice(&ed, msg.start, IMS_STR("x"));
    broken("edit out of place");

    begin();
    ims_sip_edit_value(&ed, 0, IMS_STR("x"));
    v = msg.hdr[0].value;
    ims_sip_edit_splice(&ed, ims_str_set(v.p + 3, 2), IMS_STR("y"));
    broken("edits overlap");

    begin();
    ims_sip_edit_value(&ed, msg.nhdr, IMS_STR("x"));
    broken("edit of a header that is not there");

    /* full: list, arena, also by the last line alone */

    begin();

    for (i = 0; i <= IMS_SIP_EDIT_MAX; i++) {
        ims_sip_edit_top(&ed, "X", IMS_STR("y"));
    }

    broken("too many edits");

    begin();

    for (i = 0; i <= IMS_SIP_EDIT_MAX; i++) {
        ims_sip_edit_append(&ed, "X", IMS_STR("y"));
    }

    broken("too many edits");

    begin();
    ims_sip_edit_init(&ed, &msg, scratch, 10);
    ims_sip_edit_append(&ed, "X", IMS_STR("0123456789"));
    broken("no room for the text of an edit");

    begin();
    ims_sip_edit_init(&ed, &msg, scratch, 10);
    broken("no room for the text of an edit");

    /* the output's room */

    begin();
    assert_int_equal(ims_sip_edit_finish(&ed), 0);
    assert_int_equal(ims_sip_edit_flatten(&ed, out, ed.total - 1), -1);
    assert_int_equal(ims_sip_edit_flatten(&ed, out, ed.total),
                     (ptrdiff_t) ed.total);
}


/* As many pieces as there can be: every list full, every second line out. */

static void
test_pieces(void **state)
{
    char      *p;
    size_t     n;
    unsigned   i, kept;
    ptrdiff_t  len;

    (void) state;

    p = (char *) buf;
    p += sprintf(p, "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/TCP x\r\n"
                    "From: <sip:a@x>;tag=t\r\nTo: <sip:b@x>\r\nCall-ID: c\r\n"
                    "CSeq: 1 OPTIONS\r\n");

    for (i = 5; i < IMS_SIP_MAX_HEADERS; i++) {
        p += sprintf(p, "X-X: %u\r\n", i);
    }

    p += sprintf(p, "\r\n");
    n = (size_t) (p - (char *) buf);

    if (ims_sip_parse(&msg, buf, n, IMS_SIP_WS, &err) != 0) {
        fail_msg("%s", err.reason);
    }

    ims_sip_edit_init(&ed, &msg, scratch, sizeof(scratch));

    for (i = 6; i < IMS_SIP_MAX_HEADERS; i += 2) {
        ims_sip_edit_drop(&ed, i);
    }

    kept = IMS_SIP_MAX_HEADERS - (IMS_SIP_MAX_HEADERS - 6) / 2;

    for (i = 0; i < IMS_SIP_EDIT_MAX; i++) {
        ims_sip_edit_append(&ed, "Y", IMS_STR("1"));
        ims_sip_edit_splice(&ed, ims_str_set(msg.hdr[7 + 2 * i].value.p, 1),
                            IMS_STR("z"));
    }

    len = ims_sip_edit_flatten(&ed, out, sizeof(out));
    assert_true(len > 0);
    assert_true(ed.nout < IMS_SIP_EDIT_SLICES);

    /* parsed again: too many for one message, counted by lines */

    for (i = 0, n = 0; n < (size_t) len; n++) {
        i += out[n] == '\n';
    }

    assert_int_equal(i, 1 + kept + IMS_SIP_EDIT_MAX + 1 + 1);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_untouched),
        cmocka_unit_test(test_register),
        cmocka_unit_test(test_params),
        cmocka_unit_test(test_dropped),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_pieces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
