/* SPDX-License-Identifier: Apache-2.0
 *
 * tls_none.c - tls.h for a build without OpenSSL: tls_new() says so.
 */
#include "connectors/net/tls.h"

#if !PAWL_WITH_OPENSSL

bool tls_present(void) {
    return false;
}

int tls_new(const struct tls_settings *s, struct tls **out, pawl_error *err) {
    (void)s;
    (void)out;
    return connect_error(err, PAWL_INVALID, "this build has no TLS (OpenSSL wasn't found)");
}

void tls_free(struct tls *t) {
    (void)t;
}

int tls_load(struct tls *t, char *warning, size_t size, pawl_fault *f) {
    (void)t;
    (void)warning;
    (void)size;
    return pawl_fault_set(f, PAWL_FATAL, "this build has no TLS");
}

struct tls_link *tls_accept(struct tls *t, int fd) {
    (void)t;
    (void)fd;
    return NULL;
}

enum tls_step tls_handshake(struct tls_link *l) {
    (void)l;
    return TLS_BAD;
}

enum tls_step tls_recv(struct tls_link *l, void *buf, size_t size, size_t *n) {
    (void)l;
    (void)buf;
    (void)size;
    (void)n;
    return TLS_BAD;
}

enum tls_step tls_send(struct tls_link *l, const void *buf, size_t size, size_t *n) {
    (void)l;
    (void)buf;
    (void)size;
    (void)n;
    return TLS_BAD;
}

bool tls_pending(const struct tls_link *l) {
    (void)l;
    return false;
}

bool tls_wants_write(const struct tls_link *l) {
    (void)l;
    return false;
}

const char *tls_why(const struct tls_link *l) {
    (void)l;
    return "";
}

const char *tls_subject(const struct tls_link *l) {
    (void)l;
    return "";
}

bool tls_has_name(const struct tls_link *l, const char *name) {
    (void)l;
    (void)name;
    return false;
}

void tls_close(struct tls_link *l) {
    (void)l;
}

#else
typedef int tls_present_instead; /* tls.c has the functions */
#endif
