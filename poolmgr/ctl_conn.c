/*
 * Copyright (C) nginx-ims contributors
 *
 * The connection to the daemon.
 */

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "ctl.h"


#define CTL_ARGS      64

#define CTL_AGAIN     20
#define CTL_AGAIN_US  100000


static int ctl_auth(ctl_t *ctl);
static bool ctl_again(ctl_t *ctl, const char *word);
static int ctl_secret(const char *path, char *secret, size_t cap);


/* what an error's first word means to people */
static const struct {
    const char  *word;
    const char  *text;
} ctl_errors[] = {
    { "EXHAUSTED", "no identity is free; the first may be in %s s" },
    { "HOLD", "nothing is given for %s s: by command, or since commits may have "
      "been lost" },
    { "ENDED", "the lease has ended, or is not of this user and session" },
    { "LATE", "the daemon was too slow: nothing was done" },
    { "NOPOOL", "there is no such pool" },
    { "NOTFOUND", "not found" },
    { "NOAUTH", "not allowed: run it as root or as the daemon's user, or give "
      "--secret-file" },
    { "WRONGPASS", "the daemon does not know this secret" },
    { "EXISTS", "it is there already" },
    { "NOTEMPTY", "the pool has identities: --all removes them, too" },
    { "DUPLICATE", "line %s" },
    { "BADROW", "line %s" },
    { "NOSPACE", "the disk or the map is full" },
    { "FAILED", "the copy failed: %s" },
    { "INTERNAL", "the daemon failed; its log says why" },
    { "UNKNOWN", "the disk failed: whether it was done is unknown; the daemon "
      "starts anew" },
    { NULL, NULL }
};


void
ctl_error(const char *fmt, ...)
{
    char     line[2048];
    va_list  args;

    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);

    /* one write a line, since there may be very many */

    fprintf(stderr, "ims-poolctl: %s\n", line);
}


int
ctl_connect(ctl_t *ctl)
{
    struct timeval  tv;

    tv.tv_sec = (time_t) ctl->timeout;
    tv.tv_usec = 0;

    ctl->redis = redisConnectUnixWithTimeout(ctl->socket, tv);

    if (ctl->redis == NULL || ctl->redis->err) {
        ctl_error("cannot reach the pool manager at \"%s\": %s", ctl->socket,
                  ctl->redis ? ctl->redis->errstr : "no memory");
        return CTL_AWAY;
    }

    redisSetTimeout(ctl->redis, tv);

    return ctl->secret_file ? ctl_auth(ctl) : CTL_OK;
}


static int
ctl_auth(ctl_t *ctl)
{
    int          rc;
    char         secret[256];
    const char  *argv[2];
    redisReply  *reply;

    rc = ctl_secret(ctl->secret_file, secret, sizeof(secret));

    if (rc != CTL_OK) {
        return rc;
    }

    argv[0] = "AUTH";
    argv[1] = secret;

    rc = ctl_ask(ctl, 2, argv, &reply);

    explicit_bzero(secret, sizeof(secret));

    if (rc != CTL_OK) {
        return rc;
    }

    freeReplyObject(reply);

    return CTL_OK;
}


/* the second word of the first line that is neither empty nor a comment */

static int
ctl_secret(const char *path, char *secret, size_t cap)
{
    FILE  *f;
    char   line[4096], *role, *word, *save;

    f = fopen(path, "re");

    if (f == NULL) {
        ctl_error("cannot read \"%s\": %s", path, strerror(errno));
        return CTL_USAGE;
    }

    word = NULL;

    while (fgets(line, sizeof(line), f) != NULL) {

        role = strtok_r(line, " \t\r\n", &save);

        if (role == NULL || role[0] == '#') {
            continue;
        }

        word = strtok_r(NULL, " \t\r\n", &save);
        break;
    }

    fclose(f);

    if (word == NULL || strlen(word) >= cap) {
        ctl_error("\"%s\" has no line \"role secret\"", path);
        return CTL_USAGE;
    }

    memcpy(secret, word, strlen(word) + 1);
    explicit_bzero(line, sizeof(line));

    return CTL_OK;
}


redisReply *
ctl_call(ctl_t *ctl, unsigned argc, const ims_str_t *argv)
{
    void  *reply;

    if (!ctl_queue(ctl, argc, argv)) {
        return NULL;
    }

    if (redisGetReply(ctl->redis, &reply) == REDIS_OK) {
        return reply;
    }

    if (ctl_again(ctl, (const char *) argv[0].p)
        && !ctl_queue(ctl, argc, argv))
    {
        return NULL;
    }

    /* another one's, or the error once more */

    return ctl_reply(ctl);
}


bool
ctl_queue(ctl_t *ctl, unsigned argc, const ims_str_t *argv)
{
    size_t       lens[CTL_ARGS];
    unsigned     i;
    const char  *args[CTL_ARGS];

    for (i = 0; i < argc; i++) {
        args[i] = (const char *) argv[i].p;
        lens[i] = argv[i].n;
    }

    if (redisAppendCommandArgv(ctl->redis, (int) argc, args, lens)
        == REDIS_OK)
    {
        return true;
    }

    ctl_error("cannot ask the pool manager: %s", ctl->redis->errstr);

    return false;
}


redisReply *
ctl_reply(ctl_t *ctl)
{
    void  *reply;

    if (redisGetReply(ctl->redis, &reply) == REDIS_OK) {
        return reply;
    }

    ctl_error("the pool manager does not answer: %s",
              ctl->redis->err == REDIS_ERR_IO ? strerror(errno)
                                              : ctl->redis->errstr);

    return NULL;
}


/*
 * The daemon closed the connection, as it does when another one takes over:
 * what only reads is asked again.
 */
static bool
ctl_again(ctl_t *ctl, const char *word)
{
    int             rc;
    unsigned        i, tries;
    struct timeval  tv;

    static const char *const  words[] = {
        "PING", "INFO", "SHOW", "LIST", "HISTORY", "CHECK"
    };

    if (ctl->redis->err != REDIS_ERR_EOF
        && !(ctl->redis->err == REDIS_ERR_IO
             && (errno == EPIPE || errno == ECONNRESET)))
    {
        return false;
    }

    for (i = 0; strcmp(words[i], word) != 0; i++) {
        if (i + 1 == sizeof(words) / sizeof(words[0])) {
            return false;
        }
    }

    tv.tv_sec = (time_t) ctl->timeout;
    tv.tv_usec = 0;

    for (tries = 0, rc = REDIS_ERR; rc != REDIS_OK && tries < CTL_AGAIN;
         tries++)
    {
        usleep(tries ? CTL_AGAIN_US : 0);
        rc = redisReconnect(ctl->redis);
    }

    if (rc != REDIS_OK) {
        return false;
    }

    redisSetTimeout(ctl->redis, tv);

    return ctl->secret_file == NULL || ctl_auth(ctl) == CTL_OK;
}


redisReply *
ctl_call_z(ctl_t *ctl, unsigned argc, const char **argv)
{
    unsigned   i;
    ims_str_t  args[CTL_ARGS];

    for (i = 0; i < argc; i++) {
        args[i] = ims_str_z(argv[i]);
    }

    return ctl_call(ctl, argc, args);
}


bool
ctl_refused(ctl_t *ctl, redisReply *reply)
{
    size_t    n;
    char      text[256];
    unsigned  i;

    (void) ctl;

    if (reply->type != REDIS_REPLY_ERROR) {
        return false;
    }

    n = strcspn(reply->str, " ");

    /* without an entry: the daemon's own text, fixed as well */

    snprintf(text, sizeof(text), "%s",
             reply->str[n] ? reply->str + n + 1 : reply->str);

    for (i = 0; ctl_errors[i].word != NULL; i++) {

        if (strlen(ctl_errors[i].word) != n
            || memcmp(ctl_errors[i].word, reply->str, n) != 0)
        {
            continue;
        }

        /* the table's own texts, one %s at most */

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(text, sizeof(text), ctl_errors[i].text,
                 reply->str[n] ? reply->str + n + 1 : "");
#pragma GCC diagnostic pop
        break;
    }

    if (reply->str[0] != '\0' && ctl_errors[i].word == NULL
        && strncmp(reply->str, "BADARG ", 7) == 0)
    {
        snprintf(text, sizeof(text), "not accepted: %s", reply->str + 7);
    }

    ctl_error("%s (%.*s)", text, (int) n, reply->str);
    freeReplyObject(reply);

    return true;
}


int
ctl_ask(ctl_t *ctl, unsigned argc, const char **argv, redisReply **reply)
{
    *reply = ctl_call_z(ctl, argc, argv);

    if (*reply == NULL) {
        return CTL_AWAY;
    }

    return ctl_refused(ctl, *reply) ? CTL_REFUSED : CTL_OK;
}
