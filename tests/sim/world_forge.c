/* SPDX-License-Identifier: Apache-2.0
 *
 * A client of the simulated process that is up to no good: the values of its records are frames. It
 * knows the log's id and where its record is going to lie, and it has copies of frames that are in
 * the files. It doesn't know the key.
 */
#include "world.h"

#include <string.h>

#undef fail
#include "pipeline/engine.h"

enum { FRAME = 144 }; /* bytes of a forged frame */

/* What the key might be. */
static struct frame_key guessed(const struct world *w, bool keyed) {
    struct segment_header h = {.features = {.read = keyed ? FEATURE_KEYED : 0}};
    struct frame_key key;
    memcpy(h.log_id, w->log->wal.log_id, sizeof h.log_id);
    (void)segment_key(&h, KEY_OWN, &key);
    return key;
}

/* A whole frame for LSN `lsn`: a commit that creates a stream, a witness, or the header of lost
 * bytes. */
static void forge(const struct world *w, uint8_t out[FRAME], uint64_t lsn, uint32_t how) {
    static const uint8_t kinds[] = {FRAME_COMMIT, FRAME_WITNESS, FRAME_LOST, FRAME_COMMIT};
    struct frame_key key = guessed(w, how % 2 != 0);
    uint8_t *dir = out + FRAME_HEADER_SIZE, *body = dir + RUN_SIZE;
    uint8_t kind = kinds[how / 2 % 4];
    bool commit = kind == FRAME_COMMIT;
    memset(out, 0, FRAME);
    struct frame_header h = {.kind = kind,
                             .kind_flags = frame_kind_flags(kind),
                             .runs = commit,
                             .body_len = commit ? 32 : 64,
                             .lsn = lsn,
                             .epoch = w->log->wal.epoch + how / 8 % 3,
                             .durable = lsn,
                             .link = w->log->wal.link};
    if (commit) {
        run_encode(dir, &(struct run){.type = RUN_CATALOG, .count = 1, .len = 32});
        put16(body, CATALOG_STREAM);
        put16(body + 2, 6);
        put32(body + 4, 9);
        put64(body + 8, 1);
        memcpy(body + 24, "forged", 6);
        h.dir_hash = frame_hash(dir, RUN_SIZE, &key);
        h.body_hash = frame_hash(body, 32, &key);
    } else {
        h.dir_hash = frame_hash(NULL, 0, &key);
        h.body_hash = kind == FRAME_LOST ? 0 : frame_hash(dir, 64, &key);
    }
    frame_encode_header(out, &h, &key);
}

/* Frames as they lie in the newest segment, or in the file that comes after it. */
static uint32_t copy(struct world *w, uint8_t *value, uint32_t len, uint32_t arg) {
    static uint8_t file[SEGMENT_SIZE_UNIT];
    char name[24];
    segment_name(name, w->log->wal.segment + arg % 2, "seg");
    int inode = disk_find(&w->m.disk, name);
    if (inode < 0 || disk_read(&w->m.disk, inode, true, file, sizeof file, 0) != sizeof file)
        return 0;
    for (uint32_t at = SEGMENT_HEADER_SIZE + arg / 2 % 4096 * 8; at + len < sizeof file; at += 8)
        if (memcmp(file + at, "PWLF", 4) == 0) {
            memcpy(value, file + at, len);
            return len;
        }
    return 0;
}

void world_forge(struct world *w, uint32_t arg) {
    uint8_t value[MODEL_FORGED_SIZE];
    int part = (int)(arg % 2);
    uint32_t len = 0, most = arg / 4 % 2 != 0 ? sizeof value : 2 * FRAME;
    uint64_t lsn = w->log->wal.tail + FRAME_HEADER_SIZE + RUN_SIZE + RECORD_HEADER_SIZE;
    if (arg / 2 % 2 != 0)
        len = copy(w, value, most, arg / 8);
    /* for its own place, which it may come to lie in without its own frame's header, and for those
     * that its file will have */
    for (uint32_t how = arg / 8; len + FRAME <= most; len += FRAME, how++)
        forge(w, value + len, lsn + len + how / 4 % 4 * SEGMENT_SIZE_UNIT, how);
    pawl_record r = {.value = value, .value_len = len};
    model_submit(w->model);
    r.timestamp_ns = model_add_forged(w->model, part, value, len);
    int rc = pawl_append(w->log, w->stream[0], (uint32_t)part, &r, NULL);
    world_ended(w, "append", rc, w->model->count);
}

void world_check_forged(struct world *w) {
    pawl_stream_info info;
    if (pawl_stream_find(w->log, "forged", &info) == 0)
        world_wrong(w, "the value of a record was taken for a frame");
}
