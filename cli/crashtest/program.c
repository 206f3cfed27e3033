/* SPDX-License-Identifier: Apache-2.0
 *
 * program.c - cycles of the user's own program: started, killed at a random time with all
 * of its process group, its log verified and audited by the library; and if it acknowledges records
 * as the man page describes, looked at record by record by the oracle too.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/crashtest/crashtest.h"

#define LIFE_LIMIT_NS (UINT64_C(60) * 1000000000)
#define ENDS_MAX 20 /* a program that goes on ending by itself can't be tested */

typedef struct program {
    ct_result *r;
    char **argv;
    uint64_t rng;
    uint64_t open_ns; /* as it told last; 0: it doesn't */
    int guarantee;
    int fd;   /* of DIR; -1: there is none yet */
    int ends; /* in a row */
    ct_oracle oracle;
    ct_acks acks;
} program;

/* In the new process: never returns. */
static void become(const program *p, int acks_fd, pid_t parent) {
    char text[32];
    ct_die_with(parent);
    setpgid(0, 0);
    fcntl(acks_fd, F_SETFD, 0);
    snprintf(text, sizeof text, "%d", acks_fd);
    setenv("PAWL_CRASHTEST_ACK_FD", text, 1);
    snprintf(text, sizeof text, "%" PRIu64, p->r->seed);
    setenv("PAWL_CRASHTEST_SEED", text, 1);
    setenv("PAWL_CRASHTEST_DIR", p->r->dir, 1);
    signal(SIGPIPE, SIG_DFL);
    dup2(STDERR_FILENO, STDOUT_FILENO); /* ours is for the report */
    execvp(p->argv[0], p->argv);
    cli_error("cannot run %s: %s", p->argv[0], strerror(errno));
    _exit(127);
}

static bool program_starts(const program *p, ct_life *life) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return false;
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    life->acks_fd = ends[0];
    pid_t own = getpid();
    life->pid = fork();
    if (life->pid == 0)
        become(p, ends[1], own);
    if (life->pid > 0)
        setpgid(life->pid, life->pid); /* whoever comes first; the kill must not miss it */
    close(ends[1]);
    if (life->pid < 0)
        close(ends[0]);
    return life->pid > 0;
}

/* From 1 to 512 ms, short ones as often as long ones; a quarter of them while it opens its log. */
static ct_life choose_life(program *p) {
    ct_life life = {.group = true, .limit_ns = LIFE_LIMIT_NS};
    uint64_t r = ct_next(&p->rng);
    if (r % 4 == 0) {
        life.kill_ns =
            ct_next(&p->rng) % (p->open_ns != 0 ? p->open_ns * 3 / 2 : UINT64_C(20000000));
    } else {
        life.kill_ns = (UINT64_C(1000000) << r / 4 % 9) + ct_next(&p->rng) % UINT64_C(1000000);
        life.after_open = p->open_ns != 0;
    }
    return life;
}

static void on_finding(void *arg, const pawl_finding *f) {
    program *p = arg;
    if (f->code != 0)
        ct_wrong(&p->r->problem,
                 "expected a log that is well, found %s in segment %" PRIu64 " at LSN %" PRIu64
                 ": %s",
                 f->label, f->segment, f->lsn, f->message);
}

/* The whole log, by the library's own means. */
static int check_structure(program *p) {
    pawl_check c = PAWL_CHECK_INIT;
    pawl_error e = {0};
    c.finding = on_finding;
    c.arg = p;
    int code = pawl_audit(p->r->dir, &c, &e);
    if (code == PAWL_NOT_A_LOG && !p->acks.any) /* killed before it was made */
        return 0;
    if (code >= 0)
        p->r->bytes += c.bytes;
    return code < 0 ? ct_wrong(&p->r->problem, "expected a log that is well, found %s: %s",
                               pawl_errname(code), e.message)
                    : 0;
}

/* Retention may have dropped what was not looked at yet: then it goes on from what is kept. */
static int check_records(program *p) {
    if (p->fd < 0)
        p->fd = open(p->r->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (p->fd < 0 || !p->acks.any)
        return 0;
    if (!p->r->records || ct_chain_cut_off(&p->oracle.chain)) {
        ct_oracle_free(&p->oracle);
        ct_oracle_init(&p->oracle, p->fd, p->r->seed, p->guarantee, &p->r->problem);
    }
    p->r->records = true;
    return ct_verify(&p->oracle, &p->acks);
}

static int cycle(program *p) {
    ct_tally *t = &p->r->tally[p->guarantee];
    ct_life life = choose_life(p);
    if (!program_starts(p, &life))
        return ct_wrong(&p->r->problem, "cannot start a process: %s", strerror(errno));
    enum ct_end end = ct_life_watch(&life, &p->acks, &p->r->problem);
    close(life.acks_fd);
    if (p->acks.open_ns != 0) {
        p->open_ns = p->acks.open_ns;
        ct_note_open(p->r, p->acks.open_ns);
    }
    if (end == CT_FAILED || check_structure(p) < 0 || check_records(p) < 0)
        return -1;
    if (end == CT_ENDED) {
        t->ended++;
        if (++p->ends == ENDS_MAX)
            return ct_wrong(&p->r->problem,
                            "expected the program to run until it is killed; it ended by itself %d "
                            "times in a row",
                            ENDS_MAX);
        return 0;
    }
    p->ends = 0;
    t->kills++;
    t->recovery_kills += p->open_ns != 0 && !p->acks.opened;
    return 0;
}

int ct_program_run(ct_result *r, const ct_limits *limits, int guarantee, char **argv) {
    program *p = calloc(1, sizeof *p);
    if (p == NULL)
        return ct_wrong(&r->problem, "no memory");
    *p = (program){.r = r, .argv = argv, .rng = r->seed, .guarantee = guarantee, .fd = -1};
    r->tally[guarantee].used = true;
    ct_adopt();
    cli_progress progress;
    cli_progress_begin(&progress, "crash test");
    int code = 0;
    while (code == 0 && !ct_enough(r, limits, &progress)) {
        code = cycle(p);
        r->cycle += code == 0;
    }
    cli_progress_clear(&progress);
    ct_tally *t = &r->tally[guarantee];
    t->logs = 1;
    t->inputs = ct_oracle_total(&p->oracle, "in");
    t->outputs = ct_oracle_total(&p->oracle, "out");
    t->lost = p->oracle.lost;
    t->doubled = p->oracle.doubled;
    t->acked = p->acks.in;
    ct_oracle_free(&p->oracle);
    if (p->fd >= 0)
        close(p->fd);
    free(p);
    return code;
}
