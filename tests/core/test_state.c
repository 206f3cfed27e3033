/* SPDX-License-Identifier: Apache-2.0 */
/* Keyed state: it is where the position is, whatever ends the process, and the same whether it is
 * in memory, in a run, or in several. A plain list of pairs is the model. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/state_log.h"

#define KEYS 300

/* ---- one commit */

static void a_batch_sees_its_own_writes(void **state) {
    struct fixture *f = *state;
    put_one(f, "a", "1");
    pawl_tx *tx = begin(f);
    assert_string_equal(look_in(tx, f->table, "a"), "1");
    put(tx, f->table, "a", "2");
    put(tx, f->table, "b", "3");
    assert_string_equal(look_in(tx, f->table, "a"), "2");
    assert_string_equal(look_in(tx, f->table, "b"), "3");
    assert_int_equal(pawl_tx_state_delete(tx, f->table, PAWL_ANY, "a", 1), 1);
    assert_int_equal(pawl_tx_state_delete(tx, f->table, PAWL_ANY, "a", 1), 0);
    assert_string_equal(look_in(tx, f->table, "a"), "-");
    assert_string_equal(look(f, f->table, "a"), "1"); /* nobody else sees them yet */
    assert_string_equal(look(f, f->table, "b"), "-");
    assert_int_equal(pawl_commit(tx, NULL), 0);
    assert_string_equal(look(f, f->table, "a"), "-");
    assert_string_equal(look(f, f->table, "b"), "3");
}

static void an_aborted_one_leaves_no_trace(void **state) {
    struct fixture *f = *state;
    pawl_table_digest before, after;
    put_one(f, "a", "1");
    assert_int_equal(pawl_table_get_digest(f->log, f->table, 0, &before), 0);
    pawl_tx *tx = begin(f);
    put(tx, f->table, "a", "2");
    put(tx, f->table, "b", "2");
    pawl_abort(tx);
    tx = begin(f); /* with the memory of the one before */
    assert_string_equal(look_in(tx, f->table, "a"), "1");
    assert_string_equal(look_in(tx, f->table, "b"), "-");
    pawl_abort(tx);
    assert_int_equal(pawl_table_get_digest(f->log, f->table, 0, &after), 0);
    assert_memory_equal(&before, &after, sizeof before);
}

/* A value that a get gave may be given to a put. */
static void a_value_got_can_be_put(void **state) {
    struct fixture *f = *state;
    put_one(f, "a", "one");
    put_one(f, "b", "another");
    pawl_tx *tx = begin(f);
    const void *value;
    size_t len;
    for (int round = 0; round < 2; round++) { /* from the store, then from its own changes */
        assert_int_equal(pawl_tx_state_get(tx, f->table, 0, "a", 1, &value, &len), 1);
        assert_int_equal(pawl_tx_state_put(tx, f->table, 0, "b", 1, value, len), 0);
        assert_string_equal(look_in(tx, f->table, "b"), "one");
        put(tx, f->table, "a", "one");
        put(tx, f->table, "b", "another");
    }
    pawl_abort(tx);
}

static void two_that_change_one_partition(void **state) {
    struct fixture *f = *state;
    pawl_tx *first = begin(f), *second = begin(f), *reader = begin(f);
    put(first, f->table, "a", "1");
    put(second, f->table, "b", "1");
    assert_string_equal(look_in(reader, f->table, "a"), "-");
    assert_int_equal(pawl_commit(first, NULL), 0);
    assert_int_equal(pawl_commit(second, NULL), PAWL_BUSY);
    pawl_abort(reader); /* it has changed nothing */
    assert_string_equal(look(f, f->table, "a"), "1");
    assert_string_equal(look(f, f->table, "b"), "-");
}

/* Nobody waits for this commit; whoever reads it from outside does. */
static void what_is_read_is_durable(void **state) {
    struct fixture *f = *state;
    assert_int_equal(pawl_close(f->log), 0);
    f->options.no_thread = 1;
    open_log(f);
    pawl_tx *tx = begin(f);
    put(tx, f->table, "a", "1");
    assert_int_equal(pawl_commit_async(tx, NULL, NULL, NULL), 0);
    pawl_table_digest d;
    pawl_status st = PAWL_STATUS_INIT;
    assert_int_equal(pawl_table_get_digest(f->log, f->table, 0, &d), 0);
    assert_int_equal(pawl_get_status(f->log, &st), 0);
    assert_true(st.durable_lsn <= d.lsn);
    assert_string_equal(look(f, f->table, "a"), "1");
    assert_int_equal(pawl_get_status(f->log, &st), 0);
    assert_true(st.durable_lsn > d.lsn);
    f->options.no_thread = 0;
}

/* As much of both as the limits allow, in one commit. */
static void the_largest_record_and_state(void **state) {
    struct fixture *f = *state;
    static char value[MIB / 4 - 8192 - 16], big[(MIB / 4 - 8192) / 2 - 64];
    memset(value, 'v', sizeof value);
    memset(big, 's', sizeof big);
    pawl_tx *tx = begin(f);
    pawl_record r = {.value = value, .value_len = sizeof value};
    assert_int_equal(pawl_put(tx, f->in, 0, &r), 0);
    assert_int_equal(pawl_tx_state_put(tx, f->table, 0, "k", 1, big, sizeof big), 0);
    assert_int_equal(pawl_commit(tx, NULL), 0);
    reopen(f);
    size_t len;
    static char got[sizeof big];
    assert_int_equal(pawl_table_get(f->log, f->table, 0, "k", 1, got, sizeof got, &len), 1);
    assert_int_equal(len, sizeof big);
    assert_memory_equal(got, big, sizeof big);
    pawl_reader *reader;
    pawl_batch b;
    assert_int_equal(pawl_reader_open(f->log, f->in, 0, 0, 0, &reader), 0);
    assert_int_equal(pawl_read(reader, 0, 0, &b), 1);
    assert_int_equal(b.records[0].value_len, sizeof value);
    pawl_reader_close(reader);
}

/* ---- refusals */

static void what_is_refused(void **state) {
    struct fixture *f = *state;
    uint32_t many = make_table(f, "many", 4, 0),
             local = make_table(f, "local", 4, PAWL_TABLE_LOCAL);
    static char big[PAWL_STATE_VALUE_MAX + 1];
    pawl_tx *tx = begin(f);
    uint32_t wrong = 0; /* a partition that isn't the key's */
    assert_int_equal(pawl_tx_state_put(tx, many, PAWL_ANY, "k", 1, "v", 1), 0);
    for (uint32_t i = 0; i < 4; i++)
        if (pawl_tx_state_put(tx, many, i, "k", 1, "v", 1) == 0)
            wrong = (i + 1) % 4;
    struct {
        const char *label;
        int want, got;
    } cases[] = {
        {"an empty key", PAWL_INVALID, pawl_tx_state_put(tx, f->table, 0, "", 0, "v", 1)},
        {"no key", PAWL_INVALID, pawl_tx_state_put(tx, f->table, 0, NULL, 1, "v", 1)},
        {"no value", PAWL_INVALID, pawl_tx_state_put(tx, f->table, 0, "k", 1, NULL, 1)},
        {"a long key", PAWL_TOO_LARGE,
         pawl_tx_state_put(tx, f->table, 0, big, PAWL_STATE_KEY_MAX + 1, "v", 1)},
        {"a long value", PAWL_TOO_LARGE,
         pawl_tx_state_put(tx, f->table, 0, "k", 1, big, sizeof big)},
        {"no such table", PAWL_NOT_FOUND, pawl_tx_state_put(tx, 99, 0, "k", 1, "v", 1)},
        {"no such partition", PAWL_RANGE, pawl_tx_state_put(tx, many, 4, "k", 1, "v", 1)},
        {"a key of another partition", PAWL_RANGE,
         pawl_tx_state_put(tx, many, wrong, "k", 1, "v", 1)},
        {"the same in a local table", 0, pawl_tx_state_put(tx, local, wrong, "k", 1, "v", 1)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (cases[i].got != cases[i].want)
            fail_msg("%s: %d, not %d", cases[i].label, cases[i].got, cases[i].want);
    pawl_abort(tx);
}

/* ---- a processor */

static void counters_are_where_the_position_is(void **state) {
    struct fixture *f = *state;
    add_counter(f, 100, PAWL_EXACTLY_ONCE);
    feed(f, 0, 5000, 701);
    assert_int_equal(pawl_run(f->log, 1, PAWL_RUN_UNTIL_IDLE), 0);
    check_counts(f, 701);
    assert_int_equal(pawl_state_flush(f->log), 1);
    check_counts(f, 701);
    reopen(f);
    check_counts(f, 701);
    add_counter(f, 33, PAWL_EXACTLY_ONCE);
    feed(f, 5000, 9000, 701);
    assert_int_equal(pawl_run(f->log, 1, PAWL_RUN_UNTIL_IDLE), 0);
    check_counts(f, 701);
    reopen(f); /* part of it is in a run, part in the log */
    check_counts(f, 701);
}

/* Both streams' records change the same pairs, and two workers run the processor. */
static void two_inputs_share_a_table(void **state) {
    struct fixture *f = *state;
    uint32_t inputs[2] = {f->in, 0};
    assert_int_equal(pawl_stream_create(f->log, "in-2", 1, &inputs[1]), 0);
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    c.name = "counter";
    c.inputs = inputs;
    c.input_count = 2;
    c.process = count_words;
    c.arg = f;
    c.batch_max = 7;
    pawl_processor *p;
    assert_int_equal(pawl_processor_add(f->log, &c, &p), 0);
    feed(f, 0, 3000, 1);
    f->in = inputs[1];
    feed(f, 0, 3000, 1);
    assert_int_equal(pawl_run(f->log, 2, PAWL_RUN_UNTIL_IDLE), 0);
    int64_t sum = 0;
    size_t len;
    assert_int_equal(pawl_table_get(f->log, f->table, 0, "word-0", 6, &sum, sizeof sum, &len), 1);
    assert_int_equal(sum, 6000);
}

/* A process that counts until it is killed. */
static void count_for_ever(struct fixture *f) {
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    pawl_processor *p;
    c.name = "counter";
    c.inputs = &f->in;
    c.input_count = 1;
    c.process = count_words;
    c.arg = f;
    c.batch_max = 17;
    if (pawl_open(f->dir, &f->options, &f->log, NULL) == 0 &&
        pawl_processor_add(f->log, &c, &p) == 0 && pawl_run(f->log, 0, 0) == 0)
        _exit(0);
    _exit(1);
}

/* Whoever ends the process, between any two commits. */
static void a_killed_process(void **state) {
    struct fixture *f = *state;
    for (unsigned i = 0; i < 20; i++)
        feed(f, i * 3000, (i + 1) * 3000, 211);
    assert_int_equal(pawl_close(f->log), 0);
    f->log = NULL;
    for (int round = 0; round < 6; round++) {
        pid_t pid = fork();
        if (pid == 0)
            count_for_ever(f);
        assert_true(pid > 0);
        usleep(20000u + 7000u * (unsigned)round); /* it runs until it is killed, somewhere */
        assert_int_equal(kill(pid, SIGKILL), 0);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status)); /* it hadn't ended by itself */
        open_log(f);
        check_counts(f, 211);
        if (round % 2 == 1)
            assert_true(pawl_state_flush(f->log) >= 0);
        assert_int_equal(pawl_close(f->log), 0);
        f->log = NULL;
    }
    open_log(f);
    add_counter(f, 100, PAWL_EXACTLY_ONCE);
    assert_int_equal(pawl_run(f->log, 1, PAWL_RUN_UNTIL_IDLE), 0);
    check_counts(f, 211);
    uint64_t at;
    assert_int_equal(pawl_position_get(f->log, "counter", f->in, 0, &at), 0);
    assert_int_equal(at, 60000);
}

static void at_most_once_has_no_state(void **state) {
    struct fixture *f = *state;
    add_counter(f, 10, PAWL_AT_MOST_ONCE);
    feed(f, 0, 10, 3);
    assert_int_equal(pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE), PAWL_PROCESSOR);
    assert_string_equal(look(f, f->table, "word-0"), "-");
}

/* A table belongs to one processor. */
static void another_ones_table(void **state) {
    struct fixture *f = *state;
    assert_int_equal(pawl_processor_register(f->log, "other", NULL), 0);
    pawl_table_config c = PAWL_TABLE_CONFIG_INIT;
    c.name = "others";
    c.owner = "other";
    c.partitions = 1;
    assert_int_equal(pawl_table_create(f->log, &c, &f->table), 0);
    add_counter(f, 10, PAWL_EXACTLY_ONCE);
    feed(f, 0, 10, 3);
    assert_int_equal(pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE), PAWL_PROCESSOR);
    assert_string_equal(look(f, f->table, "word-0"), "-");
}

/* ---- against a model */

struct model {
    bool there[KEYS];
    char value[KEYS][40];
};

static void key_of(unsigned i, char out[32]) {
    /* some share prefixes, some are long */
    snprintf(out, 32, i % 3 == 0 ? "%u" : i % 3 == 1 ? "prefix/%u" : "prefix/longer/%05u", i);
}

static int by_key(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void compare(struct fixture *f, const struct model *m, bool reverse) {
    static char keys[KEYS][32];
    const char *sorted[KEYS];
    size_t n = 0;
    for (unsigned i = 0; i < KEYS; i++)
        if (m->there[i]) {
            key_of(i, keys[i]);
            sorted[n++] = keys[i];
        }
    qsort(sorted, n, sizeof sorted[0], by_key);
    pawl_state_range range = PAWL_STATE_RANGE_INIT;
    range.reverse = reverse;
    pawl_state_cursor *c;
    pawl_state_pair pair;
    assert_int_equal(pawl_table_scan(f->log, f->table, 0, &range, &c), 0);
    for (size_t i = 0; i < n; i++) {
        const char *want = sorted[reverse ? n - 1 - i : i];
        assert_int_equal(pawl_state_next(c, &pair), 1);
        assert_int_equal(pair.key_len, strlen(want));
        assert_memory_equal(pair.key, want, pair.key_len);
        unsigned k = (unsigned)((want - keys[0]) / 32);
        assert_int_equal(pair.value_len, strlen(m->value[k]));
        assert_memory_equal(pair.value, m->value[k], pair.value_len);
    }
    assert_int_equal(pawl_state_next(c, &pair), 0);
    pawl_state_close(c);
}

static void random_changes(void **state) {
    struct fixture *f = *state;
    static struct model m, next;
    uint32_t seed = 12345;
    memset(&m, 0, sizeof m);
    for (unsigned round = 0; round < 400; round++) {
        pawl_tx *tx = begin(f);
        next = m;
        unsigned changes = 1 + (seed >> 8) % 40;
        for (unsigned i = 0; i < changes; i++) {
            seed = seed * 1664525u + 1013904223u;
            unsigned k = (seed >> 8) % KEYS;
            char key[32];
            key_of(k, key);
            if ((seed >> 4) % 4 == 0) {
                assert_int_equal(pawl_tx_state_delete(tx, f->table, 0, key, strlen(key)),
                                 next.there[k]);
                next.there[k] = false;
            } else {
                snprintf(next.value[k], sizeof next.value[k], "%u/%.*u", round,
                         (int)((seed >> 20) % 20), k);
                put(tx, f->table, key, next.value[k]);
                next.there[k] = true;
            }
        }
        if (round % 7 == 3) {
            pawl_abort(tx);
        } else {
            assert_int_equal(pawl_commit(tx, NULL), 0);
            m = next;
        }
        if (round % 23 == 5)
            assert_true(pawl_state_flush(f->log) >= 0);
        if (round % 61 == 40)
            reopen(f);
        if (round % 10 == 0)
            compare(f, &m, round % 20 == 0);
        for (unsigned i = 0; i < 5; i++) {
            seed = seed * 1664525u + 1013904223u;
            unsigned k = (seed >> 8) % KEYS;
            char key[32];
            key_of(k, key);
            assert_string_equal(look(f, f->table, key), m.there[k] ? m.value[k] : "-");
        }
    }
    compare(f, &m, false);
}

/* ---- tables that go, cursors that stay */

static void a_new_table_of_the_same_name(void **state) {
    struct fixture *f = *state;
    for (int flushed = 0; flushed < 2; flushed++) {
        put_one(f, "a", "old");
        if (flushed != 0)
            assert_int_equal(pawl_state_flush(f->log), 1);
        assert_int_equal(pawl_table_delete(f->log, "counts"), 0);
        assert_string_equal(look(f, f->table, "a"), "error -10");
        f->table = make_table(f, "counts", 1, 0);
        assert_string_equal(look(f, f->table, "a"), "-");
        put_one(f, "b", "new");
        assert_int_equal(pawl_state_flush(f->log), 1);
        reopen(f);
        assert_string_equal(look(f, f->table, "a"), "-");
        assert_string_equal(look(f, f->table, "b"), "new");
    }
}

/* What another table has in memory stays when one is deleted. */
static void one_of_two_tables_is_deleted(void **state) {
    struct fixture *f = *state;
    uint32_t other = make_table(f, "other", 1, 0);
    put_one(f, "a", "1");
    pawl_tx *tx = begin(f);
    put(tx, other, "b", "2");
    assert_int_equal(pawl_commit(tx, NULL), 0);
    assert_int_equal(pawl_table_delete(f->log, "counts"), 0);
    assert_string_equal(look(f, other, "b"), "2");
    assert_true(pawl_state_flush(f->log) >= 0);
    assert_string_equal(look(f, other, "b"), "2");
}

static void a_cursor_sees_its_moment(void **state) {
    struct fixture *f = *state;
    put_one(f, "a", "1");
    assert_int_equal(pawl_state_flush(f->log), 1);
    put_one(f, "b", "1");
    pawl_state_cursor *c;
    pawl_state_pair pair;
    assert_int_equal(pawl_table_scan(f->log, f->table, 0, NULL, &c), 0);
    put_one(f, "a", "2");
    put_one(f, "c", "2");
    assert_int_equal(pawl_state_flush(f->log), 1);
    put_one(f, "b", "3");
    assert_int_equal(pawl_state_next(c, &pair), 1);
    assert_memory_equal(pair.value, "1", 1);
    assert_int_equal(pawl_state_next(c, &pair), 1);
    assert_memory_equal(pair.key, "b", 1);
    assert_memory_equal(pair.value, "1", 1);
    assert_int_equal(pawl_state_next(c, &pair), 0);
    pawl_state_close(c);
    assert_string_equal(look(f, f->table, "b"), "3");
}

/* Other tables are touched while a scan is under way. */
static void a_scan_beside_other_tables(void **state) {
    struct fixture *f = *state;
    uint32_t tables[20];
    for (uint32_t i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "table-%u", i);
        tables[i] = make_table(f, name, 1, 0);
    }
    pawl_tx *tx = begin(f);
    pawl_state_cursor *c;
    pawl_state_pair pair;
    for (int i = 0; i < 20; i++) {
        char key[8];
        snprintf(key, sizeof key, "k%02d", i);
        put(tx, f->table, key, key);
    }
    assert_int_equal(pawl_tx_state_scan(tx, f->table, 0, NULL, &c), 0);
    for (int i = 0; i < 20; i++) {
        char key[8];
        snprintf(key, sizeof key, "k%02d", i);
        assert_int_equal(pawl_state_next(c, &pair), 1);
        assert_memory_equal(pair.key, key, 3);
        put(tx, tables[i], "other", "v");
    }
    assert_int_equal(pawl_state_next(c, &pair), 0);
    pawl_state_close(c);
    assert_int_equal(pawl_commit(tx, NULL), 0);
}

/* A transaction changes what it scans: what it left alone is seen once, in order, and what it
 * changed as it was or as it is. Values grow, and keys that are not scanned take the memory that
 * this leaves. */
static void a_scan_of_what_changes(void **state) {
    enum { COUNT = 60 };
    struct fixture *f = *state;
    char key[COUNT][8];
    bool changed[COUNT] = {false};
    for (int i = 0; i < COUNT; i++) {
        snprintf(key[i], sizeof key[i], "k%02d", i);
        put_one(f, key[i], "old");
        if (i == COUNT / 2)
            assert_int_equal(pawl_state_flush(f->log), 1);
    }
    pawl_tx *tx = begin(f);
    for (int i = 0; i < COUNT; i += 3)
        put(tx, f->table, key[i], "own");
    pawl_state_cursor *c;
    pawl_state_pair pair;
    pawl_state_range range = PAWL_STATE_RANGE_INIT;
    range.to = "l", range.to_len = 1;
    assert_int_equal(pawl_tx_state_scan(tx, f->table, 0, &range, &c), 0);
    int rc, next = 0;
    while ((rc = pawl_state_next(c, &pair)) == 1) {
        while (next < COUNT && memcmp(key[next], pair.key, 3) < 0)
            assert_true(changed[next++]);
        assert_true(next < COUNT && pair.key_len == 3 && pair.value_len >= 3);
        assert_memory_equal(pair.key, key[next], 3);
        bool is = memcmp(pair.value, next % 3 == 0 ? "own" : "old", 3) == 0;
        assert_true(is || (changed[next] && memcmp(pair.value, "new", 3) == 0));
        int other = (next % 4 < 2 ? next + 1 : next * 7 + 11) % COUNT; /* the next, or any */
        changed[other] = true;
        if (next++ % 2 == 0)
            put(tx, f->table, key[other], "new, and longer than the one before it");
        else
            assert_true(pawl_tx_state_delete(tx, f->table, 0, key[other], 3) >= 0);
        char beyond[16];
        snprintf(beyond, sizeof beyond, "m%02d", next);
        put(tx, f->table, beyond, "bad");
    }
    assert_int_equal(rc, 0);
    while (next < COUNT)
        assert_true(changed[next++]);
    pawl_state_close(c);
    assert_int_equal(pawl_commit(tx, NULL), 0);
}

static void ranges(void **state) {
    struct fixture *f = *state;
    static const char *const keys[] = {"a", "ab", "abc", "b", "b\xff", "b\xff\xff", "c"};
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
            put_one(f, keys[i], "v");
        struct {
            const char *from, *to, *prefix, *want;
        } cases[] = {
            {NULL, NULL, NULL, "a ab abc b b\xff b\xff\xff c "},
            {"ab", NULL, NULL, "ab abc b b\xff b\xff\xff c "},
            {"aa", "b", NULL, "ab abc "},
            {NULL, "ab", NULL, "a "},
            {NULL, NULL, "ab", "ab abc "},
            {NULL, NULL, "b\xff", "b\xff b\xff\xff "},
            {"abc", NULL, "a", "abc "},
            {NULL, "abc", "a", "a ab "},
            {"x", NULL, NULL, ""},
            {"b", "a", NULL, ""},
        };
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
            for (unsigned reverse = 0; reverse < 2; reverse++) {
                pawl_state_range r = PAWL_STATE_RANGE_INIT;
                r.from = cases[i].from;
                r.from_len = r.from != NULL ? strlen(cases[i].from) : 0;
                r.to = cases[i].to;
                r.to_len = r.to != NULL ? strlen(cases[i].to) : 0;
                r.prefix = cases[i].prefix;
                r.prefix_len = r.prefix != NULL ? strlen(cases[i].prefix) : 0;
                r.reverse = reverse;
                pawl_state_cursor *c;
                pawl_state_pair pair;
                char got[128] = "";
                assert_int_equal(pawl_table_scan(f->log, f->table, 0, &r, &c), 0);
                while (pawl_state_next(c, &pair) == 1) {
                    char one[32];
                    size_t n = (size_t)snprintf(one, sizeof one, "%.*s ", (int)pair.key_len,
                                                (const char *)pair.key);
                    assert_true(strlen(got) + n < sizeof got);
                    if (reverse)
                        memmove(got + n, got, strlen(got) + 1);
                    memcpy(got + (reverse ? 0 : strlen(got)), one, reverse ? n : n + 1);
                }
                pawl_state_close(c);
                assert_string_equal(got, cases[i].want);
            }
        assert_int_equal(pawl_state_flush(f->log), 1); /* the same from a run */
    }
}

/* Of a newer program: what it asks for beyond this version is refused. */
static void a_range_of_a_newer_version(void **state) {
    struct fixture *f = *state;
    struct {
        pawl_state_range known;
        uint64_t unknown;
    } range = {.known = PAWL_STATE_RANGE_INIT};
    pawl_state_cursor *c;
    range.known.struct_size = sizeof range;
    assert_int_equal(pawl_table_scan(f->log, f->table, 0, &range.known, &c), 0);
    pawl_state_close(c);
    range.unknown = 1;
    assert_int_equal(pawl_table_scan(f->log, f->table, 0, &range.known, &c), PAWL_UNSUPPORTED);
    range.known.struct_size = 8;
    assert_int_equal(pawl_table_scan(f->log, f->table, 0, &range.known, &c), PAWL_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_batch_sees_its_own_writes, setup, teardown),
        cmocka_unit_test_setup_teardown(an_aborted_one_leaves_no_trace, setup, teardown),
        cmocka_unit_test_setup_teardown(a_value_got_can_be_put, setup, teardown),
        cmocka_unit_test_setup_teardown(two_that_change_one_partition, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_read_is_durable, setup, teardown),
        cmocka_unit_test_setup_teardown(the_largest_record_and_state, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(counters_are_where_the_position_is, setup, teardown),
        cmocka_unit_test_setup_teardown(two_inputs_share_a_table, setup, teardown),
        cmocka_unit_test_setup_teardown(a_killed_process, setup, teardown),
        cmocka_unit_test_setup_teardown(at_most_once_has_no_state, setup, teardown),
        cmocka_unit_test_setup_teardown(another_ones_table, setup, teardown),
        cmocka_unit_test_setup_teardown(random_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_new_table_of_the_same_name, setup, teardown),
        cmocka_unit_test_setup_teardown(one_of_two_tables_is_deleted, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cursor_sees_its_moment, setup, teardown),
        cmocka_unit_test_setup_teardown(a_scan_beside_other_tables, setup, teardown),
        cmocka_unit_test_setup_teardown(a_scan_of_what_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_range_of_a_newer_version, setup, teardown),
        cmocka_unit_test_setup_teardown(ranges, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
