/*
 * Copyright (C) nginx-ims contributors
 */

#include <stdlib.h>

#include "reg/ims_register.h"


ims_reg_grant_t *
ims_reg_grant_new(const ims_token_claims_t *c, ims_str_t jws,
    const void *issuer)
{
    size_t            cap, used;
    unsigned          i;
    ptrdiff_t         n;
    ims_reg_grant_t  *g;

    /* an escape of three bytes never becomes more in the canonical form */

    cap = c->impi.n;

    for (i = 0; i < c->nimpu; i++) {
        cap += 3 * c->impu[i].n;
    }

    g = calloc(1, sizeof(ims_reg_grant_t) + cap);
    if (g == NULL) {
        return NULL;
    }

    if (ims_b64url_decode(g->holder, sizeof(g->holder), c->sub)
        != (ptrdiff_t) sizeof(g->holder))
    {
        free(g);
        return NULL;
    }

    g->issuer = issuer;
    g->ident = c->ident;
    g->lease = c->lease_id;
    g->sid = c->session;
    g->exp = c->exp;

    memcpy(g->text, c->impi.p, c->impi.n);
    g->impi_len = (uint16_t) c->impi.n;
    used = c->impi.n;

    for (i = 0; i < c->nimpu; i++) {
        n = ims_sip_canon(g->text + used, cap - used, c->impu[i]);

        if (n < 0) {
            free(g);
            return NULL;
        }

        g->impu_len[i] = (uint16_t) n;
        used += (size_t) n;
    }

    g->nimpu = (uint16_t) c->nimpu;

    ims_token_digest(jws, g->digest);

    return g;
}


void
ims_reg_grant_free(ims_reg_grant_t *g)
{
    free(g);
}


ims_str_t
ims_reg_grant_impi(const ims_reg_grant_t *g)
{
    return ims_str_set(g->text, g->impi_len);
}


bool
ims_reg_grant_has(const ims_reg_grant_t *g, ims_str_t canon)
{
    size_t    at;
    unsigned  i;

    at = g->impi_len;

    for (i = 0; i < g->nimpu; i++) {

        if (ims_str_eq(ims_str_set(g->text + at, g->impu_len[i]), canon)) {
            return true;
        }

        at += g->impu_len[i];
    }

    return false;
}
