/*
 * Copyright (C) nginx-ims contributors
 *
 * SIP, SIPS and tel URIs: parsing, the canonical form by which identities
 * are compared, the folded form by which they are unique, and what may be an
 * identity at all (POOL.md 1; RFC 3261 19.1, RFC 3966).
 */

#ifndef _IMS_SIP_URI_H_INCLUDED_
#define _IMS_SIP_URI_H_INCLUDED_


#include "base/ims_str.h"


/* the longest IMPU and IMPI that ims_sip_identity_ok(), _impi_ok() take */
#define IMS_SIP_IDENTITY_MAX   255


typedef enum {
    IMS_SIP_URI_OTHER = 0,
    IMS_SIP_URI_SIP,
    IMS_SIP_URI_SIPS,
    IMS_SIP_URI_TEL,
    IMS_SIP_URI_URN
} ims_sip_scheme_e;


/*
 * Slices into the text that was parsed.  A part that is absent has p == NULL
 * (a user that is present but empty does not parse).
 *
 *   sip, sips   user, password, host ([..] kept around IPv6), port, params,
 *               headers
 *   tel         user = the number as written, params
 *   urn, other  opaque = all behind the colon
 */
typedef struct {
    ims_str_t         whole;
    ims_str_t         scheme_name;
    ims_str_t         user;
    ims_str_t         password;
    ims_str_t         host;
    ims_str_t         params;      /* from the first ';', inclusive */
    ims_str_t         headers;     /* behind the '?' */
    ims_str_t         opaque;
    ims_sip_scheme_e  scheme;
    uint16_t          port;        /* 0: none given */
} ims_sip_uri_t;


/*
 * Parses one URI that takes up all of s.  Strict by the grammar of RFC 3261
 * 25.1 and RFC 3966 3: characters of each part, escapes with two hex digits,
 * port 1 to 65535, IPv6 addresses that inet_pton() takes.  Other schemes:
 * printable ASCII but space, quotes and angle brackets.
 */
bool ims_sip_uri_parse(ims_str_t s, ims_sip_uri_t *u);

/*
 * A parameter of a URI by its name (case-insensitive, unescaped before the
 * comparison).  *v is the value as written, {NULL, 0} without '='.  Returns
 * how many there are, the last one's value in *v.
 */
unsigned ims_sip_uri_param(const ims_sip_uri_t *u, const char *name,
    ims_str_t *v);


/*
 * Canonical form: two URIs name the same identity if and only if these bytes
 * are equal, and the canonical form of a canonical form is itself.
 * Returns the length, or -1 if the URI cannot be an identity's (headers,
 * repeated parameters that count) or does not fit into cap.
 *
 * sip, sips   scheme and host in lower case (an IPv6 address as
 *             inet_ntop() writes it), ":5060" of sip and ":5061" of sips
 *             left out, other ports kept.  User and password as bytes, but
 *             %HH of an unreserved character (letters, digits, -_.!~*'())
 *             unescaped and the hex digits of others in upper case.  Of the
 *             parameters those without which RFC 3261 19.1.4 says "not
 *             equal": user, ttl, method, maddr; and gr (RFC 5627); in lower
 *             case, sorted by name.  All others (transport, lr, ob, ...) left
 *             out.  sip and sips differ.
 * tel         visual separators (-.()) out, letters of the number in lower
 *             case; ext, isub and phone-context kept, in lower case, their
 *             separators out where they are numbers, sorted by name.  All
 *             others (cpc, oli, rn, ...) left out.
 * urn         "urn" and the namespace in lower case, the rest as bytes.
 * other       scheme in lower case, the rest as bytes.
 */
ptrdiff_t ims_sip_uri_canon(uint8_t *dst, size_t cap, const ims_sip_uri_t *u);

/*
 * Folded form: the key of the unique index and of the check of
 * P-Associated-URI.  It folds whatever a registrar could take for the same
 * address of record; two identities whose folded forms are equal may not both
 * exist.  Made from the canonical form; not a URI to be sent.  Returns the
 * length or -1 (as above; a sip URI without a user folds to its host).
 *
 *   "tel:+DIGITS"      tel: and sip:, sips: whose user is a global number
 *                      (with or without user=phone, whatever the host: an
 *                      E.164 number is the same number everywhere)
 *   "sip:DIGITS@ctx"   tel: with a local number in the context ctx (its
 *                      phone-context), and sip: with user=phone and a local
 *                      number, ctx = its phone-context or else the host
 *   "sip:user@host"    other sip: and sips: (most registrars leave the scheme
 *                      out of the address of record): user unescaped and in
 *                      lower case, no password, no port, no parameters, no
 *                      final dot of the host
 *   canonical form in lower case: all others
 *
 * An identity may well have tel:+1... and sip:+1...;user=phone both: these
 * fold to one key of one identity.
 */
ptrdiff_t ims_sip_uri_fold(uint8_t *dst, size_t cap, const ims_sip_uri_t *u);

/* Parse and canonicalise, parse and fold: -1 if it does not parse. */
ptrdiff_t ims_sip_canon(uint8_t *dst, size_t cap, ims_str_t uri);
ptrdiff_t ims_sip_fold(uint8_t *dst, size_t cap, ims_str_t uri);

/* True if both parse and their canonical forms are equal. */
bool ims_sip_uri_same(ims_str_t a, ims_str_t b);


/*
 * May this text be an IMPU?  sip, sips with a user, or tel; no password, no
 * headers; printable ASCII without quotes, backslash, angle brackets, comma;
 * no escape that stands for a control character, a quote, backslash, angle
 * bracket or '%' itself, so that nothing can come out of a second decoding;
 * at most IMS_SIP_IDENTITY_MAX bytes; has a canonical form.
 */
bool ims_sip_identity_ok(ims_str_t uri);

/*
 * May this text be an IMPI (user@realm, TS 23.003 13.3)?  It is written into
 * a quoted string: printable ASCII without space, quotes, backslash, angle
 * brackets and other separators; exactly one '@', with a host name behind it.
 */
bool ims_sip_impi_ok(ims_str_t impi);


#endif /* _IMS_SIP_URI_H_INCLUDED_ */
