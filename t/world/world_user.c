/*
 * Copyright (C) nginx-ims contributors
 *
 * Browsers: a page with a cookie and a token, a WebSocket, and a SIP client
 * that registers, refreshes, and now and then does what it should not.
 */

#include "world.h"


typedef enum {
    USER_REGISTER = 0,
    USER_REFRESH,
    USER_LEAVE,                     /* Expires 0, own Contact */
    USER_LEAVE_STAR,
    USER_LEAVE_BARE,                /* without a token */
    USER_SHORT,
    USER_LONG
} user_register_e;


static void user_register(world_t *w, device_t *d, user_register_e how,
    const token_t *t);


void
user_init(world_t *w)
{
    unsigned   i;
    device_t  *d;

    for (i = 0; i < w->config.devices; i++) {
        d = &w->device[i];
        d->index = i;
        d->user = i % w->config.users;
        d->kiosk = (w->config.features & WORLD_F_KIOSK) && i % 4 == 3;

        /* clients of a library keep their Contact over reconnects */

        snprintf(d->contact, sizeof(d->contact),
                 "sip:u%u@device%u.invalid;transport=ws", i, i);

        if (!(w->config.features & WORLD_F_BARE) || i % 3 != 1) {
            snprintf(d->instance, sizeof(d->instance),
                     "<urn:uuid:00000000-0000-4000-8000-%012u>", i);
        }
    }
}


void
user_keep(world_t *w, device_t *d)
{
    d->old[world_below(w, 3)] = d->token;
}


/* -- the page ------------------------------------------------------------ */

static worker_t *
user_worker(world_t *w)
{
    unsigned   i;
    worker_t  *k;

    for (i = 0; i < 4; i++) {
        k = &w->worker[world_below(w, w->config.workers)];

        if (k->alive) {
            return k;
        }
    }

    return NULL;
}


static void
user_ask(world_t *w, device_t *d, pm_op_e op)
{
    worker_t  *k;

    k = user_worker(w);

    if (k && !d->asking) {
        site_ask(w, k, d, op);
    }
}


static void
user_again(world_t *w, event_t *e)
{
    if (!w->draining) {
        user_step(w, &w->device[e->a]);
    }
}


void
user_answered(world_t *w, device_t *d, int rc, uint32_t retry_s)
{
    uint64_t  at;

    d->asking = false;

    TRACE(w, "user %u, device %u: answer %d", d->user, d->index, rc);

    if (rc == IMS_POOL_OK) {
        /* at once: that is when another's binding could still be there */
        d->wait_us = 0;
        at = w->now_us + (world_chance(w, 2) ? 0 : world_below(w, SEC));
        world_event(w, at, user_again)->a = d->index;
        return;
    }

    if (rc == IMS_POOL_EXHAUSTED || rc == IMS_POOL_HOLD) {
        /* to the second, when the first one has rested */
        d->wait_us = w->now_us + (retry_s < 120 ? retry_s : 120) * SEC
                     - (world_chance(w, 2) && retry_s ? world_below(w, SEC)
                        : 0);
        world_event(w, d->wait_us, user_again)->a = d->index;
        return;
    }

    d->wait_us = w->now_us + world_below(w, 2 * SEC);
}


/* somebody else sits down: the browser, its cookie and its client stay */

static void
user_switch(world_t *w, device_t *d)
{
    if (d->token.there) {
        user_keep(w, d);
    }

    d->token.there = false;
    d->user = (uint32_t) world_below(w, w->config.users);

    if (world_chance(w, 3)) {
        d->sid = 0;
    }

    if (world_chance(w, 2)) {
        user_disconnect(w, d);
    }
}


/* -- the WebSocket ------------------------------------------------------- */

static void
user_send(world_t *w, device_t *d, const char *text, size_t n, glease_t *gl)
{
    conn_t   *c;
    event_t  *e;
    wmsg_t   *m;

    c = edge_conn(w, d->conn);

    if (c == NULL || !c->client_open) {
        return;
    }

    m = malloc(sizeof(wmsg_t) + n);
    if (m == NULL) {
        abort();
    }

    m->conn = c->id;
    m->gl = gl;
    m->n = n;
    memcpy(m->text, text, n);

    c->up_us = (c->up_us > w->now_us ? c->up_us : w->now_us)
               + world_delay(w, world_chance(w, 10) ? w->config.delay_us
                                                    : 50 * MS);

    e = world_worker_event(w, c->worker, c->up_us, edge_client_message);
    e->life = c->life;
    e->p = m;
}


void
user_disconnect(world_t *w, device_t *d)
{
    conn_t   *c;
    event_t  *e;

    c = edge_conn(w, d->conn);
    d->conn = 0;
    d->registered = false;

    if (c == NULL || !c->client_open) {
        return;
    }

    c->client_open = false;
    TRACE(w, "device %u closes connection %llu", d->index,
          (unsigned long long) c->id);

    c->up_us = (c->up_us > w->now_us ? c->up_us : w->now_us)
               + world_delay(w, SEC);

    e = world_worker_event(w, c->worker, c->up_us, edge_client_gone);
    e->life = c->life;
    e->a = c->id;
}


void
user_closed(world_t *w, device_t *d, conn_t *c)
{
    (void) w;

    if (d->conn == c->id) {
        d->conn = 0;
        d->registered = false;
    }
}


static void
user_connect(world_t *w, device_t *d)
{
    conn_t    *c;
    worker_t  *k;

    k = user_worker(w);

    if (k == NULL || k->stalled_us > w->now_us) {
        return;
    }

    c = edge_connect(w, d, k);

    if (c && d->index % 4 == 2) {
        /* a page that is loaded anew: another Contact, the same instance */
        snprintf(d->contact, sizeof(d->contact),
                 "sip:u%u-%u@device%u.invalid;transport=ws", d->index,
                 ++d->nid, d->index);
    }

    if (c) {
        d->conn = c->id;
        d->registered = false;
        d->impu_at = 0;
    }
}


/* -- SIP ----------------------------------------------------------------- */

static size_t
user_expires(world_t *w, user_register_e how, char *header, char *param)
{
    uint32_t  x;

    header[0] = '\0';
    param[0] = '\0';

    switch (how) {

    case USER_LEAVE_STAR:
        return (size_t) sprintf(header, "Expires: 0\r\n");

    case USER_LEAVE:
    case USER_LEAVE_BARE:
        x = 0;
        break;

    case USER_SHORT:
        x = (uint32_t) (1 + world_below(w, w->config.core_min));
        break;

    case USER_LONG:
        x = world_chance(w, 3) ? UINT32_MAX : 86400;
        break;

    default:
        x = (uint32_t) (10 + world_below(w, 700));
        break;
    }

    switch (world_below(w, 4)) {

    case 0:
        if (how == USER_REGISTER) {
            /* nothing said */
            return 0;
        }

        /* fall through */

    case 1:
        return (size_t) sprintf(header, "Expires: %u\r\n", x);

    case 2:
        return (size_t) sprintf(header, "Expires: %u\r\n",
                                (uint32_t) world_below(w, 1000))
               + (size_t) sprintf(param, ";expires=%u", x);

    default:
        return (size_t) sprintf(param, ";expires=%u", x);
    }
}


static void
user_register(world_t *w, device_t *d, user_register_e how, const token_t *t)
{
    int       n;
    char      text[WORLD_TEXT], header[64], param[64], contact[320];
    char      to[128];
    unsigned  at;

    user_expires(w, how, header, param);

    if (how == USER_LEAVE_STAR) {
        strcpy(contact, "*");

    } else {
        n = snprintf(contact, sizeof(contact), "<%s>", d->contact);

        if (d->instance[0]) {
            n += snprintf(contact + n, sizeof(contact) - (size_t) n,
                          ";+sip.instance=\"%s\";reg-id=1", d->instance);
        }

        snprintf(contact + n, sizeof(contact) - (size_t) n, "%s", param);
    }

    at = d->nimpu ? d->impu_at % d->nimpu : 0;
    snprintf(to, sizeof(to), "%s",
             d->nimpu ? d->impu[at] : "sip:nobody@" WORLD_HOME);

    if (world_chance(w, 300)) {
        /* somebody else's */
        snprintf(to, sizeof(to), "%s",
                 w->identity[world_below(w, w->config.idents)].impu[0]);
    }

    n = snprintf(text, sizeof(text),
                 "REGISTER sip:" WORLD_HOME " SIP/2.0\r\n"
                 "Via: SIP/2.0/WSS d%u.invalid;branch=z9hG4bK%ux%u\r\n"
                 "Max-Forwards: 70\r\n"
                 "To: <%s>\r\nFrom: <%s>;tag=t%u\r\n"
                 "Call-ID: c%u-%u\r\nCSeq: %u REGISTER\r\n"
                 "Contact: %s\r\n%s%s%.*s%s"
                 "Content-Length: 0\r\n\r\n",
                 d->index, d->index, ++d->branch, to, to, d->index, d->index,
                 d->nid, ++d->cseq, contact, header,
                 t && t->there ? "Authorization: Bearer " : "",
                 t && t->there ? (int) t->n : 0, t ? t->text : "",
                 t && t->there ? "\r\n" : "");

    TRACE(w, "device %u of user %u: REGISTER %s%s%s, token of user %d",
          d->index, d->user, contact, header[0] ? ", " : "", header,
          t && t->there ? (int) t->gl->user : -1);

    user_send(w, d, text, (size_t) n, t && t->there ? t->gl : NULL);
}


static void
user_message(world_t *w, device_t *d)
{
    int   n;
    char  text[1024];

    d->branch++;

    n = snprintf(text, sizeof(text),
                 "MESSAGE sip:someone@" WORLD_HOME " SIP/2.0\r\n"
                 "Via: SIP/2.0/WSS d%u.invalid;branch=z9hG4bK%ux%u\r\n"
                 "Max-Forwards: 70\r\n"
                 "To: <sip:someone@" WORLD_HOME ">\r\n"
                 "From: <sip:me@" WORLD_HOME ">;tag=m%u\r\n"
                 "Call-ID: m%u-%u\r\nCSeq: %u MESSAGE\r\n"
                 "Content-Length: 0\r\n\r\n",
                 d->index, d->index, d->branch, d->index, d->index,
                 d->branch, d->branch);

    user_send(w, d, text, (size_t) n, NULL);
}


/* what its WebSocket brings: answers */

void
user_got(world_t *w, device_t *d, const ims_sip_msg_t *m)
{
    if (m->request || m->method_id != IMS_SIP_M_REGISTER) {
        return;
    }

    if (m->status == 200) {
        d->registered = true;
        d->impu_at++;
        d->refresh_us = w->now_us + world_below(w, 60 * SEC);
        return;
    }

    if (m->status == 401) {
        /* the page renews */
        d->ends_us = w->now_us;
        return;
    }

    d->wait_us = w->now_us + world_below(w, 3 * SEC);
}


/* -- what a user does next ----------------------------------------------- */

static const token_t *
user_odd_token(world_t *w, device_t *d)
{
    device_t  *o;

    if (!world_may(w, WORLD_F_OLD_TOKEN)) {
        return &d->token;
    }

    switch (world_below(w, 3)) {

    case 0:
        return &d->old[world_below(w, 3)];

    case 1:
        /* stolen, or found in a log */
        o = &w->device[world_below(w, w->config.devices)];
        return world_chance(w, 2) ? &o->token : &o->old[world_below(w, 3)];

    default:
        return NULL;
    }
}


static void
user_odd(world_t *w, device_t *d)
{
    const token_t  *t;

    switch (world_below(w, 12)) {

    case 0:
        user_ask(w, d, PM_RELEASE);
        break;

    case 1:
        d->sid = 0;
        user_ask(w, d, PM_ACQUIRE);
        break;

    case 2:
        user_disconnect(w, d);
        break;

    case 3:
    case 4:
        t = user_odd_token(w, d);
        user_register(w, d, (user_register_e) world_below(w, 7), t);
        break;

    case 5:
        user_register(w, d, USER_LEAVE, &d->token);
        break;

    case 6:
        user_register(w, d, USER_LEAVE_BARE, NULL);
        break;

    case 7:
        user_register(w, d, USER_LEAVE_STAR,
                      world_chance(w, 2) ? &d->token : NULL);
        break;

    case 8:
        user_register(w, d, USER_SHORT, &d->token);
        break;

    case 9:
        user_register(w, d, USER_LONG, &d->token);
        break;

    case 10:
        if (d->kiosk) {
            user_switch(w, d);
        }

        break;

    default:
        user_message(w, d);
        break;
    }
}


void
user_step(world_t *w, device_t *d)
{
    if (world_chance(w, 5)) {
        user_odd(w, d);
        return;
    }

    if (d->asking || d->wait_us > w->now_us) {
        return;
    }

    if (!d->token.there) {
        user_ask(w, d, PM_ACQUIRE);
        return;
    }

    if (d->ends_us < w->now_us + w->pool_ttl * MS / 3 && !world_chance(w, 4))
    {
        user_ask(w, d, world_chance(w, 2) ? PM_RENEW : PM_ACQUIRE);
        return;
    }

    if (d->conn == 0) {
        user_connect(w, d);
    }

    if (d->conn == 0) {
        return;
    }

    if (!d->registered || d->refresh_us < w->now_us
        || d->impu_at < d->nimpu)
    {
        user_register(w, d, world_chance(w, 3) ? USER_LONG : USER_REGISTER,
                      &d->token);
        d->wait_us = w->now_us + world_below(w, 4 * SEC);
        return;
    }

    user_message(w, d);
}


/*
 * The one play with a script, since chance hardly ever comes to it.  A restore
 * without the floor: lease ids come again, and with them the identity, to
 * another user of the same browser with its cookie.  The wall clock is set
 * back to when it happened, so the first user's token is good.  Only the
 * holder differs.
 */

void
user_script(world_t *w)
{
    uint64_t   k;
    device_t  *d;

    k = w->actions;
    d = &w->device[0];

    if (k == 1) {
        world_backup(w);
        world_host_crash(w, false);

    } else if (k > 60 && k < 80 && !d->token.there) {
        user_ask(w, d, PM_ACQUIRE);

    } else if (k == 80) {
        d->old[0] = d->token;
        d->token.there = false;
        d->user = 1;
        world_host_crash(w, true);

    } else if (k == 600 && d->old[0].there) {
        w->wall_ms -= (int64_t) ((w->now_us - d->old[0].gl->over_us) / MS);

    } else if (k > 600 && !d->token.there) {
        user_ask(w, d, PM_ACQUIRE);

    } else if (k > 620 && d->conn == 0) {
        user_connect(w, d);

    } else if (k > 620) {
        user_register(w, d, USER_REGISTER,
                      world_chance(w, 2) ? &d->old[0] : &d->token);
    }
}
