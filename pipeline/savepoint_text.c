/* SPDX-License-Identifier: Apache-2.0
 *
 * The file `savepoint`: what a savepoint has (docs/format.md, section 11). What it says is compared
 * with the files before anything is made from them, so that none of them was lost or exchanged.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "pipeline/engine.h"
#include "pipeline/savepoint.h"

#define TEXT_MAX (1024u * 1024u) /* 10,000 files take half of it */
#define LINE_MAX_BYTES 96

/* The hash of the file's first block, and its length. */
static int identify(struct seam *io, struct mem *m, const char *name, uint64_t *length,
                    uint64_t *hash) {
    int file = io->ops->open(io, name, 0);
    if (file == -ENOENT)
        return fail_at(PAWL_DAMAGED, ENOENT, "open", name, NO_LSN, "%s is missing in the savepoint",
                       name);
    if (file < 0)
        return fail_sys(file, "open", name, NO_LSN);
    uint8_t *block = mem_alloc_block(m, BLOCK);
    int64_t n = block == NULL ? 0 : io->ops->read(io, file, block, BLOCK, 0);
    int rc = block == NULL ? fail(PAWL_MEMORY, "no memory to read a file")
             : n < 0       ? fail_sys((int)n, "read", name, NO_LSN)
                           : io->ops->size(io, file, length);
    if (rc == 0)
        *hash = format_hash(block, (size_t)n, 0);
    else if (block != NULL && n >= 0)
        rc = fail_sys(rc, "fstat", name, NO_LSN);
    mem_free(m, block, BLOCK);
    io->ops->close(io, file);
    return rc;
}

static void add_line(struct bytes *b, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void add_line(struct bytes *b, const char *format, ...) {
    char line[LINE_MAX_BYTES];
    va_list list;
    va_start(list, format);
    int n = vsnprintf(line, sizeof line, format, list);
    va_end(list);
    bytes_put(b, line, (size_t)n);
}

static int add_files(struct save *s, struct bytes *b) {
    for (uint32_t i = 0; i < s->count; i++) {
        uint64_t length = 0, hash = 0;
        TRY(identify(s->to, s->mem, s->files[i].name, &length, &hash));
        add_line(b, "file %s %" PRIu64 " %016" PRIx64 "\n", s->files[i].name, length, hash);
    }
    return 0;
}

int save_text_write(struct save *s, const uint8_t id[16], uint64_t lsn) {
    struct bytes b;
    char hex[33];
    bytes_init(&b, s->mem);
    for (int i = 0; i < 16; i++)
        snprintf(hex + 2 * i, 3, "%02x", id[i]);
    add_line(&b, "pawl savepoint 1\nlog %s\nlsn %" PRIu64 "\n", hex, lsn);
    int rc = add_files(s, &b);
    if (rc == 0 && !b.failed)
        add_line(&b, "end %016" PRIx64 "\n", format_hash(b.data, b.len, 0));
    if (rc == 0 && (b.failed || b.len > TEXT_MAX))
        rc = fail(PAWL_MEMORY, "no memory to list the files");
    if (rc == 0) {
        uint32_t how = SEAM_CREATE | SEAM_RDWR | SEAM_BUFFERED;
        int file = s->to->ops->open(s->to, SAVE_TEXT, how);
        int64_t n = file < 0 ? file : s->to->ops->write(s->to, file, b.data, b.len, 0);
        if (n >= 0)
            n = s->to->ops->sync(s->to, file);
        if (file >= 0)
            s->to->ops->close(s->to, file);
        rc = n < 0 ? fail_sys((int)n, "write", SAVE_TEXT, NO_LSN) : 0;
    }
    bytes_free(&b);
    return rc;
}

/* ---- reading */

static int not_whole(void) {
    return fail_at(PAWL_DAMAGED, 0, "read", SAVE_TEXT, NO_LSN,
                   "the file " SAVE_TEXT " of the savepoint isn't what was written: it was changed "
                   "or cut since");
}

/* The text, zero-terminated, in *b. */
static int read_text(struct seam *io, struct bytes *b) {
    uint64_t size = 0;
    int file = io->ops->open(io, SAVE_TEXT, SEAM_BUFFERED);
    if (file == -ENOENT)
        return fail(PAWL_NOT_FOUND, "this is no savepoint: it has no file " SAVE_TEXT
                                    ". 'pawl savepoint' makes one of a log");
    if (file < 0)
        return fail_sys(file, "open", SAVE_TEXT, NO_LSN);
    int rc = io->ops->size(io, file, &size);
    if (rc < 0)
        rc = fail_sys(rc, "fstat", SAVE_TEXT, NO_LSN);
    else if (size > TEXT_MAX)
        rc = not_whole();
    else if (bytes_add(b, (size_t)size + 1) == NULL)
        rc = fail(PAWL_MEMORY, "no memory to read what the savepoint has");
    int64_t n = rc < 0 ? 0 : io->ops->read(io, file, b->data, (size_t)size, 0);
    io->ops->close(io, file);
    if (n < 0)
        return fail_sys((int)n, "read", SAVE_TEXT, NO_LSN);
    if (rc == 0 && ((uint64_t)n != size || memchr(b->data, 0, (size_t)size) != NULL))
        rc = not_whole();
    return rc;
}

/* A line of a file; what it says is compared. */
static int check_file(struct seam *io, struct mem *m, const char *line) {
    char name[24], again[LINE_MAX_BYTES];
    uint64_t length, hash, has = 0, is = 0, index;
    uint32_t id;
    /* NOLINTNEXTLINE(cert-err34-c): judged by writing it again */
    if (sscanf(line, "file %23s %" SCNu64 " %" SCNx64, name, &length, &hash) != 3)
        return not_whole();
    snprintf(again, sizeof again, "file %s %" PRIu64 " %016" PRIx64 "\n", name, length, hash);
    if (strncmp(again, line, strlen(again)) != 0 ||
        (!segment_parse_name(name, "seg", &index) && !run_parse_name(name, &id)))
        return not_whole();
    TRY(identify(io, m, name, &has, &is));
    if (has != length || is != hash)
        return fail_at(PAWL_DAMAGED, 0, "read", name, NO_LSN,
                       "%s of the savepoint isn't the file that was saved: it was changed or "
                       "exchanged since",
                       name);
    return 0;
}

/* *at is the next line. False: there is none, or it isn't `want`. */
static bool take_line(char **at, const char *want) {
    size_t n = strlen(want);
    if (strncmp(*at, want, n) != 0 || strchr(*at, '\n') == NULL)
        return false;
    *at = strchr(*at, '\n') + 1;
    return true;
}

static int check_text(struct seam *io, struct mem *m, const struct bytes *b, uint64_t *lsn) {
    char *at = (char *)b->data, last[LINE_MAX_BYTES], *line;
    if (!take_line(&at, "pawl savepoint 1\n"))
        return fail_at(PAWL_VERSION, 0, "read", SAVE_TEXT, NO_LSN,
                       "the savepoint's file " SAVE_TEXT " is of a version that this one doesn't "
                       "know, or no such file");
    line = at + 4; /* of the log's id, which its headers have too */
    if (!take_line(&at, "log ") || strspn(line, "0123456789abcdef") != 32)
        return not_whole();
    line = at;
    /* NOLINTNEXTLINE(cert-err34-c): the hash vouches for it */
    if (!take_line(&at, "lsn ") || sscanf(line, "lsn %" SCNu64, lsn) != 1)
        return not_whole();
    char *files = at;
    while (take_line(&at, "file ")) {
    }
    size_t before = (size_t)(at - (char *)b->data);
    snprintf(last, sizeof last, "end %016" PRIx64 "\n", format_hash(b->data, before, 0));
    if (strcmp(at, last) != 0)
        return not_whole();
    for (at = files; strncmp(at, "file ", 5) == 0; at = strchr(at, '\n') + 1)
        TRY(check_file(io, m, at));
    return 0;
}

int save_text_check(struct seam *io, struct mem *m, uint64_t *lsn) {
    struct bytes b;
    bytes_init(&b, m);
    int rc = read_text(io, &b);
    if (rc == 0)
        rc = check_text(io, m, &b, lsn);
    bytes_free(&b);
    return rc;
}

int save_text_there(struct seam *io) {
    char begin[14];
    static const char want[] = "pawl savepoint";
    int file = io->ops->open(io, SAVE_TEXT, SEAM_BUFFERED);
    if (file == -ENOENT)
        return 0;
    if (file < 0)
        return fail_sys(file, "open", SAVE_TEXT, NO_LSN);
    int64_t n = io->ops->read(io, file, begin, sizeof begin, 0);
    io->ops->close(io, file);
    return n < 0 ? fail_sys((int)n, "read", SAVE_TEXT, NO_LSN)
                 : n == sizeof begin && memcmp(begin, want, sizeof begin) == 0;
}
