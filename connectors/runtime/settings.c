/* SPDX-License-Identifier: Apache-2.0
 *
 * Settings as text, checked against what a connector says it understands.
 */
#include <stdlib.h>
#include <string.h>

#include "connectors/runtime/connect.h"

static bool matches(const char *pattern, const char *name) {
    size_t n = strlen(pattern);
    if (n >= 2 && strcmp(pattern + n - 2, ".*") == 0)
        return strncmp(pattern, name, n - 1) == 0 && name[n - 1] != 0;
    return strcmp(pattern, name) == 0;
}

static const pawl_setting_info *info_of(const pawl_connector *c, const char *name) {
    for (const pawl_setting_info *i = c->settings; i != NULL && i->name != NULL; i++)
        if (matches(i->name, name))
            return i;
    return NULL;
}

static const pawl_setting *given(const pawl_settings *s, const char *pattern) {
    for (size_t i = 0; s != NULL && i < s->count; i++)
        if (matches(pattern, s->items[i].name))
            return &s->items[i];
    return NULL;
}

/* A decimal number with one of the units, each "name" and its factor. False: no such number, or too
 * large. */
static bool number(const char *text, const char *const *units, const uint64_t *factors,
                   uint64_t *out) {
    uint64_t n = 0, factor = factors[0];
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(n, 10, &n) ||
            __builtin_add_overflow(n, (uint64_t)(*at - '0'), &n))
            return false;
    if (at == text)
        return false;
    if (*at != 0) {
        size_t i = 1;
        while (units[i] != NULL && strcmp(units[i], at) != 0)
            i++;
        if (units[i] == NULL)
            return false;
        factor = factors[i];
    }
    return !__builtin_mul_overflow(n, factor, out);
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
    static const char *const none[] = {"", NULL}, *const sizes[] = {"", "k", "M", "G", NULL},
                             *const times[] = {"", "ms", "s", "m", "h", NULL};
    switch (i->kind) {
    case PAWL_SETTING_NUMBER:
        return number(text, none, (uint64_t[]){1}, out);
    case PAWL_SETTING_SIZE:
        return number(text, sizes, (uint64_t[]){1, 1u << 10, 1u << 20, 1u << 30}, out);
    case PAWL_SETTING_TIME:
        return number(text, times, (uint64_t[]){1000, 1, 1000, 60000, 3600000}, out);
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
    static const char *const text[] = {"text", "a decimal number",
                                       "a size, such as 512, 64k, 16M or 1G",
                                       "a time, such as 500ms, 10s, 5m or 1h", "true or false"};
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
    for (const pawl_setting_info *i = c->settings; i != NULL && i->name != NULL; i++)
        if (i->required != 0 && given(s, i->name) == NULL)
            return connect_error(err, PAWL_INVALID, "%s needs the setting \"%s\": %s", c->type,
                                 i->name, i->help);
    return 0;
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
