/* SPDX-License-Identifier: Apache-2.0 */
/* What sinks and sources have stored, and somebody has changed: the file sink's decisions, its
 * marker and the state of version 1; positions of senders, and greetings. The first byte chooses.
 * What is taken is written again as the same. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "connectors/file/sink_file.h"
#include "connectors/net/senders.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool well) {
    if (!well)
        abort();
}

static void note(const uint8_t *data, size_t n) {
    char *text = malloc(n + 1), back[FILE_NOTE_SIZE];
    struct file_note a, b;
    must(text != NULL);
    memcpy(text, data, n);
    text[n] = 0;
    if (file_note_decode(&a, text)) {
        file_note_encode(&a, back);
        must(strlen(back) < sizeof back && file_note_decode(&b, back));
        must(a.directory == b.directory && a.to == b.to && a.first == b.first &&
             a.length == b.length && a.hash == b.hash && a.rotating == b.rotating);
    }
    free(text);
}

/* A marker's numbers, then changes of its text: place (2 bytes) and byte. */
static void mark(const uint8_t *data, size_t n) {
    char text[FILE_MARK_SIZE], back[FILE_MARK_SIZE];
    struct file_mark a = {0}, b;
    memcpy(&a, data, n < sizeof a ? n : sizeof a);
    file_mark_encode(&a, text);
    for (size_t at = sizeof a; at + 3 <= n; at += 3)
        text[(data[at] | data[at + 1] << 8) % FILE_MARK_SIZE] = (char)data[at + 2];
    if (file_mark_decode(&a, text)) {
        file_mark_encode(&a, back);
        must(file_mark_decode(&b, back) && a.shown == b.shown && a.last_first == b.last_first);
    }
}

/* The same of the state of version 1. */
static void state(const uint8_t *data, size_t n) {
    struct file_state s;
    char slots[FILE_SLOT_APART + FILE_SLOT] = {0};
    memset(&s, 0, sizeof s);
    memcpy(&s, data, n < sizeof s ? n : sizeof s);
    s.stream[sizeof s.stream - 1] = s.prepared[sizeof s.prepared - 1] = 0;
    file_state_encode(&s, slots + FILE_SLOT_APART);
    for (size_t at = sizeof s; at + 3 <= n; at += 3)
        slots[(size_t)(data[at] | data[at + 1] << 8) % sizeof slots] = (char)data[at + 2];
    s = (struct file_state){0};
    int fd = memfd_create("state", MFD_CLOEXEC);
    must(fd >= 0 && write(fd, slots, sizeof slots) == (ssize_t)sizeof slots);
    if (file_state_read(fd, &s) == 0)
        must(memchr(s.prepared, 0, sizeof s.prepared) != NULL &&
             memchr(s.stream, 0, sizeof s.stream) != NULL);
    close(fd);
}

/* A table of senders as a log has it, then peers that come: `peers` of 4 bytes each. */
static void senders(const uint8_t *data, size_t n) {
    struct senders s = {.max = 6, .peer_max = 3, .forget_s = 60};
    int64_t now_s = 1700000000;
    for (int i = 0; i < 4 && n >= SENDER_POSITION + 2; i++) {
        char name[3] = {'n', (char)('0' + i), 0};
        int len = data[0] % (SENDER_POSITION + 2);
        must(senders_load(&s, name, data + 1, len > (int)SENDER_POSITION ? 8 : len));
        data += SENDER_POSITION + 1, n -= SENDER_POSITION + 1;
    }
    for (; n >= 4; data += 4, n -= 4) {
        char name[3] = {'n', (char)('0' + data[0] % 10), 0};
        struct peer_id peer = {.kind = (uint8_t)(1 + data[1] % 2)};
        uint8_t position[SENDER_POSITION];
        uint64_t number;
        uint32_t at = 0;
        memset(peer.bytes, data[1], sizeof peer.bytes);
        now_s += data[2];
        struct sender *who = senders_find(&s, name);
        if (who == NULL) {
            enum sender_place place = senders_place(&s, name, &peer, now_s, &at);
            if (place != SENDER_FRESH && place != SENDER_TAKES)
                continue;
            must(place == SENDER_FRESH || at < s.count);
            who = senders_add(&s, name, place, at);
            must(who != NULL && s.count <= 10);
        }
        if (!sender_is_of(who, &peer) || who->given == UINT64_MAX)
            continue;
        sender_take(who, who->given + 1, &peer, now_s);
        must(sender_is_of(who, &peer));
        sender_position(who, who->given, position);
        must(sender_number(position, sizeof position, &number) && number == who->given);
    }
    senders_free(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0 || size > 16384)
        return 0;
    switch (data[0] % 4) {
    case 0:
        note(data + 1, size - 1);
        break;
    case 1:
        mark(data + 1, size - 1);
        break;
    case 2:
        state(data + 1, size - 1);
        break;
    default:
        senders(data + 1, size - 1);
    }
    return 0;
}
