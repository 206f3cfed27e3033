/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "state/run_file.h"
#include "wal/error.h"

#define WINDOW_MIN (16u * 1024u)

void run_name(char out[RUN_NAME_SIZE], uint32_t run_id) {
    snprintf(out, RUN_NAME_SIZE, "%016x.run", run_id);
}

bool run_parse_name(const char *name, uint32_t *run_id) {
    char again[RUN_NAME_SIZE];
    uint64_t id = 0;
    if (strlen(name) != 20)
        return false;
    for (int i = 0; i < 16; i++) {
        char c = name[i];
        if (c >= '0' && c <= '9')
            id = id << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            id = id << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    if (id > UINT32_MAX)
        return false;
    *run_id = (uint32_t)id;
    run_name(again, *run_id);
    return strcmp(name, again) == 0;
}

/* ---- opening */

/* The first block of an open file; what isn't there counts as zeros. */
int run_read_header(struct seam *io, struct mem *m, int file, const char *name,
                    struct run_header *h, enum run_header_verdict *verdict) {
    uint8_t *block = mem_alloc_block(m, RUN_UNIT);
    if (block == NULL)
        return fail(PAWL_MEMORY, "no memory to read the run %s", name);
    int64_t n = io->ops->read(io, file, block, RUN_UNIT, 0);
    if (n >= 0 && n < RUN_UNIT)
        memset(block + n, 0, RUN_UNIT - (size_t)n);
    if (n >= 0)
        *verdict = run_header_decode(block, h);
    mem_free(m, block, RUN_UNIT);
    return n < 0 ? fail_sys((int)n, "read", name, NO_LSN) : 0;
}

int run_identify(struct seam *io, struct mem *m, const char *name, struct run_ident *out) {
    struct run_header h = {0};
    enum run_header_verdict verdict = RUN_HEADER_BLANK;
    memset(out, 0, sizeof *out);
    int file = io->ops->open(io, name, 0);
    if (file == -ENOENT)
        return fail_at(PAWL_NOT_FOUND, ENOENT, "open", name, NO_LSN, "there is no file %s", name);
    if (file < 0)
        return fail_sys(file, "open", name, NO_LSN);
    uint64_t size = 0;
    int rc = run_read_header(io, m, file, name, &h, &verdict),
        sized = io->ops->size(io, file, &size);
    io->ops->close(io, file);
    TRY(rc);
    if (sized != 0)
        return fail_sys(sized, "fstat", name, NO_LSN);
    if (verdict == RUN_HEADER_BLANK && size <= RUN_UNIT)
        return RUN_FILE_BLANK;
    if (verdict != RUN_HEADER_GOOD)
        return RUN_FILE_OTHER;
    memcpy(out->log_id, h.log_id, sizeof out->log_id);
    out->run_id = h.run_id;
    out->level = h.level;
    out->flush_lsn = h.flush_lsn;
    out->length = h.sum.length;
    out->header_hash = h.sum.header_hash;
    return h.state == RUN_WHOLE ? RUN_FILE_WHOLE : RUN_FILE_UNFINISHED;
}

static int header_failed(const struct run_file *r, int code, const char *what) {
    return fail_at(code, 0, "read", r->name, NO_LSN,
                   "the header of the run %s, at offset 0, %s: all keys of the run are concerned; "
                   "take the file from a savepoint",
                   r->name, what);
}

static int judge_header(const struct run_file *r, enum run_header_verdict verdict) {
    const struct run_header *h = &r->h;
    const struct run_ident *i = &r->ident;
    if (verdict == RUN_HEADER_UNKNOWN)
        return fail_at(PAWL_VERSION, 0, "read", r->name, NO_LSN,
                       "the run %s was written in a format that this library doesn't know: use a "
                       "newer one",
                       r->name);
    if (verdict != RUN_HEADER_GOOD)
        return header_failed(r, PAWL_DAMAGED,
                             verdict == RUN_HEADER_BLANK   ? "has only zeros"
                             : verdict == RUN_HEADER_OTHER ? "isn't that of a run"
                                                           : "is damaged");
    if (memcmp(h->log_id, i->log_id, sizeof h->log_id) != 0)
        return header_failed(r, PAWL_FOREIGN, "belongs to another log");
    if (h->state != RUN_WHOLE)
        return header_failed(r, PAWL_DAMAGED, "says that the run was never finished");
    if (h->run_id != i->run_id || h->level != i->level || h->flush_lsn != i->flush_lsn ||
        (i->length != 0 && h->sum.length != i->length) ||
        (i->header_hash != 0 && h->sum.header_hash != i->header_hash))
        return header_failed(r, PAWL_FOREIGN, "is that of another run");
    return 0;
}

static int open_file(struct run_file *r) {
    enum run_header_verdict verdict = RUN_HEADER_BLANK;
    uint64_t size;
    r->file = r->io->ops->open(r->io, r->name, 0);
    if (r->file == -ENOENT)
        return fail_at(PAWL_NOT_FOUND, ENOENT, "open", r->name, NO_LSN,
                       "the run %s isn't there, and the log names it: take the file from a "
                       "savepoint",
                       r->name);
    if (r->file < 0)
        return fail_sys(r->file, "open", r->name, NO_LSN);
    TRY(run_read_header(r->io, r->mem, r->file, r->name, &r->h, &verdict));
    TRY(judge_header(r, verdict));
    int rc = r->io->ops->size(r->io, r->file, &size);
    if (rc != 0)
        return fail_sys(rc, "fstat", r->name, NO_LSN);
    if (size != r->h.sum.length)
        return fail_at(PAWL_DAMAGED, 0, "fstat", r->name, NO_LSN,
                       "the run %s has %llu bytes, and its header says %llu: take the file from a "
                       "savepoint",
                       r->name, (unsigned long long)size, (unsigned long long)r->h.sum.length);
    return 0;
}

int run_open(struct seam *io, struct mem *m, struct run_cache *cache, const struct run_ident *ident,
             struct run_file **out) {
    struct run_file *r = mem_alloc(m, sizeof *r);
    if (r == NULL)
        return fail(PAWL_MEMORY, "no memory to open a run");
    r->io = io;
    r->mem = m;
    r->cache = cache;
    r->file = -1;
    r->ident = *ident;
    run_name(r->name, ident->run_id);
    r->number = run_cache_number(cache);
    int rc = open_file(r);
    if (rc < 0) {
        run_close(r);
        return rc;
    }
    frame_key_expand(r->h.key, &r->key);
    r->ident.length = r->h.sum.length;
    r->ident.header_hash = r->h.sum.header_hash;
    *out = r;
    return 0;
}

void run_close(struct run_file *r) {
    if (r == NULL)
        return;
    run_cache_forget(r->cache, r->number);
    if (r->file >= 0)
        r->io->ops->close(r->io, r->file);
    mem_free(r->mem, r, sizeof *r);
}

void run_summarise(const struct run_file *r, struct run_summary *out) {
    *out = r->h.sum;
}

/* ---- blocks */

void run_bounds(const struct run_path *path, uint32_t level, uint32_t height,
                struct run_bounds *out) {
    out->after_len = out->upto_len = 0;
    if (level >= height)
        return;
    const struct run_step *s = &path->step[level];
    out->upto_len = run_entry_key(&s->block->view, s->entry, out->upto);
    for (; level < height; level++) {
        s = &path->step[level];
        if (s->entry == 0)
            continue;
        out->after_len = run_entry_key(&s->block->view, s->entry - 1, out->after);
        return;
    }
}

/* The level whose step names the block. */
static uint32_t parent_level(enum run_block_kind kind, uint32_t level) {
    return kind == BLOCK_INDEX ? level + 1 : 0;
}

static const char *check_bounds(const struct run_file *r, const struct run_view *v,
                                const struct run_path *path) {
    struct run_bounds b;
    uint8_t key[STORE_KEY_MAX];
    run_bounds(path, parent_level((enum run_block_kind)v->kind, v->level), r->h.height, &b);
    uint32_t len = run_entry_key(v, 0, key);
    if (b.after_len != 0 && bytes_compare(b.after, b.after_len, key, len) >= 0)
        return "its first key belongs before it";
    len = run_entry_key(v, v->count - 1, key);
    if (b.upto_len != 0 && bytes_compare(key, len, b.upto, b.upto_len) > 0)
        return "its last key belongs after it";
    return NULL;
}

void run_window_open(struct run_file *r, struct run_window *w) {
    w->size = RUN_WINDOW;
    while (w->size > WINDOW_MIN && w->size / 2 >= r->h.sum.length)
        w->size /= 2;
    while ((w->data = mem_alloc_block(r->mem, w->size)) == NULL && w->size > WINDOW_MIN)
        w->size /= 2;
    if (w->data == NULL)
        w->size = 0; /* every block is larger */
}

void run_window_close(struct run_file *r, struct run_window *w) {
    mem_free(r->mem, w->data, w->size);
}

static int64_t read_window(struct run_file *r, struct run_window *w, struct run_place place,
                           uint8_t *out) {
    uint64_t at = (uint64_t)place.unit * RUN_UNIT, len = (uint64_t)place.units * RUN_UNIT;
    if (len > w->size)
        return r->io->ops->read(r->io, r->file, out, (size_t)len, at);
    if (at < w->at || at + len > w->at + w->len) {
        uint64_t left = r->h.sum.length - at;
        w->len = 0;
        int64_t n = r->io->ops->read(r->io, r->file, w->data,
                                     (size_t)(left < w->size ? left : w->size), at);
        if (n < 0) /* perhaps of a block after this one */
            return r->io->ops->read(r->io, r->file, out, (size_t)len, at);
        w->at = at;
        w->len = (uint64_t)n / RUN_UNIT * RUN_UNIT;
        if (w->len < len)
            return (int64_t)w->len;
    }
    memcpy(out, w->data + (at - w->at), (size_t)len);
    return (int64_t)len;
}

static const struct run_source cached = {.fresh = false};

/* Fills and checks a block that nobody else sees. */
static int fill(struct run_file *r, const struct run_source *from, struct run_block *b,
                struct run_place place, enum run_block_kind kind, uint32_t level,
                const struct run_path *path, const char **wrong) {
    int64_t n = from->window != NULL ? read_window(r, from->window, place, b->data)
                                     : r->io->ops->read(r->io, r->file, b->data, b->size,
                                                        (uint64_t)place.unit * RUN_UNIT);
    if (n < 0) {
        *wrong = "it can't be read";
        return fail_sys((int)n, "read", r->name, NO_LSN);
    }
    *wrong = (uint64_t)n < b->size ? "the file ends within it"
                                   : run_block_decode(b->data, place, (uint8_t)kind, (uint8_t)level,
                                                      &r->key, &b->view);
    if (*wrong == NULL && kind != BLOCK_FILTER)
        *wrong = check_bounds(r, &b->view, path);
    return *wrong == NULL ? 0 : PAWL_DAMAGED;
}

int run_load_quietly(struct run_file *r, const struct run_source *from, struct run_place place,
                     enum run_block_kind kind, uint32_t level, const struct run_path *path,
                     struct run_block **out, const char **wrong) {
    *wrong = NULL;
    if (!from->fresh) {
        struct run_block *b = run_cache_find(r->cache, r->number, place.unit);
        if (b != NULL && b->view.kind == kind && b->view.level == level &&
            b->view.place.units == place.units) {
            *out = b;
            return 0;
        }
        run_block_release(b); /* the index contradicts itself: the check below says so */
    }
    struct run_block *b = run_block_make(r->cache, r->number, place.units);
    if (b == NULL)
        return fail(PAWL_MEMORY, "no memory for a block of the run %s: raise the memory cap",
                    r->name);
    int rc = fill(r, from, b, place, kind, level, path, wrong);
    if (rc < 0) {
        run_block_release(b);
        return rc;
    }
    *out = from->fresh ? b : run_cache_keep(r->cache, b);
    return 0;
}

void run_show_key(char out[RUN_KEY_TEXT], const uint8_t *key, uint32_t len, const char *none) {
    char shown[40] = "";
    if (len == 0) {
        snprintf(out, RUN_KEY_TEXT, "%s", none);
        return;
    }
    if (len < STORE_PREFIX_SIZE) { /* a separator may be short */
        pawl_show(key, len, NULL, shown, sizeof shown);
        snprintf(out, RUN_KEY_TEXT, "%s", shown);
        return;
    }
    uint32_t table =
        (uint32_t)key[0] << 24 | (uint32_t)key[1] << 16 | (uint32_t)key[2] << 8 | key[3];
    uint32_t part =
        (uint32_t)key[4] << 24 | (uint32_t)key[5] << 16 | (uint32_t)key[6] << 8 | key[7];
    pawl_show(key + STORE_PREFIX_SIZE, len - STORE_PREFIX_SIZE, NULL, shown, sizeof shown);
    snprintf(out, RUN_KEY_TEXT, "%u/%u %s", table, part, shown);
}

static int load_failed(const struct run_file *r, int code, const char *wrong,
                       struct run_place place, enum run_block_kind kind, uint32_t level,
                       const struct run_path *path) {
    struct run_bounds b;
    char after[RUN_KEY_TEXT], upto[RUN_KEY_TEXT];
    pawl_error e = {.code = code};
    if (code == PAWL_IO)
        fail_copy(&e);
    run_bounds(path, parent_level(kind, level), r->h.height, &b);
    run_show_key(after, b.after, b.after_len, "the first one");
    run_show_key(upto, b.upto, b.upto_len, "the last one");
    return fail_at(code, e.sys_errno, "read", r->name, NO_LSN,
                   "the run %s, %llu bytes at offset %llu: %s; it has keys (table/partition key) "
                   "between %s and %s; verify the log and take the file from a savepoint",
                   r->name, (unsigned long long)place.units * RUN_UNIT,
                   (unsigned long long)place.unit * RUN_UNIT, wrong, after, upto);
}

int run_load(struct run_file *r, const struct run_source *from, struct run_place place,
             enum run_block_kind kind, uint32_t level, const struct run_path *path,
             struct run_block **out) {
    const char *wrong;
    int rc = run_load_quietly(r, from, place, kind, level, path, out, &wrong);
    if (rc < 0 && wrong != NULL)
        return load_failed(r, rc, wrong, place, kind, level, path);
    return rc;
}

void run_path_release(struct run_path *p) {
    for (uint32_t i = 0; i < RUN_LEVELS_MAX; i++) {
        run_block_release(p->step[i].block);
        p->step[i].block = NULL;
    }
}

int run_load_index(struct run_file *r, uint32_t level, struct run_path *path) {
    struct run_child child = {.place = {r->h.root, r->h.root_units}};
    assert(level < r->h.height);
    if (level + 1 < r->h.height)
        run_entry_child(&path->step[level + 1].block->view, path->step[level + 1].entry, &child);
    run_block_release(path->step[level].block);
    path->step[level].block = NULL;
    return run_load(r, &cached, child.place, BLOCK_INDEX, level, path, &path->step[level].block);
}

int run_descend(struct run_file *r, const uint8_t *key, uint32_t len, struct run_path *path) {
    for (uint32_t level = r->h.height; level-- > 0;) {
        bool same;
        TRY(run_load_index(r, level, path));
        struct run_step *s = &path->step[level];
        assert(s->block != NULL);
        s->entry = run_search(&s->block->view, key, len, &same);
        if (s->entry == s->block->view.count)
            return 0;
    }
    return r->h.height != 0;
}

/* ---- one pair */

static int get_in(struct run_file *r, const uint8_t *key, uint32_t len, bool filtered,
                  struct run_path *path, struct run_block **out, uint32_t *entry) {
    struct run_child child;
    bool same;
    int rc = run_descend(r, key, len, path);
    if (rc <= 0)
        return rc;
    run_entry_child(&path->step[0].block->view, path->step[0].entry, &child);
    if (filtered) {
        struct run_block *filter;
        struct run_place place = {child.filter, 1};
        TRY(run_load(r, &cached, place, BLOCK_FILTER, 0, path, &filter));
        bool maybe = run_filter_maybe(&filter->view, run_filter_hash(key, len, &r->key));
        run_block_release(filter);
        if (!maybe)
            return 0;
    }
    TRY(run_load(r, &cached, child.place, BLOCK_DATA, 0, path, out));
    *entry = run_search(&(*out)->view, key, len, &same);
    if (same)
        return 1;
    run_block_release(*out);
    return 0;
}

static int get(struct run_file *r, const void *key, uint32_t len, bool filtered,
               struct run_pin *pin, struct state_pair *out) {
    struct run_path path = {0};
    uint32_t entry = 0;
    assert(pin->block == NULL && r->h.height <= RUN_LEVELS_MAX);
    struct run_block *block = NULL;
    int rc =
        len == 0 || len > STORE_KEY_MAX ? 0 : get_in(r, key, len, filtered, &path, &block, &entry);
    for (uint32_t i = 0; i < r->h.height; i++)
        run_block_release(path.step[i].block);
    if (rc <= 0)
        return rc;
    assert(block != NULL);
    run_entry_pair(&block->view, entry, out);
    out->key = key;
    out->key_len = len;
    pin->block = block;
    return 1;
}

int run_get(struct run_file *r, const void *key, uint32_t len, struct run_pin *pin,
            struct state_pair *out) {
    return get(r, key, len, true, pin, out);
}

int run_get_likely(struct run_file *r, const void *key, uint32_t len, struct run_pin *pin,
                   struct state_pair *out) {
    return get(r, key, len, false, pin, out);
}

void run_unpin(struct run_pin *pin) {
    run_block_release(pin->block);
    pin->block = NULL;
}
