/* SPDX-License-Identifier: Apache-2.0
 *
 * Listening, connections and their buffers, for the sources `socket` and `syslog`. For one thread.
 * Bounded: at most connections_max connections; each owns one buffer. A connection that leaves a
 * line or a greeting unfinished for timeout_ms is closed. While the source doesn't read (the log is
 * full), flow control holds the senders back, and no timeout runs.
 */
#ifndef PAWL_CONNECTORS_WIRE_H
#define PAWL_CONNECTORS_WIRE_H

#include "connectors/runtime/connect.h"

#define WIRE_CONNECTIONS_MAX 1024u
#define WIRE_SENDER_MAX 40u

struct wire_settings {
    char address[256]; /* "HOST:PORT", "PORT" (on 127.0.0.1) or "unix:PATH" */
    bool stream, datagram;
    uint32_t connections_max;
    uint32_t timeout_ms;
    size_t line_max;
};

struct wire_connection {
    int fd;
    uint8_t *buf;
    size_t from, len; /* bytes not taken yet: [from, len) */
    /* the peer has sent its last bytes, or the connection failed: dropped once nothing is left to
     * take */
    bool closing;
    bool refused;      /* dropped at once */
    bool owed;         /* a text that didn't fit is still to be sent: see `tell` */
    uint64_t since_ns; /* when the unfinished line or greeting began; 0: none */
    char out[320];     /* bytes in flight */
    size_t out_len;
    char sender[WIRE_SENDER_MAX + 1]; /* "" before the greeting */
};

struct wire {
    struct wire_settings set;
    int stream_fd, datagram_fd; /* -1: none */
    int wake_fd;                /* ends wire_wait(); -1: none */
    struct wire_connection *connections;
    uint32_t count, turn;
    uint64_t looked_ns;
    uint64_t accepted, refused;
    /* called when a connection that owes a text can send it; may be NULL */
    void (*tell)(void *arg, struct wire_connection *c);
    void *tell_arg;
    pthread_mutex_t mutex; /* guards shown */
    char shown[128];
};

/* Checks the address. Returns 0 or PAWL_INVALID. */
int wire_address_check(const char *address, pawl_error *err);
struct wire *wire_new(const struct wire_settings *s);
/* Binds and listens, unless it does already. */
int wire_open(struct wire *w, pawl_fault *f);
/* Waits up to timeout_ms for events, or until w->wake_fd is readable. Accepts, receives, sends and
 * disconnects. Moves the bytes within the buffers. True: a datagram can be received. */
bool wire_wait(struct wire *w, int timeout_ms);
/* Sends as much as the socket takes now, and the rest later. False: the previous text is still in
 * flight, or this one is too long; nothing was sent. */
bool wire_say(struct wire_connection *c, const char *text);
/* Sends the reason and disconnects. */
void wire_refuse(struct wire *w, struct wire_connection *c, const char *why);
void wire_status(struct wire *w, char *text, size_t size);
void wire_free(struct wire *w);

#endif
