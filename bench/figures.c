/* SPDX-License-Identifier: Apache-2.0
 *
 * figures.c - from turns to figures, and from figures to verdicts.
 */
#include <stdlib.h>
#include <string.h>

#include "bench.h"

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n) {
    if (n == 0)
        return 0;
    qsort(v, (size_t)n, sizeof *v, by_size);
    return n % 2 == 1 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

double side_figure(const struct bench_case *c, const struct side *s,
                   double (*of)(const struct turn *)) {
    double v[ROUNDS_MAX];
    for (int i = 0; i < c->rounds; i++)
        v[i] = of(&s->turn[i]);
    return median(v, c->rounds);
}

double side_least(const struct bench_case *c, const struct side *s,
                  double (*of)(const struct turn *)) {
    double least = of(&s->turn[0]);
    for (int i = 1; i < c->rounds; i++)
        least = of(&s->turn[i]) < least ? of(&s->turn[i]) : least;
    return least;
}

static double value(const struct turn *t) {
    return t->value;
}

double side_median(const struct bench_case *c, const struct side *s) {
    return side_figure(c, s, value);
}

static double ratio(double a, double b) {
    return b > 0 ? a / b : 0;
}

double cpu_ns_per_record(const struct turn *t) {
    return ratio((double)t->cpu_ns, (double)t->records);
}

double flushes_per_commit(const struct turn *t) {
    return ratio((double)t->device_flushes, (double)t->commits);
}

double device_bytes_per_byte(const struct turn *t) {
    return ratio((double)t->device_bytes, (double)t->payload);
}

double written_per_byte(const struct turn *t) {
    return ratio((double)t->own_bytes, (double)t->payload);
}

static double writes_per_commit(const struct turn *t) {
    return ratio((double)t->device_writes, (double)t->commits);
}

/* One durable write of the floor is one flush, or only the write on devices that have no volatile
 * cache or that know FUA. Flushes of others at the same time add to both, so the check asks for one
 * flush, not for as many as F1 shows. A contender that doesn't sync is so fast that these flushes
 * of others can't hide it. */
bool side_syncs(const struct bench *b, const struct bench_case *c, const struct side *s) {
    if (b->flushes_per_write >= 0.9)
        return side_least(c, s, flushes_per_commit) >= 0.9;
    return side_least(c, s, writes_per_commit) >= 0.9 ||
           side_least(c, s, writes_per_commit) <= 0; /* 0: the device doesn't report it */
}

/* ---- verdicts */

/* The best durable peer of a case by its median; -1: none. */
static int best_peer(const struct bench *b, const struct bench_case *c) {
    int best = -1;
    for (int i = 1; i < c->sides; i++) {
        const struct side *s = &c->side[i];
        if (!s->peer || s->failed || !side_syncs(b, c, s))
            continue;
        double mine = side_median(c, s), most = best >= 0 ? side_median(c, &c->side[best]) : 0;
        if (best < 0 || (c->unit == LATENCY ? mine < most : mine > most))
            best = i;
    }
    return best;
}

static double goal_value(const struct bench_case *c, const struct goal *g, int other, int round) {
    const struct turn *ours = &c->side[0].turn[round];
    switch (g->against) {
    case AGAINST_NOTHING:
        return ours->value;
    case WRITTEN_BYTES:
        return written_per_byte(ours);
    case ALLOCATIONS:
        return ratio((double)ours->allocations, (double)ours->commits);
    case AGAINST_SIDE:
    case AGAINST_BEST_PEER:
        break;
    }
    return ratio(ours->value, c->side[other].turn[round].value);
}

static void judge_goal(const struct bench *b, const struct bench_case *c, struct goal *g) {
    double v[ROUNDS_MAX];
    int other = g->against == AGAINST_SIDE        ? g->side
                : g->against == AGAINST_BEST_PEER ? best_peer(b, c)
                                                  : 0;
    if (other < 0 || c->side[0].failed || c->side[other].failed)
        return;
    for (int i = 0; i < c->rounds; i++)
        v[i] = goal_value(c, g, other, i);
    if (g->against == ALLOCATIONS && c->side[0].turn[0].allocations == UINT64_MAX)
        return;
    g->known = true;
    g->median = median(v, c->rounds);
    g->least = v[0], g->most = v[c->rounds - 1];
    g->reached = g->at_least ? g->median >= g->limit : g->median <= g->limit;
    if (g->against == AGAINST_BEST_PEER)
        snprintf(g->name, sizeof g->name, "%s", c->side[other].name);
}

void judge(struct bench *b, struct bench_case *c) {
    /* F1 writes one block after the other: it shows how many flushes one durable write is */
    for (int i = 0; i < c->sides; i++)
        if (strncmp(c->side[i].name, "F1", 2) == 0 && !c->side[i].failed) {
            double seen = side_least(c, &c->side[i], flushes_per_commit);
            if (b->flushes_per_write <= 0 || seen < b->flushes_per_write)
                b->flushes_per_write = seen;
        }
    for (int i = 0; i < c->goals; i++)
        judge_goal(b, c, &c->goal[i]);
}
