/* SPDX-License-Identifier: Apache-2.0
 *
 * expand.c - environment variables in the scalars of a pipeline's file. This happens after YAML was
 * parsed, so a value can't add keys, lists or comments to the file, whatever it contains.
 */
#include "cli/run/tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_CHARS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789"
#define NAME_LENGTH_MAX 100

struct growing {
    char *bytes;
    size_t len, room;
};

static bool add(struct growing *g, const char *text, size_t len) {
    if (g->room - g->len <= len) {
        size_t room = 2 * (g->len + len) + 16;
        char *q = realloc(g->bytes, room);
        if (q == NULL)
            return false;
        g->bytes = q;
        g->room = room;
    }
    memcpy(g->bytes + g->len, text, len);
    g->len += len;
    g->bytes[g->len] = 0;
    return true;
}

/* What stands between ${ and }. Returns the value and its length, or NULL with *why. */
static const char *value_of(const char *inside, size_t len, size_t *value_len,
                            char why[TREE_WHY_MAX]) {
    size_t name_len = strspn(inside, NAME_CHARS);
    char name[NAME_LENGTH_MAX + 1];
    const char *fallback = NULL;
    if (name_len > len)
        name_len = len;
    bool plain = name_len == len, has_fallback = strncmp(inside + name_len, ":-", 2) == 0;
    if (name_len == 0 || name_len > NAME_LENGTH_MAX || (inside[0] >= '0' && inside[0] <= '9') ||
        (!plain && !has_fallback)) {
        snprintf(why, TREE_WHY_MAX,
                 "\"${%.*s}\" is not ${NAME} or ${NAME:-default}; write $${ for ${ itself",
                 (int)(len > 40 ? 40 : len), inside);
        return NULL;
    }
    memcpy(name, inside, name_len);
    name[name_len] = 0;
    if (has_fallback)
        fallback = inside + name_len + 2;
    if (fallback != NULL && memchr(fallback, '$', len - name_len - 2) != NULL &&
        strstr(fallback, "${") != NULL && strstr(fallback, "${") < inside + len) {
        snprintf(why, TREE_WHY_MAX, "the default of ${%.60s} has a ${ in it: that is not possible",
                 name);
        return NULL;
    }
    const char *value = getenv(name);
    if (value == NULL && fallback == NULL) {
        snprintf(why, TREE_WHY_MAX,
                 "the environment has no variable %.60s; set it, or write ${%.30s:-default}", name,
                 name);
        return NULL;
    }
    if (fallback != NULL && (value == NULL || value[0] == 0)) {
        *value_len = len - name_len - 2;
        return fallback;
    }
    *value_len = strlen(value);
    return value;
}

static size_t lines_between(const char *from, const char *to) {
    size_t n = 0;
    for (; from < to; from++)
        n += *from == '\n';
    return n;
}

char *tree_expand(const char *text, size_t *line, char why[TREE_WHY_MAX]) {
    struct growing out = {0};
    const char *at = text, *dollar;
    bool good = add(&out, "", 0);
    snprintf(why, TREE_WHY_MAX, "out of memory");
    while (good && (dollar = strstr(at, "${")) != NULL) {
        if (dollar > at && dollar[-1] == '$') { /* $${ is ${ */
            good = add(&out, at, (size_t)(dollar - 1 - at)) && add(&out, "${", 2);
            at = dollar + 2;
            continue;
        }
        const char *end = strchr(dollar, '}'), *value = NULL;
        size_t value_len = 0;
        if (end == NULL)
            snprintf(why, TREE_WHY_MAX, "a ${ without its }; write $${ for ${ itself");
        else
            value = value_of(dollar + 2, (size_t)(end - dollar - 2), &value_len, why);
        if (value == NULL)
            *line += lines_between(text, dollar);
        good = value != NULL && add(&out, at, (size_t)(dollar - at)) && add(&out, value, value_len);
        at = end != NULL ? end + 1 : at;
    }
    if (good && add(&out, at, strlen(at)))
        return out.bytes;
    free(out.bytes);
    return NULL;
}
