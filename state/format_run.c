/* SPDX-License-Identifier: Apache-2.0 */
#include "state/format_run.h"

#include <assert.h>

static const uint8_t magic[8] = {'P', 'A', 'W', 'L', 'R', 'U', 'N', '\n'};
#define HEADER_HASH (RUN_UNIT - 8)
#define FLAG_DELETE 1u
#define FLAG_EXPIRES 2u
#define NUMBER_MAX 10u

/* ---- the header */

void run_header_encode(uint8_t out[RUN_UNIT], struct run_header *h) {
    struct frame_key key;
    memset(out, 0, RUN_UNIT);
    memcpy(out, magic, sizeof magic);
    put32(out + 8, RUN_VERSION);
    put32(out + 12, RUN_UNIT);
    memcpy(out + 16, h->log_id, 16);
    memcpy(out + 32, h->key, KEY_SIZE);
    put32(out + 64, h->run_id);
    put32(out + 68, h->level);
    put64(out + 72, h->flush_lsn);
    put32(out + 80, h->state);
    put32(out + 84, 0); /* features */
    put64(out + 88, h->sum.length);
    put64(out + 96, h->sum.pairs);
    put64(out + 104, h->sum.deletes);
    put64(out + 112, h->sum.key_bytes);
    put64(out + 120, h->sum.value_bytes);
    put64(out + 128, h->sum.expiry_min_ms);
    put32(out + 136, h->data_blocks);
    put32(out + 140, h->index_blocks);
    put32(out + 144, h->filter_blocks);
    put32(out + 148, h->root);
    put32(out + 152, h->root_units);
    put32(out + 156, h->height);
    frame_key_expand(h->key, &key);
    h->sum.header_hash = frame_hash(out, HEADER_HASH, &key);
    put64(out + HEADER_HASH, h->sum.header_hash);
}

/* Do the numbers of a whole run's header agree with each other? */
static bool agrees(const struct run_header *h) {
    uint64_t units = h->sum.length / RUN_UNIT;
    if (h->sum.length % RUN_UNIT != 0 || units > UINT32_MAX || h->sum.deletes > h->sum.pairs)
        return false;
    uint64_t blocks = (uint64_t)h->data_blocks + h->index_blocks + h->filter_blocks;
    if (h->sum.pairs == 0)
        return units == 1 && blocks == 0 && h->root == 0 && h->root_units == 0 && h->height == 0;
    return blocks < units && h->data_blocks != 0 && h->filter_blocks != 0 &&
           h->height <= h->index_blocks && h->height >= 1 && h->height <= RUN_LEVELS_MAX &&
           h->root >= 1 && h->root_units >= 1 && h->root_units <= RUN_UNITS_MAX &&
           (uint64_t)h->root + h->root_units <= units;
}

enum run_header_verdict run_header_decode(const uint8_t in[RUN_UNIT], struct run_header *h) {
    struct frame_key key;
    memset(h, 0, sizeof *h);
    if (all_zero(in, RUN_UNIT))
        return RUN_HEADER_BLANK;
    if (memcmp(in, magic, sizeof magic) != 0)
        return RUN_HEADER_OTHER;
    memcpy(h->key, in + 32, KEY_SIZE);
    frame_key_expand(h->key, &key);
    h->sum.header_hash = get64(in + HEADER_HASH);
    if (frame_hash(in, HEADER_HASH, &key) != h->sum.header_hash)
        return RUN_HEADER_BAD;
    if (get32(in + 8) != RUN_VERSION || get32(in + 12) != RUN_UNIT || get32(in + 84) != 0)
        return RUN_HEADER_UNKNOWN;
    memcpy(h->log_id, in + 16, 16);
    h->run_id = get32(in + 64);
    h->level = get32(in + 68);
    h->flush_lsn = get64(in + 72);
    uint32_t state = get32(in + 80);
    h->sum.length = get64(in + 88);
    h->sum.pairs = get64(in + 96);
    h->sum.deletes = get64(in + 104);
    h->sum.key_bytes = get64(in + 112);
    h->sum.value_bytes = get64(in + 120);
    h->sum.expiry_min_ms = get64(in + 128);
    h->data_blocks = get32(in + 136);
    h->index_blocks = get32(in + 140);
    h->filter_blocks = get32(in + 144);
    h->root = get32(in + 148);
    h->root_units = get32(in + 152);
    h->height = get32(in + 156);
    if (state != RUN_UNFINISHED && state != RUN_WHOLE)
        return RUN_HEADER_BAD;
    h->state = (enum run_header_state)state;
    return state == RUN_UNFINISHED || agrees(h) ? RUN_HEADER_GOOD : RUN_HEADER_BAD;
}

void run_summary_add(struct run_summary *s, const struct state_pair *p) {
    s->pairs++;
    s->deletes += p->op == STATE_DELETE;
    s->key_bytes += p->key_len;
    s->value_bytes += p->value_len;
    if (p->expiry_ms != 0 && (s->expiry_min_ms == 0 || p->expiry_ms < s->expiry_min_ms))
        s->expiry_min_ms = p->expiry_ms;
}

/* ---- numbers of one to ten bytes */

static uint32_t number_size(uint64_t v) {
    uint32_t n = 1;
    while (v >= 0x80) {
        v >>= 7;
        n++;
    }
    return n;
}

static uint32_t number_put(uint8_t *out, uint64_t v) {
    uint32_t n = 0;
    while (v >= 0x80) {
        out[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    out[n++] = (uint8_t)v;
    return n;
}

/* Of bytes that aren't checked yet. Only the shortest form is valid. */
static bool number_get(const uint8_t **at, const uint8_t *end, uint64_t *v) {
    *v = 0;
    for (uint32_t n = 0; n < NUMBER_MAX && *at < end; n++) {
        uint8_t byte = *(*at)++;
        if (n == NUMBER_MAX - 1 && byte > 1)
            return false;
        *v |= (uint64_t)(byte & 0x7f) << 7 * n;
        if (byte < 0x80)
            return n == 0 || byte != 0;
    }
    return false;
}

/* Of checked bytes. */
static const uint8_t *number_take(const uint8_t *at, uint64_t *v) {
    uint8_t byte = *at++;
    uint64_t value = byte & 0x7f;
    for (uint32_t shift = 7; byte >= 0x80; shift += 7) {
        byte = *at++;
        value |= (uint64_t)(byte & 0x7f) << shift;
    }
    *v = value;
    return at;
}

/* ---- entries of checked blocks */

const uint8_t *run_entry_suffix(const struct run_view *v, uint32_t i, uint32_t *len,
                                const uint8_t **payload) {
    const uint8_t *at = v->data + get16(v->offsets + (size_t)i * 2);
    uint64_t n = *at++;
    if (n >= 0x80)
        at = number_take(at - 1, &n);
    *len = (uint32_t)n;
    if (payload != NULL)
        *payload = at + n;
    return at;
}

uint32_t run_entry_key(const struct run_view *v, uint32_t i, uint8_t out[STORE_KEY_MAX]) {
    uint32_t len;
    const uint8_t *suffix = run_entry_suffix(v, i, &len, NULL);
    assert(v->prefix_len + len <= STORE_KEY_MAX);
    memcpy(out, v->prefix, v->prefix_len);
    memcpy(out + v->prefix_len, suffix, len);
    return v->prefix_len + len;
}

uint32_t run_search(const struct run_view *v, const uint8_t *key, uint32_t len, bool *same) {
    *same = false;
    uint32_t common = len < v->prefix_len ? len : v->prefix_len;
    int order = memcmp(key, v->prefix, common);
    if (order != 0)
        return order < 0 ? 0 : v->count;
    if (len < v->prefix_len)
        return 0;
    key += common;
    len -= common;
    uint32_t low = 0, high = v->count;
    while (low < high) {
        uint32_t middle = (low + high) / 2, n;
        const uint8_t *suffix = run_entry_suffix(v, middle, &n, NULL);
        order = bytes_compare(suffix, n, key, len);
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
        if (order == 0)
            *same = true; /* keys are different: this is the one at which it ends */
    }
    return low;
}

void run_entry_pair(const struct run_view *v, uint32_t i, struct state_pair *out) {
    uint32_t len;
    const uint8_t *at;
    uint64_t value_len = 0;
    run_entry_suffix(v, i, &len, &at);
    uint8_t flags = *at++;
    out->expiry_ms = 0;
    if ((flags & FLAG_EXPIRES) != 0)
        at = number_take(at, &out->expiry_ms);
    out->op = (flags & FLAG_DELETE) != 0 ? STATE_DELETE : STATE_PUT;
    if (out->op == STATE_PUT)
        at = number_take(at, &value_len);
    out->value = at;
    out->value_len = (uint32_t)value_len;
}

void run_entry_child(const struct run_view *v, uint32_t i, struct run_child *out) {
    uint32_t len;
    const uint8_t *at;
    uint64_t unit, units, distance = 0;
    run_entry_suffix(v, i, &len, &at);
    at = number_take(at, &unit);
    at = number_take(at, &units);
    if (v->level == 0)
        number_take(at, &distance);
    *out = (struct run_child){.place = {(uint32_t)unit, (uint32_t)units},
                              .filter = v->level == 0 ? (uint32_t)(unit + distance) : 0};
}

/* ---- checking a block */

/* The bytes of a pair after its key. */
static bool pair_fits(const uint8_t **at, const uint8_t *end) {
    uint64_t expiry, value_len;
    if (*at == end)
        return false;
    uint8_t flags = *(*at)++;
    if ((flags & ~(FLAG_DELETE | FLAG_EXPIRES)) != 0 || flags == (FLAG_DELETE | FLAG_EXPIRES))
        return false;
    if ((flags & FLAG_EXPIRES) != 0 && (!number_get(at, end, &expiry) || expiry == 0))
        return false;
    if ((flags & FLAG_DELETE) != 0)
        return true;
    if (!number_get(at, end, &value_len) || value_len > STORE_VALUE_MAX ||
        value_len > (uint64_t)(end - *at))
        return false;
    *at += value_len;
    return true;
}

/* The bytes of an index entry after its key: the child lies before the block, its filter too. */
static bool child_fits(const struct run_view *v, const uint8_t **at, const uint8_t *end) {
    uint64_t unit, units, distance;
    if (!number_get(at, end, &unit) || !number_get(at, end, &units) || unit == 0 || units == 0 ||
        units > RUN_UNITS_MAX || unit >= v->place.unit || units > v->place.unit - unit)
        return false;
    if (v->level != 0)
        return true;
    return number_get(at, end, &distance) && distance >= units && distance < v->place.unit - unit;
}

/* The entries follow each other without a gap, each as the table of places says. */
static const char *check_entries(const struct run_view *v, const uint8_t *at) {
    const uint8_t *before = NULL;
    uint64_t before_len = 0, len;
    for (uint32_t i = 0; i < v->count; i++) {
        if ((size_t)(at - v->data) != get16(v->offsets + (size_t)i * 2))
            return "an entry isn't where the block says";
        if (!number_get(&at, v->offsets, &len) || len > (uint64_t)(v->offsets - at) ||
            v->prefix_len + len > STORE_KEY_MAX || v->prefix_len + len == 0)
            return "a key doesn't fit";
        const uint8_t *suffix = at;
        at += len;
        if (before != NULL &&
            bytes_compare(before, (uint32_t)before_len, suffix, (uint32_t)len) >= 0)
            return "the keys are out of order";
        before = suffix;
        before_len = len;
        if (!(v->kind == BLOCK_DATA ? pair_fits(&at, v->offsets) : child_fits(v, &at, v->offsets)))
            return v->kind == BLOCK_DATA ? "a value doesn't fit" : "an entry of the index is wrong";
    }
    return at == v->offsets ? NULL : "there are bytes after the last entry";
}

const char *run_block_decode(const uint8_t *data, struct run_place place, uint8_t kind,
                             uint8_t level, const struct frame_key *key, struct run_view *v) {
    size_t size = (size_t)place.units * RUN_UNIT;
    if (frame_hash(data + 8, size - 8, key) != get64(data))
        return all_zero(data, size) ? "there are only zeros" : "its hash is wrong";
    *v = (struct run_view){.data = data,
                           .length = get32(data + 12),
                           .place = place,
                           .kind = data[16],
                           .level = data[17],
                           .prefix_len = get16(data + 18),
                           .count = get32(data + 20),
                           .prefix = data + RUN_BLOCK_HEAD};
    if (get32(data + 8) != place.unit)
        return "it is a block of another place";
    if (v->kind != kind || v->level != level)
        return "it is a block of another kind";
    if (v->length > size || run_units(v->length) != place.units || v->count == 0)
        return "its length is wrong";
    if (!all_zero(data + v->length, size - v->length))
        return "the bytes after its end aren't zeros";
    if (kind == BLOCK_FILTER)
        return v->prefix_len != 0 || place.units != 1 || v->length < RUN_FILTER_START + 64 ||
                       (v->length - RUN_FILTER_START) % 64 != 0
                   ? "its length is wrong"
                   : NULL;
    /* a block of several units has one pair, or too few keys to fill one */
    if (kind == BLOCK_DATA && place.units > 1 && v->count != 1)
        return "it has too many pairs";
    uint64_t table = (uint64_t)v->count * 2;
    if (!bytes_fit(v->length, RUN_BLOCK_HEAD + (uint64_t)v->prefix_len, table))
        return "its length is wrong";
    v->offsets = data + v->length - table;
    return check_entries(v, data + RUN_BLOCK_HEAD + v->prefix_len);
}

/* ---- making blocks */

struct slot {
    uint32_t at;      /* in `raw`: the key after what it shares with the first one, the payload */
    uint32_t payload; /* its length */
    uint16_t shared, rest;
};

void run_builder_init(struct run_builder *b, struct mem *m) {
    memset(b, 0, sizeof *b);
    bytes_init(&b->raw, m);
    bytes_init(&b->slots, m);
}

void run_builder_free(struct run_builder *b) {
    bytes_free(&b->raw);
    bytes_free(&b->slots);
}

void run_builder_clear(struct run_builder *b) {
    b->raw.len = b->slots.len = 0;
    b->count = b->first_len = b->prefix_len = 0;
    b->suffixes = b->payloads = 0;
}

static const struct slot *slots_of(const struct run_builder *b) {
    return (const struct slot *)(const void *)b->slots.data;
}

uint32_t run_shared_len(const uint8_t *a, uint32_t a_len, const uint8_t *b, uint32_t b_len) {
    uint32_t max = a_len < b_len ? a_len : b_len, n = 0;
    while (n < max && a[n] == b[n])
        n++;
    return n;
}

/* The bytes of all keys after a prefix of this length, with their lengths. */
static uint64_t suffix_bytes(const struct run_builder *b, uint32_t prefix_len) {
    const struct slot *s = slots_of(b);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < b->count; i++) {
        uint32_t len = (uint32_t)s[i].shared + s[i].rest - prefix_len;
        sum += number_size(len) + len;
    }
    return sum;
}

static uint64_t block_size(uint32_t prefix_len, uint64_t suffixes, uint64_t payloads,
                           uint32_t count) {
    return RUN_BLOCK_HEAD + prefix_len + suffixes + payloads + 2 * (uint64_t)count;
}

uint64_t run_builder_size(const struct run_builder *b) {
    return block_size(b->prefix_len, b->suffixes, b->payloads, b->count);
}

/* What `suffixes` becomes with one more key; *prefix_len becomes what they have in common then. */
static uint64_t suffixes_with(const struct run_builder *b, const uint8_t *key, uint32_t key_len,
                              uint32_t *shared, uint32_t *prefix_len) {
    *shared = b->count == 0 ? key_len : run_shared_len(b->raw.data, b->first_len, key, key_len);
    *prefix_len = b->count == 0 || *shared < b->prefix_len ? *shared : b->prefix_len;
    uint64_t old =
        *prefix_len == b->prefix_len || b->count == 0 ? b->suffixes : suffix_bytes(b, *prefix_len);
    uint32_t own = key_len - *prefix_len;
    return old + number_size(own) + own;
}

uint64_t run_builder_size_with(const struct run_builder *b, const uint8_t *key, uint32_t key_len,
                               uint64_t payload_len) {
    uint32_t shared, prefix_len;
    uint64_t suffixes = suffixes_with(b, key, key_len, &shared, &prefix_len);
    return block_size(prefix_len, suffixes, b->payloads + payload_len, b->count + 1);
}

bool run_builder_add(struct run_builder *b, const uint8_t *key, uint32_t key_len,
                     const struct piece *payload, uint32_t pieces) {
    uint32_t shared, prefix_len;
    b->suffixes = suffixes_with(b, key, key_len, &shared, &prefix_len);
    b->prefix_len = prefix_len;
    if (b->count == 0) {
        b->first_len = key_len;
        if (!bytes_put(&b->raw, key, key_len))
            return false;
    }
    struct slot s = {.at = (uint32_t)b->raw.len,
                     .shared = (uint16_t)shared,
                     .rest = (uint16_t)(key_len - shared)};
    if (!bytes_put(&b->raw, key + shared, s.rest))
        return false;
    for (uint32_t i = 0; i < pieces; i++) {
        if (!bytes_put(&b->raw, payload[i].data, payload[i].len))
            return false;
        s.payload += (uint32_t)payload[i].len;
    }
    b->payloads += s.payload;
    b->count++;
    return bytes_put(&b->slots, &s, sizeof s);
}

uint32_t run_builder_last_key(const struct run_builder *b, uint8_t out[STORE_KEY_MAX]) {
    assert(b->count > 0);
    const struct slot *s = &slots_of(b)[b->count - 1];
    memcpy(out, b->raw.data, s->shared);
    memcpy(out + s->shared, b->raw.data + s->at, s->rest);
    return (uint32_t)s->shared + s->rest;
}

void run_block_head_encode(uint8_t out[RUN_BLOCK_HEAD], uint8_t kind, uint8_t level, uint32_t unit,
                           uint32_t length, uint32_t prefix_len, uint32_t count) {
    put64(out, 0);
    put32(out + 8, unit);
    put32(out + 12, length);
    out[16] = kind;
    out[17] = level;
    put16(out + 18, (uint16_t)prefix_len);
    put32(out + 20, count);
}

void run_block_seal(uint8_t *block, uint32_t units, const struct frame_key *key) {
    put64(block, frame_hash(block + 8, (size_t)units * RUN_UNIT - 8, key));
}

void run_builder_encode(const struct run_builder *b, uint8_t *out, uint8_t kind, uint8_t level,
                        uint32_t unit, const struct frame_key *key) {
    uint64_t length = run_builder_size(b);
    uint32_t units = run_units(length);
    assert(b->count > 0 && (b->count == 1 || length <= UINT16_MAX));
    run_block_head_encode(out, kind, level, unit, (uint32_t)length, b->prefix_len, b->count);
    memcpy(out + RUN_BLOCK_HEAD, b->raw.data, b->prefix_len);
    uint8_t *at = out + RUN_BLOCK_HEAD + b->prefix_len;
    uint8_t *offsets = out + length - (size_t)b->count * 2;
    const struct slot *s = slots_of(b);
    for (uint32_t i = 0; i < b->count; i++) {
        put16(offsets + (size_t)i * 2, (uint16_t)(at - out));
        at += number_put(at, (uint32_t)s[i].shared + s[i].rest - b->prefix_len);
        memcpy(at, b->raw.data + b->prefix_len, s[i].shared - b->prefix_len);
        at += s[i].shared - b->prefix_len;
        memcpy(at, b->raw.data + s[i].at, (size_t)s[i].rest + s[i].payload);
        at += s[i].rest + s[i].payload;
    }
    assert(at == offsets);
    memset(out + length, 0, (size_t)units * RUN_UNIT - length);
    run_block_seal(out, units, key);
}

uint32_t run_pair_payload(uint8_t out[RUN_PAYLOAD_HEAD_MAX], const struct state_pair *p) {
    uint32_t n = 1;
    out[0] = (uint8_t)((p->op == STATE_DELETE ? FLAG_DELETE : 0) |
                       (p->expiry_ms != 0 ? FLAG_EXPIRES : 0));
    if (p->expiry_ms != 0)
        n += number_put(out + n, p->expiry_ms);
    if (p->op == STATE_PUT)
        n += number_put(out + n, p->value_len);
    return n;
}

uint32_t run_child_payload(uint8_t out[RUN_PAYLOAD_HEAD_MAX], const struct run_child *c,
                           uint8_t level) {
    uint32_t n = number_put(out, c->place.unit);
    n += number_put(out + n, c->place.units);
    if (level == 0)
        n += number_put(out + n, c->filter - c->place.unit);
    return n;
}

bool run_large_encode(struct run_large *l, struct mem *m, const struct state_pair *p, uint32_t unit,
                      const struct frame_key *key) {
    uint8_t payload[RUN_PAYLOAD_HEAD_MAX], none = 0;
    uint32_t n = run_pair_payload(payload, p);
    uint32_t start = RUN_BLOCK_HEAD + p->key_len; /* of the entry: a key of no bytes after it */
    uint64_t length = (uint64_t)start + 1 + n + p->value_len + 2;
    l->units = run_units(length);
    bytes_init(&l->head, m);
    uint8_t *head = bytes_add(&l->head, RUN_BLOCK_HEAD);
    if (head == NULL || !bytes_put(&l->head, p->key, p->key_len) ||
        !bytes_put(&l->head, &none, 1) || !bytes_put(&l->head, payload, n))
        return false;
    run_block_head_encode(l->head.data, BLOCK_DATA, 0, unit, (uint32_t)length, p->key_len, 1);
    memset(l->tail, 0, sizeof l->tail);
    put16(l->tail, (uint16_t)start);
    size_t tail = 2 + ((size_t)l->units * RUN_UNIT - length);
    struct piece hashed[3] = {
        {l->head.data + 8, l->head.len - 8}, {p->value, p->value_len}, {l->tail, tail}};
    put64(l->head.data, frame_hash_pieces(hashed, 3, key));
    l->pieces[0] = (struct piece){l->head.data, l->head.len};
    l->pieces[1] = hashed[1];
    l->pieces[2] = hashed[2];
    return true;
}

void run_large_free(struct run_large *l) {
    bytes_free(&l->head);
}
