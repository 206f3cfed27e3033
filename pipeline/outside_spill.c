/* SPDX-License-Identifier: Apache-2.0
 *
 * Spilled records come before the commit that says what they were read from. Until then their
 * lengths and hashes are kept, up to SPILLS_BYTES; of more, the oldest are given up.
 */
#include <assert.h>

#include "pipeline/outside.h"

#include "wal/error.h"

void spills_init(struct spills *s, struct mem *m) {
    s->mem = m;
    lookup_init(&s->lookup, m);
}

static uint32_t hash_of(const struct spills *s, uint64_t lsn, uint32_t run) {
    return lookup_hash(&s->lookup, lsn, run);
}

static void drop_oldest(struct spills *s) {
    struct spilled_run *r = &s->runs[s->first];
    lookup_remove(&s->lookup, hash_of(s, r->lsn, r->run), s->first);
    mem_free(s->mem, r->of, r->count * sizeof *r->of);
    s->bytes -= r->count * sizeof *r->of;
    s->first = (s->first + 1) % SPILLS_MAX;
    s->count--;
}

void spills_free(struct spills *s) {
    while (s->count != 0)
        drop_oldest(s);
    lookup_free(&s->lookup);
}

static void add_run(struct spills *s, uint64_t lsn, uint32_t number, const struct run *r,
                    const uint8_t *data) {
    struct spilled_run to = {lsn, number, r->stream, r->partition, 0, NULL};
    size_t size = r->count * sizeof *to.of;
    pawl_record record;
    uint32_t at = 0;
    while (s->count == SPILLS_MAX || (s->count != 0 && s->bytes + size > SPILLS_BYTES))
        drop_oldest(s);
    /* without memory its content is not compared, no more */
    if (r->count == 0 || size > SPILLS_BYTES || (to.of = mem_alloc(s->mem, size)) == NULL)
        return;
    for (; to.count < r->count && record_decode(data, r->len, &at, &record); to.count++)
        to.of[to.count] =
            (struct content){format_hash(record.value, record.value_len, 0), record.value_len};
    if (to.count != r->count || lookup_reserve(&s->lookup, 1) < 0) { /* malformed: verify says so */
        mem_free(s->mem, to.of, size);
        return;
    }
    uint32_t place = (s->first + s->count++) % SPILLS_MAX;
    s->runs[place] = to;
    lookup_add(&s->lookup, hash_of(s, lsn, number), place);
    s->bytes += size;
    assert(s->bytes <= SPILLS_BYTES && s->count <= SPILLS_MAX); /* PAWL-11 */
}

void spills_take(struct spills *s, const struct frame_header *h, const uint8_t *frame) {
    for (uint32_t i = 0; i < h->runs; i++) {
        struct run r;
        const uint8_t *data;
        frame_run(frame, h, i, &r, &data);
        if (r.type == RUN_RECORDS)
            add_run(s, h->lsn, i, &r, data);
    }
}

const struct spilled_run *spills_find(const struct spills *s, const struct run *r,
                                      const uint8_t *data) {
    struct spilled_entry e;
    if (!spilled_decode(data, r->len, &e))
        return NULL;
    uint32_t at, hash = hash_of(s, e.lsn, e.run);
    for (uint32_t i = lookup_first(&s->lookup, hash, &at); i != LOOKUP_NONE;
         i = lookup_next(&s->lookup, hash, &at)) {
        const struct spilled_run *x = &s->runs[i];
        if (x->lsn == e.lsn && x->run == e.run)
            return x->count == r->count && x->stream == r->stream && x->partition == r->partition
                       ? x
                       : NULL;
    }
    return NULL;
}
