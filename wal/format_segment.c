/* SPDX-License-Identifier: Apache-2.0
 *
 * Segment headers; docs/format.md, sections 1 and 2. Offsets are those of the table there.
 */
#include <assert.h>
#include <stdio.h>

#include "wal/format.h"

static const uint8_t segment_magic[8] = {0x50, 0x41, 0x57, 0x4C, 0x0D, 0x0A, 0x1A, 0x0A};

enum {
    AT_VERSION = 8,
    AT_BLOCK = 12,
    AT_ID = 16,
    AT_SIZE = 32,
    AT_INDEX = 40,
    AT_EPOCH = 48,
    AT_LINK = 56,
    AT_SEAL = 64,
    AT_CREATED = 72,
    AT_CAP = 80,
    AT_FEATURES_READ = 88,
    AT_FEATURES_WRITE = 96,
    AT_FEATURES_IGNORE = 104,
    AT_CARRIED = 112,
    AT_IDS = 256,
    AT_PLACE = 288,
    AT_RESERVED = 304, /* zeros, and not looked at */
    AT_HASH = 4088
};
_Static_assert(AT_CARRIED + FEATURES_CARRIED_SIZE == AT_IDS, "header layout");
_Static_assert(FORK_AT >= KEYS * KEY_SIZE && FORK_AT + 16 <= FEATURES_CARRIED_SIZE,
               "it is carried");
_Static_assert(AT_IDS + C_IDS_SIZE == AT_PLACE, "header layout");
_Static_assert(AT_PLACE + 16 == AT_RESERVED, "header layout");

static bool size_allowed(uint64_t size) {
    return size >= SEGMENT_SIZE_UNIT && size <= 4096ull * MIB && size % SEGMENT_SIZE_UNIT == 0;
}

void segment_encode(uint8_t out[SEGMENT_HEADER_SIZE], const struct segment_header *h) {
    /* decode_copy() checks it; the seal is in an older segment */
    assert(size_allowed(h->segment_size) && h->index <= LSN_MAX / h->segment_size - 1);
    assert((h->features.ignore & FEATURE_PLACED) != 0 || h->place.inode == 0);
    assert(h->seal_lsn == 0 || h->seal_lsn < h->index * h->segment_size);
    memset(out, 0, BLOCK);
    memcpy(out, segment_magic, 8);
    put32(out + AT_VERSION, FORMAT_VERSION);
    put32(out + AT_BLOCK, BLOCK);
    memcpy(out + AT_ID, h->log_id, 16);
    put64(out + AT_SIZE, h->segment_size);
    put64(out + AT_INDEX, h->index);
    put64(out + AT_EPOCH, h->epoch);
    put64(out + AT_LINK, h->link);
    put64(out + AT_SEAL, h->seal_lsn);
    put64(out + AT_CREATED, h->created_ns);
    put64(out + AT_CAP, h->disk_cap);
    put64(out + AT_FEATURES_READ, h->features.read);
    put64(out + AT_FEATURES_WRITE, h->features.write);
    put64(out + AT_FEATURES_IGNORE, h->features.ignore);
    memcpy(out + AT_CARRIED, h->features.carried, FEATURES_CARRIED_SIZE);
    if (segment_counts(h))
        c_ids_encode(out + AT_IDS, &h->ids);
    if ((h->features.ignore & FEATURE_PLACED) != 0) {
        put64(out + AT_PLACE, h->place.inode);
        put64(out + AT_PLACE + 8, h->place.born_ns);
    }
    put64(out + AT_HASH, format_hash(out, AT_HASH, 0));
    memcpy(out + BLOCK, out, BLOCK);
}

void segment_set_identity(uint8_t head[SEGMENT_HEADER_SIZE], const uint8_t id[16]) {
    put64(head + AT_FEATURES_WRITE, get64(head + AT_FEATURES_WRITE) | FEATURE_FORKED);
    memcpy(head + AT_CARRIED + FORK_AT, id, 16);
    put64(head + AT_HASH, format_hash(head, AT_HASH, 0));
    memcpy(head + BLOCK, head, BLOCK);
}

static enum segment_verdict decode_copy(const uint8_t *in, uint64_t index,
                                        struct segment_header *h) {
    if (memcmp(in, segment_magic, 8) != 0)
        return all_zero(in, BLOCK) ? SEGMENT_PREPARED : SEGMENT_BAD;
    if (format_hash(in, AT_HASH, 0) != get64(in + AT_HASH))
        return SEGMENT_BAD;
    if (get32(in + AT_VERSION) != FORMAT_VERSION)
        return SEGMENT_UNKNOWN;
    memcpy(h->log_id, in + AT_ID, 16);
    h->segment_size = get64(in + AT_SIZE);
    h->index = get64(in + AT_INDEX);
    h->epoch = get64(in + AT_EPOCH);
    h->link = get64(in + AT_LINK);
    h->seal_lsn = get64(in + AT_SEAL);
    h->created_ns = get64(in + AT_CREATED);
    h->disk_cap = get64(in + AT_CAP);
    h->features.read = get64(in + AT_FEATURES_READ);
    h->features.write = get64(in + AT_FEATURES_WRITE);
    h->features.ignore = get64(in + AT_FEATURES_IGNORE);
    memcpy(h->features.carried, in + AT_CARRIED, FEATURES_CARRIED_SIZE);
    uint32_t at = AT_IDS;
    if (segment_counts(h))
        (void)c_ids_decode(in, BLOCK, &at, &h->ids);
    if ((h->features.ignore & FEATURE_PLACED) != 0)
        h->place = (struct seam_place){get64(in + AT_PLACE), get64(in + AT_PLACE + 8)};
    if (get32(in + AT_BLOCK) != BLOCK || !size_allowed(h->segment_size) ||
        h->index > LSN_MAX / h->segment_size - 1 ||
        (h->seal_lsn != 0 && h->seal_lsn >= h->index * h->segment_size))
        return SEGMENT_BAD;
    if (h->index != index)
        return SEGMENT_PREPARED;
    return (h->features.read & ~FEATURES_READ_KNOWN) != 0 ? SEGMENT_UNKNOWN : SEGMENT_GOOD;
}

enum segment_verdict segment_decode(const uint8_t in[SEGMENT_HEADER_SIZE], uint64_t index,
                                    struct segment_header *h, int *bad_copy) {
    struct segment_header second;
    memset(h, 0, sizeof *h);
    memset(&second, 0, sizeof second);
    enum segment_verdict a = decode_copy(in, index, h);
    *bad_copy = -1;
    if (memcmp(in, in + BLOCK, BLOCK) == 0)
        return a;
    enum segment_verdict b = decode_copy(in + BLOCK, index, &second);
    if (a == SEGMENT_GOOD) {
        *bad_copy = 1;
        return SEGMENT_ONE_COPY;
    }
    if (b == SEGMENT_GOOD) {
        *bad_copy = 0;
        *h = second;
        return SEGMENT_ONE_COPY;
    }
    if (a != SEGMENT_UNKNOWN && b == SEGMENT_UNKNOWN)
        *h = second;
    if (a == SEGMENT_UNKNOWN || b == SEGMENT_UNKNOWN)
        return SEGMENT_UNKNOWN;
    if (a == SEGMENT_PREPARED && b == SEGMENT_PREPARED)
        return SEGMENT_PREPARED;
    return SEGMENT_BAD;
}

void segment_name(char out[24], uint64_t index, const char *suffix) {
    snprintf(out, 24, "%016llx.%s", (unsigned long long)index, suffix);
}

bool segment_parse_name(const char *name, const char *suffix, uint64_t *index) {
    uint64_t v = 0;
    for (int i = 0; i < 16; i++) {
        char c = name[i];
        if (c >= '0' && c <= '9')
            v = v << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            v = v << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    *index = v;
    return name[16] == '.' && strcmp(name + 17, suffix) == 0;
}
