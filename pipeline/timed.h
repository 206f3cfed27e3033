/* SPDX-License-Identifier: Apache-2.0
 *
 * timed.h - processors that know time: event time, watermarks and timers (pawl_time.h).
 *
 * All that such a processor knows of time is in an internal table of its own, so that it is
 * committed with the position: for each partition number one pair with the watermarks
 * (watermark.h), and one for each timer, in the order in which they fire (wal/format_time.h). So
 * the due ones are a range.
 *
 * A batch is processed in *units*: a record with its event time, or a timer. The next unit is the
 * first timer that is due, else the next record. As what is due is in the table, it doesn't matter
 * where a commit ends: the units and their order are always the same (PAWL-14).
 *
 * timed.c         units, batches of them, failures, and waking by the clock
 * timed_timers.c  the timers of a group
 * timed_setup.c   the table, configuration, reading from outside
 */
#ifndef PAWL_PIPELINE_TIMED_H
#define PAWL_PIPELINE_TIMED_H

#include "pawl_time.h"
#include "pipeline/processor.h"
#include "pipeline/watermark.h"

#define TIMER_KEY_MAX (TIMER_HEAD + PAWL_TIMER_KEY_MAX) /* of its key in the table */
_Static_assert(TIMER_KEY_MAX <= PAWL_STATE_KEY_MAX, "a timer is a pair");

/* Of a processor. */
struct timed {
    pawl_time_config config;
    uint32_t table;
    uint32_t late_partitions; /* of late_stream */
};

/* No timer of a kind lies before this key, or before keys that begin with it: what lies before was
 * fired, and leaves nothing to look at. */
struct timer_bound {
    uint8_t key[72];
    uint8_t len;
    bool never; /* there is no timer of the kind at all */
};

/* One partition number of all inputs of a processor. Used by the worker that runs its tasks. */
struct time_group {
    struct pawl_processor *processor;
    uint32_t refs, partition;
    struct task *lead; /* the task that wakes for clock timers */
    uint32_t streams[WATERMARK_INPUTS_MAX], input_count;
    struct watermark now; /* as of the current attempt */
    bool stored;          /* in this attempt its pair was put */
    struct timer_bound bound[TIMER_KINDS];
    /* Due timers that were read together: for each the lengths of key and value (4 each), key,
     * value. */
    struct bytes due;
    struct bytes key;        /* of a timer that is set or deleted */
    size_t due_at, due_last; /* the next one, and the last one */
    int due_kind;
};

static inline struct state_place timed_place(const struct time_group *g) {
    return (struct state_place){g->processor->timed->table, g->partition, g->processor->id, true};
}

/* -- timed.c */
/* Processes a batch. STEP_LATER: b->to is where the task goes on, at again_ns. */
PAWL_CHECKED int timed_batch(struct task *t, pawl_batch *b);
/* A run begins. */
void timed_begin(struct task *t);
/* When the task must be looked at though it has no records (monotonic ns); 0: at no time. */
uint64_t timed_wake_at(const struct task *t);
/* At that time: fires what is due. 1: it did something, 0: not, or an error as task_step() has. */
PAWL_CHECKED int timed_wake(struct task *t);
static inline bool timed_pending(const struct task *t) {
    return t->group != NULL && atomic_load_explicit(&t->pending, memory_order_relaxed);
}

/* -- timed_timers.c */
/* A due timer; its bytes live until the next call. */
struct due_timer {
    const uint8_t *key; /* in the table */
    size_t key_len;
    pawl_timer timer;
};
/* The timers may be others than were seen: at the beginning, and after an attempt that failed. */
void timers_forget(struct time_group *g);
/* The first timer of the kind up to the time. 1: *out is it; 0: there is none. */
PAWL_CHECKED int timers_due(struct time_group *g, struct pawl_tx *tx, int kind, int64_t until,
                            struct due_timer *out);
/* The one that timers_due() gave is deleted. */
PAWL_CHECKED int timers_take(struct time_group *g, struct pawl_tx *tx, const struct due_timer *due);
/* Not before this time (INT64_MIN: not known; INT64_MAX: none) is a timer of the kind due. */
int64_t timers_next(const struct time_group *g, int kind);

/* -- timed_setup.c */
/* Tasks of a processor that knows time join the group of their partition. `same`: an earlier task
 * of it, or NULL. */
PAWL_CHECKED int timed_join(struct task *t, struct task *same);
void timed_leave(struct task *t);
void timed_free(struct pawl_processor *proc);

#endif
