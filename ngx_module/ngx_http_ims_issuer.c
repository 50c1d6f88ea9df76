
/*
 * Copyright (C) nginx-ims contributors
 *
 * The ims_issuer {} block: who signs tokens, with which keys, for whose
 * identities, and for pages of which origins.
 */

#include "ngx_http_ims.h"
#include "sip/ims_sip_uri.h"


#define NGX_HTTP_IMS_KEY_FILE_MAX    65536
#define NGX_HTTP_IMS_LEEWAY_MAX      300


/* a "key" line; read when the algorithm is known, at the block's end */

typedef struct {
    ngx_str_t                     kid;
    ngx_str_t                     public;
    ngx_str_t                     private;
} ngx_http_ims_key_line_t;


typedef struct {
    ngx_http_ims_main_conf_t     *main;
    ngx_http_ims_issuer_t        *issuer;
    ngx_array_t                   keys;         /* ngx_http_ims_key_line_t */
    ngx_str_t                     sign;
#if (NGX_PCRE)
    ngx_array_t                   regexes;      /* ngx_regex_elt_t */
#endif
    unsigned                      alg:1;
    unsigned                      leeway:1;
} ngx_http_ims_issuer_ctx_t;


typedef struct {
    ngx_str_t                     name;
    ngx_uint_t                    min;
    ngx_uint_t                    max;
    char                       *(*set)(ngx_conf_t *cf,
                                       ngx_http_ims_issuer_ctx_t *ctx,
                                       ngx_str_t *value, ngx_uint_t n);
} ngx_http_ims_issuer_command_t;


static char *ngx_http_ims_issuer_line(ngx_conf_t *cf, ngx_command_t *dummy,
    void *conf);
static char *ngx_http_ims_issuer_iss(ngx_conf_t *cf,
    ngx_http_ims_issuer_ctx_t *ctx, ngx_str_t *value, ngx_uint_t n);
static char *ngx_http_ims_issuer_aud(ngx_conf_t *cf,
    ngx_http_ims_issuer_ctx_t *ctx, ngx_str_t *value, ngx_uint_t n);
static char *ngx_http_ims_issuer_scope(ngx_conf_t *cf,
    ngx_http_ims_issuer_ctx_t *ctx, ngx_str_t *value, ngx_uint_t n);
static char *ngx_http_ims_issuer_string(ngx_conf_t *cf, ims_str_t *s,
    ngx_str_t *value);
static char *ngx_http_ims_issuer_alg(ngx_conf_t *cf,
    ngx_http_ims_issuer_ctx_t *ctx, ngx_str_t *value, ngx_uint_t n);
static char *ngx_http_ims_issuer_leeway(ngx_conf_t *cf,
    ngx_http_ims_issuer_ctx_t *ctx, ngx_str_t *value, ngx_uint_t n);
static char *ngx_http_ims_issuer_key(ngx_conf_t *cf,
    ngx_http_ims_issuer_ctx_t *ctx, ngx_str_t *value, ngx_uint_t n);
static char *ngx_http_ims_issuer_sign(ngx_conf_t *cf,
    ngx_http_ims_issuer_ctx_t *ctx, ngx_str_t *value, ngx_uint_t n);
static char *ngx_http_ims_issuer_pool(ngx_conf_t *cf,
    ngx_http_ims_issuer_ctx_t *ctx, ngx_str_t *value, ngx_uint_t n);
static char *ngx_http_ims_issuer_domain(ngx_conf_t *cf,
    ngx_http_ims_issuer_ctx_t *ctx, ngx_str_t *value, ngx_uint_t n);
static char *ngx_http_ims_issuer_names(ngx_conf_t *cf, ngx_array_t **names,
    ngx_str_t *value, ngx_uint_t n);
static char *ngx_http_ims_issuer_origin(ngx_conf_t *cf,
    ngx_http_ims_issuer_ctx_t *ctx, ngx_str_t *value, ngx_uint_t n);
static char *ngx_http_ims_issuer_origin_regex(ngx_conf_t *cf,
    ngx_http_ims_issuer_ctx_t *ctx, ngx_str_t *value);

static char *ngx_http_ims_issuer_complete(ngx_conf_t *cf,
    ngx_http_ims_issuer_ctx_t *ctx);
static char *ngx_http_ims_issuer_unique(ngx_conf_t *cf,
    ngx_http_ims_issuer_ctx_t *ctx);
static char *ngx_http_ims_issuer_read_keys(ngx_conf_t *cf,
    ngx_http_ims_issuer_ctx_t *ctx);
static char *ngx_http_ims_issuer_read_key(ngx_conf_t *cf,
    ngx_http_ims_issuer_ctx_t *ctx, ngx_http_ims_key_line_t *line);
static ims_token_key_t *ngx_http_ims_issuer_load(ngx_conf_t *cf,
    ngx_http_ims_issuer_t *issuer, ngx_str_t *file, ngx_str_t *kid,
    bool private);
static ngx_int_t ngx_http_ims_issuer_file(ngx_conf_t *cf, ngx_str_t *name,
    u_char *buf, size_t *len);
static char *ngx_http_ims_issuer_pair(ngx_conf_t *cf,
    ngx_http_ims_issuer_t *issuer, ims_token_key_t *public,
    ims_token_key_t *private, ngx_str_t *kid);
static void ngx_http_ims_issuer_free_key(void *data);
static ngx_int_t ngx_http_ims_issuer_in_domain(ngx_http_ims_issuer_t *issuer,
    ims_str_t impu);


static ngx_http_ims_issuer_command_t  ngx_http_ims_issuer_commands[] = {
    { ngx_string("iss"), 1, 1, ngx_http_ims_issuer_iss },
    { ngx_string("aud"), 1, 1, ngx_http_ims_issuer_aud },
    { ngx_string("alg"), 1, 1, ngx_http_ims_issuer_alg },
    { ngx_string("key"), 2, 3, ngx_http_ims_issuer_key },
    { ngx_string("sign"), 1, 1, ngx_http_ims_issuer_sign },
    { ngx_string("pool"), 1, 64, ngx_http_ims_issuer_pool },
    { ngx_string("domain"), 1, 64, ngx_http_ims_issuer_domain },
    { ngx_string("origin"), 1, 64, ngx_http_ims_issuer_origin },
    { ngx_string("scope"), 1, 1, ngx_http_ims_issuer_scope },
    { ngx_string("leeway"), 1, 1, ngx_http_ims_issuer_leeway },
    { ngx_null_string, 0, 0, NULL }
};


ngx_http_ims_issuer_t *
ngx_http_ims_issuer_find(ngx_http_ims_main_conf_t *imcf, ngx_str_t *name)
{
    ngx_uint_t               i;
    ngx_http_ims_issuer_t  **issuer;

    if (imcf->issuers == NULL) {
        return NULL;
    }

    issuer = imcf->issuers->elts;

    for (i = 0; i < imcf->issuers->nelts; i++) {
        if (issuer[i]->name.len == name->len
            && ngx_memcmp(issuer[i]->name.data, name->data, name->len) == 0)
        {
            return issuer[i];
        }
    }

    return NULL;
}


ngx_int_t
ngx_http_ims_issuer_may(ngx_http_ims_issuer_t *issuer, ims_str_t pool,
    const ims_str_t *impus, ngx_uint_t nimpus)
{
    ngx_str_t   *name;
    ngx_uint_t   i;

    if (issuer->pools) {
        name = issuer->pools->elts;

        for (i = 0; i < issuer->pools->nelts; i++) {
            if (ims_str_eq(ngx_http_ims_str(&name[i]), pool)) {
                break;
            }
        }

        if (i == issuer->pools->nelts) {
            return NGX_DECLINED;
        }
    }

    if (issuer->domains) {
        for (i = 0; i < nimpus; i++) {
            if (ngx_http_ims_issuer_in_domain(issuer, impus[i]) != NGX_OK) {
                return NGX_DECLINED;
            }
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_ims_issuer_in_domain(ngx_http_ims_issuer_t *issuer, ims_str_t impu)
{
    ngx_str_t      *domain;
    ngx_uint_t      i;
    ims_sip_uri_t   uri;

    if (!ims_sip_uri_parse(impu, &uri)) {
        return NGX_DECLINED;
    }

    if (uri.scheme == IMS_SIP_URI_TEL) {

        /* a number has no domain: the pools alone can answer for it */

        return issuer->pools ? NGX_OK : NGX_DECLINED;
    }

    if (uri.scheme != IMS_SIP_URI_SIP && uri.scheme != IMS_SIP_URI_SIPS) {
        return NGX_DECLINED;
    }

    domain = issuer->domains->elts;

    for (i = 0; i < issuer->domains->nelts; i++) {
        if (ims_str_caseeq(ngx_http_ims_str(&domain[i]), uri.host)) {
            return NGX_OK;
        }
    }

    return NGX_DECLINED;
}


ngx_int_t
ngx_http_ims_issuer_serves(ngx_http_ims_issuer_t *issuer, ngx_str_t *origin,
    ngx_log_t *log)
{
    ims_origin_t  o;

    /* a regex, too, is only shown what is one single origin */

    if (!ims_origin_parse(&o, ngx_http_ims_str(origin))) {
        return NGX_DECLINED;
    }

    if (issuer->origins
        && ims_origin_match(issuer->origins->elts, issuer->origins->nelts,
                            ngx_http_ims_str(origin)))
    {
        return NGX_OK;
    }

#if (NGX_PCRE)

    if (issuer->origins_re
        && ngx_regex_exec_array(issuer->origins_re, origin, log) == NGX_OK)
    {
        return NGX_OK;
    }

#endif

    return NGX_DECLINED;
}


char *
ngx_http_ims_issuer_block(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_ims_main_conf_t *imcf = conf;

    char                        *rv;
    ngx_str_t                   *value;
    ngx_conf_t                   save;
    ngx_http_ims_issuer_t      **issuer;
    ngx_http_ims_issuer_ctx_t    ctx;

    value = cf->args->elts;

    if (value[1].len == 0 || value[1].len > IMS_TOKEN_STR_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid issuer name \"%V\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    if (ngx_http_ims_issuer_find(imcf, &value[1])) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "duplicate issuer \"%V\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&ctx, sizeof(ngx_http_ims_issuer_ctx_t));

    ctx.main = imcf;
    ctx.issuer = ngx_pcalloc(cf->pool, sizeof(ngx_http_ims_issuer_t));
    if (ctx.issuer == NULL) {
        return NGX_CONF_ERROR;
    }

    ctx.issuer->name = value[1];
    ctx.issuer->token.data = ctx.issuer;

    if (ngx_array_init(&ctx.keys, cf->temp_pool, 4,
                       sizeof(ngx_http_ims_key_line_t))
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    save = *cf;
    cf->handler = ngx_http_ims_issuer_line;
    cf->handler_conf = (void *) &ctx;

    rv = ngx_conf_parse(cf, NULL);

    *cf = save;

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    if (ngx_http_ims_issuer_complete(cf, &ctx) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    if (imcf->issuers == NULL) {
        imcf->issuers = ngx_array_create(cf->pool, 2,
                                         sizeof(ngx_http_ims_issuer_t *));
        if (imcf->issuers == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    issuer = ngx_array_push(imcf->issuers);
    if (issuer == NULL) {
        return NGX_CONF_ERROR;
    }

    *issuer = ctx.issuer;

    return NGX_CONF_OK;
}


static char *
ngx_http_ims_issuer_line(ngx_conf_t *cf, ngx_command_t *dummy, void *conf)
{
    ngx_http_ims_issuer_ctx_t *ctx = conf;

    char                           *rv;
    ngx_str_t                      *value;
    ngx_uint_t                      n;
    ngx_http_ims_issuer_command_t  *cmd;

    value = cf->args->elts;
    n = cf->args->nelts - 1;

    for (cmd = ngx_http_ims_issuer_commands; cmd->name.len; cmd++) {
        if (cmd->name.len == value[0].len
            && ngx_memcmp(cmd->name.data, value[0].data, value[0].len) == 0)
        {
            break;
        }
    }

    if (cmd->name.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "unknown directive \"%V\" in issuer \"%V\"",
                           &value[0], &ctx->issuer->name);
        return NGX_CONF_ERROR;
    }

    if (n < cmd->min || n > cmd->max) {
        rv = "has an invalid number of arguments";

    } else {
        rv = cmd->set(cf, ctx, value + 1, n);
    }

    if (rv != NGX_CONF_OK && rv != NGX_CONF_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" %s in issuer \"%V\"", &value[0], rv,
                           &ctx->issuer->name);
        return NGX_CONF_ERROR;
    }

    return rv;
}


static char *
ngx_http_ims_issuer_iss(ngx_conf_t *cf, ngx_http_ims_issuer_ctx_t *ctx,
    ngx_str_t *value, ngx_uint_t n)
{
    return ngx_http_ims_issuer_string(cf, &ctx->issuer->token.iss, value);
}


static char *
ngx_http_ims_issuer_aud(ngx_conf_t *cf, ngx_http_ims_issuer_ctx_t *ctx,
    ngx_str_t *value, ngx_uint_t n)
{
    return ngx_http_ims_issuer_string(cf, &ctx->issuer->token.aud, value);
}


/* a scope-token (RFC 6749 section 3.3): it is quoted in challenges */

static char *
ngx_http_ims_issuer_scope(ngx_conf_t *cf, ngx_http_ims_issuer_ctx_t *ctx,
    ngx_str_t *value, ngx_uint_t n)
{
    if (ngx_strlchr(value->data, value->data + value->len, '"')
        || ngx_strlchr(value->data, value->data + value->len, '\\'))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid scope \"%V\": quotes and backslashes are "
                           "not allowed", value);
        return NGX_CONF_ERROR;
    }

    if (ngx_strlchr(value->data, value->data + value->len, ' ')) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" is more than one scope", value);
        return NGX_CONF_ERROR;
    }

    return ngx_http_ims_issuer_string(cf, &ctx->issuer->token.scope, value);
}


static char *
ngx_http_ims_issuer_string(ngx_conf_t *cf, ims_str_t *s, ngx_str_t *value)
{
    size_t  i;

    if (s->p) {
        return "is duplicate";
    }

    for (i = 0; i < value->len; i++) {
        if (value->data[i] < 0x20 || value->data[i] == 0x7f) {
            break;
        }
    }

    if (value->len == 0 || value->len > IMS_TOKEN_STR_MAX || i < value->len) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid value \"%V\"",
                           value);
        return NGX_CONF_ERROR;
    }

    *s = ngx_http_ims_str(value);

    return NGX_CONF_OK;
}


static char *
ngx_http_ims_issuer_alg(ngx_conf_t *cf, ngx_http_ims_issuer_ctx_t *ctx,
    ngx_str_t *value, ngx_uint_t n)
{
    if (ctx->alg) {
        return "is duplicate";
    }

    if (!ims_token_alg_parse(ngx_http_ims_str(value),
                             &ctx->issuer->token.alg))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "unknown algorithm \"%V\", it must be ES256, "
                           "RS256 or HS256", value);
        return NGX_CONF_ERROR;
    }

    ctx->alg = 1;

    return NGX_CONF_OK;
}


static char *
ngx_http_ims_issuer_leeway(ngx_conf_t *cf, ngx_http_ims_issuer_ctx_t *ctx,
    ngx_str_t *value, ngx_uint_t n)
{
    time_t  leeway;

    if (ctx->leeway) {
        return "is duplicate";
    }

    leeway = ngx_parse_time(value, 1);

    if (leeway == (time_t) NGX_ERROR || leeway > NGX_HTTP_IMS_LEEWAY_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid leeway \"%V\", it must be from 0 to %ds",
                           value, NGX_HTTP_IMS_LEEWAY_MAX);
        return NGX_CONF_ERROR;
    }

    ctx->issuer->token.leeway = (uint32_t) leeway;
    ctx->leeway = 1;

    return NGX_CONF_OK;
}


static char *
ngx_http_ims_issuer_key(ngx_conf_t *cf, ngx_http_ims_issuer_ctx_t *ctx,
    ngx_str_t *value, ngx_uint_t n)
{
    ngx_uint_t                i;
    ngx_http_ims_key_line_t  *line;

    line = ctx->keys.elts;

    for (i = 0; i < ctx->keys.nelts; i++) {
        if (line[i].kid.len == value[0].len
            && ngx_memcmp(line[i].kid.data, value[0].data, value[0].len) == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "duplicate key \"%V\" in issuer \"%V\"",
                               &value[0], &ctx->issuer->name);
            return NGX_CONF_ERROR;
        }
    }

    line = ngx_array_push(&ctx->keys);
    if (line == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(line, sizeof(ngx_http_ims_key_line_t));

    line->kid = value[0];
    line->public = value[1];

    if (n == 3) {
        line->private = value[2];
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_ims_issuer_sign(ngx_conf_t *cf, ngx_http_ims_issuer_ctx_t *ctx,
    ngx_str_t *value, ngx_uint_t n)
{
    if (ctx->sign.data) {
        return "is duplicate";
    }

    ctx->sign = value[0];

    return NGX_CONF_OK;
}


static char *
ngx_http_ims_issuer_pool(ngx_conf_t *cf, ngx_http_ims_issuer_ctx_t *ctx,
    ngx_str_t *value, ngx_uint_t n)
{
    return ngx_http_ims_issuer_names(cf, &ctx->issuer->pools, value, n);
}


static char *
ngx_http_ims_issuer_domain(ngx_conf_t *cf, ngx_http_ims_issuer_ctx_t *ctx,
    ngx_str_t *value, ngx_uint_t n)
{
    ngx_uint_t     i;
    ims_origin_t   o;
    u_char         buf[sizeof("http://") + 255];

    for (i = 0; i < n; i++) {
        ngx_strlow(value[i].data, value[i].data, value[i].len);

        /* what is no host name can never match: better said now */

        if (value[i].len > 255
            || !ims_origin_parse(&o, ims_str_set(buf,
                                 ngx_sprintf(buf, "http://%V", &value[i])
                                 - buf))
            || o.host.n != value[i].len)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid domain \"%V\"",
                               &value[i]);
            return NGX_CONF_ERROR;
        }
    }

    return ngx_http_ims_issuer_names(cf, &ctx->issuer->domains, value, n);
}


static char *
ngx_http_ims_issuer_names(ngx_conf_t *cf, ngx_array_t **names,
    ngx_str_t *value, ngx_uint_t n)
{
    ngx_str_t   *name;
    ngx_uint_t   i, k;

    if (*names == NULL) {
        *names = ngx_array_create(cf->pool, n, sizeof(ngx_str_t));
        if (*names == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    for (i = 0; i < n; i++) {

        if (value[i].len == 0) {
            return "has an empty name";
        }

        name = (*names)->elts;

        for (k = 0; k < (*names)->nelts; k++) {
            if (name[k].len == value[i].len
                && ngx_memcmp(name[k].data, value[i].data, name[k].len) == 0)
            {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "duplicate value \"%V\"", &value[i]);
                return NGX_CONF_ERROR;
            }
        }

        name = ngx_array_push(*names);
        if (name == NULL) {
            return NGX_CONF_ERROR;
        }

        *name = value[i];
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_ims_issuer_origin(ngx_conf_t *cf, ngx_http_ims_issuer_ctx_t *ctx,
    ngx_str_t *value, ngx_uint_t n)
{
    const char         *err;
    ngx_uint_t          i;
    ims_origin_rule_t  *rule;

    if (ctx->issuer->origins == NULL) {
        ctx->issuer->origins = ngx_array_create(cf->pool, n,
                                                sizeof(ims_origin_rule_t));
        if (ctx->issuer->origins == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    for (i = 0; i < n; i++) {

        if (value[i].len && value[i].data[0] == '~') {
            if (ngx_http_ims_issuer_origin_regex(cf, ctx, &value[i])
                != NGX_CONF_OK)
            {
                return NGX_CONF_ERROR;
            }

            continue;
        }

        rule = ngx_array_push(ctx->issuer->origins);
        if (rule == NULL) {
            return NGX_CONF_ERROR;
        }

        if (ims_origin_rule_parse(rule, ngx_http_ims_str(&value[i]), &err)
            != 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid origin \"%V\": %s", &value[i], err);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


/*
 * The whole origin has to match, whatever anchors the pattern has or lacks:
 * an unanchored one would be a comparison by substring.
 */

static char *
ngx_http_ims_issuer_origin_regex(ngx_conf_t *cf,
    ngx_http_ims_issuer_ctx_t *ctx, ngx_str_t *value)
{
#if (NGX_PCRE)
    u_char               errstr[NGX_MAX_CONF_ERRSTR];
    ngx_str_t            pattern;
    ngx_regex_elt_t     *re;
    ngx_regex_compile_t  rc;

    pattern.data = value->data + 1;
    pattern.len = value->len - 1;

    if (pattern.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "empty regex in origin "
                           "\"%V\"", value);
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&rc, sizeof(ngx_regex_compile_t));

    rc.pattern.len = pattern.len + sizeof("\\A(?:)\\z") - 1;
    rc.pattern.data = ngx_pnalloc(cf->pool, rc.pattern.len + 1);
    if (rc.pattern.data == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_sprintf(rc.pattern.data, "\\A(?:%V)\\z%Z", &pattern);

    rc.pool = cf->pool;
    rc.options = NGX_REGEX_CASELESS;
    rc.err.len = NGX_MAX_CONF_ERRSTR;
    rc.err.data = errstr;

    if (ngx_regex_compile(&rc) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%V", &rc.err);
        return NGX_CONF_ERROR;
    }

    if (ctx->issuer->origins_re == NULL) {
        ctx->issuer->origins_re = ngx_array_create(cf->pool, 2,
                                                   sizeof(ngx_regex_elt_t));
        if (ctx->issuer->origins_re == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    re = ngx_array_push(ctx->issuer->origins_re);
    if (re == NULL) {
        return NGX_CONF_ERROR;
    }

    re->regex = rc.regex;
    re->name = value->data;

    return NGX_CONF_OK;
#else
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "using regex \"%V\" requires PCRE library", value);
    return NGX_CONF_ERROR;
#endif
}


static char *
ngx_http_ims_issuer_complete(ngx_conf_t *cf, ngx_http_ims_issuer_ctx_t *ctx)
{
    const char             *missing;
    ngx_http_ims_issuer_t  *issuer;

    issuer = ctx->issuer;

    missing = issuer->token.iss.p == NULL ? "iss"
              : issuer->token.aud.p == NULL ? "aud"
              : !ctx->alg ? "alg"
              : ctx->keys.nelts == 0 ? "key"
              : NULL;

    if (missing) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "issuer \"%V\" has no \"%s\"", &issuer->name,
                           missing);
        return NGX_CONF_ERROR;
    }

    if (issuer->pools == NULL && issuer->domains == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "issuer \"%V\" has neither \"pool\" nor "
                           "\"domain\": it would speak for every identity",
                           &issuer->name);
        return NGX_CONF_ERROR;
    }

    if (issuer->origins == NULL) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "issuer \"%V\" has no \"origin\": browsers will "
                           "be refused", &issuer->name);
    }

    if (ngx_http_ims_issuer_unique(cf, ctx) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    return ngx_http_ims_issuer_read_keys(cf, ctx);
}


/* a token's iss has to lead to one issuer */

static char *
ngx_http_ims_issuer_unique(ngx_conf_t *cf, ngx_http_ims_issuer_ctx_t *ctx)
{
    ngx_uint_t               i;
    ngx_http_ims_issuer_t  **issuer;

    if (ctx->main->issuers == NULL) {
        return NGX_CONF_OK;
    }

    issuer = ctx->main->issuers->elts;

    for (i = 0; i < ctx->main->issuers->nelts; i++) {
        if (ims_str_eq(issuer[i]->token.iss, ctx->issuer->token.iss)) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "issuers \"%V\" and \"%V\" have the same "
                               "\"iss\"", &issuer[i]->name,
                               &ctx->issuer->name);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_ims_issuer_read_keys(ngx_conf_t *cf, ngx_http_ims_issuer_ctx_t *ctx)
{
    ngx_str_t                 kid;
    ngx_uint_t                i;
    ngx_http_ims_issuer_t    *issuer;
    ngx_http_ims_key_line_t  *line;

    issuer = ctx->issuer;

    issuer->keys = ngx_array_create(cf->pool, ctx->keys.nelts,
                                    sizeof(ims_token_key_t *));
    if (issuer->keys == NULL) {
        return NGX_CONF_ERROR;
    }

    line = ctx->keys.elts;

    for (i = 0; i < ctx->keys.nelts; i++) {
        if (ngx_http_ims_issuer_read_key(cf, ctx, &line[i]) != NGX_CONF_OK) {
            return NGX_CONF_ERROR;
        }
    }

    issuer->token.keys = issuer->keys->elts;
    issuer->token.nkeys = issuer->keys->nelts;

    if (ctx->sign.data == NULL) {
        return NGX_CONF_OK;
    }

    if (issuer->sign) {
        kid.len = ims_token_key_kid(issuer->sign).n;
        kid.data = (u_char *) ims_token_key_kid(issuer->sign).p;

        if (kid.len == ctx->sign.len
            && ngx_memcmp(kid.data, ctx->sign.data, kid.len) == 0)
        {
            return NGX_CONF_OK;
        }
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "\"sign\" names \"%V\", which is no key of issuer "
                       "\"%V\" with a private half", &ctx->sign,
                       &issuer->name);
    return NGX_CONF_ERROR;
}


/* the public half verifies; the private one, where there is one, signs */

static char *
ngx_http_ims_issuer_read_key(ngx_conf_t *cf, ngx_http_ims_issuer_ctx_t *ctx,
    ngx_http_ims_key_line_t *line)
{
    ims_token_key_t        *public, *private, **key;
    ngx_http_ims_issuer_t  *issuer;

    issuer = ctx->issuer;

    if (issuer->token.alg == IMS_TOKEN_HS256 && line->private.len) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "key \"%V\" of issuer \"%V\": HS256 takes one file",
                           &line->kid, &issuer->name);
        return NGX_CONF_ERROR;
    }

    public = ngx_http_ims_issuer_load(cf, issuer, &line->public, &line->kid,
                                      issuer->token.alg == IMS_TOKEN_HS256);
    if (public == NULL) {
        return NGX_CONF_ERROR;
    }

    key = ngx_array_push(issuer->keys);
    if (key == NULL) {
        return NGX_CONF_ERROR;
    }

    *key = public;

    if (issuer->token.alg == IMS_TOKEN_HS256) {
        private = public;

    } else if (line->private.len) {
        private = ngx_http_ims_issuer_load(cf, issuer, &line->private,
                                           &line->kid, true);
        if (private == NULL
            || ngx_http_ims_issuer_pair(cf, issuer, public, private,
                                        &line->kid)
               != NGX_CONF_OK)
        {
            return NGX_CONF_ERROR;
        }

    } else {
        return NGX_CONF_OK;
    }

    if (ctx->sign.data == NULL
        || (ctx->sign.len == line->kid.len
            && ngx_memcmp(ctx->sign.data, line->kid.data, line->kid.len) == 0))
    {
        issuer->sign = private;
    }

    return NGX_CONF_OK;
}


static ims_token_key_t *
ngx_http_ims_issuer_load(ngx_conf_t *cf, ngx_http_ims_issuer_t *issuer,
    ngx_str_t *file, ngx_str_t *kid, bool private)
{
    int                  rc;
    char                 err[256];
    u_char              *buf;
    size_t               len;
    ims_token_key_t     *key;
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NULL;
    }

    buf = ngx_alloc(NGX_HTTP_IMS_KEY_FILE_MAX, cf->log);
    if (buf == NULL) {
        return NULL;
    }

    key = NULL;

    if (ngx_http_ims_issuer_file(cf, file, buf, &len) == NGX_OK) {

        /* an editor's newline is no part of a secret */

        if (issuer->token.alg == IMS_TOKEN_HS256 && len
            && buf[len - 1] == '\n')
        {
            len--;
        }

        rc = ims_token_key_load(&key, issuer->token.alg, ims_str_set(buf, len),
                                private, ngx_http_ims_str(kid), err,
                                sizeof(err));
        if (rc != 0) {
            key = NULL;
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "key \"%V\" of issuer \"%V\", file \"%V\": %s",
                               kid, &issuer->name, file, err);
        }
    }

    ngx_explicit_memzero(buf, NGX_HTTP_IMS_KEY_FILE_MAX);
    ngx_free(buf);

    if (key) {
        cln->handler = ngx_http_ims_issuer_free_key;
        cln->data = key;
    }

    return key;
}


static void
ngx_http_ims_issuer_free_key(void *data)
{
    ims_token_key_free(data);
}


static ngx_int_t
ngx_http_ims_issuer_file(ngx_conf_t *cf, ngx_str_t *name, u_char *buf,
    size_t *len)
{
    ssize_t   n;
    ngx_fd_t  fd;

    if (ngx_conf_full_name(cf->cycle, name, 1) != NGX_OK) {
        return NGX_ERROR;
    }

    fd = ngx_open_file(name->data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_open_file_n " \"%V\" failed", name);
        return NGX_ERROR;
    }

    for (*len = 0; *len < NGX_HTTP_IMS_KEY_FILE_MAX; *len += n) {
        n = ngx_read_fd(fd, buf + *len, NGX_HTTP_IMS_KEY_FILE_MAX - *len);

        if (n == -1) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                               ngx_read_fd_n " \"%V\" failed", name);
            (void) ngx_close_file(fd);
            return NGX_ERROR;
        }

        if (n == 0) {
            break;
        }
    }

    (void) ngx_close_file(fd);

    if (*len == NGX_HTTP_IMS_KEY_FILE_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%V\" is too long for a "
                           "key", name);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/*
 * Do the two halves belong together?  Found out by a token, since otherwise
 * every one that is handed out would be refused.
 */

static char *
ngx_http_ims_issuer_pair(ngx_conf_t *cf, ngx_http_ims_issuer_t *issuer,
    ims_token_key_t *public, ims_token_key_t *private, ngx_str_t *kid)
{
    int                        rc;
    u_char                    *jws;
    size_t                     len;
    ims_token_err_t            err;
    ims_token_claims_t        *claims;
    ims_token_issuer_t         self;
    const ims_token_issuer_t  *list;

    claims = ngx_pcalloc(cf->temp_pool, sizeof(ims_token_claims_t));
    jws = ngx_pnalloc(cf->temp_pool, IMS_TOKEN_MAX);

    if (claims == NULL || jws == NULL) {
        return NGX_CONF_ERROR;
    }

    self = issuer->token;
    self.keys = &public;
    self.nkeys = 1;
    list = &self;

    claims->iss = self.iss;
    claims->aud = self.aud;
    claims->sub = IMS_STR("AAAAAAAAAAAAAAAAAAAAAA");
    claims->impi = IMS_STR("a@example.invalid");
    claims->impu[0] = IMS_STR("sip:a@example.invalid");
    claims->nimpu = 1;
    claims->ident = 1;
    claims->lease_id = 1;
    claims->session = 1;
    claims->pool = IMS_STR("none");
    claims->scope = self.scope.n ? self.scope : IMS_STR(IMS_TOKEN_SCOPE);
    claims->exp = 2;

    rc = ims_token_sign(private, claims, jws, IMS_TOKEN_MAX, &len, &err);

    if (rc == 0) {
        rc = ims_token_verify(&list, 1, ims_str_set(jws, len), 1, claims,
                              NULL, &err);
    }

    if (rc == 0) {
        return NGX_CONF_OK;
    }

    if (err.code == IMS_TOKEN_BAD_SIGNATURE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "key \"%V\" of issuer \"%V\": the private half "
                           "does not belong to the public one", kid,
                           &issuer->name);
        return NGX_CONF_ERROR;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "key \"%V\" of issuer \"%V\" cannot sign: %s%s%s", kid,
                       &issuer->name, ims_token_strerror(err.code),
                       err.claim ? " " : "", err.claim ? err.claim : "");
    return NGX_CONF_ERROR;
}
