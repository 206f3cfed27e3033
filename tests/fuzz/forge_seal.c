/* SPDX-License-Identifier: Apache-2.0 */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "forge.h"

#include <stdio.h>

#include "ram.h"

/* ---- entries: docs/format.md, section 5 */

static const struct forge_shape shapes[] = {
    {RECORDS, 16, 1, {{0, 4}, {4, 2}, {6, 2}}, {{0, 4}, {4, 2}, {6, 2}, {8, 8}}},
    {SPILLED, 24, 1, {{0, 0}}, {{0, 8}, {8, 8}, {16, 4}, {20, 4}}},
    {POSITIONS, 32, 1, {{0, 0}}, {{0, 4}, {4, 4}, {8, 4}, {12, 4}, {16, 8}, {24, 8}}},
    {PRODUCERS,
     64,
     1,
     {{0, 0}},
     {{0, 4}, {4, 4}, {8, 8}, {16, 8}, {24, 4}, {28, 4}, {32, 8}, {56, 8}}},
    /* the sum, then the first byte of a change */
    {STATE, 33, 1, {{0, 0}}, {{0, 8}, {8, 8}, {16, 8}, {24, 8}, {32, 1}}},
    {TABLES,
     48,
     8,
     {{2, 2}},
     {{0, 2}, {2, 2}, {4, 4}, {8, 4}, {12, 4}, {16, 4}, {20, 4}, {24, 8}, {32, 8}, {40, 8}}},
    {C_TABLES,
     48,
     8,
     {{2, 2}},
     {{0, 2}, {2, 2}, {4, 4}, {8, 4}, {12, 4}, {16, 4}, {20, 4}, {24, 8}, {32, 8}, {40, 8}}},
    {C_DIGESTS, 56, 1, {{0, 0}}, {{0, 4}, {4, 4}, {8, 8}, {24, 8}, {32, 8}, {40, 8}, {48, 4}}},
    {C_RUNS, 24, 1, {{0, 0}}, {{0, 4}, {4, 4}, {8, 8}, {16, 8}}},
    {C_RUN_HASHES, 16, 1, {{0, 0}}, {{0, 4}, {4, 4}, {8, 8}}},
    {C_STATE, 24, 1, {{0, 0}}, {{0, 4}, {8, 8}, {16, 8}}},
    {CATALOG, 24, 8, {{2, 2}}, {{0, 2}, {2, 2}, {4, 4}, {8, 8}, {16, 8}}},
    {SINKS, 8, 8, {{6, 2}}, {{0, 4}, {4, 2}, {6, 2}}},
    {INDEX, 24, 1, {{0, 0}}, {{0, 4}, {4, 4}, {8, 8}, {16, 8}}},
    {C_STREAMS, 16, 8, {{8, 4}}, {{0, 4}, {4, 4}, {8, 4}, {12, 4}}},
    {C_NEXT, 16, 1, {{0, 0}}, {{0, 4}, {4, 4}, {8, 8}}},
    {C_PRODUCERS,
     72,
     8,
     {{36, 4}},
     {{0, 4}, {4, 4}, {8, 8}, {16, 4}, {20, 4}, {24, 8}, {32, 4}, {36, 4}, {40, 8}, {64, 8}}},
    {C_PROCESSORS, 8, 8, {{4, 4}}, {{0, 4}, {4, 4}}},
    {C_POSITIONS, 24, 1, {{0, 0}}, {{0, 4}, {4, 4}, {8, 4}, {12, 4}, {16, 8}}},
    {C_SETTINGS, 24, 1, {{0, 0}}, {{0, 8}, {8, 8}, {16, 8}}},
    {C_SINKS, 8, 8, {{6, 2}}, {{0, 4}, {4, 2}, {6, 2}}},
    {C_SPANS, 16, 1, {{0, 0}}, {{0, 8}, {8, 8}}},
    {C_IDS, 32, 1, {{0, 0}}, {{0, 4}, {4, 4}, {8, 4}, {12, 4}, {16, 8}, {24, 8}}},
    {CLOCK, 40, 1, {{0, 0}}, {{0, 8}, {8, 8}, {16, 8}, {24, 8}, {32, 4}, {36, 4}}},
    {ORIGINS,
     48,
     8,
     {{32, 1}, {33, 1}, {36, 4}, {40, 4}},
     {{0, 4},
      {4, 4},
      {8, 8},
      {16, 8},
      {24, 4},
      {28, 2},
      {30, 1},
      {31, 1},
      {32, 1},
      {33, 1},
      {34, 2},
      {36, 4},
      {40, 4},
      {44, 4}}},
};

const struct forge_shape *forge_shape(uint16_t type) {
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (shapes[i].type == type)
            return &shapes[i];
    return NULL;
}

uint32_t forge_entry(const struct forge_shape *s, const uint8_t *body, uint32_t len, uint32_t at) {
    if (at > len || len - at < s->head)
        return 0;
    uint64_t size = s->head;
    for (int i = 0; i < 4; i++)
        size += forge_get(body + at + s->part[i].at, s->part[i].width);
    size = forge_align(size, s->pad);
    return size > len - at ? 0 : (uint32_t)size;
}

/* ---- lies */

static const uint64_t limits[] = {
    0,
    1,
    2,
    3,
    7,
    8,
    31,
    32,
    33,
    63,
    64,
    127,
    128,
    129,
    199,
    200,
    201,
    255,
    256,
    1023,
    1024,
    1025,
    4095,
    4096,
    4097,
    16383,
    16384,
    16385,
    65535,
    65536,
    102000,
    1u << 20,
    16777216,
    16777217,
    0x7fffffff,
    0x80000000,
    0xfffffffe,
    0xffffffff,
    1ull << 32,
    1ull << 40,
    1ull << 48,
    1ull << 62,
    INT64_MAX,
    1ull << 63,
    0xc008,
    0xc049,
    0x8048,
    0x4000,
    0x8000,
    UINT64_MAX - 65536,
    UINT64_MAX - 1,
    UINT64_MAX,
};

uint64_t forge_value(uint8_t how, uint64_t value, uint64_t old) {
    switch (how % 7) {
    case 0:
        return value;
    case 1:
        return value % 20;
    case 2:
    case 3:
        return limits[value % (sizeof limits / sizeof *limits)];
    case 4:
        return old + value % 4096;
    case 5:
        return old - value % 4096;
    default:
        return old ^ 1ull << value % 64;
    }
}

void forge_lie(const struct forge_lies *l, uint8_t *at) {
    for (uint32_t i = 0; i < l->count; i++) {
        const struct forge_lie *x = &l->lie[i];
        uint64_t old = forge_get(at + x->at, x->width);
        forge_put(at + x->at, x->width, forge_value(x->how, x->value, old));
    }
}

static uint64_t hash(const void *data, size_t len, uint64_t seed) {
    return XXH3_64bits_withSeed(data, len, seed);
}

/* ---- what must join: the numbers that a frame takes on from those before it */

#define STREAMS 16u
#define PARTITIONS 8u
#define PROCESSORS 8u
#define PLACES 256u

struct answer {
    uint64_t stream, partition, offset;
};
static struct joined {
    uint64_t next[STREAMS][PARTITIONS];
    uint64_t position[PROCESSORS][STREAMS][PARTITIONS];
    bool begun[PROCESSORS][STREAMS][PARTITIONS];
    uint64_t sequence[PROCESSORS], epoch[PROCESSORS];
    struct answer answer[PROCESSORS];
    uint64_t commits, changes, age;
    uint64_t state_commits[STREAMS][PARTITIONS]; /* by table */
    uint64_t state_lsn, flush_lsn, file_length;
    /* of this segment: for its index */
    uint8_t index[PLACES * 24];
    uint32_t indexed;
    struct answer first; /* of this commit: its first run of records */
    bool has_first;
} joined;

static void join_catalog(const uint8_t *e) {
    uint64_t op = forge_get(e, 2), id = forge_get(e + 4, 4);
    joined.changes++;
    if (op == 8 && id < STREAMS) {
        memset(joined.next[id], 0, sizeof joined.next[id]);
        for (uint32_t i = 0; i < PROCESSORS; i++)
            memset(joined.begun[i][id], 0, sizeof joined.begun[i][id]);
    } else if (op == 4 && id < PROCESSORS)
        memset(joined.begun[id], 0, sizeof joined.begun[id]);
}

static void join_position(uint8_t *e) {
    uint64_t r = forge_get(e, 4), s = forge_get(e + 4, 4), p = forge_get(e + 8, 4);
    uint64_t from = forge_get(e + 16, 8), to = forge_get(e + 24, 8);
    if (r >= PROCESSORS || s >= STREAMS || p >= PARTITIONS)
        return;
    if (joined.begun[r][s][p]) {
        to = joined.position[r][s][p] + (to - from);
        forge_put(e + 16, 8, joined.position[r][s][p]);
        forge_put(e + 24, 8, to);
    }
    joined.begun[r][s][p] = true;
    joined.position[r][s][p] = to;
}

static void join_producer(uint8_t *e) {
    uint64_t id = forge_get(e, 4), n = forge_get(e + 16, 8) - forge_get(e + 8, 8);
    if (id >= PROCESSORS)
        return;
    forge_put(e + 8, 8, joined.sequence[id] + 1);
    forge_put(e + 16, 8, joined.sequence[id] + 1 + n);
    joined.sequence[id] += 1 + n;
    joined.epoch[id] = forge_get(e + 4, 4);
    if (n + 1 != 0) /* else it only announces a new holder */
        joined.answer[id] = joined.first;
}

/* A run file is added: it has all changes so far. */
static void join_table(uint8_t *e) {
    if (forge_get(e, 2) != 4)
        return;
    joined.flush_lsn = joined.state_lsn;
    forge_put(e + 32, 8, joined.flush_lsn);
    forge_put(e + 40, 8, joined.file_length);
}

static void join_checkpoint(uint16_t type, uint8_t *e) {
    uint64_t a = forge_get(e, 4), b = forge_get(e + 4, 4), c = forge_get(e + 8, 4);
    if (type == C_NEXT && a < STREAMS && b < PARTITIONS)
        forge_put(e + 8, 8, joined.next[a][b]);
    else if (type == C_POSITIONS && a < PROCESSORS && b < STREAMS && c < PARTITIONS)
        forge_put(e + 16, 8, joined.position[a][b][c]);
    else if (type == C_PRODUCERS && a < PROCESSORS) {
        forge_put(e + 4, 4, joined.epoch[a]);
        forge_put(e + 8, 8, joined.sequence[a]);
        forge_put(e + 16, 4, joined.answer[a].stream);
        forge_put(e + 20, 4, joined.answer[a].partition);
        forge_put(e + 24, 8, joined.answer[a].offset);
    } else if (type == C_IDS) {
        forge_put(e + 16, 8, joined.commits);
        forge_put(e + 24, 8, joined.changes);
    } else if (type == CLOCK)
        forge_put(e, 8, joined.age++);
    else if (type == C_DIGESTS && a < STREAMS && b < PARTITIONS)
        forge_put(e + 40, 8, joined.state_commits[a][b]);
    else if (type == C_RUNS) {
        forge_put(e + 8, 8, joined.flush_lsn);
        forge_put(e + 16, 8, joined.file_length);
    } else if (type == C_STATE)
        forge_put(e + 8, 8, joined.flush_lsn);
}

/* A commit's records: their base. */
static uint64_t join_records(const struct forge_run *r, uint64_t lsn) {
    if (r->stream >= STREAMS || r->partition >= PARTITIONS)
        return r->base;
    uint64_t base = joined.next[r->stream][r->partition];
    joined.next[r->stream][r->partition] += r->count;
    if (!joined.has_first)
        joined.first = (struct answer){r->stream, r->partition, base};
    joined.has_first = true;
    if (joined.indexed < PLACES) {
        uint8_t *i = joined.index + (size_t)joined.indexed++ * 24;
        forge_put(i, 4, r->stream);
        forge_put(i + 4, 4, r->partition);
        forge_put(i + 8, 8, base);
        forge_put(i + 16, 8, lsn);
    }
    return base;
}

/* A change of a table's partition: its number. */
static uint64_t join_state(const struct forge_run *r, uint64_t lsn) {
    joined.state_lsn = lsn;
    if (r->stream >= STREAMS || r->partition >= PARTITIONS)
        return r->base;
    return ++joined.state_commits[r->stream][r->partition];
}

/* The entries of a run whose bytes are at `body`. */
static void join_entries(const struct forge_frame *f, const struct forge_run *r, uint8_t *body) {
    const struct forge_shape *shape = forge_shape(r->type);
    uint32_t size, at = 0;
    if (r->type == SPILLED && r->spill != NULL && r->len == 24) {
        forge_put(body, 8, r->spill->lsn);
        forge_put(body + 8, 8, r->spill->hash);
    }
    for (uint32_t i = 0; shape != NULL && i < r->count; i++) {
        if ((size = forge_entry(shape, body, r->len, at)) == 0)
            return;
        if (r->type == CATALOG && f->kind == COMMIT)
            join_catalog(body + at);
        else if (r->loose)
            ;
        else if (r->type == POSITIONS)
            join_position(body + at);
        else if (r->type == PRODUCERS)
            join_producer(body + at);
        else if (r->type == TABLES)
            join_table(body + at);
        else
            join_checkpoint(r->type, body + at);
        at += size;
    }
}

/* ---- frames: docs/format.md, section 3 */

static uint64_t runs_length(const struct forge_frame *f) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < f->runs; i++)
        n += f->run[i]->type == INDEX && !f->run[i]->loose ? joined.indexed * 24u : f->run[i]->len;
    return n;
}

/* Directory and body as they are written, before any checksum. */
static void write_runs(struct forge_frame *f, uint8_t *out) {
    uint8_t *dir = out + FORGE_FRAME_HEAD, *body = dir + (size_t)f->runs * FORGE_RUN_HEAD;
    uint32_t start = 0;
    joined.has_first = false;
    joined.first = (struct answer){0, 0, 0};
    for (uint32_t i = 0; i < f->runs; i++, dir += FORGE_RUN_HEAD) {
        const struct forge_run *r = f->run[i];
        bool index = r->type == INDEX && !r->loose;
        uint32_t len = index ? joined.indexed * 24u : r->len;
        if (len != 0)
            memcpy(body + start, index ? joined.index : r->body, len);
        forge_put(dir, 2, r->type);
        forge_put(dir + 2, 2, r->flags);
        forge_put(dir + 4, 4, r->stream);
        forge_put(dir + 8, 4, r->partition);
        forge_put(dir + 12, 4, index ? joined.indexed : r->count);
        bool records = (r->type == RECORDS || r->type == SPILLED) && f->kind == COMMIT;
        bool state = r->type == STATE && f->kind == COMMIT;
        forge_put(dir + 16, 8,
                  r->loose  ? r->base
                  : records ? join_records(r, f->lsn)
                  : state   ? join_state(r, f->lsn)
                            : r->base);
        forge_put(dir + 24, 4, start);
        forge_put(dir + 28, 4, len);
        forge_lie(&r->lies, dir);
        start += len;
    }
    start = 0; /* a producer's answer is known when all of the commit's records are */
    for (uint32_t i = 0; i < f->runs; i++) {
        const struct forge_run *r = f->run[i];
        if (r->type != INDEX)
            join_entries(f, r, body + start);
        start += r->type == INDEX && !r->loose ? joined.indexed * 24u : r->len;
    }
}

struct place {
    uint8_t *image; /* of the segment */
    uint64_t base, at, link, epoch, group;
    uint64_t seal; /* LSN of the last frame */
};

/* ---- keys: docs/format.md, section 2 */

#define KEY_SIZE 32u
#define KEY_SECRET 192u

/* How often the key was turned before segment n. */
static uint32_t turns(uint64_t n) {
    return n >= 2;
}

/* The keys of a log, in order; the first is zeros: none. */
static void key_of(uint32_t number, uint8_t out[KEY_SIZE]) {
    memset(out, 0, KEY_SIZE);
    for (uint32_t i = 0; number != 0 && i < KEY_SIZE; i += 8)
        forge_put(out + i, 8, hash(&number, sizeof number, i));
}

static uint64_t frame_hash(const struct forge *f, const struct place *p, const void *data,
                           size_t len) {
    uint8_t key[KEY_SIZE], secret[KEY_SECRET];
    if (!f->keyed)
        return hash(data, len, f->seed);
    key_of(turns(p->base / FORGE_SEGMENT) + 1, key);
    for (uint32_t i = 0; i < KEY_SECRET / 8; i++)
        forge_put(secret + (size_t)i * 8, 8, hash(key, KEY_SIZE, i));
    return XXH3_64bits_withSecret(data, len, secret, KEY_SECRET);
}

static uint32_t counts(void) {
    return (uint32_t)(joined.commits % 4096) << 12 | (uint32_t)(joined.changes % 256) << 24;
}

/* Writes a frame at its place and moves on; false: it doesn't fit. */
static bool seal_frame(const struct forge *f, struct forge_frame *x, struct place *p,
                       uint64_t reserve) {
    uint64_t at = x->group ? forge_align(p->at, FORGE_BLOCK) : p->at;
    uint64_t body = x->kind == LOST ? 432 : runs_length(x);
    uint64_t size = forge_align(FORGE_FRAME_HEAD + (uint64_t)x->runs * FORGE_RUN_HEAD + body, 8);
    if (at + size + reserve > p->base + FORGE_SEGMENT)
        return false;
    uint8_t *out = p->image + (at - p->base);
    if (x->group)
        p->group = at;
    x->lsn = at;
    p->epoch += x->kind == OPEN;
    memcpy(out, "PWLF", 4);
    out[4] = x->kind;
    out[5] = x->kind != WITNESS;
    forge_put(out + 6, 2, x->runs);
    forge_put(out + 8, 8, at);
    forge_put(out + 16, 8, p->epoch);
    forge_put(out + 24, 8, p->group);
    forge_put(out + 32, 8, 1700000000000000000u + at);
    forge_put(out + 40, 8, p->link);
    forge_put(out + 64, 4, body);
    forge_put(out + 68, 4, counts());
    write_runs(x, out);
    joined.commits += x->kind == COMMIT;
    if (x->kind == LOST)
        forge_put(out + 48, 8, at * 77 + 1);
    /* what the lengths claim is what the hashes cover, so that it is believed */
    struct forge_lies late = {.count = 0};
    for (uint32_t i = 0; i < x->lies.count; i++) {
        struct forge_lies one = {{x->lies.lie[i]}, 1};
        if (one.lie[0].at >= 48 && one.lie[0].at < 64)
            late.lie[late.count++] = one.lie[0];
        else if (one.lie[0].at != 72)
            forge_lie(&one, out);
    }
    uint64_t dir = forge_get(out + 6, 2) * FORGE_RUN_HEAD, claimed = forge_get(out + 64, 4);
    uint64_t claims = forge_align(FORGE_FRAME_HEAD + dir + claimed, 8);
    bool fits = claims <= p->base + FORGE_SEGMENT - at - reserve;
    if (out[4] != LOST && fits) {
        forge_put(out + 48, 8, frame_hash(f, p, out + FORGE_FRAME_HEAD, dir));
        forge_put(out + 56, 8, frame_hash(f, p, out + FORGE_FRAME_HEAD + dir, claimed));
    }
    forge_lie(&late, out);
    forge_put(out + 72, 8, frame_hash(f, p, out, 72));
    x->hash = forge_get(out + 72, 8);
    p->link = out[4] == LOST ? forge_get(out + 48, 8) : x->hash;
    p->epoch = forge_get(out + 16, 8);
    p->seal = at;
    p->at = at + (fits ? claims : size);
    return true;
}

/* ---- segments: docs/format.md, section 2 */

static void seal_header(const struct forge *f, const struct forge_segment *s, uint32_t n,
                        const struct place *p) {
    uint8_t *out = p->image;
    static const uint8_t magic[8] = {'P', 'A', 'W', 'L', 13, 10, 26, 10};
    memset(out, 0, FORGE_BLOCK);
    memcpy(out, magic, 8);
    forge_put(out + 8, 4, 1);
    forge_put(out + 12, 4, FORGE_BLOCK);
    memcpy(out + 16, f->log_id, 16);
    forge_put(out + 32, 8, FORGE_SEGMENT);
    forge_put(out + 40, 8, n);
    forge_put(out + 48, 8, p->epoch);
    forge_put(out + 56, 8, p->link);
    forge_put(out + 64, 8, p->seal);
    forge_put(out + 72, 8, 1700000000000000000u);
    forge_put(out + 88, 8, f->keyed);
    /* it counts, and has keys and tables */
    forge_put(out + 96, 8, (f->keyed ? 3u : 1u) | (f->stateful && n != 0 ? 4u : 0u));
    for (uint32_t i = 0; f->keyed && i < 3; i++)
        key_of(turns(n) + i, out + 112 + (size_t)i * KEY_SIZE);
    const struct forge_run *ids = NULL;
    for (uint32_t i = 0; s->frames != 0 && i < s->frame[0]->runs; i++)
        if (s->frame[0]->run[i]->type == C_IDS)
            ids = s->frame[0]->run[i];
    if (ids != NULL && ids->len >= 32) {
        memcpy(out + 256, ids->body, 32);
        join_checkpoint(C_IDS, out + 256);
    }
    forge_lie(&s->lies, out);
    forge_put(out + 4088, 8, hash(out, 4088, 0));
    memcpy(out + FORGE_BLOCK, out, FORGE_BLOCK);
    for (int copy = 0; copy < 2; copy++)
        if ((s->bad_copies >> copy & 1) != 0)
            out[(size_t)copy * FORGE_BLOCK + 4088] ^= 0x55;
}

static void seal_segment(const struct forge *f, const struct forge_segment *s, uint32_t n,
                         struct place *p) {
    bool sealed = s->frames != 0 && s->frame[s->frames - 1]->kind == SEAL;
    memset(p->image, 0, FORGE_SEGMENT);
    p->base = (uint64_t)n * FORGE_SEGMENT;
    p->group = p->base;
    seal_header(f, s, n, p);
    p->at = p->base + FORGE_HEAD;
    joined.indexed = 0;
    for (uint32_t i = 0; i < s->frames; i++) {
        bool last = i + 1 == s->frames;
        (void)seal_frame(f, s->frame[i], p, sealed && !last ? PLACES * 24 + 112 : 0);
    }
}

void forge_seal(struct forge *f) {
    static uint8_t image[FORGE_SEGMENTS][FORGE_SEGMENT];
    struct place p = {.epoch = 1};
    memset(&joined, 0, sizeof joined);
    f->seed = hash(f->log_id, 16, 0);
    joined.file_length = f->stateful ? forge_file_length(&f->file) : 0;
    for (uint32_t n = 0; n < f->segments; n++) {
        p.image = image[n];
        seal_segment(f, &f->segment[n], n, &p);
    }
    for (uint32_t i = 0; i < f->damages; i++) {
        const struct forge_damage *d = &f->damage[i];
        uint8_t *at = image[d->segment % FORGE_SEGMENTS];
        for (uint32_t k = 0; k < d->len && d->at + k < FORGE_SEGMENT; k++)
            at[d->at + k] ^= (uint8_t)(d->value >> k % 8 * 8);
    }
    for (uint32_t n = 0; n < f->segments; n++) {
        const struct forge_segment *s = &f->segment[n];
        char name[24];
        if (s->missing)
            continue;
        snprintf(name, sizeof name, "%016llx.seg", (unsigned long long)s->name);
        uint8_t *data = ram_make(name, s->length);
        if (data != NULL)
            memcpy(data, image[n], s->length < FORGE_SEGMENT ? s->length : FORGE_SEGMENT);
    }
    if (f->stateful)
        forge_file_seal(f, joined.flush_lsn);
}
