/*
 * Copyright (C) nginx-ims contributors
 *
 * The header table: every header in every spelling and direction against a
 * list of its own (written from PEERS.md D10 to D12 and DESIGN.md 6, not from
 * the table), and the cases that a message decides.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "sip/ims_sip_policy.h"


#define FIVE                                                                  \
    "Via: SIP/2.0/WSS x.invalid;branch=z9hG4bK1\r\n"                          \
    "From: <sip:a@ims.example>;tag=t1\r\n"                                    \
    "To: <sip:b@ims.example>\r\nCall-ID: c1\r\n"

#define MARK  "mArKeR"


static uint8_t         buf[8192], out[8192], scratch[4096];
static ims_sip_msg_t   msg, again;
static ims_sip_edit_t  ed;
static ims_sip_err_t   err;


/* "" = not ours to judge; else passes = p, goes = g, in the order of dirs */

static const struct {
    const char  *name;
    const char  *fate;
} fates[] = {
    { "Route", "ggpp" },
    { "Record-Route", "gppp" },
    { "Path", "gggg" },
    { "Service-Route", "gggg" },          /* but in a 2xx of REGISTER */
    { "P-Asserted-Identity", "ggpp" },
    { "P-Preferred-Identity", "gg  " },
    { "P-Asserted-Service", "gg  " },
    { "P-Visited-Network-ID", "gggg" },
    { "P-Charging-Vector", "gggg" },
    { "P-Charging-Function-Addresses", "gggg" },
    { "P-Served-User", "gggg" },
    { "P-Profile-Key", "gg  " },
    { "P-Private-Network-Indication", "gg  " },
    { "P-User-Database", "gg  " },
    { "P-Associated-URI", "ggpp" },
    { "History-Info", "ggpp" },
    { "Resource-Priority", "ggpp" },
    { "Feature-Caps", "ggpp" },
    { "Cellular-Network-Info", "gg  " },
    { "Restoration-Info", "gg  " },
    { "Relayed-Charge", "gg  " },
    { "Service-Interact-Info", "gg  " },
    { "Attestation-Info", "gg  " },
    { "Origination-Id", "gg  " },
    { "Additional-Identity", "gg  " },
    { "Response-Source", "gg  " },
    { "Reason", "pgpp" },
    { "Remote-Party-ID", "ggpp" },
    { "3gpp-ext-turn-cred", "gggg" },

    /* these are the users' own */

    { "Contact", "pppp" }, { "m", "pppp" }, { "Supported", "pppp" },
    { "k", "pppp" }, { "Subject", "pppp" }, { "s", "pppp" },
    { "User-Agent", "pppp" }, { "Allow", "pppp" }, { "Privacy", "pppp" },
    { "Event", "pppp" }, { "o", "pppp" }, { "Refer-To", "pppp" },
    { "Content-Type", "pppp" }, { "Require", "pppp" },
    { "P-Preferred-Service", "pppp" }, { "P-Early-Media", "pppp" },
    { "X-Unknown", "pppp" }, { "P-Asserted-Identitx", "pppp" },
    { "XP-Asserted-Identity", "pppp" }, { "Retry-After", "pppp" },
    { "WWW-Authenticate", "pppp" }, { "Warning", "pppp" },
};


static void
begin(ims_sip_dir_e dir, const char *method, const char *lines)
{
    int  n;

    if (dir == IMS_SIP_WIC_REQUEST || dir == IMS_SIP_CORE_REQUEST) {
        n = snprintf((char *) buf, sizeof(buf),
                     "%s sip:x SIP/2.0\r\n%sCSeq: 1 %s\r\n%s\r\n", method,
                     FIVE, method, lines);
    } else {
        n = snprintf((char *) buf, sizeof(buf),
                     "SIP/2.0 200 OK\r\n%sCSeq: 1 %s\r\n%s\r\n", FIVE, method,
                     lines);
    }

    if (ims_sip_parse(&msg, buf, (size_t) n, IMS_SIP_WS, &err) != 0) {
        fail_msg("%s: %s", lines, err.reason);
    }

    ims_sip_edit_init(&ed, &msg, scratch, sizeof(scratch));
}


/* True if the marker comes through. */

static bool
passes(ims_sip_dir_e dir, const char *method, const char *lines)
{
    ptrdiff_t    n;
    const char  *reason;

    begin(dir, method, lines);

    assert_int_equal(ims_sip_policy_apply(&ed, dir, &reason), 0);

    n = ims_sip_edit_flatten(&ed, out, sizeof(out) - 1);
    assert_true(n > 0);
    out[n] = '\0';

    assert_int_equal(ims_sip_parse(&again, out, (size_t) n, IMS_SIP_STREAM,
                                   &err), 0);

    return strcasestr((char *) out, MARK) != NULL;
}


static void
test_fates(void **state)
{
    int            dir;
    size_t         i, k, m;
    char           z[256], name[64];
    char          *p;
    bool           want, got;

    static const char *const  methods[] = {
        "INVITE", "ACK", "BYE", "CANCEL", "MESSAGE", "OPTIONS", "SUBSCRIBE",
        "REGISTER", "UNKNOWN"
    };

    static const char *const  forms[] = {
        "%s: " MARK "\r\n", "%s : " MARK "\r\n", "%s\t:\r\n  " MARK "\r\n",
        "%s:" MARK "\r\n", "X: y\r\n%s: \r\n\t" MARK " \r\n"
    };

    (void) state;

    for (i = 0; i < sizeof(fates) / sizeof(fates[0]); i++) {
        for (dir = 0; dir < IMS_SIP_DIRS; dir++) {

            if (fates[i].fate[dir] == ' ') {
                continue;
            }

            want = fates[i].fate[dir] == 'p';

            for (m = 0; m < sizeof(methods) / sizeof(methods[0]); m++) {

                if (strcmp(methods[m], "REGISTER") == 0
                    && strcmp(fates[i].name, "Service-Route") == 0)
                {
                    continue;
                }

                /* as written, lower, upper */

                for (k = 0; k < 15; k++) {
                    strcpy(name, fates[i].name);

                    for (p = name; *p && k >= 5; p++) {
                        if (k < 10 && *p >= 'A' && *p <= 'Z') {
                            *p = (char) (*p + 32);
                        }

                        if (k >= 10 && *p >= 'a' && *p <= 'z') {
                            *p = (char) (*p - 32);
                        }
                    }

                    snprintf(z, sizeof(z), forms[k % 5], name);
                    got = passes((ims_sip_dir_e) dir, methods[m], z);

                    if (got != want) {
                        fail_msg("%s in %s, direction %d: %s", name,
                                 methods[m], dir, got ? "passed" : "gone");
                    }
                }
            }
        }
    }
}


/* Whatever the table strips is gone, for each id, long and compact. */

static void
test_table(void **state)
{
    int               dir;
    char              z[256];
    unsigned          id;
    ims_sip_policy_e  e;

    (void) state;

    for (id = 1; id < IMS_SIP_H_COUNT; id++) {

        /* one of these is there already */

        if (id == IMS_SIP_H_VIA || id == IMS_SIP_H_FROM || id == IMS_SIP_H_TO
            || id == IMS_SIP_H_CALL_ID || id == IMS_SIP_H_CSEQ
            || id == IMS_SIP_H_CONTENT_LENGTH
            || id == IMS_SIP_H_MAX_FORWARDS)
        {
            continue;
        }

        for (dir = 0; dir < IMS_SIP_DIRS; dir++) {
            e = ims_sip_policy_entry((ims_sip_dir_e) dir, id);

            snprintf(z, sizeof(z), "%s: " MARK "\r\n",
                     (const char *) ims_sip_hdr_name(id).p);

            if (e == IMS_SIP_STRIP || e == IMS_SIP_INSERT) {
                assert_false(passes((ims_sip_dir_e) dir, "MESSAGE", z));

            } else if (e == IMS_SIP_KEEP) {
                assert_true(passes((ims_sip_dir_e) dir, "MESSAGE", z));
            }

            if (ims_sip_hdr_compact(id)) {
                snprintf(z, sizeof(z), "%c: " MARK "\r\n",
                         ims_sip_hdr_compact(id));
                assert_int_equal(passes((ims_sip_dir_e) dir, "MESSAGE", z),
                                 e == IMS_SIP_KEEP);
            }
        }
    }

    assert_int_equal(ims_sip_policy_entry(IMS_SIP_WIC_REQUEST,
                                          IMS_SIP_H_OTHER), IMS_SIP_KEEP);
    assert_int_equal(ims_sip_policy_entry(IMS_SIP_DIRS, IMS_SIP_H_ROUTE),
                     IMS_SIP_KEEP);
    assert_int_equal(ims_sip_policy_entry(IMS_SIP_WIC_REQUEST, 9999),
                     IMS_SIP_KEEP);
}


/* D10, and JsSIP's token in every request */

static void
test_credentials(void **state)
{
    size_t  i;
    char    z[512];

    static const struct {
        const char  *value;
        bool         passes;       /* in a request other than REGISTER */
    } values[] = {
        { "Bearer " MARK, false },
        { "bearer\t" MARK, false },
        { "BEARER access_token=\"" MARK "\"", false },
        { "Digest username=\"" MARK "\",integrity-protected=\"auth-done\"",
          false },
        { "Digest username=\"" MARK "\",Integrity-Protected = auth-done",
          false },
        { "Digest username=\"" MARK "\",integrity-protected", false },
        { "Digest username=\"" MARK ",integrity-protected=yes", false },
        { "Digest username=\"" MARK "\\\",integrity-protected=yes", false },
        { "Digest authorization-entity=\"" MARK "\"", false },
        { "Digest username=\"" MARK "\", Bearer x", false },
        { "Digest username=\"" MARK "\",Bearer access_token=\"x\"", false },
        { MARK "; access_token=x", false },
        { ",Bearer " MARK, false },

        { "Digest username=\"" MARK "\",realm=\"bearer of news\"", true },
        { "Digest username=\"" MARK "\",bearer=x", true },
        { "Basic " MARK, true },
    };

    (void) state;

    for (i = 0; i < sizeof(values) / sizeof(values[0]); i++) {

        static const char *const  names[] = {
            "Authorization", "authorization", "Proxy-Authorization"
        };

        size_t  k;

        for (k = 0; k < 3; k++) {
            snprintf(z, sizeof(z), "%s: %s\r\n", names[k], values[i].value);

            assert_false(passes(IMS_SIP_WIC_REQUEST, "REGISTER", z));
            assert_false(passes(IMS_SIP_WIC_RESPONSE, "INVITE", z));

            if (passes(IMS_SIP_WIC_REQUEST, "INVITE", z)
                != values[i].passes)
            {
                fail_msg("%s", z);
            }

            assert_int_equal(passes(IMS_SIP_CORE_REQUEST, "INVITE", z),
                             values[i].passes);
        }
    }

    /* folded, and a good one beside a bad one: only that goes */

    assert_false(passes(IMS_SIP_WIC_REQUEST, "INVITE",
                        "Authorization: Digest username=\"" MARK "\",\r\n"
                        " integrity-protected=\"auth-done\"\r\n"));

    assert_true(passes(IMS_SIP_WIC_REQUEST, "INVITE",
                       "Authorization: Bearer x\r\n"
                       "Authorization: Digest username=\"" MARK "\"\r\n"));
    assert_int_equal(again.count[IMS_SIP_H_AUTHORIZATION], 1);
}


static void
test_conditions(void **state)
{
    const char  *reason;

    (void) state;

    /* P-Access-Network-Info */

    assert_false(passes(IMS_SIP_WIC_REQUEST, "REGISTER",
                        "P-Access-Network-Info: IEEE-802.11;x=" MARK "\r\n"));
    assert_true(passes(IMS_SIP_WIC_REQUEST, "INVITE",
                       "P-Access-Network-Info: IEEE-802.11;x=" MARK "\r\n"));
    assert_false(passes(IMS_SIP_WIC_REQUEST, "INVITE",
                        "P-Access-Network-Info: 3GPP-E-UTRAN;x=" MARK
                        ";Network-Provided\r\n"));
    assert_false(passes(IMS_SIP_WIC_RESPONSE, "INVITE",
                        "P-Access-Network-Info: a;x=" MARK
                        ", b;network-provided\r\n"));
    assert_false(passes(IMS_SIP_CORE_REQUEST, "INVITE",
                        "P-Access-Network-Info: IEEE-802.11;x=" MARK "\r\n"));

    /* Privacy: id, in either order, with others; towards the WIC only */

    assert_false(passes(IMS_SIP_CORE_REQUEST, "INVITE",
                        "P-Asserted-Identity: <sip:" MARK "@x>\r\n"
                        "Privacy: id\r\n"));
    assert_false(passes(IMS_SIP_CORE_RESPONSE, "INVITE",
                        "Privacy: header ; ID;critical\r\n"
                        "P-Asserted-Identity: <sip:" MARK "@x>\r\n"));
    assert_false(passes(IMS_SIP_CORE_REQUEST, "INVITE",
                        "Privacy: header\r\nPrivacy: user,id\r\n"
                        "Remote-Party-ID: <sip:" MARK "@x>\r\n"));
    assert_true(passes(IMS_SIP_CORE_REQUEST, "INVITE",
                       "P-Asserted-Identity: <sip:" MARK "@x>\r\n"
                       "Privacy: none\r\n"));
    assert_true(passes(IMS_SIP_CORE_REQUEST, "INVITE",
                       "P-Asserted-Identity: <sip:" MARK "@x>\r\n"
                       "Privacy: idle\r\n"));

    /* Service-Route belongs to a registration */

    assert_true(passes(IMS_SIP_CORE_RESPONSE, "REGISTER",
                       "Service-Route: <sip:" MARK ";lr>\r\n"));
    assert_false(passes(IMS_SIP_WIC_RESPONSE, "REGISTER",
                        "Service-Route: <sip:" MARK ";lr>\r\n"));
    assert_false(passes(IMS_SIP_CORE_REQUEST, "REGISTER",
                        "Service-Route: <sip:" MARK ";lr>\r\n"));
    assert_false(passes(IMS_SIP_WIC_REQUEST, "REGISTER",
                        "Service-Route: <sip:" MARK ";lr>\r\n"));

    /* a second Via, on a line of its own or behind a comma */

    begin(IMS_SIP_WIC_REQUEST, "INVITE", "v: SIP/2.0/TCP y\r\n");
    assert_int_equal(ims_sip_policy_apply(&ed, IMS_SIP_WIC_REQUEST, &reason),
                     -1);
    assert_string_equal(reason, "More than one Via");
    assert_int_equal(ims_sip_policy_apply(&ed, IMS_SIP_CORE_REQUEST, &reason),
                     0);

    begin(IMS_SIP_WIC_RESPONSE, "INVITE", "v: SIP/2.0/TCP y\r\n");
    assert_int_equal(ims_sip_policy_apply(&ed, IMS_SIP_WIC_RESPONSE,
                                          &reason), 0);

    static const char  two[] =
        "MESSAGE sip:x SIP/2.0\r\nVia: SIP/2.0/WSS x,SIP/2.0/WSS y\r\n"
        "From: <sip:a@x>;tag=t\r\nTo: <sip:b@x>\r\nCall-ID: c\r\n"
        "CSeq: 1 MESSAGE\r\n\r\n";

    memcpy(buf, two, sizeof(two));
    assert_int_equal(ims_sip_parse(&msg, buf, sizeof(two) - 1, IMS_SIP_WS,
                                   &err), 0);
    ims_sip_edit_init(&ed, &msg, scratch, sizeof(scratch));
    assert_int_equal(ims_sip_policy_apply(&ed, IMS_SIP_WIC_REQUEST, &reason),
                     -1);
}


/* cpc, oli, iotl, verstat: where numbers stand, in what a WIC sends */

static void
test_uri_params(void **state)
{
    size_t       i;
    char         z[1024];
    ptrdiff_t    n;
    const char  *reason;

    static const struct {
        const char  *in;
        const char  *out;
    } uris[] = {
        { "sip:+1@x;cpc=police", "sip:+1@x" },
        { "sip:+1@x;user=phone;CPC=police;a=b", "sip:+1@x;user=phone;a=b" },
        { "sip:+1;cpc=police;oli=29@x;user=phone", "sip:+1@x;user=phone" },
        { "sip:+1;cpc=police@x", "sip:+1@x" },
        { "sip:+1@x;iotl", "sip:+1@x" },
        { "sip:+1;verstat=TN-Validation-Passed@x;user=phone",
          "sip:+1@x;user=phone" },
        { "tel:+1;verstat=TN-Validation-Passed", "tel:+1" },
        { "sip:+1@x;%63p%43=police;z", "sip:+1@x;z" },
        { "tel:+1;cpc=a;ext=2;oli=3", "tel:+1;ext=2" },
        { "sip:;cpc=a;oli=b@x;iotl=c:d", "sip:x" },
        { "sip:cpc=a@x;xcpc=b;cpcx=c;oli-2=d",
          "sip:cpc=a@x;xcpc=b;cpcx=c;oli-2=d" },
    };

    (void) state;

    for (i = 0; i < sizeof(uris) / sizeof(uris[0]); i++) {

        static const char  form[] =
            "INVITE %s SIP/2.0\r\nVia: SIP/2.0/WSS x\r\n"
            "From: \"a;cpc=b\" <%s>;tag=t\r\nTo: <%s>\r\nCall-ID: c\r\n"
            "CSeq: 1 INVITE\r\nContact: <%s>;expires=1\r\n"
            "Referred-By: <%s>\r\nX: <%s>\r\nContent-Length: 0\r\n\r\n";

        n = snprintf((char *) buf, sizeof(buf), form, uris[i].in, uris[i].in,
                     uris[i].in, uris[i].in, uris[i].in, uris[i].in);

        assert_int_equal(ims_sip_parse(&msg, buf, (size_t) n, IMS_SIP_WS,
                                       &err), 0);

        ims_sip_edit_init(&ed, &msg, scratch, sizeof(scratch));
        assert_int_equal(ims_sip_policy_apply(&ed, IMS_SIP_CORE_REQUEST,
                                              &reason), 0);
        n = ims_sip_edit_flatten(&ed, out, sizeof(out));
        assert_memory_equal(out, buf, (size_t) n);

        ims_sip_edit_init(&ed, &msg, scratch, sizeof(scratch));
        assert_int_equal(ims_sip_policy_apply(&ed, IMS_SIP_WIC_REQUEST,
                                              &reason), 0);
        n = ims_sip_edit_flatten(&ed, out, sizeof(out) - 1);
        assert_true(n > 0);
        out[n] = '\0';

        snprintf(z, sizeof(z), form, uris[i].out, uris[i].out, uris[i].out,
                 uris[i].out, uris[i].out, uris[i].in);

        assert_string_equal((char *) out, z);
    }
}


/* Without brackets they are the header's: '@' and '?' are of the value. */

static void
test_bare_params(void **state)
{
    size_t  i;

    static const struct {
        const char  *in;
        const char  *out;
    } lines[] = {
        { "Contact: sip:+1;cpc=4446@x;q=1\r\n", "Contact: sip:+1;q=1\r\n" },
        { "Contact: sip:a@x;oli=b?c, sip:d@x;iotl\r\n",
          "Contact: sip:a@x, sip:d@x\r\n" },
        { "Contact: <sip:a@x>;cpc=\"b;c>\";q=1\r\n",
          "Contact: <sip:a@x>;q=1\r\n" },
        { "Contact: <sip:a@x?b=c>;cpc\r\n", "Contact: <sip:a@x?b=c>\r\n" },
        { "Contact: <sip:a@x;cpc=b?c=d>\r\n", "Contact: <sip:a@x?c=d>\r\n" },
        { "Contact: \"\\\";cpc=b\" <sip:a@x>\r\n",
          "Contact: \"\\\";cpc=b\" <sip:a@x>\r\n" },
    };

    (void) state;

    for (i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        (void) passes(IMS_SIP_WIC_RESPONSE, "INVITE", lines[i].in);

        if (strstr((char *) out, lines[i].out) == NULL) {
            fail_msg("%s%s", lines[i].in, (char *) out);
        }
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_fates),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_credentials),
        cmocka_unit_test(test_conditions),
        cmocka_unit_test(test_uri_params),
        cmocka_unit_test(test_bare_params),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
