/* SPDX-License-Identifier: Apache-2.0
 *
 * jobs.h - the jobs that Pawl is measured with, through its public header. Each runs in its own
 * process (see measure.h).
 *
 * The job that Pawl and the peers share: append records durably in batches; read them in order from
 * the last position, write one output record for each, and write the new position in the same
 * durable transaction.
 */
#ifndef PAWL_BENCH_JOBS_H
#define PAWL_BENCH_JOBS_H

#include "measure.h"
#include "pawl.h"

/* ---- jobs_commit.c: one record per transaction */
/* s->threads committers, each waits for its commit; commits/s */
void job_commit(const struct setting *s, struct turn *t);
void job_commit_p50(const struct setting *s, struct turn *t); /* the same; p50 in ns */
/* s->threads submitters, acknowledged by callback; acknowledged/s */
void job_commit_async(const struct setting *s, struct turn *t);
/* s->rate records a second; p99 in ns from the intended time */
void job_commit_paced(const struct setting *s, struct turn *t);

/* ---- jobs_step.c: append, process, output durable */
void job_step(const struct setting *s, struct turn *t); /* batches, many in flight; records/s */
/* one record, in the program's own transactions; p50 in ns until its output is durable */
void job_step_p50(const struct setting *s, struct turn *t);
/* one record through s->stages processors, pawl_run() in the same thread */
void job_chain_p50(const struct setting *s, struct turn *t);
/* the same, pawl_run() in another thread, a reader waiting for the output */
void job_worker_p50(const struct setting *s, struct turn *t);
/* each input record to s->streams streams; output records/s */
void job_fan_out(const struct setting *s, struct turn *t);
/* s->partitions, as many worker threads as processors; records/s */
void job_partitions(const struct setting *s, struct turn *t);
/* a writer that never waits for its commits, and s->threads workers that run all the time, through
 * s->stages processors of s->partitions; retention by consumption; records/s */
void job_steady(const struct setting *s, struct turn *t);

/* ---- jobs_keyed.c: keyed state */
/* A writer appends keys, s->keys of them, and s->threads workers that run all the time count each
 * key in a table, and emit the key with its count; s->partitions; retention by consumption. Before
 * the first slice each key was counted once. records/s */
void job_keyed(const struct setting *s, struct turn *t);

/* ---- jobs_log.c: the whole log */
/* only appending: batches, many in flight; payload bytes/s */
void job_append(const struct setting *s, struct turn *t);
/* s->bytes read back from a cold disk; bytes/s */
void job_replay(const struct setting *s, struct turn *t);
/* one segment of s->bytes, its writer killed: bytes/s of the scan when opening */
void job_recovery(const struct setting *s, struct turn *t);
/* a log of s->bytes, its writer killed: ns until pawl_open() returns */
void job_reopen(const struct setting *s, struct turn *t);
/* a day of an appliance, in at most s->run_ns; written bytes per payload byte */
void job_day(const struct setting *s, struct turn *t);
/* s->rate a second in real time; written bytes per record */
void job_idle(const struct setting *s, struct turn *t);

/* ---- shared: jobs.c */
struct log {
    pawl *log;
    uint32_t in, out, processor;
    uint8_t *value; /* 64 KiB */
};

void check(int rc, const char *what); /* ends the contender with the library's message */
void log_open(struct log *l, const struct setting *s, uint32_t partitions);
/* log_keep_little() makes the log keep 256 MiB, so that in its steady state it recycles dropped
 * segments. Call log_is_steady() during the warm-up, after each piece of work: true once that state
 * is reached, or if the setting doesn't want it. */
void log_keep_little(struct log *l, const struct setting *s);
bool log_is_steady(struct log *l, const struct setting *s);
void log_close(struct log *l, struct turn *t); /* stores the log's memory first */
/* Adds `count` new records to a transaction as a source does: reads some into a buffer, then puts
 * them together. */
void log_put_records(struct log *l, pawl_tx *tx, uint32_t partition, uint32_t count,
                     uint32_t record, uint64_t n);
/* Appends `batch` new records to `in`, without waiting. */
void log_put(struct log *l, uint32_t batch, uint32_t record, uint64_t n);

#endif
