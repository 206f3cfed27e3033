/* SPDX-License-Identifier: Apache-2.0
 *
 * Records as lines of COPY's text format: a tab between columns, \N for null, a backslash before
 * special bytes. The binary format would need an encoder for each type; with text each type's own
 * input function checks the value, so a column of any type can be filled.
 */
#include <stdlib.h>
#include <string.h>

#include "connectors/postgres/sink_postgres.h"

#define CHUNK 65536 /* bytes per COPY message */

/* The character after the backslash; 0: the byte needs none. */
static const char escapes[256] = {['\\'] = '\\', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't'};

/* Not 0: one of the eight bytes of w equals c. */
static uint64_t has(uint64_t w, uint64_t c) {
    uint64_t x = w ^ (c * UINT64_C(0x0101010101010101));
    return (x - UINT64_C(0x0101010101010101)) & ~x & UINT64_C(0x8080808080808080);
}

/* Number of bytes before the first that needs a backslash. Checks eight bytes at a time up to the
 * first backslash or byte below 0x10, and from there one by one. */
static size_t plain(const char *at, size_t n) {
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t w;
        memcpy(&w, at + i, 8);
        uint64_t low = (w - UINT64_C(0x1010101010101010)) & ~w & UINT64_C(0x8080808080808080);
        if ((low | has(w, '\\')) != 0)
            break;
    }
    while (i < n && escapes[(unsigned char)at[i]] == 0)
        i++;
    return i;
}

/* The caller has made room. */
static char *put_text(char *to, const char *at, size_t n) {
    for (;;) {
        size_t len = plain(at, n);
        memcpy(to, at, len);
        to += len;
        if (len == n)
            return to;
        *to++ = '\\';
        *to++ = escapes[(unsigned char)at[len]];
        at += len + 1;
        n -= len + 1;
    }
}

static char *put_hex(char *to, const char *at, size_t n) {
    static const char hex[] = "0123456789abcdef";
    *to++ = '\\';
    *to++ = '\\';
    *to++ = 'x';
    for (size_t i = 0; i < n; i++) {
        *to++ = hex[(unsigned char)at[i] >> 4];
        *to++ = hex[(unsigned char)at[i] & 15];
    }
    return to;
}

static bool put_row(struct pg_sink *s) {
    struct bytes *b = &s->link.out;
    for (size_t i = 0; i < s->columns.count; i++) {
        const struct column_value *v = &s->values[i];
        size_t len = v->type == COLUMN_NULL ? 0 : v->type == COLUMN_BOOL ? 5 : v->len;
        if (!bytes_room(b, 2 * len + 8))
            return false;
        char *to = b->at + b->used;
        if (i > 0)
            *to++ = '\t';
        if (v->type == COLUMN_NULL) {
            *to++ = '\\';
            *to++ = 'N';
        } else if (s->columns.items[i].as == COLUMN_AS_BYTES) {
            to = put_hex(to, v->text, v->len);
        } else {
            to = put_text(to, v->text, v->len);
        }
        b->used = (size_t)(to - b->at);
    }
    b->at[b->used++] = '\n';
    return true;
}

int pg_rows(struct pg_sink *s, const pawl_sink_batch *b, const pawl_record *r, size_t count,
            pawl_fault *f) {
    for (; count > 0; count--, r++) {
        int outcome = columns_of(&s->columns, b, r, s->values, f);
        if (outcome != PAWL_DONE)
            return outcome;
        if (!put_row(s))
            return pawl_fault_set(f, PAWL_RETRY, "no memory");
        s->link.rows++;
        outcome = s->link.out.used >= CHUNK ? pg_copy_send(&s->link, f) : PAWL_DONE;
        if (outcome != PAWL_DONE)
            return outcome;
    }
    return PAWL_DONE;
}
