
/*
 * Copyright (C) nginx-ims contributors
 *
 * ims_identity: the site's endpoint (WWSF) that gives a user an identity.
 *
 *   POST                    a lease, the same one again, or its renewal; 200
 *   DELETE ?lease=LEASE     the session out of its lease; 204
 *
 * The user is who the site says (ims_identity_user) or the holder of this
 * location's cookie.  The cookie holds two random numbers, "SID.KEY": the
 * session, and an anonymous user's name.
 */

#include "ngx_http_ims.h"
#include "sip/ims_sip_uri.h"

#include <jansson.h>
#include <openssl/rand.h>


#define NGX_HTTP_IMS_SID            IMS_TOKEN_SID_LEN
#define NGX_HTTP_IMS_KEY            32
#define NGX_HTTP_IMS_COOKIE         (NGX_HTTP_IMS_SID + 1 + NGX_HTTP_IMS_KEY)
#define NGX_HTTP_IMS_ANONYMOUS      "anonymous:"
#define NGX_HTTP_IMS_USER_MAX       1024
#define NGX_HTTP_IMS_LEASE          (16 + 1 + 16)
#define NGX_HTTP_IMS_LEASE_MIN      2000    /* ms left, or it is not told */
#define NGX_HTTP_IMS_RETRY_AFTER    1
#define NGX_HTTP_IMS_WS_PATH        "/ims/ws"


/* a request that waits for the pool manager */

typedef struct {
    ngx_http_request_t           *request;
    ngx_http_ims_pool_call_t     *call;         /* NULL: not waiting */
    ngx_str_t                     lease;        /* DELETE */
    unsigned                      cookie:1;     /* the browser had one */
    u_char                        sid[NGX_HTTP_IMS_SID];
    u_char                        key[NGX_HTTP_IMS_KEY];
} ngx_http_ims_identity_t;


/* the pool manager's answer, checked */

typedef struct {
    ims_token_claims_t            claims;
    ims_str_t                     home;
    ims_str_t                     display;
    int64_t                       left;         /* ms until the lease's end */
} ngx_http_ims_given_t;


static ngx_int_t ngx_http_ims_identity_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_ims_identity_method(ngx_http_request_t *r);
static ngx_int_t ngx_http_ims_identity_cookie(ngx_http_request_t *r,
    ngx_http_ims_identity_t *id);
static ngx_int_t ngx_http_ims_identity_number(u_char *hex, size_t n);
static ngx_int_t ngx_http_ims_identity_name(ngx_http_request_t *r,
    ngx_http_ims_identity_t *id, ngx_str_t *user, const char **error);
static ngx_uint_t ngx_http_ims_identity_name_ok(ngx_str_t *user);
static ngx_int_t ngx_http_ims_identity_lease(ngx_http_request_t *r,
    ngx_str_t *lease);
static ngx_int_t ngx_http_ims_identity_ask(ngx_http_request_t *r,
    ngx_http_ims_identity_t *id, ngx_str_t *user);
static void ngx_http_ims_identity_cleanup(void *data);
static void ngx_http_ims_identity_answer(void *data,
    const ngx_http_ims_pool_answer_t *answer);

static ngx_int_t ngx_http_ims_identity_acquired(ngx_http_request_t *r,
    ngx_http_ims_identity_t *id, const ngx_http_ims_pool_answer_t *answer);
static const char *ngx_http_ims_identity_check(ngx_http_ims_loc_conf_t *ilcf,
    ngx_http_ims_identity_t *id, const ngx_http_ims_pool_answer_t *answer,
    ngx_http_ims_given_t *given);
static const char *ngx_http_ims_identity_times(const ims_reply_t *reply,
    uint64_t asked, ngx_http_ims_given_t *given);
static ngx_int_t ngx_http_ims_identity_token(ngx_http_request_t *r,
    ngx_http_ims_given_t *given, u_char *token, size_t *len,
    int64_t *expires_in);
static json_t *ngx_http_ims_identity_json(ngx_http_request_t *r,
    ngx_http_ims_given_t *given, ims_str_t token, int64_t expires_in);
static ngx_int_t ngx_http_ims_identity_ws_uri(ngx_http_request_t *r,
    ngx_str_t *uri);
static ngx_uint_t ngx_http_ims_identity_secure(ngx_http_request_t *r);
static ngx_int_t ngx_http_ims_identity_released(ngx_http_request_t *r,
    ngx_http_ims_identity_t *id, const ngx_http_ims_pool_answer_t *answer);

static ngx_int_t ngx_http_ims_identity_refused(ngx_http_request_t *r,
    const ngx_http_ims_pool_answer_t *answer);
static ngx_int_t ngx_http_ims_identity_error(ngx_http_request_t *r,
    ngx_uint_t status, const char *error, uint64_t retry_after);
static ngx_int_t ngx_http_ims_identity_send(ngx_http_request_t *r,
    ngx_uint_t status, json_t *body);
static ngx_int_t ngx_http_ims_identity_set_cookie(ngx_http_request_t *r,
    ngx_http_ims_identity_t *id);
static ngx_uint_t ngx_http_ims_identity_cross_site(ngx_http_request_t *r);
static ngx_int_t ngx_http_ims_json_set(json_t *object, const char *name,
    ims_str_t value);

static void ngx_http_ims_identity_cookie_path(ngx_http_core_loc_conf_t *clcf,
    ngx_str_t *path);


static ngx_int_t
ngx_http_ims_identity_handler(ngx_http_request_t *r)
{
    ngx_int_t                 rc;
    ngx_str_t                 user;
    const char               *error;
    ngx_http_ims_ctx_t       *ctx;
    ngx_http_ims_identity_t  *id;

    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "ims identity handler");

    ctx = ngx_http_get_module_ctx(r, ngx_http_ims_module);

    if (ctx == NULL || !ctx->origin_judged) {
        ngx_log_error(NGX_LOG_ALERT, r->connection->log, 0,
                      "ims_identity reached without a verdict on the Origin");
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (r != r->main) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "ims_identity in a subrequest");
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_ims_identity_method(r);
    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    id = ngx_pcalloc(r->pool, sizeof(ngx_http_ims_identity_t));
    if (id == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    id->request = r;

    if (ngx_http_ims_identity_cookie(r, id) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (r->method == NGX_HTTP_DELETE
        && (!id->cookie
            || ngx_http_ims_identity_lease(r, &id->lease) != NGX_OK))
    {
        ngx_http_ims_count(identity_conflict);
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "release refused: no lease or no cookie");
        return ngx_http_ims_identity_error(r, NGX_HTTP_CONFLICT, "conflict",
                                           0);
    }

    rc = ngx_http_ims_identity_name(r, id, &user, &error);

    if (rc == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (rc == NGX_DECLINED) {
        ngx_http_ims_count(identity_user);
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "identity request refused: %s", error);
        return ngx_http_ims_identity_error(r, NGX_HTTP_FORBIDDEN, error, 0);
    }

    return ngx_http_ims_identity_ask(r, id, &user);
}


static ngx_int_t
ngx_http_ims_identity_method(ngx_http_request_t *r)
{
    ngx_str_t  allow;

    if (r->method & (NGX_HTTP_POST|NGX_HTTP_DELETE)) {
        return NGX_OK;
    }

    ngx_str_set(&allow, "POST, DELETE, OPTIONS");

    if (ngx_http_ims_header_out(r, "Allow", &allow) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return r->method == NGX_HTTP_OPTIONS ? NGX_HTTP_NO_CONTENT
                                         : NGX_HTTP_NOT_ALLOWED;
}


/* the cookie's two numbers, or new ones if there is no cookie that is ours */

static ngx_int_t
ngx_http_ims_identity_cookie(ngx_http_request_t *r,
    ngx_http_ims_identity_t *id)
{
    u_char                    raw[NGX_HTTP_IMS_KEY / 2];
    ngx_str_t                 value;
    ngx_http_ims_loc_conf_t  *ilcf;

    ilcf = ngx_http_get_module_loc_conf(r, ngx_http_ims_module);

    if (ngx_http_ims_cookie_in(r, &ilcf->identity_cookie, &value) == NGX_OK
        && value.len == NGX_HTTP_IMS_COOKIE
        && value.data[NGX_HTTP_IMS_SID] == '.'
        && ims_hex_decode(raw, NGX_HTTP_IMS_SID / 2,
                          ims_str_set(value.data, NGX_HTTP_IMS_SID))
        && ims_hex_decode(raw, NGX_HTTP_IMS_KEY / 2,
                          ims_str_set(value.data + NGX_HTTP_IMS_SID + 1,
                                      NGX_HTTP_IMS_KEY)))
    {
        id->cookie = 1;

        /* one number, one spelling: it is compared as text */

        ngx_strlow(value.data, value.data, value.len);
        ngx_memcpy(id->sid, value.data, NGX_HTTP_IMS_SID);
        ngx_memcpy(id->key, value.data + NGX_HTTP_IMS_SID + 1,
                   NGX_HTTP_IMS_KEY);
        return NGX_OK;
    }

    if (ngx_http_ims_identity_number(id->sid, NGX_HTTP_IMS_SID) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_ims_identity_number(id->key, NGX_HTTP_IMS_KEY);
}


/* n hex digits that nobody can guess, or nothing */

static ngx_int_t
ngx_http_ims_identity_number(u_char *hex, size_t n)
{
    u_char  raw[NGX_HTTP_IMS_KEY / 2];

    if (RAND_bytes(raw, (int) (n / 2)) != 1) {
        ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, 0, "RAND_bytes() failed");
        return NGX_ERROR;
    }

    ims_hex_encode(hex, raw, n / 2);

    return NGX_OK;
}


/* who asks: NGX_OK and the name; NGX_DECLINED and why nobody who may */

static ngx_int_t
ngx_http_ims_identity_name(ngx_http_request_t *r,
    ngx_http_ims_identity_t *id, ngx_str_t *user, const char **error)
{
    u_char                   *p;
    ngx_http_ims_loc_conf_t  *ilcf;

    ilcf = ngx_http_get_module_loc_conf(r, ngx_http_ims_module);

    ngx_str_null(user);

    if (ilcf->identity_user
        && ngx_http_complex_value(r, ilcf->identity_user, user) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (user->len) {
        *error = "bad_user";
        return ngx_http_ims_identity_name_ok(user) ? NGX_OK : NGX_DECLINED;
    }

    if (!ilcf->identity_anonymous) {
        *error = "login_required";
        return NGX_DECLINED;
    }

    user->len = sizeof(NGX_HTTP_IMS_ANONYMOUS) - 1 + NGX_HTTP_IMS_KEY;
    user->data = ngx_pnalloc(r->pool, user->len);
    if (user->data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_cpymem(user->data, NGX_HTTP_IMS_ANONYMOUS,
                   sizeof(NGX_HTTP_IMS_ANONYMOUS) - 1);
    ngx_memcpy(p, id->key, NGX_HTTP_IMS_KEY);

    return NGX_OK;
}


/*
 * A name goes to the pool manager as it is.  What a log or a shell could
 * stumble over is refused here, and so is a login that could be taken for an
 * anonymous user.
 */

static ngx_uint_t
ngx_http_ims_identity_name_ok(ngx_str_t *user)
{
    size_t  i, n;

    if (user->len > NGX_HTTP_IMS_USER_MAX) {
        return 0;
    }

    for (i = 0; i < user->len; i++) {
        if (user->data[i] < 0x20 || user->data[i] == 0x7f) {
            return 0;
        }
    }

    n = sizeof(NGX_HTTP_IMS_ANONYMOUS) - 1;

    return user->len < n
           || ngx_strncasecmp(user->data, (u_char *) NGX_HTTP_IMS_ANONYMOUS, n)
              != 0;
}


static ngx_int_t
ngx_http_ims_identity_lease(ngx_http_request_t *r, ngx_str_t *lease)
{
    uint64_t  ident, id;

    if (ngx_http_arg(r, (u_char *) "lease", sizeof("lease") - 1, lease)
        != NGX_OK
        || lease->len != NGX_HTTP_IMS_LEASE
        || lease->data[16] != '-'
        || !ims_hex_u64(ims_str_set(lease->data, 16), &ident)
        || !ims_hex_u64(ims_str_set(lease->data + 17, 16), &id))
    {
        return NGX_DECLINED;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_ims_identity_ask(ngx_http_request_t *r,
    ngx_http_ims_identity_t *id, ngx_str_t *user)
{
    ims_str_t                    args[6];
    ngx_uint_t                   n;
    ngx_http_cleanup_t          *cln;
    ngx_http_ims_loc_conf_t     *ilcf;
    ngx_http_ims_pool_answer_t   answer;

    ilcf = ngx_http_get_module_loc_conf(r, ngx_http_ims_module);

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    args[0] = id->lease.len ? IMS_STR("RELEASE") : IMS_STR("ACQUIRE");
    args[1] = ngx_http_ims_str(&ilcf->identity_pool);
    args[2] = ngx_http_ims_str(&ilcf->identity_realm);
    args[3] = ngx_http_ims_str(user);

    n = 4;

    if (id->lease.len) {
        args[n++] = ngx_http_ims_str(&id->lease);
    }

    args[n++] = ims_str_set(id->sid, NGX_HTTP_IMS_SID);

    ngx_memzero(&answer, sizeof(ngx_http_ims_pool_answer_t));

    id->call = ngx_http_ims_pool_call(ngx_http_ims_worker, args, n,
                                      ngx_http_ims_identity_answer, id,
                                      &answer.code);
    if (id->call == NULL) {
        return ngx_http_ims_identity_refused(r, &answer);
    }

    cln->handler = ngx_http_ims_identity_cleanup;
    cln->data = id;

    /* a client that goes away meanwhile is noticed */

    if (!r->discard_body) {
        r->read_event_handler = ngx_http_test_reading;
    }

    r->write_event_handler = ngx_http_request_empty_handler;
    r->main->count++;

    return NGX_DONE;
}


static void
ngx_http_ims_identity_cleanup(void *data)
{
    ngx_http_ims_identity_t  *id = data;

    if (id->call) {
        ngx_http_ims_pool_cancel(id->call);
        id->call = NULL;
    }
}


static void
ngx_http_ims_identity_answer(void *data,
    const ngx_http_ims_pool_answer_t *answer)
{
    ngx_http_ims_identity_t  *id = data;

    ngx_int_t            rc;
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    id->call = NULL;

    r = id->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, c->log, 0,
                   "ims identity answer: %d", (int) answer->code);

    if (answer->code != NGX_HTTP_IMS_POOL_OK) {
        rc = ngx_http_ims_identity_refused(r, answer);

    } else if (id->lease.len) {
        rc = ngx_http_ims_identity_released(r, id, answer);

    } else {
        rc = ngx_http_ims_identity_acquired(r, id, answer);
    }

    ngx_http_finalize_request(r, rc);
    ngx_http_run_posted_requests(c);
}


static ngx_int_t
ngx_http_ims_identity_acquired(ngx_http_request_t *r,
    ngx_http_ims_identity_t *id, const ngx_http_ims_pool_answer_t *answer)
{
    u_char                   *token;
    size_t                    len;
    json_t                   *body;
    int64_t                   expires_in;
    const char               *fault;
    ngx_http_ims_given_t     *given;
    ngx_http_ims_loc_conf_t  *ilcf;

    ilcf = ngx_http_get_module_loc_conf(r, ngx_http_ims_module);

    given = ngx_pcalloc(r->pool, sizeof(ngx_http_ims_given_t));
    token = ngx_pnalloc(r->pool, IMS_TOKEN_MAX);

    if (given == NULL || token == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    fault = ngx_http_ims_identity_check(ilcf, id, answer, given);

    if (fault) {
        ngx_http_ims_count(identity_refused);
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "no token signed: %s", fault);
        return ngx_http_ims_identity_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                           "unavailable",
                                           NGX_HTTP_IMS_RETRY_AFTER);
    }

    if (ngx_http_ims_issuer_may(ilcf->identity_issuer, given->claims.pool,
                                given->claims.impu, given->claims.nimpu)
        != NGX_OK)
    {
        ngx_http_ims_count(identity_refused);
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "no token signed: issuer \"%V\" may not speak for an "
                      "identity of pool \"%V\"",
                      &ilcf->identity_issuer->name, &ilcf->identity_pool);
        return ngx_http_ims_identity_error(r, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                           "misconfigured", 0);
    }

    if (ngx_http_ims_identity_token(r, given, token, &len, &expires_in)
        != NGX_OK
        || ngx_http_ims_identity_set_cookie(r, id) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    body = ngx_http_ims_identity_json(r, given, ims_str_set(token, len),
                                      expires_in);
    if (body == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_ims_count(identity_given);

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "identity given: pool \"%V\", lease %*s, %L s",
                  &ilcf->identity_pool, given->claims.lease.n,
                  given->claims.lease.p, expires_in);

    return ngx_http_ims_identity_send(r, NGX_HTTP_OK, body);
}


/*
 * What came over the socket is looked at as if a stranger had sent it: it is
 * about to be signed.
 */

static const char *
ngx_http_ims_identity_check(ngx_http_ims_loc_conf_t *ilcf,
    ngx_http_ims_identity_t *id, const ngx_http_ims_pool_answer_t *answer,
    ngx_http_ims_given_t *given)
{
    u_char               tag[16];
    unsigned             i;
    ims_str_t            value;
    ims_token_claims_t  *c;
    const ims_reply_t   *reply;

    c = &given->claims;
    reply = answer->reply;

    c->sid = ims_reply_value(reply, "sid", 0);
    c->pool = ims_reply_value(reply, "pool", 0);

    if (!ims_str_eq(c->sid, ims_str_set(id->sid, NGX_HTTP_IMS_SID))
        || !ims_str_eq(c->pool, ngx_http_ims_str(&ilcf->identity_pool)))
    {
        ngx_http_ims_count(identity_mismatch);
        return "the answer is for another session or pool";
    }

    c->lease = ims_reply_value(reply, "lease", 0);

    if (c->lease.n != NGX_HTTP_IMS_LEASE || c->lease.p[16] != '-'
        || !ims_hex_u64(ims_str_set(c->lease.p, 16), &c->ident)
        || !ims_hex_u64(ims_str_set(c->lease.p + 17, 16), &c->lease_id)
        || !ims_hex_u64(c->sid, &c->session))
    {
        return "malformed lease in the answer";
    }

    c->sub = ims_reply_value(reply, "holder", 0);

    if (c->sub.n != IMS_TOKEN_SUB_LEN
        || ims_b64url_decode(tag, sizeof(tag), c->sub) != sizeof(tag))
    {
        return "malformed holder tag in the answer";
    }

    c->impi = ims_reply_value(reply, "impi", 0);

    if (!ims_sip_impi_ok(c->impi)) {
        return "unacceptable IMPI in the answer";
    }

    for (i = 0; i < IMS_TOKEN_IMPU_MAX + 1; i++) {
        value = ims_reply_value(reply, "impu", i);

        if (value.p == NULL) {
            break;
        }

        if (i == IMS_TOKEN_IMPU_MAX || !ims_sip_identity_ok(value)) {
            return "unacceptable or too many IMPUs in the answer";
        }

        c->impu[i] = value;
    }

    if (i == 0) {
        return "no IMPU in the answer";
    }

    c->nimpu = i;

    given->home = ims_reply_value(reply, "home", 0);
    given->display = ims_reply_value(reply, "display", 0);

    return ngx_http_ims_identity_times(reply, answer->asked, given);
}


/*
 * Nothing is known of the pool manager's clock but `now` in its answer, which
 * was read after we asked: counting from there is late by the way here, never
 * early, so that a token cannot outlive its lease.
 */

static const char *
ngx_http_ims_identity_times(const ims_reply_t *reply, uint64_t asked,
    ngx_http_ims_given_t *given)
{
    uint64_t  now, end, passed;

    if (!ims_str_u64(ims_reply_value(reply, "now", 0), INT64_MAX, &now)
        || !ims_str_u64(ims_reply_value(reply, "end", 0), INT64_MAX, &end)
        || end < now)
    {
        return "malformed times in the answer";
    }

    passed = ims_boottime_ms() - asked;

    if (end - now < passed + NGX_HTTP_IMS_LEASE_MIN) {
        return "the lease has less than two seconds left";
    }

    given->left = (int64_t) (end - now - passed);

    return NULL;
}


static ngx_int_t
ngx_http_ims_identity_token(ngx_http_request_t *r,
    ngx_http_ims_given_t *given, u_char *token, size_t *len,
    int64_t *expires_in)
{
    u_char                    jti[NGX_HTTP_IMS_KEY];
    int64_t                   wall;
    ims_token_err_t           err;
    ims_token_claims_t       *c;
    ngx_http_ims_ctx_t       *ctx;
    ngx_http_ims_issuer_t    *issuer;
    ngx_http_ims_loc_conf_t  *ilcf;

    ilcf = ngx_http_get_module_loc_conf(r, ngx_http_ims_module);
    ctx = ngx_http_get_module_ctx(r, ngx_http_ims_module);

    issuer = ilcf->identity_issuer;
    c = &given->claims;

    if (ngx_http_ims_identity_number(jti, sizeof(jti)) != NGX_OK) {
        return NGX_ERROR;
    }

    c->iss = issuer->token.iss;
    c->aud = issuer->token.aud;
    c->scope = issuer->token.scope.n ? issuer->token.scope
                                     : IMS_STR(IMS_TOKEN_SCOPE);
    c->jti = ims_str_set(jti, sizeof(jti));

    if (ctx->origin_present) {
        c->origin = ngx_http_ims_str(&ctx->origin);
    }

    wall = (int64_t) ims_wall_ms();

    c->iat = wall / 1000;
    c->nbf = c->iat;
    c->exp = (wall + given->left) / 1000 - 1;

    *expires_in = c->exp - c->iat;

    if (ims_token_sign(issuer->sign, c, token, IMS_TOKEN_MAX, len, &err)
        != 0)
    {
        ngx_http_ims_count(identity_refused);
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "no token signed: %s%s%s", ims_token_strerror(err.code),
                      err.claim ? ": " : "", err.claim ? err.claim : "");
        return NGX_ERROR;
    }

    return NGX_OK;
}


static json_t *
ngx_http_ims_identity_json(ngx_http_request_t *r,
    ngx_http_ims_given_t *given, ims_str_t token, int64_t expires_in)
{
    json_t              *o, *impus;
    unsigned             i;
    ngx_int_t            rc;
    ngx_str_t            uri;
    ims_token_claims_t  *c;

    if (ngx_http_ims_identity_ws_uri(r, &uri) != NGX_OK) {
        return NULL;
    }

    c = &given->claims;
    o = json_object();
    impus = json_array();

    rc = ngx_http_ims_json_set(o, "impi", c->impi)
         | ngx_http_ims_json_set(o, "impu", c->impu[0])
         | ngx_http_ims_json_set(o, "lease", c->lease)
         | ngx_http_ims_json_set(o, "token", token)
         | ngx_http_ims_json_set(o, "token_type", IMS_STR("Bearer"))
         | ngx_http_ims_json_set(o, "ws_uri", ngx_http_ims_str(&uri))
         | ngx_http_ims_json_set(o, "home_domain", given->home);

    for (i = 0; i < c->nimpu; i++) {
        rc |= json_array_append_new(impus, json_stringn((char *) c->impu[i].p,
                                                        c->impu[i].n));
    }

    rc |= json_object_set_new(o, "impus", impus);
    rc |= json_object_set_new(o, "expires_in", json_integer(expires_in));

    /* a name that is no UTF-8 is not worth an error */

    if (given->display.n) {
        (void) ngx_http_ims_json_set(o, "display", given->display);
    }

    if (rc != 0) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "identity could not be written as JSON");
        json_decref(o);
        return NULL;
    }

    return o;
}


/* by default on the host that was asked, under /ims/ws */

static ngx_int_t
ngx_http_ims_identity_ws_uri(ngx_http_request_t *r, ngx_str_t *uri)
{
    u_char                   *p;
    ngx_str_t                *host;
    ngx_http_ims_loc_conf_t  *ilcf;

    ilcf = ngx_http_get_module_loc_conf(r, ngx_http_ims_module);

    if (ilcf->identity_ws_uri) {
        if (ngx_http_complex_value(r, ilcf->identity_ws_uri, uri) != NGX_OK) {
            return NGX_ERROR;
        }

        if (!ims_str_eq(ngx_http_ims_str(uri), IMS_STR("auto"))) {
            return NGX_OK;
        }
    }

    host = r->headers_in.host ? &r->headers_in.host->value
                              : &r->headers_in.server;

    uri->data = ngx_pnalloc(r->pool, sizeof("wss://" NGX_HTTP_IMS_WS_PATH)
                                     + host->len);
    if (uri->data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_sprintf(uri->data, "%s://%V" NGX_HTTP_IMS_WS_PATH,
                    ngx_http_ims_identity_secure(r) ? "wss" : "ws", host);

    uri->len = p - uri->data;

    return NGX_OK;
}


/*
 * An https page cannot have asked over plain http, so that its Origin tells
 * of TLS that ends in front of this server.
 */

static ngx_uint_t
ngx_http_ims_identity_secure(ngx_http_request_t *r)
{
    ims_origin_t         origin;
    ngx_http_ims_ctx_t  *ctx;

#if (NGX_HTTP_SSL)

    if (r->connection->ssl) {
        return 1;
    }

#endif

    ctx = ngx_http_get_module_ctx(r, ngx_http_ims_module);

    return ctx->origin_present
           && ims_origin_parse(&origin, ngx_http_ims_str(&ctx->origin))
           && ims_str_caseeq(origin.scheme, IMS_STR("https"));
}


static ngx_int_t
ngx_http_ims_identity_released(ngx_http_request_t *r,
    ngx_http_ims_identity_t *id, const ngx_http_ims_pool_answer_t *answer)
{
    ngx_str_t  no_store;

    if (!ims_str_caseeq(ims_reply_value(answer->reply, "lease", 0),
                        ngx_http_ims_str(&id->lease)))
    {
        ngx_http_ims_count(identity_mismatch);
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "release answered for another lease");
        return ngx_http_ims_identity_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                           "unavailable",
                                           NGX_HTTP_IMS_RETRY_AFTER);
    }

    ngx_http_ims_count(identity_released);
    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "session released: lease %V", &id->lease);

    /* a session that has ended does not come back under the same number */

    ngx_str_set(&no_store, "no-store");

    if (ngx_http_ims_identity_number(id->sid, NGX_HTTP_IMS_SID) != NGX_OK
        || ngx_http_ims_identity_set_cookie(r, id) != NGX_OK
        || ngx_http_ims_header_out(r, "Cache-Control", &no_store) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->headers_out.status = NGX_HTTP_NO_CONTENT;
    r->header_only = 1;

    return ngx_http_send_header(r);
}


/* everything that is not OK, whether the pool manager said it or we do */

static ngx_int_t
ngx_http_ims_identity_refused(ngx_http_request_t *r,
    const ngx_http_ims_pool_answer_t *answer)
{
    u_char      text[NGX_HTTP_IMS_LOG_TEXT];
    uint64_t    retry_after;
    ngx_str_t   line;
    ngx_log_t  *log;

    log = r->connection->log;
    retry_after = ngx_max(answer->retry_after, NGX_HTTP_IMS_RETRY_AFTER);

    switch (answer->code) {

    case NGX_HTTP_IMS_POOL_EXHAUSTED:
        ngx_http_ims_count(identity_exhausted);
        ngx_log_error(NGX_LOG_WARN, log, 0,
                      "no identity is free in the pool for %uL s",
                      retry_after);
        return ngx_http_ims_identity_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                           "pool_exhausted", retry_after);

    case NGX_HTTP_IMS_POOL_HOLD:
        ngx_http_ims_count(identity_hold);
        ngx_log_error(NGX_LOG_WARN, log, 0,
                      "the pool is in a hold for %uL s", retry_after);
        return ngx_http_ims_identity_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                           "pool_hold", retry_after);

    case NGX_HTTP_IMS_POOL_ENDED:
        ngx_http_ims_count(identity_conflict);
        ngx_log_error(NGX_LOG_INFO, log, 0,
                      "release refused: not the holder");
        return ngx_http_ims_identity_error(r, NGX_HTTP_CONFLICT, "conflict",
                                           0);

    case NGX_HTTP_IMS_POOL_REFUSED:
        line.data = (u_char *) answer->error.p;
        line.len = answer->error.n;
        ngx_http_ims_count(identity_refused);
        ngx_log_error(NGX_LOG_ERR, log, 0, "pool manager refused: \"%s\"",
                      ngx_http_ims_log_text(text, &line));
        return ngx_http_ims_identity_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                           "refused", retry_after);

    default: /* BUSY, AWAY, TIMEOUT, MISMATCH */

        /* an outage has its own one line in the log, of higher level */

        ngx_http_ims_count(identity_unavailable);

        if (answer->error.n) {

            /* "-BUSY": an edge is purging the identity of this user */

            line.data = (u_char *) answer->error.p;
            line.len = answer->error.n;
            ngx_log_error(NGX_LOG_INFO, log, 0,
                          "pool manager put this request off: \"%s\"",
                          ngx_http_ims_log_text(text, &line));

        } else {
            ngx_log_error(NGX_LOG_INFO, log, 0,
                          "no answer of the pool manager for this request");
        }

        return ngx_http_ims_identity_error(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                                           "unavailable", retry_after);
    }
}


static ngx_int_t
ngx_http_ims_identity_error(ngx_http_request_t *r, ngx_uint_t status,
    const char *error, uint64_t retry_after)
{
    json_t     *body;
    ngx_str_t   value;

    body = json_object();

    if (json_object_set_new(body, "error", json_string(error)) != 0) {
        json_decref(body);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (retry_after) {
        value.data = ngx_pnalloc(r->pool, NGX_INT64_LEN);
        if (value.data == NULL) {
            json_decref(body);
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        value.len = ngx_sprintf(value.data, "%uL", retry_after) - value.data;

        if (json_object_set_new(body, "retry_after",
                                json_integer((json_int_t) retry_after))
            != 0
            || ngx_http_ims_header_out(r, "Retry-After", &value) != NGX_OK)
        {
            json_decref(body);
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    return ngx_http_ims_identity_send(r, status, body);
}


/* takes the reference to body */

static ngx_int_t
ngx_http_ims_identity_send(ngx_http_request_t *r, ngx_uint_t status,
    json_t *body)
{
    size_t        len;
    ngx_buf_t    *b;
    ngx_int_t     rc;
    ngx_str_t     no_store;
    ngx_chain_t   out;

    ngx_str_set(&no_store, "no-store");

    len = json_dumpb(body, NULL, 0, JSON_COMPACT);

    b = len ? ngx_create_temp_buf(r->pool, len) : NULL;

    if (b) {
        b->last += json_dumpb(body, (char *) b->pos, len, JSON_COMPACT);
        b->last_buf = 1;
        b->last_in_chain = 1;
    }

    json_decref(body);

    if (b == NULL
        || ngx_http_ims_header_out(r, "Cache-Control", &no_store) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->headers_out.status = status;
    r->headers_out.content_length_n = len;
    ngx_str_set(&r->headers_out.content_type, "application/json");
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}


/*
 * Strict where page and endpoint are one site.  A page of another site can
 * only be served over TLS, with SameSite=None; that it may ask at all was the
 * Origin's verdict.
 */

static ngx_int_t
ngx_http_ims_identity_set_cookie(ngx_http_request_t *r,
    ngx_http_ims_identity_t *id)
{
    u_char                   *p;
    ngx_uint_t                secure;
    const char               *same_site;
    ngx_table_elt_t          *h;
    ngx_http_ims_loc_conf_t  *ilcf;

    ilcf = ngx_http_get_module_loc_conf(r, ngx_http_ims_module);

    secure = ngx_http_ims_identity_secure(r);
    same_site = !ngx_http_ims_identity_cross_site(r) ? "Strict"
                : secure ? "None" : "Lax";

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(h, sizeof(ngx_table_elt_t));
    ngx_str_set(&h->key, "Set-Cookie");

    p = ngx_pnalloc(r->pool, ilcf->identity_cookie.len + NGX_HTTP_IMS_COOKIE
                             + ilcf->identity_path.len
                             + sizeof("=; Path=; HttpOnly; SameSite=Strict"
                                      "; Secure"));
    if (p == NULL) {
        return NGX_ERROR;
    }

    h->value.data = p;

    p = ngx_sprintf(p, "%V=%*s.%*s; Path=%V; HttpOnly; SameSite=%s%s",
                    &ilcf->identity_cookie, (size_t) NGX_HTTP_IMS_SID,
                    id->sid, (size_t) NGX_HTTP_IMS_KEY, id->key,
                    &ilcf->identity_path, same_site,
                    secure ? "; Secure" : "");

    h->value.len = p - h->value.data;
    h->hash = 1;

    return NGX_OK;
}


static ngx_uint_t
ngx_http_ims_identity_cross_site(ngx_http_request_t *r)
{
    ngx_uint_t           n;
    ims_origin_t         origin;
    ngx_table_elt_t     *h;
    ngx_http_ims_ctx_t  *ctx;

    h = ngx_http_ims_header_in(r, "sec-fetch-site", &n);

    if (n) {
        return ims_str_eq(ngx_http_ims_str(&h->value), IMS_STR("cross-site"));
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_ims_module);

    return ctx->origin_present
           && ims_origin_parse(&origin, ngx_http_ims_str(&ctx->origin))
           && !ims_str_caseeq(origin.host,
                              ngx_http_ims_str(&r->headers_in.server));
}


/* 0 or -1, so that results can be or'ed; -1 also for what is no UTF-8 */

static ngx_int_t
ngx_http_ims_json_set(json_t *object, const char *name, ims_str_t value)
{
    return json_object_set_new(object, name,
                               json_stringn((char *) value.p, value.n));
}


/* ims_identity POOL [issuer=NAME] */

char *
ngx_http_ims_identity(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_ims_loc_conf_t *ilcf = conf;

    ngx_str_t                  *value, name;
    ngx_http_ims_issuer_t     **issuer;
    ngx_http_core_loc_conf_t   *clcf;
    ngx_http_ims_main_conf_t   *imcf;

    if (ilcf->endpoint == NGX_HTTP_IMS_IS_IDENTITY) {
        return "is duplicate";
    }

    if (ilcf->endpoint != NGX_HTTP_IMS_IS_NOTHING) {
        return "and \"ims_pass\" or \"ims_status\" in one location";
    }

    imcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_ims_module);
    value = cf->args->elts;

    if (value[1].len == 0) {
        return "has an empty pool name";
    }

    if (cf->args->nelts == 3) {
        if (ngx_strncmp(value[2].data, "issuer=", 7) != 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\"", &value[2]);
            return NGX_CONF_ERROR;
        }

        name.data = value[2].data + 7;
        name.len = value[2].len - 7;

        ilcf->identity_issuer = ngx_http_ims_issuer_find(imcf, &name);

        if (ilcf->identity_issuer == NULL) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "unknown issuer \"%V\": an \"ims_issuer\" "
                               "block must stand before its use", &name);
            return NGX_CONF_ERROR;
        }

    } else {
        if (imcf->issuers == NULL) {
            return "needs an \"ims_issuer\" block before it";
        }

        if (imcf->issuers->nelts > 1) {
            return "needs \"issuer=\": there are several";
        }

        issuer = imcf->issuers->elts;
        ilcf->identity_issuer = issuer[0];
    }

    ilcf->identity_pool = value[1];
    ilcf->endpoint = NGX_HTTP_IMS_IS_IDENTITY;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = ngx_http_ims_identity_handler;

    ngx_http_ims_identity_cookie_path(clcf, &ilcf->identity_path);

    return NGX_CONF_OK;
}


/* the location's own path where it has one that a cookie can name */

static void
ngx_http_ims_identity_cookie_path(ngx_http_core_loc_conf_t *clcf,
    ngx_str_t *path)
{
    size_t  i;

    *path = clcf->name;

    for (i = 0; i < path->len; i++) {
        if (path->data[i] <= ' ' || path->data[i] > 0x7e
            || path->data[i] == ';' || path->data[i] == '%')
        {
            break;
        }
    }

    if (path->len == 0 || path->data[0] != '/' || i < path->len
#if (NGX_PCRE)
        || clcf->regex
#endif
        )
    {
        ngx_str_set(path, "/");
    }
}


/* a fixed name would make one user of everybody */

char *
ngx_http_ims_identity_user(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_ims_loc_conf_t *ilcf = conf;

    ngx_str_t                         *value;
    ngx_http_compile_complex_value_t   ccv;

    if (ilcf->identity_user != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        ilcf->identity_user = NULL;
        return NGX_CONF_OK;
    }

    ilcf->identity_user = ngx_palloc(cf->pool,
                                     sizeof(ngx_http_complex_value_t));
    if (ilcf->identity_user == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &value[1];
    ccv.complex_value = ilcf->identity_user;

    if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    if (ilcf->identity_user->lengths == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"ims_identity_user\" \"%V\" has no variable",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}
