
/*
 * Copyright (C) nginx-ims contributors
 *
 * Replies of the pool manager: cut at every byte, limits, garbage.
 */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/ims_reply.h"


static const char  lease[] =
    "*8\r\n"
    "$5\r\nnonce\r\n$4\r\nabcd\r\n"
    "$4\r\nimpu\r\n$5\r\nsip:a\r\n"
    "$4\r\nimpu\r\n$5\r\nsip:b\r\n"
    "$7\r\ndisplay\r\n$0\r\n\r\n";


/* the parser sees only what has "arrived": a copy of exactly that length */

static ptrdiff_t
feed(ims_reply_parser_t *p, const char *text, size_t n, ims_reply_t *r,
    uint8_t **copy)
{
    *copy = malloc(n ? n : 1);
    memcpy(*copy, text, n);

    return ims_reply_parse(p, *copy, n, r);
}


static void
check_lease(const ims_reply_t *r)
{
    assert_int_equal(r->type, '*');
    assert_int_equal(r->n, 8);
    assert_true(ims_str_eq(ims_reply_value(r, "nonce", 0), IMS_STR("abcd")));
    assert_true(ims_str_eq(ims_reply_value(r, "impu", 0), IMS_STR("sip:a")));
    assert_true(ims_str_eq(ims_reply_value(r, "impu", 1), IMS_STR("sip:b")));
    assert_null(ims_reply_value(r, "impu", 2).p);
    assert_non_null(ims_reply_value(r, "display", 0).p);
    assert_int_equal(ims_reply_value(r, "display", 0).n, 0);
    assert_null(ims_reply_value(r, "abcd", 0).p);
}


static void
test_every_split(void **state)
{
    size_t               i, n;
    uint8_t             *copy;
    ims_reply_t          r;
    ims_reply_parser_t   p;

    (void) state;

    n = sizeof(lease) - 1;

    for (i = 0; i < n; i++) {
        ims_reply_reset(&p);
        assert_int_equal(feed(&p, lease, i, &r, &copy), 0);
        free(copy);
        assert_int_equal(feed(&p, lease, n, &r, &copy), (int) n);
        check_lease(&r);
        free(copy);
    }

    /* byte by byte, the buffer moving each time */

    ims_reply_reset(&p);

    for (i = 0; i <= n; i++) {
        assert_int_equal(feed(&p, lease, i, &r, &copy), i < n ? 0 : (int) n);

        if (i == n) {
            check_lease(&r);
        }

        free(copy);
    }
}


static void
test_single(void **state)
{
    size_t               i, k;
    ims_reply_t          r;
    ims_reply_parser_t   p;

    static const struct {
        const char  *in;
        uint8_t      type;
        const char  *text;
        int64_t      number;
    } t[] = {
        { "+OK\r\n", '+', "OK", 0 },
        { "+\r\n", '+', "", 0 },
        { "-EXHAUSTED 17\r\n", '-', "EXHAUSTED 17", 0 },
        { ":-3\r\n", ':', "-3", -3 },
        { ":9223372036854775807\r\n", ':', "9223372036854775807", INT64_MAX },
        { "$3\r\na\r\n\r\n", '$', "a\r\n", 0 },
        { "$-1\r\n", '$', NULL, 0 },
        { "*0\r\n", '*', NULL, 0 },
    };

    (void) state;

    for (i = 0; i < sizeof(t) / sizeof(t[0]); i++) {

        for (k = 0; k < strlen(t[i].in); k++) {
            ims_reply_reset(&p);
            assert_int_equal(ims_reply_parse(&p, (const uint8_t *) t[i].in,
                                             k, &r), 0);
        }

        ims_reply_reset(&p);
        assert_int_equal(ims_reply_parse(&p, (const uint8_t *) t[i].in,
                                         strlen(t[i].in), &r),
                         (int) strlen(t[i].in));
        assert_int_equal(r.type, t[i].type);
        assert_true(r.number == t[i].number);
        assert_int_equal(r.n, 0);

        if (t[i].text == NULL) {
            assert_null(r.text.p);

        } else {
            assert_true(ims_str_eq(r.text, ims_str_z(t[i].text)));
        }
    }
}


static void
test_pipelined(void **state)
{
    uint8_t              buf[512];
    size_t               n;
    ims_reply_t          r;
    ims_reply_parser_t   p;

    (void) state;

    n = sizeof(lease) - 1;
    memcpy(buf, lease, n);
    memcpy(buf + n, "-LATE\r\n+O", 9);

    ims_reply_reset(&p);
    assert_int_equal(ims_reply_parse(&p, buf, n + 9, &r), (int) n);
    check_lease(&r);

    ims_reply_reset(&p);
    assert_int_equal(ims_reply_parse(&p, buf + n, 9, &r), 7);
    assert_int_equal(r.type, '-');

    ims_reply_reset(&p);
    assert_int_equal(ims_reply_parse(&p, buf + n + 7, 2, &r), 0);
}


static void
test_garbage(void **state)
{
    size_t               i;
    ims_reply_t          r;
    ims_reply_parser_t   p;

    static const char  *t[] = {
        "HTTP/1.1 200 OK\r\n",
        "\r\n",
        "+OK\n",
        "+O\rK\r\n",
        "$x\r\n",
        "$-2\r\n",
        "$+3\r\nabc\r\n",
        "$3\r\nabcd\r\n",
        "$65537\r\n",
        "$18446744073709551615\r\n",
        "$99999999999999999999999\r\n",
        ":\r\n",
        ":-\r\n",
        ":1x\r\n",
        "*-1\r\n",
        "*385\r\n",
        "*2\r\n*385\r\n",
        "*2\r\n*-1\r\n",
        "*2\r\n*1\r\n*1\r\n",
        "*2\r\n*1\r\n+a\r\n+b\r\n",
        "*2\r\n*0\r\n+b\r\n",
        "*2\r\n+a\r\n*1\r\n",
        "*2\r\n*384\r\n+a\r\n*384\r\n",
        "*2\r\n$1\r\na\r\nb",
        "*1\r\n$65530\r\n",
    };

    (void) state;

    for (i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        ims_reply_reset(&p);

        if (ims_reply_parse(&p, (const uint8_t *) t[i], strlen(t[i]), &r)
            != -1)
        {
            fail_msg("taken: %s", t[i]);
        }
    }
}


/* an array of arrays, as PURGE NEXT is answered */

static void
test_rows(void **state)
{
    size_t               i, n;
    uint8_t             *copy;
    ims_reply_t          r;
    ims_reply_parser_t   p;

    static const char  text[] =
        "*3\r\n*4\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$1\r\n2\r\n"
        "*0\r\n"
        "*4\r\n$1\r\na\r\n$1\r\n3\r\n$1\r\na\r\n$-1\r\n";

    (void) state;

    n = sizeof(text) - 1;
    ims_reply_reset(&p);

    for (i = 0; i <= n; i++) {
        assert_int_equal(feed(&p, text, i, &r, &copy), i < n ? 0 : (int) n);

        if (i < n) {
            free(copy);
        }
    }

    assert_int_equal(r.type, '*');
    assert_int_equal(r.nrows, 3);
    assert_true(ims_str_eq(ims_reply_row_value(&r, 0, "a", 0), IMS_STR("1")));
    assert_true(ims_str_eq(ims_reply_row_value(&r, 0, "b", 0), IMS_STR("2")));
    assert_null(ims_reply_row_value(&r, 0, "a", 1).p);
    assert_null(ims_reply_row_value(&r, 1, "a", 0).p);
    assert_true(ims_str_eq(ims_reply_row_value(&r, 2, "a", 0), IMS_STR("3")));
    assert_null(ims_reply_row_value(&r, 2, "a", 1).p);
    assert_null(ims_reply_row_value(&r, 2, "b", 0).p);

    /* whoever waits for a flat one finds nothing in it */

    assert_int_equal(r.n, 0);
    assert_null(ims_reply_value(&r, "a", 0).p);
    free(copy);

    /* as many as there is room for, and one more */

    copy = malloc(512);
    memcpy(copy, "*16\r\n", 5);

    for (i = 5; i < 5 + 16 * 4; i += 4) {
        memcpy(copy + i, "*0\r\n", 4);
    }

    ims_reply_reset(&p);
    assert_int_equal(ims_reply_parse(&p, copy, i, &r), (int) i);
    assert_int_equal(r.nrows, 16);

    copy[2] = '7';
    memcpy(copy + i, "*0\r\n", 4);
    ims_reply_reset(&p);
    assert_int_equal(ims_reply_parse(&p, copy, i + 4, &r), -1);

    free(copy);
}


static void
test_limit(void **state)
{
    size_t               n;
    uint8_t             *buf;
    ims_reply_t          r;
    ims_reply_parser_t   p;

    (void) state;

    buf = malloc(IMS_REPLY_MAX);
    memset(buf, 'a', IMS_REPLY_MAX);

    /* a line without an end */

    buf[0] = '+';
    ims_reply_reset(&p);
    assert_int_equal(ims_reply_parse(&p, buf, 1024, &r), 0);
    assert_int_equal(ims_reply_parse(&p, buf, 1100, &r), -1);

    /* the longest bulk string: its framing is 10 bytes */

    memcpy(buf, "$65526\r\n", 8);
    memcpy(buf + IMS_REPLY_MAX - 2, "\r\n", 2);
    ims_reply_reset(&p);
    assert_int_equal(ims_reply_parse(&p, buf, IMS_REPLY_MAX - 1, &r), 0);
    assert_int_equal(ims_reply_parse(&p, buf, IMS_REPLY_MAX, &r),
                     IMS_REPLY_MAX);
    assert_int_equal(r.text.n, 65526);

    memcpy(buf, "$65527\r\n", 8);
    ims_reply_reset(&p);
    assert_int_equal(ims_reply_parse(&p, buf, 8, &r), -1);

    /* every element as short as can be still ends in the limit's terms */

    memcpy(buf, "*384\r\n", 6);

    for (n = 6; n < 6 + 384 * 3; n += 3) {
        memcpy(buf + n, "+\r\n", 3);
    }

    ims_reply_reset(&p);
    assert_int_equal(ims_reply_parse(&p, buf, n, &r), (int) n);
    assert_int_equal(r.n, 384);

    free(buf);
}


static void
test_command(void **state)
{
    size_t     n;
    uint8_t   *buf, *end;
    ims_str_t  args[3];

    static const char  want[] =
        "*3\r\n$4\r\nAUTH\r\n$0\r\n\r\n$12\r\na\r\nb\0cdefghi\r\n";

    (void) state;

    args[0] = IMS_STR("AUTH");
    args[1] = IMS_STR("");
    args[2] = IMS_STR("a\r\nb\0cdefghi");
    args[2].n = 12;

    n = ims_command_len(args, 3);
    assert_int_equal(n, sizeof(want) - 1);

    buf = malloc(n);
    end = ims_command_write(buf, args, 3);
    assert_ptr_equal(end, buf + n);
    assert_memory_equal(buf, want, n);
    free(buf);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_every_split),
        cmocka_unit_test(test_single),
        cmocka_unit_test(test_pipelined),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_command),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
