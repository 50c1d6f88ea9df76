/*
 * Copyright (C) nginx-ims contributors
 *
 * Load for the comparison of edges: WebSocket clients that REGISTER one after
 * the other, and the core that answers them, in one process and one thread, so
 * that what is left of the machine is the edge's.
 *
 *   sipload EDGE-PORT CORE-PORT PATH TOTAL < users
 *
 * users: a line a client, "IMPU TOKEN".  Prints "N answered, N refused, S s"
 * and the median and 99th percentile of the round trip in microseconds.
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


enum kind { LISTEN, CORE, CLIENT };

struct peer {
    enum kind  kind;
    int        fd;
    int        upgraded;
    unsigned   cseq;
    int        n;
    double     sent;
    char       impu[256];
    char       token[4096];
    size_t     have;
    char       buf[BUF];
};


static int       ep;
static long      total, sent, answered, refused;
static double   *trips;
static int       run;           /* no branch comes twice */


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
watch(enum kind kind, int fd)
{
    int                 one;
    struct peer        *p;
    struct epoll_event  ev;

    p = calloc(1, sizeof(struct peer));
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
        p->cseq + 1, p->token, p->n, p->n, p->n);

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

    p->sent = now();
    put(p->fd, frame, head + (size_t) n);
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

        if (memcmp(b + head, "SIP/2.0 200", 11) == 0) {
            answered++;

        } else {
            refused++;
        }

        send_register(p);
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
    send_register(p);

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
        watch(CORE, accept(p->fd, NULL, NULL));
        return;
    }

    n = read(p->fd, p->buf + p->have, BUF - p->have);

    if (n <= 0) {

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


int
main(int argc, char **argv)
{
    int                 i, n, fd, one, clients;
    char                text[1024];
    double              begun;
    struct peer        *p;
    struct sockaddr_in  sin;
    struct epoll_event  evs[64];
    static char         impu[256], token[4096];

    if (argc != 5) {
        fprintf(stderr, "usage: sipload EDGE-PORT CORE-PORT PATH TOTAL\n");
        return 2;
    }

    run = (int) getpid();
    total = atol(argv[4]);
    trips = calloc((size_t) total + CLIENTS, sizeof(double));
    ep = epoll_create1(0);

    fd = socket(AF_INET, SOCK_STREAM, 0);
    one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    sin = loopback(argv[2]);

    if (bind(fd, (struct sockaddr *) &sin, sizeof(sin)) == -1
        || listen(fd, 64) == -1)
    {
        fail("bind");
    }

    watch(LISTEN, fd);
    begun = now();

    for (clients = 0;
         clients < CLIENTS && scanf("%255s %4095s", impu, token) == 2;
         clients++)
    {
        fd = socket(AF_INET, SOCK_STREAM, 0);
        sin = loopback(argv[1]);

        if (connect(fd, (struct sockaddr *) &sin, sizeof(sin)) == -1) {
            fail("connect");
        }

        p = watch(CLIENT, fd);
        p->n = clients;
        strcpy(p->impu, impu);
        strcpy(p->token, token);

        n = snprintf(text, sizeof(text),
            "GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: "
            "AAECAwQFBgcICQoLDA0ODw==\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: sip\r\nOrigin: http://localhost\r\n\r\n",
            argv[3]);
        put(fd, text, (size_t) n);
    }

    while (answered + refused < total) {
        n = epoll_wait(ep, evs, 64, 10000);

        if (n <= 0) {
            fprintf(stderr, "nothing came for 10 s: %ld of %ld\n",
                    answered + refused, total);
            return 1;
        }

        for (i = 0; i < n; i++) {
            input(evs[i].data.ptr);
        }
    }

    begun = (now() - begun) / 1e6;
    qsort(trips, (size_t) total, sizeof(double), compare);

    printf("%ld answered, %ld refused, %.2f s, median %.0f us, p99 %.0f us\n",
           answered, refused, begun, trips[total / 2],
           trips[total * 99 / 100]);

    return refused ? 1 : 0;
}
