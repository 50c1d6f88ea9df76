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


static int ims_pool_keys_edit(ims_pool_writer_t *w, uint32_t drop);


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


/*
 * The file first: a key that is only in it is taken up by the next start, one
 * that is only in the environment would be lost.
 */
int
ims_pool_key_rotate(ims_pool_writer_t *w, uint32_t *no)
{
    int             rc;
    uint8_t         key[4];
    ims_pool_key_t  row;

    if (w->broken) {
        return IMS_POOL_INTERNAL;
    }

    ims_pool_be32(key, w->keys.hash[0].no);

    rc = ims_pool_w_copy(w, IMS_POOL_T_KEY, key, sizeof(key), &row,
                         sizeof(row));

    /* NOTFOUND: made by this command, and then the batch was thrown away */

    if (rc == IMS_POOL_OK) {

        if (w->keys.nhash == IMS_POOL_HASH_KEYS) {
            return IMS_POOL_EXISTS;
        }

        rc = ims_pool_keys_edit(w, 0);

    } else if (rc == IMS_POOL_NOTFOUND) {
        rc = IMS_POOL_OK;
    }

    if (rc != IMS_POOL_OK) {
        return rc;
    }

    *no = w->keys.hash[0].no;
    ims_pool_be32(key, *no);

    memset(&row, 0, sizeof(row));
    row.no = *no;
    row.print = w->keys.print[0];
    row.wall = w->wall;

    return ims_pool_w_put(w, IMS_POOL_T_KEY, key, sizeof(key), &row,
                          sizeof(row), 0);
}


int
ims_pool_key_drop(ims_pool_writer_t *w, uint32_t no)
{
    unsigned  i;

    for (i = 0; i < w->keys.nhash; i++) {
        if (w->keys.hash[i].no == no) {
            return i == 0 ? IMS_POOL_BADARG : ims_pool_keys_edit(w, no);
        }
    }

    return IMS_POOL_NOTFOUND;
}


int
ims_pool_key_list(ims_pool_writer_t *w, ims_pool_key_pt cb, void *ctx)
{
    int                 rc;
    uint8_t             key[4];
    unsigned            i;
    ims_pool_key_t      row;
    ims_pool_reader_t  *r;

    r = w->reader;

    if (ims_pool_snap(r) != IMS_POOL_OK) {
        return IMS_POOL_INTERNAL;
    }

    rc = IMS_POOL_OK;

    for (i = 0; i < w->keys.nhash; i++) {
        ims_pool_be32(key, w->keys.hash[i].no);

        if (ims_pool_row_copy(r->txn, r->dbi[IMS_POOL_T_KEY], key,
                              sizeof(key), &row, sizeof(row)) != IMS_POOL_OK)
        {
            memset(&row, 0, sizeof(row));
            row.no = w->keys.hash[i].no;
        }

        cb(ctx, &row, i == 0);
    }

    ims_pool_unsnap(r);

    return rc;
}


/* drop == 0: a new one more; else without that one */

static int
ims_pool_keys_edit(ims_pool_writer_t *w, uint32_t drop)
{
    int              rc;
    char             text[IMS_POOL_KEYS_FILE], *p, *end, *last;
    char             hex[2 * IMS_POOL_KEY_LEN], word[32];
    size_t           len;
    uint8_t          key[IMS_POOL_KEY_LEN];
    ssize_t          n;
    ims_pool_keys_t  keys;

    rc = IMS_POOL_INTERNAL;
    n = ims_pool_dir_read(w, "keys", text, sizeof(text) - 96);

    if (n <= 0) {
        return rc;
    }

    last = text + n;

    if (drop) {
        len = (size_t) snprintf(word, sizeof(word), "hash %" PRIu32 " ", drop);

        for (p = text; p < last; p = end) {
            end = memchr(p, '\n', (size_t) (last - p));
            end = end ? end + 1 : last;

            if ((size_t) (end - p) > len && memcmp(p, word, len) == 0) {
                memmove(p, end, (size_t) (last - end));
                last -= end - p;
                break;
            }
        }

    } else {

        if (w->clock.random(w->clock.ctx, key, sizeof(key)) != 0) {
            goto done;
        }

        ims_hex_encode((uint8_t *) hex, key, sizeof(key));
        last += snprintf(last, 96, "hash %" PRIu32 " %.*s\n",
                         w->keys.hash[0].no + 1, (int) sizeof(hex), hex);
    }

    if (!ims_pool_keys_parse(&keys, text, (size_t) (last - text))) {
        goto done;
    }

    if (ims_pool_dir_replace(w, "keys", text, (size_t) (last - text)) == -1) {
        rc = errno == ENOSPC ? IMS_POOL_NOSPACE : IMS_POOL_INTERNAL;

    } else {
        w->keys = keys;
        rc = IMS_POOL_OK;
    }

    explicit_bzero(&keys, sizeof(keys));

done:

    explicit_bzero(text, sizeof(text));
    explicit_bzero(hex, sizeof(hex));
    explicit_bzero(key, sizeof(key));

    return rc;
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
