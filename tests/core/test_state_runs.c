/* SPDX-License-Identifier: Apache-2.0 */
/* Run files: what is written is found again, by key and in order, both ways; a damaged file is
 * reported and never gives a wrong answer; a failed call leaves nothing that passes for a run. */
/* test-timeout: 300 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pawl.h"
#undef fail /* the library has one of its own */
#include "state/format_run.h"
#include "tests/support/ram_files.h"
#include "tests/support/test_dir.h"

#define LSN 77u
#define LEVEL 3u

/* ---- what the runs of this test hold: pair i of a shape, in ascending order */

struct shape {
    const char *name;
    uint32_t count;
    uint32_t key_len, value_len;
    uint32_t large_every; /* each of these has a value of large_len */
    uint32_t large_len;
    uint32_t delete_every, expire_every;
    bool long_prefix; /* keys begin alike, and differ in their last bytes only */
};

static const struct shape shapes[] = {
    {.name = "empty"},
    {.name = "one pair", .count = 1, .key_len = 16, .value_len = 8},
    {.name = "one delete", .count = 1, .key_len = 16, .delete_every = 1},
    {.name = "one value of no bytes", .count = 1, .key_len = 1},
    {.name = "two pairs", .count = 2, .key_len = 16, .value_len = 8},
    {.name = "one large value", .count = 1, .key_len = 16, .large_every = 1, .large_len = 4u << 20},
    {.name = "values that fill a block", .count = 40, .key_len = 16, .value_len = 4020},
    {.name = "values around a block",
     .count = 300,
     .key_len = 16,
     .value_len = 1000,
     .large_every = 7,
     .large_len = 4100},
    {.name = "some large values",
     .count = 60,
     .key_len = 16,
     .value_len = 100,
     .large_every = 9,
     .large_len = 300000},
    {.name = "small pairs", .count = 20000, .key_len = 4},
    {.name = "deletes only", .count = 5000, .key_len = 16, .delete_every = 1},
    {.name = "deletes and expiry",
     .count = 5000,
     .key_len = 16,
     .value_len = 30,
     .delete_every = 3,
     .expire_every = 2},
    {.name = "longest keys", .count = 200, .key_len = 8192, .value_len = 3, .long_prefix = true},
    {.name = "longest keys that differ early", .count = 60, .key_len = 8192},
    {.name = "long equal prefixes",
     .count = 8000,
     .key_len = 300,
     .value_len = 8,
     .long_prefix = true},
    {.name = "many pairs",
     .count = 200000,
     .key_len = 16,
     .value_len = 8,
     .delete_every = 50,
     .expire_every = 10},
};
#define SHAPES (sizeof shapes / sizeof shapes[0])

static uint64_t mix(uint64_t x) {
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* The key of pair i: ascending, with a step of 2, so that there are absent keys between all. */
static uint32_t key_of(const struct shape *s, uint32_t i, bool absent, uint8_t *out) {
    uint32_t number = 2 * i + (absent ? 1 : 0), len = STORE_PREFIX_SIZE + s->key_len;
    memset(out, 'k', len);
    memset(out, 0, STORE_PREFIX_SIZE);
    out[3] = 5;                                 /* the table */
    out[7] = (uint8_t)(i * 3 / (s->count + 1)); /* three partitions, in order */
    if (s->key_len == 1) {
        out[STORE_PREFIX_SIZE] = (uint8_t)number;
        return len;
    }
    uint8_t *at = s->long_prefix ? out + len - 4 : out + STORE_PREFIX_SIZE;
    for (int b = 0; b < 4; b++)
        at[b] = (uint8_t)(number >> (24 - 8 * b));
    if (!s->long_prefix && s->key_len == 16) /* of different lengths */
        len -= (uint32_t)(mix(i) % 9);
    return len;
}

static void pair_of(const struct shape *s, uint32_t i, uint8_t *key, uint8_t *value,
                    struct state_pair *p) {
    memset(p, 0, sizeof *p);
    p->key = key;
    p->key_len = key_of(s, i, false, key);
    p->value = value;
    p->op = STATE_PUT;
    if (s->delete_every != 0 && i % s->delete_every == 0) {
        p->op = STATE_DELETE;
        return;
    }
    p->value_len = s->large_every != 0 && i % s->large_every == 0 ? s->large_len : s->value_len;
    if (p->value_len > 8)
        p->value_len -= s->large_every == 0 ? (uint32_t)(mix(i) % 5) : 0;
    if (s->expire_every != 0 && i % s->expire_every == 0)
        p->expiry_ms = 1000000 + mix(i) % 100000;
    memset(value, (int)(mix(i) & 0xff), p->value_len);
}

/* ---- a run in files of memory */

struct fixture {
    struct ram_files ram;
    struct mem mem;
    struct run_cache *cache;
    struct run_file *run;
    struct run_ident ident;
    struct run_summary sum;
    uint8_t *value; /* of the largest pair */
};

static const char NAME[] = "0000000000000009.run";

static void begin(struct fixture *x, uint64_t cache_bytes) {
    memset(x, 0, sizeof *x);
    ram_files_init(&x->ram);
    mem_init(&x->mem, 0);
    assert_int_equal(run_cache_create(&x->mem, cache_bytes, &x->cache), 0);
    x->ident = (struct run_ident){.run_id = 9, .level = LEVEL, .flush_lsn = LSN};
    memset(x->ident.log_id, 0x5a, sizeof x->ident.log_id);
    x->value = malloc(STORE_VALUE_MAX);
    assert_non_null(x->value);
}

static void end(struct fixture *x) {
    run_close(x->run);
    run_cache_destroy(x->cache);
    ram_files_end(&x->ram);
    free(x->value);
    assert_int_equal(x->mem.used, 0);
}

static int write_run(struct fixture *x, const struct shape *s) {
    static uint8_t key[STORE_KEY_MAX];
    struct run_writer *w;
    struct state_pair p;
    int rc = run_writer_open(&x->ram.seam, &x->mem, &x->ident, &w);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < s->count; i++) {
        pair_of(s, i, key, x->value, &p);
        rc = run_writer_add(w, &p);
        if (rc < 0) {
            assert_int_equal(run_writer_add(w, &p), rc); /* the error stays */
            run_writer_abandon(w);
            return rc;
        }
    }
    return run_writer_finish(w, &x->sum);
}

static int open_run(struct fixture *x) {
    return run_open(&x->ram.seam, &x->mem, x->cache, &x->ident, &x->run);
}

static void make(struct fixture *x, const struct shape *s, uint64_t cache_bytes) {
    begin(x, cache_bytes);
    assert_int_equal(write_run(x, s), 0);
    assert_int_equal(x->sum.pairs, s->count);
    x->ident.length = x->sum.length;
    x->ident.header_hash = x->sum.header_hash;
    assert_int_equal(open_run(x), 0);
}

static void same_pair(const struct state_pair *a, const struct state_pair *b) {
    assert_int_equal(a->key_len, b->key_len);
    assert_memory_equal(a->key, b->key, a->key_len);
    assert_int_equal(a->op, b->op);
    assert_true(a->expiry_ms == b->expiry_ms);
    assert_int_equal(a->value_len, b->value_len);
    if (a->value_len != 0)
        assert_memory_equal(a->value, b->value, a->value_len);
}

/* ---- everything is found */

static void check_gets(struct fixture *x, const struct shape *s) {
    static uint8_t key[STORE_KEY_MAX], other[STORE_KEY_MAX];
    struct state_pair want, got;
    struct run_pin pin = {0};
    for (uint32_t i = 0; i < s->count; i++) {
        pair_of(s, i, key, x->value, &want);
        assert_int_equal(run_get(x->run, key, want.key_len, &pin, &got), 1);
        same_pair(&got, &want);
        run_unpin(&pin);
        if (i % 16 == 0) {
            assert_int_equal(run_get_likely(x->run, key, want.key_len, &pin, &got), 1);
            same_pair(&got, &want);
            run_unpin(&pin);
        }
        uint32_t len = key_of(s, i, true, other);
        assert_int_equal(run_get(x->run, other, len, &pin, &got), 0);
        assert_int_equal(run_get_likely(x->run, other, len, &pin, &got), 0);
        if (want.key_len > 1)
            assert_int_equal(run_get(x->run, key, want.key_len - 1, &pin, &got), 0);
    }
    assert_int_equal(run_get(x->run, "", 0, &pin, &got), 0);
    assert_int_equal(run_get(x->run, "\xff\xff", 2, &pin, &got), 0);
    assert_null(pin.block);
}

static void stands_at(struct fixture *x, const struct shape *s, const struct run_cursor *c,
                      uint32_t i) {
    static uint8_t key[STORE_KEY_MAX];
    struct state_pair want;
    assert_non_null(run_cursor_pair(c));
    pair_of(s, i, key, x->value, &want);
    same_pair(run_cursor_pair(c), &want);
}

/* Does the cursor stand at pair i, or nowhere if there is none? */
static void check_place(struct fixture *x, const struct shape *s, const struct run_cursor *c,
                        int rc, int64_t i) {
    bool there = i >= 0 && i < s->count;
    assert_int_equal(rc, there);
    if (there)
        stands_at(x, s, c, (uint32_t)i);
    else
        assert_null(run_cursor_pair(c));
}

static void check_cursors(struct fixture *x, const struct shape *s, uint32_t flags) {
    static uint8_t key[STORE_KEY_MAX];
    struct run_cursor *c;
    int64_t n = s->count;
    assert_int_equal(run_cursor_open(x->run, flags, &c), 0);
    assert_null(run_cursor_pair(c));
    assert_int_equal(run_cursor_next(c), 0);
    for (int64_t i = 0; i <= n; i++)
        check_place(x, s, c, i == 0 ? run_cursor_seek_ge(c, NULL, 0) : run_cursor_next(c), i);
    for (int64_t i = n - 1; i >= -1; i--)
        check_place(x, s, c, i == n - 1 ? run_cursor_seek_last(c) : run_cursor_prev(c), i);
    check_place(x, s, c, run_cursor_seek_le(c, NULL, 0), -1);
    int64_t step = n > 3000 ? n / 3000 : 1;
    for (int64_t i = 0; i < n; i += step) {
        uint32_t len = key_of(s, (uint32_t)i, false, key);
        check_place(x, s, c, run_cursor_seek_ge(c, key, len), i);
        check_place(x, s, c, run_cursor_next(c), i + 1);
        check_place(x, s, c, run_cursor_seek_le(c, key, len), i);
        check_place(x, s, c, run_cursor_prev(c), i - 1);
        len = key_of(s, (uint32_t)i, true, key);
        check_place(x, s, c, run_cursor_seek_ge(c, key, len), i + 1);
        check_place(x, s, c, run_cursor_seek_le(c, key, len), i);
    }
    run_cursor_close(c);
}

static void everything_is_found(void **state) {
    (void)state;
    for (size_t i = 0; i < SHAPES; i++) {
        struct fixture x;
        print_message("  %s\n", shapes[i].name);
        make(&x, &shapes[i], i % 2 == 0 ? 64u << 20 : 64u << 10);
        assert_int_equal(run_verify(x.run, NULL, NULL), 0);
        check_gets(&x, &shapes[i]);
        check_cursors(&x, &shapes[i], 0);
        check_cursors(&x, &shapes[i], RUN_CURSOR_SEQUENTIAL);
        end(&x);
    }
}

/* With index and filter in the cache, a get of a pair is one read, and a get of a key that isn't
 * there nearly always none. */
static void a_get_is_one_read(void **state) {
    (void)state;
    const struct shape s = {.name = "", .count = 50000, .key_len = 20, .value_len = 100};
    struct fixture x;
    uint8_t key[64], *value;
    struct run_pin pin = {0};
    struct state_pair p;
    make(&x, &s, 64u << 20);
    value = malloc(128);
    assert_non_null(value);
    uint32_t len;
    for (uint32_t i = 0; i < s.count; i++) { /* each filter and index block, few blocks of pairs */
        len = key_of(&s, i, true, key);
        assert_int_equal(run_get(x.run, key, len, &pin, &p), 0);
    }
    uint64_t reads = x.ram.reads;
    for (uint32_t i = 0; i < s.count; i++) {
        len = key_of(&s, i, true, key);
        assert_int_equal(run_get(x.run, key, len, &pin, &p), 0);
    }
    assert_int_equal(x.ram.reads, reads); /* what passed the filter is in the cache by now */
    uint32_t ones = 0;
    for (uint32_t i = 0; i < s.count; i += 97) {
        reads = x.ram.reads;
        len = key_of(&s, i, false, key);
        assert_int_equal(run_get(x.run, key, len, &pin, &p), 1);
        run_unpin(&pin);
        assert_true(x.ram.reads - reads <= 1);
        ones += x.ram.reads - reads == 1;
    }
    assert_true(ones > 200);
    free(value);
    end(&x);
}

/* A writer takes the same memory for many pairs as for few. */
static void a_writer_takes_little_memory(void **state) {
    (void)state;
    struct fixture x;
    struct run_writer *w;
    uint8_t key[24] = {0};
    begin(&x, 64u << 10);
    uint64_t before = x.mem.used;
    assert_int_equal(run_writer_open(&x.ram.seam, &x.mem, &x.ident, &w), 0);
    struct state_pair p = {
        .key = key, .key_len = 24, .value = key, .value_len = 8, .op = STATE_PUT};
    for (uint64_t i = 0; i < 1000000; i++) {
        for (int b = 0; b < 8; b++)
            key[8 + b] = (uint8_t)(i >> (56 - 8 * b));
        assert_int_equal(run_writer_add(w, &p), 0);
        assert_true(x.mem.used - before < 256u << 10);
    }
    assert_int_equal(run_writer_finish(w, &x.sum), 0);
    assert_int_equal(x.mem.used, before);
    assert_int_equal(open_run(&x), 0);
    assert_int_equal(run_verify(x.run, NULL, NULL), 0);
    end(&x);
}

/* ---- damage */

static const struct shape small = {.name = "small",
                                   .count = 100,
                                   .key_len = 16,
                                   .value_len = 30,
                                   .delete_every = 7,
                                   .expire_every = 5,
                                   .large_every = 60,
                                   .large_len = 5000};

struct seen {
    uint64_t count, offset, length;
};

static int see(void *arg, const struct run_damage *d) {
    struct seen *s = arg;
    s->count++;
    s->offset = d->offset;
    s->length = d->length;
    assert_non_null(d->what);
    assert_true(d->code == PAWL_DAMAGED || d->code == PAWL_IO);
    return 0;
}

static void reopen(struct fixture *x) {
    run_close(x->run);
    x->run = NULL;
    run_cache_shrink(x->cache, 0);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STEP 13 /* the plain build tries all */
#else
#define STEP 1
#endif

/* Each flipped bit is found by run_verify(), at its block; and no get gives a wrong answer. */
static void every_bit_counts(void **state) {
    (void)state;
    struct fixture x;
    static uint8_t key[STORE_KEY_MAX];
    struct run_pin pin = {0};
    struct state_pair want, got;
    make(&x, &small, 1u << 20);
    for (uint64_t bit = 0; bit < x.sum.length * 8; bit += STEP) {
        struct seen seen = {0};
        reopen(&x);
        x.ram.flip = bit;
        int rc = open_run(&x);
        if (bit / 8 < RUN_UNIT) {
            assert_int_equal(rc, PAWL_DAMAGED);
            continue;
        }
        assert_int_equal(rc, 0);
        if (bit % 3 == 0) {
            assert_int_equal(run_verify(x.run, see, &seen), PAWL_DAMAGED);
            assert_true(seen.count >= 1);
            if (seen.count == 1)
                assert_true(bit / 8 >= seen.offset && bit / 8 < seen.offset + seen.length);
        } else {
            assert_int_equal(run_verify(x.run, NULL, NULL), PAWL_DAMAGED);
        }
        if (bit % 61 != 0)
            continue;
        for (uint32_t i = 0; i < small.count; i += 11) {
            pair_of(&small, i, key, x.value, &want);
            rc = run_get(x.run, key, want.key_len, &pin, &got);
            assert_true(rc == 1 || rc == PAWL_DAMAGED);
            if (rc == 1)
                same_pair(&got, &want);
            run_unpin(&pin);
        }
    }
    x.ram.flip = UINT64_MAX;
    end(&x);
}

/* The message says which file, where, and between which keys. */
static void damage_is_told_with_its_keys(void **state) {
    (void)state;
    struct fixture x;
    struct run_pin pin = {0};
    struct state_pair got;
    static uint8_t key[STORE_KEY_MAX];
    pawl_error e;
    make(&x, &shapes[SHAPES - 1], 1u << 20);
    x.ram.flip = (uint64_t)RUN_UNIT * 8 * 5 + 1234;
    int rc = 1;
    for (uint32_t i = 0; i < 2000 && rc != PAWL_DAMAGED; i++) {
        rc = run_get(x.run, key, key_of(&shapes[SHAPES - 1], i, false, key), &pin, &got);
        run_unpin(&pin);
    }
    assert_int_equal(rc, PAWL_DAMAGED);
    pawl_last_error(&e);
    assert_string_equal(e.file, NAME);
    assert_non_null(strstr(e.message, "at offset 20480"));
    assert_non_null(strstr(e.message, "between 5/0 "));
    x.ram.flip = UINT64_MAX;
    end(&x);
}

static void every_truncation_counts(void **state) {
    (void)state;
    struct fixture x;
    make(&x, &small, 1u << 20);
    struct ram_file *f = ram_files_find(&x.ram, NAME);
    for (uint64_t size = 0; size < x.sum.length; size += size % 4096 == 4095 ? 1 : 455) {
        reopen(&x);
        f->size = size;
        assert_int_equal(open_run(&x), PAWL_DAMAGED);
    }
    f->size = x.sum.length;
    assert_int_equal(open_run(&x), 0);
    for (uint64_t size = 4096; size < x.sum.length; size += 4096) { /* while it is open */
        run_cache_shrink(x.cache, 0);
        f->size = size;
        assert_int_equal(run_verify(x.run, NULL, NULL), PAWL_DAMAGED);
    }
    f->size = x.sum.length;
    end(&x);
}

/* A file of another log, another run, another version, or one that has the same name and size. */
static void only_the_run_that_the_log_names_opens(void **state) {
    (void)state;
    struct fixture x;
    make(&x, &small, 1u << 20);
    reopen(&x);
    struct run_ident good = x.ident;
    static const int offsets[] = {0, 15};
    for (size_t i = 0; i < 2; i++) {
        x.ident.log_id[offsets[i]] ^= 1;
        assert_int_equal(open_run(&x), PAWL_FOREIGN);
        x.ident = good;
    }
    x.ident.flush_lsn++;
    assert_int_equal(open_run(&x), PAWL_FOREIGN);
    x.ident = good;
    x.ident.level++;
    assert_int_equal(open_run(&x), PAWL_FOREIGN);
    x.ident = good;
    x.ident.header_hash++;
    assert_int_equal(open_run(&x), PAWL_FOREIGN);
    x.ident = good;
    x.ident.length += RUN_UNIT;
    assert_int_equal(open_run(&x), PAWL_FOREIGN);
    x.ident = good;
    x.ident.run_id++;
    assert_int_equal(open_run(&x), PAWL_NOT_FOUND);
    x.ident = good;

    struct ram_file *f = ram_files_find(&x.ram, NAME);
    struct run_ident seen;
    ram_files_put(&x.ram, "000000000000000a.run", f->data, f->size);
    assert_int_equal(run_identify(&x.ram.seam, &x.mem, "000000000000000a.run", &seen),
                     RUN_FILE_WHOLE);
    assert_int_equal(seen.run_id, 9);
    x.ident.run_id = 10;
    x.ident.header_hash = 0;
    assert_int_equal(open_run(&x), PAWL_FOREIGN);
    x.ident = good;

    struct run_header h;
    struct frame_key key;
    assert_int_equal(run_header_decode(f->data, &h), RUN_HEADER_GOOD);
    frame_key_expand(h.key, &key);
    f->data[8] = 2; /* a later version, which hashes its header in the same way */
    uint64_t hash = frame_hash(f->data, RUN_UNIT - 8, &key);
    memcpy(f->data + RUN_UNIT - 8, &hash, 8);
    assert_int_equal(open_run(&x), PAWL_VERSION);
    assert_int_equal(run_identify(&x.ram.seam, &x.mem, NAME, &seen), RUN_FILE_OTHER);
    memset(f->data, 0, RUN_UNIT); /* what comes after it may be somebody's */
    assert_int_equal(run_identify(&x.ram.seam, &x.mem, NAME, &seen), RUN_FILE_OTHER);
    f->size = RUN_UNIT;
    assert_int_equal(run_identify(&x.ram.seam, &x.mem, NAME, &seen), RUN_FILE_BLANK);
    f->size = 0;
    assert_int_equal(run_identify(&x.ram.seam, &x.mem, NAME, &seen), RUN_FILE_BLANK);
    end(&x);
}

/* ---- failing calls */

/* The header comes last, after a sync of all that it vouches for. */
static void the_header_comes_last(void **state) {
    (void)state;
    struct fixture x;
    begin(&x, 1u << 20);
    assert_int_equal(write_run(&x, &small), 0);
    assert_string_equal(x.ram.trace, "hswshsd");
    end(&x);
}

/* Each call of a writer fails in turn: no file is left, or one that says that it is unfinished. */
static void each_call_of_a_writer_fails(void **state) {
    (void)state;
    static const struct {
        int error, code;
        bool on;
    } kinds[] = {{-ENOSPC, PAWL_FULL, true}, {-EIO, PAWL_IO, false}, {-EIO, PAWL_IO, true}};
    const struct shape *s = &shapes[8]; /* several writes */
    for (size_t k = 0; k < 3; k++) {
        for (int64_t n = 0;; n++) {
            struct fixture x;
            struct run_ident seen;
            begin(&x, 1u << 20);
            x.ram.fail_at = n;
            x.ram.error = kinds[k].error;
            x.ram.fail_on = kinds[k].on;
            int rc = write_run(&x, s);
            bool done = x.ram.fail_at >= 0 && !(kinds[k].on && rc < 0);
            x.ram.fail_at = -1;
            if (done) {
                assert_int_equal(rc, 0);
                assert_true(n > 10);
                end(&x);
                break;
            }
            assert_int_equal(rc, kinds[k].code);
            if (ram_files_find(&x.ram, NAME) != NULL) {
                rc = run_identify(&x.ram.seam, &x.mem, NAME, &seen);
                assert_true(kinds[k].on); /* it couldn't be removed */
                assert_true(rc == RUN_FILE_UNFINISHED || rc == RUN_FILE_BLANK ||
                            /* all was there but the name's sync, or the header's */
                            rc == RUN_FILE_WHOLE);
                if (rc != RUN_FILE_BLANK)
                    assert_memory_equal(seen.log_id, x.ident.log_id, 16);
            }
            end(&x);
        }
    }
}

/* A file of that name is never written over. */
static void a_file_is_never_written_over(void **state) {
    (void)state;
    struct fixture x;
    begin(&x, 1u << 20);
    ram_files_put(&x.ram, NAME, "mine", 4);
    assert_int_equal(write_run(&x, &small), PAWL_EXISTS);
    assert_memory_equal(ram_files_find(&x.ram, NAME)->data, "mine", 4);
    assert_int_equal(ram_files_find(&x.ram, NAME)->size, 4);
    end(&x);
}

static void each_call_of_a_reader_fails(void **state) {
    (void)state;
    struct fixture x;
    static uint8_t key[STORE_KEY_MAX];
    struct state_pair got;
    make(&x, &shapes[8], 0);
    for (int64_t n = 0;; n++) {
        reopen(&x);
        x.ram.fail_at = n;
        x.ram.error = -EIO;
        x.ram.fail_on = true; /* a failed read-ahead alone is no harm */
        int rc = open_run(&x);
        struct run_pin pin = {0};
        if (rc == 0)
            rc = run_get(x.run, key, key_of(&shapes[8], 30, false, key), &pin, &got);
        run_unpin(&pin);
        struct run_cursor *c = NULL;
        if (rc == 1)
            rc = run_cursor_open(x.run, 0, &c);
        if (rc == 0)
            rc = run_cursor_seek_ge(c, NULL, 0);
        while (rc == 1)
            rc = run_cursor_next(c);
        run_cursor_close(c);
        if (rc == 0)
            rc = run_verify(x.run, NULL, NULL) == 0 ? 0 : PAWL_IO;
        x.ram.fail_at = -1;
        assert_true(rc == 0 || rc == PAWL_IO);
        if (rc == 0) {
            assert_true(n > 10);
            break;
        }
    }
    end(&x);
}

/* Each allocation fails in turn: MEMORY, and nothing is left. */
static void each_allocation_fails(void **state) {
    (void)state;
    for (int64_t n = 0;; n++) {
        struct fixture x;
        static uint8_t key[STORE_KEY_MAX];
        struct run_pin pin = {0};
        struct state_pair got;
        begin(&x, 1u << 20);
        atomic_store(&x.mem.fail_at, n);
        int rc = write_run(&x, &small);
        if (rc < 0)
            assert_null(ram_files_find(&x.ram, NAME));
        if (rc == 0)
            rc = open_run(&x);
        if (rc == 0)
            rc = run_get(x.run, key, key_of(&small, 30, false, key), &pin, &got);
        run_unpin(&pin);
        if (rc == 1)
            rc = run_verify(x.run, NULL, NULL);
        bool done = atomic_load(&x.mem.fail_at) >= 0;
        assert_true(rc == PAWL_MEMORY || rc == 0); /* a cache drops blocks for another block */
        end(&x);
        if (done) {
            assert_int_equal(rc, 0);
            break;
        }
    }
}

static void wrong_pairs_are_refused(void **state) {
    (void)state;
    struct fixture x;
    struct run_writer *w;
    static const uint8_t key[STORE_KEY_MAX + 1] = "bbbbbbbbb";
    const struct state_pair good = {.key = key, .key_len = 9, .op = STATE_PUT};
    struct state_pair bad[6];
    for (int i = 0; i < 6; i++)
        bad[i] = good;
    bad[0].key_len = 0;
    bad[1].key_len = STORE_KEY_MAX + 1;
    bad[2].value_len = STORE_VALUE_MAX + 1;
    bad[3].op = 3;
    bad[4].op = STATE_DELETE;
    bad[4].expiry_ms = 1;
    for (int i = 0; i < 6; i++) { /* the last one: the same key again */
        begin(&x, 1u << 20);
        assert_int_equal(run_writer_open(&x.ram.seam, &x.mem, &x.ident, &w), 0);
        if (i == 5)
            assert_int_equal(run_writer_add(w, &good), 0);
        assert_int_equal(run_writer_add(w, &bad[i]), PAWL_INVALID);
        assert_int_equal(run_writer_finish(w, &x.sum), PAWL_INVALID);
        assert_null(ram_files_find(&x.ram, NAME));
        end(&x);
    }
}

static void names_are_exact(void **state) {
    (void)state;
    uint32_t id;
    assert_true(run_parse_name(NAME, &id));
    assert_int_equal(id, 9);
    static const char *const bad[] = {"9.run",
                                      "0000000000000009.ru",
                                      "0000000000000009.runs",
                                      "000000000000000A.run",
                                      "0000000100000009.run",
                                      ""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(run_parse_name(bad[i], &id));
}

/* ---- threads, and a real file */

struct reader {
    pthread_t thread;
    struct run_file *run;
    const struct shape *shape;
    uint64_t seed;
    uint32_t wrong;
};

static void *read_much(void *arg) {
    struct reader *r = arg;
    uint8_t key[64], value[64];
    for (uint32_t i = 0; i < 20000; i++) {
        struct state_pair want, got;
        struct run_pin pin = {0};
        uint32_t n = (uint32_t)(mix(r->seed + i) % r->shape->count);
        pair_of(r->shape, n, key, value, &want);
        int rc = run_get(r->run, key, want.key_len, &pin, &got);
        r->wrong += rc != 1 || got.value_len != want.value_len ||
                    memcmp(got.value, want.value, want.value_len) != 0;
        run_unpin(&pin);
    }
    return NULL;
}

/* On a real file, two threads read through a cache of a few blocks. */
static void threads_share_a_small_cache(void **state) {
    (void)state;
    const struct shape s = {.name = "", .count = 20000, .key_len = 16, .value_len = 40};
    char dir[64];
    assert_int_equal(test_dir_make(dir, "/var/tmp/test_state_runs"), 0);
    static const int backends[] = {PAWL_BACKEND_POSIX, PAWL_BACKEND_AUTO};
    for (uint32_t b = 0; b < 2; b++) {
        struct seam *io;
        struct fixture x;
        struct run_writer *w;
        struct state_pair p;
        uint8_t key[64];
        begin(&x, 24 * RUN_UNIT);
        assert_int_equal(seam_create(dir, true, backends[b], PAWL_DIRECT_AUTO, &io), 0);
        x.ident.run_id = 100 + b;
        assert_int_equal(run_writer_open(io, &x.mem, &x.ident, &w), 0);
        for (uint32_t i = 0; i < s.count; i++) {
            pair_of(&s, i, key, x.value, &p);
            assert_int_equal(run_writer_add(w, &p), 0);
        }
        assert_int_equal(run_writer_finish(w, &x.sum), 0);
        x.ident.length = x.sum.length;
        assert_int_equal(run_open(io, &x.mem, x.cache, &x.ident, &x.run), 0);
        assert_int_equal(run_verify(x.run, NULL, NULL), 0);
        struct reader r[2];
        for (uint32_t i = 0; i < 2; i++) {
            r[i] = (struct reader){.run = x.run, .shape = &s, .seed = i * 1000003};
            assert_int_equal(pthread_create(&r[i].thread, NULL, read_much, &r[i]), 0);
        }
        struct run_cursor *c;
        assert_int_equal(run_cursor_open(x.run, RUN_CURSOR_SEQUENTIAL, &c), 0);
        uint32_t n = 0;
        for (int rc = run_cursor_seek_ge(c, NULL, 0); rc == 1; rc = run_cursor_next(c))
            n++;
        assert_int_equal(n, s.count);
        run_cursor_close(c);
        for (uint32_t i = 0; i < 2; i++) {
            pthread_join(r[i].thread, NULL);
            assert_int_equal(r[i].wrong, 0);
        }
        struct run_cache_counts counts;
        run_cache_count(x.cache, &counts);
        assert_true(counts.bytes <= 24 * RUN_UNIT && counts.hits > 0 && counts.misses > 0);
        end(&x);
        io->ops->destroy(io);
    }
    assert_int_equal(test_dir_remove(dir), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_found),
        cmocka_unit_test(a_get_is_one_read),
        cmocka_unit_test(a_writer_takes_little_memory),
        cmocka_unit_test(every_bit_counts),
        cmocka_unit_test(damage_is_told_with_its_keys),
        cmocka_unit_test(every_truncation_counts),
        cmocka_unit_test(only_the_run_that_the_log_names_opens),
        cmocka_unit_test(the_header_comes_last),
        cmocka_unit_test(each_call_of_a_writer_fails),
        cmocka_unit_test(a_file_is_never_written_over),
        cmocka_unit_test(each_call_of_a_reader_fails),
        cmocka_unit_test(each_allocation_fails),
        cmocka_unit_test(wrong_pairs_are_refused),
        cmocka_unit_test(names_are_exact),
        cmocka_unit_test(threads_share_a_small_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
