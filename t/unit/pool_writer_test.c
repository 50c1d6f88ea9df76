/*
 * Copyright (C) nginx-ims contributors
 *
 * The writer: directory, start, every line of the protocol, batches, imports,
 * damage.
 */

#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/vfs.h>

#include "base/ims_clock.h"
#include "pool_fixture.h"


#define TTL     600000
#define LINGER  94000       /* D 64 s + margin 30 s */


/* --- directory ----------------------------------------------------------- */

static unsigned
mode_of(fixture_t *f, const char *name)
{
    char         path[160];
    struct stat  sb;

    snprintf(path, sizeof(path), "%s/%s", f->dir, name);
    assert_int_equal(stat(path, &sb), 0);

    return sb.st_mode & 07777;
}


static void
test_layout(void **state)
{
    char       path[160], link[32];
    fixture_t  f;
    ssize_t    n;

    (void) state;

    fixture_init(&f);
    fixture_open(&f);

    assert_true(f.started.created && f.started.new_keys);
    assert_false(f.started.fenced);
    assert_int_equal(f.started.incarnation, 1);

    snprintf(path, sizeof(path), "%s/current", f.dir);
    n = readlink(path, link, sizeof(link));
    assert_int_equal(n, 5);
    assert_memory_equal(link, "env.1", 5);

    assert_int_equal(mode_of(&f, "."), 0750);
    assert_int_equal(mode_of(&f, "env.1"), 0750);
    assert_int_equal(mode_of(&f, "env.1/data.mdb"), 0640);
    assert_int_equal(mode_of(&f, "env.1/lock.mdb"), 0660);
    assert_int_equal(mode_of(&f, "keys"), 0600);
    assert_int_equal(mode_of(&f, "lock"), 0600);
    assert_int_equal(mode_of(&f, "floor"), 0600);

    check_clean(&f);
    fixture_close(&f);

    fixture_open(&f);
    assert_false(f.started.created || f.started.new_keys);
    assert_int_equal(f.started.incarnation, 2);
    fixture_end(&f);
}


static void
test_second_daemon(void **state)
{
    fixture_t           f;
    ims_pool_writer_t  *first;

    (void) state;

    fixture_init(&f);
    fixture_open(&f);
    first = f.w;

    assert_int_equal(fixture_try(&f), IMS_POOL_LOCKED);
    assert_null(f.w);

    f.w = first;
    fixture_close(&f);
    fixture_open(&f);
    fixture_end(&f);
}


static void
test_foreign(void **state)
{
    char       path[160];
    fixture_t  f;

    (void) state;

    fixture_init(&f);
    assert_int_equal(mkdir(f.dir, 0700), 0);
    fixture_shell("echo precious > '%s/%s'", f.dir, "mail.db");

    assert_int_equal(fixture_try(&f), IMS_POOL_NOT_OURS);
    assert_non_null(strstr(f.err, "mail.db"));

    /* nothing was touched: no lock file, the mode as it was */

    snprintf(path, sizeof(path), "%s/lock", f.dir);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(mode_of(&f, "."), 0700);

    /* `current` that is no link, or leads elsewhere */

    fixture_shell("rm '%s/mail.db'; mkdir '%s/current'", f.dir, f.dir);
    assert_int_equal(fixture_try(&f), IMS_POOL_NOT_OURS);

    fixture_shell("rmdir '%s/current'; ln -s /etc '%s/current'", f.dir,
                  f.dir);
    assert_int_equal(fixture_try(&f), IMS_POOL_NOT_OURS);

    /* somebody else's LMDB environment */

    fixture_shell("rm '%s/current'; mkdir '%s/env.1'", f.dir, f.dir);
    fixture_shell("head -c 40000 /dev/urandom > '%s/env.1/data.mdb';"
                  " ln -s env.1 '%s/current'", f.dir, f.dir);
    assert_int_equal(fixture_try(&f), IMS_POOL_NOT_OURS);

    /* an empty directory and one with nothing but lost+found are fine */

    fixture_shell("rm -r '%s'; mkdir -p '%s/lost+found'", f.dir, f.dir);
    fixture_open(&f);
    fixture_end(&f);
}


static void
test_file_system(void **state)
{
    fixture_t      f;
    struct statfs  fs;

    (void) state;

    if (access("/dev/shm", W_OK) != 0 || statfs("/dev/shm", &fs) != 0
        || fs.f_type != TMPFS_MAGIC)
    {
        skip();
    }

    fixture_init_at(&f, "/dev/shm");
    f.opt.is_volatile = false;
    assert_int_equal(fixture_try(&f), IMS_POOL_FILESYSTEM);
    assert_non_null(strstr(f.err, "tmpfs"));
    fixture_end(&f);
}


/* as if a version with schema 1 had made it, which knew no renewals; and back */

static void
other_trees(fixture_t *f, bool old)
{
    char      path[128];
    MDB_dbi   dbi;
    MDB_env  *env;
    MDB_txn  *txn;

    snprintf(path, sizeof(path), "%s/current", f->dir);
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 4), 0);
    assert_int_equal(mdb_env_open(env, path, 0, 0660), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, "renewal", MDB_CREATE, &dbi), 0);

    if (old) {
        assert_int_equal(mdb_drop(txn, dbi, 1), 0);
    }

    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);

    edit_row(f, IMS_POOL_T_META, "state", 5,
             offsetof(ims_pool_state_t, schema), IMS_POOL_SCHEMA ^ 1, true);
}


static void
test_schema(void **state)
{
    MDB_dbi             dbi;
    MDB_txn            *txn;
    fixture_t           f;
    ims_pool_reader_t  *r;

    (void) state;

    fixture_pool(&f, 1);
    fixture_close(&f);

    /* another schema, then another magic, each with a right CRC */

    edit_row(&f, IMS_POOL_T_META, "state", 5,
             offsetof(ims_pool_state_t, schema), 4, true);
    assert_int_equal(fixture_try(&f), IMS_POOL_SCHEMA_DIFFERS);
    edit_row(&f, IMS_POOL_T_META, "state", 5,
             offsetof(ims_pool_state_t, schema), 4, true);

    /* of one that had other trees */

    other_trees(&f, true);
    assert_int_equal(fixture_try(&f), IMS_POOL_SCHEMA_DIFFERS);
    assert_int_equal(ims_pool_open_clock(&r, f.dir, &f.clock, NULL, 0),
                     IMS_POOL_SCHEMA_DIFFERS);
    other_trees(&f, false);

    edit_row(&f, IMS_POOL_T_META, "state", 5,
             offsetof(ims_pool_state_t, magic), 3, true);
    assert_int_equal(fixture_try(&f), IMS_POOL_NOT_OURS);
    edit_row(&f, IMS_POOL_T_META, "state", 5,
             offsetof(ims_pool_state_t, magic), 3, true);

    /* an environment that was given up */

    edit_row(&f, IMS_POOL_T_META, "state", 5,
             offsetof(ims_pool_state_t, gone), 2, true);
    assert_int_equal(fixture_try(&f), IMS_POOL_NOT_OURS);
    edit_row(&f, IMS_POOL_T_META, "state", 5,
             offsetof(ims_pool_state_t, gone), 2, true);

    fixture_open(&f);
    check_clean(&f);
    fixture_close(&f);

    /* the same names and rows, but the keys of another build */

    txn = edit_begin(&f, IMS_POOL_T_IDENT, &dbi);
    assert_int_equal(mdb_drop(txn, dbi, 1), 0);
    assert_int_equal(mdb_dbi_open(txn, "ident", MDB_CREATE, &dbi), 0);
    edit_end(txn);
    assert_int_equal(fixture_try(&f), IMS_POOL_SCHEMA_DIFFERS);
    assert_int_equal(ims_pool_open_clock(&r, f.dir, &f.clock, NULL, 0),
                     IMS_POOL_SCHEMA_DIFFERS);

    fixture_end(&f);
}


static void
test_interrupted_first_start(void **state)
{
    fixture_t  f;

    (void) state;

    /* killed before the environment was whole */

    fixture_init(&f);
    fixture_shell("mkdir -p '%s/env.1.init';"
                  " head -c 5000 /dev/urandom > '%s/env.1.init/data.mdb'",
                  f.dir, f.dir);
    fixture_open(&f);
    assert_true(f.started.created);
    fixture_close(&f);

    /* an environment in use whose link somebody took away */

    fixture_shell("rm '%s/current'%s", f.dir, "");
    assert_int_equal(fixture_try(&f), IMS_POOL_NOT_OURS);

    fixture_end(&f);
}


/* --- keys ---------------------------------------------------------------- */

static void
test_keys(void **state)
{
    fixture_t         f;
    ims_pool_grant_t  a, b;

    (void) state;

    fixture_pool(&f, 4);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    fixture_close(&f);

    /* a newer hash key: the same user, the same lease, hashed anew */

    fixture_shell("cp '%s/keys' '%s/../keys.old'", f.dir, f.dir);
    fixture_shell("echo hash 2 $(printf '5a%%.0s' $(seq 32)) >> '%s/keys'%s",
                  f.dir, "");
    fixture_open(&f);
    assert_int_equal(acquire(&f, "alice", 1, &b), IMS_POOL_OK);
    assert_int_equal(b.how, IMS_POOL_SAME);
    assert_int_equal(b.lease, a.lease);
    assert_memory_equal(b.holder, a.holder, sizeof(a.holder));
    assert_int_equal(look(&f, a.ident).rec.hash_key, 2);
    check_clean(&f);
    assert_int_equal(release(&f, "alice", 1, a.ident, a.lease), IMS_POOL_OK);
    fixture_close(&f);

    /* other keys under the same numbers are not taken */

    fixture_shell("sed -i 's/^hash 2 5a5a/hash 2 5b5a/' '%s/keys'%s", f.dir,
                  "");
    assert_int_equal(fixture_try(&f), IMS_POOL_NOT_OURS);

    fixture_shell("echo garbage > '%s/keys'%s", f.dir, "");
    assert_int_equal(fixture_try(&f), IMS_POOL_NOT_OURS);

    /* a lost keys file: new ones, nobody is known, nothing is given twice */

    fixture_shell("rm '%s/keys'%s", f.dir, "");
    fixture_open(&f);
    assert_true(f.started.new_keys);
    assert_int_equal(acquire(&f, "alice", 1, &b), IMS_POOL_OK);
    assert_int_not_equal(b.ident, a.ident);
    assert_int_equal(look(&f, b.ident).rec.hash_key, 3);
    check_clean(&f);
    fixture_end(&f);
}


/* --- the protocol -------------------------------------------------------- */

static void
test_line_1_3(void **state)
{
    fixture_t         f;
    uint64_t          t0;
    ims_pool_grant_t  a, b, c;
    ims_pool_look_t   l;

    (void) state;

    fixture_pool(&f, 2);

    assert_int_equal(acquire(&f, "alice", 11, &a), IMS_POOL_OK);
    t0 = a.now;
    assert_int_equal(a.how, IMS_POOL_NEW);
    assert_int_equal(a.end, t0 + TTL);
    assert_int_equal(a.lease_end, t0 + TTL);
    assert_int_equal(a.lease >> 40, 1);
    assert_string_equal(a.home, "ims.example");
    assert_true(ims_str_eq(a.names.impi, IMS_STR("web-000001@ims.example")));
    assert_int_equal(a.names.nimpu, 1);

    l = look(&f, a.ident);
    assert_int_equal(l.rec.start, t0);
    assert_int_equal(l.rec.promised, t0 + TTL);
    assert_int_equal(l.rec.rest, t0 + TTL + LINGER);
    assert_int_equal(ims_pool_check_lease(&l, a.lease, 11, a.holder, l.pt,
                                          NULL), IMS_POOL_LIVE);

    /* line 1: same user, same session; a while later; in the same batch */

    f.v.boottime += 1000;
    assert_int_equal(acquire(&f, "alice", 11, &b), IMS_POOL_OK);
    assert_int_equal(b.how, IMS_POOL_SAME);
    assert_int_equal(b.ident, a.ident);
    assert_int_equal(b.lease, a.lease);
    assert_int_equal(b.end, t0 + 1000 + TTL);
    assert_memory_equal(a.holder, b.holder, sizeof(a.holder));

    assert_int_equal(acquire(&f, "bob", 12, &c), IMS_POOL_OK);
    assert_int_equal(c.how, IMS_POOL_NEW);
    assert_int_not_equal(c.ident, a.ident);
    assert_int_equal(c.lease, a.lease + 1);
    assert_memory_not_equal(c.holder, a.holder, sizeof(a.holder));

    /* none left: seconds to the first rest */

    assert_int_equal(acquire(&f, "carol", 13, &c), IMS_POOL_EXHAUSTED);
    assert_int_equal(c.retry_s, (TTL + LINGER + 999) / 1000);

    check_clean(&f);
    fixture_end(&f);
}


/* the first row's record was renewed: the next one's rests for less */

static void
test_exhausted_tells_the_first(void **state)
{
    fixture_t         f;
    ims_pool_grant_t  a, b, c;

    (void) state;

    fixture_pool(&f, 2);

    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    f.v.boottime += 1000;
    assert_int_equal(acquire(&f, "bob", 2, &b), IMS_POOL_OK);
    f.v.boottime += TTL / 2;
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_int_equal(a.how, IMS_POOL_SAME);

    assert_int_equal(acquire(&f, "carol", 3, &c), IMS_POOL_EXHAUSTED);
    assert_int_equal(c.retry_s, (TTL - TTL / 2 + LINGER) / 1000);

    /* a second before it is hers, nothing is; and then it is */

    f.v.boottime += TTL - TTL / 2 + LINGER - 1000;
    assert_int_equal(acquire(&f, "carol", 3, &c), IMS_POOL_EXHAUSTED);
    assert_int_equal(c.retry_s, 1);
    f.v.boottime += 1000;
    assert_int_equal(acquire(&f, "carol", 3, &c), IMS_POOL_OK);
    assert_int_equal(c.ident, b.ident);

    fixture_end(&f);
}


static void
test_line_2(void **state)
{
    fixture_t         f;
    uint64_t          rest;
    ims_pool_grant_t  a, b, c;

    (void) state;

    fixture_pool(&f, 1);

    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    rest = a.rest;

    /* expired, resting: hers alone */

    f.v.boottime += TTL;
    assert_int_equal(acquire(&f, "bob", 2, &b), IMS_POOL_EXHAUSTED);
    assert_int_equal(b.retry_s, LINGER / 1000);

    assert_int_equal(acquire(&f, "alice", 1, &c), IMS_POOL_OK);
    assert_int_equal(c.how, IMS_POOL_RETURNED);
    assert_int_equal(c.ident, a.ident);
    assert_true(c.lease > a.lease);
    assert_true(c.rest > rest);

    /* after the release too, and at once */

    assert_int_equal(release(&f, "alice", 1, c.ident, c.lease), IMS_POOL_OK);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_int_equal(a.how, IMS_POOL_RETURNED);
    assert_true(a.lease > c.lease);

    /* one ms before the rest is over, and at its end */

    f.v.boottime += TTL + LINGER - 1;
    assert_int_equal(acquire(&f, "bob", 2, &b), IMS_POOL_EXHAUSTED);
    assert_int_equal(b.retry_s, 1);
    f.v.boottime += 1;
    assert_int_equal(acquire(&f, "bob", 2, &b), IMS_POOL_OK);
    assert_int_equal(b.how, IMS_POOL_NEW);
    assert_int_equal(b.ident, a.ident);

    /* she has lost her way back */

    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_EXHAUSTED);

    check_clean(&f);
    fixture_end(&f);
}


static void
test_line_4_5(void **state)
{
    bool               ended;
    fixture_t          f;
    uint64_t           rest;
    ims_pool_who_t     w;
    ims_pool_look_t    l;
    ims_pool_grant_t   a, b;

    (void) state;

    fixture_pool(&f, 3);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);

    f.v.boottime += 100000;
    assert_int_equal(renew(&f, "alice", 1, a.ident, a.lease, &b),
                     IMS_POOL_OK);
    assert_int_equal(b.lease, a.lease);
    assert_int_equal(b.end, a.now + 100000 + TTL);
    rest = b.rest;

    /* anything that does not match: ended, nothing changed */

    assert_int_equal(renew(&f, "bob", 1, a.ident, a.lease, &b),
                     IMS_POOL_ENDED);
    assert_int_equal(renew(&f, "alice", 2, a.ident, a.lease, &b),
                     IMS_POOL_ENDED);
    assert_int_equal(renew(&f, "alice", 1, a.ident, a.lease + 1, &b),
                     IMS_POOL_ENDED);
    assert_int_equal(renew(&f, "alice", 1, a.ident + 1, a.lease, &b),
                     IMS_POOL_ENDED);
    assert_int_equal(release(&f, "bob", 1, a.ident, a.lease), IMS_POOL_ENDED);
    assert_int_equal(release(&f, "alice", 2, a.ident, a.lease),
                     IMS_POOL_ENDED);

    l = look(&f, a.ident);
    assert_int_equal(l.rec.rest, rest);
    assert_int_equal(l.rec.end, a.now + 100000 + TTL);

    /* release: end now, promised and rest as they were; final */

    w = who("alice", 1);
    begin(&f);
    assert_int_equal(ims_pool_release(f.w, &w, a.ident, a.lease, &ended), 0);
    assert_true(ended);
    assert_int_equal(ims_pool_renew(f.w, &w, a.ident, a.lease, &b),
                     IMS_POOL_ENDED);
    commit(&f);

    l = look(&f, a.ident);
    assert_int_equal(l.rec.end, l.pt);
    assert_int_equal(l.rec.promised, a.now + 100000 + TTL);
    assert_int_equal(l.rec.rest, rest);
    assert_int_equal(ims_pool_check_lease(&l, a.lease, 1, a.holder, l.pt,
                                          NULL), IMS_POOL_LAPSE_ENDED);
    assert_int_equal(release(&f, "alice", 1, a.ident, a.lease),
                     IMS_POOL_ENDED);

    /* expiry: nothing is written, and renew comes too late */

    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    f.v.boottime += TTL;
    assert_int_equal(renew(&f, "alice", 1, a.ident, a.lease, &b),
                     IMS_POOL_ENDED);

    check_clean(&f);
    fixture_end(&f);
}


static void
collect(void *ctx, const ims_pool_feed_row_t *row)
{
    ims_pool_feed_row_t  *rows = ctx;

    while (rows->seq) {
        rows++;
    }

    *rows = *row;
}


static void
test_line_6(void **state)
{
    unsigned              n;
    uint64_t              fence;
    fixture_t             f;
    ims_pool_reader_t    *r;
    ims_pool_look_t       l;
    ims_pool_grant_t      a, b, c, d;
    ims_pool_feed_row_t   rows[16];

    (void) state;

    fixture_pool(&f, 5);
    r = ims_pool_writer_reader(f.w);

    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_int_equal(acquire(&f, "bob", 2, &b), IMS_POOL_OK);
    assert_int_equal(acquire(&f, "carol", 3, &c), IMS_POOL_OK);
    assert_int_equal(acquire(&f, "dave", 4, &d), IMS_POOL_OK);
    assert_int_equal(ims_pool_feed(r, collect, rows), 0);

    f.v.boottime += 5000;
    memset(rows, 0, sizeof(rows));

    begin(&f);
    assert_int_equal(ims_pool_revoke_lease(f.w, a.ident, a.lease,
                                           false, &n), 0);
    assert_int_equal(n, 1);
    assert_int_equal(ims_pool_revoke_lease(f.w, a.ident, a.lease, false, &n),
                     IMS_POOL_ENDED);
    assert_int_equal(ims_pool_revoke_lease(f.w, b.ident, b.lease + 9,
                                           false, &n),
                     IMS_POOL_ENDED);
    assert_int_equal(ims_pool_revoke_lease(f.w, 77, 1, false, &n),
                     IMS_POOL_NOTFOUND);

    /* any spelling that folds to the same */

    assert_int_equal(ims_pool_revoke_impu(f.w,
                         IMS_STR("SIP:Web-000002@IMS.example:5060"),
                         false, &n), 0);
    assert_int_equal(n, 1);
    assert_int_equal(ims_pool_revoke_impu(f.w, IMS_STR("sip:x@y"), false, &n),
                     IMS_POOL_NOTFOUND);

    assert_int_equal(ims_pool_revoke_user(f.w, IMS_STR_NULL,
                         IMS_STR("example"), IMS_STR("carol"), false, &n), 0);
    assert_int_equal(n, 1);
    assert_int_equal(ims_pool_revoke_user(f.w, IMS_STR("web"),
                         IMS_STR("other"), IMS_STR("dave"), false, &n),
                     IMS_POOL_NOTFOUND);
    commit(&f);

    assert_int_equal(ims_pool_feed(r, collect, rows), 3);
    assert_int_equal(rows[0].ident, a.ident);
    assert_int_equal(rows[0].lease, a.lease);
    assert_int_equal(rows[1].ident, b.ident);
    assert_int_equal(rows[2].ident, c.ident);
    assert_int_equal(rows[2].seq, rows[0].seq + 2);
    assert_int_equal(rows[2].reason, IMS_POOL_END_REVOKED);

    l = look(&f, a.ident);
    assert_int_equal(l.rec.end, l.pt);
    assert_int_equal(l.rec.promised, a.end);
    assert_int_equal(l.rec.rest, a.rest);

    /* the pool as a whole: one row, ident 0 */

    memset(rows, 0, sizeof(rows));
    begin(&f);
    assert_int_equal(ims_pool_revoke_pool(f.w, IMS_STR("web"), &fence), 0);
    commit(&f);
    assert_int_equal(fence, d.lease);
    assert_int_equal(ims_pool_feed(r, collect, rows), 1);
    assert_int_equal(rows[0].ident, 0);
    assert_int_equal(rows[0].pool, d.pool);

    l = look(&f, d.ident);
    assert_int_equal(ims_pool_check_lease(&l, d.lease, 4, d.holder, l.pt,
                                          NULL), IMS_POOL_LAPSE_FENCED);
    assert_int_equal(renew(&f, "dave", 4, d.ident, d.lease, &a),
                     IMS_POOL_ENDED);

    /* the last holder may return under a lease above the fence */

    assert_int_equal(acquire(&f, "dave", 4, &a), IMS_POOL_OK);
    assert_int_equal(a.how, IMS_POOL_RETURNED);
    assert_int_equal(a.ident, d.ident);
    assert_true(a.lease > fence);

    check_clean(&f);
    fixture_end(&f);
}


static void
test_line_8(void **state)
{
    bool              alert;
    uint64_t          t;
    fixture_t         f;
    unsigned          i;
    ims_pool_look_t   l;
    ims_pool_grant_t  a, b;

    (void) state;

    fixture_pool(&f, 2);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    t = a.now;

    begin(&f);

    /* shorter than what is known: nothing */

    assert_int_equal(ims_pool_report(f.w, a.ident, a.lease, 1, 9, t, &alert),
                     0);
    assert_false(alert);
    commit(&f);
    assert_int_equal(look(&f, a.ident).rec.rest, a.rest);

    /* longer: until + margin; a week at most; more rows than are kept */

    begin(&f);
    assert_int_equal(ims_pool_report(f.w, a.ident, a.lease, 1, 9,
                                     t + 3600000, &alert), 0);
    commit(&f);
    l = look(&f, a.ident);
    assert_int_equal(l.rec.rest, t + 3600000 + 30000);
    assert_int_equal(l.rec.end, a.end);
    assert_int_equal(l.rec.promised, a.end);

    begin(&f);
    for (i = 0; i < 40; i++) {
        assert_int_equal(ims_pool_report(f.w, a.ident, a.lease, 1, 10 + i,
                                         t + 3600001 + i, &alert), 0);
    }
    assert_int_equal(ims_pool_report(f.w, a.ident, a.lease, 1, 9, UINT64_MAX,
                                     &alert), 0);
    assert_int_equal(ims_pool_report(f.w, 5, 1, 1, 9, t, &alert),
                     IMS_POOL_NOTFOUND);
    commit(&f);
    assert_int_equal(look(&f, a.ident).rec.rest,
                     t + 7ull * 86400000 + 30000);

    /* of an earlier lease of the same holder: no alert; of another's: alert */

    assert_int_equal(release(&f, "alice", 1, a.ident, a.lease), IMS_POOL_OK);
    assert_int_equal(acquire(&f, "alice", 1, &b), IMS_POOL_OK);
    begin(&f);
    assert_int_equal(ims_pool_report(f.w, a.ident, a.lease, 1, 9,
                                     t + 4000000, &alert), 0);
    assert_false(alert);
    commit(&f);

    assert_int_equal(release(&f, "alice", 1, b.ident, b.lease), IMS_POOL_OK);
    f.v.boottime += 8ull * 86400000;
    assert_int_equal(acquire(&f, "bob", 2, &b), IMS_POOL_OK);
    assert_int_equal(acquire(&f, "carol", 3, &b), IMS_POOL_OK);
    assert_int_equal(b.ident, a.ident);

    begin(&f);
    assert_int_equal(ims_pool_report(f.w, a.ident, a.lease, 1, 9,
                                     b.now + 99000000, &alert), 0);
    assert_true(alert);
    commit(&f);
    assert_int_equal(look(&f, b.ident).rec.rest, b.now + 99030000);

    check_clean(&f);
    fixture_end(&f);
}


static void
test_lowered(void **state)
{
    fixture_t         f;
    ims_pool_spec_t   spec;
    ims_pool_look_t   l;
    ims_pool_grant_t  a, b;

    (void) state;

    fixture_pool(&f, 1);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);

    memset(&spec, 0, sizeof(spec));
    spec.name = IMS_STR("web");
    spec.ttl = 10000;
    spec.delay = 1000;
    spec.margin = 1000;
    begin(&f);
    assert_int_equal(ims_pool_alter(f.w, &spec), IMS_POOL_OK);
    commit(&f);

    f.v.boottime += 1000;
    assert_int_equal(renew(&f, "alice", 1, a.ident, a.lease, &b), 0);
    assert_int_equal(b.end, a.end);
    l = look(&f, a.ident);
    assert_int_equal(l.rec.promised, a.end);
    assert_int_equal(l.rec.rest, a.rest);
    check_clean(&f);

    assert_int_equal(release(&f, "alice", 1, a.ident, a.lease), 0);
    assert_int_equal(acquire(&f, "alice", 1, &b), 0);
    assert_int_equal(b.end, b.now + 10000);
    assert_int_equal(b.rest, a.rest);

    check_clean(&f);
    fixture_end(&f);
}


static void
test_arguments(void **state)
{
    char              *big;
    fixture_t          f;
    ims_pool_who_t     w;
    ims_pool_spec_t    spec;
    ims_pool_grant_t   a, b;
    uint32_t           pool;

    (void) state;

    fixture_pool(&f, 5);
    big = malloc(70000);
    assert_non_null(big);
    memset(big, 'x', 70000);

    begin(&f);

    w = who("alice", 0);
    assert_int_equal(ims_pool_acquire(f.w, &w, &a), IMS_POOL_BADARG);
    w = who("", 1);
    assert_int_equal(ims_pool_acquire(f.w, &w, &a), IMS_POOL_BADARG);
    w = who("alice", 1);
    w.realm = IMS_STR("");
    assert_int_equal(ims_pool_acquire(f.w, &w, &a), IMS_POOL_BADARG);
    w.realm = IMS_STR("a\0b");
    assert_int_equal(ims_pool_acquire(f.w, &w, &a), IMS_POOL_BADARG);
    w = who("alice", 1);
    w.pool = IMS_STR("nowhere");
    assert_int_equal(ims_pool_acquire(f.w, &w, &a), IMS_POOL_NOPOOL);
    w = who("alice", 1);
    w.user = ims_str_set(big, 65537);
    assert_int_equal(ims_pool_acquire(f.w, &w, &a), IMS_POOL_BADARG);

    /* any bytes are a user: the longest, CR LF, NUL; and they differ */

    w.user = ims_str_set(big, 65536);
    assert_int_equal(ims_pool_acquire(f.w, &w, &a), IMS_POOL_OK);
    w.user = IMS_STR("eve\r\nX: y");
    assert_int_equal(ims_pool_acquire(f.w, &w, &a), IMS_POOL_OK);
    w.user = IMS_STR("eve\0");
    assert_int_equal(ims_pool_acquire(f.w, &w, &a), IMS_POOL_OK);
    w.user = IMS_STR("eve");
    assert_int_equal(ims_pool_acquire(f.w, &w, &b), IMS_POOL_OK);
    assert_int_not_equal(a.ident, b.ident);
    commit(&f);

    /* realms */

    memset(&spec, 0, sizeof(spec));
    spec.name = IMS_STR("web");
    spec.realms = IMS_STR("one,example2");
    begin(&f);
    assert_int_equal(ims_pool_alter(f.w, &spec), IMS_POOL_OK);
    w = who("alice", 1);
    assert_int_equal(ims_pool_acquire(f.w, &w, &a), IMS_POOL_DENIED);
    w.realm = IMS_STR("example2");
    assert_int_equal(ims_pool_acquire(f.w, &w, &a), IMS_POOL_OK);
    w.realm = IMS_STR("one,example2");
    assert_int_equal(ims_pool_acquire(f.w, &w, &a), IMS_POOL_DENIED);

    /* pools */

    spec.home = IMS_STR("ims.example");
    assert_int_equal(ims_pool_create(f.w, &spec, &pool), IMS_POOL_EXISTS);
    spec.name = IMS_STR("a b");
    assert_int_equal(ims_pool_create(f.w, &spec, &pool), IMS_POOL_BADARG);
    spec.name = IMS_STR("b");
    spec.realms = IMS_STR("x,,y");
    assert_int_equal(ims_pool_create(f.w, &spec, &pool), IMS_POOL_BADARG);
    spec.realms = IMS_STR_NULL;
    spec.home = IMS_STR("IMS.example");
    assert_int_equal(ims_pool_create(f.w, &spec, &pool), IMS_POOL_BADARG);
    spec.home = IMS_STR("ims.example");
    spec.ttl = 10;
    assert_int_equal(ims_pool_create(f.w, &spec, &pool), IMS_POOL_BADARG);
    spec.ttl = 0;
    assert_int_equal(ims_pool_create(f.w, &spec, &pool), IMS_POOL_OK);
    assert_int_equal(pool, 2);
    commit(&f);

    check_clean(&f);
    free(big);
    fixture_end(&f);
}


/* --- batches ------------------------------------------------------------- */

static void
test_abort(void **state)
{
    uint64_t          t;
    unsigned          n;
    fixture_t         f;
    ims_pool_who_t    w;
    ims_pool_info_t   before, after;
    ims_pool_grant_t  a, b;

    (void) state;

    fixture_pool(&f, 3);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_int_equal(ims_pool_info(f.w, &before), 0);

    f.v.boottime += 1000;
    begin(&f);
    w = who("bob", 2);
    assert_int_equal(ims_pool_acquire(f.w, &w, &b), IMS_POOL_OK);
    assert_int_equal(ims_pool_revoke_lease(f.w, a.ident, a.lease,
                                           false, &n), 0);
    ims_pool_abort(f.w);

    assert_int_equal(ims_pool_info(f.w, &after), 0);
    after.now = before.now;
    assert_memory_equal(&before, &after, sizeof(before));
    assert_int_equal(renew(&f, "alice", 1, a.ident, a.lease, &b), 0);

    /* later commands of a batch see the earlier ones; a refusal writes none */

    assert_int_equal(ims_pool_info(f.w, &before), 0);
    begin(&f);
    t = ims_pool_now(f.w);
    w = who("bob", 2);
    f.v.boottime += 50;
    assert_int_equal(ims_pool_acquire(f.w, &w, &b), IMS_POOL_OK);
    assert_int_equal(b.now, t);
    assert_int_equal(ims_pool_revoke_lease(f.w, b.ident, b.lease,
                                           false, &n), 0);
    assert_int_equal(ims_pool_renew(f.w, &w, b.ident, b.lease, &b),
                     IMS_POOL_ENDED);
    commit(&f);

    assert_int_equal(ims_pool_info(f.w, &before), 0);
    assert_int_equal(renew(&f, "bob", 2, b.ident, b.lease, &b),
                     IMS_POOL_ENDED);
    assert_int_equal(ims_pool_info(f.w, &after), 0);
    assert_int_equal(after.txn, before.txn);

    check_clean(&f);
    fixture_end(&f);
}


static void
test_map_full(void **state)
{
    int                    rc;
    char                   impi[64], impu[64];
    unsigned               i, done;
    fixture_t              f;
    uint64_t               ident;
    ims_pool_grant_t       a;
    ims_pool_identity_t    row;
    ims_pool_row_result_t  res;

    (void) state;

    fixture_init(&f);
    f.opt.map_size = 512 * 1024;
    fixture_open(&f);
    add_pool(&f, "web");
    memset(&row, 0, sizeof(row));
    row.nimpu = 1;
    rc = 0;

    for (done = 0; rc == 0 && done < 100000; done += 50) {
        begin(&f);

        for (i = 0; rc == 0 && i < 50; i++) {
            snprintf(impi, sizeof(impi), "u%u@ims.example", done + i);
            snprintf(impu, sizeof(impu), "sip:u%u@ims.example", done + i);
            row.impi = S(impi);
            row.impu[0] = S(impu);
            rc = ims_pool_identity_add(f.w, IMS_STR("web"), &row, 0, &ident,
                                       &res);
        }

        if (rc != 0) {
            assert_int_equal(rc, IMS_POOL_NOSPACE);
            assert_true(ims_pool_broken(f.w));
            assert_int_equal(ims_pool_commit(f.w), IMS_POOL_NOSPACE);

        } else {
            rc = ims_pool_commit(f.w);
        }
    }

    assert_int_equal(rc, IMS_POOL_NOSPACE);
    assert_true(done > 100);

    /* nothing of the broken batch is there, and it can be read and opened */

    check_clean(&f);
    fixture_close(&f);
    f.opt.map_size = (size_t) 1 << 30;
    fixture_open(&f);
    check_clean(&f);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    fixture_end(&f);
}


/* --- start after losses -------------------------------------------------- */

static void
test_lost_commits(void **state)
{
    fixture_t         f;
    ims_pool_look_t   l;
    ims_pool_grant_t  a, b;

    (void) state;

    fixture_pool(&f, 3);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    fixture_close(&f);
    fixture_shell("cp -r '%s/env.1' '%s/../backup'", f.dir, f.dir);

    /* a plain restart, or ten, fence nobody */

    fixture_open(&f);
    assert_false(f.started.fenced);
    assert_int_equal(renew(&f, "alice", 1, a.ident, a.lease, &b), 0);
    assert_int_equal(acquire(&f, "bob", 2, &b), IMS_POOL_OK);
    fixture_close(&f);

    /* an older copy in its place: bob's lease is lost, so all are ended */

    fixture_shell("cp '%s/../backup/data.mdb' '%s/env.1/data.mdb'", f.dir,
                  f.dir);
    fixture_open(&f);
    assert_true(f.started.fenced);
    assert_int_equal(f.started.incarnation, 3);
    assert_int_equal(f.started.hold_until,
                     f.started.now + TTL + LINGER);

    l = look(&f, a.ident);
    assert_int_equal(ims_pool_check_lease(&l, a.lease, 1, a.holder, l.pt,
                                          NULL), IMS_POOL_LAPSE_FENCED);
    assert_int_equal(acquire(&f, "alice", 1, &b), IMS_POOL_HOLD);
    assert_int_equal(b.retry_s, (TTL + LINGER) / 1000);
    assert_int_equal(renew(&f, "alice", 1, a.ident, a.lease, &b),
                     IMS_POOL_ENDED);

    /* the hold outlives a restart, and ends */

    f.v.boottime += 1000;
    fixture_close(&f);
    fixture_open(&f);
    assert_false(f.started.fenced);
    assert_int_equal(acquire(&f, "bob", 2, &b), IMS_POOL_HOLD);
    f.v.boottime += TTL + LINGER - 1001;
    assert_int_equal(acquire(&f, "bob", 2, &b), IMS_POOL_HOLD);
    assert_int_equal(b.retry_s, 1);
    f.v.boottime += 1;
    assert_int_equal(acquire(&f, "bob", 2, &b), IMS_POOL_OK);
    assert_true(b.lease >> 40 == 4);
    check_clean(&f);
    fixture_close(&f);

    /* the floor is gone though leases were given */

    fixture_shell("rm '%s/floor'%s", f.dir, "");
    fixture_open(&f);
    assert_true(f.started.fenced);
    assert_int_equal(acquire(&f, "bob", 2, &b), IMS_POOL_HOLD);
    fixture_close(&f);

    /* a new environment beside the floor: its terms hold */

    fixture_shell("rm -r '%s/current' '%s/env.1'", f.dir, f.dir);
    fixture_open(&f);
    assert_true(f.started.created && f.started.fenced);
    assert_int_equal(f.started.incarnation, 6);
    assert_int_equal(f.started.hold_until, f.started.now + TTL + LINGER);
    add_pool(&f, "web");
    add_identities(&f, "web", 1, 3);
    assert_int_equal(acquire(&f, "carol", 3, &b), IMS_POOL_HOLD);
    f.v.boottime += TTL + LINGER;
    assert_int_equal(acquire(&f, "carol", 3, &b), IMS_POOL_OK);
    check_clean(&f);

    fixture_close(&f);
    fixture_shell("echo 12 > '%s/floor'%s", f.dir, "");
    assert_int_equal(fixture_try(&f), IMS_POOL_NOT_OURS);
    fixture_end(&f);
}


/* --- imports ------------------------------------------------------------- */

static int
add_one(fixture_t *f, uint32_t no, const char *impi, const char *impu,
    const char *impu2, ims_pool_row_result_t *res)
{
    uint64_t             ident;
    ims_pool_identity_t  row;

    memset(&row, 0, sizeof(row));
    row.impi = S(impi);
    row.impu[row.nimpu++] = S(impu);

    if (impu2 != NULL) {
        row.impu[row.nimpu++] = S(impu2);
    }

    return ims_pool_import_row(f->w, no, &row, &ident, res);
}


static void
test_import(void **state)
{
    uint32_t               no, other;
    uint64_t               ident, ident2;
    unsigned               ordinal;
    fixture_t              f;
    ims_pool_info_t        before, after;
    ims_pool_names_t       names;
    ims_pool_grant_t       g;
    ims_pool_reader_t     *r;
    ims_pool_row_result_t  res;

    (void) state;

    fixture_pool(&f, 3);
    r = ims_pool_writer_reader(f.w);
    assert_int_equal(ims_pool_info(f.w, &before), 0);

    begin(&f);
    assert_int_equal(ims_pool_import_begin(f.w, S("web"), 0, &no), 0);
    assert_int_equal(ims_pool_import_begin(f.w, S("web"), 0, &other),
                     IMS_POOL_BUSY);
    assert_int_equal(add_one(&f, no, "a@ims.example",
                             "sip:+1-555-0100@ims.example;user=phone",
                             "tel:+1-555-0100", &res), 0);
    commit(&f);

    /* staged: there, but not given */

    begin(&f);
    assert_int_equal(add_one(&f, no, "A@ims.EXAMPLE", "sip:q@ims.example",
                             NULL, &res), IMS_POOL_EXISTS);
    assert_int_equal(res.fault, IMS_POOL_ROW_IMPI_TAKEN);
    assert_int_equal(add_one(&f, no, "b@ims.example", "sip:q@ims.example",
                             "tel:+15550100", &res), IMS_POOL_EXISTS);
    assert_int_equal(res.fault, IMS_POOL_ROW_IMPU_TAKEN);
    assert_int_equal(res.at, 1);
    assert_int_equal(add_one(&f, no, "b@ims.example",
                             "sip:WEB-000002@ims.example:5060", NULL, &res),
                     IMS_POOL_EXISTS);
    assert_int_equal(add_one(&f, no, "b@ims.example", "sip:q@ims.example",
                             "sip:q@IMS.example", &res), IMS_POOL_BADARG);
    assert_int_equal(res.fault, IMS_POOL_ROW_IMPU_TAKEN);
    assert_int_equal(add_one(&f, no, "b", "sip:q@ims.example", NULL, &res),
                     IMS_POOL_BADARG);
    assert_int_equal(res.fault, IMS_POOL_ROW_IMPI);
    assert_int_equal(add_one(&f, no, "b@x", "http://q", NULL, &res),
                     IMS_POOL_BADARG);
    assert_int_equal(res.fault, IMS_POOL_ROW_IMPU);
    commit(&f);
    check_clean(&f);

    /* the fault at the last line: everything out again, but its number */

    begin(&f);
    assert_int_equal(ims_pool_import_step(f.w, no, 10), IMS_POOL_BADARG);
    assert_int_equal(ims_pool_import_undo(f.w, no), 0);
    assert_int_equal(ims_pool_import_step(f.w, no, 10), 0);
    commit(&f);
    assert_int_equal(ims_pool_info(f.w, &after), 0);
    assert_int_equal(after.identities, before.identities);
    assert_int_equal(ims_pool_by_impi(r, S("a@ims.example"), &ident),
                     IMS_POOL_NOTFOUND);
    check_clean(&f);

    /* again, and killed in the middle of it */

    begin(&f);
    assert_int_equal(ims_pool_import_begin(f.w, S("web"), 0, &no), 0);
    assert_int_equal(add_one(&f, no, "a@ims.example", "tel:+15550100", NULL,
                             &res), 0);
    commit(&f);
    fixture_close(&f);
    fixture_open(&f);
    r = ims_pool_writer_reader(f.w);
    assert_int_equal(f.started.undone, 1);
    assert_int_equal(ims_pool_by_impi(r, S("a@ims.example"), &ident),
                     IMS_POOL_NOTFOUND);
    check_clean(&f);

    /* killed after the decision: carried on */

    begin(&f);
    assert_int_equal(ims_pool_import_begin(f.w, S("web"), 0, &no), 0);
    assert_int_equal(add_one(&f, no, "a@ims.example",
                             "sip:+1-555-0100@ims.example;user=phone",
                             "tel:+1-555-0100", &res), 0);
    assert_int_equal(add_one(&f, no, "b@ims.example", "sip:b@ims.example",
                             NULL, &res), 0);
    assert_int_equal(ims_pool_import_end(f.w, no), 0);
    assert_int_equal(ims_pool_import_step(f.w, no, 1), IMS_POOL_MORE);
    commit(&f);
    check_clean(&f);
    fixture_close(&f);
    fixture_open(&f);
    r = ims_pool_writer_reader(f.w);
    assert_int_equal(f.started.undone, 0);
    check_clean(&f);

    assert_int_equal(ims_pool_by_impi(r, S("A@ims.example"), &ident), 0);
    assert_int_equal(ims_pool_by_uri(r, S("tel:+15550100"), &ident2,
                                     &ordinal), 0);
    assert_int_equal(ident, ident2);
    assert_int_equal(ordinal, 0);
    assert_int_equal(ims_pool_names(r, ident, &names), 0);
    assert_int_equal(names.nimpu, 2);
    assert_true(ims_str_eq(names.impu[1].given, S("tel:+1-555-0100")));
    assert_true(ims_str_eq(names.impu[1].canon, S("tel:+15550100")));

    assert_int_equal(acquire(&f, "u1", 1, &g), 0);
    assert_int_equal(acquire(&f, "u2", 1, &g), 0);
    assert_int_equal(acquire(&f, "u3", 1, &g), 0);
    assert_int_equal(acquire(&f, "u4", 1, &g), 0);
    assert_int_equal(g.ident, ident);
    assert_int_equal(g.names.nimpu, 2);
    assert_int_equal(acquire(&f, "u5", 1, &g), 0);
    assert_int_equal(acquire(&f, "u6", 1, &g), IMS_POOL_EXHAUSTED);

    /* a range that was used elsewhere before rests first */

    begin(&f);
    assert_int_equal(ims_pool_import_begin(f.w, S("web"), 500, &no), 0);
    assert_int_equal(add_one(&f, no, "c@ims.example", "sip:c@ims.example",
                             NULL, &res), 0);
    assert_int_equal(ims_pool_import_end(f.w, no), 0);
    assert_int_equal(ims_pool_import_step(f.w, no, 5), 0);
    commit(&f);
    assert_int_equal(acquire(&f, "u6", 1, &g), IMS_POOL_EXHAUSTED);
    assert_int_equal(g.retry_s, 1);
    f.v.boottime += 500;
    assert_int_equal(acquire(&f, "u6", 1, &g), 0);

    check_clean(&f);
    fixture_end(&f);
}


static void
test_range(void **state)
{
    char              text[128];
    size_t            n;
    unsigned          i;
    ims_pool_range_t  r;

    static const char *const  bad[] = {
        "", "sip:[1-2", "sip:[1-22]@x", "sip:[9-1]@x", "sip:[a-b]@x",
        "sip:[1]@x", "sip:[1-2][3-4]@x", "sip:[-]@x", "sip:[]@x",
        "sip:[0000000001-0000000002]@x"
    };

    (void) state;

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(ims_pool_range_parse(S(bad[i]), &r));
    }

    assert_true(ims_pool_range_parse(S("sip:web-[0098-0102]@[::1]"), &r));
    assert_int_equal(ims_pool_range_count(&r), 5);
    n = ims_pool_range_name(&r, 0, (uint8_t *) text, sizeof(text));
    assert_true(ims_str_eq(ims_str_set(text, n), S("sip:web-0098@[::1]")));
    n = ims_pool_range_name(&r, 4, (uint8_t *) text, sizeof(text));
    assert_true(ims_str_eq(ims_str_set(text, n), S("sip:web-0102@[::1]")));
    assert_int_equal(ims_pool_range_name(&r, 4, (uint8_t *) text, 5), 0);

    assert_true(ims_pool_range_parse(S("sip:a@[::1]"), &r));
    assert_int_equal(ims_pool_range_count(&r), 1);
    n = ims_pool_range_name(&r, 0, (uint8_t *) text, sizeof(text));
    assert_true(ims_str_eq(ims_str_set(text, n), S("sip:a@[::1]")));
}


/* --- avail and feed ------------------------------------------------------ */

static void
test_put_back(void **state)
{
    char              user[16];
    unsigned          i;
    fixture_t         f;
    ims_pool_grant_t  a[300], g;
    ims_pool_look_t   l;

    (void) state;

    /* more stale heads than one go looks at */

    fixture_pool(&f, 300);

    for (i = 0; i < 300; i++) {
        snprintf(user, sizeof(user), "u%u", i);
        assert_int_equal(acquire(&f, user, 1, &a[i]), 0);
    }

    f.v.boottime += TTL - 1000;

    for (i = 0; i < 299; i++) {
        snprintf(user, sizeof(user), "u%u", i);
        assert_int_equal(renew(&f, user, 1, a[i].ident, a[i].lease, &g), 0);
    }

    /* only the last one was not renewed: it is found behind 299 others */

    f.v.boottime += LINGER + 1000;
    assert_int_equal(acquire(&f, "new", 1, &g), IMS_POOL_OK);
    assert_int_equal(g.ident, a[299].ident);
    l = look(&f, a[0].ident);
    assert_int_equal(l.rec.avail, l.rec.rest);
    check_clean(&f);

    assert_int_equal(acquire(&f, "newer", 1, &g), IMS_POOL_EXHAUSTED);
    assert_int_equal(g.retry_s, (TTL - 1000) / 1000);

    fixture_end(&f);
}


static void
test_feed_prune(void **state)
{
    int                   i;
    fixture_t             f;
    ims_pool_info_t       info;
    ims_pool_grant_t      g;
    ims_pool_reader_t    *r;
    ims_pool_feed_row_t   rows[8];

    (void) state;

    fixture_pool(&f, 1);
    r = ims_pool_writer_reader(f.w);
    (void) ims_pool_feed(r, collect, rows);

    for (i = 0; i < 5; i++) {
        assert_int_equal(acquire(&f, "alice", 1, &g), 0);
        assert_int_equal(release(&f, "alice", 1, g.ident, g.lease), 0);
    }

    f.v.boottime += 14 * 60000;
    begin(&f);
    assert_int_equal(ims_pool_tick(f.w), 0);
    commit(&f);
    assert_int_equal(ims_pool_info(f.w, &info), 0);
    assert_int_equal(info.feed, 5);

    f.v.boottime += 2 * 60000;
    assert_int_equal(acquire(&f, "alice", 1, &g), 0);
    assert_int_equal(release(&f, "alice", 1, g.ident, g.lease), 0);
    begin(&f);
    assert_int_equal(ims_pool_tick(f.w), 0);
    commit(&f);
    assert_int_equal(ims_pool_info(f.w, &info), 0);
    assert_int_equal(info.feed, 1);
    check_clean(&f);

    /* five rows went unread: a gap, told once */

    memset(rows, 0, sizeof(rows));
    assert_int_equal(ims_pool_feed(r, collect, rows), IMS_POOL_GAP);
    assert_int_equal(rows[0].seq, 0);
    assert_int_equal(ims_pool_feed(r, collect, rows), 0);

    fixture_end(&f);
}


/* --- damage -------------------------------------------------------------- */

static void
test_flipped_bits(void **state)
{
    fixture_t         f;
    ims_pool_grant_t  a, b, c;
    ims_pool_look_t   l;

    (void) state;

    fixture_pool(&f, 3);
    assert_int_equal(acquire(&f, "alice", 1, &a), 0);
    fixture_close(&f);

    /* alice's record: unknown to the reader, refused to her, given to none */

    edit_rec(&f, a.ident, offsetof(ims_pool_rec_t, end) + 3, 0x10, false);
    fixture_open(&f);
    assert_int_equal(ims_pool_look(ims_pool_writer_reader(f.w), a.ident, &l),
                     IMS_POOL_UNKNOWN);
    assert_int_equal(acquire(&f, "alice", 1, &c), IMS_POOL_INTERNAL);
    assert_int_equal(check_faults(&f, false) > 0, 1);

    f.v.boottime += 2 * (TTL + LINGER);
    assert_int_equal(acquire(&f, "bob", 2, &b), 0);
    assert_int_not_equal(b.ident, a.ident);
    assert_int_equal(acquire(&f, "carol", 3, &c), 0);
    assert_int_not_equal(c.ident, a.ident);
    fixture_close(&f);

    edit_rec(&f, a.ident, offsetof(ims_pool_rec_t, end) + 3, 0x10, false);
    fixture_open(&f);
    check_clean(&f);
    fixture_close(&f);

    /* a row that does not say which records are in it: the same for them all */

    edit_rec(&f, a.ident, IMS_POOL_SLOT, 0x01, false);
    fixture_open(&f);
    assert_int_equal(ims_pool_look(ims_pool_writer_reader(f.w), a.ident, &l),
                     IMS_POOL_UNKNOWN);
    assert_int_equal(ims_pool_look(ims_pool_writer_reader(f.w), a.ident + 3,
                                   &l), IMS_POOL_NOTFOUND);
    assert_int_equal(ims_pool_look(ims_pool_writer_reader(f.w), a.ident - 1,
                                   &l), IMS_POOL_UNKNOWN);
    assert_int_equal(acquire(&f, "alice", 1, &c), IMS_POOL_INTERNAL);
    assert_int_equal(acquire(&f, "bob", 2, &c), IMS_POOL_INTERNAL);
    assert_int_equal(acquire(&f, "dave", 4, &c), IMS_POOL_EXHAUSTED);
    assert_true(check_faults(&f, false) > 0);
    fixture_close(&f);
    edit_rec(&f, a.ident, IMS_POOL_SLOT, 0x01, false);

    /* check sees what has a right CRC and is wrong */

    edit_rec(&f, a.ident, offsetof(ims_pool_rec_t, promised) + 5, 1, true);
    fixture_open(&f);
    assert_true(check_faults(&f, false) > 0);
    fixture_close(&f);
    edit_rec(&f, a.ident, offsetof(ims_pool_rec_t, promised) + 5, 1, true);

    edit_rec(&f, a.ident, offsetof(ims_pool_rec_t, lease) + 5,
             0x7f, true);
    fixture_open(&f);
    assert_true(check_faults(&f, false) > 0);
    fixture_close(&f);

    fixture_end(&f);
}


/* --- kill -9 ------------------------------------------------------------- */

#define USERS  40

typedef struct {
    unsigned  user;
    unsigned  released;
    uint64_t  ident;
    uint64_t  lease;
    uint64_t  end;
} ack_t;


static void
victim(fixture_t *f, int fd, uint64_t seed)
{
    int               rc;
    char              user[16];
    bool              ended;
    ack_t             ack[8];
    unsigned          i, n;
    ims_pool_who_t    w;
    ims_pool_grant_t  g;

    /* real time, so that leases end in between */

    f->opt.clock = NULL;

    if (fixture_try(f) != IMS_POOL_OK) {
        _exit(3);
    }

    for ( ;; ) {
        if (ims_pool_begin(f->w) != IMS_POOL_OK) {
            _exit(4);
        }

        memset(ack, 0, sizeof(ack));

        for (i = 0, n = 0; i < 8; i++) {
            ack[n].user = (unsigned) (rnd(&seed) % USERS);
            snprintf(user, sizeof(user), "u%u", ack[n].user);
            w = who(user, 1);

            rc = ims_pool_acquire(f->w, &w, &g);

            if (rc == IMS_POOL_EXHAUSTED) {
                continue;
            }

            if (rc != IMS_POOL_OK) {
                _exit(5);
            }

            ack[n].ident = g.ident;
            ack[n].lease = g.lease;
            ack[n].end = g.end;

            if (rnd(&seed) % 3 == 0) {
                if (ims_pool_release(f->w, &w, g.ident, g.lease, &ended)) {
                    _exit(6);
                }

                ack[n].released = 1;
            }

            n++;
        }

        if (ims_pool_commit(f->w) != IMS_POOL_OK) {
            _exit(7);
        }

        if (write(fd, ack, n * sizeof(ack_t)) != (ssize_t) (n * sizeof(ack_t)))
        {
            _exit(8);
        }
    }
}


static void
verify(fixture_t *f, const ack_t *told)
{
    uint8_t          key[16];
    unsigned         i;
    ims_pool_rec_t   rec;
    ims_pool_hist_t  hist;

    begin(f);

    for (i = 0; i < USERS; i++) {

        if (told[i].ident == 0) {
            continue;
        }

        assert_int_equal(ims_pool_w_rec(f->w, told[i].ident, &rec), 0);
        assert_true(rec.lease >= told[i].lease);
        assert_true(rec.rest >= told[i].end + 2000);

        if (rec.lease == told[i].lease && rec.end >= told[i].end) {
            assert_false(told[i].released);
            continue;
        }

        /* it ended, or another began: then it is in the history */

        ims_pool_be64(key, told[i].ident);
        ims_pool_be64(key + 8, told[i].lease);
        assert_int_equal(ims_pool_w_copy(f->w, IMS_POOL_T_HIST, key, 16,
                                         &hist, sizeof(hist)), 0);
    }

    ims_pool_abort(f->w);
}


static void
test_kill(void **state)
{
    int              fds[2], status;
    pid_t            pid;
    ack_t            ack, *told;
    uint64_t         acks, until, seed;
    unsigned         round;
    fixture_t        f;
    uint32_t         pool;
    ims_pool_spec_t  spec;

    (void) state;

    fixture_init(&f);
    f.opt.clock = NULL;
    fixture_open(&f);

    memset(&spec, 0, sizeof(spec));
    spec.name = IMS_STR("web");
    spec.home = IMS_STR("ims.example");
    spec.ttl = 1000;
    spec.ttl_max = 1000;
    spec.delay = 1000;
    spec.margin = 1000;
    begin(&f);
    assert_int_equal(ims_pool_create(f.w, &spec, &pool), 0);
    commit(&f);
    add_identities(&f, "web", 1, 30);
    fixture_close(&f);

    told = calloc(USERS, sizeof(ack_t));
    assert_non_null(told);
    acks = 0;
    seed = 42;

    for (round = 0; round < 30; round++) {

        assert_int_equal(pipe(fds), 0);
        pid = fork();
        assert_true(pid >= 0);

        if (pid == 0) {
            close(fds[0]);
            victim(&f, fds[1], round + 1);
        }

        /* a pipe that fills would keep the victim out of its commits */

        close(fds[1]);
        until = ims_boottime_ms() + 30 + rnd(&seed) % 100;

        while (ims_boottime_ms() < until
               && read(fds[0], &ack, sizeof(ack)) == sizeof(ack))
        {
            told[ack.user] = ack;
            acks++;
        }

        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));

        while (read(fds[0], &ack, sizeof(ack)) == sizeof(ack)) {
            told[ack.user] = ack;
            acks++;
        }

        close(fds[0]);

        fixture_open(&f);
        assert_false(f.started.fenced);
        check_clean(&f);
        verify(&f, told);
        fixture_close(&f);
    }

    print_message("kill -9: 30 rounds, %llu leases acknowledged\n",
                  (unsigned long long) acks);
    assert_true(acks > 1000);
    free(told);
    fixture_end(&f);
}


/*
 * Slots of readers that were killed while others live: the daemon starts all
 * the same.  Found by the world test.
 */

static void
test_dead_readers(void **state)
{
    pid_t      pid[8];
    unsigned   i;
    fixture_t  f;

    (void) state;

    fixture_init(&f);
    f.opt.readers = 8;
    fixture_open(&f);

    /* the first comes before the daemon goes: there are as many as it says */

    pid[0] = fixture_worker(&f);
    fixture_close(&f);

    for (i = 1; i < 8; i++) {
        pid[i] = fixture_worker(&f);
    }

    for (i = 1; i < 8; i++) {
        assert_int_equal(kill(pid[i], SIGKILL), 0);
        assert_int_equal(waitpid(pid[i], NULL, 0), pid[i]);
    }

    fixture_open(&f);
    check_clean(&f);
    fixture_close(&f);

    assert_int_equal(kill(pid[0], SIGKILL), 0);
    assert_int_equal(waitpid(pid[0], NULL, 0), pid[0]);
    fixture_end(&f);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_second_daemon),
        cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_file_system),
        cmocka_unit_test(test_schema),
        cmocka_unit_test(test_interrupted_first_start),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_line_1_3),
        cmocka_unit_test(test_exhausted_tells_the_first),
        cmocka_unit_test(test_line_2),
        cmocka_unit_test(test_line_4_5),
        cmocka_unit_test(test_line_6),
        cmocka_unit_test(test_line_8),
        cmocka_unit_test(test_lowered),
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_abort),
        cmocka_unit_test(test_map_full),
        cmocka_unit_test(test_lost_commits),
        cmocka_unit_test(test_import),
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_put_back),
        cmocka_unit_test(test_feed_prune),
        cmocka_unit_test(test_flipped_bits),
        cmocka_unit_test(test_kill),
        cmocka_unit_test(test_dead_readers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
