/*
 * Copyright (C) nginx-ims contributors
 */

/*
 * The pool: database format and reader.
 *
 * An environment (LMDB) holds the identities of one machine and who has which
 * of them until when.  One process, the pool manager, writes it
 * (ims_pool_writer.h); any number of others, nginx workers above all, read it
 * through this header without a lock, a system call or a word to the writer.
 *
 * Layout of the pool directory:
 *
 *   DIR/lock         OFD lock held by the pool manager for life
 *   DIR/floor        highest incarnation and longest term ever (synced)
 *   DIR/keys         tag key and user hash keys, 0600; never in a backup
 *   DIR/current      symbolic link to env.<n>
 *   DIR/env.<n>/     data.mdb 0640, lock.mdb 0660
 *
 * Time.  Everything is pool time (PT) in milliseconds: a clock that follows
 * CLOCK_BOOTTIME, goes on where it stood over reboots, never goes back and
 * knows nothing of the wall clock.  Fields named *_wall are ms since 1970, for
 * people only.
 *
 * Integers are big-endian in keys (but in `ident`), native in values.  Each
 * value ends with the CRC-32C of its key followed by its other bytes, so that
 * a row that was damaged or that lies under another row's key is seen.  Values
 * are copied out of the map before they are used: LMDB aligns them to 2 bytes
 * only.
 *
 * States of an identity are read off the record, never stored:
 *
 *   OFF       flags & IMS_POOL_F_OFF
 *   LEASED    else PT < end and lease > fence of the pool
 *   OFF       else flags & IMS_POOL_F_CLOSING
 *   RESTING   else PT < rest
 *   FREE      else
 *
 * Caveats
 *   - Open a directory once in a process and never before fork(): closing one
 *     of two drops the file locks of both, and a slot belongs to a pid.
 *     Fix: open in init_process, close in exit_process.
 *   - A reader handle is for one thread at a time.
 *   - Any result that is neither IMS_POOL_OK nor IMS_POOL_NOTFOUND means that
 *     nothing is known.  Fix: answer 503; never "no lease", never "yes".
 *   - IMS_POOL_REOPEN means that the environment was given up (compaction,
 *     restore).  Fix: close, open again, look at all flows anew.
 */

#ifndef _IMS_POOL_H_INCLUDED_
#define _IMS_POOL_H_INCLUDED_


#include "base/ims_str.h"


#define IMS_POOL_MAGIC          "ims-pool"
#define IMS_POOL_SCHEMA         3      /* of rows written by this version */
#define IMS_POOL_MIN_READER     3      /* oldest reader that understands them */

#define IMS_POOL_SESSIONS       4      /* room in a record */
#define IMS_POOL_IMPUS          16     /* of one identity */
#define IMS_POOL_URI_MAX        510    /* bytes of an IMPU or IMPI */
#define IMS_POOL_NAMES_MAX      4096   /* bytes of a row of `name` */
#define IMS_POOL_NAME_MAX       63     /* bytes of a pool's name */
#define IMS_POOL_HOME_MAX       255    /* bytes of a home domain */
#define IMS_POOL_REALMS_MAX     1023   /* bytes of a pool's list of realms */
#define IMS_POOL_FEED_MAX       1024   /* rows told by one ims_pool_feed() */

#define IMS_POOL_HOLDER_LEN     16     /* holder tag and user hash, bytes */
#define IMS_POOL_LEASE_TEXT     33     /* "<16 hex digits>-<16 hex digits>" */


/*
 * Results of all functions of reader and writer.  0 is success, positive
 * values are success with more to come, negative ones are refusals and
 * failures.  ims_pool_strerror() gives a fixed text.
 */
typedef enum {
    IMS_POOL_MORE = 1,          /* slice done, call again */
    IMS_POOL_OK = 0,

    /* reading */
    IMS_POOL_NOTFOUND = -1,     /* no such row: the one certain "no" */
    IMS_POOL_UNKNOWN = -2,      /* nothing is known; reader: 503; commit: the
                                   outcome is unknown, leave the process */
    IMS_POOL_REOPEN = -3,       /* environment given up; close and open */
    IMS_POOL_GAP = -4,          /* feed rows were missed: look at all flows */

    /* opening */
    IMS_POOL_NOT_THERE = -5,    /* nothing there yet: try again on a timer */
    IMS_POOL_NOT_OURS = -6,     /* something else is there */
    IMS_POOL_SCHEMA_DIFFERS = -7, /* made by another version */
    IMS_POOL_OTHER_KERNEL = -8, /* boot, PID or time namespace differ from the
                                   pool manager's: try again on a timer (after
                                   a reboot it has not started yet) */
    IMS_POOL_NO_ACCESS = -9,    /* permissions; a timer may cure it */
    IMS_POOL_LOCKED = -10,      /* another pool manager has the directory */
    IMS_POOL_FILESYSTEM = -11,  /* tmpfs, overlay, NFS, ... */
    IMS_POOL_SYSTEM = -12,      /* system call failed, see the text */

    /* refusals of the writer: nothing was changed */
    IMS_POOL_EXHAUSTED = -20,   /* no identity is free; retry_s tells when */
    IMS_POOL_ENDED = -21,       /* not a live lease of this user and session */
    IMS_POOL_HOLD = -22,        /* nothing is given yet; retry_s */
    IMS_POOL_DENIED = -23,      /* realm not of this pool */
    IMS_POOL_NOPOOL = -24,      /* no such pool */
    IMS_POOL_EXISTS = -25,      /* name or URI is taken */
    IMS_POOL_BADARG = -26,      /* malformed argument */
    IMS_POOL_BUSY = -27,        /* another import is under way */
    IMS_POOL_NOTEMPTY = -28,    /* the pool has identities */

    /* failures of the writer */
    IMS_POOL_NOSPACE = -30,     /* map or disk full */
    IMS_POOL_INTERNAL = -31     /* LMDB failed or a row is damaged */
} ims_pool_rc_e;

const char *ims_pool_strerror(int rc);


/* flags of a record */
#define IMS_POOL_F_DISABLED     0x0001
#define IMS_POOL_F_REMOVING     0x0002
#define IMS_POOL_F_STAGED       0x0004  /* import not published yet */
#define IMS_POOL_F_CLOSING      0x0008  /* disabled when its lease has ended */
#define IMS_POOL_F_BARRED       0x0010  /* last holder may not return */
#define IMS_POOL_F_PURGED       0x0020  /* until the next lease */
#define IMS_POOL_F_PARTED       0x0040  /* last holder has another identity */
#define IMS_POOL_F_PER_SESSION  0x0080  /* the lease is one session's */

#define IMS_POOL_F_OFF          (IMS_POOL_F_DISABLED|IMS_POOL_F_REMOVING      \
                                 |IMS_POOL_F_STAGED)

/* not to be given, not to be returned to, not to be lengthened */
#define IMS_POOL_F_SHUT         (IMS_POOL_F_DISABLED|IMS_POOL_F_CLOSING)

/* flags of a pool */
#define IMS_POOL_PF_DISABLED    0x0001  /* nothing is given or lengthened */
#define IMS_POOL_PF_DROPPING    0x0002  /* its identities are being removed */


typedef struct {
    uint64_t  sid;
    uint64_t  end;              /* PT; dead when it has passed */
} ims_pool_session_t;


/*
 * The hot part of an identity.  Stored are the bytes up to
 * session[max(1, nsession)], then the CRC-32C of ident, big-endian, and these.
 *
 *   start <= end <= promised, promised + linger <= rest (but if purged)
 *
 * end is the latest of the sessions' ends.  A lease that ended early has no
 * session; that of a pool per=session keeps its only one, with the lease's
 * end, since it tells which session of its holder may return.
 *
 * Renewals that raise nothing but an end are not written here but in `renewal`:
 * those numbered above `renewed` are to be added to what a row says.
 */
typedef struct {
    uint64_t            ident;      /* block u32 << 32 | index u32 */
    uint32_t            pool;
    uint32_t            issuer;     /* that asked for the lease, 0 = none */
    uint64_t            lease;      /* 0 = never leased */
    uint8_t             user[IMS_POOL_HOLDER_LEN];
    uint8_t             holder[IMS_POOL_HOLDER_LEN];
    uint32_t            hash_key;   /* number of the key that made user */
    uint32_t            linger;     /* D + margin at the last grant, ms */
    uint64_t            start;      /* PT of the lease's begin */
    uint64_t            end;        /* PT, the latest of its sessions */
    uint64_t            promised;   /* PT, latest end ever told */
    uint64_t            rest;       /* PT, nobody else before it */
    uint64_t            start_wall;
    uint64_t            avail;      /* time in this identity's row of `avail`;
                                       UINT64_MAX: not to be given */
    uint64_t            renewed;    /* number of the last commit of which
                                       renewals are in here */
    uint32_t            import_no;
    uint16_t            flags;
    uint16_t            nsession;
    ims_pool_session_t  session[IMS_POOL_SESSIONS];
} ims_pool_rec_t;

_Static_assert(sizeof(ims_pool_rec_t) == 128 + IMS_POOL_SESSIONS * 16,
               "a record has no holes");


/*
 * Tree `ident`, key `first`, native (MDB_INTEGERKEY): the records of so many
 * identities with following numbers.  The only rows without a CRC at their end:
 * each part has its own.  With LMDB's header of 16 bytes it is a page; see
 * ims_pool_block.c.
 */
#define IMS_POOL_BLOCK          20
#define IMS_POOL_SLOT           200     /* bytes; zeros behind the CRC */

typedef struct {
    uint64_t  first;            /* a multiple of IMS_POOL_BLOCK */
    uint32_t  used;             /* bit i: first + i has a record in slot i */
    uint32_t  crc;              /* CRC-32C of the key and these 12 bytes */
} ims_pool_block_head_t;

typedef struct {
    ims_pool_block_head_t  head;
    uint8_t                slot[IMS_POOL_BLOCK][IMS_POOL_SLOT];
} ims_pool_block_t;

_Static_assert(sizeof(ims_pool_block_t) == 16 + IMS_POOL_BLOCK * IMS_POOL_SLOT,
               "a row of `ident` has no holes");


/*
 * Tree `renewal`, key the number of a commit (u64) and of a part (u16): up to
 * IMS_POOL_RENEWALS_ROW of the renewals that the commit made, one a session; so
 * few that a row needs no pages of its own.  A renewal counts if its number is
 * above the record's `renewed`, the record has that lease, and a session s of
 * it that sid; then
 *
 *   s.end = max(s.end, end)     promised = max(promised, end)
 *   end = max(end, s.end)       rest = max(rest, promised + linger)
 *
 * so that one which is missed makes a lease shorter, never longer.
 */
typedef struct {
    uint64_t  ident;
    uint64_t  lease;
    uint64_t  sid;
    uint64_t  end;              /* PT */
} ims_pool_renewal_t;

_Static_assert(sizeof(ims_pool_renewal_t) == 32, "no holes");

#define IMS_POOL_RENEWALS_ROW   60


#define IMS_POOL_PER_USER       0
#define IMS_POOL_PER_SESSION    1

#define IMS_POOL_EDGES_LOCAL    0
#define IMS_POOL_EDGES_REMOTE   1   /* not yet */


/*
 * Tree `pool`: fixed part, followed by name, home and realms and the CRC.
 * Written by administration only.
 */
typedef struct {
    uint32_t  pool;             /* number, never reused */
    uint32_t  flags;
    uint8_t   per;
    uint8_t   edges;
    uint8_t   purge;            /* edges may shorten rests by proof */
    uint8_t   pad;
    uint32_t  core_min;         /* s, shortest expiry the core grants */
    uint64_t  ttl;              /* ms, all four */
    uint64_t  ttl_max;
    uint64_t  delay;            /* D: longest time a message is under way */
    uint64_t  margin;
    uint64_t  fence;            /* leases up to this id are ended */
    uint64_t  fence_pt;         /* when it was set */
    uint64_t  identities;       /* total: staged ones not counted, removed
                                   ones until they have rested */
    uint64_t  created_wall;
    uint16_t  nname;
    uint16_t  nhome;
    uint16_t  nrealms;
    uint16_t  pad2;
} ims_pool_head_t;

_Static_assert(sizeof(ims_pool_head_t) == 88, "a pool's row has no holes");


/* A pool in memory. */
typedef struct {
    ims_pool_head_t  head;
    char             name[IMS_POOL_NAME_MAX + 1];
    char             home[IMS_POOL_HOME_MAX + 1];
    char             realms[IMS_POOL_REALMS_MAX + 1];   /* "a,b"; "" = any */
} ims_pool_t;


/* The clock row: PT was pt when CLOCK_BOOTTIME was boottime in boot boot_id */
typedef struct {
    uint64_t  pt;
    uint64_t  boottime;         /* ms */
    uint8_t   boot_id[16];
    uint64_t  wall;
} ims_pool_ptrow_t;


/* flags of the state */
#define IMS_POOL_SF_RESTORED    0x0001  /* from a backup, and not started yet */


/* Tree `meta`, key "state": rewritten by every commit. */
typedef struct {
    char              key[8];           /* "state" */
    char              magic[8];         /* IMS_POOL_MAGIC, no NUL */
    uint32_t          schema;
    uint32_t          min_reader;
    uint8_t           uuid[16];         /* of this environment */
    uint32_t          node;
    uint32_t          import_no;        /* last one */
    uint64_t          incarnation;      /* 24 bits; raised by every start */
    uint64_t          last_lease;       /* last lease id given */
    uint64_t          given;            /* leases ever begun */
    uint64_t          feed_seq;         /* of the last feed row */
    uint64_t          hold_until;       /* PT; nothing is given before: commits
                                           may be lost */
    uint64_t          hold_since;       /* PT; when that was found */
    uint64_t          hold_asked;       /* PT; the same, by command */
    uint64_t          gone;             /* the environment that follows, or 0 */
    uint32_t          block;            /* of idents made here */
    uint32_t          last_index;       /* last ident's index in it */
    uint32_t          last_pool;
    uint32_t          flags;
    uint64_t          pid_ns;           /* of the pool manager */
    uint64_t          time_ns;
    uint64_t          renew_first;      /* older renewals are in the records */
    uint64_t          renew_mid;        /* those before it are on their way */
    uint64_t          renew_last;       /* number of the last commit */
    uint64_t          records;          /* in `ident` */
    uint64_t          run;              /* random, of the last start */
    uint64_t          log;              /* random, of the history log that
                                           is complete since; see the floor */
    uint64_t          begun;            /* last lease id that was begun; after
                                           lost commits the start's first */
    uint64_t          lined;            /* begun up to here: lines of the
                                           history log, on the disk */
    uint64_t          hold_inc;         /* incarnation that found it */
    uint64_t          hold_pt;          /* PT of the last commit that is there;
                                           0: no log can prove the rest */
    uint64_t          hold_lease;       /* last_lease then, */
    uint64_t          hold_begun;       /* begun, */
    uint64_t          hold_run;         /* and run */
    uint64_t          hold_least;       /* so many were begun at least */
    uint64_t          hold_inode;       /* of the log then */
    uint64_t          hold_rest;        /* PT; what is imported rests so long,
                                           after a hold that a log ended */
    ims_pool_ptrow_t  clock;
} ims_pool_state_t;

_Static_assert(sizeof(ims_pool_state_t) == 312, "the state has no holes");


typedef enum {
    IMS_POOL_END_NONE = 0,
    IMS_POOL_END_EXPIRED,       /* history only */
    IMS_POOL_END_RELEASED,
    IMS_POOL_END_SESSION,       /* a session ended, the lease lives on */
    IMS_POOL_END_REVOKED,
    IMS_POOL_END_DISABLED,
    IMS_POOL_END_REMOVED,
    IMS_POOL_END_FENCED         /* the whole pool */
} ims_pool_end_e;


/* Tree `feed`: early ends, without gaps, pruned after 15 minutes. */
typedef struct {
    uint64_t  seq;
    uint64_t  ident;            /* 0: the whole pool */
    uint64_t  lease;            /* that ended; of a pool: its new fence */
    uint64_t  pt;
    uint32_t  pool;
    uint32_t  reason;           /* ims_pool_end_e */
} ims_pool_feed_row_t;

_Static_assert(sizeof(ims_pool_feed_row_t) == 40, "no holes");


/*
 * Tree `hist`, key ident and lease: leases that ended early, or that another
 * followed.  Under a pool's number in place of ident (idents begin at 2^32) its
 * fences: lease is the fence, start when it was set.
 */
typedef struct {
    uint64_t  ident;
    uint64_t  lease;
    uint8_t   user[IMS_POOL_HOLDER_LEN];
    uint32_t  hash_key;
    uint32_t  issuer;
    uint32_t  pool;
    uint32_t  reason;           /* ims_pool_end_e */
    uint64_t  start;            /* PT */
    uint64_t  end;
    uint64_t  rest;             /* as it stood when this row was written */
    uint64_t  start_wall;
    uint64_t  end_wall;
} ims_pool_hist_t;

_Static_assert(sizeof(ims_pool_hist_t) == 88, "no holes");


/*
 * Tree `stat`, key 'c' and pt: pool time pt was wall time `wall`, and both went
 * on in step until the next row: one for each boot and step of the wall clock.
 */
typedef struct {
    uint64_t  pt;
    uint64_t  wall;
} ims_pool_clockrow_t;


/*
 * Tree `uri`, key the folded IMPU, or 0x00 and the folded IMPI.  Of identities
 * that were removed, as long as the history knows them: 0x01, 128 bits of
 * SHA-256 of such a key, ident; the row of `name` stays so long, too.
 */
typedef struct {
    uint64_t  ident;
    uint32_t  ordinal;          /* of the IMPU; 0 for an IMPI */
    uint32_t  pool;
} ims_pool_uri_t;


/* Tree `reg`, key ident, edge u16, flow: the last reports, for people. */
typedef struct {
    uint64_t  ident;
    uint64_t  flow;
    uint64_t  lease;
    uint64_t  until;            /* PT */
    uint32_t  edge;
    uint32_t  pad;
} ims_pool_reg_t;


/* Tree `key`, key number: of each key that was ever used, not the key. */
typedef struct {
    uint32_t  no;               /* 0: the tag key */
    uint32_t  pad;
    uint64_t  print;            /* tells it from another under its number */
    uint64_t  wall;             /* since when */
} ims_pool_key_t;


/* Tree `import`, key number. */
typedef struct {
    uint32_t  import_no;
    uint32_t  pool;
    uint32_t  state;            /* ims_pool_import_e */
    uint32_t  pad;
    uint64_t  first;            /* ident; the others follow without gaps */
    uint64_t  count;
    uint64_t  done;             /* published or taken out so far */
    uint64_t  rest;             /* ms that its identities rest first */
    uint64_t  wall;
} ims_pool_import_t;

typedef enum {
    IMS_POOL_IMPORT_OPEN = 0,   /* rows are still coming */
    IMS_POOL_IMPORT_PUBLISHING,
    IMS_POOL_IMPORT_DONE,
    IMS_POOL_IMPORT_UNDOING,
    IMS_POOL_IMPORT_UNDONE
} ims_pool_import_e;


/* The trees.  Their names are the keys in LMDB's unnamed tree. */
typedef enum {
    IMS_POOL_T_META = 0,
    IMS_POOL_T_POOL,
    IMS_POOL_T_POOLNAME,
    IMS_POOL_T_IDENT,
    IMS_POOL_T_RENEWAL,
    IMS_POOL_T_NAME,
    IMS_POOL_T_URI,
    IMS_POOL_T_AVAIL,
    IMS_POOL_T_HIST,
    IMS_POOL_T_FEED,
    IMS_POOL_T_REG,
    IMS_POOL_T_KEY,
    IMS_POOL_T_IMPORT,
    IMS_POOL_T_STAT,
    IMS_POOL_T_JWKS,
    IMS_POOL_TREES
} ims_pool_tree_e;


/*
 * Names of an identity.  The slices point into buf: valid as long as the
 * struct, which must not be copied.  The first IMPU is the default one.
 */
typedef struct {
    uint64_t   ident;
    ims_str_t  impi;
    ims_str_t  display;         /* n == 0: none */
    unsigned   nimpu;
    struct {
        ims_str_t  given;       /* as imported */
        ims_str_t  canon;       /* ims_sip_uri_canon() of it */
    } impu[IMS_POOL_IMPUS];
    uint8_t    buf[IMS_POOL_NAMES_MAX];
} ims_pool_names_t;


/*
 * Where time and randomness come from.  NULL in place of a clock means the
 * machine's own.  Tests and the world test put theirs in.
 */
typedef struct {
    uint64_t  (*boottime)(void *ctx);                 /* ms */
    uint64_t  (*wall)(void *ctx);                     /* ms */
    int       (*boot_id)(void *ctx, uint8_t *id);     /* 16 bytes; 0 = ok */
    int       (*random)(void *ctx, void *dst, size_t n);
    void       *ctx;
} ims_pool_clock_t;


/* --- the reader ------------------------------------------------------- */

typedef struct ims_pool_reader_s  ims_pool_reader_t;


/*
 * What one look gives: all of it from one snapshot, copied.
 */
typedef struct {
    uint64_t        pt;         /* pool time when the look was made */
    ims_pool_rec_t  rec;
    uint64_t        fence;      /* of the pool */
    uint64_t        ttl;        /* ms */
    uint64_t        ttl_max;    /* ms, likewise the longest term */
    uint64_t        delay;      /* D, ms */
    uint32_t        core_min;   /* s */
    uint8_t         edges;
    uint8_t         nhome;
    char            home[IMS_POOL_HOME_MAX + 1];    /* NUL-terminated */
    char            pool[IMS_POOL_NAME_MAX + 1];    /* its name, likewise */
} ims_pool_look_t;


/*
 * Open the environment that DIR/current names, for reading.
 *
 * Never creates anything: both files must exist.  Takes one reader slot until
 * ims_pool_close().  The feed is read from here on: flows that are older than
 * this call must be looked at once.
 *
 * err gets a text for the log (err may be NULL).
 *
 * Errors: IMS_POOL_NOT_THERE, _OTHER_KERNEL, _NO_ACCESS (try again on a
 * timer); _NOT_OURS, _SCHEMA_DIFFERS (only an administrator can cure it);
 * _UNKNOWN.  *rp is then NULL.
 */
int ims_pool_open(ims_pool_reader_t **rp, const char *dir, char *err,
    size_t errlen);

/* The same with a clock of the caller's, which must outlive the reader. */
int ims_pool_open_clock(ims_pool_reader_t **rp, const char *dir,
    const ims_pool_clock_t *clock, char *err, size_t errlen);

/* Frees the reader slot and the map.  NULL is taken. */
void ims_pool_close(ims_pool_reader_t *r);


/*
 * Pool time now: clock_gettime() at the call, against the clock row of the
 * last snapshot read.  Any row of a boot gives the same pool time, so no new
 * snapshot is needed.  Nanoseconds.
 */
uint64_t ims_pool_pt(const ims_pool_reader_t *r);


/*
 * A turn of an event loop: between begin and end, all that is read shares a
 * snapshot for as long as nobody commits.  What a look tells is as new as
 * without; it is cheaper by a fifth, for no snapshot is taken or given back.
 *
 * End it before the process waits for anything: LMDB reuses no page while a
 * snapshot from before is kept, and the file grows.  Both may be called at any
 * time; neither fails.
 */
void ims_pool_turn_begin(ims_pool_reader_t *r);
void ims_pool_turn_end(ims_pool_reader_t *r);


/*
 * Look at one identity: one snapshot, the newest; record and pool and state,
 * copied, CRCs and keys checked.  Allocates nothing, waits for nobody.
 *
 * Returns IMS_POOL_OK, _NOTFOUND (no such identity), _REOPEN, _UNKNOWN.
 * out is defined after IMS_POOL_OK only.
 */
int ims_pool_look(ims_pool_reader_t *r, uint64_t ident, ims_pool_look_t *out);

/* The same with the identity's names, of the same snapshot. */
int ims_pool_look_names(ims_pool_reader_t *r, uint64_t ident,
    ims_pool_look_t *out, ims_pool_names_t *names);

/* The names alone. */
int ims_pool_names(ims_pool_reader_t *r, uint64_t ident,
    ims_pool_names_t *out);

/*
 * The identity that a folded IMPU (ims_sip_uri_fold()) belongs to, and the
 * IMPU's place in its list.  ordinal may be NULL.  Removed and staged
 * identities are found as well.
 */
int ims_pool_by_uri(ims_pool_reader_t *r, ims_str_t folded, uint64_t *ident,
    unsigned *ordinal);

/* The same by IMPI, as given: it is folded here. */
int ims_pool_by_impi(ims_pool_reader_t *r, ims_str_t impi, uint64_t *ident);


typedef void (*ims_pool_feed_pt)(void *ctx, const ims_pool_feed_row_t *row);

/*
 * Has anything ended early since the last call?
 *
 * A few nanoseconds when nothing was committed: the environment's last
 * transaction number is compared with the id of the snapshot in which the
 * feed was last read.  Else one snapshot is taken and each new row told, in
 * order, after the snapshot was given back: cb may call any function here.
 *
 * Returns
 *   n >= 0            rows told; 0 = nothing new
 *   IMS_POOL_GAP      rows were pruned unread, or more than
 *                     IMS_POOL_FEED_MAX are new: nothing was told, all flows
 *                     must be looked at; the next call goes on from now
 *   IMS_POOL_REOPEN, IMS_POOL_UNKNOWN
 */
int ims_pool_feed(ims_pool_reader_t *r, ims_pool_feed_pt cb, void *ctx);

/*
 * Does DIR/current still lead to the files that are open?  Two system calls:
 * for a timer of a second.  IMS_POOL_OK or IMS_POOL_REOPEN.
 */
int ims_pool_moved(ims_pool_reader_t *r);


/* --- a lease ---------------------------------------------------------- */

/* Why a lease is not what a token or a flow says. */
typedef enum {
    IMS_POOL_LIVE = 0,
    IMS_POOL_LAPSE_OTHER,       /* the record has another lease */
    IMS_POOL_LAPSE_OFF,         /* identity disabled, removing or staged */
    IMS_POOL_LAPSE_FENCED,      /* the pool was revoked as a whole */
    IMS_POOL_LAPSE_ENDED,       /* its end has passed or was brought forward */
    IMS_POOL_LAPSE_SID,         /* the session is not in the lease any more */
    IMS_POOL_LAPSE_SID_ENDED,   /* the session's end has passed */
    IMS_POOL_LAPSE_HOLDER       /* held by another user */
} ims_pool_lapse_e;

/*
 * LEASED and match of POOL.md section 1 E, but for the names: lease and sid
 * and holder are the record's, lease > fence, no flag, PT before the lease's
 * and the session's end.  pt: out->pt, or ims_pool_pt() later.
 * end (may be NULL) gets the session's end after IMS_POOL_LIVE.
 */
ims_pool_lapse_e ims_pool_check_lease(const ims_pool_look_t *look,
    uint64_t lease, uint64_t sid, const uint8_t *holder, uint64_t pt,
    uint64_t *end);

/* A short fixed text for logs and counters: "ended", "fenced", ... */
const char *ims_pool_lapse_text(ims_pool_lapse_e lapse);

/*
 * The text of a lease: 16 lower-case hex digits of the identity, a hyphen, 16
 * of the lease id; always IMS_POOL_LEASE_TEXT bytes, so that one lease has one
 * text.  Parse takes exactly this form and neither number may be 0.
 */
void ims_pool_lease_format(uint8_t *dst, uint64_t ident, uint64_t lease);
bool ims_pool_lease_parse(ims_str_t s, uint64_t *ident, uint64_t *lease);


/* --- the clock -------------------------------------------------------- */

/* The machine's own. */
extern const ims_pool_clock_t  ims_pool_clock;

/*
 * Pool time at (boottime, boot_id) by a clock row: saturating, never less
 * than the row's own.
 */
uint64_t ims_pool_pt_at(const ims_pool_ptrow_t *row, uint64_t boottime,
    const uint8_t *boot_id);


#endif /* _IMS_POOL_H_INCLUDED_ */
