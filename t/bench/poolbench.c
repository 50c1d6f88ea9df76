/*
 * Copyright (C) nginx-ims contributors
 *
 * What scripts/bench-pool measures in C:
 *
 *   poolbench look DIR N    looks at random ones of the first N identities of
 *                           the pool in DIR, as a worker of nginx does: the
 *                           first of each turn of its event loop, and the rest
 *   poolbench sync DIR      fdatasync() of a file in DIR, with one page and
 *                           with 50 random pages written before
 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ims_pool.h"


#define LOOKS   1000000
#define TURN    8           /* looks in a turn of the event loop */
#define SYNCS   200
#define PAGE    4096
#define PAGES   16384


static uint64_t
now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}


/* of xorshift: as random as is needed here */

static uint64_t
draw(uint64_t n)
{
    static uint64_t  x = 88172645463325252ull;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;

    return x % n;
}


static int
compare(const void *a, const void *b)
{
    uint64_t  x = *(const uint64_t *) a, y = *(const uint64_t *) b;

    return x < y ? -1 : x > y;
}


/* each page was touched before, as in a worker that has run a while */

static void
touch(ims_pool_reader_t *r, uint64_t n)
{
    uint64_t         i;
    ims_pool_look_t  out;

    for (i = 1; i <= n; i++) {
        (void) ims_pool_look(r, 1ull << 32 | i, &out);
    }
}


static void
told(const char *what, uint64_t *took, unsigned n)
{
    qsort(took, n, sizeof(took[0]), compare);

    printf("%s median %.2f us, p99 %.2f us", what,
           (double) took[n / 2] / 1e3, (double) took[n / 100 * 99] / 1e3);
}


static int
look(const char *dir, uint64_t n)
{
    int                 rc;
    char                err[256];
    unsigned            i, first, other, live;
    uint64_t            begin, end;
    ims_pool_look_t     out;
    ims_pool_reader_t  *r;
    static uint64_t     firsts[LOOKS], others[LOOKS];

    rc = ims_pool_open(&r, dir, err, sizeof(err));

    if (rc != IMS_POOL_OK) {
        fprintf(stderr, "poolbench: %s\n", err);
        return 1;
    }

    touch(r, n);

    first = 0;
    other = 0;
    live = 0;

    for (i = 0; i < LOOKS; i++) {

        if (i % TURN == 0) {
            ims_pool_turn_end(r);
            ims_pool_turn_begin(r);
        }

        begin = now();
        rc = ims_pool_look(r, 1ull << 32 | (1 + draw(n)), &out);
        end = now();

        if (rc != IMS_POOL_OK) {
            fprintf(stderr, "poolbench: look: %s\n", ims_pool_strerror(rc));
            return 1;
        }

        if (i % TURN == 0) {
            firsts[first++] = end - begin;

        } else {
            others[other++] = end - begin;
        }

        live += out.rec.end > out.pt;
    }

    told("first of a turn", firsts, first);
    told("; others", others, other);
    printf("; %.0f %% live\n", 100.0 * live / LOOKS);

    ims_pool_close(r);

    return 0;
}


static int
syncs(const char *dir)
{
    int              fd;
    char             path[1024];
    unsigned         i, j, pages;
    uint64_t         begin;
    static uint8_t   page[PAGE];
    static uint64_t  took[SYNCS];

    snprintf(path, sizeof(path), "%s/sync.tmp", dir);
    fd = open(path, O_RDWR|O_CREAT|O_TRUNC, 0600);

    if (fd == -1) {
        perror(path);
        return 1;
    }

    (void) unlink(path);
    memset(page, 0x55, sizeof(page));

    for (i = 0; i < PAGES; i++) {
        if (pwrite(fd, page, PAGE, (off_t) i * PAGE) != PAGE) {
            perror(path);
            return 1;
        }
    }

    fsync(fd);

    for (pages = 1; pages <= 50; pages += 49) {

        for (i = 0; i < SYNCS; i++) {

            for (j = 0; j < pages; j++) {
                if (pwrite(fd, page, PAGE, (off_t) draw(PAGES) * PAGE)
                    != PAGE)
                {
                    perror(path);
                    return 1;
                }
            }

            begin = now();
            fdatasync(fd);
            took[i] = now() - begin;
        }

        qsort(took, SYNCS, sizeof(took[0]), compare);

        printf("fdatasync after %u random page%s: median %.0f us, p99 %.0f us\n",
               pages, pages == 1 ? "" : "s",
               (double) took[SYNCS / 2] / 1e3,
               (double) took[SYNCS / 100 * 99] / 1e3);
    }

    close(fd);

    return 0;
}


int
main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "look") == 0) {
        return look(argv[2], strtoull(argv[3], NULL, 10));
    }

    if (argc == 3 && strcmp(argv[1], "sync") == 0) {
        return syncs(argv[2]);
    }

    fprintf(stderr, "usage: poolbench look DIR N | sync DIR\n");

    return 2;
}
