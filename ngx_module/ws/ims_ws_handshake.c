/*
 * Copyright (C) nginx-ims contributors
 */

#include <openssl/evp.h>
#include <openssl/sha.h>

#include "ws/ims_ws_handshake.h"


#define IMS_WS_KEY_LEN  24


static bool
ims_base64_char(uint8_t c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')
           || (c >= '0' && c <= '9') || c == '+' || c == '/';
}


bool
ims_ws_key_ok(ims_str_t key)
{
    size_t  i;

    if (key.n != IMS_WS_KEY_LEN || key.p[22] != '=' || key.p[23] != '=') {
        return false;
    }

    for (i = 0; i < 22; i++) {
        if (!ims_base64_char(key.p[i])) {
            return false;
        }
    }

    /* 16 bytes are 21 characters and two bits: the last has four zero bits */

    return key.p[21] == 'A' || key.p[21] == 'Q' || key.p[21] == 'g'
           || key.p[21] == 'w';
}


void
ims_ws_accept_key(uint8_t *dst, ims_str_t key)
{
    uint8_t            digest[SHA_DIGEST_LENGTH], out[IMS_WS_ACCEPT_LEN + 1];
    uint8_t            text[IMS_WS_KEY_LEN + 36];
    static const char  guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

    /* a key that was not checked must not write beyond text */

    memset(text, 0, sizeof(text));
    memcpy(text, key.p, key.n < IMS_WS_KEY_LEN ? key.n : IMS_WS_KEY_LEN);
    memcpy(text + IMS_WS_KEY_LEN, guid, sizeof(guid) - 1);

    SHA1(text, sizeof(text), digest);

    EVP_EncodeBlock(out, digest, sizeof(digest));
    memcpy(dst, out, IMS_WS_ACCEPT_LEN);
}


bool
ims_http_token_list_next(ims_str_t *list, ims_str_t *member)
{
    size_t  n;

    while (list->n) {

        for (n = 0; n < list->n && list->p[n] != ','; n++) { /* void */ }

        *member = ims_str_trim(ims_str_set(list->p, n));

        if (n < list->n) {
            n++;
        }

        list->p += n;
        list->n -= n;

        if (member->n) {
            return true;
        }
    }

    return false;
}


bool
ims_http_token_list_has(ims_str_t list, ims_str_t token)
{
    ims_str_t  member;

    while (ims_http_token_list_next(&list, &member)) {
        if (ims_str_caseeq(member, token)) {
            return true;
        }
    }

    return false;
}
