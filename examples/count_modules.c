/* SPDX-License-Identifier: Apache-2.0
 *
 * count_modules DIR [FILE] - counts the messages of an Apache server's error log by module, by the
 * built-in processor `count`, and prints its table. DIR is the log of Pawl; it is made. Kill it at
 * any moment and run it again. examples/count_modules.yaml does the same without a program.
 */
#include <stdio.h>
#include <stdlib.h>

#include "pawl_connect.h"
#include "pawl_state.h"

static void check(int code, const pawl_error *e) {
    if (code >= 0 || code == PAWL_EXISTS) /* a second run finds what the first one made */
        return;
    pawl_error last;
    pawl_last_error(&last);
    fprintf(stderr, "count_modules: %s: %s\n", pawl_strerror(code),
            e != NULL ? e->message : last.message);
    exit(1); /* without closing: for the log that is just another crash */
}

/* The log knows how many lines it has. */
static void append_lines(pawl *log, uint32_t lines, FILE *in) {
    pawl_producer *producer;
    pawl_tx *tx = NULL;
    char *line = NULL;
    size_t room = 0;
    check(pawl_producer_open(log, "count_modules", &producer), NULL);
    uint64_t there = pawl_producer_sequence(producer), number = 0, first = 0;
    for (ssize_t n = 0; n >= 0;) {
        if ((n = getline(&line, &room, in)) > 0 && ++number > there) {
            pawl_record r = {.value = line, .value_len = (uint32_t)(n - (line[n - 1] == '\n'))};
            first = tx == NULL ? number : first;
            check(tx == NULL ? pawl_begin(log, &tx) : 0, NULL);
            check(pawl_put(tx, lines, 0, &r), NULL);
        }
        if (tx != NULL && (n < 0 || number - first == 999)) { /* 1,000 lines are a commit */
            check(pawl_tx_sequence(tx, producer, first, number, NULL, 0), NULL);
            check(pawl_commit_async(tx, NULL, NULL, NULL), NULL); /* pawl_run() waits for all */
            tx = NULL;
        }
    }
    free(line);
    pawl_producer_close(producer);
}

int main(int argc, char **argv) {
    static const pawl_setting settings[] = {
        {"by", "value", 0},
        /* [date] [level] module ...; a message of the server itself has no module */
        {"match", "^\\[[^]]*\\] \\[\\w+\\] (\\w+)", 0},
    };
    pawl *log;
    uint32_t lines;
    pawl_error e = {0};
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_CREATE, o.lock_wait_ms = 5000;
    FILE *in = argc > 2 ? fopen(argv[2], "r") : stdin;
    if (argc < 2 || in == NULL)
        return fprintf(stderr, "usage: count_modules DIR [FILE]\n"), 2;
    check(pawl_open(argv[1], &o, &log, &e), &e);
    check(pawl_stream_create(log, "lines", 1, &lines), NULL);
    append_lines(log, lines, in);
    pawl_processor_ops ops = PAWL_PROCESSOR_OPS_INIT;
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    c.name = "modules", c.inputs = &lines, c.input_count = 1;
    check(pawl_processor_make("count", &(pawl_settings){settings, 2}, &ops, &e), &e);
    check(pawl_processor_attach(log, &c, &ops, NULL, &e), &e);
    check(pawl_run(log, 0, PAWL_RUN_UNTIL_IDLE), NULL); /* all of it is durable on return */

    pawl_table_info table = PAWL_TABLE_INFO_INIT; /* named after the processor */
    pawl_state_cursor *cursor;
    pawl_state_pair pair;
    check(pawl_table_find(log, "modules", &table), NULL);
    check(pawl_table_scan(log, table.id, 0, NULL, &cursor), NULL);
    while (pawl_state_next(cursor, &pair) > 0) {
        char module[256], n[32]; /* a stranger's: a terminal gets them escaped */
        pawl_show(pair.key, pair.key_len, NULL, module, sizeof module);
        pawl_show(pair.value, pair.value_len, NULL, n, sizeof n);
        printf("%7s %s\n", n, module);
    }
    pawl_state_close(cursor);
    int code = pawl_close(log); /* removes the processor */
    ops.destroy(ops.self);
    return code < 0;
}
