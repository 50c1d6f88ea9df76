/*
 * Copyright (C) nginx-ims contributors
 *
 * The CSV reader: RFC 4180's own examples, and everything it must not guess.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ims_pool_csv.h"


#pragma GCC diagnostic ignored "-Wunused-parameter"


/* rows as "field|field" with "/" between rows, or "!line error" at the end */
static void
show(const char *in, size_t n, char *out, size_t cap)
{
    int         rc;
    size_t      k;
    unsigned    i;
    uint8_t    *copy;
    ims_csv_t  *csv;

    csv = malloc(sizeof(ims_csv_t));
    copy = malloc(n ? n : 1);
    assert_non_null(csv);
    assert_non_null(copy);
    memcpy(copy, in, n);

    ims_csv_init(csv, ims_str_set(copy, n));
    k = 0;
    out[0] = '\0';

    while ((rc = ims_csv_next(csv)) == 1) {

        for (i = 0; i < csv->n; i++) {
            k += (size_t) snprintf(out + k, cap - k, "%s%.*s", i ? "|" : "",
                                   IMS_STR_ARG(csv->field[i]));
        }

        k += (size_t) snprintf(out + k, cap - k, "/");
    }

    if (rc == -1) {
        snprintf(out + k, cap - k, "!%llu %s",
                 (unsigned long long) csv->line, csv->error);
        assert_int_equal(ims_csv_next(csv), -1);
    }

    free(copy);
    free(csv);
}


static void
test_rows(void **state)
{
    static const struct {
        const char  *in;
        const char  *want;
    } cases[] = {
        { "", "" },
        { "a", "a/" },
        { "a,b\r\nc,d\r\n", "a|b/c|d/" },
        { "a,b\nc,d", "a|b/c|d/" },
        { "a,,\n", "a||/" },
        { ",\n", "|/" },
        { "\"a\",\"b\"\r\n", "a|b/" },
        { "\"a,b\",\"c\"\"d\"\n", "a,b|c\"d/" },
        { "\"x\r\ny\",z\na\n", "x\r\ny|z/a/" },
        { "\"\",\"\"\"\"\n", "|\"/" },
        { "\xEF\xBB\xBF" "a,b\n", "a|b/" },
        { " a , b\n", " a | b/" },
        { "a\n\nb\n", "a/!2 an empty line" },
        { "\n", "!1 an empty line" },
        { "a,b\"c\n", "!1 a quote in a field without quotes" },
        { "x\na,\"b\"c\n", "x/!2 text behind a closing quote" },
        { "a,\"b\" \n", "!1 text behind a closing quote" },
        { "a\rb\n", "!1 a CR that ends no line" },
        { "a\r", "!1 a CR that ends no line" },
        { "x\n\"a\nb", "x/!2 a quote is not closed" },
        { "\"a\n\nb\"\nc\n\"", "a\n\nb/c/!5 a quote is not closed" },
        { "\"a\"\"", "!1 a quote is not closed" },
        { "\"a\"", "a/" },
    };

    char    out[256];
    size_t  i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        show(cases[i].in, strlen(cases[i].in), out, sizeof(out));
        assert_string_equal(out, cases[i].want);
    }
}


static void
test_limits(void **state)
{
    char   *in, out[64];
    size_t  i;

    show("a\0b\n", 4, out, sizeof(out));
    assert_string_equal(out, "!1 a NUL byte");

    in = malloc(IMS_CSV_ROW + 2);
    assert_non_null(in);

    memset(in, ',', IMS_CSV_FIELDS);
    show(in, IMS_CSV_FIELDS - 1, out, sizeof(out));
    assert_int_equal(strlen(out), IMS_CSV_FIELDS - 1 + 1);
    show(in, IMS_CSV_FIELDS, out, sizeof(out));
    assert_string_equal(out, "!1 too many fields");

    for (i = 0; i < IMS_CSV_ROW + 1; i++) {
        in[i] = 'x';
    }

    show(in, IMS_CSV_ROW + 1, out, sizeof(out));
    assert_string_equal(out, "!1 too long");

    free(in);
}


/* lines of the good rows and, in brackets, of the bad ones */

static void
test_skip(void **state)
{
    static const struct {
        const char  *in;
        const char  *want;
    } cases[] = {
        { "a\nb\nc\n", "1 2 3 " },
        { "a\nb\"\nc\n", "1 [2] 3 " },
        { "\"a\nb\nc\n", "[1] 2 3 " },
        { "\"a\nb\"x\nc\"d\ne", "[1] [2] [3] 4 " },
        { "a\n\n\nb\n\n", "1 [2] [3] 4 [5] " },
        { "a\rb\n\"x\ny\"\nc\n\"", "[1] 2 4 [5] " },
        { "\"", "[1] " },
        { "\n", "[1] " },
        { "\r", "[1] " },
    };

    int         rc;
    char        out[128];
    size_t      i, k;
    ims_csv_t  *csv;

    csv = malloc(sizeof(ims_csv_t));
    assert_non_null(csv);

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {

        ims_csv_init(csv, ims_str_z(cases[i].in));
        k = 0;

        while ((rc = ims_csv_next(csv)) != 0) {
            assert_true(k < sizeof(out) - 24);
            k += (size_t) snprintf(out + k, sizeof(out) - k,
                                   rc == 1 ? "%llu " : "[%llu] ",
                                   (unsigned long long) csv->line);

            if (rc == -1) {
                assert_int_equal(ims_csv_next(csv), -1);
                ims_csv_skip(csv);
            }
        }

        assert_string_equal(out, cases[i].want);
    }

    free(csv);
}


/* every row is read again from where it was, in any order */

static void
test_seek(void **state)
{
    static const char  in[] = "\xEF\xBB\xBF" "a,1\r\n\"b\n\",2\nc,\"3\"";

    int             n;
    size_t          i;
    uint64_t        line[3];
    ims_csv_t      *csv;
    const uint8_t  *row[3];

    static const size_t  order[] = { 2, 0, 1, 1, 2 };

    csv = malloc(sizeof(ims_csv_t));
    assert_non_null(csv);

    ims_csv_init(csv, ims_str_z(in));

    for (n = 0; ims_csv_next(csv) == 1; n++) {
        assert_true(n < 3);
        row[n] = csv->row;
        line[n] = csv->line;
    }

    assert_int_equal(n, 3);

    for (i = 0; i < sizeof(order) / sizeof(order[0]); i++) {

        ims_csv_seek(csv, row[order[i]], line[order[i]]);
        assert_int_equal(ims_csv_next(csv), 1);
        assert_int_equal(csv->line, line[order[i]]);
        assert_int_equal(csv->field[0].p[0], 'a' + (int) order[i]);
        assert_int_equal(csv->field[1].p[0], '1' + (int) order[i]);
    }

    assert_int_equal(ims_csv_next(csv), 0);
    free(csv);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_skip),
        cmocka_unit_test(test_seek),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
