/* SPDX-License-Identifier: Apache-2.0
 *
 * The file source sees through renaming, copying and truncating, rewriting; holds back what isn't a
 * whole line; keeps to its memory with lines that are too long. Each line is in the log once, or it
 * is said that it isn't.
 */
#include "tests/support/source_help.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/time.h>

#include "tests/support/measure.h"

static struct feed *follow(void) {
    struct feed *f = feed_new("file");
    feed_set(f, "path", f->path);
    feed_set(f, "rotate_wait", "0ms");
    return f;
}

static const char *beside(struct feed *f, const char *end) {
    static char path[4][160];
    static int turn;
    char *p = path[turn++ % 4];
    snprintf(p, 160, "%s%s", f->path, end);
    return p;
}

static void again(struct feed *f) {
    feed_end(f);
    feed_begin(f);
}

static void lines_come_as_they_are_written(void **state) {
    (void)state;
    struct feed *f = follow();
    feed_begin(f); /* it isn't there yet */
    feed_drive(f);
    put_file(f->path, "one\ntw");
    feed_drive(f);
    feed_holds(f, "one\n");
    add_file(f->path, "o\n\nfour\r\n");
    feed_drive(f);
    feed_holds(f, "one\ntwo\n\nfour\r\n");
    again(f);
    add_file(f->path, "five\n");
    feed_drive(f);
    feed_holds(f, "one\ntwo\n\nfour\r\nfive\n");
    assert_int_equal(f->warnings, 0);
    feed_free(f);
}

static void settings_do_what_they_say(void **state) {
    (void)state;
    struct feed *f = follow();
    feed_set(f, "crlf", "true");
    feed_set(f, "start", "end");
    put_file(f->path, "old\r\n");
    feed_begin(f);
    feed_drive(f);
    add_file(f->path, "a\r\nb\n\r\nc\rd\r\n");
    feed_drive(f);
    feed_holds(f, "a\nb\n\nc\rd\n");
    feed_free(f);

    f = follow();
    feed_set(f, "follow", "false");
    put_file(f->path, "x\nlast");
    feed_begin(f);
    feed_drive(f);
    assert_int_equal(feed_status(f).flow, PAWL_FLOW_ENDED);
    feed_holds(f, "x\nlast\n");
    again(f); /* nothing new */
    feed_drive(f);
    feed_holds(f, "x\nlast\n");
    feed_end(f);
    add_file(f->path, "\ny\n"); /* the newline of the last one comes late */
    feed_begin(f);
    feed_drive(f);
    feed_holds(f, "x\nlast\ny\n");
    feed_free(f);
}

/* Rotations, seen while following (live) or between two runs. */
static void renamed(void **state) {
    (void)state;
    for (int live = 0; live <= 1; live++)
        for (int times = 1; times <= 3; times++) {
            struct feed *f = follow();
            put_file(f->path, "1\n2\n");
            feed_begin(f);
            feed_drive(f);
            feed_holds(f, "1\n2\n");
            if (!live)
                feed_end(f);
            add_file(f->path, "3\nunfinished");
            for (int i = 0; i < times; i++) { /* as logrotate does it, .1 the newest */
                char text[16];
                assert_true(i < 2 || rename(beside(f, ".2"), beside(f, ".3")) == 0);
                assert_true(i < 1 || rename(beside(f, ".1"), beside(f, ".2")) == 0);
                assert_int_equal(rename(f->path, beside(f, ".1")), 0);
                snprintf(text, sizeof text, "new %d\n", i);
                put_file(f->path, text);
            }
            put_file(beside(f, ".4"), "older, not ours\n");
            assert_int_equal(utimes(beside(f, ".4"), (const struct timeval[2]){{1, 0}, {1, 0}}), 0);
            put_file(beside(f, ".0.gz"), "packed\n");
            if (!live)
                feed_begin(f);
            feed_drive(f);
            char want[100] = "1\n2\n3\nunfinished\n";
            for (int i = 0; i < times; i++)
                snprintf(want + strlen(want), 16, "new %d\n", i);
            feed_holds(f, want);
            assert_int_equal(f->warnings, 0);
            again(f);
            add_file(f->path, "end\n");
            feed_drive(f);
            strcat(want, "end\n");
            feed_holds(f, want);
            assert_int_equal(f->warnings, 0);
            feed_free(f);
        }
}

/* Rotated to names with numbers that are counted upwards. */
static void numbered_upwards(void **state) {
    (void)state;
    for (int live = 0; live <= 1; live++)
        for (int times = 2; times <= 12; times += 5) {
            struct feed *f = follow();
            char want[400] = "", text[16], name[8];
            put_file(f->path, "0\n");
            feed_begin(f);
            feed_drive(f);
            for (int i = 0; i < times; i++) {
                if (!live && i == times / 2)
                    feed_end(f);
                snprintf(name, sizeof name, "-%d", 7 + i);
                assert_int_equal(rename(f->path, beside(f, name)), 0);
                assert_int_equal(utimes(beside(f, name),
                                        (const struct timeval[2]){{1000 + i, 0}, {1000 + i, 0}}),
                                 0);
                snprintf(text, sizeof text, "%d\n", i + 1);
                put_file(f->path, text);
                if (live || i < times / 2)
                    feed_drive(f);
            }
            if (!live)
                feed_begin(f);
            feed_drive(f);
            for (int i = 0; i <= times; i++)
                snprintf(want + strlen(want), 16, "%d\n", i);
            feed_holds(f, want);
            assert_int_equal(f->warnings, 0);
            feed_free(f);
        }
}

static void copy(const char *from, const char *to) {
    char command[400];
    snprintf(command, sizeof command, "cp -- '%s' '%s'", from, to);
    assert_int_equal(system(command), 0);
}

static void copied_and_truncated(void **state) {
    (void)state;
    for (int live = 0; live <= 1; live++)
        for (int longer = 0; longer <= 1; longer++) {
            struct feed *f = follow();
            put_file(f->path, "1\n2\n");
            feed_begin(f);
            feed_drive(f);
            if (!live)
                feed_end(f);
            add_file(f->path, "3\n");
            copy(f->path, beside(f, "-20260101"));
            assert_int_equal(truncate(f->path, 0), 0);
            const char *more = longer ? "A much longer text than there was before\n" : "A\n";
            add_file(f->path, more);
            if (!live)
                feed_begin(f);
            feed_drive(f);
            char want[100];
            snprintf(want, sizeof want, "1\n2\n3\n%s", more);
            feed_holds(f, want);
            assert_int_equal(f->warnings, 0);
            feed_free(f);
        }
}

static void what_is_lost_is_told(void **state) {
    (void)state;
    for (int live = 0; live <= 1; live++)
        for (int how = 0; how < 3; how++)
            for (int stop = 0; stop <= 1; stop++) {
                struct feed *f = follow();
                feed_set(f, "on_replaced", stop ? "stop" : "read");
                put_file(f->path, "1\n2\n3\n4\n");
                feed_begin(f);
                feed_drive(f);
                if (!live)
                    feed_end(f);
                if (how == 0) /* truncated, shorter */
                    put_file(f->path, "A\n");
                else if (how == 1) /* rewritten in place, longer */
                    put_file(f->path, "A\nB\nC\nD\nE\n");
                else { /* another file; the first is gone, perhaps with the same inode */
                    assert_int_equal(unlink(f->path), 0);
                    put_file(f->path, "A\nB\nC\nD\nE\n");
                }
                if (!live)
                    feed_begin(f);
                int rc = feed_drive(f);
                bool seen_through = live && how == 2; /* the open file was read to its end */
                if (stop && !seen_through) {
                    assert_int_equal(rc, PAWL_PROCESSOR);
                    feed_holds(f, "1\n2\n3\n4\n");
                } else {
                    feed_holds(f, how == 0 ? "1\n2\n3\n4\nA\n" : "1\n2\n3\n4\nA\nB\nC\nD\nE\n");
                    assert_int_equal(f->warnings, !seen_through);
                    if (!seen_through)
                        assert_non_null(strstr(f->warning, "before offset 8"));
                }
                feed_free(f);
            }
}

static void restored_elsewhere_it_goes_on(void **state) {
    (void)state;
    struct feed *f = follow();
    put_file(f->path, "1\n2\n");
    feed_begin(f);
    feed_drive(f);
    feed_end(f);
    copy(f->path, beside(f, "copy"));
    assert_int_equal(unlink(f->path), 0);
    put_file(beside(f, "between"), "takes the inode\n");
    assert_int_equal(rename(beside(f, "copy"), f->path), 0);
    add_file(f->path, "3\n");
    feed_begin(f);
    feed_drive(f);
    feed_holds(f, "1\n2\n3\n");
    assert_int_equal(f->warnings, 0);
    feed_free(f);
}

/* ---- lines that are too long */

static char *long_line(size_t n) {
    char *text = malloc(n + 16);
    assert_non_null(text);
    strcpy(text, "a\n");
    memset(text + 2, 'x', n);
    strcpy(text + 2 + n, "\nz\n");
    return text;
}

static void cut_into_parts(void **state) {
    (void)state;
    static const size_t sizes[] = {99, 100, 101, 199, 200, 201, 250, 1000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int restart = 0; restart <= 1; restart++) {
            struct feed *f = follow();
            feed_set(f, "line_max", "100");
            feed_set(f, "on_long", "cut");
            f->config.batch_bytes = 64;
            char *text = long_line(sizes[i]);
            put_file(f->path, text);
            feed_begin(f);
            if (restart) /* after each step */
                for (int n = 0; n < 40; n++) {
                    assert_true(pawl_source_step(f->source) >= 0);
                    again(f);
                }
            feed_drive(f);
            size_t n, bytes = 0;
            char *got = feed_text(f, f->to, &n);
            for (char *p = got; *p != 0; p++)
                bytes += *p == 'x';
            assert_int_equal(bytes, sizes[i]);
            size_t parts = sizes[i] <= 100 ? 1 : (sizes[i] - 1) / 100 + 1;
            assert_int_equal(feed_status(f).records + (restart ? parts + 2 : 0), parts + 2);
            assert_string_equal(feed_header(f, f->to, 1, "pawl-line-part"),
                                parts > 1 ? "first" : "");
            assert_string_equal(feed_header(f, f->to, parts, "pawl-line-part"),
                                parts > 1 ? "last" : "");
            assert_string_equal(feed_header(f, f->to, parts + 1, "pawl-line-part"), "");
            if (parts > 2)
                assert_string_equal(feed_header(f, f->to, 2, "pawl-line-part"), "middle");
            free(got);
            free(text);
            feed_free(f);
        }
}

static void a_line_of_100_mb(void **state) {
    (void)state;
    static const char *const unit = "0123456789abcdef";
    for (int policy = PAWL_ON_ERROR_STOP; policy <= PAWL_ON_ERROR_DEAD_LETTER + 1; policy++) {
        struct feed *f = follow();
        bool cut = policy > PAWL_ON_ERROR_DEAD_LETTER;
        f->options.segment_size = 64u << 20;
        feed_set(f, "on_long", cut ? "cut" : "poison");
        f->config.on_poison = cut ? PAWL_ON_ERROR_STOP : policy;
        f->config.stop_on_strangers = 1;
        FILE *out = fopen(f->path, "w");
        assert_non_null(out);
        fputs("before\n", out);
        for (int i = 0; i < 100 * 1024 * 1024 / 16; i++)
            fwrite(unit, 1, 16, out);
        fputs("\nafter\n", out);
        assert_int_equal(fclose(out), 0);
        uint64_t before = memory_kib();
        feed_begin(f);
        int rc = feed_drive(f);
        if (policy == PAWL_ON_ERROR_STOP) {
            assert_int_equal(rc, PAWL_TOO_LARGE);
            assert_non_null(
                strstr(feed_status(f).message, "a line of 104857600 bytes at offset 7"));
            feed_holds(f, "before\n");
        } else if (cut) {
            assert_int_equal(feed_status(f).records, 102);
            assert_string_equal(feed_header(f, f->to, 100, "pawl-line-part"), "last");
        } else {
            feed_holds(f, "before\nafter\n");
            pawl_bounds b;
            assert_int_equal(pawl_partition_bounds(f->log, f->dead, 0, &b), 0);
            assert_int_equal(b.end, policy == PAWL_ON_ERROR_DEAD_LETTER);
            if (b.end == 1)
                assert_non_null(
                    strstr(feed_header(f, f->dead, 0, "pawl-error"), "a line of 104857600 bytes"));
        }
        assert_true(memory_kib() < before + 64 * 1024);
        feed_free(f);
    }
}

static void many_lines_of_every_length(void **state) {
    (void)state;
    struct feed *f = follow();
    size_t n;
    char *want;
    feed_set(f, "line_max", "3000");
    f->config.batch_records = 97;
    f->config.batch_bytes = 5000;
    FILE *out = open_memstream(&want, &n);
    for (uint32_t i = 0; i < 60000; i++) {
        for (uint32_t k = i * 2654435761u >> 8; k % 64 != 0; k /= 2)
            fputc('a' + (int)(k % 26), out);
        if (i % 1000 == 0)
            for (uint32_t k = 0; k < i / 20; k++)
                fputc('-', out);
        fputc('\n', out);
    }
    fclose(out);
    put_file(f->path, want);
    feed_begin(f);
    for (int i = 0; i < 20; i++) {
        for (int k = 0; k < 7; k++)
            assert_true(pawl_source_step(f->source) >= 0);
        again(f);
    }
    feed_drive(f);
    feed_holds(f, want);
    free(want);
    feed_free(f);
}

static void bad_settings_and_places(void **state) {
    (void)state;
    pawl_source_ops ops = PAWL_SOURCE_OPS_INIT;
    pawl_error e;
    pawl_setting bad[] = {{"path", "/tmp/x", 3}, {"line_max", "1", 4}};
    assert_int_equal(pawl_source_make("file", &(pawl_settings){.items = bad, .count = 2}, &ops, &e),
                     PAWL_INVALID);
    bad[1] = (pawl_setting){"follows", "true", 4};
    assert_int_equal(pawl_source_make("file", &(pawl_settings){.items = bad, .count = 2}, &ops, &e),
                     PAWL_INVALID);
    assert_non_null(strstr(e.message, "line 4"));
    assert_int_equal(pawl_source_make("file", &(pawl_settings){.items = bad, .count = 0}, &ops, &e),
                     PAWL_INVALID);
    struct feed *f = follow();
    assert_int_equal(mkdir(f->path, 0700), 0);
    feed_begin(f);
    assert_int_equal(feed_drive(f), PAWL_PROCESSOR);
    assert_non_null(strstr(feed_status(f).message, "not a regular file"));
    feed_end(f);
    feed_set(f, "path", "/tmp/no-such-file-here");
    feed_set(f, "follow", "false");
    feed_begin(f);
    assert_int_equal(feed_drive(f), PAWL_PROCESSOR);
    feed_free(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_come_as_they_are_written),
        cmocka_unit_test(settings_do_what_they_say),
        cmocka_unit_test(renamed),
        cmocka_unit_test(numbered_upwards),
        cmocka_unit_test(copied_and_truncated),
        cmocka_unit_test(what_is_lost_is_told),
        cmocka_unit_test(restored_elsewhere_it_goes_on),
        cmocka_unit_test(cut_into_parts),
        cmocka_unit_test(a_line_of_100_mb),
        cmocka_unit_test(many_lines_of_every_length),
        cmocka_unit_test(bad_settings_and_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
