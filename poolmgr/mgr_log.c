/*
 * Copyright (C) nginx-ims contributors
 *
 * See mgr_log.h.
 */

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "mgr_log.h"


static const char  *mgr_log_names[] = {
    "emerg", "alert", "error", "warn", "notice", "info", "debug"
};

static mgr_log_level_t  mgr_log_max = MGR_LOG_NOTICE;


int
mgr_log_level(const char *name)
{
    int  i;

    for (i = MGR_LOG_EMERG; i <= MGR_LOG_DEBUG; i++) {
        if (strcmp(mgr_log_names[i], name) == 0) {
            return i;
        }
    }

    return -1;
}


void
mgr_log_set(mgr_log_level_t max)
{
    mgr_log_max = max;
}


int
mgr_log_on(mgr_log_level_t level)
{
    return level <= mgr_log_max;
}


void
mgr_log(mgr_log_level_t level, const char *fmt, ...)
{
    int        n, len;
    char       line[1024];
    time_t     now;
    va_list    args;
    struct tm  tm;

    if (level > mgr_log_max) {
        return;
    }

    now = time(NULL);
    localtime_r(&now, &tm);

    n = (int) strftime(line, sizeof(line), "%Y/%m/%d %H:%M:%S", &tm);
    n += snprintf(line + n, sizeof(line) - (size_t) n, " [%s] %ld: ",
                  mgr_log_names[level], (long) getpid());

    va_start(args, fmt);
    len = vsnprintf(line + n, sizeof(line) - (size_t) n - 1, fmt, args);
    va_end(args);

    n += len;

    if (n > (int) sizeof(line) - 2) {
        n = (int) sizeof(line) - 2;
    }

    line[n++] = '\n';

    /* one write, so that lines of several processes do not mix */

    if (write(STDERR_FILENO, line, (size_t) n) < 0) {
        return;
    }
}
