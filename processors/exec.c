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
#include <sys/wait.h>
#include <unistd.h>

#include "processors/child.h"
#include "processors/proc.h"

#define ARGUMENTS_MAX 256

typedef struct exec {
    char *program[ARGUMENTS_MAX + 1];
    uint64_t timeout_ms;
} exec;

static const pawl_setting_info settings[] = {
    {"command", PAWL_SETTING_TEXT, 0, NULL, NULL, "a command line for /bin/sh"},
    {"command.*", PAWL_SETTING_TEXT, 0, NULL, NULL, "or a program and its arguments, as a list"},
    {"timeout", PAWL_SETTING_TIME, 0, NULL, "0",
     "a run that takes longer is ended and fails; 0: it may take as long as it likes"},
    {NULL, 0, 0, NULL, NULL, NULL},
};

static void destroy(void *self) {
    exec *x = self;
    for (size_t i = 0; x->program[i] != NULL; i++)
        free(x->program[i]);
    free(x);
}

static int make(proc *p, const pawl_settings *s, pawl_error *err) {
    const char *line = pawl_setting_text(&proc_exec.info, s, "command");
    exec *x = calloc(1, sizeof *x);
    if (x == NULL)
        return proc_error(err, PAWL_MEMORY, "no memory");
    p->self = x;
    x->timeout_ms = pawl_setting_number(&proc_exec.info, s, "timeout");
    size_t n = 0, numbered = 0;
    for (size_t i = 0; i < s->count; i++)
        numbered += strncmp(s->items[i].name, "command.", 8) == 0;
    if ((line != NULL) == (numbered != 0) || numbered > ARGUMENTS_MAX)
        return proc_error(
            err, PAWL_INVALID,
            "exec needs a command: a text for /bin/sh, or a list of a program and its arguments");
    const char *shell[] = {"/bin/sh", "-c", line};
    for (; n < 3 && line != NULL; n++)
        x->program[n] = strdup(shell[n]);
    for (char name[24]; n < numbered; n++) { /* in the file's order, which is theirs */
        snprintf(name, sizeof name, "command.%zu", n);
        for (size_t i = 0; i < s->count && x->program[n] == NULL; i++)
            if (strcmp(s->items[i].name, name) == 0)
                x->program[n] = strdup(s->items[i].value);
        if (x->program[n] == NULL)
            return proc_error(err, PAWL_INVALID, "exec: the command has no element %zu", n);
    }
    return x->program[0][0] != 0
               ? 0
               : proc_error(err, PAWL_INVALID, "exec: the program's name is empty");
}

/* ---- a batch */

typedef struct emission {
    proc *p;
    pawl_context *ctx;
    int code;
} emission;

static bool emit_line(void *arg, const char *line, size_t size) {
    emission *e = arg;
    pawl_record r = {.value = line, .value_len = (uint32_t)size};
    e->code = size > UINT32_MAX ? PAWL_TOO_LARGE : proc_emit(e->p, e->ctx, 0, &r, false);
    return e->code >= 0;
}

enum { VARIABLES = 4 };

/* This process's environment with four variables of ours in front: the first of a name is what
 * programs find. */
static char **environment(char text[VARIABLES][160]) {
    size_t count = 0, n = 0;
    while (environ[count] != NULL)
        count++;
    char **all = calloc(count + VARIABLES + 1, sizeof *all);
    for (; all != NULL && n < VARIABLES; n++)
        all[n] = text[n];
    for (size_t i = 0; all != NULL && i < count; i++)
        if (strncmp(environ[i], "PAWL_", 5) != 0)
            all[n++] = environ[i];
    return all;
}

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

static void say_why(const exec *x, const child_result *r, const emission *e, char why[256]) {
    if (r->start_errno != 0)
        snprintf(why, 256, "%s cannot be run: %s", x->program[0], strerror(r->start_errno));
    else if (r->refused)
        snprintf(why, 256, "%s wrote a line that was not taken: %s", x->program[0],
                 pawl_strerror(e->code));
    else if (r->late)
        snprintf(why, 256, "%s took longer than %" PRIu64 " ms", x->program[0], x->timeout_ms);
    else if (WIFSIGNALED(r->status))
        snprintf(why, 256, "%s was ended by signal %d (%s)", x->program[0], WTERMSIG(r->status),
                 strsignal(WTERMSIG(r->status)));
    else
        snprintf(why, 256, "%s ended with status %d", x->program[0], WEXITSTATUS(r->status));
}

static int process(proc *p, pawl_context *ctx, const pawl_record *records, size_t count) {
    exec *x = p->self;
    char variables[VARIABLES][160], why[256];
    const char *stream = "";
    for (uint32_t i = 0; i < p->input_count; i++)
        if (p->inputs[i].id == records[0].stream)
            stream = p->inputs[i].name;
    snprintf(variables[0], sizeof variables[0], "PAWL_STREAM=%s", stream);
    snprintf(variables[1], sizeof variables[1], "PAWL_PARTITION=%" PRIu32,
             pawl_context_partition(ctx));
    snprintf(variables[2], sizeof variables[2], "PAWL_FROM=%" PRIu64, records[0].offset);
    snprintf(variables[3], sizeof variables[3], "PAWL_TO=%" PRIu64, records[count - 1].offset + 1);
    emission e = {.p = p, .ctx = ctx};
    child_result result = {.start_errno = ENOMEM};
    size_t size;
    char *input = join(records, count, &size), **env = environment(variables);
    if (input != NULL && env != NULL)
        child_run(x->program, env, input, size, x->timeout_ms, emit_line, &e, &result);
    free(input);
    free(env);
    if (result.start_errno == 0 && !result.refused && !result.late && WIFEXITED(result.status) &&
        WEXITSTATUS(result.status) == 0)
        return 0;
    say_why(x, &result, &e, why);
    pawl_fail(ctx, 0, why); /* which record it was, the program doesn't tell */
    return result.refused ? e.code : PAWL_PROCESSOR;
}

const proc_type proc_exec = {
    .info = {"exec",
             "any program: a batch on its standard input, a record for each line of its standard "
             "output",
             settings, NULL, NULL},
    .acts_outside = true,
    .needs_to = true,
    .make = make,
    .process = process,
    .destroy = destroy,
};
