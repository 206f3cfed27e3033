/* SPDX-License-Identifier: Apache-2.0
 *
 * count_words DIR [FILE] - counts the words of a text, in a table of keyed state, and prints it.
 * DIR is the log of Pawl; it is made. Kill it at any moment and run it again: no word is counted
 * twice, none is missed. examples/count_words.yaml does the same without a program.
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pawl_state.h"

static void check(int code) {
    pawl_error e;
    pawl_last_error(&e);
    if (code >= 0 || code == PAWL_EXISTS) /* a second run finds what the first one made */
        return;
    fprintf(stderr, "count_words: %s: %s\n", pawl_strerror(code), e.message);
    exit(1); /* without closing: for the log that is just another crash */
}

/* The counts and the position of a batch are one commit. */
static int count(pawl_context *ctx, const pawl_record *r, size_t n, void *table) {
    int code = 0;
    for (; n > 0 && code >= 0; r++, n--) {
        const unsigned char *at = r->value, *end = at + r->value_len;
        while (at < end && code >= 0) {
            size_t size = 0;
            while (at + size < end && isalpha(at[size])) /* of the C locale: A-Z and a-z */
                size++;
            if (size > 0 && size <= PAWL_STATE_KEY_MAX)
                code = pawl_state_add(ctx, *(uint32_t *)table, at, size, 1, NULL);
            at += size + 1;
        }
    }
    return code < 0;
}

/* The log knows how many lines it has. */
static void append_lines(pawl *log, uint32_t lines, FILE *in) {
    pawl_producer *producer;
    pawl_tx *tx = NULL;
    char *line = NULL;
    size_t room = 0;
    check(pawl_producer_open(log, "count_words", &producer));
    uint64_t there = pawl_producer_sequence(producer), number = 0, first = 0;
    for (ssize_t n = 0; n >= 0;) {
        if ((n = getline(&line, &room, in)) > 0 && ++number > there) {
            pawl_record r = {.value = line, .value_len = (uint32_t)(n - (line[n - 1] == '\n'))};
            first = tx == NULL ? number : first;
            check(tx == NULL ? pawl_begin(log, &tx) : 0);
            check(pawl_put(tx, lines, 0, &r));
        }
        if (tx != NULL && (n < 0 || number - first == 999)) { /* 1,000 lines are a commit */
            check(pawl_tx_sequence(tx, producer, first, number, NULL, 0));
            check(pawl_commit_async(tx, NULL, NULL, NULL)); /* pawl_run() waits for all */
            tx = NULL;
        }
    }
    free(line);
    pawl_producer_close(producer);
}

int main(int argc, char **argv) {
    pawl *log;
    uint32_t lines, table;
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_CREATE, o.lock_wait_ms = 5000;
    FILE *in = argc > 2 ? fopen(argv[2], "r") : stdin;
    if (argc < 2 || in == NULL)
        return fprintf(stderr, "usage: count_words DIR [FILE]\n"), 2;
    check(pawl_open(argv[1], &o, &log, NULL));
    check(pawl_stream_create(log, "lines", 1, &lines));
    check(pawl_processor_register(log, "count", NULL)); /* it owns the table */
    pawl_table_config t = PAWL_TABLE_CONFIG_INIT;
    t.name = "words", t.owner = "count", t.partitions = 1;
    check(pawl_table_create(log, &t, &table));
    append_lines(log, lines, in);
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    c.name = "count", c.inputs = &lines, c.input_count = 1, c.process = count, c.arg = &table;
    check(pawl_processor_add(log, &c, NULL));
    check(pawl_run(log, 0, PAWL_RUN_UNTIL_IDLE)); /* all of it is durable on return */

    pawl_state_cursor *cursor;
    pawl_state_pair pair;
    check(pawl_table_scan(log, table, 0, NULL, &cursor));
    while (pawl_state_next(cursor, &pair) > 0) {
        char word[256];
        int64_t n;
        memcpy(&n, pair.value, sizeof n);
        pawl_show(pair.key, pair.key_len, NULL, word, sizeof word);
        printf("%7" PRId64 " %s\n", n, word);
    }
    pawl_state_close(cursor);
    return pawl_close(log) < 0;
}
