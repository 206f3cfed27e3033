/* SPDX-License-Identifier: Apache-2.0 */
/* A whole log on the simulated machine, changed anywhere, its checksums and links mended or not:
 * opening, reading, verifying, repairing and opening again. Whatever it is, it is refused or used,
 * and recovering twice is recovering once. */
#include <stdlib.h>
#include <string.h>

#include "world.h"

#undef fail
#include "pipeline/engine.h"
#include "recovery/verify.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct disk base;
static struct model model;

static void make_base(void) {
    static struct world w;
    static const struct op ops[] = {{OP_COMMIT, 3}, {OP_TAKEOVER, 0}, {OP_PRODUCE, 0},
                                    {OP_STEP, 1},   {OP_BIG, 3},      {OP_ABORT, 1},
                                    {OP_DECIDE, 0}, {OP_REOPEN, 0},   {OP_STEP, 2},
                                    {OP_TICK, 2},   {OP_COMMIT, 2},   {OP_TICK, 2}};
    sim_machine_init(&w.m, 1, 16 * SEGMENT_SIZE_UNIT);
    w.m.direct = w.m.calm = true;
    w.model = &model;
    model_init(&model);
    if (world_open(&w, false) != 0)
        abort();
    world_set_up(&w);
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        world_do(&w, ops[i]);
    if (w.why[0] != 0)
        abort();
    world_abandon(&w);
    base = w.m.disk;
}

/* All frames of a segment, as far as they hang together: checksums, and each one's link to the one
 * before. */
static void mend(uint8_t *seg, uint64_t index) {
    struct segment_header sh;
    int bad;
    put64(seg + BLOCK - 8, format_hash(seg, BLOCK - 8, 0));
    memcpy(seg + BLOCK, seg, BLOCK);
    if (segment_decode(seg, index, &sh, &bad) != SEGMENT_GOOD)
        return;
    uint64_t link = sh.link;
    struct frame_key key;
    (void)segment_key(&sh, KEY_OWN, &key);
    for (size_t at = SEGMENT_HEADER_SIZE; at + FRAME_HEADER_SIZE <= SEGMENT_SIZE_UNIT;) {
        uint8_t *f = seg + at;
        if (memcmp(f, "PWLF", 4) != 0) { /* padding */
            at = at % BLOCK == 0 ? at + BLOCK : align_up(at, BLOCK);
            continue;
        }
        size_t dir = (size_t)get16(f + 6) * RUN_SIZE, body = get32(f + 64);
        if (dir + body > SEGMENT_SIZE_UNIT - at - FRAME_HEADER_SIZE)
            return;
        put64(f + 40, link);
        put64(f + 48, frame_hash(f + FRAME_HEADER_SIZE, dir, &key));
        put64(f + 56, frame_hash(f + FRAME_HEADER_SIZE + dir, body, &key));
        put64(f + 72, link = frame_hash(f, 72, &key));
        at += align_up(FRAME_HEADER_SIZE + dir + body, 8);
    }
}

/* Changes: file, place (2 bytes), length, and that many bytes. */
static void change(struct disk *d, const uint8_t *data, size_t size, bool mended) {
    static uint8_t seg[SEGMENT_SIZE_UNIT];
    for (int i = 0; i < d->now.count; i++) {
        int inode = d->now.name[i].inode;
        uint64_t index;
        bool any = false;
        if (!segment_parse_name(d->now.name[i].text, "seg", &index) ||
            disk_read(d, inode, true, seg, sizeof seg, 0) != sizeof seg)
            continue;
        for (size_t at = 0; at + 4 <= size;) {
            size_t n = data[at + 3], place = get16(data + at + 1);
            if (n > size - at - 4)
                n = size - at - 4;
            if (data[at] % 4 == index && place + n <= sizeof seg) {
                memcpy(seg + place, data + at + 4, n);
                any = true;
            }
            at += 4 + n;
        }
        if (!any)
            continue;
        if (mended)
            mend(seg, index);
        struct page *page[DISK_PAGES];
        disk_take_pages(page, seg, sizeof seg);
        disk_write(d, inode, page, sizeof seg, 0, true);
        disk_drop_pages(page);
    }
}

static uint64_t read_everything(pawl *log) {
    uint64_t sum = 0;
    pawl_stream_info info;
    for (uint32_t i = 0; i < 8 && pawl_stream_at(log, i, &info) == 0; i++)
        for (uint32_t p = 0; p < info.partitions && p < 4; p++) {
            pawl_bounds b;
            pawl_reader *r;
            pawl_batch batch;
            if (pawl_partition_bounds(log, info.id, p, &b) != 0 ||
                pawl_reader_open(log, info.id, p, b.first, 0, &r) != 0)
                continue;
            int n, rounds = 0;
            while (((n = pawl_read(r, 0, 0, &batch)) > 0 || n == PAWL_LOST) && rounds++ < 2000)
                for (size_t k = 0; k < batch.count; k++)
                    sum = sum * 31 + batch.records[k].value_len + batch.records[k].offset;
            pawl_reader_close(r);
            pawl_origin o;
            if (pawl_explain(log, info.id, p, b.first, &o) == 0)
                sum = sum * 31 + o.input_count;
        }
    pawl_position pos;
    for (uint32_t i = 0; pawl_position_at(log, i, &pos) == 0; i++)
        sum = sum * 31 + pos.offset;
    return sum;
}

/* Opens, reads, abandons. The sum of what is there, or 0 if it is refused. */
static uint64_t use(struct world *w, bool read_only) {
    uint64_t sum = 0;
    if (world_open(w, read_only) != 0) {
        w->log = NULL;
        return 0;
    }
    sum = read_everything(w->log) | 1;
    if (!read_only) {
        pawl_record r = {.value = "x", .value_len = 1};
        pawl_receipt receipt;
        if (pawl_append(w->log, 1, 0, &r, &receipt) == 0)
            sum += receipt.offset;
        pawl_tick(w->log);
    }
    world_abandon(w);
    return sum;
}

static int any_frame(void *ctx, const struct frame_header *h, const uint8_t *frame, bool lost) {
    (void)ctx, (void)h, (void)frame, (void)lost;
    return 0;
}

static void verify_and_repair(struct world *w, bool repair) {
    struct mem m;
    struct seam *io = sim_seam(&w->m);
    pawl_check c = PAWL_CHECK_INIT;
    mem_init(&m, 8u * MIB);
    struct verify v = {.io = io, .mem = &m, .check = &c, .frame = any_frame};
    (void)!verify_log(&v);
    struct repaired done = {.mem = &m};
    if (repair)
        (void)!repair_log(io, &m, &c, &done);
    mem_free(&m, done.areas, done.cap * sizeof *done.areas);
    io->ops->destroy(io);
    if (m.used != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static bool made;
    if (!made)
        make_base();
    made = true;
    if (size < 1)
        return 0;
    struct world w;
    memset(&w, 0, sizeof w);
    sim_machine_init(&w.m, 3, 16 * SEGMENT_SIZE_UNIT);
    w.m.direct = w.m.calm = true;
    w.model = &model;
    disk_copy(&w.m.disk, &base);
    change(&w.m.disk, data + 1, size - 1, (data[0] & 1) != 0);
    uint64_t first = use(&w, true), again = use(&w, true);
    if (first != again)
        abort(); /* looking changes nothing */
    if ((data[0] & 2) != 0)
        verify_and_repair(&w, (data[0] & 4) != 0);
    use(&w, false);
    use(&w, false);
    if (w.m.note[0] != 0)
        abort();
    disk_free(&w.m.disk);
    return 0;
}
