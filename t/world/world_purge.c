/*
 * Copyright (C) nginx-ims contributors
 *
 * The edge's part of a purge (POOL.md 1, line 9): one REGISTER with
 * `Contact: *` for each IMPU, sent once; when each was answered 200 the pool
 * manager is told.
 */

#include "world.h"


void
purge_ask(world_t *w, worker_t *k)
{
    pm_cmd_t  cmd;

    if (!w->config.purge || w->draining || !world_chance(w, 2)) {
        return;
    }

    memset(&cmd, 0, sizeof(cmd));
    cmd.op = PM_PURGE_NEXT;
    cmd.worker = k;
    cmd.life = k->life;

    site_admin(w, &cmd);
}


static void
purge_send(world_t *w, worker_t *k, const pm_cmd_t *c, unsigned i,
    glease_t *gl)
{
    int      n;
    char     text[1024];
    cmsg_t  *m;

    n = snprintf(text, sizeof(text),
                 "REGISTER sip:" WORLD_HOME " SIP/2.0\r\n"
                 "Via: SIP/2.0/TCP edge.example:5060;branch=z9hG4bKp%llx-%u\r\n"
                 "Max-Forwards: 70\r\nFrom: <%s>;tag=purge\r\nTo: <%s>\r\n"
                 "Call-ID: purge-%llx\r\nCSeq: %u REGISTER\r\n"
                 "Contact: *\r\nExpires: 0\r\nContent-Length: 0\r\n\r\n",
                 (unsigned long long) c->a, i, c->impu[i], c->impu[i],
                 (unsigned long long) c->a, i + 1);

    m = calloc(1, sizeof(cmsg_t) + (size_t) n);
    if (m == NULL) {
        abort();
    }

    m->worker = k;
    m->life = k->life;
    m->request = true;
    m->own = true;
    m->purge = c->a;
    m->looked_us = w->now_us;
    m->looked_pt = edge_pt(w, k);
    m->delay = w->pool_delay;
    m->gl = gl;
    m->n = (size_t) n;
    memcpy(m->text, text, (size_t) n);

    (void) link_send(w, k, 0, m, c->b);
}


static void
purge_done(world_t *w, worker_t *k, uint64_t id)
{
    pm_cmd_t  cmd;

    memset(&cmd, 0, sizeof(cmd));
    cmd.op = PM_PURGED;
    cmd.worker = k;
    cmd.life = k->life;
    cmd.a = id;

    site_admin(w, &cmd);
}


void
purge_job(world_t *w, event_t *e)
{
    unsigned         i, at;
    glease_t        *gl;
    worker_t        *k;
    const pm_cmd_t  *c;

    k = e->worker;
    c = e->p;

    if (c->rc != IMS_POOL_OK || world_boottime(w) > c->b
        || k->reader == NULL)
    {
        return;
    }

    gl = check_lease(w, c->r_ident, c->r_lease);

    for (at = 0; at < 8 && k->purge[at].id; at++) { /* void */ }

    if (gl == NULL || at == 8) {
        return;
    }

    if (world_mutant == MU_PURGE_UNPROVEN) {
        purge_done(w, k, c->a);
        return;
    }

    k->purge[at].id = c->a;
    k->purge[at].answer_by = c->c;
    k->purge[at].left = (1u << c->nimpu) - 1;

    for (i = 0; i < c->nimpu; i++) {
        purge_send(w, k, c, i, gl);
    }
}


bool
purge_response(world_t *w, worker_t *k, const cmsg_t *m,
    const ims_sip_msg_t *sip)
{
    unsigned  i;

    for (i = 0; i < 8; i++) {

        if (k->purge[i].id != 0
            && k->purge[i].answer_by < world_boottime(w))
        {
            k->purge[i].id = 0;
        }

        if (k->purge[i].id != m->purge) {
            continue;
        }

        if (sip->status != 200) {
            k->purge[i].id = 0;
            continue;
        }

        k->purge[i].left &= ~(1u << (sip->cseq - 1));

        if (k->purge[i].left == 0) {
            k->purge[i].id = 0;
            purge_done(w, k, m->purge);
        }
    }

    return true;
}
