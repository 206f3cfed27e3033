/* SPDX-License-Identifier: Apache-2.0
 *
 * RocksDB in its fastest setup with a durable commit each time: one WriteBatch per commit, sync, no
 * compression, recycled log files (so that a sync needs no commit of the file system's journal),
 * one iterator per pass. `bench --tune` compares the settings.
 */
#include <rocksdb/c.h>
#include <stdlib.h>
#include <string.h>

#include "peers.h"

/* The counters that a batch has changed. */
struct slot {
    uint8_t key[KEY_BYTES];
    uint64_t n; /* 0: the slot is free */
};
struct seen {
    struct slot *slots;
    uint32_t size; /* a power of two */
};

struct peer_rocksdb {
    struct seen seen;
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_writeoptions_t *write;
    rocksdb_readoptions_t *read;
    rocksdb_writebatch_t *batch;
    rocksdb_column_family_handle_t *other, *counts; /* `counts`: it compacts by itself */
    rocksdb_block_based_table_options_t *table;
    uint8_t value[65536];
};

static void must(char *error, const char *what) {
    if (error != NULL)
        give_up("rocksdb, %s: %s", what, error);
}

static void key_of(char out[9], char table, uint64_t n) {
    out[0] = table;
    for (int i = 0; i < 8; i++)
        out[1 + i] = (char)(n >> (56 - 8 * i));
}

static void commit(struct peer_rocksdb *p) {
    char *error = NULL;
    rocksdb_write(p->db, p->write, p->batch, &error);
    must(error, "write");
    rocksdb_writebatch_clear(p->batch);
}

/* Fills several memtables without syncing. That leaves old logs, fully written, to be recycled, as
 * in a program that runs for days. */
static void warm_up(struct peer_rocksdb *p, size_t buffer) {
    char *error = NULL;
    rocksdb_flushoptions_t *f = rocksdb_flushoptions_create();
    rocksdb_writeoptions_set_sync(p->write, 0);
    for (int log = 0; log < 3; log++) {
        for (size_t done = 0; done < buffer; done += sizeof p->value) {
            rocksdb_writebatch_put(p->batch, "w", 1, (const char *)p->value, sizeof p->value);
            commit(p);
        }
        rocksdb_flush(p->db, f, &error);
        must(error, "flush");
    }
    rocksdb_flushoptions_destroy(f);
    rocksdb_writeoptions_set_sync(p->write, 1);
}

/* The counters in a family of their own. With a memory cap, half of it is for their memory tables
 * and a quarter for blocks. */
static void open_families(struct peer_rocksdb *p, const struct setting *s) {
    char *error = NULL;
    const char *names[] = {"default", "counts"};
    rocksdb_options_t *counts = rocksdb_options_create_copy(p->options);
    rocksdb_column_family_handle_t *handles[2];
    p->table = rocksdb_block_based_options_create();
    rocksdb_cache_t *cache = rocksdb_cache_create_lru(s->memory != 0 ? s->memory / 4 : 256u << 20);
    rocksdb_filterpolicy_t *filter = rocksdb_filterpolicy_create_bloom_full(10);
    rocksdb_block_based_options_set_block_cache(p->table, cache);
    rocksdb_block_based_options_set_filter_policy(p->table, filter);
    rocksdb_options_set_block_based_table_factory(counts, p->table);
    if (s->memory != 0)
        rocksdb_options_set_write_buffer_size(counts, s->memory / 4);
    else
        rocksdb_options_set_write_buffer_size(counts, 64u << 20);
    const rocksdb_options_t *options[] = {p->options, counts};
    p->db = rocksdb_open_column_families(p->options, s->dir, 2, names, options, handles, &error);
    must(error, "open");
    p->other = handles[0], p->counts = handles[1];
    rocksdb_cache_destroy(cache);
    rocksdb_options_destroy(counts);
}

static void *open_it(const struct setting *s) {
    struct peer_rocksdb *p = must_allocate(sizeof *p);
    rocksdb_options_t *o = p->options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(o, 1);
    rocksdb_options_set_create_missing_column_families(o, 1);
    rocksdb_options_set_compression(o, rocksdb_no_compression);
    rocksdb_options_set_write_buffer_size(o, (size_t)setting_tuned(s, "buffer", 32) << 20);
    rocksdb_options_set_recycle_log_file_num(o, (size_t)setting_tuned(s, "recycle", 4));
    rocksdb_options_set_max_background_jobs(o, (int)setting_tuned(s, "jobs", 2));
    rocksdb_options_set_enable_pipelined_write(o, (unsigned char)setting_tuned(s, "pipelined", 0));
    rocksdb_options_set_manual_wal_flush(o, (unsigned char)setting_tuned(s, "manual", 0));
    open_families(p, s);
    p->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(p->write, 1);
    p->read = rocksdb_readoptions_create();
    p->batch = rocksdb_writebatch_create();
    if (setting_tuned(s, "warm", 1))
        warm_up(p, (size_t)setting_tuned(s, "buffer", 32) << 20);
    return p;
}

static void put(void *peer, uint64_t first, uint32_t count, uint32_t record) {
    struct peer_rocksdb *p = peer;
    char key[9];
    for (uint64_t n = first; n < first + count; n++) {
        fill_record(p->value, record, n);
        key_of(key, 'i', n);
        rocksdb_writebatch_put(p->batch, key, sizeof key, (const char *)p->value, record);
    }
    commit(p);
}

static uint64_t process(void *peer, uint64_t from, uint32_t count) {
    struct peer_rocksdb *p = peer;
    char key[9];
    uint64_t n = from;
    rocksdb_iterator_t *it = rocksdb_create_iterator(p->db, p->read);
    key_of(key, 'i', from);
    rocksdb_iter_seek(it, key, sizeof key);
    for (; n < from + count && rocksdb_iter_valid(it); rocksdb_iter_next(it)) {
        size_t len, key_len;
        const char *v = rocksdb_iter_value(it, &len), *k = rocksdb_iter_key(it, &key_len);
        if (k[0] != 'i')
            break;
        key_of(key, 'o', n++);
        rocksdb_writebatch_put(p->batch, key, sizeof key, v, len);
    }
    rocksdb_iter_destroy(it);
    rocksdb_writebatch_put(p->batch, "p", 1, (const char *)&n, sizeof n);
    commit(p);
    return n - from;
}

static struct seen *seen_begin(struct peer_rocksdb *p, uint32_t count) {
    struct seen *seen = &p->seen;
    uint32_t size = 1024;
    while (size < 2 * count)
        size *= 2;
    if (size > seen->size) {
        free(seen->slots);
        seen->slots = must_allocate(size * sizeof *seen->slots);
        seen->size = size;
    }
    memset(seen->slots, 0, seen->size * sizeof *seen->slots);
    return seen;
}

/* Adds one to a counter: as this batch has it, else as the database does. */
static uint64_t add(struct peer_rocksdb *p, struct seen *seen, const char *key) {
    uint64_t at;
    memcpy(&at, key, sizeof at); /* the first half of a key is well mixed */
    for (at &= seen->size - 1; seen->slots[at].n != 0; at = (at + 1) & (seen->size - 1))
        if (memcmp(seen->slots[at].key, key, KEY_BYTES) == 0)
            return ++seen->slots[at].n;
    char *error = NULL;
    rocksdb_pinnableslice_t *v =
        rocksdb_get_pinned_cf(p->db, p->read, p->counts, key, KEY_BYTES, &error);
    must(error, "get");
    uint64_t n = 0;
    size_t len;
    if (v != NULL) {
        memcpy(&n, rocksdb_pinnableslice_value(v, &len), sizeof n);
        rocksdb_pinnableslice_destroy(v);
    }
    memcpy(seen->slots[at].key, key, KEY_BYTES);
    return seen->slots[at].n = n + 1;
}

static void seen_write(struct peer_rocksdb *p, struct seen *seen) {
    for (uint32_t i = 0; i < seen->size; i++)
        if (seen->slots[i].n != 0)
            rocksdb_writebatch_put_cf(p->batch, p->counts, (const char *)seen->slots[i].key,
                                      KEY_BYTES, (const char *)&seen->slots[i].n, 8);
}

static uint64_t keyed(void *peer, uint64_t from, uint32_t count) {
    struct peer_rocksdb *p = peer;
    char key[9];
    uint64_t n = from;
    struct seen *seen = seen_begin(p, count);
    rocksdb_iterator_t *it = rocksdb_create_iterator(p->db, p->read);
    key_of(key, 'i', from);
    rocksdb_iter_seek(it, key, sizeof key);
    for (; n < from + count && rocksdb_iter_valid(it); rocksdb_iter_next(it)) {
        size_t len, key_len;
        const char *v = rocksdb_iter_value(it, &len), *k = rocksdb_iter_key(it, &key_len);
        char out[KEY_BYTES + 8];
        if (k[0] != 'i')
            break;
        memcpy(out, v, KEY_BYTES);
        uint64_t sum = add(p, seen, out);
        memcpy(out + KEY_BYTES, &sum, sizeof sum);
        key_of(key, 'o', n++);
        rocksdb_writebatch_put(p->batch, key, sizeof key, out, sizeof out);
    }
    rocksdb_iter_destroy(it);
    seen_write(p, seen);
    rocksdb_writebatch_put(p->batch, "p", 1, (const char *)&n, sizeof n);
    commit(p);
    return n - from;
}

static void close_it(void *peer) {
    struct peer_rocksdb *p = peer;
    rocksdb_column_family_handle_destroy(p->counts);
    rocksdb_column_family_handle_destroy(p->other);
    rocksdb_block_based_options_destroy(p->table);
    free(p->seen.slots);
    rocksdb_writebatch_destroy(p->batch);
    rocksdb_readoptions_destroy(p->read);
    rocksdb_writeoptions_destroy(p->write);
    rocksdb_close(p->db);
    rocksdb_options_destroy(p->options);
    free(p);
}

static const struct peer_ops ops = {open_it, put, process, keyed, close_it};

void rocksdb_keyed(const struct setting *s, struct turn *t) {
    peer_keyed(&ops, s, t);
}

void rocksdb_step(const struct setting *s, struct turn *t) {
    peer_step(&ops, s, t);
}

void rocksdb_append(const struct setting *s, struct turn *t) {
    peer_append(&ops, s, t);
}
