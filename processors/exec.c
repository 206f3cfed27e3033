/* SPDX-License-Identifier: Apache-2.0
 *
 * exec.c - any program as a processor, as `pawl pipe` runs it: a batch on its standard input,
 * a line each; all lines of its standard output are committed with the position, or nothing is.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connectors/exec/child.h"
#include "processors/proc.h"

typedef struct exec {
    struct child_program *program;
    uint64_t timeout_ms;
    uint8_t log_id[16];
    struct fence_memory memory; /* shared by the threads of all partitions */
} exec;

static const pawl_setting_info settings[] = {
    PROC_TO,
    CHILD_SETTINGS,
    {"timeout", PAWL_SETTING_TIME, 0, NULL, "0",
     "a run that takes longer is ended and fails; 0: it may take as long as it likes"},
    {NULL, 0, 0, NULL, NULL, NULL},
};
static int make_processor(const pawl_settings *s, pawl_processor_ops *out, pawl_error *err);
const pawl_connector connect_processor_exec = {
    .type = "exec",
    .help = "any program: a batch on its standard input, a record for each line of its standard "
            "output",
    .settings = settings,
    .make_processor = make_processor,
};

static void destroy(void *self) {
    child_program_free(((exec *)self)->program);
    fence_memory_free(&((exec *)self)->memory);
    free(self);
}

static int make(proc *p, const pawl_settings *s, pawl_error *err) {
    exec *x = calloc(1, sizeof *x);
    if (x == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory");
    p->self = x;
    fence_memory_init(&x->memory);
    x->timeout_ms = pawl_setting_number(&connect_processor_exec, s, "timeout");
    return child_program(&connect_processor_exec, s, &x->program, err);
}

static int start(proc *p, pawl *log, pawl_error *err) {
    pawl_status status = PAWL_STATUS_INIT;
    int rc = pawl_get_status(log, &status);
    if (rc < 0)
        return connect_log_error(err, rc);
    memcpy(((exec *)p->self)->log_id, status.log_id, sizeof status.log_id);
    return 0;
}

/* ---- a batch */

typedef struct emission {
    proc *p;
    pawl_context *ctx;
    int code; /* why the log didn't take a line, and how long the line was */
    size_t size;
} emission;

static bool emit_line(void *arg, const char *line, size_t size) {
    emission *e = arg;
    pawl_record r = {.value = line, .value_len = (uint32_t)size};
    e->code = size > UINT32_MAX ? PAWL_TOO_LARGE : proc_emit(e->p, e->ctx, 0, &r, false);
    e->size = size;
    return e->code >= 0;
}

enum { VARIABLES = 5, VARIABLE_SIZE = 512, FENCE_MS = 10000 };

static char *join(const pawl_record *records, size_t count, size_t *size) {
    *size = 0;
    for (size_t i = 0; i < count; i++)
        *size += (size_t)records[i].value_len + 1;
    char *all = malloc(*size), *to = all;
    for (size_t i = 0; all != NULL && i < count; i++) {
        if (records[i].value_len > 0)
            memcpy(to, records[i].value, records[i].value_len);
        to += records[i].value_len;
        *to++ = '\n';
    }
    return all;
}

/* The variables; false: no memory. */
static bool set_environment(const proc *p, const char *token, const pawl_record *first,
                            const pawl_record *last, char text[VARIABLES][VARIABLE_SIZE],
                            char ***env) {
    const char *stream = "", *ours[VARIABLES];
    for (uint32_t i = 0; i < p->input_count; i++)
        if (p->inputs[i].id == first->stream)
            stream = p->inputs[i].name;
    snprintf(text[0], VARIABLE_SIZE, "PAWL_STREAM=%s", stream);
    snprintf(text[1], VARIABLE_SIZE, "PAWL_PARTITION=%" PRIu32, first->partition);
    snprintf(text[2], VARIABLE_SIZE, "PAWL_FROM=%" PRIu64, first->offset);
    snprintf(text[3], VARIABLE_SIZE, "PAWL_TO=%" PRIu64, last->offset + 1);
    fence_variable(token, text[4], VARIABLE_SIZE);
    for (size_t i = 0; i < VARIABLES; i++)
        ours[i] = text[i];
    *env = child_environment(((const exec *)p->self)->program, ours, VARIABLES);
    return *env != NULL;
}

/* What a failed run says of the records. It doesn't tell which one it was: where it may be one of
 * them, they are tried one by one. */
static void judge(pawl_context *ctx, const struct child_result *r, const char *why) {
    switch (child_says(r)) {
    case CHILD_LATER:
        pawl_try_later(ctx, why);
        break;
    case CHILD_DATA:
        pawl_refuse(ctx, 0, why);
        break;
    case CHILD_BROKEN:
        pawl_broken(ctx, why);
        break;
    case CHILD_FAILED:
        pawl_fail(ctx, 0, why);
        break;
    }
}

static int process(proc *p, pawl_context *ctx, const pawl_record *records, size_t count) {
    exec *x = p->self;
    char variables[VARIABLES][VARIABLE_SIZE], why[512], token[FENCE_TOKEN_SIZE];
    uint32_t stream = records[0].stream, partition = records[0].partition;
    uint64_t from = records[0].offset, to = records[count - 1].offset + 1;
    emission e = {.p = p, .ctx = ctx};
    struct child_job j = {.program = x->program,
                          .timeout_ms = x->timeout_ms,
                          .line = emit_line,
                          .arg = &e,
                          .fence = token,
                          .follows = fence_follows(&x->memory, stream, partition, from),
                          .fence_ms = FENCE_MS};
    struct child_result r = {.error = ENOMEM};
    char *input = join(records, count, &j.input_size);
    j.input = input;
    fence_token(token, x->log_id, p->name, stream, partition, from);
    if (input != NULL &&
        set_environment(p, token, &records[0], &records[count - 1], variables, &j.env))
        child_run(&j, &r);
    free(input);
    free((void *)j.env);
    fence_done(&x->memory, stream, partition, child_succeeded(&r) ? to : FENCE_UNSURE);
    if (child_succeeded(&r))
        return 0;
    child_why(&j, &r, why, sizeof why);
    if (r.refused) {
        size_t n = strlen(why);
        snprintf(why + n, sizeof why - n, ", of %zu bytes: %s", e.size, pawl_strerror(e.code));
    }
    judge(ctx, &r, why);
    return r.refused ? e.code : PAWL_PROCESSOR;
}

static const proc_type type = {
    .flags = PAWL_PROCESSOR_ACTS_OUTSIDE,
    .make = make,
    .start = start,
    .process = process,
    .destroy = destroy,
};

static int make_processor(const pawl_settings *s, pawl_processor_ops *out, pawl_error *err) {
    return proc_make(&connect_processor_exec, &type, s, out, err);
}
