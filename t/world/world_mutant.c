/*
 * Copyright (C) nginx-ims contributors
 *
 * Rules broken on purpose: the world test's own test.  Rules of the sequence
 * are broken where the world has that sequence; those within the libraries
 * here, by the linker's --wrap.
 */

#include "world.h"


mutant_e  world_mutant;


static const struct {
    const char  *name;
    const char  *text;
} world_mutants[] = {
#define MU(id, text)  { #id, text },
    WORLD_MUTANTS(MU)
#undef MU
};


ims_pool_lapse_e __real_ims_pool_check_lease(const ims_pool_look_t *look,
    uint64_t lease, uint64_t sid, const uint8_t *holder, uint64_t pt,
    uint64_t *end);
ims_pool_lapse_e __wrap_ims_pool_check_lease(const ims_pool_look_t *look,
    uint64_t lease, uint64_t sid, const uint8_t *holder, uint64_t pt,
    uint64_t *end);
void __real_ims_reg_judge(const ims_reg_case_t *c, ims_reg_verdict_t *v);
void __wrap_ims_reg_judge(const ims_reg_case_t *c, ims_reg_verdict_t *v);


const char *
world_mutant_name(mutant_e m)
{
    return world_mutants[m].name;
}


const char *
world_mutant_text(mutant_e m)
{
    return world_mutants[m].text;
}


bool
world_mutant_find(const char *name, mutant_e *m)
{
    unsigned  i;

    for (i = 0; i < MU_COUNT; i++) {
        if (strcasecmp(name, world_mutants[i].name) == 0) {
            *m = (mutant_e) i;
            return true;
        }
    }

    return false;
}


/* the comparison, one of its parts always true */

ims_pool_lapse_e
__wrap_ims_pool_check_lease(const ims_pool_look_t *look, uint64_t lease,
    uint64_t sid, const uint8_t *holder, uint64_t pt, uint64_t *end)
{
    unsigned         i;
    ims_pool_look_t  l;

    if (world_mutant == MU_NONE) {
        return __real_ims_pool_check_lease(look, lease, sid, holder, pt, end);
    }

    l = *look;

    switch (world_mutant) {

    case MU_NO_LEASE_ID:
        lease = l.rec.lease;
        break;

    case MU_NO_HOLDER:
        holder = l.rec.holder;
        break;

    case MU_NO_FENCE:
        l.fence = 0;
        break;

    case MU_NO_END:
        if (l.rec.end <= pt) {
            l.rec.end = pt + 60000;
        }

        for (i = 0; i < l.rec.nsession; i++) {
            l.rec.session[i].end = l.rec.end;
        }

        break;

    case MU_NO_SESSION:
        for (i = 0; i < l.rec.nsession && l.rec.session[i].sid != sid; i++) {
            /* void */
        }

        if (i == l.rec.nsession) {
            l.rec.nsession = 1;
            l.rec.session[0].sid = sid;
            l.rec.session[0].end = l.rec.end;
        }

        break;

    case MU_NO_SESSION_END:
        for (i = 0; i < l.rec.nsession; i++) {
            l.rec.session[i].end = l.rec.end;
        }

        break;

    default:
        break;
    }

    return __real_ims_pool_check_lease(&l, lease, sid, holder, pt, end);
}


void
__wrap_ims_reg_judge(const ims_reg_case_t *c, ims_reg_verdict_t *v)
{
    uint64_t          end;
    ims_reg_case_t    other;
    ims_pool_look_t   look;

    if (world_mutant == MU_NONE) {
        __real_ims_reg_judge(c, v);
        return;
    }

    other = *c;
    look = *c->look;
    other.look = &look;

    switch (world_mutant) {

    case MU_NO_CORE_MIN:
        other.core_min = 0;
        break;

    case MU_LEAVING_ANY_TIME:
        look.delay = 0;
        look.rec.rest = UINT64_MAX;

        if (c->flow_ident) {
            look.rec.lease = c->flow_lease;
            memcpy(look.rec.holder, c->flow_holder, sizeof(look.rec.holder));
        }

        break;

    case MU_NO_LOOK:

        /* the token's word alone */

        if (c->grant) {
            end = look.pt + look.ttl;
            look.rec.ident = c->grant->ident;
            look.rec.lease = c->grant->lease;
            memcpy(look.rec.holder, c->grant->holder,
                   sizeof(look.rec.holder));
            look.rec.end = end;
            look.rec.nsession = 1;
            look.rec.session[0].sid = c->grant->sid;
            look.rec.session[0].end = end;
            look.rec.flags = 0;
            look.fence = 0;
        }

        break;

    default:
        break;
    }

    __real_ims_reg_judge(&other, v);

    if (world_mutant == MU_NO_CUT && v->why == IMS_REG_GO
        && c->req->asked != 0)
    {
        v->expires = c->req->asked;
    }
}
