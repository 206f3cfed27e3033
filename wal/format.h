/* SPDX-License-Identifier: Apache-2.0
 *
 * format.h - every byte on disk is written and read through here; docs/format.md is its
 * specification, and changes with it.
 *
 * A frame is valid if and only if its header is good at its LSN, its directory and body hash as the
 * header says, its padding is zero, and it follows its predecessor (link and epoch).
 * format_segment.c     segment headers
 * format_frame.c       frames and their directory
 * format_features.c    what of a later version must be understood to read, or to write
 * format_key.c         the log's secret keys, and the hash of frames under them
 * format_runs.c        entries of runs, and records
 * format_origin.c      entries of ORIGINS: what was read outside the log
 * format_checkpoint.c  entries of a checkpoint's runs
 * format_state.c       entries of runs that have tables, or changes of their state
 */
/* Little-endian machines only (checked at compile time).
 */
#ifndef PAWL_WAL_FORMAT_H
#define PAWL_WAL_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "pawl.h"
#include "wal/bytes.h"
#include "wal/seam/seam.h"

#define FORMAT_VERSION 1u
#define BLOCK 4096u
#define MIB (1024u * 1024u)
/* the smallest segment; the public interface creates larger ones only */
#define SEGMENT_SIZE_UNIT (64u * 1024u)
#define SEGMENT_HEADER_SIZE 8192u /* two copies of one block */
#define FRAME_HEADER_SIZE 80u
#define RUN_SIZE 32u
#define RECORD_HEADER_SIZE 16u
#define COOKIE_MAX 32u
#define RECORD_VALUE_MAX (16u * MIB)
#define NAME_LEN_MAX 127u
#define SINK_NAME_MAX 200u
#define NO_OFFSET UINT64_MAX
#define LSN_MAX (UINT64_C(1) << 62) /* of a segment's end: no sum of LSNs overflows */

/* Where in its segment an LSN is. Asked for with every frame, and a division is slow. */
static inline uint64_t segment_offset(uint64_t lsn, uint64_t segment_size) {
    return (segment_size & (segment_size - 1)) == 0 ? lsn & (segment_size - 1) : lsn % segment_size;
}
struct piece {
    const void *data;
    size_t len;
};
uint64_t format_hash(const void *data, size_t len, uint64_t seed);

/* ---- the hash of frames (format_key.c, format_hash.c) */

#define KEY_SIZE 32u
#define KEY_SECRET_SIZE 192u /* the least that XXH3 takes as it is */
/* What the hashes of a segment's frames depend on. A segment without a key has a seed made of the
 * log's id, which is no secret. */
struct frame_key {
    bool keyed;
    uint64_t seed; /* if not keyed */
    uint64_t mask; /* of what is shown in place of a hash */
    uint8_t secret[KEY_SECRET_SIZE];
};
/* What the hashes under a key of KEY_SIZE bytes depend on. */
void frame_key_expand(const uint8_t key[KEY_SIZE], struct frame_key *out);
uint64_t frame_hash(const void *data, size_t len, const struct frame_key *key);
/* of all pieces, one after the other */
uint64_t frame_hash_pieces(const struct piece *pieces, uint32_t count, const struct frame_key *key);
/* What may be shown of a header's hash or of a link: equal for equal ones, and it tells nothing of
 * the key. */
uint64_t frame_fingerprint(uint64_t hash, const struct frame_key *key);

/* ---- what of a later version must be understood (format_features.c) */

/* What a version that doesn't know something must not do; the greater, the stricter. */
enum format_need {
    NEED_NOTHING,
    NEED_TO_WRITE,
    NEED_TO_READ,
    NEED_NEVER /* no need is so strict */
};
/* The strictest thing met that this version doesn't know. */
struct format_unknown {
    enum format_need need;
    const char *what; /* "frame flags", "run type", ... */
    uint64_t value;   /* the bits, or the number */
    uint64_t lsn;     /* of the frame, or of the segment's header */
};

/* In a segment's header, carried over into that of each following segment. */
#define FEATURES_CARRIED_SIZE 144u
struct features {
    uint64_t read, write, ignore;
    /* three keys (enum which_key); the rest: zeros until a feature gives it a meaning */
    uint8_t carried[FEATURES_CARRIED_SIZE];
};
/* Bits that this version knows. To read: the segment's frames are hashed with the log's key. */
#define FEATURE_KEYED 1ull
#define FEATURES_READ_KNOWN FEATURE_KEYED
/* To write: the segment's frames count what the log holds before them; its header has the key of
 * the segments that follow. */
#define FEATURE_COUNTS 1ull
#define FEATURE_KEYS 2ull
/* To write: the log has a table, or has had one. */
#define FEATURE_TABLES 4ull
/* To write: the log is a fork of the one whose id its headers and runs have; what it is to others
 * is carried, after the keys. */
#define FEATURE_FORKED 8ull
#define FEATURES_WRITE_KNOWN (FEATURE_COUNTS | FEATURE_KEYS | FEATURE_TABLES | FEATURE_FORKED)
/* To ignore: the header says which file it was written to. */
#define FEATURE_PLACED 1ull

struct frame_header;
struct segment_header;
/* Adds what this version doesn't know of a header, or of a good frame. */
void segment_judge_features(const struct segment_header *h, struct format_unknown *u);
void frame_judge_features(const struct frame_header *h, const uint8_t *frame,
                          struct format_unknown *u);

/* ---- segments (format_segment.c) */

/* Which ids are given next, and what the log has had so far: in a segment's header and in its
 * checkpoint, so that what is lost with damage is known. */
struct c_ids {
    uint32_t stream, producer, processor; /* the next one of each kind; 0: nothing is known */
    uint64_t commits, changes;            /* COMMIT frames, and entries of their CATALOG runs */
    uint32_t table;                       /* the next one; 0: the log never had a table */
};

struct segment_header {
    uint8_t log_id[16];
    uint64_t segment_size;
    uint64_t index;
    uint64_t epoch;
    uint64_t link;
    uint64_t seal_lsn;
    uint64_t created_ns;
    uint64_t disk_cap;
    struct features features;
    struct c_ids ids; /* if it counts */
    /* if it is placed: the segment's file; zeros: unknown, and the key is to be turned */
    struct seam_place place;
};
static inline bool segment_counts(const struct segment_header *h) {
    return (h->features.write & FEATURE_COUNTS) != 0;
}

/* The 16 bytes that tell the log from all others, to those outside of it. */
#define FORK_AT 96u /* in features.carried */
static inline const uint8_t *segment_identity(const struct segment_header *h) {
    return (h->features.write & FEATURE_FORKED) != 0 ? h->features.carried + FORK_AT : h->log_id;
}
/* Makes the bytes of a header that is good in both copies those of a fork; the rest stays as it
 * is. */
void segment_set_identity(uint8_t head[SEGMENT_HEADER_SIZE], const uint8_t id[16]);

static inline bool segment_keyed(const struct segment_header *h) {
    return (h->features.read & FEATURE_KEYED) != 0;
}

/* The keys in a segment's header, in the order in which they lie there. A key is in the headers
 * before it is used and after it was, so that the neighbours of a damaged header have it too. */
enum which_key {
    KEY_BEFORE, /* of the segments before the key was turned last; zeros: they have none */
    KEY_OWN,    /* of this segment; zeros: it has none */
    KEY_NEXT,   /* once the key is turned */
    KEYS
};
/* False: the header doesn't have it. */
bool segment_key(const struct segment_header *h, enum which_key which, struct frame_key *out);
/* The next segment's features: the next key becomes its own, and `fresh` the next one. In a log of
 * an earlier version, the first turn only names the key that comes with the second. */
void features_turn_key(struct features *f, const uint8_t fresh[KEY_SIZE]);
/* The features of the segment before one in which the key was turned, as far as they tell. */
void features_turn_back(struct features *f);

enum segment_verdict {
    SEGMENT_GOOD,     /* both copies are valid and alike */
    SEGMENT_ONE_COPY, /* one is valid: usable, and to be mended */
    SEGMENT_PREPARED, /* no header for this name: zeros or another index's bytes */
    /* a good hash, but another version (*h is all zeros), or features that a reader must know */
    SEGMENT_UNKNOWN,
    SEGMENT_BAD, /* neither zeros nor anything valid */
};

void segment_encode(uint8_t out[SEGMENT_HEADER_SIZE], const struct segment_header *h);
/* Judges the first two blocks of the file named `index`. *h is filled for GOOD, ONE_COPY, UNKNOWN
 * and (index of another name) PREPARED; *bad_copy is 0 or 1 for ONE_COPY. */
enum segment_verdict segment_decode(const uint8_t in[SEGMENT_HEADER_SIZE], uint64_t index,
                                    struct segment_header *h, int *bad_copy);
void segment_name(char out[24], uint64_t index, const char *suffix);
bool segment_parse_name(const char *name, const char *suffix, uint64_t *index);

/* ---- frames (format_frame.c) */

enum frame_kind {
    FRAME_COMMIT = 1,
    FRAME_SPILL = 2,
    FRAME_WITNESS = 3,
    FRAME_OPEN = 4,
    FRAME_CLOSE = 5,
    FRAME_CHECKPOINT = 6,
    FRAME_SEAL = 7,
    FRAME_LOST = 8,
};
/* kind flags: may a version that doesn't know the kind read the log, may it write to it? */
#define KIND_TO_READ 1u
#define KIND_TO_WRITE 2u
/* frame flags: which must be understood; the others may be ignored */
#define FRAME_FLAGS_TO_READ 0x00000fffu
#define FRAME_FLAGS_TO_WRITE 0x00fff000u
/* In a segment that counts, the frame flags hold the numbers of commits and of catalog changes in
 * the log before the frame, the lowest bits of them. */
#define COUNT_COMMITS_MOD 4096u
#define COUNT_CHANGES_MOD 256u
#define FRAME_FLAGS_COUNTS 0xfffff000u
static inline uint32_t counts_encode(uint64_t commits, uint64_t changes) {
    return (uint32_t)(commits % COUNT_COMMITS_MOD) << 12 | (uint32_t)(changes % COUNT_CHANGES_MOD)
                                                               << 24;
}
/* The least that each takes. The counts tell exactly what an area below this size has held. */
#define COMMIT_SIZE_MIN 128u
#define CHANGE_SIZE_MIN 24u
#define COUNTS_EXACT_BYTES (COUNT_COMMITS_MOD * COMMIT_SIZE_MIN)

struct frame_header {
    uint8_t kind;
    uint8_t kind_flags;
    uint16_t runs;
    uint32_t body_len;
    uint64_t lsn;
    uint64_t epoch;
    uint64_t durable;
    uint64_t time_ns;
    uint64_t link;
    uint64_t dir_hash; /* LOST: the link that the next frame carries */
    uint64_t body_hash;
    uint64_t hash; /* of the header: set by encode and decode */
    uint32_t flags;
    /* not on disk: the ids in the header of the frame's segment, if that counts. Set by those who
     * know it; as long as they do */
    const struct c_ids *ids;
};

enum frame_verdict {
    FRAME_GOOD,
    FRAME_NO_MAGIC,   /* what stands here isn't a frame */
    FRAME_BAD_HEADER, /* header hash or bounds */
    FRAME_OTHER_LSN,  /* a good header of another place: stale or misplaced */
    FRAME_BAD_DIR,
    FRAME_BAD_BODY,
};

const char *frame_kind_name(uint8_t kind);
static inline uint64_t frame_size(uint32_t runs, uint64_t body_len) {
    return align_up(FRAME_HEADER_SIZE + (uint64_t)RUN_SIZE * runs + body_len, 8);
}
static inline uint64_t frame_length(const struct frame_header *h) {
    return frame_size(h->runs, h->body_len);
}
uint8_t frame_kind_flags(uint8_t kind); /* as this version writes them */
void frame_encode_header(uint8_t out[FRAME_HEADER_SIZE], struct frame_header *h,
                         const struct frame_key *key);
struct run;
/* A whole frame at `out`, which has room: the body is the pieces, one after the other. `h` says
 * everything but the directory's hash and its own, which are set. */
void frame_encode(uint8_t *out, struct frame_header *h, const struct run *runs,
                  const struct piece *pieces, uint32_t piece_count, const struct frame_key *key);
/* The header of a LOST frame from h->lsn up to `end`; the frame after it carries `next_link`. `h`
 * says epoch, durable, time and link. */
/* h->flags are the counts, or 0. */
void frame_encode_lost(uint8_t out[FRAME_HEADER_SIZE], struct frame_header *h, uint64_t end,
                       uint64_t next_link, const struct frame_key *key);
/* Offset of the first multiple of 8 in `at`, which is `len` bytes at LSN `lsn`, where the header of
 * a frame of that place may stand; `len` if there is none. */
uint64_t frame_search(const uint8_t *at, uint64_t lsn, uint64_t len);
/* Judges a header alone, at LSN `lsn` of segments of this size. *h is filled for GOOD and
 * OTHER_LSN. */
enum frame_verdict frame_decode_header(const uint8_t in[FRAME_HEADER_SIZE], uint64_t lsn,
                                       uint64_t segment_size, const struct frame_key *key,
                                       struct frame_header *h);
/* Judges directory and body of a frame whose header is good; `in` holds the whole frame. Runs'
 * bounds are checked too. */
enum frame_verdict frame_check(const uint8_t *in, const struct frame_header *h,
                               const struct frame_key *key);
bool frame_kind_known(uint8_t kind);

/* How old the log was at a place, and what the clocks showed there; see wal/age.h. */
enum age_flags {
    AGE_VALID = 1,
    AGE_NETWORK = 2 /* the kernel says that the wall clock was set by the network */
};
struct age_stamp {
    uint64_t age_ns;  /* the log's own age, which never goes back */
    uint64_t boot_ns; /* time since the boot */
    uint64_t boot_id; /* 0: unknown */
    uint64_t wall_ns; /* since 1970-01-01 UTC */
    uint32_t flags;   /* enum age_flags */
};
#define AGE_STAMP_SIZE 40u
void age_encode(uint8_t out[AGE_STAMP_SIZE], const struct age_stamp *e);
/* The stamp in a frame, if it has one. */
bool frame_age(const struct frame_header *h, const uint8_t *frame, struct age_stamp *e);

/* ---- runs (format_runs.c) */

enum run_type {
    RUN_RECORDS = 1,
    RUN_SPILLED = 2,
    RUN_POSITIONS = 3,
    RUN_PRODUCERS = 4,
    RUN_STATE = 5,
    RUN_CATALOG = 6,
    RUN_SINKS = 7,
    RUN_ORIGINS = 0xc008, /* an older version may skip it, and write */
    RUN_TABLES = 0x8009,  /* an older version may skip it, and not write */
    RUN_INDEX = 32,
    RUN_C_STREAMS = 64,
    RUN_C_NEXT = 65,
    RUN_C_PRODUCERS = 66,
    RUN_C_PROCESSORS = 67,
    RUN_C_POSITIONS = 68,
    RUN_C_SETTINGS = 69,
    RUN_C_SINKS = 70,
    RUN_C_SPANS = 71,
    RUN_C_IDS = 0x8048,
    RUN_CLOCK = 0xc049, /* of CHECKPOINT, OPEN, CLOSE, WITNESS; an older version ignores it */
    RUN_C_TABLES = 0x804a,
    RUN_C_DIGESTS = 0x804b,
    RUN_C_RUNS = 0x804c,
    RUN_C_STATE = 0x804d,
    RUN_C_RUN_HASHES = 0xc04e, /* an older version ignores it */
};
/* in a run's type: a version that doesn't know it may skip the run when reading, and also write */
#define RUN_SKIP_READING 0x8000u
#define RUN_SKIP_WRITING 0x4000u
/* run flags: which must be understood; the others may be ignored */
#define RUN_FLAGS_TO_READ 0x003fu
#define RUN_FLAGS_TO_WRITE 0x0fc0u

struct run {
    uint16_t type;
    uint16_t flags;
    uint32_t stream;
    uint32_t partition;
    uint32_t count;
    uint64_t base;
    uint32_t start;
    uint32_t len;
};
void run_encode(uint8_t out[RUN_SIZE], const struct run *r);
static inline void run_decode(const uint8_t in[RUN_SIZE], struct run *r) {
    r->type = get16(in);
    r->flags = get16(in + 2);
    r->stream = get32(in + 4);
    r->partition = get32(in + 8);
    r->count = get32(in + 12);
    r->base = get64(in + 16);
    r->start = get32(in + 24);
    r->len = get32(in + 28);
}
/* The i-th run of a checked frame; *data is its bytes. */
static inline void frame_run(const uint8_t *frame, const struct frame_header *h, uint32_t i,
                             struct run *r, const uint8_t **data) {
    run_decode(frame + FRAME_HEADER_SIZE + (size_t)i * RUN_SIZE, r);
    *data = frame + FRAME_HEADER_SIZE + (size_t)h->runs * RUN_SIZE + r->start;
}
/* The i-th run's type alone. */
static inline uint16_t frame_run_type(const uint8_t *frame, uint32_t i) {
    return get16(frame + FRAME_HEADER_SIZE + (size_t)i * RUN_SIZE);
}
/* Are a commit's records in the run, or does it refer to spilled ones? */
static inline bool run_has_records(const struct run *r) {
    return r->type == RUN_RECORDS || r->type == RUN_SPILLED;
}
static inline bool run_has_records_of(const struct run *r, uint32_t stream, uint32_t partition) {
    return run_has_records(r) && r->stream == stream && r->partition == partition;
}
/* Changes of the catalog in a checked frame, if it is a commit. */
uint64_t frame_changes(const struct frame_header *h, const uint8_t *frame);
const char *run_type_name(uint16_t type); /* "unknown" if it isn't known */
bool run_type_known(uint16_t type);

struct position_entry {
    uint32_t processor, stream, partition;
    uint64_t from, to;
};
struct producer_entry {
    uint32_t producer, epoch;
    uint64_t first, last;
    uint32_t cookie_len;
    uint8_t cookie[COOKIE_MAX];
};
enum catalog_op {
    CATALOG_STREAM = 1,
    CATALOG_PRODUCER = 2,
    CATALOG_PROCESSOR = 3,
    CATALOG_FORGET = 4,
    CATALOG_RETAIN = 5,
    CATALOG_CONSUMED = 6,
    CATALOG_DISK_CAP = 7,
    CATALOG_DELETE = 8,
    CATALOG_RENAME = 9,
};
/* a of CATALOG_RENAME, but for tables */
enum catalog_kind { KIND_STREAM = 1, KIND_PRODUCER = 2, KIND_PROCESSOR = 3, KIND_TABLE = 4 };
struct catalog_entry {
    uint16_t op;
    uint32_t id;
    uint64_t a, b;
    const char *name; /* not terminated when decoded */
    uint16_t name_len;
};
enum sink_op { SINK_DECIDED = 1, SINK_FINISHED = 2 };
struct sink_entry {
    uint32_t processor;
    uint16_t op;
    const char *name; /* not terminated when decoded */
    uint16_t name_len;
};
struct spilled_entry {
    uint64_t lsn, hash;
    uint32_t run;
};
struct index_entry {
    uint32_t stream, partition;
    uint64_t base, lsn;
};
/* What was read outside: of `thing`, from `from` to `to`. It covers `records` records of the
 * commit: in the order in which they were put, those after the ones of the entry before. */
struct origin_entry {
    uint32_t producer, stream;
    uint64_t from, to;
    uint32_t records;
    uint16_t flags;              /* enum pawl_outside_flags */
    uint8_t unit, mark_kind;     /* enum pawl_outside_unit, enum pawl_marks */
    uint8_t thing_len, note_len; /* at least 1; may be 0 */
    uint16_t step;               /* of PAWL_MARKS_LINES: bytes after each value */
    uint32_t order_len, marks_len;
    const char *thing, *note;     /* not terminated when decoded */
    const uint8_t *order, *marks; /* where the records are, where each began; encoded */
};
/* Records of the commit that were put one after the other into one partition. */
struct origin_span {
    uint32_t stream, partition;
    uint32_t first, count; /* of the records that the entry covers */
    uint32_t left, at;     /* (private) records and place in the order that follow */
};
struct c_stream {
    uint32_t id, partitions;
    const char *name;
    uint32_t name_len;
};
struct c_producer {
    uint32_t id, epoch;
    uint64_t sequence;
    uint32_t stream, partition;
    uint64_t offset;
    uint32_t cookie_len;
    uint8_t cookie[COOKIE_MAX];
    const char *name;
    uint32_t name_len;
};

struct c_processor {
    uint32_t id;
    const char *name; /* not terminated when decoded */
    uint32_t name_len;
};
struct c_next {
    uint32_t stream, partition;
    uint64_t next;
};
struct c_position {
    uint32_t processor, stream, partition;
    uint64_t offset;
};
#define SETTINGS_CONSUMED 1u /* flag: drop what every processor has consumed */
struct c_settings {
    uint64_t retain_bytes, retain_ms, flags;
};
struct c_sink {
    uint32_t processor;
    const char *name; /* not terminated when decoded */
    uint16_t name_len;
};
struct c_span {
    uint64_t segment, oldest;
};

#define POSITION_ENTRY_SIZE 32u
#define PRODUCER_ENTRY_SIZE 64u
#define SPILLED_ENTRY_SIZE 24u
#define INDEX_ENTRY_SIZE 24u
#define ORIGIN_ENTRY_SIZE 48u /* then the texts, order and marks */
#define C_NEXT_SIZE 16u
#define C_POSITION_SIZE 24u
#define C_SETTINGS_SIZE 24u
#define C_SPAN_SIZE 16u
#define C_IDS_SIZE 32u
static inline size_t c_stream_size(uint32_t name_len) {
    return (size_t)align_up(16u + name_len, 8);
}
static inline size_t c_producer_size(uint32_t name_len) {
    return (size_t)align_up(72u + name_len, 8);
}
static inline size_t c_processor_size(uint32_t name_len) {
    return (size_t)align_up(8u + name_len, 8);
}
static inline size_t c_sink_size(uint32_t name_len) {
    return (size_t)align_up(8u + name_len, 8);
}

/* Encoders append to b; decoders read the entry at *at in a run of `len` bytes, move *at past it,
 * and return false where it does not fit. */
void position_encode(struct bytes *b, const struct position_entry *e);
bool position_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct position_entry *e);
void producer_encode(struct bytes *b, const struct producer_entry *e);
bool producer_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct producer_entry *e);
void catalog_encode(struct bytes *b, const struct catalog_entry *e);
bool catalog_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct catalog_entry *e);
void sink_encode(struct bytes *b, const struct sink_entry *e);
bool sink_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct sink_entry *e);
void spilled_encode(struct bytes *b, const struct spilled_entry *e);
bool spilled_decode(const uint8_t *data, uint32_t len, struct spilled_entry *e);
void index_encode(struct bytes *b, const struct index_entry *e);
bool index_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct index_entry *e);
void origin_encode(struct bytes *b, const struct origin_entry *e);
bool origin_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct origin_entry *e);
/* Number of records of a commit: its entries together cover no more. */
uint64_t frame_records(const struct frame_header *h, const uint8_t *frame);
/* The spans of a decoded entry, one by one. */
void origin_spans(const struct origin_entry *e, struct origin_span *s);
bool origin_next_span(const struct origin_entry *e, struct origin_span *s);
/* Where the i-th record that a decoded entry covers began. False: the entry doesn't say. For
 * PAWL_MARKS_LINES it follows from the records' lengths, which this function doesn't know. */
bool origin_mark(const struct origin_entry *e, uint32_t i, uint64_t *mark);
/* Numbers of seven bits a byte, the lowest first; at most 10 bytes. */
#define VARINT_MAX 10u
void varint_put(struct bytes *b, uint64_t v);
bool varint_get(const uint8_t *data, uint32_t len, uint32_t *at, uint64_t *v);
/* The same where each instruction counts: to memory that has room for VARINT_MAX bytes; from it. */
static inline uint8_t *varint_write(uint8_t *out, uint64_t v) {
    for (; v >= 0x80; v >>= 7)
        *out++ = (uint8_t)(v | 0x80);
    *out++ = (uint8_t)v;
    return out;
}
static inline bool varint_read(const uint8_t *data, uint32_t len, uint32_t *at, uint64_t *v) {
    if (*at >= len || data[*at] >= 0x80)
        return varint_get(data, len, at, v);
    *v = data[(*at)++];
    return true;
}
/* A mark, as the distance from the one before; at most 2^62. */
bool mark_fits(uint64_t before, uint64_t mark);
void mark_put(struct bytes *b, uint64_t before, uint64_t mark);
/* *mark is the one before, and becomes this one. */
bool mark_get(const uint8_t *data, uint32_t len, uint32_t *at, uint64_t *mark);
/* Entries of a checkpoint, in the same way (format_checkpoint.c). */
void c_stream_encode(struct bytes *b, const struct c_stream *e);
bool c_stream_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct c_stream *e);
void c_producer_encode(struct bytes *b, const struct c_producer *e);
bool c_producer_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct c_producer *e);
void c_processor_encode(struct bytes *b, const struct c_processor *e);
bool c_processor_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct c_processor *e);
void c_next_encode(struct bytes *b, const struct c_next *e);
bool c_next_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct c_next *e);
void c_position_encode(struct bytes *b, const struct c_position *e);
bool c_position_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct c_position *e);
void c_settings_encode(struct bytes *b, const struct c_settings *e);
bool c_settings_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct c_settings *e);
void c_sink_encode(struct bytes *b, const struct c_sink *e);
bool c_sink_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct c_sink *e);
void c_span_encode(struct bytes *b, const struct c_span *e);
bool c_span_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct c_span *e);
void c_ids_encode(uint8_t out[C_IDS_SIZE], const struct c_ids *e);
bool c_ids_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct c_ids *e);
/* C_IDS of a checked frame. False: it has none, and *ids is as it was. */
bool checkpoint_ids(const struct frame_header *h, const uint8_t *frame, struct c_ids *ids);

/* ---- tables and their state (format_state.c) */

#define STATE_KEY_MAX 8192u
#define STATE_VALUE_MAX (4u * MIB)
#define STATE_RUNS_MAX 64u /* at the same time; and their levels are below it */
/* of a table */
enum table_flags { TABLE_LOCAL_KEYS = 1, TABLE_EXPIRES = 2 }; /* as enum pawl_table_flags */
#define TABLE_FLAGS_KNOWN 3u
enum table_op {
    TABLE_CREATE = 1,
    TABLE_DELETE = 2,
    TABLE_VERSION = 3,
    TABLE_RUN_ADDED = 4,
    TABLE_RUN_REMOVED = 5,
    TABLE_FLUSHED = 6,
    TABLE_LOST = 7,
    TABLE_REPLACES = 8,
};
/* An entry of TABLES, and of C_TABLES. */
struct table_entry {
    uint16_t op;
    uint16_t name_len;
    uint32_t id;         /* of a table, or of a run */
    uint32_t owner;      /* processor; of RUN_ADDED: the level */
    uint32_t partitions; /* of LOST: the partition */
    uint32_t version, flags;
    uint64_t ttl_ms; /* of RUN_ADDED: hash in the file's header; 0: not known */
    /* of REPLACES: a is the id of the table that it replaces */
    uint64_t a, b;    /* of RUN_ADDED and FLUSHED: the flush LSN; of RUN_ADDED: bytes of the file */
    const char *name; /* not terminated when decoded */
};
/* What a table partition holds after a commit: in a STATE run, and in C_DIGESTS. All zero: nothing.
 * How it is computed: state/digest.h. */
struct state_sum {
    uint64_t low, high;    /* the sum, modulo 2^128, of the hashes of all pairs */
    uint64_t pairs, bytes; /* live ones; of their keys and values */
};
enum state_flags { STATE_DELETED = 1, STATE_EXPIRES = 2 };
/* One change of a STATE run. */
struct state_change {
    uint8_t flags;
    uint32_t key_len, value_len;
    uint64_t expiry_ms; /* since 1970; 0: none */
    const uint8_t *key, *value;
};
enum digest_flags { DIGEST_LOST = 1 };
struct c_digest {
    uint32_t table, partition;
    struct state_sum sum;
    uint64_t commits; /* that have changed the partition */
    uint32_t flags;   /* enum digest_flags */
};
struct c_run {
    uint32_t id, level;
    uint64_t flush_lsn, bytes;
};
/* Of a run that C_RUNS names. */
struct c_run_hash {
    uint32_t id;
    uint64_t header_hash;
};
struct c_state {
    uint32_t next_run;
    uint64_t flush_lsn, replay_max;
};
#define STATE_SUM_SIZE 32u
#define STATE_CHANGE_SIZE_MIN 3u /* flags, length of a key, key */
#define TABLE_ENTRY_SIZE 48u     /* then the name */
#define C_DIGEST_SIZE 56u
#define C_RUN_SIZE 24u
#define C_RUN_HASH_SIZE 16u
#define C_STATE_SIZE 24u
static inline size_t table_size(uint32_t name_len) {
    return (size_t)align_up(TABLE_ENTRY_SIZE + name_len, 8);
}
void table_encode(struct bytes *b, const struct table_entry *e);
bool table_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct table_entry *e);
void c_digest_encode(struct bytes *b, const struct c_digest *e);
bool c_digest_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct c_digest *e);
void c_run_encode(struct bytes *b, const struct c_run *e);
bool c_run_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct c_run *e);
void c_run_hash_encode(struct bytes *b, const struct c_run_hash *e);
bool c_run_hash_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct c_run_hash *e);
void c_state_encode(struct bytes *b, const struct c_state *e);
bool c_state_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct c_state *e);
/* A STATE run begins with the sum after the commit; then come the changes, one by one. */
void state_sum_encode(uint8_t out[STATE_SUM_SIZE], const struct state_sum *e);
bool state_sum_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct state_sum *e);
/* Nothing has no bytes, and the empty sum; a key has at least one byte. */
bool state_sum_possible(const struct state_sum *e);
void state_change_encode(struct bytes *b, const struct state_change *e);
bool state_change_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct state_change *e);
/* Do the run's bytes hold a sum and as many changes as it says, each key once and in ascending
 * order, and nothing else? */
bool state_whole(const struct run *r, const uint8_t *data);

/* Encoded length of a record, or 0 if a part is beyond its limit. */
uint64_t record_size(const pawl_record *r);
/* the record's own isn't looked at */
void record_encode(uint8_t *out, const pawl_record *r, int64_t timestamp_ns);
/* The same for a record without headers. */
static inline void record_encode_plain(uint8_t *out, const pawl_record *r, int64_t timestamp_ns) {
    put32(out, r->value_len);
    put32(out + 4, r->key_len); /* and no headers */
    put64(out + 8, (uint64_t)timestamp_ns);
    if (r->key_len != 0)
        memcpy(out + RECORD_HEADER_SIZE, r->key, r->key_len);
    memcpy(out + RECORD_HEADER_SIZE + r->key_len, r->value, r->value_len);
}
/* Moves *at past the record there in a run of `len` bytes; false where it doesn't fit. */
static inline bool record_skip(const uint8_t *data, uint32_t len, uint32_t *at) {
    if (*at > len || len - *at < RECORD_HEADER_SIZE)
        return false;
    const uint8_t *p = data + *at;
    uint32_t value_len = get32(p);
    uint64_t size = (uint64_t)RECORD_HEADER_SIZE + get16(p + 4) + get16(p + 6) + value_len;
    if (value_len > RECORD_VALUE_MAX || size > len - *at)
        return false;
    *at += (uint32_t)size;
    return true;
}
/* Do the run's bytes hold as many whole records as it says, and nothing else? */
bool records_whole(const struct run *r, const uint8_t *data);
/* Are these whole headers in their encoded form? */
bool record_headers_whole(const uint8_t *raw, uint32_t len);
/* The same, and fills key, value, raw headers and timestamp. */
static inline bool record_decode(const uint8_t *data, uint32_t len, uint32_t *at, pawl_record *r) {
    uint32_t from = *at;
    if (!record_skip(data, len, at))
        return false;
    const uint8_t *p = data + from, *key = p + RECORD_HEADER_SIZE;
    uint16_t key_len = get16(p + 4), headers_len = get16(p + 6);
    *r = (pawl_record){.key = key,
                       .value = key + key_len + headers_len,
                       .raw_headers = key + key_len,
                       .timestamp_ns = (int64_t)get64(p + 8),
                       .value_len = get32(p),
                       .key_len = key_len,
                       .raw_headers_len = headers_len};
    return true;
}

#endif
