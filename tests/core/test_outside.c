/* SPDX-License-Identifier: Apache-2.0 */
/* The audit of what was read outside: what each interval means where its thing stands, which
 * content came twice, and what pawl_audit() says of whole logs. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "pipeline/outside.h"
#include "tests/support/test_dir.h"

#define BEGINS PAWL_OUTSIDE_BEGINS
#define CONTINUES PAWL_OUTSIDE_CONTINUES
#define PASSED PAWL_OUTSIDE_PASSED
#define SPARSE PAWL_OUTSIDE_SPARSE
#define LOSS 0x1000u    /* frames are lost before this interval */
#define EXCUSED 0x2000u /* earlier intervals may be missing */
#define ROWS 0x4000u
#define OTHER 0x8000u /* into another stream */

/* ---- where things stand: labelled cases */

struct step {
    const char *thing;
    uint64_t from, to;
    uint32_t flags;
    const char *note;
    enum tile want;
    uint64_t at; /* where it should have begun; looked at for faults */
};
static const struct tile_case {
    const char *name;
    struct step steps[8];
} cases[] = {
    {"joins", {{"a", 0, 10, BEGINS, "", TILE_BEGINS, 0}, {"a", 10, 20, 0, "", TILE_JOINS, 0}}},
    {"an interval of nothing",
     {{"a", 0, 10, BEGINS, "", TILE_BEGINS, 0},
      {"a", 10, 10, 0, "", TILE_JOINS, 0},
      {"a", 10, 11, 0, "", TILE_JOINS, 0}}},
    {"a gap, told once",
     {{"a", 0, 10, BEGINS, "", TILE_BEGINS, 0},
      {"a", 11, 20, 0, "", TILE_GAP, 10},
      {"a", 20, 30, 0, "", TILE_JOINS, 0}}},
    {"an overlap by one",
     {{"a", 0, 10, BEGINS, "", TILE_BEGINS, 0}, {"a", 9, 20, 0, "", TILE_OVERLAP, 10}}},
    {"the same again",
     {{"a", 0, 10, BEGINS, "", TILE_BEGINS, 0}, {"a", 0, 10, 0, "", TILE_OVERLAP, 10}}},
    {"two things interleaved",
     {{"a", 0, 10, BEGINS, "", TILE_BEGINS, 0},
      {"b", 0, 5, BEGINS, "", TILE_BEGINS, 0},
      {"a", 10, 20, 0, "", TILE_JOINS, 0},
      {"b", 5, 6, 0, "", TILE_JOINS, 0},
      {"a", 20, 21, 0, "", TILE_JOINS, 0}}},
    {"one thing into two streams",
     {{"a", 0, 10, BEGINS, "", TILE_BEGINS, 0},
      {"a", 0, 10, BEGINS | OTHER, "", TILE_BEGINS, 0},
      {"a", 10, 20, 0, "", TILE_JOINS, 0}}},
    {"restarts at 0, said",
     {{"a", 0, 10, BEGINS, "", TILE_BEGINS, 0},
      {"a", 0, 5, BEGINS, "", TILE_BEGINS_AGAIN, 0},
      {"a", 5, 6, 0, "", TILE_JOINS, 0}}},
    {"restarts at 0, not said",
     {{"a", 0, 10, BEGINS, "", TILE_BEGINS, 0}, {"a", 0, 5, 0, "", TILE_OVERLAP, 10}}},
    {"begins in the middle of a file", {{"a", 7, 10, BEGINS, "", TILE_NO_BEGINNING, 0}}},
    {"begins again in the middle of a file",
     {{"a", 0, 10, BEGINS, "", TILE_BEGINS, 0}, {"a", 7, 10, BEGINS, "", TILE_NO_BEGINNING, 0}}},
    {"start: end",
     {{"a", 0, 700, BEGINS | PASSED, "start: end", TILE_BEGINS, 0},
      {"a", 700, 710, 0, "", TILE_JOINS, 0}}},
    {"rows may begin anywhere", {{"t", 7, 10, BEGINS | ROWS, "", TILE_BEGINS, 0}}},
    {"a beginning that nobody said", {{"a", 0, 10, 0, "", TILE_NO_BEGINNING, 0}}},
    {"retention took the beginning",
     {{"a", 50, 60, EXCUSED, "", TILE_TAKEN_UP, 0},
      {"a", 60, 70, EXCUSED, "", TILE_JOINS, 0},
      {"a", 71, 80, EXCUSED, "", TILE_GAP, 70}}},
    {"passed over, a hole",
     {{"a", 0, 10, BEGINS, "", TILE_BEGINS, 0},
      {"a", 10, 4096, PASSED, "a hole", TILE_JOINS, 0},
      {"a", 4096, 5000, 0, "", TILE_JOINS, 0}}},
    {"passed over doesn't excuse a gap",
     {{"a", 0, 10, BEGINS, "", TILE_BEGINS, 0}, {"a", 12, 4096, PASSED, "a hole", TILE_GAP, 10}}},
    {"sparse numbers",
     {{"t", 0, 10, BEGINS | ROWS | SPARSE, "", TILE_BEGINS, 0},
      {"t", 15, 20, ROWS | SPARSE, "", TILE_JOINS, 0},
      {"t", 20, 30, ROWS, "", TILE_JOINS, 0}}},
    {"sparse numbers don't go back",
     {{"t", 0, 10, BEGINS | ROWS | SPARSE, "", TILE_BEGINS, 0},
      {"t", 9, 20, ROWS | SPARSE, "", TILE_OVERLAP, 10}}},
    {"a longer copy goes on",
     {{"a", 0, 10, BEGINS, "", TILE_BEGINS, 0},
      {"b", 10, 15, CONTINUES, "a", TILE_CONTINUES, 10},
      {"b", 15, 20, 0, "", TILE_JOINS, 0}}},
    {"a longer copy goes on too far",
     {{"a", 0, 10, BEGINS, "", TILE_BEGINS, 0}, {"b", 12, 15, CONTINUES, "a", TILE_GAP, 10}}},
    {"a longer copy goes back",
     {{"a", 0, 10, BEGINS, "", TILE_BEGINS, 0}, {"b", 0, 15, CONTINUES, "a", TILE_OVERLAP, 10}}},
    {"continues what nobody read", {{"b", 12, 15, CONTINUES, "a", TILE_NO_BEGINNING, 0}}},
    {"continues what retention took", {{"b", 12, 15, CONTINUES | EXCUSED, "a", TILE_TAKEN_UP, 0}}},
    {"goes on beside what continues it",
     {{"a", 0, 10, BEGINS, "", TILE_BEGINS, 0},
      {"b", 10, 15, CONTINUES, "a", TILE_CONTINUES, 10},
      {"a", 10, 15, 0, "", TILE_AFTER_END, 10}}},
    {"two continue one",
     {{"a", 0, 10, BEGINS, "", TILE_BEGINS, 0},
      {"b", 10, 15, CONTINUES, "a", TILE_CONTINUES, 10},
      {"c", 10, 15, CONTINUES, "a", TILE_AFTER_END, 10}}},
    {"a name used again after it was continued",
     {{"a", 0, 10, BEGINS, "", TILE_BEGINS, 0},
      {"b", 10, 15, CONTINUES, "a", TILE_CONTINUES, 10},
      {"a", 0, 3, BEGINS, "", TILE_BEGINS_AGAIN, 0},
      {"a", 3, 4, 0, "", TILE_JOINS, 0}}},
    {"lost frames between",
     {{"a", 0, 10, BEGINS, "", TILE_BEGINS, 0},
      {"b", 0, 10, BEGINS, "", TILE_BEGINS, 0},
      {"a", 30, 40, LOSS, "", TILE_AFTER_LOSS, 10},
      {"a", 41, 50, 0, "", TILE_GAP, 40},
      {"b", 12, 15, 0, "", TILE_AFTER_LOSS, 10},
      {"c", 12, 15, 0, "", TILE_TAKEN_UP, 0},
      {"b", 15, 16, 0, "", TILE_JOINS, 0}}},
    {"lost frames that changed nothing",
     {{"a", 0, 10, BEGINS, "", TILE_BEGINS, 0}, {"a", 10, 40, LOSS, "", TILE_JOINS, 0}}},
};

static int take(struct tiles *t, const struct step *s, uint64_t lsn, enum tile *tile,
                uint64_t *at) {
    struct thing *x;
    if ((s->flags & LOSS) != 0)
        t->losses++;
    struct origin_entry e = {.stream = (s->flags & OTHER) != 0 ? 2 : 1,
                             .from = s->from,
                             .to = s->to,
                             .flags = (uint16_t)(s->flags & 0xfff),
                             .unit = (s->flags & ROWS) != 0 ? PAWL_OUTSIDE_ROWS : 0,
                             .thing = s->thing,
                             .thing_len = (uint8_t)strlen(s->thing),
                             .note = s->note,
                             .note_len = (uint8_t)strlen(s->note)};
    return tiles_take(t, &e, (s->flags & EXCUSED) != 0, lsn, tile, &x, at);
}

static void each_interval_is_judged(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mem m;
        struct tiles t;
        mem_init(&m, 0);
        tiles_init(&t, &m);
        for (uint32_t k = 0; k < 8 && cases[i].steps[k].thing != NULL; k++) {
            const struct step *s = &cases[i].steps[k];
            enum tile tile;
            uint64_t at;
            assert_int_equal(take(&t, s, k, &tile, &at), 0);
            if (tile != s->want || (tile_is_fault(tile) && at != s->at))
                fail_msg("%s, interval %u: %d at %llu, not %d at %llu", cases[i].name, k, tile,
                         (unsigned long long)at, s->want, (unsigned long long)s->at);
        }
        tiles_free(&t);
        assert_int_equal(m.used, 0);
    }
}

/* Of more things than fit those stay that were read last. */
static void things_are_bounded(void **state) {
    struct mem m;
    struct tiles t;
    enum tile tile;
    uint64_t at, lsn = 0;
    (void)state;
    mem_init(&m, 0);
    tiles_init(&t, &m);
    t.max = 64;
    for (uint32_t i = 0; i < 1000; i++) {
        char name[16];
        snprintf(name, sizeof name, "file %u", i);
        assert_int_equal(take(&t, &(struct step){name, 0, 10, BEGINS, "", 0, 0}, ++lsn, &tile, &at),
                         0);
        assert_int_equal(tile, TILE_BEGINS);
        assert_int_equal(take(&t, &(struct step){"busy", i, i + 1, i == 0 ? BEGINS : 0, "", 0, 0},
                              ++lsn, &tile, &at),
                         0);
        assert_int_equal(tile, i == 0 ? TILE_BEGINS : TILE_JOINS);
        assert_true(t.count <= 64);
    }
    assert_true(t.forgotten >= 900);
    assert_int_equal(take(&t, &(struct step){"file 3", 10, 11, 0, "", 0, 0}, ++lsn, &tile, &at), 0);
    assert_int_equal(tile, TILE_TAKEN_UP); /* it was forgotten */
    assert_int_equal(take(&t, &(struct step){"busy", 0, 1, 0, "", 0, 0}, ++lsn, &tile, &at), 0);
    assert_int_equal(tile, TILE_OVERLAP); /* it was not */
    tiles_free(&t);
}

/* ---- whole logs */

struct fixture {
    char dir[64];
    pawl *log;
    pawl_producer *producer;
    uint32_t stream, other, four;
    uint64_t sequence;
};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    pawl_options o = PAWL_OPTIONS_INIT;
    if (f == NULL)
        return -1;
    if (test_dir_make(f->dir, "/tmp/test_outside") != 0)
        return -1;
    o.flags = PAWL_OPEN_CREATE;
    o.segment_size = MIB;
    *state = f;
    return pawl_open(f->dir, &o, &f->log, NULL) != 0 ||
           pawl_stream_create(f->log, "s", 1, &f->stream) != 0 ||
           pawl_stream_create(f->log, "other", 1, &f->other) != 0 ||
           pawl_stream_create(f->log, "four", 4, &f->four) != 0 ||
           pawl_producer_open(f->log, "p", &f->producer) != 0;
}

static void close_log(struct fixture *f) {
    pawl_producer_close(f->producer);
    if (f->log != NULL)
        assert_int_equal(pawl_close(f->log), 0);
    f->producer = NULL;
    f->log = NULL;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    close_log(f);
    int rc = test_dir_remove(f->dir);
    free(f);
    return rc;
}

/* A file's lines: the i-th is "SEED line I" and filled to the length. Two seeds from a line on: a
 * file with another's beginning. */
struct file {
    const char *thing;
    const char *seed;
    uint32_t length, shared; /* the first `shared` lines are of seed "head" */
};

static uint32_t line_of(const struct file *f, uint32_t i, char out[256]) {
    memset(out, '.', f->length);
    int n = snprintf(out, 256, "%s line %u ", i < f->shared ? "head" : f->seed, i);
    out[n] = '.';
    return f->length;
}

/* Reads lines from `from` to `to` of a file, in one commit. */
static void read_lines(struct fixture *f, const struct file *file, uint32_t from, uint32_t to,
                       uint32_t flags, uint32_t stream) {
    pawl_outside o = PAWL_OUTSIDE_INIT;
    pawl_tx *tx;
    char line[256];
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_tx_origin(tx, f->producer, NULL), 0);
    for (uint32_t i = from; i < to; i++) {
        pawl_record r = {.value = line, .value_len = line_of(file, i, line)};
        assert_int_equal(pawl_put(tx, stream, PAWL_ANY, &r), 0);
    }
    o.thing = file->thing;
    o.from = (uint64_t)from * (file->length + 1);
    o.to = (uint64_t)to * (file->length + 1);
    o.flags = flags;
    o.stream = stream;
    o.mark_kind = PAWL_MARKS_LINES;
    o.step = 1;
    assert_int_equal(pawl_tx_origin(tx, f->producer, &o), 0);
    f->sequence++;
    assert_int_equal(pawl_tx_sequence(tx, f->producer, f->sequence, f->sequence, NULL, 0), 0);
    assert_int_equal(pawl_commit(tx, NULL), 0);
}

struct found {
    uint32_t gaps, overlaps, twice, passed, lost, more, told;
    char first[512];
};

static void on_finding(void *arg, const pawl_finding *x) {
    struct found *f = arg;
    f->gaps += strcmp(x->label, "outside-gap") == 0;
    f->overlaps += strcmp(x->label, "outside-overlap") == 0;
    f->twice += strcmp(x->label, "outside-twice") == 0;
    f->passed += strcmp(x->label, "passed-over") == 0;
    f->lost += strcmp(x->label, "outside-lost") == 0;
    f->more += strcmp(x->label, "outside-more") == 0;
    f->told++;
    if (f->first[0] == 0)
        snprintf(f->first, sizeof f->first, "%s", x->message);
}

static int audit(struct fixture *f, struct found *found, pawl_check *c) {
    close_log(f);
    memset(found, 0, sizeof *found);
    *c = (pawl_check)PAWL_CHECK_INIT;
    c->finding = on_finding;
    c->arg = found;
    return pawl_audit(f->dir, c, NULL);
}

static void expect(struct fixture *f, uint32_t gaps, uint32_t overlaps, uint32_t twice) {
    struct found found;
    pawl_check c;
    int rc = audit(f, &found, &c);
    if (found.gaps != gaps || found.overlaps != overlaps || found.twice != twice ||
        c.twice != twice || c.problems != gaps + overlaps + twice)
        fail_msg("%u gaps, %u overlaps, %u twice: %s", found.gaps, found.overlaps, found.twice,
                 found.first);
    assert_int_equal(rc, gaps + overlaps + twice == 0 ? 0 : PAWL_TILING);
}

static const struct file a = {"file 1:1 a.log", "a", 40, 0}, b = {"file 1:2 a.log", "b", 40, 0},
                         a_copy = {"file 1:3 a.log", "a", 40, 0},
                         a_copy2 = {"file 1:4 a.log", "a", 40, 0};

static void a_log_that_joins_is_well(void **state) {
    struct fixture *f = *state;
    read_lines(f, &a, 0, 100, BEGINS, f->stream);
    read_lines(f, &b, 0, 300, BEGINS, f->stream);
    read_lines(f, &a, 100, 250, 0, f->stream);
    read_lines(f, &a, 0, 250, BEGINS, f->other); /* a source of another stream */
    read_lines(f, &b, 300, 301, 0, f->stream);
    expect(f, 0, 0, 0);
}

static void gaps_and_overlaps_are_found(void **state) {
    struct fixture *f = *state;
    read_lines(f, &a, 0, 100, BEGINS, f->stream);
    read_lines(f, &a, 101, 200, 0, f->stream); /* a line is missing */
    read_lines(f, &b, 0, 100, BEGINS, f->stream);
    read_lines(f, &b, 90, 120, 0, f->stream); /* ten lines again */
    read_lines(f, &b, 120, 130, 0, f->stream);
    expect(f, 1, 1, 0);
}

/* Three times a file of 300 lines was replaced by its longer copy, and read from its beginning. */
static void longer_copies_are_found(void **state) {
    struct fixture *f = *state;
    static const struct file last = {"file 1:5 a.log", "a", 40, 0};
    read_lines(f, &a, 0, 300, BEGINS, f->stream);
    read_lines(f, &a_copy, 0, 301, BEGINS, f->stream);
    read_lines(f, &a_copy2, 0, 302, BEGINS, f->stream);
    read_lines(f, &last, 0, 100, BEGINS, f->stream);
    read_lines(f, &last, 100, 303, 0, f->stream);
    expect(f, 0, 0, 3);
}

/* The same, by name: the runtime went on where the older one ended. */
static void longer_copies_that_go_on_are_well(void **state) {
    struct fixture *f = *state;
    pawl_outside o = PAWL_OUTSIDE_INIT;
    pawl_tx *tx;
    read_lines(f, &a, 0, 300, BEGINS, f->stream);
    o.thing = a_copy.thing, o.note = a.thing, o.flags = CONTINUES, o.stream = f->stream;
    o.from = o.to = 300u * 41;
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_tx_origin(tx, f->producer, &o), 0);
    assert_int_equal(pawl_commit(tx, NULL), 0);
    read_lines(f, &a_copy, 300, 301, 0, f->stream);
    expect(f, 0, 0, 0);
}

static void copies_in_several_partitions_are_found(void **state) {
    struct fixture *f = *state;
    read_lines(f, &a, 0, 103, BEGINS, f->four);
    read_lines(f, &a, 103, 301, 0, f->four);
    read_lines(f, &a_copy, 0, 50, BEGINS, f->four);
    read_lines(f, &a_copy, 50, 301, 0, f->four);
    expect(f, 0, 0, 1);
}

/* Transactions that spilled. */
static void copies_in_large_transactions_are_found(void **state) {
    struct fixture *f = *state;
    static const struct file large = {"large", "large", 200, 0}, copy = {"copy", "large", 200, 0};
    struct found found;
    pawl_check c;
    read_lines(f, &large, 0, 9000, BEGINS, f->four);
    read_lines(f, &copy, 0, 9000, BEGINS, f->four);
    assert_int_equal(audit(f, &found, &c), PAWL_TILING);
    assert_int_equal(found.twice, 1);
    assert_int_equal(found.told, 1); /* and nothing that was not compared */
    assert_true(c.frames > 3 + c.commits + 3);
}

/* Copy and truncate: the copy's name matches too. And a file that was read again. */
static void copied_and_truncated_files_are_found(void **state) {
    struct fixture *f = *state;
    read_lines(f, &a, 0, 100, BEGINS, f->stream);
    read_lines(f, &(struct file){a.thing, "new", 40, 0}, 0, 100, BEGINS, f->stream);
    read_lines(f, &a_copy, 0, 100, BEGINS, f->stream);
    read_lines(f, &a, 0, 100, BEGINS, f->stream);
    expect(f, 0, 0, 2);
}

/* Equal first lines, and a few equal lines anywhere, are no copies. */
static void equal_headers_are_no_copies(void **state) {
    struct fixture *f = *state;
    static const struct file one = {"file 1", "one", 60, 40}, two = {"file 2", "two", 60, 40},
                             short1 = {"file 3", "three", 60, 10},
                             short2 = {"file 4", "four", 60, 10};
    read_lines(f, &one, 0, 500, BEGINS, f->stream);
    read_lines(f, &two, 0, 500, BEGINS, f->stream);
    read_lines(f, &short1, 0, 12, BEGINS, f->stream);
    read_lines(f, &short2, 0, 12, BEGINS, f->stream);
    expect(f, 0, 0, 0);
}

/* More records than there are samples: the rate falls, and copies are still found. */
static void copies_are_found_in_a_large_log(void **state) {
    struct fixture *f = *state;
    static const struct file large = {"large", "large", 24, 0}, copy = {"copy", "large", 24, 0};
    for (uint32_t i = 0; i < 400; i++)
        read_lines(f, &large, i * 1000, i * 1000 + 1000, i == 0 ? BEGINS : 0, f->stream);
    for (uint32_t i = 0; i < 20; i++)
        read_lines(f, &copy, i * 1000, i * 1000 + 1000, i == 0 ? BEGINS : 0, f->stream);
    expect(f, 0, 0, 1);
}

static void many_findings_are_counted(void **state) {
    struct fixture *f = *state;
    struct found found;
    pawl_check c;
    read_lines(f, &a, 0, 2, BEGINS, f->stream);
    for (uint32_t i = 1; i < 151; i++)
        read_lines(f, &a, i * 3, i * 3 + 2, 0, f->stream);
    assert_int_equal(audit(f, &found, &c), PAWL_TILING);
    assert_int_equal(c.problems, 150);
    assert_int_equal(found.gaps, 100);
    assert_int_equal(found.more, 1);
}

/* A log of an older version says nothing of what it read; what comes after it takes that up. */
static void silence_before_is_no_gap(void **state) {
    struct fixture *f = *state;
    pawl_record r = {.value = "v", .value_len = 1};
    pawl_tx *tx;
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_put(tx, f->stream, 0, &r), 0);
    f->sequence++;
    assert_int_equal(pawl_tx_sequence(tx, f->producer, f->sequence, f->sequence, NULL, 0), 0);
    assert_int_equal(pawl_commit(tx, NULL), 0);
    read_lines(f, &a, 100, 200, 0, f->stream);
    read_lines(f, &a, 201, 210, 0, f->stream);
    expect(f, 1, 0, 0);
}

/* Retention took the first intervals. */
static void retention_leaves_no_gap(void **state) {
    struct fixture *f = *state;
    static const struct file large = {"large", "large", 200, 0};
    pawl_retention r = {.bytes = 2u << 20};
    pawl_status s = PAWL_STATUS_INIT;
    for (uint32_t i = 0; i < 40; i++)
        read_lines(f, &large, i * 1000, i * 1000 + 1000, i == 0 ? BEGINS : 0, f->stream);
    assert_int_equal(pawl_retention_set(f->log, &r), 0);
    assert_true(pawl_retention_apply(f->log) >= 0);
    assert_int_equal(pawl_get_status(f->log, &s), 0);
    assert_true(s.first_segment > 0);
    expect(f, 0, 0, 0);
}

/* ---- damage */

static uint64_t second_commit;

static int find_commit(void *arg, const pawl_frame_info *i) {
    uint32_t *n = arg;
    if (strcmp(i->kind, "COMMIT") == 0 && strstr(i->text, "ORIGINS") != NULL && ++*n == 2)
        second_commit = i->lsn;
    return 0;
}

static void lost_intervals_are_remarks(void **state) {
    struct fixture *f = *state;
    struct found found;
    pawl_check c;
    char path[128];
    uint32_t n = 0;
    read_lines(f, &a, 0, 100, BEGINS, f->stream);
    read_lines(f, &a, 100, 200, 0, f->stream);
    read_lines(f, &a, 200, 300, 0, f->stream);
    read_lines(f, &a, 300, 400, 0, f->stream);
    close_log(f);
    assert_int_equal(pawl_dump(f->dir, 0, find_commit, &n, NULL), 0);
    snprintf(path, sizeof path, "%s/%016x.seg", f->dir, 0);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "damage", 6, (off_t)second_commit + 200), 6);
    close(fd);
    assert_int_equal(audit(f, &found, &c), PAWL_DAMAGED);
    assert_int_equal(found.lost, 1);
    assert_int_equal(found.gaps + found.overlaps, 0);
    c = (pawl_check)PAWL_CHECK_INIT;
    assert_int_equal(pawl_repair(f->dir, &c, NULL), 0);
    assert_int_equal(audit(f, &found, &c), 0);
    assert_int_equal(found.lost, 1);
    assert_int_equal(found.gaps + found.overlaps, 0);
}

int main(void) {
#define LOG_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_interval_is_judged),
        cmocka_unit_test(things_are_bounded),
        LOG_TEST(a_log_that_joins_is_well),
        LOG_TEST(gaps_and_overlaps_are_found),
        LOG_TEST(longer_copies_are_found),
        LOG_TEST(longer_copies_that_go_on_are_well),
        LOG_TEST(copies_in_several_partitions_are_found),
        LOG_TEST(copies_in_large_transactions_are_found),
        LOG_TEST(copied_and_truncated_files_are_found),
        LOG_TEST(equal_headers_are_no_copies),
        LOG_TEST(copies_are_found_in_a_large_log),
        LOG_TEST(many_findings_are_counted),
        LOG_TEST(silence_before_is_no_gap),
        LOG_TEST(retention_leaves_no_gap),
        LOG_TEST(lost_intervals_are_remarks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
