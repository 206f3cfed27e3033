/* SPDX-License-Identifier: Apache-2.0
 *
 * Syslog over UDP and TCP: both RFCs taken apart, both framings, fields as headers or JSON, garbage
 * taken as text.
 */
#include "tests/support/source_help.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "connectors/net/syslog.h"

static const struct {
    const char *message;
    int version, facility, severity;
    const char *field[SYSLOG_FIELDS];
} cases[] = {
    /* the examples of RFC 5424 */
    {"<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \xEF\xBB\xBF'su root' "
     "failed",
     5424,
     4,
     2,
     {"2003-10-11T22:14:15.003Z", "mymachine.example.com", "su", "", "ID47", "",
      "'su root' failed"}},
    {"<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time to make the "
     "do-nuts.",
     5424,
     20,
     5,
     {"2003-08-24T05:14:15.000003-07:00", "192.0.2.1", "myproc", "8710", "", "",
      "%% It's time to make the do-nuts."}},
    {"<165>1 2003-10-11T22:14:15.003Z host evntslog - ID47 [a@1 iut=\"3\" x=\"]\\\"\"][b@2 "
     "c=\"1\"] text",
     5424,
     20,
     5,
     {"2003-10-11T22:14:15.003Z", "host", "evntslog", "", "ID47",
      "[a@1 iut=\"3\" x=\"]\\\"\"][b@2 c=\"1\"]", "text"}},
    {"<0>1 - - - - - -", 5424, 0, 0, {"", "", "", "", "", "", ""}},
    /* of RFC 3164, and what is seen in the wild */
    {"<34>Oct 11 22:14:15 mymachine su: 'su root' failed",
     3164,
     4,
     2,
     {"Oct 11 22:14:15", "mymachine", "su", "", "", "", "'su root' failed"}},
    {"<13>Feb  5 17:32:18 10.0.0.99 cron[123]: Use the BFG!\n",
     3164,
     1,
     5,
     {"Feb  5 17:32:18", "10.0.0.99", "cron", "123", "", "", "Use the BFG!"}},
    {"<191>app: no time, no host", 3164, 23, 7, {"", "", "app", "", "", "", "no time, no host"}},
    {"<7>just words here", 3164, 0, 7, {"", "", "", "", "", "", "just words here"}},
    {"<34>", 3164, 4, 2, {"", "", "", "", "", "", ""}},
    /* neither */
    {"<192>1 - - - - - - x", 0, -1, -1, {"", "", "", "", "", "", "<192>1 - - - - - - x"}},
    {"no priority", 0, -1, -1, {"", "", "", "", "", "", "no priority"}},
    {"<>x", 0, -1, -1, {"", "", "", "", "", "", "<>x"}},
    {"", 0, -1, -1, {"", "", "", "", "", "", ""}},
};

static void messages_are_taken_apart(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct syslog_message m;
        syslog_parse(cases[i].message, strlen(cases[i].message), &m);
        if (m.version != cases[i].version || m.facility != cases[i].facility ||
            m.severity != cases[i].severity)
            fail_msg("%s: %d, %d.%d", cases[i].message, m.version, m.facility, m.severity);
        for (int k = 0; k < SYSLOG_FIELDS; k++)
            if (m.len[k] != strlen(cases[i].field[k]) ||
                (m.len[k] != 0 && memcmp(m.at[k], cases[i].field[k], m.len[k]) != 0))
                fail_msg("%s: field %d is %.*s", cases[i].message, k, (int)m.len[k], m.at[k]);
    }
    struct syslog_message m;
    syslog_parse(cases[1].message, strlen(cases[1].message), &m);
    assert_int_equal(m.time_ns, 1061727255000003000);
}

/* Every beginning of every message, and with a byte changed: in memory that ends there, so that a
 * sanitizer sees what is read beyond. */
static void broken_ones_do_no_harm(void **state) {
    (void)state;
    uint32_t x = 1;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t n = 0; n <= strlen(cases[i].message); n++)
            for (int k = 0; k < 20; k++) {
                char *text = malloc(n + (n == 0));
                struct syslog_message m;
                memcpy(text, cases[i].message, n);
                x = x * 1664525u + 1013904223u;
                if (k != 0 && n != 0)
                    text[(x >> 8) % n] = (char)(x >> 24);
                syslog_parse(text, n, &m);
                for (int field = 0; field < SYSLOG_FIELDS; field++)
                    assert_true(m.len[field] == 0 ||
                                (m.at[field] >= text && m.at[field] + m.len[field] <= text + n));
                free(text);
            }
}

static int dial(struct feed *f, int type) {
    pawl_flow_status s = feed_status(f);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    to.sin_port = htons((uint16_t)strtoul(strrchr(s.target, ':') + 1, NULL, 10));
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
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
    say(udp, cases[4].message);
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
    close(udp);
    feed_free(f);
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
        cmocka_unit_test(messages_are_taken_apart),
        cmocka_unit_test(broken_ones_do_no_harm),
        cmocka_unit_test(over_udp_and_tcp),
        cmocka_unit_test(garbage_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
