/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that reads JSON agrees: the processors json, filter and route, and the columns of
 * sinks, each asked about the same texts. They agree on what is JSON, on what a path finds in it,
 * on the digits, and on the words about what is wrong, with its place. */
#include <setjmp.h>

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connectors/text/columns.h"
#include "connectors/text/json_scan.h"

#undef fail
#include <cmocka.h>

#define NONE "\x01" /* nothing at the path, or null */
#define HALF "half a surrogate pair in a JSON string"

struct json_case {
    const char *label, *path, *text;
    const char *wrong; /* what is said of it; NULL: it is JSON */
    const char *token; /* at the path, as proc_json copies it */
    const char *value; /* as text; NULL: the same as the token */
};

static const struct json_case cases[] = {
    /* numbers: RFC 8259, section 6; the digits stay */
    {"an integer", "v", "{\"v\":42}", NULL, "42", NULL},
    {"minus zero", "v", "{\"v\":-0}", NULL, "-0", NULL},
    {"more digits than a double", "v", "{\"v\":12345678901234567.89}", NULL, "12345678901234567.89",
     NULL},
    {"more than 64 bits", "v", "{\"v\":36893488147419103232}", NULL, "36893488147419103232", NULL},
    {"a large exponent", "v", "{\"v\":1e400}", NULL, "1e400", NULL},
    {"a very large exponent", "v", "{\"v\":-1E+99999999999999999999}", NULL,
     "-1E+99999999999999999999", NULL},
    {"a small exponent", "v", "{\"v\":1e-400}", NULL, "1e-400", NULL},
    {"zeros at the end", "v", "{\"v\":1.500}", NULL, "1.500", NULL},
    {"zeros in an exponent", "v", "{\"v\":1e00}", NULL, "1e00", NULL},
    {"a leading zero", "v", "{\"v\":01}", "no valid number, at byte 7: `}`", NULL, NULL},
    {"a leading plus", "v", "{\"v\":+1}", "no valid number, at byte 5: `+1}`", NULL, NULL},
    {"no digit before the point", "v", "{\"v\":.5}", "no valid number, at byte 5", NULL, NULL},
    {"no digit after the point", "v", "{\"v\":5.}", "without digits after its point, at byte 7",
     NULL, NULL},
    {"no digit in the exponent", "v", "{\"v\":5e}", "without digits in its exponent", NULL, NULL},
    {"a minus alone", "v", "{\"v\":-}", "no valid number, at byte 6", NULL, NULL},
    {"hexadecimal", "v", "{\"v\":0x10}", "a comma or } is missing, at byte 6", NULL, NULL},
    {"NaN", "v", "{\"v\":NaN}", "no valid number, at byte 5: `NaN}`", NULL, NULL},
    {"Infinity", "v", "{\"v\":-Infinity}", "no valid number, at byte 6", NULL, NULL},

    /* paths: a name that meets an array finds nothing */
    {"a name meets an array", "a.v", "{\"a\":[{\"v\":1}]}", NULL, NONE, NULL},
    {"a number meets an array", "a.0.v", "{\"a\":[{\"v\":1}]}", NULL, "1", NULL},
    {"a number meets an object", "a.0", "{\"a\":{\"0\":1}}", NULL, "1", NULL},
    {"brackets meet an array", "a[1]", "{\"a\":[1,2]}", NULL, "2", NULL},
    {"brackets meet an object", "a[0]", "{\"a\":{\"0\":1}}", NULL, NONE, NULL},
    {"a quoted number meets an array", "a['0']", "{\"a\":[1]}", NULL, NONE, NULL},
    {"a number with zeros is a name", "a.01", "{\"a\":[1,2]}", NULL, NONE, NULL},
    {"beyond the end", "a[2]", "{\"a\":[1,2]}", NULL, NONE, NULL},
    {"the first in a list", "[0]", "[7]", NULL, "7", NULL},
    {"a dot in a name", "['a.b']", "{\"a.b\":1,\"a\":{\"b\":2}}", NULL, "1", NULL},
    {"a quote in a name", "['it\\'s']", "{\"it's\":1}", NULL, "1", NULL},
    {"a double quote in a name", "['\"']", "{\"\\\"\":1}", NULL, "1", NULL},
    {"a bracket in a name", "['a]']", "{\"a]\":1}", NULL, "1", NULL},
    {"an empty name", "['']", "{\"\":1}", NULL, "1", NULL},
    {"a name with an escape", "v", "{\"\\u0076\":1}", NULL, "1", NULL},
    {"a name that is not ASCII", "\xC3\xA4", "{\"\\u00e4\":1}", NULL, "1", NULL},
    {"a name twice: the last", "v", "{\"v\":1,\"v\":2}", NULL, "2", NULL},
    {"an object twice: the last", "v.w", "{\"v\":{\"w\":1},\"v\":{}}", NULL, NONE, NULL},
    {"below a number", "v.w", "{\"v\":1}", NULL, NONE, NULL},
    {"null", "v", "{\"v\":null}", NULL, NONE, NULL},
    {"not there", "v", "{}", NULL, NONE, NULL},

    /* values */
    {"true", "v", "{\"v\":true}", NULL, "true", NULL},
    {"a list", "v", "{\"v\":[ 1 , {} ]}", NULL, "[1,{}]", NULL},
    {"an object", "v", "{\"v\":{ \"a\" : \"b c\" }}", NULL, "{\"a\":\"b c\"}", NULL},
    {"a string", "v", "{\"v\":\"a b\"}", NULL, "\"a b\"", "a b"},
    {"escapes", "v", "{\"v\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\"}", NULL,
     "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\"", "\"\\/\b\f\n\r\tA"},
    {"a surrogate pair", "v", "{\"v\":\"\\ud83d\\ude00\"}", NULL, "\"\\ud83d\\ude00\"",
     "\xF0\x9F\x98\x80"},
    {"half a pair elsewhere", "v", "{\"v\":1,\"w\":\"\\ud83d\"}", NULL, "1", NULL},
    {"blanks everywhere", "v", " \t\r\n{ \"v\" : 1 } \n", NULL, "1", NULL},
    {"a byte order mark", "v", "\xEF\xBB\xBF{\"v\":1}", NULL, "1", NULL},

    /* what is no JSON */
    {"nothing", "v", "", "there is no value, at byte 0", NULL, NULL},
    {"blanks", "v", " \n ", "there is no value, at byte 3 (line 2, column 2)", NULL, NULL},
    {"no JSON", "v", "hello", "no valid number, at byte 0: `hello`", NULL, NULL},
    {"cut off", "v", "{\"v\":", "it ends too early, at byte 5", NULL, NULL},
    {"a string cut off", "v", "{\"v\":\"ab", "a string does not end", NULL, NULL},
    {"something after it", "v", "{\"v\":1} x", "something follows the value, at byte 8: `x`", NULL,
     NULL},
    {"two values", "v", "{\"v\":1}{\"v\":2}", "something follows the value, at byte 7", NULL, NULL},
    {"a comma too many", "v", "{\"v\":1,}", "a name in quotes is missing, at byte 7", NULL, NULL},
    {"single quotes", "v", "{'v':1}", "a name in quotes is missing, at byte 1: `'v':1}`", NULL,
     NULL},
    {"a comment", "v", "{/**/\"v\":1}", "a name in quotes is missing, at byte 1", NULL, NULL},
    {"in a later line", "v", "{\n \"v\": 1\n \"w\": 2\n}",
     "a comma or } is missing, at byte 11 (line 3, column 2): `\"w\": 2\\x0A}`", NULL, NULL},
    {"an escape that isn't one", "v", "{\"v\":\"\\x41\"}", "an unknown escape in a string", NULL,
     NULL},
    {"a short escape", "v", "{\"v\":\"\\u12\"}", "\\u without four hex digits", NULL, NULL},
    {"a newline in a string", "v", "{\"v\":\"a\nb\"}", "a control character in a string", NULL,
     NULL},
    {"not UTF-8", "v", "{\"v\":\"a\xFF\"}", "a byte that is not UTF-8, at byte 7: `\\xFF\"}`", NULL,
     NULL},
    {"not UTF-8 elsewhere", "v", "{\"v\":1,\"w\":\"\xC3\"}", "a byte that is not UTF-8", NULL,
     NULL},
    {"a surrogate in UTF-8", "v", "{\"v\":\"\xED\xA0\x80\"}", "a byte that is not UTF-8", NULL,
     NULL},
    {"too long in UTF-8", "v", "{\"v\":\"\xC0\xAF\"}", "a byte that is not UTF-8", NULL, NULL},
    {"two byte order marks", "v", "\xEF\xBB\xBF\xEF\xBB\xBF{\"v\":1}", "no valid number, at byte 3",
     NULL, NULL},
    {"UTF-16", "v", "\xFF\xFE{", "no valid number, at byte 0: `\\xFF\\xFE{`", NULL, NULL},
};
#define CASES (sizeof cases / sizeof cases[0])

static pawl *log_;

static uint32_t stream_of(const char *kind, size_t i) {
    char name[32];
    pawl_stream_info info;
    snprintf(name, sizeof name, "%s%zu", kind, i);
    if (pawl_stream_find(log_, name, &info) == 0)
        return info.id;
    assert_int_equal(pawl_stream_create(log_, name, 1, &info.id), 0);
    return info.id;
}

/* One processor of a case. Settings are "name=value", with the stream's number for every '#'. */
static void attach(const char *type, size_t i, const char *const *texts, pawl_processor_ops *ops) {
    pawl_setting items[8];
    char copies[8][200], name[64];
    size_t n = 0;
    pawl_error e = {0};
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    uint32_t in = stream_of("in", i);
    for (; texts[n] != NULL; n++) {
        snprintf(copies[n], sizeof copies[n], "%s", texts[n]);
        char *value = strchr(copies[n], '=');
        *value = 0;
        items[n] = (pawl_setting){copies[n], value + 1, 1};
    }
    snprintf(name, sizeof name, "%s-%zu", type, i);
    c.name = name, c.inputs = &in, c.input_count = 1;
    c.retries = UINT32_MAX; /* what can't be processed isn't tried again, else this never ends */
    c.on_error = PAWL_ON_ERROR_DEAD_LETTER;
    snprintf(name + 40, 20, "dead-%s", type);
    c.dead_letter = stream_of(name + 40, i);
    *ops = (pawl_processor_ops)PAWL_PROCESSOR_OPS_INIT;
    if (pawl_processor_make(type, &(pawl_settings){.items = items, .count = n}, ops, &e) != 0 ||
        pawl_processor_attach(log_, &c, ops, NULL, &e) != 0)
        fail_msg("%s: %s: %s", cases[i].label, type, e.message);
}

static void attach_all(size_t i, pawl_processor_ops ops[3]) {
    char to[3][32], fields[200], key[200], of[200], by[200], other[40];
    static const char *const streams[] = {"json", "filter", "route"};
    for (size_t k = 0; k < 3; k++) {
        (void)stream_of(streams[k], i);
        snprintf(to[k], sizeof to[k], "to=%s%zu", streams[k], i);
    }
    snprintf(fields, sizeof fields, "fields.f=%s", cases[i].path);
    snprintf(key, sizeof key, "key=%s", cases[i].path);
    snprintf(of, sizeof of, "of=json:%s", cases[i].path);
    snprintf(by, sizeof by, "by=json:%s", cases[i].path);
    snprintf(other, sizeof other, "otherwise=route%zu", i);
    char way[40];
    snprintf(way, sizeof way, "routes.never=route%zu", i);
    attach("json", i, (const char *[]){to[0], fields, key, NULL}, &ops[0]);
    attach("filter", i, (const char *[]){to[1], of, "equals=never", "invert=true", NULL}, &ops[1]);
    attach("route", i, (const char *[]){by, way, other, NULL}, &ops[2]);
}

/* The only record of a stream; false: there is none. */
static bool only(const char *kind, size_t i, pawl_record *out, pawl_reader **r) {
    pawl_batch batch;
    assert_int_equal(pawl_reader_open(log_, stream_of(kind, i), 0, 0, 0, r), 0);
    int n = pawl_read(*r, 0, 0, &batch);
    assert_in_range(n, 0, 1);
    if (n == 1)
        *out = batch.records[0];
    return n == 1;
}

static void header_is(const pawl_record *r, const char *name, const char *part) {
    pawl_header h;
    for (uint32_t i = 0; pawl_record_header(r, i, &h) >= 0; i++)
        if (h.name_len == strlen(name) && memcmp(h.name, name, h.name_len) == 0) {
            char text[512];
            snprintf(text, sizeof text, "%.*s", h.value_len, (const char *)h.value);
            if (strstr(text, part) == NULL)
                fail_msg("%s, not %s", text, part);
            return;
        }
    fail_msg("no header %s", name);
}

/* ---- what each says */

static const char *said(const struct json_case *c) {
    static char text[300];
    snprintf(text, sizeof text, "the value is not JSON: %s", c->wrong);
    return strncmp(c->wrong, "\\u", 2) == 0 || c->wrong[0] == 0 ? c->wrong : text;
}

static void processors_say(size_t i) {
    static const char *const kinds[] = {"json", "filter", "route"};
    const struct json_case *c = &cases[i];
    for (size_t k = 0; k < 3; k++) {
        char dead[32];
        pawl_record r, d;
        pawl_reader *a, *b;
        snprintf(dead, sizeof dead, "dead-%s", kinds[k]);
        bool taken = only(kinds[k], i, &r, &a), refused = only(dead, i, &d, &b);
        if (taken == (c->wrong != NULL) || refused == taken)
            fail_msg("%s: %s", c->label, kinds[k]);
        if (refused) {
            const char *part = strstr(c->wrong, "without") != NULL ? c->wrong : said(c);
            header_is(&d, "pawl-error", part);
        } else if (k == 0) {
            char object[300];
            const char *value = c->value != NULL ? c->value : c->token;
            bool none = strcmp(c->token, NONE) == 0;
            snprintf(object, sizeof object, "{\"f\":%s}", none ? "null" : c->token);
            assert_int_equal(r.value_len, strlen(object));
            assert_memory_equal(r.value, object, r.value_len);
            assert_int_equal(r.key_len, none ? 0 : strlen(value));
            if (!none)
                assert_memory_equal(r.key, value, r.key_len);
        }
        pawl_reader_close(a);
        pawl_reader_close(b);
    }
}

static const pawl_setting_info column_settings[] = {COLUMN_SETTINGS, {0}};
static const pawl_connector sink = {.type = "a sink", .settings = column_settings};

static void columns_say(size_t i, bool json) {
    const struct json_case *c = &cases[i];
    char path[200];
    struct columns columns;
    struct column_value v;
    pawl_fault f = {.offset = UINT64_MAX};
    pawl_record r = {.value = c->text, .value_len = (uint32_t)strlen(c->text), .offset = 5};
    snprintf(path, sizeof path, "$%s%s", c->path[0] == '[' ? "" : ".", c->path);
    const pawl_setting one = {"columns.c", path, 1};
    assert_int_equal(
        columns_make(&columns, &sink, &(pawl_settings){.items = &one, .count = 1}, NULL), 0);
    columns.items[0].as = json ? COLUMN_AS_JSON : COLUMN_AS_TEXT;
    int outcome = columns_of(&columns, &(pawl_sink_batch){.stream = "s"}, &r, &v, &f);
    if (outcome != (c->wrong != NULL ? PAWL_POISON : PAWL_DONE))
        fail_msg("%s: %d, %s", c->label, outcome, f.message);
    if (c->wrong != NULL) {
        assert_int_equal(f.offset, 5);
        if (strstr(f.message, strstr(c->wrong, "without") != NULL ? c->wrong : said(c)) == NULL)
            fail_msg("%s: %s", c->label, f.message);
    } else if (strcmp(c->token, NONE) == 0) {
        assert_int_equal(v.type, COLUMN_NULL);
    } else if (v.text[0] != '[' && v.text[0] != '{') { /* those keep their blanks */
        const char *want = c->value != NULL && !json ? c->value : c->token;
        assert_int_equal(v.len, strlen(want));
        assert_memory_equal(v.text, want, v.len);
    }
    columns_free(&columns);
}

static void all_agree(void **state) {
    static pawl_processor_ops ops[CASES][3];
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        pawl_record r = {.value = cases[i].text, .value_len = (uint32_t)strlen(cases[i].text)};
        assert_int_equal(pawl_append(log_, stream_of("in", i), 0, &r, NULL), 0);
        attach_all(i, ops[i]);
    }
    assert_int_equal(pawl_run(log_, 0, PAWL_RUN_UNTIL_IDLE), 0);
    for (size_t i = 0; i < CASES; i++) {
        print_message("%s\n", cases[i].label);
        processors_say(i);
        columns_say(i, false);
        columns_say(i, true);
    }
    assert_int_equal(pawl_close(log_), 0);
    for (size_t i = 0; i < CASES; i++)
        for (size_t k = 0; k < 3; k++)
            ops[i][k].destroy(ops[i][k].self);
}

/* As deep as allowed, and a level deeper. */
static void depth(void **state) {
    char text[2 * JSON_DEPTH_MAX + 8];
    size_t where;
    (void)state;
    for (size_t more = 0; more < 2; more++) {
        size_t n = JSON_DEPTH_MAX + more;
        memset(text, '[', n);
        text[n] = '1';
        memset(text + n + 1, ']', n);
        const char *why = json_scan(text, 2 * n + 1, NULL, 0, NULL, &where);
        if (more == 0)
            assert_null(why);
        else
            assert_string_equal(why, "nested too deeply");
    }
}

/* Which numbers a column of a type can hold: integers exactly, others in the type's range. */
static void numbers_fit(void **state) {
    static const struct {
        const char *text;
        bool in_double, in_float;
    } rows[] = {
        {"0", true, true},
        {"-0.000", true, true},
        {"0e999999999999999999999", true, true},
        {"1", true, true},
        {"0.1", true, true},
        {"1.50", true, true},
        {"16777217", true, false},
        {"123456789", true, false},
        {"9007199254740992", true, true},
        {"9007199254740993", false, false},
        {"12345678901234567.89", true, true},
        {"36893488147419103232", true, true},
        {"36893488147419103233", false, false},
        {"3.141592653589793", true, true},
        {"1e-320", true, false},
        {"1e38", true, true},
        {"1e39", true, false},
        {"1e308", true, false},
        {"1e309", false, false},
        {"1e400", false, false},
        {"-1e-400", false, false},
        {"1e99999999999999999999999999", false, false},
        {"100000000000000000000e-20", true, true},
        {"0.00000000000000000001", true, true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        print_message("%s\n", rows[i].text);
        assert_int_equal(json_fits_double(rows[i].text, strlen(rows[i].text)), rows[i].in_double);
        assert_int_equal(json_fits_float(rows[i].text, strlen(rows[i].text)), rows[i].in_float);
    }
}

/* Half a pair is JSON, and no text: what needs the text refuses it, what copies it doesn't. */
static void half_a_pair(void **state) {
    const char *text = "{\"v\":\"\\ud83d\"}";
    pawl_record r = {.value = text, .value_len = (uint32_t)strlen(text)};
    const pawl_setting one = {"columns.c", "$.v", 1};
    struct columns columns;
    struct column_value v;
    pawl_fault f = {0};
    (void)state;
    assert_int_equal(
        columns_make(&columns, &sink, &(pawl_settings){.items = &one, .count = 1}, NULL), 0);
    assert_int_equal(columns_of(&columns, &(pawl_sink_batch){.stream = "s"}, &r, &v, &f),
                     PAWL_POISON);
    assert_non_null(strstr(f.message, HALF));
    columns.replace = true;
    assert_int_equal(columns_of(&columns, &(pawl_sink_batch){.stream = "s"}, &r, &v, &f),
                     PAWL_DONE);
    assert_int_equal(v.len, 3);
    assert_memory_equal(v.text, "\xEF\xBF\xBD", 3);
    columns_free(&columns);
}

int main(void) {
    char dir[] = "/tmp/test_json_users.XXXXXX", command[100];
    pawl_options o = PAWL_OPTIONS_INIT;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_agree),
        cmocka_unit_test(depth),
        cmocka_unit_test(numbers_fit),
        cmocka_unit_test(half_a_pair),
    };
    o.flags = PAWL_OPEN_CREATE;
    if (mkdtemp(dir) == NULL || pawl_open(dir, &o, &log_, NULL) < 0)
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    snprintf(command, sizeof command, "rm -rf -- '%s'", dir);
    return system(command) != 0 || failed != 0;
}
