/* SPDX-License-Identifier: Apache-2.0
 *
 * jobs.h - what Pawl is measured at, through its public header. Each runs in a process of its own
 * (see measure.h).
 *
 * The job that it shares with the peers: append records durably in batches; read them in order from
 * the last position, write one output record for each, and the new position with them in the same
 * durable transaction.
 */
#ifndef PAWL_BENCH_JOBS_H
#define PAWL_BENCH_JOBS_H

#include "measure.h"
#include "pawl.h"

/* ---- jobs_commit.c: one record a transaction */
/* s->threads committers, each waiting for its own; commits/s */
void job_commit(const struct setting *s, struct turn *t);
void job_commit_p50(const struct setting *s, struct turn *t); /* the same; p50 in ns */
void job_commit_async(const struct setting *s,
                      /* s->threads submitting, acknowledged by callback; acknowledged/s */
                      struct turn *t);
/* s->rate a second; p99 in ns from the intended time */
void job_commit_paced(const struct setting *s, struct turn *t);

/* ---- jobs_step.c: append, process, output durable */
void job_step(const struct setting *s, struct turn *t); /* batches, many in flight; records/s */
void job_step_p50(const struct setting *s,
                  /* one record, own transactions; p50 in ns until its output is durable */
                  struct turn *t);
void job_chain_p50(const struct setting *s,
                   /* one record through s->stages processors, pawl_run() in the same thread */
                   struct turn *t);
void job_worker_p50(const struct setting *s,
                    /* the same, pawl_run() in another thread, a reader waiting for the output */
                    struct turn *t);
/* each input record to s->streams streams; output records/s */
void job_fan_out(const struct setting *s, struct turn *t);
void job_partitions(const struct setting *s,
                    /* s->partitions, as many worker threads as processors; records/s */
                    struct turn *t);

/* ---- jobs_log.c: the log as a whole */
/* nothing but appending, batches, many in flight; payload bytes/s */
void job_append(const struct setting *s, struct turn *t);
/* s->bytes read back from a cold disk; bytes/s */
void job_replay(const struct setting *s, struct turn *t);
void job_recovery(const struct setting *s,
                  /* one segment of s->bytes, its writer killed: bytes/s of the scan when opening */
                  struct turn *t);
void job_reopen(const struct setting *s,
                /* a log of s->bytes, its writer killed: ns until pawl_open() returns */
                struct turn *t);
void job_day(const struct setting *s,
             /* an appliance's day in s->run_ns at most; written bytes per payload byte */
             struct turn *t);
/* s->rate a second in real time; written bytes per record */
void job_idle(const struct setting *s, struct turn *t);

/* ---- what they share: jobs.c */
struct log {
    pawl *log;
    uint32_t in, out, processor;
    uint8_t *value; /* 64 KiB */
};

void check(int rc, const char *what); /* gives up with the library's own words */
void log_open(struct log *l, const struct setting *s, uint32_t partitions);
/* The steady state of a log with retention: it keeps 256 MiB, and segments that are let go become
 * new ones. To be asked while warming up, after each piece of work: true once it is reached, or s
 * says that it isn't wanted. */
void log_keep_little(struct log *l, const struct setting *s);
bool log_is_steady(struct log *l, const struct setting *s);
void log_close(struct log *l, struct turn *t); /* notes the log's memory before */
/* Adds `count` new records to a transaction, as a source does: some are read into a buffer, then
 * put together. */
void log_put_records(struct log *l, pawl_tx *tx, uint32_t partition, uint32_t count,
                     uint32_t record, uint64_t n);
/* `batch` new records into `in`, not waited for. */
void log_put(struct log *l, uint32_t batch, uint32_t record, uint64_t n);

#endif
