/*
 * Copyright (C) nginx-ims contributors
 *
 * To be preloaded: CLOCK_BOOTTIME is ahead by as many seconds as the file named
 * by CLOCK_JUMP says, as after a machine's sleep.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>


static char  clock_jump_file[512];


/* early: a program may clear its environment */

__attribute__((constructor))
static void
clock_jump_init(void)
{
    const char  *file;

    file = getenv("CLOCK_JUMP");

    if (file != NULL && strlen(file) < sizeof(clock_jump_file)) {
        strcpy(clock_jump_file, file);
    }
}


int
clock_gettime(clockid_t id, struct timespec *ts)
{
    int    rc;
    long   seconds;
    FILE  *f;

    rc = (int) syscall(SYS_clock_gettime, id, ts);

    if (id != CLOCK_BOOTTIME || rc != 0 || clock_jump_file[0] == '\0') {
        return rc;
    }

    f = fopen(clock_jump_file, "r");

    if (f != NULL) {
        if (fscanf(f, "%ld", &seconds) == 1) {
            ts->tv_sec += seconds;
        }

        (void) fclose(f);
    }

    return 0;
}
