/* SPDX-License-Identifier: Apache-2.0
 *
 * merge_table.c - a memory table as a source of a merge.
 */
#include "state/merge.h"

static int stand(struct merge_memtable *t, const struct mem_entry *e) {
    t->stands = e != NULL;
    if (e != NULL)
        mem_entry_pair(e, &t->pair);
    return t->stands;
}

static int table_seek_ge(void *source, const void *key, uint32_t len) {
    struct merge_memtable *t = source;
    return stand(t, len == 0 ? memtable_first(&t->cursor) : memtable_seek_ge(&t->cursor, key, len));
}

static int table_seek_le(void *source, const void *key, uint32_t len) {
    struct merge_memtable *t = source;
    return stand(t, memtable_seek_le(&t->cursor, key, len));
}

static int table_next(void *source) {
    struct merge_memtable *t = source;
    return stand(t, memtable_next(&t->cursor));
}

static int table_prev(void *source) {
    struct merge_memtable *t = source;
    return stand(t, memtable_prev(&t->cursor));
}

static const struct state_pair *table_pair(const void *source) {
    const struct merge_memtable *t = source;
    return t->stands ? &t->pair : NULL;
}

const struct merge_ops merge_memtable_ops = {
    .seek_ge = table_seek_ge,
    .seek_le = table_seek_le,
    .next = table_next,
    .prev = table_prev,
    .pair = table_pair,
};
