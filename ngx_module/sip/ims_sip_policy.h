/*
 * Copyright (C) nginx-ims contributors
 *
 * The header table: what happens to each header at the trust boundary, in
 * each of the four directions (DESIGN.md 6 "Header policy", PEERS.md D10 to
 * D12; TS 24.229 4.4, TS 33.203 P.3, RFC 3325).
 */

#ifndef _IMS_SIP_POLICY_H_INCLUDED_
#define _IMS_SIP_POLICY_H_INCLUDED_


#include "sip/ims_sip.h"
#include "sip/ims_sip_edit.h"


typedef enum {
    IMS_SIP_WIC_REQUEST = 0,       /* WIC -> core */
    IMS_SIP_WIC_RESPONSE,
    IMS_SIP_CORE_REQUEST,          /* core -> WIC */
    IMS_SIP_CORE_RESPONSE,
    IMS_SIP_DIRS
} ims_sip_dir_e;


typedef enum {
    IMS_SIP_KEEP = 0,
    IMS_SIP_STRIP,
    IMS_SIP_INSERT,                /* stripped; the edge writes its own */
    IMS_SIP_REFUSE,                /* the message is answered 400 */

    /* in the table only: decided by the message */
    IMS_SIP_IF_AUTH,               /* strip in REGISTER; elsewhere Bearer, and
                                      what the trust domain alone may say */
    IMS_SIP_IF_ACCESS,             /* insert in REGISTER; elsewhere strip what
                                      claims to be network-provided */
    IMS_SIP_IF_PRIVACY,            /* strip under Privacy: id */
    IMS_SIP_IF_REGISTERED,         /* keep in a 2xx of REGISTER, else strip */
    IMS_SIP_IF_SINGLE              /* keep one value, refuse more */
} ims_sip_policy_e;


/* The table's own entry for a header id, conditions not resolved. */
ims_sip_policy_e ims_sip_policy_entry(ims_sip_dir_e dir, unsigned id);

/*
 * What to do with header number hdr of m: KEEP, STRIP, INSERT or REFUSE.
 * Names that are not in the table are kept.
 */
ims_sip_policy_e ims_sip_policy(ims_sip_dir_e dir, const ims_sip_msg_t *m,
    unsigned hdr);

/*
 * Drops in ed what the table says, and from the URIs of the first line and
 * of From, To, Contact, Refer-To, Referred-By and Reply-To of a WIC the
 * parameters that only the trust domain sets (cpc, oli, iotl, verstat: TS
 * 24.229 7.2A.12, 7.2A.18, 7.2A.20).  To be called before other edits.  0, or -1 if the
 * message is to be refused; *reason is then a static text for the 400.
 *
 * What must be read before it is stripped (P-Preferred-Identity, Route) can
 * still be read from m afterwards.
 */
int ims_sip_policy_apply(ims_sip_edit_t *ed, ims_sip_dir_e dir,
    const char **reason);


#endif /* _IMS_SIP_POLICY_H_INCLUDED_ */
