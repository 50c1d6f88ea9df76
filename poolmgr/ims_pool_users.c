/*
 * Copyright (C) nginx-ims contributors
 *
 * The way from a user to his identity: a table in the pool manager's memory,
 * made from the records at each start.
 *
 * It says nothing that the records do not say: who has or had an identity last
 * stands in its record, unless he was given another one since (PARTED).  On the
 * disk it would cost a page for each new holder, since hashes are random.
 *
 * An entry is a hint: some bits of the key, and the identity.  Who follows it
 * compares the record.
 */

#include <stdlib.h>

#include "ims_pool_wint.h"


#define IMS_POOL_USERS_BITS  8          /* of the smallest table */
#define IMS_POOL_USERS_MAX   30


static ims_pool_way_t ims_pool_users_way(const ims_pool_users_t *u,
    ims_str_t key, uint64_t ident);
static size_t ims_pool_users_home(const ims_pool_users_t *u,
    const ims_pool_way_t *way);
static void ims_pool_users_put(ims_pool_users_t *u, const ims_pool_way_t *way);
static bool ims_pool_users_take(ims_pool_users_t *u,
    const ims_pool_way_t *way);
static bool ims_pool_users_note(ims_pool_users_t *u,
    const ims_pool_way_t *way, bool added);


/* the hash is one already; a session's number is its browser's choice */

static ims_pool_way_t
ims_pool_users_way(const ims_pool_users_t *u, ims_str_t key, uint64_t ident)
{
    uint64_t        session;
    ims_pool_way_t  way;

    way.user = ims_pool_get32(key.p)
               ^ ims_pool_get32(key.p + IMS_POOL_HOLDER_LEN) * 0x9e3779b1u;
    way.session = 0;
    way.ident = ident;

    if (key.n == IMS_POOL_USER_KEY) {
        session = ims_pool_get64(key.p + IMS_POOL_USER_PREFIX) * u->secret;
        way.session = (uint32_t) (session >> 32);
    }

    return way;
}


static size_t
ims_pool_users_home(const ims_pool_users_t *u, const ims_pool_way_t *way)
{
    return (way->user + way->session * 0x9e3779b1u) >> (32 - u->bits);
}


bool
ims_pool_users_room(ims_pool_users_t *u, size_t n)
{
    size_t            i;
    unsigned          bits;
    ims_pool_users_t  old;

    bits = u->way == NULL ? IMS_POOL_USERS_BITS : u->bits;

    /* three of four may be taken */

    while (n > ((size_t) 3 << bits) / 4) {
        bits++;
    }

    if (u->way != NULL && bits == u->bits) {
        return true;
    }

    if (bits > IMS_POOL_USERS_MAX) {
        return false;
    }

    old = *u;
    u->way = calloc((size_t) 1 << bits, sizeof(ims_pool_way_t));

    if (u->way == NULL) {
        u->way = old.way;
        return false;
    }

    u->bits = bits;
    u->n = 0;

    for (i = 0; old.way != NULL && i < (size_t) 1 << old.bits; i++) {
        if (old.way[i].ident != 0) {
            ims_pool_users_put(u, &old.way[i]);
        }
    }

    free(old.way);

    return true;
}


static void
ims_pool_users_put(ims_pool_users_t *u, const ims_pool_way_t *way)
{
    size_t  i, mask;

    mask = ((size_t) 1 << u->bits) - 1;
    i = ims_pool_users_home(u, way);

    while (u->way[i].ident != 0) {
        i = (i + 1) & mask;
    }

    u->way[i] = *way;
    u->n++;
}


/* out, and what stands behind it moves up: no place may come free before it */

static bool
ims_pool_users_take(ims_pool_users_t *u, const ims_pool_way_t *way)
{
    size_t  i, j, home, mask;

    if (u->way == NULL) {
        return false;
    }

    mask = ((size_t) 1 << u->bits) - 1;
    i = ims_pool_users_home(u, way);

    while (memcmp(&u->way[i], way, sizeof(*way)) != 0) {

        if (u->way[i].ident == 0) {
            return false;
        }

        i = (i + 1) & mask;
    }

    for (j = (i + 1) & mask; u->way[j].ident != 0; j = (j + 1) & mask) {

        home = ims_pool_users_home(u, &u->way[j]);

        /* is its own place at or before the hole, seen from where it is? */

        if (((j - home) & mask) >= ((j - i) & mask)) {
            u->way[i] = u->way[j];
            i = j;
        }
    }

    memset(&u->way[i], 0, sizeof(u->way[i]));
    u->n--;

    return true;
}


static bool
ims_pool_users_note(ims_pool_users_t *u, const ims_pool_way_t *way, bool added)
{
    unsigned               max;
    ims_pool_way_undo_t   *undo;

    if (u->nundo == u->max) {
        max = u->max ? 2 * u->max : 64;
        undo = realloc(u->undo, max * sizeof(*undo));

        if (undo == NULL) {
            return false;
        }

        u->undo = undo;
        u->max = max;
    }

    u->undo[u->nundo].way = *way;
    u->undo[u->nundo].added = added;
    u->nundo++;

    return true;
}


bool
ims_pool_users_add(ims_pool_users_t *u, ims_str_t key, uint64_t ident)
{
    ims_pool_way_t  way;

    way = ims_pool_users_way(u, key, ident);

    if (!ims_pool_users_room(u, u->n + 1)
        || !ims_pool_users_note(u, &way, true))
    {
        return false;
    }

    ims_pool_users_put(u, &way);

    return true;
}


bool
ims_pool_users_del(ims_pool_users_t *u, ims_str_t key, uint64_t ident)
{
    ims_pool_way_t  way;

    way = ims_pool_users_way(u, key, ident);

    if (!ims_pool_users_note(u, &way, false)) {
        return false;
    }

    if (!ims_pool_users_take(u, &way)) {
        /* it was not there: nothing to undo */
        u->nundo--;
    }

    return true;
}


void
ims_pool_users_committed(ims_pool_users_t *u)
{
    u->nundo = 0;
}


/* what was taken out finds a place: it had one before */

void
ims_pool_users_aborted(ims_pool_users_t *u)
{
    const ims_pool_way_undo_t  *undo;

    while (u->nundo != 0) {
        undo = &u->undo[--u->nundo];

        if (undo->added) {
            (void) ims_pool_users_take(u, &undo->way);

        } else {
            ims_pool_users_put(u, &undo->way);
        }
    }
}


bool
ims_pool_users_next(const ims_pool_users_t *u, ims_str_t key, bool all,
    size_t *pos, uint64_t *ident)
{
    size_t                 i, size;
    ims_pool_way_t         way;
    const ims_pool_way_t  *w;

    if (u->way == NULL) {
        return false;
    }

    size = (size_t) 1 << u->bits;
    way = ims_pool_users_way(u, key, 0);
    i = all ? 0 : ims_pool_users_home(u, &way);

    for (i += *pos; *pos < size; i++) {

        w = &u->way[i & (size - 1)];
        (*pos)++;

        if (w->ident == 0 && !all) {
            break;
        }

        if (w->ident != 0 && w->user == way.user
            && (all || w->session == way.session))
        {
            *ident = w->ident;
            return true;
        }
    }

    return false;
}


bool
ims_pool_users_is(const ims_pool_rec_t *rec, ims_str_t key, bool all)
{
    size_t   n;
    uint8_t  own[IMS_POOL_USER_KEY];

    if (rec->lease == 0 || (rec->flags & IMS_POOL_F_PARTED)) {
        return false;
    }

    n = ims_pool_holder_key(own, rec);

    return all ? memcmp(own, key.p, IMS_POOL_USER_PREFIX) == 0
               : ims_str_eq(ims_str_set(own, n), key);
}


/* all records once; who finds a damaged one there is refused, not given more */

int
ims_pool_users_load(ims_pool_users_t *u, MDB_txn *txn, const MDB_dbi *dbi,
    const ims_pool_clock_t *clock)
{
    int              rc;
    size_t           n;
    uint8_t          key[IMS_POOL_USER_KEY];
    uint64_t         ident;
    ims_pool_way_t   way;
    ims_pool_rec_t   rec;
    ims_pool_recs_t  it;

    ims_pool_users_free(u);

    if (clock->random(clock->ctx, &u->secret, sizeof(u->secret)) != 0
        || ims_pool_recs_most(txn, dbi, &n) != 0
        || !ims_pool_users_room(u, n))
    {
        return IMS_POOL_INTERNAL;
    }

    u->secret |= 1;

    if (ims_pool_recs_open(&it, txn, dbi, 0) != 0) {
        return IMS_POOL_INTERNAL;
    }

    do {
        rc = ims_pool_recs_next(&it, &ident, &rec);

        if ((rc == IMS_POOL_OK || rc == IMS_POOL_UNKNOWN) && rec.lease != 0
            && !(rec.flags & IMS_POOL_F_PARTED))
        {
            n = ims_pool_holder_key(key, &rec);
            way = ims_pool_users_way(u, ims_str_set(key, n), rec.ident);
            ims_pool_users_put(u, &way);
        }

    } while (rc == IMS_POOL_OK || rc == IMS_POOL_UNKNOWN);

    ims_pool_recs_close(&it);
    u->loaded = true;

    return rc == IMS_POOL_NOTFOUND ? IMS_POOL_OK : IMS_POOL_INTERNAL;
}


void
ims_pool_users_free(ims_pool_users_t *u)
{
    free(u->way);
    free(u->undo);
    memset(u, 0, sizeof(ims_pool_users_t));
}
