/*
 * Copyright (C) nginx-ims contributors
 *
 * See ctl_source.h.
 */

#include <errno.h>
#include <stdlib.h>

#include "ctl_source.h"


#define CTL_FILE_MAX     ((size_t) 1 << 30)


static int ctl_source_read(const char *path, ims_str_t *text);
static int ctl_csv_header(ctl_source_t *src);
static int ctl_csv_next(ctl_source_t *src);
static void ctl_csv_seek(ctl_source_t *src, uint64_t at, uint64_t line);
static void ctl_csv_skip(ctl_source_t *src);
static int ctl_range_next(ctl_source_t *src);
static void ctl_range_seek(ctl_source_t *src, uint64_t at, uint64_t line);
static void ctl_range_skip(ctl_source_t *src);


void
ctl_source_free(ctl_source_t *src)
{
    if (src != NULL) {
        free((void *) (uintptr_t) src->text.p);
        free(src);
    }
}


/* --- CSV -------------------------------------------------------------- */

int
ctl_source_csv(ctl_source_t *src, const char *path)
{
    int  rc;

    src->name = strcmp(path, "-") == 0 ? "standard input" : path;
    src->next = ctl_csv_next;
    src->seek = ctl_csv_seek;
    src->skip = ctl_csv_skip;

    rc = ctl_source_read(path, &src->text);

    if (rc == CTL_OK) {
        src->size = src->text.n;
        ims_csv_init(&src->csv, src->text);
        rc = ctl_csv_header(src);
    }

    return rc;
}


static int
ctl_source_read(const char *path, ims_str_t *text)
{
    int      failed;
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

    failed = ferror(f);

    if (failed) {
        ctl_error("cannot read \"%s\": %s", path, strerror(errno));
    }

    if (f != stdin) {
        fclose(f);
    }

    *text = ims_str_set(buf, n);

    return failed ? CTL_REFUSED : CTL_OK;
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
    src->at = (uint64_t) (src->csv.row - src->text.p);
    src->done = src->at;

    if (rc == -1) {
        snprintf(src->error, sizeof(src->error), "%s", src->csv.error);
        return -1;
    }

    if (src->csv.n != src->columns) {
        snprintf(src->error, sizeof(src->error),
                 "%u fields, the header has %u", src->csv.n, src->columns);
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
ctl_csv_seek(ctl_source_t *src, uint64_t at, uint64_t line)
{
    ims_csv_seek(&src->csv, src->text.p + at, line);
}


static void
ctl_csv_skip(ctl_source_t *src)
{
    if (src->csv.error != NULL) {
        ims_csv_skip(&src->csv);
    }
}


/* --- ranges ----------------------------------------------------------- */

/*
 * All patterns count in step, and those without a bracket are the same each
 * time: fine for a display name, a duplicate for the others.
 */

int
ctl_source_range(ctl_t *ctl, ctl_source_t *src)
{
    uint32_t           n;
    unsigned           i;
    const char        *pattern, *colon;
    ims_pool_range_t  *r;

    src->name = "the range";
    src->next = ctl_range_next;
    src->seek = ctl_range_seek;
    src->skip = ctl_range_skip;
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

    src->size = src->count;

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

    src->at = src->i++;
    src->line = src->i;
    src->done = src->i;

    return 1;
}


static void
ctl_range_seek(ctl_source_t *src, uint64_t at, uint64_t line)
{
    (void) line;

    src->i = (uint32_t) at;
}


/* a name that cannot be is a fault of its row, never of the source */

static void
ctl_range_skip(ctl_source_t *src)
{
    (void) src;
}
