/*
 * Copyright (C) nginx-ims contributors
 *
 * The network to the core, and the registrar: what is written is there within
 * the half of D that the operator answers for, once, twice or never; short
 * expiries are raised or refused with 423, granted ones are told shorter than
 * they are.
 */

#include "world.h"


static void core_arrive(world_t *w, event_t *e);


/* -- the network --------------------------------------------------------- */

static void
core_send(world_t *w, const cmsg_t *m, uint64_t max_us, event_pt fn)
{
    event_t  *e;

    e = world_event(w, w->now_us + world_delay(w, max_us), fn);
    e->p = malloc(sizeof(cmsg_t) + m->n);

    if (e->p == NULL) {
        abort();
    }

    memcpy(e->p, m, sizeof(cmsg_t) + m->n);

    if (fn == edge_response) {
        e->worker = m->worker;
        e->life = m->life;
    }
}


void
core_write(world_t *w, const cmsg_t *m)
{
    ims_sip_err_t  err;

    memcpy(w->input, m->text, m->n);

    if (ims_sip_parse(&w->sip2, w->input, m->n, IMS_SIP_STREAM, &err) != 0) {
        world_fail(w, "begin", "what the edge sends is malformed: %s",
                   err.reason);
        return;
    }

    check_core_write(w, m, &w->sip2);

    if (world_may(w, WORLD_F_LOSS) && world_chance(w, 25)) {
        w->count[C_lost]++;
        return;
    }

    core_send(w, m, w->config.delay_us / 2, core_arrive);

    /* a purge is sent once, over a stream */

    if (world_may(w, WORLD_F_DUP) && world_chance(w, 20) && !m->purge) {
        core_send(w, m, w->config.delay_us / 2, core_arrive);
    }
}


/* -- the registrar ------------------------------------------------------- */

int
world_ident_of(const world_t *w, ims_str_t uri, unsigned *impu)
{
    unsigned  i, k;

    for (i = 0; i < w->config.idents; i++) {
        for (k = 0; k < w->identity[i].nimpu; k++) {
            if (ims_sip_uri_same(ims_str_z(w->identity[i].impu[k]), uri)) {
                *impu = k;
                return (int) i;
            }
        }
    }

    return -1;
}


static void
core_text(char *dst, size_t cap, ims_str_t s)
{
    size_t  n;

    n = s.n < cap - 1 ? s.n : cap - 1;

    if (n) {
        memcpy(dst, s.p, n);
    }

    dst[n] = '\0';
}


/* the bindings of that IMPU which a Contact stands for */

static bool
core_matches(const world_t *w, const binding_t *b, unsigned impu,
    const ims_sip_contact_t *c)
{
    ims_str_t  instance;

    if (!b->used || b->until_us <= w->now_us || b->impu != impu) {
        return false;
    }

    instance = c->instance.name.p ? ims_sip_unquoted(c->instance.value)
                                  : IMS_STR_NULL;

    if (w->config.reg_instance && instance.n && b->instance[0]) {
        return ims_str_caseeq(instance, ims_str_z(b->instance));
    }

    return ims_str_eq(c->addr.uri, ims_str_z(b->contact));
}


/* the user part of the topmost Path */

static void
core_path(binding_t *b, const ims_sip_msg_t *m)
{
    ims_str_t       value;
    ims_sip_uri_t   uri;
    ims_sip_addr_t  addr;

    b->path[0] = '\0';

    if (ims_sip_value_first(m, IMS_SIP_H_PATH, &value) > 0
        && ims_sip_addr_parse(value, &addr)
        && ims_sip_uri_parse(addr.uri, &uri))
    {
        core_text(b->path, sizeof(b->path), uri.user);
    }
}


static void
core_remove(world_t *w, unsigned index, binding_t *b, const cmsg_t *m,
    ims_str_t contact)
{
    check_unbinding(w, index, b, m, contact);
    w->count[m->own ? C_dereg_removed : C_unregistered]++;
    b->used = false;
    TRACE(w, "core: %s, <%s> of user %u is unbound by user %u%s",
          w->identity[index].impu[b->impu], b->contact, b->gl->user,
          m->gl->user, m->own ? "'s edge" : "");
}


static unsigned
core_unbind(world_t *w, unsigned index, unsigned impu, const cmsg_t *m,
    const ims_sip_contact_t *c)
{
    unsigned    i;
    binding_t  *b;

    for (i = 0; i < WORLD_BINDINGS; i++) {
        b = &w->identity[index].binding[i];

        if (c->star ? b->used && b->until_us > w->now_us && b->impu == impu
                    : core_matches(w, b, impu, c))
        {
            core_remove(w, index, b, m, c->star ? ims_str_z(b->contact)
                                                : c->addr.uri);
        }
    }

    return 200;
}


static unsigned
core_bind(world_t *w, unsigned index, unsigned impu, const cmsg_t *m,
    const ims_sip_msg_t *sip, const ims_sip_contact_t *c, uint32_t granted)
{
    unsigned    i;
    binding_t  *b, *room;

    room = NULL;

    for (i = 0; i < WORLD_BINDINGS; i++) {
        b = &w->identity[index].binding[i];

        if (core_matches(w, b, impu, c)) {

            if (w->config.reg_cseq && sip->cseq <= b->cseq
                && ims_str_eq(sip->call_id, ims_str_z(b->call_id)))
            {
                return 500;
            }

            room = b;
            break;
        }

        if (room == NULL && (!b->used || b->until_us <= w->now_us)) {
            room = b;
        }
    }

    if (room == NULL) {
        return 500;
    }

    b = room;
    w->count[C_refreshed] += b->used;

    b->used = true;
    b->impu = impu;
    b->cseq = sip->cseq;
    b->gl = m->gl;
    b->lease_us = w->now_us;
    b->until_us = w->now_us + granted * SEC;
    core_text(b->contact, sizeof(b->contact), c->addr.uri);
    core_text(b->instance, sizeof(b->instance),
              c->instance.name.p ? ims_sip_unquoted(c->instance.value)
                                 : IMS_STR(""));
    core_text(b->call_id, sizeof(b->call_id), sip->call_id);
    core_path(b, sip);

    TRACE(w, "core: %s is bound to <%s> of user %u, lease %llx, for %u s",
          w->identity[index].impu[impu], b->contact, m->gl->user,
          (unsigned long long) m->gl->lease, granted);

    check_binding(w, index, b);

    return 200;
}


/* Contact lines, P-Associated-URI and so on of a 200 */

static int
core_extra(world_t *w, unsigned index, unsigned impu, char *p, size_t cap)
{
    int                n;
    unsigned           i, other;
    uint64_t           left;
    const binding_t   *b;
    const identity_t  *id;

    id = &w->identity[index];
    n = 0;

    for (i = 0; i < WORLD_BINDINGS; i++) {
        b = &id->binding[i];

        if (!b->used || b->until_us <= w->now_us || b->impu != impu
            || (size_t) n > cap - 400)
        {
            continue;
        }

        left = (b->until_us - w->now_us) / SEC * w->config.reg_under / 100;

        n += snprintf(p + n, cap - (size_t) n, "Contact: <%s>;expires=%llu",
                      b->contact, (unsigned long long) left);

        if (b->instance[0]) {
            n += snprintf(p + n, cap - (size_t) n,
                          ";+sip.instance=\"%s\";reg-id=1", b->instance);
        }

        n += snprintf(p + n, cap - (size_t) n, "\r\n");
    }

    n += snprintf(p + n, cap - (size_t) n,
                  "Service-Route: <sip:orig@core.example;lr>\r\n");

    if (world_chance(w, 3)) {
        return n;
    }

    for (i = 0; i < id->nimpu; i++) {
        n += snprintf(p + n, cap - (size_t) n, "P-Associated-URI: <%s>\r\n",
                      id->impu[i]);
    }

    if (world_chance(w, 6)) {
        n += snprintf(p + n, cap - (size_t) n,
                      "P-Associated-URI: <tel:+4412345>\r\n");
    }

    if (world_may(w, WORLD_F_FOREIGN) && world_chance(w, 150)) {
        other = (unsigned) world_below(w, w->config.idents);
        n += snprintf(p + n, cap - (size_t) n, "P-Associated-URI: <%s>\r\n",
                      w->identity[other].impu[0]);
    }

    return n;
}


static void
core_reply(world_t *w, const cmsg_t *m, const ims_sip_msg_t *sip,
    unsigned status, const char *extra)
{
    cmsg_t          *a;
    event_pt         fn;
    ptrdiff_t        n;
    ims_sip_reply_t  r;

    a = calloc(1, sizeof(cmsg_t) + WORLD_TEXT);
    if (a == NULL) {
        abort();
    }

    *a = *m;
    a->request = false;

    memset(&r, 0, sizeof(r));
    r.status = status;
    r.reason = "Answer";
    r.to_tag = IMS_STR("core");
    r.extra = ims_str_z(extra);

    n = ims_sip_reply(a->text, WORLD_TEXT, sip, &r);
    fn = edge_response;

    if (n > 0 && !(world_may(w, WORLD_F_LOSS) && world_chance(w, 25))) {
        a->n = (size_t) n;
        core_send(w, a, world_chance(w, 10) ? w->config.delay_us : 2 * SEC,
                  fn);

        if (world_may(w, WORLD_F_DUP) && world_chance(w, 20)) {
            core_send(w, a, w->config.delay_us, fn);
        }
    }

    free(a);
}


static unsigned
core_register(world_t *w, const cmsg_t *m, const ims_sip_msg_t *sip,
    int *index, unsigned *impu)
{
    uint32_t           x;
    ims_str_t          value;
    ims_sip_values_t   it;
    ims_sip_contact_t  c;

    *index = world_ident_of(w, sip->to.uri, impu);
    ims_sip_values(&it, sip, IMS_SIP_H_CONTACT);

    if (*index < 0 || ims_sip_value_next(&it, &value) != 1
        || !ims_sip_contact_parse(value, &c)
        || !ims_sip_delta(ims_sip_hdr_value(sip, IMS_SIP_H_EXPIRES), &x))
    {
        return 400;
    }

    if (!c.star && c.expires.name.p && !ims_sip_delta(c.expires.value, &x)) {
        return 400;
    }

    /* the edge's word is believed: it must be one word */

    if (m->gl->index != (unsigned) *index) {
        world_fail(w, "asked", "user %u's lease is of identity %u, his "
                   "REGISTER for %s", m->gl->user, m->gl->index,
                   w->identity[*index].impi);
        return 403;
    }

    if (x == 0) {
        return core_unbind(w, (unsigned) *index, *impu, m, &c);
    }

    if (x < w->config.reg_min) {

        if (!w->config.reg_raises) {
            return 423;
        }

        w->count[C_raised]++;
        x = w->config.reg_min;
    }

    if (x > w->config.reg_max) {
        x = w->config.reg_max;
    }

    return core_bind(w, (unsigned) *index, *impu, m, sip, &c, x);
}


static void
core_arrive(world_t *w, event_t *e)
{
    int                   index;
    char                  extra[3072];
    cmsg_t               *m;
    unsigned              status, impu;
    ims_sip_err_t         err;
    static ims_sip_msg_t  sip;

    m = e->p;
    memcpy(w->input, m->text, m->n);

    if (ims_sip_parse(&sip, w->input, m->n, IMS_SIP_STREAM, &err) != 0) {
        return;
    }

    extra[0] = '\0';

    if (sip.method_id != IMS_SIP_M_REGISTER) {
        core_reply(w, m, &sip, 200, extra);
        return;
    }

    /* a node that is overloaded, before it does anything or after */

    if (world_may(w, WORLD_F_LOSS) && world_chance(w, 40)) {
        core_reply(w, m, &sip, world_chance(w, 4) ? 500 : 503, extra);
        return;
    }

    status = core_register(w, m, &sip, &index, &impu);

    if (status == 200) {

        if (world_may(w, WORLD_F_LOSS) && world_chance(w, 60)) {
            core_reply(w, m, &sip, 503, extra);
            return;
        }

        core_extra(w, (unsigned) index, impu, extra, sizeof(extra));

    } else if (status == 423) {
        snprintf(extra, sizeof(extra), "Min-Expires: %u\r\n",
                 w->config.reg_min);
    }

    core_reply(w, m, &sip, status, extra);
}


/* -- callers ------------------------------------------------------------- */

/*
 * A call for an identity: it goes where the registrar says at this moment, and
 * may be under way for D.
 */

void
core_call(world_t *w)
{
    event_t     *e;
    tmsg_t      *m;
    unsigned     i, index;
    worker_t    *k;
    binding_t   *b;
    identity_t  *id;

    index = (unsigned) world_below(w, w->config.idents);
    id = &w->identity[index];
    k = &w->worker[world_below(w, w->config.workers)];

    if (!k->alive) {
        return;
    }

    for (i = 0; i < WORLD_BINDINGS; i++) {
        b = &id->binding[i];

        /* some cores call a binding that has just run out */

        if (!b->used || b->path[0] == '\0'
            || b->until_us + w->config.delay_us < w->now_us)
        {
            continue;
        }

        m = calloc(1, sizeof(tmsg_t));
        if (m == NULL) {
            abort();
        }

        m->index = index;
        snprintf(m->token, sizeof(m->token), "%s", b->path);
        w->count[C_terminating]++;

        e = world_worker_event(w, k, w->now_us
                               + world_delay(w, w->config.delay_us),
                               edge_request);
        e->p = m;
    }
}
