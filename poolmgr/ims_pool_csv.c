/*
 * Copyright (C) nginx-ims contributors
 *
 * See ims_pool_csv.h.
 */

#include "ims_pool_csv.h"


static int csv_fail(ims_csv_t *csv, const char *error);
static bool csv_put(ims_csv_t *csv, uint8_t ch);


void
ims_csv_init(ims_csv_t *csv, ims_str_t text)
{
    csv->error = NULL;
    csv->n = 0;
    csv->line = 1;
    csv->next = 1;
    csv->p = text.p;
    csv->row = text.p;
    csv->end = text.p + text.n;

    if (text.n >= 3 && memcmp(text.p, "\xEF\xBB\xBF", 3) == 0) {
        csv->p += 3;
    }
}


int
ims_csv_next(ims_csv_t *csv)
{
    uint8_t         ch;
    ims_str_t      *f;
    const uint8_t  *p;

    enum {
        sw_start = 0,       /* of a field */
        sw_plain,
        sw_quoted,
        sw_quote,           /* one within quotes: its end, or doubled */
        sw_cr
    } state;

    if (csv->error != NULL) {
        return -1;
    }

    if (csv->p == csv->end) {
        return 0;
    }

    csv->line = csv->next;
    csv->row = csv->p;
    csv->used = 0;
    csv->n = 1;

    f = csv->field;
    *f = ims_str_set(csv->buf, 0);
    state = sw_start;

    for (p = csv->p; p < csv->end; p++) {

        ch = *p;

        if (ch == '\0') {
            return csv_fail(csv, "a NUL byte");
        }

        switch (state) {

        case sw_start:

            if (ch == '"') {
                state = sw_quoted;
                break;
            }

            state = sw_plain;

            /* fall through */

        case sw_plain:

            if (ch == '"') {
                return csv_fail(csv, "a quote in a field without quotes");
            }

            /* fall through */

        case sw_quote:

            if (state == sw_quote && ch == '"') {
                state = sw_quoted;

                if (!csv_put(csv, ch)) {
                    return csv_fail(csv, "too long");
                }

                break;
            }

            if (ch == '\r') {
                state = sw_cr;
                break;
            }

            if (ch == '\n') {
                goto done;
            }

            if (ch == ',') {

                if (csv->n == IMS_CSV_FIELDS) {
                    return csv_fail(csv, "too many fields");
                }

                f = &csv->field[csv->n++];
                *f = ims_str_set(csv->buf + csv->used, 0);
                state = sw_start;
                break;
            }

            if (state == sw_quote) {
                return csv_fail(csv, "text behind a closing quote");
            }

            if (!csv_put(csv, ch)) {
                return csv_fail(csv, "too long");
            }

            break;

        case sw_quoted:

            if (ch == '"') {
                state = sw_quote;
                break;
            }

            if (ch == '\n') {
                csv->next++;
            }

            if (!csv_put(csv, ch)) {
                return csv_fail(csv, "too long");
            }

            break;

        case sw_cr:

            if (ch == '\n') {
                goto done;
            }

            return csv_fail(csv, "a CR that ends no line");
        }
    }

    /* the last line needs no end */

    if (state == sw_quoted) {
        return csv_fail(csv, "a quote is not closed");
    }

    if (state == sw_cr) {
        return csv_fail(csv, "a CR that ends no line");
    }

    csv->p = p;

    return 1;

done:

    if (csv->n == 1 && csv->used == 0) {
        return csv_fail(csv, "an empty line");
    }

    csv->p = p + 1;
    csv->next++;

    return 1;
}


void
ims_csv_skip(ims_csv_t *csv)
{
    const uint8_t  *p;

    p = csv->p == csv->end ? NULL
                           : memchr(csv->p, '\n', (size_t) (csv->end - csv->p));

    csv->p = p ? p + 1 : csv->end;
    csv->next = csv->line + 1;
    csv->error = NULL;
}


void
ims_csv_seek(ims_csv_t *csv, const uint8_t *row, uint64_t line)
{
    csv->p = row;
    csv->next = line;
    csv->error = NULL;
}


/* the byte belongs to the last field */

static bool
csv_put(ims_csv_t *csv, uint8_t ch)
{
    if (csv->used == IMS_CSV_ROW) {
        return false;
    }

    csv->buf[csv->used++] = ch;
    csv->field[csv->n - 1].n++;

    return true;
}


static int
csv_fail(ims_csv_t *csv, const char *error)
{
    csv->error = error;

    return -1;
}
