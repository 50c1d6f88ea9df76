/*
 * Copyright (C) nginx-ims contributors
 *
 * The file of the flow table: making, opening, mapping.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "flow/ims_flow_shm.h"


#define IMS_FLOW_PATH   4096
#define IMS_FLOW_BOOT   "/proc/sys/kernel/random/boot_id"


/* where the parts are */
typedef struct {
    size_t  rows;
    size_t  marks;
    size_t  index;
    size_t  slots;
    size_t  size;
} ims_flow_parts_t;


static ims_flow_rc_t
ims_flow_fail(char *err, const char *what, const char *path)
{
    snprintf(err, IMS_FLOW_ERR_LEN, "%s \"%.150s\": %s", what, path,
             strerror(errno));
    return IMS_FLOW_ERROR;
}


static size_t
ims_flow_pages(size_t n)
{
    return (n + IMS_FLOW_PAGE - 1) & ~((size_t) IMS_FLOW_PAGE - 1);
}


static uint32_t
ims_flow_index_len(uint32_t nslots)
{
    uint32_t  n;

    for (n = 4 * IMS_FLOW_WINDOW; n < 2 * nslots; n *= 2) { /* void */ }

    return n;
}


static void
ims_flow_parts(ims_flow_parts_t *p, uint32_t nslots)
{
    p->rows = IMS_FLOW_PAGE;
    p->marks = p->rows + IMS_FLOW_ROWS * IMS_FLOW_ROW_SIZE;
    p->index = p->marks + ims_flow_pages(nslots / 8);
    p->slots = p->index + ims_flow_pages((size_t) ims_flow_index_len(nslots)
                                         * sizeof(uint64_t));
    p->size = p->slots + (size_t) nslots * IMS_FLOW_SLOT_SIZE;
}


/* BOOTTIME values and unsynced pages mean nothing after a boot */

static void
ims_flow_boot(char *boot)
{
    int      fd;
    ssize_t  n;

    memset(boot, 0, IMS_FLOW_BOOT_LEN);

    fd = open(IMS_FLOW_BOOT, O_RDONLY|O_CLOEXEC);
    if (fd == -1) {
        return;
    }

    n = read(fd, boot, IMS_FLOW_BOOT_LEN - 1);
    close(fd);

    if (n > 0 && boot[n - 1] == '\n') {
        boot[n - 1] = '\0';
    }
}


static bool
ims_flow_sound(int fd, ims_flow_file_t *h)
{
    struct stat       st;
    ims_flow_parts_t  parts;

    if (fstat(fd, &st) != 0
        || !S_ISREG(st.st_mode)
        || pread(fd, h, sizeof(*h), 0) != (ssize_t) sizeof(*h)
        || h->magic != IMS_FLOW_MAGIC
        || h->layout != IMS_FLOW_LAYOUT
        || h->slot_size != IMS_FLOW_SLOT_SIZE
        || h->nslots < IMS_FLOW_SLOTS_MIN
        || h->nslots > IMS_FLOW_SLOTS_MAX
        || h->nslots % 64)
    {
        return false;
    }

    ims_flow_parts(&parts, h->nslots);

    return h->index_len == ims_flow_index_len(h->nslots)
           && h->size == parts.size
           && (uint64_t) st.st_size == parts.size;
}


/* the file gets its name when it is whole */

static ims_flow_rc_t
ims_flow_fill(int fd, uint32_t nslots, uid_t uid)
{
    int               rc;
    ims_flow_file_t   h;
    ims_flow_parts_t  parts;

    memset(&h, 0, sizeof(h));
    ims_flow_parts(&parts, nslots);

    h.magic = IMS_FLOW_MAGIC;
    h.layout = IMS_FLOW_LAYOUT;
    h.slot_size = IMS_FLOW_SLOT_SIZE;
    h.size = parts.size;
    h.nslots = nslots;
    h.index_len = ims_flow_index_len(nslots);
    ims_flow_boot(h.boot);

    if (getrandom(&h.seed, sizeof(h.seed), 0) != (ssize_t) sizeof(h.seed)
        || getrandom(&h.gen_base, sizeof(h.gen_base), 0)
           != (ssize_t) sizeof(h.gen_base))
    {
        return IMS_FLOW_ERROR;
    }

    rc = posix_fallocate(fd, 0, (off_t) parts.size);
    if (rc != 0) {
        errno = rc;
        return IMS_FLOW_ERROR;
    }

    if (pwrite(fd, &h, sizeof(h), 0) != (ssize_t) sizeof(h)
        || (uid != (uid_t) -1 && fchown(fd, uid, (gid_t) -1) != 0))
    {
        return IMS_FLOW_ERROR;
    }

    return IMS_FLOW_OK;
}


static int
ims_flow_make(const char *path, uint32_t nslots, uid_t uid, char *err)
{
    int   fd;
    char  tmp[IMS_FLOW_PATH + 8];

    /* the guard is ours: what has this name was left by a killed process */

    snprintf(tmp, sizeof(tmp), "%s.new", path);
    (void) unlink(tmp);

    fd = open(tmp, O_RDWR|O_CREAT|O_EXCL|O_CLOEXEC, 0600);
    if (fd == -1) {
        ims_flow_fail(err, "cannot create", tmp);
        return -1;
    }

    if (ims_flow_fill(fd, nslots, uid) != IMS_FLOW_OK
        || rename(tmp, path) != 0)
    {
        ims_flow_fail(err, "cannot make", path);
        unlink(tmp);
        close(fd);
        return -1;
    }

    return fd;
}


/*
 * The existing file, or a new one in its place if it is of no use and nobody
 * has it open.  Every process that has it open holds a shared lock on it, by
 * itself or by its parent, and the lock ends with the last of them.  Called
 * with the guard locked, so that no two do this at once.
 */

static int
ims_flow_open_file(const char *path, uint32_t nslots, uid_t uid, char *err)
{
    int              fd;
    bool             usable;
    char             boot[IMS_FLOW_BOOT_LEN];
    ims_flow_file_t  h;

    fd = open(path, O_RDWR|O_CLOEXEC|O_NOFOLLOW);

    if (fd == -1) {
        if (errno == ENOENT) {
            return ims_flow_make(path, nslots, uid, err);
        }

        ims_flow_fail(err, "cannot open", path);
        return -1;
    }

    ims_flow_boot(boot);
    usable = ims_flow_sound(fd, &h) && memcmp(h.boot, boot, sizeof(boot)) == 0;

    if (usable && h.nslots == nslots) {
        return fd;
    }

    if (flock(fd, LOCK_EX|LOCK_NB) == 0) {
        close(fd);
        return ims_flow_make(path, nslots, uid, err);
    }

    if (usable) {
        return fd;
    }

    snprintf(err, IMS_FLOW_ERR_LEN,
             "\"%.150s\" is in use, but not a sound flow table", path);
    close(fd);

    return -1;
}


static int
ims_flow_lock(int fd, int how)
{
    int  rc;

    do {
        rc = flock(fd, how);
    } while (rc == -1 && errno == EINTR);

    return rc;
}


static ims_flow_rc_t
ims_flow_map(ims_flow_table_t *t, int fd, const char *path, char *err)
{
    uint8_t           *p;
    ims_flow_file_t    h;
    ims_flow_parts_t   parts;

    if (ims_flow_lock(fd, LOCK_SH) != 0) {
        return ims_flow_fail(err, "cannot lock", path);
    }

    if (!ims_flow_sound(fd, &h)) {
        errno = EINVAL;
        return ims_flow_fail(err, "flow table", path);
    }

    ims_flow_parts(&parts, h.nslots);

    p = mmap(NULL, parts.size, PROT_READ|PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        return ims_flow_fail(err, "cannot map", path);
    }

    t->nslots = h.nslots;
    t->index_mask = h.index_len - 1;
    t->nmarks = h.nslots / 64;
    t->fd = fd;
    t->size = parts.size;
    t->file = (ims_flow_file_t *) p;
    t->rows = (ims_flow_row_t *) (p + parts.rows);
    t->marks = (uint64_t *) (p + parts.marks);
    t->index = (uint64_t *) (p + parts.index);
    t->slots = p + parts.slots;

    return IMS_FLOW_OK;
}


ims_flow_rc_t
ims_flow_table_open(ims_flow_table_t *t, const char *dir, uint32_t nslots,
    uid_t uid, char *err)
{
    int            fd, guard;
    char           path[IMS_FLOW_PATH], lock[IMS_FLOW_PATH];
    ims_flow_rc_t  rc;

    memset(t, 0, sizeof(ims_flow_table_t));
    t->fd = -1;

    if (nslots < IMS_FLOW_SLOTS_MIN || nslots > IMS_FLOW_SLOTS_MAX) {
        snprintf(err, IMS_FLOW_ERR_LEN, "%u slots: must be %u to %u", nslots,
                 IMS_FLOW_SLOTS_MIN, IMS_FLOW_SLOTS_MAX);
        return IMS_FLOW_ERROR;
    }

    nslots = ims_flow_slots(nslots);

    if (snprintf(path, sizeof(path), "%s/flows.%u", dir, IMS_FLOW_LAYOUT)
        >= (int) sizeof(path)
        || snprintf(lock, sizeof(lock), "%s/flows.lock", dir)
           >= (int) sizeof(lock))
    {
        errno = ENAMETOOLONG;
        return ims_flow_fail(err, "flow table", dir);
    }

    guard = open(lock, O_RDWR|O_CREAT|O_CLOEXEC|O_NOFOLLOW, 0600);
    if (guard == -1) {
        return ims_flow_fail(err, "cannot create", lock);
    }

    rc = IMS_FLOW_ERROR;

    if (ims_flow_lock(guard, LOCK_EX) != 0) {
        ims_flow_fail(err, "cannot lock", lock);

    } else {
        fd = ims_flow_open_file(path, nslots, uid, err);

        if (fd != -1) {
            rc = ims_flow_map(t, fd, path, err);

            if (rc != IMS_FLOW_OK) {
                close(fd);
            }
        }
    }

    close(guard);

    return rc;
}


void
ims_flow_table_close(ims_flow_table_t *t)
{
    if (t->file != NULL) {
        munmap(t->file, t->size);
    }

    if (t->fd != -1) {
        close(t->fd);
    }

    memset(t, 0, sizeof(ims_flow_table_t));
    t->fd = -1;
}
