/* SPDX-License-Identifier: Apache-2.0 */
/* Run files that are taken away, cut, damaged or exchanged for others while the log is closed: the
 * log opens, its streams are whole, what newer runs and memory say is read as before, everything
 * else is an error and never another answer; verify, audit and repair say which file it is. */
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

#include "pawl.h"
#include "state/store.h"
#undef fail /* the library has one of its own */
#include <cmocka.h>

#include "tests/support/state_log.h"

#define KEYS 1200u
#define RUNS 3u

/* Run r (from 1) has the keys "r/0" to "r/1199"; "mem" is in no run. */
static void key_of(char key[32], unsigned run, unsigned i) {
    snprintf(key, 32, "%u/%u", run, i);
}

static void value_of(char value[64], unsigned run, unsigned i) {
    snprintf(value, 64, "a value of run %u, number %u, long enough", run, i);
}

static void fill_run(struct fixture *f, unsigned run) {
    char key[32], value[64];
    pawl_tx *tx = begin(f);
    for (unsigned i = 0; i < KEYS; i++) {
        key_of(key, run, i);
        value_of(value, run, i);
        put(tx, f->table, key, value);
    }
    assert_int_equal(pawl_commit(tx, NULL), 0);
    assert_int_equal(pawl_state_flush(f->log), 1);
}

static int damage_setup(void **state) {
    if (setup(state) != 0)
        return -1;
    struct fixture *f = *state;
    if (pawl_close(f->log) != 0)
        return -1;
    f->options.no_thread = 1; /* no merges */
    open_log(f);
    for (unsigned r = 1; r <= RUNS; r++)
        fill_run(f, r);
    put_one(f, "mem", "in memory");
    return 0;
}

static void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void shell(const char *format, ...) {
    char command[2048];
    va_list ap;
    va_start(ap, format);
    vsnprintf(command, sizeof command, format, ap);
    va_end(ap);
    if (system(command) != 0)
        fail_msg("this failed: %s", command);
}

/* ---- what is told */

struct told {
    char label[32], message[512];
    int problems, unnamed;
    uint64_t bytes;
};

static void on_finding(void *arg, const pawl_finding *x) {
    struct told *t = arg;
    t->unnamed += strcmp(x->label, "run-unnamed") == 0;
    if (x->code == 0)
        return;
    if (t->problems++ == 0) {
        snprintf(t->label, sizeof t->label, "%s", x->label);
        snprintf(t->message, sizeof t->message, "%s", x->message);
        t->bytes = x->bytes;
    }
}

typedef int (*check_fn)(const char *dir, pawl_check *c, pawl_error *err);

static int checked(check_fn fn, const char *dir, struct told *t, pawl_check *c) {
    memset(t, 0, sizeof *t);
    *c = (pawl_check)PAWL_CHECK_INIT;
    c->finding = on_finding;
    c->arg = t;
    return fn(dir, c, NULL);
}

/* ---- a whole file */

static const struct {
    const char *label;
    unsigned run;     /* whose file it is; 0: none */
    const char *edit; /* in the directory of the log; ../other is another log */
    int code;         /* of a get that has to look into it */
    const char *told; /* NULL: no problem */
    int verify;
} files[] = {
    {"as it was", 0, ":", 0, NULL, 0},
    {"newest removed", 3, "rm *3.run", PAWL_NOT_FOUND, "run-missing", PAWL_DAMAGED},
    {"middle one removed", 2, "rm *2.run", PAWL_NOT_FOUND, "run-missing", PAWL_DAMAGED},
    {"oldest removed", 1, "rm *1.run", PAWL_NOT_FOUND, "run-missing", PAWL_DAMAGED},
    {"empty", 2, "truncate -s 0 *2.run", PAWL_DAMAGED, "run-damaged", PAWL_DAMAGED},
    {"only its header", 1, "truncate -s 4096 *1.run", PAWL_DAMAGED, "run-damaged", PAWL_DAMAGED},
    {"a unit shorter", 1, "truncate -s -4096 *1.run", PAWL_DAMAGED, "run-damaged", PAWL_DAMAGED},
    {"a byte shorter", 3, "truncate -s -1 *3.run", PAWL_DAMAGED, "run-damaged", PAWL_DAMAGED},
    {"a unit longer", 2, "truncate -s +4096 *2.run", PAWL_DAMAGED, "run-damaged", PAWL_DAMAGED},
    {"only zeros", 2, "s=$(stat -c %s *2.run); truncate -s 0 *2.run; truncate -s $s *2.run",
     PAWL_DAMAGED, "run-damaged", PAWL_DAMAGED},
    {"a bit of its header", 1,
     "printf x | dd of=$(ls *1.run) bs=1 seek=100 conv=notrunc status=none", PAWL_DAMAGED,
     "run-damaged", PAWL_DAMAGED},
    {"no run at all", 3, "seq 100000 >$(ls *3.run)", PAWL_DAMAGED, "run-damaged", PAWL_DAMAGED},
    {"a directory", 2, "f=$(ls *2.run); rm $f; mkdir $f", PAWL_IO, "run-damaged", PAWL_DAMAGED},
    {"another log's", 1, "cp ../other/*1.run .", PAWL_FOREIGN, "run-foreign", PAWL_FOREIGN},
    {"another log's newest", 3, "cp ../other/*3.run .", PAWL_FOREIGN, "run-foreign", PAWL_FOREIGN},
    {"an older one's", 3, "cp *2.run $(ls *3.run)", PAWL_FOREIGN, "run-foreign", PAWL_FOREIGN},
    {"a newer one's", 1, "cp *3.run $(ls *1.run)", PAWL_FOREIGN, "run-foreign", PAWL_FOREIGN},
    {"beside: a copy that no commit names", 0, "cp *1.run 00000000000000f0.run", 0, NULL, 0},
};

static void see(const char *label, const char *what, int is, int want) {
    if (is != want)
        fail_msg("%s: %s answers %s, not %s", label, what, pawl_errname(is), pawl_errname(want));
}

static int get_one(struct fixture *g, const char *key, char value[256]) {
    size_t len = 0;
    int rc = pawl_table_get(g->log, g->table, 0, key, strlen(key), value, 255, &len);
    value[rc == 1 ? len : 0] = 0;
    return rc;
}

/* A key of run r is answered by what is newer than the damaged run, or not at all. */
static void see_gets(struct fixture *g, const char *label, unsigned damaged, int code) {
    char key[32], value[256], want[64];
    see(label, "get of a key in memory", get_one(g, "mem", value), 1);
    assert_string_equal(value, "in memory");
    for (unsigned r = 1; r <= RUNS; r++) {
        bool known = r > damaged;
        key_of(key, r, 77);
        value_of(want, r, 77);
        see(label, "get", get_one(g, key, value), known ? 1 : code);
        if (known)
            assert_string_equal(value, want);
        pawl_tx *tx = begin(g);
        see(label, "put", pawl_tx_state_put(tx, g->table, 0, key, strlen(key), "x", 1),
            known ? 0 : code);
        pawl_abort(tx);
    }
    see(label, "get of a key that isn't there", get_one(g, "none", value), damaged == 0 ? 0 : code);
}

static int scan_all(struct fixture *g) {
    pawl_state_cursor *c;
    pawl_state_pair pair;
    unsigned n = 0;
    int rc = pawl_table_scan(g->log, g->table, 0, NULL, &c);
    if (rc < 0)
        return rc;
    while ((rc = pawl_state_next(c, &pair)) == 1)
        n++;
    pawl_state_close(c);
    if (rc == 0)
        assert_int_equal(n, RUNS * KEYS + 1);
    return rc;
}

static void see_checks(const char *label, const char *dir, const char *told, int code) {
    static const struct {
        const char *name;
        check_fn fn;
    } all[] = {{"verify", pawl_verify}, {"audit", pawl_audit}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct told t;
        pawl_check c;
        int rc = checked(all[i].fn, dir, &t, &c);
        see(label, all[i].name, rc, code);
        if (strcmp(t.label, told != NULL ? told : "") != 0)
            fail_msg("%s: %s tells '%s' (%s)", label, all[i].name, t.label, t.message);
        assert_int_equal(t.problems, told != NULL);
        assert_int_equal(c.state_problems, told != NULL);
        assert_int_equal(c.runs, RUNS);
    }
}

/* Repair writes the run anew from the log, which has all frames: then everything is as it was. */
static void see_repair(struct fixture *g, const char *label, const char *told) {
    struct told t;
    pawl_check c;
    see(label, "repair", checked(pawl_repair, g->dir, &t, &c), 0);
    if (strcmp(t.label, told != NULL ? told : "") != 0)
        fail_msg("%s: repair tells '%s' (%s)", label, t.label, t.message);
    assert_int_equal(c.repaired, told != NULL);
    assert_int_equal(c.state_problems, 0);
    assert_int_equal(c.problems, 0);
    assert_int_equal(c.state_pairs, RUNS * KEYS + 1);
    if (checked(pawl_verify, g->dir, &t, &c) != 0)
        fail_msg("%s: after repair, verify tells '%s' (%s)", label, t.label, t.message);
    open_log(g);
    see_gets(g, label, 0, 0);
    see(label, "scan", scan_all(g), 0);
    assert_int_equal(pawl_close(g->log), 0);
}

static void each_damage_of_a_file(void **state) {
    struct fixture *f = *state, g;
    char base[52];
    assert_int_equal(pawl_close(f->log), 0);
    snprintf(base, sizeof base, "%.40s.trial", f->dir);
    shell("rm -rf %s && mkdir %s && cp -a %s %s/good", base, base, f->dir, base);
    /* another log, with files of the same names */
    struct fixture *other;
    void *made;
    assert_int_equal(damage_setup(&made), 0);
    other = made;
    assert_int_equal(pawl_close(other->log), 0);
    shell("mv %s %s/other", other->dir, base);
    other->log = NULL;
    free(other);
    g = *f;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        const char *label = files[i].label;
        snprintf(g.dir, sizeof g.dir, "%s/trial", base);
        shell("rm -rf %s && cp -a %s/good %s && cd %s && { %s; }", g.dir, base, g.dir, g.dir,
              files[i].edit);
        see_checks(label, g.dir, files[i].told, files[i].verify);
        open_log(&g);
        see_gets(&g, label, files[i].run, files[i].code);
        see(label, "scan", scan_all(&g), files[i].code);
        pawl_status st = PAWL_STATUS_INIT;
        see(label, "status", pawl_get_status(g.log, &st), 0);
        pawl_table_digest d;
        see(label, "digest", pawl_table_get_digest(g.log, g.table, 0, &d), 0);
        assert_int_equal(d.pairs, RUNS * KEYS + 1);
        pawl_record r = {.value = "still there", .value_len = 11};
        see(label, "append", pawl_append(g.log, g.in, 0, &r, NULL), 0);
        put_one(&g, "mem", "again"); /* what is known can be changed, and goes to a run */
        see(label, "flush", pawl_state_flush(g.log), 1);
        assert_int_equal(pawl_close(g.log), 0);
        shell("rm -rf %s && cp -a %s/good %s && cd %s && { %s; }", g.dir, base, g.dir, g.dir,
              files[i].edit);
        see_repair(&g, label, files[i].told);
    }
    shell("rm -rf %s", base);
    open_log(f);
}

/* ---- where the log doesn't have the frames any more */

static void a_run_that_the_log_cannot_give_back(void **state) {
    struct fixture *f = *state;
    static char value[60000];
    struct told t;
    pawl_check c;
    for (int i = 0; i < 60; i++) { /* several segments */
        pawl_record r = {.value = value, .value_len = sizeof value};
        assert_int_equal(pawl_append(f->log, f->in, 0, &r, NULL), 0);
    }
    put_one(f, "late", "1");
    assert_int_equal(pawl_state_flush(f->log), 1); /* run 4 */
    pawl_retention all = {.bytes = 1};
    assert_int_equal(pawl_retention_set(f->log, &all), 0);
    assert_true(pawl_retention_apply(f->log) >= 0);
    put_one(f, "later", "2");
    assert_int_equal(pawl_state_flush(f->log), 1); /* run 5 */
    assert_int_equal(pawl_close(f->log), 0);
    shell("cd %s && mv *1.run kept && rm *5.run", f->dir);
    assert_int_equal(checked(pawl_verify, f->dir, &t, &c), PAWL_DAMAGED);
    assert_int_equal(t.problems, 2);
    assert_int_equal(checked(pawl_repair, f->dir, &t, &c), 0);
    assert_int_equal(c.repaired, 1); /* the frames of the newest one are there */
    assert_int_equal(c.state_problems, 1);
    assert_int_equal(c.problems, 1);
    open_log(f);
    see_gets(f, "the oldest", 1, PAWL_NOT_FOUND);
    assert_string_equal(look(f, f->table, "late"), "1");
    assert_string_equal(look(f, f->table, "later"), "2");
    assert_int_equal(pawl_close(f->log), 0);
    /* its file comes back: it is known by its header */
    shell("cd %s && mv kept 0000000000000001.run", f->dir);
    assert_int_equal(checked(pawl_verify, f->dir, &t, &c), 0);
    open_log(f);
    see_gets(f, "come back", 0, 0);
}

/* Newer runs are merged beside a run that can't be read, and what they delete in it stays deleted
 * when its file comes back. */
static void merges_beside_a_damaged_run(void **state) {
    struct fixture *f = *state;
    char key[32], value[256];
    pawl_check c;
    struct told t;
    pawl_tx *tx = begin(f);
    for (unsigned i = 0; i < KEYS; i++) {
        key_of(key, 1, i);
        assert_int_equal(pawl_tx_state_delete(tx, f->table, 0, key, strlen(key)), 1);
    }
    assert_int_equal(pawl_commit(tx, NULL), 0);
    assert_int_equal(pawl_state_flush(f->log), 1); /* run 4 */
    assert_int_equal(pawl_close(f->log), 0);
    shell("cd %s && mv *1.run kept", f->dir);
    open_log(f);
    pawl_status st = PAWL_STATUS_INIT;
    for (unsigned i = 0; i < 24; i++) { /* tiers become full, and are merged */
        put_one(f, "mem", "again");
        assert_int_equal(pawl_state_flush(f->log), 1);
    }
    for (unsigned i = 0; i < 100; i++)
        assert_true(pawl_tick(f->log) >= 0);
    assert_int_equal(pawl_get_status(f->log, &st), 0);
    assert_true(st.runs < 12);
    key_of(key, 1, 7);
    assert_int_equal(get_one(f, key, value), 0); /* its delete is newer than the lost run */
    assert_int_equal(get_one(f, "none", value), PAWL_NOT_FOUND);
    assert_int_equal(pawl_close(f->log), 0);
    shell("cd %s && mv kept 0000000000000001.run", f->dir);
    assert_int_equal(checked(pawl_verify, f->dir, &t, &c), 0);
    assert_int_equal(c.state_pairs, (RUNS - 1) * KEYS + 1);
    open_log(f);
    assert_int_equal(get_one(f, key, value), 0);
    assert_int_equal(get_one(f, "none", value), 0);
}

/* ---- one bit of each unit */

/* Gets answer the truth or DAMAGED; returns how many answered. */
static unsigned true_answers(struct fixture *g, unsigned run) {
    unsigned known = 0;
    char key[32], value[256], want[64];
    for (unsigned i = 0; i < KEYS; i += 7) {
        key_of(key, run, i);
        value_of(want, run, i);
        int rc = get_one(g, key, value);
        if (rc == 1)
            assert_string_equal(value, want);
        else
            assert_int_equal(rc, PAWL_DAMAGED);
        known += rc == 1;
    }
    return known;
}

static void flip(const char *dir, unsigned run, uint64_t at) {
    char path[128];
    snprintf(path, sizeof path, "%s/%016x.run", dir, run);
    FILE *x = fopen(path, "r+");
    assert_non_null(x);
    assert_int_equal(fseek(x, (long)at, SEEK_SET), 0);
    int c = fgetc(x);
    assert_int_equal(fseek(x, (long)at, SEEK_SET), 0);
    assert_true(fputc(c ^ 4, x) != EOF);
    assert_int_equal(fclose(x), 0);
}

static void a_bit_of_each_unit(void **state) {
    struct fixture *f = *state;
    struct told t;
    pawl_check c;
    assert_int_equal(pawl_close(f->log), 0);
    assert_int_equal(checked(pawl_verify, f->dir, &t, &c), 0);
    assert_int_equal(c.state_pairs, RUNS * KEYS + 1);
    uint64_t units = c.run_bytes / RUNS / 4096;
    unsigned all = (KEYS + 6) / 7, partly = 0;
    assert_true(units > 10);
    for (uint64_t u = 0; u < units; u++) {
        flip(f->dir, 1, u * 4096 + (u * 523 % 4096));
        assert_int_equal(checked(pawl_verify, f->dir, &t, &c), PAWL_DAMAGED);
        assert_string_equal(t.label, "run-damaged");
        char place[64];
        snprintf(place, sizeof place, "at offset %llu", (unsigned long long)(u * 4096));
        if (u != 0 && strstr(t.message, place) == NULL)
            fail_msg("unit %u: %s", (unsigned)u, t.message);
        open_log(f);
        unsigned known = true_answers(f, 1);
        partly += known > 0 && known < all;
        assert_int_equal(true_answers(f, 2), all);
        assert_int_equal(true_answers(f, 3), all);
        assert_int_equal(pawl_close(f->log), 0);
        flip(f->dir, 1, u * 4096 + (u * 523 % 4096));
    }
    assert_true(partly > units / 2); /* a block of pairs costs its own keys */
    open_log(f);
}

/* ---- verify beside a writer, and in little memory */

static struct beside {
    const char *dir;
    atomic_bool done;
    int rc, times;
    struct told told;
} beside;

static void *verify_again_and_again(void *arg) {
    struct beside *b = arg;
    while (b->rc == 0 && (!atomic_load(&b->done) || b->times == 0)) {
        pawl_check c;
        b->rc = checked(pawl_verify, b->dir, &b->told, &c);
        b->times++;
    }
    return NULL;
}

static void beside_a_writer_that_merges(void **state) {
    struct fixture *f = *state;
    static char value[20000];
    pthread_t thread;
    assert_int_equal(pawl_close(f->log), 0);
    f->options.no_thread = 0;
    open_log(f);
    pawl_retention all = {.bytes = 2 * MIB};
    assert_int_equal(pawl_retention_set(f->log, &all), 0);
    beside.dir = f->dir;
    assert_int_equal(pthread_create(&thread, NULL, verify_again_and_again, &beside), 0);
    for (unsigned i = 0; i < 60; i++) {
        char key[16];
        for (unsigned k = 0; k < 20; k++) {
            snprintf(key, sizeof key, "k%u", (i * 20 + k) % 97);
            pawl_tx *tx = begin(f);
            assert_int_equal(
                pawl_tx_state_put(tx, f->table, 0, key, strlen(key), value, sizeof value), 0);
            assert_int_equal(pawl_commit(tx, NULL), 0);
        }
        assert_true(pawl_state_flush(f->log) >= 0);
    }
    atomic_store(&beside.done, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    if (beside.rc != 0)
        fail_msg("verify %d: %s: %s", beside.times, beside.told.label, beside.told.message);
}

static void in_little_memory(void **state) {
    struct fixture *f = *state;
    static char value[4000];
    assert_int_equal(pawl_close(f->log), 0);
    f->options.memory_cap = 1024ull * MIB;
    open_log(f);
    for (unsigned i = 0; i < 800; i++) {
        pawl_tx *tx = begin(f);
        for (unsigned k = 0; k < 10; k++) {
            char key[32];
            int n = snprintf(key, sizeof key, "more/%u/%u", i, k);
            memset(value, (int)('a' + k % 26), sizeof value);
            assert_int_equal(
                pawl_tx_state_put(tx, f->table, 0, key, (size_t)n, value, sizeof value), 0);
        }
        assert_int_equal(pawl_commit(tx, NULL), 0);
    }
    assert_int_equal(pawl_close(f->log), 0);
    struct told t;
    pawl_check c = PAWL_CHECK_INIT;
    memset(&t, 0, sizeof t);
    c.finding = on_finding;
    c.arg = &t;
    c.memory_cap = 24 * MIB; /* less than the changes since the last flush */
    if (pawl_verify(f->dir, &c, NULL) != 0)
        fail_msg("%s: %s", t.label, t.message);
    assert_int_equal(c.state_pairs, RUNS * KEYS + 1 + 8000);
    open_log(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_damage_of_a_file, damage_setup, teardown),
        cmocka_unit_test_setup_teardown(a_run_that_the_log_cannot_give_back, damage_setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(merges_beside_a_damaged_run, damage_setup, teardown),
        cmocka_unit_test_setup_teardown(a_bit_of_each_unit, damage_setup, teardown),
        cmocka_unit_test_setup_teardown(beside_a_writer_that_merges, damage_setup, teardown),
        cmocka_unit_test_setup_teardown(in_little_memory, damage_setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
