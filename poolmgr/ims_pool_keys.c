/*
 * Copyright (C) nginx-ims contributors
 *
 * DIR/keys: the tag key and the user hash keys.  Lines of text,
 *
 *   tag <64 hex digits>
 *   hash <number> <64 hex digits>      the highest number is the current one
 *
 * outside the environment, so that neither it nor a backup of it tells who a
 * user was.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "ims_pool_wint.h"


#define IMS_POOL_KEYS_FILE   (64 + IMS_POOL_HASH_KEYS * 96)


/* tells one key from another without telling the key */

static uint64_t
ims_pool_keys_print(const uint8_t *key)
{
    uint8_t    out[8];
    ims_str_t  parts[2];

    parts[0] = IMS_STR("ims-pool key");
    parts[1] = ims_str_set(key, IMS_POOL_KEY_LEN);

    ims_sha256_parts(parts, 2, out, sizeof(out));

    return ims_pool_get64(out);
}


static bool
ims_pool_keys_add(ims_pool_keys_t *keys, uint32_t no, const uint8_t *key)
{
    unsigned  i;

    if (keys->nhash == IMS_POOL_HASH_KEYS) {
        return false;
    }

    /* newest first */

    for (i = keys->nhash; i > 0 && keys->hash[i - 1].no < no; i--) {
        keys->hash[i] = keys->hash[i - 1];
        keys->print[i] = keys->print[i - 1];
    }

    if (i > 0 && keys->hash[i - 1].no == no) {
        return false;
    }

    keys->hash[i].no = no;
    ims_hmac_key(&keys->hash[i].key, key, IMS_POOL_KEY_LEN);
    keys->print[i] = ims_pool_keys_print(key);
    keys->nhash++;

    return true;
}


static bool
ims_pool_keys_line(ims_pool_keys_t *keys, ims_str_t line, bool *tag)
{
    bool       ok;
    uint8_t    key[IMS_POOL_KEY_LEN];
    uint32_t   no;
    ims_str_t  hex, number;

    if (line.n < 2 * sizeof(key) + 4) {
        return false;
    }

    hex = ims_str_set(line.p + line.n - 2 * sizeof(key), 2 * sizeof(key));
    line.n -= hex.n;

    if (!ims_hex_decode(key, sizeof(key), hex)) {
        return false;
    }

    ok = false;

    if (ims_str_eq(line, IMS_STR("tag ")) && !*tag) {
        ims_hmac_key(&keys->tag, key, sizeof(key));
        keys->print[IMS_POOL_HASH_KEYS] = ims_pool_keys_print(key);
        *tag = true;
        ok = true;

    } else if (line.n > 6 && memcmp(line.p, "hash ", 5) == 0) {
        number = ims_str_set(line.p + 5, line.n - 6);
        ok = line.p[line.n - 1] == ' ' && ims_str_u32(number, &no) && no != 0
             && ims_pool_keys_add(keys, no, key);
    }

    explicit_bzero(key, sizeof(key));

    return ok;
}


static bool
ims_pool_keys_parse(ims_pool_keys_t *keys, const char *text, size_t n)
{
    bool         tag;
    const char  *p, *end, *last;

    memset(keys, 0, sizeof(ims_pool_keys_t));
    tag = false;
    last = text + n;

    for (p = text; p < last; p = end + 1) {
        end = memchr(p, '\n', (size_t) (last - p));

        if (end == NULL
            || !ims_pool_keys_line(keys, ims_str_set(p, (size_t) (end - p)),
                                   &tag))
        {
            return false;
        }
    }

    return tag && keys->nhash;
}


static int
ims_pool_keys_make(ims_pool_writer_t *w, uint32_t next, char *text,
    size_t cap)
{
    int      n;
    char     hex[2][2 * IMS_POOL_KEY_LEN];
    uint8_t  key[2][IMS_POOL_KEY_LEN];

    if (w->clock.random(w->clock.ctx, key, sizeof(key)) != 0) {
        return -1;
    }

    ims_hex_encode((uint8_t *) hex[0], key[0], sizeof(key[0]));
    ims_hex_encode((uint8_t *) hex[1], key[1], sizeof(key[1]));

    n = snprintf(text, cap, "tag %.*s\nhash %" PRIu32 " %.*s\n",
                 (int) sizeof(hex[0]), hex[0], next,
                 (int) sizeof(hex[1]), hex[1]);

    explicit_bzero(key, sizeof(key));
    explicit_bzero(hex, sizeof(hex));

    return ims_pool_dir_replace(w, "keys", text, (size_t) n) == -1 ? -1 : n;
}


int
ims_pool_keys_load(ims_pool_writer_t *w, uint32_t next, bool *made, char *err,
    size_t errlen)
{
    bool     ok;
    char     text[IMS_POOL_KEYS_FILE];
    ssize_t  n;

    *made = false;

    n = ims_pool_dir_read(w, "keys", text, sizeof(text));

    if (n == -1 && errno == ENOENT) {
        n = ims_pool_keys_make(w, next, text, sizeof(text));
        *made = true;
    }

    if (n == -1) {
        return ims_pool_err(err, errlen, IMS_POOL_SYSTEM, "\"%s/keys\": %s",
                            w->dir, strerror(errno));
    }

    ok = ims_pool_keys_parse(&w->keys, text, (size_t) n);
    explicit_bzero(text, sizeof(text));

    if (!ok) {
        return ims_pool_err(err, errlen, IMS_POOL_NOT_OURS,
                            "\"%s/keys\" is damaged", w->dir);
    }

    return IMS_POOL_OK;
}
