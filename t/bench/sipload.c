/*
 * Copyright (C) nginx-ims contributors
 *
 * Load for the comparison of edges: WebSocket clients that REGISTER one after
 * the other, and the core that answers them, in one process and one thread, so
 * that what is left of the machine is the edge's.
 *
 *   sipload [-r RATE] [-c] EDGE-PORT CORE-PORT PATH TOTAL < users
 *
 * users: a line a client, "IMPU TOKEN"; further lines with the same IMPU give
 * it further tokens, which it shows in turn.  Prints "N answered, N refused,
 * N lost, S s" and the median and 99th percentile of the round trip in
 * microseconds.
 *
 *   -r RATE  so many a second, evenly, whether they are answered or not: a
 *            round trip counts from when its REGISTER was due
 *   -c       each REGISTER on a connection of its own, from connect() to the
 *            200; one that breaks is lost, and counted
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>


#define BUF       65536
#define CLIENTS   1024
#define TOKENS    65536


enum kind { LISTEN, CORE, CLIENT };

struct peer {
    enum kind  kind;
    int        fd;
    int        upgraded;
    int        busy;            /* a REGISTER is under way */
    unsigned   cseq;
    int        n;
    double     sent;
    char       impu[256];
    char     **tokens;
    unsigned   ntokens;
    size_t     have;
    char       buf[BUF];
};


static int           ep;
static long          total, sent, answered, refused, lost;
static double       *trips;
static int           run;       /* no branch comes twice */
static int           churn;
static double        every;     /* us; 0: as soon as it is answered */
static double        due;
static const char   *edge, *path;
static struct peer  *peers[CLIENTS];
static int           clients;
static char         *tokens[TOKENS];
static unsigned      ntokens;


static double
now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return (double) ts.tv_sec * 1e6 + (double) ts.tv_nsec / 1e3;
}


static void
fail(const char *what)
{
    perror(what);
    exit(1);
}


static void
put(int fd, const char *data, size_t n)
{
    ssize_t  rc;

    /* sockets block: the messages are far smaller than their buffers */

    while (n) {
        rc = write(fd, data, n);

        if (rc <= 0) {
            fail("write");
        }

        data += rc;
        n -= (size_t) rc;
    }
}


static struct peer *
watch(enum kind kind, int fd, struct peer *p)
{
    int                 one;
    struct epoll_event  ev;

    if (p == NULL) {
        p = calloc(1, sizeof(struct peer));
    }

    if (p == NULL) {
        fail("calloc");
    }

    p->kind = kind;
    p->fd = fd;

    one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));

    ev.events = EPOLLIN;
    ev.data.ptr = p;

    if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) == -1) {
        fail("epoll_ctl");
    }

    return p;
}


static struct sockaddr_in
loopback(const char *port)
{
    struct sockaddr_in  sin;

    memset(&sin, 0, sizeof(sin));
    sin.sin_family = AF_INET;
    sin.sin_port = htons((unsigned short) atoi(port));
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

    return sin;
}


static void
send_register(struct peer *p)
{
    int            n;
    char           msg[8192], frame[8200];
    size_t         head, i;
    unsigned char  mask[4] = { 1, 2, 3, 4 };

    if (sent == total) {
        return;
    }

    sent++;
    p->busy = 1;

    n = snprintf(msg, sizeof(msg),
        "REGISTER sip:ims.example SIP/2.0\r\n"
        "Via: SIP/2.0/WS c%d.invalid;branch=z9hG4bK%d.%d.%u\r\n"
        "Max-Forwards: 69\r\n"
        "To: <%s>\r\n"
        "From: <%s>;tag=t%u\r\n"
        "Call-ID: call-%d-%d\r\n"
        "CSeq: %u REGISTER\r\n"
        "Authorization: Bearer %s\r\n"
        "Expires: 300\r\n"
        "Contact: <sip:u%d@c%d.invalid;transport=ws>;+sip.ice;reg-id=1;"
        "+sip.instance=\"<urn:uuid:00000000-0000-4000-8000-%012d>\""
        ";expires=300\r\n"
        "Allow: INVITE,ACK,CANCEL,BYE,UPDATE,MESSAGE,OPTIONS,REFER,INFO,"
        "NOTIFY,SUBSCRIBE\r\n"
        "Supported: path,gruu,outbound\r\n"
        "User-Agent: sipload\r\n"
        "Content-Length: 0\r\n\r\n",
        p->n, run, p->n, p->cseq, p->impu, p->impu, p->cseq, run, p->n,
        p->cseq + 1, p->tokens[p->cseq % p->ntokens], p->n, p->n, p->n);

    p->cseq++;

    head = 8;
    frame[0] = (char) 0x81;
    frame[1] = (char) (0x80 | 126);
    frame[2] = (char) (n >> 8);
    frame[3] = (char) n;
    memcpy(frame + 4, mask, 4);

    for (i = 0; i < (size_t) n; i++) {
        frame[head + i] = (char) (msg[i] ^ mask[i % 4]);
    }

    if (every == 0 && !churn) {
        p->sent = now();
    }

    put(p->fd, frame, head + (size_t) n);
}


/* the handshake of a client, on a connection that is new */

static void
dial(struct peer *p)
{
    int                 n, fd;
    char                text[1024];
    struct sockaddr_in  sin;

    p->sent = now();
    p->upgraded = 0;
    p->have = 0;

    fd = socket(AF_INET, SOCK_STREAM, 0);
    sin = loopback(edge);

    if (connect(fd, (struct sockaddr *) &sin, sizeof(sin)) == -1) {
        fail("connect");
    }

    watch(CLIENT, fd, p);

    n = snprintf(text, sizeof(text),
        "GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: "
        "AAECAwQFBgcICQoLDA0ODw==\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Protocol: sip\r\nOrigin: http://localhost\r\n\r\n",
        path);
    put(fd, text, (size_t) n);
}


static void
redial(struct peer *p)
{
    close(p->fd);
    p->fd = -1;
    p->busy = 0;
    p->have = 0;

    if (sent < total) {
        dial(p);
    }
}


/* those that are due; us until the next one is */

static double
pace(void)
{
    int         i, n;
    double      t;
    static int  last;

    i = 0;
    t = now();

    while (due <= t && sent < total) {

        for (n = 0; n < clients; n++) {
            i = (last + 1 + n) % clients;

            if (peers[i]->upgraded && !peers[i]->busy) {
                break;
            }
        }

        if (n == clients) {
            /* all wait for answers: theirs are late as well */
            return every;
        }

        last = i;
        peers[i]->sent = due;
        due += every;
        send_register(peers[i]);
    }

    return due > t ? due - t : 0;
}


/* whole frames of the server: unmasked, one message each */

static size_t
client_frame(struct peer *p)
{
    size_t          len, head;
    unsigned char  *b;

    b = (unsigned char *) p->buf;

    if (p->have < 2) {
        return 0;
    }

    len = b[1];
    head = 2;

    if (len == 126) {
        if (p->have < 4) {
            return 0;
        }

        len = (size_t) b[2] << 8 | b[3];
        head = 4;
    }

    if (p->have < head + len) {
        return 0;
    }

    if ((b[0] & 15) <= 2 && len > 12
        && memcmp(b + head, "SIP/2.0 1", 9) != 0)
    {
        trips[answered + refused] = now() - p->sent;
        p->busy = 0;

        if (memcmp(b + head, "SIP/2.0 200", 11) == 0) {
            answered++;

        } else {
            refused++;
        }

        if (churn) {
            redial(p);
            return 0;
        }

        if (every == 0) {
            send_register(p);
        }
    }

    return head + len;
}


static size_t
client_input(struct peer *p)
{
    char  *end;

    if (p->upgraded) {
        return client_frame(p);
    }

    end = memmem(p->buf, p->have, "\r\n\r\n", 4);

    if (end == NULL) {
        return 0;
    }

    if (memcmp(p->buf, "HTTP/1.1 101", 12) != 0) {
        fprintf(stderr, "no upgrade: %.40s\n", p->buf);
        exit(1);
    }

    p->upgraded = 1;

    if (every == 0) {
        send_register(p);
    }

    return (size_t) (end + 4 - p->buf);
}


/* a REGISTER, without body: answered with what must be copied */

static size_t
core_input(struct peer *p)
{
    char   *end, *line, *next, out[BUF], *o;
    size_t  n;

    end = memmem(p->buf, p->have, "\r\n\r\n", 4);

    if (end == NULL) {
        return 0;
    }

    o = out + sprintf(out, "SIP/2.0 200 OK\r\n");

    for (line = p->buf; line < end; line = next) {
        next = (char *) memmem(line, (size_t) (end + 2 - line), "\r\n", 2) + 2;
        n = (size_t) (next - line);

        if (strncmp(line, "To:", 3) == 0) {
            memcpy(o, line, n - 2);
            o += n - 2;
            o += sprintf(o, ";tag=core\r\n");

        } else if (strncmp(line, "Via:", 4) == 0
                   || strncmp(line, "From:", 5) == 0
                   || strncmp(line, "Call-ID:", 8) == 0
                   || strncmp(line, "CSeq:", 5) == 0
                   || strncmp(line, "Contact:", 8) == 0)
        {
            memcpy(o, line, n);
            o += n;
        }
    }

    o += sprintf(o, "Content-Length: 0\r\n\r\n");
    put(p->fd, out, (size_t) (o - out));

    return (size_t) (end + 4 - p->buf);
}


static void
input(struct peer *p)
{
    size_t   used;
    ssize_t  n;

    if (p->kind == LISTEN) {
        watch(CORE, accept(p->fd, NULL, NULL), NULL);
        return;
    }

    n = read(p->fd, p->buf + p->have, BUF - p->have);

    if (n <= 0) {

        if (p->kind == CLIENT && churn) {
            sent += !p->busy;
            lost++;
            redial(p);
            return;
        }

        if (p->kind == CLIENT) {
            fprintf(stderr, "a client lost its connection\n");
            exit(1);
        }

        close(p->fd);
        return;
    }

    p->have += (size_t) n;

    for ( ;; ) {
        used = p->kind == CORE ? core_input(p) : client_input(p);

        if (used == 0) {
            return;
        }

        p->have -= used;
        memmove(p->buf, p->buf + used, p->have);
    }
}


static int
compare(const void *a, const void *b)
{
    double  x = *(const double *) a, y = *(const double *) b;

    return x < y ? -1 : x > y;
}


/* a client, or one more token of the last one */

static void
user(const char *impu, const char *token)
{
    struct peer  *p;

    if (ntokens == TOKENS) {
        return;
    }

    p = clients ? peers[clients - 1] : NULL;

    if (p == NULL || strcmp(p->impu, impu) != 0) {

        if (clients == CLIENTS) {
            return;
        }

        p = calloc(1, sizeof(struct peer));

        if (p == NULL) {
            fail("calloc");
        }

        strcpy(p->impu, impu);
        p->n = clients;
        p->tokens = &tokens[ntokens];
        peers[clients++] = p;
    }

    tokens[ntokens++] = strdup(token);
    p->ntokens++;
}


static int
options(int argc, char **argv)
{
    int  opt;

    while ((opt = getopt(argc, argv, "r:c")) != -1) {

        if (opt == 'c') {
            churn = 1;

        } else if (opt == 'r' && atof(optarg) > 0) {
            every = 1e6 / atof(optarg);

        } else {
            return -1;
        }
    }

    return argc - optind == 4 && !(churn && every != 0) ? optind : -1;
}


int
main(int argc, char **argv)
{
    int                 i, n, fd, one;
    double              begun, wait, heard;
    struct timespec     ts;
    struct sockaddr_in  sin;
    struct epoll_event  evs[64];
    static char         impu[256], token[4096];

    n = options(argc, argv);

    if (n == -1) {
        fprintf(stderr, "usage: sipload [-r RATE | -c] EDGE-PORT CORE-PORT "
                "PATH TOTAL\n");
        return 2;
    }

    argv += n;
    edge = argv[0];
    path = argv[2];
    run = (int) getpid();
    total = atol(argv[3]);
    trips = calloc((size_t) total + CLIENTS, sizeof(double));
    ep = epoll_create1(0);

    fd = socket(AF_INET, SOCK_STREAM, 0);
    one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    sin = loopback(argv[1]);

    if (bind(fd, (struct sockaddr *) &sin, sizeof(sin)) == -1
        || listen(fd, 64) == -1)
    {
        fail("bind");
    }

    watch(LISTEN, fd, NULL);

    while (scanf("%255s %4095s", impu, token) == 2) {
        user(impu, token);
    }

    begun = now();
    due = begun + 2e5;          /* all are connected by then */
    heard = begun;

    for (i = 0; i < clients; i++) {
        dial(peers[i]);
    }

    while (answered + refused + lost < total) {

        wait = every == 0 ? 1e6 : pace();
        ts.tv_sec = (time_t) (wait / 1e6);
        ts.tv_nsec = (long) ((wait - 1e6 * (double) ts.tv_sec) * 1e3);

        n = epoll_pwait2(ep, evs, 64, &ts, NULL);

        if (n == -1 && errno != EINTR) {
            fail("epoll_wait");
        }

        if (n > 0) {
            heard = now();

        } else if (now() - heard > 1e7) {
            fprintf(stderr, "nothing came for 10 s: %ld of %ld\n",
                    answered + refused + lost, total);
            return 1;
        }

        for (i = 0; i < n; i++) {
            input(evs[i].data.ptr);
        }
    }

    begun = (now() - begun) / 1e6;
    total = answered + refused;
    qsort(trips, (size_t) total, sizeof(double), compare);

    printf("%ld answered, %ld refused, %ld lost, %.2f s, median %.0f us, "
           "p99 %.0f us\n", answered, refused, lost, begun, trips[total / 2],
           trips[total * 99 / 100]);

    return refused || lost ? 1 : 0;
}
