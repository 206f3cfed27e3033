/* SPDX-License-Identifier: Apache-2.0
 *
 * tree.c - see tree.h. libyaml parses; this builds the tree from its events.
 */
#include "cli/run/tree.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define DEPTH_MAX 16
#define NODES_MAX 20000u

typedef struct reading {
    yaml_parser_t parser;
    tree_error *err;
    const char *bytes;
    size_t size;
    uint32_t nodes;
} reading;

static int failed(reading *r, size_t line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int failed(reading *r, size_t line, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(r->err->message, sizeof r->err->message, format, args);
    va_end(args);
    r->err->line = (uint32_t)line;
    return -1;
}

/* Is the character with that index a tab, or is there only white space with a tab in it before it
 * in its line? The index counts characters, not bytes. */
static bool has_tab(const reading *r, size_t index) {
    const char *at = r->bytes, *end = r->bytes + r->size, *blank = NULL;
    bool only_blanks = true;
    for (; at < end; at++) {
        if (((unsigned char)*at & 0xC0) != 0x80 && index-- == 0)
            break;
        if (*at == '\n')
            only_blanks = true, blank = NULL;
        else if (*at == '\t')
            blank = at;
        else
            only_blanks = only_blanks && *at == ' ';
    }
    return at < end && (*at == '\t' || (only_blanks && blank != NULL));
}

static int next(reading *r, yaml_event_t *e) {
    if (yaml_parser_parse(&r->parser, e) != 0)
        return 0;
    const yaml_parser_t *p = &r->parser;
    size_t line = p->error == YAML_READER_ERROR ? 0 : p->problem_mark.line + 1;
    if (p->error == YAML_SCANNER_ERROR && has_tab(r, p->problem_mark.index))
        return failed(r, line, "a tab where YAML takes spaces only: indent with spaces");
    return failed(r, line, "%s%s%s", p->problem != NULL ? p->problem : "cannot be read",
                  p->context != NULL ? ", " : "", p->context != NULL ? p->context : "");
}

static void free_node(tree_node *n) {
    for (size_t i = 0; i < n->count; i++)
        free_node(&n->children[i]);
    free(n->children);
    free(n->text);
    free(n->key);
}

void tree_free(tree_node *documents, size_t count) {
    for (size_t i = 0; i < count; i++)
        free_node(&documents[i]);
    free(documents);
}

const tree_node *tree_get(const tree_node *map, const char *key) {
    for (size_t i = 0; map != NULL && map->kind == YAML_MAP && i < map->count; i++)
        if (strcmp(map->children[i].key, key) == 0)
            return &map->children[i];
    return NULL;
}

/* Room for one more in an array of nodes, cleared; NULL: no memory. */
static tree_node *grow(tree_node **all, size_t count) {
    if (*all == NULL || (count & (count - 1)) == 0) { /* doubled at each power of two */
        tree_node *q = realloc(*all, (count == 0 ? 1 : count * 2) * sizeof *q);
        if (q == NULL)
            return NULL;
        *all = q;
    }
    (*all)[count] = (tree_node){0};
    return &(*all)[count];
}

static int take_text(reading *r, const yaml_event_t *e, char **out) {
    size_t line = e->start_mark.line + 1;
    char why[TREE_WHY_MAX];
    if (e->data.scalar.tag != NULL || e->data.scalar.anchor != NULL)
        return failed(r, line, "tags and anchors have no meaning here");
    if (memchr(e->data.scalar.value, 0, e->data.scalar.length) != NULL)
        return failed(r, line, "a text must not have a NUL in it");
    line += e->data.scalar.style == YAML_LITERAL_SCALAR_STYLE ||
            e->data.scalar.style == YAML_FOLDED_SCALAR_STYLE; /* after the line with | or > */
    *out = tree_expand((const char *)e->data.scalar.value, &line, why);
    return *out != NULL ? 0 : failed(r, line, "%s", why);
}

static int take_key(reading *r, const yaml_event_t *e, const tree_node *map, tree_node *child) {
    child->key_line = (uint32_t)e->start_mark.line + 1;
    if (e->type != YAML_SCALAR_EVENT)
        return failed(r, child->key_line, "a key must be a text");
    if (take_text(r, e, &child->key) != 0)
        return -1;
    for (size_t i = 0; i + 1 < map->count; i++)
        if (strcmp(map->children[i].key, child->key) == 0)
            return failed(r, child->key_line, "\"%s\" is given twice (first in line %u)",
                          child->key, map->children[i].key_line);
    return 0;
}

static int build(reading *r, const yaml_event_t *e, tree_node *n, int depth);

static int build_children(reading *r, tree_node *n, int depth) {
    bool map = n->kind == YAML_MAP;
    for (;;) {
        yaml_event_t e;
        if (next(r, &e) != 0)
            return -1;
        if (e.type == (map ? YAML_MAPPING_END_EVENT : YAML_SEQUENCE_END_EVENT)) {
            yaml_event_delete(&e);
            return 0;
        }
        tree_node *child = grow(&n->children, n->count);
        int rc = child != NULL ? 0 : failed(r, n->line, "out of memory");
        if (rc == 0) {
            n->count++;
            rc = map ? take_key(r, &e, n, child) : build(r, &e, child, depth + 1);
        }
        yaml_event_delete(&e);
        if (rc == 0 && map) {
            rc = next(r, &e);
            if (rc == 0) {
                rc = build(r, &e, child, depth + 1);
                yaml_event_delete(&e);
            }
        }
        if (rc != 0)
            return rc;
    }
}

static bool stands_for_nothing(const yaml_event_t *e) {
    const char *text = (const char *)e->data.scalar.value;
    return e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (text[0] == 0 || strcmp(text, "~") == 0 || strcmp(text, "null") == 0);
}

static int build(reading *r, const yaml_event_t *e, tree_node *n, int depth) {
    n->line = (uint32_t)e->start_mark.line + 1;
    if (++r->nodes > NODES_MAX || depth > DEPTH_MAX)
        return failed(r, n->line,
                      depth > DEPTH_MAX ? "nested too deeply" : "too much for a configuration");
    switch (e->type) {
    case YAML_SCALAR_EVENT:
        n->kind = YAML_TEXT;
        n->empty = stands_for_nothing(e);
        return take_text(r, e, &n->text);
    case YAML_SEQUENCE_START_EVENT:
        n->kind = YAML_LIST;
        if (e->data.sequence_start.tag != NULL || e->data.sequence_start.anchor != NULL)
            return failed(r, n->line, "tags and anchors have no meaning here");
        return build_children(r, n, depth);
    case YAML_MAPPING_START_EVENT:
        n->kind = YAML_MAP;
        if (e->data.mapping_start.tag != NULL || e->data.mapping_start.anchor != NULL)
            return failed(r, n->line, "tags and anchors have no meaning here");
        return build_children(r, n, depth);
    default:
        return failed(r, n->line, "aliases have no meaning here");
    }
}

static int documents_of(reading *r, tree_node **documents, size_t *count) {
    for (;;) {
        yaml_event_t e;
        if (next(r, &e) != 0)
            return -1;
        yaml_event_type_t type = e.type;
        int rc = 0;
        if (type == YAML_SCALAR_EVENT || type == YAML_SEQUENCE_START_EVENT ||
            type == YAML_MAPPING_START_EVENT || type == YAML_ALIAS_EVENT) {
            tree_node *n = grow(documents, *count);
            rc = n != NULL ? 0 : failed(r, 0, "out of memory");
            *count += n != NULL;
            if (rc == 0)
                rc = build(r, &e, n, 0);
        }
        yaml_event_delete(&e);
        if (rc != 0 || type == YAML_STREAM_END_EVENT)
            return rc;
    }
}

int tree_read(const char *bytes, size_t size, tree_node **documents, size_t *count,
              tree_error *err) {
    reading r = {.err = err, .bytes = bytes, .size = size};
    *documents = NULL;
    *count = 0;
    if (size > YAML_BYTES_MAX)
        return failed(&r, 0, "larger than 1 MiB: that is no configuration");
    if (size >= 2 && (memcmp(bytes, "\xFF\xFE", 2) == 0 || memcmp(bytes, "\xFE\xFF", 2) == 0))
        return failed(&r, 0, "the file is UTF-16: save it as UTF-8");
    if (size >= 3 && memcmp(bytes, "\xEF\xBB\xBF", 3) == 0)
        r.bytes = bytes += 3, r.size = size -= 3;
    if (yaml_parser_initialize(&r.parser) == 0)
        return failed(&r, 0, "out of memory");
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)(size != 0 ? bytes : ""), size);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    int rc = documents_of(&r, documents, count);
    yaml_parser_delete(&r.parser);
    if (rc != 0) {
        tree_free(*documents, *count);
        *documents = NULL;
        *count = 0;
    }
    return rc;
}
