/* SPDX-License-Identifier: Apache-2.0
 *
 * The source "syslog": messages over UDP, TCP or a Unix datagram socket. TCP messages are counted
 * by octets or ended by LF or NUL, which is decided for each message (RFC 6587, frame.h). Syslog
 * has no acknowledgements: messages that were received but aren't durable at a crash are lost.
 * While the log is full, the kernel drops datagrams; their number is reported.
 *
 * WHAT A BAD MESSAGE COSTS: itself. The policy for poison (on_error) decides about it.
 *   case                                        outcome
 *   longer than line_max, TCP or datagram       poison, its first bytes; the rest is skipped
 *   a part only: the connection broke or was    poison
 *   too slow, or ended within a counted message
 *   a last line without its end, the peer       a record
 *   closed the connection
 *   empty: a bare LF, NUL or datagram           nothing
 *   a count without '<' after it, or above      a line
 *   FRAME_COUNT_MAX
 *   not understood, whatever bytes it has       a record: the text as it came, marked so (syslog.h)
 *   larger than the log takes                   poison
 *   too many connections                        they wait until one ends
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connectors/net/syslog.h"
#include "connectors/net/wire.h"
#include "connectors/text/json_text.h"

#define ROUNDS_MAX 64  /* of one read() that skips */
#define SENDERS_MAX 16 /* of a batch, each named; the last may stand for several */
#define BATCH_MAX 1024u
#define HEADERS_MAX 10u
#define ARENA (2u << 20) /* received datagrams, and JSON: so much, and one of the longest */

enum { AS_HEADERS = 0, AS_JSON = 1, AS_RAW = 2 };

struct stretch {
    char peer[PEER_MAX];
    size_t records;
};

struct syslog_source {
    struct wire *wire;
    pawl_source_context *context;
    int format;
    uint64_t count, reads;
    char *arena;
    size_t size, used;   /* of the arena */
    char why[400];       /* of the poison given last */
    const char *held_at; /* a datagram that is too long, in the arena: given next, alone */
    size_t held;         /* its bytes there; 0: none */
    char held_peer[PEER_MAX];
    struct stretch from[SENDERS_MAX]; /* of the batch's records, in order */
    size_t from_count;
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
    WIRE_SETTINGS("the longest message; on_error decides about a longer one",
                  "a peer that leaves a message unfinished for this long is disconnected"),
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
    return wire_open(s->wire, x, f);
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
    size_t n = 130;
    for (int i = 0; i < SYSLOG_FIELDS; i++)
        n += 6 * m->len[i] + 16;
    return n;
}

static void as_json(struct syslog_source *s, const struct syslog_message *m, pawl_record *r) {
    char *from = s->arena + s->used, *to = from;
    to += snprintf(to, 100, "{\"facility\":%d,\"severity\":%d,\"rfc\":%d", m->facility, m->severity,
                   m->version);
    if (m->unparsed != NULL)
        to += snprintf(to, 30, ",\"unparsed\":\"%s\"", m->unparsed);
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
    assert(r->header_count < HEADERS_MAX);
    s->headers[index][r->header_count++] =
        (pawl_header){name, value, (uint16_t)strlen(name), (uint16_t)n};
}

static void as_headers(struct syslog_source *s, const struct syslog_message *m, size_t index) {
    static const char *const headers[] = {"syslog-time",   "syslog-host",  "syslog-app",
                                          "syslog-procid", "syslog-msgid", "syslog-data"};
    pawl_record *r = &s->records[index];
    r->value = m->at[SYSLOG_TEXT];
    r->value_len = (uint32_t)m->len[SYSLOG_TEXT];
    r->headers = s->headers[index];
    if (m->unparsed != NULL)
        add_header(s, index, "syslog-unparsed", m->unparsed, strlen(m->unparsed));
    if (m->facility < 0)
        return;
    for (int i = 0; i < 2; i++) {
        int n = snprintf(s->numbers[index][i], 4, "%d", (i == 0 ? m->facility : m->severity) & 31);
        add_header(s, index, i == 0 ? "syslog-facility" : "syslog-severity", s->numbers[index][i],
                   (size_t)n);
    }
    for (int i = 0; i < SYSLOG_TEXT; i++) /* syslog_parse() bounds them all together */
        if (m->len[i] != 0)
            add_header(s, index, headers[i], m->at[i], m->len[i]);
}

/* Makes a record of one message, whose bytes must stay in place until the next read. False: this
 * batch has no room for it. */
static bool message(struct syslog_source *s, size_t index, const char *text, size_t n) {
    struct syslog_message m;
    pawl_record *r = &s->records[index];
    syslog_parse(text, n, &m);
    if (s->format == AS_JSON && json_max(&m) > s->size - s->used)
        return false;
    *r = (pawl_record){.value = text, .value_len = (uint32_t)n};
    r->timestamp_ns = m.time_ns > 0 ? m.time_ns : connect_wall_ns();
    if (s->format == AS_JSON)
        as_json(s, &m, r);
    else if (s->format == AS_HEADERS)
        as_headers(s, &m, index);
    return true;
}

/* `n` more records of the batch come from this peer. */
static void comes_from(struct syslog_source *s, const char *peer, size_t n) {
    struct stretch *last = s->from_count != 0 ? &s->from[s->from_count - 1] : NULL;
    if (last == NULL || (strcmp(last->peer, peer) != 0 && s->from_count < SENDERS_MAX)) {
        last = &s->from[s->from_count++];
        last->records = 0;
        snprintf(last->peer, sizeof last->peer, "%s", peer);
    } else if (strcmp(last->peer, peer) != 0)
        snprintf(last->peer, sizeof last->peer, "several");
    last->records += n;
}

/* The only record of its batch: bytes that are no message, as s->why says. */
static size_t poisoned(struct syslog_source *s, const void *bytes, size_t n, const char **poison) {
    s->records[0] =
        (pawl_record){.value = bytes, .value_len = (uint32_t)n, .timestamp_ns = connect_wall_ns()};
    *poison = s->why;
    return 1;
}

static void why_long(struct syslog_source *s, uint64_t length, const char *peer) {
    char bytes[32] = "";
    if (length != 0)
        snprintf(bytes, sizeof bytes, " of %llu bytes", (unsigned long long)length);
    snprintf(s->why, sizeof s->why, "a message%s, longer than line_max, %zu bytes, from %s", bytes,
             s->wire->set.line_max, peer);
}

/* ---- TCP */

/* Takes whole messages of a connection, or one that is poison. Returns the number of records. */
static size_t take(struct syslog_source *s, struct wire_connection *c, size_t max,
                   const char **poison) {
    size_t count = 0;
    while (count < max && !c->refused) {
        struct frame f = wire_frame(s->wire, c);
        bool part = f.kind == FRAME_LONG || f.kind == FRAME_CUT;
        if (f.kind == FRAME_NONE || (part && count != 0))
            break;
        bool empty = f.len == 0 || (f.len == 1 && f.at[0] == '\r');
        if (f.kind == FRAME_WHOLE && !empty && !message(s, count, (const char *)f.at, f.len))
            break; /* the next batch has room for it */
        wire_take(c, &f);
        if (f.kind == FRAME_LONG)
            why_long(s, f.length, c->peer);
        else if (f.kind == FRAME_CUT)
            snprintf(s->why, sizeof s->why, "a part of a message, from %s: %s", c->peer,
                     c->orderly ? "the connection ended within a counted message" : c->cut_why);
        if (part)
            return poisoned(s, f.at, f.len, poison);
        if (f.kind == FRAME_WHOLE && !empty) {
            c->useful = true;
            count++;
        }
    }
    return count;
}

/* ---- UDP */

/* A datagram that is too long ends the batch: it is the next one. */
static size_t datagrams(struct syslog_source *s, size_t max, const char **poison) {
    size_t count = 0, size = s->wire->set.line_max;
    while (count < max && s->held == 0 && s->size - s->used > 8 * size + 1024) {
        char peer[PEER_MAX], *text = s->arena + s->used;
        ssize_t n = wire_datagram(s->wire, text, size, peer);
        if (n < 0)
            break;
        char *port = strrchr(peer, ':');
        if (port != NULL)
            *port = 0; /* each datagram may have another one */
        s->used += (size_t)n < size ? (size_t)n : size;
        if ((size_t)n > size) {
            why_long(s, (uint64_t)n, peer);
            s->held_at = text;
            s->held = size;
            memcpy(s->held_peer, peer, sizeof peer);
        } else if (n != 0 && message(s, count, text, (size_t)n)) {
            comes_from(s, peer, 1);
            count++;
        }
    }
    if (count == 0 && s->held != 0) {
        size_t held = s->held;
        s->held = 0;
        comes_from(s, s->held_peer, 1);
        return poisoned(s, s->held_at, held, poison);
    }
    return count;
}

static void give(struct syslog_source *s, pawl_source_batch *out, size_t n) {
    char thing[128];
    snprintf(thing, sizeof thing, "messages of %s", connect_source_name(s->context));
    for (size_t i = 0; i < s->from_count; i++) {
        uint64_t from = s->count + 1;
        s->count += s->from[i].records;
        wire_origin(s->wire, thing, s->from[i].peer, from, s->count + 1, from == 1);
    }
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
    size_t n = 0;
    (void)max_bytes;
    w->wake_fd = connect_wake_fd(s->context);
    max_records = max_records < BATCH_MAX ? max_records : BATCH_MAX;
    s->from_count = 0;
    if (s->held != 0) {
        give(s, out, datagrams(s, 0, &out->poison));
        return PAWL_DONE;
    }
    bool skipped = false; /* bytes that are no records: there may be more behind them */
    for (int round = 0; round < 2 || (skipped && round < ROUNDS_MAX); round++) {
        skipped = false;
        s->used = 0;
        /* every second time datagrams come first: connections must not make the kernel drop them */
        if (round == 0 && w->listening.datagram_fd >= 0 && (s->reads++ & 1) != 0)
            n = datagrams(s, max_records, &out->poison);
        for (uint32_t i = 0; i < w->count && n == 0; i++) {
            struct wire_connection *c = &w->connections[w->turn++ % w->count];
            size_t from = c->from;
            n = c->refused ? 0 : take(s, c, max_records, &out->poison);
            skipped |= c->from != from;
            if (n != 0)
                comes_from(s, c->peer, n);
        }
        if (n == 0 && (round == 0 || skipped) && wire_wait(w, round == 0 ? timeout_ms : 0))
            n = datagrams(s, max_records, &out->poison);
        if (n != 0) {
            give(s, out, n);
            return PAWL_DONE;
        }
    }
    return w->lost ? wire_lost(w, f) : PAWL_DONE;
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
    uint64_t transport = pawl_setting_number(c, g, "transport");
    struct wire_settings w = {.stream = transport != 1, .datagram = transport != 2, .octets = true};
    if (pawl_setting_text(c, g, "tls_cert") != NULL) {
        if (!connect_setting_given(g, "transport"))
            w.datagram = false;
        if (w.datagram)
            return connect_error(err, PAWL_INVALID, "line %u: with tls_cert, transport must be tcp",
                                 pawl_setting_line(g, "transport"));
    }
    int rc = wire_settings_take(&w, c, g, 480, 512u << 10, err);
    if (rc < 0)
        return rc;
    if (listen_is_unix(w.address)) {
        w.stream = false;
        w.datagram = true;
    }
    struct syslog_source *s = calloc(1, sizeof *s);
    if (s != NULL) {
        s->format = connect_setting_choice(c, g, "format");
        s->wire = wire_new(&w);
        s->size = ARENA + 8 * w.line_max;
        s->arena = malloc(s->size);
    } else
        tls_free(w.tls);
    if (s == NULL || s->wire == NULL || s->arena == NULL) {
        if (s != NULL)
            source_destroy(s);
        return connect_error(err, PAWL_MEMORY, "no memory for a source");
    }
    *out = (pawl_source_ops){.struct_size = sizeof *out,
                             .flags = PAWL_SOURCE_STRANGERS,
                             .type = c->type,
                             .self = s,
                             .open = source_open,
                             .read = source_read,
                             .status = source_status,
                             .destroy = source_destroy};
    return 0;
}
