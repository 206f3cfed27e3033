/* SPDX-License-Identifier: Apache-2.0 */
/* Run files: any bytes, with their hashes mended if the last byte is odd. What run_verify() finds
 * whole has its pairs in order, both ways, and each is found by its key. */
#include <stdlib.h>
#include <string.h>

#include "state/format_run.h"
#include "tests/support/ram_files.h"

#define SIZE_MAX_TRIED (64u * RUN_UNIT)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void need(bool condition) {
    if (!condition)
        abort();
}

static void mend(uint8_t *file, size_t size) {
    struct frame_key key;
    uint64_t hash;
    frame_key_expand(file + 32, &key);
    memcpy(file + 88, &(uint64_t){size}, 8);
    hash = frame_hash(file, RUN_UNIT - 8, &key);
    memcpy(file + RUN_UNIT - 8, &hash, 8);
    for (size_t at = RUN_UNIT; at < size;) {
        uint32_t length;
        memcpy(&length, file + at + 12, 4);
        size_t units = length == 0 ? 1 : run_units(length);
        if (units > (size - at) / RUN_UNIT)
            units = 1;
        memcpy(file + at + 8, &(uint32_t){(uint32_t)(at / RUN_UNIT)}, 4);
        run_block_seal(file + at, (uint32_t)units, &key);
        at += units * RUN_UNIT;
    }
}

/* Walks through the run, and back. A damaged one ends with an error somewhere. */
static void walk(struct run_file *r, bool whole) {
    struct run_cursor *c;
    struct run_summary sum;
    uint8_t last[STORE_KEY_MAX];
    uint32_t last_len = 0;
    uint64_t there = 0, back = 0;
    run_summarise(r, &sum);
    need(run_cursor_open(r, 0, &c) == 0);
    int rc = run_cursor_seek_ge(c, NULL, 0);
    for (; rc == 1; rc = run_cursor_next(c), there++) {
        const struct state_pair *p = run_cursor_pair(c);
        struct run_pin pin = {0};
        struct state_pair got;
        need(there == 0 || bytes_compare(last, last_len, p->key, p->key_len) < 0);
        memcpy(last, p->key, p->key_len);
        last_len = p->key_len;
        int found = run_get(r, p->key, p->key_len, &pin, &got);
        need(!whole || found == 1);
        need(found != 1 || (got.value_len == p->value_len && got.op == p->op));
        run_unpin(&pin);
    }
    need(!whole || (rc == 0 && there == sum.pairs));
    for (rc = run_cursor_seek_last(c); rc == 1; rc = run_cursor_prev(c))
        back++;
    need(!whole || (rc == 0 && back == sum.pairs));
    run_cursor_close(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct ram_files ram;
    struct mem mem;
    struct run_cache *cache;
    struct run_file *r;
    struct run_ident ident = {0};
    struct run_header h;
    char name[RUN_NAME_SIZE];
    size_t whole = size / RUN_UNIT * RUN_UNIT;
    if (whole == 0 || whole > SIZE_MAX_TRIED)
        return 0;
    ram_files_init(&ram);
    mem_init(&mem, 64u << 20);
    run_name(name, 1);
    struct ram_file *f = ram_files_put(&ram, name, data, whole);
    if ((data[size - 1] & 1) != 0)
        mend(f->data, whole);
    need(run_cache_create(&mem, 16 * RUN_UNIT, &cache) == 0);
    if (run_header_decode(f->data, &h) == RUN_HEADER_GOOD) {
        memcpy(ident.log_id, h.log_id, sizeof ident.log_id);
        h.run_id = ident.run_id = 1;
        ident.level = h.level;
        ident.flush_lsn = h.flush_lsn;
        run_header_encode(f->data, &h);
    }
    if (run_open(&ram.seam, &mem, cache, &ident, &r) == 0) {
        walk(r, run_verify(r, NULL, NULL) == 0);
        run_close(r);
    }
    run_cache_destroy(cache);
    need(atomic_load(&mem.used) == 0);
    ram_files_end(&ram);
    return 0;
}
