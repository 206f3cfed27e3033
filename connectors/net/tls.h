/* SPDX-License-Identifier: Apache-2.0
 *
 * TLS for connections that were accepted (RFC 5425; OpenSSL). Nothing here waits: every call does
 * what it can do at once. Certificates and keys are files; when they change, new connections use
 * the new ones, and those that are there go on. A file that is bad or missing then is reported, and
 * the old ones stay in use. For one thread.
 *
 * Clients may have to show a certificate. It is accepted if its SHA-256 fingerprint is listed, or
 * if one of the authorities in `ca` has signed it and, where names are listed, one of its names is
 * among them: the common name, or a DNS name, address or e-mail of its alternative names.
 * "*.example.org" stands for one label in the place of the star.
 */
#ifndef PAWL_CONNECTORS_TLS_H
#define PAWL_CONNECTORS_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "connectors/runtime/connect.h"

enum tls_client { TLS_CLIENT_NONE = 0, TLS_CLIENT_REQUEST = 1, TLS_CLIENT_REQUIRE = 2 };

struct tls_settings {
    const char *cert, *key; /* PEM; cert: the server's own first, then its chain */
    const char *password;   /* of the key; NULL: it has none */
    const char *ca;         /* PEM, authorities for clients; NULL: none */
    const char *names;      /* "sha256:HEX" and names, by commas; NULL: any that `ca` signed */
    int client;             /* enum tls_client */
    bool only_13;           /* TLS 1.3; else 1.2 too */
};

struct tls;
struct tls_link; /* of one connection */

/* What a call on a link came to. */
enum tls_step {
    TLS_DONE, /* handshake finished; bytes moved */
    TLS_WAIT, /* the socket must become readable, or writable if tls_wants_write() */
    TLS_END,  /* the peer has ended its side in order (close_notify) */
    TLS_CUT,  /* the stream ended without that: bytes may be missing */
    TLS_BAD   /* failed: tls_why() */
};

/* False: this build has no TLS. */
bool tls_present(void);
/* Checks the settings' form and copies them. Returns 0, PAWL_INVALID or PAWL_MEMORY. */
int tls_new(const struct tls_settings *s, struct tls **out, pawl_error *err);
void tls_free(struct tls *t);
/* Loads the files, unless they are loaded and haven't changed. RETRY: a file is missing or bad, and
 * none are loaded. `warning` (of `size` bytes) gets a text where something needs a look: new files
 * that can't be used, a key that others may read; else "". */
int tls_load(struct tls *t, char *warning, size_t size, pawl_fault *f);
/* Begins TLS on an accepted, non-blocking socket, which stays the caller's. NULL: no memory. */
struct tls_link *tls_accept(struct tls *t, int fd);
enum tls_step tls_handshake(struct tls_link *l);
/* DONE: *n bytes were received or sent; at least one. */
enum tls_step tls_recv(struct tls_link *l, void *buf, size_t size, size_t *n);
enum tls_step tls_send(struct tls_link *l, const void *buf, size_t size, size_t *n);
/* Bytes are decrypted already: tls_recv() has them, without the socket becoming readable. */
bool tls_pending(const struct tls_link *l);
bool tls_wants_write(const struct tls_link *l);
/* Why the last call was BAD. */
const char *tls_why(const struct tls_link *l);
/* The subject of the client's certificate; "" if it has shown none. */
const char *tls_subject(const struct tls_link *l);
/* Is this the common name, a DNS name or an e-mail of the client's certificate, to the byte? */
bool tls_has_name(const struct tls_link *l, const char *name);
/* Says close_notify, if the handshake was done and the socket takes it, and frees the link. */
void tls_close(struct tls_link *l);

#endif
