/* SPDX-License-Identifier: Apache-2.0 */
/* A stream of syslog: the first byte is the longest message, the second decides where the rest is
 * split. However it is split, the same messages come out; no byte comes twice; fields are within
 * their message; and what isn't understood is kept whole. */
#include <stdlib.h>
#include <string.h>

#include "connectors/net/frame.h"
#include "connectors/net/syslog.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool well) {
    if (!well)
        abort();
}

/* All that came out: a byte for the kind, and the message. */
struct out {
    uint8_t *bytes;
    size_t len, taken;
};

static void parse(const uint8_t *at, size_t n) {
    struct syslog_message m;
    const char *from = (const char *)at;
    char *exact = malloc(n + 1); /* a sanitizer sees what is read beyond */
    must(exact != NULL);
    memcpy(exact, from, n);
    syslog_parse(exact, n, &m);
    size_t sum = 0;
    for (int i = 0; i < SYSLOG_FIELDS; i++) {
        must(m.len[i] == 0 || (m.at[i] >= exact && m.at[i] + m.len[i] <= exact + n));
        sum += m.len[i];
    }
    must(sum <= n);
    size_t end = n;
    while (end > 0 && (exact[end - 1] == '\n' || exact[end - 1] == '\r' || exact[end - 1] == 0))
        end--;
    if (m.unparsed != NULL && strcmp(m.unparsed, "message") == 0)
        must(m.len[SYSLOG_TEXT] == end && m.facility == -1);
    else if (m.unparsed != NULL && strcmp(m.unparsed, "header") == 0)
        must(sum == m.len[SYSLOG_TEXT] && end - sum >= 3 && end - sum <= 5); /* <N> to <NNN> */
    else if (m.unparsed != NULL)
        must(sum == m.len[SYSLOG_TEXT] + m.len[SYSLOG_TIME] && m.len[SYSLOG_TIME] != 0);
    must(m.len[SYSLOG_TEXT] == 0 || m.at[SYSLOG_TEXT] + m.len[SYSLOG_TEXT] == exact + end);
    free(exact);
}

static void take(struct out *o, const struct frame *f) {
    o->taken += f->used;
    if (f->kind == FRAME_SKIP)
        return;
    o->bytes[o->len++] = (uint8_t)f->kind;
    memcpy(o->bytes + o->len, f->at, f->len);
    o->len += f->len;
    parse(f->at, f->len);
}

static void run(const uint8_t *data, size_t size, size_t max, uint32_t split, struct out *o) {
    struct frame_rule r = {.max = max, .octets = true};
    struct frame_state state = {0};
    struct frame f;
    size_t at = 0, have = 0;
    *o = (struct out){.bytes = malloc(2 * size + 2)};
    must(o->bytes != NULL);
    for (;;) {
        while ((f = frame_next(&r, &state, data + at, have)).kind != FRAME_NONE) {
            must(f.used > 0 && f.used <= have && f.len <= max + 1);
            take(o, &f);
            at += f.used;
            have -= f.used;
            state = f.next;
        }
        must(have <= max + FRAME_PREFIX_MAX);
        if (at + have == size)
            break;
        split = split * 1664525u + 1013904223u;
        size_t more = 1 + (split >> 24) % 40;
        have += more < size - at - have ? more : size - at - have;
    }
    f = frame_last(&r, &state, data + at, have, (split & 1) == 0);
    if (f.kind != FRAME_NONE) {
        f.kind = FRAME_CUT;
        take(o, &f);
        must(f.used == have);
    }
    must(o->taken + (f.kind == FRAME_NONE ? have : 0) == size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2 || size > 65536)
        return 0;
    struct out a, b;
    size_t max = 1 + data[0];
    run(data + 2, size - 2, max, data[1], &a);
    run(data + 2, size - 2, max, data[1] + 77u, &b);
    must(a.len == b.len && memcmp(a.bytes, b.bytes, a.len) == 0);
    free(a.bytes);
    free(b.bytes);
    return 0;
}
