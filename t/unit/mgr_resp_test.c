/*
 * Copyright (C) nginx-ims contributors
 *
 * RESP parser and replies: every split point, every limit, garbage.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ims_pool_resp.h"


/* cmocka gives each test a state, which none here needs */
#pragma GCC diagnostic ignored "-Wunused-parameter"


typedef struct {
    const char  *in;
    size_t       n;
    int          rc;
} resp_case_t;

#define C(text, rc)  { text, sizeof(text) - 1, rc }


/*
 * The bytes sit at the end of a block of exactly their size, so that reading
 * one too many is seen under ASan.
 */
static int
parse_exact(ims_resp_parser_t *p, const char *in, size_t n, size_t max)
{
    int       rc;
    uint8_t  *copy;

    copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, in, n);

    rc = ims_resp_parse(p, copy, n, max);

    free(copy);

    return rc;
}


static void
test_whole(void **state)
{
    static const char  cmd[] =
        "*3\r\n$7\r\nACQUIRE\r\n$0\r\n\r\n$4\r\na\r\n\0\r\n*1\r\n";

    ims_resp_parser_t  p;

    ims_resp_reset(&p);

    assert_int_equal(ims_resp_parse(&p, (const uint8_t *) cmd,
                                    sizeof(cmd) - 1, IMS_RESP_MAX),
                     IMS_RESP_OK);

    assert_int_equal(p.nargs, 3);
    assert_int_equal(p.pos, sizeof(cmd) - 1 - 4);
    assert_true(ims_str_eq(ims_resp_arg(&p, (const uint8_t *) cmd, 0),
                           IMS_STR("ACQUIRE")));
    assert_int_equal(ims_resp_arg(&p, (const uint8_t *) cmd, 1).n, 0);
    assert_true(ims_str_eq(ims_resp_arg(&p, (const uint8_t *) cmd, 2),
                           IMS_STR("a\r\n\0")));
}


static void
test_splits(void **state)
{
    static const char  cmd[] =
        "*4\r\n$5\r\nRENEW\r\n$0\r\n\r\n$12\r\n$3\r\n*2\r\nabcd\r\n$1\r\nx\r\n";

    int                rc;
    size_t             n, i, j, k;
    ims_resp_parser_t  p;

    n = sizeof(cmd) - 1;

    /* in three parts, at every pair of split points */

    for (i = 0; i <= n; i++) {
        for (j = i; j <= n; j++) {

            ims_resp_reset(&p);
            k = 0;

            rc = parse_exact(&p, cmd, i, IMS_RESP_MAX);
            assert_int_equal(rc, i == n ? IMS_RESP_OK : IMS_RESP_AGAIN);
            k += (rc == IMS_RESP_OK);

            if (!k) {
                rc = parse_exact(&p, cmd, j, IMS_RESP_MAX);
                assert_int_equal(rc, j == n ? IMS_RESP_OK : IMS_RESP_AGAIN);
                k += (rc == IMS_RESP_OK);
            }

            if (!k) {
                rc = parse_exact(&p, cmd, n, IMS_RESP_MAX);
                assert_int_equal(rc, IMS_RESP_OK);
            }

            assert_int_equal(p.pos, n);
            assert_int_equal(p.nargs, 4);
            assert_true(ims_str_eq(ims_resp_arg(&p, (const uint8_t *) cmd, 2),
                                   IMS_STR("$3\r\n*2\r\nabcd")));
            assert_true(ims_str_eq(ims_resp_arg(&p, (const uint8_t *) cmd, 3),
                                   IMS_STR("x")));
        }
    }
}


static void
test_garbage(void **state)
{
    static const resp_case_t  cases[] = {
        C("", IMS_RESP_AGAIN),
        C("*", IMS_RESP_AGAIN),
        C("*1", IMS_RESP_AGAIN),
        C("*1\r", IMS_RESP_AGAIN),
        C("*1\r\n", IMS_RESP_AGAIN),
        C("GET / HTTP/1.1\r\n", IMS_RESP_GARBAGE),
        C("PING\r\n", IMS_RESP_GARBAGE),
        C("\r\n", IMS_RESP_GARBAGE),
        C(" *1\r\n", IMS_RESP_GARBAGE),
        C("$4\r\nPING\r\n", IMS_RESP_GARBAGE),
        C("*0\r\n", IMS_RESP_GARBAGE),
        C("*-1\r\n", IMS_RESP_GARBAGE),
        C("*+1\r\n", IMS_RESP_GARBAGE),
        C("* 1\r\n", IMS_RESP_GARBAGE),
        C("*\r\n", IMS_RESP_GARBAGE),
        C("*1\n$4\r\nPING\r\n", IMS_RESP_GARBAGE),
        C("*1\r\r\n", IMS_RESP_GARBAGE),
        C("*1 \r\n", IMS_RESP_GARBAGE),
        C("*0x1\r\n", IMS_RESP_GARBAGE),
        C("*64\r\n", IMS_RESP_AGAIN),
        C("*0000064\r\n", IMS_RESP_AGAIN),
        C("*65\r\n", IMS_RESP_TOO_MANY),
        C("*9999999\r\n", IMS_RESP_TOO_MANY),
        C("*4294967297\r\n", IMS_RESP_TOO_MANY),
        C("*18446744073709551617\r\n", IMS_RESP_TOO_MANY),
        C("*1\r\n$-1\r\n", IMS_RESP_GARBAGE),
        C("*1\r\n*1\r\n$4\r\nPING\r\n", IMS_RESP_GARBAGE),
        C("*1\r\n:4\r\n", IMS_RESP_GARBAGE),
        C("*1\r\n+PING\r\n", IMS_RESP_GARBAGE),
        C("*1\r\n$4\r\nPING\n", IMS_RESP_GARBAGE),
        C("*1\r\n$4\r\nPINGX", IMS_RESP_GARBAGE),
        C("*1\r\n$4\r\nPING\rX", IMS_RESP_GARBAGE),
        C("*1\r\n$3\r\nPING\r\n", IMS_RESP_GARBAGE),
        C("*1\r\n$5\r\nPING\r\n", IMS_RESP_GARBAGE),
        C("*1\r\n$5\r\nPING\r", IMS_RESP_AGAIN),
        C("*1\r\n$4\r\nPING\r", IMS_RESP_AGAIN),
        C("*1\r\n$65536\r\n", IMS_RESP_TOO_BIG),
        C("*1\r\n$9999999\r\n", IMS_RESP_TOO_BIG),
        C("*1\r\n$4294967300\r\n", IMS_RESP_TOO_BIG),
        C("*1\r\n$18446744073709551620\r\nPING\r\n", IMS_RESP_TOO_BIG),
    };

    size_t             i;
    ims_resp_parser_t  p;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {

        ims_resp_reset(&p);

        if (parse_exact(&p, cases[i].in, cases[i].n, IMS_RESP_MAX)
            != cases[i].rc)
        {
            print_error("case %zu \"%s\"\n", i, cases[i].in);
            fail();
        }
    }
}


/* one byte a call finds the same fault as all bytes at once */
static void
test_garbage_bytewise(void **state)
{
    int                rc;
    size_t             i;
    ims_resp_parser_t  p;
    static const char  bad[] = "*2\r\n$4\r\nPING\r\n$3\r\nabcd\r\n";

    ims_resp_reset(&p);
    rc = IMS_RESP_AGAIN;

    for (i = 0; i < sizeof(bad) - 1 && rc == IMS_RESP_AGAIN; i++) {
        rc = parse_exact(&p, bad, i + 1, IMS_RESP_MAX);
    }

    assert_int_equal(rc, IMS_RESP_GARBAGE);

    /* seen at the byte that is wrong, not later */
    assert_int_equal(i, sizeof(bad) - 1 - 2);
}


static void
test_limits(void **state)
{
    int                rc;
    char               head[32];
    size_t             n, fixed;
    uint8_t           *buf;
    ims_resp_parser_t  p;

    /* a command of exactly the limit, then of one more byte */

    fixed = strlen("*1\r\n$65522\r\n") + 2;
    n = IMS_RESP_MAX;

    buf = malloc(n + 1);
    assert_non_null(buf);
    memset(buf, 'a', n + 1);

    snprintf(head, sizeof(head), "*1\r\n$%zu\r\n", n - fixed);
    memcpy(buf, head, strlen(head));
    memcpy(buf + n - 2, "\r\n", 2);

    ims_resp_reset(&p);
    rc = ims_resp_parse(&p, buf, n, IMS_RESP_MAX);
    assert_int_equal(rc, IMS_RESP_OK);
    assert_int_equal(p.pos, n);

    snprintf(head, sizeof(head), "*1\r\n$%zu\r\n", n + 1 - fixed);
    memcpy(buf, head, strlen(head));

    ims_resp_reset(&p);
    rc = ims_resp_parse(&p, buf, strlen(head), IMS_RESP_MAX);
    assert_int_equal(rc, IMS_RESP_TOO_BIG);

    ims_resp_reset(&p);
    rc = ims_resp_parse(&p, buf, strlen(head), IMS_RESP_MAX_ADMIN);
    assert_int_equal(rc, IMS_RESP_AGAIN);

    free(buf);
}


/* the limit is for the command, not for each argument */
static void
test_limit_sum(void **state)
{
    int                rc;
    char               head[32];
    size_t             i, n;
    uint8_t           *buf;
    ims_resp_parser_t  p;

    buf = malloc(4 * IMS_RESP_MAX);
    assert_non_null(buf);

    memcpy(buf, "*4\r\n", 4);
    n = 4;

    for (i = 0; i < 4; i++) {
        snprintf(head, sizeof(head), "$%u\r\n", IMS_RESP_MAX / 3);
        memcpy(buf + n, head, strlen(head));
        n += strlen(head);
        memset(buf + n, 'x', IMS_RESP_MAX / 3);
        n += IMS_RESP_MAX / 3;
        memcpy(buf + n, "\r\n", 2);
        n += 2;
    }

    ims_resp_reset(&p);
    rc = ims_resp_parse(&p, buf, n, IMS_RESP_MAX);
    assert_int_equal(rc, IMS_RESP_TOO_BIG);

    ims_resp_reset(&p);
    rc = ims_resp_parse(&p, buf, n, IMS_RESP_MAX_ADMIN);
    assert_int_equal(rc, IMS_RESP_OK);

    free(buf);
}


static void
test_random(void **state)
{
    static const char  alphabet[] = "*$\r\n0123459ab+-:";

    int                rc;
    char               in[40];
    size_t             i, j, n;
    unsigned           round, seed;
    ims_resp_parser_t  p;

    seed = 20261122;

    for (round = 0; round < 200000; round++) {

        n = (size_t) rand_r(&seed) % sizeof(in);

        for (i = 0; i < n; i++) {
            in[i] = alphabet[(size_t) rand_r(&seed) % (sizeof(alphabet) - 1)];
        }

        if (n > 4 && round % 2) {
            memcpy(in, "*1\r\n", 4);
        }

        ims_resp_reset(&p);
        rc = parse_exact(&p, in, n, 64);

        if (rc == IMS_RESP_OK) {
            assert_true(p.pos <= n);

            for (j = 0; j < p.nargs; j++) {
                assert_true(p.args[j].off + p.args[j].len + 2 <= p.pos);
            }
        }
    }
}


static void
test_replies(void **state)
{
    static const char  want[] =
        "*2\r\n$3\r\na\r\n\r\n$0\r\n\r\n:7\r\n+OK\r\n-ENDED gone\r\n"
        "-EXHAUSTED 12\r\n$20\r\n18446744073709551615\r\n";

    ims_resp_buf_t  b;

    memset(&b, 0, sizeof(b));

    ims_resp_array(&b, 2);
    ims_resp_bulk(&b, IMS_STR("a\r\n"));
    ims_resp_bulk(&b, IMS_STR_NULL);
    ims_resp_int(&b, 7);
    ims_resp_simple(&b, "OK\r\n-FORGED");
    ims_resp_error(&b, "ENDED gone\n+OK");
    ims_resp_error_n(&b, "EXHAUSTED", 12);
    ims_resp_bulk_u64(&b, UINT64_MAX);

    assert_false(b.failed);
    assert_int_equal(b.n, sizeof(want) - 1);
    assert_memory_equal(b.p, want, b.n);

    ims_resp_free(&b);
    assert_null(b.p);
}


static void
test_room(void **state)
{
    ims_resp_buf_t  b;

    memset(&b, 0, sizeof(b));

    ims_resp_raw(&b, "abc", 3);
    assert_null(ims_resp_room(&b, SIZE_MAX / 2));
    assert_true(b.failed);

    /* nothing more is taken, what was there stays */
    ims_resp_simple(&b, "OK");
    assert_int_equal(b.n, 3);

    ims_resp_free(&b);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_splits),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_garbage_bytewise),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_limit_sum),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_replies),
        cmocka_unit_test(test_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
