/*
 * Copyright (C) nginx-ims contributors
 *
 * Walks over all identities, a slice a command: LIST, IDENTITY LIST, EXPORT.
 * The next slice begins where the cursor says, in a snapshot of its own.
 */

#include "mgr_job.h"


#define MGR_LIST_ROWS  100          /* without a count */


/* one slice */
typedef struct {
    uint64_t        pos;            /* of the next one; 0: that was all */
    uint64_t        now;
    unsigned        n;
    ims_pool_rec_t  rec[MGR_JOB_ROWS];
    ims_pool_st_e   st[MGR_JOB_ROWS];
} mgr_list_t;


static mgr_list_t *mgr_list(mgr_call_t *call, unsigned i, bool states);
static bool mgr_list_state(mgr_call_t *call, unsigned i, int *state);
static int mgr_list_cb(void *ctx, const ims_pool_rec_t *rec,
    ims_pool_st_e st);
static const ims_pool_names_t *mgr_list_names(mgr_call_t *call,
    uint64_t ident);
static void mgr_list_row(mgr_call_t *call, const ims_pool_rec_t *rec,
    ims_pool_st_e st, uint64_t now);
static void mgr_identity_row(mgr_call_t *call, const ims_pool_rec_t *rec,
    ims_pool_st_e st);
static void mgr_export_row(ims_resp_buf_t *text,
    const ims_pool_names_t *names);


/* LIST <pool>|* <state>|* <cursor> [<count>] */

void
mgr_cmd_list(mgr_call_t *call)
{
    unsigned     i;
    mgr_list_t  *list;

    list = mgr_list(call, 1, true);

    if (list == NULL) {
        return;
    }

    ims_resp_array(call->out, 2);
    ims_resp_bulk_u64(call->out, list->pos);
    ims_resp_array(call->out, list->n);

    for (i = 0; i < list->n; i++) {
        mgr_list_row(call, &list->rec[i], list->st[i], list->now);
    }
}


/* IDENTITY LIST <pool>|* <state>|* <cursor> [<count>] */

void
mgr_cmd_identity_list(mgr_call_t *call)
{
    unsigned     i;
    mgr_list_t  *list;

    list = mgr_list(call, 2, true);

    if (list == NULL) {
        return;
    }

    ims_resp_array(call->out, 2);
    ims_resp_bulk_u64(call->out, list->pos);
    ims_resp_array(call->out, list->n);

    for (i = 0; i < list->n; i++) {
        mgr_identity_row(call, &list->rec[i], list->st[i]);
    }
}


/*
 * EXPORT <pool> <cursor> [<count>]
 *
 * The next cursor, and rows as IMPORT ROWS takes them.  What is being removed
 * or imported is not among them.
 */

void
mgr_cmd_export(mgr_call_t *call)
{
    unsigned                 i;
    mgr_list_t              *list;
    ims_resp_buf_t           text;
    const ims_pool_names_t  *names;

    list = mgr_list(call, 1, false);

    if (list == NULL) {
        return;
    }

    memset(&text, 0, sizeof(text));

    for (i = 0; i < list->n; i++) {

        if (list->rec[i].flags & (IMS_POOL_F_REMOVING|IMS_POOL_F_STAGED)) {
            continue;
        }

        names = mgr_list_names(call, list->rec[i].ident);

        if (names == NULL) {

            /* a copy that lacks one would pass for a whole one */

            ims_resp_free(&text);
            mgr_refuse(call, IMS_POOL_INTERNAL, 0);
            return;
        }

        mgr_export_row(&text, names);
    }

    ims_resp_array(call->out, 2);
    ims_resp_bulk_u64(call->out, list->pos);
    ims_resp_bulk(call->out, ims_str_set(text.p, text.n));

    call->out->failed |= text.failed;
    ims_resp_free(&text);
}


/* from argument i on: a pool, (states) a state, a cursor, perhaps a count */

static mgr_list_t *
mgr_list(mgr_call_t *call, unsigned i, bool states)
{
    int                rc, state;
    uint32_t           no;
    uint64_t           n;
    ims_pool_t         pool;
    static mgr_list_t  list;        /* 200 KiB */

    no = 0;

    if (!states || !mgr_arg_is(call, i, "*")) {

        rc = ims_pool_get(call->server->pool, mgr_arg(call, i), &pool);

        if (rc != IMS_POOL_OK) {
            mgr_refuse(call, rc, 0);
            return NULL;
        }

        no = pool.head.pool;
    }

    state = -1;
    i++;

    if (states && !mgr_list_state(call, i++, &state)) {
        return NULL;
    }

    n = MGR_LIST_ROWS;

    if (!ims_str_u64(mgr_arg(call, i), UINT64_MAX, &list.pos)
        || (mgr_args(call) == i + 2
            && (!ims_str_u64(mgr_arg(call, i + 1), MGR_JOB_ROWS, &n)
                || n == 0)))
    {
        mgr_badarg(call, "cursor is a number, count is 1 to 1000");
        return NULL;
    }

    list.n = 0;

    rc = ims_pool_walk(call->server->pool, no, state, &list.pos, (unsigned) n,
                       mgr_list_cb, &list);

    if (rc != IMS_POOL_OK && rc != IMS_POOL_MORE) {
        mgr_refuse(call, rc, 0);
        return NULL;
    }

    if (rc == IMS_POOL_OK) {
        list.pos = 0;
    }

    list.now = ims_pool_now(call->server->pool);

    return &list;
}


static bool
mgr_list_state(mgr_call_t *call, unsigned i, int *state)
{
    unsigned  st;

    if (mgr_arg_is(call, i, "*")) {
        return true;
    }

    for (st = 0; st < IMS_POOL_STATES; st++) {
        if (mgr_arg_is(call, i, ims_pool_st_text((ims_pool_st_e) st))) {
            *state = (int) st;
            return true;
        }
    }

    mgr_badarg(call, "state is free, leased, resting, off or *");

    return false;
}


static int
mgr_list_cb(void *ctx, const ims_pool_rec_t *rec, ims_pool_st_e st)
{
    mgr_list_t  *list = ctx;

    if (list->n == MGR_JOB_ROWS) {
        return 1;
    }

    list->rec[list->n] = *rec;
    list->st[list->n++] = st;

    return 0;
}


static const ims_pool_names_t *
mgr_list_names(mgr_call_t *call, uint64_t ident)
{
    static ims_pool_names_t  names;     /* 4 KiB and more */

    return ims_pool_names(ims_pool_writer_reader(call->server->pool), ident,
                          &names)
           == IMS_POOL_OK ? &names : NULL;
}


static void
mgr_list_row(mgr_call_t *call, const ims_pool_rec_t *rec, ims_pool_st_e st,
    uint64_t now)
{
    const ims_pool_names_t  *names;

    names = mgr_list_names(call, rec->ident);

    ims_resp_array(call->out, 2 * 8);

    mgr_pair_hex(call, "ident", rec->ident);
    mgr_pair_z(call, "state", ims_pool_st_text(st));
    mgr_pair(call, "impu", names && names->nimpu ? names->impu[0].given
                                                 : IMS_STR_NULL);
    mgr_pair_lease(call, rec);
    mgr_pair_u64(call, "now", now);
    mgr_pair_u64(call, "start", rec->start);
    mgr_pair_u64(call, "end", rec->end);
    mgr_pair_u64(call, "rest", rec->rest);
}


static void
mgr_identity_row(mgr_call_t *call, const ims_pool_rec_t *rec,
    ims_pool_st_e st)
{
    char                     pool[IMS_POOL_NAME_MAX + 1];
    unsigned                 i, n;
    const ims_pool_names_t  *names;

    names = mgr_list_names(call, rec->ident);
    n = names ? names->nimpu : 0;

    ims_resp_array(call->out, 2 * (6 + (size_t) n));

    mgr_pair_hex(call, "ident", rec->ident);
    mgr_pair_z(call, "pool", mgr_pool_name(call->server, rec->pool, pool));
    mgr_pair_z(call, "state", ims_pool_st_text(st));
    mgr_pair_flags(call, rec->flags);
    mgr_pair(call, "impi", names ? names->impi : IMS_STR_NULL);

    for (i = 0; i < n; i++) {
        mgr_pair(call, "impu", names->impu[i].given);
    }

    mgr_pair(call, "display", names ? names->display : IMS_STR_NULL);
}


static void
mgr_export_row(ims_resp_buf_t *text, const ims_pool_names_t *names)
{
    unsigned  i;

    ims_resp_raw(text, names->impi.p, names->impi.n);
    ims_resp_raw(text, "\t", 1);
    ims_resp_raw(text, names->display.p, names->display.n);

    for (i = 0; i < names->nimpu; i++) {
        ims_resp_raw(text, "\t", 1);
        ims_resp_raw(text, names->impu[i].given.p, names->impu[i].given.n);
    }

    ims_resp_raw(text, "\n", 1);
}
