/* SPDX-License-Identifier: Apache-2.0
 *
 * test_seam.c - the production backends of the I/O seam, against the real system: each test runs
 * with each backend, direct and buffered.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "pawl.h"
#include "tests/support/skip.h"
#include "tests/support/test_dir.h"
#include "wal/seam/seam.h"

#define B SEAM_BLOCK
#define MANY 600 /* more than both rings hold */
#define EXIT_SKIP 77

struct variant {
    const char *name;
    int backend, direct;
};

struct fixture {
    const struct variant *v;
    char dir[128];
    struct seam *s;
    uint8_t *data; /* MANY blocks */
};

static void clear_dir(const char *dir) {
    if (test_dir_remove(dir) != 0)
        print_message("could not remove %s\n", dir);
}

static int teardown(void **state) {
    struct fixture *f = *state;
    if (f->s != NULL)
        f->s->ops->destroy(f->s);
    clear_dir(f->dir);
    free(f->data);
    free(f);
    return 0;
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    void *data = NULL;
    if (f == NULL || posix_memalign(&data, B, MANY * B) != 0)
        return -1;
    memset(data, 0, MANY * B);
    f->data = data;
    f->v = *state;
    const char *tmp = getenv("TMPDIR");
    snprintf(f->dir, sizeof f->dir, "%s/test_seam.XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(f->dir) == NULL)
        return -1;
    *state = f;
    int rc = seam_create(f->dir, false, f->v->backend, f->v->direct, &f->s);
    return rc == -EOPNOTSUPP ? 0 : rc;
}

/* The fixture, or the end of the test where the variant is not available. */
static struct fixture *get(void **state) {
    struct fixture *f = *state;
    if (f->s == NULL)
        SKIP("%s is not available here", f->v->name);
    return f;
}

static struct seam *another(const struct fixture *f) {
    struct seam *s = NULL;
    assert_int_equal(seam_create(f->dir, false, f->v->backend, f->v->direct, &s), 0);
    return s;
}

static int make(struct fixture *f, const char *name) {
    int file = f->s->ops->open(f->s, name, SEAM_CREATE | SEAM_RDWR);
    assert_true(file >= 0 && file < SEAM_FILES_MAX);
    return file;
}

static struct seam_req request(enum seam_op op, int file, void *data, uint32_t len,
                               uint64_t offset) {
    struct seam_req r;
    memset(&r, 0, sizeof r);
    r.op = op, r.file = file, r.data = data, r.len = len, r.offset = offset, r.buffer = -1;
    r.result = INT64_MIN;
    return r;
}

static int64_t run(struct seam *s, struct seam_req *r) {
    struct seam_req *out = NULL;
    s->ops->submit(s, r);
    assert_int_equal(s->ops->kick(s), 0);
    assert_int_equal(s->ops->reap(s, &out, 1, true), 1);
    assert_ptr_equal(out, r);
    return r->result;
}

static void fill(uint8_t *p, size_t len, unsigned seed) {
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)(seed * 31u + i * 7u + (i >> 8));
}

static void path_of(const struct fixture *f, const char *name, char path[256]) {
    snprintf(path, 256, "%s/%s", f->dir, name);
}

/* Runs fn in a child; 0, or EXIT_SKIP. Anything else fails the test. */
static int in_child(void (*fn)(struct fixture *f), struct fixture *f) {
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        fn(f);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

#define CHILD_CHECK(cond) \
    do { \
        if (!(cond)) { \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond); \
            _exit(1); \
        } \
    } while (0)

static void check_child(int status, const char *why) {
    if (status == EXIT_SKIP) {
        SKIP("%s", why);
    }
    assert_int_equal(status, 0);
}

/* ---------------------------------------------------------------- requests */

static void written_bytes_are_read_back(void **state) {
    struct fixture *f = get(state);
    int file = make(f, "a");
    fill(f->data, 4 * B, 1);
    struct seam_req w = request(SEAM_WRITE, file, f->data, 4 * B, 8 * B);
    assert_int_equal(run(f->s, &w), 4 * B);
    struct seam_req r = request(SEAM_READ, file, f->data + 4 * B, 4 * B, 8 * B);
    assert_int_equal(run(f->s, &r), 4 * B);
    assert_memory_equal(f->data, f->data + 4 * B, 4 * B);
}

static void registered_buffer_is_written(void **state) {
    struct fixture *f = get(state);
    int file = make(f, "a");
    void *buffers[2] = {f->data, f->data + 4 * B};
    f->s->ops->buffers(f->s, buffers, 4 * B, 2);
    fill(f->data + 4 * B, 2 * B, 2);
    struct seam_req w = request(SEAM_WRITE, file, f->data + 4 * B, 2 * B, 0);
    w.buffer = 1, w.flags = SEAM_DSYNC;
    assert_int_equal(run(f->s, &w), 2 * B);
    assert_int_equal(f->s->ops->read(f->s, file, f->data, 2 * B, 0), 2 * B);
    assert_memory_equal(f->data, f->data + 4 * B, 2 * B);
}

static void more_requests_than_the_ring_holds_all_complete(void **state) {
    struct fixture *f = get(state);
    int file = make(f, "a");
    struct seam_req *r = calloc(MANY, sizeof *r);
    fill(f->data, MANY * B, 3);
    for (unsigned i = 0; i < MANY; i++) {
        r[i] = request(SEAM_WRITE, file, f->data + i * B, B, (uint64_t)i * B);
        r[i].flags = i % 3 == 0 ? SEAM_BACKGROUND : 0;
        f->s->ops->submit(f->s, &r[i]);
    }
    assert_int_equal(f->s->ops->kick(f->s), 0);
    struct seam_req *out[16];
    int got = 0, n;
    while ((n = f->s->ops->reap(f->s, out, 16, true)) > 0)
        got += n;
    assert_int_equal(n, 0);
    assert_int_equal(got, MANY);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(r[i].result, B);
    free(r);
    uint8_t *back = NULL;
    assert_int_equal(posix_memalign((void **)&back, B, MANY * B), 0);
    assert_int_equal(f->s->ops->read(f->s, file, back, MANY * B, 0), MANY * B);
    assert_memory_equal(back, f->data, MANY * B);
    free(back);
}

static void dsync_write_completes(void **state) {
    struct fixture *f = get(state);
    struct seam_req w = request(SEAM_WRITE, make(f, "a"), f->data, B, 0);
    w.flags = SEAM_DSYNC;
    assert_int_equal(run(f->s, &w), B);
}

static void sync_completes(void **state) {
    struct fixture *f = get(state);
    int file = make(f, "a");
    struct seam_req r = request(SEAM_SYNC, file, NULL, 0, 0);
    assert_int_equal(run(f->s, &r), 0);
    assert_int_equal(f->s->ops->sync(f->s, file), 0);
    assert_int_equal(f->s->ops->sync_dir(f->s), 0);
}

static void reap_with_nothing_under_way_returns_at_once(void **state) {
    struct fixture *f = get(state);
    struct seam_req *out;
    assert_int_equal(f->s->ops->reap(f->s, &out, 1, true), 0);
    assert_int_equal(f->s->ops->reap(f->s, &out, 1, false), 0);
}

/* Not a matter of timing: many slow background requests are put in first, and the foreground one
 * must not come out last. */
static void background_does_not_delay_foreground(void **state) {
    struct fixture *f = get(state);
    int back = make(f, "back"), fore = make(f, "fore");
    struct seam_req r[65], *out[1];
    for (unsigned i = 0; i < 64; i++) {
        r[i] = request(SEAM_WRITE, back, f->data, 256 * B, (uint64_t)i * 256 * B);
        r[i].flags = SEAM_BACKGROUND | SEAM_DSYNC;
        f->s->ops->submit(f->s, &r[i]);
    }
    assert_int_equal(f->s->ops->kick(f->s), 0);
    r[64] = request(SEAM_WRITE, fore, f->data, B, 0);
    f->s->ops->submit(f->s, &r[64]);
    assert_int_equal(f->s->ops->kick(f->s), 0);
    int place = -1;
    for (int i = 0; i < 65; i++) {
        assert_int_equal(f->s->ops->reap(f->s, out, 1, true), 1);
        assert_true(out[0]->result > 0);
        if (out[0] == &r[64])
            place = i;
    }
    assert_true(place >= 0 && place < 32);
}

struct reaper {
    struct seam *s;
    int want, got;
};

static void *reap_all(void *arg) {
    struct reaper *p = arg;
    struct seam_req *out[8];
    while (p->got < p->want) {
        int n = p->s->ops->reap(p->s, out, 8, true);
        for (int i = 0; i < n; i++)
            p->got += out[i]->result == B ? 1 : 1000000;
        if (n == 0)
            p->s->ops->sleep(p->s, 10000);
    }
    return NULL;
}

static void one_thread_reaps_while_another_submits(void **state) {
    struct fixture *f = get(state);
    int file = make(f, "a");
    struct seam_req *r = calloc(MANY, sizeof *r);
    struct reaper p = {f->s, MANY, 0};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, reap_all, &p), 0);
    for (unsigned i = 0; i < MANY; i++) {
        r[i] = request(SEAM_WRITE, file, f->data + i * B, B, (uint64_t)i * B);
        r[i].flags = i % 2 != 0 ? SEAM_BACKGROUND : 0;
        f->s->ops->submit(f->s, &r[i]);
        f->s->ops->kick(f->s);
    }
    pthread_join(thread, NULL);
    assert_int_equal(p.got, MANY);
    free(r);
}

static void bad_handle_is_answered(void **state) {
    struct fixture *f = get(state);
    struct seam_req r = request(SEAM_WRITE, 7, f->data, B, 0);
    assert_int_equal(run(f->s, &r), -EBADF);
}

static void write_beyond_the_file_size_limit(struct fixture *f) {
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit = {2 * B, 2 * B};
    CHILD_CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    struct seam *s = NULL; /* a ring of the child's own */
    CHILD_CHECK(seam_create(f->dir, false, f->v->backend, f->v->direct, &s) == 0);
    int file = s->ops->open(s, "limited", SEAM_CREATE | SEAM_RDWR);
    CHILD_CHECK(file >= 0);
    struct seam_req r = request(SEAM_WRITE, file, f->data, 4 * B, 0), *out = NULL;
    s->ops->submit(s, &r);
    CHILD_CHECK(s->ops->reap(s, &out, 1, true) == 1 && out == &r);
    CHILD_CHECK(r.result == 2 * B || r.result == -EFBIG);
    r = request(SEAM_WRITE, file, f->data, B, 2 * B);
    s->ops->submit(s, &r);
    CHILD_CHECK(s->ops->reap(s, &out, 1, true) == 1 && r.result == -EFBIG);
    CHILD_CHECK(s->ops->write(s, file, f->data, 4 * B, 0) == -EFBIG);
    s->ops->destroy(s);
}

static void short_write_is_reported_raw(void **state) {
    struct fixture *f = get(state);
    check_child(in_child(write_beyond_the_file_size_limit, f), "");
}

/* ---------------------------------------------------------------- files */

static void read_stops_at_the_end_of_the_file(void **state) {
    struct fixture *f = get(state);
    int side = f->s->ops->open(f->s, "side", SEAM_CREATE | SEAM_RDWR | SEAM_BUFFERED);
    assert_int_equal(f->s->ops->write(f->s, side, "0123456789", 10, B), 10);
    f->s->ops->close(f->s, side);
    int file = f->s->ops->open(f->s, "side", 0);
    assert_true(file >= 0);
    assert_int_equal(f->s->ops->read(f->s, file, f->data, 4 * B, 0), B + 10);
    assert_memory_equal(f->data + B, "0123456789", 10);
}

static void allocate_gives_the_size(void **state) {
    struct fixture *f = get(state);
    int file = make(f, "a");
    const uint64_t sizes[] = {64 * B, 16 * B, 0};
    for (size_t i = 0; i < 3; i++) {
        uint64_t size = 1;
        assert_int_equal(f->s->ops->allocate(f->s, file, sizes[i]), 0);
        assert_int_equal(f->s->ops->size(f->s, file, &size), 0);
        assert_true(size == sizes[i]);
    }
}

static void symbolic_links_are_not_followed(void **state) {
    struct fixture *f = get(state);
    char link[256], lock[256], dir[256], slash[300];
    path_of(f, "link", link), path_of(f, "lock", lock), path_of(f, "dirlink", dir);
    make(f, "target");
    assert_int_equal(symlink("target", link), 0);
    assert_int_equal(symlink("target", lock), 0);
    assert_int_equal(symlink(f->dir, dir), 0);
    int pid;
    struct seam *s;
    assert_int_equal(f->s->ops->open(f->s, "link", SEAM_RDWR), -ELOOP);
    assert_int_equal(f->s->ops->lock(f->s, 0, &pid), -ELOOP);
    assert_int_equal(seam_create(dir, true, f->v->backend, f->v->direct, &s), -ELOOP);
    snprintf(slash, sizeof slash, "%s/", dir);
    assert_int_equal(seam_create(slash, false, f->v->backend, f->v->direct, &s), -ELOOP);
}

static void only_regular_files_of_the_directory_open(void **state) {
    struct fixture *f = get(state);
    char path[256];
    path_of(f, "fifo", path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(f->s->ops->open(f->s, "fifo", 0), -EINVAL);
    assert_int_equal(f->s->ops->open(f->s, "../x", 0), -EINVAL);
    assert_int_equal(f->s->ops->open(f->s, "..", 0), -EINVAL);
}

static void create_makes_a_private_directory_and_files(void **state) {
    struct fixture *f = get(state);
    char dir[256], file[300];
    path_of(f, "new", dir);
    struct seam *s;
    assert_int_equal(seam_create(dir, false, f->v->backend, f->v->direct, &s), -ENOENT);
    assert_int_equal(seam_create(dir, true, f->v->backend, f->v->direct, &s), 0);
    assert_true(s->ops->open(s, "a", SEAM_CREATE | SEAM_RDWR) >= 0);
    assert_int_equal(s->ops->open(s, "a", SEAM_CREATE | SEAM_RDWR), -EEXIST);
    s->ops->destroy(s);
    struct stat st;
    snprintf(file, sizeof file, "%s/a", dir);
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
}

static int count_name(void *arg, const char *name) {
    *(int *)arg += strcmp(name, "b") == 0 ? 100 : 1;
    return 0;
}

static void list_shows_renames_and_unlinks(void **state) {
    struct fixture *f = get(state);
    make(f, "a"), make(f, "c");
    assert_int_equal(f->s->ops->rename(f->s, "a", "b"), 0);
    for (int i = 0; i < 2; i++) {
        int seen = 0;
        assert_int_equal(f->s->ops->list(f->s, count_name, &seen), 0);
        assert_int_equal(seen, 101);
    }
    assert_int_equal(f->s->ops->unlink(f->s, "b"), 0);
    assert_int_equal(f->s->ops->unlink(f->s, "b"), -ENOENT);
}

/* Whether the process may have descriptors for all handles of a seam; as many as it may, if not. */
static bool allow_descriptors(struct rlimit *before) {
    assert_int_equal(getrlimit(RLIMIT_NOFILE, before), 0);
    struct rlimit enough = {SEAM_FILES_MAX + 200, before->rlim_max};
    if (before->rlim_cur >= enough.rlim_cur)
        return true;
    if (enough.rlim_max < enough.rlim_cur)
        enough.rlim_max = enough.rlim_cur; /* root may */
    if (setrlimit(RLIMIT_NOFILE, &enough) == 0)
        return true;
    struct rlimit all = {before->rlim_max, before->rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &all), 0);
    return false;
}

static void handles_run_out_and_come_back(void **state) {
    struct fixture *f = get(state);
    struct rlimit before;
    bool enough = allow_descriptors(&before);
    make(f, "a");
    int file = 0, opened = 1;
    while ((file = f->s->ops->open(f->s, "a", 0)) >= 0)
        opened++;
    assert_int_equal(file, -EMFILE);
    if (enough)
        assert_int_equal(opened, SEAM_FILES_MAX);
    else /* the system's limit is the lower one */
        assert_in_range(opened, 6, SEAM_FILES_MAX - 1);
    f->s->ops->close(f->s, 5);
    assert_int_equal(f->s->ops->open(f->s, "a", 0), 5);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void open_with_low_descriptors_closed(struct fixture *f) {
    int report = fcntl(2, F_DUPFD_CLOEXEC, 100);
    close(0), close(1), close(2);
    struct seam *s = NULL;
    int pid, rc = seam_create(f->dir, false, f->v->backend, f->v->direct, &s);
    rc = rc < 0 ? rc : s->ops->open(s, "a", SEAM_CREATE | SEAM_RDWR);
    rc = rc < 0 ? rc : s->ops->lock(s, 0, &pid);
    dup2(report, 99);
    bool low = fcntl(0, F_GETFD) >= 0 || fcntl(1, F_GETFD) >= 0 || fcntl(2, F_GETFD) >= 0;
    int inherited = 0;
    for (int fd = 3; fd < 99; fd++) {
        int flags = fcntl(fd, F_GETFD);
        inherited += flags >= 0 && (flags & FD_CLOEXEC) == 0 ? 1 : 0;
    }
    dup2(report, 2);
    CHILD_CHECK(rc >= 0);
    CHILD_CHECK(!low);
    CHILD_CHECK(inherited == 0);
}

static void mark_cloexec(void) {
    for (int fd = 3; fd < 99; fd++) { /* what the test itself inherited isn't the seam's */
        int flags = fcntl(fd, F_GETFD);
        if (flags >= 0 && (flags & FD_CLOEXEC) == 0)
            fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
    }
}

static void descriptors_are_high_and_closed_on_exec(void **state) {
    struct fixture *f = get(state);
    f->s->ops->destroy(f->s); /* its descriptors must not be mistaken for the child's */
    f->s = NULL;
    mark_cloexec();
    check_child(in_child(open_with_low_descriptors_closed, f), "");
}

static void errno_is_left_alone(void **state) {
    struct fixture *f = get(state);
    struct seam *s;
    errno = 4711;
    assert_int_equal(f->s->ops->open(f->s, "none", 0), -ENOENT);
    assert_int_equal(f->s->ops->unlink(f->s, "none"), -ENOENT);
    struct seam_req r = request(SEAM_READ, 3, f->data, B, 0);
    assert_int_equal(run(f->s, &r), -EBADF);
    assert_int_equal(seam_create("/none/none", true, f->v->backend, f->v->direct, &s), -ENOENT);
    assert_int_equal(errno, 4711);
}

static void time_chance_and_space_answer(void **state) {
    struct fixture *f = get(state);
    uint64_t before = f->s->ops->now(f->s), space = 0, chance[2] = {0, 0};
    f->s->ops->sleep(f->s, 2000000);
    assert_true(f->s->ops->now(f->s) - before >= 2000000);
    assert_true(f->s->ops->realtime(f->s) > 1600000000000000000u);
    assert_int_equal(f->s->ops->random(f->s, chance, sizeof chance), 0);
    assert_true(chance[0] != chance[1]);
    assert_int_equal(f->s->ops->free_space(f->s, &space), 0);
    assert_true(space > 0);
}

/* ---------------------------------------------------------------- lock */

static void lock_excludes_a_second_seam_and_names_the_pid(void **state) {
    struct fixture *f = get(state);
    struct seam *s = another(f);
    int pid = -1;
    assert_int_equal(s->ops->holder(s), 0);
    assert_int_equal(f->s->ops->lock(f->s, 0, &pid), 0);
    assert_int_equal(s->ops->holder(s), getpid());
    uint64_t before = s->ops->now(s);
    assert_int_equal(s->ops->lock(s, 20000000, &pid), -EWOULDBLOCK);
    assert_true(s->ops->now(s) - before >= 20000000);
    assert_int_equal(pid, getpid());
    f->s->ops->unlock(f->s);
    assert_int_equal(s->ops->holder(s), 0);
    assert_int_equal(s->ops->lock(s, 0, &pid), 0);
    s->ops->destroy(s);
    assert_int_equal(f->s->ops->lock(f->s, 0, &pid), 0);
}

static void lock_of_a_killed_writer_comes_free(void **state) {
    struct fixture *f = get(state);
    int ready[2], pid = -1;
    char byte;
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct seam *s = NULL;
        CHILD_CHECK(seam_create(f->dir, false, f->v->backend, f->v->direct, &s) == 0);
        CHILD_CHECK(s->ops->lock(s, 0, &pid) == 0);
        int file = s->ops->open(s, "a", SEAM_CREATE | SEAM_RDWR);
        struct seam_req r[64];
        for (unsigned i = 0; i < 64; i++) {
            r[i] = request(SEAM_WRITE, file, f->data, 64 * B, (uint64_t)i * 64 * B);
            r[i].flags = SEAM_DSYNC;
            s->ops->submit(s, &r[i]);
        }
        s->ops->kick(s);
        CHILD_CHECK(write(ready[1], "x", 1) == 1);
        for (;;)
            pause();
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(f->s->ops->lock(f->s, 0, &pid), -EWOULDBLOCK);
    assert_int_equal(pid, child);
    assert_int_equal(f->s->ops->holder(f->s), child);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(f->s->ops->lock(f->s, 5000000000u, &pid), 0);
    close(ready[0]), close(ready[1]);
}

/* ---------------------------------------------------------------- fallbacks */

static void deny_io_uring(struct fixture *f) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {4, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        _exit(EXIT_SKIP);
    struct seam *s = NULL;
    CHILD_CHECK(seam_create(f->dir, false, PAWL_BACKEND_URING, f->v->direct, &s) == -EOPNOTSUPP);
    CHILD_CHECK(seam_create(f->dir, false, PAWL_BACKEND_AUTO, f->v->direct, &s) == 0);
    CHILD_CHECK(s->backend == PAWL_BACKEND_POSIX);
    CHILD_CHECK(strstr(s->note, "posix: io_uring_setup: Operation not permitted") == s->note);
    s->ops->destroy(s);
}

static void denied_io_uring_falls_back_to_posix(void **state) {
    struct fixture *f = get(state);
    check_child(in_child(deny_io_uring, f), "no seccomp here");
}

/* The limit comes after the ring: newer kernels charge the ring itself to it. */
static void refuse_registration(struct fixture *f) {
    struct rlimit none = {0, 0};
    struct io_uring ring; /* does the kernel refuse at all? */
    struct iovec v = {f->data, 4 * B};
    struct seam *s = NULL;
    CHILD_CHECK(chmod(f->dir, 0777) == 0);
    if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0)
        _exit(EXIT_SKIP);
    if (io_uring_queue_init(4, &ring, 0) != 0)
        _exit(EXIT_SKIP);
    CHILD_CHECK(seam_create(f->dir, false, f->v->backend, f->v->direct, &s) == 0);
    if (setrlimit(RLIMIT_MEMLOCK, &none) != 0 || io_uring_register_buffers(&ring, &v, 1) != -ENOMEM)
        _exit(EXIT_SKIP);
    io_uring_queue_exit(&ring);
    void *buffer = f->data;
    s->ops->buffers(s, &buffer, 4 * B, 1);
    int file = s->ops->open(s, "a", SEAM_CREATE | SEAM_RDWR);
    CHILD_CHECK(file >= 0);
    struct seam_req r = request(SEAM_WRITE, file, f->data, B, 0), *out;
    r.buffer = 0;
    s->ops->submit(s, &r);
    CHILD_CHECK(s->ops->reap(s, &out, 1, true) == 1 && r.result == B);
    s->ops->destroy(s);
    /* with or without a ring */
    CHILD_CHECK(seam_create(f->dir, false, PAWL_BACKEND_AUTO, f->v->direct, &s) == 0);
    s->ops->destroy(s);
}

static void refused_buffer_registration_is_no_error(void **state) {
    struct fixture *f = get(state);
    check_child(in_child(refuse_registration, f), "the kernel does not refuse to register buffers");
}

/* A user with room for one registration: f->data fits into the limit once. Each child is a user of
 * its own, so that it is not charged for what others have: only root can see to that. */
static void ordinary_user(struct fixture *f) {
    struct rlimit limit = {MANY * B * 3 / 2, MANY * B * 3 / 2};
    uid_t user = 1000000u + (uid_t)getpid();
    CHILD_CHECK(chmod(f->dir, 0777) == 0);
    if (setresuid(user, user, user) != 0 || setrlimit(RLIMIT_MEMLOCK, &limit) != 0)
        _exit(EXIT_SKIP);
}

/* The kernel frees a ring some milliseconds after it was closed; the seam doesn't leave its
 * registered memory to that. */
static void give_locked_memory_back(struct fixture *f) {
    struct io_uring ring;
    struct iovec v = {f->data, MANY * B};
    struct seam *s = NULL;
    void *buffer = f->data;
    ordinary_user(f);
    if (io_uring_queue_init(4, &ring, 0) != 0)
        _exit(EXIT_SKIP);
    for (int i = 0; i < 5; i++) {
        CHILD_CHECK(seam_create(f->dir, false, f->v->backend, f->v->direct, &s) == 0);
        s->ops->buffers(s, &buffer, MANY * B, 1);
        s->ops->destroy(s);
        CHILD_CHECK(io_uring_register_buffers(&ring, &v, 1) == 0);
        CHILD_CHECK(io_uring_unregister_buffers(&ring) == 0);
    }
}

static void locked_memory_is_given_back_at_once(void **state) {
    struct fixture *f = get(state);
    check_child(in_child(give_locked_memory_back, f), "needs root and io_uring");
}

static void *let_go_later(void *ring) {
    nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
    io_uring_unregister_buffers(ring);
    return NULL;
}

/* All that the user may lock is taken, as after many handles; then it is given back. */
static void open_when_locked_memory_comes_free(struct fixture *f) {
    static struct io_uring hog;
    struct iovec v = {f->data, B};
    struct seam *s = NULL;
    pthread_t thread;
    struct rlimit limit;
    ordinary_user(f);
    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || io_uring_queue_init(4, &hog, 0) != 0)
        _exit(EXIT_SKIP);
    /* what is left is less than a ring */
    for (v.iov_len = limit.rlim_cur - limit.rlim_cur % B; v.iov_len > 0; v.iov_len -= B) {
        v.iov_base =
            mmap(NULL, v.iov_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHILD_CHECK(v.iov_base != MAP_FAILED);
        if (io_uring_register_buffers(&hog, &v, 1) == 0)
            break;
        munmap(v.iov_base, v.iov_len);
    }
    struct io_uring another;
    if (v.iov_len == 0 || io_uring_queue_init(128, &another, 0) != -ENOMEM)
        _exit(EXIT_SKIP);
    CHILD_CHECK(pthread_create(&thread, NULL, let_go_later, &hog) == 0);
    CHILD_CHECK(seam_create(f->dir, false, PAWL_BACKEND_AUTO, f->v->direct, &s) == 0);
    CHILD_CHECK(s->backend == PAWL_BACKEND_URING);
    CHILD_CHECK(pthread_join(thread, NULL) == 0);
    s->ops->destroy(s);
}

static void locked_memory_is_waited_for(void **state) {
    struct fixture *f = get(state);
    check_child(in_child(open_when_locked_memory_comes_free, f),
                "needs root, and a kernel that charges a ring to RLIMIT_MEMLOCK");
}

static const struct variant variants[] = {
    {"io_uring, direct", PAWL_BACKEND_URING, PAWL_DIRECT_ON},
    {"io_uring, buffered", PAWL_BACKEND_URING, PAWL_DIRECT_OFF},
    {"posix, direct", PAWL_BACKEND_POSIX, PAWL_DIRECT_ON},
    {"posix, buffered", PAWL_BACKEND_POSIX, PAWL_DIRECT_OFF},
};

#define T(f) \
    { #f, f, setup, teardown, NULL }

int main(void) {
    static const struct CMUnitTest all[] = {
        T(written_bytes_are_read_back),
        T(registered_buffer_is_written),
        T(more_requests_than_the_ring_holds_all_complete),
        T(dsync_write_completes),
        T(sync_completes),
        T(reap_with_nothing_under_way_returns_at_once),
        T(background_does_not_delay_foreground),
        T(one_thread_reaps_while_another_submits),
        T(bad_handle_is_answered),
        T(short_write_is_reported_raw),
        T(read_stops_at_the_end_of_the_file),
        T(allocate_gives_the_size),
        T(symbolic_links_are_not_followed),
        T(only_regular_files_of_the_directory_open),
        T(create_makes_a_private_directory_and_files),
        T(list_shows_renames_and_unlinks),
        T(handles_run_out_and_come_back),
        T(descriptors_are_high_and_closed_on_exec),
        T(errno_is_left_alone),
        T(time_chance_and_space_answer),
        T(lock_excludes_a_second_seam_and_names_the_pid),
        T(lock_of_a_killed_writer_comes_free),
        T(denied_io_uring_falls_back_to_posix),
        T(refused_buffer_registration_is_no_error),
        T(locked_memory_is_given_back_at_once),
        T(locked_memory_is_waited_for),
    };
    enum { COUNT = sizeof all / sizeof all[0] };
    int failed = 0;
    for (size_t v = 0; v < sizeof variants / sizeof variants[0]; v++) {
        struct CMUnitTest tests[COUNT];
        memcpy(tests, all, sizeof all);
        for (size_t i = 0; i < COUNT; i++)
            tests[i].initial_state = (void *)(uintptr_t)&variants[v];
        failed += cmocka_run_group_tests_name(variants[v].name, tests, NULL, NULL);
    }
    return failed;
}
