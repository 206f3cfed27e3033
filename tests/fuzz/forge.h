/* SPDX-License-Identifier: Apache-2.0
 *
 * forge.h - a forger of logs that has the key: any field of any frame, run, entry, segment header
 * or file may lie, and every checksum and link is right. Written from docs/format.md; shares no
 * code with the library's encoders.
 *
 * forge_base.c    an honest log: three segments with every kind of frame and of run
 * forge_edit.c    a string of bytes, read as a list of edits of that log
 * forge_state.c   keyed state: a table, its changes, a run file; its bytes on disk
 * forge_seal.c    the bytes on disk: places, numbers that must join, checksums, links, lies
 * forge_mutate.c  the mutator for libFuzzer: changes edits, not bytes
 *
 * A lie is applied where the honest value is known, which it may depend on, and before the
 * checksum that covers it. What isn't lied about is kept in order: offsets, positions, sequences
 * and counts join whatever frames were dropped, repeated or moved. So an edit reaches the code
 * that it is about, not the check that happens to come first.
 */
#ifndef PAWL_FUZZ_FORGE_H
#define PAWL_FUZZ_FORGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FORGE_SEGMENT 65536u
#define FORGE_SEGMENTS 8u
#define FORGE_FRAMES 800u /* of a segment */
#define FORGE_RUNS 96u    /* of a frame */
#define FORGE_BLOCK 4096u
#define FORGE_HEAD 8192u
#define FORGE_FRAME_HEAD 80u
#define FORGE_RUN_HEAD 32u

/* Kinds of frames, types of runs, as in docs/format.md, sections 4 and 5. */
enum { COMMIT = 1, SPILL, WITNESS, OPEN, CLOSE, CHECKPOINT, SEAL, LOST };
enum {
    RECORDS = 1,
    SPILLED,
    POSITIONS,
    PRODUCERS,
    STATE,
    CATALOG,
    SINKS,
    INDEX = 32,
    C_STREAMS = 64,
    C_NEXT,
    C_PRODUCERS,
    C_PROCESSORS,
    C_POSITIONS,
    C_SETTINGS,
    C_SINKS,
    C_SPANS,
    C_IDS = 0x8048,
    CLOCK = 0xC049,
    ORIGINS = 0xC008,
    TABLES = 0x8009,
    C_TABLES = 0x804A,
    C_DIGESTS,
    C_RUNS,
    C_STATE,
    C_RUN_HASHES = 0xC04E,
};

/* `width` bytes at `at`: what they become is said by forge_value(). */
struct forge_lie {
    uint16_t at;
    uint8_t width, how;
    uint64_t value;
};
#define FORGE_LIES 6
struct forge_lies {
    struct forge_lie lie[FORGE_LIES];
    uint32_t count;
};

struct forge_frame;
struct forge_run {
    uint16_t type, flags;
    uint32_t stream, partition, count;
    uint64_t base;
    uint8_t *body;
    uint32_t len;
    bool loose;                /* its numbers are as they are, whatever comes before */
    struct forge_frame *spill; /* that a SPILLED run refers to; NULL: as its bytes say */
    struct forge_lies lies;    /* about its directory entry */
};
struct forge_frame {
    uint8_t kind;
    bool group; /* begins a group: stands at a multiple of 4096 */
    struct forge_run *run[FORGE_RUNS];
    uint32_t runs;
    struct forge_lies lies; /* about its header */
    uint64_t lsn, hash;     /* set when it is sealed */
};
struct forge_segment {
    struct forge_frame *frame[FORGE_FRAMES];
    uint32_t frames;
    struct forge_lies lies;
    uint8_t bad_copies; /* bit 0, 1: the header's hash in that copy is wrong */
    bool missing;       /* there is no such file */
    uint32_t length;    /* of the file */
    uint64_t name;      /* the index in the file's name */
};
/* Bytes changed after everything was sealed: damage. */
struct forge_damage {
    uint32_t segment, at, len;
    uint64_t value;
};
/* A run file: blocks one after the other, each with its entries. */
enum { FORGE_PAIRS = 1, FORGE_INDEX, FORGE_FILTER };
#define FORGE_BLOCKS 16u
#define FORGE_ITEMS 24u
struct forge_item {
    uint8_t key[24], body[24]; /* after the block's prefix; what comes after the key */
    uint32_t key_len, body_len;
    uint8_t child; /* of the index: the block that it names */
    bool loose;    /* it names nothing: its body is as it is */
};
struct forge_block {
    uint8_t kind, level, more; /* more: units beyond the first one, modulo 3 */
    uint8_t prefix[16];
    uint32_t prefix_len, items;
    struct forge_item item[FORGE_ITEMS];
    struct forge_lies lies; /* about its bytes */
    uint32_t unit, units;   /* set by forge_file_length() */
};
struct forge_file {
    struct forge_block block[FORGE_BLOCKS];
    uint32_t blocks, root, height;
    struct forge_lies lies; /* about its header */
    bool missing;
    uint32_t length; /* 0: what its blocks take */
    uint64_t name;
};
#define FORGE_DAMAGES 16
struct forge {
    struct forge_segment segment[FORGE_SEGMENTS];
    uint32_t segments;
    struct forge_damage damage[FORGE_DAMAGES];
    uint32_t damages;
    uint8_t log_id[16];
    uint64_t seed;
    bool stateful;          /* it has keyed state: forge_state() */
    struct forge_file file; /* then */
    bool keyed;             /* its frames are hashed with keys, which turn with the third segment */
};

static inline uint64_t forge_align(uint64_t x, uint64_t n) {
    return (x + n - 1) / n * n;
}
/* Little-endian numbers of 1, 2, 4 or 8 bytes. */
static inline uint64_t forge_get(const uint8_t *p, uint32_t width) {
    uint64_t v = 0;
    memcpy(&v, p, width);
    return v;
}
static inline void forge_put(uint8_t *p, uint32_t width, uint64_t v) {
    memcpy(p, &v, width);
}

/* ---- forge_base.c */

/* Zeroed memory that lasts until the next forge_begin(); NULL if too much was asked for. */
void *forge_memory(size_t size);
/* The honest log, anew. */
struct forge *forge_begin(void);
struct forge_frame *forge_frame_new(uint8_t kind);
struct forge_frame *forge_frame_copy(const struct forge_frame *f);
struct forge_run *forge_run_new(uint16_t type, uint32_t stream, uint32_t partition, uint32_t count,
                                const void *body, uint32_t len);
struct forge_run *forge_run_copy(const struct forge_run *r);
/* A frame with honest runs of its kind; a run with one honest entry. */
struct forge_frame *forge_frame_usual(uint8_t kind);
struct forge_run *forge_run_usual(uint16_t type);
/* At place `at`, or at the end; false if there is no room. */
bool forge_frame_insert(struct forge_segment *s, uint32_t at, struct forge_frame *f);
bool forge_run_insert(struct forge_frame *f, uint32_t at, struct forge_run *r);

/* ---- forge_state.c */

/* Adds a table to the honest log, with changes and a run file. */
void forge_state(struct forge *f);
uint64_t forge_file_length(struct forge_file *f);
void forge_file_seal(struct forge *f, uint64_t flush_lsn);

/* ---- forge_seal.c */

/* Where an entry's fields are. */
struct forge_field {
    uint8_t at, width;
};
#define FORGE_FIELDS 14
struct forge_shape {
    uint16_t type;
    uint8_t head;               /* bytes before the variable part */
    uint8_t pad;                /* entries are padded to a multiple of this */
    struct forge_field part[4]; /* the lengths of the variable parts */
    struct forge_field field[FORGE_FIELDS];
};
/* NULL: a type without a shape. */
const struct forge_shape *forge_shape(uint16_t type);
/* Length of the entry at `at`, or 0 if none fits. */
uint32_t forge_entry(const struct forge_shape *s, const uint8_t *body, uint32_t len, uint32_t at);

/* `old` changed: `how` chooses literally, from values near limits, by adding, by flipping a bit. */
uint64_t forge_value(uint8_t how, uint64_t value, uint64_t old);
void forge_lie(const struct forge_lies *l, uint8_t *at);
/* Writes the log's files to `ram`. */
void forge_seal(struct forge *f);

/* ---- forge_edit.c */

#define FORGE_EDIT_SIZE 16u
#define FORGE_EDITS 64u
/* Applies the edits, FORGE_EDIT_SIZE bytes each. */
void forge_edit(struct forge *f, const uint8_t *data, size_t size);
#define FORGE_EDIT_KINDS 35u

#endif
