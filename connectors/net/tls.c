/* SPDX-License-Identifier: Apache-2.0
 *
 * tls.c - see tls.h.
 */
#include "connectors/net/tls.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if PAWL_WITH_OPENSSL

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define FILES 3
#define NAMES_MAX 256
#define SUBJECT_MAX 128

struct identity { /* of a file, as far as a change shows */
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec changed;
};

struct tls {
    char *files[FILES]; /* cert, key, ca; ca may be NULL */
    struct identity seen[FILES];
    char *password;                   /* of the key, or NULL */
    char *names;                      /* the list's text; cut at its commas */
    const char *name_list[NAMES_MAX]; /* names, and fingerprints as 64 hex digits */
    bool is_print[NAMES_MAX];
    size_t name_count;
    int client;
    bool only_13;
    SSL_CTX *context;
    BIO_METHOD *method;
};

struct tls_link {
    SSL *ssl;
    int fd;
    bool done, wants_write, failed;
    char why[160], subject[SUBJECT_MAX];
};

bool tls_present(void) {
    return true;
}

/* ---- the socket, without SIGPIPE and without waiting */

static int bio_write(BIO *b, const char *data, int len) {
    const struct tls_link *l = BIO_get_data(b);
    ssize_t n;
    do
        n = send(l->fd, data, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    BIO_clear_retry_flags(b);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        BIO_set_retry_write(b);
    return (int)n;
}

static int bio_read(BIO *b, char *data, int len) {
    const struct tls_link *l = BIO_get_data(b);
    ssize_t n;
    do
        n = recv(l->fd, data, (size_t)len, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    BIO_clear_retry_flags(b);
    if (n == 0)
        BIO_set_flags(b, BIO_FLAGS_IN_EOF);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        BIO_set_retry_read(b);
    return (int)n;
}

static long bio_ctrl(BIO *b, int command, long number, void *pointer) {
    (void)number;
    (void)pointer;
    if (command == BIO_CTRL_EOF)
        return BIO_test_flags(b, BIO_FLAGS_IN_EOF) != 0;
    return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *new_method(void) {
    BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "pawl socket");
    if (m != NULL && (!BIO_meth_set_write(m, bio_write) || !BIO_meth_set_read(m, bio_read) ||
                      !BIO_meth_set_ctrl(m, bio_ctrl))) {
        BIO_meth_free(m);
        return NULL;
    }
    return m;
}

/* ---- settings */

/* "sha256:AB:CD:..." as 64 lower-case digits, in place. */
static bool fingerprint(char *text) {
    size_t n = 0;
    for (const char *p = text + 7; *p != 0; p++) {
        if (*p == ':')
            continue;
        if (strchr("0123456789abcdefABCDEF", *p) == NULL || n == 64)
            return false;
        text[n++] = (char)(*p >= 'A' && *p <= 'F' ? *p + 32 : *p);
    }
    text[n] = 0;
    return n == 64;
}

static int take_names(struct tls *t, pawl_error *err) {
    char *rest = t->names, *one;
    while (rest != NULL && (one = strsep(&rest, ",")) != NULL) {
        one += strspn(one, " ");
        one[strcspn(one, " ")] = 0;
        if (*one == 0)
            continue;
        if (t->name_count == NAMES_MAX)
            return connect_error(err, PAWL_INVALID, "tls_names has more than %d names", NAMES_MAX);
        bool print = strncasecmp(one, "sha256:", 7) == 0;
        if (print && !fingerprint(one))
            return connect_error(err, PAWL_INVALID,
                                 "tls_names: a fingerprint is sha256: and 64 hex digits");
        t->is_print[t->name_count] = print;
        t->name_list[t->name_count++] = one;
    }
    return 0;
}

int tls_new(const struct tls_settings *s, struct tls **out, pawl_error *err) {
    struct tls *t = calloc(1, sizeof *t);
    const char *files[FILES] = {s->cert, s->key, s->ca};
    bool ok = t != NULL;
    for (int i = 0; ok && i < FILES; i++)
        ok = files[i] == NULL || (t->files[i] = strdup(files[i])) != NULL;
    ok = ok && (s->password == NULL || (t->password = strdup(s->password)) != NULL) &&
         (s->names == NULL || (t->names = strdup(s->names)) != NULL) &&
         (t->method = new_method()) != NULL;
    if (!ok) {
        tls_free(t);
        return connect_error(err, PAWL_MEMORY, "no memory for TLS");
    }
    t->client = s->client;
    t->only_13 = s->only_13;
    int rc = take_names(t, err);
    bool prints = false;
    for (size_t i = 0; i < t->name_count; i++)
        prints |= t->is_print[i];
    if (rc == 0 && t->client == TLS_CLIENT_NONE && (t->files[2] != NULL || t->name_count != 0))
        rc = connect_error(err, PAWL_INVALID,
                           "tls_ca and tls_names need tls_client: request or require");
    if (rc == 0 && t->client != TLS_CLIENT_NONE && t->files[2] == NULL && !prints)
        rc = connect_error(err, PAWL_INVALID,
                           "tls_client needs tls_ca, or fingerprints in tls_names: else no "
                           "certificate could be accepted");
    if (rc < 0)
        tls_free(t);
    else
        *out = t;
    return rc;
}

void tls_free(struct tls *t) {
    if (t == NULL)
        return;
    SSL_CTX_free(t->context);
    BIO_meth_free(t->method);
    for (int i = 0; i < FILES; i++)
        free(t->files[i]);
    free(t->names);
    free(t->password);
    free(t);
}

/* ---- who may come */

static bool label_matches(const char *pattern, const char *name, size_t n) {
    size_t len = strlen(pattern);
    if (pattern[0] == '*' && pattern[1] == '.') {
        const char *dot = memchr(name, '.', n);
        if (dot == NULL || dot == name)
            return false;
        n -= (size_t)(dot - name);
        name = dot;
        pattern++;
        len--;
    }
    return len == n && strncasecmp(pattern, name, n) == 0;
}

static bool listed(const struct tls *t, const void *name, int n) {
    if (n <= 0 || memchr(name, 0, (size_t)n) != NULL)
        return false; /* "good\0.evil" */
    for (size_t i = 0; i < t->name_count; i++)
        if (!t->is_print[i] && label_matches(t->name_list[i], name, (size_t)n))
            return true;
    return false;
}

static bool address_listed(const struct tls *t, X509 *cert) {
    for (size_t i = 0; i < t->name_count; i++)
        if (!t->is_print[i] && X509_check_ip_asc(cert, t->name_list[i], 0) == 1)
            return true;
    return false;
}

typedef bool (*name_fn)(const void *arg, const void *name, int n);

/* Is one of the certificate's names, but addresses, one that `is` takes? */
static bool any_name(X509 *cert, name_fn is, const void *arg) {
    bool found = false;
    GENERAL_NAMES *others = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; !found && i < sk_GENERAL_NAME_num(others); i++) {
        int kind;
        const ASN1_STRING *text = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(others, i), &kind);
        found = (kind == GEN_DNS || kind == GEN_EMAIL) &&
                is(arg, ASN1_STRING_get0_data(text), ASN1_STRING_length(text));
    }
    GENERAL_NAMES_free(others);
    const X509_NAME *subject = X509_get_subject_name(cert);
    for (int at = -1;
         !found && (at = X509_NAME_get_index_by_NID(subject, NID_commonName, at)) >= 0;) {
        unsigned char *text = NULL;
        int n =
            ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
        found = n > 0 && is(arg, text, n);
        OPENSSL_free(text);
    }
    return found;
}

static bool is_listed(const void *t, const void *name, int n) {
    return listed(t, name, n);
}

static bool name_listed(const struct tls *t, X509 *cert) {
    return address_listed(t, cert) || any_name(cert, is_listed, t);
}

static bool is_exactly(const void *want, const void *name, int n) {
    return n > 0 && strlen(want) == (size_t)n && memcmp(want, name, (size_t)n) == 0;
}

bool tls_has_name(const struct tls_link *l, const char *name) {
    X509 *cert = l->done ? SSL_get0_peer_certificate(l->ssl) : NULL;
    return cert != NULL && any_name(cert, is_exactly, name);
}

static bool print_listed(const struct tls *t, X509 *cert) {
    unsigned char hash[EVP_MAX_MD_SIZE];
    char text[2 * EVP_MAX_MD_SIZE + 1] = "";
    unsigned n = 0;
    if (X509_digest(cert, EVP_sha256(), hash, &n) != 1)
        return false;
    for (unsigned i = 0; i < n; i++)
        snprintf(text + 2 * i, 3, "%02x", hash[i]);
    for (size_t i = 0; i < t->name_count; i++)
        if (t->is_print[i] && strcmp(t->name_list[i], text) == 0)
            return true;
    return false;
}

/* Decides about the client's certificate. A listed fingerprint is enough, by whomever it is
 * signed. */
static int verify(X509_STORE_CTX *x, void *arg) {
    const struct tls *t = arg;
    X509 *cert = X509_STORE_CTX_get0_cert(x);
    bool names = false;
    for (size_t i = 0; i < t->name_count; i++)
        names |= !t->is_print[i];
    if (cert != NULL && print_listed(t, cert)) {
        X509_STORE_CTX_set_error(x, X509_V_OK);
        return 1;
    }
    if (X509_verify_cert(x) != 1)
        return 0;
    if (t->name_count == 0 || (names && name_listed(t, cert)))
        return 1;
    X509_STORE_CTX_set_error(x, X509_V_ERR_APPLICATION_VERIFICATION);
    return 0;
}

/* ---- files */

static bool look(const char *path, struct identity *out, mode_t *mode) {
    struct stat st;
    if (stat(path, &st) != 0)
        return false;
    memset(out, 0, sizeof *out);
    out->dev = st.st_dev;
    out->ino = st.st_ino;
    out->size = st.st_size;
    out->changed.tv_sec = st.st_mtim.tv_sec;
    out->changed.tv_nsec = st.st_mtim.tv_nsec;
    *mode = st.st_mode;
    return true;
}

/* The library's own reason for the last failure, and forgets all others. */
static const char *reason(void) {
    const char *text = ERR_reason_error_string(ERR_peek_last_error());
    ERR_clear_error();
    return text != NULL ? text : "failed";
}

/* The key's password, if there is one: none is asked for on a terminal. */
static int give_password(char *buf, int size, int rwflag, void *arg) {
    const struct tls *t = arg;
    size_t n = t->password != NULL ? strlen(t->password) : 0;
    (void)rwflag;
    if (size <= 0 || n >= (size_t)size)
        return 0;
    memcpy(buf, t->password != NULL ? t->password : "", n + 1);
    return (int)n;
}

static int cannot(pawl_fault *f, const char *path) {
    int error = errno;
    const char *why = reason();
    return pawl_fault_set(f, PAWL_RETRY, "TLS: %s: %s", path,
                          error == ENOENT || error == EACCES ? strerror(error) : why);
}

static int fill(const struct tls *t, SSL_CTX *x, pawl_fault *f) {
    SSL_CTX_set_min_proto_version(x, t->only_13 ? TLS1_3_VERSION : TLS1_2_VERSION);
    SSL_CTX_set_options(x, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION |
                               SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(x, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                            SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(x, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(x, 0);
    SSL_CTX_set_default_passwd_cb(x, give_password);
    SSL_CTX_set_default_passwd_cb_userdata(x, (void *)(uintptr_t)t);
    errno = 0;
    if (SSL_CTX_use_certificate_chain_file(x, t->files[0]) != 1)
        return cannot(f, t->files[0]);
    errno = 0;
    if (SSL_CTX_use_PrivateKey_file(x, t->files[1], SSL_FILETYPE_PEM) != 1)
        return cannot(f, t->files[1]);
    errno = 0;
    if (SSL_CTX_check_private_key(x) != 1)
        return cannot(f, t->files[1]);
    if (t->client == TLS_CLIENT_NONE)
        return PAWL_DONE;
    errno = 0;
    if (t->files[2] != NULL && SSL_CTX_load_verify_file(x, t->files[2]) != 1)
        return cannot(f, t->files[2]);
    if (t->files[2] != NULL)
        SSL_CTX_set_client_CA_list(x, SSL_load_client_CA_file(t->files[2]));
    SSL_CTX_set_verify(x,
                       SSL_VERIFY_PEER |
                           (t->client == TLS_CLIENT_REQUIRE ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                       NULL);
    SSL_CTX_set_cert_verify_callback(x, verify, (void *)(uintptr_t)t);
    return PAWL_DONE;
}

int tls_load(struct tls *t, char *warning, size_t size, pawl_fault *f) {
    struct identity now[FILES];
    mode_t mode = 0, key_mode = 0;
    bool changed = t->context == NULL;
    memset(now, 0, sizeof now);
    warning[0] = 0;
    for (int i = 0; i < FILES; i++) {
        if (t->files[i] == NULL || !look(t->files[i], &now[i], &mode))
            continue; /* one that is missing now may be about to be replaced */
        key_mode = i == 1 ? mode : key_mode;
        changed |= memcmp(&now[i], &t->seen[i], sizeof now[i]) != 0;
    }
    if (!changed)
        return PAWL_DONE;
    memcpy(t->seen, now, sizeof now);
    SSL_CTX *x = SSL_CTX_new(TLS_server_method());
    int rc = x == NULL ? pawl_fault_set(f, PAWL_RETRY, "TLS: no memory") : fill(t, x, f);
    if (rc != PAWL_DONE) {
        SSL_CTX_free(x);
        if (t->context == NULL)
            return rc;
        snprintf(warning, size, "the new files are not used, the old ones stay: %.300s",
                 f != NULL ? f->message : "");
        return PAWL_DONE;
    }
    SSL_CTX_free(t->context); /* connections have their own reference */
    t->context = x;
    if ((key_mode & S_IROTH) != 0)
        snprintf(warning, size, "TLS: every user can read the key %s: chmod 600", t->files[1]);
    return PAWL_DONE;
}

/* ---- links */

struct tls_link *tls_accept(struct tls *t, int fd) {
    struct tls_link *l = calloc(1, sizeof *l);
    BIO *b = l != NULL ? BIO_new(t->method) : NULL;
    if (b == NULL || (l->ssl = SSL_new(t->context)) == NULL) {
        BIO_free(b);
        free(l);
        ERR_clear_error();
        return NULL;
    }
    l->fd = fd;
    BIO_set_data(b, l);
    BIO_set_init(b, 1);
    SSL_set_bio(l->ssl, b, b);
    SSL_set_accept_state(l->ssl);
    return l;
}

static enum tls_step step(struct tls_link *l, int rc) {
    int error = SSL_get_error(l->ssl, rc);
    l->wants_write = error == SSL_ERROR_WANT_WRITE;
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        return TLS_WAIT;
    if (error == SSL_ERROR_ZERO_RETURN)
        return TLS_END;
    unsigned long last = ERR_peek_last_error();
    l->failed = true;
    if (error == SSL_ERROR_SYSCALL ||
        (ERR_GET_LIB(last) == ERR_LIB_SSL &&
         ERR_GET_REASON(last) == SSL_R_UNEXPECTED_EOF_WHILE_READING)) {
        ERR_clear_error();
        snprintf(l->why, sizeof l->why, "the connection broke");
        return TLS_CUT;
    }
    long verified = SSL_get_verify_result(l->ssl);
    if (!l->done && verified == X509_V_ERR_APPLICATION_VERIFICATION) {
        ERR_clear_error();
        snprintf(l->why, sizeof l->why, "none of the certificate's names is in tls_names");
    } else if (!l->done && verified != X509_V_OK) {
        ERR_clear_error();
        snprintf(l->why, sizeof l->why, "certificate: %s", X509_verify_cert_error_string(verified));
    } else
        snprintf(l->why, sizeof l->why, "TLS: %s", reason());
    return TLS_BAD;
}

enum tls_step tls_handshake(struct tls_link *l) {
    ERR_clear_error();
    int rc = SSL_do_handshake(l->ssl);
    if (rc != 1)
        return step(l, rc);
    l->done = true;
    l->wants_write = false;
    X509 *cert = SSL_get0_peer_certificate(l->ssl);
    if (cert != NULL)
        X509_NAME_oneline(X509_get_subject_name(cert), l->subject, sizeof l->subject);
    return TLS_DONE;
}

enum tls_step tls_recv(struct tls_link *l, void *buf, size_t size, size_t *n) {
    ERR_clear_error();
    int rc = SSL_read_ex(l->ssl, buf, size, n);
    return rc == 1 ? TLS_DONE : step(l, rc);
}

enum tls_step tls_send(struct tls_link *l, const void *buf, size_t size, size_t *n) {
    ERR_clear_error();
    int rc = SSL_write_ex(l->ssl, buf, size, n);
    if (rc != 1)
        return step(l, rc);
    l->wants_write = false;
    return TLS_DONE;
}

bool tls_pending(const struct tls_link *l) {
    return SSL_pending(l->ssl) > 0;
}

bool tls_wants_write(const struct tls_link *l) {
    return l->wants_write;
}

const char *tls_why(const struct tls_link *l) {
    return l->why;
}

const char *tls_subject(const struct tls_link *l) {
    return l->subject;
}

void tls_close(struct tls_link *l) {
    if (l == NULL)
        return;
    ERR_clear_error();
    if (l->done && !l->failed)
        SSL_shutdown(l->ssl);
    SSL_free(l->ssl);
    ERR_clear_error();
    free(l);
}

#else
typedef int tls_none; /* tls_none.c has the functions */
#endif
