/* SPDX-License-Identifier: Apache-2.0
 *
 * prog_powercut write DIR BACKEND DIRECT: appends records to DIR for ever, saying on standard output which number is acknowledged; ends at the first error.
 * prog_powercut cut MOUNTPOINT: makes the file system stop as in a power cut: nothing that isn't durable gets there any more.
 * prog_powercut check DIR ACKNOWLEDGED: all of them are there, in order and whole; perhaps more.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "pawl.h"

/* Of ext4 and XFS alike: shutdown, without flushing the journal first (linux/ext4.h, xfs_fs.h). */
#define SHUTDOWN _IOR('X', 125, uint32_t)
#define WITHOUT_LOG_FLUSH 2u

static uint32_t fill(uint8_t *value, uint32_t n) {
    uint32_t len = n % 17 == 0 ? 20000 + n % 5000 : 8 + n % 900;
    for (uint32_t i = 0; i < len; i++)
        value[i] = (uint8_t)(n * 31 + i * 7 + (i >> 8));
    memcpy(value, &n, sizeof n);
    return len;
}

static int complain(const pawl_error *e) {
    fprintf(stderr, "%s\n", e->message);
    return 1;
}

static int write_on(const char *dir, int backend, int direct) {
    static uint8_t value[32768];
    pawl_options o = PAWL_OPTIONS_INIT;
    pawl_error e;
    pawl *log;
    uint32_t stream;
    o.flags = PAWL_OPEN_CREATE, o.segment_size = 1u << 20, o.backend = backend, o.direct = direct;
    if (pawl_open(dir, &o, &log, &e) != 0)
        return complain(&e);
    pawl_stream_info info;
    pawl_bounds b;
    if (pawl_stream_find(log, "s", &info) == 0)
        stream = info.id;
    else if (pawl_stream_create(log, "s", 1, &stream) != 0)
        return 1;
    if (pawl_partition_bounds(log, stream, 0, &b) != 0)
        return 1;
    for (uint32_t n = (uint32_t)b.end;; n++) {
        pawl_record r = {.value = value, .value_len = fill(value, n)};
        int rc = pawl_append(log, stream, 0, &r, NULL);
        if (rc != 0) {
            pawl_last_error(&e);
            fprintf(stderr, "stopped with %s: %s\n", pawl_errname(rc), e.message);
            return rc == PAWL_IO ? 3 : 4; /* without closing: the machine has lost power */
        }
        printf("%" PRIu32 "\n", n);
        fflush(stdout);
    }
}

static int cut(const char *mountpoint) {
    int fd = open(mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    uint32_t how = WITHOUT_LOG_FLUSH;
    if (fd < 0 || ioctl(fd, SHUTDOWN, &how) != 0) {
        perror(mountpoint);
        return 1;
    }
    close(fd);
    return 0;
}

static int check(const char *dir, uint64_t acknowledged) {
    static uint8_t want[32768];
    pawl_error e;
    pawl *log;
    pawl_reader *r;
    pawl_batch batch;
    pawl_stream_info info;
    uint32_t next = 0;
    if (pawl_open(dir, NULL, &log, &e) != 0)
        return complain(&e);
    if (pawl_stream_find(log, "s", &info) != 0)
        return acknowledged == 0 ? 0 : 1;
    if (pawl_reader_open(log, info.id, 0, 0, 0, &r) != 0)
        return 1;
    while (pawl_read(r, 0, 0, &batch) > 0)
        for (size_t i = 0; i < batch.count; i++, next++) {
            uint32_t len = fill(want, next);
            if (batch.records[i].value_len != len || memcmp(batch.records[i].value, want, len) != 0) {
                fprintf(stderr, "record %" PRIu32 " is not what was written\n", next);
                return 1;
            }
        }
    pawl_reader_close(r);
    pawl_close(log);
    printf("%" PRIu32 " records, %" PRIu64 " acknowledged\n", next, acknowledged);
    if (next < acknowledged)
        fprintf(stderr, "LOST: %" PRIu64 " records that were acknowledged\n", acknowledged - next);
    return next < acknowledged;
}

int main(int argc, char **argv) {
    if (argc == 5 && strcmp(argv[1], "write") == 0)
        return write_on(argv[2], atoi(argv[3]), atoi(argv[4]));
    if (argc == 3 && strcmp(argv[1], "cut") == 0)
        return cut(argv[2]);
    if (argc == 4 && strcmp(argv[1], "check") == 0)
        return check(argv[2], strtoull(argv[3], NULL, 10));
    return 2;
}
