/* SPDX-License-Identifier: Apache-2.0
 *
 * sink.c - a whole sink of your own, which needs only the public headers. Its target is a directory
 * with a file for each partition, "records position". A file is replaced by rename(2). That is the
 * target's own transaction: it holds data and position together. So the sink is transactional, and
 * the tally is right, whatever is killed at any moment.
 *
 * usage: sink LOG STREAM DIRECTORY     delivers what is durable in the log, then ends
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "pawl_connect.h"

struct tally {
    int dir;
    uint64_t records, position; /* of the current partition; the current batch changes them */
};

/* Reads the partition's file: DONE, or GONE if there is none. */
static int load(struct tally *t, const pawl_sink_batch *b, pawl_fault *f) {
    char name[32], text[96] = "";
    *t = (struct tally){.dir = t->dir};
    snprintf(name, sizeof name, "%" PRIu32 "-%" PRIu32, b->stream_id, b->partition);
    int fd = openat(t->dir, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return PAWL_GONE;
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    if (got > 0 && sscanf(text, "%" SCNu64 " %" SCNu64, &t->records, &t->position) == 2)
        return PAWL_DONE;
    return pawl_fault_set(f, PAWL_FATAL, "%s is not a tally", name);
}

/* Makes earlier renames durable: they may only be in the page cache. */
static int open_target(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    (void)b;
    return fsync(((struct tally *)self)->dir) == 0
               ? PAWL_DONE
               : pawl_fault_set(f, PAWL_RETRY, "cannot sync the directory");
}

static int position(void *self, const pawl_sink_batch *b, uint64_t *offset, pawl_fault *f) {
    struct tally *t = self;
    int outcome = load(t, b, f);
    *offset = t->position;
    return outcome;
}

static int begin(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    return load(self, b, f) == PAWL_FATAL ? PAWL_FATAL : PAWL_DONE;
}

static int write_records(void *self, const pawl_sink_batch *b, const pawl_record *r, size_t n,
                         pawl_fault *f) {
    (void)b, (void)r, (void)f;
    ((struct tally *)self)->records += n;
    return PAWL_DONE;
}

static int commit(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    const struct tally *t = self;
    char name[32], text[96];
    snprintf(name, sizeof name, "%" PRIu32 "-%" PRIu32, b->stream_id, b->partition);
    int n = snprintf(text, sizeof text, "%" PRIu64 " %" PRIu64 "\n", t->records, b->to);
    int fd = openat(t->dir, "next", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int good = fd >= 0 && write(fd, text, (size_t)n) == n && fdatasync(fd) == 0;
    if (fd >= 0)
        close(fd);
    if (!good || renameat(t->dir, "next", t->dir, name) != 0 || fsync(t->dir) != 0)
        /* the runtime asks position() whether the rename took effect */
        return pawl_fault_set(f, PAWL_RETRY, "cannot replace %s", name);
    return PAWL_DONE;
}

static void forget(void *self) { /* abort: begin() loads the committed count again */
    (void)self;
}

int main(int argc, char **argv) {
    struct tally target = {.dir =
                               argc == 4 ? open(argv[3], O_DIRECTORY | O_RDONLY | O_CLOEXEC) : -1};
    pawl_sink_ops ops = PAWL_SINK_OPS_INIT;
    ops.kind = PAWL_SINK_TRANSACTIONAL, ops.type = "tally", ops.self = &target;
    ops.open = open_target, ops.position = position, ops.begin = begin, ops.write = write_records;
    ops.commit = commit, ops.abort = forget;
    pawl *log = NULL;
    pawl_error e = {.message = "usage: sink LOG STREAM DIRECTORY"};
    pawl_stream_info in;
    pawl_sink *sink = NULL;
    pawl_sink_config c = PAWL_SINK_CONFIG_INIT;
    c.name = "tally", c.inputs = &in.id, c.input_count = 1, c.batch_records = 1000;
    int code = target.dir < 0 ? PAWL_INVALID : pawl_open(argv[1], NULL, &log, &e);
    if (code == 0 && (code = pawl_stream_find(log, argv[2], &in)) == 0)
        code = pawl_sink_add(log, &c, &ops, &sink, &e);
    if (code == 0 && (code = pawl_sink_start(sink)) == 0)
        /* delivers what is in the log; a long-running program stops only at its end */
        code = pawl_sink_stop(sink, 60000);
    if (code < 0)
        fprintf(stderr, "sink: %s %s\n", pawl_strerror(code), e.message);
    pawl_sink_remove(sink);
    return pawl_close(log) < 0 || code < 0;
}
