/* SPDX-License-Identifier: Apache-2.0
 *
 * frame.c - see frame.h.
 */
#include "connectors/net/frame.h"

#include <assert.h>
#include <string.h>

enum count { COUNT_NO, COUNT_YES, COUNT_UNSURE };

/* Is there "LENGTH SP <"? `prefix` is the length of "LENGTH SP". UNSURE: more bytes are needed. */
static enum count counted(const uint8_t *p, size_t have, uint64_t *length, size_t *prefix) {
    size_t i = 0;
    *length = 0;
    if (have == 0 || p[0] < '1' || p[0] > '9')
        return COUNT_NO;
    for (; i < have && i < FRAME_PREFIX_MAX && p[i] >= '0' && p[i] <= '9'; i++)
        *length = *length * 10 + (uint64_t)(p[i] - '0');
    if (*length > FRAME_COUNT_MAX)
        return COUNT_NO;
    if (i == have)
        return COUNT_UNSURE;
    *prefix = i + 1;
    if (p[i] != ' ')
        return COUNT_NO;
    return i + 1 == have ? COUNT_UNSURE : p[i + 1] == '<' ? COUNT_YES : COUNT_NO;
}

/* The end of a line, without its end mark taken; NULL: not there. */
static const uint8_t *line_end(const struct frame_rule *r, const uint8_t *p, size_t have) {
    const uint8_t *lf = memchr(p, '\n', have),
                  *nul = r->octets ? memchr(p, 0, lf != NULL ? (size_t)(lf - p) : have) : NULL;
    return nul != NULL ? nul : lf;
}

static struct frame skipping(const struct frame_rule *r, const struct frame_state *state,
                             const uint8_t *p, size_t have) {
    struct frame f = {.kind = FRAME_SKIP};
    if (state->line) {
        const uint8_t *end = line_end(r, p, have);
        f.used = end != NULL ? (size_t)(end - p) + 1 : have;
        f.next.line = end == NULL;
    } else {
        f.used = have < state->skip ? have : (size_t)state->skip;
        f.next.skip = state->skip - f.used;
    }
    return f;
}

struct frame frame_next(const struct frame_rule *r, const struct frame_state *state,
                        const uint8_t *p, size_t have) {
    struct frame f = {.kind = FRAME_NONE, .next = *state};
    uint64_t length;
    size_t prefix = 0;
    if (have == 0)
        return f;
    if (state->line || state->skip != 0)
        return skipping(r, state, p, have);
    enum count count = r->octets ? counted(p, have, &length, &prefix) : COUNT_NO;
    if (count == COUNT_UNSURE)
        return f;
    if (count == COUNT_YES) {
        uint64_t want = length < r->max ? length : r->max;
        if (have - prefix < want)
            return f;
        f = (struct frame){length <= r->max ? FRAME_WHOLE : FRAME_LONG,
                           p + prefix,
                           (size_t)want,
                           prefix + (size_t)want,
                           length,
                           {.skip = length - want}};
    } else {
        const uint8_t *end = line_end(r, p, have);
        size_t n = end != NULL ? (size_t)(end - p) : have;
        bool cr = n > 0 && p[n - 1] == '\r'; /* it belongs to the end, or may do so */
        if (n - cr > r->max)
            f = (struct frame){FRAME_LONG, p, r->max, r->max, 0, {.line = true}};
        else if (end != NULL)
            f = (struct frame){FRAME_WHOLE, p, n, n + 1, 0, {0}};
    }
    assert(f.used <= have && (f.kind != FRAME_NONE || have <= r->max + FRAME_PREFIX_MAX));
    return f;
}

struct frame frame_last(const struct frame_rule *r, const struct frame_state *state,
                        const uint8_t *p, size_t have, bool orderly) {
    struct frame f = {.kind = FRAME_NONE};
    uint64_t length;
    size_t prefix = 0;
    if (have == 0 || state->line || state->skip != 0)
        return f;
    bool part = r->octets && counted(p, have, &length, &prefix) == COUNT_YES;
    prefix = part ? prefix : 0;
    f.kind = orderly && !part ? FRAME_WHOLE : FRAME_CUT;
    f.at = p + prefix;
    f.len = have - prefix;
    f.used = have;
    return f;
}
