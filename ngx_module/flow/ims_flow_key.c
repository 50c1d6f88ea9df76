/*
 * Copyright (C) nginx-ims contributors
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "flow/ims_flow_key.h"


#define IMS_FLOW_KEY_FILE   "flow.key"
#define IMS_FLOW_KEY_LINE   (2 * IMS_FLOW_KEY_LEN)
#define IMS_FLOW_KEY_TEXT   512
#define IMS_FLOW_KEY_PATH   4096

_Static_assert(IMS_FLOW_KEY_TEXT > IMS_FLOW_KEYS * (IMS_FLOW_KEY_LINE + 8),
               "all keys must fit the text");


static bool
ims_flow_key_err(char *err, const char *what, const char *path)
{
    snprintf(err, IMS_FLOW_KEY_ERR_LEN, "%s \"%.150s\": %s", what, path,
             strerror(errno));
    return false;
}


/* "<id> <hex>"; false if the line is anything else */

static bool
ims_flow_key_line(ims_flow_keys_t *keys, ims_str_t line)
{
    uint8_t         key[IMS_FLOW_KEY_LEN];
    uint64_t        id;
    const uint8_t  *sp;

    sp = memchr(line.p, ' ', line.n);

    if (sp == NULL
        || keys->n == IMS_FLOW_KEYS
        || !ims_str_u64(ims_str_range(line.p, sp), 255, &id)
        || id == 0
        || ims_flow_key(keys, (uint8_t) id) != NULL
        || !ims_hex_decode(key, sizeof(key),
                           ims_str_range(sp + 1, line.p + line.n)))
    {
        return false;
    }

    keys->id[keys->n] = (uint8_t) id;
    ims_hmac_key(&keys->key[keys->n], key, sizeof(key));
    keys->n++;

    explicit_bzero(key, sizeof(key));

    return true;
}


bool
ims_flow_keys_parse(ims_flow_keys_t *keys, ims_str_t text)
{
    ims_str_t       line;
    const uint8_t  *p, *end, *nl;

    memset(keys, 0, sizeof(ims_flow_keys_t));

    p = text.p;
    end = p + text.n;

    while (p < end) {
        nl = memchr(p, '\n', (size_t) (end - p));
        line = ims_str_trim(ims_str_range(p, nl ? nl : end));

        if (line.n && !ims_flow_key_line(keys, line)) {
            keys->n = 0;
            return false;
        }

        p = nl ? nl + 1 : end;
    }

    return keys->n != 0;
}


const ims_hmac_key_t *
ims_flow_key(const ims_flow_keys_t *keys, uint8_t id)
{
    unsigned  i;

    for (i = 0; i < keys->n; i++) {
        if (keys->id[i] == id) {
            return &keys->key[i];
        }
    }

    return NULL;
}


/*
 * The key is whole and synced under a name of its own before it gets the name
 * that others read; link() fails if somebody else was faster.
 */

static bool
ims_flow_key_make(const char *dir, const char *path, char *err)
{
    int       fd, n;
    bool      ok;
    char      tmp[IMS_FLOW_KEY_PATH], text[IMS_FLOW_KEY_TEXT];
    uint8_t   rnd[IMS_FLOW_KEY_LEN + 1], hex[IMS_FLOW_KEY_LINE];

    n = snprintf(tmp, sizeof(tmp), "%s/.%s.XXXXXX", dir, IMS_FLOW_KEY_FILE);

    if (n < 0 || (size_t) n >= sizeof(tmp)) {
        errno = ENAMETOOLONG;
        return ims_flow_key_err(err, "flow key", dir);
    }

    if (getrandom(rnd, sizeof(rnd), 0) != (ssize_t) sizeof(rnd)) {
        return ims_flow_key_err(err, "no randomness for", path);
    }

    /* the id is random too: tokens of a lost key are unknown, not forged */

    ims_hex_encode(hex, rnd, IMS_FLOW_KEY_LEN);
    n = snprintf(text, sizeof(text), "%u %.*s\n",
                 rnd[IMS_FLOW_KEY_LEN] % 255u + 1, IMS_FLOW_KEY_LINE,
                 (char *) hex);

    fd = mkostemp(tmp, O_CLOEXEC);          /* mode 0600 */
    if (fd == -1) {
        return ims_flow_key_err(err, "cannot create", tmp);
    }

    ok = write(fd, text, (size_t) n) == n && fsync(fd) == 0
         && (link(tmp, path) == 0 || errno == EEXIST);

    if (!ok) {
        ims_flow_key_err(err, "cannot write", path);
    }

    close(fd);
    unlink(tmp);

    explicit_bzero(rnd, sizeof(rnd));
    explicit_bzero(hex, sizeof(hex));
    explicit_bzero(text, sizeof(text));

    return ok;
}


static bool
ims_flow_key_read(ims_flow_keys_t *keys, int fd, const char *path, char *err)
{
    bool         ok;
    char         text[IMS_FLOW_KEY_TEXT];
    ssize_t      n;
    struct stat  st;

    if (fstat(fd, &st) != 0) {
        return ims_flow_key_err(err, "cannot stat", path);
    }

    if (!S_ISREG(st.st_mode) || (st.st_mode & 077)) {
        snprintf(err, IMS_FLOW_KEY_ERR_LEN,
                 "\"%.150s\" must be a file that only its owner can read",
                 path);
        return false;
    }

    n = read(fd, text, sizeof(text));
    if (n < 0) {
        return ims_flow_key_err(err, "cannot read", path);
    }

    ok = (size_t) n < sizeof(text)
         && ims_flow_keys_parse(keys, ims_str_set(text, (size_t) n));

    if (!ok) {
        snprintf(err, IMS_FLOW_KEY_ERR_LEN,
                 "\"%.150s\" is not one or two lines of id and key", path);
    }

    explicit_bzero(text, sizeof(text));

    return ok;
}


bool
ims_flow_keys_open(ims_flow_keys_t *keys, const char *dir, char *err)
{
    int   fd, n;
    bool  ok;
    char  path[IMS_FLOW_KEY_PATH];

    n = snprintf(path, sizeof(path), "%s/%s", dir, IMS_FLOW_KEY_FILE);

    if (n < 0 || (size_t) n >= sizeof(path)) {
        errno = ENAMETOOLONG;
        return ims_flow_key_err(err, "flow key", dir);
    }

    fd = open(path, O_RDONLY|O_CLOEXEC|O_NOFOLLOW);

    if (fd == -1 && errno == ENOENT) {
        if (!ims_flow_key_make(dir, path, err)) {
            return false;
        }

        fd = open(path, O_RDONLY|O_CLOEXEC|O_NOFOLLOW);
    }

    if (fd == -1) {
        return ims_flow_key_err(err, "cannot open", path);
    }

    ok = ims_flow_key_read(keys, fd, path, err);
    close(fd);

    return ok;
}
