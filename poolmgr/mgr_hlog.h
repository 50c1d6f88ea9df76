/*
 * Copyright (C) nginx-ims contributors
 *
 * The history log: a line of JSON for each lease that begins or ends, to a file
 * or to syslog.  It never holds up a lease: what cannot be written is counted.
 */

#ifndef _MGR_HLOG_H_INCLUDED_
#define _MGR_HLOG_H_INCLUDED_


#include "mgr_server.h"


/*
 * where: a path, "syslog[:FACILITY][@SOCKET]" (authpriv, /dev/log), "none".
 * users: with realms and user names in clear.  0, or -1 with a text in err.
 */
int mgr_hlog_open(mgr_server_t *s, const char *where, bool users, char *err,
    size_t errlen);

/* The file once more by its name: it may have been moved. */
void mgr_hlog_reopen(mgr_server_t *s);

/* What has gathered since the last time goes out. */
void mgr_hlog_flush(mgr_server_t *s);
void mgr_hlog_close(mgr_server_t *s);

/* Lines that never came out, since the start. */
uint64_t mgr_hlog_lost(mgr_server_t *s);


#endif /* _MGR_HLOG_H_INCLUDED_ */
