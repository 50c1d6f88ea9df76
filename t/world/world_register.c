/*
 * Copyright (C) nginx-ims contributors
 *
 * REGISTER: the sequence of ngx_http_ims_register.c, _register_send.c and
 * _register_answer.c, with the rules themselves from reg/.
 */

#include "world.h"
#include "sip/ims_sip_policy.h"


#define REG_FIRST_WRITE  2000       /* ms */
#define REG_IDENTS       (IMS_POOL_IMPUS + IMS_REG_ASSERTED_MAX + 2)


static void reg_refuse(world_t *w, session_t *s, ims_sip_msg_t *m,
    ims_reg_why_e why);
static void reg_go(world_t *w, session_t *s, ims_sip_msg_t *m,
    ims_reg_request_t *q, ims_reg_verdict_t *v, uint64_t looked);
static int reg_next(world_t *w, worker_t *k, session_t *s, ims_trans_t *t);
static void reg_answer(world_t *w, session_t *s, ims_trans_t *t,
    unsigned status, const char *reason);


static uint64_t
max64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}


static uint32_t
max32(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}


static uint32_t
min32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}


/* -- may it go on (ngx_http_ims_register.c) ------------------------------ */

static uint32_t
reg_core_min(world_t *w, worker_t *k)
{
    return max32(max32(w->config.core_min, w->look.core_min), k->core_min);
}


/* 0; -1: it was answered */

static int
reg_token(world_t *w, session_t *s, ims_sip_msg_t *m, ims_reg_request_t *q,
    ims_reg_grant_t **fresh)
{
    uint8_t                    digest[IMS_TOKEN_DIGEST_LEN];
    ims_token_err_t            err;
    const ims_token_issuer_t  *issuer;
    static ims_token_claims_t  claims;

    if (q->token.p == NULL) {
        return 0;
    }

    ims_token_digest(q->token, digest);

    if (s->grant && ims_equal_ct(digest, s->grant->digest, sizeof(digest))) {
        return 0;
    }

    if (ims_token_verify(w->issuers, 1, q->token,
                         (int64_t) world_wall(w) / 1000, &claims, &issuer,
                         &err)
        != 0 && err.code != IMS_TOKEN_EXPIRED)
    {
        /* the wall clock goes back, too */

        if (err.code != IMS_TOKEN_NOT_YET_VALID) {
            world_fail(w, "begin", "a token is refused: %s",
                       ims_token_strerror(err.code));
        }

        edge_reply(w, s, m, 403, "Bad Token", NULL);
        edge_close(w, s, "bad token");
        return -1;
    }

    *fresh = ims_reg_grant_new(&claims, q->token, issuer);

    return *fresh ? 0 : -1;
}


static void
reg_judge(world_t *w, session_t *s, ims_sip_msg_t *m, ims_reg_request_t *q,
    const ims_reg_grant_t *grant, ims_reg_verdict_t *v)
{
    int64_t         wall;
    ims_reg_case_t  c;

    memset(&c, 0, sizeof(c));

    c.req = q;
    c.msg = m;
    c.grant = grant;
    c.look = &w->look;
    c.names = &w->names;
    c.flow_ident = s->ident;
    c.flow_lease = s->lease;
    memcpy(c.flow_holder, s->holder, IMS_POOL_HOLDER_LEN);

    if (s->registered) {
        c.flow_contact = ims_flow_contact(ims_flow_peek(&w->flows, s->slot));
    }

    c.core_min = reg_core_min(w, s->worker);

    if (grant) {
        wall = (int64_t) world_wall(w) / 1000;
        c.expired = wall >= grant->exp + (int64_t) w->issuer.leeway;
    }

    ims_reg_judge(&c, v);
}


/* gl: the ghost of the token that is shown */

void
reg_request(world_t *w, session_t *s, ims_sip_msg_t *m, glease_t *gl)
{
    int                 rc;
    uint64_t            looked, ident;
    unsigned            status;
    const char         *reason;
    ims_reg_grant_t    *grant, *fresh;
    ims_reg_verdict_t   v;
    ims_reg_request_t   q;

    w->count[C_registers]++;
    status = ims_reg_read(&q, m, &reason);

    if (status) {
        edge_reply(w, s, m, status, reason, NULL);
        return;
    }

    if (s->registering) {
        edge_reply(w, s, m, 500, "Another REGISTER Is In Flight", NULL);
        return;
    }

    fresh = NULL;

    if (reg_token(w, s, m, &q, &fresh) != 0) {
        return;
    }

    grant = fresh ? fresh : s->grant;
    ident = grant ? grant->ident : s->ident;

    if (ident == 0) {
        reg_refuse(w, s, m, IMS_REG_NO_TOKEN);
        return;
    }

    looked = world_boottime(w);
    rc = edge_names(w, s->worker, ident);

    if (rc == E_ERROR) {
        edge_reply(w, s, m, 503, "Pool Unavailable", NULL);

    } else if (rc == E_DECLINED) {
        reg_refuse(w, s, m, IMS_REG_LEASE);

    } else {
        reg_judge(w, s, m, &q, grant, &v);

        if (v.why != IMS_REG_GO) {
            reg_refuse(w, s, m, v.why);

        } else {

            if (fresh) {
                ims_reg_grant_free(s->grant);
                s->grant = fresh;
                s->grant_gl = gl;
                fresh = NULL;
            }

            reg_go(w, s, m, &q, &v, looked);
        }
    }

    ims_reg_grant_free(fresh);
}


static void
reg_refuse(world_t *w, session_t *s, ims_sip_msg_t *m, ims_reg_why_e why)
{
    const ims_reg_refusal_t  *r;

    r = ims_reg_refusal(why);

    w->count[C_too_short] += why == IMS_REG_SHORT;
    w->count[C_no_lease] += why == IMS_REG_LEASE;
    w->count[C_no_token] += why == IMS_REG_NO_TOKEN || why == IMS_REG_EXPIRED;

    edge_reply(w, s, m, r->status, r->reason, NULL);

    if (r->close) {

        if (why == IMS_REG_LEASE) {
            s->flow_over = 1;
        }

        edge_close(w, s, r->reason);
    }
}


/* -- on its way (ngx_http_ims_register_send.c) --------------------------- */

ims_str_t
reg_text(tdata_t *d, unsigned which)
{
    uint8_t   *p;
    uint16_t   len[3];
    unsigned   i;

    len[0] = d->instance_len;
    len[1] = d->contact_len;
    len[2] = d->aor_len;

    p = d->text;

    for (i = 0; i < which; i++) {
        p += len[i];
    }

    return ims_str_set(p, len[which]);
}


static void
reg_provisional(world_t *w, session_t *s, ims_reg_request_t *q,
    uint64_t until)
{
    bool              known;
    unsigned          n, pos;
    ims_flow_data_t  *old;
    ims_flow_ident_t  ids[REG_IDENTS];

    (void) s;

    old = &w->view.data;
    *old = w->data;

    (void) ims_flow_set_texts(&w->data, ims_str_z(w->look.home),
                              w->names.impi,
                              q->contact.star ? ims_flow_contact(old)
                                              : q->contact.addr.uri);

    n = 0;
    pos = 0;
    known = false;

    while (n < REG_IDENTS - 1 && ims_flow_identity(old, &pos, &ids[n])) {

        if (ims_sip_uri_same(ids[n].uri, q->aor)) {
            known = true;
            ids[n].until_pt = max64(ids[n].until_pt, until);
        }

        n++;
    }

    if (!known) {
        memset(&ids[n], 0, sizeof(ims_flow_ident_t));
        ids[n].uri = q->aor;
        ids[n].until_pt = until;
        ids[n].position = IMS_FLOW_NOT_ASSERTABLE;
        ids[n].tag = 1;
        n++;
    }

    (void) ims_flow_set_identities(&w->data, ids, n);
}


static void
reg_random(world_t *w, uint8_t *p, size_t n)
{
    while (n--) {
        *p++ = (uint8_t) world_rnd(w);
    }
}


static int
reg_slot(world_t *w, session_t *s, ims_reg_request_t *q,
    ims_reg_verdict_t *v)
{
    int               rc;
    bool              has;
    uint8_t           instance[16];
    ims_flow_data_t  *data;

    if (s->slot != NO_SLOT && q->asked == 0) {
        return E_OK;
    }

    if (s->grant == NULL) {
        return E_DECLINED;
    }

    has = ims_reg_instance(q, instance);

    rc = edge_attach(w, s, s->grant, instance, has);

    if (rc != E_OK) {
        return rc;
    }

    edge_lease(w, s, s->grant, s->grant_gl, v->end);

    data = &w->data;
    *data = *ims_flow_peek(&w->flows, s->slot);

    if (has) {
        memcpy(data->instance, instance, sizeof(instance));
        data->flags |= IMS_FLOW_F_INSTANCE;

    } else if (data->lease == 0) {
        memcpy(data->instance, instance, sizeof(instance));
    }

    if (data->lease == 0) {
        reg_random(w, data->dereg_id, sizeof(data->dereg_id));
    }

    data->lease = s->lease;
    data->ident = s->ident;
    data->sid = s->sid;
    data->end_pt = v->end;
    memcpy(data->holder, s->holder, IMS_POOL_HOLDER_LEN);

    reg_provisional(w, s, q, w->look.pt + 1000
                    * (uint64_t) max32(v->expires, reg_core_min(w, s->worker)));

    return edge_enter(w, s) == E_OK ? E_OK : E_BUSY;
}


static int
reg_record(world_t *w, session_t *s, ims_sip_msg_t *m, ims_reg_request_t *q,
    ims_reg_verdict_t *v, uint64_t looked, ims_trans_t **tp)
{
    int              n;
    char             sent_by[IMS_TRANS_SENT_BY_MAX];
    uint8_t         *p;
    tdata_t         *d;
    ims_str_t        contact, raw;
    ims_trans_t     *t;
    ims_trans_rc_t   rc;
    ims_trans_key_t  key;

    n = snprintf(sent_by, sizeof(sent_by), "%.*s:%u",
                 IMS_STR_ARG(m->via.host), m->via.port);

    key.slot = s->slot;
    key.generation = s->generation;
    key.direction = IMS_TRANS_TO_CORE;
    key.branch = m->via.branch.value;
    key.sent_by = ims_str_set(sent_by, (size_t) n);
    key.method = m->method;

    rc = ims_trans_new(s->worker->trans, &key, &t);

    if (rc == IMS_TRANS_EXISTS) {
        return E_DECLINED;
    }

    if (rc != IMS_TRANS_OK) {
        return E_ERROR;
    }

    contact = q->contact.star
              ? ims_flow_contact(ims_flow_peek(&w->flows, s->slot))
              : q->contact.addr.uri;

    d = trans_data(s->worker, t, TRANS_REGISTER,
                   q->instance.n + contact.n + q->aor.n);
    raw = m->raw;

    if (!ims_trans_save(s->worker->trans, &t->response, &raw, 1)) {
        abort();
    }

    t->cseq = m->cseq;

    d->serial = s->serial;
    d->gl = s->gl;
    d->expires = v->expires;
    d->core_min = reg_core_min(w, s->worker);
    d->reg_id = q->reg_id;
    d->looked_ms = looked;
    d->looked_pt = w->look.pt;
    d->first_write_ms = looked + REG_FIRST_WRITE;
    d->delay = w->look.delay;
    d->end_ms = v->end ? looked + (v->end - w->look.pt)
                       : looked + REG_FIRST_WRITE;

    d->instance_len = (uint16_t) q->instance.n;
    d->contact_len = (uint16_t) contact.n;
    d->aor_len = (uint16_t) q->aor.n;

    p = d->text;

    if (q->instance.n) {
        memcpy(p, q->instance.p, q->instance.n);
    }

    p += q->instance.n;
    memcpy(p, contact.p, contact.n);
    memcpy(p + contact.n, q->aor.p, q->aor.n);

    *tp = t;

    return E_OK;
}


static void
reg_peer(world_t *w, session_t *s, ims_trans_t *t)
{
    tdata_t                *d;
    const ims_flow_data_t  *data;

    d = t->data;
    data = ims_flow_peek(&w->flows, s->slot);

    if (d->tries++ == 0 && s->registered && data->peer_len) {
        d->peer = data->peer[0];
        return;
    }

    d->peer = (unsigned) world_below(w, WORLD_PEERS);
}


static int
reg_note_peer(world_t *w, session_t *s, ims_trans_t *t)
{
    tdata_t  *d;

    d = t->data;
    w->data = *ims_flow_peek(&w->flows, s->slot);
    w->data.peer[0] = (uint8_t) d->peer;
    w->data.peer_len = 1;

    return edge_write(w, s);
}


static const char *
reg_write(world_t *w, session_t *s, ims_sip_msg_t *m, ims_reg_request_t *q,
    ims_reg_verdict_t *v, ims_trans_t *t, unsigned *status)
{
    uint8_t             branch[IMS_FLOW_BRANCH_MAX];
    uint8_t             token[IMS_FLOW_TOKEN_MAX];
    tdata_t            *d;
    const char         *reason;
    ims_flow_id_t       id;
    ims_flow_branch_t   b;
    ims_reg_forward_t   f;

    d = t->data;

    id.node = 1;
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

    memset(&f, 0, sizeof(f));

    f.branch = ims_str_set(branch, ims_flow_branch_make(&w->keys, &id, &b,
                                                        branch));
    f.path_token = ims_str_set(token, ims_flow_token_path(&w->keys, &id,
                                                          token));
    f.icid = IMS_STR("0123456789abcdef");
    f.home = ims_str_z(w->look.home);
    f.impi = w->names.impi;
    f.advertise = IMS_STR("edge.example:5060");
    f.transport = IMS_STR("TCP");
    f.received = IMS_STR("192.0.2.1");
    f.rport = 4711;
    f.expires = v->expires;

    if (q->contact.star && (w->look.rec.nsession != 1 || s->grant == NULL)) {
        f.own_contact = reg_text(d, 1);
    }

    w->count[C_stars] += q->contact.star && f.own_contact.n == 0;

    ims_sip_edit_init(&w->edit, m, w->scratch, sizeof(w->scratch));

    reason = ims_reg_forward(&w->edit, q, &f, status);

    if (reason) {
        return reason;
    }

    ims_trans_set_branch(s->worker->trans, t, f.branch, m->method);

    if (!ims_trans_save(s->worker->trans, &t->request, w->edit.out,
                        w->edit.nout))
    {
        abort();
    }

    return NULL;
}


static void
reg_go(world_t *w, session_t *s, ims_sip_msg_t *m, ims_reg_request_t *q,
    ims_reg_verdict_t *v, uint64_t looked)
{
    unsigned      status;
    const char   *reason;
    ims_trans_t  *t;

    switch (reg_slot(w, s, q, v)) {

    case E_OK:
        break;

    case E_BUSY:
        edge_reply(w, s, m, 500, "Flow Is Being De-registered", NULL);
        return;

    default:
        edge_reply(w, s, m, 503, "Too Many Flows", NULL);
        return;
    }

    switch (reg_record(w, s, m, q, v, looked, &t)) {

    case E_OK:
        break;

    case E_DECLINED:
        /* a retransmission */
        return;

    default:
        edge_reply(w, s, m, 503, "Too Many Transactions", NULL);
        return;
    }

    reg_peer(w, s, t);

    if (reg_note_peer(w, s, t) != E_OK) {
        trans_free(w, s->worker, t);
        return;
    }

    reason = reg_write(w, s, m, q, v, t, &status);

    if (reason) {
        trans_free(w, s->worker, t);
        edge_reply(w, s, m, status, reason, NULL);
        return;
    }

    if (link_send_trans(w, s->worker, t, s->sid) != E_OK) {
        trans_free(w, s->worker, t);
        edge_reply(w, s, m, 503, "Core Busy", NULL);
        return;
    }

    s->registering = 1;

    /*
     * The Contact at the core is of whoever bound it last.  A de-REGISTER binds
     * nothing, so it does not make its flow the newest one: what an older
     * connection's REGISTER, late on its way, bound after that of the newer one
     * is the older one's to take back.
     */

    if (v->expires != 0) {
        w->slot_us[s->slot] = w->now_us;
    }

    w->count[C_forwarded]++;
    TRACE(w, "worker %u: session %u: REGISTER goes on, user %u, lease %llx, "
          "%u s of %u, flow %u:%u", s->worker->index, s->serial,
          s->gl ? s->gl->user : NOBODY, (unsigned long long) s->lease,
          v->expires, q->asked, s->slot, s->generation);
}


void
reg_failed(world_t *w, worker_t *k, ims_trans_t *t, unsigned status,
    const char *reason)
{
    tdata_t    *d;
    session_t  *s;

    d = t->data;
    s = edge_session(k, t->slot, t->generation);

    if (s == NULL || s->serial != d->serial || s->closing) {
        trans_done(w, k, t, status);
        return;
    }

    if (status == 503 && d->tries < WORLD_PEERS
        && reg_next(w, k, s, t) == E_OK)
    {
        return;
    }

    s->registering = 0;
    reg_answer(w, s, t, status, reason);
    trans_done(w, k, t, status);
}


static int
reg_next(world_t *w, worker_t *k, session_t *s, ims_trans_t *t)
{
    unsigned           status;
    tdata_t           *d;
    const char        *reason;
    ims_sip_err_t      err;
    ims_sip_msg_t     *m;
    ims_reg_request_t  q;
    ims_reg_verdict_t  v;

    d = t->data;
    m = &w->sip2;

    if (ims_sip_parse(m, t->response->data, t->response->n, IMS_SIP_WS, &err)
        != 0
        || ims_reg_read(&q, m, &reason) != 0)
    {
        return E_ERROR;
    }

    if (world_mutant == MU_RETRY_WITHOUT_LOOK) {
        /* as it was judged the first time */
        w->look.pt = d->looked_pt;
        w->look.delay = d->delay;
        strcpy(w->look.home, WORLD_HOME);
        d->first_write_ms = world_boottime(w) + REG_FIRST_WRITE;
        d->resent = 0;
        d->tries++;
        d->peer ^= 1;

        return link_send_trans(w, k, t, s->sid);
    }

    d->looked_ms = world_boottime(w);
    d->first_write_ms = d->looked_ms + REG_FIRST_WRITE;
    d->resent = 0;

    if (edge_names(w, k, s->ident) != E_OK) {
        return E_ERROR;
    }

    d->looked_pt = w->look.pt;
    reg_judge(w, s, m, &q, s->grant, &v);

    if (v.why != IMS_REG_GO) {
        return E_ERROR;
    }

    reg_peer(w, s, t);

    if (reg_note_peer(w, s, t) != E_OK
        || reg_write(w, s, m, &q, &v, t, &status) != NULL)
    {
        return E_ERROR;
    }

    d->expires = v.expires;
    d->gl = s->gl;
    d->end_ms = v.end ? d->looked_ms + (v.end - w->look.pt)
                      : d->first_write_ms;
    w->count[C_retried]++;

    return link_send_trans(w, k, t, s->sid);
}


static void
reg_answer(world_t *w, session_t *s, ims_trans_t *t, unsigned status,
    const char *reason)
{
    ims_sip_err_t  err;

    if (t->response == NULL
        || ims_sip_parse(&w->sip2, t->response->data, t->response->n,
                         IMS_SIP_WS, &err)
           != 0)
    {
        return;
    }

    edge_reply(w, s, &w->sip2, status, reason, NULL);
}


/* -- what came back (ngx_http_ims_register_answer.c) --------------------- */

static bool
reg_foreign(world_t *w, session_t *s, ims_reg_answer_t *a)
{
    int        rc;
    uint8_t    folded[IMS_POOL_URI_MAX];
    uint64_t   ident;
    unsigned   i;
    ptrdiff_t  n;

    for (i = 0; i < a->nasserted; i++) {

        n = ims_sip_fold(folded, sizeof(folded), a->asserted[i]);

        if (n > 0) {
            rc = ims_pool_by_uri(s->worker->reader,
                                 ims_str_set(folded, (size_t) n), &ident,
                                 NULL);

            if (rc == IMS_POOL_NOTFOUND
                || (rc == IMS_POOL_OK && ident == s->ident))
            {
                continue;
            }
        }

        w->count[C_foreign]++;
        return world_mutant != MU_NO_FOREIGN;
    }

    return false;
}


static void
reg_bind(world_t *w, session_t *s, ims_trans_t *t, ims_reg_answer_t *a,
    uint64_t pt)
{
    bool               aor_done;
    uint64_t           until;
    unsigned           i, n, pos;
    ims_str_t          aor;
    ims_flow_data_t   *old;
    ims_flow_ident_t   ids[REG_IDENTS], id;

    w->data = *ims_flow_peek(&w->flows, s->slot);
    old = &w->view.data;
    *old = w->data;

    aor = reg_text(t->data, 2);
    until = a->found ? pt + 1000 * (uint64_t) a->granted : 0;
    aor_done = false;
    n = 0;

    for (i = 0; i < a->nasserted; i++) {
        memset(&ids[n], 0, sizeof(ims_flow_ident_t));
        ids[n].uri = a->asserted[i];
        ids[n].position = (uint16_t) i;

        if (ims_sip_uri_same(a->asserted[i], aor)) {
            ids[n].until_pt = until;
            ids[n].route = a->route;
            aor_done = true;
        }

        n++;
    }

    if (!aor_done && until) {
        memset(&ids[n], 0, sizeof(ims_flow_ident_t));
        ids[n].uri = aor;
        ids[n].until_pt = until;
        ids[n].route = a->route;
        ids[n].position = a->nasserted ? IMS_FLOW_NOT_ASSERTABLE : 0;
        n++;
    }

    for (pos = 0; ims_flow_identity(old, &pos, &id); /* void */) {

        if (id.until_pt <= pt || ims_sip_uri_same(id.uri, aor)
            || n == REG_IDENTS)
        {
            continue;
        }

        for (i = 0; i < n; i++) {
            if (ims_sip_uri_same(ids[i].uri, id.uri)) {
                ids[i].until_pt = id.until_pt;
                ids[i].route = id.route;
                break;
            }
        }

        if (i == n) {
            if (a->nasserted) {
                id.position = IMS_FLOW_NOT_ASSERTABLE;
            }

            ids[n++] = id;
        }
    }

    (void) ims_flow_set_identities(&w->data, ids, n);

    until = 0;

    for (i = 0; i < n; i++) {
        if (ids[i].until_pt > pt) {
            until = max64(until, ids[i].until_pt);
        }
    }

    edge_registered(w, s, until);

    (void) edge_write(w, s);
    check_bound(w, s);
}


static void
reg_unbind(world_t *w, session_t *s, ims_trans_t *t)
{
    unsigned           n, pos;
    ims_str_t          aor;
    ims_flow_data_t   *old;
    ims_flow_ident_t   ids[REG_IDENTS];

    w->data = *ims_flow_peek(&w->flows, s->slot);
    old = &w->view.data;
    *old = w->data;

    aor = reg_text(t->data, 2);
    n = 0;
    pos = 0;

    while (n < REG_IDENTS && ims_flow_identity(old, &pos, &ids[n])) {

        if (ids[n].tag && ims_sip_uri_same(ids[n].uri, aor)) {
            continue;
        }

        n++;
    }

    (void) ims_flow_set_identities(&w->data, ids, n);
    (void) edge_write(w, s);
}


/* the answer as the client gets it; what it is told is read back from it */

static void
reg_pass(world_t *w, session_t *s, ims_sip_msg_t *m, ims_reg_answer_t *a,
    uint32_t told)
{
    char                number[16];
    ptrdiff_t           n;
    ims_str_t           x, value;
    const char         *reason;
    ims_sip_err_t       err;
    ims_sip_edit_t     *ed;
    ims_sip_values_t    it;
    ims_sip_contact_t   c;

    ed = &w->edit;
    ims_sip_edit_init(ed, m, w->scratch, sizeof(w->scratch));

    if (ims_sip_policy_apply(ed, IMS_SIP_CORE_RESPONSE, &reason) != 0) {
        world_fail(w, "begin", "an answer is refused: %s", reason);
        return;
    }

    ims_sip_edit_drop(ed, m->first[IMS_SIP_H_VIA]);

    if (a && a->found) {
        snprintf(number, sizeof(number), "%u", told);
        x = ims_str_z(number);
        ims_sip_edit_param(ed, a->value, &a->expires, "expires", x);

        if (m->count[IMS_SIP_H_EXPIRES]) {
            ims_sip_edit_value(ed, m->first[IMS_SIP_H_EXPIRES], x);
        }
    }

    n = ims_sip_edit_flatten(ed, w->message, sizeof(w->message));

    if (n < 0) {
        world_fail(w, "begin", "an answer cannot be passed: %s",
                   ed->error ? ed->error : "too long");
        return;
    }

    edge_send(w, s, w->message, (size_t) n);

    if (a == NULL || !a->found) {
        return;
    }

    if (ims_sip_parse(&w->sip2, w->message, (size_t) n, IMS_SIP_WS, &err)
        != 0)
    {
        world_fail(w, "begin", "what the client gets is malformed");
        return;
    }

    ims_sip_values(&it, &w->sip2, IMS_SIP_H_CONTACT);

    while (ims_sip_value_next(&it, &value) == 1) {
        if (ims_sip_contact_parse(value, &c) && c.expires.name.p
            && ims_sip_uri_same(c.addr.uri,
                                ims_flow_contact(ims_flow_peek(&w->flows,
                                                               s->slot)))
            && ims_sip_delta(c.expires.value, &told))
        {
            check_told(w, s, told);
        }
    }
}


static void
reg_ok(world_t *w, worker_t *k, session_t *s, ims_trans_t *t,
    ims_sip_msg_t *m)
{
    int                rc;
    uint8_t            route[IMS_REG_ROUTE_MAX];
    uint32_t           room, told;
    uint64_t           left;
    tdata_t           *d;
    ims_str_t          instance;
    const char        *reason;
    ims_reg_answer_t   a;

    d = t->data;

    if (d->expires == 0) {
        rc = E_OK;

    } else if (world_mutant == MU_NO_SECOND_LOOK) {
        (void) edge_record(w, k, s->ident);
        rc = E_OK;

    } else {
        rc = edge_look(w, s);
    }

    if (rc == E_DECLINED) {
        w->count[C_second_look]++;
        reg_answer(w, s, t, 403, "Lease Ended");
        trans_done(w, k, t, 403);
        return;
    }

    if (rc != E_OK) {
        reg_answer(w, s, t, 503, "Pool Unavailable");
        trans_done(w, k, t, 503);
        return;
    }

    instance = IMS_STR_NULL;

    if (d->instance_len) {
        instance = reg_text(d, 0);
    }

    if (!ims_reg_answer(&a, m, reg_text(d, 1), instance, d->reg_id, route,
                        &reason))
    {
        world_fail(w, "begin", "an answer is of no use: %s", reason);
        return;
    }

    if (reg_foreign(w, s, &a)) {
        s->flow_over = 1;
        reg_answer(w, s, t, 403, "Identity Of Another Holder");
        edge_close(w, s, "identity of another holder");
        trans_done(w, k, t, 403);
        return;
    }

    left = s->end > w->look.pt ? (s->end - w->look.pt) / 1000 : 0;
    room = d->expires == 0 ? UINT32_MAX
           : left > 1 ? (uint32_t) (left - 1) : 0;

    if (a.granted > max32(d->expires, d->core_min)) {
        w->count[C_raised]++;
        site_report(w, k, s->ident, s->lease,
                    (uint64_t) s->slot << 32 | s->generation,
                    w->look.pt + 1000 * (uint64_t) a.granted);
    }

    told = min32(a.granted, room);

    if (world_mutant == MU_TELL_GRANTED) {
        told = a.granted;
    }

    reg_bind(w, s, t, &a, edge_pt(w, k));
    w->count[C_bound]++;

    TRACE(w, "worker %u: session %u: %u s granted, %u told", k->index,
          s->serial, a.granted, told);

    reg_pass(w, s, m, &a, told);
    trans_done(w, k, t, 200);
}


static void
reg_failed_by_core(world_t *w, worker_t *k, session_t *s, ims_trans_t *t,
    ims_sip_msg_t *m)
{
    uint32_t   min;
    uint64_t   pt;
    unsigned   status;
    tdata_t   *d;

    d = t->data;
    status = m->status;

    if (status == 503 && d->tries < WORLD_PEERS
        && reg_next(w, k, s, t) == E_OK)
    {
        return;
    }

    s->registering = 0;

    if (status != 408 && (status < 500 || status >= 600)) {
        reg_unbind(w, s, t);
    }

    switch (status) {

    case 503:
        reg_answer(w, s, t, 500, "Core Unavailable");
        break;

    case 423:
        w->count[C_answered_423]++;

        if (ims_sip_delta(ims_sip_hdr_value(m, IMS_SIP_H_MIN_EXPIRES), &min))
        {
            k->core_min = max32(k->core_min, min32(min, 86400));
            pt = edge_pt(w, k);

            if (s->end > pt && (uint64_t) min + 1 < (s->end - pt) / 1000) {
                reg_pass(w, s, m, NULL, 0);
                break;
            }
        }

        reg_answer(w, s, t, 401, "Lease Ends Too Soon");
        break;

    default:
        reg_pass(w, s, m, NULL, 0);
        break;
    }

    trans_done(w, k, t, status);
}


void
reg_response(world_t *w, worker_t *k, ims_trans_t *t, ims_sip_msg_t *m)
{
    tdata_t    *d;
    session_t  *s;

    d = t->data;

    if (t->state >= IMS_TRANS_COMPLETED) {
        return;
    }

    if (m->status < 200) {
        t->provisional = 1;
        return;
    }

    s = edge_session(k, t->slot, t->generation);

    if (s == NULL || s->serial != d->serial || s->closing) {
        trans_done(w, k, t, m->status);
        return;
    }

    if (m->status < 300) {
        s->registering = 0;
        reg_ok(w, k, s, t, m);

    } else {
        reg_failed_by_core(w, k, s, t, m);
    }
}
