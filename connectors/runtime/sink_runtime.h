/* SPDX-License-Identifier: Apache-2.0
 *
 * The sink runtime's own parts. Each file calls those below it, never those above:
 *   sink_runtime.c   add, remove, the thread, status
 *   sink_step.c      one step: which partition is due
 *   sink_target.c    is the target still the one that the sink delivered to
 *   sink_recover.c   after opening the target: where does it stand, what does it hold, what has the
 *                    log decided
 *   sink_held.c      what the target must have, and what it has lost
 *   sink_poison.c    what the target doesn't get: refused records, intervals that the log has lost
 *   sink_deliver.c   one batch, from the log to the target
 *   sink_log.c       the log's side: records, positions, decisions, names; answers that end a step
 *   flow.c           what sinks and sources have in common
 */
#ifndef PAWL_CONNECTORS_SINK_RUNTIME_H
#define PAWL_CONNECTORS_SINK_RUNTIME_H

#include "connectors/runtime/flow.h"

#define NAME_MAX_BYTES 208 /* of a decision, with its NUL */
#define NOWHERE UINT64_MAX
#define TARGET_TEXT_MAX 160

/* One partition of one input. Only the thread that steps uses it. */
struct part {
    pawl_stream_info stream;
    uint32_t partition;
    pawl_reader *reader; /* NULL: not open yet */
    pawl_batch chunk;    /* records read; the first `used` of them are written to the target */
    size_t used;
    uint64_t next;    /* offset of the next record to deliver */
    uint64_t watched; /* where s->any reads the partition; NOWHERE: it doesn't */
    /* the position in the log: above `next` while records that the target has lost are delivered
     * again */
    uint64_t logged;
    uint64_t limit; /* the next batch ends here at the latest; NOWHERE: no such limit */
    /* stable batches: the next batch ends exactly here; NOWHERE: none promised */
    uint64_t promised;
    uint64_t poison;           /* offset of a record known to be poison; NOWHERE: none */
    uint64_t waiting_since_ns; /* when a batch that is not full was first seen; 0: none */
    char why[400];             /* the target refuses that record */
    /* open decision "gap-..." or "start-...": the target may stand below the log over this
     * interval; "" none */
    char gap[NAME_MAX_BYTES];
    char held[NAME_MAX_BYTES]; /* open decision "hold-...": what the target must have; "" none */
};

struct pawl_sink {
    struct flow flow;
    pawl_sink_config config; /* defaults filled in */
    pawl_sink_ops ops;
    uint8_t log_id[16];
    uint32_t id; /* of the processor */
    struct part *parts;
    uint32_t part_count, part_at;
    struct flow_pace poison_said;
    bool draining;       /* no lingering */
    uint64_t idle_at_ns; /* when idle() is due */
    bool migrates;       /* an older version delivered, and kept nothing of the target */
    char target[TARGET_TEXT_MAX + 1]; /* what it said at this opening; "": nothing */
    bool nothing_open; /* idle() said so: it isn't called until something is delivered */
    pawl_any *any;     /* the one wait for all parts; nothing is delivered from it. NULL: not yet */
    /* committed in the target, its decision still open in the log; "" none */
    char finish[NAME_MAX_BYTES];
};

/* ---- sink_log.c: names */

/* Whether deliveries go by the kind's protocol, or (guarantees below exactly-once) simply through
 * commit(). */
bool sink_is(const struct pawl_sink *s, int kind);
/* The target's position moves with its rows, and counts. */
bool sink_has_position(const struct pawl_sink *s);
/* Fills *b and its name. to 0: the end isn't known, the batch has no name. t NULL: no partition. */
void sink_batch(const struct pawl_sink *s, const struct part *t, uint64_t from, uint64_t to,
                pawl_sink_batch *b, char name[NAME_MAX_BYTES]);
/* The beginning of the names of this sink's prepared batches. */
void sink_prefix(const struct pawl_sink *s, char out[NAME_MAX_BYTES]);
/* Takes a prepared batch's name apart. False: this sink didn't make it. */
bool sink_parse(struct pawl_sink *s, const char *name, struct part **part, uint64_t *from,
                uint64_t *to);

/* ---- sink_log.c: records */

/* Is there a record at t->next, as t->chunk.records[t->used]? 1 yes, 0 none now, PAWL_LOST:
 * t->chunk is an interval that the log has lost; or another error of the log. `at` is t->next, or
 * the offset after the records of a batch that are written. */
int sink_fetch(struct pawl_sink *s, struct part *t, uint64_t at);
/* A number that stands for the record: other records of this log, and those of a log that was
 * restored and went another way, have others. 62 bits. */
uint64_t sink_record_mark(const pawl_record *r);
/* The same of the record at `offset`, as the log has it. GONE: the log doesn't keep it. < 0: a code
 * of the log. */
int sink_mark_at(struct pawl_sink *s, const struct part *t, uint64_t offset, uint64_t *mark);
/* The next record to deliver is that at `offset`, which is read again. */
void sink_rewind(struct part *t, uint64_t offset);
/* How many records are durable in the log and not delivered. Any thread. */
uint64_t sink_lag(struct pawl_sink *s);

/* ---- sink_log.c: positions and decisions */

/* The sink's open decisions, newest first:
 *     for (uint32_t i = sink_decisions(s); sink_decision_before(s, &i, &d);)
 * The index counts down, because other sinks of the log finish decisions meanwhile. Each of these
 * moves the later ones one place down: counting up would pass over one, and a batch that was
 * decided would look like one that was not (PAWL-6). */
uint32_t sink_decisions(const struct pawl_sink *s);
bool sink_decision_before(const struct pawl_sink *s, uint32_t *i, pawl_decision *d);
/* Is the decision open in the log? */
bool sink_decided(const struct pawl_sink *s, const char *name);
/* Finds the newest open decision "KIND-STREAM-PARTITION-FROM-TO" of a partition. */
bool sink_mark(const struct pawl_sink *s, const char *kind, const struct part *t, uint64_t *from,
               uint64_t *to, char name[NAME_MAX_BYTES]);
/* The name of the mark that the target may stand at `from` while the log stands at `to`. It takes
 * the place of the partition's mark, whose name `old` gets; "": there is none. */
void sink_gap(const struct pawl_sink *s, const struct part *t, uint64_t from, uint64_t to,
              char gap[NAME_MAX_BYTES], char old[NAME_MAX_BYTES]);
/* One transaction of the log. All strings may be NULL. */
struct log_change {
    struct part *part;
    uint64_t from, to; /* the position moves from `from` to `to`; equal: it doesn't move */
    const char *decide;
    const char *finish[2];
    const char *hold; /* what the target must have from now on; NULL: as before; "": nothing */
    const pawl_record *dead; /* to the dead-letter stream, with `why` */
    const char *why;
    bool durable; /* wait until it is; else it becomes durable with a later commit */
};
/* On success part->logged is `to`. Returns 0 or a PAWL_ code; PAWL_FULL and PAWL_MEMORY can be
 * tried again. */
int sink_log(struct pawl_sink *s, const struct log_change *c);
/* Takes back the promise of the next batch's bounds: they can't be kept, and nothing has been
 * committed under them. A step, as below. */
int sink_drop_promise(struct pawl_sink *s, struct part *t);

/* ---- sink_log.c: answers that end a step */

/* What the target answered. DONE: 0, go on. Else the batch at hand is aborted, and RETRY returns
 * STEP_IDLE, others < 0. POISON is the caller's to handle before. */
int sink_answer(struct pawl_sink *s, const char *call, int outcome, const pawl_fault *f);
/* What the log answered, < 0. */
int sink_log_answer(struct pawl_sink *s, int code);
/* The sink stops, and the status has the text. < 0. */
int sink_stop_for_good(struct pawl_sink *s, const char *text);

/* ---- sink_held.c */

/* Does the target have what the log says it must have of the partition? A step. */
int sink_check_held(struct pawl_sink *s, struct part *t);
/* What the target must have now, for sink_log(): NULL if the log says so already. `held` is memory
 * for it. */
const char *sink_holds(struct pawl_sink *s, const struct part *t, char held[NAME_MAX_BYTES]);
/* The log learns what the target must have, and the target does what waits for that. A step. */
int sink_settle(struct pawl_sink *s, struct part *t);
/* For each partition. */
int sink_settle_all(struct pawl_sink *s);
/* Ends in good order. Failing, it fails the sink. */
void sink_end(struct pawl_sink *s);
/* Reports what the target noticed. */
void sink_remark(struct pawl_sink *s);
/* Counts the records whose loss was accepted in the past. */
void sink_count_lost(struct pawl_sink *s);

/* ---- sink_deliver.c */

/* Delivers [from, to) once more, below the position. An outcome, with its text in *f. */
int sink_deliver_again(struct pawl_sink *s, struct part *t, uint64_t from, uint64_t to,
                       pawl_fault *f);

/* Delivers the records from t->next on, one batch. A step. */
int sink_deliver(struct pawl_sink *s, struct part *t);
/* Commits a decided batch [from, to) in the target, and finds out what became of it where the
 * target doesn't hold it. DONE: `finish` is set. Else an outcome, with its text in *f, or < 0: a
 * code of the log. */
int sink_commit_decided(struct pawl_sink *s, struct part *t, uint64_t from, uint64_t to,
                        bool recovering, pawl_fault *f);

/* ---- sink_poison.c */

/* The record at t->next, which is t->poison, goes by the policy. A step. */
int sink_move_poison(struct pawl_sink *s, struct part *t);
/* t->chunk is an interval that the log has lost. A step. */
int sink_pass_lost(struct pawl_sink *s, struct part *t);

/* ---- sink_target.c */

/* Asks the target who it is, and compares that with what the log keeps of it. A step. */
int sink_know_target(struct pawl_sink *s);
/* The log keeps what it said. Only once all positions have been judged. A step. */
int sink_keep_target(struct pawl_sink *s);
/* on_replaced says that another target is taken. */
bool sink_adopts(const struct pawl_sink *s);

/* ---- sink_recover.c */

/* Opens the target and resolves what is in doubt. A step. */
int sink_recover(struct pawl_sink *s);

/* ---- sink_step.c */

int sink_step_once(struct pawl_sink *s);
/* Milliseconds until something is due, after STEP_IDLE. */
int sink_idle_ms(const struct pawl_sink *s);
/* Waits until there may be a record, something is due, or stop wakes it. An idle sink sleeps here,
 * without a time limit if it has nothing open. */
void sink_wait(struct pawl_sink *s);

#endif
