/*
 * Copyright (C) nginx-ims contributors
 *
 * See mgr_offline.h.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mgr_log.h"
#include "mgr_offline.h"
#include "mgr_secret.h"


int
mgr_offline_init(const ims_pool_options_t *opt)
{
    int                 rc;
    char                err[512], path[PATH_MAX];
    struct stat         sb;
    ims_pool_writer_t  *w;
    ims_pool_started_t  st;

    err[0] = '\0';

    if (snprintf(path, sizeof(path), "%s/current", opt->dir)
        < (int) sizeof(path)
        && lstat(path, &sb) == 0)
    {
        mgr_log(MGR_LOG_EMERG, "\"%s\" has an environment already",
                opt->dir);
        return 1;
    }

    rc = ims_pool_writer_open(&w, opt, &st, err, sizeof(err));

    if (rc != IMS_POOL_OK) {
        mgr_log(MGR_LOG_EMERG, "%s", err[0] ? err : ims_pool_strerror(rc));
        return 1;
    }

    mgr_log(MGR_LOG_NOTICE, "pool directory \"%s\" made, incarnation %llu",
            opt->dir, (unsigned long long) st.incarnation);

    if (st.hold_until > st.now) {
        mgr_log(MGR_LOG_ALERT, "there was a pool here before: nothing is "
                "given for the next %llu seconds",
                (unsigned long long) (st.hold_until - st.now + 999) / 1000);
    }

    ims_pool_writer_close(w);

    return 0;
}


int
mgr_offline_backup(const ims_pool_options_t *opt, const char *path)
{
    int               rc;
    char              err[512];
    struct stat       sb;
    ims_pool_check_t  check;

    err[0] = '\0';

    ims_pool_check_begin(&check, NULL, NULL);
    rc = ims_pool_backup(opt->dir, NULL, path, &check, err, sizeof(err));

    if (rc == IMS_POOL_OK && stat(path, &sb) == -1) {
        rc = IMS_POOL_SYSTEM;
        snprintf(err, sizeof(err), "\"%s\": %s", path, strerror(errno));
    }

    if (rc != IMS_POOL_OK) {
        puts(err[0] ? err : ims_pool_strerror(rc));
        return 1;
    }

    printf("bytes %llu rows %llu\n", (unsigned long long) sb.st_size,
           (unsigned long long) check.rows);

    return fflush(stdout) == 0 ? 0 : 1;
}


int
mgr_offline_restore(const ims_pool_options_t *opt, const char *path)
{
    int   rc;
    char  err[512];

    err[0] = '\0';

    rc = ims_pool_restore(opt, path, err, sizeof(err));

    if (rc != IMS_POOL_OK) {
        mgr_log(MGR_LOG_EMERG, "%s", err[0] ? err : ims_pool_strerror(rc));
        return 1;
    }

    mgr_log(MGR_LOG_NOTICE, "restored into \"%s\": the next start ends all "
            "leases, and gives nothing for the longest term", opt->dir);

    return 0;
}


int
mgr_offline_test(const ims_pool_options_t *opt, uid_t owner)
{
    int            rc;
    char           err[512], path[PATH_MAX];
    struct stat    sb;
    mgr_secret_t  *list;

    snprintf(path, sizeof(path), "%s/secrets", opt->dir);

    if (stat(path, &sb) == -1 && errno == ENOENT) {
        /* they will be made */
        return 0;
    }

    list = NULL;
    rc = mgr_secrets_load(&list, path, owner, err, sizeof(err));
    mgr_secrets_free(list);

    if (rc != 0) {
        mgr_log(MGR_LOG_EMERG, "%s", err);
    }

    return rc == 0 ? 0 : 1;
}


int
mgr_offline_input(const char *path, char *err, size_t errlen)
{
    int  fd;

    if (strcmp(path, "-") == 0) {
        return 0;
    }

    fd = open(path, O_RDONLY|O_CLOEXEC);

    if (fd == -1 || dup2(fd, STDIN_FILENO) == -1) {
        snprintf(err, errlen, "\"%s\": %s", path, strerror(errno));
        return -1;
    }

    close(fd);

    return 0;
}
