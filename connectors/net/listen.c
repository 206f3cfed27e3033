/* SPDX-License-Identifier: Apache-2.0
 *
 * listen.c - see listen.h.
 */
#include "connectors/net/listen.h"

#include <errno.h>
#include <linux/sock_diag.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef SO_RXQ_OVFL
#define SO_RXQ_OVFL 40
#endif
#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif

/* ---- addresses */

bool listen_is_unix(const char *address) {
    return strncmp(address, "unix:", 5) == 0;
}

static bool split(const char *address, char host[200], char port[8]) {
    const char *colon = strrchr(address, ':');
    const char *digits = colon != NULL ? colon + 1 : address;
    size_t n = colon != NULL ? (size_t)(colon - address) : 0, digits_len = strlen(digits);
    if (digits_len < 1 || digits_len > 5 || strspn(digits, "0123456789") != digits_len ||
        strtol(digits, NULL, 10) > 65535 || n >= 200)
        return false;
    snprintf(port, 8, "%.5s", digits);
    if (n >= 2 && address[0] == '[' && address[n - 1] == ']')
        snprintf(host, 200, "%.*s", (int)(n - 2), address + 1);
    else if (n != 0)
        snprintf(host, 200, "%.*s", (int)n, address);
    else
        strcpy(host, "127.0.0.1");
    return true;
}

int listen_check(const char *address, pawl_error *err) {
    char host[200], port[8];
    struct sockaddr_un un;
    if (listen_is_unix(address) ? address[5] != 0 && strlen(address + 5) < sizeof un.sun_path
                                : split(address, host, port))
        return 0;
    return connect_error(err, PAWL_INVALID,
                         "address must be HOST:PORT, [IPV6]:PORT, PORT or unix:PATH, not \"%s\"",
                         address);
}

static void address_text(const struct sockaddr_storage *from, socklen_t len, char out[PEER_MAX]) {
    char host[48], port[8];
    bool six = from->ss_family == AF_INET6;
    if ((!six && from->ss_family != AF_INET) ||
        getnameinfo((const struct sockaddr *)from, len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        snprintf(out, PEER_MAX, "a local process");
    else
        snprintf(out, PEER_MAX, six ? "[%s]:%s" : "%s:%s", host, port);
}

void listen_peer(int fd, char out[PEER_MAX]) {
    struct sockaddr_storage from;
    struct ucred who;
    socklen_t n = sizeof from, size = sizeof who;
    memset(&from, 0, sizeof from);
    snprintf(out, PEER_MAX, "unknown");
    if (getpeername(fd, (struct sockaddr *)&from, &n) != 0)
        return;
    if (from.ss_family == AF_UNIX && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0)
        snprintf(out, PEER_MAX, "pid %d of user %u", (int)who.pid, (unsigned)who.uid);
    else
        address_text(&from, n, out);
}

static struct peer_id of_ipv6(const struct sockaddr_in6 *from) {
    struct peer_id id = {.kind = PEER_IPV6};
    const uint8_t *at = from->sin6_addr.s6_addr;
    bool local = IN6_IS_ADDR_LINKLOCAL(&from->sin6_addr);
    if (IN6_IS_ADDR_V4MAPPED(&from->sin6_addr)) {
        id.kind = PEER_IPV4;
        memcpy(id.bytes, at + 12, 4);
        return id;
    }
    uint64_t h = local ? from->sin6_scope_id : 0;
    for (size_t i = 0; i < (local ? 16u : 8u); i++) {
        h = (h ^ at[i]) * UINT64_C(0x100000001b3);
        h ^= h >> 29;
    }
    connect_put_le(id.bytes, h * UINT64_C(0xd6e8feb86659fd93) >> 16, 6);
    return id;
}

struct peer_id listen_peer_id(int fd) {
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_storage all;
    } from;
    struct peer_id id = {.kind = PEER_UNKNOWN};
    struct ucred who;
    socklen_t n = sizeof from, size = sizeof who;
    memset(&from, 0, sizeof from);
    if (getpeername(fd, &from.any, &n) != 0)
        return id;
    if (from.any.sa_family == AF_INET6)
        return of_ipv6(&from.in6);
    if (from.any.sa_family == AF_INET) {
        id.kind = PEER_IPV4;
        memcpy(id.bytes, &from.in.sin_addr, 4);
    } else if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0) {
        id.kind = PEER_USER;
        connect_put_le(id.bytes, who.uid, 4);
    }
    return id;
}

bool peer_same(const struct peer_id *a, const struct peer_id *b) {
    return a->kind == b->kind && memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

/* ---- Unix sockets */

/* Does the kernel's list of Unix sockets have this path? A socket that is bound but doesn't listen
 * yet refuses connections as a dead one does. */
static bool bound(const char *path) {
    char line[512];
    bool found = false;
    FILE *in = fopen("/proc/net/unix", "re");
    if (in == NULL)
        return false;
    while (!found && fgets(line, sizeof line, in) != NULL) {
        char *at = strchr(line, '/');
        line[strcspn(line, "\n")] = 0;
        found = at != NULL && strcmp(at, path) == 0;
    }
    fclose(in);
    return found;
}

/* Makes room for a socket at the path. */
static int clear_path(const struct sockaddr_un *un, int type, pawl_fault *f) {
    struct stat st;
    if (lstat(un->sun_path, &st) != 0)
        return PAWL_DONE; /* bind() has the error, if there is one */
    if (!S_ISSOCK(st.st_mode))
        return pawl_fault_set(f, PAWL_RETRY,
                              "%s is there and is no socket: it is left alone; choose another "
                              "path, or move it away",
                              un->sun_path);
    int probe = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int rc = probe < 0 ? -1 : connect(probe, (const struct sockaddr *)un, sizeof *un);
    bool dead = rc != 0 && errno == ECONNREFUSED && !bound(un->sun_path);
    if (probe >= 0)
        close(probe);
    if (!dead)
        return pawl_fault_set(f, PAWL_RETRY, "%s: another process listens there", un->sun_path);
    if (st.st_uid != geteuid())
        return pawl_fault_set(f, PAWL_RETRY,
                              "%s is a dead socket of user %u: it is left alone; remove it",
                              un->sun_path, (unsigned)st.st_uid);
    unlink(un->sun_path); /* left by a process of this user that was killed */
    return PAWL_DONE;
}

static int listen_unix(struct listening *l, const char *address, int type, unsigned mode,
                       pawl_fault *f) {
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct stat st;
    snprintf(un.sun_path, sizeof un.sun_path, "%s", address + 5);
    int rc = clear_path(&un, type, f);
    if (rc != PAWL_DONE)
        return rc;
    /* The file gets the socket's mode: no umask() of the whole process is needed. */
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || fchmod(fd, mode) != 0 || bind(fd, (struct sockaddr *)&un, sizeof un) != 0 ||
        lstat(un.sun_path, &st) != 0 || (type == SOCK_STREAM && listen(fd, LISTEN_BACKLOG) != 0)) {
        int error = errno;
        if (fd >= 0)
            close(fd);
        return pawl_fault_set(f, PAWL_RETRY, "%s: %s", address, strerror(error));
    }
    l->dev = st.st_dev;
    l->ino = st.st_ino;
    *(type == SOCK_STREAM ? &l->stream_fd : &l->datagram_fd) = fd;
    return PAWL_DONE;
}

/* ---- TCP and UDP */

static int bind_one(const struct addrinfo *a, int type, const char *port, int *out) {
    int one = 1, fd = socket(a->ai_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    struct sockaddr_storage to = {0};
    memcpy(&to, a->ai_addr, a->ai_addrlen);
    unsigned long given = strtoul(port, NULL, 10);
    uint16_t number = htons(given <= UINT16_MAX ? (uint16_t)given : 0);
    if (a->ai_family == AF_INET6)
        ((struct sockaddr_in6 *)&to)->sin6_port = number;
    else
        ((struct sockaddr_in *)&to)->sin_port = number;
    if (type == SOCK_STREAM)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    else
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){4 << 20}, sizeof(int));
    if (bind(fd, (struct sockaddr *)&to, a->ai_addrlen) != 0 ||
        (type == SOCK_STREAM && listen(fd, LISTEN_BACKLOG) != 0)) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    *out = fd;
    return 0;
}

static uint16_t port_of(int fd) {
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } a;
    socklen_t n = sizeof a;
    memset(&a, 0, sizeof a);
    if (getsockname(fd, &a.any, &n) != 0)
        return 0;
    return ntohs(a.any.sa_family == AF_INET6 ? a.in6.sin6_port : a.in.sin_port);
}

static void close_fd(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static int listen_inet(struct listening *l, const char *address, bool stream, bool datagram,
                       pawl_fault *f) {
    char host[200], port[8];
    struct addrinfo hints = {.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM}, *list = NULL;
    if (!split(address, host, port))
        return pawl_fault_set(f, PAWL_FATAL, "%s is no address", address);
    int rc = getaddrinfo(host, NULL, &hints, &list);
    if (rc != 0)
        return pawl_fault_set(f, PAWL_RETRY, "%s: %s", host, gai_strerror(rc));
    rc = 0;
    if (stream && l->stream_fd < 0)
        rc = bind_one(list, SOCK_STREAM, port, &l->stream_fd);
    bool chosen = strcmp(port, "0") == 0;
    if (rc == 0 && stream) /* the same port for both, also if the system chose it */
        snprintf(port, sizeof port, "%u", port_of(l->stream_fd));
    if (rc == 0 && datagram && l->datagram_fd < 0)
        rc = bind_one(list, SOCK_DGRAM, port, &l->datagram_fd);
    int error = errno;
    freeaddrinfo(list);
    if (rc == 0)
        return PAWL_DONE;
    if (chosen)
        close_fd(&l->stream_fd); /* the next attempt may choose a port that is free for both */
    return pawl_fault_set(f, PAWL_RETRY, "%s: %s", address, strerror(error));
}

int listen_open(struct listening *l, const char *address, bool stream, bool datagram, unsigned mode,
                char *shown, size_t size, pawl_fault *f) {
    if ((!stream || l->stream_fd >= 0) && (!datagram || l->datagram_fd >= 0))
        return PAWL_DONE;
    bool local = listen_is_unix(address);
    int rc = local ? listen_unix(l, address, stream ? SOCK_STREAM : SOCK_DGRAM, mode, f)
                   : listen_inet(l, address, stream, datagram, f);
    if (rc != PAWL_DONE)
        return rc;
    if (l->datagram_fd >= 0) /* a kernel that can't say counts nothing */
        setsockopt(l->datagram_fd, SOL_SOCKET, SO_RXQ_OVFL, &(int){1}, sizeof(int));
    const char *colon = strrchr(address, ':');
    int host = colon == NULL ? 0 : (int)(colon - address);
    if (local)
        snprintf(shown, size, "listening on %.110s", address);
    else
        snprintf(shown, size, "listening on %.*s:%u", host != 0 ? host : 9,
                 host != 0 ? address : "127.0.0.1",
                 port_of(l->stream_fd >= 0 ? l->stream_fd : l->datagram_fd));
    return PAWL_DONE;
}

void listen_close(struct listening *l, const char *address) {
    struct stat st;
    bool open = l->stream_fd >= 0 || l->datagram_fd >= 0;
    close_fd(&l->stream_fd);
    close_fd(&l->datagram_fd);
    if (open && listen_is_unix(address) && lstat(address + 5, &st) == 0 && S_ISSOCK(st.st_mode) &&
        st.st_dev == l->dev && st.st_ino == l->ino)
        unlink(address + 5);
}

/* ---- datagrams */

ssize_t listen_receive(int fd, void *buf, size_t size, char from[PEER_MAX], uint32_t *drops) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(uint32_t))];
    } control;
    struct sockaddr_storage who;
    struct iovec v = {buf, size};
    ssize_t n;
    struct msghdr m = {.msg_name = &who, .msg_namelen = sizeof who, .msg_iov = &v, .msg_iovlen = 1};
    memset(&who, 0, sizeof who);
    do {
        m.msg_control = control.bytes;
        m.msg_controllen = sizeof control.bytes;
        n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_TRUNC);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c != NULL; c = CMSG_NXTHDR(&m, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL)
            memcpy(drops, CMSG_DATA(c), sizeof *drops);
    address_text(&who, m.msg_namelen, from);
    return n;
}

void listen_drops(int fd, uint32_t *drops) {
    uint32_t values[SK_MEMINFO_VARS] = {0};
    socklen_t n = sizeof values;
    if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, values, &n) == 0 &&
        n > SK_MEMINFO_DROPS * sizeof values[0])
        *drops = values[SK_MEMINFO_DROPS];
}
