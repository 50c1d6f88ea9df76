/*
 * Copyright (C) nginx-ims contributors
 */

#include "base/ims_str.h"


bool
ims_str_caseeq(ims_str_t a, ims_str_t b)
{
    size_t  i;

    if (a.n != b.n) {
        return false;
    }

    for (i = 0; i < a.n; i++) {
        if (ims_lower(a.p[i]) != ims_lower(b.p[i])) {
            return false;
        }
    }

    return true;
}


ims_str_t
ims_str_trim(ims_str_t s)
{
    while (s.n && (s.p[0] == ' ' || s.p[0] == '\t')) {
        s.p++;
        s.n--;
    }

    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t')) {
        s.n--;
    }

    return s;
}


bool
ims_str_u64(ims_str_t s, uint64_t max, uint64_t *v)
{
    size_t    i;
    uint64_t  n, d;

    if (s.n == 0 || s.n > 20) {
        return false;
    }

    n = 0;

    for (i = 0; i < s.n; i++) {

        if (s.p[i] < '0' || s.p[i] > '9') {
            return false;
        }

        d = s.p[i] - '0';

        if (n > (UINT64_MAX - d) / 10) {
            return false;
        }

        n = n * 10 + d;
    }

    if (n > max) {
        return false;
    }

    *v = n;

    return true;
}


bool
ims_str_u32(ims_str_t s, uint32_t *v)
{
    uint64_t  n;

    if (!ims_str_u64(s, UINT32_MAX, &n)) {
        return false;
    }

    *v = (uint32_t) n;

    return true;
}


bool
ims_equal_ct(const void *a, const void *b, size_t n)
{
    size_t                   i;
    uint8_t                  diff;
    const volatile uint8_t  *x, *y;

    x = a;
    y = b;
    diff = 0;

    for (i = 0; i < n; i++) {
        diff |= x[i] ^ y[i];
    }

    return diff == 0;
}


void
ims_hex_encode(uint8_t *dst, const void *src, size_t n)
{
    size_t             i;
    const uint8_t     *s;
    static const char  hex[] = "0123456789abcdef";

    s = src;

    for (i = 0; i < n; i++) {
        *dst++ = (uint8_t) hex[s[i] >> 4];
        *dst++ = (uint8_t) hex[s[i] & 15];
    }
}


static int
ims_hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }

    c = ims_lower(c);

    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}


bool
ims_hex_decode(void *dst, size_t n, ims_str_t s)
{
    int       hi, lo;
    size_t    i;
    uint8_t  *d;

    if (s.n != 2 * n) {
        return false;
    }

    d = dst;

    for (i = 0; i < n; i++) {
        hi = ims_hex_digit(s.p[2 * i]);
        lo = ims_hex_digit(s.p[2 * i + 1]);

        if (hi < 0 || lo < 0) {
            return false;
        }

        d[i] = (uint8_t) (hi << 4 | lo);
    }

    return true;
}


bool
ims_hex_u64(ims_str_t s, uint64_t *v)
{
    int       d;
    size_t    i;
    uint64_t  n;

    if (s.n == 0 || s.n > 16) {
        return false;
    }

    n = 0;

    for (i = 0; i < s.n; i++) {
        d = ims_hex_digit(s.p[i]);

        if (d < 0) {
            return false;
        }

        n = n << 4 | (uint64_t) d;
    }

    *v = n;

    return true;
}


/*
 * Base 2^bits in either direction.  One accumulator serves both encodings,
 * since they differ only in the digits' width and alphabet.
 */
static size_t
ims_radix_encode(uint8_t *dst, const uint8_t *src, size_t n, unsigned bits,
    const char *alphabet)
{
    size_t    i;
    uint8_t  *d;
    uint32_t  acc;
    unsigned  have;

    d = dst;
    acc = 0;
    have = 0;

    for (i = 0; i < n; i++) {
        acc = acc << 8 | src[i];
        have += 8;

        while (have >= bits) {
            have -= bits;
            *d++ = (uint8_t) alphabet[acc >> have & ((1u << bits) - 1)];
        }
    }

    if (have) {
        *d++ = (uint8_t) alphabet[acc << (bits - have) & ((1u << bits) - 1)];
    }

    return (size_t) (d - dst);
}


static ptrdiff_t
ims_radix_decode(uint8_t *dst, size_t max, ims_str_t s, unsigned bits,
    int (*digit)(uint8_t c))
{
    int       v;
    size_t    i, out;
    uint32_t  acc;
    unsigned  have;

    acc = 0;
    have = 0;
    out = 0;

    for (i = 0; i < s.n; i++) {
        v = digit(s.p[i]);

        if (v < 0) {
            return -1;
        }

        acc = (acc << bits | (uint32_t) v) & 0xffff;
        have += bits;

        if (have >= 8) {

            if (out == max) {
                return -1;
            }

            have -= 8;
            dst[out++] = (uint8_t) (acc >> have);
        }
    }

    /*
     * what is left over must be shorter than a digit and zero: otherwise two
     * texts would name one value
     */

    if (have >= bits || (acc & ((1u << have) - 1)) != 0) {
        return -1;
    }

    return (ptrdiff_t) out;
}


static int
ims_b64url_digit(uint8_t c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }

    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }

    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }

    return c == '-' ? 62 : c == '_' ? 63 : -1;
}


static int
ims_b32_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }

    return c >= 'a' && c <= 'v' ? c - 'a' + 10 : -1;
}


size_t
ims_b64url_encode(uint8_t *dst, const void *src, size_t n)
{
    return ims_radix_encode(dst, src, n, 6,
                            "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                            "abcdefghijklmnopqrstuvwxyz0123456789-_");
}


ptrdiff_t
ims_b64url_decode(uint8_t *dst, size_t max, ims_str_t s)
{
    return ims_radix_decode(dst, max, s, 6, ims_b64url_digit);
}


size_t
ims_b32_encode(uint8_t *dst, const void *src, size_t n)
{
    return ims_radix_encode(dst, src, n, 5,
                            "0123456789abcdefghijklmnopqrstuv");
}


ptrdiff_t
ims_b32_decode(uint8_t *dst, size_t max, ims_str_t s)
{
    return ims_radix_decode(dst, max, s, 5, ims_b32_digit);
}
