/* SPDX-License-Identifier: Apache-2.0 */
/* Pairs with a time to live: gone at once when it is over, and never back, whatever the clock does,
 * and whatever is flushed, merged, closed and opened meanwhile. The test sets both clocks; nothing
 * here waits for time to pass. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "pipeline/engine.h"

#undef fail /* the library has one of its own */
#include <cmocka.h>

#include "pipeline/state.h"
#include "tests/support/state_log.h"

#define NOW_MS UINT64_C(1700000000000)
#define NS_PER_MS UINT64_C(1000000)
#define TTL 10000u

static struct { uint64_t wall_ns, now_ns; } at;

static uint64_t fake_realtime(struct seam *s) {
    (void)s;
    return at.wall_ns;
}

static uint64_t fake_now(struct seam *s) {
    (void)s;
    return at.now_ns++;
}

static void open_expiring(struct fixture *f) {
    static struct seam_ops ops;
    struct seam *io;
    assert_int_equal(seam_create(f->dir, true, PAWL_BACKEND_POSIX, PAWL_DIRECT_OFF, &io), 0);
    ops = *io->ops;
    ops.realtime = fake_realtime;
    ops.now = fake_now;
    io->ops = &ops;
    assert_int_equal(engine_open(io, &f->options, &f->log), 0);
}

static void reopen_expiring(struct fixture *f) {
    assert_int_equal(pawl_close(f->log), 0);
    open_expiring(f);
}

static uint32_t make_expiring(struct fixture *f, const char *name, uint32_t flags, uint64_t ttl) {
    pawl_table_config c = PAWL_TABLE_CONFIG_INIT;
    uint32_t id = 0;
    c.name = name, c.owner = "counter", c.partitions = 1, c.flags = flags, c.ttl_ms = ttl;
    assert_int_equal(pawl_table_create(f->log, &c, &id), 0);
    return id;
}

static int setup_expiring(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL || test_dir_make(f->dir, "/tmp/test_state_expiry") != 0)
        return -1;
    f->options = small_segments();
    f->options.no_thread = 1;
    *state = f;
    at.wall_ns = NOW_MS * NS_PER_MS, at.now_ns = 5000 * NS_PER_MS;
    open_expiring(f);
    assert_int_equal(pawl_stream_create(f->log, "in", 1, &f->in), 0);
    assert_int_equal(pawl_stream_create(f->log, "out", 1, &f->out), 0);
    assert_int_equal(pawl_processor_register(f->log, "counter", NULL), 0);
    f->table = make_expiring(f, "counts", 0, TTL);
    return 0;
}

/* Time passes. */
static void pass(uint64_t ms) {
    at.wall_ns += ms * NS_PER_MS;
    at.now_ns += ms * NS_PER_MS;
}

static uint64_t clock_now(struct fixture *f) {
    pthread_mutex_lock(&f->log->mutex);
    uint64_t ms = state_clock(f->log);
    engine_leave(f->log);
    return ms;
}

static void put_for(struct fixture *f, const char *key, const char *value, uint64_t ttl_ms) {
    pawl_tx *tx = begin(f);
    assert_int_equal(
        pawl_tx_state_put_expiring(tx, f->table, 0, key, strlen(key), value, strlen(value), ttl_ms),
        0);
    assert_int_equal(pawl_commit(tx, NULL), 0);
}

static void chores(struct fixture *f) {
    pthread_mutex_lock(&f->log->mutex);
    while (engine_chore(f->log))
        ;
    engine_leave(f->log);
}

/* The keys that a scan sees, of the transaction or from outside. */
static const char *scanned(struct fixture *f, pawl_tx *tx) {
    static char text[256];
    pawl_state_cursor *c;
    pawl_state_pair pair;
    text[0] = 0;
    if (tx != NULL)
        assert_int_equal(pawl_tx_state_scan(tx, f->table, 0, NULL, &c), 0);
    else
        assert_int_equal(pawl_table_scan(f->log, f->table, 0, NULL, &c), 0);
    while (pawl_state_next(c, &pair) == 1)
        strncat(text, pair.key, pair.key_len);
    pawl_state_close(c);
    return text;
}

/* ---- one pair */

static void gone_when_its_time_is_over(void **state) {
    struct fixture *f = *state;
    for (int flushed = 0; flushed < 2; flushed++) {
        put_one(f, "a", "1");
        put_for(f, "b", "2", 3000);
        put_for(f, "c", "3", 0);
        if (flushed != 0)
            assert_int_equal(pawl_state_flush(f->log), 1);
        static const struct {
            uint64_t passes;
            const char *want;
        } steps[] = {{0, "abc"}, {2999, "abc"}, {1, "ac"}, {6999, "ac"}, {1, "c"}, {99, "c"}};
        for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
            pass(steps[i].passes);
            pawl_tx *tx = begin(f);
            assert_string_equal(scanned(f, NULL), steps[i].want);
            assert_string_equal(scanned(f, tx), steps[i].want);
            for (const char *k = "abc"; *k != 0; k++) {
                char key[2] = {*k, 0};
                bool there = strchr(steps[i].want, *k) != NULL;
                assert_int_equal(strcmp(look(f, f->table, key), "-") != 0, there);
                assert_int_equal(strcmp(look_in(tx, f->table, key), "-") != 0, there);
            }
            assert_int_equal(pawl_tx_state_delete(tx, f->table, 0, "a", 1),
                             strchr(steps[i].want, 'a') != NULL);
            pawl_abort(tx);
        }
    }
}

static void each_put_begins_its_time_anew(void **state) {
    struct fixture *f = *state;
    put_one(f, "a", "1");
    pass(TTL - 1);
    put_one(f, "a", "1");
    pass(TTL - 1);
    assert_string_equal(look(f, f->table, "a"), "1");
    pass(1);
    assert_string_equal(look(f, f->table, "a"), "-");
    put_one(f, "a", "2"); /* over the expired one, which the digest still has */
    assert_string_equal(look(f, f->table, "a"), "2");
    pawl_table_digest d;
    assert_int_equal(pawl_table_get_digest(f->log, f->table, 0, &d), 0);
    assert_int_equal(d.pairs, 1);
    assert_int_equal(d.bytes, 2);
}

/* What a batch sees stays what it saw first, and its commit says when that was. */
static void one_reading_for_a_batch(void **state) {
    struct fixture *f = *state;
    put_one(f, "a", "1");
    pass(TTL - 1);
    pawl_tx *tx = begin(f);
    assert_string_equal(look_in(tx, f->table, "a"), "1");
    pass(100);
    assert_string_equal(look_in(tx, f->table, "a"), "1");
    assert_string_equal(scanned(f, tx), "a");
    assert_string_equal(look(f, f->table, "a"), "-");
    put(tx, f->table, "b", "1");
    assert_int_equal(pawl_commit(tx, NULL), 0);
    assert_int_equal(f->log->wal.last.time_ns, (NOW_MS + TTL - 1) * NS_PER_MS);
    pass(TTL - 101); /* the time of "b" began with the reading */
    assert_string_equal(look(f, f->table, "b"), "1");
    pass(1);
    assert_string_equal(look(f, f->table, "b"), "-");
}

static int put_with_time(pawl_context *ctx, const pawl_record *records, size_t count, void *arg) {
    struct fixture *f = arg;
    for (size_t i = 0; i < count; i++) {
        uint64_t now_ms;
        int64_t sum;
        if (pawl_state_clock(ctx, f->table, &now_ms) != 0 || now_ms != at.wall_ns / NS_PER_MS ||
            pawl_state_add(ctx, f->table, records[i].value, records[i].value_len, 1, &sum) != 0 ||
            sum != 1 ||
            pawl_state_put_expiring(ctx, f->table, "own", 3, &sum, sizeof sum, 2 * TTL) != 0)
            return -1;
    }
    return 0;
}

/* An expired counter begins at 0. */
static void counters_begin_again(void **state) {
    struct fixture *f = *state;
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    pawl_processor *proc;
    c.name = "counter", c.inputs = &f->in, c.input_count = 1;
    c.process = put_with_time, c.arg = f, c.retries = 0;
    assert_int_equal(pawl_processor_add(f->log, &c, &proc), 0);
    for (int round = 0; round < 3; round++) {
        feed(f, 0, 5, 5);
        assert_int_equal(pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE), 0);
        assert_int_equal(strlen(scanned(f, NULL)), 5 * 6 + 3);
        if (round == 1)
            assert_int_equal(pawl_state_flush(f->log), 1);
        pass(TTL);
        assert_string_equal(scanned(f, NULL), "own");
    }
}

static void what_is_refused(void **state) {
    struct fixture *f = *state;
    uint32_t plain = make_table(f, "plain", 1, 0), expires = make_expiring(f, "e", 2, 0);
    pawl_table_info info = PAWL_TABLE_INFO_INIT;
    pawl_tx *tx = begin(f);
    struct {
        const char *label;
        int want, got;
    } cases[] = {
        {"a table whose pairs stay", PAWL_STATE,
         pawl_tx_state_put_expiring(tx, plain, 0, "k", 1, "v", 1, 5)},
        {"without a time to live of its own", 0,
         pawl_tx_state_put_expiring(tx, expires, 0, "k", 1, "v", 1, 5)},
        {"the longest", 0,
         pawl_tx_state_put_expiring(tx, expires, 0, "k", 1, "v", 1, UINT64_MAX - 1)},
        {"one too long", PAWL_INVALID,
         pawl_tx_state_put_expiring(tx, expires, 0, "k", 1, "v", 1, UINT64_MAX)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (cases[i].got != cases[i].want)
            fail_msg("%s: %d, not %d", cases[i].label, cases[i].got, cases[i].want);
    pawl_abort(tx);
    assert_int_equal(pawl_table_get_info(f->log, f->table, &info), 0);
    assert_int_equal(info.ttl_ms, TTL);
    assert_int_equal(info.flags, PAWL_TABLE_EXPIRES);
}

/* ---- the clock */

/* Each case: the clocks move so, and then the pair is there or not. Nothing that has gone comes
 * back with any later step, nor when the log is opened again. */
static void clocks_that_jump(void **state) {
    struct fixture *f = *state;
    static const struct {
        const char *label;
        int64_t set_ms[3]; /* the wall clock is set by as much */
        uint64_t passes_ms[3];
        bool there[3];
    } cases[] = {
        {"time passes", {0}, {TTL - 1, 1, 0}, {true, false, false}},
        {"set back at once", {-86400000, 0, 0}, {0, TTL - 1, 1}, {true, true, false}},
        {"set back, far", {-1700000000000, 0, 0}, {TTL - 1, 1, 1}, {true, false, false}},
        {"set back once it has gone", {0, -86400000, 0}, {TTL, 0, 1}, {false, false, false}},
        {"set ahead", {TTL, 0, 0}, {0, 0, 0}, {false, false, false}},
        {"set ahead, and back", {TTL, -(int64_t)TTL, 0}, {0, 0, 5}, {false, false, false}},
        {"a little ahead, and back", {500, -500, 0}, {0, TTL - 501, 1}, {true, true, false}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int reopened = 0; reopened < 2; reopened++) {
            uint64_t wall = at.wall_ns, before = clock_now(f);
            put_one(f, "a", "1");
            for (int k = 0; k < 3; k++) {
                at.wall_ns += (uint64_t)cases[i].set_ms[k] * NS_PER_MS;
                pass(cases[i].passes_ms[k]);
                bool there = strcmp(look(f, f->table, "a"), "-") != 0;
                if (there != cases[i].there[k])
                    fail_msg("%s, step %d, reopened %d: %d", cases[i].label, k, reopened, there);
                uint64_t now = clock_now(f);
                assert_true(now >= before && now >= at.wall_ns / NS_PER_MS);
                before = now;
                put_one(f, "b", "1"); /* the log says the time */
                if (reopened != 0)
                    reopen_expiring(f);
            }
            at.wall_ns = wall + 100 * TTL * NS_PER_MS; /* put right, and long after */
            assert_string_equal(scanned(f, NULL), "");
        }
}

/* The newest segment says the clock, also if no commit in it does. */
static void the_clock_is_in_each_segment(void **state) {
    struct fixture *f = *state;
    static char value[60000];
    memset(value, 'v', sizeof value);
    put_one(f, "a", "1");
    at.wall_ns += TTL * NS_PER_MS;
    assert_string_equal(look(f, f->table, "a"), "-");
    put_one(f, "b", "1");
    at.wall_ns -= 10 * TTL * NS_PER_MS;
    uint64_t segment = f->log->wal.segment, clock = clock_now(f);
    for (int i = 0; f->log->wal.segment < segment + 2 && i < 200; i++) {
        pawl_record r = {.value = value, .value_len = sizeof value};
        assert_int_equal(pawl_append(f->log, f->in, 0, &r, NULL), 0);
    }
    assert_int_equal(f->log->wal.segment, segment + 2);
    reopen_expiring(f);
    assert_true(clock_now(f) >= clock);
    assert_string_equal(scanned(f, NULL), "b");
}

/* ---- nobody does anything */

static pawl_table_digest digest_of(struct fixture *f) {
    pawl_table_digest d;
    assert_int_equal(pawl_table_get_digest(f->log, f->table, 0, &d), 0);
    return d;
}

static uint64_t next_chore(struct fixture *f) {
    pthread_mutex_lock(&f->log->mutex);
    uint64_t ns = state_next(f->log);
    engine_leave(f->log);
    return ns;
}

/* What time does to a log that nobody touches: chores run when they ask for it. Returns how often
 * they did. */
static unsigned idle_for(struct fixture *f, uint64_t ms) {
    uint64_t end = at.now_ns + ms * NS_PER_MS;
    unsigned woken = 0;
    chores(f);
    for (uint64_t next; (next = next_chore(f)) <= end; woken++) {
        uint64_t by = next > at.now_ns ? next - at.now_ns : 0;
        at.now_ns += by, at.wall_ns += by;
        chores(f);
        assert_true(woken < 1000);
    }
    if (at.now_ns < end)
        at.wall_ns += end - at.now_ns, at.now_ns = end;
    return woken;
}

/* ---- against a model */

#define KEYS 40u

struct model {
    struct {
        bool there;
        uint32_t value;
        uint64_t expiry_ms; /* 0: none */
    } key[KEYS];
};

static uint32_t draw(uint64_t *seed, uint32_t below) {
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*seed >> 33) % below;
}

static void compare(struct fixture *f, const struct model *m, unsigned step) {
    uint64_t now = clock_now(f);
    pawl_state_cursor *c;
    pawl_state_pair pair = {0};
    assert_int_equal(pawl_table_scan(f->log, f->table, 0, NULL, &c), 0);
    for (uint32_t k = 0; k < KEYS; k++) {
        char key[8], value[16];
        size_t len = 0;
        snprintf(key, sizeof key, "k%03u", k);
        bool there = m->key[k].there && !(m->key[k].expiry_ms != 0 && m->key[k].expiry_ms <= now);
        int rc = pawl_table_get(f->log, f->table, 0, key, 4, value, sizeof value, &len);
        if (rc != there)
            fail_msg("step %u: %s is %d", step, key, rc);
        if (!there)
            continue;
        assert_int_equal(len, 4);
        assert_memory_equal(value, &m->key[k].value, 4);
        assert_int_equal(pawl_state_next(c, &pair), 1);
        assert_memory_equal(pair.key, key, 4);
        assert_memory_equal(pair.value, &m->key[k].value, 4);
    }
    assert_int_equal(pawl_state_next(c, &pair), 0);
    pawl_state_close(c);
}

static void change_some(struct fixture *f, struct model *m, uint64_t *seed, unsigned step) {
    pawl_tx *tx = begin(f);
    struct model after = *m;
    for (uint32_t n = 1 + draw(seed, 8); n > 0; n--) {
        uint32_t k = draw(seed, KEYS), what = draw(seed, 5), ttl = draw(seed, 3 * TTL);
        char key[8];
        snprintf(key, sizeof key, "k%03u", k);
        int rc = what == 0   ? pawl_tx_state_delete(tx, f->table, 0, key, 4)
                 : what == 1 ? pawl_tx_state_put_expiring(tx, f->table, 0, key, 4, &step, 4, ttl)
                             : pawl_tx_state_put(tx, f->table, 0, key, 4, &step, 4);
        bool live = after.key[k].there &&
                    !(after.key[k].expiry_ms != 0 && after.key[k].expiry_ms <= tx->clock_ms);
        assert_int_equal(rc, what == 0 && live);
        after.key[k].there = what != 0;
        after.key[k].value = step;
        after.key[k].expiry_ms = what > 1 ? tx->clock_ms + TTL : ttl != 0 ? tx->clock_ms + ttl : 0;
    }
    if (draw(seed, 5) == 0) {
        pawl_abort(tx);
    } else {
        assert_int_equal(pawl_commit(tx, NULL), 0);
        *m = after;
    }
}

static void random_changes(void **state) {
    struct fixture *f = *state;
    struct model m = {0};
    uint64_t seed = 7;
    for (unsigned step = 1; step < 2500; step++) {
        uint32_t what = draw(&seed, 40);
        if (what < 20)
            change_some(f, &m, &seed, step);
        else if (what < 30)
            pass(draw(&seed, TTL / 4));
        else if (what == 30)
            at.wall_ns += draw(&seed, TTL) * NS_PER_MS;
        else if (what == 31)
            at.wall_ns -= draw(&seed, 3 * TTL) * NS_PER_MS;
        else if (what == 32)
            assert_true(pawl_state_flush(f->log) >= 0);
        else if (what == 33)
            reopen_expiring(f);
        else if (what < 38)
            chores(f);
        if (what != 31 && what != 30)
            compare(f, &m, step);
        if (step % 500 == 0) {
            idle_for(f, 4 * TTL);
            pawl_table_digest d = digest_of(f);
            uint64_t live = 0;
            for (uint32_t k = 0; k < KEYS; k++)
                live += m.key[k].there &&
                        (m.key[k].expiry_ms == 0 || m.key[k].expiry_ms + 1001 > clock_now(f));
            assert_int_equal(d.pairs, live);
        }
    }
}

/* ---- removal */

/* Do run files hold the text? */
static bool in_files(struct fixture *f, const char *text) {
    bool found = false;
    for (uint32_t i = 0; i < f->log->tables.state.run_count; i++) {
        char path[128], name[RUN_NAME_SIZE];
        static char bytes[1 << 20];
        run_name(name, f->log->tables.state.runs[i].id);
        snprintf(path, sizeof path, "%s/%s", f->dir, name);
        FILE *file = fopen(path, "rb");
        assert_non_null(file);
        size_t n = fread(bytes, 1, sizeof bytes, file);
        fclose(file);
        found |= memmem(bytes, n, text, strlen(text)) != NULL;
    }
    return found;
}

/* Nobody touches the table, and its pairs leave the log's state, then the files, within the bound
 * that the header says. Then nothing is left to do. */
static void gone_without_a_touch(void **state) {
    struct fixture *f = *state;
    for (int flushes = 0; flushes < 4; flushes++) {
        put_one(f, "a", "text-of-a");
        put_for(f, "b", "text-of-b", 2 * TTL);
        put_for(f, "c", "text-of-c", 0);
        for (int i = 0; i < flushes; i++) {
            assert_int_equal(pawl_state_flush(f->log), 1);
            put_one(f, "d", "text-of-d");
        }
        assert_int_equal(in_files(f, "text-of-a"), flushes != 0);
        uint64_t pairs = digest_of(f).pairs;
        idle_for(f, TTL - 1);
        assert_int_equal(digest_of(f).pairs, pairs);
        if (flushes % 2 == 1)
            reopen_expiring(f);
        idle_for(f, 1001);
        assert_int_equal(digest_of(f).pairs, 2);
        assert_string_equal(scanned(f, NULL), "bc");
        idle_for(f, 2001);
        assert_false(in_files(f, "text-of-a"));
        idle_for(f, TTL - 2000);
        assert_string_equal(scanned(f, NULL), "c");
        assert_int_equal(digest_of(f).pairs, 1);
        idle_for(f, 2001);
        assert_false(in_files(f, "text-of-b"));
        assert_true(next_chore(f) == UINT64_MAX); /* PAWL-17 */
        uint64_t tail = f->log->wal.tail;
        assert_int_equal(idle_for(f, 1000 * TTL), 0);
        assert_int_equal(f->log->wal.tail, tail);
    }
}

/* Many pairs: several commits, none of them large, and few looks. */
static void many_expire_together(void **state) {
    struct fixture *f = *state;
    for (int round = 0; round < 3; round++) {
        for (int n = 0; n < 40; n++) {
            pawl_tx *tx = begin(f);
            for (int i = 0; i < 500; i++) {
                char key[16];
                snprintf(key, sizeof key, "key-%05d", n * 500 + i);
                put(tx, f->table, key, "v");
            }
            assert_int_equal(pawl_commit(tx, NULL), 0);
        }
        put_for(f, "stays", "v", 0);
        if (round == 1)
            assert_int_equal(pawl_state_flush(f->log), 1);
        assert_true(idle_for(f, TTL + 1001) < 10);
        assert_string_equal(scanned(f, NULL), "stays");
        assert_int_equal(digest_of(f).pairs, 1);
        idle_for(f, 20 * TTL);
        assert_true(next_chore(f) == UINT64_MAX);
    }
}

struct meddler {
    struct fixture *f;
    int batches;
};

/* In the middle of a batch the chore wants to remove what has expired. */
static int meddled_with(pawl_context *ctx, const pawl_record *records, size_t count, void *arg) {
    struct meddler *m = arg;
    (void)records, (void)count;
    int64_t sum;
    if (pawl_state_add(ctx, m->f->table, "counter", 7, 1, &sum) != 0)
        return -1;
    m->batches++;
    uint64_t before = m->f->log->tables.commits;
    chores(m->f);
    chores(m->f);
    assert_int_equal(m->f->log->tables.commits, before);
    /* one of what was found is put again, by the batch itself */
    return pawl_state_put_expiring(ctx, m->f->table, "b", 1, "new", 3, 2000);
}

/* A batch is never refused for the chore's sake, and takes the deletes along. */
static void beside_a_batch(void **state) {
    struct fixture *f = *state;
    struct meddler m = {f, 0};
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    pawl_processor *proc;
    c.name = "counter", c.inputs = &f->in, c.input_count = 1;
    c.process = meddled_with, c.arg = &m, c.retries = 0, c.batch_max = 1;
    assert_int_equal(pawl_processor_add(f->log, &c, &proc), 0);
    for (int flushed = 0; flushed < 2; flushed++) {
        put_for(f, "a", "1", 1000);
        put_for(f, "b", "1", 1000);
        if (flushed != 0)
            assert_int_equal(pawl_state_flush(f->log), 1);
        pass(2500);
        assert_int_equal(digest_of(f).pairs, flushed + 2);
        feed(f, 0, 1, 5);
        assert_int_equal(pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE), 0);
        assert_int_equal(m.batches, flushed + 1);
        assert_int_equal(digest_of(f).pairs, 2);
        assert_string_equal(look(f, f->table, "b"), "new");
        idle_for(f, 4000);
        assert_int_equal(digest_of(f).pairs, 1);
        assert_string_equal(scanned(f, NULL), "counter");
    }
    /* a batch that ends badly takes none along, and they go nevertheless */
    put_for(f, "a", "1", 1000);
    pass(1000);
    pawl_tx *tx = begin(f);
    put(tx, f->table, "x", "1");
    pawl_abort(tx);
    idle_for(f, 2000);
    assert_int_equal(digest_of(f).pairs, 1);
}

/* What was found expired and was put again before it could be removed stays. */
static void renewed_meanwhile(void **state) {
    struct fixture *f = *state;
    put_for(f, "a", "1", 1000);
    put_for(f, "b", "1", 1000);
    pass(2500);
    struct store_part *part = store_part(&f->log->store, f->table, 0);
    atomic_fetch_add(&part->in_use, 1); /* as a batch that has begun */
    chores(f);
    pawl_tx *tx = begin(f);
    put(tx, f->table, "a", "2");
    f->log->state.expiry.offered = false; /* this one takes nothing along */
    assert_int_equal(pawl_commit(tx, NULL), 0);
    f->log->state.expiry.offered = true;
    atomic_fetch_sub(&part->in_use, 1);
    store_part_release(&f->log->store, part);
    idle_for(f, 2500);
    assert_int_equal(digest_of(f).pairs, 1);
    assert_string_equal(scanned(f, NULL), "a");
}

/* A transaction that has begun before is told to begin again, as after any other change. */
static void beside_a_transaction(void **state) {
    struct fixture *f = *state;
    put_one(f, "a", "1");
    pawl_tx *tx = begin(f);
    put(tx, f->table, "b", "1");
    pass(TTL + 1000);
    chores(f);
    assert_int_equal(digest_of(f).pairs, 0);
    assert_int_equal(pawl_commit(tx, NULL), PAWL_BUSY);
}

/* ---- killed: each value says when it expires, so the log is judged without a model */

static void put_some(struct fixture *f, uint64_t *seed) {
    pawl_tx *tx = begin(f);
    for (uint32_t n = 1 + draw(seed, 6); n > 0; n--) {
        char key[8];
        uint64_t ttl = 1 + draw(seed, 3 * TTL);
        snprintf(key, sizeof key, "k%03u", draw(seed, KEYS));
        assert_true(pawl_tx_state_delete(tx, f->table, 0, key, 4) >= 0);
        uint64_t expiry = tx->clock_ms + ttl;
        assert_int_equal(
            pawl_tx_state_put_expiring(tx, f->table, 0, key, 4, &expiry, sizeof expiry, ttl), 0);
    }
    assert_int_equal(pawl_commit(tx, NULL), 0);
}

static void work_until_killed(struct fixture *f, uint64_t seed, unsigned steps) {
    for (unsigned i = 0; i < steps; i++) {
        uint32_t what = draw(&seed, 10);
        if (what < 5)
            put_some(f, &seed);
        else if (what < 8)
            pass(draw(&seed, TTL));
        else if (what == 8)
            assert_true(pawl_state_flush(f->log) >= 0);
        chores(f);
    }
    raise(SIGKILL);
}

/* What the log says that the partition holds is what it holds, and nobody sees what has expired. */
static void judge(struct fixture *f) {
    uint64_t now = clock_now(f);
    pawl_state_cursor *c;
    pawl_state_pair pair;
    assert_int_equal(pawl_table_scan(f->log, f->table, 0, NULL, &c), 0);
    while (pawl_state_next(c, &pair) == 1) {
        uint64_t expiry;
        assert_int_equal(pair.value_len, sizeof expiry);
        memcpy(&expiry, pair.value, sizeof expiry);
        assert_true(expiry > now);
    }
    pawl_state_close(c);
    struct store_range all = {.at_lsn = MEMTABLE_NEWEST};
    struct store_part *part = store_part(&f->log->store, f->table, 0);
    struct store_cursor *cursor;
    struct state_pair raw;
    struct state_sum sum = {0};
    assert_int_equal(store_cursor_take(&f->log->store, part, &all, NULL, &cursor), 0);
    while (store_cursor_next(cursor, &raw) == 1)
        digest_add(&sum, raw.key, raw.key_len, raw.value, raw.value_len);
    store_cursor_close(cursor);
    store_part_release(&f->log->store, part);
    pawl_table_digest d = digest_of(f);
    assert_int_equal(d.low, sum.low);
    assert_int_equal(d.high, sum.high);
    assert_int_equal(d.pairs, sum.pairs);
}

static void a_killed_process(void **state) {
    struct fixture *f = *state;
    for (unsigned round = 0; round < 12; round++) {
        assert_int_equal(pawl_close(f->log), 0);
        f->log = NULL;
        pid_t child = fork();
        if (child == 0) {
            open_expiring(f);
            work_until_killed(f, round, 5 + 9 * round);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        /* the child's clock went on, and this one didn't: it is behind what the log says */
        open_expiring(f);
        assert_true(round == 0 || clock_now(f) >= at.wall_ns / NS_PER_MS);
        judge(f);
        pass(draw(&(uint64_t){round}, 3 * TTL));
        chores(f);
        judge(f);
    }
    idle_for(f, 100 * TTL);
    assert_int_equal(digest_of(f).pairs, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(gone_when_its_time_is_over, setup_expiring, teardown),
        cmocka_unit_test_setup_teardown(each_put_begins_its_time_anew, setup_expiring, teardown),
        cmocka_unit_test_setup_teardown(one_reading_for_a_batch, setup_expiring, teardown),
        cmocka_unit_test_setup_teardown(counters_begin_again, setup_expiring, teardown),
        cmocka_unit_test_setup_teardown(what_is_refused, setup_expiring, teardown),
        cmocka_unit_test_setup_teardown(clocks_that_jump, setup_expiring, teardown),
        cmocka_unit_test_setup_teardown(the_clock_is_in_each_segment, setup_expiring, teardown),
        cmocka_unit_test_setup_teardown(random_changes, setup_expiring, teardown),
        cmocka_unit_test_setup_teardown(gone_without_a_touch, setup_expiring, teardown),
        cmocka_unit_test_setup_teardown(many_expire_together, setup_expiring, teardown),
        cmocka_unit_test_setup_teardown(beside_a_batch, setup_expiring, teardown),
        cmocka_unit_test_setup_teardown(renewed_meanwhile, setup_expiring, teardown),
        cmocka_unit_test_setup_teardown(beside_a_transaction, setup_expiring, teardown),
        cmocka_unit_test_setup_teardown(a_killed_process, setup_expiring, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
