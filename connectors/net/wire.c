/* SPDX-License-Identifier: Apache-2.0
 *
 * Connections and their buffers, all in one poll().
 */
#include "connectors/net/wire.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MS UINT64_C(1000000)
#define PAUSE_NS (1000 * MS)  /* after such a pause all timeouts start again */
#define ACCEPT_NS (1000 * MS) /* pause after an accept() that failed */
#define LOAD_NS (1000 * MS)   /* how often the files of TLS are looked at */
#define CHECK_NS (5000 * MS)  /* how often a Unix socket's name is looked at */
#define IDLE_MS 900000u       /* default of `idle` where senders come again */
#define ACCEPT_MAX 8          /* new connections of a turn */
#define GRACE_NS (1000 * MS)  /* what a new connection has to send something useful */
#define TLS_BYTES 65536u      /* what OpenSSL takes for a connection, about */

static int tls_settings_take(struct wire_settings *w, const pawl_connector *c,
                             const pawl_settings *g, const char *address, pawl_error *err) {
    static const char *const others[] = {"tls_key",    "tls_key_password", "tls_ca",
                                         "tls_client", "tls_names",        "tls_min"};
    struct tls_settings t = {.cert = pawl_setting_text(c, g, "tls_cert"),
                             .key = pawl_setting_text(c, g, "tls_key"),
                             .password = pawl_setting_text(c, g, "tls_key_password"),
                             .ca = pawl_setting_text(c, g, "tls_ca"),
                             .names = pawl_setting_text(c, g, "tls_names"),
                             .client = connect_setting_choice(c, g, "tls_client"),
                             .only_13 = pawl_setting_number(c, g, "tls_min") != 0};
    for (size_t i = 0; t.cert == NULL && i < sizeof others / sizeof others[0]; i++)
        if (connect_setting_given(g, others[i]))
            return connect_error(err, PAWL_INVALID, "line %u: %s needs tls_cert",
                                 pawl_setting_line(g, others[i]), others[i]);
    if (t.cert == NULL)
        return 0;
    if (listen_is_unix(address))
        return connect_error(err, PAWL_INVALID, "line %u: a Unix socket has no TLS",
                             pawl_setting_line(g, "tls_cert"));
    t.key = t.key != NULL ? t.key : t.cert;
    return tls_new(&t, &w->tls, err);
}

/* Limits of peers and memory, which can be known beforehand. */
static int limits_take(struct wire_settings *w, const pawl_connector *c, const pawl_settings *g,
                       pawl_error *err) {
    uint64_t of_peer = pawl_setting_number(c, g, "connections_per_peer"),
             most = pawl_setting_number(c, g, "memory"),
             each = w->line_max + FRAME_PREFIX_MAX + 1 + (w->tls != NULL ? TLS_BYTES : 0),
             all = each * w->connections_max;
    if (of_peer > w->connections_max)
        return connect_error(err, PAWL_INVALID,
                             "line %u: connections_per_peer must be at most connections, %u",
                             pawl_setting_line(g, "connections_per_peer"), w->connections_max);
    w->peer_max = (uint32_t)of_peer;
    if (of_peer == 0)
        w->peer_max = w->connections_max - w->connections_max / 8;
    if (all <= most)
        return 0;
    uint32_t line = pawl_setting_line(g, "connections");
    return connect_error(err, PAWL_INVALID,
                         "line %u: %u connections of %llu bytes each (line_max%s) take %llu bytes, "
                         "and memory is %llu: lower connections or line_max, or raise memory",
                         line != 0 ? line : pawl_setting_line(g, "line_max"), w->connections_max,
                         (unsigned long long)each, w->tls != NULL ? " and TLS" : "",
                         (unsigned long long)all, (unsigned long long)most);
}

int wire_settings_take(struct wire_settings *w, const pawl_connector *c, const pawl_settings *g,
                       size_t least, size_t most, pawl_error *err) {
    const char *address = pawl_setting_text(c, g, "address"),
               *mode = pawl_setting_text(c, g, "mode");
    uint64_t connections = pawl_setting_number(c, g, "connections"),
             line_max = pawl_setting_number(c, g, "line_max");
    int rc = listen_check(address, err);
    if (rc < 0)
        return rc;
    if (connections < 1 || connections > WIRE_CONNECTIONS_MAX)
        return connect_error(err, PAWL_INVALID, "line %u: connections must be 1 to %u",
                             pawl_setting_line(g, "connections"), WIRE_CONNECTIONS_MAX);
    if (line_max < least || line_max > most)
        return connect_error(err, PAWL_INVALID, "line %u: line_max must be %zu to %zu bytes",
                             pawl_setting_line(g, "line_max"), least, most);
    if (strlen(mode) < 3 || strlen(mode) > 4 || strspn(mode, "01234567") != strlen(mode))
        return connect_error(err, PAWL_INVALID,
                             "line %u: mode must be octal, such as 600 or 660, not \"%s\"",
                             pawl_setting_line(g, "mode"), mode);
    rc = tls_settings_take(w, c, g, address, err);
    if (rc < 0)
        return rc;
    snprintf(w->address, sizeof w->address, "%s", address);
    w->connections_max = (uint32_t)connections;
    w->line_max = line_max;
    w->mode = connect_small(strtoul(mode, NULL, 8));
    w->timeout_ms = connect_setting_small(c, g, "timeout");
    w->idle_ms = connect_setting_small(c, g, "idle");
    if (!connect_setting_given(g, "idle") && w->answers)
        w->idle_ms = IDLE_MS;
    rc = limits_take(w, c, g, err);
    if (rc < 0)
        tls_free(w->tls);
    return rc;
}

struct wire *wire_new(const struct wire_settings *s) {
    struct wire *w = calloc(1, sizeof *w);
    if (w == NULL) {
        tls_free(s->tls);
        return NULL;
    }
    w->set = *s;
    w->listening = (struct listening){.stream_fd = -1, .datagram_fd = -1};
    pthread_mutex_init(&w->mutex, NULL);
    w->connections = calloc(s->connections_max, sizeof *w->connections);
    if (w->connections == NULL) {
        wire_free(w);
        return NULL;
    }
    return w;
}

static int load_files(struct wire *w, pawl_fault *f) {
    char warning[400];
    int rc = tls_load(w->set.tls, warning, sizeof warning, f);
    w->loaded_ns = connect_now(NULL);
    if (warning[0] != 0)
        wire_report(w, WIRE_TLS, "%s", warning);
    return rc;
}

int wire_open(struct wire *w, pawl_source_context *x, pawl_fault *f) {
    char shown[sizeof w->shown] = "";
    w->context = x;
    w->looked_ns = connect_now(NULL);
    int rc = w->set.tls != NULL ? load_files(w, f) : PAWL_DONE;
    if (rc != PAWL_DONE)
        return rc;
    rc = listen_open(&w->listening, w->set.address, w->set.stream, w->set.datagram, w->set.mode,
                     shown, sizeof shown, f);
    pthread_mutex_lock(&w->mutex);
    if (rc == PAWL_DONE && shown[0] != 0)
        memcpy(w->shown, shown, sizeof shown);
    w->drops_seen = rc == PAWL_DONE && shown[0] != 0 ? 0 : w->drops_seen;
    pthread_mutex_unlock(&w->mutex);
    return rc;
}

/* ---- what is said */

static void say_held(struct wire *w, struct wire_pace *p, uint64_t now) {
    uint64_t held = connect_pace_held(&p->pace, now, false);
    if (held != 0)
        pawl_source_report(w->context, 2, "%s (and %llu more like it in the last %u s)", p->last,
                           (unsigned long long)held - 1, CONNECT_SAY_MS / 1000);
}

void wire_report(struct wire *w, enum wire_event event, const char *format, ...) {
    struct wire_pace *p = &w->said[event];
    va_list args;
    va_start(args, format);
    vsnprintf(p->last, sizeof p->last, format, args);
    va_end(args);
    if (connect_pace_one(&p->pace, connect_now(NULL)))
        pawl_source_report(w->context, 2, "%s", p->last);
}

void wire_origin(struct wire *w, const char *thing, const char *peer, uint64_t from, uint64_t to,
                 bool begins) {
    pawl_outside o = PAWL_OUTSIDE_INIT;
    o.thing = thing;
    o.note = peer;
    o.from = from;
    o.to = to;
    o.unit = PAWL_OUTSIDE_MESSAGES;
    o.mark_kind = PAWL_MARKS_NUMBERS;
    o.flags = begins ? PAWL_OUTSIDE_BEGINS : 0;
    if (pawl_source_origin(w->context, &o, to - from) < 0)
        pawl_source_report(w->context, 2,
                           "%s: no memory to note where messages %llu to %llu came from; `pawl "
                           "audit` will show them as a gap",
                           thing, (unsigned long long)from, (unsigned long long)to - 1);
}

void wire_status(struct wire *w, char *text, size_t size) {
    char more[120] = "";
    size_t n = 0;
    pthread_mutex_lock(&w->mutex);
    if (w->set.tls != NULL)
        n += (size_t)snprintf(more + n, sizeof more - n, ", TLS");
    if (w->open != 0)
        n += (size_t)snprintf(more + n, sizeof more - n, ", %u connected", w->open);
    if (w->refused != 0)
        n += (size_t)snprintf(more + n, sizeof more - n, ", %llu refused",
                              (unsigned long long)w->refused);
    if (w->drops != 0)
        snprintf(more + n, sizeof more - n, ", %llu datagrams dropped",
                 (unsigned long long)w->drops);
    snprintf(text, size, "%s%s", w->shown, more);
    pthread_mutex_unlock(&w->mutex);
}

static void count(struct wire *w, uint64_t *counter, uint64_t n) {
    pthread_mutex_lock(&w->mutex);
    *counter += n;
    w->open = w->count;
    pthread_mutex_unlock(&w->mutex);
}

/* ---- sending */

static void end_input(struct wire_connection *c, bool orderly, const char *why) {
    if (!c->closing) {
        c->closing = true;
        c->orderly = orderly;
        c->cut_why = why;
    }
}

/* Sends what the socket takes of the bytes in flight. Returns their number, or 0. */
static size_t send_some(struct wire_connection *c) {
    size_t n = 0;
    if (c->tls != NULL) {
        enum tls_step s = c->secure ? tls_send(c->tls, c->out, c->out_len, &n) : TLS_WAIT;
        if (s != TLS_DONE && s != TLS_WAIT)
            end_input(c, false, "the connection broke");
        return s == TLS_DONE ? n : 0;
    }
    ssize_t sent;
    do
        sent = send(c->fd, c->out, c->out_len, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
        end_input(c, false, "the connection broke");
    return sent > 0 ? (size_t)sent : 0;
}

static void flush(struct wire_connection *c) {
    while (c->out_len != 0) {
        size_t n = send_some(c);
        if (n == 0)
            return;
        memmove(c->out, c->out + n, c->out_len - n);
        c->out_len -= n;
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

void wire_replace(struct wire *w, struct wire_connection *c, const char *why) {
    char text[256];
    snprintf(text, sizeof text, "ERR %.240s\n", why);
    if (w->set.answers)
        wire_say(c, text);
    c->refused = true;
}

static void end(struct wire *w, struct wire_connection *c, const char *why) {
    wire_replace(w, c, why);
    count(w, &w->refused, 1);
}

static void say_ended(struct wire *w, enum wire_event event, const struct wire_connection *c,
                      const char *why) {
    wire_report(w, event, "%s%s%s: its connection was ended: %s", c->peer,
                c->sender[0] != 0 ? ", sender " : "", c->sender, why);
}

void wire_refuse(struct wire *w, struct wire_connection *c, const char *why) {
    say_ended(w, WIRE_REFUSED, c, why);
    end(w, c, why);
}

/* ---- connections */

static void drop(struct wire *w, uint32_t i) {
    struct wire_connection *c = &w->connections[i];
    tls_close(c->tls);
    /* A close() with unread bytes would take back what was sent last. */
    shutdown(c->fd, SHUT_WR);
    (void)!recv(c->fd, c->buf, w->set.line_max, MSG_DONTWAIT);
    close(c->fd);
    free(c->buf);
    *c = w->connections[--w->count];
    count(w, &w->refused, 0);
}

/* A peer as a number. */
static uint64_t key_of(const struct peer_id *id) {
    return (uint64_t)id->kind << 56 | connect_get_le(id->bytes, sizeof id->bytes);
}

static enum crowd_worth worth_of(const struct wire *w, const struct wire_connection *c,
                                 uint64_t now) {
    bool silent = c->from == c->len && c->out_len == 0 && !c->owed;
    if (c->refused)
        return CROWD_NEW;
    /* what it has sent may not be received yet: then it is sent again, or else gets more time */
    if (!c->served || (!w->set.answers && now - c->heard_ns < GRACE_NS))
        return CROWD_BUSY;
    if ((c->tls != NULL && !c->secure) || (w->set.answers && c->sender[0] == 0))
        return CROWD_NEW;
    if (!c->useful && (w->set.answers || silent))
        return w->set.answers ? CROWD_OPEN : CROWD_NEW;
    return silent && now - c->heard_ns > w->set.timeout_ms * MS ? CROWD_QUIET : CROWD_BUSY;
}

/* Where a connection of this peer finds a place: see crowd_place(). */
static int place_of(const struct wire *w, uint64_t peer, uint64_t now) {
    struct crowd_member m[WIRE_CONNECTIONS_MAX];
    struct crowd_rule r = {
        .max = w->set.connections_max, .peer_max = w->set.peer_max, .keeps_quiet = !w->set.answers};
    for (uint32_t i = 0; i < w->count; i++) {
        const struct wire_connection *c = &w->connections[i];
        m[i] = (struct crowd_member){key_of(&c->id), worth_of(w, c, now), c->heard_ns};
    }
    return crowd_place(&r, m, w->count, peer);
}

/* A place for a new connection; where there is none, another one is ended. Its sender comes
 * again. */
static bool make_room(struct wire *w, const struct peer_id *id, uint64_t now) {
    int at = place_of(w, key_of(id), now);
    if (at >= 0) {
        wire_report(w, WIRE_CROWDED, "%s: its connection was ended, as others wait for its place",
                    w->connections[at].peer);
        end(w, &w->connections[at], "silent, and others wait for its place");
        drop(w, (uint32_t)at);
    }
    return at != CROWD_REFUSED;
}

/* Of a connection's buffer. */
static size_t capacity(const struct wire *w) {
    return w->set.line_max + FRAME_PREFIX_MAX + 1;
}

static void keep_alive(int fd) {
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &(int){1}, sizeof(int));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &(int){60}, sizeof(int));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &(int){15}, sizeof(int));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &(int){4}, sizeof(int));
    /* acknowledgements are small and must leave at once */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

/* Begins TLS on a new connection, with the newest files. */
static struct tls_link *secure(struct wire *w, int fd, uint64_t now) {
    if (now - w->loaded_ns > LOAD_NS)
        (void)load_files(w, NULL); /* they are loaded: it can't fail */
    return tls_accept(w->set.tls, fd);
}

static bool accept_one(struct wire *w, uint64_t now) {
    int fd = accept4(w->listening.stream_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            w->accept_at_ns = now + ACCEPT_NS; /* the others are served meanwhile */
            wire_report(w, WIRE_FILES, "no new connections now: %s; they wait", strerror(errno));
        }
        return false;
    }
    struct peer_id id = listen_peer_id(fd);
    bool room = make_room(w, &id, now);
    uint8_t *buf = room ? malloc(capacity(w)) : NULL;
    struct tls_link *tls = buf != NULL && w->set.tls != NULL ? secure(w, fd, now) : NULL;
    if (buf == NULL || (w->set.tls != NULL && tls == NULL)) {
        free(buf);
        if (w->set.answers && w->set.tls == NULL)
            (void)!send(fd, "ERR too many connections\n", 25, MSG_DONTWAIT | MSG_NOSIGNAL);
        close(fd);
        wire_report(w, WIRE_CROWDED, "a connection was refused: %s",
                    room ? "no memory"
                         : "there are as many as `connections` allows, in all or of one peer");
        count(w, &w->refused, 1);
        return true;
    }
    keep_alive(fd);
    struct wire_connection *c = &w->connections[w->count++];
    *c = (struct wire_connection){
        .fd = fd, .tls = tls, .buf = buf, .id = id, .since_ns = now, .heard_ns = now};
    listen_peer(fd, c->peer);
    count(w, &w->accepted, 1);
    if (w->count == w->set.connections_max && !w->set.answers)
        wire_report(w, WIRE_CROWDED, "%u connections, as `connections` allows: others wait",
                    w->count);
    return true;
}

static void handshake(struct wire *w, struct wire_connection *c) {
    enum tls_step s = tls_handshake(c->tls);
    if (s == TLS_WAIT)
        return;
    if (s == TLS_DONE) {
        const char *subject = tls_subject(c->tls);
        size_t n = strlen(c->peer);
        c->secure = true;
        c->since_ns = 0;
        if (subject[0] != 0)
            snprintf(c->peer + n, sizeof c->peer - n, " %s", subject);
        return;
    }
    wire_report(w, WIRE_TLS, "%s: no TLS connection: %s", c->peer, tls_why(c->tls));
    c->refused = true;
    count(w, &w->refused, 1);
}

static void receive_tls(struct wire *w, struct wire_connection *c, uint64_t now) {
    size_t n = 0;
    if (!c->secure)
        handshake(w, c);
    if (!c->secure || c->refused)
        return;
    switch (tls_recv(c->tls, c->buf + c->len, capacity(w) - c->len, &n)) {
    case TLS_DONE:
        c->len += n;
        c->heard_ns = now;
        break;
    case TLS_WAIT:
        break;
    case TLS_END:
        end_input(c, true, "");
        break;
    case TLS_CUT:
        end_input(c, false, "its TLS stream ended without close_notify");
        break;
    case TLS_BAD:
        wire_report(w, WIRE_TLS, "%s: its connection was ended: %s", c->peer, tls_why(c->tls));
        end_input(c, false, "its TLS stream is broken");
        break;
    }
}

static void receive(struct wire *w, struct wire_connection *c, uint64_t now) {
    if (c->from != 0)
        memmove(c->buf, c->buf + c->from, c->len - c->from);
    c->len -= c->from;
    c->from = 0;
    if (c->len == capacity(w) || c->closing || c->refused)
        return;
    if (c->tls != NULL) {
        receive_tls(w, c, now);
        return;
    }
    ssize_t n = recv(c->fd, c->buf + c->len, capacity(w) - c->len, MSG_DONTWAIT);
    if (n > 0) {
        c->len += (size_t)n;
        c->heard_ns = now;
    } else if (n == 0)
        end_input(c, true, "");
    else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
        end_input(c, false, "the connection broke");
}

static struct frame_rule rule(const struct wire *w) {
    return (struct frame_rule){.max = w->set.line_max, .octets = w->set.octets};
}

struct frame wire_frame(const struct wire *w, const struct wire_connection *c) {
    struct frame_rule r = rule(w);
    const uint8_t *p = c->buf + c->from;
    struct frame f = frame_next(&r, &c->framing, p, c->len - c->from);
    /* A sender that sends again what isn't acknowledged also sends the end of its lines. */
    if (f.kind == FRAME_NONE && c->closing)
        f = frame_last(&r, &c->framing, p, c->len - c->from, c->orderly && !w->set.answers);
    return f;
}

void wire_take(struct wire_connection *c, const struct frame *f) {
    assert(f->used <= c->len - c->from);
    c->from += f->used;
    c->framing = f->next;
    /* A message that is being skipped is measured by its pauses, others by their beginning. */
    c->since_ns = 0;
}

static void note_drops(struct wire *w, uint32_t drops) {
    uint32_t more = drops - w->drops_seen;
    if (more == 0)
        return;
    w->drops_seen = drops;
    count(w, &w->drops, more);
    wire_report(w, WIRE_DROPS,
                "the kernel dropped %u datagrams: they came faster than they were read (%llu so "
                "far); net.core.rmem_max limits its buffer",
                more, (unsigned long long)w->drops);
}

ssize_t wire_datagram(struct wire *w, void *buf, size_t size, char from[PEER_MAX]) {
    uint32_t drops = w->drops_seen;
    ssize_t n = listen_receive(w->listening.datagram_fd, buf, size, from, &drops);
    if (n < 0) /* a burst has ended */
        listen_drops(w->listening.datagram_fd, &drops);
    note_drops(w, drops);
    return n;
}

/* ---- time */

/* Something has begun that must end within timeout_ms. */
static bool unfinished(const struct wire *w, const struct wire_connection *c) {
    return c->from != c->len || (c->tls != NULL && !c->secure) || c->framing.line ||
           c->framing.skip != 0 || (w->set.answers && c->sender[0] == 0);
}

static void too_slow(struct wire *w, struct wire_connection *c, const char *why) {
    say_ended(w, WIRE_SLOW, c, why);
    if (w->set.answers)
        end(w, c, why); /* it sends again what was not acknowledged */
    else
        end_input(c, false, why); /* what is there is given first */
}

/* Drops the connections that are refused or closing; the owner has looked at all of them since the
 * last call, so nothing more can be taken from a closing one. Then ends those that are too slow. */
static void tidy(struct wire *w, uint64_t now) {
    uint64_t paused = now - w->looked_ns;
    for (uint32_t i = w->count; i-- > 0;) {
        struct wire_connection *c = &w->connections[i];
        if (c->refused || c->closing) {
            drop(w, i);
            continue;
        }
        if (!unfinished(w, c))
            c->since_ns = 0;
        else if (c->since_ns == 0)
            c->since_ns = now;
        if (paused > PAUSE_NS) {
            c->since_ns = c->since_ns != 0 ? now : 0;
            c->heard_ns = now;
        }
        const char *why = NULL;
        if (c->since_ns != 0 && now - c->since_ns > w->set.timeout_ms * MS)
            why = "too slow: something was left unfinished";
        else if (w->set.idle_ms != 0 && now - c->heard_ns > w->set.idle_ms * MS)
            why = "it said nothing for too long";
        /* only then: what came in time may wait in the socket, to be received first */
        if (why != NULL && c->due)
            too_slow(w, c, why);
        c->due = why != NULL;
    }
    w->looked_ns = now;
    for (int i = 0; i < WIRE_EVENTS; i++)
        say_held(w, &w->said[i], now);
}

/* Bytes that TLS has decrypted, and that there is room for: poll() doesn't know of them. */
static bool decrypted(const struct wire *w, const struct wire_connection *c) {
    return c->secure && !c->closing && c->len - c->from < capacity(w) && tls_pending(c->tls);
}

static void sooner(uint64_t at, uint64_t now, int *timeout_ms) {
    if (at < now + (uint64_t)*timeout_ms * MS)
        *timeout_ms = at > now ? (int)((at - now) / MS) + 1 : 0;
}

/* Shortens the timeout to the time when something here is due. */
static int until_due(const struct wire *w, uint64_t now, int timeout_ms) {
    for (uint32_t i = 0; i < w->count; i++) {
        const struct wire_connection *c = &w->connections[i];
        if (c->refused || c->closing || c->due || decrypted(w, c))
            return 0;
        if (c->since_ns != 0)
            sooner(c->since_ns + w->set.timeout_ms * MS, now, &timeout_ms);
        if (w->set.idle_ms != 0)
            sooner(c->heard_ns + w->set.idle_ms * MS, now, &timeout_ms);
    }
    for (int i = 0; i < WIRE_EVENTS; i++)
        if (w->said[i].pace.held != 0)
            sooner(w->said[i].pace.next_ns, now, &timeout_ms);
    if (w->accept_at_ns > now)
        sooner(w->accept_at_ns, now, &timeout_ms);
    return timeout_ms;
}

/* Somebody removed or replaced the Unix socket's name: nobody can connect any more. */
static void check_name(struct wire *w, uint64_t now) {
    struct stat st;
    if (!listen_is_unix(w->set.address) || now - w->checked_ns < CHECK_NS)
        return;
    w->checked_ns = now;
    w->lost = lstat(w->set.address + 5, &st) != 0 || st.st_dev != w->listening.dev ||
              st.st_ino != w->listening.ino;
    if (w->lost)
        listen_close(&w->listening, w->set.address);
}

/* New connections are accepted now. Peers that aren't told why they are refused wait instead. */
static bool accepts(struct wire *w, uint64_t now) {
    if (w->listening.stream_fd < 0 || w->accept_at_ns > now)
        return false;
    if (w->count < w->set.connections_max || w->set.answers)
        return true;
    return place_of(w, UINT64_MAX, now) != CROWD_REFUSED; /* of a peer that has none yet */
}

int wire_lost(struct wire *w, pawl_fault *f) {
    w->lost = false;
    return pawl_fault_set(f, PAWL_RETRY,
                          "%s was removed or replaced by somebody else: it is made again",
                          w->set.address);
}

static short events(const struct wire *w, const struct wire_connection *c) {
    bool full = c->len - c->from == capacity(w) || c->closing;
    bool out = c->out_len != 0 || c->owed || (c->tls != NULL && tls_wants_write(c->tls));
    return (short)((full ? 0 : POLLIN) | (out ? POLLOUT : 0));
}

static void serve(struct wire *w, struct wire_connection *c, short revents, uint64_t now) {
    c->served = true;
    if (revents & POLLOUT) {
        flush(c);
        if (c->owed && c->out_len == 0 && w->tell != NULL)
            w->tell(w->tell_arg, c);
    }
    bool shaking = c->tls != NULL && !c->secure && (revents & POLLOUT) != 0;
    if ((revents & (POLLIN | POLLHUP | POLLERR)) != 0 || shaking || decrypted(w, c))
        receive(w, c, now);
}

bool wire_wait(struct wire *w, int timeout_ms) {
    struct pollfd p[WIRE_CONNECTIONS_MAX + 3];
    uint64_t now = connect_now(NULL);
    tidy(w, now);
    check_name(w, now);
    uint32_t n = w->count;
    timeout_ms = until_due(w, now, timeout_ms);
    for (uint32_t i = 0; i < n; i++)
        p[i] = (struct pollfd){w->connections[i].fd, events(w, &w->connections[i]), 0};
    p[n] = (struct pollfd){accepts(w, now) ? w->listening.stream_fd : -1, POLLIN, 0};
    p[n + 1] = (struct pollfd){w->listening.datagram_fd, POLLIN, 0};
    p[n + 2] = (struct pollfd){w->wake_fd, POLLIN, 0};
    int ready = poll(p, n + 3, w->lost ? 0 : timeout_ms);
    now = w->looked_ns = connect_now(NULL); /* the wait in poll() doesn't count as a pause */
    for (uint32_t i = 0; i < n; i++)
        serve(w, &w->connections[i], ready > 0 ? p[i].revents : 0, now);
    if (ready <= 0)
        return false;
    for (int i = 0; (p[n].revents & POLLIN) != 0 && i < ACCEPT_MAX && accepts(w, now); i++)
        if (!accept_one(w, now))
            break;
    return (p[n + 1].revents & POLLIN) != 0;
}

void wire_free(struct wire *w) {
    if (w == NULL)
        return;
    while (w->connections != NULL && w->count != 0)
        drop(w, w->count - 1);
    free(w->connections);
    listen_close(&w->listening, w->set.address);
    tls_free(w->set.tls);
    pthread_mutex_destroy(&w->mutex);
    free(w);
}
