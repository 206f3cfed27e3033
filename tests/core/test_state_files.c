/* SPDX-License-Identifier: Apache-2.0 */
/* Keyed state where its files, its memory and its readers are concerned: flushes while the log is
 * closed, little memory, readers in other handles, files that are taken away. */
#include <dirent.h>
#include <sched.h>
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

#include "pawl.h"
#include "state/store.h"
#undef fail /* the library has one of its own */
#include <cmocka.h>

#include "tests/support/state_log.h"

/* ---- closing while a run is being written */

static struct { atomic_bool flushed, closing; } at_close;

/* The flush goes on only once closing has begun. */
static void on_point(void *arg, const char *name) {
    (void)arg;
    if (strcmp(name, "close-begun") == 0)
        atomic_store(&at_close.closing, true);
    if (strcmp(name, "state-flushed") != 0)
        return;
    atomic_store(&at_close.flushed, true);
    while (!atomic_load(&at_close.closing))
        sched_yield();
    for (int i = 0; i < 2000; i++) /* for the mark, which must not come before the flush */
        sched_yield();
}

static void a_close_waits_for_the_flush(void **state) {
    struct fixture *f = *state;
    assert_int_equal(pawl_close(f->log), 0);
    f->options.memory_cap = 4 * MIB;
    f->options.on_point = on_point;
    open_log(f);
    for (unsigned n = 0; !atomic_load(&at_close.flushed); n++) {
        static char value[2000];
        char key[16];
        snprintf(key, sizeof key, "k%u", n);
        pawl_tx *tx = begin(f);
        assert_int_equal(pawl_tx_state_put(tx, f->table, 0, key, strlen(key), value, sizeof value),
                         0);
        assert_int_equal(pawl_commit(tx, NULL), 0);
    }
    assert_int_equal(pawl_close(f->log), 0);
    f->options.on_point = NULL;
    pawl_check c = PAWL_CHECK_INIT;
    assert_int_equal(pawl_verify(f->dir, &c, NULL), 0);
    assert_int_equal(c.clean, 1);
    open_log(f);
    pawl_status st = PAWL_STATUS_INIT;
    assert_int_equal(pawl_get_status(f->log, &st), 0);
    assert_int_equal(st.clean, 1);
}

/* ---- little memory, other readers, files that go */

static void many_keys_in_little_memory(void **state) {
    struct fixture *f = *state;
    assert_int_equal(pawl_close(f->log), 0);
    f->options.memory_cap = 4 * MIB;
    open_log(f);
    add_counter(f, 500, PAWL_EXACTLY_ONCE);
    for (unsigned i = 0; i < 40; i++) {
        feed(f, i * 2500, (i + 1) * 2500, 30011);
        assert_int_equal(pawl_run(f->log, 1, PAWL_RUN_UNTIL_IDLE), 0);
    }
    check_counts(f, 30011);
    reopen(f);
    check_counts(f, 30011);
}

/* What state needs of the log never fills a small disk: there is a flush before. */
static void a_small_disk(void **state) {
    struct fixture *f = *state;
    static const pawl_retention ways[] = {{.consumed = 1}, {.bytes = 2 * MIB}};
    static char value[10000];
    assert_int_equal(pawl_disk_cap_set(f->log, 6 * MIB), 0);
    for (int way = 0; way < 2; way++) {
        assert_int_equal(pawl_retention_set(f->log, &ways[way]), 0);
        for (int i = 0; i < 2000; i++) {
            pawl_tx *tx = begin(f);
            pawl_record r = {.value = value, .value_len = sizeof value};
            assert_int_equal(pawl_put(tx, f->out, 0, &r), 0);
            put(tx, f->table, "a", i % 2 == 0 ? "even" : "odd");
            int rc;
            while ((rc = pawl_commit(tx, NULL)) == PAWL_FULL)
                assert_true(pawl_retention_apply(f->log) >= 0);
            assert_int_equal(rc, 0);
        }
        assert_string_equal(look(f, f->table, "a"), "odd");
    }
}

static void a_reader_beside_the_writer(void **state) {
    struct fixture *f = *state, reader = *f;
    put_one(f, "a", "1");
    put_one(f, "w", "1"); /* a later commit, which says that the one before is durable */
    reader.options.flags = PAWL_OPEN_READ;
    open_log(&reader);
    assert_string_equal(look(&reader, f->table, "a"), "1");
    put_one(f, "a", "2");
    put_one(f, "b", "2");
    assert_string_equal(look(&reader, f->table, "a"), "2");
    for (int i = 0; i < 12; i++) { /* flushes, and merges that remove runs */
        char key[8];
        snprintf(key, sizeof key, "k%d", i);
        put_one(f, key, "v");
        assert_int_equal(pawl_state_flush(f->log), 1);
    }
    put_one(f, "last", "v");
    put_one(f, "witness", "v");
    assert_string_equal(look(&reader, f->table, "k0"), "v");
    assert_string_equal(look(&reader, f->table, "k11"), "v");
    assert_string_equal(look(&reader, f->table, "last"), "v");
    assert_string_equal(look(&reader, f->table, "a"), "2");
    pawl_table_digest mine, its;
    assert_int_equal(pawl_table_get_digest(f->log, f->table, 0, &mine), 0);
    assert_true(mine.pairs >= 15);
    assert_int_equal(pawl_table_get_digest(reader.log, f->table, 0, &its), 0);
    assert_true(its.pairs + 1 >= mine.pairs);
    assert_int_equal(pawl_close(reader.log), 0);
}

/* The writer flushes, and drops segments, between the reader's opening and its first look. */
static void a_reader_that_begins_late(void **state) {
    struct fixture *f = *state, reader = *f;
    static char value[60000];
    assert_int_equal(pawl_disk_cap_set(f->log, 256 * MIB), 0);
    put_one(f, "a", "1");
    put_one(f, "w", "1");
    reader.options.flags = PAWL_OPEN_READ;
    open_log(&reader);
    for (int i = 0; i < 60; i++) { /* several segments */
        pawl_tx *tx = begin(f);
        assert_int_equal(pawl_tx_state_put(tx, f->table, 0, "big", 3, value, sizeof value), 0);
        assert_int_equal(pawl_commit(tx, NULL), 0);
    }
    assert_int_equal(pawl_state_flush(f->log), 1);
    put_one(f, "b", "2");
    pawl_retention all = {.bytes = 1};
    assert_int_equal(pawl_retention_set(f->log, &all), 0);
    pawl_status st = PAWL_STATUS_INIT;
    assert_true(pawl_retention_apply(f->log) >= 0);
    assert_int_equal(pawl_get_status(f->log, &st), 0);
    assert_true(st.first_segment > 0);
    assert_string_equal(look(&reader, f->table, "a"), "1");
    assert_string_equal(look(&reader, f->table, "b"), "2");
    assert_int_equal(pawl_close(reader.log), 0);
    assert_int_equal(pawl_disk_cap_set(f->log, 64 * MIB), 0);
    put_one(f, "c", "3");
    put_one(f, "w", "2");
    open_log(&reader); /* of a log that has a cap, and lacks its first segments */
    assert_string_equal(look(&reader, f->table, "c"), "3");
    assert_int_equal(pawl_close(reader.log), 0);
}

/* Its streams can be read all the same. */
static void a_reader_with_little_memory(void **state) {
    struct fixture *f = *state, reader;
    static char value[100000];
    assert_int_equal(pawl_close(f->log), 0);
    f->options.memory_cap = 256 * MIB;
    open_log(f);
    reader = *f;
    put_one(f, "a", "1");
    put_one(f, "w", "1");
    reader.options.flags = PAWL_OPEN_READ;
    reader.options.memory_cap = 4 * MIB;
    open_log(&reader);
    assert_string_equal(look(&reader, f->table, "a"), "1");
    for (int i = 0; i < 60; i++) { /* more than the reader may have */
        char key[8];
        snprintf(key, sizeof key, "k%d", i);
        pawl_tx *tx = begin(f);
        assert_int_equal(pawl_tx_state_put(tx, f->table, 0, key, strlen(key), value, sizeof value),
                         0);
        assert_int_equal(pawl_commit(tx, NULL), 0);
    }
    feed(f, 0, 10, 3);
    put_one(f, "w", "2");
    pawl_bounds b;
    assert_int_equal(pawl_partition_bounds(reader.log, f->in, 0, &b), 0);
    assert_int_equal(b.durable, 10);
    char want[16];
    snprintf(want, sizeof want, "error %d", PAWL_MEMORY);
    assert_string_equal(look(&reader, f->table, "a"), want);
    assert_int_equal(pawl_close(reader.log), 0);
}

static bool by_scan;

static int get_or_scan(pawl_context *ctx, const pawl_record *records, size_t count, void *arg) {
    const struct fixture *f = arg;
    const void *value;
    size_t size;
    pawl_state_cursor *c;
    pawl_state_pair pair;
    (void)records, (void)count;
    int rc = by_scan ? pawl_state_scan(ctx, f->table, NULL, &c)
                     : pawl_state_get(ctx, f->table, "a", 1, &value, &size);
    if (by_scan && rc == 0) {
        while ((rc = pawl_state_next(c, &pair)) == 1)
            ;
        pawl_state_close(c);
    }
    pawl_refuse(ctx, 0, "it says that the record is at fault");
    return rc < 0;
}

/* A callback that can't read its state fails for good, whatever it says itself: no record is passed
 * over by the policy. */
static void no_record_is_passed_over(struct fixture *g) {
    pawl_processor *processor;
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    uint64_t before = 0, after = 0;
    c.name = "counter", c.inputs = &g->in, c.input_count = 1;
    c.process = get_or_scan, c.arg = g;
    c.on_error = PAWL_ON_ERROR_SKIP, c.retries = 0;
    for (int i = 0; i < 2; i++) {
        pawl_error e;
        by_scan = i == 1;
        assert_int_equal(pawl_processor_add(g->log, &c, &processor), 0);
        assert_int_equal(pawl_position_get(g->log, "counter", g->in, 0, &before), 0);
        assert_int_equal(pawl_run(g->log, 0, PAWL_RUN_UNTIL_IDLE), PAWL_PROCESSOR);
        pawl_last_error(&e);
        if (strstr(e.message, "can't go on, as its state can't be read") == NULL)
            fail_msg("%s", e.message);
        assert_int_equal(pawl_position_get(g->log, "counter", g->in, 0, &after), 0);
        assert_int_equal(after, before);
        pawl_processor_remove(processor);
    }
}

/* What becomes of a run file while the log is closed: the log opens, its streams are whole, and
 * state says what is wrong instead of something else. */
static void a_run_that_is_not_there(void **state) {
    static const struct {
        const char *label, *command;
        int want;
    } cases[] = {
        {"removed", "rm %s/*.run", PAWL_NOT_FOUND},
        {"cut", "for r in %s/*.run; do truncate -s 4096 $r; done", PAWL_DAMAGED},
        {"zeros", "for r in %s/*.run; do truncate -s 0 $r; truncate -s 8192 $r; done",
         PAWL_DAMAGED},
        {"an older one's name",
         "cd %s && set -- *.run && mv $1 spare && cp spare $1 && for r in *.run; do cp spare $r; "
         "done",
         PAWL_FOREIGN},
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char copy[96], command[1024], edit[512];
        put_one(f, "a", "1");
        assert_true(pawl_state_flush(f->log) >= 0);
        put_one(f, "b", "1");
        assert_true(pawl_state_flush(f->log) >= 0);
        assert_int_equal(pawl_close(f->log), 0);
        snprintf(copy, sizeof copy, "%s.copy", f->dir);
        snprintf(edit, sizeof edit, cases[i].command, copy);
        snprintf(command, sizeof command, "rm -rf %s && cp -a %s %s && (%s)", copy, f->dir, copy,
                 edit);
        assert_int_equal(system(command), 0);
        struct fixture g = *f;
        strcpy(g.dir, copy);
        open_log(&g);
        char want[32];
        snprintf(want, sizeof want, "error %d", cases[i].want);
        if (strcmp(look(&g, f->table, "a"), want) != 0)
            fail_msg("%s: %s, not %s", cases[i].label, look(&g, f->table, "a"), want);
        pawl_tx *tx = begin(&g);
        assert_int_equal(pawl_tx_state_put(tx, f->table, 0, "a", 1, "x", 1), cases[i].want);
        pawl_abort(tx);
        pawl_record r = {.value = "still there", .value_len = 11};
        assert_int_equal(pawl_append(g.log, f->in, 0, &r, NULL), 0);
        no_record_is_passed_over(&g);
        assert_int_equal(pawl_close(g.log), 0);
        assert_int_equal(test_dir_remove(copy), 0);
        open_log(f);
    }
}

static void edit_runs(const struct fixture *f, const char *edit) {
    char command[512];
    snprintf(command, sizeof command, "cd %s && %s", f->dir, edit);
    assert_int_equal(system(command), 0);
}

/* Another run of the same log, id, level, flush LSN and length takes a run's place (SPARK-43404,
 * SPARK-51717): it has "a" with another value. */
static void swap_run(struct fixture *f, uint32_t id, const char *value) {
    struct mem m;
    struct seam *io;
    struct run_ident was, is;
    struct run_writer *w;
    struct run_summary sum;
    char name[RUN_NAME_SIZE];
    uint8_t key[STORE_PREFIX_SIZE + 1];
    mem_init(&m, 0);
    run_name(name, id);
    assert_int_equal(seam_create(f->dir, false, PAWL_BACKEND_POSIX, PAWL_DIRECT_AUTO, &io), 0);
    assert_int_equal(run_identify(io, &m, name, &was), RUN_FILE_WHOLE);
    assert_int_equal(io->ops->unlink(io, name), 0);
    store_key(key, f->table, 0);
    key[STORE_PREFIX_SIZE] = 'a';
    struct state_pair pair = {.key = key,
                              .key_len = sizeof key,
                              .value = (const uint8_t *)value,
                              .value_len = (uint32_t)strlen(value),
                              .op = STATE_PUT};
    assert_int_equal(run_writer_open(io, &m, &was, &w), 0);
    assert_int_equal(run_writer_add(w, &pair), 0);
    assert_int_equal(run_writer_finish(w, &sum), 0);
    assert_int_equal(run_identify(io, &m, name, &is), RUN_FILE_WHOLE);
    assert_int_not_equal(is.header_hash, was.header_hash);
    is.header_hash = was.header_hash;
    assert_memory_equal(&is, &was, sizeof is); /* all else is the same */
    io->ops->destroy(io);
}

static void a_run_with_other_pairs(void **state) {
    struct fixture *f = *state;
    char want[32];
    static char value[60000];
    put_one(f, "a", "mine");
    assert_int_equal(pawl_state_flush(f->log), 1);
    for (int checkpoint = 0; checkpoint < 2; checkpoint++) {
        for (int i = 0; checkpoint && i < 30; i++) { /* the next segment's says it too */
            pawl_record r = {.value = value, .value_len = sizeof value};
            assert_int_equal(pawl_append(f->log, f->in, 0, &r, NULL), 0);
        }
        assert_string_equal(look(f, f->table, "a"), "mine");
        assert_int_equal(pawl_close(f->log), 0);
        edit_runs(f, "cp *1.run kept");
        swap_run(f, 1, "hers");
        open_log(f);
        snprintf(want, sizeof want, "error %d", PAWL_FOREIGN);
        assert_string_equal(look(f, f->table, "a"), want);
        assert_int_equal(pawl_close(f->log), 0);
        edit_runs(f, "mv kept *1.run");
        open_log(f);
    }
}

/* ---- scans, space, deleted tables */

static void a_scan_keeps_its_handle_open(void **state) {
    struct fixture *f = *state, reader = *f;
    put_one(f, "a", "1");
    put_one(f, "b", "2");
    reader.options.flags = PAWL_OPEN_READ;
    open_log(&reader);
    struct fixture *all[] = {f, &reader};
    for (int i = 0; i < 2; i++) {
        pawl_state_cursor *c;
        pawl_state_pair pair;
        assert_int_equal(pawl_table_scan(all[i]->log, f->table, 0, NULL, &c), 0);
        assert_int_equal(pawl_state_next(c, &pair), 1);
        assert_int_equal(pawl_close(all[i]->log), PAWL_BUSY);
        pawl_error e;
        pawl_last_error(&e);
        assert_non_null(strstr(e.message, "1 scans"));
        assert_int_equal(pair.key_len, 1); /* and all of it goes on */
        assert_memory_equal(pair.key, "a", 1);
        if (i == 0)
            assert_int_equal(pawl_state_next(c, &pair), 1);
        assert_string_equal(look(all[i], f->table, "a"), "1");
        pawl_state_close(c);
    }
    assert_int_equal(pawl_close(reader.log), 0);
    reopen(f);
}

/* All of the directory's files together; the log may remove some meanwhile. */
static uint64_t space_used(const struct fixture *f) {
    uint64_t sum = 0;
    struct dirent *e;
    struct stat st;
    DIR *d = opendir(f->dir);
    assert_non_null(d);
    while ((e = readdir(d)) != NULL)
        if (fstatat(dirfd(d), e->d_name, &st, 0) == 0 && S_ISREG(st.st_mode))
            sum += (uint64_t)st.st_size;
    assert_int_equal(closedir(d), 0);
    return sum;
}

/* State that grows ends as a log that is full, below the cap, with room for merges; it goes on when
 * the cap is raised. */
static void the_disk_cap_counts_runs(void **state) {
    struct fixture *f = *state;
    const uint64_t cap = 24 * MIB;
    static char value[50000];
    pawl_retention all = {.bytes = 1};
    unsigned n = 0;
    assert_int_equal(pawl_disk_cap_set(f->log, cap), 0);
    assert_int_equal(pawl_retention_set(f->log, &all), 0);
    int rc = 0;
    for (int tries = 0; tries < 200; n += rc == 0) {
        char key[16];
        snprintf(key, sizeof key, "k%u", n);
        memset(value, (int)('a' + n % 26), sizeof value);
        pawl_tx *tx = begin(f);
        assert_int_equal(pawl_tx_state_put(tx, f->table, 0, key, strlen(key), value, sizeof value),
                         0);
        rc = pawl_commit(tx, NULL);
        if (rc == PAWL_FULL) {
            pawl_abort(tx);
            assert_true(pawl_retention_apply(f->log) >= 0);
            tries++;
        } else {
            assert_int_equal(rc, 0);
        }
        if (space_used(f) > cap + 3 * MIB) /* changes in segments that were begun before */
            fail_msg("%llu bytes", (unsigned long long)space_used(f));
        assert_true(n < 1000);
    }
    pawl_status st = PAWL_STATUS_INIT;
    assert_int_equal(pawl_get_status(f->log, &st), 0);
    assert_true(st.runs > 0 && st.disk_bytes + 2 * st.run_bytes <= cap + 3 * MIB);
    assert_true(n > 50);
    reopen(f);
    assert_int_equal(pawl_disk_cap_set(f->log, 4 * cap), 0);
    for (unsigned i = 0; i < 20; i++)
        put_one(f, "more", "1");
    assert_string_equal(look(f, f->table, "more"), "1");
    pawl_check c = PAWL_CHECK_INIT;
    assert_int_equal(pawl_verify(f->dir, &c, NULL), 0);
}

static unsigned count_pairs(struct fixture *g, uint32_t table) {
    pawl_state_cursor *c;
    pawl_state_pair pair;
    unsigned n = 0;
    int rc;
    assert_int_equal(pawl_table_scan(g->log, table, 0, NULL, &c), 0);
    while ((rc = pawl_state_next(c, &pair)) == 1)
        n++;
    assert_int_equal(rc, 0);
    pawl_state_close(c);
    return n;
}

/* What a table of the same name held before is never seen again (eKuiper 871): with its pairs in
 * memory, frozen, in runs, in merges; reopened, and by a reader that had the old one open. */
static void a_table_made_anew_is_empty(void **state) {
    struct fixture *f = *state, reader = *f;
    char key[16];
    reader.options.flags = PAWL_OPEN_READ;
    open_log(&reader);
    for (unsigned round = 0; round < 12; round++) {
        uint32_t old = f->table;
        for (unsigned i = 0; i < 30; i++) {
            snprintf(key, sizeof key, "k%u", i);
            put_one(f, key, "old");
            if (round % 3 != 0 && i == 10)
                assert_int_equal(pawl_state_flush(f->log), 1);
        }
        put_one(f, "witness", "old");
        assert_int_equal(count_pairs(&reader, old) >= 30, 1);
        pawl_state_cursor *c;
        pawl_state_pair pair;
        assert_int_equal(pawl_table_scan(reader.log, old, 0, NULL, &c), 0);
        assert_int_equal(pawl_table_delete(f->log, "counts"), 0);
        f->table = make_table(f, "counts", 1, 0);
        assert_int_not_equal(f->table, old);
        if (round % 3 == 1) /* a run without anything of the old table */
            assert_true(pawl_state_flush(f->log) >= 0);
        put_one(f, "new", "1");
        put_one(f, "new", "2");
        assert_int_equal(count_pairs(f, f->table), 1);
        assert_string_equal(look(f, f->table, "k3"), "-");
        pawl_table_info t = PAWL_TABLE_INFO_INIT;
        assert_int_equal(pawl_table_find(reader.log, "counts", &t), 0);
        assert_int_equal(t.id, f->table);
        assert_int_equal(count_pairs(&reader, t.id), 1);
        assert_string_equal(look(&reader, t.id, "k3"), "-");
        char want[32];
        snprintf(want, sizeof want, "error %d", PAWL_NOT_FOUND);
        assert_string_equal(look(&reader, old, "k3"), want);
        while (pawl_state_next(c, &pair) == 1) /* the scan of before sees what it saw, or less */
            assert_true(pair.value_len == 3 || memcmp(pair.key, "new", 3) == 0);
        pawl_state_close(c);
        if (round % 4 == 3) {
            reopen(f);
            assert_int_equal(count_pairs(f, f->table), 1);
            assert_int_equal(pawl_close(reader.log), 0);
            open_log(&reader);
            assert_string_equal(look(&reader, f->table, "k3"), "-");
        }
    }
    assert_int_equal(pawl_close(reader.log), 0);
    pawl_check check = PAWL_CHECK_INIT;
    assert_int_equal(pawl_verify(f->dir, &check, NULL), 0);
    assert_int_equal(check.state_pairs, 1);
}

/* What a crash leaves goes; what isn't this log's stays. */
static void files_that_no_commit_names(void **state) {
    struct fixture *f = *state;
    char command[512];
    put_one(f, "a", "1");
    assert_int_equal(pawl_state_flush(f->log), 1);
    assert_int_equal(pawl_close(f->log), 0);
    snprintf(command, sizeof command,
             "cd %s && cp *.run 00000000000000f0.run && : >00000000000000f1.run && "
             "echo mine >00000000000000f2.run && echo mine >other.run",
             f->dir);
    assert_int_equal(system(command), 0);
    open_log(f);
    assert_string_equal(look(f, f->table, "a"), "1");
    snprintf(command, sizeof command,
             "cd %s && test ! -e 00000000000000f0.run && test ! -e 00000000000000f1.run && "
             "test -e 00000000000000f2.run && test -e other.run",
             f->dir);
    assert_int_equal(system(command), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_close_waits_for_the_flush, setup, teardown),
        cmocka_unit_test_setup_teardown(many_keys_in_little_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(a_small_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reader_beside_the_writer, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reader_that_begins_late, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reader_with_little_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(a_run_that_is_not_there, setup, teardown),
        cmocka_unit_test_setup_teardown(a_run_with_other_pairs, setup, teardown),
        cmocka_unit_test_setup_teardown(a_scan_keeps_its_handle_open, setup, teardown),
        cmocka_unit_test_setup_teardown(the_disk_cap_counts_runs, setup, teardown),
        cmocka_unit_test_setup_teardown(a_table_made_anew_is_empty, setup, teardown),
        cmocka_unit_test_setup_teardown(files_that_no_commit_names, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
