/*
 * Copyright (C) nginx-ims contributors
 *
 * What ims-poolctl prints: for people as lines and tables, else as JSON.
 */

#include <stdlib.h>
#include <time.h>

#include <jansson.h>

#include "base/ims_clock.h"
#include "ctl.h"


#define CTL_COLUMNS        12
#define CTL_CHECK_FIGURES  6        /* of CHECK, before the faults */


typedef enum {
    CTL_TEXT = 0,
    CTL_NUMBER,
    CTL_MS,                 /* a span, ms */
    CTL_PT,                 /* pool time */
    CTL_WALL,               /* ms since 1970 */
    CTL_LIST                /* text, may be repeated: always a list in JSON */
} ctl_kind_e;


static json_t *ctl_json(const redisReply *reply);
static json_t *ctl_json_value(ctl_kind_e kind, const redisReply *value);
static json_t *ctl_json_text(const redisReply *value);
static void ctl_json_out(ctl_t *ctl, json_t *json);
static ctl_kind_e ctl_kind(const char *name);
static uint64_t ctl_now(const redisReply *reply);
static void ctl_human(char *dst, size_t cap, ctl_kind_e kind,
    const redisReply *value, uint64_t now);
static void ctl_human_time(char *dst, size_t cap, uint64_t wall);
static void ctl_human_pt(char *dst, size_t cap, uint64_t pt, uint64_t now);
static void ctl_human_text(char *dst, size_t cap, const redisReply *value);


/* all that is not plain text */
static const struct {
    const char  *name;
    ctl_kind_e   kind;
} ctl_kinds[] = {
    { "now", CTL_NUMBER },
    { "start", CTL_PT },
    { "end", CTL_PT },
    { "promised", CTL_PT },
    { "rest", CTL_PT },
    { "sid_end", CTL_PT },
    { "key", CTL_NUMBER },
    { "issuer", CTL_NUMBER },
    { "from", CTL_WALL },
    { "to", CTL_WALL },
    { "send_by", CTL_NUMBER },
    { "answer_by", CTL_NUMBER },
    { "started", CTL_WALL },
    { "created", CTL_WALL },
    { "ttl", CTL_MS },
    { "ttl_max", CTL_MS },
    { "d", CTL_MS },
    { "margin", CTL_MS },
    { "min_expires", CTL_NUMBER },
    { "identities", CTL_NUMBER },
    { "total", CTL_NUMBER },
    { "free", CTL_NUMBER },
    { "leased", CTL_NUMBER },
    { "resting", CTL_NUMBER },
    { "off", CTL_NUMBER },
    { "next_free", CTL_NUMBER },
    { "ended", CTL_NUMBER },
    { "rows", CTL_NUMBER },
    { "faults", CTL_NUMBER },
    { "bytes", CTL_NUMBER },
    { "before", CTL_NUMBER },
    { "after", CTL_NUMBER },
    { "incarnation", CTL_NUMBER },
    { "hold", CTL_NUMBER },
    { "took", CTL_MS },
    { "impu", CTL_LIST },
    { NULL, CTL_TEXT }
};


struct ctl_table_s {
    ctl_t              *ctl;
    const char *const  *columns;
    unsigned            ncolumns;
    json_t             *json;
    size_t              width[CTL_COLUMNS];
    char             ***cell;           /* rows of texts */
    size_t              rows;
    size_t              cap;
};


static ctl_kind_e
ctl_kind(const char *name)
{
    unsigned  i;

    for (i = 0; ctl_kinds[i].name != NULL; i++) {
        if (strcmp(ctl_kinds[i].name, name) == 0) {
            return ctl_kinds[i].kind;
        }
    }

    return CTL_TEXT;
}


/* --- one object ------------------------------------------------------- */

void
ctl_out_pairs(ctl_t *ctl, const redisReply *reply)
{
    char      text[1024];
    size_t    i;
    uint64_t  now;

    if (ctl->json) {
        ctl_json_out(ctl, ctl_json(reply));
        return;
    }

    now = ctl_now(reply);

    for (i = 0; i + 1 < reply->elements; i += 2) {

        ctl_human(text, sizeof(text), ctl_kind(reply->element[i]->str),
                  reply->element[i + 1], now);
        fprintf(ctl->out, "%-12s %s\n", reply->element[i]->str, text);
    }
}


static json_t *
ctl_json(const redisReply *reply)
{
    json_t      *object, *value, *list, *session;
    size_t       i;
    ctl_kind_e   kind;
    const char  *name;

    object = json_object();
    session = NULL;

    for (i = 0; i + 1 < reply->elements; i += 2) {

        name = reply->element[i]->str;
        kind = ctl_kind(name);
        value = ctl_json_value(kind, reply->element[i + 1]);

        /* sid and sid_end of a record: one object each */

        if (strcmp(name, "sid_end") == 0) {

            list = json_object_get(object, "sessions");

            if (list == NULL) {
                list = json_array();
                json_object_set_new(object, "sessions", list);
            }

            session = json_object();
            json_object_set(session, "sid", json_object_get(object, "sid"));
            json_object_set_new(session, "end", value);
            json_array_append_new(list, session);
            json_object_del(object, "sid");
            continue;
        }

        if (kind != CTL_LIST) {
            json_object_set_new(object, name, value);
            continue;
        }

        list = json_object_get(object, "impus");

        if (list == NULL) {
            list = json_array();
            json_object_set_new(object, "impus", list);
            json_object_set(object, name, value);
        }

        json_array_append_new(list, value);
    }

    return object;
}


static json_t *
ctl_json_value(ctl_kind_e kind, const redisReply *value)
{
    uint64_t  v;

    if (kind != CTL_TEXT && kind != CTL_LIST
        && ims_str_u64(ims_str_set(value->str, value->len), INT64_MAX, &v))
    {
        return json_integer((json_int_t) v);
    }

    return ctl_json_text(value);
}


/* what is not UTF-8 cannot be in JSON: it is shown with '?' in its place */

static json_t *
ctl_json_text(const redisReply *value)
{
    char    text[1024];
    json_t *json;

    json = json_stringn(value->str, value->len);

    if (json == NULL) {
        ctl_human_text(text, sizeof(text), value);
        json = json_string(text);
    }

    return json;
}


static void
ctl_json_out(ctl_t *ctl, json_t *json)
{
    json_dumpf(json, ctl->out, JSON_INDENT(2));
    fputc('\n', ctl->out);
    json_decref(json);
}


static uint64_t
ctl_now(const redisReply *reply)
{
    size_t    i;
    uint64_t  now;

    for (i = 0; i + 1 < reply->elements; i += 2) {
        if (strcmp(reply->element[i]->str, "now") == 0
            && ims_str_u64(ims_str_set(reply->element[i + 1]->str,
                                       reply->element[i + 1]->len),
                           UINT64_MAX, &now))
        {
            return now;
        }
    }

    return 0;
}


static void
ctl_human(char *dst, size_t cap, ctl_kind_e kind, const redisReply *value,
    uint64_t now)
{
    uint64_t  v;

    if (kind == CTL_TEXT || kind == CTL_LIST
        || !ims_str_u64(ims_str_set(value->str, value->len), UINT64_MAX, &v))
    {
        ctl_human_text(dst, cap, value);
        return;
    }

    switch (kind) {

    case CTL_MS:
        snprintf(dst, cap, "%llu.%03u s", (unsigned long long) v / 1000,
                 (unsigned) (v % 1000));
        break;

    case CTL_WALL:
        ctl_human_time(dst, cap, v);
        break;

    case CTL_PT:
        ctl_human_pt(dst, cap, v, now);
        break;

    default:
        snprintf(dst, cap, "%llu", (unsigned long long) v);
    }
}


static void
ctl_human_time(char *dst, size_t cap, uint64_t wall)
{
    time_t     t;
    struct tm  tm;

    if (wall == 0) {
        snprintf(dst, cap, "-");
        return;
    }

    t = (time_t) (wall / 1000);
    localtime_r(&t, &tm);

    if (strftime(dst, cap, "%Y-%m-%d %H:%M:%S", &tm) == 0) {
        dst[0] = '\0';
    }
}


/* pool time goes by the wall clock of this moment: for people, no more */

static void
ctl_human_pt(char *dst, size_t cap, uint64_t pt, uint64_t now)
{
    char      text[32];
    uint64_t  wall, span;

    if (pt == 0) {
        snprintf(dst, cap, "-");
        return;
    }

    wall = ims_wall_ms();
    span = pt > now ? pt - now : now - pt;

    ctl_human_time(text, sizeof(text), pt > now ? wall + span : wall - span);

    snprintf(dst, cap, pt > now ? "%s (in %llu s)" : "%s (%llu s ago)", text,
             (unsigned long long) (span + (pt > now ? 999 : 0)) / 1000);
}


static void
ctl_human_text(char *dst, size_t cap, const redisReply *value)
{
    size_t         i, n;
    unsigned char  ch;

    n = value->len < cap - 1 ? value->len : cap - 1;

    for (i = 0; i < n; i++) {
        ch = (unsigned char) value->str[i];
        dst[i] = (char) (ch < 0x20 || ch == 0x7f ? '?' : ch);
    }

    dst[n] = '\0';
}


/* --- tables ----------------------------------------------------------- */

ctl_table_t *
ctl_table_new(ctl_t *ctl, const char *const *columns)
{
    unsigned      i;
    ctl_table_t  *t;

    t = calloc(1, sizeof(ctl_table_t));

    if (t == NULL) {
        return NULL;
    }

    t->ctl = ctl;
    t->columns = columns;
    t->json = json_array();

    for (i = 0; columns[i] != NULL && i < CTL_COLUMNS; i++) {
        t->width[i] = strlen(columns[i]);
    }

    t->ncolumns = i;

    return t;
}


static char **
ctl_table_row(ctl_table_t *t, const redisReply *row)
{
    char        text[1024], **cell;
    size_t      i;
    uint64_t    now;
    unsigned    k;

    cell = calloc(t->ncolumns, sizeof(char *));

    if (cell == NULL) {
        return NULL;
    }

    now = ctl_now(row);

    for (i = 0; i + 1 < row->elements; i += 2) {
        for (k = 0; k < t->ncolumns; k++) {

            if (cell[k] != NULL
                || strcmp(row->element[i]->str, t->columns[k]) != 0)
            {
                continue;
            }

            ctl_human(text, sizeof(text), ctl_kind(t->columns[k]),
                      row->element[i + 1], now);

            cell[k] = strdup(text[0] ? text : "-");

            if (cell[k] != NULL && strlen(cell[k]) > t->width[k]) {
                t->width[k] = strlen(cell[k]);
            }
        }
    }

    return cell;
}


void
ctl_table_rows(ctl_table_t *t, const redisReply *rows)
{
    char    ***cell;
    size_t     i, cap;

    for (i = 0; i < rows->elements; i++) {

        if (t->ctl->json) {
            json_array_append_new(t->json, ctl_json(rows->element[i]));
            continue;
        }

        if (t->rows == t->cap) {

            cap = t->cap ? t->cap * 2 : 64;
            cell = realloc(t->cell, cap * sizeof(char **));

            if (cell == NULL) {
                ctl_error("no memory");
                return;
            }

            t->cell = cell;
            t->cap = cap;
        }

        t->cell[t->rows] = ctl_table_row(t, rows->element[i]);
        t->rows += t->cell[t->rows] != NULL;
    }
}


bool
ctl_table_empty(const ctl_table_t *t)
{
    return t->rows == 0 && json_array_size(t->json) == 0;
}


void
ctl_table_end(ctl_table_t *t)
{
    int       width;
    size_t    i;
    unsigned  k;

    if (t->ctl->json) {
        ctl_json_out(t->ctl, t->json);
        free(t);
        return;
    }

    for (k = 0; k < t->ncolumns; k++) {
        width = k + 1 < t->ncolumns ? (int) t->width[k] + 2 : 0;
        fprintf(t->ctl->out, "%-*s", width, t->columns[k]);
    }

    fputc('\n', t->ctl->out);

    for (i = 0; i < t->rows; i++) {

        for (k = 0; k < t->ncolumns; k++) {
            width = k + 1 < t->ncolumns ? (int) t->width[k] + 2 : 0;
            fprintf(t->ctl->out, "%-*s", width,
                    t->cell[i][k] ? t->cell[i][k] : "-");
            free(t->cell[i][k]);
        }

        fputc('\n', t->ctl->out);
        free(t->cell[i]);
    }

    free(t->cell);
    json_decref(t->json);
    free(t);
}


/* --- small answers ---------------------------------------------------- */

void
ctl_out_done(ctl_t *ctl, const char *name, const char *value,
    const char *text)
{
    if (ctl->json) {
        ctl_json_out(ctl, json_pack("{s:s}", name, value));
        return;
    }

    fprintf(ctl->out, "%s\n", text);
}


void
ctl_out_number(ctl_t *ctl, const char *name, uint64_t value, const char *text)
{
    if (ctl->json) {
        ctl_json_out(ctl, json_pack("{s:I}", name, (json_int_t) value));
        return;
    }

    fprintf(ctl->out, "%llu %s\n", (unsigned long long) value, text);
}


void
ctl_out_two(ctl_t *ctl, const char *name, uint64_t value, const char *name2,
    uint64_t value2)
{
    if (ctl->json) {
        ctl_json_out(ctl, json_pack("{s:I,s:I}", name, (json_int_t) value,
                                    name2, (json_int_t) value2));
        return;
    }

    fprintf(ctl->out, "%-12s %llu\n%-12s %llu\n", name,
            (unsigned long long) value, name2, (unsigned long long) value2);
}


void
ctl_out_check(ctl_t *ctl, const redisReply *reply)
{
    json_t  *object, *list;
    size_t   i;

    if (!ctl->json) {
        ctl_out_pairs(ctl, reply);
        return;
    }

    object = json_object();
    list = json_array();

    for (i = 0; i + 1 < reply->elements; i += 2) {

        if (i < 2 * CTL_CHECK_FIGURES) {
            json_object_set_new(object, reply->element[i]->str,
                                ctl_json_value(CTL_NUMBER,
                                               reply->element[i + 1]));
            continue;
        }

        json_array_append_new(list, json_pack("{s:s,s:s}",
                                              "fault", reply->element[i]->str,
                                              "at",
                                              reply->element[i + 1]->str));
    }

    json_object_set_new(object, "found", list);
    ctl_json_out(ctl, object);
}


void
ctl_out_info(ctl_t *ctl, const redisReply *reply)
{
    char      *text, *line, *save, *colon;
    json_t    *object;
    uint64_t   v;

    if (!ctl->json) {
        fprintf(ctl->out, "%.*s", (int) reply->len, reply->str);
        return;
    }

    object = json_object();
    text = strndup(reply->str, reply->len);

    for (line = text ? strtok_r(text, "\r\n", &save) : NULL;
         line != NULL;
         line = strtok_r(NULL, "\r\n", &save))
    {
        colon = strchr(line, ':');

        if (line[0] == '#' || colon == NULL) {
            continue;
        }

        *colon++ = '\0';

        json_object_set_new(object, line,
                            ims_str_u64(ims_str_z(colon), INT64_MAX, &v)
                            ? json_integer((json_int_t) v)
                            : json_string(colon));
    }

    free(text);
    ctl_json_out(ctl, object);
}
