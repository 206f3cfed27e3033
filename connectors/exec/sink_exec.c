/* SPDX-License-Identifier: Apache-2.0
 *
 * A program as a sink. It is run for each batch, gets the records on its standard input and the
 * batch's name in its environment. Idempotent with stable batches: a redelivered batch has the same
 * name and the same records, so a program that remembers names delivers exactly once.
 *
 * Its exit status is the outcome:
 *   0         the batch is delivered, durably
 *   65        (EX_DATAERR) a record can't be taken: the runtime halves the batch until it is found
 *   78        (EX_CONFIG) stop: an operator has to look
 *   126, 127  the program can't be run: stop
 *   a crash   (a signal such as SIGSEGV) at one batch, CRASHES times in a row: as 65, because a
 *             record may be the cause
 *   other, another signal, or a timeout: retry later
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "connectors/exec/child.h"
#include "connectors/text/encode.h"

struct exec {
    struct child_program *program;
    struct encoding encoding;
    uint64_t timeout_ms;
    struct fence_memory memory;
    struct buffer buffer;
    /* the batch at which it crashed last, and how often in a row */
    uint32_t crash_stream, crash_partition, crashes;
    uint64_t crash_from, crash_to;
};

static const pawl_setting_info settings[] = {
    CHILD_SETTINGS,
    {"timeout", PAWL_SETTING_TIME, 0, NULL, "60s",
     "it is ended (with what it started) if it takes longer"},
    ENCODE_SETTINGS,
    {NULL, 0, 0, NULL, NULL, NULL},
};
static int make_sink(const pawl_settings *s, pawl_sink_ops *out, pawl_error *err);
const pawl_connector connect_sink_exec = {
    .type = "exec",
    .help = "a program that is given each batch on its standard input",
    .settings = settings,
    .make_sink = make_sink,
};

/* ---- running the program */

enum { VARIABLES = 7, FENCE_MS = 2000, CRASHES = 5 };

static bool is_crash(const struct child_result *r) {
    static const int signals[] = {SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGFPE, SIGSYS};
    bool found = false;
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        found |= WIFSIGNALED(r->status) && WTERMSIG(r->status) == signals[i];
    return found;
}

/* The program has crashed at this batch. True: it was often enough to look for the record. Of a
 * batch that was halved for this once is enough. */
static bool crashed(struct exec *x, const pawl_sink_batch *b) {
    bool within = x->crashes != 0 && x->crash_stream == b->stream_id &&
                  x->crash_partition == b->partition && x->crash_from <= b->from &&
                  b->to <= x->crash_to;
    if (!within) {
        x->crash_stream = b->stream_id;
        x->crash_partition = b->partition;
        x->crash_from = b->from;
        x->crash_to = b->to;
    }
    x->crashes = within ? x->crashes + 1 : 1;
    return x->crashes >= CRASHES;
}

static int judge(struct exec *x, const pawl_sink_batch *b, const struct child_job *j,
                 const struct child_result *r, pawl_fault *f) {
    char why[sizeof f->message];
    if (child_succeeded(r))
        return PAWL_DONE;
    enum child_says says = child_says(r);
    bool poison =
        says == CHILD_DATA || (says == CHILD_FAILED && !r->late && is_crash(r) && crashed(x, b));
    child_why(j, r, why, sizeof why);
    return pawl_fault_set(f,
                          poison                 ? PAWL_POISON
                          : says == CHILD_BROKEN ? PAWL_FATAL
                                                 : PAWL_RETRY,
                          "%s", why);
}

static int run(struct exec *x, const pawl_sink_batch *b, pawl_fault *f) {
    char text[VARIABLES][512], token[FENCE_TOKEN_SIZE];
    const char *ours[VARIABLES];
    snprintf(text[0], sizeof text[0], "PAWL_BATCH=%s", b->name);
    snprintf(text[1], sizeof text[1], "PAWL_STREAM=%s", b->stream);
    snprintf(text[2], sizeof text[2], "PAWL_PARTITION=%" PRIu32, b->partition);
    snprintf(text[3], sizeof text[3], "PAWL_FROM=%" PRIu64, b->from);
    snprintf(text[4], sizeof text[4], "PAWL_TO=%" PRIu64, b->to);
    snprintf(text[5], sizeof text[5], "PAWL_REDELIVERY=%" PRIu32, b->redelivery);
    fence_token(token, b->log_id, b->sink, b->stream_id, b->partition, b->from);
    fence_variable(token, text[6], sizeof text[6]);
    for (size_t i = 0; i < VARIABLES; i++)
        ours[i] = text[i];
    struct child_job j = {.program = x->program,
                          .env = child_environment(x->program, ours, VARIABLES),
                          .input = x->buffer.bytes,
                          .input_size = x->buffer.len,
                          .timeout_ms = x->timeout_ms,
                          .fence = token,
                          .follows = fence_follows(&x->memory, b->stream_id, b->partition, b->from),
                          .fence_ms = FENCE_MS};
    struct child_result r = {.error = ENOMEM};
    if (j.env != NULL)
        child_run(&j, &r);
    free((void *)j.env);
    fence_done(&x->memory, b->stream_id, b->partition, child_succeeded(&r) ? b->to : FENCE_UNSURE);
    return judge(x, b, &j, &r, f);
}

/* ---- the sink */

static int exec_begin(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    struct exec *x = self;
    (void)b, (void)f;
    x->buffer.len = 0;
    return PAWL_DONE;
}

static int exec_open(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    return exec_begin(self, b, f);
}

static int exec_write(void *self, const pawl_sink_batch *b, const pawl_record *records,
                      size_t count, pawl_fault *f) {
    struct exec *x = self;
    int outcome = PAWL_DONE;
    (void)b;
    for (size_t i = 0; i < count && outcome == PAWL_DONE; i++)
        outcome = encode_record(&x->buffer, &x->encoding, &records[i], f);
    return outcome;
}

static int exec_commit(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    return run(self, b, f);
}

static void exec_abort(void *self) {
    ((struct exec *)self)->buffer.len = 0;
}

static void exec_destroy(void *self) {
    struct exec *x = self;
    child_program_free(x->program);
    fence_memory_free(&x->memory);
    buffer_free(&x->buffer);
    free(x);
}

static int make_sink(const pawl_settings *set, pawl_sink_ops *out, pawl_error *err) {
    struct exec *x = calloc(1, sizeof *x);
    if (x == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory for a sink");
    fence_memory_init(&x->memory);
    int rc = child_program(&connect_sink_exec, set, &x->program, err);
    if (rc < 0) {
        exec_destroy(x);
        return rc;
    }
    encode_settings(&connect_sink_exec, set, &x->encoding);
    x->timeout_ms = pawl_setting_number(&connect_sink_exec, set, "timeout");
    out->kind = PAWL_SINK_IDEMPOTENT;
    out->flags = PAWL_SINK_STABLE;
    out->type = "exec";
    out->self = x;
    out->open = exec_open;
    out->begin = exec_begin;
    out->write = exec_write;
    out->commit = exec_commit;
    out->abort = exec_abort;
    out->destroy = exec_destroy;
    return 0;
}
