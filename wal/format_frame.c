/* SPDX-License-Identifier: Apache-2.0
 *
 * Frames and their directory; docs/format.md, sections 3 and 5. Offsets are those of the tables
 * there.
 */
#include <assert.h>

#include "wal/format.h"

static const uint8_t frame_magic[4] = {0x50, 0x57, 0x4C, 0x46};

enum {
    AT_KIND = 4,
    AT_KIND_FLAGS = 5,
    AT_RUNS = 6,
    AT_LSN = 8,
    AT_EPOCH = 16,
    AT_DURABLE = 24,
    AT_TIME = 32,
    AT_LINK = 40,
    AT_DIR_HASH = 48,
    AT_BODY_HASH = 56,
    AT_BODY_LEN = 64,
    AT_FLAGS = 68,
    AT_HASH = 72
};
_Static_assert(AT_HASH + 8 == FRAME_HEADER_SIZE, "header layout");

const char *frame_kind_name(uint8_t kind) {
    static const char *const names[] = {"?",     "COMMIT",     "SPILL", "WITNESS", "OPEN",
                                        "CLOSE", "CHECKPOINT", "SEAL",  "LOST"};
    return kind < sizeof names / sizeof *names ? names[kind] : "?";
}

bool frame_kind_known(uint8_t kind) {
    return kind >= FRAME_COMMIT && kind <= FRAME_LOST;
}

void frame_encode_header(uint8_t out[FRAME_HEADER_SIZE], struct frame_header *h,
                         const struct frame_key *key) {
    assert(h->lsn % 8 == 0 && h->durable <= h->lsn); /* PAWL-9: frame_decode_header() checks it */
    memcpy(out, frame_magic, 4);
    out[AT_KIND] = h->kind;
    out[AT_KIND_FLAGS] = h->kind_flags;
    put16(out + AT_RUNS, h->runs);
    put64(out + AT_LSN, h->lsn);
    put64(out + AT_EPOCH, h->epoch);
    put64(out + AT_DURABLE, h->durable);
    put64(out + AT_TIME, h->time_ns);
    put64(out + AT_LINK, h->link);
    put64(out + AT_DIR_HASH, h->dir_hash);
    put64(out + AT_BODY_HASH, h->body_hash);
    put32(out + AT_BODY_LEN, h->body_len);
    put32(out + AT_FLAGS, h->flags);
    h->hash = frame_hash(out, AT_HASH, key);
    put64(out + AT_HASH, h->hash);
}

uint8_t frame_kind_flags(uint8_t kind) {
    return (uint8_t)(kind == FRAME_WITNESS ? 0 : KIND_TO_READ);
}

void frame_encode(uint8_t *out, struct frame_header *h, const struct run *runs,
                  const struct piece *pieces, uint32_t piece_count, const struct frame_key *key) {
    uint8_t *dir = out + FRAME_HEADER_SIZE;
    uint64_t end = 0;
    for (uint32_t i = 0; i < h->runs; i++) {
        assert(runs[i].start == end); /* PAWL-2: runs_join() checks it */
        end += runs[i].len;
        run_encode(dir + (size_t)i * RUN_SIZE, &runs[i]);
    }
    assert(end == h->body_len);
    uint8_t *at = dir + (size_t)h->runs * RUN_SIZE;
    for (uint32_t i = 0; i < piece_count; i++) {
        if (pieces[i].data != at)
            copy_long(at, pieces[i].data, pieces[i].len);
        at += pieces[i].len;
    }
    size_t size = (size_t)frame_length(h);
    assert(at == dir + (size_t)h->runs * RUN_SIZE + h->body_len); /* PAWL-2 */
    memset(at, 0, size - (size_t)(at - out));
    h->dir_hash = frame_hash(dir, (size_t)h->runs * RUN_SIZE, key);
    frame_encode_header(out, h, key);
}

void frame_encode_lost(uint8_t out[FRAME_HEADER_SIZE], struct frame_header *h, uint64_t end,
                       uint64_t next_link, const struct frame_key *key) {
    h->kind = FRAME_LOST;
    h->kind_flags = frame_kind_flags(FRAME_LOST);
    h->runs = 0;
    h->body_len = (uint32_t)(end - h->lsn - FRAME_HEADER_SIZE);
    h->dir_hash = next_link;
    h->body_hash = 0;
    assert(h->lsn + frame_length(h) == end);
    frame_encode_header(out, h, key);
}

uint64_t frame_search(const uint8_t *at, uint64_t lsn, uint64_t len) {
    uint64_t i = 0;
    while (i < len && (memcmp(at + i, frame_magic, 4) != 0 ||
                       (len - i >= AT_LSN + 8 && get64(at + i + AT_LSN) != lsn + i)))
        i += 8;
    return i;
}

enum frame_verdict frame_decode_header(const uint8_t in[FRAME_HEADER_SIZE], uint64_t lsn,
                                       uint64_t segment_size, const struct frame_key *key,
                                       struct frame_header *h) {
    if (memcmp(in, frame_magic, 4) != 0)
        return FRAME_NO_MAGIC;
    h->hash = get64(in + AT_HASH);
    if (frame_hash(in, AT_HASH, key) != h->hash)
        return FRAME_BAD_HEADER;
    h->kind = in[AT_KIND];
    h->kind_flags = in[AT_KIND_FLAGS];
    h->runs = get16(in + AT_RUNS);
    h->lsn = get64(in + AT_LSN);
    h->epoch = get64(in + AT_EPOCH);
    h->durable = get64(in + AT_DURABLE);
    h->time_ns = get64(in + AT_TIME);
    h->link = get64(in + AT_LINK);
    h->dir_hash = get64(in + AT_DIR_HASH);
    h->body_hash = get64(in + AT_BODY_HASH);
    h->body_len = get32(in + AT_BODY_LEN);
    h->flags = get32(in + AT_FLAGS);
    h->ids = NULL;
    if (h->lsn != lsn)
        return FRAME_OTHER_LSN;
    if (h->durable > lsn || frame_length(h) > segment_size - segment_offset(lsn, segment_size))
        return FRAME_BAD_HEADER;
    if (h->kind == FRAME_LOST && h->runs != 0)
        return FRAME_BAD_HEADER;
    return FRAME_GOOD;
}

static bool runs_join(const uint8_t *frame, const struct frame_header *h) {
    uint64_t end = 0;
    for (uint32_t i = 0; i < h->runs; i++) {
        struct run r;
        run_decode(frame + FRAME_HEADER_SIZE + i * RUN_SIZE, &r);
        if (r.start != end)
            return false;
        end += r.len;
        if (end > h->body_len)
            return false;
    }
    return end == h->body_len;
}

enum frame_verdict frame_check(const uint8_t *in, const struct frame_header *h,
                               const struct frame_key *key) {
    if (h->kind == FRAME_LOST)
        return FRAME_GOOD;
    size_t dir_len = (size_t)h->runs * RUN_SIZE;
    const uint8_t *dir = in + FRAME_HEADER_SIZE, *body = dir + dir_len;
    if (frame_hash(dir, dir_len, key) != h->dir_hash)
        return FRAME_BAD_DIR;
    if (frame_hash(body, h->body_len, key) != h->body_hash)
        return FRAME_BAD_BODY;
    size_t pad = (size_t)(frame_length(h) - FRAME_HEADER_SIZE - dir_len - h->body_len);
    if (!all_zero(body + h->body_len, pad))
        return FRAME_BAD_BODY;
    return runs_join(in, h) ? FRAME_GOOD : FRAME_BAD_DIR;
}

void run_encode(uint8_t out[RUN_SIZE], const struct run *r) {
    put16(out, r->type);
    put16(out + 2, r->flags);
    put32(out + 4, r->stream);
    put32(out + 8, r->partition);
    put32(out + 12, r->count);
    put64(out + 16, r->base);
    put32(out + 24, r->start);
    put32(out + 28, r->len);
}

bool run_type_known(uint16_t type) {
    return (type >= RUN_RECORDS && type <= RUN_SINKS) || type == RUN_INDEX || type == RUN_ORIGINS ||
           type == RUN_TABLES || (type >= RUN_C_STREAMS && type <= RUN_C_SPANS) ||
           type == RUN_C_IDS || type == RUN_CLOCK ||
           (type >= RUN_C_TABLES && type <= RUN_C_STATE) || type == RUN_C_RUN_HASHES;
}

uint64_t frame_changes(const struct frame_header *h, const uint8_t *frame) {
    uint64_t n = 0;
    for (uint32_t i = 0; h->kind == FRAME_COMMIT && i < h->runs; i++)
        if (frame_run_type(frame, i) == RUN_CATALOG)
            n += get32(frame + FRAME_HEADER_SIZE + (size_t)i * RUN_SIZE + 12);
    return n;
}

const char *run_type_name(uint16_t type) {
    static const char *const of_commit[] = {"RECORDS", "SPILLED", "POSITIONS", "PRODUCERS",
                                            "STATE",   "CATALOG", "SINKS"};
    static const char *const of_checkpoint[] = {"C_STREAMS",    "C_NEXT",      "C_PRODUCERS",
                                                "C_PROCESSORS", "C_POSITIONS", "C_SETTINGS",
                                                "C_SINKS",      "C_SPANS"};
    if (type >= RUN_RECORDS && type <= RUN_SINKS)
        return of_commit[type - RUN_RECORDS];
    if (type >= RUN_C_STREAMS && type <= RUN_C_SPANS)
        return of_checkpoint[type - RUN_C_STREAMS];
    return type == RUN_INDEX          ? "INDEX"
           : type == RUN_ORIGINS      ? "ORIGINS"
           : type == RUN_TABLES       ? "TABLES"
           : type == RUN_C_IDS        ? "C_IDS"
           : type == RUN_CLOCK        ? "CLOCK"
           : type == RUN_C_TABLES     ? "C_TABLES"
           : type == RUN_C_DIGESTS    ? "C_DIGESTS"
           : type == RUN_C_RUNS       ? "C_RUNS"
           : type == RUN_C_STATE      ? "C_STATE"
           : type == RUN_C_RUN_HASHES ? "C_RUN_HASHES"
                                      : "unknown";
}
