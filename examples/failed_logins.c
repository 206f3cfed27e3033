/* SPDX-License-Identifier: Apache-2.0
 *
 * failed_logins DIR [FILE] - sorts an SSH server's failed logins by source address, in a log that
 * `pawl init` made.
 *     lines --parse--> failed (whole lines, keyed by address) --address--> by-address (an address
 *           \                                                              for each failure)
 *            \-------> rest
 * To count them: pawl cat DIR by-address | sort | uniq -c
 *
 * After a kill -9, run it again: the log knows the position of the input and of each stage.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pawl.h"

static uint32_t lines, failed, rest, by_address; /* stream ids */

static void check(int code) {
    pawl_error e;
    pawl_last_error(&e);
    if (code >= 0 || code == PAWL_EXISTS)
        return;
    fprintf(stderr, "failed_logins: %s: %s\n", pawl_strerror(code), e.message);
    exit(1); /* without closing: for the log that is just another crash */
}

static int parse(pawl_context *ctx, const pawl_record *r, size_t count, void *arg) {
    int code = 0;
    for (; count > 0 && code >= 0; r++, count--) {
        const char *line = r->value, *end = line + r->value_len, *address = NULL;
        const char *at = memmem(line, r->value_len, "Failed password", 15);
        /* Takes the last " from ": a user named "x from y" must not choose the address. */
        for (; at != NULL && (at = memmem(at, (size_t)(end - at), " from ", 6)) != NULL; at += 5)
            if (at + 6 < end && at[6] != ' ')
                address = at + 6;
        pawl_record out = {.key = address, .value = line, .value_len = r->value_len};
        while (address != NULL && address + out.key_len < end && address[out.key_len] != ' ' &&
               out.key_len < 255)
            /* equal keys share a partition, so one address's failures stay in order */
            out.key_len++;
        code = pawl_emit(ctx, address != NULL ? failed : rest, PAWL_ANY, &out);
    }
    return (void)arg, code < 0;
}

static int take_address(pawl_context *ctx, const pawl_record *r, size_t count, void *arg) {
    int code = 0;
    for (; count > 0 && code >= 0; r++, count--) {
        pawl_record out = {
            .key = r->key, .key_len = r->key_len, .value = r->key, .value_len = r->key_len};
        code = pawl_emit(ctx, by_address, PAWL_ANY, &out);
    }
    return (void)arg, code < 0;
}

int main(int argc, char **argv) {
    pawl *log;
    pawl_producer *producer;
    pawl_status s = {.struct_size = sizeof s};
    FILE *in = argc > 2 ? fopen(argv[2], "r") : stdin;
    if (argc < 2 || in == NULL)
        return fprintf(stderr, "usage: failed_logins DIR [FILE]\n"), 2;
    check(pawl_open(argv[1], NULL, &log, NULL));
    check(pawl_get_status(log, &s));
    fprintf(stderr, "recovered in %.1f ms\n", (double)s.recovery_ns / 1e6);
    check(pawl_stream_create(log, "lines", 1, &lines));
    check(pawl_stream_create(log, "failed", 4, &failed));
    check(pawl_stream_create(log, "rest", 1, &rest));
    check(pawl_stream_create(log, "by-address", 4, &by_address));
    check(pawl_producer_open(log, "failed_logins", &producer));
    char *line = NULL;
    size_t capacity = 0;
    uint64_t there = pawl_producer_sequence(producer),
             number = 0; /* of lines; lines that the log already has are skipped */
    for (ssize_t size; (size = getline(&line, &capacity, in)) > 0;) {
        pawl_record r = {.value = line, .value_len = (uint32_t)(size - (line[size - 1] == '\n'))};
        pawl_tx *tx;
        if (++number <= there)
            continue;
        check(pawl_begin(log, &tx));
        check(pawl_put(tx, lines, PAWL_ANY, &r));
        check(pawl_tx_sequence(tx, producer, number, number, NULL, 0));
        /* not waited for: the order is fixed, and pawl_run() waits for all */
        check(pawl_commit_async(tx, NULL, NULL, NULL));
    }
    pawl_producer_close(producer);
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    c.name = "parse", c.inputs = &lines, c.input_count = 1, c.process = parse;
    check(pawl_processor_add(log, &c, &(pawl_processor *){NULL}));
    c.name = "address", c.inputs = &failed, c.process = take_address;
    check(pawl_processor_add(log, &c, &(pawl_processor *){NULL}));
    /* "address" reads the output of "parse" before it is durable: one flush for both */
    check(pawl_run(log, 2, PAWL_RUN_UNTIL_IDLE));
    return pawl_close(log) < 0;
}
