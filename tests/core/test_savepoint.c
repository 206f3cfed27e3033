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
        pawl *written; /* nobody writes to it */
        assert_int_equal(pawl_open(to, NULL, &written, NULL), PAWL_READ_ONLY);
        assert_int_equal(pawl_repair(to, NULL, NULL), PAWL_READ_ONLY);
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

/* ---- logs that are made of one */

typedef int (*remake_fn)(const char *savepoint, const char *to, pawl_savepoint_info *info,
                         pawl_error *err);

static void remake(remake_fn call, const char *from, const char *to, pawl_savepoint_info *info) {
    pawl_error e;
    *info = (pawl_savepoint_info)PAWL_SAVEPOINT_INIT;
    if (call(from, to, info, &e) != 0)
        fail_msg("%s", e.message);
}

static void id_of(struct fixture *f, uint8_t id[16]) {
    pawl_status st = PAWL_STATUS_INIT;
    assert_int_equal(pawl_get_status(f->log, &st), 0);
    memcpy(id, st.log_id, 16);
}

/* Goes on, over several segments, flushes and merges, and stays right. */
static void goes_on(struct fixture *f, unsigned from) {
    static char value[60000];
    pawl_retention least = {.bytes = 1};
    add_counter(f, 50, PAWL_EXACTLY_ONCE);
    for (int i = 0; i < 60; i++) {
        pawl_record r = {.value = value, .value_len = sizeof value};
        assert_int_equal(pawl_append(f->log, f->out, 0, &r, NULL), 0);
        if (i % 10 == 0)
            count_some(f, from + (unsigned)i * 10, from + (unsigned)i * 10 + 100, true);
    }
    assert_int_equal(pawl_retention_set(f->log, &least), 0);
    assert_true(pawl_retention_apply(f->log) > 0);
    check_counts(f, 100);
    put_one(f, "x", "z");
}

static void save_some(struct fixture *f, char to[96]) {
    static char value[60000];
    place(f, to, "save");
    add_counter(f, 50, PAWL_EXACTLY_ONCE);
    count_some(f, 0, 1000, true);
    for (int i = 0; i < 40; i++) { /* several segments */
        pawl_record r = {.value = value, .value_len = sizeof value};
        assert_int_equal(pawl_append(f->log, f->out, 0, &r, NULL), 0);
    }
    count_some(f, 1000, 1500, true);
    count_some(f, 1500, 1700, false);
    assert_int_equal(pawl_savepoint(f->log, to, NULL), 0);
}

/* Restored and forked logs go on, the original too, and the savepoint stays what it is. */
static void logs_of_one(void **state) {
    struct fixture *f = *state;
    char save[96], restored[96], forked[96], again[96], sums[256];
    uint8_t id[16], restored_id[16], fork_id[16], later[16];
    pawl_savepoint_info info;
    save_some(f, save);
    id_of(f, id);
    shell("cd %s && sha256sum * >%s.sums", save, f->dir);
    place(f, restored, "restored");
    place(f, forked, "forked");
    place(f, again, "again");
    remake(pawl_restore, save, restored, &info);
    assert_true(info.linked != 0);
    assert_memory_equal(info.log_id, id, 16);
    remake(pawl_fork, save, forked, &info);
    assert_true(info.linked != 0);
    assert_memory_not_equal(info.log_id, id, 16);
    memcpy(fork_id, info.log_id, 16);
    struct fixture r = opened(f, restored, 0), k = opened(f, forked, 0);
    id_of(&r, restored_id);
    assert_memory_equal(restored_id, id, 16);
    id_of(&k, later);
    assert_memory_equal(later, fork_id, 16);
    goes_on(&r, 1700);
    goes_on(&k, 1700);
    reopen(&k);
    id_of(&k, later);
    assert_memory_equal(later, fork_id, 16); /* in each later segment too */
    assert_int_equal(pawl_close(r.log), 0);
    assert_int_equal(pawl_close(k.log), 0);
    well(restored);
    well(forked);
    well(f->dir);
    snprintf(sums, sizeof sums, "cd %s && sha256sum --quiet -c %s.sums", save, f->dir);
    assert_int_equal(system(sums), 0);
    /* a fork of a savepoint of a fork is another log again */
    k = opened(f, forked, 0);
    char second[96];
    place(f, second, "second");
    assert_int_equal(pawl_savepoint(k.log, second, NULL), 0);
    assert_int_equal(pawl_close(k.log), 0);
    remake(pawl_fork, second, again, &info);
    assert_memory_not_equal(info.log_id, fork_id, 16);
    assert_memory_not_equal(info.log_id, id, 16);
    well(again);
}

/* Decisions of two-phase sinks are the original's to carry out. */
static void decisions(void **state) {
    struct fixture *f = *state;
    char save[96], restored[96], forked[96];
    uint32_t processor;
    pawl_decision d;
    pawl_savepoint_info info;
    assert_int_equal(pawl_processor_register(f->log, "sink", &processor), 0);
    for (int i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof name, "pawl-%d", i);
        pawl_tx *tx = begin(f);
        assert_int_equal(pawl_decide(tx, processor, name), 0);
        assert_int_equal(pawl_commit(tx, NULL), 0);
    }
    place(f, save, "save");
    place(f, restored, "restored");
    place(f, forked, "forked");
    assert_int_equal(pawl_savepoint(f->log, save, NULL), 0);
    remake(pawl_restore, save, restored, &info);
    remake(pawl_fork, save, forked, &info);
    struct fixture r = opened(f, restored, 0), k = opened(f, forked, 0);
    assert_int_equal(pawl_decision_at(r.log, 2, &d), 0);
    assert_int_equal(pawl_decision_at(k.log, 0, &d), PAWL_NOT_FOUND);
    assert_int_equal(pawl_close(r.log), 0);
    assert_int_equal(pawl_close(k.log), 0);
}

/* A savepoint with one file changed: nothing is made of it, and nothing is left. */
static void of_what_was_changed(void **state) {
    static const struct {
        const char *label, *edit; /* in the savepoint */
        int want;
    } cases[] = {
        {"a run is gone", "rm $(ls *.run | head -1)", PAWL_DAMAGED},
        {"a run is another one", "set -- *.run; cp $1 x; mv x $2", PAWL_DAMAGED},
        {"a run of the same size with other bytes",
         "set -- *.run; n=$(stat -c %s $1); rm $1; head -c $n /dev/urandom >$1", PAWL_DAMAGED},
        {"a run is short", "set -- *.run; cp $1 x; truncate -s 4096 x; mv x $1", PAWL_DAMAGED},
        {"a byte of a run",
         "set -- *.run; cp $1 x; printf X | dd of=x bs=1 seek=5000 conv=notrunc 2>/dev/null; "
         "mv x $1",
         PAWL_DAMAGED},
        {"the oldest segment is gone", "rm $(ls *.seg | head -1)", PAWL_DAMAGED},
        {"the newest segment is gone", "rm $(ls *.seg | tail -1)", PAWL_DAMAGED},
        {"a byte of an old segment",
         "set -- *.seg; cp $1 x; printf X | dd of=x bs=1 seek=20000 conv=notrunc 2>/dev/null; "
         "mv x $1",
         PAWL_DAMAGED},
        {"another segment", "set -- *.seg; cp $1 x; mv x $2", PAWL_DAMAGED},
        {"the list is gone", "rm savepoint", PAWL_NOT_FOUND},
        {"the list is cut", "truncate -s -5 savepoint", PAWL_DAMAGED},
        {"the list is empty", ": >savepoint", PAWL_VERSION},
        {"a line is gone", "sed -i 5d savepoint", PAWL_DAMAGED},
        {"another LSN", "sed -i 's/^lsn ./lsn 9/' savepoint", PAWL_DAMAGED},
        {"a later version's", "sed -i 's/^pawl savepoint 1/pawl savepoint 2/' savepoint",
         PAWL_VERSION},
        {"zeros", "truncate -s 0 savepoint; truncate -s 100 savepoint", PAWL_DAMAGED},
        {"a link for the list", "mv savepoint x; ln -s x savepoint", PAWL_IO},
    };
    static const remake_fn calls[] = {pawl_restore, pawl_fork};
    struct fixture *f = *state;
    char save[96], copy[96], to[96];
    save_some(f, save);
    place(f, copy, "copy");
    place(f, to, "to");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t k = 0; k < 2; k++) {
            pawl_error e;
            shell("cp -al %s %s && cp -a %s/savepoint %s/x && mv %s/x %s/savepoint && cd %s && { "
                  "%s; }",
                  save, copy, save, copy, copy, copy, copy, cases[i].edit);
            int rc = calls[k](copy, to, NULL, &e);
            if (rc != cases[i].want)
                fail_msg("%s: %s (%s)", cases[i].label, pawl_errname(rc), e.message);
            gone(to);
            shell("rm -r %s", copy);
        }
    pawl_error e;
    assert_int_equal(pawl_restore(f->dir, to, NULL, &e), PAWL_LOCKED);
    assert_int_equal(pawl_restore("/nowhere", to, NULL, &e), PAWL_NOT_A_LOG);
    assert_int_equal(pawl_restore(NULL, to, NULL, &e), PAWL_INVALID);
    well(save);
}

/* Repair of a log changes nothing in what shares its files. */
static void repair_keeps_what_is_shared(void **state) {
    struct fixture *f = *state;
    char save[96];
    pawl_check c = PAWL_CHECK_INIT;
    save_some(f, save);
    assert_int_equal(pawl_close(f->log), 0);
    shell("cd %s && printf X | dd of=0000000000000000.seg bs=1 seek=20000 conv=notrunc 2>/dev/null "
          "&& sha256sum *.seg >%s.sums",
          save, f->dir);
    assert_int_equal(pawl_verify(f->dir, NULL, NULL), PAWL_DAMAGED); /* the same file */
    assert_true(pawl_repair(f->dir, &c, NULL) == 0 && c.repaired == 1);
    shell("cd %s && sha256sum --quiet -c %s.sums", save, f->dir);
    assert_int_equal(pawl_verify(f->dir, NULL, NULL), 0);
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
        cmocka_unit_test_setup_teardown(logs_of_one, setup_here, teardown_here),
        cmocka_unit_test_setup_teardown(decisions, setup_here, teardown_here),
        cmocka_unit_test_setup_teardown(of_what_was_changed, setup_here, teardown_here),
        cmocka_unit_test_setup_teardown(repair_keeps_what_is_shared, setup_here, teardown_here),
        cmocka_unit_test_setup_teardown(arguments, setup_here, teardown_here),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
