/* SPDX-License-Identifier: Apache-2.0 */
/* How pawl_run() gives processors their input: the log is read once for each worker, whatever the
 * number of partitions; each record comes once and in order, also to tasks that leave the common
 * walk and join again; and an append wakes only the worker that it concerns. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pipeline/processor.h"

#undef fail
#include <cmocka.h>

#include "tests/support/own_log.h"

static const struct seam_ops *real;
static struct seam_ops counting;
static _Atomic uint64_t bytes_read;
#define NEVER (UINT64_MAX / 2)
static _Atomic uint64_t reads;
static uint64_t fail_at = NEVER; /* that read fails, and the next one */

static int64_t count_read(struct seam *s, int file, void *data, size_t len, uint64_t offset) {
    atomic_fetch_add(&bytes_read, len);
    uint64_t n = atomic_fetch_add(&reads, 1);
    if (n == fail_at || n == fail_at + 1)
        return -EIO;
    return real->read(s, file, data, len, offset);
}
static void count_put(struct seam_reads *q, struct seam_req *r) {
    atomic_fetch_add(&bytes_read, r->len);
    real->reads_put(q, r);
}

#define PARTS_MAX 256u
#define VALUE 1000u

struct fixture {
    char dir[64];
    pawl *log;
    uint32_t in, out;
};

static void open_on(struct fixture *f, uint64_t memory, int backend) {
    struct seam *io;
    pawl_options o = PAWL_OPTIONS_INIT;
    assert_int_equal(seam_create(f->dir, true, backend, PAWL_DIRECT_AUTO, &io), 0);
    real = io->ops;
    counting = *real;
    counting.read = count_read;
    if (real->reads_put != NULL)
        counting.reads_put = count_put;
    io->ops = &counting;
    o.flags = PAWL_OPEN_CREATE, o.segment_size = 4 * MIB, o.memory_cap = memory;
    assert_int_equal(engine_open(io, &o, &f->log), 0);
}

static void open_log(struct fixture *f, uint64_t memory) {
    open_on(f, memory, PAWL_BACKEND_AUTO);
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -1;
    *state = f;
    return test_dir_make(f->dir, "/var/tmp/test_feeds");
}

static int teardown(void **state) {
    struct fixture *f = *state;
    int rc = close_and_remove(f->log, f->dir);
    free(f);
    return rc;
}

/* `each` records to each partition, a commit each, partitions in turn: record k of a partition
 * begins with k. */
static void fill(struct fixture *f, uint32_t partitions, uint64_t from, uint64_t each) {
    static uint8_t value[VALUE];
    for (uint64_t k = from; k < from + each; k++)
        for (uint32_t p = 0; p < partitions; p++) {
            pawl_tx *tx;
            memcpy(value, &k, sizeof k);
            pawl_record r = {.value = value, .value_len = VALUE};
            assert_int_equal(pawl_begin(f->log, &tx), 0);
            assert_int_equal(pawl_put(tx, f->in, p, &r), 0);
            assert_int_equal(pawl_commit_async(tx, NULL, NULL, NULL), 0);
        }
    assert_int_equal(pawl_sync(f->log), 0);
}

struct job {
    uint32_t out;
    _Atomic uint64_t wrong, seen;
    uint64_t next[PARTS_MAX]; /* by partition; one thread at a time uses each */
    uint64_t fails_at;        /* it fails the first time it gets this record */
    _Atomic uint32_t failures;
};

static int check_order(pawl_context *ctx, const pawl_record *records, size_t count, void *arg) {
    struct job *j = arg;
    uint32_t partition = pawl_context_partition(ctx);
    for (size_t i = 0; i < count; i++) {
        uint64_t k;
        memcpy(&k, records[i].value, sizeof k);
        if (k == j->fails_at && atomic_fetch_add(&j->failures, 1) % 3 != 2) {
            pawl_fail(ctx, i, "not yet");
            return -1;
        }
        j->wrong += k != records[i].offset;
    }
    /* what fails is given again, so only what went through moves it */
    if (records[0].offset != j->next[partition])
        j->wrong++;
    j->next[partition] = records[count - 1].offset + 1;
    j->seen += count;
    return j->out != 0 ? pawl_emit_many(ctx, j->out, partition, records, count) : 0;
}

static void add(struct fixture *f, const char *name, uint32_t input, struct job *j) {
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    c.name = name, c.inputs = &input, c.input_count = 1, c.process = check_order, c.arg = j;
    c.retries = 5, c.backoff_ms = 1;
    assert_int_equal(pawl_processor_add(f->log, &c, NULL), 0);
}

static void create(struct fixture *f, uint32_t partitions) {
    assert_int_equal(pawl_stream_create(f->log, "in", partitions, &f->in), 0);
    assert_int_equal(pawl_stream_create(f->log, "out", partitions, &f->out), 0);
}

static void expect_all(const struct job *j, uint32_t partitions, uint64_t each) {
    assert_int_equal(j->wrong, 0);
    for (uint32_t p = 0; p < partitions; p++)
        assert_int_equal(j->next[p], each);
}

/* More input than memory, in many partitions: read once by each of two workers, not once by each
 * partition. It once took a window of memory for each, and the run ended for want of it. */
static void the_log_is_read_once_for_each_worker(void **state) {
    enum { PARTITIONS = 128, EACH = 128, WORKERS = 2 };
    struct fixture *f = *state;
    static struct job first, second;
    open_log(f, 4 * MIB);
    create(f, PARTITIONS);
    first = (struct job){.out = f->out, .fails_at = UINT64_MAX};
    second = (struct job){.fails_at = UINT64_MAX};
    fill(f, PARTITIONS, 0, EACH);
    add(f, "first", f->in, &first);
    add(f, "second", f->out, &second);
    pawl_status s = PAWL_STATUS_INIT;
    bytes_read = 0;
    assert_int_equal(pawl_run(f->log, WORKERS, PAWL_RUN_UNTIL_IDLE), 0);
    expect_all(&first, PARTITIONS, EACH);
    expect_all(&second, PARTITIONS, EACH);
    assert_int_equal(pawl_get_status(f->log, &s), 0);
    uint64_t log = s.end_lsn;
    assert_true(log > (uint64_t)PARTITIONS * EACH * VALUE * 2);
    assert_true(bytes_read < (WORKERS + 1) * log);
}

/* Spilled transactions, a record that fails a few times, and a second processor of the same
 * partitions: each leaves the walk, reads by itself, and joins again. */
static void tasks_leave_and_join(void **state) {
    enum { PARTITIONS = 3, EACH = 300 };
    struct fixture *f = *state;
    static struct job steady, failing;
    static uint8_t big[700 * 1024];
    open_log(f, 8 * MIB);
    create(f, PARTITIONS);
    steady = (struct job){.out = f->out, .fails_at = UINT64_MAX};
    failing = (struct job){.fails_at = 150};
    fill(f, PARTITIONS, 0, EACH);
    pawl_tx *tx;
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    for (uint64_t k = EACH; k < EACH + 6; k++) { /* more than a frame takes */
        memcpy(big, &k, sizeof k);
        pawl_record r = {.value = big, .value_len = sizeof big};
        assert_int_equal(pawl_put(tx, f->in, 1, &r), 0);
    }
    assert_int_equal(pawl_commit(tx, NULL), 0);
    add(f, "steady", f->in, &steady);
    add(f, "failing", f->in, &failing);
    for (uint32_t threads = 0; threads <= 2; threads++) {
        assert_int_equal(pawl_run(f->log, threads, PAWL_RUN_UNTIL_IDLE), 0);
        uint64_t more = threads * 10;
        assert_int_equal(steady.wrong + failing.wrong, 0);
        assert_int_equal(steady.next[0], EACH + more);
        assert_int_equal(failing.next[0], EACH + more);
        assert_int_equal(steady.next[1], EACH + 6 + more);
        assert_int_equal(failing.next[1], EACH + 6 + more);
        assert_int_equal(steady.next[2], EACH);
        for (uint64_t k = 0; k < 10; k++) {
            pawl_receipt receipt;
            for (uint32_t p = 0; p < 2; p++) {
                uint64_t next = EACH + (p == 1 ? 6u : 0u) + more + k;
                pawl_record r = {.value = &next, .value_len = sizeof next};
                assert_int_equal(pawl_append(f->log, f->in, p, &r, &receipt), 0);
                assert_int_equal(receipt.offset, next);
            }
        }
    }
    assert_true(failing.failures >= PARTITIONS);
}

/* Where the walk meets a failing read, each task goes on by itself from there: also from the end of
 * a group, where only the link of the last frame shows which is the next. It is never taken for
 * damage. */
static void a_read_that_fails_is_no_damage(void **state) {
    enum { EACH = 500, PARTS = 2 };
    struct fixture *f = *state;
    bool failed = true;
    for (uint64_t k = 0; failed; k++) {
        static struct job j;
        j = (struct job){.fails_at = UINT64_MAX};
        open_on(f, 4 * MIB, PAWL_BACKEND_POSIX);
        if (k == 0) {
            create(f, PARTS);
            for (uint64_t i = 0; i < EACH; i++) /* in a group each */
                fill(f, PARTS, i, 1);
        }
        char name[24];
        snprintf(name, sizeof name, "p%llu", (unsigned long long)k);
        add(f, name, f->in, &j);
        reads = 0;
        fail_at = k;
        int rc = pawl_run(f->log, 1, PAWL_RUN_UNTIL_IDLE);
        failed = reads > k;
        fail_at = NEVER;
        if (rc != 0)
            assert_int_equal(rc, PAWL_IO);
        assert_int_equal(pawl_run(f->log, 1, PAWL_RUN_UNTIL_IDLE), 0);
        expect_all(&j, PARTS, EACH);
        assert_int_equal(pawl_close(f->log), 0);
    }
    open_log(f, 0);
}

static void *run_until_stopped(void *arg) {
    struct fixture *f = arg;
    return pawl_run(f->log, 2, 0) == PAWL_STOPPED ? arg : NULL;
}

static void wait_until_asleep(pawl *p, uint32_t bits) {
    for (uint32_t asleep = 0; (asleep & bits) != bits;) {
        usleep(1000);
        pthread_mutex_lock(&p->mutex);
        asleep = p->todo.asleep;
        engine_leave(p);
    }
}

static void an_append_wakes_only_the_worker_of_its_partition(void **state) {
    struct fixture *f = *state;
    static struct job j;
    pthread_t runner;
    void *answer;
    open_log(f, 0);
    create(f, 2); /* the worker of a partition has its number */
    j = (struct job){.fails_at = UINT64_MAX};
    add(f, "p", f->in, &j);
    alarm(60);
    assert_int_equal(pthread_create(&runner, NULL, run_until_stopped, f), 0);
    wait_until_asleep(f->log, 3);
    uint32_t before[2] = {f->log->todo.words[0], f->log->todo.words[1]};
    for (uint64_t k = 0; k < 20; k++) {
        pawl_record r = {.value = &k, .value_len = sizeof k};
        assert_int_equal(pawl_append(f->log, f->in, 1, &r, NULL), 0);
        wait_until_asleep(f->log, 3);
    }
    assert_int_equal(j.next[1], 20);
    assert_int_equal(f->log->todo.words[0], before[0]);
    assert_int_not_equal(f->log->todo.words[1], before[1]);
    for (uint64_t k = 0; k < 20; k++) /* nobody processes it */
        assert_int_equal(
            pawl_append(f->log, f->out, 0, &(pawl_record){.value = "x", .value_len = 1}, NULL), 0);
    wait_until_asleep(f->log, 3);
    assert_int_equal(f->log->todo.words[0], before[0]);
    pawl_stop(f->log);
    assert_int_equal(pthread_join(runner, &answer), 0);
    assert_ptr_equal(answer, f);
    pawl_stop_clear(f->log);
    alarm(0);
}

/* More workers than there are bits: some share one. */
static void many_workers_share_the_bits(void **state) {
    enum { PARTITIONS = 80, EACH = 40 };
    struct fixture *f = *state;
    static struct job j;
    open_log(f, 256 * MIB);
    create(f, PARTITIONS);
    j = (struct job){.out = f->out, .fails_at = UINT64_MAX};
    add(f, "p", f->in, &j);
    fill(f, PARTITIONS, 0, EACH);
    assert_int_equal(pawl_run(f->log, 70, PAWL_RUN_UNTIL_IDLE), 0);
    expect_all(&j, PARTITIONS, EACH);
    fill(f, PARTITIONS, EACH, 1);
    assert_int_equal(pawl_run(f->log, 3, PAWL_RUN_UNTIL_IDLE), 0);
    expect_all(&j, PARTITIONS, EACH + 1);
}

struct sizes {
    uint64_t seen, batches, largest;
};

static int note_size(pawl_context *ctx, const pawl_record *records, size_t count, void *arg) {
    struct sizes *s = arg;
    (void)ctx;
    (void)records;
    s->seen += count;
    s->batches++;
    s->largest = count > s->largest ? count : s->largest;
    return 0;
}

/* Read from disk, in which each commit is larger than what a round copies at least: a batch still
 * takes as many as its limits say. */
static void a_batch_takes_several_commits(void **state) {
    enum { COMMITS = 24, EACH = 300 };
    static const struct {
        const char *name;
        uint32_t records;
        uint64_t bytes, largest, batches;
    } cases[] = {
        {"by bytes", 10000, 0, 900, 8},         {"by records", 700, 0, 600, 12},
        {"less than a commit", 10, 0, 10, 720}, {"a commit", 300, 0, 300, 24},
        {"few bytes", 10000, 100000, 100, 72},
    };
    static uint8_t value[VALUE];
    struct fixture *f = *state;
    open_log(f, 128 * MIB);
    create(f, 1);
    for (int c = 0; c < COMMITS; c++) {
        pawl_tx *tx;
        pawl_record r = {.value = value, .value_len = VALUE};
        assert_int_equal(pawl_begin(f->log, &tx), 0);
        for (int i = 0; i < EACH; i++)
            assert_int_equal(pawl_put(tx, f->in, 0, &r), 0);
        assert_int_equal(pawl_commit(tx, NULL), 0);
    }
    assert_int_equal(pawl_close(f->log), 0);
    open_log(f, 128 * MIB); /* nothing of it is in memory */
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sizes s = {0};
        pawl_processor *p;
        pawl_processor_config c = PAWL_PROCESSOR_INIT;
        c.name = "p", c.inputs = &f->in, c.input_count = 1, c.process = note_size, c.arg = &s;
        c.batch_max = cases[i].records, c.batch_bytes = cases[i].bytes;
        assert_int_equal(pawl_processor_add(f->log, &c, &p), 0);
        assert_int_equal(pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE), 0);
        pawl_processor_remove(p);
        if (s.largest != cases[i].largest || s.batches > cases[i].batches)
            fail_msg("%s: %llu batches, the largest of %llu", cases[i].name,
                     (unsigned long long)s.batches, (unsigned long long)s.largest);
        assert_int_equal(s.seen, COMMITS * EACH);
        assert_int_equal(pawl_processor_forget(f->log, "p"), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_log_is_read_once_for_each_worker, setup, teardown),
        cmocka_unit_test_setup_teardown(tasks_leave_and_join, setup, teardown),
        cmocka_unit_test_setup_teardown(a_read_that_fails_is_no_damage, setup, teardown),
        cmocka_unit_test_setup_teardown(an_append_wakes_only_the_worker_of_its_partition, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(many_workers_share_the_bits, setup, teardown),
        cmocka_unit_test_setup_teardown(a_batch_takes_several_commits, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
