/*
 * Copyright (C) nginx-ims contributors
 *
 * Origins (RFC 6454) compared as what they are: scheme, host and port.  Never
 * by prefix or as text: "https://site.example.evil.test" begins with an
 * allowed origin, and "https://site.example:443" is one.
 */

#ifndef _IMS_ORIGIN_H_INCLUDED_
#define _IMS_ORIGIN_H_INCLUDED_


#include "base/ims_str.h"


typedef struct {
    ims_str_t  scheme;
    ims_str_t  host;        /* with the brackets of an IPv6 address */
    uint16_t   port;        /* 0: the scheme has no default and none is given */
} ims_origin_t;


typedef struct {
    ims_origin_t  origin;
    bool          subdomains;   /* of host, and not host itself */
} ims_origin_rule_t;


/*
 * An Origin header's value.  False for anything that is not exactly one
 * origin: empty, "null", two values, userinfo, path, query, trailing dot,
 * port 0 or with leading zeros, bytes outside a host name.  The result points
 * into text.
 */
bool ims_origin_parse(ims_origin_t *o, ims_str_t text);

/* The default port made explicit, letters of either case. */
bool ims_origin_equal(const ims_origin_t *a, const ims_origin_t *b);

/*
 * A rule of the configuration: an origin, "https://host[:port]", or one whose
 * host begins with an asterisk and a dot, which stand for one or more whole
 * labels, not for none.  Returns 0, or -1 with a static text in *err.  The
 * rule points into text.
 */
int ims_origin_rule_parse(ims_origin_rule_t *rule, ims_str_t text,
    const char **err);

/* True if the Origin value is an origin that one of the rules names. */
bool ims_origin_match(const ims_origin_rule_t *rules, size_t n,
    ims_str_t origin);


#endif /* _IMS_ORIGIN_H_INCLUDED_ */
