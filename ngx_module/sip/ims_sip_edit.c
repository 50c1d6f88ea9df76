/*
 * Copyright (C) nginx-ims contributors
 */

#include "sip/ims_sip_edit.h"


static void ims_sip_edit_fail(ims_sip_edit_t *ed, const char *error);
static ims_str_t ims_sip_edit_line(ims_sip_edit_t *ed, const char *name,
    ims_str_t value);
static bool ims_sip_edit_clean(ims_str_t s);
static bool ims_sip_edit_within(const ims_sip_edit_t *ed, ims_str_t s);
static void ims_sip_edit_emit(ims_sip_edit_t *ed, ims_str_t s);
static unsigned ims_sip_edit_header(ims_sip_edit_t *ed, unsigned hdr,
    unsigned next);


void
ims_sip_edit_init(ims_sip_edit_t *ed, const ims_sip_msg_t *m, void *scratch,
    size_t cap)
{
    ed->m = m;
    ed->start = m->start;
    ed->body = m->body;
    ed->scratch = ims_out_set(scratch, cap);
    ed->nsplice = 0;
    ed->nappend = 0;
    ed->error = NULL;
    ed->nout = 0;
    ed->total = 0;

    memset(ed->drop, 0, m->nhdr);
}


static void
ims_sip_edit_fail(ims_sip_edit_t *ed, const char *error)
{
    if (ed->error == NULL) {
        ed->error = error;
    }
}


ims_str_t
ims_sip_edit_cat(ims_sip_edit_t *ed, const ims_str_t *parts, unsigned nparts)
{
    size_t    from;
    unsigned  i;

    from = ed->scratch.n;

    for (i = 0; i < nparts; i++) {
        ims_out_str(&ed->scratch, parts[i]);
    }

    if (ed->scratch.over) {
        ims_sip_edit_fail(ed, "no room for the text of an edit");
        return IMS_STR_NULL;
    }

    return ims_str_set(ed->scratch.p + from, ed->scratch.n - from);
}


void
ims_sip_edit_start(ims_sip_edit_t *ed, ims_str_t line)
{
    if (line.n == 0 || !ims_sip_edit_clean(line)) {
        ims_sip_edit_fail(ed, "control character in a first line");
        return;
    }

    ed->start = line;
}


void
ims_sip_edit_ruri(ims_sip_edit_t *ed, ims_str_t uri)
{
    ims_str_t  part[4];

    part[0] = ed->m->method;
    part[1] = IMS_STR(" ");
    part[2] = uri;
    part[3] = IMS_STR(" SIP/2.0");

    ims_sip_edit_start(ed, ims_sip_edit_cat(ed, part, 4));
}


void
ims_sip_edit_drop(ims_sip_edit_t *ed, unsigned hdr)
{
    if (hdr < ed->m->nhdr) {
        ed->drop[hdr] = 1;
    }
}


void
ims_sip_edit_drop_id(ims_sip_edit_t *ed, unsigned id)
{
    uint16_t  i;

    for (i = ed->m->first[id]; i != IMS_SIP_NONE; i = ed->m->hdr[i].next) {
        ed->drop[i] = 1;
    }
}


void
ims_sip_edit_value(ims_sip_edit_t *ed, unsigned hdr, ims_str_t value)
{
    const ims_sip_hdr_t  *h;

    if (hdr >= ed->m->nhdr) {
        ims_sip_edit_fail(ed, "edit of a header that is not there");
        return;
    }

    h = &ed->m->hdr[hdr];

    ims_sip_edit_splice(ed, h->value, value);
}


void
ims_sip_edit_splice(ims_sip_edit_t *ed, ims_str_t old, ims_str_t text)
{
    unsigned           i;
    ims_sip_splice_t  *s;

    if (!ims_sip_edit_within(ed, old) || !ims_sip_edit_clean(text)) {
        ims_sip_edit_fail(ed, "edit out of place");
        return;
    }

    if (ed->nsplice == IMS_SIP_EDIT_MAX) {
        ims_sip_edit_fail(ed, "too many edits");
        return;
    }

    /* by place; at one place in the order of the calls */

    for (i = ed->nsplice; i > 0 && ed->splice[i - 1].at > old.p; i--) {
        ed->splice[i] = ed->splice[i - 1];
    }

    s = &ed->splice[i];
    s->at = old.p;
    s->len = old.n;
    s->text = text;

    ed->nsplice++;
}


void
ims_sip_edit_param(ims_sip_edit_t *ed, ims_str_t of,
    const ims_sip_param_t *old, const char *name, ims_str_t value)
{
    ims_str_t  part[4];

    part[0] = IMS_STR(";");
    part[1] = ims_str_z(name);
    part[2] = value.p == NULL ? IMS_STR_NULL : IMS_STR("=");
    part[3] = value;

    ims_sip_edit_splice(ed, old->name.p != NULL
                            ? old->whole : ims_str_set(of.p + of.n, 0),
                        ims_sip_edit_cat(ed, part, 4));
}


void
ims_sip_edit_received(ims_sip_edit_t *ed, ims_str_t addr, uint16_t port)
{
    uint8_t               digits[5];
    ims_out_t             o;
    const ims_sip_via_t  *via;

    via = &ed->m->via;

    ims_sip_edit_param(ed, via->whole, &via->received, "received", addr);

    if (via->rport.name.p != NULL) {
        o = ims_out_set(digits, sizeof(digits));
        ims_out_u64(&o, port);

        ims_sip_edit_param(ed, via->whole, &via->rport, "rport",
                           ims_str_set(digits, o.n));
    }
}


/* "name: value" CRLF in the arena */

static ims_str_t
ims_sip_edit_line(ims_sip_edit_t *ed, const char *name, ims_str_t value)
{
    ims_str_t  part[4];

    if (!ims_sip_edit_clean(value)) {
        ims_sip_edit_fail(ed, "control character in a header to insert");
        return IMS_STR_NULL;
    }

    part[0] = ims_str_z(name);
    part[1] = IMS_STR(": ");
    part[2] = value;
    part[3] = IMS_STR("\r\n");

    return ims_sip_edit_cat(ed, part, 4);
}


/* No byte that could end a line; quoted pairs of the peer's may pass. */

static bool
ims_sip_edit_clean(ims_str_t s)
{
    size_t  i;

    for (i = 0; i < s.n; i++) {
        if (s.p[i] == '\r' || s.p[i] == '\n' || s.p[i] == '\0') {
            return false;
        }
    }

    return true;
}


/* True if s lies in one of the header lines (in front of its CRLF). */

static bool
ims_sip_edit_within(const ims_sip_edit_t *ed, ims_str_t s)
{
    unsigned              lo, hi, mid;
    const ims_sip_hdr_t  *h;

    lo = 0;
    hi = ed->m->nhdr;

    while (lo < hi) {
        mid = lo + (hi - lo) / 2;
        h = &ed->m->hdr[mid];

        if (s.p < h->line.p) {
            hi = mid;

        } else if (s.p >= h->line.p + h->line.n) {
            lo = mid + 1;

        } else {
            return s.p + s.n <= h->line.p + h->line.n - 2
                   && s.p > h->line.p;
        }
    }

    return false;
}


void
ims_sip_edit_top(ims_sip_edit_t *ed, const char *name, ims_str_t value)
{
    ims_sip_edit_before(ed, 0, name, value);
}


void
ims_sip_edit_before(ims_sip_edit_t *ed, unsigned hdr, const char *name,
    ims_str_t value)
{
    unsigned           i;
    ims_str_t          line;
    ims_sip_splice_t  *s;

    if (hdr >= ed->m->nhdr || ed->nsplice == IMS_SIP_EDIT_MAX) {
        ims_sip_edit_fail(ed, "too many edits");
        return;
    }

    line = ims_sip_edit_line(ed, name, value);

    for (i = ed->nsplice;
         i > 0 && ed->splice[i - 1].at > ed->m->hdr[hdr].line.p;
         i--)
    {
        ed->splice[i] = ed->splice[i - 1];
    }

    s = &ed->splice[i];
    s->at = ed->m->hdr[hdr].line.p;
    s->len = 0;
    s->text = line;

    ed->nsplice++;
}


void
ims_sip_edit_append(ims_sip_edit_t *ed, const char *name, ims_str_t value)
{
    if (ed->nappend == IMS_SIP_EDIT_MAX) {
        ims_sip_edit_fail(ed, "too many edits");
        return;
    }

    ed->append[ed->nappend++] = ims_sip_edit_line(ed, name, value);
}


void
ims_sip_edit_body(ims_sip_edit_t *ed, ims_str_t body)
{
    ed->body = body;
}


/* The next piece of output; joined to the last one where they touch. */

static void
ims_sip_edit_emit(ims_sip_edit_t *ed, ims_str_t s)
{
    ims_str_t  *last;

    if (s.n == 0) {
        return;
    }

    ed->total += s.n;

    if (ed->nout) {
        last = &ed->out[ed->nout - 1];

        if (last->p + last->n == s.p) {
            last->n += s.n;
            return;
        }
    }

    if (ed->nout == IMS_SIP_EDIT_SLICES) {
        ims_sip_edit_fail(ed, "too many pieces");
        return;
    }

    ed->out[ed->nout++] = s;
}


/* One header line with its edits, of which the next is given and returned. */

static unsigned
ims_sip_edit_header(ims_sip_edit_t *ed, unsigned hdr, unsigned next)
{
    bool                     drop;
    const uint8_t           *p, *end;
    const ims_sip_hdr_t     *h;
    const ims_sip_splice_t  *s;

    h = &ed->m->hdr[hdr];
    drop = ed->drop[hdr] || h->id == IMS_SIP_H_CONTENT_LENGTH;

    p = h->line.p;
    end = p + h->line.n;

    for ( /* void */ ; next < ed->nsplice; next++) {
        s = &ed->splice[next];

        if (s->at >= end) {
            break;
        }

        if (s->at == h->line.p) {
            /* a line in front of this one */
            ims_sip_edit_emit(ed, s->text);
            continue;
        }

        if (drop) {
            continue;
        }

        if (s->at < p) {
            ims_sip_edit_fail(ed, "edits overlap");
            continue;
        }

        ims_sip_edit_emit(ed, ims_str_range(p, s->at));
        ims_sip_edit_emit(ed, s->text);

        p = s->at + s->len;
    }

    if (!drop) {
        ims_sip_edit_emit(ed, ims_str_range(p, end));
    }

    return next;
}


int
ims_sip_edit_finish(ims_sip_edit_t *ed)
{
    uint8_t     digits[20];
    unsigned    i, next;
    ims_out_t   o;
    ims_str_t   part[3];

    static const ims_str_t  crlf = ims_str("\r\n");

    ed->nout = 0;
    ed->total = 0;

    ims_sip_edit_emit(ed, ed->start);
    ims_sip_edit_emit(ed, ed->start.p == ed->m->start.p
                          ? ims_str_set(ed->start.p + ed->start.n, 2) : crlf);

    next = 0;

    for (i = 0; i < ed->m->nhdr; i++) {
        next = ims_sip_edit_header(ed, i, next);
    }

    for (i = 0; i < ed->nappend; i++) {
        ims_sip_edit_emit(ed, ed->append[i]);
    }

    o = ims_out_set(digits, sizeof(digits));
    ims_out_u64(&o, ed->body.n);

    part[0] = IMS_STR("Content-Length: ");
    part[1] = ims_str_set(digits, o.n);
    part[2] = IMS_STR("\r\n\r\n");

    ims_sip_edit_emit(ed, ims_sip_edit_cat(ed, part, 3));
    ims_sip_edit_emit(ed, ed->body);

    return ed->error == NULL ? 0 : -1;
}


ptrdiff_t
ims_sip_edit_flatten(ims_sip_edit_t *ed, void *dst, size_t cap)
{
    unsigned   i;
    ims_out_t  o;

    if (ims_sip_edit_finish(ed) != 0) {
        return -1;
    }

    o = ims_out_set(dst, cap);

    for (i = 0; i < ed->nout; i++) {
        ims_out_str(&o, ed->out[i]);
    }

    return o.over ? -1 : (ptrdiff_t) o.n;
}
