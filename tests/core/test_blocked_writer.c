/* SPDX-License-Identifier: Apache-2.0 */
/* A writer that waits for space (block_when_full) goes on as soon as a processor has let go of
 * some, not with the next look of the maintenance thread, once a second. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pthread.h>
#include <unistd.h>

#include "pawl.h"
#include "tests/support/measure.h"

#include <cmocka.h>

#define ROUNDS 9
#define VALUE 60000u
#define LOOK_MS 1000u /* of the maintenance thread */

static pawl *log_;
static uint32_t stream, holder;

/* Appends until the number at `arg` says that it is enough. */
static void *writer(void *arg) {
    static char value[VALUE];
    pawl_record r = {.value = value, .value_len = VALUE};
    _Atomic int *left = arg;
    while ((*left)-- > 0)
        if (pawl_append(log_, stream, 0, &r, NULL) != 0)
            return (void *)1;
    return NULL;
}

static uint64_t end_of(void) {
    pawl_bounds b;
    assert_int_equal(pawl_partition_bounds(log_, stream, 0, &b), 0);
    return b.end;
}

static void advance(uint64_t from, uint64_t to) {
    pawl_tx *tx;
    assert_int_equal(pawl_begin(log_, &tx), 0);
    assert_int_equal(pawl_advance(tx, holder, stream, 0, from, to), 0);
    assert_int_equal(pawl_commit(tx, NULL), 0);
}

/* The writer waits: nothing has come for long. Where it only was slow, this shows nothing, and
 * fails nothing. */
static uint64_t end_when_blocked(void) {
    uint64_t end = 0;
    for (int same = 0; same < 100; usleep(1000)) {
        same = end_of() == end ? same + 1 : 0;
        end = end_of();
    }
    return end;
}

static int by_size(const void *a, const void *b) {
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static void it_goes_on_at_once(void **state) {
    uint64_t waited[ROUNDS], position = 0;
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_t thread;
        void *rc;
        _Atomic int left = 100; /* twice what the log may hold beside what is held */
        assert_int_equal(pthread_create(&thread, NULL, writer, &left), 0);
        uint64_t end = end_when_blocked(), began = now_ms();
        advance(position, end);
        position = end;
        while (end_of() == end)
            usleep(500);
        waited[i] = now_ms() - began;
        while (atomic_load(&left) > 0) {
            if (end_of() > position) {
                end = end_of();
                advance(position, end);
                position = end;
            }
            usleep(1000);
        }
        assert_int_equal(pthread_join(thread, &rc), 0);
        assert_null(rc);
    }
    qsort(waited, ROUNDS, sizeof waited[0], by_size);
    print_message("%llu ms in the middle\n", (unsigned long long)waited[ROUNDS / 2]);
    assert_in_range(waited[ROUNDS / 2], 0, LOOK_MS / 4);
}

int main(void) {
    char dir[] = "/tmp/test_blocked_writer.XXXXXX", command[100];
    const struct CMUnitTest tests[] = {cmocka_unit_test(it_goes_on_at_once)};
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_CREATE;
    o.segment_size = 1u << 20;
    o.disk_cap = 4u << 20;
    o.block_when_full = 1;
    if (mkdtemp(dir) == NULL || pawl_open(dir, &o, &log_, NULL) < 0 ||
        pawl_stream_create(log_, "a", 1, &stream) < 0 ||
        pawl_processor_register(log_, "holder", &holder) < 0 ||
        pawl_retention_set(log_, &(pawl_retention){.consumed = 1}) < 0)
        return 1;
    advance(0, 0);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    failed += pawl_close(log_) != 0;
    snprintf(command, sizeof command, "rm -rf -- '%s'", dir);
    return system(command) != 0 || failed != 0;
}
