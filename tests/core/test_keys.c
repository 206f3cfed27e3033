/* SPDX-License-Identifier: Apache-2.0 */
/* The log's secret keys: where they come from, when they are turned, that nothing shows them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <unistd.h>

#include "pipeline/engine.h"

#undef fail
#include <cmocka.h>

#include "tests/support/own_log.h"

#define VALUE 60000u

struct fixture {
    char dir[64];
    pawl *log;
    uint32_t s;
    uint64_t appended;
};

static void open_log(struct fixture *f, uint32_t flags) {
    pawl_error e;
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = flags, o.segment_size = MIB, o.no_thread = 1, o.memory_cap = 8 * MIB;
    if (pawl_open(f->dir, &o, &f->log, &e) != 0)
        fail_msg("%s", e.message);
}

static void close_log(struct fixture *f) {
    pawl *log = f->log;
    f->log = NULL;
    assert_int_equal(pawl_close(log), 0);
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -1;
    *state = f;
    if (test_dir_make(f->dir, "/tmp/test_keys") != 0)
        return -1;
    open_log(f, PAWL_OPEN_CREATE);
    return pawl_stream_create(f->log, "s", 1, &f->s);
}

static int teardown(void **state) {
    struct fixture *f = *state;
    int rc = close_and_remove(f->log, f->dir);
    free(f);
    return rc;
}

static void make(uint64_t offset, uint64_t *value) {
    for (size_t i = 0; i < VALUE / 8; i++)
        value[i] = offset * 1000003 + i;
}

static void append(struct fixture *f, int count) {
    uint64_t value[VALUE / 8];
    for (int i = 0; i < count; i++) {
        make(f->appended++, value);
        pawl_record r = {.value = (void *)value, .value_len = VALUE};
        assert_int_equal(pawl_append(f->log, f->s, 0, &r, NULL), 0);
    }
}

static void append_until(struct fixture *f, uint64_t segment) {
    while (f->log->wal.segment < segment)
        append(f, 1);
}

/* All records but `gone` of them, from memory or from the files. */
static void check_all(struct fixture *f, uint64_t gone) {
    uint64_t value[VALUE / 8], seen = 0;
    pawl_reader *r;
    pawl_batch b;
    int rc;
    assert_int_equal(pawl_reader_open(f->log, f->s, 0, 0, 0, &r), 0);
    while ((rc = pawl_read(r, 0, 0, &b)) > 0 || rc == PAWL_LOST)
        for (size_t i = 0; rc > 0 && i < b.count; i++, seen++) {
            make(b.records[i].offset, value);
            assert_memory_equal(b.records[i].value, value, VALUE);
        }
    assert_int_equal(rc, 0);
    assert_int_equal(seen, f->appended - gone);
    pawl_reader_close(r);
}

static void well(const char *dir) {
    pawl_check c = PAWL_CHECK_INIT;
    assert_int_equal(pawl_verify(dir, &c, NULL), 0);
    assert_int_equal(c.problems, 0);
}

static int open_segment(const struct fixture *f, uint64_t n) {
    char path[128];
    snprintf(path, sizeof path, "%s/%016llx.seg", f->dir, (unsigned long long)n);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    return fd;
}

static struct segment_header header_of(const struct fixture *f, uint64_t n) {
    static uint8_t head[SEGMENT_HEADER_SIZE];
    struct segment_header h;
    int bad, fd = open_segment(f, n);
    assert_int_equal(pread(fd, head, sizeof head, 0), sizeof head);
    close(fd);
    assert_int_equal(segment_decode(head, n, &h, &bad), SEGMENT_GOOD);
    return h;
}

static const uint8_t *key_in(const struct segment_header *h, enum which_key which) {
    return h->features.carried + (size_t)which * KEY_SIZE;
}

static bool same(const uint8_t *a, const uint8_t *b) {
    return memcmp(a, b, KEY_SIZE) == 0;
}

static void flip(const struct fixture *f, uint64_t lsn) {
    uint8_t byte;
    int fd = open_segment(f, lsn / MIB);
    assert_int_equal(pread(fd, &byte, 1, (off_t)(lsn % MIB)), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)(lsn % MIB)), 1);
    close(fd);
}

/* ---- */

static void each_log_draws_its_own(void **state) {
    struct fixture *f = *state, other = {0};
    assert_int_equal(test_dir_make(other.dir, "/tmp/test_keys"), 0);
    open_log(&other, PAWL_OPEN_CREATE);
    struct segment_header a = header_of(f, 0), b = header_of(&other, 0);
    close_log(&other);
    assert_int_equal(test_dir_remove(other.dir), 0);
    assert_true(segment_keyed(&a) && segment_keyed(&b));
    for (int i = 0; i < KEYS; i++)
        for (int k = 0; k < KEYS; k++) {
            assert_false(same(key_in(&a, (enum which_key)i), key_in(&b, (enum which_key)k)));
            assert_true(i == k ||
                        !same(key_in(&a, (enum which_key)i), key_in(&a, (enum which_key)k)));
        }
}

static void it_is_kept_from_segment_to_segment(void **state) {
    struct fixture *f = *state;
    struct segment_header first = header_of(f, 0);
    append_until(f, 2);
    close_log(f);
    open_log(f, 0);
    append_until(f, 3);
    for (uint64_t n = 1; n <= 3; n++) {
        struct segment_header h = header_of(f, n);
        assert_memory_equal(&h.features, &first.features, sizeof h.features);
    }
    check_all(f, 0);
}

/* A frame in the newest segment is lost to damage. The log is open again. */
static void mend_in_segment(struct fixture *f, uint64_t segment) {
    append_until(f, segment);
    append(f, 1);
    uint64_t lost = f->log->wal.last.lsn;
    append(f, 2);
    close_log(f);
    flip(f, lost + FRAME_HEADER_SIZE);
    pawl_check c = PAWL_CHECK_INIT;
    assert_int_equal(pawl_repair(f->dir, &c, NULL), 0);
    assert_int_equal(c.repaired, 1);
    open_log(f, 0);
}

/* The frames of the segment after the one that was mended are under another key, those that were
 * made ready before it began too. */
static void it_is_turned_after_a_repair(void **state) {
    struct fixture *f = *state;
    mend_in_segment(f, 1);
    for (int i = 0; i < 2; i++) { /* whichever writer begins it */
        append(f, 1);
        close_log(f);
        open_log(f, 0);
    }
    append_until(f, 3);
    struct segment_header a = header_of(f, 1), b = header_of(f, 2), d = header_of(f, 3);
    assert_true(same(key_in(&b, KEY_BEFORE), key_in(&a, KEY_OWN)));
    assert_true(same(key_in(&b, KEY_OWN), key_in(&a, KEY_NEXT)));
    assert_false(same(key_in(&b, KEY_NEXT), key_in(&a, KEY_NEXT)));
    assert_memory_equal(&b.features, &d.features, sizeof b.features); /* once is enough */
    check_all(f, 1);
    close_log(f);
    well(f->dir);
    open_log(f, 0);
    check_all(f, 1);
}

/* Both copies of the header that brought the key are gone, or of one beside it. */
static void a_rebuilt_header_has_it(void **state) {
    struct fixture *f = *state;
    it_is_turned_after_a_repair(state);
    close_log(f);
    for (uint64_t n = 0; n <= 3; n++) {
        struct segment_header was = header_of(f, n), is;
        uint8_t nothing[SEGMENT_HEADER_SIZE];
        memset(nothing, n % 2 == 0 ? 0 : 'x', sizeof nothing);
        int fd = open_segment(f, n);
        assert_int_equal(pwrite(fd, nothing, sizeof nothing, 0), sizeof nothing);
        close(fd);
        pawl_check c = PAWL_CHECK_INIT;
        assert_int_equal(pawl_repair(f->dir, &c, NULL), 0);
        assert_int_equal(c.repaired, 1);
        is = header_of(f, n);
        assert_true(same(key_in(&is, KEY_OWN), key_in(&was, KEY_OWN)));
        assert_true(n == 3 || same(key_in(&is, KEY_NEXT), key_in(&was, KEY_NEXT)));
        well(f->dir);
    }
    open_log(f, 0);
    check_all(f, 1);
}

static int open_refused(const struct fixture *f) {
    pawl *log;
    pawl_options o = PAWL_OPTIONS_INIT;
    return pawl_open(f->dir, &o, &log, NULL);
}

/* The header of the newest segment, which brought the key, is gone: that is damage, and no segment
 * that was never begun. */
static void a_header_that_is_gone_is_missed(void **state) {
    struct fixture *f = *state;
    mend_in_segment(f, 1);
    append_until(f, 2);
    append(f, 2);
    close_log(f);
    static const uint8_t zeros[SEGMENT_HEADER_SIZE];
    int fd = open_segment(f, 2);
    assert_int_equal(pwrite(fd, zeros, sizeof zeros, 0), sizeof zeros);
    close(fd);
    assert_int_equal(open_refused(f), PAWL_DAMAGED);
    pawl_check c = PAWL_CHECK_INIT;
    assert_int_equal(pawl_verify(f->dir, &c, NULL), PAWL_DAMAGED);
    assert_int_equal(c.problems, 1);
    pawl_error e;
    if (pawl_repair(f->dir, NULL, &e) != 0)
        fail_msg("repair: %s", e.message);
    open_log(f, 0);
    check_all(f, 1);
}

/* Makes the log's one segment what an earlier version wrote: without keys. */
static void take_keys_away(const struct fixture *f) {
    static uint8_t seg[MIB];
    struct segment_header h;
    struct frame_key old, key;
    int bad, fd = open_segment(f, 0);
    assert_int_equal(pread(fd, seg, MIB, 0), MIB);
    assert_int_equal(segment_decode(seg, 0, &h, &bad), SEGMENT_GOOD);
    (void)segment_key(&h, KEY_OWN, &old);
    h.features = (struct features){.write = FEATURE_COUNTS};
    h.place = (struct seam_place){0};
    (void)segment_key(&h, KEY_OWN, &key);
    segment_encode(seg, &h);
    uint64_t link = h.link;
    for (size_t at = SEGMENT_HEADER_SIZE; at < MIB;) {
        struct frame_header fh;
        uint8_t *p = seg + at;
        if (frame_decode_header(p, at, MIB, &old, &fh) != FRAME_GOOD) {
            at = align_up(at + 1, BLOCK);
            continue;
        }
        size_t dir = (size_t)fh.runs * RUN_SIZE;
        fh.link = link;
        fh.dir_hash = frame_hash(p + FRAME_HEADER_SIZE, dir, &key);
        fh.body_hash = frame_hash(p + FRAME_HEADER_SIZE + dir, fh.body_len, &key);
        frame_encode_header(p, &fh, &key);
        link = fh.hash;
        at += frame_length(&fh);
    }
    assert_int_equal(pwrite(fd, seg, MIB, 0), MIB);
    close(fd);
}

static void an_older_log_gets_one(void **state) {
    struct fixture *f = *state;
    append(f, 3);
    close_log(f);
    take_keys_away(f);
    well(f->dir);
    open_log(f, 0);
    append_until(f, 1);
    check_all(f, 0);
    close_log(f);
    open_log(f, 0);
    append_until(f, 4);
    check_all(f, 0);
    struct segment_header a = header_of(f, 1), b = header_of(f, 2), c = header_of(f, 4);
    assert_true(!segment_keyed(&a) && (a.features.write & FEATURE_KEYS) != 0);
    assert_true(segment_keyed(&b) && same(key_in(&b, KEY_OWN), key_in(&a, KEY_NEXT)));
    assert_memory_equal(&b.features, &c.features, sizeof b.features);
    close_log(f);
    well(f->dir);
    /* one handle through all turns */
    open_log(f, 0);
    check_all(f, 0);
}

static void an_older_log_gets_one_at_a_stretch(void **state) {
    struct fixture *f = *state;
    append(f, 1);
    close_log(f);
    take_keys_away(f);
    open_log(f, 0);
    append_until(f, 3);
    struct segment_header h = header_of(f, 3);
    assert_true(segment_keyed(&h));
    check_all(f, 0);
    close_log(f);
    well(f->dir);
    open_log(f, 0);
    check_all(f, 0);
}

/* ---- copies */

static void note_remark(void *arg, int severity, const char *text) {
    int *remarks = arg;
    if (strstr(text, "copies") != NULL) {
        assert_int_equal(severity, PAWL_LOG_WARNING);
        ++*remarks;
    }
}

/* Opens the log; how often it said that it is a copy. */
static int open_told(struct fixture *f) {
    pawl_error e;
    int remarks = 0;
    pawl_options o = PAWL_OPTIONS_INIT;
    o.no_thread = 1, o.memory_cap = 8 * MIB, o.log = note_remark, o.log_arg = &remarks;
    if (pawl_open(f->dir, &o, &f->log, &e) != 0)
        fail_msg("%s", e.message);
    return remarks;
}

static const struct {
    const char *label;
    const char *command; /* $0: the log's directory */
    bool copied;
} ways[] = {
    {"left alone", ":", false},
    {"its directory renamed", "mv $0 $0.x && mkdir $0 && rmdir $0 && mv $0.x $0", false},
    {"touched, and its mode changed", "touch $0/*; chmod 0400 $0/*.seg; chmod 0600 $0/*.seg",
     false},
    {"another name made and removed", "for f in $0/*.seg; do ln $f $f.x; rm $f.x; done", false},
    {"moved file by file", "mkdir $0.x && mv $0/* $0.x/ && rmdir $0 && mv $0.x $0", false},
    {"copied, the original gone", "cp -a $0 $0.x && rm -r $0 && mv $0.x $0", true},
    {"copied and put back", "cp -a $0 $0.x && rm -r $0 && cp -a $0.x $0 && rm -r $0.x", true},
    {"an archive unpacked over it", "tar -C $0 -cf $0.tar . && tar -C $0 -xf $0.tar && rm $0.tar",
     true},
    {"its newest segment copied", "for f in $0/*.seg; do cp -p $f $f.x; mv $f.x $f; done", true},
};

/* Whoever has the copy has the next key too: the second segment has one that isn't in it. */
static void it_is_turned_in_a_copy(void **state) {
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        char command[400];
        append_until(f, f->log->wal.segment + 1);
        append(f, 1);
        uint64_t n = f->log->wal.segment;
        close_log(f);
        struct segment_header a = header_of(f, n);
        snprintf(command, sizeof command, "set -e; %s", ways[i].command);
        char whole[600];
        snprintf(whole, sizeof whole, "sh -c '%s' %s", command, f->dir);
        assert_int_equal(system(whole), 0);
        int told = open_told(f);
        if (told != ways[i].copied)
            fail_msg("%s: said %d times that it is a copy", ways[i].label, told);
        append_until(f, n + 1);
        if (i % 2 == 0) { /* the second turn is another writer's */
            close_log(f);
            assert_int_equal(open_told(f), 0);
        }
        append_until(f, n + 3);
        struct segment_header b = header_of(f, n + 1), c = header_of(f, n + 2),
                              d = header_of(f, n + 3);
        const char *label = ways[i].label;
        if (same(key_in(&b, KEY_OWN), key_in(&a, KEY_OWN)) == ways[i].copied ||
            (ways[i].copied && !same(key_in(&b, KEY_OWN), key_in(&a, KEY_NEXT))))
            fail_msg("%s: the first segment's key", label);
        for (int k = 0; k < KEYS && ways[i].copied; k++)
            if (same(key_in(&c, KEY_OWN), key_in(&a, (enum which_key)k)))
                fail_msg("%s: a key that the other copy has", label);
        if (!same(key_in(&d, KEY_OWN), key_in(&c, KEY_OWN)))
            fail_msg("%s: turned once too often", label);
        check_all(f, 0);
        close_log(f);
        well(f->dir);
        open_log(f, 0);
    }
}

/* An earlier version carries the bit over, and names no file: the next writer can't know. */
static void a_segment_of_an_earlier_version_is_no_copy(void **state) {
    struct fixture *f = *state;
    static uint8_t head[SEGMENT_HEADER_SIZE];
    append(f, 1);
    close_log(f);
    struct segment_header h = header_of(f, 0), next;
    assert_true((h.features.ignore & FEATURE_PLACED) != 0 && h.place.inode != 0);
    h.place = (struct seam_place){0};
    segment_encode(head, &h);
    int fd = open_segment(f, 0);
    assert_int_equal(pwrite(fd, head, sizeof head, 0), sizeof head);
    close(fd);
    assert_int_equal(open_told(f), 0);
    append_until(f, 2);
    next = header_of(f, 1);
    assert_true(same(key_in(&next, KEY_OWN), key_in(&h, KEY_NEXT)));
    h = header_of(f, 2);
    assert_true(same(key_in(&next, KEY_OWN), key_in(&h, KEY_OWN)));
    check_all(f, 0);
}

static int look(void *arg, const pawl_frame_info *i) {
    const struct frame_header *last = arg;
    if (i->lsn == last->lsn) {
        assert_true(i->hash != last->hash && i->hash != 0 && i->hash <= UINT32_MAX);
        assert_true(i->link != last->link && i->link != 0 && i->link <= UINT32_MAX);
    }
    return 0;
}

static void dump_tells_nothing_of_it(void **state) {
    struct fixture *f = *state;
    append(f, 3);
    struct frame_header last = f->log->wal.last;
    assert_int_equal(pawl_dump(f->dir, 0, look, &last, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_log_draws_its_own, setup, teardown),
        cmocka_unit_test_setup_teardown(it_is_kept_from_segment_to_segment, setup, teardown),
        cmocka_unit_test_setup_teardown(it_is_turned_after_a_repair, setup, teardown),
        cmocka_unit_test_setup_teardown(a_rebuilt_header_has_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_header_that_is_gone_is_missed, setup, teardown),
        cmocka_unit_test_setup_teardown(an_older_log_gets_one, setup, teardown),
        cmocka_unit_test_setup_teardown(an_older_log_gets_one_at_a_stretch, setup, teardown),
        cmocka_unit_test_setup_teardown(it_is_turned_in_a_copy, setup, teardown),
        cmocka_unit_test_setup_teardown(a_segment_of_an_earlier_version_is_no_copy, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(dump_tells_nothing_of_it, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
