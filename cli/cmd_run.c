/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_run.c - `pawl run`: the pipelines of one or several files, in one process.
 *
 *   SIGTERM, SIGINT   end in good order: sources stop, what is in the log goes through, sinks are
 *                     drained
 *   a second one      ends within two seconds, whatever hangs: what isn't done yet is done by the
 *                     next start, as after a crash
 *   SIGHUP            reads the files again; what is well takes the place of what runs
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/run/config.h"
#include "cli/run/pipeline.h"
#include "cli/run/sandbox.h"

enum { UNTIL_IDLE, QUIET, SANDBOX };
static const cli_option options[] = {
    [UNTIL_IDLE] = {"until-idle", NULL,
                    "end, in good order, once sources have ended, or have had nothing for two "
                    "seconds, and everything is delivered"},
    [QUIET] = {"quiet", NULL, "no line of figures on a terminal"},
    [SANDBOX] = {"sandbox", "MODE",
                 "give up system calls that no part needs, and keep the memory from other "
                 "processes: auto (not the calls, where a part runs foreign code), on, or off"},
    {NULL, NULL, NULL},
};

#define TICK_MS 100    /* while something ends, is reloaded, or is waited on to be idle */
#define SHOW_MS 1000   /* the line on a terminal */
#define NOTIFY_MS 5000 /* the status that the service manager shows */
#define HARD_END_MS 2000

typedef struct runner {
    const cli_args *args;
    config_file *files; /* as they run */
    config_file *old;   /* before the last reload: kept until that is done */
    int file_count;
    pipeline *pipelines;
    size_t count;
    int signals; /* signalfd */
    int wake;    /* eventfd: a pipeline has something to tell */
    int ends;    /* how many signals asked for an end */
    bool broken; /* a pipeline couldn't start, and wants that to end all */
    uint64_t hard_end_ns;
    uint64_t notified_ns, shown_ns, watchdog_ns, last_records, last_ns;
} runner;

/* ---- files */

static int load_files(runner *r, config_file **out) {
    config_file *files = calloc((size_t)r->file_count, sizeof *files);
    int code = files != NULL ? CLI_OK : CLI_PROBLEM;
    for (int i = 0; files != NULL && i < r->file_count; i++)
        if (config_load(&files[i], r->args->positional[i], cli_config_problem,
                        r->args->positional[i]) != 0)
            code = CLI_PROBLEM;
    for (int i = 0; code == CLI_OK && i < r->file_count; i++)
        for (int k = 0; k < i; k++)
            for (size_t m = 0; m < files[i].count * files[k].count; m++)
                if (strcmp(files[i].pipelines[m / files[k].count].directory,
                           files[k].pipelines[m % files[k].count].directory) == 0) {
                    cli_error("%s and %s use the same log", files[k].path, files[i].path);
                    code = CLI_PROBLEM;
                }
    *out = files;
    return code;
}

static void free_files(const runner *r, config_file *files) {
    for (int i = 0; files != NULL && i < r->file_count; i++)
        config_free(&files[i]);
    free(files);
}

static config *nth(const runner *r, config_file *files, size_t n) {
    for (int i = 0; i < r->file_count; i++) {
        if (n < files[i].count)
            return &files[i].pipelines[n];
        n -= files[i].count;
    }
    return NULL;
}

/* What can't change while the log is open; a pipeline of which that changed goes on as it was. */
static const char *needs_restart(const config *a, const config *b) {
    if (strcmp(a->directory, b->directory) != 0)
        return "the log's directory";
    if (a->segment_size != b->segment_size || a->disk_cap != b->disk_cap || a->memory != b->memory)
        return "segment_size, disk_cap or memory of the log";
    if (a->socket_mode != b->socket_mode)
        return "socket_mode of the log";
    if (a->backend != b->backend || a->direct != b->direct)
        return "backend or direct of the log";
    for (size_t i = 0; i < a->stream_count; i++)
        for (size_t k = 0; k < b->stream_count; k++)
            if (strcmp(a->streams[i].name, b->streams[k].name) == 0 &&
                a->streams[i].partitions != b->streams[k].partitions)
                return "a stream's partitions";
    return NULL;
}

static unsigned needs_of(const runner *r, const config_file *files) {
    unsigned needs = 0;
    for (int i = 0; i < r->file_count; i++)
        for (size_t k = 0; k < files[i].count; k++)
            needs |= sandbox_needs(&files[i].pipelines[k]);
    return needs;
}

static bool reloading(const runner *r) {
    for (size_t i = 0; i < r->count; i++)
        if (atomic_load(&r->pipelines[i].reloading) != 0)
            return true;
    return false;
}

static void reload(runner *r) {
    config_file *files;
    const char *why = NULL;
    if (r->ends != 0 || reloading(r))
        return;
    run_notify("RELOADING=1\nMONOTONIC_USEC=%" PRIu64 "\nSTATUS=reading its files again",
               cli_now_ns() / 1000);
    int code = load_files(r, &files);
    size_t count = 0;
    for (int i = 0; code == CLI_OK && i < r->file_count; i++)
        count += files[i].count;
    if (code == CLI_OK && count != r->count)
        why = "the number of pipelines";
    if (code == CLI_OK && why == NULL && !sandbox_allows(needs_of(r, files)))
        why = "the sandbox, which has no room for a part that is new";
    for (size_t i = 0; code == CLI_OK && why == NULL && i < r->count; i++)
        why = needs_restart(r->pipelines[i].c, nth(r, files, i));
    if (code != CLI_OK || why != NULL) {
        run_say(2, "reload", "", "%s%s; everything goes on as it was",
                why != NULL ? "a restart is needed to change " : "the files have errors",
                why != NULL ? why : "");
        free_files(r, files);
    } else {
        free_files(r, r->old);
        r->old = r->files;
        r->files = files;
        for (size_t i = 0; i < r->count; i++)
            pipeline_reload(&r->pipelines[i], nth(r, files, i));
    }
    run_notify("READY=1");
}

/* ---- what is shown */

static bool has_line(const runner *r) {
    return r->args->value[QUIET] == NULL && cli_on_terminal();
}

static void show(runner *r, uint64_t now) {
    char text[300] = "";
    uint64_t records = 0;
    for (size_t i = 0; i < r->count && strlen(text) < 200; i++) {
        json_t *s = pipeline_status(&r->pipelines[i]), *one;
        size_t k;
        json_array_foreach(json_object_get(s, "flows"), k, one) {
            const char *state = json_string_value(json_object_get(one, "state"));
            json_int_t n = json_integer_value(json_object_get(one, "records"));
            bool moves = strcmp(state, "running") == 0 || strcmp(state, "idle") == 0 ||
                         strcmp(state, "ended") == 0;
            snprintf(text + strlen(text), sizeof text - strlen(text),
                     "%s %" JSON_INTEGER_FORMAT "%s%s  ",
                     json_string_value(json_object_get(one, "name")), n, moves ? "" : " ",
                     moves ? "" : state);
            records += (uint64_t)n;
            if (strlen(text) > 200)
                break;
        }
        json_decref(s);
    }
    if (r->last_ns != 0 && now > r->last_ns && records >= r->last_records)
        snprintf(text + strlen(text), sizeof text - strlen(text), "(%.0f/s)",
                 (double)(records - r->last_records) * 1e9 / (double)(now - r->last_ns));
    r->last_records = records;
    r->last_ns = now;
    if (has_line(r))
        run_line(text);
    if (now - r->notified_ns >= NOTIFY_MS * UINT64_C(1000000)) {
        run_notify("STATUS=%s", text);
        r->notified_ns = now;
    }
}

/* ---- the loop */

static void end_all(runner *r) {
    r->ends++;
    if (r->ends == 1) {
        run_notify("STOPPING=1\nSTATUS=draining");
        for (size_t i = 0; i < r->count; i++)
            pipeline_end(&r->pipelines[i], true);
        return;
    }
    for (size_t i = 0; i < r->count; i++)
        atomic_store(&r->pipelines[i].drain_until_ns, 0);
    if (r->hard_end_ns == 0)
        r->hard_end_ns = cli_now_ns() + (uint64_t)HARD_END_MS * 1000000;
}

static void take_signals(runner *r) {
    struct signalfd_siginfo s;
    while (read(r->signals, &s, sizeof s) == (ssize_t)sizeof s) {
        if (s.ssi_signo == SIGHUP)
            reload(r);
        else
            end_all(r);
    }
}

static bool all_ended(const runner *r) {
    for (size_t i = 0; i < r->count; i++)
        if (atomic_load(&r->pipelines[i].state) != PIPELINE_ENDED)
            return false;
    return true;
}

static void tick(runner *r) {
    uint64_t now = cli_now_ns(), watchdog = run_watchdog_us() * 1000;
    for (size_t i = 0; i < r->count; i++) {
        pipeline_tick(&r->pipelines[i]);
        if (pipeline_idle(&r->pipelines[i], r->args->value[UNTIL_IDLE] == NULL))
            pipeline_end(&r->pipelines[i], true);
    }
    if (now - r->shown_ns >= SHOW_MS * UINT64_C(1000000) && (has_line(r) || run_notifies())) {
        show(r, now);
        r->shown_ns = now;
    }
    if (watchdog != 0 && now - r->watchdog_ns > watchdog / 3) {
        run_notify("WATCHDOG=1");
        r->watchdog_ns = now;
    }
    /* as safe as a crash: the next start recovers */
    if (r->hard_end_ns != 0 && now > r->hard_end_ns) {
        run_line("");
        cli_error("told to stop twice: ended at once; the next start goes on where the log says");
        _exit(CLI_PROBLEM);
    }
}

/* How long nothing has to be done if nothing happens; -1: for ever. */
static int quiet_ms(runner *r) {
    uint64_t watchdog_ms = run_watchdog_us() / 1000;
    int ms = has_line(r) ? SHOW_MS : run_notifies() ? NOTIFY_MS : -1;
    if (watchdog_ms != 0 && (ms < 0 || watchdog_ms / 3 < (uint64_t)ms))
        ms = (int)(watchdog_ms / 3) + 1;
    bool busy = r->args->value[UNTIL_IDLE] != NULL || r->hard_end_ns != 0;
    for (size_t i = 0; i < r->count; i++) {
        int state = atomic_load(&r->pipelines[i].state);
        busy = busy || (state != PIPELINE_RUNNING && state != PIPELINE_ENDED) ||
               atomic_load(&r->pipelines[i].reloading) != 0 ||
               pipeline_sources_over(&r->pipelines[i]);
    }
    return busy ? TICK_MS : ms;
}

static void loop(runner *r) {
    struct pollfd *fds = calloc(r->count + 2, sizeof *fds);
    uint64_t rung;
    while (fds != NULL && !all_ended(r)) {
        fds[0] = (struct pollfd){.fd = r->signals, .events = POLLIN};
        for (size_t i = 0; i < r->count; i++) {
            bool running = atomic_load(&r->pipelines[i].state) == PIPELINE_RUNNING;
            fds[i + 1] =
                (struct pollfd){.fd = running ? r->pipelines[i].listener.fd : -1, .events = POLLIN};
        }
        fds[r->count + 1] = (struct pollfd){.fd = r->wake, .events = POLLIN};
        if (poll(fds, r->count + 2, quiet_ms(r)) > 0) {
            for (size_t i = 0; i < r->count; i++)
                if (fds[i + 1].revents != 0) {
                    json_t *s = pipeline_status(&r->pipelines[i]);
                    run_socket_answer(fds[i + 1].fd, s);
                    json_decref(s);
                }
            if (fds[r->count + 1].revents != 0)
                (void)!read(r->wake, &rung, sizeof rung);
            if (fds[0].revents != 0)
                take_signals(r);
        }
        tick(r);
    }
    run_line("");
    free(fds);
}

/* A pipeline that can't start ends no other (PAWL-16), unless its file wants that. */
static int start_all(runner *r) {
    int first = CLI_OK;
    for (int i = 0; i < r->file_count; i++)
        r->count += r->files[i].count;
    size_t wanted = r->count;
    r->pipelines = calloc(wanted, sizeof *r->pipelines);
    r->count = 0;
    for (size_t i = 0; r->pipelines != NULL && i < wanted; i++) {
        config *c = nth(r, r->files, i);
        int code = pipeline_start(&r->pipelines[i], c, r->args, r->wake);
        r->count++;
        if (code == CLI_OK)
            continue;
        atomic_store(&r->pipelines[i].state, PIPELINE_ENDED);
        first = first == CLI_OK ? code : first;
        r->broken |= c->end_on_failure;
        if (c->end_on_failure)
            break;
    }
    return r->pipelines != NULL ? first : CLI_PROBLEM;
}

/* Blocked in all threads, which inherit it; the loop reads them. */
static int block_signals(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int run(cli_args *a) {
    runner r = {.args = a, .file_count = a->count};
    enum sandbox_mode mode;
    if (!sandbox_mode_of(a->value[SANDBOX], &mode))
        return cli_usage(a, "--sandbox is auto, on or off, not '%s'", a->value[SANDBOX]);
    int code = load_files(&r, &r.files);
    if (code == CLI_OK && sandbox_enter(mode, needs_of(&r, r.files)) != 0)
        code = CLI_PROBLEM;
    if (code == CLI_OK) {
        cli_programs_begin();
        r.signals = block_signals();
        r.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        code = start_all(&r);
        if (code == CLI_OK || (!r.broken && !all_ended(&r)))
            run_notify("READY=1\nSTATUS=running");
        for (size_t i = 0; i < r.count && r.broken; i++) /* those that had started */
            pipeline_end(&r.pipelines[i], false);
        loop(&r);
        for (size_t i = 0; i < r.count; i++) {
            int one = pipeline_finish(&r.pipelines[i]);
            code = code == CLI_OK ? one : code;
        }
        close(r.signals);
        close(r.wake);
        cli_programs_end();
    }
    free(r.pipelines);
    free_files(&r, r.files);
    free_files(&r, r.old);
    return cli_finish_output(code);
}

const cli_command cli_run = {
    .name = "run",
    .synopsis = "FILE... [--until-idle] [--quiet] [--sandbox MODE]",
    .summary = "Run the pipelines of one or several files",
    .details = "A file is YAML, one document for each pipeline: sections log, streams, sources, "
               "processors, sinks.\n"
               "`pawl check FILE` explains it, and tells what there is to write in one; "
               "docs/run.md is the "
               "reference.\n"
               "SIGTERM ends in good order, a second one within two seconds, SIGHUP reads the "
               "files again. `pawl "
               "status\n"
               "DIR` shows what a running pipeline is doing.",
    .options = options,
    .min = 1,
    .max = 64,
    .run = run,
};
