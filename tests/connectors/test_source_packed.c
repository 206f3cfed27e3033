/* SPDX-License-Identifier: Apache-2.0
 *
 * Rotated files that were compressed: the file source finds its place in them and reads them to
 * their end. One that is still being compressed is waited for. What a damaged one lacks is said.
 * The source of a directory passes over compressed files, whatever their names, unless it is told
 * to read them.
 */
#include "tests/support/skip.h"
#include "tests/support/source_help.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/time.h>

#include "connectors/file/decompress.h"

static const struct {
    const char *end, *command;
} formats[] = {{"gz", "gzip"}, {"zst", "zstd -q --rm"}, {"xz", "xz"}, {"bz2", "bzip2"}};
#define FORMATS (sizeof formats / sizeof formats[0])

static char want[100000];

static void sh(struct feed *f, const char *command) {
    char text[1000];
    snprintf(text, sizeof text, "cd '%s' && { %s; } 2>/dev/null", f->dir, command);
    if (system(text) != 0)
        fail_msg("%s", text);
}

/* False: the command is not installed here, or this build lacks the library. */
static bool can_pack(size_t format) {
    char command[100];
    static const char *const magic[] = {"\x1F\x8B\x08", "\x28\xB5\x2F\xFD",
                                        ("\xFD"
                                         "7zXZ"),
                                        "BZh91AY&SY"};
    const struct decompress_format *d = decompress_format(magic[format], strlen(magic[format]));
    snprintf(command, sizeof command, "command -v %.*s >/dev/null",
             (int)strcspn(formats[format].command, " "), formats[format].command);
    return d->available && system(command) == 0;
}

static void pack(struct feed *f, size_t format, const char *name) {
    char command[200];
    snprintf(command, sizeof command, "%s '%s'", formats[format].command, name);
    sh(f, command);
}

/* Appends lines FROM to TO-1, which are to come. */
static void lines(struct feed *f, int from, int to) {
    FILE *out = fopen(f->path, "a");
    assert_non_null(out);
    for (int i = from; i < to; i++) {
        fprintf(out, "line %d\n", i);
        snprintf(want + strlen(want), 20, "line %d\n", i);
    }
    assert_int_equal(fclose(out), 0);
}

static struct feed *begin(const char *type) {
    struct feed *f = feed_new(type);
    want[0] = 0;
    feed_set(f, "path", strcmp(type, "dir") == 0 ? f->dir : f->path);
    feed_set(f, "rotate_wait", "0ms");
    if (strcmp(type, "dir") == 0)
        feed_set(f, "glob", "in*");
    return f;
}

static void all_came(struct feed *f, const char *label, uint32_t warnings) {
    for (int i = 0; i < 50; i++) {
        assert_true(feed_drive(f) >= 0);
        size_t n;
        char *got = feed_text(f, f->to, &n);
        bool well = strcmp(got, want) == 0;
        free(got);
        if (well)
            break;
        usleep(20000);
    }
    print_message("%s\n", label);
    assert_true(feed_drive(f) >= 0);
    feed_holds(f, want);
    if (f->warnings != warnings)
        fail_msg("%u warnings instead of %u; the last: %s", f->warnings, warnings, f->warning);
}

/* ---- rotation and compression */

static void rotated_while_stopped(void **state) {
    (void)state;
    for (size_t k = 0; k < FORMATS; k++)
        for (int times = 1; times <= 3; times++) {
            struct feed *f = begin("file");
            if (!can_pack(k)) {
                feed_free(f);
                continue;
            }
            lines(f, 0, 300);
            feed_begin(f);
            feed_drive(f);
            feed_end(f);
            for (int i = 0; i < times; i++) {
                lines(f, 300 + 100 * i, 400 + 100 * i);
                char command[100];
                snprintf(command, sizeof command,
                         "for i in 2 1; do [ ! -e in.$i.%s ] || mv in.$i.%s in.$((i+1)).%s; done; "
                         "mv in in.1",
                         formats[k].end, formats[k].end, formats[k].end);
                sh(f, command);
                usleep(10000); /* the modification times differ */
                pack(f, k, "in.1");
            }
            lines(f, 700, 710);
            feed_begin(f);
            all_came(f, formats[k].end, 0);
            feed_end(f);
            lines(f, 710, 720);
            feed_begin(f);
            all_came(f, "and later", 0);
            feed_free(f);
        }
}

/* A restart after each record, in the middle of the archive. */
static void restarted_within(void **state) {
    (void)state;
    struct feed *f = begin("file");
    if (!can_pack(0)) {
        feed_free(f);
        SKIP("no command to compress with, or no library for it");
    }
    f->config.batch_records = 3;
    lines(f, 0, 10);
    feed_begin(f);
    feed_drive(f);
    feed_end(f);
    lines(f, 10, 40);
    sh(f, "mv in in.1; gzip in.1");
    lines(f, 40, 50);
    for (int i = 0; i < 40; i++) {
        feed_begin(f);
        assert_true(pawl_source_step(f->source) >= 0);
        assert_true(pawl_source_step(f->source) >= 0);
        feed_end(f);
    }
    feed_begin(f);
    all_came(f, "restarted", 0);
    feed_free(f);
}

static void rotated_while_running(void **state) {
    (void)state;
    for (int how = 0; how < 4; how++) {
        struct feed *f = begin("file");
        if (!can_pack(0)) {
            feed_free(f);
            SKIP("no command to compress with, or no library for it");
        }
        feed_set(f, "rotate_wait", how & 2 ? "1h" : "0ms");
        lines(f, 0, 300);
        feed_begin(f);
        feed_drive(f);
        for (int i = 1; i <= 3; i++) {
            lines(f, 300 * i, 300 * i + 100);
            sh(f, "for i in 3 2 1; do [ ! -e in.$i.gz ] || mv in.$i.gz in.$((i+1)).gz; done; "
                  "mv in in.1");
            if (how & 1) /* it is seen before it is compressed */
                feed_drive(f);
            sh(f, "gzip in.1");
            lines(f, 300 * i + 100, 300 * i + 110);
            feed_drive(f);
        }
        all_came(f, "running", 0);
        feed_free(f);
    }
}

/* Two rotations come at once, and the process ends after some steps; then the file between, which
 * was seen but not read, is compressed. */
static void compressed_after_it_was_seen(void **state) {
    (void)state;
    if (!can_pack(0))
        SKIP("no command to compress with, or no library for it");
    for (int steps = 1; steps <= 10; steps++)
        for (int both = 0; both <= 1; both++) {
            struct feed *f = begin("file");
            feed_set(f, "rotate_wait", "1h");
            f->config.batch_records = 100;
            lines(f, 0, 300);
            feed_begin(f);
            feed_drive(f);
            sh(f, "mv in in.2");
            lines(f, 300, 600);
            sh(f, "mv in in.1");
            lines(f, 600, 610);
            for (int i = 0; i < steps; i++)
                assert_true(pawl_source_step(f->source) >= 0);
            feed_end(f);
            sh(f, both ? "gzip in.1 in.2" : "gzip in.1");
            feed_begin(f);
            all_came(f, "seen", 0);
            feed_free(f);
        }
}

static void copied_truncated_and_compressed(void **state) {
    (void)state;
    for (int live = 0; live <= 1; live++) {
        struct feed *f = begin("file");
        if (!can_pack(0)) {
            feed_free(f);
            SKIP("no command to compress with, or no library for it");
        }
        lines(f, 0, 300);
        feed_begin(f);
        feed_drive(f);
        if (!live)
            feed_end(f);
        lines(f, 300, 400);
        sh(f, "cp -p in in.1; truncate -s 0 in; gzip in.1");
        lines(f, 400, 410);
        if (!live)
            feed_begin(f);
        all_came(f, live ? "running" : "stopped", 0);
        feed_free(f);
    }
}

/* ---- archives that aren't whole, or aren't archives */

static struct feed *stopped_before(void) {
    struct feed *f = begin("file");
    lines(f, 0, 300);
    feed_begin(f);
    feed_drive(f);
    feed_end(f);
    lines(f, 300, 5000);
    return f;
}

static void still_being_compressed(void **state) {
    (void)state;
    if (!can_pack(0))
        SKIP("no command to compress with, or no library for it");
    /* beside the plain file */
    struct feed *f = stopped_before();
    sh(f, "mv in in.1; gzip -c in.1 >whole; head -c 1000 whole >in.1.gz");
    lines(f, 5000, 5010);
    feed_begin(f);
    all_came(f, "beside the plain file", 0);
    sh(f, "cp whole in.1.gz; rm in.1");
    lines(f, 5010, 5020);
    all_came(f, "and when it is done", 0);
    feed_free(f);
    /* the plain file is gone: what is there comes, the rest when it is there */
    f = stopped_before();
    sh(f, "mv in in.1; gzip in.1; head -c 6000 in.1.gz >part; tail -c +6001 in.1.gz >rest; "
          "mv part in.1.gz");
    feed_begin(f);
    feed_drive(f);
    size_t n;
    char *got = feed_text(f, f->to, &n);
    assert_true(n > 10000 && n < strlen(want) && memcmp(got, want, n) == 0);
    free(got);
    assert_int_equal(f->warnings, 0);
    sh(f, "cat rest >>in.1.gz");
    lines(f, 5000, 5010);
    all_came(f, "in two parts", 0);
    feed_free(f);
}

/* Newer lines don't wait for the rest of an archive that is incomplete. */
static void an_incomplete_archive_delays_nothing(void **state) {
    (void)state;
    if (!can_pack(0))
        SKIP("no command to compress with, or no library for it");
    struct feed *f = stopped_before();
    size_t n;
    sh(f, "mv in in.1; gzip in.1; head -c 6000 in.1.gz >part; tail -c +6001 in.1.gz >rest; "
          "mv part in.1.gz; touch in.1.gz; echo newer >in");
    feed_begin(f);
    feed_drive(f);
    char *got = feed_text(f, f->to, &n);
    assert_non_null(strstr(got, "\nnewer\n"));
    assert_null(strstr(got, "line 4999\n"));
    free(got);
    sh(f, "cat rest >>in.1.gz");
    feed_drive(f);
    got = feed_text(f, f->to, &n);
    assert_int_equal(n, strlen(want) + strlen("newer\n"));
    assert_non_null(strstr(got, "line 4999\n"));
    free(got);
    assert_int_equal(f->warnings, 0);
    feed_free(f);
}

/* An archive gets no more lines, so its last one needs no line end, and waits for nothing. */
static void the_last_line_of_an_archive(void **state) {
    (void)state;
    if (!can_pack(0))
        SKIP("no command to compress with, or no library for it");
    struct feed *f = begin("file");
    feed_set(f, "rotate_wait", "1h");
    lines(f, 0, 300);
    feed_begin(f);
    feed_drive(f);
    feed_end(f);
    sh(f, "printf 'no end' >>in; touch -d '1 hour ago' in; mv in in.1; gzip in.1");
    strcat(want, "no end\n");
    lines(f, 300, 310);
    feed_begin(f);
    all_came(f, "no line end", 0);
    feed_end(f);
    feed_begin(f);
    all_came(f, "again", 0);
    feed_free(f);
}

static void cut_or_damaged(void **state) {
    (void)state;
    if (!can_pack(0))
        SKIP("no command to compress with, or no library for it");
    for (int damaged = 0; damaged <= 1; damaged++) {
        struct feed *f = stopped_before();
        sh(f, "mv in in.1; gzip in.1");
        sh(f, damaged ? "printf xxxxxxxx | dd of=in.1.gz bs=1 seek=6000 conv=notrunc"
                      : "truncate -s 6000 in.1.gz; touch -d '1 day ago' in.1.gz");
        feed_begin(f);
        feed_drive(f);
        size_t n, k;
        char *got = feed_text(f, f->to, &n);
        assert_true(n > 10000 && n < strlen(want));
        assert_int_equal(f->warnings, 1);
        assert_non_null(strstr(f->warning, damaged ? "damaged near byte" : "ends in the middle"));
        assert_non_null(strstr(f->warning, "uncompressed bytes"));
        for (k = 0; k < n && got[k] == want[k];)
            k++;
        assert_true(k + 20000 > n); /* a damaged block may give wrong bytes at its end */
        assert_int_equal(got[n - 1], '\n');
        free(got);
        want[0] = 0;
        lines(f, 5000, 5010);
        feed_drive(f);
        got = feed_text(f, f->to, &k);
        assert_string_equal(got + n, want);
        assert_int_equal(f->warnings, 1);
        free(got);
        feed_free(f);
    }
}

static void a_name_says_nothing(void **state) {
    (void)state;
    if (!can_pack(0))
        SKIP("no command to compress with, or no library for it");
    struct feed *f = stopped_before();
    sh(f, "mv in in.1.gz"); /* plain */
    lines(f, 5000, 5010);
    feed_begin(f);
    all_came(f, "plain under the name of an archive", 0);
    feed_free(f);
    f = stopped_before();
    sh(f, "gzip -c in >in.1; rm in");
    lines(f, 5000, 5010);
    feed_begin(f);
    all_came(f, "an archive under a plain name", 0);
    feed_free(f);
    f = begin("file");
    lines(f, 0, 300);
    sh(f, "gzip -c in >x; mv x in");
    feed_set(f, "follow", "false");
    feed_begin(f);
    all_came(f, "the path itself", 0);
    assert_int_equal(feed_status(f).flow, PAWL_FLOW_ENDED);
    feed_free(f);
}

static void a_format_that_nothing_reads(void **state) {
    (void)state;
    struct feed *f = stopped_before();
    sh(f, "printf '\\004\\042\\115\\030 and more' >in.1.lz4; rm in");
    want[strstr(want, "line 300") - want] = 0;
    lines(f, 5000, 5010);
    feed_begin(f);
    all_came(f, "lz4", 2);
    assert_non_null(strstr(f->warning, "no file has the bytes before offset"));
    feed_free(f);
}

/* ---- directories */

static void a_directory_passes_over(void **state) {
    (void)state;
    if (!can_pack(0))
        SKIP("no command to compress with, or no library for it");
    for (int named = 0; named <= 1; named++)
        for (int told = 0; told <= 1; told++) {
            struct feed *f = begin("dir");
            if (told)
                feed_set(f, "compressed", "read");
            lines(f, 0, 300);
            sh(f, named ? "gzip -c in >in-old.gz; rm in" : "gzip -c in >in-old; rm in");
            if (!told)
                want[0] = 0;
            feed_begin(f);
            feed_drive(f);
            lines(f, 300, 310);
            all_came(f, told ? "read" : "passed over", 0);
            feed_end(f);
            feed_begin(f);
            all_came(f, "again", 0);
            feed_free(f);
        }
}

/* What was read of a file isn't read again when it is compressed; its rest is. */
static void a_file_of_a_directory_is_compressed(void **state) {
    (void)state;
    if (!can_pack(0))
        SKIP("no command to compress with, or no library for it");
    for (int how = 0; how < 8; how++) {
        struct feed *f = begin("dir");
        bool live = how & 1, told = how & 2, rest = how & 4;
        if (told)
            feed_set(f, "compressed", "read");
        lines(f, 0, 300);
        feed_begin(f);
        feed_drive(f);
        if (!live)
            feed_end(f);
        if (rest)
            lines(f, 300, 400);
        sh(f, "mv in in.1; gzip in.1");
        lines(f, 400, 410);
        if (!live)
            feed_begin(f);
        all_came(f, "dir", 0);
        feed_end(f);
        feed_begin(f);
        all_came(f, "dir again", 0);
        feed_free(f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rotated_while_stopped),
        cmocka_unit_test(restarted_within),
        cmocka_unit_test(rotated_while_running),
        cmocka_unit_test(compressed_after_it_was_seen),
        cmocka_unit_test(copied_truncated_and_compressed),
        cmocka_unit_test(still_being_compressed),
        cmocka_unit_test(an_incomplete_archive_delays_nothing),
        cmocka_unit_test(the_last_line_of_an_archive),
        cmocka_unit_test(cut_or_damaged),
        cmocka_unit_test(a_name_says_nothing),
        cmocka_unit_test(a_format_that_nothing_reads),
        cmocka_unit_test(a_directory_passes_over),
        cmocka_unit_test(a_file_of_a_directory_is_compressed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
