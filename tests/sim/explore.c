/* SPDX-License-Identifier: Apache-2.0 */
#include "explore.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#undef fail
#include "recovery/verify.h"
#include "wal/error.h"

/* ---------------------------------------------------------------- fates */

/* How a power cut treats state that isn't durable: all in the same way, or each thing at random. */
struct lot {
    struct rng *rng;
    unsigned fresh_of_8;  /* chance that a sector, size or name is the new one */
    unsigned junk_one_in; /* chance of a zeroed or stale sector; 0: never */
    /* if not negative: the number of the one thing that is the exception to fresh_of_8 of 0 or 8 */
    int single;
    int seen;
};

static enum disk_fate by_lot(void *arg, enum disk_thing thing) {
    struct lot *l = arg;
    bool fresh = rng_below(l->rng, 8) < l->fresh_of_8;
    if (l->single >= 0 && l->seen++ == l->single)
        fresh = !fresh;
    if (thing == DISK_A_SECTOR && l->junk_one_in != 0 && rng_chance(l->rng, l->junk_one_in))
        return rng_chance(l->rng, 2) ? FATE_ZERO : FATE_STALE;
    return fresh ? FATE_NEW : FATE_OLD;
}

static struct lot draw(struct rng *rng) {
    static const unsigned fresh[] = {0, 8, 4, 7, 1, 4, 8, 0};
    struct lot l = {.rng = rng, .fresh_of_8 = fresh[rng_below(rng, 8)], .single = -1};
    if (rng_chance(rng, 3))
        l.junk_one_in = 2 + rng_below(rng, 12);
    if (l.fresh_of_8 % 8 == 0 && rng_chance(rng, 2))
        l.single = (int)rng_below(rng, 16);
    return l;
}

void explore_crash(struct rng *rng, struct sim_machine *m, bool power) {
    struct lot l = draw(rng);
    if (power)
        disk_cut(&m->disk, by_lot, &l);
    else
        disk_kill(&m->disk, by_lot, &l);
}

/* ---------------------------------------------------------------- one state */

struct inner { /* context for the step hook of a machine that recovers */
    struct explore *e;
    const struct model *model;
    struct bounds b;
    int depth;
};

static void on_step(void *arg, struct sim_machine *m) {
    struct inner *x = arg;
    if (x->e->why[0] == 0 && rng_chance(&x->e->rng, x->e->one_in))
        explore_moment(x->e, m, x->model, x->b, x->depth);
}

static void wrong(struct explore *e, const struct world *w, const char *when, int depth) {
    if (e->why[0] == 0)
        snprintf(e->why, sizeof e->why, "%s, depth %d: %s", when, depth,
                 w->why[0] != 0 ? w->why : w->m.note);
}

static bool is_wrong(const struct world *w) {
    return w->why[0] != 0 || w->m.note[0] != 0;
}

/* Creates a new machine with a copy of another machine's disk. */
static void clone(struct explore *e, struct world *w, const struct sim_machine *m,
                  const struct model *model) {
    memset(w, 0, sizeof *w);
    sim_machine_init(&w->m, rng_next(&e->rng), m->disk.space);
    w->m.direct = m->direct;
    w->m.zeros = m->zeros;
    w->m.clock_ns = m->clock_ns + 1000000000u;
    w->m.boots = m->boots + m->clock_ns % 2; /* a crash of the machine, or of the process */
    w->m.clock_set_ns = sim_days((int)(m->clock_ns % 7) - 3);
    w->m.calm = rng_chance(&e->rng, 2);
    w->model = (struct model *)model;
    disk_copy(&w->m.disk, &m->disk);
}

static void drop(struct world *w) {
    world_abandon(w);
    disk_free(&w->m.disk);
}

/* Opens the log that the crash left. Returns the number of its commits, or -1. */
static int recover(struct explore *e, struct world *w, struct bounds b, int depth) {
    struct inner inner = {e, w->model, b, depth + 1};
    if (depth < EXPLORE_DEPTH && e->one_in != 0) {
        w->m.step = on_step;
        w->m.arg = &inner;
    }
    int rc = world_open(w, false);
    if (rc < 0) {
        pawl_error err;
        pawl_last_error(&err);
        world_wrong(w, "opening: %s (%s)", pawl_errname(rc), err.message);
        w->log = NULL;
        return -1;
    }
    w->m.step = NULL;
    world_check_header(w);
    return world_check(w, b);
}

/* Continues with a recovered log: the commits that it shows must stay, and so must those appended
 * now. */
static void go_on(struct explore *e, struct world *w, int count, int depth) {
    struct model *own = malloc(sizeof *own);
    const struct model *shared = w->model;
    model_copy(own, shared);
    own->acknowledged = count;
    model_cut(own, count);
    w->model = own;
    world_set_up(w);
    static const enum op_kind kinds[] = {OP_COMMIT,  OP_STEP, OP_ASYNC, OP_BIG,
                                         OP_PRODUCE, OP_TICK, OP_RETAIN};
    for (unsigned i = rng_below(&e->rng, 8); i > 0 && !is_wrong(w) && !w->failed; i--)
        world_do(w, (struct op){kinds[rng_below(&e->rng, 7)], (uint32_t)rng_next(&e->rng) >> 8});
    if (!is_wrong(w)) {
        if (rng_chance(&e->rng, 2)) {
            world_do(w, (struct op){OP_REOPEN, 0});
        } else {
            world_abandon(w);
            explore_crash(&e->rng, &w->m, rng_chance(&e->rng, 2));
            recover(e, w, (struct bounds){own->acknowledged, own->count}, EXPLORE_DEPTH);
        }
    }
    if (is_wrong(w))
        wrong(e, w, "going on after recovery", depth);
    e->continued++;
    drop(w);
    free(own);
}

/* `living`: the machine kept running, so much of its state is only in the cache: then the continued
 * use of the log tests more. */
static void try_state(struct explore *e, struct world *w, struct bounds b, int depth, bool living) {
    e->states++;
    e->by_depth[depth]++;
    int n = recover(e, w, b, depth);
    if (n < 0 || is_wrong(w)) {
        wrong(e, w, "after a crash", depth);
        drop(w);
    } else if (rng_chance(&e->rng, living ? 2 : 12)) {
        go_on(e, w, n, depth);
    } else if (rng_chance(&e->rng, 12)) { /* a second recovery must give the same result */
        world_abandon(w);
        explore_crash(&e->rng, &w->m, true);
        if (recover(e, w, (struct bounds){n, n}, EXPLORE_DEPTH) != n)
            wrong(e, w, "recovering again", depth);
        drop(w);
    } else {
        drop(w);
    }
}

void explore_moment(struct explore *e, const struct sim_machine *m, const struct model *model,
                    struct bounds b, int depth) {
    /* this runs inside a call of the library, and must not change that call's error */
    pawl_error kept;
    fail_copy(&kept);
    unsigned images = depth == 1 ? e->images : 1;
    for (unsigned i = 0; i < images && e->why[0] == 0; i++) {
        struct world w;
        clone(e, &w, m, model);
        bool living = rng_chance(&e->rng, 8);
        explore_crash(&e->rng, &w.m, !living);
        try_state(e, &w, b, depth, living);
    }
    fail_again(&kept);
}

/* ---------------------------------------------------------------- all states */

/* `code`, in base `fates`, gives the fates of the things `first` to first + count - 1; all others
 * share one fate. */
struct subset {
    uint64_t code;
    int first, count, at;
    unsigned fates;
    enum disk_fate others;
};

static enum disk_fate by_subset(void *arg, enum disk_thing thing) {
    struct subset *s = arg;
    int at = s->at++;
    if (at < s->first || at >= s->first + s->count)
        return s->others;
    enum disk_fate fate = (enum disk_fate)(s->code % s->fates);
    s->code /= s->fates;
    return fate > FATE_NEW && thing != DISK_A_SECTOR ? FATE_NEW : fate;
}

static void enumerate(struct explore *e, const struct sim_machine *m, const struct model *model,
                      struct bounds b, struct subset s) {
    uint64_t codes = 1;
    for (int i = 0; i < s.count; i++)
        codes *= s.fates;
    for (uint64_t code = 0; code < codes && e->why[0] == 0; code++) {
        struct world w;
        struct subset one = s;
        clone(e, &w, m, model);
        one.code = code;
        disk_cut(&w.m.disk, by_subset, &one);
        try_state(e, &w, b, 1, false);
    }
}

bool explore_all(struct explore *e, const struct sim_machine *m, const struct model *model,
                 struct bounds b, int limit) {
    struct world w;
    struct subset s = {.fates = 2};
    clone(e, &w, m, model);
    disk_cut(&w.m.disk, by_subset, &s);
    disk_free(&w.m.disk);
    int things = s.at;
    s = (struct subset){.count = things < limit ? things : limit, .fates = 2};
    /* `limit` consecutive things, chosen at random; the others are all old, and then all new */
    if (things > limit)
        s.first = (int)rng_below(&e->rng, (unsigned)(things - limit + 1));
    enumerate(e, m, model, b, s);
    s.others = FATE_NEW;
    if (things > limit)
        enumerate(e, m, model, b, s);
    s.fates = 4; /* also with zeros and stale bytes, for fewer things */
    s.count = s.count > limit / 3 ? limit / 3 : s.count;
    s.others = rng_chance(&e->rng, 2) ? FATE_NEW : FATE_OLD;
    if (things > 0)
        enumerate(e, m, model, b, s);
    return things <= limit;
}

/* ---------------------------------------------------------------- damage */

static int any_file(struct explore *e, const struct disk *d) {
    return d->now.count == 0 ? -1 : d->now.name[rng_below(&e->rng, (unsigned)d->now.count)].inode;
}

static const char *name_of(const struct disk *d, int inode) {
    for (int i = 0; i < d->now.count; i++)
        if (d->now.name[i].inode == inode)
            return d->now.name[i].text;
    return "?";
}

static uint64_t any_place(struct explore *e) {
    /* headers and checkpoints more often */
    unsigned pages = rng_chance(&e->rng, 3) ? 3 : DISK_PAGES;
    return (uint64_t)rng_below(&e->rng, pages) * DISK_PAGE + rng_below(&e->rng, DISK_PAGE);
}

enum damage { A_BIT_FLIPPED, A_SECTOR_OF_ANOTHER_PLACE, A_SECTOR_UNREADABLE };

static void do_damage(struct explore *e, struct disk *d, char *what, size_t size) {
    static const char *const name[] = {"a bit flipped", "a sector of another place",
                                       "a sector unreadable"};
    int file = any_file(e, d), other = any_file(e, d);
    uint64_t at = any_place(e), from = any_place(e) / DISK_SECTOR * DISK_SECTOR;
    enum damage how = (enum damage)(rng_below(&e->rng, 4) % 3);
    if (how == A_SECTOR_OF_ANOTHER_PLACE)
        disk_misdirect(d, other, from, file, at / DISK_SECTOR * DISK_SECTOR);
    else if (how == A_SECTOR_UNREADABLE)
        disk_spoil(d, file, at);
    else
        disk_flip(d, file, at, (uint8_t)(1u << rng_below(&e->rng, 8)));
    snprintf(what, size, "with damage (%s in %s at %llu, from %s at %llu)", name[how],
             name_of(d, file), (unsigned long long)at, name_of(d, other), (unsigned long long)from);
}

static int any_frame(void *ctx, const struct frame_header *h, const uint8_t *frame, bool lost) {
    (void)ctx, (void)h, (void)frame, (void)lost;
    return 0;
}

/* A hash of the files that repair kept aside. */
static uint64_t kept_aside(const struct disk *d) {
    uint64_t sum = 0;
    static uint8_t bytes[DISK_PAGES * DISK_PAGE];
    for (int i = 0; i < d->now.count; i++) {
        if (strncmp(d->now.name[i].text, "lost-", 5) != 0)
            continue;
        uint32_t n = disk_read(d, d->now.name[i].inode, false, bytes, sizeof bytes, 0);
        uint64_t h = n;
        for (uint32_t k = 0; k < n; k++)
            h = h * 0x100000001b3u ^ bytes[k];
        sum += h; /* independent of the order of names in the list */
    }
    return sum;
}

/* For a log that was refused: verify finds the damage, repair mends it durably, and then the rest
 * of the log is exact. */
static void mend(struct explore *e, struct world *w) {
    pawl_check found = PAWL_CHECK_INIT, check = PAWL_CHECK_INIT, again = PAWL_CHECK_INIT;
    struct mem m;
    pawl_error error;
    mem_init(&m, 8u * MIB);
    struct seam *io = sim_seam(&w->m);
    struct verify v = {.io = io, .mem = &m, .check = &found, .frame = any_frame};
    if (verify_log(&v) == 0 && found.problems == 0)
        world_wrong(w, "verify finds nothing in a log that was refused");
    struct repaired done = {.mem = &m};
    int rc = repair_log(io, &m, &check, &done);
    mem_free(&m, done.areas, done.cap * sizeof *done.areas);
    uint64_t aside = kept_aside(&w->m.disk);
    v.check = &again;
    bool whole = rc == 0 && verify_log(&v) == 0 && again.problems == 0;
    if (rc == 0)
        explore_crash(&e->rng, &w->m, true);
    if (rc == 0 && kept_aside(&w->m.disk) != aside)
        world_wrong(w, "a power cut takes what repair had kept aside");
    again = (pawl_check)PAWL_CHECK_INIT;
    if (whole && (verify_log(&v) != 0 || again.problems != 0))
        world_wrong(w, "a power cut undoes a repair");
    io->ops->destroy(io);
    if (m.used != 0)
        world_wrong(w, "verify or repair keeps memory");
    if (!whole) /* it could not be repaired, and repair reported that */
        return;
    rc = world_open(w, true);
    if (rc < 0) {
        w->log = NULL;
        pawl_last_error(&error);
        world_wrong(w, "mended and verified, but opening: %s (%s)", pawl_errname(rc),
                    error.message);
        return;
    }
    world_check_remains(w);
}

/* Opens the log and reads all of it. True: it was refused. */
static bool use_damaged(struct explore *e, struct world *w, const struct model *model) {
    int rc = world_open(w, rng_chance(&e->rng, 2));
    if (rc < 0) {
        w->log = NULL;
        if (rc != PAWL_DAMAGED && rc != PAWL_FOREIGN && rc != PAWL_VERSION &&
            rc != PAWL_NOT_A_LOG && !(rc == PAWL_IO && w->m.fault_hits > 0))
            world_wrong(w, "a damaged log is refused with %s", pawl_errname(rc));
        return true;
    }
    /* Opening reads the newest segment; older ones are verified when they are read. */
    int n = world_check(w, (struct bounds){model->acknowledged, model->count});
    bool refused = n < 0 && (w->failed || strstr(w->why, "DAMAGED") != NULL ||
                             strstr(w->why, "FOREIGN") != NULL);
    if (refused)
        w->why[0] = 0;
    return refused;
}

void explore_damage(struct explore *e, const struct sim_machine *m, const struct model *model) {
    struct world w;
    char what[160];
    clone(e, &w, m, model);
    if (w.m.disk.now.count == 0)
        return;
    do_damage(e, &w.m.disk, what, sizeof what);
    e->damaged++;
    bool refused = use_damaged(e, &w, model);
    e->refused += refused;
    e->exact += !refused;
    if (refused && !is_wrong(&w)) {
        world_abandon(&w);
        mend(e, &w);
        e->mended += w.log != NULL;
    }
    if (is_wrong(&w))
        wrong(e, &w, what, 0);
    drop(&w);
}
