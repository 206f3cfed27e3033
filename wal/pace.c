/* SPDX-License-Identifier: Apache-2.0
 *
 * The group commit's policy. The numbers are those of pace.h's list.
 */
#include <assert.h>

#include "wal/pace.h"

/* ---- 1. beside groups in flight */

uint64_t pace_group_wait(const struct pace *p) {
    return p->company != 0 ? p->company : p->mean < PACE_FEW ? 0 : p->mean / 2;
}

bool pace_group_worth(const struct pace *p, const struct pace_group *g) {
    if (g->in_flight >= g->in_flight_max)
        return false;
    /* The device takes long writes best: the more are in flight, the larger the next one is. */
    return g->frames >= pace_group_wait(p) || g->len >= g->buffer_size / 4 * g->in_flight;
}

/* ---- 5. naps */

/* A hold has begun that ends at `until`. The background thread may look a little later. */
static enum pace_decision hold(const struct pace *p, uint64_t until) {
    return p->wakes_at > until + PACE_FOLLOW_NS ? PACE_POKE : PACE_HOLD;
}

uint64_t pace_nap(struct pace *p, uint64_t commits, uint64_t now) {
    bool busy = commits != p->nap_commits;
    p->nap_commits = commits;
    if (pace_holds(p)) {
        uint64_t company = p->expected != 0 ? p->company_until : UINT64_MAX;
        uint64_t async = p->async_until != 0 ? p->async_until : UINT64_MAX;
        return company < async ? company : async;
    }
    bool at_work = p->followed >= PACE_FOLLOWED_MANY || p->company != 0;
    return at_work && busy ? now + PACE_FOLLOW_NS : UINT64_MAX;
}

/* ---- 3. followed */

enum pace_decision pace_async_came(struct pace *p, uint32_t in_flight, uint64_t now) {
    if (p->async_since == 0)
        p->async_since = now;
    if (p->followed < PACE_FOLLOWED_MANY || in_flight != 0)
        return PACE_POKE;
    p->async_until = p->async_since + PACE_FOLLOW_NS;
    return hold(p, p->async_until);
}

/* A thread is about to wait for all that was appended. */
static void waiter_came(struct pace *p, uint64_t now) {
    if (p->async_since == 0)
        return;
    assert(now >= p->async_since); /* the clock is monotonic */
    bool soon = now - p->async_since < PACE_FOLLOW_NS;
    p->followed = !soon ? 0 : p->followed < PACE_FOLLOWED_MANY ? p->followed + 1 : p->followed;
    p->async_since = p->async_until = 0;
}

/* ---- 2. company */

/* All that were expected have come. */
static void all_came(struct pace *p) {
    p->company = p->expected;
    p->alone_next = PACE_ALONE_MIN;
    p->expected = 0;
}

/* The hold was in vain. */
static void in_vain(struct pace *p) {
    p->company = 0;
    if (p->alone_next < PACE_ALONE_MIN)
        p->alone_next = PACE_ALONE_MIN;
    else if (p->alone_next < PACE_ALONE_MAX)
        p->alone_next = 2 * p->alone_next;
    p->alone = p->alone_next;
}

void pace_committer_came(struct pace *p, uint64_t now) {
    waiter_came(p, now);
    p->gathered++;
    if (p->expected != 0 && p->gathered < p->expected)
        p->company_until = now + PACE_COMPANY_NS;
    else if (p->expected != 0)
        all_came(p);
    atomic_fetch_add(&p->waiting, 1);
}

void pace_sync_came(struct pace *p, uint64_t now) {
    waiter_came(p, now);
    p->expected = 0;
}

enum pace_decision pace_reaped(struct pace *p, uint32_t in_flight, uint64_t now) {
    uint32_t waiting = atomic_load(&p->waiting);
    if (waiting < 2)
        p->company = 0;
    if (waiting < 2 || in_flight != 0)
        return PACE_SUBMIT;
    if (waiting > PACE_COMPANY_MAX) { /* two groups take turns */
        p->company = waiting;
        return PACE_SUBMIT;
    }
    if (p->gathered >= waiting)
        return PACE_SUBMIT; /* all are in the group already */
    if (p->alone != 0) {
        p->alone--;
        return PACE_SUBMIT;
    }
    p->expected = waiting;
    p->company_until = now + PACE_COMPANY_NS;
    return hold(p, p->company_until);
}

enum pace_decision pace_looked(struct pace *p, bool gathered, uint32_t in_flight, uint64_t now) {
    assert(p->async_until == 0 || p->async_since != 0);
    if (!pace_holds(p))
        return PACE_SUBMIT;
    bool still = gathered && in_flight == 0;
    if (p->expected != 0 && !(still && now < p->company_until)) {
        if (gathered)
            in_vain(p);
        p->expected = 0;
    }
    if (p->async_until != 0 && !(still && now < p->async_until)) {
        if (gathered)
            p->followed = 0;
        p->async_until = 0;
    }
    if (pace_holds(p))
        return PACE_HOLD;
    p->async_since = 0;
    return PACE_SUBMIT;
}

/* ---- 4. yields */

struct pace_turns pace_yields(struct pace *p) {
    uint32_t waiting = atomic_load_explicit(&p->waiting, memory_order_relaxed);
    if (waiting <= PACE_YIELD_FROM)
        return (struct pace_turns){0, 0};
    if (atomic_load_explicit(&p->crowded, memory_order_relaxed) > 0) {
        atomic_fetch_sub_explicit(&p->crowded, 1, memory_order_relaxed);
        return (struct pace_turns){0, 0};
    }
    return (struct pace_turns){PACE_YIELDS, (uint64_t)waiting * PACE_TURN_LONG_NS};
}

void pace_yielded(struct pace *p, const struct pace_turns *t, uint32_t count, uint64_t ns) {
    assert(count <= t->count);
    if (count != 0 && ns > count * t->long_ns)
        atomic_store_explicit(&p->crowded, PACE_CROWDED, memory_order_relaxed);
}
