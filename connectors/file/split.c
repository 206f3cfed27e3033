/* SPDX-License-Identifier: Apache-2.0
 *
 * split.c - see split.h. Settings, encodings, and lines that are records as they are; split_join.c
 * has the rest.
 */
#include "connectors/file/split.h"

#include <stdlib.h>
#include <string.h>

#include "connectors/file/split_join.h"
#include "connectors/text/utf16.h"

#define MATCH_LIMIT 1000000 /* steps of a match */

/* ---- settings */

static int pattern(const pawl_connector *c, const pawl_settings *g, const char *name, matcher **out,
                   pawl_error *err) {
    const char *text = pawl_setting_text(c, g, name);
    pawl_error why;
    if (text == NULL)
        return 0;
    *out = matcher_new(text, false, MATCH_LIMIT, &why);
    return *out != NULL ? 0 : connect_error(err, why.code, "%s: %s", name, why.message);
}

int split_make(const pawl_connector *c, const pawl_settings *g, struct split **out,
               pawl_error *err) {
    struct split_settings s = {
        .format = connect_setting_choice(c, g, "format"),
        .encoding = connect_setting_choice(c, g, "encoding"),
        .crlf = pawl_setting_number(c, g, "crlf") != 0,
        .skip_blank = pawl_setting_number(c, g, "blank") != 0,
        .line_max = (size_t)pawl_setting_number(c, g, "line_max"),
        .wait_ms = connect_setting_small(c, g, "multiline.max_wait"),
        .lines_max = connect_setting_small(c, g, "multiline.max_lines"),
        .bytes_max = (size_t)pawl_setting_number(c, g, "multiline.max_bytes"),
    };
    *out = NULL;
    s.skip_blank |= s.format == SPLIT_JSON;
    if (s.line_max < 64 || s.line_max > 64u << 20)
        return connect_error(err, PAWL_INVALID, "line_max must be 64 to 64M");
    if (s.bytes_max < 64 || s.bytes_max > 64u << 20 || s.lines_max < 1)
        return connect_error(err, PAWL_INVALID,
                             "multiline.max_bytes must be 64 to 64M, max_lines at least 1");
    int rc = pattern(c, g, "multiline.begin", &s.begin, err);
    if (rc == 0)
        rc = pattern(c, g, "multiline.continue", &s.go_on, err);
    if (rc == 0 && s.begin != NULL && s.go_on != NULL)
        rc =
            connect_error(err, PAWL_INVALID, "multiline takes begin or continue, not both of them");
    if (rc == 0 && (*out = split_new(&s)) == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory for a source");
    if (rc < 0) {
        matcher_free(s.begin);
        matcher_free(s.go_on);
    }
    return rc;
}

struct split *split_new(const struct split_settings *set) {
    struct split *s = calloc(1, sizeof *s);
    const matcher *m = set->begin != NULL ? set->begin : set->go_on;
    if (s != NULL) {
        s->set = *set;
        if (m == NULL || (s->space = matcher_space_new(m)) != NULL)
            return s;
        free(s);
    }
    matcher_free(set->begin);
    matcher_free(set->go_on);
    return NULL;
}

void split_free(struct split *s) {
    if (s == NULL)
        return;
    join_free(s);
    matcher_space_free(s->space);
    matcher_free(s->set.begin);
    matcher_free(s->set.go_on);
    free(s);
}

const struct split_settings *split_settings(const struct split *s) {
    return &s->set;
}

bool split_joins(const struct split *s) {
    return s->set.begin != NULL || s->set.go_on != NULL || s->set.format >= SPLIT_CRI;
}

bool split_plain(const struct split *s, int encoding) {
    return encoding == SPLIT_BYTES && !s->set.skip_blank && !split_joins(s);
}

size_t split_most(const struct split *s) {
    return s->set.line_max + (split_joins(s) ? s->set.bytes_max : 0) + 4;
}

/* ---- encodings */

int split_encoding(const struct split *s, const uint8_t *bytes, size_t n, size_t *mark) {
    static const struct {
        const char *mark;
        uint8_t len;
        int encoding;
    } marks[] = {{"\xEF\xBB\xBF", 3, SPLIT_BYTES},
                 {"\xFF\xFE", 2, SPLIT_UTF16LE},
                 {"\xFE\xFF", 2, SPLIT_UTF16BE}};
    int set = s->set.encoding;
    *mark = 0;
    if (set == SPLIT_BYTES)
        return set;
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++)
        if (n >= marks[i].len && memcmp(bytes, marks[i].mark, marks[i].len) == 0 &&
            (set == SPLIT_AUTO || set == marks[i].encoding)) {
            *mark = marks[i].len;
            return marks[i].encoding;
        }
    return set == SPLIT_AUTO ? SPLIT_BYTES : set;
}

const uint8_t *split_first_end(int encoding, const uint8_t *from, size_t n) {
    bool wide = encoding != SPLIT_BYTES;
    const uint8_t *at = wide     ? utf16_newline(from, n, encoding == SPLIT_UTF16BE)
                        : n != 0 ? memchr(from, '\n', n)
                                 : NULL;
    return at != NULL ? at + 1 + wide : NULL;
}

const uint8_t *split_last_end(int encoding, const uint8_t *from, size_t n) {
    bool wide = encoding != SPLIT_BYTES;
    const uint8_t *at = wide     ? utf16_last_newline(from, n, encoding == SPLIT_UTF16BE)
                        : n != 0 ? memrchr(from, '\n', n)
                                 : NULL;
    return at != NULL ? at + 1 + wide : NULL;
}

/* ---- lines as they are */

static enum split_result take_plain(struct split *s, struct split_job *j) {
    const uint8_t *end = j->end, *at = j->from;
    enum split_result why = SPLIT_DONE;
    if ((size_t)(end - at) > j->bytes) {
        const uint8_t *last = split_last_end(SPLIT_BYTES, at, j->bytes);
        end = last != NULL ? last : split_first_end(SPLIT_BYTES, at, (size_t)(end - at));
    }
    while (why == SPLIT_DONE && at < end && j->count < j->max) {
        size_t n = lines_split(at, end, j->records + j->count, j->max - j->count, s->set.line_max,
                               s->set.crlf, j->now_ns, &at);
        j->count += n;
        if (at == end || j->count == j->max)
            break;
        /* the line has a hole, or is too long */
        n = (size_t)(split_first_end(SPLIT_BYTES, at, (size_t)(end - at)) - at) - 1;
        const uint8_t *hole = lines_hole(at, n);
        why = hole == at ? SPLIT_HOLE : SPLIT_LONG;
        if (hole != NULL && hole != at && (size_t)(hole - at) <= s->set.line_max) {
            pawl_record *r = &j->records[j->count++];
            r->value = at;
            r->value_len = (uint32_t)(hole - at);
            r->timestamp_ns = j->now_ns;
            at = hole;
            why = SPLIT_HOLE;
        }
    }
    j->next = at;
    for (size_t i = 0; j->marks != NULL && i < j->count; i++)
        j->marks[i] = (uint64_t)((const uint8_t *)j->records[i].value - j->from);
    return j->count != 0 ? SPLIT_DONE : why;
}

enum split_result split_take(struct split *s, struct split_job *j) {
    j->count = 0;
    j->next = j->from;
    return split_plain(s, j->encoding) ? take_plain(s, j) : join_take(s, j);
}
