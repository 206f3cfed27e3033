/* SPDX-License-Identifier: Apache-2.0
 *
 * prog_sink LOG SINK STREAM TYPE [OPTION=VALUE ...] : [SETTING=VALUE ...] - delivers the stream's
 * records through a connector until none is left, and prints the sink's status, one name and value
 * a line. For tests, it also runs commands:
 *   at=POINT:N:COMMAND   at the N-th visit of that point (from 1) runs COMMAND with sh; "kill -9
 *                        $PPID" kills this process there
 *   at=+MS:COMMAND       in the background, MS milliseconds after the start
 * Exit: 0 all delivered, 3 the sink has stopped, 4 the time limit has passed.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "pawl_connect.h"
#include "tests/support/measure.h"

#define ACTIONS_MAX 16
#define SETTINGS_MAX 64

static struct action {
    char point[40];
    int left;
    const char *command;
} actions[ACTIONS_MAX];
static size_t action_count;
static bool quiet;

static void on_point(void *arg, const char *point) {
    (void)arg;
    for (size_t i = 0; i < action_count; i++)
        if (strcmp(actions[i].point, point) == 0 && --actions[i].left == 0 &&
            system(actions[i].command) != 0)
            fprintf(stderr, "prog_sink: at %s: the command failed\n", point);
}

static void add_action(const char *text) {
    struct action *a = &actions[action_count++];
    unsigned ms;
    int n = 0;
    if (sscanf(text, "+%u:%n", &ms, &n) == 1 && n > 0) {
        pid_t parent = getpid(), child = fork();
        if (child != 0)
            return;
        struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
        nanosleep(&t, NULL);
        if (getppid() == parent && strcmp(text + n, "kill") == 0)
            kill(parent, SIGKILL);
        else if (getppid() == parent && system(text + n) != 0)
            fprintf(stderr, "prog_sink: a command failed\n");
        _exit(0);
    }
    if (sscanf(text, "%39[^:]:%d:%n", a->point, &a->left, &n) != 2 || n == 0)
        exit(2);
    a->command = text + n;
}

static void report(void *arg, const char *name, int severity, const char *message) {
    (void)arg;
    if (!quiet)
        fprintf(stderr, "%s: %d: %s\n", name, severity, message);
}

static void print(pawl_sink *sink) {
    pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
    if (pawl_sink_status(sink, &s) != 0)
        exit(3);
    printf("flow=%s\nrecords=%" PRIu64 "\nbatches=%" PRIu64 "\nretries=%" PRIu64
           "\npoisoned=%" PRIu64 "\nredelivered=%" PRIu64 "\nlost=%" PRIu64 "\nbehind=%" PRIu64
           "\nrecovered=%" PRIu64 "\nrolled_back=%" PRIu64 "\nmessage=%s\ntarget=%s\n",
           pawl_flow_name(s.flow), s.records, s.batches, s.retries, s.poisoned, s.redelivered,
           s.lost, s.behind, s.recovered, s.rolled_back, s.message, s.target);
}

static int run(pawl_sink *sink, uint64_t limit_ms) {
    uint64_t end = now_ms() + limit_ms;
    for (;;) {
        int rc = pawl_sink_step(sink);
        pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
        if (rc == 0)
            continue;
        if (pawl_sink_status(sink, &s) != 0)
            return 3;
        if (rc < 0)
            return 3;
        if (s.flow == PAWL_FLOW_IDLE)
            return 0;
        if (now_ms() >= end)
            return 4;
        struct timespec t = {0, (rc > 20 ? 20 : rc) * 1000000L};
        nanosleep(&t, NULL);
    }
}

static uint32_t stream_id(pawl *log, const char *name) {
    pawl_stream_info info;
    if (pawl_stream_find(log, name, &info) != 0) {
        fprintf(stderr, "prog_sink: no stream %s\n", name);
        exit(2);
    }
    return info.id;
}

static void option(pawl *log, pawl_sink_config *c, uint64_t *limit_ms, const char *name,
                   const char *value) {
    uint32_t n = (uint32_t)strtoul(value, NULL, 10);
    if (strcmp(name, "batch") == 0) {
        c->batch_records = n;
    } else if (strcmp(name, "batch_bytes") == 0) {
        c->batch_bytes = n;
    } else if (strcmp(name, "limit_ms") == 0) {
        *limit_ms = n;
    } else if (strcmp(name, "quiet") == 0) {
        quiet = n != 0;
    } else if (strcmp(name, "guarantee") == 0) {
        c->guarantee = value[0] == 'e'                       ? PAWL_EXACTLY_ONCE
                       : strcmp(value, "at-least-once") == 0 ? PAWL_AT_LEAST_ONCE
                                                             : PAWL_AT_MOST_ONCE;
    } else if (strcmp(name, "dead") == 0) {
        c->on_poison = PAWL_ON_ERROR_DEAD_LETTER;
        c->dead_letter = stream_id(log, value);
    } else if (strcmp(name, "on_lost") == 0) {
        c->on_lost = strcmp(value, "stop") == 0        ? PAWL_LOST_STOP
                     : strcmp(value, "redeliver") == 0 ? PAWL_LOST_REDELIVER
                                                       : PAWL_LOST_ACCEPT;
    } else if (strcmp(name, "on_replaced") == 0) {
        c->on_replaced = strcmp(value, "stop") == 0    ? PAWL_REPLACED_STOP
                         : strcmp(value, "adopt") == 0 ? PAWL_REPLACED_ADOPT
                                                       : PAWL_REPLACED_REDELIVER;
    } else if (strcmp(name, "at") == 0) {
        add_action(value);
    } else {
        fprintf(stderr, "prog_sink: no option %s\n", name);
        exit(2);
    }
}

int main(int argc, char **argv) {
    pawl_setting items[SETTINGS_MAX];
    pawl_settings settings = {.items = items};
    pawl_error e;
    pawl *log;
    pawl_options o = PAWL_OPTIONS_INIT;
    o.memory_cap = UINT64_C(128) << 20;
    o.lock_wait_ms = 5000; /* waits for the last writes of a killed process */
    if (argc < 5 || pawl_open(argv[1], &o, &log, &e) != 0) {
        fprintf(stderr, "prog_sink: %s\n", argc < 5 ? "usage" : e.message);
        return 2;
    }
    pawl_sink_config c = PAWL_SINK_CONFIG_INIT;
    uint32_t input = stream_id(log, argv[3]);
    uint64_t limit_ms = 60000;
    c.name = argv[2], c.inputs = &input, c.input_count = 1;
    c.backoff_ms = 10, c.backoff_max_ms = 200;
    c.hooks.on_point = on_point, c.hooks.report = report;
    bool options = true;
    for (int i = 5; i < argc; i++) {
        char *equals = strchr(argv[i], '=');
        if (strcmp(argv[i], ":") == 0) {
            options = false;
        } else if (equals == NULL || settings.count == SETTINGS_MAX) {
            return 2;
        } else {
            *equals = 0;
            if (options)
                option(log, &c, &limit_ms, argv[i], equals + 1);
            else
                items[settings.count++] = (pawl_setting){argv[i], equals + 1, (uint32_t)i};
        }
    }
    pawl_sink_ops ops = PAWL_SINK_OPS_INIT;
    pawl_sink *sink = NULL;
    int rc = pawl_sink_make(argv[4], &settings, &ops, &e);
    if (rc == 0)
        rc = pawl_sink_add(log, &c, &ops, &sink, &e);
    if (rc < 0)
        fprintf(stderr, "prog_sink: %s\n", e.message);
    int status = rc < 0 ? 2 : run(sink, limit_ms);
    if (rc == 0)
        print(sink);
    pawl_sink_remove(sink);
    rc = pawl_close(log);
    return rc < 0 ? 5 : status;
}
