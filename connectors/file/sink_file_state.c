/* SPDX-License-Identifier: Apache-2.0
 *
 * The file sink's texts, so that a person can read them: what the log keeps of a partition, what
 * SINK.pawl says, and the state file of version 1. A text is valid if and only if encoding what was
 * read from it gives the same bytes.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "connectors/file/sink_file.h"

static uint64_t sum(const char *bytes, size_t size) {
    uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a: detects torn writes, not tampering */
    for (size_t i = 0; i < size; i++)
        h = (h ^ (unsigned char)bytes[i]) * UINT64_C(0x100000001b3);
    return h;
}

static bool id_read(const char text[33], uint8_t id[16]) {
    for (size_t i = 0; i < 16; i++) {
        unsigned byte;
        if (sscanf(text + 2 * i, "%2x", &byte) != 1) /* NOLINT(cert-err34-c): two hex digits */
            return false;
        id[i] = (uint8_t)byte;
    }
    return true;
}

/* ---- the log's decision */

void file_note_encode(const struct file_note *n, char out[FILE_NOTE_SIZE]) {
    int len = snprintf(out, FILE_NOTE_SIZE,
                       "dir%016" PRIx64 ".path%08" PRIx32 ".shown%" PRIu64 ".to%" PRIu64,
                       n->directory, n->path, n->shown, n->to);
    if (n->first != FILE_NONE)
        snprintf(out + len, FILE_NOTE_SIZE - (size_t)len,
                 ".first%" PRIu64 ".bytes%" PRIu64 ".hash%016" PRIx64 ".begun%" PRIu64 "%s",
                 n->first, n->length, n->hash, n->begun_s, n->rotating ? ".rotating" : "");
    else if (n->last_first != FILE_NONE)
        snprintf(out + len, FILE_NOTE_SIZE - (size_t)len,
                 ".last%" PRIu64 ".bytes%" PRIu64 ".hash%016" PRIx64, n->last_first, n->last_length,
                 n->last_hash);
}

bool file_note_decode(struct file_note *n, const char *text) {
    char again[FILE_NOTE_SIZE];
    *n = (struct file_note){.first = FILE_NONE, .last_first = FILE_NONE};
    const char *last = strstr(text, ".last");
    /* NOLINTNEXTLINE(cert-err34-c): judged by writing it again */
    int got = sscanf(text,
                     "dir%16" SCNx64 ".path%8" SCNx32 ".shown%" SCNu64 ".to%" SCNu64
                     ".first%" SCNu64 ".bytes%" SCNu64 ".hash%16" SCNx64 ".begun%" SCNu64,
                     &n->directory, &n->path, &n->shown, &n->to, &n->first, &n->length, &n->hash,
                     &n->begun_s);
    n->rotating = strstr(text, ".rotating") != NULL;
    if (last != NULL &&
        /* NOLINTNEXTLINE(cert-err34-c): judged by writing it again */
        sscanf(last, ".last%" SCNu64 ".bytes%" SCNu64 ".hash%16" SCNx64, &n->last_first,
               &n->last_length, &n->last_hash) != 3)
        return false;
    file_note_encode(n, again);
    return (got == 4 || got == 8) && strcmp(again, text) == 0;
}

/* ---- SINK.pawl */

void file_mark_encode(const struct file_mark *m, char out[FILE_MARK_SIZE]) {
    char id[33];
    log_id_text(m->log_id, id);
    memset(out, '\n', FILE_MARK_SIZE);
    int n = snprintf(out, FILE_MARK_SIZE,
                     "pawl file sink 2\nlog %s\ndirectory %016" PRIx64 "\nshown %" PRIu64
                     "\nlast %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
                     id, m->directory, m->shown, m->last_stream, m->last_partition, m->last_first);
    n += snprintf(out + n, FILE_MARK_SIZE - (size_t)n, "sum %016" PRIx64 "\n", sum(out, (size_t)n));
    snprintf(out + n, FILE_MARK_SIZE - (size_t)n,
             "This file belongs to the files beside it: keep them together. Pawl's log says what "
             "must be here.\n");
    out[strlen(out)] = '\n';
}

bool file_mark_decode(struct file_mark *m, const char text[FILE_MARK_SIZE]) {
    char again[FILE_MARK_SIZE], copy[FILE_MARK_SIZE + 1], id[33];
    memcpy(copy, text, FILE_MARK_SIZE);
    copy[FILE_MARK_SIZE] = 0;
    *m = (struct file_mark){0};
    /* NOLINTNEXTLINE(cert-err34-c): judged by writing it again */
    if (sscanf(copy,
               "pawl file sink 2\nlog %32[0-9a-f]\ndirectory %16" SCNx64 "\nshown %" SCNu64
               "\nlast %" SCNu64 " %" SCNu64 " %" SCNu64,
               id, &m->directory, &m->shown, &m->last_stream, &m->last_partition,
               &m->last_first) != 6 ||
        strlen(id) != 32 || !id_read(id, m->log_id))
        return false;
    file_mark_encode(m, again);
    return memcmp(again, text, FILE_MARK_SIZE) == 0;
}

/* ---- the state of version 1 */

void file_state_encode(const struct file_state *s, char slot[FILE_SLOT]) {
    char id[33];
    memset(slot, 0, FILE_SLOT);
    log_id_text(s->log_id, id);
    int n = snprintf(slot, FILE_SLOT,
                     "pawl file sink 1\nseq %" PRIu64 "\nlog %s\nstream %s\nfirst %" PRIu64
                     "\nlength %" PRIu64 "\nto %" PRIu64 "\nbegun %" PRId64 "\nrotating %" PRIu32
                     "\nprepared %s %" PRIu64 " %" PRIu64 "\n",
                     s->seq, id, s->stream, s->first, s->length, s->to, s->begun_ns, s->rotating,
                     s->prepared[0] != 0 ? s->prepared : "-", s->prepared_to, s->prepared_length);
    snprintf(slot + n, FILE_SLOT - (size_t)n, "sum %016" PRIx64 "\n", sum(slot, (size_t)n));
}

static bool state_decode(struct file_state *s, const char slot[FILE_SLOT]) {
    char text[FILE_SLOT + 1], again[FILE_SLOT], id[33];
    memcpy(text, slot, FILE_SLOT);
    text[FILE_SLOT] = 0;
    *s = (struct file_state){0};
    /* NOLINTNEXTLINE(cert-err34-c): judged by writing it again */
    if (sscanf(text,
               "pawl file sink 1\nseq %" SCNu64 "\nlog %32[0-9a-f]\nstream %127s\nfirst %" SCNu64
               "\nlength %" SCNu64 "\nto %" SCNu64 "\nbegun %" SCNd64 "\nrotating %" SCNu32
               "\nprepared %199s %" SCNu64 " %" SCNu64,
               &s->seq, id, s->stream, &s->first, &s->length, &s->to, &s->begun_ns, &s->rotating,
               s->prepared, &s->prepared_to, &s->prepared_length) != 11 ||
        strlen(id) != 32 || !id_read(id, s->log_id))
        return false;
    if (strcmp(s->prepared, "-") == 0)
        s->prepared[0] = 0;
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
        if (got == (ssize_t)sizeof slot && state_decode(&one, slot) &&
            (!found || one.seq > s->seq)) {
            *s = one;
            found = true;
        }
    }
    return found ? 0 : 1;
}
