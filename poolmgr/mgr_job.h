/*
 * Copyright (C) nginx-ims contributors
 *
 * Work that is too long for one turn of the loop: a pool's figures, the check,
 * the end of an import.  A job runs one slice a turn, between batches, so that
 * leases are given meanwhile.  Its connection's next commands wait for its
 * reply; a connection that goes away leaves the job, which must end anyway
 * (an import) or is dropped.
 */

#ifndef _MGR_JOB_H_INCLUDED_
#define _MGR_JOB_H_INCLUDED_


#include "mgr_command.h"


/* rows a slice: POOL.md section 5 */
#define MGR_JOB_ROWS    1000

/* of a slice: it waits for something that will call mgr_job_unpark() */
#define MGR_JOB_PARK    2

_Static_assert(MGR_JOB_PARK != IMS_POOL_MORE, "two results of a slice");


/*
 * One slice.  IMS_POOL_MORE: call again.  Anything else is the end; the reply
 * was then appended to out, which is NULL if nobody waits.
 */
typedef int (*mgr_job_pt)(mgr_server_t *s, mgr_job_t *job,
    ims_resp_buf_t *out);

struct mgr_job_s {
    mgr_job_t        *next;
    mgr_conn_t       *conn;         /* NULL: nobody waits for it */
    mgr_job_pt        slice;
    void            (*cleanup)(mgr_job_t *job);     /* or NULL */
    const mgr_command_t  *command;      /* that it answers */
    bool              must_end;     /* whether anybody waits or not */
    bool              quiet;        /* the reply was given already */

    union {
        struct {
            ims_pool_t       pool;
            ims_pool_stat_t  stat;
        } stat;

        ims_pool_check_t     check;
        struct mgr_copy_s   *copy;

        struct {
            uint32_t  no;
            uint64_t  pos;
            uint64_t  used;
        } key;

        struct {
            struct mgr_metrics_pool_s  *pool;
            size_t                      n;
            size_t                      at;
        } metrics;

        struct {
            uint32_t  no;
            uint64_t  rows;
            bool      decided;      /* to publish it, or to take it out */
        } import;

        struct {
            mgr_server_t         *server;
            ims_pool_replay_t    *replay;
            uint64_t              hold;     /* ms that it ends early */
        } replay;
    } u;

    /* what the check found: bulk strings */
    ims_resp_buf_t    faults;
    unsigned          nfaults;
};


/* NULL: no memory */
mgr_job_t *mgr_job_new(mgr_job_pt slice);
void mgr_job_free(mgr_job_t *job);

/* Puts it to work; conn may be NULL. */
void mgr_job_start(mgr_server_t *s, mgr_job_t *job, mgr_conn_t *conn);

/* Its next slice is run again; it was parked. */
void mgr_job_unpark(mgr_server_t *s, mgr_job_t *job);

/* The connection goes away. */
void mgr_job_orphan(mgr_server_t *s, mgr_conn_t *conn);

/* One slice of each. */
void mgr_jobs_run(mgr_server_t *s);


#endif /* _MGR_JOB_H_INCLUDED_ */
