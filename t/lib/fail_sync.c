/*
 * Copyright (C) nginx-ims contributors
 *
 * To be preloaded: fdatasync() fails with EIO, once, as soon as the file named
 * by FAIL_SYNC exists, as a dying disk makes it fail; and it takes as long as
 * the file named by HOLD_SYNC exists, but for no more than a minute, as a slow
 * one makes it wait; that it does is said by a file of that name with ".on".
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>


static void
hold_sync(const char *file)
{
    char      on[4096];
    unsigned  i;

    for (i = 0; access(file, F_OK) == 0 && i < 6000; i++) {

        if (i == 0) {
            snprintf(on, sizeof(on), "%s.on", file);
            close(open(on, O_WRONLY|O_CREAT, 0600));
        }

        usleep(10000);
    }
}


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

    file = getenv("HOLD_SYNC");

    if (file != NULL) {
        hold_sync(file);
    }

    next = (int (*)(int)) dlsym(RTLD_NEXT, "fdatasync");

    return next(fd);
}
