/*
 * Copyright (C) nginx-ims contributors
 *
 * Slots without a living owner: the sequence of ngx_http_ims_sweeper.c.
 */

#include "world.h"


#define SWEEPER_MAX    64
#define SWEEPER_AGAIN  10000        /* ms */
#define FIRST_WRITE    2000         /* ms */


static void sweeper_due(void *arg, uint32_t slot, uint32_t generation,
    uint64_t owner);
static void sweeper_next(world_t *w, worker_t *k, uint32_t slot,
    uint64_t claim);


/* the worker whose turn it is, for the callbacks */

typedef struct {
    world_t   *w;
    worker_t  *k;
} sweeper_t;


static bool
sweeper_alive(void *arg, const ims_flow_worker_t *me)
{
    return edge_alive(((sweeper_t *) arg)->w, me);
}


void
sweeper_turn(world_t *w, worker_t *k)
{
    sweeper_t  s;

    s.w = w;
    s.k = k;

    k->sweep.now_ms = world_boottime(w);
    k->sweep.grace_ms = w->config.grace;
    k->sweep.me = &k->me;
    k->sweep.alive = sweeper_alive;
    k->sweep.due = sweeper_due;
    k->sweep.arg = &s;

    (void) ims_flow_reap(&w->flows, &k->me, sweeper_alive, &s);
    ims_flow_sweep(&w->flows, &k->sweep, w->flows.nslots);
}


static void
sweeper_due(void *arg, uint32_t slot, uint32_t generation, uint64_t owner)
{
    uint64_t   claim;
    world_t   *w;
    worker_t  *k;

    w = ((sweeper_t *) arg)->w;
    k = ((sweeper_t *) arg)->k;

    if (k->nderegister >= SWEEPER_MAX || k->reader == NULL) {
        return;
    }

    if (ims_flow_claim(&w->flows, slot, generation, owner, &k->me, &claim)
        != IMS_FLOW_OK)
    {
        return;
    }

    sweeper_next(w, k, slot, claim);
}


static int
sweeper_ours(world_t *w, worker_t *k, uint32_t slot,
    const ims_flow_data_t *data)
{
    int       rc;
    uint32_t  other, generation;

    if (world_mutant != MU_DEREG_NEWER
        && ims_flow_find(&w->flows, data->lease, data->instance, &other,
                         &generation)
           == IMS_FLOW_OK && other != slot)
    {
        w->count[C_newer_flow]++;
        return E_DECLINED;
    }

    if (edge_feed(w, k) != E_OK) {
        return E_ERROR;
    }

    rc = edge_record(w, k, data->ident);

    if (rc != E_OK) {
        return rc;
    }

    switch (world_mutant) {

    case MU_DEREG_NO_LOOK:
        w->look.rec.rest = w->look.pt + w->look.delay + 60000;
        return E_OK;

    case MU_DEREG_LAST_D:
        return w->look.rec.lease == data->lease ? E_OK : E_DECLINED;

    default:
        return w->look.rec.lease == data->lease
               && w->look.pt + w->look.delay < w->look.rec.rest
               ? E_OK : E_DECLINED;
    }
}


/* a slot's lease as a ghost: who asks for the de-registration */

static glease_t *
sweeper_ghost(world_t *w, const ims_flow_data_t *data)
{
    return check_lease(w, data->ident, data->lease);
}


/* mutant: what registrars match by first */

static ptrdiff_t
sweeper_instance(world_t *w, ptrdiff_t n, uint32_t slot)
{
    char        *at, copy[WORLD_TEXT], instance[128], host[32];
    size_t       head;
    unsigned     i;

    if (n < 0) {
        return n;
    }

    (void) slot;
    w->message[n] = '\0';
    at = strstr((char *) w->message, ">;expires=0");

    if (at == NULL) {
        return n;
    }

    instance[0] = '\0';

    for (i = 0; i < w->config.devices; i++) {
        snprintf(host, sizeof(host), "@device%u.invalid", i);

        if (strstr((char *) w->message, host) && w->device[i].instance[0]) {
            snprintf(instance, sizeof(instance),
                     ";+sip.instance=\"%s\";reg-id=1", w->device[i].instance);
        }
    }

    /* a Contact that is no more: its device has made itself a new one */

    head = (size_t) (at + 1 - (char *) w->message);
    snprintf(copy, sizeof(copy), "%.*s%s%s", (int) head, w->message, instance,
             at + 1);
    strcpy((char *) w->message, copy);

    return (ptrdiff_t) strlen(copy);
}


static int
sweeper_write(world_t *w, worker_t *k, ims_trans_t *t, ims_flow_ident_t *id)
{
    uint8_t               branch[IMS_FLOW_BRANCH_MAX], call_id[32];
    uint8_t               token[IMS_FLOW_TOKEN_MAX];
    tdata_t              *d;
    ptrdiff_t             n;
    ims_str_t             text;
    ims_flow_id_t         fid;
    ims_flow_branch_t     b;
    ims_reg_deregister_t  dereg;

    d = t->data;

    fid.node = 1;
    fid.slot = t->slot;
    fid.generation = t->generation;

    memset(&dereg, 0, sizeof(dereg));
    ims_hex_encode(call_id, w->data.dereg_id, sizeof(w->data.dereg_id));

    dereg.call_id = ims_str_set(call_id, sizeof(call_id));
    dereg.from_tag = IMS_STR("fedcba9876543210");
    dereg.cseq = ++w->data.dereg_cseq;
    dereg.impu = id->uri;
    dereg.contact = ims_flow_contact(&w->data);

    memset(&b, 0, sizeof(b));
    b.direction = IMS_TRANS_TO_CORE;
    b.cseq = dereg.cseq;
    b.call_id = dereg.call_id;
    b.from_tag = dereg.from_tag;

    dereg.f.home = ims_flow_home(&w->data);
    dereg.f.impi = ims_flow_impi(&w->data);
    dereg.f.advertise = IMS_STR("edge.example:5060");
    dereg.f.transport = IMS_STR("TCP");
    dereg.f.branch = ims_str_set(branch, ims_flow_branch_make(&w->keys, &fid,
                                                              &b, branch));
    dereg.f.path_token = ims_str_set(token, ims_flow_token_path(&w->keys,
                                                                &fid, token));
    dereg.f.icid = IMS_STR("0123456789abcdef");

    n = ims_reg_deregister(w->message, sizeof(w->message), &dereg);

    if (world_mutant == MU_DEREG_INSTANCE) {
        n = sweeper_instance(w, n, t->slot);
    }

    if (n < 0) {
        return E_ERROR;
    }

    ims_trans_set_branch(k->trans, t, dereg.f.branch, IMS_STR("REGISTER"));
    text = ims_str_set(w->message, (size_t) n);

    if (!ims_trans_save(k->trans, &t->request, &text, 1)) {
        return E_ERROR;
    }

    return ims_flow_write(&w->flows, t->slot, d->claim, &w->data)
           == IMS_FLOW_OK ? E_OK : E_ERROR;
}


static int
sweeper_send(world_t *w, worker_t *k, uint32_t slot, uint64_t claim,
    ims_flow_ident_t *id)
{
    char             branch[24];
    tdata_t         *d;
    ims_trans_t     *t;
    ims_trans_key_t  key;

    if (w->data.peer_len == 0) {
        return E_ERROR;
    }

    snprintf(branch, sizeof(branch), "%016llx",
             (unsigned long long) world_rnd(w));

    key.slot = slot;
    key.generation = ims_flow_generation(&w->flows, slot);
    key.direction = IMS_TRANS_TO_CORE;
    key.branch = ims_str_z(branch);
    key.sent_by = IMS_STR("edge");
    key.method = IMS_STR("REGISTER");

    if (ims_trans_new(k->trans, &key, &t) != IMS_TRANS_OK) {
        return E_ERROR;
    }

    d = trans_data(k, t, TRANS_DEREGISTER, id->uri.n);
    d->claim = claim;
    d->gl = sweeper_ghost(w, &w->data);
    d->looked_ms = world_boottime(w);
    d->looked_pt = w->look.pt;
    d->first_write_ms = d->looked_ms + FIRST_WRITE;
    d->end_ms = d->looked_ms + (w->look.rec.rest - w->look.pt
                                - w->look.delay);
    d->delay = w->look.delay;
    d->aor_len = (uint16_t) id->uri.n;
    memcpy(d->text, id->uri.p, id->uri.n);
    d->peer = w->data.peer[0];

    if (sweeper_write(w, k, t, id) != E_OK
        || link_send_trans(w, k, t, 0) != E_OK)
    {
        trans_free(w, k, t);
        return E_ERROR;
    }

    k->nderegister++;
    w->count[C_deregistered]++;
    TRACE(w, "worker %u: flow %u, lease %llx: the edge de-registers %.*s",
          k->index, slot, (unsigned long long) w->data.lease,
          IMS_STR_ARG(id->uri));

    return E_OK;
}


static void
sweeper_later(world_t *w, worker_t *k, uint32_t slot, uint64_t claim)
{
    uint64_t  now;

    (void) k;

    now = world_boottime(w) + SWEEPER_AGAIN;

    (void) ims_flow_unclaim(&w->flows, slot, claim,
                            now > w->config.grace ? now - w->config.grace
                                                  : 1);
}


static void
sweeper_next(world_t *w, worker_t *k, uint32_t slot, uint64_t claim)
{
    int                rc;
    unsigned           pos;
    ims_flow_ident_t   id;

    w->data = *ims_flow_peek(&w->flows, slot);
    rc = sweeper_ours(w, k, slot, &w->data);

    if (rc == E_ERROR) {
        sweeper_later(w, k, slot, claim);
        return;
    }

    if (rc == E_OK) {

        for (pos = 0; ims_flow_identity(&w->data, &pos, &id); /* void */) {

            if (id.until_pt <= w->look.pt) {
                continue;
            }

            check_deregister(w, slot, &w->data);

            if (sweeper_send(w, k, slot, claim, &id) != E_OK) {
                sweeper_later(w, k, slot, claim);
            }

            return;
        }

    } else {
        w->count[C_dereg_not_ours]++;
    }

    (void) ims_flow_free(&w->flows, slot, claim, &k->me);
}


void
sweeper_response(world_t *w, worker_t *k, ims_trans_t *t, ims_sip_msg_t *m)
{
    unsigned           n, pos;
    tdata_t           *d;
    ims_str_t          aor;
    ims_flow_data_t   *old;
    ims_flow_ident_t   ids[IMS_POOL_IMPUS + IMS_REG_ASSERTED_MAX + 2];

    d = t->data;

    if (t->state >= IMS_TRANS_COMPLETED || m->status < 200) {
        return;
    }

    if (m->status >= 500 || m->status == 408) {
        sweeper_failed(w, k, t);
        return;
    }

    w->data = *ims_flow_peek(&w->flows, t->slot);
    old = &w->view.data;
    *old = w->data;

    aor = ims_str_set(d->text, d->aor_len);
    n = 0;
    pos = 0;

    while (n < sizeof(ids) / sizeof(ids[0])
           && ims_flow_identity(old, &pos, &ids[n]))
    {
        if (!ims_str_eq(ids[n].uri, aor)) {
            n++;
        }
    }

    (void) ims_flow_set_identities(&w->data, ids, n);

    k->nderegister--;
    trans_done(w, k, t, m->status);

    if (ims_flow_write(&w->flows, t->slot, d->claim, &w->data) == IMS_FLOW_OK)
    {
        sweeper_next(w, k, t->slot, d->claim);
    }
}


void
sweeper_failed(world_t *w, worker_t *k, ims_trans_t *t)
{
    tdata_t  *d;

    d = t->data;

    k->nderegister--;
    trans_done(w, k, t, 503);
    sweeper_later(w, k, t->slot, d->claim);
}
