/*
 * Copyright (C) nginx-ims contributors
 *
 * Recent renewals: tree `renewal`, as who reads the pool has it in memory.
 *
 * A renewal changes one row of `ident`, and those of a busy pool lie on as many
 * pages as there are renewals: to write and sync these is what a lease costs.
 * So a commit writes its renewals as one row here, and the writer works them
 * into the records later, many to a page (ims_pool_fold.c).
 *
 * A record with the renewals that are known is never longer than its lease:
 * each can only raise an end to what was promised and written, and counts only
 * as long as nothing else was written to the record since.
 */

#include <stdlib.h>

#include "ims_pool_int.h"


#define IMS_POOL_RENEWALS_BITS   6      /* of the smallest table */
#define IMS_POOL_RENEWALS_KEPT   12     /* larger ones are freed when cleared */


static size_t ims_pool_renewals_home(const ims_pool_renewals_t *t,
    uint64_t ident);
static bool ims_pool_renewal_add(const ims_pool_renewed_t *s,
    ims_pool_rec_t *rec);
static int ims_pool_recent_rows(ims_pool_recent_t *recent, MDB_cursor *cursor,
    uint64_t last, unsigned *lost);
static int ims_pool_recent_row(ims_pool_recent_t *recent, const MDB_val *k,
    const MDB_val *v, uint64_t no);


/* --- a table ------------------------------------------------------------- */

/* numbers that follow each other lie far apart; they are the pool manager's */

static size_t
ims_pool_renewals_home(const ims_pool_renewals_t *t, uint64_t ident)
{
    return (size_t) ((ident * 0x9e3779b97f4a7c15ull) >> (64 - t->bits));
}


bool
ims_pool_renewals_room(ims_pool_renewals_t *t, unsigned n)
{
    size_t               i;
    unsigned             bits;
    ims_pool_renewals_t  old;

    n += t->n;

    if (n > IMS_POOL_RENEWALS) {
        return false;
    }

    bits = t->slot == NULL ? IMS_POOL_RENEWALS_BITS : t->bits;

    /* three of four slots may be taken */

    while (n > ((size_t) 3 << bits) / 4) {
        bits++;
    }

    if (t->slot != NULL && bits == t->bits) {
        return true;
    }

    old = *t;
    t->slot = calloc((size_t) 1 << bits, sizeof(ims_pool_renewed_t));

    if (t->slot == NULL) {
        *t = old;
        return false;
    }

    t->bits = bits;
    t->n = 0;

    for (i = 0; old.slot != NULL && i < (size_t) 1 << old.bits; i++) {
        if (old.slot[i].no != 0) {
            ims_pool_renewals_put(t, &old.slot[i].r, old.slot[i].no);
        }
    }

    free(old.slot);

    return true;
}


void
ims_pool_renewals_put(ims_pool_renewals_t *t, const ims_pool_renewal_t *r,
    uint64_t no)
{
    size_t               i, mask;
    unsigned             n;
    ims_pool_renewed_t  *s, *oldest;

    mask = ((size_t) 1 << t->bits) - 1;
    oldest = NULL;

    for (i = ims_pool_renewals_home(t, r->ident), n = 0; ; i = (i + 1) & mask)
    {
        s = &t->slot[i];

        if (s->no == 0) {
            break;
        }

        if (s->r.ident != r->ident) {
            continue;
        }

        if (s->r.sid == r->sid) {
            break;
        }

        if (oldest == NULL || s->no < oldest->no) {
            oldest = s;
        }

        if (++n == IMS_POOL_SESSIONS) {
            s = oldest;
            break;
        }
    }

    t->n += s->no == 0;
    s->r = *r;
    s->no = no;
}


void
ims_pool_renewals_clear(ims_pool_renewals_t *t)
{
    if (t->n == 0) {
        return;
    }

    if (t->bits > IMS_POOL_RENEWALS_KEPT) {
        ims_pool_renewals_free(t);
        return;
    }

    memset(t->slot, 0, sizeof(ims_pool_renewed_t) << t->bits);
    t->n = 0;
}


void
ims_pool_renewals_free(ims_pool_renewals_t *t)
{
    free(t->slot);
    memset(t, 0, sizeof(ims_pool_renewals_t));
}


void
ims_pool_recent_fetch(const ims_pool_recent_t *recent, uint64_t ident)
{
    const ims_pool_renewals_t  *t;

    t = &recent->new;

    if (t->n != 0) {
        __builtin_prefetch(&t->slot[ims_pool_renewals_home(t, ident)]);
    }

    t = &recent->old;

    if (t->n != 0) {
        __builtin_prefetch(&t->slot[ims_pool_renewals_home(t, ident)]);
    }
}


bool
ims_pool_renewals_add(const ims_pool_renewals_t *t, ims_pool_rec_t *rec)
{
    bool                       changed;
    size_t                     i, mask;
    const ims_pool_renewed_t  *s;

    if (t->n == 0) {
        return false;
    }

    mask = ((size_t) 1 << t->bits) - 1;
    changed = false;

    for (i = ims_pool_renewals_home(t, rec->ident); ; i = (i + 1) & mask) {
        s = &t->slot[i];

        if (s->no == 0) {
            return changed;
        }

        if (s->r.ident == rec->ident && s->no > rec->renewed
            && s->r.lease == rec->lease)
        {
            changed |= ims_pool_renewal_add(s, rec);
        }
    }
}


static bool
ims_pool_renewal_add(const ims_pool_renewed_t *s, ims_pool_rec_t *rec)
{
    unsigned             i;
    ims_pool_session_t  *session;

    for (i = 0; i < rec->nsession; i++) {
        if (rec->session[i].sid == s->r.sid) {
            break;
        }
    }

    if (i == rec->nsession) {
        return false;
    }

    session = &rec->session[i];

    if (session->end >= s->r.end) {
        return false;
    }

    session->end = s->r.end;

    if (rec->end < s->r.end) {
        rec->end = s->r.end;
    }

    if (rec->promised < rec->end) {
        rec->promised = rec->end;
    }

    if (rec->rest < rec->promised + rec->linger) {
        rec->rest = rec->promised + rec->linger;
    }

    return true;
}


/* --- old and new --------------------------------------------------------- */

bool
ims_pool_recent_add(const ims_pool_recent_t *recent, ims_pool_rec_t *rec)
{
    bool  changed;

    changed = ims_pool_renewals_add(&recent->old, rec);

    return ims_pool_renewals_add(&recent->new, rec) || changed;
}


void
ims_pool_recent_freeze(ims_pool_recent_t *recent)
{
    ims_pool_renewals_t  *new;

    ims_pool_renewals_free(&recent->old);
    recent->old = recent->new;

    /* as large as the last one became: it need not grow there step by step */

    recent->made = 0;
    new = &recent->new;
    memset(new, 0, sizeof(ims_pool_renewals_t));
    new->slot = calloc((size_t) 1 << recent->old.bits,
                       sizeof(ims_pool_renewed_t));

    if (recent->old.slot == NULL || new->slot == NULL) {
        ims_pool_renewals_free(new);

    } else {
        new->bits = recent->old.bits;
    }
}


void
ims_pool_recent_free(ims_pool_recent_t *recent)
{
    ims_pool_renewals_free(&recent->old);
    ims_pool_renewals_free(&recent->new);
    memset(recent, 0, sizeof(ims_pool_recent_t));
}


/*
 * What the writer has done since to the two parts is done here: the old one
 * goes when it is in the records, the new one becomes the old one.  Whatever
 * else may have happened: all of it anew.
 */
int
ims_pool_recent_read(ims_pool_recent_t *recent, MDB_txn *txn,
    const MDB_dbi *dbi, const ims_pool_state_t *state, unsigned *lost)
{
    int          rc;
    MDB_cursor  *cursor;

    if (recent->mid != state->renew_mid && recent->mid == state->renew_first
        && recent->next <= state->renew_mid)
    {
        ims_pool_recent_freeze(recent);

    } else if (recent->mid != state->renew_mid) {
        ims_pool_recent_free(recent);

    } else if (recent->first != state->renew_first) {

        if (state->renew_first == state->renew_mid) {
            ims_pool_renewals_free(&recent->old);

        } else {
            ims_pool_recent_free(recent);
        }
    }

    recent->first = state->renew_first;
    recent->mid = state->renew_mid;

    if (recent->next < recent->first) {
        recent->next = recent->first;
    }

    if (recent->next > state->renew_last) {
        return IMS_POOL_OK;
    }

    if (mdb_cursor_open(txn, dbi[IMS_POOL_T_RENEWAL], &cursor) != 0) {
        return IMS_POOL_UNKNOWN;
    }

    rc = ims_pool_recent_rows(recent, cursor, state->renew_last, lost);
    mdb_cursor_close(cursor);

    return rc;
}


/* commits that made no renewals have no row; those of many have several */

static int
ims_pool_recent_rows(ims_pool_recent_t *recent, MDB_cursor *cursor,
    uint64_t last, unsigned *lost)
{
    int            rc;
    uint8_t        key[IMS_POOL_RENEWAL_KEY];
    MDB_val        k, v;
    uint64_t       no;
    MDB_cursor_op  op;

    memset(key, 0, sizeof(key));
    ims_pool_be64(key, recent->next);
    k.mv_size = sizeof(key);
    k.mv_data = key;
    op = MDB_SET_RANGE;

    for ( ;; ) {
        rc = mdb_cursor_get(cursor, &k, &v, op);
        op = MDB_NEXT;

        if (rc == MDB_NOTFOUND) {
            break;
        }

        no = rc == 0 && k.mv_size == sizeof(key) ? ims_pool_get64(k.mv_data)
                                                 : 0;

        if (no < recent->next || no > last) {

            if (lost == NULL) {
                return IMS_POOL_UNKNOWN;
            }

            /* no row as there may be: what follows is not read */
            (*lost)++;
            break;
        }

        rc = ims_pool_recent_row(recent, &k, &v, no);

        if (rc == IMS_POOL_UNKNOWN && lost != NULL) {
            (*lost)++;

        } else if (rc != IMS_POOL_OK) {
            return rc;
        }

        recent->next = no;
    }

    recent->next = last + 1;

    return IMS_POOL_OK;
}


static int
ims_pool_recent_row(ims_pool_recent_t *recent, const MDB_val *k,
    const MDB_val *v, uint64_t no)
{
    size_t                i, n;
    ims_str_t             row;
    ims_pool_renewal_t    r;
    ims_pool_renewals_t  *t;

    if (!ims_pool_row_open(k, v, &row) || row.n % sizeof(r) != 0
        || row.n / sizeof(r) > IMS_POOL_RENEWALS_ROW)
    {
        return IMS_POOL_UNKNOWN;
    }

    n = row.n / sizeof(r);
    t = &recent->old;

    if (no >= recent->mid) {
        t = &recent->new;
        recent->made += n;
    }

    if (!ims_pool_renewals_room(t, (unsigned) n)) {
        return IMS_POOL_INTERNAL;
    }

    for (i = 0; i < n; i++) {
        memcpy(&r, row.p + i * sizeof(r), sizeof(r));
        ims_pool_renewals_put(t, &r, no);
    }

    return IMS_POOL_OK;
}
