/* SPDX-License-Identifier: Apache-2.0
 *
 * matcher.c - regular expressions by PCRE2, on bytes. A match that takes more steps than the limit
 * is given up, and is an error of that record: a pattern that explodes on some line costs a bounded
 * time.
 */
#if PAWL_WITH_PCRE2
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connectors/text/matcher.h"

#if PAWL_WITH_PCRE2

#define HEAP_KIB 4096

struct matcher {
    pcre2_code *code;
    uint32_t limit;
    uint32_t groups, entry_size, captures;
    PCRE2_SPTR names;
};

struct matcher_space {
    pcre2_match_data *data;
    pcre2_match_context *context;
};

matcher *matcher_new(const char *pattern, bool caseless, uint64_t limit, pawl_error *err) {
    int code;
    PCRE2_SIZE at;
    matcher *m = calloc(1, sizeof *m);
    if (m == NULL) {
        connect_error_set(err, PAWL_MEMORY, "no memory for a pattern");
        return NULL;
    }
    pcre2_compile_context *c = pcre2_compile_context_create(NULL);
    if (c != NULL)
        pcre2_set_max_pattern_length(c, 16384);
    m->code =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                      PCRE2_NEVER_BACKSLASH_C | (caseless ? PCRE2_CASELESS : 0), &code, &at, c);
    pcre2_compile_context_free(c);
    if (m->code == NULL) {
        PCRE2_UCHAR text[160];
        pcre2_get_error_message(code, text, sizeof text);
        connect_error_set(err, PAWL_INVALID,
                          "the pattern does not compile: %s, at character %zu of it", (char *)text,
                          at + 1);
        free(m);
        return NULL;
    }
    (void)pcre2_jit_compile(m->code, PCRE2_JIT_COMPLETE); /* without it: interpreted, slower */
    m->limit = limit < UINT32_MAX ? (uint32_t)limit : UINT32_MAX;
    pcre2_pattern_info(m->code, PCRE2_INFO_CAPTURECOUNT, &m->captures);
    pcre2_pattern_info(m->code, PCRE2_INFO_NAMECOUNT, &m->groups);
    pcre2_pattern_info(m->code, PCRE2_INFO_NAMEENTRYSIZE, &m->entry_size);
    pcre2_pattern_info(m->code, PCRE2_INFO_NAMETABLE, &m->names);
    return m;
}

void matcher_free(matcher *m) {
    if (m != NULL)
        pcre2_code_free(m->code);
    free(m);
}

matcher_space *matcher_space_new(const matcher *m) {
    matcher_space *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->data = pcre2_match_data_create_from_pattern(m->code, NULL);
    s->context = pcre2_match_context_create(NULL);
    if (s->data == NULL || s->context == NULL) {
        matcher_space_free(s);
        return NULL;
    }
    pcre2_set_match_limit(s->context, m->limit);
    pcre2_set_depth_limit(s->context, m->limit);
    pcre2_set_heap_limit(s->context, HEAP_KIB);
    return s;
}

void matcher_space_free(matcher_space *s) {
    if (s == NULL)
        return;
    pcre2_match_data_free(s->data);
    pcre2_match_context_free(s->context);
    free(s);
}

int matcher_run(const matcher *m, matcher_space *s, const char *bytes, size_t size,
                const char **why) {
    return matcher_run_from(m, s, bytes, size, 0, why);
}

int matcher_run_from(const matcher *m, matcher_space *s, const char *bytes, size_t size, size_t at,
                     const char **why) {
    int rc = pcre2_match(m->code, (PCRE2_SPTR)(bytes != NULL ? bytes : ""), size, at, 0, s->data,
                         s->context);
    if (rc >= 0)
        return 1;
    if (rc == PCRE2_ERROR_NOMATCH)
        return 0;
    *why = rc == PCRE2_ERROR_MATCHLIMIT || rc == PCRE2_ERROR_DEPTHLIMIT ||
                   rc == PCRE2_ERROR_HEAPLIMIT || rc == PCRE2_ERROR_JIT_STACKLIMIT
               ? "the pattern takes more steps on it than match_limit allows"
               : "the pattern could not be matched";
    return -1;
}

uint32_t matcher_groups(const matcher *m) {
    return m->groups;
}

/* An entry of the table: the group's number in two bytes, high one first, then its name. In order
 * of names. */
const char *matcher_group_name(const matcher *m, uint32_t index) {
    return (const char *)m->names + (size_t)index * m->entry_size + 2;
}

bool matcher_group(const matcher *m, const matcher_space *s, uint32_t index, size_t *from,
                   size_t *to) {
    PCRE2_SPTR entry = m->names + (size_t)index * m->entry_size;
    return matcher_span(m, s, (uint32_t)entry[0] << 8 | entry[1], from, to);
}

uint32_t matcher_captures(const matcher *m) {
    return m->captures;
}

bool matcher_span(const matcher *m, const matcher_space *s, uint32_t number, size_t *from,
                  size_t *to) {
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(s->data);
    if (number > m->captures)
        return false;
    *from = at[2 * (size_t)number];
    *to = at[2 * (size_t)number + 1];
    return *from != PCRE2_UNSET && *to >= *from;
}

#else /* all that is ever called is matcher_new(), and matcher_free(NULL) */

matcher *matcher_new(const char *pattern, bool caseless, uint64_t limit, pawl_error *err) {
    (void)pattern, (void)caseless, (void)limit;
    connect_error(err, PAWL_NOT_FOUND, "this build has no regular expressions (PCRE2)");
    return NULL;
}

void matcher_free(matcher *m) {
    (void)m;
}

matcher_space *matcher_space_new(const matcher *m) {
    (void)m;
    return NULL;
}

void matcher_space_free(matcher_space *s) {
    (void)s;
}

int matcher_run(const matcher *m, matcher_space *s, const char *bytes, size_t size,
                const char **why) {
    (void)m, (void)s, (void)bytes, (void)size;
    *why = "this build has no regular expressions (PCRE2)";
    return -1;
}

uint32_t matcher_groups(const matcher *m) {
    (void)m;
    return 0;
}

const char *matcher_group_name(const matcher *m, uint32_t index) {
    (void)m, (void)index;
    return "";
}

bool matcher_group(const matcher *m, const matcher_space *s, uint32_t index, size_t *from,
                   size_t *to) {
    (void)m, (void)s, (void)index, (void)from, (void)to;
    return false;
}

int matcher_run_from(const matcher *m, matcher_space *s, const char *bytes, size_t size, size_t at,
                     const char **why) {
    (void)at;
    return matcher_run(m, s, bytes, size, why);
}

uint32_t matcher_captures(const matcher *m) {
    (void)m;
    return 0;
}

bool matcher_span(const matcher *m, const matcher_space *s, uint32_t number, size_t *from,
                  size_t *to) {
    (void)m, (void)s, (void)number, (void)from, (void)to;
    return false;
}

#endif
