/* SPDX-License-Identifier: Apache-2.0
 *
 * worker.c - the pipeline that is killed: appends records, processes them into another
 * stream, and tells over a pipe what it was told to be durable. It uses the library as any program
 * would, and makes different use of it in each life: backend, memory, sizes of transactions and
 * batches, synchronous and not.
 */
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/crashtest/crashtest.h"

#define BACKLOG_MAX 2000u /* inputs that wait for the processor; above it no more are appended */
#define FAULT_AT 300u     /* the record at which a deliberate fault shows */

typedef struct worker {
    const ct_work *work;
    uint64_t rng;
    pawl *log;
    uint32_t in, out;
    pawl_producer *producer;
    uint64_t next; /* input */
    uint64_t room; /* LSN up to which inputs are appended */
    _Atomic int run_code;
    _Atomic bool run_over;
    uint32_t hits; /* of the point; guarded by nothing: a race only moves the kill */
    uint8_t value[CT_RECORD_MAX], made[CT_RECORD_MAX];
} worker;

/* ---- the pipe. One write() a line, which is atomic. */

static void say(const worker *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(const worker *w, const char *format, ...) {
    char line[256];
    va_list list;
    va_start(list, format);
    int n = vsnprintf(line, sizeof line - 1, format, list);
    va_end(list);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof line - 1 ? (size_t)n : sizeof line - 2;
    line[len] = '\n';
    ssize_t put = write(w->work->acks_fd, line, len + 1);
    (void)put; /* nobody reads any more: the kill is near */
}

static int give_up(const worker *w, const char *call, int code) {
    pawl_error e;
    pawl_last_error(&e);
    say(w, "fail %s: %s: %s", call, pawl_errname(code), e.message);
    return 1;
}

static void on_point(void *arg, const char *point) {
    worker *w = arg;
    if (strcmp(point, w->work->point) == 0 && ++w->hits == w->work->count)
        kill(getpid(), SIGKILL);
}

/* A timer of the kernel's, whose signal is SIGKILL: it meets the moment while the supervisor
 * verifies another log. */
static int arm(const worker *w) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    uint64_t ns = w->work->kill_ns + 1; /* 0 would disarm it */
    struct itimerspec at = {.it_value = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)}};
    timer_t timer;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 &&
        timer_settime(timer, 0, &at, NULL) == 0)
        return 0;
    say(w, "fail cannot set a timer");
    return 1;
}

static uint64_t below(worker *w, uint64_t n) {
    return ct_next(&w->rng) % n;
}

static bool faulty(const worker *w, const char *name) {
    return w->work->fault != NULL && strcmp(w->work->fault, name) == 0;
}

/* ---- the processor */

static int process(pawl_context *ctx, const pawl_record *records, size_t count, void *arg) {
    worker *w = arg;
    uint32_t partition = pawl_context_partition(ctx);
    uint8_t *made = malloc(CT_RECORD_MAX); /* partitions are processed at the same time */
    int code = made == NULL;
    for (size_t i = 0; i < count && code == 0; i++) {
        uint64_t n = records[i].offset * CT_PARTITIONS + partition;
        uint32_t len = records[i].value_len;
        ct_invert(made, records[i].value, len);
        pawl_record r = {.value = made, .value_len = len};
        if (n == FAULT_AT && faulty(w, "wrong-output"))
            made[len - 1] ^= 1;
        if (n != FAULT_AT || !faulty(w, "lost-output"))
            code = pawl_emit(ctx, w->out, partition, &r);
        if (n == FAULT_AT && faulty(w, "double-output"))
            code = pawl_emit(ctx, w->out, partition, &r);
    }
    free(made);
    return code;
}

static void *run_main(void *arg) {
    worker *w = arg;
    int code =
        pawl_run(w->log, (uint32_t)(w->work->rng % 3), w->work->finish ? PAWL_RUN_UNTIL_IDLE : 0);
    if (code == PAWL_STOPPED)
        code = 0;
    if (code < 0)
        give_up(w, "pawl_run", code);
    w->run_code = code;
    w->run_over = true;
    return NULL;
}

static int add_processor(worker *w) {
    static const int guarantees[CT_GUARANTEES] = {PAWL_EXACTLY_ONCE, PAWL_AT_LEAST_ONCE,
                                                  PAWL_AT_MOST_ONCE};
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    c.name = "crashtest";
    c.inputs = &w->in;
    c.input_count = 1;
    c.guarantee = guarantees[w->work->guarantee];
    c.process = process;
    c.arg = w;
    /* A life that works everything off does so in large batches: in small ones the log would
     * outgrow what retention keeps. */
    c.batch_max = (uint32_t)(w->work->finish || below(w, 3) == 0 ? 1000 : 1 + below(w, 64));
    c.committed_input = below(w, 4) == 0;
    return pawl_processor_add(w->log, &c, NULL);
}

/* ---- opening */

static int open_log(worker *w) {
    pawl_options o = PAWL_OPTIONS_INIT;
    pawl_error e;
    o.flags = w->work->create ? PAWL_OPEN_CREATE : 0;
    o.segment_size = CT_SEGMENT;
    o.memory_cap = below(w, 8) == 0 ? UINT64_C(16) << 20 : UINT64_C(4) << 20;
    o.backend = below(w, 4) == 0 ? PAWL_BACKEND_POSIX : PAWL_BACKEND_AUTO;
    o.direct = below(w, 8) == 0 ? PAWL_DIRECT_OFF : PAWL_DIRECT_AUTO;
    o.witness_ms = 1 + (uint32_t)below(w, 20);
    o.lock_wait_ms = 10000; /* a killed life's last writes may hold it */
    o.on_point = w->work->point != NULL ? on_point : NULL;
    o.on_point_arg = w;
    uint64_t begun = cli_now_ns();
    int code = pawl_open(w->work->dir, &o, &w->log, &e);
    if (code < 0)
        return give_up(w, "pawl_open", code);
    say(w, "open %" PRIu64, cli_now_ns() - begun);
    return 0;
}

static int make_tables(worker *w) {
    pawl_retention keep = {.bytes = CT_KEEP}, now;
    int code = pawl_stream_create(w->log, "in", CT_PARTITIONS, &w->in);
    if (code >= 0 || code == PAWL_EXISTS)
        code = pawl_stream_create(w->log, "out", CT_PARTITIONS, &w->out);
    if (code >= 0 || code == PAWL_EXISTS)
        code = pawl_retention_get(w->log, &now);
    if (code >= 0 && now.bytes != keep.bytes)
        code = pawl_retention_set(w->log, &keep);
    if (code >= 0)
        code = pawl_producer_open(w->log, "crashtest", &w->producer);
    if (code >= 0)
        code = add_processor(w);
    pawl_status s = PAWL_STATUS_INIT;
    if (code >= 0)
        code = pawl_get_status(w->log, &s);
    if (code < 0)
        return give_up(w, "making streams, producer and processor", code);
    w->next = pawl_producer_sequence(w->producer);
    w->room = s.end_lsn + (w->work->big ? CT_LIFE_BYTES : below(w, CT_LIFE_BYTES / 8));
    return 0;
}

/* ---- appending */

static void tell_outputs(const worker *w) {
    pawl_bounds b;
    for (uint32_t i = 0; i < CT_PARTITIONS; i++)
        if (pawl_partition_bounds(w->log, w->out, i, &b) >= 0)
            say(w, "out %" PRIu32 " %" PRIu64, i, b.durable);
}

typedef struct told {
    const worker *w;
    uint64_t upto;
} told;

static void on_durable(void *arg, int status, const pawl_receipt *receipt) {
    told *t = arg;
    (void)receipt;
    if (status == 0 && !faulty(t->w, "early-ack"))
        say(t->w, "in %" PRIu64, t->upto);
    free(t);
}

static int commit(worker *w, pawl_tx *tx, uint64_t upto) {
    told *t = below(w, 3) != 0 || faulty(w, "early-ack") ? malloc(sizeof *t) : NULL;
    int code;
    if (t != NULL) {
        *t = (told){w, upto};
        code = pawl_commit_async(tx, on_durable, t, NULL);
        if (code < 0)
            free(t);
        if (faulty(w, "early-ack"))
            say(w, "in %" PRIu64, upto);
    } else {
        code = pawl_commit(tx, NULL);
        if (code == 0)
            say(w, "in %" PRIu64, upto);
    }
    if (code == PAWL_FULL || code == PAWL_MEMORY)
        pawl_abort(tx);
    return code;
}

/* How many records the next transaction gets: large ones are spilled. */
static uint64_t choose_count(worker *w) {
    uint64_t r = below(w, 16);
    if (w->work->big)
        return r == 0 ? 1600 : 100 + below(w, 300);
    return r < 3 ? 1 : r == 15 ? 200 : 1 + below(w, 16);
}

static int append(worker *w) {
    pawl_tx *tx;
    uint64_t upto = w->next + choose_count(w);
    say(w, "put %" PRIu64, upto);
    int code = pawl_begin(w->log, &tx);
    if (code < 0)
        return give_up(w, "pawl_begin", code);
    for (uint64_t n = w->next; n < upto && code >= 0; n++) {
        size_t len = ct_record(w->work->seed, n, w->value);
        pawl_record r = {.value = w->value, .value_len = (uint32_t)len};
        if (n == FAULT_AT && faulty(w, "wrong-input"))
            w->value[len / 2] ^= 0x10;
        code = pawl_put(tx, w->in, (uint32_t)(n % CT_PARTITIONS), &r);
    }
    if (code >= 0)
        code = pawl_tx_sequence(tx, w->producer, w->next + 1, upto, NULL, 0);
    if (code < 0) {
        pawl_abort(tx);
        return give_up(w, "adding to a transaction", code);
    }
    code = commit(w, tx, upto);
    if (code < 0)
        return give_up(w, "committing", code);
    w->next = upto;
    return 0;
}

static uint64_t backlog(const worker *w) {
    uint64_t done = 0, position;
    for (uint32_t i = 0; i < CT_PARTITIONS; i++)
        if (pawl_position_get(w->log, "crashtest", w->in, i, &position) >= 0)
            done += position;
    return w->next - done;
}

static int append_all(worker *w) {
    pawl_status s = PAWL_STATUS_INIT;
    while (!w->run_over && pawl_get_status(w->log, &s) >= 0 && s.end_lsn < w->room) {
        if (backlog(w) > BACKLOG_MAX)
            cli_sleep_ms(1);
        else if (append(w) != 0)
            return 1;
        tell_outputs(w);
    }
    return 0;
}

/* ---- a life */

static int live(worker *w) {
    pthread_t runner;
    if (pthread_create(&runner, NULL, run_main, w) != 0) {
        say(w, "fail cannot start a thread");
        return 1;
    }
    int code = w->work->finish ? 0 : append_all(w);
    while (code == 0 && w->work->lingers && !w->run_over)
        cli_sleep_ms(5); /* the idle witness gets its turn */
    if (!w->work->finish)
        pawl_stop(w->log);
    pthread_join(runner, NULL);
    tell_outputs(w);
    return code != 0 || w->run_code < 0;
}

int ct_worker(const ct_work *work) {
    static worker w; /* large; there is one a process */
    w.work = work;
    w.rng = work->rng;
    bool timed = work->kill_ns != UINT64_MAX;
    if ((timed && !work->after_open && arm(&w) != 0) || open_log(&w) != 0 ||
        (timed && work->after_open && arm(&w) != 0))
        return 1;
    int status = make_tables(&w) != 0 || live(&w) != 0;
    pawl_producer_close(w.producer);
    int code = pawl_close(w.log);
    if (code < 0)
        status = give_up(&w, "pawl_close", code);
    return status;
}
