/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/tables.h"

#include <assert.h>

void tables_init(struct tables *t, struct mem *m, uint64_t segment_size) {
    memset(t, 0, sizeof *t);
    t->mem = m;
    t->segment_size = segment_size;
    t->ids = (struct c_ids){1, 1, 1, 0, 0};
}

void tables_free(struct tables *t) {
    for (uint32_t i = 0; i < t->stream_count; i++)
        mem_free(t->mem, t->streams[i].parts, t->streams[i].partitions * sizeof(struct partition));
    mem_free(t->mem, t->streams, t->stream_cap * sizeof *t->streams);
    mem_free(t->mem, t->producers, t->producer_cap * sizeof *t->producers);
    mem_free(t->mem, t->processors, t->processor_cap * sizeof *t->processors);
    mem_free(t->mem, t->positions, t->position_cap * sizeof *t->positions);
    mem_free(t->mem, t->decisions, t->decision_cap * sizeof *t->decisions);
    mem_free(t->mem, t->spans, t->span_cap * sizeof *t->spans);
    tables_init(t, t->mem, t->segment_size);
}

/* Room for one more of `count` elements in a growing array. */
static int reserve(struct mem *m, void **array, uint32_t count, uint32_t *cap, size_t each) {
    if (count < *cap)
        return 0;
    uint32_t want = *cap == 0 ? 8 : *cap * 2;
    void *p = mem_grow(m, *array, *cap * each, want * each);
    if (p == NULL)
        return fail(PAWL_MEMORY, "no memory for the log's tables");
    memset((uint8_t *)p + *cap * each, 0, (want - *cap) * each);
    *array = p;
    *cap = want;
    return 0;
}
#define RESERVE(t, field, n) \
    reserve((t)->mem, (void **)&(t)->field##s, (n), &(t)->field##_cap, sizeof *(t)->field##s)

int tables_reserve(struct tables *t, uint32_t positions, uint32_t decisions) {
    while (t->position_cap - t->position_count < positions)
        TRY(RESERVE(t, position, t->position_cap));
    while (t->decision_cap - t->decision_count < decisions)
        TRY(RESERVE(t, decision, t->decision_cap));
    return RESERVE(t, span, t->span_count);
}

/* The rule for names, in two parts. What a program may give: */
bool name_allowed(const char *name) {
    size_t n = name == NULL ? 0 : strlen(name);
    if (n == 0 || n > NAME_LEN_MAX)
        return false;
    return strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

/* And what a log may hold (docs/format.md, section 5): text that is shown as it is. */
static bool name_readable(const char *name, uint32_t len) {
    char shown[NAME_LEN_MAX + 1];
    return len != 0 && len <= NAME_LEN_MAX &&
           pawl_show(name, len, NULL, shown, sizeof shown) == len && memcmp(shown, name, len) == 0;
}

/* ---- rows that have an id, ascending */

/* Where the row of an id is, or would be inserted. Ids mostly have no gaps. */
static uint32_t row_place(const void *rows, uint32_t count, size_t each, uint32_t id) {
    const uint8_t *base = rows;
    uint32_t lo = 0, hi = count, own;
    if (id != 0 && id <= count) {
        memcpy(&own, base + (size_t)(id - 1) * each, sizeof own);
        if (own == id)
            return id - 1;
    }
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        memcpy(&own, base + (size_t)mid * each, sizeof own);
        if (own < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}
#define PLACE(t, field, id) \
    row_place((t)->field##s, (t)->field##_count, sizeof *(t)->field##s, (id))

/* A zeroed row for an id that has none. `what` is for the error. */
static int row_insert(struct mem *m, void **rows, uint32_t *count, uint32_t *cap, size_t each,
                      uint32_t id, const char *what) {
    uint32_t i = row_place(*rows, *count, each, id), own;
    if (id == 0 || id == UINT32_MAX)
        return fail(PAWL_DAMAGED, "the id of a %s is out of range", what);
    if (i < *count) {
        memcpy(&own, (uint8_t *)*rows + (size_t)i * each, sizeof own);
        if (own == id)
            return fail(PAWL_DAMAGED, "a %s was created twice", what);
    }
    TRY(reserve(m, rows, *count, cap, each));
    uint8_t *at = (uint8_t *)*rows + (size_t)i * each;
    memmove(at + each, at, (size_t)(*count - i) * each);
    memset(at, 0, each);
    memcpy(at, &id, sizeof id);
    ++*count;
    return 0;
}
#define INSERT(t, field, id, what) \
    row_insert((t)->mem, (void **)&(t)->field##s, &(t)->field##_count, &(t)->field##_cap, \
               sizeof *(t)->field##s, (id), (what))
#define REMOVE(t, field, row) \
    (memmove((row), (row) + 1, \
             (size_t)(&(t)->field##s[(t)->field##_count] - ((row) + 1)) * sizeof *(t)->field##s), \
     (t)->field##_count--)

struct stream *tables_stream(const struct tables *t, uint32_t id) {
    if (id - 1 < t->stream_count && t->streams[id - 1].id == id) /* asked for with every run */
        return &t->streams[id - 1];
    uint32_t i = PLACE(t, stream, id);
    return i < t->stream_count && t->streams[i].id == id ? &t->streams[i] : NULL;
}

struct producer *tables_producer(const struct tables *t, uint32_t id) {
    uint32_t i = PLACE(t, producer, id);
    return i < t->producer_count && t->producers[i].id == id ? &t->producers[i] : NULL;
}

static struct processor_row *processor_row(const struct tables *t, uint32_t id) {
    uint32_t i = PLACE(t, processor, id);
    return i < t->processor_count && t->processors[i].id == id ? &t->processors[i] : NULL;
}

bool tables_has_processor(const struct tables *t, uint32_t id) {
    return processor_row(t, id) != NULL;
}

const char *tables_processor_name(const struct tables *t, uint32_t id) {
    const struct processor_row *row = processor_row(t, id);
    return row != NULL ? row->name : NULL;
}

uint32_t tables_find_stream(const struct tables *t, const char *name) {
    for (uint32_t i = 0; i < t->stream_count; i++)
        if (strcmp(t->streams[i].name, name) == 0)
            return t->streams[i].id;
    return 0;
}

uint32_t tables_find_producer(const struct tables *t, const char *name) {
    for (uint32_t i = 0; i < t->producer_count; i++)
        if (strcmp(t->producers[i].name, name) == 0)
            return t->producers[i].id;
    return 0;
}

uint32_t tables_find_processor(const struct tables *t, const char *name) {
    for (uint32_t i = 0; i < t->processor_count; i++)
        if (strcmp(t->processors[i].name, name) == 0)
            return t->processors[i].id;
    return 0;
}

/* Does a checkpoint need an entry that keeps the highest stream id from being used again, by
 * versions that know no C_IDS? */
static bool last_is_gone(const struct tables *t) {
    return t->ids.stream > 1 &&
           (t->stream_count == 0 || t->streams[t->stream_count - 1].id + 1 != t->ids.stream);
}

uint64_t tables_size(const struct tables *t) {
    return t->rows_bytes + C_SETTINGS_SIZE + C_IDS_SIZE + (last_is_gone(t) ? c_stream_size(0) : 0);
}

int tables_room(const struct tables *t, uint64_t bytes) {
    if (tables_size(t) + bytes > t->segment_size / 8 - 1024)
        return fail(PAWL_LIMIT, "the log's tables would be larger than an eighth of a segment; use "
                                "a larger segment size");
    return 0;
}

static int set_name(char *to, const char *name, uint32_t len) {
    if (!name_readable(name, len))
        return fail(
            PAWL_DAMAGED,
            "the log holds the name \"%.*s\", which can't be one: a name has 1 to 127 bytes "
            "of UTF-8, without control and invisible characters",
            (int)(len > NAME_LEN_MAX ? NAME_LEN_MAX : len), name);
    memcpy(to, name, len);
    to[len] = 0;
    return 0;
}

/* The id is used from now on. */
static void use_id(uint32_t *next, uint32_t id) {
    if (id >= *next)
        *next = id + 1;
    assert(*next > id); /* PAWL-9: ids are never used again */
}

int tables_add_stream(struct tables *t, uint32_t id, uint32_t partitions, const char *name,
                      uint32_t name_len) {
    if (partitions == 0 || partitions > STREAM_PARTITIONS_MAX)
        return fail(PAWL_DAMAGED, "a stream's number of partitions is out of range");
    TRY(INSERT(t, stream, id, "stream"));
    struct stream *s = tables_stream(t, id);
    assert(s != NULL);
    int rc = set_name(s->name, name, name_len);
    if (rc == 0) {
        s->parts = mem_alloc(t->mem, partitions * sizeof *s->parts);
        if (s->parts == NULL)
            rc = fail(PAWL_MEMORY, "no memory for a stream of %u partitions", partitions);
    }
    if (rc < 0) {
        REMOVE(t, stream, s);
        return rc;
    }
    s->partitions = partitions;
    use_id(&t->ids.stream, id);
    t->partition_count += partitions;
    t->rows_bytes += c_stream_size(name_len) + (uint64_t)partitions * C_NEXT_SIZE;
    return 0;
}

int tables_grow_stream(struct tables *t, struct stream *s, uint32_t partitions) {
    uint32_t had = s->partitions;
    assert(partitions > had && partitions <= STREAM_PARTITIONS_MAX);
    void *parts = mem_grow(t->mem, s->parts, had * sizeof *s->parts, partitions * sizeof *s->parts);
    if (parts == NULL)
        return fail(PAWL_MEMORY, "no memory for a stream of %u partitions", partitions);
    s->parts = parts;
    memset(&s->parts[had], 0, (partitions - had) * sizeof *s->parts);
    s->partitions = partitions;
    t->partition_count += partitions - had;
    t->rows_bytes += (uint64_t)(partitions - had) * C_NEXT_SIZE;
    return 0;
}

void tables_delete_stream(struct tables *t, uint32_t id) {
    struct stream *s = tables_stream(t, id);
    assert(s != NULL);
    t->rows_bytes -=
        c_stream_size((uint32_t)strlen(s->name)) + (uint64_t)s->partitions * C_NEXT_SIZE;
    t->partition_count -= s->partitions;
    mem_free(t->mem, s->parts, s->partitions * sizeof *s->parts);
    REMOVE(t, stream, s);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < t->position_count; i++)
        if (t->positions[i].stream != id)
            t->positions[kept++] = t->positions[i];
    t->rows_bytes -= (uint64_t)(t->position_count - kept) * C_POSITION_SIZE;
    t->position_count = kept;
}

int tables_add_producer(struct tables *t, uint32_t id, const char *name, uint32_t name_len) {
    TRY(INSERT(t, producer, id, "producer"));
    struct producer *row = tables_producer(t, id);
    assert(row != NULL);
    int rc = set_name(row->name, name, name_len);
    if (rc < 0) {
        REMOVE(t, producer, row);
        return rc;
    }
    use_id(&t->ids.producer, id);
    t->rows_bytes += c_producer_size(name_len);
    return 0;
}

void tables_remove_producer(struct tables *t, uint32_t id) {
    struct producer *row = tables_producer(t, id);
    assert(row != NULL);
    t->rows_bytes -= c_producer_size((uint32_t)strlen(row->name));
    REMOVE(t, producer, row);
}

int tables_add_processor(struct tables *t, uint32_t id, const char *name, uint32_t name_len) {
    TRY(INSERT(t, processor, id, "processor"));
    struct processor_row *row = processor_row(t, id);
    assert(row != NULL);
    int rc = set_name(row->name, name, name_len);
    if (rc < 0) {
        REMOVE(t, processor, row);
        return rc;
    }
    use_id(&t->ids.processor, id);
    t->rows_bytes += c_processor_size(name_len);
    return 0;
}

int tables_rename(struct tables *t, enum catalog_kind kind, uint32_t id, const char *name,
                  uint32_t name_len) {
    char fresh[NAME_LEN_MAX + 1];
    TRY(set_name(fresh, name, name_len));
    char *row = kind == KIND_STREAM     ? tables_stream(t, id)->name
                : kind == KIND_PRODUCER ? tables_producer(t, id)->name
                                        : processor_row(t, id)->name;
    size_t (*size)(uint32_t) = kind == KIND_STREAM     ? c_stream_size
                               : kind == KIND_PRODUCER ? c_producer_size
                                                       : c_processor_size;
    assert(row != NULL);
    t->rows_bytes -= size((uint32_t)strlen(row));
    t->rows_bytes += size(name_len);
    memcpy(row, fresh, sizeof fresh);
    return 0;
}

static bool before(const struct position_row *p, uint32_t processor, uint32_t stream,
                   uint32_t partition) {
    return p->processor != processor ? p->processor < processor
           : p->stream != stream     ? p->stream < stream
                                     : p->partition < partition;
}

/* The index of (processor, stream, partition) in the ascending array, or the index to insert it
 * at. */
static uint32_t position_place(const struct tables *t, uint32_t processor, uint32_t stream,
                               uint32_t partition) {
    uint32_t lo = 0, hi = t->position_count;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (before(&t->positions[mid], processor, stream, partition))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct position_row *tables_position(const struct tables *t, uint32_t processor, uint32_t stream,
                                     uint32_t partition) {
    uint32_t i = position_place(t, processor, stream, partition);
    if (i == t->position_count)
        return NULL;
    struct position_row *p = &t->positions[i];
    return p->processor == processor && p->stream == stream && p->partition == partition ? p : NULL;
}

int tables_set_position(struct tables *t, uint32_t processor, uint32_t stream, uint32_t partition,
                        uint64_t offset) {
    struct position_row *p = tables_position(t, processor, stream, partition);
    if (p != NULL) {
        p->offset = offset;
        return 0;
    }
    TRY(RESERVE(t, position, t->position_count));
    uint32_t i = position_place(t, processor, stream, partition);
    memmove(&t->positions[i + 1], &t->positions[i], (t->position_count - i) * sizeof *t->positions);
    t->positions[i] = (struct position_row){processor, stream, partition, offset};
    t->position_count++;
    assert(i == 0 || before(&t->positions[i - 1], processor, stream, partition)); /* ascending */
    t->rows_bytes += C_POSITION_SIZE;
    return 0;
}

void tables_forget(struct tables *t, uint32_t id) {
    struct processor_row *row = processor_row(t, id);
    assert(row != NULL);
    t->rows_bytes -= c_processor_size((uint32_t)strlen(row->name));
    REMOVE(t, processor, row);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < t->position_count; i++)
        if (t->positions[i].processor != id)
            t->positions[kept++] = t->positions[i];
    t->rows_bytes -= (uint64_t)(t->position_count - kept) * C_POSITION_SIZE;
    t->position_count = kept;
}

struct decision_row *tables_decision(const struct tables *t, uint32_t processor, const char *name,
                                     uint16_t len) {
    for (uint32_t i = 0; i < t->decision_count; i++) {
        struct decision_row *d = &t->decisions[i];
        if (d->processor == processor && d->name_len == len && memcmp(d->name, name, len) == 0)
            return d;
    }
    return NULL;
}

int tables_set_decision(struct tables *t, const struct sink_entry *e) {
    struct decision_row *d = tables_decision(t, e->processor, e->name, e->name_len);
    uint64_t size = c_sink_size(e->name_len);
    if (e->op == SINK_FINISHED) {
        if (d != NULL) {
            memmove(d, d + 1, (size_t)(&t->decisions[t->decision_count] - (d + 1)) * sizeof *d);
            t->decision_count--;
            t->rows_bytes -= size;
        }
        return 0;
    }
    if (d != NULL)
        return 0;
    TRY(RESERVE(t, decision, t->decision_count));
    d = &t->decisions[t->decision_count++];
    d->processor = e->processor;
    d->name_len = e->name_len;
    memcpy(d->name, e->name, e->name_len);
    t->rows_bytes += size;
    return 0;
}

int tables_set_span(struct tables *t, uint64_t segment, uint64_t oldest) {
    for (uint32_t i = 0; i < t->span_count; i++)
        if (t->spans[i].segment == segment) {
            if (oldest < t->spans[i].oldest)
                t->spans[i].oldest = oldest;
            return 0;
        }
    TRY(RESERVE(t, span, t->span_count));
    t->spans[t->span_count++] = (struct span_row){segment, oldest};
    t->rows_bytes += C_SPAN_SIZE;
    return 0;
}

uint64_t tables_durable_next(const struct partition *p, uint64_t durable) {
    return p->last_end <= durable ? p->next : p->mid_end <= durable ? p->mid : p->safe;
}

/* Closes the run that began at `start`, unless it is empty. */
static void end_run(struct bytes *body, struct run *runs, uint32_t *count, uint16_t type,
                    uint32_t entries, size_t start) {
    if (entries != 0)
        runs[(*count)++] = (struct run){.type = type,
                                        .count = entries,
                                        .start = (uint32_t)start,
                                        .len = (uint32_t)(body->len - start)};
}

static uint32_t write_streams(const struct tables *t, struct bytes *body) {
    for (uint32_t i = 0; i < t->stream_count; i++) {
        const struct stream *s = &t->streams[i];
        c_stream_encode(
            body, &(struct c_stream){s->id, s->partitions, s->name, (uint32_t)strlen(s->name)});
    }
    if (last_is_gone(t))
        c_stream_encode(body, &(struct c_stream){t->ids.stream - 1, 0, "", 0});
    return t->stream_count + last_is_gone(t);
}

static uint32_t write_next(const struct tables *t, struct bytes *body) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->stream_count; i++)
        for (uint32_t k = 0; k < t->streams[i].partitions; k++) {
            c_next_encode(body, &(struct c_next){t->streams[i].id, k, t->streams[i].parts[k].next});
            n++;
        }
    return n;
}

static uint32_t write_producers(const struct tables *t, struct bytes *body) {
    for (uint32_t i = 0; i < t->producer_count; i++) {
        const struct producer *p = &t->producers[i];
        struct c_producer c = {
            p->id,     p->epoch,      p->sequence, p->stream, p->partition,
            p->offset, p->cookie_len, {0},         p->name,   (uint32_t)strlen(p->name)};
        memcpy(c.cookie, p->cookie, COOKIE_MAX);
        c_producer_encode(body, &c);
    }
    return t->producer_count;
}

static uint32_t write_processors(const struct tables *t, struct bytes *body) {
    for (uint32_t i = 0; i < t->processor_count; i++) {
        const struct processor_row *p = &t->processors[i];
        c_processor_encode(body, &(struct c_processor){p->id, p->name, (uint32_t)strlen(p->name)});
    }
    return t->processor_count;
}

static uint32_t write_positions(const struct tables *t, struct bytes *body) {
    for (uint32_t i = 0; i < t->position_count; i++) {
        const struct position_row *p = &t->positions[i];
        c_position_encode(body,
                          &(struct c_position){p->processor, p->stream, p->partition, p->offset});
    }
    return t->position_count;
}

static uint32_t write_settings(const struct tables *t, struct bytes *body) {
    c_settings_encode(body, &(struct c_settings){t->retain_bytes, t->retain_ms,
                                                 t->consumed ? SETTINGS_CONSUMED : 0});
    return 1;
}

static uint32_t write_sinks(const struct tables *t, struct bytes *body) {
    for (uint32_t i = 0; i < t->decision_count; i++)
        c_sink_encode(body, &(struct c_sink){t->decisions[i].processor, t->decisions[i].name,
                                             t->decisions[i].name_len});
    return t->decision_count;
}

static uint32_t write_spans(const struct tables *t, struct bytes *body) {
    for (uint32_t i = 0; i < t->span_count; i++)
        c_span_encode(body, &(struct c_span){t->spans[i].segment, t->spans[i].oldest});
    return t->span_count;
}

static uint32_t write_ids(const struct tables *t, struct bytes *body) {
    uint8_t *out = bytes_add(body, C_IDS_SIZE);
    if (out != NULL)
        c_ids_encode(out, &t->ids);
    return 1;
}

void tables_drop_spans(struct tables *t, uint64_t first) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < t->span_count; i++)
        if (t->spans[i].segment >= first)
            t->spans[kept++] = t->spans[i];
    t->rows_bytes -= (uint64_t)(t->span_count - kept) * C_SPAN_SIZE;
    t->span_count = kept;
}

int tables_checkpoint(const struct tables *t, struct bytes *body, struct run *runs,
                      uint32_t *count) {
    static const struct {
        uint16_t type;
        uint32_t (*write)(const struct tables *, struct bytes *);
    } parts[] = {{RUN_C_STREAMS, write_streams},
                 {RUN_C_NEXT, write_next},
                 {RUN_C_PRODUCERS, write_producers},
                 {RUN_C_PROCESSORS, write_processors},
                 {RUN_C_POSITIONS, write_positions},
                 {RUN_C_SETTINGS, write_settings},
                 {RUN_C_SINKS, write_sinks},
                 {RUN_C_SPANS, write_spans},
                 {RUN_C_IDS, write_ids}};
    size_t before = body->len;
    *count = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        size_t start = body->len;
        uint32_t n = parts[i].write(t, body);
        end_run(body, runs, count, parts[i].type, n, start);
    }
    /* PAWL-11: the size that tables_room() checked is the size written */
    assert(body->failed || body->len - before == tables_size(t));
    return body->failed ? fail(PAWL_MEMORY, "no memory for a checkpoint") : 0;
}

void tables_begin_segment(struct tables *t) {
    for (uint32_t i = 0; i < t->stream_count; i++)
        for (uint32_t k = 0; k < t->streams[i].partitions; k++) {
            struct partition *p = &t->streams[i].parts[k];
            p->base = p->next;
            p->index_lsn = 0;
        }
}
