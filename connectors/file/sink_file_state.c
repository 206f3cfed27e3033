/* SPDX-License-Identifier: Apache-2.0
 *
 * The file sink's state file. A slot is text, so that a person can read it. Its last line is the
 * hash of the lines before it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "connectors/file/sink_file.h"

static uint64_t hash(const char *bytes, size_t size) {
    uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a: detects torn writes, not tampering */
    for (size_t i = 0; i < size; i++)
        h = (h ^ (unsigned char)bytes[i]) * UINT64_C(0x100000001b3);
    return h;
}

void file_state_encode(const struct file_state *s, char slot[FILE_SLOT]) {
    char id[33];
    memset(slot, 0, FILE_SLOT);
    for (size_t i = 0; i < 16; i++)
        snprintf(id + 2 * i, 3, "%02x", s->log_id[i]);
    int n = snprintf(slot, FILE_SLOT,
                     "pawl file sink 1\nseq %" PRIu64 "\nlog %s\nstream %s\nfirst %" PRIu64
                     "\nlength %" PRIu64 "\nto %" PRIu64 "\nbegun %" PRId64 "\nrotating %" PRIu32
                     "\nprepared %s %" PRIu64 " %" PRIu64 "\n",
                     s->seq, id, s->stream, s->first, s->length, s->to, s->begun_ns, s->rotating,
                     s->prepared[0] != 0 ? s->prepared : "-", s->prepared_to, s->prepared_length);
    snprintf(slot + n, FILE_SLOT - (size_t)n, "sum %016" PRIx64 "\n", hash(slot, (size_t)n));
}

bool file_state_decode(struct file_state *s, const char slot[FILE_SLOT]) {
    char text[FILE_SLOT + 1], again[FILE_SLOT], id[33];
    memcpy(text, slot, FILE_SLOT);
    text[FILE_SLOT] = 0;
    *s = (struct file_state){0};
    /* The numbers are checked below: encoding them again must give the same bytes. */
    /* NOLINTNEXTLINE(cert-err34-c) */
    if (sscanf(text,
               "pawl file sink 1\nseq %" SCNu64 "\nlog %32[0-9a-f]\nstream %127s\nfirst %" SCNu64
               "\nlength %" SCNu64 "\nto %" SCNu64 "\nbegun %" SCNd64 "\nrotating %" SCNu32
               "\nprepared %199s %" SCNu64 " %" SCNu64,
               &s->seq, id, s->stream, &s->first, &s->length, &s->to, &s->begun_ns, &s->rotating,
               s->prepared, &s->prepared_to, &s->prepared_length) != 11 ||
        strlen(id) != 32)
        return false;
    for (size_t i = 0; i < 16; i++) {
        unsigned byte;
        if (sscanf(id + 2 * i, "%2x", &byte) != 1) /* NOLINT(cert-err34-c): two hex digits */
            return false;
        s->log_id[i] = (uint8_t)byte;
    }
    if (strcmp(s->prepared, "-") == 0)
        s->prepared[0] = 0;
    /* valid if and only if encoding it again gives the same bytes, hash included */
    file_state_encode(s, again);
    return memcmp(again, slot, FILE_SLOT) == 0;
}

int file_state_read(int fd, struct file_state *s) {
    char slot[FILE_SLOT];
    bool found = false;
    for (uint32_t i = 0; i < 2; i++) {
        struct file_state one;
        ssize_t got = pread(fd, slot, sizeof slot, (off_t)(i * FILE_SLOT_APART));
        if (got < 0)
            return -1;
        if (got == (ssize_t)sizeof slot && file_state_decode(&one, slot) &&
            (!found || one.seq > s->seq)) {
            *s = one;
            found = true;
        }
    }
    return found ? 0 : 1;
}

int file_state_write(int fd, struct file_state *s) {
    char slot[FILE_SLOT];
    s->seq++;
    file_state_encode(s, slot);
    struct iovec one = {slot, sizeof slot};
    off_t at = (off_t)(s->seq % 2 * FILE_SLOT_APART);
    ssize_t put = pwritev2(fd, &one, 1, at, RWF_DSYNC);
    if (put < 0 && (errno == EOPNOTSUPP || errno == ENOSYS)) {
        put = pwrite(fd, slot, sizeof slot, at);
        if (put == (ssize_t)sizeof slot && fdatasync(fd) != 0)
            return -1;
    }
    if (put >= 0 && put != (ssize_t)sizeof slot) {
        errno = ENOSPC;
        put = -1;
    }
    return put < 0 ? -1 : 0;
}

int file_state_create(int dir, const char *name, struct file_state *s) {
    char temporary[256], blank[2 * FILE_SLOT_APART] = {0};
    snprintf(temporary, sizeof temporary, "%s.new", name);
    int fd = openat(dir, temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return -1;
    file_state_encode(s, blank + s->seq % 2 * FILE_SLOT_APART);
    errno = ENOSPC; /* for a short write */
    if (pwrite(fd, blank, sizeof blank, 0) == (ssize_t)sizeof blank && fdatasync(fd) == 0 &&
        renameat(dir, temporary, dir, name) == 0)
        return fd;
    int why = errno;
    close(fd);
    unlinkat(dir, temporary, 0);
    errno = why;
    return -1;
}
