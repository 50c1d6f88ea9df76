/*
 * Copyright (C) nginx-ims contributors
 *
 * Import of identities: one at a time, by the connection that began it.
 */

#ifndef _MGR_IMPORT_H_INCLUDED_
#define _MGR_IMPORT_H_INCLUDED_


#include "mgr_command.h"


/* The connection goes away: an import that it has not ended is taken out. */
void mgr_import_orphan(mgr_server_t *s, mgr_conn_t *c);


#endif /* _MGR_IMPORT_H_INCLUDED_ */
