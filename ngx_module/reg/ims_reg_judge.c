/*
 * Copyright (C) nginx-ims contributors
 */

#include "reg/ims_register.h"


static const ims_reg_refusal_t  ims_reg_refusals[] = {

    [IMS_REG_NO_TOKEN] =
        { 401, "Token Missing", false, "" },
    [IMS_REG_EXPIRED] =
        { 401, "Token Expired", false, "invalid_token" },
    [IMS_REG_SHORT] =
        { 401, "Lease Ends Too Soon", false, "invalid_token" },
    [IMS_REG_IDENTITY] =
        { 403, "Identity Not Covered By Token", true, NULL },
    [IMS_REG_LEASE] =
        { 403, "Lease Ended", true, NULL },
    [IMS_REG_OTHER_IMPI] =
        { 403, "Another Private Identity On This Flow", false, NULL },
    [IMS_REG_OTHER_CONTACT] =
        { 403, "Another Contact On This Flow", false, NULL },
    [IMS_REG_HOME] =
        { 403, "Not The Home Domain", false, NULL },
    [IMS_REG_UNREGISTERED] =
        { 403, "Not Registered", false, NULL }
};


const ims_reg_refusal_t *
ims_reg_refusal(ims_reg_why_e why)
{
    return &ims_reg_refusals[why];
}


/*
 * The pool's domain is the only one that a REGISTER is sent to.  The client's
 * Request-URI may differ from it in case, port or parameters only: it is
 * replaced anyway.
 */

static bool
ims_reg_at_home(const ims_reg_case_t *c)
{
    const ims_sip_uri_t  *u;

    u = &c->msg->ruri;

    return (u->scheme == IMS_SIP_URI_SIP || u->scheme == IMS_SIP_URI_SIPS)
           && u->user.p == NULL
           && ims_str_caseeq(u->host, ims_str_z(c->look->home));
}


/* the index of To among the identity's names, which the lease is for */

static bool
ims_reg_find_impu(const ims_reg_case_t *c, unsigned *impu)
{
    unsigned  i;

    for (i = 0; i < c->names->nimpu; i++) {
        if (ims_str_eq(c->names->impu[i].canon, c->req->aor)) {
            *impu = i;
            return true;
        }
    }

    return false;
}


/*
 * A de-registration without or after a token harms nobody as long as the
 * record still has the flow's own lease: no other holder can have begun.  A
 * late one could, so it is not sent in the last D of the rest.
 */

static ims_reg_why_e
ims_reg_judge_leaving(const ims_reg_case_t *c, ims_reg_verdict_t *v)
{
    const ims_pool_rec_t  *rec;

    rec = &c->look->rec;

    if (c->flow_ident == 0) {
        return c->grant ? IMS_REG_EXPIRED : IMS_REG_NO_TOKEN;
    }

    if (rec->ident != c->flow_ident || rec->lease != c->flow_lease
        || memcmp(rec->holder, c->flow_holder, sizeof(rec->holder)) != 0
        || c->look->pt + c->look->delay >= rec->rest)
    {
        v->lapse = IMS_POOL_LAPSE_OTHER;
        return IMS_REG_LEASE;
    }

    if (!ims_reg_find_impu(c, &v->impu)) {
        return IMS_REG_IDENTITY;
    }

    return IMS_REG_GO;
}


static ims_reg_why_e
ims_reg_judge_identity(const ims_reg_case_t *c, ims_reg_verdict_t *v)
{
    const ims_reg_grant_t  *g;

    g = c->grant;

    /* the token's names, the record's names and the message's are one */

    if (!ims_str_eq(ims_reg_grant_impi(g), c->names->impi)
        || !ims_reg_grant_has(g, c->req->aor)
        || !ims_reg_find_impu(c, &v->impu))
    {
        return IMS_REG_IDENTITY;
    }

    v->lapse = ims_pool_check_lease(c->look, g->lease, g->sid, g->holder,
                                    c->look->pt, &v->end);

    if (v->lapse != IMS_POOL_LIVE) {
        return IMS_REG_LEASE;
    }

    if (c->flow_ident == 0) {
        return IMS_REG_GO;
    }

    if (c->flow_ident != g->ident) {
        return IMS_REG_OTHER_IMPI;
    }

    /* a flow may go on with a later lease, but never with another user's */

    if (memcmp(c->flow_holder, g->holder, sizeof(g->holder)) != 0) {
        v->lapse = IMS_POOL_LAPSE_HOLDER;
        return IMS_REG_LEASE;
    }

    return IMS_REG_GO;
}


static ims_reg_why_e
ims_reg_judge_expiry(const ims_reg_case_t *c, ims_reg_verdict_t *v)
{
    uint64_t  s;

    s = (v->end - c->look->pt) / 1000;
    s = s ? s - 1 : 0;

    v->room = s > UINT32_MAX ? UINT32_MAX : (uint32_t) s;

    if (c->req->asked == 0) {
        v->expires = 0;
        return IMS_REG_GO;
    }

    /*
     * A registrar raises what is too short for it: an expiry below core_min
     * would bind beyond the lease's end.
     */

    if (v->room < c->core_min) {
        return IMS_REG_SHORT;
    }

    v->expires = c->req->asked < v->room ? c->req->asked : v->room;

    return IMS_REG_GO;
}


void
ims_reg_judge(const ims_reg_case_t *c, ims_reg_verdict_t *v)
{
    bool  leaving;

    memset(v, 0, sizeof(ims_reg_verdict_t));

    leaving = c->req->asked == 0 && (c->grant == NULL || c->expired);

    if (leaving) {
        v->why = ims_reg_judge_leaving(c, v);

    } else if (c->grant == NULL) {
        v->why = IMS_REG_NO_TOKEN;

    } else {
        v->why = ims_reg_judge_identity(c, v);
    }

    if (v->why != IMS_REG_GO) {
        return;
    }

    if (!leaving && c->expired) {
        v->why = IMS_REG_EXPIRED;

    } else if (!ims_reg_at_home(c)) {
        v->why = IMS_REG_HOME;

    } else if (c->req->contact.star && c->flow_contact.n == 0) {
        v->why = IMS_REG_UNREGISTERED;

    } else if (!c->req->contact.star && c->flow_contact.n
               && !ims_str_eq(c->flow_contact, c->req->contact.addr.uri))
    {
        v->why = IMS_REG_OTHER_CONTACT;

    } else if (!leaving) {
        v->why = ims_reg_judge_expiry(c, v);
    }
}
