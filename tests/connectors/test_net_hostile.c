/* SPDX-License-Identifier: Apache-2.0
 *
 * Sources that listen, with hostile peers beside a true one. A seed decides what they do, and a
 * seed that fails fails again: test_net_hostile SEED [LAST]. Peers and source run in one thread; a
 * turn is a step of the source.
 *
 *   floods of greetings, connections that say nothing, bytes one by one, names of others, numbers
 *   that jump, lines whose acknowledgements are never read, lines and counts that don't end,
 *   garbage, TLS where there is none and none where there is TLS, resets, more connections than
 *   there may be, datagrams
 *
 * Whatever they do: each line of the true sender comes once and in order, and within TURNS turns;
 * the source goes on; connections, senders and what the log keeps stay within their limits.
 */
#include "tests/support/source_help.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "connectors/net/tls.h"
#include "tests/sim/rng.h"
#include "tests/support/skip.h"
#ifdef PAWL_TEST_OPENSSL
#include <openssl/err.h>
#include <openssl/ssl.h>
#endif

#define TICKS 600
#define TURNS 60 /* within which a line of the true sender is in the log */
#define HOSTILE_MAX 120
#define CONNECTIONS 16
#define SENDERS 24

enum mode { NUMBERED, SECURE, PLAIN, SYSLOG, MODES };
static const char *const mode_names[] = {"numbered", "numbered, TLS", "plain", "syslog"};

static struct rng generator;
static struct feed *feed;
static enum mode mode;
static uint64_t seed, turns;
static struct cert cert;

static uint32_t rng(uint32_t below) {
    return rng_below(&generator, below);
}

static bool numbered(void) {
    return mode == NUMBERED || mode == SECURE;
}

static void turn(void) {
    turns++;
    if (pawl_source_step(feed->source) < 0)
        fail_msg("seed %llu, %s: the source has ended: %s", (unsigned long long)seed,
                 mode_names[mode], feed_status(feed).message);
}

/* A connection from 127.0.0.HOST; -1: the backlog is full. */
static int dial_from(uint32_t host) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in me = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7F000000u + host)},
                       to = {.sin_family = AF_INET,
                             .sin_port = htons(feed_port(feed)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    assert_int_equal(bind(fd, (struct sockaddr *)&me, sizeof me), 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    return fd;
}

/* ---- the hostile */

struct hostile {
    int fd; /* -1: not connected */
    int kind;
    uint32_t host;
    uint64_t number;
    char name[24];
};

enum { SILENT, GREETS, SLOW, THIEF, JUMPS, DEAF, ENDLESS, GARBAGE, HANDSHAKE, KINDS };

static struct hostile hostile[HOSTILE_MAX];

static uint64_t true_sent(void);

/* Sends what goes; nobody reads the answers. */
static void send_to(struct hostile *h, const char *bytes, size_t n) {
    if (send(h->fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN) {
        close(h->fd);
        h->fd = -1;
    }
}

static void leave(struct hostile *h) {
    if (rng(2) == 0)
        setsockopt(h->fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    close(h->fd);
    h->fd = -1;
}

static void come(struct hostile *h) {
    char text[80];
    /* without numbers one peer only: then the true one always finds a place at once */
    h->host = numbered() ? 1 + rng(6) : 2;
    h->kind = (int)rng(KINDS);
    h->number = 1;
    h->fd = dial_from(h->host);
    if (h->fd < 0)
        return;
    snprintf(h->name, sizeof h->name, "h%u-%u", h->host, h->kind == DEAF ? rng(2) : rng(100000));
    if (h->kind == THIEF) {
        snprintf(h->name, sizeof h->name, "true");
        h->host = h->host == 1 ? 2 : h->host;
        close(h->fd);
        h->fd = dial_from(h->host);
    }
    if (h->fd >= 0 && (h->kind == GREETS || h->kind >= THIEF) && h->kind <= DEAF) {
        int n = snprintf(text, sizeof text, "PAWL1 %s\n", h->name);
        send_to(h, text, (size_t)n);
    }
}

static void act(struct hostile *h) {
    static const char *const numbers[] = {"18446744073709551615", "9223372036854775808", "1", "2",
                                          "18446744073709551616"};
    char text[4000];
    size_t n = 0;
    switch (h->kind) {
    case SLOW:
        text[n++] = "PAWL1 <13> 12 \x16"[rng(15)];
        break;
    case THIEF:
    case JUMPS:
        /* a thief who has listened knows which number comes next */
        if (h->kind == THIEF && rng(3) != 0)
            n = (size_t)snprintf(text, sizeof text, "%llu stolen\n",
                                 (unsigned long long)true_sent() + rng(3));
        else
            n = (size_t)snprintf(text, sizeof text, "%s stolen\n", numbers[rng(5)]);
        break;
    case DEAF:
        n = (size_t)snprintf(text, sizeof text, "%llu hostile\n", (unsigned long long)h->number++);
        break;
    case ENDLESS:
        n = rng(2) == 0 ? (size_t)snprintf(text, sizeof text, "16777216 <") : 0;
        memset(text + n, 'x', sizeof text - n);
        n = sizeof text;
        break;
    case GARBAGE:
        for (n = 0; n < 1 + rng(400); n++)
            text[n] = (char)rng(256);
        break;
    case HANDSHAKE:
        memcpy(text, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
        n = 11 + rng(300);
        for (size_t i = 11; i < n; i++)
            text[i] = (char)rng(256);
        break;
    default:
        break;
    }
    if (n != 0)
        send_to(h, text, n);
}

static void datagrams(void) {
    char text[3000];
    int fd = dial_port(feed_port(feed), SOCK_DGRAM);
    for (uint32_t i = rng(40); i > 0; i--) {
        size_t n = rng(sizeof text);
        memset(text, (int)rng(256), n);
        (void)!send(fd, text, n, MSG_DONTWAIT);
    }
    close(fd);
}

static void hostile_tick(void) {
    for (uint32_t i = 1 + rng(6); i > 0; i--) {
        struct hostile *h = &hostile[rng(HOSTILE_MAX)];
        if (h->fd < 0)
            come(h);
        else if (rng(80) == 0)
            leave(h);
        else
            act(h);
    }
    if (mode == SYSLOG && rng(4) == 0)
        datagrams();
}

/* ---- the true sender */

static struct {
    int fd;
#ifdef PAWL_TEST_OPENSSL
    SSL_CTX *context;
    SSL *ssl;
#endif
    uint64_t sent, acked;
    char answers[512];
    size_t answers_len;
    uint32_t came; /* connections */
} me;

static uint64_t true_sent(void) {
    return me.sent;
}

static void part(void) {
#ifdef PAWL_TEST_OPENSSL
    if (me.ssl != NULL)
        SSL_free(me.ssl);
    me.ssl = NULL;
#endif
    if (me.fd >= 0)
        close(me.fd);
    me.fd = -1;
    me.answers_len = 0;
}

/* Bytes moved; 0: none now; -1: the connection has ended. */
static ssize_t move(void *in, const void *out, size_t n) {
#ifdef PAWL_TEST_OPENSSL
    if (me.ssl != NULL) {
        ERR_clear_error();
        int k = in != NULL ? SSL_read(me.ssl, in, (int)n) : SSL_write(me.ssl, out, (int)n);
        int error = SSL_get_error(me.ssl, k);
        return k > 0 ? k : error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
    }
#endif
    ssize_t k = in != NULL ? recv(me.fd, in, n, MSG_DONTWAIT)
                           : send(me.fd, out, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    return k > 0                                                                     ? k
           : k < 0 && (errno == EAGAIN || errno == EINPROGRESS || errno == ENOTCONN) ? 0
                                                                                     : -1;
}

static bool shaken(void) {
#ifdef PAWL_TEST_OPENSSL
    if (mode != SECURE)
        return true;
    if (me.ssl == NULL) {
        me.ssl = SSL_new(me.context);
        SSL_set_fd(me.ssl, me.fd);
        SSL_set_connect_state(me.ssl);
    }
    ERR_clear_error();
    int rc = SSL_do_handshake(me.ssl);
    int error = SSL_get_error(me.ssl, rc);
    if (rc != 1 && error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
        part();
    return rc == 1;
#else
    return true;
#endif
}

static void hear(void) {
    ssize_t n;
    char *newline;
    while (me.fd >= 0 && (n = move(me.answers + me.answers_len, NULL,
                                   sizeof me.answers - 1 - me.answers_len)) != 0) {
        if (n < 0) {
            part();
            return;
        }
        me.answers_len += (size_t)n;
        me.answers[me.answers_len] = 0;
        while ((newline = strchr(me.answers, '\n')) != NULL) {
            unsigned long long k;
            if (sscanf(me.answers, "OK %llu", &k) == 1 || sscanf(me.answers, "ACK %llu", &k) == 1) {
                if (k > me.sent)
                    fail_msg("seed %llu: %llu is acknowledged, and %llu were sent",
                             (unsigned long long)seed, k, (unsigned long long)me.sent);
                me.acked = k > me.acked ? k : me.acked;
            } else if (strncmp(me.answers, "ERR silent", 10) != 0 &&
                       strncmp(me.answers, "ERR too many connections", 24) != 0)
                fail_msg("seed %llu: the true sender hears: %s", (unsigned long long)seed,
                         me.answers);
            me.answers_len -= (size_t)(newline + 1 - me.answers);
            memmove(me.answers, newline + 1, me.answers_len + 1);
        }
    }
}

static size_t text_of(uint64_t n, char text[300]) {
    int len = snprintf(text, 300, "true:%llu:", (unsigned long long)n);
    for (uint64_t i = 0; i < n * 37 % 150; i++)
        text[len++] = 'a';
    text[len] = 0;
    return (size_t)len;
}

/* What goes over a connection at once: the greeting, and all that is not acknowledged. */
static size_t all_open(char *out) {
    size_t len = (size_t)sprintf(out, "PAWL1 true\n");
    char text[300];
    for (uint64_t n = me.acked + 1; n <= me.sent; n++) {
        text_of(n, text);
        len += (size_t)sprintf(out + len, "%llu %s\n", (unsigned long long)n, text);
    }
    return len;
}

static void dial_true(void) {
    part();
    me.fd = dial_from(1);
    me.came++;
}

/* Numbered: until all that was sent is acknowledged, over as many connections as it takes. */
static void send_numbered(void) {
    char out[8192], text[300];
    uint64_t from = turns;
    bool said = me.fd >= 0;
    me.sent++;
    if (said) {
        text_of(me.sent, text);
        size_t n = (size_t)sprintf(out, "%llu %s\n", (unsigned long long)me.sent, text);
        if (move(NULL, out, n) != (ssize_t)n)
            part(); /* it sends again all that is not acknowledged */
    }
    while (me.acked < me.sent) {
        if (turns - from > TURNS)
            fail_msg("seed %llu, %s: a line of the true sender waits for %d turns; %u connections",
                     (unsigned long long)seed, mode_names[mode], TURNS, me.came);
        if (me.fd < 0) {
            dial_true();
            said = false;
        }
        if (me.fd >= 0 && !said && shaken()) {
            size_t n = all_open(out);
            ssize_t k = move(NULL, out, n);
            said = k == (ssize_t)n;
            if (k < 0 || (k > 0 && !said))
                part();
        }
        turn();
        hear();
        if (rng(3) == 0)
            hostile_tick();
    }
}

static uint64_t records(void) {
    pawl_bounds b;
    assert_int_equal(pawl_partition_bounds(feed->log, feed->to, 0, &b), 0);
    return b.end;
}

/* Is message `n` the last of the true ones in the log? */
static uint64_t last_true(void) {
    static uint64_t seen, last;
    pawl_reader *r;
    pawl_batch b;
    if (me.sent <= 1)
        seen = last = 0;
    if (records() == seen)
        return last;
    assert_int_equal(pawl_reader_open(feed->log, feed->to, 0, seen, PAWL_READ_UNCOMMITTED, &r), 0);
    while (pawl_read(r, 0, 0, &b) > 0)
        for (size_t i = 0; i < b.count; i++) {
            const char *at = memmem(b.records[i].value, b.records[i].value_len, "true:", 5);
            seen = b.records[i].offset + 1;
            if (at != NULL)
                last = strtoull(at + 5, NULL, 10);
        }
    pawl_reader_close(r);
    return last;
}

/* Without numbers: the message is in the log before the next one is sent. */
static void send_plain(void) {
    char text[300], out[400];
    uint64_t from = turns;
    if (me.fd < 0)
        dial_true();
    assert_true(me.fd >= 0);
    me.sent++;
    size_t n = text_of(me.sent, text);
    if (mode == PLAIN)
        n = (size_t)sprintf(out, "%s\n", text);
    else
        n = (size_t)sprintf(out, "%zu <13>%s", n + 4, text);
    for (size_t at = 0; at < n;) {
        ssize_t k = move(NULL, out + at, n - at);
        if (k < 0)
            fail_msg("seed %llu, %s: the true sender's connection was ended",
                     (unsigned long long)seed, mode_names[mode]);
        at += (size_t)k;
        if (k == 0)
            turn();
    }
    while (last_true() != me.sent) {
        if (turns - from > TURNS)
            fail_msg("seed %llu, %s: message %llu of the true sender waits for %d turns",
                     (unsigned long long)seed, mode_names[mode], (unsigned long long)me.sent,
                     TURNS);
        turn();
        if (rng(3) == 0)
            hostile_tick();
    }
}

/* ---- a run */

static void count_true(void) {
    uint64_t next = 1;
    pawl_reader *r;
    pawl_batch b;
    char want[300];
    assert_int_equal(pawl_sync(feed->log), 0);
    assert_int_equal(pawl_reader_open(feed->log, feed->to, 0, 0, 0, &r), 0);
    while (pawl_read(r, 0, 0, &b) > 0)
        for (size_t i = 0; i < b.count; i++) {
            const char *at = b.records[i].value;
            size_t n = b.records[i].value_len, skip = mode == SYSLOG ? 4 : 0;
            if (n < skip + 5 || memcmp(at + skip, "true:", 5) != 0)
                continue;
            size_t len = text_of(next++, want);
            if (n != skip + len || memcmp(at + skip, want, len) != 0)
                fail_msg("seed %llu, %s: \"%.*s\" is there, and not \"%s\"",
                         (unsigned long long)seed, mode_names[mode], (int)(n - skip), at + skip,
                         want);
        }
    pawl_reader_close(r);
    if (next != me.sent + 1)
        fail_msg("seed %llu, %s: %llu of %llu true lines are there", (unsigned long long)seed,
                 mode_names[mode], (unsigned long long)next - 1, (unsigned long long)me.sent);
}

static void within_limits(void) {
    pawl_flow_status s = feed_status(feed);
    const char *at = strstr(s.target, " connected");
    while (at != NULL && at > s.target && at[-1] >= '0' && at[-1] <= '9')
        at--;
    if (at != NULL && strtoul(at, NULL, 10) > CONNECTIONS)
        fail_msg("seed %llu: %s", (unsigned long long)seed, s.target);
    assert_true(feed_producers(feed) <= SENDERS);
    assert_true(feed->warnings < 200); /* said, and not for each of them */
}

static void set_up(void) {
    char number[16];
    feed = feed_new(mode == SYSLOG ? "syslog" : "socket");
    feed_set(feed, "address", "127.0.0.1:0");
    feed_set(feed, "line_max", mode == SYSLOG ? "480" : "300");
    snprintf(number, sizeof number, "%d", CONNECTIONS);
    feed_set(feed, "connections", number);
    feed_set(feed, "timeout", "1h");
    if (mode == SYSLOG)
        feed_set(feed, "format", "raw");
    if (mode == PLAIN)
        feed_set(feed, "protocol", "plain");
    if (numbered()) {
        snprintf(number, sizeof number, "%d", SENDERS);
        feed_set(feed, "senders", number);
        feed_set(feed, "senders_per_peer", "2");
    }
    if (mode == SECURE)
        feed_set(feed, "tls_cert", cert.file);
    feed->config.batch_records = 1 + rng(50);
    feed_begin(feed);
    feed_drive(feed);
}

static void run_seed(void) {
    generator.state = seed * MODES + mode;
    turns = 0;
    set_up();
    me.fd = -1;
    me.sent = me.acked = me.answers_len = 0;
    me.came = 0;
    for (size_t i = 0; i < HOSTILE_MAX; i++)
        hostile[i].fd = -1;
    if (numbered())
        send_numbered(); /* the name is its own from the first line on */
    for (int t = 0; t < TICKS; t++) {
        hostile_tick();
        if (rng(3) == 0)
            turn();
        if (rng(4) == 0) {
            if (numbered())
                send_numbered();
            else
                send_plain();
        }
        if (rng(12) == 0)
            part(); /* and comes again */
        if (rng(20) == 0)
            within_limits();
    }
    part();
    for (size_t i = 0; i < HOSTILE_MAX; i++)
        if (hostile[i].fd >= 0)
            leave(&hostile[i]);
    feed_drive(feed);
    within_limits();
    count_true();
    feed_audit(feed);
    feed_free(feed);
}

static uint64_t seed_from = 1, seed_to = 6;

static void run_mode(enum mode m) {
    mode = m;
    for (seed = seed_from; seed <= seed_to; seed++)
        run_seed();
}

static void beside_numbered_lines(void **state) {
    (void)state;
    run_mode(NUMBERED);
}

static void beside_plain_lines(void **state) {
    (void)state;
    run_mode(PLAIN);
}

static void beside_syslog(void **state) {
    (void)state;
    run_mode(SYSLOG);
}

static void beside_tls(void **state) {
    (void)state;
#ifdef PAWL_TEST_OPENSSL
    if (!tls_present() || system("openssl version >/dev/null 2>&1") != 0)
        SKIP("TLS: a build without it, or no command openssl");
    cert_make(&cert);
    me.context = SSL_CTX_new(TLS_client_method());
    run_mode(SECURE);
    SSL_CTX_free(me.context);
    cert_remove(&cert);
#else
    SKIP("TLS: no OpenSSL to be the peer (libssl-dev)");
#endif
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(beside_numbered_lines),
        cmocka_unit_test(beside_plain_lines),
        cmocka_unit_test(beside_syslog),
        cmocka_unit_test(beside_tls),
    };
    if (argc > 1)
        seed_from = seed_to = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        seed_to = strtoull(argv[2], NULL, 10);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
