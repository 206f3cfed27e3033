/* SPDX-License-Identifier: Apache-2.0
 *
 * Settings as text, checked against what a connector says it understands.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "connectors/runtime/connect.h"

static bool matches(const char *pattern, const char *name) {
    size_t n = strlen(pattern);
    if (n >= 2 && strcmp(pattern + n - 2, ".*") == 0)
        return strncmp(pattern, name, n - 1) == 0 && name[n - 1] != 0;
    return strcmp(pattern, name) == 0;
}

/* NAME_file, for a secret NAME, has NAME's. */
static const pawl_setting_info *info_of(const pawl_connector *c, const char *name) {
    size_t n = connect_secret_file(c, name);
    for (const pawl_setting_info *i = c->settings; i != NULL && i->name != NULL; i++)
        if (matches(i->name, name) || (n != 0 && strlen(i->name) == n && !memcmp(i->name, name, n)))
            return i;
    return NULL;
}

/* Is the file of a secret given? */
static const pawl_setting *given_file(const pawl_connector *c, const pawl_settings *s,
                                      const char *name) {
    for (size_t i = 0; s != NULL && i < s->count; i++)
        if (strncmp(s->items[i].name, name, strlen(name)) == 0 &&
            connect_secret_file(c, s->items[i].name) == strlen(name))
            return &s->items[i];
    return NULL;
}

static const pawl_setting *given(const pawl_settings *s, const char *pattern) {
    for (size_t i = 0; s != NULL && i < s->count; i++)
        if (matches(pattern, s->items[i].name))
            return &s->items[i];
    return NULL;
}

/* A unit's name and what it stands for. Sizes may also end in "B" or, after a letter, in "iB". */
struct unit {
    const char *name;
    uint64_t factor;
};
static const struct unit none[] = {{"", 1}, {NULL, 0}},
                         sizes[] = {{"", 1},
                                    {"k", UINT64_C(1) << 10},
                                    {"K", UINT64_C(1) << 10},
                                    {"M", UINT64_C(1) << 20},
                                    {"G", UINT64_C(1) << 30},
                                    {"T", UINT64_C(1) << 40},
                                    {NULL, 0}},
                         times[] = {{"", 1000},     {"ms", 1},       {"s", 1000},      {"m", 60000},
                                    {"h", 3600000}, {"d", 86400000}, {"w", 604800000}, {NULL, 0}};

/* As nanoseconds it fits into 63 bits, so that adding it to a clock overflows nowhere. */
#define TIME_MS_MAX (UINT64_C(9223372036854775807) / 1000000)

static const struct unit *unit_of(const struct unit *units, const char *text, size_t len) {
    for (const struct unit *u = units; u->name != NULL; u++)
        if (strlen(u->name) == len && memcmp(u->name, text, len) == 0)
            return u;
    return NULL;
}

/* A decimal number and a unit. False: no such number, or too large. A leading zero is refused:
 * other programs read 010 as 8. */
static bool number(const char *text, const struct unit *units, uint64_t *out) {
    uint64_t n = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(n, 10, &n) ||
            __builtin_add_overflow(n, (uint64_t)(*at - '0'), &n))
            return false;
    if (at == text || (text[0] == '0' && at > text + 1))
        return false;
    size_t len = strlen(at);
    if (units == sizes && len > 0 && at[len - 1] == 'B')
        len -= len == 3 && at[len - 2] == 'i' ? 2 : 1;
    const struct unit *u = unit_of(units, at, len);
    return u != NULL && !__builtin_mul_overflow(n, u->factor, out);
}

static bool choice(const char *text, const char *choices, uint64_t *out) {
    size_t len = strlen(text);
    for (*out = 0; choices != NULL && len > 0; ++*out) {
        const char *end = strchr(choices, '|');
        size_t n = end != NULL ? (size_t)(end - choices) : strlen(choices);
        if (n == len && memcmp(choices, text, n) == 0)
            return true;
        choices = end != NULL ? end + 1 : NULL;
    }
    return false;
}

static bool value_of(const pawl_setting_info *i, const char *text, uint64_t *out) {
    switch (i->kind) {
    case PAWL_SETTING_NUMBER:
        return number(text, none, out);
    case PAWL_SETTING_SIZE:
        return number(text, sizes, out);
    case PAWL_SETTING_TIME:
        return number(text, times, out) && *out <= TIME_MS_MAX;
    case PAWL_SETTING_BOOL:
        return choice(text, "false|true", out);
    case PAWL_SETTING_CHOICE:
        return choice(text, i->choices, out);
    default:
        *out = 0;
        return true;
    }
}

static const char *wanted(const pawl_setting_info *i) {
    static const char *const text[] = {
        "text", "a decimal number", "a size, such as 512, 64k, 16M or 1G",
        "a time, such as 500ms, 10s, 5m, 1h, 7d or 2w, below 292 years", "true or false"};
    return i->kind == PAWL_SETTING_CHOICE ? i->choices : text[i->kind];
}

int pawl_settings_check(const pawl_connector *c, const pawl_settings *s, pawl_error *err) {
    if (c == NULL)
        return connect_error(err, PAWL_INVALID, "the connector is NULL");
    for (size_t k = 0; s != NULL && k < s->count; k++) {
        const pawl_setting *g = &s->items[k];
        const pawl_setting_info *i = info_of(c, g->name);
        uint64_t n;
        if (i == NULL)
            return connect_error(err, PAWL_INVALID, "line %u: %s has no setting \"%s\"", g->line,
                                 c->type, g->name);
        for (size_t other = 0; other < k; other++)
            if (strcmp(s->items[other].name, g->name) == 0)
                return connect_error(err, PAWL_INVALID, "line %u: \"%s\" is given twice", g->line,
                                     g->name);
        if (!value_of(i, g->value, &n))
            return connect_error(err, PAWL_INVALID, "line %u: %s must be %s, not \"%s\"", g->line,
                                 g->name, wanted(i), g->value);
    }
    for (const pawl_setting_info *i = c->settings; i != NULL && i->name != NULL; i++) {
        const pawl_setting *file = given_file(c, s, i->name);
        if (file != NULL && given(s, i->name) != NULL)
            return connect_error(err, PAWL_INVALID, "line %u: %s and %s are both given", file->line,
                                 i->name, file->name);
        if (i->required != 0 && file == NULL && given(s, i->name) == NULL)
            return connect_error(err, PAWL_INVALID, "%s needs the setting \"%s\": %s", c->type,
                                 i->name, i->help);
    }
    return 0;
}

bool connect_setting_given(const pawl_settings *s, const char *name) {
    return given(s, name) != NULL;
}

uint32_t pawl_setting_line(const pawl_settings *s, const char *name) {
    const pawl_setting *g = given(s, name);
    return g != NULL ? g->line : 0;
}

const char *pawl_setting_text(const pawl_connector *c, const pawl_settings *s, const char *name) {
    const pawl_setting *g = given(s, name);
    const pawl_setting_info *i = info_of(c, name);
    return g != NULL ? g->value : i != NULL ? i->fallback : NULL;
}

uint64_t pawl_setting_number(const pawl_connector *c, const pawl_settings *s, const char *name) {
    const char *text = pawl_setting_text(c, s, name);
    const pawl_setting_info *i = info_of(c, name);
    uint64_t n = 0;
    return text != NULL && i != NULL && value_of(i, text, &n) ? n : 0;
}

uint32_t connect_setting_small(const pawl_connector *c, const pawl_settings *s, const char *name) {
    return connect_small(pawl_setting_number(c, s, name));
}

int connect_setting_choice(const pawl_connector *c, const pawl_settings *s, const char *name) {
    uint64_t n = pawl_setting_number(c, s, name);
    assert(n <= INT16_MAX); /* PAWL-15: an index into the list of choices */
    return (int)n;
}
