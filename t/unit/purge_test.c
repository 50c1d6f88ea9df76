/*
 * Copyright (C) nginx-ims contributors
 *
 * The rules of a purge at the edge: what is given out, what may be begun, what
 * is a proof.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "reg/ims_purge.h"


#define NOW    5000000ull
#define IDENT  0x100000001ull
#define LEASE  0x1000005ull
#define HOUR   3600000ull
#define D      64000ull

#define IMPI   "web-1@ims.example"
#define IMPU   "sip:web-1@ims.example"
#define ALIAS  "tel:+4930123"


static char                text[65536];
static size_t              len;
static ims_reply_t         reply;
static ims_purge_job_t     job;
static ims_pool_look_t     look;
static ims_pool_names_t    names;
static ims_sip_msg_t       msg;


static void
bulk(const char *s)
{
    len += (size_t) snprintf(text + len, sizeof(text) - len, "$%zu\r\n%s\r\n",
                             strlen(s), s);
}


/* an answer of one purge: names and values, NULL at the end */

static bool
read_job(const char **pairs)
{
    unsigned            n;
    ims_reply_parser_t  p;

    for (n = 0; pairs[n]; n++) { /* void */ }

    len = (size_t) snprintf(text, sizeof(text), "*1\r\n*%u\r\n", n);

    for (n = 0; pairs[n]; n++) {
        bulk(pairs[n]);
    }

    ims_reply_reset(&p);
    assert_int_equal(ims_reply_parse(&p, (uint8_t *) text, len, &reply),
                     (int) len);
    assert_int_equal(reply.nrows, 1);

    return ims_purge_read(&job, &reply, 0);
}


#define PAIRS                                                                 \
    "purge", "00112233445566ff", "lease",                                     \
    "0000000100000001-0000000001000005", "pool", "web", "home",               \
    "ims.example", "impi", IMPI, "impu", IMPU, "impu", ALIAS,                 \
    "send_by", "5002000", "answer_by", "5032000", NULL


static void
test_read(void **state)
{
    unsigned     i, k, n;
    const char  *with[64];

    static const char  *good[] = { PAIRS };

    /* a value in place of that one, at that place */
    static const struct {
        unsigned     at;
        const char  *value;
    } bad[] = {
        { 1, "" }, { 1, "00112233445566f" }, { 1, "00112233445566fff" },
        { 1, "00112233445566fg" },
        { 3, "0000000100000001" }, { 3, "x" },
        { 3, "0000000100000001-0000000001000005 " },
        { 5, "" }, { 9, "" },
        { 15, "" }, { 15, "-1" }, { 15, "5x" },
        { 17, "" }, { 17, "18446744073709551616" },
    };

    (void) state;

    assert_true(read_job(good));
    assert_true(ims_str_eq(job.id, IMS_STR("00112233445566ff")));
    assert_true(job.ident == IDENT && job.lease == LEASE);
    assert_true(ims_str_eq(job.pool, IMS_STR("web")));
    assert_true(ims_str_eq(job.impi, IMS_STR(IMPI)));
    assert_int_equal(job.nimpu, 2);
    assert_true(ims_str_eq(job.impu[0], IMS_STR(IMPU)));
    assert_true(ims_str_eq(job.impu[1], IMS_STR(ALIAS)));
    assert_true(job.send_by == 5002000 && job.answer_by == 5032000);

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        memcpy(with, good, sizeof(good));
        with[bad[i].at] = bad[i].value;

        if (read_job(with)) {
            fail_msg("taken: \"%s\" at %u", bad[i].value, bad[i].at);
        }
    }

    /* none of the names may be missing, but one IMPU is enough */

    n = sizeof(good) / sizeof(good[0]);

    for (i = 0; i + 1 < n; i += 2) {
        memcpy(with, good, sizeof(good));
        with[i] = "other";

        assert_int_equal(read_job(with),
                         strcmp(good[i], "home") == 0
                         || strcmp(good[i], "impu") == 0);
    }

    /* no lease is known */

    memcpy(with, good, sizeof(good));
    with[3] = "";
    assert_true(read_job(with));
    assert_true(job.ident == 0 && job.lease == 0);

    /* more IMPUs than any identity has */

    for (k = 16; k <= 17; k++) {
        memcpy(with, good, sizeof(good));

        for (i = 2; i < k; i++) {
            with[n - 1 + 2 * (i - 2)] = "impu";
            with[n + 2 * (i - 2)] = IMPU;
        }

        with[n - 1 + 2 * (k - 2)] = NULL;
        assert_int_equal(read_job(with), k == IMS_POOL_IMPUS);
    }

    assert_int_equal(IMS_POOL_IMPUS, 16);
}


/* as many as are asked for, as long as they can be, fit into an answer */

static void
test_fits(void **state)
{
    char                long_name[IMS_POOL_NAMES_MAX];
    unsigned            i, k;
    ims_reply_parser_t  p;

    (void) state;

    memset(long_name, 'x', sizeof(long_name));
    long_name[sizeof(long_name) / (IMS_POOL_IMPUS + 1)] = '\0';

    len = (size_t) snprintf(text, sizeof(text), "*%u\r\n", IMS_PURGE_JOBS);

    for (i = 0; i < IMS_PURGE_JOBS; i++) {
        len += (size_t) snprintf(text + len, sizeof(text) - len, "*%u\r\n",
                                 2 * (7 + IMS_POOL_IMPUS));

        for (k = 0; k < IMS_POOL_IMPUS + 7; k++) {
            bulk("answer_by");
            bulk(long_name);
        }
    }

    assert_true(len < IMS_REPLY_MAX);

    ims_reply_reset(&p);
    assert_int_equal(ims_reply_parse(&p, (uint8_t *) text, len, &reply),
                     (int) len);
    assert_int_equal(reply.nrows, IMS_PURGE_JOBS);
}


static int
judged(uint64_t since)
{
    return ims_purge_judge(&job, &look, &names, NOW, since);
}


/* an identity whose lease was released a while ago */

static void
case_new(void)
{
    static const char  *good[] = { PAIRS };

    assert_true(read_job(good));

    memset(&look, 0, sizeof(look));
    look.pt = NOW - 1000;
    look.rec.ident = IDENT;
    look.rec.lease = LEASE;
    look.rec.end = look.pt - 2 * D;
    look.rec.promised = look.pt + HOUR;
    look.rec.rest = look.pt + HOUR + D;
    look.ttl_max = HOUR;
    look.delay = D;
    look.core_min = 60;
    strcpy(look.pool, "web");
    strcpy(look.home, "ims.example");

    memset(&names, 0, sizeof(names));
    names.impi = IMS_STR(IMPI);
    names.nimpu = 2;
    names.impu[0].given = IMS_STR(IMPU);
    names.impu[1].given = IMS_STR(ALIAS);
}


static void
test_judge(void **state)
{
    (void) state;

    case_new();
    assert_int_equal(judged(0), IMS_PURGE_GO);

    /* the first write is no later than send_by */

    job.send_by = NOW + 1;
    assert_int_equal(judged(0), IMS_PURGE_GO);
    job.send_by = NOW;
    assert_int_equal(judged(0), IMS_PURGE_LATE);

    /* never under somebody's feet */

    case_new();
    look.rec.lease++;
    assert_int_equal(judged(0), IMS_PURGE_OTHER);

    case_new();
    look.rec.end = look.pt + 1;
    assert_int_equal(judged(0), IMS_PURGE_LEASED);
    look.rec.flags = 0xff;
    assert_int_equal(judged(0), IMS_PURGE_LEASED);
    look.rec.end = look.pt;
    assert_int_equal(judged(0), IMS_PURGE_GO);

    /* one of a pool that was revoked as a whole */

    look.rec.end = look.pt + HOUR;
    look.fence = LEASE;
    assert_int_equal(judged(0), IMS_PURGE_GO);
    look.fence = LEASE - 1;
    assert_int_equal(judged(0), IMS_PURGE_LEASED);

    /* one that never had a lease that anybody knows of */

    case_new();
    job.ident = 0;
    job.lease = 0;
    assert_int_equal(judged(0), IMS_PURGE_OTHER);
    look.rec.lease = 0;
    look.rec.end = 0;
    assert_int_equal(judged(0), IMS_PURGE_GO);
}


static void
test_judge_names(void **state)
{
    (void) state;

    case_new();
    names.nimpu = 1;
    assert_int_equal(judged(0), IMS_PURGE_NAMES);

    case_new();
    names.impu[1].given = IMS_STR("tel:+4930124");
    assert_int_equal(judged(0), IMS_PURGE_NAMES);

    case_new();
    names.impi = IMS_STR("web-2@ims.example");
    assert_int_equal(judged(0), IMS_PURGE_NAMES);

    case_new();
    strcpy(look.pool, "webs");
    assert_int_equal(judged(0), IMS_PURGE_NAMES);
}


/*
 * Another core was asked until then: what it registered last for lasts as long
 * as any lease may, and D.
 */

static void
test_judge_core(void **state)
{
    uint64_t  since;

    (void) state;

    case_new();
    since = NOW - HOUR - D;
    assert_int_equal(judged(since), IMS_PURGE_GO);
    assert_int_equal(judged(since + 1), IMS_PURGE_CORE);
    assert_int_equal(judged(NOW), IMS_PURGE_CORE);
    assert_int_equal(judged(NOW + 1), IMS_PURGE_CORE);

    /* a core that raises what is shorter than its minimum */

    look.core_min = 4000;
    assert_int_equal(judged(since), IMS_PURGE_CORE);
    assert_int_equal(judged(NOW - 4000000 - D), IMS_PURGE_GO);
    assert_int_equal(judged(NOW - 4000000 - D + 1), IMS_PURGE_CORE);
}


static const char *
doubt(const char *status, const char *lines)
{
    static char    buf[4096];
    ims_sip_err_t  err;

    snprintf(buf, sizeof(buf),
             "SIP/2.0 %s\r\n"
             "Via: SIP/2.0/TCP edge:5070;branch=z9hG4bKpurge\r\n"
             "From: <" IMPU ">;tag=1\r\n"
             "To: <" IMPU ">;tag=2\r\n"
             "Call-ID: a\r\n"
             "CSeq: 1 REGISTER\r\n"
             "%s"
             "Content-Length: 0\r\n\r\n", status, lines);

    assert_int_equal(ims_sip_parse(&msg, (uint8_t *) buf, strlen(buf),
                                   IMS_SIP_STREAM, &err), 0);

    return ims_purge_doubt(&msg);
}


static void
test_doubt(void **state)
{
    unsigned  i;

    static const char  *refused[] = {
        "202 Accepted", "204 No Notification", "302 Moved", "403 Forbidden",
        "404 Not Found", "481 Does Not Exist", "500 Error", "503 Busy",
        "603 Decline",
    };

    (void) state;

    assert_null(doubt("200 OK", ""));
    assert_null(doubt("200 OK", "Service-Route: <sip:o@s;lr>\r\n"
                                "P-Associated-URI: <" IMPU ">\r\n"));

    for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        assert_string_equal(doubt(refused[i], ""), "the core refuses");
    }

    assert_string_equal(doubt("200 OK", "Contact: <sip:x@y>;expires=1\r\n"),
                        "contacts are left");
    assert_string_equal(doubt("200 OK", "m: <sip:x@y>\r\n"),
                        "contacts are left");
    assert_string_equal(doubt("200 OK", "Contact: *\r\n"),
                        "contacts are left");
    assert_string_equal(doubt("200 OK", "Contact: <sip:x@y>;expires=0\r\n"),
                        "contacts are left");
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_fits),
        cmocka_unit_test(test_judge),
        cmocka_unit_test(test_judge_names),
        cmocka_unit_test(test_judge_core),
        cmocka_unit_test(test_doubt),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
