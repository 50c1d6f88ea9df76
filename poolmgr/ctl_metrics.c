/*
 * Copyright (C) nginx-ims contributors
 *
 * ims-poolctl metrics: to standard output, or into a file that is never seen
 * half written.
 */

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl.h"


static int ctl_metrics_file(const redisReply *reply, const char *path);
static int ctl_metrics_write(int fd, const redisReply *reply);


int
ctl_metrics(ctl_t *ctl, unsigned argc, char **argv)
{
    int          rc;
    const char  *args[1];
    redisReply  *reply;

    args[0] = "METRICS";

    rc = ctl_ask(ctl, 1, args, &reply);

    if (rc != CTL_OK) {
        return rc;
    }

    rc = CTL_OK;

    if (argc == 1) {
        rc = ctl_metrics_file(reply, argv[0]);

    } else {
        fwrite(reply->str, 1, reply->len, ctl->out);
    }

    freeReplyObject(reply);

    return rc;
}


static int
ctl_metrics_file(const redisReply *reply, const char *path)
{
    int   fd;
    char  name[4096];

    if ((size_t) snprintf(name, sizeof(name), "%s.XXXXXX", path)
        >= sizeof(name))
    {
        ctl_error("\"%s\" is too long a name", path);
        return CTL_USAGE;
    }

    fd = mkstemp(name);

    if (fd == -1) {
        ctl_error("cannot make \"%s\": %s", name, strerror(errno));
        return CTL_REFUSED;
    }

    /* the collector is another user */

    if (ctl_metrics_write(fd, reply) != 0 || fchmod(fd, 0644) != 0
        || rename(name, path) != 0)
    {
        ctl_error("cannot write \"%s\": %s", path, strerror(errno));
        close(fd);
        unlink(name);
        return CTL_REFUSED;
    }

    close(fd);

    return CTL_OK;
}


static int
ctl_metrics_write(int fd, const redisReply *reply)
{
    size_t   done;
    ssize_t  n;

    for (done = 0; done < reply->len; done += (size_t) n) {

        n = write(fd, reply->str + done, reply->len - done);

        if (n == -1) {

            if (errno != EINTR) {
                return -1;
            }

            n = 0;
        }
    }

    return 0;
}
