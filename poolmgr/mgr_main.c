/*
 * Copyright (C) nginx-ims contributors
 *
 * ims-poolmgr: options, start and stop.
 */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/ims_clock.h"
#include "mgr_hlog.h"
#include "mgr_log.h"
#include "mgr_notify.h"
#include "mgr_offline.h"
#include "mgr_server.h"
#include "mgr_signal.h"
#include "mgr_user.h"


#define MGR_USAGE_EXIT   2
#define MGR_HISTORY_DAYS 180
#define MGR_RESERVE_MIB   64
#define MGR_RENEWALS_MAX  131072
#define MGR_NOFILE       (MGR_CONNECTIONS + 64)


typedef struct {
    const char  *dir;
    const char  *socket;
    const char  *user;
    const char  *group;
    const char  *secrets;
    const char  *history;
    uint64_t     keep_days;
    uint64_t     map_mib;
    uint64_t     reserve_mib;
    uint64_t     renewals;
    bool         is_volatile;
    bool         log_users;
    bool         log_sync;
    bool         init;
    bool         never_used;
    bool         test;
    const char  *backup;
    const char  *restore;
} mgr_options_t;


static int mgr_options(mgr_options_t *o, int argc, char **argv);
static int mgr_options_fit(const mgr_options_t *o, int left);
static int mgr_prepare(mgr_options_t *o, mgr_user_t *u, mgr_server_t *s);
static void mgr_pool_options(const mgr_options_t *o, const mgr_user_t *u,
    ims_pool_options_t *opt);
static int mgr_once(const mgr_options_t *o, const mgr_user_t *u);
static int mgr_open(mgr_options_t *o, mgr_user_t *u, mgr_server_t *s);
static int mgr_secrets(mgr_options_t *o, mgr_server_t *s);
static int mgr_history(mgr_options_t *o, mgr_server_t *s);
static int mgr_listen(const mgr_options_t *o, mgr_signal_t *sig);
static int mgr_run(mgr_options_t *o, mgr_user_t *u, mgr_server_t *s,
    mgr_signal_t *sig);
static void mgr_raise_nofile(void);


static const char  mgr_help[] =
"Usage: ims-poolmgr --dir DIR --socket PATH [options]\n"
"       ims-poolmgr --dir DIR --init | --backup FILE | --restore FILE\n"
"\n"
"Gives identities of a pool to users, for a time, and remembers it.\n"
"Stays in the foreground and logs to standard error.\n"
"\n"
"  -d, --dir DIR          where the pool is kept; made if it is missing\n"
"  -s, --socket PATH      Unix socket to listen on (RESP2)\n"
"  -u, --user NAME        when started by root: run as NAME (" MGR_USER ")\n"
"  -g, --group NAME       group of files and socket (" MGR_GROUP ", if it\n"
"                         exists): nginx's user must be a member\n"
"  -S, --secrets PATH     file of secrets, or directory of *.secret files\n"
"                         (DIR/secrets, made with random secrets)\n"
"      --history WHERE    a line of JSON for each lease that begins or ends:\n"
"                         a file (DIR/history.log), none, or\n"
"                         syslog[:FACILITY][@SOCKET]\n"
"      --history-users    with realms and names of users in clear\n"
"      --history-sync     each line is on the disk before its lease is told:\n"
"                         such a file can end the time without leases after\n"
"                         a restore (ims-poolctl hold replay)\n"
"      --history-keep DAYS  how long the database knows who held what after\n"
"                         the lease's end (180; 0: for ever)\n"
"      --map-size MIB     address space for the database: its limit (16384)\n"
"      --reserve MIB      of it and of the disk kept for ends of leases, at\n"
"                         most an eighth of the map (64)\n"
"      --renewals N       lengthened leases of which the records are written\n"
"                         later, many at once (as many as there are\n"
"                         identities, 1024 to 131072)\n"
"      --volatile         take any file system, tmpfs too: a power cut may\n"
"                         then lose leases.  For tests and demonstrations\n"
"  -l, --log-level LEVEL  emerg, alert, error, warn, notice (default), info\n"
"                         or debug\n"
"      --init             make the directory, and leave\n"
"      --never-used       of --init, or of a first start: the numbers are new,\n"
"                         whatever was given by a pool that was here before\n"
"      --backup FILE      write a copy of the database, and leave; a pool\n"
"                         manager may run on it meanwhile\n"
"      --restore FILE     put such a copy in place of the database, and leave:\n"
"                         all leases end, nothing is given for a time\n"
"      --test             would it start?\n"
"  -h, --help             this text\n"
"  -V, --version          version\n"
"\n"
"SIGTERM and SIGINT stop it, SIGHUP reads the secrets and opens the history\n"
"log anew, SIGUSR2 goes over to the program that now has its name.  Exit\n"
"status: 0 stopped, 1 could not start, 2 usage, 3 the disk failed (start it\n"
"again).\n";


int
main(int argc, char **argv)
{
    int                  rc;
    mgr_user_t           user;
    mgr_options_t        options;
    static mgr_server_t  server;
    static mgr_signal_t  sig;

    sig.argv = argv;
    sig.fd = -1;

    rc = mgr_options(&options, argc, argv);

    if (rc >= 0) {
        return rc;
    }

    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGUSR2, SIG_IGN);
    umask(027);
    mgr_raise_nofile();

    if (options.backup != NULL) {
        /* as whoever it is: it only reads */
        return mgr_once(&options, NULL);
    }

    if (mgr_prepare(&options, &user, &server) != 0) {
        return 1;
    }

    if (options.init || options.restore || options.test) {
        return mgr_once(&options, &user);
    }

    if (mgr_listen(&options, &sig) != 0
        || mgr_open(&options, &user, &server) != 0)
    {
        return 1;
    }

    rc = 1;
    sig.owner = user.uid;

    if (mgr_secrets(&options, &server) == 0
        && mgr_history(&options, &server) == 0)
    {
        sig.secrets = options.secrets;
        rc = mgr_run(&options, &user, &server, &sig);
    }

    mgr_hlog_close(&server);
    ims_pool_writer_close(server.pool);
    mgr_secrets_free(server.secrets);

    if (rc == MGR_EXIT_HANDOVER) {
        mgr_signal_exec(&sig);
        rc = 1;
    }

    return rc;
}


/* -1: go on, else the exit status */

static int
mgr_options(mgr_options_t *o, int argc, char **argv)
{
    int  c, level;

    static const struct option  longopts[] = {
        { "dir", required_argument, NULL, 'd' },
        { "socket", required_argument, NULL, 's' },
        { "user", required_argument, NULL, 'u' },
        { "group", required_argument, NULL, 'g' },
        { "secrets", required_argument, NULL, 'S' },
        { "history", required_argument, NULL, 'H' },
        { "history-users", no_argument, NULL, 'U' },
        { "history-sync", no_argument, NULL, 'Y' },
        { "history-keep", required_argument, NULL, 'K' },
        { "map-size", required_argument, NULL, 'm' },
        { "reserve", required_argument, NULL, 'r' },
        { "renewals", required_argument, NULL, 'W' },
        { "volatile", no_argument, NULL, 'v' },
        { "log-level", required_argument, NULL, 'l' },
        { "init", no_argument, NULL, 'I' },
        { "never-used", no_argument, NULL, 'N' },
        { "backup", required_argument, NULL, 'B' },
        { "restore", required_argument, NULL, 'R' },
        { "test", no_argument, NULL, 'T' },
        { "help", no_argument, NULL, 'h' },
        { "version", no_argument, NULL, 'V' },
        { NULL, 0, NULL, 0 }
    };

    memset(o, 0, sizeof(mgr_options_t));
    o->keep_days = MGR_HISTORY_DAYS;
    o->reserve_mib = MGR_RESERVE_MIB;

    while ((c = getopt_long(argc, argv, "d:s:u:g:S:l:hV", longopts, NULL))
           != -1)
    {
        switch (c) {

        case 'd':
            o->dir = optarg;
            break;

        case 's':
            o->socket = optarg;
            break;

        case 'u':
            o->user = optarg;
            break;

        case 'g':
            o->group = optarg;
            break;

        case 'S':
            o->secrets = optarg;
            break;

        case 'H':
            o->history = optarg;
            break;

        case 'U':
            o->log_users = true;
            break;

        case 'Y':
            o->log_sync = true;
            break;

        case 'K':
            if (!ims_str_u64(ims_str_z(optarg), 36500, &o->keep_days)) {
                fputs("ims-poolmgr: --history-keep is a number of days\n",
                      stderr);
                return MGR_USAGE_EXIT;
            }
            break;

        case 'm':
            if (!ims_str_u64(ims_str_z(optarg), 1 << 24, &o->map_mib)
                || o->map_mib == 0)
            {
                fputs("ims-poolmgr: --map-size is a number of MiB\n", stderr);
                return MGR_USAGE_EXIT;
            }
            break;

        case 'r':
            if (!ims_str_u64(ims_str_z(optarg), 1 << 20, &o->reserve_mib)) {
                fputs("ims-poolmgr: --reserve is a number of MiB\n", stderr);
                return MGR_USAGE_EXIT;
            }
            break;

        case 'W':
            if (!ims_str_u64(ims_str_z(optarg), MGR_RENEWALS_MAX, &o->renewals)
                || o->renewals == 0)
            {
                fputs("ims-poolmgr: --renewals is a number up to 131072\n",
                      stderr);
                return MGR_USAGE_EXIT;
            }
            break;

        case 'v':
            o->is_volatile = true;
            break;

        case 'l':
            level = mgr_log_level(optarg);

            if (level == -1) {
                fprintf(stderr, "ims-poolmgr: no log level \"%s\"\n", optarg);
                return MGR_USAGE_EXIT;
            }

            mgr_log_set((mgr_log_level_t) level);
            break;

        case 'I':
            o->init = true;
            break;

        case 'N':
            o->never_used = true;
            break;

        case 'B':
            o->backup = optarg;
            break;

        case 'R':
            o->restore = optarg;
            break;

        case 'T':
            o->test = true;
            break;

        case 'h':
            fputs(mgr_help, stdout);
            return 0;

        case 'V':
            puts("ims-poolmgr " MGR_VERSION);
            return 0;

        default:
            fputs("Try \"ims-poolmgr --help\".\n", stderr);
            return MGR_USAGE_EXIT;
        }
    }

    return mgr_options_fit(o, argc - optind);
}


static int
mgr_options_fit(const mgr_options_t *o, int left)
{
    int          once;
    const char  *what;

    once = o->init + (o->backup != NULL) + (o->restore != NULL);
    what = NULL;

    if (left != 0 || o->dir == NULL || (once == 0 && o->socket == NULL)) {
        what = "--dir and --socket are needed, and nothing else";

    } else if (once > 1) {
        what = "one of --init, --backup and --restore";

    } else if (o->never_used && (o->backup != NULL || o->restore != NULL)) {
        what = "--never-used is said of a new directory";
    }

    if (what == NULL && o->log_sync && o->history != NULL
        && !mgr_hlog_is_file(o->history))
    {
        fprintf(stderr, "ims-poolmgr: --history-sync needs a file, not "
                "\"%s\"\n", o->history);
        return MGR_USAGE_EXIT;
    }

    if (what == NULL) {
        return -1;
    }

    fprintf(stderr, "ims-poolmgr: %s.\nTry \"ims-poolmgr --help\".\n", what);

    return MGR_USAGE_EXIT;
}


/* What only root can do, and then no more of root. */

static int
mgr_prepare(mgr_options_t *o, mgr_user_t *u, mgr_server_t *s)
{
    char   err[512], path[4096];
    char  *parent;

    err[0] = '\0';

    if (mgr_user_find(u, o->user, o->group, err, sizeof(err)) != 0) {
        goto failed;
    }

    if (o->secrets != NULL
        && mgr_secrets_load(&s->secrets, o->secrets, u->uid, err, sizeof(err))
           != 0)
    {
        goto failed;
    }

    if (o->restore != NULL
        && mgr_offline_input(o->restore, err, sizeof(err)) != 0)
    {
        goto failed;
    }

    if (u->drop && !o->test
        && mgr_user_directory(u, o->dir, 0750, true, err, sizeof(err)) != 0)
    {
        goto failed;
    }

    if (u->drop && o->socket != NULL && !o->test) {

        snprintf(path, sizeof(path), "%s", o->socket);
        parent = dirname(path);

        if (mgr_user_directory(u, parent, 0755, false, err, sizeof(err)) != 0)
        {
            goto failed;
        }
    }

    if (mgr_user_become(u, err, sizeof(err)) != 0) {
        goto failed;
    }

    return 0;

failed:

    mgr_log(MGR_LOG_EMERG, "%s", err);

    return -1;
}


static void
mgr_pool_options(const mgr_options_t *o, const mgr_user_t *u,
    ims_pool_options_t *opt)
{
    memset(opt, 0, sizeof(ims_pool_options_t));

    opt->dir = o->dir;
    opt->gid = u != NULL && u->has_gid ? (long) u->gid : -1;
    opt->is_volatile = o->is_volatile;
    opt->never_used = o->never_used;
    opt->map_size = (size_t) o->map_mib << 20;
    opt->renewals = (unsigned) o->renewals;
    opt->reserve = o->reserve_mib ? o->reserve_mib << 20
                                  : IMS_POOL_NO_RESERVE;
}


static int
mgr_once(const mgr_options_t *o, const mgr_user_t *u)
{
    ims_pool_options_t  opt;

    mgr_pool_options(o, u, &opt);

    if (o->backup != NULL) {
        return mgr_offline_backup(&opt, o->backup);
    }

    if (o->restore != NULL) {
        return mgr_offline_restore(&opt, "-");
    }

    if (o->init) {
        return mgr_offline_init(&opt);
    }

    if (o->secrets == NULL && mgr_offline_test(&opt, u->uid) != 0) {
        return 1;
    }

    return fputs(MGR_WOULD_START, stdout) >= 0 && fflush(stdout) == 0 ? 0 : 1;
}


static int
mgr_open(mgr_options_t *o, mgr_user_t *u, mgr_server_t *s)
{
    int                 rc;
    char                err[512];
    ims_pool_options_t  opt;
    ims_pool_started_t  st;

    memset(&st, 0, sizeof(st));

    err[0] = '\0';
    mgr_pool_options(o, u, &opt);

    rc = ims_pool_writer_open(&s->pool, &opt, &st, err, sizeof(err));

    if (rc != IMS_POOL_OK) {
        mgr_log(MGR_LOG_EMERG, "%s",
                err[0] ? err : ims_pool_strerror(rc));
        return -1;
    }

    mgr_log(MGR_LOG_NOTICE, "pool directory \"%s\" %s, incarnation %llu",
            o->dir, st.created ? "made" : "opened",
            (unsigned long long) st.incarnation);

    if (st.new_keys) {
        mgr_log(MGR_LOG_NOTICE, "new keys were made");
    }

    if (st.undone != 0) {
        mgr_log(MGR_LOG_WARN, "%u unfinished imports are taken out",
                st.undone);
    }

    if (st.fenced) {
        mgr_log(MGR_LOG_ALERT, "commits may be lost: all leases are ended");
    }

    if (st.hold_until > st.now) {
        mgr_log(MGR_LOG_ALERT, "nothing is given for the next %llu seconds",
                (unsigned long long) (st.hold_until - st.now + 999) / 1000);
    }

    if (o->is_volatile) {
        mgr_log(MGR_LOG_WARN, "--volatile: the file system is not judged, a "
                "power cut may lose leases");
    }

    return 0;
}


static int
mgr_secrets(mgr_options_t *o, mgr_server_t *s)
{
    char         err[512];
    static char  path[4096];

    err[0] = '\0';

    if (o->secrets == NULL) {

        snprintf(path, sizeof(path), "%s/secrets", o->dir);

        if (mgr_secrets_make(path, err, sizeof(err)) != 0
            || mgr_secrets_load(&s->secrets, path, geteuid(), err,
                                sizeof(err))
               != 0)
        {
            mgr_log(MGR_LOG_EMERG, "%s", err);
            return -1;
        }

        o->secrets = path;
    }

    if (s->secrets == NULL) {
        mgr_log(MGR_LOG_WARN, "there are no secrets: only root and user %u "
                "may do anything", (unsigned) geteuid());
    }

    return 0;
}


static int
mgr_history(mgr_options_t *o, mgr_server_t *s)
{
    char                err[512], path[4096];
    mgr_hlog_options_t  opt;

    ims_pool_history_keep(s->pool, o->keep_days * 86400000);

    snprintf(path, sizeof(path), "%s/history.log", o->dir);

    opt.where = o->history ? o->history : path;
    opt.users = o->log_users;
    opt.sync = o->log_sync;
    opt.any_fs = o->is_volatile;

    if (mgr_hlog_open(s, &opt, err, sizeof(err)) != 0) {
        mgr_log(MGR_LOG_EMERG, "%s", err);
        return -1;
    }

    return 0;
}


/* a socket that outlives programs is taken here; another is made later */

static int
mgr_listen(const mgr_options_t *o, mgr_signal_t *sig)
{
    char  err[512];

    sig->fd = mgr_signal_inherited(o->socket, &sig->given, err, sizeof(err));

    if (sig->fd == -2) {
        mgr_log(MGR_LOG_EMERG, "%s", err);
        return -1;
    }

    return 0;
}


static int
mgr_run(mgr_options_t *o, mgr_user_t *u, mgr_server_t *s, mgr_signal_t *sig)
{
    int         fd, rc;
    char        err[512];
    uv_loop_t  *loop;

    if (sig->fd == -1) {
        sig->fd = mgr_user_listen(u, o->socket, err, sizeof(err));
    }

    if (sig->fd == -1) {
        mgr_log(MGR_LOG_EMERG, "%s", err);
        return 1;
    }

    /* libuv closes its own; this one goes on to another program */

    fd = fcntl(sig->fd, F_DUPFD_CLOEXEC, 4);

    loop = uv_default_loop();
    s->started = ims_wall_ms();
    rc = fd == -1 ? uv_translate_sys_error(errno)
                  : mgr_server_start(s, loop, fd);

    if (rc == 0) {
        rc = mgr_signals_start(s, sig);
    }

    if (rc != 0) {
        mgr_log(MGR_LOG_EMERG, "cannot start: %s", uv_strerror(rc));

    } else {
        mgr_log(MGR_LOG_NOTICE, "ims-poolmgr " MGR_VERSION " ready on \"%s\"",
                o->socket);
        mgr_notify("READY=1");
        uv_run(loop, UV_RUN_DEFAULT);
        rc = s->exit_code;
    }

    if (rc == MGR_EXIT_HANDOVER) {
        return rc;
    }

    /* one that init gave us is init's */

    if (!sig->given) {
        unlink(o->socket);
    }

    mgr_log(MGR_LOG_NOTICE, "stopped");

    return rc < 0 ? 1 : rc;
}


static void
mgr_raise_nofile(void)
{
    struct rlimit  rl;

    if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < MGR_NOFILE) {
        rl.rlim_cur = rl.rlim_max < MGR_NOFILE ? rl.rlim_max : MGR_NOFILE;
        (void) setrlimit(RLIMIT_NOFILE, &rl);
    }
}
