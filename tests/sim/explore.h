/* SPDX-License-Identifier: Apache-2.0
 *
 * explore.h - from one moment of a simulated machine, the states that a crash at that moment can
 * leave; each is recovered by the real code and compared with the model.
 */
#ifndef PAWL_SIM_EXPLORE_H
#define PAWL_SIM_EXPLORE_H

#include "world.h"

#define EXPLORE_DEPTH 3 /* crash, crash while recovering, and once more */

struct explore {
    struct rng rng;
    unsigned images; /* crash images for each moment */
    unsigned one_in; /* moments of a recovery that are explored: one in this number */
    uint64_t states; /* crash states recovered, of all depths */
    uint64_t by_depth[EXPLORE_DEPTH + 1];
    uint64_t continued; /* ... of which the log was written on, closed, opened and compared again */
    uint64_t damaged, refused, exact,
        /* states with media damage, what opening them gave, and how many could be repaired */
        mended;
    char why[700]; /* what is wrong; "" nothing */
};

/* Explores the moment: `random images`. */
void explore_moment(struct explore *e, const struct sim_machine *m, const struct model *model,
                    struct bounds b, int depth);
/* All subsets of the sectors, sizes and names that aren't durable, where there are at most `limit`
 * of them; else false, and subsets of `limit` of them. With zeroed and stale sectors too, for a
 * third of that number. */
bool explore_all(struct explore *e, const struct sim_machine *m, const struct model *model,
                 struct bounds b, int limit);
/* Damages a log at rest in one place: it must be refused or be exact. */
void explore_damage(struct explore *e, const struct sim_machine *m, const struct model *model);
/* Turns the machine into one of the states that a crash leaves (a power cut, or a kill). */
void explore_crash(struct rng *rng, struct sim_machine *m, bool power);

#endif
