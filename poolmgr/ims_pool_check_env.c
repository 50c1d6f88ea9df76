/*
 * Copyright (C) nginx-ims contributors
 *
 * The check of what is below the rows: LMDB's pages, its readers, the files.
 */

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "ims_pool_wint.h"


#define IMS_POOL_FREE_DBI   0       /* LMDB's own tree of free pages */
#define IMS_POOL_MAIN_DBI   1       /* and that of the names of the others */
#define IMS_POOL_METAS      2


/* where readers stand */
typedef struct {
    ims_pool_check_t  *check;
    uint64_t           newest;
} ims_pool_readers_t;

/* which file a fault is about */
typedef enum {
    IMS_POOL_FILE_DIR = 0,
    IMS_POOL_FILE_ENV,
    IMS_POOL_FILE_DATA,
    IMS_POOL_FILE_LOCK,
    IMS_POOL_FILE_KEYS,
    IMS_POOL_FILE_FLOOR,
    IMS_POOL_FILE_FS
} ims_pool_file_e;


static bool ims_pool_check_stat(ims_pool_checker_t *c, MDB_dbi dbi,
    uint64_t *pages);
static bool ims_pool_check_free(ims_pool_checker_t *c, uint64_t pages,
    uint64_t *n);
static int ims_pool_reader_line(const char *line, void *ctx);


/* in the order of ims_pool_file_e; those below env.<n> have in set */
static const struct {
    const char  *name;
    bool         in;
    bool         group;             /* is that of the readers */
    mode_t       mode;
} ims_pool_files[] = {
    { ".",        false, true,  0750 },
    { "",         true,  true,  0750 },
    { "data.mdb", true,  true,  0640 },
    { "lock.mdb", true,  true,  0660 },
    { "keys",     false, false, 0600 },
    { "floor",    false, false, 0600 },
};

#define IMS_POOL_FILES  (sizeof(ims_pool_files) / sizeof(ims_pool_files[0]))


void
ims_pool_fault_place(ims_pool_fault_e fault, uint64_t ident, char *text)
{
    static const char *const  names[] = {
        "directory", "environment", "data.mdb", "lock.mdb", "keys", "floor",
        "file system"
    };

    if (fault == IMS_POOL_FAULT_FILE
        && ident < sizeof(names) / sizeof(names[0]))
    {
        snprintf(text, IMS_POOL_PLACE_MAX, "%s", names[ident]);
        return;
    }

    snprintf(text, IMS_POOL_PLACE_MAX, "%016llx", (unsigned long long) ident);
}


/*
 * What the trees say that they have, and what is free, is all there is: a page
 * that is in neither is lost, and one in both will be overwritten.
 */
void
ims_pool_check_pages(ims_pool_checker_t *c)
{
    bool         good;
    unsigned     i;
    uint64_t     used, nfree;
    MDB_envinfo  info;

    used = IMS_POOL_METAS;

    good = mdb_env_info(c->env, &info) == 0
           && ims_pool_check_stat(c, IMS_POOL_FREE_DBI, &used)
           && ims_pool_check_stat(c, IMS_POOL_MAIN_DBI, &used);

    for (i = 0; good && i < IMS_POOL_TREES; i++) {
        good = ims_pool_check_stat(c, c->dbi[i], &used);
    }

    /* another writer's commit may be newer: its figures are not this one's */

    if (good && info.me_last_txnid != mdb_txn_id(c->txn)) {
        return;
    }

    nfree = 0;
    good = good && ims_pool_check_free(c, info.me_last_pgno + 1, &nfree);

    c->check->pages = good ? info.me_last_pgno + 1 : 0;
    c->check->pages_free = nfree;

    if (!good || used + nfree != c->check->pages) {
        ims_pool_fault(c, IMS_POOL_FAULT_PAGES, used + nfree);
    }
}


static bool
ims_pool_check_stat(ims_pool_checker_t *c, MDB_dbi dbi, uint64_t *pages)
{
    MDB_stat  st;

    if (mdb_stat(c->txn, dbi, &st) != 0) {
        return false;
    }

    *pages += st.ms_branch_pages + st.ms_leaf_pages + st.ms_overflow_pages;

    return true;
}


/* lists of page numbers: their length, then so many; none twice */

static bool
ims_pool_check_free(ims_pool_checker_t *c, uint64_t pages, uint64_t *n)
{
    int             rc;
    bool            good;
    size_t          i, len, page;
    MDB_val         k, v;
    uint8_t        *seen, bit;
    MDB_cursor     *cursor;

    seen = calloc(1, (size_t) pages / 8 + 1);

    if (seen == NULL) {
        return false;
    }

    if (mdb_cursor_open(c->txn, IMS_POOL_FREE_DBI, &cursor) != 0) {
        free(seen);
        return false;
    }

    good = true;

    while (good && (rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) == 0) {

        good = v.mv_size >= sizeof(len);
        len = 0;

        if (good) {
            memcpy(&len, v.mv_data, sizeof(len));
            good = len <= v.mv_size / sizeof(len) - 1;
        }

        for (i = 1; good && i <= len; i++) {

            memcpy(&page, (uint8_t *) v.mv_data + i * sizeof(page),
                   sizeof(page));

            bit = (uint8_t) (1 << page % 8);
            good = page >= IMS_POOL_METAS && page < pages
                   && !(seen[page / 8] & bit);

            if (good) {
                seen[page / 8] |= bit;
                (*n)++;
            }
        }
    }

    mdb_cursor_close(cursor);
    free(seen);

    return good && rc == MDB_NOTFOUND;
}


/*
 * Lines "pid thread transaction", "-" where there is none, and a headline.
 * This process' own snapshot is among them.
 */
static int
ims_pool_reader_line(const char *line, void *ctx)
{
    char                 txn[24];
    unsigned long long   pid, number;
    ims_pool_readers_t  *r = ctx;

    if (sscanf(line, "%llu %*s %23s", &pid, txn) != 2
        || pid == (unsigned long long) getpid()
        || sscanf(txn, "%llu", &number) != 1)
    {
        return 0;
    }

    r->check->readers++;

    if (number < r->newest && r->newest - number > r->check->behind) {
        r->check->behind = r->newest - number;
    }

    return 0;
}


void
ims_pool_check_readers(ims_pool_checker_t *c)
{
    ims_pool_readers_t  r;

    r.check = c->check;
    r.newest = mdb_txn_id(c->txn);

    (void) mdb_reader_list(c->env, ims_pool_reader_line, &r);
}


void
ims_pool_check_files(ims_pool_checker_t *c, ims_pool_writer_t *w)
{
    char         path[64];
    size_t       i;
    struct stat  sb;

    if (w->dirfd == -1) {
        return;
    }

    for (i = 0; i < IMS_POOL_FILES; i++) {

        snprintf(path, sizeof(path), "%s%s%s",
                 ims_pool_files[i].in ? w->target : "",
                 ims_pool_files[i].in ? "/" : "", ims_pool_files[i].name);

        if (fstatat(w->dirfd, path, &sb, 0) == -1
            || (sb.st_mode & 07777) != ims_pool_files[i].mode
            || sb.st_uid != geteuid()
            || (ims_pool_files[i].group && w->chgrp && sb.st_gid != w->gid))
        {
            ims_pool_fault(c, IMS_POOL_FAULT_FILE, i);
        }
    }

    if (ims_pool_dir_fs(w, &w->opt, NULL, 0) != IMS_POOL_OK) {
        ims_pool_fault(c, IMS_POOL_FAULT_FILE, IMS_POOL_FILE_FS);
    }
}
