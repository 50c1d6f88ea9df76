/*
 * Copyright (C) nginx-ims contributors
 *
 * Texts and identities in the area of ims_flow_data_t.
 *
 *   home | IMPI | Contact | identities: head, URI, Service-Route ...
 *
 * Equal Service-Routes, the usual case, are kept once: the head says where.
 * Offsets are from the area's begin.  A reader may have data that another
 * process wrote, or wrote half, so nothing here is believed.
 */

#include "flow/ims_flow_table.h"


typedef struct {
    uint64_t  until_pt;
    uint16_t  position;
    uint16_t  tag;
    uint16_t  uri_len;
    uint16_t  route_len;
    uint16_t  route_at;
    uint16_t  next;                /* where the next head is */
} ims_ident_head_t;

/* written without the padding at its end */
#define IMS_IDENT_HEAD  (offsetof(ims_ident_head_t, next) + sizeof(uint16_t))


static ims_str_t
ims_flow_slice(const ims_flow_data_t *d, size_t at, size_t n)
{
    if (at > sizeof(d->area) || n > sizeof(d->area) - at) {
        return IMS_STR_NULL;
    }

    return ims_str_set(d->area + at, n);
}


static size_t
ims_flow_texts_len(const ims_flow_data_t *d)
{
    return (size_t) d->home_len + d->impi_len + d->contact_len;
}


ims_str_t
ims_flow_home(const ims_flow_data_t *d)
{
    return ims_flow_slice(d, 0, d->home_len);
}


ims_str_t
ims_flow_impi(const ims_flow_data_t *d)
{
    return ims_flow_slice(d, d->home_len, d->impi_len);
}


ims_str_t
ims_flow_contact(const ims_flow_data_t *d)
{
    return ims_flow_slice(d, (size_t) d->home_len + d->impi_len,
                          d->contact_len);
}


static uint8_t *
ims_flow_append(uint8_t *p, ims_str_t s)
{
    if (s.n) {
        memcpy(p, s.p, s.n);
    }

    return p + s.n;
}


ims_flow_rc_t
ims_flow_set_texts(ims_flow_data_t *d, ims_str_t home, ims_str_t impi,
    ims_str_t contact)
{
    uint8_t  *p;

    if (home.n > IMS_FLOW_HOME_MAX
        || impi.n > IMS_FLOW_IMPI_MAX
        || contact.n > IMS_FLOW_CONTACT_MAX)
    {
        return IMS_FLOW_TOOBIG;
    }

    p = ims_flow_append(d->area, home);
    p = ims_flow_append(p, impi);
    p = ims_flow_append(p, contact);

    d->home_len = (uint16_t) home.n;
    d->impi_len = (uint16_t) impi.n;
    d->contact_len = (uint16_t) contact.n;
    d->used = (uint16_t) (p - d->area);
    d->nidents = 0;

    return IMS_FLOW_OK;
}

_Static_assert(IMS_FLOW_HOME_MAX + IMS_FLOW_IMPI_MAX + IMS_FLOW_CONTACT_MAX
               <= sizeof(((ims_flow_data_t *) 0)->area), "texts fit");


/* where an equal route is already, or -1 */

static int
ims_flow_route_at(const ims_flow_data_t *d, ims_str_t route)
{
    unsigned          pos;
    ims_flow_ident_t  id;

    pos = 0;

    while (ims_flow_identity(d, &pos, &id)) {
        if (ims_str_eq(id.route, route)) {
            return id.route.n ? (int) (id.route.p - d->area) : 0;
        }
    }

    return -1;
}


static bool
ims_flow_add_identity(ims_flow_data_t *d, const ims_flow_ident_t *id)
{
    int                at;
    size_t             len;
    uint8_t           *p;
    ims_ident_head_t   h;

    if (id->uri.n > sizeof(d->area) || id->route.n > sizeof(d->area)) {
        return false;
    }

    at = ims_flow_route_at(d, id->route);
    len = IMS_IDENT_HEAD + id->uri.n + (at == -1 ? id->route.n : 0);

    if (len > sizeof(d->area) - d->used) {
        return false;
    }

    h.until_pt = id->until_pt;
    h.position = id->position;
    h.tag = id->tag;
    h.uri_len = (uint16_t) id->uri.n;
    h.route_len = (uint16_t) id->route.n;
    h.route_at = (uint16_t) (at == -1 ? d->used + IMS_IDENT_HEAD + id->uri.n
                                      : (size_t) at);
    h.next = (uint16_t) (d->used + len);

    p = d->area + d->used;
    memcpy(p, &h, IMS_IDENT_HEAD);
    p = ims_flow_append(p + IMS_IDENT_HEAD, id->uri);

    if (at == -1) {
        (void) ims_flow_append(p, id->route);
    }

    d->used = h.next;
    d->nidents++;

    return true;
}


ims_flow_rc_t
ims_flow_set_identities(ims_flow_data_t *d, const ims_flow_ident_t *ids,
    unsigned n)
{
    unsigned  i;

    d->used = (uint16_t) ims_flow_texts_len(d);
    d->nidents = 0;

    for (i = 0; i < n; i++) {

        if (!ims_flow_add_identity(d, &ids[i])) {
            d->used = (uint16_t) ims_flow_texts_len(d);
            d->nidents = 0;
            d->flags |= IMS_FLOW_F_NO_TAKEOVER;

            return IMS_FLOW_TOOBIG;
        }
    }

    d->flags &= (uint16_t) ~IMS_FLOW_F_NO_TAKEOVER;

    return IMS_FLOW_OK;
}


bool
ims_flow_identity(const ims_flow_data_t *d, unsigned *pos,
    ims_flow_ident_t *id)
{
    size_t            at;
    ims_ident_head_t  h;

    at = *pos ? *pos : ims_flow_texts_len(d);

    if (at >= d->used
        || d->used > sizeof(d->area)
        || d->used - at < IMS_IDENT_HEAD)
    {
        return false;
    }

    memcpy(&h, d->area + at, IMS_IDENT_HEAD);

    if (h.next > d->used
        || h.next < at + IMS_IDENT_HEAD
        || h.uri_len > h.next - at - IMS_IDENT_HEAD
        || h.route_at > d->used
        || h.route_len > d->used - h.route_at)
    {
        return false;
    }

    id->uri = ims_str_set(d->area + at + IMS_IDENT_HEAD, h.uri_len);
    id->route = ims_str_set(d->area + h.route_at, h.route_len);
    id->until_pt = h.until_pt;
    id->position = h.position;
    id->tag = h.tag;

    *pos = h.next;

    return true;
}
