/* SPDX-License-Identifier: Apache-2.0 */
#include "model.h"

#include <stdlib.h>
#include <string.h>

/* All values are parts of this text, so that they can be compared in place: that is done for each
 * record of each state. */
#define TEXT_SIZE 8192u
static uint8_t text[TEXT_SIZE];

#define FORGED_FROM 0x40000000u /* their ids */
static struct {
    uint32_t len;
    uint8_t value[MODEL_FORGED_SIZE];
} forged[MODEL_FORGED];
static uint32_t forged_count;

static void make_text(void) {
    uint32_t x = 1;
    for (uint32_t i = 0; i < TEXT_SIZE; i++)
        text[i] = (uint8_t)((x = x * 1664525u + 1013904223u) >> 24);
}

void model_init(struct model *m) {
    make_text();
    m->count = m->acknowledged = 0;
    memset(&m->after[0], 0, sizeof m->after[0]);
    m->next_id = 1;
    forged_count = 0;
}

void model_copy(struct model *to, const struct model *from) {
    to->count = from->count;
    to->acknowledged = from->acknowledged;
    to->next_id = from->next_id;
    for (int i = 0; i < 2; i++)
        memcpy(to->produced[i], from->produced[i],
               sizeof from->produced[i][0] * (size_t)(model_last(from)->sequence[i] + 1));
    memcpy(to->after, from->after, sizeof from->after[0] * (size_t)(from->count + 1));
    for (int p = 0; p < MODEL_PARTS; p++) {
        size_t n = (size_t)model_last(from)->end[p];
        memcpy(to->id[p], from->id[p], n * sizeof from->id[p][0]);
        memcpy(to->commit[p], from->commit[p], n * sizeof from->commit[p][0]);
    }
}

void model_make(uint32_t id, struct model_record *r) {
    uint32_t x = id * 2654435761u;
    if (id >= FORGED_FROM) {
        r->key_len = 0;
        r->time = id;
        r->value_len = forged[id - FORGED_FROM].len;
        r->value = forged[id - FORGED_FROM].value;
        return;
    }
    r->key_len = id % 3 == 0 ? 0 : 4 + id % 12;
    r->time = (int64_t)id * 1000003;
    r->value_len = id % 11 == 0 ? 2000 + x % 1500 : id % 7 == 0 ? 0 : x % 120;
    for (uint32_t i = 0; i < r->key_len; i++)
        r->key[i] = (uint8_t)(x >> (i % 4 * 8)) ^ (uint8_t)i;
    r->value = text + (x >> 8) % (TEXT_SIZE / 2);
}

uint64_t model_cookie(int producer, uint64_t sequence) {
    return (sequence + 3) * 0x9e3779b97f4a7c15u ^ (uint64_t)producer;
}

bool model_matches(uint32_t id, const void *key, size_t key_len, const void *value,
                   size_t value_len, int64_t time) {
    struct model_record want;
    model_make(id, &want);
    return key_len == want.key_len && value_len == want.value_len && time == want.time &&
           (key_len == 0 || memcmp(key, want.key, key_len) == 0) &&
           (value_len == 0 || memcmp(value, want.value, value_len) == 0);
}

struct model_view *model_submit(struct model *m) {
    if (m->count == MODEL_COMMITS)
        abort();
    m->after[m->count + 1] = m->after[m->count];
    return &m->after[++m->count];
}

uint32_t model_add_record(struct model *m, int part) {
    uint64_t at = m->after[m->count].end[part]++;
    if (at == MODEL_RECORDS)
        abort();
    m->id[part][at] = m->next_id;
    m->commit[part][at] = (uint16_t)m->count;
    return m->next_id++;
}

int64_t model_add_forged(struct model *m, int part, const void *value, uint32_t len) {
    uint32_t n = forged_count++ % MODEL_FORGED;
    if (forged_count > MODEL_FORGED || len > MODEL_FORGED_SIZE)
        abort();
    forged[n].len = len;
    memcpy(forged[n].value, value, len);
    m->next_id--;
    uint64_t at = m->after[m->count].end[part];
    (void)model_add_record(m, part);
    m->id[part][at] = FORGED_FROM + n;
    return m->id[part][at];
}

void model_take_back(struct model *m) {
    m->count--;
}

void model_acknowledge(struct model *m, int count) {
    if (count > m->acknowledged)
        m->acknowledged = count;
}

void model_cut(struct model *m, int count) {
    m->count = count;
    if (m->acknowledged > count)
        abort();
    m->acknowledged = count;
}
