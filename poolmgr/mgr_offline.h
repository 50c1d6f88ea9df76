/*
 * Copyright (C) nginx-ims contributors
 *
 * What ims-poolmgr does once and then leaves: init, backup, restore.
 */

#ifndef _MGR_OFFLINE_H_INCLUDED_
#define _MGR_OFFLINE_H_INCLUDED_


#include "ims_pool_writer.h"


/* An environment where none is yet.  The exit status. */
int mgr_offline_init(const ims_pool_options_t *opt);

/*
 * Backup of a directory, whether a pool manager runs on it or not.  The
 * outcome goes to standard output: "bytes N rows N", or what went wrong.
 */
int mgr_offline_backup(const ims_pool_options_t *opt, const char *path);

/* Restore into a directory on which none runs.  path "-": standard input */
int mgr_offline_restore(const ims_pool_options_t *opt, const char *path);

/* Can what a start needs be read from the directory? */
int mgr_offline_test(const ims_pool_options_t *opt, uid_t owner);

/* The file becomes standard input, while this process may still read it. */
int mgr_offline_input(const char *path, char *err, size_t errlen);


#endif /* _MGR_OFFLINE_H_INCLUDED_ */
