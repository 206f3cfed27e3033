/* SPDX-License-Identifier: Apache-2.0
 *
 * What is done to a followed file between any two system calls of the source: each line comes once,
 * in order, and nothing is said to be gone, since nothing is.
 *
 * A scenario is a short list of steps. They are taken one after the other, just before the k-th
 * call that the source makes on its files, and every `stride` calls from there on; this is tried
 * for each k and some strides. So the outcome depends on no timing: time stands still, but for what
 * the test adds to it, and before each step the clock of the file system has gone on.
 *
 * Without more, a few places of each scenario are tried. PAWL_RACE=all in the environment tries all
 * (an hour; quicker with TMPDIR in memory), PAWL_RACE="SCENARIO KIND K STRIDE" one, and shows what
 * is done.
 */
#include "tests/support/source_help.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include "connectors/file/trail.h"

#define K_MAX 400
#define STRIDES 40 /* as many calls between two steps, at most */
#define LINES_MAX 4000
#define FDS 1024

static struct {
    struct feed *f;
    char place[80]; /* directory of the files, with the / */
    const char *step, *steps;
    int number;             /* lines written */
    int content[LINES_MAX]; /* of which content of the followed file each is */
    int contents;
    bool armed, inside, show;
    int calls, next, stride;
    uint64_t now;
    bool ours[FDS];
} r;

/* The log's own threads open and close files meanwhile: only the thread of the source touches r. */
static _Thread_local bool source_thread;

/* ---- steps */

static const char *at(const char *name) {
    static char path[8][120];
    static int turn;
    char *p = path[turn++ % 8];
    snprintf(p, 120, "%s%s", r.place, name);
    return p;
}

/* Until the file system's clock has gone on: what is done now is later than all before. */
static void tick(void) {
    struct timespec a, b;
    clock_gettime(CLOCK_REALTIME_COARSE, &a);
    do
        clock_gettime(CLOCK_REALTIME_COARSE, &b);
    while (a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec);
}

static void write_lines(const char *name, int n) {
    FILE *out = fopen(at(name), "a");
    assert_non_null(out);
    for (int i = 0; i < n; i++, r.number++) {
        assert_true(r.number < LINES_MAX);
        r.content[r.number] = r.contents - (strcmp(name, "app.1") == 0);
        fprintf(out, "%d of a day's work\n", r.number);
    }
    assert_int_equal(fclose(out), 0);
}

static void copy(const char *from, const char *to) {
    char buf[65536];
    FILE *a = fopen(at(from), "r"), *b = fopen(at(to), "w");
    assert_non_null(a);
    assert_non_null(b);
    for (size_t n; (n = fread(buf, 1, sizeof buf, a)) > 0;)
        assert_int_equal(fwrite(buf, 1, n, b), n);
    fclose(a);
    assert_int_equal(fclose(b), 0);
}

static void shift(void) {
    (void)rename(at("app.2"), at("app.3"));
    (void)rename(at("app.1"), at("app.2"));
}

/* One letter is one step. */
static void take(char step) {
    tick();
    switch (step) {
    case 'w': /* a few lines are written */
        write_lines("app", 3);
        break;
    case 'W': /* more than the window of a position */
        write_lines("app", 300);
        break;
    case 'o': /* one short line */
        write_lines("app", 1);
        break;
    case 'c': /* rotated by copying; T follows */
        shift();
        copy("app", "app.1");
        break;
    case 'T':
        assert_int_equal(truncate(at("app"), 0), 0);
        r.contents++;
        break;
    case 'r': /* rotated by renaming */
        shift();
        assert_int_equal(rename(at("app"), at("app.1")), 0);
        r.contents++;
        break;
    case 'l': /* by a writer that still has the rotated one */
        write_lines("app.1", 2);
        break;
    case 'n': /* a new, empty file */
        close(open(at("app"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        break;
    case 'e': /* an editor: renamed to a backup, and written anew */
        assert_int_equal(rename(at("app"), at("app~")), 0);
        copy("app~", "app");
        break;
    case 'k': /* it keeps another name */
        assert_int_equal(link(at("app"), at("app~")), 0);
        break;
    case 'p': /* replaced by a longer copy */
        copy("app", "t");
        write_lines("t", 2);
        break;
    case 'P':
        assert_int_equal(rename(at("t"), at("app")), 0);
        break;
    default:
        fail_msg("no step %c", step);
    }
}

static void take_next(void) {
    r.inside = true;
    if (r.show)
        fprintf(stderr, "call %d: %c\n", r.calls, *r.step);
    take(*r.step++);
    r.inside = false;
}

static void before_call(const char *call, const char *what) {
    if (!r.armed || r.inside)
        return;
    if (r.show && *r.steps != 0)
        fprintf(stderr, "call %d: %s %s\n", r.calls, call, what);
    while (*r.step != 0 && r.calls >= r.next) {
        take_next();
        r.next = r.calls + r.stride;
        if (r.stride != 0)
            break;
    }
    r.calls++;
}

/* ---- the calls of the source */

int __real_open(const char *path, int flags, ...);
int __real_close(int fd);
int __real_stat(const char *path, struct stat *st);
int __real_lstat(const char *path, struct stat *st);
int __real_fstat(int fd, struct stat *st);
int __real_statx(int dir, const char *path, int flags, unsigned mask, struct statx *x);
ssize_t __real_pread(int fd, void *buf, size_t n, off_t at);
DIR *__real_opendir(const char *path);

int __wrap_open(const char *path, int flags, ...);
int __wrap_close(int fd);
int __wrap_stat(const char *path, struct stat *st);
int __wrap_lstat(const char *path, struct stat *st);
int __wrap_fstat(int fd, struct stat *st);
int __wrap_statx(int dir, const char *path, int flags, unsigned mask, struct statx *x);
ssize_t __wrap_pread(int fd, void *buf, size_t n, off_t at);
DIR *__wrap_opendir(const char *path);
uint64_t __wrap_connect_now(const pawl_hooks *h);

static bool is_ours(const char *path) {
    if (!source_thread)
        return false;
    size_t n = strlen(r.place);
    return n != 0 && strncmp(path, r.place, n - 1) == 0;
}

static bool fd_is_ours(int fd) {
    return source_thread && fd >= 0 && fd < FDS && r.ours[fd];
}

int __wrap_open(const char *path, int flags, ...) {
    va_list v;
    va_start(v, flags);
    unsigned mode = (flags & O_CREAT) != 0 ? va_arg(v, unsigned) : 0;
    va_end(v);
    if (is_ours(path))
        before_call("open", path);
    int fd = __real_open(path, flags, mode);
    if (source_thread && fd >= 0 && fd < FDS)
        r.ours[fd] = is_ours(path) && !r.inside;
    return fd;
}

int __wrap_close(int fd) {
    if (source_thread && fd >= 0 && fd < FDS)
        r.ours[fd] = false;
    return __real_close(fd);
}

int __wrap_stat(const char *path, struct stat *st) {
    if (is_ours(path))
        before_call("stat", path);
    return __real_stat(path, st);
}

int __wrap_lstat(const char *path, struct stat *st) {
    if (is_ours(path))
        before_call("lstat", path);
    return __real_lstat(path, st);
}

int __wrap_fstat(int fd, struct stat *st) {
    if (fd_is_ours(fd))
        before_call("fstat", "");
    return __real_fstat(fd, st);
}

int __wrap_statx(int dir, const char *path, int flags, unsigned mask, struct statx *x) {
    if (is_ours(path) || fd_is_ours(dir))
        before_call("statx", path);
    return __real_statx(dir, path, flags, mask, x);
}

ssize_t __wrap_pread(int fd, void *buf, size_t n, off_t at) {
    if (fd_is_ours(fd))
        before_call("pread", "");
    return __real_pread(fd, buf, n, at);
}

DIR *__wrap_opendir(const char *path) {
    if (is_ours(path))
        before_call("opendir", path);
    return __real_opendir(path);
}

uint64_t __wrap_connect_now(const pawl_hooks *h) {
    (void)h;
    return r.now;
}

/* ---- a scenario */

static const struct scenario {
    const char *name;
    const char *before; /* steps that the source reads; a space starts it once more */
    const char *while_down;
    const char *steps; /* while it runs, at any place */
} scenarios[] = {
    {"new file copied and truncated", "w", "rnw", "cTw"},
    {"new file copied and emptied", "w", "rno", "cT"},
    {"copied and truncated", "w", "", "wcTw"},
    {"twice copied and truncated", "w", "", "wcTwcTw"},
    {"long one copied and truncated", "W", "", "WcTWcTw"},
    {"copied while down, and again", "w", "wcTw", "wcTw"},
    {"renamed", "w", "", "wrnw"},
    {"renamed twice", "w", "", "wrnwrnw"},
    {"renamed, and a late writer", "w", "", "rnlw"},
    {"renamed while down, then copied", "W", "rnw", "cTw"},
    {"copied, then renamed", "w", "", "cTwrnw"},
    {"replaced by a longer copy", "W", "", "pPw"},
    {"an empty one edited, then copied", "w", "rn", "eowcTw"},
    {"edited, replaced and copied", "W", "", "ewpPcTw"},
    {"an empty one linked, replaced twice", "w", "rn", "kpPpPrnw"},
};

static const char *const kinds[] = {"file", "dir app", "dir app*"};

/* Each line came once, in order; with a glob that matches rotated files as well, in the order of
 * the content that it belongs to. NULL: so it is. */
static const char *verdict(const char *got, int kind) {
    static bool came[LINES_MAX];
    static int last[LINES_MAX];
    int count = 0, before = -1;
    memset(came, 0, sizeof came);
    memset(last, 0, sizeof last);
    for (const char *p = got; *p != 0; p = strchr(p, '\n') + 1, count++) {
        int n = atoi(p), *newest = &last[r.content[n]];
        if (n >= r.number || strncmp(strchr(p, ' '), " of a day's work\n", 17) != 0)
            return "a line that was not written";
        if (came[n])
            return "a line came twice";
        if (n + 1 <= *newest || (kind < 2 && n <= before))
            return "a line came too late";
        came[n] = true;
        *newest = n + 1;
        before = n;
    }
    return count < r.number ? "a line is missing" : NULL;
}

/* Steps the source until nothing comes for as long as a new file may be held back. */
static void drive(int kind, bool complete) {
    size_t n;
    for (int quiet = 0; quiet < (complete ? 60 : 2); quiet++) {
        r.armed = true;
        int rc = feed_drive(r.f);
        r.armed = false;
        assert_true(rc >= 0);
        r.now += UINT64_C(100000000);
        if (*r.step != 0) {
            quiet = 0;
            if (r.calls >= r.next || quiet > 40)
                continue;
            r.next = r.calls; /* no call is left between these steps */
            continue;
        }
        char *got = feed_text(r.f, r.f->to, &n);
        bool whole = complete && verdict(got, kind) == NULL;
        free(got);
        if (whole && quiet > 3)
            break;
    }
}

static void begin(const struct scenario *s, int kind) {
    char path[72];
    r.f = feed_new(kind == 0 ? "file" : "dir");
    r.f->options.segment_size = 1u << 20;
    snprintf(path, sizeof path, "%s/w", r.f->dir);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(r.place, sizeof r.place, "%s/", path);
    feed_set(r.f, "path", kind == 0 ? at("app") : path);
    if (kind != 0) {
        feed_set(r.f, "glob", kinds[kind] + 4);
        feed_set(r.f, "scan", "0ms");
    }
    r.number = r.calls = r.contents = 0;
    r.now = UINT64_C(1000000000);
    r.step = r.steps = "";
    r.inside = true;
    for (const char *p = s->before; *p != 0; p++)
        take(*p);
    r.inside = false;
    feed_begin(r.f);
    drive(kind, true);
    if (s->while_down[0] == 0)
        return;
    feed_end(r.f);
    r.inside = true;
    for (const char *p = s->while_down; *p != 0; p++)
        take(*p);
    r.inside = false;
    feed_begin(r.f);
}

/* Returns how many calls there were. */
static int try(int number, int kind, int k, int stride) {
    const struct scenario *s = &scenarios[number];
    size_t n;
    begin(s, kind);
    r.calls = 0;
    r.next = k;
    r.stride = stride;
    r.step = r.steps = s->steps;
    if (k > K_MAX) /* after all: how many calls are there? */
        r.step = "";
    drive(kind, k <= K_MAX);
    int calls = r.calls;
    char *got = feed_text(r.f, r.f->to, &n);
    const char *wrong = k <= K_MAX ? verdict(got, kind) : NULL;
    if (wrong == NULL && k <= K_MAX && r.f->warnings != 0)
        wrong = r.f->warning;
    if (wrong != NULL) {
        char command[200];
        snprintf(command, sizeof command, "cd '%s'; ls -li --full-time >&2; head -n 1 * >&2",
                 r.place);
        (void)!system(command);
        fail_msg("PAWL_RACE=\"%d %d %d %d\" (%s, %s): %s\nit holds\n%.3000s", number, kind, k,
                 stride, s->name, kinds[kind], wrong, got);
    }
    free(got);
    feed_free(r.f);
    return calls;
}

static int try_all(int number, int kind, int calls) {
    int tried = 0;
    for (int k = 0; k < calls && k < K_MAX; k++)
        for (int stride = 0; stride < (k < 3 ? STRIDES : 3); stride++, tried++)
            (void)try(number, kind, k, stride);
    fprintf(stderr, "%s, %s: %d calls, %d tried\n", scenarios[number].name, kinds[kind], calls,
            tried);
    return tried;
}

static int try_some(int number, int kind, int calls) {
    int tried = 0, step = calls / 3 + 1;
    for (int k = (7 * number + kind) % step; k < calls && k < K_MAX; k += step, tried += 2) {
        (void)try(number, kind, k, 0);
        (void)try(number, kind, k, 1 + (k + number) % 5);
    }
    return tried;
}

/* Places that failed once, each for a reason of its own. */
static const struct {
    int number, kind, k, stride;
} failed[] = {
    {0, 2, 60, 2}, {5, 2, 25, 2}, /* lines in memory were given, and their copy was read as well */
};

static void each_place(void **state) {
    (void)state;
    int number, kind, k, stride, tried = 0;
    const char *one = getenv("PAWL_RACE");
    if (one != NULL && sscanf(one, "%d %d %d %d", &number, &kind, &k, &stride) == 4) {
        r.show = true;
        (void)try(number, kind, k, stride);
        return;
    }
    for (size_t i = 0; i < sizeof failed / sizeof *failed; i++)
        (void)try(failed[i].number, failed[i].kind, failed[i].k, failed[i].stride);
    for (number = 0; number < (int)(sizeof scenarios / sizeof *scenarios); number++)
        for (kind = 0; kind < (strpbrk(scenarios[number].steps, "ek") != NULL ? 2 : 3); kind++) {
            /* a glob that matches backups: a backup may come twice, with a warning */
            int calls = try(number, kind, K_MAX + 1, 0);
            if (one != NULL)
                tried += try_all(number, kind, calls);
            else
                tried += try_some(number, kind, calls);
        }
    assert_true(tried > 100);
}

int main(void) {
    source_thread = true;
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_place)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
