/* SPDX-License-Identifier: Apache-2.0
 *
 * chain.h - a reader of a log's bytes written from docs/format.md alone: headers, frames,
 * where the chain ends. It is the lower half of the crash test's oracle, which must not be wrong
 * where the library is: it includes nothing of it, not even pawl.h.
 *
 * It is incremental: ct_chain_advance() goes on from the last frame that it accepted, so that a
 * kill costs what the killed process wrote, not the whole log. Frames once accepted must stay: what
 * follows has to link to them.
 */
#ifndef PAWL_CLI_CRASHTEST_CHAIN_H
#define PAWL_CLI_CRASHTEST_CHAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ct_kind {
    CT_COMMIT = 1,
    CT_SPILL,
    CT_WITNESS,
    CT_OPEN,
    CT_CLOSE,
    CT_CHECKPOINT,
    CT_SEAL,
    CT_LOST
};

/* What was expected and what was found. The first problem stands. */
typedef struct ct_problem {
    char text[512]; /* "" : none */
} ct_problem;

/* Notes it, and returns -1. */
int ct_wrong(ct_problem *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

typedef struct ct_frame {
    uint64_t lsn, end, epoch, durable, link, hash;
    uint32_t flags;
    uint8_t kind, kind_flags;
    uint16_t runs;
    uint32_t body_len;
    const uint8_t *dir, *body;
} ct_frame;

/* A segment's bytes from a block on, to its end. */
typedef struct ct_window {
    uint8_t *data;
    size_t cap, len;
    uint64_t lsn; /* of the first byte */
} ct_window;

/* What frames are hashed with: the log's key, expanded, or a seed where it has none. */
typedef struct ct_key {
    bool keyed;
    uint64_t seed;
    uint8_t secret[192];
} ct_key;

typedef struct ct_chain {
    int dir;
    ct_problem *problem;
    int (*frame)(void *arg, const ct_frame *f); /* each accepted frame, in order; -1: a problem */
    void *arg;
    bool started;
    uint8_t log_id[16];
    uint64_t segment_size;
    ct_key key, next; /* of the segment's frames; of later ones, if `named` */
    bool named;
    /* the last frame accepted; before the first one as if segment - 1 had just been sealed */
    uint64_t segment, end, link, epoch, last_lsn;
    uint8_t kind;
    /* Does the segment count? Then its frames say how many commits and catalog changes the log has
     * had before them; known as soon as one has said so */
    bool counts, counted;
    uint64_t commits, changes;
    ct_window window, fetched;
    uint64_t frames, bytes, segments;
} ct_chain;

/* `dir` is a descriptor of the log's directory, and stays the caller's. */
void ct_chain_init(ct_chain *c, int dir, ct_problem *problem,
                   int (*frame)(void *, const ct_frame *), void *arg);
void ct_chain_free(ct_chain *c);
/* Reads on to the end. 0; 1: there is no log yet; -1: a problem. */
int ct_chain_advance(ct_chain *c);
/* Has the segment that it stands in been dropped? Then it can't go on. */
bool ct_chain_cut_off(ct_chain *c);
/* Fetches one earlier frame, a SPILL for instance. Lives until the next call. 1: its segment has
 * been dropped. */
int ct_chain_fetch(ct_chain *c, uint64_t lsn, uint64_t hash, ct_frame *f);

static inline uint64_t ct_get(const uint8_t *p, int bytes) {
    uint64_t v = 0;
    for (int i = bytes; i-- > 0;)
        v = v << 8 | p[i];
    return v;
}

#endif
