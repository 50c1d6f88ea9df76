/*
 * Copyright (C) nginx-ims contributors
 *
 * To be preloaded: as long as the file named by FAIL_LOG exists the history log
 * fails, by what is in that file: "write" and "sync" do, as on a full or dying
 * disk, "half" writes ten bytes of a line and then no more, "floor" cannot be
 * written, and "stop" stops the process before a line is written.
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>


#define NEXT(type, name)  ((type) dlsym(RTLD_NEXT, name))


static int
wanted(const char *what)
{
    int          fd;
    char         text[64];
    ssize_t      n;
    const char  *file;

    file = getenv("FAIL_LOG");
    fd = file ? open(file, O_RDONLY|O_CLOEXEC) : -1;

    if (fd == -1) {
        return 0;
    }

    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';

    return strstr(text, what) != NULL;
}


static int
is_log(int fd)
{
    char     link[64], path[4096];
    ssize_t  n;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof(path) - 1);
    path[n > 0 ? n : 0] = '\0';

    return n >= 11 && strcmp(path + n - 11, "history.log") == 0;
}


ssize_t
write(int fd, const void *p, size_t n)
{
    if (is_log(fd)) {

        if (wanted("stop")) {
            raise(SIGSTOP);
        }

        if (wanted("half") && n > 10) {
            n = 10;

        } else if (wanted("write") || wanted("half")) {
            errno = ENOSPC;
            return -1;
        }
    }

    return NEXT(ssize_t (*)(int, const void *, size_t), "write")(fd, p, n);
}


int
fdatasync(int fd)
{
    if (is_log(fd) && wanted("sync")) {
        errno = EIO;
        return -1;
    }

    return NEXT(int (*)(int), "fdatasync")(fd);
}


int
openat(int dir, const char *name, int flags, ...)
{
    va_list   args;
    unsigned  mode;

    va_start(args, flags);
    mode = va_arg(args, unsigned);
    va_end(args);

    if (strcmp(name, "floor.new") == 0 && wanted("floor")) {
        errno = EIO;
        return -1;
    }

    return NEXT(int (*)(int, const char *, int, ...), "openat")
           (dir, name, flags, mode);
}
