/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/engine.h"

/* Under the lock: no thread changes it meanwhile. */
static uint32_t have(const struct todo_got *g) {
    return atomic_load_explicit(&g->have, memory_order_relaxed);
}
static void set_bits(struct todo_got *g, uint32_t bits) {
    atomic_store_explicit(&g->have, have(g) | bits, memory_order_relaxed);
}
static void clear_bit(struct todo_got *g, uint32_t bit) {
    atomic_store_explicit(&g->have, have(g) & ~bit, memory_order_relaxed);
}

/* Do workers share a bit? Then none can say that it has seen all that the bit stands for. */
static bool shared_bits(const struct todo *k) {
    return k->workers > WORK_BITS;
}

void work_begin(pawl *p, uint32_t workers) {
    struct todo *k = &p->todo;
    k->workers = workers;
    k->asleep = k->due = 0;
    for (int i = 0; i < WORK_KINDS; i++)
        atomic_store(&k->got[i].have, 0);
}

void work_look_from(pawl *p, enum work_kind kind, uint32_t worker, uint64_t lsn) {
    struct todo_got *g = &p->todo.got[kind];
    uint32_t bit = work_bit(worker), i = worker % WORK_BITS;
    if ((have(g) & bit) == 0 || lsn < g->from[i])
        g->from[i] = lsn;
    set_bits(g, bit);
}

static uint64_t readable_end(const pawl *p, enum work_kind kind) {
    return kind == WORK_APPENDED ? p->wal.tail : p->wal.durable;
}

bool work_got(const pawl *p, enum work_kind kind, uint32_t worker, uint64_t *from) {
    const struct todo_got *g = &p->todo.got[kind];
    if (shared_bits(&p->todo)) {
        *from = 0;
        return true;
    }
    *from = g->from[worker % WORK_BITS];
    return (have(g) & work_bit(worker)) != 0 && *from < readable_end(p, kind);
}

bool work_hint(pawl *p, uint32_t worker, uint64_t durable) {
    uint32_t bit = work_bit(worker);
    if ((atomic_load_explicit(&p->todo.got[WORK_APPENDED].have, memory_order_relaxed) & bit) != 0)
        return true;
    return (atomic_load_explicit(&p->todo.got[WORK_DURABLE].have, memory_order_relaxed) & bit) !=
               0 &&
           atomic_load_explicit(&p->durable_lsn, memory_order_relaxed) != durable;
}

void work_seen(pawl *p, enum work_kind kind, uint32_t worker, uint64_t lsn) {
    struct todo_got *g = &p->todo.got[kind];
    if (lsn >= p->wal.tail)
        clear_bit(g, work_bit(worker));
    else
        g->from[worker % WORK_BITS] = lsn;
}

/* Moves sleeping workers to those that the release of the lock wakes. */
static void wake_soon(pawl *p, uint32_t bits) {
    struct todo *k = &p->todo;
    bits &= k->asleep;
    k->asleep &= ~bits;
    k->due |= bits;
    for (; bits != 0; bits &= bits - 1)
        atomic_fetch_add(&k->words[__builtin_ctz(bits)], 1);
}

void work_appended(pawl *p, uint64_t lsn) {
    struct todo *k = &p->todo;
    for (int i = 0; i < WORK_KINDS; i++) {
        struct todo_got *g = &k->got[i];
        uint32_t all = p->tables.touched[i];
        p->tables.touched[i] = 0;
        for (uint32_t more = all & ~have(g); more != 0; more &= more - 1)
            g->from[__builtin_ctz(more)] = lsn;
        set_bits(g, all);
    }
    if ((have(&k->got[WORK_APPENDED]) & k->asleep) != 0)
        wake_soon(p, have(&k->got[WORK_APPENDED]));
}

void work_durable(pawl *p) {
    struct todo *k = &p->todo;
    struct todo_got *g = &k->got[WORK_DURABLE];
    uint32_t wake = 0;
    for (uint32_t bits = have(g) & k->asleep; bits != 0; bits &= bits - 1)
        if (g->from[__builtin_ctz(bits)] < p->wal.durable)
            wake |= bits & -bits;
    if (wake != 0)
        wake_soon(p, wake);
}

void work_wake_all(pawl *p) {
    wake_soon(p, UINT32_MAX);
}

void work_wake(pawl *p, uint32_t bits) {
    for (; bits != 0; bits &= bits - 1)
        event_wake_all(&p->todo.words[__builtin_ctz(bits)], UINT32_MAX);
}

void work_stop(pawl *p) {
    for (uint32_t i = 0; i < WORK_BITS; i++)
        atomic_fetch_add(&p->todo.words[i], 1);
    work_wake(p, UINT32_MAX);
}

void work_sleep(pawl *p, uint32_t worker, uint64_t deadline) {
    if (engine_did_due(p))
        return;
    p->todo.asleep |= work_bit(worker);
    (void)engine_sleep_on(p, &p->todo.words[worker % WORK_BITS], deadline);
    if (!shared_bits(&p->todo))
        p->todo.asleep &= ~work_bit(worker);
}
