/*
 * Copyright (C) nginx-ims contributors
 *
 * See mgr_notify.h.
 */

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/ims_str.h"
#include "mgr_notify.h"


static uint64_t mgr_notify_period(void);


void
mgr_notify(const char *state)
{
    int                 fd;
    size_t              n;
    const char         *path;
    struct sockaddr_un  sun;

    path = getenv("NOTIFY_SOCKET");

    if (path == NULL || (path[0] != '/' && path[0] != '@')) {
        return;
    }

    n = strlen(path);

    if (n >= sizeof(sun.sun_path)) {
        return;
    }

    memset(&sun, 0, sizeof(sun));
    sun.sun_family = AF_UNIX;
    memcpy(sun.sun_path, path, n);

    /* a name without a file */

    if (path[0] == '@') {
        sun.sun_path[0] = '\0';
    }

    fd = socket(AF_UNIX, SOCK_DGRAM|SOCK_CLOEXEC|SOCK_NONBLOCK, 0);

    if (fd == -1) {
        return;
    }

    (void) sendto(fd, state, strlen(state), MSG_NOSIGNAL,
                  (struct sockaddr *) &sun,
                  (socklen_t) (offsetof(struct sockaddr_un, sun_path) + n));
    close(fd);
}


void
mgr_notify_reloading(void)
{
    char             text[64];
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
             (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000);
    mgr_notify(text);
}


void
mgr_notify_alive(uint64_t now_ms)
{
    static bool      known;
    static uint64_t  period, last;

    if (!known) {
        known = true;
        period = mgr_notify_period();
    }

    if (period != 0 && now_ms - last >= period) {
        last = now_ms;
        mgr_notify("WATCHDOG=1");
    }
}


/* ms between two signs of life; 0: nobody waits for them */

static uint64_t
mgr_notify_period(void)
{
    uint64_t     us, pid;
    const char  *text, *who;

    text = getenv("WATCHDOG_USEC");
    who = getenv("WATCHDOG_PID");

    if (text == NULL || !ims_str_u64(ims_str_z(text), UINT64_MAX, &us)) {
        return 0;
    }

    if (who != NULL
        && (!ims_str_u64(ims_str_z(who), INT32_MAX, &pid)
            || pid != (uint64_t) getpid()))
    {
        return 0;
    }

    return us / 2000;
}
