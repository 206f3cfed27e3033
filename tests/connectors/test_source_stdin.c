/* SPDX-License-Identifier: Apache-2.0
 *
 * Standard input, through a pipe: lines, lines that are too long, holes, byte order marks, and
 * records of several lines with a time limit.
 */
#include "tests/support/source_help.h"

static int feed_in = -1; /* the writing end of the pipe */

static void pipe_to_stdin(void) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
    close(ends[0]);
    feed_in = ends[1];
}

static void put(const void *bytes, size_t n) {
    for (size_t done = 0; done < n;) {
        ssize_t put = write(feed_in, (const char *)bytes + done, n - done);
        assert_true(put > 0);
        done += (size_t)put;
    }
}

static void put_end(void) {
    close(feed_in);
    feed_in = -1;
}

static const char zeros[20000];

static void cases(void **state) {
    (void)state;
    static const struct {
        const char *label, *settings[4];
        const char *before;
        size_t holes;
        const char *after, *want;
        size_t len; /* of `before`; 0: up to the NUL */
    } all[] = {
        {"lines", {0}, "a\n\nb\r\nlast", 0, "", "a\n\nb\r\nlast\n", 0},
        {"nothing", {0}, "", 0, "", "", 0},
        {"a mark", {"crlf", "true"}, "\xEF\xBB\xBFone\r\ntwo\r\n", 0, "", "one\ntwo\n", 0},
        {"UTF-16", {0}, "\xFF\xFE\xE9\0\n\0b\0", 0, "", "\xC3\xA9\nb\n", 8},
        {"UTF-16 with an odd end", {0}, "\xFE\xFF\0b\0\n\0", 0, "", "b\n\xEF\xBF\xBD\n", 7},
        {"a short hole at the beginning", {0}, "", 3, "a\nb\n", "a\nb\n", 0},
        {"a hole at the beginning", {0}, "", 20000, "a\nb\n", "a\nb\n", 0},
        {"a hole after lines", {0}, "x\ny\n", 20000, "a\nb\n", "x\ny\na\nb\n", 0},
        {"a hole in a line", {0}, "x\ny", 20000, "a\nb", "x\ny\na\nb\n", 0},
        {"a hole at the end", {0}, "x\ny\n", 20000, "", "x\ny\n", 0},
        {"a hole and joined lines",
         {"multiline.continue", "^ "},
         "x\n y\n",
         20000,
         "a\n b\nc",
         "x\n y\na\n b\nc\n",
         0},
        {"JSON lines", {"format", "json"}, "\n1\n\n2\n\n", 0, "", "1\n2\n", 0},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct feed *f = feed_new("stdin");
        size_t n = all[i].len != 0 ? all[i].len : strlen(all[i].before);
        feed_set(f, "line_max", "1000");
        for (size_t k = 0; k < 4 && all[i].settings[k] != NULL; k += 2)
            feed_set(f, all[i].settings[k], all[i].settings[k + 1]);
        pipe_to_stdin();
        put(all[i].before, n);
        put(zeros, all[i].holes);
        put(all[i].after, strlen(all[i].after));
        put_end();
        feed_begin(f);
        print_message("%s\n", all[i].label);
        feed_drive(f);
        assert_int_equal(feed_status(f).flow, PAWL_FLOW_ENDED);
        feed_holds(f, all[i].want);
        assert_int_equal(f->warnings, all[i].holes != 0);
        if (all[i].holes != 0) {
            char text[80];
            snprintf(text, sizeof text, "%zu NUL bytes at byte %zu", all[i].holes, n);
            assert_non_null(strstr(f->warning, text));
        }
        feed_free(f);
    }
}

/* Byte by byte the same comes out. */
static void in_small_pieces(void **state) {
    (void)state;
    static const char text[] = "a\n b\nc\nd\n e";
    struct feed *f = feed_new("stdin");
    feed_set(f, "multiline.begin", "^[a-z]");
    feed_set(f, "multiline.max_wait", "1h");
    pipe_to_stdin();
    feed_begin(f);
    for (size_t i = 0; i < sizeof text - 1; i++) {
        put(text + i, 1);
        feed_drive(f);
    }
    feed_holds(f, "a\n b\nc\n");
    put_end();
    feed_drive(f);
    feed_holds(f, "a\n b\nc\nd\n e\n");
    feed_free(f);
}

static void a_record_waits_no_longer_than_its_limit(void **state) {
    (void)state;
    struct feed *f = feed_new("stdin");
    feed_set(f, "multiline.begin", "^[a-z]");
    feed_set(f, "multiline.max_wait", "0ms");
    pipe_to_stdin();
    feed_begin(f);
    put("a\n b\nhalf", 9);
    feed_drive(f);
    feed_holds(f, "a\n b\n");
    put(" a line\n", 8);
    feed_drive(f);
    feed_holds(f, "a\n b\nhalf a line\n");
    put_end();
    feed_free(f);
}

static void a_long_line(void **state) {
    (void)state;
    for (int joined = 0; joined <= 1; joined++) {
        struct feed *f = feed_new("stdin");
        char text[5000];
        feed_set(f, "line_max", "1000");
        if (joined)
            feed_set(f, "multiline.continue", "^ ");
        f->config.on_poison = PAWL_ON_ERROR_DEAD_LETTER;
        pipe_to_stdin();
        feed_begin(f);
        memset(text, 'x', sizeof text);
        put("a\n b\n", 5);
        put(text, sizeof text);
        put("\nc\n", 3);
        put_end();
        feed_drive(f);
        feed_holds(f, "a\n b\nc\n");
        assert_int_equal(feed_status(f).poisoned, 1);
        assert_int_equal(feed_status(f).records, joined ? 2 : 3);
        feed_free(f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cases),
        cmocka_unit_test(in_small_pieces),
        cmocka_unit_test(a_record_waits_no_longer_than_its_limit),
        cmocka_unit_test(a_long_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
