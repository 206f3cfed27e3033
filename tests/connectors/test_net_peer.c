/* SPDX-License-Identifier: Apache-2.0
 *
 * Sources that listen, against peers that a seed decides: bytes are split and merged anywhere,
 * connections are cut in order or broken, lines are sent again, acknowledgements of the log come
 * late. Peers and source run in one thread, so a delay is a number of the source's steps, and a
 * seed that fails fails again: test_net_peer SEED. At the end each message is counted.
 *
 *   numbered           each line once and in order, whatever was cut; no acknowledgement of what
 *                      isn't durable
 *   plain, LF, octets  of a connection closed in order each message once, in order; of a broken one
 *                      a beginning of them; what is too long or cut costs itself alone
 */
#include "tests/support/source_help.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include "connectors/net/tls.h"
#include "tests/sim/rng.h"
#include "tests/support/skip.h"
#ifdef PAWL_TEST_OPENSSL
#include <openssl/err.h>
#include <openssl/ssl.h>
#endif

#define PEERS 3
#define TICKS 400
#define TOTAL 60 /* numbered: lines of each sender */
#define HELD_MAX 4096
#define LINKS_MAX 512 /* plain: connections of a run */

enum mode { NUMBERED, PLAIN, LINES, OCTETS, MODES };
static const char *const mode_names[] = {"numbered", "plain", "lines", "octets"};

static struct rng generator;

static uint64_t rng(uint64_t below) {
    return rng_next(&generator) % below;
}

/* ---- the log's acknowledgements, held back: as if the disk were slow */

static struct {
    pawl_source_ops ops;
    struct {
        char item[64];
        uint8_t position[PAWL_SOURCE_POSITION_MAX];
        size_t len;
    } held[HELD_MAX];
    size_t from, to;
    uint64_t durable[PEERS]; /* numbered: that the source has been told of */
} disk;

static void held_ack(void *self, const char *item, const void *position, size_t len) {
    (void)self;
    assert_true(disk.to < HELD_MAX);
    snprintf(disk.held[disk.to].item, sizeof disk.held[0].item, "%s", item);
    memcpy(disk.held[disk.to].position, position, len);
    disk.held[disk.to++].len = len;
}

static void release(size_t count) {
    for (; count > 0 && disk.from < disk.to; count--, disk.from++) {
        const char *item = disk.held[disk.from].item;
        uint64_t n = 0;
        memcpy(&n, disk.held[disk.from].position, sizeof n);
        if (item[0] == 's')
            disk.durable[item[1] - '0'] = n;
        disk.ops.ack(disk.ops.self, item, disk.held[disk.from].position, disk.held[disk.from].len);
    }
}

static void slow_disk(struct feed *f, pawl_source_ops *ops) {
    (void)f;
    disk.ops = *ops;
    disk.from = disk.to = 0;
    memset(disk.durable, 0, sizeof disk.durable);
    if (ops->ack != NULL)
        ops->ack = held_ack;
}

/* ---- peers */

struct peer {
    int index, fd; /* -1: not connected */
#ifdef PAWL_TEST_OPENSSL
    SSL *ssl;
#endif
    char *out; /* bytes to send, [at, len) */
    size_t at, len;
    char answers[256];
    size_t answers_len;
    uint64_t acked, sent; /* numbered: the last number that is acknowledged, and in `out` */
    int link;             /* plain: number of the connection */
    size_t ends[64];      /* plain: where each message ends in `out` */
    size_t messages;
};

/* plain: what was sent over each connection */
static struct {
    size_t whole; /* messages sent whole */
    bool orderly;
} links[LINKS_MAX];
static int link_count;
static size_t parts, parts_dead; /* parts of messages, that became records and dead letters */

static struct feed *feed;
static enum mode mode;
static bool tls;
static struct cert cert;
static uint64_t seed;

static void steps(uint64_t n) {
    for (; n > 0; n--)
        assert_true(pawl_source_step(feed->source) >= 0);
}

static bool is_long(uint64_t who, uint64_t n) {
    return (n * 7 + who) % 11 == 0;
}

/* The text of message n of `who`; its length and bytes follow from both. */
static size_t text_of(uint64_t who, uint64_t n, char out[2000]) {
    size_t len = (size_t)sprintf(out, "%llu:%llu:", (unsigned long long)who, (unsigned long long)n),
           fill = is_long(who, n) ? 500 + (n * 37) % 900 : (n * n + who) % 120;
    for (size_t i = 0; i < fill; i++)
        out[len++] = (char)("ab 5<9c"[(i + n) % 7]);
    out[len++] = '#';
    out[len] = 0;
    return len;
}

static void add(struct peer *p, const char *bytes, size_t n) {
    p->out = realloc(p->out, p->len + n);
    assert_non_null(p->out);
    memcpy(p->out + p->len, bytes, n);
    p->len += n;
}

static void add_line(struct peer *p, uint64_t n) {
    char text[2000], line[2100];
    text_of((uint64_t)p->index, n, text);
    add(p, line, (size_t)sprintf(line, "%llu %s\n", (unsigned long long)n, text));
}

static void add_message(struct peer *p) {
    char text[2000], line[2100];
    if (p->messages == 64)
        return;
    size_t n = text_of((uint64_t)p->link, p->messages, text), len;
    bool counted = mode == OCTETS && rng(4) != 0; /* now and then a line among the counted ones */
    if (mode == PLAIN)
        len = (size_t)sprintf(line, "%s\n", text);
    else if (counted)
        len = (size_t)sprintf(line, "%zu <13>%s", n + 4, text);
    else
        len = (size_t)sprintf(line, "<13>%s%s", text, rng(3) == 0 ? "\r\n" : "\n");
    add(p, line, len);
    p->ends[p->messages++] = p->len;
}

#ifdef PAWL_TEST_OPENSSL
static SSL_CTX *client;

static void shake(struct peer *p) {
    p->ssl = SSL_new(client);
    SSL_set_fd(p->ssl, p->fd);
    for (int i = 0; i < 10000; i++) {
        ERR_clear_error();
        struct pollfd readable = {p->fd, POLLIN, 0};
        int rc = 0;
        if (i == 0 || poll(&readable, 1, 0) > 0)
            rc = SSL_connect(p->ssl);
        if (rc == 1)
            return;
        steps(1);
    }
    fail_msg("seed %llu: no TLS", (unsigned long long)seed);
}
#endif

static void dial(struct peer *p) {
    p->fd = dial_port(feed_port(feed), SOCK_STREAM);
    setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    p->at = p->len = p->answers_len = p->messages = 0;
    p->link = link_count;
    assert_true(link_count < LINKS_MAX);
    links[link_count++].orderly = false;
#ifdef PAWL_TEST_OPENSSL
    if (tls) {
        fcntl(p->fd, F_SETFL, O_NONBLOCK);
        shake(p);
    }
#endif
    if (mode == NUMBERED) {
        char hello[32];
        add(p, hello, (size_t)sprintf(hello, "PAWL1 s%d\n", p->index));
        /* from what is acknowledged, or from further back */
        uint64_t back = rng(3) == 0 ? rng(5) : 0;
        p->sent = p->acked > back ? p->acked - back : 0;
    }
}

static size_t put(struct peer *p, const char *bytes, size_t n) {
#ifdef PAWL_TEST_OPENSSL
    if (tls) {
        ERR_clear_error();
        int k = SSL_write(p->ssl, bytes, (int)n);
        return k > 0 ? (size_t)k : 0;
    }
#endif
    ssize_t k = send(p->fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    return k > 0 ? (size_t)k : 0;
}

static void send_some(struct peer *p, size_t most) {
    size_t n = p->len - p->at < most ? p->len - p->at : most;
    if (n != 0)
        p->at += put(p, p->out + p->at, n);
}

static size_t message_max(void) {
    return mode >= LINES ? 480 : 300;
}

/* What must become of the bytes [begin, at) of message `n` of a connection that is closed in order:
 * a part, a dead letter, or the whole message after all, as only its end mark is missing. */
static void expect_part(const struct peer *p, size_t begin, size_t n, bool notify) {
    const char *from = p->out + begin;
    size_t sent = p->at - begin, prefix = 0, max = message_max();
    bool counted = mode == OCTETS && *from != '<';
    if (counted)
        prefix = strcspn(from, " ") + 1;
    if (counted && sent > prefix) {
        parts_dead += sent - prefix < max || !is_long((uint64_t)p->link, n);
        return;
    }
    if (sent > max)
        return; /* too long already */
    if (tls && !notify)
        parts_dead++;
    else if (!counted && memchr(from, '#', sent) != NULL)
        links[p->link].whole++;
    else
        parts++;
}

/* Ends the connection: in order, or broken. */
static void cut(struct peer *p, bool orderly, bool notify) {
    size_t whole = 0;
    while (whole < p->messages && p->ends[whole] <= p->at)
        whole++;
    size_t begin = whole == 0 ? 0 : p->ends[whole - 1];
    links[p->link].whole = whole;
    links[p->link].orderly = orderly;
    if (mode != NUMBERED && orderly && p->at > begin)
        expect_part(p, begin, whole, notify);
#ifdef PAWL_TEST_OPENSSL
    if (tls) {
        ERR_clear_error();
        if (notify && orderly)
            SSL_shutdown(p->ssl);
        SSL_free(p->ssl);
        p->ssl = NULL;
    }
#endif
    if (!orderly)
        setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    close(p->fd);
    p->fd = -1;
}

/* One line that the source has answered. */
static void hear(struct peer *p, const char *line) {
    unsigned long long n;
    if (sscanf(line, "OK %llu", &n) != 1 && sscanf(line, "ACK %llu", &n) != 1)
        fail_msg("seed %llu: the answer \"%s\"", (unsigned long long)seed, line);
    if (n > disk.durable[p->index])
        fail_msg("seed %llu: %s to %d, but only %llu is durable", (unsigned long long)seed, line,
                 p->index, (unsigned long long)disk.durable[p->index]);
    p->acked = n > p->acked ? n : p->acked;
}

static void listen_to(struct peer *p) {
    ssize_t n = 0;
    size_t room = sizeof p->answers - p->answers_len;
    if (p->fd < 0 || mode != NUMBERED)
        return;
#ifdef PAWL_TEST_OPENSSL
    if (tls) {
        ERR_clear_error();
        n = SSL_read(p->ssl, p->answers + p->answers_len, (int)room);
    } else
#endif
        n = recv(p->fd, p->answers + p->answers_len, room, MSG_DONTWAIT);
    p->answers_len += n > 0 ? (size_t)n : 0;
    char *newline;
    while ((newline = memchr(p->answers, '\n', p->answers_len)) != NULL) {
        *newline++ = 0;
        hear(p, p->answers);
        p->answers_len -= (size_t)(newline - p->answers);
        memmove(p->answers, newline, p->answers_len);
    }
}

static void more(struct peer *p) {
    if (mode != NUMBERED) {
        add_message(p);
        return;
    }
    if (p->sent < TOTAL)
        add_line(p, ++p->sent);
    if (p->sent > 2 && rng(8) == 0) /* a line again, on the same connection */
        add_line(p, p->sent - rng(2));
}

static void tick(struct peer *p) {
    uint64_t what = rng(100);
    if (p->fd < 0) {
        if (what < 60)
            dial(p);
        return;
    }
    if (what < 45)
        send_some(p, 1 + rng(rng(2) == 0 ? 8 : 700));
    else if (what < 70)
        for (uint64_t i = rng(4); i < 4; i++)
            more(p);
    else if (what < 84)
        listen_to(p);
    else if (what < 87)
        cut(p, seed % 2 == 1 || rng(2) == 0, rng(2) == 0); /* odd seeds break nothing */
}

/* ---- counting */

static void at_the_end(struct peer *peers) {
    if (mode != NUMBERED) {
        for (int i = 0; i < PEERS; i++)
            if (peers[i].fd >= 0) {
                while (peers[i].at < peers[i].len) {
                    send_some(&peers[i], SIZE_MAX);
                    steps(1);
                }
                cut(&peers[i], true, true);
            }
        feed_drive(feed);
        return;
    }
    for (int round = 0; round < 2000; round++) {
        bool all = true;
        for (int i = 0; i < PEERS; i++) {
            struct peer *p = &peers[i];
            all &= p->acked == TOTAL;
            if (p->fd < 0)
                dial(p);
            while (p->sent < TOTAL)
                add_line(p, ++p->sent);
            send_some(p, SIZE_MAX);
            steps(2);
            release(HELD_MAX);
            listen_to(p);
        }
        if (all)
            return;
    }
    fail_msg("seed %llu: not all is acknowledged in the end", (unsigned long long)seed);
}

/* Every record of the stream, in order of each `who`: the next of its messages that isn't too long.
 * Returns the number of those that are parts. */
static size_t count_stream(size_t next[LINKS_MAX]) {
    size_t size, other = 0;
    char *got = feed_text(feed, feed->to, &size), *rest = got, *line, text[2000];
    while ((line = strsep(&rest, "\n")) != NULL && rest != NULL) {
        unsigned long long who, n;
        line += mode >= LINES && strncmp(line, "<13>", 4) == 0 ? 4 : 0;
        line[strcspn(line, "\r")] = 0;
        size_t len = strlen(line);
        if (sscanf(line, "%llu:%llu:", &who, &n) != 2 || line[len - 1] != '#') {
            other++;
            continue;
        }
        assert_true(who < LINKS_MAX);
        text_of(who, n, text);
        while (is_long(who, next[who]))
            next[who]++;
        if (strcmp(text, line) != 0 || n != next[who])
            fail_msg("seed %llu, %s: of %llu came \"%s\", not message %zu",
                     (unsigned long long)seed, mode_names[mode], who, line, next[who]);
        next[who]++;
    }
    free(got);
    return other;
}

static size_t lines_of(uint32_t stream) {
    size_t size, lines = 0;
    char *got = feed_text(feed, stream, &size);
    for (size_t i = 0; i < size; i++)
        lines += got[i] == '\n';
    free(got);
    return lines;
}

static void count_all(void) {
    static size_t next[LINKS_MAX];
    size_t too_long = 0;
    bool broken = false;
    for (size_t i = 0; i < LINKS_MAX; i++)
        next[i] = mode == NUMBERED ? 1 : 0;
    size_t other = count_stream(next);
    size_t count = mode == NUMBERED ? PEERS : (size_t)link_count;
    for (size_t i = 0; i < count; i++) {
        size_t want = mode == NUMBERED ? TOTAL + 1 : links[i].whole;
        bool whole = mode == NUMBERED || links[i].orderly;
        broken |= !whole;
        for (size_t n = mode == NUMBERED ? 1 : 0; n < want; n++)
            too_long += is_long(i, n);
        while (next[i] < want && is_long(i, next[i]))
            next[i]++;
        if (whole ? next[i] != want : next[i] > want + 1)
            fail_msg("seed %llu, %s: of %zu came %zu messages, not %zu", (unsigned long long)seed,
                     mode_names[mode], i, next[i], want);
    }
    size_t dead = lines_of(feed->dead);
    if (!broken && mode != NUMBERED && (other != parts || dead < too_long + parts_dead))
        fail_msg("seed %llu, %s: %zu parts, not %zu; %zu dead letters, at least %zu",
                 (unsigned long long)seed, mode_names[mode], other, parts, dead, too_long);
    if (mode == NUMBERED)
        assert_int_equal(dead, too_long);
    assert_int_equal(feed_status(feed).poisoned, dead);
    assert_true(dead == 0 || feed->warnings != 0); /* it is said */
}

static void run_seed(void) {
    struct peer peers[PEERS] = {0};
    generator.state = seed;
    link_count = 0;
    parts = parts_dead = 0;
    feed = feed_new(mode == NUMBERED || mode == PLAIN ? "socket" : "syslog");
    feed_set(feed, "address", "127.0.0.1:0");
    char max[8];
    snprintf(max, sizeof max, "%zu", message_max());
    feed_set(feed, "line_max", max);
    feed_set(feed, "timeout", "1h");
    if (mode <= PLAIN)
        feed_set(feed, "protocol", mode_names[mode]);
    else {
        feed_set(feed, "format", "raw");
        feed_set(feed, "transport", "tcp");
    }
    if (tls)
        feed_set(feed, "tls_cert", cert.file);
    feed->config.on_poison = PAWL_ON_ERROR_DEAD_LETTER;
    feed->config.batch_records = 1 + (uint32_t)rng(20);
    feed->wrap = slow_disk;
    feed_begin(feed);
    feed_drive(feed);
    for (int i = 0; i < PEERS; i++) {
        peers[i].index = i;
        peers[i].fd = -1;
    }
    for (int t = 0; t < TICKS; t++) {
        tick(&peers[rng(PEERS)]);
        if (rng(3) == 0)
            steps(1 + rng(3));
        if (rng(6) == 0)
            release(rng(4));
    }
    at_the_end(peers);
    count_all();
    for (int i = 0; i < PEERS; i++) {
        if (peers[i].fd >= 0)
            cut(&peers[i], true, true);
        free(peers[i].out);
    }
    feed_audit(feed);
    feed_free(feed);
}

static uint64_t seed_from = 1, seed_to = 12;

static void run_mode(enum mode m, bool secure) {
    mode = m;
    tls = secure;
    for (seed = seed_from; seed <= seed_to; seed++)
        run_seed();
}

static void numbered(void **state) {
    (void)state;
    run_mode(NUMBERED, false);
}

static void plain(void **state) {
    (void)state;
    run_mode(PLAIN, false);
}

static void lines(void **state) {
    (void)state;
    run_mode(LINES, false);
}

static void octets(void **state) {
    (void)state;
    run_mode(OCTETS, false);
}

static void through_tls(void **state) {
    (void)state;
#ifdef PAWL_TEST_OPENSSL
    if (!tls_present() || system("openssl version >/dev/null 2>&1") != 0)
        SKIP("TLS: a build without it, or no command openssl");
    cert_make(&cert);
    client = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_mode(client, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    for (enum mode m = NUMBERED; m < MODES; m++)
        run_mode(m, true);
    SSL_CTX_free(client);
    cert_remove(&cert);
#else
    SKIP("TLS: no OpenSSL to be the peer (libssl-dev)");
#endif
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbered), cmocka_unit_test(plain),       cmocka_unit_test(lines),
        cmocka_unit_test(octets),   cmocka_unit_test(through_tls),
    };
    if (argc > 1)
        seed_from = seed_to = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        seed_to = strtoull(argv[2], NULL, 10);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
