/* SPDX-License-Identifier: Apache-2.0
 *
 * crowd.c - see crowd.h.
 */
#include "connectors/net/crowd.h"

#include <assert.h>
#include <stddef.h>

#define TABLE 2048u /* twice as many as there are connections at most */

/* Connections by peer: open addressing, for one call. */
struct tally {
    struct {
        uint64_t peer;
        uint32_t count;
    } row[TABLE];
};

static uint32_t *count_of(struct tally *t, uint64_t peer) {
    uint64_t h = peer * UINT64_C(0x9E3779B97F4A7C15);
    size_t i = h >> 53;
    while (t->row[i].count != 0 && t->row[i].peer != peer)
        i = (i + 1) % TABLE;
    t->row[i].peer = peer;
    return &t->row[i].count;
}

/* Is `a` to go rather than `b`? */
static bool before(const struct crowd_member *a, const struct crowd_member *b) {
    return a->worth != b->worth ? a->worth < b->worth : a->heard_ns < b->heard_ns;
}

/* The least worth of those that `peer` has (own), or of those whose peers have `most`. */
static uint32_t least(const struct crowd_rule *r, const struct crowd_member *m, uint32_t count,
                      struct tally *t, bool own, uint64_t peer, uint32_t most) {
    uint32_t best = count;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t of = *count_of(t, m[i].peer);
        bool theirs = own ? m[i].peer == peer : of == most,
             kept = m[i].worth == CROWD_BUSY ||
                    (m[i].worth == CROWD_QUIET && r->keeps_quiet && of == 1);
        if (theirs && !kept && (best == count || before(&m[i], &m[best])))
            best = i;
    }
    return best;
}

int crowd_place(const struct crowd_rule *r, const struct crowd_member *m, uint32_t count,
                uint64_t peer) {
    struct tally t = {0};
    uint32_t most = 0;
    assert(count <= TABLE / 2);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t n = ++*count_of(&t, m[i].peer);
        most = n > most ? n : most;
    }
    uint32_t own = *count_of(&t, peer), best = count;
    bool full = own >= r->peer_max;
    if (count < r->max && !full)
        return CROWD_ROOM;
    if (full || own >= most)
        best = least(r, m, count, &t, true, peer, most);
    if (best == count && !full)
        best = least(r, m, count, &t, false, peer, most);
    return best != count ? (int)best : CROWD_REFUSED;
}
