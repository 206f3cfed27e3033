/* SPDX-License-Identifier: Apache-2.0
 *
 * The built-in processors as a C program makes them: each type by name and settings, what its
 * settings' faults are told as, two in a chain, and that what they emit comes once, through
 * failures and reopening.
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
#include "tests/support/skip.h"

#define MAX 8 /* processors of a fixture */

struct fixture {
    char dir[64];
    pawl *log;
    uint32_t in;
    pawl_processor_ops ops[MAX];
    pawl_processor *processors[MAX];
    size_t count;
};

static void open_log(struct fixture *f) {
    pawl_options o = PAWL_OPTIONS_INIT;
    char log[96];
    snprintf(log, sizeof log, "%s/log", f->dir);
    o.flags = PAWL_OPEN_CREATE;
    o.segment_size = 1u << 20;
    assert_int_equal(pawl_open(log, &o, &f->log, NULL), 0);
    int rc = pawl_stream_create(f->log, "in", 1, &f->in);
    assert_true(rc == 0 || rc == PAWL_EXISTS);
    rc = pawl_stream_create(f->log, "out", 1, NULL);
    assert_true(rc == 0 || rc == PAWL_EXISTS);
    rc = pawl_stream_create(f->log, "rest", 1, NULL);
    assert_true(rc == 0 || rc == PAWL_EXISTS);
}

static struct fixture *new_fixture(void) {
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    strcpy(f->dir, "/tmp/test_processor_make.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    open_log(f);
    return f;
}

/* Takes the processors out, and closes. */
static void close_log(struct fixture *f) {
    for (size_t i = 0; i < f->count; i++) {
        pawl_processor_remove(f->processors[i]);
        f->ops[i].destroy(f->ops[i].self);
    }
    f->count = 0;
    assert_int_equal(pawl_close(f->log), 0);
}

static void free_fixture(struct fixture *f) {
    char command[96];
    close_log(f);
    snprintf(command, sizeof command, "rm -r %s", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
}

/* Settings "name=value", numbered from line 11 on; NULL ends them. */
static int make(const char *type, const char *const *texts, pawl_processor_ops *out,
                pawl_error *e) {
    pawl_setting items[16];
    char copies[16][256];
    size_t n = 0;
    for (; texts[n] != NULL; n++) {
        snprintf(copies[n], sizeof copies[n], "%s", texts[n]);
        char *value = strchr(copies[n], '=');
        *value = 0;
        items[n] = (pawl_setting){copies[n], value + 1, 11 + (uint32_t)n};
    }
    *out = (pawl_processor_ops)PAWL_PROCESSOR_OPS_INIT;
    int rc = pawl_processor_make(type, &(pawl_settings){.items = items, .count = n}, out, e);
    memset(copies, 'x', sizeof copies); /* they need not live on */
    return rc;
}

static void attach(struct fixture *f, const char *name, const char *from, const char *type,
                   const char *const *texts) {
    pawl_error e = {0};
    pawl_stream_info info;
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    assert_int_equal(pawl_stream_find(f->log, from, &info), 0);
    c.name = name, c.inputs = &info.id, c.input_count = 1, c.retries = 0;
    if (make(type, texts, &f->ops[f->count], &e) != 0 ||
        pawl_processor_attach(f->log, &c, &f->ops[f->count], &f->processors[f->count], &e) != 0)
        fail_msg("%s: %s", type, e.message);
    f->count++;
}

static void append(struct fixture *f, const char *key, const char *value) {
    pawl_header h = {"kind", "even", 4, 4};
    pawl_record r = {.key = key,
                     .value = value,
                     .key_len = (uint16_t)strlen(key),
                     .value_len = (uint32_t)strlen(value)};
    if (strlen(value) % 2 == 0)
        r.headers = &h, r.header_count = 1;
    assert_int_equal(pawl_append(f->log, f->in, 0, &r, NULL), 0);
}

/* "key:value " for each record of the stream's first partition. */
static const char *content(struct fixture *f, const char *name) {
    static char text[8192];
    pawl_stream_info info;
    pawl_bounds b;
    pawl_reader *r;
    size_t n = 0;
    assert_int_equal(pawl_stream_find(f->log, name, &info), 0);
    assert_int_equal(pawl_partition_bounds(f->log, info.id, 0, &b), 0);
    assert_int_equal(pawl_reader_open(f->log, info.id, 0, b.first, 0, &r), 0);
    text[0] = 0;
    while (pawl_reader_position(r) < b.durable) {
        pawl_batch batch;
        assert_true(pawl_read(r, 0, 1000, &batch) > 0);
        for (size_t i = 0; i < batch.count; i++) {
            const pawl_record *x = &batch.records[i];
            n += (size_t)snprintf(text + n, sizeof text - n, "%.*s:%.*s ", x->key_len,
                                  x->key_len != 0 ? (const char *)x->key : "", (int)x->value_len,
                                  x->value_len != 0 ? (const char *)x->value : "");
            assert_true(n < sizeof text);
        }
    }
    pawl_reader_close(r);
    return text;
}

/* Without PCRE2 there are no patterns: what needs them says so, and is passed over here. */
static bool has_patterns(void) {
    pawl_processor_ops ops;
    pawl_error e = {0};
    int rc = make("regex", (const char *[]){"to=out", "pattern=(?<a>.)", NULL}, &ops, &e);
    if (rc == 0)
        ops.destroy(ops.self);
    else if (rc != PAWL_NOT_FOUND || strstr(e.message, "no regular expressions") == NULL)
        fail_msg("%s", e.message);
    return rc == 0;
}

static bool wants_pattern(const char *const *settings) {
    return settings[1] != NULL &&
           (strncmp(settings[1], "pattern=", 8) == 0 || strncmp(settings[1], "match=", 6) == 0);
}

static const struct {
    const char *type, *settings[6];
    const char *in[5], *out, *rest;
} types[] = {
    {"regex",
     {"to=out", "pattern=^(?<n>\\d+) (?<w>\\w+)$", "key=w", "rest=rest"},
     {"1 one", "none", "2 two"},
     "one:{\"n\":\"1\",\"w\":\"one\"} two:{\"n\":\"2\",\"w\":\"two\"} ",
     "k:none "},
    {"json",
     {"to=out", "fields.n=a.0", "fields.who=$['w h']", "key=a[1]"},
     {"{\"a\":[12345678901234567890.10, {\"b\" : \"x \\\" \"}], \"w h\":\"\\u00e9\"}", "[]"},
     "{\"b\":\"x \\\" \"}:{\"n\":12345678901234567890.10,\"who\":\"\\u00e9\"} "
     ":{\"n\":null,\"who\":null} ",
     ""},
    {"filter",
     {"to=out", "of=json:a", "equals=x\xC3\xA9"},
     {"{\"a\":\"x\\u00e9\"}", "{\"a\":1}", "{}"},
     "k:{\"a\":\"x\\u00e9\"} ",
     ""},
    {"filter",
     {"to=out", "match=^B", "caseless=true", "invert=true"},
     {"a", "b", "B", "c"},
     "k:a k:c ",
     ""},
    {"filter", {"to=out", "of=header:kind", "equals=even"}, {"a", "bb", "ccc"}, "k:bb ", ""},
    {"filter", {"to=out", "equals=ab"}, {"a", "ab", "", "abc"}, "k:ab ", ""},
    {"filter",
     {"to=out", "of=header:kinds", "equals=even", "invert=true"},
     {"a", "bb"},
     "k:a k:bb ",
     ""},
    {"regex", {"to=out", "pattern=(?<a>x)?(?<b>y)"}, {"y"}, "k:{\"a\":null,\"b\":\"y\"} ", ""},
    {"route", {"by=value", "routes.a=out", "otherwise=rest"}, {"a", "b"}, "k:a ", "k:b "},
    {"route",
     {"by=value", "routes.ab=out", "otherwise=rest"},
     {"a", "ab", "abc"},
     "k:ab ",
     "k:a k:abc "},
    {"route",
     {"by=json:t", "routes.a=out", "routes.{\"x\":1}=rest"},
     {"{\"t\":\"a\"}", "{\"t\": {\"x\": 1}}", "{}"},
     "k:{\"t\":\"a\"} ",
     "k:{\"t\": {\"x\": 1}} "},
    {"dedup",
     {"to=out", "id=value", "window=2"},
     {"a", "b", "a", "c", "a"},
     "k:a k:b k:c k:a ",
     ""},
    {"exec", {"to=out", "command=tr a-z A-Z; test $PAWL_STREAM = in"}, {"a", "b"}, ":A :B ", ""},
    {"exec", {"to=out", "command=cat; printf z"}, {"a"}, ":a :z ", ""},
    {"exec", {"command.1=s/a/$/", "command.0=sed", "to=out"}, {"a"}, ":$ ", ""},
};

static void each_type(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (wants_pattern(types[i].settings) && !has_patterns())
            continue;
        struct fixture *f = new_fixture();
        uint64_t taken, emitted;
        for (size_t k = 0; k < 5 && types[i].in[k] != NULL; k++)
            append(f, "k", types[i].in[k]);
        attach(f, "p", "in", types[i].type, types[i].settings);
        assert_string_equal(f->ops[0].type, types[i].type);
        assert_int_equal((f->ops[0].flags & PAWL_PROCESSOR_ACTS_OUTSIDE) != 0,
                         strcmp(types[i].type, "exec") == 0);
        if (pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE) != 0) {
            pawl_error e;
            pawl_last_error(&e);
            fail_msg("%s: %s", types[i].type, e.message);
        }
        assert_string_equal(content(f, "out"), types[i].out);
        assert_string_equal(content(f, "rest"), types[i].rest);
        f->ops[0].counts(f->ops[0].self, &taken, &emitted);
        assert_true(taken >= 1 && emitted >= 1);
        free_fixture(f);
    }
}

/* A record that can't be taken stops the processor, which says why. */
static void what_fails(void **state) {
    static const struct {
        const char *type, *settings[5], *in, *says;
    } cases[] = {
        {"regex",
         {"to=out", "pattern=(?<a>x)", "no_match=fail"},
         "y",
         "the pattern does not match"},
        {"json", {"to=out", "fields.a=x", "missing=fail"}, "{}", "a member that is wanted is miss"},
        {"json", {"to=out", "fields.a=x"}, "\"x\"", "the value is not a JSON object or list"},
        {"json", {"to=out", "fields.a=x"}, "{\"x\":01}", "no valid number"},
        {"filter", {"to=out", "of=json:x", "equals=1"}, "{", "a name in quotes is missing"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (wants_pattern(cases[i].settings) && !has_patterns())
            continue;
        struct fixture *f = new_fixture();
        pawl_error e;
        append(f, "k", cases[i].in);
        attach(f, "p", "in", cases[i].type, cases[i].settings);
        assert_int_equal(pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE), PAWL_PROCESSOR);
        pawl_last_error(&e);
        if (strstr(e.message, cases[i].says) == NULL)
            fail_msg("%s says: %s", cases[i].type, e.message);
        assert_string_equal(content(f, "out"), "");
        free_fixture(f);
    }
}

/* More members than the scanner finds at once. */
static void many_members(void **state) {
    enum { MEMBERS = 150 };
    static char names[MEMBERS][16], paths[MEMBERS][16], value[4096], expected[4096];
    pawl_setting items[MEMBERS + 1] = {{"to", "out", 1}};
    (void)state;
    size_t n = 0, m = 0;
    for (unsigned i = 0; i < MEMBERS; i++) {
        snprintf(names[i], sizeof names[i], "fields.n%u", i);
        snprintf(paths[i], sizeof paths[i], "m%u", i);
        items[i + 1] = (pawl_setting){names[i], paths[i], i + 2};
        const char *begins = i == 0 ? "{" : ",";
        n += (size_t)snprintf(value + n, sizeof value - n, "%s\"m%u\":%u", begins, i, i);
        m += (size_t)snprintf(expected + m, sizeof expected - m, "%s\"n%u\":%u",
                              i == 0 ? "k:{" : ",", i, i);
    }
    snprintf(value + n, sizeof value - n, "}");
    snprintf(expected + m, sizeof expected - m, "} ");
    struct fixture *f = new_fixture();
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    c.name = "p", c.inputs = &f->in, c.input_count = 1;
    f->ops[0] = (pawl_processor_ops)PAWL_PROCESSOR_OPS_INIT;
    assert_int_equal(pawl_processor_make("json",
                                         &(pawl_settings){.items = items, .count = MEMBERS + 1},
                                         &f->ops[0], NULL),
                     0);
    assert_int_equal(pawl_processor_attach(f->log, &c, &f->ops[0], &f->processors[0], NULL), 0);
    f->count = 1;
    append(f, "k", value);
    assert_int_equal(pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE), 0);
    assert_string_equal(content(f, "out"), expected);
    free_fixture(f);
}

/* A record that has got a new key goes to the partition of that key. */
static void new_keys_choose_the_partition(void **state) {
    (void)state;
    struct fixture *f = new_fixture();
    uint32_t many;
    uint64_t sum = 0, most = 0;
    assert_int_equal(pawl_stream_create(f->log, "many", 8, &many), 0);
    for (unsigned i = 0; i < 40; i++) {
        char value[24];
        snprintf(value, sizeof value, "{\"id\":%u}", i);
        append(f, "k", value);
    }
    attach(f, "p", "in", "json", (const char *[]){"to=many", "fields.id=id", "key=id", NULL});
    assert_int_equal(pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE), 0);
    for (uint32_t i = 0; i < 8; i++) {
        pawl_bounds b;
        assert_int_equal(pawl_partition_bounds(f->log, many, i, &b), 0);
        sum += b.end;
        most = b.end > most ? b.end : most;
    }
    assert_int_equal(sum, 40);
    assert_in_range(most, 5, 20);
    free_fixture(f);
}

/* What is wrong with settings is told with its line. */
static void wrong_settings(void **state) {
    static const struct {
        const char *type, *settings[6];
        int code;
        const char *says;
    } cases[] = {
        {"rgex", {NULL}, PAWL_NOT_FOUND, "there is no processor of type \"rgex\" in this build"},
        {"file", {NULL}, PAWL_NOT_FOUND, "there is no processor of type \"file\""},
        {"regex", {"pattern=(?<a>.)"}, PAWL_INVALID, "regex needs the setting \"to\""},
        {"regex", {"to=out", "pattern=(?<a>"}, PAWL_INVALID, "line 12: the pattern does not comp"},
        {"regex", {"to=out", "pattern=."}, PAWL_INVALID, "line 12: the pattern has no named gr"},
        {"regex", {"to=out", "pattern=(?<a>.)", "key=b"}, PAWL_INVALID, "line 13: the pattern has"},
        {"regex", {"to=out", "paten=."}, PAWL_INVALID, "line 12: regex has no setting \"paten\""},
        {"regex",
         {"to=out", "pattern=(?<a>.)", "caseless=2"},
         PAWL_INVALID,
         "line 13: caseless must be true or false, not \"2\""},
        {"json", {"to=out"}, PAWL_INVALID, "json needs fields"},
        {"json",
         {"to=out", "fields.a=x..y"},
         PAWL_INVALID,
         "line 12: fields.a = \"x..y\": a name is empty"},
        {"json",
         {"to=out", "fields.a=x", "key=$x"},
         PAWL_INVALID,
         "line 13: key = \"$x\": after $"},
        {"filter",
         {"to=out", "of=nose", "equals=a"},
         PAWL_INVALID,
         "line 12: of must be value, key, json:PATH or header:NAME"},
        {"filter", {"to=out", "equals=a", "of=json:a["}, PAWL_INVALID, "line 13: of = \"json:a[\""},
        {"filter", {"to=out"}, PAWL_INVALID, "filter needs either match or equals"},
        {"route", {"to=out", "routes.a=out"}, PAWL_INVALID, "line 11: route has no setting \"to\""},
        {"route", {"by=key"}, PAWL_INVALID, "route needs routes"},
        {"dedup", {"to=out", "window=0"}, PAWL_INVALID, "line 12: window must be from 1 to"},
        {"exec", {"to=out"}, PAWL_INVALID, "exec needs a command"},
        {"exec", {"to=out", "command.1=x"}, PAWL_INVALID, "the command has no element 0"},
        {"plugin", {"outputs.0=out"}, PAWL_INVALID, "plugin needs the setting \"library\""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        pawl_error e = {0};
        pawl_processor_ops ops;
        if (wants_pattern(cases[i].settings) && !has_patterns())
            continue;
        assert_int_equal(make(cases[i].type, cases[i].settings, &ops, &e), cases[i].code);
        if (strstr(e.message, cases[i].says) == NULL)
            fail_msg("%s says: %s", cases[i].type, e.message);
        assert_int_equal(make(cases[i].type, cases[i].settings, &ops, NULL), cases[i].code);
    }
}

static void refused(struct fixture *f, const pawl_processor_config *c,
                    const pawl_processor_ops *ops, int code, const char *says) {
    pawl_error e = {0};
    assert_int_equal(pawl_processor_attach(f->log, c, ops, NULL, &e), code);
    if (strstr(e.message, says) == NULL)
        fail_msg("it says: %s", e.message);
    assert_int_equal(pawl_processor_attach(f->log, c, ops, NULL, NULL), code);
}

/* What only the log can tell; the ops stay whole, and can be attached afterwards. */
static void wrong_places(void **state) {
    (void)state;
    struct fixture *f = new_fixture();
    pawl_processor_ops ops, *o = &ops;
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    uint32_t two, inputs[2];
    assert_int_equal(pawl_stream_create(f->log, "two", 2, &two), 0);
    c.name = "p", c.inputs = inputs, c.input_count = 1;
    inputs[0] = f->in, inputs[1] = two;
    assert_int_equal(make("filter", (const char *[]){"equals=a", "to=nowhere", NULL}, o, NULL), 0);
    assert_int_equal(o->output_count, 1);
    assert_string_equal(o->outputs[0].name, "to");
    assert_int_equal(o->outputs[0].line, 12);
    refused(f, &c, o, PAWL_NOT_FOUND, "line 12: processor p: to names the stream \"nowhere\"");
    c.inputs = &(uint32_t){77};
    refused(f, &c, o, PAWL_NOT_FOUND, "no stream with the id 77");
    c.inputs = inputs;
    o->destroy(o->self);
    assert_int_equal(make("filter", (const char *[]){"equals=a", "to=in", NULL}, o, NULL), 0);
    refused(f, &c, o, PAWL_INVALID, "line 12: processor p reads the stream \"in\" and writes");
    o->destroy(o->self);
    assert_int_equal(make("dedup", (const char *[]){"to=out", NULL}, o, NULL), 0);
    assert_int_equal(o->flags, PAWL_PROCESSOR_KEEPS_TABLES);
    o->flags |= PAWL_PROCESSOR_KEEPS_STATE; /* as a program's own may be */
    c.guarantee = PAWL_AT_LEAST_ONCE;
    refused(f, &c, o, PAWL_INVALID, "must be exactly-once");
    c.guarantee = PAWL_EXACTLY_ONCE, c.input_count = 2;
    refused(f, &c, o, PAWL_INVALID, "needs one input");
    c.inputs = &two, c.input_count = 1;
    refused(f, &c, o, PAWL_INVALID, "as many partitions");
    o->flags = PAWL_PROCESSOR_KEEPS_TABLES;
    c.inputs = inputs, c.name = "a name";
    refused(f, &c, o, PAWL_INVALID, "name");
    c.name = NULL;
    refused(f, &c, o, PAWL_INVALID, "needs a name");
    c.name = "p", c.struct_size = 87; /* the first release's had 88 bytes */
    refused(f, &c, o, PAWL_INVALID, "pawl_processor_config was not initialised");
    c.struct_size = sizeof c;
    assert_int_equal(pawl_processor_attach(f->log, &c, o, &f->processors[0], NULL), 0);
    refused(f, &c, o, PAWL_EXISTS, "added already");
    f->ops[0] = *o;
    f->count = 1;
    append(f, "k", "a");
    assert_int_equal(pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE), 0);
    pawl_processor_remove(f->processors[0]); /* and once more, beginning anew */
    assert_int_equal(pawl_processor_attach(f->log, &c, o, &f->processors[0], NULL), 0);
    append(f, "k", "a");
    append(f, "l", "a");
    assert_int_equal(pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE), 0);
    assert_string_equal(content(f, "out"), "k:a l:a ");
    free_fixture(f);
}

static void attach_chain(struct fixture *f) {
    attach(f, "parse", "in", "regex", (const char *[]){"to=mid", "pattern=^(?<id>\\d+)", NULL});
    attach(f, "once", "mid", "dedup",
           (const char *[]){"id=json:id", "window=1000", "to=out", NULL});
}

/* Two in a chain; a writer that is unsure repeats all it has sent, after each reopening. */
static void once_through_reopening(void **state) {
    (void)state;
    if (!has_patterns())
        SKIP("built without PCRE2");
    struct fixture *f = new_fixture();
    char value[64], expected[2048];
    size_t n = 0;
    assert_int_equal(pawl_stream_create(f->log, "mid", 1, NULL), 0);
    for (unsigned i = 0; i < 5; i++) {
        for (unsigned k = 0; k < 20 * (i + 1); k++) {
            snprintf(value, sizeof value, "%u of round %u", k, i);
            append(f, "", value);
        }
        attach_chain(f);
        assert_int_equal(pawl_run(f->log, i % 3, PAWL_RUN_UNTIL_IDLE), 0);
        close_log(f);
        open_log(f);
    }
    expected[0] = 0;
    for (unsigned k = 0; k < 100; k++)
        n += (size_t)snprintf(expected + n, sizeof expected - n, ":{\"id\":\"%u\"} ", k);
    assert_string_equal(content(f, "out"), expected);
    free_fixture(f);
}

/* A batch that fails leaves nothing behind; the next run goes on with it, and each comes once. */
static void once_through_failures(void **state) {
    (void)state;
    struct fixture *f = new_fixture();
    char command[160];
    append(f, "", "a");
    append(f, "", "b");
    snprintf(command, sizeof command, "command=cat; test -e %s/mended", f->dir);
    const char *settings[] = {command, "to=out", "timeout=20s", NULL};
    attach(f, "p", "in", "exec", settings);
    assert_int_equal(pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE), PAWL_PROCESSOR);
    pawl_error e;
    pawl_last_error(&e);
    assert_non_null(strstr(e.message, "/bin/sh ended with status 1"));
    assert_string_equal(content(f, "out"), "");
    close_log(f);
    snprintf(command, sizeof command, "touch %s/mended", f->dir);
    assert_int_equal(system(command), 0);
    open_log(f);
    snprintf(command, sizeof command, "command=cat; test -e %s/mended", f->dir);
    attach(f, "p", "in", "exec", settings);
    assert_int_equal(pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE), 0);
    assert_string_equal(content(f, "out"), ":a :b ");
    free_fixture(f);
}

/* What a program's status says, where the policy is to skip, after one more attempt. Each line of a
 * batch is echoed, and `at_b` is run at the line b. */
static const struct {
    const char *label, *at_b;
    int run;
    const char *out;
    uint64_t refused;
    const char *says;
} statuses[] = {
    {"processed", ":", 0, ":a :b :c ", 0, ""},
    {"65: the record", "exit 65", 0, ":a :c ", 1, ""},
    {"1: it may be the record", "exit 1", 0, ":a :c ", 1, ""},
    {"74: no status of its own", "exit 74", 0, ":a :c ", 1, ""},
    {"a signal", "kill -9 $$", 0, ":a :c ", 1, ""},
    {"75, more often than there are attempts", "echo >>$0; test $(wc -l <$0) -gt 5 || exit 75", 0,
     ":a :b :c ", 0, ""},
    {"75 and 1 in turn: the attempts count",
     "echo >>$0; test $(($(wc -l <$0) % 2)) = 0 && exit 1; exit 75", 0, ":a :c ", 1, ""},
    {"78: the program", "exit 78", PAWL_PROCESSOR, "", 0,
     "p can\'t go on: sh ended with status 78"},
    {"126", "exit 126", PAWL_PROCESSOR, "", 0, "status 126"},
    {"127: not found", "no-such-program || exit $?", PAWL_PROCESSOR, "", 0, "status 127"},
    {"it can't be run", NULL, PAWL_PROCESSOR, "", 0, "can\'t go on: no-such-program cannot be run"},
};

static void what_a_status_says(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        struct fixture *f = new_fixture();
        char script[300], counter[100], why[256];
        uint64_t refused;
        const bool there = statuses[i].at_b != NULL;
        snprintf(script, sizeof script,
                 "while read v; do if [ $v = b ]; then %s; fi; echo $v; done",
                 there ? statuses[i].at_b : "");
        snprintf(counter, sizeof counter, "%s/counter", f->dir);
        const pawl_setting items[] = {{"to", "out", 1},
                                      {"command.0", there ? "sh" : "no-such-program", 2},
                                      {"command.1", "-c", 3},
                                      {"command.2", script, 4},
                                      {"command.3", counter, 5}};
        pawl_processor_config c = PAWL_PROCESSOR_INIT;
        c.name = "p", c.inputs = &f->in, c.input_count = 1;
        c.on_error = PAWL_ON_ERROR_SKIP, c.retries = 1, c.backoff_ms = 1;
        for (const char *v = "abc"; *v != 0; v++)
            append(f, "", (char[]){*v, 0});
        f->ops[0] = (pawl_processor_ops)PAWL_PROCESSOR_OPS_INIT;
        assert_int_equal(pawl_processor_make("exec", &(pawl_settings){.items = items, .count = 5},
                                             &f->ops[0], NULL),
                         0);
        assert_int_equal(pawl_processor_attach(f->log, &c, &f->ops[0], &f->processors[0], NULL), 0);
        f->count = 1;
        int rc = pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE);
        pawl_error e;
        pawl_last_error(&e);
        if (rc != statuses[i].run || (rc != 0 && strstr(e.message, statuses[i].says) == NULL))
            fail_msg("%s: %d %s", statuses[i].label, rc, e.message);
        assert_int_equal(pawl_processor_refused(f->processors[0], &refused, why, sizeof why), 0);
        if (refused != statuses[i].refused || strcmp(content(f, "out"), statuses[i].out) != 0)
            fail_msg("%s: %llu refused, %s", statuses[i].label, (unsigned long long)refused,
                     content(f, "out"));
        free_fixture(f);
    }
}

/* A program that hangs is ended in time, also one that has closed its output. */
static void late_program(void **state) {
    static const char *const commands[] = {"command=exec >&-; sleep 1000", "command=sleep 1000"};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct fixture *f = new_fixture();
        pawl_error e;
        append(f, "", "a");
        attach(f, "p", "in", "exec",
               (const char *[]){commands[i], "to=out", "timeout=200ms", NULL});
        assert_int_equal(pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE), PAWL_PROCESSOR);
        pawl_last_error(&e);
        assert_non_null(strstr(e.message, "took longer than 200 ms and was killed"));
        free_fixture(f);
    }
}

/* Where no setting has a line, none is told. */
static void no_lines(void **state) {
    pawl_error e = {0};
    pawl_processor_ops ops = PAWL_PROCESSOR_OPS_INIT;
    const pawl_setting s[] = {{.name = "to", .value = "out"}, {.name = "window", .value = "0"}};
    (void)state;
    assert_int_equal(
        pawl_processor_make("dedup", &(pawl_settings){.items = s, .count = 2}, &ops, &e),
        PAWL_INVALID);
    assert_string_equal(e.message, "window must be from 1 to 1000000000");
}

static void list(void **state) {
    static const char *const names[] = {"regex", "json",  "filter", "route",     "dedup", "count",
                                        "last",  "table", "rekey",  "aggregate", "exec",  "plugin"};
    const pawl_connector *c;
    size_t n = 0;
    (void)state;
    for (uint32_t i = 0; (c = pawl_connector_at(i)) != NULL; i++)
        n += c->make_processor != NULL;
    assert_int_equal(n, sizeof names / sizeof names[0]);
    for (size_t i = 0; i < n; i++) {
        c = pawl_connector_find(names[i], PAWL_KIND_PROCESSOR);
        assert_non_null(c);
        assert_true(c->make_sink == NULL && c->make_source == NULL);
    }
    assert_ptr_not_equal(pawl_connector_find("exec", PAWL_KIND_SINK),
                         pawl_connector_find("exec", PAWL_KIND_PROCESSOR));
    assert_null(pawl_connector_find("regex", PAWL_KIND_SINK));
    assert_null(pawl_connector_find("regex", 3));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(list),
        cmocka_unit_test(each_type),
        cmocka_unit_test(what_fails),
        cmocka_unit_test(many_members),
        cmocka_unit_test(new_keys_choose_the_partition),
        cmocka_unit_test(wrong_settings),
        cmocka_unit_test(no_lines),
        cmocka_unit_test(wrong_places),
        cmocka_unit_test(once_through_reopening),
        cmocka_unit_test(once_through_failures),
        cmocka_unit_test(what_a_status_says),
        cmocka_unit_test(late_program),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
