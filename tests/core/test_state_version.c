/* SPDX-License-Identifier: Apache-2.0 */
/* The version of a table's state: a program says which one it knows. An older state is brought to
 * it once, whole or not at all, wherever the process is killed; a newer one is refused. */
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

#define PAIRS 3000 /* enough that a migration takes several commits */

static pawl_table_config declare(uint32_t version) {
    pawl_table_config c = PAWL_TABLE_CONFIG_INIT;
    c.name = "counts", c.owner = "counter", c.partitions = 1, c.version = version;
    return c;
}

static void fill(struct fixture *f) {
    for (int n = 0; n < PAIRS; n += 500) {
        pawl_tx *tx = begin(f);
        for (int i = n; i < n + 500; i++) {
            char key[16], value[64];
            snprintf(key, sizeof key, "k%05d", i);
            snprintf(value, sizeof value, "%d, and what makes it longer", i);
            put(tx, f->table, key, value);
        }
        assert_int_equal(pawl_commit(tx, NULL), 0);
        if (n == 1000)
            assert_int_equal(pawl_state_flush(f->log), 1);
    }
}

/* The number in a key. */
static int number_of(const pawl_state_pair *pair) {
    char text[16] = "";
    memcpy(text, pair->key, pair->key_len < sizeof text ? pair->key_len : sizeof text - 1);
    return atoi(text + 1);
}

struct change {
    unsigned seen, kill_at; /* 0: not killed */
    int result;             /* of the pair after half of them */
};

/* Each third pair goes, each third stays, and each third becomes two with other keys. */
static int to_two(pawl_migration *m, const pawl_state_pair *pair, void *arg) {
    struct change *c = arg;
    char key[16];
    if (++c->seen == c->kill_at)
        raise(SIGKILL);
    if (c->result != 0 && c->seen > PAIRS / 2)
        return c->result;
    assert_true(pawl_migrate_from(m) < 2);
    int n = number_of(pair);
    if (n % 3 == 0)
        return 0;
    if (n % 3 == 1)
        return pawl_migrate_put(m, pair->key, pair->key_len, pair->value, pair->value_len);
    snprintf(key, sizeof key, "a%05d", n);
    int rc = pawl_migrate_put(m, key, strlen(key), "one", 3);
    snprintf(key, sizeof key, "z%05d", n);
    return rc != 0 ? rc : pawl_migrate_put(m, key, strlen(key), "two", 3);
}

/* The table of that version, whole, and nothing of the other one. */
static void check_version(struct fixture *f, uint32_t version) {
    pawl_table_info info = PAWL_TABLE_INFO_INIT, internal = PAWL_TABLE_INFO_INIT;
    pawl_state_cursor *c;
    pawl_state_pair pair;
    uint64_t pairs = 0;
    assert_int_equal(pawl_table_find(f->log, "counts", &info), 0);
    assert_int_equal(info.version, version);
    f->table = info.id;
    assert_int_equal(pawl_table_scan(f->log, f->table, 0, NULL, &c), 0);
    while (pawl_state_next(c, &pair) == 1) {
        int n = number_of(&pair), kind = n % 3;
        char first = *(const char *)pair.key;
        assert_true(version < 2 ? first == 'k'
                    : kind == 1 ? first == 'k'
                                : kind == 2 && (first == 'a' || first == 'z'));
        pairs++;
    }
    pawl_state_close(c);
    assert_int_equal(pairs, PAIRS);
    assert_int_equal(info.pairs, pairs);
    for (uint32_t i = 1; version == 2 && pawl_table_at(f->log, i, &internal) == 0; i++)
        fail_msg("table %s is left", internal.name);
}

static void brought_to_a_newer_version(void **state) {
    struct fixture *f = *state;
    struct change done = {0};
    pawl_table_config c = declare(2);
    uint32_t old = f->table, id = 0;
    fill(f);
    assert_int_equal(pawl_table_use(f->log, &c, to_two, &done, &id), 0);
    assert_int_equal(done.seen, PAIRS);
    assert_true(id != 0 && id != old);
    check_version(f, 2);
    assert_int_equal(f->table, id);
    assert_int_equal(pawl_table_use(f->log, &c, to_two, &done, &id), 0); /* nothing is left to do */
    assert_int_equal(done.seen, PAIRS);
    assert_int_equal(id, f->table);
    reopen(f);
    check_version(f, 2);
    assert_true(pawl_state_flush(f->log) >= 0);
    check_version(f, 2);
    assert_string_equal(look(f, old, "k00001"), "error -10");
    add_counter(f, 100, PAWL_EXACTLY_ONCE); /* the processor keeps its position and its state */
    feed(f, 0, 10, 5);
    assert_int_equal(pawl_run(f->log, 1, PAWL_RUN_UNTIL_IDLE), 0);
    assert_string_not_equal(look(f, f->table, "word-0"), "-");
}

/* Killed at each of these pairs, and by chance before the commit with the last ones. */
static void killed_on_the_way(void **state) {
    static const unsigned kill_at[] = {1, 2, 700, 1500, 2200, 2999, 3000};
    struct fixture *f = *state;
    fill(f);
    for (size_t i = 0; i < sizeof kill_at / sizeof kill_at[0]; i++) {
        assert_int_equal(pawl_close(f->log), 0);
        f->log = NULL;
        pid_t child = fork();
        if (child == 0) {
            struct change c = {.kill_at = kill_at[i]};
            pawl_table_config config = declare(2);
            open_log(f);
            (void)!pawl_table_use(f->log, &config, to_two, &c, NULL);
            _exit(1);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        open_log(f);
        check_version(f, 0);
        if (i == 3) /* it may be changed meanwhile: by the program of the old version */
            put_one(f, "k00001", "1, and longer still");
    }
    struct change done = {0};
    pawl_table_config c = declare(2);
    assert_int_equal(pawl_table_use(f->log, &c, to_two, &done, NULL), 0);
    check_version(f, 2);
    assert_string_equal(look(f, f->table, "k00001"), "1, and longer still");
}

static void a_callback_that_fails(void **state) {
    struct fixture *f = *state;
    struct change c = {.result = 7};
    pawl_table_config config = declare(2);
    fill(f);
    assert_int_equal(pawl_table_use(f->log, &config, to_two, &c, NULL), PAWL_PROCESSOR);
    check_version(f, 0);
    pawl_table_info info = PAWL_TABLE_INFO_INIT;
    assert_int_equal(pawl_table_at(f->log, 1, &info), PAWL_NOT_FOUND); /* nothing is left */
    put_one(f, "k00001", "it can be changed");
    c = (struct change){0};
    assert_int_equal(pawl_table_use(f->log, &config, to_two, &c, NULL), 0);
    check_version(f, 2);
}

static int meddle(pawl_migration *m, const pawl_state_pair *pair, void *arg) {
    struct fixture *f = arg;
    pawl_tx *tx = begin(f);
    assert_int_equal(pawl_tx_state_put(tx, f->table, 0, "x", 1, "y", 1), PAWL_BUSY);
    pawl_abort(tx);
    return pawl_migrate_put(m, pair->key, pair->key_len, pair->value, pair->value_len);
}

/* One that had begun before is refused too. */
static void nobody_changes_it_meanwhile(void **state) {
    struct fixture *f = *state;
    put_one(f, "a", "1");
    pawl_tx *tx = begin(f);
    put(tx, f->table, "a", "2");
    pawl_table_config c = declare(1);
    uint32_t old = f->table;
    assert_int_equal(pawl_table_use(f->log, &c, meddle, f, &f->table), 0);
    assert_int_equal(pawl_commit(tx, NULL), PAWL_NOT_FOUND);
    assert_true(f->table != old);
    assert_string_equal(look(f, f->table, "a"), "1");
}

static int keep(pawl_migration *m, const pawl_state_pair *pair, void *arg) {
    (void)arg;
    return pawl_migrate_put(m, pair->key, pair->key_len, pair->value, pair->value_len);
}

/* The number of partitions may change with the version: keys go where they belong. */
static void other_partitions(void **state) {
    struct fixture *f = *state;
    pawl_table_config c = declare(1);
    fill(f);
    c.partitions = 3;
    assert_int_equal(pawl_table_use(f->log, &c, keep, NULL, &f->table), 0);
    pawl_table_info info = PAWL_TABLE_INFO_INIT;
    assert_int_equal(pawl_table_get_info(f->log, f->table, &info), 0);
    assert_int_equal(info.partitions, 3);
    assert_int_equal(info.pairs, PAIRS);
    for (int i = 0; i < PAIRS; i += 97) {
        char key[16];
        snprintf(key, sizeof key, "k%05d", i);
        assert_string_not_equal(look(f, f->table, key), "-");
    }
}

static void what_is_declared(void **state) {
    struct fixture *f = *state;
    uint32_t id = 0;
    pawl_table_config fresh = declare(5);
    fresh.name = "fresh";
    assert_int_equal(pawl_table_use(f->log, &fresh, NULL, NULL, &id), 0); /* it is created */
    assert_true(id != 0 && id != f->table);
    assert_int_equal(pawl_processor_register(f->log, "other", NULL), 0);
    static const struct {
        const char *label, *owner;
        uint32_t version, partitions, flags;
        uint64_t ttl_ms;
        bool migrates;
        int want;
    } cases[] = {
        {"as it is", "counter", 5, 1, 0, 0, false, 0},
        {"as it is, with a migration", "counter", 5, 1, 0, 0, true, 0},
        {"a newer state", "counter", 4, 1, 0, 0, true, PAWL_VERSION},
        {"an older state, and no migration", "counter", 6, 1, 0, 0, false, PAWL_VERSION},
        {"another owner", "other", 5, 1, 0, 0, true, PAWL_STATE},
        {"another owner, and a newer version", "other", 6, 1, 0, 0, true, PAWL_STATE},
        {"other partitions", "counter", 5, 2, 0, 0, true, PAWL_STATE},
        {"other flags", "counter", 5, 1, PAWL_TABLE_LOCAL, 0, true, PAWL_STATE},
        {"a time to live", "counter", 5, 1, 0, 1000, true, PAWL_STATE},
        {"an owner that isn't there", "nobody", 6, 1, 0, 0, true, PAWL_STATE},
        {"a newer program, with a time to live", "counter", 6, 1, 0, 1000, true, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        pawl_table_config c = PAWL_TABLE_CONFIG_INIT;
        c.name = "fresh", c.owner = cases[i].owner, c.version = cases[i].version;
        c.partitions = cases[i].partitions, c.flags = cases[i].flags, c.ttl_ms = cases[i].ttl_ms;
        int rc = pawl_table_use(f->log, &c, cases[i].migrates ? keep : NULL, NULL, &id);
        if (rc != cases[i].want)
            fail_msg("%s: %d, not %d", cases[i].label, rc, cases[i].want);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(brought_to_a_newer_version, setup, teardown),
        cmocka_unit_test_setup_teardown(killed_on_the_way, setup, teardown),
        cmocka_unit_test_setup_teardown(a_callback_that_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(nobody_changes_it_meanwhile, setup, teardown),
        cmocka_unit_test_setup_teardown(other_partitions, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_declared, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
