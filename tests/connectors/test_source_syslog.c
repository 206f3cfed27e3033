/* SPDX-License-Identifier: Apache-2.0
 *
 * Syslog over UDP and TCP: both framings, fields as headers or JSON, garbage taken as text; what is
 * too long or cut costs itself alone.
 */
#include "tests/support/source_help.h"

#include <sys/socket.h>

static int dial(struct feed *f, int type) {
    return dial_port(feed_port(f), type);
}

static void say(int fd, const char *text) {
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static struct feed *begin(const char *format) {
    struct feed *f = feed_new("syslog");
    feed_set(f, "address", "0");
    feed_set(f, "format", format);
    feed_set(f, "line_max", "1000");
    feed_begin(f);
    feed_drive(f);
    return f;
}

static void over_udp_and_tcp(void **state) {
    (void)state;
    struct feed *f = begin("headers");
    int udp = dial(f, SOCK_DGRAM), tcp = dial(f, SOCK_STREAM);
    say(udp, "<34>Oct 11 22:14:15 mymachine su: 'su root' failed");
    feed_drive(f);
    say(udp, "garbage\xFF");
    feed_drive(f);
    say(tcp, "<34>Oct 11 22:14:15 h a: one\n11 <7>two\nlinex<7>three\n\n5 <7>fo");
    feed_drive(f);
    say(tcp, "7 <7>five");
    feed_drive(f);
    feed_holds(f, "'su root' failed\ngarbage\xFF\none\ntwo\nline\nx<7>three\nfo\nfive\n");
    assert_string_equal(feed_header(f, f->to, 0, "syslog-host"), "mymachine");
    assert_string_equal(feed_header(f, f->to, 0, "syslog-severity"), "2");
    assert_string_equal(feed_header(f, f->to, 0, "syslog-facility"), "4");
    assert_string_equal(feed_header(f, f->to, 1, "syslog-facility"), "");
    assert_string_equal(feed_header(f, f->to, 2, "syslog-app"), "a");
    assert_string_equal(feed_header(f, f->to, 1, "syslog-unparsed"), "message");
    feed_came_from(f, 1, "messages of src", 2, "127.0.0.1");
    feed_came_from(f, 6, "messages of src", 7, "127.0.0.1:");
    feed_audit(f);
    close(udp);
    close(tcp);
    feed_free(f);

    f = begin("json");
    udp = dial(f, SOCK_DGRAM);
    say(udp, "<13>Feb  5 17:32:18 h cron[123]: \"q\" \\ \x01 \xC3\xA9 \xFF");
    feed_drive(f);
    feed_holds(f, "{\"facility\":1,\"severity\":5,\"rfc\":3164,\"time\":\"Feb  5 "
                  "17:32:18\",\"host\":\"h\",\"app\":\"cron\",\"procid\":"
                  "\"123\",\"text\":\"\\\"q\\\" \\\\ \\u0001 \xC3\xA9 \xEF\xBF\xBD\"}\n");
    say(udp, "<189>29: *Mar  1 18:46:11: %SYS-5-X: y");
    feed_drive(f);
    size_t n;
    char *got = feed_text(f, f->to, &n);
    assert_non_null(strstr(got, "\"rfc\":3164,\"unparsed\":\"header\",\"text\":\"29: *Mar"));
    free(got);
    close(udp);
    feed_free(f);
}

/* What a real rsyslog sent: 80 KB among others. Over every transport it costs itself. */
static void a_message_that_is_too_long_costs_itself(void **state) {
    (void)state;
    static const char *const ends[] = {"\n", "", ""};
    char *text = malloc(90000), *line = malloc(90100);
    assert_true(text != NULL && line != NULL);
    memset(text, 'x', 80000);
    memcpy(text, "<13>a: ", 7);
    text[80000] = 0;
    for (int way = 0; way < 3; way++) { /* a line, counted octets, a datagram */
        struct feed *f = feed_new("syslog");
        feed_set(f, "address", "0");
        feed_set(f, "line_max", way == 2 ? "2000" : "64k");
        f->config.on_poison = PAWL_ON_ERROR_DEAD_LETTER;
        feed_begin(f);
        feed_drive(f);
        int fd = dial(f, way == 2 ? SOCK_DGRAM : SOCK_STREAM);
        for (int i = 0; i < 23; i++) {
            char small[32];
            size_t n = (size_t)snprintf(small, sizeof small, "<13>a: %d", i);
            const char *from = i == 12 ? text : small;
            n = i == 12 ? (way == 2 ? 3000 : 80000) : n;
            size_t len = way == 1 ? (size_t)snprintf(line, 90100, "%zu ", n) : 0;
            memcpy(line + len, from, n);
            strcpy(line + len + n, ends[way]);
            len += n + strlen(ends[way]);
            for (size_t sent = 0; sent < len;) { /* it takes more than the socket does at once */
                ssize_t k = send(fd, line + sent, len - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
                sent += k > 0 ? (size_t)k : 0;
                feed_drive(f);
            }
        }
        char *want;
        size_t n;
        FILE *out = open_memstream(&want, &n);
        for (int i = 0; i < 23; i++)
            if (i != 12)
                fprintf(out, "%d\n", i);
        fclose(out);
        feed_drive(f);
        feed_holds(f, want);
        free(want);
        char *dead = feed_text(f, f->dead, &n);
        assert_int_equal(n, (way == 2 ? 2000 : 65536) + 1);
        free(dead);
        const char *why = feed_header(f, f->dead, 0, "pawl-error");
        assert_non_null(strstr(why, "longer than line_max"));
        assert_non_null(way == 0 ? why : strstr(why, way == 1 ? "80000" : "3000"));
        assert_int_equal(f->warnings, 1);
        close(fd);
        feed_free(f);
    }
    free(text);
    free(line);
}

/* As JSON each byte may become six: more than the log takes, and still nothing stops. */
static void json_that_is_too_long_costs_itself(void **state) {
    (void)state;
    char text[65400];
    struct feed *f = feed_new("syslog");
    f->options.segment_size = 1u << 20;
    feed_set(f, "address", "0");
    feed_set(f, "format", "json");
    feed_begin(f);
    feed_drive(f);
    int udp = dial(f, SOCK_DGRAM);
    memset(text, 1, sizeof text);
    memcpy(text, "<13>a: ", 7);
    say(udp, "<13>a: before");
    assert_int_equal(send(udp, text, sizeof text, 0), sizeof text);
    say(udp, "<13>a: after");
    assert_true(feed_drive(f) >= 0);
    size_t n;
    char *got = feed_text(f, f->to, &n);
    assert_non_null(strstr(got, "before"));
    assert_non_null(strstr(got, "after"));
    free(got);
    pawl_flow_status s = feed_status(f);
    assert_int_equal(s.records, 2);
    assert_int_equal(s.poisoned, 1);
    assert_int_equal(f->warnings, 1);
    close(udp);
    feed_free(f);
}

/* What comes in parts, and a connection that breaks off. */
static void a_message_that_is_cut_is_said(void **state) {
    (void)state;
    static const char *const streams[] = {"5 <1>ab20 <1>half", "<1>ab\n<1>half"};
    for (int i = 0; i < 4; i++) { /* each closed in order, and broken */
        struct feed *f = feed_new("syslog");
        feed_set(f, "address", "0");
        f->config.on_poison = PAWL_ON_ERROR_DEAD_LETTER;
        feed_begin(f);
        feed_drive(f);
        int fd = dial(f, SOCK_STREAM);
        say(fd, streams[i / 2]);
        feed_drive(f);
        if (i % 2 == 1)
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
        close(fd);
        feed_drive(f);
        feed_holds(f, i == 2 ? "ab\nhalf\n" : "ab\n");
        size_t n;
        char *dead = feed_text(f, f->dead, &n);
        assert_string_equal(dead, i == 2 ? "" : "<1>half\n");
        free(dead);
        assert_int_equal(f->warnings, i == 2 ? 0 : 1);
        feed_free(f);
    }
}

static void garbage_does_no_harm(void **state) {
    (void)state;
    static const char *const formats[] = {"headers", "json", "raw"};
    for (size_t i = 0; i < 3; i++) {
        struct feed *f = begin(formats[i]);
        int udp = dial(f, SOCK_DGRAM);
        uint32_t x = 99;
        for (int round = 0; round < 100; round++) {
            uint8_t text[1500];
            int tcp = dial(f, SOCK_STREAM);
            for (size_t k = 0; k < sizeof text; k++) {
                x = x * 1664525u + 1013904223u;
                text[k] = round % 2 ? (uint8_t) "0123456789<>1 \n:[]\"Oct"[(x >> 24) % 22]
                                    : (uint8_t)(x >> 24);
            }
            (void)!send(tcp, text, sizeof text, MSG_NOSIGNAL);
            (void)!send(udp, text, (size_t)round * 15, MSG_NOSIGNAL);
            assert_true(feed_drive(f) >= 0);
            close(tcp);
        }
        int tcp = dial(f, SOCK_STREAM);
        say(tcp, "12 <34>it works");
        feed_drive(f);
        size_t n;
        char *got = feed_text(f, f->to, &n);
        assert_non_null(memmem(got, n, "it works", 8));
        free(got);
        close(tcp);
        close(udp);
        feed_free(f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(over_udp_and_tcp),
        cmocka_unit_test(a_message_that_is_too_long_costs_itself),
        cmocka_unit_test(json_that_is_too_long_costs_itself),
        cmocka_unit_test(a_message_that_is_cut_is_said),
        cmocka_unit_test(garbage_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
