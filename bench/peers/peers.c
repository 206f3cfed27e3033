/* SPDX-License-Identifier: Apache-2.0 */
#include "peers.h"

#include <stdlib.h>

const struct peer peers[] = {
#ifdef PEER_SQLITE
    {"SQLite", sqlite_step, sqlite_append, sqlite_keyed},
#endif
#ifdef PEER_LMDB
    {"LMDB", lmdb_step, lmdb_append, lmdb_keyed},
#endif
#ifdef PEER_ROCKSDB
    {"RocksDB", rocksdb_step, rocksdb_append, rocksdb_keyed},
#endif
    {NULL, NULL, NULL, NULL},
};
const size_t peer_count = sizeof peers / sizeof peers[0] - 1;

/* Runs both halves in turn. Each commit is durable before the next begins, as in programs that use
 * these libraries. */
static uint64_t steps(const struct peer_ops *ops, void *peer, const struct setting *s, uint64_t put,
                      uint64_t end) {
    uint64_t done = put;
    while (measure_now() < end) {
        ops->put(peer, put, s->batch, s->record);
        for (put += s->batch; done < put;)
            done += ops->process(peer, done, s->batch);
    }
    return done;
}

void peer_step(const struct peer_ops *ops, const struct setting *s, struct turn *t) {
    void *peer = ops->open(s);
    uint64_t warm = steps(ops, peer, s, 0, measure_now() + setting_warm_ns(s)), done = warm;
    for (uint64_t end; slice_begin(t, &end); slice_end(t))
        done = steps(ops, peer, s, done, end);
    t->records = done - warm;
    t->commits = 2 * (t->records / s->batch), t->payload = 2 * t->records * s->record;
    t->value = (double)t->records * 1e9 / (double)t->ns;
    ops->close(peer);
}

#define FIRST_BATCH 20000u /* each key is counted once, in fewer commits */

void peer_keyed(const struct peer_ops *ops, const struct setting *s, struct turn *t) {
    fill_keys(s);
    void *peer = ops->open(s);
    uint64_t put = 0, done = 0;
    while (put < s->keys) {
        uint64_t left = s->keys - put;
        ops->put(peer, put, left < FIRST_BATCH ? (uint32_t)left : FIRST_BATCH, s->record);
        for (put += left < FIRST_BATCH ? left : FIRST_BATCH; done < put;)
            done += ops->keyed(peer, done, FIRST_BATCH);
    }
    uint64_t before = done;
    for (uint64_t end; slice_begin(t, &end); slice_end(t))
        while (measure_now() < end) {
            ops->put(peer, put, s->batch, s->record);
            for (put += s->batch; done < put;)
                done += ops->keyed(peer, done, s->batch);
        }
    t->records = done - before;
    t->commits = 2 * (t->records / s->batch);
    t->payload = t->records * (2 * KEY_BYTES + 8 + KEY_BYTES + 8);
    t->value = (double)t->records * 1e9 / (double)t->ns;
    ops->close(peer);
}

void peer_append(const struct peer_ops *ops, const struct setting *s, struct turn *t) {
    struct hdr *h = must_allocate(sizeof *h);
    void *peer = ops->open(s);
    uint64_t put = 0;
    for (; put < 50ull * s->batch; put += s->batch)
        ops->put(peer, put, s->batch, s->record);
    for (uint64_t end; slice_begin(t, &end); slice_end(t))
        for (uint64_t begun = measure_now(), now; begun < end; begun = now) {
            ops->put(peer, put, s->batch, s->record);
            put += s->batch;
            now = measure_now();
            hdr_add(h, now - begun);
        }
    t->commits = h->count, t->records = h->count * s->batch, t->payload = t->records * s->record;
    turn_latencies(t, h);
    t->value = s->p50 ? (double)t->p50 : (double)t->commits * 1e9 / (double)t->ns;
    ops->close(peer);
    free(h);
}
