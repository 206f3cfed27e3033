/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jobs.h"

/* ---- appending */

static uint64_t append_until(struct log *l, const struct setting *s, uint64_t put, uint64_t end) {
    for (; measure_now() < end; put += s->batch)
        log_put(l, s->batch, s->record, put);
    check(pawl_sync(l->log), "sync");
    return put;
}

void job_append(const struct setting *s, struct turn *t) {
    struct log l;
    log_open(&l, s, 1);
    log_keep_little(&l, s);
    uint64_t warm = 0;
    do
        warm = append_until(&l, s, warm, measure_now() + setting_warm_ns(s));
    while (!log_is_steady(&l, s));
    uint64_t put = warm;
    for (uint64_t end; slice_begin(t, &end); slice_end(t))
        put = append_until(&l, s, put, end);
    t->records = put - warm;
    t->commits = t->records / s->batch, t->payload = t->records * s->record;
    t->value = (double)t->payload * 1e9 / (double)t->ns;
    log_close(&l, t);
}

/* ---- logs to be read again */

static uint64_t end_of(pawl *log) {
    pawl_status status = PAWL_STATUS_INIT;
    check(pawl_get_status(log, &status), "status");
    return status.end_lsn;
}

/* Appends until the log has `bytes` bytes; returns the number of records. */
static uint64_t grow(struct log *l, const struct setting *s, uint64_t bytes) {
    struct statvfs v;
    uint64_t put = 0;
    if (statvfs(s->dir, &v) != 0 || (uint64_t)v.f_bavail * v.f_frsize / 2 < bytes)
        give_up("%llu MiB are too much for the free space here", (unsigned long long)(bytes >> 20));
    for (; end_of(l->log) < bytes; put += s->batch)
        log_put(l, s->batch, s->record, put);
    check(pawl_sync(l->log), "sync");
    return put;
}

/* Drops a directory's files from the page cache. */
static void make_cold(const char *dir) {
    struct dirent *e;
    DIR *d = opendir(dir);
    while (d != NULL && (e = readdir(d)) != NULL) {
        int fd = openat(dirfd(d), e->d_name, O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
            fdatasync(fd);
            posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
            close(fd);
        }
    }
    if (d != NULL)
        closedir(d);
}

void job_replay(const struct setting *s, struct turn *t) {
    struct log l;
    pawl_reader *reader;
    log_open(&l, s, 1);
    uint64_t put = grow(&l, s, s->bytes);
    log_close(&l, t);
    make_cold(s->dir);
    log_open(&l, s, 1);
    uint64_t bytes = end_of(l.log), next = 0;
    check(pawl_reader_open(l.log, l.in, 0, 0, PAWL_READ_COMMITTED, &reader), "a reader");
    for (uint64_t end; next < put && slice_begin(t, &end); slice_end(t))
        while (next < put) { /* the whole log, however long the slice */
            pawl_batch batch;
            check(pawl_read(reader, 0, 0, &batch), "read");
            if (batch.count == 0)
                give_up("only %llu of %llu records could be read", (unsigned long long)next,
                        (unsigned long long)put);
            next += batch.count;
        }
    t->records = next, t->payload = next * s->record;
    t->value = (double)bytes * ((double)next / (double)put) * 1e9 / (double)t->ns;
    pawl_reader_close(reader);
    log_close(&l, t);
}

/* A writer in its own process makes the log `bytes` long, commits one more record, and is
 * killed. */
static void write_and_be_killed(const struct setting *s, uint64_t bytes) {
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        struct log l;
        log_open(&l, s, 1);
        grow(&l, s, bytes);
        log_put(&l, 1, s->record, 0);
        check(pawl_sync(l.log), "sync");
        raise(SIGKILL);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status) ||
        WTERMSIG(status) != SIGKILL)
        give_up("the writer was not killed as it should have been");
}

/* Opens the log; notes how long that took and how many bytes were scanned. */
static uint64_t time_opening(const struct setting *s, struct turn *t) {
    struct log l;
    pawl_options o = PAWL_OPTIONS_INIT;
    pawl_status status = PAWL_STATUS_INIT;
    pawl_error e;
    o.memory_cap = s->memory;
    make_cold(s->dir);
    uint64_t end;
    if (!slice_begin(t, &end))
        give_up("no slice to open the log in");
    if (pawl_open(s->dir, &o, &l.log, &e) != 0)
        give_up("pawl, opening %s: %s", s->dir, e.message);
    slice_end(t);
    check(pawl_get_status(l.log, &status), "status");
    if (status.clean)
        give_up("the log had been closed in good order");
    t->payload = status.recovered_bytes;
    snprintf(t->note, sizeof t->note, "%.1f MiB scanned", (double)status.recovered_bytes / 1048576);
    t->log_memory = status.memory_used;
    check(pawl_close(l.log), "closing");
    return status.recovered_bytes;
}

void job_recovery(const struct setting *s, struct turn *t) {
    struct setting mine = *s;
    mine.segment = s->bytes;
    write_and_be_killed(&mine, s->bytes / 20 * 19);
    uint64_t scanned = time_opening(&mine, t);
    t->value = (double)scanned * 1e9 / (double)t->ns;
}

/* The log is kept for the next turn. Its newest segment is nine tenths full, which is nearly the
 * worst case. */
void job_reopen(const struct setting *s, struct turn *t) {
    struct setting mine = *s;
    uint64_t segment = s->segment != 0 ? s->segment : UINT64_C(64) << 20;
    snprintf(mine.dir, sizeof mine.dir, "%s/kept-%llu", s->parent, (unsigned long long)s->bytes);
    write_and_be_killed(&mine, s->bytes - s->bytes % segment + segment / 10 * 9);
    time_opening(&mine, t);
    t->value = (double)t->ns;
}

/* ---- an appliance: ten records a second, each processed, its output durable; 4 MiB segments, 64
 * MiB kept, 2 MiB of memory */

enum { A_DAY = 864000 };

static void open_appliance(struct log *l, const struct setting *s, pawl_reader **reader) {
    pawl_retention keep = {.bytes = UINT64_C(64) << 20};
    log_open(l, s, 1);
    check(pawl_retention_set(l->log, &keep), "retention");
    check(pawl_reader_open(l->log, l->in, 0, 0, PAWL_READ_UNCOMMITTED, reader), "a reader");
}

static void process_one(struct log *l, pawl_reader *reader, uint32_t record, uint64_t n) {
    pawl_batch in;
    pawl_tx *tx;
    log_put(l, 1, record, n);
    check(pawl_read(reader, 1, -1, &in), "read");
    check(pawl_begin(l->log, &tx), "begin");
    check(pawl_put(tx, l->out, 0, &in.records[0]), "put");
    check(pawl_advance(tx, l->processor, l->in, 0, in.from, in.to), "advance");
    check(pawl_commit(tx, NULL), "commit");
}

/* rate 0: each record starts when the previous one is done. */
static void appliance(const struct setting *s, uint32_t rate, uint64_t most, struct turn *t) {
    struct log l;
    pawl_reader *reader;
    struct hdr *h = must_allocate(sizeof *h);
    open_appliance(&l, s, &reader);
    process_one(&l, reader, s->record, 0);
    for (uint64_t end; t->records < most && slice_begin(t, &end); slice_end(t)) {
        uint64_t start = measure_now(), begun = start;
        for (uint64_t n = 1; t->records < most && begun < end; n++) {
            process_one(&l, reader, s->record, t->records++);
            uint64_t now = measure_now();
            hdr_add(h, now - begun);
            begun = rate == 0 ? now : start + n * 1000000000u / rate;
            if (rate != 0)
                measure_sleep_until(begun);
        }
    }
    turn_latencies(t, h);
    t->commits = 2 * t->records, t->payload = 2 * t->records * s->record;
    t->value = (double)t->own_bytes / (double)t->records;
    pawl_reader_close(reader);
    log_close(&l, t);
    free(h);
}

void job_day(const struct setting *s, struct turn *t) {
    appliance(s, 0, A_DAY, t);
    snprintf(t->note, sizeof t->note, "%llu records; %.2f GB written a day",
             (unsigned long long)t->records, t->value * A_DAY / 1e9);
}

void job_idle(const struct setting *s, struct turn *t) {
    appliance(s, s->rate, UINT64_MAX, t);
    snprintf(t->note, sizeof t->note, "%llu records; %.2f GB written a day",
             (unsigned long long)t->records, t->value * A_DAY / 1e9);
}
