/* SPDX-License-Identifier: Apache-2.0 */
#include "state/arena.h"

#include <assert.h>

#include "wal/bytes.h"

#define CHUNK_SMALLEST ((size_t)4096) /* most table partitions hold little */
#define CHUNK_USUAL ((size_t)65536)
#define CHUNK_HEADER ((size_t)64)

struct arena_chunk {
    struct arena_chunk *next;
    size_t size; /* header included */
    size_t used; /* likewise */
};
_Static_assert(sizeof(struct arena_chunk) <= CHUNK_HEADER, "pieces start after the header");

struct arena_free {
    struct arena_free *next;
};

/* ---- size classes */

unsigned arena_class(size_t size) {
    assert(size > 0);
    if (size <= 128)
        return (unsigned)((size - 1) / 16);
    unsigned log = 63 - (unsigned)__builtin_clzll(size - 1); /* 7: 129 to 256 */
    return 8 + (log - 7) * 4 + (unsigned)((size - 1) >> (log - 2) & 3);
}

size_t arena_class_size(unsigned size_class) {
    assert(size_class < ARENA_CLASSES);
    if (size_class < 8)
        return (size_class + 1) * (size_t)16;
    unsigned log = (size_class - 8) / 4 + 7;
    return ((size_t)1 << log) + ((size_class - 8) % 4 + 1) * ((size_t)1 << (log - 2));
}

/* ---- chunks */

static size_t room_of(const struct arena_chunk *c) {
    return c == NULL ? 0 : c->size - c->used;
}

static void free_chunks(struct arena *a, struct arena_chunk *c) {
    while (c != NULL) {
        struct arena_chunk *next = c->next;
        a->chunk_bytes -= c->size;
        mem_free(a->mem, c, c->size);
        c = next;
    }
}

/* An empty chunk with room for `bytes`, in no list. */
static struct arena_chunk *new_chunk(struct arena *a, size_t bytes) {
    for (struct arena_chunk **at = &a->idle; *at != NULL; at = &(*at)->next)
        if (room_of(*at) >= bytes) {
            struct arena_chunk *c = *at;
            *at = c->next;
            return c;
        }
    size_t size = align_up(a->chunk_bytes / 2 + 1, CHUNK_SMALLEST);
    if (size > CHUNK_USUAL)
        size = CHUNK_USUAL;
    if (size < bytes + CHUNK_HEADER)
        size = align_up(bytes + CHUNK_HEADER, CHUNK_SMALLEST);
    struct arena_chunk *c = mem_alloc_block(a->mem, size);
    if (c == NULL)
        return NULL;
    c->size = size, c->used = CHUNK_HEADER;
    a->chunk_bytes += size;
    return c;
}

/* The rest of a chunk becomes a free piece. */
static void salvage(struct arena *a, struct arena_chunk *c) {
    size_t room = room_of(c);
    if (room < 16)
        return;
    unsigned size_class = arena_class(room);
    if (size_class >= ARENA_CLASSES)
        size_class = ARENA_CLASSES - 1;
    if (arena_class_size(size_class) > room)
        size_class--;
    struct arena_free *piece = (void *)((uint8_t *)c + c->used);
    c->used += arena_class_size(size_class);
    piece->next = a->free[size_class];
    a->free[size_class] = piece;
}

static void make_current(struct arena *a, struct arena_chunk *c) {
    if (a->current != NULL)
        salvage(a, a->current);
    c->next = a->current;
    a->current = c;
}

static void *carve(struct arena_chunk *c, size_t size) {
    void *p = (uint8_t *)c + c->used;
    c->used += size;
    assert(c->used <= c->size);
    return p;
}

/* An emptied chunk, or an earlier reserve that became too small, is used before the reserve. */
static struct arena_chunk *take_idle(struct arena *a, size_t size) {
    struct arena_chunk *c = a->idle;
    if (room_of(c) < size)
        return NULL;
    a->idle = c->next;
    return c;
}

static void *carve_elsewhere(struct arena *a, size_t size) {
    struct arena_chunk *idle = take_idle(a, size);
    if (idle != NULL) {
        make_current(a, idle);
        return carve(idle, size);
    }
    if (room_of(a->reserve) >= size) {
        struct arena_chunk *c = a->reserve;
        a->reserve = NULL;
        make_current(a, c);
        return carve(c, size);
    }
    struct arena_chunk *c = new_chunk(a, size);
    if (c == NULL)
        return NULL;
    void *p = carve(c, size);
    if (a->current != NULL &&
        room_of(a->current) >= room_of(c)) { /* a large piece with a chunk of its own */
        c->next = a->current->next;
        a->current->next = c;
    } else {
        make_current(a, c);
    }
    return p;
}

void *arena_take(struct arena *a, unsigned size_class) {
    size_t size = arena_class_size(size_class);
    struct arena_free *piece = a->free[size_class];
    void *p = piece;
    if (piece != NULL)
        a->free[size_class] = piece->next;
    else
        p = room_of(a->current) >= size ? carve(a->current, size) : carve_elsewhere(a, size);
    if (p != NULL)
        a->used += size;
    return p;
}

void arena_give(struct arena *a, void *p, unsigned size_class) {
    struct arena_free *piece = p;
    assert(a->used >= arena_class_size(size_class));
    a->used -= arena_class_size(size_class);
    piece->next = a->free[size_class];
    a->free[size_class] = piece;
}

/* Pieces come from `current` while they fit; the first that doesn't fit turns `reserve` into
 * `current`. So it is enough that one of the two has room for all. */
bool arena_reserve(struct arena *a, uint64_t bytes) {
    if (room_of(a->current) >= bytes || room_of(a->reserve) >= bytes)
        return true;
    if (bytes > SIZE_MAX / 2)
        return false;
    /* the next promises are about as large: a reserve that serves some of them */
    struct arena_chunk *c = new_chunk(a, bytes + bytes / 4);
    if (c == NULL)
        c = new_chunk(a, bytes);
    if (c == NULL)
        return false;
    if (a->reserve != NULL) {
        a->reserve->next = a->idle;
        a->idle = a->reserve;
    }
    a->reserve = c;
    return true;
}

void arena_init(struct arena *a, struct mem *m) {
    *a = (struct arena){.mem = m};
}

void arena_free(struct arena *a) {
    if (a->reserve != NULL) {
        a->reserve->next = NULL;
        free_chunks(a, a->reserve);
    }
    free_chunks(a, a->current);
    free_chunks(a, a->idle);
    assert(a->chunk_bytes == 0);
    arena_init(a, a->mem);
}

void arena_clear(struct arena *a, uint64_t keep) {
    struct arena_chunk *all = a->current;
    if (a->reserve != NULL) {
        a->reserve->next = all;
        all = a->reserve;
    }
    struct mem *m = a->mem;
    struct arena_chunk *idle = a->idle;
    uint64_t chunk_bytes = a->chunk_bytes;
    arena_init(a, m);
    a->idle = idle, a->chunk_bytes = chunk_bytes;
    while (all != NULL) {
        struct arena_chunk *c = all;
        all = c->next;
        c->used = CHUNK_HEADER;
        c->next = a->idle;
        a->idle = c;
    }
    while (a->chunk_bytes > keep && a->idle != NULL) {
        struct arena_chunk *c = a->idle;
        a->idle = c->next;
        c->next = NULL;
        free_chunks(a, c);
    }
}
