/* SPDX-License-Identifier: Apache-2.0
 *
 * The files of a directory: each line once, new files noticed, finished ones remembered, names of
 * any kind, also when killed again and again.
 */
#include "tests/support/source_help.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

static struct feed *begin(const char *follow) {
    struct feed *f = feed_new("dir");
    assert_int_equal(mkdir(f->path, 0700), 0);
    feed_set(f, "path", f->path);
    feed_set(f, "glob", "*.log");
    feed_set(f, "scan", "0ms");
    feed_set(f, "follow", follow);
    return f;
}

static const char *in(struct feed *f, const char *name) {
    static char path[4][300];
    static int turn;
    char *p = path[turn++ % 4];
    snprintf(p, 300, "%s/%s", f->path, name);
    return p;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The stream's lines, sorted. */
static void holds_sorted(struct feed *f, const char *want) {
    size_t n, count = 0;
    char *got = feed_text(f, f->to, &n), *lines[1000], *all = calloc(1, n + 1);
    for (char *p = strtok(got, "\n"); p != NULL && count < 1000; p = strtok(NULL, "\n"))
        lines[count++] = p;
    qsort(lines, count, sizeof *lines, by_text);
    for (size_t i = 0; i < count; i++) {
        strcat(all, lines[i]);
        strcat(all, "\n");
    }
    assert_string_equal(all, want);
    free(all);
    free(got);
}

/* Until nothing comes: time passes between two looks. */
static void drive(struct feed *f) {
    for (int i = 0; i < 3; i++) {
        assert_true(feed_drive(f) >= 0);
        usleep(20000);
    }
}

static void new_files_and_growing_ones(void **state) {
    (void)state;
    struct feed *f = begin("true");
    char strange[220] = "a name with spaces and \xC3\xA4 ";
    memset(strange + strlen(strange), 'n', 150);
    strcat(strange, ".log");
    put_file(in(f, "a.log"), "a1\na2\nhalf");
    put_file(in(f, "no.txt"), "no\n");
    put_file(in(f, "empty.log"), "");
    put_file(in(f, strange), "s1\n");
    feed_begin(f);
    drive(f);
    holds_sorted(f, "a1\na2\ns1\n");
    add_file(in(f, "a.log"), "-a3\n");
    put_file(in(f, "b.log"), "b1\n");
    put_file(in(f, "h-0123456789abcdef.log"), "h1\n");
    drive(f);
    holds_sorted(f, "a1\na2\nb1\nh1\nhalf-a3\ns1\n");
    feed_end(f);
    add_file(in(f, "b.log"), "b2\n");
    add_file(in(f, strange), "s2\n");
    feed_begin(f);
    drive(f);
    holds_sorted(f, "a1\na2\nb1\nb2\nh1\nhalf-a3\ns1\ns2\n");
    pawl_producer_info p;
    int producers = 0;
    for (uint32_t i = 0; pawl_producer_at(f->log, i, &p) == 0; i++)
        producers++;
    assert_int_equal(producers, 4); /* a, b, and two by their hash */
    assert_int_equal(f->warnings, 0);
    feed_free(f);
}

/* Files take turns; one that has had its turn goes on if no other has lines. */
static void only_one_of_them_grows(void **state) {
    (void)state;
    struct feed *f = begin("true");
    char want[6000] = "a\n";
    f->config.batch_records = 2;
    put_file(in(f, "a.log"), "a\n");
    put_file(in(f, "b.log"), "");
    feed_begin(f);
    for (int i = 0; i < 4; i++) {
        char text[1200] = "";
        for (int k = 0; k < 100; k++)
            sprintf(text + strlen(text), "b %03d\n", 100 * i + k);
        strcat(want, text);
        add_file(in(f, "b.log"), text);
        drive(f);
        holds_sorted(f, want);
    }
    assert_int_equal(f->warnings, 0);
    feed_free(f);
}

static void ends_where_all_is_read(void **state) {
    (void)state;
    struct feed *f = begin("false");
    put_file(in(f, "1.log"), "a\nb");
    put_file(in(f, "2.log"), "c\n");
    for (int i = 0; i < 2; i++) {
        feed_begin(f);
        feed_drive(f);
        assert_int_equal(feed_status(f).flow, PAWL_FLOW_ENDED);
        holds_sorted(f, i == 0 ? "a\nb\nc\n" : "a\nb\nc\nd\n");
        feed_end(f);
        put_file(in(f, "3.log"), "d\n");
    }
    feed_set(f, "files", "2");
    feed_begin(f);
    feed_drive(f);
    assert_int_equal(f->warnings, 1);
    feed_end(f);
    feed_set(f, "path", "/tmp/no-such-directory-here");
    feed_begin(f);
    assert_int_equal(feed_drive(f), PAWL_PROCESSOR);
    feed_free(f);
}

static void killed(void **state) {
    (void)state;
    struct feed *f = begin("true");
    char log[80], path[160];
    uint32_t x = 3;
    snprintf(log, sizeof log, "%s/log", f->dir);
    snprintf(path, sizeof path, "path=%s", f->path);
    int kills = 0, pieces = 0;
    for (; kills < 15; kills++) {
        int rc;
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            setenv("PROG_SOURCE_BATCH", "13", 1);
            execl(PAWL_BUILD_DIR "/tests/prog_source", "prog_source", log, "lines", "dir", path,
                  "glob=*.log", "scan=1ms", NULL);
            _exit(9);
        }
        for (int i = 0; i < 10; i++, pieces++) {
            char name[32], text[4000] = "";
            x = x * 1664525u + 1013904223u;
            snprintf(name, sizeof name, "%u.log", (x >> 24) % 7);
            for (int k = 0; k < 100; k++)
                snprintf(text + strlen(text), 40, "%s %d %d\n", name, pieces, k);
            add_file(in(f, name), text);
            usleep((x >> 16) % 16384);
        }
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &rc, 0), child);
        assert_true(WIFSIGNALED(rc));
    }
    f->options.segment_size = 0;
    feed_begin(f);
    drive(f);
    size_t n;
    char *got = feed_text(f, f->to, &n);
    int lines = 0, last[7];
    memset(last, -1, sizeof last);
    for (char *p = strtok(got, "\n"); p != NULL; p = strtok(NULL, "\n"), lines++) {
        int file, piece, k;
        assert_int_equal(sscanf(p, "%d.log %d %d", &file, &piece, &k), 3);
        assert_true(piece * 100 + k > last[file]); /* in order, so none twice */
        last[file] = piece * 100 + k;
    }
    assert_int_equal(lines, pieces * 100);
    free(got);
    feed_free(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_files_and_growing_ones),
        cmocka_unit_test(only_one_of_them_grows),
        cmocka_unit_test(ends_where_all_is_read),
        cmocka_unit_test(killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
