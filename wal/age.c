/* SPDX-License-Identifier: Apache-2.0
 *
 * age.c - see age.h.
 *
 * | case         | boot ids  | boot clock | wall clock          | time that counts  |
 * |--------------|-----------|------------|---------------------|-------------------|
 * | no stamp     |           |            |                     | none              |
 * | same boot    | equal     | went on    | anything            | the boot clock's  |
 * | boot behind  | equal     | went back  | anything            | none (a copy)     |
 * | clocks agree | unknown   | went on    | as far, about       | the boot clock's  |
 * | network time | different | anything   | on, and the network | the wall clock's  |
 * |              |           |            | kept it both times  |                   |
 * | unsure       | otherwise |            |                     | none              |
 *
 * The boot clock (CLOCK_BOOTTIME) counts the time of a suspended machine, and can't be set.
 */
#include "wal/age.h"

#include <assert.h>

#define NS_PER_MS 1000000u
/* What two clocks may differ by without one having been set: an allowance, and a share for
 * adjustments and drift. */
#define SLACK_NS UINT64_C(5000000000)
#define SLACK_SHARE 500u

static uint64_t slack(uint64_t passed) {
    return SLACK_NS + passed / SLACK_SHARE;
}

static uint64_t apart(uint64_t a, uint64_t b) {
    return a > b ? a - b : b - a;
}

static enum age_case case_of(const struct age_stamp *from, const struct seam_clock *now) {
    bool known = from->boot_id != 0 && now->boot_id != 0;
    if ((from->flags & AGE_VALID) == 0)
        return AGE_NO_STAMP;
    if (known && from->boot_id == now->boot_id)
        return now->boot_ns >= from->boot_ns ? AGE_SAME_BOOT : AGE_BOOT_BEHIND;
    if (!known && now->boot_ns >= from->boot_ns && now->wall_ns >= from->wall_ns) {
        uint64_t boot = now->boot_ns - from->boot_ns, wall = now->wall_ns - from->wall_ns;
        if (apart(boot, wall) <= slack(boot))
            return AGE_CLOCKS_AGREE;
    }
    bool network = (from->flags & AGE_NETWORK) != 0 && now->network;
    return network && now->wall_ns >= from->wall_ns ? AGE_NETWORK_TIME : AGE_UNSURE;
}

uint64_t age_passed(const struct age_stamp *from, const struct seam_clock *now,
                    enum age_case *why) {
    enum age_case c = case_of(from, now);
    if (why != NULL)
        *why = c;
    switch (c) {
    case AGE_SAME_BOOT:
    case AGE_CLOCKS_AGREE:
        assert(now->boot_ns >= from->boot_ns); /* PAWL-11 */
        return now->boot_ns - from->boot_ns;
    case AGE_NETWORK_TIME:
        assert(now->wall_ns >= from->wall_ns); /* PAWL-11 */
        return now->wall_ns - from->wall_ns;
    default:
        return 0;
    }
}

/* Both may come from a file: a sum that doesn't fit is the greatest age that does. */
static uint64_t older_by(uint64_t age_ns, uint64_t passed) {
    uint64_t sum;
    return __builtin_add_overflow(age_ns, passed, &sum) ? UINT64_MAX : sum;
}

int64_t age_move(struct age_stamp *at, const struct seam_clock *now) {
    enum age_case c;
    uint64_t passed = age_passed(at, now, &c), before = at->age_ns;
    int64_t set = (int64_t)(now->wall_ns - at->wall_ns - passed);
    bool jumped = c == AGE_SAME_BOOT && apart(now->wall_ns, at->wall_ns + passed) > slack(passed);
    *at = (struct age_stamp){.age_ns = older_by(before, passed),
                             .boot_ns = now->boot_ns,
                             .boot_id = now->boot_id,
                             .wall_ns = now->wall_ns,
                             .flags = AGE_VALID | (now->network ? AGE_NETWORK : 0)};
    assert(at->age_ns >= before); /* PAWL-11: nothing becomes younger */
    return jumped ? set : 0;
}

bool age_over(const struct age_stamp *next, const struct age_stamp *now, uint64_t limit_ms) {
    return (next->flags & AGE_VALID) != 0 && now->age_ns > next->age_ns &&
           (now->age_ns - next->age_ns) / NS_PER_MS > limit_ms;
}
