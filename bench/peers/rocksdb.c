/* SPDX-License-Identifier: Apache-2.0
 *
 * RocksDB in its fastest setup with a durable commit each time: one WriteBatch per commit, sync, no
 * compression, recycled log files (so that a sync needs no commit of the file system's journal),
 * one iterator per pass. `bench --tune` compares the settings.
 */
#include <rocksdb/c.h>
#include <stdlib.h>

#include "peers.h"

struct peer_rocksdb {
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_writeoptions_t *write;
    rocksdb_readoptions_t *read;
    rocksdb_writebatch_t *batch;
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

static void *open_it(const struct setting *s) {
    struct peer_rocksdb *p = must_allocate(sizeof *p);
    char *error = NULL;
    rocksdb_options_t *o = p->options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(o, 1);
    rocksdb_options_set_compression(o, rocksdb_no_compression);
    rocksdb_options_set_write_buffer_size(o, (size_t)setting_tuned(s, "buffer", 32) << 20);
    rocksdb_options_set_recycle_log_file_num(o, (size_t)setting_tuned(s, "recycle", 4));
    rocksdb_options_set_max_background_jobs(o, (int)setting_tuned(s, "jobs", 2));
    rocksdb_options_set_enable_pipelined_write(o, (unsigned char)setting_tuned(s, "pipelined", 0));
    rocksdb_options_set_manual_wal_flush(o, (unsigned char)setting_tuned(s, "manual", 0));
    p->db = rocksdb_open(o, s->dir, &error);
    must(error, "open");
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

static void close_it(void *peer) {
    struct peer_rocksdb *p = peer;
    rocksdb_writebatch_destroy(p->batch);
    rocksdb_readoptions_destroy(p->read);
    rocksdb_writeoptions_destroy(p->write);
    rocksdb_close(p->db);
    rocksdb_options_destroy(p->options);
    free(p);
}

static const struct peer_ops ops = {open_it, put, process, close_it};

void rocksdb_step(const struct setting *s, struct turn *t) {
    peer_step(&ops, s, t);
}

void rocksdb_append(const struct setting *s, struct turn *t) {
    peer_append(&ops, s, t);
}
