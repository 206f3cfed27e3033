/* SPDX-License-Identifier: Apache-2.0 */
/* Savepoints: they say what the log said, whatever goes on meanwhile; nothing is made from what is
 * damaged, or in the place of something else. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "tests/support/state_log.h"

static void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void shell(const char *format, ...) {
    char command[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(command, sizeof command, format, list);
    va_end(list);
    if (system(command) != 0)
        fail_msg("failed: %s", command);
}

static bool is_there(const char *path) {
    struct stat st;
    return lstat(path, &st) == 0;
}

static void place(const struct fixture *f, char to[96], const char *name) {
    snprintf(to, 96, "%s.%s", f->dir, name);
}

static void gone(const char *to) {
    char path[128];
    if (is_there(to))
        fail_msg("%s is there", to);
    snprintf(path, sizeof path, "%s.unfinished", to);
    if (is_there(path))
        fail_msg("%s is there", path);
}

static void remove_all(struct fixture *f) {
    shell("rm -rf %s.*", f->dir);
}

static int setup_here(void **state) {
    if (setup(state) != 0)
        return -1;
    remove_all(*state);
    return 0;
}

static int teardown_here(void **state) {
    remove_all(*state);
    return teardown(state);
}

static pawl_table_digest digest(struct fixture *f) {
    pawl_table_digest d;
    assert_int_equal(pawl_table_get_digest(f->log, f->table, 0, &d), 0);
    return d;
}

/* The savepoint, opened as a log. */
static struct fixture opened(const struct fixture *f, const char *to, uint32_t flags) {
    struct fixture g = *f;
    snprintf(g.dir, sizeof g.dir, "%s", to);
    g.options.flags = flags;
    open_log(&g);
    return g;
}

static void well(const char *dir) {
    pawl_check c = PAWL_CHECK_INIT;
    pawl_error e;
    if (pawl_audit(dir, &c, &e) != 0)
        fail_msg("%s: %s", dir, e.message);
}

/* ---- it says what the log said */

static void count_some(struct fixture *f, unsigned from, unsigned to, bool flush) {
    feed(f, from, to, 100);
    assert_int_equal(pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE), 0);
    if (flush)
        assert_true(pawl_state_flush(f->log) >= 0);
}

static void what_the_log_said(void **state) {
    static const struct {
        const char *label;
        unsigned before, flushed, after; /* records */
        bool by_reader;
        uint32_t flags;
    } cases[] = {
        {"empty", 0, 0, 0, false, 0},
        {"in memory", 500, 0, 0, false, 0},
        {"in a run", 500, 1, 0, false, 0},
        {"in both", 500, 1, 700, false, 0},
        {"in several runs", 500, 3, 700, false, 0},
        {"by a reader beside the writer", 500, 2, 700, true, 0},
        {"quick", 500, 2, 700, true, PAWL_SAVEPOINT_QUICK},
        {"copied", 500, 2, 700, false, PAWL_SAVEPOINT_COPY},
    };
    struct fixture *f = *state;
    unsigned n = 0;
    add_counter(f, 50, PAWL_EXACTLY_ONCE);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char to[96];
        place(f, to, "save");
        for (unsigned k = 0; k < cases[i].flushed; k++, n += cases[i].before)
            count_some(f, n, n + cases[i].before, true);
        for (unsigned k = 0; k < cases[i].before + cases[i].after; k += 100, n += 100)
            count_some(f, n, n + 100, false);
        put_one(f, "x", "y"); /* vouches for what is before */
        pawl_table_digest then = digest(f);
        pawl_savepoint_info info = PAWL_SAVEPOINT_INIT;
        info.flags = cases[i].flags;
        struct fixture beside = *f;
        if (cases[i].by_reader)
            beside = opened(f, f->dir, PAWL_OPEN_READ);
        int rc = pawl_savepoint(beside.log, to, &info);
        if (rc != 0) {
            pawl_error e;
            pawl_last_error(&e);
            fail_msg("%s: %s", cases[i].label, e.message);
        }
        if (cases[i].by_reader)
            assert_int_equal(pawl_close(beside.log), 0);
        assert_int_equal(info.linked != 0,
                         info.runs != 0 && (info.flags & PAWL_SAVEPOINT_COPY) == 0);
        count_some(f, n, n + 300, true); /* the log goes on; the savepoint doesn't */
        n += 300;
        well(to);
        struct fixture g = opened(f, to, PAWL_OPEN_READ);
        pawl_table_digest there = digest(&g);
        if (!cases[i].by_reader)
            assert_true(there.low == then.low && there.high == then.high);
        assert_int_equal(pawl_close(g.log), 0);
        /* and it can go on by itself */
        g = opened(f, to, 0);
        assert_int_equal(pawl_close(g.log), 0);
        well(to);
        well(f->dir);
        shell("rm -r %s", to);
        gone(to);
    }
}

/* ---- beside a writer that flushes, merges and drops segments all the time */

static struct {
    struct fixture *f;
    atomic_bool stop;
} busy;

static void *keep_writing(void *arg) {
    struct fixture *f = busy.f;
    static char value[20000];
    (void)arg;
    for (unsigned i = 0; !atomic_load(&busy.stop); i++) {
        char key[16];
        snprintf(key, sizeof key, "k%u", i % 50);
        pawl_tx *tx;
        if (pawl_begin(f->log, &tx) != 0 ||
            pawl_tx_state_put(tx, f->table, 0, key, strlen(key), value, sizeof value) != 0 ||
            pawl_commit(tx, NULL) != 0)
            return "commit";
        if (i % 20 == 0 && pawl_state_flush(f->log) < 0)
            return "flush";
        if (i % 50 == 0 && pawl_retention_apply(f->log) < 0)
            return "retention";
    }
    return NULL;
}

static void beside_a_busy_writer(void **state) {
    struct fixture *f = *state;
    pthread_t thread;
    pawl_retention least = {.bytes = 1};
    assert_int_equal(pawl_retention_set(f->log, &least), 0);
    busy.f = f;
    atomic_store(&busy.stop, false);
    assert_int_equal(pthread_create(&thread, NULL, keep_writing, NULL), 0);
    for (int i = 0; i < 20; i++) {
        char to[96];
        place(f, to, "save");
        struct fixture beside = *f;
        if (i % 2 == 1)
            beside = opened(f, f->dir, PAWL_OPEN_READ);
        int rc = pawl_savepoint(beside.log, to, NULL);
        if (rc != 0) {
            pawl_error e;
            pawl_last_error(&e);
            fail_msg("round %d: %s", i, e.message);
        }
        if (i % 2 == 1)
            assert_int_equal(pawl_close(beside.log), 0);
        well(to);
        struct fixture g = opened(f, to, PAWL_OPEN_READ);
        pawl_state_cursor *c;
        pawl_state_pair pair;
        assert_int_equal(pawl_table_scan(g.log, f->table, 0, NULL, &c), 0);
        uint64_t pairs = 0;
        while ((rc = pawl_state_next(c, &pair)) == 1)
            pairs++;
        assert_int_equal(rc, 0);
        pawl_state_close(c);
        assert_int_equal(pairs, digest(&g).pairs);
        assert_int_equal(pawl_close(g.log), 0);
        shell("rm -r %s", to);
    }
    atomic_store(&busy.stop, true);
    void *failed;
    assert_int_equal(pthread_join(thread, &failed), 0);
    if (failed != NULL)
        fail_msg("%s failed", (const char *)failed);
}

/* ---- what is no place for one */

static void no_place(void **state) {
    static const struct {
        const char *label, *make, *to; /* in `to` and `make` %s is the log's directory */
        int want;
    } cases[] = {
        {"there is a directory", "mkdir %s.x", "%s.x", PAWL_EXISTS},
        {"a file", ": >%s.x", "%s.x", PAWL_EXISTS},
        {"a link to nowhere", "ln -s nowhere %s.x", "%s.x", PAWL_EXISTS},
        {"a savepoint", "cp -a %s %1$s.x", "%s.x", PAWL_EXISTS},
        {"itself", ": %s", "%s", PAWL_EXISTS},
        {"in itself", ": %s", "%s/x", PAWL_INVALID},
        {"deep in itself", "mkdir -p %s/a/b", "%s/a/b/x", PAWL_INVALID},
        {"in itself by a link", "ln -s %s %1$s.x", "%s.x/y", PAWL_INVALID},
        {"no directory above", ": %s", "%s.x/y", PAWL_NOT_FOUND},
        {"a file above", ": >%s.x", "%s.x/y", PAWL_NOT_FOUND},
        {"dots", ": %s", "%s/..", PAWL_INVALID},
        {"the root", ": %s", "/", PAWL_INVALID},
        {"nothing", ": %s", "", PAWL_INVALID},
        {"a file has its other name", ": >%s.x.unfinished", "%s.x", PAWL_EXISTS},
        {"a directory that isn't ours", "mkdir %s.x.unfinished && : >%1$s.x.unfinished/mine",
         "%s.x", PAWL_EXISTS},
        {"a log", "cp -a %s %1$s.x.unfinished", "%s.x", PAWL_EXISTS},
        {"another file in ours",
         "mkdir %s.x.unfinished && printf 'pawl savepoint in the making\\n' "
         ">%1$s.x.unfinished/making && : >%1$s.x.unfinished/mine",
         "%s.x", PAWL_EXISTS},
        {"another `making`", "mkdir %s.x.unfinished && echo mine >%1$s.x.unfinished/making", "%s.x",
         PAWL_EXISTS},
        {"a link for `making`",
         "mkdir %s.x.unfinished && echo mine >%1$s.y && ln -s %1$s.y %1$s.x.unfinished/making",
         "%s.x", PAWL_EXISTS},
        {"a link has its other name", "mkdir %s.y && ln -s %1$s.y %1$s.x.unfinished", "%s.x",
         PAWL_EXISTS},
    };
    struct fixture *f = *state;
    put_one(f, "a", "1");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char make[512], to[96], seen[512], what[256];
        remove_all(f);
        snprintf(make, sizeof make, "make() { %s; }", cases[i].make);
        for (char *at; (at = strstr(make, "%1$s")) != NULL || (at = strstr(make, "%s")) != NULL;) {
            char rest[512];
            snprintf(rest, sizeof rest, "%s", at + (at[1] == '1' ? 4 : 2));
            snprintf(at, sizeof make - (size_t)(at - make), "%s%s", f->dir, rest);
        }
        shell("%s; make", make);
        snprintf(to, sizeof to, "%s", cases[i].to);
        char *at = strstr(to, "%s");
        if (at != NULL) {
            char rest[96];
            snprintf(rest, sizeof rest, "%s", at + 2);
            snprintf(at, sizeof to - (size_t)(at - to), "%s%s", f->dir, rest);
        }
        snprintf(what, sizeof what,
                 "find %s.* 2>/dev/null | sort | xargs -r ls -ld --time-style=+ ", f->dir);
        shell("%s >/tmp/test_savepoint.before", what);
        int rc = pawl_savepoint(f->log, to, NULL);
        if (rc != cases[i].want) {
            pawl_error e;
            pawl_last_error(&e);
            fail_msg("%s: %s (%s)", cases[i].label, pawl_errname(rc), e.message);
        }
        snprintf(seen, sizeof seen, "%s | cmp - /tmp/test_savepoint.before", what);
        if (system(seen) != 0)
            fail_msg("%s: something was changed", cases[i].label);
        shell("rm -rf %s/a /tmp/test_savepoint.before", f->dir);
    }
}

/* ---- what an unfinished one leaves is removed, and none of it is used again */

static void leftovers(void **state) {
    static const struct {
        const char *label, *make;
    } cases[] = {
        {"an empty directory", "mkdir $x"},
        {"no byte of `making`", "mkdir $x && : >$x/making"},
        {"half of `making`", "mkdir $x && printf 'pawl savep' >$x/making"},
        {"files of the right names and sizes",
         "cp -a $d $x && rm $x/lock && for i in $x/*; do s=$(stat -c %s $i) && : >$i && "
         "truncate -s $s $i; done && printf 'pawl savepoint in the making\\n' >$x/making"},
        {"files of another log",
         "mkdir $x && : >$x/00000000000000ff.seg && : >$x/00000000000000ff.run && "
         "printf 'pawl savepoint in the making\\n' >$x/making"},
    };
    struct fixture *f = *state;
    put_one(f, "a", "1");
    assert_int_equal(pawl_state_flush(f->log), 1);
    put_one(f, "b", "2");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char to[96], other[128];
        place(f, to, "x");
        shell("d=%s x=%s.unfinished; %s", f->dir, to, cases[i].make);
        int rc = pawl_savepoint(f->log, to, NULL);
        if (rc != 0) {
            pawl_error e;
            pawl_last_error(&e);
            fail_msg("%s: %s", cases[i].label, e.message);
        }
        snprintf(other, sizeof other, "%s.unfinished", to);
        assert_false(is_there(other));
        shell("test ! -e %s/00000000000000ff.seg && test ! -e %s/making", to, to);
        well(to);
        struct fixture g = opened(f, to, PAWL_OPEN_READ);
        assert_string_equal(look(&g, f->table, "a"), "1");
        assert_string_equal(look(&g, f->table, "b"), "2");
        assert_int_equal(pawl_close(g.log), 0);
        shell("rm -r %s", to);
    }
}

/* ---- nothing is made from what isn't well */

static void from_what_is_damaged(void **state) {
    static const struct {
        const char *label, *edit; /* in the closed log's directory */
        int want;                 /* one of these, the first if opening finds it */
    } cases[] = {
        {"a byte of an old segment",
         "printf X | dd of=0000000000000000.seg bs=1 seek=20000 conv=notrunc 2>/dev/null",
         PAWL_DAMAGED},
        {"an old segment is short", "truncate -s 100000 0000000000000001.seg", PAWL_DAMAGED},
        {"a run is gone", "rm *.run", PAWL_DAMAGED},
        {"a run is short", "for r in *.run; do truncate -s 4096 $r; done", PAWL_DAMAGED},
        {"a run's header",
         "for r in *.run; do printf X | dd of=$r bs=1 seek=100 conv=notrunc 2>/dev/null; done",
         PAWL_DAMAGED},
    };
    struct fixture *f = *state;
    static char value[60000];
    for (int i = 0; i < 60; i++) { /* several segments */
        pawl_record r = {.value = value, .value_len = sizeof value};
        assert_int_equal(pawl_append(f->log, f->in, 0, &r, NULL), 0);
    }
    put_one(f, "a", "1");
    assert_int_equal(pawl_state_flush(f->log), 1);
    assert_int_equal(pawl_close(f->log), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int writer = 0; writer < 2; writer++) {
            char copy[96], to[96];
            place(f, copy, "copy");
            place(f, to, "save");
            shell("cp -a %s %s && cd %s && %s", f->dir, copy, copy, cases[i].edit);
            struct fixture g = opened(f, copy, writer ? 0 : PAWL_OPEN_READ);
            int rc = pawl_savepoint(g.log, to, NULL);
            if (rc != cases[i].want) {
                pawl_error e;
                pawl_last_error(&e);
                fail_msg("%s: %s (%s)", cases[i].label, pawl_errname(rc), e.message);
            }
            gone(to);
            assert_int_equal(pawl_close(g.log), 0);
            shell("rm -r %s", copy);
        }
    }
    open_log(f);
}

static void arguments(void **state) {
    struct fixture *f = *state;
    char to[96];
    place(f, to, "x");
    assert_int_equal(pawl_savepoint(NULL, to, NULL), PAWL_INVALID);
    assert_int_equal(pawl_savepoint(f->log, NULL, NULL), PAWL_INVALID);
    pawl_savepoint_info none = {.struct_size = 0};
    assert_int_equal(pawl_savepoint(f->log, to, &none), PAWL_INVALID);
    struct fixture g = opened(f, f->dir, PAWL_OPEN_READ | PAWL_OPEN_SALVAGE);
    assert_int_equal(pawl_savepoint(g.log, to, NULL), PAWL_STATE);
    assert_int_equal(pawl_close(g.log), 0);
    gone(to);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_the_log_said, setup_here, teardown_here),
        cmocka_unit_test_setup_teardown(beside_a_busy_writer, setup_here, teardown_here),
        cmocka_unit_test_setup_teardown(no_place, setup_here, teardown_here),
        cmocka_unit_test_setup_teardown(leftovers, setup_here, teardown_here),
        cmocka_unit_test_setup_teardown(from_what_is_damaged, setup_here, teardown_here),
        cmocka_unit_test_setup_teardown(arguments, setup_here, teardown_here),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
