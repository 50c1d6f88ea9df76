/*
 * Copyright (C) nginx-ims contributors
 *
 * Roles and their secrets (doc/pool-protocol.md, "Roles").
 */

#ifndef _MGR_SECRET_H_INCLUDED_
#define _MGR_SECRET_H_INCLUDED_


#include <sys/types.h>

#include "base/ims_str.h"


/* bits, so that a command can name all roles that may use it */
enum {
    MGR_ROLE_NONE = 0,
    MGR_ROLE_WWSF = 1,
    MGR_ROLE_EDGE = 2,
    MGR_ROLE_ADMIN = 4
};

#define MGR_SECRET_HASH  32

/* One line of a file; never changed, and freed with its list. */
typedef struct mgr_secret_s  mgr_secret_t;

struct mgr_secret_s {
    unsigned        role;
    uint8_t         hash[MGR_SECRET_HASH];  /* SHA-256 of the secret */
    char           *pools;                  /* "a,b", NULL: any */
    char           *realms;
    mgr_secret_t   *next;
};


/*
 * Reads path: a file, or a directory of which every "*.secret" is read.
 * Returns 0, or -1 with err set; *list may hold some secrets then.  A file
 * that others may read, or that belongs neither to root nor to owner, is an
 * error.
 */
int mgr_secrets_load(mgr_secret_t **list, const char *path, uid_t owner,
    char *err, size_t errlen);

/* Makes dir, wwsf.secret and edge.secret in it, each if it is not there. */
int mgr_secrets_make(const char *dir, char *err, size_t errlen);

void mgr_secrets_free(mgr_secret_t *list);

/* The time it takes depends on the number of secrets only. */
const mgr_secret_t *mgr_secrets_find(const mgr_secret_t *list, ims_str_t word);

/* The one in list with the same word as another list's, or NULL. */
const mgr_secret_t *mgr_secrets_same(const mgr_secret_t *list,
    const mgr_secret_t *secret);

/* of one role; "none" for no role */
const char *mgr_role_text(unsigned role);

/* pool or realm IMS_STR_NULL: not asked */
bool mgr_secret_allows(const mgr_secret_t *s, ims_str_t pool, ims_str_t realm);


#endif /* _MGR_SECRET_H_INCLUDED_ */
