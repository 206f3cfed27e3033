/* SPDX-License-Identifier: Apache-2.0 */
#include "forge.h"

#include <stdlib.h>

/* One edit, as it is in the input. Numbers of segments, frames, runs and fields are taken modulo
 * how many there are, so that every string of bytes is a list of edits. */
struct edit {
    uint8_t kind, segment, frame, run, field, how;
    uint16_t n;
    uint64_t value;
};
_Static_assert(sizeof(struct edit) == FORGE_EDIT_SIZE, "an edit has no padding");

/* What an edit is about; NULL where it isn't there. */
struct about {
    struct forge *f;
    struct forge_segment *segment;
    struct forge_frame *frame;
    struct forge_run *run;
    uint32_t frame_at, run_at;
};

static void lie(struct forge_lies *l, struct forge_field at, const struct edit *e) {
    if (l->count < FORGE_LIES)
        l->lie[l->count++] = (struct forge_lie){at.at, at.width, e->how, e->value};
}

/* ---- a field of something */

static void header_field(struct about *a, const struct edit *e) {
    static const struct {
        uint16_t at;
        uint8_t width;
    } fields[] = {{0, 8},   {8, 4},   {12, 4},  {16, 8},  {24, 8},  {32, 8},  {40, 8},
                  {48, 8},  {56, 8},  {64, 8},  {72, 8},  {80, 8},  {88, 8},  {96, 8},
                  {104, 8}, {112, 8}, {200, 8}, {256, 4}, {260, 4}, {264, 4}, {268, 4},
                  {272, 8}, {280, 8}, {288, 8}, {4080, 8}};
    size_t i = e->field % (sizeof fields / sizeof *fields);
    struct forge_lies *l = &a->segment->lies;
    if (l->count < FORGE_LIES)
        l->lie[l->count++] = (struct forge_lie){fields[i].at, fields[i].width, e->how, e->value};
}

static void frame_field(struct about *a, const struct edit *e) {
    static const struct forge_field fields[] = {{0, 4},  {4, 1},  {5, 1},  {6, 2},  {8, 8},
                                                {16, 8}, {24, 8}, {32, 8}, {40, 8}, {48, 8},
                                                {56, 8}, {64, 4}, {68, 4}};
    if (a->frame != NULL)
        lie(&a->frame->lies, fields[e->field % (sizeof fields / sizeof *fields)], e);
}

static void run_field(struct about *a, const struct edit *e) {
    static const struct forge_field fields[] = {{0, 2},  {2, 2},  {4, 4},  {8, 4},
                                                {12, 4}, {16, 8}, {24, 4}, {28, 4}};
    if (a->run != NULL)
        lie(&a->run->lies, fields[e->field % (sizeof fields / sizeof *fields)], e);
}

/* Sets what the run honestly says, which takes part in what joins. */
static void run_truth(struct about *a, const struct edit *e) {
    struct forge_run *r = a->run;
    if (r == NULL)
        return;
    uint32_t *fields[] = {&r->stream, &r->partition, &r->count};
    uint32_t *field = fields[e->field % 3];
    *field = (uint32_t)forge_value(e->how, e->value, *field);
}

/* Where the n-th entry of a run begins; its length, or 0. */
static uint32_t entry_at(const struct forge_run *r, const struct forge_shape *s, uint32_t n,
                         uint32_t *at) {
    uint32_t size = 0;
    *at = 0;
    for (uint32_t i = 0; i <= n; i++) {
        uint32_t next = forge_entry(s, r->body, r->len, *at + size);
        if (next == 0)
            return i == 0 ? 0 : size; /* the last one there is */
        *at += size;
        size = next;
    }
    return size;
}

static const struct forge_field *field_of(const struct forge_shape *s, uint8_t i) {
    uint32_t n = 0;
    while (n < FORGE_FIELDS && s->field[n].width != 0)
        n++;
    return &s->field[i % n];
}

static void entry_field(struct about *a, const struct edit *e) {
    const struct forge_shape *s = a->run != NULL ? forge_shape(a->run->type) : NULL;
    uint32_t at;
    if (s == NULL || entry_at(a->run, s, e->n, &at) == 0)
        return;
    const struct forge_field *field = field_of(s, e->field);
    uint8_t *p = a->run->body + at + field->at;
    if (at + field->at + field->width > a->run->len)
        return;
    forge_put(p, field->width, forge_value(e->how, e->value, forge_get(p, field->width)));
}

/* Bytes of a run as they come, names among them. */
static void run_bytes(struct about *a, const struct edit *e) {
    if (a->run == NULL || a->run->len == 0)
        return;
    for (uint32_t i = 0; i < 8; i++)
        a->run->body[(e->n + i) % a->run->len] = (uint8_t)(e->value >> i * 8);
}

/* A name, or another variable part, of another length. */
static void entry_name(struct about *a, const struct edit *e) {
    struct forge_run *r = a->run;
    const struct forge_shape *s = r != NULL ? forge_shape(r->type) : NULL;
    uint32_t at, size, want = e->how, head;
    if (s == NULL || (size = entry_at(r, s, e->field, &at)) == 0 || s->part[0].width == 0)
        return;
    head = s->head;
    uint32_t whole = (uint32_t)forge_align(head + want, s->pad);
    uint8_t *body = forge_memory(r->len - size + whole);
    if (body == NULL)
        return;
    memcpy(body, r->body, at + head);
    for (uint32_t i = 0; i < want; i++)
        body[at + head + i] = (uint8_t)(e->value >> i % 8 * 8);
    for (int i = 0; i < 4; i++)
        forge_put(body + at + s->part[i].at, s->part[i].width, i == 0 ? want : 0);
    memcpy(body + at + whole, r->body + at + size, r->len - at - size);
    r->body = body;
    r->len = r->len - size + whole;
}

/* ---- more and less of something */

/* Repeats an entry, up to n times, and moves one of its fields on by `value` each time. */
static void entry_repeat(struct about *a, const struct edit *e) {
    struct forge_run *r = a->run;
    const struct forge_shape *s = r != NULL ? forge_shape(r->type) : NULL;
    uint32_t at, size;
    if (s == NULL || (size = entry_at(r, s, e->how, &at)) == 0)
        return;
    const struct forge_field *field = field_of(s, e->field);
    uint32_t room = FORGE_SEGMENT - FORGE_HEAD - 3000, n = e->n;
    if (r->len >= room)
        return;
    if (n > (room - r->len) / size)
        n = (room - r->len) / size;
    uint8_t *body = forge_memory(r->len + (size_t)n * size);
    if (body == NULL)
        return;
    memcpy(body, r->body, r->len);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *p = body + r->len + (size_t)i * size;
        memcpy(p, r->body + at, size);
        uint64_t old = forge_get(p + field->at, field->width);
        forge_put(p + field->at, field->width, old + (i + 1) * e->value);
    }
    r->body = body;
    r->len += n * size;
    r->count += n;
}

static void run_length(struct about *a, const struct edit *e) {
    struct forge_run *r = a->run;
    if (r == NULL)
        return;
    uint32_t len = (uint32_t)forge_value(e->how, e->value, r->len) % (FORGE_SEGMENT - 16384);
    uint8_t *body = forge_memory(len);
    if (body == NULL)
        return;
    if (r->len != 0 && len != 0)
        memcpy(body, r->body, len < r->len ? len : r->len);
    r->body = body;
    r->len = len;
}

static void run_copy(struct about *a, const struct edit *e) {
    for (uint32_t i = 0; a->run != NULL && i <= e->n % FORGE_RUNS; i++)
        if (!forge_run_insert(a->frame, a->run_at, forge_run_copy(a->run)))
            return;
}

static void run_drop(struct about *a, const struct edit *e) {
    (void)e;
    if (a->run == NULL)
        return;
    struct forge_frame *f = a->frame;
    memmove(&f->run[a->run_at], &f->run[a->run_at + 1],
            (f->runs - a->run_at - 1) * sizeof f->run[0]);
    f->runs--;
}

static struct forge_frame *other_frame(struct about *a, const struct edit *e) {
    const struct forge_segment *s = &a->f->segment[e->value % a->f->segments];
    return s->frames == 0 ? NULL : s->frame[e->n % s->frames];
}

/* Exchanges two runs, of any two frames. */
static void run_swap(struct about *a, const struct edit *e) {
    struct forge_frame *f = other_frame(a, e);
    if (f == NULL || f->runs == 0 || a->run == NULL)
        return;
    struct forge_run **x = &f->run[e->field % f->runs];
    a->frame->run[a->run_at] = *x;
    *x = a->run;
}

static void run_add(struct about *a, const struct edit *e) {
    static const uint16_t types[] = {
        RECORDS,  SPILLED,   POSITIONS, PRODUCERS,   STATE,        CATALOG,     SINKS,
        INDEX,    C_STREAMS, C_NEXT,    C_PRODUCERS, C_PROCESSORS, C_POSITIONS, C_SETTINGS,
        C_SINKS,  C_SPANS,   C_IDS,     CLOCK,       ORIGINS,      9,           TABLES,
        C_TABLES, C_DIGESTS, C_RUNS,    C_STATE,     C_RUN_HASHES, 0x800F,      0xC00F};
    if (a->frame != NULL)
        (void)forge_run_insert(a->frame, e->run,
                               forge_run_usual(types[e->field % (sizeof types / sizeof *types)]));
}

static void run_loose(struct about *a, const struct edit *e) {
    if (a->run == NULL)
        return;
    a->run->loose = true;
    a->run->base = forge_value(e->how, e->value, a->run->base);
}

/* A SPILLED run refers to any frame. */
static void run_refers(struct about *a, const struct edit *e) {
    if (a->run != NULL)
        a->run->spill = other_frame(a, e);
}

static void frame_copy(struct about *a, const struct edit *e) {
    for (uint32_t i = 0; a->frame != NULL && i <= e->n % FORGE_FRAMES; i++)
        if (!forge_frame_insert(a->segment, a->frame_at + 1, forge_frame_copy(a->frame)))
            return;
}

static void frame_drop(struct about *a, const struct edit *e) {
    (void)e;
    if (a->frame == NULL)
        return;
    struct forge_segment *s = a->segment;
    memmove(&s->frame[a->frame_at], &s->frame[a->frame_at + 1],
            (s->frames - a->frame_at - 1) * sizeof s->frame[0]);
    s->frames--;
}

static void frame_swap(struct about *a, const struct edit *e) {
    struct forge_segment *s = &a->f->segment[e->value % a->f->segments];
    if (a->frame == NULL || s->frames == 0)
        return;
    struct forge_frame **x = &s->frame[e->n % s->frames];
    a->segment->frame[a->frame_at] = *x;
    *x = a->frame;
}

static void frame_add(struct about *a, const struct edit *e) {
    struct forge_frame *f = forge_frame_usual((uint8_t)(e->field % 9));
    if (f != NULL)
        f->group = (e->how & 1) != 0;
    (void)forge_frame_insert(a->segment, a->frame_at, f);
}

static void frame_group(struct about *a, const struct edit *e) {
    if (a->frame != NULL)
        a->frame->group = (e->how & 1) != 0;
}

/* ---- segments and files */

static void segment_drop(struct about *a, const struct edit *e) {
    (void)e;
    a->segment->missing = true;
}

static void segment_add(struct about *a, const struct edit *e) {
    struct forge *f = a->f;
    if (f->segments == FORGE_SEGMENTS)
        return;
    struct forge_segment *s = &f->segment[f->segments++];
    for (uint32_t i = 0; (e->how & 1) != 0 && i < a->segment->frames; i++)
        (void)forge_frame_insert(s, i, forge_frame_copy(a->segment->frame[i]));
}

/* The segment's frames come once more, all of them. */
static void segment_twice(struct about *a, const struct edit *e) {
    struct forge_segment *s = a->segment;
    uint32_t n = s->frames;
    (void)e;
    for (uint32_t i = 1; i + 1 < n; i++)
        (void)forge_frame_insert(s, n - 1 + i - 1, forge_frame_copy(s->frame[i]));
}

static void segment_file(struct about *a, const struct edit *e) {
    struct forge_segment *s = a->segment;
    if (e->field % 3 == 0)
        s->length = (uint32_t)forge_value(e->how, e->value, s->length) % (2 * FORGE_SEGMENT);
    else if (e->field % 3 == 1)
        s->name = forge_value(e->how, e->value, s->name);
    else
        s->bad_copies = e->how & 3;
}

/* Bytes that nobody mended. */
static void damage(struct about *a, const struct edit *e) {
    struct forge *f = a->f;
    if (f->damages == FORGE_DAMAGES)
        return;
    uint32_t len = e->how % 5 == 0 ? 4096 : 1u + e->how % 64;
    uint32_t at = e->n;
    if (a->frame != NULL && a->segment->frames != 0 && (e->field & 1) != 0)
        at = FORGE_HEAD + e->n % 4096;
    f->damage[f->damages++] = (struct forge_damage){(uint32_t)(a->segment - f->segment), at, len,
                                                    e->value != 0 ? e->value : 1};
}

/* ---- the run file: `segment` chooses the block, `frame` the entry */

static struct forge_block *block_of(struct about *a, const struct edit *e) {
    struct forge_file *f = &a->f->file;
    return f->blocks == 0 ? NULL : &f->block[e->segment % f->blocks];
}

static struct forge_item *item_of(struct about *a, const struct edit *e) {
    struct forge_block *b = block_of(a, e);
    return b == NULL || b->items == 0 ? NULL : &b->item[e->frame % b->items];
}

static void file_field(struct about *a, const struct edit *e) {
    static const struct forge_field fields[] = {
        {0, 8},   {8, 4},   {12, 4},  {16, 8},  {32, 8},  {64, 4},  {68, 4},  {72, 8},
        {80, 4},  {84, 4},  {88, 8},  {96, 8},  {104, 8}, {112, 8}, {120, 8}, {128, 8},
        {136, 4}, {140, 4}, {144, 4}, {148, 4}, {152, 4}, {156, 4}, {160, 8}};
    lie(&a->f->file.lies, fields[e->field % (sizeof fields / sizeof *fields)], e);
}

/* A field of the block's head, or any two bytes after it: places of entries among them. */
static void block_field(struct about *a, const struct edit *e) {
    static const struct forge_field fields[] = {{8, 4},  {12, 4}, {16, 1},
                                                {17, 1}, {18, 2}, {20, 4}};
    struct forge_block *b = block_of(a, e);
    if (b == NULL)
        return;
    if (e->field % 7 < 6)
        lie(&b->lies, fields[e->field % 7], e);
    else if (b->lies.count < FORGE_LIES)
        b->lies.lie[b->lies.count++] =
            (struct forge_lie){(uint16_t)(24 + e->n % 4000), 2, e->how, e->value};
}

/* What the block honestly is. */
static void block_truth(struct about *a, const struct edit *e) {
    struct forge_block *b = block_of(a, e);
    if (b == NULL)
        return;
    if (e->field % 4 == 0)
        b->kind = (uint8_t)(1 + e->how % 3);
    else if (e->field % 4 == 1)
        b->level = (uint8_t)(e->how % 40);
    else if (e->field % 4 == 2)
        b->more = e->how;
    else
        b->prefix_len = e->how % (sizeof b->prefix + 1);
}

static void block_copy(struct about *a, const struct edit *e) {
    struct forge_file *f = &a->f->file;
    const struct forge_block *b = block_of(a, e);
    for (uint32_t i = 0; b != NULL && i <= e->n % 4u && f->blocks < FORGE_BLOCKS; i++)
        f->block[f->blocks++] = *b;
}

static void block_drop(struct about *a, const struct edit *e) {
    struct forge_file *f = &a->f->file;
    if (f->blocks < 2) /* an index names one */
        return;
    uint32_t at = e->segment % f->blocks;
    memmove(&f->block[at], &f->block[at + 1], (f->blocks - at - 1) * sizeof f->block[0]);
    f->blocks--;
}

/* Another block is the root, of another height. */
static void block_root(struct about *a, const struct edit *e) {
    struct forge_file *f = &a->f->file;
    f->root = e->segment;
    f->height = (uint32_t)forge_value(e->how, e->value, f->height);
}

static void item_bytes(struct about *a, const struct edit *e) {
    struct forge_item *i = item_of(a, e);
    if (i == NULL)
        return;
    uint8_t *to = (e->field & 1) != 0 ? i->key : i->body;
    uint32_t *len = (e->field & 1) != 0 ? &i->key_len : &i->body_len;
    to[e->n % sizeof i->key] = (uint8_t)e->value;
    if ((e->field & 2) != 0)
        *len = e->how % (sizeof i->key + 1);
    i->loose |= (e->field & 4) != 0;
}

static void item_child(struct about *a, const struct edit *e) {
    struct forge_item *i = item_of(a, e);
    if (i != NULL)
        i->child = e->how;
}

/* Repeats an entry, and moves its key on each time. */
static void item_repeat(struct about *a, const struct edit *e) {
    struct forge_block *b = block_of(a, e);
    for (uint32_t n = 0; b != NULL && b->items != 0 && n <= e->n % FORGE_ITEMS; n++) {
        if (b->items == FORGE_ITEMS)
            return;
        struct forge_item *i = &b->item[b->items];
        *i = b->item[b->items - 1];
        b->items++;
        uint8_t *at = &i->key[e->how % sizeof i->key];
        *at = (uint8_t)(*at + e->value);
    }
}

static void file_itself(struct about *a, const struct edit *e) {
    struct forge_file *f = &a->f->file;
    if (e->field % 3 == 0)
        f->missing = true;
    else if (e->field % 3 == 1)
        f->name = forge_value(e->how, e->value, f->name);
    else
        f->length = (uint32_t)(forge_value(e->how, e->value, 5 * 4096) % (64 * 4096));
}

static void (*const edits[])(struct about *a, const struct edit *e) = {
    header_field, frame_field, run_field, run_truth, entry_field, run_bytes, entry_name,
    entry_repeat, run_length, run_copy, run_drop, run_swap, run_add, run_loose, run_refers,
    frame_copy, frame_drop, frame_swap, frame_add, frame_group, segment_drop, segment_add,
    segment_twice, segment_file, damage,
    /* only of a log with state, so that what edits mean to the others stays */
    file_field, block_field, block_truth, block_copy, block_drop, block_root, item_bytes,
    item_child, item_repeat, file_itself};
#define STATE_EDITS 10u

_Static_assert(sizeof edits / sizeof *edits == FORGE_EDIT_KINDS, "the mutator knows all of them");
static unsigned kinds(const struct forge *f) {
    return (unsigned)(sizeof edits / sizeof *edits) - (f->stateful ? 0 : STATE_EDITS);
}

void forge_edit(struct forge *f, const uint8_t *data, size_t size) {
    size_t count = size / FORGE_EDIT_SIZE;
    for (size_t i = 0; i < count && i < FORGE_EDITS; i++) {
        struct edit e;
        memcpy(&e, data + i * FORGE_EDIT_SIZE, sizeof e);
        struct about a = {.f = f, .segment = &f->segment[e.segment % f->segments]};
        if (a.segment->frames != 0) {
            a.frame_at = e.frame % a.segment->frames;
            a.frame = a.segment->frame[a.frame_at];
            a.run_at = a.frame->runs != 0 ? e.run % a.frame->runs : 0;
            a.run = a.frame->runs != 0 ? a.frame->run[a.run_at] : NULL;
        }
        edits[e.kind % kinds(f)](&a, &e);
    }
}
