/*
 * Copyright (C) nginx-ims contributors
 *
 * The reserve: on a full disk, or in a full map, leases can still be ended.
 * This program's own fallocate() is the disk.
 */

#include <errno.h>
#include <fcntl.h>

#include "pool_fixture.h"
#include "ims_pool_wint.h"


#define MAP      ((size_t) 16 << 20)
#define RESERVE  ((uint64_t) 1 << 20)


static uint64_t  disk;              /* bytes that a file may have */
static int       refusal;           /* of what is beyond */
static unsigned  calls;


int
fallocate(int fd, int mode, off_t from, off_t n)
{
    (void) fd;

    if (mode == 0) {
        /* of the lock file */
        return 0;
    }

    assert_int_equal(mode, FALLOC_FL_KEEP_SIZE);
    calls++;

    if ((uint64_t) from + (uint64_t) n <= disk) {
        return 0;
    }

    errno = refusal;

    return -1;
}


static void
open_with(fixture_t *f, uint64_t room)
{
    disk = room;
    refusal = ENOSPC;
    calls = 0;

    fixture_init(f);
    f->opt.map_size = MAP;
    f->opt.reserve = RESERVE;
    fixture_open(f);
}


static uint64_t
left(fixture_t *f)
{
    ims_pool_info_t  info;

    assert_int_equal(ims_pool_info(f->w, &info), 0);
    assert_int_equal(info.reserve, RESERVE);

    return info.space_left;
}


static uint64_t
used(fixture_t *f)
{
    ims_pool_info_t  info;

    assert_int_equal(ims_pool_info(f->w, &info), 0);

    return info.map_used;
}


/* identities in batches of 20, until it is refused; how many there are */

static unsigned
fill(fixture_t *f)
{
    int                    rc;
    char                   impi[64], impu[64];
    unsigned               i, n;
    uint64_t               ident;
    ims_pool_identity_t    row;
    ims_pool_row_result_t  res;

    memset(&row, 0, sizeof(row));
    row.nimpu = 1;

    for (n = 0, rc = 0; rc == 0 && n < 200000; n += 20) {
        begin(f);

        for (i = 0; rc == 0 && i < 20; i++) {
            snprintf(impi, sizeof(impi), "f%u@ims.example", n + i);
            snprintf(impu, sizeof(impu), "sip:f%u@ims.example", n + i);
            row.impi = S(impi);
            row.impu[0] = S(impu);
            rc = ims_pool_identity_add(f->w, IMS_STR("web"), &row, 0, &ident,
                                       &res);
        }

        /* refused before anything was written */

        assert_false(ims_pool_broken(f->w));
        commit(f);
    }

    assert_int_equal(rc, IMS_POOL_NOSPACE);

    return n;
}


static int
create(fixture_t *f, const char *name)
{
    int              rc;
    uint32_t         no;
    ims_pool_spec_t  spec;

    memset(&spec, 0, sizeof(spec));
    spec.name = S(name);
    spec.home = IMS_STR("ims.example");

    begin(f);
    rc = ims_pool_create(f->w, &spec, &no);
    commit(f);

    return rc;
}


/* everything that ends a lease, or lengthens a rest */

static void
ends(fixture_t *f, ims_pool_grant_t *lease, unsigned n)
{
    bool      ended, alert;
    char      user[16];
    unsigned  i, one;
    uint64_t  fence;

    for (i = 0; i < n; i++) {
        snprintf(user, sizeof(user), "u%u", i);
        begin(f);

        switch (i % 4) {

        case 0:
            commit(f);
            assert_int_equal(release(f, user, 1, lease[i].ident,
                                     lease[i].lease), 0);
            continue;

        case 1:
            assert_int_equal(ims_pool_revoke_lease(f->w, lease[i].ident,
                                                   lease[i].lease, true,
                                                   &one), 0);
            break;

        case 2:
            assert_int_equal(ims_pool_disable(f->w,
                                              lease[i].names.impu[0].given,
                                              true, &ended), 0);
            break;

        default:
            assert_int_equal(ims_pool_report(f->w, lease[i].ident,
                                             lease[i].lease, 1, i,
                                             ims_pool_now(f->w) + 5000000,
                                             &alert), 0);
        }

        commit(f);
    }

    begin(f);
    assert_int_equal(ims_pool_revoke_pool(f->w, IMS_STR("web"), &fence), 0);
    commit(f);
}


/* --- tests ----------------------------------------------------------------- */

static void
full(uint64_t room)
{
    char              user[16];
    unsigned          i, n;
    fixture_t         f;
    ims_pool_grant_t  lease[60], b;

    open_with(&f, room);
    add_pool(&f, "web");
    add_identities(&f, "web", 1, 100);

    for (i = 0; i < 60; i++) {
        snprintf(user, sizeof(user), "u%u", i);
        assert_int_equal(acquire(&f, user, 1, &lease[i]), IMS_POOL_OK);
    }

    n = fill(&f);
    assert_true(n > 1000);

    /* no new ones; those that are there go on */

    assert_int_equal(acquire(&f, "new", 1, &b), IMS_POOL_NOSPACE);
    assert_int_equal(create(&f, "more"), IMS_POOL_NOSPACE);
    assert_int_equal(acquire(&f, "u3", 1, &b), IMS_POOL_OK);
    assert_int_equal(renew(&f, "u4", 1, lease[4].ident, lease[4].lease, &b),
                     IMS_POOL_OK);
    assert_true(left(&f) > RESERVE / 2);

    ends(&f, lease, 60);
    check_clean(&f);

    /* one that came back would be a new lease */

    assert_int_equal(acquire(&f, "u1", 1, &b), IMS_POOL_NOSPACE);

    fixture_end(&f);
}


static void
test_map(void **state)
{
    (void) state;

    full(UINT64_MAX);
}


static void
test_disk(void **state)
{
    (void) state;

    full(6 << 20);
}


/*
 * Somebody reads for long, as a backup does: every commit takes new pages.
 * Leases are not lengthened at the cost of those that are to be ended.
 */

static void
test_reader(void **state)
{
    int                 rc;
    bool                alert;
    char                user[16];
    unsigned            i, n;
    fixture_t           f;
    ims_pool_grant_t    lease[60], b;
    ims_pool_reader_t  *r;

    (void) state;

    open_with(&f, 6 << 20);
    add_pool(&f, "web");
    add_identities(&f, "web", 1, 100);

    for (i = 0; i < 60; i++) {
        snprintf(user, sizeof(user), "u%u", i);
        assert_int_equal(acquire(&f, user, 1, &lease[i]), IMS_POOL_OK);
    }

    assert_int_equal(ims_pool_reader_borrow(&r, f.w->env, f.w->dbi, &f.clock,
                                            NULL), 0);
    assert_int_equal(ims_pool_snap(r), 0);

    for (n = 0; n < 10000; n++) {
        f.v.boottime += 10;
        rc = acquire(&f, "u0", 1, &b);

        if (rc != IMS_POOL_OK) {
            break;
        }
    }

    assert_int_equal(rc, IMS_POOL_NOSPACE);
    assert_true(n > 10);
    assert_int_equal(acquire(&f, "new", 1, &b), IMS_POOL_NOSPACE);
    assert_int_equal(renew(&f, "u4", 1, lease[4].ident, lease[4].lease, &b),
                     IMS_POOL_NOSPACE);
    assert_true(used(&f) + RESERVE / 4 < disk);

    /* half of a reserve is left, and not a page of it is free */

    begin(&f);
    for (i = 1; i < 30; i++) {
        assert_int_equal(ims_pool_revoke_lease(f.w, lease[i].ident,
                                               lease[i].lease, false, &n), 0);
    }
    commit(&f);

    for (i = 30; i < 40; i++) {
        snprintf(user, sizeof(user), "u%u", i);
        assert_int_equal(release(&f, user, 1, lease[i].ident,
                                 lease[i].lease), 0);
    }

    /* to the last page but some: refused, and nothing breaks */

    for (i = 0, rc = 0; i < 5000 && rc == 0; i++) {
        rc = ims_pool_begin(f.w);

        if (rc == 0) {
            assert_int_equal(ims_pool_report(f.w, lease[50].ident,
                                             lease[50].lease, 1, i % 16,
                                             ims_pool_now(f.w) + 1000000 + i,
                                             &alert), 0);
            rc = ims_pool_commit(f.w);
        }
    }

    assert_int_equal(rc, IMS_POOL_NOSPACE);
    assert_true(i > 1);
    assert_false(ims_pool_broken(f.w));
    assert_true(used(&f) < disk);

    /* nobody reads any more: pages are free, on the same full disk */

    ims_pool_unsnap(r);
    ims_pool_close(r);

    for (i = 0; i < 8; i++) {
        rc = ims_pool_begin(f.w);

        if (rc == 0) {
            rc = ims_pool_revoke_lease(f.w, lease[50].ident, lease[50].lease,
                                       false, &n);
            commit(&f);
            break;
        }
    }

    assert_int_equal(rc, IMS_POOL_OK);
    assert_int_equal(acquire(&f, "new", 1, &b), IMS_POOL_OK);
    assert_int_equal(renew(&f, "u51", 1, lease[51].ident, lease[51].lease,
                           &b), IMS_POOL_OK);

    check_clean(&f);
    fixture_end(&f);
}


/* what an earlier start has reserved is there when the disk is full */

static void
test_start(void **state)
{
    unsigned          was;
    fixture_t         f;
    ims_pool_grant_t  a, b;

    (void) state;

    open_with(&f, 64 << 20);
    add_pool(&f, "web");
    add_identities(&f, "web", 1, 10);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_true(left(&f) >= RESERVE);
    fixture_close(&f);

    /* a part of it only: that is found out */

    disk = 1 << 20;
    fixture_open(&f);
    disk = used(&f) + RESERVE * 3 / 4;
    fixture_close(&f);
    fixture_open(&f);

    assert_true(left(&f) >= RESERVE / 2);
    assert_true(left(&f) <= RESERVE * 3 / 4);
    assert_int_equal(acquire(&f, "bob", 1, &b), IMS_POOL_NOSPACE);
    assert_int_equal(acquire(&f, "alice", 1, &b), IMS_POOL_OK);

    /* asked again once a second, not with each batch */

    was = calls;
    assert_int_equal(acquire(&f, "bob", 1, &b), IMS_POOL_NOSPACE);
    assert_int_equal(calls, was);

    disk = 64 << 20;
    assert_int_equal(acquire(&f, "bob", 1, &b), IMS_POOL_NOSPACE);
    f.v.boottime += 1001;
    assert_int_equal(acquire(&f, "bob", 1, &b), IMS_POOL_OK);
    assert_true(left(&f) >= RESERVE);

    /* and then for many batches not at all */

    was = calls;
    assert_int_equal(acquire(&f, "carol", 1, &b), IMS_POOL_OK);
    assert_int_equal(release(&f, "carol", 1, b.ident, b.lease), 0);
    assert_int_equal(calls, was);

    fixture_end(&f);
}


/* a file system that knows nothing of it: the map alone counts */

static void
test_unknown(void **state)
{
    fixture_t         f;
    ims_pool_grant_t  a;

    (void) state;

    open_with(&f, 0);
    refusal = EOPNOTSUPP;
    fixture_close(&f);
    fixture_open(&f);

    add_pool(&f, "web");
    add_identities(&f, "web", 1, 10);
    assert_int_equal(acquire(&f, "alice", 1, &a), IMS_POOL_OK);
    assert_true(fill(&f) > 1000);
    fixture_end(&f);
}


/* none wanted; and never more than an eighth of the map */

static void
test_size(void **state)
{
    fixture_t        f;
    ims_pool_info_t  info;

    (void) state;

    open_with(&f, 64 << 20);
    fixture_close(&f);

    f.opt.reserve = 0;
    fixture_open(&f);
    assert_int_equal(ims_pool_info(f.w, &info), 0);
    assert_int_equal(info.reserve, MAP / 8);
    fixture_close(&f);

    calls = 0;
    f.opt.reserve = IMS_POOL_NO_RESERVE;
    fixture_open(&f);
    assert_int_equal(ims_pool_info(f.w, &info), 0);
    assert_int_equal(info.reserve, 0);
    assert_int_equal(calls, 0);
    fixture_end(&f);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_map),
        cmocka_unit_test(test_disk),
        cmocka_unit_test(test_reader),
        cmocka_unit_test(test_start),
        cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
