/* SPDX-License-Identifier: Apache-2.0
 *
 * smallest.c - makes a log, appends a record durably, reads all records back.
 * usage: smallest DIR
 */
#include <inttypes.h>
#include <stdio.h>

#include "pawl.h"

int main(int argc, char **argv) {
    pawl *log;
    pawl_error e;
    pawl_options o = PAWL_OPTIONS_INIT;
    /* the same call opens an existing log, and recovers it if necessary */
    o.flags = PAWL_OPEN_CREATE;
    if (pawl_open(argc > 1 ? argv[1] : "data", &o, &log, &e) < 0) {
        fprintf(stderr, "%s\n", e.message);
        return 1;
    }
    uint32_t stream;
    int code = pawl_stream_create(log, "greetings", 1, &stream);
    pawl_record r = {.value = "hello", .value_len = 5};
    if (code == 0 || code == PAWL_EXISTS) /* a second run finds the stream, and its records */
        code = pawl_append(log, stream, PAWL_ANY, &r, NULL);
    pawl_reader *reader = NULL;
    if (code == 0) /* from here on the record survives a power cut */
        code = pawl_reader_open(log, stream, 0, 0, PAWL_READ_COMMITTED, &reader);
    for (pawl_batch b; code >= 0 && (code = pawl_read(reader, 0, 0, &b)) > 0;)
        for (size_t i = 0; i < b.count; i++) {
            char text[256]; /* a record may hold anything: a terminal gets it escaped */
            pawl_show(b.records[i].value, b.records[i].value_len, NULL, text, sizeof text);
            printf("%" PRIu64 ": %s\n", b.records[i].offset, text);
        }
    if (code < 0)
        fprintf(stderr, "%s\n", pawl_strerror(code));
    if (reader != NULL)
        pawl_reader_close(reader);
    return pawl_close(log) < 0 || code < 0;
}
