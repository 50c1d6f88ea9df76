/*
 * Copyright (C) nginx-ims contributors
 *
 * Registration information (RFC 3680, application/reginfo+xml): what a core
 * says of registrations, read for the one thing that the edge does with it.
 * Which of them have ended, or end sooner, for one Contact.
 *
 * Nothing is ever granted by such a document, so nothing of that is read.
 */

#ifndef _IMS_REGINFO_H_INCLUDED_
#define _IMS_REGINFO_H_INCLUDED_


#include "base/ims_str.h"
#include "reg/ims_register.h"


#define IMS_REGINFO_SIZE      32768    /* bytes of a document */
#define IMS_REGINFO_AORS      64       /* registrations in one */
#define IMS_REGINFO_ELEMENTS  4096     /* elements of any kind */
#define IMS_REGINFO_DEPTH     16


/* why (attribute event of contact, RFC 3680 5.2) */

typedef enum {
    IMS_REGINFO_OTHER = 0,             /* not said, or not known here */
    IMS_REGINFO_REGISTERED,
    IMS_REGINFO_CREATED,
    IMS_REGINFO_REFRESHED,
    IMS_REGINFO_SHORTENED,
    IMS_REGINFO_EXPIRED,
    IMS_REGINFO_DEACTIVATED,
    IMS_REGINFO_PROBATION,
    IMS_REGINFO_UNREGISTERED,
    IMS_REGINFO_REJECTED
} ims_reginfo_event_e;


typedef struct {
    bool                 ended;        /* it, or our contact in it */
    bool                 shortened;    /* our contact: expires s are left */
    uint32_t             expires;
    ims_reginfo_event_e  event;        /* of our contact, if that is there */
    uint16_t             aor_len;      /* 0: too long for one of ours */
    uint8_t              aor[IMS_SIP_IDENTITY_MAX];
} ims_reginfo_aor_t;


/* 17 KB */
typedef struct {
    uint32_t             version;
    bool                 full;         /* state="full", else "partial" */
    unsigned             n;
    ims_reginfo_aor_t    aor[IMS_REGINFO_AORS];
} ims_reginfo_t;


/*
 * Reads a document of UTF-8; contact is the URI that is compared, byte by
 * byte, with that of each contact element (white space around it apart).  A
 * registration without that contact has ended if it says so itself; one that
 * is not in the document has not, whatever the document's state.
 *
 * All or nothing: false, with *reason a static text, for what is not XML, not
 * a reginfo by its namespace, too large or too deep, lacks an attribute that
 * is needed, or has a DTD, without which there are no entities to expand.
 */
bool ims_reginfo_read(ims_reginfo_t *r, ims_str_t body, ims_str_t contact,
    const char **reason);

/*
 * What the document says of an AOR: compared as identities are.  An entry that
 * has ended, if there are several.  NULL: nothing.
 */
const ims_reginfo_aor_t *ims_reginfo_find(const ims_reginfo_t *r,
    ims_str_t aor);

/* For the log. */
const char *ims_reginfo_event_text(ims_reginfo_event_e event);


#endif /* _IMS_REGINFO_H_INCLUDED_ */
