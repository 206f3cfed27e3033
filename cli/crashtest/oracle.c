/* SPDX-License-Identifier: Apache-2.0
 *
 * oracle.c - see oracle.h. Sections 4 to 6 of docs/format.md.
 */
#include "cli/crashtest/oracle.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    RECORDS = 1,
    SPILLED = 2,
    POSITIONS = 3,
    PRODUCERS = 4,
    CATALOG = 6,
    C_STREAMS = 64,
    C_NEXT = 65,
    C_PRODUCERS = 66,
    C_PROCESSORS = 67,
    C_POSITIONS = 68,
    C_IDS = 0x8048
};
enum { NEW_STREAM = 1, NEW_PRODUCER = 2, NEW_PROCESSOR = 3, DELETE_STREAM = 8 };

typedef struct run {
    uint16_t type;
    uint32_t stream, partition, count;
    uint64_t base;
    const uint8_t *bytes, *end;
} run;

/* The i-th run of a frame; false: it doesn't lie where the directory may say. */
static bool get_run(const ct_frame *f, uint32_t i, run *r) {
    const uint8_t *e = f->dir + (size_t)i * 32;
    uint64_t start = ct_get(e + 24, 4), len = ct_get(e + 28, 4);
    *r = (run){(uint16_t)ct_get(e, 2),      (uint32_t)ct_get(e + 4, 4), (uint32_t)ct_get(e + 8, 4),
               (uint32_t)ct_get(e + 12, 4), ct_get(e + 16, 8),          f->body + start,
               f->body + start + len};
    return start + len <= f->body_len;
}

static int malformed(ct_oracle *o, const ct_frame *f, const char *what) {
    return ct_wrong(o->problem,
                    "expected %s in the frame at LSN %" PRIu64
                    " to be as the format says; found otherwise",
                    what, f->lsn);
}

/* ---- tables */

static ct_stream *by_id(ct_oracle *o, uint32_t id) {
    for (uint32_t i = 0; i < o->stream_count; i++)
        if (o->streams[i].id == id)
            return &o->streams[i];
    return NULL;
}

static const ct_stream *by_name(const ct_oracle *o, const char *name) {
    for (uint32_t i = 0; i < o->stream_count; i++)
        if (strcmp(o->streams[i].name, name) == 0)
            return &o->streams[i];
    return NULL;
}

static bool is(const ct_stream *s, const char *name) {
    return strcmp(s->name, name) == 0;
}

static bool named(const uint8_t *name, uint64_t len, const char *what) {
    return len == strlen(what) && memcmp(name, what, len) == 0;
}

static int add_stream(ct_oracle *o, uint32_t id, uint64_t partitions, const uint8_t *name,
                      uint64_t len) {
    if (o->stream_count == CT_STREAMS_MAX || len > 127 || partitions == 0 || partitions > 1024)
        return ct_wrong(o->problem,
                        "expected at most %d streams of 1 to 1024 partitions; found more",
                        CT_STREAMS_MAX);
    ct_stream *s = &o->streams[o->stream_count];
    *s = (ct_stream){
        .id = id, .partitions = (uint32_t)partitions, .next = calloc(partitions, sizeof *s->next)};
    if (s->next == NULL)
        return ct_wrong(o->problem, "no memory for a stream's table");
    memcpy(s->name, name, len);
    o->stream_count++;
    if ((is(s, "in") || is(s, "out")) && partitions > CT_PARTITIONS_MAX)
        return ct_wrong(o->problem,
                        "the record check takes %d partitions at most; stream %s has %" PRIu64,
                        CT_PARTITIONS_MAX, s->name, partitions);
    return 0;
}

static void delete_stream(ct_oracle *o, uint32_t id) {
    ct_stream *s = by_id(o, id);
    if (s == NULL)
        return;
    free(s->next);
    *s = o->streams[--o->stream_count];
}

static int apply_catalog(ct_oracle *o, const ct_frame *f, const run *r) {
    const uint8_t *p = r->bytes;
    for (uint32_t i = 0; i < r->count; i++) {
        if (r->end - p < 24)
            return malformed(o, f, "a catalog entry");
        uint64_t op = ct_get(p, 2), len = ct_get(p + 2, 2), size = (24 + len + 7) / 8 * 8;
        uint32_t id = (uint32_t)ct_get(p + 4, 4);
        if ((uint64_t)(r->end - p) < size)
            return malformed(o, f, "a catalog entry");
        if (op >= NEW_STREAM && op <= NEW_PROCESSOR && o->chain.counts) {
            if (id <= o->used[op - 1])
                return ct_wrong(o->problem,
                                "expected the new id in the frame at LSN %" PRIu64
                                " to be above %u, found %u, which was used before",
                                f->lsn, o->used[op - 1], id);
            o->used[op - 1] = id;
        }
        if (op == NEW_STREAM && add_stream(o, id, ct_get(p + 8, 8), p + 24, len) < 0)
            return -1;
        if (op == DELETE_STREAM)
            delete_stream(o, id);
        if (op == NEW_PRODUCER && named(p + 24, len, "crashtest"))
            o->producer = id;
        if (op == NEW_PROCESSOR && named(p + 24, len, "crashtest"))
            o->processor = id;
        p += size;
    }
    return 0;
}

/* ---- records */

/* Record k of a partition of `in` is known beforehand. */
static int check_input(ct_oracle *o, const ct_stream *s, uint32_t partition, uint64_t k,
                       const uint8_t *value, size_t len) {
    uint64_t n = k * s->partitions + partition;
    size_t want = ct_record(o->seed, n, o->want);
    if (want != len || memcmp(o->want, value, len) != 0)
        return ct_wrong(o->problem,
                        "expected record %" PRIu64 " (%zu bytes) at offset %" PRIu64
                        " of partition %u of `in`, found "
                        "another (%zu bytes, and its number is %" PRIu64 ")",
                        n, want, k, partition, len, len >= 8 ? ct_get(value, 8) : UINT64_MAX);
    o->inputs++;
    return 0;
}

/* Which inputs an output may be of: the next one; and where a crash may come in between, the one at
 * which the last attempt began. */
static bool allowed(const ct_oracle *o, const ct_lane *l, uint64_t k) {
    return k == l->next || l->guessed || (o->guarantee == CT_AT_LEAST_ONCE && k == l->position) ||
           (o->guarantee == CT_AT_MOST_ONCE && k > l->next && k == l->from);
}

static int check_output(ct_oracle *o, const ct_stream *s, uint32_t partition, uint64_t offset,
                        const uint8_t *value, size_t len) {
    uint64_t n = len >= 8 ? ~ct_get(value, 8) : UINT64_MAX, k = n / s->partitions;
    ct_lane *l = &o->lanes[partition];
    if (n % s->partitions != partition || !allowed(o, l, k))
        return ct_wrong(o->problem,
                        "expected the output of record %" PRIu64 " at offset %" PRIu64
                        " of partition %u of `out`, found that of "
                        "record %" PRIu64 " (the position is %" PRIu64 ")",
                        l->next * s->partitions + partition, offset, partition, n, l->position);
    if (ct_record(o->seed, n, o->want) != len)
        return ct_wrong(o->problem,
                        "expected the output of record %" PRIu64 " to have %zu bytes, found %zu", n,
                        ct_record(o->seed, n, o->want), len);
    ct_invert(o->wanted_out, o->want, len);
    if (memcmp(o->wanted_out, value, len) != 0)
        return ct_wrong(o->problem,
                        "expected the output of record %" PRIu64 " at offset %" PRIu64
                        " of partition %u of `out`, "
                        "found other bytes under its number",
                        n, offset, partition);
    o->outputs++;
    if (l->guessed)
        l->next = l->covered = k;
    l->guessed = false;
    o->doubled += k < l->covered;
    o->lost += k > l->next ? k - l->next : 0;
    l->next = k + 1;
    if (k >= l->covered)
        l->covered = k + 1;
    return 0;
}

static int check_records(ct_oracle *o, const ct_frame *f, const run *r, ct_stream *s,
                         uint32_t partition) {
    bool in = is(s, "in"), out = is(s, "out");
    const uint8_t *p = r->bytes;
    for (uint32_t i = 0; i < r->count; i++, s->next[partition]++) {
        if (!in && !out)
            continue;
        if (r->end - p < 16)
            return malformed(o, f, "a record");
        uint64_t len = ct_get(p, 4), skip = 16 + ct_get(p + 4, 2) + ct_get(p + 6, 2);
        if ((uint64_t)(r->end - p) < skip + len)
            return malformed(o, f, "a record");
        uint64_t k = s->next[partition];
        if ((in && check_input(o, s, partition, k, p + skip, len) < 0) ||
            (out && check_output(o, s, partition, k, p + skip, len) < 0))
            return -1;
        p += skip + len;
    }
    return (in || out) && p != r->end ? malformed(o, f, "a run of records") : 0;
}

/* Retention took the spilled part: its records are gone, and the partition starts after them
 * (docs/format.md, section 7). Nothing can tell any more what they were. */
static void gone_with_its_spill(ct_oracle *o, const run *r, ct_stream *s) {
    s->next[r->partition] += r->count;
    ct_lane *l = &o->lanes[r->partition < CT_PARTITIONS_MAX ? r->partition : 0];
    if (is(s, "out") && o->guarantee == CT_EXACTLY_ONCE) {
        l->next = s->next[r->partition];
        l->covered = l->next;
    } else if (is(s, "out")) {
        l->guessed = true;
    }
}

static int apply_records(ct_oracle *o, const ct_frame *f, const run *r) {
    ct_stream *s = by_id(o, r->stream);
    if (s == NULL || r->partition >= s->partitions)
        return malformed(o, f, "a run's stream or partition");
    if (r->base != s->next[r->partition])
        return ct_wrong(o->problem,
                        "expected records of stream %s, partition %u, in the frame at LSN %" PRIu64
                        " to begin at offset %" PRIu64 ", found %" PRIu64,
                        s->name, r->partition, f->lsn, s->next[r->partition], r->base);
    if (r->type == RECORDS)
        return check_records(o, f, r, s, r->partition);
    ct_frame early;
    run spilled;
    if (r->end - r->bytes != 24)
        return malformed(o, f, "a spilled run");
    int code = ct_chain_fetch(&o->chain, ct_get(r->bytes, 8), ct_get(r->bytes + 8, 8), &early);
    if (code == 1)
        gone_with_its_spill(o, r, s);
    if (code != 0)
        return code == 1 ? 0 : code;
    uint32_t i = (uint32_t)ct_get(r->bytes + 16, 4);
    if (early.kind != CT_SPILL || i >= early.runs || !get_run(&early, i, &spilled) ||
        spilled.count != r->count || spilled.stream != r->stream ||
        spilled.partition != r->partition)
        return malformed(o, &early, "a spilled run that a commit refers to");
    return check_records(o, &early, &spilled, s, r->partition);
}

/* ---- positions and producers */

static int apply_positions(ct_oracle *o, const ct_frame *f, const run *r) {
    const ct_stream *in = by_name(o, "in");
    if ((uint64_t)(r->end - r->bytes) != (uint64_t)r->count * 32)
        return malformed(o, f, "positions");
    for (const uint8_t *p = r->bytes; p < r->end; p += 32) {
        uint64_t partition = ct_get(p + 8, 4), from = ct_get(p + 16, 8), to = ct_get(p + 24, 8);
        if (in == NULL || ct_get(p, 4) != o->processor || ct_get(p + 4, 4) != in->id)
            continue;
        if (partition >= in->partitions)
            return malformed(o, f, "a position's partition");
        ct_lane *l = &o->lanes[partition];
        if (from != l->position || to < from || to > in->next[partition])
            return ct_wrong(o->problem,
                            "expected the processor's interval in the frame at LSN %" PRIu64
                            " to begin at %" PRIu64 " and to end at %" PRIu64
                            " at most, found %" PRIu64 " to %" PRIu64,
                            f->lsn, l->position, in->next[partition], from, to);
        l->from = from;
        l->position = to;
    }
    return 0;
}

static int apply_producers(ct_oracle *o, const ct_frame *f, const run *r) {
    if ((uint64_t)(r->end - r->bytes) != (uint64_t)r->count * 64)
        return malformed(o, f, "producer sequences");
    for (const uint8_t *p = r->bytes; p < r->end; p += 64) {
        uint64_t first = ct_get(p + 8, 8), last = ct_get(p + 16, 8);
        if (ct_get(p, 4) != o->producer)
            continue;
        if (first != o->sequence + 1 || last + 1 < first)
            return ct_wrong(o->problem,
                            "expected the producer's sequence in the frame at LSN %" PRIu64
                            " to go on at %" PRIu64 ", found %" PRIu64 " to %" PRIu64,
                            f->lsn, o->sequence + 1, first, last);
        o->sequence = last;
    }
    return 0;
}

/* What must hold after every commit (PAWL-3): nothing of it may be there without the rest. */
static int check_whole(ct_oracle *o, const ct_frame *f) {
    const ct_stream *in = by_name(o, "in"), *out = by_name(o, "out");
    uint64_t total = ct_oracle_total(o, "in");
    if (o->producer != 0 && o->sequence != total)
        return ct_wrong(o->problem,
                        "expected as many inputs as the producer's sequence says, %" PRIu64
                        ", after the frame at LSN %" PRIu64 ", found %" PRIu64,
                        o->sequence, f->lsn, total);
    for (uint32_t i = 0; in != NULL && out != NULL && i < in->partitions && i < out->partitions;
         i++) {
        const ct_lane *l = &o->lanes[i];
        bool good = o->guarantee == CT_EXACTLY_ONCE    ? l->position == out->next[i]
                    : o->guarantee == CT_AT_LEAST_ONCE ? l->position <= l->covered
                                                       : l->covered <= l->position;
        if (!good && !l->guessed)
            return ct_wrong(o->problem,
                            "expected position and outputs of partition %u to agree after the "
                            "frame at LSN %" PRIu64 ", found position %" PRIu64 ", %" PRIu64
                            " outputs, the highest of input %" PRIu64,
                            i, f->lsn, l->position, out->next[i], l->covered);
    }
    return 0;
}

static int apply_commit(ct_oracle *o, const ct_frame *f) {
    run r;
    for (uint32_t i = 0; i < f->runs; i++)
        if (!get_run(f, i, &r))
            return malformed(o, f, "a run");
        else if (r.type == CATALOG && apply_catalog(o, f, &r) < 0)
            return -1;
    /* at-most-once looks at where the position was when the outputs came */
    for (uint32_t i = 0; i < f->runs; i++) {
        int code = 0;
        get_run(f, i, &r);
        if (r.type == RECORDS || r.type == SPILLED)
            code = apply_records(o, f, &r);
        else if (r.type == POSITIONS)
            code = apply_positions(o, f, &r);
        else if (r.type == PRODUCERS)
            code = apply_producers(o, f, &r);
        if (code < 0)
            return code;
    }
    return check_whole(o, f);
}

/* ---- checkpoints: the first one read is believed, every later one must say what is known */

static int expect(ct_oracle *o, const ct_frame *f, const char *what, uint64_t id, uint64_t want,
                  uint64_t got) {
    if (want == got)
        return 0;
    return ct_wrong(o->problem,
                    "expected the checkpoint at LSN %" PRIu64 " to say %" PRIu64 " for %s %" PRIu64
                    ", found %" PRIu64,
                    f->lsn, want, what, id, got);
}

/* Streams, processors, producers: fixed head, name, zeros up to a multiple of 8. */
static int checkpoint_names(ct_oracle *o, const ct_frame *f, const run *r, bool load) {
    size_t head = r->type == C_STREAMS ? 16 : r->type == C_PROCESSORS ? 8 : 72;
    size_t len_at = r->type == C_STREAMS ? 8 : r->type == C_PROCESSORS ? 4 : 36;
    const uint8_t *p = r->bytes;
    int code = 0;
    for (uint32_t i = 0; i < r->count && code == 0; i++) {
        if ((size_t)(r->end - p) < head || (size_t)(r->end - p) < head + ct_get(p + len_at, 4))
            return malformed(o, f, "a checkpoint's table");
        uint32_t id = (uint32_t)ct_get(p, 4);
        uint64_t len = ct_get(p + len_at, 4);
        bool ours = named(p + head, len, "crashtest");
        if (r->type == C_STREAMS && ct_get(p + 4, 4) == 0) /* the last id, of a deleted one */
            code = expect(o, f, "whether there is stream", id, 0, by_id(o, id) != NULL);
        else if (r->type == C_STREAMS && load)
            code = add_stream(o, id, ct_get(p + 4, 4), p + head, len);
        else if (r->type == C_STREAMS)
            code = expect(o, f, "whether there is stream", id, 1, by_id(o, id) != NULL);
        else if (r->type == C_PROCESSORS && ours && load)
            o->processor = id;
        else if (r->type == C_PROCESSORS && ours)
            code = expect(o, f, "the processor's", id, o->processor, id);
        else if (ours && load)
            o->producer = id, o->sequence = ct_get(p + 8, 8);
        else if (ours)
            code = expect(o, f, "the sequence of producer", id, o->sequence, ct_get(p + 8, 8));
        p += (head + len + 7) / 8 * 8;
    }
    return code;
}

static int checkpoint_next(ct_oracle *o, const ct_frame *f, const run *r, bool load) {
    for (const uint8_t *p = r->bytes; p + 16 <= r->end; p += 16) {
        ct_stream *s = by_id(o, (uint32_t)ct_get(p, 4));
        uint64_t partition = ct_get(p + 4, 4), next = ct_get(p + 8, 8);
        if (s == NULL || partition >= s->partitions)
            return malformed(o, f, "a checkpoint's offsets");
        if (load)
            s->next[partition] = next;
        if (expect(o, f, "the next offset of partition", partition, s->next[partition], next) < 0)
            return -1;
    }
    return 0;
}

static int checkpoint_positions(ct_oracle *o, const ct_frame *f, const run *r, bool load) {
    const ct_stream *in = by_name(o, "in");
    for (const uint8_t *p = r->bytes; p + 24 <= r->end; p += 24) {
        uint64_t partition = ct_get(p + 8, 4), position = ct_get(p + 16, 8);
        if (in == NULL || ct_get(p, 4) != o->processor || ct_get(p + 4, 4) != in->id)
            continue;
        if (partition >= in->partitions)
            return malformed(o, f, "a checkpoint's positions");
        ct_lane *l = &o->lanes[partition];
        if (load)
            *l = (ct_lane){position, position, position, position, o->guarantee != CT_EXACTLY_ONCE};
        if (expect(o, f, "the position in partition", partition, l->position, position) < 0)
            return -1;
    }
    return 0;
}

/* The next id of each kind, and what the log has had, which chain.c has checked in the header. */
static int checkpoint_ids(ct_oracle *o, const ct_frame *f, const run *r, bool load) {
    if (r->end - r->bytes != 32)
        return malformed(o, f, "a checkpoint's ids");
    for (int i = 0; i < 3; i++) {
        uint64_t next = ct_get(r->bytes + i * 4, 4);
        if (load || !o->ids_known)
            o->used[i] = (uint32_t)next - 1;
        else if (expect(o, f, "the next id of kind", (uint64_t)i + 1, o->used[i] + 1u, next) < 0)
            return -1;
    }
    o->ids_known = true;
    if (expect(o, f, "how many commits there were before LSN", f->lsn, o->chain.commits,
               ct_get(r->bytes + 16, 8)) < 0)
        return -1;
    return expect(o, f, "how many catalog changes there were before LSN", f->lsn, o->chain.changes,
                  ct_get(r->bytes + 24, 8));
}

/* The last entry of C_STREAMS may stand for a stream that was deleted: no partitions, no name. */
static uint32_t last_is_deleted(const run *r) {
    return r->end - r->bytes >= 16 && ct_get(r->end - 12, 4) == 0 && ct_get(r->end - 8, 8) == 0;
}

static int apply_checkpoint(ct_oracle *o, const ct_frame *f) {
    bool load = o->chain.frames == 1 && f->lsn >= o->chain.segment_size;
    static const uint16_t order[] = {C_STREAMS, C_PROCESSORS, C_PRODUCERS,
                                     C_NEXT,    C_POSITIONS,  C_IDS};
    o->ids_known |= o->chain.counts && f->lsn < o->chain.segment_size;
    uint32_t streams = 0;
    run r;
    for (size_t k = 0; k < sizeof order / sizeof order[0]; k++)
        for (uint32_t i = 0; i < f->runs; i++) {
            if (!get_run(f, i, &r))
                return malformed(o, f, "a run");
            if (r.type != order[k])
                continue;
            int code = r.type == C_NEXT        ? checkpoint_next(o, f, &r, load)
                       : r.type == C_POSITIONS ? checkpoint_positions(o, f, &r, load)
                       : r.type == C_IDS       ? checkpoint_ids(o, f, &r, load)
                                               : checkpoint_names(o, f, &r, load);
            if (code < 0)
                return code;
            if (r.type == C_STREAMS)
                streams = r.count - last_is_deleted(&r);
        }
    return expect(o, f, "how many streams there are", 0, o->stream_count, streams);
}

static int on_frame(void *arg, const ct_frame *f) {
    ct_oracle *o = arg;
    switch (f->kind) {
    case CT_COMMIT:
        return apply_commit(o, f);
    case CT_CHECKPOINT:
        return apply_checkpoint(o, f);
    case CT_SPILL:
    case CT_WITNESS:
    case CT_OPEN:
    case CT_CLOSE:
    case CT_SEAL:
        return 0;
    default:
        return 0; /* may be skipped, says chain.c */
    }
}

/* ---- in all */

void ct_oracle_init(ct_oracle *o, int dir, uint64_t seed, int guarantee, ct_problem *problem) {
    *o = (ct_oracle){.seed = seed, .guarantee = guarantee, .problem = problem};
    ct_chain_init(&o->chain, dir, problem, on_frame, o);
}

void ct_oracle_free(ct_oracle *o) {
    for (uint32_t i = 0; i < o->stream_count; i++)
        free(o->streams[i].next);
    o->stream_count = 0;
    ct_chain_free(&o->chain);
}

int ct_oracle_advance(ct_oracle *o) {
    return ct_chain_advance(&o->chain);
}

uint64_t ct_oracle_next(const ct_oracle *o, const char *stream, uint32_t partition) {
    const ct_stream *s = by_name(o, stream);
    return s != NULL && partition < s->partitions ? s->next[partition] : 0;
}

uint64_t ct_oracle_total(const ct_oracle *o, const char *stream) {
    const ct_stream *s = by_name(o, stream);
    uint64_t total = 0;
    for (uint32_t i = 0; s != NULL && i < s->partitions; i++)
        total += s->next[i];
    return total;
}

uint64_t ct_oracle_missing(const ct_oracle *o) {
    uint64_t missing = 0;
    for (int i = 0; i < CT_PARTITIONS_MAX; i++)
        if (o->lanes[i].position > o->lanes[i].next)
            missing += o->lanes[i].position - o->lanes[i].next;
    return missing;
}

int ct_oracle_compare(const ct_oracle *o, const ct_oracle *other) {
    bool same = o->chain.end == other->chain.end && o->chain.link == other->chain.link &&
                o->chain.epoch == other->chain.epoch && o->sequence == other->sequence &&
                o->stream_count == other->stream_count;
    for (uint32_t i = 0; same && i < o->stream_count; i++)
        same = memcmp(o->streams[i].next, other->streams[i].next,
                      o->streams[i].partitions * sizeof(uint64_t)) == 0;
    for (int i = 0; same && i < CT_PARTITIONS_MAX; i++)
        same = o->lanes[i].position == other->lanes[i].position;
    return same ? 0
                : ct_wrong(o->problem,
                           "expected a reading of all that is kept to end where the one kill by "
                           "kill did, at LSN %" PRIu64 "; found LSN %" PRIu64 ", or other tables",
                           o->chain.end, other->chain.end);
}
