/* SPDX-License-Identifier: Apache-2.0 */
#include "recovery/segments.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "recovery/scan.h"

/* ---- the directory */

struct lister {
    struct segment_list *list;
    const char *suffix;
    int rc;
};

static int add_index(struct segment_list *l, uint64_t index) {
    if (l->count == l->cap) {
        size_t cap = l->cap == 0 ? 64 : l->cap * 2;
        uint64_t *p = mem_grow(l->mem, l->index, l->cap * sizeof *p, cap * sizeof *p);
        if (p == NULL)
            return fail(PAWL_MEMORY, "no memory to list the log's segments");
        l->index = p;
        l->cap = cap;
    }
    l->index[l->count++] = index;
    return 0;
}

static int on_name(void *arg, const char *name) {
    struct lister *x = arg;
    uint64_t index;
    if (strlen(name) != 20)
        return 0;
    if (segment_parse_name(name, x->suffix, &index))
        x->rc = add_index(x->list, index);
    return x->rc;
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static int list(struct seam *io, struct mem *m, const char *suffix, struct segment_list *l) {
    *l = (struct segment_list){.mem = m};
    struct lister x = {.list = l, .suffix = suffix};
    int rc = io->ops->list(io, on_name, &x);
    if (rc < 0 && x.rc == 0)
        rc = fail_sys(rc, "readdir", NULL, NO_LSN);
    if (rc < 0)
        segment_list_free(l);
    else if (l->count > 1)
        qsort(l->index, l->count, sizeof *l->index, by_value);
    return rc < 0 ? rc : 0;
}

int segment_list_read(struct seam *io, struct mem *m, struct segment_list *l) {
    return list(io, m, "seg", l);
}

void segment_remove_tmp(struct seam *io, struct mem *m) {
    struct segment_list l;
    pawl_error saved;
    fail_copy(&saved);
    if (list(io, m, "tmp", &l) < 0) {
        fail_again(&saved);
        return;
    }
    for (size_t i = 0; i < l.count; i++) {
        char name[24];
        segment_name(name, l.index[i], "tmp");
        (void)!io->ops->unlink(io, name); /* the next writer tries again */
    }
    segment_list_free(&l);
}

void segment_list_free(struct segment_list *l) {
    mem_free(l->mem, l->index, l->cap * sizeof *l->index);
    l->index = NULL;
    l->count = l->cap = 0;
}

/* ---- headers */

int unknown_error(const struct format_unknown *u, const char *name) {
    const char *run = strcmp(u->what, "run type") == 0 && run_type_known((uint16_t)u->value)
                          ? run_type_name((uint16_t)u->value)
                          : "";
    if (u->need == NEED_TO_READ)
        return fail_at(PAWL_VERSION, 0, "open", name, u->lsn,
                       "the log can't be read without understanding %s 0x%llx at LSN %llu, which "
                       "this version of Pawl (format %u) doesn't know; use a newer one",
                       u->what, (unsigned long long)u->value, (unsigned long long)u->lsn,
                       FORMAT_VERSION);
    return fail_at(PAWL_VERSION, 0, "open", name, u->lsn,
                   "this version of Pawl (format %u) may read the log but not write to it: %s "
                   "0x%llx%s%s%s at LSN %llu would get lost; open it read-only, or write with a "
                   "newer version",
                   FORMAT_VERSION, u->what, (unsigned long long)u->value, run[0] != 0 ? " (" : "",
                   run, run[0] != 0 ? ")" : "", (unsigned long long)u->lsn);
}

int segment_header_read(struct seam *io, struct mem *m, int file, uint64_t index,
                        struct segment_header *h, enum segment_verdict *v, int *bad_copy) {
    uint8_t *head = mem_alloc_block(m, SEGMENT_HEADER_SIZE);
    if (head == NULL)
        return fail(PAWL_MEMORY, "no memory to read a segment header");
    memset(head, 0, SEGMENT_HEADER_SIZE);
    int64_t n = io->ops->read(io, file, head, SEGMENT_HEADER_SIZE, 0);
    if (n >= 0)
        *v = segment_decode(head, index, h, bad_copy);
    mem_keep(m, head, SEGMENT_HEADER_SIZE);
    if (n < 0) {
        char name[24];
        segment_name(name, index, "seg");
        return fail_sys((int)n, "read", name, NO_LSN);
    }
    return 0;
}

int segment_header_torn(struct seam *io, struct mem *m, int file, const struct segment_header *h,
                        bool *torn) {
    uint64_t lsn;
    TRY(scan_for_begun(io, m, file, h->index, h, &lsn));
    *torn = lsn == NO_LSN;
    return 0;
}

/* The good copy's bytes, whatever a later version may have put there, over the bad one. */
static int64_t copy_header(struct seam *io, int file, uint8_t block[BLOCK], int bad_copy) {
    int64_t n = io->ops->read(io, file, block, BLOCK, (uint64_t)(1 - bad_copy) * BLOCK);
    if (n < 0)
        return n;
    if (n < (int64_t)BLOCK)
        return -EIO;
    return io->ops->write(io, file, block, BLOCK, (uint64_t)bad_copy * BLOCK);
}

int segment_header_mend(struct seam *io, struct mem *m, int file, const struct segment_header *h,
                        int bad_copy) {
    uint8_t *block = mem_alloc_block(m, BLOCK);
    char name[24];
    if (block == NULL)
        return fail(PAWL_MEMORY, "no memory to mend a segment header");
    int64_t n = copy_header(io, file, block, bad_copy);
    int rc = n < 0 ? (int)n : io->ops->sync(io, file);
    mem_free(m, block, BLOCK);
    segment_name(name, h->index, "seg");
    return rc < 0 ? fail_sys(rc, n < 0 ? "write" : "fdatasync", name, h->index * h->segment_size)
                  : 0;
}

/* ---- files */

int segment_open_file(struct seam *io, uint64_t index, bool writable) {
    char name[24];
    segment_name(name, index, "seg");
    int file = io->ops->open(io, name, writable ? SEAM_RDWR : 0);
    return file < 0 ? fail_sys(file, "open", name, NO_LSN) : file;
}

/* `h`: what the header says, if it is of this format; `size`: of the log's segments. */
int segment_header_error(uint64_t index, enum segment_verdict v, const struct segment_header *h,
                         uint64_t size) {
    char name[24];
    struct format_unknown u = {0};
    segment_name(name, index, "seg");
    if (v == SEGMENT_UNKNOWN && h != NULL && h->segment_size != 0) {
        segment_judge_features(h, &u);
        return unknown_error(&u, name);
    }
    if (v == SEGMENT_UNKNOWN)
        return fail_at(PAWL_VERSION, 0, "open", name, index * size,
                       "%s was written in a format this version of Pawl (format %u) doesn't know; "
                       "use a newer one",
                       name, FORMAT_VERSION);
    return fail_at(PAWL_DAMAGED, 0, "open", name, index * size,
                   "segment-header-damaged: both copies of the header of %s are damaged; run 'pawl "
                   "verify', then 'pawl repair'",
                   name);
}

int segment_check_writable(const struct segment_header *h) {
    char name[24];
    struct format_unknown u = {0};
    segment_name(name, h->index, "seg");
    segment_judge_features(h, &u);
    return u.need >= NEED_TO_WRITE ? unknown_error(&u, name) : 0;
}

static int not_there(uint64_t index) {
    char name[24];
    segment_name(name, index, "seg");
    return fail_sys(-ENOENT, "open", name, NO_LSN);
}

int segment_there(struct seam *io, uint64_t index) {
    char name[24];
    segment_name(name, index, "seg");
    int file = io->ops->open(io, name, 0);
    if (file == -ENOENT)
        return 0;
    if (file < 0)
        return fail_sys(file, "open", name, NO_LSN);
    io->ops->close(io, file);
    return 1;
}

int segment_open(struct seam *io, struct mem *m, uint64_t index, const struct segment_header *like,
                 bool writable, struct segment_header *h) {
    int bad_copy;
    return segment_open_judged(io, m, index, like, writable, h, &bad_copy);
}

int segment_open_judged(struct seam *io, struct mem *m, uint64_t index,
                        const struct segment_header *like, bool writable, struct segment_header *h,
                        int *bad_copy) {
    int file = segment_open_file(io, index, writable);
    if (file < 0)
        return file;
    enum segment_verdict v = SEGMENT_BAD;
    int rc = segment_header_read(io, m, file, index, h, &v, bad_copy);
    if (rc == 0 && v != SEGMENT_GOOD && v != SEGMENT_ONE_COPY) {
        int there = segment_there(io, index);
        rc = there > 0    ? segment_header_error(index, v, h, like->segment_size)
             : there == 0 ? not_there(index)
                          : there;
    } else if (rc == 0 && (memcmp(h->log_id, like->log_id, 16) != 0 ||
                           h->segment_size != like->segment_size)) {
        char name[24];
        segment_name(name, index, "seg");
        rc = fail_at(PAWL_FOREIGN, 0, "open", name, index * like->segment_size,
                     "%s belongs to another log; move it out of the directory", name);
    }
    if (rc < 0) {
        io->ops->close(io, file);
        return rc;
    }
    return file;
}

int segment_check_unbegun(struct seam *io, struct mem *m, uint64_t index,
                          const struct segment_header *like) {
    int file = segment_open_file(io, index, false);
    if (file < 0)
        return file;
    uint64_t lsn;
    int rc = scan_for_begun(io, m, file, index, like, &lsn);
    io->ops->close(io, file);
    if (rc == 0 && lsn != NO_LSN)
        rc = segment_header_error(index, SEGMENT_BAD, NULL, like->segment_size);
    return rc;
}

static int judge_file(struct seam *io, struct mem *m, uint64_t index, struct segment_header *h,
                      enum segment_verdict *v) {
    int file = segment_open_file(io, index, false);
    if (file < 0)
        return file;
    int bad;
    int rc = segment_header_read(io, m, file, index, h, v, &bad);
    io->ops->close(io, file);
    return rc;
}

/* The newest begun segment; above it only prepared files. */
static int find_newest(struct seam *io, struct mem *m, const struct segment_list *l,
                       struct log_extent *x, size_t *at) {
    enum segment_verdict v = SEGMENT_PREPARED, worst = SEGMENT_PREPARED;
    size_t i = l->count;
    while (i > 0) {
        TRY(judge_file(io, m, l->index[i - 1], &x->newest, &v));
        if (v == SEGMENT_UNKNOWN)
            return segment_header_error(l->index[i - 1], v, &x->newest, MIB);
        if (v == SEGMENT_GOOD || v == SEGMENT_ONE_COPY)
            break;
        if (v == SEGMENT_BAD)
            worst = v;
        i--;
    }
    if (i == 0)
        return worst == SEGMENT_BAD
                   ? segment_header_error(l->index[l->count - 1], SEGMENT_BAD, NULL, MIB)
                   : fail(PAWL_NOT_A_LOG,
                          "the directory holds no Pawl log; create one with 'pawl init'");
    *at = i - 1;
    x->last = l->index[i - 1];
    x->prepared = i < l->count && l->index[i] == x->last + 1;
    x->spare = x->prepared && i + 1 < l->count && l->index[i + 1] == x->last + 2;
    if (i < l->count && l->index[i] == x->last + 1 && worst == SEGMENT_BAD)
        TRY(segment_check_unbegun(io, m, l->index[i], &x->newest));
    return 0;
}

static int extent_find(struct seam *io, struct mem *m, bool writable, struct log_extent *x) {
    struct segment_list l;
    memset(x, 0, sizeof *x);
    TRY(segment_list_read(io, m, &l));
    size_t at = 0;
    int rc = find_newest(io, m, &l, x, &at);
    if (rc == 0 && writable)
        rc = segment_check_writable(&x->newest);
    if (writable && (rc == 0 || rc == PAWL_NOT_A_LOG))
        segment_remove_tmp(io, m);
    if (rc < 0) {
        segment_list_free(&l);
        return rc;
    }
    size_t i = at;
    while (i > 0 && l.index[i - 1] == l.index[i] - 1)
        i--;
    x->first = l.index[i];
    bool gap = i > 0;
    segment_list_free(&l);
    if (gap)
        return fail_at(
            PAWL_DAMAGED, 0, "open", "", x->first * x->newest.segment_size,
            "segment-missing: segment %016llx is not there but older ones are; put it back, or "
            "move the older ones out of the directory: what they hold is then gone",
            (unsigned long long)(x->first - 1));
    struct segment_header h;
    /* the neighbour and the oldest tell foreign files */
    for (uint64_t n = x->last; n-- > x->first;) {
        if (n != x->first && n + 1 != x->last)
            continue;
        int file = segment_open(io, m, n, &x->newest, false, &h);
        if (file < 0)
            return file;
        io->ops->close(io, file);
        if (n == x->first)
            x->oldest = h;
        else
            n = x->first + 1;
    }
    if (x->first == x->last)
        x->oldest = x->newest;
    /* PAWL-8: what is begun is contiguous; only after it there may be prepared files */
    assert(x->first <= x->last && x->newest.index == x->last && x->oldest.index == x->first);
    assert(x->prepared || !x->spare);
    return 0;
}

/* Times that a writer may rename or remove what was just listed. */
#define LISTINGS_MAX 100

int log_extent_find(struct seam *io, struct mem *m, bool writable, struct log_extent *x) {
    int rc = 0;
    for (int i = 0; i < LISTINGS_MAX; i++) {
        pawl_error e;
        rc = extent_find(io, m, writable, x);
        fail_copy(&e);
        if (rc == 0 || e.sys_errno != ENOENT)
            break;
    }
    return rc;
}
