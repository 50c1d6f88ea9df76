/*
 * Copyright (C) nginx-ims contributors
 *
 * Backup, compaction, restore, and what a kill in between leaves.
 */

#include <errno.h>
#include <fcntl.h>

#include "pool_fixture.h"


static ims_pool_check_t  check;
static char              file[128];


static int
backup(fixture_t *f)
{
    int    status;
    pid_t  pid;

    /* a process of its own: an environment is open once in a process */

    snprintf(file, sizeof(file), "%s/backup.mdb", f->base);
    pid = fork();
    assert_true(pid >= 0);

    if (pid == 0) {
        ims_pool_check_begin(&check, NULL, NULL);
        status = ims_pool_backup(f->dir, &f->clock, file, &check, f->err,
                                 sizeof(f->err));

        if (status != 0) {
            print_error("backup: %d %s\n", status, f->err);
        }

        _exit(status == IMS_POOL_OK ? 0 : 1);
    }

    assert_int_equal(waitpid(pid, &status, 0), pid);

    return WEXITSTATUS(status);
}


static int
change(fixture_t *f, const char *from)
{
    int  rc;

    ims_pool_check_begin(&check, NULL, NULL);
    rc = ims_pool_copy_begin(f->w, from, &check, f->err, sizeof(f->err));

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_copy_end(f->w, from != NULL, &f->started, f->err,
                               sizeof(f->err));
    }

    if (rc != IMS_POOL_OK) {
        print_message("change: %d %s\n", rc, f->err);
    }

    return rc;
}


static const char *
linked(fixture_t *f)
{
    char         path[128];
    ssize_t      n;
    static char  name[32];

    snprintf(path, sizeof(path), "%s/current", f->dir);
    n = readlink(path, name, sizeof(name) - 1);
    assert_true(n > 0);
    name[n] = '\0';

    return name;
}


static bool
there(fixture_t *f, const char *name)
{
    char         path[128];
    struct stat  sb;

    snprintf(path, sizeof(path), "%s/%s", f->dir, name);

    return lstat(path, &sb) == 0;
}


static void
test_compact(void **state)
{
    char              user[16];
    unsigned          i;
    uint64_t          inc;
    fixture_t         f;
    struct stat       sb;
    ims_pool_info_t   before, after;
    ims_pool_grant_t  a, b;
    char              path[160];

    (void) state;

    fixture_pool(&f, 3000);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);

    for (i = 0; i < 500; i++) {
        snprintf(user, sizeof(user), "u%u", i);
        assert_int_equal(acquire(&f, user, 1, &b), IMS_POOL_OK);
    }

    assert_int_equal(ims_pool_info(f.w, &before), 0);
    inc = f.started.incarnation;
    assert_int_equal(change(&f, NULL), IMS_POOL_OK);

    /* smaller, and the same: leases live on */

    assert_string_equal(linked(&f), "env.2");
    assert_false(there(&f, "env.1"));
    assert_false(there(&f, "env.2.new"));
    assert_false(f.started.fenced);
    assert_int_equal(f.started.incarnation, inc + 1);
    assert_int_equal(ims_pool_info(f.w, &after), 0);
    assert_true(after.map_used < before.map_used);
    assert_int_equal(after.identities, 3000);
    assert_int_equal(after.map_size, before.map_size);
    check_clean(&f);

    assert_int_equal(renew(&f, "alice", 1, a.ident, a.lease, &b), 0);
    assert_int_equal(acquire(&f, "bob", 1, &b), IMS_POOL_OK);
    assert_true(b.lease > a.lease);

    snprintf(path, sizeof(path), "%s/env.2/lock.mdb", f.dir);
    assert_int_equal(stat(path, &sb), 0);
    assert_int_equal(sb.st_mode & 0777, 0660);
    snprintf(path, sizeof(path), "%s/env.2/data.mdb", f.dir);
    assert_int_equal(stat(path, &sb), 0);
    assert_int_equal(sb.st_mode & 0777, 0640);

    /* once more, and over a start */

    assert_int_equal(change(&f, NULL), IMS_POOL_OK);
    assert_string_equal(linked(&f), "env.3");
    fixture_close(&f);
    fixture_open(&f);
    assert_int_equal(acquire(&f, "alice", 1, &b), IMS_POOL_OK);
    assert_int_equal(b.lease, a.lease);
    check_clean(&f);
    fixture_end(&f);
}


/* a worker sees that its environment was given up, and finds the next one */

static void
test_reader(void **state)
{
    int                 to[2], from[2], status;
    char                c;
    pid_t               pid;
    fixture_t           f;
    ims_pool_look_t     l;
    ims_pool_grant_t    a;
    ims_pool_reader_t  *r;

    (void) state;

    fixture_pool(&f, 2);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_int_equal(pipe(to), 0);
    assert_int_equal(pipe(from), 0);
    pid = fork();

    if (pid == 0) {

        if (ims_pool_open_clock(&r, f.dir, &f.clock, NULL, 0) != IMS_POOL_OK
            || ims_pool_look(r, a.ident, &l) != IMS_POOL_OK
            || ims_pool_moved(r) != IMS_POOL_OK
            || write(from[1], "1", 1) != 1 || read(to[0], &c, 1) != 1)
        {
            _exit(1);
        }

        if (ims_pool_look(r, a.ident, &l) != IMS_POOL_REOPEN
            || ims_pool_moved(r) != IMS_POOL_REOPEN
            || ims_pool_feed(r, NULL, NULL) != IMS_POOL_REOPEN)
        {
            _exit(2);
        }

        ims_pool_close(r);

        if (ims_pool_open_clock(&r, f.dir, &f.clock, NULL, 0) != IMS_POOL_OK
            || ims_pool_look(r, a.ident, &l) != IMS_POOL_OK
            || ims_pool_check_lease(&l, a.lease, 1, a.holder, l.pt, NULL)
               != IMS_POOL_LIVE)
        {
            _exit(3);
        }

        ims_pool_close(r);
        _exit(0);
    }

    assert_int_equal(read(from[0], &c, 1), 1);
    assert_int_equal(change(&f, NULL), IMS_POOL_OK);
    assert_int_equal(write(to[1], "2", 1), 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), 0);

    close(to[0]);
    close(to[1]);
    close(from[0]);
    close(from[1]);
    fixture_end(&f);
}


static void
test_restore(void **state)
{
    uint64_t          inc, last;
    fixture_t         f;
    ims_pool_look_t   l;
    ims_pool_grant_t  a, b, c;

    (void) state;

    fixture_pool(&f, 3);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_int_equal(backup(&f), 0);

    /* what is done after the backup is lost */

    assert_int_equal(acquire(&f, "bob", 1, &b), IMS_POOL_OK);
    add_identities(&f, "web", 10, 5);
    add_pool(&f, "other");
    f.v.boottime += 100000;
    inc = f.started.incarnation;
    last = f.w->committed.last_index;

    assert_int_equal(change(&f, file), IMS_POOL_OK);
    assert_string_equal(linked(&f), "env.2");
    assert_true(there(&f, "env.1"));
    assert_true(f.started.fenced);
    assert_true(f.started.incarnation > inc);
    assert_int_equal(f.started.hold_until, f.started.now + 694000);
    assert_true(f.started.now >= a.now + 100000);
    check_clean(&f);

    /* nothing is given to anyone, every lease is dead */

    assert_int_equal(acquire(&f, "alice", 1, &c), IMS_POOL_HOLD);
    assert_int_equal(acquire(&f, "bob", 1, &c), IMS_POOL_HOLD);
    assert_int_equal(renew(&f, "alice", 1, a.ident, a.lease, &c),
                     IMS_POOL_ENDED);
    l = look(&f, a.ident);
    assert_int_equal(ims_pool_check_lease(&l, a.lease, 1, a.holder, l.pt,
                                          NULL), IMS_POOL_LAPSE_FENCED);

    /* numbers go on where they were */

    add_identities(&f, "web", 20, 1);
    assert_true(f.w->committed.last_index > last);
    add_pool(&f, "third");
    assert_int_equal(f.w->committed.last_pool, 3);
    check_clean(&f);

    /* the hold goes on over a start, and ends */

    fixture_close(&f);
    fixture_open(&f);
    assert_false(f.started.fenced);
    assert_int_equal(acquire(&f, "bob", 1, &c), IMS_POOL_HOLD);
    f.v.boottime += 694000;
    assert_int_equal(acquire(&f, "bob", 1, &c), IMS_POOL_OK);
    assert_true(c.lease > b.lease);
    assert_true(c.lease > a.lease);

    /* the same once more: also right after it, from the same file */

    assert_int_equal(change(&f, file), IMS_POOL_OK);
    assert_int_equal(change(&f, file), IMS_POOL_OK);
    assert_string_equal(linked(&f), "env.4");
    assert_false(there(&f, "env.1"));
    assert_false(there(&f, "env.2"));
    assert_true(there(&f, "env.3"));
    assert_int_equal(acquire(&f, "bob", 1, &c), IMS_POOL_HOLD);
    check_clean(&f);

    /* compaction ends what was kept, and is no restore */

    f.v.boottime += 694000;
    assert_int_equal(change(&f, NULL), IMS_POOL_OK);
    assert_false(f.started.fenced);
    assert_false(there(&f, "env.4"));
    fixture_close(&f);
    fixture_open(&f);
    assert_false(there(&f, "env.3"));
    check_clean(&f);
    fixture_end(&f);
}


/* a longer term since the backup: it is in the floor */

static void
test_term(void **state)
{
    fixture_t         f;
    ims_pool_spec_t   spec;
    ims_pool_grant_t  a;

    (void) state;

    fixture_pool(&f, 1);
    assert_int_equal(backup(&f), 0);

    memset(&spec, 0, sizeof(spec));
    spec.name = IMS_STR("web");
    spec.ttl_max = 7200000;
    begin(&f);
    assert_int_equal(ims_pool_alter(f.w, &spec), 0);
    commit(&f);
    assert_int_equal(change(&f, file), IMS_POOL_OK);
    assert_int_equal(f.started.hold_until, f.started.now + 7294000);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_HOLD);
    fixture_end(&f);
}


/* restored without a pool manager, also over an environment that is broken */

static void
test_offline(void **state)
{
    int               rc;
    uint64_t          inc, last;
    fixture_t         f;
    ims_pool_grant_t  a, b;

    (void) state;

    fixture_pool(&f, 3);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_int_equal(backup(&f), 0);
    assert_int_equal(acquire(&f, "bob", 1, &b), IMS_POOL_OK);
    inc = f.started.incarnation;
    last = f.w->committed.last_index;

    /* not while one runs */

    rc = ims_pool_restore(&f.opt, file, f.err, sizeof(f.err));
    assert_int_equal(rc, IMS_POOL_LOCKED);
    fixture_close(&f);

    assert_int_equal(ims_pool_restore(&f.opt, file, f.err, sizeof(f.err)), 0);
    assert_string_equal(linked(&f), "env.2");
    fixture_open(&f);
    assert_true(f.started.fenced);
    assert_true(f.started.incarnation > inc);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_HOLD);
    assert_int_equal(f.w->committed.last_index, last);
    check_clean(&f);
    fixture_close(&f);

    /* started once, it is no restore any more */

    fixture_open(&f);
    assert_false(f.started.fenced);
    fixture_close(&f);

    fixture_shell("dd if=/dev/zero of='%s/env.2/data.mdb' bs=4096 count=2 "
                  "conv=notrunc status=none%s", f.dir, "");
    assert_int_not_equal(fixture_try(&f), IMS_POOL_OK);
    assert_int_equal(ims_pool_restore(&f.opt, file, f.err, sizeof(f.err)), 0);
    fixture_open(&f);
    assert_string_equal(linked(&f), "env.3");
    assert_true(f.started.fenced);
    assert_true(f.w->committed.last_index >= last + 1000000);
    check_clean(&f);
    fixture_close(&f);

    /* into an empty directory, with the keys, on another machine */

    fixture_shell("cp '%s/keys' '%s/../keys'", f.dir, f.dir);
    fixture_shell("rm -r '%s'; mkdir '%s'", f.dir, f.dir);
    fixture_shell("cp '%s/../keys' '%s/keys'", f.dir, f.dir);
    f.v.boot_id[0]++;
    f.v.boottime = 100;
    assert_int_equal(ims_pool_restore(&f.opt, file, f.err, sizeof(f.err)), 0);
    assert_string_equal(linked(&f), "env.1");
    fixture_open(&f);
    assert_true(f.started.fenced);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_HOLD);
    f.v.boottime += 694000;
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_int_equal(a.how, IMS_POOL_RETURNED);
    check_clean(&f);
    fixture_end(&f);
}


/* killed at each step */

static void
test_killed(void **state)
{
    fixture_t         f;
    ims_pool_grant_t  a, b;

    (void) state;

    fixture_pool(&f, 2);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_int_equal(backup(&f), 0);

    /* in the copy: it goes, and nothing else */

    ims_pool_check_begin(&check, NULL, NULL);
    assert_int_equal(ims_pool_copy_begin(f.w, NULL, &check, f.err,
                                         sizeof(f.err)), 0);
    fixture_close(&f);
    assert_true(there(&f, "env.2.new"));
    fixture_open(&f);
    assert_false(there(&f, "env.2.new"));
    assert_string_equal(linked(&f), "env.1");
    assert_int_equal(acquire(&f, "alice", 1, &b), IMS_POOL_OK);
    assert_int_equal(b.lease, a.lease);

    /* the copy is whole, but the old one was not given up */

    ims_pool_check_begin(&check, NULL, NULL);
    assert_int_equal(ims_pool_copy_begin(f.w, file, &check, f.err,
                                         sizeof(f.err)), 0);
    fixture_close(&f);
    fixture_shell("mv '%s/env.2.new' '%s/env.2'", f.dir, f.dir);
    fixture_open(&f);
    assert_false(there(&f, "env.2"));
    assert_false(f.started.fenced);
    assert_string_equal(linked(&f), "env.1");

    /* given up, and the link not yet changed: forward */

    assert_int_equal(change(&f, file), IMS_POOL_OK);
    assert_true(there(&f, "env.1"));
    fixture_close(&f);
    fixture_shell("ln -sfn env.1 '%s/current'%s", f.dir, "");
    fixture_open(&f);
    assert_string_equal(linked(&f), "env.2");
    assert_int_equal(acquire(&f, "alice", 1, &b), IMS_POOL_HOLD);
    check_clean(&f);
    fixture_close(&f);

    /* given up, and the next one is not there */

    fixture_shell("ln -sfn env.1 '%s/current'; rm -r '%s/env.2'", f.dir,
                  f.dir);
    assert_int_equal(fixture_try(&f), IMS_POOL_NOT_OURS);
    fixture_end(&f);
}


/* what is no backup */

static void
test_not(void **state)
{
    char              bad[160];
    fixture_t         f;
    ims_pool_grant_t  a, b;

    (void) state;

    fixture_pool(&f, 500);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_int_equal(backup(&f), 0);
    snprintf(bad, sizeof(bad), "%s/bad", f.base);

    assert_int_equal(change(&f, "/nix/nix"), IMS_POOL_SYSTEM);
    assert_int_equal(change(&f, f.base), IMS_POOL_SYSTEM);
    fixture_shell("echo garbage > '%s/bad'%s", f.base, "");
    assert_int_not_equal(change(&f, bad), IMS_POOL_OK);
    fixture_shell(": > '%s/bad'%s", f.base, "");
    assert_int_not_equal(change(&f, bad), IMS_POOL_OK);

    /* one bit of a name */

    fixture_shell("sed 's/sip:web-000137@/sip:web-000138@/g' '%s/backup.mdb' "
                  "> '%s/bad'", f.base, f.base);
    assert_int_equal(change(&f, bad), IMS_POOL_UNKNOWN);

    /* half of it */

    fixture_shell("head -c 40960 '%s/backup.mdb' > '%s/bad'", f.base, f.base);
    assert_int_equal(change(&f, bad), IMS_POOL_NOT_OURS);
    fixture_shell("truncate -s $(stat -c %%s '%s/backup.mdb') '%s/bad'",
                  f.base, f.base);
    assert_int_not_equal(change(&f, bad), IMS_POOL_OK);

    /* nothing of it had any effect */

    assert_string_equal(linked(&f), "env.1");
    assert_false(there(&f, "env.2.new"));
    assert_false(ims_pool_broken(f.w));
    assert_int_equal(acquire(&f, "alice", 1, &b), IMS_POOL_OK);
    assert_int_equal(b.lease, a.lease);
    check_clean(&f);
    fixture_end(&f);
}


/* the numbers of a new environment were never used, whatever the floor says */

static void
test_never_used(void **state)
{
    fixture_t         f;
    ims_pool_grant_t  a;

    (void) state;

    fixture_pool(&f, 1);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    fixture_close(&f);
    fixture_shell("rm -r '%s/current' '%s'/env.1", f.dir, f.dir);
    f.opt.never_used = true;
    fixture_open(&f);
    assert_true(f.started.created);
    assert_false(f.started.fenced);
    assert_int_equal(f.started.incarnation, 2);
    add_pool(&f, "web");
    add_identities(&f, "web", 1, 1);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    fixture_close(&f);

    /* without it: held */

    fixture_shell("rm -r '%s/current' '%s'/env.1", f.dir, f.dir);
    f.opt.never_used = false;
    fixture_open(&f);
    assert_true(f.started.fenced);
    assert_int_equal(f.started.hold_until, f.started.now + 694000);
    fixture_end(&f);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_compact),
        cmocka_unit_test(test_reader),
        cmocka_unit_test(test_restore),
        cmocka_unit_test(test_term),
        cmocka_unit_test(test_offline),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_not),
        cmocka_unit_test(test_never_used),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
