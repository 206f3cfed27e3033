/* SPDX-License-Identifier: Apache-2.0
 *
 * A log's directory that others can write to, or have handed over: something is planted under each
 * name that the log opens or makes. Whatever the opening answers, nothing is followed, written,
 * opened or waited for. And nobody else can take the lock for ever.
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

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pawl.h"
#include "tests/support/plant.h"
#include "tests/support/skip.h"

#define NOBODY 65534u

static const struct {
    const char *label, *name;
    bool there; /* a log is there already */
    bool kept;  /* what is planted must stay */
} names[] = {
    {"the lock of a new log", "lock", false, true},
    {"a new log's first segment", "0000000000000000.seg", false, true},
    {"a new log's first segment, unfinished", "0000000000000000.tmp", false, false},
    {"the lock", "lock", true, true},
    {"the newest segment", "0000000000000000.seg", true, true},
    {"the next segment", "0000000000000001.seg", true, true},
    {"a later segment", "0000000000000002.seg", true, true},
    {"the next segment, unfinished", "0000000000000002.tmp", true, false},
};

static int open_log(const char *dir, pawl **log, pawl_error *e) {
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_CREATE;
    o.segment_size = 1u << 20;
    o.lock_wait_ms = 1;
    return pawl_open(dir, &o, log, e);
}

/* Writes until the log has needed two more segments, or can't. */
static void use(pawl *log) {
    uint32_t stream;
    static char value[100000];
    pawl_record r = {.value = value, .value_len = sizeof value};
    int rc = pawl_stream_create(log, "s", 1, &stream);
    for (int i = 0; i < 25 && (rc >= 0 || rc == PAWL_EXISTS); i++)
        rc = pawl_append(log, 1, 0, &r, NULL);
    (void)!pawl_close(log);
}

static void one(size_t i, enum plant_kind kind) {
    char dir[] = "/tmp/test_log_plants.XXXXXX", log[60], ground[60], path[100], when[120];
    struct plant p;
    pawl *l;
    pawl_error e = {0};
    snprintf(when, sizeof when, "%s as %s", plant_names[kind], names[i].label);
    assert_non_null(mkdtemp(dir));
    snprintf(log, sizeof log, "%s/log", dir);
    snprintf(ground, sizeof ground, "%s/ground", dir);
    snprintf(path, sizeof path, "%s/%s", log, names[i].name);
    plant_begin(&p, ground);
    assert_int_equal(mkdir(log, 0700), 0);
    if (names[i].there) {
        assert_int_equal(open_log(log, &l, &e), 0);
        assert_int_equal(pawl_close(l), 0);
        (void)unlink(path);
    }
    assert_int_equal(chmod(log, 0777), 0);
    if (plant_put(&p, kind, path)) {
        if (open_log(log, &l, &e) == 0)
            use(l);
        plant_judge(&p, names[i].kept ? log : NULL, when);
        pawl_check c = PAWL_CHECK_INIT;
        (void)!pawl_repair(log, &c, &e);
        plant_judge(&p, names[i].kept ? log : NULL, when);
        if (strcmp(names[i].name, "lock") == 0) {
            assert_true(open_log(log, &l, &e) < 0);
            assert_int_equal(remove(path), 0);
            if (open_log(log, &l, &e) != 0) /* mended */
                fail_msg("%s: %s", when, e.message);
            use(l);
        }
    } else {
        print_message("SKIPPED: %s: this user can't make one\n", when);
    }
    plant_end(&p);
    snprintf(path, sizeof path, "rm -r %s", dir);
    assert_int_equal(system(path), 0);
}

static void every_name(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        for (enum plant_kind kind = 0; kind < PLANT_KINDS; kind++)
            one(i, kind);
}

/* Repair keeps what it takes out in a file of its own. */
static void what_repair_keeps(void **state) {
    (void)state;
    for (enum plant_kind kind = 0; kind < PLANT_KINDS; kind++) {
        char dir[] = "/tmp/test_log_plants.XXXXXX", log[60], copy[60], ground[60], path[160],
             command[400];
        struct plant p;
        pawl *l;
        pawl_error e = {0};
        pawl_check c = PAWL_CHECK_INIT;
        assert_non_null(mkdtemp(dir));
        snprintf(log, sizeof log, "%s/log", dir);
        snprintf(copy, sizeof copy, "%s/copy", dir);
        snprintf(ground, sizeof ground, "%s/ground", dir);
        plant_begin(&p, ground);
        assert_int_equal(open_log(log, &l, &e), 0);
        use(l);
        snprintf(command, sizeof command,
                 "cd %s && printf X | dd of=0000000000000000.seg bs=1 seek=300000 conv=notrunc "
                 "status=none && cp -a . %s",
                 log, copy);
        assert_int_equal(system(command), 0);
        assert_int_equal(pawl_repair(copy, &c, &e), 0);
        snprintf(command, sizeof command, "cd %s && ls lost-*.bin", copy);
        FILE *f = popen(command, "r");
        char name[60] = "";
        assert_true(f != NULL && fscanf(f, "%59s", name) == 1);
        (void)pclose(f);
        assert_int_equal(chmod(log, 0777), 0);
        snprintf(path, sizeof path, "%s/%s", log, name);
        if (plant_put(&p, kind, path)) {
            c = (pawl_check)PAWL_CHECK_INIT;
            if (pawl_repair(log, &c, &e) != 0)
                fail_msg("%s: %s", plant_names[kind], e.message);
            plant_judge(&p, log, plant_names[kind]);
            strcpy(strrchr(path, '.'), ".1.bin");
            if (access(path, F_OK) != 0) /* the bytes are kept all the same */
                fail_msg("%s: there is no %s", plant_names[kind], path);
        }
        plant_end(&p);
        snprintf(command, sizeof command, "rm -r %s", dir);
        assert_int_equal(system(command), 0);
    }
}

/* Where only we can write, a second name is a copy that somebody keeps. */
static void copies_are_kept(void **state) {
    char dir[] = "/tmp/test_log_plants.XXXXXX", log[60], command[300];
    pawl *l;
    pawl_error e = {0};
    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(log, sizeof log, "%s/log", dir);
    assert_int_equal(open_log(log, &l, &e), 0);
    assert_int_equal(pawl_close(l), 0);
    snprintf(command, sizeof command, "cp -al %s %s.copy", log, log);
    assert_int_equal(system(command), 0);
    assert_int_equal(open_log(log, &l, &e), 0);
    use(l);
    assert_int_equal(chmod(log, 0777), 0);
    assert_int_equal(open_log(log, &l, &e), PAWL_IO);
    assert_non_null(strstr(e.message, "second name"));
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

/* A file that is none of the log's, under the name of a segment to come. */
static void other_files_are_set_aside(void **state) {
    static const struct {
        const char *label, *name;
    } files[] = {{"the next segment", "0000000000000001.seg"},
                 {"the one after it", "0000000000000002.seg"}};
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char dir[] = "/tmp/test_log_plants.XXXXXX", log[60], command[300];
        pawl *l;
        pawl_error e = {0};
        assert_non_null(mkdtemp(dir));
        snprintf(log, sizeof log, "%s/log", dir);
        assert_int_equal(open_log(log, &l, &e), 0);
        assert_int_equal(pawl_close(l), 0);
        snprintf(command, sizeof command, "echo notes > %s/%s && echo more > %s/aside-%.16s.0", log,
                 files[i].name, log, files[i].name);
        assert_int_equal(system(command), 0);
        if (open_log(log, &l, &e) != 0)
            fail_msg("%s: %s", files[i].label, e.message);
        use(l);
        snprintf(command, sizeof command,
                 "cd %s && grep -qx notes aside-%.16s.1 && grep -qx more aside-%.16s.0", log,
                 files[i].name, files[i].name);
        if (system(command) != 0)
            fail_msg("%s was not set aside", files[i].label);
        assert_int_equal(open_log(log, &l, &e), 0);
        assert_true(l != NULL && pawl_close(l) == 0);
        snprintf(command, sizeof command, "rm -r %s", dir);
        assert_int_equal(system(command), 0);
    }
}

/* No name is left to give such a file: it stays, and the error names it. */
static void no_name_to_set_aside(void **state) {
    char dir[] = "/tmp/test_log_plants.XXXXXX", log[60], command[300];
    pawl *l;
    pawl_error e = {0};
    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(log, sizeof log, "%s/log", dir);
    assert_int_equal(open_log(log, &l, &e), 0);
    assert_int_equal(pawl_close(l), 0);
    snprintf(command, sizeof command,
             "cd %s && echo notes > 0000000000000001.seg && "
             "seq -f aside-0000000000000001.%%.0f 0 999 | xargs touch",
             log);
    assert_int_equal(system(command), 0);
    assert_int_equal(open_log(log, &l, &e), PAWL_IO);
    assert_non_null(strstr(e.message, "rename of 0000000000000001.seg failed"));
    snprintf(command, sizeof command, "cd %s && grep -qx notes 0000000000000001.seg && rm -r %s",
             log, dir);
    assert_int_equal(system(command), 0);
}

/* Links on the way to the directory, and the directory itself. */
static void links_on_the_way(void **state) {
    static const struct {
        const char *path;
        int rc;
    } paths[] = {{"real/log", 0},
                 {"by-us/log", 0},
                 {"by-us/log///", 0},
                 {"by-us-again/log", 0},
                 {"real/../real/./log", 0},
                 {"by-him/log", PAWL_NOT_A_LOG},
                 {"by-us-to-his/log", PAWL_NOT_A_LOG},
                 {"by-him/../real/log", PAWL_NOT_A_LOG},
                 {"circle/log", PAWL_NOT_A_LOG},
                 {"real/linked", PAWL_NOT_A_LOG},
                 {"real/linked/", PAWL_NOT_A_LOG}};
    char dir[] = "/tmp/test_log_plants.XXXXXX", command[300];
    (void)state;
    if (geteuid() != 0)
        SKIP("only root can make another user's links");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(chdir(dir), 0);
    assert_int_equal(system("mkdir real && ln -s real by-us && ln -s by-us by-us-again && "
                            "ln -s $PWD/real by-him && chown -h 65534 by-him && "
                            "ln -s by-him by-us-to-his && ln -s circle circle && "
                            "ln -s log real/linked"),
                     0);
    for (int absolute = 0; absolute < 2; absolute++)
        for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
            char path[200];
            pawl *l;
            pawl_error e = {0};
            snprintf(path, sizeof path, "%s%s%s", absolute ? dir : "", absolute ? "/" : "",
                     paths[i].path);
            int rc = open_log(path, &l, &e);
            if (rc != paths[i].rc)
                fail_msg("%s: %d %s", path, rc, e.message);
            if (rc == 0)
                assert_int_equal(pawl_close(l), 0);
        }
    assert_int_equal(chdir("/"), 0);
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

/* A lock that others could open is theirs to hold. */
static void lock_is_private(void **state) {
    char dir[] = "/tmp/test_log_plants.XXXXXX", path[100];
    struct stat st;
    pawl *l;
    pawl_error e = {0};
    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/lock", dir);
    assert_int_equal(open_log(dir, &l, &e), 0);
    assert_int_equal(pawl_close(l), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(chmod(path, 0666), 0);
    assert_int_equal(open_log(dir, &l, &e), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(pawl_close(l), 0);
    if (geteuid() == 0) { /* another user's file, held by him */
        assert_int_equal(chmod(path, 0666), 0);
        assert_int_equal(chown(path, NOBODY, NOBODY), 0);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        assert_int_equal(flock(fd, LOCK_EX), 0);
        assert_int_equal(open_log(dir, &l, &e), PAWL_PERMISSION);
        close(fd);
    }
    snprintf(path, sizeof path, "rm -r %s", dir);
    assert_int_equal(system(path), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_name),           cmocka_unit_test(what_repair_keeps),
        cmocka_unit_test(copies_are_kept),      cmocka_unit_test(other_files_are_set_aside),
        cmocka_unit_test(no_name_to_set_aside), cmocka_unit_test(links_on_the_way),
        cmocka_unit_test(lock_is_private),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
