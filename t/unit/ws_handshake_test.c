/*
 * Copyright (C) nginx-ims contributors
 *
 * Handshake rules and origins.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ws/ims_origin.h"
#include "ws/ims_ws_handshake.h"


static void
test_key(void **state)
{
    size_t       i;
    uint8_t      dst[IMS_WS_ACCEPT_LEN];
    static const struct {
        const char  *key;
        bool         ok;
    } keys[] = {
        { "dGhlIHNhbXBsZSBub25jZQ==", true },
        { "AAAAAAAAAAAAAAAAAAAAAA==", true },
        { "//////////////////////==", false },      /* stray bits */
        { "/////////////////////w==", true },
        { "dGhlIHNhbXBsZSBub25jZB==", false },      /* stray bits */
        { "dGhlIHNhbXBsZSBub25jZQ", false },        /* no padding */
        { "dGhlIHNhbXBsZSBub25jZQ= ", false },
        { "dGhlIHNhbXBsZSBub25j", false },          /* 15 bytes */
        { "dGhlIHNhbXBsZSBub25jZSE=", false },      /* 17 bytes */
        { "dGhlIHNhbXBsZSBub25jZSEh", false },      /* 18 bytes */
        { "dGhlIHNhbXBsZSBub25jZQ==\n", false },
        { "dGhlIHNhbXBsZSBub2-jZQ==", false },      /* the URL alphabet */
        { "dGhlIHNhbXB\tZSBub25jZQ==", false },
        { "", false },
    };

    (void) state;

    for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        if (ims_ws_key_ok(ims_str_z(keys[i].key)) != keys[i].ok) {
            fail_msg("key \"%s\"", keys[i].key);
        }
    }

    assert_false(ims_ws_key_ok(IMS_STR_NULL));

    /* the example of RFC 6455 section 1.3 */

    ims_ws_accept_key(dst, IMS_STR("dGhlIHNhbXBsZSBub25jZQ=="));
    assert_memory_equal(dst, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", sizeof(dst));
}


static void
test_token_list(void **state)
{
    size_t       i;
    static const struct {
        const char  *list;
        bool         has;
    } lists[] = {
        { "sip", true },
        { "SIP", true },
        { " sip\t", true },
        { "chat, sip", true },
        { "sip,chat", true },
        { ",, ,sip,", true },
        { "gossip", false },
        { "sipx", false },
        { "xsip", false },
        { "sip;q=1", false },
        { "sip chat", false },
        { "\"sip\"", false },
        { "si p", false },
        { "si,p", false },
        { "sip\r", false },
        { ",", false },
        { "", false },
    };

    (void) state;

    for (i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        if (ims_http_token_list_has(ims_str_z(lists[i].list), IMS_STR("sip"))
            != lists[i].has)
        {
            fail_msg("list \"%s\"", lists[i].list);
        }
    }

    assert_false(ims_http_token_list_has(IMS_STR_NULL, IMS_STR("sip")));
    assert_false(ims_http_token_list_has(IMS_STR("websocketx, not-upgrade"),
                                         IMS_STR("websocket")));
    assert_false(ims_http_token_list_has(IMS_STR("not-upgrade"),
                                         IMS_STR("upgrade")));
    assert_true(ims_http_token_list_has(IMS_STR("keep-alive, Upgrade"),
                                        IMS_STR("upgrade")));
}


static void
test_origin_parse(void **state)
{
    size_t        i;
    ims_origin_t  o;
    static const struct {
        const char  *text;
        const char  *host;          /* NULL: refused */
        unsigned     port;
    } origins[] = {
        { "https://site.example", "site.example", 443 },
        { "http://site.example", "site.example", 80 },
        { "HTTPS://Site.Example", "Site.Example", 443 },
        { "https://site.example:443", "site.example", 443 },
        { "https://site.example:8443", "site.example", 8443 },
        { "https://localhost", "localhost", 443 },
        { "http://127.0.0.1:8080", "127.0.0.1", 8080 },
        { "https://[::1]", "[::1]", 443 },
        { "https://[2001:db8::1]:444", "[2001:db8::1]", 444 },
        { "https://my_host", "my_host", 443 },
        { "https://xn--bcher-kva.example", "xn--bcher-kva.example", 443 },
        { "capacitor://localhost", "localhost", 0 },
        { "null", NULL, 0 },
        { "", NULL, 0 },
        { "*", NULL, 0 },
        { "site.example", NULL, 0 },
        { "https:site.example", NULL, 0 },
        { "https:/site.example", NULL, 0 },
        { "https://", NULL, 0 },
        { "://site.example", NULL, 0 },
        { "1https://site.example", NULL, 0 },
        { "https://user@site.example", NULL, 0 },
        { "https://user:pw@site.example", NULL, 0 },
        { "https://site.example@evil.test", NULL, 0 },
        { "https://site.example/", NULL, 0 },
        { "https://site.example/path", NULL, 0 },
        { "https://site.example?q", NULL, 0 },
        { "https://site.example#f", NULL, 0 },
        { "https://site.example\\evil", NULL, 0 },
        { "https://site.example.", NULL, 0 },
        { "https://.site.example", NULL, 0 },
        { "https://site..example", NULL, 0 },
        { "https://site.example:", NULL, 0 },
        { "https://site.example:0", NULL, 0 },
        { "https://site.example:0443", NULL, 0 },
        { "https://site.example:65536", NULL, 0 },
        { "https://site.example:443:443", NULL, 0 },
        { "https://site.example:44a", NULL, 0 },
        { "https://site.example:+443", NULL, 0 },
        { "https://site.example https://b.example", NULL, 0 },
        { "https://site.example,https://b.example", NULL, 0 },
        { " https://site.example", NULL, 0 },
        { "https://site.example ", NULL, 0 },
        { "https://site.example\t", NULL, 0 },
        { "https://b\xc3\xbc" "cher.example", NULL, 0 },
        { "https://site%2eexample", NULL, 0 },
        { "https://*.site.example", NULL, 0 },
        { "https://[::1", NULL, 0 },
        { "https://[]", NULL, 0 },
        { "https://[::1]x", NULL, 0 },
        { "https://[0:0::1]", NULL, 0 },
        { "https://[fe80::1%25eth0]", NULL, 0 },
        { "https://::1", NULL, 0 },
        { "file://", NULL, 0 },
    };

    (void) state;

    for (i = 0; i < sizeof(origins) / sizeof(origins[0]); i++) {

        if (ims_origin_parse(&o, ims_str_z(origins[i].text))
            != (origins[i].host != NULL))
        {
            fail_msg("origin \"%s\"", origins[i].text);
        }

        if (origins[i].host != NULL) {
            assert_true(ims_str_eq(o.host, ims_str_z(origins[i].host)));
            assert_int_equal(o.port, origins[i].port);
        }
    }

    assert_false(ims_origin_parse(&o, IMS_STR("https://a\0b")));
    assert_false(ims_origin_parse(&o, IMS_STR_NULL));
}


static void
test_origin_rules(void **state)
{
    size_t             i;
    const char        *err;
    ims_origin_rule_t  rules[4];
    static const char *const  texts[] = {
        "https://site.example",
        "http://Localhost:8080",
        "https://*.Apps.example:8443",
        "https://[::1]:444",
    };
    static const char *const  good[] = {
        "https://site.example",
        "https://site.example:443",
        "HTTPS://SITE.EXAMPLE",
        "http://localhost:8080",
        "https://a.apps.example:8443",
        "https://a.b.APPS.example:8443",
        "https://[::1]:444",
    };
    static const char *const  bad[] = {
        "http://site.example",
        "https://site.example:444",
        "http://site.example:443",
        "https://site.example.evil.test",
        "https://evilsite.example",
        "https://www.site.example",
        "https://site.exampl",
        "https://site.example.",
        "http://localhost",
        "http://localhost:80800",
        "https://apps.example:8443",
        "https://.apps.example:8443",
        "https://evilapps.example:8443",
        "https://a.apps.example",
        "http://a.apps.example:8443",
        "https://a.apps.example.evil.test:8443",
        "https://x/.apps.example:8443",
        "https://[::2]:444",
        "null",
        "",
    };
    static const char *const  refused[] = {
        "", "*", "https://*", "https://*.", "https://*.example",
        "https://*.*.example.org", "https://a.*.example.org",
        "https://*site.example.org", "https://*.site.example.org/",
        "https://*.0.0.1", "https://*.[::1]", "*.site.example",
        "*://site.example.org", "https://site.example.org/",
        "https://*.site.example.org:0", "null", "site.example.org",
    };

    (void) state;

    for (i = 0; i < 4; i++) {
        assert_int_equal(ims_origin_rule_parse(&rules[i],
                                               ims_str_z(texts[i]), &err), 0);
    }

    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (!ims_origin_match(rules, 4, ims_str_z(good[i]))) {
            fail_msg("refused: \"%s\"", good[i]);
        }

        assert_false(ims_origin_match(rules, 0, ims_str_z(good[i])));
    }

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (ims_origin_match(rules, 4, ims_str_z(bad[i]))) {
            fail_msg("let in: \"%s\"", bad[i]);
        }
    }

    for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        err = NULL;

        if (ims_origin_rule_parse(&rules[0], ims_str_z(refused[i]), &err)
            != -1)
        {
            fail_msg("rule taken: \"%s\"", refused[i]);
        }

        assert_non_null(err);
    }

    assert_int_equal(ims_origin_rule_parse(&rules[0],
                         IMS_STR("http://*.localhost:3000"), &err), 0);
    assert_true(ims_origin_match(rules, 1,
                                 IMS_STR("http://dev.localhost:3000")));
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_key),
        cmocka_unit_test(test_token_list),
        cmocka_unit_test(test_origin_parse),
        cmocka_unit_test(test_origin_rules),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
