/* SPDX-License-Identifier: Apache-2.0
 *
 * The built-in processors that keep tables: what each emits and keeps, by a table of cases; that a
 * batch which fails leaves no trace; which changed settings are refused, because what the table
 * holds would get another meaning; and where they can't be attached.
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
#include "pawl_state.h"

#define PARTITIONS 4

struct fixture {
    char dir[64];
    pawl *log;
    uint32_t in, more, many, odd; /* streams: one partition, one, 4, 3 */
};

static uint32_t stream(pawl *log, const char *name, uint32_t partitions) {
    uint32_t id;
    int rc = pawl_stream_create(log, name, partitions, &id);
    assert_true(rc == 0 || rc == PAWL_EXISTS);
    return id;
}

static void open_log(struct fixture *f) {
    pawl_options o = PAWL_OPTIONS_INIT;
    char log[96];
    snprintf(log, sizeof log, "%s/log", f->dir);
    o.flags = PAWL_OPEN_CREATE;
    o.segment_size = 1u << 20;
    assert_int_equal(pawl_open(log, &o, &f->log, NULL), 0);
    f->in = stream(f->log, "in", 1);
    f->more = stream(f->log, "more", 1);
    f->many = stream(f->log, "many", PARTITIONS);
    f->odd = stream(f->log, "odd", 3);
    (void)stream(f->log, "out", 1);
    (void)stream(f->log, "keyed", PARTITIONS);
}

static struct fixture *new_fixture(void) {
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    strcpy(f->dir, "/tmp/test_processor_state.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    open_log(f);
    return f;
}

static void reopen(struct fixture *f) {
    assert_int_equal(pawl_close(f->log), 0);
    open_log(f);
}

static void free_fixture(struct fixture *f) {
    char command[96];
    assert_int_equal(pawl_close(f->log), 0);
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

static void append(struct fixture *f, uint32_t to, uint32_t partition, const char *key,
                   const char *value) {
    pawl_record r = {.key = key,
                     .value = value,
                     .key_len = (uint16_t)strlen(key),
                     .value_len = (uint32_t)strlen(value)};
    assert_int_equal(pawl_append(f->log, to, partition, &r, NULL), 0);
}

/* One processor, as it is attached, run until idle, and removed. */
struct run {
    const char *name, *type;
    const char *const *settings;
    uint32_t inputs[2], input_count;
    int32_t guarantee, on_error;
    uint32_t threads;
};

static int run(struct fixture *f, const struct run *r, pawl_error *e) {
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    pawl_processor_ops ops;
    pawl_processor *processor;
    *e = (pawl_error){0};
    int rc = make(r->type, r->settings, &ops, e);
    if (rc < 0)
        return rc;
    c.name = r->name, c.inputs = r->inputs, c.input_count = r->input_count, c.retries = 0;
    c.guarantee = r->guarantee, c.on_error = r->on_error;
    rc = pawl_processor_attach(f->log, &c, &ops, &processor, e);
    if (rc == 0) {
        rc = pawl_run(f->log, r->threads, PAWL_RUN_UNTIL_IDLE);
        if (rc < 0)
            pawl_last_error(e);
        pawl_processor_remove(processor);
    }
    ops.destroy(ops.self);
    return rc;
}

static void runs(struct fixture *f, const struct run *r) {
    pawl_error e;
    if (run(f, r, &e) != 0)
        fail_msg("%s: %s", r->type, e.message);
}

static void refused(struct fixture *f, const struct run *r, int code, const char *says) {
    pawl_error e;
    int rc = run(f, r, &e);
    if (rc != code || strstr(e.message, says) == NULL)
        fail_msg("%s: %d, not %d: %s", r->type, rc, code, e.message);
}

static char *add_pair(char *to, const char *end, const void *key, size_t key_len, const void *value,
                      size_t value_len) {
    int n = snprintf(to, (size_t)(end - to), "%.*s:%.*s ", (int)key_len,
                     key_len != 0 ? (const char *)key : "", (int)value_len,
                     value_len != 0 ? (const char *)value : "");
    assert_in_range(n, 0, end - to - 1);
    return to + n;
}

/* "key:value " for each record of a stream, partition by partition. */
static const char *content(struct fixture *f, const char *name) {
    static char text[65536];
    char *at = text;
    pawl_stream_info info;
    assert_int_equal(pawl_stream_find(f->log, name, &info), 0);
    text[0] = 0;
    for (uint32_t p = 0; p < info.partitions; p++) {
        pawl_bounds b;
        pawl_reader *r;
        assert_int_equal(pawl_partition_bounds(f->log, info.id, p, &b), 0);
        assert_int_equal(pawl_reader_open(f->log, info.id, p, b.first, 0, &r), 0);
        while (pawl_reader_position(r) < b.durable) {
            pawl_batch batch;
            assert_true(pawl_read(r, 0, 1000, &batch) > 0);
            for (size_t i = 0; i < batch.count; i++)
                at =
                    add_pair(at, text + sizeof text, batch.records[i].key, batch.records[i].key_len,
                             batch.records[i].value, batch.records[i].value_len);
        }
        pawl_reader_close(r);
    }
    return text;
}

/* The same of a table. */
static const char *table(struct fixture *f, const char *name) {
    static char text[65536];
    char *at = text;
    pawl_table_info info = PAWL_TABLE_INFO_INIT;
    assert_int_equal(pawl_table_find(f->log, name, &info), 0);
    text[0] = 0;
    for (uint32_t p = 0; p < info.partitions; p++) {
        pawl_state_cursor *c;
        pawl_state_pair pair;
        int rc;
        assert_int_equal(pawl_table_scan(f->log, info.id, p, NULL, &c), 0);
        while ((rc = pawl_state_next(c, &pair)) == 1)
            at = add_pair(at, text + sizeof text, pair.key, pair.key_len, pair.value,
                          pair.value_len);
        assert_int_equal(rc, 0);
        pawl_state_close(c);
    }
    return text;
}

/* Without PCRE2 there are no patterns: cases that need them are passed over. */
static bool possible(const char *const *settings) {
    pawl_processor_ops ops;
    pawl_error e = {0};
    bool wants = false;
    for (size_t i = 0; settings[i] != NULL; i++)
        wants = wants || strncmp(settings[i], "match=", 6) == 0;
    if (!wants || make("filter", (const char *[]){"to=x", "match=x", NULL}, &ops, &e) < 0)
        return !wants;
    ops.destroy(ops.self);
    return true;
}

/* ---- what each emits and keeps */

struct text {
    const char *key, *value;
};
static const struct {
    const char *label, *type, *settings[8];
    struct text in[8];
    const char *out, *table;
} types[] = {
    {"by key",
     "count",
     {"to=out"},
     {{"a", "x"}, {"b", "x"}, {"a", "y"}, {"", "no key"}},
     "a:1 b:1 a:2 ",
     "a:2 b:1 "},
    {"by value",
     "count",
     {"to=out", "by=value"},
     {{"", "x"}, {"k", "x"}, {"k", ""}},
     "x:1 x:2 ",
     "x:2 "},
    {"by a member",
     "count",
     {"to=out", "by=json:u.n"},
     {{"", "{\"u\":{\"n\":7}}"}, {"", "{\"u\":{\"n\":\"7\"}}"}, {"", "{}"}, {"", "{\"u\":null}"}},
     "7:1 7:2 ",
     "7:2 "},
    {"a group of a match",
     "count",
     {"to=out", "by=value", "match=from (\\S+)"},
     {{"", "login from h1 from h2"}, {"", "nothing"}, {"", "from h1"}},
     "h1:1 h1:2 ",
     "h1:2 "},
    {"a whole match",
     "count",
     {"to=out", "by=value", "match=(?:b|c)+", "caseless=true"},
     {{"", "abba"}, {"", "aBBa"}},
     "bb:1 BB:1 ",
     "BB:1 bb:1 "},
    {"all matches",
     "count",
     {"to=out", "by=value", "match=\\w+", "all=true"},
     {{"", "a b, a"}, {"", "b"}, {"", " - "}},
     "a:1 b:1 a:2 b:2 ",
     "a:2 b:2 "},
    {"empty matches end",
     "count",
     {"by=value", "match=x*", "all=true"},
     {{"", "axxbx"}},
     "",
     "x:1 xx:1 "},
    {"without a stream", "count", {"by=value"}, {{"", "x"}, {"", "x"}}, "", "x:2 "},
    {"every third",
     "count",
     {"to=out", "every=3"},
     {{"a", ""}, {"a", ""}, {"b", ""}, {"a", ""}, {"a", ""}, {"b", ""}},
     "a:3 ",
     "a:4 b:2 "},
    {"once a batch",
     "count",
     {"to=out", "emit=batch"},
     {{"b", ""}, {"a", ""}, {"b", ""}, {"ba", ""}},
     "a:1 b:2 ba:1 ",
     "a:1 b:2 ba:1 "},
    {"a new value",
     "last",
     {"to=out"},
     {{"a", "1"}, {"b", "1"}, {"a", "1"}, {"a", "2"}, {"a", ""}, {"a", ""}, {"a", "1"}},
     "a:1 b:1 a:2 a: a:1 ",
     "a:1 b:1 "},
    {"a member by another",
     "last",
     {"to=out", "by=json:id", "of=json:t"},
     {{"", "{\"id\":[1, 2],\"t\":{\"c\" : 5}}"},
      {"", "{\"id\":[1,2],\"t\":{\"c\":5}}"},
      {"", "{\"id\":3}"},
      {"", "{\"t\":3}"},
      {"", "{\"id\":[1,2],\"t\":6}"}},
     "[1,2]:{\"c\":5} [1,2]:6 ",
     "[1,2]:6 "},
    {"changes and deletions",
     "table",
     {"to=out"},
     {{"a", "1"}, {"b", "1"}, {"a", "1"}, {"a", ""}, {"a", ""}, {"c", ""}, {"b", "2"}, {"a", "3"}},
     "a:1 b:1 a: b:2 a:3 ",
     "a:3 b:2 "},
    {"a table alone", "table", {NULL}, {{"a", "1"}, {"a", "2"}, {"b", "1"}, {"b", ""}}, "", "a:2 "},
    {"a part of the value, and a deletion",
     "table",
     {"of=json:x"},
     {{"a", "{\"x\":1}"}, {"b", "{\"x\":2}"}, {"a", "{}"}, {"b", ""}, {"c", "{\"x\":\"\"}"}},
     "",
     "a:1 c: "},
};

static void each_type(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (!possible(types[i].settings))
            continue;
        struct fixture *f = new_fixture();
        struct run r = {.name = "p", .type = types[i].type, .settings = types[i].settings};
        r.inputs[0] = f->in, r.input_count = 1;
        for (size_t k = 0; k < 8 && types[i].in[k].key != NULL; k++)
            append(f, f->in, 0, types[i].in[k].key, types[i].in[k].value);
        runs(f, &r);
        reopen(f);
        runs(f, &r); /* nothing new: nothing happens */
        if (strcmp(content(f, "out"), types[i].out) != 0 ||
            strcmp(table(f, "p"), types[i].table) != 0)
            fail_msg("%s: \"%s\", and the table \"%s\"", types[i].label, content(f, "out"),
                     table(f, "p"));
        free_fixture(f);
    }
}

/* A record that is refused in the middle of a batch costs itself alone, and what was counted before
 * it in the failed attempt isn't counted twice. */
static void a_failed_batch_leaves_no_trace(void **state) {
    static const char *const settings[] = {"to=out", "by=json:x", "missing=fail", NULL};
    (void)state;
    struct fixture *f = new_fixture();
    struct run r = {"p", "count", settings, {f->in}, 1, 0, PAWL_ON_ERROR_SKIP, 0};
    for (int i = 0; i < 3; i++) {
        append(f, f->in, 0, "", "{\"x\":1}");
        append(f, f->in, 0, "", i == 1 ? "{" : "{}");
    }
    append(f, f->in, 0, "", "{\"x\":1}");
    runs(f, &r);
    assert_string_equal(content(f, "out"), "1:1 1:2 1:3 1:4 ");
    assert_string_equal(table(f, "p"), "1:4 ");
    free_fixture(f);
}

/* A text that is too long for a key costs its record. */
static void too_long(void **state) {
    (void)state;
    struct fixture *f = new_fixture();
    static char longest[PAWL_STATE_KEY_MAX + 1], longer[PAWL_STATE_KEY_MAX + 2];
    static const char *const settings[] = {"by=value", NULL};
    struct run r = {"p", "count", settings, {f->in}, 1, 0, PAWL_ON_ERROR_SKIP, 0};
    memset(longest, 'x', PAWL_STATE_KEY_MAX);
    memset(longer, 'x', PAWL_STATE_KEY_MAX + 1);
    append(f, f->in, 0, "", longer);
    append(f, f->in, 0, "", longest);
    append(f, f->in, 0, "", longer);
    runs(f, &r);
    assert_int_equal(strlen(table(f, "p")), PAWL_STATE_KEY_MAX + 3); /* ":1 " */
    r.on_error = PAWL_ON_ERROR_STOP;
    append(f, f->in, 0, "", longer);
    refused(f, &r, PAWL_PROCESSOR, "longer than 8,192 bytes");
    free_fixture(f);
}

/* A batch whose changes together are more than a commit takes is split, not refused. */
static void many_changes(void **state) {
    enum { WORDS = 60000 };
    static const char *const settings[] = {"by=value", "match=\\w+", "all=true", NULL};
    (void)state;
    if (!possible(settings))
        return;
    struct fixture *f = new_fixture();
    struct run r = {"p", "count", settings, {f->in}, 1, 0, PAWL_ON_ERROR_STOP, 0};
    char line[4096];
    for (unsigned i = 0; i < WORDS;) {
        size_t n = 0;
        for (; n < 4000 && i < WORDS; i++)
            n += (size_t)snprintf(line + n, sizeof line - n, "%x ", i);
        append(f, f->in, 0, "", line);
    }
    runs(f, &r);
    pawl_table_info info = PAWL_TABLE_INFO_INIT;
    assert_int_equal(pawl_table_find(f->log, "p", &info), 0);
    assert_int_equal(info.pairs, WORDS);
    free_fixture(f);
}

/* ---- partitions */

/* Records of a key lie in one partition, which counts them; several threads, two inputs. */
static void partitions(void **state) {
    (void)state;
    struct fixture *f = new_fixture();
    uint32_t second = stream(f->log, "many2", PARTITIONS);
    static const char *const settings[] = {NULL};
    struct run r = {"p", "count", settings, {f->many, second}, 2, 0, 0, 3};
    char key[8];
    for (unsigned i = 0; i < 600; i++) {
        snprintf(key, sizeof key, "k%u", i % 10);
        append(f, i % 3 == 0 ? second : f->many, PAWL_ANY, key, "");
    }
    runs(f, &r);
    pawl_table_info info = PAWL_TABLE_INFO_INIT;
    assert_int_equal(pawl_table_find(f->log, "p", &info), 0);
    assert_int_equal(info.partitions, PARTITIONS);
    assert_int_equal(info.pairs, 10);
    for (unsigned i = 0; i < 10; i++) {
        char value[8];
        size_t len;
        snprintf(key, sizeof key, "k%u", i);
        assert_int_equal(
            pawl_table_get(f->log, info.id, PAWL_ANY, key, 2, value, sizeof value, &len), 1);
        assert_int_equal(len, 2);
        assert_memory_equal(value, "60", 2);
    }
    free_fixture(f);
}

/* A record that isn't where its key belongs can't be counted there: the processor says so and
 * stops, whatever its policy, until a rekey puts the records where they belong. */
static void elsewhere(void **state) {
    (void)state;
    struct fixture *f = new_fixture();
    static const char *const by_key[] = {NULL}, *const rekey[] = {"to=keyed", "by=key", NULL},
                             *const member[] = {"to=keyed", "by=json:n", NULL};
    struct run r = {"p", "count", by_key, {f->many}, 1, 0, PAWL_ON_ERROR_SKIP, 0};
    uint32_t keyed = stream(f->log, "keyed", PARTITIONS);
    for (uint32_t i = 0; i < PARTITIONS; i++)
        append(f, f->many, i, "k", "{\"n\":5}");
    refused(f, &r, PAWL_PROCESSOR, "in another partition than its key belongs to");
    runs(f, &(struct run){"by-key", "rekey", rekey, {f->many}, 1, 0, 0, 0});
    runs(f, &(struct run){"q", "count", by_key, {keyed}, 1, 0, 0, 0});
    assert_string_equal(table(f, "q"), "k:4 ");
    runs(f, &(struct run){"by-n", "rekey", member, {f->many}, 1, 0, 0, 0});
    runs(f, &(struct run){"q", "count", by_key, {keyed}, 1, 0, 0, 0});
    assert_string_equal(table(f, "q"),
                        strcmp(table(f, "q"), "5:4 k:4 ") == 0 ? "5:4 k:4 " : "k:4 5:4 ");
    free_fixture(f);
}

static void wrong_places(void **state) {
    (void)state;
    struct fixture *f = new_fixture();
    static const char *const by_key[] = {NULL}, *const by_value[] = {"by=value", NULL};
    const struct {
        struct run run;
        int code;
        const char *says;
    } cases[] = {
        {{"p", "count", by_value, {f->many}, 1, 0, 0, 0},
         PAWL_INVALID,
         "\"many\" has 4 partitions: records that belong together would be in several"},
        {{"p", "last", by_value, {f->many}, 1, 0, 0, 0}, PAWL_INVALID, "type rekey"},
        {{"p", "table", by_value, {f->in, f->odd}, 2, 0, 0, 0}, PAWL_INVALID, "as many partitions"},
        {{"p", "count", by_key, {f->many, f->odd}, 2, 0, 0, 0},
         PAWL_INVALID,
         "\"many\" has 4 and \"odd\" has 3"},
        {{"p", "count", by_key, {f->in}, 1, PAWL_AT_MOST_ONCE, 0, 0},
         PAWL_INVALID,
         "can't be at-most-once"},
        {{"p", "table", by_key, {f->in}, 1, PAWL_AT_MOST_ONCE, 0, 0},
         PAWL_INVALID,
         "can't be at-most-once"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        refused(f, &cases[i].run, cases[i].code, cases[i].says);
    pawl_table_info info = PAWL_TABLE_INFO_INIT;
    assert_int_equal(pawl_table_at(f->log, 0, &info), PAWL_NOT_FOUND); /* nothing was made */
    append(f, f->in, 0, "a", "");
    runs(f, &(struct run){"p", "count", by_key, {f->in}, 1, PAWL_AT_LEAST_ONCE, 0, 0});
    assert_string_equal(table(f, "p"), "a:1 ");
    free_fixture(f);
}

/* ---- settings that change between runs */

static const struct {
    const char *label, *type, *settings[6], *then, *after[6];
    bool well;
} changes[] = {
    {"the same", "count", {"by=value"}, "count", {"by=value"}, true},
    {"a default that is written down",
     "count",
     {"by=value"},
     "count",
     {"by=value", "missing=skip"},
     true},
    {"what is emitted",
     "count",
     {"by=value", "to=out"},
     "count",
     {"by=value", "to=out", "every=10"},
     true},
    {"nothing emitted any more", "count", {"by=value", "to=out"}, "count", {"by=value"}, true},
    {"records that are missed", "count", {"by=value"}, "count", {"by=value", "missing=fail"}, true},
    {"steps of a match",
     "count",
     {"by=value", "match=a"},
     "count",
     {"by=value", "match=a", "match_limit=9999"},
     true},
    {"counted by another part", "count", {"by=value"}, "count", {"by=key"}, false},
    {"a default that isn't any more", "count", {NULL}, "count", {"by=value"}, false},
    {"another member", "count", {"by=json:a"}, "count", {"by=json:b"}, false},
    {"another pattern", "count", {"by=value", "match=a"}, "count", {"by=value", "match=b"}, false},
    {"no pattern any more", "count", {"by=value", "match=a"}, "count", {"by=value"}, false},
    {"every match",
     "count",
     {"by=value", "match=a"},
     "count",
     {"by=value", "match=a", "all=true"},
     false},
    {"upper and lower case",
     "count",
     {"by=value", "match=a"},
     "count",
     {"by=value", "match=a", "caseless=true"},
     false},
    {"another type", "count", {"by=value"}, "last", {"by=value"}, false},
    {"deletions", "last", {"by=key"}, "table", {"by=key"}, false},
    {"another part kept", "table", {"of=value"}, "table", {"of=json:x"}, false},
    {"no table before", "filter", {"to=out", "equals=x"}, "count", {"by=value"}, false},
    {"a table is no use", "count", {"by=value"}, "filter", {"to=out", "equals=x"}, true},
};

static void changed_settings(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        if (!possible(changes[i].settings))
            continue;
        struct fixture *f = new_fixture();
        pawl_error e;
        struct run r = {
            "p", changes[i].type, changes[i].settings, {f->in}, 1, 0, PAWL_ON_ERROR_SKIP, 0};
        append(f, f->in, 0, "a", "a");
        runs(f, &r);
        reopen(f);
        r.type = changes[i].then, r.settings = changes[i].after;
        append(f, f->in, 0, "a", "a");
        int rc = run(f, &r, &e);
        if ((rc == 0) != changes[i].well ||
            (rc < 0 && strstr(e.message, "pawl processor forget DIR p") == NULL))
            fail_msg("%s: %d %s", changes[i].label, rc, e.message);
        r.name = "another", r.type = changes[i].then; /* as the message says */
        runs(f, &r);
        if (rc < 0) { /* what was there goes on as it was */
            r = (struct run){
                "p", changes[i].type, changes[i].settings, {f->in}, 1, 0, PAWL_ON_ERROR_SKIP, 0};
            runs(f, &r);
        }
        free_fixture(f);
    }
}

/* The table's name is the processor's, but what binds them is the owner: a rename keeps it. */
static void names(void **state) {
    (void)state;
    struct fixture *f = new_fixture();
    static const char *const settings[] = {"by=value", NULL};
    struct run r = {"p", "count", settings, {f->in}, 1, 0, 0, 0};
    uint32_t id;
    append(f, f->in, 0, "", "a");
    runs(f, &r);
    assert_int_equal(pawl_rename(f->log, PAWL_NAMED_PROCESSOR, "p", "q"), 0);
    append(f, f->in, 0, "", "a");
    r.name = "q";
    runs(f, &r);
    assert_string_equal(table(f, "p"), "a:2 ");
    r.name = "p"; /* a new one, whose table's name is taken */
    refused(f, &r, PAWL_EXISTS, "another processor has a table of that name");

    assert_int_equal(pawl_table_delete(f->log, "p"), 0);
    r.name = "q";
    refused(f, &r, PAWL_STATE, "has read records already, and has no table");
    assert_int_equal(pawl_table_delete(f->log, "p.settings"), 0);
    refused(f, &r, PAWL_STATE, "has read records already, and has no table");
    assert_int_equal(pawl_processor_forget(f->log, "q"), 0);
    runs(f, &r); /* from the beginning */
    assert_string_equal(table(f, "q"), "a:2 ");

    pawl_table_config c = PAWL_TABLE_CONFIG_INIT; /* a program's own */
    c.name = "own", c.owner = "r", c.partitions = 1;
    assert_int_equal(pawl_processor_register(f->log, "r", NULL), 0);
    assert_int_equal(pawl_table_create(f->log, &c, &id), 0);
    r.name = "r";
    refused(f, &r, PAWL_STATE, "was not made by a processor of type count");
    free_fixture(f);
}

/* A start that was killed between its steps is done by the next one. */
static void killed_while_it_starts(void **state) {
    (void)state;
    struct fixture *f = new_fixture();
    static const char *const by_key[] = {NULL}, *const by_value[] = {"by=value", NULL};
    append(f, f->in, 0, "a", "b");
    runs(f, &(struct run){"p", "count", by_key, {f->more}, 1, 0, 0, 0});
    assert_int_equal(pawl_table_delete(f->log, "p"), 0); /* only the settings were there */
    runs(f, &(struct run){"p", "count", by_value, {f->in}, 1, 0, 0, 0});
    assert_string_equal(table(f, "p"), "b:1 ");
    free_fixture(f);
}

/* Somebody puts something else into the table. */
static void no_count(void **state) {
    static const struct {
        const char *value;
        bool well;
    } cases[] = {{"7", true},
                 {"", false},
                 {"-1", false},
                 {"x", false},
                 {"7 ", false},
                 {"18446744073709551614", true},
                 {"18446744073709551615", false},
                 {"18446744073709551616", false},
                 {"99999999999999999999999", false}};
    static const char *const settings[] = {NULL};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fixture *f = new_fixture();
        struct run r = {"p", "count", settings, {f->in}, 1, 0, PAWL_ON_ERROR_SKIP, 0};
        pawl_table_info info = PAWL_TABLE_INFO_INIT;
        pawl_tx *tx;
        append(f, f->in, 0, "a", "");
        runs(f, &r);
        assert_int_equal(pawl_table_find(f->log, "p", &info), 0);
        assert_int_equal(pawl_begin(f->log, &tx), 0);
        assert_int_equal(
            pawl_tx_state_put(tx, info.id, 0, "a", 1, cases[i].value, strlen(cases[i].value)), 0);
        assert_int_equal(pawl_commit(tx, NULL), 0);
        append(f, f->in, 0, "a", "");
        if (cases[i].well)
            runs(f, &r);
        else
            refused(f, &r, PAWL_PROCESSOR, "a value that is no count");
        free_fixture(f);
    }
}

static void wrong_settings(void **state) {
    static const struct {
        const char *type, *settings[6], *says;
    } cases[] = {
        {"count", {"by=nose"}, "line 11: by must be value, key, json:PATH or header:NAME"},
        {"count", {"by=value", "match=("}, "line 12: the pattern does not compile"},
        {"count", {"by=value", "match=(a)(b)"}, "line 12: match has 2 groups in ()"},
        {"count", {"all=true"}, "line 11: all has no meaning without match"},
        {"count", {"by=value", "caseless=false"}, "line 12: caseless has no meaning without match"},
        {"count", {"emit=batch"}, "line 11: emit has no meaning without to"},
        {"count", {"every=2"}, "line 11: every has no meaning without to"},
        {"count", {"to=out", "every=0"}, "line 12: every must be at least 1"},
        {"count", {"to=out", "emit=batch", "every=2"}, "line 13: every has no meaning with emit"},
        {"count", {"to=out", "emit=all"}, "line 12: emit must be each|batch"},
        {"count", {"of=value"}, "line 11: count has no setting \"of\""},
        {"last", {"of=nose"}, "line 11: of must be value, key"},
        {"last", {"every=2"}, "line 11: last has no setting \"every\""},
        {"table", {"missing=null"}, "line 11: missing must be"},
        {"rekey", {"by=value"}, "rekey needs the setting \"to\""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        pawl_error e = {0};
        pawl_processor_ops ops;
        if (!possible(cases[i].settings))
            continue;
        assert_int_equal(make(cases[i].type, cases[i].settings, &ops, &e), PAWL_INVALID);
        if (strstr(e.message, cases[i].says) == NULL)
            fail_msg("%s says: %s", cases[i].type, e.message);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_type),    cmocka_unit_test(a_failed_batch_leaves_no_trace),
        cmocka_unit_test(too_long),     cmocka_unit_test(many_changes),
        cmocka_unit_test(partitions),   cmocka_unit_test(elsewhere),
        cmocka_unit_test(wrong_places), cmocka_unit_test(changed_settings),
        cmocka_unit_test(names),        cmocka_unit_test(killed_while_it_starts),
        cmocka_unit_test(no_count),     cmocka_unit_test(wrong_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
