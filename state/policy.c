/* SPDX-License-Identifier: Apache-2.0 */
#include "state/policy.h"

#include <assert.h>

#define PAIR_OVERHEAD 16u /* of a pair in a run: lengths, its share of index and filter */

uint64_t policy_live_bytes(uint64_t pairs, uint64_t bytes) {
    if (pairs > (UINT64_MAX - bytes) / PAIR_OVERHEAD)
        return UINT64_MAX;
    return bytes + pairs * PAIR_OVERHEAD;
}

static uint64_t add(uint64_t a, uint64_t b) {
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static bool has_expired(const struct policy_run *r, uint64_t now_ms, uint64_t since_ms) {
    return r->expiry_min_ms != 0 && now_ms != 0 && add(r->expiry_min_ms, since_ms) <= now_ms;
}

/* The result of runs of different levels stays on the highest; of one level, it rises. */
static struct policy_merge merge_of(const struct policy_run *runs, uint32_t runs_count,
                                    uint32_t first, uint32_t count, enum policy_why why) {
    uint32_t lowest = runs[first].level, highest = lowest;
    for (uint32_t i = first; i < first + count; i++) {
        lowest = runs[i].level < lowest ? runs[i].level : lowest;
        highest = runs[i].level > highest ? runs[i].level : highest;
    }
    bool rises = lowest == highest && count > 1 && highest < UINT32_MAX;
    return (struct policy_merge){.why = why,
                                 .first = first,
                                 .count = count,
                                 .level = highest + rises,
                                 .drops = first + count == runs_count};
}

/* A single run without tombstones and expired pairs has nothing that a merge would drop. */
static bool too_much_dead(const struct policy_run *runs, uint32_t count,
                          const struct policy_limits *l) {
    uint64_t all = 0;
    for (uint32_t i = 0; i < count; i++)
        all = add(all, runs[i].bytes);
    if (count == 1 && runs[0].deletes == 0 && !has_expired(&runs[0], l->now_ms, 0))
        return false;
    return all > add(add(l->live_bytes, l->live_bytes), l->flush_bytes);
}

static bool waste_is_due(const struct policy_run *r, const struct policy_limits *l) {
    if (l->drop_within_ms == 0 || l->now_ms == 0)
        return false;
    return has_expired(r, l->now_ms, l->drop_within_ms) ||
           (r->deletes > 0 && add(r->made_ms, l->drop_within_ms) <= l->now_ms);
}

/* The newest group of POLICY_TIER neighbours of one level or more; 0: none. */
static uint32_t find_tier(const struct policy_run *runs, uint32_t count, uint32_t *first) {
    for (uint32_t i = 0; i < count;) {
        uint32_t n = 1;
        while (i + n < count && runs[i + n].level == runs[i].level)
            n++;
        if (n >= POLICY_TIER) {
            *first = i;
            return n;
        }
        i += n;
    }
    return 0;
}

/* The neighbours that cost least: bytes to write for each run that disappears. */
static uint32_t find_cheapest(const struct policy_run *runs, uint32_t count, uint32_t *first) {
    uint64_t best_bytes = UINT64_MAX;
    uint32_t best_less = 1;
    for (uint32_t i = 0; i + 1 < count; i++) {
        uint64_t bytes = runs[i].bytes;
        for (uint32_t j = i + 1; j < count; j++) {
            bytes = add(bytes, runs[j].bytes);
            uint32_t less = j - i;
            if (bytes / less < best_bytes / best_less) {
                best_bytes = bytes, best_less = less;
                *first = i;
            }
        }
    }
    return best_less + 1;
}

struct policy_merge policy_decide(const struct policy_run *runs, uint32_t count,
                                  const struct policy_limits *limits) {
    const struct policy_merge nothing = {.why = POLICY_NOTHING};
    uint32_t first = 0;
    assert(limits->runs_max >= 2 && limits->runs_max <= POLICY_RUNS_HARD);
    if (count == 0)
        return nothing;
    if (too_much_dead(runs, count, limits))
        return merge_of(runs, count, 0, count, POLICY_SPACE);
    for (uint32_t i = 0; i < count; i++)
        if (waste_is_due(&runs[i], limits))
            return merge_of(runs, count, i, count - i, POLICY_WASTE);
    uint32_t some = find_tier(runs, count, &first);
    if (some > 0)
        return merge_of(runs, count, first, some, POLICY_TIERED);
    if (count > limits->runs_max) {
        some = find_cheapest(runs, count, &first);
        return merge_of(runs, count, first, some, POLICY_NUMBER);
    }
    return nothing;
}
