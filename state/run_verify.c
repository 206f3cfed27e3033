/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks every byte of a run: walks the index, reads each block from the file, and counts what the
 * header sums up. What is damaged is reported, and the walk goes on with its neighbour.
 */
#include <assert.h>

#include "state/run_file.h"
#include "wal/error.h"

struct verify {
    struct run_file *run;
    int (*fn)(void *arg, const struct run_damage *d);
    void *arg;
    uint64_t found;
    struct run_path path;
    struct run_bounds bounds; /* scratch */
    struct run_window window;
    struct run_source data, index; /* how their blocks are read */
    /* Blocks of a kind, and of a level, lie in ascending order: a block that two entries name, or
     * that lies in another, is refused before it is read again. */
    uint32_t data_from, filter_from, index_from[RUN_LEVELS_MAX];
    struct run_block *filter; /* of the blocks of pairs at which the walk is; NULL: damaged */
    uint32_t filter_unit;     /* 0: none yet */
    uint64_t filter_keys;     /* met so far */
    bool filter_whole;        /* all its blocks of pairs were good */
    uint64_t units;
    uint32_t data_blocks, index_blocks, filter_blocks;
    struct run_summary sum;
};

/* Reports a damaged place; v->bounds says between which keys. Returns a negative result that ends
 * the walk, or 0. */
static int report(struct verify *v, int code, struct run_place place, const char *what) {
    struct run_damage d = {.code = code,
                           .offset = (uint64_t)place.unit * RUN_UNIT,
                           .length = (uint64_t)place.units * RUN_UNIT,
                           .what = what,
                           .after = v->bounds.after,
                           .upto = v->bounds.upto,
                           .after_len = v->bounds.after_len,
                           .upto_len = v->bounds.upto_len};
    v->found++;
    int rc = v->fn != NULL ? v->fn(v->arg, &d) : 0;
    return rc < 0 ? rc : 0;
}

/* The same, of what the step of `level` names. */
static int report_at(struct verify *v, uint32_t level, int code, struct run_place place,
                     const char *what) {
    run_bounds(&v->path, level, v->run->h.height, &v->bounds);
    return report(v, code, place, what);
}

/* Reads a block fresh. 1: *out; 0: it is damaged, which was reported; or what ends the walk. */
static int load(struct verify *v, const struct run_source *from, struct run_place place,
                enum run_block_kind kind, uint32_t level, uint32_t named_by, uint32_t *next,
                struct run_block **out) {
    const char *wrong = "it lies where an earlier block is";
    int rc = PAWL_DAMAGED;
    *out = NULL;
    if (place.unit >= *next)
        rc = run_load_quietly(v->run, from, place, kind, level, &v->path, out, &wrong);
    if (rc < 0 && wrong == NULL)
        return rc;
    if (rc < 0)
        return report_at(v, named_by, rc, place, wrong);
    *next = place.unit + place.units;
    v->units += place.units;
    return 1;
}

/* ---- filters */

/* All blocks of the filter's pairs were met. */
static int end_filter(struct verify *v) {
    int rc = 0;
    if (v->filter != NULL && v->filter_whole && v->filter_keys != v->filter->view.count) {
        v->bounds.after_len = v->bounds.upto_len = 0;
        rc = report(v, PAWL_DAMAGED, v->filter->view.place,
                    "the filter has another number of keys than its blocks");
    }
    run_block_release(v->filter);
    v->filter = NULL;
    return rc;
}

/* Makes the filter that the entry names the current one. */
static int turn_filter(struct verify *v, uint32_t unit) {
    if (unit == v->filter_unit)
        return 0;
    int rc = end_filter(v);
    if (rc != 0)
        return rc;
    v->filter_unit = unit;
    v->filter_keys = 0;
    v->filter_whole = true;
    struct run_place place = {unit, 1};
    rc = load(v, &v->index, place, BLOCK_FILTER, 0, 0, &v->filter_from, &v->filter);
    v->filter_blocks += rc == 1;
    return rc < 0 ? rc : 0;
}

/* ---- pairs */

static int check_pairs(struct verify *v, const struct run_view *b) {
    uint8_t key[STORE_KEY_MAX];
    bool missing = false;
    for (uint32_t i = 0; i < b->count; i++) {
        struct state_pair p;
        run_entry_pair(b, i, &p);
        p.key = key;
        p.key_len = run_entry_key(b, i, key);
        run_summary_add(&v->sum, &p);
        missing |=
            v->filter != NULL &&
            !run_filter_maybe(&v->filter->view, run_filter_hash(key, p.key_len, &v->run->key));
    }
    v->filter_keys += b->count;
    if (!missing)
        return 0;
    assert(v->filter != NULL);
    return report_at(v, 0, PAWL_DAMAGED, v->filter->view.place,
                     "the filter says that a key isn't there, and it is");
}

static int check_data(struct verify *v, const struct run_child *child) {
    struct run_block *b;
    int rc = turn_filter(v, child->filter);
    if (rc != 0)
        return rc;
    rc = load(v, &v->data, child->place, BLOCK_DATA, 0, 0, &v->data_from, &b);
    if (rc != 1) {
        v->filter_whole = false;
        return rc;
    }
    v->data_blocks++;
    rc = check_pairs(v, &b->view);
    run_block_release(b);
    return rc;
}

/* ---- the index */

/* Calls itself once for each level below: at most RUN_LEVELS_MAX times. */
static int check_index(struct verify *v, uint32_t level, struct run_place place) {
    struct run_step *s = &v->path.step[level];
    int rc =
        load(v, &v->index, place, BLOCK_INDEX, level, level + 1, &v->index_from[level], &s->block);
    if (rc != 1)
        return rc;
    assert(s->block != NULL);
    v->index_blocks++;
    rc = 0;
    for (s->entry = 0; s->entry < s->block->view.count && rc == 0; s->entry++) {
        struct run_child child;
        run_entry_child(&s->block->view, s->entry, &child);
        rc = level == 0 ? check_data(v, &child) : check_index(v, level - 1, child.place);
    }
    run_block_release(s->block);
    s->block = NULL;
    return rc;
}

/* ---- the whole */

static int check_header(struct verify *v) {
    struct run_file *r = v->run;
    struct run_header h;
    enum run_header_verdict verdict;
    struct run_place first = {0, 1};
    uint64_t size;
    int rc = run_read_header(r->io, r->mem, r->file, r->name, &h, &verdict);
    if (rc == PAWL_MEMORY)
        return rc;
    if (rc < 0)
        return report(v, rc, first, "it can't be read");
    if (verdict != RUN_HEADER_GOOD || h.sum.header_hash != r->h.sum.header_hash)
        return report(v, PAWL_DAMAGED, first, "the header is damaged");
    rc = r->io->ops->size(r->io, r->file, &size);
    if (rc != 0)
        return fail_sys(rc, "fstat", r->name, NO_LSN);
    if (size != r->h.sum.length)
        return report(v, PAWL_DAMAGED, first, "the file has another length than its header says");
    return 0;
}

/* What was met is what the header says; only if all was good. */
static int check_sums(struct verify *v) {
    const struct run_header *h = &v->run->h;
    const struct run_summary *a = &v->sum, *b = &h->sum;
    struct run_place first = {0, 1};
    v->bounds.after_len = v->bounds.upto_len = 0;
    if (v->found != 0)
        return 0;
    if (a->pairs == b->pairs && a->deletes == b->deletes && a->key_bytes == b->key_bytes &&
        a->value_bytes == b->value_bytes && a->expiry_min_ms == b->expiry_min_ms &&
        v->data_blocks == h->data_blocks && v->index_blocks == h->index_blocks &&
        v->filter_blocks == h->filter_blocks && (v->units + 1) * RUN_UNIT == b->length)
        return 0;
    return report(v, PAWL_DAMAGED, first, "the header's sums aren't those of the pairs");
}

static int walk(struct verify *v) {
    const struct run_header *h = &v->run->h;
    struct run_place root = {h->root, h->root_units};
    int rc = check_header(v);
    if (rc == 0 && h->height != 0)
        rc = check_index(v, h->height - 1, root);
    if (rc == 0)
        rc = end_filter(v);
    return rc == 0 ? check_sums(v) : rc;
}

int run_verify(struct run_file *r, int (*fn)(void *arg, const struct run_damage *d), void *arg) {
    struct verify *v = mem_alloc(r->mem, sizeof *v);
    if (v == NULL)
        return fail(PAWL_MEMORY, "no memory to verify the run %s", r->name);
    v->run = r;
    v->fn = fn;
    v->arg = arg;
    v->index.fresh = v->data.fresh = true;
    run_window_open(r, &v->window);
    v->data.window = &v->window;
    int rc = walk(v);
    uint64_t found = v->found;
    run_path_release(&v->path);
    run_block_release(v->filter);
    run_window_close(r, &v->window);
    mem_free(r->mem, v, sizeof *v);
    if (rc == 0 && found != 0)
        return fail_at(PAWL_DAMAGED, 0, "read", r->name, NO_LSN,
                       "the run %s is damaged in %llu places: take the file from a savepoint",
                       r->name, (unsigned long long)found);
    return rc;
}
