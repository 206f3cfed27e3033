/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "floor.h"

static unsigned rounds_of(const struct bench *b, const struct bench_case *c) {
    return c->tiny_rounds ? 1 : b->rounds;
}

static void tell(const struct bench *b, const char *what, unsigned done, unsigned total) {
    if (b->progress != NULL)
        b->progress(b->progress_arg, what, done, total);
}

/* One contender's turn. A contender that gives up is out, the others go on. False: stopped. */
static bool take_turn(const struct bench *b, struct bench_case *c, struct side *side, unsigned round) {
    if (side->failed)
        return true;
    if (!turn_run(b->dir, side->fn, &side->s, b->stop, &side->turn[round], side->why, sizeof side->why))
        side->failed = true;
    (void)c;
    return !*b->stop;
}

/* What reopened logs leave between turns. */
static void remove_kept(const struct bench *b, const struct bench_case *c) {
    char path[4096];
    for (int i = 0; i < c->sides; i++) {
        snprintf(path, sizeof path, "%s/kept-%llu", b->dir, (unsigned long long)c->side[i].s.bytes);
        remove_dir(path);
    }
}

static bool run_case(struct bench *b, struct bench_case *c, unsigned *turns_done, unsigned turns) {
    unsigned rounds = rounds_of(b, c);
    for (unsigned round = 0; round < rounds; round++)
        for (int i = 0; i < c->sides; i++) {
            tell(b, c->name, (*turns_done)++, turns);
            if (!take_turn(b, c, &c->side[(i + (int)round) % c->sides], round))
                return false;
        }
    c->rounds = (int)rounds;
    remove_kept(b, c);
    return true;
}

bool bench_run(struct bench *b, void (*done)(void *arg, const struct bench *b, const struct bench_case *c),
               void *arg, char *why, size_t why_size) {
    unsigned turns = 0, turns_done = 0;
    for (int i = 0; i < b->case_count; i++)
        turns += (unsigned)b->cases[i].sides * rounds_of(b, &b->cases[i]);
    tell(b, "floor", 0, turns);
    bool well = floor_prepare(b->dir, b->tiny ? UINT64_C(16) << 20 : UINT64_C(512) << 20, b->turn_ns / 4,
                              b->stop, why, why_size);
    snprintf(b->choice, sizeof b->choice, "%s", floor_choice());
    for (int i = 0; well && i < b->case_count; i++) {
        well = run_case(b, &b->cases[i], &turns_done, turns);
        if (!well)
            snprintf(why, why_size, "stopped");
        if (well) {
            judge(b, &b->cases[i]);
            if (done != NULL)
                done(arg, b, &b->cases[i]);
        }
    }
    tell(b, "", turns, turns);
    floor_remove();
    return well;
}
