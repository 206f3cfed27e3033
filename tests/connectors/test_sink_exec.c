/* SPDX-License-Identifier: Apache-2.0
 *
 * The exec sink: what each exit status means, that a batch that comes again has its name and its
 * records again, that a program which hangs is ended, and that one which doesn't read is no
 * trouble. And standard output.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "pawl_connect.h"

#define COUNT 20u

struct fixture {
    char dir[64];
    pawl *log;
    uint32_t in, dead;
    pawl_sink *sink;
    uint64_t now_ns;
};

static uint64_t now(void *arg) {
    return ((struct fixture *)arg)->now_ns;
}

static void open_log(struct fixture *f) {
    pawl_options o = PAWL_OPTIONS_INIT;
    char log[96];
    snprintf(log, sizeof log, "%s/log", f->dir);
    o.flags = PAWL_OPEN_CREATE;
    o.segment_size = 1u << 20;
    o.lock_wait_ms = 20000; /* a killed one may hold it until the last of its writes is done */
    assert_int_equal(pawl_open(log, &o, &f->log, NULL), 0);
}

static struct fixture *new_fixture(void) {
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    strcpy(f->dir, "/tmp/test_sink_exec.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_int_equal(chdir(f->dir), 0);
    open_log(f);
    assert_int_equal(pawl_stream_create(f->log, "in", 1, &f->in), 0);
    assert_int_equal(pawl_stream_create(f->log, "dead", 1, &f->dead), 0);
    for (uint32_t i = 0; i < COUNT; i++) {
        char text[16];
        pawl_record r = {.value = text,
                         .value_len = (uint32_t)snprintf(text, sizeof text, "n%u", i)};
        assert_int_equal(pawl_append(f->log, f->in, 0, &r, NULL), 0);
    }
    return f;
}

static void add(struct fixture *f, const char *type, const pawl_setting *s, size_t n) {
    pawl_error e = {0};
    pawl_sink_ops ops = PAWL_SINK_OPS_INIT;
    pawl_sink_config c = PAWL_SINK_CONFIG_INIT;
    c.name = "to", c.inputs = &f->in, c.input_count = 1, c.batch_records = 6;
    c.on_poison = PAWL_ON_ERROR_DEAD_LETTER, c.dead_letter = f->dead;
    c.hooks.now_ns = now, c.hooks.now_arg = f, c.hooks.seed = 1;
    if (pawl_sink_make(type, &(pawl_settings){.items = s, .count = n}, &ops, &e) != 0 ||
        pawl_sink_add(f->log, &c, &ops, &f->sink, &e) != 0)
        fail_msg("%s", e.message);
}

static void add_shell(struct fixture *f, const char *command) {
    pawl_setting s[] = {{"command", command, 1}, {"timeout", "300ms", 2}};
    add(f, "exec", s, 2);
}

/* At most `steps` steps; the last answer below 0, or 0. */
static int drive(struct fixture *f, int steps) {
    for (int i = 0; i < steps; i++) {
        int rc = pawl_sink_step(f->sink);
        pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
        if (rc < 0)
            return rc;
        assert_int_equal(pawl_sink_status(f->sink, &s), 0);
        if (rc > 0 && s.behind == 0 && s.flow == PAWL_FLOW_IDLE)
            return 0;
        f->now_ns += UINT64_C(3600000000000);
    }
    return 0;
}

static void free_fixture(struct fixture *f) {
    char command[96];
    pawl_sink_remove(f->sink);
    assert_int_equal(pawl_close(f->log), 0);
    assert_int_equal(chdir("/"), 0);
    snprintf(command, sizeof command, "rm -r %s", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
}

static void says(struct fixture *f, const char *text) {
    pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
    assert_int_equal(pawl_sink_status(f->sink, &s), 0);
    if (strstr(s.message, text) == NULL)
        fail_msg("the status says: %s", s.message);
}

static bool holds(const char *command) {
    return system(command) == 0;
}

static void once_each(void **state) {
    (void)state;
    struct fixture *f = new_fixture();
    add_shell(
        f, "test \"$PAWL_STREAM $PAWL_PARTITION\" = 'in 0' && echo $PAWL_BATCH $PAWL_FROM $PAWL_TO "
           ">>names && cat >>all");
    assert_int_equal(drive(f, 100), 0);
    assert_true(holds("seq 0 19 | sed s/^/n/ | cmp - all"));
    assert_true(holds("test $(sort -u names | wc -l) = 4 && grep -q 'to-1-0-18-20 18 20$' names"));
    free_fixture(f);
}

static void as_a_list(void **state) {
    (void)state;
    struct fixture *f = new_fixture();
    pawl_setting s[] = {{"command.0", "sh", 1},
                        {"command.1", "-c", 1},
                        {"command.2", "cat >>\"$0\"", 1},
                        {"command.3", "a b", 1}};
    add(f, "exec", s, 4);
    assert_int_equal(drive(f, 100), 0);
    assert_true(holds("test $(wc -l <'a b') = 20"));
    free_fixture(f);
}

/* Killed after it did its work and before that is known: the same name, the same records. */
static void again_the_same(void **state) {
    (void)state;
    struct fixture *f = new_fixture();
    assert_int_equal(pawl_close(f->log), 0);
    fflush(NULL);
    int child = fork(), rc;
    if (child == 0) {
        open_log(f);
        add_shell(f, "cat >>$PAWL_BATCH; test $PAWL_FROM = 18 && kill -9 $PPID; true");
        drive(f, 100);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &rc, 0), child);
    assert_true(WIFSIGNALED(rc));
    open_log(f);
    char text[8] = "late";
    pawl_record r = {.value = text, .value_len = 4};
    assert_int_equal(pawl_append(f->log, f->in, 0, &r, NULL), 0);
    add_shell(f, "cat >>$PAWL_BATCH; echo $PAWL_REDELIVERY >>redelivered");
    assert_int_equal(drive(f, 100), 0);
    assert_true(holds("test $(ls pawl-* | wc -l) = 5"));
    assert_true(holds("(seq 18 19; seq 18 19) | sed s/^/n/ | cmp - pawl-*-to-1-0-18-20"));
    assert_true(holds("echo late | cmp - pawl-*-to-1-0-20-21"));
    free_fixture(f);
}

static void statuses(void **state) {
    static const struct {
        const char *command, *text;
        int flow;
    } all[] = {{"exit 1", "ended with status 1", PAWL_FLOW_WAITING},
               {"exit 75", "ended with status 75", PAWL_FLOW_WAITING},
               {"kill -15 $$", "ended by signal 15", PAWL_FLOW_WAITING},
               {"sleep 30 & sleep 30", "took longer than 300 ms", PAWL_FLOW_WAITING},
               {"exit 78", "ended with status 78", PAWL_FLOW_FAILED},
               {"no-such-program-here", "ended with status 127", PAWL_FLOW_FAILED}};
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct fixture *f = new_fixture();
        pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
        add_shell(f, all[i].command);
        for (int k = 0; k < 2; k++)
            if (pawl_sink_step(f->sink) < 0)
                assert_int_equal(pawl_sink_step(f->sink), PAWL_PROCESSOR);
        says(f, all[i].text);
        assert_int_equal(pawl_sink_status(f->sink, &s), 0);
        assert_int_equal(s.flow, all[i].flow);
        assert_int_equal(s.records, 0);
        free_fixture(f);
    }
}

static void not_there(void **state) {
    (void)state;
    struct fixture *f = new_fixture();
    pawl_setting s[] = {{"command.0", "/no/such/program", 1}};
    add(f, "exec", s, 1);
    assert_int_equal(drive(f, 5), PAWL_PROCESSOR);
    says(f, "cannot be run: No such file");
    free_fixture(f);
}

static void poison(void **state) {
    (void)state;
    struct fixture *f = new_fixture();
    pawl_bounds b;
    add_shell(f, "cat >in.$$; grep -q n13 in.$$ && exit 65; cat in.$$ >>all");
    assert_int_equal(drive(f, 100), 0);
    assert_true(holds("seq 0 19 | grep -v 13 | sed s/^/n/ | cmp - all"));
    assert_int_equal(pawl_partition_bounds(f->log, f->dead, 0, &b), 0);
    assert_int_equal(b.durable, 1);
    free_fixture(f);
}

static void unread_input(void **state) {
    (void)state;
    struct fixture *f = new_fixture();
    char *large = malloc(200000);
    memset(large, 'x', 200000);
    pawl_record r = {.value = large, .value_len = 200000};
    assert_int_equal(pawl_append(f->log, f->in, 0, &r, NULL), 0);
    add_shell(f, "exit 0");
    assert_int_equal(drive(f, 100), 0);
    free(large);
    free_fixture(f);
}

static void to_standard_output(void **state) {
    (void)state;
    struct fixture *f = new_fixture();
    assert_int_equal(pawl_close(f->log), 0);
    fflush(NULL);
    int child = fork(), rc;
    if (child == 0) {
        if (freopen("all", "w", stdout) == NULL)
            _exit(1);
        open_log(f);
        add(f, "stdout", NULL, 0);
        _exit(drive(f, 100) != 0);
    }
    assert_int_equal(waitpid(child, &rc, 0), child);
    assert_int_equal(rc, 0);
    assert_true(holds("seq 0 19 | sed s/^/n/ | cmp - all"));
    open_log(f);
    free_fixture(f);
}

/* What is written to a file without a name is lost: that is no delivery. */
static void to_a_removed_file(void **state) {
    (void)state;
    struct fixture *f = new_fixture();
    assert_int_equal(pawl_close(f->log), 0);
    fflush(NULL);
    int child = fork(), rc;
    if (child == 0) {
        if (freopen("all", "w", stdout) == NULL || unlink("all") != 0)
            _exit(1);
        open_log(f);
        add(f, "stdout", NULL, 0);
        _exit(drive(f, 100) == PAWL_PROCESSOR ? 0 : 2);
    }
    assert_int_equal(waitpid(child, &rc, 0), child);
    assert_int_equal(rc, 0);
    open_log(f);
    free_fixture(f);
}

/* A record of the log's limit, with its dead letter's headers, is too large: the letter is cut, and
 * the sink goes on. */
static void a_dead_letter_that_is_too_large_is_cut(void **state) {
    enum { MOST = 262144 - 80 - 4096 - 16 };
    (void)state;
    struct fixture *f = new_fixture();
    char *value = calloc(1, MOST);
    pawl_record r = {.value = value, .value_len = MOST};
    pawl_reader *reader;
    pawl_batch b;
    assert_non_null(value);
    memset(value, 'x', MOST);
    assert_int_equal(pawl_append(f->log, f->in, 0, &r, NULL), 0);
    r = (pawl_record){.value = "after", .value_len = 5};
    assert_int_equal(pawl_append(f->log, f->in, 0, &r, NULL), 0);
    add_shell(f, "if grep -q xxx; then exit 65; fi");
    assert_int_equal(drive(f, 200), 0);
    pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
    assert_int_equal(pawl_sink_status(f->sink, &s), 0);
    assert_int_equal(s.poisoned, 1);
    assert_int_equal(s.behind, 0);
    assert_int_equal(pawl_reader_open(f->log, f->dead, 0, 0, 0, &reader), 0);
    assert_int_equal(pawl_read(reader, 1, 0, &b), 1);
    assert_int_equal(b.records[0].value_len, 65536);
    pawl_reader_close(reader);
    free(value);
    free_fixture(f);
}

/* A record at which the program crashes each time is found, and the others are delivered. */
static void a_record_that_crashes_the_program_is_found(void **state) {
    (void)state;
    struct fixture *f = new_fixture();
    add_shell(f, "cat >part; if grep -qx n7 part; then kill -SEGV $$; fi; cat part >>got");
    assert_int_equal(drive(f, 400), 0);
    pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
    assert_int_equal(pawl_sink_status(f->sink, &s), 0);
    assert_int_equal(s.poisoned, 1);
    assert_int_equal(s.behind, 0);
    assert_int_equal(s.records, COUNT - 1);
    char command[100];
    snprintf(command, sizeof command, "[ $(sort -u got | wc -l) = %u ] && ! grep -qx n7 got",
             COUNT - 1);
    assert_int_equal(system(command), 0);
    free_fixture(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(once_each),
        cmocka_unit_test(as_a_list),
        cmocka_unit_test(again_the_same),
        cmocka_unit_test(statuses),
        cmocka_unit_test(not_there),
        cmocka_unit_test(poison),
        cmocka_unit_test(unread_input),
        cmocka_unit_test(to_standard_output),
        cmocka_unit_test(to_a_removed_file),
        cmocka_unit_test(a_dead_letter_that_is_too_large_is_cut),
        cmocka_unit_test(a_record_that_crashes_the_program_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
