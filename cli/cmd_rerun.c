/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_rerun.c - `pawl replay-check` and `pawl rehearse`: processors of a pipeline file run once
 * more over the input that they have committed, in a log beside, and what comes out is compared.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/run/config.h"
#include "pawl_state.h"

enum { PIPELINE, WORK, FROM };

typedef struct rerun {
    const cli_args *args;
    const char *dir, *from; /* the log; a savepoint of it, or NULL */
    char work[4096];        /* the log beside */
    const config *c;
    pawl *original, *again;
    uint64_t from_lsn;
} rerun;

/* ---- the log beside: it is ours as long as we made it */

static bool is_ours(const char *name) {
    const char *dot = strrchr(name, '.');
    return strcmp(name, "lock") == 0 ||
           (dot != NULL && (strcmp(dot, ".seg") == 0 || strcmp(dot, ".run") == 0));
}

static void remove_work(const rerun *r) {
    int fd = open(r->work, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *e;
    while (d != NULL && (e = readdir(d)) != NULL)
        if (is_ours(e->d_name))
            unlinkat(dirfd(d), e->d_name, 0);
    if (d != NULL)
        closedir(d);
    if (rmdir(r->work) != 0)
        cli_error("%s can't be removed: %s", r->work, strerror(errno));
}

/* Of a new log: those that the processor didn't make itself when it was attached. */
static int make_tables(rerun *r, const char *processor) {
    pawl_table_info t = PAWL_TABLE_INFO_INIT;
    int code = 0;
    for (uint32_t i = 0; code == 0 && pawl_table_at(r->original, i, &t) == 0; i++) {
        if (strcmp(t.owner_name, processor) != 0)
            continue;
        pawl_table_config c = PAWL_TABLE_CONFIG_INIT;
        c.name = t.name, c.owner = processor;
        c.partitions = t.partitions, c.version = t.version, c.flags = t.flags, c.ttl_ms = t.ttl_ms;
        code = pawl_table_create(r->again, &c, NULL);
        code = code == PAWL_EXISTS ? 0 : code;
    }
    return code;
}

/* A new log, like the original before its first record. */
static int make_empty(rerun *r, const char *processor) {
    pawl_status st = PAWL_STATUS_INIT;
    pawl_stream_info s;
    int code = pawl_get_status(r->original, &st);
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_CREATE | PAWL_OPEN_EXCLUSIVE;
    o.segment_size = st.segment_size;
    o.memory_cap = UINT64_C(128) << 20;
    if (code == 0)
        code = pawl_open(r->work, &o, &r->again, NULL);
    for (uint32_t i = 0; code == 0 && pawl_stream_at(r->original, i, &s) == 0; i++)
        code = pawl_stream_create(r->again, s.name, s.partitions, NULL);
    return code < 0 ? code : pawl_processor_register(r->again, processor, NULL);
}

static int make_fork(rerun *r) {
    pawl_savepoint_info info = PAWL_SAVEPOINT_INIT;
    info.flags = PAWL_SAVEPOINT_QUICK;
    int code = pawl_fork(r->from, r->work, &info, NULL);
    r->from_lsn = info.lsn;
    pawl_options o = PAWL_OPTIONS_INIT;
    o.memory_cap = UINT64_C(128) << 20;
    return code < 0 ? code : pawl_open(r->work, &o, &r->again, NULL);
}

/* Streams that the file has and the log hasn't. */
static int make_streams(rerun *r) {
    for (size_t i = 0; i < r->c->stream_count; i++) {
        int code =
            pawl_stream_create(r->again, r->c->streams[i].name, r->c->streams[i].partitions, NULL);
        if (code < 0 && code != PAWL_EXISTS)
            return code;
    }
    return 0;
}

/* ---- a processor */

static int attach(rerun *r, const flow_config *w, pawl_processor **out) {
    uint32_t ids[64];
    pawl_stream_info s;
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    for (uint32_t i = 0; i < w->input_count; i++) {
        int code = pawl_stream_find(r->again, w->inputs[i], &s);
        if (code < 0)
            return code;
        ids[i] = s.id;
    }
    c.name = w->name, c.inputs = ids, c.input_count = w->input_count;
    c.guarantee = w->guarantee;
    c.on_error = w->on_error;
    if (w->dead_letter != NULL && pawl_stream_find(r->again, w->dead_letter, &s) == 0)
        c.dead_letter = s.id;
    c.retries = w->retries;
    c.backoff_ms = w->backoff_ms != 0 ? w->backoff_ms : c.backoff_ms;
    return pawl_processor_attach(r->again, &c, &w->ops, out, NULL);
}

static void tell(const rerun *r, const char *name, int answer, const pawl_replay_info *i) {
    if (answer == 0) {
        cli_printf("%s: the same in all of %" PRIu64 " commits: %" PRIu64 " records in, %" PRIu64
                   " out, %" PRIu64 " digests\n",
                   name, i->commits, i->records, i->outputs, i->sums);
        if (i->commits == 0)
            cli_printf("%s: it has committed nothing%s\n", name,
                       r->from != NULL ? " since the savepoint" : "");
        return;
    }
    cli_printf("%s: DIFFERS at LSN %" PRIu64 ", in its commit no. %" PRIu64 "%s: %s\n", name,
               i->lsn, i->commits, r->from != NULL ? " since the savepoint" : "", i->what);
}

/* 0, 1 if it differs, or an error. */
static int run_one(rerun *r, const flow_config *w) {
    pawl_processor *processor = NULL;
    pawl_replay_info info = PAWL_REPLAY_INIT;
    cli_progress progress;
    int code = r->from != NULL ? make_fork(r) : make_empty(r, w->name);
    if (code == 0)
        code = make_streams(r);
    if (code == 0)
        code = attach(r, w, &processor);
    if (code == 0 && r->from == NULL)
        code = make_tables(r, w->name);
    cli_progress_begin(&progress, w->name);
    info.from_lsn = r->from_lsn;
    info.progress = cli_progress_call;
    info.arg = &progress;
    if (code == 0)
        code = pawl_replay_check(r->original, r->again, w->name, &info);
    cli_progress_clear(&progress);
    pawl_error e;
    pawl_last_error(&e);
    if (code >= 0)
        tell(r, w->name, code, &info);
    else
        cli_error("%s can't be checked: %s", w->name,
                  e.code == code && e.message[0] != '\0' ? e.message : pawl_strerror(code));
    pawl_processor_remove(processor);
    bool made = r->again != NULL || code != PAWL_EXISTS;
    int closed = pawl_close(r->again);
    r->again = NULL;
    struct stat st;
    if (made && lstat(r->work, &st) == 0)
        remove_work(r);
    return code < 0 ? code : closed < 0 ? closed : code;
}

/* ---- the commands */

static const config *find_pipeline(const config_file *f, const char *name) {
    for (size_t i = 0; i < f->count; i++)
        for (size_t k = 0; k < f->pipelines[i].flow_count; k++)
            if (f->pipelines[i].flows[k].kind == FLOW_PROCESSOR &&
                (name == NULL || strcmp(f->pipelines[i].flows[k].name, name) == 0))
                return &f->pipelines[i];
    return NULL;
}

static bool in_log(rerun *r, const char *name) {
    char is[128];
    uint32_t id;
    for (uint32_t i = 0; pawl_processor_at(r->original, i, &id, is) == 0; i++)
        if (strcmp(is, name) == 0)
            return true;
    return false;
}

/* `name`: NULL for all. */
static int run_all(rerun *r, const char *name) {
    int exit_code = CLI_OK;
    for (size_t i = 0; i < r->c->flow_count; i++) {
        const flow_config *w = &r->c->flows[i];
        if (w->kind != FLOW_PROCESSOR || (name != NULL && strcmp(w->name, name) != 0))
            continue;
        if (name == NULL && !in_log(r, w->name))
            cli_printf("%s: is new, so there is nothing to compare it with\n", w->name);
        else if (run_one(r, w) != 0)
            exit_code = CLI_PROBLEM;
        cli_flush();
    }
    return exit_code;
}

static int with_file(rerun *r, const config_file *f, const char *name) {
    const cli_args *a = r->args;
    r->c = find_pipeline(f, name);
    if (r->c == NULL) {
        cli_error("%s has no processor%s%s", f->path, name != NULL ? " " : "",
                  name != NULL ? name : "");
        return CLI_PROBLEM;
    }
    struct stat st;
    if (lstat(r->work, &st) == 0) {
        cli_error("%s is in the way: remove it, or name another place with --work", r->work);
        return CLI_PROBLEM;
    }
    int exit_code = cli_open(a, r->dir, PAWL_OPEN_READ, &r->original);
    if (exit_code != CLI_OK)
        return exit_code;
    return cli_close(r->original, r->dir, run_all(r, name));
}

static int begin(rerun *r, const char *name) {
    const cli_args *a = r->args;
    config_file f;
    if (a->value[PIPELINE] == NULL)
        return cli_usage(a, "which code? Name a pipeline file with --pipeline");
    size_t length = strlen(r->dir);
    while (length > 1 && r->dir[length - 1] == '/')
        length--;
    if (a->value[WORK] != NULL)
        cli_text(r->work, sizeof r->work, "%s", a->value[WORK]);
    else
        snprintf(r->work, sizeof r->work, "%.*s.rerun", (int)length, r->dir);
    int exit_code = CLI_PROBLEM;
    if (config_load(&f, a->value[PIPELINE], cli_config_problem,
                    (void *)(uintptr_t)a->value[PIPELINE]) == 0) {
        cli_programs_begin();
        exit_code = with_file(r, &f, name);
        cli_programs_end();
    }
    config_free(&f);
    return cli_finish_output(exit_code);
}

static int run_check(cli_args *a) {
    rerun r = {.args = a, .dir = a->positional[0], .from = a->value[FROM]};
    return begin(&r, a->positional[1]);
}

static int run_rehearse(cli_args *a) {
    rerun r = {.args = a, .dir = a->positional[0], .from = a->positional[1]};
    return begin(&r, NULL);
}

static const cli_option rehearse_options[] = {
    [PIPELINE] = {"pipeline", "FILE", "the file that has the processors"},
    [WORK] = {"work", "PATH", "a directory to make, work in and remove (DIR.rerun)"},
    {NULL, NULL, NULL},
};
static const cli_option check_options[] = {
    [PIPELINE] = {"pipeline", "FILE", "the file that has the processor"},
    [WORK] = {"work", "PATH", "a directory to make, work in and remove (DIR.rerun)"},
    [FROM] = {"from", "SAVEPOINT", "begin there (the beginning of the log)"},
    {NULL, NULL, NULL},
};

const cli_command cli_replay_check = {
    .name = "replay-check",
    .synopsis = "DIR PROCESSOR --pipeline FILE [--from SAVEPOINT] [--work PATH]",
    .summary = "Run a processor again over its committed input, and compare",
    .details =
        "Outputs are compared record by record, digests of its tables after each commit. The\n"
        "first that differs is named, and the exit code is then 1: the processor isn't\n"
        "deterministic, or isn't what it was. DIR is only read; a writer may go on.",
    .options = check_options,
    .min = 2,
    .max = 2,
    .opens = true,
    .run = run_check,
};

const cli_command cli_rehearse = {
    .name = "rehearse",
    .synopsis = "DIR SAVEPOINT --pipeline FILE [--work PATH]",
    .summary = "Try new code on a fork, over the input since a savepoint",
    .details =
        "Each processor of the file runs on a fork of the savepoint of its own, over the input "
        "that\n"
        "it has committed in DIR since, and its outputs and digests are compared with those in\n"
        "DIR. The first that differs is named, for each processor. Sources and sinks don't run.\n"
        "DIR is only read; a writer may go on.",
    .options = rehearse_options,
    .min = 2,
    .max = 2,
    .opens = true,
    .run = run_rehearse,
};
