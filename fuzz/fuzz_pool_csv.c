/*
 * Copyright (C) nginx-ims contributors
 *
 * Fuzz target: files and ranges of an import.  Every row is read a second time
 * from where it was; whatever is wrong, the reader gets to the end; and what
 * passes as an identity has names that are what they are.
 */

#include <stdlib.h>

#include "ims_pool_csv.h"
#include "ims_pool_writer.h"


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);


static void
fuzz_key(void *ctx, unsigned i, ims_str_t key)
{
    (void) ctx;

    if (i > IMS_POOL_IMPUS || key.n == 0 || key.n > 511) {
        abort();
    }
}


static void
fuzz_row(const ims_csv_t *csv)
{
    unsigned             i, at;
    ims_pool_identity_t  row;

    memset(&row, 0, sizeof(row));
    row.impi = csv->field[0];

    for (i = 1; i < csv->n && i <= IMS_POOL_IMPUS; i++) {
        row.impu[row.nimpu++] = csv->field[i];
    }

    (void) ims_pool_identity_keys(&row, &at, fuzz_key, NULL);
}


static void
fuzz_csv(ims_str_t in)
{
    int             rc;
    uint64_t        line, lines;
    const uint8_t  *row;

    static ims_csv_t  csv, again;

    ims_csv_init(&csv, in);
    ims_csv_init(&again, in);
    lines = 0;

    while ((rc = ims_csv_next(&csv)) != 0) {

        row = csv.row;
        line = csv.line;

        if (line <= lines || row < in.p || row > in.p + in.n) {
            abort();
        }

        lines = line;

        ims_csv_seek(&again, row, line);

        if (ims_csv_next(&again) != rc || again.line != line) {
            abort();
        }

        if (rc == -1) {
            ims_csv_skip(&csv);
            continue;
        }

        if (again.n != csv.n || csv.n == 0
            || !ims_str_eq(again.field[csv.n - 1], csv.field[csv.n - 1]))
        {
            abort();
        }

        fuzz_row(&csv);
    }
}


static void
fuzz_range(ims_str_t in)
{
    size_t            n;
    uint8_t           first[600], last[600];
    ims_pool_range_t  range;

    if (!ims_pool_range_parse(in, &range)) {
        return;
    }

    n = ims_pool_range_name(&range, 0, first, sizeof(first));

    if (ims_pool_range_name(&range, ims_pool_range_count(&range) - 1, last,
                            sizeof(last))
        != n)
    {
        abort();
    }
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0) {
        return 0;
    }

    if (data[0] == '[') {
        fuzz_range(ims_str_set(data + 1, n - 1));

    } else {
        fuzz_csv(ims_str_set(data, n));
    }

    return 0;
}
