/* SPDX-License-Identifier: Apache-2.0
 *
 * The source "socket": lines from Unix and TCP connections.
 *
 * PROTOCOL "numbered" (all messages are lines of text ended by \n)
 *   sender     PAWL1 NAME           the sender's name: 1 to 40 bytes of A-Z a-z 0-9 . _ -
 *   source     OK N                 N: the last durable number of this sender; 0: none
 *   sender     N+1 TEXT             the next line, N+2 TEXT, ...; a sender that knows N need not
 *                                   wait for the OK
 *   source     ACK N                lines up to N are durable; the sender may forget them
 *   source     ERR WHY              the connection ends
 * Lines that were not acknowledged are sent again over a new connection, with the same numbers.
 * Lines that the source already has are skipped. A number that doesn't follow the last one is
 * refused; a sender's very first number may be any. A new connection of a sender ends its older
 * one.
 *
 * PROTOCOL "plain": each line is a record. The source answers nothing: lines that were received but
 * aren't durable at a crash are lost.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connectors/net/wire.h"

#define BATCH_MAX 4096u

struct sender {
    char name[WIRE_SENDER_MAX + 1];
    uint64_t given, durable;
};

struct socket_source {
    struct wire *wire;
    pawl_source_context *context;
    bool plain, crlf;
    struct sender *senders;
    uint32_t sender_count, sender_max;
    uint64_t lines; /* plain: lines received since the first run */
    char item[WIRE_SENDER_MAX + 1];
    pawl_record records[BATCH_MAX];
};

static const pawl_setting_info settings[] = {
    {"address", PAWL_SETTING_TEXT, 1, NULL, NULL,
     "HOST:PORT, PORT (on 127.0.0.1; 0: any) or unix:PATH"},
    {"protocol", PAWL_SETTING_CHOICE, 0, "numbered|plain", "numbered",
     "with numbers and acknowledgements, or lines alone"},
    {"crlf", PAWL_SETTING_BOOL, 0, NULL, "false", "a CR before the LF is taken off"},
    {"line_max", PAWL_SETTING_SIZE, 0, NULL, "64k",
     "the longest line; a longer one ends its connection"},
    {"connections", PAWL_SETTING_NUMBER, 0, NULL, "64",
     "limit of connections at once; each has a buffer of line_max"},
    {"senders", PAWL_SETTING_NUMBER, 0, NULL, "256",
     "limit of different names; each is a producer in the log for ever"},
    {"timeout", PAWL_SETTING_TIME, 0, NULL, "30s",
     "a peer that leaves a line or greeting unfinished for this long is disconnected"},
    {0},
};

static uint64_t number_of(const uint8_t position[PAWL_SOURCE_POSITION_MAX]) {
    uint64_t n = 0;
    for (int i = 0; i < 8; i++)
        n |= (uint64_t)position[i] << (8 * i);
    return n;
}

static void put_number(pawl_source_batch *out, uint64_t n) {
    for (int i = 0; i < 8; i++)
        out->position[i] = (uint8_t)(n >> (8 * i));
    out->position_len = 8;
}

static int position(struct socket_source *s, const char *item, uint64_t *out) {
    uint8_t at[PAWL_SOURCE_POSITION_MAX];
    int n = pawl_source_position(s->context, item, at);
    *out = n == 8 ? number_of(at) : 0;
    return n == 0 || n == 8 ? 0 : n < 0 ? n : PAWL_INVALID;
}

static int source_open(void *self, pawl_source_context *x, pawl_fault *f) {
    struct socket_source *s = self;
    s->context = x;
    int rc = s->plain ? position(s, "", &s->lines) : 0;
    if (rc != 0)
        return connect_position_fault(rc, f);
    return wire_open(s->wire, f);
}

/* ---- numbered */

static struct sender *sender_of(struct socket_source *s, const char *name) {
    for (uint32_t i = 0; i < s->sender_count; i++)
        if (strcmp(s->senders[i].name, name) == 0)
            return &s->senders[i];
    return NULL;
}

static void tell(void *arg, struct wire_connection *c) {
    struct sender *who = sender_of(arg, c->sender);
    char text[32];
    if (who == NULL)
        return;
    snprintf(text, sizeof text, "ACK %llu\n", (unsigned long long)who->durable);
    c->owed = !wire_say(c, text);
}

static bool name_ok(const char *name, size_t n) {
    char copy[WIRE_SENDER_MAX + 1];
    snprintf(copy, sizeof copy, "%.*s", (int)n, name);
    return strlen(copy) == n && connect_name_ok(copy);
}

static void greet(struct socket_source *s, struct wire_connection *c, const char *line, size_t n) {
    char text[32];
    if (n < 7 || n > 6 + WIRE_SENDER_MAX || memcmp(line, "PAWL1 ", 6) != 0 ||
        !name_ok(line + 6, n - 6)) {
        wire_refuse(s->wire, c, "expected: PAWL1 NAME");
        return;
    }
    char name[WIRE_SENDER_MAX + 1];
    snprintf(name, sizeof name, "%.*s", (int)(n - 6), line + 6);
    struct sender *who = sender_of(s, name);
    if (who == NULL) {
        uint64_t at;
        if (s->sender_count == s->sender_max) {
            wire_refuse(s->wire, c, "too many senders");
            return;
        }
        if (position(s, name, &at) != 0) {
            wire_refuse(s->wire, c, "no place in the log now");
            return;
        }
        who = &s->senders[s->sender_count++];
        *who = (struct sender){.given = at, .durable = at};
        memcpy(who->name, name, sizeof name);
    }
    for (uint32_t i = 0; i < s->wire->count; i++)
        if (&s->wire->connections[i] != c && strcmp(s->wire->connections[i].sender, name) == 0)
            wire_refuse(s->wire, &s->wire->connections[i], "the same sender has come again");
    memcpy(c->sender, name, sizeof name);
    snprintf(text, sizeof text, "OK %llu\n", (unsigned long long)who->durable);
    wire_say(c, text);
}

/* Parses "N TEXT". Returns the length of "N ", or 0 if the line doesn't have this form. */
static size_t numbered(const uint8_t *line, size_t n, uint64_t *out) {
    size_t i = 0;
    for (*out = 0; i < n && line[i] >= '0' && line[i] <= '9'; i++)
        if (__builtin_mul_overflow(*out, 10, out) ||
            __builtin_add_overflow(*out, (uint64_t)(line[i] - '0'), out))
            return 0;
    return i >= 1 && i < n && line[i] == ' ' && *out != 0 ? i + 1 : 0;
}

/* Takes one line of a connection. True: it is a record. */
static bool take_line(struct socket_source *s, struct wire_connection *c, const uint8_t *line,
                      size_t n, pawl_record *r) {
    uint64_t number;
    char why[64];
    size_t text = 0;
    n -= s->crlf && n != 0 && line[n - 1] == '\r';
    if (!s->plain && c->sender[0] == 0) {
        greet(s, c, (const char *)line, n);
        return false;
    }
    if (!s->plain) {
        struct sender *who = sender_of(s, c->sender);
        text = numbered(line, n, &number);
        if (text == 0) {
            wire_refuse(s->wire, c, "expected: NUMBER TEXT");
            return false;
        }
        if (number <= who->given) { /* a duplicate; durable or in flight */
            if (number <= who->durable)
                tell(s, c);
            return false;
        }
        if (who->given != 0 && number != who->given + 1) {
            snprintf(why, sizeof why, "expected number %llu", (unsigned long long)who->given + 1);
            wire_refuse(s->wire, c, why);
            return false;
        }
        who->given = number;
    }
    r->value = line + text;
    r->value_len = (uint32_t)(n - text);
    return true;
}

/* Takes the whole lines of a connection into s->records. Returns the number of records. */
static size_t take(struct socket_source *s, struct wire_connection *c, size_t max,
                   size_t max_bytes) {
    size_t count = 0, bytes = 0;
    int64_t now_ns = connect_wall_ns();
    while (count < max && bytes < max_bytes && !c->refused) {
        const uint8_t *line = c->buf + c->from, *newline = memchr(line, '\n', c->len - c->from);
        if (newline == NULL)
            break;
        pawl_record *r = &s->records[count];
        r->timestamp_ns = now_ns;
        count += take_line(s, c, line, (size_t)(newline - line), r);
        c->from = (size_t)(newline - c->buf) + 1;
        bytes += (size_t)(newline - line);
        c->since_ns = 0;
    }
    if (c->from != c->len && c->since_ns == 0)
        c->since_ns = connect_now(NULL);
    if (c->from == 0 && c->len > s->wire->set.line_max && !c->refused)
        wire_refuse(s->wire, c, "the line is too long");
    if (count == 0 && s->plain && c->closing && c->from != c->len &&
        memchr(c->buf + c->from, '\n', c->len - c->from) == NULL) {
        s->records[0].value = c->buf + c->from; /* the last line has no newline */
        s->records[0].value_len = (uint32_t)(c->len - c->from);
        c->from = c->len;
        count = 1;
    }
    return count;
}

static int source_read(void *self, pawl_source_batch *out, size_t max_records, size_t max_bytes,
                       int timeout_ms, pawl_fault *f) {
    struct socket_source *s = self;
    struct wire *w = s->wire;
    w->wake_fd = connect_wake_fd(s->context);
    (void)f;
    max_records = max_records < BATCH_MAX ? max_records : BATCH_MAX;
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < w->count; i++) {
            struct wire_connection *c = &w->connections[w->turn++ % w->count];
            size_t n = c->refused ? 0 : take(s, c, max_records, max_bytes);
            if (n == 0)
                continue;
            snprintf(s->item, sizeof s->item, "%s", s->plain ? "" : c->sender);
            out->item = s->item;
            out->records = s->records;
            out->count = n;
            s->lines += n;
            put_number(out, s->plain ? s->lines : sender_of(s, c->sender)->given);
            return PAWL_DONE;
        }
        if (round == 0)
            wire_wait(w, timeout_ms);
    }
    return PAWL_DONE;
}

static void source_ack(void *self, const char *item, const void *at, size_t len) {
    struct socket_source *s = self;
    struct sender *who = s->plain || len != 8 ? NULL : sender_of(s, item);
    if (who == NULL)
        return;
    who->durable = number_of(at);
    for (uint32_t i = 0; i < s->wire->count; i++)
        if (strcmp(s->wire->connections[i].sender, item) == 0 && !s->wire->connections[i].refused)
            tell(s, &s->wire->connections[i]);
}

static void source_status(void *self, char *text, size_t size) {
    wire_status(((struct socket_source *)self)->wire, text, size);
}

static void source_destroy(void *self) {
    struct socket_source *s = self;
    wire_free(s->wire);
    free(s->senders);
    free(s);
}

static int make(const pawl_settings *g, pawl_source_ops *out, pawl_error *err);

const pawl_connector connect_source_socket = {
    .type = "socket",
    .help = "lines from TCP and Unix connections, acknowledged when durable",
    .settings = settings,
    .make_source = make,
};

static int make(const pawl_settings *g, pawl_source_ops *out, pawl_error *err) {
    const pawl_connector *c = &connect_source_socket;
    struct wire_settings w = {.stream = true,
                              .connections_max = (uint32_t)pawl_setting_number(c, g, "connections"),
                              .timeout_ms = (uint32_t)pawl_setting_number(c, g, "timeout"),
                              .line_max = pawl_setting_number(c, g, "line_max")};
    uint64_t senders = pawl_setting_number(c, g, "senders");
    int rc = wire_address_check(pawl_setting_text(c, g, "address"), err);
    if (rc < 0)
        return rc;
    if (w.connections_max < 1 || w.connections_max > WIRE_CONNECTIONS_MAX || senders < 1 ||
        senders > 16000 || w.line_max < 64 || w.line_max > 4u << 20)
        return connect_error(
            err, PAWL_INVALID,
            "connections must be 1 to 1024, senders 1 to 16000, line_max 64 to 4M");
    snprintf(w.address, sizeof w.address, "%s", pawl_setting_text(c, g, "address"));
    struct socket_source *s = calloc(1, sizeof *s);
    if (s != NULL) {
        s->plain = pawl_setting_number(c, g, "protocol") != 0;
        s->crlf = pawl_setting_number(c, g, "crlf") != 0;
        s->sender_max = (uint32_t)senders;
        s->wire = wire_new(&w);
        s->senders = calloc(senders, sizeof *s->senders);
    }
    if (s == NULL || s->wire == NULL || s->senders == NULL) {
        if (s != NULL)
            source_destroy(s);
        return connect_error(err, PAWL_MEMORY, "no memory for a source");
    }
    s->wire->tell = tell;
    s->wire->tell_arg = s;
    *out = (pawl_source_ops){.struct_size = sizeof *out,
                             .flags = PAWL_SOURCE_ACKS,
                             .type = c->type,
                             .self = s,
                             .open = source_open,
                             .read = source_read,
                             .ack = source_ack,
                             .status = source_status,
                             .destroy = source_destroy};
    return 0;
}
