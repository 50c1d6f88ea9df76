/*
 * Copyright (C) nginx-ims contributors
 */

#include <stdlib.h>

#include "ws/ims_ws.h"


#define IMS_WS_FIN          0x80
#define IMS_WS_RSV          0x70
#define IMS_WS_OPCODE       0x0f
#define IMS_WS_CONTROL      0x08    /* opcodes 8 to 15 */
#define IMS_WS_MASKED       0x80
#define IMS_WS_LENGTH       0x7f
#define IMS_WS_LEN16        126
#define IMS_WS_LEN64        127

#define IMS_WS_ALLOC_MIN    256

/* no event yet: go on with the bytes that are left */
#define IMS_WS_CONTINUE     (-1)


static int ims_ws_head(ims_ws_t *ws, uint8_t **pos, uint8_t *end,
    ims_ws_event_t *ev);
static int ims_ws_head_start(ims_ws_t *ws, ims_ws_event_t *ev);
static int ims_ws_head_length(ims_ws_t *ws, ims_ws_event_t *ev);
static int ims_ws_data(ims_ws_t *ws, uint8_t **pos, uint8_t *end,
    ims_ws_event_t *ev);
static int ims_ws_message(ims_ws_t *ws, uint8_t *p, size_t n,
    ims_ws_event_t *ev);
static int ims_ws_control(ims_ws_t *ws, uint8_t **pos, uint8_t *end,
    ims_ws_event_t *ev);
static int ims_ws_close(ims_ws_t *ws, ims_ws_event_t *ev);
static size_t ims_ws_take(ims_ws_t *ws, uint8_t **pos, uint8_t *end);
static bool ims_ws_reserve(ims_ws_t *ws, size_t n);
static void ims_ws_reclaim(ims_ws_t *ws);
static int ims_ws_fail(ims_ws_t *ws, ims_ws_event_t *ev, uint16_t code,
    const char *reason);


void
ims_ws_init(ims_ws_t *ws, size_t max_message)
{
    memset(ws, 0, sizeof(ims_ws_t));

    ws->max = max_message < 0x80000000 ? (uint32_t) max_message : 0x80000000;
}


void
ims_ws_free(ims_ws_t *ws)
{
    free(ws->buf);

    ws->buf = NULL;
    ws->cap = 0;
    ws->len = 0;
    ws->ctl_len = 0;
    ws->lent_message = 0;
    ws->lent_control = 0;
}


ims_ws_event_e
ims_ws_decode(ims_ws_t *ws, uint8_t **pos, uint8_t *end, ims_ws_event_t *ev)
{
    int  rc;

    memset(ev, 0, sizeof(ims_ws_event_t));

    ims_ws_reclaim(ws);

    if (ws->ended) {
        *pos = end;
        return IMS_WS_NEED_MORE;
    }

    do {
        rc = ws->in_payload ? IMS_WS_CONTINUE : ims_ws_head(ws, pos, end, ev);

        if (rc == IMS_WS_CONTINUE) {
            rc = ws->opcode & IMS_WS_CONTROL ? ims_ws_control(ws, pos, end, ev)
                                             : ims_ws_data(ws, pos, end, ev);
        }

    } while (rc == IMS_WS_CONTINUE);

    return (ims_ws_event_e) rc;
}


/* collects a frame's header, however it is cut; judged as early as possible */

static int
ims_ws_head(ims_ws_t *ws, uint8_t **pos, uint8_t *end, ims_ws_event_t *ev)
{
    int     rc;
    size_t  want;

    want = 2;

    for ( ;; ) {

        while (ws->head_len < want) {
            if (*pos == end) {
                return IMS_WS_NEED_MORE;
            }

            ws->head[ws->head_len++] = *(*pos)++;

            if (ws->head_len == 2) {
                rc = ims_ws_head_start(ws, ev);
                if (rc != IMS_WS_CONTINUE) {
                    return rc;
                }
            }
        }

        if (want != 2) {
            break;
        }

        switch (ws->head[1] & IMS_WS_LENGTH) {

        case IMS_WS_LEN16:
            want = 2 + 2 + 4;
            break;

        case IMS_WS_LEN64:
            want = 2 + 8 + 4;
            break;

        default:
            want = 2 + 4;
        }
    }

    memcpy(ws->mask, ws->head + want - 4, 4);

    rc = ims_ws_head_length(ws, ev);

    ws->head_len = 0;
    ws->in_payload = 1;

    return rc;
}


/* the first two bytes */

static int
ims_ws_head_start(ims_ws_t *ws, ims_ws_event_t *ev)
{
    uint8_t  opcode;

    opcode = ws->head[0] & IMS_WS_OPCODE;

    ws->opcode = opcode;
    ws->fin = (ws->head[0] & IMS_WS_FIN) != 0;

    if (ws->head[0] & IMS_WS_RSV) {
        return ims_ws_fail(ws, ev, IMS_WS_PROTOCOL_ERROR, "RSV bit set");
    }

    if (!(ws->head[1] & IMS_WS_MASKED)) {
        return ims_ws_fail(ws, ev, IMS_WS_PROTOCOL_ERROR, "frame not masked");
    }

    switch (opcode) {

    case IMS_WS_OP_CLOSE:
    case IMS_WS_OP_PING:
    case IMS_WS_OP_PONG:
        if (!ws->fin) {
            return ims_ws_fail(ws, ev, IMS_WS_PROTOCOL_ERROR,
                               "control frame fragmented");
        }

        if ((ws->head[1] & IMS_WS_LENGTH) > IMS_WS_CONTROL_MAX) {
            return ims_ws_fail(ws, ev, IMS_WS_PROTOCOL_ERROR,
                               "control frame too long");
        }

        return IMS_WS_CONTINUE;

    case IMS_WS_OP_TEXT:
    case IMS_WS_OP_BINARY:
        if (ws->message) {
            return ims_ws_fail(ws, ev, IMS_WS_PROTOCOL_ERROR,
                               "new message inside of another");
        }

        ws->message = opcode;
        ws->fragments = 0;
        ims_utf8_init(&ws->utf8);
        break;

    case IMS_WS_CONTINUATION:
        if (!ws->message) {
            return ims_ws_fail(ws, ev, IMS_WS_PROTOCOL_ERROR,
                               "continuation without a message");
        }

        break;

    default:
        return ims_ws_fail(ws, ev, IMS_WS_PROTOCOL_ERROR, "reserved opcode");
    }

    if (++ws->fragments > IMS_WS_FRAGMENTS_MAX) {
        return ims_ws_fail(ws, ev, IMS_WS_POLICY, "too many fragments");
    }

    return IMS_WS_CONTINUE;
}


static int
ims_ws_head_length(ims_ws_t *ws, ims_ws_event_t *ev)
{
    size_t    i, n;
    uint64_t  len, min;

    len = ws->head[1] & IMS_WS_LENGTH;
    n = len == IMS_WS_LEN16 ? 2 : len == IMS_WS_LEN64 ? 8 : 0;

    if (n) {
        min = n == 2 ? IMS_WS_LEN16 : 0x10000;
        len = 0;

        for (i = 0; i < n; i++) {
            len = len << 8 | ws->head[2 + i];
        }

        if (len < min) {
            return ims_ws_fail(ws, ev, IMS_WS_PROTOCOL_ERROR,
                               "length not minimal");
        }

        if (len >> 63) {
            return ims_ws_fail(ws, ev, IMS_WS_PROTOCOL_ERROR,
                               "length with its top bit set");
        }
    }

    /* a control frame, at most 125, is bounded by itself */

    if (!(ws->opcode & IMS_WS_CONTROL) && len > ws->max - ws->len) {
        return ims_ws_fail(ws, ev, IMS_WS_TOO_BIG, "message too big");
    }

    ws->left = (uint32_t) len;

    return IMS_WS_CONTINUE;
}


static int
ims_ws_data(ims_ws_t *ws, uint8_t **pos, uint8_t *end, ims_ws_event_t *ev)
{
    size_t    n;
    uint8_t  *p;

    p = *pos;
    n = ims_ws_take(ws, pos, end);

    if (ws->message == IMS_WS_OP_TEXT && !ims_utf8_feed(&ws->utf8, p, n)) {
        return ims_ws_fail(ws, ev, IMS_WS_BAD_DATA, "text is not UTF-8");
    }

    if (ws->left == 0) {
        ws->in_payload = 0;

        if (ws->fin) {
            return ims_ws_message(ws, p, n, ev);
        }
    }

    if (!ims_ws_reserve(ws, n)) {
        return ims_ws_fail(ws, ev, IMS_WS_INTERNAL_ERROR, "no memory");
    }

    if (n) {
        memcpy(ws->buf + ws->len, p, n);
        ws->len += (uint32_t) n;
    }

    return ws->left ? IMS_WS_NEED_MORE : IMS_WS_CONTINUE;
}


/* the last n bytes of a message are at p, those before them in ws->buf */

static int
ims_ws_message(ims_ws_t *ws, uint8_t *p, size_t n, ims_ws_event_t *ev)
{
    if (ws->message == IMS_WS_OP_TEXT && !ims_utf8_done(&ws->utf8)) {
        return ims_ws_fail(ws, ev, IMS_WS_BAD_DATA, "text is not UTF-8");
    }

    if (ws->len) {
        if (!ims_ws_reserve(ws, n)) {
            return ims_ws_fail(ws, ev, IMS_WS_INTERNAL_ERROR, "no memory");
        }

        memcpy(ws->buf + ws->len, p, n);

        p = ws->buf;
        n += ws->len;
        ws->lent_message = 1;
    }

    ev->data = p;
    ev->len = n;
    ev->opcode = ws->message;

    ws->message = 0;

    return IMS_WS_MESSAGE;
}


static int
ims_ws_control(ims_ws_t *ws, uint8_t **pos, uint8_t *end, ims_ws_event_t *ev)
{
    size_t    n;
    uint8_t  *p;

    p = *pos;
    n = ims_ws_take(ws, pos, end);

    ev->data = p;
    ev->len = n;

    /* one cut by a read is kept behind the message that it interrupts */

    if (ws->left || ws->ctl_len) {
        if (!ims_ws_reserve(ws, n)) {
            return ims_ws_fail(ws, ev, IMS_WS_INTERNAL_ERROR, "no memory");
        }

        if (n) {
            memcpy(ws->buf + ws->len + ws->ctl_len, p, n);
            ws->ctl_len += (uint32_t) n;
        }

        if (ws->left) {
            return IMS_WS_NEED_MORE;
        }

        ev->data = ws->buf + ws->len;
        ev->len = ws->ctl_len;
        ws->lent_control = 1;
    }

    ws->in_payload = 0;

    switch (ws->opcode) {

    case IMS_WS_OP_PING:
        return IMS_WS_PING;

    case IMS_WS_OP_PONG:
        return IMS_WS_PONG;

    default:
        return ims_ws_close(ws, ev);
    }
}


static int
ims_ws_close(ims_ws_t *ws, ims_ws_event_t *ev)
{
    uint16_t  code;

    ev->code = IMS_WS_NO_STATUS;

    if (ev->len == 1) {
        return ims_ws_fail(ws, ev, IMS_WS_PROTOCOL_ERROR,
                           "close with half a code");
    }

    if (ev->len) {
        code = (uint16_t) (ev->data[0] << 8 | ev->data[1]);

        if (!ims_ws_close_code_ok(code)) {
            return ims_ws_fail(ws, ev, IMS_WS_PROTOCOL_ERROR,
                               "close with a bad code");
        }

        if (!ims_utf8_ok(ims_str_set(ev->data + 2, ev->len - 2))) {
            return ims_ws_fail(ws, ev, IMS_WS_BAD_DATA,
                               "close reason is not UTF-8");
        }

        ev->code = code;
        ev->data += 2;
        ev->len -= 2;
    }

    ws->ended = 1;

    return IMS_WS_CLOSE;
}


/* unmasks what there is of the payload, where it is */

static size_t
ims_ws_take(ims_ws_t *ws, uint8_t **pos, uint8_t *end)
{
    size_t    i, n;
    uint8_t  *p, turned[4];
    uint64_t  mask, word;

    p = *pos;
    n = (size_t) (end - p);

    if (n > ws->left) {
        n = ws->left;
    }

    memcpy(&mask, ws->mask, 4);
    memcpy((uint8_t *) &mask + 4, ws->mask, 4);

    for (i = 0; i + 8 <= n; i += 8) {
        memcpy(&word, p + i, 8);
        word ^= mask;
        memcpy(p + i, &word, 8);
    }

    for ( /* void */ ; i < n; i++) {
        p[i] ^= ws->mask[i & 3];
    }

    for (i = 0; i < 4; i++) {
        turned[i] = ws->mask[(n + i) & 3];
    }

    memcpy(ws->mask, turned, 4);

    *pos += n;
    ws->left -= (uint32_t) n;

    return n;
}


/*
 * Room for n more bytes that are there already.  Doubling is bounded by what
 * the limits allow, so that a message near them does not hold twice as much.
 */

static bool
ims_ws_reserve(ims_ws_t *ws, size_t n)
{
    size_t    need, cap, most;
    uint8_t  *buf;

    need = (size_t) ws->len + ws->ctl_len + n;

    if (need <= ws->cap) {
        return true;
    }

    most = (size_t) ws->max + IMS_WS_CONTROL_MAX;
    cap = (size_t) ws->cap * 2;

    if (cap < IMS_WS_ALLOC_MIN) {
        cap = IMS_WS_ALLOC_MIN;
    }

    if (cap > most) {
        cap = most;
    }

    if (cap < need) {
        cap = need;
    }

    buf = realloc(ws->buf, cap);
    if (buf == NULL) {
        return false;
    }

    ws->buf = buf;
    ws->cap = (uint32_t) cap;

    return true;
}


/* takes back what the last event lent to the caller */

static void
ims_ws_reclaim(ims_ws_t *ws)
{
    if (ws->lent_control) {
        ws->ctl_len = 0;
        ws->lent_control = 0;
    }

    if (ws->lent_message || ws->ended) {
        ws->len = 0;
        ws->lent_message = 0;
    }

    if (ws->len == 0 && ws->ctl_len == 0 && ws->buf != NULL) {
        ims_ws_free(ws);
    }
}


static int
ims_ws_fail(ims_ws_t *ws, ims_ws_event_t *ev, uint16_t code,
    const char *reason)
{
    ims_ws_free(ws);

    ws->ended = 1;

    ev->data = NULL;
    ev->len = 0;
    ev->code = code;
    ev->reason = reason;

    return IMS_WS_ERROR;
}


size_t
ims_ws_frame_header(uint8_t *dst, uint8_t opcode, size_t len)
{
    int       shift;
    uint64_t  n;

    n = len;
    *dst++ = IMS_WS_FIN | opcode;

    if (n < IMS_WS_LEN16) {
        *dst = (uint8_t) n;
        return 2;
    }

    if (n < 0x10000) {
        *dst++ = IMS_WS_LEN16;
        *dst++ = (uint8_t) (n >> 8);
        *dst = (uint8_t) n;
        return 4;
    }

    *dst++ = IMS_WS_LEN64;

    for (shift = 56; shift >= 0; shift -= 8) {
        *dst++ = (uint8_t) (n >> shift);
    }

    return 10;
}


size_t
ims_ws_close_frame(uint8_t *dst, uint16_t code, ims_str_t reason)
{
    if (!ims_ws_close_code_ok(code)) {
        return ims_ws_frame_header(dst, IMS_WS_OP_CLOSE, 0);
    }

    if (!ims_utf8_ok(reason)) {
        reason.n = 0;
    }

    if (reason.n > IMS_WS_CONTROL_MAX - 2) {
        reason.n = IMS_WS_CONTROL_MAX - 2;

        while (reason.n && (reason.p[reason.n] & 0xc0) == 0x80) {
            reason.n--;
        }
    }

    (void) ims_ws_frame_header(dst, IMS_WS_OP_CLOSE, 2 + reason.n);

    dst[2] = (uint8_t) (code >> 8);
    dst[3] = (uint8_t) code;

    if (reason.n) {
        memcpy(dst + 4, reason.p, reason.n);
    }

    return 4 + reason.n;
}


bool
ims_ws_close_code_ok(uint16_t code)
{
    /* 1004 to 1006 and 1015 are not for the wire; 1016 to 2999 not defined */

    return (code >= 1000 && code <= 1003)
           || (code >= 1007 && code <= 1014)
           || (code >= 3000 && code <= 4999);
}
