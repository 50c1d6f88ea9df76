/*
 * Copyright (C) nginx-ims contributors
 *
 * Records and core links: the sequence of ngx_http_ims_transaction.c and
 * _link*.c.  A link takes whole messages; it may stand still (a core that
 * reads nothing), break, or not be connectable.
 */

#include "world.h"


#define TRANS_SILENCE    30000      /* ms */
#define TRANS_ABSORB     32000      /* 64*T1 */
#define LINK_UNREACHABLE 2000
#define FIRST_WRITE      2000


static void link_flush_event(world_t *w, event_t *e);
static void trans_failed(world_t *w, worker_t *k, ims_trans_t *t,
    unsigned status, const char *reason);


/* -- records ------------------------------------------------------------- */

tdata_t *
trans_data(worker_t *k, ims_trans_t *t, unsigned procedure, size_t text)
{
    tdata_t  *d;

    d = calloc(1, sizeof(tdata_t) + text);
    if (d == NULL) {
        abort();
    }

    d->procedure = procedure;
    d->trans = t;
    t->data = d;

    d->next = k->records;

    if (d->next) {
        d->next->prev = d;
    }

    k->records = d;

    return d;
}


static void
trans_forget(worker_t *k, ims_trans_t *t)
{
    tdata_t  *d;

    d = t->data;
    t->data = NULL;

    if (d->next) {
        d->next->prev = d->prev;
    }

    if (d->prev) {
        d->prev->next = d->next;

    } else {
        k->records = d->next;
    }

    free(d);
}


static uint64_t
trans_expired(void *arg, ims_trans_t *t, uint64_t now)
{
    world_t   *w;
    worker_t  *k;

    w = ((void **) arg)[0];
    k = ((void **) arg)[1];

    if (t->state < IMS_TRANS_COMPLETED) {
        w->count[C_silence]++;
        trans_failed(w, k, t, 504, "Core Is Silent");

        return now + TRANS_ABSORB;
    }

    trans_forget(k, t);

    return 0;
}


static void
trans_timer_event(world_t *w, event_t *e)
{
    void      *arg[2];
    worker_t  *k;

    k = e->worker;

    if (k->trans_ms != e->a) {
        return;
    }

    arg[0] = w;
    arg[1] = k;

    k->trans_ms = 0;
    (void) ims_trans_expire(k->trans, world_boottime(w), trans_expired, arg,
                            256);
    trans_timer(w, k);
}


void
trans_timer(world_t *w, worker_t *k)
{
    uint64_t  next, now;

    next = ims_trans_next_deadline(k->trans);

    if (next == 0 || (k->trans_ms && k->trans_ms <= next)) {
        return;
    }

    now = world_boottime(w);
    k->trans_ms = next;
    world_worker_timer(w, k, w->now_us + (next > now ? (next - now) * MS
                                                     : MS),
                       trans_timer_event)->a = next;
}


static void
trans_deadline(world_t *w, worker_t *k, ims_trans_t *t, uint64_t at)
{
    ims_trans_deadline(k->trans, t, at);
    trans_timer(w, k);
}


void
trans_free(world_t *w, worker_t *k, ims_trans_t *t)
{
    (void) w;

    trans_forget(k, t);
    ims_trans_free(k->trans, t);
}


void
trans_done(world_t *w, worker_t *k, ims_trans_t *t, unsigned status)
{
    tdata_t  *d;

    d = t->data;

    t->state = IMS_TRANS_COMPLETED;
    t->status = (uint16_t) status;
    d->pending = 0;

    ims_trans_drop(k->trans, &t->request);
    ims_trans_drop(k->trans, &t->response);

    trans_deadline(w, k, t, world_boottime(w) + TRANS_ABSORB);
}


static void
trans_failed(world_t *w, worker_t *k, ims_trans_t *t, unsigned status,
    const char *reason)
{
    tdata_t  *d;

    d = t->data;

    switch (d->procedure) {

    case TRANS_REGISTER:
        reg_failed(w, k, t, status, reason);
        break;

    case TRANS_DEREGISTER:
        sweeper_failed(w, k, t);
        break;

    default:
        trans_done(w, k, t, status);
        break;
    }
}


int
link_send_trans(world_t *w, worker_t *k, ims_trans_t *t, uint64_t sid)
{
    int        rc;
    cmsg_t    *m;
    tdata_t   *d;

    d = t->data;

    m = calloc(1, sizeof(cmsg_t) + t->request->n);
    if (m == NULL) {
        abort();
    }

    m->peer = d->peer;
    m->worker = k;
    m->life = k->life;
    m->request = true;
    m->own = d->procedure == TRANS_DEREGISTER;
    m->other = d->procedure == TRANS_OTHER;
    m->looked_pt = d->looked_pt;
    m->looked_us = w->now_us - (world_boottime(w) - d->looked_ms) * MS;
    m->delay = d->procedure == TRANS_OTHER ? w->pool_delay : d->delay;
    m->sid = sid ? sid : d->sid;
    m->gl = d->gl;
    m->n = t->request->n;
    memcpy(m->text, t->request->data, t->request->n);

    d->sid = m->sid;

    rc = link_send(w, k, d->peer, m,
                   world_mutant == MU_LATE_WRITE ? 0 : d->first_write_ms);

    if (rc != E_OK) {
        free(m);
        return rc;
    }

    t->link_serial = k->link[d->peer].serial;
    t->state = IMS_TRANS_CALLING;
    d->pending = 1;

    trans_deadline(w, k, t, world_boottime(w) + TRANS_SILENCE);

    return E_OK;
}


/* -- links --------------------------------------------------------------- */

static void
link_drop(link_t *link)
{
    out_t  *out;

    while (link->out) {
        out = link->out;
        link->out = out->next;
        free(out->cmsg);
        free(out);
    }
}


void
link_clear(worker_t *k)
{
    unsigned   i;
    tdata_t   *d;

    for (i = 0; i < WORLD_PEERS; i++) {
        link_drop(&k->link[i]);
    }

    while (k->records) {
        d = k->records;
        k->records = d->next;
        free(d);
    }
}


int
link_send(world_t *w, worker_t *k, unsigned peer, cmsg_t *m,
    uint64_t deadline_ms)
{
    out_t   *out, **last;
    link_t  *link;

    link = &k->link[peer];

    out = calloc(1, sizeof(out_t));
    if (out == NULL) {
        abort();
    }

    m->serial = link->serial;
    out->deadline_ms = deadline_ms;
    out->cmsg = m;

    for (last = &link->out; *last; last = &(*last)->next) { /* void */ }

    *last = out;

    /* posted: the process may be stopped in between */

    if (world_may(w, WORLD_F_STALL) && k->stalled_us <= w->now_us
        && world_chance(w, 500))
    {
        k->stalled_us = w->now_us + world_delay(w, 2 * w->config.delay_us);
        k->ran_us = k->stalled_us;
    }

    world_worker_event(w, k, w->now_us, link_flush_event)->a = peer;

    return E_OK;
}


static void
link_broken(world_t *w, worker_t *k, unsigned peer, uint32_t serial,
    bool unreachable)
{
    unsigned      n, i;
    uint64_t      now, first_write;
    tdata_t      *d, *hit[256];
    ims_trans_t  *t;

    /* answering and sending again change the list: first pick, then act */

    n = 0;

    for (d = k->records; d; d = d->next) {
        if (d->pending && d->peer == peer && n < 256
            && (d->trans->link_serial == serial || unreachable))
        {
            hit[n++] = d;
        }
    }

    for (i = 0; i < n; i++) {
        d = hit[i];
        t = d->trans;

        if (!d->pending) {
            continue;
        }

        if (unreachable) {
            trans_failed(w, k, t, 503, "Core Unreachable");
            continue;
        }

        /* trans_again() */

        if (d->resent) {
            continue;
        }

        now = world_boottime(w);

        first_write = now + FIRST_WRITE;

        if (!ims_trans_again(now, d->looked_ms, d->delay, d->end_ms,
                             &first_write)
            && world_mutant != MU_RESEND_ANY_TIME)
        {
            trans_failed(w, k, t, 503, "Core Link Broken");
            continue;
        }

        d->resent = 1;
        w->count[C_resent]++;

        d->first_write_ms = first_write;

        if (link_send_trans(w, k, t, 0) != E_OK) {
            trans_failed(w, k, t, 503, "Core Link Broken");
        }
    }
}


static void
link_flush_event(world_t *w, event_t *e)
{
    out_t     *out;
    link_t    *link;
    worker_t  *k;
    unsigned   peer;

    k = e->worker;
    peer = (unsigned) e->a;
    link = &k->link[peer];

    if (link->out == NULL) {
        link->trying = false;
        return;
    }

    if (link->down_us > w->now_us) {

        if (!link->trying) {
            link->trying = true;
            link->tried_us = w->now_us;
        }

        if (w->now_us - link->tried_us >= LINK_UNREACHABLE * MS) {
            link->trying = false;
            link_drop(link);
            link->serial++;
            link_broken(w, k, peer, link->serial - 1, true);
            return;
        }

        world_worker_event(w, k, w->now_us + 100 * MS, link_flush_event)->a
            = peer;
        return;
    }

    link->trying = false;

    if (link->stalled_us > w->now_us) {
        world_worker_event(w, k, link->stalled_us, link_flush_event)->a
            = peer;
        return;
    }

    while (link->out) {
        out = link->out;
        link->out = out->next;

        if (out->deadline_ms && out->deadline_ms < world_boottime(w)) {
            w->count[C_late_drop]++;

        } else {
            w->count[C_written]++;
            core_write(w, out->cmsg);
        }

        free(out->cmsg);
        free(out);
    }
}


void
link_stall(world_t *w, worker_t *k, unsigned peer, uint64_t us)
{
    k->link[peer].stalled_us = w->now_us + us;
    TRACE(w, "worker %u: link %u takes nothing for %llu ms", k->index, peer,
          (unsigned long long) us / MS);
}


static void
link_break_event(world_t *w, event_t *e)
{
    link_t    *link;
    worker_t  *k;
    unsigned   peer;

    k = e->worker;
    peer = (unsigned) e->a;
    link = &k->link[peer];

    link->stalled_us = 0;
    link->down_us = w->now_us + e->b;
    link_drop(link);
    link->serial++;
    TRACE(w, "worker %u: link %u breaks, back in %llu ms", k->index, peer,
          (unsigned long long) e->b / MS);
    link_broken(w, k, peer, link->serial - 1, false);
}


void
link_break(world_t *w, worker_t *k, unsigned peer, uint64_t down_us)
{
    event_t  *e;

    e = world_worker_event(w, k, w->now_us, link_break_event);
    e->a = peer;
    e->b = down_us;
}
