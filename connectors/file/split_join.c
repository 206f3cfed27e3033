/* SPDX-License-Identifier: Apache-2.0
 *
 * Records of several lines, and lines that are changed: containers' formats, UTF-16, blank lines.
 *
 * A line goes through at most three steps: it becomes UTF-8; the partial lines of a container are
 * joined into a line of the program (`part`); lines are joined into a record (`join`). A *cut* is a
 * place before which every line belongs to a complete record. Only the records before a cut are
 * given.
 */
#include <stdlib.h>
#include <string.h>

#include "connectors/file/split_join.h"
#include "connectors/text/utf16.h"

#define BLOCK_SIZE 65536u
/* The most records that a line completes (the one before, and itself), and that end_all() does. */
#define LINE_RECORDS 2u
#define LEFT_RECORDS (2u * CONTAINER_STREAMS)

struct work {
    struct split *s;
    struct split_job *j;
    size_t at;     /* the current line */
    size_t cut;    /* everything before it is given */
    size_t waits;  /* complete records after the cut; they stand after the `count` given ones */
    size_t newest; /* the latest line of them */
    bool memory;   /* an allocation failed */
};

/* ---- memory */

static char *take_memory(struct work *w, size_t n) {
    struct block *b = w->s->blocks;
    if (b == NULL || b->size - b->used < n) {
        size_t size = n > BLOCK_SIZE ? n : BLOCK_SIZE;
        b = malloc(sizeof *b + size);
        if (b == NULL) {
            w->memory = true;
            return NULL;
        }
        *b = (struct block){.next = w->s->blocks, .size = size};
        w->s->blocks = b;
    }
    b->used += n;
    return b->bytes + b->used - n;
}

static void free_blocks(struct block *b) {
    while (b != NULL) {
        struct block *next = b->next;
        free(b);
        b = next;
    }
}

/* Keeps one block. */
static void reset_memory(struct split *s) {
    if (s->blocks == NULL)
        return;
    free_blocks(s->blocks->next);
    s->blocks->next = NULL;
    s->blocks->used = 0;
}

void join_free(struct split *s) {
    free_blocks(s->blocks);
    for (size_t i = 0; i < CONTAINER_STREAMS; i++) {
        free(s->part[i].pieces);
        free(s->join[i].pieces);
    }
}

const void *split_text(struct split *s, int encoding, const uint8_t *from, size_t n, size_t *len) {
    struct work w = {.s = s};
    *len = n;
    if (encoding == SPLIT_BYTES)
        return from;
    reset_memory(s);
    char *text = take_memory(&w, UTF16_ROOM(n));
    *len = text != NULL ? utf16_to_utf8(from, n, encoding == SPLIT_UTF16BE, text) : 0;
    return text;
}

/* ---- groups */

static void group_clear(struct group *g) {
    g->count = g->bytes = g->lines = 0;
    g->start = SIZE_MAX;
    g->last = 0;
    g->attrs = NULL;
    g->attrs_len = 0;
}

static void group_add(struct work *w, struct group *g, struct piece p, size_t start) {
    if (g->count == g->room) {
        size_t room = g->room != 0 ? 2 * g->room : 16;
        struct piece *more = realloc(g->pieces, room * sizeof *more);
        if (more == NULL) {
            w->memory = true;
            return;
        }
        g->pieces = more;
        g->room = room;
    }
    g->pieces[g->count++] = p;
    g->bytes += p.len;
    g->start = g->start < start ? g->start : start;
    g->last = w->at;
    g->lines++;
}

/* The pieces as one; between two of them `between`, unless that is 0. */
static struct piece whole(struct work *w, const struct group *g, char between) {
    if (g->count == 1)
        return g->pieces[0];
    size_t len = g->bytes + (between != 0 ? g->count - 1 : 0);
    char *text = take_memory(w, len), *at = text;
    for (size_t i = 0; text != NULL && i < g->count; i++) {
        if (i != 0 && between != 0)
            *at++ = between;
        memcpy(at, g->pieces[i].at, g->pieces[i].len);
        at += g->pieces[i].len;
    }
    return (struct piece){text, text != NULL ? len : 0};
}

/* ---- records */

static pawl_header header(const char *name, const char *value, size_t len) {
    return (pawl_header){name, value, (uint16_t)strlen(name), (uint16_t)len};
}

/* Adds a complete record behind those that wait. `stream` -1: none. */
static void emit(struct work *w, struct piece p, int64_t time_ns, int stream, const char *mark,
                 const char *mark_value, const struct group *g) {
    static const char *const names[] = {"stdout", "stderr"};
    pawl_record *r = &w->j->records[w->j->count + w->waits++];
    pawl_header h[3];
    uint16_t n = 0;
    if (w->s->set.format >= SPLIT_CRI && stream >= 0)
        h[n++] = header("stream", names[stream], 6);
    if (g != NULL && g->attrs != NULL && g->attrs_len <= UINT16_MAX)
        h[n++] = header("attrs", g->attrs, g->attrs_len);
    if (mark != NULL)
        h[n++] = header(mark, mark_value, strlen(mark_value));
    *r = (pawl_record){.value = p.at, .value_len = (uint32_t)p.len, .timestamp_ns = time_ns};
    size_t last = g != NULL ? g->last : w->at;
    if (w->j->marks != NULL)
        w->j->marks[w->j->count + w->waits - 1] = g != NULL ? g->start : w->at;
    w->newest = w->newest > last ? w->newest : last;
    if (n == 0)
        return;
    /* aligned, since all that is taken besides is text */
    size_t align = _Alignof(pawl_header);
    char *room = take_memory(w, n * sizeof h[0] + align);
    if (room == NULL)
        return;
    room += (align - (uintptr_t)room % align) % align;
    memcpy(room, h, n * sizeof h[0]);
    r->headers = (const pawl_header *)(const void *)room;
    r->header_count = n;
}

static void emit_join(struct work *w, int stream, const char *why) {
    struct group *g = &w->s->join[stream];
    emit(w, whole(w, g, '\n'), g->time_ns, stream, why != NULL ? "pawl-incomplete" : NULL, why, g);
    group_clear(g);
}

/* 1: it matches; a match that takes too many steps counts as none. */
static bool matches(struct work *w, const matcher *m, struct piece p) {
    const char *why;
    return matcher_run(m, w->s->space, p.at, p.len, &why) == 1;
}

/* A whole line of the program: it is a record, or a line of one. */
static void add_text(struct work *w, struct piece p, const struct group *from, int stream,
                     size_t start, int64_t time_ns) {
    const struct split_settings *set = &w->s->set;
    struct group *g = &w->s->join[stream];
    if (set->begin == NULL && set->go_on == NULL) {
        emit(w, p, time_ns, stream, NULL, NULL, from);
        return;
    }
    bool joins = set->begin != NULL ? !matches(w, set->begin, p) : matches(w, set->go_on, p);
    if (g->count != 0 && (!joins || g->lines >= set->lines_max))
        emit_join(w, stream, joins ? "max_lines" : NULL);
    if (g->count == 0) {
        g->time_ns = time_ns;
        g->attrs = from != NULL ? from->attrs : NULL;
        g->attrs_len = from != NULL ? from->attrs_len : 0;
    }
    group_add(w, g, p, start);
}

/* The partial lines of a stream are complete, or are given as they are. */
static void end_part(struct work *w, int stream) {
    struct group *g = &w->s->part[stream];
    add_text(w, whole(w, g, 0), g, stream, g->start, g->time_ns);
    group_clear(g);
}

/* Completes everything. `why`: what isn't complete is marked. */
static void end_all(struct work *w, const char *why) {
    bool multi = w->s->set.begin != NULL || w->s->set.go_on != NULL;
    for (int i = 0; i < CONTAINER_STREAMS; i++) {
        struct group *g = &w->s->part[i];
        bool part = g->count != 0;
        if (part && multi)
            end_part(w, i);
        else if (part) {
            emit(w, whole(w, g, 0), g->time_ns, i, "pawl-incomplete", why != NULL ? why : "end", g);
            group_clear(g);
        }
        if (w->s->join[i].count != 0)
            emit_join(w, i, part && why == NULL ? "end" : why);
    }
}

static void cut_at(struct work *w, size_t place) {
    w->cut = place;
    w->j->count += w->waits;
    w->waits = 0;
    w->newest = 0;
}

/* Cuts at the latest possible place up to `after`, the end of the current line. */
static void cut(struct work *w, size_t after) {
    size_t place = after;
    for (size_t i = 0; i < CONTAINER_STREAMS; i++) {
        place = place < w->s->part[i].start ? place : w->s->part[i].start;
        place = place < w->s->join[i].start ? place : w->s->join[i].start;
    }
    if (place > w->cut && (w->waits == 0 || place > w->newest))
        cut_at(w, place);
}

/* ---- lines */

static bool blank(struct piece p) {
    for (size_t i = 0; i < p.len; i++)
        if (p.at[i] != ' ' && p.at[i] != '\t' && p.at[i] != '\r')
            return false;
    return true;
}

static void add_container(struct work *w, struct piece p) {
    struct container_line line;
    char *room = w->s->set.format == SPLIT_DOCKER ? take_memory(w, p.len) : NULL;
    bool good = w->s->set.format == SPLIT_CRI
                    ? container_cri(p.at, p.len, &line)
                    : room != NULL && container_docker(p.at, p.len, room, &line);
    if (!good) {
        emit(w, p, w->j->now_ns, -1, "pawl-unparsed",
             w->s->set.format == SPLIT_CRI ? "cri" : "docker", NULL);
        return;
    }
    struct group *g = &w->s->part[line.stream];
    struct piece text = {line.text, line.len};
    if (!line.partial && w->s->set.crlf && text.len != 0 && text.at[text.len - 1] == '\r')
        text.len--;
    if (g->count == 0) {
        g->time_ns = line.time_ns;
        g->attrs = line.attrs;
        g->attrs_len = line.attrs_len;
    }
    group_add(w, g, text, w->at);
    if (!line.partial && !w->memory)
        end_part(w, line.stream);
}

/* Adds the n bytes of a line, without its end. */
static void add_line(struct work *w, const uint8_t *from, size_t n) {
    int encoding = w->j->encoding;
    struct piece p = {(const char *)from, n};
    if (encoding != SPLIT_BYTES) {
        char *text = take_memory(w, UTF16_ROOM(n));
        if (text == NULL)
            return;
        p = (struct piece){text, utf16_to_utf8(from, n, encoding == SPLIT_UTF16BE, text)};
    }
    if (w->s->set.crlf && p.len != 0 && p.at[p.len - 1] == '\r')
        p.len--;
    if (w->s->set.skip_blank && blank(p))
        return;
    if (w->s->set.format >= SPLIT_CRI)
        add_container(w, p);
    else
        add_text(w, p, NULL, 0, w->at, w->j->now_ns);
}

/* Something stands at w->at that is no line: what was begun before it is given. */
static enum split_result stop_before(struct work *w, enum split_result why) {
    end_all(w, NULL);
    if (w->at > w->cut || w->waits != 0)
        cut_at(w, w->at);
    return why;
}

/* One line. DONE: there may be another; else why not. */
static enum split_result take_line(struct work *w) {
    struct split_job *j = w->j;
    const uint8_t *from = j->from + w->at;
    const uint8_t *after = split_first_end(j->encoding, from, (size_t)(j->end - from));
    size_t size = (size_t)(after - from), n = size - (j->encoding == SPLIT_BYTES ? 1 : 2);
    const uint8_t *hole =
        n >= SPLIT_HOLE_MIN && j->encoding == SPLIT_BYTES ? lines_hole(from, n) : NULL;
    if (hole != NULL)
        n = size = (size_t)(hole - from);
    if (hole == from || n > w->s->set.line_max)
        return stop_before(w, hole == from ? SPLIT_HOLE : SPLIT_LONG);
    bool crowded = j->count + w->waits + LINE_RECORDS + LEFT_RECORDS > j->max + SPLIT_ROOM;
    if (crowded && j->count != 0)
        return SPLIT_OPEN; /* those that were cut are given first */
    if (crowded || (w->at > w->cut && w->at + size - w->cut > w->s->set.bytes_max)) {
        end_all(w, "max_bytes");
        cut_at(w, w->at);
    }
    add_line(w, from, n);
    w->at += size;
    if (hole != NULL)
        return stop_before(w, SPLIT_HOLE);
    cut(w, w->at);
    return SPLIT_DONE;
}

enum split_result join_take(struct split *s, struct split_job *j) {
    struct work w = {.s = s, .j = j};
    enum split_result why = SPLIT_DONE;
    size_t size = (size_t)(j->end - j->from);
    reset_memory(s);
    for (size_t i = 0; i < CONTAINER_STREAMS; i++) {
        group_clear(&s->part[i]);
        group_clear(&s->join[i]);
    }
    while (why == SPLIT_DONE && w.at < size && j->count < j->max && w.cut < j->bytes && !w.memory)
        why = take_line(&w);
    if (w.at == size && j->last && !w.memory && j->count < j->max) {
        end_all(&w, NULL);
        cut_at(&w, size);
    }
    if (w.memory) {
        j->count = 0;
        return SPLIT_MEMORY;
    }
    j->next = j->from + w.cut;
    return w.cut != 0 || j->count != 0 ? SPLIT_DONE : why != SPLIT_DONE ? why : SPLIT_OPEN;
}
