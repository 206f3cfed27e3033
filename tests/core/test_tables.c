/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of keyed state in the log's catalog: made, deleted and found, after a crash, in later
 * segments and for followers; and what frames, checkpoints and damage say of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pawl.h"
#include "pawl_state.h"
#include "pipeline/tables.h"

#undef fail /* the library has one of its own */
#include <cmocka.h>

#include "tests/support/own_log.h"

struct fixture {
    char dir[64];
    pawl_options options;
    pawl *log;
    uint32_t s; /* stream */
};

static void open_log(struct fixture *f) {
    must_open(f->dir, &f->options, &f->log);
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    *state = f;
    if (f == NULL)
        return -1;
    if (test_dir_make(f->dir, "/tmp/test_tables") != 0)
        return -1;
    f->options = small_segments();
    open_log(f);
    return pawl_stream_create(f->log, "s", 1, &f->s) != 0 ||
           pawl_processor_register(f->log, "count", NULL) != 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    pawl_check c = PAWL_CHECK_INIT;
    pawl_error e;
    int closed = pawl_close(f->log);
    int rc = pawl_verify(f->dir, &c, &e);
    if (rc != 0)
        print_error("verify: %s\n", e.message);
    int removed = test_dir_remove(f->dir);
    free(f);
    return closed != 0 || rc != 0 || removed != 0;
}

static pawl_table_config config(const char *name, uint32_t partitions) {
    pawl_table_config c = PAWL_TABLE_CONFIG_INIT;
    c.name = name;
    c.owner = "count";
    c.partitions = partitions;
    return c;
}

static int make(pawl *p, const char *name, uint32_t partitions, uint32_t *id) {
    pawl_table_config c = config(name, partitions);
    c.version = 7;
    return pawl_table_create(p, &c, id);
}

/* Is the table there as make() made it? */
static void check_table(pawl *p, const char *name, uint32_t id, uint32_t partitions) {
    pawl_table_info i = PAWL_TABLE_INFO_INIT;
    assert_int_equal(pawl_table_find(p, name, &i), 0);
    assert_int_equal(i.id, id);
    assert_int_equal(i.partitions, partitions);
    assert_int_equal(i.version, 7);
    assert_int_equal(i.ttl_ms, 0);
    assert_int_equal(i.pairs + i.bytes + i.lost, 0);
    assert_string_equal(i.name, name);
    assert_string_equal(i.owner_name, "count");
    assert_int_equal(pawl_table_get_info(p, id, &i), 0);
    assert_string_equal(i.name, name);
}

static void fill_segments(struct fixture *f) {
    static char value[60000];
    pawl_record r = {.value = value, .value_len = sizeof value};
    for (int i = 0; i < 40; i++)
        assert_int_equal(pawl_append(f->log, f->s, 0, &r, NULL), 0);
}

static void tables_are_kept(void **state) {
    struct fixture *f = *state;
    uint32_t one = 0, two = 0, again = 0;
    pawl_table_info i = PAWL_TABLE_INFO_INIT;
    assert_int_equal(make(f->log, "one", 3, &one), 0);
    assert_int_equal(make(f->log, "two", 1, &two), 0);
    assert_int_equal(make(f->log, "one", 1, &again), PAWL_EXISTS);
    assert_int_equal(again, one);
    pawl_options read = PAWL_OPTIONS_INIT;
    read.flags = PAWL_OPEN_READ;
    pawl *reader;
    assert_int_equal(pawl_open(f->dir, &read, &reader, NULL), 0);
    check_table(reader, "one", one, 3);
    fill_segments(f);
    assert_int_equal(pawl_table_delete(f->log, "one"), 0);
    assert_int_equal(pawl_table_delete(f->log, "one"), PAWL_NOT_FOUND);
    assert_int_equal(make(f->log, "one", 2, &again), 0);
    assert_int_equal(again, two + 1);
    assert_int_equal(pawl_sync(f->log), 0);
    for (int round = 0; round < 3; round++) {
        check_table(f->log, "one", again, 2);
        check_table(f->log, "two", two, 1);
        assert_int_equal(pawl_table_at(f->log, 0, &i), 0);
        assert_int_equal(i.id, two);
        assert_int_equal(pawl_table_at(f->log, 2, &i), PAWL_NOT_FOUND);
        assert_int_equal(pawl_close(f->log), 0);
        open_log(f);
        fill_segments(f);
    }
    check_table(reader, "one", again, 2);
    assert_int_equal(pawl_table_get_info(reader, one, &i), PAWL_NOT_FOUND);
    assert_int_equal(pawl_close(reader), 0);
    pawl_status st = PAWL_STATUS_INIT;
    assert_int_equal(pawl_get_status(f->log, &st), 0);
    assert_int_equal(st.features_write & FEATURE_TABLES, FEATURE_TABLES);
}

static void what_is_refused(void **state) {
    struct fixture *f = *state;
    static const struct {
        const char *name, *owner;
        uint32_t partitions, flags;
        int code;
    } rows[] = {{"a b", "count", 1, 0, PAWL_INVALID},  {"lost-1", "count", 1, 0, PAWL_INVALID},
                {NULL, "count", 1, 0, PAWL_INVALID},   {"t", NULL, 1, 0, PAWL_INVALID},
                {"t", "nobody", 1, 0, PAWL_NOT_FOUND}, {"t", "count", 0, 0, PAWL_INVALID},
                {"t", "count", 1025, 0, PAWL_INVALID}, {"t", "count", 1, 4, PAWL_INVALID},
                {"t", "count", 1, PAWL_TABLE_LOCAL, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        pawl_table_config c = PAWL_TABLE_CONFIG_INIT;
        c.name = rows[i].name;
        c.owner = rows[i].owner;
        c.partitions = rows[i].partitions;
        c.flags = rows[i].flags;
        int code = pawl_table_create(f->log, &c, NULL);
        if (code != rows[i].code)
            fail_msg("row %zu: %d", i, code);
    }
    /* an owner doesn't go while it has a table, since nobody expects state to vanish with it */
    assert_int_equal(pawl_processor_forget(f->log, "count"), PAWL_BUSY);
    pawl_error e;
    pawl_last_error(&e);
    assert_non_null(strstr(e.message, "table t"));
    assert_int_equal(pawl_table_delete(f->log, "t"), 0);
    assert_int_equal(pawl_processor_forget(f->log, "count"), 0);
    assert_int_equal(make(f->log, "t", 1, NULL), PAWL_NOT_FOUND);
}

/* ---- frames, applied to tables alone */

struct frames {
    struct mem mem;
    struct tables t;
    struct frame_key key;
    uint64_t lsn;
    uint8_t *frame;
};

static int apply(struct frames *x, uint8_t kind, const struct run *runs, uint32_t count,
                 const struct bytes *body, bool lost) {
    struct frame_header h = {.kind = kind,
                             .kind_flags = 1,
                             .runs = (uint16_t)count,
                             .body_len = (uint32_t)body->len,
                             .lsn = x->lsn,
                             .epoch = 1};
    struct piece piece = {body->data, body->len};
    x->frame = realloc(x->frame, frame_size(count, body->len));
    frame_encode(x->frame, &h, runs, &piece, 1, &x->key);
    x->lsn += 4096;
    return tables_apply(&x->t, &h, x->frame, lost);
}

static int apply_table(struct frames *x, struct table_entry e, bool lost) {
    struct bytes b;
    bytes_init(&b, &x->mem);
    e.name_len = e.name != NULL ? (uint16_t)strlen(e.name) : 0;
    table_encode(&b, &e);
    struct run r = {.type = RUN_TABLES, .count = 1, .len = (uint32_t)b.len};
    int rc = apply(x, FRAME_COMMIT, &r, 1, &b, lost);
    bytes_free(&b);
    return rc;
}

/* One pair "k" in the partition, by its commit number `base`. */
static int apply_state(struct frames *x, uint32_t table, uint32_t partition, uint64_t base,
                       bool lost) {
    struct bytes b;
    bytes_init(&b, &x->mem);
    state_sum_encode(bytes_add(&b, STATE_SUM_SIZE), &(struct state_sum){base, 1, 1, 1});
    state_change_encode(&b, &(struct state_change){.key_len = 1, .key = (const uint8_t *)"k"});
    struct run r = {.type = RUN_STATE,
                    .stream = table,
                    .partition = partition,
                    .base = base,
                    .count = 1,
                    .len = (uint32_t)b.len};
    int rc = apply(x, FRAME_COMMIT, &r, 1, &b, lost);
    bytes_free(&b);
    return rc;
}

static int apply_position(struct frames *x, uint64_t from, uint64_t to) {
    struct bytes b;
    bytes_init(&b, &x->mem);
    position_encode(&b, &(struct position_entry){1, 1, 0, from, to});
    struct run r = {.type = RUN_POSITIONS, .count = 1, .len = (uint32_t)b.len};
    int rc = apply(x, FRAME_COMMIT, &r, 1, &b, true);
    bytes_free(&b);
    return rc;
}

/* A checkpoint of the tables replaces them, and says the same. */
static void through_checkpoint(struct frames *x, bool lost) {
    struct bytes b, after;
    struct run runs[16];
    uint32_t count;
    bytes_init(&b, &x->mem);
    bytes_init(&after, &x->mem);
    assert_int_equal(tables_checkpoint(&x->t, &b, runs, &count), 0);
    assert_int_equal(apply(x, FRAME_CHECKPOINT, runs, count, &b, lost), 0);
    assert_int_equal(tables_checkpoint(&x->t, &after, runs, &count), 0);
    assert_int_equal(after.len, b.len);
    assert_memory_equal(after.data, b.data, b.len);
    bytes_free(&b);
    bytes_free(&after);
}

static void begin(struct frames *x) {
    memset(x, 0, sizeof *x);
    mem_init(&x->mem, 64ull * MIB);
    tables_init(&x->t, &x->mem, 64ull * MIB);
    x->lsn = 64ull * MIB + SEGMENT_HEADER_SIZE;
    x->t.begun = true;
    assert_int_equal(tables_add_stream(&x->t, 1, 1, "s", 1), 0);
    assert_int_equal(tables_add_processor(&x->t, 1, "count", 5), 0);
    assert_int_equal(
        apply_table(
            x, (struct table_entry){.op = 1, .id = 1, .owner = 1, .partitions = 2, .name = "t"},
            false),
        0);
}

static void end(struct frames *x) {
    tables_free(&x->t);
    free(x->frame);
    assert_int_equal(x->mem.used, 0);
}

static struct state_part *part(struct frames *x, uint32_t k) {
    return &tables_table(&x->t, 1)->parts[k];
}

/* An area without counts, in which commits may have been, before the next frame. */
static void lose_area(struct frames *x) {
    x->t.area_bytes = 4096;
}

static void commits_of_a_partition_are_counted(void **state) {
    struct frames x;
    (void)state;
    begin(&x);
    assert_int_equal(apply_state(&x, 1, 0, 1, false), 0);
    assert_int_equal(apply_state(&x, 1, 0, 3, false), PAWL_DAMAGED);
    assert_int_equal(apply_state(&x, 1, 0, 1, false), PAWL_DAMAGED);
    assert_int_equal(apply_state(&x, 1, 0, 2, false), 0);
    assert_int_equal(apply_state(&x, 1, 2, 1, false), PAWL_DAMAGED);
    assert_int_equal(apply_state(&x, 2, 0, 1, false), PAWL_DAMAGED);
    assert_int_equal(part(&x, 0)->commits, 2);
    assert_int_equal(part(&x, 0)->sum.low, 2);
    assert_int_equal(part(&x, 1)->commits, 0);
    through_checkpoint(&x, false);
    assert_int_equal(part(&x, 0)->commits, 2);
    assert_false(state_lost(part(&x, 0)));
    end(&x);
}

static void lost_state_is_told_for_each_partition(void **state) {
    struct frames x;
    (void)state;
    begin(&x);
    assert_int_equal(apply_state(&x, 1, 0, 1, false), 0);
    lose_area(&x);
    uint64_t next = x.lsn;
    assert_int_equal(apply_state(&x, 1, 0, 3, true), 0); /* the second is missing */
    assert_int_equal(apply_state(&x, 1, 1, 1, true), 0); /* here none is */
    assert_int_equal(part(&x, 0)->lost_lsn, next);
    assert_false(state_lost(part(&x, 1)));
    /* a file with all changes up to there has them */
    assert_int_equal(
        apply_table(&x, (struct table_entry){.op = TABLE_FLUSHED, .a = next - 1}, true), 0);
    assert_true(state_lost(part(&x, 0)));
    assert_int_equal(
        apply_table(&x, (struct table_entry){.op = TABLE_RUN_ADDED, .id = 1, .a = next, .b = 8192},
                    true),
        0);
    assert_false(state_lost(part(&x, 0)));
    /* unless its writer said that it didn't have them either */
    assert_int_equal(
        apply_table(&x, (struct table_entry){.op = TABLE_LOST, .id = 1, .partitions = 1}, true), 0);
    assert_int_equal(
        apply_table(&x, (struct table_entry){.op = TABLE_FLUSHED, .a = x.lsn - 1}, true), 0);
    through_checkpoint(&x, false);
    assert_true(part(&x, 1)->lost);
    assert_false(state_lost(part(&x, 0)));
    end(&x);
}

static void a_jump_of_a_position_leaves_state_in_doubt(void **state) {
    struct frames x;
    (void)state;
    begin(&x);
    assert_int_equal(apply_state(&x, 1, 0, 1, false), 0);
    lose_area(&x);
    assert_int_equal(apply_position(&x, 5, 9), 0);
    assert_true(state_lost(part(&x, 0)));
    assert_false(state_lost(part(&x, 1)));
    assert_int_equal(apply_state(&x, 1, 0, 2, true), 0); /* nothing is missing */
    assert_false(state_lost(part(&x, 0)));
    /* and where none is lost, nothing is in doubt */
    x.t.lost_end = 0;
    assert_int_equal(apply_position(&x, 12, 13), 0);
    assert_false(state_lost(part(&x, 0)));
    end(&x);
}

/* A checkpoint of a version that doesn't know hashes of runs takes none away. */
static void hashes_of_runs_are_kept(void **state) {
    struct frames x;
    struct table_entry run = {.op = TABLE_RUN_ADDED, .a = 1, .b = 8192};
    (void)state;
    begin(&x);
    for (run.id = 1; run.id <= 3; run.id++) {
        run.ttl_ms = run.id == 2 ? 0 : 1000 + run.id;
        assert_int_equal(apply_table(&x, run, false), 0);
    }
    through_checkpoint(&x, false);
    struct tables known = x.t;
    known.state.runs = mem_alloc(&x.mem, 3 * sizeof *known.state.runs);
    memcpy(known.state.runs, x.t.state.runs, 3 * sizeof *known.state.runs);
    uint64_t bytes = x.t.rows_bytes;
    x.t.state.runs[0].header_hash = 0;
    x.t.state.runs[2].header_hash = 0;
    x.t.state.runs[2].flush_lsn++; /* another file than the one that is known */
    x.t.rows_bytes -= 2 * C_RUN_HASH_SIZE;
    state_keep_hashes(&x.t, &known);
    assert_int_equal(x.t.state.runs[0].header_hash, 1001);
    assert_int_equal(x.t.state.runs[1].header_hash, 0);
    assert_int_equal(x.t.state.runs[2].header_hash, 0);
    assert_int_equal(x.t.rows_bytes, bytes - C_RUN_HASH_SIZE);
    mem_free(&x.mem, known.state.runs, 3 * sizeof *known.state.runs);
    run = (struct table_entry){.op = TABLE_RUN_REMOVED, .id = 1};
    assert_int_equal(apply_table(&x, run, false), 0);
    assert_int_equal(x.t.rows_bytes, bytes - 2 * C_RUN_HASH_SIZE - C_RUN_SIZE);
    end(&x);
}

static void limits_of_tables(void **state) {
    struct frames x;
    struct table_entry run = {.op = TABLE_RUN_ADDED, .a = 1, .b = 8192};
    (void)state;
    begin(&x);
    assert_int_equal(
        apply_table(
            &x, (struct table_entry){.op = 1, .id = 2, .owner = 9, .partitions = 1, .name = "u"},
            false),
        PAWL_DAMAGED);
    assert_int_equal(
        apply_table(
            &x, (struct table_entry){.op = 1, .id = 2, .owner = 1, .partitions = 1025, .name = "u"},
            false),
        PAWL_LIMIT);
    assert_int_equal(
        apply_table(&x,
                    (struct table_entry){
                        .op = 1, .id = 2, .owner = 1, .partitions = 1, .flags = 4, .name = "u"},
                    false),
        PAWL_VERSION);
    assert_int_equal(apply_table(&x, (struct table_entry){.op = 99}, false), PAWL_VERSION);
    for (uint32_t id = 1; id <= STATE_RUNS_MAX; id++) {
        run.id = id;
        assert_int_equal(apply_table(&x, run, false), 0);
    }
    assert_int_equal(apply_table(&x, run, false), PAWL_DAMAGED); /* twice */
    run.id++;
    assert_int_equal(apply_table(&x, run, false), PAWL_LIMIT);
    run.op = TABLE_RUN_REMOVED;
    assert_int_equal(apply_table(&x, run, false), PAWL_DAMAGED);
    run.id = 3;
    assert_int_equal(apply_table(&x, run, false), 0);
    run = (struct table_entry){.op = TABLE_FLUSHED, .a = x.lsn};
    assert_int_equal(apply_table(&x, run, false), PAWL_DAMAGED); /* later than itself */
    for (uint32_t id = 2; id <= 16; id++) {                      /* 2 + 15 * 1,024 partitions */
        char name[16];
        snprintf(name, sizeof name, "t%u", id);
        assert_int_equal(
            apply_table(&x,
                        (struct table_entry){
                            .op = 1, .id = id, .owner = 1, .partitions = 1024, .name = name},
                        false),
            0);
    }
    assert_int_equal(
        apply_table(
            &x,
            (struct table_entry){.op = 1, .id = 17, .owner = 1, .partitions = 1023, .name = "v"},
            false),
        PAWL_LIMIT);
    through_checkpoint(&x, false);
    assert_int_equal(x.t.state.next_run, 65);
    end(&x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(tables_are_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_refused, setup, teardown),
        cmocka_unit_test(commits_of_a_partition_are_counted),
        cmocka_unit_test(lost_state_is_told_for_each_partition),
        cmocka_unit_test(a_jump_of_a_position_leaves_state_in_doubt),
        cmocka_unit_test(hashes_of_runs_are_kept),
        cmocka_unit_test(limits_of_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
