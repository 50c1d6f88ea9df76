/*
 * Copyright (C) nginx-ims contributors
 *
 * Fuzz target: flow tokens, branches, datagrams, key file, packed identities.
 *
 * First byte: which decoder.  One of them gets datagrams with the right MAC, so
 * that what lies behind it is reached as well.
 */

#include <stdlib.h>

#include "flow/ims_flow_dgram.h"
#include "flow/ims_flow_table.h"
#include "flow/ims_flow_token.h"


#define KEY  "7 00112233445566778899aabbccddeeff"                              \
             "00112233445566778899aabbccddeeff"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);


static void
fuzz_token(const ims_flow_keys_t *keys, ims_str_t in)
{
    ims_flow_token_t   tok;
    ims_flow_dialog_t  d;
    ims_str_t          route = IMS_STR("sip:s");

    memset(&d, 0, sizeof(d));
    d.routes = &route;
    d.nroutes = 1;

    /* the key is not in the corpus: whatever is taken would be a forgery */

    if (ims_flow_token_core(keys, in, IMS_STR("c"), &tok) == IMS_FLOW_TOKEN_OK
        || ims_flow_token_wic(keys, in, &d, &tok) == IMS_FLOW_TOKEN_OK)
    {
        abort();
    }
}


static void
fuzz_branch(const ims_flow_keys_t *keys, ims_str_t in)
{
    ims_flow_id_t      id;
    ims_flow_branch_t  b;

    memset(&b, 0, sizeof(b));
    b.r_uri = in;

    (void) ims_flow_branch_parse(in, &id);

    if (ims_flow_branch_verify(keys, in, &b, &id) == IMS_FLOW_TOKEN_OK) {
        abort();
    }
}


static void
fuzz_dgram(const ims_flow_keys_t *keys, ims_str_t in, bool mac)
{
    uint8_t           *copy, *again;
    ims_flow_dgram_t   d;
    struct iovec       iov;

    if (in.n == 0) {
        return;
    }

    copy = malloc(in.n);
    memcpy(copy, in.p, in.n);

    if (mac && in.n > 16) {
        ims_hmac(&keys->key[0], copy, in.n - 16, copy + in.n - 16, 16);
    }

    if (ims_flow_dgram_decode(keys, copy, in.n, &d) == IMS_FLOW_DGRAM_OK) {
        again = malloc(in.n);
        iov.iov_base = (void *) d.msg.p;
        iov.iov_len = d.msg.n;

        if (ims_flow_dgram_encode(keys, &d, &iov, 1, again, in.n) != in.n) {
            abort();
        }

        free(again);
    }

    free(copy);
}


static void
fuzz_area(ims_str_t in)
{
    unsigned           pos, turns;
    ims_flow_data_t   *d;
    ims_flow_ident_t   id;

    d = calloc(1, sizeof(ims_flow_data_t));

    if (in.n > sizeof(ims_flow_data_t)) {
        in.n = sizeof(ims_flow_data_t);
    }

    /* the lengths first: they lie at the end of the fixed part */

    memcpy((uint8_t *) d + offsetof(ims_flow_data_t, home_len), in.p,
           in.n < sizeof(*d) - offsetof(ims_flow_data_t, home_len)
           ? in.n : sizeof(*d) - offsetof(ims_flow_data_t, home_len));

    pos = 0;
    turns = 0;

    while (ims_flow_identity(d, &pos, &id)) {
        if (++turns > sizeof(d->area)
            || id.uri.p + id.uri.n > d->area + sizeof(d->area)
            || id.route.p + id.route.n > d->area + sizeof(d->area))
        {
            abort();
        }
    }

    (void) ims_flow_home(d);
    (void) ims_flow_impi(d);
    (void) ims_flow_contact(d);

    free(d);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    ims_str_t         in;
    ims_flow_keys_t   keys, other;

    if (n == 0 || !ims_flow_keys_parse(&keys, IMS_STR(KEY))) {
        return 0;
    }

    in = ims_str_set(data + 1, n - 1);

    switch (data[0] & 7) {

    case 0:
        fuzz_token(&keys, in);
        break;

    case 1:
        fuzz_branch(&keys, in);
        break;

    case 2:
        fuzz_dgram(&keys, in, false);
        break;

    case 3:
        fuzz_dgram(&keys, in, true);
        break;

    case 4:
        fuzz_area(in);
        break;

    default:
        (void) ims_flow_keys_parse(&other, in);
    }

    return 0;
}
