
/*
 * Copyright (C) nginx-ims contributors
 *
 * ims_core_probe: OPTIONS to each peer of each group.  One that does not
 * answer until the next is due has failed as one that took no REGISTER has:
 * max_fails and fail_timeout of its "server" say what follows.
 */

#include "ngx_http_ims.h"


#define NGX_HTTP_IMS_PROBES        64      /* peers of all groups */
#define NGX_HTTP_IMS_PROBE_BRANCH  "z9hG4bKprobe"
#define NGX_HTTP_IMS_PROBE_LEN     (sizeof(NGX_HTTP_IMS_PROBE_BRANCH) - 1 + 16)


typedef struct {
    ngx_http_ims_group_t  *group;
    ngx_http_ims_addr_t    addr;
    uint32_t               cseq;
    u_char                 branch[NGX_HTTP_IMS_PROBE_LEN];
    unsigned               waiting:1;
    unsigned               failed:1;
} ngx_http_ims_probe_t;


static void ngx_http_ims_probe_timer(ngx_event_t *ev);
static ngx_http_ims_probe_t *ngx_http_ims_probe_get(
    ngx_http_ims_group_t *group, ngx_http_ims_addr_t *addr);
static void ngx_http_ims_probe_result(ngx_http_ims_probe_t *p,
    ngx_uint_t failed, const char *why);
static void ngx_http_ims_probe_send(ngx_http_ims_probe_t *p);


/* a worker's own, as the state of a group without "zone" is */

static struct {
    ngx_event_t            event;
    ngx_uint_t             n;
    ngx_http_ims_probe_t   probes[NGX_HTTP_IMS_PROBES];
} ngx_http_ims_probes;


void
ngx_http_ims_probe_init(ngx_http_ims_worker_t *w)
{
    ngx_event_t  *ev;

    if (w->main->core_probe == 0 || w->main->groups == NULL) {
        return;
    }

    ngx_memzero(&ngx_http_ims_probes, sizeof(ngx_http_ims_probes));

    ev = &ngx_http_ims_probes.event;
    ev->handler = ngx_http_ims_probe_timer;
    ev->data = &w->dummy;
    ev->log = w->log;
    ev->cancelable = 1;

    /* workers do not ask all at once */

    ngx_add_timer(ev, 1 + ngx_random() % w->main->core_probe);
}


static void
ngx_http_ims_probe_timer(ngx_event_t *ev)
{
    ngx_uint_t              i, k, n;
    ngx_http_ims_addr_t     addrs[NGX_HTTP_IMS_PROBES];
    ngx_http_ims_probe_t   *p;
    ngx_http_ims_group_t  **groups;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    if (ngx_exiting) {
        return;
    }

    groups = w->main->groups->elts;

    for (i = 0; i < w->main->groups->nelts; i++) {

        n = ngx_http_ims_peer_list(groups[i], addrs, NGX_HTTP_IMS_PROBES);

        for (k = 0; k < n; k++) {
            p = ngx_http_ims_probe_get(groups[i], &addrs[k]);

            if (p == NULL) {
                break;
            }

            if (p->waiting) {
                ngx_http_ims_probe_result(p, 1, "does not answer OPTIONS");
            }

            ngx_http_ims_probe_send(p);
        }
    }

    ngx_add_timer(ev, w->main->core_probe);
}


static ngx_http_ims_probe_t *
ngx_http_ims_probe_get(ngx_http_ims_group_t *group, ngx_http_ims_addr_t *addr)
{
    ngx_uint_t             i;
    ngx_http_ims_probe_t  *p;

    for (i = 0; i < ngx_http_ims_probes.n; i++) {
        p = &ngx_http_ims_probes.probes[i];

        if (p->group == group
            && ngx_cmp_sockaddr(&p->addr.sockaddr.sockaddr, p->addr.socklen,
                                &addr->sockaddr.sockaddr, addr->socklen, 1)
               == NGX_OK)
        {
            return p;
        }
    }

    if (ngx_http_ims_probes.n == NGX_HTTP_IMS_PROBES) {
        return NULL;
    }

    p = &ngx_http_ims_probes.probes[ngx_http_ims_probes.n++];
    p->group = group;
    p->addr = *addr;

    return p;
}


static void
ngx_http_ims_probe_result(ngx_http_ims_probe_t *p, ngx_uint_t failed,
    const char *why)
{
    u_char      text[NGX_SOCKADDR_STRLEN];
    ngx_str_t   name;
    ngx_uint_t  level;

    p->waiting = 0;

    ngx_http_ims_peer_result(p->group, &p->addr, failed);

    if (failed) {
        ngx_http_ims_count(probe_failed);
    }

    if (p->failed == failed) {
        return;
    }

    p->failed = failed;

    name.data = text;
    name.len = ngx_sock_ntop(&p->addr.sockaddr.sockaddr, p->addr.socklen, text,
                             NGX_SOCKADDR_STRLEN, 1);

    level = failed ? NGX_LOG_ERR : NGX_LOG_NOTICE;

    ngx_log_error(level, ngx_http_ims_worker->log, 0, "core %V %s", &name,
                  why);
}


static void
ngx_http_ims_probe_send(ngx_http_ims_probe_t *p)
{
    u_char                  noise[8], id[16], text[NGX_SOCKADDR_STRLEN];
    u_char                  msg[1024], *last;
    ngx_str_t               name;
    ngx_http_ims_link_t    *link;
    ngx_http_ims_listen_t  *listen;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;
    listen = w->main->listens->elts;

    name.data = text;
    name.len = ngx_sock_ntop(&p->addr.sockaddr.sockaddr, p->addr.socklen, text,
                             NGX_SOCKADDR_STRLEN, 1);

    ngx_http_ims_random(noise, sizeof(noise));
    ims_hex_encode(id, noise, sizeof(noise));

    last = ngx_cpymem(p->branch, NGX_HTTP_IMS_PROBE_BRANCH,
                      sizeof(NGX_HTTP_IMS_PROBE_BRANCH) - 1);
    ngx_memcpy(last, id, sizeof(id));

    last = ngx_snprintf(msg, sizeof(msg),
                        "OPTIONS sip:%V SIP/2.0" CRLF
                        "Via: SIP/2.0/%V %V;branch=%*s" CRLF
                        "Max-Forwards: 70" CRLF
                        "From: <sip:%V>;tag=%*s" CRLF
                        "To: <sip:%V>" CRLF
                        "Call-ID: %*s" CRLF
                        "CSeq: %uD OPTIONS" CRLF
                        "Content-Length: 0" CRLF CRLF,
                        &name, &listen[0].transport, &listen[0].advertise,
                        sizeof(p->branch), p->branch, &listen[0].advertise,
                        sizeof(id), id, &name, sizeof(id), id, ++p->cseq);

    p->waiting = 1;

    /* what cannot be sent is not answered: the next turn sees it */

    link = ngx_http_ims_link_get(&p->addr, 0);

    if (link) {
        (void) ngx_http_ims_link_send(link, NGX_HTTP_IMS_SEND_REQUEST, msg,
                                      last - msg, ims_boottime_ms()
                                                  + w->main->core_probe);
    }
}


ngx_uint_t
ngx_http_ims_probe_response(const ims_sip_msg_t *m)
{
    ngx_uint_t             i;
    ngx_http_ims_probe_t  *p;

    if (m->via.branch.value.n != NGX_HTTP_IMS_PROBE_LEN) {
        return 0;
    }

    for (i = 0; i < ngx_http_ims_probes.n; i++) {
        p = &ngx_http_ims_probes.probes[i];

        if (p->waiting
            && ngx_memcmp(m->via.branch.value.p, p->branch,
                          NGX_HTTP_IMS_PROBE_LEN) == 0)
        {
            /* any answer is a sign of life, but one that asks to be spared */

            if (m->status == 503) {
                ngx_http_ims_probe_result(p, 1, "answers OPTIONS with 503");

            } else if (m->status >= 200) {
                ngx_http_ims_probe_result(p, 0, "answers OPTIONS again");
            }

            return 1;
        }
    }

    return 0;
}
