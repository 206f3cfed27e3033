/* SPDX-License-Identifier: Apache-2.0
 *
 * Entries of runs that have tables or changes of their state, in commits and in checkpoints;
 * docs/format.md, sections 5 and 6. As in format_runs.c every length is untrusted.
 */
#include <assert.h>

#include "wal/format.h"

void table_encode(struct bytes *b, const struct table_entry *e) {
    assert(e->name_len <= NAME_LEN_MAX); /* as the decoder checks; so in the following ones */
    uint8_t *p = bytes_add(b, table_size(e->name_len));
    if (p == NULL)
        return;
    put16(p, e->op);
    put16(p + 2, e->name_len);
    put32(p + 4, e->id);
    put32(p + 8, e->owner);
    put32(p + 12, e->partitions);
    put32(p + 16, e->version);
    put32(p + 20, e->flags);
    put64(p + 24, e->ttl_ms);
    put64(p + 32, e->a);
    put64(p + 40, e->b);
    if (e->name_len != 0)
        memcpy(p + TABLE_ENTRY_SIZE, e->name, e->name_len);
}

bool table_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct table_entry *e) {
    if (!bytes_fit(len, *at, TABLE_ENTRY_SIZE))
        return false;
    const uint8_t *p = data + *at;
    *e = (struct table_entry){.op = get16(p),
                              .name_len = get16(p + 2),
                              .id = get32(p + 4),
                              .owner = get32(p + 8),
                              .partitions = get32(p + 12),
                              .version = get32(p + 16),
                              .flags = get32(p + 20),
                              .ttl_ms = get64(p + 24),
                              .a = get64(p + 32),
                              .b = get64(p + 40),
                              .name = (const char *)p + TABLE_ENTRY_SIZE};
    if (e->name_len > NAME_LEN_MAX || !bytes_fit(len, *at, table_size(e->name_len)))
        return false;
    *at += (uint32_t)table_size(e->name_len);
    return true;
}

/* ---- what a table partition holds */

bool state_sum_possible(const struct state_sum *e) {
    return e->pairs == 0 ? e->bytes == 0 && e->low == 0 && e->high == 0 : e->bytes >= e->pairs;
}

void state_sum_encode(uint8_t out[STATE_SUM_SIZE], const struct state_sum *e) {
    assert(state_sum_possible(e));
    put64(out, e->low);
    put64(out + 8, e->high);
    put64(out + 16, e->pairs);
    put64(out + 24, e->bytes);
}

bool state_sum_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct state_sum *e) {
    if (!bytes_fit(len, *at, STATE_SUM_SIZE))
        return false;
    const uint8_t *p = data + *at;
    *e = (struct state_sum){get64(p), get64(p + 8), get64(p + 16), get64(p + 24)};
    *at += STATE_SUM_SIZE;
    return state_sum_possible(e);
}

/* ---- changes */

static bool change_possible(const struct state_change *e) {
    return (e->flags & ~(STATE_DELETED | STATE_EXPIRES)) == 0 &&
           e->flags != (STATE_DELETED | STATE_EXPIRES) && e->key_len >= 1 &&
           e->key_len <= STATE_KEY_MAX && e->value_len <= STATE_VALUE_MAX;
}

/* Flags and three numbers. */
#define CHANGE_HEAD_MAX (1u + 3u * VARINT_MAX)

void state_change_encode(struct bytes *b, const struct state_change *e) {
    assert(change_possible(e));
    bool put = (e->flags & STATE_DELETED) == 0;
    size_t value_len = put ? e->value_len : 0, most = CHANGE_HEAD_MAX + e->key_len + value_len;
    uint8_t *at = bytes_room(b, most);
    if (at == NULL)
        return;
    uint8_t *begin = at;
    *at++ = e->flags;
    at = varint_write(at, e->key_len);
    if (put)
        at = varint_write(at, e->value_len);
    if ((e->flags & STATE_EXPIRES) != 0)
        at = varint_write(at, e->expiry_ms);
    copy_short(at, e->key, e->key_len);
    at += e->key_len;
    copy_short(at, e->value, value_len);
    at += value_len;
    b->len -= most - (size_t)(at - begin);
}

bool state_change_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct state_change *e) {
    uint64_t key_len, value_len = 0, expiry = 0;
    if (!bytes_fit(len, *at, 1))
        return false;
    *e = (struct state_change){.flags = data[(*at)++]};
    if (!varint_read(data, len, at, &key_len))
        return false;
    if ((e->flags & STATE_DELETED) == 0 && !varint_read(data, len, at, &value_len))
        return false;
    if ((e->flags & STATE_EXPIRES) != 0 && !varint_get(data, len, at, &expiry))
        return false;
    if (key_len > STATE_KEY_MAX || value_len > STATE_VALUE_MAX ||
        !bytes_fit(len, *at, key_len + value_len))
        return false;
    e->key_len = (uint32_t)key_len;
    e->value_len = (uint32_t)value_len;
    e->expiry_ms = expiry;
    e->key = data + *at;
    e->value = e->key + key_len;
    *at += (uint32_t)(key_len + value_len);
    return change_possible(e);
}

bool state_whole(const struct run *r, const uint8_t *data) {
    struct state_sum sum;
    struct state_change e, last = {0};
    uint32_t at = 0;
    if (!state_sum_decode(data, r->len, &at, &sum))
        return false;
    for (uint32_t i = 0; i < r->count; i++) {
        if (!state_change_decode(data, r->len, &at, &e))
            return false;
        if (i != 0 && bytes_compare(last.key, last.key_len, e.key, e.key_len) >= 0)
            return false;
        last = e;
    }
    return at == r->len;
}

/* ---- of a checkpoint */

void c_digest_encode(struct bytes *b, const struct c_digest *e) {
    uint8_t *p = bytes_add(b, C_DIGEST_SIZE);
    if (p == NULL)
        return;
    put32(p, e->table);
    put32(p + 4, e->partition);
    state_sum_encode(p + 8, &e->sum);
    put64(p + 40, e->commits);
    put32(p + 48, e->flags);
}

bool c_digest_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct c_digest *e) {
    if (!bytes_fit(len, *at, C_DIGEST_SIZE))
        return false;
    const uint8_t *p = data + *at;
    uint32_t sum_at = *at + 8;
    *e = (struct c_digest){.table = get32(p),
                           .partition = get32(p + 4),
                           .commits = get64(p + 40),
                           .flags = get32(p + 48)};
    *at += C_DIGEST_SIZE;
    return state_sum_decode(data, len, &sum_at, &e->sum);
}

void c_run_encode(struct bytes *b, const struct c_run *e) {
    uint8_t *p = bytes_add(b, C_RUN_SIZE);
    if (p == NULL)
        return;
    put32(p, e->id);
    put32(p + 4, e->level);
    put64(p + 8, e->flush_lsn);
    put64(p + 16, e->bytes);
}

bool c_run_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct c_run *e) {
    if (!bytes_fit(len, *at, C_RUN_SIZE))
        return false;
    const uint8_t *p = data + *at;
    *e = (struct c_run){get32(p), get32(p + 4), get64(p + 8), get64(p + 16)};
    *at += C_RUN_SIZE;
    return true;
}

void c_run_hash_encode(struct bytes *b, const struct c_run_hash *e) {
    uint8_t *p = bytes_add(b, C_RUN_HASH_SIZE);
    if (p == NULL)
        return;
    put32(p, e->id);
    put64(p + 8, e->header_hash);
}

bool c_run_hash_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct c_run_hash *e) {
    if (!bytes_fit(len, *at, C_RUN_HASH_SIZE))
        return false;
    const uint8_t *p = data + *at;
    *e = (struct c_run_hash){get32(p), get64(p + 8)};
    *at += C_RUN_HASH_SIZE;
    return true;
}

void c_state_encode(struct bytes *b, const struct c_state *e) {
    uint8_t *p = bytes_add(b, C_STATE_SIZE);
    if (p == NULL)
        return;
    put32(p, e->next_run);
    put64(p + 8, e->flush_lsn);
    put64(p + 16, e->replay_max);
}

bool c_state_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct c_state *e) {
    if (!bytes_fit(len, *at, C_STATE_SIZE))
        return false;
    const uint8_t *p = data + *at;
    *e = (struct c_state){get32(p), get64(p + 8), get64(p + 16)};
    *at += C_STATE_SIZE;
    return true;
}
