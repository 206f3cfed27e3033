/* SPDX-License-Identifier: Apache-2.0
 *
 * Connections and their buffers, for the sources `socket` and `syslog`. For one thread. Bounded: at
 * most connections_max connections; each owns one buffer of line_max bytes and a little more, and
 * all of them together take memory_max bytes at most, which is checked beforehand. The kernel keeps
 * LISTEN_BACKLOG connections that wait to be accepted.
 *
 * One connection never costs another anything: each has its own buffer, limits and framing, and is
 * served in turn. One peer never keeps another out: it has at most peer_max connections, and where
 * there is no place, crowd.h says which makes room. A connection ends when its peer ends it or
 * breaks the protocol, when it leaves something unfinished for timeout_ms, and when it says nothing
 * for idle_ms. While the source doesn't read (the log is full), flow control holds the senders
 * back, and no time runs.
 *
 * What happens here is reported: each kind of event at its own pace (struct connect_pace).
 */
#ifndef PAWL_CONNECTORS_WIRE_H
#define PAWL_CONNECTORS_WIRE_H

#include "connectors/net/auth.h"
#include "connectors/net/crowd.h"
#include "connectors/net/frame.h"
#include "connectors/net/listen.h"
#include "connectors/net/senders.h"
#include "connectors/net/tls.h"
#include "connectors/runtime/connect.h"

#define WIRE_CONNECTIONS_MAX 1024u
#define WIRE_SENDER_MAX SENDER_NAME_MAX

/* What is said, each at its own pace. */
enum wire_event {
    WIRE_REFUSED, /* a peer that broke the protocol */
    WIRE_SLOW,    /* a peer that left something unfinished, or was silent for too long */
    WIRE_CROWDED, /* more connections than the limit */
    WIRE_FILES,   /* accept() failed: no descriptors or memory */
    WIRE_DROPS,   /* datagrams that the kernel dropped */
    WIRE_TLS,     /* handshakes that failed, files that can't be used */
    WIRE_SENDERS, /* senders that were forgotten */
    WIRE_EVENTS
};

struct wire_settings {
    char address[256]; /* "HOST:PORT", "PORT" (on 127.0.0.1) or "unix:PATH" */
    bool stream, datagram;
    bool octets;  /* counted messages are known: struct frame_rule */
    bool answers; /* peers greet and are told why they are refused; what was not acknowledged is
                     sent again */
    uint32_t connections_max, peer_max; /* in all, and of one peer */
    uint32_t timeout_ms, idle_ms;       /* idle_ms 0: no limit */
    size_t line_max;
    unsigned mode;   /* of a Unix socket */
    struct tls *tls; /* NULL: none; wire_new() takes it over */
};

struct wire_connection {
    int fd;
    struct tls_link *tls; /* NULL: none */
    bool secure;          /* its handshake is done */
    uint8_t *buf;
    size_t from, len; /* bytes not taken yet: [from, len) */
    struct frame_state framing;
    /* nothing more comes from the peer; dropped once nothing is left to take */
    bool closing;
    bool orderly;        /* the peer closed it, so that its last line is whole */
    bool refused;        /* dropped at once */
    bool served;         /* its bytes have been asked for since it was accepted */
    bool due;            /* its time was over in the last turn, but its bytes come first */
    bool useful;         /* something came from it that its owner has taken: a line, a message */
    bool owed;           /* a text that didn't fit is still to be sent: see `tell` */
    const char *cut_why; /* closing, not orderly: why */
    /* when the unfinished message or greeting began; 0: none. And when the last bytes came */
    uint64_t since_ns, heard_ns;
    char out[320]; /* bytes in flight */
    size_t out_len;
    char sender[WIRE_SENDER_MAX + 1];  /* "" before the greeting */
    char claimed[WIRE_SENDER_MAX + 1]; /* the name that it is to prove; "": none */
    char challenge[AUTH_HEX + 1];
    struct peer_id id;
    char peer[PEER_MAX];
};

struct wire_pace { /* of one kind of event */
    struct connect_pace pace;
    char last[200];
};

struct wire {
    struct wire_settings set;
    struct listening listening;
    int wake_fd; /* ends wire_wait(); -1: none */
    struct wire_connection *connections;
    uint32_t count, turn;
    uint64_t looked_ns, checked_ns, loaded_ns;
    uint64_t accept_at_ns; /* no accept() before: it failed */
    bool lost;             /* the Unix socket's name is gone: read() answers RETRY */
    struct wire_pace said[WIRE_EVENTS];
    pawl_source_context *context;
    /* called when a connection that owes a text can send it; may be NULL */
    void (*tell)(void *arg, struct wire_connection *c);
    void *tell_arg;
    pthread_mutex_t mutex; /* guards the rest */
    char shown[160];
    uint32_t open, drops_seen;
    uint64_t accepted, refused, drops;
};

/* The settings of all sources that listen; see wire_settings_take(). */
#define WIRE_SETTINGS(line_help, timeout_help) \
    {"line_max", PAWL_SETTING_SIZE, 0, NULL, "64k", (line_help)}, \
        {"connections", \
         PAWL_SETTING_NUMBER, \
         0, \
         NULL, \
         "64", \
         "limit of connections at once; each has a buffer of line_max"}, \
        {"connections_per_peer", \
         PAWL_SETTING_NUMBER, \
         0, \
         NULL, \
         "0", \
         "limit of those from one address, or of one user; 0: all but an eighth of connections"}, \
        {"memory", PAWL_SETTING_SIZE, \
         0,        NULL, \
         "256M",   "limit of what all connections may take: connections times line_max"}, \
        {"timeout", PAWL_SETTING_TIME, 0, NULL, "30s", (timeout_help)}, \
        {"idle", \
         PAWL_SETTING_TIME, \
         0, \
         NULL, \
         NULL, \
         "a peer that says nothing for this long is disconnected; 0: never. Default: 15m " \
         "with numbers, else 0"}, \
        {"mode", PAWL_SETTING_TEXT, 0, NULL, "600", "permissions of a Unix socket, octal"}, \
        {"tls_cert", \
         PAWL_SETTING_TEXT, \
         0, \
         NULL, \
         NULL, \
         "TLS: a PEM file with the server's certificate and its chain; read again when it " \
         "changes"}, \
        {"tls_key", PAWL_SETTING_TEXT, 0, NULL, NULL, "PEM file with its key; default: tls_cert"}, \
        {"tls_key_password", PAWL_SETTING_SECRET, 0, NULL, NULL, "of the key, if it has one"}, \
        {"tls_ca", PAWL_SETTING_TEXT, \
         0,        NULL, \
         NULL,     "PEM file with the authorities that sign clients' certificates"}, \
        {"tls_client", \
         PAWL_SETTING_CHOICE, \
         0, \
         "none|request|require", \
         "none", \
         "whether clients may or must show a certificate"}, \
        {"tls_names", \
         PAWL_SETTING_TEXT, \
         0, \
         NULL, \
         NULL, \
         "which clients may come, by commas: names of their certificates (*.example.org), " \
         "sha256:FINGERPRINT; default: all that tls_ca signed"}, \
    { \
        "tls_min", PAWL_SETTING_CHOICE, 0, "1.2|1.3", "1.2", "the oldest version of TLS" \
    }

/* Takes and checks the settings that both sources have; line_max must be in [least, most].
 * Returns 0, PAWL_INVALID or PAWL_MEMORY. Call it last: w->tls is the caller's until wire_new(). */
int wire_settings_take(struct wire_settings *w, const pawl_connector *c, const pawl_settings *g,
                       size_t least, size_t most, pawl_error *err);
/* NULL: no memory. */
struct wire *wire_new(const struct wire_settings *s);
/* Binds and listens, unless it does already. */
int wire_open(struct wire *w, pawl_source_context *x, pawl_fault *f);
/* Waits up to timeout_ms for events, or until w->wake_fd is readable. Accepts, receives, sends and
 * disconnects. Moves the bytes within the buffers. True: a datagram can be received. */
bool wire_wait(struct wire *w, int timeout_ms);
/* What comes next of a connection. NONE: nothing whole is there. A connection that is closing gives
 * its last bytes as WHOLE or CUT. */
struct frame wire_frame(const struct wire *w, const struct wire_connection *c);
/* Takes a frame that wire_frame() has given. */
void wire_take(struct wire_connection *c, const struct frame *f);
/* Receives a datagram of at most `size` bytes. Returns its real length, which may be larger; -1:
 * none is there. */
ssize_t wire_datagram(struct wire *w, void *buf, size_t size, char from[PEER_MAX]);
/* Sends as much as the socket takes now, and the rest later. False: the previous text is still in
 * flight, or this one is too long; nothing was sent. */
bool wire_say(struct wire_connection *c, const char *text);
/* The answer of read() where `lost` is set: open() makes the Unix socket again. */
int wire_lost(struct wire *w, pawl_fault *f);
/* Reports something at the pace of its kind. */
void wire_report(struct wire *w, enum wire_event event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Ends a connection: its peer broke the protocol. Says why to the peer, if it listens to answers,
 * and to the operator. */
void wire_refuse(struct wire *w, struct wire_connection *c, const char *why);
/* The same without a word to the operator, for what is in order: its sender has come again. */
void wire_replace(struct wire *w, struct wire_connection *c, const char *why);
/* Names what the next to - from records of the batch are: messages of a thing, numbered one by one,
 * that `peer` sent. `begins`: they are the thing's first. */
void wire_origin(struct wire *w, const char *thing, const char *peer, uint64_t from, uint64_t to,
                 bool begins);
void wire_status(struct wire *w, char *text, size_t size);
void wire_free(struct wire *w);

#endif
