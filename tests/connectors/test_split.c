/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes become records: lines, joined lines, partial lines of containers, UTF-16. A table of cases;
 * each gives the same records whatever part of the input is there at first, whatever number of
 * records is asked for, and with a new reader at every position, as after a restart.
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

#include "connectors/file/split.h"
#include "connectors/text/utf16.h"

struct input {
    const char *label;
    const char *settings[6]; /* name, value, ... */
    const char *bytes;
    size_t len; /* 0: up to the NUL */
    /* each record: its value, ;NAME=VALUE for each header, and \n; a \n of the value is a / */
    const char *want;
};

#define TS "2016-10-06T00:17:09."
#define DOCKER(log, stream) \
    "{\"log\":\"" log "\",\"stream\":\"" stream "\",\"time\":\"" TS "5Z\"}\n"

static const struct input inputs[] = {
    {"lines", {0}, "one\ntwo\n\nfour\r\n", 0, "one\ntwo\n\nfour\r\n"},
    {"no newline at the end", {0}, "one\ntwo", 0, "one\ntwo\n"},
    {"CR LF", {"crlf", "true"}, "a\r\nb\n\r\nc\rd\r\n", 0, "a\nb\n\nc\rd\n"},
    {"a few NULs are content", {0}, "a\0b\n\0\0c\n", 8, "a.b\n..c\n"},
    {"blank lines are kept", {0}, "a\n\n \t\nb\n", 0, "a\n\n \t\nb\n"},
    {"blank lines are skipped", {"blank", "skip"}, "\n\na\n\n \t\r\nb\n\n", 0, "a\nb\n"},
    {"only blank lines", {"blank", "skip"}, "\n\n \n", 0, ""},
    {"JSON lines", {"format", "json"}, "{}\n\n  \n[1]\n", 0, "{}\n[1]\n"},
    {"begin",
     {"multiline.begin", "^[0-9]"},
     "1 a\n  b\n  c\n2 d\n3 e\n\n x\n",
     0,
     "1 a/  b/  c\n2 d\n3 e// x\n"},
    {"begin: lines before the first",
     {"multiline.begin", "^[0-9]"},
     " x\n y\n1 a\n",
     0,
     " x/ y\n1 a\n"},
    {"begin: last line without its end", {"multiline.begin", "^[0-9]"}, "1 a\n b", 0, "1 a/ b\n"},
    {"continue",
     {"multiline.continue", "^[ \\t]"},
     "a\n b\n\tc\nd\n e\nf\n",
     0,
     "a/ b/\tc\nd/ e\nf\n"},
    {"continue: lines before the first",
     {"multiline.continue", "^ "},
     " x\n y\nz\n",
     0,
     " x/ y\nz\n"},
    {"continue, CR LF",
     {"multiline.continue", "^ ", "crlf", "true"},
     "a\r\n b\r\nc\r\n",
     0,
     "a/ b\nc\n"},
    {"max_lines",
     {"multiline.begin", "^1", "multiline.max_lines", "2"},
     "1\na\nb\nc\nd\n1\n",
     0,
     "1/a;pawl-incomplete=max_lines\nb/c;pawl-incomplete=max_lines\nd\n1\n"},
    {"max_bytes",
     {"multiline.begin", "^1", "multiline.max_bytes", "64"},
     "1\n..................................................30\n................20\n........\n1\n",
     0,
     "1/..................................................30;pawl-incomplete=max_bytes\n"
     "................20/........\n1\n"},
    {"begin and blank lines",
     {"multiline.begin", "^1", "blank", "skip"},
     "1\n\na\n\n1\n",
     0,
     "1/a\n1\n"},
    {"CRI",
     {"format", "cri"},
     TS "1Z stdout F a\n" TS "2Z stderr F b\n" TS "3Z stdout F \n" TS "4Z stdout F\n" TS
        "5+00:00 stdout F:x c d \n",
     0,
     "a;stream=stdout\nb;stream=stderr\n;stream=stdout\n;stream=stdout\nc d ;stream=stdout\n"},
    {"CRI: partial lines",
     {"format", "cri"},
     TS "1Z stdout P ab\n" TS "2Z stdout P cd\n" TS "3Z stdout F ef\n" TS "4Z stdout F g\n",
     0,
     "abcdef;stream=stdout\ng;stream=stdout\n"},
    {"CRI: partial lines of both streams",
     {"format", "cri"},
     TS "1Z stdout P ab\n" TS "2Z stderr F x\n" TS "2Z stderr P y\n" TS "3Z stdout F cd\n" TS
        "4Z stderr F z\n" TS "5Z stdout F e\n",
     0,
     "x;stream=stderr\nabcd;stream=stdout\nyz;stream=stderr\ne;stream=stdout\n"},
    {"CRI: the rest of a partial line is missing",
     {"format", "cri"},
     TS "1Z stdout F a\n" TS "2Z stdout P bc\n",
     0,
     "a;stream=stdout\nbc;stream=stdout;pawl-incomplete=end\n"},
    {"CRI: lines of no such format",
     {"format", "cri"},
     "hello\n\n" TS "1Z stdout F a\n" TS "1Z stdfoo F a\n" TS "1Z stdout X a\n" TS
     "1Z stdout FP a\n2016-13-06T00:17:09Z stdout F a\n",
     0,
     "hello;pawl-unparsed=cri\n;pawl-unparsed=cri\na;stream=stdout\n" TS
     "1Z stdfoo F a;pawl-unparsed=cri\n" TS "1Z stdout X a;pawl-unparsed=cri\n" TS
     "1Z stdout FP a;pawl-unparsed=cri\n"
     "2016-13-06T00:17:09Z stdout F a;pawl-unparsed=cri\n"},
    {"CRI: more is held back than may be",
     {"format", "cri", "multiline.max_bytes", "100"},
     TS "1Z stdout P ab\n" TS "2Z stderr F x\n" TS "3Z stderr F y\n" TS "4Z stdout F cd\n",
     0,
     "x;stream=stderr\nab;stream=stdout;pawl-incomplete=max_bytes\ny;stream=stderr\n"
     "cd;stream=stdout\n"},
    {"CRI: records of several lines",
     {"format", "cri", "multiline.continue", "^ "},
     TS "1Z stdout F a\n" TS "2Z stdout P  b\n" TS "2Z stdout F c\n" TS "2Z stderr F e\n" TS
        "3Z stdout F d\n" TS "3Z stderr F  f\n" TS "3Z stdout F g\n",
     0,
     "a/ bc;stream=stdout\nd;stream=stdout\ng;stream=stdout\ne/ f;stream=stderr\n"},
    {"docker",
     {"format", "docker"},
     DOCKER("a\\n", "stdout") DOCKER("b \\\"\\u00e9\\n", "stderr") DOCKER("\\n", "stdout"),
     0,
     "a;stream=stdout\nb \"\xC3\xA9;stream=stderr\n;stream=stdout\n"},
    {"docker: partial lines",
     {"format", "docker"},
     DOCKER("ab", "stdout") DOCKER("x\\n", "stderr") DOCKER("cd", "stdout") DOCKER("\\n", "stdout")
         DOCKER("e", "stdout"),
     0,
     "x;stream=stderr\nabcd;stream=stdout\ne;stream=stdout;pawl-incomplete=end\n"},
    {"docker: attrs",
     {"format", "docker"},
     "{\"log\":\"a\\r\\n\",\"stream\":\"stdout\",\"attrs\":{\"k\": 1},\"time\":\"" TS "5Z\"}\n",
     0,
     "a\r;stream=stdout;attrs={\"k\": 1}\n"},
    {"docker: lines of no such format",
     {"format", "docker"},
     "{\"log\":1}\n{}\nx\n{\"log\":\"a\\n\",\"stream\":\"stdout\",\"time\":\"now\"}\n",
     0,
     "{\"log\":1};pawl-unparsed=docker\n{};pawl-unparsed=docker\nx;pawl-unparsed=docker\n"
     "{\"log\":\"a\\n\",\"stream\":\"stdout\",\"time\":\"now\"};pawl-unparsed=docker\n"},
    {"UTF-8 with a mark",
     {0},
     "\xEF\xBB\xBF"
     "a\n\xEF\xBB\xBF"
     "b\n",
     0,
     "a\n\xEF\xBB\xBF"
     "b\n"},
    {"a mark is content",
     {"encoding", "bytes"},
     "\xEF\xBB\xBF"
     "a\n",
     0,
     "\xEF\xBB\xBF"
     "a\n"},
    {"UTF-16LE",
     {"crlf", "true"},
     "\xFF\xFE"
     "a\0\r\0\n\0"
     "\xE9\0\n\0"
     "\x0A\x0A\n\0"
     "\n\0"
     "=\xD8\0\xDE\n\0",
     24,
     "a\n\xC3\xA9\n\xE0\xA8\x8A\n\n\xF0\x9F\x98\x80\n"},
    {"UTF-16BE",
     {0},
     "\xFE\xFF"
     "\0a\0\n"
     "\0\xE9\0\n"
     "\x0A\0\0\n"
     "\xD8=\xDE\0\0\n",
     20,
     "a\n\xC3\xA9\n\xE0\xA8\x80\n\xF0\x9F\x98\x80\n"},
    {"UTF-16LE: bad surrogates and an odd end",
     {0},
     "\xFF\xFE"
     "\0\xD8"
     "a\0\n\0"
     "\0\xDC\n\0"
     "\0\xD8\0\xD8\0\xDE\n\0"
     "b\0\n",
     23,
     "\xEF\xBF\xBD"
     "a\n\xEF\xBF\xBD\n\xEF\xBF\xBD\xF0\x90\x88\x80\nb\xEF\xBF\xBD\n"},
    {"UTF-16BE without a mark", {"encoding", "utf-16be"}, "\0a\0\n\0b\0\n", 8, "a\nb\n"},
    {"UTF-16LE, joined",
     {"multiline.continue", "^ "},
     "\xFF\xFE"
     "a\0\n\0"
     " \0b\0\n\0"
     "c\0\n\0",
     16,
     "a/ b\nc\n"},
};
#define INPUTS (sizeof inputs / sizeof inputs[0])

static const pawl_setting_info rows[] = {SPLIT_SETTINGS, {0}};
static const pawl_connector connector = {.type = "test", .settings = rows};

static struct split *make(const struct input *in) {
    pawl_setting items[3];
    pawl_settings g = {items, 0};
    pawl_error e;
    struct split *s;
    for (size_t i = 0; i < 6 && in->settings[i] != NULL; i += 2)
        items[g.count++] = (pawl_setting){in->settings[i], in->settings[i + 1], 0};
    if (split_make(&connector, &g, &s, &e) != 0)
        fail_msg("%s: %s", in->label, e.message);
    return s;
}

/* What a source does: bytes that are there, and a position. */
struct source {
    const struct input *in;
    struct split *split;
    uint8_t *buf; /* a copy, with room for a line end and what may be read after it */
    size_t at, len;
    size_t max, bytes;
    bool restarts;
    pawl_record *records;
    struct {
        char text[4096];
        size_t len;
    } got;
};

static void note(struct source *x, const void *bytes, size_t n) {
    assert_true(x->got.len + n < sizeof x->got.text);
    memcpy(x->got.text + x->got.len, bytes, n);
    x->got.len += n;
    x->got.text[x->got.len] = 0;
}

static void note_record(struct source *x, const pawl_record *r) {
    for (size_t i = 0; i < r->value_len; i++) {
        char c = ((const char *)r->value)[i];
        note(x, c == '\n' ? "/" : c == 0 ? "." : &c, 1);
    }
    for (size_t i = 0; i < r->header_count; i++) {
        note(x, ";", 1);
        note(x, r->headers[i].name, r->headers[i].name_len);
        note(x, "=", 1);
        note(x, r->headers[i].value, r->headers[i].value_len);
    }
    note(x, "\n", 1);
    if (x->in->settings[1] != NULL && strcmp(x->in->settings[1], "cri") == 0 &&
        r->header_count > 0 && memcmp(r->headers[0].name, "stream", 6) == 0)
        assert_in_range(r->timestamp_ns % 1000000000, 100000000, 600000000);
    else if (r->timestamp_ns != 7)
        assert_int_equal(r->timestamp_ns % 1000000000, 500000000);
}

/* Takes what there is of the first `there` bytes. */
static void take(struct source *x, size_t there, bool last) {
    size_t mark;
    int encoding = split_encoding(x->split, x->buf, there, &mark);
    if (there < 4 && !last)
        return;
    x->at = x->at < mark ? mark : x->at;
    size_t end = there;
    if (last && split_last_end(encoding, x->buf + x->at, there - x->at) != x->buf + there) {
        /* the line end that is missing; an odd byte of UTF-16 gets its other half from it */
        if (encoding != SPLIT_BYTES && (there - x->at) % 2 != 0) {
            x->buf[end++] = 0xD8;
            x->buf[end - 2] = encoding == SPLIT_UTF16BE ? 0xD8 : x->buf[end - 2];
        }
        if (encoding == SPLIT_UTF16BE)
            x->buf[end++] = 0;
        x->buf[end++] = '\n';
        if (encoding == SPLIT_UTF16LE)
            x->buf[end++] = 0;
    }
    for (;;) {
        const uint8_t *from = x->buf + x->at,
                      *stop = x->at < end ? split_last_end(encoding, from, end - x->at) : NULL;
        if (stop == NULL)
            return;
        if (x->restarts) {
            split_free(x->split);
            x->split = make(x->in);
        }
        struct split_job j = {.encoding = encoding,
                              .from = from,
                              .end = stop,
                              .last = last,
                              .records = x->records,
                              .max = x->max,
                              .bytes = x->bytes,
                              .now_ns = 7};
        memset(x->records, 0, (x->max + SPLIT_ROOM) * sizeof *x->records);
        enum split_result rc = split_take(x->split, &j);
        if (rc == SPLIT_OPEN && !last)
            return;
        assert_int_equal(rc, SPLIT_DONE);
        assert_true(j.next > from && j.next <= stop);
        assert_true(j.count <= x->max + SPLIT_ROOM);
        for (size_t i = 0; i < j.count; i++)
            note_record(x, &j.records[i]);
        x->at = (size_t)(j.next - x->buf);
    }
}

/* The input, of which `there` bytes come first. */
static void run(const struct input *in, size_t there, size_t max, size_t bytes, bool restarts) {
    struct source x = {.in = in, .max = max, .bytes = bytes, .restarts = restarts};
    x.len = in->len != 0 ? in->len : strlen(in->bytes);
    x.split = make(in);
    x.buf = calloc(1, x.len + SPLIT_SPARE + 4);
    x.records = calloc(max + SPLIT_ROOM, sizeof *x.records);
    assert_true(x.buf != NULL && x.records != NULL);
    memcpy(x.buf, in->bytes, x.len);
    if (there < x.len)
        take(&x, there, false);
    take(&x, x.len, true);
    if (strcmp(x.got.text, in->want) != 0)
        fail_msg("%s: of %zu bytes %zu first, %zu records at a time:\n%s-- instead of\n%s",
                 in->label, x.len, there, max, x.got.text, in->want);
    split_free(x.split);
    free(x.buf);
    free(x.records);
}

static void the_table_at_every_boundary(void **state) {
    (void)state;
    for (size_t i = 0; i < INPUTS; i++) {
        const struct input *in = &inputs[i];
        size_t n = in->len != 0 ? in->len : strlen(in->bytes);
        for (size_t there = 0; there <= n; there++)
            for (size_t max = 1; max <= 100; max = max < 4 ? max + 1 : max * 25) {
                run(in, there, max, SIZE_MAX, false);
                run(in, there, max, 1, true);
            }
    }
}

/* ---- lines that can't be taken */

static const uint8_t zeros[3 * SPLIT_HOLE_MIN];

static void stops(void **state) {
    (void)state;
    static const struct {
        const char *label, *before;
        size_t holes; /* NULs after it */
        const char *after;
        int rc; /* of the first call */
        const char *first;
        size_t next; /* position */
    } cases[] = {
        {"no hole", "a\nb", SPLIT_HOLE_MIN - 1, "c\n", SPLIT_DONE, NULL, SPLIT_HOLE_MIN + 4},
        {"a hole at the beginning", "", SPLIT_HOLE_MIN, "c\n", SPLIT_HOLE, "", 0},
        {"a hole after lines", "a\n", SPLIT_HOLE_MIN, "c\n", SPLIT_DONE, "a\n", 2},
        {"a hole within a line", "a\nb", SPLIT_HOLE_MIN, "c\n", SPLIT_DONE, "a\nb\n", 3},
        {"a hole within the first line", "b", SPLIT_HOLE_MIN + 1, "c\n", SPLIT_DONE, "b\n", 1},
        {"a hole longer than line_max", "b", 3 * SPLIT_HOLE_MIN, "c\n", SPLIT_DONE, "b\n", 1},
        {"a line that is too long", "", 0, NULL, SPLIT_LONG, "", 0},
        {"a line that is too long, after another", "a\n", 0, NULL, SPLIT_DONE, "a\n", 2},
    };
    static const struct input settings[] = {
        {.settings = {"line_max", "1000"}},
        {.settings = {"line_max", "1000", "blank", "skip"}},
        {.settings = {"line_max", "1000", "format", "json"}},
        {.settings = {"line_max", "1000", "multiline.continue", "^ "}}};
    static uint8_t buf[8192];
    static pawl_record records[10 + SPLIT_ROOM];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t k = 0; k < sizeof settings / sizeof settings[0]; k++) {
            size_t n = strlen(cases[i].before);
            memcpy(buf, cases[i].before, n);
            memcpy(buf + n, zeros, cases[i].holes);
            n += cases[i].holes;
            if (cases[i].after == NULL) {
                memset(buf + n, 'x', 1001);
                n += 1001;
                buf[n++] = '\n';
            } else {
                memcpy(buf + n, cases[i].after, strlen(cases[i].after));
                n += strlen(cases[i].after);
            }
            struct source x = {.in = &settings[k]};
            x.split = make(x.in);
            struct split_job j = {.encoding = SPLIT_BYTES,
                                  .from = buf,
                                  .end = buf + n,
                                  .last = true,
                                  .records = records,
                                  .max = 10,
                                  .bytes = SIZE_MAX,
                                  .now_ns = 7};
            memset(records, 0, sizeof records);
            if (split_take(x.split, &j) != (enum split_result)cases[i].rc ||
                (size_t)(j.next - buf) != cases[i].next)
                fail_msg("%s, settings %zu: stopped at %zu", cases[i].label, k,
                         (size_t)(j.next - buf));
            for (size_t r = 0; r < j.count; r++)
                note_record(&x, &records[r]);
            if (cases[i].first != NULL)
                assert_string_equal(x.got.text, cases[i].first);
            split_free(x.split);
        }
}

static void holes_are_found_at_every_place(void **state) {
    (void)state;
    static uint8_t text[4 * SPLIT_HOLE_MIN];
    for (size_t len = SPLIT_HOLE_MIN - 2; len <= SPLIT_HOLE_MIN + 2; len++)
        for (size_t at = 0; at + len <= sizeof text; at += 7) {
            memset(text, 'x', sizeof text);
            memset(text + at, 0, len);
            text[(at + len + 3) % sizeof text] = 0; /* and a single one */
            const uint8_t *got = lines_hole(text, sizeof text);
            if (len < SPLIT_HOLE_MIN ? got != NULL : got != text + at)
                fail_msg("%zu NULs at %zu: found %td", len, at, got != NULL ? got - text : -1);
        }
}

static void bad_settings(void **state) {
    (void)state;
    static const pawl_setting bad[][2] = {
        {{"line_max", "1", 0}, {"crlf", "true", 0}},
        {{"multiline.begin", "(", 0}, {"crlf", "true", 0}},
        {{"multiline.begin", "^a", 0}, {"multiline.continue", "^b", 0}},
        {{"multiline.max_lines", "0", 0}, {"crlf", "true", 0}},
        {{"multiline.max_bytes", "1", 0}, {"crlf", "true", 0}},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct split *s;
        pawl_error e;
        assert_int_equal(split_make(&connector, &(pawl_settings){bad[i], 2}, &s, &e), PAWL_INVALID);
        assert_null(s);
        assert_true(e.message[0] != 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_at_every_boundary),
        cmocka_unit_test(stops),
        cmocka_unit_test(holes_are_found_at_every_place),
        cmocka_unit_test(bad_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
