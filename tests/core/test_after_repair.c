/* SPDX-License-Identifier: Apache-2.0 */
/* A repaired log must still work: a LOST frame earlier in the segment must not make later, whole
 * frames look wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <unistd.h>

#include "pawl.h"
#include "tests/support/own_log.h"
#include "wal/format.h"

#define MIB (1024u * 1024u)

struct fixture {
    char dir[64];
    pawl_options options;
};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -1;
    if (test_dir_make(f->dir, "/tmp/test_after_repair") != 0)
        return -1;
    f->options = small_segments();
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    int rc = test_dir_remove(f->dir);
    free(f);
    return rc;
}

static pawl *reopen(struct fixture *f) {
    pawl *log;
    pawl_error e;
    if (pawl_open(f->dir, &f->options, &log, &e) != 0)
        fail_msg("%s", e.message);
    return log;
}

static void append(pawl *log, uint32_t stream, const char *s) {
    pawl_record r = {.value = s, .value_len = (uint32_t)strlen(s)};
    assert_int_equal(pawl_append(log, stream, 0, &r, NULL), 0);
}

/* Flips a bit of the text, at its place in segment 0. */
static void damage(struct fixture *f, const char *text) {
    char file[128];
    snprintf(file, sizeof file, "%s/0000000000000000.seg", f->dir);
    int fd = open(file, O_RDWR);
    uint8_t *bytes = malloc(MIB);
    assert_true(fd >= 0 && bytes != NULL);
    assert_int_equal(pread(fd, bytes, MIB, 0), MIB);
    uint8_t *at = memmem(bytes, MIB, text, strlen(text));
    assert_non_null(at);
    *at ^= 1;
    assert_int_equal(pwrite(fd, at, 1, at - bytes), 1);
    free(bytes);
    close(fd);
}

static void overwrite(struct fixture *f, int segment, off_t at, size_t len) {
    char file[128];
    snprintf(file, sizeof file, "%s/%016x.seg", f->dir, (unsigned)segment);
    int fd = open(file, O_RDWR);
    uint8_t *zeros = calloc(1, len);
    assert_true(fd >= 0 && zeros != NULL);
    assert_int_equal(pwrite(fd, zeros, len, at), len);
    free(zeros);
    close(fd);
}

/* Reads the whole stream; lost records must be reported. Returns the number of records read. */
static uint64_t read_all(struct fixture *f, uint32_t flags, uint32_t stream, uint64_t *lost) {
    pawl_options o = f->options;
    pawl *log;
    pawl_reader *r;
    pawl_batch b;
    pawl_error e;
    uint64_t n = 0;
    o.flags = flags;
    if (pawl_open(f->dir, &o, &log, &e) != 0)
        fail_msg("%s", e.message);
    assert_int_equal(pawl_reader_open(log, stream, 0, 0, 0, &r), 0);
    *lost = 0;
    for (;;) {
        int rc = pawl_read(r, 0, 0, &b);
        if (rc == 0)
            break;
        if (rc == PAWL_LOST) {
            *lost += b.to - b.from;
        } else if (rc < 0) {
            pawl_last_error(&e);
            fail_msg("%s", e.message);
        } else {
            assert_int_equal(b.from, n + *lost);
            n += b.count;
        }
    }
    pawl_reader_close(r);
    assert_int_equal(pawl_close(log), 0);
    return n;
}

static void show(void *arg, const pawl_finding *x) {
    (void)arg;
    print_message("%s: %s\n", x->label, x->message);
}

static void spilled_transactions_behind_a_lost_frame_are_well(void **state) {
    struct fixture *f = *state;
    uint32_t s;
    pawl *log = reopen(f);
    assert_int_equal(pawl_stream_create(log, "s", 1, &s), 0);
    append(log, s, "first");
    append(log, s, "second");
    append(log, s, "third");
    assert_int_equal(pawl_close(log), 0);
    damage(f, "second");

    pawl_check c = PAWL_CHECK_INIT;
    assert_int_equal(pawl_repair(f->dir, &c, NULL), 0);
    assert_int_equal(c.lost_records, 1);

    static char big[60000];
    memset(big, 'b', sizeof big);
    pawl_record r = {.value = big, .value_len = sizeof big};
    pawl_tx *tx;
    log = reopen(f);
    assert_int_equal(pawl_begin(log, &tx), 0);
    /* more than a transaction in a segment of 1 MiB holds in memory: several runs of one
     * partition */
    for (int i = 0; i < 5; i++)
        assert_int_equal(pawl_put(tx, s, 0, &r), 0);
    assert_int_equal(pawl_commit(tx, NULL), 0);
    assert_int_equal(pawl_close(log), 0);

    c = (pawl_check)PAWL_CHECK_INIT;
    c.finding = show;
    assert_int_equal(pawl_verify(f->dir, &c, NULL), 0);
    assert_int_equal(c.problems, 0);
    assert_int_equal(c.lost_records, 1);
    assert_int_equal(pawl_audit(f->dir, &c, NULL), 0);
}

/* `count` records of 10 kB, one by one, in a new stream. */
static uint32_t fill(struct fixture *f, uint64_t count) {
    static char value[10000];
    uint32_t s;
    pawl *log = reopen(f);
    pawl_record r = {.value = value, .value_len = sizeof value};
    memset(value, 'v', sizeof value);
    assert_int_equal(pawl_stream_create(log, "s", 1, &s), 0);
    for (uint64_t i = 0; i < count; i++)
        assert_int_equal(pawl_append(log, s, 0, &r, NULL), 0);
    assert_int_equal(pawl_close(log), 0);
    return s;
}

/* The damage is that of a segment's end. Returns how many records are lost; audit says the same. */
static uint64_t repair_end(struct fixture *f) {
    pawl_check c = PAWL_CHECK_INIT;
    c.finding = show;
    assert_int_equal(pawl_repair(f->dir, &c, NULL), 0);
    uint64_t lost = c.lost_records;
    assert_in_range(lost, 1, 6);
    c = (pawl_check)PAWL_CHECK_INIT;
    c.finding = show;
    assert_int_equal(pawl_audit(f->dir, &c, NULL), 0);
    assert_int_equal(c.lost_records, lost);
    return lost;
}

static void a_lost_seal_is_passed(void **state) {
    struct fixture *f = *state;
    uint64_t told;
    uint32_t s = fill(f, 200);
    overwrite(f, 0, MIB - 65536, 65536); /* the seal, and some records before it */

    uint64_t lost = repair_end(f);
    assert_int_equal(read_all(f, PAWL_OPEN_READ, s, &told), 200 - lost);
    assert_int_equal(told, lost);
    assert_int_equal(read_all(f, 0, s, &told), 200 - lost);
    assert_int_equal(told, lost);
}

/* Writes the frame that has the text a second time, at another place of segment 0, as it would
 * stand there if its incarnation had written it. */
static void write_again(struct fixture *f, const char *text, uint64_t to) {
    char file[128];
    struct segment_header sh;
    struct frame_header h;
    int bad;
    snprintf(file, sizeof file, "%s/0000000000000000.seg", f->dir);
    int fd = open(file, O_RDWR);
    uint8_t *bytes = malloc(MIB);
    assert_true(fd >= 0 && bytes != NULL);
    assert_int_equal(pread(fd, bytes, MIB, 0), MIB);
    assert_int_equal(segment_decode(bytes, 0, &sh, &bad), SEGMENT_GOOD);
    struct frame_key key;
    (void)segment_key(&sh, KEY_OWN, &key);
    uint8_t *at = memmem(bytes, MIB, text, strlen(text));
    assert_non_null(at);
    uint64_t from = (uint64_t)(at - bytes) / 8 * 8;
    while (from > 0 && frame_decode_header(bytes + from, from, MIB, &key, &h) != FRAME_GOOD)
        from -= 8;
    assert_true(from > 0);
    h.lsn = to;
    frame_encode_header(bytes + from, &h, &key);
    assert_int_equal(pwrite(fd, bytes + from, frame_length(&h), (off_t)to), frame_length(&h));
    free(bytes);
    close(fd);
}

/* After the damage at a segment's end stands a whole frame of an earlier incarnation, which was cut
 * off once: it is no part of the log. */
static void an_older_incarnations_frame_is_not_taken(void **state) {
    struct fixture *f = *state;
    uint64_t told;
    uint32_t old;
    pawl *log = reopen(f);
    assert_int_equal(pawl_stream_create(log, "old", 1, &old), 0);
    append(log, old, "of the first incarnation");
    assert_int_equal(pawl_close(log), 0);
    uint32_t s = fill(f, 200);
    overwrite(f, 0, MIB - 65536, 65536); /* the seal, and some records before it */
    write_again(f, "of the first incarnation", MIB - 8192);

    uint64_t lost = repair_end(f);
    assert_int_equal(read_all(f, 0, old, &told), 1);
    assert_int_equal(told, 0);
    assert_int_equal(read_all(f, 0, s, &told), 200 - lost);
    assert_int_equal(told, lost);
}

static void a_lost_seal_before_a_lost_checkpoint_is_passed(void **state) {
    struct fixture *f = *state;
    uint64_t told;
    uint32_t s = fill(f, 120); /* two segments */
    overwrite(f, 0, MIB - 65536, 65536);
    overwrite(f, 1, 8192, 4096);

    uint64_t lost = repair_end(f);
    assert_int_equal(read_all(f, PAWL_OPEN_READ, s, &told), 120 - lost);
    assert_int_equal(told, lost);
    assert_int_equal(read_all(f, 0, s, &told), 120 - lost);
    assert_int_equal(told, lost);
}

/* Repair takes out the first frame of an incarnation; the frames that the incarnation wrote after
 * it stay. */
static void a_lost_open_record_takes_nothing_with_it(void **state) {
    struct fixture *f = *state;
    uint64_t told;
    uint32_t s;
    pawl *log = reopen(f);
    pawl_status st = PAWL_STATUS_INIT;
    assert_int_equal(pawl_stream_create(log, "s", 1, &s), 0);
    append(log, s, "first");
    assert_int_equal(pawl_close(log), 0);
    log = reopen(f);
    assert_int_equal(pawl_get_status(log, &st), 0);
    uint64_t end = st.durable_lsn; /* of the block that holds the OPEN record */
    append(log, s, "second");
    append(log, s, "third");
    assert_int_equal(pawl_close(log), 0);
    overwrite(f, 0, (off_t)(end - 4096), 80);

    pawl_check c = PAWL_CHECK_INIT;
    c.finding = show;
    assert_int_equal(pawl_verify(f->dir, &c, NULL), PAWL_DAMAGED);
    assert_int_equal(pawl_repair(f->dir, &c, NULL), 0);
    assert_int_equal(c.lost_records, 0);
    assert_int_equal(pawl_verify(f->dir, &c, NULL), 0);
    assert_int_equal(read_all(f, PAWL_OPEN_READ, s, &told), 3);
    assert_int_equal(read_all(f, 0, s, &told), 3);
    assert_int_equal(pawl_audit(f->dir, &c, NULL), 0);
}

/* Of the tail nothing is whole; several headers in it know that more was durable, the last one
 * most. */
static void a_lost_tail_is_taken_out_whole(void **state) {
    struct fixture *f = *state;
    uint64_t told;
    uint32_t s;
    char text[16];
    pawl *log = reopen(f);
    assert_int_equal(pawl_stream_create(log, "s", 1, &s), 0);
    append(log, s, "first");
    assert_int_equal(pawl_close(log), 0);
    log = reopen(f);
    for (int i = 10; i < 40; i++) {
        snprintf(text, sizeof text, "record %d", i);
        append(log, s, text);
    }
    pawl_status st = PAWL_STATUS_INIT;
    assert_int_equal(pawl_get_status(log, &st), 0);
    assert_int_equal(pawl_close(log), 0);
    overwrite(f, 0, (off_t)st.durable_lsn, MIB - st.durable_lsn); /* the CLOSE record */
    for (int i = 10; i < 40; i++) {
        snprintf(text, sizeof text, "record %d", i);
        damage(f, text);
    }
    pawl_check c = PAWL_CHECK_INIT;
    c.finding = show;
    assert_int_equal(pawl_repair(f->dir, &c, NULL), 0);
    assert_int_equal(pawl_verify(f->dir, &c, NULL), 0);
    assert_int_equal(read_all(f, PAWL_OPEN_READ, s, &told), 1);
    log = reopen(f);
    append(log, s, "more");
    assert_int_equal(pawl_close(log), 0);
    assert_int_equal(pawl_audit(f->dir, &c, NULL), 0);
    assert_int_equal(read_all(f, PAWL_OPEN_READ, s, &told), 2);
}

/* The damage in one place is larger than the memory cap allows to read at once. */
static void what_is_lost_costs_no_memory(void **state) {
    struct fixture *f = *state;
    uint64_t told;
    f->options.segment_size = 8 * MIB;
    f->options.memory_cap = 2 * MIB;
    uint32_t s = fill(f, 600);
    overwrite(f, 0, 3 * MIB, 4 * MIB);
    pawl_check c = PAWL_CHECK_INIT;
    c.finding = show;
    assert_int_equal(pawl_repair(f->dir, &c, NULL), 0);
    assert_in_range(c.lost_records, 300, 420);
    assert_int_equal(read_all(f, PAWL_OPEN_READ, s, &told), 600 - c.lost_records);
    assert_int_equal(told, c.lost_records);
    assert_int_equal(read_all(f, 0, s, &told), 600 - c.lost_records);
}

/* Header, its copy and checkpoint of a segment are gone, also together with the end of the segment
 * before. */
static void a_segment_without_its_beginning_is_kept(void **state) {
    struct fixture *f = *state;
    for (int segment = 0; segment < 3; segment++) {
        uint64_t told;
        assert_int_equal(test_dir_remove(f->dir), 0);
        uint32_t s = fill(f, 200);
        overwrite(f, segment, 0, 12288 + 100);
        if (segment == 2)
            overwrite(f, 1, MIB - 65536, 65536);
        pawl_check c = PAWL_CHECK_INIT;
        c.finding = show;
        assert_int_equal(pawl_repair(f->dir, &c, NULL), 0);
        assert_int_equal(pawl_audit(f->dir, &c, NULL), 0);
        uint64_t lost = 200 - read_all(f, 0, s, &told);
        assert_in_range(lost, segment == 0 ? 0 : 1, segment == 2 ? 7 : 1);
        assert_int_equal(read_all(f, PAWL_OPEN_READ, s, &told), 200 - lost);
    }
}

/* The commit stays, but some of its records are lost: the reader gets PAWL_LOST and continues after
 * them. */
static void a_lost_spilled_part_is_told(void **state) {
    struct fixture *f = *state;
    static char big[60000];
    uint32_t s;
    uint64_t lost;
    pawl_tx *tx;
    pawl *log = reopen(f);
    assert_int_equal(pawl_stream_create(log, "s", 1, &s), 0);
    append(log, s, "before");
    assert_int_equal(pawl_begin(log, &tx), 0);
    memset(big, 'b', sizeof big);
    memcpy(big + 100, "marked", 6);
    pawl_record r = {.value = big, .value_len = sizeof big};
    for (int i = 0; i < 6; i++, memcpy(big + 100, "bbbbbb", 6))
        assert_int_equal(pawl_put(tx, s, 0, &r), 0);
    assert_int_equal(pawl_commit(tx, NULL), 0);
    append(log, s, "behind");
    assert_int_equal(pawl_close(log), 0);
    damage(f, "marked");
    pawl_check c = PAWL_CHECK_INIT;
    assert_int_equal(pawl_repair(f->dir, &c, NULL), 0);
    uint64_t read = read_all(f, PAWL_OPEN_READ, s, &lost);
    assert_int_equal(read + lost, 8);
    assert_true(lost >= 1 && lost < 6);
    assert_int_equal(read_all(f, 0, s, &lost), read);
}

static int take(pawl_context *ctx, const pawl_record *records, size_t count, void *arg) {
    (void)ctx, (void)records;
    *(uint64_t *)arg += count;
    return 0;
}

/* Nothing follows in its partition that would show the gap: the next segment's tables do, and a
 * processor passes it. */
static void a_partitions_lost_end_is_told(void **state) {
    struct fixture *f = *state;
    uint32_t s, t;
    uint64_t lost, seen = 0;
    pawl *log = reopen(f);
    assert_int_equal(pawl_stream_create(log, "s", 1, &s), 0);
    assert_int_equal(pawl_stream_create(log, "t", 1, &t), 0);
    append(log, s, "first");
    append(log, s, "the last of it");
    static char big[60000];
    memset(big, 't', sizeof big - 1);
    for (int i = 0; i < 30; i++)
        append(log, t, big);
    assert_int_equal(pawl_close(log), 0);
    damage(f, "the last of it");
    pawl_check c = PAWL_CHECK_INIT;
    assert_int_equal(pawl_repair(f->dir, &c, NULL), 0);
    assert_int_equal(read_all(f, PAWL_OPEN_READ, s, &lost), 1);
    assert_int_equal(lost, 1);
    assert_int_equal(read_all(f, 0, s, &lost), 1);
    assert_int_equal(lost, 1);

    log = reopen(f);
    pawl_processor_config pc = PAWL_PROCESSOR_INIT;
    pc.name = "p", pc.inputs = &s, pc.input_count = 1, pc.process = take, pc.arg = &seen;
    assert_int_equal(pawl_processor_add(log, &pc, NULL), 0);
    alarm(60); /* it once looped for ever */
    assert_int_equal(pawl_run(log, 1, PAWL_RUN_UNTIL_IDLE), 0);
    alarm(0);
    assert_int_equal(seen, 1);
    uint64_t at;
    assert_int_equal(pawl_position_get(log, "p", s, 0, &at), 0);
    assert_int_equal(at, 2);
    assert_int_equal(pawl_close(log), 0);
}

/* A sealed segment's index may refer to frames that repair took out: a reader that begins there
 * gets PAWL_LOST, and continues after the loss. */
static void a_lost_place_of_the_index_is_passed(void **state) {
    struct fixture *f = *state;
    static char value[30000];
    uint32_t s;
    pawl *log = reopen(f);
    uint64_t count = 0;
    pawl_status st = PAWL_STATUS_INIT;
    pawl_record r = {.value = value, .value_len = sizeof value};
    assert_int_equal(pawl_stream_create(log, "s", 1, &s), 0);
    do {
        assert_int_equal(pawl_append(log, s, 0, &r, NULL), 0);
        count++;
        assert_int_equal(pawl_get_status(log, &st), 0);
    } while (st.last_segment == 0);
    assert_int_equal(pawl_close(log), 0);
    overwrite(f, 0, 300000, 200000);
    assert_int_equal(pawl_repair(f->dir, NULL, NULL), 0);
    log = reopen(f);
    int told = 0;
    for (uint64_t from = 0; from < count; from++) {
        pawl_reader *reader;
        pawl_batch b;
        assert_int_equal(pawl_reader_open(log, s, 0, from, 0, &reader), 0);
        int rc = pawl_read(reader, 1, 0, &b);
        if (rc == PAWL_LOST) {
            assert_int_equal(b.from, from);
            told++;
            rc = pawl_read(reader, 1, 0, &b);
        } else {
            assert_int_equal(b.from, from);
        }
        assert_int_equal(rc, 1);
        pawl_reader_close(reader);
    }
    assert_in_range(told, 5, 10);
    assert_int_equal(pawl_close(log), 0);
}

static uint64_t stands_at(pawl *log, const char *producer) {
    pawl_producer_info p;
    assert_true(pawl_producer_find(log, producer, &p, NULL, NULL, 0) >= 0);
    return p.sequence;
}

/* The changes that made everything are lost: its ids stay, under names that say so, and it gets its
 * own names back. Its producer's sequences count from then on. */
static void lost_names_are_given_back(void **state) {
    struct fixture *f = *state;
    uint32_t s, made;
    uint64_t told;
    pawl_producer *p;
    pawl_tx *tx;
    pawl_receipt receipt;
    pawl *log = reopen(f);
    pawl_record r = {.value = "value", .value_len = 5};
    assert_int_equal(pawl_stream_create(log, "orders", 1, &s), 0);
    assert_int_equal(pawl_producer_open(log, "sender", &p), 0);
    for (uint64_t i = 1; i <= 20; i++) {
        assert_int_equal(pawl_begin(log, &tx), 0);
        assert_int_equal(pawl_put(tx, s, 0, &r), 0);
        assert_int_equal(pawl_tx_sequence(tx, p, i, i, NULL, 0), 0);
        assert_int_equal(pawl_commit(tx, NULL), 0);
    }
    pawl_producer_close(p);
    assert_int_equal(pawl_close(log), 0);
    damage(f, "orders");
    damage(f, "sender");

    pawl_check c = PAWL_CHECK_INIT;
    c.finding = show;
    assert_int_equal(pawl_repair(f->dir, &c, NULL), 0);
    assert_int_equal(c.lost_records, 0);
    assert_int_equal(c.lost_changes, 2);
    assert_int_equal(c.lost_names, 2);
    assert_int_equal(read_all(f, PAWL_OPEN_READ, s, &told), 20);

    log = reopen(f);
    assert_int_equal(pawl_stream_create(log, "lost-7", 1, NULL), PAWL_INVALID);
    assert_int_equal(pawl_stream_create(log, "other", 1, &made), 0);
    assert_true(made > s);
    assert_int_equal(pawl_rename(log, PAWL_NAMED_STREAM, "nothing", "x"), PAWL_NOT_FOUND);
    assert_int_equal(pawl_rename(log, PAWL_NAMED_STREAM, "lost-1", "other"), PAWL_EXISTS);
    assert_int_equal(pawl_rename(log, PAWL_NAMED_STREAM, "other", "lost-2"), PAWL_INVALID);
    assert_int_equal(pawl_rename(log, 4, "lost-1", "orders"), PAWL_INVALID);
    assert_int_equal(pawl_rename(log, PAWL_NAMED_STREAM, "lost-1", "orders"), 0);
    assert_int_equal(pawl_rename(log, PAWL_NAMED_PRODUCER, "lost-1", "sender"), 0);
    assert_int_equal(pawl_close(log), 0);

    log = reopen(f);
    pawl_stream_info info;
    assert_int_equal(pawl_stream_find(log, "orders", &info), 0);
    assert_int_equal(info.id, s);
    assert_int_equal(stands_at(log, "sender"), 20);
    assert_int_equal(pawl_producer_open(log, "sender", &p), 0);
    assert_int_equal(pawl_begin(log, &tx), 0); /* sent again: not doubled */
    assert_int_equal(pawl_put(tx, s, 0, &r), 0);
    assert_int_equal(pawl_tx_sequence(tx, p, 20, 20, NULL, 0), 0);
    assert_int_equal(pawl_commit(tx, &receipt), 0);
    assert_int_equal(receipt.duplicate, 1);
    pawl_producer_close(p);
    assert_int_equal(pawl_stream_delete(log, "orders"), 0);
    assert_int_equal(pawl_close(log), 0);
    c = (pawl_check)PAWL_CHECK_INIT;
    assert_int_equal(pawl_audit(f->dir, &c, NULL), 0);
    assert_int_equal(c.lost_names, 0);
}

/* A new stream with the records "first" and "second", which `worker` has read up to `position`. */
static void two_of_a_worker(struct fixture *f, uint64_t position, uint32_t *s, uint32_t *worker) {
    pawl_tx *tx;
    pawl *log = reopen(f);
    assert_int_equal(pawl_stream_create(log, "s", 1, s), 0);
    assert_int_equal(pawl_processor_register(log, "worker", worker), 0);
    append(log, *s, "first");
    append(log, *s, "second");
    assert_int_equal(pawl_begin(log, &tx), 0);
    assert_int_equal(pawl_advance(tx, *worker, *s, 0, 0, position), 0);
    assert_int_equal(pawl_commit(tx, NULL), 0);
    assert_int_equal(pawl_close(log), 0);
}

/* The last records of a partition are lost, and a processor had passed them: records that are
 * appended now must not get their offsets, which it would never read. */
static void offsets_that_were_consumed_are_not_given_again(void **state) {
    struct fixture *f = *state;
    uint32_t s, worker;
    uint64_t lost;
    pawl_receipt receipt;
    pawl_record r = {.value = "after", .value_len = 5};
    two_of_a_worker(f, 2, &s, &worker);
    damage(f, "second");
    pawl_check c = PAWL_CHECK_INIT;
    assert_int_equal(pawl_repair(f->dir, &c, NULL), 0);
    assert_int_equal(c.lost_records, 1);
    assert_int_equal(read_all(f, PAWL_OPEN_READ, s, &lost), 1);
    assert_int_equal(lost, 1);
    pawl *log = reopen(f);
    assert_int_equal(pawl_append(log, s, 0, &r, &receipt), 0);
    assert_int_equal(receipt.offset, 2);
    assert_int_equal(pawl_close(log), 0);
    assert_int_equal(pawl_audit(f->dir, &c, NULL), 0);
    assert_int_equal(read_all(f, PAWL_OPEN_READ, s, &lost), 2);
    assert_int_equal(lost, 1);
}

/* A processor whose registration is lost keeps its position under its id; it can be forgotten. */
static void a_lost_processor_is_forgotten(void **state) {
    struct fixture *f = *state;
    uint32_t s, worker, next;
    uint64_t at;
    two_of_a_worker(f, 1, &s, &worker);
    damage(f, "worker");
    pawl_check c = PAWL_CHECK_INIT;
    assert_int_equal(pawl_repair(f->dir, &c, NULL), 0);
    assert_int_equal(c.lost_names, 1);
    pawl *log = reopen(f);
    assert_int_equal(pawl_position_get(log, "lost-1", s, 0, &at), 0);
    assert_int_equal(at, 1);
    assert_int_equal(pawl_processor_register(log, "another", &next), 0);
    assert_true(next > worker);
    assert_int_equal(pawl_position_get(log, "another", s, 0, &at), PAWL_NOT_FOUND);
    assert_int_equal(pawl_processor_forget(log, "lost-1"), 0);
    assert_int_equal(pawl_processor_forget(log, "another"), 0);
    assert_int_equal(pawl_processor_register(log, "third", &next), 0);
    assert_true(next > worker + 1); /* nor is a forgotten one's id given again */
    assert_int_equal(pawl_close(log), 0);
    assert_int_equal(pawl_audit(f->dir, &c, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lost_names_are_given_back, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lost_processor_is_forgotten, setup, teardown),
        cmocka_unit_test_setup_teardown(offsets_that_were_consumed_are_not_given_again, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(spilled_transactions_behind_a_lost_frame_are_well, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_lost_spilled_part_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(a_partitions_lost_end_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lost_seal_is_passed, setup, teardown),
        cmocka_unit_test_setup_teardown(an_older_incarnations_frame_is_not_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lost_seal_before_a_lost_checkpoint_is_passed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_lost_open_record_takes_nothing_with_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lost_tail_is_taken_out_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_lost_costs_no_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(a_segment_without_its_beginning_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lost_place_of_the_index_is_passed, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
