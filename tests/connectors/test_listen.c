/* SPDX-License-Identifier: Apache-2.0
 *
 * What a listening source shares with others: names of Unix sockets, ports, descriptors, the
 * kernel's buffers. What isn't ours is left alone, what time mends is waited for, and one that is
 * in want doesn't take from the others.
 */
#include "tests/support/source_help.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

static char address[100];

static struct feed *make_feed(const char *type, const char *where) {
    struct feed *f = feed_new(type);
    snprintf(address, sizeof address, "unix:%s/socket", f->dir);
    feed_set(f, "address", where != NULL ? where : address);
    if (strcmp(type, "socket") == 0)
        feed_set(f, "protocol", "plain");
    f->config.backoff_ms = f->config.backoff_max_ms = 1;
    return f;
}

static const char *path(void) {
    return address + 5;
}

static int dial_unix(int type) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    snprintf(to.sun_path, sizeof to.sun_path, "%s", path());
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
        return fd;
    close(fd);
    return -1;
}

static int bind_unix(int type, bool listening) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    snprintf(to.sun_path, sizeof to.sun_path, "%s", path());
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&to, sizeof to), 0);
    if (listening)
        assert_int_equal(listen(fd, 5), 0);
    return fd;
}

/* Steps until the source is idle. */
static bool recovers(struct feed *f) {
    for (int i = 0; i < 5000; i++) {
        assert_true(pawl_source_step(f->source) >= 0);
        if (feed_status(f).flow == PAWL_FLOW_IDLE)
            return true;
        usleep(1000);
    }
    return false;
}

enum at_path { A_FILE, A_DIRECTORY, A_LINK, LIVE, LIVE_DATAGRAM, BOUND_ONLY, FOREIGN, DEAD };
static const struct {
    const char *label;
    enum at_path what;
    bool replaced;
    const char *says;
} names[] = {
    {"a file", A_FILE, false, "no socket"},
    {"a directory", A_DIRECTORY, false, "no socket"},
    {"a link to a dead socket", A_LINK, false, "no socket"},
    {"a socket on which a process listens", LIVE, false, "another process"},
    {"a live socket for datagrams", LIVE_DATAGRAM, false, "another process"},
    {"a socket whose process is about to listen", BOUND_ONLY, false, "another process"},
    {"a dead socket of another user", FOREIGN, false, "user"},
    {"a dead socket of this user", DEAD, true, ""},
};

static void what_is_at_the_path(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        enum at_path what = names[i].what;
        struct feed *f = make_feed("socket", NULL);
        struct stat before, after;
        char other[200];
        int fd = -1;
        snprintf(other, sizeof other, "%s.other", path());
        if (what == A_FILE)
            put_file(path(), "precious\n");
        else if (what == A_DIRECTORY)
            assert_int_equal(mkdir(path(), 0700), 0);
        else
            fd = bind_unix(what == LIVE_DATAGRAM ? SOCK_DGRAM : SOCK_STREAM, what == LIVE);
        if (what == FOREIGN && (geteuid() != 0 || chown(path(), 65534, 65534) != 0)) {
            print_message("SKIPPED: %s: only root can make one\n", names[i].label);
            close(fd);
            feed_free(f);
            continue;
        }
        if (what == A_LINK || what == FOREIGN || what == DEAD) {
            close(fd);
            fd = -1;
        }
        if (what == A_LINK) {
            assert_int_equal(rename(path(), other), 0);
            assert_int_equal(symlink(other, path()), 0);
        }
        assert_int_equal(lstat(path(), &before), 0);
        feed_begin(f);
        assert_true(pawl_source_step(f->source) >= 0);
        pawl_flow_status s = feed_status(f);
        if ((s.flow != PAWL_FLOW_WAITING) != names[i].replaced)
            fail_msg("%s: %s", names[i].label, s.message);
        if (!names[i].replaced) {
            if (strstr(s.message, names[i].says) == NULL)
                fail_msg("%s: it says %s", names[i].label, s.message);
            assert_int_equal(lstat(path(), &after), 0);
            assert_true(before.st_ino == after.st_ino);
            assert_int_equal(what == A_DIRECTORY ? rmdir(path()) : unlink(path()), 0);
        }
        assert_true(recovers(f)); /* time mends it */
        int peer = dial_unix(SOCK_STREAM);
        assert_true(peer >= 0);
        close(peer);
        if (fd >= 0)
            close(fd);
        feed_free(f);
    }
}

static void a_unix_socket_has_its_mode(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct feed *f = make_feed("syslog", NULL);
        struct stat st;
        mode_t mask = umask(0);
        if (i == 1)
            feed_set(f, "mode", "622");
        feed_begin(f);
        feed_drive(f);
        umask(mask);
        assert_int_equal(stat(path(), &st), 0);
        assert_int_equal(st.st_mode & 07777, i == 0 ? 0600 : 0622);
        int peer = dial_unix(SOCK_DGRAM);
        assert_int_equal(send(peer, "<13>a: hello", 12, 0), 12);
        feed_drive(f);
        feed_holds(f, "hello\n");
        close(peer);
        feed_end(f);
        assert_int_equal(stat(path(), &st), -1); /* it is cleaned up */
        feed_free(f);
    }
}

/* Another process has taken the name meanwhile: it isn't removed at the end. */
static void a_name_that_others_took_stays(void **state) {
    (void)state;
    struct feed *f = make_feed("socket", NULL);
    struct stat st;
    feed_begin(f);
    feed_drive(f);
    assert_int_equal(unlink(path()), 0);
    int other = bind_unix(SOCK_STREAM, true);
    feed_end(f);
    assert_int_equal(stat(path(), &st), 0);
    int peer = dial_unix(SOCK_STREAM);
    assert_true(peer >= 0);
    close(peer);
    close(other);
    feed_free(f);
}

/* A cleaner removed the name while the source runs: it comes back, and those that are connected go
 * on. */
static void a_name_that_is_removed_comes_back(void **state) {
    (void)state;
    struct feed *f = make_feed("socket", NULL);
    feed_begin(f);
    feed_drive(f);
    int old = dial_unix(SOCK_STREAM), new = -1;
    assert_true(old >= 0);
    feed_drive(f);
    assert_int_equal(unlink(path()), 0);
    for (int i = 0; i < 9000 && (new = dial_unix(SOCK_STREAM)) < 0; i++) {
        assert_true(pawl_source_step(f->source) >= 0);
        usleep(1000);
    }
    assert_true(new >= 0);
    assert_int_equal(send(old, "old\n", 4, 0), 4);
    feed_drive(f);
    assert_int_equal(send(new, "new\n", 4, 0), 4);
    feed_drive(f);
    feed_holds(f, "old\nnew\n");
    close(old);
    close(new);
    feed_free(f);
}

static void a_port_in_use_is_waited_for(void **state) {
    (void)state;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    char where[40];
    int other = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(other, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(other, 5), 0);
    assert_int_equal(getsockname(other, (struct sockaddr *)&at, &n), 0);
    snprintf(where, sizeof where, "127.0.0.1:%u", ntohs(at.sin_port));
    struct feed *f = make_feed("syslog", where);
    feed_begin(f);
    assert_true(pawl_source_step(f->source) >= 0);
    assert_int_equal(feed_status(f).flow, PAWL_FLOW_WAITING);
    assert_non_null(strstr(feed_status(f).message, "in use"));
    while (feed_status(f).attempts < 5) {
        usleep(1000);
        assert_true(pawl_source_step(f->source) >= 0);
    }
    assert_int_equal(f->remarks, 1); /* said once, whatever the number of attempts */
    close(other);
    assert_true(recovers(f));
    assert_int_equal(f->remarks, 2);
    assert_non_null(strstr(feed_status(f).message, "works again"));
    assert_int_equal(feed_port(f), ntohs(at.sin_port));
    feed_free(f);
}

static void ipv6(void **state) {
    (void)state;
    struct feed *f = make_feed("syslog", "[::1]:0");
    feed_begin(f);
    assert_true(pawl_source_step(f->source) >= 0);
    if (feed_status(f).flow == PAWL_FLOW_WAITING) {
        print_message("SKIPPED: %s\n", feed_status(f).message);
        feed_free(f);
        return;
    }
    struct sockaddr_in6 to = {.sin6_family = AF_INET6,
                              .sin6_port = htons(feed_port(f)),
                              .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    for (int i = 0; i < 2; i++) {
        int fd = socket(AF_INET6, (i == 0 ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
        assert_int_equal(send(fd, "<13>a: six\n", 11, 0), 11);
        feed_drive(f);
        close(fd);
        feed_drive(f);
    }
    feed_holds(f, "six\nsix\n");
    feed_came_from(f, 0, "messages of src", 1, "[::1]:");
    feed_free(f);
}

/* No descriptor for a new connection: it waits, and the others are served. */
static void without_descriptors(void **state) {
    (void)state;
    struct feed *f = make_feed("socket", "127.0.0.1:0");
    struct rlimit was, none;
    feed_begin(f);
    feed_drive(f);
    int a = dial_port(feed_port(f), SOCK_STREAM);
    feed_drive(f);
    int b = dial_port(feed_port(f), SOCK_STREAM); /* connected by the kernel, not accepted */
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    none = was;
    int next = dup(0);
    close(next);
    none.rlim_cur = (rlim_t)next; /* the lowest number that is free: there are none below */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(send(a, "served\n", 7, 0), 7);
    assert_int_equal(send(b, "later\n", 6, 0), 6);
    int rc = feed_drive(f);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
    assert_true(rc >= 0);
    assert_int_equal(f->warnings, 1);
    assert_non_null(strstr(f->warning, "no new connections now"));
    feed_holds(f, "served\n");
    for (int i = 0; i < 5000 && feed_status(f).records < 2; i++) {
        assert_true(pawl_source_step(f->source) >= 0);
        usleep(1000);
    }
    feed_holds(f, "served\nlater\n");
    close(a);
    close(b);
    feed_free(f);
}

/* More connections than the limit: they wait, and lose nothing. */
static void more_connections_than_the_limit(void **state) {
    (void)state;
    struct feed *f = make_feed("syslog", "127.0.0.1:0");
    feed_set(f, "connections", "2");
    feed_begin(f);
    feed_drive(f);
    int fd[4];
    for (int i = 0; i < 4; i++) {
        char line[20];
        fd[i] = dial_port(feed_port(f), SOCK_STREAM);
        assert_int_equal(send(fd[i], line, (size_t)sprintf(line, "<13>a: %d\n", i), 0), 9);
        feed_drive(f);
    }
    feed_holds(f, "0\n1\n");
    assert_int_equal(f->warnings, 1);
    for (int i = 0; i < 4; i++) {
        close(fd[i]);
        feed_drive(f);
    }
    feed_holds(f, "0\n1\n2\n3\n");
    feed_free(f);
}

/* A flood of datagrams: those that the kernel dropped are counted and said. */
static void dropped_datagrams_are_counted(void **state) {
    (void)state;
    struct feed *f = make_feed("syslog", "127.0.0.1:0");
    char text[1000];
    enum { COUNT = 20000 };
    feed_begin(f);
    feed_drive(f);
    int fd = dial_port(feed_port(f), SOCK_DGRAM);
    memset(text, 'x', sizeof text);
    memcpy(text, "<13>a: ", 7);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(send(fd, text, sizeof text, 0), sizeof text);
    feed_drive(f);
    pawl_flow_status s = feed_status(f);
    const char *dropped = strstr(s.target, " datagrams dropped");
    if (s.records == COUNT) {
        print_message("SKIPPED: the kernel's buffer holds %d datagrams\n", COUNT);
    } else {
        assert_non_null(dropped);
        while (dropped > s.target && dropped[-1] >= '0' && dropped[-1] <= '9')
            dropped--;
        assert_int_equal(strtoull(dropped, NULL, 10) + s.records, COUNT);
        assert_int_equal(f->warnings, 1);
        assert_non_null(strstr(f->warning, "dropped"));
    }
    close(fd);
    feed_free(f);
}

/* Silent for too long: only with `idle`. */
static void a_silent_peer_is_let_go(void **state) {
    (void)state;
    struct feed *f = make_feed("socket", "127.0.0.1:0");
    char c;
    feed_set(f, "idle", "50ms");
    feed_begin(f);
    feed_drive(f);
    int fd = dial_port(feed_port(f), SOCK_STREAM);
    assert_int_equal(send(fd, "one\n", 4, 0), 4);
    ssize_t n = -1;
    for (int i = 0; i < 5000 && n != 0; i++) {
        assert_true(pawl_source_step(f->source) >= 0);
        usleep(1000);
        n = recv(fd, &c, 1, MSG_DONTWAIT);
    }
    assert_int_equal(n, 0);
    feed_holds(f, "one\n");
    close(fd);
    feed_free(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_at_the_path),
        cmocka_unit_test(a_unix_socket_has_its_mode),
        cmocka_unit_test(a_name_that_others_took_stays),
        cmocka_unit_test(a_name_that_is_removed_comes_back),
        cmocka_unit_test(a_port_in_use_is_waited_for),
        cmocka_unit_test(ipv6),
        cmocka_unit_test(without_descriptors),
        cmocka_unit_test(more_connections_than_the_limit),
        cmocka_unit_test(dropped_datagrams_are_counted),
        cmocka_unit_test(a_silent_peer_is_let_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
