/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/sink_help.h"

static uint64_t now(void *arg) {
    return ((struct fixture *)arg)->now_ns;
}

void open_log(struct fixture *f) {
    pawl_error e;
    if (pawl_open(f->dir, &f->options, &f->log, &e) != 0)
        fail_msg("%s", e.message);
}

void add(struct fixture *f) {
    pawl_error e;
    pawl_sink_ops ops = fake_ops(f->target, f->kind == STABLE ? PAWL_SINK_IDEMPOTENT : f->kind);
    ops.flags = f->kind == STABLE ? PAWL_SINK_STABLE : 0;
    ops.flags |= f->position ? PAWL_SINK_POSITION : 0;
    if (pawl_sink_add(f->log, &f->config, &ops, &f->sink, &e) != 0)
        fail_msg("%s", e.message);
}

void close_all(struct fixture *f) {
    pawl_sink_remove(f->sink);
    f->sink = NULL;
    assert_int_equal(pawl_close(f->log), 0);
    f->log = NULL;
}

struct fixture *new_fixture(int kind) {
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    strcpy(f->dir, "/tmp/test_sink.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->options = (pawl_options)PAWL_OPTIONS_INIT;
    f->options.flags = PAWL_OPEN_CREATE;
    f->options.segment_size = 1u << 20;
    /* a killed one may hold it until the last of its writes is done */
    f->options.lock_wait_ms = 20000;
    f->kind = kind;
    f->target = fake_new();
    open_log(f);
    assert_int_equal(pawl_stream_create(f->log, "in", 1, &f->in), 0);
    assert_int_equal(pawl_stream_create(f->log, "dead", 1, &f->dead), 0);
    for (uint32_t i = 0; i < COUNT; i++) {
        char text[16];
        pawl_record r = {.value = text,
                         .value_len = (uint32_t)snprintf(text, sizeof text, "%u", i)};
        pawl_tx *tx;
        assert_int_equal(pawl_begin(f->log, &tx), 0);
        assert_int_equal(pawl_put(tx, f->in, 0, &r), 0);
        assert_int_equal(pawl_commit_async(tx, NULL, NULL, NULL), 0);
    }
    assert_int_equal(pawl_sync(f->log), 0);
    f->config = (pawl_sink_config)PAWL_SINK_CONFIG_INIT;
    f->config.name = "to-fake", f->config.inputs = &f->in, f->config.input_count = 1;
    f->config.batch_records = 7;
    f->config.on_poison = PAWL_ON_ERROR_DEAD_LETTER, f->config.dead_letter = f->dead;
    f->config.hooks.now_ns = now, f->config.hooks.now_arg = f, f->config.hooks.seed = 1;
    return f;
}

void free_fixture(struct fixture *f) {
    char command[96];
    close_all(f);
    snprintf(command, sizeof command, "rm -rf -- '%s'", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
}

int drive(struct fixture *f) {
    for (int i = 0; i < 5000; i++) {
        int rc = pawl_sink_step(f->sink);
        pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
        assert_int_equal(pawl_sink_status(f->sink, &s), 0);
        if (rc < 0 || (rc > 0 && s.flow == PAWL_FLOW_IDLE))
            return rc;
        if (rc > 0)
            f->now_ns += (uint64_t)rc * 1000000u;
    }
    fail_msg("it never comes to an end");
    return 0;
}

pawl_flow_status status(struct fixture *f) {
    pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
    assert_int_equal(pawl_sink_status(f->sink, &s), 0);
    return s;
}

void all_there(struct fixture *f, uint64_t but, const char *when) {
    uint64_t at;
    assert_int_equal(pawl_position_get(f->log, "to-fake", f->in, 0, &at), 0);
    if (at != COUNT)
        fail_msg("%s: kind %d: the position is %llu", when, f->kind, (unsigned long long)at);
    for (uint32_t i = 0; i < COUNT; i++) {
        uint32_t n = f->target->rows[i];
        bool well = i == but ? n == 0 : f->kind >= PAWL_SINK_IDEMPOTENT ? n >= 1 : n == 1;
        if (!well)
            fail_msg("%s: kind %d: record %u is there %u times", when, f->kind, i, n);
    }
    for (size_t i = 0; i < FAKE_PREPARED; i++)
        assert_int_equal(f->target->prepared[i].name[0], 0);
}

uint32_t dead_letters(struct fixture *f) {
    pawl_bounds b;
    assert_int_equal(pawl_partition_bounds(f->log, f->dead, 0, &b), 0);
    return (uint32_t)b.durable;
}

void no_decision_is_open(struct fixture *f, const char *when) {
    pawl_decision d;
    if (pawl_decision_at(f->log, 0, &d) == 0)
        fail_msg("%s: kind %d: %s is open", when, f->kind, d.name);
}

void put(struct fixture *f, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        pawl_record r = {.value = "more", .value_len = 4};
        pawl_tx *tx;
        assert_int_equal(pawl_begin(f->log, &tx), 0);
        assert_int_equal(pawl_put(tx, f->in, 0, &r), 0);
        assert_int_equal(pawl_commit(tx, NULL), 0);
    }
}

char reports[4096];

void note(void *arg, const char *name, int severity, const char *message) {
    size_t n = strlen(reports);
    (void)arg;
    (void)name;
    snprintf(reports + n, sizeof reports - n, "%d: %s\n", severity, message);
}

struct killer killer;

void kill_here(void *arg, const char *point) {
    (void)arg;
    if (strcmp(point, killer.point) == 0 && killer.left-- == 0)
        _exit(7);
}

void kill_at(struct fixture *f, const char *point) {
    int rc;
    if (f->log != NULL)
        close_all(f);
    pid_t child = fork();
    if (child == 0) {
        killer.point = point, killer.left = 0;
        f->config.hooks.on_point = kill_here;
        open_log(f);
        add(f);
        drive(f);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &rc, 0), child);
    assert_int_equal(WEXITSTATUS(rc), 7);
    open_log(f);
}
