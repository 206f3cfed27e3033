/* SPDX-License-Identifier: Apache-2.0
 *
 * size.c - sizes, durations and times, as people write and read them.
 */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"

/* Reads the digits at the front; *rest is what follows. Doesn't use strtoull(): that takes signs
 * and blanks. */
static bool read_digits(const char *text, uint64_t *out, const char **rest) {
    uint64_t n = 0;
    const char *c = text;
    for (; *c >= '0' && *c <= '9'; c++) {
        uint64_t digit = (uint64_t)(*c - '0');
        if (n > (UINT64_MAX - digit) / 10)
            return false;
        n = n * 10 + digit;
    }
    *out = n;
    *rest = c;
    return c != text;
}

static bool scale(uint64_t n, uint64_t unit, uint64_t *out) {
    if (n > UINT64_MAX / unit)
        return false;
    *out = n * unit;
    return true;
}

bool cli_parse_number(const char *text, uint64_t *out) {
    const char *rest;
    return read_digits(text, out, &rest) && *rest == '\0';
}

bool cli_parse_size(const char *text, uint64_t *bytes) {
    const char *rest;
    uint64_t n;
    if (!read_digits(text, &n, &rest))
        return false;
    uint64_t unit = 1;
    static const char letters[] = "KMGT";
    const char *letter = *rest != '\0' ? strchr(letters, *rest == 'k' ? 'K' : *rest) : NULL;
    if (letter != NULL) {
        unit = UINT64_C(1) << (10 * (letter - letters + 1));
        rest++;
    }
    if (strcmp(rest, "iB") == 0 && unit > 1)
        rest += 2;
    else if (strcmp(rest, "B") == 0)
        rest += 1;
    return *rest == '\0' && scale(n, unit, bytes);
}

bool cli_parse_duration(const char *text, uint64_t *ms) {
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = {{"", 1000},     {"ms", 1},       {"s", 1000},     {"m", 60000},
                 {"h", 3600000}, {"d", 86400000}, {"w", 604800000}};
    const char *rest;
    uint64_t n;
    if (!read_digits(text, &n, &rest))
        return false;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strcmp(rest, units[i].name) == 0)
            return scale(n, units[i].ms, ms);
    return false;
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
