/*
 * Copyright (C) nginx-ims contributors
 *
 * Byte slices and the strict small parsers that everything else stands on.
 *
 * A slice never owns its bytes: it is valid as long as the buffer it points
 * into.  It is not NUL-terminated.  {NULL, 0} is the absent slice;
 * {"", 0} is a present, empty one.
 */

#ifndef _IMS_STR_H_INCLUDED_
#define _IMS_STR_H_INCLUDED_


#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>


typedef struct {
    const uint8_t  *p;
    size_t          n;
} ims_str_t;


/* literals only: the length is taken by sizeof */
#define ims_str(lit)       { (const uint8_t *) (lit), sizeof(lit) - 1 }
#define IMS_STR(lit)       ((ims_str_t) ims_str(lit))
#define IMS_STR_NULL       ((ims_str_t) { NULL, 0 })

/* for printf("%.*s", IMS_STR_ARG(s)) */
#define IMS_STR_ARG(s)     (int) (s).n, (const char *) (s).p


static inline ims_str_t
ims_str_set(const void *p, size_t n)
{
    return (ims_str_t) { (const uint8_t *) p, n };
}


static inline ims_str_t
ims_str_z(const char *z)
{
    return (ims_str_t) { (const uint8_t *) z, z == NULL ? 0 : strlen(z) };
}


/* The slice between two pointers of one buffer. */
static inline ims_str_t
ims_str_range(const uint8_t *from, const uint8_t *to)
{
    return (ims_str_t) { from, (size_t) (to - from) };
}


static inline bool
ims_str_eq(ims_str_t a, ims_str_t b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}


static inline uint8_t
ims_lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t) (c | 0x20) : c;
}


/* ASCII case folded comparison. */
bool ims_str_caseeq(ims_str_t a, ims_str_t b);

/* Cut spaces and tabs from both ends. */
ims_str_t ims_str_trim(ims_str_t s);

/*
 * Decimal numbers, digits only: no sign, no space, no empty string.
 * Returns false on anything else and on a value above max; *v is then
 * untouched.  Leading zeros are taken (RFC 3261 allows them); at most 20
 * digits.
 */
bool ims_str_u64(ims_str_t s, uint64_t max, uint64_t *v);
bool ims_str_u32(ims_str_t s, uint32_t *v);

/* Comparison whose time depends on n only.  True if equal. */
bool ims_equal_ct(const void *a, const void *b, size_t n);


/* Lower-case hex.  dst holds 2 * n bytes; no NUL is written. */
void ims_hex_encode(uint8_t *dst, const void *src, size_t n);

/*
 * Hex of either case to exactly n bytes.  False if s is not exactly 2 * n hex
 * digits.
 */
bool ims_hex_decode(void *dst, size_t n, ims_str_t s);

/* A u64 as up to 16 hex digits: 1 to 16 digits, nothing else. */
bool ims_hex_u64(ims_str_t s, uint64_t *v);


/* base64url without padding (RFC 4648 section 5). */
#define ims_b64url_len(n)  (((n) * 4 + 2) / 3)

/* Returns the number of bytes written, ims_b64url_len(n).  No NUL. */
size_t ims_b64url_encode(uint8_t *dst, const void *src, size_t n);

/*
 * Decodes strictly: the URL alphabet only, no padding, no stray bits.
 * Returns the number of bytes, or -1 on bad input or if it would be more than
 * max.
 */
ptrdiff_t ims_b64url_decode(uint8_t *dst, size_t max, ims_str_t s);

/* lower-case base32hex without padding (RFC 4648 section 7): SIP-token safe */
#define ims_b32_len(n)     (((n) * 8 + 4) / 5)
size_t ims_b32_encode(uint8_t *dst, const void *src, size_t n);
ptrdiff_t ims_b32_decode(uint8_t *dst, size_t max, ims_str_t s);


#endif /* _IMS_STR_H_INCLUDED_ */
