/*
 * Copyright (C) nginx-ims contributors
 *
 * The reserve (POOL.md section 5): beyond the last page of the database so
 * much stays allocated, on the disk and in the map, that leases can be ended
 * when nothing else can be written any more.
 *
 * What is allocated lies behind the file's end; LMDB's own writes use it up,
 * and each batch looks how much is left.  Pages that are free within the file
 * are as good.  Half of it is for ends (release, revocation, report,
 * disabling), the other half for leases that go on, too: under a long read, as
 * a backup is one, every commit takes new pages.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "ims_pool_wint.h"


#define IMS_POOL_RESERVE      ((uint64_t) 64 << 20)
#define IMS_POOL_RESERVE_MAP  8         /* no more than a part of the map */
#define IMS_POOL_SPACE_STEP   4         /* part of it that is taken at once */
#define IMS_POOL_SPACE_TRY    1000      /* ms, once there was none */
#define IMS_POOL_SPACE_LAST   16        /* part of it that is never used up */
#define IMS_POOL_SPACE_COUNT  4         /* batches between two counts */


static uint64_t ims_pool_space_pages(ims_pool_writer_t *w);
static int ims_pool_space_reader(const char *line, void *ctx);
static bool ims_pool_space_take(ims_pool_writer_t *w, uint64_t from,
    uint64_t to);
static void ims_pool_space_more(ims_pool_writer_t *w, uint64_t end,
    uint64_t want);


/* a new environment: what its file has is not known yet */

void
ims_pool_space_open(ims_pool_writer_t *w)
{
    MDB_stat     st;
    MDB_envinfo  info;

    (void) mdb_env_stat(w->env, &st);
    (void) mdb_env_info(w->env, &info);

    w->page_size = st.ms_psize;
    w->space_end = 0;
    w->space_tried = 0;
    w->space = IMS_POOL_SPACE_ALL;

    w->reserve = w->opt.reserve ? w->opt.reserve : IMS_POOL_RESERVE;

    if (w->opt.reserve == IMS_POOL_NO_RESERVE) {
        w->reserve = 0;

    } else if (w->reserve > info.me_mapsize / IMS_POOL_RESERVE_MAP) {
        w->reserve = info.me_mapsize / IMS_POOL_RESERVE_MAP;
    }

    (void) ims_pool_space_look(w);
}


bool
ims_pool_space_look(ims_pool_writer_t *w)
{
    uint64_t     end, left;
    MDB_envinfo  info;

    if (w->reserve == 0) {
        return true;
    }

    (void) mdb_env_info(w->env, &info);
    end = (uint64_t) (info.me_last_pgno + 1) * w->page_size;

    if (w->space_end < end + w->reserve) {
        ims_pool_space_more(w, end, end + w->reserve);
    }

    w->space_free = 0;
    left = ims_pool_space_left(w, &info);

    if (left < w->reserve && w->txn != NULL) {

        if (w->space_count++ % IMS_POOL_SPACE_COUNT == 0) {
            w->space_counted = ims_pool_space_pages(w) * w->page_size;
        }

        w->space_free = w->space_counted;
        left += w->space_free;
    }

    w->space = left >= w->reserve ? IMS_POOL_SPACE_ALL
               : left >= w->reserve / 2 ? IMS_POOL_SPACE_GO_ON
               : IMS_POOL_SPACE_ENDS;

    /*
     * a write that finds only half of its pages fails as a broken disk does:
     * it is not tried; but for the start, which cannot do without
     */

    return left >= w->reserve / IMS_POOL_SPACE_LAST || w->starting;
}


/* pages that may be used again, by this transaction or the next */

static uint64_t
ims_pool_space_pages(ims_pool_writer_t *w)
{
    size_t       n, id, last, oldest;
    MDB_val      k, v;
    uint64_t     pages;
    MDB_cursor  *cursor;

    /* LMDB shows that tree to those who read */

    if (w->reader == NULL || ims_pool_snap(w->reader) != IMS_POOL_OK) {
        return 0;
    }

    last = mdb_txn_id(w->reader->txn);
    oldest = last;
    (void) mdb_reader_list(w->env, ims_pool_space_reader, &oldest);

    /* what the last one freed is free for the next but one */

    oldest += oldest == last;

    /* tree 0: the transaction that freed pages, their number, the pages */

    pages = 0;

    if (mdb_cursor_open(w->reader->txn, 0, &cursor) != 0) {
        ims_pool_unsnap(w->reader);
        return 0;
    }

    while (mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0) {

        if (k.mv_size != sizeof(id) || v.mv_size < sizeof(n)) {
            break;
        }

        memcpy(&id, k.mv_data, sizeof(id));
        memcpy(&n, v.mv_data, sizeof(n));

        if (id >= oldest) {
            break;
        }

        pages += n;
    }

    mdb_cursor_close(cursor);
    ims_pool_unsnap(w->reader);

    return pages;
}


/* a line of LMDB's table of readers: pid, thread, snapshot ("-": none) */

static int
ims_pool_space_reader(const char *line, void *ctx)
{
    int             pid;
    size_t         *oldest = ctx;
    unsigned long   thread, id;

    if (sscanf(line, "%d %lx %lu", &pid, &thread, &id) == 3 && id < *oldest) {
        *oldest = id;
    }

    return 0;
}


uint64_t
ims_pool_space_left(const ims_pool_writer_t *w, const MDB_envinfo *info)
{
    uint64_t  end, limit;

    end = (uint64_t) (info->me_last_pgno + 1) * w->page_size;
    limit = info->me_mapsize;

    if (w->reserve != 0 && w->space_end < limit) {
        limit = w->space_end;
    }

    return (limit > end ? limit - end : 0) + w->space_free;
}


static void
ims_pool_space_more(ims_pool_writer_t *w, uint64_t end, uint64_t want)
{
    uint64_t  now, part;

    now = w->clock.boottime(w->clock.ctx);

    if (w->space_tried != 0 && now - w->space_tried < IMS_POOL_SPACE_TRY) {
        return;
    }

    w->space_tried = 0;

    if (ims_pool_space_take(w, end, want + w->reserve / IMS_POOL_SPACE_STEP)
        || ims_pool_space_take(w, end, want))
    {
        return;
    }

    w->space_tried = now ? now : 1;

    /* at a start: how much of it an earlier one has left */

    for (part = w->reserve / 2; w->space_end <= end && part >= w->page_size;
         part /= 2)
    {
        if (ims_pool_space_take(w, end, end + part)) {
            return;
        }
    }
}


/* blocks that are there already are taken again, and cost nothing */

static bool
ims_pool_space_take(ims_pool_writer_t *w, uint64_t from, uint64_t to)
{
    int  fd, rc;

    if (mdb_env_get_fd(w->env, &fd) != 0) {
        return false;
    }

    do {
        rc = fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t) from,
                       (off_t) (to - from));
    } while (rc == -1 && errno == EINTR);

    if (rc == -1 && (errno == EOPNOTSUPP || errno == ENOSYS)) {
        /* this file system has no such thing: only the map is watched */
        w->space_end = UINT64_MAX;
        return true;
    }

    if (rc == -1) {
        return false;
    }

    w->space_end = to;

    return true;
}


bool
ims_pool_space_for(const ims_pool_writer_t *w, ims_pool_space_e what)
{
    return w->space >= what;
}


/*
 * The lock file is mapped, and has holes where no reader has been yet: on a
 * full disk the first one there would die of it.  Called before LMDB opens it,
 * whose locks go with any descriptor of the file.
 */
void
ims_pool_space_lock(ims_pool_writer_t *w, const char *name)
{
    int          fd;
    char         path[64];
    struct stat  sb;

    snprintf(path, sizeof(path), "%s/lock.mdb", name);
    fd = openat(w->dirfd, path, O_RDWR|O_CLOEXEC);

    if (fd == -1) {
        return;
    }

    if (fstat(fd, &sb) == 0 && sb.st_size > 0
        && fallocate(fd, 0, 0, sb.st_size) == -1)
    {
        /* as full as it is: what is there has to do */
    }

    close(fd);
}


/* what was reserved beyond the end of an environment that is given up */

void
ims_pool_space_free(ims_pool_writer_t *w, const char *name)
{
    int          fd;
    char         path[64];
    struct stat  sb;

    snprintf(path, sizeof(path), "%s/data.mdb", name);
    fd = openat(w->dirfd, path, O_WRONLY|O_CLOEXEC);

    if (fd == -1) {
        return;
    }

    if (fstat(fd, &sb) == 0 && ftruncate(fd, sb.st_size) == -1) {
        /* it is only space */
    }

    close(fd);
}
