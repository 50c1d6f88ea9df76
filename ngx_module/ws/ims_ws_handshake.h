/*
 * Copyright (C) nginx-ims contributors
 *
 * The rules of the opening handshake that are about bytes alone (RFC 6455
 * section 4.2, RFC 7118 section 4, RFC 9110 section 5.6.1).
 */

#ifndef _IMS_WS_HANDSHAKE_H_INCLUDED_
#define _IMS_WS_HANDSHAKE_H_INCLUDED_


#include "base/ims_str.h"


#define IMS_WS_ACCEPT_LEN  28


/* Sec-WebSocket-Key: base64 of exactly 16 bytes, no stray bits. */
bool ims_ws_key_ok(ims_str_t key);

/*
 * Sec-WebSocket-Accept for a key that ims_ws_key_ok(): IMS_WS_ACCEPT_LEN
 * bytes, no NUL.
 */
void ims_ws_accept_key(uint8_t *dst, ims_str_t key);

/*
 * True if a header value, a comma-separated list, has the token as one of its
 * members, in any case of letters.  Whole members are compared: neither
 * "gossip" nor "sip;x" is "sip".  A header that came in several lines is asked
 * for line by line.
 */
bool ims_http_token_list_has(ims_str_t list, ims_str_t token);

/*
 * The next member of such a list: cut from *list, spaces around it removed,
 * empty members passed over.  False at the end.
 */
bool ims_http_token_list_next(ims_str_t *list, ims_str_t *member);


#endif /* _IMS_WS_HANDSHAKE_H_INCLUDED_ */
