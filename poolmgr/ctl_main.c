/*
 * Copyright (C) nginx-ims contributors
 *
 * ims-poolctl: the table of commands, options and help.
 */

#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "ctl.h"


static const ctl_command_t *ctl_find(int argc, char **argv, unsigned *words);
static int ctl_options(ctl_t *ctl, int argc, char **argv);
static int ctl_option(ctl_t *ctl, int c);
static int ctl_help(const ctl_command_t *command);
static int ctl_run(ctl_t *ctl, const ctl_command_t *command, int argc,
    char **argv);


static const ctl_command_t  ctl_commands[] = {

    { "pool create", "NAME HOME", 2, 2, CTL_O_POOL, ctl_pool_create,
      "make a pool of identities in a home domain",
      "Options of the pool, times in seconds:\n"
      "  --ttl S           length of a lease (600)\n"
      "  --ttl-max S       its limit, ever (3600)\n"
      "  --delay S         the longest a message can be under way, D (64)\n"
      "  --margin S        rest on top of it (30 and 0.1 % of --ttl-max)\n"
      "  --min-expires S   shortest expiry that the core grants (60)\n"
      "  --realms A,B      who may ask: realms of users (*: all)\n"
      "  --purge on|off    may edges shorten rests by removing all bindings\n"
      "                    at the core (off)\n"
      "  --per WHAT        user (default): one lease a user, for up to four\n"
      "                    browsers; session: one for each browser\n" },

    { "pool alter", "NAME", 1, 1, CTL_O_POOL, ctl_pool_alter,
      "change a pool; running leases keep what they were promised",
      "Options as of \"pool create\"; what is not named stays.\n" },

    { "pool disable", "NAME", 1, 1, CTL_O_NOW, ctl_pool_disable,
      "give and lengthen nothing of a pool",
      "Its leases run out.\n"
      "  --now             they end at once\n" },

    { "pool enable", "NAME", 1, 1, 0, ctl_pool_enable,
      "the opposite of \"pool disable\"", NULL },

    { "pool drop", "NAME", 1, 1, CTL_O_ALL, ctl_pool_drop,
      "remove a pool; its leases end at once",
      "It goes, and its name is free, when the last identity has rested.\n"
      "  --all             its identities, too: else it must have none\n" },

    { "pool list", "", 0, 0, 0, ctl_pool_list, "all pools", NULL },

    { "pool stat", "NAME", 1, 1, 0, ctl_pool_stat,
      "a pool with its figures: free, leased, resting",
      "next_free: seconds until a newcomer gets an identity, 0 if at once.\n"
    },

    { "import", "POOL FILE | POOL --range IMPU ...", 1, 2,
      CTL_O_REST|CTL_O_RANGE|CTL_O_IMPI|CTL_O_DISPLAY|CTL_O_KEEP|CTL_O_DRY,
      ctl_import, "bring identities in, all or none",
      "FILE is CSV (RFC 4180) with a header line, \"-\" standard input:\n"
      "  impi,impu[,impu2...][,display]\n"
      "  --range IMPU      e.g. 'sip:web-[000001-001000]@ims.example'; once\n"
      "                    more for each further IMPU of an identity\n"
      "  --impi PATTERN    IMPIs (the first range without its scheme)\n"
      "  --display PATTERN display names\n"
      "  --rest S          seconds until they may be given: for numbers that\n"
      "                    were in use elsewhere (0)\n"
      "  --dry-run         check all of it, write nothing\n"
      "  --keep-going      leave out the lines that are wrong, and tell each of\n"
      "                    them; exit status 4 if there was one\n" },

    { "export", "POOL [FILE]", 1, 2, 0, ctl_export,
      "write the identities of a pool as \"import\" reads them",
      "CSV with the header impi,impu[,impu2...],display, to standard output or\n"
      "into FILE, which appears when it is whole.  Leases are not in it.\n" },

    { "identity add", "POOL IMPI", 2, 2,
      CTL_O_IMPU|CTL_O_DISPLAY|CTL_O_REST, ctl_identity_add,
      "add one identity to a pool",
      "  --impu IMPU       public identity; once more for each further one\n"
      "  --display NAME    display name\n"
      "  --rest S          seconds until it may be given (0)\n" },

    { "identity disable", "IMPU|IMPI", 1, 1, CTL_O_NOW, ctl_identity_disable,
      "give, lengthen and return to it no more",
      "A lease that it has runs out.\n"
      "  --now             it ends at once\n" },

    { "identity enable", "IMPU|IMPI", 1, 1, 0, ctl_identity_enable,
      "the opposite of \"identity disable\"",
      "It rests as long as it would have.\n" },

    { "identity remove", "IMPU|IMPI", 1, 1, 0, ctl_identity_remove,
      "end its lease, and forget it when it has rested",
      "Until then its names cannot be imported again.\n" },

    { "identity list", "[POOL]", 0, 1, CTL_O_STATE, ctl_identity_list,
      "identities with all of their names",
      "  --state STATE     only free, leased, resting or off ones\n" },

    { "acquire", "POOL USER", 2, 2, CTL_O_REALM|CTL_O_SID, ctl_acquire,
      "lease an identity to a user, or go on with his lease",
      "  --realm R         name space of the user (" CTL_REALM ")\n"
      "  --sid HEX         his session, 16 hex digits (random)\n" },

    { "renew", "POOL USER LEASE --sid HEX", 3, 3, CTL_O_REALM|CTL_O_SID,
      ctl_renew, "lengthen a lease",
      "  --realm R         as for acquire\n"
      "  --sid HEX         as acquire told it\n" },

    { "release", "POOL USER LEASE --sid HEX", 3, 3, CTL_O_REALM|CTL_O_SID,
      ctl_release, "end a session, and with the last one the lease",
      "  --realm R         as for acquire\n"
      "  --sid HEX         as acquire told it\n" },

    { "revoke", "lease LEASE | impu IMPU | user POOL|* USER | pool POOL",
      2, 3, CTL_O_REALM|CTL_O_BAR, ctl_revoke, "end leases at once",
      "  --realm R         name space of the user (" CTL_REALM ")\n"
      "  --bar             the user may not return to the identity before\n"
      "                    somebody else had it (not for a pool)\n" },

    { "show", "LEASE | IMPU | IMPI | user POOL USER", 1, 3, CTL_O_REALM,
      ctl_show, "who has an identity, or had it last",
      "  --realm R         name space of the user (" CTL_REALM ")\n" },

    { "list", "[POOL]", 0, 1, CTL_O_STATE, ctl_list,
      "identities and their leases",
      "  --state STATE     only free, leased, resting or off ones\n" },

    { "history", "", 0, 0, CTL_O_IMPU|CTL_O_IMPI|CTL_O_REALM|CTL_O_HISTORY,
      ctl_history, "who held an identity, and when; status 1: nobody",
      "  --impu IMPU       leases of this identity; or\n"
      "  --impi IMPI       by its private identity; or\n"
      "  --lease LEASE     of one lease\n"
      "  --user USER       alone: all leases of this user; with one of the\n"
      "                    others: was he the holder (yes, no, unknown)\n"
      "  --realm R         name space of the user (" CTL_REALM ")\n"
      "  --at TIME         those that were live at that time\n"
      "  --from TIME, --to TIME  those that were live between\n"
      "TIME is \"2026-01-31 14:30:05\", local or with Z or +01:00 behind it,\n"
      "or seconds since 1970.\n" },

    { "report", "LEASE EDGE FLOW UNTIL|+SECONDS", 4, 4, 0, ctl_report,
      "lengthen an identity's rest: a binding was seen at the core",
      "UNTIL is pool time in ms.\n" },

    { "purge next", "[POOL]", 0, 1, 0, ctl_purge_next,
      "take identities that may be purged at the core",
      "Up to 64.  Send, before send_by (ms of CLOCK_BOOTTIME) and once, for\n"
      "each impu a REGISTER with \"Contact: *\" and \"Expires: 0\".\n" },

    { "purge done", "PURGE", 1, 1, 0, ctl_purge_done,
      "each of these REGISTERs was answered 200: shorten the rest", NULL },

    { "hold replay", "FILE ...", 1, 256, 0, ctl_hold_replay,
      "end a hold after lost commits, by the history log",
      "FILEs are the logs since before the backup, the oldest first; one of\n"
      "them is the one that was written when commits were lost, no copy of it.\n"
      "Unless they prove that no lease is missing nothing happens.\n"
      "Identities that were in use rest as long as the hold would have\n"
      "lasted; the others are given at once.\n" },

    { "hold", "SECONDS | end", 1, 1, 0, ctl_hold,
      "give nothing for a time; leases live on and are lengthened",
      "A hold after lost commits is not ended by this.\n" },

    { "key rotate", "", 0, 0, 0, ctl_key_rotate,
      "hash users with a new key from now on",
      "Who was hashed with an older one is still found, and hashed anew when\n"
      "he comes.\n" },

    { "key list", "", 0, 0, 0, ctl_key_list, "the keys, the current first",
      NULL },

    { "key drop", "KEY", 1, 1, 0, ctl_key_drop,
      "forget an older key, for good",
      "Who was hashed with it cannot return to his identity, and history\n"
      "cannot say any more whether he was its holder.  Refused while one of\n"
      "them has a live lease.\n" },

    { "info", "", 0, 0, 0, ctl_info, "the daemon's figures", NULL },

    { "metrics", "[FILE]", 0, 1, 0, ctl_metrics,
      "the daemon's figures and counters, as Prometheus takes them",
      "FILE is replaced as a whole, e.g. for node_exporter's textfile\n"
      "collector.\n" },

    { "ping", "", 0, 0, 0, ctl_ping, "is the daemon there", NULL },

    { "check", "", 0, 0, 0, ctl_check,
      "look at every record; status 1 if one is wrong", NULL },

    { "backup", "FILE | DIRECTORY", 1, 1, 0, ctl_backup,
      "copy the database to a file, and check it; leases are given meanwhile",
      "The daemon writes it, as its own user.  In a directory the file is\n"
      "pool-<time>.mdb.  The keys (DIR/keys) are not in it: keep them\n"
      "elsewhere.\n" },

    { "compact", "", 0, 0, 0, ctl_compact,
      "rewrite the database without its holes",
      "Leases and flows live on; what changes leases waits until it is done.\n"
    },

    { "restore", "FILE --yes", 1, 1, CTL_O_YES, ctl_restore,
      "put a backup in place of the database",
      "All leases end, and nothing is given for the longest term that a lease\n"
      "had here ever: nobody knows what was given after the backup.  The daemon\n"
      "reads the file, as its own user.  Where none runs, ims-poolmgr does it.\n"
      "  --yes             yes, all leases\n" },

    { NULL, NULL, 0, 0, 0, NULL, NULL, NULL }
};


enum {
    CTL_L_JSON = 256,
    CTL_L_TEXT,
    CTL_L_REALM,
    CTL_L_SID,
    CTL_L_STATE,
    CTL_L_REST,
    CTL_L_RANGE,
    CTL_L_IMPI,
    CTL_L_DISPLAY,
    CTL_L_TTL,
    CTL_L_TTLMAX,
    CTL_L_DELAY,
    CTL_L_MARGIN,
    CTL_L_MINEXPIRES,
    CTL_L_REALMS,
    CTL_L_PER,
    CTL_L_PURGE,
    CTL_L_BAR,
    CTL_L_NOW,
    CTL_L_ALL,
    CTL_L_IMPU,
    CTL_L_LEASE,
    CTL_L_USER,
    CTL_L_AT,
    CTL_L_FROM,
    CTL_L_TO,
    CTL_L_KEEP,
    CTL_L_DRY,
    CTL_L_YES
};

static const struct option  ctl_longopts[] = {
    { "socket", required_argument, NULL, 's' },
    { "secret-file", required_argument, NULL, 'f' },
    { "timeout", required_argument, NULL, 't' },
    { "json", no_argument, NULL, CTL_L_JSON },
    { "text", no_argument, NULL, CTL_L_TEXT },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'V' },
    { "realm", required_argument, NULL, CTL_L_REALM },
    { "sid", required_argument, NULL, CTL_L_SID },
    { "state", required_argument, NULL, CTL_L_STATE },
    { "rest", required_argument, NULL, CTL_L_REST },
    { "range", required_argument, NULL, CTL_L_RANGE },
    { "impi", required_argument, NULL, CTL_L_IMPI },
    { "display", required_argument, NULL, CTL_L_DISPLAY },
    { "ttl", required_argument, NULL, CTL_L_TTL },
    { "ttl-max", required_argument, NULL, CTL_L_TTLMAX },
    { "delay", required_argument, NULL, CTL_L_DELAY },
    { "margin", required_argument, NULL, CTL_L_MARGIN },
    { "min-expires", required_argument, NULL, CTL_L_MINEXPIRES },
    { "realms", required_argument, NULL, CTL_L_REALMS },
    { "per", required_argument, NULL, CTL_L_PER },
    { "purge", required_argument, NULL, CTL_L_PURGE },
    { "yes", no_argument, NULL, CTL_L_YES },
    { "bar", no_argument, NULL, CTL_L_BAR },
    { "now", no_argument, NULL, CTL_L_NOW },
    { "all", no_argument, NULL, CTL_L_ALL },
    { "impu", required_argument, NULL, CTL_L_IMPU },
    { "lease", required_argument, NULL, CTL_L_LEASE },
    { "user", required_argument, NULL, CTL_L_USER },
    { "at", required_argument, NULL, CTL_L_AT },
    { "from", required_argument, NULL, CTL_L_FROM },
    { "to", required_argument, NULL, CTL_L_TO },
    { "keep-going", no_argument, NULL, CTL_L_KEEP },
    { "dry-run", no_argument, NULL, CTL_L_DRY },
    { NULL, 0, NULL, 0 }
};

/* options of a pool: the word in the command */
static const struct {
    int          c;
    const char  *word;
} ctl_pool_words[] = {
    { CTL_L_TTL, "TTL" },
    { CTL_L_TTLMAX, "TTLMAX" },
    { CTL_L_DELAY, "D" },
    { CTL_L_MARGIN, "MARGIN" },
    { CTL_L_MINEXPIRES, "MINEXPIRES" },
    { CTL_L_REALMS, "REALMS" },
    { CTL_L_PER, "PER" },
    { CTL_L_PURGE, "PURGE" },
    { 0, NULL }
};

static bool  ctl_want_help;


int
main(int argc, char **argv)
{
    int                   rc;
    ctl_t                 ctl;
    const char           *env;
    unsigned              words;
    const ctl_command_t  *command;

    signal(SIGPIPE, SIG_IGN);

    memset(&ctl, 0, sizeof(ctl));

    env = getenv("IMS_POOL_SOCKET");

    ctl.socket = env ? env : CTL_SOCKET;
    ctl.timeout = CTL_TIMEOUT;
    ctl.json = !isatty(STDOUT_FILENO);
    ctl.progress = isatty(STDERR_FILENO);
    ctl.out = stdout;

    rc = ctl_options(&ctl, argc, argv);

    if (rc >= 0) {
        return rc;
    }

    argc -= optind;
    argv += optind;

    if (argc == 0) {

        if (ctl_want_help) {
            return ctl_help(NULL);
        }

        ctl_error("which command?  Try \"ims-poolctl --help\".");
        return CTL_USAGE;
    }

    command = ctl_find(argc, argv, &words);

    if (command == NULL) {
        ctl_error("no command \"%s%s%s\".  Try \"ims-poolctl --help\".",
                  argv[0], argc > 1 ? " " : "", argc > 1 ? argv[1] : "");
        return CTL_USAGE;
    }

    if (ctl_want_help) {
        return ctl_help(command);
    }

    return ctl_run(&ctl, command, argc - (int) words, argv + words);
}


static int
ctl_run(ctl_t *ctl, const ctl_command_t *command, int argc, char **argv)
{
    int  rc;

    if ((unsigned) argc < command->min || (unsigned) argc > command->max) {
        ctl_error("usage: ims-poolctl %s %s", command->words, command->args);
        return CTL_USAGE;
    }

    if (ctl->given & ~command->options) {
        ctl_error("\"%s\" does not take this option.  Try \"ims-poolctl %s "
                  "--help\".", command->words, command->words);
        return CTL_USAGE;
    }

    rc = ctl_connect(ctl);

    if (rc == CTL_OK) {
        rc = command->run(ctl, (unsigned) argc, argv);
    }

    if (ctl->redis != NULL) {
        redisFree(ctl->redis);
    }

    if (fflush(stdout) != 0 || ferror(stdout)) {
        ctl_error("cannot write the answer");
        rc = rc == CTL_OK ? CTL_REFUSED : rc;
    }

    return rc;
}


static const ctl_command_t *
ctl_find(int argc, char **argv, unsigned *words)
{
    size_t                n;
    const char           *space;
    const ctl_command_t  *c;

    for (c = ctl_commands; c->words != NULL; c++) {

        space = strchr(c->words, ' ');

        if (space == NULL) {

            if (strcmp(c->words, argv[0]) == 0) {
                *words = 1;
                return c;
            }

            continue;
        }

        n = (size_t) (space - c->words);

        if (strlen(argv[0]) == n && memcmp(argv[0], c->words, n) == 0
            && argc > 1 && strcmp(space + 1, argv[1]) == 0)
        {
            *words = 2;
            return c;
        }
    }

    return NULL;
}


/* -1: go on, else the exit status */

static int
ctl_options(ctl_t *ctl, int argc, char **argv)
{
    int       c, rc;
    uint64_t  seconds;

    while ((c = getopt_long(argc, argv, "s:f:t:hV", ctl_longopts, NULL)) != -1)
    {
        switch (c) {

        case 's':
            ctl->socket = optarg;
            break;

        case 'f':
            ctl->secret_file = optarg;
            break;

        case 't':
            if (!ims_str_u64(ims_str_z(optarg), 86400, &seconds)
                || seconds == 0)
            {
                ctl_error("--timeout is a number of seconds");
                return CTL_USAGE;
            }

            ctl->timeout = (unsigned) seconds;
            break;

        case CTL_L_JSON:
            ctl->json = true;
            break;

        case CTL_L_TEXT:
            ctl->json = false;
            break;

        case 'h':
            ctl_want_help = true;
            break;

        case 'V':
            puts("ims-poolctl 0.1");
            return CTL_OK;

        default:
            rc = ctl_option(ctl, c);

            if (rc != -1) {
                return rc;
            }
        }
    }

    return -1;
}


/* those that belong to some commands only */

static int
ctl_option(ctl_t *ctl, int c)
{
    unsigned  i;

    switch (c) {

    case CTL_L_REALM:
        ctl->realm = optarg;
        ctl->given |= CTL_O_REALM;
        return -1;

    case CTL_L_SID:
        ctl->sid = optarg;
        ctl->given |= CTL_O_SID;
        return -1;

    case CTL_L_STATE:
        ctl->state = optarg;
        ctl->given |= CTL_O_STATE;
        return -1;

    case CTL_L_REST:
        ctl->rest = optarg;
        ctl->given |= CTL_O_REST;
        return -1;

    case CTL_L_IMPI:
        ctl->impi = optarg;
        ctl->given |= CTL_O_IMPI;
        return -1;

    case CTL_L_DISPLAY:
        ctl->display = optarg;
        ctl->given |= CTL_O_DISPLAY;
        return -1;

    case CTL_L_LEASE:
        ctl->lease = optarg;
        ctl->given |= CTL_O_HISTORY;
        return -1;

    case CTL_L_USER:
        ctl->user = optarg;
        ctl->given |= CTL_O_HISTORY;
        return -1;

    case CTL_L_AT:
        ctl->at = optarg;
        ctl->given |= CTL_O_HISTORY;
        return -1;

    case CTL_L_FROM:
        ctl->from = optarg;
        ctl->given |= CTL_O_HISTORY;
        return -1;

    case CTL_L_TO:
        ctl->to = optarg;
        ctl->given |= CTL_O_HISTORY;
        return -1;

    case CTL_L_BAR:
        ctl->given |= CTL_O_BAR;
        return -1;

    case CTL_L_YES:
        ctl->given |= CTL_O_YES;
        return -1;

    case CTL_L_NOW:
        ctl->given |= CTL_O_NOW;
        return -1;

    case CTL_L_ALL:
        ctl->given |= CTL_O_ALL;
        return -1;

    case CTL_L_KEEP:
        ctl->given |= CTL_O_KEEP;
        return -1;

    case CTL_L_DRY:
        ctl->given |= CTL_O_DRY;
        return -1;

    case CTL_L_IMPU:
        if (ctl->nimpu == IMS_POOL_IMPUS) {
            ctl_error("more than %d IMPUs", IMS_POOL_IMPUS);
            return CTL_USAGE;
        }

        ctl->impu[ctl->nimpu++] = optarg;
        ctl->given |= CTL_O_IMPU;
        return -1;

    case CTL_L_RANGE:
        if (ctl->nrange == CTL_RANGES) {
            ctl_error("more than %d ranges", CTL_RANGES);
            return CTL_USAGE;
        }

        ctl->range[ctl->nrange++] = optarg;
        ctl->given |= CTL_O_RANGE;
        return -1;
    }

    for (i = 0; ctl_pool_words[i].word != NULL; i++) {

        if (ctl_pool_words[i].c != c) {
            continue;
        }

        if (ctl->npool + 2 > sizeof(ctl->pool) / sizeof(ctl->pool[0])) {
            ctl_error("too many options");
            return CTL_USAGE;
        }

        ctl->pool[ctl->npool++] = ctl_pool_words[i].word;
        ctl->pool[ctl->npool++] = optarg;
        ctl->given |= CTL_O_POOL;
        return -1;
    }

    /* getopt_long() said what is wrong */

    fputs("Try \"ims-poolctl --help\".\n", stderr);

    return CTL_USAGE;
}


static int
ctl_help(const ctl_command_t *command)
{
    const ctl_command_t  *c;

    if (command != NULL) {
        printf("Usage: ims-poolctl %s %s\n\n%c%s.\n", command->words,
               command->args, command->brief[0] - 'a' + 'A',
               command->brief + 1);

        if (command->help != NULL) {
            printf("\n%s", command->help);
        }

        return CTL_OK;
    }

    fputs("Usage: ims-poolctl [options] COMMAND ...\n"
          "\n"
          "Talks to ims-poolmgr.  Commands:\n"
          "\n", stdout);

    for (c = ctl_commands; c->words != NULL; c++) {
        printf("  %-16s %s\n", c->words, c->brief);
    }

    fputs("\n"
          "  -s, --socket PATH       the daemon's socket (IMS_POOL_SOCKET, or\n"
          "                          " CTL_SOCKET ")\n"
          "  -f, --secret-file FILE  act in the role of this secret; else as\n"
          "                          root or the daemon's user: admin\n"
          "  -t, --timeout S         for each answer (60)\n"
          "      --json, --text      how to answer; text on a terminal\n"
          "  -h, --help              this text; after a command: its help\n"
          "  -V, --version           version\n"
          "\n"
          "Exit status: 0 done, 1 refused, 2 usage, 3 daemon not reached, 4 "
          "done but for\nsome lines of an import.\n"
          "An option's value or a user that begins with \"-\" goes behind "
          "\"--\".\n", stdout);

    return CTL_OK;
}
