/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs a program once, with given bytes on its standard input. The caller gets its standard output
 * line by line, or it goes to our standard error. The program gets nothing of ours that is not
 * stated here: see `struct child_program` and birth.h.
 */
#ifndef PAWL_CONNECTORS_CHILD_H
#define PAWL_CONNECTORS_CHILD_H

#include <sys/types.h>

#include "connectors/exec/fence.h"
#include "connectors/runtime/connect.h"

/* Where a program is looked for that is named without a slash, and the PATH that it gets. */
#define CHILD_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define CHILD_FILE_SIZE 4096
#define CHILD_LIMITS 8

/* What becomes of the process before it runs the program. */
struct child_rules {
    bool may_gain;          /* privileges, by set-user-id programs and the like */
    bool as_user, as_group; /* it gets another user; other groups */
    uid_t user;
    gid_t group, *groups;
    size_t group_count;
    struct {
        int what; /* RLIMIT_... */
        struct child_limit {
            uint64_t now, most;
        } most;
    } limits[CHILD_LIMITS];
    size_t limit_count;
};

/* A program, from settings. Nothing changes it once it is made. */
struct child_program {
    char **argv;   /* NULL-terminated */
    char **env;    /* the variables that do not depend on the run; NULL-terminated */
    bool lets_end; /* survivors: wait */
    struct child_rules rules;
};

/* Gets a line without its newline. False: kill the program. */
typedef bool (*child_line_fn)(void *arg, const char *line, size_t size);

struct child_job {
    const struct child_program *program;
    char **env; /* from child_environment() */
    const char *input;
    size_t input_size;
    uint64_t timeout_ms; /* for the whole run; 0: no limit */
    child_line_fn line;  /* NULL: its output goes to our standard error */
    void *arg;
    const char *fence; /* token of this work (fence.h); NULL: no fence */
    bool follows;      /* this process ran the work before it, so nothing has to be looked for */
    uint64_t fence_ms; /* how long to wait for its end */
};

struct child_result {
    int error;      /* errno; not 0: the program could not be started, fed or read */
    int status;     /* from waitpid(); valid only if the program was started */
    bool refused;   /* line() returned false, and the program was killed */
    bool late;      /* the time limit passed, and the program was killed */
    char left[200]; /* not "": the program was not run, since these processes have not ended */
};

/* Runs the program and returns after it has ended and was reaped. It gets its own session: Ctrl-C
 * for pawl lets the current batch finish, the program has no terminal, and killing its group ends
 * its children too. Input and output flow at the same time, so neither side can block the other. A
 * program that doesn't read all its input is no error. Safe in a library: SIGPIPE is blocked in the
 * calling thread meanwhile. If this process dies, the program is killed. */
void child_run(const struct child_job *j, struct child_result *r);
/* The program was started, nothing failed, and its status is 0. */
bool child_succeeded(const struct child_result *r);
/* What a run says that has not succeeded. */
enum child_says {
    CHILD_LATER,  /* status 75 (EX_TEMPFAIL), or it wasn't run, for a reason that passes */
    CHILD_DATA,   /* 65 (EX_DATAERR): a record can't be taken */
    CHILD_BROKEN, /* 78 (EX_CONFIG), or it can't be run (also 126, 127): an operator has to look */
    CHILD_FAILED  /* anything else: another status, a signal, too late, a line that wasn't taken */
};
enum child_says child_says(const struct child_result *r);
/* Writes the reason, as a sentence, if child_succeeded() is false. */
void child_why(const struct child_job *j, const struct child_result *r, char *text, size_t size);

/* The program's environment for a run, where each of `ours` ("NAME=value") replaces the variable of
 * that name. The caller frees the array, but not the strings, which aren't copied. NULL: no
 * memory. */
char **child_environment(const struct child_program *p, const char *const *ours, size_t count);
/* The program's file, as its PATH says now; directories in it that are not absolute don't count.
 * Returns 0 or an errno. */
int child_find(const struct child_program *p, char out[CHILD_FILE_SIZE]);

/* The settings of a program. */
// clang-format off
#define CHILD_SETTINGS \
    {"command", PAWL_SETTING_TEXT, 0, NULL, NULL, "a command line for /bin/sh"}, \
    {"command.*", PAWL_SETTING_TEXT, 0, NULL, NULL, "or a program and its arguments, as a list"}, \
    {"survivors", PAWL_SETTING_CHOICE, 0, "kill|wait", "kill", \
     "processes of a run that a crash of pawl cut off: kill them before that work is repeated, " \
     "or wait for their end"}, \
    {"environment.*", PAWL_SETTING_TEXT, 0, NULL, NULL, \
     "a list: NAME passes a variable of pawl's, NAME=value sets one, * passes all"}, \
    {"user", PAWL_SETTING_TEXT, 0, NULL, NULL, "runs it as this user; pawl must be root"}, \
    {"group", PAWL_SETTING_TEXT, 0, NULL, NULL, \
     "with this group only, instead of those of the user"}, \
    {"new_privileges", PAWL_SETTING_BOOL, 0, NULL, "false", \
     "whether it may gain some, as by sudo"}, \
    {"limits.memory", PAWL_SETTING_SIZE, 0, NULL, "0", \
     "of each of its processes: address space; 0: pawl's own limit, also below"}, \
    {"limits.files", PAWL_SETTING_NUMBER, 0, NULL, "0", "open descriptors"}, \
    {"limits.file_size", PAWL_SETTING_SIZE, 0, NULL, "0", "of a file that it writes"}, \
    {"limits.processes", PAWL_SETTING_NUMBER, 0, NULL, "0", "of its user, all together"}, \
    {"limits.cpu", PAWL_SETTING_TIME, 0, NULL, "0", "processor time"}
// clang-format on
/* Makes the program of the settings. The caller frees it with child_program_free(), which accepts
 * NULL, also after an error.
 * Errors: INVALID, MEMORY. */
int child_program(const pawl_connector *c, const pawl_settings *s, struct child_program **out,
                  pawl_error *err);
void child_program_free(struct child_program *program);

#endif
