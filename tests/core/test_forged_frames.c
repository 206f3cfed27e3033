/* SPDX-License-Identifier: Apache-2.0 */
/* Records whose values imitate frames: right in every field, at the places where a recycled file
 * will lie, but for the key, which no record can know. Whatever happens to such a log, it is the
 * log of its records and of nothing else (PAWL-2, PAWL-9). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <unistd.h>

#include "pipeline/engine.h"

#undef fail
#include <cmocka.h>

#include "tests/support/test_dir.h"

#define VALUE 50000u
#define KEPT 400 /* the most records that a test appends */

struct fixture {
    char dir[64], copy[72];
    pawl *log;
    uint32_t s;
    uint8_t log_id[16];
    uint64_t appended;
    uint8_t *values[KEPT]; /* by offset */
};

static void shell(const char *format, const char *a, const char *b) {
    char command[256];
    snprintf(command, sizeof command, format, a, b);
    assert_int_equal(system(command), 0);
}

static pawl *open_at(const char *dir, uint32_t flags) {
    pawl *log = NULL;
    pawl_error e;
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = flags, o.segment_size = MIB, o.no_thread = 1, o.memory_cap = 8 * MIB;
    o.backend = PAWL_BACKEND_POSIX;
    if (pawl_open(dir, &o, &log, &e) != 0)
        fail_msg("%s can't be opened: %s", dir, e.message);
    return log;
}

static void close_log(struct fixture *f) {
    pawl *log = f->log;
    f->log = NULL;
    assert_int_equal(pawl_close(log), 0);
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -1;
    if (test_dir_make(f->dir, "/tmp/test_forged") != 0)
        return -1;
    snprintf(f->copy, sizeof f->copy, "%s.copy", f->dir);
    *state = f;
    f->log = open_at(f->dir, PAWL_OPEN_CREATE);
    memcpy(f->log_id, f->log->wal.log_id, 16);
    pawl_retention r = {.bytes = 3 * MIB};
    return pawl_retention_set(f->log, &r) != 0 || pawl_stream_create(f->log, "s", 1, &f->s) != 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    int rc = pawl_close(f->log);
    shell("rm -rf -- '%s' '%s'", f->dir, f->copy);
    for (int i = 0; i < KEPT; i++)
        free(f->values[i]);
    free(f);
    return rc;
}

/* ---- the forger. It knows what everybody is shown: the log's id, the format, where its records
 * come to lie. */

#define FORGED_SIZE 144u

/* What the key might be: that of a log which has none, no key at all, or one made of what is
 * known. */
static void guess(const struct fixture *f, uint64_t which, struct frame_key *key) {
    struct segment_header h = {.features = {.read = which != 0 ? FEATURE_KEYED : 0}};
    memcpy(h.log_id, f->log_id, 16);
    for (int i = 0; which == 2 && i < 2 * KEYS; i++)
        memcpy(h.features.carried + i * 16, f->log_id, 16);
    (void)segment_key(&h, KEY_OWN, key);
}

/* A whole COMMIT, which makes a stream, for LSN `lsn`. */
static void forge(uint8_t out[FORGED_SIZE], uint64_t lsn, const struct frame_key *key) {
    uint8_t *dir = out + FRAME_HEADER_SIZE, *body = dir + RUN_SIZE;
    memset(out, 0, FORGED_SIZE);
    put16(dir, RUN_CATALOG);
    put32(dir + 12, 1);
    put32(dir + 28, 32);
    put16(body, CATALOG_STREAM);
    put16(body + 2, 6);
    put32(body + 4, 77);
    put64(body + 8, 1);
    memcpy(body + 24, "forged", 6);
    memcpy(out, "PWLF", 4);
    out[4] = FRAME_COMMIT;
    out[5] = 1;
    put16(out + 6, 1);
    put64(out + 8, lsn);
    put64(out + 16, 1u << 20); /* an incarnation to come */
    put64(out + 24, lsn);      /* all before it was durable */
    put64(out + 48, frame_hash(dir, RUN_SIZE, key));
    put64(out + 56, frame_hash(body, 32, key));
    put32(out + 64, 32);
    put64(out + 72, frame_hash(out, 72, key));
}

/* The value of a record that is going to begin at `lsn`: frames for the same places of later
 * segments, of which one will get this one's file. */
static uint8_t *forged_value(const struct fixture *f, uint64_t lsn) {
    struct frame_key keys[3];
    uint64_t n = 0;
    for (uint64_t i = 0; i < 3; i++)
        guess(f, i, &keys[i]);
    uint8_t *value = malloc(VALUE);
    assert_non_null(value);
    memset(value, 'x', VALUE);
    for (uint64_t at = align_up(lsn, 8) - lsn; at + FORGED_SIZE <= VALUE; at += FORGED_SIZE, n++)
        forge(value + at, lsn + at + (1 + n / 3 % 5) * MIB, &keys[n % 3]);
    return value;
}

static void append(struct fixture *f, int count) {
    for (int i = 0; i < count; i++) {
        assert_true(f->appended < KEPT);
        uint64_t lsn =
            align_up(f->log->wal.tail, BLOCK) + FRAME_HEADER_SIZE + RUN_SIZE + RECORD_HEADER_SIZE;
        uint8_t *value = f->values[f->appended++] = forged_value(f, lsn);
        pawl_record r = {.value = value, .value_len = VALUE};
        assert_int_equal(pawl_append(f->log, f->s, 0, &r, NULL), 0);
        assert_true(pawl_retention_apply(f->log) >= 0);
        assert_true(pawl_tick(f->log) >= 0);
    }
}

/* Until files have been recycled often, and the newest segment has begun not long ago. */
static void turn_over(struct fixture *f) {
    append(f, 8 * (int)(MIB / VALUE));
    assert_true(f->log->wal.recycled > 3);
    while (f->log->wal.tail % MIB > MIB / 2)
        append(f, 1);
}

/* ---- what must be there: the stream, and its records, but for those in [gone, gone + 1) */

static void check(struct fixture *f, pawl *log, uint64_t gone, uint64_t end) {
    pawl_stream_info info;
    pawl_bounds b;
    pawl_reader *r;
    pawl_batch batch;
    assert_int_equal(pawl_stream_at(log, 0, &info), 0);
    assert_string_equal(info.name, "s");
    assert_int_not_equal(pawl_stream_at(log, 1, &info), 0);
    assert_int_equal(pawl_partition_bounds(log, f->s, 0, &b), 0);
    assert_int_equal(b.end, end);
    assert_int_equal(pawl_reader_open(log, f->s, 0, b.first, 0, &r), 0);
    uint64_t seen = 0;
    int rc;
    while ((rc = pawl_read(r, 0, 0, &batch)) > 0 || rc == PAWL_LOST)
        for (size_t i = 0; rc > 0 && i < batch.count; i++, seen++) {
            const pawl_record *x = &batch.records[i];
            assert_true(x->offset < f->appended && x->offset != gone);
            assert_int_equal(x->value_len, VALUE);
            assert_memory_equal(x->value, f->values[x->offset], VALUE);
        }
    assert_int_equal(rc, 0);
    pawl_reader_close(r);
    assert_int_equal(seen, end - b.first - (gone >= b.first && gone < end));
}

static void well(const char *dir) {
    pawl_check c = PAWL_CHECK_INIT;
    pawl_error e = {0};
    if (pawl_verify(dir, &c, &e) != 0 || c.problems != 0)
        fail_msg("%s: %llu problems %s", dir, (unsigned long long)c.problems, e.message);
}

/* ---- the attacks */

static void a_closed_log_opens(void **state) {
    struct fixture *f = *state;
    turn_over(f);
    for (int i = 0; i < 10; i++) { /* wherever it ends */
        append(f, 3);
        close_log(f);
        well(f->dir);
        f->log = open_at(f->dir, 0);
        check(f, f->log, NO_OFFSET, f->appended);
    }
}

/* A process that was killed, and its last group torn. */
static void a_torn_tail_is_cut(void **state) {
    struct fixture *f = *state;
    turn_over(f);
    for (int i = 0; i < 10; i++) {
        append(f, 2);
        uint64_t segment = f->log->wal.segment, at = f->log->wal.last.lsn % MIB;
        shell("cp -a '%s' '%s'", f->dir, f->copy);
        char path[128];
        snprintf(path, sizeof path, "%s/%016llx.seg", f->copy, (unsigned long long)segment);
        int fd = open(path, O_WRONLY);
        assert_int_equal(pwrite(fd, f->values[0], BLOCK, (off_t)(at / BLOCK * BLOCK)), BLOCK);
        close(fd);
        pawl_check c = PAWL_CHECK_INIT;
        assert_int_equal(pawl_repair(f->copy, &c, NULL), 0);
        assert_int_equal(c.repaired, 0);
        pawl *log = open_at(f->copy, 0);
        check(f, log, NO_OFFSET, f->appended - 1);
        assert_int_equal(pawl_close(log), 0);
        shell("rm -rf -- '%s%s'", f->copy, "");
    }
}

/* One record is damaged: it alone is lost, whatever stands in the values around it. */
static void repair_installs_nothing(void **state) {
    struct fixture *f = *state;
    turn_over(f);
    append(f, 1);
    uint64_t gone = f->appended - 1, damaged = f->log->wal.last.lsn;
    append(f, 3);
    assert_int_equal(damaged / MIB, f->log->wal.segment);
    close_log(f);
    char path[128];
    snprintf(path, sizeof path, "%s/%016llx.seg", f->dir, (unsigned long long)(damaged / MIB));
    int fd = open(path, O_RDWR);
    uint8_t byte;
    off_t at = (off_t)(damaged % MIB + FRAME_HEADER_SIZE + 3);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
    pawl_check c = PAWL_CHECK_INIT;
    assert_int_equal(pawl_repair(f->dir, &c, NULL), 0);
    assert_int_equal(c.repaired, 1);
    well(f->dir);
    f->log = open_at(f->dir, 0);
    check(f, f->log, gone, f->appended);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_closed_log_opens, setup, teardown),
        cmocka_unit_test_setup_teardown(a_torn_tail_is_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(repair_installs_nothing, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
