/*
 * Copyright (C) nginx-ims contributors
 *
 * To be preloaded: fdatasync() fails with EIO, once, as soon as the file named
 * by FAIL_SYNC exists, as a dying disk makes it fail.
 */

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>


int
fdatasync(int fd)
{
    const char  *file;
    int        (*next)(int);

    file = getenv("FAIL_SYNC");

    if (file != NULL && unlink(file) == 0) {
        errno = EIO;
        return -1;
    }

    next = (int (*)(int)) dlsym(RTLD_NEXT, "fdatasync");

    return next(fd);
}
