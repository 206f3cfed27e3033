/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/tables.h"

void tables_init(struct tables *t, struct mem *m, uint64_t segment_size) {
    memset(t, 0, sizeof *t);
    t->mem = m;
    t->segment_size = segment_size;
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

bool name_allowed(const char *name) {
    size_t n = name == NULL ? 0 : strlen(name);
    if (n == 0 || n > NAME_LEN_MAX)
        return false;
    return strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

struct stream *tables_stream(const struct tables *t, uint32_t id) {
    return id >= 1 && id <= t->stream_count && t->streams[id - 1].partitions != 0
               ? &t->streams[id - 1]
               : NULL;
}

struct producer *tables_producer(const struct tables *t, uint32_t id) {
    return id >= 1 && id <= t->producer_count && t->producers[id - 1].name[0] != 0
               ? &t->producers[id - 1]
               : NULL;
}

bool tables_has_processor(const struct tables *t, uint32_t id) {
    return id >= 1 && id <= t->processor_count && t->processors[id - 1].name[0] != 0;
}

uint32_t tables_find_stream(const struct tables *t, const char *name) {
    for (uint32_t i = 0; i < t->stream_count; i++)
        if (t->streams[i].partitions != 0 && strcmp(t->streams[i].name, name) == 0)
            return i + 1;
    return 0;
}

uint32_t tables_find_producer(const struct tables *t, const char *name) {
    for (uint32_t i = 0; i < t->producer_count; i++)
        if (strcmp(t->producers[i].name, name) == 0)
            return i + 1;
    return 0;
}

uint32_t tables_find_processor(const struct tables *t, const char *name) {
    for (uint32_t i = 0; i < t->processor_count; i++)
        if (t->processors[i].name[0] != 0 && strcmp(t->processors[i].name, name) == 0)
            return i + 1;
    return 0;
}

int tables_room(const struct tables *t, uint64_t bytes) {
    if (t->checkpoint_bytes + bytes > t->segment_size / 8 - 1024)
        return fail(PAWL_LIMIT, "the log's tables would be larger than an eighth of a segment; use "
                                "a larger segment size");
    return 0;
}

static void set_name(char *to, const char *name, uint32_t len) {
    memcpy(to, name, len);
    to[len] = 0;
}

static int damaged(const struct frame_header *h, const char *what) {
    return fail_at(PAWL_DAMAGED, 0, "", "", h->lsn,
                   "the frame at LSN %llu contradicts the log before it: %s",
                   (unsigned long long)h->lsn, what);
}

static int add_stream(struct tables *t, uint32_t id, uint32_t partitions, const char *name,
                      uint32_t name_len) {
    if (id == 0 || id > STREAMS_MAX || partitions == 0 || partitions > STREAM_PARTITIONS_MAX)
        return fail(PAWL_DAMAGED, "a stream's id or number of partitions is out of range");
    while (t->stream_count < id) {
        TRY(RESERVE(t, stream, t->stream_count));
        t->stream_count++;
    }
    struct stream *s = &t->streams[id - 1];
    if (s->partitions != 0)
        return fail(PAWL_DAMAGED, "a stream was created twice");
    s->parts = mem_alloc(t->mem, partitions * sizeof *s->parts);
    if (s->parts == NULL)
        return fail(PAWL_MEMORY, "no memory for a stream of %u partitions", partitions);
    s->partitions = partitions;
    set_name(s->name, name, name_len);
    t->partition_count += partitions;
    t->checkpoint_bytes += align_up(16u + name_len, 8) + (uint64_t)partitions * C_NEXT_SIZE;
    return 0;
}

static int add_producer(struct tables *t, uint32_t id, const char *name, uint32_t name_len) {
    if (id == 0 || id > PRODUCERS_MAX || name_len == 0)
        return fail(PAWL_DAMAGED, "a producer's id is out of range");
    while (t->producer_count < id) {
        TRY(RESERVE(t, producer, t->producer_count));
        t->producer_count++;
    }
    set_name(t->producers[id - 1].name, name, name_len);
    t->checkpoint_bytes += align_up(72u + name_len, 8);
    return 0;
}

static int add_processor(struct tables *t, uint32_t id, const char *name, uint32_t name_len) {
    if (id == 0 || name_len == 0)
        return fail(PAWL_DAMAGED, "a processor's id is out of range");
    while (t->processor_count < id) {
        TRY(RESERVE(t, processor, t->processor_count));
        t->processor_count++;
    }
    set_name(t->processors[id - 1].name, name, name_len);
    t->checkpoint_bytes += align_up(8u + name_len, 8);
    return 0;
}

/* Where (processor, stream, partition) is, or would be, in the ascending array. */
static uint32_t position_place(const struct tables *t, uint32_t processor, uint32_t stream,
                               uint32_t partition) {
    uint32_t lo = 0, hi = t->position_count;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        const struct position_row *p = &t->positions[mid];
        bool less = p->processor != processor ? p->processor < processor
                    : p->stream != stream     ? p->stream < stream
                                              : p->partition < partition;
        if (less)
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

static int set_position(struct tables *t, uint32_t processor, uint32_t stream, uint32_t partition,
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
    t->checkpoint_bytes += C_POSITION_SIZE;
    return 0;
}

static void forget(struct tables *t, uint32_t id) {
    t->checkpoint_bytes -= align_up(8u + strlen(t->processors[id - 1].name), 8);
    t->processors[id - 1].name[0] = 0;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < t->position_count; i++)
        if (t->positions[i].processor != id)
            t->positions[kept++] = t->positions[i];
    t->checkpoint_bytes -= (uint64_t)(t->position_count - kept) * C_POSITION_SIZE;
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

static int set_decision(struct tables *t, const struct sink_entry *e) {
    struct decision_row *d = tables_decision(t, e->processor, e->name, e->name_len);
    uint64_t size = align_up(8u + e->name_len, 8);
    if (e->op == SINK_FINISHED) {
        if (d != NULL) {
            memmove(d, d + 1, (size_t)(&t->decisions[t->decision_count] - (d + 1)) * sizeof *d);
            t->decision_count--;
            t->checkpoint_bytes -= size;
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
    t->checkpoint_bytes += size;
    return 0;
}

static int set_span(struct tables *t, uint64_t segment, uint64_t oldest) {
    for (uint32_t i = 0; i < t->span_count; i++)
        if (t->spans[i].segment == segment) {
            if (oldest < t->spans[i].oldest)
                t->spans[i].oldest = oldest;
            return 0;
        }
    TRY(RESERVE(t, span, t->span_count));
    t->spans[t->span_count++] = (struct span_row){segment, oldest};
    t->checkpoint_bytes += C_SPAN_SIZE;
    return 0;
}

static int apply_catalog(struct tables *t, const struct run *r, const uint8_t *data) {
    uint32_t at = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        struct catalog_entry e;
        if (!catalog_decode(data, r->len, &at, &e))
            return fail(PAWL_DAMAGED, "a catalog entry does not fit its run");
        switch (e.op) {
        case CATALOG_STREAM:
            TRY(add_stream(t, e.id, e.a > UINT32_MAX ? 0 : (uint32_t)e.a, e.name, e.name_len));
            break;
        case CATALOG_PRODUCER:
            TRY(add_producer(t, e.id, e.name, e.name_len));
            break;
        case CATALOG_PROCESSOR:
            TRY(add_processor(t, e.id, e.name, e.name_len));
            break;
        case CATALOG_FORGET:
            if (tables_has_processor(t, e.id))
                forget(t, e.id);
            break;
        case CATALOG_RETAIN:
            t->retain_bytes = e.a;
            t->retain_ms = e.b;
            break;
        case CATALOG_CONSUMED:
            t->consumed = e.a != 0;
            break;
        default:
            return fail(PAWL_VERSION, "catalog change %u is not known to this version", e.op);
        }
    }
    return 0;
}

uint64_t tables_durable_next(const struct partition *p, uint64_t durable) {
    return p->last_end <= durable ? p->next : p->mid_end <= durable ? p->mid : p->safe;
}

static int apply_records(struct tables *t, const struct frame_header *h, const struct run *r,
                         bool lost) {
    struct stream *s = tables_stream(t, r->stream);
    if (s == NULL || r->partition >= s->partitions) {
        if (!lost)
            return damaged(h, "records of a stream or partition that was never created");
        return 0;
    }
    struct partition *p = &s->parts[r->partition];
    if (r->base != p->next && !(lost && r->base > p->next))
        return damaged(h, "record offsets do not join");
    uint64_t end = h->lsn + frame_bytes(h);
    if (p->last_end != end) { /* the first run of this commit here */
        p->safe = tables_durable_next(p, h->durable);
        if (p->mid_end <= h->durable) {
            p->mid = p->next;
            p->mid_end = p->last_end;
        }
        p->last_end = end;
    }
    p->next = r->base + r->count;
    t->records += r->count;
    return 0;
}

static int apply_positions(struct tables *t, const struct frame_header *h, const struct run *r,
                           const uint8_t *data, bool lost) {
    uint32_t at = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        struct position_entry e;
        if (!position_decode(data, r->len, &at, &e))
            return damaged(h, "a position does not fit its run");
        struct position_row *p = tables_position(t, e.processor, e.stream, e.partition);
        if (p != NULL && p->offset != e.from && !(lost && e.from > p->offset))
            return damaged(h, "an interval does not begin where the one before ended");
        TRY(set_position(t, e.processor, e.stream, e.partition, e.to));
    }
    return 0;
}

static int apply_producers(struct tables *t, const struct frame_header *h, const uint8_t *frame,
                           const struct run *r, const uint8_t *data, bool lost) {
    uint32_t at = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        struct producer_entry e;
        if (!producer_decode(data, r->len, &at, &e))
            return damaged(h, "a producer entry does not fit its run");
        struct producer *p = tables_producer(t, e.producer);
        if (p == NULL) {
            if (lost)
                continue;
            return damaged(h, "a producer that was never created");
        }
        if (e.epoch < p->epoch || (e.first != p->sequence + 1 && !(lost && e.first > p->sequence)))
            return damaged(h, "a producer's sequence does not continue");
        p->epoch = e.epoch;
        if (e.last < e.first)
            continue; /* only a new holder */
        p->sequence = e.last;
        p->stream = p->partition = 0;
        p->offset = 0;
        p->cookie_len = e.cookie_len;
        memcpy(p->cookie, e.cookie, COOKIE_MAX);
        for (uint32_t k = 0; k < h->runs; k++) {
            struct run q;
            const uint8_t *ignored;
            frame_run(frame, h, k, &q, &ignored);
            if (q.type == RUN_RECORDS || q.type == RUN_SPILLED) {
                p->stream = q.stream;
                p->partition = q.partition;
                p->offset = q.base;
                break;
            }
        }
    }
    return 0;
}

static int apply_sinks(struct tables *t, const struct run *r, const uint8_t *data) {
    uint32_t at = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        struct sink_entry e;
        if (!sink_decode(data, r->len, &at, &e))
            return fail(PAWL_DAMAGED, "a sink decision does not fit its run");
        TRY(set_decision(t, &e));
    }
    return 0;
}

static int apply_spilled(struct tables *t, const struct frame_header *h, const struct run *r,
                         const uint8_t *data) {
    struct spilled_entry e;
    if (!spilled_decode(data, r->len, &e) || e.lsn >= h->lsn)
        return damaged(h, "a reference to a spilled run is not well formed");
    uint64_t from = e.lsn / t->segment_size, to = h->lsn / t->segment_size;
    return from != to ? set_span(t, to, from) : 0;
}

static int apply_commit(struct tables *t, const struct frame_header *h, const uint8_t *frame,
                        bool lost) {
    struct run r;
    const uint8_t *data;
    /* the catalog first: other runs may need what it makes */
    for (uint32_t i = 0; i < h->runs; i++) {
        frame_run(frame, h, i, &r, &data);
        if (r.type == RUN_CATALOG)
            TRY(apply_catalog(t, &r, data));
    }
    for (uint32_t i = 0; i < h->runs; i++) {
        frame_run(frame, h, i, &r, &data);
        int rc = 0;
        switch (r.type) {
        case RUN_SPILLED:
            rc = apply_spilled(t, h, &r, data);
            if (rc == 0)
                rc = apply_records(t, h, &r, lost);
            break;
        case RUN_RECORDS:
            rc = apply_records(t, h, &r, lost);
            break;
        case RUN_POSITIONS:
            rc = apply_positions(t, h, &r, data, lost);
            break;
        case RUN_PRODUCERS:
            rc = apply_producers(t, h, frame, &r, data, lost);
            break;
        case RUN_SINKS:
            rc = apply_sinks(t, &r, data);
            break;
        case RUN_STATE:
        case RUN_CATALOG:
            break;
        default:
            if ((r.type & RUN_OPTIONAL) == 0)
                rc = fail_at(PAWL_VERSION, 0, "", "", h->lsn,
                             "run type %u at LSN %llu is not known to this version of Pawl", r.type,
                             (unsigned long long)h->lsn);
        }
        TRY(rc);
    }
    t->commits++;
    return 0;
}

static int load_run(struct tables *t, const struct run *r, const uint8_t *data) {
    uint32_t at = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        struct c_stream s;
        struct c_producer p;
        struct sink_entry d;
        const char *name;
        uint32_t id, len;
        const uint8_t *e = data + at;
        bool ok = true;
        uint32_t fixed = r->type == RUN_C_NEXT        ? C_NEXT_SIZE
                         : r->type == RUN_C_POSITIONS ? C_POSITION_SIZE
                         : r->type == RUN_C_SETTINGS  ? C_SETTINGS_SIZE
                         : r->type == RUN_C_SPANS     ? C_SPAN_SIZE
                                                      : 0;
        if (fixed != 0 && fixed > r->len - at)
            return fail(PAWL_DAMAGED, "a checkpoint entry does not fit its run");
        at += fixed;
        switch (r->type) {
        case RUN_C_STREAMS:
            ok = c_stream_decode(data, r->len, &at, &s);
            if (ok)
                TRY(add_stream(t, s.id, s.partitions, s.name, s.name_len));
            break;
        case RUN_C_NEXT: {
            struct stream *st = tables_stream(t, get32(e));
            if (st == NULL || get32(e + 4) >= st->partitions)
                return fail(PAWL_DAMAGED, "a checkpoint names a partition that is not there");
            struct partition *part = &st->parts[get32(e + 4)];
            part->next = part->safe = part->mid = part->base = get64(e + 8);
            break;
        }
        case RUN_C_PRODUCERS:
            ok = c_producer_decode(data, r->len, &at, &p);
            if (ok) {
                TRY(add_producer(t, p.id, p.name, p.name_len));
                struct producer *q = &t->producers[p.id - 1];
                q->epoch = p.epoch;
                q->sequence = p.sequence;
                q->stream = p.stream;
                q->partition = p.partition;
                q->offset = p.offset;
                q->cookie_len = p.cookie_len;
                memcpy(q->cookie, p.cookie, COOKIE_MAX);
            }
            break;
        case RUN_C_PROCESSORS:
            ok = c_processor_decode(data, r->len, &at, &id, &name, &len);
            if (ok)
                TRY(add_processor(t, id, name, len));
            break;
        case RUN_C_POSITIONS:
            TRY(set_position(t, get32(e), get32(e + 4), get32(e + 8), get64(e + 16)));
            break;
        case RUN_C_SETTINGS:
            t->retain_bytes = get64(e);
            t->retain_ms = get64(e + 8);
            t->consumed = (get64(e + 16) & 1) != 0;
            break;
        case RUN_C_SINKS:
            ok = sink_decode(data, r->len, &at, &d);
            if (ok) {
                d.op = SINK_DECIDED;
                TRY(set_decision(t, &d));
            }
            break;
        case RUN_C_SPANS:
            TRY(set_span(t, get64(e), get64(e + 8)));
            break;
        default:
            if ((r->type & RUN_OPTIONAL) == 0)
                return fail(PAWL_VERSION,
                            "run type %u in a checkpoint is not known to this version of Pawl",
                            r->type);
            return 0;
        }
        if (!ok)
            return fail(PAWL_DAMAGED, "a checkpoint entry does not fit its run");
    }
    return 0;
}

/* A checkpoint replaces the tables. */
static int load(struct tables *t, const struct frame_header *h, const uint8_t *frame) {
    uint64_t commits = t->commits, records = t->records;
    tables_free(t);
    t->commits = commits;
    t->records = records;
    for (uint32_t i = 0; i < h->runs; i++) {
        struct run r;
        const uint8_t *data;
        frame_run(frame, h, i, &r, &data);
        TRY(load_run(t, &r, data));
    }
    return 0;
}

int tables_apply(struct tables *t, const struct frame_header *h, const uint8_t *frame, bool lost) {
    if (h->kind == FRAME_CHECKPOINT)
        return load(t, h, frame);
    return h->kind == FRAME_COMMIT ? apply_commit(t, h, frame, lost) : 0;
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
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->stream_count; i++) {
        const struct stream *s = &t->streams[i];
        if (s->partitions == 0)
            continue;
        c_stream_encode(
            body, &(struct c_stream){i + 1, s->partitions, s->name, (uint32_t)strlen(s->name)});
        n++;
    }
    return n;
}

static uint32_t write_next(const struct tables *t, struct bytes *body) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->stream_count; i++)
        for (uint32_t k = 0; k < t->streams[i].partitions; k++) {
            uint8_t *e = bytes_add(body, C_NEXT_SIZE);
            if (e == NULL)
                return n;
            put32(e, i + 1);
            put32(e + 4, k);
            put64(e + 8, t->streams[i].parts[k].next);
            n++;
        }
    return n;
}

static uint32_t write_producers(const struct tables *t, struct bytes *body) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->producer_count; i++) {
        const struct producer *p = &t->producers[i];
        if (p->name[0] == 0)
            continue;
        struct c_producer c = {
            i + 1,     p->epoch,      p->sequence, p->stream, p->partition,
            p->offset, p->cookie_len, {0},         p->name,   (uint32_t)strlen(p->name)};
        memcpy(c.cookie, p->cookie, COOKIE_MAX);
        c_producer_encode(body, &c);
        n++;
    }
    return n;
}

static uint32_t write_processors(const struct tables *t, struct bytes *body) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->processor_count; i++)
        if (t->processors[i].name[0] != 0) {
            c_processor_encode(body, i + 1, t->processors[i].name,
                               (uint32_t)strlen(t->processors[i].name));
            n++;
        }
    return n;
}

static uint32_t write_positions(const struct tables *t, struct bytes *body) {
    for (uint32_t i = 0; i < t->position_count; i++) {
        uint8_t *e = bytes_add(body, C_POSITION_SIZE);
        if (e == NULL)
            break;
        put32(e, t->positions[i].processor);
        put32(e + 4, t->positions[i].stream);
        put32(e + 8, t->positions[i].partition);
        put64(e + 16, t->positions[i].offset);
    }
    return t->position_count;
}

static uint32_t write_settings(const struct tables *t, struct bytes *body) {
    uint8_t *e = bytes_add(body, C_SETTINGS_SIZE);
    if (e != NULL) {
        put64(e, t->retain_bytes);
        put64(e + 8, t->retain_ms);
        put64(e + 16, t->consumed ? 1 : 0);
    }
    return 1;
}

static uint32_t write_sinks(const struct tables *t, struct bytes *body) {
    for (uint32_t i = 0; i < t->decision_count; i++)
        sink_encode(body, &(struct sink_entry){t->decisions[i].processor, 0, t->decisions[i].name,
                                               t->decisions[i].name_len});
    return t->decision_count;
}

static uint32_t write_spans(const struct tables *t, struct bytes *body) {
    for (uint32_t i = 0; i < t->span_count; i++) {
        uint8_t *e = bytes_add(body, C_SPAN_SIZE);
        if (e == NULL)
            break;
        put64(e, t->spans[i].segment);
        put64(e + 8, t->spans[i].oldest);
    }
    return t->span_count;
}

int tables_checkpoint(const struct tables *t, struct bytes *body, struct run *runs,
                      uint32_t *count) {
    static const struct {
        uint16_t type;
        uint32_t (*write)(const struct tables *, struct bytes *);
    } parts[] = {{RUN_C_STREAMS, write_streams},     {RUN_C_NEXT, write_next},
                 {RUN_C_PRODUCERS, write_producers}, {RUN_C_PROCESSORS, write_processors},
                 {RUN_C_POSITIONS, write_positions}, {RUN_C_SETTINGS, write_settings},
                 {RUN_C_SINKS, write_sinks},         {RUN_C_SPANS, write_spans}};
    *count = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        size_t start = body->len;
        uint32_t n = parts[i].write(t, body);
        end_run(body, runs, count, parts[i].type, n, start);
    }
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
