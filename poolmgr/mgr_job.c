/*
 * Copyright (C) nginx-ims contributors
 *
 * See mgr_job.h.
 */

#include <stdlib.h>

#include "mgr_job.h"
#include "mgr_metrics.h"


mgr_job_t *
mgr_job_new(mgr_job_pt slice)
{
    mgr_job_t  *job;

    job = calloc(1, sizeof(mgr_job_t));

    if (job != NULL) {
        job->slice = slice;
    }

    return job;
}


void
mgr_job_free(mgr_job_t *job)
{
    if (job != NULL) {

        if (job->cleanup != NULL) {
            job->cleanup(job);
        }

        ims_resp_free(&job->faults);
        free(job);
    }
}


void
mgr_job_start(mgr_server_t *s, mgr_job_t *job, mgr_conn_t *conn)
{
    mgr_job_t  **jp;

    for (jp = &s->jobs; *jp != NULL; jp = &(*jp)->next) {
        /* void */
    }

    *jp = job;

    job->next = NULL;
    job->conn = conn;

    /* it may have gone in the very batch that made the job */

    if (conn != NULL && conn->closing) {
        job->conn = NULL;
    }
}


void
mgr_job_unpark(mgr_server_t *s, mgr_job_t *job)
{
    mgr_job_t  **jp;

    for (jp = &s->parked; *jp != NULL; jp = &(*jp)->next) {

        if (*jp == job) {
            *jp = job->next;
            mgr_job_start(s, job, job->conn);
            mgr_wake(s);
            return;
        }
    }
}


void
mgr_job_orphan(mgr_server_t *s, mgr_conn_t *conn)
{
    unsigned    i;
    mgr_job_t  *job;

    for (i = 0; i < 2; i++) {

        for (job = i ? s->parked : s->jobs; job != NULL; job = job->next) {
            if (job->conn == conn) {
                job->conn = NULL;
            }
        }
    }
}


void
mgr_jobs_run(mgr_server_t *s)
{
    int          rc;
    mgr_job_t   *job, **jp;
    size_t       out;
    mgr_conn_t  *c;

    for (jp = &s->jobs; *jp != NULL && !s->fatal; ) {

        job = *jp;
        c = job->conn;
        out = c ? c->out.n : 0;

        if (c != NULL || job->must_end) {
            rc = job->slice(s, job, c ? &c->out : NULL);

        } else {
            rc = IMS_POOL_OK;
        }

        if (rc == IMS_POOL_MORE) {
            jp = &job->next;
            continue;
        }

        if (c != NULL && job->command != NULL && c->out.n > out) {
            mgr_metrics_reply(s, job->command,
                              ims_str_set(c->out.p + out, c->out.n - out));
        }

        *jp = job->next;

        if (rc == MGR_JOB_PARK) {
            job->next = s->parked;
            s->parked = job;
            continue;
        }

        mgr_job_free(job);

        if (c != NULL) {
            c->waiting = 0;

            if (c->in_n != 0) {
                mgr_ready(c);
            }

            mgr_conn_flush(c);
        }
    }
}
