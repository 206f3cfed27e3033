/* SPDX-License-Identifier: Apache-2.0
 *
 * pawl_time.h - event time in processors: watermarks and timers, committed with the position.
 *
 * It is in libpawl, as pawl.h and pawl_state.h are, whose conventions hold here too. A processor
 * that knows time gets its records one by one, each with an event time, and between them its
 * timers, in the order of their times. Watermarks and timers are state: they are committed in one
 * frame with outputs and position, and come back with them. What a processor emits depends only on
 * its records and on the readings of the clock that the log holds, not on batches, threads and
 * restarts.
 *
 *     pawl_time_config t = PAWL_TIME_CONFIG_INIT;
 *     t.out_of_order_ns = 5000000000;      // records may be 5 s out of order
 *     t.on_timer = close_window;
 *     pawl_processor_add(log, &config, &proc);
 *     pawl_processor_set_time(proc, &t);
 *     // in the callback
 *     pawl_timer_set(ctx, PAWL_EVENT_TIME, end_of_window, record->key, record->key_len, NULL, 0);
 *
 * TIMES       Nanoseconds since 1970-01-01 UTC, negative before it: the years 1677 to 2262.
 * WATERMARKS  The input partition's own watermark is the highest event time of its records, less
 *             out_of_order_ns. A record is *late* if its event time is below its own partition's
 *             watermark; other inputs have no say in that. The combined watermark is the lowest one
 *             of the partitions with this number of all inputs. Timers fire by it. A partition
 *             without a record holds it back, until idle_ns has passed.
 * ORDER       A record is processed first, then the watermark moves, then the timers fire that it
 *             has reached, in the order of their times, then their keys; then the next record
 *             comes. Event-time timers fire before clock timers.
 * LIMITS      A timer's key has at most PAWL_TIMER_KEY_MAX bytes, its value
 *             PAWL_TIMER_VALUE_MAX. Their number is that of pairs in a table.
 */
#ifndef PAWL_TIME_H
#define PAWL_TIME_H

#include "pawl_state.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PAWL_TIMER_KEY_MAX 8180u
#define PAWL_TIMER_VALUE_MAX 65536u
#define PAWL_TIME_NONE INT64_MIN /* no time yet */

/* ---------------------------------------------------------------- a processor that knows time */

enum pawl_time_kind {
    PAWL_EVENT_TIME = 0, /* fires when the combined watermark has reached its time */
    PAWL_CLOCK_TIME = 1  /* fires when the clock has; needs PAWL_TIME_USES_CLOCK */
};

/* A timer that fires. What it points to lives during the callback. This struct never grows. */
typedef struct pawl_timer {
    int64_t time_ns;
    const void *key, *value;
    size_t key_len, value_len;
    int32_t kind; /* enum pawl_time_kind */
} pawl_timer;

/* A timer has fired, and is deleted. It emits, changes state and sets timers as the processor's
 * callback does. A result other than 0 says that it failed: after the retries the processor's
 * policy applies, to this timer alone (PAWL_ON_ERROR_DEAD_LETTER: a record with its key, value and
 * time, and the headers pawl-processor, pawl-timer and pawl-error). */
typedef int (*pawl_timer_fn)(pawl_context *ctx, const pawl_timer *timer, void *arg);
/* Gets a record's event time. A result other than 0 says that it has none: the record fails, as it
 * does in the processor's callback; pawl_refuse() says that no retry helps. */
typedef int (*pawl_event_time_fn)(pawl_context *ctx, const pawl_record *record, int64_t *time_ns,
                                  void *arg);

enum pawl_time_flags {
    /* Each commit begins with a reading of the clock, which the log keeps. */
    PAWL_TIME_USES_CLOCK = 1
};

typedef struct pawl_time_config {
    size_t struct_size;
    uint64_t out_of_order_ns; /* by how much the records of a partition may be out of order */
    /* An input partition that has had no record for so long is idle: it holds the combined
     * watermark back no more. The reading of the clock is in the log. 0: never. With one input it
     * changes nothing. */
    uint64_t idle_ns;
    pawl_event_time_fn event_time; /* NULL: the record's timestamp */
    pawl_timer_fn on_timer;        /* NULL: it sets no timers */
    void *arg;                     /* of both */
    /* stream id: late records are written to it unchanged, in the partition of the same number
     * modulo its partitions, and are not given to the processor. 0: it gets them,
     * and pawl_is_late() tells */
    uint32_t late_stream;
    uint32_t flags; /* enum pawl_time_flags */
} pawl_time_config;
#define PAWL_TIME_CONFIG_INIT \
    { sizeof(pawl_time_config), 0, 0, 0, 0, 0, 0, 0 }

/* Makes a processor know time; before pawl_run(), after each pawl_processor_add(). It must be
 * exactly-once. Watermarks and timers are in an internal table, which is created the first time and
 * is listed among the processor's tables; its name begins with '~'.
 * Errors: INVALID, STATE (not exactly-once; more partitions than when the table was made),
 * NOT_FOUND (late_stream), BUSY (it runs), LIMIT, FULL, MEMORY, IO, READ_ONLY, FORKED. */
PAWL_API PAWL_CHECKED int pawl_processor_set_time(pawl_processor *proc, const pawl_time_config *c);

/* ---------------------------------------------------------------- in a callback */

/* Sets a timer; one of this kind, time and key is replaced. Key and value are copied; both may be
 * empty. A time that the watermark or the clock has reached is due at once: it fires after this
 * callback. A callback of a timer may only set timers of its kind that come after that one.
 * Errors: INVALID, STATE (the processor doesn't know time, has no on_timer or doesn't use the
 * clock), RANGE (before or at the timer that fires, or no possible time), and as
 * pawl_state_put(). */
PAWL_API PAWL_CHECKED int pawl_timer_set(pawl_context *ctx, int32_t kind, int64_t time_ns,
                                         const void *key, size_t key_len, const void *value,
                                         size_t value_len);
/* Deletes a timer. 1: it was set; 0: it wasn't.
 * Errors: as pawl_timer_set(). */
PAWL_API PAWL_CHECKED int pawl_timer_delete(pawl_context *ctx, int32_t kind, int64_t time_ns,
                                            const void *key, size_t key_len);
/* The combined watermark, and that of the input partition that is processed, both as they are
 * before the record that is processed. PAWL_TIME_NONE: none yet, or the processor doesn't know
 * time. */
PAWL_API int64_t pawl_watermark(const pawl_context *ctx);
PAWL_API int64_t pawl_input_watermark(const pawl_context *ctx);
/* The event time of the record that is processed, or the time of the timer that fires. */
PAWL_API int64_t pawl_event_time(const pawl_context *ctx);
/* The clock, as the log has it for this commit; it never goes back. PAWL_TIME_NONE: the processor
 * doesn't use the clock. */
PAWL_API int64_t pawl_clock(const pawl_context *ctx);
/* Returns 1 if the record that is processed is late, else 0. */
PAWL_API int pawl_is_late(const pawl_context *ctx);

/* ---------------------------------------------------------------- from outside */

/* What is known of the time of one partition number of a processor's inputs. */
typedef struct pawl_time_info {
    size_t struct_size;
    int64_t watermark_ns; /* combined; PAWL_TIME_NONE: none yet */
    int64_t clock_ns;     /* highest reading of the clock; PAWL_TIME_NONE: none */
    uint64_t late;        /* records that were late */
    uint32_t inputs;
    uint32_t idle;  /* number of them that are idle */
    uint32_t table; /* id of the internal table */
} pawl_time_info;
#define PAWL_TIME_INFO_INIT \
    { sizeof(pawl_time_info), 0, 0, 0, 0, 0, 0 }
/* Gets it, as it is durable. Any thread may call it, on a read-only handle too.
 * Errors: NOT_FOUND (no such processor, or it has never known time), RANGE, INVALID, VERSION,
 * LOST, DAMAGED, IO, MEMORY, FORKED. */
PAWL_API PAWL_CHECKED int pawl_processor_get_time(pawl *p, const char *processor,
                                                  uint32_t partition, pawl_time_info *out);

#ifdef __cplusplus
}
#endif
#endif
