/* SPDX-License-Identifier: Apache-2.0
 *
 * builtin.c - cycles of the built-in pipeline: fork, kill, verify. One log for each
 * guarantee, taken in turn; each is given up after a while for a new one, so that creation is
 * killed too. The supervisor never opens a log with the library: a fork is then a clean process.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/crashtest/crashtest.h"

#define LOG_KILLS 2000u   /* kills a log lives through */
#define CREATION_KILLS 8u /* of them while it is made */
#define LIFE_LIMIT_NS (UINT64_C(60) * 1000000000)
#define SPAN_NS UINT64_C(5000000) /* random kills come so long after opening at most */

typedef struct lane {
    char dir[4096];
    int fd;
    int number, guarantee;
    uint64_t seed;
    uint64_t kills; /* of this log */
    bool usable;    /* oracle is set up */
    ct_oracle oracle;
    ct_acks acks;
    /* the life at hand, or the last one */
    ct_work work;
    ct_life life;
    enum ct_end end;
    bool living;
    uint64_t cycle;
} lane;

typedef struct builtin {
    ct_result *r;
    const char *fault;
    uint64_t rng;
    uint64_t open_ns; /* how long opening takes, about */
    int jobs, count;  /* lives at the same time; logs */
    lane lanes[CT_JOBS_MAX + 1];
} builtin;

/* A point where a life may end itself, and the number of visits there among which one is chosen. */
typedef struct place {
    const char *point;
    uint32_t most;
    bool opening;  /* reached while it opens */
    bool roll;     /* needs a segment's end */
    int guarantee; /* only with this; -1: with any */
} place;

static const place places[] = {
    {"recovery-scanned", 1, true, false, -1},
    {"recovery-synced", 1, true, false, -1},
    {"incarnation-durable", 1, true, false, -1},
    {"group-submitted", 1, true, false, -1},
    {"group-completed", 1, true, false, -1},
    {"durable-advanced", 1, true, false, -1},
    {"group-submitted", 16, false, false, -1},
    {"group-completed", 16, false, false, -1},
    {"durable-advanced", 16, false, false, -1},
    {"seal-appended", 2, false, true, -1},
    {"header-submitted", 2, false, true, -1},
    {"segment-begun", 2, false, true, -1},
    {"segment-written", 2, false, true, -1},
    {"segment-named", 2, false, true, -1},
    {"segment-prepared", 2, false, true, -1},
    {"segment-dropped", 2, false, true, -1},
    {"segment-recycled", 2, false, true, -1},
    {"outputs-durable", 6, false, false, CT_AT_LEAST_ONCE},
    {"position-durable", 6, false, false, CT_AT_MOST_ONCE},
    {"close-begun", 1, false, false, -1},
    {"close-durable", 1, false, false, -1},
};
static const char *const creation_points[] = {"segment-written", "segment-named",
                                              "segment-prepared"};

static uint64_t below(builtin *b, uint64_t n) {
    return ct_next(&b->rng) % n;
}

/* ---- logs */

/* Empties a log's directory: segments, the lock, nothing else is there. */
static int remove_files(const lane *l) {
    int fd = openat(l->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), code = 0;
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.' && unlinkat(l->fd, e->d_name, 0) != 0)
            code = -1;
    if (d != NULL)
        closedir(d);
    return d == NULL ? -1 : code;
}

static int begin_log(builtin *b, lane *l) {
    int top = open(b->r->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    char name[32];
    snprintf(name, sizeof name, "%s-%d", ct_guarantee_names[l->guarantee], l->number);
    snprintf(l->dir, sizeof l->dir, "%s/%s", b->r->dir, name);
    if (top < 0 || (mkdirat(top, name, 0700) != 0 && errno != EEXIST) ||
        (l->fd = openat(top, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0 ||
        fstat(l->fd, &st) != 0 || (st.st_uid != geteuid() && (errno = EPERM) != 0)) {
        int code =
            ct_wrong(&b->r->problem, "cannot make the directory %s: %s", l->dir, strerror(errno));
        if (top >= 0)
            close(top);
        return code;
    }
    close(top);
    l->seed = ct_next(&b->rng);
    l->kills = 0;
    l->acks = (ct_acks){.tells_put = true};
    ct_oracle_init(&l->oracle, l->fd, l->seed, l->guarantee, &b->r->problem);
    l->usable = true;
    b->r->tally[l->guarantee].used = true;
    return 0;
}

/* ---- one life */

static int start(builtin *b, lane *l) {
    ct_work *work = &l->work;
    ct_life *life = &l->life;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return ct_wrong(&b->r->problem, "cannot make a pipe: %s", strerror(errno));
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    work->dir = l->dir;
    work->seed = l->seed;
    work->rng = ct_next(&b->rng);
    work->guarantee = l->guarantee;
    work->acks_fd = ends[1];
    work->fault = b->fault;
    *life = (ct_life){.acks_fd = ends[0], .kill_ns = UINT64_MAX, .limit_ns = LIFE_LIMIT_NS};
    pid_t own = getpid();
    life->pid = fork();
    if (life->pid == 0) {
        ct_die_with(own);
        close(ends[0]);
        _exit(ct_worker(work));
    }
    close(ends[1]);
    l->cycle = b->r->cycle;
    l->living = life->pid > 0;
    if (l->living)
        return 0;
    close(ends[0]);
    return ct_wrong(&b->r->problem, "cannot start a process: %s", strerror(errno));
}

static void count_point(ct_result *r, const char *name) {
    uint32_t i = 0;
    while (i < r->point_count && strcmp(r->points[i].name, name) != 0)
        i++;
    if (i == CT_POINTS_MAX)
        return;
    if (i == r->point_count)
        r->points[r->point_count++].name = name;
    r->points[i].kills++;
}

/* The life is over: counts it, and verifies what it left. */
static int account(builtin *b, lane *l) {
    ct_tally *t = &b->r->tally[l->guarantee];
    uint64_t bytes = l->oracle.chain.bytes;
    if (l->acks.open_ns != 0) {
        ct_note_open(b->r, l->acks.open_ns);
        b->open_ns = (b->open_ns * 15 + l->acks.open_ns) / 16;
    }
    if (l->end == CT_FAILED || ct_verify(&l->oracle, &l->acks) < 0) {
        b->r->cycle = l->cycle;
        return -1;
    }
    b->r->bytes += l->oracle.chain.bytes - bytes;
    if (l->end == CT_ENDED) {
        t->ended++;
        return 0;
    }
    l->kills++;
    t->kills++;
    t->recovery_kills += !l->acks.opened;
    if (l->work.point != NULL)
        count_point(b->r, l->work.point);
    return 0;
}

static void watch(builtin *b, lane *l) {
    l->end = ct_life_watch(&l->life, &l->acks, &b->r->problem);
    close(l->life.acks_fd);
    l->living = false;
}

/* ---- which kill */

static void choose_place(builtin *b, const lane *l, bool opening, ct_work *work) {
    const place *p;
    do
        p = &places[below(b, sizeof places / sizeof places[0])];
    while (p->opening != opening || (p->guarantee >= 0 && p->guarantee != l->guarantee));
    work->point = p->point;
    work->count = 1 + (uint32_t)below(b, p->most);
    work->big = p->roll;
}

/* The weaker guarantees show what they are weaker by at one point each: often enough that a short
 * run shows it too. */
static bool choose_weakness(builtin *b, const lane *l, ct_work *work) {
    if (l->guarantee == CT_EXACTLY_ONCE || below(b, 4) != 0)
        return false;
    work->point = l->guarantee == CT_AT_LEAST_ONCE ? "outputs-durable" : "position-durable";
    work->count = 1 + (uint32_t)below(b, 3);
    return true;
}

static void choose_kill(builtin *b, lane *l) {
    const ct_tally *t = &b->r->tally[l->guarantee];
    ct_work *work = &l->work;
    *work = (ct_work){
        .create = l->oracle.chain.frames == 0, .big = below(b, 8) == 0, .kill_ns = UINT64_MAX};
    if (l->kills < CREATION_KILLS && work->create) {
        work->point = creation_points[below(b, 3)];
        work->count = 1;
    } else if (t->recovery_kills * 4 < t->kills) { /* a quarter is aimed for, a fifth is promised */
        if (below(b, 2) == 0)
            choose_place(b, l, true, work);
        else
            work->kill_ns = below(b, b->open_ns);
    } else if (choose_weakness(b, l, work) || below(b, 2) == 0) {
        if (work->point == NULL)
            choose_place(b, l, false, work);
    } else {
        work->kill_ns = below(b, SPAN_NS);
        work->after_open = true;
        work->lingers = true;
    }
}

/* ---- the end of a log */

/* A last life works everything off; then all that is kept is read once more, by an oracle that
 * knows nothing yet. */
static int finish_log(builtin *b, lane *l) {
    ct_tally *t = &b->r->tally[l->guarantee];
    l->work =
        (ct_work){.create = l->oracle.chain.frames == 0, .finish = true, .kill_ns = UINT64_MAX};
    if (start(b, l) < 0)
        return -1;
    watch(b, l);
    if (account(b, l) < 0)
        return -1;
    for (uint32_t i = 0; i < CT_PARTITIONS && cli_stopping() == 0; i++)
        if (l->oracle.lanes[i].position != ct_oracle_next(&l->oracle, "in", i))
            return ct_wrong(&b->r->problem,
                            "expected the position of partition %u to be at the end, %" PRIu64
                            ", when all was done; found %" PRIu64,
                            i, ct_oracle_next(&l->oracle, "in", i), l->oracle.lanes[i].position);
    ct_oracle *again = malloc(sizeof *again);
    if (again == NULL)
        return ct_wrong(&b->r->problem, "no memory to read the log once more");
    ct_oracle_init(again, l->fd, l->seed, l->guarantee, &b->r->problem);
    int code = ct_oracle_advance(again);
    if (code == 0)
        code = ct_oracle_compare(&l->oracle, again);
    ct_oracle_free(again);
    free(again);
    t->logs++;
    t->inputs += ct_oracle_total(&l->oracle, "in");
    t->outputs += ct_oracle_total(&l->oracle, "out");
    t->lost += l->oracle.lost + ct_oracle_missing(&l->oracle);
    t->doubled += l->oracle.doubled;
    t->acked += l->acks.in;
    return code < 0 ? -1 : 0;
}

static void leave_log(lane *l, bool keep) {
    if (!l->usable)
        return;
    ct_oracle_free(&l->oracle);
    if (!keep)
        remove_files(l);
    close(l->fd);
    if (!keep)
        rmdir(l->dir);
    l->usable = false;
}

static int renew(builtin *b, lane *l) {
    if (finish_log(b, l) < 0)
        return -1;
    leave_log(l, false);
    return begin_log(b, l);
}

static lane *lane_of(builtin *b, uint64_t cycle) {
    return &b->lanes[cycle % (uint64_t)b->count];
}

/* Starts a life, waits for the end of the oldest one under way, and verifies the log whose life
 * ended in the cycle before: while it does, others live. There is one log more than lives, so the
 * one to start is always verified. */
static int cycle(builtin *b) {
    uint64_t n = b->r->cycle, jobs = (uint64_t)b->jobs;
    lane *l = lane_of(b, n);
    if (l->kills >= LOG_KILLS && renew(b, l) < 0)
        return -1;
    choose_kill(b, l);
    if (start(b, l) < 0)
        return -1;
    b->r->cycle++;
    int code = n >= jobs ? account(b, lane_of(b, n - jobs)) : 0;
    if (n + 1 >= jobs)
        watch(b, lane_of(b, n + 1 - jobs));
    return code;
}

/* The lives still under way, and the last one that isn't verified. After a problem they are only
 * waited for. */
static int end_lives(builtin *b, int code) {
    uint64_t n = b->r->cycle, jobs = (uint64_t)b->jobs;
    ct_problem first = b->r->problem;
    for (uint64_t i = n > jobs ? n - jobs : 0; i < n; i++) {
        lane *l = lane_of(b, i);
        if (l->living)
            watch(b, l);
        if (code == 0)
            code = account(b, l);
    }
    if (first.text[0] != '\0')
        b->r->problem = first;
    return code;
}

int ct_builtin_run(ct_result *r, const ct_limits *limits, int guarantee, int jobs) {
    builtin *b = calloc(1, sizeof *b);
    if (b == NULL)
        return ct_wrong(&r->problem, "no memory");
    b->r = r;
    b->rng = r->seed;
    b->open_ns = 5000000;
    b->fault = getenv("PAWL_CRASHTEST_FAULT");
    b->jobs = jobs;
    bool all = guarantee == CT_GUARANTEES;
    b->count = all ? (jobs + CT_GUARANTEES) / CT_GUARANTEES * CT_GUARANTEES : jobs + 1;
    int code = 0;
    for (int i = 0; i < b->count && code == 0; i++) {
        b->lanes[i].number = i;
        b->lanes[i].guarantee = all ? i % CT_GUARANTEES : guarantee;
        code = begin_log(b, &b->lanes[i]);
    }
    cli_progress progress;
    cli_progress_begin(&progress, "crash test");
    while (code == 0 && !ct_enough(r, limits, &progress))
        code = cycle(b);
    code = end_lives(b, code);
    for (int i = 0; i < b->count && code == 0; i++)
        code = finish_log(b, &b->lanes[i]);
    cli_progress_clear(&progress);
    for (int i = 0; i < b->count; i++)
        leave_log(&b->lanes[i], code != 0);
    free(b);
    return code;
}
