/*
 * Copyright (C) nginx-ims contributors
 *
 * The rules of a purge at the edge, without sockets and without nginx (POOL.md
 * 1, line 9; doc/pool-protocol.md "Purge"): what the pool manager gives out,
 * whether it may be begun, and what of an answer is a proof.
 *
 * A purge takes everything away that the core has of an identity.  One that
 * comes too late takes it from whoever holds the identity by then: so each
 * rule here says "no" where it does not know.
 *
 * The message itself is written by ims_reg_deregister().
 */

#ifndef _IMS_PURGE_H_INCLUDED_
#define _IMS_PURGE_H_INCLUDED_


#include "base/ims_str.h"
#include "base/ims_reply.h"
#include "sip/ims_sip.h"
#include "ims_pool.h"


/* asked for at a time: an answer of so many fits into IMS_REPLY_MAX */
#define IMS_PURGE_JOBS  8

#define IMS_PURGE_ID    16      /* bytes of a purge's number, as text */


/* slices point into the reply */
typedef struct {
    ims_str_t  id;              /* IMS_PURGE_ID hex digits, for PURGED */
    uint64_t   ident;           /* 0: to be found by its IMPI, */
    uint64_t   lease;           /* and no lease of it is known */
    ims_str_t  pool;
    ims_str_t  impi;
    unsigned   nimpu;
    ims_str_t  impu[IMS_POOL_IMPUS];
    uint64_t   send_by;         /* BOOTTIME ms */
    uint64_t   answer_by;
} ims_purge_job_t;

/* One array of the answer to PURGE NEXT.  False: it is not understood. */
bool ims_purge_read(ims_purge_job_t *job, const ims_reply_t *r, unsigned row);


/* Why a purge is not begun. */
typedef enum {
    IMS_PURGE_GO = 0,
    IMS_PURGE_LATE,             /* send_by has passed */
    IMS_PURGE_LEASED,           /* somebody holds the identity */
    IMS_PURGE_OTHER,            /* its record has another lease */
    IMS_PURGE_NAMES,            /* its names are not those given out */
    IMS_PURGE_CORE              /* another core may have bindings of it */
} ims_purge_why_e;

/*
 * May it be begun, by a look made now?  ident of an identity that was found by
 * IMPI is the caller's to compare.
 *
 * since: BOOTTIME ms from which on no REGISTER went to a core other than the
 * one that is asked; 0: there never was another.  What another was asked to
 * bind has lapsed after the longest term of the pool.
 */
ims_purge_why_e ims_purge_judge(const ims_purge_job_t *job,
    const ims_pool_look_t *look, const ims_pool_names_t *names, uint64_t now,
    uint64_t since);

/* A short fixed text for the log. */
const char *ims_purge_why_text(ims_purge_why_e why);


/*
 * A final answer to "Contact: *": NULL if it proves that nothing is bound any
 * more (200, and no Contact in it), else a fixed text that says why not.
 */
const char *ims_purge_doubt(const ims_sip_msg_t *m);


#endif /* _IMS_PURGE_H_INCLUDED_ */
