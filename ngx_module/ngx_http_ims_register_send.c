
/*
 * Copyright (C) nginx-ims contributors
 *
 * REGISTER on its way to the core: slot, record, peer, message; and what
 * happens if no answer can come.  POOL.md 1, line E, c.
 */

#include "ngx_http_ims_register.h"


static ngx_int_t ngx_http_ims_register_slot(ngx_http_ims_session_t *s,
    ims_reg_request_t *q, ims_reg_verdict_t *v);
static void ngx_http_ims_register_provisional(ngx_http_ims_session_t *s,
    ims_reg_request_t *q, uint64_t until);
static ngx_int_t ngx_http_ims_register_record(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m, ims_reg_request_t *q, ims_reg_verdict_t *v,
    uint64_t looked, ims_trans_t **tp);
static ngx_int_t ngx_http_ims_register_peer(ngx_http_ims_session_t *s,
    ims_trans_t *t);
static ngx_int_t ngx_http_ims_register_note_peer(ngx_http_ims_session_t *s,
    ims_trans_t *t);
static const char *ngx_http_ims_register_write(ngx_http_ims_session_t *s,
    ims_sip_msg_t *m, ims_reg_request_t *q, ims_reg_verdict_t *v,
    ims_trans_t *t, unsigned *status);


ims_str_t
ngx_http_ims_register_text(ngx_http_ims_trans_data_t *d,
    ngx_http_ims_register_text_e which)
{
    u_char      *p;
    uint16_t     len[NGX_HTTP_IMS_REG_TEXTS];
    ngx_uint_t   i;

    len[NGX_HTTP_IMS_REG_INSTANCE] = d->instance_len;
    len[NGX_HTTP_IMS_REG_CONTACT] = d->contact_len;
    len[NGX_HTTP_IMS_REG_AOR] = d->aor_len;

    p = d->text;

    for (i = 0; i < (ngx_uint_t) which; i++) {
        p += len[i];
    }

    return ims_str_set(p, len[which]);
}


void
ngx_http_ims_register_go(ngx_http_ims_session_t *s, ims_sip_msg_t *m,
    ims_reg_request_t *q, ims_reg_verdict_t *v, uint64_t looked)
{
    unsigned      status;
    ngx_int_t     rc;
    ims_trans_t  *t;
    const char   *reason;

    switch (ngx_http_ims_register_slot(s, q, v)) {

    case NGX_OK:
        break;

    case NGX_BUSY:
        ngx_http_ims_count(register_busy);
        ngx_http_ims_reply(s, m, 500, "Flow Is Being De-registered",
                           "Retry-After: 5\r\n");
        return;

    default:
        ngx_http_ims_count(register_no_slot);
        ngx_log_error(NGX_LOG_ERR, s->connection->log, 0,
                      "no room in the flow table for session %uD", s->serial);
        ngx_http_ims_register_unavailable(s, m, "Too Many Flows");
        return;
    }

    rc = ngx_http_ims_register_record(s, m, q, v, looked, &t);

    if (rc == NGX_DECLINED) {
        /* a retransmission */
        return;
    }

    if (rc != NGX_OK) {
        ngx_http_ims_count(trans_limit);
        ngx_http_ims_register_unavailable(s, m, "Too Many Transactions");
        return;
    }

    if (ngx_http_ims_register_peer(s, t) != NGX_OK) {
        ngx_http_ims_count(core_down);
        ngx_http_ims_trans_free(t);
        ngx_http_ims_register_unavailable(s, m, "Core Down");
        return;
    }

    if (ngx_http_ims_register_note_peer(s, t) != NGX_OK) {
        ngx_http_ims_trans_free(t);
        return;
    }

    reason = ngx_http_ims_register_write(s, m, q, v, t, &status);

    if (reason) {
        ngx_http_ims_count(sip_policy);
        ngx_http_ims_trans_free(t);
        ngx_http_ims_reply(s, m, status, reason, NULL);
        return;
    }

    rc = ngx_http_ims_trans_send(t);

    if (rc == NGX_ERROR && t->transport == NGX_HTTP_IMS_UDP) {

        /* no way to that peer; of a link this is told later */

        s->registering = 1;
        ngx_http_ims_register_failed(t, 503, "Core Unreachable");
        return;
    }

    if (rc != NGX_OK) {
        ngx_http_ims_count(core_down);
        ngx_http_ims_trans_free(t);
        ngx_http_ims_register_unavailable(s, m, "Core Busy");
        return;
    }

    s->registering = 1;
    ngx_http_ims_count(register_forwarded);

    ngx_log_error(NGX_LOG_INFO, s->connection->log, 0,
                  "ims session %uD: REGISTER forwarded, lease "
                  "%016xL-%016xL, expires %uD of %uD, flow %uD:%uD",
                  s->serial, s->ident, s->lease, v->expires, q->asked,
                  s->slot, s->generation);
}


/*
 * The slot is written *before* the REGISTER goes out: should this worker die,
 * whoever sweeps it knows what to de-register.
 */

static ngx_int_t
ngx_http_ims_register_slot(ngx_http_ims_session_t *s, ims_reg_request_t *q,
    ims_reg_verdict_t *v)
{
    u_char                  instance[16];
    ngx_int_t               rc;
    ngx_uint_t              has;
    ims_flow_data_t        *data;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    if (s->slot != NGX_HTTP_IMS_NO_SLOT && q->asked == 0) {
        /* nothing is added to it */
        return NGX_OK;
    }

    if (s->grant == NULL) {
        /* only a de-registration goes on without one */
        return NGX_DECLINED;
    }

    has = ims_reg_instance(q, instance);

    rc = ngx_http_ims_flow_attach(s, s->grant, instance, has);
    if (rc != NGX_OK) {
        return rc;
    }

    ngx_http_ims_flow_lease(s, s->grant, v->end);

    /* what is registered stays: a REGISTER for another IMPU comes on top */

    data = &w->data;
    *data = *ims_flow_peek(s->main->flows, s->slot);

    if (has) {
        ngx_memcpy(data->instance, instance, sizeof(instance));
        data->flags |= IMS_FLOW_F_INSTANCE;

    } else if (data->lease == 0) {
        ngx_memcpy(data->instance, instance, sizeof(instance));
    }

    if (data->lease == 0) {
        ngx_http_ims_random(data->dereg_id, sizeof(data->dereg_id));
    }

    data->lease = s->lease;
    data->ident = s->ident;
    data->sid = s->sid;
    data->end_pt = v->end;
    ngx_memcpy(data->holder, s->holder, IMS_POOL_HOLDER_LEN);

    ngx_http_ims_register_provisional(s, q, w->look.pt + 1000
        * (uint64_t) ngx_max(v->expires, ngx_http_ims_register_core_min(s)));

    return ngx_http_ims_flow_enter(s) == NGX_OK ? NGX_OK : NGX_BUSY;
}


/*
 * w->data: home, IMPI and Contact, and To's identity as one that may be
 * registered until then.
 */

static void
ngx_http_ims_register_provisional(ngx_http_ims_session_t *s,
    ims_reg_request_t *q, uint64_t until)
{
    unsigned                n, pos;
    ngx_uint_t              known;
    ims_flow_ident_t        ids[NGX_HTTP_IMS_REG_IDENTS];
    ims_flow_data_t        *old;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    old = &w->view.data;
    *old = w->data;

    (void) ims_flow_set_texts(&w->data, ims_str_z(w->look.home),
                              w->names.impi,
                              q->contact.star ? ims_flow_contact(old)
                                              : q->contact.addr.uri);

    n = 0;
    pos = 0;
    known = 0;

    while (n < NGX_HTTP_IMS_REG_IDENTS - 1
           && ims_flow_identity(old, &pos, &ids[n]))
    {
        if (ims_sip_uri_same(ids[n].uri, q->aor)) {
            known = 1;
            ids[n].until_pt = ngx_max(ids[n].until_pt, until);
        }

        n++;
    }

    if (!known) {
        ngx_memzero(&ids[n], sizeof(ims_flow_ident_t));
        ids[n].uri = q->aor;
        ids[n].until_pt = until;
        ids[n].position = IMS_FLOW_NOT_ASSERTABLE;
        ids[n].tag = 1;
        n++;
    }

    if (ims_flow_set_identities(&w->data, ids, n) == IMS_FLOW_TOOBIG) {
        ngx_http_ims_count(flow_no_takeover);
    }
}


static ngx_int_t
ngx_http_ims_register_record(ngx_http_ims_session_t *s, ims_sip_msg_t *m,
    ims_reg_request_t *q, ims_reg_verdict_t *v, uint64_t looked,
    ims_trans_t **tp)
{
    u_char                     *p, sent_by[IMS_TRANS_SENT_BY_MAX];
    ims_str_t                   contact, raw;
    ims_trans_t                *t;
    ims_trans_rc_t              rc;
    ims_trans_key_t             key;
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;

    p = ngx_snprintf(sent_by, sizeof(sent_by), "%*s:%ud", m->via.host.n,
                     m->via.host.p, (ngx_uint_t) m->via.port);

    key.slot = s->slot;
    key.generation = s->generation;
    key.direction = IMS_TRANS_TO_CORE;
    key.branch = m->via.branch.value;
    key.sent_by = ims_str_range(sent_by, p);
    key.method = m->method;

    rc = ngx_http_ims_trans_new(&key, &t);

    if (rc == IMS_TRANS_EXISTS) {
        return NGX_DECLINED;
    }

    if (rc != IMS_TRANS_OK) {
        return NGX_ERROR;
    }

    contact = q->contact.star
              ? ims_flow_contact(ims_flow_peek(s->main->flows, s->slot))
              : q->contact.addr.uri;

    d = ngx_http_ims_trans_data(t, NGX_HTTP_IMS_TRANS_REGISTER,
                                q->instance.n + contact.n + q->aor.n);
    raw = m->raw;

    if (d == NULL || !ims_trans_save(w->trans, &t->response, &raw, 1)) {
        ngx_free(d);
        ims_trans_free(w->trans, t);
        return NGX_ERROR;
    }

    t->cseq = m->cseq;
    t->method = (uint16_t) m->method_id;

    d->conf = s->conf;
    d->serial = s->serial;
    d->expires = v->expires;
    d->core_min = ngx_http_ims_register_core_min(s);
    d->reg_id = q->reg_id;
    d->looked = looked;
    d->first_write = looked + NGX_HTTP_IMS_FIRST_WRITE;
    d->delay = w->look.delay;
    d->end = v->end ? looked + (v->end - w->look.pt)
                    : looked + NGX_HTTP_IMS_FIRST_WRITE;

    d->instance_len = (uint16_t) q->instance.n;
    d->contact_len = (uint16_t) contact.n;
    d->aor_len = (uint16_t) q->aor.n;

    p = d->text;
    p = ngx_cpymem(p, q->instance.p, q->instance.n);
    p = ngx_cpymem(p, contact.p, contact.n);
    ngx_memcpy(p, q->aor.p, q->aor.n);

    *tp = t;

    return NGX_OK;
}


/*
 * An initial REGISTER goes to a peer of the group; a later one to the peer
 * that has the binding.
 */

static ngx_int_t
ngx_http_ims_register_peer(ngx_http_ims_session_t *s, ims_trans_t *t)
{
    const ims_flow_data_t      *data;
    ngx_http_ims_trans_data_t  *d;

    d = t->data;
    data = ims_flow_peek(s->main->flows, s->slot);

    if (d->tries++ == 0 && s->registered
        && ngx_http_ims_flow_peer(data, &d->peer) == NGX_OK)
    {
        return NGX_OK;
    }

    return ngx_http_ims_peer_choose(d->conf->group, &d->peer);
}


/* who is asked is known to the sweeper before it is asked */

static ngx_int_t
ngx_http_ims_register_note_peer(ngx_http_ims_session_t *s, ims_trans_t *t)
{
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;
    d = t->data;

    w->data = *ims_flow_peek(s->main->flows, s->slot);

    if (d->peer.socklen > IMS_FLOW_ADDR_MAX) {
        return NGX_ERROR;
    }

    ngx_memcpy(w->data.peer, &d->peer.sockaddr, d->peer.socklen);
    w->data.peer_len = (uint8_t) d->peer.socklen;
    w->data.peer_transport = (uint8_t) d->peer.transport;

    return ngx_http_ims_flow_write(s);
}


/* the message for the core, into t->request; NULL or why not */

static const char *
ngx_http_ims_register_write(ngx_http_ims_session_t *s, ims_sip_msg_t *m,
    ims_reg_request_t *q, ims_reg_verdict_t *v, ims_trans_t *t,
    unsigned *status)
{
    u_char                      branch[IMS_FLOW_BRANCH_MAX], icid[32];
    u_char                      token[IMS_FLOW_TOKEN_MAX], noise[16];
    const char                 *reason;
    ims_flow_id_t               id;
    ims_flow_branch_t           b;
    ims_reg_forward_t           f;
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;
    d = t->data;

    id.node = (uint16_t) s->main->node;
    id.slot = s->slot;
    id.generation = s->generation;

    t->attempt = (uint8_t) (d->tries - 1);

    b.direction = IMS_TRANS_TO_CORE;
    b.attempt = t->attempt;
    b.cseq = m->cseq;
    b.via_sent_by = m->via.host;
    b.via_branch = m->via.branch.value;
    b.call_id = m->call_id;
    b.from_tag = m->from_tag;
    b.r_uri = m->uri;

    ngx_memzero(&f, sizeof(ims_reg_forward_t));

    f.branch = ims_str_set(branch, ims_flow_branch_make(s->main->flow_keys,
                                                        &id, &b, branch));
    f.path_token = ims_str_set(token, ims_flow_token_path(s->main->flow_keys,
                                                          &id, token));

    ngx_http_ims_random(noise, sizeof(noise));
    ims_hex_encode(icid, noise, sizeof(noise));

    f.icid = ims_str_set(icid, sizeof(icid));
    f.home = ims_str_z(w->look.home);
    f.impi = w->names.impi;
    f.visited = ngx_http_ims_str(&s->conf->visited_network);
    f.access_network = ngx_http_ims_str(&s->conf->access_network);
    f.received = ngx_http_ims_str(&s->connection->addr_text);
    f.rport = ngx_inet_get_port(s->connection->sockaddr);
    f.expires = v->expires;

    if (s->conf->authorization_entity && s->grant) {
        f.entity = ((ims_token_issuer_t *) s->grant->issuer)->iss;
    }

    /* POOL.md 1: "*" would take the bindings of the lease's other sessions */

    if (q->contact.star && (w->look.rec.nsession != 1 || s->grant == NULL)) {
        f.own_contact = ngx_http_ims_register_text(d, NGX_HTTP_IMS_REG_CONTACT);
    }

    ngx_http_ims_register_places(&f, &d->peer, d->peer.transport);
    t->transport = (uint8_t) d->peer.transport;

    for ( ;; ) {
        ims_sip_edit_init(&w->edit, m, w->scratch, w->scratch_size);

        reason = ims_reg_forward(&w->edit, q, &f, status);
        if (reason) {
            return reason;
        }

        if (!ims_trans_save(w->trans, &t->request, w->edit.out, w->edit.nout))
        {
            *status = 500;
            return "Out Of Memory";
        }

        if (t->transport != NGX_HTTP_IMS_UDP
            || t->request->n <= NGX_HTTP_IMS_UDP_REQUEST)
        {
            break;
        }

        /* RFC 3261 18.1.1; the Path stays what the core is asked to use */

        ngx_http_ims_count(udp_large);
        t->transport = NGX_HTTP_IMS_STREAM;

        ngx_http_ims_register_places(&f, &d->peer, t->transport);
    }

    d->large = t->transport != d->peer.transport;

    ims_trans_set_branch(w->trans, t, f.branch, m->method);

    return NULL;
}


void
ngx_http_ims_register_places(ims_reg_forward_t *f, ngx_http_ims_addr_t *peer,
    ngx_uint_t via)
{
    ngx_http_ims_listen_t     *listen;
    ngx_http_ims_main_conf_t  *imcf;

    imcf = ngx_http_ims_worker->main;

    listen = ngx_http_ims_advertised(imcf, peer, peer->transport);
    f->advertise = ngx_http_ims_str(&listen->advertise);
    f->transport = ngx_http_ims_str(&listen->transport);

    listen = ngx_http_ims_advertised(imcf, peer, via);
    f->via_advertise = ngx_http_ims_str(&listen->advertise);
    f->via_transport = ngx_http_ims_str(&listen->transport);
    f->via_params = ngx_http_ims_str(&listen->via_params);
}


/*
 * No answer can come any more: another peer is tried from the start (a new
 * look, a new branch), or the client is told.
 */

void
ngx_http_ims_register_failed(ims_trans_t *t, ngx_uint_t status,
    const char *reason)
{
    ngx_http_ims_session_t     *s;
    ngx_http_ims_trans_data_t  *d;

    d = t->data;
    s = ngx_http_ims_flow_session(t->slot, t->generation);

    ngx_http_ims_peer_result(d->conf->group, &d->peer, 1);

    if (s == NULL || s->serial != d->serial || s->closing) {
        ngx_http_ims_trans_done(t, status);
        return;
    }

    if (status == 503 && d->tries < ngx_http_ims_peer_count(d->conf->group)
        && ngx_http_ims_register_next(s, t) == NGX_OK)
    {
        return;
    }

    if (status == 503) {
        ngx_http_ims_count(core_down);
    }

    ngx_log_error(NGX_LOG_ERR, s->connection->log, 0,
                  "ims session %uD: REGISTER failed: %s", s->serial, reason);

    s->registering = 0;
    ngx_http_ims_register_answer(s, t, status, reason, "Retry-After: 5\r\n");
    ngx_http_ims_trans_done(t, status);
}


ngx_int_t
ngx_http_ims_register_next(ngx_http_ims_session_t *s, ims_trans_t *t)
{
    unsigned                    status;
    const char                 *reason;
    ims_sip_err_t               err;
    ims_sip_msg_t              *m;
    ims_reg_request_t           q;
    ims_reg_verdict_t           v;
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;
    d = t->data;
    m = &w->sip;

    if (ims_sip_parse(m, t->response->data, t->response->n, IMS_SIP_WS, &err)
        != 0
        || ims_reg_read(&q, m, &reason) != 0)
    {
        return NGX_ERROR;
    }

    d->looked = ims_boottime_ms();
    d->first_write = d->looked + NGX_HTTP_IMS_FIRST_WRITE;
    d->resent = 0;

    if (ngx_http_ims_register_look(s, s->ident) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_http_ims_register_judge(s, m, &q, s->grant, &v);

    if (v.why != IMS_REG_GO
        || ngx_http_ims_register_peer(s, t) != NGX_OK
        || ngx_http_ims_register_note_peer(s, t) != NGX_OK
        || ngx_http_ims_register_write(s, m, &q, &v, t, &status) != NULL)
    {
        return NGX_ERROR;
    }

    d->expires = v.expires;
    d->end = v.end ? d->looked + (v.end - w->look.pt) : d->first_write;

    return ngx_http_ims_trans_send(t);
}


void
ngx_http_ims_register_answer(ngx_http_ims_session_t *s, ims_trans_t *t,
    ngx_uint_t status, const char *reason, const char *extra)
{
    ims_sip_err_t           err;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    if (t->response == NULL
        || ims_sip_parse(&w->sip, t->response->data, t->response->n,
                         IMS_SIP_WS, &err)
           != 0)
    {
        return;
    }

    ngx_http_ims_reply(s, &w->sip, status, reason, extra);
}
