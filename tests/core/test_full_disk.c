/* SPDX-License-Identifier: Apache-2.0 */
/* A full disk: the cap, and a real file system that fills up; nothing is lost, and the log works
 * again once there is space. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "pawl.h"
#include "tests/support/skip.h"
#include "tests/support/two_streams.h"

#define MIB (1024u * 1024u)

static int setup(void **state) {
    return fixture_setup(state, "/tmp/test_full_disk");
}

#define VALUE 16384u

static void fill(uint8_t *p, uint64_t number) {
    memset(p, (int)(number * 37 % 251), VALUE);
    memcpy(p, &number, sizeof number);
}

static int append(struct fixture *f, uint64_t number) {
    static uint8_t value[VALUE];
    fill(value, number);
    pawl_record r = {.value = value, .value_len = VALUE};
    return pawl_append(f->log, f->a, 0, &r, NULL);
}

/* Appends numbers from `next` on until the log is full. Returns the next number. */
static uint64_t fill_up(struct fixture *f, uint64_t next) {
    for (;; next++) {
        int rc = append(f, next);
        if (rc == PAWL_FULL)
            return next;
        assert_int_equal(rc, 0);
        assert_true(next < 100000);
    }
}

/* Appends `next` as soon as there is space, which the log finds out by itself. */
static void append_when_there_is_space(struct fixture *f, uint64_t next) {
    time_t limit = time(NULL) + 30;
    int rc;
    while ((rc = append(f, next)) == PAWL_FULL && time(NULL) < limit)
        usleep(1000);
    assert_int_equal(rc, 0);
}

/* Everything from the first kept record to `count`, byte for byte. */
static void expect_intact(struct fixture *f, uint64_t count) {
    static uint8_t value[VALUE];
    pawl_bounds b;
    pawl_reader *r;
    pawl_batch batch;
    int n;
    assert_int_equal(pawl_partition_bounds(f->log, f->a, 0, &b), 0);
    assert_int_equal(b.durable, count);
    assert_int_equal(b.end, count);
    uint64_t next = b.first;
    assert_int_equal(pawl_reader_open(f->log, f->a, 0, next, 0, &r), 0);
    while ((n = pawl_read(r, 0, 0, &batch)) > 0)
        for (size_t i = 0; i < batch.count; i++, next++) {
            fill(value, next);
            assert_int_equal(batch.records[i].offset, next);
            assert_int_equal(batch.records[i].value_len, VALUE);
            assert_memory_equal(batch.records[i].value, value, VALUE);
        }
    assert_int_equal(n, 0);
    assert_int_equal(next, count);
    pawl_reader_close(r);
}

/* A log may have no room for a record of 16 KiB and some for smaller ones: takes that too. */
static void fill_the_rest(struct fixture *f) {
    pawl_record r = {.value = "x", .value_len = 1};
    int rc, n = 0;
    while ((rc = pawl_append(f->log, f->b, 0, &r, NULL)) == 0 && n < 10000)
        n++;
    assert_int_equal(rc, PAWL_FULL);
}

static int full(struct fixture *f) {
    pawl_status s = PAWL_STATUS_INIT;
    assert_int_equal(pawl_get_status(f->log, &s), 0);
    assert_true(s.disk_cap == 0 || s.disk_bytes <= s.disk_cap);
    return s.full;
}

static void the_cap_ends_appending_and_loses_nothing(void **state) {
    struct fixture *f = *state;
    assert_int_equal(full(f), 0);
    uint64_t count = fill_up(f, 0);
    assert_true(count >= 100 && count < 256); /* most of 4 MiB */
    fill_the_rest(f);
    assert_int_equal(full(f), 1);
    assert_int_equal(append(f, count), PAWL_FULL);
    expect_intact(f, count);
    reopen(f);
    expect_intact(f, count);
}

static void a_full_transaction_can_be_committed_again_or_aborted(void **state) {
    struct fixture *f = *state;
    uint64_t count = fill_up(f, 0);
    static uint8_t value[VALUE];
    fill(value, count);
    pawl_record r = {.value = value, .value_len = VALUE};
    pawl_tx *tx;
    pawl_retention all = {.consumed = 1};
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_put(tx, f->a, 0, &r), 0);
    assert_int_equal(pawl_commit(tx, NULL), PAWL_FULL);
    assert_int_equal(pawl_commit(tx, NULL), PAWL_FULL);
    pawl_abort(tx);
    expect_intact(f, count);
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_put(tx, f->a, 0, &r), 0);
    assert_int_equal(pawl_commit(tx, NULL), PAWL_FULL);
    assert_int_equal(pawl_retention_set(f->log, &all), 0); /* no processor reads it: all may go */
    time_t limit = time(NULL) + 30;
    int rc;
    while ((rc = pawl_commit(tx, NULL)) == PAWL_FULL && time(NULL) < limit) {
        assert_true(pawl_retention_apply(f->log) >= 0);
        usleep(1000);
    }
    if (rc == PAWL_FULL)
        pawl_abort(tx);
    assert_int_equal(rc, 0);
    expect_intact(f, count + 1);
}

static void positions_can_be_committed_when_full(void **state) {
    struct fixture *f = *state;
    uint32_t id;
    pawl_tx *tx;
    uint64_t at;
    assert_int_equal(pawl_processor_register(f->log, "proc", &id), 0);
    uint64_t count = fill_up(f, 0);
    fill_the_rest(f);
    for (uint64_t i = 0; i < count; i += 25) {
        assert_int_equal(pawl_begin(f->log, &tx), 0);
        assert_int_equal(pawl_advance(tx, id, f->a, 0, i, i + 25 < count ? i + 25 : count), 0);
        int rc = pawl_commit(tx, NULL);
        if (rc == PAWL_FULL)
            pawl_abort(tx);
        assert_int_equal(rc, 0);
    }
    reopen(f);
    assert_int_equal(pawl_position_get(f->log, "proc", f->a, 0, &at), 0);
    assert_int_equal(at, count);
    expect_intact(f, count);
}

struct sum {
    uint32_t to;
    uint64_t next;
};

static int summarise(pawl_context *ctx, const pawl_record *records, size_t count, void *arg) {
    struct sum *s = arg;
    if (records[0].offset != s->next)
        return 1;
    s->next += count;
    uint64_t last = records[count - 1].offset;
    pawl_record out = {.value = &last, .value_len = sizeof last};
    return pawl_emit(ctx, s->to, 0, &out);
}

static void a_processor_drains_a_full_log_and_retention_makes_room(void **state) {
    struct fixture *f = *state;
    pawl_retention consumed = {.consumed = 1};
    struct sum s = {.to = f->b};
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    pawl_processor *p;
    c.name = "sum", c.inputs = &f->a, c.input_count = 1, c.process = summarise, c.arg = &s,
    c.batch_max = 20;
    assert_int_equal(pawl_retention_set(f->log, &consumed), 0);
    assert_int_equal(pawl_processor_add(f->log, &c, &p), 0);
    uint64_t count = 0;
    for (int round = 0; round < 4; round++) {
        count = fill_up(f, count);
        /* nothing of what the processor has yet to read */
        assert_int_equal(pawl_retention_apply(f->log), 0);
        assert_int_equal(pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE), 0);
        assert_int_equal(s.next, count);
        assert_true(pawl_retention_apply(f->log) >= 0);
        append_when_there_is_space(f, count++);
        expect_intact(f, count);
    }
    assert_int_equal(pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE), 0);
    assert_int_equal(s.next, count);
    pawl_bounds b;
    assert_int_equal(pawl_partition_bounds(f->log, f->a, 0, &b), 0);
    assert_true(b.first > 0);
    pawl_processor_remove(p);
    reopen(f);
    expect_intact(f, count);
    pawl_reader *r;
    assert_int_equal(pawl_reader_open(f->log, f->a, 0, 0, 0, &r), PAWL_TRIMMED);
}

static int setup_capped(void **state) {
    if (setup(state) != 0) /* for the directory; the cap is set when a log is created */
        return -1;
    struct fixture *f = *state;
    char inner[sizeof f->dir];
    snprintf(inner, sizeof inner, "%.50s/capped", f->dir);
    if (pawl_close(f->log) != 0)
        return -1;
    pawl_options o = f->options;
    o.disk_cap = 4 * MIB;
    if (pawl_open(inner, &o, &f->log, NULL) != 0)
        return -1;
    strcpy(f->dir, inner);
    return pawl_stream_create(f->log, "a", 1, &f->a) != 0 ||
           pawl_stream_create(f->log, "b", 1, &f->b) != 0;
}

static int teardown_capped(void **state) {
    struct fixture *f = *state;
    *strrchr(f->dir, '/') = 0;
    return teardown(state);
}

/* ---- a real file system of 12 MiB */

static int shell(const char *format, const char *dir) {
    char command[256];
    snprintf(command, sizeof command, format, dir, dir);
    return system(command);
}

static int setup_mounted(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -1;
    if (test_dir_make(f->dir, "/tmp/test_full_disk") != 0)
        return -1;
    f->options = small_segments();
    *state = f;
    return 0;
}

static int teardown_mounted(void **state) {
    struct fixture *f = *state;
    int rc = f->log != NULL ? pawl_close(f->log) : 0;
    shell("umount '%s/mnt' 2>/dev/null", f->dir);
    if (shell("rm -rf --one-file-system -- '%s'", f->dir) != 0)
        rc = -1;
    free(f);
    return rc;
}

static void a_real_full_file_system(void **state) {
    struct fixture *f = *state;
    struct fixture on = *f;
    if (geteuid() != 0) {
        SKIP("mounting a small file system needs root");
    }
    if (shell("mkdir '%s/mnt' && truncate -s 12M '%s/image'", f->dir) != 0 ||
        shell("mkfs.ext4 -q -F '%s/image' >/dev/null 2>&1", f->dir) != 0 ||
        shell("mount -o loop '%s/image' '%s/mnt' 2>/dev/null", f->dir) != 0) {
        SKIP("no small ext4 file system can be made and mounted here");
    }
    char ballast[96];
    snprintf(ballast, sizeof ballast, "%s/mnt/ballast", f->dir);
    int fd = open(ballast, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(posix_fallocate(fd, 0, 4 * MIB), 0);
    close(fd);
    snprintf(on.dir, sizeof on.dir, "%.50s/mnt/log", f->dir);
    reopen(&on);
    f->log = on.log;
    assert_int_equal(pawl_stream_create(on.log, "a", 1, &on.a), 0);
    assert_int_equal(pawl_stream_create(on.log, "b", 1, &on.b), 0);
    uint64_t count = fill_up(&on, 0);
    assert_true(count > 40);
    fill_the_rest(&on);
    assert_int_equal(full(&on), 1);
    expect_intact(&on, count);
    assert_int_equal(unlink(ballast), 0);
    append_when_there_is_space(&on, count++);
    uint64_t more = fill_up(&on, count);
    assert_true(more > count + 100); /* most of the ballast's 4 MiB */
    expect_intact(&on, more);
    f->log = NULL;
    reopen(&on); /* on the full file system */
    f->log = on.log;
    expect_intact(&on, more);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup_capped, teardown_capped)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(the_cap_ends_appending_and_loses_nothing),
        T(a_full_transaction_can_be_committed_again_or_aborted),
        T(positions_can_be_committed_when_full),
        T(a_processor_drains_a_full_log_and_retention_makes_room),
        cmocka_unit_test_setup_teardown(a_real_full_file_system, setup_mounted, teardown_mounted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
