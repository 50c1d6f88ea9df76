/*
 * Copyright (C) nginx-ims contributors
 *
 * Start of the writer: POOL.md line 10, step by step.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "ims_pool_wint.h"


#define IMS_POOL_MAP_SIZE     ((size_t) 16 << 30)
#define IMS_POOL_READERS      4096
#define IMS_POOL_INCARNATION  ((1 << 24) - 1)


static int ims_pool_start_lock(ims_pool_writer_t **wp,
    const ims_pool_options_t *opt, ims_pool_dir_e *what, char *err,
    size_t errlen);
static int ims_pool_start(ims_pool_writer_t *w, ims_pool_dir_e what,
    ims_pool_started_t *st, char *err, size_t errlen);
static void ims_pool_start_close(ims_pool_writer_t *w);
static int ims_pool_start_env(ims_pool_writer_t *w, const char *name,
    unsigned flags, char *err, size_t errlen);
static int ims_pool_start_create(ims_pool_writer_t *w, char *err,
    size_t errlen);
static int ims_pool_start_first(ims_pool_writer_t *w, MDB_txn *txn);
static int ims_pool_start_find(ims_pool_writer_t *w, ims_pool_dir_e what,
    bool *created, char *err, size_t errlen);
static int ims_pool_start_follow(ims_pool_writer_t *w, char *err,
    size_t errlen);
static int ims_pool_start_read(ims_pool_writer_t *w, bool unlinked,
    char *err, size_t errlen);
static int ims_pool_start_keys(ims_pool_writer_t *w, bool *made, char *err,
    size_t errlen);
static int ims_pool_start_keys_fit(ims_pool_writer_t *w, bool made);
static int ims_pool_start_commit(ims_pool_writer_t *w,
    ims_pool_started_t *st, char *err, size_t errlen);
static int ims_pool_start_users(ims_pool_writer_t *w);
static int ims_pool_start_batch(ims_pool_writer_t *w, bool lost,
    uint64_t *term, ims_pool_started_t *st);


int
ims_pool_writer_open(ims_pool_writer_t **wp, const ims_pool_options_t *opt,
    ims_pool_started_t *started, char *err, size_t errlen)
{
    int                  rc;
    ims_pool_dir_e       what;
    ims_pool_writer_t   *w;
    ims_pool_started_t   st;

    *wp = NULL;
    memset(&st, 0, sizeof(st));

    rc = ims_pool_start_lock(&w, opt, &what, err, errlen);

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_start(w, what, &st, err, errlen);
    }

    if (rc != IMS_POOL_OK) {
        ims_pool_writer_close(w);
        return rc;
    }

    if (started != NULL) {
        *started = st;
    }

    *wp = w;

    return IMS_POOL_OK;
}


int
ims_pool_writer_hold(ims_pool_writer_t **wp, const ims_pool_options_t *opt,
    char *err, size_t errlen)
{
    int                 rc;
    bool                created;
    ims_pool_dir_e      what;
    ims_pool_writer_t  *w;

    *wp = NULL;

    rc = ims_pool_start_lock(&w, opt, &what, err, errlen);

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_floor_read(w, err, errlen);
    }

    if (rc != IMS_POOL_OK) {
        ims_pool_writer_close(w);
        return rc;
    }

    if (what != IMS_POOL_DIR_EMPTY
        && ims_pool_start_find(w, what, &created, NULL, 0) != IMS_POOL_OK)
    {
        ims_pool_start_close(w);
    }

    if (w->number == 0) {
        /* none, or none that can be told: the next number that is free */
        (void) ims_pool_current(w->dir, w->target, sizeof(w->target),
                                &w->number);
    }

    *wp = w;

    return IMS_POOL_OK;
}


int
ims_pool_reopen(ims_pool_writer_t *w, ims_pool_started_t *started, char *err,
    size_t errlen)
{
    memset(started, 0, sizeof(ims_pool_started_t));

    ims_pool_start_close(w);
    ims_pool_purges_close(w);
    explicit_bzero(&w->keys, sizeof(w->keys));

    w->opt.commits_lost = false;

    return ims_pool_start(w, IMS_POOL_DIR_OURS, started, err, errlen);
}


/* a handle that has the directory, and nothing more */

static int
ims_pool_start_lock(ims_pool_writer_t **wp, const ims_pool_options_t *opt,
    ims_pool_dir_e *what, char *err, size_t errlen)
{
    ims_pool_writer_t  *w;

    w = calloc(1, sizeof(ims_pool_writer_t));
    *wp = w;

    if (w == NULL) {
        return ims_pool_err(err, errlen, IMS_POOL_SYSTEM, "no memory");
    }

    w->dirfd = -1;
    w->lockfd = -1;
    w->clock = opt->clock == NULL ? ims_pool_clock : *opt->clock;

    w->opt = *opt;
    w->opt.map_size = opt->map_size ? opt->map_size : IMS_POOL_MAP_SIZE;
    w->opt.readers = opt->readers ? opt->readers : IMS_POOL_READERS;
    w->opt.node = opt->node ? opt->node : 1;
    w->opt.clock = NULL;
    w->opt.dir = NULL;

    if (opt->gid != -1) {
        w->gid = (gid_t) opt->gid;
        w->chgrp = true;
    }

    if (snprintf(w->dir, sizeof(w->dir), "%s", opt->dir)
        >= (int) sizeof(w->dir))
    {
        return ims_pool_err(err, errlen, IMS_POOL_SYSTEM, "path too long");
    }

    if (ims_pool_where(&w->clock, w->boot_id, &w->pid_ns, &w->time_ns) != 0) {
        return ims_pool_err(err, errlen, IMS_POOL_SYSTEM,
                            "the boot id cannot be read");
    }

    return ims_pool_dir_open(w, opt, what, err, errlen);
}


static int
ims_pool_start(ims_pool_writer_t *w, ims_pool_dir_e what,
    ims_pool_started_t *st, char *err, size_t errlen)
{
    int  rc;

    w->starting = 1;
    rc = ims_pool_floor_read(w, err, errlen);

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_start_find(w, what, &st->created, err, errlen);
    }

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_dir_modes(w, err, errlen);
    }

    if (rc == IMS_POOL_OK) {
        ims_pool_space_open(w);
        rc = ims_pool_start_keys(w, &st->new_keys, err, errlen);
    }

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_start_commit(w, st, err, errlen);
    }

    if (rc == IMS_POOL_OK) {
        ims_pool_dir_sweep(w);
    }

    w->starting = 0;

    return rc;
}


static void
ims_pool_start_close(ims_pool_writer_t *w)
{
    ims_pool_abort(w);
    ims_pool_close(w->reader);
    w->reader = NULL;
    ims_pool_fold_close(w);
    ims_pool_users_free(&w->users);

    if (w->env != NULL) {
        mdb_env_close(w->env);
        w->env = NULL;
    }
}


const char *
ims_pool_writer_dir(const ims_pool_writer_t *w)
{
    return w->dir;
}


void
ims_pool_writer_close(ims_pool_writer_t *w)
{
    if (w == NULL) {
        return;
    }

    ims_pool_start_close(w);
    ims_pool_purges_close(w);
    ims_pool_events_close(w);

    if (w->lockfd != -1) {
        close(w->lockfd);
    }

    if (w->dirfd != -1) {
        close(w->dirfd);
    }

    explicit_bzero(&w->keys, sizeof(w->keys));
    explicit_bzero(w->name, sizeof(w->name));
    free(w);
}


ims_pool_reader_t *
ims_pool_writer_reader(ims_pool_writer_t *w)
{
    return w->reader;
}


/* opens DIR/name; with MDB_CREATE in flags the trees are made too */

static int
ims_pool_start_env(ims_pool_writer_t *w, const char *name, unsigned flags,
    char *err, size_t errlen)
{
    int       rc, i, dead;
    char      path[IMS_POOL_PATH_MAX + 64];
    MDB_txn  *txn;

    snprintf(path, sizeof(path), "%s/%s", w->dir, name);
    ims_pool_space_lock(w, name);

    rc = mdb_env_create(&w->env);
    if (rc != 0) {
        goto failed;
    }

    (void) mdb_env_set_maxdbs(w->env, IMS_POOL_TREES + 4);
    (void) mdb_env_set_mapsize(w->env, w->opt.map_size);
    (void) mdb_env_set_maxreaders(w->env, w->opt.readers);

    rc = mdb_env_open(w->env, path, MDB_NOTLS, 0660);

    if (rc == 0 && !(flags & MDB_CREATE)) {
        rc = ims_pool_env_whole(w->env);
    }

    if (rc != 0) {
        goto failed;
    }

    /* who was killed has its slot still: there may be none for us */

    (void) mdb_reader_check(w->env, &dead);

    /*
     * A process that is killed between its meta page and the number in the lock
     * file leaves a commit that nobody sees while others have the file open,
     * and that the next one to write builds upon.  Whoever takes the writer's
     * lock after it puts the number right: so it is taken once, before anything
     * is read.  And what was left in the page cache goes to the disk.
     */

    rc = mdb_txn_begin(w->env, NULL, 0, &txn);
    if (rc != 0) {
        goto failed;
    }

    mdb_txn_abort(txn);

    rc = mdb_env_sync(w->env, 1);
    if (rc != 0) {
        goto failed;
    }

    rc = mdb_txn_begin(w->env, NULL, (flags & MDB_CREATE) ? 0 : MDB_RDONLY,
                       &txn);
    if (rc != 0) {
        goto failed;
    }

    rc = ims_pool_trees(txn, w->dbi, flags);

    if (rc == 0 && (flags & MDB_CREATE)) {
        rc = ims_pool_start_first(w, txn);
    }

    if (rc != 0) {
        mdb_txn_abort(txn);
        goto failed;
    }

    rc = mdb_txn_commit(txn);
    if (rc != 0) {
        goto failed;
    }

    return IMS_POOL_OK;

failed:

    i = rc == MDB_INVALID || rc == MDB_NOTFOUND || rc == MDB_CORRUPTED
        ? IMS_POOL_NOT_OURS
        : rc == MDB_VERSION_MISMATCH ? IMS_POOL_SCHEMA_DIFFERS
        : rc == ENOSPC ? IMS_POOL_NOSPACE : IMS_POOL_SYSTEM;

    return ims_pool_err(err, errlen, i, "\"%s\": %s", path, mdb_strerror(rc));
}


/* the first state: of an environment that has never been started */

static int
ims_pool_start_first(ims_pool_writer_t *w, MDB_txn *txn)
{
    int                rc;
    ims_pool_state_t  *s;

    s = &w->state;
    memset(s, 0, sizeof(ims_pool_state_t));

    memcpy(s->key, IMS_POOL_STATE_KEY, sizeof(IMS_POOL_STATE_KEY));
    memcpy(s->magic, IMS_POOL_MAGIC, sizeof(s->magic));

    s->schema = IMS_POOL_SCHEMA;
    s->min_reader = IMS_POOL_MIN_READER;
    s->node = w->opt.node;
    s->block = 1;
    s->renew_first = 1;
    s->renew_mid = 1;

    /* pool time begins at 1 s: 0 stays "never" */

    s->clock.pt = 1000;
    s->clock.boottime = w->clock.boottime(w->clock.ctx);
    s->clock.wall = w->clock.wall(w->clock.ctx);
    memcpy(s->clock.boot_id, w->boot_id, sizeof(w->boot_id));

    if (w->clock.random(w->clock.ctx, s->uuid, sizeof(s->uuid)) != 0) {
        return EIO;
    }

    w->txn = txn;
    rc = ims_pool_w_put(w, IMS_POOL_T_META, IMS_POOL_STATE_KEY,
                        sizeof(IMS_POOL_STATE_KEY) - 1, s, sizeof(*s), 0);
    w->txn = NULL;

    return rc == IMS_POOL_OK ? 0 : rc == IMS_POOL_NOSPACE ? ENOSPC : EIO;
}


/*
 * A new environment is made whole under a name of its own and only then
 * becomes env.1: what is found as env.<n> was finished.
 */
static int
ims_pool_start_create(ims_pool_writer_t *w, char *err, size_t errlen)
{
    int  rc;

    ims_pool_dir_remove(w, "env.1.init");

    if (mkdirat(w->dirfd, "env.1.init", 0750) == -1) {
        goto failed;
    }

    rc = ims_pool_start_env(w, "env.1.init", MDB_CREATE, err, errlen);

    if (w->env != NULL) {
        mdb_env_close(w->env);
        w->env = NULL;
    }

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    /* the modes first: from the link on workers may open it */

    snprintf(w->target, sizeof(w->target), "env.1.init");
    rc = ims_pool_dir_modes(w, err, errlen);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    if (renameat(w->dirfd, "env.1.init", w->dirfd, "env.1") == -1
        || ims_pool_dir_sync(w->dirfd) == -1
        || ims_pool_dir_link(w, "env.1") == -1)
    {
        goto failed;
    }

    return IMS_POOL_OK;

failed:

    return ims_pool_err(err, errlen, errno == ENOSPC ? IMS_POOL_NOSPACE
                                                     : IMS_POOL_SYSTEM,
                        "cannot make \"%s/env.1\": %s", w->dir,
                        strerror(errno));
}


static int
ims_pool_start_find(ims_pool_writer_t *w, ims_pool_dir_e what, bool *created,
    char *err, size_t errlen)
{
    int          rc;
    char         path[64];
    struct stat  sb;

    *created = what == IMS_POOL_DIR_EMPTY;

    if (what == IMS_POOL_DIR_EMPTY) {
        rc = ims_pool_start_create(w, err, errlen);

        if (rc != IMS_POOL_OK) {
            return rc;
        }
    }

    if (what == IMS_POOL_DIR_UNLINKED) {
        /* killed between the two renames of the first start, or so we hope */
        snprintf(w->target, sizeof(w->target), "env.1");
        w->number = 1;

    } else {
        rc = ims_pool_current(w->dir, w->target, sizeof(w->target),
                              &w->number);

        if (rc != IMS_POOL_OK) {
            return ims_pool_err(err, errlen, IMS_POOL_NOT_OURS,
                                "\"%s/current\" is not ours", w->dir);
        }
    }

    /* LMDB would make what is missing, and an empty pool of it */

    snprintf(path, sizeof(path), "%s/data.mdb", w->target);

    if (fstatat(w->dirfd, path, &sb, 0) == -1 || sb.st_size == 0) {
        return ims_pool_err(err, errlen, IMS_POOL_NOT_OURS,
                            "\"%s/%s\" is missing or empty", w->dir, path);
    }

    rc = ims_pool_start_env(w, w->target, 0, err, errlen);

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_start_read(w, what == IMS_POOL_DIR_UNLINKED, err,
                                 errlen);
    }

    if (rc == IMS_POOL_OK && w->committed.gone) {
        rc = ims_pool_start_follow(w, err, errlen);
    }

    return rc;
}


/* killed between the last commit of one environment and the link to the next */

static int
ims_pool_start_follow(ims_pool_writer_t *w, char *err, size_t errlen)
{
    int          rc;
    char         name[32], path[64];
    uint64_t     next;
    struct stat  sb;

    next = w->committed.gone;

    snprintf(name, sizeof(name), "env.%lu", (unsigned long) next);
    snprintf(path, sizeof(path), "%s/data.mdb", name);

    if (next != w->number + 1 || fstatat(w->dirfd, path, &sb, 0) == -1) {
        return ims_pool_err(err, errlen, IMS_POOL_NOT_OURS,
                            "\"%s/%s\" was given up for \"%s\", which is not "
                            "there", w->dir, w->target, name);
    }

    mdb_env_close(w->env);
    w->env = NULL;

    if (ims_pool_dir_link(w, name) == -1) {
        return ims_pool_err(err, errlen, IMS_POOL_SYSTEM,
                            "\"%s/current\": %s", w->dir, strerror(errno));
    }

    snprintf(w->target, sizeof(w->target), "%s", name);
    w->number = next;

    rc = ims_pool_start_env(w, w->target, 0, err, errlen);

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_start_read(w, false, err, errlen);
    }

    if (rc == IMS_POOL_OK && w->committed.gone) {
        rc = ims_pool_err(err, errlen, IMS_POOL_NOT_OURS,
                          "\"%s/%s\" was given up as well", w->dir, name);
    }

    return rc;
}


static int
ims_pool_start_read(ims_pool_writer_t *w, bool unlinked, char *err,
    size_t errlen)
{
    int       rc;
    MDB_txn  *txn;

    if (mdb_txn_begin(w->env, NULL, MDB_RDONLY, &txn) != 0) {
        return ims_pool_err(err, errlen, IMS_POOL_SYSTEM, "cannot read");
    }

    rc = ims_pool_state(txn, w->dbi, &w->committed);
    w->lined = w->committed.lined;

    if (rc == IMS_POOL_OK && w->committed.schema == IMS_POOL_SCHEMA) {
        rc = ims_pool_fold_open(w, txn);
    }

    mdb_txn_abort(txn);

    if (rc == IMS_POOL_OK && w->committed.schema != IMS_POOL_SCHEMA) {
        /* rows of a newer version can be read, but not written */
        rc = IMS_POOL_SCHEMA_DIFFERS;
    }

    if (rc != IMS_POOL_OK) {
        return ims_pool_err(err, errlen, rc, "\"%s/%s\": state: %s", w->dir,
                            w->target, ims_pool_strerror(rc));
    }

    if (unlinked && w->committed.incarnation != 0) {
        return ims_pool_err(err, errlen, IMS_POOL_NOT_OURS,
                            "\"%s/current\" is missing", w->dir);
    }

    if (unlinked && ims_pool_dir_link(w, w->target) == -1) {
        return ims_pool_err(err, errlen, IMS_POOL_SYSTEM,
                            "\"%s/current\": %s", w->dir, strerror(errno));
    }

    return IMS_POOL_OK;
}


static int
ims_pool_start_keys(ims_pool_writer_t *w, bool *made, char *err,
    size_t errlen)
{
    int          rc;
    MDB_val      k, v;
    MDB_txn     *txn;
    uint32_t     next;
    MDB_cursor  *cursor;

    if (mdb_txn_begin(w->env, NULL, MDB_RDONLY, &txn) != 0) {
        return ims_pool_err(err, errlen, IMS_POOL_SYSTEM, "cannot read");
    }

    next = 1;

    if (mdb_cursor_open(txn, w->dbi[IMS_POOL_T_KEY], &cursor) == 0) {
        rc = mdb_cursor_get(cursor, &k, &v, MDB_LAST);

        if (rc == 0 && k.mv_size == 4) {
            next = ims_pool_get32(k.mv_data) + 1;
        }

        mdb_cursor_close(cursor);
    }

    mdb_txn_abort(txn);

    return ims_pool_keys_load(w, next, made, err, errlen);
}


/*
 * The environment remembers which keys it was used with: another keys file
 * under the same numbers would hash every user to somebody new.
 */
static int
ims_pool_start_keys_fit(ims_pool_writer_t *w, bool made)
{
    int             rc;
    uint8_t         key[4];
    unsigned        i;
    uint64_t        print;
    ims_pool_key_t  row, old;

    for (i = 0; i <= w->keys.nhash; i++) {

        memset(&row, 0, sizeof(row));

        row.no = i < w->keys.nhash ? w->keys.hash[i].no : 0;
        row.wall = w->wall;
        print = w->keys.print[i < w->keys.nhash ? i : IMS_POOL_HASH_KEYS];
        row.print = print;

        ims_pool_be32(key, row.no);

        rc = ims_pool_w_copy(w, IMS_POOL_T_KEY, key, sizeof(key), &old,
                             sizeof(old));

        if (rc == IMS_POOL_OK && old.print == print) {
            continue;
        }

        if (rc == IMS_POOL_OK && !made) {
            return IMS_POOL_NOT_OURS;
        }

        if (rc == IMS_POOL_INTERNAL) {
            return rc;
        }

        rc = ims_pool_w_put(w, IMS_POOL_T_KEY, key, sizeof(key), &row,
                            sizeof(row), 0);

        if (rc != IMS_POOL_OK) {
            return rc;
        }
    }

    return IMS_POOL_OK;
}


/* commits may be lost: POOL.md section 6 */

static bool
ims_pool_start_lost(ims_pool_writer_t *w, bool created)
{
    if (created && w->opt.never_used) {
        return false;
    }

    if (w->opt.commits_lost || (w->committed.flags & IMS_POOL_SF_RESTORED)) {
        return true;
    }

    if (w->fold.lost) {
        /* renewals that cannot be read were promised all the same */
        return true;
    }

    if (w->floor.there) {
        return w->committed.incarnation < w->floor.incarnation;
    }

    /* no floor: fine only where no lease was ever given */

    return w->committed.given != 0;
}


static int
ims_pool_start_commit(ims_pool_writer_t *w, ims_pool_started_t *st, char *err,
    size_t errlen)
{
    int       rc;
    uint64_t  term;

    st->fenced = ims_pool_start_lost(w, st->created);

    rc = ims_pool_begin(w);

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_start_keys_fit(w, st->new_keys);

        if (rc == IMS_POOL_NOT_OURS) {
            ims_pool_abort(w);
            return ims_pool_err(err, errlen, rc,
                                "\"%s/keys\" is not this environment's",
                                w->dir);
        }
    }

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_start_batch(w, st->fenced, &term, st);
    }

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_commit(w);
    }

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_floor_write(w, w->committed.incarnation, term);
    }

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_reader_borrow(&w->reader, w->env, w->dbi, &w->clock,
                                    &w->fold.recent);
    }

    if (rc == IMS_POOL_OK && w->fold.lost) {
        rc = ims_pool_fold_all(w);
    }

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_start_users(w);
    }

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_w_imports(w, &st->undone);
    }

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_purges_open(w);
    }

    if (rc != IMS_POOL_OK) {
        ims_pool_abort(w);
        return ims_pool_err(err, errlen, rc, "start of \"%s/%s\": %s", w->dir,
                            w->target, ims_pool_strerror(rc));
    }

    return IMS_POOL_OK;
}


static int
ims_pool_start_users(ims_pool_writer_t *w)
{
    int                 rc;
    ims_pool_reader_t  *r;

    r = w->reader;

    rc = ims_pool_snap(r);

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_users_load(&w->users, r->txn, r->dbi, &w->clock);
        ims_pool_unsnap(r);
    }

    return rc;
}


static int
ims_pool_start_batch(ims_pool_writer_t *w, bool lost, uint64_t *term,
    ims_pool_started_t *st)
{
    int                rc;
    uint64_t           inc;
    ims_pool_state_t  *s;

    s = &w->state;

    inc = s->incarnation > w->floor.incarnation ? s->incarnation
                                                : w->floor.incarnation;

    if (inc >= IMS_POOL_INCARNATION) {
        return IMS_POOL_SYSTEM;
    }

    inc++;

    rc = ims_pool_clock_start(w);

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_w_term(w, term);
    }

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    if (*term < w->floor.term) {
        *term = w->floor.term;
    }

    if (lost) {
        ims_pool_hold_mark(s);

        /* every id that can have been given before this start */
        rc = ims_pool_w_fence_all(w, (inc << IMS_POOL_LEASE_BITS) - 1);

        if (rc != IMS_POOL_OK) {
            return rc;
        }

        if (s->hold_until < w->now + *term) {
            s->hold_until = w->now + *term;
        }

        s->hold_since = w->now;
        ims_pool_hold_begin(w, inc);
    }

    if (w->clock.random(w->clock.ctx, &s->run, sizeof(s->run)) != 0) {
        return IMS_POOL_SYSTEM;
    }

    s->flags &= ~IMS_POOL_SF_RESTORED;
    s->incarnation = inc;
    s->last_lease = inc << IMS_POOL_LEASE_BITS;
    s->pid_ns = w->pid_ns;
    s->time_ns = w->time_ns;

    w->dirty = 1;

    st->incarnation = inc;
    st->now = w->now;
    st->hold_until = s->hold_until;

    return IMS_POOL_OK;
}
