/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs a program once, with given bytes on its standard input. The caller gets its standard output
 * line by line, or it goes to our standard error.
 */
#ifndef PAWL_CONNECTORS_CHILD_H
#define PAWL_CONNECTORS_CHILD_H

#include "connectors/exec/fence.h"
#include "connectors/runtime/connect.h"

/* Gets a line without its newline. False: kill the program. */
typedef bool (*child_line_fn)(void *arg, const char *line, size_t size);

struct child_job {
    char **program; /* NULL-terminated; program[0] is looked up in PATH */
    char **env;
    const char *input;
    size_t input_size;
    uint64_t timeout_ms; /* for the whole run; 0: no limit */
    child_line_fn line;  /* NULL: its output goes to our standard error */
    void *arg;
    const char *fence; /* token of this work (fence.h); NULL: no fence */
    bool follows;      /* this process ran the work before it, so nothing has to be looked for */
    bool lets_end;     /* what an earlier run left may end by itself; else it is killed */
    uint64_t fence_ms; /* how long to wait for its end */
};

struct child_result {
    int error;      /* errno; not 0: the program could not be started, fed or read */
    int status;     /* from waitpid(); valid only if the program was started */
    bool refused;   /* line() returned false, and the program was killed */
    bool late;      /* the time limit passed, and the program was killed */
    char left[200]; /* not "": the program was not run, since these processes have not ended */
};

/* Runs the program and returns after it has ended and was reaped. It gets its own process group:
 * Ctrl-C for pawl lets the current batch finish, and killing the group ends the program's children
 * too. Input and output flow at the same time, so neither side can block the other. A program that
 * doesn't read all its input is no error. Safe in a library: SIGPIPE is blocked in the calling
 * thread meanwhile. If this process dies, the program is killed. */
void child_run(const struct child_job *j, struct child_result *r);
/* The program was started, nothing failed, and its status is 0. */
bool child_succeeded(const struct child_result *r);
/* Writes the reason, as a sentence, if child_succeeded() is false. */
void child_why(const struct child_job *j, const struct child_result *r, char *text, size_t size);

/* This process's environment, where each of `ours` ("NAME=value") replaces the variable of that
 * name. The caller frees the array, but not the strings, which aren't copied. NULL: no memory. */
char **child_environment(const char *const *ours, size_t count);

/* The settings that name a program. */
#define CHILD_SETTINGS \
    {"command", PAWL_SETTING_TEXT, 0, NULL, NULL, "a command line for /bin/sh"}, \
        {"command.*", PAWL_SETTING_TEXT, \
         0,           NULL, \
         NULL,        "or a program and its arguments, as a list"}, \
    { \
        "survivors", PAWL_SETTING_CHOICE, 0, "kill|wait", "kill", \
            "processes of a run that a crash of pawl cut off: kill them before that work is " \
            "repeated, or wait for their end" \
    }
/* Does the setting say "wait"? */
bool child_survivors_end(const pawl_connector *c, const pawl_settings *s);
/* The program of the settings. The caller frees it with child_program_free(), which accepts NULL.
 * Errors: INVALID, MEMORY. */
int child_program(const pawl_settings *s, char ***out, pawl_error *err);
void child_program_free(char **program);

#endif
