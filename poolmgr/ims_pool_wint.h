/*
 * Copyright (C) nginx-ims contributors
 *
 * What the files of the writer share.
 */

#ifndef _IMS_POOL_WINT_H_INCLUDED_
#define _IMS_POOL_WINT_H_INCLUDED_


#include "base/ims_hmac.h"
#include "ims_pool_int.h"
#include "ims_pool_writer.h"


#define IMS_POOL_REALM_MAX      255
#define IMS_POOL_USER_MAX       65536
#define IMS_POOL_HASH_KEYS      16
#define IMS_POOL_KEY_LEN        32

#define IMS_POOL_LEASE_BITS     40      /* counter; incarnation above it */
#define IMS_POOL_FEED_KEPT      (15 * 60 * 1000)
#define IMS_POOL_REPORT_MAX     (7 * 86400 * 1000ull)
#define IMS_POOL_REGS           16      /* rows of `reg` an identity */


typedef struct {
    uint32_t        no;
    ims_hmac_key_t  key;
} ims_pool_hash_key_t;


/* DIR/keys; hash[0] is the current one, older ones follow */
typedef struct {
    ims_hmac_key_t       tag;
    ims_pool_hash_key_t  hash[IMS_POOL_HASH_KEYS];
    unsigned             nhash;
    uint64_t             print[IMS_POOL_HASH_KEYS + 1];  /* tag's is last */
} ims_pool_keys_t;


/*
 * DIR/floor.  With a history log that is synced: every lease after `logged` is
 * in it before anybody is told of it, none is given beyond `mark`, and `inode`
 * is the file's.  0 in all three: there is none, or it has gaps.
 *
 * `log` is the log's own number.  A state that has another one was never
 * written beside it: lease numbers of two databases look alike, so that such a
 * log would vouch for a backup that it knows nothing of.
 *
 * How the numbers of leases stand to each other:
 *
 *   state.lined <= w->lined <= state.last_lease, state.begun <= last_lease,
 *   and no lease is above mark
 *
 * last_lease moves with each lease, and with each start to the first number of
 * its incarnation; begun with each lease, and with a start that lost commits,
 * so what lies between them was given to nobody.  mark is moved before the
 * commit of a lease that would pass it, to a step above what has lines.
 * w->lined follows last_lease as soon as the lines of all that was committed
 * are on the disk, before they are told; the state has it with the next
 * commit.  So what is above lined is at most one batch, or what a killed
 * process left, and what is told is never above mark, nor above begun of the
 * newest commit.  mark less a step was begun, or is `logged`, or the first
 * number of an incarnation whose start has its line.
 */
typedef struct {
    uint64_t  incarnation;
    uint64_t  term;             /* ms: ttl_max + D + margin */
    uint64_t  logged;
    uint64_t  mark;
    uint64_t  inode;
    uint64_t  log;              /* random */
    bool      there;
} ims_pool_floor_t;

#define IMS_POOL_MARK_STEP   4096   /* leases, more than one batch begins */


/*
 * Renewals of a batch, and their way into the records.  What a batch has done
 * of it counts when it is committed.
 */
typedef struct {
    ims_pool_recent_t    recent;        /* committed */
    ims_pool_renewals_t  batch;
    uint64_t             no;            /* of the batch's commit */
    uint64_t             since;         /* PT; the new part's first one */
    uint64_t            *ident;         /* of the old part, in order, */
    size_t               n;
    size_t               at;            /* and those before it are done */
    size_t               batch_at;
    size_t               due;           /* put off by the batches so far */
    uint64_t             swept;         /* rows of older commits are gone */
    uint64_t             batch_swept;
    unsigned             slice;         /* records at least, this batch */
    unsigned             pause;         /* batches that leave all as it is */
    unsigned             lost;          /* rows that could not be read */
    bool                 tick;          /* this batch is housekeeping */
} ims_pool_fold_t;


/* The way from a user to an identity: a hint, see ims_pool_users.c. */
typedef struct {
    uint32_t             user;          /* of hash and pool */
    uint32_t             session;
    uint64_t             ident;         /* 0: free */
} ims_pool_way_t;

typedef struct {
    ims_pool_way_t       way;
    bool                 added;
} ims_pool_way_undo_t;

typedef struct {
    ims_pool_way_t      *way;
    uint64_t             secret;        /* odd; nobody chooses his place */
    unsigned             bits;          /* 2^bits places, if there are any */
    size_t               n;
    ims_pool_way_undo_t *undo;          /* what the batch did */
    unsigned             nundo;
    unsigned             max;
    bool                 loaded;
} ims_pool_users_t;


typedef struct ims_pool_purges_s  ims_pool_purges_t;
typedef struct ims_pool_events_s  ims_pool_events_t;


struct ims_pool_writer_s {
    MDB_env             *env;
    MDB_txn             *txn;           /* of the batch */
    MDB_dbi              dbi[IMS_POOL_TREES];
    ims_pool_clock_t     clock;
    ims_pool_reader_t   *reader;

    ims_pool_state_t     state;         /* of the batch */
    ims_pool_state_t     committed;
    uint64_t             now;           /* PT of the batch */
    uint64_t             wall;
    uint64_t             boottime;
    uint8_t              boot_id[16];
    uint64_t             pid_ns;
    uint64_t             time_ns;

    unsigned             dirty:1;       /* the batch wrote something */
    unsigned             broken:1;      /* LMDB failed in it */
    unsigned             nospace:1;     /* since the map or disk is full */
    unsigned             dead:1;        /* a commit's outcome is unknown */
    unsigned             pools:1;       /* the batch wrote rows of pools */
    unsigned             starting:1;

    int                  dirfd;
    int                  lockfd;
    gid_t                gid;
    bool                 chgrp;
    char                 dir[IMS_POOL_PATH_MAX];
    char                 target[32];
    uint64_t             number;        /* of it: env.<number> */
    ims_pool_options_t   opt;           /* its clock and dir are not used */

    ims_pool_floor_t     floor;
    ims_pool_keys_t      keys;
    ims_pool_fold_t      fold;
    ims_pool_users_t     users;
    ims_pool_purges_t   *purges;
    ims_pool_events_t   *events;

    uint64_t             keep;          /* history, ms; 0: for ever */
    uint64_t             prune_ident;   /* where its broom goes on */
    uint64_t             prune_lease;

    uint64_t             reserve;       /* bytes beyond the last page */
    uint64_t             space_end;     /* of the file, as far as allocated */
    uint64_t             space_tried;   /* BOOTTIME; 0: not in vain */
    uint64_t             space_free;    /* bytes within it, when they matter */
    uint64_t             space_counted;
    unsigned             space_count;
    ims_pool_space_e     space;
    unsigned             page_size;

    uint64_t             commits;
    uint64_t             damaged;
    uint64_t             lined;         /* the state's, of the next commit */

    uint8_t              name[IMS_POOL_REALM_MAX + 1 + IMS_POOL_USER_MAX];
};


/* --- directory (ims_pool_dir.c, ims_pool_keys.c) ----------------------- */

/* What is in the directory. */
typedef enum {
    IMS_POOL_DIR_EMPTY = 0,     /* nothing, or floor and keys only */
    IMS_POOL_DIR_UNLINKED,      /* one env.1 without `current` */
    IMS_POOL_DIR_OURS,          /* `current` is there */
    IMS_POOL_DIR_FOREIGN
} ims_pool_dir_e;

/* Directory made if missing, checked, locked; w->dirfd and lockfd set. */
int ims_pool_dir_open(ims_pool_writer_t *w, const ims_pool_options_t *opt,
    ims_pool_dir_e *what, char *err, size_t errlen);

/* Modes and group of the directory and everything known in it. */
int ims_pool_dir_modes(ims_pool_writer_t *w, char *err, size_t errlen);

/* DIR/current -> name, by rename and sync. */
int ims_pool_dir_link(ims_pool_writer_t *w, const char *name);
int ims_pool_dir_sync(int fd);

/* The same for what is in a directory of ours. */
int ims_pool_dir_sync_in(ims_pool_writer_t *w, const char *name);

/* A directory of an environment, if it is there. */
void ims_pool_dir_remove(ims_pool_writer_t *w, const char *name);

/*
 * What killed changes left: environments that were never finished, or that
 * nothing leads to any more but the last one before this.
 */
void ims_pool_dir_sweep(ims_pool_writer_t *w);

/* Writes a small file whole: temporary name, sync, rename, sync. */
int ims_pool_dir_replace(ims_pool_writer_t *w, const char *name,
    const char *text, size_t n);

/* Reads one: its length, -1 with errno. */
ssize_t ims_pool_dir_read(ims_pool_writer_t *w, const char *name, char *text,
    size_t cap);

int ims_pool_floor_read(ims_pool_writer_t *w, char *err, size_t errlen);
int ims_pool_floor_write(ims_pool_writer_t *w, uint64_t incarnation,
    uint64_t term);

/* The part about the log; 0: it is given up, and the rest does not matter. */
int ims_pool_floor_log(ims_pool_writer_t *w, uint64_t log, uint64_t logged,
    uint64_t mark, uint64_t inode);

/* Before a commit: the mark above what it gives. */
int ims_pool_floor_mark(ims_pool_writer_t *w);

/*
 * A writer that holds the directory and has not started: for a restore.  Its
 * environment is open if it can be.
 */
int ims_pool_writer_hold(ims_pool_writer_t **wp, const ims_pool_options_t *opt,
    char *err, size_t errlen);

/* Closes the environment, and starts with the one that is linked now. */
int ims_pool_reopen(ims_pool_writer_t *w, ims_pool_started_t *started,
    char *err, size_t errlen);

/* A copy's lock file, as large as it has to be. */
int ims_pool_copy_lock(ims_pool_writer_t *w, const char *name, char *err,
    size_t errlen);

/* Loads DIR/keys or makes it, the first hash key numbered next. */
int ims_pool_keys_load(ims_pool_writer_t *w, uint32_t next, bool *made,
    char *err, size_t errlen);


/* --- batch (ims_pool_batch.c) ------------------------------------------ */

/*
 * Reading in the batch: IMS_POOL_OK, _NOTFOUND, _INTERNAL (damage counted).
 * A record comes with its renewals.
 */
int ims_pool_w_rec(ims_pool_writer_t *w, uint64_t ident, ims_pool_rec_t *rec);
int ims_pool_w_pool(ims_pool_writer_t *w, uint32_t number, ims_pool_t *pool);
int ims_pool_w_copy(ims_pool_writer_t *w, ims_pool_tree_e tree,
    const void *key, size_t nkey, void *out, size_t n);
int ims_pool_w_row(ims_pool_writer_t *w, ims_pool_tree_e tree,
    const void *key, size_t nkey, ims_str_t *row);

/* NOPOOL besides. */
int ims_pool_w_by_name(ims_pool_writer_t *w, ims_str_t name,
    ims_pool_t *pool);

/*
 * Writing: adds the CRC.  flags: 0 or MDB_NOOVERWRITE (a row that is there
 * stays, IMS_POOL_EXISTS).  _NOSPACE and _INTERNAL break the batch.
 */
int ims_pool_w_put(ims_pool_writer_t *w, ims_pool_tree_e tree,
    const void *key, size_t nkey, const void *data, size_t n, unsigned flags);

/* The same with room for the CRC behind the n bytes, which is put there. */
int ims_pool_w_put_row(ims_pool_writer_t *w, ims_pool_tree_e tree,
    const void *key, size_t nkey, uint8_t *row, size_t n, unsigned flags);

/* All renewals so far are in it from now on. */
int ims_pool_w_put_rec(ims_pool_writer_t *w, ims_pool_rec_t *rec);

/* The same with a row that ims_pool_block_set() has put records into. */
int ims_pool_w_put_block(ims_pool_writer_t *w, const ims_pool_block_t *block);

/* One that is not there is fine. */
int ims_pool_w_del_rec(ims_pool_writer_t *w, uint64_t ident);
int ims_pool_w_put_pool(ims_pool_writer_t *w, const ims_pool_t *pool);

/* A row that is not there is fine. */
int ims_pool_w_del(ims_pool_writer_t *w, ims_pool_tree_e tree,
    const void *key, size_t nkey);

/* What a failure of LMDB's means; breaks the batch. */
int ims_pool_w_fail(ims_pool_writer_t *w, int rc);


/* --- renewals (ims_pool_fold.c) ----------------------------------------- */

/*
 * At start: those that are committed, to memory.  fold.lost: rows that could
 * not be read.
 */
int ims_pool_fold_open(ims_pool_writer_t *w, MDB_txn *txn);
void ims_pool_fold_close(ims_pool_writer_t *w);

/* Between batches: all of them into the records, and the tree is empty. */
int ims_pool_fold_all(ims_pool_writer_t *w);

void ims_pool_fold_begin(ims_pool_writer_t *w);

/* The batch is housekeeping: so many records, if there are. */
void ims_pool_fold_tick(ims_pool_writer_t *w, unsigned slice);

/* Would another tick find something to do? */
bool ims_pool_fold_more(const ims_pool_writer_t *w);

/* A commit failed: what comes next gets its pages for itself. */
void ims_pool_fold_failed(ims_pool_writer_t *w);

/*
 * A record of which nothing but one session's end, and what follows from it,
 * differs from what ims_pool_w_rec() gave.
 */
int ims_pool_w_put_renewal(ims_pool_writer_t *w, ims_pool_rec_t *rec,
    unsigned session);

/* Before a commit: the batch's rows, and a slice of the way to the records. */
int ims_pool_fold(ims_pool_writer_t *w);

/* After it. */
void ims_pool_fold_committed(ims_pool_writer_t *w);


/* --- users (ims_pool_users.c) ------------------------------------------- */

/*
 * From all records of a snapshot, with room for all others.  INTERNAL: no
 * memory or random numbers, or LMDB failed.
 */
int ims_pool_users_load(ims_pool_users_t *u, MDB_txn *txn, const MDB_dbi *dbi,
    const ims_pool_clock_t *clock);
void ims_pool_users_free(ims_pool_users_t *u);

/* Room for n in all, before it is needed; false: no memory. */
bool ims_pool_users_room(ims_pool_users_t *u, size_t n);

/*
 * In a batch, keys as of ims_pool_user_key().  false: no memory, and nothing
 * happened.  What is not there can be deleted.
 */
bool ims_pool_users_add(ims_pool_users_t *u, ims_str_t key, uint64_t ident);
bool ims_pool_users_del(ims_pool_users_t *u, ims_str_t key, uint64_t ident);

void ims_pool_users_committed(ims_pool_users_t *u);
void ims_pool_users_aborted(ims_pool_users_t *u);

/*
 * The next identity that may be the one of this key.  *pos is 0 at first.  The
 * table may not change meanwhile.
 *
 * all: of any session of the user, for pools per=session.  That looks through
 * the whole table, some ms at a million: for commands of people.
 */
bool ims_pool_users_next(const ims_pool_users_t *u, ims_str_t key, bool all,
    size_t *pos, uint64_t *ident);

/* Does the key lead to this record? */
bool ims_pool_users_is(const ims_pool_rec_t *rec, ims_str_t key, bool all);


/* --- space (ims_pool_space.c) ------------------------------------------- */

void ims_pool_space_open(ims_pool_writer_t *w);

/* false: nothing at all may be written */
bool ims_pool_space_look(ims_pool_writer_t *w);
uint64_t ims_pool_space_left(const ims_pool_writer_t *w,
    const MDB_envinfo *info);
void ims_pool_space_lock(ims_pool_writer_t *w, const char *name);
void ims_pool_space_free(ims_pool_writer_t *w, const char *name);


/* --- leases (ims_pool_{lease,end,avail}.c) -------------------------- */

/* Who asks, resolved. */
typedef struct {
    ims_pool_t       pool;
    uint8_t          user[IMS_POOL_HOLDER_LEN];     /* by the current key */
    uint64_t         session;                       /* 0: per=user */
    uint8_t          found[IMS_POOL_USER_KEY];      /* led to ident */
    size_t           nfound;
    uint64_t         ident;
    unsigned         known:1;       /* found, ident, rec and st are there */
    ims_pool_rec_t   rec;
    ims_pool_st_e    st;
} ims_pool_asker_t;

/*
 * The identity that a user of a->pool (in one per=session: a session of his)
 * has or had last, if any.
 */
int ims_pool_w_asker(ims_pool_writer_t *w, ims_str_t realm, ims_str_t user,
    uint64_t sid, ims_pool_asker_t *a);

/* Hash of realm and user under one key; realm and user were checked. */
bool ims_pool_w_who_ok(ims_str_t realm, ims_str_t user);
void ims_pool_w_hash(ims_pool_writer_t *w, const ims_hmac_key_t *key,
    ims_str_t realm, ims_str_t user, uint8_t *hash);

/* Ends a live lease now: record, history, feed. */
int ims_pool_w_end(ims_pool_writer_t *w, ims_pool_rec_t *rec,
    ims_pool_end_e reason);
int ims_pool_w_feed(ims_pool_writer_t *w, const ims_pool_rec_t *rec,
    ims_pool_end_e reason);

/* History row of a record's lease unless there is one. */
int ims_pool_w_hist(ims_pool_writer_t *w, const ims_pool_rec_t *rec,
    uint64_t end, ims_pool_end_e reason);

/*
 * The record gets these flags, and its row of `avail` stands where they want
 * it.  The record is not written.
 */
int ims_pool_w_avail_place(ims_pool_writer_t *w, ims_pool_rec_t *rec,
    uint16_t flags);

/* Row of `avail` moved to time, the record with it. */
int ims_pool_w_avail_move(ims_pool_writer_t *w, ims_pool_rec_t *rec,
    uint64_t time);

/*
 * The first identity that may be given to the holder of this tag, moving back
 * heads whose record rests longer.  EXHAUSTED with *retry_s.
 */
int ims_pool_w_pick(ims_pool_writer_t *w, uint32_t pool, const uint8_t *holder,
    ims_pool_rec_t *rec, uint32_t *retry_s);

/* Housekeeping of the same; IMS_POOL_MORE when there is more of it. */
int ims_pool_w_settle(ims_pool_writer_t *w, uint32_t pool, unsigned max);


/* The names of an identity that exists: a missing row is INTERNAL. */
int ims_pool_w_names(ims_pool_writer_t *w, uint64_t ident,
    ims_pool_names_t *names);

/*
 * Commits may be lost, and nobody can tell yet who is bound to this identity:
 * it was neither purged nor leased since.
 */
bool ims_pool_w_held(ims_pool_writer_t *w, const ims_pool_rec_t *rec);

/* The record's lease to history, unless it is there; its reports out. */
int ims_pool_w_past(ims_pool_writer_t *w, const ims_pool_rec_t *rec,
    const ims_pool_head_t *h);


/* --- history (ims_pool_hist.c) ------------------------------------------- */

/* After a commit, and when a batch is thrown away. */
void ims_pool_events_tell(ims_pool_writer_t *w);
void ims_pool_events_drop(ims_pool_writer_t *w);
void ims_pool_events_close(ims_pool_writer_t *w);
void ims_pool_event_begin(ims_pool_writer_t *w, const ims_pool_rec_t *rec,
    const ims_pool_who_t *who, ims_pool_how_e how);

void ims_pool_event_late(ims_pool_writer_t *w, const ims_pool_rec_t *rec,
    uint64_t wall);

/* Rows of the clock: in the first batch of a start, and each minute. */
int ims_pool_clock_start(ims_pool_writer_t *w);
int ims_pool_clock_tick(ims_pool_writer_t *w);

/* The names of an identity that goes stay findable for the history. */
int ims_pool_former_keep(ims_pool_writer_t *w, const ims_pool_names_t *names,
    uint32_t pool);

int ims_pool_tick_hist(ims_pool_writer_t *w);


/* --- removal (ims_pool_life.c) ------------------------------------------- */

/* One that was removed and has rested is forgotten: all its rows. */
int ims_pool_w_forget(ims_pool_writer_t *w, uint64_t ident);

/* A staged identity, which has nothing but its record and names. */
int ims_pool_w_unstage(ims_pool_writer_t *w, uint64_t ident);

/* Housekeeping; IMS_POOL_MORE when there is more of it. */
int ims_pool_tick_removed(ims_pool_writer_t *w);
int ims_pool_tick_dropped(ims_pool_writer_t *w);


/* --- purge (ims_pool_purge.c) --------------------------------------------- */

/* Makes or empties the lists, and fills them from the feed. */
int ims_pool_purges_open(ims_pool_writer_t *w);
void ims_pool_purges_close(ims_pool_writer_t *w);

/* Pools were written. */
int ims_pool_purges_look(ims_pool_writer_t *w);

/* An early end in this batch, and what became of the batch. */
void ims_pool_purge_note(ims_pool_writer_t *w, uint32_t pool, uint64_t ident,
    uint64_t lease, ims_pool_end_e reason);
void ims_pool_purge_aborted(ims_pool_writer_t *w);
void ims_pool_purge_committed(ims_pool_writer_t *w);

/* Is an edge at work on this identity? */
bool ims_pool_purge_is_out(ims_pool_writer_t *w, uint64_t ident);


/* --- imports left over (ims_pool_import.c) ----------------------------- */

/* At start: what was open is undone, what was decided carried on. */
int ims_pool_w_imports(ims_pool_writer_t *w, uint32_t *undone);

/* Is one under way? */
bool ims_pool_w_importing(ims_pool_writer_t *w);


/* --- replay of the history log (ims_pool_replay.c) ----------------------- */

/*
 * Commits are lost: remembers up to when the state is known.  To be called
 * while it is as it was found: before the hold, and before its clock is set.
 */
void ims_pool_hold_mark(ims_pool_state_t *s);

/* In the start that holds: can a log prove what was given since? */
void ims_pool_hold_begin(ims_pool_writer_t *w, uint64_t inc);

/* What is imported now rests at least until then; 0: nothing to wait for. */
uint64_t ims_pool_hold_import(const ims_pool_writer_t *w);

/* In a batch: what is over is forgotten. */
void ims_pool_hold_tick(ims_pool_writer_t *w);

/* --- pools (ims_pool_admin.c) ----------------------------------------- */

/* ttl_max + D + margin of one pool; the longest of all */
uint64_t ims_pool_term(const ims_pool_head_t *h);
int ims_pool_w_term(ims_pool_writer_t *w, uint64_t *term);

/* Leases up to this id are ended: pool row, history and one feed row. */
int ims_pool_w_fence(ims_pool_writer_t *w, ims_pool_t *pool, uint64_t fence);
int ims_pool_w_fence_all(ims_pool_writer_t *w, uint64_t fence);

/* When a lease of a pool was ended by its fence: the first one above it. */
int ims_pool_fenced_at(MDB_txn *txn, const MDB_dbi *dbi, uint32_t pool,
    uint64_t lease, uint64_t *pt);


/* --- check (ims_pool_check.c, ims_pool_check_env.c) ----------------------- */

/* One slice: a snapshot, and what is looked at in it. */
typedef struct {
    ims_pool_check_t    *check;
    MDB_env             *env;
    MDB_txn             *txn;
    const MDB_dbi       *dbi;
    ims_pool_recent_t   *recent;
    ims_pool_users_t    *users;
    ims_pool_state_t     state;
    ims_pool_floor_t     floor;
    uint64_t             pt;
    bool                 importing;     /* import is one under way */
    ims_pool_import_t    import;
} ims_pool_checker_t;

void ims_pool_fault(ims_pool_checker_t *c, ims_pool_fault_e fault,
    uint64_t ident);

/* Each page of the file is in one tree, or free, and not both. */
void ims_pool_check_pages(ims_pool_checker_t *c);

/* Figures, no faults: who reads, and since when. */
void ims_pool_check_readers(ims_pool_checker_t *c);

/* Owners, groups, modes, file system; nothing for a copy without a directory */
void ims_pool_check_files(ims_pool_checker_t *c, ims_pool_writer_t *w);

/* Is it on a file system that keeps what was synced? */
int ims_pool_dir_fs(ims_pool_writer_t *w, const ims_pool_options_t *opt,
    char *err, size_t errlen);


#endif /* _IMS_POOL_WINT_H_INCLUDED_ */
