/*
 * Copyright (C) nginx-ims contributors
 *
 * See mgr_hlog.h.
 */

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "base/ims_clock.h"
#include "ws/ims_utf8.h"
#include "mgr_batch.h"
#include "mgr_command.h"
#include "mgr_hlog.h"


#define MGR_HLOG_SOCKET  "/dev/log"
#define MGR_HLOG_NOISE   60             /* s between two lines about failures */


struct mgr_hlog_s {
    char             path[4096];        /* "": syslog */
    char             socket[108];
    int              fd;
    int              facility;
    bool             users;
    bool             sync;
    bool             any_fs;
    bool             torn;              /* half a line is the last one */
    bool             gap;               /* lost, and the floor has no word */
    bool             broken;            /* nor can it have */

    ims_resp_buf_t   buf;               /* lines, each ended by LF */
    uint64_t         lost;
    uint64_t         known;             /* lost, and no proof any more */
    uint64_t         written;
    uint64_t         noise;             /* when the last failure was logged */

    uint64_t         second;            /* that `stamp` is of */
    char             stamp[32];
};


static void mgr_hlog_event(void *ctx, const ims_pool_event_t *event);
static void mgr_hlog_text(ims_resp_buf_t *b, const char *name, ims_str_t s);
static void mgr_hlog_number(ims_resp_buf_t *b, const char *name, uint64_t v);
static void mgr_hlog_time(mgr_hlog_t *h, const char *name, uint64_t wall);
static void mgr_hlog_syslog(mgr_server_t *s, mgr_hlog_t *h);
static void mgr_hlog_failed(mgr_server_t *s, mgr_hlog_t *h, uint64_t lines);
static int mgr_hlog_where(mgr_hlog_t *h, const char *text);
static int mgr_hlog_file(mgr_server_t *s, mgr_hlog_t *h);
static int mgr_hlog_keeps(const mgr_hlog_t *h, int fd);
static int mgr_hlog_whole(mgr_hlog_t *h, int fd);
static int mgr_hlog_on(mgr_server_t *s, mgr_hlog_t *h, int fd);
static int mgr_hlog_begin(mgr_server_t *s, char *err, size_t errlen);
static void mgr_hlog_start(mgr_server_t *s, const char *event);
static void mgr_hlog_hex(ims_resp_buf_t *b, const char *name, uint64_t v);
static int mgr_hlog_write(mgr_server_t *s, mgr_hlog_t *h);


bool
mgr_hlog_is_file(const char *where)
{
    return strcmp(where, "none") != 0
           && !(strncmp(where, "syslog", 6) == 0
                && strchr(":@", where[6]) != NULL);
}


int
mgr_hlog_open(mgr_server_t *s, const mgr_hlog_options_t *o, char *err,
    size_t errlen)
{
    mgr_hlog_t  *h;

    if (strcmp(o->where, "none") == 0) {
        return mgr_hlog_begin(s, err, errlen);
    }

    h = calloc(1, sizeof(mgr_hlog_t));

    if (h == NULL) {
        snprintf(err, errlen, "no memory");
        return -1;
    }

    h->fd = -1;
    h->users = o->users;
    h->sync = o->sync;
    h->any_fs = o->any_fs;
    h->facility = LOG_AUTHPRIV;

    if (!mgr_hlog_is_file(o->where)) {

        if (mgr_hlog_where(h, o->where + 6) != 0) {
            snprintf(err, errlen, "no such facility or socket: \"%s\"",
                     o->where);
            free(h);
            return -1;
        }

    } else {
        snprintf(h->path, sizeof(h->path), "%s", o->where);

        if (mgr_hlog_file(s, h) != 0) {
            snprintf(err, errlen, "cannot write \"%s\": %s", h->path,
                     strerror(errno));
            free(h);
            return -1;
        }
    }

    if (ims_pool_events(s->pool, mgr_hlog_event, s, o->users) != IMS_POOL_OK)
    {
        snprintf(err, errlen, "no memory");

        if (h->fd != -1) {
            close(h->fd);
        }

        free(h);
        return -1;
    }

    s->hlog = h;

    return mgr_hlog_begin(s, err, errlen);
}


/* the file that is open is kept until the other one is as good */

static int
mgr_hlog_file(mgr_server_t *s, mgr_hlog_t *h)
{
    int   fd, err;
    bool  torn;

    torn = h->torn;
    fd = open(h->path, (h->sync ? O_RDWR : O_WRONLY)
                       |O_APPEND|O_CREAT|O_CLOEXEC|O_NOFOLLOW, 0640);

    if (fd == -1) {
        return -1;
    }

    if (h->sync && (mgr_hlog_keeps(h, fd) == -1
                    || mgr_hlog_whole(h, fd) == -1
                    || mgr_hlog_on(s, h, fd) == -1))
    {
        err = errno;
        close(fd);
        h->torn = torn;
        errno = err;
        return -1;
    }

    if (h->fd != -1) {
        close(h->fd);
    }

    h->fd = fd;

    return 0;
}


/* what would be gone after a power cut proves nothing */

static int
mgr_hlog_keeps(const mgr_hlog_t *h, int fd)
{
    int          rc;
    const char  *name;
    struct stat  sb;

    /* a terminal, or a pipe, has nothing to be replayed */

    if (fstat(fd, &sb) == -1) {
        return -1;
    }

    if (!S_ISREG(sb.st_mode)) {
        mgr_log(MGR_LOG_ERR, "\"%s\" is no regular file, as --history-sync "
                "wants it", h->path);
        errno = EINVAL;
        return -1;
    }

    rc = h->any_fs ? IMS_POOL_OK : ims_pool_fs(fd, &name);

    if (rc == IMS_POOL_FILESYSTEM) {
        mgr_log(MGR_LOG_ERR, "\"%s\" is on %s, which does not keep what was "
                "synced", h->path, name);
        errno = ENOTSUP;
    }

    return rc == IMS_POOL_OK ? 0 : -1;
}


/* its name is on the disk, and no half line is before the next */

static int
mgr_hlog_whole(mgr_hlog_t *h, int fd)
{
    int          dir, rc;
    char         last, copy[4096];
    struct stat  sb;

    snprintf(copy, sizeof(copy), "%s", h->path);
    dir = open(dirname(copy), O_RDONLY|O_DIRECTORY|O_CLOEXEC);

    if (dir == -1) {
        return -1;
    }

    rc = fsync(dir);
    close(dir);

    if (rc == -1 || fstat(fd, &sb) == -1) {
        return -1;
    }

    if (sb.st_size == 0) {
        h->torn = false;
        return 0;
    }

    if (pread(fd, &last, 1, sb.st_size - 1) != 1) {
        errno = EIO;
        return -1;
    }

    /* its end is written before the next line */

    h->torn = last != '\n';

    return 0;
}


/*
 * From here on lines go to this file.  If the floor, or the state, cannot say
 * so then the log is no proof, as long as that can be written.
 */
static int
mgr_hlog_on(mgr_server_t *s, mgr_hlog_t *h, int fd)
{
    int          rc;
    struct stat  sb;

    if (fstat(fd, &sb) == -1) {
        return -1;
    }

    rc = ims_pool_log_on(s->pool, (uint64_t) sb.st_ino);

    if (rc == IMS_POOL_OK) {
        return 0;
    }

    mgr_log(MGR_LOG_ALERT, "history log: %s; it would not end a hold, SIGHUP "
            "begins anew", ims_pool_strerror(rc));

    if (ims_pool_log_off(s->pool) != IMS_POOL_OK) {
        h->broken = true;
        errno = EIO;
        return -1;
    }

    return 0;
}


/* what a start owes to the log, or that there is none */

static int
mgr_hlog_begin(mgr_server_t *s, char *err, size_t errlen)
{
    int          rc;
    mgr_hlog_t  *h;

    h = s->hlog;

    if (h == NULL || !h->sync) {
        rc = ims_pool_log_off(s->pool);

    } else {
        rc = ims_pool_log_late(s->pool);

        if (rc != IMS_POOL_OK) {
            mgr_log(MGR_LOG_ALERT, "history log: leases of before this start "
                    "may be missing; it begins anew");

            rc = ims_pool_log_off(s->pool);

            if (rc == IMS_POOL_OK && mgr_hlog_on(s, h, h->fd) == -1) {
                rc = IMS_POOL_SYSTEM;
            }
        }

        mgr_hlog_start(s, "start");

        if (mgr_hlog_flush(s) == -1) {
            rc = IMS_POOL_SYSTEM;
        }
    }

    if (rc != IMS_POOL_OK) {
        snprintf(err, errlen, "\"%s/floor\" cannot be written",
                 ims_pool_writer_dir(s->pool));
        return -1;
    }

    return 0;
}


void
mgr_hlog_started(mgr_server_t *s)
{
    if (s->hlog == NULL || !s->hlog->sync) {
        return;
    }

    /* of a database from elsewhere the log knows nothing: it begins anew */

    if (ims_pool_log_complete(s->pool)
        && mgr_hlog_on(s, s->hlog, s->hlog->fd) == -1)
    {
        mgr_batch_fatal(s, "the floor cannot be written");
        return;
    }

    mgr_hlog_start(s, "start");

    if (mgr_hlog_flush(s) == -1) {
        mgr_batch_fatal(s, "the floor cannot be written");
    }
}


void
mgr_hlog_reopen(mgr_server_t *s)
{
    mgr_hlog_t  *h;

    h = s->hlog;

    if (h == NULL || h->path[0] == '\0') {
        return;
    }

    if (mgr_hlog_flush(s) == -1) {
        mgr_batch_fatal(s, "the floor cannot be written");
        return;
    }

    if (mgr_hlog_file(s, h) != 0) {
        mgr_log(MGR_LOG_ERR, "cannot open \"%s\" anew: %s; the old file is "
                "written on", h->path, strerror(errno));

        if (h->broken) {
            mgr_batch_fatal(s, "the floor cannot be written");
        }

        return;
    }

    if (h->sync) {
        mgr_hlog_start(s, "file");
    }
}


void
mgr_hlog_look(mgr_server_t *s)
{
    mgr_hlog_t   *h;
    struct stat   sb;

    h = s->hlog;

    if (h == NULL || !h->sync || !ims_pool_log_complete(s->pool)
        || (fstat(h->fd, &sb) == 0 && sb.st_nlink != 0))
    {
        return;
    }

    mgr_log(MGR_LOG_ALERT, "history log: \"%s\" was removed", h->path);
    h->gap = true;

    if (mgr_hlog_flush(s) == -1) {
        mgr_batch_fatal(s, "the floor cannot be written");
    }
}


bool
mgr_hlog_alike(const mgr_server_t *s, uint64_t dev, uint64_t inode)
{
    struct stat  sb;

    return s->hlog != NULL && s->hlog->fd != -1
           && fstat(s->hlog->fd, &sb) == 0 && (uint64_t) sb.st_ino == inode
           && (uint64_t) sb.st_dev != dev;
}


void
mgr_hlog_close(mgr_server_t *s)
{
    mgr_hlog_t  *h;

    h = s->hlog;

    if (h == NULL) {
        return;
    }

    (void) mgr_hlog_flush(s);

    if (h->fd != -1) {
        close(h->fd);
    }

    ims_resp_free(&h->buf);
    free(h);
    s->hlog = NULL;
}


uint64_t
mgr_hlog_lost(mgr_server_t *s)
{
    return (s->hlog ? s->hlog->lost : 0) + ims_pool_events_lost(s->pool);
}


/* --- a line ------------------------------------------------------------------ */

static void
mgr_hlog_event(void *ctx, const ims_pool_event_t *event)
{
    size_t                    at;
    uint8_t                   text[64];
    unsigned                  i;
    mgr_hlog_t               *h;
    mgr_server_t             *s = ctx;
    ims_resp_buf_t           *b;
    static ims_pool_names_t   names;
    const ims_pool_past_t    *past;

    h = s->hlog;

    if (h == NULL) {
        return;
    }

    b = &h->buf;
    past = &event->past;
    at = b->n;

    ims_resp_raw(b, "{", 1);
    mgr_hlog_time(h, "time", event->wall);
    mgr_hlog_text(b, "event", event->kind == IMS_POOL_EV_BEGIN
                              ? IMS_STR("begin") : IMS_STR("end"));

    ims_pool_lease_format(text, past->ident, past->lease);
    mgr_hlog_text(b, "lease", ims_str_set(text, IMS_POOL_LEASE_TEXT));
    mgr_hlog_text(b, "pool",
                  ims_str_z(mgr_pool_name(s, past->pool, (char *) text)));

    if (ims_pool_names(ims_pool_writer_reader(s->pool), past->ident, &names)
        == IMS_POOL_OK)
    {
        mgr_hlog_text(b, "impi", names.impi);
        ims_resp_raw(b, ",\"impus\":[", 10);

        for (i = 0; i < names.nimpu; i++) {
            mgr_hlog_text(b, NULL, names.impu[i].given);
        }

        ims_resp_raw(b, "]", 1);
    }

    ims_b64url_encode(text, past->user, sizeof(past->user));
    mgr_hlog_text(b, "user",
                  ims_str_set(text, ims_b64url_len(IMS_POOL_HOLDER_LEN)));
    mgr_hlog_number(b, "key", past->hash_key);

    if (past->issuer) {
        mgr_hlog_number(b, "issuer", past->issuer);
    }

    if (event->realm.n) {
        mgr_hlog_text(b, "realm", event->realm);
        mgr_hlog_text(b, "name", event->user);
    }

    mgr_hlog_time(h, "from", past->start_wall);

    if (event->kind == IMS_POOL_EV_END) {
        mgr_hlog_time(h, "to", past->end_wall);
        mgr_hlog_text(b, "reason",
                      ims_str_z(ims_pool_end_text(past->reason)));
    }

    ims_resp_raw(b, "}\n", 2);

    if (b->failed) {
        b->failed = false;
        b->n = at;
        h->lost++;
    }
}


/* who replays the log knows by it that nothing is missing before */

static void
mgr_hlog_start(mgr_server_t *s, const char *event)
{
    size_t                at;
    mgr_hlog_t           *h;
    ims_resp_buf_t       *b;
    ims_pool_log_start_t  start;

    h = s->hlog;
    b = &h->buf;
    at = b->n;

    ims_pool_log_start(s->pool, &start);

    ims_resp_raw(b, "{", 1);
    mgr_hlog_time(h, "time", start.wall);
    mgr_hlog_text(b, "event", ims_str_z(event));
    mgr_hlog_number(b, "incarnation", start.incarnation);
    mgr_hlog_hex(b, "run", start.run);
    mgr_hlog_hex(b, "last", start.last);

    if (start.lost) {
        mgr_hlog_hex(b, "before", start.before);
    }

    ims_resp_raw(b, "}\n", 2);

    if (b->failed) {
        b->failed = false;
        b->n = at;
        h->lost++;
    }
}


/* "name":"value", with a comma before it where one belongs; NULL: no name */

static void
mgr_hlog_text(ims_resp_buf_t *b, const char *name, ims_str_t s)
{
    char      esc[8];
    bool      utf8;
    size_t    i, from;
    uint8_t   ch;

    if (b->n && b->p[b->n - 1] != '{' && b->p[b->n - 1] != '[') {
        ims_resp_raw(b, ",", 1);
    }

    if (name != NULL) {
        ims_resp_raw(b, "\"", 1);
        ims_resp_raw(b, name, strlen(name));
        ims_resp_raw(b, "\":", 2);
    }

    ims_resp_raw(b, "\"", 1);
    utf8 = ims_utf8_ok(s);

    for (i = 0, from = 0; i < s.n; i++) {
        ch = s.p[i];

        if (ch >= 0x20 && ch != '"' && ch != '\\' && ch != 0x7f
            && (ch < 0x80 || utf8))
        {
            continue;
        }

        /* bytes that are no text are told as the characters of that number */

        ims_resp_raw(b, s.p + from, i - from);
        ims_resp_raw(b, esc,
                     (size_t) snprintf(esc, sizeof(esc), "\\u%04x", ch));
        from = i + 1;
    }

    ims_resp_raw(b, s.p + from, s.n - from);
    ims_resp_raw(b, "\"", 1);
}


static void
mgr_hlog_number(ims_resp_buf_t *b, const char *name, uint64_t v)
{
    int   n;
    char  text[64];

    n = snprintf(text, sizeof(text), ",\"%s\":%llu", name,
                 (unsigned long long) v);
    ims_resp_raw(b, text, (size_t) n);
}


/* JSON's numbers do not reach so far */

static void
mgr_hlog_hex(ims_resp_buf_t *b, const char *name, uint64_t v)
{
    int   n;
    char  text[24];

    n = snprintf(text, sizeof(text), "%016llx", (unsigned long long) v);
    mgr_hlog_text(b, name, ims_str_set(text, (size_t) n));
}


/* RFC 3339, UTC, milliseconds; the second is formatted once */

static void
mgr_hlog_time(mgr_hlog_t *h, const char *name, uint64_t wall)
{
    int        n;
    char       text[48];
    time_t     t;
    struct tm  tm;

    if (wall == 0) {
        return;
    }

    if (h->second != wall / 1000) {
        h->second = wall / 1000;
        t = (time_t) h->second;
        gmtime_r(&t, &tm);

        if (strftime(h->stamp, sizeof(h->stamp), "%Y-%m-%dT%H:%M:%S", &tm)
            == 0)
        {
            h->stamp[0] = '\0';
        }
    }

    n = snprintf(text, sizeof(text), "%s.%03uZ", h->stamp,
                 (unsigned) (wall % 1000));
    mgr_hlog_text(&h->buf, name, ims_str_set(text, (size_t) n));
}


/* --- out ------------------------------------------------------------------------ */

int
mgr_hlog_flush(mgr_server_t *s)
{
    int          rc;
    uint64_t     lost;
    mgr_hlog_t  *h;

    h = s->hlog;

    if (h == NULL) {
        return 0;
    }

    rc = h->buf.n ? mgr_hlog_write(s, h) : 0;
    h->buf.n = 0;

    if (!h->sync) {
        return 0;
    }

    lost = mgr_hlog_lost(s);

    if (rc == -1 || lost != h->known) {
        h->gap = true;
        h->known = lost;
    }

    if (!h->gap) {
        ims_pool_log_synced(s->pool);
        return 0;
    }

    if (ims_pool_log_complete(s->pool)) {
        mgr_log(MGR_LOG_ALERT, "history log: it has gaps from here on, and "
                "would not end a hold; SIGHUP begins anew");

        if (ims_pool_log_off(s->pool) != IMS_POOL_OK) {
            return -1;
        }
    }

    h->gap = false;

    return 0;
}


/* -1: not all of it is there, or will stay */

static int
mgr_hlog_write(mgr_server_t *s, mgr_hlog_t *h)
{
    size_t   i, lines;
    ssize_t  n;

    if (h->path[0] == '\0') {
        mgr_hlog_syslog(s, h);
        return 0;
    }

    n = -1;

    /* glued to half a line the next one would be none, either */

    if (!h->torn || write(h->fd, "\n", 1) == 1) {
        h->torn = false;
        n = write(h->fd, h->buf.p, h->buf.n);
    }

    if (n != (ssize_t) h->buf.n) {

        /* of a line that was cut the rest is lost: begin with a new one */

        for (i = n < 0 ? 0 : (size_t) n, lines = 0; i < h->buf.n; i++) {
            lines += h->buf.p[i] == '\n';
        }

        if (n > 0) {
            h->torn = write(h->fd, "\n", 1) != 1;
        }

        mgr_hlog_failed(s, h, lines);

        return -1;
    }

    if (h->sync && fdatasync(h->fd) == -1) {
        mgr_log(MGR_LOG_ALERT, "history log: fdatasync: %s", strerror(errno));
        return -1;
    }

    return 0;
}


/* a datagram a line; syslog that does not read does not stop us */

static void
mgr_hlog_syslog(mgr_server_t *s, mgr_hlog_t *h)
{
    int                 n;
    char                head[64];
    size_t              i, len;
    uint64_t            lost;
    const char         *p, *end;
    struct iovec        iov[2];
    struct msghdr       msg;
    struct sockaddr_un  sun;

    if (h->fd == -1) {
        h->fd = socket(AF_UNIX, SOCK_DGRAM|SOCK_CLOEXEC|SOCK_NONBLOCK, 0);
    }

    memset(&sun, 0, sizeof(sun));
    sun.sun_family = AF_UNIX;
    memcpy(sun.sun_path, h->socket, sizeof(sun.sun_path));

    n = snprintf(head, sizeof(head), "<%d>ims-poolmgr[%ld]: ",
                 h->facility | LOG_INFO, (long) getpid());

    memset(&msg, 0, sizeof(msg));
    msg.msg_name = &sun;
    msg.msg_namelen = sizeof(sun);
    msg.msg_iov = iov;
    msg.msg_iovlen = 2;

    iov[0].iov_base = head;
    iov[0].iov_len = (size_t) n;

    lost = 0;
    p = (const char *) h->buf.p;

    for (i = 0; i < h->buf.n; i += len + 1) {
        end = memchr(p + i, '\n', h->buf.n - i);
        len = end ? (size_t) (end - p) - i : h->buf.n - i;

        iov[1].iov_base = (void *) (uintptr_t) (p + i);
        iov[1].iov_len = len;

        if (sendmsg(h->fd, &msg, MSG_NOSIGNAL) == -1) {
            lost++;
        }
    }

    if (lost) {
        mgr_hlog_failed(s, h, lost);
    }
}


static void
mgr_hlog_failed(mgr_server_t *s, mgr_hlog_t *h, uint64_t lines)
{
    int       err;
    uint64_t  now;

    (void) s;

    err = errno;
    now = ims_boottime_ms() / 1000;
    h->lost += lines;

    if (h->noise == 0 || now - h->noise >= MGR_HLOG_NOISE) {
        h->noise = now;
        mgr_log(MGR_LOG_ALERT, "history log: %s; %llu lines are lost so far",
                strerror(err), (unsigned long long) h->lost);
    }
}


/* [:FACILITY][@SOCKET] */

static int
mgr_hlog_where(mgr_hlog_t *h, const char *text)
{
    size_t       n;
    unsigned     i;
    const char  *at;

    static const struct {
        const char  *name;
        int          facility;
    } names[] = {
        { "auth", LOG_AUTH }, { "authpriv", LOG_AUTHPRIV },
        { "daemon", LOG_DAEMON }, { "user", LOG_USER },
        { "local0", LOG_LOCAL0 }, { "local1", LOG_LOCAL1 },
        { "local2", LOG_LOCAL2 }, { "local3", LOG_LOCAL3 },
        { "local4", LOG_LOCAL4 }, { "local5", LOG_LOCAL5 },
        { "local6", LOG_LOCAL6 }, { "local7", LOG_LOCAL7 },
        { NULL, 0 }
    };

    at = strchr(text, '@');
    n = at ? (size_t) (at - text) : strlen(text);

    snprintf(h->socket, sizeof(h->socket), "%s", at ? at + 1
                                                    : MGR_HLOG_SOCKET);

    if (n == 0) {
        return h->socket[0] ? 0 : -1;
    }

    for (i = 0; names[i].name != NULL; i++) {
        if (strlen(names[i].name) == n - 1
            && memcmp(names[i].name, text + 1, n - 1) == 0)
        {
            h->facility = names[i].facility;
            return h->socket[0] ? 0 : -1;
        }
    }

    return -1;
}
