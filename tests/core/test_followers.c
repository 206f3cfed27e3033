/* SPDX-License-Identifier: Apache-2.0 */
/* Read-only handles beside a writer that drops segments, is in the middle of a write, or is killed:
 * they never stand still for ever. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pipeline/engine.h" /* before cmocka.h, which has a macro fail */

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pawl.h"
#include "tests/support/test_dir.h"

struct fixture {
    char dir[64];
    pawl_options options;
};

static pawl *open_log(struct fixture *f, uint32_t flags) {
    pawl *log;
    pawl_error e;
    f->options.flags = flags;
    if (pawl_open(f->dir, &f->options, &log, &e) != 0)
        fail_msg("%s", e.message);
    return log;
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -1;
    if (test_dir_make(f->dir, "/tmp/test_followers") != 0)
        return -1;
    f->options = (pawl_options)PAWL_OPTIONS_INIT;
    f->options.segment_size = MIB;
    f->options.no_thread = 1; /* nothing happens but what the test asks for */
    f->options.witness_ms = UINT32_MAX;
    f->options.backend = PAWL_BACKEND_POSIX;
    *state = f;
    pawl *log = open_log(f, PAWL_OPEN_CREATE);
    uint32_t s;
    int rc = pawl_stream_create(log, "s", 1, &s);
    return rc != 0 || s != 1 || pawl_close(log) != 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    int rc = test_dir_remove(f->dir);
    free(f);
    return rc;
}

static pawl_bounds bounds(pawl *log) {
    pawl_bounds b;
    int rc = pawl_partition_bounds(log, 1, 0, &b);
    if (rc != 0) {
        pawl_error e;
        pawl_last_error(&e);
        fail_msg("%s", e.message);
    }
    return b;
}

static void append(pawl *log, size_t size, int count) {
    static char value[60000];
    pawl_record r = {.value = value, .value_len = (uint32_t)size};
    for (int i = 0; i < count; i++)
        assert_int_equal(pawl_append(log, 1, 0, &r, NULL), 0);
}

static void one_that_fell_behind_goes_on_at_what_is_kept(void **state) {
    struct fixture *f = *state;
    pawl *log = open_log(f, 0), *follower = open_log(f, PAWL_OPEN_READ);
    pawl_reader *r;
    pawl_batch batch;
    append(log, 60000, 1);
    assert_int_equal(pawl_reader_open(follower, 1, 0, 0, 0, &r), 0);
    append(log, 60000, 70); /* five segments */
    assert_int_equal(pawl_retention_set(log, &(pawl_retention){.bytes = 1}), 0);
    assert_in_range(pawl_retention_apply(log), 3, 5);
    append(log, 60000, 2);
    pawl_bounds kept = bounds(log), seen = bounds(follower);
    assert_int_equal(seen.first, kept.first);
    assert_int_equal(seen.end, kept.end - 1); /* nothing vouches for the last one yet */
    int n;
    while ((n = pawl_read(r, 0, 0, &batch)) > 0) { /* of the segment that the reader has open */
    }
    assert_int_equal(n, PAWL_TRIMMED);
    assert_int_equal(pawl_reader_seek(r, seen.first), 0);
    for (uint64_t got = seen.first; got < seen.end; got += (uint64_t)n)
        assert_true((n = pawl_read(r, 0, 0, &batch)) > 0);
    pawl_reader_close(r);
    assert_int_equal(pawl_close(follower), 0);
    assert_int_equal(pawl_close(log), 0);
}

/* A look for new frames begins with a call of holder(). */
static const struct seam_ops *real;
static uint32_t looks;

static int count_look(struct seam *s) {
    looks++;
    return real->holder(s);
}

static void one_that_knows_more_frames_does_not_look_for_new_ones(void **state) {
    struct fixture *f = *state;
    pawl *log = open_log(f, 0);
    pawl_reader *r;
    pawl_batch batch;
    append(log, 60000, 70); /* five segments */
    assert_int_equal(pawl_close(log), 0);
    pawl *follower = open_log(f, PAWL_OPEN_READ);
    assert_int_equal(pawl_reader_open(follower, 1, 0, 0, 0, &r), 0);
    real = follower->io->ops;
    struct seam_ops counting = *real;
    counting.holder = count_look;
    follower->io->ops = &counting;
    looks = 0;
    uint32_t batches = 0;
    for (uint64_t got = 0; got < 70; got += batch.count, batches++)
        assert_true(pawl_read(r, 0, 0, &batch) > 0);
    assert_in_range(batches, 5, 70);
    assert_int_equal(looks, 0);
    assert_int_equal(pawl_read(r, 0, 0, &batch), 0);
    assert_int_equal(looks, 1); /* at the end of what it knows, it does */
    follower->io->ops = real;
    pawl_reader_close(r);
    assert_int_equal(pawl_close(follower), 0);
}

static void one_that_met_half_a_group_sees_the_other_half(void **state) {
    struct fixture *f = *state;
    char file[128];
    static uint8_t whole[MIB], torn[MIB];
    f->options.no_thread = 1; /* no thread takes out completions meanwhile */
    pawl *log = open_log(f, 0);
    f->options.no_thread = 0;
    /* eight groups of one commit are submitted at once; the others gather in a ninth */
    for (char i = 'a'; i < 'l'; i++) {
        pawl_tx *tx;
        char value[] = {'v', 'a', 'l', 'u', 'e', i};
        pawl_record r = {.value = value, .value_len = sizeof value};
        assert_int_equal(pawl_begin(log, &tx), 0);
        assert_int_equal(pawl_put(tx, 1, 0, &r), 0);
        assert_int_equal(pawl_commit_async(tx, NULL, NULL, NULL), 0);
    }
    assert_int_equal(pawl_close(log), 0);
    snprintf(file, sizeof file, "%s/0000000000000000.seg", f->dir);
    int fd = open(file, O_RDWR);
    assert_int_equal(pread(fd, whole, MIB, 0), MIB);
    memcpy(torn, whole, MIB);
    const uint8_t *value = memmem(torn, MIB, "valuej", 6);
    assert_non_null(value);
    size_t at = (size_t)(value - torn);
    while (memcmp(torn + at, "PWLF", 4) != 0)
        at--;
    assert_int_not_equal(at % 4096, 0);
    memset(torn + at, 0, MIB - at);
    assert_int_equal(pwrite(fd, torn, MIB, 0), MIB);

    pawl *follower = open_log(f, PAWL_OPEN_READ);
    assert_int_equal(bounds(follower).end, 9);
    assert_int_equal(bounds(follower).end, 9);
    assert_int_equal(pwrite(fd, whole, MIB, 0), MIB);
    close(fd);
    assert_int_equal(bounds(follower).end, 11);
    assert_int_equal(pawl_close(follower), 0);
}

/* A child that writes and is gone without closing; nothing vouches for its last record. */
static void one_whose_writer_was_killed_sees_all_of_it(void **state) {
    struct fixture *f = *state;
    int up[2], down[2];
    char c;
    assert_int_equal(pipe(up) | pipe(down), 0);
    pid_t child = fork();
    if (child == 0) {
        pawl *log;
        pawl_record r = {.value = "x", .value_len = 1};
        int rc = pawl_open(f->dir, &f->options, &log, NULL);
        rc |= pawl_append(log, 1, 0, &r, NULL);
        rc |= write(up[1], "x", 1) != 1 || read(down[0], &c, 1) != 1;
        for (int i = 0; i < 3; i++)
            rc |= pawl_append(log, 1, 0, &r, NULL);
        _exit(rc != 0);
    }
    int status;
    assert_int_equal(read(up[0], &c, 1), 1);
    pawl *follower = open_log(f, PAWL_OPEN_READ);
    assert_int_equal(bounds(follower).end, 0);
    assert_int_equal(write(down[1], "x", 1), 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(bounds(follower).end, 4);
    assert_int_equal(pawl_close(follower), 0);
    close(up[0]), close(up[1]), close(down[0]), close(down[1]);
}

/* ---- several threads with one read-only handle, beside a writer that appends and drops */

struct sharer {
    pawl *follower;
    atomic_bool *over;
    uint64_t seen;
    pthread_t thread;
};

static void *share(void *arg) {
    struct sharer *s = arg;
    pawl_reader *r = NULL;
    pawl_bounds b;
    pawl_batch batch;
    int rc = pawl_partition_bounds(s->follower, 1, 0, &b);
    if (rc == 0)
        rc = pawl_reader_open(s->follower, 1, 0, b.end, 0, &r);
    while (rc == 0 && !atomic_load(s->over)) {
        int n = pawl_read(r, 3, 2, &batch);
        if (n == PAWL_TRIMMED) { /* the writer was quicker */
            rc = pawl_partition_bounds(s->follower, 1, 0, &b);
            n = rc == 0 ? pawl_reader_seek(r, b.end) : 0;
            n = n == PAWL_TRIMMED ? 0 : n;
        }
        rc = n < 0 ? n : 0;
        s->seen += n > 0 ? (uint64_t)n : 0;
        if (rc == 0)
            rc = pawl_partition_bounds(s->follower, 1, 0, &b);
        if (rc == 0 && b.first > b.end)
            rc = PAWL_RANGE;
    }
    pawl_reader_close(r);
    return (void *)(intptr_t)rc;
}

static void threads_share_a_follower(void **state) {
    struct fixture *f = *state;
    pawl *writer = open_log(f, 0), *follower = open_log(f, PAWL_OPEN_READ);
    atomic_bool over = false;
    struct sharer s[4];
    uint64_t seen = 0;
    assert_int_equal(pawl_retention_set(writer, &(pawl_retention){.bytes = 4 * MIB}), 0);
    for (int i = 0; i < 4; i++) {
        s[i] = (struct sharer){.follower = follower, .over = &over};
        assert_int_equal(pthread_create(&s[i].thread, NULL, share, &s[i]), 0);
    }
    for (int i = 0; i < 40; i++) {
        append(writer, 50000, 10);
        assert_true(pawl_retention_apply(writer) >= 0);
    }
    atomic_store(&over, true);
    for (int i = 0; i < 4; i++) {
        void *rc;
        pthread_join(s[i].thread, &rc);
        assert_int_equal((int)(intptr_t)rc, 0);
        seen += s[i].seen;
    }
    assert_true(seen > 0);
    assert_int_equal(pawl_close(follower), 0);
    assert_int_equal(pawl_close(writer), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_that_fell_behind_goes_on_at_what_is_kept, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(one_that_knows_more_frames_does_not_look_for_new_ones,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(one_that_met_half_a_group_sees_the_other_half, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(one_whose_writer_was_killed_sees_all_of_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(threads_share_a_follower, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
