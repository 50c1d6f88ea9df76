
/*
 * Copyright (C) nginx-ims contributors
 *
 * Datagrams from and to the core: one is one message (RFC 3261 18.3).
 *
 * The sockets are nginx's listening ones, shared by all workers and kept over
 * reloads; but nobody is accepted on them.  Each worker reads what comes, some
 * at a time, and sends from a dup of its own: nginx closes the original as
 * soon as the worker is told to finish, when it has answers to give yet.
 *
 * A datagram that does not fit the kernel's queue is lost, as it may be on any
 * other hop: whoever needs it sends it again.
 */

#include "ngx_http_ims_proxy.h"


#define NGX_HTTP_IMS_UDP_TURN     64      /* datagrams a wake-up */
#define NGX_HTTP_IMS_UDP_QUIET    1000    /* ms between lines of one kind */


typedef struct {
    ngx_listening_t       *listening;     /* NULL: nginx has closed it */
    ngx_http_ims_listen_t *listen;
    ngx_socket_t           fd;            /* ours, for sending */
    uint32_t               id;            /* the same in all workers */
    ngx_http_ims_addr_t    from;          /* a wildcard's; socklen 0: any */
} ngx_http_ims_udp_socket_t;


/* what is refused is told of, but not as often as it comes */

typedef enum {
    NGX_HTTP_IMS_UDP_FOREIGN = 0,
    NGX_HTTP_IMS_UDP_NOT_SIP,
    NGX_HTTP_IMS_UDP_BIG,
    NGX_HTTP_IMS_UDP_UNSENT,
    NGX_HTTP_IMS_UDP_KINDS
} ngx_http_ims_udp_kind_e;


static ngx_int_t ngx_http_ims_udp_open(ngx_http_ims_worker_t *w,
    ngx_listening_t *ls);
static ngx_http_ims_listen_t *ngx_http_ims_udp_listen(
    ngx_http_ims_worker_t *w, ngx_listening_t *ls);
static void ngx_http_ims_udp_source(ngx_http_ims_udp_socket_t *s);
static void ngx_http_ims_udp_read_handler(ngx_event_t *rev);
static ngx_int_t ngx_http_ims_udp_read(ngx_http_ims_udp_socket_t *s,
    ngx_socket_t fd);
static void ngx_http_ims_udp_datagram(ngx_http_ims_udp_socket_t *s,
    ngx_http_ims_addr_t *from, u_char *data, size_t n, ngx_uint_t cut);
static void ngx_http_ims_udp_too_big(ngx_http_ims_udp_socket_t *s,
    ngx_http_ims_addr_t *from, u_char *data, size_t n);
static void ngx_http_ims_udp_malformed(ngx_http_ims_udp_socket_t *s,
    ngx_http_ims_addr_t *from, ims_sip_err_t *err);
static ngx_http_ims_udp_socket_t *ngx_http_ims_udp_socket(
    ngx_http_ims_addr_t *to, uint32_t id);
static void ngx_http_ims_udp_set_source(ngx_http_ims_udp_socket_t *s,
    struct msghdr *msg);
static void ngx_http_ims_udp_complain(ngx_http_ims_udp_kind_e kind,
    ngx_uint_t level, ngx_err_t err, ngx_http_ims_addr_t *addr,
    const char *what);


static struct {
    ngx_http_ims_udp_socket_t   sockets[NGX_HTTP_IMS_UDP_SOCKETS];
    ngx_uint_t                  n;
    ngx_msec_t                  told[NGX_HTTP_IMS_UDP_KINDS];
    ngx_uint_t                  untold[NGX_HTTP_IMS_UDP_KINDS];
} ngx_http_ims_udp;


ngx_int_t
ngx_http_ims_udp_init(ngx_http_ims_worker_t *w)
{
    ngx_uint_t        i;
    ngx_listening_t  *ls;

    ngx_memzero(&ngx_http_ims_udp, sizeof(ngx_http_ims_udp));

    for (i = 0; i < NGX_HTTP_IMS_UDP_KINDS; i++) {
        ngx_http_ims_udp.told[i] = ngx_current_msec - NGX_HTTP_IMS_UDP_QUIET;
    }

    ls = w->cycle->listening.elts;

    for (i = 0; i < w->cycle->listening.nelts; i++) {

        if (ls[i].type == SOCK_DGRAM && ls[i].servers == w->main
            && ngx_http_ims_udp_open(w, &ls[i]) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_ims_udp_open(ngx_http_ims_worker_t *w, ngx_listening_t *ls)
{
    ngx_http_ims_udp_socket_t  *s;

    if (ngx_http_ims_udp.n == NGX_HTTP_IMS_UDP_SOCKETS) {
        /* should not be: the configuration was refused */
        return NGX_ERROR;
    }

    s = &ngx_http_ims_udp.sockets[ngx_http_ims_udp.n];

    s->listening = ls;
    s->listen = ngx_http_ims_udp_listen(w, ls);

    if (s->listen == NULL || ls->connection == NULL) {
        /* should not be: it was made for one */
        return NGX_OK;
    }

    s->fd = fcntl(ls->fd, F_DUPFD_CLOEXEC, 0);

    if (s->fd == (ngx_socket_t) -1) {
        ngx_log_error(NGX_LOG_EMERG, w->log, ngx_errno,
                      "dup of the socket of \"ims_listen %V udp\" failed",
                      &s->listen->addr_text);
        return NGX_ERROR;
    }

    s->id = ngx_crc32_short((u_char *) &s->listen->sockaddr,
                            s->listen->socklen);

    if (s->id == 0) {
        s->id = 1;
    }

    if (ls->wildcard) {
        ngx_http_ims_udp_source(s);
    }

    ls->connection->read->handler = ngx_http_ims_udp_read_handler;

    ngx_http_ims_udp.n++;

    return NGX_OK;
}


static ngx_http_ims_listen_t *
ngx_http_ims_udp_listen(ngx_http_ims_worker_t *w, ngx_listening_t *ls)
{
    ngx_uint_t              i;
    ngx_http_ims_listen_t  *listen;

    listen = w->main->listens->elts;

    for (i = 0; i < w->main->listens->nelts; i++) {

        if (listen[i].udp
            && ngx_cmp_sockaddr(&listen[i].sockaddr.sockaddr,
                                listen[i].socklen, ls->sockaddr, ls->socklen,
                                1)
               == NGX_OK)
        {
            return &listen[i];
        }
    }

    return NULL;
}


/*
 * What is bound to all addresses sends from the one that is advertised, since
 * the core sends there and takes no answer from elsewhere; but for one that is
 * not of this machine (it is behind NAT, or a name).
 */

static void
ngx_http_ims_udp_source(ngx_http_ims_udp_socket_t *s)
{
    ngx_socket_t         fd;
    ngx_http_ims_addr_t  addr;

    if (ngx_http_ims_literal(&s->listen->advertise, &addr) != NGX_OK
        || addr.sockaddr.sockaddr.sa_family
           != s->listen->sockaddr.sockaddr.sa_family)
    {
        return;
    }

    fd = ngx_socket(addr.sockaddr.sockaddr.sa_family, SOCK_DGRAM, 0);

    if (fd == (ngx_socket_t) -1) {
        return;
    }

    ngx_inet_set_port(&addr.sockaddr.sockaddr, 0);

    if (bind(fd, &addr.sockaddr.sockaddr, addr.socklen) == 0) {
        s->from = addr;
    }

    (void) ngx_close_socket(fd);
}


void
ngx_http_ims_udp_exit(ngx_http_ims_worker_t *w)
{
    ngx_uint_t  i;

    for (i = 0; i < ngx_http_ims_udp.n; i++) {
        (void) ngx_close_socket(ngx_http_ims_udp.sockets[i].fd);
    }

    ngx_http_ims_udp.n = 0;
}


/* -- reading --------------------------------------------------------------- */

/* the event is level-triggered: what is left wakes this worker or another */

static void
ngx_http_ims_udp_read_handler(ngx_event_t *rev)
{
    ngx_uint_t                  i, n;
    ngx_connection_t           *c;
    ngx_http_ims_udp_socket_t  *s;

    c = rev->data;
    s = NULL;

    for (i = 0; i < ngx_http_ims_udp.n; i++) {
        if (ngx_http_ims_udp.sockets[i].listening == c->listening) {
            s = &ngx_http_ims_udp.sockets[i];
            break;
        }
    }

    if (s == NULL) {
        return;
    }

    for (n = 0; n < NGX_HTTP_IMS_UDP_TURN; n++) {
        if (ngx_http_ims_udp_read(s, c->fd) != NGX_OK) {
            break;
        }
    }
}


static ngx_int_t
ngx_http_ims_udp_read(ngx_http_ims_udp_socket_t *s, ngx_socket_t fd)
{
    ssize_t                 n;
    ngx_err_t               err;
    struct iovec            iov;
    struct msghdr           msg;
    ngx_http_ims_addr_t     from;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    ngx_memzero(&from, sizeof(ngx_http_ims_addr_t));
    ngx_memzero(&msg, sizeof(struct msghdr));

    iov.iov_base = w->buffer;
    iov.iov_len = w->buffer_size;

    msg.msg_name = &from.sockaddr;
    msg.msg_namelen = sizeof(from.sockaddr);
    msg.msg_iov = &iov;
    msg.msg_iovlen = 1;

    n = recvmsg(fd, &msg, MSG_DONTWAIT);

    if (n == -1) {
        err = ngx_socket_errno;

        if (err == NGX_EINTR) {
            return NGX_OK;
        }

        if (err != NGX_EAGAIN) {
            ngx_log_error(NGX_LOG_ERR, w->log, err,
                          "recvmsg() on \"ims_listen %V udp\" failed",
                          &s->listen->addr_text);
        }

        return NGX_AGAIN;
    }

    from.socklen = msg.msg_namelen;
    from.transport = NGX_HTTP_IMS_UDP;

    ngx_http_ims_udp_datagram(s, &from, w->buffer, (size_t) n,
                              msg.msg_flags & MSG_TRUNC);

    return NGX_OK;
}


static void
ngx_http_ims_udp_datagram(ngx_http_ims_udp_socket_t *s,
    ngx_http_ims_addr_t *from, u_char *data, size_t n, ngx_uint_t cut)
{
    ims_sip_err_t           err;
    ims_trans_ingress_t     in;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    if (!ngx_http_ims_core_allowed(w->main, &from->sockaddr.sockaddr)) {
        ngx_http_ims_count(udp_refused);
        ngx_http_ims_udp_complain(NGX_HTTP_IMS_UDP_FOREIGN, NGX_LOG_WARN, 0,
                                  from, "refused by \"ims_core_allow\"");
        return;
    }

    /* keep-alives are line ends, or nothing; they may stand before a message */

    while (n && (*data == CR || *data == LF)) {
        data++;
        n--;
    }

    if (n == 0) {
        return;
    }

    ngx_http_ims_count(udp_received);

    if (cut || n > w->main->max_message) {
        ngx_http_ims_udp_too_big(s, from, data, n);
        return;
    }

    if (ims_sip_parse(&w->sip, data, n, IMS_SIP_DGRAM, &err) != 0) {
        ngx_http_ims_udp_malformed(s, from, &err);
        return;
    }

    if (w->sip.request) {
        ngx_http_ims_ingress_of_udp(&in, s->id, from, &w->sip);
        ngx_http_ims_terminating(&in, &w->sip, 0);
        return;
    }

    ngx_http_ims_core_answer(&w->sip, 0, 0);
}


/* if its headers are here, a request gets 513 */

static void
ngx_http_ims_udp_too_big(ngx_http_ims_udp_socket_t *s,
    ngx_http_ims_addr_t *from, u_char *data, size_t n)
{
    size_t                  head;
    ims_sip_msg_t          *m;
    ims_sip_err_t           err;
    ims_trans_ingress_t     in;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;
    m = &w->sip;

    ngx_http_ims_count(udp_too_big);
    ngx_http_ims_udp_complain(NGX_HTTP_IMS_UDP_BIG, NGX_LOG_ERR, 0, from,
                              "above ims_max_message, it is answered 513 or "
                              "dropped");

    head = ims_sip_frame_bodiless(data, n);

    if (head == 0
        || ims_sip_parse(m, data, head, IMS_SIP_STREAM, &err) != 0
        || !m->request || m->method_id == IMS_SIP_M_ACK)
    {
        return;
    }

    ngx_http_ims_ingress_of_udp(&in, s->id, from, m);
    ngx_http_ims_ingress_reply(&in, m, 513, "Message Too Large", NULL);
}


static void
ngx_http_ims_udp_malformed(ngx_http_ims_udp_socket_t *s,
    ngx_http_ims_addr_t *from, ims_sip_err_t *err)
{
    ims_trans_ingress_t     in;
    ngx_http_ims_worker_t  *w;

    w = ngx_http_ims_worker;

    ngx_http_ims_count(core_bad);
    ngx_http_ims_udp_complain(NGX_HTTP_IMS_UDP_NOT_SIP, NGX_LOG_ERR, 0, from,
                              err->reason);

    if (err->answerable) {
        ngx_http_ims_ingress_of_udp(&in, s->id, from, &w->sip);
        ngx_http_ims_ingress_reply(&in, &w->sip, err->status, err->reason,
                                   NULL);
    }
}


/* -- sending --------------------------------------------------------------- */

ngx_int_t
ngx_http_ims_udp_send(ngx_http_ims_addr_t *to, uint32_t id, u_char *data,
    size_t n)
{
    ssize_t                     rc;
    ngx_err_t                   err;
    struct iovec                iov;
    struct msghdr               msg;
    ngx_http_ims_udp_socket_t  *s;
    union {
        struct cmsghdr          align;
        u_char                  data[CMSG_SPACE(64)];
    } control;

    s = ngx_http_ims_udp_socket(to, id);

    if (s == NULL) {
        return NGX_DECLINED;
    }

    iov.iov_base = data;
    iov.iov_len = n;

    ngx_memzero(&msg, sizeof(struct msghdr));
    ngx_memzero(&control, sizeof(control));

    msg.msg_name = &to->sockaddr;
    msg.msg_namelen = to->socklen;
    msg.msg_iov = &iov;
    msg.msg_iovlen = 1;

    if (s->from.socklen) {
        msg.msg_control = control.data;
        ngx_http_ims_udp_set_source(s, &msg);
    }

    do {
        rc = sendmsg(s->fd, &msg, MSG_DONTWAIT|MSG_NOSIGNAL);
        err = rc == -1 ? ngx_socket_errno : 0;
    } while (err == NGX_EINTR);

    if (rc != -1) {
        return NGX_OK;
    }

    ngx_http_ims_count(udp_unsent);
    ngx_http_ims_udp_complain(NGX_HTTP_IMS_UDP_UNSENT, NGX_LOG_ERR, err, to,
                              "could not be sent");

    return err == NGX_EAGAIN || err == ENOBUFS ? NGX_OK : NGX_ERROR;
}


static ngx_http_ims_udp_socket_t *
ngx_http_ims_udp_socket(ngx_http_ims_addr_t *to, uint32_t id)
{
    ngx_uint_t                  i;
    ngx_http_ims_udp_socket_t  *s, *first;

    first = NULL;

    for (i = 0; i < ngx_http_ims_udp.n; i++) {
        s = &ngx_http_ims_udp.sockets[i];

        if (s->listen->sockaddr.sockaddr.sa_family
            != to->sockaddr.sockaddr.sa_family)
        {
            continue;
        }

        if (s->id == id) {
            return s;
        }

        if (s->listen
            == ngx_http_ims_listen_udp(ngx_http_ims_worker->main,
                                       &to->sockaddr.sockaddr))
        {
            first = s;
        }
    }

    return first;
}


static void
ngx_http_ims_udp_set_source(ngx_http_ims_udp_socket_t *s, struct msghdr *msg)
{
    struct cmsghdr      *cmsg;
    struct in_pktinfo    info;
#if (NGX_HAVE_INET6)
    struct in6_pktinfo   info6;
#endif

    msg->msg_controllen = CMSG_SPACE(64);
    cmsg = CMSG_FIRSTHDR(msg);

#if (NGX_HAVE_INET6)

    if (s->from.sockaddr.sockaddr.sa_family == AF_INET6) {
        ngx_memzero(&info6, sizeof(info6));
        info6.ipi6_addr = s->from.sockaddr.sockaddr_in6.sin6_addr;

        cmsg->cmsg_level = IPPROTO_IPV6;
        cmsg->cmsg_type = IPV6_PKTINFO;
        cmsg->cmsg_len = CMSG_LEN(sizeof(info6));
        ngx_memcpy(CMSG_DATA(cmsg), &info6, sizeof(info6));
        msg->msg_controllen = CMSG_SPACE(sizeof(info6));

        return;
    }

#endif

    ngx_memzero(&info, sizeof(info));
    info.ipi_spec_dst = s->from.sockaddr.sockaddr_in.sin_addr;

    cmsg->cmsg_level = IPPROTO_IP;
    cmsg->cmsg_type = IP_PKTINFO;
    cmsg->cmsg_len = CMSG_LEN(sizeof(info));
    ngx_memcpy(CMSG_DATA(cmsg), &info, sizeof(info));
    msg->msg_controllen = CMSG_SPACE(sizeof(info));
}


/*
 * Anybody can send datagrams, in any name and number: one line a second of
 * each kind tells of them, and of how many more there were.
 */

static void
ngx_http_ims_udp_complain(ngx_http_ims_udp_kind_e kind, ngx_uint_t level,
    ngx_err_t err, ngx_http_ims_addr_t *addr, const char *what)
{
    u_char      text[NGX_SOCKADDR_STRLEN];
    size_t      n;
    ngx_uint_t  untold;

    if (ngx_current_msec - ngx_http_ims_udp.told[kind]
        < NGX_HTTP_IMS_UDP_QUIET)
    {
        ngx_http_ims_udp.untold[kind]++;
        return;
    }

    untold = ngx_http_ims_udp.untold[kind];

    ngx_http_ims_udp.told[kind] = ngx_current_msec;
    ngx_http_ims_udp.untold[kind] = 0;

    n = ngx_sock_ntop(&addr->sockaddr.sockaddr, addr->socklen, text,
                      NGX_SOCKADDR_STRLEN, 1);

    ngx_log_error(level, ngx_http_ims_worker->log, err,
                  "datagram %s %*s: %s (and %ui before it)",
                  kind == NGX_HTTP_IMS_UDP_UNSENT ? "to" : "from", n, text,
                  what, untold);
}
