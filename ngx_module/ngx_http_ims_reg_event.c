
/*
 * Copyright (C) nginx-ims contributors
 *
 * The edge's own subscription to the registration events of a flow's IMPU
 * (ims_reg_event): asked for with each 2xx of a REGISTER, within its dialog as
 * long as that lives.  No byte of the SUBSCRIBE is a client's.
 *
 * A core that refuses, or does not answer, is asked again with the next 2xx and
 * not before.
 */

#include "ngx_http_ims_reg_event.h"


#define NGX_HTTP_IMS_REG_EVENT_MORE  60    /* s, longer than registered */


static ngx_http_ims_reg_event_t *ngx_http_ims_reg_event_open(
    ngx_http_ims_session_t *s);
static ngx_uint_t ngx_http_ims_reg_event_known(ngx_http_ims_session_t *s,
    ngx_http_ims_reg_event_t *re);
static ngx_int_t ngx_http_ims_reg_event_routes(ngx_http_ims_session_t *s,
    ngx_http_ims_reg_event_t *re, ims_proxy_routes_t *routes);
static ngx_int_t ngx_http_ims_reg_event_send(ngx_http_ims_session_t *s,
    ngx_http_ims_reg_event_t *re, const ims_proxy_routes_t *routes);
static ngx_int_t ngx_http_ims_reg_event_write(ngx_http_ims_session_t *s,
    ngx_http_ims_reg_event_t *re, const ims_proxy_routes_t *routes,
    ims_trans_t *t);
static size_t ngx_http_ims_reg_event_contact(ngx_http_ims_session_t *s,
    ngx_http_ims_reg_event_t *re, u_char *buf, size_t size);
static ngx_http_ims_session_t *ngx_http_ims_reg_event_session(ims_trans_t *t);
static void ngx_http_ims_reg_event_dialog(ngx_http_ims_reg_event_t *re,
    ims_sip_msg_t *m);
static void ngx_http_ims_reg_event_refused(ngx_http_ims_session_t *s,
    ngx_uint_t status);


/* a 2xx has bound something on the flow */

void
ngx_http_ims_reg_event_registered(ngx_http_ims_session_t *s)
{
    if (!s->conf->reg_event || !s->registered || s->closing) {
        return;
    }

    if (s->reg_event) {
        s->reg_event->gap = 0;
    }

    ngx_http_ims_reg_event_ask(s);
}


void
ngx_http_ims_reg_event_ask(ngx_http_ims_session_t *s)
{
    ims_proxy_routes_t         routes;
    ngx_http_ims_reg_event_t  *re;

    re = s->reg_event;

    if (re && re->asked) {
        re->again = 1;
        return;
    }

    if (re == NULL || re->renew || re->target_len == 0
        || !ngx_http_ims_reg_event_known(s, re))
    {
        ngx_http_ims_reg_event_forget(s);

        re = ngx_http_ims_reg_event_open(s);
        if (re == NULL) {
            return;
        }

        s->reg_event = re;
    }

    if (ngx_http_ims_reg_event_routes(s, re, &routes) == NGX_OK
        && ngx_http_ims_reg_event_send(s, re, &routes) == NGX_OK)
    {
        re->asked = 1;
        ngx_http_ims_count(reg_event_sent);
        return;
    }

    ngx_http_ims_reg_event_refused(s, 503);
}


/* for the default IMPU of the set; NULL: nobody may be asked for */

static ngx_http_ims_reg_event_t *
ngx_http_ims_reg_event_open(ngx_http_ims_session_t *s)
{
    u_char                     noise[16];
    ims_str_t                  impu;
    ngx_http_ims_reg_event_t  *re;

    impu = ims_proxy_called(ims_flow_peek(s->main->flows, s->slot),
                            IMS_STR_NULL);

    if (impu.n == 0 || impu.n > IMS_SIP_IDENTITY_MAX) {
        return NULL;
    }

    re = ngx_calloc(sizeof(ngx_http_ims_reg_event_t), s->connection->log);
    if (re == NULL) {
        return NULL;
    }

    ngx_http_ims_random(noise, sizeof(noise));
    ims_hex_encode(re->call_id, noise, sizeof(noise));
    ngx_http_ims_random(noise, 8);
    ims_hex_encode(re->tag, noise, 8);

    re->impu_len = (uint16_t) impu.n;
    ngx_memcpy(re->impu, impu.p, impu.n);

    return re;
}


/* is the flow still on the IMPU that it is about */

static ngx_uint_t
ngx_http_ims_reg_event_known(ngx_http_ims_session_t *s,
    ngx_http_ims_reg_event_t *re)
{
    unsigned                pos;
    ims_str_t               impu;
    ims_flow_ident_t        id;
    const ims_flow_data_t  *data;

    data = ims_flow_peek(s->main->flows, s->slot);
    impu = ims_str_set(re->impu, re->impu_len);

    for (pos = 0; ims_flow_identity(data, &pos, &id); /* void */) {
        if (ims_str_eq(id.uri, impu)) {
            return 1;
        }
    }

    return 0;
}


/* within the dialog its route set, else the Service-Route */

static ngx_int_t
ngx_http_ims_reg_event_routes(ngx_http_ims_session_t *s,
    ngx_http_ims_reg_event_t *re, ims_proxy_routes_t *routes)
{
    if (re->target_len == 0) {
        return ngx_http_ims_service_route(s, ims_str_set(re->impu,
                                                         re->impu_len),
                                          routes);
    }

    return ngx_http_ims_route_values(ims_str_set(re->route + re->target_len,
                                                 re->route_len),
                                     routes);
}


static ngx_int_t
ngx_http_ims_reg_event_send(ngx_http_ims_session_t *s,
    ngx_http_ims_reg_event_t *re, const ims_proxy_routes_t *routes)
{
    u_char                      noise[8], branch[16];
    ims_str_t                   next;
    ims_trans_t                *t;
    ims_trans_key_t             key;
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;

    ngx_http_ims_random(noise, sizeof(noise));
    ims_hex_encode(branch, noise, sizeof(noise));

    key.slot = s->slot;
    key.generation = s->generation;
    key.direction = IMS_TRANS_TO_CORE;
    key.branch = ims_str_set(branch, sizeof(branch));
    key.sent_by = IMS_STR("edge");
    key.method = IMS_STR("SUBSCRIBE");

    if (ngx_http_ims_trans_new(&key, &t) != IMS_TRANS_OK) {
        return NGX_ERROR;
    }

    d = ngx_http_ims_trans_data(t, NGX_HTTP_IMS_TRANS_SUBSCRIBE,
                                sizeof(re->call_id));
    if (d == NULL) {
        ims_trans_free(w->trans, t);
        return NGX_ERROR;
    }

    t->created = ims_boottime_ms();
    t->method = IMS_SIP_M_SUBSCRIBE;
    t->cseq = ++re->cseq;

    d->serial = s->serial;
    d->looked = t->created;
    d->first_write = d->looked + NGX_HTTP_IMS_FIRST_WRITE;
    d->delay = ngx_min(s->delay, 2 * NGX_HTTP_IMS_TIMER_B);
    d->end = d->looked + NGX_HTTP_IMS_TIMER_B;
    ngx_memcpy(d->text, re->call_id, sizeof(re->call_id));

    next = routes->n ? routes->uri[0]
                     : ims_str_set(re->route, re->target_len);

    if (ngx_http_ims_next_hop(s, next, &d->peer) != NGX_OK
        || ngx_http_ims_reg_event_write(s, re, routes, t) != NGX_OK
        || ngx_http_ims_trans_send(t) != NGX_OK)
    {
        ngx_http_ims_trans_free(t);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_ims_reg_event_write(ngx_http_ims_session_t *s,
    ngx_http_ims_reg_event_t *re, const ims_proxy_routes_t *routes,
    ims_trans_t *t)
{
    u_char                  branch[IMS_FLOW_BRANCH_MAX], icid[32], noise[16];
    u_char                  contact[512];
    uint64_t                pt;
    ptrdiff_t               n;
    ims_str_t               text;
    ims_flow_id_t           id;
    ims_flow_branch_t       b;
    ims_pool_reader_t      *reader;
    ims_reg_subscribe_t     q;
    ngx_http_ims_listen_t  *listen;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;
    listen = s->main->listens->elts;
    reader = ngx_http_ims_pool_reader(w);
    pt = reader ? ims_pool_pt(reader) : s->until;

    ngx_http_ims_random(noise, sizeof(noise));
    ims_hex_encode(icid, noise, sizeof(noise));

    ngx_memzero(&q, sizeof(ims_reg_subscribe_t));

    q.impu = ims_str_set(re->impu, re->impu_len);
    q.target = ims_str_set(re->route, re->target_len);
    q.to_tag = ims_str_set(re->far, re->far_len);
    q.routes = routes->value;
    q.nroutes = routes->n;
    q.advertise = ngx_http_ims_str(&listen[0].advertise);
    q.transport = ngx_http_ims_str(&listen[0].transport);
    q.contact = ims_str_set(contact,
                            ngx_http_ims_reg_event_contact(s, re, contact,
                                                           sizeof(contact)));
    q.call_id = ims_str_set(re->call_id, sizeof(re->call_id));
    q.from_tag = ims_str_set(re->tag, sizeof(re->tag));
    q.icid = ims_str_set(icid, sizeof(icid));
    q.home = ims_flow_home(ims_flow_peek(s->main->flows, s->slot));
    q.cseq = t->cseq;
    q.expires = NGX_HTTP_IMS_REG_EVENT_MORE
                + (s->until > pt ? (uint32_t) ((s->until - pt) / 1000) : 0);

    id.node = (uint16_t) s->main->node;
    id.slot = s->slot;
    id.generation = s->generation;

    ngx_memzero(&b, sizeof(ims_flow_branch_t));
    b.direction = IMS_TRANS_TO_CORE;
    b.cseq = t->cseq;
    b.call_id = q.call_id;
    b.from_tag = q.from_tag;

    q.branch = ims_str_set(branch, ims_flow_branch_make(s->main->flow_keys,
                                                        &id, &b, branch));

    n = ims_reg_subscribe(w->message, w->message_size, &q);

    if (n < 0) {
        return NGX_ERROR;
    }

    ims_trans_set_branch(w->trans, t, q.branch, IMS_STR("SUBSCRIBE"));

    text = ims_str_set(w->message, (size_t) n);

    return ims_trans_save(w->trans, &t->request, &text, 1) ? NGX_OK
                                                           : NGX_ERROR;
}


/* where NOTIFY shall come to: the slot, by whatever connection */

static size_t
ngx_http_ims_reg_event_contact(ngx_http_ims_session_t *s,
    ngx_http_ims_reg_event_t *re, u_char *buf, size_t size)
{
    size_t                  n;
    u_char                  token[IMS_FLOW_TOKEN_MAX];
    ims_flow_id_t           id;
    ngx_http_ims_listen_t  *listen;

    listen = s->main->listens->elts;

    id.node = (uint16_t) s->main->node;
    id.slot = s->slot;
    id.generation = s->generation;

    n = ims_flow_token_event(s->main->flow_keys, &id,
                             ims_str_set(re->call_id, sizeof(re->call_id)),
                             token);

    /* the parameters of a Route but for ";lr>" */

    return ngx_snprintf(buf, size, "sip:%*s@%V%*s", n, token,
                        &listen[0].advertise,
                        listen[0].route_params.len - (sizeof(";lr>") - 1),
                        listen[0].route_params.data)
           - buf;
}


/* the session that has sent it, if that subscription is the one it has yet */

static ngx_http_ims_session_t *
ngx_http_ims_reg_event_session(ims_trans_t *t)
{
    ngx_http_ims_session_t     *s;
    ngx_http_ims_trans_data_t  *d;

    d = t->data;
    s = ngx_http_ims_flow_session(t->slot, t->generation);

    if (s == NULL || s->serial != d->serial || s->reg_event == NULL
        || ngx_memcmp(s->reg_event->call_id, d->text,
                      NGX_HTTP_IMS_REG_EVENT_ID)
           != 0)
    {
        return NULL;
    }

    return s;
}


void
ngx_http_ims_reg_event_response(ims_trans_t *t, ims_sip_msg_t *m)
{
    ngx_http_ims_session_t    *s;
    ngx_http_ims_reg_event_t  *re;

    if (t->state >= IMS_TRANS_COMPLETED) {
        /* a retransmission */
        return;
    }

    if (m->status < 200) {
        t->provisional = 1;
        return;
    }

    s = ngx_http_ims_reg_event_session(t);

    ngx_http_ims_trans_done(t, m->status);

    if (s == NULL) {
        return;
    }

    if (m->status >= 300) {
        ngx_http_ims_reg_event_refused(s, m->status);
        return;
    }

    re = s->reg_event;
    re->asked = 0;

    if (re->target_len == 0) {
        ngx_log_error(NGX_LOG_INFO, s->connection->log, 0,
                      "ims session %uD: subscribed to its registration events, "
                      "flow %uD:%uD", s->serial, s->slot, s->generation);
    }

    ngx_http_ims_reg_event_dialog(re, m);

    if (re->again && ngx_http_ims_flow_check(s) == NGX_OK) {
        re->again = 0;
        ngx_http_ims_reg_event_ask(s);
    }
}


/*
 * The dialog that a 2xx makes or refreshes.  What does not fit is of no use:
 * the next SUBSCRIBE begins another one.  A NOTIFY may have been here before,
 * and of two notifiers (a fork) the first is heard.
 */

static void
ngx_http_ims_reg_event_dialog(ngx_http_ims_reg_event_t *re, ims_sip_msg_t *m)
{
    size_t              n;
    u_char             *p;
    unsigned            i;
    ims_str_t           value;
    ims_sip_contact_t   contact;
    ims_proxy_routes_t  rr;

    if (m->to_tag.n == 0 || m->to_tag.n > sizeof(re->far)
        || (re->far_len
            && !ims_str_eq(m->to_tag, ims_str_set(re->far, re->far_len)))
        || ims_sip_value_first(m, IMS_SIP_H_CONTACT, &value) != 1
        || !ims_sip_contact_parse(value, &contact) || contact.star
        || contact.addr.uri.n > IMS_REG_CONTACT_MAX)
    {
        re->renew = 1;
        return;
    }

    re->far_len = (uint16_t) m->to_tag.n;
    ngx_memcpy(re->far, m->to_tag.p, m->to_tag.n);

    /* the route set is that of the first 2xx; a target that moves is rare */

    if (re->target_len) {

        if (!ims_str_eq(contact.addr.uri, ims_str_set(re->route,
                                                      re->target_len)))
        {
            re->renew = 1;
        }

        return;
    }

    if (!ims_proxy_routes(m, IMS_SIP_H_RECORD_ROUTE, &rr)) {
        re->renew = 1;
        return;
    }

    n = 0;

    for (i = 0; i < rr.n; i++) {
        n += rr.value[i].n + 1;
    }

    p = n > NGX_HTTP_IMS_REG_EVENT_ROUTE
        ? NULL : ngx_alloc(contact.addr.uri.n + n, ngx_http_ims_worker->log);

    if (p == NULL) {
        re->renew = 1;
        return;
    }

    re->route = p;
    re->target_len = (uint16_t) contact.addr.uri.n;
    p = ngx_cpymem(p, contact.addr.uri.p, contact.addr.uri.n);

    for (i = rr.n; i > 0; i--) {

        if (i < rr.n) {
            *p++ = ',';
        }

        p = ngx_cpymem(p, rr.value[i - 1].p, rr.value[i - 1].n);
    }

    re->route_len = (uint16_t) (p - re->route - re->target_len);
}


void
ngx_http_ims_reg_event_failed(ims_trans_t *t, ngx_uint_t status)
{
    ngx_http_ims_session_t  *s;

    if (t->state >= IMS_TRANS_COMPLETED) {
        return;
    }

    s = ngx_http_ims_reg_event_session(t);

    ngx_http_ims_trans_done(t, status);

    if (s) {
        ngx_http_ims_reg_event_refused(s, status);
    }
}


/*
 * That is normal: the flow goes on.  A dialog that there was may yet bring a
 * NOTIFY.
 */

static void
ngx_http_ims_reg_event_refused(ngx_http_ims_session_t *s, ngx_uint_t status)
{
    ngx_http_ims_count(reg_event_refused);

    ngx_log_error(NGX_LOG_INFO, s->connection->log, 0,
                  "ims session %uD: no registration events from the core: "
                  "SUBSCRIBE %ui", s->serial, status);

    if (s->reg_event->far_len == 0 || status == 481) {
        ngx_http_ims_reg_event_forget(s);
        return;
    }

    s->reg_event->asked = 0;
    s->reg_event->again = 0;
    s->reg_event->renew = 1;
}


void
ngx_http_ims_reg_event_forget(ngx_http_ims_session_t *s)
{
    if (s->reg_event == NULL) {
        return;
    }

    if (s->reg_event->route) {
        ngx_free(s->reg_event->route);
    }

    ngx_free(s->reg_event);
    s->reg_event = NULL;
}


/*
 * The session loses its slot.  Nobody waits for the answer to a SUBSCRIBE then,
 * and no worker stays for it.
 */

void
ngx_http_ims_reg_event_end(ngx_http_ims_session_t *s)
{
    ims_trans_t                *t, *next;
    ngx_http_ims_trans_data_t  *d;

    for (t = ims_trans_flow_first(ngx_http_ims_worker->trans, s->slot,
                                  s->generation);
         t;
         t = next)
    {
        next = ims_trans_flow_next(t);
        d = t->data;

        if (d->procedure == NGX_HTTP_IMS_TRANS_SUBSCRIBE
            && d->serial == s->serial && t->state < IMS_TRANS_COMPLETED)
        {
            ngx_http_ims_trans_done(t, 0);
        }
    }

    ngx_http_ims_reg_event_forget(s);
}
