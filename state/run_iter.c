/* SPDX-License-Identifier: Apache-2.0
 *
 * A cursor over a run: a step for each level of the index, a block of pairs, and an entry in it. It
 * moves to the next or the previous entry of the block, or to the neighbour of the lowest step that
 * has one.
 */
#include <assert.h>

#include "state/run_file.h"
#include "wal/error.h"

struct run_cursor {
    struct run_file *run;
    struct run_source source; /* of blocks of pairs */
    struct run_window window;
    struct run_path path;
    struct run_block *block; /* NULL: the cursor stands nowhere */
    uint32_t entry;
    struct state_pair pair;
    uint8_t key[STORE_KEY_MAX]; /* of the pair */
};

int run_cursor_open(struct run_file *r, uint32_t flags, struct run_cursor **out) {
    struct run_cursor *c = mem_alloc(r->mem, sizeof *c);
    if (c == NULL)
        return fail(PAWL_MEMORY, "no memory for a cursor of a run");
    c->run = r;
    if ((flags & RUN_CURSOR_SEQUENTIAL) != 0) {
        c->source.fresh = true;
        c->source.window = &c->window;
        run_window_open(r, &c->window);
    }
    *out = c;
    return 0;
}

/* Stands nowhere. Returns rc. */
static int leave(struct run_cursor *c, int rc) {
    run_block_release(c->block);
    c->block = NULL;
    if (rc < 0)
        run_path_release(&c->path);
    return rc;
}

void run_cursor_close(struct run_cursor *c) {
    if (c == NULL)
        return;
    leave(c, 0);
    run_path_release(&c->path);
    run_window_close(c->run, &c->window);
    mem_free(c->run->mem, c, sizeof *c);
}

/* Stands at the entry of the block. */
static int stand(struct run_cursor *c, uint32_t entry) {
    assert(c->block != NULL && entry < c->block->view.count);
    const struct run_view *v = &c->block->view;
    c->entry = entry;
    run_entry_pair(v, entry, &c->pair);
    c->pair.key = c->key;
    c->pair.key_len = run_entry_key(v, entry, c->key);
    return 1;
}

/* Loads the block of pairs that the lowest step names. */
static int load_data(struct run_cursor *c) {
    struct run_child child;
    leave(c, 0);
    run_entry_child(&c->path.step[0].block->view, c->path.step[0].entry, &child);
    return run_load(c->run, &c->source, child.place, BLOCK_DATA, 0, &c->path, &c->block);
}

/* Loads the levels below `level`, at their first entries or at their last ones, and the block of
 * pairs. */
static int load_below(struct run_cursor *c, uint32_t level, bool last) {
    while (level-- > 0) {
        TRY(run_load_index(c->run, level, &c->path));
        struct run_step *s = &c->path.step[level];
        assert(s->block != NULL);
        s->entry = last ? s->block->view.count - 1 : 0;
    }
    return load_data(c);
}

/* The block of pairs after this one, or before it. 0: there is none. */
static int neighbour(struct run_cursor *c, bool before) {
    for (uint32_t level = 0; level < c->run->h.height; level++) {
        struct run_step *s = &c->path.step[level];
        if (before ? s->entry == 0 : s->entry + 1 == s->block->view.count)
            continue;
        s->entry += before ? UINT32_MAX : 1;
        TRY(load_below(c, level, before));
        return 1;
    }
    return 0;
}

static int step(struct run_cursor *c, bool before) {
    int rc = neighbour(c, before);
    if (rc <= 0)
        return leave(c, rc);
    assert(c->block != NULL);
    return stand(c, before ? c->block->view.count - 1 : 0);
}

int run_cursor_next(struct run_cursor *c) {
    if (c->block == NULL)
        return 0;
    return c->entry + 1 < c->block->view.count ? stand(c, c->entry + 1) : step(c, false);
}

int run_cursor_prev(struct run_cursor *c) {
    if (c->block == NULL)
        return 0;
    return c->entry > 0 ? stand(c, c->entry - 1) : step(c, true);
}

int run_cursor_seek_last(struct run_cursor *c) {
    leave(c, 0);
    if (c->run->h.height == 0)
        return 0;
    int rc = load_below(c, c->run->h.height, true);
    if (rc < 0)
        return leave(c, rc);
    assert(c->block != NULL);
    return stand(c, c->block->view.count - 1);
}

/* Loads the first block of pairs whose last key may be `key` or a later one. 0: there is none. */
static int descend(struct run_cursor *c, const uint8_t *key, uint32_t len) {
    int rc = run_descend(c->run, key, len, &c->path);
    if (rc <= 0)
        return rc;
    TRY(load_data(c));
    return 1;
}

int run_cursor_seek_ge(struct run_cursor *c, const void *key, uint32_t len) {
    bool same;
    if (len == 0)
        key = ""; /* not NULL */
    leave(c, 0);
    int rc = descend(c, key, len);
    if (rc <= 0)
        return leave(c, rc);
    assert(c->block != NULL);
    uint32_t entry = run_search(&c->block->view, key, len, &same);
    /* the index may name a key between this block and the next one */
    return entry < c->block->view.count ? stand(c, entry) : step(c, false);
}

int run_cursor_seek_le(struct run_cursor *c, const void *key, uint32_t len) {
    bool same;
    if (len == 0)
        key = "";
    leave(c, 0);
    int rc = descend(c, key, len);
    if (rc == 0)
        return run_cursor_seek_last(c);
    if (rc < 0)
        return leave(c, rc);
    assert(c->block != NULL);
    uint32_t entry = run_search(&c->block->view, key, len, &same);
    if (same)
        return stand(c, entry);
    return entry > 0 ? stand(c, entry - 1) : step(c, true);
}

const struct state_pair *run_cursor_pair(const struct run_cursor *c) {
    return c->block != NULL ? &c->pair : NULL;
}
