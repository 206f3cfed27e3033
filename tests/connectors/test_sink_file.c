/* SPDX-License-Identifier: Apache-2.0
 * test-timeout: 300
 *
 * The file sink: killed before and after each of its calls to the system, each of them failing in
 * turn, in every format and compression; the visible files together are the stream, once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "connectors/file/sink_file.h"
#include "tests/support/file_sink.h"
#include "tests/support/skip.h"

/* ---- what it remembers, and answers */

static void a_note_is_taken_whole_or_not(void **state) {
    (void)state;
    struct file_note n = {.directory = 7,
                          .path = 8,
                          .shown = 2,
                          .to = 9,
                          .first = FILE_NONE,
                          .last_first = FILE_NONE},
                     got;
    char text[FILE_NOTE_SIZE], more[FILE_NOTE_SIZE + 40];
    static const char *const rests[] = {" ", ".first", ".first3", ".rotating", ".x", "0", "-1"};
    for (int part = 0; part < 2; part++) {
        file_note_encode(&n, text);
        assert_true(file_note_decode(&got, text));
        assert_int_equal(got.to, 9);
        for (size_t i = 0; i < sizeof rests / sizeof *rests; i++) {
            bool really = part != 0 && i == 3; /* the only one that says something */
            really |= i == 5;                  /* to 90, begun 110 */
            snprintf(more, sizeof more, "%s%s", text, rests[i]);
            if (!really && file_note_decode(&got, more))
                fail_msg("taken: %s", more);
        }
        for (size_t len = 0; len + 1 < strlen(text); len++) { /* a beginning of it */
            char *shorter = strndup(text, len);
            bool same = file_note_decode(&got, shorter);
            if (same && got.to == 9 && part == 0)
                fail_msg("taken: %s", shorter);
            free(shorter);
        }
        n.first = 3, n.length = 60, n.hash = 5, n.begun_s = 11;
    }
}

/* A prepared batch is there once it is committed, and not if it is rolled back. */
static void what_is_rolled_back_is_not_committed(void **state) {
    (void)state;
    struct files *f = fsink_new();
    for (int commits = 0; commits < 2; commits++) {
        char directory[120];
        uint64_t from, to;
        pawl_sink_ops o = PAWL_SINK_OPS_INIT;
        pawl_setting s[] = {{"directory", directory, 1}};
        pawl_fault why;
        pawl_sink_batch b = {
            .sink = "out", .stream = "in", .stream_id = f->in, .name = "pawl-x", .to = 1};
        pawl_record r = {.value = "v", .value_len = 1};
        snprintf(directory, sizeof directory, "%s/out%d", f->dir, commits);
        assert_int_equal(pawl_sink_make("file", &(pawl_settings){.items = s, .count = 1}, &o, NULL),
                         0);
        assert_int_equal(o.open(o.self, &b, &why), PAWL_DONE);
        assert_int_equal(o.check(o.self, &b, "", &from, &to, &why), PAWL_DONE);
        assert_int_equal(o.begin(o.self, &b, &why), PAWL_DONE);
        assert_int_equal(o.write(o.self, &b, &r, 1, &why), PAWL_DONE);
        assert_int_equal(o.prepare(o.self, &b, &why), PAWL_DONE);
        assert_int_equal(o.committed(o.self, &b, &why), PAWL_GONE);
        assert_int_equal(commits ? o.commit_prepared(o.self, &b, &why)
                                 : o.rollback_prepared(o.self, &b, &why),
                         PAWL_DONE);
        assert_int_equal(o.committed(o.self, &b, &why), commits ? PAWL_DONE : PAWL_GONE);
        o.destroy(o.self);
    }
    fsink_add(f);
    fsink_free(f);
}

/* ---- what is shown */

static void whole_stream(void **state) {
    static const struct {
        const char *compress, *filter;
    } all[] = {{"none", "cat"}, {"gzip", "gzip -dc"}, {"zstd", "zstd -qdc"}};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        if (i == 2 && system("zstd --version >/dev/null 2>&1") != 0) {
            print_message("zstd is not installed: its files are not looked into\n");
            continue;
        }
        struct files *f = fsink_new();
        fsink_set(f, "compress", all[i].compress);
        fsink_add(f);
        assert_int_equal(fsink_drive(f), 0);
        fsink_close(f);
        fsink_all_there(f, all[i].filter, all[i].compress);
        fsink_free(f);
    }
}

static void json_and_lengths(void **state) {
    (void)state;
    for (int json = 0; json < 2; json++) {
        struct files *f = fsink_new();
        uint32_t files, hidden;
        pawl_record r = {
            .key = "k\"", .key_len = 2, .value = "\xff\n", .value_len = 2, .timestamp_ns = 5};
        assert_int_equal(pawl_append(f->log, f->in, 0, &r, NULL), 0);
        fsink_set(f, "format", json ? "json" : "length");
        fsink_set(f, "rotate_size", "1M");
        fsink_add(f);
        assert_int_equal(fsink_drive(f), 0);
        fsink_close(f);
        char *got = fsink_visible(f, json ? "tail -n 1" : "tail -c 90", &files, &hidden);
        const char *want =
            json ? "{\"offset\":40,\"partition\":0,\"timestamp\":5,\"key\":\"k\\\"\",\"value_"
                   "base64\":\"/wo=\",\"headers\":[]}\n"
                 : "\x03";
        assert_int_equal(files, 1);
        if (json)
            assert_string_equal(want, got);
        else /* n39, then the odd one */
            assert_memory_equal(got + 90 - 13, "\3\0\0\0n39\2\0\0\0\xff\n", 13);
        free(got);
        fsink_free(f);
    }
}

static void killed_at_each_call(void **state) {
    (void)state;
    for (int mode = KILL_BEFORE; mode <= KILL_AFTER; mode++)
        for (int nth = 0, more = 1; more; nth++) {
            struct files *f = fsink_new();
            char when[64];
            snprintf(when, sizeof when, "killed %s call %d",
                     mode == KILL_BEFORE ? "before" : "after", nth);
            more = fsink_killed(f, mode, nth);
            if (!more && nth <= 30)
                fail_msg("only %d calls were seen", nth);
            fsink_open_log(f);
            fsink_add(f);
            assert_int_equal(fsink_drive(f), 0);
            fsink_close(f);
            fsink_all_there(f, "cat", when);
            fsink_free(f);
        }
}

static void each_call_fails(void **state) {
    static const int errors[] = {ENOSPC, EIO};
    (void)state;
    for (size_t e = 0; e < 2; e++)
        for (int nth = 0, more = 1; more; nth++) {
            struct files *f = fsink_new();
            char when[64];
            snprintf(when, sizeof when, "call %d answers %s", nth, strerror(errors[e]));
            fsink_add(f);
            fsink_watch(f->target);
            fsink_trap.mode = FAIL, fsink_trap.error = errors[e];
            fsink_trap.left = nth;
            fsink_trap.happened = 0;
            fsink_trap.armed = 1;
            assert_int_equal(fsink_drive(f), 0);
            more = fsink_trap.happened;
            fsink_trap.armed = 0;
            fsink_close(f);
            /* what a failing call at the end left hidden is shown by the next clean end */
            fsink_open_log(f);
            fsink_add(f);
            assert_int_equal(fsink_drive(f), 0);
            fsink_close(f);
            fsink_all_there(f, "cat", when);
            fsink_free(f);
        }
}

/* A disk that is full for a while: everything that writes fails, until it has room again. */
static void full_disk(void **state) {
    (void)state;
    if (geteuid() != 0 || access("/dev/loop-control", R_OK | W_OK) != 0)
        SKIP("mounting a small file system needs root");
    struct files *f = fsink_new();
    char command[300];
    assert_int_equal(mkdir(f->target, 0700), 0);
    snprintf(command, sizeof command, "mount -t tmpfs -o size=8k none %s 2>/dev/null", f->target);
    if (system(command) != 0) {
        fsink_free(f);
        SKIP("no tmpfs can be mounted here");
    }
    fsink_set(f, "rotate_size", "1M");
    fsink_add(f);
    for (int i = 0; i < 30; i++) { /* 8 KiB hold the marker and little more */
        pawl_record r = {.value = command, .value_len = sizeof command};
        memset(command, 'x', sizeof command);
        assert_int_equal(pawl_append(f->log, f->in, 0, &r, NULL), 0);
    }
    pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
    for (int i = 0; i < 60 && s.flow != PAWL_FLOW_WAITING; i++) {
        assert_true(pawl_sink_step(f->sink) >= 0);
        assert_int_equal(pawl_sink_status(f->sink, &s), 0);
    }
    assert_int_equal(s.flow, PAWL_FLOW_WAITING);
    assert_non_null(strstr(s.message, "No space left"));
    snprintf(command, sizeof command, "mount -o remount,size=1m %s", f->target);
    assert_int_equal(system(command), 0);
    assert_int_equal(fsink_drive(f), 0);
    fsink_close(f);
    uint32_t files, hidden;
    char *got = fsink_visible(f, "cat", &files, &hidden);
    assert_int_equal(strlen(got), 10 * 3 + 30 * 4 + 30 * 301);
    assert_int_equal(hidden, 0);
    free(got);
    snprintf(command, sizeof command, "umount %s", f->target);
    assert_int_equal(system(command), 0);
    fsink_free(f);
}

static void committed_bytes_removed(void **state) {
    (void)state;
    pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
    struct files *f = fsink_hidden();
    fsink_shell(f, "truncate -s 10 %s/files-*.part");
    assert_int_equal(fsink_drive(f), PAWL_PROCESSOR);
    assert_int_equal(pawl_sink_status(f->sink, &s), 0);
    assert_non_null(strstr(s.message, "has 10 of 150 committed bytes"));
    fsink_free(f);
}

/* What is not ours: bytes after those that are committed, and a part that the log doesn't know. It
 * is kept, and not among what is delivered. Another sink's is left alone. */
static void not_ours(void **state) {
    (void)state;
    struct files *f = fsink_hidden();
    uint32_t files, hidden;
    fsink_shell(f, "for p in %s/files-*.part; do echo scraps >>$p; done");
    fsink_shell(f, "echo more >%s/files-1-0-00000000000000000003.part");
    assert_int_equal(fsink_drive(f), 0);
    fsink_close(f);
    char *got = fsink_visible(f, "cat", &files, &hidden), *kept = fsink_aside(f);
    assert_int_equal(files, 1);
    assert_int_equal(hidden, 0);
    assert_int_equal(strlen(got), 150);
    assert_null(strstr(got, "scraps"));
    assert_non_null(strstr(kept, "scraps\n"));
    assert_non_null(strstr(kept, "more\n"));
    free(got);
    free(kept);
    fsink_shell(f, "touch %s/files-x-1-0-00000000000000000003.part");
    fsink_open_log(f);
    fsink_add(f);
    assert_int_equal(fsink_drive(f), 0);
    fsink_close(f);
    free(fsink_visible(f, "cat", &files, &hidden));
    assert_int_equal(hidden, 1);
    fsink_free(f);
}

static void another_log(void **state) {
    (void)state;
    struct files *f = fsink_hidden(), *g = fsink_new();
    pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
    fsink_set(g, "directory", f->target);
    fsink_add(g);
    assert_int_equal(fsink_drive(g), PAWL_PROCESSOR);
    assert_int_equal(pawl_sink_status(g->sink, &s), 0);
    assert_non_null(strstr(s.message, "belongs to another log"));
    fsink_free(g);
    assert_int_equal(fsink_drive(f), 0);
    fsink_free(f);
}

static void visible_files_may_go(void **state) {
    (void)state;
    struct files *f = fsink_new();
    fsink_add(f);
    assert_int_equal(fsink_drive(f), 0);
    fsink_shell(f, "rm %s/files-*");
    fsink_close(f);
    fsink_open_log(f);
    fsink_add(f);
    assert_int_equal(fsink_drive(f), 0);
    pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
    assert_int_equal(pawl_sink_status(f->sink, &s), 0);
    assert_int_equal(s.records, 0);
    fsink_free(f);
}

static void newline_refused(void **state) {
    (void)state;
    struct files *f = fsink_new();
    pawl_record r = {.value = "a\nb", .value_len = 3};
    assert_int_equal(pawl_append(f->log, f->in, 0, &r, NULL), 0);
    fsink_set(f, "newline", "refuse");
    fsink_add(f);
    assert_int_equal(fsink_drive(f), PAWL_PROCESSOR);
    fsink_close(f);
    fsink_all_there(f, "cat", "all but the refused one");
    fsink_free(f);
}

static void bad_settings(void **state) {
    static const char *const bad[][2] = {
        {"compress", "lzma"}, {"level", "10"},   {"rotate_size", "0"}, {"name", "a/b"},
        {"suffix", ""},       {"directory", ""}, {"nonsense", "1"}};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        pawl_setting s[] = {{"directory", "/tmp", 1}, {bad[i][0], bad[i][1], 2}};
        pawl_sink_ops ops = PAWL_SINK_OPS_INIT;
        pawl_error e = {0};
        bool own = strcmp(bad[i][0], "directory") == 0;
        if (pawl_sink_make("file", &(pawl_settings){.items = own ? s + 1 : s, .count = own ? 1 : 2},
                           &ops, &e) == 0 ||
            e.message[0] == 0)
            fail_msg("%s = %s was taken", bad[i][0], bad[i][1]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_note_is_taken_whole_or_not),
        cmocka_unit_test(what_is_rolled_back_is_not_committed),
        cmocka_unit_test(whole_stream),
        cmocka_unit_test(json_and_lengths),
        cmocka_unit_test(killed_at_each_call),
        cmocka_unit_test(each_call_fails),
        cmocka_unit_test(full_disk),
        cmocka_unit_test(committed_bytes_removed),
        cmocka_unit_test(another_log),
        cmocka_unit_test(not_ours),
        cmocka_unit_test(visible_files_may_go),
        cmocka_unit_test(newline_refused),
        cmocka_unit_test(bad_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
