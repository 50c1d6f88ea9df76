/*
 * Copyright (C) nginx-ims contributors
 *
 * WebSocket frames, server side (RFC 6455 sections 5 to 8).
 *
 * The decoder is fed whatever a read returned, works in that buffer and hands
 * out one event at a time:
 *
 *     pos = buf; end = buf + n;
 *
 *     for ( ;; ) {
 *         switch (ims_ws_decode(&ws, &pos, end, &ev)) {
 *         case IMS_WS_MESSAGE:    ... ev.data, ev.len ...      break;
 *         case IMS_WS_PING:       ... answer with a pong ...   break;
 *         case IMS_WS_PONG:                                    break;
 *         case IMS_WS_CLOSE:      ... answer, then close ...   break;
 *         case IMS_WS_ERROR:      ... close with ev.code ...   break;
 *         case IMS_WS_NEED_MORE:  return;
 *         }
 *     }
 *
 * It must be called until it says NEED_MORE: that is also the call which frees
 * the memory of the last message, so that an idle connection holds none.
 *
 * A frame may be cut anywhere between two reads.  A message that came in one
 * unfragmented frame and one read is not copied.  Others are assembled in
 * memory that grows with the bytes received, never with a length announced.
 *
 * A peer may send pings without end: the caller answers only the last one of
 * a read (RFC 6455 section 5.5.3 allows that).
 */

#ifndef _IMS_WS_H_INCLUDED_
#define _IMS_WS_H_INCLUDED_


#include "base/ims_str.h"
#include "ws/ims_utf8.h"


#define IMS_WS_CONTINUATION     0x0
#define IMS_WS_OP_TEXT          0x1
#define IMS_WS_OP_BINARY        0x2
#define IMS_WS_OP_CLOSE         0x8
#define IMS_WS_OP_PING          0x9
#define IMS_WS_OP_PONG          0xa

/* close codes (RFC 6455 section 7.4.1) */
#define IMS_WS_NORMAL           1000
#define IMS_WS_GOING_AWAY       1001
#define IMS_WS_PROTOCOL_ERROR   1002
#define IMS_WS_NO_STATUS        1005    /* a Close without code; never sent */
#define IMS_WS_BAD_DATA         1007
#define IMS_WS_POLICY           1008
#define IMS_WS_TOO_BIG          1009
#define IMS_WS_INTERNAL_ERROR   1011

#define IMS_WS_CONTROL_MAX      125     /* payload of a control frame */
#define IMS_WS_FRAGMENTS_MAX    1024    /* frames a message */
#define IMS_WS_HEADER_MAX       10      /* header of a server's frame */


typedef enum {
    IMS_WS_NEED_MORE = 0,
    IMS_WS_MESSAGE,
    IMS_WS_PING,
    IMS_WS_PONG,
    IMS_WS_CLOSE,
    IMS_WS_ERROR
} ims_ws_event_e;


typedef struct {
    /*
     * MESSAGE, PING, PONG: the unmasked payload, which the caller may change;
     * in the input buffer or in the decoder's memory, valid until the next
     * call of ims_ws_decode() or ims_ws_free().
     */
    uint8_t     *data;
    size_t       len;
    uint8_t      opcode;        /* MESSAGE: IMS_WS_OP_TEXT or _BINARY */

    /*
     * CLOSE: the code, IMS_WS_NO_STATUS if none came; reason in data, len.
     * ERROR: the code to close with.
     */
    uint16_t     code;

    const char  *reason;        /* ERROR: static text, for log and Close */
} ims_ws_event_t;


/* One a connection.  Members are the decoder's own. */
typedef struct {
    uint8_t     *buf;           /* message so far, then control frame so far */
    uint32_t     len;           /* bytes of the message in buf */
    uint32_t     ctl_len;       /* bytes of the control frame behind them */
    uint32_t     cap;

    uint32_t     max;           /* a message's limit */
    uint32_t     left;          /* payload of this frame still to come */
    uint16_t     fragments;     /* frames of this message so far */

    uint8_t      opcode;        /* of this frame */
    uint8_t      message;       /* opcode of this message, 0 outside of one */
    uint8_t      mask[4];       /* turned so that [0] is for the next byte */
    ims_utf8_t   utf8;

    unsigned     fin:1;
    unsigned     in_payload:1;  /* the header is done */
    unsigned     ended:1;       /* after CLOSE or ERROR: the rest is ignored */
    unsigned     lent_message:1;  /* buf was handed out by the last event */
    unsigned     lent_control:1;

    uint8_t      head_len;
    uint8_t      head[14];      /* a header cut by a read */
} ims_ws_t;

_Static_assert(sizeof(ims_ws_t) <= 96, "a connection's decoder is small");


/* max_message: limit of a message's payload, in bytes; at most 2^31. */
void ims_ws_init(ims_ws_t *ws, size_t max_message);

/* Frees what a half-received message holds.  May be called twice. */
void ims_ws_free(ims_ws_t *ws);

/* Bytes of memory held now, beside the structure itself. */
static inline size_t
ims_ws_held(const ims_ws_t *ws)
{
    return ws->cap;
}


/*
 * Takes bytes from [*pos, end), moves *pos behind those used, and returns the
 * next event.  On NEED_MORE everything was used.  The bytes are unmasked in
 * place, so the buffer must be writable and may not be fed again.
 *
 * ERROR has one of these codes:
 *   1002  no mask, RSV, reserved opcode, length not minimal or with its top
 *         bit, long or fragmented control frame, continuation without a start,
 *         new message inside of one, bad Close payload
 *   1007  text, or a Close's reason, that is not UTF-8
 *   1008  more than IMS_WS_FRAGMENTS_MAX frames in a message
 *   1009  message over the limit; known from the header, before its payload
 *   1011  no memory
 * After CLOSE or ERROR all further input is swallowed (NEED_MORE).
 */
ims_ws_event_e ims_ws_decode(ims_ws_t *ws, uint8_t **pos, uint8_t *end,
    ims_ws_event_t *ev);


/*
 * Header of an unmasked, final frame with len bytes of payload; returns its
 * length, 2 to IMS_WS_HEADER_MAX.
 */
size_t ims_ws_frame_header(uint8_t *dst, uint8_t opcode, size_t len);

/*
 * A whole Close frame; dst has room for 2 + IMS_WS_CONTROL_MAX bytes.  The
 * reason is cut, between characters, to 123 bytes.  A code that may not be
 * sent (1005 and its like) gives an empty Close.
 */
size_t ims_ws_close_frame(uint8_t *dst, uint16_t code, ims_str_t reason);

/* True for a code that may stand in a Close frame (RFC 6455 section 7.4). */
bool ims_ws_close_code_ok(uint16_t code);


#endif /* _IMS_WS_H_INCLUDED_ */
