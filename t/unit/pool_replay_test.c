/*
 * Copyright (C) nginx-ims contributors
 *
 * A hold ended by the history log: what proves it, what does not, and who is
 * held all the same.
 */

#include <errno.h>
#include <fcntl.h>

#include "pool_fixture.h"


#define LINES   5000
#define INODE   77
#define TERM    694000


/* a line of the log; kept over restores, as the log is */
typedef struct {
    char                  kind;         /* B, S, F: the head of a file */
    uint64_t              ident;
    uint64_t              lease;
    char                  name[3][64];
    unsigned              nname;
    ims_pool_log_start_t  start;
    uint64_t              inode;        /* F */
    bool                  out;          /* it is not there */
} line_t;


static line_t            lines[LINES];
static unsigned          nlines;
static fixture_t        *writing;
static ims_pool_check_t  check;
static char              file[2][128];
static char              why[256];


static void
on_event(void *ctx, const ims_pool_event_t *ev)
{
    line_t                  *line;
    unsigned                 i;
    static ims_pool_names_t  names;

    (void) ctx;

    if (ev->kind != IMS_POOL_EV_BEGIN) {
        return;
    }

    assert_true(nlines < LINES);
    line = &lines[nlines++];
    memset(line, 0, sizeof(line_t));
    line->kind = 'B';
    line->ident = ev->past.ident;
    line->lease = ev->past.lease;

    assert_int_equal(ims_pool_names(ims_pool_writer_reader(writing->w),
                                    line->ident, &names), IMS_POOL_OK);

    snprintf(line->name[0], 64, "%.*s", IMS_STR_ARG(names.impi));

    for (i = 0; i < names.nimpu && i < 2; i++) {
        snprintf(line->name[1 + i], 64, "%.*s",
                 IMS_STR_ARG(names.impu[i].given));
    }

    line->nname = 1 + i;
}


/* what the daemon does at a start, and when it opens the log anew */

static void
log_file(fixture_t *f, uint64_t inode)
{
    line_t          *line;
    static uint64_t  last;

    if (nlines == 0 || inode != last) {
        last = inode;
        line = &lines[nlines++];
        memset(line, 0, sizeof(line_t));
        line->kind = 'F';
        line->inode = inode;
    }

    writing = f;
    assert_int_equal(ims_pool_log_on(f->w, inode), IMS_POOL_OK);
    assert_int_equal(ims_pool_events(f->w, on_event, NULL, false), 0);
    assert_int_equal(ims_pool_log_late(f->w), IMS_POOL_OK);

    line = &lines[nlines++];
    memset(line, 0, sizeof(line_t));
    line->kind = 'S';
    ims_pool_log_start(f->w, &line->start);
    ims_pool_log_synced(f->w);
}


static void
log_file_only(uint64_t inode)
{
    lines[nlines].kind = 'F';
    lines[nlines].inode = inode;
    lines[nlines++].out = false;
}


static void
log_start(fixture_t *f)
{
    log_file(f, INODE);
}


static int
lease(fixture_t *f, const char *user, ims_pool_grant_t *g)
{
    int  rc;

    rc = acquire(f, user, 1, g);
    ims_pool_log_synced(f->w);

    return rc;
}


static void
end(fixture_t *f, const char *user, const ims_pool_grant_t *g)
{
    assert_int_equal(release(f, user, 1, g->ident, g->lease), IMS_POOL_OK);
}


static void
backup(fixture_t *f, unsigned no)
{
    int    status;
    pid_t  pid;

    snprintf(file[no], sizeof(file[no]), "%s/backup.%u", f->base, no);
    pid = fork();
    assert_true(pid >= 0);

    if (pid == 0) {
        ims_pool_check_begin(&check, NULL, NULL);
        status = ims_pool_backup(f->dir, &f->clock, file[no], &check, f->err,
                                 sizeof(f->err));
        _exit(status == IMS_POOL_OK ? 0 : 1);
    }

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), 0);
}


/* in the running pool manager, which tells the log */

static void
restore(fixture_t *f, unsigned no)
{
    ims_pool_check_begin(&check, NULL, NULL);
    assert_int_equal(ims_pool_copy_begin(f->w, file[no], &check, f->err,
                                         sizeof(f->err)), IMS_POOL_OK);
    assert_int_equal(ims_pool_copy_end(f->w, true, &f->started, f->err,
                                       sizeof(f->err)), IMS_POOL_OK);
    assert_true(f->started.fenced);
    log_start(f);
}


/* of a pool manager that does not run */

static void
restore_offline(fixture_t *f, unsigned no)
{
    assert_int_equal(ims_pool_restore(&f->opt, file[no], f->err,
                                      sizeof(f->err)), 0);
    fixture_open(f);
    assert_true(f->started.fenced);
    log_start(f);
}


/* the lines from one on, and the last of them that count */

static int
prove(fixture_t *f, ims_pool_replay_t **rp, unsigned from)
{
    int        rc;
    line_t    *line;
    unsigned   i, n;
    ims_str_t  names[3];

    why[0] = '\0';
    rc = ims_pool_replay_open(rp, f->w, why, sizeof(why));

    for (i = from; rc == IMS_POOL_OK && i < nlines; i++) {
        line = &lines[i];

        if (line->out) {
            continue;
        }

        if (line->kind == 'F') {
            rc = ims_pool_replay_file(*rp, line->inode);

        } else if (line->kind == 'S') {
            rc = ims_pool_replay_start(*rp, &line->start);

        } else {
            for (n = 0; n < line->nname; n++) {
                names[n] = S(line->name[n]);
            }

            rc = ims_pool_replay_begin(*rp, f->w, line->ident, line->lease,
                                       names, line->nname);
        }
    }

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_replay_prove(*rp, f->w);
    }

    if (rc != IMS_POOL_OK && *rp != NULL) {
        snprintf(why, sizeof(why), "%s", ims_pool_replay_text(*rp));
    }

    return rc;
}


static int
replay(fixture_t *f, ims_pool_replayed_t *done)
{
    int                 rc;
    ims_pool_replay_t  *r;

    rc = prove(f, &r, 0);

    while (rc == IMS_POOL_OK || rc == IMS_POOL_MORE) {
        begin(f);
        rc = ims_pool_replay_step(r, f->w, 2, done);
        assert_true(rc == IMS_POOL_OK || rc == IMS_POOL_MORE);
        commit(f);

        if (rc == IMS_POOL_OK) {
            break;
        }
    }

    ims_pool_replay_close(r);

    return rc;
}


static void
refused(fixture_t *f, const char *text)
{
    ims_pool_grant_t     g;
    ims_pool_replayed_t  done;

    if (replay(f, &done) != IMS_POOL_BADARG) {
        print_error("not refused, but: %s\n", text);
        fail();
    }

    if (strstr(why, text) == NULL) {
        print_error("refused, but: %s\n", why);
        fail();
    }

    assert_int_equal(acquire(f, "newcomer", 9, &g), IMS_POOL_HOLD);
}


static uint64_t
ident_of(fixture_t *f, const char *impu)
{
    uint64_t  ident;

    assert_int_equal(ims_pool_by_uri(ims_pool_writer_reader(f->w), S(impu),
                                     &ident, NULL), IMS_POOL_OK);

    return ident;
}


static uint64_t
rest_of(fixture_t *f, uint64_t ident)
{
    return look(f, ident).rec.rest;
}


/*
 * Five identities: 1 is alice's at the backup and lengthened after it, 2 rests
 * then, 3 is bob's after it, 4 and 5 are nobody's.
 */
static void
scene(fixture_t *f, ims_pool_grant_t *a, ims_pool_grant_t *r,
    ims_pool_grant_t *b)
{
    ims_pool_grant_t  g;

    nlines = 0;
    fixture_pool(f, 5);
    log_start(f);

    assert_int_equal(lease(f, "alice", a), IMS_POOL_OK);
    assert_int_equal(lease(f, "rest", r), IMS_POOL_OK);
    end(f, "rest", r);

    f->v.boottime += 1000;
    tick(f);

    f->v.boottime += 1000;
    backup(f, 0);

    f->v.boottime += 300000;
    assert_int_equal(renew(f, "alice", 1, a->ident, a->lease, &g),
                     IMS_POOL_OK);
    assert_int_equal(lease(f, "bob", b), IMS_POOL_OK);
    f->v.boottime += 1000;
}


static void
test_replay(void **state)
{
    unsigned              i;
    uint64_t              until;
    fixture_t             f;
    ims_pool_grant_t      a, r, b, g[4];
    ims_pool_replayed_t   done;

    (void) state;

    scene(&f, &a, &r, &b);
    restore(&f, 0);
    until = f.started.hold_until;
    assert_int_equal(acquire(&f, "carol", 1, &g[0]), IMS_POOL_HOLD);

    assert_int_equal(replay(&f, &done), IMS_POOL_OK);
    assert_int_equal(done.lines, 1);
    assert_int_equal(done.records, 5);
    assert_int_equal(done.held, 3);
    assert_int_equal(done.until, until);
    check_clean(&f);

    /* others are given at once, also to those who had one */

    assert_int_equal(lease(&f, "alice", &g[0]), IMS_POOL_OK);
    assert_int_equal(g[0].how, IMS_POOL_NEW);
    assert_int_equal(lease(&f, "bob", &g[1]), IMS_POOL_OK);

    for (i = 0; i < 2; i++) {
        assert_true(g[i].ident != a.ident && g[i].ident != r.ident
                    && g[i].ident != b.ident);
    }

    assert_int_equal(acquire(&f, "carol", 1, &g[2]), IMS_POOL_EXHAUSTED);
    assert_int_equal(rest_of(&f, a.ident), until);
    assert_int_equal(rest_of(&f, r.ident), until);
    assert_int_equal(rest_of(&f, b.ident), until);

    /* also over a start, and not a millisecond too early */

    fixture_close(&f);
    fixture_open(&f);
    log_start(&f);
    assert_false(f.started.fenced);
    f.v.boottime += TERM - 1;
    assert_int_equal(lease(&f, "alice", &g[0]), IMS_POOL_OK);
    assert_int_equal(lease(&f, "bob", &g[1]), IMS_POOL_OK);
    assert_int_equal(acquire(&f, "carol", 1, &g[2]), IMS_POOL_EXHAUSTED);
    f.v.boottime++;
    assert_int_equal(lease(&f, "carol", &g[2]), IMS_POOL_OK);
    assert_int_equal(lease(&f, "dave", &g[3]), IMS_POOL_OK);
    check_clean(&f);
    fixture_end(&f);
}


/* lengthened again and again: the backup thinks that it has long rested */

static void
test_long(void **state)
{
    unsigned              i;
    fixture_t             f;
    ims_pool_grant_t      a, r, b, g;
    ims_pool_replayed_t   done;

    (void) state;

    scene(&f, &a, &r, &b);

    for (i = 0; i < 5; i++) {
        assert_int_equal(renew(&f, "alice", 1, a.ident, a.lease, &g),
                         IMS_POOL_OK);
        f.v.boottime += 500000;
    }

    assert_true(a.rest < ims_pool_now(f.w));
    restore(&f, 0);
    assert_int_equal(replay(&f, &done), IMS_POOL_OK);
    assert_int_equal(done.held, 3);
    assert_int_equal(rest_of(&f, a.ident), done.until);
    fixture_end(&f);

    /* the same, without a pool manager */

    scene(&f, &a, &r, &b);

    for (i = 0; i < 5; i++) {
        assert_int_equal(renew(&f, "alice", 1, a.ident, a.lease, &g),
                         IMS_POOL_OK);
        f.v.boottime += 500000;
    }

    fixture_close(&f);
    assert_int_equal(ims_pool_restore(&f.opt, file[0], f.err, sizeof(f.err)),
                     0);
    f.v.boottime += 10000;
    fixture_open(&f);
    log_start(&f);
    assert_int_equal(replay(&f, &done), IMS_POOL_OK);
    assert_int_equal(rest_of(&f, a.ident), done.until);
    fixture_end(&f);
}


/* the last holder of what is held, alone with it: not even he, before */

static void
test_return(void **state)
{
    fixture_t             f;
    ims_pool_grant_t      a, b, g;
    ims_pool_replayed_t   done;

    (void) state;

    nlines = 0;
    fixture_pool(&f, 1);
    log_start(&f);
    assert_int_equal(lease(&f, "alice", &a), IMS_POOL_OK);
    f.v.boottime += TERM;
    tick(&f);
    f.v.boottime += 1;
    backup(&f, 0);

    /* it goes on to bob, whom the backup does not know */

    assert_int_equal(lease(&f, "bob", &b), IMS_POOL_OK);
    assert_int_equal(b.ident, a.ident);
    restore(&f, 0);
    assert_int_equal(replay(&f, &done), IMS_POOL_OK);
    assert_int_equal(done.held, 1);
    check_clean(&f);

    assert_int_equal(acquire(&f, "alice", 1, &g), IMS_POOL_EXHAUSTED);
    fixture_close(&f);
    fixture_open(&f);
    log_start(&f);
    assert_int_equal(acquire(&f, "alice", 1, &g), IMS_POOL_EXHAUSTED);
    f.v.boottime += TERM;
    assert_int_equal(lease(&f, "alice", &g), IMS_POOL_OK);
    assert_int_equal(g.ident, a.ident);
    check_clean(&f);
    fixture_end(&f);
}


static line_t *
find(char kind, unsigned n)
{
    unsigned  i;

    for (i = 0; i < nlines; i++) {
        if (lines[i].kind == kind && n-- == 0) {
            return &lines[i];
        }
    }

    fail();

    return NULL;
}


/* starts repeat the last lines, if they cannot know that they are there */

static void
without(uint64_t id, bool out)
{
    unsigned  i;

    for (i = 0; i < nlines; i++) {
        if (lines[i].kind == 'B' && lines[i].lease == id) {
            lines[i].out = out;
        }
    }
}


static void
test_refused(void **state)
{
    line_t                was;
    uint64_t              lost;
    unsigned              i, n;
    fixture_t             f;
    ims_pool_grant_t      a, r, b, g;
    ims_pool_replayed_t   done;

    (void) state;

    scene(&f, &a, &r, &b);
    assert_int_equal(lease(&f, "carol", &g), IMS_POOL_OK);
    assert_int_equal(lease(&f, "dave", &g), IMS_POOL_OK);

    /* no hold yet */

    assert_int_equal(replay(&f, &done), IMS_POOL_BADARG);
    assert_non_null(strstr(why, "nothing is held"));

    fixture_close(&f);
    fixture_open(&f);
    log_start(&f);
    fixture_close(&f);
    fixture_open(&f);
    log_start(&f);
    restore(&f, 0);

    /* each of the leases after the backup, and the tail */

    for (lost = b.lease; lost <= g.lease; lost++) {
        without(lost, true);
        refused(&f, "missing: lease numbers");
        without(lost, false);
    }

    for (n = 0; n < nlines; n++) {
        if (lines[n].kind == 'B' && lines[n].lease == g.lease) {
            break;
        }
    }

    for (i = n; i < nlines; i++) {
        lines[i].out = true;
    }

    refused(&f, "missing: ");

    for (i = n; i < nlines; i++) {
        lines[i].out = false;
    }

    /* starts that gave nothing are known by the next one; the last is not */

    find('S', 2)->out = true;
    refused(&f, "a start among them");
    find('S', 2)->out = false;

    /* the log's beginning; a log of another; no names */

    find('S', 0)->out = true;
    refused(&f, "missing: the start of incarnation 1,");
    find('S', 0)->out = false;

    find('S', 0)->start.run++;
    refused(&f, "another database");
    find('S', 0)->start.run--;

    was = *find('B', 3);
    find('B', 3)->nname = 1;
    refused(&f, "has no names");
    *find('B', 3) = was;
    find('B', 3)->name[1][0] = '\0';
    refused(&f, "cannot be looked up");
    *find('B', 3) = was;

    find('F', 0)->inode++;
    refused(&f, "missing: the log that was written when commits were lost");
    find('F', 0)->inode--;

    /* one that stays a number short, of all that the floor knows */

    assert_int_equal(find('S', 1)->start.last, g.lease);
    find('S', 1)->start.last++;
    refused(&f, "missing: lease numbers");
    find('S', 1)->start.last--;

    assert_int_equal(rest_of(&f, a.ident), a.rest);
    assert_int_equal(replay(&f, &done), IMS_POOL_OK);
    assert_int_equal(done.lines, 3);
    check_clean(&f);

    assert_int_equal(replay(&f, &done), IMS_POOL_BADARG);
    assert_non_null(strstr(why, "nothing is held"));
    fixture_end(&f);
}


/* an old file in place of the new one, without a word: the floor betrays it */

static void
test_copied(void **state)
{
    uint64_t              until;
    fixture_t             f;
    ims_pool_grant_t      a, r, b, g;
    ims_pool_replayed_t   done;

    (void) state;

    scene(&f, &a, &r, &b);
    fixture_close(&f);
    fixture_open(&f);
    log_start(&f);
    assert_false(f.started.fenced);
    fixture_close(&f);
    fixture_shell("cp '%s' '%s/env.1/data.mdb'", file[0], f.dir);
    fixture_open(&f);
    assert_true(f.started.fenced);
    until = f.started.hold_until;
    log_start(&f);
    assert_int_equal(replay(&f, &done), IMS_POOL_OK);
    assert_int_equal(done.held, 3);
    assert_int_equal(rest_of(&f, b.ident), until);
    assert_int_equal(lease(&f, "carol", &g), IMS_POOL_OK);
    check_clean(&f);
    fixture_end(&f);
}


/* the hold passes, or another begins, while somebody replays */

static void
test_other_hold(void **state)
{
    fixture_t             f;
    ims_pool_grant_t      a, r, b, g;
    ims_pool_replay_t    *p;
    ims_pool_replayed_t   done;

    (void) state;

    scene(&f, &a, &r, &b);
    restore(&f, 0);
    assert_int_equal(prove(&f, &p, 0), IMS_POOL_OK);
    f.v.boottime += 1000;
    restore(&f, 0);
    begin(&f);
    assert_int_equal(ims_pool_replay_step(p, f.w, 10, &done),
                     IMS_POOL_BADARG);
    ims_pool_abort(f.w);
    assert_int_equal(ims_pool_replay_prove(p, f.w), IMS_POOL_BADARG);
    ims_pool_replay_close(p);
    assert_int_equal(acquire(&f, "carol", 1, &g), IMS_POOL_HOLD);

    assert_int_equal(prove(&f, &p, 0), IMS_POOL_OK);
    f.v.boottime += TERM;
    assert_int_equal(ims_pool_replay_prove(p, f.w), IMS_POOL_BADARG);
    ims_pool_replay_close(p);
    fixture_end(&f);
}


static void
add(fixture_t *f, const char *impi, const char *impu, const char *impu2)
{
    uint64_t               ident;
    ims_pool_identity_t    row;
    ims_pool_row_result_t  res;

    memset(&row, 0, sizeof(row));
    row.impi = S(impi);
    row.impu[0] = S(impu);
    row.impu[1] = S(impu2);
    row.nimpu = impu2[0] ? 2 : 1;

    begin(f);
    assert_int_equal(ims_pool_identity_add(f->w, IMS_STR("web"), &row, 0,
                                           &ident, &res), IMS_POOL_OK);
    commit(f);
}


static void
remove_one(fixture_t *f, const char *name)
{
    bool  ended;

    begin(f);
    assert_int_equal(ims_pool_remove(f->w, S(name), &ended), IMS_POOL_OK);
    commit(f);
    tick(f);
}


/* the names of 1 and 2 went to one that the backup does not know */

static void
test_names(void **state)
{
    fixture_t             f;
    ims_pool_grant_t      g;
    ims_pool_replayed_t   done;

    (void) state;

    nlines = 0;
    fixture_pool(&f, 4);
    log_start(&f);
    f.v.boottime += 1000;
    tick(&f);
    f.v.boottime += 1000;
    backup(&f, 0);

    remove_one(&f, "sip:web-000001@ims.example");
    remove_one(&f, "sip:web-000002@ims.example");
    remove_one(&f, "sip:web-000003@ims.example");
    add(&f, "web-000003@ims.example", "sip:WEB-000001@ims.example:5060", "");
    remove_one(&f, "sip:web-000004@ims.example");
    add(&f, "new@ims.example", "sip:new@ims.example",
        "sip:web-000002@ims.example");

    assert_int_equal(lease(&f, "alice", &g), IMS_POOL_OK);
    assert_int_equal(lease(&f, "bob", &g), IMS_POOL_OK);

    restore(&f, 0);
    assert_int_equal(replay(&f, &done), IMS_POOL_OK);
    assert_int_equal(done.records, 4);

    /* 3 by its IMPI, 1 by its first, 2 by its second IMPU */

    assert_int_equal(done.held, 3);
    assert_int_equal(rest_of(&f, ident_of(&f, "sip:web-000004@ims.example")),
                     0);
    assert_int_equal(lease(&f, "carol", &g), IMS_POOL_OK);
    assert_int_equal(g.ident, ident_of(&f, "sip:web-000004@ims.example"));
    assert_int_equal(acquire(&f, "dave", 1, &g), IMS_POOL_EXHAUSTED);
    check_clean(&f);
    fixture_end(&f);
}


/*
 * What was live at the backup is removed in the hold, rests as long as the
 * backup says, and comes again under its names; what comes after the replay.
 */
static void
test_imports(void **state)
{
    uint32_t               no;
    uint64_t               until, ident;
    fixture_t              f;
    ims_pool_grant_t       a, r, b, g;
    ims_pool_identity_t    row;
    ims_pool_row_result_t  res;
    ims_pool_replayed_t    done;

    (void) state;

    scene(&f, &a, &r, &b);
    restore(&f, 0);
    until = f.started.hold_until;

    remove_one(&f, "sip:web-000001@ims.example");
    f.v.boottime += a.rest - f.started.now;
    tick(&f);
    add(&f, "web-000001@ims.example", "sip:web-000001@ims.example", "");
    assert_true(f.w->committed.hold_until > ims_pool_now(f.w));
    assert_int_equal(rest_of(&f, ident_of(&f, "sip:web-000001@ims.example")),
                     until);

    /* one import is under way when the hold ends */

    memset(&row, 0, sizeof(row));
    row.nimpu = 1;
    row.impi = IMS_STR("before@ims.example");
    row.impu[0] = IMS_STR("sip:before@ims.example");
    begin(&f);
    assert_int_equal(ims_pool_import_begin(f.w, IMS_STR("web"), 0, &no), 0);
    assert_int_equal(ims_pool_import_row(f.w, no, &row, &ident, &res), 0);
    commit(&f);

    assert_int_equal(replay(&f, &done), IMS_POOL_OK);

    row.impi = IMS_STR("after@ims.example");
    row.impu[0] = IMS_STR("sip:after@ims.example");
    begin(&f);
    assert_int_equal(ims_pool_import_row(f.w, no, &row, &ident, &res), 0);
    assert_int_equal(ims_pool_import_end(f.w, no), 0);
    assert_int_equal(ims_pool_import_step(f.w, no, 10), 0);
    commit(&f);

    assert_int_equal(rest_of(&f, ident_of(&f, "sip:before@ims.example")),
                     until);
    assert_int_equal(rest_of(&f, ident_of(&f, "sip:after@ims.example")),
                     until);

    /* a longer one of its own counts, and afterwards none */

    begin(&f);
    row.impi = IMS_STR("long@ims.example");
    row.impu[0] = IMS_STR("sip:long@ims.example");
    assert_int_equal(ims_pool_identity_add(f.w, IMS_STR("web"), &row,
                                           5000000, &ident, &res), 0);
    commit(&f);
    assert_int_equal(rest_of(&f, ident), ims_pool_now(f.w) + 5000000);
    check_clean(&f);

    /* only 4 and 5 can be had */

    assert_int_equal(lease(&f, "u1", &g), IMS_POOL_OK);
    assert_int_equal(lease(&f, "u2", &g), IMS_POOL_OK);
    assert_int_equal(acquire(&f, "u3", 1, &g), IMS_POOL_EXHAUSTED);

    f.v.boottime += TERM;
    add(&f, "late@ims.example", "sip:late@ims.example", "");
    assert_int_equal(rest_of(&f, ident_of(&f, "sip:late@ims.example")), 0);
    tick(&f);
    assert_int_equal(f.w->committed.hold_rest, 0);
    check_clean(&f);
    fixture_end(&f);
}


/* killed in the middle: the hold is on, and it can be done again */

static void
test_killed(void **state)
{
    fixture_t             f;
    ims_pool_grant_t      a, r, b, g;
    ims_pool_replay_t    *p;
    ims_pool_replayed_t   done;

    (void) state;

    scene(&f, &a, &r, &b);
    restore(&f, 0);
    assert_int_equal(prove(&f, &p, 0), IMS_POOL_OK);
    begin(&f);
    assert_int_equal(ims_pool_replay_step(p, f.w, 2, &done), IMS_POOL_MORE);
    commit(&f);
    begin(&f);
    assert_int_equal(ims_pool_replay_step(p, f.w, 2, &done), IMS_POOL_MORE);
    ims_pool_replay_close(p);
    fixture_close(&f);
    fixture_open(&f);
    log_start(&f);
    assert_int_equal(acquire(&f, "carol", 1, &g), IMS_POOL_HOLD);
    check_clean(&f);

    assert_int_equal(replay(&f, &done), IMS_POOL_OK);
    assert_int_equal(done.held, 3);
    assert_int_equal(lease(&f, "carol", &g), IMS_POOL_OK);
    check_clean(&f);
    fixture_end(&f);
}


/* a record that cannot be read may have been anybody's */

static void
test_damaged(void **state)
{
    fixture_t             f;
    ims_pool_grant_t      a, r, b, g;
    ims_pool_replay_t    *p;
    ims_pool_replayed_t   done;

    (void) state;

    scene(&f, &a, &r, &b);
    restore(&f, 0);
    fixture_close(&f);
    edit_rec(&f, a.ident, offsetof(ims_pool_rec_t, end), 1, false);
    fixture_open(&f);
    log_start(&f);
    assert_int_equal(prove(&f, &p, 0), IMS_POOL_OK);
    begin(&f);
    assert_int_equal(ims_pool_replay_step(p, f.w, 10, &done),
                     IMS_POOL_INTERNAL);
    ims_pool_abort(f.w);
    ims_pool_replay_close(p);
    assert_int_equal(acquire(&f, "carol", 1, &g), IMS_POOL_HOLD);
    fixture_end(&f);
}


static void
floor_put(fixture_t *f, const char *text)
{
    int       fd, n;
    char      path[160], line[256];
    uint32_t  crc;

    crc = ims_pool_crc32c(0, text, strlen(text));
    n = snprintf(line, sizeof(line), "%s%08x\n", text, crc);
    snprintf(path, sizeof(path), "%s/floor", f->dir);
    fd = open(path, O_WRONLY|O_TRUNC);
    assert_true(fd != -1);
    assert_int_equal(write(fd, line, (size_t) n), n);
    close(fd);
}


/* of a former version, of nobody, and of each start without a log */

static void
test_floor(void **state)
{
    char                  text[128];
    fixture_t             f;
    ims_pool_grant_t      a, r, b, g;
    ims_pool_replayed_t   done;

    (void) state;

    nlines = 0;
    fixture_pool(&f, 3);
    assert_int_equal(f.w->floor.logged, 0);
    assert_int_equal(lease(&f, "alice", &a), IMS_POOL_OK);

    log_start(&f);
    assert_int_equal(f.w->floor.logged, a.lease);
    assert_int_equal(f.w->floor.mark, a.lease + IMS_POOL_MARK_STEP);
    assert_int_equal(f.w->floor.inode, INODE);
    fixture_close(&f);

    /* it is kept by starts, and by other files */

    fixture_open(&f);
    assert_int_equal(f.w->floor.logged, a.lease);
    log_file(&f, INODE + 1);
    assert_int_equal(f.w->floor.logged, a.lease);
    assert_int_equal(f.w->floor.inode, INODE + 1);
    assert_int_equal(lease(&f, "bob", &b), IMS_POOL_OK);
    assert_true(f.w->floor.mark >= b.lease);
    assert_true(f.w->floor.mark <= b.lease + IMS_POOL_MARK_STEP);

    /* and ends with one that has none */

    assert_int_equal(ims_pool_log_off(f.w), IMS_POOL_OK);
    assert_int_equal(f.w->floor.logged, 0);
    fixture_close(&f);
    fixture_open(&f);
    assert_int_equal(f.w->floor.logged, 0);
    assert_false(ims_pool_log_complete(f.w));
    backup(&f, 0);
    log_start(&f);
    assert_int_equal(f.w->floor.logged, f.w->committed.last_lease);

    /* it is complete, but only since after that backup */

    assert_int_equal(lease(&f, "carol", &r), IMS_POOL_OK);
    backup(&f, 1);
    fixture_close(&f);
    fixture_open(&f);
    log_start(&f);
    restore(&f, 1);
    assert_int_equal(replay(&f, &done), IMS_POOL_OK);
    fixture_end(&f);

    /* a floor of a former version: there was no log */

    scene(&f, &a, &r, &b);
    fixture_close(&f);
    snprintf(text, sizeof(text), "ims-pool-floor 1 %d ", TERM);
    floor_put(&f, text);
    fixture_open(&f);
    assert_false(f.started.fenced);
    assert_int_equal(f.w->floor.logged, 0);
    assert_int_equal(f.w->floor.term, TERM);
    log_start(&f);
    restore(&f, 0);
    refused(&f, "there was no complete log");
    assert_int_equal(acquire(&f, "carol", 1, &g), IMS_POOL_HOLD);
    fixture_end(&f);
}


/* a line was lost: nothing is proven of that time, of later backups all is */

static void
test_gap(void **state)
{
    fixture_t             f;
    ims_pool_grant_t      a, r, b, g;
    ims_pool_replayed_t   done;

    (void) state;

    scene(&f, &a, &r, &b);
    find('B', 2)->out = true;
    assert_int_equal(ims_pool_log_off(f.w), IMS_POOL_OK);
    assert_int_equal(lease(&f, "carol", &g), IMS_POOL_OK);
    log_start(&f);
    restore(&f, 0);
    refused(&f, "there was no complete log");

    f.v.boottime += TERM;
    tick(&f);
    backup(&f, 1);
    assert_int_equal(lease(&f, "carol", &g), IMS_POOL_OK);
    restore(&f, 1);
    assert_int_equal(replay(&f, &done), IMS_POOL_OK);
    assert_int_equal(done.lines, 1);
    check_clean(&f);
    fixture_end(&f);
}


/*
 * The environment is gone, so that nobody knows the last number: the mark does,
 * within a step.
 */
static void
test_mark(void **state)
{
    line_t                from;
    uint64_t              mark;
    fixture_t             f;
    ims_pool_grant_t      a, r, b, g;
    ims_pool_replayed_t   done;

    (void) state;

    scene(&f, &a, &r, &b);
    from = *find('B', 2);
    mark = f.w->floor.mark;

    /* as if so many had been given: the mark goes on in steps */

    begin(&f);
    f.w->state.last_lease = mark - 1;
    f.w->state.begun = mark - 1;
    f.w->dirty = 1;
    commit(&f);
    ims_pool_log_synced(f.w);
    assert_int_equal(f.w->floor.mark, mark);
    assert_int_equal(lease(&f, "last", &g), IMS_POOL_OK);
    assert_int_equal(f.w->floor.mark, mark);
    assert_int_equal(lease(&f, "over", &g), IMS_POOL_OK);
    assert_int_equal(g.lease, mark + 1);
    assert_int_equal(f.w->floor.mark, mark + IMS_POOL_MARK_STEP);
    fixture_close(&f);

    fixture_shell("rm -r '%s'/env.1 '%s'/current", f.dir, f.dir);
    assert_int_equal(ims_pool_restore(&f.opt, file[0], f.err, sizeof(f.err)),
                     0);
    fixture_open(&f);
    assert_true(f.started.fenced);
    assert_int_equal(f.w->committed.hold_least, mark);
    log_start(&f);
    refused(&f, "missing: lease numbers");

    /* up to the mark but one step is enough; lines in between, all of bob */

    nlines = 0;
    log_file_only(INODE);
    from.kind = 'S';
    from.start.incarnation = 1;
    from.start.run = f.w->committed.hold_run;
    lines[nlines++] = from;
    from.kind = 'B';

    for (from.lease = b.lease; from.lease < mark; from.lease++) {
        lines[nlines++] = from;
    }

    refused(&f, "missing: lease numbers");
    lines[nlines++] = from;
    assert_int_equal(replay(&f, &done), IMS_POOL_OK);
    assert_int_equal(done.lines, IMS_POOL_MARK_STEP - 2);
    assert_int_equal(done.held, 3);
    check_clean(&f);
    fixture_end(&f);

    /* a gap is one, also behind what the floor knows */

    scene(&f, &a, &r, &b);
    assert_int_equal(lease(&f, "carol", &g), IMS_POOL_OK);
    fixture_close(&f);
    fixture_shell("rm -r '%s'/env.1 '%s'/current", f.dir, f.dir);
    assert_int_equal(ims_pool_restore(&f.opt, file[0], f.err, sizeof(f.err)),
                     0);
    fixture_open(&f);
    assert_true(f.w->committed.hold_least < b.lease);
    log_start(&f);
    without(b.lease, true);
    refused(&f, "missing: lease numbers 0000010000000003 to "
            "0000010000000003");
    without(b.lease, false);
    assert_int_equal(replay(&f, &done), IMS_POOL_OK);
    fixture_end(&f);
}


/* killed before the lines were written: the next start writes them */

static void
test_late(void **state)
{
    unsigned              n;
    fixture_t             f;
    ims_pool_grant_t      a, r, b, g, h;
    ims_pool_replayed_t   done;

    (void) state;

    scene(&f, &a, &r, &b);
    n = nlines;
    assert_int_equal(acquire(&f, "dave", 1, &g), IMS_POOL_OK);
    assert_int_equal(acquire(&f, "carol", 1, &h), IMS_POOL_OK);
    nlines = n;
    fixture_close(&f);

    fixture_open(&f);
    log_start(&f);
    assert_int_equal(nlines, n + 3);
    assert_int_equal(lines[n].lease, g.lease);
    assert_int_equal(lines[n + 1].lease, h.lease);
    assert_int_equal(acquire(&f, "dave", 1, &h), IMS_POOL_OK);
    assert_int_equal(h.lease, g.lease);
    restore(&f, 0);
    assert_int_equal(replay(&f, &done), IMS_POOL_OK);
    assert_int_equal(done.lines, 3);
    assert_int_equal(done.held, 5);
    assert_int_equal(acquire(&f, "eve", 1, &h), IMS_POOL_EXHAUSTED);
    fixture_end(&f);

    /*
     * The same, but what was given is lost at once.  It was told to nobody; but
     * that nobody knows, unless a start comes in between.
     */

    for (n = 0; n < 2; n++) {
        scene(&f, &a, &r, &b);
        assert_int_equal(acquire(&f, "dave", 1, &g), IMS_POOL_OK);
        nlines--;
        fixture_close(&f);

        if (n == 1) {
            fixture_open(&f);
            log_start(&f);
            fixture_close(&f);
        }

        restore_offline(&f, 0);

        if (n == 0) {
            refused(&f, "missing: lease numbers");

        } else {
            assert_int_equal(replay(&f, &done), IMS_POOL_OK);
        }

        fixture_end(&f);
    }
}


/* the end of the log is cut off: the database that was replaced knew of it */

static void
test_tail(void **state)
{
    fixture_t            f;
    ims_pool_grant_t     a, r, b;
    ims_pool_replayed_t  done;

    (void) state;

    scene(&f, &a, &r, &b);
    fixture_close(&f);
    restore_offline(&f, 0);
    without(b.lease, true);
    refused(&f, "missing: lease numbers");
    without(b.lease, false);
    assert_int_equal(replay(&f, &done), IMS_POOL_OK);
    assert_int_equal(rest_of(&f, b.ident), done.until);
    fixture_end(&f);
}


/*
 * Begun and ended and begun again by one user in one batch, which was killed
 * before its lines: of the first one only the past knows.
 */
static void
test_late_same(void **state)
{
    fixture_t             f;
    ims_pool_grant_t      a, r, b, g, h;
    ims_pool_replayed_t   done;

    (void) state;

    scene(&f, &a, &r, &b);
    assert_int_equal(acquire(&f, "dave", 1, &g), IMS_POOL_OK);
    end(&f, "dave", &g);
    assert_int_equal(acquire(&f, "dave", 1, &h), IMS_POOL_OK);
    assert_int_equal(h.lease, g.lease + 1);
    nlines -= 2;
    fixture_close(&f);
    fixture_open(&f);
    assert_int_equal(ims_pool_log_on(f.w, INODE), IMS_POOL_OK);
    assert_int_equal(ims_pool_events(f.w, on_event, NULL, false), 0);
    assert_int_equal(ims_pool_log_late(f.w), IMS_POOL_INTERNAL);
    assert_int_equal(lines[nlines - 1].lease, h.lease);

    /* so it begins anew, and the next backup is one again */

    assert_int_equal(ims_pool_log_off(f.w), IMS_POOL_OK);
    log_start(&f);
    assert_int_equal(f.w->floor.logged, f.w->committed.last_lease);
    backup(&f, 1);
    restore(&f, 1);
    assert_int_equal(replay(&f, &done), IMS_POOL_OK);
    restore(&f, 0);
    refused(&f, "there was no complete log");
    fixture_end(&f);
}


static bool
any(void *ctx, const ims_pool_t *pool)
{
    (void) ctx;
    (void) pool;

    return true;
}


/*
 * Restored twice.  In the hold of the first one a lease is given of what was
 * purged; then comes a backup that was made in it, or the first one again.
 */
static void
twice(unsigned no, bool out, bool start)
{
    fixture_t             f;
    line_t               *line;
    ims_pool_grant_t      a, r, b, c, g;
    ims_pool_purge_t      job;
    ims_pool_spec_t       spec;
    ims_pool_replayed_t   done;

    scene(&f, &a, &r, &b);
    memset(&spec, 0, sizeof(spec));
    spec.name = IMS_STR("web");
    spec.purge = 1;
    spec.has_purge = true;
    begin(&f);
    assert_int_equal(ims_pool_alter(f.w, &spec), 0);
    commit(&f);
    backup(&f, 0);
    assert_int_equal(lease(&f, "late", &c), IMS_POOL_OK);
    restore(&f, 0);

    /* 4 or 5 was purged, and is given in the hold */

    f.v.boottime += 70000;
    backup(&f, 1);
    begin(&f);

    do {
        assert_int_equal(ims_pool_purge_next(f.w, any, NULL, &job), 0);
    } while (job.lease != 0);

    commit(&f);
    assert_true(rest_of(&f, job.ident) >= ims_pool_now(f.w) + 128000);
    begin(&f);
    assert_int_equal(ims_pool_purged(f.w, job.id, &g.ident, &g.lease), 0);
    commit(&f);
    f.v.boottime += 31000;
    assert_int_equal(lease(&f, "purged", &g), IMS_POOL_OK);
    assert_int_equal(g.ident, job.ident);
    f.v.boottime += 1000;

    if (start) {
        fixture_close(&f);
        fixture_open(&f);
        log_start(&f);
        assert_int_equal(find('S', 2)->start.last, g.lease);
    }

    restore(&f, no);

    if (start) {
        assert_int_equal(replay(&f, &done), IMS_POOL_OK);
        fixture_end(&f);
        return;
    }

    /* the lease of before the first restore, and that of its hold */

    line = &lines[nlines - (out ? 4 : 2)];
    assert_int_equal(line->kind, 'B');
    assert_int_equal(line->lease, out ? c.lease : g.lease);

    line->out = true;
    refused(&f, "missing: ");
    line->out = false;
    lines[nlines - 3].out = true;
    refused(&f, "missing: ");
    lines[nlines - 3].out = false;
    lines[nlines - 3].start.before++;
    refused(&f, "missing: the log that was written before start");
    lines[nlines - 3].start.before--;

    assert_int_equal(replay(&f, &done), IMS_POOL_OK);
    assert_true(rest_of(&f, c.ident) == done.until);
    assert_true(rest_of(&f, g.ident) == done.until);
    assert_true(rest_of(&f, a.ident) == done.until);
    check_clean(&f);
    fixture_end(&f);
}


static void
test_twice(void **state)
{
    (void) state;

    twice(0, false, false);
    twice(1, false, false);
    twice(0, true, false);
    twice(1, true, false);
    twice(0, false, true);
    twice(1, false, true);
}


/*
 * Restored, started once more, and restored again, without a lease between: the
 * first restore has begun a count of its own.
 */
static void
test_twice_started(void **state)
{
    fixture_t             f;
    ims_pool_grant_t      a, r, b;
    ims_pool_replayed_t   done;

    (void) state;

    scene(&f, &a, &r, &b);
    restore(&f, 0);
    fixture_close(&f);
    fixture_open(&f);
    log_start(&f);
    restore(&f, 0);
    assert_int_equal(replay(&f, &done), IMS_POOL_OK);
    assert_int_equal(done.held, 3);
    fixture_end(&f);
}


/* purged and given in the hold: the replay leaves it alone */

static void
test_purged(void **state)
{
    fixture_t             f;
    ims_pool_grant_t      a, r, b, g, h;
    ims_pool_purge_t      job;
    ims_pool_spec_t       spec;
    ims_pool_replayed_t   done;

    (void) state;

    scene(&f, &a, &r, &b);
    restore(&f, 0);
    memset(&spec, 0, sizeof(spec));
    spec.name = IMS_STR("web");
    spec.purge = 1;
    spec.has_purge = true;
    begin(&f);
    assert_int_equal(ims_pool_alter(f.w, &spec), 0);
    commit(&f);
    fixture_close(&f);
    fixture_open(&f);
    log_start(&f);
    f.v.boottime += 70000;

    begin(&f);
    assert_int_equal(ims_pool_purge_next(f.w, any, NULL, &job), 0);
    commit(&f);
    assert_int_equal(job.ident, a.ident);
    begin(&f);
    assert_int_equal(ims_pool_purged(f.w, job.id, &g.ident, &g.lease), 0);
    commit(&f);
    f.v.boottime += 31000;
    assert_int_equal(lease(&f, "purged", &g), IMS_POOL_OK);
    assert_int_equal(g.ident, a.ident);

    /* what is out to be purged now rests as long as that can take */

    begin(&f);

    do {
        assert_int_equal(ims_pool_purge_next(f.w, any, NULL, &job), 0);
    } while (job.ident != ident_of(&f, "sip:web-000004@ims.example"));

    commit(&f);

    assert_int_equal(replay(&f, &done), IMS_POOL_OK);
    assert_int_equal(done.held, 3);
    assert_int_equal(renew(&f, "purged", 1, g.ident, g.lease, &h),
                     IMS_POOL_OK);
    assert_int_equal(lease(&f, "u1", &h), IMS_POOL_OK);
    assert_int_not_equal(h.ident, job.ident);
    assert_int_equal(acquire(&f, "u2", 1, &h), IMS_POOL_EXHAUSTED);
    assert_true(rest_of(&f, job.ident) >= ims_pool_now(f.w) + 128000);
    check_clean(&f);
    fixture_end(&f);
}


/* renewals that cannot be read: a lease may be longer than its record says */

static void
test_renewals(void **state)
{
    uint8_t               key[IMS_POOL_RENEWAL_KEY];
    fixture_t             f;
    ims_pool_grant_t      a, r, b, g;
    ims_pool_replayed_t   done;

    (void) state;

    scene(&f, &a, &r, &b);
    f.v.boottime += 1000;
    assert_int_equal(renew(&f, "alice", 1, a.ident, a.lease, &g),
                     IMS_POOL_OK);
    memset(key, 0, sizeof(key));
    ims_pool_be64(key, f.w->committed.renew_last);
    fixture_close(&f);
    edit_row(&f, IMS_POOL_T_RENEWAL, key, sizeof(key), 3, 1, false);
    fixture_open(&f);
    assert_true(f.started.fenced);
    log_start(&f);
    refused(&f, "there was no complete log");

    /* all leases are known there, so that none may be missing then */

    restore(&f, 0);
    without(b.lease, true);
    refused(&f, "missing: lease numbers");
    without(b.lease, false);
    assert_int_equal(replay(&f, &done), IMS_POOL_OK);
    fixture_end(&f);
}


/*
 * A backup of a hold, which is over by the clock of the environment that it
 * takes the place of, and by no other.
 */
static void
test_twice_clock(void **state)
{
    fixture_t             f;
    ims_pool_grant_t      a, r, b, g;
    ims_pool_replayed_t   done;

    (void) state;

    scene(&f, &a, &r, &b);
    restore(&f, 0);
    f.v.boottime += 1000;
    tick(&f);
    backup(&f, 1);

    begin(&f);
    f.w->now += TERM;
    f.w->dirty = 1;
    commit(&f);
    assert_true(f.w->committed.hold_until <= ims_pool_now(f.w));

    restore(&f, 1);
    assert_int_equal(replay(&f, &done), IMS_POOL_OK);
    assert_int_equal(rest_of(&f, b.ident), done.until);
    assert_int_equal(rest_of(&f, a.ident), done.until);
    assert_int_equal(lease(&f, "carol", &g), IMS_POOL_OK);
    check_clean(&f);
    fixture_end(&f);
}


/* nothing of the first hold is proven: then neither is the second */

static void
test_twice_unproven(void **state)
{
    fixture_t             f;
    ims_pool_grant_t      a, r, b, g;
    ims_pool_replayed_t   done;

    (void) state;

    scene(&f, &a, &r, &b);
    assert_int_equal(ims_pool_log_off(f.w), IMS_POOL_OK);
    assert_int_equal(lease(&f, "carol", &g), IMS_POOL_OK);
    restore(&f, 0);
    refused(&f, "there was no complete log");
    f.v.boottime += 1000;
    backup(&f, 1);
    restore(&f, 1);
    refused(&f, "there was no complete log");

    /* of a backup that was made after the hold all is */

    f.v.boottime += TERM;
    tick(&f);
    backup(&f, 1);
    restore(&f, 1);
    assert_int_equal(replay(&f, &done), IMS_POOL_OK);
    fixture_end(&f);
}


/* a backup of another directory, whose numbers are alike */

static void
test_foreign(void **state)
{
    fixture_t         f, o;
    ims_pool_grant_t  a, r, b;

    (void) state;

    scene(&o, &a, &r, &b);
    snprintf(file[1], sizeof(file[1]), "%s", file[0]);
    fixture_close(&o);

    nlines = 0;
    fixture_init(&f);
    f.v.seed = 99;
    fixture_open(&f);
    add_pool(&f, "web");
    add_identities(&f, "web", 1, 5);
    log_start(&f);
    assert_int_equal(lease(&f, "alice", &a), IMS_POOL_OK);
    fixture_shell("cp '%s/keys' '%s/keys'", o.dir, f.dir);
    restore(&f, 1);
    refused(&f, "there was no complete log");
    fixture_end(&f);
    fixture_end(&o);
}


/*
 * The machine of o is dead.  Its backup, its keys and a copy of its log, which
 * lacks the last lease, come to f, where a daemon has run before; own: it has
 * given leases of its own.
 */
static void
elsewhere(bool own, bool online)
{
    unsigned             i;
    fixture_t            f, o;
    ims_pool_grant_t     g, b;
    ims_pool_replayed_t  done;

    nlines = 0;
    fixture_pool(&o, 5);

    for (i = 0; i < 3; i++) {
        fixture_close(&o);
        fixture_open(&o);
    }

    log_start(&o);
    assert_int_equal(lease(&o, "alice", &g), IMS_POOL_OK);
    tick(&o);
    backup(&o, 1);
    o.v.boottime += 5000;
    assert_int_equal(lease(&o, "rest", &g), IMS_POOL_OK);
    assert_int_equal(lease(&o, "bob", &b), IMS_POOL_OK);
    nlines--;
    fixture_close(&o);

    fixture_init(&f);
    f.v.seed = 99;
    fixture_open(&f);
    log_start(&f);

    if (own) {
        add_pool(&f, "web");
        add_identities(&f, "web", 1, 5);
        assert_int_equal(lease(&f, "eve", &g), IMS_POOL_OK);
        assert_int_equal(lease(&f, "mallory", &g), IMS_POOL_OK);
    }

    fixture_shell("cp '%s/keys' '%s/keys'", o.dir, f.dir);

    if (online) {
        restore(&f, 1);

    } else {
        fixture_close(&f);
        restore_offline(&f, 1);
    }

    refused(&f, "there was no complete log");

    /* the log begins anew with it, and proves what follows */

    assert_true(f.w->floor.logged != 0);
    assert_int_equal(f.w->floor.log, f.w->committed.log);
    f.v.boottime += TERM;
    tick(&f);
    backup(&f, 0);
    assert_int_equal(lease(&f, "carol", &g), IMS_POOL_OK);
    restore(&f, 1);
    refused(&f, "there was no complete log");
    f.v.boottime += TERM;
    tick(&f);
    backup(&f, 0);
    assert_int_equal(lease(&f, "carol", &g), IMS_POOL_OK);
    restore(&f, 0);
    assert_int_equal(replay(&f, &done), IMS_POOL_OK);
    fixture_end(&f);
    fixture_end(&o);
}


static void
test_elsewhere(void **state)
{
    (void) state;

    elsewhere(false, false);
    elsewhere(false, true);
    elsewhere(true, false);
    elsewhere(true, true);
}


/* killed after the state has the log's number, or the floor of another log */

static void
test_log_number(void **state)
{
    char               text[128];
    uint64_t           log;
    fixture_t          f;
    ims_pool_grant_t   a, r, b;

    (void) state;

    scene(&f, &a, &r, &b);
    log = f.w->floor.log;
    assert_true(log != 0);
    assert_int_equal(f.w->committed.log, log);
    fixture_close(&f);
    fixture_open(&f);
    log_start(&f);
    assert_int_equal(f.w->floor.log, log);
    assert_int_equal(f.w->committed.log, log);
    fixture_close(&f);

    snprintf(text, sizeof(text), "ims-pool-floor 2 %d %llu %llu %d %llu ",
             TERM, 1ull << 40, (2ull << 40) + IMS_POOL_MARK_STEP, INODE,
             (unsigned long long) log + 1);
    floor_put(&f, text);
    fixture_open(&f);
    assert_false(f.started.fenced);
    log_start(&f);
    assert_true(f.w->floor.log != log && f.w->floor.log != log + 1);
    assert_int_equal(f.w->committed.log, f.w->floor.log);
    assert_int_equal(f.w->floor.logged, f.w->committed.last_lease);
    restore(&f, 0);
    refused(&f, "there was no complete log");
    fixture_end(&f);

    /* a backup from later than the floor: that went back in time */

    scene(&f, &a, &r, &b);
    fixture_close(&f);
    fixture_open(&f);
    log_start(&f);
    log = f.w->floor.log;
    backup(&f, 0);
    fixture_close(&f);
    snprintf(text, sizeof(text), "ims-pool-floor 1 %d %llu %llu %d %llu ",
             TERM, 1ull << 40, (1ull << 40) + IMS_POOL_MARK_STEP, INODE,
             (unsigned long long) log);
    floor_put(&f, text);
    restore_offline(&f, 0);
    refused(&f, "there was no complete log");
    fixture_end(&f);
}


/* a start that fails after its commit has no line, and gave nothing */

static void
test_failed_start(void **state)
{
    fixture_t            f;
    ims_pool_grant_t     a, r, b;
    ims_pool_replayed_t  done;

    (void) state;

    scene(&f, &a, &r, &b);
    fixture_close(&f);
    fixture_open(&f);
    fixture_close(&f);
    restore_offline(&f, 0);
    without(b.lease, true);
    refused(&f, "missing: lease numbers");
    without(b.lease, false);
    assert_int_equal(replay(&f, &done), IMS_POOL_OK);
    assert_int_equal(done.held, 3);
    fixture_end(&f);
}


/* the same of one that found commits lost: the next one says so for it */

static void
test_failed_lost_start(void **state)
{
    unsigned             i;
    fixture_t            f;
    ims_pool_grant_t     a, r, b, g;
    ims_pool_replayed_t  done;

    (void) state;

    for (i = 0; i < 2; i++) {
        scene(&f, &a, &r, &b);
        fixture_close(&f);
        assert_int_equal(ims_pool_restore(&f.opt, file[0], f.err,
                                          sizeof(f.err)), 0);
        fixture_open(&f);
        fixture_close(&f);
        fixture_open(&f);
        assert_false(f.started.fenced);
        log_start(&f);

        if (i == 0) {
            assert_int_equal(replay(&f, &done), IMS_POOL_OK);
            assert_int_equal(lease(&f, "carol", &g), IMS_POOL_OK);
        }

        restore(&f, 0);
        without(b.lease, true);
        refused(&f, "missing: lease numbers");
        without(b.lease, false);
        assert_int_equal(replay(&f, &done), IMS_POOL_OK);
        fixture_end(&f);
    }

    /* without a log, then: what comes after it needs none of before */

    scene(&f, &a, &r, &b);
    assert_int_equal(ims_pool_log_off(f.w), IMS_POOL_OK);
    fixture_close(&f);
    assert_int_equal(ims_pool_restore(&f.opt, file[0], f.err, sizeof(f.err)),
                     0);
    fixture_open(&f);
    f.v.boottime += TERM;
    nlines = 0;
    log_start(&f);
    tick(&f);
    backup(&f, 0);
    fixture_close(&f);
    fixture_open(&f);
    log_start(&f);
    restore(&f, 0);
    assert_int_equal(replay(&f, &done), IMS_POOL_OK);
    fixture_end(&f);
}


/*
 * What a replay holds is purged as what a hold holds; but not what was given
 * after it and has run out, however long it rests.
 */
static void
test_purge_after(void **state)
{
    uint64_t             fence;
    unsigned             n, found;
    fixture_t            f;
    ims_pool_grant_t     a, r, b, g;
    ims_pool_purge_t     job;
    ims_pool_spec_t      spec;
    ims_pool_replayed_t  done;

    (void) state;

    scene(&f, &a, &r, &b);
    memset(&spec, 0, sizeof(spec));
    spec.name = IMS_STR("web");
    spec.purge = 1;
    spec.has_purge = true;
    spec.delay = 10000;
    spec.margin = 350000;
    spec.ttl = 300000;
    restore(&f, 0);
    begin(&f);
    assert_int_equal(ims_pool_alter(f.w, &spec), 0);
    commit(&f);
    assert_int_equal(replay(&f, &done), IMS_POOL_OK);
    assert_int_equal(done.held, 3);
    f.v.boottime += 50000;
    assert_int_equal(lease(&f, "dave", &g), IMS_POOL_OK);
    f.v.boottime += g.end - ims_pool_now(f.w) + 1;
    tick(&f);
    assert_true(look(&f, g.ident).rec.rest > done.until);
    begin(&f);
    assert_int_equal(ims_pool_revoke_pool(f.w, IMS_STR("web"), &fence), 0);
    commit(&f);
    fixture_close(&f);
    fixture_open(&f);
    log_start(&f);
    f.v.boottime += 95000;
    assert_true(ims_pool_now(f.w) + 20000 < done.until);

    for (n = 0, found = 0; n < 8; n++) {
        begin(&f);

        if (ims_pool_purge_next(f.w, any, NULL, &job) == IMS_POOL_OK) {
            found |= job.ident == a.ident ? 1 : job.ident == r.ident ? 2
                     : job.ident == b.ident ? 4 : 8;
        }

        commit(&f);
    }

    assert_int_equal(found, 7);
    fixture_end(&f);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_replay),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_return),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_copied),
        cmocka_unit_test(test_other_hold),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_imports),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_floor),
        cmocka_unit_test(test_gap),
        cmocka_unit_test(test_mark),
        cmocka_unit_test(test_late),
        cmocka_unit_test(test_twice),
        cmocka_unit_test(test_twice_started),
        cmocka_unit_test(test_twice_clock),
        cmocka_unit_test(test_purged),
        cmocka_unit_test(test_renewals),
        cmocka_unit_test(test_twice_unproven),
        cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_tail),
        cmocka_unit_test(test_late_same),
        cmocka_unit_test(test_elsewhere),
        cmocka_unit_test(test_log_number),
        cmocka_unit_test(test_failed_start),
        cmocka_unit_test(test_failed_lost_start),
        cmocka_unit_test(test_purge_after)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
