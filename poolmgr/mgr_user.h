/*
 * Copyright (C) nginx-ims contributors
 *
 * Who the daemon runs as, and the socket that it listens on.
 */

#ifndef _MGR_USER_H_INCLUDED_
#define _MGR_USER_H_INCLUDED_


#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>


#define MGR_USER   "ims-pool"
#define MGR_GROUP  "ims"


typedef struct {
    char    name[64];
    uid_t   uid;
    gid_t   gid;
    bool    has_gid;        /* files and socket get it */
    bool    drop;           /* started by root, to run as somebody else */
} mgr_user_t;


/*
 * user and group as given, NULL: the defaults.  Root needs the user to exist;
 * others stay who they are, and user must then be themselves.  All of these
 * return 0, or -1 with a text in err.
 */
int mgr_user_find(mgr_user_t *u, const char *user, const char *group,
    char *err, size_t errlen);

/*
 * A directory that is missing is made, and given to the user.  An existing one
 * is given to him only if it is empty and empty_too is set.
 */
int mgr_user_directory(const mgr_user_t *u, const char *path, mode_t mode,
    bool empty_too, char *err, size_t errlen);

/* For good. */
int mgr_user_become(const mgr_user_t *u, char *err, size_t errlen);

/*
 * A listening socket, mode 0660; a dead one of that name is replaced, a living
 * one or anything else is left alone.  Returns the descriptor.
 */
int mgr_user_listen(const mgr_user_t *u, const char *path, char *err,
    size_t errlen);


#endif /* _MGR_USER_H_INCLUDED_ */
