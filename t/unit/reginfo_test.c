/*
 * Copyright (C) nginx-ims contributors
 *
 * Registration information (RFC 3680): what has ended for one Contact, what is
 * refused as a whole; and the edge's own SUBSCRIBE.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "reg/ims_reginfo.h"


#define AOR      "sip:web-1@ims.example"
#define CONTACT  "sip:k3@df7.invalid;transport=ws"
#define NS       "urn:ietf:params:xml:ns:reginfo"

#define DOC(version, state, inner)                                            \
    "<?xml version=\"1.0\"?>\n<reginfo xmlns=\"" NS "\" version=\"" version   \
    "\" state=\"" state "\">" inner "</reginfo>\n"

#define REG(aor, state, inner)                                                \
    "<registration aor=\"" aor "\" id=\"a7\" state=\"" state "\">" inner      \
    "</registration>"

#define BINDING(uri, state, event, more)                                      \
    "<contact id=\"76\" state=\"" state "\" event=\"" event "\" " more ">"    \
    "<uri>" uri "</uri></contact>"

#define OURS(state, event)  BINDING(CONTACT, state, event, "")


static ims_reginfo_t  info;
static const char    *reason;


static bool
read_text(const char *text)
{
    info.n = 99;
    reason = NULL;

    return ims_reginfo_read(&info, ims_str_z(text), IMS_STR(CONTACT),
                            &reason);
}


/* what a good document says of the AOR */

static const ims_reginfo_aor_t *
of(const char *text)
{
    if (!read_text(text)) {
        print_error("%s: %s\n", text, reason);
        fail();
    }

    return ims_reginfo_find(&info, IMS_STR(AOR));
}


static void
refused(const char *text, const char *why)
{
    if (read_text(text)) {
        print_error("taken: %s\n", text);
        fail();
    }

    assert_non_null(reason);
    assert_string_equal(reason, why);
    assert_int_equal(info.n, 0);
}


static void
states(void **state)
{
    const ims_reginfo_aor_t  *a;

    (void) state;

    a = of(DOC("0", "full", REG(AOR, "active", OURS("active", "registered"))));
    assert_non_null(a);
    assert_false(a->ended);
    assert_int_equal(a->event, IMS_REGINFO_REGISTERED);
    assert_true(info.full);
    assert_int_equal(info.version, 0);

    a = of(DOC("4294967295", "partial",
               REG(AOR, "active", OURS("terminated", "deactivated"))));
    assert_true(a->ended);
    assert_int_equal(a->event, IMS_REGINFO_DEACTIVATED);
    assert_false(info.full);
    assert_int_equal(info.version, 4294967295u);

    /* the registration, with or without our contact */

    assert_true(of(DOC("1", "full", REG(AOR, "terminated", "")))->ended);
    assert_true(of(DOC("1", "full",
                       "<registration aor=\"" AOR "\" id=\"a\" "
                       "state=\"terminated\"/>"))->ended);
    assert_true(of(DOC("1", "full", REG(AOR, "terminated",
                       OURS("active", "registered"))))->ended);
    assert_false(of(DOC("1", "full", REG(AOR, "init", "")))->ended);

    /* what is not there has not ended */

    assert_null(of(DOC("1", "full", "")));
    assert_null(of(DOC("1", "full", REG("sip:web-2@ims.example", "terminated",
                                        OURS("terminated", "expired")))));
    assert_false(of(DOC("1", "full", REG(AOR, "active", "")))->ended);
}


static void
events(void **state)
{
    size_t                    i;
    char                      text[1024];
    const ims_reginfo_aor_t  *a;

    static const char  *names[] = {
        "expired", "deactivated", "probation", "unregistered", "rejected",
        "something-new"
    };

    (void) state;

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(text, sizeof(text), DOC("1", "full",
                 REG(AOR, "active", OURS("terminated", "%s"))), names[i]);
        a = of(text);
        assert_true(a->ended);
        assert_string_equal(ims_reginfo_event_text(a->event),
                            i < 5 ? names[i] : "another event");
    }
}


/* byte by byte, but white space around it */

static void
contacts(void **state)
{
    size_t  i;
    char    text[2048];
    char    longer[IMS_REG_CONTACT_MAX + 200];

    static const char  *others[] = {
        "", " ", "sip:k3@df7.invalid", CONTACT ";ob", "sip:K3@df7.invalid"
        ";transport=ws", "sip:k3@DF7.invalid;transport=ws", "<" CONTACT ">"
    };

    (void) state;

    for (i = 0; i < sizeof(others) / sizeof(others[0]) - 1; i++) {
        snprintf(text, sizeof(text), DOC("1", "full", REG(AOR, "active",
                 BINDING("%s", "terminated", "expired", ""))), others[i]);
        assert_false(of(text)->ended);
    }

    assert_true(of(DOC("1", "full", REG(AOR, "active", BINDING("\r\n\t "
                       CONTACT " \n", "terminated", "expired", ""))))->ended);
    assert_true(of(DOC("1", "full", REG(AOR, "active", BINDING(
                       "<![CDATA[sip:k3]]>&#64;<!-- x -->df7.invalid;"
                       "transport=ws", "terminated", "expired", ""))))->ended);

    /* one that is too long is not ours, whatever it begins with */

    memset(longer, 'x', sizeof(longer));
    longer[sizeof(longer) - 1] = '\0';
    snprintf(text, sizeof(text), DOC("1", "full", REG(AOR, "active",
             BINDING(CONTACT "%s", "terminated", "expired", ""))), longer);
    assert_false(of(text)->ended);

    /* ours among others */

    assert_true(of(DOC("1", "full", REG(AOR, "active",
        BINDING("sip:a@b", "active", "registered", "")
        OURS("terminated", "rejected")
        BINDING("sip:c@d", "terminated", "expired", ""))))->ended);

    /* elsewhere it is not a contact of the registration */

    assert_false(of(DOC("1", "full", REG(AOR, "active",
        "<x xmlns=\"urn:x\"><contact state=\"terminated\" event=\"expired\">"
        "<uri>" CONTACT "</uri></contact></x>")))->ended);
    assert_false(of(DOC("1", "full", REG(AOR, "active",
        "<contact id=\"1\" state=\"terminated\" event=\"expired\"><x "
        "xmlns=\"urn:x\"><uri>" CONTACT "</uri></x></contact>")))->ended);
}


static void
shortened(void **state)
{
    const ims_reginfo_aor_t  *a;

    (void) state;

    a = of(DOC("2", "partial", REG(AOR, "active",
               BINDING(CONTACT, "active", "shortened", "expires=\"30\""))));
    assert_false(a->ended);
    assert_true(a->shortened);
    assert_int_equal(a->expires, 30);

    a = of(DOC("2", "partial", REG(AOR, "active",
               BINDING(CONTACT, "active", "refreshed", "expires=\"30\""))));
    assert_false(a->shortened);

    a = of(DOC("2", "partial", REG(AOR, "active",
               OURS("active", "shortened"))));
    assert_false(a->shortened);
}


/* the same AOR more than once: an end is one */

static void
twice(void **state)
{
    (void) state;

    assert_true(of(DOC("1", "full",
        REG(AOR, "active", OURS("active", "registered"))
        REG("sip:web-1@IMS.example:5060", "terminated", "")))->ended);
    assert_true(of(DOC("1", "full", REG(AOR, "terminated", "")
        REG(AOR, "active", OURS("active", "registered"))))->ended);
}


static void
namespaces(void **state)
{
    (void) state;

    assert_true(of("<r:reginfo xmlns:r=\"" NS "\" version=\"3\" "
        "state=\"full\"><r:registration aor=\"" AOR "\" id=\"a\" "
        "state=\"terminated\"/></r:reginfo>")->ended);

    /* another one's registration says nothing here */

    assert_null(of("<r:reginfo xmlns:r=\"" NS "\" xmlns=\"urn:x\" "
        "version=\"3\" state=\"full\"><registration aor=\"" AOR "\" "
        "state=\"terminated\"/></r:reginfo>"));

    refused("<reginfo version=\"1\" state=\"full\"/>", "not a reginfo");
    refused("<reginfo xmlns=\"" NS "x\" version=\"1\" state=\"full\"/>",
            "not a reginfo");
    refused("<contact xmlns=\"" NS "\" state=\"terminated\" event=\"x\"/>",
            "not a reginfo");
}


static void
malformed(void **state)
{
    size_t  i;

    static const struct {
        const char  *text;
        const char  *why;
    } bad[] = {
        { "", "malformed XML" },
        { "x", "malformed XML" },
        { DOC("1", "full", "<registration>"), "registration without aor or "
                                              "state" },
        { DOC("1", "full", REG(AOR, "terminated", "")) "x", "malformed XML" },
        { DOC("1", "full", REG(AOR, "terminated", "<x>")), "malformed XML" },
        { DOC("1", "full", REG(AOR, "terminated", "&x;")), "malformed XML" },
        { DOC("1", "full", REG(AOR, "terminated", "\xff")), "malformed XML" },
        { DOC("", "full", ""), "reginfo without version or state" },
        { DOC("-1", "full", ""), "reginfo without version or state" },
        { DOC("1x", "full", ""), "reginfo without version or state" },
        { DOC("4294967296", "full", ""), "reginfo without version or state" },
        { DOC("1", "Full", ""), "unknown state of reginfo" },
        { "<reginfo xmlns=\"" NS "\" version=\"1\"/>",
          "reginfo without version or state" },
        { DOC("1", "full", REG(AOR, "ended", "")),
          "unknown state of a registration" },
        { DOC("1", "full", REG(AOR, "active", OURS("ended", "x"))),
          "unknown state of a contact" },
        { DOC("1", "full", REG(AOR, "active",
          "<contact id=\"1\" state=\"active\"><uri>x</uri></contact>")),
          "contact without state or event" },
        { DOC("1", "full", REG(AOR, "active", BINDING(CONTACT, "active",
          "shortened", "expires=\"soon\""))), "bad expires of a contact" },
        { DOC("1", "full", REG(AOR, "terminated", OURS("terminated",
          "expired")) "<registration/>"),
          "registration without aor or state" }
    };

    (void) state;

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        refused(bad[i].text, bad[i].why);
    }
}


/* no DTD, so nothing to expand and nothing to fetch */

static void
entities(void **state)
{
    size_t  i;

    static const char  *bad[] = {
        "<!DOCTYPE reginfo>" DOC("1", "full", ""),
        "<!DOCTYPE reginfo SYSTEM \"file:///etc/passwd\"><reginfo/>",
        "<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\">"
        "<!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;\">"
        "<!ENTITY c \"&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;\">"
        "<!ENTITY d \"&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;\">"
        "<!ENTITY e \"&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;\">]>"
        "<reginfo xmlns=\"" NS "\" version=\"1\" state=\"full\">&e;</reginfo>",
        "<!DOCTYPE x [<!ENTITY a SYSTEM \"file:///etc/passwd\">]>"
        "<reginfo xmlns=\"" NS "\" version=\"1\" state=\"full\">&a;</reginfo>",
        "<!DOCTYPE x [<!ATTLIST reginfo state CDATA \"full\">]>"
        "<reginfo xmlns=\"" NS "\" version=\"1\"/>"
    };

    (void) state;

    for (i = 1; i < sizeof(bad) / sizeof(bad[0]); i++) {
        refused(bad[i], "reginfo with a DTD");
    }
}


static void
bounds(void **state)
{
    char      *p, *text;
    unsigned   i;

    (void) state;

    text = malloc(2 * IMS_REGINFO_SIZE);
    assert_non_null(text);

    /* size: to the byte */

    p = text + sprintf(text, "%s", DOC("1", "full", REG(AOR, "terminated",
                                                        "")));
    memset(p, ' ', (size_t) (text + IMS_REGINFO_SIZE - p));
    text[IMS_REGINFO_SIZE] = '\0';
    assert_true(of(text)->ended);
    text[IMS_REGINFO_SIZE] = ' ';
    text[IMS_REGINFO_SIZE + 1] = '\0';
    refused(text, "reginfo too large");

    /* depth */

    for (i = IMS_REGINFO_DEPTH; i <= IMS_REGINFO_DEPTH + 1; i++) {
        unsigned  k;

        p = text + sprintf(text, "<reginfo xmlns=\"" NS "\" version=\"1\" "
                           "state=\"full\">");

        for (k = 1; k < i; k++) {
            p += sprintf(p, "<x>");
        }

        for (k = 1; k < i; k++) {
            p += sprintf(p, "</x>");
        }

        sprintf(p, "</reginfo>");

        if (i == IMS_REGINFO_DEPTH) {
            assert_null(of(text));

        } else {
            refused(text, "too many elements");
        }
    }

    /* elements */

    p = text + sprintf(text, "<reginfo xmlns=\"" NS "\" version=\"1\" "
                       "state=\"full\">");

    for (i = 0; i < IMS_REGINFO_ELEMENTS; i++) {
        p += sprintf(p, "<x/>");
    }

    sprintf(p, "</reginfo>");
    refused(text, "too many elements");

    /* registrations */

    for (i = IMS_REGINFO_AORS; i <= IMS_REGINFO_AORS + 1; i++) {
        unsigned  k;

        p = text + sprintf(text, "<reginfo xmlns=\"" NS "\" version=\"1\" "
                           "state=\"full\">");

        for (k = 1; k < i; k++) {
            p += sprintf(p, REG("sip:x@y", "terminated", ""));
        }

        sprintf(p, REG(AOR, "terminated", "") "</reginfo>");

        if (i == IMS_REGINFO_AORS) {
            assert_true(of(text)->ended);

        } else {
            refused(text, "too many registrations");
        }
    }

    /* an AOR that is too long for one of ours */

    p = text + sprintf(text, "<reginfo xmlns=\"" NS "\" version=\"1\" "
                       "state=\"full\"><registration id=\"a\" "
                       "state=\"terminated\" aor=\"sip:");
    memset(p, 'x', 300);
    sprintf(p + 300, "\"/></reginfo>");
    assert_null(of(text));
    assert_int_equal(info.n, 1);

    free(text);
}


static ims_reg_subscribe_t
subscription(void)
{
    ims_reg_subscribe_t  q;

    memset(&q, 0, sizeof(q));
    q.impu = IMS_STR(AOR);
    q.advertise = IMS_STR("edge:5070");
    q.transport = IMS_STR("TCP");
    q.branch = IMS_STR("z9hG4bKours");
    q.contact = IMS_STR("sip:token@edge:5070;transport=tcp");
    q.call_id = IMS_STR("c0ffee");
    q.from_tag = IMS_STR("f00");
    q.icid = IMS_STR("1c1d");
    q.home = IMS_STR("ims.example");
    q.cseq = 1;
    q.expires = 660;

    return q;
}


static void
subscribe(void **state)
{
    uint8_t               out[2048];
    ptrdiff_t             n;
    ims_str_t             routes[2];
    ims_sip_err_t         err;
    ims_reg_subscribe_t   q;
    static ims_sip_msg_t  m;

    (void) state;

    routes[0] = IMS_STR("<sip:orig@scscf:5060;lr>");
    routes[1] = IMS_STR("<sip:scscf;lr>");

    q = subscription();
    q.routes = routes;
    q.nroutes = 1;
    n = ims_reg_subscribe(out, sizeof(out), &q);
    assert_true(n > 0);
    out[n] = '\0';

    assert_string_equal((char *) out,
        "SUBSCRIBE " AOR " SIP/2.0\r\n"
        "Via: SIP/2.0/TCP edge:5070;branch=z9hG4bKours\r\n"
        "Max-Forwards: 70\r\n"
        "Route: <sip:orig@scscf:5060;lr>\r\n"
        "From: <sip:edge:5070>;tag=f00\r\n"
        "To: <" AOR ">\r\n"
        "Call-ID: c0ffee\r\n"
        "CSeq: 1 SUBSCRIBE\r\n"
        "Contact: <sip:token@edge:5070;transport=tcp>\r\n"
        "P-Asserted-Identity: <sip:edge:5070>\r\n"
        "P-Charging-Vector: icid-value=\"1c1d\";orig-ioi=\"ims.example\"\r\n"
        "Expires: 660\r\n"
        "Event: reg\r\n"
        "Accept: application/reginfo+xml\r\n"
        "Content-Length: 0\r\n\r\n");

    /* within its dialog */

    q.target = IMS_STR("sip:notifier@scscf");
    q.to_tag = IMS_STR("far");
    q.nroutes = 2;
    q.cseq = 2;
    n = ims_reg_subscribe(out, sizeof(out), &q);
    assert_true(n > 0);

    assert_int_equal(ims_sip_parse(&m, out, (size_t) n, IMS_SIP_STREAM, &err),
                     0);
    assert_true(ims_str_eq(m.uri, IMS_STR("sip:notifier@scscf")));
    assert_true(ims_str_eq(m.to.uri, IMS_STR(AOR)));
    assert_true(ims_str_eq(m.to_tag, IMS_STR("far")));
    assert_int_equal(m.count[IMS_SIP_H_ROUTE], 2);
    assert_int_equal(m.cseq, 2);

    assert_int_equal(ims_reg_subscribe(out, (size_t) n, &q), n);
    assert_int_equal(ims_reg_subscribe(out, (size_t) n - 1, &q), -1);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(states),
        cmocka_unit_test(events),
        cmocka_unit_test(contacts),
        cmocka_unit_test(shortened),
        cmocka_unit_test(twice),
        cmocka_unit_test(namespaces),
        cmocka_unit_test(malformed),
        cmocka_unit_test(entities),
        cmocka_unit_test(bounds),
        cmocka_unit_test(subscribe)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
