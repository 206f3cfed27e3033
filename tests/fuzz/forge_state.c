/* SPDX-License-Identifier: Apache-2.0
 *
 * Keyed state in the forged log: a table, changes of it, and a run file that has the first of them.
 * Written from docs/format.md, sections 5 and 10; shares no code with the library's encoders.
 */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "forge.h"

#include <stdio.h>
#include <stdlib.h>

#include "ram.h"

#define UNIT 4096u
#define BLOCK_HEAD 24u
#define FILTER_LINES 64u /* where they begin */
#define UNITS_MAX 24u    /* of a forged file */

static void must(bool well) {
    if (!well)
        abort();
}

/* ---- in the log */

/* 32 bytes: the sum of a partition with these pairs, one byte each. */
static void sum_of(uint8_t *out, const char *pairs) {
    uint64_t low = 0, high = 0, n = 0;
    for (; pairs[0] != 0; pairs += 2, n++) {
        uint8_t text[6] = {1, 0, 0, 0, (uint8_t)pairs[0], (uint8_t)pairs[1]};
        XXH128_hash_t h = XXH3_128bits(text, sizeof text);
        low += h.low64;
        high += h.high64 + (low < h.low64);
    }
    forge_put(out, 8, low);
    forge_put(out + 8, 8, high);
    forge_put(out + 16, 8, n);
    forge_put(out + 24, 8, 2 * n);
}

static struct forge_frame *commit_of(struct forge_run *r) {
    struct forge_frame *f = forge_frame_new(COMMIT);
    must(f != NULL && forge_run_insert(f, 0, r));
    f->group = true;
    return f;
}

/* A change: key -> value, after which the partition has `pairs`. */
static struct forge_frame *change(uint32_t partition, char key, char value, const char *pairs) {
    uint8_t body[32 + 5] = {0};
    sum_of(body, pairs);
    body[33] = body[34] = 1;
    body[35] = (uint8_t)key;
    body[36] = (uint8_t)value;
    return commit_of(forge_run_new(STATE, 1, partition, 1, body, sizeof body));
}

static struct forge_run *table_entry(uint16_t type, uint32_t op, uint32_t id) {
    uint8_t e[56] = {0};
    forge_put(e, 2, op);
    forge_put(e + 4, 4, id);
    if (op == 1) {
        forge_put(e + 2, 2, 1);
        forge_put(e + 8, 4, 1);
        forge_put(e + 12, 4, 2);
        forge_put(e + 20, 4, 1); /* a partition takes any key */
        e[48] = 't';
    }
    return forge_run_new(type, 0, 0, 1, e, op == 1 ? 56 : 48);
}

/* The checkpoint of segment n; what joins is set when it is sealed. */
static void checkpoint(struct forge_frame *f, uint32_t n) {
    uint8_t digests[2 * 56] = {0}, run[24] = {0}, state[24] = {0};
    uint32_t at = f->runs - 2; /* before C_IDS and CLOCK */
    forge_put(digests, 4, 1);
    sum_of(digests + 8, n < 3 ? "a1" : "a1b2");
    forge_put(digests + 56, 4, 1);
    forge_put(digests + 60, 4, 1);
    sum_of(digests + 64, "c3");
    forge_put(run, 4, 1);
    forge_put(state, 4, 2);
    must(forge_run_insert(f, at, table_entry(C_TABLES, 1, 1)) &&
         forge_run_insert(
             f, at + 1, forge_run_new(C_DIGESTS, 0, 0, n > 1 ? 2 : 1, digests, n > 1 ? 112 : 56)) &&
         forge_run_insert(f, at + 2, forge_run_new(C_RUNS, 0, 0, 1, run, sizeof run)) &&
         forge_run_insert(f, at + 3, forge_run_new(C_STATE, 0, 0, 1, state, sizeof state)));
    forge_put(f->run[at + 4]->body + 12, 4, 2);
}

static void before_seal(struct forge_segment *s, struct forge_frame *f) {
    must(forge_frame_insert(s, s->frames - 1, f));
}

/* ---- the file */

static void pair(struct forge_block *b, char key, const char *rest, uint32_t len) {
    struct forge_item *i = &b->item[b->items++];
    i->key[0] = (uint8_t)key;
    i->key_len = 1;
    memcpy(i->body, rest, len);
    i->body_len = len;
}

static struct forge_block *block(struct forge_file *f, uint8_t kind) {
    static const uint8_t prefix[8] = {0, 0, 0, 1, 0, 0, 0, 0};
    struct forge_block *b = &f->block[f->blocks++];
    b->kind = kind;
    if (kind != FORGE_FILTER) {
        memcpy(b->prefix, prefix, sizeof prefix);
        b->prefix_len = sizeof prefix;
    }
    return b;
}

void forge_state(struct forge *f) {
    struct forge_file *file = &f->file;
    f->stateful = true;
    struct forge_segment *s = f->segment;
    before_seal(&s[0], commit_of(table_entry(TABLES, 1, 1)));
    before_seal(&s[0], change(0, 'a', '1', "a1"));
    before_seal(&s[0], commit_of(table_entry(TABLES, 4, 1)));
    before_seal(&s[1], change(1, 'c', '3', "c3"));
    before_seal(&s[2], change(0, 'b', '2', "a1b2"));
    for (uint32_t n = 1; n < 4; n++)
        checkpoint(s[n].frame[0], n);
    *file = (struct forge_file){.name = 1, .root = 3, .height = 1};
    pair(block(file, FORGE_PAIRS), 'a',
         "\0\1"
         "1",
         3);
    pair(block(file, FORGE_PAIRS), 'x', "\1", 1);
    (void)block(file, FORGE_FILTER);
    struct forge_block *index = block(file, FORGE_INDEX);
    pair(index, 'a', "", 0);
    pair(index, 'x', "", 0);
    index->item[1].child = 1;
}

/* ---- its bytes */

static uint32_t number(uint8_t *out, uint64_t v) {
    uint32_t n = 0;
    for (; v >= 0x80; v >>= 7)
        out[n++] = (uint8_t)(v | 0x80);
    out[n++] = (uint8_t)v;
    return n;
}

static uint64_t hash_with(const uint8_t *secret, const void *data, size_t len) {
    return XXH3_64bits_withSecret(data, len, secret, 192);
}

static const uint8_t file_key[32] = "the key of a forged run file    ";

/* The filter that comes after the child. */
static uint32_t filter_after(const struct forge_file *f, uint32_t child) {
    for (uint32_t i = child; i < f->blocks; i++)
        if (f->block[i].kind == FORGE_FILTER)
            return f->block[i].unit;
    return 0;
}

static uint32_t item_encode(const struct forge_file *f, const struct forge_block *b,
                            const struct forge_item *i, uint8_t *out) {
    uint32_t n = number(out, i->key_len);
    memcpy(out + n, i->key, i->key_len);
    n += i->key_len;
    if (b->kind != FORGE_INDEX || i->loose) {
        memcpy(out + n, i->body, i->body_len);
        return n + i->body_len;
    }
    const struct forge_block *child = &f->block[i->child % f->blocks];
    n += number(out + n, child->unit);
    n += number(out + n, child->units);
    if (b->level == 0)
        n += number(out + n, filter_after(f, i->child % f->blocks) - child->unit);
    return n;
}

/* Bits of all keys of the file's pairs. */
static uint32_t filter_encode(const struct forge_file *f, const uint8_t *secret, uint8_t *out) {
    uint32_t keys = 0;
    for (uint32_t k = 0; k < f->blocks; k++)
        for (uint32_t i = 0; f->block[k].kind == FORGE_PAIRS && i < f->block[k].items;
             i++, keys++) {
            const struct forge_block *b = &f->block[k];
            uint8_t key[sizeof b->prefix + sizeof b->item[0].key];
            memcpy(key, b->prefix, b->prefix_len);
            memcpy(key + b->prefix_len, b->item[i].key, b->item[i].key_len);
            uint64_t h = hash_with(secret, key, b->prefix_len + b->item[i].key_len);
            for (uint32_t p = 0; p < 6; p++) {
                uint32_t bit = h >> (9 * p) & 511;
                out[FILTER_LINES + bit / 8] |= (uint8_t)(1u << bit % 8);
            }
        }
    return keys;
}

static void block_encode(const struct forge_file *f, const struct forge_block *b,
                         const uint8_t *secret, uint8_t *out) {
    uint32_t length = BLOCK_HEAD + b->prefix_len, count = b->items;
    uint16_t places[FORGE_ITEMS];
    memcpy(out + BLOCK_HEAD, b->prefix, b->prefix_len);
    for (uint32_t i = 0; i < b->items; i++) {
        places[i] = (uint16_t)length;
        length += item_encode(f, b, &b->item[i], out + length);
    }
    memcpy(out + length, places, (size_t)b->items * 2);
    length += b->items * 2 + (b->units - 1) * UNIT;
    if (b->kind == FORGE_FILTER) {
        count = filter_encode(f, secret, out);
        length = FILTER_LINES + 64;
    }
    forge_put(out + 8, 4, b->unit);
    forge_put(out + 12, 4, length);
    out[16] = b->kind;
    out[17] = b->level;
    forge_put(out + 18, 2, b->prefix_len);
    forge_put(out + 20, 4, count);
    forge_lie(&b->lies, out);
    forge_put(out, 8, hash_with(secret, out + 8, (size_t)b->units * UNIT - 8));
}

/* What the header says of all blocks. */
static void sums(const struct forge_file *f, uint8_t *out) {
    uint64_t pairs = 0, deletes = 0, keys = 0, values = 0;
    uint32_t kinds[4] = {0};
    for (uint32_t k = 0; k < f->blocks; k++) {
        const struct forge_block *b = &f->block[k];
        kinds[b->kind]++;
        for (uint32_t i = 0; b->kind == FORGE_PAIRS && i < b->items; i++, pairs++) {
            deletes += b->item[i].body[0] & 1;
            keys += b->prefix_len + b->item[i].key_len;
            values += (b->item[i].body[0] & 1) != 0 ? 0 : b->item[i].body_len - 2;
        }
    }
    const struct forge_block *root = &f->block[f->root % f->blocks];
    forge_put(out + 96, 8, pairs);
    forge_put(out + 104, 8, deletes);
    forge_put(out + 112, 8, keys);
    forge_put(out + 120, 8, values);
    forge_put(out + 136, 4, kinds[FORGE_PAIRS]);
    forge_put(out + 140, 4, kinds[FORGE_INDEX]);
    forge_put(out + 144, 4, kinds[FORGE_FILTER]);
    forge_put(out + 148, 4, root->unit);
    forge_put(out + 152, 4, root->units);
    forge_put(out + 156, 4, f->height);
}

uint64_t forge_file_length(struct forge_file *f) {
    uint32_t unit = 1;
    for (uint32_t i = 0; i < f->blocks; i++) {
        f->block[i].unit = unit;
        f->block[i].units = 1 + f->block[i].more % 3;
        unit += f->block[i].units;
    }
    return f->length != 0 ? f->length : (uint64_t)unit * UNIT;
}

void forge_file_seal(struct forge *f, uint64_t flush_lsn) {
    static uint8_t image[UNITS_MAX * 3 * UNIT];
    uint8_t secret[192];
    struct forge_file *file = &f->file;
    uint64_t length = forge_file_length(file);
    char name[24];
    memset(image, 0, sizeof image);
    for (uint32_t i = 0; i < 24; i++)
        forge_put(secret + (size_t)i * 8, 8, XXH3_64bits_withSeed(file_key, 32, i));
    for (uint32_t i = 0; i < file->blocks; i++)
        block_encode(file, &file->block[i], secret, image + (size_t)file->block[i].unit * UNIT);
    memcpy(image, "PAWLRUN\n", 8);
    forge_put(image + 8, 4, 1);
    forge_put(image + 12, 4, UNIT);
    memcpy(image + 16, f->log_id, 16);
    memcpy(image + 32, file_key, 32);
    forge_put(image + 64, 4, 1);
    forge_put(image + 72, 8, flush_lsn);
    forge_put(image + 80, 4, 2);
    forge_put(image + 88, 8, length);
    sums(file, image);
    forge_lie(&file->lies, image);
    forge_put(image + UNIT - 8, 8, hash_with(secret, image, UNIT - 8));
    if (file->missing)
        return;
    snprintf(name, sizeof name, "%016llx.run", (unsigned long long)file->name);
    uint8_t *data = ram_make(name, length);
    if (data != NULL)
        memcpy(data, image, length < sizeof image ? length : sizeof image);
}
