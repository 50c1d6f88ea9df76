/*
 * Copyright (C) nginx-ims contributors
 *
 * Flow key, flow tokens, branches and datagrams: what is made is taken, and
 * nothing else is.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "flow/ims_flow_dgram.h"
#include "flow/ims_flow_token.h"
#include "flow/ims_siphash.h"


#define KEY_A  "00112233445566778899aabbccddeeff"                             \
               "00112233445566778899aabbccddeeff"
#define KEY_B  "ffeeddccbbaa99887766554433221100"                             \
               "ffeeddccbbaa99887766554433221100"

static const ims_flow_id_t  id = { 1, 77, 0xdeadbeef };


static ims_flow_keys_t
keys_of(const char *text)
{
    ims_flow_keys_t  keys;

    assert_true(ims_flow_keys_parse(&keys, ims_str_z(text)));

    return keys;
}


static void
siphash_vectors(void **state)
{
    size_t             i;
    uint8_t            in[64];
    ims_siphash_key_t  k = { 0x0706050403020100ull, 0x0f0e0d0c0b0a0908ull };

    (void) state;

    for (i = 0; i < sizeof(in); i++) {
        in[i] = (uint8_t) i;
    }

    assert_true(ims_siphash(&k, in, 0) == 0x726fdb47dd0e0e31ull);
    assert_true(ims_siphash(&k, in, 1) == 0x74f839c593dc67fdull);
    assert_true(ims_siphash(&k, in, 8) == 0x93f5f5799a932462ull);
    assert_true(ims_siphash(&k, in, 15) == 0xa129ca6149be45e5ull);
}


static void
key_text(void **state)
{
    size_t           i;
    ims_flow_keys_t  keys;

    static const char  *bad[] = {
        "", "\n", "7", "7 ", "0 " KEY_A, "256 " KEY_A, "-1 " KEY_A,
        "7 " KEY_A "0", "7 " KEY_A "00", "7 x" KEY_A, "7\t" KEY_A,
        "7  " KEY_A, "7 " KEY_A "\n7 " KEY_B,
        "7 " KEY_A "\n8 " KEY_B "\n9 " KEY_A, "7 " KEY_A "\nx\n",
        "7 " KEY_A "\r\n"
    };

    (void) state;

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(ims_flow_keys_parse(&keys, ims_str_z(bad[i])));
        assert_int_equal(keys.n, 0);
    }

    keys = keys_of(" 8 " KEY_A " \n\n7 " KEY_B "\n\n");
    assert_int_equal(keys.n, 2);
    assert_int_equal(keys.id[0], 8);
    assert_non_null(ims_flow_key(&keys, 7));
    assert_null(ims_flow_key(&keys, 9));
    assert_null(ims_flow_key(&keys, 0));
}


static void
scratch(char *dir, size_t n)
{
    snprintf(dir, n, "/tmp/ims-flow-XXXXXX");
    assert_non_null(mkdtemp(dir));
}


static void
clean(const char *dir)
{
    char  path[600];

    snprintf(path, sizeof(path), "%s/flow.key", dir);
    unlink(path);
    assert_int_equal(rmdir(dir), 0);      /* so nothing else was left there */
}


static void
key_file(void **state)
{
    char             dir[64], path[128], err[IMS_FLOW_KEY_ERR_LEN];
    FILE            *f;
    uint8_t          a[IMS_FLOW_TOKEN_MAX], b[IMS_FLOW_TOKEN_MAX];
    struct stat      st;
    ims_flow_keys_t  k1, k2;

    (void) state;

    scratch(dir, sizeof(dir));
    snprintf(path, sizeof(path), "%s/flow.key", dir);

    assert_true(ims_flow_keys_open(&k1, dir, err));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);

    assert_true(ims_flow_keys_open(&k2, dir, err));
    ims_flow_token_path(&k1, &id, a);
    ims_flow_token_path(&k2, &id, b);
    assert_memory_equal(a, b, 30);

    /* others must not read it */

    assert_int_equal(chmod(path, 0640), 0);
    assert_false(ims_flow_keys_open(&k2, dir, err));
    assert_non_null(strstr(err, "only its owner"));
    assert_int_equal(chmod(path, 0600), 0);

    f = fopen(path, "w");
    assert_non_null(f);
    fputs("garbage\n", f);
    fclose(f);
    assert_false(ims_flow_keys_open(&k2, dir, err));

    unlink(path);
    assert_int_equal(symlink("/dev/null", path), 0);
    assert_false(ims_flow_keys_open(&k2, dir, err));

    clean(dir);
    assert_false(ims_flow_keys_open(&k2, dir, err));     /* no directory */
}


/* several masters that start at once get one key */

static void
key_race(void **state)
{
    int              fd[2], i, j, status;
    char             dir[64], err[IMS_FLOW_KEY_ERR_LEN];
    pid_t            pid[4];
    uint8_t          first[30], next[30], out[IMS_FLOW_TOKEN_MAX];
    ims_flow_keys_t  keys;

    (void) state;

    for (j = 0; j < 20; j++) {
        scratch(dir, sizeof(dir));
        assert_int_equal(pipe(fd), 0);

        for (i = 0; i < 4; i++) {
            pid[i] = fork();
            assert_true(pid[i] >= 0);

            if (pid[i] == 0) {
                if (!ims_flow_keys_open(&keys, dir, err)) {
                    _exit(1);
                }

                ims_flow_token_path(&keys, &id, out);
                _exit(write(fd[1], out, 30) == 30 ? 0 : 1);
            }
        }

        for (i = 0; i < 4; i++) {
            assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
            assert_int_equal(status, 0);
            assert_int_equal(read(fd[0], i ? next : first, 30), 30);

            if (i) {
                assert_memory_equal(first, next, 30);
            }
        }

        close(fd[0]);
        close(fd[1]);
        clean(dir);
    }
}


static const ims_str_t  routes[] = {
    ims_str("sip:scscf.ims.example;lr"),
    ims_str("sip:10.0.0.1:5060;lr")
};

static ims_flow_dialog_t
dialog(void)
{
    return (ims_flow_dialog_t) {
        .call_id = IMS_STR("a84b4c76e66710@host.invalid"),
        .wic_tag = IMS_STR("1928301774"),
        .far_tag = IMS_STR("a6c85cf"),
        .routes = routes,
        .nroutes = 2
    };
}


/*
 * Every character changed to every other, every cut, every extension: nothing
 * of it is taken.
 */

static void
token_mutations(const ims_flow_keys_t *keys, const uint8_t *text, size_t n,
    bool wic)
{
    size_t               i, c;
    uint8_t              bad[IMS_FLOW_TOKEN_MAX + 1];
    ims_flow_token_t     tok;
    ims_flow_dialog_t    d;
    ims_flow_token_rc_t  rc;

    d = dialog();

    for (i = 0; i < n; i++) {
        for (c = 0; c < 256; c++) {
            memcpy(bad, text, n);

            if (bad[i] == c) {
                continue;
            }

            bad[i] = (uint8_t) c;
            rc = wic ? ims_flow_token_wic(keys, ims_str_set(bad, n), &d, &tok)
                     : ims_flow_token_core(keys, ims_str_set(bad, n),
                                           d.call_id, &tok);

            /* the core is not checked for the second MAC, at 30 of 40 */

            if (!wic && n == 40 && rc == IMS_FLOW_TOKEN_OK) {
                assert_true(i >= 29);
                continue;
            }

            assert_int_not_equal(rc, IMS_FLOW_TOKEN_OK);
        }
    }

    for (i = 0; i <= n + 1; i++) {
        memcpy(bad, text, n);
        bad[n] = 'A';

        if (i != n) {
            assert_int_equal(ims_flow_token_core(keys, ims_str_set(bad, i),
                                                 d.call_id, &tok),
                             IMS_FLOW_TOKEN_MALFORMED);
        }
    }
}


static void
token_path(void **state)
{
    size_t            n;
    uint8_t           out[IMS_FLOW_TOKEN_MAX];
    ims_flow_keys_t   a, b, ab;
    ims_flow_token_t  tok;

    (void) state;

    a = keys_of("7 " KEY_A);
    b = keys_of("7 " KEY_B);
    ab = keys_of("8 " KEY_B "\n7 " KEY_A);

    n = ims_flow_token_path(&a, &id, out);
    assert_int_equal(n, 30);

    assert_int_equal(ims_flow_token_core(&a, ims_str_set(out, n),
                                         IMS_STR("any"), &tok),
                     IMS_FLOW_TOKEN_OK);
    assert_int_equal(tok.kind, IMS_FLOW_TOKEN_PATH);
    assert_int_equal(tok.id.node, id.node);
    assert_int_equal(tok.id.slot, id.slot);
    assert_int_equal(tok.id.generation, id.generation);

    /* another key, and the older of two */

    assert_int_equal(ims_flow_token_core(&b, ims_str_set(out, n),
                                         IMS_STR_NULL, &tok),
                     IMS_FLOW_TOKEN_FORGED);
    assert_int_equal(ims_flow_token_core(&ab, ims_str_set(out, n),
                                         IMS_STR_NULL, &tok),
                     IMS_FLOW_TOKEN_OK);

    /* not for a WIC */

    {
        ims_flow_dialog_t  d = dialog();

        assert_int_equal(ims_flow_token_wic(&a, ims_str_set(out, n), &d, &tok),
                         IMS_FLOW_TOKEN_FORGED);
    }

    token_mutations(&a, out, n, false);
}


static void
token_rr(void **state)
{
    size_t             n;
    uint8_t            out[IMS_FLOW_TOKEN_MAX];
    ims_flow_keys_t    a;
    ims_flow_token_t   tok;
    ims_flow_dialog_t  d;

    (void) state;

    a = keys_of("7 " KEY_A);
    d = dialog();

    n = ims_flow_token_rr(&a, &id, d.call_id, out);
    assert_int_equal(n, 30);

    assert_int_equal(ims_flow_token_core(&a, ims_str_set(out, n), d.call_id,
                                         &tok),
                     IMS_FLOW_TOKEN_OK);
    assert_int_equal(tok.kind, IMS_FLOW_TOKEN_RR);
    assert_int_equal(tok.id.slot, id.slot);

    /* good in one dialog only, and never as a WIC's */

    assert_int_equal(ims_flow_token_core(&a, ims_str_set(out, n),
                                         IMS_STR("other"), &tok),
                     IMS_FLOW_TOKEN_FORGED);
    assert_int_equal(ims_flow_token_core(&a, ims_str_set(out, n),
                                         IMS_STR_NULL, &tok),
                     IMS_FLOW_TOKEN_FORGED);
    assert_int_equal(ims_flow_token_wic(&a, ims_str_set(out, n), &d, &tok),
                     IMS_FLOW_TOKEN_FORGED);

    token_mutations(&a, out, n, false);
}


/* for NOTIFYs of one subscription, and nothing but that is good for them */

static void
token_event(void **state)
{
    size_t             i, c, n;
    uint8_t            out[IMS_FLOW_TOKEN_MAX], bad[IMS_FLOW_TOKEN_MAX + 1];
    ims_flow_keys_t    a, b;
    ims_flow_token_t   tok;
    ims_flow_dialog_t  d;

    (void) state;

    a = keys_of("7 " KEY_A);
    b = keys_of("7 " KEY_B);
    d = dialog();

    n = ims_flow_token_event(&a, &id, d.call_id, out);
    assert_int_equal(n, 30);

#define check(keys, text, len, call, expect)                                  \
    assert_int_equal(ims_flow_token_event_core(keys, ims_str_set(text, len),  \
                                               call, &tok), expect)

    check(&a, out, n, d.call_id, IMS_FLOW_TOKEN_OK);
    assert_int_equal(tok.kind, IMS_FLOW_TOKEN_EVENT);
    assert_int_equal(tok.id.slot, id.slot);
    assert_int_equal(tok.id.generation, id.generation);

    check(&a, out, n, IMS_STR("other"), IMS_FLOW_TOKEN_FORGED);
    check(&a, out, n, IMS_STR_NULL, IMS_FLOW_TOKEN_FORGED);
    check(&b, out, n, d.call_id, IMS_FLOW_TOKEN_FORGED);

    /* no Path, no Record-Route */

    assert_int_equal(ims_flow_token_core(&a, ims_str_set(out, n), d.call_id,
                                         &tok),
                     IMS_FLOW_TOKEN_FORGED);
    assert_int_equal(ims_flow_token_wic(&a, ims_str_set(out, n), &d, &tok),
                     IMS_FLOW_TOKEN_FORGED);

    for (i = 0; i < n; i++) {
        for (c = 0; c < 256; c++) {
            memcpy(bad, out, n);
            bad[i] = (uint8_t) c;

            if (bad[i] != out[i]) {
                assert_int_not_equal(ims_flow_token_event_core(&a,
                                         ims_str_set(bad, n), d.call_id, &tok),
                                     IMS_FLOW_TOKEN_OK);
            }
        }
    }

    /* nor is any of the others one, with its own kind or with this one */

    n = ims_flow_token_path(&a, &id, bad);
    check(&a, bad, n, d.call_id, IMS_FLOW_TOKEN_MALFORMED);
    memcpy(bad, out, 2);
    check(&a, bad, n, d.call_id, IMS_FLOW_TOKEN_FORGED);
    check(&a, bad, n, IMS_STR_NULL, IMS_FLOW_TOKEN_FORGED);

    n = ims_flow_token_rr(&a, &id, d.call_id, bad);
    check(&a, bad, n, d.call_id, IMS_FLOW_TOKEN_MALFORMED);
    memcpy(bad, out, 2);
    check(&a, bad, n, d.call_id, IMS_FLOW_TOKEN_FORGED);

    n = ims_flow_token_rr_wic(&a, IMS_FLOW_TOKEN_RR_TERM, &id, &d, bad);
    check(&a, bad, n, d.call_id, IMS_FLOW_TOKEN_MALFORMED);
    memcpy(bad, out, 2);
    check(&a, bad, n, d.call_id, IMS_FLOW_TOKEN_MALFORMED);

#undef check
}


/* each thing that the second MAC covers, changed */

static void
token_rr_wic(void **state)
{
    size_t             n, k;
    uint8_t            out[IMS_FLOW_TOKEN_MAX];
    ims_str_t          swapped[2] = { routes[1], routes[0] };
    ims_str_t          joined[1] = {
                           ims_str("sip:scscf.ims.example;lr"
                                   "sip:10.0.0.1:5060;lr") };
    ims_flow_keys_t    a;
    ims_flow_token_t   tok;
    ims_flow_dialog_t  d, e;

    static const ims_flow_token_kind_t  kinds[] = {
        IMS_FLOW_TOKEN_RR_ORIG, IMS_FLOW_TOKEN_RR_TERM
    };

    (void) state;

    a = keys_of("7 " KEY_A);
    d = dialog();

#define check(field, value, expect)                                           \
    e = d;                                                                    \
    e.field = value;                                                          \
    assert_int_equal(ims_flow_token_wic(&a, ims_str_set(out, n), &e, &tok),   \
                     expect)

    for (k = 0; k < 2; k++) {
        n = ims_flow_token_rr_wic(&a, kinds[k], &id, &d, out);
        assert_int_equal(n, 40);

        check(nroutes, 2, IMS_FLOW_TOKEN_OK);
        assert_int_equal(tok.kind, kinds[k]);
        assert_int_equal(tok.id.generation, id.generation);

        check(call_id, IMS_STR("other"), IMS_FLOW_TOKEN_FORGED);
        check(far_tag, IMS_STR("other"), IMS_FLOW_TOKEN_FORGED);
        check(far_tag, IMS_STR_NULL, IMS_FLOW_TOKEN_FORGED);
        check(nroutes, 1, IMS_FLOW_TOKEN_FORGED);
        check(nroutes, 0, IMS_FLOW_TOKEN_FORGED);
        check(nroutes, IMS_FLOW_ROUTES_MAX + 1, IMS_FLOW_TOKEN_FORGED);
        check(routes, swapped, IMS_FLOW_TOKEN_FORGED);

        e = d;
        e.routes = joined;
        e.nroutes = 1;
        assert_int_equal(ims_flow_token_wic(&a, ims_str_set(out, n), &e, &tok),
                         IMS_FLOW_TOKEN_FORGED);

        check(wic_tag, IMS_STR("other"),
              kinds[k] == IMS_FLOW_TOKEN_RR_TERM ? IMS_FLOW_TOKEN_OK
                                                 : IMS_FLOW_TOKEN_FORGED);

        /* the core gets it back too, and is checked for the Call-ID */

        assert_int_equal(ims_flow_token_core(&a, ims_str_set(out, n),
                                             d.call_id, &tok),
                         IMS_FLOW_TOKEN_OK);
        assert_int_equal(ims_flow_token_core(&a, ims_str_set(out, n),
                                             IMS_STR("x"), &tok),
                         IMS_FLOW_TOKEN_FORGED);

        token_mutations(&a, out, n, true);
        token_mutations(&a, out, n, false);
    }

    e = d;
    e.nroutes = IMS_FLOW_ROUTES_MAX + 1;
    assert_int_equal(ims_flow_token_rr_wic(&a, kinds[0], &id, &e, out), 0);

#undef check
}


static void
token_foreign(void **state)
{
    size_t            i;
    ims_flow_keys_t   a;
    ims_flow_token_t  tok;

    static const char  *bad[] = {
        "", "alice", "web-000001", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "%00%00",
        "AQcAAQAAAE3erb7vAAAAAAAAAAAAA=", "AQcAAQAAAE3erb7vAAAAAAAAAA+/"
    };

    (void) state;

    a = keys_of("7 " KEY_A);

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(ims_flow_token_core(&a, ims_str_z(bad[i]),
                                             IMS_STR_NULL, &tok),
                         IMS_FLOW_TOKEN_MALFORMED);
    }
}


static ims_flow_branch_t
branch(void)
{
    return (ims_flow_branch_t) {
        .direction = 1,
        .attempt = 0,
        .cseq = 4711,
        .via_sent_by = IMS_STR("df7jal23ls0d.invalid"),
        .via_branch = IMS_STR("z9hG4bK56sdasks"),
        .call_id = IMS_STR("asidkj3ss"),
        .from_tag = IMS_STR("asdyka899"),
        .r_uri = IMS_STR("sip:ims.example")
    };
}


static void
branch_make(void **state)
{
    size_t             i, n, m;
    uint8_t            one[IMS_FLOW_BRANCH_MAX], two[IMS_FLOW_BRANCH_MAX];
    ims_flow_id_t      got, other;
    ims_flow_keys_t    a, b;
    ims_flow_branch_t  x, y;

    (void) state;

    a = keys_of("7 " KEY_A);
    b = keys_of("7 " KEY_B);
    x = branch();

    n = ims_flow_branch_make(&a, &id, &x, one);
    assert_int_equal(n, 41);
    assert_memory_equal(one, "z9hG4bK", 7);

    for (i = 7; i < n; i++) {
        assert_true((one[i] >= 'a' && one[i] <= 'z')
                    || (one[i] >= '0' && one[i] <= '9'));
    }

    assert_true(ims_flow_branch_parse(ims_str_set(one, n), &got));
    assert_int_equal(got.node, id.node);
    assert_int_equal(got.slot, id.slot);
    assert_int_equal(got.generation, id.generation);

    assert_int_equal(ims_flow_branch_verify(&a, ims_str_set(one, n), &x, &got),
                     IMS_FLOW_TOKEN_OK);
    assert_int_equal(ims_flow_branch_verify(&b, ims_str_set(one, n), &x, &got),
                     IMS_FLOW_TOKEN_FORGED);

    /* a peer may return it in capitals */

    for (i = 0; i < n; i++) {
        two[i] = one[i] >= 'a' && one[i] <= 'z' ? (uint8_t) (one[i] - 32)
                                                : one[i];
    }

    assert_int_equal(ims_flow_branch_verify(&a, ims_str_set(two, n), &x, &got),
                     IMS_FLOW_TOKEN_OK);

    /* each part makes a difference, and parts do not flow together */

#define differs(field, value)                                                 \
    y = x;                                                                    \
    y.field = value;                                                          \
    m = ims_flow_branch_make(&a, &id, &y, two);                               \
    assert_int_equal(m, n);                                                   \
    assert_memory_not_equal(one, two, n);                                     \
    assert_int_equal(ims_flow_branch_verify(&a, ims_str_set(one, n), &y,      \
                                            &got),                            \
                     IMS_FLOW_TOKEN_FORGED)

    differs(direction, 2);
    differs(attempt, 1);
    differs(cseq, 4712);
    differs(via_sent_by, IMS_STR("df7jal23ls0d.invalidz"));
    differs(via_branch, IMS_STR("9hG4bK56sdasks"));
    differs(call_id, IMS_STR("asidkj3s"));
    differs(from_tag, IMS_STR_NULL);
    differs(r_uri, IMS_STR("sip:IMS.example"));

#undef differs

    other = id;
    other.generation++;
    ims_flow_branch_make(&a, &other, &x, two);
    assert_memory_not_equal(one, two, n);
}


static void
branch_foreign(void **state)
{
    size_t             i, n;
    uint8_t            one[IMS_FLOW_BRANCH_MAX], bad[IMS_FLOW_BRANCH_MAX + 1];
    unsigned           bit;
    ims_flow_id_t      got;
    ims_flow_keys_t    a;
    ims_flow_branch_t  x;

    (void) state;

    a = keys_of("7 " KEY_A);
    x = branch();
    n = ims_flow_branch_make(&a, &id, &x, one);

    assert_false(ims_flow_branch_parse(IMS_STR_NULL, &got));
    assert_false(ims_flow_branch_parse(IMS_STR("z9hG4bK"), &got));
    assert_false(ims_flow_branch_parse(IMS_STR("z9hG4bKnashds8"), &got));

    for (i = 0; i < n; i++) {
        assert_false(ims_flow_branch_parse(ims_str_set(one, i), &got));

        for (bit = 0; bit < 8; bit++) {
            memcpy(bad, one, n);
            bad[i] ^= (uint8_t) (1u << bit);

            if (ims_lower(bad[i]) == ims_lower(one[i])) {
                continue;
            }

            assert_int_not_equal(ims_flow_branch_verify(&a,
                                                        ims_str_set(bad, n),
                                                        &x, &got),
                                 IMS_FLOW_TOKEN_OK);
        }
    }

    memcpy(bad, one, n);
    bad[n] = '0';
    assert_false(ims_flow_branch_parse(ims_str_set(bad, n + 1), &got));
}


static ims_flow_dgram_t
dgram(void)
{
    ims_flow_dgram_t  d;

    memset(&d, 0, sizeof(d));

    d.kind = IMS_FLOW_DGRAM_RESPONSE;
    d.node = 1;
    d.slot = 0x01020304;
    d.generation = 0xfffefdfc;
    d.arg = 0x1122334455667788ull;
    d.worker = 0x8877665544332211ull;
    d.serial = 3;
    d.link = 0x80000001;
    d.transport = 2;
    d.addr_len = 28;
    memset(d.addr, 0x5a, 28);

    return d;
}


static void
dgram_round(void **state)
{
    size_t            n, i, cap;
    uint8_t           buf[512], bad[512];
    unsigned          bit;
    struct iovec      iov[3] = {
                          { (void *) "SIP/2.0 ", 8 }, { NULL, 0 },
                          { (void *) "200 OK\r\n\r\n", 10 } };
    ims_flow_keys_t   a, b, c;
    ims_flow_dgram_t  d, e;

    (void) state;

    a = keys_of("7 " KEY_A);
    b = keys_of("7 " KEY_B);
    c = keys_of("9 " KEY_A);
    d = dgram();

    n = ims_flow_dgram_encode(&a, &d, iov, 3, buf, sizeof(buf));
    assert_int_equal(n, 18 + IMS_FLOW_DGRAM_OVERHEAD);

    assert_int_equal(ims_flow_dgram_decode(&a, buf, n, &e),
                     IMS_FLOW_DGRAM_OK);
    assert_int_equal(e.kind, d.kind);
    assert_int_equal(e.node, d.node);
    assert_int_equal(e.slot, d.slot);
    assert_int_equal(e.generation, d.generation);
    assert_true(e.arg == d.arg && e.worker == d.worker);
    assert_int_equal(e.serial, d.serial);
    assert_int_equal(e.link, d.link);
    assert_int_equal(e.transport, d.transport);
    assert_int_equal(e.addr_len, 28);
    assert_memory_equal(e.addr, d.addr, sizeof(e.addr));
    assert_true(ims_str_eq(e.msg, IMS_STR("SIP/2.0 200 OK\r\n\r\n")));

    assert_int_equal(ims_flow_dgram_decode(&b, buf, n, &e),
                     IMS_FLOW_DGRAM_BAD_MAC);
    assert_int_equal(ims_flow_dgram_decode(&c, buf, n, &e),
                     IMS_FLOW_DGRAM_BAD_MAC);

    /* each bit, each cut; in memory of its own, so that ASan sees */

    for (i = 0; i < n; i++) {
        uint8_t  *cut;

        for (bit = 0; bit < 8; bit++) {
            memcpy(bad, buf, n);
            bad[i] ^= (uint8_t) (1u << bit);
            assert_int_not_equal(ims_flow_dgram_decode(&a, bad, n, &e),
                                 IMS_FLOW_DGRAM_OK);
        }

        cut = malloc(i + 1);
        memcpy(cut, buf, i);
        assert_int_equal(ims_flow_dgram_decode(&a, cut, i, &e),
                         IMS_FLOW_DGRAM_BAD_LENGTH);
        free(cut);
    }

    memcpy(bad, buf, n);
    bad[0] = 2;
    assert_int_equal(ims_flow_dgram_decode(&a, bad, n, &e),
                     IMS_FLOW_DGRAM_BAD_VERSION);
    assert_int_equal(ims_flow_dgram_decode(&a, bad, 1, &e),
                     IMS_FLOW_DGRAM_BAD_VERSION);

    /* what does not fit is not written */

    for (cap = 0; cap < n; cap++) {
        assert_int_equal(ims_flow_dgram_encode(&a, &d, iov, 3, bad, cap), 0);
    }

    assert_int_equal(ims_flow_dgram_encode(&a, &d, iov, 3, bad, n), n);

    d.addr_len = IMS_FLOW_DGRAM_ADDR_MAX + 1;
    assert_int_equal(ims_flow_dgram_encode(&a, &d, iov, 3, bad, 512), 0);

    /* authentic, but of no kind that we know */

    d = dgram();
    d.kind = (ims_flow_dgram_kind_t) 5;
    n = ims_flow_dgram_encode(&a, &d, NULL, 0, bad, sizeof(bad));
    assert_int_equal(n, IMS_FLOW_DGRAM_OVERHEAD);
    assert_int_equal(ims_flow_dgram_decode(&a, bad, n, &e),
                     IMS_FLOW_DGRAM_BAD_KIND);
}


/* the bytes are a contract between binaries of two versions */

static void
golden(void **state)
{
    size_t             n;
    uint8_t            out[64];
    ims_flow_keys_t    a;
    ims_flow_branch_t  x;

    (void) state;

    a = keys_of("7 " KEY_A);
    x = branch();

    n = ims_flow_token_path(&a, &id, out);
    assert_true(ims_str_eq(ims_str_set(out, n),
                           IMS_STR("AQcAAQAAAE3erb7v31l_bISadA7Dig")));

    n = ims_flow_token_rr(&a, &id, IMS_STR("c"), out);
    assert_true(ims_str_eq(ims_str_set(out, n),
                           IMS_STR("AgcAAQAAAE3erb7v3jwirhZ2NUFHPA")));

    n = ims_flow_token_event(&a, &id, IMS_STR("c"), out);
    assert_true(ims_str_eq(ims_str_set(out, n),
                           IMS_STR("BQcAAQAAAE3erb7vUM2WKXNOO3DNqA")));

    n = ims_flow_branch_make(&a, &id, &x, out);
    assert_true(ims_str_eq(ims_str_set(out, n), IMS_STR("z9hG4bK"
                           "0s002000016ttbdutthmogmm5vrmse0ino")));
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(siphash_vectors),
        cmocka_unit_test(key_text),
        cmocka_unit_test(key_file),
        cmocka_unit_test(key_race),
        cmocka_unit_test(token_path),
        cmocka_unit_test(token_rr),
        cmocka_unit_test(token_event),
        cmocka_unit_test(token_rr_wic),
        cmocka_unit_test(token_foreign),
        cmocka_unit_test(branch_make),
        cmocka_unit_test(branch_foreign),
        cmocka_unit_test(dgram_round),
        cmocka_unit_test(golden),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
