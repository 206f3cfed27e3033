/* SPDX-License-Identifier: Apache-2.0
 *
 * The sources `file` and `dir` while their files are renamed, replaced, truncated, removed, linked
 * elsewhere or can't be read for a while: each line comes once, in order, as long as its bytes
 * exist; and where bytes are gone, a warning says so.
 */
#include "tests/support/source_help.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "tests/support/measure.h"

/* ---- what the tests do to files */

static char want[200000];

static const char *at(struct feed *f, const char *name) {
    static char path[8][300];
    static int turn;
    char *p = path[turn++ % 8];
    snprintf(p, 300, "%s/w/%s", f->dir, name);
    return p;
}

/* Runs a shell command in the directory of the files. */
static void sh(struct feed *f, const char *command) {
    char text[1200];
    snprintf(text, sizeof text, "cd '%s/w' && { %s; }", f->dir, command);
    if (system(text) != 0)
        fail_msg("%s", text);
}

/* Appends lines FROM to TO-1 to a file; `expect`: they are to come. */
static void lines(struct feed *f, const char *name, int from, int to, bool expect) {
    FILE *out = fopen(at(f, name), "a");
    assert_non_null(out);
    for (int i = from; i < to; i++) {
        fprintf(out, "line %d\n", i);
        if (expect)
            sprintf(want + strlen(want), "line %d\n", i);
    }
    assert_int_equal(fclose(out), 0);
}

/* Steps until the stream holds `want`, for at most 10 seconds, and then a little longer. */
static void comes(struct feed *f) {
    size_t n;
    for (uint64_t begun = now_ms(); now_ms() - begun < 10000; usleep(5000)) {
        assert_true(feed_drive(f) >= 0);
        char *got = feed_text(f, f->to, &n);
        bool well = strcmp(got, want) == 0;
        free(got);
        if (well)
            break;
    }
    for (int i = 0; i < 5; i++, usleep(5000))
        assert_true(feed_drive(f) >= 0);
    feed_holds(f, want);
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort(char *text) {
    char *copy = strdup(text), *line[20000];
    size_t n = 0;
    for (char *p = strtok(copy, "\n"); p != NULL; p = strtok(NULL, "\n"))
        line[n++] = p;
    qsort(line, n, sizeof *line, by_text);
    text[0] = 0;
    for (size_t i = 0; i < n; i++)
        text += sprintf(text, "%s\n", line[i]);
    free(copy);
}

/* As comes(), in any order. */
static void comes_sorted(struct feed *f) {
    size_t n;
    char *sorted = strdup(want);
    sort(sorted);
    for (uint64_t begun = now_ms();; usleep(5000)) {
        assert_true(feed_drive(f) >= 0);
        char *got = feed_text(f, f->to, &n);
        sort(got);
        bool well = strcmp(got, sorted) == 0;
        if (!well && now_ms() - begun > 10000)
            fail_msg("it holds\n%.3000s\ninstead of\n%.3000s", got, sorted);
        free(got);
        if (well)
            break;
    }
    for (int i = 0; i < 5; i++, usleep(5000))
        assert_true(feed_drive(f) >= 0);
    char *got = feed_text(f, f->to, &n);
    sort(got);
    assert_string_equal(got, sorted);
    free(got);
    free(sorted);
}

static void make_place(struct feed *f) {
    char path[200];
    snprintf(path, sizeof path, "%s/w", f->dir);
    assert_int_equal(mkdir(path, 0700), 0);
}

static struct feed *follow(const char *type, const char *place) {
    char path[200];
    struct feed *f = feed_new(type);
    want[0] = 0;
    snprintf(path, sizeof path, "%s/w", f->dir);
    assert_int_equal(mkdir(path, 0700), 0);
    if (strcmp(type, "dir") == 0) {
        feed_set(f, "path", path);
        feed_set(f, "glob", place);
        feed_set(f, "scan", "0ms");
    } else
        feed_set(f, "path", at(f, place));
    return f;
}

static void again(struct feed *f) {
    feed_end(f);
    feed_begin(f);
}

/* ---- replaced by a copy */

static const char *const copies[] = {
    "cp app t; echo 'line 300' >>t; mv t app",         /* rsync */
    "mv app app~; cp app~ app; echo 'line 300' >>app", /* an editor, with a backup */
    "ln app app.old; cp app t; echo 'line 300' >>t; mv t app",
    "cp app t; rm app; cp t app; rm t; echo 'line 300' >>app",
};

static void replaced_by_a_longer_copy(void **state) {
    (void)state;
    for (size_t how = 0; how < sizeof copies / sizeof *copies; how++)
        for (int type = 0; type <= 1; type++)
            for (int live = 0; live <= 1; live++) {
                struct feed *f = follow(type ? "dir" : "file", "app");
                lines(f, "app", 0, 300, true);
                feed_begin(f);
                comes(f);
                if (!live)
                    feed_end(f);
                sh(f, copies[how]);
                strcat(want, "line 300\n");
                if (!live)
                    feed_begin(f);
                comes(f);
                lines(f, "app", 301, 310, true);
                comes(f);
                again(f);
                lines(f, "app", 310, 320, true);
                comes(f);
                assert_int_equal(f->warnings, 0);
                feed_free(f);
            }
}

/* A copy made from an older state, with other lines after it; and a shorter one. */
static void replaced_by_an_older_copy(void **state) {
    (void)state;
    for (int shorter = 0; shorter <= 1; shorter++) {
        struct feed *f = follow("file", "app");
        lines(f, "app", 0, 200, true);
        sh(f, "cp app t");
        lines(f, "app", 200, 300, true);
        feed_begin(f);
        comes(f);
        if (!shorter)
            sh(f, "echo other >>t; mv t app");
        else
            sh(f, "mv t app");
        if (!shorter)
            strcat(want, "other\n");
        comes(f);
        if (shorter)
            for (uint64_t begun = now_ms(); now_ms() - begun < 3500; usleep(20000))
                feed_drive(f);
        lines(f, "app", 400, 410, true);
        comes(f);
        again(f);
        lines(f, "app", 410, 420, true);
        comes(f);
        assert_int_equal(f->warnings, 0);
        feed_free(f);
    }
}

/* The writer still has the replaced file open and goes on there. */
static void the_replaced_file_still_grows(void **state) {
    (void)state;
    struct feed *f = follow("file", "app");
    lines(f, "app", 0, 300, true);
    feed_begin(f);
    comes(f);
    FILE *writer = fopen(at(f, "app"), "a");
    assert_non_null(writer);
    sh(f, "cp app t; echo 'line 300' >>t; mv t app");
    strcat(want, "line 300\n");
    comes(f);
    fputs("held 1\n", writer);
    fflush(writer);
    strcat(want, "held 1\n");
    comes(f);
    lines(f, "app", 301, 305, true);
    comes(f);
    fputs("held 2\n", writer);
    fclose(writer);
    strcat(want, "held 2\n");
    comes(f);
    assert_int_equal(f->warnings, 0);
    feed_free(f);
}

/* A removed file was read to its end; the copy that its position moves into isn't at its end. */
static void the_end_of_a_removed_file_is_its_own(void **state) {
    (void)state;
    struct feed *f = follow("file", "app");
    lines(f, "app", 0, 100, true);
    feed_begin(f);
    comes(f);
    sh(f, "cp app t; rm app");
    comes(f); /* nameless, and at its end */
    sh(f, "mv t app");
    comes(f);
    feed_end(f);
    sh(f, "cp app app.1; echo 'line 100' >>app.1; rm app; echo 'line 101' >app");
    strcat(want, "line 100\nline 101\n");
    sh(f, "mkdir ../place; mv * ../place"); /* an empty directory says nothing */
    feed_begin(f);
    assert_true(feed_drive(f) >= 0);
    sh(f, "mv ../place/* .; rmdir ../place");
    comes(f);
    assert_int_equal(f->warnings, 0);
    feed_free(f);
}

/* Two positions are in bytes that one copy has: it continues the one that is further. */
static void a_copy_continues_the_furthest(void **state) {
    (void)state;
    struct feed *f = follow("dir", "app");
    lines(f, "app", 0, 1, true);
    feed_begin(f);
    comes(f);
    sh(f, "mv app app~; cp app~ app"); /* so little proves no copy: said, and read again */
    strcat(want, "line 0\n");
    lines(f, "app", 1, 50, true);
    comes(f);
    assert_int_equal(f->warnings, 1);
    feed_end(f);
    sh(f, "cp app t; rm app app~; mv t app.1; echo 'line 50' >>app.1; echo 'line 51' >app");
    strcat(want, "line 50\nline 51\n");
    feed_begin(f);
    comes(f);
    assert_int_equal(f->warnings, 1);
    feed_free(f);
}

/* A short file became a backup, and its copy was rotated: nothing proves that, so it is said. */
static void a_short_backup_of_a_rotated_file(void **state) {
    (void)state;
    struct feed *f = follow("dir", "app*");
    lines(f, "app", 0, 1, true);
    feed_begin(f);
    comes(f);
    feed_end(f);
    sh(f, "mv app app~; cp app~ app");
    strcat(want, "line 0\n");
    lines(f, "app", 1, 20, true);
    sh(f, "mv app app.1");
    lines(f, "app", 20, 30, true);
    feed_begin(f);
    comes_sorted(f);
    assert_int_equal(f->warnings, 1);
    assert_non_null(strstr(f->warning, "come twice"));
    feed_free(f);
}

/* ---- rotation */

/* A new file's heading is a line of its own, though that of a removed rotated one is the same. */
static void a_heading_after_a_removed_rotation(void **state) {
    (void)state;
    struct feed *f = follow("file", "app");
    sh(f, "echo heading >app; echo 'line 0' >>app");
    strcat(want, "heading\nline 0\n");
    feed_begin(f);
    comes(f);
    sh(f, "mv app app.1");
    comes(f);
    sh(f, "rm app.1; echo heading >app"); /* it is still held */
    strcat(want, "heading\n");
    for (int i = 0; i < 3; i++)
        assert_true(feed_drive(f) >= 0);
    feed_holds(f, want); /* nothing holds it back */
    assert_int_equal(f->warnings, 0);
    feed_free(f);
}

/* A new file without a line may be a copy that is about to be written. Those after it don't wait
 * for that, and what is written to it later comes nevertheless. */
static void an_empty_file_keeps_nothing_waiting(void **state) {
    (void)state;
    struct feed *f = follow("file", "app");
    lines(f, "app", 0, 5, true);
    feed_begin(f);
    comes(f);
    sh(f, "rm app; : >app");
    assert_true(feed_drive(f) >= 0);
    sh(f, "mv app app.1");
    lines(f, "app", 5, 10, true);
    for (int i = 0; i < 3; i++)
        assert_true(feed_drive(f) >= 0);
    feed_holds(f, want); /* sooner than a copy would have been given up */
    lines(f, "app.1", 10, 12, true);
    comes(f);
    again(f);
    lines(f, "app.1", 12, 14, true);
    lines(f, "app", 14, 16, true);
    comes_sorted(f);
    assert_int_equal(f->warnings, 0);
    feed_free(f);
}

/* The writer is told late: it goes on in the renamed file, while the new one already grows. */
static void rotated_under_a_slow_writer(void **state) {
    (void)state;
    static const char *const globs[] = {"app", "app*"};
    for (int type = 0; type <= 2; type++)
        for (int restart = 0; restart <= 1; restart++) {
            struct feed *f =
                follow(type != 0 ? "dir" : "file", type != 0 ? globs[type - 1] : "app");
            lines(f, "app", 0, 100, true);
            feed_begin(f);
            comes(f);
            FILE *writer = fopen(at(f, "app"), "a");
            assert_non_null(writer);
            for (int i = 0; i < 3; i++) {
                sh(f, "[ ! -e app.2 ] || mv app.2 app.3; [ ! -e app.1 ] || mv app.1 app.2; "
                      "mv app app.1; : >app");
                fprintf(writer, "late %d\n", i);
                fflush(writer);
                sprintf(want + strlen(want), "late %d\n", i);
                comes(f);
                lines(f, "app", 1000 * i, 1000 * i + 50, true); /* doesn't wait for the old one */
                comes(f);
                if (restart)
                    again(f);
                fprintf(writer, "later %d\n", i);
                fclose(writer);
                sprintf(want + strlen(want), "later %d\n", i);
                comes(f);
                writer = fopen(at(f, "app"), "a");
                assert_non_null(writer);
            }
            fclose(writer);
            assert_true(feed_producers(f) <= 4);
            assert_int_equal(f->warnings, 0);
            feed_free(f);
        }
}

static void copied_and_truncated(void **state) {
    (void)state;
    static const char *const globs[] = {"app", "app*"};
    for (int type = 0; type <= 2; type++)
        for (int live = 0; live <= 1; live++) {
            struct feed *f =
                follow(type != 0 ? "dir" : "file", type != 0 ? globs[type - 1] : "app");
            lines(f, "app", 0, 100, true);
            feed_begin(f);
            comes_sorted(f);
            for (int i = 1; i <= 3; i++) {
                if (!live)
                    feed_end(f);
                lines(f, "app", 100 * i, 100 * i + 50, true);
                sh(f, "[ ! -e app.2 ] || mv app.2 app.3; [ ! -e app.1 ] || mv app.1 app.2; "
                      "cp app app.1");
                if (live) /* seen between the copy and the truncation */
                    for (int k = 0; k < 5; k++, usleep(2000))
                        feed_drive(f);
                assert_int_equal(truncate(at(f, "app"), 0), 0);
                lines(f, "app", 100 * i + 50, 100 * i + 60, true);
                if (!live)
                    feed_begin(f);
                comes_sorted(f);
            }
            assert_int_equal(f->warnings, 0);
            feed_free(f);
        }
}

static void drive_for(struct feed *f, uint64_t ms) {
    for (uint64_t begun = now_ms(); now_ms() - begun < ms; usleep(5000))
        assert_true(feed_drive(f) >= 0);
}

/* Both the copy and the file that it was made from are new: the source was behind. */
static void copied_before_it_was_seen(void **state) {
    (void)state;
    static const char *const globs[] = {"app", "app*"};
    for (int type = 0; type <= 2; type++)
        for (int kept = 0; kept <= (type == 0 ? 1 : 0); kept++) {
            struct feed *f =
                follow(type != 0 ? "dir" : "file", type != 0 ? globs[type - 1] : "app");
            lines(f, "app", 0, 10, true);
            feed_begin(f);
            comes_sorted(f);
            feed_end(f);
            sh(f, "mv app app.2");
            lines(f, "app", 10, 60, true);
            usleep(10000);
            sh(f, ": >app.1"); /* the copy has begun */
            feed_begin(f);
            drive_for(f, 50);
            sh(f, "cat app >app.1");
            if (kept) { /* it goes on, and is not truncated */
                lines(f, "app", 60, 70, true);
                drive_for(f, 3500);
            } else {
                drive_for(f, 50);
                assert_int_equal(truncate(at(f, "app"), 0), 0);
                lines(f, "app", 100, 110, true);
            }
            comes_sorted(f);
            again(f);
            lines(f, "app", 110, 120, true);
            comes_sorted(f);
            assert_int_equal(f->warnings, 0);
            feed_free(f);
        }
}

/* While it was stopped: first without a copy, then with copies. */
static void truncated_several_times(void **state) {
    (void)state;
    for (int type = 0; type <= 1; type++)
        for (int renamed = 0; renamed <= 1; renamed++) {
            struct feed *f = follow(type ? "dir" : "file", "app");
            lines(f, "app", 0, 100, true);
            feed_begin(f);
            comes_sorted(f);
            feed_end(f);
            usleep(10000);
            assert_int_equal(truncate(at(f, "app"), 0), 0);
            lines(f, "app", 200, 300, true);
            sh(f, "cp app app.2; : >app");
            lines(f, "app", 300, 400, true);
            sh(f, "cp app app.1; : >app");
            lines(f, "app", 400, 410, true);
            if (renamed) /* an editor's backup */
                sh(f, "mv app app~; echo 'line 500' >app");
            if (renamed)
                strcat(want, "line 500\n");
            feed_begin(f);
            comes_sorted(f);
            assert_int_equal(f->warnings, 1);
            assert_non_null(strstr(f->warning, "before offset 790"));
            again(f);
            lines(f, "app", 600, 610, true);
            comes_sorted(f);
            assert_int_equal(f->warnings, 1);
            feed_free(f);
        }
}

/* Too little was read to prove that the new file is a copy. */
static void a_copy_of_a_line_is_told(void **state) {
    (void)state;
    for (int type = 0; type <= 1; type++) {
        struct feed *f = follow(type ? "dir" : "file", "app");
        lines(f, "app", 0, 1, true);
        feed_begin(f);
        comes(f);
        sh(f, "ln app app.old; cp app t; mv t app");
        strcat(want, "line 0\n"); /* again */
        lines(f, "app", 1, 2, true);
        comes(f);
        assert_int_equal(f->warnings, 1);
        assert_non_null(strstr(f->warning, "same 7 bytes"));
        assert_non_null(strstr(f->warning, "come twice"));
        feed_free(f);
    }
}

/* Every file begins with the same line. */
static void rotated_with_a_heading(void **state) {
    (void)state;
    for (int how = 0; how <= 1; how++)
        for (int live = 0; live <= 1; live++) {
            struct feed *f = follow("file", "app");
            feed_set(f, "rotate_wait", "0ms");
            sh(f, "echo heading >app");
            strcpy(want, "heading\n");
            feed_begin(f);
            comes(f);
            for (int i = 0; i < 3; i++) {
                if (!live)
                    feed_end(f);
                if (i != 1)
                    lines(f, "app", 10 * i, 10 * i + 3, true);
                sh(f, "[ ! -e app.1 ] || mv app.1 app.2");
                sh(f, how == 0 ? "mv app app.1; echo heading >app"
                               : "cp app app.1; : >app; echo heading >>app");
                strcat(want, how == 1 && live && i == 1 ? "" : "heading\n");
                if (!live)
                    feed_begin(f);
                if (how == 1 && i == 1)
                    break; /* nothing was written but what is there again: can't be seen */
                comes(f);
            }
            assert_int_equal(f->warnings, 0);
            feed_free(f);
        }
}

/* Several rotations while it was stopped; the oldest were removed. */
static void what_rotation_removed_is_told(void **state) {
    (void)state;
    struct feed *f = follow("file", "app");
    lines(f, "app", 0, 100, true);
    feed_begin(f);
    comes(f);
    feed_end(f);
    lines(f, "app", 100, 200, false);
    sh(f, "rm app");
    sh(f, "echo x >taken");
    lines(f, "app.1", 200, 300, true);
    lines(f, "app", 300, 400, true);
    feed_begin(f);
    comes(f);
    assert_int_equal(f->warnings, 1);
    assert_non_null(strstr(f->warning, "before offset 790"));
    again(f);
    comes(f);
    assert_int_equal(f->warnings, 1);
    feed_free(f);
}

/* ---- a directory */

static void names_come_and_go(void **state) {
    (void)state;
    struct feed *f = follow("dir", "*.log");
    feed_set(f, "files", "3");
    feed_set(f, "rotate_wait", "0ms");
    feed_begin(f);
    for (int i = 0; i < 12; i++) {
        char name[16], command[64];
        snprintf(name, sizeof name, "%d.log", i);
        lines(f, name, 10 * i, 10 * i + 7, true);
        comes(f);
        snprintf(command, sizeof command, "rm %s", name);
        sh(f, command);
        for (int k = 0; k < 5; k++, usleep(2000))
            feed_drive(f);
        if (i % 4 == 3)
            again(f);
    }
    assert_true(feed_producers(f) <= 3);
    assert_int_equal(f->warnings, 0);
    feed_free(f);
}

static void places_that_come_later(void **state) {
    (void)state;
    for (int type = 0; type <= 1; type++) {
        struct feed *f = follow(type ? "dir" : "file", type ? "*" : "app");
        sh(f, "rmdir ../w");
        feed_begin(f);
        comes(f);
        make_place(f);
        comes(f);
        lines(f, "app", 0, 10, true);
        comes(f);
        sh(f, "rm -r ../w"); /* and is made again */
        comes(f);
        make_place(f);
        lines(f, "app", 10, 20, true);
        comes(f);
        assert_int_equal(f->warnings, 0);
        feed_free(f);
    }
}

/* ---- links */

static void links_are_switched(void **state) {
    (void)state;
    for (int behind = 0; behind <= 1; behind++)
        for (int live = 0; live <= 1; live++) {
            struct feed *f = follow("file", behind ? "current/app" : "app");
            sh(f, "mkdir r1 r2");
            lines(f, "r1/app", 0, 10, true);
            sh(f, behind ? "ln -s r1 current" : "ln -s r1/app app");
            feed_begin(f);
            comes(f);
            if (!live)
                feed_end(f);
            lines(f, "r1/app", 10, 20, true);
            sh(f, "mv r1/app r1/app.1");
            lines(f, "r1/app", 20, 30, true);
            if (live)
                comes(f);
            else if (!behind) {
                feed_begin(f);
                comes(f);
                feed_end(f);
            }
            if (behind && !live) { /* nothing names a rotated file of a release that was left */
                feed_begin(f);
                comes(f);
                feed_end(f);
            }
            lines(f, "r1/app", 30, 40, true);
            lines(f, "r2/app", 40, 50, true);
            sh(f, behind ? "ln -sfn r2 current" : "ln -sfn r2/app app");
            if (!live)
                feed_begin(f);
            comes(f);
            assert_int_equal(f->warnings, 0);
            feed_free(f);
        }
}

/* Beside the target of a link is what was rotated more than once while the source was down. */
static void rotated_beside_the_target(void **state) {
    (void)state;
    struct feed *f = follow("file", "app");
    sh(f, "mkdir r1 && ln -s r1/app app");
    lines(f, "r1/app", 0, 10, true);
    feed_begin(f);
    comes(f);
    feed_end(f);
    lines(f, "r1/app", 10, 20, true);
    sh(f, "mv r1/app r1/app.1");
    lines(f, "r1/app", 20, 30, true);
    sh(f, "mv r1/app.1 r1/app.2; mv r1/app r1/app.1");
    lines(f, "r1/app", 30, 40, true);
    feed_begin(f);
    comes(f);
    assert_int_equal(f->warnings, 0);
    feed_free(f);
}

/* ---- errors that pass */

static void too_many_open_files(void **state) {
    (void)state;
    struct feed *f = follow("file", "app");
    lines(f, "app", 0, 10, true);
    feed_begin(f);
    comes(f);
    struct rlimit old, none;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    sh(f, "mv app app.1");
    lines(f, "app", 10, 20, true);
    none = (struct rlimit){3, old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    for (int i = 0; i < 10; i++, usleep(1000))
        if (pawl_source_step(f->source) < 0)
            break;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(f->warnings, 1);
    assert_non_null(strstr(feed_status(f).target, "waiting"));
    comes(f);
    assert_int_equal(f->warnings, 1);
    assert_null(strstr(feed_status(f).target, "waiting"));
    feed_free(f);
}

static void unreadable_for_a_while(void **state) {
    (void)state;
    if (getuid() == 0) { /* root reads everything: a loop of links fails for root as well */
        struct feed *f = follow("file", "app");
        lines(f, "app", 0, 10, true);
        feed_begin(f);
        comes(f);
        sh(f, "mv app app.1; ln -s app app");
        comes(f);
        assert_int_equal(f->warnings, 1);
        assert_non_null(strstr(feed_status(f).target, "waiting"));
        sh(f, "rm app");
        lines(f, "app", 10, 20, true);
        comes(f);
        assert_int_equal(f->warnings, 1);
        feed_free(f);
        return;
    }
    for (int type = 0; type <= 1; type++) {
        struct feed *f = follow(type ? "dir" : "file", type ? "*" : "app");
        lines(f, "app", 0, 10, true);
        feed_begin(f);
        comes(f);
        sh(f, "mv app app.1; echo 'line 10' >app; chmod 0 app");
        comes(f);
        assert_int_equal(f->warnings, 1);
        sh(f, "chmod 600 app");
        strcat(want, "line 10\n");
        comes(f);
        assert_int_equal(f->warnings, 1);
        feed_free(f);
    }
}

/* ---- a chosen start */

static void a_start_is_durable_at_once(void **state) {
    (void)state;
    for (int there = 0; there <= 1; there++)
        for (int rotated = 0; rotated <= 1; rotated++) {
            struct feed *f = follow("file", "app");
            feed_set(f, "start", "end");
            if (there)
                lines(f, "app", 0, 10, false);
            else
                lines(f, "app.1", 0, 10, false);
            feed_begin(f);
            feed_drive(f);
            feed_end(f);
            lines(f, "app", 10, 20, true);
            if (rotated) {
                sh(f, "mv app app.7");
                usleep(2000);
                lines(f, "app", 20, 30, true);
            }
            feed_begin(f);
            comes(f);
            assert_int_equal(f->warnings, 0);
            feed_free(f);
        }
}

/* While the oldest of several files is read, the last of them is copied and truncated, and the
 * source follows it into its copy. After a restart the files between them have not been read yet,
 * though a newer one was seen to move. */
static void those_between_are_still_unread(void **state) {
    static const char rotate[] = "for i in 4 3 2 1; do [ ! -e app.$i ] || mv app.$i app.$((i+1)); "
                                 "done; cp app app.1; : >app";
    (void)state;
    struct feed *f = follow("file", "app");
    feed_set(f, "start", "oldest");
    f->config.batch_records = 1;
    lines(f, "app", 0, 1000, true);
    sh(f, rotate);
    lines(f, "app", 1000, 1030, true);
    sh(f, rotate);
    lines(f, "app", 1030, 1060, true);
    feed_begin(f);
    for (int i = 0; i < 20; i++) /* all are begun, and the oldest is being read */
        assert_int_equal(pawl_source_step(f->source), 0);
    sh(f, rotate);
    lines(f, "app", 1060, 1090, true);
    /* the source looks for changes once a second while there are lines to read */
    for (uint64_t begun = now_ms(); now_ms() - begun < 2500; usleep(10000))
        assert_int_equal(pawl_source_step(f->source), 0);
    again(f);
    f->config.batch_records = 0;
    comes(f);
    assert_int_equal(f->warnings, 0);
    feed_audit(f);
    feed_free(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replaced_by_a_longer_copy),
        cmocka_unit_test(replaced_by_an_older_copy),
        cmocka_unit_test(the_replaced_file_still_grows),
        cmocka_unit_test(rotated_under_a_slow_writer),
        cmocka_unit_test(copied_and_truncated),
        cmocka_unit_test(copied_before_it_was_seen),
        cmocka_unit_test(truncated_several_times),
        cmocka_unit_test(a_copy_of_a_line_is_told),
        cmocka_unit_test(rotated_with_a_heading),
        cmocka_unit_test(what_rotation_removed_is_told),
        cmocka_unit_test(names_come_and_go),
        cmocka_unit_test(places_that_come_later),
        cmocka_unit_test(links_are_switched),
        cmocka_unit_test(rotated_beside_the_target),
        cmocka_unit_test(too_many_open_files),
        cmocka_unit_test(unreadable_for_a_while),
        cmocka_unit_test(a_start_is_durable_at_once),
        cmocka_unit_test(those_between_are_still_unread),
        cmocka_unit_test(the_end_of_a_removed_file_is_its_own),
        cmocka_unit_test(a_copy_continues_the_furthest),
        cmocka_unit_test(a_short_backup_of_a_rotated_file),
        cmocka_unit_test(a_heading_after_a_removed_rotation),
        cmocka_unit_test(an_empty_file_keeps_nothing_waiting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
