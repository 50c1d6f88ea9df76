
/*
 * Copyright (C) nginx-ims contributors
 *
 * Directives, phases and the life of master and workers.
 */

#include "ngx_http_ims.h"


static ngx_int_t ngx_http_ims_postconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_ims_init_module(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_ims_init_process(ngx_cycle_t *cycle);
static void ngx_http_ims_exit_process(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_ims_open_flows(ngx_cycle_t *cycle,
    ngx_http_ims_main_conf_t *imcf);
static ngx_int_t ngx_http_ims_make_state_dir(ngx_cycle_t *cycle,
    ngx_http_ims_main_conf_t *imcf);
static ngx_int_t ngx_http_ims_init_counters(ngx_shm_zone_t *zone, void *data);

static void *ngx_http_ims_create_main_conf(ngx_conf_t *cf);
static char *ngx_http_ims_init_main_conf(ngx_conf_t *cf, void *conf);
static void *ngx_http_ims_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_ims_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);
static char *ngx_http_ims_check_endpoint(ngx_conf_t *cf,
    ngx_http_ims_loc_conf_t *ilcf);
static char *ngx_http_ims_check_pass(ngx_conf_t *cf,
    ngx_http_ims_loc_conf_t *ilcf);
static char *ngx_http_ims_check_identity(ngx_conf_t *cf,
    ngx_http_ims_loc_conf_t *ilcf);

static char *ngx_http_ims_pool_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_ims_read_secret(ngx_conf_t *cf, const char *role,
    ngx_str_t *name, ngx_str_t *secret);
static ngx_int_t ngx_http_ims_find_secret(ngx_str_t *text, const char *role,
    ngx_str_t *secret);
static char *ngx_http_ims_state_dir(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_ims_msec_or_off(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_ims_accept_issuer(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


static ngx_conf_num_bounds_t  ngx_http_ims_flows_bounds = {
    ngx_conf_check_num_bounds, IMS_FLOW_SLOTS_MIN, IMS_FLOW_SLOTS_MAX
};


static ngx_conf_num_bounds_t  ngx_http_ims_node_bounds = {
    ngx_conf_check_num_bounds, 1, 255
};


static ngx_conf_num_bounds_t  ngx_http_ims_trans_bounds = {
    ngx_conf_check_num_bounds, 1, 10000000
};


static ngx_conf_enum_t  ngx_http_ims_token_modes[] = {
    { ngx_string("off"), NGX_HTTP_IMS_TOKEN_OFF },
    { ngx_string("optional"), NGX_HTTP_IMS_TOKEN_OPTIONAL },
    { ngx_string("required"), NGX_HTTP_IMS_TOKEN_REQUIRED },
    { ngx_null_string, 0 }
};


#if (NGX_SSL)

static ngx_conf_bitmask_t  ngx_http_ims_ssl_protocols[] = {
    { ngx_string("TLSv1.2"), NGX_SSL_TLSv1_2 },
    { ngx_string("TLSv1.3"), NGX_SSL_TLSv1_3 },
    { ngx_null_string, 0 }
};

#endif


#define NGX_HTTP_IMS_ANY_CONF                                                 \
    (NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF)


static ngx_command_t  ngx_http_ims_commands[] = {

    /* http */

    { ngx_string("ims_state_dir"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_ims_state_dir,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("ims_flows"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_ims_main_conf_t, nslots),
      &ngx_http_ims_flows_bounds },

    { ngx_string("ims_node"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_ims_main_conf_t, node),
      &ngx_http_ims_node_bounds },

    { ngx_string("ims_pool"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_ims_pool_directive,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("ims_issuer"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_BLOCK|NGX_CONF_TAKE1,
      ngx_http_ims_issuer_block,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("ims_listen"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_ims_listen,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("ims_core_allow"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_ims_core_allow,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("ims_core_host"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_2MORE,
      ngx_http_ims_core_host_directive,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

#if (NGX_SSL)

    { ngx_string("ims_listen_certificate"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_ims_main_conf_t, listen_certificate),
      NULL },

    { ngx_string("ims_listen_certificate_key"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_ims_main_conf_t, listen_certificate_key),
      NULL },

    { ngx_string("ims_listen_client_certificate"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_ims_main_conf_t, listen_client),
      NULL },

    { ngx_string("ims_core_ssl"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_ims_main_conf_t, core_ssl),
      NULL },

    { ngx_string("ims_core_ssl_name"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_ims_main_conf_t, core_ssl_name),
      NULL },

    { ngx_string("ims_core_ssl_verify"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_ims_main_conf_t, core_ssl_verify),
      NULL },

    { ngx_string("ims_core_ssl_trusted_certificate"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_ims_main_conf_t, core_ssl_trusted),
      NULL },

    { ngx_string("ims_core_ssl_certificate"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_ims_main_conf_t, core_ssl_certificate),
      NULL },

    { ngx_string("ims_core_ssl_certificate_key"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_ims_main_conf_t, core_ssl_certificate_key),
      NULL },

    { ngx_string("ims_core_ssl_protocols"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_conf_set_bitmask_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_ims_main_conf_t, core_ssl_protocols),
      &ngx_http_ims_ssl_protocols },

#endif

    { ngx_string("ims_lease_check"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_ims_main_conf_t, lease_check),
      NULL },

    { ngx_string("ims_flow_grace"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_ims_main_conf_t, flow_grace),
      NULL },

    { ngx_string("ims_core_probe"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_ims_msec_or_off,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_ims_main_conf_t, core_probe),
      NULL },

    { ngx_string("ims_purge"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_ims_main_conf_t, purge),
      NULL },

    { ngx_string("ims_drain_time"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_ims_main_conf_t, drain_time),
      NULL },

    { ngx_string("ims_drain_after"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_ims_msec_or_off,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_ims_main_conf_t, drain_after),
      NULL },

    { ngx_string("ims_worker_transactions"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_ims_main_conf_t, worker_transactions),
      &ngx_http_ims_trans_bounds },

    { ngx_string("ims_flow_transactions"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_ims_main_conf_t, flow_transactions),
      &ngx_http_ims_trans_bounds },

    { ngx_string("ims_worker_sessions"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_ims_main_conf_t, worker_sessions),
      NULL },

    { ngx_string("ims_max_message"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_size_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_ims_main_conf_t, max_message),
      NULL },

    { ngx_string("ims_link_queue"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_size_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_ims_main_conf_t, link_queue),
      NULL },

    /* the edge */

    { ngx_string("ims_pass"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_ims_pass,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("ims_accept_issuer"),
      NGX_HTTP_IMS_ANY_CONF|NGX_CONF_1MORE,
      ngx_http_ims_accept_issuer,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("ims_token"),
      NGX_HTTP_IMS_ANY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_enum_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_ims_loc_conf_t, token_mode),
      &ngx_http_ims_token_modes },

    { ngx_string("ims_token_cookie"),
      NGX_HTTP_IMS_ANY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_ims_loc_conf_t, token_cookie),
      NULL },

    { ngx_string("ims_origin_missing"),
      NGX_HTTP_IMS_ANY_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_ims_loc_conf_t, origin_missing_ok),
      NULL },

    { ngx_string("ims_ping_interval"),
      NGX_HTTP_IMS_ANY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_ims_loc_conf_t, ping_interval),
      NULL },

    { ngx_string("ims_pong_timeout"),
      NGX_HTTP_IMS_ANY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_ims_loc_conf_t, pong_timeout),
      NULL },

    { ngx_string("ims_register_timeout"),
      NGX_HTTP_IMS_ANY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_ims_loc_conf_t, register_timeout),
      NULL },

    { ngx_string("ims_core_min_expires"),
      NGX_HTTP_IMS_ANY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_sec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_ims_loc_conf_t, core_min_expires),
      NULL },

    { ngx_string("ims_send_queue"),
      NGX_HTTP_IMS_ANY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_size_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_ims_loc_conf_t, send_queue),
      NULL },

    { ngx_string("ims_address_sessions"),
      NGX_HTTP_IMS_ANY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_ims_loc_conf_t, address_sessions),
      NULL },

    { ngx_string("ims_visited_network"),
      NGX_HTTP_IMS_ANY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_ims_loc_conf_t, visited_network),
      NULL },

    { ngx_string("ims_access_network"),
      NGX_HTTP_IMS_ANY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_ims_loc_conf_t, access_network),
      NULL },

    { ngx_string("ims_authorization_entity"),
      NGX_HTTP_IMS_ANY_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_ims_loc_conf_t, authorization_entity),
      NULL },

    { ngx_string("ims_reg_event"),
      NGX_HTTP_IMS_ANY_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_ims_loc_conf_t, reg_event),
      NULL },

    /* the site */

    { ngx_string("ims_identity"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_ims_identity,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("ims_identity_user"),
      NGX_HTTP_IMS_ANY_CONF|NGX_CONF_TAKE1,
      ngx_http_ims_identity_user,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("ims_identity_anonymous"),
      NGX_HTTP_IMS_ANY_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_ims_loc_conf_t, identity_anonymous),
      NULL },

    { ngx_string("ims_identity_realm"),
      NGX_HTTP_IMS_ANY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_ims_loc_conf_t, identity_realm),
      NULL },

    { ngx_string("ims_identity_ws_uri"),
      NGX_HTTP_IMS_ANY_CONF|NGX_CONF_TAKE1,
      ngx_http_set_complex_value_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_ims_loc_conf_t, identity_ws_uri),
      NULL },

    { ngx_string("ims_identity_cookie"),
      NGX_HTTP_IMS_ANY_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_ims_loc_conf_t, identity_cookie),
      NULL },

    { ngx_string("ims_status"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_ims_status,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_ims_module_ctx = {
    NULL,                                  /* preconfiguration */
    ngx_http_ims_postconfiguration,        /* postconfiguration */

    ngx_http_ims_create_main_conf,         /* create main configuration */
    ngx_http_ims_init_main_conf,           /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_ims_create_loc_conf,          /* create location configuration */
    ngx_http_ims_merge_loc_conf            /* merge location configuration */
};


ngx_module_t  ngx_http_ims_module = {
    NGX_MODULE_V1,
    &ngx_http_ims_module_ctx,              /* module context */
    ngx_http_ims_commands,                 /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    ngx_http_ims_init_module,              /* init module */
    ngx_http_ims_init_process,             /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_ims_exit_process,             /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


ngx_http_ims_worker_t  *ngx_http_ims_worker;


/*
 * The flow table stays mapped in the master over reloads: all generations of
 * workers inherit the one mapping.
 */
static struct {
    char                  dir[NGX_MAX_PATH];
    ims_flow_table_t      flows;
    ims_flow_keys_t       keys;
    uint64_t              master_id;
    uint32_t              cycle_no;
} ngx_http_ims_mapped;


void
ngx_http_ims_count_(ngx_http_ims_counter_e n)
{
    ngx_http_ims_main_conf_t  *imcf;

    if (ngx_http_ims_worker == NULL) {
        return;
    }

    imcf = ngx_http_ims_worker->main;

    if (imcf->counters) {
        (void) ngx_atomic_fetch_add(&imcf->counters[n], 1);
    }
}


static ngx_int_t
ngx_http_ims_postconfiguration(ngx_conf_t *cf)
{
    ngx_str_t                   name;
    ngx_http_handler_pt        *h;
    ngx_http_ims_main_conf_t   *imcf;
    ngx_http_core_main_conf_t  *cmcf;

    imcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_ims_module);
    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_PREACCESS_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_ims_origin_handler;

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_ACCESS_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_ims_access_handler;

    if (ngx_http_ims_core_hosts_check(cf, imcf) != NGX_CONF_OK) {
        return NGX_ERROR;
    }

    if (ngx_http_ims_groups_check(cf, imcf) != NGX_CONF_OK) {
        return NGX_ERROR;
    }

    ngx_str_set(&name, "ims_counters");

    imcf->counters_zone = ngx_shared_memory_add(cf, &name,
                                                8 * ngx_pagesize,
                                                &ngx_http_ims_module);
    if (imcf->counters_zone == NULL) {
        return NGX_ERROR;
    }

    imcf->counters_zone->init = ngx_http_ims_init_counters;
    imcf->counters_zone->data = imcf;

    return NGX_OK;
}


static ngx_int_t
ngx_http_ims_init_counters(ngx_shm_zone_t *zone, void *data)
{
    ngx_http_ims_main_conf_t  *oimcf = data;

    ngx_slab_pool_t           *shpool;
    ngx_http_ims_main_conf_t  *imcf;

    imcf = zone->data;
    shpool = (ngx_slab_pool_t *) zone->shm.addr;

    if (oimcf) {
        imcf->counters = oimcf->counters;
        return NGX_OK;
    }

    if (zone->shm.exists) {
        imcf->counters = shpool->data;
        return NGX_OK;
    }

    imcf->counters = ngx_slab_calloc(shpool, (NGX_HTTP_IMS_NCOUNTERS + 1)
                                             * sizeof(ngx_atomic_t));
    if (imcf->counters == NULL) {
        return NGX_ERROR;
    }

    shpool->data = (void *) imcf->counters;

    return NGX_OK;
}


/*
 * Files and sockets below the state directory are made here, in the master,
 * and never under "nginx -t".
 */

static ngx_int_t
ngx_http_ims_init_module(ngx_cycle_t *cycle)
{
    ngx_http_conf_ctx_t       *ctx;
    ngx_http_ims_main_conf_t  *imcf;

    ctx = (ngx_http_conf_ctx_t *) cycle->conf_ctx[ngx_http_module.index];

    if (ctx == NULL || ngx_test_config) {
        return NGX_OK;
    }

    imcf = ctx->main_conf[ngx_http_ims_module.ctx_index];

    if (imcf->state_dir.len == 0) {
        return NGX_OK;
    }

    if (ngx_http_ims_make_state_dir(cycle, imcf) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_http_ims_open_flows(cycle, imcf) != NGX_OK
        || ngx_http_ims_cores_config(cycle, imcf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_ims_delivery_sweep(cycle, imcf);

    return NGX_OK;
}


static ngx_int_t
ngx_http_ims_make_state_dir(ngx_cycle_t *cycle,
    ngx_http_ims_main_conf_t *imcf)
{
    ngx_file_info_t   fi;
    ngx_core_conf_t  *ccf;

    if (ngx_create_dir(imcf->state_dir.data, 0700) == NGX_FILE_ERROR
        && ngx_errno != NGX_EEXIST)
    {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      ngx_create_dir_n " ims_state_dir \"%V\" failed",
                      &imcf->state_dir);
        return NGX_ERROR;
    }

    if (ngx_file_info(imcf->state_dir.data, &fi) == NGX_FILE_ERROR) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      ngx_file_info_n " ims_state_dir \"%V\" failed",
                      &imcf->state_dir);
        return NGX_ERROR;
    }

    if (!ngx_is_dir(&fi)) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "ims_state_dir \"%V\" is not a directory",
                      &imcf->state_dir);
        return NGX_ERROR;
    }

    if (fi.st_mode & 0022) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "ims_state_dir \"%V\" may be written by others",
                      &imcf->state_dir);
        return NGX_ERROR;
    }

    /* workers bind their sockets there after they have left root */

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    if (geteuid() == 0 && ccf->user != (ngx_uid_t) NGX_CONF_UNSET_UINT
        && fi.st_uid != ccf->user
        && chown((const char *) imcf->state_dir.data, ccf->user, -1) == -1)
    {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      "chown(\"%V\", %d) failed", &imcf->state_dir, ccf->user);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_ims_open_flows(ngx_cycle_t *cycle, ngx_http_ims_main_conf_t *imcf)
{
    char              err[IMS_FLOW_ERR_LEN];
    ngx_core_conf_t  *ccf;

    if (imcf->listens == NULL) {
        /* a site without an edge */
        return NGX_OK;
    }

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    if (ngx_http_ims_mapped.master_id == 0) {
        ngx_http_ims_random((u_char *) &ngx_http_ims_mapped.master_id,
                            sizeof(ngx_http_ims_mapped.master_id));
    }

    ngx_http_ims_mapped.cycle_no++;

    imcf->master_id = ngx_http_ims_mapped.master_id;
    imcf->cycle_no = ngx_http_ims_mapped.cycle_no;
    imcf->flows = &ngx_http_ims_mapped.flows;
    imcf->flow_keys = &ngx_http_ims_mapped.keys;

    if (ngx_http_ims_mapped.dir[0] != '\0') {

        if (ngx_strcmp(ngx_http_ims_mapped.dir, imcf->state_dir.data) != 0) {
            ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                          "ims_state_dir cannot be changed by a reload");
            return NGX_ERROR;
        }

    } else {

        if (ims_flow_table_open(imcf->flows, (char *) imcf->state_dir.data,
                                (uint32_t) imcf->nslots,
                                geteuid() == 0 ? ccf->user : (uid_t) -1, err)
            != IMS_FLOW_OK)
        {
            ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                          "ims_state_dir \"%V\": %s", &imcf->state_dir, err);
            return NGX_ERROR;
        }

        (void) ngx_cpystrn((u_char *) ngx_http_ims_mapped.dir,
                           imcf->state_dir.data, NGX_MAX_PATH);
    }

    /* read again by each reload, so that a key can be rotated */

    if (!ims_flow_keys_open(imcf->flow_keys, (char *) imcf->state_dir.data,
                            err))
    {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "ims_state_dir \"%V\": %s", &imcf->state_dir, err);
        return NGX_ERROR;
    }

    if (imcf->flows->nslots != ims_flow_slots((uint32_t) imcf->nslots)) {
        ngx_log_error(NGX_LOG_WARN, cycle->log, 0,
                      "ims_flows %i takes effect when no worker is left, "
                      "there are %uD", imcf->nslots, imcf->flows->nslots);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_ims_init_process(ngx_cycle_t *cycle)
{
    ngx_pool_t                *pool;
    ngx_http_conf_ctx_t       *ctx;
    ngx_http_ims_worker_t     *w;
    ngx_http_ims_main_conf_t  *imcf;

    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NGX_OK;
    }

    ctx = (ngx_http_conf_ctx_t *) cycle->conf_ctx[ngx_http_module.index];

    if (ctx == NULL) {
        return NGX_OK;
    }

    imcf = ctx->main_conf[ngx_http_ims_module.ctx_index];

    pool = cycle->pool;

    w = ngx_pcalloc(pool, sizeof(ngx_http_ims_worker_t));
    if (w == NULL) {
        return NGX_ERROR;
    }

    w->main = imcf;
    w->cycle = cycle;
    w->log = cycle->log;

    ngx_http_ims_worker = w;

    return ngx_http_ims_worker_init(w);
}


static void
ngx_http_ims_exit_process(ngx_cycle_t *cycle)
{
    if (ngx_http_ims_worker == NULL) {
        return;
    }

    ngx_http_ims_worker_exit(ngx_http_ims_worker);
    ngx_http_ims_worker = NULL;
}


static void *
ngx_http_ims_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_ims_main_conf_t  *imcf;

    imcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_ims_main_conf_t));
    if (imcf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     imcf->state_dir = { 0, NULL };
     *     imcf->pool_dir = { 0, NULL };
     *     imcf->pool_socket = { 0, NULL };
     *     imcf->wwsf_secret = { 0, NULL };
     *     imcf->edge_secret = { 0, NULL };
     *     imcf->issuers = NULL;
     *     imcf->listens = NULL;
     *     imcf->udp4 = NULL;
     *     imcf->udp6 = NULL;
     *     imcf->core_ssl_protocols = 0;
     *     imcf->core_ssl_name = { 0, NULL };      and the files of TLS
     *     imcf->core_ssl_ctx = NULL;
     *     imcf->listen_ssl_ctx = NULL;
     *     imcf->core_allow = NULL;
     *     imcf->core_hosts = NULL;
     *     imcf->resolver = NULL;
     *     imcf->resolver_timeout = 0;
     *     imcf->groups = NULL;
     *     imcf->passes = NULL;
     *     imcf->cores = NULL;
     *     imcf->flows = NULL;
     *     imcf->flow_keys = NULL;
     *     imcf->counters_zone = NULL;
     *     imcf->counters = NULL;
     */

    imcf->nslots = NGX_CONF_UNSET;
    imcf->node = NGX_CONF_UNSET;
    imcf->pool_timeout = NGX_CONF_UNSET_MSEC;
    imcf->lease_check = NGX_CONF_UNSET_MSEC;
    imcf->flow_grace = NGX_CONF_UNSET_MSEC;
    imcf->core_probe = NGX_CONF_UNSET_MSEC;
    imcf->purge = NGX_CONF_UNSET;
    imcf->drain_time = NGX_CONF_UNSET_MSEC;
    imcf->drain_after = NGX_CONF_UNSET_MSEC;
    imcf->core_ssl = NGX_CONF_UNSET;
    imcf->core_ssl_verify = NGX_CONF_UNSET;
    imcf->worker_transactions = NGX_CONF_UNSET;
    imcf->flow_transactions = NGX_CONF_UNSET;
    imcf->worker_sessions = NGX_CONF_UNSET;
    imcf->max_message = NGX_CONF_UNSET_SIZE;
    imcf->link_queue = NGX_CONF_UNSET_SIZE;

    return imcf;
}


static char *
ngx_http_ims_init_main_conf(ngx_conf_t *cf, void *conf)
{
    ngx_http_ims_main_conf_t  *imcf = conf;

    ngx_conf_init_value(imcf->nslots, 65536);
    ngx_conf_init_value(imcf->node, 1);
    ngx_conf_init_msec_value(imcf->pool_timeout, 2000);
    ngx_conf_init_msec_value(imcf->lease_check, 1000);
    ngx_conf_init_msec_value(imcf->flow_grace, 32000);
    ngx_conf_init_msec_value(imcf->core_probe, 0);
    ngx_conf_init_value(imcf->purge, 1);
    ngx_conf_init_msec_value(imcf->drain_time, 10000);
    ngx_conf_init_msec_value(imcf->drain_after, 0);
    ngx_conf_init_value(imcf->core_ssl, 0);
    ngx_conf_init_value(imcf->core_ssl_verify, 1);
    ngx_conf_init_value(imcf->worker_transactions, 65536);
    ngx_conf_init_value(imcf->flow_transactions, 64);
    ngx_conf_init_value(imcf->worker_sessions, 0);
    ngx_conf_init_size_value(imcf->max_message, 65536);
    ngx_conf_init_size_value(imcf->link_queue, 4 * 1024 * 1024);

    if (imcf->max_message < 4096 || imcf->max_message > 65536) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"ims_max_message\" is %uz, it must be from "
                           "4096 to 65536", imcf->max_message);
        return NGX_CONF_ERROR;
    }

    if (imcf->lease_check < 10) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"ims_lease_check\" must be at least 10ms");
        return NGX_CONF_ERROR;
    }

    if (imcf->core_probe && imcf->core_probe < 1000) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"ims_core_probe\" must be off or at least 1s");
        return NGX_CONF_ERROR;
    }

    if (imcf->listens && imcf->core_allow == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"ims_listen\" needs \"ims_core_allow\": the "
                           "addresses that the IMS core connects from");
        return NGX_CONF_ERROR;
    }

#if (NGX_SSL)
    if (ngx_http_ims_ssl_init(cf, imcf) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }
#endif

    return ngx_http_ims_listens_order(cf, imcf);
}


static void *
ngx_http_ims_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_ims_loc_conf_t  *ilcf;

    ilcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_ims_loc_conf_t));
    if (ilcf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     ilcf->group = NULL;
     *     ilcf->token_issuers = NULL;
     *     ilcf->ntoken_issuers = 0;
     *     ilcf->token_cookie = { 0, NULL };
     *     ilcf->visited_network = { 0, NULL };
     *     ilcf->access_network = { 0, NULL };
     *     ilcf->identity_pool = { 0, NULL };
     *     ilcf->identity_issuer = NULL;
     *     ilcf->identity_realm = { 0, NULL };
     *     ilcf->identity_cookie = { 0, NULL };
     *     ilcf->endpoint = NGX_HTTP_IMS_IS_NOTHING;
     */

    ilcf->accept_issuers = NGX_CONF_UNSET_PTR;
    ilcf->token_mode = NGX_CONF_UNSET_UINT;
    ilcf->origin_missing_ok = NGX_CONF_UNSET;
    ilcf->ping_interval = NGX_CONF_UNSET_MSEC;
    ilcf->pong_timeout = NGX_CONF_UNSET_MSEC;
    ilcf->register_timeout = NGX_CONF_UNSET_MSEC;
    ilcf->core_min_expires = NGX_CONF_UNSET;
    ilcf->send_queue = NGX_CONF_UNSET_SIZE;
    ilcf->address_sessions = NGX_CONF_UNSET;
    ilcf->authorization_entity = NGX_CONF_UNSET;
    ilcf->reg_event = NGX_CONF_UNSET;
    ilcf->identity_user = NGX_CONF_UNSET_PTR;
    ilcf->identity_ws_uri = NGX_CONF_UNSET_PTR;
    ilcf->identity_anonymous = NGX_CONF_UNSET;

    return ilcf;
}


static char *
ngx_http_ims_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_ims_loc_conf_t *prev = parent;
    ngx_http_ims_loc_conf_t *conf = child;

    ngx_conf_merge_ptr_value(conf->accept_issuers, prev->accept_issuers, NULL);
    ngx_conf_merge_uint_value(conf->token_mode, prev->token_mode,
                              NGX_HTTP_IMS_TOKEN_OPTIONAL);
    ngx_conf_merge_str_value(conf->token_cookie, prev->token_cookie, "");
    ngx_conf_merge_value(conf->origin_missing_ok, prev->origin_missing_ok, 0);
    ngx_conf_merge_msec_value(conf->ping_interval, prev->ping_interval, 30000);
    ngx_conf_merge_msec_value(conf->pong_timeout, prev->pong_timeout, 15000);
    ngx_conf_merge_msec_value(conf->register_timeout, prev->register_timeout,
                              32000);
    ngx_conf_merge_sec_value(conf->core_min_expires, prev->core_min_expires,
                             60);
    ngx_conf_merge_size_value(conf->send_queue, prev->send_queue, 262144);
    ngx_conf_merge_value(conf->address_sessions, prev->address_sessions, 0);
    ngx_conf_merge_str_value(conf->visited_network, prev->visited_network, "");
    ngx_conf_merge_str_value(conf->access_network, prev->access_network, "");
    ngx_conf_merge_value(conf->authorization_entity,
                         prev->authorization_entity, 0);
    ngx_conf_merge_value(conf->reg_event, prev->reg_event, 0);
    ngx_conf_merge_ptr_value(conf->identity_user, prev->identity_user, NULL);
    ngx_conf_merge_str_value(conf->identity_realm, prev->identity_realm, "");
    ngx_conf_merge_ptr_value(conf->identity_ws_uri, prev->identity_ws_uri,
                             NULL);
    ngx_conf_merge_str_value(conf->identity_cookie, prev->identity_cookie,
                             "ims_session");
    /* its default is found for an endpoint, by what that has */

    ngx_conf_merge_value(conf->identity_anonymous, prev->identity_anonymous,
                         NGX_CONF_UNSET);

    return ngx_http_ims_check_endpoint(cf, conf);
}


/* what an endpoint needs elsewhere in the configuration */

static char *
ngx_http_ims_check_endpoint(ngx_conf_t *cf, ngx_http_ims_loc_conf_t *ilcf)
{
    ngx_uint_t                 i;
    ngx_http_ims_issuer_t    **issuer;
    ngx_http_ims_main_conf_t  *imcf;

    if (ilcf->endpoint == NGX_HTTP_IMS_IS_NOTHING
        || ilcf->endpoint == NGX_HTTP_IMS_IS_STATUS)
    {
        return NGX_CONF_OK;
    }

    imcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_ims_module);

    if (imcf->issuers == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"ims_pass\" and \"ims_identity\" need an "
                           "\"ims_issuer\" block");
        return NGX_CONF_ERROR;
    }

    if (ilcf->accept_issuers == NULL) {
        ilcf->accept_issuers = imcf->issuers;
    }

    ilcf->ntoken_issuers = ilcf->accept_issuers->nelts;
    ilcf->token_issuers = ngx_palloc(cf->pool, ilcf->ntoken_issuers
                                             * sizeof(ims_token_issuer_t *));
    if (ilcf->token_issuers == NULL) {
        return NGX_CONF_ERROR;
    }

    issuer = ilcf->accept_issuers->elts;

    for (i = 0; i < ilcf->ntoken_issuers; i++) {
        ilcf->token_issuers[i] = &issuer[i]->token;
    }

    return ilcf->endpoint == NGX_HTTP_IMS_IS_WEBSOCKET
           ? ngx_http_ims_check_pass(cf, ilcf)
           : ngx_http_ims_check_identity(cf, ilcf);
}


static char *
ngx_http_ims_check_pass(ngx_conf_t *cf, ngx_http_ims_loc_conf_t *ilcf)
{
    ngx_http_ims_loc_conf_t  **pass;
    ngx_http_ims_main_conf_t  *imcf;

    imcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_ims_module);

    if (imcf->state_dir.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"ims_pass\" needs \"ims_state_dir\"");
        return NGX_CONF_ERROR;
    }

    if (imcf->pool_dir.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"ims_pass\" needs \"ims_pool\" with \"dir=\"");
        return NGX_CONF_ERROR;
    }

    if (imcf->listens == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"ims_pass\" needs \"ims_listen\": the core "
                           "reaches its clients there");
        return NGX_CONF_ERROR;
    }

    if (imcf->passes == NULL) {
        imcf->passes = ngx_array_create(cf->pool, 4,
                                        sizeof(ngx_http_ims_loc_conf_t *));
        if (imcf->passes == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    pass = ngx_array_push(imcf->passes);
    if (pass == NULL) {
        return NGX_CONF_ERROR;
    }

    *pass = ilcf;

    return NGX_CONF_OK;
}


static char *
ngx_http_ims_check_identity(ngx_conf_t *cf, ngx_http_ims_loc_conf_t *ilcf)
{
    ims_str_t                  pool;
    ngx_http_ims_main_conf_t  *imcf;

    imcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_ims_module);

    if (imcf->pool_socket.len == 0 || imcf->wwsf_secret.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"ims_identity\" needs \"ims_pool\" with "
                           "\"socket=\" and \"wwsf_secret=\"");
        return NGX_CONF_ERROR;
    }

    if (ilcf->identity_issuer->sign == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"ims_identity\": issuer \"%V\" has no key to "
                           "sign with", &ilcf->identity_issuer->name);
        return NGX_CONF_ERROR;
    }

    pool = ngx_http_ims_str(&ilcf->identity_pool);

    if (ngx_http_ims_issuer_may(ilcf->identity_issuer, pool, NULL, 0)
        != NGX_OK)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"ims_identity\": issuer \"%V\" may not speak for "
                           "pool \"%V\"", &ilcf->identity_issuer->name,
                           &ilcf->identity_pool);
        return NGX_CONF_ERROR;
    }

    /* where the site knows its users, "nobody" is no user */

    ngx_conf_init_value(ilcf->identity_anonymous,
                        ilcf->identity_user == NULL);

    if (ilcf->identity_realm.len == 0) {
        ilcf->identity_realm = ilcf->identity_issuer->name;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_ims_state_dir(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_ims_main_conf_t  *imcf = conf;

    ngx_str_t  *value;

    if (imcf->state_dir.len) {
        return "is duplicate";
    }

    value = cf->args->elts;
    imcf->state_dir = value[1];

    if (imcf->state_dir.len > 1
        && imcf->state_dir.data[imcf->state_dir.len - 1] == '/')
    {
        imcf->state_dir.data[--imcf->state_dir.len] = '\0';
    }

    if (ngx_conf_full_name(cf->cycle, &imcf->state_dir, 0) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    /* a worker's socket below it must fit sun_path */

    if (imcf->state_dir.len > 80) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"ims_state_dir\" \"%V\" is longer than 80 bytes",
                           &imcf->state_dir);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* ims_pool dir=DIR socket=PATH wwsf_secret=FILE edge_secret=FILE timeout=T */

static char *
ngx_http_ims_pool_directive(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_ims_main_conf_t  *imcf = conf;

    char        *rv;
    ngx_str_t   *value, s;
    ngx_uint_t   i;

    if (imcf->pool_dir.len || imcf->pool_socket.len) {
        return "is duplicate";
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        rv = NGX_CONF_OK;

        if (ngx_strncmp(value[i].data, "dir=", 4) == 0) {
            imcf->pool_dir.data = value[i].data + 4;
            imcf->pool_dir.len = value[i].len - 4;

            if (ngx_conf_full_name(cf->cycle, &imcf->pool_dir, 0) != NGX_OK) {
                return NGX_CONF_ERROR;
            }

        } else if (ngx_strncmp(value[i].data, "socket=", 7) == 0) {
            imcf->pool_socket.data = value[i].data + 7;
            imcf->pool_socket.len = value[i].len - 7;

            if (ngx_conf_full_name(cf->cycle, &imcf->pool_socket, 0)
                != NGX_OK)
            {
                return NGX_CONF_ERROR;
            }

        } else if (ngx_strncmp(value[i].data, "wwsf_secret=", 12) == 0) {
            s.data = value[i].data + 12;
            s.len = value[i].len - 12;
            rv = ngx_http_ims_read_secret(cf, "wwsf", &s, &imcf->wwsf_secret);

        } else if (ngx_strncmp(value[i].data, "edge_secret=", 12) == 0) {
            s.data = value[i].data + 12;
            s.len = value[i].len - 12;
            rv = ngx_http_ims_read_secret(cf, "edge", &s, &imcf->edge_secret);

        } else if (ngx_strncmp(value[i].data, "timeout=", 8) == 0) {
            s.data = value[i].data + 8;
            s.len = value[i].len - 8;
            imcf->pool_timeout = ngx_parse_time(&s, 0);

            if (imcf->pool_timeout == (ngx_msec_t) NGX_ERROR
                || imcf->pool_timeout == 0)
            {
                rv = "invalid value";
            }

        } else {
            rv = "invalid value";
        }

        if (rv == NGX_CONF_ERROR) {
            return rv;
        }

        if (rv != NGX_CONF_OK) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"ims_pool\": invalid parameter \"%V\"",
                               &value[i]);
            return NGX_CONF_ERROR;
        }
    }

    if (imcf->pool_socket.len >= sizeof(((struct sockaddr_un *) 0)->sun_path))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"ims_pool\": socket path \"%V\" is too long",
                           &imcf->pool_socket);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/*
 * The pool manager's own file of secrets (doc/pool-protocol.md), which the
 * master reads, as root where it is: the first line of that role.
 */

static char *
ngx_http_ims_read_secret(ngx_conf_t *cf, const char *role, ngx_str_t *name,
    ngx_str_t *secret)
{
    u_char     buf[4096];
    ssize_t    n;
    ngx_fd_t   fd;
    ngx_str_t  path, text, found;

    path = *name;

    if (ngx_conf_full_name(cf->cycle, &path, 1) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    fd = ngx_open_file(path.data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "\"ims_pool\": " ngx_open_file_n
                           " secret \"%V\" failed", &path);
        return NGX_CONF_ERROR;
    }

    n = ngx_read_fd(fd, buf, sizeof(buf));

    if (ngx_close_file(fd) == NGX_FILE_ERROR || n == -1) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "\"ims_pool\": reading secret \"%V\" failed",
                           &path);
        return NGX_CONF_ERROR;
    }

    text.data = buf;
    text.len = n;

    if (ngx_http_ims_find_secret(&text, role, &found) != NGX_OK
        || found.len < 16 || found.len > 128)
    {
        ngx_explicit_memzero(buf, sizeof(buf));
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"ims_pool\": \"%V\" has no line \"%s SECRET\" "
                           "with a secret of 16 to 128 characters", &path,
                           role);
        return NGX_CONF_ERROR;
    }

    secret->len = found.len;
    secret->data = ngx_pstrdup(cf->pool, &found);

    ngx_explicit_memzero(buf, sizeof(buf));

    return secret->data ? NGX_CONF_OK : NGX_CONF_ERROR;
}


/*
 * The second word of the first line whose first word is the role, or the one
 * word of a line that has no other.
 */

static ngx_int_t
ngx_http_ims_find_secret(ngx_str_t *text, const char *role, ngx_str_t *secret)
{
    u_char      *p, *last;
    ngx_str_t    word[2];
    ngx_uint_t   n;

    p = text->data;
    last = p + text->len;

    while (p < last) {

        for (n = 0; p < last && *p != '\n'; /* void */ ) {

            if (*p <= ' ') {
                p++;
                continue;
            }

            secret->data = p;
            while (p < last && *p > ' ') { p++; }
            secret->len = p - secret->data;

            if (n < 2) {
                word[n++] = *secret;
            }
        }

        p++;

        if (n && word[0].data[0] == '#') {
            continue;
        }

        if (n == 1
            || (n == 2 && word[0].len == ngx_strlen(role)
                && ngx_strncmp(word[0].data, role, word[0].len) == 0))
        {
            *secret = word[n - 1];
            return NGX_OK;
        }
    }

    return NGX_DECLINED;
}


/* off | TIME: "off" is 0, which would otherwise mean at once */

static char *
ngx_http_ims_msec_or_off(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    ngx_str_t   *value;
    ngx_msec_t  *msp;

    msp = (ngx_msec_t *) (p + cmd->offset);
    value = cf->args->elts;

    if (*msp != NGX_CONF_UNSET_MSEC) {
        return "is duplicate";
    }

    if (ngx_strcmp(value[1].data, "off") == 0) {
        *msp = 0;
        return NGX_CONF_OK;
    }

    *msp = ngx_parse_time(&value[1], 0);

    if (*msp == (ngx_msec_t) NGX_ERROR || *msp == 0) {
        return "invalid value";
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_ims_accept_issuer(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_ims_loc_conf_t *ilcf = conf;

    ngx_str_t                  *value;
    ngx_uint_t                  i;
    ngx_http_ims_issuer_t     **issuer;
    ngx_http_ims_main_conf_t   *imcf;

    if (ilcf->accept_issuers != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    imcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_ims_module);

    ilcf->accept_issuers = ngx_array_create(cf->pool, cf->args->nelts - 1,
                                            sizeof(ngx_http_ims_issuer_t *));
    if (ilcf->accept_issuers == NULL) {
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {
        issuer = ngx_array_push(ilcf->accept_issuers);
        if (issuer == NULL) {
            return NGX_CONF_ERROR;
        }

        *issuer = ngx_http_ims_issuer_find(imcf, &value[i]);

        if (*issuer == NULL) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "unknown issuer \"%V\": an \"ims_issuer\" "
                               "block must stand before its use", &value[i]);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}
