/*
 * Copyright (C) nginx-ims contributors
 *
 * The pool directory: whose it is, what file system it is on, its lock, its
 * modes, and the files beside the environment that must never be half
 * written.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "ims_pool_wint.h"


#ifndef FUSE_SUPER_MAGIC
#define FUSE_SUPER_MAGIC   0x65735546
#endif

#ifndef CIFS_SUPER_MAGIC
#define CIFS_SUPER_MAGIC   0xff534d42
#endif

#ifndef SMB2_SUPER_MAGIC
#define SMB2_SUPER_MAGIC   0xfe534d42
#endif


static int ims_pool_dir_make(ims_pool_writer_t *w, char *err, size_t errlen);
static int ims_pool_dir_scan(ims_pool_writer_t *w, ims_pool_dir_e *what,
    char *name, size_t cap);
static int ims_pool_dir_lock(ims_pool_writer_t *w, char *err, size_t errlen);
static int ims_pool_dir_exchange(ims_pool_writer_t *w, const char *name,
    const char *text, size_t n);
static bool ims_pool_floor_parse(ims_pool_floor_t *f, const char *text);
static int ims_pool_floor_put(ims_pool_writer_t *w, ims_pool_floor_t *f);


/* one line, see ims_pool_floor_read() */
#define IMS_POOL_FLOOR_MAX  192


/*
 * File systems that lose what was synced, or where the locks and maps of
 * LMDB do not hold.
 */
static const struct {
    uint32_t     magic;
    const char  *name;
} ims_pool_fs_refused[] = {
    { TMPFS_MAGIC,            "tmpfs" },
    { RAMFS_MAGIC,            "ramfs" },
    { OVERLAYFS_SUPER_MAGIC,  "overlay" },
    { NFS_SUPER_MAGIC,        "NFS" },
    { FUSE_SUPER_MAGIC,       "FUSE" },
    { CIFS_SUPER_MAGIC,       "CIFS" },
    { SMB2_SUPER_MAGIC,       "SMB" },
    { V9FS_MAGIC,             "9p" },
};


/* names that may stand in a directory without an environment */
static const char *const  ims_pool_dir_known[] = {
    ".", "..", "lock", "floor", "floor.new", "keys", "keys.new", "secrets",
    "history.log", "lost+found", "current.new"
};


int
ims_pool_dir_open(ims_pool_writer_t *w, const ims_pool_options_t *opt,
    ims_pool_dir_e *what, char *err, size_t errlen)
{
    int   rc;
    char  name[NAME_MAX + 1];

    rc = ims_pool_dir_make(w, err, errlen);

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_dir_fs(w, opt, err, errlen);
    }

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    /* first without touching anything: it may be somebody else's */

    rc = ims_pool_dir_scan(w, what, name, sizeof(name));

    if (rc == IMS_POOL_OK && *what != IMS_POOL_DIR_FOREIGN) {

        rc = ims_pool_dir_lock(w, err, errlen);

        if (rc != IMS_POOL_OK) {
            return rc;
        }

        rc = ims_pool_dir_scan(w, what, name, sizeof(name));
    }

    if (rc != IMS_POOL_OK) {
        return ims_pool_err(err, errlen, rc, "\"%s\": %s", w->dir,
                            strerror(errno));
    }

    if (*what == IMS_POOL_DIR_FOREIGN) {
        return ims_pool_err(err, errlen, IMS_POOL_NOT_OURS,
                            "\"%s\" is not ours: it holds \"%s\"", w->dir,
                            name);
    }

    return IMS_POOL_OK;
}


static int
ims_pool_dir_make(ims_pool_writer_t *w, char *err, size_t errlen)
{
    if (mkdir(w->dir, 0750) == -1 && errno != EEXIST) {
        goto failed;
    }

    w->dirfd = open(w->dir, O_RDONLY|O_DIRECTORY|O_CLOEXEC);

    if (w->dirfd == -1) {
        goto failed;
    }

    return IMS_POOL_OK;

failed:

    return ims_pool_err(err, errlen, IMS_POOL_SYSTEM, "\"%s\": %s", w->dir,
                        strerror(errno));
}


int
ims_pool_dir_fs(ims_pool_writer_t *w, const ims_pool_options_t *opt,
    char *err, size_t errlen)
{
    int          rc;
    const char  *name;

    if (opt->is_volatile) {
        return IMS_POOL_OK;
    }

    rc = ims_pool_fs(w->dirfd, &name);

    if (rc == IMS_POOL_SYSTEM) {
        return ims_pool_err(err, errlen, rc, "statfs \"%s\": %s", w->dir,
                            strerror(errno));
    }

    if (rc != IMS_POOL_OK) {
        return ims_pool_err(err, errlen, rc, "\"%s\" is on %s, which does not "
                            "keep what was synced", w->dir, name);
    }

    return IMS_POOL_OK;
}


int
ims_pool_fs(int fd, const char **name)
{
    size_t         i;
    struct statfs  fs;

    if (fstatfs(fd, &fs) == -1) {
        return IMS_POOL_SYSTEM;
    }

    for (i = 0; i < sizeof(ims_pool_fs_refused)
                    / sizeof(ims_pool_fs_refused[0]); i++)
    {
        if ((uint32_t) fs.f_type == ims_pool_fs_refused[i].magic) {
            *name = ims_pool_fs_refused[i].name;
            return IMS_POOL_FILESYSTEM;
        }
    }

    return IMS_POOL_OK;
}


/* an environment's directory that was never finished, or a plain file */

static bool
ims_pool_dir_is_known(const char *name)
{
    size_t  i;

    for (i = 0; i < sizeof(ims_pool_dir_known)
                    / sizeof(ims_pool_dir_known[0]); i++)
    {
        if (strcmp(name, ims_pool_dir_known[i]) == 0) {
            return true;
        }
    }

    return strcmp(name, "env.1.init") == 0;
}


static int
ims_pool_dir_scan(ims_pool_writer_t *w, ims_pool_dir_e *what, char *name,
    size_t cap)
{
    int             fd;
    DIR            *dir;
    bool            env;
    struct stat     sb;
    struct dirent  *de;

    *what = IMS_POOL_DIR_EMPTY;

    if (fstatat(w->dirfd, "current", &sb, AT_SYMLINK_NOFOLLOW) == 0) {
        snprintf(name, cap, "current");
        *what = S_ISLNK(sb.st_mode) ? IMS_POOL_DIR_OURS
                                    : IMS_POOL_DIR_FOREIGN;
        return IMS_POOL_OK;
    }

    fd = openat(w->dirfd, ".", O_RDONLY|O_DIRECTORY|O_CLOEXEC);
    if (fd == -1) {
        return IMS_POOL_SYSTEM;
    }

    dir = fdopendir(fd);
    if (dir == NULL) {
        close(fd);
        return IMS_POOL_SYSTEM;
    }

    env = false;

    while ((de = readdir(dir)) != NULL) {

        if (strcmp(de->d_name, "env.1") == 0) {
            env = true;

        } else if (!ims_pool_dir_is_known(de->d_name)) {
            snprintf(name, cap, "%s", de->d_name);
            *what = IMS_POOL_DIR_FOREIGN;
            break;
        }
    }

    closedir(dir);

    if (env && *what == IMS_POOL_DIR_EMPTY) {
        *what = IMS_POOL_DIR_UNLINKED;
    }

    return IMS_POOL_OK;
}


/*
 * The lock belongs to the open file, so that closing another descriptor of
 * the same file somewhere in the process does not drop it, as it would a
 * POSIX lock.
 */
static int
ims_pool_dir_lock(ims_pool_writer_t *w, char *err, size_t errlen)
{
    struct flock  fl;

    w->lockfd = openat(w->dirfd, "lock",
                       O_RDWR|O_CREAT|O_CLOEXEC|O_NOFOLLOW, 0600);

    if (w->lockfd == -1) {
        return ims_pool_err(err, errlen, IMS_POOL_SYSTEM, "\"%s/lock\": %s",
                            w->dir, strerror(errno));
    }

    memset(&fl, 0, sizeof(fl));
    fl.l_type = F_WRLCK;
    fl.l_whence = SEEK_SET;

    if (fcntl(w->lockfd, F_OFD_SETLK, &fl) == -1) {

        if (errno == EAGAIN || errno == EACCES) {
            return ims_pool_err(err, errlen, IMS_POOL_LOCKED,
                                "another pool manager runs on \"%s\"",
                                w->dir);
        }

        return ims_pool_err(err, errlen, IMS_POOL_SYSTEM,
                            "lock on \"%s/lock\": %s", w->dir,
                            strerror(errno));
    }

    return IMS_POOL_OK;
}


static int
ims_pool_dir_mode(ims_pool_writer_t *w, const char *name, mode_t mode)
{
    if (w->chgrp && fchownat(w->dirfd, name, (uid_t) -1, w->gid, 0) == -1) {
        return -1;
    }

    return fchmodat(w->dirfd, name, mode, 0);
}


int
ims_pool_dir_modes(ims_pool_writer_t *w, char *err, size_t errlen)
{
    char  path[64];

    /* LMDB makes both files with one mode: readers write to the lock file */

    if (ims_pool_dir_mode(w, ".", 0750) == -1
        || ims_pool_dir_mode(w, w->target, 0750) == -1)
    {
        goto failed;
    }

    snprintf(path, sizeof(path), "%s/data.mdb", w->target);

    if (ims_pool_dir_mode(w, path, 0640) == -1) {
        goto failed;
    }

    snprintf(path, sizeof(path), "%s/lock.mdb", w->target);

    if (ims_pool_dir_mode(w, path, 0660) == -1) {
        goto failed;
    }

    return IMS_POOL_OK;

failed:

    return ims_pool_err(err, errlen, IMS_POOL_SYSTEM,
                        "modes in \"%s\": %s", w->dir, strerror(errno));
}


int
ims_pool_dir_sync(int fd)
{
    return fsync(fd);
}


int
ims_pool_dir_sync_in(ims_pool_writer_t *w, const char *name)
{
    int  fd, rc;

    fd = openat(w->dirfd, name, O_RDONLY|O_DIRECTORY|O_CLOEXEC);

    if (fd == -1) {
        return -1;
    }

    rc = fsync(fd);
    close(fd);

    return rc;
}


void
ims_pool_dir_remove(ims_pool_writer_t *w, const char *name)
{
    size_t  i;
    char    path[128];

    static const char *const  files[] = { "data.mdb", "lock.mdb" };

    for (i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", name, files[i]);
        (void) unlinkat(w->dirfd, path, 0);
    }

    (void) unlinkat(w->dirfd, name, AT_REMOVEDIR);
}


void
ims_pool_dir_sweep(ims_pool_writer_t *w)
{
    int             fd;
    DIR            *dir;
    char            tail;
    uint64_t        n;
    struct dirent  *de;

    fd = openat(w->dirfd, ".", O_RDONLY|O_DIRECTORY|O_CLOEXEC);
    dir = fd == -1 ? NULL : fdopendir(fd);

    if (dir == NULL) {
        return;
    }

    while ((de = readdir(dir)) != NULL) {

        n = 0;
        tail = '\0';

        if (sscanf(de->d_name, "env.%" SCNu64 "%c", &n, &tail) < 1
            || (tail != '\0' && tail != '.'))
        {
            continue;
        }

        if (tail == '.' || n > w->number || n + 1 < w->number) {
            ims_pool_dir_remove(w, de->d_name);
        }
    }

    closedir(dir);
}


int
ims_pool_dir_link(ims_pool_writer_t *w, const char *name)
{
    (void) unlinkat(w->dirfd, "current.new", 0);

    if (symlinkat(name, w->dirfd, "current.new") == -1
        || renameat(w->dirfd, "current.new", w->dirfd, "current") == -1)
    {
        return -1;
    }

    return ims_pool_dir_sync(w->dirfd);
}


int
ims_pool_dir_replace(ims_pool_writer_t *w, const char *name, const char *text,
    size_t n)
{
    int      fd;
    char     temp[64];
    ssize_t  wrote;

    snprintf(temp, sizeof(temp), "%s.new", name);
    (void) unlinkat(w->dirfd, temp, 0);

    fd = openat(w->dirfd, temp, O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0600);
    if (fd == -1) {
        return -1;
    }

    wrote = write(fd, text, n);

    if (wrote != (ssize_t) n || fsync(fd) == -1) {
        close(fd);
        (void) unlinkat(w->dirfd, temp, 0);
        return -1;
    }

    close(fd);

    if (renameat(w->dirfd, temp, w->dirfd, name) == -1) {
        return -1;
    }

    return ims_pool_dir_sync(w->dirfd);
}


/*
 * The same for a file that has to be written on a full disk, too: the one that
 * it replaces stays as NAME.new, and is the next one's place.
 */
static int
ims_pool_dir_exchange(ims_pool_writer_t *w, const char *name,
    const char *text, size_t n)
{
    int      fd;
    char     temp[64];
    ssize_t  wrote;

    snprintf(temp, sizeof(temp), "%s.new", name);

    fd = openat(w->dirfd, temp, O_WRONLY|O_CREAT|O_CLOEXEC|O_NOFOLLOW, 0600);
    if (fd == -1) {
        return -1;
    }

    wrote = pwrite(fd, text, n, 0);

    if (wrote != (ssize_t) n || ftruncate(fd, (off_t) n) == -1
        || fsync(fd) == -1)
    {
        close(fd);
        return -1;
    }

    close(fd);

    if (renameat2(w->dirfd, temp, w->dirfd, name, RENAME_EXCHANGE) == -1) {
        return -1;
    }

    return ims_pool_dir_sync(w->dirfd);
}


ssize_t
ims_pool_dir_read(ims_pool_writer_t *w, const char *name, char *text,
    size_t cap)
{
    int      fd;
    ssize_t  n;

    fd = openat(w->dirfd, name, O_RDONLY|O_CLOEXEC|O_NOFOLLOW);
    if (fd == -1) {
        return -1;
    }

    n = read(fd, text, cap);
    close(fd);

    return n;
}


/*
 * One line: "ims-pool-floor <incarnation> <term in ms> <CRC-32C of the text
 * before it>", or, with a log that is complete, "... <term> <logged> <mark>
 * <inode> <log> <CRC>".
 */
int
ims_pool_floor_read(ims_pool_writer_t *w, char *err, size_t errlen)
{
    char     text[IMS_POOL_FLOOR_MAX];
    ssize_t  n;

    memset(&w->floor, 0, sizeof(w->floor));

    n = ims_pool_dir_read(w, "floor", text, sizeof(text) - 1);

    if (n == -1) {

        if (errno == ENOENT) {
            return IMS_POOL_OK;
        }

        return ims_pool_err(err, errlen, IMS_POOL_SYSTEM, "\"%s/floor\": %s",
                            w->dir, strerror(errno));
    }

    text[n] = '\0';

    if (!ims_pool_floor_parse(&w->floor, text)) {
        return ims_pool_err(err, errlen, IMS_POOL_NOT_OURS,
                            "\"%s/floor\" is damaged", w->dir);
    }

    w->floor.there = true;

    return IMS_POOL_OK;
}


static bool
ims_pool_floor_parse(ims_pool_floor_t *f, const char *text)
{
    int       at;
    unsigned  crc;

    at = 0;

    if (sscanf(text, "ims-pool-floor %" SCNu64 " %" SCNu64 " %" SCNu64
               " %" SCNu64 " %" SCNu64 " %" SCNu64 " %n", &f->incarnation,
               &f->term, &f->logged, &f->mark, &f->inode, &f->log, &at)
        != 6)
    {
        /* that of a former version, or without a log */

        f->logged = 0;
        f->mark = 0;
        f->inode = 0;
        f->log = 0;
        at = 0;

        if (sscanf(text, "ims-pool-floor %" SCNu64 " %" SCNu64 " %n",
                   &f->incarnation, &f->term, &at)
            != 2)
        {
            return false;
        }
    }

    return at != 0 && sscanf(text + at, "%8x", &crc) == 1
           && crc == ims_pool_crc32c(0, text, (size_t) at);
}


/* never lowers either number */

int
ims_pool_floor_write(ims_pool_writer_t *w, uint64_t incarnation, uint64_t term)
{
    ims_pool_floor_t  f;

    f = w->floor;
    f.incarnation = incarnation > w->floor.incarnation
                    ? incarnation : w->floor.incarnation;
    f.term = term > w->floor.term ? term : w->floor.term;

    if (w->floor.there && f.incarnation == w->floor.incarnation
        && f.term == w->floor.term)
    {
        return IMS_POOL_OK;
    }

    return ims_pool_floor_put(w, &f);
}


int
ims_pool_floor_log(ims_pool_writer_t *w, uint64_t log, uint64_t logged,
    uint64_t mark, uint64_t inode)
{
    ims_pool_floor_t  f;

    f = w->floor;
    f.log = log;
    f.logged = log ? logged : 0;
    f.mark = log ? mark : 0;
    f.inode = log ? inode : 0;

    if (w->floor.there && f.log == w->floor.log && f.logged == w->floor.logged
        && f.mark == w->floor.mark && f.inode == w->floor.inode)
    {
        return IMS_POOL_OK;
    }

    return ims_pool_floor_put(w, &f);
}


/* mark - IMS_POOL_MARK_STEP: what was certainly begun, and is in the log */

int
ims_pool_floor_mark(ims_pool_writer_t *w)
{
    uint64_t                 from;
    const ims_pool_state_t  *s;

    s = &w->state;
    from = s->incarnation << IMS_POOL_LEASE_BITS;

    /*
     * Only a lease moves it: a start begins none, and one that does not come
     * about has no line, so that nothing could prove what it claims.
     */

    if (w->floor.logged == 0 || s->begun <= w->floor.mark || s->begun <= from)
    {
        return IMS_POOL_OK;
    }

    from = w->lined > from ? w->lined : from;

    if (s->begun > from + IMS_POOL_MARK_STEP) {
        return IMS_POOL_INTERNAL;
    }

    return ims_pool_floor_log(w, w->floor.log, w->floor.logged,
                              from + IMS_POOL_MARK_STEP, w->floor.inode);
}


static int
ims_pool_floor_put(ims_pool_writer_t *w, ims_pool_floor_t *f)
{
    int   n;
    char  text[IMS_POOL_FLOOR_MAX];

    n = snprintf(text, sizeof(text), "ims-pool-floor %" PRIu64 " %" PRIu64 " ",
                 f->incarnation, f->term);

    if (f->logged) {
        n += snprintf(text + n, sizeof(text) - (size_t) n,
                      "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " ",
                      f->logged, f->mark, f->inode, f->log);
    }

    n += snprintf(text + n, sizeof(text) - (size_t) n, "%08x\n",
                  ims_pool_crc32c(0, text, (size_t) n));

    if (ims_pool_dir_exchange(w, "floor", text, (size_t) n) == -1) {

        if (ims_pool_dir_replace(w, "floor", text, (size_t) n) == -1) {
            return errno == ENOSPC ? IMS_POOL_NOSPACE : IMS_POOL_SYSTEM;
        }

        /* the first one: now there is something to exchange it with */
        (void) ims_pool_dir_exchange(w, "floor", text, (size_t) n);
    }

    f->there = true;
    w->floor = *f;

    return IMS_POOL_OK;
}
