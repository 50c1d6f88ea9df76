/*
 * Copyright (C) nginx-ims contributors
 *
 * What the daemon counts, and the command METRICS that tells it in
 * Prometheus' text format (version 0.0.4).  The names are in
 * doc/operator.md; t/pool_metrics.t holds one against the other.
 */

#ifndef _MGR_METRICS_H_INCLUDED_
#define _MGR_METRICS_H_INCLUDED_


#include "mgr_command.h"


#define MGR_METRICS_COMMANDS  96    /* rows of the table of commands, at most */
#define MGR_METRICS_RESULTS   21
#define MGR_METRICS_BUCKETS   12


/* cumulative only when told */
typedef struct {
    uint64_t  count;
    uint64_t  sum;                  /* ns, or commands */
    uint64_t  bucket[MGR_METRICS_BUCKETS];
} mgr_histogram_t;

struct mgr_metrics_s {
    uint64_t         replies[MGR_METRICS_COMMANDS][MGR_METRICS_RESULTS];
    mgr_histogram_t  commit;        /* ns a commit, its sync included */
    mgr_histogram_t  batch;         /* commands a batch */
};


/*
 * One reply, whole or its beginning, that is going out: what was replayed or
 * thrown away is not counted.  command NULL: it was refused before it ran.
 */
void mgr_metrics_reply(mgr_server_t *s, const mgr_command_t *command,
    ims_str_t reply);

void mgr_metrics_commit(mgr_server_t *s, uint64_t ns);
void mgr_metrics_batch(mgr_server_t *s, unsigned commands);


#endif /* _MGR_METRICS_H_INCLUDED_ */
