/* SPDX-License-Identifier: Apache-2.0 */
/* Logs whose every hash is right, and that hold more than a log may: each call that takes a
 * directory refuses them by the limit's name and the value, and repair says so instead of "it can
 * be opened". None takes memory beyond its cap or ends the process. What is exactly at a limit is
 * opened, written to until the next segment begins, and verified. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pipeline/engine.h"
#include "tests/support/forge.h"

#undef fail /* the library has one of its own */
#include <cmocka.h>

#include "tests/support/test_dir.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif

#define SEGMENT MIB
#define MEMORY_MAX (512ull * MIB) /* of the process; nothing here needs a quarter of it */

static char base[64];

/* ---- forgeries: `n` is how many, or the value */

/* Streams of `n` partitions altogether, by commits. */
static void partitions(struct forge *f, uint64_t n) {
    char name[32];
    for (uint32_t id = 1; n != 0; id++) {
        uint32_t some = n < STREAM_PARTITIONS_MAX ? (uint32_t)n : STREAM_PARTITIONS_MAX;
        snprintf(name, sizeof name, "s%u", id);
        forge_stream(f, id, some, name);
        n -= some;
    }
}

static void one_stream(struct forge *f, uint64_t n) {
    forge_run(f, RUN_CATALOG, 0, 0, 1, 0);
    catalog_encode(&f->body, &(struct catalog_entry){CATALOG_STREAM, 1, n, 0, "s", 1});
    forge_frame(f, FRAME_COMMIT);
}

static void many(struct forge *f, enum catalog_op op, uint64_t n) {
    char name[32];
    for (uint32_t id = 1; id <= n;) {
        uint32_t some = n - id + 1 < 1000 ? (uint32_t)n - id + 1 : 1000;
        forge_run(f, RUN_CATALOG, 0, 0, some, 0);
        for (uint32_t i = 0; i < some; i++, id++) {
            int len = snprintf(name, sizeof name, "n%u", id);
            catalog_encode(&f->body,
                           &(struct catalog_entry){(uint16_t)op, id, 1, 0, name, (uint16_t)len});
        }
        forge_frame(f, FRAME_COMMIT);
    }
}

static void streams(struct forge *f, uint64_t n) {
    many(f, CATALOG_STREAM, n);
}

static void producers(struct forge *f, uint64_t n) {
    many(f, CATALOG_PRODUCER, n);
}

static void processors(struct forge *f, uint64_t n) {
    many(f, CATALOG_PROCESSOR, n);
}

static void decisions(struct forge *f, uint64_t n) {
    char name[32];
    forge_processor(f, 1, "p");
    for (uint32_t i = 0; i < n;) {
        uint32_t some = n - i < 1000 ? (uint32_t)(n - i) : 1000;
        forge_run(f, RUN_SINKS, 0, 0, some, 0);
        for (uint32_t k = 0; k < some; k++, i++) {
            int len = snprintf(name, sizeof name, "%u", i);
            sink_encode(&f->body, &(struct sink_entry){1, SINK_DECIDED, name, (uint16_t)len});
        }
        forge_frame(f, FRAME_COMMIT);
    }
}

/* `n` positions, all of the first offset. */
static void positions(struct forge *f, uint64_t n) {
    partitions(f, 8 * (uint64_t)STREAM_PARTITIONS_MAX);
    many(f, CATALOG_PROCESSOR, 64);
    for (uint64_t i = 0; i < n;) {
        uint64_t some = n - i < 4000 ? n - i : 4000;
        forge_run(f, RUN_POSITIONS, 0, 0, (uint32_t)some, 0);
        for (uint64_t k = 0; k < some; k++, i++)
            position_encode(&f->body, &(struct position_entry){(uint32_t)(i >> 13) + 1,
                                                               (uint32_t)(i >> 10 & 7) + 1,
                                                               (uint32_t)(i & 1023), 0, 0});
        forge_frame(f, FRAME_COMMIT);
    }
}

static void processor_id(struct forge *f, uint64_t id) {
    forge_processor(f, (uint32_t)id, "p");
}

static void stream_id(struct forge *f, uint64_t id) {
    forge_stream(f, (uint32_t)id, 1, "s");
}

static void producer_id(struct forge *f, uint64_t id) {
    forge_producer(f, (uint32_t)id, "p");
}

static void sequence_and_epoch(struct forge *f, uint64_t last, uint32_t epoch) {
    forge_producer(f, 1, "p");
    forge_run(f, RUN_PRODUCERS, 0, 0, 1, 0);
    size_t at = f->body.len;
    producer_encode(&f->body,
                    &(struct producer_entry){.producer = 1, .epoch = epoch, .first = 1, .last = 1});
    put64(f->body.data + at + 16, last);
    forge_frame(f, FRAME_COMMIT);
}

static void takeovers(struct forge *f, uint64_t n) {
    sequence_and_epoch(f, 1, (uint32_t)n);
}

static void incarnations(struct forge *f, uint64_t epoch) {
    f->epoch = epoch;
    forge_frame(f, FRAME_OPEN);
}

static void disk_cap(struct forge *f, uint64_t bytes) {
    forge_run(f, RUN_CATALOG, 0, 0, 1, 0);
    catalog_encode(&f->body, &(struct catalog_entry){CATALOG_DISK_CAP, 0, bytes, 0, "", 0});
    forge_frame(f, FRAME_COMMIT);
}

static void header_disk_cap(struct forge *f, uint64_t bytes) {
    f->header.disk_cap = bytes;
}

static void count_of_a_run(struct forge *f, uint64_t n) {
    forge_stream(f, 1, 1, "s");
    forge_records(f, 1, 0, 1, 0);
    f->runs[f->run_count - 1].count = (uint32_t)n;
    forge_frame(f, FRAME_COMMIT);
}

static void position_beyond(struct forge *f, uint64_t offset) {
    forge_stream(f, 1, 1, "s");
    forge_processor(f, 1, "p");
    forge_run(f, RUN_POSITIONS, 0, 0, 1, 0);
    position_encode(&f->body, &(struct position_entry){1, 1, 0, 0, offset});
    forge_frame(f, FRAME_COMMIT);
}

static void spilled_twice(struct forge *f, uint64_t n) {
    forge_stream(f, 1, 1, "s");
    forge_records(f, 1, 0, 10, NO_OFFSET);
    uint64_t lsn = forge_frame(f, FRAME_SPILL), hash = f->last_hash;
    for (uint64_t i = 0; i < n; i++) {
        forge_run(f, RUN_SPILLED, 1, 0, 10, i * 10);
        spilled_encode(&f->body, &(struct spilled_entry){lsn, hash, 0});
        forge_frame(f, FRAME_COMMIT);
    }
}

static void spilled_before(struct forge *f, uint64_t epochs) {
    forge_stream(f, 1, 1, "s");
    forge_records(f, 1, 0, 10, NO_OFFSET);
    uint64_t lsn = forge_frame(f, FRAME_SPILL), hash = f->last_hash;
    for (f->epoch += epochs; epochs != 0; epochs--)
        forge_frame(f, FRAME_OPEN);
    forge_run(f, RUN_SPILLED, 1, 0, 10, 0);
    spilled_encode(&f->body, &(struct spilled_entry){lsn, hash, 0});
    forge_frame(f, FRAME_COMMIT);
}

/* ---- the same in a checkpoint, that of segment 1 */

static void checkpoint_streams(struct forge *f, uint64_t n) {
    char name[32];
    uint32_t count = (uint32_t)((n + STREAM_PARTITIONS_MAX - 1) / STREAM_PARTITIONS_MAX);
    forge_run(f, RUN_C_STREAMS, 0, 0, count, 0);
    for (uint32_t id = 1; id <= count; id++, n -= STREAM_PARTITIONS_MAX) {
        uint32_t some = n < STREAM_PARTITIONS_MAX ? (uint32_t)n : STREAM_PARTITIONS_MAX;
        int len = snprintf(name, sizeof name, "s%u", id);
        c_stream_encode(&f->body, &(struct c_stream){id, some, name, (uint32_t)len});
    }
}

static void checkpoint_next(struct forge *f, uint64_t next) {
    checkpoint_streams(f, 1);
    forge_run(f, RUN_C_NEXT, 0, 0, 1, 0);
    c_next_encode(&f->body, &(struct c_next){1, 0, next});
}

static void checkpoint_producer(struct forge *f, uint64_t sequence) {
    forge_run(f, RUN_C_PRODUCERS, 0, 0, 1, 0);
    c_producer_encode(&f->body,
                      &(struct c_producer){
                          .id = 1, .epoch = 1, .sequence = sequence, .name = "p", .name_len = 1});
}

static void checkpoint_id(struct forge *f, uint64_t id) {
    forge_run(f, RUN_C_STREAMS, 0, 0, 1, 0);
    c_stream_encode(&f->body, &(struct c_stream){(uint32_t)id, 0, "", 0});
}

static void checkpoint_ids_used(struct forge *f, uint64_t id) {
    uint8_t ids[C_IDS_SIZE];
    checkpoint_streams(f, 1);
    c_ids_encode(ids, &(struct c_ids){(uint32_t)id, 1, 1, f->ids.commits, f->ids.changes, 0});
    forge_run(f, RUN_C_IDS, 0, 0, 1, 0);
    bytes_put(&f->body, ids, sizeof ids);
}

static void checkpoint_position(struct forge *f, uint64_t offset) {
    checkpoint_next(f, 10);
    forge_run(f, RUN_C_PROCESSORS, 0, 0, 1, 0);
    c_processor_encode(&f->body, &(struct c_processor){1, "p", 1});
    forge_run(f, RUN_C_POSITIONS, 0, 0, 1, 0);
    c_position_encode(&f->body, &(struct c_position){1, 1, 0, offset});
}

static void checkpoint_position_of(struct forge *f, uint64_t processor) {
    checkpoint_next(f, 10);
    forge_run(f, RUN_C_POSITIONS, 0, 0, 1, 0);
    c_position_encode(&f->body, &(struct c_position){(uint32_t)processor, 1, 0, 1});
}

static void checkpoint_span(struct forge *f, uint64_t segment) {
    forge_run(f, RUN_C_SPANS, 0, 0, 1, 0);
    c_span_encode(&f->body, &(struct c_span){segment, 0});
}

static void checkpoint_spans_back(struct forge *f, uint64_t n) {
    forge_run(f, RUN_C_SPANS, 0, 0, 2, 0);
    c_span_encode(&f->body, &(struct c_span){1, 0});
    c_span_encode(&f->body, &(struct c_span){n, 0});
    put64(f->body.data + f->body.len - 16, 0);
}

/* Where segment 0 has the highest index that a log may have, less `n`. */
static void last_segments(struct forge *f, uint64_t n) {
    f->header.index = LSN_MAX / f->header.segment_size - 1 - n;
    f->at = f->header.index * f->header.segment_size + SEGMENT_HEADER_SIZE;
    f->durable = 0;
    uint8_t ids[C_IDS_SIZE];
    c_ids_encode(ids, &f->ids);
    forge_run(f, RUN_C_IDS, 0, 0, 1, 0);
    bytes_put(&f->body, ids, sizeof ids);
    forge_frame(f, FRAME_CHECKPOINT);
    forge_frame(f, FRAME_OPEN);
}

enum how { BY_COMMITS, BY_CHECKPOINT, BARE };
static const struct forgery {
    const char *name;
    void (*make)(struct forge *f, uint64_t n);
    enum how how;
    uint64_t n;       /* refused */
    uint64_t allowed; /* the most that is taken; UINT64_MAX: not tried */
    int code;
    const char *says;
    bool readable; /* a reader may take it */
} table[] = {
    {"partitions", partitions, BY_COMMITS, 102000, PARTITIONS_MAX - 8192, PAWL_LIMIT,
     "partitions at a time: 17408, and a log's limit is 16384", false},
    {"one partition more", partitions, BY_COMMITS, PARTITIONS_MAX + 1, UINT64_MAX, PAWL_LIMIT,
     "partitions at a time: 16385", false},
    {"partitions of a stream", one_stream, BY_COMMITS, STREAM_PARTITIONS_MAX + 1,
     STREAM_PARTITIONS_MAX, PAWL_LIMIT, "partitions of a stream: 1025", false},
    {"partitions in 64 bits", one_stream, BY_COMMITS, UINT64_C(1) << 32 | 1, UINT64_MAX, PAWL_LIMIT,
     "partitions of a stream: 4294967297", false},
    {"streams", streams, BY_COMMITS, STREAMS_MAX + 1, 2000, PAWL_LIMIT, "streams at a time: 4097",
     false},
    {"producers", producers, BY_COMMITS, PRODUCERS_MAX + 1, 1000, PAWL_LIMIT, "bytes of all tables",
     false},
    {"processors", processors, BY_COMMITS, PROCESSORS_MAX + 1, PROCESSORS_MAX, PAWL_LIMIT,
     "processors at a time: 1025", false},
    {"decisions", decisions, BY_COMMITS, DECISIONS_MAX + 1, 6000, PAWL_LIMIT,
     "open decisions of sinks: 16385", false},
    {"tables", positions, BY_COMMITS, 20000, UINT64_MAX, PAWL_LIMIT,
     "bytes of all tables: ", false},
    {"processor's id", processor_id, BY_COMMITS, UINT32_MAX, UINT32_MAX - 1, PAWL_LIMIT,
     "an id: 4294967295, and a log's limit is 4294967294", false},
    {"stream's id", stream_id, BY_COMMITS, UINT32_MAX, UINT32_MAX - 1, PAWL_LIMIT,
     "an id: ", false},
    {"producer's id", producer_id, BY_COMMITS, UINT32_MAX, UINT32_MAX - 1, PAWL_LIMIT,
     "an id: ", false},
    {"takeovers", takeovers, BY_COMMITS, 0, UINT32_MAX, 0, "", false},
    {"incarnations", incarnations, BY_COMMITS, UINT64_MAX, UINT64_MAX - 2, PAWL_LIMIT,
     "times that the log was opened: 18446744073709551615", true},
    {"disk cap", disk_cap, BY_COMMITS, 1, 64 * SEGMENT, PAWL_LIMIT, "the disk cap: 1", false},
    {"disk cap in the header", header_disk_cap, BY_COMMITS, 4 * SEGMENT - 1, 64 * SEGMENT,
     PAWL_LIMIT, "the disk cap: 4194303", true},
    {"records of a run", count_of_a_run, BY_COMMITS, UINT32_MAX, 1, PAWL_DAMAGED,
     "more than fit into it", false},
    {"position", position_beyond, BY_COMMITS, 1, 0, PAWL_DAMAGED,
     "a position beyond the end of its partition", false},
    {"spilled run of two commits", spilled_twice, BY_COMMITS, 2, 1, PAWL_DAMAGED, "belongs to one",
     false},
    {"spilled run of an earlier incarnation", spilled_before, BY_COMMITS, 1, 0, PAWL_DAMAGED, "",
     false},
    {"partitions of a checkpoint", checkpoint_streams, BY_CHECKPOINT, 102000, PARTITIONS_MAX - 8192,
     PAWL_LIMIT, "partitions at a time: 17408", false},
    {"offsets of a checkpoint", checkpoint_next, BY_CHECKPOINT, UINT64_MAX - 1, INT64_MAX,
     PAWL_LIMIT, "an offset: 18446744073709551614", false},
    {"sequence of a checkpoint", checkpoint_producer, BY_CHECKPOINT, UINT64_MAX, UINT64_MAX - 1,
     PAWL_LIMIT, "a producer's sequence: 18446744073709551615", false},
    {"id of a checkpoint", checkpoint_id, BY_CHECKPOINT, UINT32_MAX, UINT32_MAX - 1, PAWL_LIMIT,
     "an id: 4294967295", false},
    {"next id used already", checkpoint_ids_used, BY_CHECKPOINT, 1, UINT32_MAX, PAWL_DAMAGED,
     "next ids are used already", false},
    {"next id of nothing", checkpoint_ids_used, BY_CHECKPOINT, 0, UINT64_MAX, PAWL_DAMAGED,
     "next ids are used already", false},
    {"position of a checkpoint", checkpoint_position, BY_CHECKPOINT, 11, 10, PAWL_DAMAGED,
     "beyond the end", false},
    {"position of no processor", checkpoint_position_of, BY_CHECKPOINT, 7, UINT64_MAX, PAWL_DAMAGED,
     "not there", false},
    {"span of a later segment", checkpoint_span, BY_CHECKPOINT, 2, 1, PAWL_DAMAGED,
     "a later segment refers", false},
    {"spans out of order", checkpoint_spans_back, BY_CHECKPOINT, 1, UINT64_MAX, PAWL_DAMAGED, "",
     false},
    {"last LSN", last_segments, BARE, 0, 8, PAWL_LIMIT, "an LSN: ", true},
};

static void make(const struct forgery *t, uint64_t n, const char *dir) {
    static struct forge f;
    if (t->how == BARE)
        forge_begin_bare(&f, dir, SEGMENT);
    else
        forge_begin(&f, dir, SEGMENT);
    if (t->how == BY_CHECKPOINT)
        forge_next(&f);
    t->make(&f, n);
    if (t->how == BY_CHECKPOINT) {
        char path[160];
        forge_frame(&f, FRAME_CHECKPOINT);
        snprintf(path, sizeof path, "%s/0000000000000000.seg", dir);
        assert_int_equal(unlink(path), 0); /* nothing before it contradicts it */
    }
    forge_end(&f);
}

/* ---- the calls */

static int no_frame(void *arg, const pawl_frame_info *f) {
    (void)arg, (void)f;
    return 0;
}

static int open_with(const char *dir, uint32_t flags, pawl **log, pawl_error *e) {
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = flags;
    o.no_thread = 1;
    return pawl_open(dir, &o, log, e);
}

static int open_and_close(const char *dir, uint32_t flags, pawl_error *e) {
    pawl *log;
    int rc = open_with(dir, flags, &log, e);
    return rc == 0 ? pawl_close(log) : rc;
}

static bool expect(const char *name, const char *call, int got, int want, const pawl_error *e,
                   const char *says) {
    if (got == want && (want == 0 || strstr(e->message, says) != NULL))
        return true;
    print_error("%s: %s answers %s (%s), not %s: ...%s...\n", name, call, pawl_errname(got),
                e->message, pawl_errname(want), says);
    return false;
}

struct told {
    bool limit;
    const char *says;
};
static void on_finding(void *arg, const pawl_finding *f) {
    struct told *t = arg;
    t->limit |= f->code != 0 && strstr(f->message, t->says) != NULL;
}

static bool refused(const struct forgery *t, const char *dir) {
    pawl_error e = {0};
    bool good = true;
    int reads = t->readable ? 0 : t->code;
    struct told told = {false, t->says};
    pawl_check c = PAWL_CHECK_INIT;
    c.finding = on_finding;
    c.arg = &told;
    good &= expect(t->name, "open", open_and_close(dir, 0, &e), t->code, &e, t->says);
    good &= expect(t->name, "open for reading", open_and_close(dir, PAWL_OPEN_READ, &e), reads, &e,
                   t->says);
    int rc = pawl_verify(dir, &c, &e);
    good &= expect(t->name, "verify", rc, reads, &e, "");
    good &= told.limit == !t->readable;
    c.finding = NULL;
    good &= expect(t->name, "audit", pawl_audit(dir, &c, &e), reads, &e, "");
    good &= expect(t->name, "dump", pawl_dump(dir, 0, no_frame, NULL, &e), 0, &e, "");
    rc = pawl_repair(dir, NULL, &e);
    good &= rc < 0;
    if (rc == 0)
        print_error("%s: repair says that it can be opened\n", t->name);
    good &= expect(t->name, "open after repair", open_and_close(dir, 0, &e), t->code, &e, t->says);
    return good;
}

/* Writes until the next segment has begun: it has the tables in its checkpoint. */
static bool taken(const struct forgery *t, const char *dir) {
    static char value[60000];
    pawl_error e = {0};
    pawl *log;
    uint32_t s = 0;
    pawl_check c = PAWL_CHECK_INIT;
    pawl_record r = {.value = value, .value_len = sizeof value};
    if (!expect(t->name, "open at the limit", open_with(dir, 0, &log, &e), 0, &e, ""))
        return false;
    int rc = pawl_stream_create(log, "own", 1, &s);
    if (rc == PAWL_LIMIT) { /* then any other frame will do */
        s = 0;
        pawl_retention keep = {.bytes = UINT64_MAX};
        for (rc = 0; rc == 0 && log->wal.segment < log->header.index + 2; pawl_tick(log))
            rc = pawl_retention_set(log, &keep);
    }
    for (int i = 0; i < 40 && rc == 0 && s != 0; i++, pawl_tick(log))
        rc = pawl_append(log, s, 0, &r, NULL);
    bool good = rc == 0 || rc == PAWL_FULL;
    if (!good) {
        pawl_last_error(&e);
        print_error("%s: writing at the limit: %s\n", t->name, e.message);
    }
    good &= log->wal.segment > log->header.index || rc == PAWL_FULL;
    uint32_t any;
    pawl_producer *p;
    if (strcmp(t->name, "takeovers") == 0)
        good &= pawl_producer_open(log, "p", &p) == PAWL_LIMIT;
    if (t->allowed == UINT32_MAX - 1)
        good &= pawl_processor_register(log, "q", &any) <= 0;
    good &= pawl_close(log) == 0;
    good &= expect(t->name, "verify at the limit", pawl_verify(dir, &c, &e), 0, &e, "");
    return expect(t->name, "open again", open_and_close(dir, 0, &e), 0, &e, "") && good;
}

/* In a process of its own, so that one that ends by a signal is a fault like others. */
static bool in_child(const struct forgery *t, const char *dir,
                     bool (*fn)(const struct forgery *t, const char *dir)) {
    int status = 0;
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
#ifndef SANITIZED /* a sanitizer takes address space for itself */
        struct rlimit most = {MEMORY_MAX, MEMORY_MAX};
        (void)!setrlimit(RLIMIT_AS, &most);
#endif
        _exit(fn(t, dir) ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status))
        print_error("%s: ended by signal %d\n", t->name, WTERMSIG(status));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void fresh(char dir[96]) {
    snprintf(dir, 96, "%s/log", base);
    assert_int_equal(test_dir_remove(dir), 0);
}

static void beyond_a_limit_is_refused(void **state) {
    char dir[96];
    bool good = true;
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (table[i].code == 0)
            continue;
        fresh(dir);
        make(&table[i], table[i].n, dir);
        good &= in_child(&table[i], dir, refused);
    }
    assert_true(good);
}

static void at_a_limit_is_taken(void **state) {
    char dir[96];
    bool good = true;
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (table[i].allowed == UINT64_MAX)
            continue;
        fresh(dir);
        make(&table[i], table[i].allowed, dir);
        good &= in_child(&table[i], dir, taken);
    }
    assert_true(good);
}

/* What looks like a frame until it is hashed, up to the segment's end, thousands of times: the
 * search ends. */
static void a_search_has_an_end(void **state) {
    static struct forge f;
    char dir[96];
    pawl_error e = {0};
    (void)state;
    fresh(dir);
    forge_begin(&f, dir, SEGMENT);
    forge_stream(&f, 1, 1, "s");
    forge_nest(&f, 4000);
    f.durable = f.at;
    forge_end(&f);
    assert_true(expect("nested", "open", open_and_close(dir, 0, &e), PAWL_DAMAGED, &e, ""));
    assert_true(expect("nested", "verify", pawl_verify(dir, NULL, &e), PAWL_LIMIT, &e,
                       "more damaged places that look like frames"));
    assert_true(expect("nested", "repair", pawl_repair(dir, NULL, &e), PAWL_LIMIT, &e, ""));
    assert_true(expect("nested", "salvage",
                       open_and_close(dir, PAWL_OPEN_READ | PAWL_OPEN_SALVAGE, &e), PAWL_LIMIT, &e,
                       ""));
}

static int setup(void **state) {
    (void)state;
    strcpy(base, "/tmp/test_forged_limits.XXXXXX");
    return mkdtemp(base) != NULL ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    return test_dir_remove(base);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(beyond_a_limit_is_refused),
        cmocka_unit_test(at_a_limit_is_taken),
        cmocka_unit_test(a_search_has_an_end),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
