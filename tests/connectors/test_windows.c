/* SPDX-License-Identifier: Apache-2.0 */
/* Windows of the processor `aggregate` against a model that sorts everything and computes over all:
 * byte by byte, over random input, with other batch sizes, one or two inputs, 1 to 4 workers,
 * failures, restarts and kills. The model only knows what the settings say. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "pawl_connect.h"
#include "pawl_time.h"
#include "tests/support/own_log.h"

#define PARTITIONS 3
#define S INT64_C(1000000000)
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define LINE 600

/* ---- what is aggregated, and how */

struct spec {
    const char *label;
    const char *settings[12];
    int64_t size, step, gap, offset, allowed,
        grace; /* seconds; step 0: tumbling; gap 0: no session */
    bool update;
    int64_t base; /* where the times are */
};

static const struct spec specs[] = {
    {"tumbling", {"size=10s", "out_of_order=5s", NULL}, 10, 0, 0, 0, 5, 0, false, 1700000003},
    {"tumbling, no allowance", {"size=7s", NULL}, 7, 0, 0, 0, 0, 0, false, 1700000003},
    {"tumbling, offset",
     {"size=10s", "offset=3s", "out_of_order=9s", NULL},
     10,
     0,
     0,
     3,
     9,
     0,
     false,
     1700000003},
    {"tumbling, around 1970",
     {"size=10s", "out_of_order=5s", NULL},
     10,
     0,
     0,
     0,
     5,
     0,
     false,
     -150},
    {"hopping",
     {"window=hopping", "size=12s", "step=3s", "out_of_order=5s", NULL},
     12,
     3,
     0,
     0,
     5,
     0,
     false,
     1700000003},
    {"hopping, uneven",
     {"window=hopping", "size=10s", "step=4s", "offset=1s", "out_of_order=8s", NULL},
     10,
     4,
     0,
     1,
     8,
     0,
     false,
     1700000003},
    {"session",
     {"window=session", "gap=4s", "out_of_order=6s", NULL},
     0,
     0,
     4,
     0,
     6,
     0,
     false,
     1700000003},
    {"session, in order", {"window=session", "gap=6s", NULL}, 0, 0, 6, 0, 0, 0, false, 1700000003},
    {"session, much out of order",
     {"window=session", "gap=3s", "out_of_order=30s", NULL},
     0,
     0,
     3,
     0,
     30,
     0,
     false,
     -100},
    {"tumbling, each update",
     {"size=10s", "out_of_order=5s", "emit=update", NULL},
     10,
     0,
     0,
     0,
     5,
     0,
     true,
     1700000003},
    {"tumbling, grace",
     {"size=10s", "out_of_order=3s", "grace=8s", NULL},
     10,
     0,
     0,
     0,
     3,
     8,
     false,
     1700000003},
};

/* ---- the records */

struct item {
    int64_t time; /* seconds */
    char key;
    bool has_value;
    double value;
    int input, partition;
    uint64_t offset;
    bool late;
};

#define ITEMS_MAX 4000
static struct item items[ITEMS_MAX];
static int item_count;

static void make_items(const struct spec *s, int inputs, unsigned seed, int count) {
    int64_t at[2] = {0, 0};
    item_count = 0;
    srand(seed);
    for (int i = 0; i < count; i++) {
        struct item *x = &items[item_count++];
        x->input = rand() % inputs;
        at[x->input] += rand() % 10 == 0 ? rand() % 12 : rand() % 2;
        x->time = s->base + at[x->input] - rand() % 7 - (rand() % 20 == 0 ? rand() % 40 : 0);
        x->key = (char)('a' + rand() % 4);
        x->has_value = rand() % 8 != 0;
        x->value = (double)(rand() % 4000 - 2000) / 4;
    }
    for (int input = 0; input < inputs; input++) /* so that all windows close */
        for (int key = 0; key < 4; key++) {
            struct item *x = &items[item_count++];
            *x = (struct item){.time = s->base + 1000000, .key = (char)('a' + key), .input = input};
        }
}

/* ---- the model */

struct line {
    int64_t end;
    char key;
    int order;
    char text[LINE];
};
struct lines {
    struct line *at;
    int count, room;
};

static struct line *new_line(struct lines *l) {
    if (l->count == l->room) {
        l->room = l->room == 0 ? 256 : 2 * l->room;
        l->at = realloc(l->at, (size_t)l->room * sizeof *l->at);
        assert_non_null(l->at);
    }
    return &l->at[l->count++];
}

static int64_t floor_to(int64_t t, int64_t each, int64_t offset) {
    int64_t n = (t - offset) / each;
    while (n * each + offset > t)
        n--;
    return n * each + offset;
}

static void model_time(int64_t s, char *out) {
    time_t at = (time_t)s;
    struct tm m;
    gmtime_r(&at, &m);
    strftime(out, 40, "%Y-%m-%dT%H:%M:%SZ", &m);
}

static int by_place(const void *a, const void *b) {
    const struct item *x = *(const struct item *const *)a, *y = *(const struct item *const *)b;
    if (x->time != y->time)
        return x->time < y->time ? -1 : 1;
    if (x->input != y->input)
        return x->input - y->input;
    return x->offset < y->offset ? -1 : 1;
}

/* A pane of these records, sorted. */
static void model_pane(struct lines *out, char key, int64_t start, int64_t end, int pane,
                       bool final, struct item *const *of, int n) {
    struct line *l = new_line(out);
    char from[40], to[40],
        rest[200] = "\"sum\":null,\"mean\":null,\"min\":null,\"max\":null,"
                    "\"first\":null,\"last\":null}";
    double sum = 0, min = 0, max = 0, first = 0, last = 0;
    int values = 0;
    for (int i = 0; i < n; i++) {
        double v = of[i]->value;
        if (!of[i]->has_value)
            continue;
        first = values == 0 ? v : first;
        min = values == 0 || v < min ? v : min;
        max = values == 0 || v > max ? v : max;
        last = v;
        sum += v; /* quarters: exact in any order */
        values++;
    }
    model_time(start, from);
    model_time(end, to);
    if (values != 0) {
        char mean[40];
        for (int digits = 15; digits <= 17; digits++) {
            snprintf(mean, sizeof mean, "%.*g", digits, sum / values);
            if (strtod(mean, NULL) == sum / values)
                break;
        }
        snprintf(rest, sizeof rest,
                 "\"sum\":%.15g,\"mean\":%s,\"min\":%.15g,\"max\":%.15g,\"first\":%.15g,"
                 "\"last\":%.15g}",
                 sum, mean, min, max, first, last);
    }
    *l = (struct line){.end = end, .key = key, .order = out->count};
    snprintf(l->text, sizeof l->text,
             "{\"key\":\"%c\",\"start\":\"%s\",\"end\":\"%s\",\"pane\":%d,\"final\":%s,"
             "\"count\":%d,%s",
             key, from, to, pane, final ? "true" : "false", n, rest);
}

static int by_end(const void *a, const void *b) {
    const struct line *x = a, *y = b;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return x->key != y->key ? x->key - y->key : x->order - y->order;
}

/* The first window of the record that closes ends there. */
static int64_t first_end(const struct spec *s, int64_t t) {
    int64_t step = s->step != 0 ? s->step : s->size;
    int64_t start = floor_to(t, step, s->offset) - 20 * step;
    while (start + s->size <= t)
        start += step;
    return start + s->size;
}

/* Who is late is said by the records of one input, in their order. */
static void model_late(const struct spec *s, int inputs) {
    for (int input = 0; input < inputs; input++)
        for (int partition = 0; partition < PARTITIONS; partition++) {
            int64_t mark = INT64_MIN;
            for (int i = 0; i < item_count; i++) {
                struct item *x = &items[i];
                if (x->input != input || x->partition != partition)
                    continue;
                x->late = s->gap != 0 ? x->time < mark : first_end(s, x->time) + s->grace <= mark;
                mark = x->time - s->allowed > mark ? x->time - s->allowed : mark;
            }
        }
}

static void model_windows(const struct spec *s, struct lines *out, char key, struct item *const *of,
                          int n) {
    int64_t step = s->step != 0 ? s->step : s->size;
    if (n == 0)
        return;
    int64_t from = floor_to(of[0]->time - s->size, step, s->offset);
    for (int64_t start = from; start <= of[n - 1]->time;) {
        int a = 0, b;
        while (a < n && of[a]->time < start)
            a++;
        for (b = a; b < n && of[b]->time < start + s->size; b++) {
        }
        if (b > a)
            model_pane(out, key, start, start + s->size, 0, true, of + a, b - a);
        start += step;
        if (b == a && a < n && of[a]->time - start > 100 * s->size) /* nothing for long */
            start = floor_to(of[a]->time - s->size, step, s->offset);
    }
}

static void model_sessions(const struct spec *s, struct lines *out, char key,
                           struct item *const *of, int n) {
    for (int a = 0, b; a < n; a = b) {
        for (b = a + 1; b < n && of[b]->time - of[b - 1]->time < s->gap; b++) {
        }
        model_pane(out, key, of[a]->time, of[b - 1]->time + s->gap, 0, true, of + a, b - a);
    }
}

/* What is final in a partition, up to where the watermark comes. */
static struct lines model(const struct spec *s, int partition) {
    struct lines out = {0};
    static struct item *of[ITEMS_MAX];
    for (char key = 'a'; key <= 'd'; key++) {
        int n = 0;
        for (int i = 0; i < item_count; i++)
            if (items[i].partition == partition && items[i].key == key && !items[i].late &&
                items[i].time < s->base + 1000000)
                of[n++] = &items[i];
        qsort(of, (size_t)n, sizeof of[0], by_place);
        (s->gap != 0 ? model_sessions : model_windows)(s, &out, key, of, n);
    }
    if (out.count != 0)
        qsort(out.at, (size_t)out.count, sizeof *out.at, by_end);
    return out;
}

/* ---- the log */

struct fixture {
    char dir[64];
    pawl_options options;
    pawl *log;
    uint32_t in[2], out, late;
    pawl_processor_ops ops;
    pawl_processor *proc;
    int inputs;
    uint32_t partition_of[4]; /* of a key */
};

static void open_log(struct fixture *f) {
    must_open(f->dir, &f->options, &f->log);
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL || test_dir_make(f->dir, "/tmp/test_windows") != 0)
        return -1;
    f->options = small_segments();
    *state = f;
    open_log(f);
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    int rc = close_and_remove(f->log, f->dir);
    free(f);
    return rc;
}

static uint32_t new_stream(struct fixture *f, const char *name) {
    uint32_t id;
    int rc = pawl_stream_delete(f->log, name);
    assert_true(rc == 0 || rc == PAWL_NOT_FOUND);
    assert_int_equal(pawl_stream_create(f->log, name, PARTITIONS, &id), 0);
    return id;
}

static void new_streams(struct fixture *f, int inputs) {
    f->inputs = inputs;
    f->in[0] = new_stream(f, "in-0");
    f->in[1] = new_stream(f, "in-1");
    f->out = new_stream(f, "out");
    f->late = new_stream(f, "late");
    uint32_t keys = new_stream(f, "keys");
    for (char key = 'a'; key <= 'd'; key++) {
        pawl_record r = {.key = &key, .key_len = 1};
        pawl_receipt at;
        assert_int_equal(pawl_append(f->log, keys, PAWL_ANY, &r, &at), 0);
        f->partition_of[key - 'a'] = at.partition;
    }
}

/* Appends items from..to-1; they go where their keys belong. */
static void feed(struct fixture *f, int from, int to) {
    uint64_t next[2][PARTITIONS];
    pawl_tx *tx;
    for (uint32_t p = 0; p < PARTITIONS; p++)
        for (int i = 0; i < 2; i++) {
            pawl_bounds b;
            assert_int_equal(pawl_partition_bounds(f->log, f->in[i], p, &b), 0);
            next[i][p] = b.end;
        }
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    for (int i = from; i < to; i++) {
        struct item *x = &items[i];
        char value[80];
        int n = x->has_value ? snprintf(value, sizeof value, "{\"t\":%lld,\"v\":%.15g}",
                                        (long long)x->time, x->value)
                             : snprintf(value, sizeof value, "{\"t\":%lld}", (long long)x->time);
        pawl_record r = {.key = &x->key, .key_len = 1, .value = value, .value_len = (uint32_t)n};
        x->partition = (int)f->partition_of[x->key - 'a'];
        x->offset = next[x->input][x->partition]++;
        assert_int_equal(pawl_put(tx, f->in[x->input], (uint32_t)x->partition, &r), 0);
    }
    assert_int_equal(pawl_commit(tx, NULL), 0);
}

static void attach(struct fixture *f, const struct spec *s, uint32_t batch_max) {
    pawl_setting list[24];
    char copies[24][64];
    size_t n = 0;
    static const char *const always[] = {
        "to=out",        "late=late", "time=json:t",
        "time_format=s", "of=json:v", "compute=count,sum,mean,min,max,first,last"};
    for (size_t i = 0; i < COUNT(always) || s->settings[i - COUNT(always)] != NULL; i++, n++) {
        const char *text = i < COUNT(always) ? always[i] : s->settings[i - COUNT(always)];
        snprintf(copies[n], sizeof copies[n], "%s", text);
        char *value = strchr(copies[n], '=');
        *value = 0;
        list[n] = (pawl_setting){copies[n], value + 1, (uint32_t)n + 1};
    }
    pawl_error e;
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    f->ops = (pawl_processor_ops)PAWL_PROCESSOR_OPS_INIT;
    if (pawl_processor_make("aggregate", &(pawl_settings){.items = list, .count = n}, &f->ops,
                            &e) != 0)
        fail_msg("%s: %s", s->label, e.message);
    c.name = "windows";
    c.inputs = f->in;
    c.input_count = (uint32_t)f->inputs;
    c.batch_max = batch_max;
    if (pawl_processor_attach(f->log, &c, &f->ops, &f->proc, &e) != 0)
        fail_msg("%s: %s", s->label, e.message);
}

static void detach(struct fixture *f) {
    pawl_processor_remove(f->proc);
    f->ops.destroy(f->ops.self);
}

static void forget(struct fixture *f) {
    assert_int_equal(pawl_table_delete(f->log, "windows"), 0);
    assert_int_equal(pawl_table_delete(f->log, "windows.settings"), 0);
    assert_int_equal(pawl_processor_forget(f->log, "windows"), 0);
}

static void run(struct fixture *f, uint32_t workers) {
    pawl_error e;
    if (pawl_run(f->log, workers, PAWL_RUN_UNTIL_IDLE) != 0) {
        pawl_last_error(&e);
        fail_msg("%s", e.message);
    }
}

/* Is this line of the output one that replaces none, and is replaced by none? */
static bool is_final(const char *text) {
    return strstr(text, "\"final\":true") != NULL;
}

/* Without the number of the pane, which counts what was emitted before. */
static void without_pane(char *text) {
    char *at = strstr(text, "\"pane\":");
    assert_non_null(at);
    char *end = strchr(at, ',');
    memmove(at, end + 1, strlen(end));
}

static void compare_partition(struct fixture *f, const struct spec *s, int partition) {
    struct lines want = model(s, partition);
    pawl_reader *r;
    pawl_batch b;
    int at = 0;
    assert_int_equal(pawl_reader_open(f->log, f->out, (uint32_t)partition, 0, 0, &r), 0);
    while (pawl_read(r, 0, 0, &b) > 0)
        for (size_t i = 0; i < b.count; i++) {
            char got[LINE];
            snprintf(got, sizeof got, "%.*s", (int)b.records[i].value_len,
                     (const char *)b.records[i].value);
            if (s->update || s->grace != 0) {
                if (!is_final(got))
                    continue;
                without_pane(got);
                if (at < want.count)
                    without_pane(want.at[at].text);
            }
            if (at >= want.count || strcmp(got, want.at[at].text) != 0)
                fail_msg("%s: partition %d, line %d of %d\n%s\nnot\n%s", s->label, partition, at,
                         want.count, got, at < want.count ? want.at[at].text : "");
            at++;
        }
    if (at != want.count)
        fail_msg("%s: partition %d has %d lines, not %d", s->label, partition, at, want.count);
    pawl_reader_close(r);
    free(want.at);
}

static void compare(struct fixture *f, const struct spec *s) {
    int late = 0;
    uint64_t got = 0;
    model_late(s, f->inputs);
    for (int i = 0; i < PARTITIONS; i++) {
        pawl_bounds b;
        compare_partition(f, s, i);
        assert_int_equal(pawl_partition_bounds(f->log, f->late, (uint32_t)i, &b), 0);
        got += b.end;
    }
    for (int i = 0; i < item_count; i++)
        late += items[i].late;
    if (got != (uint64_t)late)
        fail_msg("%s: %llu records are late, not %d", s->label, (unsigned long long)got, late);
}

/* ---- tests */

static void as_the_model(void **state) {
    struct fixture *f = *state;
    for (size_t i = 0; i < COUNT(specs); i++)
        for (int inputs = 1; inputs <= 2; inputs++) {
            static const uint32_t batches[] = {0, 1, 13};
            make_items(&specs[i], inputs, (unsigned)i + 1, 400);
            new_streams(f, inputs);
            attach(f, &specs[i], batches[i % COUNT(batches)]);
            feed(f, 0, item_count);
            run(f, 1 + (uint32_t)i % 4);
            compare(f, &specs[i]);
            detach(f);
            forget(f);
        }
}

static void restarts(void **state) {
    struct fixture *f = *state;
    for (size_t i = 0; i < COUNT(specs); i++) {
        make_items(&specs[i], 2, (unsigned)i + 100, 250);
        new_streams(f, 2);
        for (int from = 0; from < item_count; from += 57) {
            attach(f, &specs[i], 11);
            feed(f, from, from + 57 < item_count ? from + 57 : item_count);
            run(f, 2);
            detach(f);
            if (from % 3 == 0)
                assert_true(pawl_state_flush(f->log) >= 0);
            assert_int_equal(pawl_close(f->log), 0);
            open_log(f);
        }
        compare(f, &specs[i]);
        forget(f);
    }
}

static void kills(void **state) {
    struct fixture *f = *state;
    for (size_t i = 0; i < COUNT(specs); i += 3) {
        const struct spec *s = &specs[i];
        make_items(s, 2, (unsigned)i + 200, 800);
        new_streams(f, 2);
        feed(f, 0, item_count);
        assert_int_equal(pawl_close(f->log), 0);
        for (unsigned round = 0; round < 6; round++) {
            pid_t pid = fork();
            if (pid == 0) {
                if (pawl_open(f->dir, &f->options, &f->log, NULL) != 0)
                    _exit(1);
                attach(f, s, 3 + round);
                _exit(pawl_run(f->log, round % 3, 0) == 0 ? 0 : 1);
            }
            assert_true(pid > 0);
            usleep(4000u + 3000u * round); /* it runs until it is killed, somewhere */
            assert_int_equal(kill(pid, SIGKILL), 0);
            int status;
            assert_int_equal(waitpid(pid, &status, 0), pid);
            assert_true(WIFSIGNALED(status));
        }
        open_log(f);
        attach(f, s, 50);
        run(f, 2);
        compare(f, s);
        detach(f);
        forget(f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(as_the_model, setup, teardown),
        cmocka_unit_test_setup_teardown(restarts, setup, teardown),
        cmocka_unit_test_setup_teardown(kills, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
