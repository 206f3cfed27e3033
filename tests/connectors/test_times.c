/* SPDX-License-Identifier: Apache-2.0 */
/* Times that don't fit into the 63 bits of a record's time, or don't exist: a clock and a file say
 * the nearest that there is, a text is refused, and none becomes negative or wraps
 * (connectors/text/time_ns.h). */
#include <setjmp.h>

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "connectors/file/tail.h"
#include "connectors/net/syslog_time.h"
#include "connectors/runtime/connect.h"
#include "connectors/text/columns.h"
#include "connectors/text/rfc3339.h"
#include "connectors/text/time_ns.h"
#include "wal/seam/seam_common.h"

#undef fail
#include <cmocka.h>

#define LAST_S INT64_C(9223372036)
#define MAX INT64_MAX

static void clocks_and_files(void **state) {
    static const struct {
        const char *label;
        int64_t s, part, expected;
    } cases[] = {
        {"1970", 0, 0, 0},
        {"its first nanosecond", 0, 1, 1},
        {"before it", -1, 999999999, 0},
        {"long before it", INT64_MIN, 0, 0},
        {"2026", 1767225600, 5, 1767225600000000005},
        {"the last nanosecond", LAST_S, 854775807, MAX},
        {"the one after it", LAST_S, 854775808, MAX},
        {"2263", LAST_S + 1, 0, MAX},
        {"twice that", 2 * LAST_S + 2, 0, MAX},
        {"year 3000", 32503680000, 0, MAX},
        {"the last second of all", INT64_MAX, 999999999, MAX},
    };
    (void)state;
    uint64_t before = 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        print_message("%s\n", cases[i].label);
        assert_true(time_ns(cases[i].s, cases[i].part) == cases[i].expected);
        assert_true(common_time_ns(cases[i].s, cases[i].part) == (uint64_t)cases[i].expected);
        /* a later file is never older than an earlier one */
        struct timespec t = {(time_t)cases[i].s, (long)cases[i].part};
        if (cases[i].s >= 0) {
            assert_true(tail_mtime(&t) >= before);
            before = tail_mtime(&t);
        }
    }
}

static void texts(void **state) {
    static const struct {
        const char *text;
        int64_t rfc3339; /* -1: refused */
        int64_t syslog;  /* -1: no time; 0: unknown */
    } cases[] = {
        {"1970-01-01T00:00:00Z", 0, 0},
        {"1970-01-01T00:00:00.000000001Z", 1, 1},
        {"1970-01-01T00:00:00+00:01", -1, 0},
        {"1970-01-01T23:59:59+23:59", 59000000000, 59000000000},
        {"1969-12-31T23:59:59Z", -1, -1},
        {"1969-12-31T23:59:59-01:00", -1, -1},
        {"2026-02-28T12:00:00Z", 1772280000000000000, 1772280000000000000},
        {"2026-02-29T12:00:00Z", -1, -1},
        {"2024-02-29T12:00:00Z", 1709208000000000000, 1709208000000000000},
        {"2100-02-29T12:00:00Z", -1, -1},
        {"2026-04-31T12:00:00Z", -1, -1},
        {"2026-00-10T12:00:00Z", -1, -1},
        {"2026-13-10T12:00:00Z", -1, -1},
        {"2026-01-00T12:00:00Z", -1, -1},
        {"2200-12-31T23:59:60.999999999-23:59", 7289740740999999999, 7289740740999999999},
        {"2201-01-01T00:00:00Z", -1, -1},
        {"2262-04-11T23:47:17Z", -1, -1},
        {"2263-01-01T00:00:00Z", -1, -1},
        {"9999-12-31T23:59:59Z", -1, -1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *text = cases[i].text;
        size_t len = strlen(text);
        int64_t ns = -7;
        print_message("%s\n", text);
        bool is = rfc3339_parse(text, len, &ns);
        assert_int_equal(is, cases[i].rfc3339 >= 0);
        if (is)
            assert_true(ns == cases[i].rfc3339);
        ns = -7;
        size_t n = syslog_time_iso(text, text + len, true, &ns);
        assert_int_equal(n, cases[i].syslog >= 0 ? len : 0);
        assert_true(ns == (n != 0 ? cases[i].syslog : 0));
    }
}

/* Any 64 bits can be a record's time: a program chose it, or a log that was handed over. */
static void columns(void **state) {
    static const struct {
        int64_t ns;
        const char *text, *ms;
    } cases[] = {
        {0, "1970-01-01T00:00:00.000000000Z", "0"},
        {-1, "1969-12-31T23:59:59.999999999Z", "-1"},
        {-1000000000, "1969-12-31T23:59:59.000000000Z", "-1000"},
        {1767225600000000005, "2026-01-01T00:00:00.000000005Z", "1767225600000"},
        {INT64_MAX, "2262-04-11T23:47:16.854775807Z", "9223372036854"},
        {INT64_MIN, "1677-09-21T00:12:43.145224192Z", "-9223372036855"},
    };
    static const pawl_setting_info settings[] = {COLUMN_SETTINGS, {0}};
    const pawl_connector sink = {.type = "test", .settings = settings};
    const pawl_setting two[] = {{"columns.a", "timestamp", 1}, {"columns.b", "timestamp_ms", 2}};
    struct columns c;
    (void)state;
    assert_int_equal(columns_make(&c, &sink, &(pawl_settings){.items = two, .count = 2}, NULL), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct column_value v[2];
        pawl_record r = {.value = "x", .value_len = 1, .timestamp_ns = cases[i].ns};
        pawl_fault f = {.offset = UINT64_MAX};
        print_message("%s\n", cases[i].text);
        assert_int_equal(columns_of(&c, &(pawl_sink_batch){.stream = "s"}, &r, v, &f), PAWL_DONE);
        assert_int_equal(v[0].len, strlen(cases[i].text));
        assert_memory_equal(v[0].text, cases[i].text, v[0].len);
        assert_int_equal(v[1].len, strlen(cases[i].ms));
        assert_memory_equal(v[1].text, cases[i].ms, v[1].len);
    }
    columns_free(&c);
}

/* Settings and waits: nothing is cut to fewer bits where it arrives. */
static void settings_and_waits(void **state) {
    static const struct {
        const char *text;
        bool is;
        uint64_t ms;
        uint32_t small;
    } times[] = {
        {"49d", true, 4233600000, 4233600000},
        {"50d", true, 4320000000, UINT32_MAX},
        {"4294967295ms", true, UINT32_MAX, UINT32_MAX},
        {"4294967296ms", true, UINT64_C(1) << 32, UINT32_MAX},
        {"15000w", true, 9072000000000, UINT32_MAX},
        {"9223372036854ms", true, 9223372036854, UINT32_MAX},
        {"9223372036855ms", false, 0, 0},
        {"16000w", false, 0, 0},
        {"18446744073709551615ms", false, 0, 0},
        {"18446744073709551616ms", false, 0, 0},
    };
    static const struct {
        uint64_t until, now;
        int ms;
    } waits[] = {
        {0, 0, 0},
        {5, 6, 0},
        {1, 0, 1},
        {1000000, 0, 1},
        {1000001, 0, 2},
        {UINT64_C(2147483646000000), 0, INT_MAX - 1},
        {UINT64_C(2147483647000000), 0, INT_MAX},
        {UINT64_C(2147483648000000), 0, INT_MAX},
        {UINT64_C(4294967297000000), 0, INT_MAX},
        {UINT64_MAX, 0, INT_MAX},
        {UINT64_MAX, UINT64_MAX - 1, 1},
        {0, UINT64_MAX, 0},
    };
    static const pawl_setting_info info[] = {{"t", PAWL_SETTING_TIME, 0, NULL, NULL, ""}, {0}};
    const pawl_connector c = {.type = "test", .settings = info};
    (void)state;
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        const pawl_setting one = {"t", times[i].text, 1};
        const pawl_settings all = {.items = &one, .count = 1};
        pawl_error e;
        print_message("%s\n", times[i].text);
        assert_int_equal(pawl_settings_check(&c, &all, &e) == 0, times[i].is);
        if (times[i].is) {
            assert_true(pawl_setting_number(&c, &all, "t") == times[i].ms);
            assert_true(connect_setting_small(&c, &all, "t") == times[i].small);
        }
    }
    for (size_t i = 0; i < sizeof waits / sizeof waits[0]; i++)
        assert_int_equal(connect_wait_ms(waits[i].until, waits[i].now), waits[i].ms);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clocks_and_files),
        cmocka_unit_test(texts),
        cmocka_unit_test(columns),
        cmocka_unit_test(settings_and_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
