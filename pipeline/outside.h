/* SPDX-License-Identifier: Apache-2.0
 *
 * outside.h - the audit of what was read outside the log (ORIGINS runs). Two questions: do the
 * intervals of each thing join, and did the same content come as two things?
 *
 * outside_tiles.c  where each thing stands, and what an interval means there: a state machine that
 *                  knows nothing of frames
 * outside_twice.c  samples of the content, and what was found in two things
 * outside_spill.c  records that come before their commit
 * outside.c        takes the commits apart, and tells what is found
 *
 * Memory is bounded whatever the log's size: THINGS_MAX things, of which the half not read for
 * longest is forgotten when there are more, and SAMPLES_MAX samples, of which half are given up
 * when there are more, and SPILLS_BYTES for spilled records. One thread uses it.
 */
#ifndef PAWL_PIPELINE_OUTSIDE_H
#define PAWL_PIPELINE_OUTSIDE_H

#include "pipeline/lookup.h"
#include "wal/format.h"
#include "wal/mem.h"

#define THINGS_MAX 65536u
#define SAMPLES_MAX (1u << 18)

/* Records of one thing that have the content that another one had at the same places. */
struct match {
    uint32_t partner; /* its id; 0: none */
    uint64_t from, to, lsn;
    uint64_t samples, records, bytes; /* the last two are estimates */
};

struct thing {
    uint64_t hash; /* of stream and name */
    char *name;
    uint32_t stream, len;
    uint32_t id;      /* of this generation; from 1 */
    uint64_t at;      /* where its last interval ended */
    uint64_t lsn;     /* of its last commit */
    uint64_t losses;  /* tiles.losses at that time */
    uint64_t records; /* of this generation */
    uint8_t unit;
    bool over;  /* another thing continues it */
    bool ended; /* the thing began again: it is another row now */
    struct match match;
};

/* What an interval means where its thing stands. */
enum tile {
    TILE_JOINS,
    TILE_BEGINS,
    TILE_BEGINS_AGAIN,
    TILE_CONTINUES,  /* another thing */
    TILE_TAKEN_UP,   /* the thing's earlier intervals are not in the log, for a known reason */
    TILE_AFTER_LOSS, /* it doesn't join, but damage lies between */
    /* faults */
    TILE_GAP,
    TILE_OVERLAP,
    TILE_NO_BEGINNING, /* the thing is new, and doesn't begin here */
    TILE_AFTER_END,    /* another thing continues it already */
};
static inline bool tile_is_fault(enum tile t) {
    return t >= TILE_GAP;
}

struct tiles {
    struct mem *mem;
    struct thing *things;
    uint32_t count, cap;
    struct lookup names; /* of those that haven't ended */
    struct lookup ids;
    uint32_t max; /* THINGS_MAX */
    uint32_t last_id;
    uint64_t losses;         /* places where frames were lost */
    uint64_t met, forgotten; /* things */
    /* called for each thing before it is forgotten */
    void (*forget)(void *arg, struct thing *t);
    void *arg;
};
void tiles_init(struct tiles *t, struct mem *m);
void tiles_free(struct tiles *t);
/* Judges an interval and moves its thing to its end. `excused`: the thing's earlier intervals may
 * be missing. *out is the thing, *at where the interval should have begun (for faults and
 * TILE_AFTER_LOSS). *out is valid until the next call. Errors: MEMORY. */
PAWL_CHECKED int tiles_take(struct tiles *t, const struct origin_entry *e, bool excused,
                            uint64_t lsn, enum tile *tile, struct thing **out, uint64_t *at);
struct thing *tiles_by_id(struct tiles *t, uint32_t id); /* NULL: forgotten */

struct sample {
    /* the upper half is the place's, the lower one the content's; 0: free */
    uint64_t hash;
    uint32_t id; /* of the thing that had it first */
};
struct twice {
    struct mem *mem;
    struct sample *samples; /* open addressing */
    uint32_t slots, count, max;
    uint32_t rate; /* of 2^rate places one is a sample */
};
void twice_init(struct twice *w, struct mem *m);
void twice_free(struct twice *w);
/* Its upper half decides which places are samples. */
static inline uint64_t place_mix(uint64_t place) {
    uint64_t x = (place + 1) * UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ x >> 29) * UINT64_C(0xBF58476D1CE4E5B9);
    return x ^ x << 32;
}
/* Is the content at this place of a thing compared? */
static inline bool twice_wants(const struct twice *w, uint64_t place) {
    return (place_mix(place) >> 32 & ((UINT64_C(1) << w->rate) - 1)) == 0;
}
/* Compares a record at such a place; `hash` is its value's, with seed 0. If a stretch of equal
 * records of the thing ends with it, *ended is that stretch (else its partner is 0). Errors:
 * MEMORY. */
PAWL_CHECKED int twice_take(struct twice *w, struct thing *t, uint64_t place, uint64_t end,
                            uint64_t hash, uint32_t len, uint64_t lsn, struct match *ended);
/* Is a stretch long enough to say that the content came twice? `mine` and `partners` are the
 * numbers of records of the two things. */
bool twice_counts(const struct match *m, uint64_t mine, uint64_t partners);

/* Spilled records, until their commit comes. */
#define SPILLS_MAX 1024u
#define SPILLS_BYTES (8u * MIB)
struct content {
    uint64_t hash; /* of the value */
    uint32_t len;
};
struct spilled_run {
    uint64_t lsn; /* of the SPILL frame */
    uint32_t run; /* number in its directory */
    uint32_t stream, partition;
    uint32_t count;
    struct content *of;
};
struct spills {
    struct mem *mem;
    struct spilled_run runs[SPILLS_MAX]; /* a ring */
    uint32_t first, count;
    uint64_t bytes;
    struct lookup lookup; /* by frame and run: place in the ring */
};
void spills_init(struct spills *s, struct mem *m);
void spills_take(struct spills *s, const struct frame_header *h, const uint8_t *frame);
/* The records that a SPILLED run refers to; NULL: they aren't kept. */
const struct spilled_run *spills_find(const struct spills *s, const struct run *r,
                                      const uint8_t *data);
void spills_free(struct spills *s);

struct outside;
struct tables;
/* `cut`: older segments are gone. NULL: no memory. */
struct outside *outside_new(struct mem *m, pawl_check *c, uint64_t segment_size, bool cut);
void outside_free(struct outside *o);
/* A commit, in the order of the log; `tables` names the streams. Errors: MEMORY, DAMAGED (an entry
 * that doesn't fit). */
PAWL_CHECKED int outside_commit(struct outside *o, const struct frame_header *h,
                                const uint8_t *frame, const struct tables *tables);
void outside_spill(struct outside *o, const struct frame_header *h, const uint8_t *frame);
void outside_lost(struct outside *o); /* frames were lost here */
/* Tells what shows only in the end, and fills in the figures. */
void outside_end(struct outside *o);

#endif
