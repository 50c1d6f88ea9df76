
/*
 * Copyright (C) nginx-ims contributors
 *
 * Slots without a living owner: when their grace is over, any worker claims
 * them, takes back what they registered at the core, and frees them (POOL.md
 * 1 f, g).
 */

#include "ngx_http_ims_register.h"


#define NGX_HTTP_IMS_SWEEP        1000    /* ms */
#define NGX_HTTP_IMS_SWEEP_SLOTS  16384   /* a turn */
#define NGX_HTTP_IMS_SWEEP_MAX    64      /* de-registrations in flight */
#define NGX_HTTP_IMS_SWEEP_AGAIN  10000   /* ms between tries */


static void ngx_http_ims_sweeper_timer(ngx_event_t *ev);
static void ngx_http_ims_sweeper_due(void *arg, uint32_t slot,
    uint32_t generation, uint64_t owner);
static void ngx_http_ims_sweeper_next(uint32_t slot, uint64_t claim);
static ngx_int_t ngx_http_ims_sweeper_ours(ngx_http_ims_worker_t *w,
    uint32_t slot, const ims_flow_data_t *data);
static ngx_int_t ngx_http_ims_sweeper_send(uint32_t slot, uint64_t claim,
    ims_flow_ident_t *id);
static ngx_int_t ngx_http_ims_sweeper_write(ims_trans_t *t,
    ims_flow_ident_t *id);
static void ngx_http_ims_sweeper_later(uint32_t slot, uint64_t claim);
static void ngx_http_ims_sweeper_free(uint32_t slot, uint64_t claim);


void
ngx_http_ims_sweeper_init(ngx_http_ims_worker_t *w)
{
    w->sweep.grace_ms = w->main->flow_grace;
    w->sweep.me = &w->me;
    w->sweep.alive = ngx_http_ims_flow_alive;
    w->sweep.due = ngx_http_ims_sweeper_due;
    w->sweep.arg = w;

    w->sweep_event.handler = ngx_http_ims_sweeper_timer;
    w->sweep_event.data = &w->dummy;
    w->sweep_event.log = w->log;
    w->sweep_event.cancelable = 1;

    ngx_add_timer(&w->sweep_event, NGX_HTTP_IMS_SWEEP);
}


static void
ngx_http_ims_sweeper_timer(ngx_event_t *ev)
{
    ngx_http_ims_worker_t  *w;

    if (ngx_exiting) {
        /* left to those that follow: an answer awaited would keep this one */
        return;
    }

    w = ngx_http_ims_worker;

    w->sweep.now_ms = ims_boottime_ms();

    (void) ims_flow_reap(w->main->flows, &w->me, ngx_http_ims_flow_alive, w);

    ims_flow_sweep(w->main->flows, &w->sweep,
                   ngx_min(w->main->flows->nslots, NGX_HTTP_IMS_SWEEP_SLOTS));

    ngx_add_timer(ev, NGX_HTTP_IMS_SWEEP);
}


static void
ngx_http_ims_sweeper_due(void *arg, uint32_t slot, uint32_t generation,
    uint64_t owner)
{
    uint64_t                claim;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    if (w->nderegister >= NGX_HTTP_IMS_SWEEP_MAX
        || ngx_http_ims_pool_reader(w) == NULL)
    {
        /* the next turn, or another worker */
        return;
    }

    if (ims_flow_claim(w->main->flows, slot, generation, owner, &w->me,
                       &claim)
        != IMS_FLOW_OK)
    {
        return;
    }

    ngx_http_ims_sweeper_next(slot, claim);
}


/* the next identity of a claimed slot that may still be registered */

static void
ngx_http_ims_sweeper_next(uint32_t slot, uint64_t claim)
{
    unsigned                pos;
    ngx_int_t               rc;
    ims_flow_ident_t        id;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;
    w->data = *ims_flow_peek(w->main->flows, slot);

    rc = ngx_http_ims_sweeper_ours(w, slot, &w->data);

    if (rc == NGX_ERROR) {
        ngx_http_ims_sweeper_later(slot, claim);
        return;
    }

    if (rc == NGX_OK) {

        for (pos = 0; ims_flow_identity(&w->data, &pos, &id); /* void */) {

            if (id.until_pt <= w->look.pt) {
                continue;
            }

            if (ngx_http_ims_sweeper_send(slot, claim, &id) != NGX_OK) {
                ngx_http_ims_sweeper_later(slot, claim);
            }

            return;
        }
    }

    ngx_http_ims_sweeper_free(slot, claim);
}


/*
 * A late de-REGISTER could take away the next holder's binding: it is sent
 * only while the record has the flow's own lease, and not in the last D of
 * its rest.  Nor may it take away what a newer flow of the device, or of the
 * Contact, has registered.
 */

static ngx_int_t
ngx_http_ims_sweeper_ours(ngx_http_ims_worker_t *w, uint32_t slot,
    const ims_flow_data_t *data)
{
    int       rc;
    uint32_t  other, generation;

    if (ims_flow_find(w->main->flows, data->lease, data->instance, &other,
                      &generation)
        == IMS_FLOW_OK && other != slot)
    {
        return NGX_DECLINED;
    }

    if (ngx_http_ims_pool_feed(w) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = ims_pool_look(ngx_http_ims_pool_reader(w), data->ident, &w->look);

    if (rc == IMS_POOL_NOTFOUND) {
        return NGX_DECLINED;
    }

    if (rc != IMS_POOL_OK) {
        return NGX_ERROR;
    }

    return w->look.rec.lease == data->lease
           && w->look.pt + w->look.delay < w->look.rec.rest
           ? NGX_OK : NGX_DECLINED;
}


static ngx_int_t
ngx_http_ims_sweeper_send(uint32_t slot, uint64_t claim, ims_flow_ident_t *id)
{
    u_char                      noise[8], branch[16];
    ims_trans_t                *t;
    ims_trans_key_t             key;
    ngx_http_ims_addr_t         peer;
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;

    if (ngx_http_ims_flow_peer(&w->data, &peer) != NGX_OK) {
        /* should not be: the peer is written before a REGISTER is sent */
        return NGX_ERROR;
    }

    ngx_http_ims_random(noise, sizeof(noise));
    ims_hex_encode(branch, noise, sizeof(noise));

    key.slot = slot;
    key.generation = ims_flow_generation(w->main->flows, slot);
    key.direction = IMS_TRANS_TO_CORE;
    key.branch = ims_str_set(branch, sizeof(branch));
    key.sent_by = IMS_STR("edge");
    key.method = IMS_STR("REGISTER");

    if (ngx_http_ims_trans_new(&key, &t) != IMS_TRANS_OK) {
        return NGX_ERROR;
    }

    d = ngx_http_ims_trans_data(t, NGX_HTTP_IMS_TRANS_DEREGISTER, id->uri.n);
    if (d == NULL) {
        ims_trans_free(w->trans, t);
        return NGX_ERROR;
    }

    d->claim = claim;
    d->looked = ims_boottime_ms();
    d->first_write = d->looked + NGX_HTTP_IMS_FIRST_WRITE;
    d->end = d->looked + (w->look.rec.rest - w->look.pt - w->look.delay);
    d->delay = w->look.delay;
    d->aor_len = (uint16_t) id->uri.n;
    ngx_memcpy(d->text, id->uri.p, id->uri.n);

    d->peer = peer;
    t->transport = (uint8_t) peer.transport;

    if (ngx_http_ims_sweeper_write(t, id) != NGX_OK
        || ngx_http_ims_trans_send(t) != NGX_OK)
    {
        ngx_http_ims_trans_free(t);
        return NGX_ERROR;
    }

    w->nderegister++;
    ngx_http_ims_count(deregister_sent);

    ngx_log_error(NGX_LOG_INFO, w->log, 0,
                  "flow %uD:%uD, lease %016xL-%016xL: the edge de-registers",
                  slot, key.generation, w->data.ident, w->data.lease);

    return NGX_OK;
}


static ngx_int_t
ngx_http_ims_sweeper_write(ims_trans_t *t, ims_flow_ident_t *id)
{
    u_char                      branch[IMS_FLOW_BRANCH_MAX], icid[32], tag[16];
    u_char                      token[IMS_FLOW_TOKEN_MAX], call_id[32];
    u_char                      noise[16];
    ptrdiff_t                   n;
    ims_str_t                   text;
    ims_flow_id_t               fid;
    ims_flow_branch_t           b;
    ims_reg_deregister_t        dereg;
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;

    fid.node = (uint16_t) w->main->node;
    fid.slot = t->slot;
    fid.generation = t->generation;

    ngx_memzero(&dereg, sizeof(dereg));

    ngx_http_ims_random(noise, sizeof(noise));
    ims_hex_encode(icid, noise, sizeof(noise));
    ngx_http_ims_random(noise, 8);
    ims_hex_encode(tag, noise, 8);
    ims_hex_encode(call_id, w->data.dereg_id, sizeof(w->data.dereg_id));

    /* one Call-ID a slot, so that registrars see one sequence of CSeq */

    dereg.call_id = ims_str_set(call_id, sizeof(call_id));
    dereg.from_tag = ims_str_set(tag, sizeof(tag));
    dereg.cseq = ++w->data.dereg_cseq;
    dereg.impu = id->uri;
    dereg.contact = ims_flow_contact(&w->data);

    ngx_memzero(&b, sizeof(b));
    b.direction = IMS_TRANS_TO_CORE;
    b.cseq = dereg.cseq;
    b.call_id = dereg.call_id;
    b.from_tag = dereg.from_tag;

    dereg.f.home = ims_flow_home(&w->data);
    dereg.f.impi = ims_flow_impi(&w->data);
    dereg.f.branch = ims_str_set(branch,
                                 ims_flow_branch_make(w->main->flow_keys,
                                                      &fid, &b, branch));
    dereg.f.path_token = ims_str_set(token,
                                     ims_flow_token_path(w->main->flow_keys,
                                                         &fid, token));
    dereg.f.icid = ims_str_set(icid, sizeof(icid));

    d = t->data;
    ngx_http_ims_register_places(&dereg.f, &d->peer, t->transport);

    n = ims_reg_deregister(w->message, w->message_size, &dereg);

    if (t->transport == NGX_HTTP_IMS_UDP && n > NGX_HTTP_IMS_UDP_REQUEST) {
        /* RFC 3261 18.1.1 */
        ngx_http_ims_count(udp_large);
        d->large = 1;

        t->transport = NGX_HTTP_IMS_STREAM;
        ngx_http_ims_register_places(&dereg.f, &d->peer, t->transport);

        n = ims_reg_deregister(w->message, w->message_size, &dereg);
    }

    if (n < 0) {
        return NGX_ERROR;
    }

    ims_trans_set_branch(w->trans, t, dereg.f.branch, IMS_STR("REGISTER"));

    text = ims_str_set(w->message, (size_t) n);

    if (!ims_trans_save(w->trans, &t->request, &text, 1)) {
        return NGX_ERROR;
    }

    return ims_flow_write(w->main->flows, t->slot,
                          d->claim,
                          &w->data)
           == IMS_FLOW_OK ? NGX_OK : NGX_ERROR;
}


/* 200, 404, 481, and whatever else says that the binding is not there */

void
ngx_http_ims_sweeper_response(ims_trans_t *t, ims_sip_msg_t *m)
{
    unsigned                    n, pos;
    ims_str_t                   aor;
    ims_flow_data_t            *old;
    ims_flow_ident_t            ids[IMS_POOL_IMPUS + IMS_REG_ASSERTED_MAX + 2];
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;
    d = t->data;

    if (t->state >= IMS_TRANS_COMPLETED || m->status < 200) {
        return;
    }

    if (m->status >= 500 || m->status == 408) {
        ngx_http_ims_sweeper_failed(t);
        return;
    }

    ngx_http_ims_count(deregister_done);

    ngx_log_error(NGX_LOG_INFO, w->log, 0,
                  "flow %uD:%uD: de-REGISTER answered %ui", t->slot,
                  t->generation, (ngx_uint_t) m->status);

    w->data = *ims_flow_peek(w->main->flows, t->slot);
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

    w->nderegister--;
    ngx_http_ims_trans_done(t, m->status);

    if (ims_flow_write(w->main->flows, t->slot, d->claim, &w->data)
        == IMS_FLOW_OK)
    {
        ngx_http_ims_sweeper_next(t->slot, d->claim);
    }
}


void
ngx_http_ims_sweeper_failed(ims_trans_t *t)
{
    ngx_http_ims_trans_data_t  *d;

    d = t->data;

    ngx_http_ims_worker->nderegister--;
    ngx_http_ims_trans_done(t, 503);

    ngx_http_ims_sweeper_later(t->slot, d->claim);
}


static void
ngx_http_ims_sweeper_later(uint32_t slot, uint64_t claim)
{
    uint64_t                now;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;
    now = ims_boottime_ms() + NGX_HTTP_IMS_SWEEP_AGAIN;

    (void) ims_flow_unclaim(w->main->flows, slot, claim,
                            now > w->sweep.grace_ms
                            ? now - w->sweep.grace_ms : 1);
}


static void
ngx_http_ims_sweeper_free(uint32_t slot, uint64_t claim)
{
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    (void) ims_flow_free(w->main->flows, slot, claim, &w->me);
}
