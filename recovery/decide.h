/* SPDX-License-Identifier: Apache-2.0
 *
 * decide.h - what the bytes after the last good frame mean: a table of labelled cases (PAWL-9).
 * Pure: evidence in, case out.
 */
#ifndef PAWL_RECOVERY_DECIDE_H
#define PAWL_RECOVERY_DECIDE_H

#include <stddef.h>

enum head_evidence {
    HEAD_ZERO,      /* zeros to the end of the block */
    HEAD_GARBAGE,   /* no frame's magic */
    HEAD_BAD,       /* magic, but hash or bounds are wrong */
    HEAD_ELSEWHERE, /* a good header of another LSN */
    HEAD_GOOD,
    HEAD_ANY,
};
enum payload_evidence { PAYLOAD_NONE, PAYLOAD_BAD, PAYLOAD_GOOD, PAYLOAD_ANY };
enum chain_evidence {
    CHAIN_NONE,
    CHAIN_FOLLOWS,
    CHAIN_OLDER,  /* written by an older incarnation than the frame before */
    CHAIN_BROKEN, /* links to another frame */
    CHAIN_ANY,
};
enum witness_evidence { WITNESS_NO, WITNESS_YES, WITNESS_ANY };

struct evidence {
    enum head_evidence head;
    enum payload_evidence payload;
    enum chain_evidence chain;
    /* something later knew this place to be durable; in a sealed segment: always yes */
    enum witness_evidence witness;
};

enum action {
    ACCEPT, /* the frame is there */
    END,    /* the log ends here, nothing was begun */
    CUT,    /* an unacknowledged tail: not there */
    STALE,  /* an older log's bytes: not there */
    DAMAGE, /* durable bytes are damaged */
};

struct decision_case {
    const char *label;
    struct evidence when;
    enum action action;
    const char *why;
};

/* The first case of the table that fits; the table is complete. */
const struct decision_case *decide(const struct evidence *e);
const struct decision_case *decision_table(size_t *count);

#endif
