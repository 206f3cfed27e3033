/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "jobs.h"

/* ---- committers that wait, each for its own record */

struct committer {
    const struct setting *s;
    struct log *log;
    pthread_t thread;
    pthread_barrier_t *start, *finish;
    const uint64_t *end; /* end of the slice, set before the start; 0: no more slices */
    uint64_t commits;
    struct hdr latencies;
};

/* At least one, however late the thread gets the processor. */
static void commit_until(struct committer *c, uint64_t end) {
    uint8_t value[65536];
    pawl_record r = {.value = value, .value_len = c->s->record, .timestamp_ns = 1};
    uint64_t begun = measure_now(), now;
    do {
        fill_record(value, c->s->record, c->commits);
        check(pawl_append(c->log->log, c->log->in, 0, &r, NULL), "append");
        now = measure_now();
        hdr_add(&c->latencies, now - begun);
        c->commits++;
        begun = now;
    } while (now < end);
}

static void *committer_main(void *arg) {
    struct committer *c = arg;
    for (;;) {
        pthread_barrier_wait(c->start);
        if (*c->end == 0)
            return NULL;
        commit_until(c, *c->end);
        pthread_barrier_wait(c->finish);
    }
}

static void warm_up(struct log *l, uint32_t record) {
    pawl_record r = {.value = l->value, .value_len = record, .timestamp_ns = 1};
    for (int i = 0; i < 100; i++)
        check(pawl_append(l->log, l->in, 0, &r, NULL), "append");
}

static void run_committers(struct committer *all, uint32_t threads, struct turn *t) {
    pthread_barrier_t start, finish;
    uint64_t end = 0, slice;
    pthread_barrier_init(&start, NULL, threads + 1);
    pthread_barrier_init(&finish, NULL, threads + 1);
    for (uint32_t i = 0; i < threads; i++) {
        all[i].start = &start, all[i].finish = &finish, all[i].end = &end;
        if (pthread_create(&all[i].thread, NULL, committer_main, &all[i]) != 0)
            give_up("no thread");
    }
    for (; slice_begin(t, &slice); slice_end(t)) {
        end = slice;
        pthread_barrier_wait(&start);
        pthread_barrier_wait(&finish);
    }
    end = 0;
    pthread_barrier_wait(&start);
    for (uint32_t i = 0; i < threads; i++)
        pthread_join(all[i].thread, NULL);
}

void job_commit(const struct setting *s, struct turn *t) {
    struct log l;
    struct hdr *h = must_allocate(sizeof *h);
    struct committer *all = must_allocate(s->threads * sizeof *all);
    log_open(&l, s, 1);
    warm_up(&l, s->record);
    for (uint32_t i = 0; i < s->threads; i++)
        all[i].s = s, all[i].log = &l;
    if (s->threads > 1)
        run_committers(all, s->threads, t);
    else /* no other thread in the process: the latency of a program that has none */
        for (uint64_t end; slice_begin(t, &end); slice_end(t))
            commit_until(&all[0], end);
    for (uint32_t i = 0; i < s->threads; i++) {
        t->commits += all[i].commits;
        hdr_merge(h, &all[i].latencies);
    }
    t->records = t->commits, t->payload = t->commits * s->record;
    turn_latencies(t, h);
    t->value = (double)t->commits * 1e9 / (double)t->ns;
    log_close(&l, t);
    free(all);
    free(h);
}

void job_commit_p50(const struct setting *s, struct turn *t) {
    job_commit(s, t);
    t->value = (double)t->p50;
}

/* ---- transactions of one record, not waited for, acknowledged when durable */

/* One commit in SAMPLED is timed: reading the clock for each would be a large part of its cost. */
enum { SAMPLED = 64 };

struct acks {
    atomic_uint_fast64_t count;
    struct hdr latencies; /* the callbacks' thread only */
};

struct submitter {
    const struct setting *s;
    struct log *log;
    struct acks *acks;
    pthread_t thread;
    uint64_t end, submitted;
};

static struct acks *the_acks;

static void acknowledged(void *arg, int status, const pawl_receipt *receipt) {
    (void)receipt;
    if (status != 0)
        give_up("a commit failed: %s", pawl_strerror(status));
    if (arg != NULL)
        hdr_add(&the_acks->latencies, measure_now() - (uint64_t)(uintptr_t)arg);
    atomic_fetch_add_explicit(&the_acks->count, 1, memory_order_relaxed);
}

static void submit_one(struct submitter *m, const pawl_record *r, uint64_t begun) {
    pawl_tx *tx;
    check(pawl_begin(m->log->log, &tx), "begin");
    check(pawl_put(tx, m->log->in, 0, r), "put");
    check(pawl_commit_async(tx, acknowledged, (void *)(uintptr_t)begun, NULL), "commit");
    m->submitted++;
}

static void *submitter_main(void *arg) {
    struct submitter *m = arg;
    uint8_t value[65536];
    pawl_record r = {.value = value, .value_len = m->s->record, .timestamp_ns = 1};
    for (uint64_t now = measure_now(); now < m->end; now = measure_now())
        for (int i = 0; i < SAMPLED; i++) {
            fill_record(value, m->s->record, m->submitted);
            submit_one(m, &r, i == 0 ? now : 0);
        }
    return NULL;
}

/* Submits until `end`, and returns when all is acknowledged. */
static uint64_t submit_for(const struct setting *s, struct log *l, uint64_t end) {
    struct submitter all[64];
    uint64_t submitted = 0, before = the_acks->count;
    for (uint32_t i = 0; i < s->threads; i++) {
        all[i] = (struct submitter){.s = s, .log = l, .end = end};
        if (i > 0 && pthread_create(&all[i].thread, NULL, submitter_main, &all[i]) != 0)
            give_up("no thread");
    }
    submitter_main(&all[0]);
    for (uint32_t i = 0; i < s->threads; i++) {
        if (i > 0)
            pthread_join(all[i].thread, NULL);
        submitted += all[i].submitted;
    }
    check(pawl_sync(l->log), "sync");
    while (the_acks->count - before < submitted)
        measure_sleep_until(measure_now() + 20000);
    return submitted;
}

void job_commit_async(const struct setting *s, struct turn *t) {
    struct log l;
    the_acks = must_allocate(sizeof *the_acks);
    log_open(&l, s, 1);
    log_keep_little(&l, s);
    do
        submit_for(s, &l, measure_now() + setting_warm_ns(s));
    while (!log_is_steady(&l, s));
    hdr_clear(&the_acks->latencies);
    for (uint64_t end; slice_begin(t, &end); slice_end(t))
        t->commits += submit_for(s, &l, end);
    t->records = t->commits, t->payload = t->commits * s->record;
    turn_latencies(t, &the_acks->latencies);
    t->value = (double)t->commits * 1e9 / (double)t->ns;
    log_close(&l, t);
}

/* An open loop: each record has its intended time and is not waited for. Latency counts from that
 * time (no coordinated omission). */
void job_commit_paced(const struct setting *s, struct turn *t) {
    struct log l;
    the_acks = must_allocate(sizeof *the_acks);
    log_open(&l, s, 1);
    warm_up(&l, s->record);
    struct submitter m = {.s = s, .log = &l};
    pawl_record r = {.value = l.value, .value_len = s->record, .timestamp_ns = 1};
    for (uint64_t end; slice_begin(t, &end); slice_end(t)) {
        uint64_t start = measure_now(), intended = start;
        for (uint64_t n = 1; intended < end; n++) {
            submit_one(&m, &r, intended);
            intended = start + n * 1000000000u / s->rate;
            measure_sleep_until(intended);
        }
        check(pawl_sync(l.log), "sync");
        while (the_acks->count < m.submitted)
            measure_sleep_until(measure_now() + 20000);
    }
    t->commits = t->records = m.submitted, t->payload = t->commits * s->record;
    turn_latencies(t, &the_acks->latencies);
    t->value = (double)t->p99;
    log_close(&l, t);
}
