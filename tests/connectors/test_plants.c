/* SPDX-License-Identifier: Apache-2.0
 * test-timeout: 240
 *
 * Another user puts something under a name that a connector opens or makes: links, pipes, sockets,
 * devices, directories, files of his own. Nothing is followed, written, opened or removed; and the
 * sink delivers all the same. And whose links are followed on the way to a directory.
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
#include <sys/stat.h>
#include <unistd.h>

#include "connectors/runtime/reach.h"
#include "tests/support/file_sink.h"
#include "tests/support/plant.h"
#include "tests/support/skip.h"
#include "tests/support/source_help.h"

#define SOMEBODY 65533u

/* ---- the file sink */

enum { FRESH, AFTER_A_KILL };

static const struct {
    const char *label, *name;
    int when;
    const char *before; /* a shell command in the directory */
} names[] = {
    {"a new part", "files-1-0-00000000000000000000.part", FRESH, NULL},
    {"the second part", "files-1-0-00000000000000000021.part", FRESH, NULL},
    {"the marker", "files.pawl", FRESH, NULL},
    {"the marker of a part", "files.pawl", AFTER_A_KILL, "mv files.pawl away"},
    {"a visible name", "files-in-0-00000000000000000000.log", FRESH, NULL},
    {"a visible name later", "files-in-0-00000000000000000000.log", AFTER_A_KILL, NULL},
    {"a twin's name", "files-in-0-00000000000000000000.1.log", AFTER_A_KILL,
     "echo his >files-in-0-00000000000000000000.log"},
    {"a name for what is set aside", "files-1-0-00000000000000000000.part.aside", FRESH,
     "echo his >files-1-0-00000000000000000000.part"},
    {"a name for bytes that are set aside", "files-1-0-00000000000000000000.part.aside",
     AFTER_A_KILL, "echo his >>files-1-0-00000000000000000000.part"},
    {"the file that proves names", "files.pawl.new", AFTER_A_KILL,
     "mv files-1-0-00000000000000000000.part files-in-0-00000000000000000000.log"},
    {"a state of version 1", ".files-1-0.state", FRESH, NULL},
    {"a state of version 1 later", ".files-1-0.state", AFTER_A_KILL, NULL},
    {"a part of version 1", ".files-1-0-00000000000000000000.part", AFTER_A_KILL, NULL},
    {"another part", "files-1-0-00000000000000000007.part", AFTER_A_KILL, NULL},
};

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All records, once and in order, in the visible files that the sink has made. */
static void all_there(const char *directory, const struct plant *p, const char *when) {
    char *found[64], path[500], all[2000] = "", want[1000] = "";
    size_t n = 0;
    DIR *d = opendir(directory);
    const struct dirent *e;
    assert_non_null(d);
    while ((e = readdir(d)) != NULL) {
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", directory, e->d_name);
        if (strncmp(e->d_name, "files-in-0-", 11) == 0 && !plant_is(p, path) && n < 64 &&
            stat(path, &st) == 0 && st.st_size != 4) /* "his" */
            found[n++] = strdup(path);
    }
    closedir(d);
    qsort(found, n, sizeof *found, by_text);
    for (size_t i = 0; i < n; i++) {
        int fd = open(found[i], O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        size_t len = strlen(all);
        ssize_t got = fd >= 0 ? read(fd, all + len, sizeof all - len - 1) : -1;
        assert_true(got >= 0);
        all[len + (size_t)got] = 0;
        close(fd);
        free(found[i]);
    }
    for (uint32_t i = 0; i < COUNT; i++)
        snprintf(want + strlen(want), sizeof want - strlen(want), "n%u\n", i);
    if (strcmp(all, want) != 0)
        fail_msg("%s: the files have:\n%s", when, all);
}

static void one(size_t i, enum plant_kind kind) {
    char ground[160], path[300], when[200], command[500];
    struct plant p;
    struct files *f = names[i].when == FRESH ? fsink_new() : fsink_hidden();
    snprintf(when, sizeof when, "%s as %s", plant_names[kind], names[i].label);
    snprintf(ground, sizeof ground, "%.60s/ground", f->dir);
    snprintf(path, sizeof path, "%s/%s", f->target, names[i].name);
    plant_begin(&p, ground);
    (void)mkdir(f->target, 0755);
    snprintf(command, sizeof command, "cd %s && %s", f->target,
             names[i].before != NULL ? names[i].before : "true");
    assert_int_equal(system(command), 0);
    if (plant_put(&p, kind, path)) {
        if (names[i].when == FRESH)
            fsink_add(f);
        if (fsink_drive(f) != 0)
            fail_msg("%s: the sink stops", when);
        fsink_close(f);
        plant_judge(&p, f->target, when);
        all_there(f->target, &p, when);
    } else {
        if (f->sink != NULL)
            fsink_close(f);
        print_message("SKIPPED: %s: this user can't make one\n", when);
    }
    plant_end(&p);
    fsink_free(f);
}

static void every_name(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        for (enum plant_kind kind = 0; kind < PLANT_KINDS; kind++)
            one(i, kind);
}

/* Where the file system can't rename without replacing, nothing is replaced either. */
static void no_replace(void **state) {
    (void)state;
    fsink_no_replace = true;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        for (enum plant_kind kind = 0; kind < PLANT_KINDS; kind++)
            if (strstr(names[i].name, ".aside") != NULL || strstr(names[i].name, ".log") != NULL)
                one(i, kind);
    struct files *f = fsink_new();
    for (int nth = 0; fsink_killed(f, nth % 2 == 0 ? KILL_BEFORE : KILL_AFTER, nth / 2); nth++) {
        fsink_open_log(f); /* a crash between the two steps is no loss, and leaves no second name */
        fsink_add(f);
        if (fsink_drive(f) != 0)
            fail_msg("killed at call %d: the sink stops", nth / 2);
        fsink_close(f);
        fsink_all_there(f, "cat", "after a kill");
        fsink_free(f);
        f = fsink_new();
    }
    fsink_free(f);
    fsink_no_replace = false;
}

static void modes(void **state) {
    (void)state;
    static const struct {
        const char *mode;
        mode_t mask, file;
    } cases[] = {{NULL, 022, 0640},  {NULL, 077, 0600}, {NULL, 0, 0640},
                 {"664", 077, 0664}, {"600", 0, 0600},  {"0644", 022, 0644}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[200];
        struct stat st;
        struct files *f = fsink_new();
        mode_t before = umask(cases[i].mask);
        if (cases[i].mode != NULL)
            fsink_set(f, "mode", cases[i].mode);
        fsink_add(f);
        assert_int_equal(fsink_drive(f), 0);
        umask(before);
        assert_int_equal(stat(f->target, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0750 & ~cases[i].mask);
        snprintf(path, sizeof path, "%s/files-in-0-00000000000000000000.log", f->target);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, cases[i].file);
        snprintf(path, sizeof path, "%s/files.pawl", f->target);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, cases[i].file);
        fsink_close(f);
        fsink_free(f);
    }
    static const char *const wrong[] = {"", "64", "888", "rw-r-----", "4755", "00640", "640 "};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        pawl_setting s[] = {{"directory", "/tmp", 1}, {"mode", wrong[i], 2}};
        pawl_sink_ops ops = PAWL_SINK_OPS_INIT;
        pawl_error e;
        assert_int_equal(pawl_sink_make("file", &(pawl_settings){.items = s, .count = 2}, &ops, &e),
                         PAWL_INVALID);
    }
}

/* ---- whose links are followed */

static const struct {
    const char *label, *path;
    bool reached;
} paths[] = {
    {"no link", "roots/file", true},
    {"root's link", "by-root/file", true},
    {"root's link to another user's file", "by-root-to-his", true},
    {"a user's link to his own file", "by-him-to-his", true},
    {"a user's link to root's file", "by-him-to-roots", false},
    {"a user's link to another user's file", "by-him-to-others", false},
    {"a user's link to root's directory", "by-him/file", false},
    {"a user's link to his own directory", "by-him-to-his-dir/his", true},
    {"a user's link to his own link to root's file", "by-him-twice", false},
    {"root's link to a user's link to root's file", "by-root-to-by-him", false},
    {"a user's link to root's link to his own file", "by-him-over-roots", true},
    {"an unknown user's link to an unknown user's file", "by-nobody", false},
    {"a user's link on the way, and back", "by-him/../his-dir/his", false},
    {"a user's absolute link", "by-him-absolute/file", false},
    {"a user's link to the root", "by-him-to-slash", false},
    {"a circle", "circle", false},
    {"a long chain", "chain-0", false},
    {"a pipe", "pipe", false},
    {"a device", "by-root-to-device", false},
    {"a directory", "roots", false},
    {"a file on the way", "roots/file/file", false},
    {"nothing", "roots/nothing", false},
    {"nothing behind root's link", "by-root-to-nothing", false},
};

static const char layout[] =
    "set -e\n"
    "link() { ln -s \"$2\" \"$3\"; chown -h \"$1\" \"$3\"; }\n"
    "mkdir roots his-dir; echo root >roots/file; echo his >his-dir/his; echo x >others\n"
    "chown -R 65533 his-dir; chown 65532 others; mkfifo pipe\n"
    "link 0 roots by-root; link 0 his-dir/his by-root-to-his\n"
    "link 65533 his-dir/his by-him-to-his; link 65533 roots/file by-him-to-roots\n"
    "link 65533 others by-him-to-others; link 65533 roots by-him\n"
    "link 65533 his-dir by-him-to-his-dir\n"
    "link 65533 by-him-to-roots by-him-twice; link 0 by-him-to-roots by-root-to-by-him\n"
    "link 65533 by-root-to-his by-him-over-roots\n"
    "link 65533 \"$PWD/roots\" by-him-absolute; link 65533 / by-him-to-slash\n"
    "echo x >nobodys; chown 65534 nobodys; link 65534 nobodys by-nobody\n"
    "link 0 circle circle; link 0 /dev/null by-root-to-device; link 0 roots/none "
    "by-root-to-nothing\n"
    "i=0; while [ $i -lt 60 ]; do ln -s chain-$((i + 1)) chain-$i; i=$((i + 1)); done\n"
    "echo end >chain-60\n";

static void links(void **state) {
    (void)state;
    char dir[] = "/tmp/test_plants.XXXXXX", path[300], command[100];
    if (geteuid() != 0)
        SKIP("only root can make another user's links");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(chmod(dir, 0755), 0);
    assert_int_equal(chdir(dir), 0);
    assert_int_equal(system(layout), 0);
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        for (int absolute = 0; absolute < 2; absolute++) {
            struct stat st;
            snprintf(path, sizeof path, "%s%s%s", absolute ? dir : "", absolute ? "/" : "",
                     paths[i].path);
            int fd = reach_read(path, REACH_OWNED);
            if ((fd >= 0) != paths[i].reached)
                fail_msg("%s: %d %s", paths[i].label, fd, fd < 0 ? reach_text(errno) : "");
            if (paths[i].reached) {
                assert_int_equal(reach_stat(path, REACH_OWNED, &st), 0);
                char *plain = reach_resolve(path), *want = realpath(path, NULL);
                assert_string_equal(plain, want);
                free(plain);
                free(want);
            }
            if (fd >= 0)
                close(fd);
        }
    int any = reach_read("by-him-to-roots", REACH_ANY);
    assert_true(any >= 0);
    close(any);
    assert_true(reach_read("pipe", REACH_ANY) < 0 && errno == ENOTSUP);
    assert_true(reach_directory("by-him", REACH_OWNED) < 0 && errno == ELOOP);
    assert_true(reach_directory("by-him-to-slash", REACH_OWNED) < 0 && errno == ELOOP);
    int fd = reach_directory("by-him-to-his-dir", REACH_OWNED);
    assert_true(fd >= 0);
    close(fd);
    assert_true(reach_make_directory("by-him/new", 0750) < 0);
    assert_true(access("roots/new", F_OK) != 0);
    assert_true((fd = reach_make_directory("by-root/new/", 0750)) >= 0);
    close(fd);
    assert_true(access("roots/new", F_OK) == 0);
    assert_int_equal(chdir("/"), 0);
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

/* The sink's directory is behind a link that another user made. */
static void linked_directory(void **state) {
    (void)state;
    if (geteuid() != 0)
        SKIP("only root can make another user's links");
    struct files *f = fsink_new();
    char real[200];
    snprintf(real, sizeof real, "%.60s/real", f->dir);
    assert_int_equal(mkdir(real, 0755), 0);
    assert_int_equal(symlink(real, f->target), 0);
    assert_int_equal(lchown(f->target, SOMEBODY, SOMEBODY), 0);
    fsink_add(f);
    for (int i = 0; i < 10; i++) {
        assert_true(pawl_sink_step(f->sink) >= 0);
        f->now_ns += UINT64_C(3600000000000);
    }
    pawl_flow_status status = PAWL_FLOW_STATUS_INIT;
    assert_int_equal(pawl_sink_status(f->sink, &status), 0);
    if (strstr(status.message, "it is a symbolic link") == NULL)
        fail_msg("it says only: %s", status.message);
    assert_int_equal(rmdir(real), 0); /* nothing was made there */
    assert_int_equal(unlink(f->target), 0);
    assert_int_equal(fsink_drive(f), 0); /* mended */
    fsink_close(f);
    fsink_all_there(f, "cat", "after the link was removed");
    fsink_free(f);
}

/* ---- the SQLite sink */

static void sqlite_settings(struct files *f, char path[300]) {
    f->setting_count = 0;
    snprintf(path, 300, "%s/db", f->target);
    fsink_set(f, "path", path);
    fsink_set(f, "table", "t");
    fsink_set(f, "columns.v", "value");
    fsink_set(f, "setup", "CREATE TABLE IF NOT EXISTS t (v TEXT)");
}

/* Steps of the sink; the last message. */
static const char *step(pawl_sink *k, uint64_t *now_ns) {
    static pawl_flow_status status;
    status = (pawl_flow_status)PAWL_FLOW_STATUS_INIT;
    for (int i = 0; i < 20; i++) {
        assert_true(pawl_sink_step(k) >= 0);
        *now_ns += UINT64_C(3600000000000);
    }
    assert_int_equal(pawl_sink_status(k, &status), 0);
    return status.behind == 0 ? "" : status.message;
}

static uint64_t its_time(void *arg) {
    return ((struct files *)arg)->now_ns;
}

/* False: this build has no SQLite. */
static bool add_sqlite(struct files *f) {
    pawl_error e = {0};
    pawl_sink_ops ops = PAWL_SINK_OPS_INIT;
    pawl_sink_config c = PAWL_SINK_CONFIG_INIT;
    c.name = "rows", c.inputs = &f->in, c.input_count = 1;
    c.hooks.now_ns = its_time, c.hooks.now_arg = f, c.hooks.seed = 1;
    int rc = pawl_sink_make(
        "sqlite", &(pawl_settings){.items = f->settings, .count = f->setting_count}, &ops, &e);
    if (rc == PAWL_NOT_FOUND)
        return false;
    if (rc != 0 || pawl_sink_add(f->log, &c, &ops, &f->sink, &e) != 0)
        fail_msg("%s", e.message);
    return true;
}

static void beside_a_database(void **state) {
    static const char *const ends[] = {"", "-wal", "-shm", "-journal"};
    (void)state;
    if (geteuid() != 0)
        SKIP("only root can make another user's links");
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        for (enum plant_kind kind = 0; kind < PLANT_KINDS; kind++) {
            char ground[160], path[300], name[310], when[100];
            struct plant p;
            struct files *f = fsink_new();
            if (kind == PLANT_OTHERS && ends[i][0] == 0) {
                fsink_close(f); /* the settings name it: it may be another user's */
                fsink_free(f);
                continue;
            }
            snprintf(when, sizeof when, "%s as DATABASE%s", plant_names[kind], ends[i]);
            assert_int_equal(mkdir(f->target, 0755), 0);
            sqlite_settings(f, path);
            snprintf(ground, sizeof ground, "%.60s/ground", f->dir);
            snprintf(name, sizeof name, "%s%s", path, ends[i]);
            plant_begin(&p, ground);
            if (!plant_put(&p, kind, name))
                SKIP("no device can be made here");
            if (!add_sqlite(f))
                SKIP("this build has no SQLite");
            if (strstr(step(f->sink, &f->now_ns), "opening") == NULL)
                fail_msg("%s: it doesn't say so", when);
            plant_judge(&p, f->target, when);
            assert_int_equal(remove(name), 0);
            if (step(f->sink, &f->now_ns)[0] != 0) /* mended */
                fail_msg("%s: it doesn't go on", when);
            struct stat st;
            assert_int_equal(stat(path, &st), 0);
            assert_int_equal(st.st_mode & 07777, 0640 & ~022);
            fsink_close(f);
            plant_end(&p);
            fsink_free(f);
        }
}

/* ---- sources */

/* A watched directory in which another user puts links to what he may not read. */
static void watched_directory(void **state) {
    (void)state;
    if (geteuid() != 0)
        SKIP("only root can make another user's links");
    struct feed *f = feed_new("dir");
    char command[900], path[200];
    size_t size;
    snprintf(path, sizeof path, "%s/logs", f->dir);
    snprintf(command, sizeof command,
             "cd %s && mkdir logs && chmod 777 logs && cd logs && "
             "for i in secret his roots own; do echo $i >../$i; done && chown 65533 ../his && "
             "cp ../own a.log && ln -s ../secret b.log && ln -s ../his c.log && "
             "ln -s ../roots d.log && mkfifo e.log && mknod f.log c 1 3 && mkdir g.log && "
             "ln -s none h.log && ln -s i.log i.log && "
             "chown -h 65533 b.log c.log e.log f.log g.log h.log i.log",
             f->dir);
    if (system(command) != 0)
        SKIP("no device can be made here");
    feed_set(f, "path", path);
    feed_set(f, "glob", "*.log");
    feed_begin(f);
    assert_true(feed_drive(f) >= 0);
    char *got = feed_text(f, f->to, &size);
    assert_non_null(strstr(got, "own\n"));
    assert_non_null(strstr(got, "his\n"));
    assert_non_null(strstr(got, "roots\n"));
    assert_int_equal(size, strlen("own\nhis\nroots\n"));
    free(got);
    assert_non_null(strstr(f->warning, "not followed"));
    snprintf(command, sizeof command, "rm -r %s", path);
    feed_end(f);
    assert_int_equal(system(command), 0);
    feed_free(f);
}

static void followed_path(void **state) {
    (void)state;
    if (geteuid() != 0)
        SKIP("only root can make another user's links");
    struct feed *f = feed_new("file");
    char command[400];
    size_t size = 0;
    snprintf(command, sizeof command,
             "cd %s && echo secret >secret && ln -s secret in && chown -h 65533 in", f->dir);
    assert_int_equal(system(command), 0);
    feed_set(f, "path", f->path);
    feed_begin(f);
    assert_true(feed_drive(f) >= 0);
    feed_holds(f, "");
    assert_non_null(strstr(f->warning, "it is a symbolic link"));
    snprintf(command, sizeof command, "cd %s && rm in && echo own >in", f->dir);
    assert_int_equal(system(command), 0);
    for (int i = 0; i < 200 && size == 0; i++) { /* it is tried again after a pause */
        assert_true(feed_drive(f) >= 0);
        free(feed_text(f, f->to, &size));
    }
    feed_holds(f, "own\n");
    snprintf(command, sizeof command, "rm %s/secret", f->dir);
    feed_end(f);
    assert_int_equal(system(command), 0);
    feed_free(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_name),
        cmocka_unit_test(no_replace),
        cmocka_unit_test(modes),
        cmocka_unit_test(links),
        cmocka_unit_test(linked_directory),
        cmocka_unit_test(beside_a_database),
        cmocka_unit_test(watched_directory),
        cmocka_unit_test(followed_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
