/*
 * Copyright (C) nginx-ims contributors
 *
 * The reader.  Every function takes one snapshot, copies what it needs and
 * gives the snapshot back, by the end of the event loop's turn at the latest: a
 * snapshot held across two turns would make the file grow.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "ims_pool_int.h"


static int ims_pool_reader_files(ims_pool_reader_t *r, const char *dir,
    char *err, size_t errlen);
static int ims_pool_reader_env(ims_pool_reader_t *r, char *err,
    size_t errlen);
static int ims_pool_reader_trees(ims_pool_reader_t *r);
static int ims_pool_reader_begin(ims_pool_reader_t *r);
static int ims_pool_reader_same(ims_pool_reader_t *r, char *err,
    size_t errlen);
static int ims_pool_refresh(ims_pool_reader_t *r);
static size_t ims_pool_newest(const ims_pool_reader_t *r);
static void ims_pool_reset(ims_pool_reader_t *r);
static int ims_pool_done(ims_pool_reader_t *r, int rc);
static const ims_pool_seen_t *ims_pool_copy_pool(ims_pool_reader_t *r,
    uint32_t number);
static int ims_pool_copy_look(ims_pool_reader_t *r, uint64_t ident,
    ims_pool_look_t *out);
static int ims_pool_copy_names(ims_pool_reader_t *r, uint64_t ident,
    ims_pool_names_t *out);
static int ims_pool_copy_feed(ims_pool_reader_t *r);


int
ims_pool_open(ims_pool_reader_t **rp, const char *dir, char *err,
    size_t errlen)
{
    return ims_pool_open_clock(rp, dir, NULL, err, errlen);
}


int
ims_pool_open_clock(ims_pool_reader_t **rp, const char *dir,
    const ims_pool_clock_t *clock, char *err, size_t errlen)
{
    int                 rc;
    ims_pool_reader_t  *r;

    *rp = NULL;

    r = calloc(1, sizeof(ims_pool_reader_t));
    if (r == NULL) {
        return ims_pool_err(err, errlen, IMS_POOL_UNKNOWN, "no memory");
    }

    r->clock = clock == NULL ? &ims_pool_clock : clock;
    r->recent = &r->own;

    rc = ims_pool_reader_files(r, dir, err, errlen);

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_reader_env(r, err, errlen);
    }

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_reader_same(r, err, errlen);
    }

    if (rc != IMS_POOL_OK) {
        ims_pool_close(r);
        return rc;
    }

    *rp = r;

    return IMS_POOL_OK;
}


/*
 * Both files must be there already: a reader that came first would make a
 * lock file of LMDB's default size and its own umask, and the pool manager's
 * wish for more slots would then be ignored.
 */
static int
ims_pool_reader_files(ims_pool_reader_t *r, const char *dir, char *err,
    size_t errlen)
{
    int          rc;
    char         path[IMS_POOL_PATH_MAX + 64];
    struct stat  sb;

    if (strlen(dir) >= sizeof(r->dir)) {
        return ims_pool_err(err, errlen, IMS_POOL_NOT_OURS, "path too long");
    }

    strcpy(r->dir, dir);

    rc = ims_pool_current(dir, r->target, sizeof(r->target), NULL);

    if (rc != IMS_POOL_OK) {
        return ims_pool_err(err, errlen, rc, "\"%s/current\": %s", dir,
                            ims_pool_strerror(rc));
    }

    snprintf(path, sizeof(path), "%s/%s/lock.mdb", dir, r->target);

    if (stat(path, &sb) == -1) {
        goto failed;
    }

    snprintf(path, sizeof(path), "%s/%s/data.mdb", dir, r->target);

    if (stat(path, &sb) == -1) {
        goto failed;
    }

    r->dev = sb.st_dev;
    r->ino = sb.st_ino;

    return IMS_POOL_OK;

failed:

    rc = errno == EACCES ? IMS_POOL_NO_ACCESS : IMS_POOL_NOT_THERE;

    return ims_pool_err(err, errlen, rc, "\"%s\": %s", path, strerror(errno));
}


static int
ims_pool_reader_env(ims_pool_reader_t *r, char *err, size_t errlen)
{
    int   rc;
    char  path[IMS_POOL_PATH_MAX + 64];

    snprintf(path, sizeof(path), "%s/%s", r->dir, r->target);

    rc = mdb_env_create(&r->env);

    if (rc == 0) {
        rc = mdb_env_set_maxdbs(r->env, IMS_POOL_TREES);
    }

    if (rc == 0) {
        rc = mdb_env_open(r->env, path, MDB_RDONLY|MDB_NOTLS, 0660);
    }

    if (rc == 0) {
        rc = ims_pool_env_whole(r->env);
    }

    if (rc == 0) {
        rc = ims_pool_reader_trees(r);
    }

    if (rc == 0) {
        rc = ims_pool_reader_begin(r);
    }

    switch (rc) {
    case 0:
        return IMS_POOL_OK;

    case ENOENT:
        rc = IMS_POOL_NOT_THERE;
        break;

    case EACCES:
        rc = IMS_POOL_NO_ACCESS;
        break;

    case MDB_INVALID:
    case MDB_NOTFOUND:
        rc = IMS_POOL_NOT_OURS;
        break;

    case MDB_VERSION_MISMATCH:
        rc = IMS_POOL_SCHEMA_DIFFERS;
        break;

    default:
        return ims_pool_err(err, errlen, IMS_POOL_UNKNOWN, "\"%s\": %s", path,
                            mdb_strerror(rc));
    }

    return ims_pool_err(err, errlen, rc, "\"%s\": %s", path,
                        ims_pool_strerror(rc));
}


/* the handles live on only if the transaction that made them commits */

static int
ims_pool_reader_trees(ims_pool_reader_t *r)
{
    int       rc, dead;
    MDB_txn  *txn;

    rc = mdb_txn_begin(r->env, NULL, MDB_RDONLY, &txn);

    if (rc == MDB_READERS_FULL) {
        (void) mdb_reader_check(r->env, &dead);
        rc = mdb_txn_begin(r->env, NULL, MDB_RDONLY, &txn);
    }

    if (rc != 0) {
        return rc;
    }

    rc = ims_pool_trees(txn, r->dbi, 0);

    if (rc != 0) {
        mdb_txn_abort(txn);
        return rc;
    }

    return mdb_txn_commit(txn);
}


/* takes the slot: from here on it is only renewed and reset */

static int
ims_pool_reader_begin(ims_pool_reader_t *r)
{
    int  rc, dead;

    rc = mdb_txn_begin(r->env, NULL, MDB_RDONLY, &r->txn);

    if (rc == MDB_READERS_FULL) {
        (void) mdb_reader_check(r->env, &dead);
        rc = mdb_txn_begin(r->env, NULL, MDB_RDONLY, &r->txn);
    }

    if (rc != 0) {
        r->txn = NULL;
        return rc;
    }

    rc = mdb_cursor_open(r->txn, r->dbi[IMS_POOL_T_IDENT], &r->records);

    if (rc != 0) {
        r->records = NULL;
    }

    mdb_txn_reset(r->txn);

    return rc;
}


/*
 * Is it ours, and does whoever writes it live in the same kernel and
 * namespaces?  Elsewhere neither pool time nor LMDB's table of readers, which
 * goes by pid, would mean the same.
 */
static int
ims_pool_reader_same(ims_pool_reader_t *r, char *err, size_t errlen)
{
    int                      rc;
    uint64_t                 pid_ns, time_ns;
    const ims_pool_state_t  *s;

    if (ims_pool_where(r->clock, r->boot_id, &pid_ns, &time_ns) != 0) {
        return ims_pool_err(err, errlen, IMS_POOL_UNKNOWN,
                            "the boot id cannot be read");
    }

    rc = mdb_txn_renew(r->txn);

    if (rc != 0) {
        return ims_pool_err(err, errlen, IMS_POOL_UNKNOWN, "renew: %s",
                            mdb_strerror(rc));
    }

    rc = ims_pool_refresh(r);
    r->feed_txn = mdb_txn_id(r->txn);
    mdb_txn_reset(r->txn);

    if (rc != IMS_POOL_OK) {
        return ims_pool_err(err, errlen, rc, "\"%s/%s\": %s", r->dir,
                            r->target, ims_pool_strerror(rc));
    }

    s = &r->state;
    r->feed_seq = s->feed_seq;

    if (memcmp(s->clock.boot_id, r->boot_id, sizeof(r->boot_id)) != 0) {
        return ims_pool_err(err, errlen, IMS_POOL_OTHER_KERNEL,
                            "the pool manager has not started in this boot");
    }

    if (s->pid_ns != pid_ns || s->time_ns != time_ns) {
        return ims_pool_err(err, errlen, IMS_POOL_OTHER_KERNEL,
                            "the pool manager runs in another %s namespace",
                            s->pid_ns != pid_ns ? "PID" : "time");
    }

    return IMS_POOL_OK;
}


int
ims_pool_reader_borrow(ims_pool_reader_t **rp, MDB_env *env,
    const MDB_dbi *dbi, const ims_pool_clock_t *clock,
    ims_pool_recent_t *recent)
{
    int                 rc;
    uint64_t            ns;
    ims_pool_reader_t  *r;

    r = calloc(1, sizeof(ims_pool_reader_t));
    if (r == NULL) {
        return IMS_POOL_INTERNAL;
    }

    r->env = env;
    r->clock = clock;
    r->borrowed = 1;
    r->recent = recent == NULL ? &r->own : recent;
    memcpy(r->dbi, dbi, sizeof(r->dbi));

    rc = ims_pool_where(clock, r->boot_id, &ns, &ns);

    if (rc != 0 || ims_pool_reader_begin(r) != 0) {
        ims_pool_close(r);
        return IMS_POOL_INTERNAL;
    }

    rc = ims_pool_snap(r);

    if (rc != IMS_POOL_OK) {
        ims_pool_close(r);
        return rc;
    }

    r->feed_txn = mdb_txn_id(r->txn);
    r->feed_seq = r->state.feed_seq;
    ims_pool_unsnap(r);

    *rp = r;

    return IMS_POOL_OK;
}


void
ims_pool_close(ims_pool_reader_t *r)
{
    if (r == NULL) {
        return;
    }

    if (r->records != NULL) {
        mdb_cursor_close(r->records);
    }

    if (r->txn != NULL) {
        mdb_txn_abort(r->txn);
    }

    if (r->env != NULL && !r->borrowed) {
        mdb_env_close(r->env);
    }

    ims_pool_recent_free(&r->own);
    ims_pool_hint_free(&r->hints);
    free(r);
}


uint64_t
ims_pool_pt(const ims_pool_reader_t *r)
{
    return ims_pool_pt_at(&r->state.clock, r->clock->boottime(r->clock->ctx),
                          r->boot_id);
}


/*
 * The state of the snapshot, and the renewals up to it; nothing has changed if
 * the snapshot's number has not.
 */
static int
ims_pool_refresh(ims_pool_reader_t *r)
{
    int               rc;
    size_t            id;
    ims_pool_state_t  state;

    id = mdb_txn_id(r->txn);

    if (id == r->state_txn) {
        return r->state.gone ? IMS_POOL_REOPEN : IMS_POOL_OK;
    }

    rc = ims_pool_state(r->txn, r->dbi, &state);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    if (r->state_txn != 0
        && memcmp(state.uuid, r->state.uuid, sizeof(state.uuid)) != 0)
    {
        return IMS_POOL_REOPEN;
    }

    if (r->recent == &r->own) {
        rc = ims_pool_recent_read(&r->own, r->txn, r->dbi, &state, NULL);

        if (rc != IMS_POOL_OK) {
            return rc;
        }
    }

    r->state = state;
    r->state_txn = id;

    return state.gone ? IMS_POOL_REOPEN : IMS_POOL_OK;
}


/*
 * The environment's newest commit; 0: not known, which no snapshot has.
 *
 * During a commit it is ahead of what renew gives: so it is compared with the
 * number of a snapshot that was read, never taken for it.
 */
static size_t
ims_pool_newest(const ims_pool_reader_t *r)
{
    MDB_envinfo  info;

    return mdb_env_info(r->env, &info) == 0 ? info.me_last_txnid : 0;
}


static void
ims_pool_reset(ims_pool_reader_t *r)
{
    mdb_txn_reset(r->txn);
    r->kept = 0;
    r->bound = 0;
}


int
ims_pool_snap(ims_pool_reader_t *r)
{
    int  rc;

    if (r->kept) {
        if (ims_pool_newest(r) == r->state_txn) {
            return IMS_POOL_OK;
        }

        ims_pool_reset(r);
    }

    rc = mdb_txn_renew(r->txn);

    if (rc == MDB_MAP_RESIZED) {
        /* the writer made the map larger; no snapshot is open here */
        rc = mdb_env_set_mapsize(r->env, 0);

        if (rc == 0) {
            rc = mdb_txn_renew(r->txn);
        }
    }

    if (rc != 0) {
        return IMS_POOL_UNKNOWN;
    }

    rc = ims_pool_refresh(r);

    if (rc != IMS_POOL_OK) {
        ims_pool_reset(r);

        /* "not ours" all of a sudden is nothing to reason about */
        return rc == IMS_POOL_REOPEN ? rc : IMS_POOL_UNKNOWN;
    }

    return IMS_POOL_OK;
}


void
ims_pool_unsnap(ims_pool_reader_t *r)
{
    if (r->turn) {
        r->kept = 1;

    } else {
        ims_pool_reset(r);
    }
}


void
ims_pool_turn_begin(ims_pool_reader_t *r)
{
    r->turn = 1;
}


void
ims_pool_turn_end(ims_pool_reader_t *r)
{
    r->turn = 0;

    if (r->kept) {
        ims_pool_reset(r);
    }
}


/* after a failure, of which LMDB may have made a note in the snapshot */

static int
ims_pool_done(ims_pool_reader_t *r, int rc)
{
    if (rc == IMS_POOL_UNKNOWN) {
        ims_pool_reset(r);

    } else {
        ims_pool_unsnap(r);
    }

    return rc;
}


/*
 * The row of a pool, which is read once for a snapshot: far more looks than
 * commits are made.  NULL: nothing is known.
 */
static const ims_pool_seen_t *
ims_pool_copy_pool(ims_pool_reader_t *r, uint32_t number)
{
    int                     rc;
    uint8_t                 key[4];
    ims_str_t               row;
    ims_pool_seen_t        *p;
    const ims_pool_head_t  *h;

    p = &r->pools[number % IMS_POOL_SEEN];
    h = &p->head;

    if (p->txn == r->state_txn && h->pool == number) {
        return p;
    }

    p->txn = 0;
    ims_pool_be32(key, number);

    rc = ims_pool_row(r->txn, r->dbi[IMS_POOL_T_POOL], key, sizeof(key),
                      &row);

    if (rc != IMS_POOL_OK || row.n < sizeof(ims_pool_head_t)) {
        /* an identity without its pool is damage, not "no" */
        return NULL;
    }

    memcpy(&p->head, row.p, sizeof(ims_pool_head_t));

    if (h->pool != number || h->nhome > IMS_POOL_HOME_MAX
        || h->nname > IMS_POOL_NAME_MAX
        || row.n < sizeof(ims_pool_head_t) + h->nname + h->nhome)
    {
        return NULL;
    }

    memcpy(p->name, row.p + sizeof(ims_pool_head_t), h->nname);
    p->name[h->nname] = '\0';
    memcpy(p->home, row.p + sizeof(ims_pool_head_t) + h->nname, h->nhome);
    p->home[h->nhome] = '\0';

    p->txn = r->state_txn;

    return p;
}


static int
ims_pool_copy_look(ims_pool_reader_t *r, uint64_t ident, ims_pool_look_t *out)
{
    int                     rc;
    const void             *entry;
    const uint8_t          *slot;
    const ims_pool_head_t  *h;
    const ims_pool_seen_t  *pool;

    if (!r->bound) {
        if (mdb_cursor_renew(r->txn, r->records) != 0) {
            return IMS_POOL_UNKNOWN;
        }

        r->bound = 1;
    }

    rc = ims_pool_slot(r->records, ident, &slot, &entry);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    ims_pool_hint_note(&r->hints, ident, slot, entry);

    if (!ims_pool_slot_rec(slot, ident, &out->rec)) {
        return IMS_POOL_UNKNOWN;
    }

    (void) ims_pool_recent_add(r->recent, &out->rec);

    pool = ims_pool_copy_pool(r, out->rec.pool);

    if (pool == NULL) {
        return IMS_POOL_UNKNOWN;
    }

    h = &pool->head;

    out->fence = h->fence;
    out->ttl = h->ttl;
    out->ttl_max = h->ttl_max;

    /*
     * with a D raised since, this lease still rests by the one of its last
     * grant: nothing may be under way for longer
     */

    out->delay = out->rec.lease != 0 && out->rec.linger < h->delay
                 ? out->rec.linger : h->delay;
    out->core_min = h->core_min;
    out->edges = h->edges;
    out->nhome = (uint8_t) h->nhome;

    memcpy(out->home, pool->home, h->nhome + 1u);
    memcpy(out->pool, pool->name, h->nname + 1u);

    out->pt = ims_pool_pt(r);

    return IMS_POOL_OK;
}


static int
ims_pool_copy_names(ims_pool_reader_t *r, uint64_t ident,
    ims_pool_names_t *out)
{
    int        rc;
    uint8_t    key[8];
    ims_str_t  row;

    ims_pool_be64(key, ident);

    rc = ims_pool_row(r->txn, r->dbi[IMS_POOL_T_NAME], key, sizeof(key),
                      &row);

    if (rc == IMS_POOL_OK && !ims_pool_names_decode(row, ident, out)) {
        return IMS_POOL_UNKNOWN;
    }

    return rc;
}


/* what a look will read, on its way while the snapshot is taken */

static void
ims_pool_fetch(ims_pool_reader_t *r, uint64_t ident)
{
    ims_pool_hint_fetch(&r->hints, ident);
    ims_pool_recent_fetch(r->recent, ident);
}


int
ims_pool_look(ims_pool_reader_t *r, uint64_t ident, ims_pool_look_t *out)
{
    int  rc;

    ims_pool_fetch(r, ident);
    rc = ims_pool_snap(r);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    return ims_pool_done(r, ims_pool_copy_look(r, ident, out));
}


int
ims_pool_look_names(ims_pool_reader_t *r, uint64_t ident,
    ims_pool_look_t *out, ims_pool_names_t *names)
{
    int  rc;

    ims_pool_fetch(r, ident);
    rc = ims_pool_snap(r);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    rc = ims_pool_copy_look(r, ident, out);

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_copy_names(r, ident, names);

        if (rc == IMS_POOL_NOTFOUND) {
            /* a record without names is damage */
            rc = IMS_POOL_UNKNOWN;
        }
    }

    return ims_pool_done(r, rc);
}


int
ims_pool_names(ims_pool_reader_t *r, uint64_t ident, ims_pool_names_t *out)
{
    int  rc;

    rc = ims_pool_snap(r);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    return ims_pool_done(r, ims_pool_copy_names(r, ident, out));
}


static int
ims_pool_by_key(ims_pool_reader_t *r, const void *key, size_t nkey,
    uint64_t *ident, unsigned *ordinal)
{
    int             rc;
    ims_pool_uri_t  uri;

    if (nkey == 0 || nkey > IMS_POOL_KEY_MAX) {
        return IMS_POOL_NOTFOUND;
    }

    rc = ims_pool_snap(r);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    rc = ims_pool_row_copy(r->txn, r->dbi[IMS_POOL_T_URI], key, nkey, &uri,
                           sizeof(uri));
    rc = ims_pool_done(r, rc);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    *ident = uri.ident;

    if (ordinal != NULL) {
        *ordinal = uri.ordinal;
    }

    return IMS_POOL_OK;
}


int
ims_pool_by_uri(ims_pool_reader_t *r, ims_str_t folded, uint64_t *ident,
    unsigned *ordinal)
{
    if (folded.n && folded.p[0] <= IMS_POOL_FORMER) {
        /* the key of an IMPI, or of what was removed */
        return IMS_POOL_NOTFOUND;
    }

    return ims_pool_by_key(r, folded.p, folded.n, ident, ordinal);
}


int
ims_pool_by_impi(ims_pool_reader_t *r, ims_str_t impi, uint64_t *ident)
{
    uint8_t  key[IMS_POOL_KEY_MAX];

    return ims_pool_by_key(r, key, ims_pool_impi_key(key, sizeof(key), impi),
                           ident, NULL);
}


/*
 * New rows to r->feed.  Returns their number, or GAP when the rows do not
 * follow the last one without a hole, or are too many.
 */
static int
ims_pool_copy_feed(ims_pool_reader_t *r)
{
    int                   rc;
    uint64_t              n, i;
    uint8_t               key[8];
    ims_pool_feed_row_t  *row;

    if (r->state.feed_seq < r->feed_seq
        || r->state.feed_seq - r->feed_seq > IMS_POOL_FEED_MAX)
    {
        return IMS_POOL_GAP;
    }

    n = r->state.feed_seq - r->feed_seq;

    for (i = 0; i < n; i++) {
        row = &r->feed[i];
        ims_pool_be64(key, r->feed_seq + 1 + i);

        rc = ims_pool_row_copy(r->txn, r->dbi[IMS_POOL_T_FEED], key,
                               sizeof(key), row, sizeof(*row));

        if (rc == IMS_POOL_NOTFOUND) {
            return IMS_POOL_GAP;
        }

        if (rc != IMS_POOL_OK || row->seq != r->feed_seq + 1 + i) {
            return IMS_POOL_UNKNOWN;
        }
    }

    return (int) n;
}


int
ims_pool_feed(ims_pool_reader_t *r, ims_pool_feed_pt cb, void *ctx)
{
    int     n, i;
    size_t  id;

    if (ims_pool_newest(r) == r->feed_txn) {
        return 0;
    }

    n = ims_pool_snap(r);

    if (n != IMS_POOL_OK) {
        return n;
    }

    id = mdb_txn_id(r->txn);
    n = ims_pool_done(r, ims_pool_copy_feed(r));

    if (n < 0 && n != IMS_POOL_GAP) {
        return n;
    }

    r->feed_txn = id;
    r->feed_seq = r->state.feed_seq;

    for (i = 0; i < n; i++) {
        cb(ctx, &r->feed[i]);
    }

    return n;
}


int
ims_pool_moved(ims_pool_reader_t *r)
{
    char         name[32], path[IMS_POOL_PATH_MAX + 64];
    struct stat  sb;

    if (ims_pool_current(r->dir, name, sizeof(name), NULL) != IMS_POOL_OK
        || strcmp(name, r->target) != 0)
    {
        return IMS_POOL_REOPEN;
    }

    snprintf(path, sizeof(path), "%s/%s/data.mdb", r->dir, name);

    if (stat(path, &sb) == -1 || sb.st_dev != r->dev || sb.st_ino != r->ino) {
        return IMS_POOL_REOPEN;
    }

    return IMS_POOL_OK;
}
