/* SPDX-License-Identifier: Apache-2.0
 *
 * child.h - runs a program once, with given bytes on its stdin, and hands out the lines of its
 * stdout.
 */
#ifndef PAWL_PROCESSORS_CHILD_H
#define PAWL_PROCESSORS_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct child_result {
    int start_errno; /* not 0: it could not be started, or fed */
    int status;      /* as of waitpid(); meaningful only if started */
    bool refused;    /* the line callback said no; the program was killed */
    bool late;       /* it took too long; it was killed */
} child_result;

/* Gets a line without its newline; false ends it all. */
typedef bool (*child_line_fn)(void *arg, const char *line, size_t size);

/* Runs program[0], looked up in PATH, in a process group of its own (so that a Ctrl-C meant for
 * pawl lets the batch at hand finish), with environment `env`. Input and output flow at the same
 * time, so neither side can block the other. That the program doesn't read all its input is no
 * error. timeout_ms: how long it may take until its output has ended; 0: as long as it likes. */
void child_run(char **program, char **env, const char *input, size_t input_size,
               uint64_t timeout_ms, child_line_fn line, void *arg, child_result *result);

#endif
