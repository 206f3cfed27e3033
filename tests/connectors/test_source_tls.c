/* SPDX-License-Identifier: Apache-2.0
 *
 * TLS for socket and syslog: lines and acknowledgements through it, who may come, streams that are
 * cut, handshakes that stall, certificates that change or aren't there yet. The peer is OpenSSL,
 * driven by hand in the same thread, so nothing waits for a clock.
 */
#include "tests/support/source_help.h"

#ifdef PAWL_TEST_OPENSSL

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "connectors/net/tls.h"

/* ---- certificates, made once by the command openssl */

static char certs[] = "/tmp/test_source_tls.XXXXXX";

static const char *file(const char *name) {
    static char paths[4][100];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, 100, "%s/%s", certs, name);
    return path;
}

static int run(const char *format, const char *a, const char *b) {
    char command[900];
    int n = snprintf(command, sizeof command, "cd '%s' && { ", certs);
    n += snprintf(command + n, sizeof command - (size_t)n, format, a, b);
    snprintf(command + n, sizeof command - (size_t)n, "; } >/dev/null 2>&1");
    return system(command);
}

/* A key and a certificate NAME.pem (both in it) for /CN=..., signed by `ca`, or by itself. */
static void make_cert(const char *name, const char *subject) {
    assert_int_equal(run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
                         "-days 2 -subj '%s' -keyout key.tmp -out cert.tmp && cat cert.tmp "
                         "key.tmp >%s.pem",
                         subject, name),
                     0);
}

static void sign_cert(const char *name, const char *subject, const char *alternative) {
    char both[200];
    assert_int_equal(run("openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
                         "-subj '%s' -keyout key.tmp -out request.tmp && echo 'basicConstraints="
                         "CA:FALSE' >ext.tmp && echo '%s' >>ext.tmp",
                         subject, alternative),
                     0);
    snprintf(both, sizeof both, "%s", name);
    assert_int_equal(run("openssl x509 -req -in request.tmp -CA ca.pem -CAkey ca.pem -days 2 "
                         "-CAcreateserial -extfile ext.tmp -out cert.tmp && cat cert.tmp key.tmp "
                         ">%s.pem%s",
                         both, ""),
                     0);
}

static int make_certs(void **state) {
    (void)state;
    assert_non_null(mkdtemp(certs));
    umask(077); /* others can't read the keys */
    make_cert("ca", "/CN=the authority");
    sign_cert("server", "/CN=localhost", "subjectAltName=DNS:localhost");
    sign_cert("good", "/CN=meter-1", "");
    sign_cert("named", "/CN=x", "subjectAltName=DNS:a.example.org,IP:192.0.2.7");
    sign_cert("other", "/CN=meter-2", "");
    make_cert("self", "/CN=meter-1"); /* the right name, but nobody has signed it */
    make_cert("second", "/CN=second");
    return 0;
}

static int remove_certs(void **state) {
    char command[100];
    (void)state;
    snprintf(command, sizeof command, "rm -rf -- '%s'", certs);
    return system(command);
}

static const char *print_of(const char *name) {
    static char text[120];
    char command[300];
    snprintf(command, sizeof command,
             "openssl x509 -in '%s/%s.pem' -noout -fingerprint -sha256 | sed 's/.*=/sha256:/'",
             certs, name);
    FILE *in = popen(command, "r");
    assert_non_null(in);
    assert_non_null(fgets(text, sizeof text, in));
    pclose(in);
    text[strcspn(text, "\n")] = 0;
    return text;
}

/* ---- the peer */

struct peer {
    struct feed *f;
    int fd;
    SSL_CTX *context;
    SSL *ssl;
};

static int dial(struct feed *f) {
    int fd = dial_port(feed_port(f), SOCK_STREAM);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    return fd;
}

/* Connects, with a certificate or none, by this version or any. False: it was refused. */
static bool come(struct peer *p, struct feed *f, const char *cert, int version) {
    static const struct timeval soon = {0, 2000};
    *p = (struct peer){.f = f, .fd = dial(f), .context = SSL_CTX_new(TLS_client_method())};
    assert_non_null(p->context);
    if (version != 0) {
        SSL_CTX_set_security_level(p->context, 0); /* or the client itself refuses old versions */
        SSL_CTX_set_min_proto_version(p->context, version);
        SSL_CTX_set_max_proto_version(p->context, version);
    }
    if (cert != NULL) {
        char name[40];
        snprintf(name, sizeof name, "%s.pem", cert);
        assert_int_equal(SSL_CTX_use_certificate_chain_file(p->context, file(name)), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey_file(p->context, file(name), SSL_FILETYPE_PEM), 1);
    }
    setsockopt(p->fd, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
    p->ssl = SSL_new(p->context);
    SSL_set_fd(p->ssl, p->fd);
    for (int i = 0; i < 1000; i++) {
        ERR_clear_error();
        int rc = SSL_connect(p->ssl);
        if (rc == 1)
            return true;
        if (SSL_get_error(p->ssl, rc) != SSL_ERROR_WANT_READ)
            return false;
        feed_drive(f);
    }
    return false;
}

static void say(struct peer *p, const char *text) {
    ERR_clear_error();
    assert_int_equal(SSL_write(p->ssl, text, (int)strlen(text)), strlen(text));
}

/* All that is answered; ends with "!" if the connection has ended, "." if in order. Static. */
static const char *heard(struct peer *p) {
    static char text[4096];
    size_t len = 0;
    for (int i = 0; i < 3; i++) {
        feed_drive(p->f);
        ERR_clear_error();
        int n = SSL_read(p->ssl, text + len, (int)(sizeof text - len - 2)),
            error = SSL_get_error(p->ssl, n);
        len += n > 0 ? (size_t)n : 0;
        if (n <= 0 && error != SSL_ERROR_WANT_READ) {
            text[len++] = error == SSL_ERROR_ZERO_RETURN ? '.' : '!';
            break;
        }
    }
    text[len] = 0;
    return text;
}

/* Goes; `orderly`: with close_notify. */
static void go(struct peer *p, bool orderly) {
    ERR_clear_error();
    if (orderly)
        SSL_shutdown(p->ssl);
    SSL_free(p->ssl);
    SSL_CTX_free(p->context);
    close(p->fd);
    if (p->f->source != NULL)
        feed_drive(p->f);
}

static struct feed *make_feed(const char *type) {
    struct feed *f = feed_new(type);
    feed_set(f, "address", "127.0.0.1:0");
    feed_set(f, "tls_cert", file("server.pem"));
    f->config.on_poison = PAWL_ON_ERROR_DEAD_LETTER;
    return f;
}

static void start(struct feed *f) {
    feed_begin(f);
    feed_drive(f);
}

/* ---- */

static void lines_are_acknowledged(void **state) {
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    (void)state;
    struct feed *f = make_feed("socket");
    struct peer p;
    start(f);
    for (int i = 0; i < 2; i++) {
        assert_true(come(&p, f, NULL, versions[i]));
        say(&p, "PAWL1 m\n");
        assert_string_equal(heard(&p), i == 0 ? "OK 0\n" : "OK 2\n");
        say(&p, i == 0 ? "1 one\n2 two\n" : "3 three\n4 fo");
        assert_string_equal(heard(&p), i == 0 ? "ACK 2\n" : "ACK 3\n");
        go(&p, i == 0);
    }
    assert_true(come(&p, f, NULL, 0));
    say(&p, "PAWL1 m\nnonsense\n");
    const char *text = heard(&p);
    assert_non_null(strstr(text, "ERR expected: NUMBER TEXT\n"));
    assert_int_equal(text[strlen(text) - 1], '.'); /* it says close_notify */
    go(&p, true);
    assert_false(come(&p, f, NULL, TLS1_1_VERSION));
    go(&p, false);
    feed_holds(f, "one\ntwo\nthree\n");
    feed_free(f);
}

/* More than TLS's own record, a buffer, and what the socket takes at once; in one go. */
static void much_at_once(void **state) {
    (void)state;
    struct feed *f = make_feed("syslog");
    struct peer p;
    feed_set(f, "line_max", "4k");
    start(f);
    assert_true(come(&p, f, NULL, 0));
    char *want, *text;
    size_t n, size;
    FILE *out = open_memstream(&text, &size), *expected = open_memstream(&want, &n);
    for (int i = 0; i < 20000; i++) {
        fprintf(out, "%d <13>a: %05d", 12, i);
        fprintf(expected, "%05d\n", i);
    }
    fclose(out);
    fclose(expected);
    for (size_t at = 0; at < size;) {
        int k = SSL_write(p.ssl, text + at, size - at < 16384 ? (int)(size - at) : 16384);
        assert_true(k > 0);
        at += (size_t)k;
        if (at % 65536 == 0)
            feed_drive(f);
    }
    feed_drive(f);
    feed_holds(f, want);
    free(text);
    free(want);
    go(&p, true);
    feed_free(f);
}

/* An attacker who can cut a stream can't make a part look like the whole. */
static void a_cut_stream_is_said(void **state) {
    (void)state;
    for (int orderly = 0; orderly <= 1; orderly++) {
        struct feed *f = make_feed("syslog");
        struct peer p;
        start(f);
        assert_true(come(&p, f, NULL, 0));
        say(&p, "<1>whole\n<1>transfer 100");
        feed_drive(f);
        go(&p, orderly == 1);
        feed_holds(f, orderly ? "whole\ntransfer 100\n" : "whole\n");
        size_t n;
        char *dead = feed_text(f, f->dead, &n);
        assert_string_equal(dead, orderly ? "" : "<1>transfer 100\n");
        free(dead);
        assert_int_equal(f->warnings, orderly ? 0 : 1);
        if (!orderly)
            assert_non_null(strstr(f->warning, "close_notify"));
        feed_free(f);
    }
}

/* One that says nothing, one that speaks something else, one that stops in the middle: all beside
 * one that works. */
static void handshakes_block_nobody(void **state) {
    (void)state;
    struct feed *f = make_feed("syslog");
    struct peer p;
    char c;
    feed_set(f, "timeout", "300ms");
    start(f);
    int silent = dial(f), plain = dial(f), half = dial(f);
    assert_int_equal(send(plain, "<13>a: not encrypted\n", 21, 0), 21);
    assert_int_equal(send(half, "\x16\x03\x01\x02\x00\x01", 6, 0), 6);
    feed_drive(f);
    assert_true(come(&p, f, NULL, 0));
    say(&p, "<1>well\n");
    feed_drive(f);
    feed_holds(f, "well\n");
    assert_true(f->warnings >= 1);
    assert_non_null(strstr(f->warning, "no TLS connection"));
    while (recv(plain, &c, 1, MSG_DONTWAIT) > 0)
        ;
    assert_true(recv(plain, &c, 1, MSG_DONTWAIT) <= 0);
    for (int i = 0; i < 2000 && strstr(feed_status(f).target, "1 connected") == NULL; i++) {
        usleep(2000);
        feed_drive(f);
    }
    assert_non_null(strstr(feed_status(f).target, "1 connected")); /* the one that works */
    say(&p, "<1>still\n");
    feed_drive(f);
    feed_holds(f, "well\nstill\n");
    close(silent);
    close(plain);
    close(half);
    go(&p, true);
    feed_free(f);
}

static const struct {
    const char *label, *client, *names, *cert;
    bool ca, welcome;
} clients[] = {
    {"no certificate, none asked for", "none", NULL, NULL, false, true},
    {"no certificate, requested", "request", NULL, NULL, true, true},
    {"no certificate, required", "require", NULL, NULL, true, false},
    {"a signed one", "require", NULL, "good", true, true},
    {"not signed by the authority", "require", NULL, "self", true, false},
    {"the same, only requested", "request", NULL, "self", true, false},
    {"a listed common name", "require", "meter-1", "good", true, true},
    {"in other letters", "require", "METER-1", "good", true, true},
    {"one of several", "require", "meter-7, meter-1 ,x", "good", true, true},
    {"another name", "require", "meter-1", "other", true, false},
    {"the name is listed, but nobody signed it", "require", "meter-1", "self", true, false},
    {"a listed DNS name", "require", "a.example.org", "named", true, true},
    {"a pattern", "require", "*.example.org", "named", true, true},
    {"a pattern stands for one label", "require", "*.org", "named", true, false},
    {"a listed address", "require", "192.0.2.7", "named", true, true},
    {"another address", "require", "192.0.2.8", "named", true, false},
    {"a listed fingerprint, no authority", "require", "@self", "self", false, true},
    {"another fingerprint", "require", "@self", "good", false, false},
    {"a fingerprint beside names", "require", "@self,meter-2", "self", true, true},
    {"a name beside a fingerprint", "require", "@self,meter-2", "other", true, true},
    {"neither", "require", "@self,meter-2", "good", true, false},
};

static void who_may_come(void **state) {
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    (void)state;
    for (size_t i = 0; i < 2 * sizeof clients / sizeof clients[0]; i++) {
        struct feed *f = make_feed("socket");
        struct peer p;
        size_t k = i / 2;
        feed_set(f, "tls_client", clients[k].client);
        if (clients[k].ca)
            feed_set(f, "tls_ca", file("ca.pem"));
        if (clients[k].names != NULL) {
            char names[200];
            bool print = clients[k].names[0] == '@';
            snprintf(names, sizeof names, "%s%s", print ? print_of("self") : "",
                     clients[k].names + (print ? 5 : 0));
            feed_set(f, "tls_names", names);
        }
        start(f);
        bool came = come(&p, f, clients[k].cert, versions[i % 2]);
        if (came) /* by TLS 1.3 the client only hears it afterwards */
            (void)SSL_write(p.ssl, "PAWL1 m\n1 one\n", 14);
        const char *text = came ? heard(&p) : "";
        bool welcome = strcmp(text, "OK 0\nACK 1\n") == 0;
        if (welcome != clients[k].welcome)
            fail_msg("%s, version %d: %s", clients[k].label, (int)i % 2, text);
        assert_int_equal(f->warnings != 0, !welcome);
        feed_holds(f, welcome ? "one\n" : "");
        go(&p, true);
        feed_free(f);
    }
}

static void copy(const char *from, const char *to) {
    assert_int_equal(run("cp %s.pem %s.new", from, to), 0);
    assert_int_equal(run("mv %s.new %s.pem", to, to), 0);
}

static bool sees(struct peer *p, const char *subject) {
    char text[200];
    X509 *cert = SSL_get1_peer_certificate(p->ssl);
    assert_non_null(cert);
    X509_NAME_oneline(X509_get_subject_name(cert), text, sizeof text);
    X509_free(cert);
    return strcmp(text, subject) == 0;
}

/* Connects until the source has looked at its files again: once a second at most. */
static bool comes_to_see(struct feed *f, const char *subject) {
    for (int i = 0; i < 400; i++) {
        struct peer p;
        assert_true(come(&p, f, NULL, 0));
        bool seen = sees(&p, subject);
        go(&p, true);
        if (seen)
            return true;
        usleep(10000);
    }
    return false;
}

/* auth: certificate. A sender's name is one of its certificate's, to the byte. */
static void a_certificate_proves_a_name(void **state) {
    static const struct {
        const char *cert, *name, *answer;
    } cases[] = {
        {"good", "meter-1", "OK 0\n"},
        {"good", "meter-2", "ERR the certificate is not of this name\n."},
        {"good", "METER-1", "ERR the certificate is not of this name\n."},
        {"good", "meter-", "ERR the certificate is not of this name\n."},
        {"named", "a.example.org", "OK 0\n"},
        {"named", "x", "OK 0\n"},
        {"named", "example.org", "ERR the certificate is not of this name\n."},
    };
    (void)state;
    struct feed *f = make_feed("socket");
    feed_set(f, "tls_client", "require");
    feed_set(f, "tls_ca", file("ca.pem"));
    feed_set(f, "auth", "certificate");
    start(f);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peer p;
        char hello[60];
        assert_true(come(&p, f, cases[i].cert, 0));
        snprintf(hello, sizeof hello, "PAWL1 %s\n", cases[i].name);
        say(&p, hello);
        const char *got = heard(&p);
        if (strcmp(got, cases[i].answer) != 0)
            fail_msg("%s as %s: %s", cases[i].cert, cases[i].name, got);
        go(&p, true);
    }
    feed_free(f);
}

static void certificates_change_under_connections(void **state) {
    (void)state;
    struct feed *f = make_feed("syslog");
    struct peer old;
    copy("server", "live");
    feed_set(f, "tls_cert", file("live.pem"));
    start(f);
    assert_true(come(&old, f, NULL, 0));
    assert_true(sees(&old, "/CN=localhost"));
    copy("second", "live");
    assert_true(comes_to_see(f, "/CN=second"));
    say(&old, "<1>the old one goes on\n");
    feed_drive(f);
    feed_holds(f, "the old one goes on\n");
    uint32_t before = f->warnings;
    put_file(file("live.pem"), "no certificate"); /* a bad one: said, and the one before stays */
    for (int i = 0; i < 400 && f->warnings == before; i++) {
        assert_true(comes_to_see(f, "/CN=second"));
        usleep(10000);
    }
    assert_int_equal(f->warnings, before + 1);
    assert_non_null(strstr(f->warning, "the old ones stay"));
    assert_int_equal(run("rm %s.pem%s", "live", ""), 0); /* and so does it when there is none */
    assert_true(comes_to_see(f, "/CN=second"));
    copy("server", "live");
    assert_true(comes_to_see(f, "/CN=localhost"));
    go(&old, true);
    feed_free(f);
}

/* Time mends it: the source waits, and says what for. */
static void files_may_come_later(void **state) {
    (void)state;
    struct feed *f = make_feed("syslog");
    struct peer p;
    feed_set(f, "tls_cert", file("later.pem"));
    f->config.backoff_ms = f->config.backoff_max_ms = 1;
    feed_begin(f);
    assert_true(pawl_source_step(f->source) > 0);
    pawl_flow_status s = feed_status(f);
    assert_int_equal(s.flow, PAWL_FLOW_WAITING);
    assert_non_null(strstr(s.message, "later.pem"));
    copy("server", "later");
    assert_int_equal(chmod(file("later.pem"), 0644), 0);
    for (int i = 0; i < 1000 && feed_status(f).flow != PAWL_FLOW_IDLE; i++) {
        usleep(1000);
        assert_true(pawl_source_step(f->source) >= 0);
    }
    assert_true(come(&p, f, NULL, 0));
    say(&p, "<1>at last\n");
    feed_drive(f);
    feed_holds(f, "at last\n");
    assert_int_equal(f->warnings, 1);
    assert_non_null(strstr(f->warning, "can read the key"));
    go(&p, true);
    feed_free(f);
}

static void settings_are_checked(void **state) {
    static const struct {
        const char *label, *type, *settings[8];
    } bad[] = {
        {"a key alone", "socket", {"tls_key", "k"}},
        {"names without clients", "socket", {"tls_cert", "c", "tls_names", "a"}},
        {"an authority without clients", "socket", {"tls_cert", "c", "tls_ca", "a"}},
        {"nobody could come", "socket", {"tls_cert", "c", "tls_client", "require"}},
        {"a short fingerprint",
         "socket",
         {"tls_cert", "c", "tls_client", "require", "tls_names", "sha256:AB"}},
        {"UDP", "syslog", {"tls_cert", "c", "transport", "udp"}},
        {"UDP too", "syslog", {"tls_cert", "c", "transport", "both"}},
        {"a Unix socket", "socket", {"tls_cert", "c", "address", "unix:/tmp/x"}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        pawl_setting list[5] = {{"address", "0", 1}};
        size_t n = 0;
        for (size_t k = 0; k < 8 && bad[i].settings[k] != NULL; k += 2)
            if (strcmp(bad[i].settings[k], "address") == 0)
                list[0].value = bad[i].settings[k + 1];
            else
                list[++n] = (pawl_setting){bad[i].settings[k], bad[i].settings[k + 1], 1};
        pawl_settings s = {.items = list, .count = n + 1};
        pawl_source_ops ops = PAWL_SOURCE_OPS_INIT;
        pawl_error e;
        if (pawl_source_make(bad[i].type, &s, &ops, &e) != PAWL_INVALID)
            fail_msg("%s: taken", bad[i].label);
    }
}

int main(void) {
    if (system("openssl version >/dev/null 2>&1") != 0) {
        printf("SKIPPED: the command openssl, which makes certificates, isn't there\n");
        return 77;
    }
    if (!tls_present()) {
        printf("SKIPPED: libpawl_connect was built without OpenSSL\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_acknowledged),
        cmocka_unit_test(much_at_once),
        cmocka_unit_test(a_cut_stream_is_said),
        cmocka_unit_test(handshakes_block_nobody),
        cmocka_unit_test(who_may_come),
        cmocka_unit_test(a_certificate_proves_a_name),
        cmocka_unit_test(certificates_change_under_connections),
        cmocka_unit_test(files_may_come_later),
        cmocka_unit_test(settings_are_checked),
    };
    return cmocka_run_group_tests(tests, make_certs, remove_certs);
}

#else

int main(void) {
    printf("SKIPPED: no OpenSSL to be the peer (libssl-dev)\n");
    return 77;
}

#endif
