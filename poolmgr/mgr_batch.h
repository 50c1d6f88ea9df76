/*
 * Copyright (C) nginx-ims contributors
 *
 * Batches (POOL.md section 3): what all connections asked for in one turn of
 * the loop runs in one transaction with one `now`, and is answered after its
 * commit.
 */

#ifndef _MGR_BATCH_H_INCLUDED_
#define _MGR_BATCH_H_INCLUDED_


#include "mgr_command.h"


#define MGR_BATCH_MAX     1000          /* commands a batch */
#define MGR_BATCH_NS      5000000       /* and time */
#define MGR_SHARE_MAX     64            /* commands a connection and batch */
#define MGR_SHARE_BYTES   (64 * 1024)


/* One batch of what is ready, and one slice of each job. */
void mgr_batch_run(mgr_server_t *s);

/* Each second: clock row, feed, slots of dead readers. */
void mgr_batch_tick(mgr_server_t *s);

/* A line for the log, written if and when the batch is committed. */
void mgr_batch_log(mgr_server_t *s, mgr_log_level_t level, const char *fmt,
    ...) __attribute__((format(printf, 3, 4)));

/*
 * The commit's outcome is unknown, or the environment is unusable: log, and
 * leave the process as soon as the answers are out.
 */
void mgr_batch_fatal(mgr_server_t *s, const char *what);


#endif /* _MGR_BATCH_H_INCLUDED_ */
