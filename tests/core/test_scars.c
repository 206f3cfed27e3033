/* SPDX-License-Identifier: Apache-2.0 */
/* Known failures of comparable systems, each with its situation brought about on Pawl.
 * docs/testing.md has the list, and where the others are shown. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "pawl.h"

#define MIB (1024u * 1024u)

static char dir[64], copy[80];
static pawl *log_;
static uint32_t in, out, processor;

/* ---------------------------------------------------------------- what all have in common */

static void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void shell(const char *format, ...) {
    char command[512];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    assert_int_equal(system(command), 0);
}

static int setup(void **state) {
    (void)state;
    snprintf(dir, sizeof dir, "/var/tmp/test_scars.XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(copy, sizeof copy, "%s.copy", dir);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    shell("rm -rf -- '%s' '%s'", dir, copy);
    return 0;
}

static int try_open(const char *where) {
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_CREATE, o.segment_size = MIB, o.no_thread = 1;
    return pawl_open(where, &o, &log_, NULL);
}

static void open_log(const char *where) {
    pawl_stream_info info;
    pawl_error e;
    if (try_open(where) != 0) {
        pawl_last_error(&e);
        fail_msg("%s", e.message);
    }
    if (pawl_stream_find(log_, "in", &info) != 0) {
        assert_int_equal(pawl_stream_create(log_, "in", 1, &in), 0);
        assert_int_equal(pawl_stream_create(log_, "out", 1, &out), 0);
    }
    assert_int_equal(pawl_processor_register(log_, "p", &processor), 0);
}

static void close_log(void) {
    assert_int_equal(pawl_close(log_), 0);
}

/* The directory as a power cut would leave it now: everything acknowledged is in it. */
static void snapshot(void) {
    shell("rm -rf -- '%s'; cp -r -- '%s' '%s'", copy, dir, copy);
}

static int append(uint32_t stream, uint32_t n, uint32_t size) {
    uint8_t *value = calloc(1, size);
    memcpy(value, &n, sizeof n);
    memset(value + sizeof n, (int)n, size - sizeof n);
    pawl_record r = {.value = value, .value_len = size};
    int rc = pawl_append(log_, stream, 0, &r, NULL);
    free(value);
    return rc;
}

/* Reads a stream from its first kept offset; record k must be the k-th that was appended, of `size`
 * bytes. How many there are. */
static uint64_t count(uint32_t stream, uint64_t *lost) {
    pawl_bounds bounds;
    pawl_reader *r;
    pawl_batch b;
    int n;
    uint64_t total = 0;
    assert_int_equal(pawl_partition_bounds(log_, stream, 0, &bounds), 0);
    assert_int_equal(pawl_reader_open(log_, stream, 0, bounds.first, 0, &r), 0);
    while ((n = pawl_read(r, 0, 0, &b)) > 0 || n == PAWL_LOST) {
        if (n == PAWL_LOST) {
            assert_non_null(lost);
            *lost += b.to - b.from;
            continue;
        }
        for (size_t i = 0; i < b.count; i++, total++) {
            uint32_t k;
            memcpy(&k, b.records[i].value, sizeof k);
            assert_int_equal(k, b.records[i].offset);
        }
    }
    assert_int_equal(n, 0);
    pawl_reader_close(r);
    return total;
}

static void patch(const char *where, unsigned segment, off_t at, const void *bytes, size_t len) {
    char path[160];
    snprintf(path, sizeof path, "%s/%016x.seg", where, segment);
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, len, at), (ssize_t)len);
    close(fd);
}

static void peek(const char *where, unsigned segment, off_t at, void *bytes, size_t len) {
    char path[160];
    snprintf(path, sizeof path, "%s/%016x.seg", where, segment);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, bytes, len, at), (ssize_t)len);
    close(fd);
}

static off_t durable_end(void) {
    pawl_status s = PAWL_STATUS_INIT;
    assert_int_equal(pawl_get_status(log_, &s), 0);
    return (off_t)(s.durable_lsn % MIB);
}

/* ---------------------------------------------------------------- the scars */

/* Vector 25570: a data file was removed before the record of its removal was durable; after a crash
 * the reader looked for it for ever. */
static void vector_25570_data_file_removed_before_its_record(void **state) {
    (void)state;
    open_log(dir);
    for (uint32_t i = 0; i < 500; i++)
        assert_int_equal(append(in, i, 20000), 0);
    pawl_tx *tx;
    assert_int_equal(pawl_begin(log_, &tx), 0);
    assert_int_equal(pawl_advance(tx, processor, in, 0, 0, 400), 0);
    assert_int_equal(pawl_commit(tx, NULL), 0);
    snapshot(); /* none removed */
    pawl_retention keep = {.consumed = 1};
    assert_int_equal(pawl_retention_set(log_, &keep), 0);
    int dropped = pawl_retention_apply(log_);
    assert_true(dropped >= 4);
    close_log();
    for (int gone = 0; gone <= dropped; gone++) { /* a crash after each removal */
        if (gone > 0)
            shell("rm -- '%s/%016x.seg'", copy, (unsigned)gone - 1);
        for (int again = 0; again < 2; again++) {
            open_log(copy);
            pawl_bounds b;
            uint64_t at;
            assert_int_equal(pawl_partition_bounds(log_, in, 0, &b), 0);
            assert_int_equal(pawl_position_get(log_, "p", in, 0, &at), 0);
            assert_true(b.first <= at && b.end == 500);
            assert_int_equal(count(in, NULL), 500 - b.first);
            close_log();
        }
    }
}

/* Fluent Bit 6995: the position was saved, the chunk that it stood for was corrupt after a power
 * loss. */
static void fluentbit_6995_position_saved_but_data_corrupt(void **state) {
    (void)state;
    open_log(dir);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(append(in, i, 100), 0);
    off_t before = durable_end();
    pawl_tx *tx;
    uint32_t zero = 0;
    pawl_record r = {.value = &zero, .value_len = sizeof zero};
    assert_int_equal(pawl_begin(log_, &tx), 0);
    assert_int_equal(pawl_put(tx, out, 0, &r), 0);
    assert_int_equal(pawl_advance(tx, processor, in, 0, 0, 4), 0);
    assert_int_equal(pawl_commit(tx, NULL), 0);
    for (off_t byte = 0; byte < 200; byte += 9) { /* wherever the power loss hit the commit */
        snapshot();
        uint8_t x;
        peek(copy, 0, before + byte, &x, 1);
        x ^= 0x10;
        patch(copy, 0, before + byte, &x, 1);
        pawl *writer = log_;
        open_log(copy);
        uint64_t at = 0;
        int rc = pawl_position_get(log_, "p", in, 0, &at);
        assert_int_equal(count(out, NULL), rc == 0 && at == 4 ? 1 : 0); /* both, or neither */
        assert_true(rc == PAWL_NOT_FOUND || at == 0 || at == 4);
        close_log();
        log_ = writer;
    }
    close_log();
}

/* Fluent Bit 10952: acknowledged records were thrown away after a SIGKILL. */
static void fluentbit_10952_acknowledged_then_killed(void **state) {
    (void)state;
    uint32_t acknowledged = 0;
    for (int round = 0; round < 5; round++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        if (child == 0) {
            if (try_open(dir) != 0)
                _exit(1);
            pawl_stream_info info;
            in = pawl_stream_find(log_, "in", &info) == 0 ? info.id : 0;
            if (in == 0 && pawl_stream_create(log_, "in", 1, &in) != 0)
                _exit(2);
            pawl_bounds b;
            if (pawl_partition_bounds(log_, in, 0, &b) != 0)
                _exit(1);
            for (uint32_t n = (uint32_t)b.end;; n++) {
                if (append(in, n, 300) != 0 || write(ends[1], &n, sizeof n) != sizeof n)
                    _exit(3);
            }
        }
        close(ends[1]);
        uint32_t n;
        for (int i = 0; i < 50 + round * 30; i++) {
            assert_int_equal(read(ends[0], &n, sizeof n), sizeof n);
            acknowledged = n + 1;
        }
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, NULL, 0), child);
        while (read(ends[0], &n, sizeof n) == sizeof n)
            acknowledged = n + 1;
        close(ends[0]);
        open_log(dir);
        assert_true(count(in, NULL) >= acknowledged);
        close_log();
    }
}

/* NATS 7549: one flipped bit lost hundreds of thousands of good records after it. */
static void nats_7549_one_bit_loses_one_commit(void **state) {
    (void)state;
    enum { RECORDS = 200000, BATCH = 500 };
    off_t at = 0;
    open_log(dir);
    for (uint32_t i = 0; i < RECORDS; i += BATCH) {
        if (i == 20 * BATCH)
            at = durable_end() + 1000; /* inside of the next commit, early in the log */
        pawl_tx *tx;
        assert_int_equal(pawl_begin(log_, &tx), 0);
        for (uint32_t k = i; k < i + BATCH; k++) {
            pawl_record r = {.value = &k, .value_len = sizeof k};
            assert_int_equal(pawl_put(tx, in, 0, &r), 0);
        }
        assert_int_equal(pawl_commit(tx, NULL), 0);
    }
    close_log();
    uint8_t x;
    peek(dir, 0, at, &x, 1);
    x ^= 1;
    patch(dir, 0, at, &x, 1);
    pawl_check c = PAWL_CHECK_INIT;
    assert_int_equal(pawl_verify(dir, &c, NULL), PAWL_DAMAGED);
    c = (pawl_check)PAWL_CHECK_INIT;
    assert_int_equal(pawl_repair(dir, &c, NULL), 0);
    assert_int_equal(c.lost_records, BATCH);
    open_log(dir);
    uint64_t lost = 0;
    assert_int_equal(count(in, &lost), RECORDS - BATCH);
    assert_int_equal(lost, BATCH);
    close_log();
}

/* etcd 14098: losing an unsynced tail left a log that would not open. */
static void etcd_14098_unsynced_tail_lost(void **state) {
    (void)state;
    static uint8_t zeros[3 * 4096], garbage[3 * 4096];
    memset(garbage, 0xA5, sizeof garbage);
    open_log(dir);
    for (uint32_t i = 0; i < 20; i++)
        assert_int_equal(append(in, i, 3000), 0);
    off_t acknowledged = durable_end();
    for (uint32_t i = 20; i < 23; i++) /* a block each, and no later witness for the last */
        assert_int_equal(append(in, i, 3000), 0);
    pawl *writer = log_;
    for (off_t from = 0; from < 3 * 4096; from += 512)
        for (int junk = 0; junk < 2; junk++) {
            snapshot();
            /* The next commit witnesses that these records are durable: their loss is damage, and
             * reported. */
            size_t len = sizeof zeros - (size_t)from;
            patch(copy, 0, acknowledged + from, junk ? garbage : zeros, len);
            int rc = try_open(copy);
            /* all of the tail is gone, and its witnesses with it: cut, and open */
            assert_int_equal(rc, 0);
            uint64_t n = count(in, NULL);
            assert_true(n >= 20 && n <= 23);
            close_log();
        }
    log_ = writer;
    close_log();
}

/* Iggy 3946: a torn tail that recovery had cut came back with the next recovery. */
static void iggy_3946_cut_tail_comes_back(void **state) {
    (void)state;
    uint8_t block[4096], zeros[4096] = {0};
    open_log(dir);
    assert_int_equal(append(in, 0, 100), 0);
    off_t second = durable_end();
    assert_int_equal(append(in, 1, 100), 0);
    off_t third = durable_end();
    assert_int_equal(append(in, 2, 100), 0);
    snapshot();
    close_log();
    peek(copy, 0, second, block, sizeof block);
    uint8_t last[4096];
    peek(copy, 0, third, last, sizeof last);
    /* the second never arrived; nor did what would have vouched for it */
    patch(copy, 0, second, zeros, sizeof zeros);
    last[0] ^= 1;
    patch(copy, 0, third, last, sizeof last);
    open_log(copy);
    assert_int_equal(count(in, NULL), 1);
    close_log();
    last[0] ^= 1;
    patch(copy, 0, third, last, sizeof last); /* the device brings the third back after all */
    for (int again = 0; again < 2; again++) {
        open_log(copy);
        uint64_t n = count(in, NULL);
        assert_int_equal(n, 1 + (uint64_t)again);
        if (again == 0)
            assert_int_equal(append(in, 1, 50), 0);
        close_log();
    }
}

/* RocksDB 12918: recycled log files lost data: old bytes were taken for new ones, or new ones for
 * old. */
static void rocksdb_12918_old_bytes_in_a_new_segment(void **state) {
    (void)state;
    open_log(dir);
    uint32_t n = 0;
    pawl_status s = PAWL_STATUS_INIT;
    do {
        assert_int_equal(append(in, n++, 30000), 0);
        assert_int_equal(pawl_get_status(log_, &s), 0);
    } while (s.last_segment < 2);
    pawl_tick(log_);
    close_log();
    /* The next segment's file holds an older one's bytes, header and all, in place of zeros. */
    shell("cp -- '%s/%016x.seg' '%s/%016x.seg'", dir, 1u, dir, (unsigned)s.last_segment + 1);
    open_log(dir);
    assert_int_equal(count(in, NULL), n);
    for (uint32_t more = 0; more < 80; more++)
        assert_int_equal(append(in, n++, 30000), 0);
    close_log();
    open_log(dir);
    assert_int_equal(count(in, NULL), n);
    close_log();
    pawl_check c = PAWL_CHECK_INIT;
    assert_int_equal(pawl_verify(dir, &c, NULL), 0);
}

/* SQLite 3.7.0 to 3.51.3: a checkpoint at the moment the log wrapped around let a writer continue
 * from a stale place. */
static _Atomic int writers_left;
static void *write_on(void *arg) {
    static const uint8_t value[9000];
    uint32_t stream = (uint32_t)(uintptr_t)arg;
    for (int i = 0; i < 400; i++) {
        pawl_record r = {.value = value, .value_len = sizeof value};
        if (pawl_append(log_, stream, 0, &r, NULL) != 0)
            abort();
    }
    atomic_fetch_sub(&writers_left, 1);
    return NULL;
}

static void *read_on(void *arg) {
    uint64_t *seen = arg;
    pawl_reader *r;
    pawl_batch b;
    int n;
    if (pawl_reader_open(log_, in, 0, 0, 0, &r) != 0)
        abort();
    do {
        bool last = atomic_load(&writers_left) == 0;
        while ((n = pawl_read(r, 0, 0, &b)) > 0)
            *seen += (uint64_t)n;
        if (n < 0)
            abort();
        if (last)
            break;
        assert_int_equal(pawl_sync(log_), 0);
    } while (1);
    pawl_reader_close(r);
    return NULL;
}

static void sqlite_wal_reset_race(void **state) {
    (void)state;
    pthread_t w[3], r;
    uint64_t seen = 0;
    pawl_options o = PAWL_OPTIONS_INIT;
    /* a new segment every hundred records, with threads at it */
    o.flags = PAWL_OPEN_CREATE, o.segment_size = MIB;
    assert_int_equal(pawl_open(dir, &o, &log_, NULL), 0);
    assert_int_equal(pawl_stream_create(log_, "in", 1, &in), 0);
    atomic_store(&writers_left, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&w[i], NULL, write_on, (void *)(uintptr_t)in), 0);
    assert_int_equal(pthread_create(&r, NULL, read_on, &seen), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(w[i], NULL);
    pthread_join(r, NULL);
    assert_int_equal(seen, 1200);
    close_log();
    pawl_check c = PAWL_CHECK_INIT;
    assert_int_equal(pawl_audit(dir, &c, NULL), 0);
    assert_int_equal(c.records, 1200);
    assert_true(c.segments > 8);
}

/* Kafka 22548: a checkpoint left over from before let aborted writes survive. */
static void kafka_22548_aborted_writes_survive(void **state) {
    (void)state;
    static uint8_t value[200000];
    open_log(dir);
    assert_int_equal(append(in, 0, 100), 0);
    pawl_tx *tx;
    assert_int_equal(pawl_begin(log_, &tx), 0);
    for (int i = 0; i < 30; i++) { /* spills, over more than one segment */
        pawl_record r = {.value = value, .value_len = sizeof value};
        assert_int_equal(pawl_put(tx, in, 0, &r), 0);
    }
    pawl_status s = PAWL_STATUS_INIT;
    assert_int_equal(pawl_get_status(log_, &s), 0);
    assert_true(s.last_segment > 0);
    snapshot(); /* a crash with the transaction open */
    pawl_abort(tx);
    assert_int_equal(append(in, 1, 100), 0);
    assert_int_equal(count(in, NULL), 2);
    close_log();
    open_log(dir);
    assert_int_equal(count(in, NULL), 2);
    close_log();
    open_log(copy);
    assert_int_equal(count(in, NULL), 1);
    assert_int_equal(append(in, 1, 100), 0);
    close_log();
    open_log(copy);
    assert_int_equal(count(in, NULL), 2);
    close_log();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(vector_25570_data_file_removed_before_its_record),
        TEST(fluentbit_6995_position_saved_but_data_corrupt),
        TEST(fluentbit_10952_acknowledged_then_killed),
        TEST(nats_7549_one_bit_loses_one_commit),
        TEST(etcd_14098_unsynced_tail_lost),
        TEST(iggy_3946_cut_tail_comes_back),
        TEST(rocksdb_12918_old_bytes_in_a_new_segment),
        TEST(sqlite_wal_reset_race),
        TEST(kafka_22548_aborted_writes_survive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
