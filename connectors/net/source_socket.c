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
 *
 * WHAT A BAD LINE COSTS: itself. The policy for poison (on_error) decides about it.
 *   case                               plain                     numbered
 *   longer than line_max               poison, its first bytes;  the same; its number counts as
 *                                      the rest is skipped       taken, or it would come for ever
 *   a part only: the connection        poison                    dropped: it is sent again
 *   broke, or was too slow
 *   a part only: the peer closed       a record                  dropped: it is sent again
 *   no greeting, or a bad one; no      -                         ERR, the connection ends. Nothing
 *   number, or not the next                                      is lost: it wasn't acknowledged
 *   too many connections               they wait                 ERR; one that was silent for
 *                                                                `timeout` makes room
 * No bytes are refused: a line may have NULs and need not be UTF-8.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connectors/net/wire.h"

#define ROUNDS_MAX 64 /* of one read() that skips */
#define BATCH_MAX 4096u

struct sender {
    char name[WIRE_SENDER_MAX + 1];
    uint64_t given, durable;
    bool named; /* the log names numbers of it as read */
};

struct socket_source {
    struct wire *wire;
    pawl_source_context *context;
    bool plain, crlf;
    struct sender *senders;
    uint32_t sender_count, sender_max;
    uint64_t lines; /* plain: lines received since the first run */
    char item[WIRE_SENDER_MAX + 1];
    char why[400]; /* of the poison given last */
    pawl_record records[BATCH_MAX];
};

static const pawl_setting_info settings[] = {
    {"address", PAWL_SETTING_TEXT, 1, NULL, NULL,
     "HOST:PORT, PORT (on 127.0.0.1; 0: any) or unix:PATH"},
    {"protocol", PAWL_SETTING_CHOICE, 0, "numbered|plain", "numbered",
     "with numbers and acknowledgements, or lines alone"},
    {"crlf", PAWL_SETTING_BOOL, 0, NULL, "false", "a CR before the LF is taken off"},
    {"senders", PAWL_SETTING_NUMBER, 0, NULL, "256",
     "limit of different names; each is a producer in the log for ever"},
    WIRE_SETTINGS("the longest line; on_error decides about a longer one",
                  "a peer that leaves a line or greeting unfinished for this long is disconnected"),
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
    return wire_open(s->wire, x, f);
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
        *who = (struct sender){.given = at, .durable = at, .named = at != 0};
        memcpy(who->name, name, sizeof name);
    }
    for (uint32_t i = 0; i < s->wire->count; i++)
        if (&s->wire->connections[i] != c && strcmp(s->wire->connections[i].sender, name) == 0)
            wire_replace(s->wire, &s->wire->connections[i], "the same sender has come again");
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

/* Takes the number of a line. Returns its length; 0: the line is no record (any more). */
static size_t take_number(struct socket_source *s, struct wire_connection *c, const uint8_t *line,
                          size_t n) {
    uint64_t number;
    char why[64];
    struct sender *who = sender_of(s, c->sender);
    size_t text = numbered(line, n, &number);
    if (text == 0) {
        wire_refuse(s->wire, c, "expected: NUMBER TEXT");
        return 0;
    }
    if (number <= who->given) { /* a duplicate; durable or in flight */
        if (number <= who->durable)
            tell(s, c);
        return 0;
    }
    if (who->given != 0 && number != who->given + 1) {
        snprintf(why, sizeof why, "expected number %llu", (unsigned long long)who->given + 1);
        wire_refuse(s->wire, c, why);
        return 0;
    }
    who->given = number;
    return text;
}

/* Takes one line of a connection, or the first bytes of one that is too long. True: it is a
 * record. */
static bool take_line(struct socket_source *s, struct wire_connection *c, const struct frame *f,
                      pawl_record *r) {
    size_t text = 0, n = f->len;
    n -= s->crlf && f->kind == FRAME_WHOLE && n != 0 && f->at[n - 1] == '\r';
    if (!s->plain && c->sender[0] == 0) {
        if (f->kind != FRAME_WHOLE)
            wire_refuse(s->wire, c, "the line is too long; expected: PAWL1 NAME");
        else
            greet(s, c, (const char *)f->at, n);
        return false;
    }
    if (!s->plain && (text = take_number(s, c, f->at, n)) == 0)
        return false;
    r->value = f->at + text;
    r->value_len = (uint32_t)(n - text);
    return true;
}

/* Takes a line that is not whole. True: it is poison, which s->why explains. */
static bool take_part(struct socket_source *s, struct wire_connection *c, const struct frame *f,
                      pawl_record *r) {
    if (f->kind == FRAME_CUT && !s->plain)
        return false; /* it comes again */
    if (f->kind == FRAME_CUT)
        snprintf(s->why, sizeof s->why, "a part of a line, from %s: %s", c->peer, c->cut_why);
    else
        snprintf(s->why, sizeof s->why, "a line longer than line_max, %zu bytes, from %s%s%s",
                 s->wire->set.line_max, c->peer, c->sender[0] != 0 ? ", sender " : "", c->sender);
    return take_line(s, c, f, r);
}

/* Takes whole lines of a connection into s->records, or one that is poison. Returns the number of
 * records. */
static size_t take(struct socket_source *s, struct wire_connection *c, size_t max, size_t max_bytes,
                   const char **poison) {
    size_t count = 0, bytes = 0;
    int64_t now_ns = connect_wall_ns();
    while (count < max && bytes < max_bytes && !c->refused) {
        struct frame f = wire_frame(s->wire, c);
        bool part = f.kind == FRAME_LONG || f.kind == FRAME_CUT;
        if (f.kind == FRAME_NONE || (part && count != 0))
            break;
        pawl_record *r = &s->records[count];
        *r = (pawl_record){.timestamp_ns = now_ns};
        wire_take(c, &f);
        if (part && take_part(s, c, &f, r)) {
            *poison = s->why;
            return 1;
        }
        if (f.kind == FRAME_WHOLE)
            count += take_line(s, c, &f, r);
        bytes += f.len;
    }
    return count;
}

/* The numbers of the batch become its position, and name what it was read from. */
static void give(struct socket_source *s, const struct wire_connection *c, pawl_source_batch *out,
                 size_t n) {
    struct sender *who = s->plain ? NULL : sender_of(s, c->sender);
    char thing[128];
    s->lines += n;
    uint64_t last = s->plain ? s->lines : who->given;
    snprintf(thing, sizeof thing, s->plain ? "lines of %s" : "sender %s.%s",
             connect_source_name(s->context), c->sender);
    wire_origin(s->wire, thing, c->peer, last + 1 - n, last + 1,
                s->plain ? last == n : !who->named);
    if (who != NULL)
        who->named = true;
    put_number(out, last);
}

static int source_read(void *self, pawl_source_batch *out, size_t max_records, size_t max_bytes,
                       int timeout_ms, pawl_fault *f) {
    struct socket_source *s = self;
    struct wire *w = s->wire;
    w->wake_fd = connect_wake_fd(s->context);
    max_records = max_records < BATCH_MAX ? max_records : BATCH_MAX;
    bool skipped = false; /* bytes that are no records: there may be more behind them */
    for (int round = 0; round < 2 || (skipped && round < ROUNDS_MAX); round++) {
        skipped = false;
        for (uint32_t i = 0; i < w->count; i++) {
            struct wire_connection *c = &w->connections[w->turn++ % w->count];
            size_t from = c->from,
                   n = c->refused ? 0 : take(s, c, max_records, max_bytes, &out->poison);
            skipped |= c->from != from;
            if (n == 0)
                continue;
            snprintf(s->item, sizeof s->item, "%s", s->plain ? "" : c->sender);
            out->item = s->item;
            out->records = s->records;
            out->count = n;
            give(s, c, out, n);
            return PAWL_DONE;
        }
        if (round == 0 || skipped)
            wire_wait(w, round == 0 ? timeout_ms : 0);
    }
    return w->lost ? wire_lost(w, f) : PAWL_DONE;
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
    bool plain = pawl_setting_number(c, g, "protocol") != 0;
    struct wire_settings w = {.stream = true, .answers = !plain};
    uint64_t senders = pawl_setting_number(c, g, "senders");
    if (senders < 1 || senders > 16000)
        return connect_error(err, PAWL_INVALID, "line %u: senders must be 1 to 16000",
                             pawl_setting_line(g, "senders"));
    int rc = wire_settings_take(&w, c, g, 64, 4u << 20, err);
    if (rc < 0)
        return rc;
    struct socket_source *s = calloc(1, sizeof *s);
    if (s != NULL) {
        s->plain = plain;
        s->crlf = pawl_setting_number(c, g, "crlf") != 0;
        s->sender_max = (uint32_t)senders;
        s->wire = wire_new(&w);
        s->senders = calloc(senders, sizeof *s->senders);
    } else
        tls_free(w.tls);
    if (s == NULL || s->wire == NULL || s->senders == NULL) {
        if (s != NULL)
            source_destroy(s);
        return connect_error(err, PAWL_MEMORY, "no memory for a source");
    }
    s->wire->tell = tell;
    s->wire->tell_arg = s;
    *out = (pawl_source_ops){.struct_size = sizeof *out,
                             .flags = PAWL_SOURCE_ACKS | PAWL_SOURCE_STRANGERS,
                             .type = c->type,
                             .self = s,
                             .open = source_open,
                             .read = source_read,
                             .ack = source_ack,
                             .status = source_status,
                             .destroy = source_destroy};
    return 0;
}
