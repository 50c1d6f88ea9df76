/*
 * Copyright (C) nginx-ims contributors
 */

/*
 * The pool: writer.  For the pool manager only, one handle a directory.
 *
 * Batches.  All that changes leases runs between ims_pool_begin() and
 * ims_pool_commit(): one LMDB transaction with one `now`.  A result may be told
 * to anybody only after the commit returned IMS_POOL_OK; it is then on disk.
 *
 *   ims_pool_begin(w)
 *   rc = ims_pool_acquire(w, ...)    each decides before it writes: a refusal
 *   rc = ims_pool_release(w, ...)    (-20 .. -29) has changed nothing
 *   if (ims_pool_broken(w)) {        LMDB failed in the middle of a command
 *       ims_pool_abort(w)            nothing of the batch happened; replay it
 *   }                                command by command, each its own batch:
 *   rc = ims_pool_commit(w)          the one that fails alone is INTERNAL
 *
 * Commit gives
 *   IMS_POOL_OK        durable
 *   IMS_POOL_NOSPACE   nothing happened; map or disk is full
 *   IMS_POOL_UNKNOWN   it may or may not have happened (EIO): answer
 *                      -UNKNOWN, leave the process, start anew.  Never go on:
 *                      a second fdatasync() after a failed one proves nothing.
 *
 * Later commands of a batch see the earlier ones.  A batch that wrote nothing
 * costs no sync.
 *
 * Reading (show, list, stat, check) uses snapshots of the last commit and may
 * be done at any time, in slices, in or between batches.
 *
 * Caveats
 *   - One thread.  Fork before ims_pool_writer_open(), never after.
 *   - Names and keys of users never leave this library in clear.
 */

#ifndef _IMS_POOL_WRITER_H_INCLUDED_
#define _IMS_POOL_WRITER_H_INCLUDED_


#include "ims_pool.h"


typedef struct ims_pool_writer_s  ims_pool_writer_t;


typedef struct {
    const char              *dir;
    const ims_pool_clock_t  *clock;         /* NULL: the machine's */
    size_t                   map_size;      /* 0: 16 GiB of address space */
    uint64_t                 reserve;       /* bytes kept for ends of leases;
                                               0: 64 MiB, at most an eighth of
                                               the map */
    unsigned                 readers;       /* slots; 0: 4096 */
    unsigned                 renewals;      /* kept before they are worked into
                                               the records; 0: as many as there
                                               are identities, within bounds */
    uint32_t                 node;          /* 0: 1 */
    long                     gid;           /* group of the files; -1: as is */
    bool                     is_volatile;   /* any file system; for tests */
    bool                     commits_lost;  /* as after a restore */
    bool                     never_used;    /* a new environment's numbers,
                                               whatever floor is beside it */
} ims_pool_options_t;

#define IMS_POOL_NO_RESERVE  UINT64_MAX

/* What the start found and did, for the log. */
typedef struct {
    uint64_t  incarnation;
    uint64_t  now;
    uint64_t  hold_until;       /* PT; 0 or past: none */
    bool      created;          /* a new environment */
    bool      fenced;           /* commits may be lost: all leases ended */
    bool      new_keys;         /* the keys file was made */
    uint32_t  undone;           /* unfinished imports taken out */
} ims_pool_started_t;


/*
 * Open or create the pool directory and start: lock, open, sync, raise the
 * incarnation, clock row, floor (POOL.md line 10).  Returns when all of it is
 * on disk; only then may a socket be opened.
 *
 * A missing or empty directory is set up; its parent must exist.  One with
 * other things in it is refused and left untouched.
 *
 * Commits may be lost when the state's incarnation is behind the floor's, when
 * there is a floor without an environment, or an environment that has given
 * leases without a floor: then every lease is fenced and nothing is given
 * until the longest term ever promised has passed.
 *
 * Errors, with a text in err: IMS_POOL_LOCKED, _NOT_OURS, _SCHEMA_DIFFERS,
 * _FILESYSTEM, _SYSTEM, _NOSPACE, _UNKNOWN.  started may be NULL.
 */
int ims_pool_writer_open(ims_pool_writer_t **wp, const ims_pool_options_t *opt,
    ims_pool_started_t *started, char *err, size_t errlen);

/* Aborts an open batch, closes, gives the lock back.  NULL is taken. */
void ims_pool_writer_close(ims_pool_writer_t *w);

/* The directory, as it was given. */
const char *ims_pool_writer_dir(const ims_pool_writer_t *w);


/* IMS_POOL_OK, _NOSPACE, or _UNKNOWN (the environment is unusable). */
int ims_pool_begin(ims_pool_writer_t *w);

/* Pool time of the batch; outside of one, of this moment. */
uint64_t ims_pool_now(ims_pool_writer_t *w);

/* Did LMDB fail inside a command?  Then only ims_pool_abort() is left. */
bool ims_pool_broken(const ims_pool_writer_t *w);

int ims_pool_commit(ims_pool_writer_t *w);
void ims_pool_abort(ims_pool_writer_t *w);

/*
 * Space.  When disk or map is nearly full, ACQUIRE of a new lease, imports and
 * new pools get NOSPACE first; when half of the reserve is used, so do leases
 * that go on; ends of leases go on to the last page.
 */
typedef enum {
    IMS_POOL_SPACE_ENDS = 0,    /* for ends only */
    IMS_POOL_SPACE_GO_ON,       /* and for leases that are there */
    IMS_POOL_SPACE_ALL
} ims_pool_space_e;

bool ims_pool_space_for(const ims_pool_writer_t *w, ims_pool_space_e what);

/*
 * Housekeeping, in a batch: rewrites the clock row (at least once a minute),
 * prunes feed rows older than 15 minutes, moves stale heads of `avail`.
 * Bounded work; IMS_POOL_MORE when it should be called again soon.
 */
int ims_pool_tick(ims_pool_writer_t *w);

/* mdb_reader_check(): frees slots of dead processes; every 10 s. */
int ims_pool_reader_check(ims_pool_writer_t *w, unsigned *freed);


/* --- pools ------------------------------------------------------------ */

typedef struct {
    ims_str_t  name;            /* letters, digits, . _ -; <= 63 bytes */
    ims_str_t  home;            /* home domain */
    ims_str_t  realms;          /* "a,b"; empty: any */
    uint64_t   ttl;             /* ms; 0: 600 s */
    uint64_t   ttl_max;         /* ms; 0: ttl, or 3600 s if that is more */
    uint64_t   delay;           /* D, ms; 0: 64 s */
    uint64_t   margin;          /* ms; 0: 30 s + 0.1 % of ttl_max */
    uint32_t   core_min;        /* s; 0: 60 */
    uint8_t    per;             /* IMS_POOL_PER_USER or _SESSION */
    uint8_t    purge;           /* 0 or 1 */
    bool       has_per;
    bool       has_purge;
} ims_pool_spec_t;

/*
 * Create: name and home are required.  Raises and syncs the floor before the
 * pool exists.  EXISTS, BADARG, NOSPACE, INTERNAL.
 */
int ims_pool_create(ims_pool_writer_t *w, const ims_pool_spec_t *spec,
    uint32_t *pool);

/*
 * Alter: fields that are zero or absent stay; home and per cannot be altered.
 * To allow any realm again give realms as a present, empty slice.  Running
 * leases keep what they were promised.
 */
int ims_pool_alter(ims_pool_writer_t *w, const ims_pool_spec_t *spec);

/*
 * A disabled pool gives nothing and lengthens nothing (HOLD); its leases run
 * out, or end at once (now).
 */
int ims_pool_pool_disable(ims_pool_writer_t *w, ims_str_t name, bool now);
int ims_pool_pool_enable(ims_pool_writer_t *w, ims_str_t name);

/*
 * Drop: every lease ends, the identities are removed by housekeeping, and when
 * the last of them has rested the pool goes and its name is free again.
 * NOTEMPTY unless `all`; BUSY while an import is under way.
 */
int ims_pool_drop(ims_pool_writer_t *w, ims_str_t name, bool all);

/* By name: NOPOOL, INTERNAL. */
int ims_pool_get(ims_pool_writer_t *w, ims_str_t name, ims_pool_t *pool);


/* --- identities ------------------------------------------------------- */

typedef struct {
    ims_str_t  impi;
    ims_str_t  display;
    ims_str_t  impu[IMS_POOL_IMPUS];
    unsigned   nimpu;
} ims_pool_identity_t;

/* What was wrong with a row. */
typedef enum {
    IMS_POOL_ROW_OK = 0,
    IMS_POOL_ROW_IMPI,          /* not a valid IMPI */
    IMS_POOL_ROW_IMPU,          /* not a valid IMPU; at says which */
    IMS_POOL_ROW_COUNT,         /* no IMPU, or too many */
    IMS_POOL_ROW_LONG,          /* names too long in all */
    IMS_POOL_ROW_IMPI_TAKEN,
    IMS_POOL_ROW_IMPU_TAKEN,    /* at says which; also twice in this row */
    IMS_POOL_ROW_DISPLAY        /* control characters or over 255 bytes */
} ims_pool_row_fault_e;

typedef struct {
    ims_pool_row_fault_e  fault;
    unsigned              at;
    uint64_t              ident;    /* of the identity that has it, or 0 */
    uint32_t              pool;     /* likewise */
} ims_pool_row_result_t;

const char *ims_pool_row_fault_text(ims_pool_row_fault_e fault);

/* Syntax alone, no database: for a look at all rows before the first write. */
ims_pool_row_fault_e ims_pool_identity_check(const ims_pool_identity_t *row,
    unsigned *at);

/*
 * The same, and what must be unique in such a row: its keys in `uri`, valid in
 * the call.  i: 0 is the IMPI's, 1 the first IMPU's.  Two IMPUs of one row may
 * have one key (tel: and sip: of a number).
 */
typedef void (*ims_pool_row_key_pt)(void *ctx, unsigned i, ims_str_t key);
ims_pool_row_fault_e ims_pool_identity_keys(const ims_pool_identity_t *row,
    unsigned *at, ims_pool_row_key_pt cb, void *ctx);

/*
 * Could these rows be imported into the pool?  In one snapshot of the last
 * commit; each that could not is told.  Rows are not held against each other.
 * NOPOOL, INTERNAL.
 */
typedef void (*ims_pool_row_pt)(void *ctx, unsigned i,
    const ims_pool_row_result_t *res);
int ims_pool_import_look(ims_pool_writer_t *w, ims_str_t pool,
    const ims_pool_identity_t *rows, unsigned n, ims_pool_row_pt cb,
    void *ctx);

/*
 * Import: all or nothing, over many batches.
 *
 *   begin     BUSY while another one is unfinished
 *   rows      EXISTS, BADARG with res: rows[*done] is at fault, those before
 *             it are staged
 *   row       one row
 *   end       the decision: one write
 *   undo      the other decision
 *   step      in further batches, until it is not MORE: publishes (or takes
 *             out) up to max rows
 *
 * What is open at a start of the pool manager is undone, what was decided is
 * carried on.  rest: ms from now until the first lease (0: never used before).
 */
int ims_pool_import_begin(ims_pool_writer_t *w, ims_str_t pool, uint64_t rest,
    uint32_t *import_no);
int ims_pool_import_rows(ims_pool_writer_t *w, uint32_t import_no,
    const ims_pool_identity_t *rows, unsigned n, unsigned *done,
    ims_pool_row_result_t *res);
int ims_pool_import_row(ims_pool_writer_t *w, uint32_t import_no,
    const ims_pool_identity_t *row, uint64_t *ident,
    ims_pool_row_result_t *res);
int ims_pool_import_end(ims_pool_writer_t *w, uint32_t import_no);
int ims_pool_import_undo(ims_pool_writer_t *w, uint32_t import_no);
int ims_pool_import_step(ims_pool_writer_t *w, uint32_t import_no,
    unsigned max);

/* One identity in one batch, published at once. */
int ims_pool_identity_add(ims_pool_writer_t *w, ims_str_t pool,
    const ims_pool_identity_t *row, uint64_t rest, uint64_t *ident,
    ims_pool_row_result_t *res);

/* The identity of an IMPU or IMPI, in a batch.  NOTFOUND, BADARG. */
int ims_pool_find(ims_pool_writer_t *w, ims_str_t name, uint64_t *ident);

/*
 * By IMPU or IMPI.  NOTFOUND; BUSY: of an import that is not finished.
 *
 * disable  not given, not returned to, not lengthened; a live lease runs out,
 *          or ends at once (now)
 * enable   the opposite; rest and bar are what they were
 * remove   a live lease ends; when the identity has rested all of it goes, and
 *          only then its names may be imported again
 */
int ims_pool_disable(ims_pool_writer_t *w, ims_str_t name, bool now,
    bool *ended);
int ims_pool_enable(ims_pool_writer_t *w, ims_str_t name);
int ims_pool_remove(ims_pool_writer_t *w, ims_str_t name, bool *ended);

/*
 * Ranges: "sip:web-[0000-9999]@dom" is ten thousand names.  One bracket; both
 * numbers have the same number of digits (<= 9), which is kept.
 */
typedef struct {
    ims_str_t  before;
    ims_str_t  after;
    uint32_t   first;
    uint32_t   last;
    unsigned   width;           /* 0: no bracket, one name */
} ims_pool_range_t;

bool ims_pool_range_parse(ims_str_t text, ims_pool_range_t *range);
uint32_t ims_pool_range_count(const ims_pool_range_t *range);

/* The i-th name, from 0.  Returns its length, 0 if it does not fit cap. */
size_t ims_pool_range_name(const ims_pool_range_t *range, uint32_t i,
    uint8_t *dst, size_t cap);


/* --- leases ----------------------------------------------------------- */

/* Who asks.  user: <= 64 KiB of any bytes; realm: <= 255, without NUL. */
typedef struct {
    ims_str_t  pool;
    ims_str_t  realm;
    ims_str_t  user;
    uint64_t   sid;             /* not 0 */
    uint32_t   issuer;          /* 0: not told */
} ims_pool_who_t;

typedef enum {
    IMS_POOL_SAME = 0,          /* the lease goes on, lines 1 and 4 */
    IMS_POOL_RETURNED,          /* a new lease for the last holder, line 2 */
    IMS_POOL_NEW                /* a new lease on another identity, line 3 */
} ims_pool_how_e;

typedef struct {
    uint64_t          ident;
    uint64_t          lease;
    uint64_t          sid;
    uint8_t           holder[IMS_POOL_HOLDER_LEN];
    uint64_t          now;          /* PT of the batch */
    uint64_t          end;          /* PT, of this session */
    uint64_t          lease_end;
    uint64_t          rest;
    uint32_t          pool;
    ims_pool_how_e    how;
    uint32_t          retry_s;      /* after EXHAUSTED and HOLD */
    char              home[IMS_POOL_HOME_MAX + 1];
    ims_pool_names_t  names;        /* after IMS_POOL_OK */
} ims_pool_grant_t;

/*
 * Lines 1 to 3.  Idempotent: the same user and sid get the same lease.  A lease
 * has up to IMS_POOL_SESSIONS sessions; one more takes the place of that which
 * ends first.  In a pool per=session each session has a lease of its own.
 * NOPOOL, DENIED, BADARG, HOLD, EXHAUSTED, NOSPACE, INTERNAL.
 */
int ims_pool_acquire(ims_pool_writer_t *w, const ims_pool_who_t *who,
    ims_pool_grant_t *grant);

/* Line 4.  ENDED besides. */
int ims_pool_renew(ims_pool_writer_t *w, const ims_pool_who_t *who,
    uint64_t ident, uint64_t lease, ims_pool_grant_t *grant);

/*
 * Line 5.  *ended: the lease itself ended, since this was its last session.
 * ENDED when it is not a live lease with this user and sid: nothing happens.
 */
int ims_pool_release(ims_pool_writer_t *w, const ims_pool_who_t *who,
    uint64_t ident, uint64_t lease, bool *ended);

/*
 * Line 6.  By lease, by a folded or given IMPU, by user (all pools if pool is
 * empty), by pool.  *n: leases ended (revoke_pool: leaves it alone).  NOTFOUND:
 * no such thing; ENDED: there is one, but it has no live lease.
 *
 * bar: the holder, or who held it last, may not return before the identity had
 * another holder; that it has no live lease is then no error.
 */
int ims_pool_revoke_lease(ims_pool_writer_t *w, uint64_t ident,
    uint64_t lease, bool bar, unsigned *n);
int ims_pool_revoke_impu(ims_pool_writer_t *w, ims_str_t impu, bool bar,
    unsigned *n);
int ims_pool_revoke_user(ims_pool_writer_t *w, ims_str_t pool,
    ims_str_t realm, ims_str_t user, bool bar, unsigned *n);
int ims_pool_revoke_pool(ims_pool_writer_t *w, ims_str_t pool,
    uint64_t *fence);

/*
 * Line 8: somebody saw a binding of this identity that lives until `until`
 * (PT).  Raises the rest, never anything else.  *alert: another holder has the
 * identity already.  NOTFOUND, INTERNAL.
 */
int ims_pool_report(ims_pool_writer_t *w, uint64_t ident, uint64_t lease,
    uint32_t edge, uint64_t flow, uint64_t until, bool *alert);


/*
 * Line 9, purge: a lease that ended early, long enough ago that no message of
 * it is under way any more.  The edge sends, once and before send_by, a
 * REGISTER with `Contact: *` for each IMPU, and says so when each of them was
 * answered 200.  Meanwhile the last holder may not return (BUSY).
 */
#define IMS_POOL_PURGE_MS    32000

typedef struct {
    uint64_t          id;           /* not 0 */
    uint64_t          ident;
    uint64_t          lease;        /* 0: never leased, as far as is known */
    uint64_t          send_by;      /* CLOCK_BOOTTIME, ms */
    uint64_t          answer_by;
    char              pool[IMS_POOL_NAME_MAX + 1];
    char              home[IMS_POOL_HOME_MAX + 1];
    ims_pool_names_t  names;
} ims_pool_purge_t;

/* May the edge that asks have one of this pool? */
typedef bool (*ims_pool_purge_may_pt)(void *ctx, const ims_pool_t *pool);

/* One of those that are due, in a batch.  NOTFOUND: none is. */
int ims_pool_purge_next(ims_pool_writer_t *w, ims_pool_purge_may_pt may,
    void *ctx, ims_pool_purge_t *job);

/*
 * It was done.  Lowers the rest to now + margin.  NOTFOUND: too late, or not
 * known; ENDED: the identity has had another lease since.
 */
int ims_pool_purged(ims_pool_writer_t *w, uint64_t id, uint64_t *ident,
    uint64_t *lease);

/*
 * A hold by command: until then nothing is given, but leases live on and are
 * lengthened.  ms 0 ends it.  A hold after lost commits is not touched.
 */
int ims_pool_hold_for(ims_pool_writer_t *w, uint64_t ms);


/* --- history ----------------------------------------------------------- */

/* One lease of one identity. */
typedef struct {
    uint64_t  ident;
    uint64_t  lease;
    uint8_t   user[IMS_POOL_HOLDER_LEN];
    uint32_t  hash_key;
    uint32_t  issuer;
    uint32_t  pool;
    uint32_t  reason;           /* ims_pool_end_e; NONE: it is live */
    uint64_t  start_wall;
    uint64_t  end_wall;
} ims_pool_past_t;

const char *ims_pool_end_text(ims_pool_end_e reason);

typedef enum {
    IMS_POOL_EV_BEGIN = 0,
    IMS_POOL_EV_END
} ims_pool_event_e;

typedef struct {
    ims_pool_event_e  kind;
    ims_pool_how_e    how;      /* of a BEGIN */
    uint64_t          wall;     /* when it was written */
    ims_pool_past_t   past;     /* end_wall and reason: of an END */
    ims_str_t         realm;    /* of a BEGIN, if asked for */
    ims_str_t         user;
} ims_pool_event_t;

/*
 * What is to be told of each lease that begins or ends, after the commit that
 * it is in.  An end by expiry is told when it is noticed: when the identity is
 * given on.  users: with names in clear.  SYSTEM: no memory.
 */
typedef void (*ims_pool_event_pt)(void *ctx, const ims_pool_event_t *event);
int ims_pool_events(ims_pool_writer_t *w, ims_pool_event_pt cb, void *ctx,
    bool users);

/* Events that found no memory, since the start. */
uint64_t ims_pool_events_lost(const ims_pool_writer_t *w);

/*
 * The log as a proof of what was given: then what is told of a BEGIN goes to
 * the disk before the lease is told to anybody.
 *
 *   on       from here on, to a file with this inode; goes on where the start
 *            before, or another file, left it, or begins anew: after `off`, and
 *            with a database that was not written beside this log.  Not in a
 *            batch
 *   off      a line was lost, or nobody writes them: before anything more is
 *            told.  What has failed must not give a lease away
 *   late     after a start and `on`: BEGINs again, of leases that were given
 *            when the last process was killed, perhaps before their lines were
 *            on the disk.  INTERNAL: some are not known, so `off`
 *   start    for the line of a start (also of an environment that followed
 *            another), to be written after these
 *   synced   all that was told so far is on the disk
 *
 * An error of off: it is as before.  Of on: it is off, or as before, so `off`.
 *
 * A file system that does not keep what was synced (FILESYSTEM, and its name)
 * is not one for such a log; SYSTEM: errno tells.
 */
int ims_pool_fs(int fd, const char **name);

typedef struct {
    uint64_t  wall;
    uint64_t  incarnation;
    uint64_t  run;              /* random */
    uint64_t  last;             /* lease that was begun last; lost: that, or
                                   one before it */
    uint64_t  before;           /* lost: inode of the log before this start */
    bool      lost;             /* commits may be lost */
} ims_pool_log_start_t;

int ims_pool_log_on(ims_pool_writer_t *w, uint64_t inode);
int ims_pool_log_off(ims_pool_writer_t *w);
int ims_pool_log_late(ims_pool_writer_t *w);
void ims_pool_log_start(const ims_pool_writer_t *w,
    ims_pool_log_start_t *start);
void ims_pool_log_synced(ims_pool_writer_t *w);
bool ims_pool_log_complete(const ims_pool_writer_t *w);

/*
 * Replay: the lines of such a log, in their order, prove which identities
 * nobody had since the commits that are there.  The others rest as long as the
 * hold would have, and may not be returned to; the hold ends.
 *
 *   open     BADARG: there is no hold, or no log can prove it; INTERNAL
 *   file     the lines that follow are from a file with this inode
 *   begin    a BEGIN: lease, identity, IMPI and IMPUs as the line has them
 *   start    a start, or the first line of a file
 *   prove    after the last line
 *   step     then, in batches, until it is not MORE: up to max records
 *
 * BADARG of any but open and step: it proves nothing; ims_pool_replay_text()
 * says why, and nothing has happened.  Step: UNKNOWN, INTERNAL, NOSPACE: the
 * hold goes on, and it can be done again.
 */
typedef struct ims_pool_replay_s  ims_pool_replay_t;

typedef struct {
    uint64_t  lines;            /* leases begun since */
    uint64_t  records;          /* looked at */
    uint64_t  held;             /* of them */
    uint64_t  until;            /* PT */
} ims_pool_replayed_t;

int ims_pool_replay_open(ims_pool_replay_t **rp, ims_pool_writer_t *w,
    char *err, size_t errlen);
void ims_pool_replay_close(ims_pool_replay_t *r);

int ims_pool_replay_file(ims_pool_replay_t *r, uint64_t inode);
int ims_pool_replay_begin(ims_pool_replay_t *r, ims_pool_writer_t *w,
    uint64_t ident, uint64_t lease, const ims_str_t *names, unsigned n);
int ims_pool_replay_start(ims_pool_replay_t *r,
    const ims_pool_log_start_t *start);
int ims_pool_replay_prove(ims_pool_replay_t *r, ims_pool_writer_t *w);
int ims_pool_replay_step(ims_pool_replay_t *r, ims_pool_writer_t *w,
    unsigned max, ims_pool_replayed_t *done);
const char *ims_pool_replay_text(const ims_pool_replay_t *r);

/*
 * Leases of one identity, the oldest first, from the one numbered *lease on (0:
 * the first), up to max rows in one snapshot; the last one may be live.  MORE:
 * call again with *lease as it is.
 */
typedef void (*ims_pool_past_pt)(void *ctx, const ims_pool_past_t *past);
int ims_pool_history(ims_pool_writer_t *w, uint64_t ident, uint64_t *lease,
    unsigned max, ims_pool_past_pt cb, void *ctx);

/* All leases of all identities: zero the position, call until not MORE. */
typedef struct {
    bool      records;          /* after the rows of history */
    uint64_t  ident;
    uint64_t  lease;
} ims_pool_history_t;

int ims_pool_history_walk(ims_pool_writer_t *w, ims_pool_history_t *pos,
    unsigned max, ims_pool_past_pt cb, void *ctx);

/* Was this the holder?  1, 0; -1: hashed with a key that was dropped. */
int ims_pool_past_is(ims_pool_writer_t *w, const ims_pool_past_t *past,
    ims_str_t realm, ims_str_t user);

/*
 * All identities that have or had this IMPU or IMPI, in order; those that were
 * removed as long as the history knows them.  Returns their number, BADARG.
 */
int ims_pool_former(ims_pool_writer_t *w, ims_str_t name, uint64_t *ident,
    unsigned max);

/* How long rows are kept after a lease's end, ms; 0: for ever. */
void ims_pool_history_keep(ims_pool_writer_t *w, uint64_t ms);


/* --- hash keys -------------------------------------------------------- */

/*
 * Users are known by keyed hashes.  Rotate: a new key, in a batch; who comes is
 * looked for under older ones too, and found under the new one from then on.
 * EXISTS: there are 16 already, drop one first.
 *
 * Drop: an older one, for good, outside of batches.  Users whose hash was made
 * with it have no way back to their identities any more, and nobody can say
 * whether they were the holder.  The caller has made sure that none of them
 * has a live lease.  NOTFOUND; BADARG: it is the current one.
 */
int ims_pool_key_rotate(ims_pool_writer_t *w, uint32_t *no);
int ims_pool_key_drop(ims_pool_writer_t *w, uint32_t no);

/* All, the current one first. */
typedef void (*ims_pool_key_pt)(void *ctx, const ims_pool_key_t *key,
    bool current);
int ims_pool_key_list(ims_pool_writer_t *w, ims_pool_key_pt cb, void *ctx);


/* --- reading ---------------------------------------------------------- */

/*
 * A reader on the writer's own environment: look, names, by_uri, by_impi, pt.
 * Owned by the writer.  Sees what is committed.
 */
ims_pool_reader_t *ims_pool_writer_reader(ims_pool_writer_t *w);

typedef enum {
    IMS_POOL_ST_FREE = 0,
    IMS_POOL_ST_LEASED,
    IMS_POOL_ST_RESTING,
    IMS_POOL_ST_OFF,
    IMS_POOL_STATES
} ims_pool_st_e;

ims_pool_st_e ims_pool_state_of(const ims_pool_rec_t *rec, uint64_t fence,
    uint64_t pt);
const char *ims_pool_st_text(ims_pool_st_e st);

/*
 * The identity that a user holds or held last in a pool; of several sessions'
 * in a pool per=session a live one.  NOTFOUND, NOPOOL.
 */
int ims_pool_by_user(ims_pool_writer_t *w, ims_str_t pool, ims_str_t realm,
    ims_str_t user, uint64_t *ident);

/* All pools, in order of number; cb != 0 stops. */
typedef int (*ims_pool_pool_pt)(void *ctx, const ims_pool_t *pool);
int ims_pool_list(ims_pool_writer_t *w, ims_pool_pool_pt cb, void *ctx);

/*
 * Identities in order of number, from *pos (0: the first) on, at most max rows
 * looked at in one snapshot.  pool 0: all pools; state -1: all states.
 * IMS_POOL_MORE: call again with *pos as it is; OK: that was all.
 * cb gets record and state; fence and pt are those of the snapshot.
 */
typedef int (*ims_pool_rec_pt)(void *ctx, const ims_pool_rec_t *rec,
    ims_pool_st_e st);
int ims_pool_walk(ims_pool_writer_t *w, uint32_t pool, int state,
    uint64_t *pos, unsigned max, ims_pool_rec_pt cb, void *ctx);

/*
 * Figures of a pool, counted in slices: zero the struct, call until not MORE.
 * With nothing free, next_free_s is when the first rest ends.
 */
typedef struct {
    uint64_t  pos;
    uint64_t  total;
    uint64_t  count[IMS_POOL_STATES];
    uint64_t  first_rest;       /* PT; 0: none */
} ims_pool_stat_t;

int ims_pool_stat_slice(ims_pool_writer_t *w, uint32_t pool,
    ims_pool_stat_t *st, unsigned max);

typedef struct {
    ims_pool_state_t  state;        /* as committed */
    uint64_t          now;
    uint64_t          identities;
    uint64_t          users;
    uint64_t          renewals;     /* not in the records yet */
    uint64_t          hist;
    uint64_t          feed;
    uint64_t          map_size;
    uint64_t          map_used;     /* bytes up to the last page */
    uint64_t          txn;
    unsigned          readers;      /* slots taken */
    unsigned          readers_max;
    uint64_t          reserve;      /* bytes, as wanted and as there are */
    uint64_t          space_left;   /* with free pages, once it gets short */
    uint64_t          commits;      /* since the start */
    uint64_t          damaged;      /* rows met with a bad CRC or key */
} ims_pool_info_t;

int ims_pool_info(ims_pool_writer_t *w, ims_pool_info_t *info);


/* --- check ------------------------------------------------------------ */

typedef enum {
    IMS_POOL_FAULT_ROW = 0,     /* bad CRC, length or key */
    IMS_POOL_FAULT_TIMES,       /* order of a record's times */
    IMS_POOL_FAULT_LEASE,       /* lease id above the last one given */
    IMS_POOL_FAULT_AVAIL,       /* missing, twice, later than rest, no record */
    IMS_POOL_FAULT_USER,        /* a holder with two identities, or no way to
                                   his */
    IMS_POOL_FAULT_NAMES,       /* names and uri are not inverses */
    IMS_POOL_FAULT_POOL,        /* no such pool */
    IMS_POOL_FAULT_FEED,        /* a gap in the sequence */
    IMS_POOL_FAULT_TOTAL,       /* a pool's total */
    IMS_POOL_FAULT_FLOOR,       /* incarnation above the floor's */
    IMS_POOL_FAULT_HIST,        /* leases overlap, or begin in a rest */
    IMS_POOL_FAULT_IMPORT,      /* staged without an import, or the opposite */
    IMS_POOL_FAULT_PAGES,       /* LMDB: used and free ones are not all */
    IMS_POOL_FAULT_FILE,        /* owner, group or mode; file system */
    IMS_POOL_FAULT_RENEWAL,     /* of another lease or session, or to come */
    IMS_POOL_FAULTS
} ims_pool_fault_e;

const char *ims_pool_fault_text(ims_pool_fault_e fault);

/*
 * ident: where, or the pool, feed sequence, import or commit where there is
 * none; of a file its number.  The text of the place fits IMS_POOL_PLACE_MAX bytes.
 */
#define IMS_POOL_PLACE_MAX   24
void ims_pool_fault_place(ims_pool_fault_e fault, uint64_t ident, char *text);

typedef void (*ims_pool_fault_pt)(void *ctx, ims_pool_fault_e fault,
    uint64_t ident);

/*
 * Checks the whole environment in slices of max rows, each in one snapshot:
 * begin, then slice until it is not MORE; the result is IMS_POOL_OK whether
 * there are faults or not.  cb hears the first 20 of each kind; faults[] counts
 * all.  May run between batches.  Nothing is to be freed.
 */
typedef struct ims_pool_check_s  ims_pool_check_t;

#define IMS_POOL_CHECK_SUMS  64

struct ims_pool_check_s {
    uint64_t           rows;
    uint64_t           faults[IMS_POOL_FAULTS];

    /* for people: of the last snapshot, after the last slice */
    uint64_t           pages;
    uint64_t           pages_free;
    unsigned           readers;     /* that have one now */
    uint64_t           behind;      /* the oldest of them: commits since */

    /* private */
    ims_pool_fault_pt  cb;
    void              *ctx;
    unsigned           phase;
    unsigned           nkey;
    uint8_t            key[512];    /* last row seen in this phase */
    uint64_t           last_seq;
    uint64_t           last_pt;
    uint64_t           count[IMS_POOL_CHECK_SUMS];  /* identities, by pool */
    uint64_t           sum[IMS_POOL_CHECK_SUMS];    /* when it was begun */
    uint32_t           last_index;
    uint32_t           import_no;
    unsigned           tries;
    bool               steady;
};

void ims_pool_check_begin(ims_pool_check_t *check, ims_pool_fault_pt cb,
    void *ctx);
int ims_pool_check_slice(ims_pool_writer_t *w, ims_pool_check_t *check,
    unsigned max);
uint64_t ims_pool_check_total(const ims_pool_check_t *check);


/* --- copies ------------------------------------------------------------ */

/*
 * Backup of the environment that DIR/current names, compacted, into one file.
 * For a process of its own, which needs no writer and no pool manager: it reads
 * for as long as the copy takes, and the file of the environment grows so long.
 * The copy is made under another name, synced, opened and checked, and only
 * then gets its name.
 */
int ims_pool_backup(const char *dir, const ims_pool_clock_t *clock,
    const char *path, ims_pool_check_t *check, char *err, size_t errlen);

/*
 * Opens such a file and checks all of it; state may be NULL.  UNKNOWN: it has
 * faults; NOT_OURS, SCHEMA_DIFFERS, SYSTEM.
 */
int ims_pool_verify(const char *path, ims_pool_check_t *check,
    ims_pool_state_t *state, char *err, size_t errlen);

/*
 * Change to another environment: a compacted copy of this one (from == NULL),
 * or a backup ("-": standard input).  Begin makes and checks it, and may run in another thread; for a
 * compacted copy nothing may be committed from begin to end.  End changes over
 * and starts as if anew: a new incarnation, and after a restore all leases are
 * fenced and nothing is given for the longest term.  When end fails the writer
 * is dead, or nothing has happened: ims_pool_broken() tells.
 */
int ims_pool_copy_begin(ims_pool_writer_t *w, const char *from,
    ims_pool_check_t *check, char *err, size_t errlen);
int ims_pool_copy_end(ims_pool_writer_t *w, bool restored,
    ims_pool_started_t *started, char *err, size_t errlen);

/* The same restore without a pool manager; the next start is the start. */
int ims_pool_restore(const ims_pool_options_t *opt, const char *from,
    char *err, size_t errlen);


#endif /* _IMS_POOL_WRITER_H_INCLUDED_ */
