/* SPDX-License-Identifier: Apache-2.0
 *
 * The JSON scanner accepts what RFC 8259 does, shown by asking Jansson about the same texts, broken
 * ones above all; and it takes out of them what Jansson finds under the same path, but with the
 * digits that were there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#if __has_include(<jansson.h>)
#include <jansson.h>
#define HAVE_JANSSON 1
#endif

#include "connectors/text/json_scan.h"
#include "connectors/text/json_text.h"
#include "connectors/text/utf8.h"
#include "tests/support/skip.h"

static const char *scan(const char *text, const char *path, struct json_found *f) {
    struct json_path p;
    size_t where;
    assert_null(json_path_parse(&p, path));
    const char *why = json_scan(text, strlen(text), &p, 1, f, &where);
    json_path_free(&p);
    return why;
}

static void paths(void **state) {
    static const struct {
        const char *text, *path, *expected;
        int type;
    } cases[] = {
        {"{\"a\":{\"b\":[1,2.50,\"x\"]}}", "$.a.b[1]", "2.50", FOUND_NUMBER},
        {"{\"a\":{\"b\":[1,2.50,\"x\"]}}", "$.a.b[2]", "x", FOUND_STRING},
        {"{\"a\":{\"b\":[1,2.50,\"x\"]}}", "$.a.b[3]", NULL, FOUND_MISSING},
        {"{\"a\":{\"b\":[1,2.50,\"x\"]}}", "$.a", "{\"b\":[1,2.50,\"x\"]}", FOUND_OBJECT},
        {"{\"a\":{\"b\":[1,2.50,\"x\"]}}", "$.a.b.c", NULL, FOUND_MISSING},
        {"{\"a\":1}", "$.a.b", NULL, FOUND_MISSING},
        {" [ [ ] , { } , null ] ", "$[2]", "null", FOUND_NULL},
        {" [ [ ] , { } , null ] ", "$", "[ [ ] , { } , null ]", FOUND_ARRAY},
        {"{\"a.b\":true}", "$['a.b']", "true", FOUND_TRUE},
        {"{\"it's\":false}", "$['it\\'s']", "false", FOUND_FALSE},
        {"{\"\\u0061\":1}", "$.a", "1", FOUND_NUMBER},
        {"{\"a\":1,\"a\":2}", "$.a", "2", FOUND_NUMBER},
        {"{\"a\":{\"b\":1},\"a\":2}", "$.a.b", NULL, FOUND_MISSING},
        {"{\"a\":{\"b\":1},\"a\":{\"b\":3}}", "$.a.b", "3", FOUND_NUMBER},
        {"123456789012345678901234567890.10", "$", "123456789012345678901234567890.10",
         FOUND_NUMBER},
        {"{\"\":5}", "$['']", "5", FOUND_NUMBER},
        {"{\"a\":[7,8]}", "$.a.1", "8", FOUND_NUMBER},
        {"{\"a\":{\"1\":8}}", "$.a.1", "8", FOUND_NUMBER},
        {"{\"a\":{\"1\":8}}", "$.a[1]", NULL, FOUND_MISSING},
        {"{\"a\":[7,8]}", "$.a['1']", NULL, FOUND_MISSING},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct json_found f;
        assert_null(scan(cases[i].text, cases[i].path, &f));
        assert_int_equal(f.type, cases[i].type);
        if (cases[i].expected != NULL) {
            assert_int_equal(f.len, strlen(cases[i].expected));
            assert_memory_equal(f.at, cases[i].expected, f.len);
        }
    }
}

static void bad_paths(void **state) {
    static const char *const bad[] = {"",
                                      "a",
                                      "$a",
                                      "$.",
                                      "$..a",
                                      "$[",
                                      "$[]",
                                      "$[x]",
                                      "$['a]",
                                      "$['a'",
                                      "$[1",
                                      "$.a.",
                                      "$[12345678901234567890]"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct json_path p;
        assert_non_null(json_path_parse(&p, bad[i]));
    }
}

static void strings(void **state) {
    static const struct {
        const char *token, *value;
        bool whole;
    } cases[] = {
        {"a\\n\\t\\\"\\\\\\/\\b\\f\\r", "a\n\t\"\\/\b\f\r", true},
        {"\\u00e9\\u20AC\\ud83d\\ude00", "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", true},
        {"\\ud83dx", "\xEF\xBF\xBDx", false},
        {"\\ude00\\ud83d", "\xEF\xBF\xBD\xEF\xBF\xBD", false},
        {"\\ud83d\\ud83d\\ude00", "\xEF\xBF\xBD\xF0\x9F\x98\x80", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[64];
        bool whole = true;
        size_t n = json_unescape(cases[i].token, strlen(cases[i].token), out, &whole);
        assert_int_equal(n, strlen(cases[i].value));
        assert_memory_equal(out, cases[i].value, n);
        assert_int_equal(whole, cases[i].whole);
    }
    char out[8];
    bool whole = true;
    assert_int_equal(json_unescape("a\\u0000b", 8, out, &whole), 3);
    assert_memory_equal(out, "a\0b", 3);
}

/* "$." may be left out. */
static void short_paths(void **state) {
    static const char *const cases[] = {"a.b[1]", "$.a.b[1]", "['a'].b.1"};
    static const char text[] = "{\"a\":{\"b\":[0,true]}}";
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct json_path p;
        struct json_found f;
        size_t where;
        assert_null(json_path_parse_short(&p, cases[i]));
        assert_null(json_scan(text, strlen(text), &p, 1, &f, &where));
        assert_int_equal(f.type, FOUND_TRUE);
        json_path_free(&p);
    }
    struct json_path p;
    assert_non_null(json_path_parse_short(&p, ""));
    assert_non_null(json_path_parse_short(&p, "$a"));
    assert_non_null(json_path_parse_short(&p, "a..b"));
}

static void depth_is_bounded(void **state) {
    (void)state;
    size_t n = 1000000, where;
    char *text = malloc(n);
    memset(text, '[', n);
    assert_non_null(json_scan(text, n, NULL, 0, NULL, &where));
    assert_int_equal(where, JSON_DEPTH_MAX + 1);
    free(text);
}

#ifdef HAVE_JANSSON
static uint64_t seed = 1;
static uint32_t below(uint32_t n) {
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(seed >> 33) % n;
}

/* What Jansson refuses for reasons of its own: halves of surrogate pairs, U+0000 in names, numbers
 * beyond what it can hold. */
static bool its_own(const json_error_t *e) {
    return json_error_code(e) == json_error_numeric_overflow ||
           json_error_code(e) == json_error_null_byte_in_key || strstr(e->text, "Unicode") != NULL;
}

/* Without blanks it is the same value, on one line. */
static void compact_is_the_same(json_t *tree, const char *text, size_t n) {
    struct buffer b = {0}, again = {0};
    assert_true(json_add_compact(&b, text, n));
    assert_null(memchr(b.bytes, '\n', b.len));
    assert_true(b.len <= n && json_add_compact(&again, b.bytes, b.len));
    assert_int_equal(again.len, b.len);
    json_t *other = json_loadb(b.bytes, b.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    assert_true(json_equal(tree, other));
    json_decref(other);
    buffer_free(&b);
    buffer_free(&again);
}

/* Any bytes become a string that Jansson reads; it has these bytes if they are UTF-8. */
static void written_strings(void **state) {
    static const char letters[] =
        "ab \"\\\n\x01\x1F\x7F\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\xED\xA0\xFF";
    unsigned good = 0, bad = 0;
    (void)state;
    for (int i = 0; i < 50000; i++) {
        char text[16];
        size_t n = below(sizeof text);
        for (size_t k = 0; k < n; k++)
            text[k] = letters[below(sizeof letters)]; /* NUL too */
        struct buffer b = {0};
        assert_true(json_add_string(&b, text, n));
        json_t *read = json_loadb(b.bytes, b.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        json_t *same = json_stringn(text, n);
        assert_non_null(read);
        assert_int_equal(utf8_is(text, n), same != NULL);
        if (same != NULL)
            assert_true(json_equal(read, same));
        else
            assert_non_null(memmem(b.bytes, b.len, UTF8_REPLACEMENT, 3));
        good += same != NULL;
        bad += same == NULL;
        json_decref(read);
        json_decref(same);
        buffer_free(&b);
    }
    assert_true(good > 5000 && bad > 5000);
}

static void as_jansson(void **state) {
    static const char *const seeds[] = {
        "{\"a\":[1,-2.5e10,true,false,null,\"x\\n\\u00e9\"],\"b\":{\"c\":{}},\"d\":[]}",
        "[0,-0,1E5,1e-5,10.25,\"\",[[[]]],{\"k\":{\"k\":0}}]",
        "\"text\"",
        " null ",
        "-12.5",
        "{\"time\":\"2026-01-01T00:00:00Z\",\"level\":3,\"msg\":\"disk \\\"sda\\\" \\\\ gone\"}"};
    static const char letters[] = "{}[],:\"\\ \n0123456789.-+eEtrufalsn/bx\x01";
    (void)state;
    unsigned accepted = 0, refused = 0;
    struct json_path p;
    assert_null(json_path_parse(&p, "$.b.c"));
    for (int i = 0; i < 400000; i++) {
        char text[128];
        size_t n = strlen(strcpy(text, seeds[below(6)])), where;
        for (uint32_t changes = below(4); changes > 0; changes--) {
            size_t at = below((uint32_t)n + 1);
            char c = letters[below(sizeof letters - 1)];
            switch (below(3)) {
            case 0: /* instead */
                text[at < n ? at : n - 1] = c;
                break;
            case 1: /* more */
                memmove(text + at + 1, text + at, n - at);
                text[at] = c;
                n++;
                break;
            default: /* less */
                if (n > 1 && at < n)
                    memmove(text + at, text + at + 1, --n - at);
            }
        }
        json_error_t e;
        struct json_found f;
        json_t *tree = json_loadb(text, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
        const char *why = json_scan(text, n, &p, 1, &f, &where);
        if (tree == NULL && its_own(&e))
            continue;
        if ((tree != NULL) != (why == NULL))
            fail_msg("\"%.*s\": Jansson says %s, the scanner %s", (int)n, text,
                     tree != NULL ? "well" : e.text, why != NULL ? why : "well");
        accepted += tree != NULL;
        refused += tree == NULL;
        json_t *found = json_object_get(json_object_get(tree, "b"), "c");
        if (tree != NULL) {
            assert_int_equal(f.type != FOUND_MISSING, found != NULL);
            compact_is_the_same(tree, text, n);
        }
        json_decref(tree);
    }
    json_path_free(&p);
    assert_true(accepted > 50000 && refused > 50000);
}
#else
static void as_jansson(void **state) {
    (void)state;
    SKIP("libjansson-dev is not installed");
}
static void written_strings(void **state) {
    as_jansson(state);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths),
        cmocka_unit_test(bad_paths),
        cmocka_unit_test(strings),
        cmocka_unit_test(as_jansson),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(short_paths),
        cmocka_unit_test(written_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
