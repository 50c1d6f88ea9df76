/*
 * Copyright (C) nginx-ims contributors
 *
 * ims-poolctl import: from a CSV file or from ranges.
 *
 * All rows are looked at before the first one is sent; the daemon finds what
 * only it can know (names that are taken) and then takes all of them out.
 */

#include <errno.h>
#include <stdlib.h>

#include "ctl.h"
#include "ims_pool_csv.h"
#include "ims_pool_writer.h"


#define CTL_CHUNK_ROWS   500
#define CTL_CHUNK_BYTES  (256 * 1024)
#define CTL_FILE_MAX     ((size_t) 1 << 30)


typedef struct ctl_source_s  ctl_source_t;

struct ctl_source_s {
    const char           *name;         /* for messages */

    /* 1: a row, 0: no more, -1: a message was printed */
    int                 (*next)(ctl_source_t *src);
    void                (*rewind)(ctl_source_t *src);

    uint64_t              line;         /* of row */
    ims_pool_identity_t   row;

    /* CSV */
    ims_str_t             text;
    ims_csv_t             csv;
    int                   impi;         /* column, -1: none */
    int                   display;
    unsigned              columns;

    /* ranges: IMPUs, then IMPI and (if it is wanted) display name */
    ims_pool_range_t      range[CTL_RANGES + 2];
    unsigned              nrange;
    unsigned              npattern;
    uint32_t              count;
    uint32_t              i;
    char                  impi_text[IMS_POOL_URI_MAX + 1];
    uint8_t               buf[CTL_RANGES + 2][IMS_POOL_URI_MAX];
};


static int ctl_import_csv(ctl_t *ctl, ctl_source_t *src, const char *path);
static int ctl_import_read(const char *path, ims_str_t *text);
static int ctl_csv_header(ctl_source_t *src);
static int ctl_csv_next(ctl_source_t *src);
static void ctl_csv_rewind(ctl_source_t *src);
static int ctl_import_range(ctl_t *ctl, ctl_source_t *src);
static int ctl_range_next(ctl_source_t *src);
static void ctl_range_rewind(ctl_source_t *src);
static int ctl_import_look(ctl_source_t *src, uint64_t *rows);
static int ctl_import_send(ctl_t *ctl, ctl_source_t *src, const char *pool);
static int ctl_import_rows(ctl_t *ctl, ctl_source_t *src, const char *no);
static int ctl_import_chunk(ctl_t *ctl, const char *no, uint64_t line,
    const char *rows, size_t n);
static bool ctl_import_put(FILE *f, ims_str_t field, int ch);


int
ctl_import(ctl_t *ctl, unsigned argc, char **argv)
{
    int            rc;
    uint64_t       rows;
    ctl_source_t  *src;

    if ((ctl->nrange != 0) == (argc == 2)) {
        ctl_error("import POOL FILE, or import POOL --range IMPU");
        return CTL_USAGE;
    }

    if (argc == 2 && (ctl->impi != NULL || ctl->display != NULL)) {
        ctl_error("--impi and --display go with --range");
        return CTL_USAGE;
    }

    src = calloc(1, sizeof(ctl_source_t));

    if (src == NULL) {
        ctl_error("no memory");
        return CTL_REFUSED;
    }

    rc = argc == 2 ? ctl_import_csv(ctl, src, argv[1])
                   : ctl_import_range(ctl, src);

    if (rc == CTL_OK) {
        rc = ctl_import_look(src, &rows);
    }

    if (rc == CTL_OK && rows == 0) {
        ctl_error("%s holds no identity", src->name);
        rc = CTL_REFUSED;
    }

    if (rc == CTL_OK) {
        rc = ctl_import_send(ctl, src, argv[0]);
    }

    free((void *) (uintptr_t) src->text.p);
    free(src);

    return rc;
}


/* --- CSV -------------------------------------------------------------- */

static int
ctl_import_csv(ctl_t *ctl, ctl_source_t *src, const char *path)
{
    int  rc;

    (void) ctl;

    src->name = strcmp(path, "-") == 0 ? "standard input" : path;
    src->next = ctl_csv_next;
    src->rewind = ctl_csv_rewind;

    rc = ctl_import_read(path, &src->text);

    if (rc == CTL_OK) {
        ims_csv_init(&src->csv, src->text);
        rc = ctl_csv_header(src);
    }

    return rc;
}


static int
ctl_import_read(const char *path, ims_str_t *text)
{
    FILE    *f;
    char    *p, *buf;
    size_t   n, got, cap;

    f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");

    if (f == NULL) {
        ctl_error("cannot read \"%s\": %s", path, strerror(errno));
        return CTL_USAGE;
    }

    buf = NULL;
    n = 0;
    cap = 0;

    do {
        if (n == cap) {

            cap = cap ? cap * 2 : 64 * 1024;
            p = cap <= CTL_FILE_MAX ? realloc(buf, cap) : NULL;

            if (p == NULL) {
                ctl_error("\"%s\" is too long", path);
                free(buf);

                if (f != stdin) {
                    fclose(f);
                }

                return CTL_REFUSED;
            }

            buf = p;
        }

        got = fread(buf + n, 1, cap - n, f);
        n += got;

    } while (got != 0);

    if (ferror(f)) {
        ctl_error("cannot read \"%s\": %s", path, strerror(errno));
        n = 0;
    }

    if (f != stdin) {
        fclose(f);
    }

    *text = ims_str_set(buf, n);

    return CTL_OK;
}


/* impi,impu[,impu2...][,display] in any order, all of them known */

static int
ctl_csv_header(ctl_source_t *src)
{
    int        rc;
    unsigned   i, impus;
    ims_str_t  name;

    rc = ims_csv_next(&src->csv);

    if (rc != 1) {
        ctl_error("%s line 1: %s", src->name,
                  rc == -1 ? src->csv.error : "there is no header line");
        return CTL_REFUSED;
    }

    impus = 0;
    src->impi = -1;
    src->display = -1;
    src->columns = src->csv.n;

    for (i = 0; i < src->csv.n; i++) {

        name = src->csv.field[i];

        if (ims_str_eq(name, IMS_STR("impi")) && src->impi == -1) {
            src->impi = (int) i;

        } else if (ims_str_eq(name, IMS_STR("display"))
                   && src->display == -1)
        {
            src->display = (int) i;

        } else if (name.n >= 4 && memcmp(name.p, "impu", 4) == 0
                   && strspn((const char *) name.p + 4, "0123456789")
                      >= name.n - 4)
        {
            impus++;

        } else {
            ctl_error("%s line 1: column %u is \"%.*s\", not impi, impu, "
                      "impu2 ... or display", src->name, i + 1,
                      IMS_STR_ARG(name));
            return CTL_REFUSED;
        }
    }

    if (src->impi == -1 || impus == 0 || impus > IMS_POOL_IMPUS) {
        ctl_error("%s line 1: a column impi and 1 to %d columns impu are "
                  "needed", src->name, IMS_POOL_IMPUS);
        return CTL_REFUSED;
    }

    return CTL_OK;
}


static int
ctl_csv_next(ctl_source_t *src)
{
    int        rc;
    unsigned   i;
    ims_str_t  field;

    rc = ims_csv_next(&src->csv);

    if (rc == 0) {
        return 0;
    }

    src->line = src->csv.line;

    if (rc == -1) {
        ctl_error("%s line %llu: %s", src->name,
                  (unsigned long long) src->line, src->csv.error);
        return -1;
    }

    if (src->csv.n != src->columns) {
        ctl_error("%s line %llu: %u fields, the header has %u", src->name,
                  (unsigned long long) src->line, src->csv.n, src->columns);
        return -1;
    }

    memset(&src->row, 0, sizeof(src->row));

    for (i = 0; i < src->csv.n; i++) {

        field = src->csv.field[i];

        if ((int) i == src->impi) {
            src->row.impi = field;

        } else if ((int) i == src->display) {
            src->row.display = field;

        } else if (field.n != 0) {
            src->row.impu[src->row.nimpu++] = field;
        }
    }

    return 1;
}


static void
ctl_csv_rewind(ctl_source_t *src)
{
    ims_csv_init(&src->csv, src->text);
    (void) ims_csv_next(&src->csv);
}


/* --- ranges ----------------------------------------------------------- */

/*
 * All patterns count in step, and those without a bracket are the same each
 * time: fine for a display name, a duplicate for the others.
 */

static int
ctl_import_range(ctl_t *ctl, ctl_source_t *src)
{
    uint32_t           n;
    unsigned           i;
    const char        *pattern, *colon;
    ims_pool_range_t  *r;

    src->name = "the range";
    src->next = ctl_range_next;
    src->rewind = ctl_range_rewind;
    src->nrange = ctl->nrange;
    src->npattern = ctl->nrange + 1 + (ctl->display != NULL);

    /* IMPI: the first IMPU without its scheme, unless given */

    colon = strchr(ctl->range[0], ':');
    pattern = colon ? colon + 1 : ctl->range[0];

    snprintf(src->impi_text, sizeof(src->impi_text), "%.*s",
             (int) strcspn(pattern, ";"), pattern);

    for (i = 0; i < src->npattern; i++) {

        r = &src->range[i];
        pattern = i < src->nrange ? ctl->range[i]
                  : i > src->nrange ? ctl->display
                  : ctl->impi ? ctl->impi : src->impi_text;

        if (!ims_pool_range_parse(ims_str_z(pattern), r)) {
            ctl_error("\"%s\" is no range: one bracket, such as [000-999], "
                      "with as many digits on both sides", pattern);
            return CTL_USAGE;
        }

        n = ims_pool_range_count(r);

        if (i == 0) {
            src->count = n;

        } else if (n != src->count && r->width != 0) {
            ctl_error("\"%s\" has %u names, \"%s\" %u", pattern, n,
                      ctl->range[0], src->count);
            return CTL_USAGE;
        }
    }

    ctl_range_rewind(src);

    return CTL_OK;
}


static int
ctl_range_next(ctl_source_t *src)
{
    size_t             n;
    uint32_t           at;
    unsigned           k;
    ims_str_t          name;
    ims_pool_range_t  *r;

    if (src->i == src->count) {
        return 0;
    }

    memset(&src->row, 0, sizeof(src->row));

    for (k = 0; k < src->npattern; k++) {

        r = &src->range[k];
        at = r->width ? src->i : 0;
        n = ims_pool_range_name(r, at, src->buf[k], IMS_POOL_URI_MAX);
        name = ims_str_set(src->buf[k], n);

        if (k < src->nrange) {
            src->row.impu[src->row.nimpu++] = name;

        } else if (k == src->nrange) {
            src->row.impi = name;

        } else {
            src->row.display = name;
        }
    }

    src->i++;
    src->line = src->i;

    return 1;
}


static void
ctl_range_rewind(ctl_source_t *src)
{
    src->i = 0;
}


/* --- both ------------------------------------------------------------- */

static int
ctl_import_look(ctl_source_t *src, uint64_t *rows)
{
    int                   rc;
    bool                  which;
    unsigned              at;
    ims_pool_row_fault_e  fault;

    *rows = 0;

    while ((rc = src->next(src)) == 1) {

        (*rows)++;
        at = 0;

        fault = ims_pool_identity_check(&src->row, &at);

        if (fault == IMS_POOL_ROW_OK) {
            continue;
        }

        which = fault == IMS_POOL_ROW_IMPU && at < src->row.nimpu;

        ctl_error("%s line %llu: %s%s%.*s", src->name,
                  (unsigned long long) src->line,
                  ims_pool_row_fault_text(fault), which ? ": " : "",
                  which ? (int) src->row.impu[at].n : 0,
                  which ? (const char *) src->row.impu[at].p : "");

        return CTL_REFUSED;
    }

    src->rewind(src);

    return rc == 0 ? CTL_OK : CTL_REFUSED;
}


static int
ctl_import_send(ctl_t *ctl, ctl_source_t *src, const char *pool)
{
    int          rc;
    char         no[24];
    const char  *args[5];
    redisReply  *reply;

    args[0] = "IMPORT";
    args[1] = "BEGIN";
    args[2] = pool;
    args[3] = "REST";
    args[4] = ctl->rest ? ctl->rest : "0";

    reply = ctl_call_z(ctl, 5, args);

    if (reply == NULL) {
        return CTL_AWAY;
    }

    if (ctl_refused(ctl, reply)) {
        return CTL_REFUSED;
    }

    snprintf(no, sizeof(no), "%lld", reply->integer);
    freeReplyObject(reply);

    /* whatever ends this process takes the import out again */

    rc = ctl_import_rows(ctl, src, no);

    if (rc != CTL_OK) {
        return rc;
    }

    args[1] = "END";
    args[2] = no;

    reply = ctl_call_z(ctl, 3, args);

    if (reply == NULL) {
        return CTL_AWAY;
    }

    if (ctl_refused(ctl, reply)) {
        return CTL_REFUSED;
    }

    ctl_out_number(ctl, "imported", (uint64_t) reply->integer, "imported");
    freeReplyObject(reply);

    return CTL_OK;
}


static int
ctl_import_rows(ctl_t *ctl, ctl_source_t *src, const char *no)
{
    int        rc;
    bool       good;
    FILE      *f;
    char      *rows;
    size_t     n;
    unsigned   i, k;
    uint64_t   first;

    do {
        rows = NULL;
        first = 0;
        good = true;
        rc = 0;

        f = open_memstream(&rows, &n);

        if (f == NULL) {
            ctl_error("no memory");
            return CTL_REFUSED;
        }

        /* no row that passed has a line end in it: one row is one line */

        for (k = 0; k < CTL_CHUNK_ROWS && ftell(f) < CTL_CHUNK_BYTES; k++) {

            rc = src->next(src);

            if (rc != 1) {
                break;
            }

            first = first ? first : src->line;

            good &= ctl_import_put(f, src->row.impi, '\t');
            good &= ctl_import_put(f, src->row.display, '\t');

            for (i = 0; i < src->row.nimpu; i++) {
                good &= ctl_import_put(f, src->row.impu[i],
                                       i + 1 < src->row.nimpu ? '\t' : '\n');
            }
        }

        if (fclose(f) != 0 || !good) {
            ctl_error("no memory");
            free(rows);
            return CTL_REFUSED;
        }

        if (k != 0) {
            i = (unsigned) ctl_import_chunk(ctl, no, first, rows, n);

            if (i != CTL_OK) {
                free(rows);
                return (int) i;
            }
        }

        free(rows);

    } while (rc == 1);

    return rc == 0 ? CTL_OK : CTL_REFUSED;
}


static bool
ctl_import_put(FILE *f, ims_str_t field, int ch)
{
    if (field.n != 0 && fwrite(field.p, 1, field.n, f) != field.n) {
        return false;
    }

    return fputc(ch, f) != EOF;
}


static int
ctl_import_chunk(ctl_t *ctl, const char *no, uint64_t line, const char *rows,
    size_t n)
{
    char         text[24];
    ims_str_t    args[5];
    redisReply  *reply;

    snprintf(text, sizeof(text), "%llu", (unsigned long long) line);

    args[0] = IMS_STR("IMPORT");
    args[1] = IMS_STR("ROWS");
    args[2] = ims_str_z(no);
    args[3] = ims_str_z(text);
    args[4] = ims_str_set(rows, n);

    reply = ctl_call(ctl, 5, args);

    if (reply == NULL) {
        return CTL_AWAY;
    }

    if (ctl_refused(ctl, reply)) {
        ctl_error("nothing was imported");
        return CTL_REFUSED;
    }

    freeReplyObject(reply);

    return CTL_OK;
}
