/* SPDX-License-Identifier: Apache-2.0
 *
 * child.c - one life of the process that a crash test kills. Its acknowledgements come
 * through a pipe: what it wrote there before the kill is read after it.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/crashtest/crashtest.h"

static void higher(uint64_t *value, uint64_t n) {
    if (n > *value)
        *value = n;
}

/* "WORD N" or "WORD N N": how many numbers follow the word, -1 if it isn't that word or isn't
 * followed by numbers only. */
static int numbers(const char *line, const char *word, uint64_t n[2]) {
    size_t len = strlen(word);
    if (strncmp(line, word, len) != 0)
        return -1;
    int count = 0;
    for (line += len; *line == ' ' && count < 2; count++) {
        char *end;
        n[count] = strtoull(line + 1, &end, 10);
        if (end == line + 1)
            return -1;
        line = end;
    }
    return *line == '\0' ? count : -1;
}

/* The protocol is in the man page. A line that isn't in it is passed over, so that programs may say
 * more. */
static void take_line(ct_acks *a, const char *line) {
    uint64_t n[2];
    a->any = true;
    if (numbers(line, "put", n) == 1) {
        a->tells_put = true;
        higher(&a->put, n[0]);
    } else if (numbers(line, "in", n) == 1) {
        higher(&a->in, n[0]);
    } else if (numbers(line, "out", n) == 2 && n[0] < CT_PARTITIONS_MAX) {
        higher(&a->out[n[0]], n[1]);
    } else if (numbers(line, "open", n) == 1) {
        a->opened = true;
        a->open_ns = n[0];
        a->opened_at_ns = cli_now_ns();
    } else if (strncmp(line, "fail ", 5) == 0) {
        snprintf(a->fail, sizeof a->fail, "%s", line + 5);
    }
}

/* Takes what is in the pipe. False: its last writer is gone. */
static bool take(ct_acks *a, int fd) {
    char bytes[4096];
    for (;;) {
        ssize_t n = read(fd, bytes, sizeof bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        for (ssize_t i = 0; i < n; i++) {
            if (bytes[i] == '\n' || a->held == sizeof a->line - 1) {
                a->line[a->held] = '\0';
                a->held = 0;
                take_line(a, a->line);
            } else {
                a->line[a->held++] = bytes[i];
            }
        }
    }
}

static void end_it(const ct_life *life) {
    kill(life->group ? -life->pid : life->pid, SIGKILL);
}

/* Kills and reaps every child of this process. It is a subreaper (ct_adopt()), so a descendant of
 * the killed program becomes its child, whatever session or descriptors it has; and so do, in turn,
 * the children of what is killed here. */
static void end_orphans(void) {
    for (;;) {
        DIR *d = opendir("/proc");
        const struct dirent *e;
        while (d != NULL && (e = readdir(d)) != NULL) {
            char path[300], line[512] = "";
            long pid = strtol(e->d_name, NULL, 10), parent = 0;
            snprintf(path, sizeof path, "/proc/%s/stat", e->d_name);
            FILE *f = pid > 1 ? fopen(path, "re") : NULL;
            if (f != NULL && fgets(line, sizeof line, f) != NULL && strrchr(line, ')') != NULL &&
                strlen(strrchr(line, ')')) > 4)
                parent = strtol(strrchr(line, ')') + 4, NULL, 10); /* ") S 1234 " */
            if (f != NULL)
                fclose(f);
            if (parent == (long)getpid()) /* not reaped yet, so the number is still its own */
                kill((pid_t)pid, SIGKILL);
        }
        if (d != NULL)
            closedir(d);
        if (waitpid(-1, NULL, 0) < 0 && errno != EINTR)
            return; /* ECHILD: none is left */
    }
}

void ct_adopt(void) {
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

void ct_die_with(pid_t parent) {
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != parent) /* it died before that */
        _exit(1);
}

static uint64_t kill_time(const ct_life *life, const ct_acks *acks, uint64_t begun) {
    if (life->kill_ns == UINT64_MAX || (life->after_open && !acks->opened))
        return UINT64_MAX;
    return (life->after_open ? acks->opened_at_ns : begun) + life->kill_ns;
}

static enum ct_end judge(int status, bool hung, const ct_acks *acks, ct_problem *problem) {
    if (hung)
        ct_wrong(problem, "expected it to go on; it stood still until the time limit%s%s",
                 acks->fail[0] ? ": " : "", acks->fail);
    else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        return CT_KILLED;
    else if (WIFSIGNALED(status))
        ct_wrong(problem, "expected it to live until the kill; it was ended by signal %d (%s)",
                 WTERMSIG(status), strsignal(WTERMSIG(status)));
    else if (WEXITSTATUS(status) == 0 && acks->fail[0] == '\0')
        return CT_ENDED;
    else
        ct_wrong(problem, "expected it to live until the kill; it ended with status %d%s%s",
                 WEXITSTATUS(status), acks->fail[0] ? ": " : "", acks->fail);
    return CT_FAILED;
}

enum ct_end ct_life_watch(const ct_life *life, ct_acks *acks, ct_problem *problem) {
    uint64_t begun = cli_now_ns();
    bool killed = false, hung = false, piped = true;
    int status = 0;
    acks->opened = false;
    acks->open_ns = 0;
    acks->fail[0] = '\0';
    acks->held = 0; /* half a line of a former life means nothing */
    for (;;) {
        uint64_t now = cli_now_ns(), at = kill_time(life, acks, begun);
        hung = hung || (!killed && now >= begun + life->limit_ns);
        if (!killed && (now >= at || hung || cli_stopping() != 0)) {
            end_it(life);
            killed = true;
        }
        /* The pipe's end tells of the process's, unless it closed its side or gave it away. */
        pid_t ended = waitpid(life->pid, &status, killed || (!piped && !life->group) ? 0 : WNOHANG);
        if (ended == life->pid || (ended < 0 && errno != EINTR))
            break;
        uint64_t limit = begun + life->limit_ns, next = at < limit ? at : limit,
                 wait = next > now ? next - now : 0;
        if (wait > 50000000)
            wait = 50000000;
        struct timespec t = {(time_t)(wait / 1000000000), (long)(wait % 1000000000)};
        struct pollfd p = {.fd = piped ? life->acks_fd : -1, .events = POLLIN};
        if (ppoll(&p, 1, &t, NULL) > 0)
            piped = take(acks, life->acks_fd);
    }
    if (life->group) { /* what it started must not go on beside the next life (PAWL-15) */
        end_it(life);
        end_orphans();
    }
    take(acks, life->acks_fd);
    return judge(status, hung, acks, problem);
}

/* ---- after it */

int ct_verify(ct_oracle *o, const ct_acks *acks) {
    ct_problem *p = o->problem;
    if (ct_oracle_advance(o) < 0)
        return -1;
    uint64_t in = ct_oracle_total(o, "in");
    if (in < acks->in)
        return ct_wrong(p,
                        "expected %" PRIu64
                        " inputs at least, which were acknowledged as durable; found %" PRIu64,
                        acks->in, in);
    if (acks->tells_put && in > acks->put)
        return ct_wrong(
            p, "expected %" PRIu64 " inputs at most, more were never submitted; found %" PRIu64,
            acks->put, in);
    for (uint32_t i = 0; i < CT_PARTITIONS_MAX; i++) {
        uint64_t out = ct_oracle_next(o, "out", i);
        if (out < acks->out[i])
            return ct_wrong(
                p,
                "expected %" PRIu64
                " outputs at least in partition %u, which were told to be durable; found %" PRIu64,
                acks->out[i], i, out);
    }
    return 0;
}
