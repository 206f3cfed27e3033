/* SPDX-License-Identifier: Apache-2.0 */
/* Segments that retention drops are recycled as later ones: the number of files, what readers of
 * the old segment see, and the old bytes after the tail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pipeline/engine.h"

#undef fail
#include <cmocka.h>

#include "tests/support/test_dir.h"

#define VALUE 30000u

struct fixture {
    char dir[64], copy[72];
    pawl_options options;
    pawl *log;
    uint32_t s;
    uint64_t appended;
};

static void shell(const char *format, const char *a, const char *b) {
    char command[256];
    snprintf(command, sizeof command, format, a, b);
    assert_int_equal(system(command), 0);
}

static pawl *open_at(struct fixture *f, const char *dir, uint32_t flags) {
    pawl *log = NULL;
    pawl_error e;
    pawl_options o = f->options;
    o.flags = flags;
    if (pawl_open(dir, &o, &log, &e) != 0)
        fail_msg("%s", e.message);
    return log;
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -1;
    if (test_dir_make(f->dir, "/tmp/test_recycling") != 0)
        return -1;
    snprintf(f->copy, sizeof f->copy, "%s.copy", f->dir);
    f->options = (pawl_options)PAWL_OPTIONS_INIT;
    f->options.segment_size = MIB;
    f->options.no_thread = 1; /* nothing happens but what the test asks for */
    f->options.backend = PAWL_BACKEND_POSIX;
    *state = f;
    f->log = open_at(f, f->dir, PAWL_OPEN_CREATE);
    return pawl_stream_create(f->log, "s", 1, &f->s);
}

static int teardown(void **state) {
    struct fixture *f = *state;
    char command[256];
    int rc = pawl_close(f->log);
    snprintf(command, sizeof command, "rm -rf -- '%s' '%s'", f->dir, f->copy);
    if (system(command) != 0)
        rc = -1;
    free(f);
    return rc;
}

/* Every part of a record's value contains its offset. */
static void make(uint64_t offset, uint64_t *value) {
    for (size_t i = 0; i < VALUE / 8; i++)
        value[i] = offset * 1000003 + i;
}

/* Up to four records in a commit: what takes time is the syncs. */
static void fill(struct fixture *f, int count) {
    uint64_t value[VALUE / 8];
    for (int i = 0; i < count;) {
        pawl_tx *tx;
        assert_int_equal(pawl_begin(f->log, &tx), 0);
        for (int k = 0; k < 4 && i < count; k++, i++) {
            make(f->appended++, value);
            pawl_record r = {.value = (void *)value, .value_len = VALUE};
            assert_int_equal(pawl_put(tx, f->s, 0, &r), 0);
        }
        assert_int_equal(pawl_commit(tx, NULL), 0);
    }
}

/* Many segments, with retention at work after each commit: as in the steady state of a log that
 * keeps some segments. */
static void turn_over(struct fixture *f, int count) {
    for (int i = 0; i < count; i += 4) {
        fill(f, count - i < 4 ? count - i : 4);
        assert_true(pawl_retention_apply(f->log) >= 0);
    }
}

static pawl_status status(pawl *log) {
    pawl_status s = PAWL_STATUS_INIT;
    assert_int_equal(pawl_get_status(log, &s), 0);
    return s;
}

static void check_batch(const pawl_batch *b) {
    uint64_t value[VALUE / 8];
    for (size_t i = 0; i < b->count; i++) {
        make(b->from + i, value);
        assert_int_equal(b->records[i].offset, b->from + i);
        assert_int_equal(b->records[i].value_len, VALUE);
        assert_memory_equal(b->records[i].value, value, VALUE);
    }
}

/* Reads everything that is kept; it must be `end` in the end. */
static void check_all(pawl *log, uint32_t stream, uint64_t end) {
    pawl_bounds b;
    pawl_reader *r;
    pawl_batch batch;
    assert_int_equal(pawl_partition_bounds(log, stream, 0, &b), 0);
    assert_int_equal(b.end, end);
    assert_int_equal(pawl_reader_open(log, stream, 0, b.first, 0, &r), 0);
    for (uint64_t at = b.first; at < end; at = batch.to) {
        assert_true(pawl_read(r, 0, 0, &batch) > 0);
        check_batch(&batch);
    }
    pawl_reader_close(r);
}

static void on_finding(void *arg, const pawl_finding *finding) {
    (void)arg;
    print_message("%s: %s\n", finding->label, finding->message);
}

static void check_whole(const char *dir, uint64_t remarks) {
    pawl_check c = PAWL_CHECK_INIT;
    c.finding = on_finding;
    assert_int_equal(pawl_verify(dir, &c, NULL), 0);
    assert_int_equal(c.problems, 0);
    if (remarks == 0)
        assert_int_equal(c.torn_bytes, 0);
}

static unsigned inodes(const char *dir, ino_t *inode, unsigned max) {
    DIR *d = opendir(dir);
    unsigned n = 0;
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (strstr(e->d_name, ".seg") != NULL && n < max)
            inode[n++] = e->d_ino;
    closedir(d);
    return n;
}

static void in_the_steady_state_no_file_is_new(void **state) {
    struct fixture *f = *state;
    ino_t before[16], after[16];
    assert_int_equal(pawl_retention_set(f->log, &(pawl_retention){.bytes = 3 * MIB}), 0);
    turn_over(f, 160);
    pawl_status s = status(f->log);
    uint64_t recycled = s.recycled, last = s.last_segment;
    unsigned n = inodes(f->dir, before, 16);
    assert_in_range(n, 4, 5); /* three kept, and one or two ahead of need */
    turn_over(f, 320);
    s = status(f->log);
    assert_in_range(s.last_segment - last, 9, 20);
    assert_in_range(s.recycled - recycled, s.last_segment - last - 1, s.last_segment - last + 1);
    assert_int_equal(inodes(f->dir, after, 16), n);
    for (unsigned i = 0; i < n; i++) {
        bool known = false;
        for (unsigned k = 0; k < n; k++)
            known |= after[i] == before[k];
        assert_true(known);
    }
    assert_int_equal(s.disk_bytes, n * MIB);
    check_all(f->log, f->s, f->appended);
    assert_int_equal(pawl_close(f->log), 0);
    check_whole(f->dir, 0); /* the bytes after the CLOSE are an older segment's, and no torn tail */
    f->log = open_at(f, f->dir, 0);
    assert_int_equal(status(f->log).cut_bytes, 0);
    check_all(f->log, f->s, f->appended);
    assert_in_range(inodes(f->dir, after, 16), n - 1, n);
    turn_over(f, 60);
    check_all(f->log, f->s, f->appended);
}

/* The most that are kept ahead of need; the others are removed. */
static void of_many_dropped_at_once_two_stay(void **state) {
    struct fixture *f = *state;
    ino_t files[32];
    fill(f, 330);
    uint64_t last = status(f->log).last_segment;
    assert_in_range(last, 9, 12);
    assert_int_equal(pawl_retention_set(f->log, &(pawl_retention){.bytes = 1}), 0);
    assert_int_equal(pawl_retention_apply(f->log), last);
    assert_int_equal(inodes(f->dir, files, 32), 3);
    assert_int_equal(status(f->log).disk_bytes, 3 * MIB);
    assert_int_equal(pawl_close(f->log), 0);
    f->log = open_at(f, f->dir, 0);
    assert_int_equal(status(f->log).disk_bytes, 3 * MIB); /* both are found again */
    fill(f, 60);
    assert_in_range(status(f->log).last_segment, last + 1, last + 2);
    check_all(f->log, f->s, f->appended);
}

static void a_cap_counts_what_is_kept_ahead(void **state) {
    struct fixture *f = *state;
    assert_int_equal(pawl_close(f->log), 0);
    shell("rm -f -- '%s'/* '%s'", f->dir, "");
    f->options.disk_cap = 5 * MIB;
    f->log = open_at(f, f->dir, PAWL_OPEN_CREATE);
    assert_int_equal(pawl_stream_create(f->log, "s", 1, &f->s), 0);
    assert_int_equal(pawl_retention_set(f->log, &(pawl_retention){.bytes = 2 * MIB}), 0);
    for (int i = 0; i < 200; i++) {
        ino_t files[16];
        turn_over(f, 1);
        assert_in_range(inodes(f->dir, files, 16), 1, 5);
        assert_in_range(status(f->log).disk_bytes, MIB, 5 * MIB);
    }
    assert_true(status(f->log).recycled > 3);
    check_all(f->log, f->s, f->appended);
}

/* A link to a segment, as some backups make it, keeps what it was made of. */
static void a_linked_file_is_not_written_over(void **state) {
    struct fixture *f = *state;
    char name[128], link_name[128];
    struct stat st;
    fill(f, 70);
    snprintf(name, sizeof name, "%s/0000000000000000.seg", f->dir);
    snprintf(link_name, sizeof link_name, "%s.copy", f->dir);
    assert_int_equal(link(name, link_name), 0);
    assert_int_equal(stat(link_name, &st), 0);
    assert_int_equal(pawl_retention_set(f->log, &(pawl_retention){.bytes = MIB}), 0);
    turn_over(f, 100);
    ino_t files[16];
    unsigned n = inodes(f->dir, files, 16);
    for (unsigned i = 0; i < n; i++)
        assert_true(files[i] != st.st_ino);
    assert_true(status(f->log).recycled > 0);
    int fd = open(link_name, O_RDONLY);
    uint8_t header[SEGMENT_HEADER_SIZE];
    assert_int_equal(read(fd, header, sizeof header), sizeof header);
    close(fd);
    struct segment_header h;
    int bad;
    assert_int_equal(segment_decode(header, 0, &h, &bad), SEGMENT_GOOD);
}

/* Whatever the old file holds by now, its reader gets its records, or PAWL_TRIMMED; never other
 * records, and never "damaged". */
static void a_reader_of_the_old_life(void **state) {
    struct fixture *f = *state;
    assert_int_equal(pawl_retention_set(f->log, &(pawl_retention){.bytes = 2 * MIB}), 0);
    turn_over(f, 70);
    int trimmed = 0, ended = 0;
    for (int read = 0; read < 12; read++)
        for (int more = 0; more < 130; more += 13) {
            pawl_reader *r;
            pawl_batch batch;
            pawl_bounds b;
            pawl *follower = (read + more) % 2 != 0 ? open_at(f, f->dir, PAWL_OPEN_READ) : NULL;
            pawl *log = follower != NULL ? follower : f->log;
            assert_int_equal(pawl_partition_bounds(log, f->s, 0, &b), 0);
            assert_int_equal(pawl_reader_open(log, f->s, 0, b.first, 0, &r), 0);
            for (int i = 0; i < read; i++)
                if (pawl_read(r, 1, 0, &batch) == 1)
                    check_batch(&batch);
            turn_over(f, more);
            int rc;
            while ((rc = pawl_read(r, 3, 0, &batch)) > 0)
                check_batch(&batch);
            if (rc < 0 && rc != PAWL_TRIMMED) {
                pawl_error e;
                pawl_last_error(&e);
                fail_msg("%s", e.message);
            }
            trimmed += rc == PAWL_TRIMMED;
            ended += rc == 0;
            if (rc == PAWL_TRIMMED) { /* and from the first that is kept it goes on to the end */
                assert_int_equal(pawl_partition_bounds(log, f->s, 0, &b), 0);
                assert_int_equal(pawl_reader_seek(r, b.first), 0);
                while ((rc = pawl_read(r, 0, 0, &batch)) > 0) {
                    check_batch(&batch);
                    b.first = batch.to;
                }
                assert_int_equal(rc, 0);
            }
            pawl_reader_close(r);
            if (follower != NULL)
                assert_int_equal(pawl_close(follower), 0);
        }
    assert_in_range(trimmed, 30, 120); /* both were met */
    assert_in_range(ended, 10, 120);
}

/* A follower that paused while its segment was recycled continues at the segments that exist. */
static void a_follower_that_slept(void **state) {
    struct fixture *f = *state;
    assert_int_equal(pawl_retention_set(f->log, &(pawl_retention){.bytes = 2 * MIB}), 0);
    turn_over(f, 90);
    for (int more = 1; more < 200; more += 11) {
        pawl *follower = open_at(f, f->dir, PAWL_OPEN_READ);
        pawl_bounds b;
        assert_int_equal(pawl_partition_bounds(follower, f->s, 0, &b), 0);
        turn_over(f, more);
        fill(f, 1); /* witnesses the commit before */
        for (int i = 0; i < 2; i++)
            status(follower);
        assert_int_equal(pawl_partition_bounds(follower, f->s, 0, &b), 0);
        assert_in_range(b.end, f->appended - 1, f->appended);
        assert_int_equal(pawl_close(follower), 0);
    }
}

/* Killed at any record written over old bytes: recovery finds the tail, and no old record comes
 * back. */
static void killed_over_old_bytes(void **state) {
    struct fixture *f = *state;
    assert_int_equal(pawl_retention_set(f->log, &(pawl_retention){.bytes = 2 * MIB}), 0);
    turn_over(f, 130);
    for (int i = 0; i < 45; i++) {
        turn_over(f, 1);
        shell("rm -rf -- '%2$s' && cp -a -- '%1$s' '%2$s'", f->dir, f->copy);
        check_whole(f->copy, 1);
        pawl *follower = open_at(f, f->copy, PAWL_OPEN_READ);
        check_all(follower, f->s, f->appended);
        assert_int_equal(pawl_close(follower), 0);
        pawl *log = open_at(f, f->copy, 0);
        check_all(log, f->s, f->appended);
        pawl *own = f->log;
        uint64_t appended = f->appended;
        f->log = log;
        fill(f, 40);
        check_all(log, f->s, f->appended);
        f->log = own;
        f->appended = appended;
        assert_int_equal(pawl_close(log), 0);
        check_whole(f->copy, 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(in_the_steady_state_no_file_is_new, setup, teardown),
        cmocka_unit_test_setup_teardown(of_many_dropped_at_once_two_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cap_counts_what_is_kept_ahead, setup, teardown),
        cmocka_unit_test_setup_teardown(a_linked_file_is_not_written_over, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reader_of_the_old_life, setup, teardown),
        cmocka_unit_test_setup_teardown(a_follower_that_slept, setup, teardown),
        cmocka_unit_test_setup_teardown(killed_over_old_bytes, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
