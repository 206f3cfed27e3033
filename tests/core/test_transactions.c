/* SPDX-License-Identifier: Apache-2.0 */
/* Transactions: all or nothing across streams, spilled or not, and what they may hold. */
#include <poll.h>
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
#include "tests/support/two_streams.h"

#define MIB (1024u * 1024u)

static int make(void **state, uint64_t segment_size) {
    if (fixture_make(state, "/tmp/test_transactions") != 0)
        return -1;
    struct fixture *f = *state;
    f->options.segment_size = segment_size;
    f->options.memory_cap = 72 * MIB; /* what 16 MiB values need */
    return 0;
}

static int setup(void **state) {
    return make(state, MIB) != 0 ? -1 : fixture_begin(*state);
}

static int setup_default_sizes(void **state) {
    return make(state, 0) != 0 ? -1 : fixture_begin(*state);
}

static int setup_dispatch(void **state) {
    if (make(state, MIB) != 0)
        return -1;
    ((struct fixture *)*state)->options.app_dispatch = 1;
    return fixture_begin(*state);
}

static pawl_record text(const char *s) {
    return (pawl_record){.value = s, .value_len = (uint32_t)strlen(s)};
}

static void put(pawl_tx *tx, uint32_t stream, uint32_t partition, const char *s) {
    pawl_record r = text(s);
    assert_int_equal(pawl_put(tx, stream, partition, &r), 0);
}

static uint64_t durable(struct fixture *f, uint32_t stream, uint32_t partition) {
    pawl_bounds b;
    assert_int_equal(pawl_partition_bounds(f->log, stream, partition, &b), 0);
    return b.durable;
}

static void expect(struct fixture *f, uint32_t stream, uint32_t partition, uint64_t offset,
                   const char *s) {
    pawl_reader *r;
    pawl_batch batch;
    assert_int_equal(pawl_reader_open(f->log, stream, partition, offset, 0, &r), 0);
    assert_int_equal(pawl_read(r, 1, 0, &batch), 1);
    assert_int_equal(batch.records[0].offset, offset);
    assert_int_equal(batch.records[0].value_len, strlen(s));
    assert_memory_equal(batch.records[0].value, s, strlen(s));
    pawl_reader_close(r);
}

static void all_streams_together(void **state) {
    struct fixture *f = *state;
    pawl_tx *tx;
    pawl_receipt receipt;
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    put(tx, f->a, 0, "one");
    for (uint32_t i = 0; i < 4; i++)
        put(tx, f->b, i, "two");
    put(tx, f->a, 0, "three");
    assert_int_equal(durable(f, f->a, 0), 0);
    assert_int_equal(durable(f, f->b, 3), 0);
    assert_int_equal(pawl_commit(tx, &receipt), 0);
    assert_int_equal(receipt.stream, f->a);
    assert_int_equal(receipt.offset, 0);
    assert_int_equal(receipt.duplicate, 0);
    for (int again = 0; again < 2; again++) {
        expect(f, f->a, 0, 0, "one");
        expect(f, f->a, 0, 1, "three");
        for (uint32_t i = 0; i < 4; i++) {
            expect(f, f->b, i, 0, "two");
            assert_int_equal(durable(f, f->b, i), 1);
        }
        reopen(f);
    }
}

static void abort_leaves_nothing(void **state) {
    struct fixture *f = *state;
    pawl_tx *tx;
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    put(tx, f->a, 0, "never");
    put(tx, f->b, 1, "never");
    pawl_abort(tx);
    pawl_abort(NULL);
    pawl_record r = text("first");
    pawl_receipt receipt;
    assert_int_equal(pawl_append(f->log, f->a, 0, &r, &receipt), 0);
    assert_int_equal(receipt.offset, 0);
    reopen(f);
    expect(f, f->a, 0, 0, "first");
    assert_int_equal(durable(f, f->a, 0), 1);
    assert_int_equal(durable(f, f->b, 1), 0);
}

static void an_open_transaction_blocks_no_reader(void **state) {
    struct fixture *f = *state;
    pawl_tx *tx;
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    put(tx, f->a, 0, "open");
    pawl_record r = text("through");
    for (uint64_t i = 0; i < 3; i++) {
        assert_int_equal(pawl_append(f->log, f->a, 0, &r, NULL), 0);
        expect(f, f->a, 0, i, "through");
    }
    pawl_abort(tx);
    assert_int_equal(durable(f, f->a, 0), 3);
}

static void a_refused_record_is_not_in_it(void **state) {
    struct fixture *f = *state;
    pawl_tx *tx;
    pawl_record r = text("x");
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    put(tx, f->a, 0, "good");
    assert_int_equal(pawl_put(tx, 99, 0, &r), PAWL_NOT_FOUND);
    assert_int_equal(pawl_put(tx, f->a, 1, &r), PAWL_RANGE);
    char *big = calloc(1, 300 * 1024);
    assert_non_null(big);
    r.value = big, r.value_len = 300 * 1024;
    assert_int_equal(pawl_put(tx, f->a, 0, &r), PAWL_TOO_LARGE);
    r.value_len = 252 * 1024 - 4096;
    assert_int_equal(pawl_put(tx, f->b, 0, &r), 0);
    free(big);
    assert_int_equal(pawl_commit(tx, NULL), 0);
    assert_int_equal(durable(f, f->a, 0), 1);
    assert_int_equal(durable(f, f->b, 0), 1);
}

#define BIG (100u * 1024u)
#define BIG_COUNT 84u

static void fill(uint8_t *p, uint32_t n, uint32_t seed) {
    for (uint32_t i = 0; i < n; i++)
        p[i] = (uint8_t)((i * 31u + seed * 131u) ^ (i >> 8));
}

static void put_big(struct fixture *f, pawl_tx *tx, uint32_t count) {
    uint8_t *p = malloc(BIG);
    assert_non_null(p);
    for (uint32_t i = 0; i < count; i++) {
        fill(p, BIG, i);
        pawl_record r = {.value = p, .value_len = BIG};
        assert_int_equal(pawl_put(tx, i % 2 == 0 ? f->a : f->b, 0, &r), 0);
    }
    free(p);
}

static void expect_big(struct fixture *f, uint32_t stream, uint32_t odd, uint64_t from) {
    uint8_t *p = malloc(BIG);
    pawl_reader *r;
    pawl_batch batch;
    assert_non_null(p);
    assert_int_equal(pawl_reader_open(f->log, stream, 0, from, 0, &r), 0);
    uint32_t seen = 0;
    int n;
    while ((n = pawl_read(r, 0, 0, &batch)) > 0)
        for (size_t i = 0; i < batch.count; i++, seen++) {
            fill(p, BIG, seen * 2 + odd);
            assert_int_equal(batch.records[i].offset, from + seen);
            assert_int_equal(batch.records[i].value_len, BIG);
            assert_memory_equal(batch.records[i].value, p, BIG);
        }
    assert_int_equal(n, 0);
    assert_int_equal(seen, BIG_COUNT / 2);
    pawl_reader_close(r);
    free(p);
}

static void a_spilled_transaction_commits_whole(void **state) {
    struct fixture *f = *state;
    pawl_tx *tx;
    pawl_record between = text("between");
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    put_big(f, tx, BIG_COUNT);
    assert_int_equal(durable(f, f->a, 0), 0);
    assert_int_equal(pawl_append(f->log, f->a, 0, &between, NULL), 0);
    assert_int_equal(pawl_commit(tx, NULL), 0);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(durable(f, f->a, 0), 1 + BIG_COUNT / 2);
        expect(f, f->a, 0, 0, "between");
        expect_big(f, f->a, 0, 1);
        expect_big(f, f->b, 1, 0);
        reopen(f);
    }
}

static void an_abandoned_spill_is_invisible(void **state) {
    struct fixture *f = *state;
    pawl_tx *tx;
    pawl_status before = PAWL_STATUS_INIT, after = PAWL_STATUS_INIT;
    assert_int_equal(pawl_get_status(f->log, &before), 0);
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    put_big(f, tx, 40);
    assert_int_equal(pawl_get_status(f->log, &after), 0);
    assert_true(after.end_lsn > before.end_lsn + 2 * MIB); /* it did spill */
    pawl_abort(tx);
    pawl_record r = text("behind");
    assert_int_equal(pawl_append(f->log, f->a, 0, &r, NULL), 0);
    for (int again = 0; again < 2; again++) {
        expect(f, f->a, 0, 0, "behind");
        assert_int_equal(durable(f, f->a, 0), 1);
        assert_int_equal(durable(f, f->b, 0), 0);
        reopen(f);
    }
}

static void an_empty_transaction_writes_nothing(void **state) {
    struct fixture *f = *state;
    pawl_tx *tx;
    pawl_receipt receipt;
    pawl_status before = PAWL_STATUS_INIT, after = PAWL_STATUS_INIT;
    assert_int_equal(pawl_get_status(f->log, &before), 0);
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_commit(tx, &receipt), 0);
    assert_true(receipt.offset == UINT64_MAX);
    assert_int_equal(receipt.stream, 0);
    assert_int_equal(pawl_get_status(f->log, &after), 0);
    assert_int_equal(after.commits, before.commits);
}

struct order {
    uint32_t next, wrong;
};

struct told {
    struct order *order;
    uint32_t number;
    uint64_t lsn;
};

static void on_commit(void *arg, int status, const pawl_receipt *receipt) {
    struct told *t = arg;
    if (status != 0 || t->order->next != t->number || receipt->offset != t->number ||
        receipt->lsn <= t->lsn)
        t->order->wrong++;
    t->order->next++;
}

static void callbacks_come_in_order_when_dispatched(void **state) {
    struct fixture *f = *state;
    struct order order = {0, 0};
    static struct told told[200];
    for (uint32_t i = 0; i < 200; i++) {
        pawl_tx *tx;
        told[i] = (struct told){&order, i, 0};
        assert_int_equal(pawl_begin(f->log, &tx), 0);
        put(tx, f->a, 0, "async");
        assert_int_equal(pawl_commit_async(tx, on_commit, &told[i], NULL), 0);
    }
    assert_int_equal(order.next, 0); /* not before pawl_dispatch() */
    int fd = pawl_eventfd(f->log);
    assert_true(fd >= 0);
    uint32_t ran = 0;
    while (ran < 200) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&p, 1, 10000), 1);
        int n = pawl_dispatch(f->log);
        assert_true(n >= 0);
        ran += (uint32_t)n;
        assert_int_equal(order.next, ran);
    }
    assert_int_equal(order.next, 200);
    assert_int_equal(order.wrong, 0);
    assert_int_equal(pawl_dispatch(f->log), 0);
    assert_int_equal(durable(f, f->a, 0), 200);
}

static void callbacks_come_in_order_by_themselves(void **state) {
    struct fixture *f = *state;
    struct order order = {0, 0};
    static struct told told[200];
    for (uint32_t i = 0; i < 200; i++) {
        pawl_tx *tx;
        told[i] = (struct told){&order, i, 0};
        assert_int_equal(pawl_begin(f->log, &tx), 0);
        put(tx, f->a, 0, "async");
        assert_int_equal(pawl_commit_async(tx, on_commit, &told[i], NULL), 0);
    }
    reopen(f); /* closing completes the commits in flight, and runs their callbacks */
    assert_int_equal(order.next, 200);
    assert_int_equal(order.wrong, 0);
    assert_int_equal(durable(f, f->a, 0), 200);
}

/* After many commits with threads waiting, a commit that no thread waits for is completed too,
 * whenever it comes. */
static void nobody_need_wait_for_it(void **state) {
    struct fixture *f = *state;
    struct order order = {0, 0};
    static struct told told[80];
    int fd = pawl_eventfd(f->log);
    assert_true(fd >= 0);
    for (uint32_t i = 0; i < 80; i++) {
        pawl_tx *tx;
        for (uint32_t k = 0; k < 2 + i % 7; k++) { /* waited for with what comes next */
            assert_int_equal(pawl_begin(f->log, &tx), 0);
            put(tx, f->b, 0, "input");
            assert_int_equal(pawl_commit_async(tx, NULL, NULL, NULL), 0);
            assert_int_equal(pawl_append(f->log, f->b, 1,
                                         &(pawl_record){.value = "output", .value_len = 6}, NULL),
                             0);
        }
        /* the background thread may be awake, take a nap, or be asleep for good: all must do */
        usleep(i % 16 == 15 ? 120000 : i % 4 * 150);
        told[i] = (struct told){&order, i, 0};
        assert_int_equal(pawl_begin(f->log, &tx), 0);
        put(tx, f->a, 0, "async");
        assert_int_equal(pawl_commit_async(tx, on_commit, &told[i], NULL), 0);
        while (order.next <= i) {
            struct pollfd p = {.fd = fd, .events = POLLIN};
            assert_int_equal(poll(&p, 1, 10000), 1);
            assert_true(pawl_dispatch(f->log) >= 0);
        }
    }
    assert_int_equal(order.wrong, 0);
    assert_int_equal(durable(f, f->a, 0), 80);
}

static void uncommitted_reading_sees_what_is_appended(void **state) {
    struct fixture *f = *state;
    pawl_tx *tx;
    pawl_reader *r;
    pawl_batch batch;
    pawl_bounds b;
    assert_int_equal(pawl_reader_open(f->log, f->a, 0, 0, PAWL_READ_UNCOMMITTED, &r), 0);
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    put(tx, f->a, 0, "appended");
    assert_int_equal(pawl_read(r, 0, 0, &batch), 0); /* put is not appended */
    assert_int_equal(pawl_commit_async(tx, NULL, NULL, NULL), 0);
    assert_int_equal(pawl_read(r, 0, 0, &batch), 1);
    assert_memory_equal(batch.records[0].value, "appended", 8);
    assert_int_equal(pawl_partition_bounds(f->log, f->a, 0, &b), 0);
    assert_int_equal(b.end, 1);
    pawl_reader_close(r);
    assert_int_equal(pawl_sync(f->log), 0);
    assert_int_equal(durable(f, f->a, 0), 1);
}

static void empty_keys_and_values(void **state) {
    struct fixture *f = *state;
    pawl_record none = {0}, key = {.key = "k", .key_len = 1},
                value = {.value = "v", .value_len = 1, .key = "", .key_len = 0};
    assert_int_equal(pawl_append(f->log, f->a, 0, &none, NULL), 0);
    assert_int_equal(pawl_append(f->log, f->a, 0, &key, NULL), 0);
    assert_int_equal(pawl_append(f->log, f->a, PAWL_ANY, &value, NULL), 0);
    reopen(f);
    pawl_reader *r;
    pawl_batch batch;
    assert_int_equal(pawl_reader_open(f->log, f->a, 0, 0, 0, &r), 0);
    assert_int_equal(pawl_read(r, 0, 0, &batch), 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(batch.records[i].key_len, i == 1);
        assert_int_equal(batch.records[i].value_len, i == 2);
        assert_true(batch.records[i].timestamp_ns > 0);
    }
    pawl_reader_close(r);
}

static void the_largest_value_and_one_byte_more(void **state) {
    struct fixture *f = *state;
    static uint8_t p[16 * MIB + 1];
    uint32_t n = 16 * MIB;
    fill(p, n + 1, 7);
    pawl_record r = {.value = p, .value_len = n + 1};
    assert_int_equal(pawl_append(f->log, f->a, 0, &r, NULL), PAWL_TOO_LARGE);
    r.value_len = n;
    if (pawl_append(f->log, f->a, 0, &r, NULL) != 0) {
        pawl_error e;
        pawl_last_error(&e);
        fail_msg("16 MiB with a cap of 72 MiB: %s", e.message);
    }
    assert_int_equal(pawl_append(f->log, f->a, 0, &r, NULL), 0);
    reopen(f);
    pawl_reader *reader;
    pawl_batch batch;
    assert_int_equal(pawl_reader_open(f->log, f->a, 0, 0, 0, &reader), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pawl_read(reader, 1, 0, &batch), 1);
        assert_int_equal(batch.records[0].value_len, n);
        assert_memory_equal(batch.records[0].value, p, n);
    }
    pawl_reader_close(reader);
}

static void headers_round_trip(void **state) {
    struct fixture *f = *state;
    pawl_header h[3] = {{"trace", "\0\1\2", 5, 3}, {"empty", NULL, 5, 0}, {"trace", "again", 5, 5}};
    pawl_record r = {.value = "v",
                     .value_len = 1,
                     .headers = h,
                     .header_count = 3,
                     .timestamp_ns = 1234567890123};
    pawl_reader *reader;
    pawl_batch batch;
    pawl_header got;
    assert_int_equal(pawl_append(f->log, f->a, 0, &r, NULL), 0);
    assert_int_equal(pawl_reader_open(f->log, f->a, 0, 0, 0, &reader), 0);
    assert_int_equal(pawl_read(reader, 0, 0, &batch), 1);
    pawl_record copy = batch.records[0]; /* written again with the encoded headers */
    assert_int_equal(pawl_append(f->log, f->a, 0, &copy, NULL), 0);
    assert_int_equal(pawl_reader_seek(reader, 0), 0);
    assert_int_equal(pawl_read(reader, 0, 0, &batch), 2);
    for (size_t k = 0; k < 2; k++) {
        assert_int_equal(batch.records[k].timestamp_ns, 1234567890123);
        for (uint32_t i = 0; i < 3; i++) {
            assert_int_equal(pawl_record_header(&batch.records[k], i, &got), 0);
            assert_int_equal(got.name_len, h[i].name_len);
            assert_int_equal(got.value_len, h[i].value_len);
            assert_memory_equal(got.name, h[i].name, got.name_len);
            if (got.value_len > 0)
                assert_memory_equal(got.value, h[i].value, got.value_len);
        }
        assert_int_equal(pawl_record_header(&batch.records[k], 3, &got), PAWL_NOT_FOUND);
    }
    pawl_reader_close(reader);
}

static void any_bytes_are_kept(void **state) {
    struct fixture *f = *state;
    uint8_t key[256], value[1024];
    fill(value, sizeof value, 3);
    for (uint32_t i = 0; i < 256; i++)
        key[i] = (uint8_t)i;
    pawl_record r = {.key = key, .key_len = 256, .value = value, .value_len = sizeof value};
    assert_int_equal(pawl_append(f->log, f->a, 0, &r, NULL), 0);
    reopen(f);
    pawl_reader *reader;
    pawl_batch batch;
    assert_int_equal(pawl_reader_open(f->log, f->a, 0, 0, 0, &reader), 0);
    assert_int_equal(pawl_read(reader, 0, 0, &batch), 1);
    assert_int_equal(batch.records[0].key_len, 256);
    assert_memory_equal(batch.records[0].key, key, 256);
    assert_int_equal(batch.records[0].value_len, sizeof value);
    assert_memory_equal(batch.records[0].value, value, sizeof value);
    pawl_reader_close(reader);
}

/* Also in the next life, and in another log. */
static void a_key_stays_in_its_partition(void **state) {
    struct fixture *f = *state, other = {0};
    uint32_t where[64], used = 0;
    assert_int_equal(test_dir_make(other.dir, "/tmp/test_transactions"), 0);
    other.options = f->options;
    assert_int_equal(fixture_begin(&other), 0);
    for (int again = 0; again < 3; again++) {
        if (again == 2)
            f = &other;
        for (uint32_t i = 0; i < 64; i++) {
            char key[16];
            pawl_receipt receipt;
            snprintf(key, sizeof key, "key-%u", i);
            pawl_record r = {
                .key = key, .key_len = (uint16_t)strlen(key), .value = "v", .value_len = 1};
            assert_int_equal(pawl_append(f->log, f->b, PAWL_ANY, &r, &receipt), 0);
            assert_true(receipt.partition < 4);
            used |= 1u << receipt.partition;
            if (again)
                assert_int_equal(receipt.partition, where[i]);
            where[i] = receipt.partition;
        }
        reopen(f);
    }
    assert_int_equal(used, 15);
    assert_int_equal(pawl_close(other.log), 0);
    assert_int_equal(test_dir_remove(other.dir), 0);
}

static void records_without_key_take_turns(void **state) {
    struct fixture *f = *state;
    pawl_record r = text("x");
    for (int i = 0; i < 40; i++)
        assert_int_equal(pawl_append(f->log, f->b, PAWL_ANY, &r, NULL), 0);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(durable(f, f->b, i), 10);
}

/* Records of every kind, larger together than a transaction holds in memory. */
#define MANY 4000u
static pawl_record *make_many(uint8_t *bytes, uint32_t size) {
    static const pawl_header headers[] = {{"name", "value", 4, 5}, {"", "", 0, 0}};
    pawl_record *records = calloc(MANY, sizeof *records);
    assert_non_null(records);
    fill(bytes, size, 7);
    for (uint32_t i = 0; i < MANY; i++) {
        uint32_t len = i % 97 == 0 ? 0 : i % 501 == 0 ? 20000 : 1 + i % 700;
        records[i] = (pawl_record){.value = bytes + i,
                                   .value_len = len,
                                   .key = bytes + 3 * i,
                                   .key_len = (uint16_t)(1 + i % 5)};
        records[i].timestamp_ns = 1000 + i;
        if (i % 97 == 0)
            records[i].value = NULL;
        if (i % 11 == 0)
            records[i].headers = headers, records[i].header_count = 2;
    }
    return records;
}

static void expect_alike(struct fixture *f, uint32_t one, uint32_t other, uint32_t partition) {
    pawl_reader *a, *b;
    pawl_batch x, y;
    int n;
    assert_int_equal(pawl_reader_open(f->log, one, partition, 0, 0, &a), 0);
    assert_int_equal(pawl_reader_open(f->log, other, partition, 0, 0, &b), 0);
    while ((n = pawl_read(a, 1, 0, &x)) == 1) {
        assert_int_equal(pawl_read(b, 1, 0, &y), 1);
        const pawl_record *r = &x.records[0], *q = &y.records[0];
        assert_int_equal(r->offset, q->offset);
        assert_int_equal(r->timestamp_ns, q->timestamp_ns);
        assert_int_equal(r->key_len, q->key_len);
        assert_int_equal(r->value_len, q->value_len);
        assert_int_equal(r->raw_headers_len, q->raw_headers_len);
        assert_memory_equal(r->key, q->key, r->key_len);
        assert_memory_equal(r->value, q->value, r->value_len);
        assert_memory_equal(r->raw_headers, q->raw_headers, r->raw_headers_len);
    }
    assert_int_equal(n, 0);
    assert_int_equal(pawl_read(b, 1, 0, &y), 0);
    pawl_reader_close(a);
    pawl_reader_close(b);
}

static void many_at_once_are_as_many_puts(void **state) {
    struct fixture *f = *state;
    uint8_t *bytes = malloc(64 * 1024);
    pawl_record *records = make_many(bytes, 64 * 1024);
    uint32_t c, d;
    pawl_tx *tx;
    assert_int_equal(pawl_stream_create(f->log, "c", 1, &c), 0);
    assert_int_equal(pawl_stream_create(f->log, "d", 4, &d), 0);
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_put_many(tx, f->a, 0, records, 0), 0);
    assert_int_equal(pawl_put_many(tx, f->a, 0, records, MANY), 0);
    assert_int_equal(pawl_put_many(tx, f->b, PAWL_ANY, records, MANY), 0);
    for (uint32_t i = 0; i < MANY; i++) {
        assert_int_equal(pawl_put(tx, c, 0, &records[i]), 0);
        assert_int_equal(pawl_put(tx, d, PAWL_ANY, &records[i]), 0);
    }
    assert_int_equal(pawl_commit(tx, NULL), 0);
    assert_int_equal(durable(f, f->a, 0), MANY);
    for (int again = 0; again < 2; again++) {
        expect_alike(f, f->a, c, 0);
        for (uint32_t i = 0; i < 4; i++)
            expect_alike(f, f->b, d, i);
        reopen(f);
    }
    free(records);
    free(bytes);
}

static void of_many_those_before_a_refused_one_are_in(void **state) {
    struct fixture *f = *state;
    pawl_record records[] = {text("one"), text("two"), text("three"), text("four")};
    pawl_tx *tx;
    records[2].value_len = 17 * MIB;
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_put_many(tx, f->a, 1, records, 2), PAWL_RANGE);
    assert_int_equal(pawl_put_many(tx, f->a, 0, records, 4), PAWL_TOO_LARGE);
    assert_int_equal(pawl_put_many(tx, f->a, 0, &records[3], 1), 0);
    assert_int_equal(pawl_put_many(NULL, f->a, 0, records, 1), PAWL_INVALID);
    assert_int_equal(pawl_put_many(tx, f->a, 0, NULL, 1), PAWL_INVALID);
    assert_int_equal(pawl_commit(tx, NULL), 0);
    assert_int_equal(durable(f, f->a, 0), 3);
    expect(f, f->a, 0, 0, "one");
    expect(f, f->a, 0, 1, "two");
    expect(f, f->a, 0, 2, "four");
}

/* More partitions than are looked through one by one, more records than a transaction holds: each
 * partition gets its own, in the order in which they were put, and one position each. */
static void many_partitions_at_once(void **state) {
    enum { PARTS = 300, ROUNDS = 9, VALUE = 1500 };
    struct fixture *f = *state;
    static uint8_t value[VALUE];
    uint32_t many, processor;
    assert_int_equal(pawl_stream_create(f->log, "many", PARTS, &many), 0);
    assert_int_equal(pawl_processor_register(f->log, "p", &processor), 0);
    for (uint64_t transaction = 0; transaction < 2; transaction++) {
        pawl_tx *tx;
        assert_int_equal(pawl_begin(f->log, &tx), 0);
        for (uint64_t k = 0; k < ROUNDS; k++)
            for (uint32_t i = 0; i < PARTS; i++) {
                uint32_t part = (uint32_t)((i * 7 + k * 11) % PARTS);
                uint64_t number = transaction * ROUNDS + k;
                memcpy(value, &number, sizeof number);
                memcpy(value + sizeof number, &part, sizeof part);
                pawl_record r = {.value = value, .value_len = VALUE};
                assert_int_equal(pawl_put(tx, many, part, &r), 0);
            }
        for (uint32_t part = 0; transaction == 1 && part < PARTS; part++) {
            assert_int_equal(pawl_advance(tx, processor, many, part, 0, 2), 0);
            assert_int_equal(pawl_advance(tx, processor, many, part, 2, 3 + part % 4), 0);
            assert_int_equal(pawl_advance(tx, processor, many, part, 2, 3), PAWL_TILING);
        }
        assert_int_equal(pawl_commit(tx, NULL), 0);
    }
    reopen(f); /* the log's own bytes say the same */
    for (uint32_t part = 0; part < PARTS; part++) {
        pawl_reader *r;
        pawl_batch b;
        uint64_t seen = 0, number, position;
        uint32_t of;
        assert_int_equal(pawl_reader_open(f->log, many, part, 0, 0, &r), 0);
        while (pawl_read(r, 0, 0, &b) > 0)
            for (size_t i = 0; i < b.count; i++, seen++) {
                memcpy(&number, b.records[i].value, sizeof number);
                memcpy(&of, (const uint8_t *)b.records[i].value + sizeof number, sizeof of);
                assert_int_equal(b.records[i].offset, seen);
                assert_int_equal(number, seen);
                assert_int_equal(of, part);
            }
        assert_int_equal(seen, 2 * ROUNDS);
        pawl_reader_close(r);
        assert_int_equal(pawl_position_get(f->log, "p", many, part, &position), 0);
        assert_int_equal(position, 3 + part % 4);
    }
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(all_streams_together),
        T(abort_leaves_nothing),
        T(an_open_transaction_blocks_no_reader),
        T(a_refused_record_is_not_in_it),
        T(a_spilled_transaction_commits_whole),
        T(many_at_once_are_as_many_puts),
        T(of_many_those_before_a_refused_one_are_in),
        T(an_abandoned_spill_is_invisible),
        T(an_empty_transaction_writes_nothing),
        cmocka_unit_test_setup_teardown(callbacks_come_in_order_when_dispatched, setup_dispatch,
                                        teardown),
        T(callbacks_come_in_order_by_themselves),
        cmocka_unit_test_setup_teardown(nobody_need_wait_for_it, setup_dispatch, teardown),
        T(uncommitted_reading_sees_what_is_appended),
        T(empty_keys_and_values),
        cmocka_unit_test_setup_teardown(the_largest_value_and_one_byte_more, setup_default_sizes,
                                        teardown),
        T(headers_round_trip),
        cmocka_unit_test_setup_teardown(many_partitions_at_once, setup_default_sizes, teardown),
        T(any_bytes_are_kept),
        T(a_key_stays_in_its_partition),
        T(records_without_key_take_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
