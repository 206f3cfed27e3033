/* SPDX-License-Identifier: Apache-2.0 */
/* Nothing waits for the disk under the log's lock (PAWL-17): the seam looks whether the lock is
 * held whenever it is asked to read, open, list, rename, sync or wait, while every public call that
 * may come to that is made, on a log of many segments of which retention drops some. And the bounds
 * of a partition are known without asking the disk at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pawl.h"
#undef fail /* the library has one of its own */
#include "pipeline/engine.h"
#include "tests/support/test_dir.h"

#define VALUE 60000
#define PARTITIONS 4u

/* ---- the seam. The handle has no thread of its own, and the test is one thread: if the lock is
 * held, then by the caller. */
static struct seam_ops changed;
static const struct seam_ops *real;
static pawl *watched; /* NULL: not yet opened */
static const char *doing;
static uint64_t calls;

static void look(const char *call) {
    calls++;
    if (watched == NULL)
        return;
    if (pthread_mutex_trylock(&watched->mutex) != 0) {
        print_error("%s: %s with the lock held\n", doing, call);
        abort(); /* no cleanup is possible while the lock is held */
    }
    pthread_mutex_unlock(&watched->mutex);
}

/* One line a call: its name, what it answers, (parameters), (arguments). */
#define LOOK(type, name, parameters, arguments) \
    static type look_##name parameters { \
        look(#name); \
        return real->name arguments; \
    }
LOOK(int, list, (struct seam * s, int (*fn)(void *, const char *), void *arg), (s, fn, arg))
LOOK(int, open, (struct seam * s, const char *name, uint32_t flags), (s, name, flags))
LOOK(int, size, (struct seam * s, int file, uint64_t *size), (s, file, size))
LOOK(int, allocate, (struct seam * s, int file, uint64_t size), (s, file, size))
LOOK(int, rename, (struct seam * s, const char *from, const char *to), (s, from, to))
LOOK(int, unlink, (struct seam * s, const char *name), (s, name))
LOOK(int, sync_dir, (struct seam * s), (s))
LOOK(int64_t, read, (struct seam * s, int file, void *data, size_t len, uint64_t offset),
     (s, file, data, len, offset))
LOOK(int64_t, write, (struct seam * s, int file, const void *data, size_t len, uint64_t offset),
     (s, file, data, len, offset))
LOOK(int, sync, (struct seam * s, int file), (s, file))
LOOK(int, kick, (struct seam * s), (s))
LOOK(int, reap, (struct seam * s, struct seam_req **out, int max, bool wait), (s, out, max, wait))
LOOK(struct seam_req *, reads_take, (struct seam_reads * q), (q))
LOOK(int, holder, (struct seam * s), (s))

static void look_reads_close(struct seam_reads *q) {
    look("reads_close");
    real->reads_close(q);
}

static void look_sleep(struct seam *s, uint64_t ns) {
    look("sleep");
    real->sleep(s, ns);
}

static struct seam *looking_seam(const char *dir, bool create) {
    struct seam *io;
    if (seam_create(dir, create, PAWL_BACKEND_AUTO, PAWL_DIRECT_AUTO, &io) != 0)
        return NULL;
    real = io->ops;
    changed = *real;
    changed.list = look_list;
    changed.open = look_open;
    changed.size = look_size;
    changed.allocate = look_allocate;
    changed.rename = look_rename;
    changed.unlink = look_unlink;
    changed.sync_dir = look_sync_dir;
    changed.read = look_read;
    changed.write = look_write;
    changed.sync = look_sync;
    changed.kick = look_kick;
    changed.reap = look_reap;
    changed.reads_take = look_reads_take;
    changed.reads_close = look_reads_close;
    changed.holder = look_holder;
    changed.sleep = look_sleep;
    io->ops = &changed;
    return io;
}

/* ---- a log of twelve segments, of which eight are kept; a transaction of three segments in it */
struct fixture {
    char dir[64];
    pawl_options options;
    pawl *log;
    uint32_t stream, processor;
};

static int open_log(struct fixture *f) {
    struct seam *io = looking_seam(f->dir, true);
    watched = NULL;
    if (io == NULL || engine_open(io, &f->options, &f->log) != 0)
        return -1;
    watched = f->log;
    return 0;
}

static void put(pawl_tx *tx, uint32_t stream, uint32_t partition) {
    static uint8_t value[VALUE];
    pawl_record r = {.value = value, .value_len = VALUE};
    assert_int_equal(pawl_put(tx, stream, partition, &r), 0);
}

static void fill(struct fixture *f, int count) {
    pawl_tx *tx;
    for (int i = 0; i < count; i++) {
        assert_int_equal(pawl_begin(f->log, &tx), 0);
        put(tx, f->stream, (uint32_t)i % PARTITIONS);
        assert_int_equal(pawl_commit(tx, NULL), 0);
    }
}

static void fill_spilled(struct fixture *f, int count) {
    pawl_tx *tx;
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    for (int i = 0; i < count; i++)
        put(tx, f->stream, 0);
    assert_int_equal(pawl_commit(tx, NULL), 0);
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    *state = f;
    if (f == NULL)
        return -1;
    f->options = (pawl_options)PAWL_OPTIONS_INIT;
    f->options.flags = PAWL_OPEN_CREATE;
    f->options.segment_size = MIB;
    f->options.memory_cap = 4u * MIB;
    f->options.no_thread = 1;
    doing = "setup";
    if (test_dir_make(f->dir, "/var/tmp/test_lock_free_io") != 0 || open_log(f) != 0 ||
        pawl_stream_create(f->log, "s", PARTITIONS, &f->stream) != 0 ||
        pawl_processor_register(f->log, "p", &f->processor) != 0)
        return -1;
    fill(f, 100);
    fill_spilled(f, 40);
    fill(f, 40);
    return pawl_retention_set(f->log, &(pawl_retention){.bytes = 8u * MIB}) != 0 ||
           pawl_retention_apply(f->log) <= 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    doing = "pawl_close";
    int rc = pawl_close(f->log);
    watched = NULL;
    if (test_dir_remove(f->dir) != 0)
        rc = -1;
    free(f);
    return rc;
}

/* ---- the calls */

static void call_bounds(struct fixture *f, pawl *log) {
    pawl_bounds b;
    for (uint32_t k = 0; k < PARTITIONS; k++)
        assert_int_equal(pawl_partition_bounds(log, f->stream, k, &b), 0);
    assert_true(b.first > 0 && b.first < b.durable && b.durable <= b.end);
}

static void call_read(struct fixture *f, pawl *log) {
    for (uint32_t k = 0; k < PARTITIONS; k++) {
        pawl_bounds b;
        pawl_reader *r;
        pawl_batch batch;
        assert_int_equal(pawl_partition_bounds(log, f->stream, k, &b), 0);
        assert_int_equal(pawl_reader_open(log, f->stream, k, b.first, 0, &r), 0);
        while (pawl_reader_position(r) < b.durable)
            assert_true(pawl_read(r, 3, 0, &batch) > 0);
        assert_int_equal(pawl_read(r, 3, 15, &batch), 0);
        for (uint64_t at = b.first; at < b.durable; at += 7) {
            assert_int_equal(pawl_reader_seek(r, at), 0);
            assert_int_equal(pawl_read(r, 1, 0, &batch), 1);
            assert_int_equal(batch.from, at);
        }
        assert_int_equal(pawl_reader_seek(r, 0), PAWL_TRIMMED);
        pawl_reader_close(r);
    }
}

/* A commit frame that is in memory, with parts that are not any more. */
static void call_read_spilled(struct fixture *f, pawl *log) {
    pawl_bounds b;
    pawl_reader *r;
    pawl_batch batch;
    if (!log->read_only)
        fill_spilled(f, 60);
    assert_int_equal(pawl_partition_bounds(log, f->stream, 0, &b), 0);
    uint64_t from = b.first + 40 < b.durable ? b.durable - 40 : b.first;
    assert_int_equal(pawl_reader_open(log, f->stream, 0, from, 0, &r), 0);
    while (pawl_reader_position(r) < b.durable)
        assert_true(pawl_read(r, 0, 0, &batch) > 0);
    pawl_reader_close(r);
}

static void call_read_any(struct fixture *f, pawl *log) {
    pawl_place from[PARTITIONS], at;
    pawl_any *any;
    pawl_batch batch;
    pawl_bounds b;
    for (uint32_t k = 0; k < PARTITIONS; k++) {
        assert_int_equal(pawl_partition_bounds(log, f->stream, k, &b), 0);
        from[k] = (pawl_place){f->stream, k, b.first};
    }
    assert_int_equal(pawl_any_open(log, from, PARTITIONS, 0, &any), 0);
    while (pawl_read_any(any, 3, 0, &batch, &at) > 0)
        assert_true(batch.count > 0);
    assert_int_equal(pawl_any_seek(any, &from[1]), 0);
    assert_true(pawl_read_any(any, 0, 0, &batch, &at) > 0);
    pawl_any_close(any);
}

static void call_look(struct fixture *f, pawl *log) {
    pawl_status s = PAWL_STATUS_INIT;
    pawl_stream_info info;
    pawl_retention retention;
    pawl_producer_info producer;
    pawl_position position;
    char name[128];
    assert_int_equal(pawl_get_status(log, &s), 0);
    assert_int_equal(pawl_stream_find(log, "s", &info), 0);
    assert_int_equal(pawl_stream_at(log, 0, &info), 0);
    assert_int_equal(pawl_retention_get(log, &retention), 0);
    assert_int_equal(pawl_processor_at(log, 0, NULL, name), 0);
    int rc = pawl_producer_at(log, 0, &producer);
    assert_true(rc == 0 || rc == PAWL_NOT_FOUND);
    rc = pawl_position_at(log, 0, &position);
    assert_true(rc == 0 || rc == PAWL_NOT_FOUND);
    assert_int_equal(info.id, f->stream);
}

static void call_explain(struct fixture *f, pawl *log) {
    pawl_bounds b;
    pawl_origin origin;
    assert_int_equal(pawl_partition_bounds(log, f->stream, 1, &b), 0);
    assert_int_equal(pawl_explain(log, f->stream, 1, b.first, &origin), 0);
}

static void call_write(struct fixture *f, pawl *log) {
    pawl_tx *tx;
    pawl_producer *producer;
    pawl_bounds b;
    fill(f, 30);
    assert_int_equal(pawl_begin(log, &tx), 0);
    put(tx, f->stream, 0);
    assert_int_equal(pawl_commit_async(tx, NULL, NULL, NULL), 0);
    assert_int_equal(pawl_sync(log), 0);
    assert_true(pawl_tick(log) >= 0);
    assert_true(pawl_dispatch(log) >= 0);
    assert_int_equal(pawl_producer_open(log, "producer", &producer), 0);
    pawl_producer_close(producer);
    assert_int_equal(pawl_partition_bounds(log, f->stream, 1, &b), 0);
    assert_int_equal(pawl_begin(log, &tx), 0);
    assert_int_equal(pawl_advance(tx, f->processor, f->stream, 1, b.first, b.durable), 0);
    assert_int_equal(pawl_commit(tx, NULL), 0);
}

static void call_retention(struct fixture *f, pawl *log) {
    fill(f, 60);
    assert_true(pawl_retention_apply(log) > 0);
    assert_int_equal(pawl_processor_forget(log, "p"), 0);
    assert_int_equal(pawl_processor_register(log, "p", &f->processor), 0);
    assert_int_equal(pawl_retention_set(log, &(pawl_retention){.consumed = 1}), 0);
    assert_true(pawl_retention_apply(log) > 0);
    fill(f, 40);
    assert_true(pawl_tick(log) >= 0);
}

static const struct {
    const char *name;
    void (*make)(struct fixture *f, pawl *log);
    bool writes;
} table[] = {
    {"bounds", call_bounds, false},
    {"read", call_read, false},
    {"spilled", call_read_spilled, false},
    {"any", call_read_any, false},
    {"look", call_look, false},
    {"explain", call_explain, false},
    {"write", call_write, true},
    {"bounds again", call_bounds, true},
    {"retention", call_retention, true},
};
#define CALLS (sizeof table / sizeof *table)

static void writer_never_waits_under_the_lock(void **state) {
    struct fixture *f = *state;
    for (size_t again = 0; again < 2; again++) { /* also with nothing in memory */
        for (size_t i = 0; i < CALLS; i++) {
            doing = table[i].name;
            table[i].make(f, f->log);
        }
        doing = "close and open";
        assert_int_equal(pawl_close(f->log), 0);
        assert_int_equal(open_log(f), 0);
        doing = "retention";
        assert_int_equal(pawl_retention_set(f->log, &(pawl_retention){.bytes = 8u * MIB}), 0);
        fill(f, 180);
        assert_true(pawl_retention_apply(f->log) >= 0);
    }
}

static void follower_never_waits_under_the_lock(void **state) {
    struct fixture *f = *state;
    pawl_options o = PAWL_OPTIONS_INIT;
    pawl *writer = f->log, *follower;
    o.flags = PAWL_OPEN_READ;
    o.memory_cap = 4u * MIB;
    doing = "open";
    watched = NULL;
    assert_int_equal(engine_open(looking_seam(f->dir, false), &o, &follower), 0);
    for (int again = 0; again < 3; again++) {
        watched = follower;
        for (size_t i = 0; i < CALLS; i++) {
            doing = table[i].name;
            if (!table[i].writes)
                table[i].make(f, follower);
        }
        watched = NULL; /* segments begin and go beside it */
        fill(f, again == 0 ? 20 : 150);
        assert_true(pawl_retention_apply(writer) >= 0);
    }
    watched = follower;
    doing = "close";
    assert_int_equal(pawl_close(follower), 0);
    watched = writer;
}

/* ---- bounds */

static pawl_bounds bounds(pawl *log, uint32_t stream, uint32_t partition) {
    pawl_bounds b;
    assert_int_equal(pawl_partition_bounds(log, stream, partition, &b), 0);
    return b;
}

/* Known from the first question on, and right after every drop, as a new handle sees it. */
static void bounds_ask_the_disk_once(void **state) {
    struct fixture *f = *state;
    assert_int_equal(pawl_close(f->log), 0);
    assert_int_equal(open_log(f), 0);
    uint64_t before = calls;
    for (int round = 0; round < 4; round++) {
        bounds(f->log, f->stream, 0);
        if (round == 0)
            assert_true(calls > before);
        before = calls;
        for (uint32_t i = 0; i < 100; i++)
            bounds(f->log, f->stream, i % PARTITIONS);
        assert_int_equal(calls, before);
        if (round == 1)
            fill_spilled(f, 40);
        fill(f, 40);
        assert_true(pawl_retention_apply(f->log) > 0);
        before = calls;
        pawl_bounds own[PARTITIONS];
        for (uint32_t k = 0; k < PARTITIONS; k++)
            own[k] = bounds(f->log, f->stream, k);
        assert_int_equal(calls, before);
        pawl *other;
        assert_int_equal(
            pawl_open(f->dir,
                      &(pawl_options){.struct_size = sizeof(pawl_options), .flags = PAWL_OPEN_READ},
                      &other, NULL),
            0);
        for (uint32_t k = 0; k < PARTITIONS; k++)
            assert_int_equal(bounds(other, f->stream, k).first, own[k].first);
        assert_int_equal(pawl_close(other), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(writer_never_waits_under_the_lock, setup, teardown),
        cmocka_unit_test_setup_teardown(follower_never_waits_under_the_lock, setup, teardown),
        cmocka_unit_test_setup_teardown(bounds_ask_the_disk_once, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
