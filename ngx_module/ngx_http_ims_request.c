
/*
 * Copyright (C) nginx-ims contributors
 *
 * Headers and cookies of a request.  The lists are gone through by name: the
 * fields that nginx keeps for some of them differ between its versions, and
 * hide that a header came twice.
 */

#include "ngx_http_ims.h"


static ngx_int_t ngx_http_ims_cookie_find(ngx_str_t *header, ngx_str_t *name,
    ngx_str_t *value);


ngx_table_elt_t *
ngx_http_ims_header_in(ngx_http_request_t *r, const char *name, ngx_uint_t *n)
{
    size_t            len;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h, *first;

    first = NULL;
    *n = 0;
    len = ngx_strlen(name);
    part = &r->headers_in.headers.part;

    for ( ; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (h[i].key.len != len
                || ngx_strncasecmp(h[i].key.data, (u_char *) name, len) != 0)
            {
                continue;
            }

            if ((*n)++ == 0) {
                first = &h[i];
            }
        }
    }

    return first;
}


ngx_int_t
ngx_http_ims_header_out(ngx_http_request_t *r, const char *name,
    ngx_str_t *value)
{
    size_t            len;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    len = ngx_strlen(name);
    part = &r->headers_out.headers.part;

    for ( ; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (h[i].hash && h[i].key.len == len
                && ngx_strncasecmp(h[i].key.data, (u_char *) name, len) == 0)
            {
                h[i].value = *value;
                return NGX_OK;
            }
        }
    }

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(h, sizeof(ngx_table_elt_t));

    h->hash = 1;
    h->key.data = (u_char *) name;
    h->key.len = len;
    h->value = *value;

    return NGX_OK;
}


ngx_int_t
ngx_http_ims_cookie_in(ngx_http_request_t *r, ngx_str_t *name,
    ngx_str_t *value)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    part = &r->headers_in.headers.part;

    for ( ; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (h[i].key.len == sizeof("cookie") - 1
                && ngx_strncasecmp(h[i].key.data, (u_char *) "cookie",
                                   sizeof("cookie") - 1)
                   == 0
                && ngx_http_ims_cookie_find(&h[i].value, name, value)
                   == NGX_OK)
            {
                return NGX_OK;
            }
        }
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_ims_cookie_find(ngx_str_t *header, ngx_str_t *name,
    ngx_str_t *value)
{
    u_char  *p, *last, *end;

    p = header->data;
    last = p + header->len;

    while (p < last) {

        while (p < last && (*p == ' ' || *p == ';')) {
            p++;
        }

        for (end = p; end < last && *end != ';'; end++) { /* void */ }

        if ((size_t) (end - p) > name->len
            && ngx_memcmp(p, name->data, name->len) == 0
            && p[name->len] == '=')
        {
            value->data = p + name->len + 1;
            value->len = end - value->data;
            return NGX_OK;
        }

        p = end;
    }

    return NGX_DECLINED;
}


u_char *
ngx_http_ims_log_text(u_char buf[NGX_HTTP_IMS_LOG_TEXT], ngx_str_t *text)
{
    size_t   i;
    u_char  *p, *last;

    p = buf;
    last = buf + NGX_HTTP_IMS_LOG_TEXT - sizeof("\\x00...");

    for (i = 0; i < text->len && p < last; i++) {
        if (text->data[i] < 0x20 || text->data[i] > 0x7e
            || text->data[i] == '"' || text->data[i] == '\\')
        {
            p = ngx_sprintf(p, "\\x%02xd", text->data[i]);

        } else {
            *p++ = text->data[i];
        }
    }

    if (i < text->len) {
        p = ngx_cpymem(p, "...", 3);
    }

    *p = '\0';

    return buf;
}
