/*
 * Copyright (C) nginx-ims contributors
 */

#include <expat.h>

#include "reg/ims_reginfo.h"


/* expat's names: namespace, separator, local name */

#define IMS_REGINFO_SEP  '\n'
#define IMS_REGINFO_NS   "urn:ietf:params:xml:ns:reginfo\n"


/* places in a document that mean something here, by depth */

enum {
    IMS_REGINFO_NOWHERE = 0,
    IMS_REGINFO_ROOT,
    IMS_REGINFO_REGISTRATION,
    IMS_REGINFO_CONTACT,
    IMS_REGINFO_URI
};


/* a document being read */

typedef struct {
    XML_Parser            xml;
    ims_reginfo_t        *r;
    ims_str_t             contact;     /* ours */
    const char           *error;

    unsigned              elements;
    unsigned              depth;
    unsigned              known;       /* the deepest of those above; what is
                                          deeper is not looked at */
    ims_reginfo_aor_t    *aor;         /* the registration at hand */

    /* the contact at hand */
    bool                  terminated;
    bool                  has_expires;
    uint32_t              expires;
    ims_reginfo_event_e   event;
    bool                  long_uri;
    size_t                uri_len;
    uint8_t               uri[IMS_REG_CONTACT_MAX + 64];
} ims_reginfo_state_t;


static const char *const  ims_reginfo_events[] = {
    "another event", "registered", "created", "refreshed", "shortened",
    "expired", "deactivated", "probation", "unregistered", "rejected"
};

#define IMS_REGINFO_NEVENTS                                                   \
    (sizeof(ims_reginfo_events) / sizeof(ims_reginfo_events[0]))


const char *
ims_reginfo_event_text(ims_reginfo_event_e event)
{
    return ims_reginfo_events[(size_t) event < IMS_REGINFO_NEVENTS ? event
                                                                   : 0];
}


static void
ims_reginfo_fail(ims_reginfo_state_t *st, const char *error)
{
    if (st->error == NULL) {
        st->error = error;
        (void) XML_StopParser(st->xml, XML_FALSE);
    }
}


/* NULL: not there */

static const char *
ims_reginfo_attribute(const XML_Char **attrs, const char *name)
{
    for ( /* void */ ; attrs[0]; attrs += 2) {
        if (strcmp(attrs[0], name) == 0) {
            return attrs[1];
        }
    }

    return NULL;
}


static void
ims_reginfo_root(ims_reginfo_state_t *st, const XML_Char **attrs)
{
    const char  *version, *state;

    version = ims_reginfo_attribute(attrs, "version");
    state = ims_reginfo_attribute(attrs, "state");

    if (version == NULL || state == NULL
        || !ims_sip_delta(ims_str_z(version), &st->r->version))
    {
        ims_reginfo_fail(st, "reginfo without version or state");
        return;
    }

    st->r->full = strcmp(state, "full") == 0;

    if (!st->r->full && strcmp(state, "partial") != 0) {
        ims_reginfo_fail(st, "unknown state of reginfo");
    }
}


static void
ims_reginfo_registration(ims_reginfo_state_t *st, const XML_Char **attrs)
{
    ims_str_t    text;
    const char  *aor, *state;

    aor = ims_reginfo_attribute(attrs, "aor");
    state = ims_reginfo_attribute(attrs, "state");

    if (aor == NULL || state == NULL) {
        ims_reginfo_fail(st, "registration without aor or state");
        return;
    }

    if (st->r->n == IMS_REGINFO_AORS) {
        ims_reginfo_fail(st, "too many registrations");
        return;
    }

    st->aor = &st->r->aor[st->r->n++];
    memset(st->aor, 0, sizeof(ims_reginfo_aor_t));

    text = ims_str_z(aor);

    if (text.n <= sizeof(st->aor->aor)) {
        st->aor->aor_len = (uint16_t) text.n;
        memcpy(st->aor->aor, text.p, text.n);
    }

    if (strcmp(state, "terminated") == 0) {
        st->aor->ended = true;

    } else if (strcmp(state, "active") != 0 && strcmp(state, "init") != 0) {
        ims_reginfo_fail(st, "unknown state of a registration");
    }
}


static void
ims_reginfo_contact(ims_reginfo_state_t *st, const XML_Char **attrs)
{
    size_t       i;
    const char  *state, *event, *expires;

    state = ims_reginfo_attribute(attrs, "state");
    event = ims_reginfo_attribute(attrs, "event");
    expires = ims_reginfo_attribute(attrs, "expires");

    if (state == NULL || event == NULL) {
        ims_reginfo_fail(st, "contact without state or event");
        return;
    }

    st->terminated = strcmp(state, "terminated") == 0;

    if (!st->terminated && strcmp(state, "active") != 0) {
        ims_reginfo_fail(st, "unknown state of a contact");
        return;
    }

    st->event = IMS_REGINFO_OTHER;

    for (i = 1; i < IMS_REGINFO_NEVENTS; i++) {
        if (strcmp(event, ims_reginfo_events[i]) == 0) {
            st->event = (ims_reginfo_event_e) i;
        }
    }

    st->has_expires = expires != NULL;

    if (expires && !ims_sip_delta(ims_str_z(expires), &st->expires)) {
        ims_reginfo_fail(st, "bad expires of a contact");
        return;
    }

    st->uri_len = 0;
    st->long_uri = false;
}


static void
ims_reginfo_contact_end(ims_reginfo_state_t *st)
{
    ims_str_t  uri;

    uri = ims_str_set(st->uri, st->uri_len);

    while (uri.n && strchr(" \t\r\n", uri.p[0]) && uri.p[0]) {
        uri.p++;
        uri.n--;
    }

    while (uri.n && strchr(" \t\r\n", uri.p[uri.n - 1]) && uri.p[uri.n - 1]) {
        uri.n--;
    }

    if (st->long_uri || uri.n == 0 || !ims_str_eq(uri, st->contact)) {
        return;
    }

    st->aor->event = st->event;

    if (st->terminated) {
        st->aor->ended = true;
        return;
    }

    if (st->event == IMS_REGINFO_SHORTENED && st->has_expires) {

        st->aor->expires = st->aor->shortened && st->aor->expires < st->expires
                           ? st->aor->expires : st->expires;
        st->aor->shortened = true;
    }
}


static void XMLCALL
ims_reginfo_start(void *data, const XML_Char *name, const XML_Char **attrs)
{
    ims_reginfo_state_t  *st = data;

    static const char *const  names[] = {
        [IMS_REGINFO_ROOT] = IMS_REGINFO_NS "reginfo",
        [IMS_REGINFO_REGISTRATION] = IMS_REGINFO_NS "registration",
        [IMS_REGINFO_CONTACT] = IMS_REGINFO_NS "contact",
        [IMS_REGINFO_URI] = IMS_REGINFO_NS "uri"
    };

    if (st->error) {
        return;
    }

    if (++st->depth > IMS_REGINFO_DEPTH
        || ++st->elements > IMS_REGINFO_ELEMENTS)
    {
        ims_reginfo_fail(st, "too many elements");
        return;
    }

    if (st->depth != st->known + 1 || st->depth > IMS_REGINFO_URI
        || strcmp(name, names[st->depth]) != 0)
    {
        if (st->depth == 1) {
            ims_reginfo_fail(st, "not a reginfo");
        }

        return;
    }

    st->known = st->depth;

    switch (st->known) {

    case IMS_REGINFO_ROOT:
        ims_reginfo_root(st, attrs);
        break;

    case IMS_REGINFO_REGISTRATION:
        ims_reginfo_registration(st, attrs);
        break;

    case IMS_REGINFO_CONTACT:
        ims_reginfo_contact(st, attrs);
        break;

    default: /* IMS_REGINFO_URI */
        break;
    }
}


static void XMLCALL
ims_reginfo_end(void *data, const XML_Char *name)
{
    ims_reginfo_state_t  *st = data;

    (void) name;

    if (st->error) {
        return;
    }

    if (st->known == st->depth) {

        if (st->known == IMS_REGINFO_CONTACT) {
            ims_reginfo_contact_end(st);
        }

        st->known--;
    }

    st->depth--;
}


static void XMLCALL
ims_reginfo_text(void *data, const XML_Char *text, int n)
{
    ims_reginfo_state_t  *st = data;

    if (st->error || st->known != IMS_REGINFO_URI
        || st->depth != IMS_REGINFO_URI)
    {
        return;
    }

    if ((size_t) n > sizeof(st->uri) - st->uri_len) {
        st->long_uri = true;
        return;
    }

    memcpy(st->uri + st->uri_len, text, (size_t) n);
    st->uri_len += (size_t) n;
}


/* entities are declared in a DTD only, and nobody needs one here */

static void XMLCALL
ims_reginfo_doctype(void *data, const XML_Char *name, const XML_Char *sysid,
    const XML_Char *pubid, int subset)
{
    (void) name;
    (void) sysid;
    (void) pubid;
    (void) subset;

    ims_reginfo_fail(data, "reginfo with a DTD");
}


bool
ims_reginfo_read(ims_reginfo_t *r, ims_str_t body, ims_str_t contact,
    const char **reason)
{
    enum XML_Status      rc;
    ims_reginfo_state_t  st;

    r->n = 0;

    if (body.n > IMS_REGINFO_SIZE) {
        *reason = "reginfo too large";
        return false;
    }

    memset(&st, 0, sizeof(st));
    st.r = r;
    st.contact = contact;

    st.xml = XML_ParserCreateNS("UTF-8", IMS_REGINFO_SEP);
    if (st.xml == NULL) {
        *reason = "out of memory";
        return false;
    }

    XML_SetUserData(st.xml, &st);
    XML_SetElementHandler(st.xml, ims_reginfo_start, ims_reginfo_end);
    XML_SetCharacterDataHandler(st.xml, ims_reginfo_text);
    XML_SetStartDoctypeDeclHandler(st.xml, ims_reginfo_doctype);

    rc = XML_Parse(st.xml, (const char *) body.p, (int) body.n, 1);

    XML_ParserFree(st.xml);

    if (rc == XML_STATUS_OK && st.error == NULL) {
        return true;
    }

    r->n = 0;
    *reason = st.error ? st.error : "malformed XML";

    return false;
}


const ims_reginfo_aor_t *
ims_reginfo_find(const ims_reginfo_t *r, ims_str_t aor)
{
    unsigned                  i;
    const ims_reginfo_aor_t  *found, *a;

    found = NULL;

    for (i = 0; i < r->n; i++) {
        a = &r->aor[i];

        if ((found == NULL || a->ended || !found->shortened)
            && ims_sip_uri_same(ims_str_set(a->aor, a->aor_len), aor))
        {
            found = a;

            if (a->ended) {
                break;
            }
        }
    }

    return found;
}
