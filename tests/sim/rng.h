/* SPDX-License-Identifier: Apache-2.0
 *
 * rng.h - the only source of randomness in the simulator, and of tests that a seed decides:
 * splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
 */
#ifndef PAWL_SIM_RNG_H
#define PAWL_SIM_RNG_H

#include <stdint.h>

struct rng {
    uint64_t state;
};

static inline uint64_t rng_next(struct rng *r) {
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* From 0 to n - 1. */
static inline unsigned rng_below(struct rng *r, unsigned n) {
    return (unsigned)((rng_next(r) >> 32) * n >> 32);
}

static inline int rng_chance(struct rng *r, unsigned one_in) {
    return rng_below(r, one_in) == 0;
}

#endif
