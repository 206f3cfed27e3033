/* SPDX-License-Identifier: Apache-2.0
 *
 * tune.c - how the best settings of the peers and of the floor were found: each is compared with
 * the others that might be better. The bench uses the first of each case.
 */
#include "tune.h"

#include <stdlib.h>
#include <string.h>

#include "bench/floor.h"

struct variant {
    const char *peer, *name, *tune;
};

static const struct variant variants[] = {
    {"SQLite", "checkpoint 1000", ""},
    {"SQLite", "checkpoint 10000", "checkpoint=10000"},
    {"SQLite", "checkpoint 100", "checkpoint=100"},
    {"SQLite", "normal locking", "exclusive=0"},
    {"SQLite", "pages of 16 KiB", "page=16384"},
    {"SQLite", "mmap 256 MiB", "mmap=268435456"},
    {"SQLite", "fresh log", "warm=0"},
    /* not a contender: shows that the check for flushes detects it */
    {"SQLite", "synchronous=OFF", "sync=0"},
    {"LMDB", "as it is", ""},
    {"LMDB", "growing file", "prewritten=0"},
    {"LMDB", "MDB_WRITEMAP", "writemap=1"},
    {"LMDB", "without APPEND", "append=0"},
    {"RocksDB", "recycled logs", ""},
    {"RocksDB", "no recycling", "recycle=0"},
    {"RocksDB", "fresh log", "warm=0"},
    {"RocksDB", "manual log flush", "manual=1"},
    {"RocksDB", "pipelined writes", "pipelined=1"},
    {"RocksDB", "buffers of 128 MiB", "buffer=128"},
};

static void peer_case(struct bench *b, const struct peer *peer, uint32_t batch) {
    struct bench_case *c = NULL;
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        if (strcmp(variants[i].peer, peer->name) != 0)
            continue;
        if (c == NULL) {
            char name[32];
            snprintf(name, sizeof name, "%s-%u", peer->name, batch);
            c = bench_add_case(b, PER_SECOND_RECORDS, name,
                               "%s, exactly-once step, batches of %u, 100 B", peer->name, batch);
        }
        struct setting s = bench_setting(b, 100, batch);
        snprintf(s.tune, sizeof s.tune, "%s", variants[i].tune);
        bench_add_side(c, variants[i].name, peer->step, s)->peer = true;
    }
}

static void floor_case(struct bench *b) {
    static const char *const ways[][2] = {{"F1: RWF_DSYNC", ""},
                                          {"fdatasync", "way=1"},
                                          {"io_uring", "way=2"},
                                          {"buffered", "buffered=1"}};
    struct bench_case *c =
        bench_add_case(b, LATENCY, "F1", "one block, durable: p50 of the ways to do it");
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        struct setting s = bench_setting(b, 100, 1);
        snprintf(s.tune, sizeof s.tune, "%s", ways[i][1]);
        bench_add_side(c, ways[i][0], floor_f1, s);
    }
}

bool tune_make(struct bench *b) {
    static const uint32_t batches[] = {1, 100, 1000};
    b->cases = calloc(CASES_MAX, sizeof *b->cases);
    if (b->cases == NULL)
        return false;
    floor_case(b);
    for (size_t i = 0; i < b->peer_count; i++)
        for (size_t k = 0; k < sizeof batches / sizeof batches[0]; k++)
            peer_case(b, &b->peers[i], batches[k]);
    return true;
}
