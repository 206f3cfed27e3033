/* SPDX-License-Identifier: Apache-2.0
 *
 * The source "socket": lines from Unix and TCP connections.
 *
 * PROTOCOL "numbered" (all messages are lines of text ended by \n)
 *   sender     PAWL1 NAME           the sender's name: 1 to 40 bytes of A-Z a-z 0-9 . _ -
 *   source     CHALLENGE HEX        only with auth: secret
 *   sender     PROOF HEX            the same: auth.h
 *   source     OK N                 N: the last durable number of this sender; 0: none
 *   sender     N+1 TEXT             the next line, N+2 TEXT, ...; a sender that knows N need not
 *                                   wait for the OK
 *   sender                          an empty line: it is there still; the source answers ACK
 *   source     ACK N                lines up to N are durable; the sender may forget them
 *   source     ERR WHY              the connection ends
 * Lines that were not acknowledged are sent again over a new connection, with the same numbers.
 * Lines that the source already has are skipped. A number that doesn't follow the last one is
 * refused; a sender's very first number may be any up to 2^63. A new connection of a sender ends
 * its older one.
 *
 * WHOSE A NAME IS (auth)
 *   peer         of the user (Unix) or address (TCP) that sent its first line
 *   certificate  of whoever has a TLS certificate for it: its common name, or a DNS name or e-mail
 *                of its alternative names
 *   secret       of whoever proves that it has the name's secret
 *   none         of everybody
 * What a sender leaves behind, and when it is forgotten: senders.h.
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
 *   number, or not the next; another                             is lost: it wasn't acknowledged
 *   one's name
 *   too many connections               they wait                 ERR, where none makes room
 *                                      (crowd.h)                 (crowd.h)
 * No bytes are refused: a line may have NULs and need not be UTF-8.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connectors/net/wire.h"

#define ROUNDS_MAX 64 /* of one read() that skips */
#define BATCH_MAX 4096u
#define SECRETS_NS UINT64_C(1000000000) /* how often their file is looked at */

enum { AUTH_PEER, AUTH_CERTIFICATE, AUTH_SECRET, AUTH_NONE };

struct socket_source {
    struct wire *wire;
    pawl_source_context *context;
    bool plain, crlf, loaded;
    int auth;
    struct auth *secrets;
    uint64_t secrets_ns; /* when their file was looked at */
    struct senders senders;
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
     "limit of different names; each is a producer in the log"},
    {"senders_per_peer", PAWL_SETTING_NUMBER, 0, NULL, "0",
     "limit of those from one address, or of one user; 0: all but an eighth of senders"},
    {"forget", PAWL_SETTING_TIME, 0, NULL, "90d",
     "where senders are full, a new one takes the place of one that was silent for so long, whose "
     "name is never taken again; 0: never"},
    {"auth", PAWL_SETTING_CHOICE, 0, "peer|certificate|secret|none", "peer",
     "whose a sender's name is: of the user or address that sent its first line, of a TLS "
     "certificate with this name, of who has the secret in secrets, of everybody"},
    {"secrets", PAWL_SETTING_TEXT, 0, NULL, NULL,
     "for auth: secret, a file with a line for each sender: its name (* for all others), a space, "
     "its secret; read again when it changes"},
    WIRE_SETTINGS("the longest line; on_error decides about a longer one",
                  "a peer that leaves a line or greeting unfinished for this long is disconnected"),
    {0},
};

static int position(struct socket_source *s, const char *item, uint64_t *out) {
    uint8_t at[PAWL_SOURCE_POSITION_MAX];
    int n = pawl_source_position(s->context, item, at);
    *out = n == 8 ? connect_get_le(at, 8) : 0;
    return n == 0 || n == 8 ? 0 : n < 0 ? n : PAWL_INVALID;
}

static void load(void *arg, const char *item, const uint8_t *at, int len) {
    struct socket_source *s = arg;
    if (item[0] != 0)
        s->loaded &= senders_load(&s->senders, item, at, len);
}

static int load_senders(struct socket_source *s, pawl_fault *f) {
    if (s->loaded)
        return PAWL_DONE;
    connect_log_id(s->context, s->senders.salt);
    s->loaded = true;
    connect_items(s->context, load, s);
    if (s->loaded)
        return PAWL_DONE;
    senders_free(&s->senders);
    return pawl_fault_set(f, PAWL_RETRY, "no memory for the senders");
}

/* The secrets, as their file has them now. */
static int load_secrets(struct socket_source *s, pawl_fault *f) {
    char warning[400];
    uint64_t now = connect_now(NULL);
    if (s->secrets == NULL || (s->secrets_ns != 0 && now - s->secrets_ns < SECRETS_NS))
        return PAWL_DONE;
    int rc = auth_load(s->secrets, warning, sizeof warning, f);
    s->secrets_ns = now;
    if (warning[0] != 0)
        wire_report(s->wire, WIRE_TLS, "%s", warning);
    return rc;
}

static int source_open(void *self, pawl_source_context *x, pawl_fault *f) {
    struct socket_source *s = self;
    s->context = x;
    int rc = s->plain ? position(s, "", &s->lines) : 0;
    if (rc != 0)
        return connect_position_fault(rc, f);
    if (!s->plain)
        rc = load_senders(s, f);
    s->wire->context = x;
    s->secrets_ns = 0;
    if (rc == PAWL_DONE)
        rc = load_secrets(s, f);
    return rc == PAWL_DONE ? wire_open(s->wire, x, f) : rc;
}

/* ---- numbered: greetings */

/* Who sends, as far as names go: nobody in particular where names are proved, or anybody's. */
static struct peer_id owner(const struct socket_source *s, const struct wire_connection *c) {
    return s->auth == AUTH_PEER ? c->id : (struct peer_id){.kind = PEER_UNKNOWN};
}

/* The connection's sender; NULL: it has sent no line, or another peer has taken the name first. */
static const struct sender *own_sender(const struct socket_source *s,
                                       const struct wire_connection *c) {
    const struct sender *who = senders_find(&s->senders, c->sender);
    struct peer_id id = owner(s, c);
    return who != NULL && sender_is_of(who, &id) ? who : NULL;
}

static void tell(void *arg, struct wire_connection *c) {
    const struct sender *who = own_sender(arg, c);
    char text[32];
    snprintf(text, sizeof text, "ACK %llu\n", (unsigned long long)(who != NULL ? who->durable : 0));
    c->owed = !wire_say(c, text);
}

static bool name_ok(const char *name, size_t n) {
    char copy[WIRE_SENDER_MAX + 1];
    snprintf(copy, sizeof copy, "%.*s", (int)n, name);
    return strlen(copy) == n && connect_name_ok(copy);
}

/* The connection is this sender's from now on. */
static void admit(struct socket_source *s, struct wire_connection *c, const char *name) {
    const struct sender *who = senders_find(&s->senders, name);
    struct peer_id id = owner(s, c);
    uint32_t at;
    char text[32];
    if (who != NULL && !sender_is_of(who, &id)) {
        wire_refuse(s->wire, c, "this name belongs to another peer");
        return;
    }
    if (who == NULL && senders_place(&s->senders, name, &id, 0, &at) == SENDER_FORGOTTEN) {
        wire_refuse(s->wire, c, "this sender was forgotten: give it another name");
        return;
    }
    for (uint32_t i = 0; i < s->wire->count; i++) {
        struct wire_connection *o = &s->wire->connections[i];
        /* one that has sent no line yet may be anybody's */
        if (o != c && strcmp(o->sender, name) == 0 && !o->refused &&
            (s->auth != AUTH_PEER || peer_same(&o->id, &c->id)))
            wire_replace(s->wire, o, "the same sender has come again");
    }
    snprintf(c->sender, sizeof c->sender, "%s", name);
    c->claimed[0] = 0;
    snprintf(text, sizeof text, "OK %llu\n", (unsigned long long)(who != NULL ? who->durable : 0));
    wire_say(c, text);
}

static void greet(struct socket_source *s, struct wire_connection *c, const char *line, size_t n) {
    char text[AUTH_HEX + 16], name[WIRE_SENDER_MAX + 1];
    if (n < 7 || n > 6 + WIRE_SENDER_MAX || memcmp(line, "PAWL1 ", 6) != 0 ||
        !name_ok(line + 6, n - 6)) {
        wire_refuse(s->wire, c, "expected: PAWL1 NAME");
        return;
    }
    snprintf(name, sizeof name, "%.*s", (int)(n - 6), line + 6);
    if (s->auth == AUTH_CERTIFICATE && (c->tls == NULL || !tls_has_name(c->tls, name))) {
        wire_refuse(s->wire, c, "the certificate is not of this name");
    } else if (s->auth != AUTH_SECRET) {
        admit(s, c, name);
    } else if (!auth_challenge(c->challenge)) {
        wire_refuse(s->wire, c, "no random numbers now");
    } else {
        memcpy(c->claimed, name, sizeof name);
        snprintf(text, sizeof text, "CHALLENGE %s\n", c->challenge);
        wire_say(c, text);
    }
}

static void prove(struct socket_source *s, struct wire_connection *c, const char *line, size_t n) {
    char name[WIRE_SENDER_MAX + 1];
    (void)load_secrets(s, NULL); /* they are loaded: it can't fail */
    memcpy(name, c->claimed, sizeof name);
    if (n == 6 + AUTH_HEX && memcmp(line, "PROOF ", 6) == 0 &&
        auth_proves(s->secrets, name, c->challenge, line + 6, n - 6))
        admit(s, c, name);
    else
        wire_refuse(s->wire, c, "this is no proof of the name's secret");
    c->challenge[0] = 0;
}

/* ---- numbered: lines */

/* Parses "N TEXT". Returns the length of "N ", or 0 if the line doesn't have this form. */
static size_t numbered(const uint8_t *line, size_t n, uint64_t *out) {
    size_t i = 0;
    for (*out = 0; i < n && line[i] >= '0' && line[i] <= '9'; i++)
        if (__builtin_mul_overflow(*out, 10, out) ||
            __builtin_add_overflow(*out, (uint64_t)(line[i] - '0'), out))
            return 0;
    return i >= 1 && i < n && line[i] == ' ' && *out != 0 ? i + 1 : 0;
}

/* The place goes to a new sender: durably, before its first line is taken. False: not now. */
static bool take_place(struct socket_source *s, uint32_t at, const char *name) {
    const struct sender *had = &s->senders.list[at];
    uint8_t position[SENDER_POSITION], now[PAWL_SOURCE_POSITION_MAX];
    char old[sizeof had->name];
    uint64_t number = 1;
    memcpy(old, had->name, sizeof old);
    bool was = had->given != 0;
    senders_forget(&s->senders, at, position);
    int rc = connect_item_replace(s->context, old, name, position, sizeof position);
    if (rc == 0) {
        if (was)
            wire_report(
                s->wire, WIRE_SENDERS,
                "sender %s was silent for longer than `forget`: it is forgotten, and %s has "
                "its place",
                old, name);
        return true;
    }
    /* is it forgotten in the log, without the place being given away? */
    int n = pawl_source_position(s->context, old, now);
    if (n > 0 && sender_number(now, (size_t)n, &number) && number == 0)
        (void)senders_add(&s->senders, old, SENDER_TAKES, at);
    return false;
}

/* A sender's first line has come. NULL: it is refused. */
static struct sender *new_sender(struct socket_source *s, struct wire_connection *c) {
    static const char *const why[] = {[SENDER_FULL] = "too many senders",
                                      [SENDER_PEER_FULL] = "too many senders of one peer",
                                      [SENDER_FORGOTTEN] =
                                          "this sender was forgotten: give it another name"};
    struct peer_id id = owner(s, c);
    uint32_t at = 0;
    uint64_t none;
    enum sender_place place =
        senders_place(&s->senders, c->sender, &id, connect_wall_ns() / 1000000000, &at);
    if (place != SENDER_FRESH && place != SENDER_TAKES) {
        wire_refuse(s->wire, c, why[place]);
        return NULL;
    }
    bool there =
        place == SENDER_TAKES ? take_place(s, at, c->sender) : position(s, c->sender, &none) == 0;
    struct sender *who = there ? senders_add(&s->senders, c->sender, place, at) : NULL;
    if (who == NULL)
        wire_refuse(s->wire, c, "no place in the log now");
    return who;
}

/* A number that isn't above the last one: a line that is sent again. Returns 0: it's no record. */
static size_t again(struct socket_source *s, struct wire_connection *c, struct sender *who,
                    uint64_t number) {
    char why[120];
    if (number >= who->first) {
        c->useful = true;
        if (number <= who->durable)
            tell(s, c);
        return 0;
    }
    snprintf(
        why, sizeof why,
        "number %llu was never here: this sender began at %llu; has another one used its name?",
        (unsigned long long)number, (unsigned long long)who->first);
    wire_refuse(s->wire, c, why);
    return 0;
}

/* Takes the number of a line. Returns its length; 0: the line is no record (any more). */
static size_t take_number(struct socket_source *s, struct wire_connection *c, const uint8_t *line,
                          size_t n) {
    uint64_t number;
    char why[64];
    struct peer_id id = owner(s, c);
    struct sender *who = senders_find(&s->senders, c->sender);
    size_t text = numbered(line, n, &number);
    if (text == 0) {
        wire_refuse(s->wire, c, "expected: NUMBER TEXT");
        return 0;
    }
    if (who != NULL && !sender_is_of(who, &id)) {
        wire_refuse(s->wire, c, "this name belongs to another peer");
        return 0;
    }
    if (who != NULL && number <= who->given) /* durable or in flight */
        return again(s, c, who, number);
    if (who != NULL && number != who->given + 1) {
        snprintf(why, sizeof why, "expected number %llu", (unsigned long long)who->given + 1);
        wire_refuse(s->wire, c, why);
        return 0;
    }
    if (who == NULL && number > SENDER_FIRST_MAX) {
        wire_refuse(s->wire, c, "a sender's first number is at most 9223372036854775808");
        return 0;
    }
    if (who == NULL && (who = new_sender(s, c)) == NULL)
        return 0;
    sender_take(who, number, &id, connect_wall_ns() / 1000000000);
    c->useful = true;
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
        else if (c->claimed[0] != 0)
            prove(s, c, (const char *)f->at, n);
        else
            greet(s, c, (const char *)f->at, n);
        return false;
    }
    if (!s->plain && n == 0 && f->kind == FRAME_WHOLE) { /* it is there still */
        tell(s, c);
        return false;
    }
    if (!s->plain && (text = take_number(s, c, f->at, n)) == 0)
        return false;
    c->useful = true;
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
    struct sender *who = s->plain ? NULL : senders_find(&s->senders, c->sender);
    char thing[128];
    s->lines += n;
    uint64_t last = s->plain ? s->lines : who->given;
    snprintf(thing, sizeof thing, s->plain ? "lines of %s" : "sender %s.%s",
             connect_source_name(s->context), c->sender);
    wire_origin(s->wire, thing, c->peer, last + 1 - n, last + 1,
                s->plain ? last == n : !who->named);
    if (who != NULL)
        who->named = true;
    if (s->plain) {
        connect_put_le(out->position, last, 8);
        out->position_len = 8;
        return;
    }
    sender_position(who, last, out->position);
    out->position_len = SENDER_POSITION;
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
    struct sender *who = s->plain ? NULL : senders_find(&s->senders, item);
    uint64_t number;
    if (who == NULL || !sender_number(at, len, &number))
        return;
    who->durable = number;
    for (uint32_t i = 0; i < s->wire->count; i++)
        if (strcmp(s->wire->connections[i].sender, item) == 0 && !s->wire->connections[i].refused &&
            own_sender(s, &s->wire->connections[i]) == who)
            tell(s, &s->wire->connections[i]);
}

static void source_status(void *self, char *text, size_t size) {
    wire_status(((struct socket_source *)self)->wire, text, size);
}

static void source_destroy(void *self) {
    struct socket_source *s = self;
    wire_free(s->wire);
    auth_free(s->secrets);
    senders_free(&s->senders);
    free(s);
}

static int make(const pawl_settings *g, pawl_source_ops *out, pawl_error *err);

const pawl_connector connect_source_socket = {
    .type = "socket",
    .help = "lines from TCP and Unix connections, acknowledged when durable",
    .settings = settings,
    .make_source = make,
};

/* The settings about senders, which mean nothing to plain lines. */
static int senders_take(struct socket_source *s, const pawl_settings *g, pawl_error *err) {
    const pawl_connector *c = &connect_source_socket;
    uint64_t most = pawl_setting_number(c, g, "senders"),
             of_peer = pawl_setting_number(c, g, "senders_per_peer");
    const char *secrets = pawl_setting_text(c, g, "secrets");
    s->auth = s->plain ? AUTH_NONE : connect_setting_choice(c, g, "auth");
    if (most < 1 || most > 16000)
        return connect_error(err, PAWL_INVALID, "line %u: senders must be 1 to 16000",
                             pawl_setting_line(g, "senders"));
    if (of_peer > most)
        return connect_error(err, PAWL_INVALID, "line %u: senders_per_peer must be at most senders",
                             pawl_setting_line(g, "senders_per_peer"));
    s->senders.max = (uint32_t)most;
    s->senders.peer_max = (uint32_t)(of_peer != 0 ? of_peer : most - most / 8);
    s->senders.forget_s = pawl_setting_number(c, g, "forget") / 1000 +
                          (pawl_setting_number(c, g, "forget") % 1000 != 0);
    if ((s->auth == AUTH_SECRET) != (secrets != NULL))
        return connect_error(err, PAWL_INVALID, "line %u: %s",
                             pawl_setting_line(g, secrets != NULL ? "secrets" : "auth"),
                             secrets != NULL ? "secrets needs auth: secret"
                                             : "auth: secret needs secrets, their file");
    if (s->auth == AUTH_CERTIFICATE && pawl_setting_number(c, g, "tls_client") != 2)
        return connect_error(err, PAWL_INVALID,
                             "line %u: auth: certificate needs tls_client: require",
                             pawl_setting_line(g, "auth"));
    return secrets != NULL ? auth_new(secrets, &s->secrets, err) : 0;
}

static int make(const pawl_settings *g, pawl_source_ops *out, pawl_error *err) {
    const pawl_connector *c = &connect_source_socket;
    bool plain = pawl_setting_number(c, g, "protocol") != 0;
    struct wire_settings w = {.stream = true, .answers = !plain};
    struct socket_source *s = calloc(1, sizeof *s);
    if (s == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory for a source");
    s->plain = plain;
    s->crlf = pawl_setting_number(c, g, "crlf") != 0;
    int rc = senders_take(s, g, err);
    if (rc == 0)
        rc = wire_settings_take(&w, c, g, 64, 4u << 20, err);
    if (rc == 0 && (s->wire = wire_new(&w)) == NULL)
        rc = connect_error(err, PAWL_MEMORY, "no memory for a source");
    if (rc < 0 || s->wire == NULL) {
        source_destroy(s);
        return rc;
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
