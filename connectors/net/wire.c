/* SPDX-License-Identifier: Apache-2.0
 *
 * Listening sockets, connections and their buffers, all in one poll().
 */
#include "connectors/net/wire.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PAUSE_NS UINT64_C(1000000000) /* after such a pause all timeouts start again */

static bool is_unix(const char *address) {
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

int wire_address_check(const char *address, pawl_error *err) {
    char host[200], port[8];
    struct sockaddr_un un;
    if (is_unix(address) ? address[5] != 0 && strlen(address + 5) < sizeof un.sun_path
                         : split(address, host, port))
        return 0;
    return connect_error(err, PAWL_INVALID,
                         "address must be HOST:PORT, PORT or unix:PATH, not \"%s\"", address);
}

struct wire *wire_new(const struct wire_settings *s) {
    struct wire *w = calloc(1, sizeof *w);
    if (w == NULL)
        return NULL;
    w->set = *s;
    w->stream_fd = w->datagram_fd = -1;
    pthread_mutex_init(&w->mutex, NULL);
    w->connections = calloc(s->connections_max, sizeof *w->connections);
    if (w->connections == NULL) {
        wire_free(w);
        return NULL;
    }
    return w;
}

/* ---- listening */

static int listen_unix(struct wire *w, int type, int *out, pawl_fault *f) {
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    snprintf(un.sun_path, sizeof un.sun_path, "%s", w->set.address + 5);
    int probe = socket(AF_UNIX, type | SOCK_CLOEXEC, 0), fd;
    struct stat st;
    if (probe >= 0 && stat(un.sun_path, &st) == 0 && S_ISSOCK(st.st_mode) &&
        connect(probe, (struct sockaddr *)&un, sizeof un) != 0 && errno == ECONNREFUSED)
        unlink(un.sun_path); /* left by a process that was killed */
    if (probe >= 0)
        close(probe);
    fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t mask = umask(0177);
    int rc = fd >= 0 ? bind(fd, (struct sockaddr *)&un, sizeof un) : -1;
    umask(mask);
    if (rc == 0 && type == SOCK_STREAM)
        rc = listen(fd, 64);
    if (rc != 0) {
        int error = errno;
        if (fd >= 0)
            close(fd);
        return pawl_fault_set(f, error == EACCES ? PAWL_FATAL : PAWL_RETRY, "%s: %s",
                              w->set.address, strerror(error));
    }
    *out = fd;
    return PAWL_DONE;
}

static int bind_one(const struct addrinfo *a, int type, const char *port, int *out) {
    int one = 1, fd = socket(a->ai_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    struct sockaddr_storage to = {0};
    memcpy(&to, a->ai_addr, a->ai_addrlen);
    uint16_t number = htons((uint16_t)strtoul(port, NULL, 10));
    if (a->ai_family == AF_INET6)
        ((struct sockaddr_in6 *)&to)->sin6_port = number;
    else
        ((struct sockaddr_in *)&to)->sin_port = number;
    if (type == SOCK_STREAM)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    else
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){4 << 20}, sizeof(int));
    if (bind(fd, (struct sockaddr *)&to, a->ai_addrlen) != 0 ||
        (type == SOCK_STREAM && listen(fd, 64) != 0)) {
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

static int listen_inet(struct wire *w, pawl_fault *f) {
    char host[200], port[8];
    struct addrinfo hints = {.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM}, *list = NULL;
    if (!split(w->set.address, host, port))
        return pawl_fault_set(f, PAWL_FATAL, "%s is no address", w->set.address);
    int rc = getaddrinfo(host, NULL, &hints, &list);
    if (rc != 0)
        return pawl_fault_set(f, PAWL_RETRY, "%s: %s", host, gai_strerror(rc));
    rc = 0;
    if (w->set.stream && w->stream_fd < 0)
        rc = bind_one(list, SOCK_STREAM, port, &w->stream_fd);
    if (rc == 0 && w->set.stream) /* the same port for both, also if the system chose it */
        snprintf(port, sizeof port, "%u", port_of(w->stream_fd));
    if (rc == 0 && w->set.datagram && w->datagram_fd < 0)
        rc = bind_one(list, SOCK_DGRAM, port, &w->datagram_fd);
    int error = errno;
    freeaddrinfo(list);
    if (rc != 0)
        return pawl_fault_set(f, error == EACCES ? PAWL_FATAL : PAWL_RETRY, "%s: %s",
                              w->set.address, strerror(error));
    pthread_mutex_lock(&w->mutex);
    snprintf(w->shown, sizeof w->shown, "listening on %.90s:%u", host,
             port_of(w->stream_fd >= 0 ? w->stream_fd : w->datagram_fd));
    pthread_mutex_unlock(&w->mutex);
    return PAWL_DONE;
}

int wire_open(struct wire *w, pawl_fault *f) {
    w->looked_ns = connect_now(NULL);
    if ((!w->set.stream || w->stream_fd >= 0) && (!w->set.datagram || w->datagram_fd >= 0))
        return PAWL_DONE;
    if (!is_unix(w->set.address))
        return listen_inet(w, f);
    bool stream = w->set.stream;
    int rc = listen_unix(w, stream ? SOCK_STREAM : SOCK_DGRAM,
                         stream ? &w->stream_fd : &w->datagram_fd, f);
    pthread_mutex_lock(&w->mutex);
    if (rc == PAWL_DONE)
        snprintf(w->shown, sizeof w->shown, "listening on %.110s", w->set.address);
    pthread_mutex_unlock(&w->mutex);
    return rc;
}

void wire_status(struct wire *w, char *text, size_t size) {
    pthread_mutex_lock(&w->mutex);
    snprintf(text, size, "%s", w->shown);
    pthread_mutex_unlock(&w->mutex);
}

/* ---- connections */

static void flush(struct wire_connection *c) {
    while (c->out_len != 0) {
        ssize_t n = send(c->fd, c->out, c->out_len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            c->closing |= n < 0 && errno != EAGAIN && errno != EWOULDBLOCK;
            return;
        }
        memmove(c->out, c->out + n, c->out_len - (size_t)n);
        c->out_len -= (size_t)n;
    }
}

bool wire_say(struct wire_connection *c, const char *text) {
    size_t n = strlen(text);
    flush(c);
    if (c->out_len != 0 || n > sizeof c->out)
        return false;
    memcpy(c->out, text, n);
    c->out_len = n;
    flush(c);
    return true;
}

void wire_refuse(struct wire *w, struct wire_connection *c, const char *why) {
    char text[256];
    snprintf(text, sizeof text, "ERR %.240s\n", why);
    wire_say(c, text);
    c->refused = true;
    w->refused++;
}

static void drop(struct wire *w, uint32_t i) {
    close(w->connections[i].fd);
    free(w->connections[i].buf);
    w->connections[i] = w->connections[--w->count];
}

static void accept_one(struct wire *w, uint64_t now) {
    int fd = accept4(w->stream_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    uint8_t *buf = w->count < w->set.connections_max ? malloc(w->set.line_max + 1) : NULL;
    if (buf == NULL) {
        (void)!send(fd, "ERR too many connections\n", 25, MSG_DONTWAIT | MSG_NOSIGNAL);
        close(fd);
        w->refused++;
        return;
    }
    /* acknowledgements are small and must leave at once */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    w->connections[w->count++] = (struct wire_connection){.fd = fd, .buf = buf, .since_ns = now};
    w->accepted++;
}

static void receive(struct wire *w, struct wire_connection *c, uint64_t now) {
    if (c->from != 0)
        memmove(c->buf, c->buf + c->from, c->len - c->from);
    c->len -= c->from;
    c->from = 0;
    size_t cap = w->set.line_max + 1;
    if (c->len == cap)
        return;
    ssize_t n = recv(c->fd, c->buf + c->len, cap - c->len, MSG_DONTWAIT);
    if (n > 0) {
        c->len += (size_t)n;
        c->since_ns = c->since_ns != 0 ? c->since_ns : now;
    } else if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
        c->closing = true;
}

/* Drops the connections that are refused, too slow or closing. The owner has looked at all of them
 * since the last call, so nothing more can be taken from a closing one. */
static void tidy(struct wire *w, uint64_t now) {
    uint64_t paused = now - w->looked_ns;
    for (uint32_t i = w->count; i-- > 0;) {
        struct wire_connection *c = &w->connections[i];
        if (c->since_ns != 0 && paused > PAUSE_NS)
            c->since_ns = now;
        if (c->since_ns != 0 && !c->refused &&
            now - c->since_ns > (uint64_t)w->set.timeout_ms * 1000000u)
            wire_refuse(w, c, "too slow");
        if (c->refused || c->closing)
            drop(w, i);
    }
    w->looked_ns = now;
}

/* Shortens the timeout to the time when the first connection becomes too slow. */
static int until_slow(const struct wire *w, uint64_t now, int timeout_ms) {
    for (uint32_t i = 0; i < w->count; i++) {
        uint64_t since = w->connections[i].since_ns,
                 end = since + (uint64_t)w->set.timeout_ms * 1000000u;
        if (since != 0 && end < now + (uint64_t)timeout_ms * 1000000u)
            timeout_ms = end > now ? (int)((end - now) / 1000000) + 1 : 0;
    }
    return timeout_ms;
}

bool wire_wait(struct wire *w, int timeout_ms) {
    static const short in = POLLIN;
    struct pollfd p[WIRE_CONNECTIONS_MAX + 3];
    uint64_t now = connect_now(NULL);
    tidy(w, now);
    uint32_t n = w->count;
    timeout_ms = until_slow(w, now, timeout_ms);
    for (uint32_t i = 0; i < n; i++) {
        struct wire_connection *c = &w->connections[i];
        bool full = c->len - c->from > w->set.line_max;
        p[i] = (struct pollfd){
            c->fd, (short)((full ? 0 : in) | (c->out_len != 0 || c->owed ? POLLOUT : 0)), 0};
    }
    p[n] = (struct pollfd){w->stream_fd, in, 0};
    p[n + 1] = (struct pollfd){w->datagram_fd, in, 0};
    p[n + 2] = (struct pollfd){w->wake_fd, in, 0};
    int ready = poll(p, n + 3, timeout_ms);
    now = w->looked_ns = connect_now(NULL); /* the wait in poll() doesn't count as a pause */
    if (ready <= 0)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        struct wire_connection *c = &w->connections[i];
        if (p[i].revents & POLLOUT) {
            flush(c);
            if (c->owed && c->out_len == 0 && w->tell != NULL)
                w->tell(w->tell_arg, c);
        }
        if (p[i].revents & (POLLIN | POLLHUP | POLLERR))
            receive(w, c, now);
    }
    if (p[n].revents & POLLIN)
        accept_one(w, now);
    return (p[n + 1].revents & POLLIN) != 0;
}

void wire_free(struct wire *w) {
    if (w == NULL)
        return;
    while (w->connections != NULL && w->count != 0)
        drop(w, w->count - 1);
    free(w->connections);
    if (w->stream_fd >= 0)
        close(w->stream_fd);
    if (w->datagram_fd >= 0)
        close(w->datagram_fd);
    if (is_unix(w->set.address) && (w->stream_fd >= 0 || w->datagram_fd >= 0))
        unlink(w->set.address + 5);
    pthread_mutex_destroy(&w->mutex);
    free(w);
}
