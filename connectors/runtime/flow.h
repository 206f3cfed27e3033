/* SPDX-License-Identifier: Apache-2.0
 *
 * What a sink and a source have in common: one thread that steps until it is told to stop, the
 * pauses after a failed attempt, the status, and the reports.
 *
 * The thread that steps (ours, or the caller's own loop) is the only one that writes `opened`,
 * `attempts`, `retry_at_ns` and `jitter`. `mutex` guards `status` and `status_retry_at_ns`, which
 * any thread may ask for. `stop` and `drain_until_ns` are set by the thread that ends the flow.
 */
#ifndef PAWL_CONNECTORS_FLOW_H
#define PAWL_CONNECTORS_FLOW_H

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>

#include "connectors/runtime/connect.h"

/* What one step came to. Below 0: the flow has failed for good. */
enum step { STEP_MORE = 0, STEP_IDLE = 1 };

struct flow_pace { /* of one kind of report */
    struct connect_pace pace;
    char last[480];
};

/* While a flow is stopping it looks this often whether its time is over. */
#define FLOW_DRAIN_MS 20

struct flow {
    pawl *log;
    pawl_hooks hooks;
    char name[65];
    char type[32];
    uint32_t backoff_ms, backoff_max_ms;

    bool opened;          /* the target or the origin is open */
    uint32_t attempts;    /* in a row that ended with RETRY */
    uint64_t retry_at_ns; /* no step before this time; 0: at once */
    uint64_t jitter;      /* state of the random pauses */
    char retry_text[480]; /* why the last attempt ended with RETRY; "": it didn't */

    pthread_t thread;
    bool running; /* by the thread of start and stop */
    _Atomic int stop;
    _Atomic uint64_t drain_until_ns;
    int wake_fd; /* an eventfd, which stop makes readable; -1: not started yet */

    pthread_mutex_t mutex;
    pawl_flow_status status;
    uint64_t status_retry_at_ns; /* copy of retry_at_ns */
};

/* ---- life */

void flow_init(struct flow *f, pawl *log, const char *name, const char *type,
               const pawl_hooks *hooks);
/* Pauses after RETRY. 0: 100 ms for the first, 30 s at most. */
void flow_backoff(struct flow *f, uint32_t first_ms, uint32_t most_ms);
void flow_free(struct flow *f);

/* ---- the thread */

/* Runs main(arg) in a thread. Errors: BUSY (it runs), MEMORY, STATE (the flow has failed). */
int flow_start(struct flow *f, void *(*main)(void *), void *arg);
/* Tells the thread to stop, after draining for at most drain_ms, and waits for its end. False:
 * there was none. */
bool flow_stop(struct flow *f, uint32_t drain_ms);
/* Asked by the thread: is it to stop; and is the time for draining over? */
bool flow_stopping(const struct flow *f);
bool flow_drained(const struct flow *f);
/* The thread's only wait: until `fd` is readable (-1: none), stop wakes it, or `ms` are over
 * (below 0: no limit). */
void flow_wait(struct flow *f, int fd, int ms);
/* Milliseconds until the next attempt, rounded up; 0 if it is due. */
int flow_retry_ms(const struct flow *f);

/* ---- status and reports */

uint64_t flow_now(const struct flow *f);
void flow_point(const struct flow *f, const char *point);
/* Shows the text in the status and hands it to the caller's report function. */
void flow_report(struct flow *f, int severity, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void flow_report_args(struct flow *f, int severity, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));
void flow_report_paced(struct flow *f, struct flow_pace *p, int severity, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Reports what was held back and is due now; `all`: due or not. */
void flow_report_held(struct flow *f, struct flow_pace *p, bool all);
/* Milliseconds until that is due; -1: nothing is held back. */
int flow_held_ms(const struct flow *f, const struct flow_pace *p);
void flow_set(struct flow *f, int state, int code);
/* The flow ends with code, which is returned; text NULL: the log's last error. */
int flow_fail(struct flow *f, int code, const char *text);
/* Plans the next attempt. Returns STEP_IDLE. A reason is reported once, however many attempts fail
 * because of it; the status has it all the time. */
int flow_retry(struct flow *f, const char *text);
/* Answers of the connector that end a step (not DONE): RETRY plans the next attempt; FATAL, and
 * what is not expected, fails. */
int flow_answer(struct flow *f, const char *call, int outcome, const pawl_fault *fault);
/* Codes of the log: FULL and MEMORY plan the next attempt, others fail. */
int flow_log_answer(struct flow *f, int code);
/* An attempt has not failed: ends a row of failed ones, and reports that. */
void flow_works(struct flow *f);
/* A batch has arrived: ends a row of failed attempts, and adds to the counters. */
void flow_arrived(struct flow *f, const pawl_flow_status *more);
#define FLOW_COUNT(f, field, n) \
    (pthread_mutex_lock(&(f)->mutex), (f)->status.field += (n), pthread_mutex_unlock(&(f)->mutex))
/* All but what the connector says of itself. */
void flow_status(struct flow *f, pawl_flow_status *out);
/* What the connector says of itself, fit to be shown. */
void flow_target(void (*status)(void *self, char *text, size_t size), void *self,
                 pawl_flow_status *out);

#endif
