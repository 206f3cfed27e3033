/* SPDX-License-Identifier: Apache-2.0
 *
 * Streams, producers and processors: rows that have an id and a name. Positions, decisions and
 * spans are in tables_positions.c, the checkpoint in tables_checkpoint.c.
 */
#include "pipeline/tables.h"

#include <assert.h>

void tables_init(struct tables *t, struct mem *m, uint64_t segment_size) {
    memset(t, 0, sizeof *t);
    t->mem = m;
    t->segment_size = segment_size;
    t->ids = (struct c_ids){1, 1, 1, 0, 0, 1};
    t->state.next_run = 1;
    for (int i = 0; i < 4; i++)
        lookup_init(&t->names[i], m);
    lookup_init(&t->position_lookup, m);
    lookup_init(&t->decision_lookup, m);
    t->positions_sorted = true;
}

static void free_stream(struct tables *t, struct stream *s) {
    mem_free(t->mem, s->parts, s->partitions * sizeof *s->parts);
    mem_free(t->mem, s, sizeof *s);
}

void tables_free(struct tables *t) {
    for (uint32_t i = 0; i < t->stream_count; i++)
        free_stream(t, t->streams[i]);
    for (uint32_t i = 0; i < t->producer_count; i++)
        mem_free(t->mem, t->producers[i], sizeof *t->producers[i]);
    for (uint32_t i = 0; i < t->processor_count; i++)
        mem_free(t->mem, t->processors[i], sizeof *t->processors[i]);
    tables_state_free(t);
    mem_free(t->mem, t->streams, t->stream_cap * sizeof(void *));
    mem_free(t->mem, t->producers, t->producer_cap * sizeof(void *));
    mem_free(t->mem, t->processors, t->processor_cap * sizeof(void *));
    mem_free(t->mem, t->positions, t->position_cap * sizeof *t->positions);
    mem_free(t->mem, t->decisions, t->decision_cap * sizeof *t->decisions);
    mem_free(t->mem, t->spans, t->span_cap * sizeof *t->spans);
    for (int i = 0; i < 4; i++)
        lookup_free(&t->names[i]);
    lookup_free(&t->position_lookup);
    lookup_free(&t->decision_lookup);
    tables_init(t, t->mem, t->segment_size);
}

int tables_grow(struct mem *m, void **array, uint32_t count, uint32_t *cap, size_t each) {
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

/* ---- rows that have an id, ascending: arrays of pointers, so that inserting and removing moves
 * little */

static void *row_at(const void *rows, uint32_t i) {
    void *row;
    memcpy(&row, (const uint8_t *)rows + i * sizeof row, sizeof row);
    return row;
}

static uint32_t id_at(const void *rows, uint32_t i) {
    uint32_t id;
    memcpy(&id, row_at(rows, i), sizeof id);
    return id;
}

/* Where the row of an id is, or would be inserted. Ids mostly have no gaps. */
static uint32_t row_place(const void *rows, uint32_t count, uint32_t id) {
    uint32_t lo = 0, hi = count;
    if (id != 0 && id <= count && id_at(rows, id - 1) == id)
        return id - 1;
    if (count != 0 && id_at(rows, count - 1) < id)
        return count;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (id_at(rows, mid) < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

void *tables_row_find(const void *rows, uint32_t count, uint32_t id) {
    uint32_t i = row_place(rows, count, id);
    return i < count && id_at(rows, i) == id ? row_at(rows, i) : NULL;
}

/* What the four kinds differ in. */
struct kind {
    enum catalog_kind kind;
    const char *what;
    void **rows; /* the array's address */
    uint32_t *count, *cap;
    size_t each, name_at;
    uint32_t *next; /* id */
    enum limit most;
    size_t (*size)(uint32_t name_len); /* in a checkpoint */
};

static struct kind kind_of(struct tables *t, enum catalog_kind kind) {
    if (kind == KIND_STREAM)
        return (struct kind){kind,
                             "stream",
                             (void **)&t->streams,
                             &t->stream_count,
                             &t->stream_cap,
                             sizeof(struct stream),
                             offsetof(struct stream, name),
                             &t->ids.stream,
                             LIMIT_STREAMS,
                             c_stream_size};
    if (kind == KIND_PRODUCER)
        return (struct kind){kind,
                             "producer",
                             (void **)&t->producers,
                             &t->producer_count,
                             &t->producer_cap,
                             sizeof(struct producer),
                             offsetof(struct producer, name),
                             &t->ids.producer,
                             LIMIT_PRODUCERS,
                             c_producer_size};
    if (kind == KIND_TABLE)
        return (struct kind){kind,
                             "table",
                             (void **)&t->state.tables,
                             &t->state.count,
                             &t->state.cap,
                             sizeof(struct state_table),
                             offsetof(struct state_table, name),
                             &t->ids.table,
                             LIMIT_TABLES,
                             table_size};
    return (struct kind){kind,
                         "processor",
                         (void **)&t->processors,
                         &t->processor_count,
                         &t->processor_cap,
                         sizeof(struct processor_row),
                         offsetof(struct processor_row, name),
                         &t->ids.processor,
                         LIMIT_PROCESSORS,
                         c_processor_size};
}

static char *name_of(const struct kind *k, void *row) {
    return (char *)row + k->name_at;
}

static uint32_t name_hash(const struct tables *t, enum catalog_kind kind, const char *name) {
    return lookup_hash_text(&t->names[kind - 1], 0, name, strlen(name));
}

static int set_name(char *to, const char *name, uint32_t len) {
    TRY(limit_check(LIMIT_NAME, len));
    if (!name_readable(name, len))
        return fail(
            PAWL_DAMAGED,
            "the log holds the name \"%.*s\", which can't be one: a name has 1 to 127 bytes "
            "of UTF-8, without control and invisible characters",
            (int)len, name);
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

int tables_row_insert(struct tables *t, enum catalog_kind kind, uint32_t id, const char *name,
                      uint32_t name_len, void **out) {
    struct kind k = kind_of(t, kind);
    struct lookup *names = &t->names[kind - 1];
    char fresh[NAME_LEN_MAX + 1] = {0};
    uint32_t i = row_place(*k.rows, *k.count, id);
    TRY(limit_check(LIMIT_ID, id));
    if (id == 0)
        return fail(PAWL_DAMAGED, "the id of a %s is out of range", k.what);
    if (i < *k.count && id_at(*k.rows, i) == id)
        return fail(PAWL_DAMAGED, "a %s was created twice", k.what);
    TRY(limit_check(k.most, *k.count + UINT64_C(1)));
    TRY(set_name(fresh, name, name_len));
    TRY(lookup_reserve(names, 1));
    TRY(tables_grow(t->mem, k.rows, *k.count, k.cap, sizeof(void *)));
    uint8_t *row = mem_alloc(t->mem, k.each), *at = (uint8_t *)*k.rows + i * sizeof row;
    if (row == NULL)
        return fail(PAWL_MEMORY, "no memory for the log's tables");
    memcpy(row, &id, sizeof id);
    memcpy(row + k.name_at, fresh, sizeof fresh);
    memmove(at + sizeof row, at, (size_t)(*k.count - i) * sizeof row);
    memcpy(at, &row, sizeof row);
    ++*k.count;
    lookup_add(names, name_hash(t, kind, fresh), id);
    use_id(k.next, id);
    t->rows_bytes += k.size(name_len);
    *out = row;
    return 0;
}

void *tables_row_remove(struct tables *t, enum catalog_kind kind, uint32_t id) {
    struct kind k = kind_of(t, kind);
    uint32_t i = row_place(*k.rows, *k.count, id);
    assert(i < *k.count && id_at(*k.rows, i) == id);
    void *row = row_at(*k.rows, i);
    uint8_t *at = (uint8_t *)*k.rows + i * sizeof row;
    lookup_remove(&t->names[kind - 1], name_hash(t, kind, name_of(&k, row)), id);
    t->rows_bytes -= k.size((uint32_t)strlen(name_of(&k, row)));
    memmove(at, at + sizeof row, (size_t)(*k.count - i - 1) * sizeof row);
    --*k.count;
    return row;
}

struct stream *tables_stream(const struct tables *t, uint32_t id) {
    if (id - 1 < t->stream_count && t->streams[id - 1]->id == id) /* asked for with every run */
        return t->streams[id - 1];
    return tables_row_find(t->streams, t->stream_count, id);
}

struct producer *tables_producer(const struct tables *t, uint32_t id) {
    return tables_row_find(t->producers, t->producer_count, id);
}

struct processor_row *tables_processor(const struct tables *t, uint32_t id) {
    return tables_row_find(t->processors, t->processor_count, id);
}

bool tables_has_processor(const struct tables *t, uint32_t id) {
    return tables_processor(t, id) != NULL;
}

const char *tables_processor_name(const struct tables *t, uint32_t id) {
    const struct processor_row *row = tables_processor(t, id);
    return row != NULL ? row->name : NULL;
}

/* The lowest id of that name, as damage may leave a name twice; 0: none. */
static uint32_t find_name(const struct tables *t, enum catalog_kind kind, const char *name) {
    struct kind k = kind_of((struct tables *)t, kind);
    const struct lookup *l = &t->names[kind - 1];
    uint32_t at, hash = name_hash(t, kind, name), best = 0;
    for (uint32_t id = lookup_first(l, hash, &at); id != LOOKUP_NONE;
         id = lookup_next(l, hash, &at))
        if (strcmp(name_of(&k, tables_row_find(*k.rows, *k.count, id)), name) == 0 &&
            (best == 0 || id < best))
            best = id;
    return best;
}

uint32_t tables_find_stream(const struct tables *t, const char *name) {
    return find_name(t, KIND_STREAM, name);
}

uint32_t tables_find_producer(const struct tables *t, const char *name) {
    return find_name(t, KIND_PRODUCER, name);
}

uint32_t tables_find_processor(const struct tables *t, const char *name) {
    return find_name(t, KIND_PROCESSOR, name);
}

uint32_t tables_find_table(const struct tables *t, const char *name) {
    return find_name(t, KIND_TABLE, name);
}

int tables_room(const struct tables *t, uint64_t bytes) {
    if (tables_size(t) + bytes > limit_tables(t->segment_size))
        return fail(PAWL_LIMIT, "the log's tables would be larger than an eighth of a segment; use "
                                "a larger segment size");
    return 0;
}

int tables_fit(const struct tables *t) {
    uint64_t size = tables_size(t), most = limit_tables_load(t->segment_size);
    return size <= most ? 0
                        : fail(PAWL_LIMIT,
                               "bytes of all tables: %llu, and the limit of a log with such "
                               "segments is %llu",
                               (unsigned long long)size, (unsigned long long)most);
}

int tables_add_stream(struct tables *t, uint32_t id, uint32_t partitions, const char *name,
                      uint32_t name_len) {
    void *row;
    TRY(limit_check(LIMIT_STREAM_PARTITIONS, partitions));
    if (partitions == 0)
        return fail(PAWL_DAMAGED, "a stream has no partition");
    TRY(limit_check(LIMIT_PARTITIONS, (uint64_t)t->partition_count + partitions));
    struct partition *parts = mem_alloc(t->mem, partitions * sizeof *parts);
    if (parts == NULL)
        return fail(PAWL_MEMORY, "no memory for a stream of %u partitions", partitions);
    int rc = tables_row_insert(t, KIND_STREAM, id, name, name_len, &row);
    if (rc < 0) {
        mem_free(t->mem, parts, partitions * sizeof *parts);
        return rc;
    }
    struct stream *s = row;
    s->parts = parts;
    s->partitions = partitions;
    t->partition_count += partitions;
    t->rows_bytes += (uint64_t)partitions * C_NEXT_SIZE;
    return 0;
}

int tables_grow_stream(struct tables *t, struct stream *s, uint32_t partitions) {
    uint32_t had = s->partitions;
    assert(partitions > had);
    TRY(limit_check(LIMIT_STREAM_PARTITIONS, partitions));
    TRY(limit_check(LIMIT_PARTITIONS, (uint64_t)t->partition_count + (partitions - had)));
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
    while (s->positions != 0)
        tables_remove_position(t, s->positions - 1);
    t->rows_bytes -= (uint64_t)s->partitions * C_NEXT_SIZE;
    t->partition_count -= s->partitions;
    free_stream(t, tables_row_remove(t, KIND_STREAM, id));
}

int tables_add_producer(struct tables *t, uint32_t id, const char *name, uint32_t name_len) {
    void *row;
    return tables_row_insert(t, KIND_PRODUCER, id, name, name_len, &row);
}

void tables_remove_producer(struct tables *t, uint32_t id) {
    mem_free(t->mem, tables_row_remove(t, KIND_PRODUCER, id), sizeof(struct producer));
}

int tables_add_processor(struct tables *t, uint32_t id, const char *name, uint32_t name_len) {
    void *row;
    return tables_row_insert(t, KIND_PROCESSOR, id, name, name_len, &row);
}

void tables_forget(struct tables *t, uint32_t id) {
    struct processor_row *row = tables_processor(t, id);
    assert(row != NULL);
    while (row->positions != 0)
        tables_remove_position(t, row->positions - 1);
    tables_delete_owned(t, id);
    mem_free(t->mem, tables_row_remove(t, KIND_PROCESSOR, id), sizeof *row);
}

int tables_rename(struct tables *t, enum catalog_kind kind, uint32_t id, const char *name,
                  uint32_t name_len) {
    char fresh[NAME_LEN_MAX + 1] = {0};
    struct kind k = kind_of(t, kind);
    void *row = tables_row_find(*k.rows, *k.count, id);
    assert(row != NULL);
    TRY(set_name(fresh, name, name_len));
    TRY(lookup_reserve(&t->names[kind - 1], 1));
    lookup_remove(&t->names[kind - 1], name_hash(t, kind, name_of(&k, row)), id);
    lookup_add(&t->names[kind - 1], name_hash(t, kind, fresh), id);
    t->rows_bytes -= k.size((uint32_t)strlen(name_of(&k, row)));
    t->rows_bytes += k.size(name_len);
    memcpy(name_of(&k, row), fresh, sizeof fresh);
    return 0;
}

uint64_t tables_durable_next(const struct partition *p, uint64_t durable) {
    return p->last_end <= durable ? p->next : p->mid_end <= durable ? p->mid : p->safe;
}

void tables_begin_segment(struct tables *t) {
    for (uint32_t i = 0; i < t->stream_count; i++)
        for (uint32_t k = 0; k < t->streams[i]->partitions; k++) {
            struct partition *p = &t->streams[i]->parts[k];
            p->base = p->next;
            p->index_lsn = 0;
        }
}
