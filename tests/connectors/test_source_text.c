/* SPDX-License-Identifier: Apache-2.0
 *
 * What the file source makes of a file's bytes: holes, byte order marks, UTF-16, records of several
 * lines, containers' partial lines. The same records come whether the file is there at once or
 * grows byte by byte, with a restart after each byte or none.
 *
 * test-timeout: 300
 */
#include "tests/support/source_help.h"

#include <fcntl.h>
#include <sys/stat.h>

static struct feed *follow(void) {
    struct feed *f = feed_new("file");
    feed_set(f, "path", f->path);
    feed_set(f, "rotate_wait", "0ms");
    feed_set(f, "line_max", "1000");
    return f;
}

static void again(struct feed *f) {
    feed_end(f);
    feed_begin(f);
}

static void append(struct feed *f, const void *bytes, size_t n) {
    FILE *out = fopen(f->path, "a");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes, 1, n, out), n);
    assert_int_equal(fclose(out), 0);
}

static void append_text(struct feed *f, const char *text) {
    append(f, text, strlen(text));
}

/* ---- bytes */

#define TS "2016-10-06T00:17:09."

struct input {
    const char *label;
    const char *settings[4];
    const char *bytes;
    size_t len; /* 0: up to the NUL */
    const char *want;
};
static const struct input inputs[] = {
    {"a mark", {0}, "\xEF\xBB\xBFone\ntwo\n", 0, "one\ntwo\n"},
    {"only a mark", {0}, "\xEF\xBB\xBF", 0, ""},
    {"a mark is content", {"encoding", "bytes"}, "\xEF\xBB\xBFone\n", 0, "\xEF\xBB\xBFone\n"},
    {"UTF-16LE", {0}, "\xFF\xFE\xE9\0\n\0\n\0b\0\r\0\n\0", 14, "\xC3\xA9\n\nb\r\n"},
    {"UTF-16BE", {"crlf", "true"}, "\xFE\xFF\0\xE9\0\n\0\n\0b\0\r\0\n", 14, "\xC3\xA9\n\nb\n"},
    {"blank lines", {"blank", "skip"}, "\n\na\n \n\nb\n\n", 0, "a\nb\n"},
    {"JSON lines", {"format", "json"}, "\xEF\xBB\xBF\n{}\n\n[]\n", 0, "{}\n[]\n"},
    {"begin",
     {"multiline.begin", "^[0-9]"},
     "1\n a\n b\n2\n3\n c\n4\n",
     0,
     "1\n a\n b\n2\n3\n c\n"},
    {"continue",
     {"multiline.continue", "^ "},
     "1\n a\n b\n2\n3\n c\n4\n",
     0,
     "1\n a\n b\n2\n3\n c\n"},
    {"CRI",
     {"format", "cri"},
     TS "1Z stdout P ab\n" TS "2Z stderr F x\n" TS "3Z stdout F cd\n" TS "4Z stdout F e\n" TS
        "5Z stderr P y\n" TS "5Z stdout F z\n",
     0,
     "x\nabcd\ne\n"},
    {"docker",
     {"format", "docker"},
     "{\"log\":\"a\\n\",\"stream\":\"stdout\",\"time\":\"" TS "1Z\"}\n"
     "{\"log\":\"b\",\"stream\":\"stdout\",\"time\":\"" TS "1Z\"}\n"
     "{\"log\":\"c\\n\",\"stream\":\"stdout\",\"time\":\"" TS "1Z\"}\n",
     0,
     "a\nbc\n"},
};
#define INPUTS (sizeof inputs / sizeof inputs[0])

static struct feed *prepare(const struct input *in) {
    struct feed *f = follow();
    for (size_t k = 0; k < 4 && in->settings[k] != NULL; k += 2)
        feed_set(f, in->settings[k], in->settings[k + 1]);
    feed_set(f, "multiline.max_wait", "1h");
    put_file(f->path, "");
    return f;
}

static void at_once_and_in_small_pieces(void **state) {
    (void)state;
    for (size_t i = 0; i < INPUTS; i++)
        for (int how = 0; how < 4; how++) {
            struct feed *f = prepare(&inputs[i]);
            size_t len = inputs[i].len != 0 ? inputs[i].len : strlen(inputs[i].bytes);
            size_t piece = how == 0 ? len : how == 1 ? 1 : 5;
            if (how == 3) /* all is there; a restart after each record */
                f->config.batch_records = 1, piece = len;
            feed_begin(f);
            for (size_t n = 0; n < len; n += piece) {
                append(f, inputs[i].bytes + n, len - n < piece ? len - n : piece);
                for (int k = 0; how == 3 && k < 12; k++) {
                    assert_true(pawl_source_step(f->source) >= 0);
                    again(f);
                }
                feed_drive(f);
                if (how == 2)
                    again(f);
            }
            feed_holds(f, inputs[i].want);
            assert_int_equal(f->warnings, 0);
            feed_free(f);
        }
}

/* ---- records of several lines */

static void a_record_is_given_when_its_time_is_over(void **state) {
    (void)state;
    struct feed *f = follow();
    feed_set(f, "multiline.begin", "^[0-9]");
    feed_set(f, "multiline.max_wait", "0ms");
    put_file(f->path, "1\n a\n2\n b\nhalf");
    feed_begin(f);
    feed_drive(f);
    feed_holds(f, "1\n a\n2\n b\n");
    assert_int_equal(feed_status(f).records, 2);
    again(f);
    append_text(f, " a line\n3\n");
    feed_drive(f);
    feed_holds(f, "1\n a\n2\n b\nhalf a line\n3\n");
    assert_int_equal(feed_status(f).records, 2);
    feed_free(f);
}

/* Not before, whatever else happens. */
static void a_record_waits_over_restarts(void **state) {
    (void)state;
    struct feed *f = follow();
    feed_set(f, "multiline.begin", "^[0-9]");
    feed_set(f, "multiline.max_wait", "1h");
    put_file(f->path, "1\n a\n");
    feed_begin(f);
    for (int i = 0; i < 3; i++) {
        feed_drive(f);
        feed_holds(f, "");
        again(f);
    }
    append_text(f, " b\n2\n");
    feed_drive(f);
    feed_holds(f, "1\n a\n b\n");
    assert_int_equal(feed_status(f).records, 1);
    feed_free(f);
}

static void a_rotated_file_ends_its_last_record(void **state) {
    (void)state;
    for (int live = 0; live <= 1; live++)
        for (int end = 0; end <= 1; end++) {
            struct feed *f = follow();
            char rotated[160];
            feed_set(f, "multiline.begin", "^[0-9]");
            feed_set(f, "multiline.max_wait", "1h");
            put_file(f->path, "1\n a\n2\n");
            feed_begin(f);
            feed_drive(f);
            feed_holds(f, "1\n a\n");
            if (!live)
                feed_end(f);
            append_text(f, end ? " b\n" : " b");
            snprintf(rotated, sizeof rotated, "%s.1", f->path);
            assert_int_equal(rename(f->path, rotated), 0);
            put_file(f->path, " c\n3\n4\n");
            if (!live)
                feed_begin(f);
            feed_drive(f);
            feed_holds(f, "1\n a\n2\n b\n c\n3\n");
            assert_int_equal(f->warnings, 0);
            again(f);
            feed_drive(f);
            feed_holds(f, "1\n a\n2\n b\n c\n3\n");
            feed_free(f);
        }
}

static void without_following_the_end_ends_all(void **state) {
    (void)state;
    static const struct input ends[] = {
        {"begin", {"multiline.begin", "^[0-9]"}, "1\n a\n2\n b", 0, "1\n a\n2\n b\n"},
        {"CRI", {"format", "cri"}, TS "1Z stdout P ab\n" TS "1Z stderr F c\n", 0, "c\nab\n"},
        {"UTF-16",
         {0},
         "\xFF\xFE"
         "a\0b\0",
         6,
         "ab\n"},
        {"UTF-16, odd",
         {0},
         "\xFF\xFE"
         "a\0b",
         5,
         "a\xEF\xBF\xBD\n"},
        {"a hole", {0}, "a\nb\0\0", 5, "a\nb..\n"},
        {"CR LF", {"crlf", "true"}, "a\r\nb", 0, "a\nb\n"},
    };
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        struct feed *f = prepare(&ends[i]);
        size_t len = ends[i].len != 0 ? ends[i].len : strlen(ends[i].bytes), n;
        feed_set(f, "follow", "false");
        append(f, ends[i].bytes, len);
        for (int k = 0; k < 2; k++) { /* twice: nothing is new */
            feed_begin(f);
            feed_drive(f);
            assert_int_equal(feed_status(f).flow, PAWL_FLOW_ENDED);
            char *got = feed_text(f, f->to, &n);
            for (size_t c = 0; c < n; c++)
                got[c] = (char)(got[c] == 0 ? '.' : got[c]);
            assert_string_equal(got, ends[i].want);
            free(got);
            feed_end(f);
        }
        feed_begin(f);
        feed_free(f);
    }
}

/* ---- holes */

static void make_hole(struct feed *f, size_t size, bool sparse) {
    static const char zeros[65536];
    struct stat st;
    if (sparse) {
        assert_int_equal(stat(f->path, &st), 0);
        assert_int_equal(truncate(f->path, st.st_size + (off_t)size), 0);
        return;
    }
    for (size_t n = 0; n < size; n += sizeof zeros)
        append(f, zeros, size - n < sizeof zeros ? size - n : sizeof zeros);
}

static void a_hole_is_no_line(void **state) {
    (void)state;
    static const struct {
        const char *label, *before, *want; /* before the hole */
        size_t least;                      /* of the hole */
    } places[] = {
        {"at the beginning", "", "", 1},
        {"after lines", "x\ny\n", "x\ny\n", 512},
        {"within a line", "x\ny", "x\ny\n", 512},
    };
    static const size_t sizes[] = {1, 511, 512, 1001, 70000, 3u << 20};
    for (size_t i = 0; i < 3; i++)
        for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++)
            for (int how = 0; how < 8; how++) {
                bool sparse = how & 1, live = how & 2, ends = how & 4; /* a read ends inside */
                if (sizes[k] < places[i].least)
                    continue;
                struct feed *f = follow();
                char want[100], told[100];
                put_file(f->path, places[i].before);
                feed_begin(f);
                feed_drive(f);
                make_hole(f, sizes[k] / 2, sparse);
                if (ends)
                    feed_drive(f);
                if (!live)
                    again(f);
                make_hole(f, sizes[k] - sizes[k] / 2, sparse);
                if (ends)
                    feed_drive(f);
                append_text(f, "the line\nlast\n");
                feed_drive(f);
                snprintf(want, sizeof want, "%sthe line\nlast\n", places[i].want);
                feed_holds(f, want);
                if (f->warnings != 1)
                    fail_msg("%s, %zu bytes, %d: %u warnings", places[i].label, sizes[k], how,
                             f->warnings);
                snprintf(told, sizeof told, "%zu NUL bytes from offset %zu on", sizes[k],
                         strlen(places[i].before));
                snprintf(want, sizeof want, "%zu bytes of holes", sizes[k]);
                if (live)
                    assert_non_null(strstr(feed_status(f).target, want));
                snprintf(want, sizeof want, "%sthe line\nlast\n", places[i].want);
                if (strstr(f->warning, told) == NULL)
                    fail_msg("it says: %s", f->warning);
                again(f);
                feed_drive(f);
                feed_holds(f, want);
                assert_int_equal(f->warnings, 1);
                feed_free(f);
            }
}

/* Nothing comes after the hole. */
static void a_file_ends_with_a_hole(void **state) {
    (void)state;
    for (int live = 0; live <= 1; live++)
        for (int rotated = 0; rotated <= 1; rotated++) {
            struct feed *f = follow();
            char name[160];
            put_file(f->path, "a\n");
            make_hole(f, 70000, live);
            if (!rotated)
                feed_set(f, "follow", "false");
            if (live) {
                feed_begin(f);
                feed_drive(f);
            }
            snprintf(name, sizeof name, "%s.1", f->path);
            if (rotated) {
                assert_int_equal(rename(f->path, name), 0);
                put_file(f->path, "b\n");
            }
            if (!live) {
                feed_set(f, "start", rotated ? "oldest" : "beginning");
                feed_begin(f);
            }
            feed_drive(f);
            feed_holds(f, rotated ? "a\nb\n" : "a\n");
            assert_int_equal(f->warnings, 1);
            assert_non_null(strstr(f->warning, "70000 NUL bytes from offset 2 on"));
            feed_free(f);
        }
}

static void truncated_under_a_writer_that_does_not_append(void **state) {
    (void)state;
    for (int live = 0; live <= 1; live++)
        for (size_t lines = 1; lines <= 1000; lines *= 10) {
            struct feed *f = follow();
            char copied[400], text[40];
            char *want;
            size_t n;
            FILE *all = open_memstream(&want, &n);
            int fd = open(f->path, O_WRONLY | O_CREAT, 0600);
            for (size_t i = 0; i < lines; i++) {
                snprintf(text, sizeof text, "line %zu\n", i);
                fputs(text, all);
                assert_int_equal(write(fd, text, strlen(text)), strlen(text));
            }
            feed_begin(f);
            feed_drive(f);
            if (!live)
                feed_end(f);
            fputs("unread\n", all);
            assert_int_equal(write(fd, "unread\n", 7), 7);
            snprintf(copied, sizeof copied, "cp -- '%s' '%s.1'", f->path, f->path);
            assert_int_equal(system(copied), 0);
            assert_int_equal(ftruncate(fd, 0), 0);
            fputs("after\nend\n", all);
            assert_int_equal(write(fd, "after\nend\n", 10), 10);
            close(fd);
            fclose(all);
            if (!live)
                feed_begin(f);
            feed_drive(f);
            feed_holds(f, want);
            assert_int_equal(f->warnings, 1);
            free(want);
            feed_free(f);
        }
}

static void a_few_nuls_are_content(void **state) {
    (void)state;
    struct feed *f = follow();
    size_t n;
    put_file(f->path, "a\n");
    append(f, "b\0c\n\0\0\n\0d\n", 10);
    feed_begin(f);
    feed_drive(f);
    again(f);
    append(f, "\0e\n", 3);
    feed_drive(f);
    char *got = feed_text(f, f->to, &n);
    assert_int_equal(n, 15);
    assert_memory_equal(got, "a\nb\0c\n\0\0\n\0d\n\0e\n", 15);
    free(got);
    assert_int_equal(f->warnings, 0);
    feed_free(f);
}

/* A long line is searched for its end; a hole is one. */
static void a_long_line_before_a_hole(void **state) {
    (void)state;
    for (int cut = 0; cut <= 1; cut++)
        for (size_t len = 900; len <= 50000; len += len < 1100 ? 50 : 24000) {
            struct feed *f = follow();
            char *text = malloc(len);
            size_t n;
            feed_set(f, "on_long", cut ? "cut" : "poison");
            f->config.on_poison = PAWL_ON_ERROR_SKIP;
            f->config.batch_bytes = 2000;
            put_file(f->path, "a\n");
            memset(text, 'x', len);
            append(f, text, len);
            make_hole(f, 3000, false);
            append_text(f, "b\n");
            feed_begin(f);
            feed_drive(f);
            char *got = feed_text(f, f->to, &n);
            size_t bytes = 0;
            for (size_t i = 0; i < n; i++)
                bytes += got[i] == 'x';
            assert_int_equal(bytes, cut || len <= 1000 ? len : 0);
            assert_int_equal(feed_status(f).poisoned, !cut && len > 1000);
            assert_string_equal(got + n - 2, "b\n");
            assert_int_equal(f->warnings, 1 + feed_status(f).poisoned);
            assert_non_null(strstr(f->warning, "3000 NUL bytes"));
            free(got);
            free(text);
            feed_free(f);
        }
}

/* ---- long lines in UTF-16, and in joined records */

static void long_lines(void **state) {
    (void)state;
    for (int how = 0; how < 8; how++)
        for (size_t len = 998; len <= 9000; len = len < 1002 ? len + 1 : len * 3) {
            bool wide = how & 1, cut = how & 2, restart = how & 4;
            struct feed *f = follow();
            size_t n, bytes = 0;
            feed_set(f, "on_long", cut ? "cut" : "poison");
            if (!wide)
                feed_set(f, "multiline.continue", "^ ");
            f->config.on_poison = PAWL_ON_ERROR_SKIP;
            f->config.batch_bytes = 2000;
            FILE *out = fopen(f->path, "w");
            fputs(wide ? "\xFF\xFE" : "a\n b\n", out);
            for (size_t i = 0; i < (wide ? len / 2 : len); i++) {
                fputc('x', out);
                if (wide)
                    fputc(0, out);
            }
            if (wide)
                fwrite("\n\0z\0\n\0", 1, 6, out);
            else
                fputs("\nz\n end\n", out);
            fclose(out);
            feed_set(f, "multiline.max_wait", "0ms");
            feed_begin(f);
            for (int i = 0; restart && i < 12; i++) {
                assert_true(pawl_source_step(f->source) >= 0);
                again(f);
            }
            feed_drive(f);
            char *got = feed_text(f, f->to, &n);
            for (size_t i = 0; i < n; i++)
                bytes += got[i] == 'x';
            size_t size = wide ? len / 2 : len;
            bool is_long = (wide ? 2 * size : size) > 1000;
            assert_int_equal(bytes, cut || !is_long ? size : 0);
            const char *end = wide ? "z\n" : "z\n end\n";
            assert_string_equal(got + n - strlen(end), end);
            if (!wide)
                assert_memory_equal(got, "a\n b\n", 5);
            free(got);
            feed_free(f);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(at_once_and_in_small_pieces),
        cmocka_unit_test(a_record_is_given_when_its_time_is_over),
        cmocka_unit_test(a_record_waits_over_restarts),
        cmocka_unit_test(a_rotated_file_ends_its_last_record),
        cmocka_unit_test(without_following_the_end_ends_all),
        cmocka_unit_test(a_hole_is_no_line),
        cmocka_unit_test(a_file_ends_with_a_hole),
        cmocka_unit_test(truncated_under_a_writer_that_does_not_append),
        cmocka_unit_test(a_few_nuls_are_content),
        cmocka_unit_test(a_long_line_before_a_hole),
        cmocka_unit_test(long_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
