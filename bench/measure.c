/* SPDX-License-Identifier: Apache-2.0 */
#include "measure.h"

#include <errno.h>
#include <ftw.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
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

/* The number after `name` in a file of /proc; 0 if there is none. */
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

struct counts {
    uint64_t now, cpu, own, allocations, device_bytes, device_writes, device_flushes;
};

static struct {
    int to_parent; /* a socket; -1 in the parent */
    const struct setting *s;
    uint64_t resident, own_at_start;
    bool begun;
    struct counts before;
} its = {.to_parent = -1};

static void device_count(struct counts *c) {
    struct stat st;
    char path[64];
    unsigned long long v[17] = {0};
    if (stat(its.s->dir, &st) != 0)
        return;
    snprintf(path, sizeof path, "/sys/dev/block/%u:%u/stat", major(st.st_dev), minor(st.st_dev));
    FILE *f = fopen(path, "r");
    for (int i = 0; f != NULL && i < 17 && fscanf(f, "%llu", &v[i]) == 1; i++) {
    }
    if (f != NULL)
        fclose(f);
    c->device_writes = v[4], c->device_bytes = v[6] * 512, c->device_flushes = v[15];
}

static uint64_t own_bytes(void) {
    return proc_number("/proc/self/io", "write_bytes:");
}

/* The clock is read last here, and first in slice_end(). */
bool slice_begin(struct turn *t, uint64_t *end) {
    char c = 'r'; /* ready for the first slice, or done with the previous one */
    if (write(its.to_parent, &c, 1) != 1 || read(its.to_parent, &c, 1) != 1)
        return false;
    if (!its.begun) {
        reset_peak();
        its.own_at_start = own_bytes();
        its.begun = true;
    }
    device_count(&its.before);
    its.before.allocations = measure_allocations != NULL ? measure_allocations() : 0;
    its.before.cpu = read_clock(CLOCK_PROCESS_CPUTIME_ID);
    its.before.now = measure_now();
    *end = its.before.now + its.s->run_ns;
    (void)t;
    return true;
}

void slice_end(struct turn *t) {
    struct counts c = {.now = measure_now(), .cpu = read_clock(CLOCK_PROCESS_CPUTIME_ID)};
    t->ns += c.now - its.before.now;
    t->cpu_ns += c.cpu - its.before.cpu;
    if (measure_allocations != NULL)
        t->allocations += measure_allocations() - its.before.allocations;
    else
        t->allocations = UINT64_MAX;
    device_count(&c);
    t->device_bytes += c.device_bytes - its.before.device_bytes;
    t->device_writes += c.device_writes - its.before.device_writes;
    t->device_flushes += c.device_flushes - its.before.device_flushes;
    t->own_bytes = own_bytes() - its.own_at_start;
    uint64_t peak = proc_number("/proc/self/status", "VmHWM:") * 1024;
    t->peak_memory = peak > its.resident ? peak - its.resident : 0;
}

void turn_latencies(struct turn *t, const struct hdr *h) {
    t->count = h->count;
    t->p50 = hdr_at(h, 50), t->p99 = hdr_at(h, 99), t->p999 = hdr_at(h, 99.9), t->max = h->max;
}

/* ---- the contender's end of a turn */

void give_up(const char *format, ...) {
    char text[400] = "E";
    va_list list;
    va_start(list, format);
    int n = vsnprintf(text + 1, sizeof text - 1, format, list) + 1;
    va_end(list);
    size_t size = (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    bool told = its.to_parent >= 0 ? write(its.to_parent, text, size) > 0
                                   : fprintf(stderr, "%s\n", text + 1) > 0;
    _exit(told ? 1 : 2);
}

void *must_allocate(size_t size) {
    void *p = calloc(1, size);
    if (p == NULL)
        give_up("no memory for %zu bytes", size);
    return p;
}

_Noreturn void contender_main(contender_fn fn, const struct setting *s, int to_parent) {
    struct {
        char kind[8];
        struct turn t;
    } answer = {.kind = "R"};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGINT, SIG_IGN); /* the parent decides when to stop */
    signal(SIGTERM, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    its.to_parent = to_parent;
    its.s = s;
    its.resident = proc_number("/proc/self/status", "VmRSS:") * 1024;
    fn(s, &answer.t);
    _exit(write(to_parent, &answer, sizeof answer) == (ssize_t)sizeof answer ? 0 : 2);
}

long setting_tuned(const struct setting *s, const char *name, long otherwise) {
    const char *at = strstr(s->tune, name);
    return at != NULL && at[strlen(name)] == '=' ? strtol(at + strlen(name) + 1, NULL, 10)
                                                 : otherwise;
}

uint64_t setting_warm_ns(const struct setting *s) {
    return s->run_ns < 50000000 ? s->run_ns : 50000000;
}

/* ---- the rest */

#define DRAWS (1u << 20)

static struct {
    uint64_t count;
    uint32_t *draws; /* NULL: all are alike */
} keys;

static uint64_t mix(uint64_t x) { /* splitmix64's last step */
    x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
    return x ^ x >> 31;
}

/* Gray et al., "Quickly generating billion-record synthetic databases", SIGMOD 1994. */
static void draw_zipf(void) {
    double theta = 0.99, zeta = 0, alpha = 1 / (1 - theta), n = (double)keys.count;
    for (uint64_t i = 1; i <= keys.count; i++)
        zeta += 1 / pow((double)i, theta);
    double eta = (1 - pow(2 / n, 1 - theta)) / (1 - (1 + pow(0.5, theta)) / zeta);
    keys.draws = must_allocate(DRAWS * sizeof *keys.draws);
    for (uint32_t i = 0; i < DRAWS; i++) {
        double u = (double)(mix(i + 1) >> 11) / 9007199254740992.0, z = u * zeta;
        double k = z < 1 ? 0 : z < 1 + pow(0.5, theta) ? 1 : n * pow(eta * u - eta + 1, alpha);
        keys.draws[i] = (uint32_t)(k < n - 1 ? k : n - 1);
    }
}

void fill_keys(const struct setting *s) {
    keys.count = s->keys;
    if (s->keys != 0 && s->zipf)
        draw_zipf();
}

/* Keys that follow each other in number lie far from each other in order. */
static void fill_key(uint8_t *out, uint64_t n) {
    uint64_t number = n < keys.count       ? n
                      : keys.draws != NULL ? keys.draws[mix(n) % DRAWS]
                                           : mix(n) % keys.count;
    uint64_t first = mix(number + 1);
    memcpy(out, &first, sizeof first);
    memcpy(out + 8, &number, sizeof number);
}

void fill_record(uint8_t *out, uint32_t len, uint64_t n) {
    if (keys.count != 0 && len == KEY_BYTES) {
        fill_key(out, n);
        return;
    }
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
