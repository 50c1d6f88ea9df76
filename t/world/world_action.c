/*
 * Copyright (C) nginx-ims contributors
 *
 * What is done to this world: by users mostly, by the core's callers, by the
 * administrator, and by everything that can go wrong.
 */

#include <fcntl.h>
#include <unistd.h>

#include "world.h"
#include "flow/ims_flow_shm.h"


#define PT_TICK  (20 * SEC)


static void world_pm_back(world_t *w, event_t *e);


/* -- the pool manager ---------------------------------------------------- */

static void
world_tick(world_t *w, event_t *e)
{
    pm_cmd_t  cmd;

    if (w->pm_pid == 0 || e->a != (uint64_t) w->pm_pid) {
        return;
    }

    memset(&cmd, 0, sizeof(cmd));
    cmd.op = PM_TICK;
    site_admin(w, &cmd);

    world_timer(w, w->now_us + PT_TICK, world_tick)->a = e->a;
}


/*
 * The administrator ends a hold, if the log proves it.  The times are those of
 * the start, so that a world without a log has the same events.
 */

static void
world_replay(world_t *w, event_t *e)
{
    pm_cmd_t  cmd;

    if (w->pm_pid == 0 || e->a != w->epoch) {
        return;
    }

    memset(&cmd, 0, sizeof(cmd));
    cmd.op = PM_REPLAY;
    site_admin(w, &cmd);
}


static void
world_replays(world_t *w)
{
    unsigned  i;

    for (i = 0; w->config.replay && i < 4; i++) {
        world_timer(w, w->now_us + world_mix(w->config.seed + i, w->epoch)
                                   % (60 * SEC), world_replay)->a = w->epoch;
    }
}


/* dead already, or to be: who was connected sees it */

void
world_pm_crashed(world_t *w)
{
    unsigned  i;

    if (w->pm_pid == 0 && w->pm->n) {
        /* died in a batch */
        w->pm_nmaybe = w->pm->done < w->pm->n ? 0 : w->pm->n;
        memcpy(w->pm_maybe, w->pm->cmd, sizeof(w->pm_maybe));
    }

    w->pm->n = 0;
    pm_kill(w);
    w->pm_nqueue = 0;
    w->count[C_pm_kills]++;
    TRACE(w, "the pool manager is killed");

    /* workers see at once what was committed; or only the next start does */

    if (w->truth && check_crash(w, w->pm_maybe, w->pm_nmaybe)) {
        w->pm_nmaybe = 0;
    }

    for (i = 0; i < w->config.workers; i++) {
        if (w->worker[i].alive) {
            site_worker_gone(w, &w->worker[i]);
        }
    }

    world_event(w, w->now_us + world_delay(w, 30 * SEC), world_pm_back);
}


static void
world_pm_back(world_t *w, event_t *e)
{
    int   rc;
    bool  fences;

    (void) e;

    if (w->pm_pid != 0 || !w->host_up) {
        return;
    }

    fences = w->pm_fences;

    if (!pm_start(w)) {
        world_fail(w, "told", "the pool manager does not start: %d %s",
                   w->pm->rc, w->pm->err);
        return;
    }

    TRACE(w, "the pool manager starts: incarnation %llu%s",
          (unsigned long long) w->pm->started.incarnation,
          w->pm->started.fenced ? ", all fenced" : "");

    w->pm_fences = false;

    if (fences != w->pm->started.fenced) {
        world_fail(w, "told", "commits were %slost, and the start %s",
                   fences ? "" : "not ",
                   fences ? "did not see it" : "fenced all leases");
        return;
    }

    (void) edge_open_base(w, &rc);
    check_reboot(w);

    if (fences) {
        w->pm_nmaybe = 0;
        world_replays(w);
    }

    (void) check_crash(w, w->pm_maybe, w->pm_nmaybe);
    w->pm_nmaybe = 0;
    world_timer(w, w->now_us + PT_TICK, world_tick)->a =
        (uint64_t) w->pm_pid;
}


static void
world_check_pool(world_t *w)
{
    if (w->pm_pid == 0 || !w->config.strict || world_mutant != MU_NONE) {
        return;
    }

    w->pm->n = 0;

    if (pm_check(w) && w->pm->faults) {
        world_fail(w, "check", "%llu faults, the first is: %s",
                   (unsigned long long) w->pm->faults,
                   ims_pool_fault_text((ims_pool_fault_e)
                                       w->pm->first_fault));
    }
}


/* -- workers and host ---------------------------------------------------- */

static void
world_worker_back(world_t *w, event_t *e)
{
    worker_t  *k;

    k = &w->worker[e->a];

    if (!k->alive && w->host_up && !edge_start(w, k)) {
        world_fail(w, "begin", "worker %u does not start", k->index);
    }
}


static void
world_worker_kill(world_t *w, worker_t *k)
{
    if (!k->alive) {
        return;
    }

    w->count[C_worker_kills]++;
    TRACE(w, "worker %u is killed", k->index);
    edge_kill(w, k, world_may(w, WORLD_F_TORN) && world_chance(w, 4));

    world_event(w, w->now_us + world_delay(w, 5 * SEC), world_worker_back)->a
        = k->index;
}


static bool
world_copy(const char *from, const char *to)
{
    int      in, out;
    char     buf[65536];
    bool     ok;
    ssize_t  n;

    in = open(from, O_RDONLY|O_CLOEXEC);
    out = open(to, O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0640);
    ok = in != -1 && out != -1;

    while (ok && (n = read(in, buf, sizeof(buf))) > 0) {
        ok = write(out, buf, (size_t) n) == n;
    }

    close(in);
    close(out);

    return ok;
}


void
world_backup(world_t *w)
{
    char  from[160], to[160];

    if (w->pm_pid == 0) {
        return;
    }

    snprintf(from, sizeof(from), "%s/env.1/data.mdb", w->dir);
    snprintf(to, sizeof(to), "%s/backup.mdb", w->base);

    if (world_copy(from, to)) {
        w->pm_backup = w->pm->started.incarnation;
        w->backup_pool[0] = w->pool_ttl;
        w->backup_pool[1] = w->pool_delay;
        w->backup_pool[2] = w->pool_margin;
        TRACE(w, "backup of incarnation %llu",
              (unsigned long long) w->pm_backup);
    }
}


/*
 * The old environment comes back: by command (which says so), or with the
 * floor lost as well, or as a copy that only the floor betrays.
 */

static void
world_restore(world_t *w)
{
    char      from[160], to[160];
    unsigned  how;

    if (w->pm_backup == 0) {
        return;
    }

    snprintf(from, sizeof(from), "%s/backup.mdb", w->base);
    snprintf(to, sizeof(to), "%s/env.1/data.mdb", w->dir);

    if (!world_copy(from, to)) {
        world_fail(w, "begin", "no restore");
        return;
    }

    snprintf(to, sizeof(to), "%s/env.1/lock.mdb", w->dir);
    (void) unlink(to);

    how = w->config.script ? 1 : (unsigned) world_below(w, 3);
    w->count[C_restores]++;

    if (how == 1) {
        snprintf(to, sizeof(to), "%s/floor", w->dir);
        (void) unlink(to);
    }

    /*
     * Without a word a copy can be known by its incarnation only; a floor that
     * is lost is noticed if leases were given.
     */

    w->pm_fences = true;
    w->pm_lost = how == 0
                 || w->pm_backup == w->pm->started.incarnation
                 || how == 1;

    TRACE(w, "restored: %s", how == 0 ? "by command" : how == 1
          ? "the floor is lost" : "a copy");

    check_restored(w);
}


static void
world_boot(world_t *w, event_t *e)
{
    unsigned  i;

    (void) e;

    w->host_up = true;
    w->boot_us = w->now_us;
    world_clock(w);

    for (i = 0; i < 16; i++) {
        w->pm->boot_id[i] = (uint8_t) world_rnd(w);
    }

    TRACE(w, "the host is up again");

    /* in any order */

    world_event(w, w->now_us + world_delay(w, 5 * SEC), world_pm_back);

    for (i = 0; i < w->config.workers; i++) {
        world_event(w, w->now_us + world_delay(w, 5 * SEC),
                    world_worker_back)->a = i;
    }
}


void
world_host_crash(world_t *w, bool restore)
{
    unsigned  i;

    w->count[C_host_crashes]++;
    TRACE(w, "the host crashes");

    for (i = 0; i < w->config.workers; i++) {
        if (w->worker[i].alive) {
            edge_kill(w, &w->worker[i], world_chance(w, 4));
        }
    }

    edge_close_base(w);
    w->pm->n = 0;
    pm_kill(w);
    w->pm_nqueue = 0;
    w->pm_turn = false;

    /* the table is of the last boot: this is how it is known */

    if (w->flows_open) {
        w->flows.file->boot[0] ^= 1;
        ims_flow_table_close(&w->flows);
        w->flows_open = false;
        memset(w->slot_gl, 0, sizeof(w->slot_gl));
    }

    if (restore) {
        world_restore(w);
    }

    w->host_up = false;
    world_event(w, w->now_us + 6 * SEC + world_delay(w, 3 * w->config.delay_us),
                world_boot);
}


/* -- the rest ------------------------------------------------------------ */

static void
world_stall(world_t *w)
{
    uint64_t   us;
    worker_t  *k;

    us = world_chance(w, 30) ? 1000 * SEC + world_below(w, 300 * SEC)
         : world_chance(w, 3) ? world_delay(w, 2 * w->config.delay_us)
         : world_below(w, 4 * SEC);

    if (w->config.stalls) {
        us = 2 * (w->config.ttl + w->config.delay) * MS;
    }

    w->count[C_stalls]++;

    if (world_chance(w, 4)) {
        w->pm_stalled_us = w->now_us + us % (10 * SEC);
        return;
    }

    k = &w->worker[world_below(w, w->config.workers)];

    if (k->alive && k->stalled_us < w->now_us + us) {
        k->stalled_us = w->now_us + us;
        k->ran_us = k->stalled_us;
        TRACE(w, "worker %u stands still for %llu ms", k->index,
              (unsigned long long) us / MS);
    }
}


static void
world_link(world_t *w)
{
    unsigned   peer;
    worker_t  *k;

    k = &w->worker[world_below(w, w->config.workers)];
    peer = (unsigned) world_below(w, WORLD_PEERS);

    if (!k->alive) {
        return;
    }

    switch (world_below(w, 3)) {

    case 0:
        link_stall(w, k, peer, world_chance(w, 3) ? 2 * SEC
                               : world_below(w, 10 * SEC));
        break;

    case 1:
        link_break(w, k, peer, 0);
        break;

    default:
        link_break(w, k, peer, world_below(w, 6 * SEC));
        break;
    }
}


static void
world_admin(world_t *w)
{
    pm_cmd_t     cmd;
    glease_t    *gl;
    identity_t  *id;

    memset(&cmd, 0, sizeof(cmd));
    id = &w->identity[world_below(w, w->config.idents)];
    cmd.user = (uint32_t) world_below(w, w->config.users);

    cmd.a = world_chance(w, 4);

    switch (world_below(w, 10)) {

    case 0:
    case 1:
        gl = id->now;

        if (gl == NULL) {
            return;
        }

        cmd.op = PM_REVOKE_LEASE;
        cmd.ident = gl->ident;
        cmd.lease = gl->lease;
        break;

    case 2:
        cmd.op = PM_REVOKE_IMPU;
        snprintf(cmd.text, sizeof(cmd.text), "%s",
                 id->impu[world_below(w, id->nimpu)]);
        break;

    case 3:
        cmd.op = PM_REVOKE_USER;
        break;

    case 4:
        if (!world_may(w, WORLD_F_FENCE)) {
            return;
        }

        cmd.op = PM_REVOKE_POOL;
        break;

    case 5:
        cmd.op = PM_DISABLE;
        snprintf(cmd.text, sizeof(cmd.text), "%s", id->impi);
        break;

    case 6:
    case 7:
        cmd.op = PM_ENABLE;
        snprintf(cmd.text, sizeof(cmd.text), "%s", id->impi);
        break;

    default:
        if (!world_may(w, WORLD_F_ALTER)) {
            return;
        }

        /* what D truly is must not be set below */

        cmd.op = PM_ALTER;
        cmd.a = 1000 * (w->config.core_min + 6 + world_below(w, 120));
        cmd.b = w->config.delay * (1 + world_below(w, 4)
                                       * world_below(w, 2));
        cmd.c = world_chance(w, 2) ? 1 : 1 + world_below(w, 5000);
        break;
    }

    if (cmd.op != PM_ALTER && !world_may(w, WORLD_F_REVOKE)) {
        return;
    }

    site_admin(w, &cmd);
}


static void
world_trouble(world_t *w)
{
    switch (world_below(w, 10)) {

    case 0:
        if (world_may(w, WORLD_F_PM_KILL) && w->pm_pid) {
            w->pm->n = 0;
            world_pm_crashed(w);
        }

        break;

    case 1:
    case 2:
        if (world_may(w, WORLD_F_WORKER_KILL)) {
            world_worker_kill(w, &w->worker[world_below(w,
                                                        w->config.workers)]);
        }

        break;

    case 3:
        if (world_may(w, WORLD_F_HOST_CRASH) && world_chance(w, 4)) {
            world_host_crash(w, world_may(w, WORLD_F_RESTORE)
                                && world_chance(w, 3));
        }

        break;

    case 4:
        world_backup(w);
        break;

    case 5:
    case 6:
        if (world_may(w, WORLD_F_STALL)) {
            world_stall(w);
        }

        break;

    case 7:
        if (world_may(w, WORLD_F_WALL)) {
            w->wall_ms += (int64_t) world_below(w, 10 * 3600 * 1000)
                          - 5 * 3600 * 1000;
            w->count[C_wall_jumps]++;
        }

        break;

    case 8:
        if (world_may(w, WORLD_F_LINK)) {
            world_link(w);
        }

        break;

    default:
        if (world_chance(w, 4)) {
            world_check_pool(w);
        }

        break;
    }
}


void
world_action(world_t *w)
{
    uint64_t  n;

    if (!w->host_up) {
        return;
    }

    if (w->config.script) {
        user_script(w);
        return;
    }

    n = world_below(w, 100);

    if (n < w->config.trouble) {
        world_trouble(w);

    } else if (n < w->config.trouble + w->config.links) {
        if (world_may(w, WORLD_F_LINK)) {
            world_link(w);
        }

    } else if (n == 99) {
        world_admin(w);

    } else if (world_chance(w, 5)) {
        core_call(w);

    } else {
        user_step(w, &w->device[world_below(w, w->config.devices)]);
    }
}
