/* SPDX-License-Identifier: Apache-2.0
 *
 * The clock by which pairs of state expire. It is the wall clock, but never behind any time that a
 * COMMIT or CHECKPOINT in the log says, nor behind an earlier reading and what has passed since: so
 * a pair that was gone stays gone, and where the wall clock was set back, pairs still expire in
 * time.
 *
 * A transaction reads it once, when it first touches a table whose pairs expire, and its commit's
 * frame has the reading as its time (PAWL-14). In a log with such a table the time of a CHECKPOINT
 * isn't before any of these, so opening finds the clock in the newest segment.
 */
#include <assert.h>

#include "pipeline/engine.h"

uint64_t state_clock(pawl *p) {
    struct state_handle *s = &p->state;
    uint64_t at = engine_now(p), ms = p->io->ops->realtime(p->io) / STATE_NS_PER_MS, by_time = 0;
    if (s->clock_ms != 0 && at > s->clock_at_ns)
        by_time = s->clock_ms + (at - s->clock_at_ns) / STATE_NS_PER_MS;
    ms = ms > p->tables.state.clock_ms ? ms : p->tables.state.clock_ms;
    ms = ms > 0 ? ms : 1; /* 0 stands for none */
    if (ms <= by_time && s->clock_ms != 0) {
        s->read_ms = by_time;
        return by_time;
    }
    ms = ms > s->clock_ms ? ms : s->clock_ms;
    assert(ms >= by_time && ms >= p->tables.state.clock_ms); /* PAWL-14: it never goes back */
    s->clock_ms = s->read_ms = ms;
    s->clock_at_ns = at;
    return ms;
}
