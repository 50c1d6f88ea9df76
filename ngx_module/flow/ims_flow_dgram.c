/*
 * Copyright (C) nginx-ims contributors
 */

#include "flow/ims_flow_dgram.h"


#define IMS_DGRAM_MAC     16
#define IMS_DGRAM_HEAD    (IMS_FLOW_DGRAM_OVERHEAD - IMS_DGRAM_MAC)

/*
 * offset  0  version 1 | kind 1 | key id 1 | transport 1
 *         4  message length 4
 *         8  node 2 | address length 1 | zero 5
 *        16  slot 4 | generation 4
 *        24  arg 8
 *        32  worker 8
 *        40  serial 4 | link 4
 *        48  address 32
 *        80  zero 16, for later versions
 *        96  message, MAC 16
 */

_Static_assert(IMS_DGRAM_HEAD == 96, "layout");
_Static_assert(sizeof(((ims_flow_dgram_t *) 0)->addr) == 32, "layout");


static void
ims_dgram_put(uint8_t *p, uint64_t v, unsigned n)
{
    while (n--) {
        p[n] = (uint8_t) v;
        v >>= 8;
    }
}


static uint64_t
ims_dgram_get(const uint8_t *p, unsigned n)
{
    uint64_t  v;

    for (v = 0; n; n--) {
        v = v << 8 | *p++;
    }

    return v;
}


static void
ims_dgram_head(const ims_flow_keys_t *keys, const ims_flow_dgram_t *d,
    size_t len, uint8_t *h)
{
    memset(h, 0, IMS_DGRAM_HEAD);

    h[0] = IMS_FLOW_DGRAM_VERSION;
    h[1] = (uint8_t) d->kind;
    h[2] = keys->id[0];
    h[3] = d->transport;
    ims_dgram_put(h + 4, len, 4);
    ims_dgram_put(h + 8, d->node, 2);
    h[10] = d->addr_len;
    ims_dgram_put(h + 16, d->slot, 4);
    ims_dgram_put(h + 20, d->generation, 4);
    ims_dgram_put(h + 24, d->arg, 8);
    ims_dgram_put(h + 32, d->worker, 8);
    ims_dgram_put(h + 40, d->serial, 4);
    ims_dgram_put(h + 44, d->link, 4);
    memcpy(h + 48, d->addr, d->addr_len);
}


/*
 * The MAC is over all of the datagram before it.  It cannot be mistaken for
 * that of a token or branch made with the same key: those inputs begin with
 * the length of a short label, so with a zero byte, and this with the version.
 */

static void
ims_dgram_mac(const ims_hmac_key_t *key, const uint8_t *buf, size_t n,
    uint8_t *mac)
{
    ims_hmac(key, buf, n, mac, IMS_DGRAM_MAC);
}


size_t
ims_flow_dgram_encode(const ims_flow_keys_t *keys, const ims_flow_dgram_t *d,
    const struct iovec *iov, unsigned niov, uint8_t *buf, size_t cap)
{
    size_t    len;
    uint8_t  *p;
    unsigned  i;

    if (cap < IMS_FLOW_DGRAM_OVERHEAD
        || d->addr_len > IMS_FLOW_DGRAM_ADDR_MAX)
    {
        return 0;
    }

    cap -= IMS_FLOW_DGRAM_OVERHEAD;

    if (cap > UINT32_MAX) {
        cap = UINT32_MAX;
    }

    len = 0;
    p = buf + IMS_DGRAM_HEAD;

    for (i = 0; i < niov; i++) {
        if (iov[i].iov_len > cap - len) {
            return 0;
        }

        if (iov[i].iov_len) {
            memcpy(p + len, iov[i].iov_base, iov[i].iov_len);
            len += iov[i].iov_len;
        }
    }

    ims_dgram_head(keys, d, len, buf);
    ims_dgram_mac(&keys->key[0], buf, IMS_DGRAM_HEAD + len, p + len);

    return len + IMS_FLOW_DGRAM_OVERHEAD;
}


static bool
ims_dgram_kind_known(uint8_t kind)
{
    return kind >= IMS_FLOW_DGRAM_REQUEST && kind <= IMS_FLOW_DGRAM_TAKEN_OVER;
}


ims_flow_dgram_rc_t
ims_flow_dgram_decode(const ims_flow_keys_t *keys, const uint8_t *buf,
    size_t n, ims_flow_dgram_t *d)
{
    size_t                 len;
    uint8_t                mac[IMS_DGRAM_MAC];
    const ims_hmac_key_t  *key;

    if (n == 0) {
        return IMS_FLOW_DGRAM_BAD_LENGTH;
    }

    if (buf[0] != IMS_FLOW_DGRAM_VERSION) {
        return IMS_FLOW_DGRAM_BAD_VERSION;
    }

    if (n < IMS_FLOW_DGRAM_OVERHEAD) {
        return IMS_FLOW_DGRAM_BAD_LENGTH;
    }

    len = ims_dgram_get(buf + 4, 4);

    if (len != n - IMS_FLOW_DGRAM_OVERHEAD
        || buf[10] > IMS_FLOW_DGRAM_ADDR_MAX)
    {
        return IMS_FLOW_DGRAM_BAD_LENGTH;
    }

    key = ims_flow_key(keys, buf[2]);
    if (key == NULL) {
        return IMS_FLOW_DGRAM_BAD_MAC;
    }

    ims_dgram_mac(key, buf, n - IMS_DGRAM_MAC, mac);

    if (!ims_equal_ct(mac, buf + n - IMS_DGRAM_MAC, IMS_DGRAM_MAC)) {
        return IMS_FLOW_DGRAM_BAD_MAC;
    }

    if (!ims_dgram_kind_known(buf[1])) {
        return IMS_FLOW_DGRAM_BAD_KIND;
    }

    memset(d, 0, sizeof(ims_flow_dgram_t));

    d->kind = (ims_flow_dgram_kind_t) buf[1];
    d->transport = buf[3];
    d->node = (uint16_t) ims_dgram_get(buf + 8, 2);
    d->addr_len = buf[10];
    d->slot = (uint32_t) ims_dgram_get(buf + 16, 4);
    d->generation = (uint32_t) ims_dgram_get(buf + 20, 4);
    d->arg = ims_dgram_get(buf + 24, 8);
    d->worker = ims_dgram_get(buf + 32, 8);
    d->serial = (uint32_t) ims_dgram_get(buf + 40, 4);
    d->link = (uint32_t) ims_dgram_get(buf + 44, 4);
    memcpy(d->addr, buf + 48, d->addr_len);
    d->msg = ims_str_set(buf + IMS_DGRAM_HEAD, len);

    return IMS_FLOW_DGRAM_OK;
}
