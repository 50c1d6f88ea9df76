/*
 * Copyright (C) nginx-ims contributors
 *
 * Where rows of records were seen last.
 *
 * A record of a million is in no cache, and memory takes longer than the whole
 * way to it through the tree, which is.  So it is fetched from where it was
 * last time while the tree says where it is now.  What is here is never
 * followed: a page that has moved since is fetched for nothing, and no more.
 */

#include <stdint.h>
#include <stdlib.h>

#include "ims_pool_int.h"


#define IMS_POOL_HINTS      (1 << 16)   /* rows: those of 1.3 million records */
#define IMS_POOL_HINT_PAGE  4096        /* rows lie so far apart, or a multiple */
#define IMS_POOL_HINT_LINE  64          /* bytes that are fetched at once */


static inline unsigned
ims_pool_hint_row(uint64_t ident)
{
    return (unsigned) (ident / IMS_POOL_BLOCK % IMS_POOL_HINTS);
}


void
ims_pool_hint_fetch(const ims_pool_hints_t *h, uint64_t ident)
{
    size_t     at, last;
    uintptr_t  p;

    if (h->page == NULL) {
        return;
    }

    p = h->base + (uintptr_t) ((intptr_t) h->page[ims_pool_hint_row(ident)]
                               * IMS_POOL_HINT_PAGE);
    __builtin_prefetch((const void *) p);

    p += offsetof(ims_pool_block_t, slot)
         + ident % IMS_POOL_BLOCK * IMS_POOL_SLOT;
    last = ims_pool_rec_bytes(1) + IMS_POOL_CRC_LEN - 1;

    for (at = 0; at < last; at += IMS_POOL_HINT_LINE) {
        __builtin_prefetch((const void *) (p + at));
    }

    __builtin_prefetch((const void *) (p + last));
}


void
ims_pool_hint_note(ims_pool_hints_t *h, uint64_t ident, const uint8_t *slot)
{
    intptr_t   page;
    uintptr_t  p;

    p = (uintptr_t) slot - offsetof(ims_pool_block_t, slot)
        - ident % IMS_POOL_BLOCK * IMS_POOL_SLOT;

    if (h->page == NULL) {
        h->page = calloc(IMS_POOL_HINTS, sizeof(h->page[0]));
        h->base = p;

        if (h->page == NULL) {
            return;
        }
    }

    /* one that lies too far off is fetched from elsewhere, for nothing */

    page = ((intptr_t) p - (intptr_t) h->base) / IMS_POOL_HINT_PAGE;
    h->page[ims_pool_hint_row(ident)] = (int32_t) page;
}


void
ims_pool_hint_free(ims_pool_hints_t *h)
{
    free(h->page);
    memset(h, 0, sizeof(ims_pool_hints_t));
}
