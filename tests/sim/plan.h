/* SPDX-License-Identifier: Apache-2.0
 *
 * plan.h - everything that a simulated run depends on, as data: generated from a seed, written as a
 * line of text, and shrunk when it fails.
 */
#ifndef PAWL_SIM_PLAN_H
#define PAWL_SIM_PLAN_H

#include "explore.h"

#define PLAN_OPS 160

struct plan {
    /* decides the order of completions, the states that crashes leave, and the states explored */
    uint64_t seed;
    unsigned segments; /* space on the device, in segments */
    bool direct;
    unsigned images; /* crash images for each moment that is explored */
    unsigned one_in; /* explores one in this number of the moments; 0: none */
    struct op op[PLAN_OPS];
    int op_count;
    struct sim_fault fault[SIM_FAULTS_MAX];
    int fault_count;
    bool for_ever; /* the first fault never ends */
};

struct outcome {
    struct explore found;
    uint64_t trace; /* hash of all calls and results; equal for equal plans */
    uint64_t steps;
    uint64_t commits, crashes, faults, kinds_met;
    int at;        /* number of the operation that failed */
    char why[800]; /* the error; "": none */
};

void plan_make(struct plan *p, uint64_t seed);
void plan_run(const struct plan *p, struct outcome *o);
/* Removes faults, then operations, as long as the plan still fails. */
void plan_shrink(struct plan *p, struct outcome *o);
void plan_print(const struct plan *p, char *out, size_t size);
bool plan_parse(const char *line, struct plan *p);

#endif
