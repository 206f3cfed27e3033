/* SPDX-License-Identifier: Apache-2.0
 *
 * peers.h - the alternatives that users would pick, each in its best durable configuration, doing
 * the same work. A peer is built if its library is installed.
 */
#ifndef PAWL_BENCH_PEERS_H
#define PAWL_BENCH_PEERS_H

#include "bench/bench.h"

extern const struct peer peers[];
extern const size_t peer_count;

void sqlite_step(const struct setting *s, struct turn *t);
void sqlite_append(const struct setting *s, struct turn *t);
void lmdb_step(const struct setting *s, struct turn *t);
void lmdb_append(const struct setting *s, struct turn *t);
void rocksdb_step(const struct setting *s, struct turn *t);
void rocksdb_append(const struct setting *s, struct turn *t);
void sqlite_keyed(const struct setting *s, struct turn *t);
void lmdb_keyed(const struct setting *s, struct turn *t);
void rocksdb_keyed(const struct setting *s, struct turn *t);

/* A peer, as peers.c drives it. */
struct peer_ops {
    void *(*open)(const struct setting *s);
    /* one durable commit */
    void (*put)(void *peer, uint64_t first, uint32_t count, uint32_t record);
    /* one durable commit; returns the number of records */
    uint64_t (*process)(void *peer, uint64_t from, uint32_t count);
    /* the same, and each record, a key, adds one to its counter, which is the output */
    uint64_t (*keyed)(void *peer, uint64_t from, uint32_t count);
    void (*close)(void *peer);
};
void peer_step(const struct peer_ops *ops, const struct setting *s, struct turn *t);
void peer_keyed(const struct peer_ops *ops, const struct setting *s, struct turn *t);
void peer_append(const struct peer_ops *ops, const struct setting *s, struct turn *t);

uint64_t peers_allocations(void);

#endif
