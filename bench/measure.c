/* SPDX-License-Identifier: Apache-2.0 */
#include "measure.h"

#include <errno.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

uint64_t (*measure_allocations)(void);

static uint64_t read_clock(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t measure_now(void) {
    return read_clock(CLOCK_MONOTONIC);
}

void measure_sleep_until(uint64_t ns) {
    struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) {
    }
}

/* ---- the process and the device */

/* The number after `name` in a file of /proc; 0 where there is none. */
static uint64_t proc_number(const char *path, const char *name) {
    char line[256];
    unsigned long long n = 0;
    FILE *f = fopen(path, "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, name, strlen(name)) == 0 && sscanf(line + strlen(name), "%llu", &n) == 1)
            break;
    if (f != NULL)
        fclose(f);
    return n;
}

static void reset_peak(void) {
    FILE *f = fopen("/proc/self/clear_refs", "w");
    if (f != NULL) {
        fputs("5", f);
        fclose(f);
    }
}

static void device_count(const char *dir, struct clock *c) {
    struct stat st;
    char path[64];
    unsigned long long v[17] = {0};
    if (stat(dir, &st) != 0)
        return;
    snprintf(path, sizeof path, "/sys/dev/block/%u:%u/stat", major(st.st_dev), minor(st.st_dev));
    FILE *f = fopen(path, "r");
    for (int i = 0; f != NULL && i < 17 && fscanf(f, "%llu", &v[i]) == 1; i++) {
    }
    if (f != NULL)
        fclose(f);
    c->device_writes = v[4], c->device_bytes = v[6] * 512, c->device_flushes = v[15];
}

static uint64_t allocations(void) {
    return measure_allocations != NULL ? measure_allocations() : 0;
}

static uint64_t resident_at_start;

void turn_begin(const struct setting *s, struct clock *c) {
    reset_peak();
    device_count(s->dir, c);
    c->own = proc_number("/proc/self/io", "write_bytes:");
    c->allocations = allocations();
    c->cpu = read_clock(CLOCK_PROCESS_CPUTIME_ID);
    c->begun = measure_now();
}

void turn_end(const struct setting *s, const struct clock *c, struct turn *t) {
    struct clock d = {0};
    t->ns = measure_now() - c->begun;
    t->cpu_ns = read_clock(CLOCK_PROCESS_CPUTIME_ID) - c->cpu;
    t->allocations = measure_allocations != NULL ? allocations() - c->allocations : UINT64_MAX;
    device_count(s->dir, &d);
    t->device_bytes = d.device_bytes - c->device_bytes;
    t->device_writes = d.device_writes - c->device_writes;
    t->device_flushes = d.device_flushes - c->device_flushes;
    t->own_bytes = proc_number("/proc/self/io", "write_bytes:") - c->own;
    uint64_t peak = proc_number("/proc/self/status", "VmHWM:") * 1024;
    t->peak_memory = peak > resident_at_start ? peak - resident_at_start : 0;
}

void turn_latencies(struct turn *t, const struct hdr *h) {
    t->count = h->count;
    t->p50 = hdr_at(h, 50), t->p99 = hdr_at(h, 99), t->p999 = hdr_at(h, 99.9), t->max = h->max;
}

/* ---- a turn in its own process */

static int complaints = 2; /* where give_up() writes */

void give_up(const char *format, ...) {
    char text[400];
    va_list list;
    va_start(list, format);
    int n = vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (write(complaints, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1) < 0)
        _exit(2);
    _exit(1);
}

void *must_allocate(size_t size) {
    void *p = calloc(1, size);
    if (p == NULL)
        give_up("no memory for %zu bytes", size);
    return p;
}

static _Noreturn void child(contender_fn fn, const struct setting *s, int results, int errors) {
    struct turn t = {0};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGINT, SIG_IGN); /* the parent decides */
    signal(SIGTERM, SIG_DFL);
    complaints = errors;
    resident_at_start = proc_number("/proc/self/status", "VmRSS:") * 1024;
    fn(s, &t);
    if (write(results, &t, sizeof t) != (ssize_t)sizeof t)
        _exit(2);
    _exit(0);
}

/* Waits until the child has answered or is gone, or ends it when asked to stop. */
static void wait_for(pid_t pid, int results, const volatile int *stop) {
    struct pollfd p = {.fd = results, .events = POLLIN};
    while (poll(&p, 1, 200) <= 0)
        if (*stop) {
            kill(pid, SIGKILL);
            return;
        }
}

bool turn_run(const char *parent, contender_fn fn, const struct setting *s, const volatile int *stop,
              struct turn *t, char *why, size_t why_size) {
    struct setting mine = *s;
    int results[2], errors[2];
    snprintf(why, why_size, "%s", "");
    snprintf(mine.dir, sizeof mine.dir, "%s/turn", parent);
    mine.parent = parent;
    remove_dir(mine.dir);
    if (mkdir(mine.dir, 0700) != 0 || pipe(results) != 0 || pipe(errors) != 0) {
        snprintf(why, why_size, "%s: %s", mine.dir, strerror(errno));
        return false;
    }
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        child(fn, &mine, results[1], errors[1]);
    close(results[1]), close(errors[1]);
    int status = 0;
    if (pid > 0)
        wait_for(pid, results[0], stop);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    bool well = pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0 &&
                read(results[0], t, sizeof *t) == (ssize_t)sizeof *t;
    if (!well && !*stop) {
        ssize_t n = read(errors[0], why, why_size - 1);
        if (n > 0)
            why[n] = '\0';
        else if (WIFSIGNALED(status))
            snprintf(why, why_size, "ended by signal %d", WTERMSIG(status));
        else
            snprintf(why, why_size, "ended without a result");
    }
    close(results[0]), close(errors[0]);
    remove_dir(mine.dir);
    return well;
}

/* ---- the rest */

void fill_record(uint8_t *out, uint32_t len, uint64_t n) {
    memset(out, 'a' + (int)(n % 26), len);
    memcpy(out, &n, len < sizeof n ? len : sizeof n);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at) {
    (void)st, (void)kind, (void)at;
    return remove(path);
}

void remove_dir(const char *dir) {
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

long measure_processors(void) {
    return sysconf(_SC_NPROCESSORS_ONLN);
}
