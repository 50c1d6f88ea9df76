
/*
 * Copyright (C) nginx-ims contributors
 *
 * A call that nobody waits for any more: the edge has answered the client's
 * INVITE itself (the core was silent or away), or the client is gone.  A 2xx
 * that comes all the same gets its ACK and a BYE, so that the far side is not
 * left in a call with nobody.
 */

#include "ngx_http_ims_proxy.h"


static uint32_t ngx_http_ims_hangup_fork(ims_str_t tag);
static ngx_int_t ngx_http_ims_hangup_send(ims_trans_t *t, ims_sip_msg_t *m,
    const ims_proxy_routes_t *rr, unsigned ours, ims_str_t method,
    uint32_t cseq);
static void ngx_http_ims_hangup_record(ims_trans_t *t, ims_str_t branch,
    size_t n);


void
ngx_http_ims_hangup(ims_trans_t *t, ims_sip_msg_t *m)
{
    int                         ours;
    ngx_uint_t                  again;
    ims_sip_err_t               err;
    ims_flow_id_t               id;
    ims_proxy_routes_t          rr;
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d;

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

    d = t->data;

    /* over UDP: the same 2xx again, of the same fork */

    again = d->hung_up
            && d->hung_up == ngx_http_ims_hangup_fork(m->to_tag);

    if (!again) {
        ngx_http_ims_count(hangup);
    }

    ngx_log_error(NGX_LOG_INFO, w->log, 0,
                  "flow %uD:%uD: an answer that nobody waits for: ACK and BYE",
                  t->slot, t->generation);

    if (ngx_http_ims_hangup_send(t, m, &rr, (unsigned) ours, IMS_STR("ACK"),
                                 t->cseq)
        == NGX_OK && !again)
    {
        (void) ngx_http_ims_hangup_send(t, m, &rr, (unsigned) ours,
                                        IMS_STR("BYE"), t->cseq + 1);
    }
}


static uint32_t
ngx_http_ims_hangup_fork(ims_str_t tag)
{
    return ngx_crc32_short((u_char *) tag.p, tag.n) | 1;
}


static ngx_int_t
ngx_http_ims_hangup_send(ims_trans_t *t, ims_sip_msg_t *m,
    const ims_proxy_routes_t *rr, unsigned ours, ims_str_t method,
    uint32_t cseq)
{
    u_char                      via[512], branch[32], noise[16], *p;
    uint32_t                    serial;
    uint64_t                    late;
    ims_str_t                   b;
    ngx_int_t                   rc;
    ptrdiff_t                   n;
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_listen_t      *listen;
    ngx_http_ims_trans_data_t  *d;

    w = ngx_http_ims_worker;
    d = t->data;
    listen = ngx_http_ims_advertised(w->main, &d->peer, t->transport);

    ngx_http_ims_random(noise, sizeof(noise));
    ims_hex_encode(branch, noise, sizeof(noise));

    p = ngx_snprintf(via, sizeof(via), "SIP/2.0/%V %V%V;branch="
                     IMS_FLOW_BRANCH_COOKIE "%*s", &listen->transport,
                     &listen->advertise, &listen->via_params, sizeof(branch),
                     branch);

    n = ims_proxy_in_dialog(w->hop, w->hop_size, &w->kept, m, rr, ours, method,
                            cseq, ims_str_range(via, p));
    if (n <= 0) {
        return NGX_ERROR;
    }

    late = ims_boottime_ms() + NGX_HTTP_IMS_TIMER_B;

    rc = ngx_http_ims_core_send(&d->peer, t->transport, t->slot,
                                NGX_HTTP_IMS_SEND_ALWAYS, w->hop, (size_t) n,
                                late, &serial);

    if (t->transport == NGX_HTTP_IMS_UDP && method.p[0] == 'B') {
        d->hung_up = ngx_http_ims_hangup_fork(m->to_tag);

        b = ims_str_range(p - sizeof(branch)
                          - (sizeof(IMS_FLOW_BRANCH_COOKIE) - 1), p);
        ngx_http_ims_hangup_record(t, b, (size_t) n);
    }

    return rc;
}


/*
 * A BYE over UDP is sent until it is answered.  The 2xx comes again until it
 * has its ACK, and each gets one.
 */

static void
ngx_http_ims_hangup_record(ims_trans_t *t, ims_str_t branch, size_t n)
{
    ims_str_t                   text;
    ims_trans_t                *bye;
    ims_trans_key_t             key;
    ngx_http_ims_worker_t      *w;
    ngx_http_ims_trans_data_t  *d, *of;

    w = ngx_http_ims_worker;
    of = t->data;

    key.slot = t->slot;
    key.generation = t->generation;
    key.direction = IMS_TRANS_TO_CORE;
    key.branch = branch;
    key.sent_by = IMS_STR("edge");
    key.method = IMS_STR("BYE");

    if (ngx_http_ims_trans_new(&key, &bye) != IMS_TRANS_OK) {
        return;
    }

    d = ngx_http_ims_trans_data(bye, NGX_HTTP_IMS_TRANS_HANGUP, 0);
    text = ims_str_set(w->hop, n);

    if (d == NULL || !ims_trans_save(w->trans, &bye->request, &text, 1)) {
        ngx_free(d);
        ims_trans_free(w->trans, bye);
        return;
    }

    d->peer = of->peer;
    d->looked = ims_boottime_ms();
    d->delay = 2 * NGX_HTTP_IMS_TIMER_B;
    d->end = d->looked + NGX_HTTP_IMS_TIMER_B;
    bye->transport = t->transport;

    ims_trans_set_branch(w->trans, bye, branch, key.method);
    ngx_http_ims_trans_pending(bye);
    ngx_http_ims_trans_repeat(bye);
    ngx_http_ims_trans_deadline(bye, d->end);
}
