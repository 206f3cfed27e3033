/* SPDX-License-Identifier: Apache-2.0
 *
 * Whose a sender's name is, and what strangers leave behind: names are of the peer that sent their
 * first line, or of whoever proves it; a greeting leaves nothing in the log; the senders of one
 * peer are limited; old ones are forgotten, and never taken for new ones; silent peers make room.
 */
#include "tests/support/source_help.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "connectors/net/tls.h"
#include "tests/support/skip.h"
#ifdef PAWL_TEST_OPENSSL
#include <openssl/evp.h>
#include <openssl/hmac.h>
#endif

/* Connects from 127.0.0.HOST, so that it is another peer. */
static int dial_from(struct feed *f, uint32_t host) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in me = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7F000000u + host)},
                       to = {.sin_family = AF_INET,
                             .sin_port = htons(feed_port(f)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(fd, (struct sockaddr *)&me, sizeof me), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    return fd;
}

static void say(int fd, const char *text) {
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* What the source has answered so far, and a "." at the end of the connection. Static. */
static const char *heard(struct feed *f, int fd) {
    static char text[4096];
    size_t n = 0;
    for (int i = 0; i < 3; i++) {
        feed_drive(f);
        ssize_t k = recv(fd, text + n, sizeof text - 2 - n, MSG_DONTWAIT);
        n += k > 0 ? (size_t)k : 0;
        if (k == 0 || (k < 0 && errno != EAGAIN)) {
            text[n++] = '.';
            break;
        }
    }
    text[n] = 0;
    return text;
}

/* One connection that says something, and what it hears. */
static const char *ask(struct feed *f, uint32_t host, const char *text) {
    int fd = dial_from(f, host);
    say(fd, text);
    const char *answer = heard(f, fd);
    close(fd);
    feed_drive(f);
    return answer;
}

static void expect(struct feed *f, uint32_t host, const char *text, const char *want) {
    const char *got = ask(f, host, text);
    if (strstr(got, want) == NULL)
        fail_msg("from 127.0.0.%u, \"%s\": \"%s\", not \"%s\"", host, text, got, want);
}

static struct feed *make(void) {
    struct feed *f = feed_new("socket");
    feed_set(f, "address", "127.0.0.1:0");
    return f;
}

static void start(struct feed *f) {
    feed_begin(f);
    feed_drive(f);
}

static void a_greeting_leaves_nothing_behind(void **state) {
    (void)state;
    struct feed *f = make();
    pawl_status before = PAWL_STATUS_INIT, after = PAWL_STATUS_INIT;
    feed_set(f, "senders", "8");
    start(f);
    assert_int_equal(pawl_get_status(f->log, &before), 0);
    for (int i = 0; i < 300; i++) {
        char text[40];
        snprintf(text, sizeof text, "PAWL1 g%d\n%s", i, i % 3 == 0 ? "5\n" : "");
        ask(f, 2, text);
    }
    assert_int_equal(pawl_get_status(f->log, &after), 0);
    assert_int_equal(feed_producers(f), 0);
    assert_true(before.commits == after.commits);
    expect(f, 1, "PAWL1 true\n1 a line\n", "OK 0\nACK 1\n");
    assert_int_equal(feed_producers(f), 1);
    feed_holds(f, "a line\n");
    feed_free(f);
}

static void a_name_is_of_the_peer_that_sent_its_first_line(void **state) {
    (void)state;
    struct feed *f = make();
    start(f);
    expect(f, 1, "PAWL1 x\n1 mine\n", "OK 0\nACK 1\n");
    expect(f, 2, "PAWL1 x\n", "ERR this name belongs to another peer\n.");
    assert_non_null(strstr(f->warning, "127.0.0.2:"));
    /* a thief greets first, and says nothing: the name is nobody's yet */
    int thief = dial_from(f, 2), other = dial_from(f, 1);
    say(thief, "PAWL1 y\n");
    assert_string_equal(heard(f, thief), "OK 0\n");
    say(other, "PAWL1 y\n1 mine too\n");
    assert_string_equal(heard(f, other), "OK 0\nACK 1\n");
    say(thief, "1 stolen\n");
    assert_string_equal(heard(f, thief), "ERR this name belongs to another peer\n.");
    say(other, "2 still mine\n");
    assert_string_equal(heard(f, other), "ACK 2\n"); /* the thief didn't end its connection */
    close(thief);
    close(other);
    feed_end(f);
    start(f);
    expect(f, 2, "PAWL1 x\n2 stolen\n", "ERR this name belongs to another peer\n.");
    expect(f, 1, "PAWL1 x\n2 mine\n", "OK 1\nACK 2\n");
    feed_holds(f, "mine\nmine too\nstill mine\nmine\n");
    feed_audit(f);
    feed_free(f);
    f = make();
    feed_set(f, "auth", "none");
    start(f);
    expect(f, 1, "PAWL1 x\n1 a\n", "OK 0\nACK 1\n");
    expect(f, 2, "PAWL1 x\n2 b\n", "OK 1\nACK 2\n");
    feed_holds(f, "a\nb\n");
    feed_free(f);
}

/* What an attacker at the sender's own address can do is seen by the sender: nothing that was never
 * here is acknowledged. */
static void numbers_do_not_jump(void **state) {
    (void)state;
    struct feed *f = make();
    start(f);
    expect(f, 1, "PAWL1 x\n18446744073709551615 the end\n",
           "ERR a sender's first number is at most");
    expect(f, 1, "PAWL1 x\n9223372036854775809 the end\n",
           "ERR a sender's first number is at most");
    expect(f, 1, "PAWL1 y\n9223372036854775808 far\n9223372036854775809 on\n",
           "ACK 9223372036854775809\n");
    expect(f, 1, "PAWL1 y\n1 mine\n",
           "OK 9223372036854775809\nERR number 1 was never here: this sender began at "
           "9223372036854775808; has another one used its name?\n.");
    expect(f, 1, "PAWL1 y\n9223372036854775808 far\n", "ACK 9223372036854775809\n");
    expect(f, 1, "PAWL1 z\n1 one\n3 three\n", "ERR expected number 2\n.");
    expect(f, 1, "PAWL1 z\n18446744073709551615 the end\n", "ERR expected number 2\n.");
    expect(f, 1, "PAWL1 z\n1 one\n2 two\n", "OK 1\nACK 1\nACK 2\n");
    feed_end(f);
    start(f);
    expect(f, 1, "PAWL1 y\n77 mine\n", "ERR number 77 was never here");
    feed_holds(f, "far\non\none\ntwo\n");
    feed_free(f);
}

static void senders_of_one_peer_are_limited(void **state) {
    (void)state;
    struct feed *f = make();
    feed_set(f, "senders", "4");
    feed_set(f, "senders_per_peer", "2");
    start(f);
    expect(f, 2, "PAWL1 a\n1 a\n", "ACK 1\n");
    expect(f, 2, "PAWL1 b\n1 b\n", "ACK 1\n");
    expect(f, 2, "PAWL1 c\n1 c\n", "ERR too many senders of one peer\n.");
    expect(f, 1, "PAWL1 c\n1 c\n", "ACK 1\n");
    feed_end(f);
    start(f);
    expect(f, 2, "PAWL1 d\n1 d\n", "ERR too many senders of one peer\n.");
    expect(f, 2, "PAWL1 b\n2 b\n", "ACK 2\n");
    expect(f, 3, "PAWL1 d\n1 d\n", "ACK 1\n");
    expect(f, 1, "PAWL1 e\n1 e\n", "ERR too many senders\n.");
    feed_holds(f, "a\nb\nc\nb\nd\n");
    feed_free(f);
}

/* The position that the log has for the sender c before its first line: the place is empty, and the
 * name that it had is forgotten. A crash here must not leave it with another one's number. */
static uint32_t empty_seen;

static void look_at_c(void *arg, const char *point) {
    struct feed *f = arg;
    pawl_producer_info p;
    uint8_t position[32];
    uint64_t number = 0;
    if (strcmp(point, "source-read") != 0 || f->log == NULL ||
        pawl_producer_find(f->log, "src.c", &p, NULL, position, sizeof position) != 32)
        return;
    memcpy(&number, position, sizeof number);
    assert_true(number == 0 || empty_seen != 0);
    empty_seen += number == 0;
}

/* Senders that the table has no room for take the places of old ones; what those send again is
 * never taken for new, also after restarts. */
static void old_senders_are_forgotten(void **state) {
    (void)state;
    struct feed *f = make();
    feed_set(f, "senders", "2");
    feed_set(f, "forget", "1s");
    f->config.hooks.on_point = look_at_c;
    f->config.hooks.on_point_arg = f;
    empty_seen = 0;
    start(f);
    expect(f, 1, "PAWL1 a\n1 a\n2 a\n", "ACK 2\n");
    expect(f, 1, "PAWL1 b\n1 b\n", "ACK 1\n");
    expect(f, 1, "PAWL1 c\n1 c\n", "ERR too many senders");
    const char *got;
    do
        got = ask(f, 1, "PAWL1 c\n1 c\n");
    while (strstr(got, "ERR too many senders") != NULL);
    assert_non_null(strstr(got, "OK 0\nACK 1\n"));
    assert_int_equal(feed_producers(f), 2);
    assert_int_equal(empty_seen, 1);
    assert_non_null(strstr(f->warning, "sender a was silent for longer than `forget`"));
    for (int i = 0; i < 2; i++) {
        expect(f, 1, "PAWL1 a\n1 a\n", "ERR this sender was forgotten: give it another name\n.");
        expect(f, 1, "PAWL1 a\n3 a\n", "ERR this sender was forgotten");
        expect(f, 1, i == 0 ? "PAWL1 c\n1 c\n2 c\n" : "PAWL1 c\n2 c\n3 c\n",
               i == 0 ? "OK 1\nACK 1\nACK 2\n" : "OK 2\nACK 2\nACK 3\n");
        feed_end(f);
        start(f);
    }
    assert_int_equal(feed_producers(f), 2);
    feed_holds(f, "a\na\nb\nc\nc\nc\n");
    feed_audit(f);
    feed_free(f);
}

/* Eight that greet and say nothing, from one address, lock nobody out. */
static void silent_peers_make_room(void **state) {
    (void)state;
    struct feed *f = make();
    int silent[40], busy;
    feed_set(f, "connections", "8");
    feed_set(f, "timeout", "1h");
    start(f);
    busy = dial_from(f, 3);
    say(busy, "PAWL1 busy\n1 one\n");
    assert_string_equal(heard(f, busy), "OK 0\nACK 1\n");
    for (int i = 0; i < 40; i++) {
        char text[20];
        silent[i] = dial_from(f, 2);
        snprintf(text, sizeof text, "PAWL1 s%d\n", i);
        say(silent[i], text);
        feed_drive(f);
    }
    expect(f, 1, "PAWL1 true\n1 here\n", "OK 0\nACK 1\n"); /* of another peer */
    expect(f, 2, "PAWL1 own\n1 there\n", "OK 0\nACK 1\n"); /* and of the same */
    say(busy, "2 two\n");
    assert_string_equal(heard(f, busy), "ACK 2\n");
    close(busy);
    for (int i = 0; i < 40; i++)
        close(silent[i]);
    feed_holds(f, "one\nhere\nthere\ntwo\n");
    feed_free(f);
}

/* A greeted peer that says nothing is let go; an empty line is something. */
static void an_empty_line_keeps_a_connection(void **state) {
    (void)state;
    struct feed *f = make();
    feed_set(f, "idle", "200ms");
    start(f);
    int quiet = dial_from(f, 1), alive = dial_from(f, 2);
    say(quiet, "PAWL1 quiet\n");
    say(alive, "PAWL1 alive\n1 one\n");
    assert_string_equal(heard(f, quiet), "OK 0\n");
    assert_string_equal(heard(f, alive), "OK 0\nACK 1\n");
    bool gone = false;
    for (int i = 0; i < 4000 && !gone; i++) {
        say(alive, "\n");
        assert_null(strstr(heard(f, alive), "ERR"));
        gone = strstr(heard(f, quiet), "ERR it said nothing for too long\n.") != NULL;
        usleep(1000);
    }
    assert_true(gone);
    say(alive, "2 two\n");
    assert_non_null(strstr(heard(f, alive), "ACK 2\n"));
    close(quiet);
    close(alive);
    feed_holds(f, "one\ntwo\n");
    feed_free(f);
}

/* ---- proofs */

#ifdef PAWL_TEST_OPENSSL
/* Greets, and answers the challenge with this secret. */
static const char *prove(struct feed *f, const char *name, const char *secret, const char *lines) {
    char text[400], hex[65];
    uint8_t mac[32];
    unsigned n;
    int fd = dial_from(f, 1);
    snprintf(text, sizeof text, "PAWL1 %s\n", name);
    say(fd, text);
    const char *challenge = heard(f, fd);
    assert_int_equal(strncmp(challenge, "CHALLENGE ", 10), 0);
    assert_int_equal(strlen(challenge), 75);
    snprintf(text, sizeof text, "PAWL1 %s %.64s", name, challenge + 10);
    assert_non_null(
        HMAC(EVP_sha256(), secret, (int)strlen(secret), (uint8_t *)text, strlen(text), mac, &n));
    for (unsigned i = 0; i < n; i++)
        snprintf(hex + 2 * i, 3, "%02x", mac[i]);
    snprintf(text, sizeof text, "PROOF %s\n%s", hex, lines);
    say(fd, text);
    const char *answer = heard(f, fd);
    close(fd);
    feed_drive(f);
    return answer;
}
#endif

static void a_secret_proves_a_name(void **state) {
    (void)state;
#ifdef PAWL_TEST_OPENSSL
    struct feed *f = make();
    char path[100];
    if (!tls_present())
        SKIP("a build without OpenSSL");
    snprintf(path, sizeof path, "%s/secrets", f->dir);
    put_file(path, "# senders\nx the secret of sender x\n\n* what all others have\n");
    feed_set(f, "auth", "secret");
    feed_set(f, "secrets", path);
    assert_int_equal(chmod(path, 0644), 0);
    feed_begin(f);
    assert_true(pawl_source_step(f->source) > 0); /* it waits */
    assert_non_null(strstr(feed_status(f).message, "every user can read it"));
    feed_end(f);
    assert_int_equal(chmod(path, 0620), 0); /* the rest of the rule for secrets' files */
    feed_begin(f);
    assert_true(pawl_source_step(f->source) > 0);
    assert_non_null(strstr(feed_status(f).message, "by other users: chmod o-rwx,g-w"));
    assert_int_equal(chmod(path, 0600), 0);
    feed_end(f);
    start(f);
    assert_non_null(strstr(prove(f, "x", "the secret of sender x", "1 one\n"), "OK 0\nACK 1\n"));
    assert_non_null(
        strstr(prove(f, "x", "what all others have", "2 no\n"), "ERR this is no proof"));
    assert_non_null(strstr(prove(f, "y", "what all others have", "1 y\n"), "OK 0\nACK 1\n"));
    assert_non_null(strstr(prove(f, "y", "the secret of sender x", ""), "ERR this is no proof"));
    expect(f, 1, "PAWL1 x\n2 without a proof\n", "ERR this is no proof");
    expect(f, 1, "PAWL1 x\nPROOF \n", "ERR this is no proof");
    int fd = dial_from(f, 9); /* a proof is good once, and for its challenge */
    say(fd, "PAWL1 x\nPROOF "
            "0000000000000000000000000000000000000000000000000000000000000000\n");
    assert_non_null(strstr(heard(f, fd), "ERR this is no proof"));
    close(fd);
    feed_holds(f, "one\ny\n");
    feed_end(f);
    put_file(path, "x short\n");
    feed_begin(f);
    assert_true(pawl_source_step(f->source) > 0);
    assert_non_null(strstr(feed_status(f).message, "a secret must have 16 to 256 bytes"));
    feed_free(f);
#else
    SKIP("no OpenSSL to be the peer (libssl-dev)");
#endif
}

/* ---- what can be known beforehand */

static void settings_that_can_not_be(void **state) {
    static const struct {
        const char *name[3], *value[3], *why;
    } cases[] = {
        {{"connections", "line_max"},
         {"1024", "4M"},
         "take 4294977536 bytes, and memory is 268435456"},
        {{"connections_per_peer"}, {"65"}, "connections_per_peer must be at most connections, 64"},
        {{"senders_per_peer"}, {"257"}, "senders_per_peer must be at most senders"},
        {{"auth"}, {"secret"}, "auth: secret needs secrets"},
        {{"secrets"}, {"/x"}, "secrets needs auth: secret"},
        {{"auth"}, {"certificate"}, "auth: certificate needs tls_client: require"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        pawl_source_ops ops = PAWL_SOURCE_OPS_INIT;
        pawl_error e = {0};
        pawl_setting set[4] = {{"address", "127.0.0.1:0", 1}};
        pawl_settings s = {.items = set, .count = 1};
        for (size_t k = 0; k < 3 && cases[i].name[k] != NULL; k++)
            set[s.count++] = (pawl_setting){cases[i].name[k], cases[i].value[k], 2};
        assert_int_equal(pawl_source_make("socket", &s, &ops, &e), PAWL_INVALID);
        if (strstr(e.message, cases[i].why) == NULL)
            fail_msg("%s: %s", cases[i].why, e.message);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_greeting_leaves_nothing_behind),
        cmocka_unit_test(a_name_is_of_the_peer_that_sent_its_first_line),
        cmocka_unit_test(numbers_do_not_jump),
        cmocka_unit_test(senders_of_one_peer_are_limited),
        cmocka_unit_test(old_senders_are_forgotten),
        cmocka_unit_test(silent_peers_make_room),
        cmocka_unit_test(an_empty_line_keeps_a_connection),
        cmocka_unit_test(a_secret_proves_a_name),
        cmocka_unit_test(settings_that_can_not_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
