/*
 * Copyright (C) nginx-ims contributors
 *
 * REGISTER of a client from its bytes to those for the core: whatever is
 * sent on is ours in all that matters.
 *
 * The first byte says how the lease and the flow stand, the rest is the
 * message.
 */

#include <stdio.h>
#include <stdlib.h>

#include "reg/ims_register.h"


#define AOR      "sip:web-1@ims.example"
#define IMPI     "web-1@ims.example"
#define CONTACT  "sip:k3@df7.invalid;transport=ws"
#define IDENT    7
#define LEASE    9
#define SID      11
#define PT       1000000
#define D        64000

#define AUTHORIZATION                                                         \
    "Digest username=\"" IMPI "\",realm=\"ims.example\",nonce=\"\","          \
    "uri=\"sip:ims.example\",response=\"\",integrity-protected=\"auth-done\""


static ims_sip_msg_t      msg, sent;
static ims_sip_edit_t     ed;
static ims_pool_look_t    look;
static ims_pool_names_t   names;
static ims_reg_grant_t   *grant;

static const uint8_t  holder[IMS_POOL_HOLDER_LEN] = "holder-of-lease";


int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static void
check(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}


int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    uint8_t                    sub[IMS_TOKEN_SUB_LEN + 1];
    static ims_token_claims_t  c;

    (void) argc;
    (void) argv;

    c.sub = ims_str_set(sub, ims_b64url_encode(sub, holder, sizeof(holder)));
    c.impi = IMS_STR(IMPI);
    c.impu[0] = IMS_STR(AOR);
    c.nimpu = 1;
    c.ident = IDENT;
    c.lease_id = LEASE;
    c.session = SID;

    grant = ims_reg_grant_new(&c, IMS_STR("token"), NULL);
    check(grant != NULL, "grant");

    names.ident = IDENT;
    names.impi = IMS_STR(IMPI);
    names.nimpu = 1;
    names.impu[0].given = IMS_STR(AOR);
    names.impu[0].canon = IMS_STR(AOR);

    strcpy(look.home, "ims.example");
    look.pt = PT;
    look.delay = D;
    look.rec.ident = IDENT;
    look.rec.lease = LEASE;
    look.rec.nsession = 1;
    look.rec.session[0].sid = SID;
    memcpy(look.rec.holder, holder, sizeof(holder));

    return 0;
}


/* true if it goes on; how: bits of what it comes from */

static bool
judge(const ims_reg_request_t *req, uint8_t how, ims_reg_verdict_t *v)
{
    ims_reg_case_t  c;

    look.rec.end = how & 1 ? PT + 600000 : how & 2 ? PT + 70000 : PT + 10000;
    look.rec.promised = look.rec.end;
    look.rec.rest = look.rec.end + D + 30000;
    look.rec.session[0].end = look.rec.end;

    memset(&c, 0, sizeof(c));
    c.req = req;
    c.msg = &msg;
    c.grant = how & 4 ? NULL : grant;
    c.expired = (how & 8) != 0;
    c.look = &look;
    c.names = &names;
    c.core_min = 60;

    if (how & 16) {
        c.flow_ident = IDENT;
        c.flow_lease = LEASE;
        memcpy(c.flow_holder, holder, sizeof(holder));
        c.flow_contact = how & 32 ? IMS_STR(CONTACT)
                                  : req->contact.addr.uri;
    }

    ims_reg_judge(&c, v);

    if (v->why != IMS_REG_GO) {
        check(ims_reg_refusal(v->why)->status >= 400, "refusal");
        return false;
    }

    check(req->asked == 0 || (how & 12) == 0, "registered without a token");

    if (req->asked) {
        check(v->room >= 60 && v->expires <= v->room
              && v->expires <= req->asked, "asks for too much");
        check(PT + 1000 * ((uint64_t) v->expires + 1) <= look.rec.end,
              "asks beyond the lease");

    } else {
        check(v->expires == 0, "de-registration that registers");
    }

    return true;
}


static void
forwarded(const ims_reg_request_t *req, const ims_reg_verdict_t *v)
{
    unsigned           i;
    uint32_t           x;
    ims_str_t          value;
    ims_sip_values_t   it;
    ims_sip_contact_t  contact;

    static const uint16_t  none[] = {
        IMS_SIP_H_ROUTE, IMS_SIP_H_RECORD_ROUTE, IMS_SIP_H_SERVICE_ROUTE,
        IMS_SIP_H_PROXY_AUTHORIZATION, IMS_SIP_H_P_ASSERTED_IDENTITY,
        IMS_SIP_H_P_PREFERRED_IDENTITY, IMS_SIP_H_P_SERVED_USER,
        IMS_SIP_H_P_ASSOCIATED_URI, IMS_SIP_H_P_ACCESS_NETWORK_INFO,
        IMS_SIP_H_HISTORY_INFO, IMS_SIP_H_SECURITY_CLIENT
    };

    check(ims_str_eq(sent.uri, IMS_STR("sip:ims.example")), "Request-URI");
    check(ims_str_eq(sent.via.branch.value, IMS_STR("z9hG4bKours")), "Via");

    /* one line a value that only the edge may write */

    check(sent.count[IMS_SIP_H_AUTHORIZATION] == 1
          && ims_str_eq(ims_sip_hdr_value(&sent, IMS_SIP_H_AUTHORIZATION),
                        IMS_STR(AUTHORIZATION)), "Authorization");
    check(sent.count[IMS_SIP_H_PATH] == 1
          && ims_str_eq(ims_sip_hdr_value(&sent, IMS_SIP_H_PATH),
                        IMS_STR("<sip:ft@edge:5070;transport=tcp;lr;ob>")),
          "Path");
    check(ims_sip_list_has(&sent, IMS_SIP_H_REQUIRE, "path"), "Require");
    check(sent.count[IMS_SIP_H_P_VISITED_NETWORK_ID] == 1
          && sent.count[IMS_SIP_H_P_CHARGING_VECTOR] == 1, "network's headers");

    for (i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        check(sent.count[none[i]] == 0, "a client's trust header");
    }

    check(ims_sip_value_first(&sent, IMS_SIP_H_VIA, &value) == 2,
          "not two Via");

    /* who and for how long */

    check(ims_sip_uri_same(sent.to.uri, IMS_STR(AOR))
          && ims_sip_uri_same(sent.from.uri, IMS_STR(AOR)), "From or To");
    check(sent.count[IMS_SIP_H_EXPIRES] == 1
          && ims_sip_delta(ims_sip_hdr_value(&sent, IMS_SIP_H_EXPIRES), &x)
          && x == v->expires, "Expires");

    ims_sip_values(&it, &sent, IMS_SIP_H_CONTACT);
    check(ims_sip_value_next(&it, &value) == 1
          && ims_sip_contact_parse(value, &contact), "Contact");
    check(ims_sip_value_next(&it, &value) == 0, "another Contact");

    check(contact.star == req->contact.star, "Contact *");
    check(contact.star || (ims_sip_delta(contact.expires.value, &x)
                           && x == v->expires), "expires of Contact");
}


static void
forward(const ims_reg_request_t *req, const ims_reg_verdict_t *v)
{
    unsigned           status;
    ptrdiff_t          n;
    const char        *reason;
    ims_sip_err_t      err;
    ims_reg_forward_t  f;
    static uint8_t     scratch[16384], out[2 * 65536];

    memset(&f, 0, sizeof(f));
    f.home = IMS_STR("ims.example");
    f.impi = IMS_STR(IMPI);
    f.advertise = IMS_STR("edge:5070");
    f.transport = IMS_STR("TCP");
    f.branch = IMS_STR("z9hG4bKours");
    f.path_token = IMS_STR("ft");
    f.icid = IMS_STR("icid");
    f.received = IMS_STR("192.0.2.1");
    f.rport = 1234;
    f.expires = v->expires;

    ims_sip_edit_init(&ed, &msg, scratch, sizeof(scratch));

    if (ims_reg_forward(&ed, req, &f, &status) != NULL) {
        check(status >= 400, "refused with success");
        return;
    }

    n = ims_sip_edit_flatten(&ed, out, sizeof(out));
    check(n > 0, "finished, but not to be had");

    /* the core reads what we wrote */

    if (ims_sip_parse(&sent, out, (size_t) n, IMS_SIP_STREAM, &err) != 0) {
        /* more headers than we ourselves take back: 256 and those added */
        reason = err.reason;
        check(msg.nhdr > IMS_SIP_MAX_HEADERS - 16, reason);
        return;
    }

    forwarded(req, v);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t             how, *copy;
    const char         *reason;
    ims_sip_err_t       err;
    ims_reg_verdict_t   v;
    ims_reg_request_t   req;

    if (size < 2 || size > 65536) {
        return 0;
    }

    how = *data++;
    size--;

    copy = malloc(size);
    check(copy != NULL, "no memory");
    memcpy(copy, data, size);

    if (ims_sip_parse(&msg, copy, size, IMS_SIP_WS, &err) == 0
        && msg.request && msg.method_id == IMS_SIP_M_REGISTER
        && ims_reg_read(&req, &msg, &reason) == 0
        && judge(&req, how, &v))
    {
        forward(&req, &v);
    }

    free(copy);

    return 0;
}
