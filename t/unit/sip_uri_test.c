/*
 * Copyright (C) nginx-ims contributors
 *
 * URIs: syntax, canonical form (a fixed point), folded form, and what may be
 * an identity (PEERS.md D8, D13).
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>

#include "sip/ims_sip_uri.h"


static void
assert_slice(ims_str_t s, const char *z)
{
    if (!ims_str_eq(s, ims_str_z(z))) {
        fail_msg("\"%.*s\" is not \"%s\"", IMS_STR_ARG(s), z);
    }
}


static void
test_parse(void **state)
{
    size_t         i;
    ims_str_t      v;
    ims_sip_uri_t  u;

    static const char *const  bad[] = {
        "", ":", "sip", "sip:", "1sip:a@x", "sip:@x", "sip:a@", "sip:a@@x",
        "sip:a@x@y", "sip:a b@x", "sip:a\x01@x", "sip:a\xc3\xa9@x",
        "sip:a%@x", "sip:a%4@x", "sip:a%4g@x", "sip:a<b@x", "sip:a\"b@x",
        "sip:a#b@x", "sip:a@x y", "sip:a@x_y", "sip:a@x%41", "sip:a@x:",
        "sip:a@x:0", "sip:a@x:65536", "sip:a@x:5o60", "sip:a@x:-1",
        "sip:a@x:123456789012345678901", "sip:a@x;", "sip:a@x;;a",
        "sip:a@x;=a", "sip:a@x;a=", "sip:a@x;a=b=c", "sip:a@x;a=\"b\"",
        "sip:a@x;a b", "sip:a@x?", "sip:a@x?a", "sip:a@x?=b", "sip:a@x?a=b&",
        "sip:a@x?a=b c", "sip:a@[::1", "sip:a@[]", "sip:a@[::g]",
        "sip:a@[::1]x", "sip:a@::1", "sip:a:b;c@x", "sip:a:b?c@x",
        "sip:a@[1:2:3:4:5:6:7:8:9:a:b:c:d:e:f:0:1:2:3:4:5:6:7:8]",
        "tel:", "tel:+", "tel:-", "tel:+-", "tel:+1a", "tel:+1*", "tel:1+2",
        "tel:x", "tel:+1;", "tel:+1;=x", "tel:+1;ext=", "tel:+1 2",
        "tel:%2b1", "urn:", "urn:a b", "http:<x>", "http:\"",
    };

    (void) state;

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (ims_sip_uri_parse(ims_str_z(bad[i]), &u)) {
            fail_msg("taken: %s", bad[i]);
        }
    }

    assert_true(ims_sip_uri_parse(
        IMS_STR("SIPS:a%20b;c/?d:pw,$@Ex-1.Org:65535;lr;Maddr=[::1]"
                ";x=%41?h=v&%41=&b=1"), &u));
    assert_int_equal(u.scheme, IMS_SIP_URI_SIPS);
    assert_slice(u.user, "a%20b;c/?d");
    assert_slice(u.password, "pw,$");
    assert_slice(u.host, "Ex-1.Org");
    assert_int_equal(u.port, 65535);
    assert_slice(u.params, ";lr;Maddr=[::1];x=%41");
    assert_slice(u.headers, "h=v&%41=&b=1");

    assert_int_equal(ims_sip_uri_param(&u, "lr", &v), 1);
    assert_null(v.p);
    assert_int_equal(ims_sip_uri_param(&u, "maddr", &v), 1);
    assert_slice(v, "[::1]");
    assert_int_equal(ims_sip_uri_param(&u, "mad", &v), 0);
    assert_int_equal(ims_sip_uri_param(&u, "maddrs", &v), 0);

    assert_true(ims_sip_uri_parse(IMS_STR("sip:x"), &u));
    assert_null(u.user.p);
    assert_slice(u.host, "x");
    assert_int_equal(u.port, 0);

    assert_true(ims_sip_uri_parse(IMS_STR("sip:a@[2001:DB8::1]:5070"), &u));
    assert_slice(u.host, "[2001:DB8::1]");
    assert_int_equal(u.port, 5070);

    assert_true(ims_sip_uri_parse(IMS_STR("sip:x;%6Cr;LR"), &u));
    assert_int_equal(ims_sip_uri_param(&u, "lr", &v), 2);

    assert_true(ims_sip_uri_parse(IMS_STR("tel:+1-(2).3;Ext=4"), &u));
    assert_slice(u.user, "+1-(2).3");
    assert_slice(u.params, ";Ext=4");

    assert_true(ims_sip_uri_parse(IMS_STR("urn:service:sos"), &u));
    assert_int_equal(u.scheme, IMS_SIP_URI_URN);
    assert_slice(u.opaque, "service:sos");
}


/* canonical form of each, and of that again */

static void
test_canon(void **state)
{
    size_t     i;
    uint8_t    a[512], b[512];
    ptrdiff_t  n, m;

    static const struct {
        const char  *uri;
        const char  *canon;      /* NULL: there is none */
    } uris[] = {
        { "SIP:Alice@IMS.Example", "sip:Alice@ims.example" },
        { "sip:alice@ims.example:5060", "sip:alice@ims.example" },
        { "sip:alice@ims.example:5061", "sip:alice@ims.example:5061" },
        { "sips:alice@ims.example:5061", "sips:alice@ims.example" },
        { "sips:alice@ims.example:5060", "sips:alice@ims.example:5060" },
        { "sip:%61lice@x", "sip:alice@x" },
        { "sip:%7Ea%7e@x", "sip:~a~@x" },
        { "sip:a%2b%2B%3b@x", "sip:a%2B%2B%3B@x" },
        { "sip:a+;@x", "sip:a+;@x" },
        { "sip:%2561@x", "sip:%2561@x" },
        { "sip:a:%50w@x", "sip:a:Pw@x" },
        { "sip:a@x;transport=ws;lr;ob;foo=bar", "sip:a@x" },
        { "sip:+1@x;User=PHONE", "sip:+1@x;user=phone" },
        { "sip:+1@x;%75ser=%70hone", "sip:+1@x;user=phone" },
        { "sip:a@x;user=phone;maddr=H;ttl=1;method=INVITE;gr=Q;z",
          "sip:a@x;gr=q;maddr=h;method=invite;ttl=1;user=phone" },
        { "sip:a@x;gr", "sip:a@x;gr" },
        { "sip:a@x;user=phone;user=phone", NULL },
        { "sip:a@x;user=phone;USER=ip", NULL },
        { "sip:a@x?h=v", NULL },
        { "sip:X", "sip:x" },
        { "sip:a@[2001:DB8:0:0::1]", "sip:a@[2001:db8::1]" },
        { "sip:a@x.", "sip:a@x." },
        { "tel:+1-201-(555).0123", "tel:+12015550123" },
        { "TEL:+1;PHONE-context=X;cpc=y;Isub=Z;ext=1-2",
          "tel:+1;ext=12;isub=z;phone-context=x" },
        { "tel:863-1234;phone-context=+1-914-555",
          "tel:8631234;phone-context=+1914555" },
        { "tel:863;phone-context=%2B1%2D2", "tel:863;phone-context=%2B1-2" },
        { "tel:+1;ext=%2d5", "tel:+1;ext=5" },
        { "tel:+1;ext=(-)", "tel:+1;ext=(-)" },
        { "tel:*#AB", "tel:*#ab" },
        { "tel:+1;ext=1;ext=2", NULL },
        { "URN:UUID:Aa", "urn:uuid:Aa" },
        { "urn:x", "urn:x" },
        { "HTTP://X", "http://X" },
    };

    (void) state;

    for (i = 0; i < sizeof(uris) / sizeof(uris[0]); i++) {
        n = ims_sip_canon(a, sizeof(a), ims_str_z(uris[i].uri));

        if (uris[i].canon == NULL) {
            assert_int_equal(n, -1);
            continue;
        }

        if (n < 0) {
            fail_msg("%s: no canonical form", uris[i].uri);
        }

        assert_slice(ims_str_set(a, (size_t) n), uris[i].canon);

        m = ims_sip_canon(b, sizeof(b), ims_str_set(a, (size_t) n));
        assert_int_equal(m, n);
        assert_memory_equal(a, b, (size_t) n);

        /* exactly fits, and one byte less */

        assert_int_equal(ims_sip_canon(b, (size_t) n, ims_str_z(uris[i].uri)),
                         n);
        assert_int_equal(ims_sip_canon(b, (size_t) n - 1,
                                       ims_str_z(uris[i].uri)), -1);
    }
}


static void
test_same(void **state)
{
    size_t  i;

    static const struct {
        const char  *a;
        const char  *b;
        bool         same;
    } pairs[] = {
        { "sip:a@x", "SIP:a@X:5060;transport=tcp", true },
        { "sip:%61@x", "sip:a@x", true },
        { "sip:a@x", "sips:a@x", false },
        { "sip:a@x", "sip:A@x", false },
        { "sip:a@x", "sip:a@x.evil", false },
        { "sip:a@x", "sip:aa@x", false },
        { "sip:a@x", "sip:a@x:5061", false },
        { "sip:a@x", "sip:a@x;user=phone", false },
        { "sip:a@x", "sip:a:pw@x", false },
        { "sip:a@x", "sip:a@x?b=c", false },
        { "tel:+1-2", "tel:+12", true },
        { "tel:+12", "sip:+12@x;user=phone", false },
        { "sip:a@x", "a@x", false },
    };

    (void) state;

    for (i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        if (ims_sip_uri_same(ims_str_z(pairs[i].a), ims_str_z(pairs[i].b))
            != pairs[i].same)
        {
            fail_msg("%s, %s", pairs[i].a, pairs[i].b);
        }
    }
}


static void
test_fold(void **state)
{
    size_t     i;
    uint8_t    a[512], b[512];
    ptrdiff_t  n, m;

    static const struct {
        const char  *uri;
        const char  *fold;
    } uris[] = {
        { "sip:Alice@IMS.Example:5070;user=ip;x", "sip:alice@ims.example" },
        { "sips:%41lice@ims.example.", "sip:alice@ims.example" },
        { "sip:a:pw@x", "sip:a@x" },
        { "sip:X", "sip:x" },
        { "sip:a%2bb@x", "sip:a+b@x" },
        { "sip:a%25@x", "sip:a%25@x" },
        { "sip:a%40b@x", "sip:a%40b@x" },
        { "sip:a@[2001:DB8::0:1]", "sip:a@[2001:db8::1]" },

        /* one number */

        { "tel:+1-201-555", "tel:+1201555" },
        { "tel:+1201555;cpc=x", "tel:+1201555" },
        { "sip:+1-201-555@x;user=phone", "tel:+1201555" },
        { "sip:+1201555;cpc=x@other;user=phone", "tel:+1201555" },
        { "sip:%2B1201555@x", "tel:+1201555" },
        { "sips:+1201555@y:5070", "tel:+1201555" },

        /* one local number in one context */

        { "tel:86-3;phone-context=X.example", "sip:863@x.example" },
        { "sip:863;phone-context=x.example@y;user=phone",
          "sip:863@x.example" },
        { "sip:8.63@X.example;user=phone", "sip:863@x.example" },
        { "sip:863@x.example", "sip:863@x.example" },
        { "tel:863;phone-context=+1-9", "sip:863@+19" },
        { "tel:863;phone-context=%2D5", "sip:863@5" },
        { "tel:911", "sip:911@" },

        /* a name is not a number for having user=phone */

        { "sip:Bob@x;user=phone", "sip:bob@x" },
        { "sip:8.63@x", "sip:8.63@x" },

        { "URN:uuid:Aa", "urn:uuid:aa" },
        { "sip:a@x?h=v", NULL },
    };

    (void) state;

    for (i = 0; i < sizeof(uris) / sizeof(uris[0]); i++) {
        n = ims_sip_fold(a, sizeof(a), ims_str_z(uris[i].uri));

        if (uris[i].fold == NULL) {
            assert_int_equal(n, -1);
            continue;
        }

        if (n < 0) {
            fail_msg("%s: no folded form", uris[i].uri);
        }

        assert_slice(ims_str_set(a, (size_t) n), uris[i].fold);

        /* equal canonical forms have equal folded ones */

        m = ims_sip_canon(b, sizeof(b), ims_str_z(uris[i].uri));
        m = ims_sip_fold(a, sizeof(a), ims_str_set(b, (size_t) m));
        assert_int_equal(m, n);
        assert_slice(ims_str_set(a, (size_t) m), uris[i].fold);
    }
}


/* D13 */

static void
test_identity(void **state)
{
    size_t  i;
    char    z[400];

    static const char *const  good[] = {
        "sip:web-000123@ims.example", "sips:a@x", "tel:+1-201",
        "sip:+1201@ims.example;user=phone", "sip:j%C3%BCrgen@x",
    };

    static const char *const  bad[] = {
        "", "a@x", "sip:x", "sip:a:pw@x", "sip:a@x?h=v", "urn:x:y",
        "http://x", "im:a@x",
        "sip:a@x>\r\nP-Asserted-Identity: <sip:v@x", "sip:a@x\r\n",
        "sip:a%0d%0aX@x", "sip:a%0D@x", "sip:a%0A@x", "sip:%00@x",
        "sip:a%1f@x", "sip:a%7F@x", "sip:a%22b@x", "sip:a%3cb@x",
        "sip:a%3Eb@x", "sip:a%5cb@x", "sip:a%250d@x", "sip:a%20b@x",
        "sip:a\"b@x", "sip:a>@x", "sip:a@x>", "<sip:a@x>", " sip:a@x",
        "sip:a@x ", "sip:a\\b@x", "sip:a,b@x", "sip:a\xc3\xa9@x",
        "sip:a@x;user=phone;user=phone", "sip:a@x;x=%0a",
    };

    (void) state;

    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (!ims_sip_identity_ok(ims_str_z(good[i]))) {
            fail_msg("refused: %s", good[i]);
        }
    }

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (ims_sip_identity_ok(ims_str_z(bad[i]))) {
            fail_msg("taken: %s", bad[i]);
        }
    }

    assert_false(ims_sip_identity_ok(ims_str_set("sip:a\0b@x", 9)));
    assert_false(ims_sip_identity_ok(IMS_STR_NULL));

    memset(z, 'a', sizeof(z));
    memcpy(z, "sip:", 4);
    memcpy(z + IMS_SIP_IDENTITY_MAX - 2, "@x", 2);
    assert_true(ims_sip_identity_ok(ims_str_set(z, IMS_SIP_IDENTITY_MAX)));
    z[IMS_SIP_IDENTITY_MAX] = 'x';
    assert_false(ims_sip_identity_ok(ims_str_set(z,
                                                 IMS_SIP_IDENTITY_MAX + 1)));
}


static void
test_impi(void **state)
{
    size_t  i;

    static const char *const  good[] = {
        "web-000123@ims.example", "a.b_c+d=e@x", "234150999999999@x.org"
    };

    static const char *const  bad[] = {
        "", "@", "a@", "@x", "a", "a@b@c", "a b@x", "a\"@x", "a\\@x",
        "a@x\r\nX: y", "a\n@x", "a<@x", "a>@x", "a,b@x", "a;b@x", "a:b@x",
        "sip:a@x", "a@x y", "a@x\"", "a\xc3\xa9@x", "a(@x",
    };

    (void) state;

    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (!ims_sip_impi_ok(ims_str_z(good[i]))) {
            fail_msg("refused: %s", good[i]);
        }
    }

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {

        if (ims_sip_impi_ok(ims_str_z(bad[i]))) {
            fail_msg("taken: %s", bad[i]);
        }
    }

    assert_false(ims_sip_impi_ok(ims_str_set("a\0@x", 4)));
    assert_false(ims_sip_impi_ok(IMS_STR_NULL));
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_canon),
        cmocka_unit_test(test_same),
        cmocka_unit_test(test_fold),
        cmocka_unit_test(test_identity),
        cmocka_unit_test(test_impi),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
