/*
 * Copyright (C) nginx-ims contributors
 *
 * ims-poolctl backup, compact, restore.
 */

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "ctl.h"


#define CTL_COPY_TIMEOUT  86400         /* s, unless --timeout was given */


static int ctl_copy(ctl_t *ctl, const char *word, const char *path);
static bool ctl_copy_path(const char *path, char *full, size_t cap);


int
ctl_backup(ctl_t *ctl, unsigned argc, char **argv)
{
    (void) argc;

    return ctl_copy(ctl, "BACKUP", argv[0]);
}


int
ctl_compact(ctl_t *ctl, unsigned argc, char **argv)
{
    (void) argc;
    (void) argv;

    return ctl_copy(ctl, "COMPACT", NULL);
}


int
ctl_restore(ctl_t *ctl, unsigned argc, char **argv)
{
    (void) argc;

    if (!(ctl->given & CTL_O_YES)) {
        ctl_error("this ends all leases, and nothing is given for the longest "
                  "term of a lease: say --yes");
        return CTL_USAGE;
    }

    return ctl_copy(ctl, "RESTORE", argv[0]);
}


static int
ctl_copy(ctl_t *ctl, const char *word, const char *path)
{
    char             full[PATH_MAX + 256];
    const char      *args[2];
    struct timeval   tv;

    args[0] = word;
    args[1] = full;

    if (path != NULL && !ctl_copy_path(path, full, sizeof(full))) {
        ctl_error("\"%s\": %s", path, strerror(errno));
        return CTL_USAGE;
    }

    if (ctl->timeout == CTL_TIMEOUT) {
        tv.tv_sec = CTL_COPY_TIMEOUT;
        tv.tv_usec = 0;
        redisSetTimeout(ctl->redis, tv);
    }

    return ctl_pairs(ctl, args, path ? 2 : 1);
}


/* the daemon has another working directory */

static bool
ctl_copy_path(const char *path, char *full, size_t cap)
{
    size_t  n;

    n = 0;

    if (path[0] != '/') {

        if (getcwd(full, PATH_MAX) == NULL) {
            return false;
        }

        n = strlen(full);
        full[n++] = '/';
    }

    if (n + strlen(path) >= cap) {
        errno = ENAMETOOLONG;
        return false;
    }

    strcpy(full + n, path);

    return true;
}
