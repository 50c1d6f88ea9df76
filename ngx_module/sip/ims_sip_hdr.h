/*
 * Copyright (C) nginx-ims contributors
 *
 * SIP header names: one list, from which the ids, the lookup by name and the
 * texts of errors are made.
 *
 * X(id, name, compact letter or 0, 1 if it may appear once only).  Sorted by
 * the length of the name: the lookup goes by length (ims_sip_hdr.c), and the
 * unit test fails if an entry stands in the wrong place.
 */

#ifndef _IMS_SIP_HDR_H_INCLUDED_
#define _IMS_SIP_HDR_H_INCLUDED_


#include "base/ims_str.h"


#define IMS_SIP_HEADERS(X) \
    X(TO, "To", 't', 1) \
    X(VIA, "Via", 'v', 0) \
    X(CSEQ, "CSeq", 0, 1) \
    X(DATE, "Date", 0, 1) \
    X(FROM, "From", 'f', 1) \
    X(JOIN, "Join", 0, 1) \
    X(PATH, "Path", 0, 0) \
    X(RACK, "RAck", 0, 1) \
    X(RSEQ, "RSeq", 0, 1) \
    X(ALLOW, "Allow", 0, 0) \
    X(EVENT, "Event", 'o', 1) \
    X(ROUTE, "Route", 0, 0) \
    X(ACCEPT, "Accept", 0, 0) \
    X(MIN_SE, "Min-SE", 0, 1) \
    X(REASON, "Reason", 0, 0) \
    X(SERVER, "Server", 0, 0) \
    X(CALL_ID, "Call-ID", 'i', 1) \
    X(CONTACT, "Contact", 'm', 0) \
    X(EXPIRES, "Expires", 0, 1) \
    X(PRIVACY, "Privacy", 0, 0) \
    X(REQUIRE, "Require", 0, 0) \
    X(SUBJECT, "Subject", 's', 1) \
    X(WARNING, "Warning", 0, 0) \
    X(IDENTITY, "Identity", 'y', 0) \
    X(PRIORITY, "Priority", 0, 1) \
    X(REFER_TO, "Refer-To", 'r', 1) \
    X(REPLY_TO, "Reply-To", 0, 1) \
    X(REPLACES, "Replaces", 0, 1) \
    X(SIP_ETAG, "SIP-ETag", 0, 1) \
    X(DIVERSION, "Diversion", 0, 0) \
    X(REFER_SUB, "Refer-Sub", 0, 1) \
    X(SUPPORTED, "Supported", 'k', 0) \
    X(TIMESTAMP, "Timestamp", 0, 1) \
    X(FLOW_TIMER, "Flow-Timer", 0, 1) \
    X(P_DCS_LAES, "P-DCS-LAES", 0, 0) \
    X(P_DCS_OSPS, "P-DCS-OSPS", 0, 0) \
    X(SESSION_ID, "Session-ID", 0, 0) \
    X(USER_AGENT, "User-Agent", 0, 0) \
    X(GEOLOCATION, "Geolocation", 0, 0) \
    X(MAX_BREADTH, "Max-Breadth", 0, 1) \
    X(MIN_EXPIRES, "Min-Expires", 0, 1) \
    X(REFERRED_BY, "Referred-By", 'b', 1) \
    X(RETRY_AFTER, "Retry-After", 0, 1) \
    X(UNSUPPORTED, "Unsupported", 0, 0) \
    X(ALLOW_EVENTS, "Allow-Events", 'u', 0) \
    X(CONTENT_TYPE, "Content-Type", 'c', 1) \
    X(FEATURE_CAPS, "Feature-Caps", 0, 0) \
    X(HISTORY_INFO, "History-Info", 0, 0) \
    X(MAX_FORWARDS, "Max-Forwards", 0, 1) \
    X(MIME_VERSION, "MIME-Version", 0, 1) \
    X(RECORD_ROUTE, "Record-Route", 0, 0) \
    X(SIP_IF_MATCH, "SIP-If-Match", 0, 1) \
    X(USER_TO_USER, "User-to-User", 0, 0) \
    X(AUTHORIZATION, "Authorization", 0, 0) \
    X(IDENTITY_INFO, "Identity-Info", 'n', 0) \
    X(P_CHARGE_INFO, "P-Charge-Info", 0, 0) \
    X(P_EARLY_MEDIA, "P-Early-Media", 0, 0) \
    X(P_PROFILE_KEY, "P-Profile-Key", 0, 0) \
    X(P_SERVED_USER, "P-Served-User", 0, 0) \
    X(PROXY_REQUIRE, "Proxy-Require", 0, 0) \
    X(SERVICE_ROUTE, "Service-Route", 0, 0) \
    X(TARGET_DIALOG, "Target-Dialog", 0, 1) \
    X(ACCEPT_CONTACT, "Accept-Contact", 'a', 0) \
    X(CONTENT_LENGTH, "Content-Length", 'l', 1) \
    X(ORIGINATION_ID, "Origination-Id", 0, 0) \
    X(P_ANSWER_STATE, "P-Answer-State", 0, 0) \
    X(P_DCS_REDIRECT, "P-DCS-Redirect", 0, 0) \
    X(PRIORITY_SHARE, "Priority-Share", 0, 0) \
    X(REJECT_CONTACT, "Reject-Contact", 'j', 0) \
    X(RELAYED_CHARGE, "Relayed-Charge", 0, 0) \
    X(P_USER_DATABASE, "P-User-Database", 0, 0) \
    X(REMOTE_PARTY_ID, "Remote-Party-ID", 0, 0) \
    X(RESPONSE_SOURCE, "Response-Source", 0, 0) \
    X(SECURITY_CLIENT, "Security-Client", 0, 0) \
    X(SECURITY_SERVER, "Security-Server", 0, 0) \
    X(SECURITY_VERIFY, "Security-Verify", 0, 0) \
    X(SESSION_EXPIRES, "Session-Expires", 'x', 1) \
    X(ATTESTATION_INFO, "Attestation-Info", 0, 0) \
    X(CONTENT_ENCODING, "Content-Encoding", 'e', 0) \
    X(CONTENT_LANGUAGE, "Content-Language", 0, 0) \
    X(P_ASSOCIATED_URI, "P-Associated-URI", 0, 0) \
    X(PRIORITY_VERSTAT, "Priority-Verstat", 0, 0) \
    X(RESTORATION_INFO, "Restoration-Info", 0, 0) \
    X(WWW_AUTHENTICATE, "WWW-Authenticate", 0, 0) \
    X(P_CALLED_PARTY_ID, "P-Called-Party-ID", 0, 0) \
    X(P_CHARGING_VECTOR, "P-Charging-Vector", 0, 0) \
    X(RESOURCE_PRIORITY, "Resource-Priority", 0, 0) \
    X(TURN_CRED, "3gpp-ext-turn-cred", 0, 0) \
    X(P_ASSERTED_SERVICE, "P-Asserted-Service", 0, 0) \
    X(P_DCS_BILLING_INFO, "P-DCS-Billing-Info", 0, 0) \
    X(PROXY_AUTHENTICATE, "Proxy-Authenticate", 0, 0) \
    X(SUBSCRIPTION_STATE, "Subscription-State", 0, 1) \
    X(ADDITIONAL_IDENTITY, "Additional-Identity", 0, 0) \
    X(AUTHENTICATION_INFO, "Authentication-Info", 0, 0) \
    X(CONTENT_DISPOSITION, "Content-Disposition", 0, 1) \
    X(GEOLOCATION_ROUTING, "Geolocation-Routing", 0, 0) \
    X(P_ASSERTED_IDENTITY, "P-Asserted-Identity", 0, 0) \
    X(P_PREFERRED_SERVICE, "P-Preferred-Service", 0, 0) \
    X(PROXY_AUTHORIZATION, "Proxy-Authorization", 0, 0) \
    X(REQUEST_DISPOSITION, "Request-Disposition", 'd', 0) \
    X(P_DCS_TRACE_PARTY_ID, "P-DCS-Trace-Party-ID", 0, 0) \
    X(P_PREFERRED_IDENTITY, "P-Preferred-Identity", 0, 0) \
    X(P_VISITED_NETWORK_ID, "P-Visited-Network-ID", 0, 0) \
    X(CELLULAR_NETWORK_INFO, "Cellular-Network-Info", 0, 0) \
    X(P_ACCESS_NETWORK_INFO, "P-Access-Network-Info", 0, 0) \
    X(P_MEDIA_AUTHORIZATION, "P-Media-Authorization", 0, 0) \
    X(SERVICE_INTERACT_INFO, "Service-Interact-Info", 0, 0) \
    X(P_PRIVATE_NETWORK_INDICATION, \
      "P-Private-Network-Indication", 0, 0) \
    X(P_CHARGING_FUNCTION_ADDRESSES, \
      "P-Charging-Function-Addresses", 0, 0)


#define IMS_SIP_HDR_ENUM(id, name, compact, single)  IMS_SIP_H_##id,

typedef enum {
    /* every name that is not in the list */
    IMS_SIP_H_OTHER = 0,
    IMS_SIP_HEADERS(IMS_SIP_HDR_ENUM)
    IMS_SIP_H_COUNT
} ims_sip_hdr_id_t;

#undef IMS_SIP_HDR_ENUM


/*
 * The id of a header name, long or compact, in any case; the full name is
 * compared.  IMS_SIP_H_OTHER for names that are not in the list.
 */
unsigned ims_sip_hdr_id(const uint8_t *p, size_t n);

/* The long name, as in the list; "" for IMS_SIP_H_OTHER. */
ims_str_t ims_sip_hdr_name(unsigned id);

/* The compact letter, 0 if there is none. */
char ims_sip_hdr_compact(unsigned id);

/* True if a message may have one such header only (RFC 3261 7.3.1). */
bool ims_sip_hdr_single(unsigned id);

/* "Repeated From header" and so on: static texts. */
const char *ims_sip_hdr_repeated(unsigned id);


#endif /* _IMS_SIP_HDR_H_INCLUDED_ */
