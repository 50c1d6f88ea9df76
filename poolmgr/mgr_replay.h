/*
 * Copyright (C) nginx-ims contributors
 *
 * A hold ended by the history log: one replay at a time, by the connection that
 * began it.
 */

#ifndef _MGR_REPLAY_H_INCLUDED_
#define _MGR_REPLAY_H_INCLUDED_


#include "mgr_command.h"


/* The connection goes away: what it has not ended is forgotten. */
void mgr_replay_orphan(mgr_server_t *s, mgr_conn_t *c);


#endif /* _MGR_REPLAY_H_INCLUDED_ */
