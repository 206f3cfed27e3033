/* SPDX-License-Identifier: Apache-2.0
 *
 * Records of a batch that the log refuses, or that the source calls poison, whatever is wrong with
 * them and however many they are: they cost themselves alone, and the source goes on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "pawl_connect.h"

#define COUNT_MAX 9000u

/* One batch, then the end. */
struct once {
    pawl_source_context *context;
    pawl_record records[COUNT_MAX];
    char text[COUNT_MAX][8];
    size_t count;
    const char *poison;
    bool given;
};

static int once_open(void *self, pawl_source_context *x, pawl_fault *f) {
    (void)f;
    ((struct once *)self)->context = x;
    return PAWL_DONE;
}

static int once_read(void *self, pawl_source_batch *out, size_t max_records, size_t max_bytes,
                     int timeout_ms, pawl_fault *f) {
    struct once *s = self;
    pawl_outside o = PAWL_OUTSIDE_INIT;
    (void)max_records, (void)max_bytes, (void)timeout_ms, (void)f;
    if (s->given)
        return PAWL_ENDED;
    o.thing = "a thing", o.note = "from somewhere", o.from = 1, o.to = 1 + s->count;
    o.unit = PAWL_OUTSIDE_MESSAGES, o.mark_kind = PAWL_MARKS_NUMBERS;
    o.flags = PAWL_OUTSIDE_BEGINS;
    assert_int_equal(pawl_source_origin(s->context, &o, s->count), 0);
    out->item = "";
    out->records = s->records;
    out->count = s->count;
    out->position[0] = 1;
    out->position_len = 1;
    out->poison = s->poison;
    s->given = true;
    return PAWL_DONE;
}

static uint32_t warnings;
static char said[1024];

static void told(void *arg, const char *name, int severity, const char *message) {
    (void)arg, (void)name;
    warnings += severity >= 2;
    snprintf(said, sizeof said, "%s", message);
}

static uint64_t end_of(pawl *log, uint32_t stream) {
    pawl_bounds b;
    assert_int_equal(pawl_partition_bounds(log, stream, 0, &b), 0);
    return b.end;
}

static void each_case(void **state) {
    static const uint8_t bad[] = {0xFF, 0xFF, 0xFF}; /* as a program may get them from elsewhere */
    static char reason[391];
    static const struct {
        const char *label;
        size_t count, bad_every; /* 0: none */
        bool poison;
    } cases[] = {
        {"none", 100, 0, false},
        {"one with malformed headers", 100, 100, false},
        {"all of them", 100, 1, false},
        {"so many that what they were read from has no room", 9000, 2, false},
        {"a reason that is longer than a note may be", 1, 0, true},
    };
    (void)state;
    memset(reason, 'r', sizeof reason - 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int policy = PAWL_ON_ERROR_SKIP; policy <= PAWL_ON_ERROR_DEAD_LETTER; policy++) {
            char dir[] = "/tmp/test_refused.XXXXXX", command[64];
            struct once *s = calloc(1, sizeof *s);
            pawl_options o = PAWL_OPTIONS_INIT;
            pawl_source_ops ops = PAWL_SOURCE_OPS_INIT;
            pawl_source_config c = PAWL_SOURCE_CONFIG_INIT;
            pawl_flow_status status = PAWL_FLOW_STATUS_INIT;
            pawl *log;
            pawl_source *source;
            size_t refused = cases[i].poison ? cases[i].count : 0;
            assert_non_null(s);
            assert_non_null(mkdtemp(dir));
            o.flags = PAWL_OPEN_CREATE, o.segment_size = 1u << 20;
            assert_int_equal(pawl_open(dir, &o, &log, NULL), 0);
            assert_int_equal(pawl_stream_create(log, "to", 1, &c.stream), 0);
            assert_int_equal(pawl_stream_create(log, "dead", 1, &c.dead_letter), 0);
            s->count = cases[i].count;
            s->poison = cases[i].poison ? reason : NULL;
            for (size_t k = 0; k < s->count; k++) {
                s->records[k].value = s->text[k];
                s->records[k].value_len =
                    (uint32_t)snprintf(s->text[k], sizeof s->text[k], "%zu", k);
                if (cases[i].bad_every == 0 || (k + 1) % cases[i].bad_every != 0)
                    continue;
                s->records[k].raw_headers = bad;
                s->records[k].raw_headers_len = sizeof bad;
                refused++;
            }
            ops.open = once_open, ops.read = once_read, ops.self = s, ops.type = "once";
            c.name = "src", c.on_poison = policy, c.hooks.report = told;
            if (policy == PAWL_ON_ERROR_SKIP)
                c.dead_letter = 0;
            warnings = 0;
            assert_int_equal(pawl_source_add(log, &c, &ops, &source, NULL), 0);
            for (int step = 0; step < 20; step++)
                if (pawl_source_step(source) < 0)
                    fail_msg("%s, policy %d: it has ended: %s", cases[i].label, policy, said);
            assert_int_equal(pawl_source_status(source, &status), 0);
            assert_int_equal(status.flow, PAWL_FLOW_ENDED);
            assert_int_equal(status.poisoned, refused);
            assert_int_equal(status.records, s->count - refused);
            assert_int_equal(end_of(log, 1), s->count - refused);
            assert_int_equal(end_of(log, 2), policy == PAWL_ON_ERROR_SKIP ? 0 : refused);
            assert_true(warnings == 0 || refused != 0);
            assert_true(warnings <= 2);
            pawl_source_remove(source);
            assert_int_equal(pawl_close(log), 0);
            snprintf(command, sizeof command, "rm -rf -- '%s'", dir);
            assert_int_equal(system(command), 0);
            free(s);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_case)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
