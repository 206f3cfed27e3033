/* SPDX-License-Identifier: Apache-2.0
 *
 * dedup.c - drops a record whose id came before: among the last `window` ids that were let through,
 * or within the last `span` of time, for each partition by itself.
 *
 * The ids are in its table, which changes in the commit that emits the records and moves the
 * position. Its pairs, with `window`:
 *
 *   "h"                 8 bytes each: the numbers of the oldest id kept, and of the next one
 *   "q", number         the id's pair below; the number has 8 bytes, big-endian
 *   "i", id             8 bytes: its number. An id of up to ID_WHOLE bytes; a longer one is
 *   "l", hash, length   XXH3-128 with the table's random seed, and 8 bytes
 *
 * With `span` only the ids, which expire.
 *
 * A dedup of an older version had no table: its window was the end of its output, which was kept
 * from retention by positions under the name NAME.window. What is there is put into the table
 * before anything else, and that name is forgotten.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "processors/keeper.h"

#define ID_WHOLE 64u
#define ID_KEY_MAX (1 + ID_WHOLE)
#define NUMBER_SIZE 8u
#define EVICT_MAX 8 /* ids that make room for a new one, where the window has become smaller */

typedef struct dedup {
    selector id;
    keeper keep;
    uint64_t window;  /* 0: span counts */
    uint64_t span_ms; /* 0: window counts */
} dedup;

static const pawl_setting_info settings[] = {
    PROC_TO,
    {"id", PAWL_SETTING_TEXT, 0, NULL, "key",
     "what makes records the same: key, value, json:PATH or header:NAME; a record without it is "
     "let through"},
    {"window", PAWL_SETTING_NUMBER, 0, NULL, "100000",
     "how many ids are remembered in each partition, 1 to 1000000000"},
    {"span", PAWL_SETTING_TIME, 0, NULL, NULL,
     "how long an id is remembered since it was let through, in place of window"},
    {NULL, 0, 0, NULL, NULL, NULL},
};
static int make_processor(const pawl_settings *s, pawl_processor_ops *out, pawl_error *err);
const pawl_connector connect_processor_dedup = {
    .type = "dedup",
    .help = "drops records whose id came before, within a window of ids or a span of time",
    .settings = settings,
    .make_processor = make_processor,
};

static void destroy(void *self) {
    dedup *x = self;
    selector_free(&x->id);
    keeper_free(&x->keep);
    free(x);
}

static bool given(const pawl_settings *s, const char *name) {
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->items[i].name, name) == 0)
            return true;
    return false;
}

static int make(proc *p, const pawl_settings *s, pawl_error *err) {
    static const char *const matter[] = {"id", NULL};
    const pawl_connector *c = &connect_processor_dedup;
    dedup *x = calloc(1, sizeof *x);
    if (x == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory");
    p->self = x;
    bool span = given(s, "span");
    x->window = span ? 0 : pawl_setting_number(c, s, "window");
    x->span_ms = pawl_setting_number(c, s, "span");
    x->keep.flags = PAWL_TABLE_LOCAL | (span ? PAWL_TABLE_EXPIRES : 0);
    int rc = selector_make(&x->id, c, s, "id", err);
    if (rc == 0)
        rc = keeper_make(&x->keep, c, s, matter, err);
    if (rc == 0)
        rc = keeper_add(&x->keep, "bound", span ? "span" : "window", "window", err);
    if (rc < 0)
        return rc;
    if (span && given(s, "window"))
        return connect_error(err, PAWL_INVALID, "line %u: either window or span, not both",
                             pawl_setting_line(s, "span"));
    if (span && x->span_ms == 0)
        return connect_error(err, PAWL_INVALID, "line %u: span must be at least 1ms",
                             pawl_setting_line(s, "span"));
    if (!span && (x->window < 1 || x->window > 1000000000))
        return connect_error(err, PAWL_INVALID, "line %u: window must be from 1 to 1000000000",
                             pawl_setting_line(s, "window"));
    return 0;
}

/* ---- keys and values */

#define HEAD "h"

struct head {
    uint64_t first, next; /* numbers: of the oldest id kept, and of the next one */
    bool read, changed;
};

static void head_encode(const struct head *h, uint8_t out[2 * NUMBER_SIZE]) {
    connect_put_le(out, h->first, NUMBER_SIZE);
    connect_put_le(out + NUMBER_SIZE, h->next, NUMBER_SIZE);
}

/* The place of an id in the queue; big-endian, so that places are in order. */
static void place_key(uint64_t number, uint8_t out[1 + NUMBER_SIZE]) {
    out[0] = 'q';
    for (uint32_t i = 0; i < NUMBER_SIZE; i++)
        out[1 + i] = (uint8_t)(number >> (8 * (NUMBER_SIZE - 1 - i)));
}

static size_t id_key(const dedup *x, const char *id, size_t size, uint8_t out[ID_KEY_MAX]) {
    if (size <= ID_WHOLE) {
        out[0] = 'i';
        memcpy(out + 1, id, size);
        return 1 + size;
    }
    XXH128_hash_t h = XXH3_128bits_withSeed(id, size, x->keep.seed);
    out[0] = 'l';
    connect_put_le(out + 1, h.low64, 8);
    connect_put_le(out + 9, h.high64, 8);
    connect_put_le(out + 17, size, 8);
    return 25;
}

/* ---- what an older version has left */

struct moving {
    const dedup *x;
    pawl_tx *tx; /* NULL: none is open */
    uint32_t partition;
    uint32_t changes;
    struct head head;
};

#define MOVED_AT_ONCE 128 /* ids in a transaction: these fit into the smallest log's */

static int commit_moved(struct moving *m, bool last) {
    uint8_t value[2 * NUMBER_SIZE];
    head_encode(&m->head, value);
    int rc = !last ? 0
                   : pawl_tx_state_put(m->tx, m->x->keep.table, m->partition, HEAD, 1, value,
                                       sizeof value);
    if (rc < 0)
        pawl_abort(m->tx);
    else
        rc = connect_commit(m->tx, last, NULL);
    m->tx = NULL;
    m->changes = 0;
    return rc;
}

static int move_id(struct moving *m, pawl *log, const char *id, size_t size) {
    const dedup *x = m->x;
    uint8_t key[ID_KEY_MAX], place[1 + NUMBER_SIZE], number[NUMBER_SIZE];
    size_t key_size = id_key(x, id, size, key);
    int rc = m->tx != NULL ? 0 : pawl_begin(log, &m->tx);
    if (rc < 0)
        return rc;
    if (x->span_ms != 0) {
        rc = pawl_tx_state_put_expiring(m->tx, x->keep.table, m->partition, key, key_size, "", 0,
                                        x->span_ms);
    } else {
        connect_put_le(number, m->head.next, sizeof number);
        place_key(m->head.next++, place);
        rc = pawl_tx_state_put(m->tx, x->keep.table, m->partition, key, key_size, number,
                               sizeof number);
        if (rc == 0)
            rc = pawl_tx_state_put(m->tx, x->keep.table, m->partition, place, sizeof place, key,
                                   key_size);
    }
    return rc == 0 && ++m->changes == MOVED_AT_ONCE ? commit_moved(m, false) : rc;
}

/* Reads the ids of the output's end. Records may have been dropped by retention, or lost. */
static int move_records(struct moving *m, pawl *log, pawl_reader *r, uint64_t end) {
    struct scratch own = {0};
    int rc = 0;
    while (rc >= 0 && pawl_reader_position(r) < end) {
        pawl_batch batch;
        rc = pawl_read(r, 0, 1000, &batch);
        if (rc == PAWL_LOST) /* taken out by repair */
            rc = 0;
        for (size_t i = 0; rc >= 0 && i < batch.count; i++) {
            const char *bytes, *why;
            size_t size;
            if (selector_get(&m->x->id, &batch.records[i], &own, &bytes, &size, &why) == 1)
                rc = move_id(m, log, bytes, size);
        }
    }
    buffer_free(&own.own);
    return rc;
}

static int move_partition(const dedup *x, pawl *log, const char *holder, uint32_t stream,
                          uint32_t partition) {
    pawl_bounds b = {0};
    pawl_reader *r;
    uint64_t from = 0;
    struct moving m = {.x = x, .partition = partition};
    int rc = pawl_position_get(log, holder, stream, partition, &from);
    if (rc == PAWL_NOT_FOUND) /* forgotten: then all of it was moved */
        return 0;
    if (rc == 0)
        rc = pawl_partition_bounds(log, stream, partition, &b);
    if (rc < 0)
        return rc;
    from = from > b.first ? from : b.first;
    if (x->window != 0 && b.end - from > x->window)
        from = b.end - x->window;
    rc = pawl_reader_open(log, stream, partition, from, PAWL_READ_UNCOMMITTED, &r);
    if (rc < 0)
        return rc;
    rc = move_records(&m, log, r, b.end);
    pawl_reader_close(r);
    if (rc >= 0 && m.tx == NULL)
        rc = pawl_begin(log, &m.tx);
    if (rc >= 0)
        return commit_moved(&m, true);
    pawl_abort(m.tx);
    return rc;
}

static int move_in(const dedup *x, const proc *p, pawl *log, pawl_error *err) {
    char holder[160];
    snprintf(holder, sizeof holder, "%s.window", p->name);
    int rc = 0;
    for (uint32_t i = 0; i < p->to[0].partitions && rc >= 0; i++)
        rc = move_partition(x, log, holder, p->to[0].id, i);
    if (rc >= 0 && (rc = pawl_processor_forget(log, holder)) == PAWL_NOT_FOUND)
        rc = 0;
    return rc < 0 ? keeper_says(p, rc, err) : 0;
}

static int start(proc *p, pawl *log, pawl_error *err) {
    dedup *x = p->self;
    char holder[160];
    uint64_t at;
    snprintf(holder, sizeof holder, "%s.window", p->name);
    bool older = p->inputs[0].partitions == p->to[0].partitions &&
                 pawl_position_get(log, holder, p->to[0].id, 0, &at) == 0;
    int rc = keeper_open(&x->keep, p, log, older, err);
    if (rc == 0 && x->keep.pending)
        rc = move_in(x, p, log, err);
    return rc == 0 && x->keep.pending ? keeper_done(&x->keep, p, log, err) : rc;
}

/* ---- a batch */

/* The head, kept in the scratch from the first record of a batch to its end. NULL: the state
 * failed, with *rc. */
static struct head *head_of(const dedup *x, pawl_context *ctx, struct scratch *s, int *rc) {
    const void *value;
    size_t size;
    struct head fresh = {.read = true};
    *rc = PAWL_MEMORY;
    if (s->batch.len == sizeof fresh)
        return (struct head *)(void *)s->batch.bytes;
    *rc = pawl_state_get(ctx, x->keep.table, HEAD, 1, &value, &size);
    if (*rc < 0)
        return NULL;
    if (*rc == 1 && size == 2 * NUMBER_SIZE) {
        fresh.first = connect_get_le(value, NUMBER_SIZE);
        fresh.next = connect_get_le((const uint8_t *)value + NUMBER_SIZE, NUMBER_SIZE);
    }
    *rc = PAWL_MEMORY;
    return buffer_add(&s->batch, &fresh, sizeof fresh) ? (struct head *)(void *)s->batch.bytes
                                                       : NULL;
}

/* Takes the oldest id out. */
static int evict(const dedup *x, pawl_context *ctx, struct head *h) {
    uint8_t place[1 + NUMBER_SIZE], key[ID_KEY_MAX];
    const void *value;
    size_t size;
    place_key(h->first, place);
    int rc = pawl_state_get(ctx, x->keep.table, place, sizeof place, &value, &size);
    if (rc == 1 && size <= sizeof key) {
        memcpy(key, value, size);
        size_t key_size = size;
        rc = pawl_state_get(ctx, x->keep.table, key, key_size, &value, &size);
        /* it may have come again since it left a window that has become smaller */
        if (rc == 1 && size == NUMBER_SIZE && connect_get_le(value, NUMBER_SIZE) == h->first)
            rc = pawl_state_delete(ctx, x->keep.table, key, key_size);
    }
    if (rc >= 0)
        rc = pawl_state_delete(ctx, x->keep.table, place, sizeof place);
    h->first++;
    return rc;
}

/* 1: the id is in the window; 0: it is now, and wasn't. */
static int seen_in_window(const dedup *x, pawl_context *ctx, struct scratch *s, const uint8_t *key,
                          size_t key_size) {
    const void *value;
    size_t size;
    uint8_t place[1 + NUMBER_SIZE], number[NUMBER_SIZE];
    int rc;
    struct head *h = head_of(x, ctx, s, &rc);
    if (h == NULL)
        return rc;
    rc = pawl_state_get(ctx, x->keep.table, key, key_size, &value, &size);
    if (rc == 1 && size == NUMBER_SIZE && connect_get_le(value, NUMBER_SIZE) + x->window >= h->next)
        return 1;
    for (int i = 0; rc >= 0 && i < EVICT_MAX && h->next - h->first >= x->window; i++)
        rc = evict(x, ctx, h);
    connect_put_le(number, h->next, sizeof number);
    place_key(h->next, place);
    if (rc >= 0)
        rc = pawl_state_put(ctx, x->keep.table, key, key_size, number, sizeof number);
    if (rc >= 0)
        rc = pawl_state_put(ctx, x->keep.table, place, sizeof place, key, key_size);
    h->next++;
    h->changed = true;
    return rc < 0 ? rc : 0;
}

static int seen_in_span(const dedup *x, pawl_context *ctx, const uint8_t *key, size_t key_size) {
    const void *value;
    size_t size;
    int rc = pawl_state_get(ctx, x->keep.table, key, key_size, &value, &size);
    return rc != 0 ? rc
                   : pawl_state_put_expiring(ctx, x->keep.table, key, key_size, "", 0, x->span_ms);
}

static int one(proc *p, pawl_context *ctx, const pawl_record *r, struct scratch *s,
               const char **why) {
    const dedup *x = p->self;
    const char *bytes;
    size_t size;
    uint8_t key[ID_KEY_MAX];
    int rc = selector_get(&x->id, r, s, &bytes, &size, why);
    if (rc < 0)
        return rc;
    if (rc == 1) {
        size_t key_size = id_key(x, bytes, size, key);
        rc = x->window != 0 ? seen_in_window(x, ctx, s, key, key_size)
                            : seen_in_span(x, ctx, key, key_size);
        if (rc < 0)
            return keeper_error(ctx, rc, why);
    }
    *why = "it could not be emitted";
    return rc == 1 ? 0 : proc_emit(p, ctx, 0, r, false);
}

static int end(proc *p, pawl_context *ctx, struct scratch *s, const char **why) {
    const dedup *x = p->self;
    uint8_t value[2 * NUMBER_SIZE];
    const struct head *h = (const struct head *)(const void *)s->batch.bytes;
    if (s->batch.len == 0 || !h->changed)
        return 0;
    head_encode(h, value);
    int rc = pawl_state_put(ctx, x->keep.table, HEAD, 1, value, sizeof value);
    return rc < 0 ? keeper_error(ctx, rc, why) : 0;
}

static int process(proc *p, pawl_context *ctx, const pawl_record *records, size_t count) {
    return proc_batch(p, ctx, records, count, NULL, one, end);
}

static const proc_type type = {
    .flags = PAWL_PROCESSOR_KEEPS_TABLES,
    .make = make,
    .start = start,
    .process = process,
    .destroy = destroy,
};

static int make_processor(const pawl_settings *s, pawl_processor_ops *out, pawl_error *err) {
    return proc_make(&connect_processor_dedup, &type, s, out, err);
}
