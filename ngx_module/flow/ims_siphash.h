/*
 * Copyright (C) nginx-ims contributors
 *
 * SipHash-2-4 (Aumasson, Bernstein): keyed hash for tables whose keys a peer
 * chooses.
 */

#ifndef _IMS_SIPHASH_H_INCLUDED_
#define _IMS_SIPHASH_H_INCLUDED_


#include "base/ims_str.h"


typedef struct {
    uint64_t  k0;
    uint64_t  k1;
} ims_siphash_key_t;


uint64_t ims_siphash(const ims_siphash_key_t *k, const void *data, size_t n);


#endif /* _IMS_SIPHASH_H_INCLUDED_ */
