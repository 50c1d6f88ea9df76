/*
 * Copyright (C) nginx-ims contributors
 *
 * To be preloaded: fsync() takes as long as the file named by SLOW_SYNC is
 * there.
 */

#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>


int
fsync(int fd)
{
    const char  *file;

    file = getenv("SLOW_SYNC");

    while (file != NULL && access(file, F_OK) == 0) {
        usleep(10000);
    }

    return ((int (*)(int)) dlsym(RTLD_NEXT, "fsync"))(fd);
}
