/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs a program once, with given bytes on its standard input. Its standard output comes back line
 * by line, or goes to our standard error.
 */
#ifndef PAWL_CONNECTORS_CHILD_H
#define PAWL_CONNECTORS_CHILD_H

#include "connectors/runtime/connect.h"

/* Gets a line without its newline; false: the program is killed. */
typedef bool (*child_line_fn)(void *arg, const char *line, size_t size);

struct child_job {
    char **program; /* NULL-terminated; program[0] is looked up in PATH */
    char **env;
    const char *input;
    size_t input_size;
    uint64_t timeout_ms; /* for all of it; 0: none */
    child_line_fn line;  /* NULL: its output goes to our standard error */
    void *arg;
};

struct child_result {
    int error;    /* errno; not 0: it could not be started, fed or read */
    int status;   /* as of waitpid(); meaningful only if it was started */
    bool refused; /* line() said no, and it was killed */
    bool late;    /* the time was over, and it was killed */
};

/* The program gets a process group of its own: a Ctrl-C for pawl lets the batch at hand finish, and
 * killing it ends what it started too. Input and output flow at the same time, so neither side can
 * block the other. It is no error if the program doesn't read all its input. On return it has ended
 * and was waited for. Safe in a library: SIGPIPE is kept from the calling thread meanwhile. */
void child_run(const struct child_job *j, struct child_result *r);
/* It was started, all went well, and its status is 0. */
bool child_succeeded(const struct child_result *r);
/* Otherwise: why, in a sentence. */
void child_why(const struct child_job *j, const struct child_result *r, char *text, size_t size);

/* This process's environment, with `ours` ("NAME=value") in the place of variables of these names.
 * An array to be freed, of strings that aren't copied; NULL: no memory. */
char **child_environment(const char *const *ours, size_t count);

/* A program as a setting. */
#define CHILD_SETTINGS \
    {"command", PAWL_SETTING_TEXT, 0, NULL, NULL, "a command line for /bin/sh"}, { \
        "command.*", PAWL_SETTING_TEXT, 0, NULL, NULL, "or a program and its arguments, as a list" \
    }
/* The program of the settings, to be freed by child_program_free() (which takes NULL).
 * Errors: INVALID, MEMORY. */
int child_program(const pawl_settings *s, char ***out, pawl_error *err);
void child_program_free(char **program);

#endif
