/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/forge.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* The one place that knows how a log's frames are hashed. */
static struct frame_key key_of(const struct forge *f) {
    struct frame_key key;
    (void)segment_key(&f->header, KEY_OWN, &key);
    return key;
}

static void begin_segment(struct forge *f) {
    memset(f->image, 0, f->header.segment_size);
    f->at = f->header.index * f->header.segment_size + SEGMENT_HEADER_SIZE;
}

void forge_begin_bare(struct forge *f, const char *dir, uint64_t segment_size) {
    *f = (struct forge){.dir = dir, .epoch = 1, .ids = {1, 1, 1, 0, 0, 0}};
    mem_init(&f->mem, 0);
    bytes_init(&f->body, &f->mem);
    f->header = (struct segment_header){
        .segment_size = segment_size,
        .epoch = 1,
        .created_ns = 1,
        .features = {.read = FEATURE_KEYED, .write = FEATURE_COUNTS | FEATURE_KEYS},
        .ids = f->ids};
    memcpy(f->header.log_id, "forged log 00001", 16);
    memset(f->header.features.carried, 'k', (size_t)KEYS * KEY_SIZE);
    f->image = calloc(1, segment_size);
    f->runs = calloc(FORGE_RUNS_MAX, sizeof *f->runs);
    assert(f->image != NULL && f->runs != NULL);
    (void)!mkdir(dir, 0700);
    begin_segment(f);
}

void forge_begin(struct forge *f, const char *dir, uint64_t segment_size) {
    forge_begin_bare(f, dir, segment_size);
    forge_frame(f, FRAME_CHECKPOINT);
    forge_frame(f, FRAME_OPEN);
}

static void end_run(struct forge *f) {
    struct run *r = &f->runs[f->run_count - 1];
    if (f->open_run)
        r->len = (uint32_t)f->body.len - r->start;
    f->open_run = false;
}

void forge_run(struct forge *f, uint16_t type, uint32_t stream, uint32_t partition, uint32_t count,
               uint64_t base) {
    end_run(f);
    assert(f->run_count < FORGE_RUNS_MAX);
    f->runs[f->run_count++] = (struct run){.type = type,
                                           .stream = stream,
                                           .partition = partition,
                                           .count = count,
                                           .base = base,
                                           .start = (uint32_t)f->body.len};
    f->open_run = true;
}

uint64_t forge_frame(struct forge *f, uint8_t kind) {
    end_run(f);
    struct frame_key key = key_of(f);
    uint64_t lsn = f->at;
    uint64_t size = frame_size(f->run_count, f->body.len);
    assert(!f->body.failed && f->at + size <= (f->header.index + 1) * f->header.segment_size);
    struct frame_header h = {.kind = kind,
                             .kind_flags = frame_kind_flags(kind),
                             .runs = (uint16_t)f->run_count,
                             .body_len = (uint32_t)f->body.len,
                             .lsn = lsn,
                             .epoch = f->epoch,
                             .durable = f->durable,
                             .time_ns = 1,
                             .link = f->link,
                             .flags = counts_encode(f->ids.commits, f->ids.changes),
                             .body_hash = frame_hash(f->body.data, f->body.len, &key)};
    struct piece whole = {f->body.data, f->body.len};
    frame_encode(f->image + lsn % f->header.segment_size, &h, f->runs, &whole, 1, &key);
    f->ids.commits += kind == FRAME_COMMIT;
    f->ids.changes += frame_changes(&h, f->image + lsn % f->header.segment_size);
    f->at += size;
    f->link = f->last_hash = h.hash;
    f->last_lsn = lsn;
    f->run_count = 0;
    f->body.len = 0;
    return lsn;
}

void forge_lost(struct forge *f, uint32_t bytes) {
    struct frame_key key = key_of(f);
    struct frame_header h = {.lsn = f->at,
                             .epoch = f->epoch,
                             .durable = f->durable,
                             .link = f->link,
                             .flags = counts_encode(f->ids.commits, f->ids.changes)};
    uint64_t link = f->link + 1;
    frame_encode_lost(f->image + f->at % f->header.segment_size, &h, f->at + bytes, link, &key);
    f->at += bytes;
    f->link = link;
}

void forge_spoil(struct forge *f, uint64_t lsn) {
    f->image[lsn % f->header.segment_size + FRAME_HEADER_SIZE] ^= 1;
}

void forge_nest(struct forge *f, uint32_t n) {
    struct frame_key key = key_of(f);
    uint64_t end = (f->header.index + 1) * f->header.segment_size;
    for (uint32_t i = 0; i < n; i++, f->at += FRAME_HEADER_SIZE) {
        struct frame_header h = {.kind = FRAME_COMMIT,
                                 .kind_flags = frame_kind_flags(FRAME_COMMIT),
                                 .body_len = (uint32_t)(end - f->at - FRAME_HEADER_SIZE),
                                 .lsn = f->at,
                                 .epoch = f->epoch,
                                 .durable = f->at,
                                 .dir_hash = frame_hash(NULL, 0, &key),
                                 .link = f->link};
        frame_encode_header(f->image + f->at % f->header.segment_size, &h, &key);
    }
}

static void write_segment(struct forge *f) {
    char name[24], path[512];
    segment_name(name, f->header.index, "seg");
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    segment_encode(f->image, &f->header);
    int file = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    assert(file >= 0);
    size_t used = (size_t)(f->at - f->header.index * f->header.segment_size);
    ssize_t n = pwrite(file, f->image, used, 0);
    assert(n == (ssize_t)used && ftruncate(file, (off_t)f->header.segment_size) == 0);
    (void)n;
    close(file);
}

void forge_next(struct forge *f) {
    uint64_t seal = forge_frame(f, FRAME_SEAL);
    write_segment(f);
    f->header.index++;
    f->header.epoch = f->epoch;
    f->header.link = f->link;
    f->header.seal_lsn = seal;
    f->header.ids = f->ids;
    begin_segment(f);
    f->durable = f->header.index * f->header.segment_size;
}

void forge_cut(struct forge *f) {
    write_segment(f);
    bytes_free(&f->body);
    free(f->image);
    free(f->runs);
}

void forge_end(struct forge *f) {
    forge_frame(f, FRAME_CLOSE);
    forge_cut(f);
}

static void change(struct forge *f, enum catalog_op op, uint32_t id, uint64_t a, const char *name) {
    forge_run(f, RUN_CATALOG, 0, 0, 1, 0);
    catalog_encode(&f->body,
                   &(struct catalog_entry){(uint16_t)op, id, a, 0, name, (uint16_t)strlen(name)});
    forge_frame(f, FRAME_COMMIT);
}

void forge_stream(struct forge *f, uint32_t id, uint32_t partitions, const char *name) {
    change(f, CATALOG_STREAM, id, partitions, name);
}

void forge_processor(struct forge *f, uint32_t id, const char *name) {
    change(f, CATALOG_PROCESSOR, id, 0, name);
}

void forge_producer(struct forge *f, uint32_t id, const char *name) {
    change(f, CATALOG_PRODUCER, id, 0, name);
}

void forge_records(struct forge *f, uint32_t stream, uint32_t partition, uint32_t count,
                   uint64_t base) {
    forge_run(f, RUN_RECORDS, stream, partition, count, base);
    bytes_add(&f->body, (size_t)count * RECORD_HEADER_SIZE);
}
