/*
 * Copyright (C) nginx-ims contributors
 *
 * Identities come in: one by one, or by an import that is all or nothing.
 *
 * An import's rows are staged: in `ident`, `name` and `uri`, so that nothing
 * can be imported twice, but not in `avail`, so that nobody gets them.  Its
 * end is one write, after which they are published in slices; and a start of
 * the pool manager finishes or undoes what it finds.
 */

#include "ims_pool_wint.h"
#include "sip/ims_sip_uri.h"


#define IMS_POOL_DISPLAY_MAX   255
#define IMS_POOL_START_SLICE   10000    /* nobody waits for a lease yet */


/* An identity's names made ready for writing. */
typedef struct {
    ims_pool_names_t  names;                            /* buf is not used */
    size_t            n;                                /* of row */
    uint8_t           row[IMS_POOL_NAMES_MAX];
    uint8_t           canon[IMS_POOL_IMPUS][IMS_POOL_KEY_MAX];
    uint8_t           fold[IMS_POOL_IMPUS][IMS_POOL_KEY_MAX];
    size_t            nfold[IMS_POOL_IMPUS];
    uint8_t           impi[IMS_POOL_KEY_MAX];
    size_t            nimpi;
    uint64_t          gone[IMS_POOL_IMPUS + 1];         /* to be forgotten */
    unsigned          ngone;
} ims_pool_prep_t;


/* Where it is looked up whether a name is taken. */
typedef struct {
    MDB_txn          *txn;
    const MDB_dbi    *dbi;
    uint64_t          now;
} ims_pool_taken_t;


static ims_pool_row_fault_e ims_pool_prepare(ims_pool_prep_t *prep,
    const ims_pool_identity_t *row, uint64_t ident, uint32_t import_no,
    unsigned *at);
static ims_pool_row_fault_e ims_pool_prepare_impu(ims_pool_prep_t *prep,
    const ims_pool_identity_t *row, unsigned i);
static bool ims_pool_display_ok(ims_str_t display);
static int ims_pool_unique(const ims_pool_taken_t *t, ims_pool_prep_t *prep,
    ims_pool_row_result_t *res);
static int ims_pool_unique_key(const ims_pool_taken_t *t,
    ims_pool_prep_t *prep, const uint8_t *key, size_t nkey,
    ims_pool_row_result_t *res);
static bool ims_pool_unique_gone(const ims_pool_taken_t *t,
    ims_pool_prep_t *prep, uint64_t ident);
static int ims_pool_identity_put(ims_pool_writer_t *w, uint32_t pool,
    const ims_pool_identity_t *row, uint64_t rest, uint32_t import_no,
    ims_pool_rec_t *rec, ims_pool_row_result_t *res);
static int ims_pool_identity_uris(ims_pool_writer_t *w,
    const ims_pool_prep_t *prep, const ims_pool_rec_t *rec);
static int ims_pool_import_load(ims_pool_writer_t *w, uint32_t import_no,
    ims_pool_import_t *imp);
static int ims_pool_import_save(ims_pool_writer_t *w,
    const ims_pool_import_t *imp);
static int ims_pool_import_idle(ims_pool_writer_t *w);
static int ims_pool_import_decide(ims_pool_writer_t *w, uint32_t import_no,
    ims_pool_import_e state);
static int ims_pool_import_publish(ims_pool_writer_t *w, uint64_t ident);
static int ims_pool_count(ims_pool_writer_t *w, uint32_t pool, uint64_t n);


const char *
ims_pool_row_fault_text(ims_pool_row_fault_e fault)
{
    static const char *const  text[] = {
        "ok", "not an IMPI", "not an IMPU", "no IMPU or too many of them",
        "names too long", "IMPI taken", "IMPU taken", "not a display name"
    };

    return (size_t) fault < sizeof(text) / sizeof(text[0]) ? text[fault] : "?";
}


ims_pool_row_fault_e
ims_pool_identity_check(const ims_pool_identity_t *row, unsigned *at)
{
    ims_pool_prep_t  prep;

    return ims_pool_prepare(&prep, row, 0, 0, at);
}


ims_pool_row_fault_e
ims_pool_identity_keys(const ims_pool_identity_t *row, unsigned *at,
    ims_pool_row_key_pt cb, void *ctx)
{
    unsigned              i;
    ims_pool_prep_t       prep;
    ims_pool_row_fault_e  fault;

    fault = ims_pool_prepare(&prep, row, 0, 0, at);

    if (fault != IMS_POOL_ROW_OK) {
        return fault;
    }

    cb(ctx, 0, ims_str_set(prep.impi, prep.nimpi));

    for (i = 0; i < row->nimpu; i++) {
        cb(ctx, i + 1, ims_str_set(prep.fold[i], prep.nfold[i]));
    }

    return IMS_POOL_ROW_OK;
}


static ims_pool_row_fault_e
ims_pool_prepare(ims_pool_prep_t *prep, const ims_pool_identity_t *row,
    uint64_t ident, uint32_t import_no, unsigned *at)
{
    unsigned               i;
    ims_pool_row_fault_e   fault;
    ims_pool_names_t      *names;

    *at = 0;

    if (!ims_sip_impi_ok(row->impi)) {
        return IMS_POOL_ROW_IMPI;
    }

    prep->nimpi = ims_pool_impi_key(prep->impi, sizeof(prep->impi),
                                    row->impi);

    if (prep->nimpi == 0) {
        return IMS_POOL_ROW_IMPI;
    }

    if (row->nimpu == 0 || row->nimpu > IMS_POOL_IMPUS) {
        return IMS_POOL_ROW_COUNT;
    }

    if (!ims_pool_display_ok(row->display)) {
        return IMS_POOL_ROW_DISPLAY;
    }

    names = &prep->names;
    names->ident = ident;
    names->impi = row->impi;
    names->display = row->display;
    names->nimpu = row->nimpu;

    for (i = 0; i < row->nimpu; i++) {
        *at = i;
        fault = ims_pool_prepare_impu(prep, row, i);

        if (fault != IMS_POOL_ROW_OK) {
            return fault;
        }
    }

    *at = 0;
    prep->n = ims_pool_names_encode(names, import_no, prep->row,
                                    sizeof(prep->row));

    return prep->n ? IMS_POOL_ROW_OK : IMS_POOL_ROW_LONG;
}


static ims_pool_row_fault_e
ims_pool_prepare_impu(ims_pool_prep_t *prep, const ims_pool_identity_t *row,
    unsigned i)
{
    unsigned           j;
    ptrdiff_t          n;
    ims_str_t          given;
    ims_pool_names_t  *names;

    names = &prep->names;
    given = row->impu[i];

    if (!ims_sip_identity_ok(given)) {
        return IMS_POOL_ROW_IMPU;
    }

    n = ims_sip_canon(prep->canon[i], sizeof(prep->canon[i]), given);

    if (n <= 0) {
        return IMS_POOL_ROW_IMPU;
    }

    names->impu[i].given = given;
    names->impu[i].canon = ims_str_set(prep->canon[i], (size_t) n);

    n = ims_sip_fold(prep->fold[i], sizeof(prep->fold[i]), given);

    if (n <= 0) {
        return IMS_POOL_ROW_IMPU;
    }

    prep->nfold[i] = (size_t) n;

    /* tel: and sip: forms of one number are two IMPUs with one key */

    for (j = 0; j < i; j++) {
        if (ims_str_eq(names->impu[i].canon, names->impu[j].canon)) {
            return IMS_POOL_ROW_IMPU_TAKEN;
        }
    }

    return IMS_POOL_ROW_OK;
}


static bool
ims_pool_display_ok(ims_str_t display)
{
    size_t  i;

    for (i = 0; i < display.n; i++) {
        if (display.p[i] < ' ' || display.p[i] == 0x7f) {
            return false;
        }
    }

    return display.n <= IMS_POOL_DISPLAY_MAX;
}


/* is any of the names taken, by whomever?  EXISTS: res tells which */

static int
ims_pool_unique(const ims_pool_taken_t *t, ims_pool_prep_t *prep,
    ims_pool_row_result_t *res)
{
    int       rc;
    unsigned  i;

    prep->ngone = 0;

    res->fault = IMS_POOL_ROW_IMPI_TAKEN;
    rc = ims_pool_unique_key(t, prep, prep->impi, prep->nimpi, res);

    for (i = 0; rc == IMS_POOL_OK && i < prep->names.nimpu; i++) {

        res->fault = IMS_POOL_ROW_IMPU_TAKEN;
        res->at = i;
        rc = ims_pool_unique_key(t, prep, prep->fold[i], prep->nfold[i], res);
    }

    if (rc == IMS_POOL_OK) {
        res->fault = IMS_POOL_ROW_OK;
        res->at = 0;
    }

    return rc;
}


static int
ims_pool_unique_key(const ims_pool_taken_t *t, ims_pool_prep_t *prep,
    const uint8_t *key, size_t nkey, ims_pool_row_result_t *res)
{
    int             rc;
    ims_pool_uri_t  uri;

    rc = ims_pool_row_copy(t->txn, t->dbi[IMS_POOL_T_URI], key, nkey, &uri,
                           sizeof(uri));

    if (rc == IMS_POOL_NOTFOUND) {
        return IMS_POOL_OK;
    }

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    if (ims_pool_unique_gone(t, prep, uri.ident)) {
        return IMS_POOL_OK;
    }

    res->ident = uri.ident;
    res->pool = uri.pool;

    return IMS_POOL_EXISTS;
}


/* by one that was removed and has rested: it only waits for the broom */

static bool
ims_pool_unique_gone(const ims_pool_taken_t *t, ims_pool_prep_t *prep,
    uint64_t ident)
{
    unsigned        i;
    ims_pool_rec_t  rec;

    for (i = 0; i < prep->ngone; i++) {
        if (prep->gone[i] == ident) {
            return true;
        }
    }

    if (ims_pool_rec(t->txn, t->dbi, ident, &rec) != IMS_POOL_OK
        || !(rec.flags & IMS_POOL_F_REMOVING) || rec.rest > t->now)
    {
        return false;
    }

    prep->gone[prep->ngone++] = ident;

    return true;
}


int
ims_pool_import_look(ims_pool_writer_t *w, ims_str_t pool,
    const ims_pool_identity_t *rows, unsigned n, ims_pool_row_pt cb, void *ctx)
{
    int                     rc;
    unsigned                i;
    ims_pool_t              p;
    ims_pool_prep_t         prep;
    ims_pool_taken_t        t;
    ims_pool_reader_t      *r;
    ims_pool_row_result_t   res;

    rc = ims_pool_get(w, pool, &p);

    if (rc != IMS_POOL_OK || (p.head.flags & IMS_POOL_PF_DROPPING)) {
        return rc == IMS_POOL_OK ? IMS_POOL_NOPOOL : rc;
    }

    r = w->reader;

    if (ims_pool_snap(r) != IMS_POOL_OK) {
        return IMS_POOL_INTERNAL;
    }

    t.txn = r->txn;
    t.dbi = r->dbi;
    t.now = ims_pool_pt(r);

    for (i = 0; i < n; i++) {

        memset(&res, 0, sizeof(res));

        res.fault = ims_pool_prepare(&prep, &rows[i], 0, 0, &res.at);
        rc = IMS_POOL_OK;

        if (res.fault == IMS_POOL_ROW_OK) {
            rc = ims_pool_unique(&t, &prep, &res);
        }

        if (rc != IMS_POOL_OK && rc != IMS_POOL_EXISTS) {
            break;
        }

        if (res.fault != IMS_POOL_ROW_OK) {
            cb(ctx, i, &res);
        }
    }

    ims_pool_unsnap(r);

    if (i < n) {
        w->damaged++;
        return IMS_POOL_INTERNAL;
    }

    return IMS_POOL_OK;
}


/* record (staged), names and uri rows of a new identity */

static int
ims_pool_identity_put(ims_pool_writer_t *w, uint32_t pool,
    const ims_pool_identity_t *row, uint64_t rest, uint32_t import_no,
    ims_pool_rec_t *rec, ims_pool_row_result_t *res)
{
    int               rc;
    uint8_t           key[8];
    unsigned          i;
    uint64_t          ident;
    ims_pool_prep_t   prep;
    ims_pool_taken_t  taken;

    memset(res, 0, sizeof(ims_pool_row_result_t));

    if (w->state.last_index == UINT32_MAX
        || !ims_pool_space_for(w, IMS_POOL_SPACE_ALL))
    {
        return IMS_POOL_NOSPACE;
    }

    ident = (uint64_t) w->state.block << 32 | (w->state.last_index + 1);

    res->fault = ims_pool_prepare(&prep, row, ident, import_no, &res->at);

    if (res->fault != IMS_POOL_ROW_OK) {
        return IMS_POOL_BADARG;
    }

    taken.txn = w->txn;
    taken.dbi = w->dbi;
    taken.now = w->now;

    rc = ims_pool_unique(&taken, &prep, res);

    if (rc == IMS_POOL_UNKNOWN) {
        w->damaged++;
        rc = IMS_POOL_INTERNAL;
    }

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    for (i = 0; i < prep.ngone; i++) {
        rc = ims_pool_w_forget(w, prep.gone[i]);

        if (rc != IMS_POOL_OK) {
            return rc;
        }
    }

    memset(rec, 0, sizeof(ims_pool_rec_t));

    rec->ident = ident;
    rec->pool = pool;
    rec->rest = rest ? w->now + rest : 0;

    /* its names may be those of an identity that only a lost commit knew */

    if (rec->rest < ims_pool_hold_import(w)) {
        rec->rest = ims_pool_hold_import(w);
    }

    rec->avail = rec->rest;
    rec->import_no = import_no;
    rec->flags = IMS_POOL_F_STAGED;

    rc = ims_pool_w_put_rec(w, rec);

    if (rc == IMS_POOL_OK) {
        ims_pool_be64(key, ident);
        rc = ims_pool_w_put(w, IMS_POOL_T_NAME, key, sizeof(key), prep.row,
                            prep.n, 0);
    }

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_identity_uris(w, &prep, rec);
    }

    if (rc == IMS_POOL_OK) {
        w->state.last_index++;
    }

    return rc;
}


static int
ims_pool_identity_uris(ims_pool_writer_t *w, const ims_pool_prep_t *prep,
    const ims_pool_rec_t *rec)
{
    int             rc;
    unsigned        i;
    ims_pool_uri_t  uri;

    memset(&uri, 0, sizeof(uri));

    uri.ident = rec->ident;
    uri.pool = rec->pool;

    rc = ims_pool_w_put(w, IMS_POOL_T_URI, prep->impi, prep->nimpi, &uri,
                        sizeof(uri), 0);

    for (i = 0; rc == IMS_POOL_OK && i < prep->names.nimpu; i++) {
        uri.ordinal = i;

        rc = ims_pool_w_put(w, IMS_POOL_T_URI, prep->fold[i], prep->nfold[i],
                            &uri, sizeof(uri), MDB_NOOVERWRITE);

        if (rc == IMS_POOL_EXISTS) {
            /* another IMPU of this row, with the lower ordinal */
            rc = IMS_POOL_OK;
        }
    }

    return rc;
}


int
ims_pool_identity_add(ims_pool_writer_t *w, ims_str_t pool,
    const ims_pool_identity_t *row, uint64_t rest, uint64_t *ident,
    ims_pool_row_result_t *res)
{
    int             rc;
    ims_pool_t      p;
    ims_pool_rec_t  rec;

    if (w->broken) {
        return IMS_POOL_INTERNAL;
    }

    rc = ims_pool_w_by_name(w, pool, &p);

    if (rc == IMS_POOL_OK && (p.head.flags & IMS_POOL_PF_DROPPING)) {
        rc = IMS_POOL_NOPOOL;
    }

    if (rc == IMS_POOL_OK) {
        /* an import's identities follow each other without gaps */
        rc = ims_pool_import_idle(w);
    }

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_identity_put(w, p.head.pool, row, rest, 0, &rec, res);
    }

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    rec.flags = 0;
    rc = ims_pool_w_put_rec(w, &rec);

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_w_avail_move(w, &rec, rec.rest);
    }

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_count(w, p.head.pool, 1);
    }

    *ident = rec.ident;

    return rc;
}


static int
ims_pool_count(ims_pool_writer_t *w, uint32_t pool, uint64_t n)
{
    ims_pool_t  p;

    if (n == 0) {
        return IMS_POOL_OK;
    }

    if (ims_pool_w_pool(w, pool, &p) != IMS_POOL_OK) {
        return ims_pool_w_fail(w, 0);
    }

    p.head.identities += n;

    return ims_pool_w_put_pool(w, &p);
}


static int
ims_pool_import_load(ims_pool_writer_t *w, uint32_t import_no,
    ims_pool_import_t *imp)
{
    uint8_t  key[4];

    ims_pool_be32(key, import_no);

    return ims_pool_w_copy(w, IMS_POOL_T_IMPORT, key, sizeof(key), imp,
                           sizeof(*imp));
}


static int
ims_pool_import_save(ims_pool_writer_t *w, const ims_pool_import_t *imp)
{
    uint8_t  key[4];

    ims_pool_be32(key, imp->import_no);

    return ims_pool_w_put(w, IMS_POOL_T_IMPORT, key, sizeof(key), imp,
                          sizeof(*imp), 0);
}


static int
ims_pool_import_idle(ims_pool_writer_t *w)
{
    int                rc;
    ims_pool_import_t  imp;

    rc = ims_pool_import_load(w, w->state.import_no, &imp);

    if (rc == IMS_POOL_NOTFOUND) {
        return IMS_POOL_OK;
    }

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    return imp.state == IMS_POOL_IMPORT_DONE
           || imp.state == IMS_POOL_IMPORT_UNDONE ? IMS_POOL_OK
                                                  : IMS_POOL_BUSY;
}


bool
ims_pool_w_importing(ims_pool_writer_t *w)
{
    return ims_pool_import_idle(w) != IMS_POOL_OK;
}


int
ims_pool_import_begin(ims_pool_writer_t *w, ims_str_t pool, uint64_t rest,
    uint32_t *import_no)
{
    int                rc;
    ims_pool_t         p;
    ims_pool_import_t  imp;

    if (w->broken) {
        return IMS_POOL_INTERNAL;
    }

    rc = ims_pool_w_by_name(w, pool, &p);

    if (rc == IMS_POOL_OK && (p.head.flags & IMS_POOL_PF_DROPPING)) {
        rc = IMS_POOL_NOPOOL;
    }

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_import_idle(w);
    }

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    memset(&imp, 0, sizeof(imp));

    imp.import_no = ++w->state.import_no;
    imp.pool = p.head.pool;
    imp.state = IMS_POOL_IMPORT_OPEN;
    imp.first = (uint64_t) w->state.block << 32 | (w->state.last_index + 1);
    imp.rest = rest;
    imp.wall = w->wall;

    *import_no = imp.import_no;

    return ims_pool_import_save(w, &imp);
}


int
ims_pool_import_rows(ims_pool_writer_t *w, uint32_t import_no,
    const ims_pool_identity_t *rows, unsigned n, unsigned *done,
    ims_pool_row_result_t *res)
{
    int                rc, saved;
    ims_pool_rec_t     rec;
    ims_pool_import_t  imp;

    *done = 0;
    memset(res, 0, sizeof(ims_pool_row_result_t));

    if (w->broken) {
        return IMS_POOL_INTERNAL;
    }

    rc = ims_pool_import_load(w, import_no, &imp);

    if (rc == IMS_POOL_OK && imp.state != IMS_POOL_IMPORT_OPEN) {
        rc = IMS_POOL_BADARG;
    }

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    while (rc == IMS_POOL_OK && *done < n) {

        rc = ims_pool_identity_put(w, imp.pool, &rows[*done], imp.rest,
                                   import_no, &rec, res);

        if (rc == IMS_POOL_OK) {
            (*done)++;
        }
    }

    if (*done == 0 || w->broken) {
        return rc;
    }

    /* those before a fault count too: they are to be taken out */

    imp.count += *done;
    saved = ims_pool_import_save(w, &imp);

    return saved == IMS_POOL_OK ? rc : saved;
}


int
ims_pool_import_row(ims_pool_writer_t *w, uint32_t import_no,
    const ims_pool_identity_t *row, uint64_t *ident,
    ims_pool_row_result_t *res)
{
    int       rc;
    unsigned  done;

    rc = ims_pool_import_rows(w, import_no, row, 1, &done, res);

    if (rc == IMS_POOL_OK) {
        *ident = (uint64_t) w->state.block << 32 | w->state.last_index;
    }

    return rc;
}


static int
ims_pool_import_decide(ims_pool_writer_t *w, uint32_t import_no,
    ims_pool_import_e state)
{
    int                rc;
    ims_pool_import_t  imp;

    if (w->broken) {
        return IMS_POOL_INTERNAL;
    }

    rc = ims_pool_import_load(w, import_no, &imp);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    if (imp.state != IMS_POOL_IMPORT_OPEN) {
        return IMS_POOL_BADARG;
    }

    imp.state = state;

    return ims_pool_import_save(w, &imp);
}


int
ims_pool_import_end(ims_pool_writer_t *w, uint32_t import_no)
{
    size_t  n;

    if (!ims_pool_space_for(w, IMS_POOL_SPACE_ALL)) {
        return IMS_POOL_NOSPACE;
    }

    /* while there are few users: later it would take long */

    if (!w->broken
        && (ims_pool_recs_most(w->txn, w->dbi, &n) != 0
            || !ims_pool_users_room(&w->users, n)))
    {
        return IMS_POOL_INTERNAL;
    }

    return ims_pool_import_decide(w, import_no, IMS_POOL_IMPORT_PUBLISHING);
}


int
ims_pool_import_undo(ims_pool_writer_t *w, uint32_t import_no)
{
    return ims_pool_import_decide(w, import_no, IMS_POOL_IMPORT_UNDOING);
}


int
ims_pool_import_step(ims_pool_writer_t *w, uint32_t import_no, unsigned max)
{
    int                rc;
    bool               publish;
    unsigned           n;
    ims_pool_import_t  imp;

    if (w->broken) {
        return IMS_POOL_INTERNAL;
    }

    rc = ims_pool_import_load(w, import_no, &imp);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    if (imp.state == IMS_POOL_IMPORT_OPEN) {
        return IMS_POOL_BADARG;
    }

    publish = imp.state == IMS_POOL_IMPORT_PUBLISHING;

    if (!publish && imp.state != IMS_POOL_IMPORT_UNDOING) {
        return IMS_POOL_OK;
    }

    for (n = 0; n < max && imp.done < imp.count; n++) {
        rc = publish ? ims_pool_import_publish(w, imp.first + imp.done)
                     : ims_pool_w_unstage(w, imp.first + imp.done);

        if (rc != IMS_POOL_OK) {
            w->broken = 1;
            return rc == IMS_POOL_NOSPACE ? rc : IMS_POOL_INTERNAL;
        }

        imp.done++;
    }

    if (publish) {
        rc = ims_pool_count(w, imp.pool, n);
    }

    if (imp.done == imp.count) {
        imp.state = publish ? IMS_POOL_IMPORT_DONE : IMS_POOL_IMPORT_UNDONE;
    }

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_import_save(w, &imp);
    }

    return rc != IMS_POOL_OK ? rc
           : imp.done < imp.count ? IMS_POOL_MORE : IMS_POOL_OK;
}


static int
ims_pool_import_publish(ims_pool_writer_t *w, uint64_t ident)
{
    int               rc;
    uint8_t           key[IMS_POOL_AVAIL_KEY];
    ims_pool_rec_t    rec;
    ims_pool_avail_t  a;

    rc = ims_pool_w_rec(w, ident, &rec);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    /* a staged one has no row of avail to be moved */

    rec.flags &= (uint16_t) ~IMS_POOL_F_STAGED;
    rec.avail = rec.rest;

    rc = ims_pool_w_put_rec(w, &rec);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    a = ims_pool_avail_of(&rec);
    ims_pool_avail_key(key, &a);

    return ims_pool_w_put(w, IMS_POOL_T_AVAIL, key, sizeof(key), NULL, 0, 0);
}


int
ims_pool_w_imports(ims_pool_writer_t *w, uint32_t *undone)
{
    int                rc, step;
    ims_pool_import_t  imp;

    do {
        rc = ims_pool_begin(w);

        if (rc != IMS_POOL_OK) {
            return rc;
        }

        rc = ims_pool_import_load(w, w->state.import_no, &imp);

        if (rc == IMS_POOL_NOTFOUND) {
            ims_pool_abort(w);
            return IMS_POOL_OK;
        }

        if (rc == IMS_POOL_OK && imp.state == IMS_POOL_IMPORT_OPEN) {
            rc = ims_pool_import_undo(w, imp.import_no);
            (*undone)++;
        }

        if (rc == IMS_POOL_OK) {
            rc = ims_pool_import_step(w, imp.import_no, IMS_POOL_START_SLICE);
        }

        step = rc;

        if (rc >= 0) {
            rc = ims_pool_commit(w);

        } else {
            ims_pool_abort(w);
        }

    } while (rc == IMS_POOL_OK && step == IMS_POOL_MORE);

    return rc;
}
