/* SPDX-License-Identifier: Apache-2.0
 *
 * Lines from connections: acknowledged when durable, sent again without doubling, also when the
 * source is killed; bounded with slow, greedy and garbage-sending peers. And standard input.
 */
#include "tests/support/source_help.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

static struct feed *begin(const char *address, const char *protocol) {
    struct feed *f = feed_new("socket");
    feed_set(f, "address", address);
    feed_set(f, "protocol", protocol);
    feed_begin(f);
    feed_drive(f);
    return f;
}

/* Each small write goes at once. */
static int dial_at_once(uint16_t port) {
    int fd = dial_port(port, SOCK_STREAM);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    return fd;
}

static int dial(struct feed *f) {
    return dial_at_once(feed_port(f));
}

static void say(int fd, const char *text) {
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* What the source has answered so far. Static. */
static const char *heard(struct feed *f, int fd) {
    static char text[4096];
    feed_drive(f);
    ssize_t n = recv(fd, text, sizeof text - 1, MSG_DONTWAIT);
    text[n > 0 ? n : 0] = 0;
    return text;
}

static bool ended(struct feed *f, int fd) {
    char c;
    feed_drive(f);
    while (recv(fd, &c, 1, MSG_DONTWAIT) > 0)
        ;
    ssize_t n = recv(fd, &c, 1, MSG_DONTWAIT);
    return n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

static void numbered_lines_are_acknowledged(void **state) {
    (void)state;
    struct feed *f = begin("127.0.0.1:0", "numbered");
    int a = dial(f), b;
    say(a, "PAWL1 meter-1\n");
    assert_string_equal(heard(f, a), "OK 0\n");
    say(a, "1 one\n2 two\n3 thr");
    assert_string_equal(heard(f, a), "ACK 2\n");
    say(a, "ee\n");
    assert_string_equal(heard(f, a), "ACK 3\n");
    b = dial(f); /* the sender comes again, and sends what it had no answer for */
    say(b, "PAWL1 meter-1\n2 two\n3 three\n4 four\n");
    assert_string_equal(heard(f, b), "OK 3\nACK 3\nACK 3\nACK 4\n");
    assert_true(ended(f, a));
    close(a);
    a = dial(f);
    say(a, "PAWL1 meter-2\n77 of another\n79 a gap\n");
    const char *text = heard(f, a);
    assert_non_null(strstr(text, "OK 0\n"));
    assert_non_null(strstr(text, "ERR expected number 78\n"));
    assert_true(ended(f, a));
    close(a);
    close(b);
    feed_holds(f, "one\ntwo\nthree\nfour\nof another\n");
    feed_end(f);
    feed_begin(f);
    feed_drive(f);
    a = dial(f);
    say(a, "PAWL1 meter-1\n");
    assert_string_equal(heard(f, a), "OK 4\n");
    say(a, "4 four\n5 five\n");
    assert_non_null(strstr(heard(f, a), "ACK 5\n"));
    feed_holds(f, "one\ntwo\nthree\nfour\nof another\nfive\n");
    feed_came_from(f, 3, "sender src.meter-1", 4, "127.0.0.1:");
    feed_came_from(f, 4, "sender src.meter-2", 77, "127.0.0.1:");
    feed_came_from(f, 5, "sender src.meter-1", 5, "127.0.0.1:");
    feed_audit(f);
    close(a);
    feed_free(f);
}

/* ---- what is appended but not durable yet */

/* A source whose ack() comes when the test wants: as if the disk were slow. */
static struct {
    pawl_source_ops ops;
    bool held;
    char item[64];
    uint8_t position[PAWL_SOURCE_POSITION_MAX];
    size_t len;
} slow;

static void slow_ack(void *self, const char *item, const void *position, size_t len) {
    if (!slow.held) {
        slow.ops.ack(self, item, position, len);
        return;
    }
    snprintf(slow.item, sizeof slow.item, "%s", item);
    memcpy(slow.position, position, len);
    slow.len = len;
}

static void make_slow(struct feed *f, pawl_source_ops *ops) {
    (void)f;
    slow.ops = *ops;
    slow.held = false;
    slow.len = 0;
    ops->ack = slow_ack;
}

static void release(void) {
    slow.held = false;
    assert_true(slow.len != 0);
    slow.ops.ack(slow.ops.self, slow.item, slow.position, slow.len);
}

/* A line that is appended but not durable is not acknowledged, however often and over whichever
 * connection it is sent again: a power cut may still take it back. */
static void a_resent_line_is_acknowledged_when_durable(void **state) {
    (void)state;
    struct feed *f = feed_new("socket");
    feed_set(f, "address", "127.0.0.1:0");
    f->wrap = make_slow;
    feed_begin(f);
    feed_drive(f);
    int a = dial(f);
    say(a, "PAWL1 m\n1 one\n");
    assert_string_equal(heard(f, a), "OK 0\nACK 1\n");
    slow.held = true;
    say(a, "2 two\n3 three\n");
    assert_string_equal(heard(f, a), "");
    say(a, "2 two\n"); /* again, over the same connection */
    assert_string_equal(heard(f, a), "");
    say(a, "1 one\n"); /* this one is durable */
    assert_string_equal(heard(f, a), "ACK 1\n");
    int b = dial(f); /* over another one: all that is not acknowledged, and more */
    say(b, "PAWL1 m\n2 two\n3 three\n");
    assert_string_equal(heard(f, b), "OK 1\n");
    say(b, "3 three\n2 two\n");
    assert_string_equal(heard(f, b), "");
    assert_true(ended(f, a));
    release();
    assert_string_equal(heard(f, b), "ACK 3\n");
    say(b, "2 two\n");
    assert_string_equal(heard(f, b), "ACK 3\n");
    say(b, "4 a part, although the end is in ord"); /* it comes again whole */
    feed_drive(f);
    close(a);
    close(b);
    feed_drive(f);
    feed_holds(f, "one\ntwo\nthree\n");
    feed_free(f);
}

/* ---- a bad line costs itself alone */

static char *long_line(const char *before, size_t n, const char *after) {
    char *text = malloc(strlen(before) + n + strlen(after) + 1);
    assert_non_null(text);
    strcpy(text, before);
    memset(text + strlen(before), 'x', n);
    strcpy(text + strlen(before) + n, after);
    return text;
}

static void dead_letters(struct feed *f, size_t count, size_t first_len) {
    size_t n;
    char *got = feed_text(f, f->dead, &n);
    size_t lines = 0;
    for (size_t i = 0; i < n; i++)
        lines += got[i] == '\n';
    assert_int_equal(lines, count);
    assert_int_equal(count == 0 ? 0 : strcspn(got, "\n"), first_len);
    free(got);
}

static void a_line_that_is_too_long_costs_itself(void **state) {
    (void)state;
    char *line = long_line("2 ", 5000, "\n3 three\n");
    for (int policy = 0; policy <= 1; policy++) {
        struct feed *f = feed_new("socket");
        feed_set(f, "address", "127.0.0.1:0");
        feed_set(f, "line_max", "100");
        if (policy == 1)
            f->config.on_poison = PAWL_ON_ERROR_DEAD_LETTER; /* else the default */
        feed_begin(f);
        feed_drive(f);
        int a = dial(f);
        say(a, "PAWL1 m\n1 one\n");
        say(a, line);
        say(a, "4 four\n");
        const char *text = heard(f, a);
        assert_non_null(strstr(text, "ACK 4\n"));
        assert_null(strstr(text, "ERR"));
        say(a, line); /* again: known, and neither doubled nor refused */
        text = heard(f, a);
        assert_non_null(strstr(text, "ACK 4\n"));
        assert_null(strstr(text, "ERR"));
        feed_holds(f, "one\nthree\nfour\n");
        dead_letters(f, policy == 1 ? 1 : 0, policy == 1 ? 98 : 0);
        assert_int_equal(feed_status(f).poisoned, 1);
        assert_true(f->warnings == 1);
        assert_non_null(strstr(f->warning, "line_max"));
        feed_came_from(f, 1, "sender src.m", 3, "");
        close(a);
        feed_audit(f);
        feed_free(f);
    }
    free(line);
}

static void plain_lines_that_are_bad_cost_themselves(void **state) {
    (void)state;
    char *line = long_line("", 5000, "\nafter\n");
    struct feed *f = feed_new("socket");
    f->config.on_poison = PAWL_ON_ERROR_DEAD_LETTER;
    feed_set(f, "address", "127.0.0.1:0");
    feed_set(f, "protocol", "plain");
    feed_set(f, "line_max", "100");
    feed_set(f, "timeout", "50ms");
    feed_begin(f);
    feed_drive(f);
    int a = dial(f), b = dial(f), quiet = dial(f);
    say(a, "before\n");
    say(a, line);
    say(a, "\xFF\xFE not UTF-8\n");
    feed_drive(f);
    say(b, "whole\nhalf"); /* then it breaks: a reset, no end */
    feed_drive(f);
    setsockopt(b, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    close(b);
    feed_drive(f);
    feed_holds(f, "before\nafter\n\xFF\xFE not UTF-8\nwhole\n");
    dead_letters(f, 2, 100);
    b = dial(f);
    say(b, "slow"); /* and then nothing */
    for (int i = 0; i < 400 && !ended(f, b); i++)
        usleep(5000);
    assert_true(ended(f, b));
    assert_false(ended(f, quiet)); /* it left nothing unfinished */
    assert_false(ended(f, a));
    dead_letters(f, 3, 100);
    assert_int_equal(feed_status(f).poisoned, 3);
    close(a);
    close(b);
    close(quiet);
    feed_free(f);
    free(line);
}

static void plain_lines(void **state) {
    (void)state;
    struct feed *f = feed_new("socket");
    char address[160];
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    snprintf(to.sun_path, sizeof to.sun_path, "%s/socket", f->dir);
    snprintf(address, sizeof address, "unix:%s", to.sun_path);
    feed_set(f, "address", address);
    feed_set(f, "protocol", "plain");
    for (int i = 0; i < 2; i++) {
        feed_begin(f);
        feed_drive(f);
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
        say(fd, "a\n\nb\nlast");
        feed_drive(f);
        close(fd);
        feed_drive(f);
        feed_end(f);
    }
    feed_begin(f);
    feed_holds(f, "a\n\nb\nlast\na\n\nb\nlast\n");
    feed_came_from(f, 5, "lines of src", 6, "pid ");
    feed_audit(f);
    feed_free(f);
}

/* A source in a thread sleeps in read() for as long as nothing comes: its status must tell so
 * before, a line must wake it, and a stop too. */
static void a_source_that_sleeps_is_idle_and_is_woken(void **state) {
    (void)state;
    struct feed *f = begin("127.0.0.1:0", "plain");
    int a = dial(f);
    assert_int_equal(pawl_source_start(f->source), 0);
    alarm(30);
    for (uint64_t lines = 1; lines <= 3; lines++) {
        say(a, "a line\n");
        pawl_flow_status s;
        do {
            usleep(1000);
            s = feed_status(f);
        } while (s.records != lines || s.flow != PAWL_FLOW_IDLE || s.behind != 0);
    }
    assert_int_equal(pawl_source_stop(f->source, 1000), 0);
    alarm(0);
    feed_holds(f, "a line\na line\na line\n");
    close(a);
    feed_free(f);
}

static void bad_peers_are_bounded(void **state) {
    static const char *const bad[] = {"GET / HTTP/1.1\n",
                                      "PAWL1 \n",
                                      "PAWL1 a/b\n",
                                      "PAWL2 x\n",
                                      "PAWL1 x\nhello\n",
                                      "PAWL1 x\n0 zero\n",
                                      "PAWL1 x\n1\n",
                                      "PAWL1 x\n18446744073709551616 big\n",
                                      "\n"};
    (void)state;
    struct feed *f = feed_new("socket");
    feed_set(f, "address", "127.0.0.1:0");
    feed_set(f, "line_max", "100");
    feed_set(f, "connections", "3");
    feed_set(f, "senders", "2");
    feed_set(f, "timeout", "3s");
    feed_begin(f);
    feed_drive(f);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int fd = dial(f);
        say(fd, bad[i]);
        const char *text = heard(f, fd);
        if (strstr(text, "ERR ") == NULL)
            fail_msg("%s: %s", bad[i], text);
        assert_true(ended(f, fd));
        close(fd);
    }
    char line[202] = "";
    memset(line, 'x', 201);
    int fd = dial(f);
    say(fd, line);
    assert_non_null(strstr(heard(f, fd), "ERR the line is too long"));
    close(fd);
    int many[4];
    for (int i = 0; i < 4; i++) { /* of those that say nothing, the first makes room */
        many[i] = dial(f);
        feed_drive(f);
    }
    assert_non_null(strstr(heard(f, many[0]), "ERR silent, and others wait for its place\n"));
    assert_true(ended(f, many[0]));
    close(many[0]);
    many[0] = many[3];
    for (int i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "PAWL1 s%d\n1 x\n", i);
        say(many[i], name);
        const char *want = i < 2 ? "OK 0\nACK 1\n" : "ERR too many senders", *got;
        got = heard(f, many[i]);
        if (strstr(got, want) == NULL)
            fail_msg("%d: %s", i, got);
    }
    say(many[0], "2 half"); /* and then nothing */
    for (int i = 0; i < 1000 && !ended(f, many[0]); i++)
        usleep(5000);
    assert_true(ended(f, many[0]));
    for (int i = 0; i < 3; i++)
        close(many[i]);
    feed_holds(f, "x\nx\n");
    feed_free(f);
}

static void garbage_does_no_harm(void **state) {
    (void)state;
    for (int plain = 0; plain <= 1; plain++) {
        struct feed *f = begin("127.0.0.1:0", plain ? "plain" : "numbered");
        uint32_t x = 12345;
        for (int round = 0; round < 100; round++) {
            uint8_t text[3000];
            int fd = dial(f);
            if (round % 2 == 0)
                say(fd, "PAWL1 g\n");
            size_t n = 1 + (size_t)round * 29;
            for (size_t i = 0; i < n; i++) {
                x = x * 1664525u + 1013904223u;
                text[i] = round % 3 == 0 ? (uint8_t) "0123456789 \n\rPAWL\0"[(x >> 24) % 18]
                                         : (uint8_t)(x >> 24);
            }
            (void)!send(fd, text, n, MSG_NOSIGNAL);
            assert_true(pawl_source_step(f->source) >= 0);
            close(fd);
            assert_true(feed_drive(f) >= 0);
        }
        int fd = dial(f); /* and it still works */
        say(fd, plain ? "well\n" : "PAWL1 good\n1 well\n");
        feed_drive(f);
        size_t n;
        char *got = feed_text(f, f->to, &n);
        assert_true(n >= 5 && memcmp(got + n - 5, "well\n", 5) == 0);
        free(got);
        close(fd);
        feed_free(f);
    }
}

/* ---- killed; the sender sends again what it has no acknowledgement for */

struct run {
    pid_t pid;
    uint16_t port;
};

static struct run start(struct feed *f) {
    int ends[2];
    char log[80];
    struct run r = {0};
    assert_int_equal(pipe(ends), 0);
    snprintf(log, sizeof log, "%s/log", f->dir);
    r.pid = fork();
    assert_true(r.pid >= 0);
    if (r.pid == 0) {
        dup2(ends[1], 1);
        close(ends[0]);
        execl(PAWL_BUILD_DIR "/tests/prog_source", "prog_source", log, "lines", "socket",
              "address=127.0.0.1:0", NULL);
        _exit(9);
    }
    close(ends[1]);
    FILE *in = fdopen(ends[0], "r");
    char line[300];
    while (r.port == 0 && fgets(line, sizeof line, in) != NULL)
        if (strncmp(line, "listening on", 12) == 0)
            r.port = (uint16_t)atoi(strrchr(line, ':') + 1);
    fclose(in);
    assert_int_not_equal(r.port, 0);
    return r;
}

static void a_sender_sends_again_after_kills(void **state) {
    (void)state;
    struct feed *f = feed_new("socket");
    uint64_t acked = 0, total = 20000, sent_most = 0;
    uint32_t x = 7;
    int kills = 0;
    feed_set(f, "address", "127.0.0.1:0");
    while (acked < total) {
        struct run r = start(f);
        int fd = dial_at_once(r.port), rc;
        FILE *in = fdopen(dup(fd), "r");
        char line[100];
        unsigned long long n;
        say(fd, "PAWL1 s\n");
        assert_non_null(fgets(line, sizeof line, in));
        assert_int_equal(sscanf(line, "OK %llu", &n), 1);
        assert_true(n >= acked); /* acknowledged is durable */
        assert_true(n <= sent_most);
        acked = n;
        x = x * 1664525u + 1013904223u;
        uint64_t last = acked + 1500 + (x >> 20) % 1000, stop_at = acked + (x >> 16) % 1400;
        last = last < total ? last : total;
        for (uint64_t i = acked + 1; i <= last; i++) {
            snprintf(line, sizeof line, "%llu line %llu\n", (unsigned long long)i,
                     (unsigned long long)i);
            if (send(fd, line, strlen(line), MSG_NOSIGNAL) < 0)
                break;
            sent_most = i;
        }
        while (acked < last && (acked <= stop_at || last == total)) {
            if (fgets(line, sizeof line, in) == NULL)
                break;
            if (sscanf(line, "ACK %llu", &n) == 1)
                acked = n;
        }
        if (acked < total)
            kills++;
        kill(r.pid, SIGKILL);
        assert_int_equal(waitpid(r.pid, &rc, 0), r.pid);
        fclose(in);
        close(fd);
    }
    assert_true(kills >= 5);
    char *want;
    size_t n;
    FILE *out = open_memstream(&want, &n);
    for (uint64_t i = 1; i <= total; i++)
        fprintf(out, "line %llu\n", (unsigned long long)i);
    fclose(out);
    f->options.segment_size = 0;
    feed_begin(f);
    feed_holds(f, want);
    free(want);
    feed_audit(f);
    feed_free(f);
}

/* ---- standard input */

static void standard_input(void **state) {
    (void)state;
    struct feed *f = feed_new("stdin");
    char command[600];
    f->options.segment_size = 0;
    snprintf(command, sizeof command,
             "{ printf 'a\\n\\nb\\r\\n'; seq 1 30000; printf 'the last'; } | "
             "'%s/tests/prog_source' %s/log lines stdin crlf=true",
             PAWL_BUILD_DIR, f->dir);
    assert_int_equal(system(command), 0);
    char *want;
    size_t n;
    FILE *out = open_memstream(&want, &n);
    fputs("a\n\nb\n", out);
    for (int i = 1; i <= 30000; i++)
        fprintf(out, "%d\n", i);
    fputs("the last\n", out);
    fclose(out);
    feed_begin(f);
    feed_holds(f, want);
    feed_end(f);
    free(want);
    snprintf(command, sizeof command,
             "{ head -c 1000 /dev/zero | tr '\\0' x; echo; echo short; } | '%s/tests/prog_source' "
             "%s/log lines stdin line_max=100 2>/dev/null",
             PAWL_BUILD_DIR, f->dir);
    assert_int_equal(system(command), 0); /* poison stops nothing */
    f->options.segment_size = 0;
    feed_begin(f);
    size_t size;
    char *got = feed_text(f, f->to, &size);
    assert_true(size > 6 && strcmp(got + size - 6, "short\n") == 0);
    free(got);
    feed_free(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbered_lines_are_acknowledged),
        cmocka_unit_test(a_resent_line_is_acknowledged_when_durable),
        cmocka_unit_test(a_line_that_is_too_long_costs_itself),
        cmocka_unit_test(plain_lines_that_are_bad_cost_themselves),
        cmocka_unit_test(plain_lines),
        cmocka_unit_test(a_source_that_sleeps_is_idle_and_is_woken),
        cmocka_unit_test(bad_peers_are_bounded),
        cmocka_unit_test(garbage_does_no_harm),
        cmocka_unit_test(a_sender_sends_again_after_kills),
        cmocka_unit_test(standard_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
