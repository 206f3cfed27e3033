/* SPDX-License-Identifier: Apache-2.0
 * test-label: slow
 */
/* Each call of the seam for files fails in turn, once and from there on, while state is changed,
 * flushed, merged and recovered. What was acknowledged stays, state and records never disagree, and
 * with the calls working again so does everything. (test_every_call makes the log's own calls
 * fail.) */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "pawl.h"
#include "pawl_state.h"
#undef fail /* the library has one of its own */
#include "pipeline/engine.h"
#include "tests/support/test_dir.h"

#define wrong(...) (print_error(__VA_ARGS__), print_error("\n"), _fail(__FILE__, __LINE__))

enum { COMMITS = 30, NAMES = 5, TRIES = 4 };

/* ---- what fails */

static struct {
    bool armed, for_ever;
    uint64_t seen, at;
    int error;
    const char *name; /* of the first that failed */
    const struct seam_ops *real;
} f;

static bool due(const char *name) {
    if (!f.armed)
        return false;
    uint64_t n = f.seen++;
    if (n != f.at && !(f.for_ever && n > f.at))
        return false;
    if (f.name == NULL)
        f.name = name;
    return true;
}

#define CALL(type, name, parameters, arguments) \
    static type fault_##name parameters { \
        return due(#name) ? -f.error : f.real->name arguments; \
    }
CALL(int, open, (struct seam * s, const char *name, uint32_t flags), (s, name, flags))
CALL(int, size, (struct seam * s, int file, uint64_t *size), (s, file, size))
CALL(int, allocate, (struct seam * s, int file, uint64_t size), (s, file, size))
CALL(int, rename, (struct seam * s, const char *a, const char *b), (s, a, b))
CALL(int, unlink, (struct seam * s, const char *name), (s, name))
CALL(int, sync_dir, (struct seam * s), (s))
CALL(int, sync, (struct seam * s, int file), (s, file))
CALL(int, random, (struct seam * s, void *data, size_t len), (s, data, len))
CALL(int64_t, read, (struct seam * s, int file, void *data, size_t len, uint64_t at),
     (s, file, data, len, at))
CALL(int64_t, write, (struct seam * s, int file, const void *data, size_t len, uint64_t at),
     (s, file, data, len, at))
CALL(int, list, (struct seam * s, int (*fn)(void *, const char *), void *arg), (s, fn, arg))

static int open_log(const char *dir, pawl **out) {
    static struct seam_ops ops;
    struct seam *io;
    assert_int_equal(seam_create(dir, true, PAWL_BACKEND_POSIX, PAWL_DIRECT_OFF, &io), 0);
    f.real = io->ops;
    ops = *io->ops;
    ops.open = fault_open, ops.size = fault_size, ops.allocate = fault_allocate;
    ops.rename = fault_rename, ops.unlink = fault_unlink, ops.sync_dir = fault_sync_dir;
    ops.sync = fault_sync, ops.random = fault_random, ops.read = fault_read;
    ops.write = fault_write, ops.list = fault_list;
    io->ops = &ops;
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_CREATE, o.segment_size = SEGMENT_SIZE_UNIT, o.no_thread = 1,
    o.memory_cap = 4 * MIB;
    return engine_open(io, &o, out);
}

/* ---- the work: the n-th commit has a record and changes, both functions of n */

struct work {
    char dir[64];
    uint64_t acknowledged;
};

static void expect_honest(int rc, const char *what) {
    if (rc >= 0 || rc == PAWL_IO || rc == PAWL_MEMORY || rc == PAWL_FULL)
        return;
    pawl_error e;
    pawl_last_error(&e);
    wrong("%s with failing %s no. %llu answered %s: %s", what, f.name, (unsigned long long)f.at,
          pawl_errname(rc), e.message);
}

/* Key k has the number of the last commit that put it, and none if that deleted it. */
static int expected(uint64_t commits, unsigned k, char *value, size_t size) {
    for (uint64_t n = commits; n-- > 0;)
        if (n % NAMES == k) {
            if (n % 7 == 6)
                return -1;
            return snprintf(value, size, "%llu", (unsigned long long)n);
        }
    return -1;
}

static int commit_one(pawl *p, uint32_t in, uint32_t table, uint64_t n) {
    pawl_tx *tx;
    char key[8], value[32];
    int rc = pawl_begin(p, &tx);
    if (rc < 0)
        return rc;
    int len = snprintf(value, sizeof value, "%llu", (unsigned long long)n);
    pawl_record r = {.value = value, .value_len = (uint32_t)len};
    snprintf(key, sizeof key, "k%u", (unsigned)(n % NAMES));
    rc = pawl_put(tx, in, 0, &r);
    if (rc == 0 && n % 7 == 6)
        rc = pawl_tx_state_delete(tx, table, 0, key, strlen(key));
    else if (rc == 0)
        rc = pawl_tx_state_put(tx, table, 0, key, strlen(key), value, (size_t)len);
    if (rc >= 0)
        rc = pawl_commit(tx, NULL);
    if (rc < 0 && (rc != PAWL_IO || p->wal.failed == 0))
        pawl_abort(tx);
    return rc;
}

/* State and records agree, and nothing that was acknowledged is missing. */
static int check(struct work *w, pawl *p, uint32_t in, uint32_t table, uint64_t *n) {
    pawl_bounds b;
    int rc = pawl_partition_bounds(p, in, 0, &b);
    if (rc < 0)
        return rc;
    *n = b.end;
    assert_true(*n >= w->acknowledged);
    w->acknowledged = *n;
    uint64_t pairs = 0;
    for (unsigned k = 0; k < NAMES; k++) {
        char key[8], want[32], got[32];
        size_t len;
        int there = expected(*n, k, want, sizeof want);
        snprintf(key, sizeof key, "k%u", k);
        rc = pawl_table_get(p, table, 0, key, strlen(key), got, sizeof got, &len);
        if (rc < 0)
            return rc;
        if (rc != (there >= 0) ||
            (rc == 1 && (len != (size_t)there || memcmp(got, want, len) != 0)))
            wrong("after %llu commits, key %u is wrong, with failing %s no. %llu",
                  (unsigned long long)*n, k, f.name, (unsigned long long)f.at);
        pairs += rc == 1;
    }
    pawl_table_digest d;
    rc = pawl_table_get_digest(p, table, 0, &d);
    if (rc == 0)
        assert_int_equal(d.pairs, pairs);
    return rc;
}

static int on_handle(struct work *w, pawl *p) {
    uint32_t in, table = 0;
    uint64_t n = 0;
    int rc = pawl_stream_create(p, "in", 1, &in);
    if (rc == 0 || rc == PAWL_EXISTS)
        rc = pawl_processor_register(p, "owner", NULL);
    pawl_table_config c = PAWL_TABLE_CONFIG_INIT;
    c.name = "t", c.owner = "owner", c.partitions = 1;
    if (rc == 0)
        rc = pawl_table_create(p, &c, &table);
    pawl_retention keep = {.bytes = 1};
    if (rc == 0 || rc == PAWL_EXISTS)
        rc = pawl_retention_set(p, &keep);
    if (rc == 0)
        rc = check(w, p, in, table, &n);
    for (int failures = 0; rc >= 0 && n < COMMITS;) {
        rc = commit_one(p, in, table, n);
        if (rc == 0)
            w->acknowledged = ++n;
        if (rc == 0 && n % 2 == 0) {
            rc = pawl_state_flush(p);
            expect_honest(rc, "flushing");
        }
        pawl_tick(p);
        if ((rc == PAWL_MEMORY || rc == PAWL_FULL || (rc == PAWL_IO && p->wal.failed == 0)) &&
            failures++ < TRIES)
            rc = 0; /* the handle goes on: what is in memory is in the log too */
    }
    return rc < 0 ? rc : check(w, p, in, table, &n);
}

static bool work(struct work *w) {
    for (int i = 0; i < TRIES; i++) {
        pawl *p;
        int rc = open_log(w->dir, &p);
        expect_honest(rc, "opening");
        if (rc < 0)
            continue;
        int worked = on_handle(w, p);
        expect_honest(worked, "working");
        expect_honest(pawl_close(p), "closing");
        if (worked == 0)
            return true;
    }
    return false;
}

/* ---- running it */

static unsigned run_files(const char *dir) {
    DIR *d = opendir(dir);
    struct dirent *e;
    unsigned n = 0;
    while (d != NULL && (e = readdir(d)) != NULL)
        n += strstr(e->d_name, ".run") != NULL;
    if (d != NULL)
        closedir(d);
    return n;
}

static uint64_t live(struct work *w, uint64_t at, bool for_ever, int error) {
    test_dir_empty(w->dir);
    w->acknowledged = 0;
    memset(&f, 0, sizeof f);
    f.at = at, f.for_ever = for_ever, f.error = error, f.armed = true;
    bool done = work(w);
    f.armed = false;
    if (!done && !for_ever)
        wrong("one failing %s, no. %llu, was not got over", f.name, (unsigned long long)at);
    if (!work(w))
        wrong("after failing %s no. %llu the log is of no use", f.name, (unsigned long long)at);
    assert_int_equal(w->acknowledged, COMMITS);
    /* what a failed flush or merge left is gone */
    pawl *p;
    assert_int_equal(open_log(w->dir, &p), 0);
    assert_int_equal(run_files(w->dir), p->tables.state.run_count);
    assert_int_equal(pawl_close(p), 0);
    pawl_check c = PAWL_CHECK_INIT;
    assert_int_equal(pawl_audit(w->dir, &c, NULL), 0);
    return f.seen;
}

static void each_call_fails_in_turn(void **state) {
    struct work *w = *state;
    uint64_t calls = live(w, UINT64_MAX, false, EIO), lives = 0;
    assert_true(calls > 200);
    static const struct {
        bool for_ever;
        int error;
    } ways[] = {{false, EIO}, {true, EIO}, {false, ENOSPC}, {true, ENOSPC}};
    for (size_t way = 0; way < sizeof ways / sizeof ways[0]; way++)
        for (uint64_t at = 0; at < calls; at++, lives++)
            live(w, at, ways[way].for_ever, ways[way].error);
    print_message("%llu calls, %llu lives\n", (unsigned long long)calls, (unsigned long long)lives);
}

/* Where memory is full and no flush is possible, a commit is judged as any other. */
static void full_memory_hides_no_conflict(void **state) {
    struct work *w = *state;
    pawl *p;
    pawl_tx *first, *second;
    uint32_t table;
    memset(&f, 0, sizeof f);
    assert_int_equal(open_log(w->dir, &p), 0);
    assert_int_equal(pawl_processor_register(p, "owner", NULL), 0);
    pawl_table_config c = PAWL_TABLE_CONFIG_INIT;
    c.name = "t", c.owner = "owner", c.partitions = 1;
    assert_int_equal(pawl_table_create(p, &c, &table), 0);
    assert_int_equal(pawl_begin(p, &first), 0);
    assert_int_equal(pawl_begin(p, &second), 0);
    assert_int_equal(pawl_tx_state_put(first, table, 0, "a", 1, "1", 1), 0);
    assert_int_equal(pawl_tx_state_put(second, table, 0, "a", 1, "2", 1), 0);
    assert_int_equal(pawl_commit(first, NULL), 0);
    atomic_store(&p->store.dirty, UINT64_MAX / 2);
    p->state.error.code = PAWL_IO; /* no chore */
    assert_int_equal(pawl_commit(second, NULL), PAWL_BUSY);
    p->state.error.code = 0;
    assert_int_equal(pawl_close(p), 0);
}

/* A flush fails, and the next one, on request, doesn't: no committer gets the old error, and the
 * maintenance thread doesn't look again and again for what is done. */
static void a_flush_ends_an_earlier_failure(void **state) {
    struct work *w = *state;
    pawl *p;
    uint32_t in, table;
    pawl_table_config c = PAWL_TABLE_CONFIG_INIT;
    memset(&f, 0, sizeof f);
    f.error = EIO;
    assert_int_equal(open_log(w->dir, &p), 0);
    assert_int_equal(pawl_stream_create(p, "in", 1, &in), 0);
    assert_int_equal(pawl_processor_register(p, "owner", NULL), 0);
    c.name = "t", c.owner = "owner", c.partitions = 1;
    assert_int_equal(pawl_table_create(p, &c, &table), 0);
    assert_int_equal(commit_one(p, in, table, 0), 0);
    pawl_tick(p);
    atomic_store(&p->store.dirty, p->store.memory_max); /* a flush is due at once */
    f.armed = true;
    pawl_tick(p);
    f.armed = false;
    assert_non_null(f.name);
    assert_int_equal(p->state.flush_error.code, PAWL_IO);
    assert_int_not_equal(p->state.retry_ns, 0);
    assert_int_equal(pawl_state_flush(p), 1);
    assert_int_equal(p->tables.state.run_count, 1);
    assert_int_equal(p->state.flush_error.code, 0);
    p->state.retry_ns = 1; /* the time has come, and nothing is due */
    pawl_tick(p);
    assert_int_equal(p->state.retry_ns, 0);
    assert_int_equal(pawl_close(p), 0);
}

static int setup(void **state) {
    struct work *w = calloc(1, sizeof *w);
    if (w == NULL)
        return -1;
    *state = w;
    return test_dir_make(w->dir, access("/dev/shm", W_OK) == 0 ? "/dev/shm/test_state_faults"
                                                               : "/var/tmp/test_state_faults");
}

static int teardown(void **state) {
    struct work *w = *state;
    test_dir_empty(w->dir);
    rmdir(w->dir);
    free(w);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(full_memory_hides_no_conflict, setup, teardown),
        cmocka_unit_test_setup_teardown(a_flush_ends_an_earlier_failure, setup, teardown),
        cmocka_unit_test_setup_teardown(each_call_fails_in_turn, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
