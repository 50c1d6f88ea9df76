/*
 * Copyright (C) nginx-ims contributors
 *
 * A pool directory for a test, a clock that the test moves, and short names
 * for what every test does.
 */

#ifndef _POOL_FIXTURE_H_INCLUDED_
#define _POOL_FIXTURE_H_INCLUDED_


#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <lmdb.h>

#include "ims_pool_wint.h"


#define S(z)    ims_str_z(z)


typedef struct {
    uint64_t  boottime;
    uint64_t  wall;
    uint8_t   boot_id[16];
    uint64_t  seed;
} vclock_t;


typedef struct {
    char                base[64];
    char                dir[80];
    vclock_t            v;
    ims_pool_clock_t    clock;
    ims_pool_options_t  opt;
    ims_pool_started_t  started;
    ims_pool_writer_t  *w;
    char                err[512];
} fixture_t;


static uint64_t
vclock_boottime(void *ctx)
{
    return ((vclock_t *) ctx)->boottime;
}


static uint64_t
vclock_wall(void *ctx)
{
    return ((vclock_t *) ctx)->wall;
}


static int
vclock_boot_id(void *ctx, uint8_t *id)
{
    memcpy(id, ((vclock_t *) ctx)->boot_id, 16);

    return 0;
}


/* splitmix64: the same numbers for the same seed */

static uint64_t
rnd(uint64_t *seed)
{
    uint64_t  z;

    z = *seed += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;

    return z ^ z >> 31;
}


static int
vclock_random(void *ctx, void *dst, size_t n)
{
    size_t  i;

    for (i = 0; i < n; i++) {
        ((uint8_t *) dst)[i] = (uint8_t) rnd(&((vclock_t *) ctx)->seed);
    }

    return 0;
}


static inline void
fixture_clock(fixture_t *f)
{
    f->v.boottime = 50000;
    f->v.wall = 1700000000000;
    f->v.seed = 1;
    memset(f->v.boot_id, 0xb1, sizeof(f->v.boot_id));

    f->clock.boottime = vclock_boottime;
    f->clock.wall = vclock_wall;
    f->clock.boot_id = vclock_boot_id;
    f->clock.random = vclock_random;
    f->clock.ctx = &f->v;

    f->opt.clock = &f->clock;
}


/* what a test wants to find free; a program may need more than most */

#ifndef FIXTURE_ROOM
#define FIXTURE_ROOM  (48 << 20)
#endif


/*
 * Memory is fast, and no test here cuts the power. A container's /dev/shm may
 * have too little of it: a map that finds no page there ends in a SIGBUS.
 */

static inline const char *
fixture_where(void)
{
    const char      *where;
    struct statvfs   fs;

    where = getenv("IMS_TEST_DIR");

    if (where != NULL) {
        return where;
    }

    if (access("/dev/shm", W_OK) == 0
        && statvfs("/dev/shm", &fs) == 0
        && (uint64_t) fs.f_bavail * fs.f_frsize >= (uint64_t) FIXTURE_ROOM)
    {
        return "/dev/shm";
    }

    return ".";
}


static inline void
fixture_init_at(fixture_t *f, const char *where)
{
    memset(f, 0, sizeof(fixture_t));

    snprintf(f->base, sizeof(f->base), "%s/ims-pool-XXXXXX", where);
    assert_non_null(mkdtemp(f->base));
    snprintf(f->dir, sizeof(f->dir), "%s/pool", f->base);

    f->opt.dir = f->dir;
    f->opt.gid = -1;
    f->opt.is_volatile = true;
    f->opt.readers = 64;
    f->opt.map_size = (size_t) 1 << 30;
    f->opt.reserve = IMS_POOL_NO_RESERVE;

    fixture_clock(f);
}


static inline void
fixture_init(fixture_t *f)
{
    fixture_init_at(f, fixture_where());
}


static inline int
fixture_try(fixture_t *f)
{
    f->err[0] = '\0';

    return ims_pool_writer_open(&f->w, &f->opt, &f->started, f->err,
                                sizeof(f->err));
}


static inline void
fixture_open(fixture_t *f)
{
    int  rc;

    rc = fixture_try(f);

    if (rc != IMS_POOL_OK) {
        print_error("open: %d %s\n", rc, f->err);
    }

    assert_int_equal(rc, IMS_POOL_OK);
}


static inline void
fixture_close(fixture_t *f)
{
    ims_pool_writer_close(f->w);
    f->w = NULL;
}


static inline void
fixture_shell(const char *fmt, const char *a, const char *b)
{
    char  cmd[512];

    snprintf(cmd, sizeof(cmd), fmt, a, b);
    assert_int_equal(system(cmd), 0);
}


static inline void
fixture_end(fixture_t *f)
{
    fixture_close(f);
    fixture_shell("rm -rf '%s'%s", f->base, "");
}


static inline void
begin(fixture_t *f)
{
    assert_int_equal(ims_pool_begin(f->w), IMS_POOL_OK);
}


static inline void
commit(fixture_t *f)
{
    assert_int_equal(ims_pool_commit(f->w), IMS_POOL_OK);
}


/* n identities sip:web-NNNNNN@ims.example in pool `name` */

static inline void
add_identities(fixture_t *f, const char *name, unsigned first, unsigned n)
{
    char                   impi[64], impu[64];
    unsigned               i;
    uint32_t               no;
    uint64_t               ident;
    ims_pool_identity_t    row;
    ims_pool_row_result_t  res;

    begin(f);
    assert_int_equal(ims_pool_import_begin(f->w, S(name), 0, &no), 0);
    memset(&row, 0, sizeof(row));
    row.nimpu = 1;

    for (i = first; i < first + n; i++) {
        snprintf(impi, sizeof(impi), "web-%06u@ims.example", i);
        snprintf(impu, sizeof(impu), "sip:web-%06u@ims.example", i);
        row.impi = S(impi);
        row.impu[0] = S(impu);

        assert_int_equal(ims_pool_import_row(f->w, no, &row, &ident, &res),
                         0);
    }

    assert_int_equal(ims_pool_import_end(f->w, no), 0);
    assert_int_equal(ims_pool_import_step(f->w, no, n), 0);
    commit(f);
}


/* pool "web": ttl 600 s, D 64 s, margin 30 s */

static inline void
add_pool_per(fixture_t *f, const char *name, uint8_t per)
{
    uint32_t         pool;
    ims_pool_spec_t  spec;

    memset(&spec, 0, sizeof(spec));
    spec.per = per;
    spec.name = S(name);
    spec.home = IMS_STR("ims.example");
    spec.ttl = 600000;
    spec.ttl_max = 600000;
    spec.delay = 64000;
    spec.margin = 30000;

    begin(f);
    assert_int_equal(ims_pool_create(f->w, &spec, &pool), IMS_POOL_OK);
    commit(f);
}


static inline void
add_pool(fixture_t *f, const char *name)
{
    add_pool_per(f, name, IMS_POOL_PER_USER);
}


static inline void
fixture_pool(fixture_t *f, unsigned n)
{
    fixture_init(f);
    fixture_open(f);
    add_pool(f, "web");

    if (n) {
        add_identities(f, "web", 1, n);
    }
}


static inline ims_pool_who_t
who(const char *user, uint64_t sid)
{
    ims_pool_who_t  a;

    memset(&a, 0, sizeof(a));
    a.pool = IMS_STR("web");
    a.realm = IMS_STR("example");
    a.user = S(user);
    a.sid = sid;

    return a;
}


/* one command in a batch of its own */

static inline int
acquire(fixture_t *f, const char *user, uint64_t sid, ims_pool_grant_t *g)
{
    int             rc;
    ims_pool_who_t  a;

    a = who(user, sid);
    begin(f);
    rc = ims_pool_acquire(f->w, &a, g);
    commit(f);

    return rc;
}


static inline int
renew(fixture_t *f, const char *user, uint64_t sid, uint64_t ident,
    uint64_t lease, ims_pool_grant_t *g)
{
    int             rc;
    ims_pool_who_t  a;

    a = who(user, sid);
    begin(f);
    rc = ims_pool_renew(f->w, &a, ident, lease, g);
    commit(f);

    return rc;
}


static inline int
release(fixture_t *f, const char *user, uint64_t sid, uint64_t ident,
    uint64_t lease)
{
    int             rc;
    bool            ended;
    ims_pool_who_t  a;

    a = who(user, sid);
    begin(f);
    rc = ims_pool_release(f->w, &a, ident, lease, &ended);
    commit(f);

    return rc;
}


static inline ims_pool_look_t
look(fixture_t *f, uint64_t ident)
{
    ims_pool_look_t  l;

    assert_int_equal(ims_pool_look(ims_pool_writer_reader(f->w), ident, &l),
                     IMS_POOL_OK);

    return l;
}


/* what ims_pool_check_lease() says of a lease that was granted */

static inline ims_pool_lapse_e
lapse(fixture_t *f, const ims_pool_grant_t *g, uint64_t sid)
{
    ims_pool_look_t  l;

    l = look(f, g->ident);

    return ims_pool_check_lease(&l, g->lease, sid, g->holder, l.pt, NULL);
}


/* housekeeping: one turn, and all there is to do */

static inline void
tick(fixture_t *f)
{
    begin(f);
    assert_true(ims_pool_tick(f->w) >= 0);
    commit(f);
}


static inline void
ticks(fixture_t *f)
{
    int  rc;

    do {
        begin(f);
        rc = ims_pool_tick(f->w);
        assert_true(rc >= 0);
        commit(f);
    } while (rc == IMS_POOL_MORE);
}


static void
fault_print(void *ctx, ims_pool_fault_e fault, uint64_t ident)
{
    (void) ctx;

    print_error("check: %s at %llx\n", ims_pool_fault_text(fault),
                (unsigned long long) ident);
}


static inline uint64_t
check_faults(fixture_t *f, bool loud)
{
    int               rc;
    ims_pool_check_t  check;

    ims_pool_check_begin(&check, loud ? fault_print : NULL, NULL);

    do {
        rc = ims_pool_check_slice(f->w, &check, 7);
        assert_true(rc >= 0);
    } while (rc == IMS_POOL_MORE);

    return ims_pool_check_total(&check);
}


static inline void
check_clean(fixture_t *f)
{
    assert_int_equal(check_faults(f, true), 0);
}


/* a worker that has opened the pool, and lives until it is killed */

static inline pid_t
fixture_worker(fixture_t *f)
{
    int                 fds[2];
    char                c;
    pid_t               pid;
    ims_pool_look_t     look;
    ims_pool_reader_t  *r;

    assert_int_equal(pipe(fds), 0);
    pid = fork();
    assert_true(pid >= 0);

    if (pid == 0) {

        /* what a daemon has open is not its workers'; a test may fail */

        assert_int_equal(prctl(PR_SET_PDEATHSIG, SIGKILL), 0);
        (void) dup2(fds[1], 3);
        (void) close_range(4, ~0u, 0);
        fds[1] = 3;

        c = ims_pool_open_clock(&r, f->dir, &f->clock, NULL, 0) == IMS_POOL_OK
            && ims_pool_look(r, 1, &look) == IMS_POOL_NOTFOUND;

        if (write(fds[1], &c, 1) == 1) {
            pause();
        }

        _exit(0);
    }

    assert_int_equal(read(fds[0], &c, 1), 1);
    assert_int_equal(c, 1);
    close(fds[0]);
    close(fds[1]);

    return pid;
}


/*
 * Edit one row under the writer's feet, while nobody has the environment
 * open: XOR of a byte, with or without a right CRC after it.
 */
static inline MDB_txn *
edit_begin(fixture_t *f, ims_pool_tree_e tree, MDB_dbi *dbi)
{
    char      path[160];
    MDB_env  *env;
    MDB_txn  *txn;

    snprintf(path, sizeof(path), "%s/current", f->dir);

    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 32), 0);
    assert_int_equal(mdb_env_set_mapsize(env, (size_t) 1 << 30), 0);
    assert_int_equal(mdb_env_open(env, path, 0, 0660), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, ims_pool_tree_names[tree], 0, dbi),
                     0);

    return txn;
}


static inline void
edit_end(MDB_txn *txn)
{
    MDB_env  *env;

    env = mdb_txn_env(txn);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}


static inline void
edit_row(fixture_t *f, ims_pool_tree_e tree, const void *key, size_t nkey,
    size_t at, uint8_t with, bool crc)
{
    MDB_txn  *txn;
    MDB_dbi   dbi;
    MDB_val   k, v;
    uint8_t   row[8192];
    uint32_t  c;

    txn = edit_begin(f, tree, &dbi);

    k.mv_size = nkey;
    k.mv_data = (void *) key;
    assert_int_equal(mdb_get(txn, dbi, &k, &v), 0);
    assert_true(at < v.mv_size && v.mv_size <= sizeof(row));

    memcpy(row, v.mv_data, v.mv_size);
    row[at] ^= with;

    if (crc) {
        c = ims_pool_crc32c(0, key, nkey);
        c = ims_pool_crc32c(c, row, v.mv_size - 4);
        memcpy(row + v.mv_size - 4, &c, 4);
    }

    v.mv_data = row;
    assert_int_equal(mdb_put(txn, dbi, &k, &v, 0), 0);
    edit_end(txn);
}


/* the same within a record; at IMS_POOL_SLOT: in what its row begins with */

static inline void
edit_rec(fixture_t *f, uint64_t ident, size_t at, uint8_t with, bool crc)
{
    MDB_dbi            dbi[IMS_POOL_TREES];
    MDB_txn           *txn;
    MDB_val            k, v;
    uint64_t           first;
    ims_pool_rec_t     rec;
    ims_pool_block_t   block;

    txn = edit_begin(f, IMS_POOL_T_IDENT, &dbi[IMS_POOL_T_IDENT]);

    first = ident - ident % IMS_POOL_BLOCK;
    k.mv_size = sizeof(first);
    k.mv_data = &first;
    assert_int_equal(mdb_get(txn, dbi[IMS_POOL_T_IDENT], &k, &v), 0);
    assert_int_equal(v.mv_size, sizeof(block));
    memcpy(&block, v.mv_data, sizeof(block));

    if (crc) {
        assert_int_equal(ims_pool_rec(txn, dbi, ident, &rec), 0);
        ((uint8_t *) &rec)[at] ^= with;
        ims_pool_block_set(&block, &rec);

    } else if (at == IMS_POOL_SLOT) {
        block.head.used ^= with;

    } else {
        block.slot[ident % IMS_POOL_BLOCK][at] ^= with;
    }

    v.mv_size = sizeof(block);
    v.mv_data = &block;
    assert_int_equal(mdb_put(txn, dbi[IMS_POOL_T_IDENT], &k, &v, 0), 0);
    edit_end(txn);
}


#endif /* _POOL_FIXTURE_H_INCLUDED_ */
