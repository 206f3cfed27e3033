/* SPDX-License-Identifier: Apache-2.0 */
/* Structs of older and newer programs: each call that takes a struct with a size is given a smaller
 * one, a larger one with and without something in its tail, and one that was never initialised. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "connectors/runtime/connect.h"
#include "pawl_connect.h"
#include "pipeline/struct_size.h"

#define TAIL 64
#define GUARD 0xa5

static char dir[64];
static pawl *log_;
static uint32_t stream;

/* A struct of any of the kinds, with room after it. */
union any {
    size_t struct_size;
    pawl_options options;
    pawl_processor_config processor;
    pawl_status status;
    pawl_check check;
    pawl_outside outside;
    pawl_outside_place place;
    pawl_sink_config sink;
    pawl_sink_ops sink_ops;
    pawl_source_config source;
    pawl_source_ops source_ops;
    pawl_flow_status flow;
    pawl_processor_ops processor_ops;
    unsigned char bytes[2048];
};

static int nothing(pawl_context *ctx, const pawl_record *r, size_t n, void *arg) {
    (void)ctx, (void)r, (void)n, (void)arg;
    return 0;
}

static int destroyed;
static void destroy(void *self) {
    (void)self;
    destroyed++;
}
static int done(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    (void)self, (void)b, (void)f;
    return PAWL_DONE;
}
static int write_none(void *self, const pawl_sink_batch *b, const pawl_record *r, size_t n,
                      pawl_fault *f) {
    (void)self, (void)b, (void)r, (void)n, (void)f;
    return PAWL_DONE;
}
static void abort_none(void *self) {
    (void)self;
}
static int open_source(void *self, pawl_source_context *x, pawl_fault *f) {
    (void)self, (void)x, (void)f;
    return PAWL_DONE;
}
static int read_none(void *self, pawl_source_batch *out, size_t records, size_t bytes,
                     int timeout_ms, pawl_fault *f) {
    (void)self, (void)out, (void)records, (void)bytes, (void)timeout_ms, (void)f;
    return PAWL_ENDED;
}

static pawl_sink_ops sink_ops(void) {
    pawl_sink_ops o = PAWL_SINK_OPS_INIT;
    o.kind = PAWL_SINK_IDEMPOTENT;
    o.open = o.begin = o.commit = done, o.write = write_none, o.abort = abort_none;
    o.destroy = destroy;
    return o;
}
static pawl_sink_config sink_config(void) {
    pawl_sink_config c = PAWL_SINK_CONFIG_INIT;
    c.name = "sink", c.inputs = &stream, c.input_count = 1;
    return c;
}
static pawl_source_ops source_ops(void) {
    pawl_source_ops o = PAWL_SOURCE_OPS_INIT;
    o.open = open_source, o.read = read_none, o.destroy = destroy;
    return o;
}
static pawl_source_config source_config(void) {
    pawl_source_config c = PAWL_SOURCE_CONFIG_INIT;
    c.name = "source", c.stream = stream;
    return c;
}

/* ---- the calls: each is given the struct in *a */

static int call_open(union any *a) {
    pawl *p;
    pawl_error e;
    int rc = pawl_open(dir, &a->options, &p, &e);
    assert_int_equal(e.code, rc);
    return rc == 0 ? pawl_close(p) : rc;
}
static int call_processor(union any *a) {
    pawl_processor *q;
    int rc = pawl_processor_add(log_, &a->processor, &q);
    if (rc == 0)
        pawl_processor_remove(q);
    return rc;
}
static int call_status(union any *a) {
    return pawl_get_status(log_, &a->status);
}
static int call_verify(union any *a) {
    return pawl_verify(dir, &a->check, NULL);
}
static int call_audit(union any *a) {
    return pawl_audit(dir, &a->check, NULL);
}
static int call_origin(union any *a) {
    pawl_tx *tx;
    assert_int_equal(pawl_begin(log_, &tx), 0);
    int rc = pawl_tx_origin(tx, NULL, &a->outside);
    pawl_abort(tx);
    return rc;
}
/* The record that it explains is at offset 0. */
static int call_explain(union any *a) {
    return pawl_explain_outside(log_, stream, 0, 0, &a->place);
}
static int add_sink(const pawl_sink_config *c, const pawl_sink_ops *o) {
    pawl_sink *s;
    pawl_error e;
    int rc = pawl_sink_add(log_, c, o, &s, &e);
    if (rc != 0)
        assert_int_equal(e.code, rc);
    else
        pawl_sink_remove(s);
    return rc;
}
static int call_sink(union any *a) {
    pawl_sink_ops o = sink_ops();
    return add_sink(&a->sink, &o);
}
static int call_sink_ops(union any *a) {
    pawl_sink_config c = sink_config();
    return add_sink(&c, &a->sink_ops);
}
static int add_source(const pawl_source_config *c, const pawl_source_ops *o) {
    pawl_source *s;
    pawl_error e;
    int rc = pawl_source_add(log_, c, o, &s, &e);
    if (rc != 0)
        assert_int_equal(e.code, rc);
    else
        pawl_source_remove(s);
    return rc;
}
static int call_source(union any *a) {
    pawl_source_ops o = source_ops();
    return add_source(&a->source, &o);
}
static int call_source_ops(union any *a) {
    pawl_source_config c = source_config();
    return add_source(&c, &a->source_ops);
}
static int call_sink_status(union any *a) {
    pawl_sink_config c = sink_config();
    pawl_sink_ops o = sink_ops();
    pawl_sink *s;
    assert_int_equal(pawl_sink_add(log_, &c, &o, &s, NULL), 0);
    int rc = pawl_sink_status(s, &a->flow);
    pawl_sink_remove(s);
    return rc;
}
static int call_source_status(union any *a) {
    pawl_source_config c = source_config();
    pawl_source_ops o = source_ops();
    pawl_source *s;
    assert_int_equal(pawl_source_add(log_, &c, &o, &s, NULL), 0);
    int rc = pawl_source_status(s, &a->flow);
    pawl_source_remove(s);
    return rc;
}
static int call_sink_make(union any *a) {
    pawl_setting format = {.name = "format", .value = "text"};
    int rc = pawl_sink_make("stdout", &(pawl_settings){.items = &format, .count = 1}, &a->sink_ops,
                            NULL);
    if (rc == 0)
        a->sink_ops.destroy(a->sink_ops.self);
    return rc;
}
static int call_source_make(union any *a) {
    int rc = pawl_source_make("stdin", NULL, &a->source_ops, NULL);
    if (rc == 0)
        a->source_ops.destroy(a->source_ops.self);
    return rc;
}

static int call_processor_make(union any *a) {
    pawl_setting s[] = {{.name = "to", .value = "s"}, {.name = "equals", .value = "x"}};
    int rc = pawl_processor_make("filter", &(pawl_settings){.items = s, .count = 2},
                                 &a->processor_ops, NULL);
    if (rc == 0)
        a->processor_ops.destroy(a->processor_ops.self);
    return rc;
}
static int attach(const pawl_processor_config *c, const pawl_processor_ops *o) {
    pawl_processor *q;
    pawl_error e;
    int rc = pawl_processor_attach(log_, c, o, &q, &e);
    if (rc == 0)
        pawl_processor_remove(q);
    else
        assert_int_equal(e.code, rc);
    return rc;
}
static int call_attach(union any *a) {
    pawl_processor_ops o = PAWL_PROCESSOR_OPS_INIT;
    o.process = nothing;
    return attach(&a->processor, &o);
}
static int call_attach_ops(union any *a) {
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    c.name = "p", c.inputs = &stream, c.input_count = 1;
    return attach(&c, &a->processor_ops);
}

/* ---- what is good to pass */

static void good_options(union any *a) {
    a->options = (pawl_options)PAWL_OPTIONS_INIT;
    a->options.flags = PAWL_OPEN_READ;
}
static void good_processor(union any *a) {
    a->processor = (pawl_processor_config)PAWL_PROCESSOR_INIT;
    a->processor.name = "p", a->processor.process = nothing;
    a->processor.inputs = &stream, a->processor.input_count = 1;
}
static void good_status(union any *a) {
    a->status = (pawl_status)PAWL_STATUS_INIT;
}
static void good_check(union any *a) {
    a->check = (pawl_check)PAWL_CHECK_INIT;
}
static void good_outside(union any *a) {
    a->outside = (pawl_outside)PAWL_OUTSIDE_INIT;
    a->outside.thing = "file", a->outside.stream = stream;
}
static void good_place(union any *a) {
    a->place = (pawl_outside_place)PAWL_OUTSIDE_PLACE_INIT;
}
static void good_sink(union any *a) {
    a->sink = sink_config();
}
static void good_sink_ops(union any *a) {
    a->sink_ops = sink_ops();
}
static void good_source(union any *a) {
    a->source = source_config();
}
static void good_source_ops(union any *a) {
    a->source_ops = source_ops();
}
static void good_processor_ops(union any *a) {
    a->processor_ops = (pawl_processor_ops)PAWL_PROCESSOR_OPS_INIT;
    a->processor_ops.process = nothing;
}
static void good_flow(union any *a) {
    a->flow = (pawl_flow_status)PAWL_FLOW_STATUS_INIT;
}

enum way { IN, OUT, BOTH };
static const struct call {
    const char *name;
    int (*call)(union any *a);
    void (*good)(union any *a);
    size_t now, first;
    enum way way;
} calls[] = {
    {"open", call_open, good_options, sizeof(pawl_options), OPTIONS_FIRST, IN},
    {"processor_add", call_processor, good_processor, sizeof(pawl_processor_config),
     PROCESSOR_FIRST, IN},
    {"get_status", call_status, good_status, sizeof(pawl_status), STATUS_FIRST, OUT},
    {"verify", call_verify, good_check, sizeof(pawl_check), CHECK_FIRST, BOTH},
    {"audit", call_audit, good_check, sizeof(pawl_check), CHECK_FIRST, BOTH},
    {"tx_origin", call_origin, good_outside, sizeof(pawl_outside), OUTSIDE_FIRST, IN},
    {"explain_outside", call_explain, good_place, sizeof(pawl_outside_place), OUTSIDE_PLACE_FIRST,
     OUT},
    {"sink_add config", call_sink, good_sink, sizeof(pawl_sink_config), SINK_CONFIG_FIRST, IN},
    {"sink_add ops", call_sink_ops, good_sink_ops, sizeof(pawl_sink_ops), SINK_OPS_FIRST, IN},
    {"source_add config", call_source, good_source, sizeof(pawl_source_config), SOURCE_CONFIG_FIRST,
     IN},
    {"source_add ops", call_source_ops, good_source_ops, sizeof(pawl_source_ops), SOURCE_OPS_FIRST,
     IN},
    {"sink_status", call_sink_status, good_flow, sizeof(pawl_flow_status), FLOW_STATUS_FIRST, OUT},
    {"source_status", call_source_status, good_flow, sizeof(pawl_flow_status), FLOW_STATUS_FIRST,
     OUT},
    {"processor_attach config", call_attach, good_processor, sizeof(pawl_processor_config),
     PROCESSOR_CONFIG_FIRST, IN},
    {"processor_attach ops", call_attach_ops, good_processor_ops, sizeof(pawl_processor_ops),
     PROCESSOR_OPS_FIRST, IN},
    {"processor_make", call_processor_make, good_processor_ops, sizeof(pawl_processor_ops),
     PROCESSOR_OPS_FIRST, BOTH},
    {"sink_make", call_sink_make, good_sink_ops, sizeof(pawl_sink_ops), SINK_OPS_FIRST, BOTH},
    {"source_make", call_source_make, good_source_ops, sizeof(pawl_source_ops), SOURCE_OPS_FIRST,
     BOTH},
};

static void expect(const struct call *c, size_t size, unsigned char tail, int want) {
    union any a;
    memset(&a, GUARD, sizeof a);
    c->good(&a);
    if (size > c->now && size <= c->now + TAIL)
        memset(a.bytes + c->now, 0, size - c->now);
    if (tail != 0)
        a.bytes[size - 1] = tail;
    a.struct_size = size;
    int rc = c->call(&a);
    if (rc != want)
        fail_msg("%s with struct_size %zu (%zu now): %s instead of %s", c->name, size, c->now,
                 pawl_errname(rc), pawl_errname(want));
    assert_int_equal(a.struct_size, size);
    for (size_t i = size > c->now ? size : c->now; i < sizeof a && size <= c->now + TAIL; i++)
        assert_int_equal(a.bytes[i], GUARD);
}

static void sizes(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        const struct call *c = &calls[i];
        assert_true(c->first <= c->now);
        expect(c, c->now, 0, 0);
        expect(c, c->first, 0, 0);      /* an older program */
        expect(c, c->now + TAIL, 0, 0); /* a newer one */
        expect(c, c->now + TAIL, 1, c->way == OUT ? 0 : PAWL_UNSUPPORTED);
        expect(c, c->first - 1, 0, PAWL_INVALID);
        expect(c, 0, 0, PAWL_INVALID);
        expect(c, SIZE_MAX, 0, PAWL_INVALID); /* never initialised */
        expect(c, 4097, 0, PAWL_INVALID);
        union any none;
        memset(&none, 0, sizeof none);
        assert_int_equal(c->call(&none), PAWL_INVALID);
    }
}

/* What an older program lacks counts as 0; and a result stops where its struct does. */
static void a_shorter_struct(void **state) {
    struct older {
        size_t struct_size;
        uint32_t a;
    } old = {sizeof old, 7};
    struct newer {
        size_t struct_size;
        uint32_t a, b;
        uint64_t c;
    } now = {0, 1, 2, 3};
    (void)state;
    assert_int_equal(pawl_struct_take(&now, sizeof now, &old, sizeof old, "old"), 0);
    assert_int_equal(now.struct_size, sizeof now);
    assert_int_equal(now.a, 7);
    assert_int_equal(now.c, 0);
    now.a = 8, now.c = 9;
    assert_int_equal(pawl_struct_give(&old, sizeof old, &now, sizeof now, "old"), 0);
    assert_int_equal(old.struct_size, sizeof old);
    assert_int_equal(old.a, 8);
    assert_int_equal(pawl_struct_take(&now, sizeof now, NULL, sizeof old, "old"), PAWL_INVALID);
    assert_int_equal(pawl_struct_give(NULL, sizeof old, &now, sizeof now, "old"), PAWL_INVALID);
}

/* The ops' owner can rely on destroy() being called, wherever there is one to call. */
static void refused_ops_are_destroyed(void **state) {
    union any a;
    (void)state;
    good_sink_ops(&a);
    destroyed = 0;
    memset(a.bytes + sizeof a.sink_ops, 1, 8);
    a.struct_size = sizeof a.sink_ops + 8;
    assert_int_equal(call_sink_ops(&a), PAWL_UNSUPPORTED);
    assert_int_equal(destroyed, 1);
    good_source_ops(&a);
    memset(a.bytes + sizeof a.source_ops, 1, 8);
    a.struct_size = sizeof a.source_ops + 8;
    assert_int_equal(call_source_ops(&a), PAWL_UNSUPPORTED);
    assert_int_equal(destroyed, 2);
}

static int set_up(void **state) {
    pawl_options o = PAWL_OPTIONS_INIT;
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/pawl-size-XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    o.flags = PAWL_OPEN_CREATE, o.segment_size = 1u << 20;
    pawl_outside from = PAWL_OUTSIDE_INIT;
    pawl_record r = {.value = "v", .value_len = 1};
    pawl_tx *tx;
    if (pawl_open(dir, &o, &log_, NULL) != 0 || pawl_stream_create(log_, "s", 1, &stream) != 0)
        return -1;
    from.thing = "file", from.to = 1, from.stream = stream, from.flags = PAWL_OUTSIDE_BEGINS;
    return pawl_begin(log_, &tx) != 0 || pawl_put(tx, stream, 0, &r) != 0 ||
           pawl_tx_origin(tx, NULL, &from) != 0 || pawl_commit(tx, NULL) != 0;
}

static int tear_down(void **state) {
    char command[96];
    (void)state;
    int rc = pawl_close(log_);
    snprintf(command, sizeof command, "rm -r '%s'", dir);
    return system(command) != 0 || rc != 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),
        cmocka_unit_test(a_shorter_struct),
        cmocka_unit_test(refused_ops_are_destroyed),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
