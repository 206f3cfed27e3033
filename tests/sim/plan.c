/* SPDX-License-Identifier: Apache-2.0 */
#include "plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#undef fail
#include "wal/format.h"

/* ---------------------------------------------------------------- from a seed */

/* The weight of each kind of operation, in three workloads. */
static const uint8_t weight[3][OP_KINDS] = {
    /* commit async big abort step step_async run produce repeat takeover decide tick dispatch read
     * follow retain stream cap reopen kill power */
    {10, 6, 1, 1, 6, 4, 2, 4, 2, 1, 2, 4, 3, 2, 2, 1, 2, 1, 1, 1, 1},
    {3, 20, 2, 0, 2, 10, 1, 6, 1, 1, 1, 2, 3, 1, 1, 1, 1, 0, 0, 1, 2},
    {6, 3, 4, 2, 8, 6, 3, 2, 1, 1, 1, 3, 1, 1, 2, 6, 2, 1, 2, 2, 2},
};

static enum op_kind draw_kind(struct rng *r, const uint8_t *w) {
    unsigned sum = 0;
    for (int i = 0; i < OP_KINDS; i++)
        sum += w[i];
    unsigned at = rng_below(r, sum);
    for (int i = 0; i < OP_KINDS; i++) {
        if (at < w[i])
            return (enum op_kind)i;
        at -= w[i];
    }
    return OP_COMMIT;
}

/* Many commits of small logs become a forger's. The rest of the plan stays what it was. */
static void let_forge(struct plan *p) {
    for (int i = 0; i < p->op_count; i++) {
        struct op *op = &p->op[i];
        bool commit = op->kind == OP_COMMIT || op->kind == OP_ASYNC || op->kind == OP_TICK;
        if (commit && op->arg / 1000 % 3 != 0)
            op->kind = OP_FORGE;
        else if (op->kind == OP_STREAM || op->kind == OP_DECIDE)
            op->kind = OP_RETAIN;
    }
}

void plan_make(struct plan *p, uint64_t seed) {
    struct rng r = {seed * 0x9e3779b97f4a7c15u + 99};
    memset(p, 0, sizeof *p);
    p->seed = seed;
    p->segments = rng_chance(&r, 3) ? 4 + rng_below(&r, 3) : 16;
    p->direct = !rng_chance(&r, 3);
    p->images = 2;
    p->one_in = 5;
    const uint8_t *w = weight[rng_below(&r, 3)];
    p->op_count = (int)(10 + rng_below(&r, 90));
    for (int i = 0; i < p->op_count; i++)
        p->op[i] = (struct op){draw_kind(&r, w), (uint32_t)(rng_next(&r) >> 44)};
    if (seed % 3 == 0)
        let_forge(p);
    if (rng_chance(&r, 2))
        return;
    /* mild: only faults that must have no effect, but more of them */
    bool mild = rng_chance(&r, 2);
    p->fault_count = (int)(1 + rng_below(&r, mild ? SIM_FAULTS_MAX : 12));
    for (int i = 0; i < p->fault_count; i++) {
        static const enum sim_fault_kind often[2] = {FAULT_EIO, FAULT_SHORT};
        enum sim_fault_kind any =
            (enum sim_fault_kind)rng_below(&r, mild ? FAULT_ENOSPC : FAULT_KINDS);
        p->fault[i] = (struct sim_fault){40 + rng_below(&r, (unsigned)p->op_count * 6),
                                         rng_chance(&r, 2) ? often[mild] : any};
    }
}

/* ---------------------------------------------------------------- running */

struct hook {
    struct explore *e;
    struct world *w;
    const struct plan *p;
    bool opened; /* the log has been opened once: from then on it must always open */
};

static void on_step(void *arg, struct sim_machine *m) {
    struct hook *h = arg;
    if (h->e->why[0] != 0 || h->p->one_in == 0)
        return;
    /* Depends on the step's number only, so that a shrunk plan explores the other steps in the same
     * way. */
    h->e->rng.state = h->p->seed ^ (m->steps * 0x9e3779b97f4a7c15u);
    rng_next(&h->e->rng);
    if (rng_chance(&h->e->rng, h->p->one_in))
        explore_moment(h->e, m, h->w->model,
                       (struct bounds){h->w->model->acknowledged, h->w->model->count}, 1);
}

/* After an open that would have waited for ever: as if the process had been killed. */
static void revive(struct world *w) {
    struct rng r = {w->m.steps};
    if (!w->m.hung)
        return;
    sim_machine_revive(&w->m);
    explore_crash(&r, &w->m, false);
}

/* Opens the log, and retries while faults occur; cuts the model to the commits recovered. */
static void start(struct world *w) {
    for (int tries = 0; tries <= SIM_FAULTS_MAX; tries++) {
        if (tries == 3 && w->m.for_ever) { /* the device is replaced, with the same content */
            w->m.for_ever = false;
            w->m.fault_count = 0;
        }
        int hits = w->m.fault_hits, rc = world_open(w, false);
        if (rc == 0) {
            int n = world_check(w, (struct bounds){w->model->acknowledged, w->model->count});
            if (w->failed && w->why[0] == 0) {
                world_abandon(w);
                continue;
            }
            if (n >= 0) {
                w->model->acknowledged = n;
                model_cut(w->model, n);
                world_set_up(w);
            }
            return;
        }
        pawl_error e;
        pawl_last_error(&e);
        w->log = NULL;
        revive(w);
        if (w->m.fault_hits == hits ||
            (rc != PAWL_IO && rc != PAWL_FULL && rc != PAWL_PERMISSION)) {
            world_wrong(w, "opening: %s (%s)", pawl_errname(rc), e.message);
            return;
        }
    }
}

static void crash(struct world *w, struct outcome *o, uint64_t seed, bool power) {
    struct rng r = {seed ^ w->m.steps << 20};
    world_abandon(w);
    explore_crash(&r, &w->m, power);
    o->crashes++;
    start(w);
}

/* False if a stream, processor or producer is missing, because the log was full when it was to be
 * created. */
static bool is_set_up(const struct world *w) {
    return model_last(w->model)->started != 0;
}

static void end_of_run(const struct plan *p, struct world *w, struct explore *e) {
    if (w->failed)
        return;
    w->m.step = NULL;
    w->m.fault_count = 0;
    world_do(w, (struct op){OP_REOPEN, 0});
    if (w->why[0] != 0 || w->failed)
        return;
    /* idle, until all is known to be durable: from now on all damage must be detected */
    for (int i = 0; i < 4; i++) {
        w->m.clock_ns += 1000000000u;
        pawl_tick(w->log);
    }
    pawl_status s = PAWL_STATUS_INIT;
    /* if the log is full, there may have been no room for a witness */
    bool full = pawl_get_status(w->log, &s) != 0 || s.full != 0;
    world_abandon(w);
    for (int i = 0; i < 12 && !full && p->one_in != 0 && e->why[0] == 0; i++)
        explore_damage(e, &w->m, w->model);
}

void plan_run(const struct plan *p, struct outcome *o) {
    struct world *w = calloc(1, sizeof *w);
    struct model *model = malloc(sizeof *model);
    if (w == NULL || model == NULL)
        abort();
    memset(o, 0, sizeof *o);
    o->found.images = p->images;
    o->found.one_in = 24;
    struct hook h = {&o->found, w, p, false};
    model_init(model);
    sim_machine_init(&w->m, p->seed, (uint64_t)p->segments * SEGMENT_SIZE_UNIT);
    memcpy(w->m.fault, p->fault, sizeof p->fault);
    w->m.fault_count = p->fault_count;
    w->m.for_ever = p->for_ever;
    w->m.direct = p->direct;
    w->m.zeros = p->seed % 2 == 0;
    w->m.step_limit = 100000;
    w->m.step = on_step;
    w->m.arg = &h;
    w->model = model;
    start(w);
    for (o->at = 0; o->at < p->op_count; o->at++) {
        const struct op *op = &p->op[o->at];
        if (w->why[0] != 0 || w->m.note[0] != 0 || o->found.why[0] != 0 || w->log == NULL ||
            model->count > MODEL_COMMITS - 40 || model_last(model)->end[0] > MODEL_RECORDS - 200)
            break;
        if (!w->failed && !is_set_up(w))
            world_set_up(w);
        if (w->failed)
            crash(w, o, p->seed, op->arg % 2 == 0);
        else if (op->kind == OP_KILL || op->kind == OP_POWER)
            crash(w, o, p->seed, op->kind == OP_POWER);
        else if (is_set_up(w))
            world_do(w, *op);
    }
    if (w->log != NULL && w->why[0] == 0 && w->m.note[0] == 0 && o->found.why[0] == 0 &&
        is_set_up(w))
        end_of_run(p, w, &o->found);
    o->steps = w->m.steps;
    o->trace = w->m.trace ^ o->found.states * 0x9fb21c651e98df25u ^ o->found.rng.state;
    o->commits = (uint64_t)model->count;
    o->faults = (uint64_t)w->m.fault_hits;
    snprintf(o->why, sizeof o->why, "%s",
             w->why[0] != 0      ? w->why
             : w->m.note[0] != 0 ? w->m.note
                                 : o->found.why);
    world_abandon(w);
    disk_free(&w->m.disk);
    free(model);
    free(w);
}

/* ---------------------------------------------------------------- shrinking */

static bool still_wrong(const struct plan *p, struct outcome *o) {
    struct outcome x;
    plan_run(p, &x);
    if (x.why[0] == 0)
        return false;
    *o = x;
    return true;
}

void plan_shrink(struct plan *p, struct outcome *o) {
    for (int i = p->fault_count; i-- > 0;) {
        struct plan q = *p;
        q.fault[i] = q.fault[--q.fault_count];
        if (still_wrong(&q, o))
            *p = q;
    }
    if (o->at + 1 < p->op_count) {
        struct plan q = *p;
        q.op_count = o->at + 1;
        if (still_wrong(&q, o))
            *p = q;
    }
    for (int piece = p->op_count / 2; piece > 0; piece /= 2)
        for (int i = 0; i + piece <= p->op_count;) {
            struct plan q = *p;
            memmove(&q.op[i], &q.op[i + piece], sizeof q.op[0] * (size_t)(q.op_count - i - piece));
            q.op_count -= piece;
            if (still_wrong(&q, o))
                *p = q;
            else
                i += piece;
        }
}

/* ---------------------------------------------------------------- as text */

void plan_print(const struct plan *p, char *out, size_t size) {
    size_t n = (size_t)snprintf(
        out, size, "seed=%" PRIu64 " segments=%u direct=%d images=%u one_in=%u ops=", p->seed,
        p->segments, p->direct, p->images, p->one_in);
    for (int i = 0; i < p->op_count && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "%s%s:%u", i == 0 ? "" : ",",
                              op_name[p->op[i].kind], p->op[i].arg);
    for (int i = 0; i < p->fault_count && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "%s%u:%d", i == 0 ? " faults=" : ",",
                              p->fault[i].step, (int)p->fault[i].kind);
    if (p->for_ever && n < size)
        snprintf(out + n, size - n, " for_ever");
}

static bool parse_op(const char *text, size_t len, struct op *op) {
    for (int k = 0; k < OP_KINDS; k++) {
        size_t n = strlen(op_name[k]);
        if (n < len && strncmp(text, op_name[k], n) == 0 && text[n] == ':') {
            *op = (struct op){(enum op_kind)k, (uint32_t)strtoul(text + n + 1, NULL, 10)};
            return true;
        }
    }
    return false;
}

bool plan_parse(const char *line, struct plan *p) {
    int direct, used = 0;
    memset(p, 0, sizeof *p);
    if (sscanf(line, "seed=%" SCNu64 " segments=%u direct=%d images=%u one_in=%u ops=%n", &p->seed,
               &p->segments, &direct, &p->images, &p->one_in, &used) < 5 ||
        used == 0)
        return false;
    p->direct = direct != 0;
    const char *at = line + used;
    while (*at != 0 && *at != ' ' && *at != '\n' && p->op_count < PLAN_OPS) {
        size_t len = strcspn(at, ", \n");
        if (!parse_op(at, len, &p->op[p->op_count++]))
            return false;
        at += len + (at[len] == ',');
    }
    p->for_ever = strstr(line, " for_ever") != NULL;
    at = strstr(line, " faults=");
    for (at = at != NULL ? at + 8 : NULL; at != NULL && p->fault_count < SIM_FAULTS_MAX;) {
        unsigned step, kind;
        if (sscanf(at, "%u:%u", &step, &kind) != 2 || kind >= FAULT_KINDS)
            return false;
        p->fault[p->fault_count++] = (struct sim_fault){step, (enum sim_fault_kind)kind};
        at = strchr(at, ',');
        at = at != NULL ? at + 1 : NULL;
    }
    return true;
}
