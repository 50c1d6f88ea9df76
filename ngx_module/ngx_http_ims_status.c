
/*
 * Copyright (C) nginx-ims contributors
 *
 * ims_status: counters of all workers, and what this one sees of the flow
 * table and the pool, as JSON or for Prometheus.  No label is taken from what
 * a client sent, so that their number is fixed.
 */

#include "ngx_http_ims.h"

#include <jansson.h>


/* a figure read when asked for; -1: not known here */

typedef struct {
    const char                   *name;
    const char                   *help;
    int64_t                     (*get)(ngx_http_ims_worker_t *w);
} ngx_http_ims_gauge_t;


static ngx_int_t ngx_http_ims_status_handler(ngx_http_request_t *r);
static ngx_uint_t ngx_http_ims_status_prometheus(ngx_http_request_t *r);
static ngx_buf_t *ngx_http_ims_status_json(ngx_http_request_t *r);
static ngx_buf_t *ngx_http_ims_status_text(ngx_http_request_t *r);
static uint64_t ngx_http_ims_status_counter(ngx_uint_t i);

static int64_t ngx_http_ims_status_slots(ngx_http_ims_worker_t *w);
static int64_t ngx_http_ims_status_used(ngx_http_ims_worker_t *w);
static int64_t ngx_http_ims_status_workers(ngx_http_ims_worker_t *w);
static int64_t ngx_http_ims_status_leaving(ngx_http_ims_worker_t *w);
static int64_t ngx_http_ims_status_sessions(ngx_http_ims_worker_t *w);
static int64_t ngx_http_ims_status_readable(ngx_http_ims_worker_t *w);
static int64_t ngx_http_ims_status_client(ngx_http_ims_worker_t *w);


static const struct {
    const char  *name;
    const char  *help;
} ngx_http_ims_counter_names[] = {
#define X(name, text)  { #name, text },
    NGX_HTTP_IMS_COUNTERS(X)
#undef X
};


static const ngx_http_ims_gauge_t  ngx_http_ims_gauges[] = {
    { "flow_slots", "slots of the flow table", ngx_http_ims_status_slots },
    { "flows", "slots in use", ngx_http_ims_status_used },
    { "workers", "workers alive, of all generations",
      ngx_http_ims_status_workers },
    { "workers_leaving", "of these, told to finish",
      ngx_http_ims_status_leaving },
    { "worker_sessions", "WebSockets of the worker that answers",
      ngx_http_ims_status_sessions },
    { "pool_readable", "1 if it can read the pool's database",
      ngx_http_ims_status_readable },
    { "pool_connected", "1 if it is connected to the pool manager",
      ngx_http_ims_status_client },
    { NULL, NULL, NULL }
};


static ngx_int_t
ngx_http_ims_status_handler(ngx_http_request_t *r)
{
    ngx_buf_t    *b;
    ngx_int_t     rc;
    ngx_str_t     no_store;
    ngx_uint_t    prometheus;
    ngx_chain_t   out;

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return NGX_HTTP_NOT_ALLOWED;
    }

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    prometheus = ngx_http_ims_status_prometheus(r);

    b = prometheus ? ngx_http_ims_status_text(r) : ngx_http_ims_status_json(r);

    ngx_str_set(&no_store, "no-store");

    if (b == NULL
        || ngx_http_ims_header_out(r, "Cache-Control", &no_store) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (prometheus) {
        ngx_str_set(&r->headers_out.content_type,
                    "text/plain; version=0.0.4");
    } else {
        ngx_str_set(&r->headers_out.content_type, "application/json");
    }

    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;
    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = b->last - b->pos;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    b->last_buf = (r == r->main) ? 1 : 0;
    b->last_in_chain = 1;

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}


/* ?format=prometheus, or an Accept header as Prometheus sends it */

static ngx_uint_t
ngx_http_ims_status_prometheus(ngx_http_request_t *r)
{
    ngx_str_t         value;
    ngx_uint_t        n;
    ngx_table_elt_t  *h;

    if (ngx_http_arg(r, (u_char *) "format", sizeof("format") - 1, &value)
        == NGX_OK)
    {
        return ims_str_eq(ngx_http_ims_str(&value), IMS_STR("prometheus"));
    }

    h = ngx_http_ims_header_in(r, "accept", &n);

    return h && ngx_strlcasestrn(h->value.data, h->value.data + h->value.len,
                                 (u_char *) "text/plain",
                                 sizeof("text/plain") - 2)
                != NULL;
}


static ngx_buf_t *
ngx_http_ims_status_json(ngx_http_request_t *r)
{
    int                          bad;
    size_t                       len;
    json_t                      *o, *counters;
    int64_t                      v;
    ngx_buf_t                   *b;
    ngx_uint_t                   i;
    const ngx_http_ims_gauge_t  *g;

    o = json_object();
    counters = json_object();
    bad = 0;

    for (g = ngx_http_ims_gauges; g->name; g++) {
        v = g->get(ngx_http_ims_worker);

        if (v >= 0) {
            bad |= json_object_set_new(o, g->name, json_integer(v));
        }
    }

    for (i = 0; i < NGX_HTTP_IMS_NCOUNTERS; i++) {
        bad |= json_object_set_new(counters,
                   ngx_http_ims_counter_names[i].name,
                   json_integer((json_int_t) ngx_http_ims_status_counter(i)));
    }

    bad |= json_object_set_new(o, "counters", counters);

    len = bad ? 0 : json_dumpb(o, NULL, 0, JSON_INDENT(2));

    b = len ? ngx_create_temp_buf(r->pool, len + 1) : NULL;

    if (b) {
        b->last += json_dumpb(o, (char *) b->pos, len, JSON_INDENT(2));
        *b->last++ = '\n';
    }

    json_decref(o);

    return b;
}


static ngx_buf_t *
ngx_http_ims_status_text(ngx_http_request_t *r)
{
    size_t                       len;
    int64_t                      v;
    ngx_buf_t                   *b;
    ngx_uint_t                   i;
    const ngx_http_ims_gauge_t  *g;

    len = 0;

    for (g = ngx_http_ims_gauges; g->name; g++) {
        len += sizeof("# HELP nginx_ims_ \n# TYPE nginx_ims_ gauge\n"
                      "nginx_ims_ \n")
               + 3 * ngx_strlen(g->name) + ngx_strlen(g->help)
               + NGX_INT64_LEN;
    }

    for (i = 0; i < NGX_HTTP_IMS_NCOUNTERS; i++) {
        len += sizeof("# HELP nginx_ims__total \n"
                      "# TYPE nginx_ims__total counter\n"
                      "nginx_ims__total \n")
               + 3 * ngx_strlen(ngx_http_ims_counter_names[i].name)
               + ngx_strlen(ngx_http_ims_counter_names[i].help)
               + NGX_INT64_LEN;
    }

    b = ngx_create_temp_buf(r->pool, len);
    if (b == NULL) {
        return NULL;
    }

    for (g = ngx_http_ims_gauges; g->name; g++) {
        v = g->get(ngx_http_ims_worker);

        if (v >= 0) {
            b->last = ngx_sprintf(b->last,
                                  "# HELP nginx_ims_%s %s\n"
                                  "# TYPE nginx_ims_%s gauge\n"
                                  "nginx_ims_%s %L\n",
                                  g->name, g->help, g->name, g->name, v);
        }
    }

    for (i = 0; i < NGX_HTTP_IMS_NCOUNTERS; i++) {
        b->last = ngx_sprintf(b->last,
                              "# HELP nginx_ims_%s_total %s\n"
                              "# TYPE nginx_ims_%s_total counter\n"
                              "nginx_ims_%s_total %uL\n",
                              ngx_http_ims_counter_names[i].name,
                              ngx_http_ims_counter_names[i].help,
                              ngx_http_ims_counter_names[i].name,
                              ngx_http_ims_counter_names[i].name,
                              ngx_http_ims_status_counter(i));
    }

    return b;
}


static uint64_t
ngx_http_ims_status_counter(ngx_uint_t i)
{
    ngx_atomic_t  *counters;

    counters = ngx_http_ims_worker->main->counters;

    return counters ? (uint64_t) counters[i] : 0;
}


static int64_t
ngx_http_ims_status_slots(ngx_http_ims_worker_t *w)
{
    return w->main->flows ? (int64_t) w->main->flows->nslots : -1;
}


static int64_t
ngx_http_ims_status_used(ngx_http_ims_worker_t *w)
{
    return w->main->flows ? (int64_t) ims_flow_used(w->main->flows) : -1;
}


static int64_t
ngx_http_ims_status_workers(ngx_http_ims_worker_t *w)
{
    int64_t            n;
    uint32_t           row;
    ims_flow_worker_t  other;

    if (w->main->flows == NULL) {
        return -1;
    }

    for (n = 0, row = 1; row < IMS_FLOW_ROWS; row++) {
        if (ims_flow_worker(w->main->flows, row, &other)
            && (other.id == w->id || ngx_http_ims_worker_alive(other.id)))
        {
            n++;
        }
    }

    return n;
}


static int64_t
ngx_http_ims_status_leaving(ngx_http_ims_worker_t *w)
{
    int64_t            n;
    uint32_t           row;
    ims_flow_worker_t  other;

    if (w->main->flows == NULL) {
        return -1;
    }

    for (n = 0, row = 1; row < IMS_FLOW_ROWS; row++) {
        if (ims_flow_worker(w->main->flows, row, &other)
            && other.exiting
            && (other.id == w->id || ngx_http_ims_worker_alive(other.id)))
        {
            n++;
        }
    }

    return n;
}


static int64_t
ngx_http_ims_status_sessions(ngx_http_ims_worker_t *w)
{
    return (int64_t) w->nsessions;
}


static int64_t
ngx_http_ims_status_readable(ngx_http_ims_worker_t *w)
{
    if (w->main->flows == NULL) {
        return -1;
    }

    return ngx_http_ims_pool_reader(w) != NULL;
}


static int64_t
ngx_http_ims_status_client(ngx_http_ims_worker_t *w)
{
    if (w->main->wwsf_secret.len == 0) {
        return -1;
    }

    return (int64_t) ngx_http_ims_pool_client_up(w);
}


char *
ngx_http_ims_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_ims_loc_conf_t *ilcf = conf;

    ngx_http_core_loc_conf_t  *clcf;

    if (ilcf->endpoint == NGX_HTTP_IMS_IS_STATUS) {
        return "is duplicate";
    }

    if (ilcf->endpoint != NGX_HTTP_IMS_IS_NOTHING) {
        return "and \"ims_pass\" or \"ims_identity\" in one location";
    }

    ilcf->endpoint = NGX_HTTP_IMS_IS_STATUS;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = ngx_http_ims_status_handler;

    return NGX_CONF_OK;
}
