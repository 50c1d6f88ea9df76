/*
 * Copyright (C) nginx-ims contributors
 *
 * The flow key: what flow tokens, branches and datagrams between workers are
 * authenticated with.  It lives in a file of the state directory that only the
 * master's user can read; workers have it by fork.
 *
 * The file is text, so that a key can be rotated by hand or by a script: one
 * key a line, "<id 1..255> <64 hex digits>", at most two.  The first makes new
 * tokens, both verify.
 */

#ifndef _IMS_FLOW_KEY_H_INCLUDED_
#define _IMS_FLOW_KEY_H_INCLUDED_


#include "base/ims_hmac.h"


#define IMS_FLOW_KEYS         2
#define IMS_FLOW_KEY_LEN      32
#define IMS_FLOW_KEY_ERR_LEN  256


typedef struct {
    unsigned        n;
    uint8_t         id[IMS_FLOW_KEYS];    /* [0] makes, all verify */
    ims_hmac_key_t  key[IMS_FLOW_KEYS];
} ims_flow_keys_t;


/*
 * Reads dir/flow.key, making it with mode 0600 if there is none; of two
 * processes that make it at once, both get the same key.  False: err
 * (IMS_FLOW_KEY_ERR_LEN bytes) says why.  A file that others can read is
 * refused.  For init_module, never under -t.
 */
bool ims_flow_keys_open(ims_flow_keys_t *keys, const char *dir, char *err);

/* Takes the file's text; for the above and for tests. */
bool ims_flow_keys_parse(ims_flow_keys_t *keys, ims_str_t text);

/* The key with that id, or NULL. */
const ims_hmac_key_t *ims_flow_key(const ims_flow_keys_t *keys, uint8_t id);


#endif /* _IMS_FLOW_KEY_H_INCLUDED_ */
