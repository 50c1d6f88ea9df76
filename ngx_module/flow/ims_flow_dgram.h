/*
 * Copyright (C) nginx-ims contributors
 *
 * Datagrams between workers (DESIGN.md 6, "Delivery between workers").
 *
 * All processes of nginx's user can send to a worker's socket; only workers
 * have the flow key, so every datagram ends with a MAC.  Numbers are
 * big-endian, since the two ends may be different binaries.
 */

#ifndef _IMS_FLOW_DGRAM_H_INCLUDED_
#define _IMS_FLOW_DGRAM_H_INCLUDED_


#include <sys/uio.h>

#include "base/ims_str.h"
#include "flow/ims_flow_key.h"


#define IMS_FLOW_DGRAM_VERSION   1
#define IMS_FLOW_DGRAM_OVERHEAD  112      /* header and MAC */
#define IMS_FLOW_DGRAM_ADDR_MAX  32


typedef enum {
    IMS_FLOW_DGRAM_REQUEST = 1,    /* to the slot's owner, or from it back */
    IMS_FLOW_DGRAM_RESPONSE,       /* arg: workers asked, or, on its way out to
                                      the core, 1: it may be dropped */
    IMS_FLOW_DGRAM_CLOSE,          /* close the slot's connection; arg: code */
    IMS_FLOW_DGRAM_TAKEN_OVER      /* slot has another owner; arg: its word */
} ims_flow_dgram_kind_t;


typedef enum {
    IMS_FLOW_DGRAM_OK = 0,
    IMS_FLOW_DGRAM_BAD_VERSION,
    IMS_FLOW_DGRAM_BAD_LENGTH,     /* cut, or lengths do not add up */
    IMS_FLOW_DGRAM_BAD_MAC,        /* or unknown key */
    IMS_FLOW_DGRAM_BAD_KIND        /* authentic, but nothing that we know */
} ims_flow_dgram_rc_t;


typedef struct {
    ims_flow_dgram_kind_t  kind;
    uint16_t               node;
    uint32_t               slot;
    uint32_t               generation;
    uint64_t               arg;           /* by kind, else 0 */

    /* ingress: where the message came in, and its answer must go out */
    uint64_t               worker;        /* worker id */
    uint32_t               serial;        /* of its connection */
    uint32_t               link;          /* its link id */
    uint8_t                transport;
    uint8_t                addr_len;
    uint8_t                addr[IMS_FLOW_DGRAM_ADDR_MAX];   /* received from */

    ims_str_t              msg;           /* set by decode: into the buffer */
} ims_flow_dgram_t;


/*
 * Writes the datagram with the message of niov pieces to buf.  Returns its
 * length; 0 if it does not fit cap or addr_len is too long.  d->msg is not
 * read.
 */
size_t ims_flow_dgram_encode(const ims_flow_keys_t *keys,
    const ims_flow_dgram_t *d, const struct iovec *iov, unsigned niov,
    uint8_t *buf, size_t cap);

/* d is set only if OK; d->msg lives as long as buf. */
ims_flow_dgram_rc_t ims_flow_dgram_decode(const ims_flow_keys_t *keys,
    const uint8_t *buf, size_t n, ims_flow_dgram_t *d);


#endif /* _IMS_FLOW_DGRAM_H_INCLUDED_ */
