/*
 * Copyright (C) nginx-ims contributors
 *
 * To be preloaded: the process kills itself before the n-th call that changes
 * something on disk.  n is what the file named by KILL_AT says; without the
 * file nothing is counted.
 */

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>


#define NEXT(type, name)  ((type) dlsym(RTLD_NEXT, name))


static int  seen;


static void
count(void)
{
    int          fd, n;
    char         text[16];
    ssize_t      len;
    const char  *file;

    file = getenv("KILL_AT");
    fd = file == NULL ? -1 : open(file, O_RDONLY|O_CLOEXEC);

    if (fd == -1) {
        return;
    }

    len = read(fd, text, sizeof(text) - 1);
    close(fd);

    text[len > 0 ? len : 0] = '\0';
    n = atoi(text);

    if (n > 0 && __atomic_add_fetch(&seen, 1, __ATOMIC_SEQ_CST) >= n) {
        kill(getpid(), SIGKILL);
        pause();
    }
}


int
fsync(int fd)
{
    count();
    return NEXT(int (*)(int), "fsync")(fd);
}


int
fdatasync(int fd)
{
    count();
    return NEXT(int (*)(int), "fdatasync")(fd);
}


ssize_t
pwrite(int fd, const void *p, size_t n, off_t at)
{
    count();
    return NEXT(ssize_t (*)(int, const void *, size_t, off_t), "pwrite")
           (fd, p, n, at);
}


ssize_t
pwrite64(int fd, const void *p, size_t n, off64_t at)
{
    count();
    return NEXT(ssize_t (*)(int, const void *, size_t, off64_t), "pwrite64")
           (fd, p, n, at);
}


int
mkdirat(int fd, const char *name, mode_t mode)
{
    count();
    return NEXT(int (*)(int, const char *, mode_t), "mkdirat")
           (fd, name, mode);
}


int
unlinkat(int fd, const char *name, int flags)
{
    count();
    return NEXT(int (*)(int, const char *, int), "unlinkat")(fd, name, flags);
}


int
symlinkat(const char *to, int fd, const char *name)
{
    count();
    return NEXT(int (*)(const char *, int, const char *), "symlinkat")
           (to, fd, name);
}


int
renameat(int from, const char *old, int to, const char *name)
{
    count();
    return NEXT(int (*)(int, const char *, int, const char *), "renameat")
           (from, old, to, name);
}
