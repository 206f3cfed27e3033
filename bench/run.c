/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "bench.h"
#include "floor.h"

static unsigned rounds_of(const struct bench *b, const struct bench_case *c) {
    return c->rounds_wanted != 0 && c->rounds_wanted < b->rounds ? c->rounds_wanted : b->rounds;
}

static void tell(const struct bench *b, const char *what, unsigned done, unsigned total) {
    if (b->progress != NULL)
        b->progress(b->progress_arg, what, done, total);
}

/* Removes the reopened logs, which are kept between turns. */
static void remove_kept(const struct bench *b, const struct bench_case *c) {
    char path[4096];
    for (int i = 0; i < c->sides; i++) {
        snprintf(path, sizeof path, "%s/kept-%llu", b->dir, (unsigned long long)c->side[i].s.bytes);
        remove_dir(path);
    }
}

/* A contender that gives up is left out, and the others continue. False: stopped. */
static bool run_round(const struct bench *b, struct bench_case *c, unsigned round) {
    struct entry all[SIDES_MAX];
    struct side *in[SIDES_MAX];
    unsigned count = 0;
    for (int i = 0; i < c->sides; i++) {
        struct side *s = &c->side[i];
        if (s->failed)
            continue;
        in[count] = s;
        all[count++] = (struct entry){.fn = s->fn,
                                      .s = &s->s,
                                      .t = &s->turn[round],
                                      .why = s->why,
                                      .why_size = sizeof s->why};
    }
    if (!turns_run(b->dir, all, count, round, c->slices != 0 ? c->slices : b->slices, b->stopping))
        return false;
    for (unsigned i = 0; i < count; i++)
        in[i]->failed = all[i].failed;
    return true;
}

static bool run_case(struct bench *b, struct bench_case *c, unsigned *rounds_done,
                     unsigned rounds) {
    for (unsigned round = 0; round < rounds_of(b, c); round++) {
        tell(b, c->name, (*rounds_done)++, rounds);
        if (!run_round(b, c, round))
            return false;
    }
    c->rounds = (int)rounds_of(b, c);
    remove_kept(b, c);
    return true;
}

bool bench_run(struct bench *b,
               void (*done)(void *arg, const struct bench *b, const struct bench_case *c),
               void *arg, char *why, size_t why_size) {
    unsigned rounds = 0, rounds_done = 0;
    for (int i = 0; i < b->case_count; i++)
        rounds += rounds_of(b, &b->cases[i]);
    tell(b, "floor", 0, rounds);
    struct statvfs v;
    b->file_system = file_system(b->dir);
    if (getloadavg(&b->load_before, 1) != 1)
        b->load_before = -1;
    uint64_t needed = b->tiny ? 0
                              : (UINT64_C(3) << 30) + (b->quick   ? 4
                                                       : b->large ? 70
                                                                  : 12) *
                                                          b->log_bytes;
    if (statvfs(b->dir, &v) != 0 || (uint64_t)v.f_bavail * v.f_frsize < needed) {
        snprintf(why, why_size, "there have to be %llu MiB free in %s",
                 (unsigned long long)(needed >> 20), b->dir);
        return false;
    }
    bool well = floor_prepare(b->dir, b->tiny ? UINT64_C(16) << 20 : UINT64_C(512) << 20,
                              b->slice_ns, b->slices, b->stopping, why, why_size);
    snprintf(b->choice, sizeof b->choice, "%s", floor_choice());
    for (int i = 0; well && i < b->case_count; i++) {
        well = run_case(b, &b->cases[i], &rounds_done, rounds);
        if (!well)
            snprintf(why, why_size, "stopped");
        if (well) {
            judge(b, &b->cases[i]);
            if (done != NULL)
                done(arg, b, &b->cases[i]);
        }
    }
    for (int i = 0; !well && i < b->case_count; i++)
        remove_kept(b, &b->cases[i]);
    tell(b, "", rounds, rounds);
    floor_remove();
    return well;
}
