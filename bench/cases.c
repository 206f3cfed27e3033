/* SPDX-License-Identifier: Apache-2.0
 *
 * cases.c - the cases: what is measured, against what, and with which goal.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "floor.h"
#include "jobs.h"

static const uint64_t MIB = UINT64_C(1) << 20;
#define KEYED_SLICES 6u /* turns of some seconds: flushes and merges are in them */

struct bench_case *bench_add_case(struct bench *b, enum unit unit, const char *name,
                                  const char *title, ...) {
    struct bench_case *c = &b->cases[b->case_count++];
    va_list list;
    memset(c, 0, sizeof *c);
    c->unit = unit;
    snprintf(c->name, sizeof c->name, "%s", name);
    va_start(list, title);
    vsnprintf(c->title, sizeof c->title, title, list);
    va_end(list);
    return c;
}

struct setting bench_setting(const struct bench *b, uint32_t record, uint32_t batch) {
    return (struct setting){.record = record,
                            .batch = batch,
                            .threads = 1,
                            .stages = 1,
                            .streams = 1,
                            .partitions = 1,
                            .run_ns = b->slice_ns,
                            .segment = b->tiny ? MIB : 0};
}

struct side *bench_add_side(struct bench_case *c, const char *name, contender_fn fn,
                            struct setting s) {
    struct side *side = &c->side[c->sides++];
    side->name = name, side->fn = fn, side->s = s;
    return side;
}

static void add_peers(struct bench *b, struct bench_case *c, bool append, struct setting s) {
    if (b->tiny) /* their warm-ups take longer than everything else */
        snprintf(s.tune, sizeof s.tune, "warm=0,prewritten=0");
    for (size_t i = 0; i < b->peer_count; i++)
        bench_add_side(c, b->peers[i].name, append ? b->peers[i].append : b->peers[i].step, s)
            ->peer = true;
}

static void add_goal(struct bench_case *c, enum against against, int side, bool at_least,
                     double limit, const char *text) {
    struct goal *g = &c->goal[c->goals++];
    g->against = against, g->side = side, g->at_least = at_least, g->limit = limit;
    snprintf(g->text, sizeof g->text, "%s", text);
}

static const char *size_name(uint32_t record) {
    return record == 1024 ? "1 KiB" : "100 B";
}

static const char *named(char name[32], const char *stem, uint32_t record, uint32_t n) {
    if (n == 0)
        snprintf(name, 32, "%s-%u", stem, record);
    else
        snprintf(name, 32, "%s-%u-%u", stem, record, n);
    return name;
}

/* Gives each contender the device for its whole turn. Where only the device's throughput counts,
 * background work during the others' slices (preparing a segment, reading ahead) would flatter a
 * contender. */
static void whole_turns(const struct bench *b, struct bench_case *c) {
    c->slices = 1;
    for (int i = 0; i < c->sides; i++)
        c->side[i].s.run_ns = b->slices * b->slice_ns;
}

/* Once warm, nothing is allocated for a record or a commit. Fewer than one allocation in ten
 * commits allows for new segments. */
static void no_allocations(struct bench_case *c) {
    add_goal(c, ALLOCATIONS, 0, false, 0.1, "allocations per commit");
}

/* ---- one record at a time */

static void commit_cases(struct bench *b, uint32_t record) {
    char name[32];
    struct setting s = bench_setting(b, record, 1);
    struct bench_case *c =
        bench_add_case(b, LATENCY, named(name, "commit", record, 0),
                       "one committer, waiting for each record, %s", size_name(record));
    bench_add_side(c, "pawl", job_commit_p50, s);
    bench_add_side(c, "F1", floor_f1, s);
    s.p50 = true;
    add_peers(b, c, true, s);
    s.p50 = false;
    add_goal(c, AGAINST_SIDE, 1, false, 1.15, "x F1");
    add_goal(c, AGAINST_BEST_PEER, 0, false, 0, "x best peer");
    no_allocations(c);

    c = bench_add_case(b, LATENCY, named(name, "step", record, 0),
                       "one record: append, process, output durable; own transactions, %s",
                       size_name(record));
    bench_add_side(c, "pawl", job_step_p50, s);
    bench_add_side(c, "F1", floor_f1, s);
    add_goal(c, AGAINST_SIDE, 1, false, 1.3, "x F1");

    c = bench_add_case(b, LATENCY, named(name, "stage", record, 0),
                       "the same with a processor, pawl_run() in the same thread, %s",
                       size_name(record));
    bench_add_side(c, "pawl", job_chain_p50, s);
    bench_add_side(c, "F1", floor_f1, s);
    add_goal(c, AGAINST_SIDE, 1, false, 1.3, "x F1");
}

static void thread_cases(struct bench *b, uint32_t record) {
    char name[32];
    struct setting s = bench_setting(b, record, 1);
    struct bench_case *c;
    for (uint32_t threads = b->quick ? 64 : 1; threads <= 64; threads *= threads == 1 ? 4 : 4) {
        c = bench_add_case(b, PER_SECOND_COMMITS, named(name, "committers", record, threads),
                           "%u committers, each waiting for its own, %s", threads,
                           size_name(record));
        s.threads = threads;
        bench_add_side(c, "pawl", job_commit, s);
        bench_add_side(c, "F1", floor_f1_rate, s);
        add_goal(c, AGAINST_SIDE, 1, true, threads == 64 ? 40 : 0, "x F1's syncs/s");
    }
    for (s.threads = 1; s.threads <= 2; s.threads++) {
        c = bench_add_case(b, PER_SECOND_COMMITS, named(name, "async", record, s.threads),
                           "one-record transactions, each acknowledged, %u submitting, %s",
                           s.threads, size_name(record));
        bench_add_side(c, "pawl", job_commit_async, s);
        add_peers(b, c, true, s);
        add_goal(c, AGAINST_NOTHING, 0, true, s.threads == 2 ? 2e6 : 0, "a second");
        add_goal(c, AGAINST_BEST_PEER, 0, true, s.threads == 2 ? 100 : 0,
                 "x best peer, one at a time");
        no_allocations(c);
    }
    s.threads = 1, s.rate = 1000;
    c = bench_add_case(b, LATENCY, named(name, "paced", record, 0),
                       "1,000 records a second, p99 from each one's intended time, %s",
                       size_name(record));
    bench_add_side(c, "pawl", job_commit_paced, s);
    bench_add_side(c, "F1", floor_f1_paced, s);
    add_goal(c, AGAINST_SIDE, 1, false, 0, "x F1");
}

/* ---- batches */

static void batch_cases(struct bench *b, uint32_t record) {
    static const struct {
        uint32_t batch;
        double floor, peer;
    } rows[] = {{1, 0, 0}, {100, 0.8, 4}, {1000, 0.8, 5}, {10000, 0.8, 5}};
    char name[32];
    for (size_t i = b->quick ? 2 : 0; i < (b->quick ? 3 : sizeof rows / sizeof rows[0]); i++) {
        struct setting s = bench_setting(b, record, rows[i].batch);
        struct bench_case *c = bench_add_case(
            b, PER_SECOND_RECORDS, named(name, "batch", record, rows[i].batch),
            "exactly-once step end to end, batches of %u, %s", rows[i].batch, size_name(record));
        bench_add_side(c, "pawl", job_step, s);
        bench_add_side(c, "two-phase floor", floor_two_phase, s);
        add_peers(b, c, false, s);
        add_goal(c, AGAINST_SIDE, 1, true, rows[i].floor, "x two-phase floor");
        add_goal(c, AGAINST_BEST_PEER, 0, true, rows[i].peer, "x best peer");
        no_allocations(c);
        if (rows[i].batch >= 1000)
            whole_turns(b, c);
    }
}

static void append_case(struct bench *b) {
    struct setting s = bench_setting(b, 1024, 1000);
    struct bench_case *c = bench_add_case(b, PER_SECOND_BYTES, "append-1024",
                                          "sustained append, 1 KiB, batches of 1000");
    bench_add_side(c, "pawl", job_append, s);
    bench_add_side(c, "F4", floor_f4, s);
    whole_turns(b, c);
    add_goal(c, AGAINST_SIDE, 1, true, 0.85, "x F4");
    add_goal(c, WRITTEN_BYTES, 0, false, 1.06, "bytes written per payload byte");
    s.growing = true;
    c = bench_add_case(b, PER_SECOND_BYTES, "append-1024-growing",
                       "the same into a log that only grows");
    bench_add_side(c, "pawl", job_append, s);
    bench_add_side(c, "F4", floor_f4, s);
    whole_turns(b, c);
}

static void memory_case(struct bench *b) {
    struct setting s = bench_setting(b, 100, 1000), small = s;
    struct bench_case *c =
        bench_add_case(b, PER_SECOND_RECORDS, "memory",
                       "batches of 1000, 100 B, with 2 MiB of memory instead of 32");
    small.memory = 2 * MIB, small.segment = b->tiny ? MIB : 8 * MIB;
    bench_add_side(c, "pawl, 2 MiB", job_step, small);
    bench_add_side(c, "pawl, 32 MiB", job_step, s);
    add_goal(c, AGAINST_SIDE, 1, true, 0, "x with 32 MiB");
}

/* ---- topologies */

static void topology_cases(struct bench *b) {
    struct setting s = bench_setting(b, 100, 1), other = s;
    struct bench_case *c = bench_add_case(
        b, LATENCY, "chain",
        "five chained stages, append to durable output, pawl_run() in the same thread, 100 B");
    s.stages = 5;
    bench_add_side(c, "five stages", job_chain_p50, s);
    bench_add_side(c, "one stage", job_chain_p50, other);
    add_goal(c, AGAINST_SIDE, 1, false, 1.3, "x one stage");
    c = bench_add_case(
        b, LATENCY, "chain-worker",
        "the same, pawl_run() in a thread of its own, a reader waiting for the output");
    bench_add_side(c, "five stages", job_worker_p50, s);
    bench_add_side(c, "one stage", job_worker_p50, other);
    bench_add_side(c, "F1", floor_f1, other);
    add_goal(c, AGAINST_SIDE, 1, false, 1.3, "x one stage");
    add_goal(c, AGAINST_SIDE, 2, false, 0, "x F1");

    s = other = bench_setting(b, 100, 1000);
    s.streams = 4;
    c = bench_add_case(b, PER_SECOND_RECORDS, "fan-out",
                       "each record to four streams, output records, batches of 1000, 100 B");
    bench_add_side(c, "four streams", job_fan_out, s);
    bench_add_side(c, "one stream", job_fan_out, other);
    add_goal(c, AGAINST_SIDE, 1, true, 0, "x one stream");

    s = other = bench_setting(b, 100, 1000);
    s.partitions = 4, s.threads = 2;
    c = bench_add_case(b, PER_SECOND_RECORDS, "partitions",
                       "four partitions, two worker threads, batches of 1000, 100 B");
    bench_add_side(c, "four", job_partitions, s);
    bench_add_side(c, "one", job_partitions, other);
    add_goal(c, AGAINST_SIDE, 1, true, 0, "x one partition");
}

/* A pipeline that runs all the time, beside the same work done step by step in one thread. */
static void steady_cases(struct bench *b) {
    static const struct {
        uint32_t threads, partitions, stages, batch;
        bool committed;
        double goal;
        const char *title;
    } rows[] = {
        {1, 1, 1, 1000, false, 0.8, "one worker, one partition, batches of 1000"},
        {2, 4, 1, 1000, false, 0.8, "two workers, four partitions, batches of 1000"},
        {2, 64, 1, 1000, false, 0.7, "two workers, 64 partitions, batches of 1000"},
        {2, 4, 5, 1000, false, 0.2, "two workers, four partitions, five stages, batches of 1000"},
        {1, 1, 1, 1000, true, 0, "one worker that reads durable records, batches of 1000"},
        {1, 1, 1, 10, false, 0, "one worker, one partition, batches of 10"},
    };
    char name[32];
    for (uint32_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct setting one = bench_setting(b, 100, rows[i].batch), s = one;
        s.threads = rows[i].threads, s.partitions = rows[i].partitions;
        s.stages = rows[i].stages, s.committed = rows[i].committed;
        struct bench_case *c =
            bench_add_case(b, PER_SECOND_RECORDS, named(name, "steady", 100, i + 1),
                           "running all the time: %s, 100 B", rows[i].title);
        c->full_only = i != 1;
        bench_add_side(c, "pawl_run()", job_steady, s);
        bench_add_side(c, "step by step", job_step, one);
        whole_turns(b, c);
        add_goal(c, AGAINST_SIDE, 1, true, rows[i].goal, "x one thread, step by step");
    }
}

/* ---- keyed state */

static void keyed_cases(struct bench *b) {
    static const struct {
        const char *name, *title;
        uint32_t threads, partitions;
        bool zipf;
        uint64_t keys, memory; /* thousands of keys, MiB */
        double rate, peer;
    } rows[] = {
        {"keyed", "1 M keys", 1, 1, false, 1000, 256, 2e6, 5},
        {"keyed-partitions", "1 M keys, four partitions, two workers", 2, 4, false, 1000, 256, 2e6,
         5},
        {"keyed-zipf", "1 M keys, zipf 0.99", 1, 1, true, 1000, 256, 3e6, 0},
        {"keyed-large", "20 M keys, 64 MiB of memory", 1, 1, false, 20000, 64, 0, 3},
        {"keyed-small", "1 M keys, 4 MiB of memory", 1, 1, false, 1000, 4, 0, 0},
    };
    for (uint32_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct setting s = bench_setting(b, KEY_BYTES, 1000);
        s.keys = rows[i].keys * 1000, s.zipf = rows[i].zipf;
        s.memory = rows[i].memory * MIB;
        s.segment = b->tiny || rows[i].memory <= 4 ? MIB * 4 : 0;
        s.threads = rows[i].threads, s.partitions = rows[i].partitions;
        if (b->tiny)
            s.keys = 1000;
        struct bench_case *c = bench_add_case(
            b, PER_SECOND_RECORDS, rows[i].name,
            "a counter for each key of 16 bytes, batches of 1000: %s", rows[i].title);
        c->full_only = i != 0;
        c->rounds_wanted = 3;
        bench_add_side(c, "pawl", job_keyed, s);
        if (b->tiny)
            snprintf(s.tune, sizeof s.tune, "warm=0,prewritten=0");
        for (size_t k = 0; k < b->peer_count; k++)
            bench_add_side(c, b->peers[k].name, b->peers[k].keyed, s)->peer = true;
        c->slices = 1;
        for (int k = 0; k < c->sides; k++)
            c->side[k].s.run_ns = b->tiny ? b->slice_ns : KEYED_SLICES * b->slices * b->slice_ns;
        add_goal(c, AGAINST_NOTHING, 0, true, rows[i].rate, "a second");
        add_goal(c, AGAINST_BEST_PEER, 0, true, rows[i].peer, "x best peer");
        add_goal(c, WRITTEN_BYTES, 0, false, 0, "bytes written per payload byte");
    }
}

/* ---- the whole log */

static void log_cases(struct bench *b) {
    struct setting s = bench_setting(b, 1024, 1000), other;
    s.bytes = b->log_bytes;
    struct bench_case *c =
        bench_add_case(b, PER_SECOND_BYTES, "replay", "reading %llu MiB back, cold",
                       (unsigned long long)(s.bytes / MIB));
    bench_add_side(c, "pawl", job_replay, s);
    bench_add_side(c, "R4", floor_r4, s);
    whole_turns(b, c);
    add_goal(c, AGAINST_SIDE, 1, true, 0, "x R4");
    c = bench_add_case(b, PER_SECOND_BYTES, "recovery",
                       "recovery scan, cold, one segment of %llu MiB",
                       (unsigned long long)(s.bytes / MIB));
    bench_add_side(c, "pawl", job_recovery, s);
    bench_add_side(c, "R4", floor_r4, s);
    whole_turns(b, c);
    add_goal(c, AGAINST_SIDE, 1, true, 0.8, "x R4");

    other = s;
    s.bytes *= b->large ? 64 : 8;
    c = bench_add_case(b, LATENCY, "reopen", "opening after kill -9, %llu MiB against %llu MiB",
                       (unsigned long long)(s.bytes / MIB),
                       (unsigned long long)(other.bytes / MIB));
    c->full_only = true;
    bench_add_side(c, "large log", job_reopen, s);
    bench_add_side(c, "small log", job_reopen, other);
    add_goal(c, AGAINST_SIDE, 1, false, 1.2, "x the small log");
    add_goal(c, AGAINST_NOTHING, 0, false, 1e8, "ns");
}

static void appliance_cases(struct bench *b) {
    struct setting s = bench_setting(b, 100, 1);
    s.memory = 2 * MIB, s.segment = b->tiny ? MIB : 4 * MIB;
    struct bench_case *c =
        bench_add_case(b, BYTES_PER_RECORD, "day",
                       "an appliance's day: 864,000 records, one after the other, each processed");
    c->full_only = true;
    c->rounds_wanted = c->slices = 1;
    s.run_ns = b->tiny ? b->slice_ns : UINT64_C(100) * 1000000000;
    bench_add_side(c, "pawl", job_day, s);
    add_goal(c, AGAINST_NOTHING, 0, false, 0, "bytes written per record");
    c = bench_add_case(b, BYTES_PER_RECORD, "idle", "the same at its own pace, ten a second");
    c->full_only = true;
    c->rounds_wanted = c->slices = 1;
    s.rate = 10, s.run_ns = b->tiny ? b->slice_ns : UINT64_C(10) * 1000000000;
    bench_add_side(c, "pawl", job_idle, s);
    add_goal(c, AGAINST_NOTHING, 0, false, 0, "bytes written per record");
}

/* ---- all */

static bool wanted(const struct bench *b, const struct bench_case *c, const char *const *only) {
    if (only == NULL || only[0] == NULL)
        return !(b->quick && c->full_only);
    for (; *only != NULL; only++)
        if (strncmp(c->name, *only, strlen(*only)) == 0)
            return true;
    return false;
}

bool bench_make(struct bench *b, const char *const *only) {
    b->cases = calloc(CASES_MAX, sizeof *b->cases);
    b->case_count = 0;
    if (b->cases == NULL)
        return false;
    for (uint32_t record = 100; record <= 1024; record += 924) {
        commit_cases(b, record);
        if (!b->quick || record == 100)
            thread_cases(b, record);
        batch_cases(b, record);
    }
    append_case(b);
    memory_case(b);
    topology_cases(b);
    steady_cases(b);
    keyed_cases(b);
    log_cases(b);
    appliance_cases(b);
    return bench_keep(b, only);
}

bool bench_keep(struct bench *b, const char *const *only) {
    int kept = 0;
    for (int i = 0; i < b->case_count; i++)
        if (wanted(b, &b->cases[i], only))
            b->cases[kept++] = b->cases[i];
    b->case_count = kept;
    return kept > 0;
}

void bench_free(struct bench *b) {
    free(b->cases);
    b->cases = NULL;
}
