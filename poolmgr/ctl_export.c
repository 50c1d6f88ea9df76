/*
 * Copyright (C) nginx-ims contributors
 *
 * ims-poolctl export: the identities of a pool as CSV, as import reads it.
 */

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "ctl.h"


static int ctl_export_read(ctl_t *ctl, const char *pool, FILE *f);
static int ctl_export_file(const char *path, ims_str_t rows);
static bool ctl_export_write(FILE *f, ims_str_t rows);
static unsigned ctl_export_impus(ims_str_t rows);
static bool ctl_export_row(FILE *f, const uint8_t *p, const uint8_t *last,
    unsigned impus);
static void ctl_export_field(FILE *f, ims_str_t field);


/*
 * How many columns there are is known when the last row is: all of it is kept
 * in memory, about 100 bytes an identity.
 */

int
ctl_export(ctl_t *ctl, unsigned argc, char **argv)
{
    int     rc;
    FILE   *f;
    char   *rows;
    size_t  n;

    rows = NULL;
    f = open_memstream(&rows, &n);

    if (f == NULL) {
        ctl_error("no memory");
        return CTL_REFUSED;
    }

    rc = ctl_export_read(ctl, argv[0], f);

    if (fclose(f) != 0 && rc == CTL_OK) {
        ctl_error("no memory");
        rc = CTL_REFUSED;
    }

    if (rc == CTL_OK) {

        if (argc == 2 && strcmp(argv[1], "-") != 0) {
            rc = ctl_export_file(argv[1], ims_str_set(rows, n));

        } else {
            /* whether it could be written is looked at at the end */
            (void) ctl_export_write(ctl->out, ims_str_set(rows, n));
        }
    }

    free(rows);

    return rc;
}


static int
ctl_export_read(ctl_t *ctl, const char *pool, FILE *f)
{
    int          rc;
    bool         more;
    char         cursor[24];
    const char  *args[4];
    redisReply  *reply, *rows;

    args[0] = "EXPORT";
    args[1] = pool;
    args[2] = cursor;
    args[3] = "1000";

    memcpy(cursor, "0", 2);

    do {
        rc = ctl_ask(ctl, 4, args, &reply);

        if (rc != CTL_OK) {
            return rc;
        }

        rows = reply->element[1];
        (void) fwrite(rows->str, 1, rows->len, f);

        snprintf(cursor, sizeof(cursor), "%s", reply->element[0]->str);
        more = strcmp(cursor, "0") != 0;

        freeReplyObject(reply);

        if (ferror(f)) {
            ctl_error("no memory");
            return CTL_REFUSED;
        }

    } while (more);

    return CTL_OK;
}


/* under another name, until it is whole */

static int
ctl_export_file(const char *path, ims_str_t rows)
{
    int    fd;
    bool   good;
    char  *tmp;
    FILE  *f;

    if (asprintf(&tmp, "%s.XXXXXX", path) == -1) {
        ctl_error("no memory");
        return CTL_REFUSED;
    }

    fd = mkstemp(tmp);
    f = fd == -1 ? NULL : fdopen(fd, "w");

    if (f == NULL) {
        ctl_error("cannot write \"%s\": %s", path, strerror(errno));
        free(tmp);
        return CTL_USAGE;
    }

    good = ctl_export_write(f, rows) && fflush(f) == 0 && fsync(fd) == 0;
    good = fclose(f) == 0 && good && rename(tmp, path) == 0;

    if (!good) {
        ctl_error("cannot write \"%s\": %s", path, strerror(errno));
        unlink(tmp);
    }

    free(tmp);

    return good ? CTL_OK : CTL_REFUSED;
}


static bool
ctl_export_write(FILE *f, ims_str_t rows)
{
    unsigned        i, impus;
    const uint8_t  *p, *end, *last;

    impus = ctl_export_impus(rows);

    fputs("impi,impu", f);

    for (i = 2; i <= impus; i++) {
        fprintf(f, ",impu%u", i);
    }

    fputs(",display\r\n", f);

    end = rows.p + rows.n;

    for (p = rows.p; p < end; p = last + 1) {

        last = memchr(p, '\n', (size_t) (end - p));

        if (last == NULL || !ctl_export_row(f, p, last, impus)) {
            return false;
        }
    }

    return !ferror(f);
}


/* of the identity that has most */

static unsigned
ctl_export_impus(ims_str_t rows)
{
    size_t    i;
    unsigned  n, most;

    most = 1;

    for (i = 0, n = 0; i < rows.n; i++) {

        if (rows.p[i] == '\t') {
            n++;

        } else if (rows.p[i] == '\n') {
            most = n - 1 > most ? n - 1 : most;
            n = 0;
        }
    }

    return most;
}


/* IMPI, display name and IMPUs, separated by tabs */

static bool
ctl_export_row(FILE *f, const uint8_t *p, const uint8_t *last, unsigned impus)
{
    unsigned        i;
    ims_str_t       field[2 + IMS_POOL_IMPUS];
    const uint8_t  *tab;

    memset(field, 0, sizeof(field));

    for (i = 0; p <= last; i++, p = tab + 1) {

        if (i == sizeof(field) / sizeof(field[0])) {
            return false;
        }

        tab = memchr(p, '\t', (size_t) (last - p));
        tab = tab ? tab : last;
        field[i] = ims_str_range(p, tab);
    }

    ctl_export_field(f, field[0]);

    for (i = 0; i < impus; i++) {
        putc(',', f);
        ctl_export_field(f, field[2 + i]);
    }

    putc(',', f);
    ctl_export_field(f, field[1]);
    fputs("\r\n", f);

    return !ferror(f);
}


static void
ctl_export_field(FILE *f, ims_str_t field)
{
    size_t  i;

    if (field.n == 0) {
        return;
    }

    if (memchr(field.p, '"', field.n) == NULL
        && memchr(field.p, ',', field.n) == NULL)
    {
        (void) fwrite(field.p, 1, field.n, f);
        return;
    }

    putc('"', f);

    for (i = 0; i < field.n; i++) {

        if (field.p[i] == '"') {
            putc('"', f);
        }

        putc(field.p[i], f);
    }

    putc('"', f);
}
