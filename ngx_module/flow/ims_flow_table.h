/*
 * Copyright (C) nginx-ims contributors
 *
 * The flow table: a file in the state directory, mapped MAP_SHARED by the
 * master and by all workers of all generations and binaries.
 *
 * A flow is a *slot* of this table; a WebSocket is what the slot points to at
 * the moment.  So a flow outlives a connection, a worker and a reload, and its
 * tokens (ims_flow_token.h) stay good over a take-over.
 *
 * There is no lock to wait on: a process may be killed between any two
 * instructions, and what it held is found and freed by a sweeper.  Two words
 * of a slot carry the whole protocol:
 *
 * owner (64 bits), changed by compare-and-swap only
 *
 *     0                                   free
 *     row 0      | since 52               lost: no connection since (BOOTTIME
 *                                         ms)
 *     row 12 | row generation 20 | 0      claimed by that worker, which is
 *                                         de-registering or freeing it
 *     row 12 | row generation 20 | serial connection "serial" of that worker
 *
 * seq (64 bits), the sequence lock of the slot's data
 *
 *     count 31 | row 12 | row generation 20 | odd 1
 *
 * row and generation name the writer while the word is odd, and are 0 while it
 * is even: a write that will never end is known by its dead writer.
 *
 * Everything here is called in a process with one thread.  No function blocks;
 * BUSY is answered after a bounded number of turns.
 *
 * Units: *_ms are CLOCK_BOOTTIME milliseconds, *_pt pool time milliseconds.
 */

#ifndef _IMS_FLOW_TABLE_H_INCLUDED_
#define _IMS_FLOW_TABLE_H_INCLUDED_


#include <sys/types.h>

#include "base/ims_str.h"


#define IMS_FLOW_LAYOUT       1           /* in the file's name: flows.1 */

#define IMS_FLOW_SLOT_SIZE    2048
#define IMS_FLOW_SLOTS_MIN    64
#define IMS_FLOW_SLOTS_MAX    (1u << 24)

/* the number that a table asked for with n has */
#define ims_flow_slots(n)     (((uint32_t) (n) + 63) & ~63u)

#define IMS_FLOW_ROWS         4096        /* worker list; row 0 is not used */

#define IMS_FLOW_ERR_LEN      256         /* room for an error text */

#define IMS_FLOW_CONTACT_MAX  512
#define IMS_FLOW_HOME_MAX     255
#define IMS_FLOW_IMPI_MAX     255
#define IMS_FLOW_ADDR_MAX     32          /* sockaddr_in6 is 28 */


typedef enum {
    IMS_FLOW_OK = 0,
    IMS_FLOW_FULL,        /* no free slot, or no free row */
    IMS_FLOW_NOTFOUND,
    IMS_FLOW_LOST,        /* the caller is not, or no longer, the owner */
    IMS_FLOW_STALE,       /* another generation: the flow meant is gone */
    IMS_FLOW_BUSY,        /* a write is under way; try again later */
    IMS_FLOW_DEAD,        /* that write will never end: ims_flow_free_dead() */
    IMS_FLOW_TOOBIG,      /* does not fit the slot */
    IMS_FLOW_ERROR        /* open only: see err */
} ims_flow_rc_t;


typedef struct ims_flow_file_s  ims_flow_file_t;      /* the mapped header */
typedef struct ims_flow_row_s   ims_flow_row_t;
typedef struct ims_flow_slot_s  ims_flow_slot_t;


/* a process's handle; all of it private, but nslots */
typedef struct {
    uint32_t          nslots;             /* of the file, not as asked */

    uint32_t          index_mask;
    uint32_t          nmarks;
    uint32_t          hint;
    int               fd;
    size_t            size;
    ims_flow_file_t  *file;
    ims_flow_row_t   *rows;
    uint64_t         *marks;
    uint64_t         *index;
    uint8_t          *slots;
} ims_flow_table_t;


/* a worker, as in the worker list */
typedef struct {
    uint64_t          id;                 /* random; names its socket */
    uint64_t          start_ms;
    uint64_t          master;             /* random id of its master */
    uint32_t          cycle;              /* configuration of the master */
    uint32_t          version;            /* of the module */
    pid_t             pid;
    unsigned          exiting:1;

    /* set by join and by lookups */
    uint32_t          row;
    uint32_t          row_gen;
} ims_flow_worker_t;

/*
 * The caller's judgement whether a worker lives: its socket can be connected.
 * Called often by the sweeper: cache it.  Never asked about the caller's own
 * row where "me" is known.
 */
typedef bool (*ims_flow_alive_pt)(void *arg, const ims_flow_worker_t *w);


/*
 * What the owner keeps in a slot.  Texts are packed into area: read them with
 * the functions below, which check every offset.
 */
typedef struct {
    uint64_t          lease;              /* 0: nothing to de-register */
    uint8_t           instance[16];       /* hash of it, or random */
    uint64_t          ident;              /* key of the identity's record */
    uint64_t          sid;
    uint64_t          end_pt;             /* the session's end when last read */
    uint8_t           holder[16];
    uint8_t           impi_hash[16];

    uint8_t           peer[IMS_FLOW_ADDR_MAX];   /* took the registration */
    uint8_t           peer_len;
    uint8_t           peer_transport;

    uint16_t          flags;
#define IMS_FLOW_F_INSTANCE      0x0001   /* instance is a client's */
#define IMS_FLOW_F_NO_TAKEOVER   0x0002   /* identities did not fit */
    uint32_t          dialogs;            /* INVITE 2xx minus BYE */

    uint8_t           dereg_id[16];       /* for the edge's de-REGISTER */
    uint32_t          dereg_cseq;

    uint16_t          home_len;
    uint16_t          impi_len;
    uint16_t          contact_len;
    uint16_t          nidents;
    uint16_t          used;               /* bytes of area */
    uint16_t          spare;

    uint8_t           area[1832];
} ims_flow_data_t;


/* one identity of a registration */
typedef struct {
    ims_str_t         uri;                /* URI text, without <> */
    ims_str_t         route;              /* its Service-Route, or empty */
    uint64_t          until_pt;           /* registered until; 0: not
                                             registered, only assertable */
    uint16_t          position;           /* in the assertable set; 0 first */
#define IMS_FLOW_NOT_ASSERTABLE  0xffff   /* barred */
    uint16_t          tag;                /* free for the caller */
} ims_flow_ident_t;


/* a consistent copy of a slot */
typedef struct {
    uint64_t          owner;
    uint64_t          prev;               /* owner before; a hint */
    uint32_t          generation;
    ims_flow_data_t   data;
} ims_flow_view_t;


/* -- the file ------------------------------------------------------------ */

/*
 * Opens dir/flows.<layout>, or makes it.  Two starting masters cannot clash.
 *
 * An existing file is kept if any process has it open, whatever nslots says;
 * t->nslots tells the number that holds: warn if it is not
 * ims_flow_slots(nslots).  If nobody has it open, it is replaced when nslots
 * differs, when it was made before this boot (its pages may be torn then, and
 * its times mean nothing) or when it is not a sound table.  uid owns the file:
 * (uid_t) -1 keeps the caller's.
 *
 * To be called in init_module, never under -t; children of fork use the
 * mapping and must not open it again.  All space is reserved: a full disk is
 * an error here and not a SIGBUS later.  ERROR: err, IMS_FLOW_ERR_LEN bytes,
 * says why.
 */
ims_flow_rc_t ims_flow_table_open(ims_flow_table_t *t, const char *dir,
    uint32_t nslots, uid_t uid, char *err);

/* Unmaps; the file stays.  A child's mapping is not touched by its parent's. */
void ims_flow_table_close(ims_flow_table_t *t);


/* -- worker list --------------------------------------------------------- */

/*
 * Claims a row for this process.  w: id, start_ms, master, cycle, version and
 * pid as the caller has them; row and row_gen are set.  A row of a dead worker
 * is taken when there is no other.  The worker's socket must be bound before.
 */
ims_flow_rc_t ims_flow_join(ims_flow_table_t *t, ims_flow_worker_t *w,
    ims_flow_alive_pt alive, void *arg);

/* Gives the row back.  Slots that it still owns are orphans from now on. */
void ims_flow_leave(ims_flow_table_t *t, const ims_flow_worker_t *me);

/* The worker got the signal to finish; others see it in the list. */
void ims_flow_exiting(ims_flow_table_t *t, ims_flow_worker_t *me);

/* Row 1 to IMS_FLOW_ROWS - 1.  False: nobody there. */
bool ims_flow_worker(const ims_flow_table_t *t, uint32_t row,
    ims_flow_worker_t *w);

/*
 * The worker that an owner word names.  False: free, lost, or that worker has
 * left.  True says nothing about its being alive.
 */
bool ims_flow_worker_of(const ims_flow_table_t *t, uint64_t owner,
    ims_flow_worker_t *w);

/* Frees the rows of dead workers; for the sweeper, now and then. */
uint32_t ims_flow_reap(ims_flow_table_t *t, const ims_flow_worker_t *me,
    ims_flow_alive_pt alive, void *arg);


/* -- owner words --------------------------------------------------------- */

#define ims_flow_owner_row(o)     ((uint32_t) ((uint64_t) (o) >> 52))
#define ims_flow_owner_gen(o)     ((uint32_t) ((uint64_t) (o) >> 32) & 0xfffff)
#define ims_flow_owner_serial(o)  ((uint32_t) (o))

#define ims_flow_is_free(o)       ((o) == 0)
#define ims_flow_is_lost(o)       ((o) != 0 && ims_flow_owner_row(o) == 0)
#define ims_flow_is_claim(o)      (ims_flow_owner_row(o) != 0                 \
                                   && ims_flow_owner_serial(o) == 0)
#define ims_flow_is_owned(o)      (ims_flow_owner_row(o) != 0                 \
                                   && ims_flow_owner_serial(o) != 0)

/* lost words only: BOOTTIME ms */
#define ims_flow_lost_since(o)    ((uint64_t) (o) & 0xfffffffffffffull)

/*
 * The word of a connection.  serial: never 0 (that is a claim), never reused
 * in a worker's life as long as a slot may name it.
 */
static inline uint64_t
ims_flow_owner_word(const ims_flow_worker_t *me, uint32_t serial)
{
    return (uint64_t) me->row << 52 | (uint64_t) me->row_gen << 32 | serial;
}


/* -- slots: the life of a flow ------------------------------------------- */

/*
 * Takes a free slot for a connection; its data are all zero.  O(1) amortised.
 * FULL: no slot.
 */
ims_flow_rc_t ims_flow_alloc(ims_flow_table_t *t, uint64_t owner,
    uint32_t *slot, uint32_t *generation);

/*
 * Writes the data; owner is the caller's own word (connection or claim).
 * LOST: nothing is written, or the slot was taken over during the write, in
 * which case the new owner sees it whole.  BUSY and DEAD come up only just
 * after a take-over.
 */
ims_flow_rc_t ims_flow_write(ims_flow_table_t *t, uint32_t slot,
    uint64_t owner, const ims_flow_data_t *data);

/*
 * The connection is lost: the owner word becomes "lost since now".  LOST: it
 * was not ours any more, and nothing is changed.
 */
ims_flow_rc_t ims_flow_release(ims_flow_table_t *t, uint32_t slot,
    uint64_t owner, uint64_t now_ms);

/*
 * Take-over: expected (any word but 0, as just read) becomes owner.  The slot
 * must still have this generation.  Who may do that is the caller's to know:
 * a verified token of the same lease, holder and instance; a claim only when
 * its sweeper had its time.  Read the data *after* this, and compare lease and
 * holder again: the old owner may have written up to this moment.
 *
 * LOST: the word changed meanwhile: read again.  STALE, BUSY, DEAD.
 */
ims_flow_rc_t ims_flow_swap(ims_flow_table_t *t, uint32_t slot,
    uint32_t generation, uint64_t expected, uint64_t owner);

/*
 * Claims a slot for de-registration: expected is a lost word, the word of a
 * dead worker, or the caller's own.  The sweep below finds them.  *claim is
 * the caller's word for write, unclaim and free.
 */
ims_flow_rc_t ims_flow_claim(ims_flow_table_t *t, uint32_t slot,
    uint32_t generation, uint64_t expected, const ims_flow_worker_t *me,
    uint64_t *claim);

/* The try failed: lost since "since" again, which may be in the future. */
ims_flow_rc_t ims_flow_unclaim(ims_flow_table_t *t, uint32_t slot,
    uint64_t claim, uint64_t since_ms);

/*
 * Frees a slot that the caller owns or has claimed: index entry removed, data
 * wiped, generation + 1.
 */
ims_flow_rc_t ims_flow_free(ims_flow_table_t *t, uint32_t slot,
    uint64_t owner, const ims_flow_worker_t *me);

/*
 * Frees a slot whose write will never end, without de-registration.  BUSY: the
 * writer lives, or somebody else was faster; LOST: a living worker owns the
 * slot and will come here itself.
 */
ims_flow_rc_t ims_flow_free_dead(ims_flow_table_t *t, uint32_t slot,
    const ims_flow_worker_t *me, ims_flow_alive_pt alive, void *arg);


/* -- slots: reading ------------------------------------------------------ */

/* The words as they are now; slot < nslots. */
uint64_t ims_flow_owner(const ims_flow_table_t *t, uint32_t slot);
uint64_t ims_flow_prev_owner(const ims_flow_table_t *t, uint32_t slot);
uint32_t ims_flow_generation(const ims_flow_table_t *t, uint32_t slot);

/*
 * For each message: the owner of the flow that a token names.  NOTFOUND: no
 * such slot, or free; STALE: another generation.
 */
ims_flow_rc_t ims_flow_resolve(const ims_flow_table_t *t, uint32_t slot,
    uint32_t generation, uint64_t *owner);

/* A consistent copy, by anybody.  BUSY, DEAD; NOTFOUND: free, or no slot. */
ims_flow_rc_t ims_flow_read(const ims_flow_table_t *t, uint32_t slot,
    ims_flow_view_t *view);

/*
 * The data in place, without a copy: for the owner only, who is the only one
 * to write.  After a use that matters read the owner word again.
 */
const ims_flow_data_t *ims_flow_peek(const ims_flow_table_t *t, uint32_t slot);

/* True if the worker that the word names lives; me (or NULL) is not asked. */
bool ims_flow_owner_alive(const ims_flow_table_t *t, uint64_t owner,
    const ims_flow_worker_t *me, ims_flow_alive_pt alive, void *arg);

/* Number of slots in use, by the marks: for status pages. */
uint32_t ims_flow_used(const ims_flow_table_t *t);


/* -- index: (lease, instance) -> slot ------------------------------------ */

/* The slot as it is now; verified against the slot. */
ims_flow_rc_t ims_flow_find(const ims_flow_table_t *t, uint64_t lease,
    const uint8_t instance[16], uint32_t *slot, uint32_t *generation);

/*
 * Enters a slot that the caller owns, after its data were written.
 *
 * OK: it is in; *other is a slot of the same lease and instance that it
 * displaced (to be closed), or IMS_FLOW_NONE.  STALE: another worker entered
 * *other at the same time and won: free the own slot and take over *other.
 * FULL: no room near its place; the flow works, but will not be found.
 */
#define IMS_FLOW_NONE  0xffffffffu

ims_flow_rc_t ims_flow_index_put(ims_flow_table_t *t, uint32_t slot,
    uint32_t *other);

/* Removes it (before lease or instance of a slot is changed). */
void ims_flow_index_del(ims_flow_table_t *t, uint32_t slot);

/*
 * Has any slot in use a later lease of these identities than the one given?
 * One walk over the slots in use, whatever n.  newer is set where there is
 * one, and everywhere if a slot cannot be read at the moment.
 */
typedef struct {
    uint64_t          ident;
    uint64_t          lease;
    bool              newer;
} ims_flow_lease_t;

void ims_flow_newer(const ims_flow_table_t *t, ims_flow_lease_t *leases,
    unsigned n);


/* -- sweeper ------------------------------------------------------------- */

typedef struct {
    uint64_t                  now_ms;
    uint64_t                  grace_ms;
    const ims_flow_worker_t  *me;
    ims_flow_alive_pt         alive;
    void                     *arg;        /* of alive and of due */

    /*
     * A slot whose grace is over: claim it with this word, or leave it.  Slots
     * without a lease are not shown: they are freed at once.
     */
    void                    (*due)(void *arg, uint32_t slot,
                                   uint32_t generation, uint64_t owner);

    /* kept between calls, zero at first */
    uint32_t                  cursor;
    uint32_t                  pass;

    /* counters, only ever added to */
    uint64_t                  orphaned;   /* owner died: grace begins */
    uint64_t                  dead;       /* torn slots freed */
    uint64_t                  repaired;   /* marks set right */
    uint64_t                  freed;      /* had no lease */
} ims_flow_sweep_t;

/*
 * Looks at the next n slots (rounded to 64), going round for ever: slots of
 * dead workers become lost since now, torn ones are freed, due ones shown.
 * Any number of workers may sweep at the same time.
 */
void ims_flow_sweep(ims_flow_table_t *t, ims_flow_sweep_t *s, uint32_t n);


/* -- texts of ims_flow_data_t -------------------------------------------- */

/*
 * Sets home domain, IMPI and Contact URI; the identities are forgotten.  The
 * strings must not point into d.  TOOBIG: d is unchanged.
 */
ims_flow_rc_t ims_flow_set_texts(ims_flow_data_t *d, ims_str_t home,
    ims_str_t impi, ims_str_t contact);

/*
 * Replaces all identities.  TOOBIG: none is kept and IMS_FLOW_F_NO_TAKEOVER is
 * set (the caller keeps them in memory); else the flag is cleared.  The
 * strings must not point into d.
 */
ims_flow_rc_t ims_flow_set_identities(ims_flow_data_t *d,
    const ims_flow_ident_t *ids, unsigned n);

/* Slices into d. */
ims_str_t ims_flow_home(const ims_flow_data_t *d);
ims_str_t ims_flow_impi(const ims_flow_data_t *d);
ims_str_t ims_flow_contact(const ims_flow_data_t *d);

/*
 * Walks the identities: *pos is 0 at first.  False at the end, or if the area
 * is not sound.
 */
bool ims_flow_identity(const ims_flow_data_t *d, unsigned *pos,
    ims_flow_ident_t *id);


#endif /* _IMS_FLOW_TABLE_H_INCLUDED_ */
