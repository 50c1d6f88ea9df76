/*
 * Copyright (C) nginx-ims contributors
 *
 * Leases that are given: lines 1 to 5 of POOL.md section 1.
 *
 * Each command reads, decides, and only then writes.  `promised` and `rest`
 * are raised in one place, ims_pool_lease_extend(), and by reports; nothing
 * here lowers them.  Of a lease that only goes on nothing but its new end is
 * written, and the record is made up from that when it is read
 * (ims_pool_renewal.c).
 */

#include <errno.h>

#include "ims_pool_wint.h"


#define IMS_POOL_DISABLED_S  60         /* when to ask a disabled pool again */
#define IMS_POOL_CLOSED_MS   5000


static int ims_pool_hold(ims_pool_writer_t *w, uint64_t until,
    ims_pool_grant_t *grant);
static bool ims_pool_closed(ims_pool_writer_t *w, const ims_pool_asker_t *a);
static int ims_pool_asker(ims_pool_writer_t *w, const ims_pool_who_t *who,
    ims_pool_asker_t *a);
static int ims_pool_lease_by_key(ims_pool_writer_t *w, ims_pool_asker_t *a);
static bool ims_pool_realm_ok(const ims_pool_t *pool, ims_str_t realm);
static int ims_pool_own(ims_pool_writer_t *w, const ims_pool_who_t *who,
    uint64_t ident, uint64_t lease, ims_pool_asker_t *a, unsigned *session);
static int ims_pool_lease_grant(ims_pool_writer_t *w,
    const ims_pool_who_t *who, ims_pool_asker_t *a, ims_pool_how_e how,
    ims_pool_grant_t *grant);
static int ims_pool_lease_put(ims_pool_writer_t *w, ims_pool_rec_t *rec,
    const ims_pool_rec_t *was, uint64_t sid);
static void ims_pool_lease_new(ims_pool_writer_t *w,
    const ims_pool_who_t *who, ims_pool_asker_t *a);
static int ims_pool_lease_user(ims_pool_writer_t *w, ims_pool_asker_t *a,
    ims_str_t before);
static int ims_pool_lease_part(ims_pool_writer_t *w, uint64_t ident);
static int ims_pool_lease_session(ims_pool_writer_t *w, ims_pool_asker_t *a,
    uint64_t sid, uint64_t *end);
static void ims_pool_lease_sweep(ims_pool_rec_t *rec, uint64_t now);
static void ims_pool_lease_extend(ims_pool_asker_t *a, uint64_t end);
static int ims_pool_lease_unreg(ims_pool_writer_t *w, uint64_t ident);


int
ims_pool_acquire(ims_pool_writer_t *w, const ims_pool_who_t *who,
    ims_pool_grant_t *grant)
{
    int               rc;
    uint8_t           tag[IMS_POOL_HOLDER_LEN];
    ims_pool_how_e    how;
    ims_pool_rec_t    picked;
    ims_pool_asker_t  a;

    grant->retry_s = 0;

    rc = ims_pool_asker(w, who, &a);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    if (a.pool.head.flags & IMS_POOL_PF_DISABLED) {
        grant->retry_s = IMS_POOL_DISABLED_S;
        return IMS_POOL_HOLD;
    }

    if (a.known && a.st == IMS_POOL_ST_LEASED && !ims_pool_closed(w, &a)) {

        if (!ims_pool_space_for(w, IMS_POOL_SPACE_GO_ON)) {
            return IMS_POOL_NOSPACE;
        }

        return ims_pool_lease_grant(w, who, &a, IMS_POOL_SAME, grant);
    }

    if (w->state.hold_asked > w->now) {
        return ims_pool_hold(w, w->state.hold_asked, grant);
    }

    if (!ims_pool_space_for(w, IMS_POOL_SPACE_ALL)) {
        return IMS_POOL_NOSPACE;
    }

    if (a.known
        && (a.st == IMS_POOL_ST_RESTING || a.st == IMS_POOL_ST_FREE)
        && !(a.rec.flags & IMS_POOL_F_BARRED))
    {
        how = IMS_POOL_RETURNED;

        if (ims_pool_w_held(w, &a.rec)) {
            return ims_pool_hold(w, w->state.hold_until, grant);
        }

        if (ims_pool_purge_is_out(w, a.rec.ident)) {
            /* what he registers now would go with the rest */
            return IMS_POOL_BUSY;
        }

    } else {
        how = IMS_POOL_NEW;
        ims_pool_w_hash(w, &w->keys.tag, who->realm, who->user, tag);
        rc = ims_pool_w_pick(w, a.pool.head.pool, tag, &picked,
                             &grant->retry_s);

        if (rc == IMS_POOL_EXHAUSTED && w->state.hold_until > w->now) {
            return ims_pool_hold(w, w->state.hold_until, grant);
        }

        if (rc == IMS_POOL_OK && a.known && a.st == IMS_POOL_ST_LEASED) {
            /* nobody has two: what was left of the closed one ends */
            rc = ims_pool_w_end(w, &a.rec, IMS_POOL_END_DISABLED);
        }

        if (rc != IMS_POOL_OK) {
            return rc;
        }

        a.rec = picked;
    }

    return ims_pool_lease_grant(w, who, &a, how, grant);
}


static int
ims_pool_hold(ims_pool_writer_t *w, uint64_t until, ims_pool_grant_t *grant)
{
    uint64_t  wait;

    wait = (until - w->now + 999) / 1000;
    grant->retry_s = wait < UINT32_MAX ? (uint32_t) wait : UINT32_MAX;

    return IMS_POOL_HOLD;
}


bool
ims_pool_w_held(ims_pool_writer_t *w, const ims_pool_rec_t *rec)
{
    uint64_t  since;

    if (w->state.hold_until <= w->now) {
        return false;
    }

    since = w->state.hold_since;

    /* of the same millisecond nobody knows what came first */

    return !((rec->flags & IMS_POOL_F_PURGED) && rec->promised > since)
           && !(rec->lease != 0 && rec->start > since);
}


/*
 * The lease of an identity that is disabled from its end on is not lengthened;
 * when too little is left of it to register with, its holder gets another.
 */
static bool
ims_pool_closed(ims_pool_writer_t *w, const ims_pool_asker_t *a)
{
    return (a->rec.flags & IMS_POOL_F_CLOSING)
           && a->rec.end - w->now
              < (uint64_t) a->pool.head.core_min * 1000 + IMS_POOL_CLOSED_MS;
}


int
ims_pool_renew(ims_pool_writer_t *w, const ims_pool_who_t *who,
    uint64_t ident, uint64_t lease, ims_pool_grant_t *grant)
{
    int               rc;
    unsigned          session;
    ims_pool_asker_t  a;

    grant->retry_s = 0;

    rc = ims_pool_own(w, who, ident, lease, &a, &session);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    if (a.pool.head.flags & IMS_POOL_PF_DISABLED) {
        grant->retry_s = IMS_POOL_DISABLED_S;
        return IMS_POOL_HOLD;
    }

    if (a.rec.flags & IMS_POOL_F_CLOSING) {
        return IMS_POOL_ENDED;
    }

    if (!ims_pool_space_for(w, IMS_POOL_SPACE_GO_ON)) {
        return IMS_POOL_NOSPACE;
    }

    return ims_pool_lease_grant(w, who, &a, IMS_POOL_SAME, grant);
}


int
ims_pool_release(ims_pool_writer_t *w, const ims_pool_who_t *who,
    uint64_t ident, uint64_t lease, bool *ended)
{
    int                  rc;
    unsigned             i, live, session;
    ims_pool_rec_t      *rec;
    ims_pool_asker_t     a;

    rc = ims_pool_own(w, who, ident, lease, &a, &session);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    rec = &a.rec;

    for (i = 0, live = 0; i < rec->nsession; i++) {
        live += rec->session[i].end > w->now;
    }

    *ended = live == 1;

    if (*ended) {
        return ims_pool_w_end(w, rec, IMS_POOL_END_RELEASED);
    }

    /* the lease lives as long as the sessions that are left */

    rec->session[session].end = 0;
    ims_pool_lease_sweep(rec, w->now);

    rec->end = 0;

    for (i = 0; i < rec->nsession; i++) {
        if (rec->end < rec->session[i].end) {
            rec->end = rec->session[i].end;
        }
    }

    rc = ims_pool_w_put_rec(w, rec);

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_w_feed(w, rec, IMS_POOL_END_SESSION);
    }

    return rc;
}


/* pool, realm, names checked; the user's record, if there is one */

static int
ims_pool_asker(ims_pool_writer_t *w, const ims_pool_who_t *who,
    ims_pool_asker_t *a)
{
    int  rc;

    if (w->broken) {
        return IMS_POOL_INTERNAL;
    }

    if (who->sid == 0 || !ims_pool_w_who_ok(who->realm, who->user)) {
        return IMS_POOL_BADARG;
    }

    rc = ims_pool_w_by_name(w, who->pool, &a->pool);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    if (a->pool.head.flags & IMS_POOL_PF_DROPPING) {
        return IMS_POOL_NOPOOL;
    }

    if (!ims_pool_realm_ok(&a->pool, who->realm)) {
        return IMS_POOL_DENIED;
    }

    return ims_pool_w_asker(w, who->realm, who->user, who->sid, a);
}


/* by the current hash key, then by older ones */

int
ims_pool_w_asker(ims_pool_writer_t *w, ims_str_t realm, ims_str_t user,
    uint64_t sid, ims_pool_asker_t *a)
{
    int       rc;
    uint8_t   hash[IMS_POOL_HOLDER_LEN];
    uint32_t  pool;
    unsigned  i;

    pool = a->pool.head.pool;

    a->known = 0;
    a->session = a->pool.head.per == IMS_POOL_PER_SESSION ? sid : 0;

    for (i = 0; i < w->keys.nhash; i++) {

        ims_pool_w_hash(w, &w->keys.hash[i].key, realm, user, hash);

        if (i == 0) {
            memcpy(a->user, hash, sizeof(hash));
        }

        a->nfound = ims_pool_user_key(a->found, hash, pool, a->session);

        rc = ims_pool_lease_by_key(w, a);

        if (rc == IMS_POOL_OK) {
            break;
        }

        if (rc != IMS_POOL_NOTFOUND) {
            return rc;
        }
    }

    if (i == w->keys.nhash) {
        return IMS_POOL_OK;
    }

    a->known = 1;
    a->st = ims_pool_state_of(&a->rec, a->pool.head.fence, w->now);

    return IMS_POOL_OK;
}


/* the record that the key found leads to, if there is one */

static int
ims_pool_lease_by_key(ims_pool_writer_t *w, ims_pool_asker_t *a)
{
    int        rc;
    size_t     pos;
    ims_str_t  key;

    key = ims_str_set(a->found, a->nfound);
    pos = 0;

    while (ims_pool_users_next(&w->users, key, false, &pos, &a->ident)) {

        rc = ims_pool_w_rec(w, a->ident, &a->rec);

        if (rc == IMS_POOL_NOTFOUND) {
            /* whoever removes a record removes the way to it */
            w->damaged++;
            rc = IMS_POOL_INTERNAL;
        }

        if (rc != IMS_POOL_OK) {
            /* it may well be his */
            return rc;
        }

        if (ims_pool_users_is(&a->rec, key, false)) {
            return IMS_POOL_OK;
        }
    }

    return IMS_POOL_NOTFOUND;
}


/* is realm one of the words of "a,b"?  An empty list takes all. */

static bool
ims_pool_realm_ok(const ims_pool_t *pool, ims_str_t realm)
{
    ims_str_t    word;
    const char  *p, *end;

    p = pool->realms;

    if (*p == '\0') {
        return true;
    }

    do {
        end = strchr(p, ',');
        word = end == NULL ? ims_str_z(p)
                           : ims_str_set(p, (size_t) (end - p));

        if (ims_str_eq(word, realm)) {
            return true;
        }

        p = end == NULL ? NULL : end + 1;

    } while (p != NULL);

    return false;
}


bool
ims_pool_w_who_ok(ims_str_t realm, ims_str_t user)
{
    return realm.n != 0 && realm.n <= IMS_POOL_REALM_MAX
           && memchr(realm.p, '\0', realm.n) == NULL
           && user.n != 0 && user.n <= IMS_POOL_USER_MAX;
}


void
ims_pool_w_hash(ims_pool_writer_t *w, const ims_hmac_key_t *key,
    ims_str_t realm, ims_str_t user, uint8_t *hash)
{
    uint8_t  *p;

    /* a realm has no NUL: the two cannot flow into each other */

    p = w->name;
    memcpy(p, realm.p, realm.n);
    p += realm.n;
    *p++ = '\0';
    memcpy(p, user.p, user.n);
    p += user.n;

    ims_hmac(key, w->name, (size_t) (p - w->name), hash, IMS_POOL_HOLDER_LEN);

    explicit_bzero(w->name, (size_t) (p - w->name));
}


/* a live lease of this user with this session: what lines 4 and 5 need */

static int
ims_pool_own(ims_pool_writer_t *w, const ims_pool_who_t *who, uint64_t ident,
    uint64_t lease, ims_pool_asker_t *a, unsigned *session)
{
    int                    rc;
    unsigned               i;
    const ims_pool_rec_t  *rec;

    rc = ims_pool_asker(w, who, a);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    rec = &a->rec;

    if (!a->known || a->st != IMS_POOL_ST_LEASED || rec->ident != ident
        || rec->lease != lease)
    {
        return IMS_POOL_ENDED;
    }

    for (i = 0; i < rec->nsession; i++) {
        if (rec->session[i].sid == who->sid && rec->session[i].end > w->now) {
            *session = i;
            return IMS_POOL_OK;
        }
    }

    return IMS_POOL_ENDED;
}


/*
 * The end of lines 1 to 4.  a->rec is the identity: the asker's own (SAME,
 * RETURNED) or the one picked (NEW).
 */
static int
ims_pool_lease_grant(ims_pool_writer_t *w, const ims_pool_who_t *who,
    ims_pool_asker_t *a, ims_pool_how_e how, ims_pool_grant_t *grant)
{
    int              rc;
    size_t           nbefore;
    uint8_t          before[IMS_POOL_USER_KEY];
    ims_pool_rec_t  *rec, was;

    rec = &a->rec;
    was = *rec;

    /* what can fail by damage comes before the first write */

    rc = ims_pool_w_names(w, rec->ident, &grant->names);

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    nbefore = rec->lease == 0 || (rec->flags & IMS_POOL_F_PARTED)
              ? 0 : ims_pool_holder_key(before, rec);

    if (how != IMS_POOL_SAME) {
        rc = ims_pool_w_past(w, rec, &a->pool.head);

        if (rc != IMS_POOL_OK) {
            return rc;
        }

        ims_pool_lease_new(w, who, a);
    }

    rc = ims_pool_lease_session(w, a, who->sid, &grant->end);

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_lease_user(w, a, ims_str_set(before, nbefore));
    }

    if (rc == IMS_POOL_OK && how == IMS_POOL_NEW) {
        rc = ims_pool_w_avail_move(w, rec, rec->rest);
    }

    if (rc == IMS_POOL_OK) {
        rc = ims_pool_lease_put(w, rec, &was, who->sid);
    }

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    grant->ident = rec->ident;
    grant->lease = rec->lease;
    grant->sid = who->sid;
    grant->now = w->now;
    grant->lease_end = rec->end;
    grant->rest = rec->rest;
    grant->pool = rec->pool;
    grant->how = how;

    if (how != IMS_POOL_SAME) {
        ims_pool_event_begin(w, rec, who, how);
    }

    memcpy(grant->holder, rec->holder, sizeof(grant->holder));
    memcpy(grant->home, a->pool.home, sizeof(grant->home));

    return IMS_POOL_OK;
}


/*
 * The record: as a renewal, if it only has got a longer session.  That raised
 * nothing is written already.
 */
static int
ims_pool_lease_put(ims_pool_writer_t *w, ims_pool_rec_t *rec,
    const ims_pool_rec_t *was, uint64_t sid)
{
    unsigned        i;
    ims_pool_rec_t  other;

    if (memcmp(rec, was, sizeof(*rec)) == 0) {
        return IMS_POOL_OK;
    }

    other = *rec;
    other.end = was->end;
    other.promised = was->promised;
    other.rest = was->rest;

    for (i = 0; i < rec->nsession; i++) {

        if (rec->session[i].sid == sid) {
            other.session[i].end = was->session[i].end;

            return memcmp(&other, was, sizeof(other)) == 0
                   ? ims_pool_w_put_renewal(w, rec, i)
                   : ims_pool_w_put_rec(w, rec);
        }
    }

    return ims_pool_w_put_rec(w, rec);
}


/* before a new lease: the old one to history, its reports out */

int
ims_pool_w_past(ims_pool_writer_t *w, const ims_pool_rec_t *rec,
    const ims_pool_head_t *h)
{
    int             rc;
    uint64_t        end, fenced;
    ims_pool_end_e  reason;

    if (rec->lease == 0) {
        return IMS_POOL_OK;
    }

    end = rec->end;
    reason = IMS_POOL_END_EXPIRED;

    if (rec->lease <= h->fence) {

        rc = ims_pool_fenced_at(w->txn, w->dbi, rec->pool, rec->lease,
                                &fenced);

        if (rc == IMS_POOL_UNKNOWN) {
            w->damaged++;
            fenced = h->fence_pt;

        } else if (rc == IMS_POOL_NOTFOUND) {
            /* the fence that a new pool begins with */
            fenced = UINT64_MAX;
        }

        if (fenced < end) {
            end = fenced > rec->start ? fenced : rec->start;
            reason = IMS_POOL_END_FENCED;
        }
    }

    rc = ims_pool_w_hist(w, rec, end, reason);

    return rc == IMS_POOL_OK ? ims_pool_lease_unreg(w, rec->ident) : rc;
}


/* a new lease in the record; its end is set with its session */

static void
ims_pool_lease_new(ims_pool_writer_t *w, const ims_pool_who_t *who,
    ims_pool_asker_t *a)
{
    ims_pool_rec_t  *rec;

    rec = &a->rec;

    rec->lease = ++w->state.last_lease;
    w->state.begun = rec->lease;
    w->state.given++;

    rec->issuer = who->issuer;
    rec->start = w->now;
    rec->end = w->now;
    rec->start_wall = w->wall;
    rec->flags &= (uint16_t) ~(IMS_POOL_F_BARRED|IMS_POOL_F_PURGED
                               |IMS_POOL_F_PARTED|IMS_POOL_F_PER_SESSION);

    if (a->session) {
        rec->flags |= IMS_POOL_F_PER_SESSION;
    }

    rec->nsession = 0;
    memset(rec->session, 0, sizeof(rec->session));

    ims_pool_w_hash(w, &w->keys.tag, who->realm, who->user, rec->holder);
}


/*
 * The holder's way to the record, and his hash in it, under the current key.
 * before: the key that led the record's last holder to it, if any did.
 */
static int
ims_pool_lease_user(ims_pool_writer_t *w, ims_pool_asker_t *a,
    ims_str_t before)
{
    int              rc;
    uint8_t          key[IMS_POOL_USER_KEY];
    ims_str_t        own, found;
    ims_pool_rec_t  *rec;

    rec = &a->rec;

    own = ims_str_set(key, ims_pool_user_key(key, a->user, rec->pool,
                                             a->session));
    found = ims_str_set(a->found, a->nfound);

    if (a->known && a->ident == rec->ident && ims_str_eq(own, found)) {
        return IMS_POOL_OK;
    }

    /* found under an older key, or leading elsewhere from now on */

    if (a->known && !ims_pool_users_del(&w->users, found, a->ident)) {
        return ims_pool_w_fail(w, ENOMEM);
    }

    if (a->known && a->ident != rec->ident) {
        rc = ims_pool_lease_part(w, a->ident);

        if (rc != IMS_POOL_OK) {
            return rc;
        }
    }

    /* the last holder loses his way back */

    if ((before.n && !ims_pool_users_del(&w->users, before, rec->ident))
        || !ims_pool_users_add(&w->users, own, rec->ident))
    {
        return ims_pool_w_fail(w, ENOMEM);
    }

    memcpy(rec->user, a->user, sizeof(rec->user));
    rec->hash_key = w->keys.hash[0].no;

    return IMS_POOL_OK;
}


/* the identity that the user had before, and may not return to */

static int
ims_pool_lease_part(ims_pool_writer_t *w, uint64_t ident)
{
    int             rc;
    ims_pool_rec_t  rec;

    rc = ims_pool_w_rec(w, ident, &rec);

    if (rc != IMS_POOL_OK) {
        /* it was there when the user was found */
        return ims_pool_w_fail(w, 0);
    }

    rec.flags |= IMS_POOL_F_PARTED;

    return ims_pool_w_put_rec(w, &rec);
}


/*
 * The session in the lease, and everything that its end raises.  One that has
 * no place any more takes that of the session that ends first.
 */
static int
ims_pool_lease_session(ims_pool_writer_t *w, ims_pool_asker_t *a,
    uint64_t sid, uint64_t *end)
{
    int                  rc;
    unsigned             i, oldest;
    ims_pool_rec_t      *rec;
    ims_pool_session_t  *s;

    rec = &a->rec;
    s = rec->session;
    oldest = 0;
    rc = IMS_POOL_OK;

    ims_pool_lease_sweep(rec, w->now);

    for (i = 0; i < rec->nsession; i++) {
        if (s[i].sid == sid) {
            break;
        }

        if (s[i].end < s[oldest].end) {
            oldest = i;
        }
    }

    if (i == rec->nsession) {

        if (rec->nsession < IMS_POOL_SESSIONS) {
            rec->nsession++;

        } else {
            /* flows of the session that goes must hear of it */
            i = oldest;
            rc = ims_pool_w_feed(w, rec, IMS_POOL_END_SESSION);
        }

        s[i].sid = sid;
        s[i].end = 0;
    }

    *end = w->now + a->pool.head.ttl;

    if ((rec->flags & IMS_POOL_F_CLOSING) && *end > rec->end) {
        *end = rec->end;
    }

    if (s[i].end < *end) {
        s[i].end = *end;
    }

    *end = s[i].end;
    ims_pool_lease_extend(a, *end);

    return rc;
}


/* sessions that have ended leave their places to others */

static void
ims_pool_lease_sweep(ims_pool_rec_t *rec, uint64_t now)
{
    unsigned             i, n;
    ims_pool_session_t  *s;

    if (rec->flags & IMS_POOL_F_PER_SESSION) {
        return;
    }

    s = rec->session;

    for (i = 0, n = 0; i < rec->nsession; i++) {
        if (s[i].end > now) {
            s[n++] = s[i];
        }
    }

    memset(&s[n], 0, (rec->nsession - n) * sizeof(s[0]));
    rec->nsession = (uint16_t) n;
}


/* the only place that makes a promise */

static void
ims_pool_lease_extend(ims_pool_asker_t *a, uint64_t end)
{
    uint64_t         rest;
    ims_pool_rec_t  *rec;

    rec = &a->rec;

    if (rec->end < end) {
        rec->end = end;
    }

    if (rec->promised < rec->end) {
        rec->promised = rec->end;
    }

    rec->linger = (uint32_t) (a->pool.head.delay + a->pool.head.margin);
    rest = rec->promised + rec->linger;

    if (rec->rest < rest) {
        rec->rest = rest;
    }
}


int
ims_pool_w_names(ims_pool_writer_t *w, uint64_t ident,
    ims_pool_names_t *names)
{
    int        rc;
    uint8_t    key[8];
    ims_str_t  row;

    ims_pool_be64(key, ident);

    rc = ims_pool_w_row(w, IMS_POOL_T_NAME, key, sizeof(key), &row);

    if (rc == IMS_POOL_NOTFOUND
        || (rc == IMS_POOL_OK && !ims_pool_names_decode(row, ident, names)))
    {
        w->damaged++;
        return IMS_POOL_INTERNAL;
    }

    return rc;
}


/* reports about earlier leases; at most IMS_POOL_REGS rows */

static int
ims_pool_lease_unreg(ims_pool_writer_t *w, uint64_t ident)
{
    int          rc;
    MDB_val      k, v;
    uint8_t      key[8];
    MDB_cursor  *cursor;

    rc = mdb_cursor_open(w->txn, w->dbi[IMS_POOL_T_REG], &cursor);
    if (rc != 0) {
        return ims_pool_w_fail(w, rc);
    }

    ims_pool_be64(key, ident);

    for ( ;; ) {
        k.mv_size = sizeof(key);
        k.mv_data = key;

        rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);

        if (rc != 0 || k.mv_size < sizeof(key)
            || memcmp(k.mv_data, key, sizeof(key)) != 0)
        {
            break;
        }

        rc = mdb_cursor_del(cursor, 0);

        if (rc != 0) {
            break;
        }
    }

    mdb_cursor_close(cursor);

    return rc == 0 || rc == MDB_NOTFOUND ? IMS_POOL_OK
                                         : ims_pool_w_fail(w, rc);
}
