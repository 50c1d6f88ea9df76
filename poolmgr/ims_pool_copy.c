/*
 * Copyright (C) nginx-ims contributors
 *
 * Copies of an environment: backup, verification, and the change to another
 * one (compaction, restore).
 *
 * A new environment is made whole beside the old one as env.<n+1>.new, synced
 * and renamed; then the old one is given up by its last commit (`gone`), and
 * the link follows.  Killed in between, the next start goes on from what it
 * finds; readers see `gone`, or that the link leads elsewhere.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "ims_pool_wint.h"


#define IMS_POOL_COPY_CHUNK   (1 << 20)
#define IMS_POOL_COPY_ROWS    1000
#define IMS_POOL_INDEX_GAP    1000000   /* idents that may be in use already */


static int ims_pool_copy_open(MDB_env **env, MDB_dbi *dbi, const char *path,
    unsigned flags, const ims_pool_options_t *opt, char *err, size_t errlen);
static int ims_pool_copy_file(ims_pool_writer_t *w, const char *from, int to,
    char *err, size_t errlen);
static bool ims_pool_copy_itself(ims_pool_writer_t *w, int fd);
static int ims_pool_copy_sync_parent(const char *path);
static void ims_pool_copy_new(ims_pool_writer_t *w, char *name, size_t cap,
    bool made);
static int ims_pool_copy_restored(ims_pool_writer_t *w, const char *name,
    char *err, size_t errlen);
static uint64_t ims_pool_copy_least(const ims_pool_writer_t *w);
static int ims_pool_copy_gone(ims_pool_writer_t *w, uint64_t n);


/* --- backup ------------------------------------------------------------------ */

int
ims_pool_backup(const char *dir, const ims_pool_clock_t *clock,
    const char *path, ims_pool_check_t *check, char *err, size_t errlen)
{
    int                 fd, rc;
    char                temp[IMS_POOL_PATH_MAX + 32];
    ims_pool_reader_t  *r;

    if (strlen(path) >= IMS_POOL_PATH_MAX) {
        return ims_pool_err(err, errlen, IMS_POOL_SYSTEM, "path too long");
    }

    rc = ims_pool_open_clock(&r, dir, clock, err, errlen);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    snprintf(temp, sizeof(temp), "%s.%ld.new", path, (long) getpid());

    fd = open(temp, O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0600);

    if (fd == -1) {
        ims_pool_close(r);
        return ims_pool_err(err, errlen, IMS_POOL_SYSTEM, "\"%s\": %s", temp,
                            strerror(errno));
    }

    rc = mdb_env_copyfd2(r->env, fd, MDB_CP_COMPACT);

    ims_pool_close(r);

    if (rc == 0 && fsync(fd) == -1) {
        rc = errno;
    }

    close(fd);

    if (rc != 0) {
        rc = ims_pool_err(err, errlen, rc == ENOSPC ? IMS_POOL_NOSPACE
                                                    : IMS_POOL_SYSTEM,
                          "\"%s\": %s", temp, mdb_strerror(rc));

    } else {
        rc = ims_pool_verify(temp, check, NULL, err, errlen);
    }

    /* what bears the name was read once, and is on the disk */

    if (rc == IMS_POOL_OK && (rename(temp, path) == -1
                              || ims_pool_copy_sync_parent(path) == -1))
    {
        rc = ims_pool_err(err, errlen, IMS_POOL_SYSTEM, "\"%s\": %s", path,
                          strerror(errno));
    }

    if (rc != IMS_POOL_OK) {
        (void) unlink(temp);
    }

    return rc;
}


static int
ims_pool_copy_sync_parent(const char *path)
{
    int   fd, rc;
    char  copy[IMS_POOL_PATH_MAX];

    snprintf(copy, sizeof(copy), "%s", path);

    fd = open(dirname(copy), O_RDONLY|O_DIRECTORY|O_CLOEXEC);

    if (fd == -1) {
        return -1;
    }

    rc = fsync(fd);
    close(fd);

    return rc;
}


int
ims_pool_verify(const char *path, ims_pool_check_t *check,
    ims_pool_state_t *state, char *err, size_t errlen)
{
    int                 rc;
    ims_pool_writer_t  *w;

    w = calloc(1, sizeof(ims_pool_writer_t));
    if (w == NULL) {
        return ims_pool_err(err, errlen, IMS_POOL_SYSTEM, "no memory");
    }

    w->dirfd = -1;
    w->lockfd = -1;
    w->clock = ims_pool_clock;

    /* a copy has no floor beside it */

    w->floor.incarnation = UINT64_MAX;
    w->floor.term = UINT64_MAX;

    rc = ims_pool_copy_open(&w->env, w->dbi, path,
                            MDB_NOSUBDIR|MDB_RDONLY|MDB_NOLOCK, NULL, err,
                            errlen);

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_reader_borrow(&w->reader, w->env, w->dbi, &w->clock,
                                    NULL);

        if (rc != IMS_POOL_OK) {
            rc = ims_pool_err(err, errlen, IMS_POOL_NOT_OURS,
                              "\"%s\" is no environment that is in use", path);
        }
    }

    if (rc == IMS_POOL_OK) {

        if (state != NULL) {
            *state = w->reader->state;
        }

        do {
            rc = ims_pool_check_slice(w, check, IMS_POOL_COPY_ROWS);
        } while (rc == IMS_POOL_MORE);

        if (rc == IMS_POOL_OK && ims_pool_check_total(check) != 0) {
            rc = IMS_POOL_UNKNOWN;
        }

        if (rc != IMS_POOL_OK) {
            rc = ims_pool_err(err, errlen, IMS_POOL_UNKNOWN,
                              "\"%s\" has %llu faults", path,
                              (unsigned long long)
                              ims_pool_check_total(check));
        }
    }

    ims_pool_writer_close(w);

    return rc;
}


static int
ims_pool_copy_open(MDB_env **env, MDB_dbi *dbi, const char *path,
    unsigned flags, const ims_pool_options_t *opt, char *err, size_t errlen)
{
    int       rc, i;
    MDB_txn  *txn;

    rc = mdb_env_create(env);

    if (rc == 0) {
        (void) mdb_env_set_maxdbs(*env, IMS_POOL_TREES + 4);

        if (opt != NULL) {
            (void) mdb_env_set_mapsize(*env, opt->map_size);
            (void) mdb_env_set_maxreaders(*env, opt->readers);
        }

        rc = mdb_env_open(*env, path, flags|MDB_NOTLS, 0660);
    }

    if (rc == 0) {
        rc = ims_pool_env_whole(*env);
    }

    if (rc == 0) {
        rc = mdb_txn_begin(*env, NULL, MDB_RDONLY, &txn);
    }

    if (rc == 0) {

        rc = ims_pool_trees(txn, dbi, 0);

        if (rc == 0) {
            rc = mdb_txn_commit(txn);

        } else {
            mdb_txn_abort(txn);
        }
    }

    if (rc == 0) {
        return IMS_POOL_OK;
    }

    i = rc == MDB_INVALID || rc == MDB_NOTFOUND || rc == MDB_CORRUPTED
        || rc == MDB_PAGE_NOTFOUND ? IMS_POOL_NOT_OURS
        : rc == MDB_VERSION_MISMATCH ? IMS_POOL_SCHEMA_DIFFERS
        : rc == ENOSPC ? IMS_POOL_NOSPACE : IMS_POOL_SYSTEM;

    return ims_pool_err(err, errlen, i, "\"%s\": %s", path, mdb_strerror(rc));
}


/* --- another environment -------------------------------------------------------- */

static void
ims_pool_copy_new(ims_pool_writer_t *w, char *name, size_t cap, bool made)
{
    snprintf(name, cap, "env.%" PRIu64 "%s", w->number + 1,
             made ? "" : ".new");
}


int
ims_pool_copy_begin(ims_pool_writer_t *w, const char *from,
    ims_pool_check_t *check, char *err, size_t errlen)
{
    int   fd, rc;
    char  name[32], path[IMS_POOL_PATH_MAX + 64];

    ims_pool_copy_new(w, name, sizeof(name), false);
    ims_pool_dir_remove(w, name);

    if (mkdirat(w->dirfd, name, 0750) == -1) {
        return ims_pool_err(err, errlen, IMS_POOL_SYSTEM, "\"%s/%s\": %s",
                            w->dir, name, strerror(errno));
    }

    snprintf(path, sizeof(path), "%s/%s/data.mdb", w->dir, name);

    fd = open(path, O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0640);

    if (fd == -1) {
        return ims_pool_err(err, errlen, IMS_POOL_SYSTEM, "\"%s\": %s", path,
                            strerror(errno));
    }

    if (from != NULL) {
        rc = ims_pool_copy_file(w, from, fd, err, errlen);

    } else {
        rc = mdb_env_copyfd2(w->env, fd, MDB_CP_COMPACT);

        if (rc != 0) {
            rc = ims_pool_err(err, errlen, rc == ENOSPC ? IMS_POOL_NOSPACE
                                                        : IMS_POOL_SYSTEM,
                              "\"%s\": %s", path, mdb_strerror(rc));
        }
    }

    if (rc == IMS_POOL_OK && fsync(fd) == -1) {
        rc = ims_pool_err(err, errlen, IMS_POOL_SYSTEM, "\"%s\": %s", path,
                          strerror(errno));
    }

    close(fd);

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_verify(path, check, NULL, err, errlen);
    }

    if (rc != IMS_POOL_OK) {
        ims_pool_dir_remove(w, name);
    }

    return rc;
}


static int
ims_pool_copy_file(ims_pool_writer_t *w, const char *from, int to, char *err,
    size_t errlen)
{
    int          fd, rc;
    char        *buf, *p;
    ssize_t      n, wrote;

    buf = malloc(IMS_POOL_COPY_CHUNK);
    fd = strcmp(from, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
                                : open(from, O_RDONLY|O_CLOEXEC);

    if (buf == NULL || fd == -1) {
        rc = ims_pool_err(err, errlen, IMS_POOL_SYSTEM, "\"%s\": %s", from,
                          buf ? strerror(errno) : "no memory");
        goto done;
    }

    if (ims_pool_copy_itself(w, fd)) {
        rc = ims_pool_err(err, errlen, IMS_POOL_BADARG,
                          "\"%s\" is no backup, but the database itself",
                          from);
        goto done;
    }

    rc = IMS_POOL_OK;

    while ((n = read(fd, buf, IMS_POOL_COPY_CHUNK)) > 0) {

        for (p = buf; n > 0; p += wrote, n -= wrote) {
            wrote = write(to, p, (size_t) n);

            if (wrote <= 0) {
                rc = ims_pool_err(err, errlen, errno == ENOSPC
                                               ? IMS_POOL_NOSPACE
                                               : IMS_POOL_SYSTEM,
                                  "copy of \"%s\": %s", from,
                                  strerror(errno));
                goto done;
            }
        }
    }

    if (n == -1) {
        rc = ims_pool_err(err, errlen, IMS_POOL_SYSTEM, "\"%s\": %s", from,
                          strerror(errno));
    }

done:

    if (fd != -1) {
        close(fd);
    }

    free(buf);

    return rc;
}


/* it changes while it is read, so that a copy of it proves nothing */

static bool
ims_pool_copy_itself(ims_pool_writer_t *w, int fd)
{
    int          own;
    struct stat  a, b;

    return w->env != NULL && mdb_env_get_fd(w->env, &own) == 0
           && fstat(own, &a) == 0 && fstat(fd, &b) == 0
           && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}


/*
 * What of the running environment must not be forgotten with it: numbers that
 * were given, and how late it is.
 */
static int
ims_pool_copy_restored(ims_pool_writer_t *w, const char *name, char *err,
    size_t errlen)
{
    int                 rc;
    char                path[IMS_POOL_PATH_MAX + 64];
    uint64_t            pt, now;
    ims_pool_state_t   *s, *old;
    ims_pool_writer_t  *n;

    n = calloc(1, sizeof(ims_pool_writer_t));
    if (n == NULL) {
        return ims_pool_err(err, errlen, IMS_POOL_SYSTEM, "no memory");
    }

    n->dirfd = -1;
    n->lockfd = -1;
    n->clock = w->clock;
    memcpy(n->boot_id, w->boot_id, sizeof(n->boot_id));

    snprintf(path, sizeof(path), "%s/%s", w->dir, name);

    rc = ims_pool_copy_open(&n->env, n->dbi, path, 0, &w->opt, err, errlen);

    if (rc == IMS_POOL_OK) {
        rc = mdb_txn_begin(n->env, NULL, 0, &n->txn) == 0
             ? ims_pool_state(n->txn, n->dbi, &n->state) : IMS_POOL_SYSTEM;
    }

    if (rc != IMS_POOL_OK) {
        ims_pool_writer_close(n);
        return ims_pool_err(err, errlen, rc, "\"%s\": state: %s", path,
                            ims_pool_strerror(rc));
    }

    s = &n->state;
    now = n->clock.boottime(n->clock.ctx);
    pt = ims_pool_pt_at(&s->clock, now, n->boot_id);

    if (w->env != NULL) {
        pt = pt > ims_pool_now(w) ? pt : ims_pool_now(w);
    }

    ims_pool_hold_mark(s);
    s->hold_least = ims_pool_copy_least(w);

    if (w->env != NULL) {
        old = &w->committed;

        s->incarnation = s->incarnation > old->incarnation
                         ? s->incarnation : old->incarnation;
        s->last_index = s->last_index > old->last_index
                        ? s->last_index : old->last_index;
        s->last_pool = s->last_pool > old->last_pool
                       ? s->last_pool : old->last_pool;
        s->feed_seq = s->feed_seq > old->feed_seq
                      ? s->feed_seq : old->feed_seq;

    } else {
        /* nobody knows what was given after the backup */
        s->last_index = s->last_index < UINT32_MAX - IMS_POOL_INDEX_GAP
                        ? s->last_index + IMS_POOL_INDEX_GAP : UINT32_MAX;
    }

    s->flags |= IMS_POOL_SF_RESTORED;
    s->clock.pt = pt;
    s->clock.boottime = now;
    s->clock.wall = n->clock.wall(n->clock.ctx);
    memcpy(s->clock.boot_id, n->boot_id, sizeof(n->boot_id));

    if (n->clock.random(n->clock.ctx, s->uuid, sizeof(s->uuid)) != 0) {
        rc = IMS_POOL_SYSTEM;
    }

    /* rows of the feed would leave a gap: whoever opens it looks at all */

    if (rc == IMS_POOL_OK
        && mdb_drop(n->txn, n->dbi[IMS_POOL_T_FEED], 0) != 0)
    {
        rc = IMS_POOL_SYSTEM;
    }

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_w_put(n, IMS_POOL_T_META, IMS_POOL_STATE_KEY,
                            sizeof(IMS_POOL_STATE_KEY) - 1, s, sizeof(*s), 0);
    }

    if (rc == IMS_POOL_OK) {
        rc = mdb_txn_commit(n->txn) == 0 ? IMS_POOL_OK : IMS_POOL_SYSTEM;
        n->txn = NULL;
    }

    if (rc != IMS_POOL_OK) {
        rc = ims_pool_err(err, errlen, rc, "\"%s\": %s", path,
                          ims_pool_strerror(rc));
    }

    ims_pool_writer_close(n);

    return rc;
}


/*
 * All that the old one began must be in the log, which may have been cut:
 * `lined` is behind by a commit.  So if it was killed before the lines of its
 * last batch no log proves it, unless a start has written them in between.
 */
static uint64_t
ims_pool_copy_least(const ims_pool_writer_t *w)
{
    uint64_t                 least;
    const ims_pool_state_t  *old;

    if (w->env == NULL) {
        return 0;
    }

    old = &w->committed;
    least = old->begun > w->lined ? old->begun : w->lined;

    /* one that was never started knows of the one before it */

    return (old->flags & IMS_POOL_SF_RESTORED) && old->hold_least > least
           ? old->hold_least : least;
}


/* the last transaction of the old one */

static int
ims_pool_copy_gone(ims_pool_writer_t *w, uint64_t n)
{
    int  rc;

    rc = ims_pool_begin(w);

    if (rc == IMS_POOL_OK) {
        w->state.gone = n;
        w->dirty = 1;
        rc = ims_pool_commit(w);
    }

    return rc;
}


int
ims_pool_copy_end(ims_pool_writer_t *w, bool restored,
    ims_pool_started_t *started, char *err, size_t errlen)
{
    int       rc;
    char      name[32], made[32], old[32];
    uint64_t  n;

    ims_pool_copy_new(w, name, sizeof(name), false);
    ims_pool_copy_new(w, made, sizeof(made), true);
    snprintf(old, sizeof(old), "%s", w->target);
    n = w->number + 1;

    rc = restored ? ims_pool_copy_restored(w, name, err, errlen)
                  : ims_pool_copy_lock(w, name, err, errlen);

    if (rc == IMS_POOL_OK) {
        /* the modes first: from the link on workers may open it */
        snprintf(w->target, sizeof(w->target), "%s", name);
        rc = ims_pool_dir_modes(w, err, errlen);
        snprintf(w->target, sizeof(w->target), "%s", old);
    }

    if (rc == IMS_POOL_OK) {
        ims_pool_dir_remove(w, made);

        if (ims_pool_dir_sync_in(w, name) == -1
            || renameat(w->dirfd, name, w->dirfd, made) == -1
            || ims_pool_dir_sync(w->dirfd) == -1)
        {
            rc = ims_pool_err(err, errlen, IMS_POOL_SYSTEM, "\"%s/%s\": %s",
                              w->dir, made, strerror(errno));
        }
    }

    if (rc != IMS_POOL_OK) {
        ims_pool_dir_remove(w, name);
        return rc;
    }

    /* from here on there is no way back */

    if (w->env != NULL) {
        rc = ims_pool_copy_gone(w, n);

        if (rc != IMS_POOL_OK) {
            w->dead = 1;
            return ims_pool_err(err, errlen, rc, "\"%s/%s\" could not be "
                                "given up: %s", w->dir, old,
                                ims_pool_strerror(rc));
        }
    }

    if (ims_pool_dir_link(w, made) == -1) {
        w->dead = 1;
        return ims_pool_err(err, errlen, IMS_POOL_SYSTEM, "\"%s/current\": %s",
                            w->dir, strerror(errno));
    }

    if (started == NULL) {
        return IMS_POOL_OK;
    }

    rc = ims_pool_reopen(w, started, err, errlen);

    if (rc != IMS_POOL_OK) {
        w->dead = 1;
        return rc;
    }

    if (restored) {
        ims_pool_space_free(w, old);

    } else {
        ims_pool_dir_remove(w, old);
    }

    return IMS_POOL_OK;
}


/* a copy has no lock file yet: it is made here, as large as it has to be */

int
ims_pool_copy_lock(ims_pool_writer_t *w, const char *name, char *err,
    size_t errlen)
{
    int       rc;
    char      path[IMS_POOL_PATH_MAX + 64];
    MDB_dbi   dbi[IMS_POOL_TREES];
    MDB_env  *env;

    snprintf(path, sizeof(path), "%s/%s", w->dir, name);

    env = NULL;
    rc = ims_pool_copy_open(&env, dbi, path, 0, &w->opt, err, errlen);

    if (env != NULL) {
        mdb_env_close(env);
    }

    return rc;
}


int
ims_pool_restore(const ims_pool_options_t *opt, const char *from, char *err,
    size_t errlen)
{
    int                 rc;
    ims_pool_check_t    check;
    ims_pool_writer_t  *w;

    ims_pool_check_begin(&check, NULL, NULL);

    rc = ims_pool_writer_hold(&w, opt, err, errlen);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    rc = ims_pool_copy_begin(w, from, &check, err, errlen);

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_copy_end(w, true, NULL, err, errlen);
    }

    ims_pool_writer_close(w);

    return rc;
}
