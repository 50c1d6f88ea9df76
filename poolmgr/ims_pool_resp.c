/*
 * Copyright (C) nginx-ims contributors
 *
 * RESP2: see ims_pool_resp.h.
 */

#include <stdio.h>
#include <stdlib.h>

#include "ims_pool_resp.h"


/* "*" or "$", digits, CR LF: seven digits are more than any limit needs */
#define RESP_HEAD_MAX  (1 + 7 + 2)

#define RESP_DECIMAL   20       /* digits of a u64 */


static int resp_head(const uint8_t *p, size_t n, uint8_t kind, uint32_t *v,
    size_t *used);


void
ims_resp_reset(ims_resp_parser_t *p)
{
    p->nargs = 0;
    p->seen = 0;
    p->pos = 0;
    p->head = 0;
    p->body = 0;
}


int
ims_resp_parse(ims_resp_parser_t *p, const uint8_t *buf, size_t n, size_t max)
{
    int               rc;
    size_t            used;
    uint32_t          v;
    ims_resp_slice_t *a;

    if (!p->head) {

        rc = resp_head(buf, n, '*', &v, &used);

        if (rc != IMS_RESP_OK) {
            return rc;
        }

        if (v == 0) {
            return IMS_RESP_GARBAGE;
        }

        if (v > IMS_RESP_ARGS) {
            return IMS_RESP_TOO_MANY;
        }

        p->nargs = v;
        p->pos = (uint32_t) used;
        p->head = 1;
    }

    while (p->seen < p->nargs) {

        a = &p->args[p->seen];

        if (!p->body) {

            rc = resp_head(buf + p->pos, n - p->pos, '$', &v, &used);

            if (rc != IMS_RESP_OK) {
                return rc;
            }

            /* the announced length, before anything of it is waited for */

            if (p->pos + used + v + 2 > max) {
                return IMS_RESP_TOO_BIG;
            }

            p->pos += (uint32_t) used;
            p->body = 1;

            a->off = p->pos;
            a->len = v;
        }

        used = (size_t) a->off + a->len;

        if (n > used && buf[used] != '\r') {
            return IMS_RESP_GARBAGE;
        }

        if (n < used + 2) {
            return IMS_RESP_AGAIN;
        }

        if (buf[used + 1] != '\n') {
            return IMS_RESP_GARBAGE;
        }

        p->pos = (uint32_t) used + 2;
        p->body = 0;
        p->seen++;
    }

    return IMS_RESP_OK;
}


ims_str_t
ims_resp_arg(const ims_resp_parser_t *p, const uint8_t *buf, unsigned i)
{
    return ims_str_set(buf + p->args[i].off, p->args[i].len);
}


/* *used is set with IMS_RESP_OK only */

static int
resp_head(const uint8_t *p, size_t n, uint8_t kind, uint32_t *v, size_t *used)
{
    size_t    i;
    uint32_t  x;

    if (n == 0) {
        return IMS_RESP_AGAIN;
    }

    if (p[0] != kind) {
        return IMS_RESP_GARBAGE;
    }

    x = 0;

    for (i = 1; i < n && i < RESP_HEAD_MAX; i++) {

        if (p[i] >= '0' && p[i] <= '9' && i <= RESP_HEAD_MAX - 3) {
            x = x * 10 + (p[i] - '0');
            continue;
        }

        if (p[i] >= '0' && p[i] <= '9') {
            return kind == '*' ? IMS_RESP_TOO_MANY : IMS_RESP_TOO_BIG;
        }

        if (p[i] != '\r' || i == 1) {
            return IMS_RESP_GARBAGE;
        }

        if (i + 1 == n) {
            return IMS_RESP_AGAIN;
        }

        if (p[i + 1] != '\n') {
            return IMS_RESP_GARBAGE;
        }

        *v = x;
        *used = i + 2;

        return IMS_RESP_OK;
    }

    return IMS_RESP_AGAIN;
}


uint8_t *
ims_resp_room(ims_resp_buf_t *b, size_t n)
{
    size_t    cap;
    uint8_t  *p;

    if (b->failed) {
        return NULL;
    }

    if (n > b->cap - b->n) {

        for (cap = b->cap ? b->cap : 512; n > cap - b->n; cap *= 2) {
            if (cap > SIZE_MAX / 2) {
                b->failed = true;
                return NULL;
            }
        }

        p = realloc(b->p, cap);

        if (p == NULL) {
            b->failed = true;
            return NULL;
        }

        b->p = p;
        b->cap = cap;
    }

    return b->p + b->n;
}


void
ims_resp_raw(ims_resp_buf_t *b, const void *p, size_t n)
{
    uint8_t  *dst;

    dst = ims_resp_room(b, n);

    if (dst == NULL || n == 0) {
        return;
    }

    memcpy(dst, p, n);
    b->n += n;
}


void
ims_resp_free(ims_resp_buf_t *b)
{
    free(b->p);
    memset(b, 0, sizeof(ims_resp_buf_t));
}


static void
resp_line(ims_resp_buf_t *b, char kind, const char *line)
{
    ims_resp_raw(b, &kind, 1);
    ims_resp_raw(b, line, strcspn(line, "\r\n"));
    ims_resp_raw(b, "\r\n", 2);
}


/*
 * An answer is thirty numbers and little more, so they are not left to printf:
 * that was a tenth of what a lease costs the daemon.
 */
static size_t
resp_decimal(char *text, uint64_t n)
{
    char    digits[RESP_DECIMAL];
    size_t  i;

    i = sizeof(digits);

    do {
        digits[--i] = (char) ('0' + n % 10);
        n /= 10;
    } while (n != 0);

    memcpy(text, digits + i, sizeof(digits) - i);

    return sizeof(digits) - i;
}


static void
resp_number(ims_resp_buf_t *b, char kind, uint64_t n)
{
    size_t  len;
    char    text[1 + RESP_DECIMAL + 2];

    text[0] = kind;
    len = 1 + resp_decimal(text + 1, n);
    text[len++] = '\r';
    text[len++] = '\n';

    ims_resp_raw(b, text, len);
}


void
ims_resp_simple(ims_resp_buf_t *b, const char *line)
{
    resp_line(b, '+', line);
}


void
ims_resp_error(ims_resp_buf_t *b, const char *line)
{
    resp_line(b, '-', line);
}


void
ims_resp_error_n(ims_resp_buf_t *b, const char *word, uint64_t n)
{
    char  text[96];

    snprintf(text, sizeof(text), "%s %llu", word, (unsigned long long) n);
    resp_line(b, '-', text);
}


void
ims_resp_int(ims_resp_buf_t *b, uint64_t n)
{
    resp_number(b, ':', n);
}


void
ims_resp_array(ims_resp_buf_t *b, size_t n)
{
    resp_number(b, '*', n);
}


void
ims_resp_bulk(ims_resp_buf_t *b, ims_str_t s)
{
    resp_number(b, '$', s.n);
    ims_resp_raw(b, s.p, s.n);
    ims_resp_raw(b, "\r\n", 2);
}


void
ims_resp_bulk_z(ims_resp_buf_t *b, const char *z)
{
    ims_resp_bulk(b, ims_str_z(z));
}


void
ims_resp_bulk_u64(ims_resp_buf_t *b, uint64_t n)
{
    char  text[RESP_DECIMAL];

    ims_resp_bulk(b, ims_str_set(text, resp_decimal(text, n)));
}
