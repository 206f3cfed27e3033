/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/damage_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#undef fail
#include <cmocka.h>

#define BIG 60000u

uint8_t *dl_image[SEGMENTS_MAX];
uint64_t dl_first, dl_count;
struct dl_frame dl_frames[FRAMES_MAX];
int dl_frame_count;

pawl *dl_open(const char *dir, uint32_t flags) {
    pawl *log;
    pawl_error e;
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = flags, o.segment_size = SEGMENT, o.memory_cap = 8 * MIB;
    if (pawl_open(dir, &o, &log, &e) != 0)
        fail_msg("opening %s: %s", dir, e.message);
    return log;
}

/* ---- the log */

pawl_tx *dl_begin(pawl *log) {
    pawl_tx *tx;
    assert_int_equal(pawl_begin(log, &tx), 0);
    return tx;
}

void dl_put(pawl_tx *tx, uint32_t stream, uint32_t partition, uint32_t len) {
    static char value[BIG];
    static uint64_t number;
    assert_true(len >= 8 && len <= BIG);
    number++;
    memcpy(value, &number, sizeof number);
    pawl_record r = {.value = value, .value_len = len};
    assert_int_equal(pawl_put(tx, stream, partition, &r), 0);
}

void dl_commit(pawl_tx *tx) {
    assert_int_equal(pawl_commit(tx, NULL), 0);
}

struct names {
    uint32_t s, fill, copy;
};

/* What is made and ended, or made and never mentioned again. */
static void round_of_names(pawl *log, unsigned n) {
    char name[32];
    uint32_t stream, processor;
    if (n > 0) { /* ended, and made anew under the same name */
        assert_int_equal(pawl_stream_delete(log, "again"), 0);
        assert_int_equal(pawl_processor_forget(log, "again"), 0);
    }
    assert_int_equal(pawl_stream_create(log, "again", 1, &stream), 0);
    assert_int_equal(pawl_processor_register(log, "again", &processor), 0);
    snprintf(name, sizeof name, "gone%u", n);
    assert_int_equal(pawl_stream_create(log, name, 2, &stream), 0);
    pawl_tx *tx = dl_begin(log);
    dl_put(tx, stream, 1, 20);
    dl_commit(tx);
    assert_int_equal(pawl_processor_register(log, name, &processor), 0);
    tx = dl_begin(log);
    assert_int_equal(pawl_advance(tx, processor, stream, 1, 0, 1), 0);
    dl_commit(tx);
    assert_int_equal(pawl_processor_forget(log, name), 0);
    assert_int_equal(pawl_stream_delete(log, name), 0);
}

/* Sequences, positions and decisions, with records. */
static void round_of_commits(pawl *log, const struct names *x, unsigned n, uint32_t stream,
                             uint32_t processor) {
    char name[32];
    pawl_producer *producer;
    pawl_tx *tx;
    snprintf(name, sizeof name, "kept%u", n);
    assert_int_equal(pawl_producer_open(log, name, &producer), 0);
    for (uint64_t i = 1; i <= 3; i++) {
        tx = dl_begin(log);
        dl_put(tx, stream, (uint32_t)i - 1, 30);
        dl_put(tx, x->s, 0, 30);
        assert_int_equal(pawl_tx_sequence(tx, producer, i, i, "cookie", 6), 0);
        dl_commit(tx);
    }
    pawl_producer_close(producer);
    for (uint32_t i = 0; i < 2; i++) {
        tx = dl_begin(log);
        dl_put(tx, x->s, 1, 40);
        assert_int_equal(pawl_advance(tx, processor, stream, i, 0, 1), 0);
        dl_commit(tx);
    }
    for (int i = 0; i < 2; i++) {
        tx = dl_begin(log);
        snprintf(name, sizeof name, "batch%u.%d", n, i);
        assert_int_equal(pawl_decide(tx, processor, name), 0);
        dl_commit(tx);
        tx = dl_begin(log);
        if (i == 0)
            assert_int_equal(pawl_finish(tx, processor, name), 0);
        dl_put(tx, x->s, 0, 10);
        dl_commit(tx);
    }
}

/* Each kind of commit once; `n` makes the names. */
static void round_of_everything(pawl *log, const struct names *x, unsigned n) {
    char name[32];
    uint32_t stream, processor, unused;
    round_of_names(log, n);
    snprintf(name, sizeof name, "kept%u", n);
    assert_int_equal(pawl_stream_create(log, name, 3, &stream), 0);
    assert_int_equal(pawl_processor_register(log, name, &processor), 0);
    round_of_commits(log, x, n, stream, processor);
    pawl_tx *tx = dl_begin(log); /* a transaction that spills, and one that is given up */
    for (int i = 0; i < 4; i++)
        dl_put(tx, i == 1 ? stream : x->s, i == 1 ? 2 : (uint32_t)i % 2, 45000);
    dl_commit(tx);
    tx = dl_begin(log);
    for (int i = 0; i < 4; i++)
        dl_put(tx, x->s, 0, 45000);
    pawl_abort(tx);
    pawl_retention r = {.bytes = 3 * (uint64_t)SEGMENT + n};
    assert_int_equal(pawl_retention_set(log, &r), 0);
    assert_int_equal(pawl_disk_cap_set(log, (64 + n) * (uint64_t)SEGMENT), 0);
    pthread_mutex_lock(&log->mutex);
    assert_int_equal(wal_append_mark(&log->wal, FRAME_WITNESS), 0);
    engine_leave(log);
    tx = dl_begin(log); /* each partition goes on, so that its losses show */
    for (uint32_t i = 0; i < 3; i++)
        dl_put(tx, stream, i, 50);
    dl_put(tx, x->s, 0, 50);
    dl_put(tx, x->s, 1, 50);
    dl_commit(tx);
    snprintf(name, sizeof name, "unused%u", n); /* the last ids, never mentioned again */
    assert_int_equal(pawl_stream_create(log, name, 2, &unused), 0);
    assert_int_equal(pawl_processor_register(log, name, &unused), 0);
    for (uint32_t i = 0; i < 2 && n < 2; i++) { /* nothing holds retention back then */
        tx = dl_begin(log);
        assert_int_equal(pawl_advance(tx, processor, stream, i, 1, 2), 0);
        dl_commit(tx);
    }
}

static uint64_t first_segment(pawl *log, uint64_t *last) {
    pawl_status s = PAWL_STATUS_INIT;
    assert_int_equal(pawl_get_status(log, &s), 0);
    *last = s.last_segment;
    return s.first_segment;
}

static void fill_segment(pawl *log, const struct names *x) {
    uint64_t begun, last;
    first_segment(log, &begun);
    do {
        pawl_tx *tx = dl_begin(log);
        dl_put(tx, x->fill, 0, BIG);
        dl_commit(tx);
        first_segment(log, &last);
    } while (last == begun);
}

void dl_make(const char *good) {
    struct names x;
    pawl *log = dl_open(good, PAWL_OPEN_CREATE);
    uint64_t last;
    assert_int_equal(pawl_stream_create(log, "s", 2, &x.s), 0);
    assert_int_equal(pawl_stream_create(log, "fill", 1, &x.fill), 0);
    fill_segment(log, &x);
    for (unsigned n = 0; n < 4; n++) {
        round_of_everything(log, &x, n);
        assert_int_equal(pawl_close(log), 0); /* CLOSE and OPEN in each */
        log = dl_open(good, 0);
        if (n < 3)
            fill_segment(log, &x);
    }
    /* retention works by itself: it is only waited for */
    for (int i = 0; first_segment(log, &last) < 2; i++) {
        assert_true(i < 6000);
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    assert_int_equal(pawl_close(log), 0);
}

/* ---- its bytes, read without the library's recovery */

void dl_file_name(char path[160], const char *dir, uint64_t segment) {
    snprintf(path, 160, "%s/%016llx.seg", dir, (unsigned long long)segment);
}

bool dl_read_file(const char *dir, uint64_t segment, uint8_t *out) {
    char path[160];
    dl_file_name(path, dir, segment);
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return false;
    assert_int_equal(pread(fd, out, SEGMENT, 0), SEGMENT);
    close(fd);
    return true;
}

bool dl_never_mentioned(const char *name, size_t len) {
    return (len > 6 && memcmp(name, "unused", 6) == 0) ||
           (len == 5 && memcmp(name, "again", 5) == 0);
}

static void label_frame(struct dl_frame *f) {
    snprintf(f->label, sizeof f->label, "%s", frame_kind_name(f->h.kind));
    for (uint32_t i = 0; i < f->h.runs; i++) {
        struct run r;
        const uint8_t *data;
        frame_run(f->data, &f->h, i, &r, &data);
        size_t len = strlen(f->label);
        if (f->h.kind != FRAME_CHECKPOINT && strstr(f->label, run_type_name(r.type)) == NULL)
            snprintf(f->label + len, sizeof f->label - len, " %s", run_type_name(r.type));
        uint32_t at = 0;
        struct catalog_entry e;
        for (uint32_t k = 0; r.type == RUN_CATALOG && k < r.count; k++) {
            assert_true(catalog_decode(data, r.len, &at, &e));
            len = strlen(f->label);
            const char *use = !dl_never_mentioned(e.name, e.name_len) ? ""
                              : e.name[0] == 'a'                      ? " again"
                                                                      : " unused";
            snprintf(f->label + len, sizeof f->label - len, "(%u%s)", e.op, use);
        }
        f->changes += r.type == RUN_CATALOG ? r.count : 0;
    }
}

static void read_segment(const char *dir, uint64_t segment, int slot) {
    struct segment_header h;
    int bad;
    if (dl_image[slot] == NULL)
        dl_image[slot] = malloc(SEGMENT);
    assert_non_null(dl_image[slot]);
    assert_true(dl_read_file(dir, segment, dl_image[slot]));
    assert_int_equal(segment_decode(dl_image[slot], segment, &h, &bad), SEGMENT_GOOD);
    uint64_t at = SEGMENT_HEADER_SIZE;
    struct frame_key key;
    (void)segment_key(&h, KEY_OWN, &key);
    while (at + FRAME_HEADER_SIZE <= SEGMENT) {
        struct dl_frame *f = &dl_frames[dl_frame_count];
        memset(f, 0, sizeof *f);
        f->data = dl_image[slot] + at;
        if (frame_decode_header(f->data, segment * SEGMENT + at, SEGMENT, &key, &f->h) !=
            FRAME_GOOD) {
            at = at % BLOCK == 0 ? at + BLOCK : align_up(at, BLOCK);
            continue;
        }
        assert_int_equal(frame_check(f->data, &f->h, &key), FRAME_GOOD);
        f->end = f->h.lsn + frame_length(&f->h);
        label_frame(f);
        at += frame_length(&f->h);
        assert_true(++dl_frame_count < FRAMES_MAX);
    }
}

void dl_read(const char *dir) {
    char path[160];
    dl_frame_count = 0;
    dl_count = 0;
    for (dl_first = 0; dl_file_name(path, dir, dl_first), access(path, F_OK) != 0; dl_first++)
        assert_true(dl_first < 64);
    for (uint64_t n = dl_first; dl_count < SEGMENTS_MAX; n++, dl_count++) {
        struct segment_header h;
        int bad;
        uint8_t *bytes = malloc(SEGMENT);
        bool there =
            dl_read_file(dir, n, bytes) && segment_decode(bytes, n, &h, &bad) == SEGMENT_GOOD;
        free(bytes);
        if (!there)
            break;
        read_segment(dir, n, (int)dl_count);
    }
}

int dl_place(uint64_t lsn) {
    uint64_t n = lsn / SEGMENT;
    return n == dl_first ? OLDEST : n + 1 == dl_first + dl_count ? NEWEST : MIDDLE;
}

/* ---- what a frame held, and what shows that it is gone */

static bool names_partition(const struct dl_frame *f, const struct dl_range *g) {
    for (uint32_t i = 0; i < f->h.runs; i++) {
        struct run r;
        const uint8_t *data;
        struct c_next e;
        uint32_t at = 0;
        frame_run(f->data, &f->h, i, &r, &data);
        if (f->h.kind == FRAME_COMMIT && (r.type == RUN_RECORDS || r.type == RUN_SPILLED) &&
            r.stream == g->stream && r.partition == g->partition)
            return true;
        for (uint32_t k = 0; r.type == RUN_C_NEXT && k < r.count; k++)
            if (c_next_decode(data, r.len, &at, &e) && e.stream == g->stream &&
                e.partition == g->partition)
                return true;
    }
    return false;
}

int dl_ranges(int damaged, struct dl_range *out) {
    const struct dl_frame *d = &dl_frames[damaged];
    int n = 0;
    for (int k = 0; k < dl_frame_count; k++) {
        const struct dl_frame *f = &dl_frames[k];
        for (uint32_t i = 0; f->h.kind == FRAME_COMMIT && i < f->h.runs; i++) {
            struct run r;
            const uint8_t *data;
            struct spilled_entry e;
            frame_run(f->data, &f->h, i, &r, &data);
            bool records = r.type == RUN_RECORDS || r.type == RUN_SPILLED;
            bool refers =
                r.type == RUN_SPILLED && spilled_decode(data, r.len, &e) && e.lsn == d->h.lsn;
            if (!(k == damaged && records) && !refers)
                continue;
            out[n] = (struct dl_range){r.stream, r.partition, r.base, r.base + r.count, refers};
            for (int later = k + 1; later < dl_frame_count; later++)
                out[n].told |= names_partition(&dl_frames[later], &out[n]);
            n++;
        }
    }
    return n;
}
