/*
 * Copyright (C) nginx-ims contributors
 *
 * Signals.  TERM and INT stop.  HUP reads the secrets anew and opens the
 * history log by its name.  USR2 hands the socket over to a new program: the
 * commands at hand are answered, the directory is closed, and this process
 * becomes what now stands under the name by which it was started.
 */

#ifndef _MGR_SIGNAL_H_INCLUDED_
#define _MGR_SIGNAL_H_INCLUDED_


#include "mgr_server.h"


#define MGR_EXIT_HANDOVER  -1       /* not a status: mgr_signal_exec() */

/* what a program that is tried says, and nothing else */
#define MGR_WOULD_START    "ims-poolmgr would start\n"

/* What they need to know; must outlive the loop. */
struct mgr_signal_s {
    char        **argv;
    const char   *secrets;
    uid_t         owner;            /* of them, if not root */
    int           fd;               /* the listening socket, kept */
    bool          given;            /* it was handed to us by init */
    bool          testing;          /* the new program is being tried */
    bool          handover;
    uv_process_t  test;
    uv_pipe_t     pipe;             /* what it says */
    uint64_t      since;            /* uv_now() of the handover */
    unsigned      handles;          /* of these two still open */
    bool          good;
    char          text[128];
    size_t        ntext;
};

typedef struct mgr_signal_s  mgr_signal_t;


int mgr_signals_start(mgr_server_t *s, mgr_signal_t *sig);

/* Called after each batch: is this the moment to go? */
void mgr_signals_look(mgr_server_t *s);

/*
 * A listening socket that was handed to this process (systemd's LISTEN_FDS,
 * or a former self).  -1: none; -2: with a text in err, not the one meant.
 */
int mgr_signal_inherited(const char *path, bool *given, char *err,
    size_t errlen);

/* Does not return, unless it fails. */
void mgr_signal_exec(mgr_signal_t *sig);


#endif /* _MGR_SIGNAL_H_INCLUDED_ */
