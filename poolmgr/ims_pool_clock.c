/*
 * Copyright (C) nginx-ims contributors
 *
 * Pool time, and where a process runs.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/ims_clock.h"
#include "ims_pool_int.h"


static uint64_t ims_pool_clock_boottime(void *ctx);
static uint64_t ims_pool_clock_wall(void *ctx);
static int ims_pool_clock_boot_id(void *ctx, uint8_t *id);
static int ims_pool_clock_random(void *ctx, void *dst, size_t n);


const ims_pool_clock_t  ims_pool_clock = {
    ims_pool_clock_boottime,
    ims_pool_clock_wall,
    ims_pool_clock_boot_id,
    ims_pool_clock_random,
    NULL
};


static uint64_t
ims_pool_clock_boottime(void *ctx)
{
    (void) ctx;

    return ims_boottime_ms();
}


static uint64_t
ims_pool_clock_wall(void *ctx)
{
    (void) ctx;

    return ims_wall_ms();
}


/* the kernel writes a UUID: hex digits in groups, hyphens between them */

static int
ims_pool_clock_boot_id(void *ctx, uint8_t *id)
{
    int      fd;
    char     text[64];
    size_t   digits;
    ssize_t  i, n;

    (void) ctx;

    fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY|O_CLOEXEC);
    if (fd == -1) {
        return -1;
    }

    n = read(fd, text, sizeof(text));
    close(fd);

    digits = 0;

    for (i = 0; i < n; i++) {
        if (text[i] != '-' && text[i] != '\n' && digits < 32) {
            text[digits++] = text[i];
        }
    }

    return ims_hex_decode(id, 16, ims_str_set(text, digits)) ? 0 : -1;
}


static int
ims_pool_clock_random(void *ctx, void *dst, size_t n)
{
    (void) ctx;

    /* up to 256 bytes come whole (getrandom(2)) */

    return getrandom(dst, n, 0) == (ssize_t) n ? 0 : -1;
}


uint64_t
ims_pool_pt_at(const ims_pool_ptrow_t *row, uint64_t boottime,
    const uint8_t *boot_id)
{
    uint64_t  passed;

    if (memcmp(row->boot_id, boot_id, sizeof(row->boot_id)) != 0) {
        /* another boot: at least its whole uptime has passed */
        passed = boottime;

    } else {
        passed = boottime > row->boottime ? boottime - row->boottime : 0;
    }

    return passed > UINT64_MAX - row->pt ? UINT64_MAX : row->pt + passed;
}


static uint64_t
ims_pool_ns(const char *path)
{
    struct stat  sb;

    /* a kernel without time namespaces has no such file: 0 for all */

    return stat(path, &sb) == 0 ? (uint64_t) sb.st_ino : 0;
}


int
ims_pool_where(const ims_pool_clock_t *clock, uint8_t *boot_id,
    uint64_t *pid_ns, uint64_t *time_ns)
{
    *pid_ns = ims_pool_ns("/proc/self/ns/pid");
    *time_ns = ims_pool_ns("/proc/self/ns/time");

    return clock->boot_id(clock->ctx, boot_id);
}


int
ims_pool_err(char *err, size_t errlen, int rc, const char *fmt, ...)
{
    va_list  args;

    if (err != NULL && errlen) {
        va_start(args, fmt);
        vsnprintf(err, errlen, fmt, args);
        va_end(args);
    }

    return rc;
}


int
ims_pool_current(const char *dir, char *name, size_t cap, uint64_t *n)
{
    char       path[IMS_POOL_PATH_MAX + 16];
    ssize_t    len;
    uint64_t   number;
    ims_str_t  s;

    snprintf(path, sizeof(path), "%s/current", dir);

    len = readlink(path, name, cap - 1);

    if (len == -1) {
        switch (errno) {
        case ENOENT:
        case ENOTDIR:
            return IMS_POOL_NOT_THERE;
        case EACCES:
            return IMS_POOL_NO_ACCESS;
        default:
            return IMS_POOL_NOT_OURS;
        }
    }

    name[len] = '\0';
    s = ims_str_set(name, (size_t) len);

    if (s.n < 5 || memcmp(s.p, "env.", 4) != 0 || s.p[4] == '0'
        || !ims_str_u64(ims_str_set(s.p + 4, s.n - 4), UINT32_MAX, &number))
    {
        return IMS_POOL_NOT_OURS;
    }

    if (n != NULL) {
        *n = number;
    }

    return IMS_POOL_OK;
}
