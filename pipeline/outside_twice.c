/* SPDX-License-Identifier: Apache-2.0
 *
 * The same content under two names. Which places are samples depends on the place alone, so a copy
 * has its samples at the same places. A sample that is not new was seen in another thing: a stretch
 * of a thing's samples, all of them seen in the same other thing, is content that came twice.
 */
#include "pipeline/outside.h"

#include <assert.h>

#include "wal/error.h"

/* Equal first lines of rotated files are no doubled content. It is doubled if it is most of one of
 * the things, or long. */
#define SAMPLES_LEAST 16u
#define BYTES_LEAST 128u
#define RECORDS_LONG 256u
#define BYTES_LONG 8192u

#define SLOTS_FIRST 1024u

void twice_init(struct twice *w, struct mem *m) {
    *w = (struct twice){.mem = m, .max = SAMPLES_MAX};
}

void twice_free(struct twice *w) {
    mem_free(w->mem, w->samples, w->slots * sizeof *w->samples);
    *w = (struct twice){.mem = w->mem, .max = w->max};
}

/* The place is mixed into the slot: equal lines at many places are no rarity. */
static struct sample *slot_of(const struct twice *w, struct sample *samples, uint32_t slots,
                              uint64_t hash) {
    uint64_t i = lookup_mix(hash ^ w->mem->hash_seed) & (slots - 1);
    while (samples[i].hash != 0 && samples[i].hash != hash)
        i = (i + 1) & (slots - 1);
    return &samples[i];
}

/* Enters the samples into a table of this size, those that are samples at the present rate. */
static int rebuild(struct twice *w, uint32_t slots) {
    uint64_t mask = ((UINT64_C(1) << w->rate) - 1) << 32;
    struct sample *q = mem_alloc(w->mem, slots * sizeof *q);
    if (q == NULL)
        return fail(PAWL_MEMORY, "no memory for the audit");
    w->count = 0;
    for (uint32_t i = 0; i < w->slots; i++)
        if (w->samples[i].hash != 0 && (w->samples[i].hash & mask) == 0) {
            *slot_of(w, q, slots, w->samples[i].hash) = w->samples[i];
            w->count++;
        }
    mem_free(w->mem, w->samples, w->slots * sizeof *w->samples);
    w->samples = q;
    w->slots = slots;
    return 0;
}

static int make_room(struct twice *w) {
    if (w->slots != 0 && w->count < w->slots / 2)
        return 0;
    if (w->slots / 2 < w->max)
        return rebuild(w, w->slots == 0 ? SLOTS_FIRST : w->slots * 2);
    while (w->count >= w->max / 2 && w->rate < 31) {
        w->rate++;
        TRY(rebuild(w, w->slots));
    }
    return 0;
}

/* The stretch of a thing's equal records goes on, with the partner that had this sample first. */
static void go_on(const struct twice *w, struct thing *t, uint32_t partner, uint64_t place,
                  uint64_t end, uint32_t len, uint64_t lsn, struct match *ended) {
    struct match *m = &t->match;
    if (m->partner != partner) {
        *ended = *m;
        *m = (struct match){.partner = partner, .from = place, .lsn = lsn};
    }
    m->from = place < m->from ? place : m->from;
    m->to = end > m->to ? end : m->to;
    assert(m->from <= place && partner != t->id); /* PAWL-4: a thing is no copy of itself */
    m->samples++;
    m->records += UINT64_C(1) << w->rate;
    m->bytes += (uint64_t)len << w->rate;
}

int twice_take(struct twice *w, struct thing *t, uint64_t place, uint64_t end, uint64_t hash,
               uint32_t len, uint64_t lsn, struct match *ended) {
    *ended = (struct match){0};
    TRY(make_room(w));
    assert(w->count < w->slots / 2 && w->slots / 2 <= w->max); /* PAWL-11 */
    uint64_t content = hash ^ (t->stream * UINT64_C(4) + t->unit) * UINT64_C(0x9E3779B97F4A7C15);
    content ^= content >> 32;
    uint64_t key = (place_mix(place) & ~UINT64_C(0xffffffff)) | (content & 0xffffffff);
    key = key != 0 ? key : 1;
    struct sample *s = slot_of(w, w->samples, w->slots, key);
    if (s->hash != 0 && s->id != t->id) {
        go_on(w, t, s->id, place, end, len, lsn, ended);
        return 0;
    }
    *ended = t->match;
    t->match = (struct match){0};
    if (s->hash == 0) {
        *s = (struct sample){key, t->id};
        w->count++;
    }
    return 0;
}

bool twice_counts(const struct match *m, uint64_t mine, uint64_t partners) {
    uint64_t least = mine < partners ? mine : partners;
    if (m->partner == 0 || m->samples < SAMPLES_LEAST || m->bytes < BYTES_LEAST)
        return false;
    return m->records >= least - least / 4 ||
           (m->records >= RECORDS_LONG && m->bytes >= BYTES_LONG);
}
