/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes a run: blocks of pairs as they fill, a filter after each group of them, and blocks of the
 * index after the blocks that they name, level by level, so that the memory taken doesn't depend on
 * the number of pairs.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "state/format_run.h"
#include "wal/error.h"

#define OUT_UNITS 32u              /* written at a time */
#define GROUP_BYTES (2 * RUN_UNIT) /* of index entries that wait for their filter */
#define BLOCK_PAIRS_MAX (RUN_UNIT / 5)
#define RESERVE_MIN (1024u * 1024u)
#define RESERVE_MAX (16u * 1024u * 1024u)

_Static_assert(BLOCK_PAIRS_MAX <= RUN_FILTER_KEYS_MAX, "a block's keys fit into one filter");

struct level {
    struct run_builder entries;
    uint8_t *key; /* its last entry's, while a block is written */
};

struct run_writer {
    struct seam *io;
    struct mem *mem;
    int file;
    char name[RUN_NAME_SIZE];
    struct run_header h;
    struct frame_key key;
    int failed; /* the first error; 0: none */
    pawl_error error;
    uint8_t *out; /* what isn't written yet: OUT_UNITS */
    uint32_t out_units;
    uint64_t units; /* of the file, those in `out` included */
    uint64_t reserved;
    struct run_builder data;
    uint8_t *last; /* the last pair's key */
    uint32_t last_len;
    /* The group: blocks of pairs whose filter isn't written yet. */
    struct bytes group;       /* their index entries: struct entry and key */
    uint64_t *hashes;         /* of the keys in them, then of the keys in `data` */
    uint32_t grouped, hashed; /* of the group; all */
    uint32_t levels;
    struct level level[RUN_LEVELS_MAX];
};

/* An index entry that waits; its key follows. */
struct entry {
    struct run_place place;
    uint32_t key_len;
};

#define HASHES_MAX (RUN_FILTER_KEYS_MAX + BLOCK_PAIRS_MAX + 1)

static int sys_failed(const struct run_writer *w, int rc, const char *call) {
    return fail_sys(rc, call, w->name, NO_LSN);
}

static int no_memory(void) {
    return fail(PAWL_MEMORY, "no memory to write a run: raise the memory cap");
}

/* ---- the file */

static int flush(struct run_writer *w) {
    uint64_t at = (w->units - w->out_units) * RUN_UNIT, end = w->units * RUN_UNIT;
    if (w->out_units == 0)
        return 0;
    if (end > w->reserved) {
        uint64_t more = end < RESERVE_MIN ? RESERVE_MIN : end < RESERVE_MAX ? end : RESERVE_MAX;
        int rc = w->io->ops->allocate(w->io, w->file, end + more);
        if (rc == -ENOSPC) /* there may be room for what is needed */
            rc = w->io->ops->allocate(w->io, w->file, end);
        else
            end += more;
        if (rc != 0)
            return sys_failed(w, rc, "fallocate");
        w->reserved = end;
    }
    int64_t n = w->io->ops->write(w->io, w->file, w->out, (size_t)w->out_units * RUN_UNIT, at);
    w->out_units = 0;
    return n < 0 ? sys_failed(w, (int)n, "write") : 0;
}

/* Room for a block that fits into `out`; its place follows the last block's. */
static int room(struct run_writer *w, uint32_t units, uint8_t **at, struct run_place *place) {
    assert(units <= OUT_UNITS);
    if (w->out_units + units > OUT_UNITS)
        TRY(flush(w));
    if (w->units + units > UINT32_MAX)
        return fail(PAWL_LIMIT, "the run %s would be larger than 16 TiB", w->name);
    *place = (struct run_place){(uint32_t)w->units, units};
    *at = w->out + (size_t)w->out_units * RUN_UNIT;
    w->out_units += units;
    w->units += units;
    return 0;
}

/* The next bytes of a block that has more units than `out`. */
static int stream(struct run_writer *w, const struct piece *p, uint32_t *filled) {
    const uint8_t *data = p->data;
    size_t left = p->len;
    struct run_place place;
    uint8_t *at;
    while (left != 0) {
        if (*filled == 0)
            TRY(room(w, 1, &at, &place));
        at = w->out + (size_t)(w->out_units - 1) * RUN_UNIT + *filled;
        size_t n = RUN_UNIT - *filled < left ? RUN_UNIT - *filled : left;
        memcpy(at, data, n);
        data += n;
        left -= n;
        *filled = (uint32_t)(*filled + n) % RUN_UNIT;
    }
    return 0;
}

/* ---- the index */

static int index_add(struct run_writer *w, uint32_t level, const uint8_t *key, uint32_t len,
                     const struct run_child *child);

static int emit_builder(struct run_writer *w, struct run_builder *b, uint8_t kind, uint8_t level,
                        struct run_place *place) {
    uint8_t *at;
    TRY(room(w, run_units(run_builder_size(b)), &at, place));
    run_builder_encode(b, at, kind, level, place->unit, &w->key);
    return 0;
}

/* Writes the block of a level, and names it in the level above unless it is the root. */
static int index_emit(struct run_writer *w, uint32_t level, bool root) {
    struct level *l = &w->level[level];
    struct run_child child = {.filter = 0};
    TRY(emit_builder(w, &l->entries, BLOCK_INDEX, (uint8_t)level, &child.place));
    w->h.index_blocks++;
    if (root) {
        w->h.root = child.place.unit;
        w->h.root_units = child.place.units;
        w->h.height = level + 1;
        return 0;
    }
    uint32_t len = run_builder_last_key(&l->entries, l->key);
    run_builder_clear(&l->entries);
    return index_add(w, level + 1, l->key, len, &child);
}

static int level_begin(struct run_writer *w, uint32_t level) {
    if (level >= RUN_LEVELS_MAX)
        return fail(PAWL_LIMIT, "the index of the run %s would have too many levels", w->name);
    assert(level == w->levels);
    w->level[level].key = mem_alloc(w->mem, STORE_KEY_MAX);
    if (w->level[level].key == NULL)
        return no_memory();
    run_builder_init(&w->level[level].entries, w->mem);
    w->levels++;
    return 0;
}

/* Calls itself once for each level above: at most RUN_LEVELS_MAX times. */
static int index_add(struct run_writer *w, uint32_t level, const uint8_t *key, uint32_t len,
                     const struct run_child *child) {
    uint8_t payload[RUN_PAYLOAD_HEAD_MAX];
    if (level == w->levels)
        TRY(level_begin(w, level));
    struct run_builder *b = &w->level[level].entries;
    uint32_t n = run_child_payload(payload, child, (uint8_t)level);
    /* two entries at least, so that each level is smaller than the one below */
    if (b->count >= 2 && run_builder_size_with(b, key, len, n) > RUN_UNIT)
        TRY(index_emit(w, level, false));
    struct piece p = {payload, n};
    return run_builder_add(b, key, len, &p, 1) ? 0 : no_memory();
}

/* ---- groups of blocks with one filter */

static int group_end(struct run_writer *w) {
    struct run_place place;
    uint8_t *at;
    if (w->group.len == 0)
        return 0;
    TRY(room(w, 1, &at, &place));
    run_filter_encode(at, w->hashes, w->grouped, place.unit, &w->key);
    w->h.filter_blocks++;
    for (size_t i = 0; i < w->group.len;) {
        struct entry e;
        memcpy(&e, w->group.data + i, sizeof e);
        struct run_child child = {.place = e.place, .filter = place.unit};
        TRY(index_add(w, 0, w->group.data + i + sizeof e, e.key_len, &child));
        i += sizeof e + e.key_len;
    }
    w->group.len = 0;
    w->hashed -= w->grouped;
    memmove(w->hashes, w->hashes + w->grouped, w->hashed * sizeof *w->hashes);
    w->grouped = 0;
    return 0;
}

/* A key that is at least `last`, less than `next`, and short; returns its length. */
static uint32_t separator(const uint8_t *last, uint32_t last_len, const uint8_t *next,
                          uint32_t next_len, uint8_t out[STORE_KEY_MAX]) {
    uint32_t n = run_shared_len(last, last_len, next, next_len);
    const uint8_t *from = last;
    uint32_t len = last_len;
    if (n < last_len && n + 1 < next_len) { /* the first byte that differs is enough */
        from = next;
        len = n + 1;
    }
    memcpy(out, from, len);
    return len;
}

/* The block of pairs at `place` ends with `last`; `next` is the key after it, or NULL. */
static int group_add(struct run_writer *w, struct run_place place, const uint8_t *last,
                     uint32_t last_len, const uint8_t *next, uint32_t next_len) {
    struct entry e = {.place = place};
    size_t start = w->group.len;
    uint8_t *at = bytes_grow(&w->group, sizeof e + STORE_KEY_MAX);
    if (at == NULL)
        return no_memory();
    if (next != NULL)
        e.key_len = separator(last, last_len, next, next_len, at + sizeof e);
    else {
        memcpy(at + sizeof e, last, last_len);
        e.key_len = last_len;
    }
    memcpy(at, &e, sizeof e);
    w->group.len = start + sizeof e + e.key_len;
    w->grouped = w->hashed;
    w->h.data_blocks++;
    return w->group.len > GROUP_BYTES ? group_end(w) : 0;
}

/* Writes the pairs that are gathered; `next`: the key after them, or NULL. */
static int data_end(struct run_writer *w, const uint8_t *next, uint32_t next_len) {
    struct run_place place;
    if (w->data.count == 0)
        return 0;
    assert(w->hashed <= RUN_FILTER_KEYS_MAX);
    TRY(emit_builder(w, &w->data, BLOCK_DATA, 0, &place));
    run_builder_clear(&w->data);
    return group_add(w, place, w->last, w->last_len, next, next_len);
}

/* ---- pairs */

static int add_large(struct run_writer *w, const struct state_pair *p) {
    struct run_large l;
    uint32_t filled = 0;
    struct run_place place;
    if (w->hashed == RUN_FILTER_KEYS_MAX)
        TRY(group_end(w));
    bool made = run_large_encode(&l, w->mem, p, (uint32_t)w->units, &w->key);
    place = (struct run_place){(uint32_t)w->units, l.units};
    int rc = made ? 0 : no_memory();
    for (int i = 0; i < 3 && rc == 0; i++)
        rc = stream(w, &l.pieces[i], &filled);
    run_large_free(&l);
    TRY(rc);
    assert(filled == 0 && w->units == (uint64_t)place.unit + place.units);
    w->hashes[w->hashed++] = run_filter_hash(p->key, p->key_len, &w->key);
    /* its separator is its own key: the one after it isn't known yet */
    return group_add(w, place, p->key, p->key_len, NULL, 0);
}

static int check_pair(const struct run_writer *w, const struct state_pair *p) {
    bool put = p->op == STATE_PUT;
    if (p->key_len == 0 || p->key_len > STORE_KEY_MAX || p->value_len > STORE_VALUE_MAX ||
        (!put && (p->op != STATE_DELETE || p->value_len != 0 || p->expiry_ms != 0)))
        return fail(PAWL_INVALID, "a pair doesn't fit into a run: check key, value and op");
    if (w->h.sum.pairs != 0 &&
        bytes_compare(w->last, w->last_len, p->key, p->key_len) >= 0) /* PAWL-13 */
        return fail(PAWL_INVALID, "the pairs of a run must come in ascending order of their keys");
    return 0;
}

static int add(struct run_writer *w, const struct state_pair *p) {
    uint8_t head[RUN_PAYLOAD_HEAD_MAX];
    TRY(check_pair(w, p));
    uint32_t n = run_pair_payload(head, p);
    uint64_t payload = (uint64_t)n + p->value_len;
    if (w->data.count != 0 &&
        run_builder_size_with(&w->data, p->key, p->key_len, payload) > RUN_UNIT)
        TRY(data_end(w, p->key, p->key_len));
    if (w->data.count == 0 &&
        run_builder_size_with(&w->data, p->key, p->key_len, payload) > RUN_UNIT) {
        TRY(add_large(w, p));
    } else {
        struct piece pieces[2] = {{head, n}, {p->value, p->value_len}};
        if (!run_builder_add(&w->data, p->key, p->key_len, pieces, p->value_len != 0 ? 2 : 1))
            return no_memory();
        assert(w->hashed < HASHES_MAX);
        w->hashes[w->hashed++] = run_filter_hash(p->key, p->key_len, &w->key);
        if (w->hashed > RUN_FILTER_KEYS_MAX && w->grouped != 0)
            TRY(group_end(w));
    }
    memcpy(w->last, p->key, p->key_len);
    w->last_len = p->key_len;
    run_summary_add(&w->h.sum, p);
    return 0;
}

/* The first error stays, with its message. */
static int keep_error(struct run_writer *w, int rc) {
    if (rc < 0 && w->failed == 0) {
        w->failed = rc;
        fail_copy(&w->error);
    }
    return rc;
}

int run_writer_add(struct run_writer *w, const struct state_pair *pair) {
    if (w->failed != 0)
        return fail_again(&w->error);
    return keep_error(w, add(w, pair));
}

/* ---- beginning and end */

static void destroy(struct run_writer *w) {
    for (uint32_t i = 0; i < w->levels; i++) {
        run_builder_free(&w->level[i].entries);
        mem_free(w->mem, w->level[i].key, STORE_KEY_MAX);
    }
    run_builder_free(&w->data);
    bytes_free(&w->group);
    mem_free(w->mem, w->out, (size_t)OUT_UNITS * RUN_UNIT);
    mem_free(w->mem, w->last, STORE_KEY_MAX);
    mem_free(w->mem, w->hashes, HASHES_MAX * sizeof *w->hashes);
    mem_free(w->mem, w, sizeof *w);
}

void run_writer_abandon(struct run_writer *w) {
    pawl_error error;
    if (w == NULL)
        return;
    fail_copy(&error);
    if (w->file >= 0) {
        w->io->ops->close(w->io, w->file);
        /* if it stays, its header says that it is unfinished */
        int rc = w->io->ops->unlink(w->io, w->name);
        (void)rc;
    }
    destroy(w);
    fail_again(&error);
}

static int write_header(struct run_writer *w, enum run_header_state state) {
    w->h.state = state;
    run_header_encode(w->out, &w->h);
    int64_t n = w->io->ops->write(w->io, w->file, w->out, RUN_UNIT, 0);
    if (n < 0)
        return sys_failed(w, (int)n, "write");
    int rc = w->io->ops->sync(w->io, w->file);
    return rc != 0 ? sys_failed(w, rc, "fdatasync") : 0;
}

static int begin(struct run_writer *w) {
    w->out = mem_alloc_block(w->mem, (size_t)OUT_UNITS * RUN_UNIT);
    w->last = mem_alloc(w->mem, STORE_KEY_MAX);
    w->hashes = mem_alloc(w->mem, HASHES_MAX * sizeof *w->hashes);
    if (w->out == NULL || w->last == NULL || w->hashes == NULL)
        return no_memory();
    int rc = w->io->ops->random(w->io, w->h.key, sizeof w->h.key);
    if (rc != 0)
        return sys_failed(w, rc, "getrandom");
    frame_key_expand(w->h.key, &w->key);
    w->file = w->io->ops->open(w->io, w->name, SEAM_CREATE | SEAM_RDWR);
    if (w->file == -EEXIST)
        return fail_at(PAWL_EXISTS, EEXIST, "open", w->name, NO_LSN,
                       "there is a file %s already: a run is never written over one", w->name);
    if (w->file < 0)
        return sys_failed(w, w->file, "open");
    /* synced before anything follows it: what a crash leaves has this header or no byte at all */
    return write_header(w, RUN_UNFINISHED);
}

int run_writer_open(struct seam *io, struct mem *m, const struct run_ident *ident,
                    struct run_writer **out) {
    struct run_writer *w = mem_alloc(m, sizeof *w);
    if (w == NULL)
        return no_memory();
    w->io = io;
    w->mem = m;
    w->file = -1;
    w->units = 1;
    run_name(w->name, ident->run_id);
    memcpy(w->h.log_id, ident->log_id, sizeof w->h.log_id);
    w->h.run_id = ident->run_id;
    w->h.level = ident->level;
    w->h.flush_lsn = ident->flush_lsn;
    run_builder_init(&w->data, m);
    bytes_init(&w->group, m);
    int rc = begin(w);
    if (rc < 0) {
        run_writer_abandon(w);
        return rc;
    }
    *out = w;
    return 0;
}

/* The last block of each level, the lowest first; the one that stays alone is the root. */
static int end_index(struct run_writer *w) {
    for (uint32_t level = 0; level < w->levels; level++)
        TRY(index_emit(w, level, level + 1 == w->levels));
    return 0;
}

static int finish(struct run_writer *w) {
    if (w->failed != 0)
        return fail_again(&w->error);
    TRY(data_end(w, NULL, 0));
    TRY(group_end(w));
    TRY(end_index(w));
    TRY(flush(w));
    w->h.sum.length = w->units * RUN_UNIT;
    int rc = w->io->ops->allocate(w->io, w->file, w->h.sum.length); /* cut to its length */
    if (rc != 0)
        return sys_failed(w, rc, "ftruncate");
    rc = w->io->ops->sync(w->io, w->file);
    if (rc != 0)
        return sys_failed(w, rc, "fdatasync");
    TRY(write_header(w, RUN_WHOLE)); /* PAWL-8: after all that it vouches for */
    rc = w->io->ops->sync_dir(w->io);
    return rc != 0 ? sys_failed(w, rc, "fsync") : 0;
}

int run_writer_finish(struct run_writer *w, struct run_summary *out) {
    int rc = finish(w);
    if (rc < 0) {
        run_writer_abandon(w);
        return rc;
    }
    *out = w->h.sum;
    w->io->ops->close(w->io, w->file);
    destroy(w);
    return 0;
}
