/*
 * Copyright (C) nginx-ims contributors
 *
 * HISTORY NAME, LEASE, USER: who held what, when.  One answer is one slice;
 * the cursor tells where the next one begins.
 */

#include <stdio.h>
#include <stdlib.h>

#include "mgr_command.h"


#define MGR_HISTORY_ROWS    200     /* rows of an answer */
#define MGR_HISTORY_SCAN    1000    /* rows looked at for it */
#define MGR_HISTORY_IDENTS  64      /* that had one name, at most */
#define MGR_HISTORY_CURSOR  34      /* "h" or "r", lease */


/* leases that fit, on their way into the answer */
typedef struct {
    mgr_call_t        *call;
    uint64_t           from;            /* wall ms */
    uint64_t           to;
    uint64_t           lease;           /* 0: any */
    ims_str_t          realm;
    ims_str_t          user;
    bool               only;            /* those of this user */
    unsigned           n;
    ims_pool_past_t    past[MGR_HISTORY_SCAN];
} mgr_history_t;


static mgr_history_t *mgr_history_new(mgr_call_t *call);
static bool mgr_history_times(mgr_call_t *call, unsigned i,
    mgr_history_t *h);
static bool mgr_history_cursor(ims_str_t text, uint64_t *a, uint64_t *b);
static int mgr_history_cmp(const void *a, const void *b);
static void mgr_history_row(void *ctx, const ims_pool_past_t *past);
static void mgr_history_answer(mgr_call_t *call, mgr_history_t *h,
    const char *cursor);
static void mgr_history_pairs(mgr_call_t *call, mgr_history_t *h,
    const ims_pool_past_t *past, const ims_pool_names_t *names);


/* HISTORY NAME <IMPU or IMPI> <from> <to> <cursor> [<realm> <user>] */

void
mgr_cmd_history_name(mgr_call_t *call)
{
    int             rc, i, n;
    char            cursor[MGR_HISTORY_CURSOR + 1];
    uint64_t        ident, lease, idents[MGR_HISTORY_IDENTS];
    mgr_history_t  *h;

    h = mgr_history_new(call);

    if (!mgr_history_times(call, 3, h)) {
        return;
    }

    if (!mgr_history_cursor(mgr_arg(call, 5), &ident, &lease)) {
        mgr_badarg(call, "cursor");
        return;
    }

    if (mgr_args(call) > 6) {
        h->realm = mgr_arg(call, 6);
        h->user = mgr_arg(call, 7);
    }

    n = ims_pool_former(call->server->pool, mgr_arg(call, 2), idents,
                        MGR_HISTORY_IDENTS);

    if (n < 0) {
        if (n == IMS_POOL_BADARG) {
            mgr_badarg(call, "not an IMPU or IMPI");

        } else {
            mgr_refuse(call, n, 0);
        }

        return;
    }

    if (n == 0) {
        mgr_refuse(call, IMS_POOL_NOTFOUND, 0);
        return;
    }

    qsort(idents, (size_t) n, sizeof(idents[0]), mgr_history_cmp);

    for (i = 0; i < n - 1 && idents[i] < ident; i++) {
        /* void */
    }

    if (idents[i] != ident) {
        lease = 0;
    }

    rc = ims_pool_history(call->server->pool, idents[i], &lease,
                          MGR_HISTORY_ROWS, mgr_history_row, h);

    if (rc == IMS_POOL_OK && i + 1 < n) {
        rc = IMS_POOL_MORE;
        lease = 0;
        i++;
    }

    if (rc < 0) {
        mgr_refuse(call, rc, 0);
        return;
    }

    memcpy(cursor, "0", 2);

    if (rc == IMS_POOL_MORE) {
        snprintf(cursor, sizeof(cursor), "%016llx-%016llx",
                 (unsigned long long) idents[i], (unsigned long long) lease);
    }

    mgr_history_answer(call, h, cursor);
}


static int
mgr_history_cmp(const void *a, const void *b)
{
    const uint64_t  *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}


/* HISTORY LEASE <lease> [<realm> <user>] */

void
mgr_cmd_history_lease(mgr_call_t *call)
{
    int             rc;
    uint64_t        ident, lease;
    mgr_history_t  *h;

    h = mgr_history_new(call);

    if (!ims_pool_lease_parse(mgr_arg(call, 2), &ident, &lease)) {
        mgr_badarg(call, "lease");
        return;
    }

    if (mgr_args(call) > 3) {
        h->realm = mgr_arg(call, 3);
        h->user = mgr_arg(call, 4);
    }

    h->lease = lease;

    rc = ims_pool_history(call->server->pool, ident, &lease, 1,
                          mgr_history_row, h);

    if (rc < 0 || h->n == 0) {
        mgr_refuse(call, rc < 0 ? rc : IMS_POOL_NOTFOUND, 0);
        return;
    }

    mgr_history_answer(call, h, "0");
}


/* HISTORY USER <realm> <user> <from> <to> <cursor> */

void
mgr_cmd_history_user(mgr_call_t *call)
{
    int                  rc;
    char                 cursor[MGR_HISTORY_CURSOR + 1];
    ims_str_t            text;
    mgr_history_t       *h;
    ims_pool_history_t   pos;

    h = mgr_history_new(call);

    if (!mgr_history_times(call, 4, h)) {
        return;
    }

    memset(&pos, 0, sizeof(pos));
    text = mgr_arg(call, 6);

    if (!ims_str_eq(text, IMS_STR("0"))) {

        pos.records = text.n != 0 && text.p[0] == 'r';

        if (text.n != MGR_HISTORY_CURSOR
            || (text.p[0] != 'r' && text.p[0] != 'h')
            || !mgr_history_cursor(ims_str_set(text.p + 1, text.n - 1),
                                   &pos.ident, &pos.lease))
        {
            mgr_badarg(call, "cursor");
            return;
        }
    }

    h->realm = mgr_arg(call, 2);
    h->user = mgr_arg(call, 3);
    h->only = true;

    rc = ims_pool_history_walk(call->server->pool, &pos, MGR_HISTORY_SCAN,
                               mgr_history_row, h);

    if (rc < 0) {
        mgr_refuse(call, rc, 0);
        return;
    }

    if (rc == IMS_POOL_OK) {
        mgr_history_answer(call, h, "0");
        return;
    }

    snprintf(cursor, sizeof(cursor), "%c%016llx-%016llx",
             pos.records ? 'r' : 'h', (unsigned long long) pos.ident,
             (unsigned long long) pos.lease);
    mgr_history_answer(call, h, cursor);
}


static mgr_history_t *
mgr_history_new(mgr_call_t *call)
{
    static mgr_history_t  h;            /* 80 KiB */

    h.call = call;
    h.from = 0;
    h.to = UINT64_MAX;
    h.lease = 0;
    h.realm = IMS_STR_NULL;
    h.user = IMS_STR_NULL;
    h.only = false;
    h.n = 0;

    return &h;
}


/* ms since 1970, or "-" */

static bool
mgr_history_times(mgr_call_t *call, unsigned i, mgr_history_t *h)
{
    if ((mgr_arg_is(call, i, "-")
         || ims_str_u64(mgr_arg(call, i), UINT64_MAX, &h->from))
        && (mgr_arg_is(call, i + 1, "-")
            || ims_str_u64(mgr_arg(call, i + 1), UINT64_MAX, &h->to)))
    {
        return true;
    }

    mgr_badarg(call, "from and to are ms since 1970, or \"-\"");

    return false;
}


/* "0", or two numbers of 16 hex digits */

static bool
mgr_history_cursor(ims_str_t text, uint64_t *a, uint64_t *b)
{
    *a = 0;
    *b = 0;

    if (ims_str_eq(text, IMS_STR("0"))) {
        return true;
    }

    return text.n == 33 && text.p[16] == '-'
           && ims_hex_u64(ims_str_set(text.p, 16), a)
           && ims_hex_u64(ims_str_set(text.p + 17, 16), b);
}


static void
mgr_history_row(void *ctx, const ims_pool_past_t *past)
{
    mgr_history_t  *h = ctx;

    if (past->start_wall > h->to
        || (past->end_wall <= h->from && past->reason != IMS_POOL_END_NONE)
        || (h->lease != 0 && past->lease != h->lease)
        || (h->only && ims_pool_past_is(h->call->server->pool, past, h->realm,
                                        h->user) != 1)
        || h->n == MGR_HISTORY_SCAN)
    {
        return;
    }

    h->past[h->n++] = *past;
}


static void
mgr_history_answer(mgr_call_t *call, mgr_history_t *h, const char *cursor)
{
    unsigned                 i;
    static ims_pool_names_t  names;

    ims_resp_array(call->out, 2);
    ims_resp_bulk_z(call->out, cursor);
    ims_resp_array(call->out, h->n);

    names.ident = 0;

    for (i = 0; i < h->n; i++) {

        if (names.ident != h->past[i].ident
            && ims_pool_names(ims_pool_writer_reader(call->server->pool),
                              h->past[i].ident, &names) != IMS_POOL_OK)
        {
            memset(&names, 0, offsetof(ims_pool_names_t, buf));
        }

        mgr_history_pairs(call, h, &h->past[i], &names);
    }
}


static void
mgr_history_pairs(mgr_call_t *call, mgr_history_t *h,
    const ims_pool_past_t *past, const ims_pool_names_t *names)
{
    int       is;
    char      pool[IMS_POOL_NAME_MAX + 1];
    uint8_t   lease[IMS_POOL_LEASE_TEXT];
    uint8_t   user[ims_b64url_len(IMS_POOL_HOLDER_LEN)];
    unsigned  i;

    static const char *const  answer[] = { "unknown", "no", "yes" };

    is = h->realm.n ? ims_pool_past_is(call->server->pool, past, h->realm,
                                       h->user)
                    : -2;

    ims_resp_array(call->out,
                   2 * (9 + (size_t) names->nimpu + (is != -2)));

    ims_pool_lease_format(lease, past->ident, past->lease);
    mgr_pair(call, "lease", ims_str_set(lease, sizeof(lease)));
    mgr_pair_z(call, "pool", mgr_pool_name(call->server, past->pool, pool));
    mgr_pair(call, "impi", names->impi);

    for (i = 0; i < names->nimpu; i++) {
        mgr_pair(call, "impu", names->impu[i].given);
    }

    ims_b64url_encode(user, past->user, sizeof(past->user));
    mgr_pair(call, "user", ims_str_set(user, sizeof(user)));
    mgr_pair_u64(call, "key", past->hash_key);
    mgr_pair_u64(call, "issuer", past->issuer);
    mgr_pair_u64(call, "from", past->start_wall);
    mgr_pair_u64(call, "to", past->end_wall);
    mgr_pair_z(call, "reason", ims_pool_end_text(past->reason));

    if (is != -2) {
        mgr_pair_z(call, "was", answer[is + 1]);
    }
}
