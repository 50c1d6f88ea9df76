/*
 * Copyright (C) nginx-ims contributors
 *
 * Registration information of the core: nothing in it may do harm, and what is
 * refused says nothing.
 */

#include <stdio.h>
#include <stdlib.h>

#include "reg/ims_reginfo.h"


#define AOR      "sip:web-1@ims.example"
#define CONTACT  "sip:k3@df7.invalid;transport=ws"


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static void
check(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}


static bool
has(const uint8_t *data, size_t size, const char *text)
{
    return size && memmem(data, size, text, strlen(text)) != NULL;
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t                  *copy;
    unsigned                  i;
    const char               *reason;
    static ims_reginfo_t      r;
    const ims_reginfo_aor_t  *a;

    copy = malloc(size ? size : 1);
    check(copy != NULL, "no memory");

    if (size) {
        memcpy(copy, data, size);
    }

    reason = NULL;

    if (!ims_reginfo_read(&r, ims_str_set(copy, size), IMS_STR(CONTACT),
                          &reason))
    {
        check(reason != NULL, "refused without a reason");
        check(r.n == 0, "refused, but not empty");
        free(copy);
        return 0;
    }

    check(size <= IMS_REGINFO_SIZE, "too large");
    check(r.n <= IMS_REGINFO_AORS, "too many");

    for (i = 0; i < r.n; i++) {
        a = &r.aor[i];

        check(a->aor_len <= sizeof(a->aor), "AOR too long");
        check(!a->ended || has(data, size, "terminated")
              || has(data, size, "&#"), "ended by itself");
        check(ims_reginfo_event_text(a->event) != NULL, "event");
    }

    a = ims_reginfo_find(&r, IMS_STR(AOR));
    check(a == NULL || ims_sip_uri_same(ims_str_set(a->aor, a->aor_len),
                                        IMS_STR(AOR)), "another AOR");

    free(copy);

    return 0;
}
