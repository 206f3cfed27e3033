/* SPDX-License-Identifier: Apache-2.0 */
/* Processors: what each guarantee and each policy leaves in the log, across stops, failures and
 * crashes. */
#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pipeline/engine.h" /* before cmocka.h, which has a macro fail */

#include <cmocka.h>

#include "pawl.h"
#include "tests/support/two_streams.h"

static int setup(void **state) {
    return fixture_setup(state, "/tmp/test_processors");
}

static pawl_record text(const char *s) {
    return (pawl_record){.value = s, .value_len = (uint32_t)strlen(s)};
}

#define MANY 3000u

static uint32_t stream(struct fixture *f, const char *name, uint32_t partitions) {
    uint32_t id;
    assert_int_equal(pawl_stream_create(f->log, name, partitions, &id), 0);
    return id;
}

/* Appends the numbers from `from` up to `to` with themselves as keys. */
static void append_numbers(struct fixture *f, uint32_t to_stream, uint32_t from, uint32_t to) {
    pawl_tx *tx;
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    for (uint32_t i = from; i < to; i++) {
        pawl_record r = {.key = &i, .key_len = sizeof i, .value = &i, .value_len = sizeof i};
        assert_int_equal(pawl_put(tx, to_stream, PAWL_ANY, &r), 0);
    }
    assert_int_equal(pawl_commit(tx, NULL), 0);
}

/* How often each number below `count` is in the stream. Anything else fails. */
static void tally(struct fixture *f, uint32_t of, uint32_t partitions, uint32_t *seen,
                  uint32_t count) {
    memset(seen, 0, count * sizeof *seen);
    for (uint32_t k = 0; k < partitions; k++) {
        pawl_reader *r;
        pawl_batch batch;
        int n;
        assert_int_equal(pawl_reader_open(f->log, of, k, 0, 0, &r), 0);
        while ((n = pawl_read(r, 0, 0, &batch)) > 0)
            for (size_t i = 0; i < batch.count; i++) {
                uint32_t number;
                assert_int_equal(batch.records[i].value_len, sizeof number);
                memcpy(&number, batch.records[i].value, sizeof number);
                assert_true(number < count);
                seen[number]++;
            }
        assert_int_equal(n, 0);
        pawl_reader_close(r);
    }
}

static void expect_each_once(struct fixture *f, uint32_t of, uint32_t partitions, uint32_t count) {
    static uint32_t seen[2 * MANY];
    tally(f, of, partitions, seen, count);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(seen[i], 1);
}

struct copy {
    uint32_t to;
    uint32_t stop_after; /* calls, then pawl_stop() */
    _Atomic uint32_t calls;
};

static int copy_each(pawl_context *ctx, const pawl_record *records, size_t count, void *arg) {
    struct copy *c = arg;
    for (size_t i = 0; i < count; i++) {
        pawl_record out = {.key = records[i].key,
                           .key_len = records[i].key_len,
                           .value = records[i].value,
                           .value_len = records[i].value_len};
        int rc = pawl_emit(ctx, c->to, PAWL_ANY, &out);
        if (rc != 0)
            return rc;
    }
    if (atomic_fetch_add(&c->calls, 1) + 1 == c->stop_after)
        pawl_stop(pawl_context_log(ctx));
    return 0;
}

static int pass_on(pawl_context *ctx, const pawl_record *records, size_t count, void *arg) {
    struct copy *c = arg;
    atomic_fetch_add(&c->calls, 1);
    return pawl_emit_many(ctx, c->to, PAWL_ANY, records, count);
}

static pawl_processor *add(struct fixture *f, const char *name, const uint32_t *input,
                           pawl_process_fn fn, void *arg) {
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    pawl_processor *proc;
    c.name = name, c.inputs = input, c.input_count = 1, c.process = fn, c.arg = arg,
    c.batch_max = 37;
    assert_int_equal(pawl_processor_add(f->log, &c, &proc), 0);
    return proc;
}

static void two_stages_and_two_threads_process_each_once(void **state) {
    struct fixture *f = *state;
    uint32_t in = stream(f, "in", 4), mid = stream(f, "mid", 3), out = stream(f, "out", 2);
    struct copy first = {.to = mid}, second = {.to = out};
    append_numbers(f, in, 0, MANY);
    pawl_processor *p1 = add(f, "first", &in, copy_each, &first),
                   *p2 = add(f, "second", &mid, pass_on, &second);
    assert_int_equal(pawl_run(f->log, 2, PAWL_RUN_UNTIL_IDLE), 0);
    expect_each_once(f, mid, 3, MANY);
    expect_each_once(f, out, 2, MANY);
    append_numbers(f, in, MANY, 2 * MANY); /* continues at its position: in the same handle ... */
    assert_int_equal(pawl_run(f->log, 2, PAWL_RUN_UNTIL_IDLE), 0);
    expect_each_once(f, out, 2, 2 * MANY);
    pawl_processor_remove(p1);
    pawl_processor_remove(p2);
    reopen(f); /* ... and in the next */
    p1 = add(f, "first", &in, copy_each, &first), p2 = add(f, "second", &mid, pass_on, &second);
    uint32_t calls = first.calls + second.calls;
    assert_int_equal(pawl_run(f->log, 2, PAWL_RUN_UNTIL_IDLE), 0);
    assert_int_equal(first.calls + second.calls, calls);
    expect_each_once(f, out, 2, 2 * MANY);
    pawl_processor_remove(p1);
    pawl_processor_remove(p2);
}

static void a_stopped_run_goes_on_in_the_next(void **state) {
    struct fixture *f = *state;
    uint32_t in = stream(f, "in", 4), out = stream(f, "out", 2);
    append_numbers(f, in, 0, MANY);
    struct copy c = {.to = out};
    for (int round = 0; round < 5; round++) {
        pawl_processor *p = add(f, "copy", &in, copy_each, &c);
        c.calls = 0;
        c.stop_after = 5;
        assert_int_equal(pawl_run(f->log, (uint32_t)round % 3, 0), PAWL_STOPPED);
        assert_true(c.calls >= 5);
        pawl_processor_remove(p);
        reopen(f);
    }
    pawl_processor *p = add(f, "copy", &in, copy_each, &c);
    c.calls = 0;
    c.stop_after = 0;
    assert_int_equal(pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE), 0);
    expect_each_once(f, out, 2, MANY);
    pawl_processor_remove(p);
}

static void a_wrong_configuration_is_refused(void **state) {
    struct fixture *f = *state;
    uint32_t in = f->a, none = 99;
    struct copy arg = {.to = f->b};
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    pawl_processor *p, *q;
    assert_int_equal(pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE), PAWL_STATE);
    assert_int_equal(pawl_processor_add(f->log, &c, &p), PAWL_INVALID);
    c.name = "p", c.inputs = &none, c.input_count = 1, c.process = copy_each, c.arg = &arg;
    assert_int_equal(pawl_processor_add(f->log, &c, &p), PAWL_NOT_FOUND);
    c.inputs = &in, c.on_error = PAWL_ON_ERROR_DEAD_LETTER, c.dead_letter = 99;
    assert_int_equal(pawl_processor_add(f->log, &c, &p), PAWL_NOT_FOUND);
    c.on_error = PAWL_ON_ERROR_STOP;
    c.name = NULL;
    assert_int_equal(pawl_processor_add(f->log, &c, &p), PAWL_INVALID);
    c.name = "p";
    assert_int_equal(pawl_processor_add(f->log, &c, &p), 0);
    assert_int_equal(pawl_processor_add(f->log, &c, &q), PAWL_EXISTS);
    pawl_processor_remove(p);
    assert_int_equal(pawl_processor_add(f->log, &c, &p), 0);
    pawl_processor_remove(p);
    pawl_processor_remove(NULL);
}

/* ---- failing records */

struct failing {
    uint32_t to;
    uint32_t good_from;         /* attempt at which the bad record turns good */
    uint32_t attempts, highest; /* at the bad record alone */
};

static int fail_at_bad(pawl_context *ctx, const pawl_record *records, size_t count, void *arg) {
    struct failing *c = arg;
    for (size_t i = 0; i < count; i++) {
        pawl_record out = {.value = records[i].value, .value_len = records[i].value_len};
        if (pawl_emit(ctx, c->to, 0, &out) != 0)
            return 2;
        if (records[i].value_len != 3 || memcmp(records[i].value, "bad", 3) != 0)
            continue;
        uint32_t attempt = pawl_context_attempt(ctx);
        if (count == 1) {
            c->attempts++;
            c->highest = attempt > c->highest ? attempt : c->highest;
        }
        if (count > 1 || attempt < c->good_from) {
            pawl_fail(ctx, i, "no good");
            return 1;
        }
    }
    return 0;
}

static void append_with_bad(struct fixture *f) {
    const char *values[] = {"one", "two", "bad", "four", "five"};
    pawl_tx *tx;
    pawl_header h = {"own", "header", 3, 6};
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    for (size_t i = 0; i < 5; i++) {
        pawl_record r = text(values[i]);
        r.key = "key", r.key_len = 3, r.headers = &h, r.header_count = 1;
        assert_int_equal(pawl_put(tx, f->a, 0, &r), 0);
    }
    assert_int_equal(pawl_commit(tx, NULL), 0);
}

static pawl_processor *add_failing(struct fixture *f, struct failing *c, int32_t policy,
                                   uint32_t dead_letter) {
    pawl_processor_config config = PAWL_PROCESSOR_INIT;
    pawl_processor *p;
    config.name = "failing", config.inputs = &f->a, config.input_count = 1,
    config.process = fail_at_bad, config.arg = c;
    config.on_error = policy, config.dead_letter = dead_letter, config.retries = 2,
    config.backoff_ms = 0;
    assert_int_equal(pawl_processor_add(f->log, &config, &p), 0);
    return p;
}

static void expect_values(struct fixture *f, uint32_t of, const char *values) {
    char all[128] = "";
    pawl_reader *r;
    pawl_batch batch;
    assert_int_equal(pawl_reader_open(f->log, of, 0, 0, 0, &r), 0);
    while (pawl_read(r, 0, 0, &batch) > 0)
        for (size_t i = 0; i < batch.count; i++) {
            strncat(all, batch.records[i].value, batch.records[i].value_len);
            strcat(all, " ");
        }
    pawl_reader_close(r);
    assert_string_equal(all, values);
}

static void the_stop_policy_stops_before_the_record(void **state) {
    struct fixture *f = *state;
    struct failing c = {.to = stream(f, "out", 1), .good_from = UINT32_MAX};
    pawl_error e;
    uint64_t at;
    append_with_bad(f);
    pawl_processor *p = add_failing(f, &c, PAWL_ON_ERROR_STOP, 0);
    assert_int_equal(pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE), PAWL_PROCESSOR);
    pawl_last_error(&e);
    assert_int_equal(e.code, PAWL_PROCESSOR);
    assert_non_null(strstr(e.message, "no good"));
    assert_non_null(strstr(e.message, "failing"));
    assert_int_equal(c.attempts, 3); /* the first and two retries */
    assert_int_equal(c.highest, 2);
    expect_values(f, c.to, "one two ");
    assert_int_equal(pawl_position_get(f->log, "failing", f->a, 0, &at), 0);
    assert_int_equal(at, 2);
    assert_int_equal(pawl_run(f->log, 1, PAWL_RUN_UNTIL_IDLE), PAWL_PROCESSOR);
    c.good_from = 0; /* mended */
    assert_int_equal(pawl_run(f->log, 1, PAWL_RUN_UNTIL_IDLE), 0);
    expect_values(f, c.to, "one two bad four five ");
    pawl_processor_remove(p);
}

static void a_retry_that_succeeds_leaves_one_output(void **state) {
    struct fixture *f = *state;
    struct failing c = {.to = stream(f, "out", 1), .good_from = 2};
    append_with_bad(f);
    pawl_processor *p = add_failing(f, &c, PAWL_ON_ERROR_STOP, 0);
    assert_int_equal(pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE), 0);
    assert_int_equal(c.attempts, 3);
    expect_values(f, c.to, "one two bad four five ");
    pawl_processor_remove(p);
}

static void the_skip_policy_passes_over_the_record(void **state) {
    struct fixture *f = *state;
    struct failing c = {.to = stream(f, "out", 1), .good_from = UINT32_MAX};
    append_with_bad(f);
    pawl_processor *p = add_failing(f, &c, PAWL_ON_ERROR_SKIP, 0);
    assert_int_equal(pawl_run(f->log, 1, PAWL_RUN_UNTIL_IDLE), 0);
    assert_int_equal(c.attempts, 3);
    expect_values(f, c.to, "one two four five ");
    pawl_processor_remove(p);
}

static void the_dead_letter_policy_moves_the_record(void **state) {
    struct fixture *f = *state;
    struct failing c = {.to = stream(f, "out", 1), .good_from = UINT32_MAX};
    uint32_t dead = stream(f, "dead", 1);
    append_with_bad(f);
    pawl_processor *p = add_failing(f, &c, PAWL_ON_ERROR_DEAD_LETTER, dead);
    assert_int_equal(pawl_run(f->log, 1, PAWL_RUN_UNTIL_IDLE), 0);
    assert_int_equal(c.attempts, 3);
    pawl_processor_remove(p);
    reopen(f);
    p = add_failing(f, &c, PAWL_ON_ERROR_DEAD_LETTER, dead);
    assert_int_equal(pawl_run(f->log, 1, PAWL_RUN_UNTIL_IDLE), 0);
    pawl_processor_remove(p);
    expect_values(f, c.to, "one two four five ");
    expect_values(f, dead, "bad ");
    pawl_reader *r;
    pawl_batch batch;
    assert_int_equal(pawl_reader_open(f->log, dead, 0, 0, 0, &r), 0);
    assert_int_equal(pawl_read(r, 0, 0, &batch), 1);
    assert_int_equal(batch.records[0].key_len, 3);
    assert_memory_equal(batch.records[0].key, "key", 3);
    const char *want[6][2] = {{"pawl-processor", "failing"}, {"pawl-stream", "a"},
                              {"pawl-partition", "0"},       {"pawl-offset", "2"},
                              {"pawl-error", "no good"},     {"own", "header"}};
    for (size_t i = 0; i < 6; i++) {
        bool found = false;
        pawl_header h;
        for (uint32_t k = 0; pawl_record_header(&batch.records[0], k, &h) == 0; k++)
            found |=
                h.name_len == strlen(want[i][0]) && memcmp(h.name, want[i][0], h.name_len) == 0 &&
                h.value_len == strlen(want[i][1]) && memcmp(h.value, want[i][1], h.value_len) == 0;
        if (!found)
            fail_msg("header %s: %s is missing", want[i][0], want[i][1]);
    }
    pawl_reader_close(r);
}

static int refuses_all(pawl_context *ctx, const pawl_record *records, size_t count, void *arg) {
    (void)records, (void)count, (void)arg;
    pawl_refuse(ctx, 0, "not this");
    return 1;
}

/* A record of the log's limit, with its dead letter's headers, is too large: the letter is cut, and
 * says so, and the processor goes on. What was refused is counted. */
static void a_dead_letter_that_is_too_large_is_cut(void **state) {
    enum { MOST = 262144 - 80 - 4096 - 16 };
    struct fixture *f = *state;
    uint32_t dead = stream(f, "dead", 1);
    uint64_t count;
    char why[64], *value = calloc(1, MOST);
    pawl_record r = {.value = value, .value_len = MOST};
    pawl_header h;
    pawl_reader *reader;
    pawl_batch batch;
    assert_non_null(value);
    assert_int_equal(pawl_append(f->log, f->a, 0, &r, NULL), 0);
    r.value_len = 5;
    assert_int_equal(pawl_append(f->log, f->a, 0, &r, NULL), 0);
    pawl_processor_config config = PAWL_PROCESSOR_INIT;
    pawl_processor *p;
    config.name = "refusing", config.inputs = &f->a, config.input_count = 1,
    config.process = refuses_all, config.on_error = PAWL_ON_ERROR_DEAD_LETTER,
    config.dead_letter = dead;
    assert_int_equal(pawl_processor_add(f->log, &config, &p), 0);
    assert_int_equal(pawl_processor_refused(p, &count, NULL, 0), 0);
    assert_int_equal(count, 0);
    assert_int_equal(pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE), 0);
    assert_int_equal(pawl_processor_refused(p, &count, why, sizeof why), 0);
    assert_int_equal(count, 2);
    assert_string_equal(why, "not this");
    assert_int_equal(pawl_processor_refused(NULL, &count, why, sizeof why), PAWL_INVALID);
    assert_int_equal(pawl_processor_refused(p, NULL, why, sizeof why), PAWL_INVALID);
    assert_int_equal(pawl_reader_open(f->log, dead, 0, 0, 0, &reader), 0);
    assert_int_equal(pawl_read(reader, 1, 0, &batch), 1);
    assert_int_equal(batch.records[0].value_len, 65536);
    assert_int_equal(pawl_record_header(&batch.records[0], 5, &h), 0);
    assert_int_equal(h.value_len, 6);
    assert_memory_equal(h.name, "pawl-length", 11);
    assert_memory_equal(h.value, "257952", 6);
    assert_int_equal(pawl_read(reader, 1, 0, &batch), 1);
    assert_int_equal(batch.records[0].value_len, 5);
    assert_true(pawl_record_header(&batch.records[0], 5, &h) != 0);
    pawl_reader_close(reader);
    pawl_processor_remove(p);
    free(value);
}

/* ---- guarantees */

#define BATCH 10u
#define ALL 150u

enum crash { IN_CALLBACK, AFTER_OUTPUTS };

/* A backend whose process dies at the first write after something became durable since it was
 * armed. */
static struct seam_ops deadly_ops;
static const struct seam_ops *real_ops;
static pawl *watched;
static bool armed;
static uint64_t armed_at;

static void deadly_submit(struct seam *s, struct seam_req *r) {
    if (armed && watched->wal.durable > armed_at)
        _exit(0);
    real_ops->submit(s, r);
}

struct dying {
    struct copy copy;
    enum crash crash;
    uint32_t calls;
};

static int copy_and_die(pawl_context *ctx, const pawl_record *records, size_t count, void *arg) {
    struct dying *d = arg;
    int rc = copy_each(ctx, records, count, &d->copy);
    if (++d->calls == 2 && d->crash == IN_CALLBACK)
        _exit(0);
    if (d->calls == 2) {
        watched = pawl_context_log(ctx);
        pthread_mutex_lock(&watched->mutex);
        armed = true;
        armed_at = watched->wal.durable;
        pthread_mutex_unlock(&watched->mutex);
    }
    if (d->calls > 2) /* what the second batch has committed becomes durable, and a write follows */
        assert(pawl_tick(watched) >= 0);
    return rc;
}

static void run_and_die(struct fixture *f, int32_t guarantee, enum crash crash, uint32_t out) {
    pawl_options o = f->options;
    o.witness_ms = UINT32_MAX;
    o.no_thread = 1; /* no other thread may use the seam while its operations are replaced */
    if (pawl_open(f->dir, &o, &f->log, NULL) != 0)
        _exit(1);
    real_ops = f->log->io->ops;
    deadly_ops = *real_ops;
    deadly_ops.submit = deadly_submit;
    f->log->io->ops = &deadly_ops;
    struct dying d = {.copy = {.to = out}, .crash = crash};
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    c.name = "dying", c.inputs = &f->a, c.input_count = 1, c.process = copy_and_die, c.arg = &d;
    c.batch_max = BATCH, c.guarantee = guarantee;
    if (pawl_processor_add(f->log, &c, NULL) != 0)
        _exit(2);
    int rc = pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE);
    _exit(rc == 0 ? 3 : 4); /* should have died before */
}

/* What each number of the second batch counts in the end; all the others count 1. */
static uint32_t after_a_crash(struct fixture *f, int32_t guarantee, enum crash crash) {
    uint32_t out = stream(f, "out", 1), seen[ALL];
    append_numbers(f, f->a, 0, ALL);
    assert_int_equal(pawl_close(f->log), 0);
    f->log = NULL;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        run_and_die(f, guarantee, crash, out);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    reopen(f);
    struct copy copy = {.to = out};
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    pawl_processor *p;
    c.name = "dying", c.inputs = &f->a, c.input_count = 1, c.process = copy_each, c.arg = &copy;
    c.batch_max = BATCH, c.guarantee = guarantee;
    assert_int_equal(pawl_processor_add(f->log, &c, &p), 0);
    assert_int_equal(pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE), 0);
    pawl_processor_remove(p);
    tally(f, out, 1, seen, ALL);
    for (uint32_t i = 0; i < ALL; i++)
        if (i < BATCH || i >= 2 * BATCH)
            assert_int_equal(seen[i], 1);
        else
            assert_int_equal(seen[i], seen[BATCH]);
    return seen[BATCH];
}

static void exactly_once_in_spite_of_a_crash_in_the_callback(void **state) {
    assert_int_equal(after_a_crash(*state, PAWL_EXACTLY_ONCE, IN_CALLBACK), 1);
}

static void exactly_once_in_spite_of_a_crash_behind_it(void **state) {
    assert_int_equal(after_a_crash(*state, PAWL_EXACTLY_ONCE, AFTER_OUTPUTS), 1);
}

static void at_least_once_doubles_what_a_crash_cuts_off_its_position(void **state) {
    assert_int_equal(after_a_crash(*state, PAWL_AT_LEAST_ONCE, AFTER_OUTPUTS), 2);
}

static void at_least_once_loses_nothing(void **state) {
    assert_int_equal(after_a_crash(*state, PAWL_AT_LEAST_ONCE, IN_CALLBACK), 1);
}

static void at_most_once_loses_what_a_crash_interrupts(void **state) {
    assert_int_equal(after_a_crash(*state, PAWL_AT_MOST_ONCE, IN_CALLBACK), 0);
}

static void at_most_once_doubles_nothing(void **state) {
    assert_int_equal(after_a_crash(*state, PAWL_AT_MOST_ONCE, AFTER_OUTPUTS), 1);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(two_stages_and_two_threads_process_each_once),
        T(a_stopped_run_goes_on_in_the_next),
        T(a_wrong_configuration_is_refused),
        T(the_stop_policy_stops_before_the_record),
        T(a_retry_that_succeeds_leaves_one_output),
        T(the_skip_policy_passes_over_the_record),
        T(the_dead_letter_policy_moves_the_record),
        T(a_dead_letter_that_is_too_large_is_cut),
        T(exactly_once_in_spite_of_a_crash_in_the_callback),
        T(exactly_once_in_spite_of_a_crash_behind_it),
        T(at_least_once_doubles_what_a_crash_cuts_off_its_position),
        T(at_least_once_loses_nothing),
        T(at_most_once_loses_what_a_crash_interrupts),
        T(at_most_once_doubles_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
