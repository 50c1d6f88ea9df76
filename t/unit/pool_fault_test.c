/*
 * Copyright (C) nginx-ims contributors
 *
 * System calls of LMDB that fail, or after which nothing follows: this
 * program's own pwrite(), writev() and fdatasync() stand before the C
 * library's.
 */

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <sys/uio.h>

#include "pool_fixture.h"


typedef enum {
    FAULT_NONE = 0,
    FAULT_KILL_BEFORE,
    FAULT_KILL_HALF,
    FAULT_KILL_AFTER,
    FAULT_ERROR
} fault_e;

static fault_e   fault;
static unsigned  fault_at;          /* calls to go */
static int       fault_errno;
static unsigned  calls;
static unsigned  syncs;


/* is this the call?  With FAULT_ERROR errno is set. */

static bool
fault_now(void)
{
    calls++;

    if (fault == FAULT_NONE || fault_at-- != 0) {
        return false;
    }

    if (fault == FAULT_KILL_BEFORE) {
        raise(SIGKILL);
    }

    errno = fault_errno;

    return true;
}


ssize_t
pwrite(int fd, const void *buf, size_t n, off_t off)
{
    ssize_t  rc;
    ssize_t  (*next)(int, const void *, size_t, off_t);

    *(void **) &next = dlsym(RTLD_NEXT, "pwrite");

    if (!fault_now()) {
        return next(fd, buf, n, off);
    }

    if (fault == FAULT_ERROR) {
        return -1;
    }

    rc = next(fd, buf, fault == FAULT_KILL_HALF ? n / 2 : n, off);
    raise(SIGKILL);

    return rc;
}


ssize_t
writev(int fd, const struct iovec *iov, int n)
{
    ssize_t  rc;
    ssize_t  (*next)(int, const struct iovec *, int);

    *(void **) &next = dlsym(RTLD_NEXT, "writev");

    if (!fault_now()) {
        return next(fd, iov, n);
    }

    if (fault == FAULT_ERROR) {
        return -1;
    }

    rc = next(fd, iov, fault == FAULT_KILL_HALF ? n / 2 : n);
    raise(SIGKILL);

    return rc;
}


int
fdatasync(int fd)
{
    int  rc;
    int  (*next)(int);

    *(void **) &next = dlsym(RTLD_NEXT, "fdatasync");

    syncs++;

    if (!fault_now()) {
        return next(fd);
    }

    if (fault == FAULT_ERROR) {
        return -1;
    }

    rc = next(fd);
    raise(SIGKILL);

    return rc;
}


static void
arm(fault_e what, unsigned at, int err)
{
    fault_at = at;
    fault_errno = err;
    calls = 0;
    fault = what;
}


/* every call of four commits, killed before, in the middle and after it */

typedef struct {
    uint64_t  ident;
    uint64_t  lease;
    uint64_t  end;
} ack_t;


static void
victim(fixture_t *f, int fd, fault_e what, unsigned at)
{
    char              user[16];
    ack_t             ack;
    unsigned          i;
    ims_pool_grant_t  g, gone;

    if (fixture_try(f) != IMS_POOL_OK
        || acquire(f, "gone", 1, &gone) != IMS_POOL_OK)
    {
        _exit(3);
    }

    arm(what, at, 0);

    /* a row of the feed, and one more lease each time */

    if (release(f, "gone", 1, gone.ident, gone.lease) != IMS_POOL_OK) {
        _exit(4);
    }

    for (i = 0; i < 3; i++) {
        snprintf(user, sizeof(user), "k%u-%u", at, i);

        if (acquire(f, user, 1, &g) != IMS_POOL_OK) {
            _exit(4);
        }

        ack.ident = g.ident;
        ack.lease = g.lease;
        ack.end = g.end;

        if (write(fd, &ack, sizeof(ack)) != sizeof(ack)) {
            _exit(5);
        }
    }

    /* more calls than four commits make */

    _exit(0);
}


static bool
kill_at(fixture_t *f, fault_e what, unsigned at, unsigned *acks)
{
    int              fds[2], status;
    ack_t            ack;
    pid_t            pid;
    ims_pool_look_t  l;
    ims_pool_info_t  info;

    assert_int_equal(pipe(fds), 0);
    pid = fork();
    assert_true(pid >= 0);

    if (pid == 0) {
        close(fds[0]);
        victim(f, fds[1], what, at);
    }

    close(fds[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);

    fixture_open(f);
    assert_false(f->started.fenced);
    check_clean(f);

    while (read(fds[0], &ack, sizeof(ack)) == sizeof(ack)) {
        l = look(f, ack.ident);
        assert_int_equal(l.rec.lease, ack.lease);
        assert_int_equal(l.rec.end, ack.end);
        (*acks)++;
    }

    close(fds[0]);
    assert_int_equal(ims_pool_info(f->w, &info), 0);
    assert_int_equal(info.damaged, 0);
    fixture_close(f);

    if (WIFEXITED(status)) {
        assert_int_equal(WEXITSTATUS(status), 0);
        return false;
    }

    assert_int_equal(WTERMSIG(status), SIGKILL);

    return true;
}


static void
kill_everywhere(fixture_t *f)
{
    fault_e   what;
    unsigned  at, acks, kills;

    acks = 0;
    kills = 0;

    for (what = FAULT_KILL_BEFORE; what <= FAULT_KILL_AFTER; what++) {
        for (at = 0; kill_at(f, what, at, &acks); at++) {
            kills++;
        }
    }

    print_message("%u kills, %u leases acknowledged before them\n", kills,
                  acks);
    assert_true(kills >= 27 && acks > 20);
}


static void
test_kill_at_every_call(void **state)
{
    fixture_t  f;

    (void) state;

    fixture_pool(&f, 1000);
    fixture_close(&f);
    kill_everywhere(&f);
    fixture_end(&f);
}


/*
 * The same while a worker has the pool open: then a start does not make LMDB's
 * lock file anew.  After a kill behind the meta page its number of the last
 * commit was behind it, and the next start wrote an older state over a newer
 * one: leases were forgotten that others could see.
 */
static void
test_kill_beside_a_worker(void **state)
{
    int        status;
    pid_t      pid;
    fixture_t  f;

    (void) state;

    fixture_pool(&f, 1000);
    fixture_close(&f);
    pid = fixture_worker(&f);
    kill_everywhere(&f);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    fixture_end(&f);
}


/* each call of one commit fails: what the answer is, and what is there */

static void
failing(int err, int expected_rc, unsigned *unknown)
{
    int               rc;
    char              user[16];
    unsigned          at, made;
    uint64_t          lease;
    fixture_t         f;
    ims_pool_who_t    w;
    ims_pool_grant_t  g, h;

    fixture_pool(&f, 50);

    for (at = 0, made = UINT32_MAX; at < made; at++) {

        snprintf(user, sizeof(user), "e%u", at);
        w = who(user, 1);

        begin(&f);
        assert_int_equal(ims_pool_acquire(f.w, &w, &g), IMS_POOL_OK);
        syncs = 0;
        arm(FAULT_ERROR, at, err);
        rc = ims_pool_commit(f.w);
        made = calls;
        fault = FAULT_NONE;

        if (at >= made) {
            /* nothing failed any more */
            assert_int_equal(rc, IMS_POOL_OK);
            break;
        }

        if (rc == IMS_POOL_UNKNOWN) {
            /* no word from this process any more; the next one looks */
            (*unknown)++;
            assert_true(expected_rc == IMS_POOL_UNKNOWN || syncs > 0);
            assert_int_equal(ims_pool_begin(f.w), IMS_POOL_UNKNOWN);
            fixture_close(&f);
            fixture_open(&f);
            assert_false(f.started.fenced);

        } else {
            assert_int_equal(rc, expected_rc);
            assert_int_equal(rc, IMS_POOL_NOSPACE);
            assert_int_equal(look(&f, g.ident).rec.lease, 0);
        }

        check_clean(&f);
        lease = look(&f, g.ident).rec.lease;
        assert_true(lease == 0 || lease == g.lease);

        /* asked again the user gets one lease, that or another */

        assert_int_equal(acquire(&f, user, 1, &h), IMS_POOL_OK);
        assert_int_equal(h.how, lease ? IMS_POOL_SAME : IMS_POOL_NEW);
        check_clean(&f);

        made = UINT32_MAX;
    }

    assert_true(at >= 3);
    fixture_end(&f);
}


static void
test_eio(void **state)
{
    unsigned  unknown;

    (void) state;

    unknown = 0;
    failing(EIO, IMS_POOL_UNKNOWN, &unknown);
    assert_true(unknown >= 3);
}


static void
test_enospc(void **state)
{
    unsigned  unknown;

    (void) state;

    /* at the meta page, behind the sync, nobody can say */

    unknown = 0;
    failing(ENOSPC, IMS_POOL_NOSPACE, &unknown);
    assert_true(unknown >= 1);
}


/* a commit is one sync, a batch of nothing is none */

static void
test_syncs(void **state)
{
    fixture_t         f;
    ims_pool_who_t    w;
    ims_pool_grant_t  g;

    (void) state;

    fixture_pool(&f, 3);

    syncs = 0;
    assert_int_equal(acquire(&f, "alice", 1, &g), 0);
    assert_true(syncs >= 1);

    syncs = 0;
    calls = 0;
    w = who("bob", 1);
    begin(&f);
    assert_int_equal(ims_pool_renew(f.w, &w, g.ident, g.lease, &g),
                     IMS_POOL_ENDED);
    commit(&f);
    assert_int_equal(syncs, 0);
    assert_int_equal(calls, 0);

    fixture_end(&f);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_syncs),
        cmocka_unit_test(test_kill_at_every_call),
        cmocka_unit_test(test_kill_beside_a_worker),
        cmocka_unit_test(test_eio),
        cmocka_unit_test(test_enospc),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
