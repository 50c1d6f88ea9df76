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


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
