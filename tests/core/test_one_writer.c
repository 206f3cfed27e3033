/* SPDX-License-Identifier: Apache-2.0 */
/* One writer: the lock, its holder, its end with the process; readers beside it; fork. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "pawl.h"
#include "tests/support/two_streams.h"

static int setup(void **state) {
    return fixture_setup(state, "/tmp/test_one_writer");
}

static pawl_record text(const char *s) {
    return (pawl_record){.value = s, .value_len = (uint32_t)strlen(s)};
}

static uint64_t durable(struct fixture *f, uint32_t stream, uint32_t partition) {
    pawl_bounds b;
    assert_int_equal(pawl_partition_bounds(f->log, stream, partition, &b), 0);
    return b.durable;
}

/* A process that waits for a word from the test, and tells it one. */
struct child {
    pid_t pid;
    int to, from;
};

static struct child start(struct fixture *f, void (*body)(struct fixture *, int in, int out)) {
    int to[2], from[2];
    struct child c = {0, -1, -1};
    assert_int_equal(pipe2(to, O_CLOEXEC), 0);
    assert_int_equal(pipe2(from, O_CLOEXEC), 0);
    c.pid = fork();
    assert_true(c.pid >= 0);
    if (c.pid == 0) {
        close(to[1]);
        close(from[0]);
        alarm(100); /* never outlives a test that failed */
        body(f, to[0], from[1]);
        _exit(0);
    }
    close(to[0]);
    close(from[1]);
    c.to = to[1], c.from = from[0];
    return c;
}

static char hear(int fd) {
    char c = 0;
    return read(fd, &c, 1) == 1 ? c : 0;
}

static void say(int fd, char c) {
    if (write(fd, &c, 1) != 1)
        _exit(99);
}

static int end(struct child *c) {
    int status;
    close(c->to);
    close(c->from);
    assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void hold(struct fixture *f, int in, int out) {
    pawl *log;
    pawl_record r = text("held");
    if (pawl_open(f->dir, &f->options, &log, NULL) != 0 || pawl_append(log, f->a, 0, &r, NULL) != 0)
        _exit(1);
    say(out, 'h');
    hear(in);
    _exit(pawl_close(log) != 0);
}

static int try_open(struct fixture *f, pawl_error *e) {
    pawl_options o = f->options;
    o.lock_wait_ms = 1;
    return pawl_open(f->dir, &o, &f->log, e);
}

static void another_process_is_refused_and_told_the_pid(void **state) {
    struct fixture *f = *state;
    pawl_error e;
    char pid[16];
    assert_int_equal(pawl_close(f->log), 0);
    struct child c = start(f, hold);
    assert_int_equal(hear(c.from), 'h');
    assert_int_equal(try_open(f, &e), PAWL_LOCKED);
    assert_null(f->log);
    assert_int_equal(e.code, PAWL_LOCKED);
    snprintf(pid, sizeof pid, "%d", (int)c.pid);
    if (strstr(e.message, pid) == NULL)
        fail_msg("no pid %s in: %s", pid, e.message);
    say(c.to, 'x');
    assert_int_equal(end(&c), 0);
    reopen(f);
    assert_int_equal(durable(f, f->a, 0), 1);
}

static void the_same_process_is_refused(void **state) {
    struct fixture *f = *state;
    pawl_error e;
    pawl_options o = f->options;
    pawl *second = NULL;
    o.lock_wait_ms = 1;
    assert_int_equal(pawl_open(f->dir, &o, &second, &e), PAWL_LOCKED);
    assert_null(second);
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    assert_non_null(strstr(e.message, pid));
    pawl_record r = text("still works");
    assert_int_equal(pawl_append(f->log, f->a, 0, &r, NULL), 0);
}

static void a_killed_holder_leaves_it_open_for_the_next(void **state) {
    struct fixture *f = *state;
    assert_int_equal(pawl_close(f->log), 0);
    f->log = NULL;
    for (uint64_t i = 1; i <= 3; i++) {
        struct child c = start(f, hold);
        assert_int_equal(hear(c.from), 'h');
        assert_int_equal(kill(c.pid, SIGKILL), 0);
        assert_int_equal(end(&c), -SIGKILL);
        reopen(f);
        pawl_status s = PAWL_STATUS_INIT;
        assert_int_equal(pawl_get_status(f->log, &s), 0);
        assert_int_equal(s.clean, 0);
        assert_int_equal(durable(f, f->a, 0), i); /* what was acknowledged */
        assert_int_equal(pawl_close(f->log), 0);
        f->log = NULL;
    }
    reopen(f);
}

static void *let_go(void *arg) {
    const int *fd = arg;
    /* long enough for the opener to find it locked; shorter would prove less, and pass as well */
    usleep(300000);
    close(*fd);
    return NULL;
}

/* As the kernel holds it for a killed process whose last writes take long. */
static void the_lock_of_a_process_that_is_gone_is_waited_for(void **state) {
    struct fixture *f = *state;
    pawl_error e;
    char path[160];
    pthread_t thread;
    assert_int_equal(pawl_close(f->log), 0);
    struct child c = start(f, hold);
    assert_int_equal(hear(c.from), 'h');
    say(c.to, 'x');
    assert_int_equal(end(&c), 0);
    snprintf(path, sizeof path, "%s/lock", f->dir);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_true(dprintf(fd, "%d\n", (int)c.pid) > 0);
    assert_int_equal(pthread_create(&thread, NULL, let_go, &fd), 0);
    assert_int_equal(try_open(f, &e), 0);
    pthread_join(thread, NULL);
}

#define LIVE 500u

/* Reads along while the parent writes: each record once, in order, over several segments. */
static void follow(struct fixture *f, int in, int out) {
    pawl_options o = PAWL_OPTIONS_INIT;
    pawl *log;
    pawl_reader *r;
    pawl_batch batch;
    pawl_record refused = text("refused");
    pawl_status s = PAWL_STATUS_INIT;
    o.flags = PAWL_OPEN_READ;
    if (pawl_open(f->dir, &o, &log, NULL) != 0)
        _exit(1);
    if (pawl_get_status(log, &s) != 0 || s.writer_pid != (int32_t)getppid())
        _exit(2);
    if (pawl_append(log, f->a, 0, &refused, NULL) != PAWL_READ_ONLY)
        _exit(3);
    if (pawl_reader_open(log, f->a, 0, 0, 0, &r) != 0)
        _exit(4);
    say(out, 'r');
    uint64_t next = 0;
    while (next < LIVE) {
        int n = pawl_read(r, 0, 50000, &batch);
        if (n <= 0)
            _exit(5);
        for (size_t i = 0; i < batch.count; i++, next++)
            if (batch.records[i].offset != next || batch.records[i].value_len != 8192 ||
                memcmp(batch.records[i].value, &next, sizeof next) != 0)
                _exit(6);
        say(out, 'b');
    }
    pawl_reader_close(r);
    /* created by the writer after this one opened; known once the writer has witnessed it */
    pawl_stream_info info;
    if (hear(in) != 's')
        _exit(7);
    int rc;
    for (int i = 0; (rc = pawl_stream_find(log, "late", &info)) == PAWL_NOT_FOUND && i < 20000; i++)
        usleep(1000);
    if (rc != 0)
        _exit(9);
    _exit(pawl_close(log) != 0 ? 8 : 0);
}

static void a_follower_reads_beside_the_writer(void **state) {
    struct fixture *f = *state;
    static uint8_t value[8192];
    struct child c = start(f, follow);
    assert_int_equal(hear(c.from), 'r');
    for (uint64_t i = 0; i < LIVE; i++) {
        memcpy(value, &i, sizeof i);
        pawl_record r = {.value = value, .value_len = sizeof value};
        assert_int_equal(pawl_append(f->log, f->a, 0, &r, NULL), 0);
        if (i == 0)
            assert_int_equal(hear(c.from), 'b'); /* comes while the writer lives */
    }
    while (durable(f, f->a, 0) < LIVE) {
    }
    uint32_t late;
    assert_int_equal(pawl_stream_create(f->log, "late", 1, &late), 0);
    say(c.to, 's');
    char heard;
    while ((heard = hear(c.from)) == 'b') {
    }
    assert_int_equal(end(&c), 0);
}

static void a_reader_needs_no_writer(void **state) {
    struct fixture *f = *state;
    pawl_record r = text("x");
    pawl_options o = PAWL_OPTIONS_INIT;
    pawl_bounds b;
    pawl_status s = PAWL_STATUS_INIT;
    assert_int_equal(pawl_append(f->log, f->a, 0, &r, NULL), 0);
    assert_int_equal(pawl_close(f->log), 0);
    o.flags = PAWL_OPEN_READ;
    assert_int_equal(pawl_open(f->dir, &o, &f->log, NULL), 0);
    assert_int_equal(pawl_partition_bounds(f->log, f->a, 0, &b), 0);
    assert_int_equal(b.durable, 1);
    assert_int_equal(pawl_get_status(f->log, &s), 0);
    assert_int_equal(s.writer_pid, 0);
    assert_int_equal(s.clean, 1);
    pawl_tx *tx;
    assert_int_equal(pawl_begin(f->log, &tx), PAWL_READ_ONLY);
    reopen(f);
}

static void a_forked_handle_is_refused(void **state) {
    struct fixture *f = *state;
    pawl_record r = text("x");
    pawl_tx *tx, *other;
    pawl_reader *reader;
    pawl_batch batch;
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_put(tx, f->a, 0, &r), 0);
    assert_int_equal(pawl_reader_open(f->log, f->a, 0, 0, 0, &reader), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        pawl_status s = PAWL_STATUS_INIT;
        alarm(100);
        if (pawl_append(f->log, f->a, 0, &r, NULL) != PAWL_FORKED)
            _exit(1);
        if (pawl_begin(f->log, &other) != PAWL_FORKED || pawl_get_status(f->log, &s) != PAWL_FORKED)
            _exit(2);
        if (pawl_put(tx, f->a, 0, &r) != PAWL_FORKED ||
            pawl_read(reader, 0, 0, &batch) != PAWL_FORKED)
            _exit(3);
        if (pawl_commit(tx, NULL) != PAWL_FORKED || pawl_sync(f->log) != PAWL_FORKED)
            _exit(4);
        if (pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE) != PAWL_FORKED ||
            pawl_stream_create(f->log, "c", 1, NULL) != PAWL_FORKED)
            _exit(5);
        _exit(pawl_close(f->log) != PAWL_FORKED ? 6 : 0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    pawl_reader_close(reader);
    assert_int_equal(pawl_commit(tx, NULL), 0); /* the parent's goes on */
    assert_int_equal(durable(f, f->a, 0), 1);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(another_process_is_refused_and_told_the_pid),
        T(the_same_process_is_refused),
        T(a_killed_holder_leaves_it_open_for_the_next),
        T(the_lock_of_a_process_that_is_gone_is_waited_for),
        T(a_follower_reads_beside_the_writer),
        T(a_reader_needs_no_writer),
        T(a_forked_handle_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
