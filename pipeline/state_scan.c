/* SPDX-License-Identifier: Apache-2.0
 *
 * Scans of a table partition: the range that a program gives, and the snapshot that a scan from
 * outside keeps. Scans of a transaction see its own changes too (state_tx.c).
 */
#include "pipeline/engine.h"
#include "pipeline/state.h"
#include "pipeline/struct_size.h"

/* The smallest key after all that begin with the prefix; 0: there is none. */
static size_t prefix_end(const uint8_t *prefix, size_t len, uint8_t *out) {
    while (len > 0 && prefix[len - 1] == 0xff)
        len--;
    if (len == 0)
        return 0;
    memcpy(out, prefix, len);
    out[len - 1]++;
    return len;
}

static int take_range(pawl_state_range *own, const pawl_state_range *given) {
    if (given != NULL)
        TRY(pawl_struct_take(own, sizeof *own, given, RANGE_FIRST, "pawl_state_range"));
    bool well = (own->from != NULL || own->from_len == 0) &&
                (own->to != NULL || own->to_len == 0) &&
                (own->prefix != NULL || own->prefix_len == 0) && own->reverse <= 1;
    if (!well)
        return fail(PAWL_INVALID, "the range is not well formed: begin with PAWL_STATE_RANGE_INIT");
    if (own->from_len > PAWL_STATE_KEY_MAX || own->to_len > PAWL_STATE_KEY_MAX ||
        own->prefix_len > PAWL_STATE_KEY_MAX)
        return fail(PAWL_TOO_LARGE, "a key of the range is longer than %u bytes",
                    PAWL_STATE_KEY_MAX);
    return 0;
}

/* From now on the store keeps what the cursor sees. */
static int take_snapshot(pawl_state_cursor *c, struct store_part *part, struct store_range *s) {
    pawl *p = c->p;
    pthread_mutex_lock(&p->mutex);
    snapshots_add(&p->store.snapshots, &c->snapshot, p->state.last_lsn);
    c->snapshot.floor = p->store.clean_lsn;
    c->snapped = true;
    s->at_lsn = c->snapshot.lsn;
    int rc = store_cursor_take(&p->store, part, s, NULL, &c->at);
    engine_leave(p);
    return rc;
}

uint32_t state_open_scans(const pawl *p) {
    uint32_t n = 0;
    for (const struct snapshot *s = p->store.snapshots.oldest; s != NULL; s = s->newer)
        n++;
    return n;
}

static void free_cursor(pawl_state_cursor *c) {
    pawl *p = c->p;
    if (c->snapped) {
        pthread_mutex_lock(&p->mutex);
        snapshots_remove(&p->store.snapshots, &c->snapshot);
        engine_leave(p);
    }
    mem_free(&p->mem, c, sizeof *c + c->keys_size);
}

int state_cursor_open(struct pawl *p, struct store_part *part, const pawl_state_range *range,
                      struct memtable *own, uint64_t now_ms, bool snapshot,
                      pawl_state_cursor **out) {
    pawl_state_range own_range = PAWL_STATE_RANGE_INIT;
    if (out == NULL)
        return fail(PAWL_INVALID, "the result pointer is NULL");
    *out = NULL;
    TRY(take_range(&own_range, range));
    const pawl_state_range *r = &own_range;
    size_t size = r->from_len + r->to_len + 2 * r->prefix_len;
    pawl_state_cursor *c = mem_alloc(&p->mem, sizeof *c + size);
    if (c == NULL)
        return fail(PAWL_MEMORY, "no memory for a scan");
    c->p = p;
    c->keys_size = size;
    uint8_t *at = c->keys;
    struct store_range s = {
        .reverse = r->reverse == 1, .at_lsn = MEMTABLE_NEWEST, .now_ms = now_ms};
    if (r->from != NULL) {
        memcpy(at, r->from, r->from_len);
        s.from = at;
        s.from_len = (uint32_t)r->from_len;
        at += r->from_len;
    }
    if (r->to != NULL) {
        memcpy(at, r->to, r->to_len);
        s.to = at;
        s.to_len = (uint32_t)r->to_len;
        at += r->to_len;
    }
    if (r->prefix_len != 0) {
        memcpy(at, r->prefix, r->prefix_len);
        if (s.from == NULL || bytes_compare(at, r->prefix_len, s.from, s.from_len) > 0) {
            s.from = at;
            s.from_len = (uint32_t)r->prefix_len;
        }
        uint8_t *end = at + r->prefix_len;
        size_t end_len = prefix_end(at, r->prefix_len, end);
        if (end_len != 0 && (s.to == NULL || bytes_compare(end, end_len, s.to, s.to_len) < 0)) {
            s.to = end;
            s.to_len = (uint32_t)end_len;
        }
    }
    int rc =
        snapshot ? take_snapshot(c, part, &s) : store_cursor_take(&p->store, part, &s, own, &c->at);
    if (rc < 0) {
        free_cursor(c);
        return rc;
    }
    *out = c;
    return 0;
}

void pawl_state_close(pawl_state_cursor *cursor) {
    if (cursor == NULL)
        return;
    store_cursor_close(cursor->at);
    free_cursor(cursor);
}
