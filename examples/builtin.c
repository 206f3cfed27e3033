/* SPDX-License-Identifier: Apache-2.0
 *
 * builtin.c - Pawl's built-in processors in your own program. A regular expression parses log
 * lines, and a window of ids lets each request through once, however often its line is sent.
 *
 *     builtin DIR <lines       reads lines such as "GET /a id=17"; prints the new ones
 *
 * It may be killed at any moment and started again with the same lines.
 *
 *     cc builtin.c -o builtin $(pkg-config --cflags --libs pawl_connect)
 */
#define _POSIX_C_SOURCE 200809L
#include <pawl_connect.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pawl *log_;

static void need(int code, const char *doing, const pawl_error *e) {
    if (code >= 0)
        return;
    fprintf(stderr, "builtin: %s: %s\n", doing,
            e->message[0] != 0 ? e->message : pawl_strerror(code));
    exit(1);
}

static uint32_t stream(const char *name) {
    uint32_t id = 0;
    pawl_error e = {0};
    int code = pawl_stream_create(log_, name, 1, &id);
    need(code == PAWL_EXISTS ? 0 : code, name, &e);
    return id;
}

/* Adds a built-in processor, with the settings that a pipeline file would have. */
static void add(const char *name, uint32_t from, const char *type, const pawl_setting *settings,
                size_t count, pawl_processor_ops *ops) {
    pawl_error e = {0};
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    c.name = name, c.inputs = &from, c.input_count = 1;
    need(pawl_processor_make(type, &(pawl_settings){.items = settings, .count = count}, ops, &e),
         name, &e);
    need(pawl_processor_attach(log_, &c, ops, NULL, &e), name, &e);
}

static void append_lines(uint32_t lines) {
    char *line = NULL;
    size_t room = 0;
    pawl_error e = {0};
    for (ssize_t n; (n = getline(&line, &room, stdin)) > 0;) {
        n -= line[n - 1] == '\n';
        pawl_record r = {.value = line, .value_len = (uint32_t)n};
        need(pawl_append(log_, lines, 0, &r, NULL), "appending", &e);
    }
    free(line);
}

static void print(uint32_t from, uint64_t first) {
    pawl_reader *r;
    pawl_batch batch;
    pawl_error e = {0};
    need(pawl_reader_open(log_, from, 0, first, 0, &r), "reading", &e);
    while (pawl_read(r, 0, 1000, &batch) > 0)
        for (size_t i = 0; i < batch.count; i++) {
            char text[1024]; /* a record may hold anything: a terminal gets it escaped */
            pawl_show(batch.records[i].value, batch.records[i].value_len, NULL, text, sizeof text);
            printf("%s\n", text);
        }
    pawl_reader_close(r);
}

int main(int argc, char **argv) {
    pawl_options o = PAWL_OPTIONS_INIT;
    pawl_processor_ops parse = PAWL_PROCESSOR_OPS_INIT, once = PAWL_PROCESSOR_OPS_INIT;
    pawl_bounds before;
    pawl_error e = {0};
    if (argc != 2)
        return 2;
    o.flags = PAWL_OPEN_CREATE;
    o.lock_wait_ms = 2000; /* a killed process may hold the lock for a moment */
    need(pawl_open(argv[1], &o, &log_, &e), "opening", &e);
    uint32_t lines = stream("lines"), parsed = stream("parsed"), fresh = stream("new");
    const pawl_setting pattern[] = {{"to", "parsed", 0},
                                    {"pattern", "^(?<verb>\\w+) (?<path>\\S+) id=(?<id>\\d+)", 0}};
    const pawl_setting window[] = {{"to", "new", 0}, {"id", "json:id", 0}, {"window", "1000", 0}};
    add("parse", lines, "regex", pattern, 2, &parse);
    add("once", parsed, "dedup", window, 3, &once);
    need(pawl_partition_bounds(log_, fresh, 0, &before), "new", &e);
    append_lines(lines);
    int code = pawl_run(log_, 0, PAWL_RUN_UNTIL_IDLE);
    pawl_last_error(&e);
    need(code, "processing", &e);
    print(fresh, before.durable);
    need(pawl_close(log_), "closing", &e); /* removes the processors */
    parse.destroy(parse.self);
    once.destroy(once.self);
    return 0;
}
