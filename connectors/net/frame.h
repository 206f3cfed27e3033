/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a message begins and ends in a stream of bytes. A pure state machine: it looks at the bytes
 * that are there and says what they are; the caller takes them. A message that is too long costs
 * nothing but itself: its first bytes are given, the rest is skipped, and the next message begins
 * where the framing says.
 *
 * A message is one of
 *   a line           ended by LF or CR LF; with `octets` also by NUL
 *   counted octets   LENGTH SP MESSAGE (RFC 6587), only with `octets`. LENGTH has no leading zero
 *                    and is at most FRAME_COUNT_MAX, and MESSAGE begins with '<'. What doesn't have
 *                    this form is a line, also if it begins with a digit.
 * Both may come over one connection: each message decides for itself.
 */
#ifndef PAWL_CONNECTORS_FRAME_H
#define PAWL_CONNECTORS_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A larger count is taken for text: if it is a lie, it would cost the messages after it. */
#define FRAME_COUNT_MAX 16777216u
/* The longest count, and the space after it. A buffer needs that much more than `max`. */
#define FRAME_PREFIX_MAX 9u

enum frame_kind {
    FRAME_NONE,  /* not complete yet */
    FRAME_WHOLE, /* a message */
    FRAME_LONG,  /* the first bytes of a message longer than max; the rest will be skipped */
    FRAME_SKIP,  /* bytes of a message that was too long */
    FRAME_CUT    /* the last message of a stream that ended before it was complete */
};

struct frame_rule {
    size_t max;  /* bytes of the longest message, framing excluded */
    bool octets; /* counted messages are known, and NUL ends a line */
};

/* Where the stream stands. Zeroed: at the beginning of a message. */
struct frame_state {
    uint64_t skip; /* bytes of a counted message that are still to be skipped */
    bool line;     /* the rest of a line is to be skipped */
};

struct frame {
    enum frame_kind kind;
    const uint8_t *at; /* WHOLE, LONG, CUT: the message, without framing */
    size_t len;
    size_t used;             /* bytes that it takes in the stream, framing included */
    uint64_t length;         /* LONG: of the whole message, if it was counted; else 0 */
    struct frame_state next; /* where the stream stands after these bytes */
};

/* Looks at the bytes [p, p + have) of a stream that stands at `state`. Changes nothing: a caller
 * that takes the frame skips `used` bytes and continues at `next`. NONE: more bytes are needed, and
 * fewer than max + FRAME_PREFIX_MAX + 1 are there. */
struct frame frame_next(const struct frame_rule *r, const struct frame_state *state,
                        const uint8_t *p, size_t have);

/* The stream ended with these bytes, of which frame_next() says NONE. `orderly`: the sender closed
 * it; then a last line needs no end. Else what is there may be a part only: CUT. */
struct frame frame_last(const struct frame_rule *r, const struct frame_state *state,
                        const uint8_t *p, size_t have, bool orderly);

#endif
