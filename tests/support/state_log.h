/* SPDX-License-Identifier: Apache-2.0
 *
 * state_log.h - a test's own log with a table of keyed state, and a processor that counts words in
 * it. Include <cmocka.h> first.
 */
#ifndef PAWL_TESTS_STATE_LOG_H
#define PAWL_TESTS_STATE_LOG_H

#include <string.h>

#include "pawl_state.h"
#include "tests/support/own_log.h"

#define MIB (1024u * 1024u)

struct fixture {
    char dir[64];
    pawl_options options;
    pawl *log;
    uint32_t in, out; /* streams of one partition */
    uint32_t table;
};

static inline void open_log(struct fixture *f) {
    must_open(f->dir, &f->options, &f->log);
}

static inline void reopen(struct fixture *f) {
    assert_int_equal(pawl_close(f->log), 0);
    open_log(f);
}

static inline uint32_t make_table(struct fixture *f, const char *name, uint32_t partitions,
                                  uint32_t flags) {
    pawl_table_config c = PAWL_TABLE_CONFIG_INIT;
    uint32_t id = 0;
    c.name = name;
    c.owner = "counter";
    c.partitions = partitions;
    c.flags = flags;
    assert_int_equal(pawl_table_create(f->log, &c, &id), 0);
    return id;
}

static inline int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -1;
    if (test_dir_make(f->dir, "/tmp/test_state") != 0)
        return -1;
    f->options = small_segments();
    *state = f;
    open_log(f);
    assert_int_equal(pawl_stream_create(f->log, "in", 1, &f->in), 0);
    assert_int_equal(pawl_stream_create(f->log, "out", 1, &f->out), 0);
    assert_int_equal(pawl_processor_register(f->log, "counter", NULL), 0);
    f->table = make_table(f, "counts", 1, 0);
    return 0;
}

static inline int teardown(void **state) {
    struct fixture *f = *state;
    int rc = f->log != NULL ? pawl_close(f->log) : 0;
    if (test_dir_remove(f->dir) != 0)
        rc = -1;
    free(f);
    return rc;
}

/* ---- small helpers */

static inline pawl_tx *begin(struct fixture *f) {
    pawl_tx *tx;
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    return tx;
}

static inline void put(pawl_tx *tx, uint32_t table, const char *key, const char *value) {
    assert_int_equal(pawl_tx_state_put(tx, table, PAWL_ANY, key, strlen(key), value, strlen(value)),
                     0);
}

static inline void put_one(struct fixture *f, const char *key, const char *value) {
    pawl_tx *tx = begin(f);
    put(tx, f->table, key, value);
    assert_int_equal(pawl_commit(tx, NULL), 0);
}

/* The value of a key as a text; "-": there is none. */
static inline const char *look(struct fixture *f, uint32_t table, const char *key) {
    static char value[256];
    size_t len = 0;
    int rc =
        pawl_table_get(f->log, table, PAWL_ANY, key, strlen(key), value, sizeof value - 1, &len);
    if (rc < 0) {
        pawl_error e;
        pawl_last_error(&e);
        snprintf(value, sizeof value, "error %d", rc);
        return value;
    }
    if (rc == 0)
        return "-";
    value[len] = 0;
    return value;
}

static inline const char *look_in(pawl_tx *tx, uint32_t table, const char *key) {
    static char text[256];
    const void *value;
    size_t len;
    int rc = pawl_tx_state_get(tx, table, PAWL_ANY, key, strlen(key), &value, &len);
    assert_true(rc >= 0);
    if (rc == 0)
        return "-";
    memcpy(text, value, len);
    text[len] = 0;
    return text;
}

/* ---- a processor that counts words */

static inline int count_words(pawl_context *ctx, const pawl_record *records, size_t count,
                              void *arg) {
    struct fixture *f = arg;
    for (size_t i = 0; i < count; i++) {
        int64_t sum;
        char text[64];
        int rc = pawl_state_add(ctx, f->table, records[i].value, records[i].value_len, 1, &sum);
        if (rc < 0)
            return rc;
        int n = snprintf(text, sizeof text, "%.*s=%lld", (int)records[i].value_len,
                         (const char *)records[i].value, (long long)sum);
        pawl_record r = {.value = text, .value_len = (uint32_t)n};
        rc = pawl_emit(ctx, f->out, 0, &r);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static inline void add_counter(struct fixture *f, uint32_t batch_max, int guarantee) {
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    c.name = "counter";
    c.inputs = &f->in;
    c.input_count = 1;
    c.process = count_words;
    c.arg = f;
    c.batch_max = batch_max;
    c.guarantee = guarantee;
    pawl_processor *p;
    assert_int_equal(pawl_processor_add(f->log, &c, &p), 0);
}

static inline void feed(struct fixture *f, unsigned from, unsigned to, unsigned different) {
    pawl_tx *tx = begin(f);
    for (unsigned i = from; i < to; i++) {
        char word[32];
        int n = snprintf(word, sizeof word, "word-%u", i * 7919u % different);
        pawl_record r = {.value = word, .value_len = (uint32_t)n};
        assert_int_equal(pawl_put(tx, f->in, 0, &r), 0);
    }
    assert_int_equal(pawl_commit(tx, NULL), 0);
}

/* The counters are those of the input that the processor has consumed. */
static inline void check_counts(struct fixture *f, unsigned different) {
    uint64_t at = 0;
    unsigned *want = calloc(different, sizeof *want), seen = 0;
    assert_non_null(want);
    if (pawl_position_get(f->log, "counter", f->in, 0, &at) != 0)
        at = 0;
    for (unsigned i = 0; i < at; i++)
        want[i * 7919u % different]++;
    pawl_state_cursor *c;
    pawl_state_pair pair;
    assert_int_equal(pawl_table_scan(f->log, f->table, 0, NULL, &c), 0);
    int rc;
    while ((rc = pawl_state_next(c, &pair)) == 1) {
        int64_t value;
        char key[32];
        snprintf(key, sizeof key, "%.*s", (int)pair.key_len, (const char *)pair.key);
        unsigned word = (unsigned)strtoul(key + 5, NULL, 10);
        assert_true(word < different && pair.value_len == sizeof value);
        memcpy(&value, pair.value, sizeof value);
        assert_int_equal(value, want[word]);
        want[word] = 0;
        seen++;
    }
    assert_int_equal(rc, 0);
    pawl_state_close(c);
    for (unsigned i = 0; i < different; i++)
        assert_int_equal(want[i], 0); /* none is missing */
    pawl_table_digest d;
    assert_int_equal(pawl_table_get_digest(f->log, f->table, 0, &d), 0);
    assert_int_equal(d.pairs, seen);
    free(want);
}

#endif
