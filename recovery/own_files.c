/* SPDX-License-Identifier: Apache-2.0
 *
 * Segments that somebody else has too, by a hard link in a savepoint, say. Their bytes stay as they
 * are, so the log gets copies of its own before repair writes anything.
 */
#include <errno.h>

#include "recovery/verify.h"
#include "wal/wal.h"

struct own {
    struct seam *io;
    struct mem *mem;
};

/* One block after the other, where a larger piece can't be read; what can't be read at all is
 * zeros, and damage as it was. */
static int copy_blocks(struct seam *io, int from, int to, uint8_t *block, uint64_t at,
                       uint64_t end) {
    for (; at < end; at += BLOCK) {
        memset(block, 0, BLOCK);
        (void)!io->ops->read(io, from, block, BLOCK, at);
        int64_t n = io->ops->write(io, to, block, BLOCK, at);
        if (n < 0)
            return (int)n;
    }
    return 0;
}

static int copy_file(struct own *r, int from, int to) {
    struct seam *io = r->io;
    uint64_t size = 0;
    uint8_t *data = mem_alloc_block(r->mem, SCAN_CHUNK / 4);
    if (data == NULL)
        return -ENOMEM;
    int rc = io->ops->size(io, from, &size);
    if (rc == 0)
        rc = io->ops->allocate(io, to, align_up(size, BLOCK));
    for (uint64_t at = 0, n; at < size && rc >= 0; at += n) {
        n = size - at < SCAN_CHUNK / 4 ? align_up(size - at, BLOCK) : SCAN_CHUNK / 4;
        memset(data, 0, n);
        if (io->ops->read(io, from, data, n, at) < 0) {
            rc = copy_blocks(io, from, to, data, at, at + n);
        } else {
            int64_t wrote = io->ops->write(io, to, data, n, at);
            rc = wrote < 0 ? (int)wrote : 0;
        }
    }
    mem_free(r->mem, data, SCAN_CHUNK / 4);
    return rc < 0 ? rc : io->ops->sync(io, to);
}

static int own_file(struct own *r, uint64_t index, int from) {
    struct seam *io = r->io;
    char tmp[24], name[24];
    segment_name(tmp, index, "tmp");
    segment_name(name, index, "seg");
    int rc = io->ops->unlink(io, tmp);
    int to = rc < 0 && rc != -ENOENT ? rc : io->ops->open(io, tmp, SEAM_CREATE | SEAM_RDWR);
    if (to < 0)
        return fail_sys(to, "create", tmp, NO_LSN);
    rc = copy_file(r, from, to);
    io->ops->close(io, to);
    if (rc == 0)
        rc = io->ops->replace(io, tmp, name);
    if (rc == 0)
        rc = io->ops->sync_dir(io);
    if (rc < 0)
        (void)!io->ops->unlink(io, tmp);
    return rc < 0 ? fail_sys(rc, "copy", name, NO_LSN) : 0;
}

/* Somebody else has it too, and it can be a segment: whatever else stands under such a name isn't
 * the log's, and stays (PAWL-15). */
static bool is_shared(struct seam *io, int file) {
    uint64_t size = 0;
    return io->ops->size(io, file, &size) == 0 && size != 0 && size % SEGMENT_SIZE_UNIT == 0 &&
           wal_file_is_kept(io, file);
}

int own_files(struct seam *io, struct mem *m) {
    struct own of = {io, m}, *r = &of;
    struct segment_list l;
    TRY(segment_list_read(r->io, r->mem, &l));
    int rc = 0;
    for (size_t i = 0; i < l.count && rc == 0; i++) {
        int file = segment_open_file(r->io, l.index[i], false);
        rc = file < 0 ? file : is_shared(r->io, file) ? own_file(r, l.index[i], file) : 0;
        if (file >= 0)
            r->io->ops->close(r->io, file);
    }
    segment_list_free(&l);
    return rc;
}
