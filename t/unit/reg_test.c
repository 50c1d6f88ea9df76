/*
 * Copyright (C) nginx-ims contributors
 *
 * The rules of REGISTER: what is read, judged, sent on, and read back.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "reg/ims_register.h"


#define AOR       "sip:web-1@ims.example"
#define IMPI      "web-1@ims.example"
#define IDENT     0x100000001ull
#define LEASE     0x1000005ull
#define SID       0x1122334455667788ull
#define PT        1000000ull
#define D         64000

#define INSTANCE  "urn:uuid:0C67446E-F1A1-11D9-94D3-000A95A0E128"
#define CONTACT   "sip:k3@df7.invalid;transport=ws"
#define CONTACT_H "Contact: <" CONTACT ">\r\n"

#define HEAD                                                                  \
    "REGISTER sip:ims.example SIP/2.0\r\n"                                    \
    "Via: SIP/2.0/WSS df7.invalid;branch=z9hG4bK56\r\n"                       \
    "Max-Forwards: 69\r\n"                                                    \
    "To: <" AOR ">\r\n"                                                       \
    "From: <" AOR ">;tag=65bn\r\n"                                            \
    "Call-ID: aiu\r\n"                                                        \
    "CSeq: 7 REGISTER\r\n"

#define TAIL  "Content-Length: 0\r\n\r\n"


static uint8_t            buf[16384], out[16384], scratch[8192];
static uint8_t            aor_text[512];
static ims_sip_msg_t      msg, again;
static ims_sip_err_t      err;
static ims_sip_edit_t     ed;
static ims_reg_request_t  req;
static ims_reg_grant_t   *grant;
static ims_pool_look_t    look;
static ims_pool_names_t   names;
static ims_reg_case_t     kase;
static ims_reg_verdict_t  verdict;

static const uint8_t  holder[IMS_POOL_HOLDER_LEN] = "holder-of-lease";
static const uint8_t  other[IMS_POOL_HOLDER_LEN] = "another-holder!";


static void
parse(ims_sip_msg_t *m, const char *text)
{
    size_t  n;

    n = strlen(text);
    assert_true(n < sizeof(buf));
    memcpy(buf, text, n);

    if (ims_sip_parse(m, buf, n, IMS_SIP_WS, &err) != 0) {
        fail_msg("%s: %s", err.reason, text);
    }
}


static unsigned
read_text(const char *text, const char **reason)
{
    parse(&msg, text);
    *reason = "";
    memset(&req, 0xee, sizeof(req));

    return ims_reg_read(&req, &msg, reason);
}


/* HEAD, then these lines: it is read well */

static void
read_ok(const char *lines)
{
    char         text[8192];
    unsigned     status;
    const char  *reason;

    snprintf(text, sizeof(text), HEAD "%s" TAIL, lines);
    status = read_text(text, &reason);

    if (status) {
        fail_msg("%u %s: %s", status, reason, lines);
    }
}


static void
test_read(void **state)
{
    uint8_t  a[16], b[16];

    (void) state;

    read_ok("Contact: <" CONTACT ">;+sip.instance=\"<" INSTANCE ">\";"
            "reg-id=1;expires=300\r\nExpires: 600\r\n"
            "Authorization: Bearer abc\r\n");

    assert_true(ims_str_eq(req.aor, IMS_STR(AOR)));
    assert_true(ims_str_eq(req.contact.addr.uri, IMS_STR(CONTACT)));
    assert_true(ims_str_eq(req.instance, IMS_STR("<" INSTANCE ">")));
    assert_true(ims_str_eq(req.token, IMS_STR("abc")));
    assert_int_equal(req.reg_id, 1);
    assert_int_equal(req.asked, 300);

    /* the device is instance and reg-id */

    assert_true(ims_reg_instance(&req, a));
    read_ok("Contact: <" CONTACT ">;+sip.instance=\"<" INSTANCE ">\";"
            "reg-id=2\r\n");
    assert_true(ims_reg_instance(&req, b));
    assert_memory_not_equal(a, b, sizeof(a));
    assert_int_equal(req.asked, IMS_REG_EXPIRES);

    read_ok("Contact: <" CONTACT ">;+sip.instance=\"<" INSTANCE ">\";"
            "reg-id=1\r\n");
    assert_true(ims_reg_instance(&req, b));
    assert_memory_equal(a, b, sizeof(a));

    /* nothing said: none of it */

    read_ok(CONTACT_H);
    assert_null(req.token.p);
    assert_null(req.instance.p);
    assert_int_equal(req.reg_id, 0);

    /* then the Contact has a name, but not the device */

    assert_false(ims_reg_instance(&req, a));
    read_ok(CONTACT_H "Expires: 5\r\n");
    assert_false(ims_reg_instance(&req, b));
    assert_memory_equal(a, b, sizeof(a));
    read_ok("Contact: <sip:k4@df7.invalid;transport=ws>\r\n");
    assert_false(ims_reg_instance(&req, b));
    assert_memory_not_equal(a, b, sizeof(a));

    read_ok("Contact: *\r\nExpires: 0\r\n");
    assert_true(req.contact.star);
    assert_int_equal(req.asked, 0);

    read_ok("m: " CONTACT "\r\nExpires: 4294967295\r\n");
    assert_int_equal(req.asked, UINT32_MAX);

    /* the token in each of its forms, beside what is not for us */

    read_ok(CONTACT_H "Authorization: Digest username=\"x\"\r\n"
            "Authorization: bearer access_token=\"a.b.c\"\r\n");
    assert_true(ims_str_eq(req.token, IMS_STR("a.b.c")));

    read_ok(CONTACT_H "authorization: BEARER a.b-_~+/c==\r\n");
    assert_true(ims_str_eq(req.token, IMS_STR("a.b-_~+/c==")));
}


static void
test_read_canonical(void **state)
{
    const char  *reason;

    (void) state;

    /* spelt in another way, one address of record all the same */

    assert_int_equal(read_text(
        "REGISTER sip:ims.example SIP/2.0\r\n"
        "Via: SIP/2.0/WSS df7.invalid;branch=z9hG4bK56\r\n"
        "To: \"W\" <SIP:web%2D1@IMS.Example:5060;foo=bar>\r\n"
        "f: <" AOR ">;tag=65bn\r\n"
        "Call-ID: aiu\r\nCSeq: 7 REGISTER\r\n" CONTACT_H "\r\n",
        &reason), 0);
    assert_true(ims_str_eq(req.aor, IMS_STR(AOR)));
}


static void
test_read_refused(void **state)
{
    char         text[8192], pad[600];
    size_t       i;
    unsigned     status;
    const char  *reason;

    static const struct {
        const char  *lines;
        const char  *reason;
    } cases[] = {
        { "", "REGISTER without Contact" },
        { "Contact:\r\n", "REGISTER without Contact" },
        { "Contact: <\r\n", "Bad Contact" },
        { "Contact: <sip:a@b>,\r\n", "More than one Contact" },
        { "Contact: ,<sip:a@b>\r\n", "Bad Contact" },
        { "Contact: <sip:a@b>, <sip:c@d>\r\n", "More than one Contact" },
        { CONTACT_H CONTACT_H, "More than one Contact" },
        { CONTACT_H "m: *\r\nExpires: 0\r\n", "More than one Contact" },
        { "Contact: *\r\n", "Contact * needs Expires 0" },
        { "Contact: *\r\nExpires: 1\r\n", "Contact * needs Expires 0" },
        { "Contact: *;expires=0\r\nExpires: 0\r\n", "Bad Contact" },
        { CONTACT_H "Expires: abc\r\n", "Bad Expires" },
        { CONTACT_H "Expires: \r\n", "Bad Expires" },
        { CONTACT_H "Expires: -1\r\n", "Bad Expires" },
        { CONTACT_H "Expires: +60\r\n", "Bad Expires" },
        { CONTACT_H "Expires: 0x3c\r\n", "Bad Expires" },
        { CONTACT_H "Expires: 60 60\r\n", "Bad Expires" },
        { CONTACT_H "Expires: 4294967296\r\n", "Bad Expires" },
        { CONTACT_H "Expires: 99999999999999999999\r\n", "Bad Expires" },
        { "Contact: <sip:a@b>;expires=abc\r\n", "Bad expires of Contact" },
        { "Contact: <sip:a@b>;expires=\"60\"\r\n", "Bad expires of Contact" },
        { "Contact: <sip:a@b>;expires\r\n", "Bad expires of Contact" },
        { "Contact: <sip:a@b>;expires=4294967296\r\n",
          "Bad expires of Contact" },
        { "Contact: <sip:a@b>;expires=60.5\r\n", "Bad expires of Contact" },
        { "Contact: <sip:a@b>;expires=60;expires=0\r\n", "Bad Contact" },
        { "Contact: <sip:a@b>;Expires=60;eXpires=60\r\n", "Bad Contact" },
        { "Contact: <sip:a@b>;expires=\r\n", "Bad Contact" },
        { "Contact: <tel:+15550100>\r\n", "Contact is not a SIP URI" },
        { "Contact: <http://a/>\r\n", "Contact is not a SIP URI" },
        { "Contact: <sip:a@b:0>\r\n", "Contact is not a SIP URI" },
        { "Contact: <sip:a@b;ob;sos>\r\n", "Emergency registration" },
        { "Contact: <sip:a@b;S%6fS=1>\r\n", "Emergency registration" },
        { "Contact: <sip:a@b>;+sip.instance=\"\"\r\n", "Bad +sip.instance" },
        { "Contact: <sip:a@b>;+sip.instance=\"<x>\";reg-id=0\r\n",
          "Bad reg-id" },
        { "Contact: <sip:a@b>;+sip.instance=\"<x>\";reg-id=-1\r\n",
          "Bad reg-id" },
        { "Contact: <sip:a@b>;+sip.instance=\"<x>\";reg-id\r\n",
          "Bad reg-id" },
        { "Contact: <sip:a@b>;+sip.instance=\"<x>\";reg-id=2147483648\r\n",
          "Bad reg-id" },
        { "Contact: <sip:a@b>;+sip.instance=\"<x>\";+sip.instance=\"<y>\"\r\n",
          "Bad Contact" },
        { CONTACT_H "Authorization: Bearer a\r\nAuthorization: Bearer a\r\n",
          "More than one Bearer token" },
        { CONTACT_H "Authorization: Bearer\r\n", "Bad Bearer token" },
        { CONTACT_H "Authorization: Bearer a b\r\n", "Bad Bearer token" },
        { CONTACT_H "Authorization: Bearer access_token=\"a\","
          "access_token=\"b\"\r\n", "Bad Bearer token" },
        { CONTACT_H "Authorization: Bearer a, Digest username=\"x\"\r\n",
          "Bad Bearer token" },
    };

    (void) state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        snprintf(text, sizeof(text), HEAD "%s" TAIL, cases[i].lines);
        status = read_text(text, &reason);

        if (status != 400 || strcmp(reason, cases[i].reason) != 0) {
            fail_msg("%u %s, not 400 %s: %s", status, reason,
                     cases[i].reason, cases[i].lines);
        }
    }

    /* 512 bytes of Contact are taken, one more is not */

    memset(pad, 'x', sizeof(pad));
    snprintf(text, sizeof(text), HEAD "Contact: <sip:%.*s@b>\r\n" TAIL,
             IMS_REG_CONTACT_MAX - 6, pad);
    assert_int_equal(read_text(text, &reason), 0);
    assert_int_equal(req.contact.addr.uri.n, IMS_REG_CONTACT_MAX);

    snprintf(text, sizeof(text), HEAD "Contact: <sip:%.*s@b>\r\n" TAIL,
             IMS_REG_CONTACT_MAX - 5, pad);
    assert_int_equal(read_text(text, &reason), 400);
    assert_string_equal(reason, "Contact too long");
}


static void
test_read_identity(void **state)
{
    char         text[4096];
    size_t       i;
    unsigned     status;
    const char  *reason;

    static const struct {
        const char  *to;
        const char  *from;
        unsigned     status;
    } cases[] = {
        { AOR, AOR, 0 },
        { "tel:+1-555-0100", "tel:+15550100", 0 },
        { AOR, "sip:web-2@ims.example", 403 },
        { AOR, "sips:web-1@ims.example", 403 },
        { AOR, "sip:Web-1@ims.example", 403 },
        { AOR, "sip:web-1@ims.example;user=phone", 403 },
        { "sip:ims.example", "sip:ims.example", 400 },
        { "sip:a:pw@ims.example", "sip:a:pw@ims.example", 400 },
        { "sip:a%0d%0a@ims.example", "sip:a%0d%0a@ims.example", 400 },
        { "sip:a%22@ims.example", "sip:a%22@ims.example", 400 },
        { "sip:a@ims.example?x=y", "sip:a@ims.example?x=y", 400 },
        { "urn:service:sos", "urn:service:sos", 400 },
        { "http://ims.example/", "http://ims.example/", 400 },
    };

    (void) state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        snprintf(text, sizeof(text),
                 "REGISTER sip:ims.example SIP/2.0\r\n"
                 "Via: SIP/2.0/WSS df7.invalid;branch=z9hG4bK56\r\n"
                 "To: <%s>\r\nFrom: <%s>;tag=1\r\n"
                 "Call-ID: aiu\r\nCSeq: 7 REGISTER\r\n" CONTACT_H "\r\n",
                 cases[i].to, cases[i].from);

        status = read_text(text, &reason);

        if (status != cases[i].status) {
            fail_msg("%u %s: To %s, From %s", status, reason, cases[i].to,
                     cases[i].from);
        }
    }
}


/* -- judgement ----------------------------------------------------------- */

static ims_reg_grant_t *
make_grant(const char *impi, const char *impu)
{
    uint8_t                    sub[IMS_TOKEN_SUB_LEN + 1];
    ims_reg_grant_t           *g;
    static ims_token_claims_t  c;

    memset(&c, 0, sizeof(c));

    c.sub = ims_str_set(sub, ims_b64url_encode(sub, holder, sizeof(holder)));
    c.impi = ims_str_z(impi);
    c.impu[0] = ims_str_z("tel:+1-555-0100");
    c.impu[1] = ims_str_z(impu);
    c.nimpu = 2;
    c.ident = IDENT;
    c.lease_id = LEASE;
    c.session = SID;
    c.exp = 1700000000;

    g = ims_reg_grant_new(&c, IMS_STR("the token"), &c);
    assert_non_null(g);

    return g;
}


/* a live lease of 600 s, a registered flow or (flow false) a new one */

static void
begin(const char *lines, bool flow)
{
    ptrdiff_t  n;

    read_ok(lines);

    ims_reg_grant_free(grant);
    grant = make_grant(IMPI, AOR);

    memset(&look, 0, sizeof(look));
    look.pt = PT;
    look.delay = D;
    look.rec.ident = IDENT;
    look.rec.lease = LEASE;
    memcpy(look.rec.holder, holder, sizeof(holder));
    look.rec.start = PT - 1000;
    look.rec.end = PT + 600000;
    look.rec.promised = look.rec.end;
    look.rec.rest = look.rec.end + D + 30000;
    look.rec.nsession = 1;
    look.rec.session[0].sid = SID;
    look.rec.session[0].end = look.rec.end;
    strcpy(look.home, "ims.example");

    memset(&names, 0, sizeof(names));
    names.ident = IDENT;
    names.impi = IMS_STR(IMPI);
    names.nimpu = 2;
    names.impu[0].given = IMS_STR("tel:+1-555-0100");
    names.impu[0].canon = IMS_STR("tel:+15550100");

    n = ims_sip_canon(aor_text, sizeof(aor_text), IMS_STR(AOR));
    names.impu[1].given = IMS_STR(AOR);
    names.impu[1].canon = ims_str_set(aor_text, (size_t) n);

    memset(&kase, 0, sizeof(kase));
    kase.req = &req;
    kase.msg = &msg;
    kase.grant = grant;
    kase.look = &look;
    kase.names = &names;
    kase.core_min = 60;

    if (flow) {
        kase.flow_ident = IDENT;
        kase.flow_lease = LEASE;
        memcpy(kase.flow_holder, holder, sizeof(holder));
        kase.flow_contact = IMS_STR(CONTACT);
    }
}


static void
lease_ends(uint64_t pt)
{
    look.rec.end = pt;
    look.rec.promised = pt;
    look.rec.rest = pt + D + 30000;
    look.rec.session[0].end = pt;
}


static ims_reg_why_e
judge(void)
{
    memset(&verdict, 0xee, sizeof(verdict));
    ims_reg_judge(&kase, &verdict);

    return verdict.why;
}


static void
test_judge_go(void **state)
{
    (void) state;

    begin(CONTACT_H, false);
    assert_int_equal(judge(), IMS_REG_GO);
    assert_int_equal(verdict.end, PT + 600000);
    assert_int_equal(verdict.room, 599);
    assert_int_equal(verdict.expires, 599);
    assert_int_equal(verdict.impu, 1);

    /* a flow again, and with a later lease of the same holder */

    begin(CONTACT_H, true);
    assert_int_equal(judge(), IMS_REG_GO);
    kase.flow_lease = LEASE - 1;
    assert_int_equal(judge(), IMS_REG_GO);
}


/* x = min(asked, room), room = floor(end - PT) - 1 s, at least core_min */

static void
test_judge_room(void **state)
{
    char    lines[256];
    size_t  i;

    static const struct {
        uint64_t       left;     /* ms of the lease */
        uint32_t       asked;
        uint32_t       core_min;
        ims_reg_why_e  why;
        uint32_t       x;
    } cases[] = {
        { 600000, 300, 60, IMS_REG_GO, 300 },
        { 600000, 599, 60, IMS_REG_GO, 599 },
        { 600000, 600, 60, IMS_REG_GO, 599 },
        { 600999, 600, 60, IMS_REG_GO, 599 },
        { 601000, 600, 60, IMS_REG_GO, 600 },
        { 600000, UINT32_MAX, 60, IMS_REG_GO, 599 },
        { 61000, 600, 60, IMS_REG_GO, 60 },
        { 60999, 600, 60, IMS_REG_SHORT, 0 },
        { 60999, 10, 60, IMS_REG_SHORT, 0 },
        { 10000, 600, 60, IMS_REG_SHORT, 0 },
        { 10000, 10, 1, IMS_REG_GO, 9 },
        { 10000, 600, 9, IMS_REG_GO, 9 },
        { 10000, 600, 10, IMS_REG_SHORT, 0 },
        { 999, 600, 1, IMS_REG_SHORT, 0 },
        { 1, 600, 1, IMS_REG_SHORT, 0 },
        /* less than the core grants, with room for what it will raise it to */
        { 600000, 10, 60, IMS_REG_GO, 10 },
        { 600000, 1, 60, IMS_REG_GO, 1 },
        /* de-registration needs none */
        { 1, 0, 60, IMS_REG_GO, 0 },
        { 600000, 0, 60, IMS_REG_GO, 0 },
        /* a lease longer than an expiry can be */
        { 5000000000000ull, UINT32_MAX, 60, IMS_REG_GO, UINT32_MAX },
    };

    (void) state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        snprintf(lines, sizeof(lines), CONTACT_H "Expires: %u\r\n",
                 cases[i].asked);
        begin(lines, false);
        lease_ends(PT + cases[i].left);
        kase.core_min = cases[i].core_min;

        if (judge() != cases[i].why || verdict.expires != cases[i].x) {
            fail_msg("left %llu, asked %u, core_min %u: why %d, x %u",
                     (unsigned long long) cases[i].left, cases[i].asked,
                     cases[i].core_min, verdict.why, verdict.expires);
        }
    }

    /* it is the session's end that counts, not the lease's */

    begin(CONTACT_H, false);
    look.rec.nsession = 2;
    look.rec.session[1] = look.rec.session[0];
    look.rec.session[1].sid = SID + 1;
    look.rec.session[0].end = PT + 100000;
    assert_int_equal(judge(), IMS_REG_GO);
    assert_int_equal(verdict.expires, 99);
}


static void
test_judge_token(void **state)
{
    (void) state;

    begin(CONTACT_H, false);
    kase.grant = NULL;
    assert_int_equal(judge(), IMS_REG_NO_TOKEN);

    begin(CONTACT_H, true);
    kase.grant = NULL;
    assert_int_equal(judge(), IMS_REG_NO_TOKEN);

    /* exp alone: 401; with anything else, that is what is said */

    begin(CONTACT_H, false);
    kase.expired = true;
    assert_int_equal(judge(), IMS_REG_EXPIRED);

    lease_ends(PT);
    assert_int_equal(judge(), IMS_REG_LEASE);

    begin(CONTACT_H, false);
    kase.expired = true;
    names.impi = IMS_STR("web-2@ims.example");
    assert_int_equal(judge(), IMS_REG_IDENTITY);
}


static void
test_judge_identity(void **state)
{
    (void) state;

    /* IMPI of the token and of the record differ */

    begin(CONTACT_H, false);
    names.impi = IMS_STR("web-2@ims.example");
    assert_int_equal(judge(), IMS_REG_IDENTITY);

    /* in the record, not in the token */

    begin(CONTACT_H, false);
    ims_reg_grant_free(grant);
    grant = make_grant(IMPI, "sip:web-2@ims.example");
    kase.grant = grant;
    assert_int_equal(judge(), IMS_REG_IDENTITY);

    /* in the token, not in the record */

    begin(CONTACT_H, false);
    names.impu[1].canon = IMS_STR("sip:web-2@ims.example");
    assert_int_equal(judge(), IMS_REG_IDENTITY);

    begin(CONTACT_H, false);
    names.nimpu = 1;
    assert_int_equal(judge(), IMS_REG_IDENTITY);
}


static void
test_judge_lease(void **state)
{
    (void) state;

    begin(CONTACT_H, false);
    look.rec.lease = LEASE + 1;
    assert_int_equal(judge(), IMS_REG_LEASE);
    assert_int_equal(verdict.lapse, IMS_POOL_LAPSE_OTHER);

    begin(CONTACT_H, false);
    memcpy(look.rec.holder, other, sizeof(other));
    assert_int_equal(judge(), IMS_REG_LEASE);
    assert_int_equal(verdict.lapse, IMS_POOL_LAPSE_HOLDER);

    begin(CONTACT_H, false);
    lease_ends(PT);
    assert_int_equal(judge(), IMS_REG_LEASE);
    assert_int_equal(verdict.lapse, IMS_POOL_LAPSE_ENDED);

    begin(CONTACT_H, false);
    look.fence = LEASE;
    assert_int_equal(judge(), IMS_REG_LEASE);
    assert_int_equal(verdict.lapse, IMS_POOL_LAPSE_FENCED);

    begin(CONTACT_H, false);
    look.fence = LEASE - 1;
    assert_int_equal(judge(), IMS_REG_GO);

    begin(CONTACT_H, false);
    look.rec.flags = IMS_POOL_F_DISABLED;
    assert_int_equal(judge(), IMS_REG_LEASE);
    assert_int_equal(verdict.lapse, IMS_POOL_LAPSE_OFF);

    begin(CONTACT_H, false);
    look.rec.session[0].sid = SID + 1;
    assert_int_equal(judge(), IMS_REG_LEASE);
    assert_int_equal(verdict.lapse, IMS_POOL_LAPSE_SID);

    begin(CONTACT_H, false);
    look.rec.session[0].end = PT;
    assert_int_equal(judge(), IMS_REG_LEASE);
    assert_int_equal(verdict.lapse, IMS_POOL_LAPSE_SID_ENDED);
}


static void
test_judge_flow(void **state)
{
    (void) state;

    begin(CONTACT_H, true);
    kase.flow_ident = IDENT + 1;
    assert_int_equal(judge(), IMS_REG_OTHER_IMPI);

    begin(CONTACT_H, true);
    memcpy(kase.flow_holder, other, sizeof(other));
    assert_int_equal(judge(), IMS_REG_LEASE);
    assert_int_equal(verdict.lapse, IMS_POOL_LAPSE_HOLDER);

    begin("Contact: <sip:k4@df7.invalid;transport=ws>\r\n", true);
    assert_int_equal(judge(), IMS_REG_OTHER_CONTACT);

    begin("Contact: <sip:k4@df7.invalid;transport=ws>\r\nExpires: 0\r\n",
          true);
    assert_int_equal(judge(), IMS_REG_OTHER_CONTACT);

    /* "*" takes back what the flow registered, if it did */

    begin("Contact: *\r\nExpires: 0\r\n", true);
    assert_int_equal(judge(), IMS_REG_GO);
    assert_int_equal(verdict.expires, 0);

    begin("Contact: *\r\nExpires: 0\r\n", false);
    assert_int_equal(judge(), IMS_REG_UNREGISTERED);
}


static void
test_judge_home(void **state)
{
    char    text[4096];
    size_t  i;

    static const struct {
        const char     *ruri;
        ims_reg_why_e   why;
    } cases[] = {
        { "sip:ims.example", IMS_REG_GO },
        { "sip:IMS.Example:5060;transport=ws", IMS_REG_GO },
        { "sips:ims.example", IMS_REG_GO },
        { "sip:ims.example.evil.com", IMS_REG_HOME },
        { "sip:evil.com", IMS_REG_HOME },
        { "sip:10.0.0.1", IMS_REG_HOME },
        { "sip:web-1@ims.example", IMS_REG_HOME },
        { "sip:xims.example", IMS_REG_HOME },
        { "tel:+15550100", IMS_REG_HOME },
        { "urn:service:sos", IMS_REG_HOME },
    };

    (void) state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        begin(CONTACT_H, false);

        snprintf(text, sizeof(text), "REGISTER %s%s" CONTACT_H TAIL,
                 cases[i].ruri, strstr(HEAD, " SIP/2.0\r\n"));
        parse(&msg, text);

        if (judge() != cases[i].why) {
            fail_msg("%s: %d", cases[i].ruri, verdict.why);
        }
    }
}


/* without a token, or after it, only what the flow itself has, and in time */

static void
test_judge_leaving(void **state)
{
    (void) state;

    begin(CONTACT_H "Expires: 0\r\n", true);
    kase.grant = NULL;
    assert_int_equal(judge(), IMS_REG_GO);
    assert_int_equal(verdict.expires, 0);

    kase.grant = grant;
    kase.expired = true;
    assert_int_equal(judge(), IMS_REG_GO);

    /* the lease ended, but nobody else can have begun */

    lease_ends(PT - 1000);
    assert_int_equal(judge(), IMS_REG_GO);

    /* not in the last D of the rest */

    look.rec.rest = PT + D;
    assert_int_equal(judge(), IMS_REG_LEASE);
    look.rec.rest = PT + D + 1;
    assert_int_equal(judge(), IMS_REG_GO);

    /* another lease, holder or identity has begun */

    look.rec.lease = LEASE + 1;
    assert_int_equal(judge(), IMS_REG_LEASE);
    look.rec.lease = LEASE;

    memcpy(look.rec.holder, other, sizeof(other));
    assert_int_equal(judge(), IMS_REG_LEASE);
    memcpy(look.rec.holder, holder, sizeof(holder));

    kase.flow_ident = IDENT + 1;
    assert_int_equal(judge(), IMS_REG_LEASE);
    kase.flow_ident = IDENT;

    /* somebody else's address of record */

    names.impu[1].canon = IMS_STR("sip:web-2@ims.example");
    assert_int_equal(judge(), IMS_REG_IDENTITY);

    /* a flow that has nothing */

    begin(CONTACT_H "Expires: 0\r\n", false);
    kase.grant = NULL;
    assert_int_equal(judge(), IMS_REG_NO_TOKEN);
    kase.grant = grant;
    kase.expired = true;
    assert_int_equal(judge(), IMS_REG_EXPIRED);
}


static void
test_refusals(void **state)
{
    size_t                    i;
    const ims_reg_refusal_t  *r;

    static const struct {
        ims_reg_why_e   why;
        unsigned        status;
        bool            close;
        const char     *challenge;
    } cases[] = {
        { IMS_REG_NO_TOKEN, 401, false, "" },
        { IMS_REG_EXPIRED, 401, false, "invalid_token" },
        { IMS_REG_SHORT, 401, false, "invalid_token" },
        { IMS_REG_IDENTITY, 403, true, NULL },
        { IMS_REG_LEASE, 403, true, NULL },
        { IMS_REG_OTHER_IMPI, 403, false, NULL },
        { IMS_REG_OTHER_CONTACT, 403, false, NULL },
        { IMS_REG_HOME, 403, false, NULL },
        { IMS_REG_UNREGISTERED, 403, false, NULL },
    };

    (void) state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        r = ims_reg_refusal(cases[i].why);

        assert_int_equal(r->status, cases[i].status);
        assert_int_equal(r->close, cases[i].close);
        assert_true((r->challenge == NULL) == (cases[i].challenge == NULL));

        if (r->challenge) {
            assert_string_equal(r->challenge, cases[i].challenge);
        }
    }
}


static void
test_grant(void **state)
{
    uint8_t                    digest[IMS_TOKEN_DIGEST_LEN];
    ims_reg_grant_t           *g;
    static ims_token_claims_t  c;

    (void) state;

    g = make_grant(IMPI, "SIP:web%2D1@IMS.example:5060");

    assert_true(ims_str_eq(ims_reg_grant_impi(g), IMS_STR(IMPI)));
    assert_true(ims_reg_grant_has(g, IMS_STR(AOR)));
    assert_true(ims_reg_grant_has(g, IMS_STR("tel:+15550100")));
    assert_false(ims_reg_grant_has(g, IMS_STR("sip:web-1@ims.exampl")));
    assert_false(ims_reg_grant_has(g, IMS_STR("")));

    ims_token_digest(IMS_STR("the token"), digest);
    assert_memory_equal(g->digest, digest, sizeof(digest));
    assert_memory_equal(g->holder, holder, sizeof(holder));

    ims_reg_grant_free(g);
    ims_reg_grant_free(NULL);

    /* what verification should not have let pass */

    c.impi = IMS_STR(IMPI);
    c.impu[0] = IMS_STR(AOR);
    c.nimpu = 1;
    c.sub = IMS_STR("too-short");
    assert_null(ims_reg_grant_new(&c, IMS_STR("t"), NULL));

    c.sub = IMS_STR("aaaaaaaaaaaaaaaaaaaaaA");
    g = ims_reg_grant_new(&c, IMS_STR("t"), NULL);
    assert_non_null(g);
    ims_reg_grant_free(g);

    c.impu[0] = IMS_STR("no uri");
    assert_null(ims_reg_grant_new(&c, IMS_STR("t"), NULL));
}


/* -- what goes to the core ----------------------------------------------- */

static void
forward_conf(ims_reg_forward_t *f)
{
    memset(f, 0, sizeof(*f));

    f->home = IMS_STR("ims.example");
    f->impi = IMS_STR(IMPI);
    f->advertise = IMS_STR("edge.ims.example:5070");
    f->transport = IMS_STR("TCP");
    f->branch = IMS_STR("z9hG4bKours");
    f->path_token = IMS_STR("flowtoken");
    f->icid = IMS_STR("0123");
    f->received = IMS_STR("192.0.2.7");
    f->rport = 54321;
    f->expires = 599;
}


static void
forward(const ims_reg_forward_t *f, const char *want)
{
    unsigned     status;
    ptrdiff_t    n;
    const char  *reason;

    ims_sip_edit_init(&ed, &msg, scratch, sizeof(scratch));

    reason = ims_reg_forward(&ed, &req, f, &status);

    if (reason) {
        fail_msg("%u %s", status, reason);
    }

    n = ims_sip_edit_flatten(&ed, out, sizeof(out) - 1);
    assert_true(n > 0);
    out[n] = '\0';

    if (want) {
        assert_string_equal((char *) out, want);
    }

    if (ims_sip_parse(&again, out, (size_t) n, IMS_SIP_STREAM, &err) != 0) {
        fail_msg("%s", err.reason);
    }
}


#define OURS                                                                  \
    "Authorization: Digest username=\"" IMPI "\",realm=\"ims.example\","      \
        "nonce=\"\",uri=\"sip:ims.example\",response=\"\","                   \
        "integrity-protected=\"auth-done\"\r\n"                               \
    "Path: <sip:flowtoken@edge.ims.example:5070;transport=tcp;lr;ob>\r\n"

#define OURS_2                                                                \
    "P-Visited-Network-ID: \"ims.example\"\r\n"                               \
    "P-Charging-Vector: icid-value=\"0123\";"                                 \
        "orig-ioi=\"Type 1ims.example\"\r\n"                                  \
    "Content-Length: 0\r\n\r\n"


/* what a client may say of all this is gone, the rest is there and in order */

static void
test_forward(void **state)
{
    const char         *reason;
    ims_reg_forward_t   f;

    (void) state;

    assert_int_equal(read_text(
        "REGISTER SIP:IMS.Example;transport=ws SIP/2.0\r\n"
        "Via: SIP/2.0/WSS df7.invalid;rport;branch=z9hG4bK56\r\n"
        "X-First: 1\r\n"
        "Route: <sip:127.0.0.1:22;lr>\r\n"
        "Max-Forwards: 69\r\n"
        "To: <" AOR ">\r\n"
        "From: \"W\" <" AOR ">;tag=65bn\r\n"
        "Authorization: Digest username=\"victim@ims.example\","
            "integrity-protected=\"auth-done\"\r\n"
        "P-Asserted-Identity: <sip:victim@ims.example>\r\n"
        "Path: <sip:forged@edge;lr>\r\n"
        "Call-ID: aiu\r\n"
        "authorization : Bearer abc\r\n"
        "P-Access-Network-Info: 3GPP-E-UTRAN;network-provided\r\n"
        "CSeq: 7 REGISTER\r\n"
        "Expires: 3600\r\n"
        "Contact: <" CONTACT ">;+sip.ice;expires=900;reg-id=1;"
            "+sip.instance=\"<" INSTANCE ">\"\r\n"
        "P-Charging-Vector: icid-value=forged\r\n"
        "Supported: path,gruu,outbound\r\n"
        "P-Visited-Network-ID: \"other.example\"\r\n"
        "Service-Route: <sip:x;lr>\r\n"
        "Record-Route: <sip:x;lr>\r\n"
        "X-Unknown: keep, me\r\n"
        "Content-Length: 0\r\n\r\n", &reason), 0);

    forward_conf(&f);

    forward(&f,
        "REGISTER sip:ims.example SIP/2.0\r\n"
        "Via: SIP/2.0/TCP edge.ims.example:5070;branch=z9hG4bKours\r\n"
        "Via: SIP/2.0/WSS df7.invalid;rport=54321;branch=z9hG4bK56;"
            "received=192.0.2.7\r\n"
        "X-First: 1\r\n"
        "Max-Forwards: 68\r\n"
        "To: <" AOR ">\r\n"
        "From: \"W\" <" AOR ">;tag=65bn\r\n"
        "Call-ID: aiu\r\n"
        "CSeq: 7 REGISTER\r\n"
        "Expires: 599\r\n"
        "Contact: <" CONTACT ">;+sip.ice;expires=599;reg-id=1;"
            "+sip.instance=\"<" INSTANCE ">\"\r\n"
        "Supported: path,gruu,outbound\r\n"
        "X-Unknown: keep, me\r\n"
        OURS
        "Require: path\r\n"
        OURS_2);
}


/* what is missing is inserted */

static void
test_forward_bare(void **state)
{
    const char         *reason;
    ims_reg_forward_t   f;

    (void) state;

    assert_int_equal(read_text(
        "REGISTER sip:ims.example SIP/2.0\r\n"
        "v: SIP/2.0/WS df7.invalid;branch=z9hG4bK56\r\n"
        "t: " AOR "\r\n"
        "f: " AOR ";tag=65bn\r\n"
        "i: aiu\r\n"
        "CSeq: 7 REGISTER\r\n"
        "m: " CONTACT "\r\n"
        "Require: path\r\n"
        "\r\n", &reason), 0);

    forward_conf(&f);

    forward(&f,
        "REGISTER sip:ims.example SIP/2.0\r\n"
        "Via: SIP/2.0/TCP edge.ims.example:5070;branch=z9hG4bKours\r\n"
        "v: SIP/2.0/WS df7.invalid;branch=z9hG4bK56;received=192.0.2.7\r\n"
        "t: " AOR "\r\n"
        "f: " AOR ";tag=65bn\r\n"
        "i: aiu\r\n"
        "CSeq: 7 REGISTER\r\n"
        "m: " CONTACT ";expires=599\r\n"
        "Require: path\r\n"
        "Max-Forwards: 70\r\n"
        "Expires: 599\r\n"
        OURS
        OURS_2);
}


static void
test_forward_options(void **state)
{
    ims_reg_forward_t  f;

    (void) state;

    read_ok(CONTACT_H);
    forward_conf(&f);
    f.transport = IMS_STR("TLS");
    f.visited = IMS_STR("visited.example");
    f.access_network = IMS_STR("IEEE-802.11");
    f.entity = IMS_STR("https://wwsf.example");
    forward(&f, NULL);

    assert_non_null(strstr((char *) out, ";transport=tls;lr;ob>\r\n"));
    assert_non_null(strstr((char *) out, "Via: SIP/2.0/TLS edge"));
    assert_non_null(strstr((char *) out,
        ",authorization-entity=\"https://wwsf.example\"\r\n"));
    assert_non_null(strstr((char *) out,
        "P-Visited-Network-ID: \"visited.example\"\r\n"));
    assert_non_null(strstr((char *) out,
        "P-Access-Network-Info: IEEE-802.11;network-provided\r\n"));
}


/* too large for UDP: the Via says TCP, the Path stays (RFC 3261 18.1.1) */

static void
test_forward_udp(void **state)
{
    ims_reg_forward_t  f;

    (void) state;

    read_ok(CONTACT_H);
    forward_conf(&f);
    f.transport = IMS_STR("UDP");
    f.via_params = IMS_STR(";rport");
    forward(&f, NULL);

    assert_non_null(strstr((char *) out,
        "Via: SIP/2.0/UDP edge.ims.example:5070;rport;branch="));
    assert_non_null(strstr((char *) out,
        "@edge.ims.example:5070;transport=udp;lr;ob>\r\n"));

    read_ok(CONTACT_H);
    f.via_transport = IMS_STR("TCP");
    f.via_advertise = IMS_STR("edge.ims.example:5071");
    f.via_params = IMS_STR("");
    forward(&f, NULL);

    assert_non_null(strstr((char *) out,
        "Via: SIP/2.0/TCP edge.ims.example:5071;branch="));
    assert_non_null(strstr((char *) out,
        "@edge.ims.example:5070;transport=udp;lr;ob>\r\n"));
}


static void
test_forward_star(void **state)
{
    ims_reg_forward_t  f;

    (void) state;

    forward_conf(&f);
    f.expires = 0;

    read_ok("Contact: *\r\nExpires: 0\r\n");
    forward(&f, NULL);
    assert_non_null(strstr((char *) out, "\r\nContact: *\r\nExpires: 0\r\n"));

    /* other sessions have the lease too: only what is the flow's own */

    f.own_contact = IMS_STR(CONTACT);
    read_ok("Contact: *\r\nExpires: 0\r\n");
    forward(&f, NULL);
    assert_non_null(strstr((char *) out,
        "\r\nContact: <" CONTACT ">;expires=0\r\nExpires: 0\r\n"));
}


static void
test_forward_refused(void **state)
{
    char                text[4096], ims[600];
    unsigned            status;
    const char         *reason;
    ims_reg_forward_t   f;

    (void) state;

    forward_conf(&f);

    /* two Via: a route of answers that is not ours to check */

    snprintf(text, sizeof(text), "%s" CONTACT_H
             "Via: SIP/2.0/TCP 10.0.0.1;branch=z9hG4bKx\r\n" TAIL, HEAD);
    assert_int_equal(read_text(text, &reason), 0);
    ims_sip_edit_init(&ed, &msg, scratch, sizeof(scratch));
    assert_non_null(ims_reg_forward(&ed, &req, &f, &status));
    assert_int_equal(status, 400);

    /* no hops left */

    snprintf(text, sizeof(text), "%s" CONTACT_H TAIL, HEAD);
    memcpy(strstr(text, ": 69\r\n"), ":  0\r\n", 6);
    assert_int_equal(read_text(text, &reason), 0);
    ims_sip_edit_init(&ed, &msg, scratch, sizeof(scratch));
    assert_non_null(ims_reg_forward(&ed, &req, &f, &status));
    assert_int_equal(status, 483);

    /* no room to write in */

    read_ok(CONTACT_H);
    memset(ims, 'a', sizeof(ims));
    f.home = ims_str_set(ims, sizeof(ims));
    ims_sip_edit_init(&ed, &msg, scratch, 1000);
    assert_non_null(ims_reg_forward(&ed, &req, &f, &status));
    assert_int_equal(status, 500);
}


/* -- the answer ---------------------------------------------------------- */

#define ANSWER                                                                \
    "SIP/2.0 200 OK\r\n"                                                      \
    "Via: SIP/2.0/TCP edge.ims.example:5070;branch=z9hG4bKours\r\n"           \
    "Via: SIP/2.0/WSS df7.invalid;branch=z9hG4bK56;received=192.0.2.7\r\n"    \
    "To: <" AOR ">;tag=x\r\n"                                                 \
    "From: <" AOR ">;tag=65bn\r\n"                                            \
    "Call-ID: aiu\r\n"                                                        \
    "CSeq: 7 REGISTER\r\n"

static ims_reg_answer_t  answer;
static uint8_t           route[IMS_REG_ROUTE_MAX];


static bool
read_answer(const char *lines, const char *instance, uint32_t reg_id,
    const char **reason)
{
    char  text[8192];

    snprintf(text, sizeof(text), ANSWER "%s" TAIL, lines);
    parse(&msg, text);
    *reason = "";

    return ims_reg_answer(&answer, &msg, IMS_STR(CONTACT),
                          instance ? ims_str_z(instance) : IMS_STR_NULL,
                          reg_id, route, reason);
}


static void
test_answer_contact(void **state)
{
    bool         ok;
    size_t       i;
    const char  *reason;

    static const struct {
        const char  *lines;
        const char  *instance;
        uint32_t     reg_id;
        int          granted;      /* -1: not found, -2: refused */
    } cases[] = {
        { "", NULL, 0, -1 },
        { "Contact: <" CONTACT ">;expires=300\r\n", NULL, 0, 300 },
        { "Contact: <" CONTACT ">\r\nExpires: 200\r\n", NULL, 0, 200 },
        { "Contact: <SIP:k3@DF7.invalid;transport=ws>;expires=5\r\n",
          NULL, 0, 5 },
        { "Contact: <sip:k4@df7.invalid;transport=ws>;expires=300\r\n",
          NULL, 0, -1 },
        { "Contact: <sip:old@x>;expires=9, <" CONTACT ">;expires=300\r\n",
          NULL, 0, 300 },
        { "Contact: <sip:old@x>;expires=900\r\n"
          "Contact: <" CONTACT ">;expires=300\r\n", NULL, 0, 300 },

        /* listed twice, the longer one is what may hold */
        { "Contact: <" CONTACT ">;expires=300, <" CONTACT ">;expires=400\r\n",
          NULL, 0, 400 },

        /* by instance and reg-id where there are any: the URI may differ */
        { "Contact: <sip:other@x>;expires=300;reg-id=1;"
          "+sip.instance=\"<" INSTANCE ">\"\r\n", "<" INSTANCE ">", 1, 300 },
        { "Contact: <" CONTACT ">;expires=300;reg-id=2;"
          "+sip.instance=\"<" INSTANCE ">\"\r\n", "<" INSTANCE ">", 1, -1 },
        { "Contact: <" CONTACT ">;expires=300;reg-id=1;"
          "+sip.instance=\"<urn:uuid:x>\"\r\n", "<" INSTANCE ">", 1, -1 },

        /* what the device had before is listed beside it */
        { "Contact: <sip:before@x>;expires=900;reg-id=1;"
          "+sip.instance=\"<" INSTANCE ">\", <" CONTACT ">;expires=300;"
          "reg-id=1;+sip.instance=\"<" INSTANCE ">\", <sip:older@x>;"
          "expires=950;reg-id=1;+sip.instance=\"<" INSTANCE ">\"\r\n",
          "<" INSTANCE ">", 1, 300 },

        /* a registrar that does not repeat it */
        { "Contact: <" CONTACT ">;expires=300\r\n", "<" INSTANCE ">", 1, 300 },

        /* no way to tell for how long: nothing is known */
        { "Contact: <" CONTACT ">\r\n", NULL, 0, -2 },
        { "Contact: <" CONTACT ">;expires=abc\r\n", NULL, 0, -2 },
        { "Contact: <" CONTACT ">;expires=4294967296\r\n", NULL, 0, -2 },
        { "Contact: <" CONTACT ">;expires\r\n", NULL, 0, -2 },
        { "Contact: <" CONTACT ">;expires=5;reg-id=x;"
          "+sip.instance=\"<" INSTANCE ">\"\r\n", "<" INSTANCE ">", 1, -1 },
        { "Contact: <\r\n", NULL, 0, -2 },
        { "Contact: *\r\n", NULL, 0, -1 },
    };

    (void) state;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ok = read_answer(cases[i].lines, cases[i].instance, cases[i].reg_id,
                         &reason);

        if (ok != (cases[i].granted != -2)
            || (ok && (answer.found != (cases[i].granted >= 0)
                       || (int) answer.granted
                          != (cases[i].granted < 0 ? 0 : cases[i].granted))))
        {
            fail_msg("%d %s, found %d, granted %u: %s", ok, reason,
                     answer.found, answer.granted, cases[i].lines);
        }

        if (!ok) {
            assert_string_equal(reason, "bad Contact");
        }
    }
}


static void
test_answer_route(void **state)
{
    char         lines[4096], pad[IMS_REG_ROUTE_MAX];
    const char  *reason;

    (void) state;

    assert_true(read_answer("", NULL, 0, &reason));
    assert_int_equal(answer.route.n, 0);

    assert_true(read_answer("Service-Route: <sip:a;lr> ,  <sip:b;lr>\r\n"
                            "Service-Route: \"C, c\" <sip:c;lr>;x=y\r\n",
                            NULL, 0, &reason));
    assert_true(ims_str_eq(answer.route,
        IMS_STR("<sip:a;lr>,<sip:b;lr>,\"C, c\" <sip:c;lr>;x=y")));

    assert_false(read_answer("Service-Route: sip:a;lr\r\n", NULL, 0, &reason));
    assert_string_equal(reason, "bad Service-Route");
    assert_false(read_answer("Service-Route: <sip:a;lr>,\r\n", NULL, 0,
                             &reason));
    assert_false(read_answer("Service-Route: <sip:a\r\n", NULL, 0, &reason));

    /* to the byte */

    memset(pad, 'x', sizeof(pad));
    snprintf(lines, sizeof(lines), "Service-Route: <sip:%.*s;lr>\r\n",
             IMS_REG_ROUTE_MAX - 9, pad);
    assert_true(read_answer(lines, NULL, 0, &reason));
    assert_int_equal(answer.route.n, IMS_REG_ROUTE_MAX);

    snprintf(lines, sizeof(lines), "Service-Route: <sip:%.*s;lr>\r\n",
             IMS_REG_ROUTE_MAX - 8, pad);
    assert_false(read_answer(lines, NULL, 0, &reason));
}


static void
test_answer_asserted(void **state)
{
    char         lines[4096];
    size_t       n;
    unsigned     i;
    const char  *reason;

    (void) state;

    assert_true(read_answer("P-Associated-URI: <" AOR ">, \"W\" "
                            "<tel:+15550100>;x=y\r\n"
                            "P-Associated-URI: <sip:c@d>\r\n",
                            NULL, 0, &reason));
    assert_int_equal(answer.nasserted, 3);
    assert_true(ims_str_eq(answer.asserted[0], IMS_STR(AOR)));
    assert_true(ims_str_eq(answer.asserted[1], IMS_STR("tel:+15550100")));
    assert_true(ims_str_eq(answer.asserted[2], IMS_STR("sip:c@d")));

    for (n = 0, i = 0; i < IMS_REG_ASSERTED_MAX; i++) {
        n += (size_t) sprintf(lines + n, "P-Associated-URI: <sip:%u@d>\r\n",
                              i);
    }

    assert_true(read_answer(lines, NULL, 0, &reason));
    assert_int_equal(answer.nasserted, IMS_REG_ASSERTED_MAX);

    strcpy(lines + n, "P-Associated-URI: <sip:one-more@d>\r\n");
    assert_false(read_answer(lines, NULL, 0, &reason));
    assert_string_equal(reason, "bad P-Associated-URI");

    assert_false(read_answer("P-Associated-URI: <sip:a@b\r\n", NULL, 0,
                             &reason));
    assert_false(read_answer("P-Associated-URI: ,\r\n", NULL, 0, &reason));
}


/* -- the edge's own ------------------------------------------------------ */

static void
test_deregister(void **state)
{
    ptrdiff_t             n;
    ims_reg_deregister_t  d;

    (void) state;

    memset(&d, 0, sizeof(d));
    forward_conf(&d.f);
    d.impu = IMS_STR(AOR);
    d.contact = IMS_STR(CONTACT);
    d.call_id = IMS_STR("own-call-id");
    d.from_tag = IMS_STR("ft");
    d.cseq = 3;

    n = ims_reg_deregister(out, sizeof(out) - 1, &d);
    assert_true(n > 0);
    out[n] = '\0';

    assert_string_equal((char *) out,
        "REGISTER sip:ims.example SIP/2.0\r\n"
        "Via: SIP/2.0/TCP edge.ims.example:5070;branch=z9hG4bKours\r\n"
        "Max-Forwards: 70\r\n"
        "From: <" AOR ">;tag=ft\r\n"
        "To: <" AOR ">\r\n"
        "Call-ID: own-call-id\r\n"
        "CSeq: 3 REGISTER\r\n"
        "Contact: <" CONTACT ">;expires=0\r\n"
        "Expires: 0\r\n"
        OURS
        "Require: path\r\n"
        "Supported: path\r\n"
        OURS_2);

    assert_int_equal(ims_sip_parse(&again, out, (size_t) n, IMS_SIP_STREAM,
                                   &err), 0);

    /* to the byte */

    assert_int_equal(ims_reg_deregister(out, (size_t) n, &d), n);
    assert_int_equal(ims_reg_deregister(out, (size_t) n - 1, &d), -1);

    /* all that there is of an identity, of no flow: a purge */

    d.contact = IMS_STR_NULL;
    d.f.path_token = IMS_STR_NULL;

    n = ims_reg_deregister(out, sizeof(out) - 1, &d);
    assert_true(n > 0);
    out[n] = '\0';

    assert_non_null(strstr((char *) out,
                           "\r\nContact: *\r\nExpires: 0\r\n"));
    assert_non_null(strstr((char *) out,
                           "\r\nPath: <sip:edge.ims.example:5070;"
                           "transport=tcp;lr;ob>\r\n"));
    assert_int_equal(ims_sip_parse(&again, out, (size_t) n, IMS_SIP_STREAM,
                                   &err), 0);
}


static int
teardown(void **state)
{
    (void) state;

    ims_reg_grant_free(grant);
    grant = NULL;

    return 0;
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_read_canonical),
        cmocka_unit_test(test_read_refused),
        cmocka_unit_test(test_read_identity),
        cmocka_unit_test(test_grant),
        cmocka_unit_test(test_judge_go),
        cmocka_unit_test(test_judge_room),
        cmocka_unit_test(test_judge_token),
        cmocka_unit_test(test_judge_identity),
        cmocka_unit_test(test_judge_lease),
        cmocka_unit_test(test_judge_flow),
        cmocka_unit_test(test_judge_home),
        cmocka_unit_test(test_judge_leaving),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_forward_bare),
        cmocka_unit_test(test_forward_options),
        cmocka_unit_test(test_forward_udp),
        cmocka_unit_test(test_forward_star),
        cmocka_unit_test(test_forward_refused),
        cmocka_unit_test(test_answer_contact),
        cmocka_unit_test(test_answer_route),
        cmocka_unit_test(test_answer_asserted),
        cmocka_unit_test(test_deregister),
    };

    return cmocka_run_group_tests(tests, NULL, teardown);
}
