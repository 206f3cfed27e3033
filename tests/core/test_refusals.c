/* SPDX-License-Identifier: Apache-2.0 */
/* What can't be opened is refused by each call that takes a directory, with the same code, and a
 * message that says what, where and what to do. Nothing is changed, and nothing outside the
 * directory is touched. */
#include <errno.h>
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

static char base[64];

/* `make` is a script that runs beside `good` and `other`, two logs, and makes `x`. */
static const struct refusal {
    const char *name, *make;
    int code, repair_code; /* of repair, where it may do more than the others; 0: it mends it */
    const char *says;
} table[] = {
    {"missing", "true", PAWL_NOT_A_LOG, PAWL_NOT_A_LOG, "no such directory"},
    {"a file", "touch x", PAWL_NOT_A_LOG, PAWL_NOT_A_LOG, "not a directory"},
    {"a symbolic link", "ln -s good x", PAWL_NOT_A_LOG, PAWL_NOT_A_LOG,
     "symbolic links are not followed"},
    {"no log", "mkdir x; touch x/file", PAWL_NOT_A_LOG, PAWL_NOT_A_LOG, "holds no Pawl log"},
    {"linked segment", "cp -r good x; mv x/*0.seg x/away; ln -s away x/0000000000000000.seg",
     PAWL_IO, PAWL_IO,
     "0000000000000000.seg failed: Too many levels of symbolic links; it is a symbolic link"},
    {"directory for a segment", "cp -r good x; rm x/*0.seg; mkdir x/0000000000000000.seg", PAWL_IO,
     PAWL_IO, "0000000000000000.seg failed: Is a directory"},
    {"pipe for a segment", "cp -r good x; rm x/*0.seg; mkfifo x/0000000000000000.seg", PAWL_IO,
     PAWL_IO, "0000000000000000.seg failed"},
    {"another log's segment", "cp -r good x; cp other/*1.seg x", PAWL_FOREIGN, PAWL_FOREIGN,
     "another log"},
};

static void shell(const char *script) {
    char command[512];
    snprintf(command, sizeof command, "cd '%s' && { %s; }", base, script);
    assert_int_equal(system(command), 0);
}

static void make_log(const char *name, uint32_t records) {
    char dir[96];
    snprintf(dir, sizeof dir, "%s/%s", base, name);
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_CREATE;
    o.segment_size = 1u << 20;
    pawl *log;
    uint32_t stream;
    static char value[65536];
    pawl_record r = {.value = value, .value_len = sizeof value};
    assert_int_equal(pawl_open(dir, &o, &log, NULL), 0);
    assert_int_equal(pawl_stream_create(log, "s", 1, &stream), 0);
    for (uint32_t i = 0; i < records; i++)
        assert_int_equal(pawl_append(log, stream, 0, &r, NULL), 0);
    assert_int_equal(pawl_close(log), 0);
}

static int setup(void **state) {
    (void)state;
    if (test_dir_make(base, "/tmp/test_refusals") != 0)
        return -1;
    make_log("good", 20); /* two segments begun */
    make_log("other", 20);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    return test_dir_remove(base);
}

static void expect(const char *name, const char *call, int got, int want, const pawl_error *e,
                   const char *says) {
    if (got != want || e->code != want || strstr(e->message, says) == NULL)
        fail_msg("%s: %s answers %s (%s: %s), not %s: ...%s...", name, call, pawl_errname(got),
                 pawl_errname(e->code), e->message, pawl_errname(want), says);
}

static int no_frame(void *arg, const pawl_frame_info *f) {
    (void)arg, (void)f;
    return 0;
}

static int open_with(const char *dir, uint32_t flags, pawl_error *e) {
    pawl *log = NULL;
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = flags;
    int rc = pawl_open(dir, &o, &log, e);
    assert_null(log);
    return rc;
}

static void each_call_says_why(void **state) {
    (void)state;
    char dir[96];
    snprintf(dir, sizeof dir, "%s/x", base);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        const struct refusal *t = &table[i];
        pawl_error e;
        shell("rm -rf x");
        shell(t->make);
        shell("find good other x -type f -exec cksum {} + 2>/dev/null | sort -k3 >before; true");
        expect(t->name, "open", open_with(dir, 0, &e), t->code, &e, t->says);
        expect(t->name, "open for reading", open_with(dir, PAWL_OPEN_READ, &e), t->code, &e,
               t->says);
        expect(t->name, "verify", pawl_verify(dir, NULL, &e), t->code, &e, t->says);
        expect(t->name, "audit", pawl_audit(dir, NULL, &e), t->code, &e, t->says);
        expect(t->name, "dump", pawl_dump(dir, 0, no_frame, NULL, &e), t->code, &e, t->says);
        expect(t->name, "repair", pawl_repair(dir, NULL, &e), t->repair_code, &e, t->says);
        /* Except for a file `lock`, which a writer's attempt leaves. */
        shell("find good other x -type f -exec cksum {} + 2>/dev/null | grep -v x/lock | sort -k3 "
              ">after; "
              "grep -v x/lock before | cmp - after");
    }
}

/* The lock keeps two writers apart, so it may not be a file of another program. A reader then can't
 * know whether there is a writer. */
static void a_linked_lock_is_refused(void **state) {
    (void)state;
    char dir[96];
    snprintf(dir, sizeof dir, "%s/x", base);
    shell("rm -rf x; cp -r good x; rm x/lock; ln -s ../target x/lock");
    static const char says[] =
        "flock of lock failed: Too many levels of symbolic links; it is a symbolic link";
    pawl_error e;
    expect("linked lock", "open", open_with(dir, 0, &e), PAWL_IO, &e, says);
    expect("linked lock", "repair", pawl_repair(dir, NULL, &e), PAWL_IO, &e, says);
    shell("test ! -e target");
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_READ;
    pawl *log;
    assert_int_equal(pawl_open(dir, &o, &log, &e), 0);
    pawl_status s = PAWL_STATUS_INIT;
    assert_int_equal(pawl_get_status(log, &s), 0);
    assert_int_equal(s.writer_pid, -1);
    assert_int_equal(pawl_close(log), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_call_says_why),
        cmocka_unit_test(a_linked_lock_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
