/* SPDX-License-Identifier: Apache-2.0 */
/* Work grows with the bytes read, not with their square: logs that name many things are checked,
 * opened and read, and then logs of twice as many entries. Steps are counted (meter.h), so that the
 * answer is the same on every machine; memory is, too. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "meter.h"
#include "pawl.h"
#include "tests/support/forge.h"
#include "tests/support/test_dir.h"

#define SEGMENT (4u * MIB)
#define MEMORY_MAX (64u * MIB)
/* Names and offsets of twice the entries are longer: so a little more than 2 is linear. */
#define TIMES_MAX 2.6

static void name_of(char name[32], uint32_t i) {
    snprintf(name, 32, "n%08u", i);
}

/* Runs of `each` entries, `n` in all. */
#define IN_RUNS(f, type, n, each, entry) \
    for (uint32_t i_ = 0; i_ < (n);) { \
        uint32_t some_ = (n)-i_ < (each) ? (n)-i_ : (each); \
        forge_run((f), (type), 0, 0, some_, 0); \
        for (uint32_t k_ = 0; k_ < some_; k_++, i_++) { \
            uint32_t i = i_; \
            entry; \
        } \
        forge_frame((f), FRAME_COMMIT); \
    }

static void decide(struct forge *f, uint16_t op, uint32_t i) {
    char name[32];
    name_of(name, i);
    sink_encode(&f->body, &(struct sink_entry){1, op, name, (uint16_t)strlen(name)});
}

/* The oldest of 4,000 open decisions is finished, and another one made. */
static void decisions(struct forge *f, uint32_t n) {
    forge_processor(f, 1, "p");
    IN_RUNS(f, RUN_SINKS, 4000, 1000, decide(f, SINK_DECIDED, i))
    IN_RUNS(f, RUN_SINKS, 2 * n, 1000,
            decide(f, i % 2 == 0 ? SINK_FINISHED : SINK_DECIDED, i % 2 == 0 ? i / 2 : 4000 + i / 2))
}

static void many_streams(struct forge *f, uint32_t count, uint32_t partitions) {
    char name[32];
    for (uint32_t i = 1; i <= count; i++) {
        name_of(name, i);
        forge_stream(f, i, partitions, name);
    }
}

static void position(struct forge *f, uint32_t processor, uint32_t stream, uint32_t partition) {
    position_encode(&f->body, &(struct position_entry){processor, stream, partition, 0, 0});
}

/* Positions in descending order. */
static void descending(struct forge *f, uint32_t n) {
    char name[32];
    many_streams(f, 16, 1024);
    for (uint32_t i = 1; i <= 4; i++) {
        name_of(name, i);
        forge_processor(f, i, name);
    }
    IN_RUNS(f, RUN_POSITIONS, n, 2000,
            position(f, 4 - (i >> 14), 16 - (i >> 10 & 15), 1023 - (i & 1023)))
}

static void change(struct forge *f, enum catalog_op op, uint32_t id, const char *name) {
    forge_run(f, RUN_CATALOG, 0, 0, 1, 0);
    catalog_encode(&f->body,
                   &(struct catalog_entry){(uint16_t)op, id, 1, 0, name, (uint16_t)strlen(name)});
}

/* Tables with n partitions, and n flushes of nothing. */
static void flushes(struct forge *f, uint32_t n) {
    char name[32];
    forge_processor(f, 1, "p");
    for (uint32_t i = 0; i * 1000 < n; i++) {
        name_of(name, i);
        forge_run(f, RUN_TABLES, 0, 0, 1, 0);
        table_encode(&f->body,
                     &(struct table_entry){.op = TABLE_CREATE,
                                           .id = i + 1,
                                           .owner = 1,
                                           .partitions = n - i * 1000 < 1000 ? n - i * 1000 : 1000,
                                           .name = name,
                                           .name_len = (uint16_t)strlen(name)});
        forge_frame(f, FRAME_COMMIT);
    }
    IN_RUNS(f, RUN_TABLES, n, 500,
            table_encode(&f->body, &(struct table_entry){.op = TABLE_FLUSHED, .a = i + 1}))
}

/* Streams with a position each come and go beside 16,000 positions. */
static void deleted(struct forge *f, uint32_t n) {
    char name[32];
    descending(f, 16000);
    for (uint32_t i = 0; i < n; i++) {
        name_of(name, 17 + i);
        change(f, CATALOG_STREAM, 17 + i, name);
        forge_run(f, RUN_POSITIONS, 0, 0, 1, 0);
        position(f, 4, 17 + i, 0);
        forge_frame(f, FRAME_COMMIT);
        change(f, CATALOG_DELETE, 17 + i, "");
        forge_frame(f, FRAME_COMMIT);
    }
}

/* Takes what a frame would have counted, as damage did. */
static void lost(struct forge *f) {
    forge_lost(f, 4096);
}

/* After damage: one commit with a run of each of many partitions. */
static void runs_after_loss(struct forge *f, uint32_t n) {
    many_streams(f, 16, 1024);
    lost(f);
    for (uint32_t i = 0; i < n; i++)
        forge_records(f, 1 + (i >> 10), i & 1023, 1, 7);
    forge_frame(f, FRAME_COMMIT);
}

/* After damage: changes that make what is there already, under the same names. */
static void names_after_loss(struct forge *f, uint32_t n) {
    char name[32];
    lost(f);
    IN_RUNS(f, RUN_CATALOG, n, 500, {
        name_of(name, i % 2000);
        catalog_encode(&f->body, &(struct catalog_entry){CATALOG_PRODUCER, 1 + i, 0, 0, name,
                                                         (uint16_t)strlen(name)});
    })
}

static void origin(struct forge *f, uint64_t from, uint64_t to, uint32_t records, uint16_t flags,
                   const struct bytes *order) {
    origin_encode(&f->body, &(struct origin_entry){.producer = 1,
                                                   .stream = 1,
                                                   .from = from,
                                                   .to = to,
                                                   .records = records,
                                                   .flags = flags,
                                                   .unit = PAWL_OUTSIDE_ROWS,
                                                   .mark_kind = PAWL_MARKS_NUMBERS,
                                                   .thing_len = 5,
                                                   .thing = "thing",
                                                   .note = "",
                                                   .order_len = (uint32_t)order->len,
                                                   .order = order->data,
                                                   .marks = (const uint8_t *)""});
}

static void span(struct bytes *order, uint32_t stream, uint32_t partition, uint32_t count) {
    varint_put(order, stream);
    varint_put(order, partition);
    varint_put(order, count);
}

/* One commit whose records, read outside, alternate between many partitions. */
static void origins(struct forge *f, uint32_t n) {
    struct bytes order;
    bytes_init(&order, &f->mem);
    many_streams(f, 16, 1024);
    forge_producer(f, 1, "p");
    for (uint32_t i = 0; i < n; i++)
        forge_records(f, 1 + (i >> 10), i & 1023, 1, 0);
    for (uint32_t i = n; i-- > 0;)
        span(&order, 1 + (i >> 10), i & 1023, 1);
    forge_run(f, RUN_ORIGINS, 0, 0, 1, 0);
    origin(f, 0, n, n, PAWL_OUTSIDE_BEGINS, &order);
    forge_frame(f, FRAME_COMMIT);
    bytes_free(&order);
}

/* A thing that begins again and again. */
static void begun_again(struct forge *f, uint32_t n) {
    struct bytes order;
    bytes_init(&order, &f->mem);
    span(&order, 1, 0, 1);
    many_streams(f, 1, 1);
    forge_producer(f, 1, "p");
    for (uint32_t i = 0, base = 0; i < n; base += 500, i += 500) {
        forge_records(f, 1, 0, 500, base);
        forge_run(f, RUN_ORIGINS, 0, 0, 500, 0);
        for (uint32_t k = 0; k < 500; k++)
            origin(f, 0, 1, 1, PAWL_OUTSIDE_BEGINS, &order);
        forge_frame(f, FRAME_COMMIT);
    }
    bytes_free(&order);
}

/* Equal rows. */
static void equal_rows(struct forge *f, uint32_t n) {
    struct bytes order;
    bytes_init(&order, &f->mem);
    span(&order, 1, 0, 1000);
    many_streams(f, 1, 1);
    forge_producer(f, 1, "p");
    for (uint32_t i = 0; i < n; i += 1000) {
        forge_records(f, 1, 0, 1000, i);
        forge_run(f, RUN_ORIGINS, 0, 0, 1, 0);
        origin(f, i, i + 1000, 1000, i == 0 ? PAWL_OUTSIDE_BEGINS : 0, &order);
        forge_frame(f, FRAME_COMMIT);
    }
    bytes_free(&order);
}

/* Commits that share one spilled run of 5,000 records. */
static void one_spill(struct forge *f, uint32_t n) {
    many_streams(f, 1, 1);
    forge_records(f, 1, 0, 5000, NO_OFFSET);
    uint64_t lsn = forge_frame(f, FRAME_SPILL), hash = f->last_hash;
    for (uint32_t i = 0; i < n; i++) {
        forge_run(f, RUN_SPILLED, 1, 0, 5000, i * UINT64_C(5000));
        spilled_encode(&f->body, &(struct spilled_entry){lsn, hash, 0});
        forge_frame(f, FRAME_COMMIT);
    }
}

/* A commit says that it has the square of n spilled records, and what their origin is, and then
 * that of one that is there: the log is of the same size for all n. */
static void spilled_count(struct forge *f, uint32_t n) {
    struct bytes order, one;
    bytes_init(&order, &f->mem);
    bytes_init(&one, &f->mem);
    many_streams(f, 1, 3);
    forge_producer(f, 1, "p");
    forge_records(f, 1, 1, 1, NO_OFFSET);
    uint64_t lsn = forge_frame(f, FRAME_SPILL), hash = f->last_hash;
    forge_records(f, 1, 0, 1, 0);
    for (uint32_t partition = 1; partition < 3; partition++) {
        span(&order, 1, partition, 1);
        forge_run(f, RUN_SPILLED, 1, partition, n * n, 0);
        spilled_encode(&f->body, &(struct spilled_entry){lsn, hash, 0});
    }
    span(&one, 1, 0, 1);
    forge_run(f, RUN_ORIGINS, 0, 0, 2, 0);
    origin(f, 0, 2 * n * n, 2 * n * n, PAWL_OUTSIDE_BEGINS, &order);
    origin(f, 2 * n * n, 2 * n * n + 1, 1, 0, &one);
    forge_frame(f, FRAME_COMMIT);
    bytes_free(&order);
    bytes_free(&one);
}

/* Damaged frames, each with a good one after it. */
static void damaged_places(struct forge *f, uint32_t n) {
    many_streams(f, 1, 1);
    for (uint32_t i = 0; i < n; i++) {
        forge_records(f, 1, 0, 1, 2 * i);
        forge_spoil(f, forge_frame(f, FRAME_COMMIT));
        f->durable = f->at;
        forge_records(f, 1, 0, 1, 2 * i + 1);
        forge_frame(f, FRAME_COMMIT);
    }
}

static const struct work {
    const char *name;
    void (*make)(struct forge *f, uint32_t n);
    uint32_t n;
} table[] = {
    {"decisions", decisions, 10000},
    {"descending positions", descending, 16000},
    {"deleted streams", deleted, 3000},
    {"flushes of many partitions", flushes, 4000},
    {"runs after a loss", runs_after_loss, 8000},
    {"names after a loss", names_after_loss, 12000},
    {"origins", origins, 8000},
    {"begun again", begun_again, 8000},
    {"equal rows", equal_rows, 60000},
    {"one spilled run", one_spill, 6000},
    {"spilled count", spilled_count, 2000},
    {"damaged places", damaged_places, 1500},
};

/* ---- the calls */

static const char *dir;
static uint64_t records; /* read by the last call */

static void call_verify(void) {
    (void)!pawl_verify(dir, NULL, NULL);
}
static void call_audit(void) {
    (void)!pawl_audit(dir, NULL, NULL);
}
static int on_frame(void *arg, const pawl_frame_info *f) {
    (void)arg, (void)f;
    return 0;
}
static void call_dump(void) {
    (void)!pawl_dump(dir, 0, on_frame, NULL, NULL);
}
static void read_one(pawl *log, uint32_t stream, uint32_t partition) {
    pawl_reader *r;
    pawl_batch b;
    if (pawl_reader_open(log, stream, partition, 0, 0, &r) != 0)
        return;
    for (int n; (n = pawl_read(r, 0, 0, &b)) > 0 || n == PAWL_LOST;)
        records += n > 0 ? (uint64_t)n : 0;
    pawl_reader_close(r);
    pawl_outside_place place = PAWL_OUTSIDE_PLACE_INIT;
    (void)!pawl_explain_outside(log, stream, partition, 0, &place);
}
static void call_read(void) {
    pawl *log;
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_READ | PAWL_OPEN_SALVAGE;
    o.no_thread = 1;
    records = 0;
    if (pawl_open(dir, &o, &log, NULL) != 0)
        return;
    read_one(log, 1, 0);
    (void)!pawl_close(log);
}
static void call_repair(void) {
    (void)!pawl_repair(dir, NULL, NULL);
}

static const struct {
    const char *name;
    void (*call)(void);
} calls[] = {{"verify", call_verify},
             {"audit", call_audit},
             {"dump", call_dump},
             {"read", call_read},
             {"repair", call_repair}};
#define CALLS (sizeof calls / sizeof *calls)

/* The most records that one reference to a spilled run may give is those that are there. */
static int measure(const struct work *w, uint32_t n, uint64_t steps[CALLS]) {
    static struct forge f;
    int bad = 0;
    test_dir_empty(dir);
    forge_begin(&f, dir, SEGMENT);
    w->make(&f, n);
    forge_end(&f);
    for (size_t i = 0; i < CALLS; i++) {
        meter_begin(calls[i].name);
        calls[i].call();
        steps[i] = meter.steps;
        meter_end(MEMORY_MAX, UINT64_MAX);
        if (records > 200000) {
            printf("%s: %s: %llu records\n", w->name, calls[i].name, (unsigned long long)records);
            bad = 1;
        }
    }
    return bad;
}

int main(void) {
    /* in memory, where it can be: repair makes thousands of files, and syncs each */
    char shm[] = "/dev/shm/forged_work.XXXXXX", tmp[] = "/tmp/forged_work.XXXXXX";
    int bad = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    dir = mkdtemp(shm);
    dir = dir != NULL ? dir : mkdtemp(tmp);
    if (dir == NULL)
        return 2;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        uint64_t once[CALLS], twice[CALLS];
        bad |= measure(&table[i], table[i].n, once);
        bad |= measure(&table[i], 2 * table[i].n, twice);
        for (size_t k = 0; k < CALLS; k++) {
            double times = (double)twice[k] / (double)(once[k] + 1);
            printf("%-22s %-7s %12llu %12llu steps, %.2f times\n", table[i].name, calls[k].name,
                   (unsigned long long)once[k], (unsigned long long)twice[k], times);
            if (times > TIMES_MAX)
                bad = 1, printf("that is more than %.1f times\n", TIMES_MAX);
        }
    }
    test_dir_empty(dir);
    rmdir(dir);
    return bad;
}
