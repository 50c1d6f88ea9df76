
/*
 * Copyright (C) nginx-ims contributors
 *
 * ims_core_probe: OPTIONS to each peer of each group.  One that does not
 * answer until the next is due has failed as one that took no REGISTER has:
 * max_fails and fail_timeout of its "server" say what follows.
 *
 * Over UDP any worker may get the answer, so the branch names the one that
 * asked; and what may be lost is sent again meanwhile (Timer E).
 */

#include "ngx_http_ims.h"


#define NGX_HTTP_IMS_PROBES        64      /* peers of all groups */
#define NGX_HTTP_IMS_PROBE_BRANCH  "z9hG4bKprobe"
#define NGX_HTTP_IMS_PROBE_COOKIE  (sizeof(NGX_HTTP_IMS_PROBE_BRANCH) - 1)
#define NGX_HTTP_IMS_PROBE_ID      16      /* hex of 64 bits */
#define NGX_HTTP_IMS_PROBE_LEN     (NGX_HTTP_IMS_PROBE_COOKIE                 \
                                    + 2 * NGX_HTTP_IMS_PROBE_ID)
#define NGX_HTTP_IMS_PROBE_AGAIN   100     /* ms between looks */


typedef struct {
    ngx_http_ims_group_t  *group;
    ngx_http_ims_addr_t    addr;
    uint32_t               cseq;
    ngx_msec_t             again_at;
    ngx_msec_t             interval;
    u_char                 branch[NGX_HTTP_IMS_PROBE_LEN];
    unsigned               waiting:1;
    unsigned               failed:1;
} ngx_http_ims_probe_t;


static void ngx_http_ims_probe_timer(ngx_event_t *ev);
static ngx_http_ims_probe_t *ngx_http_ims_probe_get(
    ngx_http_ims_group_t *group, ngx_http_ims_addr_t *addr);
static void ngx_http_ims_probe_result(ngx_http_ims_probe_t *p,
    ngx_uint_t failed, const char *why);
static void ngx_http_ims_probe_new(ngx_http_ims_probe_t *p);
static void ngx_http_ims_probe_send(ngx_http_ims_probe_t *p);
static void ngx_http_ims_probe_again(ngx_event_t *ev);
static ngx_uint_t ngx_http_ims_probe_elsewhere(const ims_sip_msg_t *m);


/* a worker's own, as the state of a group without "zone" is */

static struct {
    ngx_event_t            event;
    ngx_event_t            again;
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

    ev = &ngx_http_ims_probes.again;
    ev->handler = ngx_http_ims_probe_again;
    ev->data = &w->dummy;
    ev->log = w->log;
    ev->cancelable = 1;

    ev = &ngx_http_ims_probes.event;

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

            ngx_http_ims_probe_new(p);
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
ngx_http_ims_probe_new(ngx_http_ims_probe_t *p)
{
    u_char                  noise[8], *last;
    ngx_event_t            *ev;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    ngx_http_ims_random(noise, sizeof(noise));

    last = ngx_cpymem(p->branch, NGX_HTTP_IMS_PROBE_BRANCH,
                      NGX_HTTP_IMS_PROBE_COOKIE);
    last = ngx_sprintf(last, "%016xL", w->id);
    ims_hex_encode(last, noise, sizeof(noise));

    p->cseq++;
    p->waiting = 1;

    ngx_http_ims_probe_send(p);

    if (p->addr.transport != NGX_HTTP_IMS_UDP) {
        return;
    }

    p->interval = NGX_HTTP_IMS_T1;
    p->again_at = ngx_current_msec + p->interval;

    ev = &ngx_http_ims_probes.again;

    if (!ev->timer_set) {
        ngx_add_timer(ev, NGX_HTTP_IMS_PROBE_AGAIN);
    }
}


static void
ngx_http_ims_probe_again(ngx_event_t *ev)
{
    ngx_uint_t             i, n;
    ngx_http_ims_probe_t  *p;

    n = 0;

    for (i = 0; i < ngx_http_ims_probes.n; i++) {
        p = &ngx_http_ims_probes.probes[i];

        if (!p->waiting || p->addr.transport != NGX_HTTP_IMS_UDP) {
            continue;
        }

        n++;

        if ((ngx_msec_int_t) (p->again_at - ngx_current_msec) > 0) {
            continue;
        }

        p->interval = ngx_min(2 * p->interval, NGX_HTTP_IMS_T2);
        p->again_at = ngx_current_msec + p->interval;

        ngx_http_ims_count(udp_resent);
        ngx_http_ims_probe_send(p);
    }

    if (n && !ngx_exiting) {
        ngx_add_timer(ev, NGX_HTTP_IMS_PROBE_AGAIN);
    }
}


static void
ngx_http_ims_probe_send(ngx_http_ims_probe_t *p)
{
    u_char                 *id, text[NGX_SOCKADDR_STRLEN];
    u_char                  msg[1024], *last;
    size_t                  len;
    uint32_t                serial;
    ngx_str_t               name;
    ngx_http_ims_listen_t  *listen;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;
    listen = ngx_http_ims_advertised(w->main, &p->addr, p->addr.transport);

    name.data = text;
    name.len = ngx_sock_ntop(&p->addr.sockaddr.sockaddr, p->addr.socklen, text,
                             NGX_SOCKADDR_STRLEN, 1);

    len = NGX_HTTP_IMS_PROBE_ID;
    id = p->branch + NGX_HTTP_IMS_PROBE_LEN - len;

    last = ngx_snprintf(msg, sizeof(msg),
                        "OPTIONS sip:%V SIP/2.0" CRLF
                        "Via: SIP/2.0/%V %V%V;branch=%*s" CRLF
                        "Max-Forwards: 70" CRLF
                        "From: <sip:%V>;tag=%*s" CRLF
                        "To: <sip:%V>" CRLF
                        "Call-ID: %*s" CRLF
                        "CSeq: %uD OPTIONS" CRLF
                        "Content-Length: 0" CRLF CRLF,
                        &name, &listen->transport, &listen->advertise,
                        &listen->via_params, sizeof(p->branch), p->branch,
                        &listen->advertise, len, id, &name, len, id, p->cseq);

    /* what cannot be sent is not answered: the next turn sees it */

    (void) ngx_http_ims_core_send(&p->addr, p->addr.transport, 0,
                                  NGX_HTTP_IMS_SEND_REQUEST, msg, last - msg,
                                  ims_boottime_ms() + w->main->core_probe,
                                  &serial);
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

        if (ngx_memcmp(m->via.branch.value.p, p->branch,
                       NGX_HTTP_IMS_PROBE_LEN)
            == 0)
        {
            if (!p->waiting) {
                /* the answer to another copy of it */
                return 1;
            }

            /* any answer is a sign of life, but one that asks to be spared */

            if (m->status == 503) {
                ngx_http_ims_probe_result(p, 1, "answers OPTIONS with 503");

            } else if (m->status >= 200) {
                ngx_http_ims_probe_result(p, 0, "answers OPTIONS again");
            }

            return 1;
        }
    }

    return ngx_http_ims_probe_elsewhere(m);
}


/* of another worker, if it is one */

static ngx_uint_t
ngx_http_ims_probe_elsewhere(const ims_sip_msg_t *m)
{
    u_char                  own[NGX_HTTP_IMS_PROBE_COOKIE
                                + NGX_HTTP_IMS_PROBE_ID];
    u_char                  theirs[NGX_HTTP_IMS_PROBE_ID];
    uint32_t                row;
    const uint8_t          *branch;
    ims_flow_dgram_t        head;
    ims_flow_worker_t       other;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;
    branch = m->via.branch.value.p;

    (void) ngx_sprintf(own, NGX_HTTP_IMS_PROBE_BRANCH "%016xL", w->id);

    if (ngx_memcmp(branch, own, NGX_HTTP_IMS_PROBE_COOKIE) != 0
        || ngx_memcmp(branch, own, sizeof(own)) == 0)
    {
        return 0;
    }

    branch += NGX_HTTP_IMS_PROBE_COOKIE;

    for (row = 1; row < IMS_FLOW_ROWS; row++) {

        if (!ims_flow_worker(w->main->flows, row, &other)) {
            continue;
        }

        (void) ngx_sprintf(theirs, "%016xL", other.id);

        if (ngx_memcmp(branch, theirs, sizeof(theirs)) != 0) {
            continue;
        }

        ngx_memzero(&head, sizeof(head));
        head.kind = IMS_FLOW_DGRAM_RESPONSE;
        head.node = (uint16_t) w->main->node;
        head.worker = w->id;

        (void) ngx_http_ims_deliver(other.id, &head, (u_char *) m->raw.p,
                                    m->raw.n);
        return 1;
    }

    return 0;
}
