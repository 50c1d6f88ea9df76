/*
 * Copyright (C) nginx-ims contributors
 *
 * Backup, compaction and restore of a running pool manager.  One at a time.
 *
 * backup    a process of its own reads; nobody waits
 * compact   nothing is written while the copy is made: commands that write
 *           wait, all others are answered
 * restore   the copy is made beside the running environment, then all that
 *           runs is over: every lease ends
 */

#ifndef _MGR_COPY_H_INCLUDED_
#define _MGR_COPY_H_INCLUDED_


#include "mgr_job.h"


/* The server stops: a backup under way is given up. */
void mgr_copy_stop(mgr_server_t *s);

/* "none", "backup", "compact" or "restore" */
const char *mgr_copy_text(const mgr_server_t *s);

/* The part of an error's text that names no file. */
const char *mgr_copy_reason(const char *err);


#endif /* _MGR_COPY_H_INCLUDED_ */
