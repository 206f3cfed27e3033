/* SPDX-License-Identifier: Apache-2.0
 *
 * LMDB in its fastest setup with a durable commit each time: integer keys put with MDB_APPEND, no
 * lock table, no read-ahead, one cursor per pass, a file written once beforehand. `bench --tune`
 * compares the settings.
 */
#include <fcntl.h>
#include <lmdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "peers.h"

struct peer_lmdb {
    MDB_env *env;
    MDB_dbi in, out, position, counts;
    unsigned put_flags;
    uint8_t value[65536];
};

static void must(int rc, const char *what) {
    if (rc != 0)
        give_up("lmdb, %s: %s", what, mdb_strerror(rc));
}

/* Writes zeros where the data file will grow to. LMDB accepts that, and a sync then needs no commit
 * of the file system's journal. */
static void prewrite(struct peer_lmdb *p, size_t bytes) {
    enum { MIB = 1 << 20 };
    int fd;
    struct stat st;
    char *zeros = must_allocate(MIB);
    must(mdb_env_get_fd(p->env, &fd), "descriptor");
    if (fstat(fd, &st) != 0)
        give_up("lmdb: its file can't be looked at");
    for (size_t at = (size_t)st.st_size; at < bytes; at += MIB)
        if (pwrite(fd, zeros, MIB, (off_t)at) != MIB)
            give_up("lmdb: its file can't be written to");
    if (fsync(fd) != 0)
        give_up("lmdb: its file can't be synced");
    /* else the cache has it in large pieces, and a small write counts as a whole piece */
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    free(zeros);
}

static void *open_it(const struct setting *s) {
    struct peer_lmdb *p = must_allocate(sizeof *p);
    MDB_txn *t;
    unsigned flags = MDB_NOLOCK | MDB_NORDAHEAD | MDB_NOMEMINIT;
    flags |= setting_tuned(s, "writemap", 0) ? MDB_WRITEMAP : 0;
    p->put_flags = setting_tuned(s, "append", 1) ? MDB_APPEND : 0;
    must(mdb_env_create(&p->env), "create");
    must(mdb_env_set_mapsize(p->env, (size_t)16 << 30), "map size");
    must(mdb_env_set_maxdbs(p->env, 4), "databases");
    must(mdb_env_open(p->env, s->dir, flags, 0600), "open");
    if (setting_tuned(s, "prewritten", 1) && !setting_tuned(s, "writemap", 0))
        prewrite(p, (size_t)256 << 20);
    must(mdb_txn_begin(p->env, NULL, 0, &t), "begin");
    must(mdb_dbi_open(t, "i", MDB_CREATE | MDB_INTEGERKEY, &p->in), "database");
    must(mdb_dbi_open(t, "o", MDB_CREATE | MDB_INTEGERKEY, &p->out), "database");
    must(mdb_dbi_open(t, "p", MDB_CREATE | MDB_INTEGERKEY, &p->position), "database");
    must(mdb_dbi_open(t, "s", MDB_CREATE, &p->counts), "database");
    must(mdb_txn_commit(t), "commit");
    return p;
}

static void put(void *peer, uint64_t first, uint32_t count, uint32_t record) {
    struct peer_lmdb *p = peer;
    MDB_txn *t;
    MDB_cursor *c;
    must(mdb_txn_begin(p->env, NULL, 0, &t), "begin");
    must(mdb_cursor_open(t, p->in, &c), "cursor");
    for (uint64_t n = first; n < first + count; n++) {
        fill_record(p->value, record, n);
        MDB_val k = {sizeof n, &n}, v = {record, p->value};
        must(mdb_cursor_put(c, &k, &v, p->put_flags), "put");
    }
    mdb_cursor_close(c);
    must(mdb_txn_commit(t), "commit");
}

static uint64_t process(void *peer, uint64_t from, uint32_t count) {
    struct peer_lmdb *p = peer;
    MDB_txn *t;
    MDB_cursor *a, *b;
    uint64_t n = from, zero = 0;
    must(mdb_txn_begin(p->env, NULL, 0, &t), "begin");
    must(mdb_cursor_open(t, p->in, &a), "cursor");
    must(mdb_cursor_open(t, p->out, &b), "cursor");
    MDB_val k = {sizeof from, &from}, v;
    for (int rc = mdb_cursor_get(a, &k, &v, MDB_SET_KEY); n < from + count && rc == 0; n++) {
        MDB_val key = {sizeof n, &n};
        must(mdb_cursor_put(b, &key, &v, p->put_flags), "put");
        rc = mdb_cursor_get(a, &k, &v, MDB_NEXT);
    }
    mdb_cursor_close(a);
    mdb_cursor_close(b);
    MDB_val key = {sizeof zero, &zero}, value = {sizeof n, &n};
    must(mdb_put(t, p->position, &key, &value, 0), "position");
    must(mdb_txn_commit(t), "commit");
    return n - from;
}

/* Adds one to the counter of a key, in place of the old one. */
static uint64_t add(MDB_cursor *c, const void *key) {
    uint64_t n = 0;
    MDB_val k = {KEY_BYTES, (void *)(uintptr_t)key}, v;
    int rc = mdb_cursor_get(c, &k, &v, MDB_SET);
    if (rc == 0)
        memcpy(&n, v.mv_data, sizeof n);
    n++;
    v = (MDB_val){sizeof n, &n};
    must(mdb_cursor_put(c, &k, &v, rc == 0 ? MDB_CURRENT : 0), "count");
    return n;
}

static uint64_t keyed(void *peer, uint64_t from, uint32_t count) {
    struct peer_lmdb *p = peer;
    MDB_txn *t;
    MDB_cursor *a, *b, *c;
    uint64_t n = from, zero = 0;
    uint8_t out[KEY_BYTES + 8];
    must(mdb_txn_begin(p->env, NULL, 0, &t), "begin");
    must(mdb_cursor_open(t, p->in, &a), "cursor");
    must(mdb_cursor_open(t, p->out, &b), "cursor");
    must(mdb_cursor_open(t, p->counts, &c), "cursor");
    MDB_val k = {sizeof from, &from}, v;
    for (int rc = mdb_cursor_get(a, &k, &v, MDB_SET_KEY); n < from + count && rc == 0; n++) {
        MDB_val key = {sizeof n, &n}, value = {sizeof out, out};
        memcpy(out, v.mv_data, KEY_BYTES);
        uint64_t sum = add(c, out);
        memcpy(out + KEY_BYTES, &sum, sizeof sum);
        must(mdb_cursor_put(b, &key, &value, p->put_flags), "put");
        rc = mdb_cursor_get(a, &k, &v, MDB_NEXT);
    }
    mdb_cursor_close(a);
    mdb_cursor_close(b);
    mdb_cursor_close(c);
    MDB_val key = {sizeof zero, &zero}, value = {sizeof n, &n};
    must(mdb_put(t, p->position, &key, &value, 0), "position");
    must(mdb_txn_commit(t), "commit");
    return n - from;
}

static void close_it(void *peer) {
    struct peer_lmdb *p = peer;
    mdb_env_close(p->env);
    free(p);
}

static const struct peer_ops ops = {open_it, put, process, keyed, close_it};

void lmdb_keyed(const struct setting *s, struct turn *t) {
    peer_keyed(&ops, s, t);
}

void lmdb_step(const struct setting *s, struct turn *t) {
    peer_step(&ops, s, t);
}

void lmdb_append(const struct setting *s, struct turn *t) {
    peer_append(&ops, s, t);
}
