/* SPDX-License-Identifier: Apache-2.0 */
/* Two copies of a log went on separately, and a segment of one got into the other: whole in itself,
 * of the same log, and not its own. Every reader that comes from the segment before it says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pawl.h"
#include "tests/support/test_dir.h"

#define MIB (1024u * 1024u)

static char dir[64];
static uint32_t stream;

__attribute__((format(printf, 1, 0))) static void run(const char *format) {
    char command[256];
    snprintf(command, sizeof command, format, dir, dir, dir);
    assert_int_equal(system(command), 0);
}

static pawl *open_log(const char *which, uint32_t flags) {
    char path[80];
    pawl *log;
    pawl_error e;
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = flags, o.segment_size = MIB;
    snprintf(path, sizeof path, "%s/%s", dir, which);
    if (pawl_open(path, &o, &log, &e) != 0)
        fail_msg("%s: %s", which, e.message);
    return log;
}

static void write_some(const char *which, char letter, int count) {
    static char value[60000];
    pawl *log = open_log(which, PAWL_OPEN_CREATE);
    pawl_stream_info info;
    if (pawl_stream_find(log, "s", &info) != 0)
        assert_int_equal(pawl_stream_create(log, "s", 1, &stream), 0);
    memset(value, letter, sizeof value);
    pawl_record r = {.value = value, .value_len = sizeof value};
    for (int i = 0; i < count; i++)
        assert_int_equal(pawl_append(log, stream, 0, &r, NULL), 0);
    assert_int_equal(pawl_close(log), 0);
}

/* Reads until there is no more: the letters it saw, each once, in order; *code is how it ended. */
static void read_letters(pawl *log, char letters[8], int *code) {
    pawl_reader *r;
    pawl_batch b;
    size_t n = 0;
    assert_int_equal(pawl_reader_open(log, stream, 0, 0, 0, &r), 0);
    while ((*code = pawl_read(r, 0, 0, &b)) > 0)
        for (size_t i = 0; i < b.count; i++) {
            char c = *(const char *)b.records[i].value;
            if (n == 0 || letters[n - 1] != c)
                letters[n++] = c;
            assert_true(n < 8);
        }
    letters[n] = 0;
    pawl_reader_close(r);
}

static int setup(void **state) {
    (void)state;
    if (test_dir_make(dir, "/var/tmp/test_other_history") != 0)
        return -1;
    write_some("a", '0', 3);
    run("cp -r %s/a %s/b");
    return 0;
}

static int teardown(void **state) {
    (void)state;
    run("rm -rf -- %s");
    return 0;
}

static void go_apart(void) {
    write_some("a", 'a', 40); /* into segment 2 */
    write_some("b", 'b', 40);
    run("cp %s/b/0000000000000001.seg %s/a/");
}

static void note(void *arg, const pawl_finding *x) {
    if (strcmp(x->label, "segment-chain-broken") == 0)
        ++*(int *)arg;
}

static void verify_tells(void **state) {
    (void)state;
    char path[80];
    int told = 0;
    pawl_check c = PAWL_CHECK_INIT;
    go_apart();
    c.finding = note, c.arg = &told;
    snprintf(path, sizeof path, "%s/a", dir);
    assert_int_not_equal(pawl_verify(path, &c, NULL), 0);
    assert_int_equal(told, 2); /* before it, and after it */
}

static void a_reader_stops_before_it(void **state) {
    (void)state;
    char letters[8];
    int code;
    go_apart();
    pawl *log = open_log("a", PAWL_OPEN_READ);
    read_letters(log, letters, &code);
    assert_int_equal(code, PAWL_DAMAGED);
    assert_string_equal(letters, "0a");
    assert_int_equal(pawl_close(log), 0);
}

static void a_follower_stops_before_it(void **state) {
    (void)state;
    char letters[8];
    int code;
    pawl *log = open_log("a", PAWL_OPEN_READ);
    read_letters(log, letters, &code);
    assert_int_equal(code, 0);
    assert_string_equal(letters, "0");
    go_apart();
    pawl_reader *r;
    /* it looks for new frames first */
    assert_int_equal(pawl_reader_open(log, stream, 0, 0, 0, &r), PAWL_DAMAGED);
    assert_int_equal(pawl_close(log), 0);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(verify_tells, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reader_stops_before_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_follower_stops_before_it, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
