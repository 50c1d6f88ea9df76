/*
 * Copyright (C) nginx-ims contributors
 *
 * To be preloaded: as long as the file named by FULL_DISK is there the disk is
 * full.  Blocks that a file has can be written still.
 */

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>


#define NEXT(type, name)  ((type) dlsym(RTLD_NEXT, name))


static int
full(int fd, off_t to)
{
    const char   *file;
    struct stat   sb;

    file = getenv("FULL_DISK");

    if (file != NULL && access(file, F_OK) == 0 && fstat(fd, &sb) == 0
        && S_ISREG(sb.st_mode) && to > sb.st_blocks * 512)
    {
        errno = ENOSPC;
        return 1;
    }

    return 0;
}


int
fallocate(int fd, int mode, off_t from, off_t n)
{
    if (full(fd, from + n)) {
        return -1;
    }

    return NEXT(int (*)(int, int, off_t, off_t), "fallocate")
           (fd, mode, from, n);
}


ssize_t
pwrite(int fd, const void *p, size_t n, off_t at)
{
    if (full(fd, at + (off_t) n)) {
        return -1;
    }

    return NEXT(ssize_t (*)(int, const void *, size_t, off_t), "pwrite")
           (fd, p, n, at);
}


ssize_t
writev(int fd, const struct iovec *iov, int n)
{
    int    i;
    off_t  at;

    at = lseek(fd, 0, SEEK_CUR);

    for (i = 0; at != -1 && i < n; i++) {
        at += (off_t) iov[i].iov_len;
    }

    if (at != -1 && full(fd, at)) {
        return -1;
    }

    return NEXT(ssize_t (*)(int, const struct iovec *, int), "writev")
           (fd, iov, n);
}
