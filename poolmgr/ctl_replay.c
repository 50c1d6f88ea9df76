/*
 * Copyright (C) nginx-ims contributors
 *
 * ims-poolctl hold replay: the history log, line by line, to the daemon.
 *
 * Half a line, as a full disk or a power cut leaves it, is passed over: its
 * lease was not told.  A whole one that cannot be read, or that a later version
 * has written, may be anything: then nothing is proven.
 */

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl.h"


#define CTL_REPLAY_LINES  500           /* a command */
#define CTL_REPLAY_BYTES  (256 * 1024)
#define CTL_REPLAY_LINE   ((IMS_POOL_IMPUS + 4) * (IMS_POOL_URI_MAX + 1))


/* lines of a command */
typedef struct {
    ctl_t          *ctl;
    char           *text;
    size_t          n;
    unsigned        lines;
    uint64_t        passed;             /* halves */
    int             rc;
} ctl_replay_t;


static int ctl_replay_end(ctl_t *ctl);
static int ctl_replay_call(ctl_t *ctl, const char *word, const char *inode,
    const char *dev);
static int ctl_replay_file(ctl_replay_t *r, const char *path);
static void ctl_replay_lines(ctl_replay_t *r, FILE *f, const char *path);
static bool ctl_replay_line(ctl_replay_t *r, const char *line, size_t n);
static bool ctl_replay_event(ctl_replay_t *r, const json_t *o);
static bool ctl_replay_begin(ctl_replay_t *r, const json_t *o);
static bool ctl_replay_start(ctl_replay_t *r, const json_t *o);
static void ctl_replay_word(ctl_replay_t *r, char before, const char *word);
static void ctl_replay_send(ctl_replay_t *r);


int
ctl_hold_replay(ctl_t *ctl, unsigned argc, char **argv)
{
    int           rc;
    unsigned      i;
    ctl_replay_t  r;

    memset(&r, 0, sizeof(r));
    r.ctl = ctl;

    /* one command's lines, and one line more */

    r.text = malloc(CTL_REPLAY_BYTES + CTL_REPLAY_LINE);

    if (r.text == NULL) {
        ctl_error("no memory");
        return CTL_REFUSED;
    }

    rc = ctl_replay_call(ctl, "BEGIN", NULL, NULL);

    for (i = 0; rc == CTL_OK && i < argc; i++) {
        rc = ctl_replay_file(&r, argv[i]);
    }

    free(r.text);

    if (r.passed) {
        ctl_error("%llu half lines were passed over",
                  (unsigned long long) r.passed);
    }

    return rc == CTL_OK ? ctl_replay_end(ctl) : rc;
}


static int
ctl_replay_end(ctl_t *ctl)
{
    const char  *args[2];

    args[0] = "REPLAY";
    args[1] = "END";

    return ctl_pairs(ctl, args, 2);
}


static int
ctl_replay_call(ctl_t *ctl, const char *word, const char *inode,
    const char *dev)
{
    int          rc;
    const char  *args[4];
    redisReply  *reply;

    args[0] = "REPLAY";
    args[1] = word;
    args[2] = inode;
    args[3] = dev;

    rc = ctl_ask(ctl, inode ? 4 : 2, args, &reply);

    if (rc != CTL_OK) {
        return rc;
    }

    freeReplyObject(reply);

    return CTL_OK;
}


static int
ctl_replay_file(ctl_replay_t *r, const char *path)
{
    char          inode[24], dev[24];
    FILE         *f;
    struct stat   sb;

    f = fopen(path, "re");

    if (f == NULL || fstat(fileno(f), &sb) == -1) {
        ctl_error("\"%s\": %s", path, strerror(errno));

        if (f != NULL) {
            fclose(f);
        }

        return CTL_REFUSED;
    }

    snprintf(inode, sizeof(inode), "%llu", (unsigned long long) sb.st_ino);
    snprintf(dev, sizeof(dev), "%llu", (unsigned long long) sb.st_dev);

    r->rc = ctl_replay_call(r->ctl, "FILE", inode, dev);
    ctl_replay_lines(r, f, path);
    fclose(f);
    ctl_replay_send(r);

    return r->rc;
}


static void
ctl_replay_lines(ctl_replay_t *r, FILE *f, const char *path)
{
    char      *line;
    size_t     cap;
    ssize_t    n;
    uint64_t   no;

    line = NULL;
    cap = 0;
    no = 0;

    while (r->rc == CTL_OK && (n = getline(&line, &cap, f)) > 0) {
        no++;

        if (!ctl_replay_line(r, line, (size_t) n)) {
            ctl_error("\"%s\": line %llu cannot be read: nothing is proven",
                      path, (unsigned long long) no);
            r->rc = CTL_REFUSED;
        }
    }

    if (r->rc == CTL_OK && ferror(f)) {
        ctl_error("\"%s\": %s", path, strerror(errno));
        r->rc = CTL_REFUSED;
    }

    free(line);
}


static bool
ctl_replay_line(ctl_replay_t *r, const char *line, size_t n)
{
    bool     ok;
    size_t   from;
    json_t  *o;

    if (n < 2 || memcmp(line + n - 2, "}\n", 2) != 0) {
        /* of an empty one there is nothing to be told */
        r->passed += n > 1;
        return true;
    }

    from = r->n;
    o = json_loadb(line, n, JSON_REJECT_DUPLICATES|JSON_ALLOW_NUL, NULL);
    ok = ctl_replay_event(r, o);
    json_decref(o);

    if (!ok) {
        r->n = from;
        return false;
    }

    if (r->n == from) {
        return true;
    }

    ctl_replay_word(r, '\n', "");
    r->lines++;

    if (r->lines == CTL_REPLAY_LINES || r->n >= CTL_REPLAY_BYTES) {
        ctl_replay_send(r);
    }

    return true;
}


static bool
ctl_replay_event(ctl_replay_t *r, const json_t *o)
{
    const char  *event;

    event = json_string_value(json_object_get(o, "event"));

    if (event == NULL) {
        return false;
    }

    if (strcmp(event, "begin") == 0) {
        return ctl_replay_begin(r, o);
    }

    if (strcmp(event, "start") == 0 || strcmp(event, "file") == 0) {
        return ctl_replay_start(r, o);
    }

    /* ends prove nothing */

    return strcmp(event, "end") == 0;
}


static bool
ctl_replay_begin(ctl_replay_t *r, const json_t *o)
{
    size_t        i;
    const char   *lease, *impi;
    uint64_t      ident, id;
    const json_t *impus;

    lease = json_string_value(json_object_get(o, "lease"));
    impi = json_string_value(json_object_get(o, "impi"));
    impus = json_object_get(o, "impus");

    if (lease == NULL
        || !ims_pool_lease_parse(ims_str_z(lease), &ident, &id))
    {
        return false;
    }

    ctl_replay_word(r, '\0', "B");
    ctl_replay_word(r, '\t', lease);

    if (impi == NULL || json_array_size(impus) == 0
        || json_array_size(impus) > IMS_POOL_IMPUS)
    {
        /* the daemon knows whether they are needed */
        return true;
    }

    ctl_replay_word(r, '\t', impi);

    for (i = 0; i < json_array_size(impus); i++) {

        if (!json_is_string(json_array_get(impus, i))) {
            return false;
        }

        ctl_replay_word(r, '\t', json_string_value(json_array_get(impus, i)));
    }

    return true;
}


static bool
ctl_replay_start(ctl_replay_t *r, const json_t *o)
{
    char         incarnation[24];
    size_t       i;
    const char  *word;

    static const char *const  words[] = { "run", "last", "before" };

    snprintf(incarnation, sizeof(incarnation), "%lld", (long long)
             json_integer_value(json_object_get(o, "incarnation")));

    ctl_replay_word(r, '\0', "S");
    ctl_replay_word(r, '\t', incarnation);

    for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {

        word = json_string_value(json_object_get(o, words[i]));

        if (word == NULL) {
            return i == 2;
        }

        ctl_replay_word(r, '\t', word);
    }

    return true;
}


/* one that has a tab or an end of line would be more than one: it goes */

static void
ctl_replay_word(ctl_replay_t *r, char before, const char *word)
{
    size_t  n;

    n = strlen(word);

    if (strpbrk(word, "\t\n") != NULL || n > IMS_POOL_URI_MAX) {
        n = 0;
    }

    if (before != '\0') {
        r->text[r->n++] = before;
    }

    memcpy(r->text + r->n, word, n);
    r->n += n;
}


static void
ctl_replay_send(ctl_replay_t *r)
{
    ims_str_t    args[3];
    redisReply  *reply;

    if (r->rc != CTL_OK || r->n == 0) {
        return;
    }

    args[0] = IMS_STR("REPLAY");
    args[1] = IMS_STR("LINES");
    args[2] = ims_str_set(r->text, r->n);

    reply = ctl_call(r->ctl, 3, args);

    r->n = 0;
    r->lines = 0;

    if (reply == NULL) {
        r->rc = CTL_AWAY;

    } else if (ctl_refused(r->ctl, reply)) {
        r->rc = CTL_REFUSED;

    } else {
        freeReplyObject(reply);
    }
}
