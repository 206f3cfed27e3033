/* SPDX-License-Identifier: Apache-2.0
 *
 * appliance.c - a program that `pawl crashtest` can check record by record. It appends the records
 * that the test expects, has them processed, and acknowledges them when they are durable. Try it:
 *     pawl crashtest data --seconds 10 -- build/examples/appliance
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pawl.h"

static uint32_t in, out; /* stream ids */
static uint64_t seed;
static int ack_fd = -1;

static void check(int code) {
    pawl_error e;
    pawl_last_error(&e);
    if (code >= 0 || code == PAWL_EXISTS)
        return;
    fprintf(stderr, "appliance: %s: %s\n", pawl_strerror(code), e.message);
    exit(1);
}

static void acknowledge(const char *what, uint64_t n) {
    char line[64]; /* one write() per line: a kill leaves it whole or absent */
    int len = snprintf(line, sizeof line, "%s %" PRIu64 "\n", what, n);
    if (ack_fd >= 0 && write(ack_fd, line, (size_t)len) < 0)
        exit(1);
}

static uint64_t mix(uint64_t *state) { /* splitmix64 */
    uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* Record n of the seed, as pawl(1) defines it (for a little-endian machine). Returns its length. */
static uint32_t make(uint64_t n, uint8_t bytes[8 + 65536 + 8]) {
    uint64_t state = seed ^ n * UINT64_C(0xD1342543DE82EF95), r = mix(&state);
    uint64_t most = r % 1000 == 0 ? 65536 : r % 50 == 0 ? 8192 : 256;
    uint32_t len = 8 + (uint32_t)((r >> 32) % most);
    memcpy(bytes, &n, 8);
    for (uint32_t at = 8; at < len; at += 8)
        memcpy(bytes + at, &(uint64_t){mix(&state)}, 8);
    return len;
}

static int invert(pawl_context *ctx, const pawl_record *r, size_t count, void *arg) {
    uint8_t *bytes = arg;
    int code = 0;
    for (; count > 0 && code == 0; r++, count--) {
        for (uint32_t i = 0; i < r->value_len; i++)
            bytes[i] = (uint8_t) ~((const uint8_t *)r->value)[i];
        code = pawl_emit(ctx, out, pawl_context_partition(ctx),
                         &(pawl_record){.value = bytes, .value_len = r->value_len});
    }
    return code;
}

int main(void) {
    static uint8_t bytes[8 + 65536 + 8], inverted[sizeof bytes];
    const char *dir = getenv("PAWL_CRASHTEST_DIR"), *text = getenv("PAWL_CRASHTEST_SEED"),
               *fd = getenv("PAWL_CRASHTEST_ACK_FD");
    seed = text != NULL ? strtoull(text, NULL, 10) : 1;
    ack_fd = fd != NULL ? atoi(fd) : -1;
    pawl *log;
    pawl_status status = PAWL_STATUS_INIT;
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_CREATE;
    o.segment_size = UINT64_C(1) << 20;
    check(pawl_open(dir != NULL ? dir : "data", &o, &log, NULL));
    check(pawl_get_status(log, &status));
    acknowledge("open", status.recovery_ns);
    check(pawl_stream_create(log, "in", 1, &in));
    check(pawl_stream_create(log, "out", 1, &out));
    check(pawl_retention_set(log, &(pawl_retention){.bytes = UINT64_C(16) << 20}));
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    c.name = "crashtest", c.inputs = &in, c.input_count = 1, c.process = invert, c.arg = inverted;
    check(pawl_processor_add(log, &c, NULL));
    pawl_bounds b; /* all of these records are durable: they are appended one at a time */
    check(pawl_partition_bounds(log, in, 0, &b));
    for (uint64_t n = b.end;; n++) {
        pawl_record r = {.value = bytes, .value_len = make(n, bytes)};
        acknowledge("put", n + 1);
        check(pawl_append(log, in, 0, &r, NULL));
        acknowledge("in", n + 1);
        if (n % 16 == 0) {
            check(pawl_run(log, 0, PAWL_RUN_UNTIL_IDLE)); /* every output is durable on return */
            acknowledge("out 0", n + 1);
        }
    }
}
