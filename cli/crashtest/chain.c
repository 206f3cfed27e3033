/* SPDX-License-Identifier: Apache-2.0
 *
 * chain.c - see chain.h. Section numbers are those of docs/format.md.
 */
#include "cli/crashtest/chain.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { CATALOG = 6, C_IDS = 0x8048 };
enum { BLOCK = 4096, HEADERS = 2 * BLOCK, FRAME_HEADER = 80, RUN = 32, KEY = 32, KEYED = 1 };
#define MIB (UINT64_C(1) << 20)
#define SEGMENT_MAX (UINT64_C(256) * MIB) /* a whole segment is held in memory */

int ct_wrong(ct_problem *p, const char *format, ...) {
    if (p->text[0] != '\0')
        return -1;
    va_list list;
    va_start(list, format);
    vsnprintf(p->text, sizeof p->text, format, list);
    va_end(list);
    return -1;
}

static uint64_t up(uint64_t x, uint64_t n) {
    return (x + n - 1) / n * n;
}

static bool zeros(const uint8_t *p, size_t len) {
    return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

void ct_chain_init(ct_chain *c, int dir, ct_problem *problem,
                   int (*frame)(void *, const ct_frame *), void *arg) {
    *c = (ct_chain){.dir = dir, .problem = problem, .frame = frame, .arg = arg};
}

void ct_chain_free(ct_chain *c) {
    free(c->window.data);
    free(c->fetched.data);
    c->window = c->fetched = (ct_window){0};
}

/* ---- reading. Past the page cache where the file system can: a killed process's last direct
 * writes may still be landing. */

static int open_segment(const ct_chain *c, uint64_t n, bool direct) {
    char name[32];
    snprintf(name, sizeof name, "%016" PRIx64 ".seg", n);
    int fd = openat(c->dir, name, O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0));
    return fd < 0 && direct && errno == EINVAL ? open_segment(c, n, false) : fd;
}

static int read_all(ct_chain *c, int fd, uint8_t *data, size_t len, uint64_t offset) {
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(fd, data + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return ct_wrong(c->problem,
                            "expected to read %zu bytes at offset %" PRIu64
                            " of a segment, found: %s",
                            len, offset, n == 0 ? "the end of the file" : strerror(errno));
        done += (size_t)n;
    }
    return 0;
}

static int reserve(ct_chain *c, ct_window *w, size_t len) {
    if (w->cap >= len)
        return 0;
    void *data = NULL;
    free(w->data);
    w->data = NULL;
    w->cap = 0;
    if (posix_memalign(&data, BLOCK, len) != 0)
        return ct_wrong(c->problem, "no memory for %zu bytes of a segment", len);
    w->data = data;
    w->cap = len;
    return 0;
}

/* Bytes `from` to `to` of segment n, at least; 1: there is no such file. */
static int load(ct_chain *c, ct_window *w, uint64_t n, uint64_t from, uint64_t to) {
    int fd = open_segment(c, n, true);
    if (fd < 0)
        return errno == ENOENT ? 1
                               : ct_wrong(c->problem, "cannot open segment %" PRIu64 ": %s", n,
                                          strerror(errno));
    struct stat s;
    int code = fstat(fd, &s);
    if (code == 0 && c->started && (uint64_t)s.st_size != c->segment_size)
        code = ct_wrong(c->problem,
                        "expected segment %" PRIu64 " to have %" PRIu64 " bytes, found %lld", n,
                        c->segment_size, (long long)s.st_size);
    from = from / BLOCK * BLOCK;
    size_t len = (size_t)(up(to, BLOCK) - from);
    if (code == 0)
        code = reserve(c, w, len);
    if (code == 0)
        code = read_all(c, fd, w->data, len, from);
    close(fd);
    w->lsn = n * c->segment_size + from;
    w->len = len;
    return code;
}

static const uint8_t *at(const ct_window *w, uint64_t lsn) {
    return w->data + (lsn - w->lsn);
}

/* ---- section 2: the segment header */

typedef struct header {
    uint64_t segment_size, index, epoch, link, seal_lsn;
    uint64_t to_read; /* features without which the log can't be read */
    bool counts;
    uint64_t commits, changes; /* if it counts */
    uint8_t log_id[16];
    bool named; /* the next key */
    uint8_t own[KEY], next[KEY];
} header;

static bool header_valid(const uint8_t *p, uint64_t n, header *h) {
    static const uint8_t magic[8] = {0x50, 0x41, 0x57, 0x4C, 0x0D, 0x0A, 0x1A, 0x0A};
    if (p == NULL)
        return false;
    *h = (header){.segment_size = ct_get(p + 32, 8),
                  .index = ct_get(p + 40, 8),
                  .epoch = ct_get(p + 48, 8),
                  .link = ct_get(p + 56, 8),
                  .seal_lsn = ct_get(p + 64, 8),
                  .to_read = ct_get(p + 88, 8),
                  .counts = (p[96] & 1) != 0,
                  .commits = ct_get(p + 272, 8),
                  .changes = ct_get(p + 280, 8),
                  .named = (p[96] & 2) != 0};
    memcpy(h->log_id, p + 16, 16);
    memcpy(h->own, p + 144, KEY);
    memcpy(h->next, p + 176, KEY);
    return memcmp(p, magic, 8) == 0 && ct_get(p + 8, 4) == 1 && ct_get(p + 12, 4) == BLOCK &&
           ct_get(p + 4088, 8) == XXH3_64bits_withSeed(p, 4088, 0) && h->segment_size >= 65536 &&
           h->segment_size <= 4096 * MIB && h->segment_size % 65536 == 0 && h->index == n;
}

/* 1: segment n has begun; 0: not, or it isn't there; -1: a problem. Leaves its first two blocks in
 * `fetched`. */
static int begun(ct_chain *c, uint64_t n, header *h) {
    int code = load(c, &c->fetched, n, 0, HEADERS);
    if (code != 0)
        return code == 1 ? 0 : code;
    return header_valid(c->fetched.data, n, h) || header_valid(c->fetched.data + BLOCK, n, h);
}

/* ---- section 3: frames */

/* Section 2: the header's keys are at 112: the one before, the segment's own, and the next one. */
static void read_key(ct_key *k, const header *h, const uint8_t *key, bool keyed) {
    *k = (ct_key){.keyed = keyed, .seed = XXH3_64bits_withSeed(h->log_id, 16, 0)};
    for (uint64_t i = 0; i < sizeof k->secret / 8; i++) {
        uint64_t word = XXH3_64bits_withSeed(key, KEY, i);
        for (uint64_t b = 0; b < 8; b++)
            k->secret[i * 8 + b] = (uint8_t)(word >> 8 * b);
    }
}

static uint64_t hash_of(const ct_key *k, const uint8_t *p, size_t len) {
    return k->keyed ? XXH3_64bits_withSecret(p, len, k->secret, sizeof k->secret)
                    : XXH3_64bits_withSeed(p, len, k->seed);
}

/* A good header at this LSN? The window reaches to the segment's end, `limit`. */
static bool header_good(const ct_key *k, const ct_window *w, uint64_t lsn, uint64_t limit,
                        ct_frame *f) {
    if (lsn + FRAME_HEADER > limit)
        return false;
    const uint8_t *p = at(w, lsn);
    if (memcmp(p, "PWLF", 4) != 0)
        return false;
    *f = (ct_frame){.lsn = ct_get(p + 8, 8),
                    .epoch = ct_get(p + 16, 8),
                    .durable = ct_get(p + 24, 8),
                    .link = ct_get(p + 40, 8),
                    .hash = ct_get(p + 72, 8),
                    .kind = p[4],
                    .kind_flags = p[5],
                    .flags = (uint32_t)ct_get(p + 68, 4),
                    .runs = (uint16_t)ct_get(p + 6, 2),
                    .body_len = (uint32_t)ct_get(p + 64, 4),
                    .dir = p + FRAME_HEADER};
    f->body = f->dir + (size_t)f->runs * RUN;
    f->end = lsn + up(FRAME_HEADER + (uint64_t)f->runs * RUN + f->body_len, 8);
    return f->hash == hash_of(k, p, 72) && f->lsn == lsn && f->durable <= lsn && f->end <= limit;
}

static bool frame_good(const ct_key *k, const ct_window *w, uint64_t lsn, uint64_t limit,
                       ct_frame *f) {
    if (!header_good(k, w, lsn, limit, f))
        return false;
    const uint8_t *p = at(w, lsn), *end = f->body + f->body_len;
    return ct_get(p + 48, 8) == hash_of(k, f->dir, (size_t)f->runs * RUN) &&
           ct_get(p + 56, 8) == hash_of(k, f->body, f->body_len) &&
           zeros(end, (size_t)(at(w, f->end) - end));
}

static bool begins_epoch(uint8_t kind) {
    return kind == CT_OPEN || kind == CT_CHECKPOINT || kind == CT_SEAL;
}

static bool follows(const ct_chain *c, const ct_frame *f) {
    return f->link == c->link &&
           (f->epoch == c->epoch || (f->epoch > c->epoch && begins_epoch(f->kind)));
}

static uint64_t segment_end(const ct_chain *c) {
    return (c->segment + 1) * c->segment_size;
}

/* "Where the next frame is": false at the end of the chain. */
static bool next_frame(const ct_chain *c, ct_frame *f) {
    uint64_t p = c->end, q = up(p, BLOCK), limit = segment_end(c);
    if (frame_good(&c->key, &c->window, p, limit, f) && follows(c, f))
        return true;
    if (q == p || q >= limit || !frame_good(&c->key, &c->window, q, limit, f) || !follows(c, f))
        return false;
    return zeros(at(&c->window, p), (size_t)(q - p)) || f->epoch > c->epoch;
}

/* Section 8: what must be understood to read, and is not described in docs/format.md. */
static int understood(const ct_chain *c, const ct_frame *f) {
    bool known = f->kind >= CT_COMMIT && f->kind <= CT_LOST;
    if (!known && (f->kind_flags & 1) == 0)
        return 0; /* skipped whole */
    if (!known || (f->kind_flags & 0xfc) != 0 || (f->flags & 0xfff) != 0)
        return ct_wrong(c->problem,
                        "the frame at LSN %" PRIu64
                        " is of a later version: kind %u, kind flags 0x%x, flags 0x%x",
                        f->lsn, f->kind, f->kind_flags, f->flags);
    for (uint16_t i = 0; i < f->runs; i++) {
        const uint8_t *run = f->dir + (size_t)i * RUN;
        uint64_t type = ct_get(run, 2), flags = ct_get(run + 2, 2);
        bool of_known =
            (type >= 1 && type <= 7) || type == 32 || (type >= 64 && type <= 71) || type == C_IDS;
        if (of_known ? (flags & 0x3f) != 0 : (type & 0x8000) == 0)
            return ct_wrong(c->problem,
                            "the frame at LSN %" PRIu64
                            " has a run of a later version: type %" PRIu64 ", flags 0x%" PRIx64,
                            f->lsn, type, flags);
    }
    return 0;
}

/* Does a frame of a segment that counts say how many commits and changes there were before it? */
static int counted(ct_chain *c, const ct_frame *f) {
    if (!c->counts)
        return 0;
    uint64_t commits = f->flags >> 12 & 0xfff, changes = f->flags >> 24;
    if (c->counted && (commits != c->commits % 4096 || changes != c->changes % 256))
        return ct_wrong(c->problem,
                        "expected the frame at LSN %" PRIu64 " to count %" PRIu64
                        " commits and %" PRIu64 " catalog changes before it (modulo 4096 and 256), "
                        "found %" PRIu64 " and %" PRIu64,
                        f->lsn, c->commits % 4096, c->changes % 256, commits, changes);
    for (uint16_t i = 0; i < f->runs; i++) {
        const uint8_t *run = f->dir + (size_t)i * RUN;
        if (ct_get(run, 2) == CATALOG && f->kind == CT_COMMIT)
            c->changes += ct_get(run + 12, 4);
    }
    c->commits += f->kind == CT_COMMIT;
    return 0;
}

static int accept(ct_chain *c, const ct_frame *f) {
    if (understood(c, f) < 0)
        return -1;
    if (counted(c, f) < 0)
        return -1;
    if (f->kind == CT_LOST)
        return ct_wrong(c->problem, "expected no damage, found a LOST frame at LSN %" PRIu64,
                        f->lsn);
    if (f->kind == CT_OPEN && f->epoch == c->epoch)
        return ct_wrong(c->problem,
                        "expected the OPEN at LSN %" PRIu64 " to begin a newer epoch than %" PRIu64,
                        f->lsn, c->epoch);
    c->end = f->end;
    c->link = f->hash;
    c->epoch = f->epoch;
    c->kind = f->kind;
    c->last_lsn = f->lsn;
    c->frames++;
    c->bytes += f->end - f->lsn;
    return c->frame(c->arg, f);
}

/* "Torn or damaged": nothing beyond `p` may know it to have been durable. The window reaches to
 * `limit`. */
static int no_witness_of(ct_chain *c, const ct_key *k, uint64_t p, uint64_t limit) {
    uint64_t q = up(p, BLOCK);
    ct_frame f;
    if (q < limit && zeros(at(&c->window, p), (size_t)(q - p)))
        p = q;
    for (uint64_t lsn = up(p, 8); lsn + FRAME_HEADER <= limit; lsn += 8)
        if (memcmp(at(&c->window, lsn), "PWLF", 4) == 0 &&
            header_good(k, &c->window, lsn, limit, &f) && lsn > p && f.epoch >= c->epoch &&
            f.durable > p)
            return ct_wrong(c->problem,
                            "expected the chain to go on at LSN %" PRIu64
                            ", which the frame at LSN %" PRIu64
                            " knew to be durable (below %" PRIu64 "); found no good frame there",
                            p, lsn, f.durable);
    return 0;
}

static int no_witness(ct_chain *c, uint64_t p, uint64_t limit) {
    return no_witness_of(c, &c->key, p, limit);
}

/* The same in a segment without a header, which may have another key than the one before it. */
static int not_begun(ct_chain *c, uint64_t p, uint64_t limit) {
    if ((c->key.keyed || !c->named) && no_witness(c, p, limit) < 0)
        return -1;
    return c->named ? no_witness_of(c, &c->next, p, limit) : 0;
}

/* ---- from segment to segment */

static void use_keys(ct_chain *c, const header *h) {
    read_key(&c->key, h, h->own, (h->to_read & KEYED) != 0);
    read_key(&c->next, h, h->next, true);
    c->named = h->named;
}

/* Takes over what the first header says about the log. */
static int learn(ct_chain *c, const header *h) {
    if (h->segment_size > SEGMENT_MAX)
        return ct_wrong(c->problem,
                        "segments of %" PRIu64
                        " bytes are too large for the record check, which takes 256 MiB",
                        h->segment_size);
    memcpy(c->log_id, h->log_id, 16);
    c->segment_size = h->segment_size;
    c->link = h->link;
    c->epoch = 0;
    return 0;
}

static int check_header(ct_chain *c, const header *h, bool first) {
    if ((h->to_read & ~(uint64_t)KEYED) != 0)
        return ct_wrong(c->problem,
                        "segment %" PRIu64 " needs features 0x%" PRIx64
                        " of a later version to be read",
                        h->index, h->to_read);
    if (memcmp(h->log_id, c->log_id, 16) != 0 || h->segment_size != c->segment_size)
        return ct_wrong(c->problem, "segment %" PRIu64 " belongs to another log", h->index);
    if (h->link != c->link || h->epoch < c->epoch || (!first && h->seal_lsn != c->last_lsn))
        return ct_wrong(c->problem,
                        "expected the header of segment %" PRIu64
                        " to name the seal at LSN %" PRIu64 " (link %016" PRIx64 ", epoch %" PRIu64
                        " at least), found LSN %" PRIu64 ", link %016" PRIx64 ", epoch %" PRIu64,
                        h->index, c->last_lsn, c->link, c->epoch, h->seal_lsn, h->link, h->epoch);
    return 0;
}

/* The segment after the sealed one. 1: its checkpoint was accepted; 0: it hasn't begun, or its
 * beginning was torn. */
static int enter(ct_chain *c, uint64_t n) {
    header h;
    bool first = !c->started;
    int code = begun(c, n, &h);
    if (code < 0)
        return code;
    if (code == 1 && first)
        code = learn(c, &h) < 0 ? -1 : 1;
    if (code == 1 && check_header(c, &h, first) < 0)
        return -1;
    if (code < 0 || (code == 0 && first))
        return code;
    c->started = true;
    if (code == 1)
        use_keys(c, &h);
    uint64_t limit = (n + 1) * c->segment_size, p = n * c->segment_size + (code == 1 ? HEADERS : 0);
    int missing = load(c, &c->window, n, 0, c->segment_size);
    if (missing != 0)
        return missing == 1 ? 0 : -1;
    ct_frame f;
    bool good = code == 1 && frame_good(&c->key, &c->window, p, limit, &f) && follows(c, &f) &&
                f.kind == CT_CHECKPOINT;
    if (!good)
        return code == 1 ? no_witness(c, p, limit) : not_begun(c, p, limit);
    if (h.counts && c->counted && (h.commits != c->commits || h.changes != c->changes))
        return ct_wrong(c->problem,
                        "expected the header of segment %" PRIu64 " to count %" PRIu64
                        " commits and %" PRIu64 " catalog changes, found %" PRIu64 " and %" PRIu64,
                        n, c->commits, c->changes, h.commits, h.changes);
    c->counts = c->counted = h.counts;
    c->commits = h.commits;
    c->changes = h.changes;
    c->segment = n;
    c->segments++;
    return accept(c, &f) < 0 ? -1 : 1;
}

/* 16 lower-case hexadecimal digits and ".seg"? */
static bool segment_name(const char *name, uint64_t *n) {
    *n = 0;
    if (strlen(name) != 20 || strcmp(name + 16, ".seg") != 0)
        return false;
    for (int i = 0; i < 16; i++) {
        const char *digits = "0123456789abcdef", *at = strchr(digits, name[i]);
        if (at == NULL)
            return false;
        *n = *n << 4 | (uint64_t)(at - digits);
    }
    return true;
}

/* Index of the oldest segment; 1: there is none. */
static int find_oldest(ct_chain *c, uint64_t *oldest) {
    int fd = openat(c->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (d == NULL)
        return ct_wrong(c->problem, "cannot list the log's directory: %s", strerror(errno));
    *oldest = UINT64_MAX;
    uint64_t n;
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (segment_name(e->d_name, &n) && n < *oldest)
            *oldest = n;
    closedir(d);
    return *oldest == UINT64_MAX;
}

static int start(ct_chain *c) {
    uint64_t oldest = 0;
    header h;
    int code = find_oldest(c, &oldest);
    if (code != 0)
        return code;
    code = begun(c, oldest, &h);
    if (code == 0 && oldest != 0)
        return ct_wrong(c->problem,
                        "expected the oldest segment, %" PRIu64 ", to have a header; found none",
                        oldest);
    if (code == 1)
        code = enter(c, oldest);
    if (code == 0 && c->started)
        return ct_wrong(c->problem,
                        "expected the oldest segment, %" PRIu64 ", to start with a checkpoint",
                        oldest);
    return code < 0 ? -1 : code == 0;
}

int ct_chain_advance(ct_chain *c) {
    int code = c->frames == 0 ? start(c) : 0;
    ct_frame f;
    header h;
    while (code == 0) {
        if (c->kind == CT_SEAL) {
            code = enter(c, c->segment + 1);
            if (code <= 0)
                return code;
        }
        code = load(c, &c->window, c->segment, c->end % c->segment_size, c->segment_size);
        if (code == 1)
            return ct_wrong(c->problem,
                            "expected segment %" PRIu64 " to be there still; it is gone",
                            c->segment);
        while (code == 0 && c->kind != CT_SEAL && next_frame(c, &f))
            code = accept(c, &f);
        if (code == 0 && c->kind != CT_SEAL) {
            if (begun(c, c->segment + 1, &h) == 1)
                return ct_wrong(c->problem,
                                "expected segment %" PRIu64
                                " to run to its seal, since the next one has begun; found "
                                "the end of its chain at LSN %" PRIu64,
                                c->segment, c->end);
            return no_witness(c, c->end, segment_end(c));
        }
    }
    return code;
}

bool ct_chain_cut_off(ct_chain *c) {
    int fd = c->frames != 0 ? open_segment(c, c->segment, false) : -1;
    if (fd >= 0)
        close(fd);
    return c->frames != 0 && fd < 0 && errno == ENOENT;
}

int ct_chain_fetch(ct_chain *c, uint64_t lsn, uint64_t hash, ct_frame *f) {
    uint64_t n = lsn / c->segment_size;
    header h;
    ct_key key;
    int code = begun(c, n, &h);
    if (code < 0)
        return code;
    if (code == 1) {
        read_key(&key, &h, h.own, (h.to_read & KEYED) != 0);
        code = load(c, &c->fetched, n, lsn % c->segment_size, c->segment_size);
    } else {
        code = 1;
    }
    if (code != 0)
        return code;
    if (!frame_good(&key, &c->fetched, lsn, (n + 1) * c->segment_size, f) || f->hash != hash)
        return ct_wrong(c->problem,
                        "expected a good frame at LSN %" PRIu64 ", to which a later one refers",
                        lsn);
    return 0;
}
