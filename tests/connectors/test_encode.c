/* SPDX-License-Identifier: Apache-2.0 */
/* What sinks write of a record: no byte of it gets another meaning, and what a format or a column
 * can't take is refused (PAWL-2, PAWL-15). */
#include <setjmp.h>

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "connectors/text/columns.h"
#include "connectors/text/encode.h"

#undef fail
#include <cmocka.h>

#define TEXT(s) s, sizeof s - 1
#define HEAD "{\"offset\":7,\"partition\":2,\"timestamp\":-5,"

static void each_format(void **state) {
    static const struct {
        struct encoding as;
        const char *value;
        size_t value_len;
        const char *out; /* NULL: the record is refused */
        size_t out_len;
    } cases[] = {
        {{ENCODE_TEXT, NEWLINE_KEEP}, TEXT("a\nb"), TEXT("a\nb\n")},
        {{ENCODE_TEXT, NEWLINE_KEEP}, TEXT(""), TEXT("\n")},
        {{ENCODE_TEXT, NEWLINE_ESCAPE}, TEXT("a\nb"), TEXT("a\\nb\n")},
        {{ENCODE_TEXT, NEWLINE_ESCAPE}, TEXT("a\\nb"), TEXT("a\\\\nb\n")},
        {{ENCODE_TEXT, NEWLINE_REFUSE}, TEXT("ab"), TEXT("ab\n")},
        {{ENCODE_TEXT, NEWLINE_REFUSE}, TEXT("a\nb"), NULL, 0},
        {{ENCODE_TEXT, NEWLINE_REFUSE}, TEXT("ab\n"), NULL, 0},
        {{ENCODE_TEXT, NEWLINE_REFUSE}, TEXT("\n"), NULL, 0},
        {{ENCODE_JSON, 0},
         TEXT("a\"\n"),
         TEXT(HEAD "\"key\":null,\"value\":\"a\\\"\\n\",\"headers\":[]}\n")},
        {{ENCODE_JSON, 0},
         TEXT("\xFF"),
         TEXT(HEAD "\"key\":null,\"value_base64\":\"/w==\",\"headers\":[]}\n")},
        {{ENCODE_JSON, 0},
         TEXT("\xFF\x01"),
         TEXT(HEAD "\"key\":null,\"value_base64\":\"/wE=\",\"headers\":[]}\n")},
        {{ENCODE_JSON, 0},
         TEXT("\xFF\x01\x02"),
         TEXT(HEAD "\"key\":null,\"value_base64\":\"/wEC\",\"headers\":[]}\n")},
        {{ENCODE_LENGTH, 0}, TEXT("ab\n"), TEXT("\x03\0\0\0ab\n")},
        {{ENCODE_LENGTH, 0}, TEXT(""), TEXT("\0\0\0\0")},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buffer b = {0};
        pawl_fault f = {.offset = UINT64_MAX};
        pawl_record r = {.value = cases[i].value,
                         .value_len = (uint32_t)cases[i].value_len,
                         .offset = 7,
                         .partition = 2,
                         .timestamp_ns = -5};
        assert_true(buffer_add_text(&b, "before"));
        int outcome = encode_record(&b, &cases[i].as, &r, &f);
        print_message("case %zu: %d\n", i, outcome);
        assert_int_equal(outcome, cases[i].out != NULL ? PAWL_DONE : PAWL_POISON);
        assert_int_equal(b.len, 6 + cases[i].out_len);
        if (cases[i].out != NULL)
            assert_memory_equal(b.bytes + 6, cases[i].out, cases[i].out_len);
        else
            assert_int_equal(f.offset, 7);
        buffer_free(&b);
    }
}

static int column(const char *of, const char *text, size_t len, struct column_value *v,
                  struct columns *c) {
    static const pawl_setting_info settings[] = {COLUMN_SETTINGS, {0}};
    const pawl_connector sink = {.type = "test", .settings = settings};
    const pawl_setting one = {"columns.c", of, 1};
    pawl_record r = {.value = text, .value_len = (uint32_t)len};
    pawl_fault f = {.offset = UINT64_MAX};
    assert_int_equal(columns_make(c, &sink, &(pawl_settings){.items = &one, .count = 1}, NULL), 0);
    c->items[0].as = COLUMN_AS_TEXT;
    return columns_of(c, &(pawl_sink_batch){.stream = "s"}, &r, v, &f);
}

/* An integer is one if it fits 64 bits with its sign, else it keeps its digits. */
static void integers(void **state) {
    static const struct {
        const char *text;
        int type;
        int64_t number;
    } cases[] = {
        {"0", COLUMN_INTEGER, 0},
        {"-1", COLUMN_INTEGER, -1},
        {"9223372036854775807", COLUMN_INTEGER, INT64_MAX},
        {"-9223372036854775807", COLUMN_INTEGER, -INT64_MAX},
        {"9223372036854775808", COLUMN_NUMBER, 0},
        {"-9223372036854775808", COLUMN_NUMBER, 0},
        {"18446744073709551617", COLUMN_NUMBER, 0},
        {"-0", COLUMN_NUMBER, 0},
        {"1.0", COLUMN_NUMBER, 0},
        {"1e2", COLUMN_NUMBER, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct columns c;
        struct column_value v;
        print_message("%s\n", cases[i].text);
        assert_int_equal(column("$", cases[i].text, strlen(cases[i].text), &v, &c), PAWL_DONE);
        assert_int_equal(v.type, cases[i].type);
        if (v.type == COLUMN_INTEGER)
            assert_int_equal(v.number, cases[i].number);
        assert_int_equal(v.len, strlen(cases[i].text));
        assert_memory_equal(v.text, cases[i].text, v.len);
        columns_free(&c);
    }
}

/* A text column takes a whole text or none. */
static void texts(void **state) {
    static const struct {
        const char *text;
        size_t len;
        int outcome;
    } cases[] = {
        {TEXT("a b"), PAWL_DONE},        {TEXT("\xC3\xA9"), PAWL_DONE},
        {TEXT("a\0b"), PAWL_POISON},     {TEXT("ab\0"), PAWL_POISON},
        {TEXT("a\xC3"), PAWL_POISON},    {TEXT("\xED\xA0\x80"), PAWL_POISON},
        {TEXT("\xC1\xBF"), PAWL_POISON},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct columns c;
        struct column_value v;
        print_message("case %zu\n", i);
        assert_int_equal(column("value", cases[i].text, cases[i].len, &v, &c), cases[i].outcome);
        if (cases[i].outcome == PAWL_DONE) {
            assert_int_equal(v.len, cases[i].len);
            assert_memory_equal(v.text, cases[i].text, v.len);
        }
        columns_free(&c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_format),
        cmocka_unit_test(integers),
        cmocka_unit_test(texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
