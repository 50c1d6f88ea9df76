/*
 * Copyright (C) nginx-ims contributors
 *
 * ims-poolctl import: all or nothing, or all that is good (--keep-going).
 *
 * Everything is looked at before the first row is written: syntax and names
 * twice in the file here, names that are taken by the daemon (IMPORT LOOK).
 * The rows then go in the order of their IMPUs, whatever the file's: to the
 * database that is several times cheaper than any other order.
 */

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "ctl_source.h"


#define CTL_CHUNK_ROWS   2000               /* as many as the daemon takes */
#define CTL_CHUNK_BYTES  (300 * 1024)
#define CTL_FLIGHT       3                  /* commands without an answer; all
                                               of them fit what it buffers */
#define CTL_ARENA        (1 << 20)
#define CTL_IMPU_1       1                  /* place of the first IMPU's key */


typedef struct {
    uint64_t         at;                    /* in the source */
    uint64_t         line;
    bool             bad;
} ctl_row_t;

/* a name that may be there once */
typedef struct {
    const uint8_t   *p;
    uint32_t         row;
    uint16_t         n;
    uint16_t         place;
} ctl_key_t;

typedef struct {
    uint64_t         line;
    char            *text;
} ctl_fault_t;

typedef struct {
    ctl_t           *ctl;
    ctl_source_t    *src;
    const char      *pool;
    char             number[24];            /* of the import, once begun */
    const char      *no;
    bool             nomem;

    ctl_row_t       *row;
    size_t           nrow;
    size_t           crow;

    ctl_key_t       *key;
    size_t           nkey;
    size_t           ckey;
    uint8_t         *arena;                 /* the last of them */
    size_t           used;

    ctl_fault_t     *fault;
    size_t           nfault;
    size_t           cfault;

    uint32_t        *order;                 /* rows, as they are to go */
    size_t           norder;

    /* commands under way: which rows they have */
    struct {
        unsigned     n;
        uint32_t     row[CTL_CHUNK_ROWS];
    } flight[CTL_FLIGHT];
    unsigned         nflight;
    unsigned         head;

    const char      *what;                  /* the progress of it */
    uint64_t         shown;                 /* when, ms */
} ctl_import_t;

/* takes one reply, whose rows are flight[head]; CTL_OK: go on */
typedef int (*ctl_reply_pt)(ctl_import_t *imp, redisReply *reply);


static int ctl_import_all(ctl_import_t *imp);
static int ctl_import_check(ctl_import_t *imp);
static int ctl_import_read(ctl_import_t *imp);
static bool ctl_import_row(ctl_import_t *imp, bool good);
static void ctl_import_key(void *ctx, unsigned i, ims_str_t key);
static void ctl_import_syntax(ctl_import_t *imp, ims_pool_row_fault_e fault,
    unsigned at);
static void ctl_import_fault(ctl_import_t *imp, uint64_t line,
    const char *text, const char *pool, const ims_str_t *name);
static bool ctl_import_sort(ctl_import_t *imp);
static int ctl_key_cmp(const void *a, const void *b);
static void ctl_import_twice(ctl_import_t *imp, const ctl_key_t *first,
    const ctl_key_t *key);
static void ctl_import_seek(ctl_import_t *imp, uint32_t i);
static int ctl_import_look(ctl_import_t *imp);
static int ctl_import_looked(ctl_import_t *imp, redisReply *reply);
static void ctl_import_order(ctl_import_t *imp);
static int ctl_import_begin(ctl_import_t *imp);
static int ctl_import_rows(ctl_import_t *imp);
static int ctl_import_rowed(ctl_import_t *imp, redisReply *reply);
static int ctl_import_end(ctl_import_t *imp);
static void ctl_import_abort(ctl_import_t *imp);
static int ctl_import_send(ctl_import_t *imp, const char *word,
    const char *name, ctl_reply_pt reply);
static bool ctl_import_chunk(ctl_import_t *imp, size_t *i, char **rows,
    size_t *n);
static bool ctl_import_put(FILE *f, ims_str_t field, int ch);
static int ctl_import_take(ctl_import_t *imp, ctl_reply_pt reply);
static bool ctl_import_refused(ctl_import_t *imp, redisReply *reply);
static void ctl_import_report(ctl_import_t *imp, bool all);
static int ctl_fault_cmp(const void *a, const void *b);
static bool ctl_import_room(void **p, size_t n, size_t *cap, size_t size);
static void ctl_import_free(ctl_import_t *imp);
static void ctl_progress(ctl_import_t *imp, uint64_t done, uint64_t size);
static void ctl_progress_end(ctl_import_t *imp);


int
ctl_import(ctl_t *ctl, unsigned argc, char **argv)
{
    int            rc;
    ctl_import_t  *imp;

    if ((ctl->nrange != 0) == (argc == 2)) {
        ctl_error("import POOL FILE, or import POOL --range IMPU");
        return CTL_USAGE;
    }

    if (argc == 2 && (ctl->impi != NULL || ctl->display != NULL)) {
        ctl_error("--impi and --display go with --range");
        return CTL_USAGE;
    }

    imp = calloc(1, sizeof(ctl_import_t));

    if (imp != NULL) {
        imp->src = calloc(1, sizeof(ctl_source_t));
    }

    if (imp == NULL || imp->src == NULL) {
        free(imp);
        ctl_error("no memory");
        return CTL_REFUSED;
    }

    imp->ctl = ctl;
    imp->pool = argv[0];

    rc = argc == 2 ? ctl_source_csv(imp->src, argv[1])
                   : ctl_source_range(ctl, imp->src);

    if (rc == CTL_OK) {
        rc = ctl_import_all(imp);
        ctl_progress_end(imp);
    }

    if (imp->nomem) {
        ctl_error("no memory");
        rc = CTL_REFUSED;
    }

    ctl_import_free(imp);

    return rc;
}


static int
ctl_import_all(ctl_import_t *imp)
{
    int   rc;
    bool  dry, keep;

    dry = imp->ctl->given & CTL_O_DRY;
    keep = imp->ctl->given & CTL_O_KEEP;

    rc = ctl_import_check(imp);

    if (rc != CTL_OK) {
        return rc;
    }

    ctl_import_report(imp, dry || keep);

    if (dry) {
        ctl_out_two(imp->ctl, "rows", imp->nrow, "faulty", imp->nfault);
        return imp->nfault ? CTL_REFUSED : CTL_OK;
    }

    if (imp->nfault != 0 && !keep) {
        ctl_import_abort(imp);
        ctl_error("nothing was imported");
        return CTL_REFUSED;
    }

    ctl_import_order(imp);

    if (imp->norder == 0) {
        ctl_import_abort(imp);
        ctl_error("nothing was imported: no line is good");
        return CTL_REFUSED;
    }

    /* whatever ends this process takes the import out again */

    rc = ctl_import_rows(imp);

    if (rc == CTL_OK) {
        rc = ctl_import_end(imp);
    }

    return rc != CTL_OK ? rc : imp->nfault ? CTL_PARTLY : CTL_OK;
}


/* every fault there is, and the import begun if there will be one */

static int
ctl_import_check(ctl_import_t *imp)
{
    int  rc;

    rc = ctl_import_read(imp);

    if (rc != CTL_OK || !ctl_import_sort(imp)) {
        return CTL_REFUSED;
    }

    /* begun before the look, so that no name can be taken in between */

    if (!(imp->ctl->given & CTL_O_DRY)
        && ((imp->ctl->given & CTL_O_KEEP) || imp->nfault == 0))
    {
        rc = ctl_import_begin(imp);
    }

    if (rc == CTL_OK) {
        rc = ctl_import_look(imp);
    }

    ctl_progress_end(imp);

    return rc;
}


/* --- the source ------------------------------------------------------- */

/* all of it, or, if one fault is enough, up to the first one */

static int
ctl_import_read(ctl_import_t *imp)
{
    int            rc;
    ctl_source_t  *src;

    src = imp->src;
    imp->what = "reading";

    for ( ;; ) {

        rc = src->next(src);

        if (rc == 0) {
            break;
        }

        if (rc == -1) {
            ctl_import_fault(imp, src->line, src->error, NULL, NULL);
            src->skip(src);
        }

        if (!ctl_import_row(imp, rc == 1)) {
            return CTL_REFUSED;
        }

        if (imp->nfault != 0
            && !(imp->ctl->given & (CTL_O_KEEP|CTL_O_DRY)))
        {
            break;
        }

        ctl_progress(imp, src->done, src->size);
    }

    if (imp->nomem) {
        return CTL_REFUSED;
    }

    if (imp->nrow == 0) {
        ctl_error("%s holds no identity", src->name);
        return CTL_REFUSED;
    }

    return CTL_OK;
}


/* one more row, good or bad, and what must be unique in it */

static bool
ctl_import_row(ctl_import_t *imp, bool good)
{
    size_t                 nkey;
    unsigned               at;
    ctl_row_t             *row;
    ims_pool_row_fault_e   fault;

    if (imp->nrow == UINT32_MAX
        || !ctl_import_room((void **) &imp->row, imp->nrow, &imp->crow,
                            sizeof(ctl_row_t)))
    {
        imp->nomem = true;
        return false;
    }

    row = &imp->row[imp->nrow++];

    row->at = imp->src->at;
    row->line = imp->src->line;
    row->bad = !good;

    if (!good) {
        return !imp->nomem;
    }

    nkey = imp->nkey;
    at = 0;

    fault = ims_pool_identity_keys(&imp->src->row, &at, ctl_import_key, imp);

    if (fault != IMS_POOL_ROW_OK) {
        imp->nkey = nkey;
        row->bad = true;
        ctl_import_syntax(imp, fault, at);
    }

    return !imp->nomem;
}


static void
ctl_import_key(void *ctx, unsigned i, ims_str_t key)
{
    void          *block;
    ctl_key_t     *k;
    ctl_import_t  *imp = ctx;

    if (!ctl_import_room((void **) &imp->key, imp->nkey, &imp->ckey,
                         sizeof(ctl_key_t)))
    {
        imp->nomem = true;
        return;
    }

    /* a block begins with the address of the one before */

    if (imp->arena == NULL || imp->used + key.n > CTL_ARENA) {

        block = malloc(CTL_ARENA);

        if (block == NULL) {
            imp->nomem = true;
            return;
        }

        memcpy(block, &imp->arena, sizeof(imp->arena));
        imp->arena = block;
        imp->used = sizeof(imp->arena);
    }

    k = &imp->key[imp->nkey++];

    k->p = imp->arena + imp->used;
    k->n = (uint16_t) key.n;
    k->row = (uint32_t) imp->nrow - 1;
    k->place = (uint16_t) i;

    memcpy(imp->arena + imp->used, key.p, key.n);
    imp->used += key.n;
}


/* the name that is wrong, if it is an IMPU */

static void
ctl_import_syntax(ctl_import_t *imp, ims_pool_row_fault_e fault, unsigned at)
{
    bool  which;

    which = (fault == IMS_POOL_ROW_IMPU || fault == IMS_POOL_ROW_IMPU_TAKEN)
            && at < imp->src->row.nimpu;

    ctl_import_fault(imp, imp->src->line,
                     fault == IMS_POOL_ROW_IMPU_TAKEN
                     ? "IMPU twice in the line"
                     : ims_pool_row_fault_text(fault), NULL,
                     which ? &imp->src->row.impu[at] : NULL);
}


static void
ctl_import_fault(ctl_import_t *imp, uint64_t line, const char *text,
    const char *pool, const ims_str_t *name)
{
    ctl_fault_t  *fault;

    if (!ctl_import_room((void **) &imp->fault, imp->nfault, &imp->cfault,
                         sizeof(ctl_fault_t)))
    {
        imp->nomem = true;
        return;
    }

    fault = &imp->fault[imp->nfault];
    fault->line = line;

    if (asprintf(&fault->text, "%s%s%.*s%s%s%s", text, name ? ": " : "",
                 name ? (int) name->n : 0,
                 name ? (const char *) name->p : "",
                 pool ? " (in pool " : "", pool ? pool : "",
                 pool ? ")" : "")
        == -1)
    {
        imp->nomem = true;
        return;
    }

    imp->nfault++;
}


/* --- what is twice in it ---------------------------------------------- */

static bool
ctl_import_sort(ctl_import_t *imp)
{
    size_t            i;
    const ctl_key_t  *first, *key;

    if (imp->nkey == 0) {
        return true;
    }

    qsort(imp->key, imp->nkey, sizeof(ctl_key_t), ctl_key_cmp);

    /* of one row it is the same number in two forms */

    for (i = 1, first = imp->key; i < imp->nkey; i++) {

        key = &imp->key[i];

        if (key->n != first->n || memcmp(key->p, first->p, key->n) != 0) {
            first = key;

        } else if (key->row != first->row && !imp->row[key->row].bad) {
            ctl_import_twice(imp, first, key);
        }
    }

    return !imp->nomem;
}


static int
ctl_key_cmp(const void *a, const void *b)
{
    int               rc;
    const ctl_key_t  *ka = a;
    const ctl_key_t  *kb = b;

    rc = memcmp(ka->p, kb->p, ka->n < kb->n ? ka->n : kb->n);

    return rc != 0 ? rc
           : ka->n != kb->n ? (ka->n < kb->n ? -1 : 1)
           : ka->row != kb->row ? (ka->row < kb->row ? -1 : 1)
           : (int) ka->place - (int) kb->place;
}


static void
ctl_import_twice(ctl_import_t *imp, const ctl_key_t *first,
    const ctl_key_t *key)
{
    char        text[64];
    ims_str_t   name;
    ctl_row_t  *row;

    row = &imp->row[key->row];
    row->bad = true;

    ctl_import_seek(imp, key->row);

    name = key->place ? imp->src->row.impu[key->place - 1]
                      : imp->src->row.impi;

    snprintf(text, sizeof(text), "%s as in line %llu",
             key->place ? "IMPU" : "IMPI",
             (unsigned long long) imp->row[first->row].line);

    ctl_import_fault(imp, row->line, text, NULL, &name);
}


/* it was read before, so that it can be read again */

static void
ctl_import_seek(ctl_import_t *imp, uint32_t i)
{
    imp->src->seek(imp->src, imp->row[i].at, imp->row[i].line);
    (void) imp->src->next(imp->src);
}


/* --- what the daemon knows -------------------------------------------- */

static int
ctl_import_look(ctl_import_t *imp)
{
    size_t    i;
    uint64_t  end;

    end = UINT64_MAX;

    if (!(imp->ctl->given & (CTL_O_KEEP|CTL_O_DRY))) {

        /* an earlier fault is the only one that is of interest */

        for (i = 0; i < imp->nfault; i++) {
            if (imp->fault[i].line < end) {
                end = imp->fault[i].line;
            }
        }
    }

    imp->order = malloc(imp->nrow * sizeof(uint32_t));

    if (imp->order == NULL) {
        imp->nomem = true;
        return CTL_REFUSED;
    }

    for (i = 0; i < imp->nrow && imp->row[i].line < end; i++) {
        if (!imp->row[i].bad) {
            imp->order[imp->norder++] = (uint32_t) i;
        }
    }

    imp->what = "checking";

    return ctl_import_send(imp, "LOOK", imp->pool, ctl_import_looked);
}


static int
ctl_import_looked(ctl_import_t *imp, redisReply *reply)
{
    size_t             i;
    uint64_t           k, at;
    uint32_t           row;
    ims_str_t          name;
    const redisReply  *f;

    for (i = 0; i < reply->elements; i++) {

        f = reply->element[i];

        if (f->type != REDIS_REPLY_ARRAY || f->elements != 5
            || !ims_str_u64(ims_str_z(f->element[0]->str), UINT32_MAX, &k)
            || !ims_str_u64(ims_str_z(f->element[3]->str), UINT32_MAX, &at)
            || k >= imp->flight[imp->head].n)
        {
            ctl_error("the pool manager's answer is not understood");
            return CTL_REFUSED;
        }

        row = imp->flight[imp->head].row[k];
        imp->row[row].bad = true;

        ctl_import_seek(imp, row);

        name = strstr(f->element[2]->str, "IMPU") && at < imp->src->row.nimpu
               ? imp->src->row.impu[at] : imp->src->row.impi;

        ctl_import_fault(imp, imp->row[row].line, f->element[2]->str,
                         f->element[4]->len ? f->element[4]->str : NULL,
                         &name);

        if (imp->nomem) {
            return CTL_REFUSED;
        }
    }

    return CTL_OK;
}


/* --- what goes in ----------------------------------------------------- */

/* in the order of the first IMPUs */

static void
ctl_import_order(ctl_import_t *imp)
{
    size_t            i;
    const ctl_key_t  *key;

    imp->norder = 0;

    for (i = 0; i < imp->nkey; i++) {

        key = &imp->key[i];

        if (key->place == CTL_IMPU_1 && !imp->row[key->row].bad) {
            imp->order[imp->norder++] = key->row;
        }
    }
}


static int
ctl_import_begin(ctl_import_t *imp)
{
    int          rc;
    const char  *args[5];
    redisReply  *reply;

    args[0] = "IMPORT";
    args[1] = "BEGIN";
    args[2] = imp->pool;
    args[3] = "REST";
    args[4] = imp->ctl->rest ? imp->ctl->rest : "0";

    rc = ctl_ask(imp->ctl, 5, args, &reply);

    if (rc != CTL_OK) {
        return rc;
    }

    snprintf(imp->number, sizeof(imp->number), "%lld", reply->integer);
    imp->no = imp->number;

    freeReplyObject(reply);

    return CTL_OK;
}


static int
ctl_import_rows(ctl_import_t *imp)
{
    imp->what = "importing";

    return ctl_import_send(imp, "ROWS", imp->no, ctl_import_rowed);
}


static int
ctl_import_rowed(ctl_import_t *imp, redisReply *reply)
{
    (void) imp;
    (void) reply;

    return CTL_OK;
}


static int
ctl_import_end(ctl_import_t *imp)
{
    int          rc;
    const char  *args[3];
    redisReply  *reply;

    ctl_progress(imp, imp->norder, imp->norder);

    args[0] = "IMPORT";
    args[1] = "END";
    args[2] = imp->no;

    rc = ctl_ask(imp->ctl, 3, args, &reply);

    ctl_progress_end(imp);

    if (rc != CTL_OK) {
        return rc;
    }

    if (imp->ctl->given & CTL_O_KEEP) {
        ctl_out_two(imp->ctl, "imported", (uint64_t) reply->integer,
                    "left_out", imp->nfault);

    } else {
        ctl_out_number(imp->ctl, "imported", (uint64_t) reply->integer,
                       "imported");
    }

    freeReplyObject(reply);

    return CTL_OK;
}


static void
ctl_import_abort(ctl_import_t *imp)
{
    const char  *args[3];

    if (imp->no == NULL) {
        return;
    }

    args[0] = "IMPORT";
    args[1] = "ABORT";
    args[2] = imp->no;

    freeReplyObject(ctl_call_z(imp->ctl, 3, args));
}


/* --- commands with rows ------------------------------------------------ */

/*
 * All rows of order[], several commands ahead of their answers: the next ones
 * are made ready while the daemon waits for its disk.
 */

static int
ctl_import_send(ctl_import_t *imp, const char *word, const char *name,
    ctl_reply_pt reply)
{
    int        rc;
    char      *rows;
    size_t     i, n;
    ims_str_t  args[5];

    args[0] = IMS_STR("IMPORT");
    args[1] = ims_str_z(word);
    args[2] = ims_str_z(name);
    args[3] = IMS_STR("0");

    imp->head = 0;
    imp->nflight = 0;
    rc = CTL_OK;

    for (i = 0; rc == CTL_OK && i < imp->norder; free(rows)) {

        if (imp->nflight == CTL_FLIGHT) {
            rc = ctl_import_take(imp, reply);
        }

        rows = NULL;

        if (rc != CTL_OK) {
            break;
        }

        if (!ctl_import_chunk(imp, &i, &rows, &n)) {
            imp->nomem = true;
            rc = CTL_REFUSED;
            continue;
        }

        args[4] = ims_str_set(rows, n);

        if (!ctl_queue(imp->ctl, 5, args)) {
            rc = CTL_AWAY;
        }

        ctl_progress(imp, i, imp->norder);
    }

    while (rc == CTL_OK && imp->nflight != 0) {
        rc = ctl_import_take(imp, reply);
    }

    return rc;
}


static bool
ctl_import_chunk(ctl_import_t *imp, size_t *i, char **rows, size_t *n)
{
    bool           good;
    FILE          *f;
    unsigned       k, at, slot;
    ctl_source_t  *src;

    f = open_memstream(rows, n);

    if (f == NULL) {
        return false;
    }

    src = imp->src;
    good = true;
    slot = (imp->head + imp->nflight++) % CTL_FLIGHT;

    /* no row that passed has a line end in it: one row is one line */

    for (k = 0; k < CTL_CHUNK_ROWS && *i < imp->norder
                && ftell(f) < CTL_CHUNK_BYTES; k++)
    {
        imp->flight[slot].row[k] = imp->order[*i];
        ctl_import_seek(imp, imp->order[(*i)++]);

        good &= ctl_import_put(f, src->row.impi, '\t');
        good &= ctl_import_put(f, src->row.display, '\t');

        for (at = 0; at < src->row.nimpu; at++) {
            good &= ctl_import_put(f, src->row.impu[at],
                                   at + 1 < src->row.nimpu ? '\t' : '\n');
        }
    }

    imp->flight[slot].n = k;

    return fclose(f) == 0 && good;
}


static bool
ctl_import_put(FILE *f, ims_str_t field, int ch)
{
    if (field.n != 0 && fwrite(field.p, 1, field.n, f) != field.n) {
        return false;
    }

    return fputc(ch, f) != EOF;
}


/* the answer to the oldest of them */

static int
ctl_import_take(ctl_import_t *imp, ctl_reply_pt cb)
{
    int          rc;
    redisReply  *reply;

    reply = ctl_reply(imp->ctl);

    if (reply == NULL) {
        return CTL_AWAY;
    }

    if (reply->type == REDIS_REPLY_ERROR) {

        if (!ctl_import_refused(imp, reply)) {
            (void) ctl_refused(imp->ctl, reply);
        }

        if (imp->no != NULL) {
            ctl_error("nothing was imported");
        }

        return CTL_REFUSED;
    }

    rc = cb(imp, reply);
    freeReplyObject(reply);

    imp->head = (imp->head + 1) % CTL_FLIGHT;
    imp->nflight--;

    return rc;
}


/* the fault of one row: its number is its place in the command */

static bool
ctl_import_refused(ctl_import_t *imp, redisReply *reply)
{
    char      *text;
    uint64_t   k;

    if (strncmp(reply->str, "DUPLICATE ", 10) != 0
        && strncmp(reply->str, "BADROW ", 7) != 0)
    {
        return false;
    }

    k = strtoull(strchr(reply->str, ' '), &text, 10);

    if (k >= imp->flight[imp->head].n) {
        return false;
    }

    ctl_progress_end(imp);
    ctl_error("%s line %llu:%s", imp->src->name, (unsigned long long)
              imp->row[imp->flight[imp->head].row[k]].line, text);

    freeReplyObject(reply);

    return true;
}


/* --- faults, memory, progress ------------------------------------------ */

static void
ctl_import_report(ctl_import_t *imp, bool all)
{
    size_t  i;

    if (imp->nfault == 0) {
        return;
    }

    qsort(imp->fault, imp->nfault, sizeof(ctl_fault_t), ctl_fault_cmp);

    for (i = 0; i < (all ? imp->nfault : 1); i++) {
        ctl_error("%s line %llu: %s", imp->src->name,
                  (unsigned long long) imp->fault[i].line,
                  imp->fault[i].text);
    }
}


static int
ctl_fault_cmp(const void *a, const void *b)
{
    const ctl_fault_t  *fa = a;
    const ctl_fault_t  *fb = b;

    return fa->line < fb->line ? -1 : fa->line > fb->line;
}


static bool
ctl_import_room(void **p, size_t n, size_t *cap, size_t size)
{
    void    *more;
    size_t   want;

    if (n < *cap) {
        return true;
    }

    want = *cap ? *cap * 2 : 1024;
    more = realloc(*p, want * size);

    if (more == NULL) {
        return false;
    }

    *p = more;
    *cap = want;

    return true;
}


static void
ctl_import_free(ctl_import_t *imp)
{
    size_t    i;
    uint8_t  *before;

    while (imp->arena != NULL) {
        memcpy(&before, imp->arena, sizeof(before));
        free(imp->arena);
        imp->arena = before;
    }

    for (i = 0; i < imp->nfault; i++) {
        free(imp->fault[i].text);
    }

    free(imp->fault);
    free(imp->order);
    free(imp->key);
    free(imp->row);
    ctl_source_free(imp->src);
    free(imp);
}


/* for a person who looks on, never into a file or a pipe */

static void
ctl_progress(ctl_import_t *imp, uint64_t done, uint64_t size)
{
    int              bar;
    unsigned         percent;
    uint64_t         now;
    struct timespec  t;

    static const char  full[] = "########################################";
    static const char  none[] = "........................................";

    if (!imp->ctl->progress) {
        return;
    }

    clock_gettime(CLOCK_MONOTONIC, &t);
    now = (uint64_t) t.tv_sec * 1000 + (uint64_t) t.tv_nsec / 1000000;

    if (now < imp->shown + 100 && done != size) {
        return;
    }

    imp->shown = now;
    percent = size ? (unsigned) (done * 100 / size) : 100;
    bar = (int) (percent * (sizeof(full) - 1) / 100);

    fprintf(stderr, "\r%-9s [%.*s%.*s] %3u %%", imp->what, bar, full,
            (int) sizeof(none) - 1 - bar, none, percent);
}


static void
ctl_progress_end(ctl_import_t *imp)
{
    if (imp->shown != 0) {
        fputs("\r\033[K", stderr);
        imp->shown = 0;
    }
}
