/* SPDX-License-Identifier: Apache-2.0 */
/* A log with something of a later version in it (docs/format.md, section 8): each class of it, in
 * each place, and what opening, verify, repair and dump make of it. A call that refuses names the
 * feature, and changes nothing. Features that may be ignored are carried over. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/test_dir.h"
#include "wal/format.h"

#define SEGMENTS_MAX 8

static char dir[64];
static uint8_t *image[SEGMENTS_MAX];
static int segments;

/* ---- a log of two segments, closed: streams, records, a checkpoint in the middle */

static pawl *open_log(uint32_t flags, int expected, pawl_error *e) {
    pawl *log = NULL;
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = flags, o.segment_size = MIB, o.memory_cap = 8 * MIB;
    int rc = pawl_open(dir, &o, &log, e);
    if (rc != expected)
        fail_msg("opening answers %d, not %d: %s", rc, expected, e->message);
    return log;
}

static void write_some(uint32_t flags, int count) {
    static char value[60000];
    pawl_error e = {0};
    pawl *log = open_log(flags, 0, &e);
    uint32_t stream;
    assert_int_equal(pawl_stream_create(log, "s", 1, &stream), 0);
    pawl_record r = {.value = value, .value_len = sizeof value};
    for (int i = 0; i < count; i++)
        assert_int_equal(pawl_append(log, stream, 0, &r, NULL), 0);
    assert_int_equal(pawl_close(log), 0);
}

static FILE *open_file(int index, const char *mode) {
    char path[128];
    snprintf(path, sizeof path, "%s/%016x.seg", dir, (unsigned)index);
    return fopen(path, mode);
}

static void load(void) {
    for (segments = 0; segments < SEGMENTS_MAX; segments++) {
        FILE *f = open_file(segments, "rb");
        if (f == NULL)
            return;
        if (image[segments] == NULL)
            image[segments] = malloc(MIB);
        assert_non_null(image[segments]);
        assert_int_equal(fread(image[segments], 1, MIB, f), MIB);
        fclose(f);
    }
}

static void store(void) {
    for (int i = 0; i < segments; i++) {
        FILE *f = open_file(i, "r+b");
        assert_non_null(f);
        assert_int_equal(fwrite(image[i], 1, MIB, f), MIB);
        assert_int_equal(fclose(f), 0);
    }
}

static bool as_it_was(void) {
    static uint8_t now[MIB];
    for (int i = 0; i < segments; i++) {
        FILE *f = open_file(i, "rb");
        assert_non_null(f);
        assert_int_equal(fread(now, 1, MIB, f), MIB);
        fclose(f);
        if (memcmp(now, image[i], MIB) != 0)
            return false;
    }
    return true;
}

/* ---- changing it: fields are written at their places in docs/format.md, then everything is hashed
 * again */

enum where { HEADER, OLD_HEADER, FRAME, OLD_FRAME, CHECKPOINT, RUN };

struct change {
    enum where where;
    uint32_t at, size;
    uint64_t value;
};

static void put(uint8_t *p, const struct change *c) {
    memcpy(p + c->at, &c->value, c->size);
}

static int newest_begun(void) {
    struct segment_header h;
    int bad, n = segments - 1;
    while (n > 0 && segment_decode(image[n], (uint64_t)n, &h, &bad) != SEGMENT_GOOD)
        n--;
    return n;
}

static void change_header(int segment, uint64_t link, uint64_t seal_lsn, const struct change *c) {
    uint8_t *p = image[segment];
    if (segment > 0) {
        put64(p + 56, link);
        put64(p + 64, seal_lsn);
    }
    if (c->where == HEADER || (c->where == OLD_HEADER && segment == 0))
        put(p, c);
    put64(p + 4088, format_hash(p, 4088, 0));
    memcpy(p + BLOCK, p, BLOCK);
}

/* The frame that is changed: the last COMMIT of the newest segment or of the first, or the newest
 * CHECKPOINT. */
static uint8_t *chosen(enum where where, int newest) {
    uint8_t *found = NULL, *seg = image[where == OLD_FRAME ? 0 : newest];
    for (size_t at = SEGMENT_HEADER_SIZE; at + FRAME_HEADER_SIZE <= MIB;) {
        uint8_t *f = seg + at;
        if (memcmp(f, "PWLF", 4) != 0) {
            at = at % BLOCK == 0 ? at + BLOCK : align_up(at, BLOCK);
            continue;
        }
        if (f[4] == (where == CHECKPOINT ? FRAME_CHECKPOINT : FRAME_COMMIT))
            found = f;
        at += align_up(FRAME_HEADER_SIZE + get16(f + 6) * (size_t)RUN_SIZE + get32(f + 64), 8);
    }
    assert_non_null(found);
    return found;
}

/* The upper bits of the frame flags, and a commit that is no commit any more, need segments that
 * don't count. */
static bool uncounted(const struct change *c) {
    return (c->where >= FRAME && c->at == 68 && c->value > 0xfff) ||
           (c->where == FRAME && c->at == 4);
}

/* Makes the log one whose segments don't count and have no key, as an earlier version wrote it: the
 * upper bits of the frame flags are free then. */
static void uncount(int newest) {
    for (int n = 0; n <= newest; n++) {
        uint8_t *seg = image[n];
        put64(seg + 88, 0);
        put64(seg + 96, 0);
        memset(seg + 112, 0, FEATURES_CARRIED_SIZE);
        memset(seg + 256, 0, C_IDS_SIZE);
        for (size_t at = SEGMENT_HEADER_SIZE; at + FRAME_HEADER_SIZE <= MIB; at += 8)
            if (memcmp(seg + at, "PWLF", 4) == 0)
                put32(seg + at + 68, 0);
    }
}

/* Makes one change, then computes all hashes and links again. */
static void apply(const struct change *c) {
    int newest = newest_begun();
    uint64_t link = 0, seal_lsn = 0;
    if (uncounted(c))
        uncount(newest);
    if (c->where >= FRAME)
        put(chosen(c->where, newest) + (c->where == RUN ? FRAME_HEADER_SIZE : 0), c);
    for (int n = 0; n <= newest; n++) {
        struct segment_header sh;
        struct frame_key key;
        int bad;
        change_header(n, link, seal_lsn, c);
        (void)segment_decode(image[n], (uint64_t)n, &sh, &bad);
        (void)segment_key(&sh, KEY_OWN, &key);
        for (size_t at = SEGMENT_HEADER_SIZE; at + FRAME_HEADER_SIZE <= MIB;) {
            uint8_t *f = image[n] + at;
            if (memcmp(f, "PWLF", 4) != 0) {
                at = at % BLOCK == 0 ? at + BLOCK : align_up(at, BLOCK);
                continue;
            }
            size_t dir_len = (size_t)get16(f + 6) * RUN_SIZE, body = get32(f + 64);
            put64(f + 40, link);
            put64(f + 48, frame_hash(f + FRAME_HEADER_SIZE, dir_len, &key));
            put64(f + 56, frame_hash(f + FRAME_HEADER_SIZE + dir_len, body, &key));
            put64(f + 72, link = frame_hash(f, 72, &key));
            seal_lsn = (uint64_t)n * MIB + at;
            at += align_up(FRAME_HEADER_SIZE + dir_len + body, 8);
        }
    }
    store();
}

/* ---- the table */

#define KIND_FLAGS 5, 1
#define FLAGS 68, 4
#define TYPE 0, 2
#define RUN_FLAGS 2, 2
/* of kind and kind flags together */
#define UNKNOWN_KIND 4, 2

enum { NO = PAWL_VERSION };

/* The features to write of this version's segments. */
#define WRITTEN (FEATURE_COUNTS | FEATURE_KEYS)

static const struct row {
    const char *name;
    struct change change;
    int read, write, verify, repair, dump; /* answers */
    const char *says;                      /* in the message of those that are refused */
} table[] = {
    // clang-format off
    {"nothing",                       {FRAME, KIND_FLAGS, 1},                  0, 0, 0, 0, 0, ""},
    {"feature to read, lowest",       {HEADER, 88, 8, FEATURE_KEYED | 2},
     NO, NO, NO, NO, NO, "features 0x2 "},
    {"feature to read, highest",      {HEADER, 88, 8, FEATURE_KEYED | 1ull << 63},
     NO, NO, NO, NO, NO, "features 0x8000000000000000 "},
    {"feature to write, lowest",      {HEADER, 96, 8, WRITTEN | 16},
     0, NO, 0, NO, 0, "features 0x10 "},
    {"feature to write, highest",     {HEADER, 96, 8, WRITTEN | 1ull << 63},
     0, NO, 0, NO, 0, "features 0x8000000000000000 "},
    {"feature to write, dropped",     {OLD_HEADER, 96, 8, WRITTEN | 16},
     0, 0, 0, NO, 0, "features 0x10 "},
    {"features to ignore",            {HEADER, 104, 8, UINT64_MAX},         0, 0, 0, 0, 0, ""},
    {"carried bytes",                 {HEADER, 112, 8, UINT64_MAX},         0, 0, 0, 0, 0, ""},
    {"carried bytes, last",           {HEADER, 248, 8, UINT64_MAX},         0, 0, 0, 0, 0, ""},
    {"reserved bytes",                {HEADER, 288, 8, UINT64_MAX},         0, 0, 0, 0, 0, ""},
    {"kind to read",                  {FRAME, UNKNOWN_KIND, 99 | 1 << 8},
     NO, NO, NO, NO, 0, "frame kind 0x63 "},
    {"kind to read and write",        {FRAME, UNKNOWN_KIND, 99 | 3 << 8},
     NO, NO, NO, NO, 0, "frame kind 0x63 "},
    {"kind to write",                 {FRAME, UNKNOWN_KIND, 99 | 2 << 8},
     0, NO, 0, NO, 0, "frame kind 0x63 "},
    {"kind to ignore",                {FRAME, UNKNOWN_KIND, 99 | 0xfc << 8}, 0, 0, 0, 0, 0, ""},
    {"kind flags, lowest",            {FRAME, KIND_FLAGS, 1 | 4},
     NO, NO, NO, NO, 0, "kind flags 0x4 "},
    {"kind flags, highest",           {FRAME, KIND_FLAGS, 1 | 0x80},
     NO, NO, NO, NO, 0, "kind flags 0x80 "},
    {"frame flag to read, lowest",    {FRAME, FLAGS, 1},
     NO, NO, NO, NO, 0, "frame flags 0x1 "},
    {"frame flag to read, highest",   {FRAME, FLAGS, 1 << 11},
     NO, NO, NO, NO, 0, "frame flags 0x800 "},
    {"frame flag to write, lowest",   {FRAME, FLAGS, 1 << 12},
     0, NO, 0, NO, 0, "frame flags 0x1000 "},
    {"frame flag to write, highest",  {FRAME, FLAGS, 1 << 23},
     0, NO, 0, NO, 0, "frame flags 0x800000 "},
    {"frame flags to ignore",         {FRAME, FLAGS, 0xff000000},           0, 0, 0, 0, 0, ""},
    {"checkpoint's flag to read",     {CHECKPOINT, FLAGS, 1},
     NO, NO, NO, NO, 0, "frame flags 0x1 "},
    {"checkpoint's flag to write",    {CHECKPOINT, FLAGS, 1 << 12},
     0, NO, 0, NO, 0, "frame flags 0x1000 "},
    {"older frame's flag to write",   {OLD_FRAME, FLAGS, 1 << 12},
     0, 0, 0, NO, 0, "frame flags 0x1000 "},
    {"run type to read",              {RUN, TYPE, 0x0063},
     NO, NO, NO, NO, 0, "run type 0x63 "},
    {"run type to read, bit 14",      {RUN, TYPE, 0x4063},
     NO, NO, NO, NO, 0, "run type 0x4063 "},
    {"run type to write",             {RUN, TYPE, 0x8063},
     0, NO, 0, NO, 0, "run type 0x8063 "},
    {"run type to ignore",            {RUN, TYPE, 0xc063},                  0, 0, 0, 0, 0, ""},
    {"run flag to read, lowest",      {RUN, RUN_FLAGS, 1},
     NO, NO, NO, NO, 0, "run flags 0x1 "},
    {"run flag to read, highest",     {RUN, RUN_FLAGS, 1 << 5},
     NO, NO, NO, NO, 0, "run flags 0x20 "},
    {"run flag to write, lowest",     {RUN, RUN_FLAGS, 1 << 6},
     0, NO, 0, NO, 0, "run flags 0x40 "},
    {"run flag to write, highest",    {RUN, RUN_FLAGS, 1 << 11},
     0, NO, 0, NO, 0, "run flags 0x800 "},
    {"run flags to ignore",           {RUN, RUN_FLAGS, 0xf000},             0, 0, 0, 0, 0, ""},
    // clang-format on
};

/* ---- each row */

static void check(const struct row *row, const char *who, int rc, int expected,
                  const pawl_error *e) {
    if (rc != expected)
        fail_msg("%s: %s answers %d, not %d: %s", row->name, who, rc, expected, e->message);
    if (expected == PAWL_VERSION && strstr(e->message, row->says) == NULL)
        fail_msg("%s: %s doesn't name %s: %s", row->name, who, row->says, e->message);
    if (!as_it_was())
        fail_msg("%s: %s changed the log", row->name, who);
}

struct shown {
    int frames, unknown;
};

static int count_frames(void *arg, const pawl_frame_info *f) {
    struct shown *s = arg;
    s->frames++;
    s->unknown += strstr(f->text, "must be understood") != NULL;
    return 0;
}

static void note(void *arg, const pawl_finding *f) {
    if (strcmp(f->label, "not-for-writing") == 0)
        ++*(int *)arg;
}

/* Those that only look. */
static void look(const struct row *row) {
    pawl_error e = {0};
    struct shown shown = {0};
    int rc = pawl_dump(dir, 0, count_frames, &shown, &e);
    check(row, "dump", rc, row->dump, &e);
    bool of_frames = row->repair != 0 && row->change.where >= FRAME;
    if (rc == 0 && (shown.frames < 20 || shown.unknown != of_frames))
        fail_msg("%s: dump shows %d frames, %d unknown", row->name, shown.frames, shown.unknown);
    int told = 0;
    pawl_check c = PAWL_CHECK_INIT;
    c.finding = note, c.arg = &told;
    check(row, "verify", pawl_verify(dir, &c, &e), row->verify, &e);
    if (row->verify == 0 && told != (row->repair != 0))
        fail_msg("%s: verify tells %d times that the log is not for writing", row->name, told);
    check(row, "repair", pawl_repair(dir, NULL, &e), row->repair, &e);
}

static int take_status(const struct row *row, pawl *log) {
    pawl_status s = PAWL_STATUS_INIT;
    assert_int_equal(pawl_get_status(log, &s), 0);
    bool header = row->change.where == HEADER;
    bool plain = uncounted(&row->change);
    assert_int_equal(s.features_read, plain ? 0 : FEATURE_KEYED);
    assert_true(s.features_write == (header && row->change.at == 96 ? row->change.value
                                     : plain                        ? 0
                                                                    : WRITTEN));
    assert_true((s.features_ignore | FEATURE_PLACED) ==
                ((header && row->change.at == 104 ? row->change.value : 0) | FEATURE_PLACED));
    return pawl_close(log);
}

static void open_both_ways(const struct row *row) {
    pawl *log;
    pawl_error e = {0};
    pawl_options o = PAWL_OPTIONS_INIT;
    o.memory_cap = 8 * MIB, o.flags = PAWL_OPEN_READ;
    int rc = pawl_open(dir, &o, &log, &e);
    check(row, "opening to read", rc, row->read, &e);
    if (rc == 0)
        assert_int_equal(take_status(row, log), 0);
    o.flags = PAWL_OPEN_CREATE;
    rc = pawl_open(dir, &o, &log, &e);
    if (row->write != 0)
        check(row, "opening to write", rc, row->write, &e);
    else if (rc != 0)
        fail_msg("%s: opening to write answers %d: %s", row->name, rc, e.message);
    else
        assert_int_equal(take_status(row, log), 0);
}

static int setup(void **state) {
    (void)state;
    return test_dir_make(dir, "/var/tmp/test_features");
}

static int teardown(void **state) {
    (void)state;
    return test_dir_remove(dir);
}

/* The log is made once; each row begins with its bytes. */
static void each_class_in_each_place(void **state) {
    (void)state;
    static uint8_t *first[SEGMENTS_MAX];
    write_some(PAWL_OPEN_CREATE, 20);
    load();
    assert_true(newest_begun() == 1);
    for (int i = 0; i < segments; i++) {
        first[i] = malloc(MIB);
        assert_non_null(first[i]);
        memcpy(first[i], image[i], MIB);
    }
    for (size_t k = 0; k < sizeof table / sizeof *table; k++) {
        for (int i = 0; i < segments; i++)
            memcpy(image[i], first[i], MIB);
        apply(&table[k].change);
        look(&table[k]);
        open_both_ways(&table[k]);
    }
    for (int i = 0; i < segments; i++)
        free(first[i]);
}

static void append_until_segment(int index) {
    static char value[60000];
    pawl_error e = {0};
    pawl *log = open_log(0, 0, &e);
    pawl_record r = {.value = value, .value_len = sizeof value};
    pawl_status s = PAWL_STATUS_INIT;
    do {
        assert_int_equal(pawl_append(log, 1, 0, &r, NULL), 0);
        assert_int_equal(pawl_get_status(log, &s), 0);
    } while (s.last_segment < (uint64_t)index);
    assert_int_equal(pawl_close(log), 0);
}

/* Features that may be ignored and carried bytes are in each following header. */
static void features_are_carried_over(void **state) {
    (void)state;
    write_some(PAWL_OPEN_CREATE, 1);
    load();
    for (uint32_t i = 0; i < FEATURES_CARRIED_SIZE; i++)
        image[0][112 + i] = (uint8_t)(i + 1);
    apply(&(struct change){HEADER, 104, 8, 0x8000000000000001ull});
    append_until_segment(1);
    append_until_segment(3);
    load();
    for (int n = 1; n <= 3; n++) {
        struct segment_header h;
        int bad;
        assert_int_equal(segment_decode(image[n], (uint64_t)n, &h, &bad), SEGMENT_GOOD);
        assert_true(h.features.read == FEATURE_KEYED && h.features.write == WRITTEN);
        assert_true(h.features.ignore == 0x8000000000000001ull);
        assert_memory_equal(h.features.carried, image[0] + 112, FEATURES_CARRIED_SIZE);
    }
}

/* A copy that is mended gets the other's bytes, those that this version doesn't know too. */
static void a_mended_copy_keeps_what_is_reserved(void **state) {
    (void)state;
    pawl_check c = PAWL_CHECK_INIT;
    write_some(PAWL_OPEN_CREATE, 1);
    load();
    apply(&(struct change){HEADER, 4000, 8, 0x1122334455667788ull});
    for (int copy = 0; copy < 2; copy++) {
        image[0][copy * (int)BLOCK + 20] ^= 1;
        store();
        assert_int_equal(pawl_repair(dir, &c, NULL), 0);
        assert_int_equal(c.repaired, 1);
        image[0][copy * (int)BLOCK + 20] ^= 1;
        assert_true(as_it_was());
    }
}

/* Damage comes first, what must be understood after it: repair finds that before it mends. */
static void repair_looks_past_damage(void **state) {
    (void)state;
    pawl_error e;
    write_some(PAWL_OPEN_CREATE, 20);
    load();
    const struct change change = {FRAME, FLAGS, 1};
    apply(&change);
    image[0][SEGMENT_HEADER_SIZE + 30] ^= 1;
    memset(image[1], 0, 2 * (size_t)BLOCK); /* and its header is gone */
    store();
    assert_int_equal(pawl_repair(dir, NULL, &e), PAWL_VERSION);
    assert_non_null(strstr(e.message, "frame flags 0x1 "));
    assert_true(as_it_was());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_class_in_each_place, setup, teardown),
        cmocka_unit_test_setup_teardown(features_are_carried_over, setup, teardown),
        cmocka_unit_test_setup_teardown(a_mended_copy_keeps_what_is_reserved, setup, teardown),
        cmocka_unit_test_setup_teardown(repair_looks_past_damage, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
