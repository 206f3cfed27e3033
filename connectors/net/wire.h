/* SPDX-License-Identifier: Apache-2.0
 *
 * Listening, connections and their buffers, for the sources `socket` and `syslog`. One thread.
 * Bounded: so many connections, one buffer each; who leaves a line (or a greeting) unfinished for
 * too long is disconnected. While nobody reads (the log is full), senders are held back by the
 * system, and no clock runs.
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
    size_t from, len; /* what is not taken yet: [from, len) */
    /* the other side has sent its last, or it is to be closed: once nothing can be taken from it */
    bool closing;
    bool refused;      /* at once */
    bool owed;         /* something to be told that didn't fit: see `tell` */
    uint64_t since_ns; /* unfinished line or greeting since; 0: none */
    char out[320];     /* being sent */
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
    /* the owed thing can be said now; may be NULL */
    void (*tell)(void *arg, struct wire_connection *c);
    void *tell_arg;
    pthread_mutex_t mutex; /* guards shown */
    char shown[128];
};

/* Checks the address. 0 or PAWL_INVALID. */
int wire_address_check(const char *address, pawl_error *err);
struct wire *wire_new(const struct wire_settings *s);
/* Binds and listens, if it doesn't yet. */
int wire_open(struct wire *w, pawl_fault *f);
/* Waits for anything, up to timeout_ms or until w->wake_fd is readable: accepts, receives, sends,
 * disconnects. True: a datagram can be received. Moves what is in buffers. */
bool wire_wait(struct wire *w, int timeout_ms);
/* Sends as much as goes; what doesn't is sent later. False: what was said before is still under
 * way, nothing is done. */
bool wire_say(struct wire_connection *c, const char *text);
/* Says why, and disconnects. */
void wire_refuse(struct wire *w, struct wire_connection *c, const char *why);
void wire_status(struct wire *w, char *text, size_t size);
void wire_free(struct wire *w);

#endif
