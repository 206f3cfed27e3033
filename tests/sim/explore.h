/* SPDX-License-Identifier: Apache-2.0
 *
 * explore.h - from one moment of a simulated machine, produces the states that a crash at that
 * moment can leave. The real code recovers each, and the result is compared with the model.
 */
#ifndef PAWL_SIM_EXPLORE_H
#define PAWL_SIM_EXPLORE_H

#include "world.h"

#define EXPLORE_DEPTH 3 /* a crash, a crash during its recovery, and one more */

struct explore {
    struct rng rng;
    unsigned images; /* crash images for each moment */
    unsigned one_in; /* explores one in this number of the moments of a recovery */
    uint64_t states; /* crash states recovered, of all depths */
    uint64_t by_depth[EXPLORE_DEPTH + 1];
    uint64_t continued; /* ... of which the log was written to, closed, opened and compared again */
    uint64_t damaged, refused, exact,
        /* states with media damage, the results of opening them, and how many could be repaired */
        mended;
    char why[700]; /* the error found; "": none */
};

/* Explores the moment: `random images`. */
void explore_moment(struct explore *e, const struct sim_machine *m, const struct model *model,
                    struct bounds b, int depth);
/* Explores all subsets of the sectors, sizes and names that aren't durable, if there are at most
 * `limit` of them; otherwise returns false, and explores subsets of `limit` of them. Also tries
 * zeroed and stale sectors, for at most a third of that number. */
bool explore_all(struct explore *e, const struct sim_machine *m, const struct model *model,
                 struct bounds b, int limit);
/* Damages a closed log in one place: opening must refuse it, or its content must be exact. */
void explore_damage(struct explore *e, const struct sim_machine *m, const struct model *model);
/* Turns the machine into one of the states that a crash leaves (a power cut, or a kill). */
void explore_crash(struct rng *rng, struct sim_machine *m, bool power);

#endif
