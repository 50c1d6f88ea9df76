/*
 * Copyright (C) nginx-ims contributors
 *
 * Events, time, random numbers; the life and the end of a run.
 */

#include <sys/stat.h>
#include <unistd.h>

#include "world.h"


#define WORLD_DRAIN_MAX  (3 * 3600 * SEC)


static const char *const  world_counts[] = {
#define CN(id)  #id,
    WORLD_COUNTS(CN)
#undef CN
};


const char *
world_count_name(unsigned i)
{
    return world_counts[i];
}


/* -- random numbers ------------------------------------------------------ */

uint64_t
world_mix(uint64_t a, uint64_t b)
{
    uint64_t  z;

    z = a * 0x9e3779b97f4a7c15ull + b + 0x632be59bd9b4e019ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;

    return z ^ z >> 31;
}


uint64_t
world_rnd(world_t *w)
{
    w->rng += 0x9e3779b97f4a7c15ull;

    return world_mix(w->rng, 1);
}


uint64_t
world_below(world_t *w, uint64_t n)
{
    return n ? world_rnd(w) % n : 0;
}


bool
world_chance(world_t *w, unsigned in)
{
    return world_below(w, in) == 0;
}


/* faults sit at the ends of what is allowed */

uint64_t
world_delay(world_t *w, uint64_t max_us)
{
    switch (world_below(w, 8)) {

    case 0:
        return max_us;

    case 1:
        return max_us - world_below(w, max_us / 50 + 1);

    case 2:
    case 3:
        return world_below(w, max_us + 1);

    default:
        return world_below(w, max_us < 20 * MS ? max_us + 1 : 20 * MS);
    }
}


bool
world_may(const world_t *w, unsigned feature)
{
    return (w->config.features & feature) != 0 && !w->draining;
}


static uint64_t
config_pick(uint64_t *s, uint64_t from, uint64_t to)
{
    *s += 1;

    return from + world_mix(*s, 77) % (to - from + 1);
}


void
world_config(config_t *c, uint64_t seed)
{
    uint64_t  s;
    unsigned  i;

    memset(c, 0, sizeof(config_t));

    s = world_mix(seed, 12345);

    c->seed = seed;
    c->steps = 20000;
    c->strict = true;
    c->features = WORLD_F_ALL;

    /* a third of the runs do without some of it: faults hide one another */

    if (config_pick(&s, 0, 2) == 0) {
        for (i = 0; i < 18; i++) {
            if (config_pick(&s, 0, 1)) {
                c->features &= ~(1u << i);
            }
        }
    }

    c->workers = (unsigned) config_pick(&s, 1, WORLD_WORKERS);
    c->users = (unsigned) config_pick(&s, 3, WORLD_USERS);
    c->devices = (unsigned) config_pick(&s, c->users, WORLD_DEVICES);
    c->idents = (unsigned) config_pick(&s, 1, c->users < WORLD_IDENTS
                                              ? c->users : WORLD_IDENTS);

    c->delay_us = config_pick(&s, 6, 40) * SEC;
    c->delay = c->delay_us / MS;
    c->core_min = (uint32_t) config_pick(&s, 1, 20);
    c->ttl = 1000 * config_pick(&s, c->core_min + 6, c->core_min + 120);

    /* the smallest margin: a rule that is a second wrong is seen */

    c->margin = config_pick(&s, 0, 3) ? 1 : 1000 * config_pick(&s, 1, 5);
    c->grace = 1000 * config_pick(&s, 1, 12);
    c->gap_us = config_pick(&s, 20, 400) * MS;

    c->reg_raises = config_pick(&s, 0, 3) != 0;
    c->reg_min = (uint32_t) config_pick(&s, 1, c->core_min);

    if (config_pick(&s, 0, 1)) {
        c->reg_min = c->core_min;
    }

    if (!c->reg_raises) {
        c->reg_min = (uint32_t) config_pick(&s, 1, 2 * c->core_min);
    }

    c->reg_max = config_pick(&s, 0, 3) ? UINT32_MAX
                 : (uint32_t) config_pick(&s, c->reg_min, 200);
    c->reg_instance = config_pick(&s, 0, 1) != 0;
    c->reg_cseq = config_pick(&s, 0, 1) != 0;
    c->reg_under = config_pick(&s, 0, 2) ? 100 : 90;

    c->purge = config_pick(&s, 0, 1) != 0;
    c->replay = world_mix(seed, 777) % 2;
    c->trouble = 2;
    c->links = 1;
}


void
world_mutant_config(config_t *c)
{
    if (world_mutant != MU_NONE) {
        c->replay = false;
    }

    switch (world_mutant) {

    case MU_NO_HOLDER:

        c->script = true;
        c->users = 2;
        c->devices = 1;
        c->idents = 1;
        c->gap_us = SEC;
        break;

    case MU_DELAY_OF_POOL:
        c->features = WORLD_F_ALTER|WORLD_F_REVOKE|WORLD_F_LINK|WORLD_F_LOSS;
        c->ttl += 60000;
        c->links = 2;
        break;

    case MU_LEAVING_ANY_TIME:
        c->features = WORLD_F_STALL;
        c->stalls = true;
        c->trouble = 4;
        c->users = WORLD_USERS;
        c->devices = WORLD_DEVICES;
        c->idents = 2;
        c->gap_us = 200 * MS;
        break;

    case MU_ANSWER_ENTERS:
        c->features = WORLD_F_STALL|WORLD_F_BARE;
        c->trouble = 4;
        c->gap_us = 20 * MS;
        c->ttl += 60000;
        break;

    case MU_PURGE_WITHOUT_D:
    case MU_PURGE_UNPROVEN:
        c->purge = true;
        break;

    case MU_REPLAY_NO_LIVE:
    case MU_REPLAY_NO_LINES:
    case MU_REPLAY_RETURN:
        c->features |= WORLD_F_HOST_CRASH|WORLD_F_RESTORE;
        c->replay = true;
        c->purge = false;
        c->trouble = 4;

        if (world_mutant == MU_REPLAY_NO_LINES) {
            /* one that nobody had at the last commit */
            c->users = WORLD_IDENTS;
            c->devices = WORLD_IDENTS;
            c->idents = WORLD_IDENTS;
            c->ttl = 1000 * (c->core_min + 10);
        }

        break;

    case MU_NO_CORE_MIN:
        c->reg_raises = true;
        c->reg_min = c->core_min;
        break;

    default:
        break;
    }
}


/* -- events: a heap ------------------------------------------------------ */

static bool
event_before(const event_t *a, const event_t *b)
{
    if (a->at_us != b->at_us) {
        return a->at_us < b->at_us;
    }

    /* nginx reads before it looks at its timers */

    if (a->timer != b->timer) {
        return b->timer;
    }

    return a->order < b->order;
}


static void
event_push(world_t *w, event_t *e)
{
    unsigned  i, up;

    if (w->nheap == w->maxheap) {
        w->maxheap = w->maxheap ? 2 * w->maxheap : 1024;
        w->heap = realloc(w->heap, w->maxheap * sizeof(event_t *));

        if (w->heap == NULL) {
            abort();
        }
    }

    for (i = w->nheap++; i != 0; i = up) {
        up = (i - 1) / 2;

        if (!event_before(e, w->heap[up])) {
            break;
        }

        w->heap[i] = w->heap[up];
    }

    w->heap[i] = e;
}


static event_t *
event_pop(world_t *w)
{
    event_t   *first, *last;
    unsigned   i, down;

    first = w->heap[0];
    last = w->heap[--w->nheap];

    for (i = 0; (down = 2 * i + 1) < w->nheap; i = down) {

        if (down + 1 < w->nheap
            && event_before(w->heap[down + 1], w->heap[down]))
        {
            down++;
        }

        if (!event_before(w->heap[down], last)) {
            break;
        }

        w->heap[i] = w->heap[down];
    }

    if (w->nheap) {
        w->heap[i] = last;
    }

    return first;
}


static void
event_free(event_t *e)
{
    free(e->p);
    free(e);
}


static event_t *
event_new(world_t *w, worker_t *k, uint64_t at_us, event_pt fn, bool timer)
{
    event_t  *e;

    e = calloc(1, sizeof(event_t));
    if (e == NULL) {
        abort();
    }

    e->at_us = at_us < w->now_us ? w->now_us : at_us;
    e->order = w->order++;
    e->seed = world_rnd(w);
    e->fn = fn;
    e->timer = timer;

    if (k) {
        e->worker = k;
        e->life = k->life;
    }

    event_push(w, e);

    return e;
}


event_t *
world_event(world_t *w, uint64_t at_us, event_pt fn)
{
    return event_new(w, NULL, at_us, fn, false);
}


event_t *
world_timer(world_t *w, uint64_t at_us, event_pt fn)
{
    return event_new(w, NULL, at_us, fn, true);
}


event_t *
world_worker_event(world_t *w, worker_t *k, uint64_t at_us, event_pt fn)
{
    return event_new(w, k, at_us, fn, false);
}


event_t *
world_worker_timer(world_t *w, worker_t *k, uint64_t at_us, event_pt fn)
{
    return event_new(w, k, at_us, fn, true);
}


/* -- time ---------------------------------------------------------------- */

uint64_t
world_boottime(const world_t *w)
{
    return 5000 + (w->now_us - w->boot_us) / MS;
}


uint64_t
world_wall(const world_t *w)
{
    return 1700000000000ull + w->now_us / MS + (uint64_t) w->wall_ms;
}


void
world_clock(world_t *w)
{
    w->pm->boottime = world_boottime(w);
    w->pm->wall = world_wall(w);
}


static uint64_t
world_clock_boottime(void *ctx)
{
    return ((pm_t *) ctx)->boottime;
}


static uint64_t
world_clock_wall(void *ctx)
{
    return ((pm_t *) ctx)->wall;
}


static int
world_clock_boot_id(void *ctx, uint8_t *id)
{
    memcpy(id, ((pm_t *) ctx)->boot_id, 16);

    return 0;
}


static int
world_clock_random(void *ctx, void *dst, size_t n)
{
    size_t  i;
    pm_t   *pm;

    pm = ctx;

    for (i = 0; i < n; i++) {
        ((uint8_t *) dst)[i] = (uint8_t) world_mix(pm->random++, 3);
    }

    return 0;
}


/* -- trace and failure --------------------------------------------------- */

void
world_trace(world_t *w, const char *fmt, ...)
{
    va_list  args;

    printf("%10.3f ", (double) w->now_us / SEC);
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    putchar('\n');
}


void
world_fail(world_t *w, const char *what, const char *fmt, ...)
{
    va_list  args;

    if (w->failed) {
        return;
    }

    w->failed = true;
    snprintf(w->what, sizeof(w->what), "%s", what);
    va_start(args, fmt);
    vsnprintf(w->why, sizeof(w->why), fmt, args);
    va_end(args);

    TRACE(w, "FAILED %s: %s", w->what, w->why);
}


/* -- a run --------------------------------------------------------------- */

static bool
world_keys(world_t *w)
{
    char  err[256];

    static const char  flow_key[] =
        "1 000102030405060708090a0b0c0d0e0f"
        "101112131415161718191a1b1c1d1e1f\n";

    if (!ims_flow_keys_parse(&w->keys, IMS_STR(flow_key))
        || ims_token_key_load(&w->sign, IMS_TOKEN_HS256,
                              IMS_STR("a secret of the world, 32 bytes!"),
                              true, IMS_STR("k"), err, sizeof(err))
           != 0)
    {
        return false;
    }

    w->issuer.iss = IMS_STR("https://site.example");
    w->issuer.aud = IMS_STR("edge.example");
    w->issuer.alg = IMS_TOKEN_HS256;
    w->issuer.keys = &w->sign;
    w->issuer.nkeys = 1;
    w->issuer.leeway = 5;
    w->issuers[0] = &w->issuer;

    return true;
}


/* memory is fast, and no test here cuts the power */

static bool
world_directory(world_t *w)
{
    const char  *where;

    where = getenv("IMS_TEST_DIR");

    if (where == NULL) {
        where = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : ".";
    }

    snprintf(w->base, sizeof(w->base), "%.40s/ims-world-XXXXXX", where);

    if (mkdtemp(w->base) == NULL) {
        return false;
    }

    snprintf(w->dir, sizeof(w->dir), "%s/pool", w->base);
    snprintf(w->state, sizeof(w->state), "%s/state", w->base);

    return mkdir(w->state, 0700) == 0;
}


static void
world_identities(world_t *w)
{
    unsigned     i, k;
    uint8_t      canon[64];
    ptrdiff_t    n;
    identity_t  *id;

    for (i = 0; i < w->config.idents; i++) {
        id = &w->identity[i];
        id->ident = w->pm->first[i];
        id->nimpu = 1 + i % WORLD_IMPUS;

        snprintf(id->impi, sizeof(id->impi), "web-%02u@" WORLD_HOME, i);

        for (k = 0; k < id->nimpu; k++) {
            snprintf(id->impu[k], sizeof(id->impu[k]),
                     k == 0 ? "sip:web-%02u@" WORLD_HOME
                     : k == 1 ? "tel:+15550%03u"
                     : "sip:also-%02u@" WORLD_HOME, i);

            n = ims_sip_canon(canon, sizeof(canon), ims_str_z(id->impu[k]));

            if (n > 0) {
                memcpy(id->impu[k], canon, (size_t) n);
                id->impu[k][n] = '\0';
            }
        }
    }
}


static bool
world_begin(world_t *w)
{
    int       rc;
    unsigned  i;

    if (!world_directory(w) || !world_keys(w) || !pm_share(w)) {
        return false;
    }

    w->host_up = true;
    memset(w->pm->boot_id, 0xb0, sizeof(w->pm->boot_id));
    w->pm->random = w->config.seed;
    w->pm->config = w->config;
    w->pm->config.mask = NULL;
    w->pm->mutant = world_mutant;
    w->pool_ttl = w->config.ttl;
    w->pool_delay = w->config.delay;
    w->pool_margin = w->config.margin;
    w->pm->delay = w->config.delay;
    world_clock(w);

    w->clock.boottime = world_clock_boottime;
    w->clock.wall = world_clock_wall;
    w->clock.boot_id = world_clock_boot_id;
    w->clock.random = world_clock_random;
    w->clock.ctx = w->pm;

    if (!pm_start(w) || !edge_open_base(w, &rc)) {
        return false;
    }

    check_reboot(w);
    world_identities(w);
    user_init(w);

    for (i = 0; i < w->config.workers; i++) {
        w->worker[i].index = i;

        if (!edge_start(w, &w->worker[i])) {
            return false;
        }
    }

    return true;
}


static void
world_end(world_t *w)
{
    char       cmd[128];
    unsigned   i;
    glease_t  *gl;

    for (i = 0; i < w->config.workers; i++) {
        if (w->worker[i].alive) {
            edge_kill(w, &w->worker[i], false);
        }
    }

    edge_close_base(w);

    if (w->flows_open) {
        ims_flow_table_close(&w->flows);
    }

    pm_kill(w);
    pm_unshare(w);
    ims_token_key_free(w->sign);

    for (i = 0; i < w->nheap; i++) {
        event_free(w->heap[i]);
    }

    free(w->heap);

    while (w->leases) {
        gl = w->leases;
        w->leases = gl->next;
        free(gl);
    }

    if (w->base[0]) {
        snprintf(cmd, sizeof(cmd), "rm -rf '%s'", w->base);
        (void) !system(cmd);
    }
}


static uint64_t
world_action_seed(const world_t *w, uint64_t k)
{
    return world_mix(w->config.seed, 1000 + k);
}


static bool
world_left_out(const world_t *w, uint64_t k)
{
    const config_t  *c;

    c = &w->config;

    return c->mask != NULL
           && (k >= c->nmask || (c->mask[k / 8] >> k % 8 & 1));
}


/* mostly about the mean, sometimes nothing for as long as a lease */

static uint64_t
world_gap(world_t *w)
{
    if (world_chance(w, 400)) {
        return world_below(w, 2 * w->config.ttl * MS);
    }

    return world_below(w, 2 * w->config.gap_us);
}


static void
world_action_event(world_t *w, event_t *e)
{
    uint64_t  k, at;

    k = e->a;

    if (w->draining || (w->config.mask != NULL && k >= w->config.nmask)) {
        return;
    }

    w->actions = k + 1;
    w->rng = world_action_seed(w, k + 1);
    at = w->now_us + world_gap(w);
    world_event(w, at, world_action_event)->a = k + 1;

    if (!world_left_out(w, k)) {
        w->rng = world_mix(world_action_seed(w, k), 5);
        world_action(w);
    }
}


/* false: it was put off, or nobody is there for it */

static bool
world_turn(world_t *w, event_t *e)
{
    worker_t  *k;

    k = e->worker;

    if (k == NULL) {
        return true;
    }

    if (!k->alive || k->life != e->life) {
        return false;
    }

    if (k->stalled_us > w->now_us) {
        /* in the order in which they came, behind what waits there already */
        e->at_us = k->stalled_us;
        event_push(w, e);
        return false;
    }

    return true;
}


static void
world_step(world_t *w)
{
    event_t  *e;

    e = event_pop(w);

    w->now_us = e->at_us;
    world_clock(w);

    if (!world_turn(w, e)) {
        if (e->worker == NULL || !e->worker->alive
            || e->worker->life != e->life)
        {
            event_free(e);
        }

        return;
    }

    w->rng = e->seed;
    w->steps += !e->timer;
    e->fn(w, e);
    event_free(e);
}


/*
 * No more actions and no more faults: everybody leaves, and when all workers
 * have run again for the longest term, nothing may be left.
 */

static void
world_drain(world_t *w)
{
    uint64_t  until;
    unsigned  i;

    w->draining = true;

    for (i = 0; i < w->config.devices; i++) {
        user_disconnect(w, &w->device[i]);
    }

    until = w->now_us;

    for (i = 0; i < w->config.workers; i++) {
        if (until < w->worker[i].stalled_us) {
            until = w->worker[i].stalled_us;
        }
    }

    until += 4 * (w->config.ttl + w->pool_ttl + w->config.delay
                  + w->pool_delay) * MS + 600 * SEC;

    while (!w->failed && w->nheap && w->heap[0]->at_us < until) {
        world_step(w);
    }

    if (!w->failed) {
        check_end(w);
    }
}


void
world_run(world_t *w, const config_t *c)
{
    memset(w, 0, sizeof(world_t));

    w->config = *c;
    w->rng = world_mix(c->seed, 1);
    w->flows.fd = -1;
    w->pm_fd = -1;

    if (!world_begin(w)) {
        world_fail(w, "begin", "the world could not be made: %s",
                   w->pm ? w->pm->err : "");
    }

    if (!w->failed) {
        world_event(w, w->now_us, world_action_event);
    }

    while (!w->failed && w->nheap
           && (c->mask != NULL ? w->heap[0]->at_us <= c->until_us
                               : w->steps < c->steps))
    {
        world_step(w);
    }

    if (!w->failed && c->mask == NULL) {
        world_drain(w);
    }

    world_end(w);
}
