/* SPDX-License-Identifier: Apache-2.0 */
/* A program whose own functions have names that the libraries use inside. Linked with the static
 * libraries, each side keeps its own: the program links, a log works, and the library calls none
 * of these. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pawl.h>
#include <pawl_connect.h>

static int taken; /* calls of the functions below that the program did not make */

/* Whatever the library would hand over, these take nothing and count the call. */
#define OWN(name) \
    int name(void); \
    int name(void) { \
        return ++taken; \
    }
OWN(mem_alloc)
OWN(mem_free)
OWN(fail)
OWN(fail_set)
OWN(decide)
OWN(bytes_init)
OWN(bytes_add)
OWN(buffer_add)
OWN(point)
OWN(locate)
OWN(format_hash)
OWN(record_encode)
OWN(scan_begin)
OWN(replay_log)
OWN(tables_init)
OWN(tx_new)
OWN(wal_append)
OWN(wal_init)
OWN(seam_create)
OWN(engine_open)
OWN(lines_split)
OWN(utf8_sequence)
OWN(write_whole)
OWN(sink_report)
OWN(connect_name_ok)

static int failed(const char *what, int code) {
    fprintf(stderr, "%s: %s\n", what, pawl_strerror(code));
    return 1;
}

/* Appends a record, reads it back. */
static int use_log(pawl *log) {
    uint32_t stream;
    int code = pawl_stream_create(log, "words", 1, &stream);
    if (code < 0)
        return failed("pawl_stream_create", code);
    static char text[4096]; /* long enough for every way of hashing */
    memset(text, 'x', sizeof text);
    pawl_record record = {.value = text, .value_len = sizeof text};
    if ((code = pawl_append(log, stream, PAWL_ANY, &record, NULL)) < 0)
        return failed("pawl_append", code);
    pawl_reader *reader;
    pawl_batch batch;
    if ((code = pawl_reader_open(log, stream, 0, 0, PAWL_READ_COMMITTED, &reader)) < 0)
        return failed("pawl_reader_open", code);
    code = pawl_read(reader, 0, 0, &batch);
    int same = code == 1 && batch.records[0].value_len == sizeof text &&
               memcmp(batch.records[0].value, text, sizeof text) == 0;
    pawl_reader_close(reader);
    return same ? 0 : failed("the record is not as it was written", code);
}

/* A sink made from settings, and dropped again: the second library works too. */
static int use_connectors(void) {
    static const pawl_setting format = {.name = "format", .value = "text"};
    const pawl_settings settings = {.items = &format, .count = 1};
    pawl_sink_ops ops = PAWL_SINK_OPS_INIT;
    pawl_error error;
    int code = pawl_sink_make("stdout", &settings, &ops, &error);
    if (code < 0)
        return failed(error.message, code);
    ops.destroy(ops.self);
    return 0;
}

int main(void) {
    char dir[] = "/tmp/pawl-own-names.XXXXXX";
    if (mkdtemp(dir) == NULL) {
        perror(dir);
        return 1;
    }
    pawl_options options = PAWL_OPTIONS_INIT;
    options.flags = PAWL_OPEN_CREATE;
    options.segment_size = 1 << 20;
    pawl_error error;
    pawl *log;
    int code = pawl_open(dir, &options, &log, &error);
    int wrong = code < 0 ? failed(error.message, code) : use_log(log);
    if (code == 0 && (code = pawl_close(log)) < 0)
        wrong = failed("pawl_close", code);
    pawl_check check = PAWL_CHECK_INIT;
    if (!wrong && (code = pawl_verify(dir, &check, &error)) < 0)
        wrong = failed(error.message, code);
    if (!wrong)
        wrong = use_connectors();

    char remove[64];
    snprintf(remove, sizeof remove, "rm -rf %s", dir);
    if (system(remove) != 0)
        wrong = 1;
    if (taken > 0)
        fprintf(stderr, "the library called a function of the program %d times\n", taken);
    return wrong || taken > 0;
}
