/*
 * Copyright (C) nginx-ims contributors
 *
 * The pool manager's process: the real writer, driven by one byte over a
 * socket and a shared page, and killed by SIGKILL at any system call of a
 * commit.
 *
 * This program's own pwrite(), writev() and fdatasync() stand before the C
 * library's, so that the kill is at the same place in each run of a seed.
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "world.h"
#include "ims_pool_wint.h"


static pm_t  *pm_here;              /* in the process only */
static bool   pm_armed;


/* -- system calls -------------------------------------------------------- */

static bool
pm_call_now(void)
{
    return pm_armed && pm_here->kill_at-- == 0;
}


ssize_t
pwrite(int fd, const void *buf, size_t n, off_t off)
{
    ssize_t  rc;
    ssize_t  (*next)(int, const void *, size_t, off_t);

    *(void **) &next = dlsym(RTLD_NEXT, "pwrite");

    if (!pm_call_now()) {
        return next(fd, buf, n, off);
    }

    rc = next(fd, buf, pm_here->kill == PM_KILL_CALL_HALF ? n / 2 : n, off);
    raise(SIGKILL);

    return rc;
}


ssize_t
writev(int fd, const struct iovec *iov, int n)
{
    ssize_t  rc;
    ssize_t  (*next)(int, const struct iovec *, int);

    *(void **) &next = dlsym(RTLD_NEXT, "writev");

    if (!pm_call_now()) {
        return next(fd, iov, n);
    }

    rc = next(fd, iov, pm_here->kill == PM_KILL_CALL_HALF ? n / 2 : n);
    raise(SIGKILL);

    return rc;
}


int
fdatasync(int fd)
{
    int  (*next)(int);

    *(void **) &next = dlsym(RTLD_NEXT, "fdatasync");

    if (pm_call_now()) {
        raise(SIGKILL);
    }

    return next(fd);
}


/* -- in the process ------------------------------------------------------ */

static ims_pool_who_t
pm_who(const pm_cmd_t *c, char *buf, size_t n)
{
    ims_pool_who_t  a;

    snprintf(buf, n, "user-%u", c->user);

    memset(&a, 0, sizeof(a));
    a.pool = IMS_STR(WORLD_POOL);
    a.realm = IMS_STR(WORLD_REALM);
    a.user = ims_str_z(buf);
    a.sid = c->sid;

    return a;
}


/* mutants: the promise as it would be by another rule */

static void
pm_mutate_grant(ims_pool_writer_t *pool, const ims_pool_rec_t *before,
    uint64_t ident)
{
    ims_pool_rec_t  rec;

    if (ims_pool_w_rec(pool, ident, &rec) != IMS_POOL_OK) {
        return;
    }

    switch (pm_here->mutant) {

    case MU_REST_WITHOUT_D:
        rec.rest = rec.promised;
        break;

    case MU_RENEW_NO_PROMISE:
        if (before->ident != ident || before->lease != rec.lease) {
            return;
        }

        rec.promised = before->promised;
        rec.rest = before->rest;
        break;

    default:
        return;
    }

    (void) ims_pool_w_put_rec(pool, &rec);
}


static void
pm_mutate_end(ims_pool_writer_t *pool, uint64_t ident)
{
    ims_pool_rec_t  rec;

    if (pm_here->mutant == MU_REST_FROM_END
        && ims_pool_w_rec(pool, ident, &rec) == IMS_POOL_OK
        && rec.end <= ims_pool_now(pool))
    {
        rec.promised = rec.end;
        rec.rest = rec.end;

        /* the row of `avail` is a lower bound: it may not be later */

        (void) ims_pool_w_avail_move(pool, &rec, rec.rest);
        (void) ims_pool_w_put_rec(pool, &rec);
    }
}


static void
pm_do_lease(ims_pool_writer_t *pool, pm_cmd_t *c)
{
    char                     buf[32];
    unsigned                 i;
    ims_pool_who_t           a;
    ims_pool_rec_t           before;
    static ims_pool_grant_t  g;

    a = pm_who(c, buf, sizeof(buf));
    memset(&before, 0, sizeof(before));

    for (i = 0; i < pm_here->config.idents && pm_here->mutant; i++) {

        /* the one that the grant will be for, if it is a renewal */

        if (ims_pool_w_rec(pool, pm_here->first[i], &before) == IMS_POOL_OK
            && c->op == PM_RENEW && before.ident == c->ident)
        {
            break;
        }
    }

    g.retry_s = 0;

    c->rc = c->op == PM_ACQUIRE
            ? ims_pool_acquire(pool, &a, &g)
            : ims_pool_renew(pool, &a, c->ident, c->lease, &g);

    c->retry_s = g.retry_s;

    if (c->rc != IMS_POOL_OK) {
        return;
    }

    pm_mutate_grant(pool, &before, g.ident);

    c->how = (int) g.how;
    c->r_ident = g.ident;
    c->r_lease = g.lease;
    c->now = g.now;
    c->end = g.end;
    c->rest = g.rest;
    memcpy(c->holder, g.holder, sizeof(c->holder));

    snprintf(c->impi, sizeof(c->impi), "%.*s", IMS_STR_ARG(g.names.impi));

    c->nimpu = g.names.nimpu < WORLD_IMPUS ? g.names.nimpu : WORLD_IMPUS;

    for (i = 0; i < c->nimpu; i++) {
        snprintf(c->impu[i], sizeof(c->impu[i]), "%.*s",
                 IMS_STR_ARG(g.names.impu[i].given));
    }
}


static void
pm_do_alter(ims_pool_writer_t *pool, pm_cmd_t *c)
{
    ims_pool_spec_t  spec;

    memset(&spec, 0, sizeof(spec));
    spec.name = IMS_STR(WORLD_POOL);
    spec.ttl = c->a;
    spec.delay = c->b;
    spec.margin = c->c;

    c->rc = ims_pool_alter(pool, &spec);
}


static bool
pm_purge_may(void *ctx, const ims_pool_t *pool)
{
    (void) ctx;
    (void) pool;

    return true;
}


/* mutant: nothing need be waited for, as if D were a millisecond */

static void
pm_purge_delay(ims_pool_writer_t *pool, uint64_t delay, bool back)
{
    unsigned         i;
    ims_pool_t       p;
    ims_pool_rec_t   rec;
    static uint32_t  linger[WORLD_IDENTS];

    if (ims_pool_w_by_name(pool, IMS_STR(WORLD_POOL), &p) != IMS_POOL_OK) {
        return;
    }

    p.head.delay = delay;
    (void) ims_pool_w_put_pool(pool, &p);

    for (i = 0; i < pm_here->config.idents; i++) {
        if (ims_pool_w_rec(pool, pm_here->first[i], &rec) == IMS_POOL_OK) {

            if (back) {
                rec.linger = linger[i];

            } else {
                linger[i] = rec.linger;
                rec.linger = 1;
            }

            (void) ims_pool_w_put_rec(pool, &rec);
        }
    }
}


static void
pm_do_purge(ims_pool_writer_t *pool, pm_cmd_t *c)
{
    unsigned                 i;
    static ims_pool_purge_t  job;

    if (pm_here->mutant == MU_PURGE_WITHOUT_D) {
        pm_purge_delay(pool, 1, false);
    }

    c->rc = ims_pool_purge_next(pool, pm_purge_may, NULL, &job);

    if (pm_here->mutant == MU_PURGE_WITHOUT_D) {
        pm_purge_delay(pool, pm_here->delay, true);
        job.send_by = pool->boottime + 2000;
    }

    if (c->rc != IMS_POOL_OK) {
        return;
    }

    c->a = job.id;
    c->b = job.send_by;
    c->c = job.answer_by;
    c->r_ident = job.ident;
    c->r_lease = job.lease;
    c->nimpu = job.names.nimpu < WORLD_IMPUS ? job.names.nimpu : WORLD_IMPUS;

    for (i = 0; i < c->nimpu; i++) {
        snprintf(c->impu[i], sizeof(c->impu[i]), "%.*s",
                 IMS_STR_ARG(job.names.impu[i].canon));
    }
}


/* -- the history log ------------------------------------------------------ */

static void
pm_on_event(void *ctx, const ims_pool_event_t *ev)
{
    pm_line_t  *line;

    (void) ctx;

    if (ev->kind == IMS_POOL_EV_BEGIN && pm_here->nlog < PM_LOG) {
        line = &pm_here->log[pm_here->nlog++];
        line->ident = ev->past.ident;
        line->lease = ev->past.lease;
    }
}


/* as a start of the daemon does it */

static int
pm_log_begin(ims_pool_writer_t *pool)
{
    int         rc;
    pm_line_t  *line;

    rc = ims_pool_log_on(pool, 1);

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_events(pool, pm_on_event, NULL, false);
    }

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_log_late(pool);

        if (rc == IMS_POOL_INTERNAL) {
            /* some began and ended in one batch */
            rc = ims_pool_log_off(pool);
            rc = rc == IMS_POOL_OK ? ims_pool_log_on(pool, 1) : rc;
        }
    }

    if (rc == IMS_POOL_OK && pm_here->nlog < PM_LOG) {
        line = &pm_here->log[pm_here->nlog++];
        line->ident = 0;
        ims_pool_log_start(pool, &line->start);
        ims_pool_log_synced(pool);
    }

    return rc;
}


static void
pm_log_commit(ims_pool_writer_t *pool, unsigned before)
{
    if (!pm_here->config.replay) {
        return;
    }

    if (pm_here->nlog == PM_LOG) {
        (void) ims_pool_log_off(pool);
        return;
    }

    if (pm_here->kill == PM_KILL_AFTER && (pm_here->kill_at & 1)) {
        /* killed before the lines were written */
        pm_here->nlog = before;
        return;
    }

    ims_pool_log_synced(pool);
}


static int
pm_replay_line(ims_pool_writer_t *pool, ims_pool_replay_t *r,
    const pm_line_t *line)
{
    unsigned                 i;
    ims_str_t                name[1 + IMS_POOL_IMPUS];
    static ims_pool_names_t  names;

    if (line->ident == 0) {
        return ims_pool_replay_start(r, &line->start);
    }

    if (pm_here->mutant == MU_REPLAY_NO_LINES) {
        name[0] = IMS_STR("nobody@" WORLD_HOME);
        name[1] = IMS_STR("sip:nobody@" WORLD_HOME);

        return ims_pool_replay_begin(r, pool, 0, line->lease, name, 2);
    }

    if (ims_pool_names(ims_pool_writer_reader(pool), line->ident, &names)
        != IMS_POOL_OK)
    {
        return IMS_POOL_BADARG;
    }

    name[0] = names.impi;

    for (i = 0; i < names.nimpu; i++) {
        name[1 + i] = names.impu[i].given;
    }

    return ims_pool_replay_begin(r, pool, line->ident, line->lease, name,
                                 1 + names.nimpu);
}


/* mutant: what is held has its last holder again */

static void
pm_replay_return(ims_pool_writer_t *pool, const bool *parted)
{
    uint8_t         key[IMS_POOL_USER_KEY];
    unsigned        i;
    ims_pool_rec_t  rec;

    for (i = 0; i < pm_here->config.idents; i++) {

        if (parted[i] || ims_pool_w_rec(pool, pm_here->first[i], &rec) != 0
            || !(rec.flags & IMS_POOL_F_PARTED))
        {
            continue;
        }

        rec.flags &= (uint16_t) ~IMS_POOL_F_PARTED;
        (void) ims_pool_users_add(&pool->users,
                                  ims_str_set(key, ims_pool_holder_key(key,
                                                                       &rec)),
                                  rec.ident);
        (void) ims_pool_w_put_rec(pool, &rec);
    }
}


static void
pm_do_replay(ims_pool_writer_t *pool, pm_cmd_t *c)
{
    bool                  parted[WORLD_IDENTS];
    unsigned              i;
    ims_pool_rec_t        rec;
    ims_pool_replay_t    *r;
    ims_pool_replayed_t   done;

    if (pm_here->mutant == MU_REPLAY_NO_LIVE && pool->committed.hold_pt) {
        pool->committed.hold_pt = UINT64_MAX;
        pool->state.hold_pt = UINT64_MAX;
    }

    for (i = 0; i < pm_here->config.idents; i++) {
        parted[i] = ims_pool_w_rec(pool, pm_here->first[i], &rec) == 0
                    && (rec.flags & IMS_POOL_F_PARTED);
    }

    c->rc = ims_pool_replay_open(&r, pool, pm_here->err,
                                 sizeof(pm_here->err));

    if (c->rc == IMS_POOL_OK) {
        c->rc = ims_pool_replay_file(r, 1);
    }

    for (i = 0; c->rc == IMS_POOL_OK && i < pm_here->nlog; i++) {
        c->rc = pm_replay_line(pool, r, &pm_here->log[i]);
    }

    if (c->rc == IMS_POOL_OK) {
        c->rc = ims_pool_replay_prove(r, pool);
    }

    if (c->rc == IMS_POOL_OK) {

        do {
            c->rc = ims_pool_replay_step(r, pool, 3, &done);
        } while (c->rc == IMS_POOL_MORE);

        c->a = done.held;
    }

    if (c->rc != IMS_POOL_OK && r != NULL) {
        snprintf(pm_here->err, sizeof(pm_here->err), "%s",
                 ims_pool_replay_text(r));
    }

    ims_pool_replay_close(r);

    if (pm_here->mutant == MU_REPLAY_RETURN && c->rc == IMS_POOL_OK) {
        pm_replay_return(pool, parted);
    }
}


static void
pm_do(ims_pool_writer_t *pool, pm_cmd_t *c)
{
    bool            alert;
    char            buf[32];
    uint64_t        fence;
    unsigned        n;
    ims_pool_who_t  a;

    if (c->late) {
        c->rc = SITE_LATE;
        return;
    }

    a = pm_who(c, buf, sizeof(buf));

    switch (c->op) {

    case PM_ACQUIRE:
    case PM_RENEW:
        pm_do_lease(pool, c);
        break;

    case PM_RELEASE:
        c->rc = ims_pool_release(pool, &a, c->ident, c->lease, &c->ended);

        if (c->rc == IMS_POOL_OK) {
            pm_mutate_end(pool, c->ident);
        }

        break;

    case PM_REPORT:
        c->rc = ims_pool_report(pool, c->ident, c->lease, 1, c->a, c->b,
                                &alert);
        break;

    case PM_REVOKE_LEASE:
        c->rc = ims_pool_revoke_lease(pool, c->ident, c->lease, c->a != 0,
                                      &n);

        if (c->rc == IMS_POOL_OK) {
            pm_mutate_end(pool, c->ident);
        }

        break;

    case PM_REVOKE_IMPU:
        c->rc = ims_pool_revoke_impu(pool, ims_str_z(c->text), c->a != 0, &n);
        break;

    case PM_REVOKE_USER:
        c->rc = ims_pool_revoke_user(pool, a.pool, a.realm, a.user, c->a != 0,
                                     &n);
        break;

    case PM_REVOKE_POOL:
        c->rc = ims_pool_revoke_pool(pool, a.pool, &fence);
        break;

    case PM_DISABLE:
        c->rc = ims_pool_disable(pool, ims_str_z(c->text), c->a != 0,
                                 &c->ended);
        break;

    case PM_ENABLE:
        c->rc = ims_pool_enable(pool, ims_str_z(c->text));
        break;

    case PM_PURGE_NEXT:
        pm_do_purge(pool, c);
        break;

    case PM_PURGED:
        c->rc = ims_pool_purged(pool, c->a, &c->r_ident, &c->r_lease);
        break;

    case PM_ALTER:
        pm_do_alter(pool, c);
        break;

    case PM_TICK:
        c->rc = ims_pool_tick(pool);
        break;

    case PM_REPLAY:
        pm_do_replay(pool, c);
        break;
    }
}


static void
pm_do_batch(ims_pool_writer_t *pool)
{
    unsigned   i, log;
    uint64_t   seq;

    log = pm_here->nlog;
    pm_here->rc = ims_pool_begin(pool);

    if (pm_here->rc != IMS_POOL_OK) {
        return;
    }

    seq = pool->state.feed_seq;
    pm_here->done = 0;

    for (i = 0; i < pm_here->n; i++) {
        pm_do(pool, &pm_here->cmd[i]);
        pm_here->done++;
    }

    if (pm_here->mutant == MU_NO_FEED_ROW) {
        uint8_t  key[8];

        while (pool->state.feed_seq > seq) {
            ims_pool_be64(key, pool->state.feed_seq--);
            (void) ims_pool_w_del(pool, IMS_POOL_T_FEED, key, sizeof(key));
        }
    }

    if (pm_here->mutant == MU_RENEWALS_DROPPED) {
        pool->state.renew_first = pool->state.renew_mid;
    }

    if (pm_here->kill == PM_KILL_BEFORE) {
        raise(SIGKILL);
    }

    pm_armed = pm_here->kill == PM_KILL_CALL
               || pm_here->kill == PM_KILL_CALL_HALF;

    pm_here->rc = ims_pool_commit(pool);

    if (pm_here->rc == IMS_POOL_OK) {
        pm_log_commit(pool, log);
    }

    if (pm_here->kill != PM_KILL_NOT) {
        raise(SIGKILL);
    }
}


static void
pm_do_check(ims_pool_writer_t *pool)
{
    unsigned          i;
    ims_pool_check_t  check;

    ims_pool_check_begin(&check, NULL, NULL);

    while (ims_pool_check_slice(pool, &check, 64) == IMS_POOL_MORE) {
        /* void */
    }

    pm_here->faults = ims_pool_check_total(&check);

    for (i = 0; i < IMS_POOL_FAULTS && check.faults[i] == 0; i++) {
        /* void */
    }

    pm_here->first_fault = i;
}


/* the pool and its identities: once */

static int
pm_do_setup(ims_pool_writer_t *pool)
{
    int                    rc;
    char                   impi[64], impu[WORLD_IMPUS][64];
    unsigned               i, k;
    uint32_t               number;
    ims_pool_spec_t        spec;
    ims_pool_identity_t    row;
    ims_pool_row_result_t  res;
    const config_t        *c;

    c = &pm_here->config;
    memset(&spec, 0, sizeof(spec));
    spec.name = IMS_STR(WORLD_POOL);
    spec.home = IMS_STR(WORLD_HOME);
    spec.ttl = c->ttl;
    spec.ttl_max = 210000;
    spec.delay = c->delay;
    spec.margin = c->margin;
    spec.core_min = c->core_min;
    spec.purge = c->purge;
    spec.has_purge = true;

    rc = ims_pool_begin(pool);

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_create(pool, &spec, &number);
    }

    for (i = 0; rc == IMS_POOL_OK && i < c->idents; i++) {
        memset(&row, 0, sizeof(row));
        snprintf(impi, sizeof(impi), "web-%02u@" WORLD_HOME, i);
        row.impi = ims_str_z(impi);
        row.nimpu = 1 + i % WORLD_IMPUS;

        for (k = 0; k < row.nimpu; k++) {
            snprintf(impu[k], sizeof(impu[k]),
                     k == 0 ? "sip:web-%02u@" WORLD_HOME
                     : k == 1 ? "tel:+1-555-0%03u"
                     : "sip:also-%02u@" WORLD_HOME, i);
            row.impu[k] = ims_str_z(impu[k]);
        }

        rc = ims_pool_identity_add(pool, IMS_STR(WORLD_POOL), &row, 0,
                                   &pm_here->first[i], &res);
    }

    return rc == IMS_POOL_OK ? ims_pool_commit(pool) : rc;
}


static void
pm_mutate_start(ims_pool_writer_t *pool)
{
    ims_pool_t  p;

    if (pm_here->mutant == MU_RENEWALS_FORGOTTEN) {
        ims_pool_recent_free(&pool->fold.recent);
    }

    if (!pm_here->started.fenced
        || (pm_here->mutant != MU_NO_HOLD
            && pm_here->mutant != MU_NO_INCARNATION_FENCE))
    {
        return;
    }

    if (ims_pool_begin(pool) != IMS_POOL_OK) {
        return;
    }

    pool->state.hold_until = 0;

    if (pm_here->mutant == MU_NO_INCARNATION_FENCE
        && ims_pool_w_by_name(pool, IMS_STR(WORLD_POOL), &p) == IMS_POOL_OK)
    {
        p.head.fence = 1;
        (void) ims_pool_w_put_pool(pool, &p);
    }

    pool->dirty = 1;
    (void) ims_pool_commit(pool);
}


static void
pm_main(world_t *w, int fd)
{
    char                c;
    ims_pool_options_t  opt;
    ims_pool_writer_t  *pool;

    memset(&opt, 0, sizeof(opt));
    opt.dir = w->dir;
    opt.clock = &w->clock;
    opt.gid = -1;
    opt.is_volatile = true;
    opt.readers = 64;
    opt.map_size = (size_t) 64 << 20;
    opt.reserve = IMS_POOL_NO_RESERVE;
    opt.renewals = 3;
    opt.commits_lost = pm_here->commits_lost;

    pm_here->rc = ims_pool_writer_open(&pool, &opt, &pm_here->started,
                                       pm_here->err, sizeof(pm_here->err));

    if (pm_here->rc == IMS_POOL_OK && pm_here->started.created) {
        pm_here->rc = pm_do_setup(pool);
    }

    if (pm_here->rc == IMS_POOL_OK && pm_here->mutant) {
        pm_mutate_start(pool);
    }

    if (pm_here->rc == IMS_POOL_OK && pm_here->config.replay) {
        pm_here->rc = pm_log_begin(pool);
    }

    while (write(fd, "", 1) == 1 && pm_here->rc == IMS_POOL_OK
           && read(fd, &c, 1) == 1)
    {
        switch (c) {

        case 'b':
            pm_do_batch(pool);
            break;

        default: /* 'c' */
            pm_do_check(pool);
            break;
        }
    }

    _exit(0);
}


/* -- in the world -------------------------------------------------------- */

bool
pm_share(world_t *w)
{
    w->pm = mmap(NULL, sizeof(pm_t), PROT_READ|PROT_WRITE,
                 MAP_SHARED|MAP_ANONYMOUS, -1, 0);

    if (w->pm == MAP_FAILED) {
        w->pm = NULL;
    }

    return w->pm != NULL;
}


void
pm_unshare(world_t *w)
{
    if (w->pm) {
        munmap(w->pm, sizeof(pm_t));
        w->pm = NULL;
    }
}


/* true: it has answered; else it is dead, and everybody knows */

static bool
pm_answered(world_t *w)
{
    char     c;
    ssize_t  n;

    do {
        n = read(w->pm_fd, &c, 1);
    } while (n == -1 && errno == EINTR);

    if (n == 1) {
        return true;
    }

    pm_kill(w);

    return false;
}


bool
pm_start(world_t *w)
{
    int  fd[2];

    if (socketpair(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0, fd) != 0) {
        return false;
    }

    w->pm->rc = IMS_POOL_UNKNOWN;
    w->pm->kill = PM_KILL_NOT;
    w->pm->commits_lost = w->pm_lost;
    fflush(NULL);

    w->pm_pid = fork();

    if (w->pm_pid == 0) {
        close(fd[0]);
        pm_here = w->pm;
        pm_main(w, fd[1]);
    }

    close(fd[1]);
    w->pm_fd = fd[0];

    if (w->pm_pid == -1) {
        w->pm_pid = 0;
        return false;
    }

    if (!pm_answered(w) || w->pm->rc != IMS_POOL_OK) {
        pm_kill(w);
        return false;
    }

    w->pm_lost = false;

    return true;
}


void
pm_kill(world_t *w)
{
    if (w->pm_pid) {
        kill(w->pm_pid, SIGKILL);
        waitpid(w->pm_pid, NULL, 0);
        w->pm_pid = 0;
    }

    if (w->pm_fd != -1) {
        close(w->pm_fd);
        w->pm_fd = -1;
    }
}


static bool
pm_ask(world_t *w, char c)
{
    if (w->pm_pid == 0 || write(w->pm_fd, &c, 1) != 1) {
        return false;
    }

    return pm_answered(w);
}


bool
pm_batch(world_t *w)
{
    return pm_ask(w, 'b');
}


bool
pm_check(world_t *w)
{
    return pm_ask(w, 'c');
}
