/* SPDX-License-Identifier: Apache-2.0
 *
 * The sink runtime's own parts:
 *   sink_runtime.c   add, remove, the thread, status
 *   sink_step.c      one step: which partition is due, its records, the delivery by kind, poison
 *   sink_recover.c   after opening the target: where does it stand, what does it hold, what has the
 *                    log decided
 *   sink_log.c       the log's side: positions, decisions, names
 */
#ifndef PAWL_CONNECTORS_SINK_RUNTIME_H
#define PAWL_CONNECTORS_SINK_RUNTIME_H

#include <pthread.h>
#include <stdatomic.h>

#include "connectors/runtime/connect.h"

#define NAME_MAX_BYTES 208 /* of a decision, with its NUL */
#define NOWHERE UINT64_MAX

/* One partition of one input. Belongs to whoever steps. */
struct part {
    pawl_stream_info stream;
    uint32_t partition;
    pawl_reader *reader; /* NULL: not open yet */
    pawl_batch chunk;    /* as read; `used` of it are done */
    size_t used;
    uint64_t next; /* offset of the next record to deliver */
    /* the position in the log: above `next` while what the target lost is delivered again */
    uint64_t logged;
    uint64_t limit; /* the next batch ends here at the latest; NOWHERE: no such limit */
    /* stable batches: the next batch ends exactly here; NOWHERE: none promised */
    uint64_t promised;
    uint64_t poison;           /* offset of a record known to be poison; NOWHERE: none */
    uint64_t waiting_since_ns; /* when a batch that is not full was first seen; 0: none */
    char why[400];             /* of the poison */
    /* open decision "gap-..." or "start-...": the target may stand below the log over this
     * interval; "" none */
    char gap[NAME_MAX_BYTES];
};

struct pawl_sink {
    pawl *log;
    pawl_sink_config config; /* defaults filled in */
    pawl_sink_ops ops;
    char name[65];
    char type[32];
    uint8_t log_id[16];
    uint32_t id; /* of the processor */
    struct part *parts;
    uint32_t part_count, part_at;
    bool opened;
    bool draining;        /* no lingering */
    uint32_t attempts;    /* that ended with RETRY, in a row */
    uint64_t retry_at_ns; /* 0: at once */
    uint64_t idle_at_ns;  /* when idle() is due */
    uint64_t jitter;
    /* committed in the target, its decision still open in the log; "" none */
    char finish[NAME_MAX_BYTES];

    pthread_t thread;
    bool running;     /* by the thread of start and stop */
    _Atomic int stop; /* set with the mutex held */
    _Atomic uint64_t drain_until_ns;

    pthread_mutex_t mutex; /* guards status, and `wake` belongs to it */
    pthread_cond_t wake;
    pawl_flow_status status;
    uint64_t status_retry_at_ns; /* copy of retry_at_ns, for status */
};

/* ---- sink_log.c */

/* Whether this delivery goes by the kind's protocol, or (guarantees below exactly-once) simply
 * through commit(). */
bool sink_is(const struct pawl_sink *s, int kind);
void sink_batch(const struct pawl_sink *s, const struct part *t, uint64_t from, uint64_t to,
                pawl_sink_batch *b, char name[NAME_MAX_BYTES]);
/* Prefix of the names of this sink's prepared batches. */
void sink_prefix(const struct pawl_sink *s, char out[NAME_MAX_BYTES]);
/* Takes a prepared batch's name apart. False: it is none of this sink's. */
bool sink_parse(struct pawl_sink *s, const char *name, struct part **part, uint64_t *from,
                uint64_t *to);
/* Is the decision open in the log? */
bool sink_decided(const struct pawl_sink *s, const char *name);
/* Finds the open decision "KIND-STREAM-PARTITION-FROM-TO" of a partition. */
bool sink_mark(const struct pawl_sink *s, const char *kind, const struct part *t, uint64_t *from,
               uint64_t *to, char name[NAME_MAX_BYTES]);
/* One log transaction. All strings may be NULL. dead: record to dead-letter. durable: wait for it.
 * On success t->logged is `to`. */
struct log_change {
    struct part *part;
    uint64_t from, to; /* position; from == to: doesn't move */
    const char *decide;
    const char *finish[2];
    const pawl_record *dead;
    const char *why;
    bool durable;
};
/* Returns 0 or a PAWL_ code; PAWL_FULL and PAWL_MEMORY can be tried again. */
int sink_log(struct pawl_sink *s, const struct log_change *c);

/* ---- sink_recover.c */

/* Opens the target and settles what is in doubt. As outcomes() below. */
int sink_recover(struct pawl_sink *s);
/* Commits a decided batch in the target, and finds out what became of it where the target does not
 * hold it. DONE: `finish` is set. */
int sink_settle(struct pawl_sink *s, struct part *t, const char *name, uint64_t from, uint64_t to,
                bool recovering);

/* ---- sink_step.c */

/* Delivers [from, to) again under the same name, as prepared and committed; the records are in the
 * log and the decision is open. */
int sink_redeliver(struct pawl_sink *s, struct part *t, uint64_t from, uint64_t to);
/* What one step came to. */
enum step { STEP_MORE = 0, STEP_IDLE = 1 };
/* < 0: failed for good. */
int sink_step_once(struct pawl_sink *s);
/* Milliseconds until something is due, after STEP_IDLE. */
int sink_idle_ms(struct pawl_sink *s);
uint64_t sink_behind(struct pawl_sink *s);

/* Waits up to ms for a record of the partition. False: its reader can't be waited on now. */
bool sink_wait(struct pawl_sink *s, struct part *t, int ms);

/* ---- sink_runtime.c */

int64_t sink_realtime(void);

/* Remembers a text for status and reports it. */
void sink_report(struct pawl_sink *s, int severity, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Stops for good with code and text (NULL: the log's last error). Returns code. */
int sink_fail(struct pawl_sink *s, int code, const char *text);
/* What a function of the sink or the log answered. DONE: 0; RETRY: aborts, plans the next attempt,
 * returns 1; FATAL and what is not expected: fails, < 0. POISON is handled by the caller before. */
int sink_answer(struct pawl_sink *s, const char *call, int outcome, const pawl_fault *f);
int sink_log_answer(struct pawl_sink *s, int code);
#define COUNT(s, field, n) \
    (pthread_mutex_lock(&(s)->mutex), (s)->status.field += (n), pthread_mutex_unlock(&(s)->mutex))

#endif
