/* SPDX-License-Identifier: Apache-2.0
 *
 * size.c - sizes, durations and times, as people write and read them.
 */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "pawl_connect.h"

/* Doesn't use strtoull(): that takes signs and blanks. */
bool cli_parse_number(const char *text, uint64_t *out) {
    uint64_t n = 0;
    const char *c = text;
    for (; *c >= '0' && *c <= '9'; c++) {
        uint64_t digit = (uint64_t)(*c - '0');
        if (n > (UINT64_MAX - digit) / 10)
            return false;
        n = n * 10 + digit;
    }
    *out = n;
    return c != text && *c == '\0';
}

/* The same parser as for pipeline files and connectors, so that each unit means the same
 * everywhere. */
static bool parse_setting(const char *text, int32_t kind, uint64_t *out) {
    const pawl_setting_info info[] = {{"x", kind, 0, NULL, NULL, ""},
                                      {NULL, 0, 0, NULL, NULL, NULL}};
    const pawl_connector c = {.type = "an option", .settings = info};
    const pawl_setting one = {"x", text, 0};
    const pawl_settings all = {.items = &one, .count = 1};
    pawl_error e;
    if (pawl_settings_check(&c, &all, &e) < 0)
        return false;
    *out = pawl_setting_number(&c, &all, "x");
    return true;
}

bool cli_parse_size(const char *text, uint64_t *bytes) {
    return parse_setting(text, PAWL_SETTING_SIZE, bytes);
}

bool cli_parse_duration(const char *text, uint64_t *ms) {
    return parse_setting(text, PAWL_SETTING_TIME, ms);
}

const char *cli_format_size(uint64_t bytes, char buffer[32]) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    size_t unit = 0;
    double n = (double)bytes;
    while (n >= 1024 && unit + 1 < sizeof units / sizeof units[0]) {
        n /= 1024;
        unit++;
    }
    snprintf(buffer, 32, unit == 0 || n == (double)(uint64_t)n ? "%.0f %s" : "%.1f %s", n,
             units[unit]);
    return buffer;
}

const char *cli_format_duration(uint64_t ms, char buffer[32]) {
    if (ms % 86400000 == 0 && ms > 0)
        snprintf(buffer, 32, "%" PRIu64 "d", ms / 86400000);
    else if (ms % 3600000 == 0 && ms > 0)
        snprintf(buffer, 32, "%" PRIu64 "h", ms / 3600000);
    else if (ms % 1000 == 0)
        snprintf(buffer, 32, "%" PRIu64 "s", ms / 1000);
    else
        snprintf(buffer, 32, "%" PRIu64 "ms", ms);
    return buffer;
}

const char *cli_format_time(uint64_t ns, char buffer[40]) {
    time_t seconds = (time_t)(ns / UINT64_C(1000000000));
    struct tm parts;
    char text[24];
    if (gmtime_r(&seconds, &parts) == NULL ||
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts) == 0)
        snprintf(text, sizeof text, "%lld", (long long)seconds);
    snprintf(buffer, 40, "%s.%06uZ", text, (unsigned)(ns % UINT64_C(1000000000) / 1000));
    return buffer;
}
