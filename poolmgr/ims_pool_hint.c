/*
 * Copyright (C) nginx-ims contributors
 *
 * Where rows of records were seen last, and the entries of the tree that led
 * to them.
 *
 * A record of a million is in no cache, and the leaf above it is in a slow one:
 * to read first one, then the other takes longer than all else of a look.  So
 * both are fetched from where they were last time, at once, while the tree says
 * where they are now.  What is here is never followed: what has moved since is
 * fetched for nothing, and no more.
 */

#include <stdint.h>
#include <stdlib.h>

#include "ims_pool_int.h"


#define IMS_POOL_HINTS       (1 << 16)  /* rows: those of 1.3 million records */
#define IMS_POOL_HINT_PAGE   4096       /* rows lie so far apart, or a multiple */
#define IMS_POOL_HINT_LINE   64         /* bytes that are fetched at once */
#define IMS_POOL_HINT_LINES  6          /* of a leaf: the list of its entries */
#define IMS_POOL_HINT_NEAR   3          /* lines of entries before and after */


struct ims_pool_hint_s {
    int32_t  page;                      /* of the row, from the base on */
    int32_t  line;                      /* of its entry in the leaf */
};


static inline unsigned
ims_pool_hint_row(uint64_t ident)
{
    return (unsigned) (ident / IMS_POOL_BLOCK % IMS_POOL_HINTS);
}


static inline uintptr_t
ims_pool_hint_at(const ims_pool_hints_t *h, int32_t n, unsigned unit)
{
    return h->base + (uintptr_t) ((intptr_t) n * (intptr_t) unit);
}


/* from p on to the last of n bytes */

static inline void
ims_pool_hint_lines(uintptr_t p, size_t n)
{
    size_t  at;

    for (at = 0; at < n; at += IMS_POOL_HINT_LINE) {
        __builtin_prefetch((const void *) (p + at));
    }

    __builtin_prefetch((const void *) (p + n - 1));
}


void
ims_pool_hint_fetch(const ims_pool_hints_t *h, uint64_t ident)
{
    uintptr_t               p;
    const ims_pool_hint_t  *hint;

    if (h->hint == NULL) {
        return;
    }

    hint = &h->hint[ims_pool_hint_row(ident)];

    p = ims_pool_hint_at(h, hint->page, IMS_POOL_HINT_PAGE);
    __builtin_prefetch((const void *) p);
    ims_pool_hint_lines(p + offsetof(ims_pool_block_t, slot)
                        + ident % IMS_POOL_BLOCK * IMS_POOL_SLOT,
                        ims_pool_rec_bytes(1) + IMS_POOL_CRC_LEN);

    /* a search ends among the entries beside it: eight to either side */

    p = ims_pool_hint_at(h, hint->line, IMS_POOL_HINT_LINE);
    ims_pool_hint_lines(p - IMS_POOL_HINT_NEAR * IMS_POOL_HINT_LINE,
                        (2 * IMS_POOL_HINT_NEAR + 1) * IMS_POOL_HINT_LINE);
    ims_pool_hint_lines(p - p % IMS_POOL_HINT_PAGE,
                        IMS_POOL_HINT_LINES * IMS_POOL_HINT_LINE);
}


void
ims_pool_hint_note(ims_pool_hints_t *h, uint64_t ident, const uint8_t *slot,
    const void *entry)
{
    uintptr_t         p;
    ims_pool_hint_t  *hint;

    p = (uintptr_t) slot - offsetof(ims_pool_block_t, slot)
        - ident % IMS_POOL_BLOCK * IMS_POOL_SLOT;

    if (h->hint == NULL) {
        h->hint = calloc(IMS_POOL_HINTS, sizeof(ims_pool_hint_t));
        h->base = p;

        if (h->hint == NULL) {
            return;
        }
    }

    /* one that lies too far off is fetched from elsewhere, for nothing */

    hint = &h->hint[ims_pool_hint_row(ident)];
    hint->page = (int32_t) ((intptr_t) (p - h->base) / IMS_POOL_HINT_PAGE);
    hint->line = (int32_t) ((intptr_t) ((uintptr_t) entry - h->base)
                            / IMS_POOL_HINT_LINE);
}


void
ims_pool_hint_free(ims_pool_hints_t *h)
{
    free(h->hint);
    memset(h, 0, sizeof(ims_pool_hints_t));
}
