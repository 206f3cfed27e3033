/* SPDX-License-Identifier: Apache-2.0 */
/* Logs with keyed state whose every hash is right, and that say what no log may: of tables, runs,
 * sums and levels, with run files beside them. A writer opens them or refuses them; it never ends
 * the process, never makes a log that can't be opened again, and its streams go on. And what others
 * plant beside a log under the names of runs neither stops a flush nor is taken away. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pawl_state.h"
#include "pipeline/engine.h"
#include "tests/support/forge.h"

#undef fail /* the library has one of its own */
#include <cmocka.h>

#include "tests/support/test_dir.h"

#define SEGMENT MIB

static char base[64];

/* ---- pieces of forged logs */

static void begin_log(struct forge *f, const char *dir) {
    forge_begin(f, dir, SEGMENT);
    forge_stream(f, 1, 1, "s");
    forge_processor(f, 1, "p");
}

static void entry(struct forge *f, const struct table_entry *e) {
    forge_run(f, RUN_TABLES, 0, 0, 1, 0);
    table_encode(&f->body, e);
}

static void table_of(struct forge *f, uint32_t id, uint32_t partitions) {
    char name[32];
    int n = snprintf(name, sizeof name, "t%u", id);
    entry(f, &(struct table_entry){.op = TABLE_CREATE,
                                   .id = id,
                                   .owner = 1,
                                   .partitions = partitions,
                                   .flags = PAWL_TABLE_LOCAL,
                                   .name = name,
                                   .name_len = (uint16_t)n});
    forge_frame(f, FRAME_COMMIT);
}

/* A change of a partition; `sum` is what the log says that it holds then. */
static uint64_t change(struct forge *f, const struct state_sum *sum, uint64_t number,
                       const char *key, const char *value) {
    uint8_t bytes[STATE_SUM_SIZE];
    forge_run(f, RUN_STATE, 1, 0, 1, number);
    state_sum_encode(bytes, sum);
    bytes_put(&f->body, bytes, sizeof bytes);
    state_change_encode(&f->body, &(struct state_change){.key = (const uint8_t *)key,
                                                         .key_len = (uint32_t)strlen(key),
                                                         .value = (const uint8_t *)value,
                                                         .value_len = (uint32_t)strlen(value)});
    return forge_frame(f, FRAME_COMMIT);
}

/* A run file of one pair, k -> 1. Returns its length. */
static uint64_t make_run(struct forge *f, uint32_t id, uint32_t level, uint64_t flush_lsn) {
    struct seam *io;
    struct run_writer *w;
    struct run_summary sum;
    struct run_ident ident = {.run_id = id, .level = level, .flush_lsn = flush_lsn};
    uint8_t key[STORE_PREFIX_SIZE + 1];
    memcpy(ident.log_id, f->header.log_id, sizeof ident.log_id);
    store_key(key, 1, 0);
    key[STORE_PREFIX_SIZE] = 'k';
    assert_int_equal(seam_create(f->dir, false, PAWL_BACKEND_POSIX, PAWL_DIRECT_OFF, &io), 0);
    assert_int_equal(run_writer_open(io, &f->mem, &ident, &w), 0);
    assert_int_equal(run_writer_add(w, &(struct state_pair){.key = key,
                                                            .key_len = sizeof key,
                                                            .value = (const uint8_t *)"1",
                                                            .value_len = 1,
                                                            .op = STATE_PUT}),
                     0);
    assert_int_equal(run_writer_finish(w, &sum), 0);
    io->ops->destroy(io);
    return sum.length;
}

/* And the entry that names it. */
static void add_run(struct forge *f, uint32_t id, uint32_t level, uint64_t flush_lsn) {
    uint64_t length = make_run(f, id, level, flush_lsn);
    entry(f, &(struct table_entry){
                 .op = TABLE_RUN_ADDED, .id = id, .owner = level, .a = flush_lsn, .b = length});
    forge_frame(f, FRAME_COMMIT);
}

/* What a partition with the pair k -> `value` holds. */
static struct state_sum sum_of(const char *value) {
    struct state_sum sum = {0};
    digest_add(&sum, "k", 1, value, strlen(value));
    return sum;
}

/* ---- forgeries */

static void honest(struct forge *f) {
    struct state_sum sum = sum_of("1");
    table_of(f, 1, 1);
    add_run(f, 1, 0, change(f, &sum, 1, "k", "1"));
}

static void levels_at_the_end(struct forge *f) {
    struct state_sum sum = sum_of("1");
    table_of(f, 1, 1);
    for (uint32_t i = 1; i <= 8; i++)
        add_run(f, i, STATE_RUNS_MAX - 1, change(f, &sum, i, "k", "1"));
}

static void as_many_runs_as_there_may_be(struct forge *f) {
    struct state_sum sum = sum_of("1");
    table_of(f, 1, 1);
    for (uint32_t i = 1; i <= STATE_RUNS_MAX; i++)
        add_run(f, i, i % STATE_RUNS_MAX, change(f, &sum, i, "k", "1"));
}

static void last_id_of_a_run(struct forge *f) {
    struct state_sum sum = sum_of("1");
    table_of(f, 1, 1);
    add_run(f, UINT32_MAX - 1, 0, change(f, &sum, 1, "k", "1"));
}

static void sum_of_nothing(struct forge *f) {
    struct state_sum sum = {0};
    table_of(f, 1, 1);
    add_run(f, 1, 0, change(f, &sum, 1, "k", "1"));
}

static void sum_of_other_pairs(struct forge *f) {
    struct state_sum sum = {.low = 7, .high = 9, .pairs = 1, .bytes = 2};
    table_of(f, 1, 1);
    add_run(f, 1, 0, change(f, &sum, 1, "k", "1"));
}

static void sum_at_its_end(struct forge *f) {
    struct state_sum sum = {.low = 7, .high = 9, .pairs = UINT64_MAX, .bytes = UINT64_MAX};
    table_of(f, 1, 1);
    add_run(f, 1, 0, change(f, &sum, 1, "k", "1"));
}

static void sum_in_memory(struct forge *f) {
    struct state_sum sum = {.low = 7, .high = 9, .pairs = 1, .bytes = 2};
    table_of(f, 1, 1);
    change(f, &sum, 1, "k", "1");
}

static void absurd_length(struct forge *f) {
    struct state_sum sum = sum_of("1");
    table_of(f, 1, 1);
    uint64_t lsn = change(f, &sum, 1, "k", "1");
    entry(f, &(struct table_entry){
                 .op = TABLE_RUN_ADDED, .id = 1, .owner = 0, .a = lsn, .b = UINT64_MAX});
    forge_frame(f, FRAME_COMMIT);
}

static void absurd_partitions(struct forge *f) {
    table_of(f, 1, UINT32_MAX);
}

static void sparse_ids(struct forge *f) {
    for (uint32_t i = 1; i <= 1000; i++)
        table_of(f, i * 4000000, 1);
}

static void later_flush(struct forge *f) {
    table_of(f, 1, 1);
    entry(f, &(struct table_entry){.op = TABLE_FLUSHED, .a = UINT64_MAX});
    forge_frame(f, FRAME_COMMIT);
}

/* `opens`: the log can be opened. `get`, `put`, `flush`: what these answer then; `verify` after
 * all. */
static const struct forgery {
    const char *name;
    void (*make)(struct forge *f);
    int opens, get, put, take, flush, verify;
} table[] = {
    {"honest", honest, 0, 1, 0, 1, 1, 0},
    {"levels at the end", levels_at_the_end, 0, 1, 0, 1, 1, 0},
    {"as many runs as there may be", as_many_runs_as_there_may_be, 0, 1, 0, 1, PAWL_LIMIT, 0},
    {"last id of a run", last_id_of_a_run, 0, 1, 0, 1, PAWL_LIMIT, 0},
    {"sum of nothing", sum_of_nothing, 0, 1, PAWL_DAMAGED, PAWL_DAMAGED, 0, PAWL_DAMAGED},
    {"sum of other pairs", sum_of_other_pairs, 0, 1, 0, PAWL_DAMAGED, 1, PAWL_DAMAGED},
    {"sum at its end", sum_at_its_end, 0, 1, PAWL_DAMAGED, PAWL_DAMAGED, 0, PAWL_DAMAGED},
    {"sum in memory", sum_in_memory, 0, 1, 0, PAWL_DAMAGED, 1, PAWL_DAMAGED},
    {"absurd length", absurd_length, 0, PAWL_NOT_FOUND, PAWL_NOT_FOUND, PAWL_NOT_FOUND, 0,
     PAWL_DAMAGED},
    {"absurd partitions", absurd_partitions, PAWL_LIMIT, 0, 0, 0, 0, 0},
    {"sparse ids", sparse_ids, 0, PAWL_NOT_FOUND, PAWL_NOT_FOUND, PAWL_NOT_FOUND, 0, 0},
    {"a later flush", later_flush, PAWL_DAMAGED, 0, 0, 0, 0, 0},
};

static int open_log(const char *dir, pawl **log) {
    pawl_options o = PAWL_OPTIONS_INIT;
    o.no_thread = 1;
    o.memory_cap = 16 * MIB;
    return pawl_open(dir, &o, log, NULL);
}

static bool is(const char *name, const char *call, int got, int want) {
    pawl_error e;
    pawl_last_error(&e);
    if (got == want)
        return true;
    print_error("%s: %s answers %s, not %s (%s)\n", name, call, pawl_errname(got),
                pawl_errname(want), e.message);
    return false;
}

static int put_one(pawl *log) {
    pawl_tx *tx;
    int rc = pawl_begin(log, &tx);
    if (rc == 0 && (rc = pawl_tx_state_put(tx, 1, 0, "k", 1, "other", 5)) == 0)
        return pawl_commit(tx, NULL);
    pawl_abort(tx);
    return rc;
}

static int take_one(pawl *log) {
    pawl_tx *tx;
    int done = 0, rc = pawl_begin(log, &tx);
    if (rc == 0 && (rc = done = pawl_tx_state_delete(tx, 1, 0, "k", 1)) >= 0)
        rc = pawl_commit(tx, NULL);
    else
        pawl_abort(tx);
    return rc < 0 ? rc : done;
}

/* In a process of its own: none may end by a signal. */
static bool tried(const struct forgery *t, const char *dir) {
    pawl *log;
    char value[16];
    size_t len;
    pawl_record r = {.value = "v", .value_len = 1};
    bool good = is(t->name, "open", open_log(dir, &log), t->opens);
    if (!good || t->opens != 0)
        return good;
    good &= is(t->name, "get", pawl_table_get(log, 1, 0, "k", 1, value, 16, &len), t->get);
    good &= is(t->name, "put", put_one(log), t->put);
    good &= is(t->name, "delete", take_one(log), t->take);
    good &= is(t->name, "flush", pawl_state_flush(log), t->flush);
    for (int i = 0; i < 100; i++) /* merges, if any are due */
        (void)!pawl_tick(log);
    good &= is(t->name, "append", pawl_append(log, 1, 0, &r, NULL), 0);
    good &= is(t->name, "close", pawl_close(log), 0);
    good &= is(t->name, "verify", pawl_verify(dir, NULL, NULL), t->verify);
    good &= is(t->name, "open again", open_log(dir, &log), 0);
    good &= is(t->name, "append again", pawl_append(log, 1, 0, &r, NULL), 0);
    return is(t->name, "close again", pawl_close(log), 0) && good;
}

static void fresh(char dir[96]) {
    snprintf(dir, 96, "%s/log", base);
    assert_int_equal(test_dir_remove(dir), 0);
}

static void a_forged_log_costs_itself(void **state) {
    static struct forge f;
    char dir[96];
    bool good = true;
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        int status = 0;
        fresh(dir);
        begin_log(&f, dir);
        table[i].make(&f);
        forge_end(&f);
        fflush(NULL);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            _exit(tried(&table[i], dir) ? 0 : 1);
        assert_int_equal(waitpid(child, &status, 0), child);
        if (WIFSIGNALED(status))
            print_error("%s: ended by signal %d\n", table[i].name, WTERMSIG(status));
        good &= WIFEXITED(status) && WEXITSTATUS(status) == 0;
    }
    assert_true(good);
}

/* ---- plants under the names of runs */

static void path_of(char path[192], const char *dir, uint32_t id) {
    char name[RUN_NAME_SIZE];
    run_name(name, id);
    snprintf(path, 192, "%s/%s", dir, name);
}

static void plant_text(const char *path, const char *text, off_t length) {
    int file = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
    assert_true(file >= 0);
    assert_int_equal(write(file, text, strlen(text)), (ssize_t)strlen(text));
    if (length != 0) /* zeros, then the text */
        assert_int_equal(ftruncate(file, 0) != 0 || pwrite(file, text, strlen(text), length) < 0,
                         0);
    close(file);
}

enum plant { LINK, LOST_LINK, PIPE, DIRECTORY, FOREIGN, ZEROS_THEN_TEXT, PLANTS };

static void plant(const char *dir, uint32_t id, enum plant what) {
    char path[192], target[192];
    path_of(path, dir, id);
    snprintf(target, sizeof target, "%s/target", base);
    if (what == LINK)
        assert_int_equal(symlink(target, path), 0);
    else if (what == LOST_LINK)
        assert_int_equal(symlink("/nowhere/at/all", path), 0);
    else if (what == PIPE)
        assert_int_equal(mkfifo(path, 0600), 0);
    else if (what == DIRECTORY)
        assert_int_equal(mkdir(path, 0700), 0);
    else
        plant_text(path, "somebody's", what == FOREIGN ? 0 : 8192);
}

static bool stands(const char *dir, uint32_t id) {
    char path[192];
    struct stat st;
    path_of(path, dir, id);
    return lstat(path, &st) == 0;
}

static void a_plant_stops_no_flush_and_stays(void **state) {
    static struct forge f;
    char dir[96], target[192], value[16];
    size_t len;
    pawl *log;
    (void)state;
    fresh(dir);
    begin_log(&f, dir);
    honest(&f);
    forge_end(&f);
    snprintf(target, sizeof target, "%s/target", base);
    plant_text(target, "not a run", 0);
    for (uint32_t id = 2; id < 602; id++)
        plant(dir, id, (enum plant)(id % PLANTS));
    assert_int_equal(open_log(dir, &log), 0);
    for (int i = 0; i < 12; i++) {
        assert_int_equal(put_one(log), 0);
        assert_int_equal(pawl_state_flush(log), 1);
    }
    for (int i = 0; i < 100; i++)
        (void)!pawl_tick(log);
    assert_int_equal(pawl_close(log), 0);
    assert_int_equal(open_log(dir, &log), 0);
    assert_int_equal(pawl_table_get(log, 1, 0, "k", 1, value, sizeof value, &len), 1);
    assert_memory_equal(value, "other", 5);
    assert_int_equal(pawl_close(log), 0);
    for (uint32_t id = 2; id < 602; id++)
        if (!stands(dir, id))
            fail_msg("plant %u is gone", id);
    struct stat st;
    assert_true(stat(target, &st) == 0 && st.st_size == 9);
}

/* What a crash left of the log's own runs goes, whatever else has such names. */
static void what_a_crash_left_goes_among_plants(void **state) {
    static struct forge f;
    char dir[96];
    pawl *log;
    (void)state;
    fresh(dir);
    begin_log(&f, dir);
    honest(&f);
    forge_end(&f);
    for (uint32_t id = 2; id < 302; id++)
        plant(dir, id, (enum plant)(id % PLANTS));
    (void)make_run(&f, 700, 0, 9000);
    assert_true(stands(dir, 700));
    assert_int_equal(open_log(dir, &log), 0);
    assert_int_equal(pawl_close(log), 0);
    assert_false(stands(dir, 700));
    for (uint32_t id = 2; id < 302; id++)
        assert_true(stands(dir, id));
}

static int setup(void **state) {
    (void)state;
    strcpy(base, "/tmp/test_forged_state.XXXXXX");
    return mkdtemp(base) != NULL ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    return test_dir_remove(base);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_forged_log_costs_itself),
        cmocka_unit_test(a_plant_stops_no_flush_and_stays),
        cmocka_unit_test(what_a_crash_left_goes_among_plants),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
