/*
 * Copyright (C) nginx-ims contributors
 *
 * The history log: a line of JSON for each lease that begins or ends, to a file
 * or to syslog.  What cannot be written is counted, and the lease is told all
 * the same.
 *
 * Synced it is a proof of what was given (ims_pool_writer.h, "The log as a
 * proof"), until a line is lost.  Then a lease waits for the disk, and is not
 * told if neither its line nor the loss of it can be written.
 */

#ifndef _MGR_HLOG_H_INCLUDED_
#define _MGR_HLOG_H_INCLUDED_


#include "mgr_server.h"


typedef struct {
    const char  *where;     /* a path, "syslog[:FACILITY][@SOCKET]" (authpriv,
                               /dev/log), "none" */
    bool         users;     /* with realms and user names in clear */
    bool         sync;      /* of a path: on the disk before it is told */
    bool         any_fs;    /* on whatever file system */
} mgr_hlog_options_t;

/*
 * Before anything is given: 0, or -1 with a text in err.
 */
int mgr_hlog_open(mgr_server_t *s, const mgr_hlog_options_t *o, char *err,
    size_t errlen);

/* Is it a path? */
bool mgr_hlog_is_file(const char *where);

/* The file once more by its name: it may have been moved. */
void mgr_hlog_reopen(mgr_server_t *s);

/* From time to time: a file that was removed is written for nobody. */
void mgr_hlog_look(mgr_server_t *s);

/* A file with the number of the one that is written, but elsewhere. */
bool mgr_hlog_alike(const mgr_server_t *s, uint64_t dev, uint64_t inode);

/* Another environment follows. */
void mgr_hlog_started(mgr_server_t *s);

/*
 * What has gathered since the last time goes out.  -1: leases of it must not be
 * told, and the process must end: they are without lines, and what would say
 * so cannot be written, either.
 */
int mgr_hlog_flush(mgr_server_t *s);
void mgr_hlog_close(mgr_server_t *s);

/* Lines that never came out, since the start. */
uint64_t mgr_hlog_lost(mgr_server_t *s);


#endif /* _MGR_HLOG_H_INCLUDED_ */
