/*
 * Copyright (C) nginx-ims contributors
 *
 * A hold after lost commits, ended early by the history log.
 *
 * Lost are leases that began after the last commit that is there, and renewals
 * of those that were live then.  The log has the first kind, each on the disk
 * before it was told; that none is missing shows in their numbers, which have
 * no gaps in an incarnation, in the lines of the starts between, and in what
 * the floor knew of the last one.  The second kind needs no line: all that
 * was live or resting at the last commit is taken for lengthened.
 *
 * Names never change, but may have gone to another identity meanwhile: who has
 * a name of a lease that began, has it now.  What is imported later rests.
 */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "ims_pool_wint.h"
#include "sip/ims_sip_uri.h"


#define IMS_POOL_REPLAY_FILES  256
#define IMS_POOL_REPLAY_SLICE  1000


struct ims_pool_replay_s {
    ims_pool_state_t   state;       /* its part about the hold */

    uint64_t           at;          /* up to here nothing is missing */
    uint64_t           begun;       /* last lease, or start that lost some */
    bool               known;       /* the log is this database's */
    bool               proven;

    uint64_t           inode[IMS_POOL_REPLAY_FILES];
    unsigned           ninode;

    uint32_t           block;       /* of the identities that may be held */
    uint32_t           last;        /* index of the last one */
    uint8_t           *map;         /* a bit for each */

    uint64_t           pos;
    ims_pool_replayed_t  done;
    char               text[160];
};


static int ims_pool_replay_no(ims_pool_replay_t *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static bool ims_pool_replay_same(const ims_pool_replay_t *r,
    const ims_pool_state_t *s);
static int ims_pool_replay_gap(ims_pool_replay_t *r, uint64_t to);
static bool ims_pool_replay_file_seen(const ims_pool_replay_t *r,
    uint64_t inode);
static int ims_pool_replay_name(ims_pool_replay_t *r, ims_pool_writer_t *w,
    ims_str_t name, bool impi);
static bool ims_pool_replay_mark(ims_pool_replay_t *r, uint64_t ident);
static bool ims_pool_replay_marked(const ims_pool_replay_t *r,
    uint64_t ident);
static int ims_pool_replay_slice(ims_pool_replay_t *r, ims_pool_writer_t *w,
    uint64_t *ident, unsigned max, unsigned *n);
static int ims_pool_replay_rec(ims_pool_replay_t *r, ims_pool_writer_t *w,
    uint64_t ident);
static int ims_pool_replay_hold(ims_pool_writer_t *w, ims_pool_rec_t *rec);


/* --- the hold ------------------------------------------------------------ */

void
ims_pool_hold_mark(ims_pool_state_t *s)
{
    /*
     * In a hold, or of a backup that was restored and never started: what was
     * lost the time before was not known, either.  Whether that hold is over by
     * now another environment's clock may not tell.
     */

    if ((s->flags & IMS_POOL_SF_RESTORED) || s->hold_until > s->clock.pt) {
        return;
    }

    s->hold_pt = s->clock.pt;
    s->hold_lease = s->last_lease;
    s->hold_begun = s->begun;
    s->hold_run = s->run;
}


void
ims_pool_hold_begin(ims_pool_writer_t *w, uint64_t inc)
{
    uint64_t           least;
    ims_pool_state_t  *s;

    s = &w->state;

    least = (s->flags & IMS_POOL_SF_RESTORED) ? s->hold_least : 0;

    if (w->floor.logged && w->floor.mark - IMS_POOL_MARK_STEP > least) {
        least = w->floor.mark - IMS_POOL_MARK_STEP;
    }

    /* what is there may be all that was */

    least = least > s->begun ? least : s->begun;

    s->hold_inc = inc;
    s->hold_least = least;
    s->hold_inode = w->floor.inode;

    /*
     * A log of this directory is none of a database from elsewhere, nor of a
     * time that the floor does not know.  Renewals that cannot be read may be
     * older than the last commit.
     */

    if (w->floor.logged == 0 || w->floor.log != s->log
        || w->floor.logged > s->hold_lease
        || w->floor.incarnation < s->hold_lease >> IMS_POOL_LEASE_BITS
        || w->fold.lost)
    {
        s->hold_pt = 0;
    }

    /* numbers that were begun after the last commit are no gap of the next */

    s->begun = inc << IMS_POOL_LEASE_BITS;
    s->lined = s->begun;
    w->lined = s->begun;
}


uint64_t
ims_pool_hold_import(const ims_pool_writer_t *w)
{
    uint64_t  until;

    until = w->state.hold_until > w->state.hold_rest ? w->state.hold_until
                                                     : w->state.hold_rest;

    return until > w->now ? until : 0;
}


void
ims_pool_hold_tick(ims_pool_writer_t *w)
{
    if (w->state.hold_rest <= w->now) {
        w->state.hold_rest = 0;
    }

    if (w->state.hold_until <= w->now) {
        w->state.hold_pt = 0;
    }
}


/* --- the proof ----------------------------------------------------------- */

int
ims_pool_replay_open(ims_pool_replay_t **rp, ims_pool_writer_t *w, char *err,
    size_t errlen)
{
    ims_pool_state_t   *s;
    ims_pool_replay_t  *r;

    *rp = NULL;
    s = &w->committed;

    if (s->hold_until <= ims_pool_now(w)) {
        return ims_pool_err(err, errlen, IMS_POOL_BADARG,
                            "nothing is held after lost commits");
    }

    if (s->hold_pt == 0) {
        return ims_pool_err(err, errlen, IMS_POOL_BADARG,
                            "there was no complete log when commits were "
                            "lost: the hold must pass");
    }

    r = calloc(1, sizeof(ims_pool_replay_t));

    if (r != NULL) {
        r->map = calloc((size_t) s->last_index / 8 + 1, 1);
    }

    if (r == NULL || r->map == NULL) {
        free(r);
        return ims_pool_err(err, errlen, IMS_POOL_INTERNAL, "no memory");
    }

    r->state = *s;
    r->block = s->block;
    r->last = s->last_index;
    r->at = s->hold_lease;
    r->begun = s->hold_begun;

    *rp = r;

    return IMS_POOL_OK;
}


void
ims_pool_replay_close(ims_pool_replay_t *r)
{
    if (r != NULL) {
        free(r->map);
        free(r);
    }
}


const char *
ims_pool_replay_text(const ims_pool_replay_t *r)
{
    return r->text;
}


/* once it is refused it stays so: the reason that was first counts */

static int
ims_pool_replay_no(ims_pool_replay_t *r, const char *fmt, ...)
{
    va_list  args;

    if (r->text[0] == '\0') {
        va_start(args, fmt);
        vsnprintf(r->text, sizeof(r->text), fmt, args);
        va_end(args);
    }

    r->proven = false;

    return IMS_POOL_BADARG;
}


/* another restore begins another hold */

static bool
ims_pool_replay_same(const ims_pool_replay_t *r, const ims_pool_state_t *s)
{
    return s->hold_inc == r->state.hold_inc
           && s->hold_until == r->state.hold_until
           && s->hold_pt == r->state.hold_pt
           && memcmp(s->uuid, r->state.uuid, sizeof(s->uuid)) == 0;
}


int
ims_pool_replay_file(ims_pool_replay_t *r, uint64_t inode)
{
    if (r->text[0] != '\0' || r->ninode == IMS_POOL_REPLAY_FILES) {
        return ims_pool_replay_no(r, "too many files");
    }

    r->inode[r->ninode++] = inode;

    return IMS_POOL_OK;
}


static bool
ims_pool_replay_file_seen(const ims_pool_replay_t *r, uint64_t inode)
{
    unsigned  i;

    for (i = 0; i < r->ninode; i++) {
        if (r->inode[i] == inode) {
            return true;
        }
    }

    return false;
}


static int
ims_pool_replay_gap(ims_pool_replay_t *r, uint64_t to)
{
    if (to >> IMS_POOL_LEASE_BITS != r->at >> IMS_POOL_LEASE_BITS) {
        return ims_pool_replay_no(r, "missing: lines between lease number "
                                  "%016llx and %016llx, a start among them",
                                  (unsigned long long) r->at,
                                  (unsigned long long) to);
    }

    return ims_pool_replay_no(r, "missing: lease numbers %016llx to %016llx",
                              (unsigned long long) r->at + 1,
                              (unsigned long long) to);
}


int
ims_pool_replay_begin(ims_pool_replay_t *r, ims_pool_writer_t *w,
    uint64_t ident, uint64_t lease, const ims_str_t *names, unsigned n)
{
    int       rc;
    unsigned  i;

    if (r->text[0] != '\0') {
        return IMS_POOL_BADARG;
    }

    if (lease <= r->state.hold_lease
        || lease >> IMS_POOL_LEASE_BITS >= r->state.hold_inc)
    {
        /* what is there knows of it */
        return IMS_POOL_OK;
    }

    if (lease > r->at + 1) {
        return ims_pool_replay_gap(r, lease - 1);
    }

    if (lease == r->at + 1) {
        r->at = lease;
        r->begun = lease;
        r->done.lines++;
    }

    if (n < 2) {
        return ims_pool_replay_no(r, "lease number %016llx has no names",
                                  (unsigned long long) lease);
    }

    (void) ims_pool_replay_mark(r, ident);

    for (i = 0, rc = IMS_POOL_OK; rc == IMS_POOL_OK && i < n; i++) {
        rc = ims_pool_replay_name(r, w, names[i], i == 0);
    }

    return rc == IMS_POOL_OK ? rc
           : ims_pool_replay_no(r, "a name of lease number %016llx cannot be "
                                "looked up", (unsigned long long) lease);
}


static int
ims_pool_replay_name(ims_pool_replay_t *r, ims_pool_writer_t *w,
    ims_str_t name, bool impi)
{
    int        rc;
    uint8_t    fold[IMS_POOL_KEY_MAX];
    uint64_t   ident;
    ptrdiff_t  n;

    if (impi) {
        n = (ptrdiff_t) ims_pool_impi_key(fold, sizeof(fold), name);
        rc = n > 0 ? ims_pool_by_impi(w->reader, name, &ident)
                   : IMS_POOL_BADARG;

    } else {
        n = ims_sip_fold(fold, sizeof(fold), name);
        rc = n > 0 ? ims_pool_by_uri(w->reader,
                                     ims_str_set(fold, (size_t) n), &ident,
                                     NULL)
                   : IMS_POOL_BADARG;
    }

    if (rc != IMS_POOL_OK) {
        return rc == IMS_POOL_NOTFOUND ? IMS_POOL_OK : rc;
    }

    if (ident >> 32 == r->block && (uint32_t) ident > r->last) {
        /* imported since: it rests as long as the hold, anyway */
        return IMS_POOL_OK;
    }

    return ims_pool_replay_mark(r, ident) ? IMS_POOL_OK : IMS_POOL_INTERNAL;
}


static bool
ims_pool_replay_mark(ims_pool_replay_t *r, uint64_t ident)
{
    uint32_t  i;

    i = (uint32_t) ident;

    if (ident >> 32 != r->block || i > r->last) {
        return false;
    }

    r->map[i / 8] |= (uint8_t) (1 << i % 8);

    return true;
}


static bool
ims_pool_replay_marked(const ims_pool_replay_t *r, uint64_t ident)
{
    uint32_t  i;

    i = (uint32_t) ident;

    return ident >> 32 == r->block && i <= r->last
           && (r->map[i / 8] >> i % 8 & 1);
}


/*
 * A start that lost nothing says which lease was the last before it, exactly.
 * One that lost commits knows a bound.
 */
int
ims_pool_replay_start(ims_pool_replay_t *r, const ims_pool_log_start_t *start)
{
    uint64_t  inc;

    if (r->text[0] != '\0') {
        return IMS_POOL_BADARG;
    }

    inc = start->incarnation;

    if (inc == r->state.hold_lease >> IMS_POOL_LEASE_BITS) {
        r->known = start->run == r->state.hold_run;

        return r->known ? IMS_POOL_OK
               : ims_pool_replay_no(r, "it is the log of another database");
    }

    if (inc <= r->at >> IMS_POOL_LEASE_BITS || inc >= r->state.hold_inc) {
        return IMS_POOL_OK;
    }

    if (start->lost) {

        if (r->at < start->last) {
            return ims_pool_replay_gap(r, start->last);
        }

        /* 0: a log that has its line began after it */

        if (start->before != 0
            && !ims_pool_replay_file_seen(r, start->before))
        {
            return ims_pool_replay_no(r, "missing: the log that was written "
                                      "before start %llu",
                                      (unsigned long long) inc);
        }

    } else if (start->last != r->begun) {
        return ims_pool_replay_gap(r, start->last);
    }

    r->at = inc << IMS_POOL_LEASE_BITS;
    r->begun = start->lost ? r->at : r->begun;

    return IMS_POOL_OK;
}


int
ims_pool_replay_prove(ims_pool_replay_t *r, ims_pool_writer_t *w)
{
    if (r->text[0] != '\0') {
        return IMS_POOL_BADARG;
    }

    if (!ims_pool_replay_same(r, &w->committed)
        || w->committed.hold_until <= ims_pool_now(w))
    {
        return ims_pool_replay_no(r, "the hold is another, or over");
    }

    if (!r->known) {
        return ims_pool_replay_no(r, "missing: the start of incarnation %llu, "
                                  "or the head of a file of its time",
                                  (unsigned long long)
                                  (r->state.hold_lease
                                   >> IMS_POOL_LEASE_BITS));
    }

    if (r->at < r->state.hold_least) {
        return ims_pool_replay_gap(r, r->state.hold_least);
    }

    /* lines in the wrong order are gaps, so it need not be the last */

    if (!ims_pool_replay_file_seen(r, r->state.hold_inode)) {
        return ims_pool_replay_no(r, "missing: the log that was written when "
                                  "commits were lost");
    }

    r->proven = true;

    return IMS_POOL_OK;
}


/* --- what follows from it ------------------------------------------------ */

int
ims_pool_replay_step(ims_pool_replay_t *r, ims_pool_writer_t *w, unsigned max,
    ims_pool_replayed_t *done)
{
    int       rc;
    uint64_t  ident[IMS_POOL_REPLAY_SLICE];
    unsigned  i, n;

    if (w->broken) {
        return IMS_POOL_INTERNAL;
    }

    if (!r->proven || !ims_pool_replay_same(r, &w->state)) {
        return IMS_POOL_BADARG;
    }

    max = max < IMS_POOL_REPLAY_SLICE ? max : IMS_POOL_REPLAY_SLICE;
    rc = ims_pool_replay_slice(r, w, ident, max, &n);

    for (i = 0; rc == IMS_POOL_OK && i < n; i++) {
        rc = ims_pool_replay_rec(r, w, ident[i]);
    }

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    if (n == max) {
        r->pos = ident[n - 1] + 1;
        return IMS_POOL_MORE;
    }

    w->state.hold_rest = w->state.hold_until;
    w->state.hold_until = w->now;
    w->state.hold_pt = 0;
    w->dirty = 1;

    r->proven = false;
    r->done.until = w->state.hold_rest;
    *done = r->done;

    return IMS_POOL_OK;
}


/* the next records: nothing is written while a cursor is on them */

static int
ims_pool_replay_slice(ims_pool_replay_t *r, ims_pool_writer_t *w,
    uint64_t *ident, unsigned max, unsigned *n)
{
    int              rc;
    ims_pool_rec_t   rec;
    ims_pool_recs_t  it;

    *n = 0;

    rc = ims_pool_recs_open(&it, w->txn, w->dbi, r->pos);
    if (rc != 0) {
        return ims_pool_w_fail(w, rc);
    }

    rc = IMS_POOL_OK;

    while (rc == IMS_POOL_OK && *n < max) {

        rc = ims_pool_recs_next(&it, &ident[*n], &rec);

        if (rc == IMS_POOL_OK) {
            (*n)++;
        }
    }

    ims_pool_recs_close(&it);

    /* a damaged one may turn out to be readable again: nobody knows */

    return rc == IMS_POOL_OK || rc == IMS_POOL_NOTFOUND
           ? IMS_POOL_OK : ims_pool_w_fail(w, 0);
}


static int
ims_pool_replay_rec(ims_pool_replay_t *r, ims_pool_writer_t *w, uint64_t ident)
{
    int             rc;
    ims_pool_rec_t  rec;

    rc = ims_pool_w_rec(w, ident, &rec);

    if (rc != IMS_POOL_OK) {
        return ims_pool_w_fail(w, 0);
    }

    r->done.records++;

    /*
     * At rest it could be reported, and have been returned to.  What was purged
     * since, or leased after that, is known again.
     */

    if ((rec.rest < r->state.hold_pt && !ims_pool_replay_marked(r, ident))
        || !ims_pool_w_held(w, &rec))
    {
        return IMS_POOL_OK;
    }

    r->done.held++;

    return ims_pool_replay_hold(w, &rec);
}


/* nobody may have it: not who had it last, either, so he has no way to it */

static int
ims_pool_replay_hold(ims_pool_writer_t *w, ims_pool_rec_t *rec)
{
    int       rc;
    size_t    n;
    uint8_t   key[IMS_POOL_USER_KEY];
    uint16_t  flags;

    flags = rec->flags;

    if (rec->lease != 0 && !(flags & IMS_POOL_F_PARTED)) {

        n = ims_pool_holder_key(key, rec);

        if (!ims_pool_users_del(&w->users, ims_str_set(key, n), rec->ident)) {
            return ims_pool_w_fail(w, ENOMEM);
        }

        flags |= IMS_POOL_F_PARTED;
    }

    if (rec->rest < w->state.hold_until) {
        rec->rest = w->state.hold_until;
    }

    if (flags & IMS_POOL_F_STAGED) {
        /* it gets its place when it is published */
        rec->flags = flags;
        return ims_pool_w_put_rec(w, rec);
    }

    rc = ims_pool_w_avail_place(w, rec, flags);

    return rc == IMS_POOL_OK ? ims_pool_w_put_rec(w, rec) : rc;
}
