/* SPDX-License-Identifier: Apache-2.0 */
#include "recovery/readahead.h"

#include <string.h>

#define CARRY_SLOTS 2u

struct slot {
    struct seam_req req;
    bool done;
};

struct readahead {
    struct mem *mem;
    readahead_spare *spare;
    const struct seam_ops *ops;
    struct seam_reads *reads;
    int file; /* that the window shows */
    int then; /* that follows, or -1 */
    uint64_t then_from, then_end;
    bool turned; /* the next read is of `then` */
    uint8_t *memory;
    size_t slot;
    unsigned count;     /* of slots */
    uint64_t next, end; /* file offsets: of the next read; of the first byte that is not read */
    unsigned head;      /* the oldest slot in the window */
    unsigned used;      /* slots in the window, from head on */
    unsigned flying;    /* reads submitted and not shown yet, after those */
    struct slot slots[READAHEAD_SLOTS_MAX];
};

static size_t memory_size(const struct readahead *a) {
    return a->slot * (a->count + CARRY_SLOTS);
}

static uint8_t *slot_data(const struct readahead *a, unsigned i) {
    return a->memory + a->slot * (CARRY_SLOTS + i);
}

/* Is there anything left to read? */
static bool more(struct readahead *a) {
    if (a->next == a->end && a->then >= 0 && !a->turned) {
        a->next = a->then_from;
        a->end = a->then_end;
        a->turned = true;
    }
    return a->next < a->end;
}

static void fill(struct readahead *a) {
    while (a->used + a->flying < a->count && more(a)) {
        unsigned i = (a->head + a->used + a->flying) % a->count;
        struct slot *s = &a->slots[i];
        uint64_t left = a->end - a->next;
        *s = (struct slot){.req = {.op = SEAM_READ,
                                   .file = a->turned ? a->then : a->file,
                                   .buffer = -1,
                                   .data = slot_data(a, i),
                                   .len = (uint32_t)(left < a->slot ? left : a->slot),
                                   .offset = a->next,
                                   .owner = s}};
        a->next += s->req.len;
        a->flying++;
        a->ops->reads_put(a->reads, &s->req);
    }
}

static void destroy(struct readahead *a) {
    if (a == NULL)
        return;
    if (a->reads != NULL)
        a->ops->reads_close(a->reads);
    mem_free(a->mem, a->memory, memory_size(a));
    mem_free(a->mem, a, sizeof *a);
}

static struct readahead *make(struct seam *io, struct mem *m, size_t slot, unsigned slots) {
    struct readahead *a = mem_alloc(m, sizeof *a);
    if (a == NULL)
        return NULL;
    *a = (struct readahead){.mem = m, .ops = io->ops, .slot = slot, .count = slots};
    a->memory = mem_alloc_block(m, memory_size(a));
    if (a->memory != NULL)
        a->reads = io->ops->reads_open(io, slots, a->memory, memory_size(a));
    if (a->reads != NULL)
        return a;
    destroy(a);
    return NULL;
}

struct readahead *readahead_begin(struct seam *io, struct mem *m, readahead_spare *spare, int file,
                                  size_t slot, unsigned slots, uint64_t from, uint64_t end) {
    if (io->ops->reads_open == NULL || from >= end)
        return NULL;
    struct readahead *a = spare != NULL ? atomic_exchange(spare, NULL) : NULL;
    if (a != NULL && (a->slot != slot || a->count != slots)) {
        destroy(a);
        a = NULL;
    }
    if (a == NULL && (a = make(io, m, slot, slots)) == NULL)
        return NULL;
    a->spare = spare;
    a->file = file;
    a->then = -1;
    a->turned = false;
    a->next = from;
    a->end = end;
    a->head = a->used = a->flying = 0;
    fill(a);
    return a;
}

static bool take_one(struct readahead *a) {
    struct seam_req *r = a->ops->reads_take(a->reads);
    if (r == NULL)
        return false;
    ((struct slot *)r->owner)->done = true;
    return true;
}

static bool come(struct readahead *a, const struct slot *s) {
    while (!s->done)
        if (!take_one(a))
            return false;
    return true;
}

/* Adds slot i to the window. False when what must be kept doesn't fit in front of it. */
static bool show(struct readahead *a, unsigned i, uint64_t keep, struct window *w) {
    uint8_t *data = slot_data(a, i);
    uint64_t end = w->at + w->len;
    if (a->used != 0 && i != 0) { /* directly after what is shown */
        w->len += a->slots[i].req.len;
        a->used++;
        a->flying--;
        return true;
    }
    uint64_t carry = keep < end ? end - keep : 0;
    if (carry > (uint64_t)a->slot * (i + CARRY_SLOTS) || (i != 0 && carry != 0) || carry > w->len)
        return false;
    if (carry != 0)
        memmove(data - carry, w->data + (keep - w->at), (size_t)carry);
    *w = (struct window){data - carry, end - carry, carry + a->slots[i].req.len};
    a->head = i;
    a->used = 1;
    a->flying--;
    return true;
}

/* Slots that lie wholly below `keep` are free for the next reads. */
static void release(struct readahead *a, uint64_t keep, struct window *w) {
    while (a->used > 1) {
        const struct seam_req *r = &a->slots[a->head].req;
        uint64_t end = r->offset + r->len;
        if (end > keep)
            return;
        if (w->at < end)
            *w = (struct window){w->data + (end - w->at), end, w->len - (end - w->at)};
        a->head = (a->head + 1) % a->count;
        a->used--;
    }
}

bool readahead_extend(struct readahead *a, uint64_t keep, uint64_t to, struct window *w) {
    if (keep < w->at)
        return false;
    while (w->at + w->len < to) {
        release(a, keep, w);
        fill(a);
        unsigned i = (a->head + a->used) % a->count;
        struct slot *s = &a->slots[i];
        if (a->flying == 0 || s->req.file != a->file || s->req.offset != w->at + w->len ||
            !come(a, s))
            return false;
        if (s->req.result != (int64_t)s->req.len || !show(a, i, keep, w))
            return false;
    }
    release(a, keep, w);
    fill(a);
    return true;
}

void readahead_then(struct readahead *a, int file, uint64_t from, uint64_t end) {
    if (a->then >= 0 || from >= end)
        return;
    a->then = file;
    a->then_from = from;
    a->then_end = end;
    fill(a);
}

bool readahead_turn(struct readahead *a, int file, struct window *w) {
    if (a->then != file)
        return false;
    a->head = (a->head + a->used) % a->count;
    a->used = 0;
    while (a->flying > 0 && a->slots[a->head].req.file == a->file) {
        if (!come(a, &a->slots[a->head]))
            return false;
        a->head = (a->head + 1) % a->count;
        a->flying--;
    }
    if (!a->turned)
        a->next = a->end; /* what is left of the first file */
    *w = (struct window){a->memory, a->then_from, 0};
    more(a);
    a->file = file;
    a->then = -1;
    a->turned = false;
    fill(a);
    return true;
}

void readahead_end(struct readahead *a) {
    if (a == NULL)
        return;
    bool quiet = a->spare != NULL;
    for (unsigned i = 0; i < a->flying && quiet; i++)
        quiet = come(a, &a->slots[(a->head + a->used + i) % a->count]);
    struct readahead *none = NULL;
    if (!quiet || !atomic_compare_exchange_strong(a->spare, &none, a))
        destroy(a);
}

void readahead_drop(readahead_spare *spare) {
    destroy(atomic_exchange(spare, NULL));
}
