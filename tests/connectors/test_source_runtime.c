/* SPDX-License-Identifier: Apache-2.0
 * test-timeout: 300
 *
 * The source runtime, with a source that counts: killed at every named point, with a full log, with
 * many items, with records that the log can't take, stopped while it reads, and with its producer
 * taken over. Every record is in the log once, in order, or it is said that it isn't.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "pawl_connect.h"

#define ITEMS_MAX 5u
#define BATCH_MAX 16u

/* Gives "ITEM:N" for N from the item's position up to `count`, items in turn. */
struct counter {
    pawl_source_context *context;
    uint32_t items, count;
    uint64_t next[ITEMS_MAX], acked[ITEMS_MAX];
    uint32_t turn;
    uint32_t opens, reads, acks;
    uint32_t retry_every; /* every n-th read fails; 0: none */
    uint32_t large_at;    /* this record of each item has `large` bytes */
    uint32_t poison_at;   /* this one is called poison */
    uint32_t pad;         /* bytes of each record at least */
    bool endless;         /* doesn't say that it has ended */
    char *large;
    size_t large_size;
    char text[BATCH_MAX][4096], item[8];
    pawl_record records[BATCH_MAX];
};

static void item_name(const struct counter *c, uint32_t i, char out[8]) {
    out[0] = 0;
    if (c->items > 1)
        snprintf(out, 8, "i-%u", i);
}

static int counter_open(void *self, pawl_source_context *x, pawl_fault *f) {
    struct counter *c = self;
    c->context = x;
    c->opens++;
    for (uint32_t i = 0; i < c->items; i++) {
        char name[8];
        uint64_t at = 0;
        item_name(c, i, name);
        int n = pawl_source_position(x, name, &at);
        if (n != 0 && n != 8)
            return pawl_fault_set(f, PAWL_FATAL, "position of %d bytes", n);
        c->next[i] = at;
    }
    return PAWL_DONE;
}

static int counter_read(void *self, pawl_source_batch *out, size_t max, size_t bytes, int wait,
                        pawl_fault *f) {
    struct counter *c = self;
    (void)bytes;
    (void)wait;
    if (c->retry_every != 0 && ++c->reads % c->retry_every == 0)
        return pawl_fault_set(f, PAWL_RETRY, "away");
    uint32_t i = c->turn;
    for (uint32_t n = 0; n < c->items && c->next[i] >= c->count; n++)
        i = (i + 1) % c->items;
    if (c->next[i] >= c->count)
        return c->endless ? PAWL_DONE : PAWL_ENDED;
    c->turn = (i + 1) % c->items;
    item_name(c, i, c->item);
    out->item = c->item;
    out->records = c->records;
    while (out->count < max && out->count < BATCH_MAX && c->next[i] < c->count) {
        uint64_t n = c->next[i];
        char *text = c->text[out->count];
        pawl_record *r = &c->records[out->count];
        *r = (pawl_record){.value = text};
        if (n == c->poison_at && out->count != 0)
            break;
        memset(text, '.', sizeof c->text[0]);
        int len = snprintf(text, 32, "%u:%llu ", i, (unsigned long long)n);
        r->value_len = c->pad > (uint32_t)len ? c->pad : (uint32_t)len;
        if (n == c->large_at)
            r->value = c->large, r->value_len = (uint32_t)c->large_size;
        c->next[i]++;
        out->count++;
        if (n == c->poison_at) {
            out->poison = "not wanted";
            break;
        }
    }
    memcpy(out->position, &c->next[i], 8);
    out->position_len = 8;
    return PAWL_DONE;
}

static void counter_ack(void *self, const char *item, const void *position, size_t len) {
    struct counter *c = self;
    uint64_t at;
    assert_int_equal(len, 8);
    memcpy(&at, position, 8);
    uint32_t i = item[0] == 0 ? 0 : (uint32_t)(item[2] - '0');
    assert_true(at > c->acked[i]);
    assert_true(at <= c->next[i]);
    c->acked[i] = at;
    c->acks++;
}

struct fixture {
    char dir[64];
    pawl_options options;
    pawl *log;
    pawl_source *source;
    pawl_source_config config;
    struct counter c;
    uint32_t to, dead;
    uint64_t now_ns;
};

static uint64_t now(void *arg) {
    return ((struct fixture *)arg)->now_ns;
}

static void open_log(struct fixture *f) {
    pawl_error e;
    if (pawl_open(f->dir, &f->options, &f->log, &e) != 0)
        fail_msg("%s", e.message);
}

static void add(struct fixture *f) {
    pawl_error e;
    pawl_source_ops ops = PAWL_SOURCE_OPS_INIT;
    ops.type = "counter", ops.self = &f->c;
    ops.open = counter_open, ops.read = counter_read, ops.ack = counter_ack;
    memset(f->c.acked, 0, sizeof f->c.acked);
    f->c.turn = 0;
    if (pawl_source_add(f->log, &f->config, &ops, &f->source, &e) != 0)
        fail_msg("%s", e.message);
}

static void close_all(struct fixture *f) {
    pawl_source_remove(f->source);
    f->source = NULL;
    assert_int_equal(pawl_close(f->log), 0);
    f->log = NULL;
}

static struct fixture *new_fixture(uint32_t items, uint32_t count, uint64_t disk_cap) {
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    strcpy(f->dir, "/tmp/test_source.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->options = (pawl_options)PAWL_OPTIONS_INIT;
    f->options.flags = PAWL_OPEN_CREATE;
    f->options.segment_size = 1u << 20;
    f->options.disk_cap = disk_cap;
    open_log(f);
    assert_int_equal(pawl_stream_create(f->log, "lines", 1, &f->to), 0);
    assert_int_equal(pawl_stream_create(f->log, "dead", 1, &f->dead), 0);
    f->config = (pawl_source_config)PAWL_SOURCE_CONFIG_INIT;
    f->config.name = "from", f->config.stream = f->to, f->config.batch_records = 7;
    f->config.hooks.now_ns = now, f->config.hooks.now_arg = f, f->config.hooks.seed = 1;
    f->c.items = items, f->c.count = count;
    f->c.large_at = f->c.poison_at = UINT32_MAX;
    return f;
}

static void free_fixture(struct fixture *f) {
    char command[96];
    close_all(f);
    snprintf(command, sizeof command, "rm -rf -- '%s'", f->dir);
    assert_int_equal(system(command), 0);
    free(f->c.large);
    free(f);
}

static pawl_flow_status status(struct fixture *f) {
    pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
    assert_int_equal(pawl_source_status(f->source, &s), 0);
    return s;
}

/* Steps until it has ended, failed or waits for the log; time passes where it waits. */
static int drive(struct fixture *f, bool while_waiting) {
    for (int i = 0; i < 100000; i++) {
        int rc = pawl_source_step(f->source);
        int flow = status(f).flow;
        if (rc < 0 || (rc > 0 && (flow == PAWL_FLOW_ENDED || flow == PAWL_FLOW_IDLE)) ||
            (flow == PAWL_FLOW_WAITING && !while_waiting))
            return rc;
        if (rc > 0)
            f->now_ns += (uint64_t)rc * 1000000u;
    }
    fail_msg("it never comes to an end");
    return 0;
}

/* Each item's records are there once and in order, but `but`. Returns how many there are. */
static uint64_t in_order(struct fixture *f, uint32_t but, uint64_t seen[ITEMS_MAX]) {
    pawl_reader *r;
    pawl_batch b;
    uint64_t n = 0;
    pawl_bounds bounds;
    memset(seen, 0, ITEMS_MAX * sizeof *seen);
    assert_int_equal(pawl_partition_bounds(f->log, f->to, 0, &bounds), 0);
    assert_int_equal(pawl_reader_open(f->log, f->to, 0, bounds.first, 0, &r), 0);
    while (pawl_read(r, 0, 0, &b) > 0)
        for (size_t i = 0; i < b.count; i++, n++) {
            unsigned item;
            unsigned long long at;
            char text[32] = "";
            memcpy(text, b.records[i].value,
                   b.records[i].value_len < 31 ? b.records[i].value_len : 31);
            assert_int_equal(sscanf(text, "%u:%llu", &item, &at), 2);
            assert_true(item < ITEMS_MAX);
            if (bounds.first != 0 && seen[item] == 0)
                seen[item] = at; /* what was before it is dropped */
            seen[item] += seen[item] == but;
            if (at != seen[item]++)
                fail_msg("item %u: %llu instead of %llu", item, at,
                         (unsigned long long)seen[item] - 1);
        }
    pawl_reader_close(r);
    return n;
}

static void all_there(struct fixture *f, uint32_t but) {
    uint64_t seen[ITEMS_MAX];
    assert_int_equal(pawl_sync(f->log), 0);
    in_order(f, but, seen);
    for (uint32_t i = 0; i < f->c.items; i++)
        assert_int_equal(seen[i], f->c.count);
}

/* ---- killed */

static struct {
    const char *point;
    int left;
} killer;

static void kill_here(void *arg, const char *point) {
    (void)arg;
    if (strcmp(point, killer.point) == 0 && killer.left-- == 0)
        _exit(7);
}

static void killed_at_every_point(void **state) {
    static const char *const points[] = {"source-opened", "source-read", "source-appended",
                                         "source-acked"};
    (void)state;
    for (uint32_t items = 1; items <= ITEMS_MAX; items += 4)
        for (size_t i = 0; i < 4; i++) {
            struct fixture *f = new_fixture(items, 40, 0);
            uint64_t *acked =
                mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
            assert_true(acked != MAP_FAILED);
            close_all(f);
            int killed = 0;
            for (int nth = 0; nth < 6; nth++) {
                int rc, child = fork();
                assert_true(child >= 0);
                if (child == 0) {
                    killer.point = points[i], killer.left = nth;
                    f->config.hooks.on_point = kill_here;
                    open_log(f);
                    add(f);
                    for (int n = 0; n < 1000 && status(f).flow != PAWL_FLOW_ENDED; n++) {
                        assert_true(pawl_source_step(f->source) >= 0);
                        for (uint32_t k = 0; k < items; k++)
                            acked[k] = f->c.acked[k] > acked[k] ? f->c.acked[k] : acked[k];
                    }
                    _exit(0);
                }
                assert_int_equal(waitpid(child, &rc, 0), child);
                killed += WIFEXITED(rc) && WEXITSTATUS(rc) == 7;
                open_log(f);
                uint64_t seen[ITEMS_MAX];
                in_order(f, UINT32_MAX, seen);
                for (uint32_t k = 0; k < items; k++) /* acknowledged means durable */
                    assert_true(seen[k] >= acked[k]);
                assert_int_equal(pawl_close(f->log), 0);
            }
            assert_true(killed >= 1);
            munmap(acked, 4096);
            open_log(f);
            add(f);
            assert_true(drive(f, true) >= 0);
            all_there(f, UINT32_MAX);
            free_fixture(f);
        }
}

/* ---- tried again */

static void reads_are_tried_again(void **state) {
    (void)state;
    struct fixture *f = new_fixture(3, 100, 0);
    f->c.retry_every = 3;
    add(f);
    assert_true(drive(f, true) >= 0);
    all_there(f, UINT32_MAX);
    assert_true(status(f).retries > 5);
    assert_int_equal(f->c.opens, status(f).retries + 1);
    assert_int_equal(status(f).records, 300);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(f->c.acked[i], 100);
    free_fixture(f);
}

/* ---- a full log */

static void a_full_log_is_waited_out(void **state) {
    (void)state;
    struct fixture *f = new_fixture(2, 3000, 4u << 20);
    f->c.pad = 1500;
    add(f);
    assert_true(drive(f, false) > 0);
    assert_int_equal(status(f).flow, PAWL_FLOW_WAITING);
    uint64_t read = f->c.next[0] + f->c.next[1];
    assert_true(read < 6000);
    for (int i = 0; i < 20; i++) { /* it isn't read on, and what is there is acknowledged */
        f->now_ns += UINT64_C(60000000000);
        assert_true(pawl_source_step(f->source) > 0);
    }
    assert_int_equal(f->c.next[0] + f->c.next[1], read);
    assert_true(pawl_source_step(f->source) >= 0);
    assert_true(f->c.acked[0] + f->c.acked[1] + 7 >= read);
    uint64_t seen[ITEMS_MAX], most[ITEMS_MAX] = {0};
    pawl_retention keep = {.bytes = 2u << 20};
    int rounds = 0;
    for (; status(f).flow != PAWL_FLOW_ENDED && rounds < 100; rounds++) {
        assert_int_equal(pawl_sync(f->log), 0);
        in_order(f, UINT32_MAX, seen);
        for (uint32_t i = 0; i < 2; i++) {
            assert_true(seen[i] >= most[i]);
            most[i] = seen[i];
        }
        assert_int_equal(pawl_retention_set(f->log, &keep), 0);
        assert_true(pawl_retention_apply(f->log) >= 0);
        assert_int_equal(pawl_retention_set(f->log, &(pawl_retention){0}), 0);
        f->now_ns += UINT64_C(60000000000);
        assert_true(drive(f, false) >= 0);
    }
    assert_true(rounds > 1 && rounds < 100);
    assert_int_equal(pawl_sync(f->log), 0);
    in_order(f, UINT32_MAX, seen);
    assert_int_equal(seen[0], 3000);
    assert_int_equal(seen[1], 3000);
    assert_int_equal(status(f).records, 6000);
    free_fixture(f);
}

/* ---- records that the log can't take, or shall not */

static void poisoned(int policy, bool called) {
    struct fixture *f = new_fixture(1, 50, 0);
    f->c.large_size = 1u << 20;
    f->c.large = malloc(f->c.large_size);
    assert_non_null(f->c.large);
    memset(f->c.large, 'x', f->c.large_size);
    *(called ? &f->c.poison_at : &f->c.large_at) = 23;
    if (called)
        f->c.pad = 100;
    f->config.on_poison = policy;
    f->config.dead_letter = policy == PAWL_ON_ERROR_DEAD_LETTER ? f->dead : 0;
    for (int again = 0; again < 2; again++) {
        add(f);
        int rc = drive(f, true);
        if (policy == PAWL_ON_ERROR_STOP) {
            uint64_t seen[ITEMS_MAX];
            assert_int_equal(rc, PAWL_TOO_LARGE);
            assert_int_equal(status(f).flow, PAWL_FLOW_FAILED);
            if (called)
                assert_string_equal(status(f).message, "not wanted");
            assert_int_equal(pawl_sync(f->log), 0);
            in_order(f, UINT32_MAX, seen);
            assert_true(seen[0] >= 15 && seen[0] <= 23);
        } else {
            assert_true(rc >= 0);
            assert_int_equal(status(f).poisoned, again == 0);
            all_there(f, 23);
        }
        pawl_bounds b;
        assert_int_equal(pawl_partition_bounds(f->log, f->dead, 0, &b), 0);
        assert_int_equal(b.end, policy == PAWL_ON_ERROR_DEAD_LETTER);
        if (b.end != 0) {
            pawl_reader *r;
            pawl_batch batch;
            pawl_header h;
            assert_int_equal(pawl_reader_open(f->log, f->dead, 0, 0, 0, &r), 0);
            assert_int_equal(pawl_read(r, 0, 0, &batch), 1);
            assert_int_equal(batch.records[0].value_len, called ? 100 : 65536);
            assert_int_equal(pawl_record_header(&batch.records[0], 4, &h), 0);
            assert_memory_equal(h.name, "pawl-error", 10);
            assert_memory_equal(h.value, called ? "not wanted" : pawl_strerror(PAWL_TOO_LARGE), 10);
            pawl_reader_close(r);
        }
        close_all(f);
        open_log(f);
    }
    add(f);
    free_fixture(f);
}

static void poison_goes_by_the_policy(void **state) {
    (void)state;
    for (int policy = PAWL_ON_ERROR_STOP; policy <= PAWL_ON_ERROR_DEAD_LETTER; policy++) {
        poisoned(policy, false);
        poisoned(policy, true);
    }
}

/* ---- threads */

static void stopping_drains(void **state) {
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct fixture *f = new_fixture(2, 200000, 0);
        f->config.hooks.now_ns = NULL;
        add(f);
        assert_int_equal(pawl_source_start(f->source), 0);
        assert_int_equal(pawl_source_start(f->source), PAWL_BUSY);
        while (status(f).records < 100)
            usleep(200);
        assert_int_equal(pawl_source_stop(f->source, 60000), 0);
        assert_int_equal(pawl_source_stop(f->source, 60000), 0);
        uint64_t seen[ITEMS_MAX];
        assert_int_equal(status(f).behind, 0);
        for (uint32_t k = 0; k < 2; k++)
            assert_int_equal(f->c.acked[k], f->c.next[k]);
        in_order(f, UINT32_MAX, seen);
        for (uint32_t k = 0; k < 2; k++)
            assert_int_equal(seen[k], f->c.next[k]);
        f->c.count = (uint32_t)(seen[0] > seen[1] ? seen[0] : seen[1]) + 50;
        assert_int_equal(pawl_source_start(f->source), 0); /* and goes on */
        while (status(f).flow != PAWL_FLOW_ENDED)
            usleep(200);
        all_there(f, UINT32_MAX);
        free_fixture(f);
    }
}

static void a_taken_over_producer_ends_it(void **state) {
    (void)state;
    struct fixture *f = new_fixture(1, 100, 0);
    add(f);
    assert_int_equal(pawl_source_step(f->source), 0);
    pawl_producer *other;
    assert_int_equal(pawl_producer_open(f->log, "from", &other), 0);
    assert_int_equal(drive(f, true), PAWL_FENCED);
    assert_int_equal(status(f).code, PAWL_FENCED);
    assert_int_equal(pawl_source_step(f->source), PAWL_FENCED);
    pawl_producer_close(other);
    pawl_source_remove(f->source);
    add(f);
    struct fixture first = *f; /* another of the same name, in the place where the log stands */
    assert_true(pawl_source_step(f->source) >= 0);
    add(f);
    assert_true(drive(f, true) >= 0);
    all_there(f, UINT32_MAX);
    pawl_source_remove(first.source);
    free_fixture(f);
}

/* A process that was taken for dead has let the log go; whoever opens it next, goes on where the
 * log stands. */
static void another_process_goes_on(void **state) {
    (void)state;
    struct fixture *f = new_fixture(1, 1000, 0);
    close_all(f);
    for (int i = 0; i < 3; i++) {
        int rc, child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            open_log(f);
            add(f);
            for (int n = 0; n < 40; n++)
                if (pawl_source_step(f->source) < 0)
                    _exit(1);
            _exit(0);
        }
        assert_int_equal(waitpid(child, &rc, 0), child);
        assert_int_equal(rc, 0);
    }
    open_log(f);
    add(f);
    assert_true(drive(f, true) >= 0);
    all_there(f, UINT32_MAX);
    free_fixture(f);
}

/* ---- what is refused */

static void bad_configurations_are_refused(void **state) {
    (void)state;
    struct fixture *f = new_fixture(1, 1, 0);
    pawl_source_ops ops = PAWL_SOURCE_OPS_INIT;
    pawl_source *s = NULL;
    pawl_error e;
    pawl_source_config c = f->config;
    ops.open = counter_open, ops.read = counter_read, ops.self = &f->c;
    c.name = "a/b";
    assert_int_equal(pawl_source_add(f->log, &c, &ops, &s, &e), PAWL_INVALID);
    c = f->config, c.stream = 99;
    assert_int_equal(pawl_source_add(f->log, &c, &ops, &s, &e), PAWL_NOT_FOUND);
    c = f->config, c.on_poison = PAWL_ON_ERROR_DEAD_LETTER, c.dead_letter = 99;
    assert_int_equal(pawl_source_add(f->log, &c, &ops, &s, &e), PAWL_NOT_FOUND);
    ops.read = NULL;
    assert_int_equal(pawl_source_add(f->log, &f->config, &ops, &s, &e), PAWL_INVALID);
    add(f);
    free_fixture(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_at_every_point),
        cmocka_unit_test(reads_are_tried_again),
        cmocka_unit_test(a_full_log_is_waited_out),
        cmocka_unit_test(poison_goes_by_the_policy),
        cmocka_unit_test(stopping_drains),
        cmocka_unit_test(a_taken_over_producer_ends_it),
        cmocka_unit_test(another_process_goes_on),
        cmocka_unit_test(bad_configurations_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
