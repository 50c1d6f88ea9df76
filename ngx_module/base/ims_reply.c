
/*
 * Copyright (C) nginx-ims contributors
 */

#include "base/ims_reply.h"


#define IMS_REPLY_LINE  1024        /* of '+', '-' and the numbers */


typedef struct {
    uint8_t     type;
    bool        null;
    uint32_t    off;
    uint32_t    len;
    uint32_t    end;                /* behind the element */
    int64_t     number;
} ims_reply_item_t;


/* 1: buf[pos .. *end) is a line, CRLF behind it; 0: more; -1: garbage */

static int
ims_reply_line(const uint8_t *buf, size_t n, size_t pos, size_t *end)
{
    size_t  i;

    for (i = pos; i < n; i++) {

        if (i - pos > IMS_REPLY_LINE || buf[i] == '\n') {
            return -1;
        }

        if (buf[i] == '\r') {
            if (i + 1 == n) {
                return 0;
            }

            *end = i;

            return buf[i + 1] == '\n' ? 1 : -1;
        }
    }

    return 0;
}


static bool
ims_reply_number(ims_str_t s, int64_t *v)
{
    bool      minus;
    uint64_t  u;

    minus = s.n > 1 && s.p[0] == '-';

    if (minus) {
        s = ims_str_set(s.p + 1, s.n - 1);
    }

    if (!ims_str_u64(s, INT64_MAX, &u)) {
        return false;
    }

    *v = minus ? -(int64_t) u : (int64_t) u;

    return true;
}


/* the bytes of a bulk string whose header line ended before pos */

static int
ims_reply_bulk(const uint8_t *buf, size_t n, size_t pos,
    ims_reply_item_t *item)
{
    if (item->number == -1) {
        item->null = true;
        item->off = (uint32_t) pos;
        item->len = 0;
        item->end = (uint32_t) pos;
        return 1;
    }

    if (item->number < 0 || item->number > IMS_REPLY_MAX
        || pos + (size_t) item->number + 2 > IMS_REPLY_MAX)
    {
        return -1;
    }

    item->off = (uint32_t) pos;
    item->len = (uint32_t) item->number;
    item->end = item->off + item->len + 2;

    if (n < item->end) {
        return 0;
    }

    return buf[item->end - 2] == '\r' && buf[item->end - 1] == '\n' ? 1 : -1;
}


static int
ims_reply_item(const uint8_t *buf, size_t n, size_t pos,
    ims_reply_item_t *item)
{
    int        rc;
    size_t     end;
    ims_str_t  line;

    if (pos == n) {
        return 0;
    }

    item->type = buf[pos];
    item->null = false;

    if (memchr("+-:$*", item->type, 5) == NULL) {
        return -1;
    }

    rc = ims_reply_line(buf, n, pos + 1, &end);

    if (rc != 1) {
        return rc;
    }

    line = ims_str_range(buf + pos + 1, buf + end);

    item->off = (uint32_t) (pos + 1);
    item->len = (uint32_t) line.n;
    item->end = (uint32_t) (end + 2);

    if (item->type == '+' || item->type == '-') {
        return 1;
    }

    if (!ims_reply_number(line, &item->number)) {
        return -1;
    }

    return item->type == '$' ? ims_reply_bulk(buf, n, end + 2, item) : 1;
}


void
ims_reply_reset(ims_reply_parser_t *p)
{
    p->pos = 0;
    p->left = 0;
    p->seen = 0;
    p->row_left = 0;
    p->nrows = 0;
    p->array = false;
}


static ptrdiff_t
ims_reply_single(const uint8_t *buf, const ims_reply_item_t *item,
    ims_reply_t *r)
{
    r->text = item->null ? IMS_STR_NULL
                         : ims_str_set(buf + item->off, item->len);
    r->number = item->type == ':' ? item->number : 0;
    r->n = 0;
    r->nrows = 0;

    return (ptrdiff_t) item->end;
}


static ptrdiff_t
ims_reply_array(const ims_reply_parser_t *p, const uint8_t *buf,
    ims_reply_t *r)
{
    unsigned  i;

    r->text = IMS_STR_NULL;
    r->number = 0;
    r->n = p->nrows ? 0 : p->seen;
    r->nrows = p->nrows;

    for (i = 0; i < p->nrows; i++) {
        r->row[i].first = p->row[i];
        r->row[i].end = (uint16_t) (i + 1 < p->nrows ? p->row[i + 1]
                                                     : p->seen);
    }

    for (i = 0; i < p->seen; i++) {
        r->element[i] = p->slice[i].null
                        ? IMS_STR_NULL
                        : ims_str_set(buf + p->slice[i].off, p->slice[i].len);
    }

    return (ptrdiff_t) p->pos;
}


/* an array in the array: all of its elements are such, and none goes deeper */

static bool
ims_reply_row(ims_reply_parser_t *p, const ims_reply_item_t *item)
{
    if (p->row_left || (p->nrows == 0 && p->seen)
        || p->nrows == IMS_REPLY_ROWS
        || item->number < 0 || item->number > IMS_REPLY_ELEMENTS - p->seen)
    {
        return false;
    }

    p->row[p->nrows++] = (uint16_t) p->seen;
    p->row_left = (uint32_t) item->number;
    p->left--;
    p->pos = item->end;

    return true;
}


static bool
ims_reply_element(ims_reply_parser_t *p, const ims_reply_item_t *item)
{
    if (p->nrows && p->row_left == 0) {
        return false;
    }

    p->slice[p->seen].off = item->off;
    p->slice[p->seen].len = item->len;
    p->slice[p->seen].null = item->null;
    p->seen++;
    p->pos = item->end;

    if (p->nrows) {
        p->row_left--;

    } else {
        p->left--;
    }

    return true;
}


static ptrdiff_t
ims_reply_more(size_t n)
{
    return n >= IMS_REPLY_MAX ? -1 : 0;
}


ptrdiff_t
ims_reply_parse(ims_reply_parser_t *p, const uint8_t *buf, size_t n,
    ims_reply_t *r)
{
    int               rc;
    ims_reply_item_t  item;

    if (!p->array) {
        rc = ims_reply_item(buf, n, 0, &item);

        if (rc != 1) {
            return rc == 0 ? ims_reply_more(n) : -1;
        }

        r->type = item.type;

        if (item.type != '*') {
            return ims_reply_single(buf, &item, r);
        }

        if (item.number < 0 || item.number > IMS_REPLY_ELEMENTS) {
            return -1;
        }

        p->array = true;
        p->left = (uint32_t) item.number;
        p->pos = item.end;
    }

    r->type = '*';

    while (p->left || p->row_left) {
        rc = ims_reply_item(buf, n, p->pos, &item);

        if (rc != 1) {
            return rc == 0 ? ims_reply_more(n) : -1;
        }

        if (!(item.type == '*' ? ims_reply_row(p, &item)
                               : ims_reply_element(p, &item)))
        {
            return -1;
        }
    }

    return ims_reply_array(p, buf, r);
}


static ims_str_t
ims_reply_find(const ims_reply_t *r, unsigned first, unsigned end,
    const char *name, unsigned i)
{
    unsigned   k;
    ims_str_t  key;

    key = ims_str_z(name);

    for (k = first; k + 1 < end; k += 2) {
        if (ims_str_eq(r->element[k], key) && i-- == 0) {
            return r->element[k + 1];
        }
    }

    return IMS_STR_NULL;
}


ims_str_t
ims_reply_value(const ims_reply_t *r, const char *name, unsigned i)
{
    return r->type == '*' ? ims_reply_find(r, 0, r->n, name, i)
                          : IMS_STR_NULL;
}


ims_str_t
ims_reply_row_value(const ims_reply_t *r, unsigned row, const char *name,
    unsigned i)
{
    return ims_reply_find(r, r->row[row].first, r->row[row].end, name, i);
}


static unsigned
ims_command_digits(size_t v)
{
    unsigned  n;

    for (n = 1; v >= 10; v /= 10) {
        n++;
    }

    return n;
}


static uint8_t *
ims_command_head(uint8_t *dst, uint8_t type, size_t v)
{
    unsigned  i, n;

    n = ims_command_digits(v);

    *dst++ = type;

    for (i = n; i > 0; i--, v /= 10) {
        dst[i - 1] = (uint8_t) ('0' + v % 10);
    }

    dst += n;

    *dst++ = '\r';
    *dst++ = '\n';

    return dst;
}


size_t
ims_command_len(const ims_str_t *args, unsigned nargs)
{
    size_t    len;
    unsigned  i;

    len = 1 + ims_command_digits(nargs) + 2;

    for (i = 0; i < nargs; i++) {
        len += 1 + ims_command_digits(args[i].n) + 2 + args[i].n + 2;
    }

    return len;
}


uint8_t *
ims_command_write(uint8_t *dst, const ims_str_t *args, unsigned nargs)
{
    unsigned  i;

    dst = ims_command_head(dst, '*', nargs);

    for (i = 0; i < nargs; i++) {
        dst = ims_command_head(dst, '$', args[i].n);

        if (args[i].n) {
            memcpy(dst, args[i].p, args[i].n);
            dst += args[i].n;
        }

        *dst++ = '\r';
        *dst++ = '\n';
    }

    return dst;
}
