
/*
 * Copyright (C) nginx-ims contributors
 *
 * A call that nobody waits for any more: the edge has answered the client's
 * INVITE itself (the core was silent or away), or the client is gone.  A 2xx
 * that comes all the same gets its ACK and a BYE, so that the far side is not
 * left in a call with nobody.
 */

#include "ngx_http_ims_proxy.h"


static ngx_int_t ngx_http_ims_hangup_send(ims_trans_t *t, ims_sip_msg_t *m,
    const ims_proxy_routes_t *rr, unsigned ours, ims_str_t method,
    uint32_t cseq);


void
ngx_http_ims_hangup(ims_trans_t *t, ims_sip_msg_t *m)
{
    int                     ours;
    ims_sip_err_t           err;
    ims_flow_id_t           id;
    ims_proxy_routes_t      rr;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    id.node = (uint16_t) w->main->node;
    id.slot = t->slot;
    id.generation = t->generation;

    if (t->request == NULL
        || ims_sip_parse(&w->kept, t->request->data, t->request->n,
                         IMS_SIP_WS, &err)
           != 0
        || !ims_proxy_routes(m, IMS_SIP_H_RECORD_ROUTE, &rr))
    {
        return;
    }

    ours = ims_proxy_our_route(&rr, w->main->flow_keys, &id, m->call_id);

    if (ours < 0) {
        /* re-INVITE: its dialog is another matter */
        return;
    }

    ngx_http_ims_count(hangup);

    ngx_log_error(NGX_LOG_INFO, w->log, 0,
                  "flow %uD:%uD: an answer that nobody waits for: ACK and BYE",
                  t->slot, t->generation);

    if (ngx_http_ims_hangup_send(t, m, &rr, (unsigned) ours, IMS_STR("ACK"),
                                 t->cseq)
        == NGX_OK)
    {
        (void) ngx_http_ims_hangup_send(t, m, &rr, (unsigned) ours,
                                        IMS_STR("BYE"), t->cseq + 1);
    }
}


static ngx_int_t
ngx_http_ims_hangup_send(ims_trans_t *t, ims_sip_msg_t *m,
    const ims_proxy_routes_t *rr, unsigned ours, ims_str_t method,
    uint32_t cseq)
{
    u_char                      via[512], branch[32], noise[16], *p;
    uint64_t                    late;
    ptrdiff_t                   n;
    ngx_http_ims_link_t        *link;
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_listen_t      *listen;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;
    d = t->data;
    listen = w->main->listens->elts;

    ngx_http_ims_random(noise, sizeof(noise));
    ims_hex_encode(branch, noise, sizeof(noise));

    p = ngx_snprintf(via, sizeof(via), "SIP/2.0/%V %V;branch="
                     IMS_FLOW_BRANCH_COOKIE "%*s", &listen[0].transport,
                     &listen[0].advertise, sizeof(branch), branch);

    n = ims_proxy_in_dialog(w->hop, w->hop_size, &w->kept, m, rr, ours, method,
                            cseq, ims_str_range(via, p));

    link = n > 0 ? ngx_http_ims_link_get(&d->peer, t->slot) : NULL;

    if (link == NULL) {
        return NGX_ERROR;
    }

    late = ims_boottime_ms() + NGX_HTTP_IMS_TIMER_B;

    return ngx_http_ims_link_send(link, NGX_HTTP_IMS_SEND_ALWAYS, w->hop,
                                  (size_t) n, late);
}
