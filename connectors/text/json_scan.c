/* SPDX-License-Identifier: Apache-2.0
 *
 * The scanner reads the text once. At each level it keeps one bit for each path that has matched so
 * far. Where no path matches, it only checks the syntax.
 */
#include <stdlib.h>
#include <string.h>

#include "connectors/text/json_scan.h"
#include "connectors/text/utf8.h"

/* ---- paths */

static const char *quoted_key(const char **at, char **out) {
    char quote = *(*at)++;
    while (**at != 0 && **at != quote) {
        if (**at == '\\' && (*at)[1] != 0)
            ++*at;
        *(*out)++ = *(*at)++;
    }
    if (**at != quote || (*at)[1] != ']')
        return "a name in [''] does not end";
    *at += 2;
    return NULL;
}

/* "01" is a name, not a number. */
static bool read_index(struct json_step *s, const char *at, size_t len) {
    uint64_t n = 0;
    if (len > 1 && at[0] == '0')
        return false;
    for (size_t i = 0; i < len; i++) {
        if (at[i] < '0' || at[i] > '9')
            return false;
        n = n * 10 + (uint64_t)(at[i] - '0');
    }
    s->is_index = len > 0 && len <= 18;
    s->index = s->is_index ? n : 0;
    return s->is_index;
}

static const char *bracket(const char **at, char **out, struct json_step *s) {
    ++*at;
    s->key = *out;
    if (**at == '\'' || **at == '"')
        return quoted_key(at, out);
    s->key = NULL;
    size_t len = strcspn(*at, "]");
    if (!read_index(s, *at, len) || (*at)[len] != ']')
        return "[ ] needs a number or a quoted name";
    *at += len + 1;
    return NULL;
}

const char *json_path_parse(struct json_path *p, const char *text) {
    size_t n = strlen(text);
    const char *why = text[0] == '$' ? NULL : "a path begins with $", *at = text + (n > 0);
    *p = (struct json_path){.text = malloc(n + 1), .steps = calloc(n + 1, sizeof *p->steps)};
    if (p->text == NULL || p->steps == NULL)
        why = "no memory";
    for (char *out = p->text; why == NULL && *at != 0;) {
        struct json_step *s = &p->steps[p->count++];
        char *begun = out;
        if (*at == '[') {
            why = bracket(&at, &out, s);
        } else if (*at == '.') {
            size_t len = strcspn(++at, ".[");
            memcpy(out, at, len);
            s->key = out;
            (void)read_index(s, at, len);
            out += len;
            at += len;
            why = len == 0 ? "a name is empty" : NULL;
        } else {
            why = "after $ come .name, [number] or ['name']";
        }
        s->key_len = (size_t)(out - begun);
    }
    if (why == NULL && p->count >= JSON_DEPTH_MAX)
        why = "too deep";
    if (why != NULL)
        json_path_free(p);
    return why;
}

const char *json_path_parse_short(struct json_path *p, const char *text) {
    if (text[0] == '$')
        return json_path_parse(p, text);
    size_t n = strlen(text);
    char *whole = malloc(n + 3);
    if (whole == NULL)
        return "no memory";
    memcpy(whole, text[0] == '[' ? "$" : "$.", 2);
    memcpy(whole + (text[0] == '[' ? 1 : 2), text, n + 1);
    const char *why = json_path_parse(p, whole);
    free(whole);
    return why;
}

void json_path_free(struct json_path *p) {
    free(p->text);
    free(p->steps);
    *p = (struct json_path){0};
}

/* ---- strings */

static int hex4(const char *at) {
    int n = 0;
    for (int i = 0; i < 4; i++) {
        int c = at[i] | 0x20;
        n = n * 16 + (at[i] <= '9' ? at[i] - '0' : c - 'a' + 10);
    }
    return n;
}

size_t json_unescape(const char *at, size_t len, char *out, bool *whole) {
    const char *end = at + len;
    char *to = out;
    while (at < end) {
        const char *slash = memchr(at, '\\', (size_t)(end - at));
        size_t plain = (size_t)((slash != NULL ? slash : end) - at);
        memcpy(to, at, plain);
        to += plain;
        at += plain;
        if (slash == NULL)
            break;
        static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
        if (at[1] != 'u') {
            *to++ = values[strchr(names, at[1]) - names];
            at += 2;
            continue;
        }
        uint32_t c = (uint32_t)hex4(at + 2);
        at += 6;
        if (c >= 0xD800 && c < 0xDC00 && end - at >= 6 && at[0] == '\\' && at[1] == 'u') {
            uint32_t low = (uint32_t)hex4(at + 2);
            if (low >= 0xDC00 && low < 0xE000) {
                c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
                at += 6;
            }
        }
        if (c >= 0xD800 && c < 0xE000) {
            c = 0xFFFD;
            *whole = false;
        }
        to += utf8_put(to, c);
    }
    return (size_t)(to - out);
}

/* ---- the scanner */

struct scan {
    const char *at, *end;
    const struct json_path *paths;
    struct json_found *found;
    const char *why;
    bool any_bytes; /* strings may contain bytes that are not UTF-8 */
};

const char JSON_NO_MEMORY[] = "no memory";

static bool fail(struct scan *s, const char *why) {
    s->why = why;
    return false;
}

static void blanks(struct scan *s) {
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\r' || *s->at == '\t'))
        s->at++;
}

static bool is_hex(char c) {
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

/* Reads a string, from its opening quote to just after the closing one. */
static bool string(struct scan *s, bool *escaped) {
    *escaped = false;
    for (s->at++; s->at < s->end; s->at++) {
        unsigned char c = (unsigned char)*s->at;
        if (c == '"') {
            s->at++;
            return true;
        }
        if (c < 0x20)
            return fail(s, "a control character in a string");
        if (c >= 0x80 && !s->any_bytes) {
            size_t n = utf8_sequence((const unsigned char *)s->at, (size_t)(s->end - s->at));
            if (n == 0)
                return fail(s, "a byte that is not UTF-8");
            s->at += n - 1;
        }
        if (c != '\\')
            continue;
        *escaped = true;
        if (++s->at == s->end)
            break;
        if (*s->at == 'u') {
            if (s->end - s->at < 5 || !is_hex(s->at[1]) || !is_hex(s->at[2]) || !is_hex(s->at[3]) ||
                !is_hex(s->at[4]))
                return fail(s, "\\u without four hex digits");
            s->at += 4;
        } else if (*s->at == 0 || strchr("\"\\/bfnrt", *s->at) == NULL) {
            return fail(s, "an unknown escape in a string");
        }
    }
    return fail(s, "a string does not end");
}

static size_t digits(struct scan *s) {
    const char *from = s->at;
    while (s->at < s->end && *s->at >= '0' && *s->at <= '9')
        s->at++;
    return (size_t)(s->at - from);
}

static bool number(struct scan *s) {
    if (*s->at == '-')
        s->at++;
    bool zero = s->at < s->end && *s->at == '0';
    size_t n = digits(s);
    if (n == 0 || (zero && n > 1))
        return fail(s, "no valid number");
    if (s->at < s->end && *s->at == '.') {
        s->at++;
        if (digits(s) == 0)
            return fail(s, "a number without digits after its point");
    }
    if (s->at < s->end && (*s->at | 0x20) == 'e') {
        s->at++;
        if (s->at < s->end && (*s->at == '+' || *s->at == '-'))
            s->at++;
        if (digits(s) == 0)
            return fail(s, "a number without digits in its exponent");
    }
    return true;
}

static bool word(struct scan *s, const char *text) {
    size_t n = strlen(text);
    if ((size_t)(s->end - s->at) < n || memcmp(s->at, text, n) != 0)
        return fail(s, "neither a value nor a known word");
    s->at += n;
    return true;
}

/* The paths in `active` that continue with this key or, if key is NULL, this index. All of `active`
 * have matched down to `depth`. */
static uint64_t step(const struct scan *s, uint64_t active, size_t depth, const char *key,
                     size_t len, uint64_t index) {
    uint64_t out = 0;
    for (uint64_t left = active; left != 0; left &= left - 1) {
        unsigned i = (unsigned)__builtin_ctzll(left);
        const struct json_path *p = &s->paths[i];
        if (p->count <= depth)
            continue;
        const struct json_step *want = &p->steps[depth];
        bool same = key == NULL ? want->is_index && want->index == index
                                : want->key != NULL && want->key_len == len &&
                                      memcmp(want->key, key, len) == 0;
        out |= same ? left & -left : 0;
    }
    return out;
}

static uint64_t escaped_step(struct scan *s, uint64_t active, size_t depth, const char *key,
                             size_t len) {
    bool whole = true;
    char small[256], *plain = len <= sizeof small ? small : malloc(len);
    if (plain == NULL) {
        fail(s, JSON_NO_MEMORY);
        return 0;
    }
    len = json_unescape(key, len, plain, &whole);
    uint64_t out = step(s, active, depth, plain, len, 0);
    if (plain != small)
        free(plain);
    return out;
}

static bool value(struct scan *s, uint64_t active, size_t depth);

static bool members(struct scan *s, uint64_t active, size_t depth) {
    s->at++;
    blanks(s);
    if (s->at < s->end && *s->at == '}') {
        s->at++;
        return true;
    }
    for (;; blanks(s)) {
        bool escaped;
        if (s->at == s->end || *s->at != '"')
            return fail(s, "a name in quotes is missing");
        const char *key = s->at + 1;
        if (!string(s, &escaped))
            return false;
        size_t len = (size_t)(s->at - 1 - key);
        uint64_t next = active == 0 ? 0
                        : escaped   ? escaped_step(s, active, depth, key, len)
                                    : step(s, active, depth, key, len, 0);
        /* if the name came before, the last one counts */
        for (uint64_t left = next; left != 0; left &= left - 1)
            s->found[__builtin_ctzll(left)].type = FOUND_MISSING;
        blanks(s);
        if (s->why != NULL || s->at == s->end || *s->at != ':')
            return s->why != NULL ? false : fail(s, "a colon is missing");
        s->at++;
        if (!value(s, next, depth + 1))
            return false;
        if (s->at < s->end && *s->at == '}') {
            s->at++;
            return true;
        }
        if (s->at == s->end || *s->at != ',')
            return fail(s, "a comma or } is missing");
        s->at++;
    }
}

static bool elements(struct scan *s, uint64_t active, size_t depth) {
    s->at++;
    blanks(s);
    if (s->at < s->end && *s->at == ']') {
        s->at++;
        return true;
    }
    for (uint64_t i = 0;; i++) {
        if (!value(s, active == 0 ? 0 : step(s, active, depth, NULL, 0, i), depth + 1))
            return false;
        if (s->at < s->end && *s->at == ']') {
            s->at++;
            return true;
        }
        if (s->at == s->end || *s->at != ',')
            return fail(s, "a comma or ] is missing");
        s->at++;
    }
}

/* Reads a value and the blanks around it. */
static bool value(struct scan *s, uint64_t active, size_t depth) {
    struct json_found f = {0};
    bool well;
    blanks(s);
    if (s->at == s->end)
        return fail(s, depth == 0 ? "there is no value" : "it ends too early");
    if (depth > JSON_DEPTH_MAX)
        return fail(s, "nested too deeply");
    f.at = s->at;
    switch (*s->at) {
    case '{':
        f.type = FOUND_OBJECT;
        well = members(s, active, depth);
        break;
    case '[':
        f.type = FOUND_ARRAY;
        well = elements(s, active, depth);
        break;
    case '"':
        f.type = FOUND_STRING;
        well = string(s, &f.escaped);
        break;
    case 't':
        f.type = FOUND_TRUE;
        well = word(s, "true");
        break;
    case 'f':
        f.type = FOUND_FALSE;
        well = word(s, "false");
        break;
    case 'n':
        f.type = FOUND_NULL;
        well = word(s, "null");
        break;
    default:
        f.type = FOUND_NUMBER;
        well = number(s);
    }
    if (!well)
        return false;
    f.len = (size_t)(s->at - f.at);
    if (f.type == FOUND_STRING) {
        f.at++;
        f.len -= 2;
    }
    for (uint64_t left = active; left != 0; left &= left - 1)
        if (s->paths[__builtin_ctzll(left)].count == depth)
            s->found[__builtin_ctzll(left)] = f;
    blanks(s);
    return true;
}

static const char *scan(struct scan *s, size_t count, size_t *where) {
    const char *text = s->at;
    for (size_t i = 0; i < count; i++)
        s->found[i] = (struct json_found){0};
    uint64_t all = count >= 64 ? UINT64_MAX : (UINT64_C(1) << count) - 1;
    if (s->end - s->at >= 3 && memcmp(s->at, UTF8_BOM, 3) == 0)
        s->at += 3;
    if (value(s, all, 0) && s->at != s->end)
        s->why = "something follows the value";
    *where = (size_t)(s->at - text);
    return s->why;
}

const char *json_scan(const char *text, size_t len, const struct json_path *paths, size_t count,
                      struct json_found *found, size_t *where) {
    struct scan s = {.at = text, .end = text + len, .paths = paths, .found = found};
    return scan(&s, count, where);
}

const char *json_scan_bytes(const char *text, size_t len, const struct json_path *paths,
                            size_t count, struct json_found *found, size_t *where) {
    struct scan s = {
        .at = text, .end = text + len, .paths = paths, .found = found, .any_bytes = true};
    return scan(&s, count, where);
}
