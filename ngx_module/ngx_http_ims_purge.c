
/*
 * Copyright (C) nginx-ims contributors
 *
 * The edge's part of a purge (POOL.md 1, line 9): identities whose leases
 * ended early are asked for once a second, all that the core has of them is
 * taken away by "Contact: *", and the pool manager is told once that is
 * proven.  Without a proof nothing is said, and the identity rests.
 *
 * A "*" that comes late takes the binding of whoever holds the identity by
 * then.  So each is sent once, over one connection, and dropped unwritten when
 * it is too late: there is no record of it that anything could send again.
 *
 * Who is asked: each node of each group of ims_pass that takes tokens of an
 * issuer that may speak for the pool.  Where nodes share their bindings, as
 * I-CSCFs do, that is more than needed; where they do not, it is what a proof
 * needs.
 *
 * One worker does it, the oldest of the newest: the others are spared the
 * asking.  That two may take turns is no matter, since the pool manager gives
 * an identity to one of them.
 */

#include "ngx_http_ims.h"
#include "reg/ims_purge.h"


#define NGX_HTTP_IMS_PURGE_TICK     1000    /* ms */
#define NGX_HTTP_IMS_PURGE_AGAIN    16000   /* at most, if there is no answer */
#define NGX_HTTP_IMS_PURGE_REFUSED  60000
#define NGX_HTTP_IMS_PURGE_MAX      64      /* identities in flight */

#define NGX_HTTP_IMS_PURGE_BRANCH   "z9hG4bKpurge"
#define NGX_HTTP_IMS_PURGE_ID       32      /* hex digits of branch, Call-ID */


/* one "*" on its way: an IMPU at a node */

typedef struct {
    ngx_http_ims_addr_t          addr;
    uint32_t                     serial;        /* of the link it went to */
    unsigned                     answered:1;
    u_char                       id[NGX_HTTP_IMS_PURGE_ID];
} ngx_http_ims_purge_ask_t;


/* an identity at work; malloc'd */

typedef struct {
    ngx_queue_t                  queue;
    ngx_http_ims_core_t         *core;
    uint64_t                     answer_by;     /* BOOTTIME ms */
    ngx_uint_t                   n;
    ngx_uint_t                   left;          /* not answered */
    u_char                       id[IMS_PURGE_ID];
    u_char                       lease[IMS_POOL_LEASE_TEXT];
    ngx_http_ims_purge_ask_t     asks[];
} ngx_http_ims_purge_t;


static void ngx_http_ims_purge_timer(ngx_event_t *ev);
static ngx_uint_t ngx_http_ims_purge_mine(ngx_http_ims_worker_t *w);
static ngx_uint_t ngx_http_ims_purge_before(ims_flow_worker_t *one,
    ims_flow_worker_t *two);
static void ngx_http_ims_purge_ask(ngx_http_ims_worker_t *w,
    ngx_http_ims_core_t *core);
static void ngx_http_ims_purge_given(void *data,
    const ngx_http_ims_pool_answer_t *answer);
static void ngx_http_ims_purge_no_answer(
    const ngx_http_ims_pool_answer_t *answer);

static void ngx_http_ims_purge_rows(ngx_http_ims_core_t *core,
    const ims_reply_t *reply);
static const char *ngx_http_ims_purge_begin(ngx_http_ims_core_t *core,
    ims_purge_job_t *job, ngx_uint_t newer, u_char *lease);
static ngx_http_ims_purge_t *ngx_http_ims_purge_new(ngx_http_ims_core_t *core,
    ims_purge_job_t *job, u_char *lease);
static const char *ngx_http_ims_purge_look(ngx_http_ims_worker_t *w,
    ims_purge_job_t *job);
static const char *ngx_http_ims_purge_send(ngx_http_ims_purge_t *p,
    uint64_t deadline);
static ngx_int_t ngx_http_ims_purge_write(ngx_http_ims_purge_t *p,
    ngx_http_ims_purge_ask_t *a, ims_str_t impu, uint64_t deadline);

static void ngx_http_ims_purge_answered(ngx_http_ims_purge_t *p,
    ngx_http_ims_purge_ask_t *a, uint32_t serial, const ims_sip_msg_t *m);
static void ngx_http_ims_purge_proven(ngx_http_ims_purge_t *p);
static void ngx_http_ims_purge_told(void *data,
    const ngx_http_ims_pool_answer_t *answer);
static void ngx_http_ims_purge_failed(ngx_http_ims_purge_t *p,
    const char *why, ngx_uint_t status);
static void ngx_http_ims_purge_free(ngx_http_ims_purge_t *p);


/* a worker's own */

static struct {
    ngx_event_t                  event;
    ngx_queue_t                  queue;         /* at the core */
    ngx_queue_t                  told;          /* PURGED was said */
    ngx_uint_t                   n;             /* of both */
    ngx_uint_t                   asked;         /* PURGE NEXT unanswered */
    ngx_msec_t                   ask_at;
    ngx_msec_t                   backoff;
    unsigned                     refused:1;     /* and the log says so */
} ngx_http_ims_purges;


void
ngx_http_ims_purge_init(ngx_http_ims_worker_t *w)
{
    ngx_event_t  *ev;

    ngx_memzero(&ngx_http_ims_purges, sizeof(ngx_http_ims_purges));

    ngx_queue_init(&ngx_http_ims_purges.queue);
    ngx_queue_init(&ngx_http_ims_purges.told);

    if (w->main->cores == NULL || w->main->counters == NULL) {
        return;
    }

    ngx_http_ims_purges.backoff = NGX_HTTP_IMS_PURGE_TICK;
    ngx_http_ims_purges.ask_at = ngx_current_msec;

    ev = &ngx_http_ims_purges.event;
    ev->handler = ngx_http_ims_purge_timer;
    ev->data = &w->dummy;
    ev->log = w->log;
    ev->cancelable = 1;

    ngx_add_timer(ev, NGX_HTTP_IMS_PURGE_TICK);
}


void
ngx_http_ims_purge_exit(ngx_http_ims_worker_t *w)
{
    ngx_queue_t  *q;

    if (ngx_http_ims_purges.queue.next == NULL) {
        return;
    }

    ngx_queue_add(&ngx_http_ims_purges.queue, &ngx_http_ims_purges.told);

    while (!ngx_queue_empty(&ngx_http_ims_purges.queue)) {
        q = ngx_queue_head(&ngx_http_ims_purges.queue);
        ngx_queue_remove(q);
        ngx_free(ngx_queue_data(q, ngx_http_ims_purge_t, queue));
    }
}


static void
ngx_http_ims_purge_timer(ngx_event_t *ev)
{
    uint64_t                now;
    ngx_uint_t              i;
    ngx_queue_t            *q, *next;
    ngx_http_ims_core_t    *core;
    ngx_http_ims_purge_t   *p;
    ngx_http_ims_worker_t  *w;

    if (ngx_exiting) {
        /* what is in flight is finished if this worker stays for it */
        return;
    }

    w = ngx_http_ims_worker;
    now = ims_boottime_ms();

    for (q = ngx_queue_head(&ngx_http_ims_purges.queue);
         q != ngx_queue_sentinel(&ngx_http_ims_purges.queue);
         q = next)
    {
        next = ngx_queue_next(q);
        p = ngx_queue_data(q, ngx_http_ims_purge_t, queue);

        if (now >= p->answer_by) {
            ngx_http_ims_purge_failed(p, "no answer of the core in time", 0);
        }
    }

    ngx_http_ims_core_watch(w);

    if (w->main->purge
        && w->main->pool_socket.len && w->main->edge_secret.len
        && ngx_http_ims_purges.asked == 0 && ngx_http_ims_purge_mine(w)
        && (ngx_msec_int_t) (ngx_current_msec - ngx_http_ims_purges.ask_at)
           >= 0)
    {
        core = w->main->cores->elts;

        for (i = 0; i < w->main->cores->nelts; i++) {
            ngx_http_ims_purge_ask(w, &core[i]);
        }
    }

    ngx_add_timer(ev, NGX_HTTP_IMS_PURGE_TICK);
}


/*
 * The oldest worker of the newest configuration: those of an older one finish,
 * or are told so at any moment.
 */

static ngx_uint_t
ngx_http_ims_purge_mine(ngx_http_ims_worker_t *w)
{
    uint32_t           row;
    ims_flow_worker_t  other;

    for (row = 1; row < IMS_FLOW_ROWS; row++) {

        if (!ims_flow_worker(w->main->flows, row, &other)
            || other.id == w->id || other.exiting)
        {
            continue;
        }

        if (ngx_http_ims_purge_before(&other, &w->me)
            && ngx_http_ims_worker_alive(other.id))
        {
            return 0;
        }
    }

    return 1;
}


static ngx_uint_t
ngx_http_ims_purge_before(ims_flow_worker_t *one, ims_flow_worker_t *two)
{
    if (one->master == two->master && one->cycle != two->cycle) {
        return one->cycle > two->cycle;
    }

    return one->start_ms < two->start_ms
           || (one->start_ms == two->start_ms && one->row < two->row);
}


/* -- what is to be purged -------------------------------------------------- */

static void
ngx_http_ims_purge_ask(ngx_http_ims_worker_t *w, ngx_http_ims_core_t *core)
{
    u_char      max[NGX_INT_T_LEN];
    ims_str_t   args[4];
    ngx_uint_t  room;

    room = NGX_HTTP_IMS_PURGE_MAX;

    if (ngx_http_ims_purges.n + (ngx_http_ims_purges.asked + 1)
                                * IMS_PURGE_JOBS > room)
    {
        return;
    }

    args[0] = IMS_STR("PURGE");
    args[1] = IMS_STR("NEXT");
    args[2] = ngx_http_ims_str(&core->pool);
    args[3] = ims_str_range(max, ngx_sprintf(max, "%ui",
                                             (ngx_uint_t) IMS_PURGE_JOBS));

    if (ngx_http_ims_pool_edge(w, args, 4, ngx_http_ims_purge_given, core)
        == NULL)
    {
        ngx_http_ims_purge_no_answer(NULL);
        return;
    }

    ngx_http_ims_purges.asked++;
}


static void
ngx_http_ims_purge_given(void *data, const ngx_http_ims_pool_answer_t *answer)
{
    ngx_http_ims_core_t *core = data;

    ngx_http_ims_purges.asked--;

    if (answer->code != NGX_HTTP_IMS_POOL_OK || answer->reply->type != '*') {
        ngx_http_ims_purge_no_answer(answer);
        return;
    }

    ngx_http_ims_purges.refused = 0;
    ngx_http_ims_purges.backoff = NGX_HTTP_IMS_PURGE_TICK;

    if (answer->reply->nrows == 0) {
        return;
    }

    ngx_http_ims_purge_rows(core, answer->reply);

    if (answer->reply->nrows == IMS_PURGE_JOBS && !ngx_exiting) {
        /* there may be more */
        ngx_http_ims_purge_ask(ngx_http_ims_worker, core);
    }
}


/* the client logs an outage; a refusal has one line here */

static void
ngx_http_ims_purge_no_answer(const ngx_http_ims_pool_answer_t *answer)
{
    u_char      text[NGX_HTTP_IMS_LOG_TEXT];
    ngx_str_t   line;
    ngx_msec_t  after;

    after = ngx_http_ims_purges.backoff;
    ngx_http_ims_purges.backoff = ngx_min(2 * after,
                                          NGX_HTTP_IMS_PURGE_AGAIN);

    if (answer && answer->code == NGX_HTTP_IMS_POOL_REFUSED) {
        after = NGX_HTTP_IMS_PURGE_REFUSED;

        if (!ngx_http_ims_purges.refused) {
            line.data = (u_char *) answer->error.p;
            line.len = answer->error.n;

            ngx_log_error(NGX_LOG_WARN, ngx_http_ims_worker->log, 0,
                          "pool manager refused PURGE NEXT: \"%s\"",
                          ngx_http_ims_log_text(text, &line));

            ngx_http_ims_purges.refused = 1;
        }
    }

    ngx_http_ims_purges.ask_at = ngx_current_msec + after;
}


static void
ngx_http_ims_purge_rows(ngx_http_ims_core_t *core, const ims_reply_t *reply)
{
    u_char                  lease[IMS_POOL_LEASE_TEXT];
    unsigned                i, n;
    const char             *why;
    ims_flow_lease_t        leases[IMS_REPLY_ROWS];
    ims_purge_job_t         jobs[IMS_REPLY_ROWS];
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    for (i = 0, n = 0; i < reply->nrows; i++) {

        if (!ims_purge_read(&jobs[n], reply, i)) {
            ngx_http_ims_count(purge_skipped);
            ngx_log_error(NGX_LOG_ERR, w->log, 0,
                          "pool manager gave out a purge that cannot be "
                          "understood");
            continue;
        }

        leases[n].ident = jobs[n].ident;
        leases[n].lease = jobs[n].lease;
        n++;
    }

    ims_flow_newer(w->main->flows, leases, n);

    for (i = 0; i < n; i++) {
        why = ngx_http_ims_purge_begin(core, &jobs[i], leases[i].newer, lease);

        if (why) {
            ngx_http_ims_count(purge_skipped);
            ngx_log_error(NGX_LOG_INFO, w->log, 0,
                          "pool %V lease %*s is not purged: %s", &core->pool,
                          sizeof(lease), lease, why);
        }
    }
}


/* NULL: it is on its way, or was given up and counted; else why it is not */

static const char *
ngx_http_ims_purge_begin(ngx_http_ims_core_t *core, ims_purge_job_t *job,
    ngx_uint_t newer, u_char *lease)
{
    uint64_t                looked;
    const char             *why;
    ngx_http_ims_purge_t   *p;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;
    looked = ims_boottime_ms();

    ims_pool_lease_format(lease, job->ident, job->lease);

    if (newer) {
        return "a flow has a later lease";
    }

    if (ngx_exiting) {
        return "the worker leaves";
    }

    why = ngx_http_ims_purge_look(w, job);
    if (why) {
        return why;
    }

    p = ngx_http_ims_purge_new(core, job, lease);

    if (p == NULL) {
        return "its core has no node, or too many";
    }

    ngx_http_ims_count(purge_begun);

    ngx_log_error(NGX_LOG_INFO, w->log, 0,
                  "pool %V lease %*s is purged at the core: %ui messages",
                  &core->pool, (size_t) IMS_POOL_LEASE_TEXT, lease, p->n);

    why = ngx_http_ims_purge_send(p, ngx_min(job->send_by, looked
                                             + NGX_HTTP_IMS_FIRST_WRITE));
    if (why) {
        ngx_http_ims_purge_failed(p, why, 0);
    }

    return NULL;
}


static ngx_http_ims_purge_t *
ngx_http_ims_purge_new(ngx_http_ims_core_t *core, ims_purge_job_t *job,
    u_char *lease)
{
    ngx_uint_t             i, n, npeers;
    ngx_http_ims_addr_t    peers[NGX_HTTP_IMS_CORE_PEERS];
    ngx_http_ims_purge_t  *p;

    npeers = ngx_http_ims_core_peers(core, peers);

    if (npeers == 0) {
        return NULL;
    }

    n = npeers * job->nimpu;

    p = ngx_calloc(sizeof(ngx_http_ims_purge_t)
                   + n * sizeof(ngx_http_ims_purge_ask_t),
                   ngx_http_ims_worker->log);
    if (p == NULL) {
        return NULL;
    }

    p->core = core;
    p->answer_by = job->answer_by;
    p->n = n;
    p->left = n;
    ngx_memcpy(p->id, job->id.p, IMS_PURGE_ID);
    ngx_memcpy(p->lease, lease, IMS_POOL_LEASE_TEXT);

    for (i = 0; i < n; i++) {
        p->asks[i].addr = peers[i % npeers];
    }

    ngx_queue_insert_tail(&ngx_http_ims_purges.queue, &p->queue);
    ngx_http_ims_purges.n++;

    return p;
}


/* into w->look and w->names */

static const char *
ngx_http_ims_purge_look(ngx_http_ims_worker_t *w, ims_purge_job_t *job)
{
    int                 rc;
    uint64_t            ident;
    ims_purge_why_e     why;
    ims_pool_reader_t  *reader;

    if (ngx_http_ims_pool_feed(w) != NGX_OK) {
        return "the pool's database cannot be read";
    }

    reader = ngx_http_ims_pool_reader(w);
    ident = job->ident;
    rc = IMS_POOL_OK;

    if (ident == 0) {
        rc = ims_pool_by_impi(reader, job->impi, &ident);
    }

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_look_names(reader, ident, &w->look, &w->names);
    }

    if (rc != IMS_POOL_OK) {
        return rc == IMS_POOL_NOTFOUND ? "there is no such identity"
                                       : "the pool's database cannot be read";
    }

    why = ims_purge_judge(job, &w->look, &w->names, ims_boottime_ms(),
                          ngx_http_ims_core_since(w));

    return why == IMS_PURGE_GO ? NULL : ims_purge_why_text(why);
}


/* -- to the core ----------------------------------------------------------- */

static const char *
ngx_http_ims_purge_send(ngx_http_ims_purge_t *p, uint64_t deadline)
{
    ngx_uint_t          i, npeers;
    ims_pool_names_t   *names;

    names = &ngx_http_ims_worker->names;
    npeers = p->n / names->nimpu;

    for (i = 0; i < p->n; i++) {
        if (ngx_http_ims_purge_write(p, &p->asks[i],
                                     names->impu[i / npeers].given, deadline)
            != NGX_OK)
        {
            return "it could not be sent";
        }
    }

    return NULL;
}


static ngx_int_t
ngx_http_ims_purge_write(ngx_http_ims_purge_t *p, ngx_http_ims_purge_ask_t *a,
    ims_str_t impu, uint64_t deadline)
{
    u_char                  branch[sizeof(NGX_HTTP_IMS_PURGE_BRANCH) - 1
                                   + NGX_HTTP_IMS_PURGE_ID];
    u_char                  noise[NGX_HTTP_IMS_PURGE_ID / 2], tag[16];
    u_char                  icid[2 * sizeof(noise)], *last;
    ptrdiff_t               n;
    ngx_http_ims_link_t    *link;
    ims_reg_deregister_t    d;
    ngx_http_ims_listen_t  *listen;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;
    listen = w->main->listens->elts;

    ngx_http_ims_random(noise, sizeof(noise));
    ims_hex_encode(a->id, noise, sizeof(noise));
    ngx_http_ims_random(noise, sizeof(noise));
    ims_hex_encode(icid, noise, sizeof(noise));
    ngx_http_ims_random(noise, 8);
    ims_hex_encode(tag, noise, 8);

    last = ngx_cpymem(branch, NGX_HTTP_IMS_PURGE_BRANCH,
                      sizeof(NGX_HTTP_IMS_PURGE_BRANCH) - 1);
    ngx_memcpy(last, a->id, NGX_HTTP_IMS_PURGE_ID);

    ngx_memzero(&d, sizeof(d));

    d.call_id = ims_str_set(a->id, sizeof(a->id));
    d.from_tag = ims_str_set(tag, sizeof(tag));
    d.cseq = 1;
    d.impu = impu;
    d.f.home = ims_str_z(w->look.home);
    d.f.impi = w->names.impi;
    d.f.advertise = ngx_http_ims_str(&listen[0].advertise);
    d.f.transport = ngx_http_ims_str(&listen[0].transport);
    d.f.branch = ims_str_set(branch, sizeof(branch));
    d.f.icid = ims_str_set(icid, sizeof(icid));
    d.f.visited = ngx_http_ims_str(&p->core->conf->visited_network);

    if (p->core->conf->authorization_entity) {
        d.f.entity = p->core->issuer->token.iss;
    }

    n = ims_reg_deregister(w->message, w->message_size, &d);
    if (n < 0) {
        return NGX_ERROR;
    }

    link = ngx_http_ims_link_get(&a->addr, 0);

    if (link == NULL
        || ngx_http_ims_link_send(link, NGX_HTTP_IMS_SEND_REQUEST, w->message,
                                  (size_t) n, deadline)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    a->serial = ngx_http_ims_link_serial(link);

    return NGX_OK;
}


/*
 * That connection has broken: it may have taken the message with it, and what
 * answer there was.  Sent again it would be a second, later one.
 */

void
ngx_http_ims_purge_broken(uint32_t serial)
{
    ngx_uint_t             i;
    ngx_queue_t           *q, *next;
    ngx_http_ims_purge_t  *p;

    for (q = ngx_queue_head(&ngx_http_ims_purges.queue);
         q != ngx_queue_sentinel(&ngx_http_ims_purges.queue);
         q = next)
    {
        next = ngx_queue_next(q);
        p = ngx_queue_data(q, ngx_http_ims_purge_t, queue);

        for (i = 0; i < p->n; i++) {
            if (!p->asks[i].answered && p->asks[i].serial == serial) {
                ngx_http_ims_purge_failed(p, "the connection broke", 0);
                break;
            }
        }
    }
}


/* -- and back -------------------------------------------------------------- */

ngx_uint_t
ngx_http_ims_purge_response(uint32_t serial, const ims_sip_msg_t *m)
{
    u_char                *id;
    ngx_uint_t             i;
    ims_str_t              branch;
    ngx_queue_t           *q;
    ngx_http_ims_purge_t  *p;

    branch = m->via.branch.value;

    if (branch.n != sizeof(NGX_HTTP_IMS_PURGE_BRANCH) - 1
                    + NGX_HTTP_IMS_PURGE_ID
        || ngx_memcmp(branch.p, NGX_HTTP_IMS_PURGE_BRANCH,
                      sizeof(NGX_HTTP_IMS_PURGE_BRANCH) - 1)
           != 0)
    {
        return 0;
    }

    id = (u_char *) branch.p + sizeof(NGX_HTTP_IMS_PURGE_BRANCH) - 1;

    for (q = ngx_queue_head(&ngx_http_ims_purges.queue);
         q != ngx_queue_sentinel(&ngx_http_ims_purges.queue);
         q = ngx_queue_next(q))
    {
        p = ngx_queue_data(q, ngx_http_ims_purge_t, queue);

        for (i = 0; i < p->n; i++) {
            if (ngx_memcmp(p->asks[i].id, id, NGX_HTTP_IMS_PURGE_ID) == 0) {
                ngx_http_ims_purge_answered(p, &p->asks[i], serial, m);
                return 1;
            }
        }
    }

    /* of one that is given up, or done with */

    ngx_http_ims_count(response_unmatched);

    return 1;
}


static void
ngx_http_ims_purge_answered(ngx_http_ims_purge_t *p,
    ngx_http_ims_purge_ask_t *a, uint32_t serial, const ims_sip_msg_t *m)
{
    const char  *doubt;

    if (m->status < 200 || a->answered) {
        return;
    }

    if (ims_boottime_ms() >= p->answer_by) {
        ngx_http_ims_purge_failed(p, "no answer of the core in time", 0);
        return;
    }

    if (serial != a->serial) {
        ngx_http_ims_purge_failed(p, "the answer came by another connection",
                                  0);
        return;
    }

    if (m->method_id != IMS_SIP_M_REGISTER || m->cseq != 1
        || !ims_str_eq(m->call_id, ims_str_set(a->id, sizeof(a->id))))
    {
        ngx_http_ims_purge_failed(p, "the answer is another request's", 0);
        return;
    }

    doubt = ims_purge_doubt(m);

    if (doubt) {
        ngx_http_ims_purge_failed(p, doubt, m->status);
        return;
    }

    a->answered = 1;

    if (--p->left == 0) {
        ngx_http_ims_purge_proven(p);
    }
}


static void
ngx_http_ims_purge_proven(ngx_http_ims_purge_t *p)
{
    ims_str_t  args[2];

    args[0] = IMS_STR("PURGED");
    args[1] = ims_str_set(p->id, sizeof(p->id));

    if (ngx_http_ims_pool_edge(ngx_http_ims_worker, args, 2,
                               ngx_http_ims_purge_told, p)
        == NULL)
    {
        ngx_http_ims_purge_failed(p, "the pool manager is away", 0);
        return;
    }

    ngx_queue_remove(&p->queue);
    ngx_queue_insert_tail(&ngx_http_ims_purges.told, &p->queue);
}


static void
ngx_http_ims_purge_told(void *data, const ngx_http_ims_pool_answer_t *answer)
{
    ngx_http_ims_purge_t *p = data;

    if (answer->code != NGX_HTTP_IMS_POOL_OK || answer->reply->type != '+') {
        ngx_http_ims_purge_failed(p, "the pool manager did not take it", 0);
        return;
    }

    ngx_http_ims_count(purge_done);

    ngx_log_error(NGX_LOG_INFO, ngx_http_ims_worker->log, 0,
                  "pool %V lease %*s purged", &p->core->pool,
                  sizeof(p->lease), p->lease);

    ngx_http_ims_purge_free(p);
}


/* nothing is said: the identity rests as it would have */

static void
ngx_http_ims_purge_failed(ngx_http_ims_purge_t *p, const char *why,
    ngx_uint_t status)
{
    ngx_http_ims_count(purge_failed);

    if (status) {
        ngx_log_error(NGX_LOG_INFO, ngx_http_ims_worker->log, 0,
                      "pool %V lease %*s was not purged: %s (%ui)",
                      &p->core->pool, sizeof(p->lease), p->lease, why, status);

    } else {
        ngx_log_error(NGX_LOG_INFO, ngx_http_ims_worker->log, 0,
                      "pool %V lease %*s was not purged: %s",
                      &p->core->pool, sizeof(p->lease), p->lease, why);
    }

    ngx_http_ims_purge_free(p);
}


static void
ngx_http_ims_purge_free(ngx_http_ims_purge_t *p)
{
    ngx_queue_remove(&p->queue);
    ngx_http_ims_purges.n--;
    ngx_free(p);
}
