/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs a source into a log: prog_source LOG STREAM TYPE [NAME=VALUE...]. Runs until the source
 * ends, or until SIGTERM: then it drains the records read. Tests kill it. Prints the address that
 * it listens on to standard output. PROG_SOURCE_BATCH in the environment: records a batch.
 * PROG_SOURCE_SEEN: a file of 8 bytes that gets the time, in ns of the monotonic clock, when the
 * last look began that could see all, and of which all that it found is durable.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "pawl_connect.h"

static volatile sig_atomic_t ending;

static void on_signal(int n) {
    (void)n;
    ending = 1;
}

static int fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    return 1;
}

static _Atomic uint64_t *seen;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void told(void *arg, const char *name, int severity, const char *message) {
    (void)arg;
    if (seen != NULL)
        fprintf(stderr, "%llu ns: ", (unsigned long long)now_ns());
    fprintf(stderr, "%s: severity %d: %s\n", name, severity, message);
}

static void at_point(void *arg, const char *point) {
    static uint64_t looks;
    uint64_t *looked = arg;
    if (strcmp(point, "source-idle") == 0 && *looked != 0)
        *seen = *looked;
    if (strcmp(point, "source-looks") == 0)
        looks = now_ns();
    if (strcmp(point, "source-looked") == 0)
        *looked = looks;
}

static void tell_what_was_seen(pawl_hooks *h) {
    static uint64_t looked;
    const char *path = getenv("PROG_SOURCE_SEEN");
    int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *at = fd >= 0 ? mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (at == MAP_FAILED)
        return;
    seen = at;
    h->on_point = at_point;
    h->on_point_arg = &looked;
}

int main(int argc, char **argv) {
    pawl *log;
    pawl_error e;
    pawl_source *source;
    pawl_source_ops ops = PAWL_SOURCE_OPS_INIT;
    pawl_setting settings[32];
    pawl_settings s = {.items = settings};
    pawl_options o = PAWL_OPTIONS_INIT;
    pawl_source_config c = PAWL_SOURCE_CONFIG_INIT;
    if (argc < 4 || argc > 32)
        return fail("usage", "prog_source LOG STREAM TYPE [NAME=VALUE...]");
    for (int i = 4; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (value == NULL)
            return fail(argv[i], "is not NAME=VALUE");
        *value++ = 0;
        settings[s.count++] = (pawl_setting){argv[i], value, (uint32_t)i};
    }
    o.flags = PAWL_OPEN_CREATE;
    signal(SIGTERM, on_signal);
    if (pawl_open(argv[1], &o, &log, &e) != 0)
        return fail("open", e.message);
    int rc = pawl_stream_create(log, argv[2], 1, &c.stream);
    if (rc != 0 && rc != PAWL_EXISTS)
        return fail("stream", pawl_strerror(rc));
    c.name = "src";
    c.hooks.report = told;
    tell_what_was_seen(&c.hooks);
    const char *batch = getenv("PROG_SOURCE_BATCH");
    c.batch_records = batch != NULL ? (uint32_t)strtoul(batch, NULL, 10) : 0;
    if (pawl_source_make(argv[3], &s, &ops, &e) != 0 ||
        pawl_source_add(log, &c, &ops, &source, &e) != 0)
        return fail("source", e.message);
    if (pawl_source_start(source) != 0)
        return fail("start", "no thread");
    pawl_flow_status st = PAWL_FLOW_STATUS_INIT;
    for (bool shown = false;;) {
        usleep(2000);
        if (pawl_source_status(source, &st) != 0)
            return 3;
        if (!shown && strncmp(st.target, "listening", 9) == 0) {
            puts(st.target);
            fflush(stdout);
            shown = true;
        }
        if (ending || st.flow == PAWL_FLOW_FAILED || st.flow == PAWL_FLOW_ENDED)
            break;
    }
    rc = pawl_source_stop(source, 10000);
    pawl_source_remove(source);
    if (pawl_close(log) != 0 || rc != 0 || st.flow == PAWL_FLOW_FAILED)
        return fail("ended", st.message);
    return 0;
}
