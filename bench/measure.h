/* SPDX-License-Identifier: Apache-2.0
 *
 * measure.h - clocks, the resources that device and process used, and turns: one contender doing
 * its job for a while in its own process. Nothing here depends on Pawl.
 */
#ifndef PAWL_BENCH_MEASURE_H
#define PAWL_BENCH_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hdr.h"

uint64_t measure_now(void); /* monotonic ns */
void measure_sleep_until(uint64_t ns);

/* What a contender must do. Each contender reads the fields that concern it. */
struct setting {
    char dir[4000];     /* an empty directory for its files */
    const char *parent; /* parent of `dir`; has the files kept from turn to turn */
    bool p50;           /* peers: compare latencies, not rates */
    bool committed;     /* Pawl: a processor reads durable records only */
    bool growing;       /* Pawl: nothing is dropped, so no segment is recycled */
    uint32_t record;    /* bytes */
    uint32_t batch;     /* records */
    uint32_t threads, stages, streams, partitions;
    uint32_t rate;            /* records a second, in an open loop */
    uint64_t keys;            /* the number of keys; records are keys of 16 bytes */
    bool zipf;                /* key number i is 1 / i^0.99 as frequent as the first; else alike */
    uint64_t run_ns;          /* length of a timed slice */
    uint64_t bytes;           /* size to read or to recover */
    uint64_t memory, segment; /* Pawl's options; 0: its defaults */
    char tune[64];            /* "name=number": a setting other than the best, for --tune */
};

/* The number after "name=" in s->tune, or `otherwise`. */
long setting_tuned(const struct setting *s, const char *name, long otherwise);

/* How long to warm up before the first slice. */
uint64_t setting_warm_ns(const struct setting *s);

/* The result. `value` is what is compared: something per second, or a latency in ns. */
struct turn {
    double value;
    /* of the timed part; payload in bytes, input and output */
    uint64_t ns, records, commits, payload;
    uint64_t count, p50, p99, p999, max;                  /* latencies in ns */
    uint64_t device_bytes, device_writes, device_flushes; /* the device's, so of all processes */
    /* bytes that this process caused to be written, as the kernel counts them */
    uint64_t own_bytes;
    uint64_t cpu_ns, peak_memory; /* resident memory, minus that at the start of the process */
    /* in the timed part; UINT64_MAX: this program doesn't count them */
    uint64_t allocations;
    uint64_t log_memory; /* Pawl: from its status at the end */
    char note[96];
};

/* A contender. It runs in its own process, and calls give_up() if it can't do its job. The timed
 * part comes in slices, so that contenders can alternate every few milliseconds:
 *     for (uint64_t end; slice_begin(t, &end); slice_end(t))
 *         work until `end`, and wait until all of it is durable
 * Work in the process's own threads between slices counts only in own_bytes and peak_memory. */
typedef void (*contender_fn)(const struct setting *s, struct turn *t);
bool slice_begin(struct turn *t, uint64_t *end);
void slice_end(struct turn *t);

/* One contender and its result. */
struct entry {
    contender_fn fn;
    const struct setting *s;
    struct turn *t;
    bool failed;
    char *why; /* of why_size bytes: the reason it gave up */
    size_t why_size;
};
/* Starts all contenders, each in a process and a fresh directory under `parent` (removed
 * afterwards). They take `slices` slices in turn; the `first`-th begins. False: `stopping` returned
 * non-zero, and all were ended. */
bool turns_run(const char *parent, struct entry *all, unsigned count, unsigned first,
               unsigned slices, int (*stopping)(void));

void turn_latencies(struct turn *t, const struct hdr *h);

/* Number of allocations of the process; NULL if the program doesn't count them. */
extern uint64_t (*measure_allocations)(void);

/* turns.c runs this in the child. */
_Noreturn void contender_main(contender_fn fn, const struct setting *s, int to_parent);

/* Ends the contender: it then has no figure. */
_Noreturn void give_up(const char *format, ...) __attribute__((format(printf, 1, 2)));
void *must_allocate(size_t size);

/* Content of record n: varied, but cheap to make. */
void fill_record(uint8_t *out, uint32_t len, uint64_t n);
#define KEY_BYTES 16u
/* From now on fill_record() makes keys, as the setting says: the first s->keys records have each
 * one once. Does nothing if the setting has none. */
void fill_keys(const struct setting *s);

void remove_dir(const char *dir);
long measure_processors(void);

#endif
