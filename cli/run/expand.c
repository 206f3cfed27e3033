/* SPDX-License-Identifier: Apache-2.0
 *
 * expand.c - environment variables and secrets in the scalars of a pipeline's file. This happens
 * after YAML was parsed, so a value can't add keys, lists or comments to the file, whatever it
 * contains. Messages about the file show ${NAME}, as it has it, in place of the value.
 */
#include "cli/run/tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "pawl_connect.h"

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

/* ---- variables that were used, by name and value */

#define USED_MAX 256
#define VALUE_LENGTH_MIN 4 /* shorter ones are in every message */
#define CUT_LENGTH_MIN 3u  /* of a value whose rest was cut off */

static struct { char *name, *value; } used[USED_MAX]; /* only the main thread reads files */
static size_t used_count;

/* A variable with such a name holds a secret. */
static bool is_secret_name(const char *name) {
    static const char *const words[] = {"PASS", "SECRET", "TOKEN", "CREDENTIAL", "PWD", "_KEY"};
    if (strcmp(name, "PWD") == 0 || strcmp(name, "OLDPWD") == 0)
        return false;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcasestr(name, words[i]) != NULL)
            return true;
    return false;
}

static void remember(const char *name, const char *value) {
    if (is_secret_name(name))
        pawl_secret_add(value);
    for (size_t i = 0; i < used_count; i++)
        if (strcmp(used[i].name, name) == 0 && strcmp(used[i].value, value) == 0)
            return;
    char *own_name = used_count < USED_MAX ? strdup(name) : NULL;
    char *own_value = own_name != NULL ? strdup(value) : NULL;
    if (own_value == NULL) {
        free(own_name);
        return;
    }
    used[used_count].name = own_name;
    used[used_count++].value = own_value;
}

/* A message that was cut in the middle of a value ends with the value's beginning. */
static void hide_cut(char *text, const char *value, size_t n) {
    size_t len = strlen(text);
    for (size_t part = n - 1 < len ? n - 1 : len; part >= CUT_LENGTH_MIN; part--)
        if (memcmp(text + len - part, value, part) == 0) {
            memset(text + len - part, '.', 3);
            text[len - part + 3] = 0;
            return;
        }
}

void tree_hide_variables(char *text, size_t size, bool cut) {
    for (size_t i = 0; i < used_count; i++) {
        char name[NAME_LENGTH_MAX + 4];
        size_t n = strlen(used[i].value),
               len = (size_t)snprintf(name, sizeof name, "${%s}", used[i].name);
        if (n < VALUE_LENGTH_MIN)
            continue;
        for (char *at = text; (at = strstr(at, used[i].value)) != NULL; at += len) {
            size_t rest = strlen(at + n) + 1, before = (size_t)(at - text);
            if (before + len + 1 > size)
                len = size - before - 1;
            if (before + len + rest > size)
                rest = size - before - len;
            memmove(at + len, at + n, rest);
            memcpy(at, name, len);
            text[size - 1] = 0;
        }
        if (cut)
            hide_cut(text, used[i].value, n);
    }
}

void tree_secret(const char *text) {
    for (size_t i = 0; i < used_count; i++)
        if (strlen(used[i].value) >= VALUE_LENGTH_MIN && strstr(text, used[i].value) != NULL)
            pawl_secret_add(used[i].value);
}

/* ---- ${credential:NAME}, ${file:PATH} */

#define SECRET_SIZE 4096

/* The secret, in `secret`; NULL with *why. */
static const char *secret_of(const char *inside, size_t len, char secret[SECRET_SIZE],
                             char why[TREE_WHY_MAX]) {
    char path[4096];
    pawl_error e = {0};
    const char *directory = getenv("CREDENTIALS_DIRECTORY"), *at = strchr(inside, ':') + 1;
    size_t n = len - (size_t)(at - inside);
    bool file = strncmp(inside, "file:", 5) == 0;
    if (!file && (directory == NULL || directory[0] != '/')) {
        snprintf(why, TREE_WHY_MAX,
                 "${credential:...}: there is no CREDENTIALS_DIRECTORY; systemd makes it where the "
                 "unit has LoadCredential=");
        return NULL;
    }
    if (n == 0 || n > 255 || (!file && (memchr(at, '/', n) != NULL || at[0] == '.'))) {
        snprintf(why, TREE_WHY_MAX,
                 "${%s:...} needs a %s after the :", file ? "file" : "credential",
                 file ? "path of at most 255 bytes" : "name without a /");
        return NULL;
    }
    snprintf(path, sizeof path, "%.3000s%s%.*s", file ? "" : directory, file ? "" : "/", (int)n,
             at);
    if (pawl_secret_read(path, secret, SECRET_SIZE, &e) >= 0)
        return secret;
    snprintf(why, TREE_WHY_MAX, "%s", e.message);
    return NULL;
}

/* What stands between ${ and }. Returns the value and its length, or NULL with *why. */
static const char *value_of(const char *inside, size_t len, size_t *value_len,
                            char secret[SECRET_SIZE], char why[TREE_WHY_MAX]) {
    if (strncmp(inside, "credential:", 11) == 0 || strncmp(inside, "file:", 5) == 0) {
        const char *text = secret_of(inside, len, secret, why);
        *value_len = text != NULL ? strlen(text) : 0;
        return text;
    }
    size_t name_len = strspn(inside, NAME_CHARS);
    char name[NAME_LENGTH_MAX + 1];
    const char *fallback = NULL;
    if (name_len > len)
        name_len = len;
    bool plain = name_len == len, has_fallback = strncmp(inside + name_len, ":-", 2) == 0;
    if (name_len == 0 || name_len > NAME_LENGTH_MAX || (inside[0] >= '0' && inside[0] <= '9') ||
        (!plain && !has_fallback)) {
        snprintf(
            why, TREE_WHY_MAX,
            "\"${%.*s}\" is not ${NAME}, ${NAME:-default}, ${credential:NAME} or ${file:PATH}; "
            "write $${ for ${ itself",
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
    remember(name, value);
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
    char secret[SECRET_SIZE];
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
            value = value_of(dollar + 2, (size_t)(end - dollar - 2), &value_len, secret, why);
        if (value == NULL)
            *line += lines_between(text, dollar);
        good = value != NULL && add(&out, at, (size_t)(dollar - at)) && add(&out, value, value_len);
        at = end != NULL ? end + 1 : at;
    }
    explicit_bzero(secret, sizeof secret);
    if (good && add(&out, at, strlen(at)))
        return out.bytes;
    free(out.bytes);
    return NULL;
}
