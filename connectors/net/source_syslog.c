/* SPDX-License-Identifier: Apache-2.0
 *
 * The source "syslog": messages over UDP, TCP or a Unix datagram socket. TCP messages are counted
 * by octets or ended by LF, which is decided for each message (RFC 6587). Syslog has no
 * acknowledgements: messages that were received but aren't durable at a crash are lost. While the
 * log is full, the kernel drops datagrams.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "connectors/net/syslog.h"
#include "connectors/net/wire.h"
#include "connectors/text/json_text.h"

#define BATCH_MAX 1024u
#define HEADERS_MAX 9u
#define ARENA (4u << 20) /* received datagrams, and JSON */

enum { AS_HEADERS = 0, AS_JSON = 1, AS_RAW = 2 };

struct syslog_source {
    struct wire *wire;
    pawl_source_context *context;
    int format;
    uint64_t count;
    char *arena;
    size_t used;
    pawl_record records[BATCH_MAX];
    pawl_header headers[BATCH_MAX][HEADERS_MAX];
    char numbers[BATCH_MAX][2][4];
};

static const pawl_setting_info settings[] = {
    {"address", PAWL_SETTING_TEXT, 1, NULL, NULL,
     "HOST:PORT, PORT (on 127.0.0.1; 0: any) or unix:PATH (datagrams)"},
    {"transport", PAWL_SETTING_CHOICE, 0, "both|udp|tcp", "both", "what is listened to"},
    {"format", PAWL_SETTING_CHOICE, 0, "headers|json|raw", "headers",
     "the fields become headers and the text the value; or all of it a JSON value; or the message "
     "as it came"},
    {"line_max", PAWL_SETTING_SIZE, 0, NULL, "64k",
     "the longest message over TCP; a longer one ends its connection"},
    {"connections", PAWL_SETTING_NUMBER, 0, NULL, "64",
     "limit of connections at once; each has a buffer of line_max"},
    {"timeout", PAWL_SETTING_TIME, 0, NULL, "30s",
     "a peer that leaves a message unfinished for this long is disconnected"},
    {0},
};

static const char *const names[SYSLOG_FIELDS] = {"time",  "host", "app", "procid",
                                                 "msgid", "data", "text"};

static int source_open(void *self, pawl_source_context *x, pawl_fault *f) {
    struct syslog_source *s = self;
    uint8_t at[PAWL_SOURCE_POSITION_MAX] = {0};
    s->context = x;
    int n = pawl_source_position(x, "", at);
    if (n < 0)
        return connect_position_fault(n, f);
    memcpy(&s->count, at, sizeof s->count);
    return wire_open(s->wire, f);
}

/* ---- JSON */

/* Writes a quoted string of at most 6 n + 2 bytes. Returns its end. */
static char *quote(char *to, const char *text, size_t n) {
    *to++ = '"';
    while (n > 0) {
        char escaped[JSON_ESCAPE_MAX];
        size_t plain = json_plain(text, n);
        memcpy(to, text, plain);
        to += plain;
        text += plain;
        n -= plain;
        if (n > 0) {
            size_t len = json_escape((unsigned char)*text++, escaped);
            memcpy(to, escaped, len);
            to += len;
            n--;
        }
    }
    *to++ = '"';
    return to;
}

static size_t json_max(const struct syslog_message *m) {
    size_t n = 100;
    for (int i = 0; i < SYSLOG_FIELDS; i++)
        n += 6 * m->len[i] + 16;
    return n;
}

static void as_json(struct syslog_source *s, const struct syslog_message *m, pawl_record *r) {
    char *from = s->arena + s->used, *to = from;
    to += snprintf(to, 100, "{\"facility\":%d,\"severity\":%d,\"rfc\":%d", m->facility, m->severity,
                   m->version);
    for (int i = 0; i < SYSLOG_FIELDS; i++)
        if (m->len[i] != 0 || i == SYSLOG_TEXT) {
            to += snprintf(to, 16, ",\"%s\":", names[i]);
            to = quote(to, m->at[i], m->len[i]);
        }
    *to++ = '}';
    r->value = from;
    r->value_len = (uint32_t)(to - from);
    s->used += (size_t)(to - from);
}

/* ---- headers */

static void add_header(struct syslog_source *s, size_t index, const char *name, const char *value,
                       size_t n) {
    pawl_record *r = &s->records[index];
    size_t most = 16384; /* keeps all headers together below a record's limit */
    s->headers[index][r->header_count++] =
        (pawl_header){name, value, (uint16_t)strlen(name), (uint16_t)(n < most ? n : most)};
}

static void as_headers(struct syslog_source *s, const struct syslog_message *m, size_t index) {
    static const char *const headers[] = {"syslog-time",   "syslog-host",  "syslog-app",
                                          "syslog-procid", "syslog-msgid", "syslog-data"};
    pawl_record *r = &s->records[index];
    r->value = m->at[SYSLOG_TEXT];
    r->value_len = (uint32_t)m->len[SYSLOG_TEXT];
    r->headers = s->headers[index];
    if (m->version == 0)
        return;
    for (int i = 0; i < 2; i++) {
        int n = snprintf(s->numbers[index][i], 4, "%d", (i == 0 ? m->facility : m->severity) & 31);
        add_header(s, index, i == 0 ? "syslog-facility" : "syslog-severity", s->numbers[index][i],
                   (size_t)n);
    }
    size_t left = 40000;
    for (int i = 0; i < SYSLOG_TEXT; i++)
        if (m->len[i] != 0 && m->len[i] <= left) {
            add_header(s, index, headers[i], m->at[i], m->len[i]);
            left -= m->len[i] < 16384 ? m->len[i] : 16384;
        }
}

/* Makes a record of one message, whose bytes must stay in place until the next read. False: this
 * batch has no room for it. */
static bool message(struct syslog_source *s, size_t index, const char *text, size_t n) {
    struct syslog_message m;
    pawl_record *r = &s->records[index];
    syslog_parse(text, n, &m);
    if (s->format == AS_JSON && json_max(&m) > ARENA - s->used)
        return false;
    *r = (pawl_record){.value = text, .value_len = (uint32_t)n};
    r->timestamp_ns = m.time_ns > 0 ? m.time_ns : connect_wall_ns();
    if (s->format == AS_JSON)
        as_json(s, &m, r);
    else if (s->format == AS_HEADERS)
        as_headers(s, &m, index);
    return true;
}

/* ---- TCP */

/* Finds the first message in the buffer. Returns how many bytes it takes, framing included, and
 * sets its place and length. 0: not complete yet; -1: too long. */
static long frame(const struct syslog_source *s, const struct wire_connection *c, const char **text,
                  size_t *n) {
    const char *p = (const char *)c->buf + c->from;
    size_t have = c->len - c->from, len = 0, i = 0, most = s->wire->set.line_max;
    if (have == 0)
        return 0;
    if (p[0] >= '1' && p[0] <= '9') { /* LENGTH SP MESSAGE */
        for (; i < have && i < 8 && p[i] >= '0' && p[i] <= '9'; i++)
            len = len * 10 + (size_t)(p[i] - '0');
        if (i == have && i < 8)
            return 0;
        if (i < 8 && p[i] == ' ') {
            if (i + 1 + len > most)
                return -1;
            *text = p + i + 1;
            *n = len;
            return have >= i + 1 + len ? (long)(i + 1 + len) : 0;
        }
    }
    const char *newline = memchr(p, '\n', have);
    if (newline == NULL)
        return have > most ? -1 : 0;
    *text = p;
    *n = (size_t)(newline - p);
    return newline - p + 1;
}

static size_t take(struct syslog_source *s, struct wire_connection *c, size_t max) {
    size_t count = 0, n;
    const char *text;
    long used = 0;
    while (count < max && !c->refused && (used = frame(s, c, &text, &n)) > 0) {
        if (n != 0) {
            if (!message(s, count, text, n))
                break;
            count++;
        }
        c->from += (size_t)used;
        c->since_ns = 0;
    }
    if (used < 0)
        wire_refuse(s->wire, c, "the message is too long");
    if (c->from != c->len && c->since_ns == 0)
        c->since_ns = connect_now(NULL);
    /* the last message has no end mark */
    if (count == 0 && used == 0 && c->closing && c->from != c->len) {
        (void)message(s, 0, (const char *)c->buf + c->from, c->len - c->from);
        c->from = c->len;
        count = 1;
    }
    if (c->from == c->len)
        c->since_ns = 0;
    return count;
}

/* ---- UDP */

static size_t datagrams(struct syslog_source *s, size_t max) {
    size_t count = 0;
    while (count < max && ARENA - s->used > 8u * 65536u) {
        char *text = s->arena + s->used;
        ssize_t n = recv(s->wire->datagram_fd, text, 65536, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            break;
        if (n == 0)
            continue;
        s->used += (size_t)n;
        count += message(s, count, text, (size_t)n);
    }
    return count;
}

static void give(struct syslog_source *s, pawl_source_batch *out, size_t n) {
    s->count += n;
    out->item = "";
    out->records = s->records;
    out->count = n;
    memcpy(out->position, &s->count, sizeof s->count);
    out->position_len = sizeof s->count;
}

static int source_read(void *self, pawl_source_batch *out, size_t max_records, size_t max_bytes,
                       int timeout_ms, pawl_fault *f) {
    struct syslog_source *s = self;
    struct wire *w = s->wire;
    w->wake_fd = connect_wake_fd(s->context);
    size_t n = 0;
    (void)max_bytes;
    (void)f;
    max_records = max_records < BATCH_MAX ? max_records : BATCH_MAX;
    for (int round = 0; round < 2; round++) {
        s->used = 0;
        for (uint32_t i = 0; i < w->count && n == 0; i++) {
            struct wire_connection *c = &w->connections[w->turn++ % w->count];
            n = c->refused ? 0 : take(s, c, max_records);
        }
        if (n == 0 && round == 0 && wire_wait(w, timeout_ms))
            n = datagrams(s, max_records);
        if (n != 0) {
            give(s, out, n);
            return PAWL_DONE;
        }
    }
    return PAWL_DONE;
}

static void source_status(void *self, char *text, size_t size) {
    wire_status(((struct syslog_source *)self)->wire, text, size);
}

static void source_destroy(void *self) {
    struct syslog_source *s = self;
    wire_free(s->wire);
    free(s->arena);
    free(s);
}

static int make(const pawl_settings *g, pawl_source_ops *out, pawl_error *err);

const pawl_connector connect_source_syslog = {
    .type = "syslog",
    .help = "syslog messages over UDP and TCP",
    .settings = settings,
    .make_source = make,
};

static int make(const pawl_settings *g, pawl_source_ops *out, pawl_error *err) {
    const pawl_connector *c = &connect_source_syslog;
    const char *address = pawl_setting_text(c, g, "address");
    uint64_t transport = pawl_setting_number(c, g, "transport");
    struct wire_settings w = {.stream = transport != 1,
                              .datagram = transport != 2,
                              .connections_max = (uint32_t)pawl_setting_number(c, g, "connections"),
                              .timeout_ms = (uint32_t)pawl_setting_number(c, g, "timeout"),
                              .line_max = pawl_setting_number(c, g, "line_max")};
    int rc = wire_address_check(address, err);
    if (rc < 0)
        return rc;
    if (w.connections_max < 1 || w.connections_max > WIRE_CONNECTIONS_MAX || w.line_max < 480 ||
        w.line_max > 512u << 10)
        return connect_error(err, PAWL_INVALID,
                             "connections must be 1 to 1024, line_max 480 to 512k");
    if (strncmp(address, "unix:", 5) == 0)
        w.stream = false;
    snprintf(w.address, sizeof w.address, "%s", address);
    struct syslog_source *s = calloc(1, sizeof *s);
    if (s != NULL) {
        s->format = (int)pawl_setting_number(c, g, "format");
        s->wire = wire_new(&w);
        s->arena = malloc(ARENA);
    }
    if (s == NULL || s->wire == NULL || s->arena == NULL) {
        if (s != NULL)
            source_destroy(s);
        return connect_error(err, PAWL_MEMORY, "no memory for a source");
    }
    *out = (pawl_source_ops){.struct_size = sizeof *out,
                             .type = c->type,
                             .self = s,
                             .open = source_open,
                             .read = source_read,
                             .status = source_status,
                             .destroy = source_destroy};
    return 0;
}
