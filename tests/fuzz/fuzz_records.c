/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of a file become records: the same, wherever the first read ends. The first byte of the
 * input chooses settings, the second the end of the first read. */
#include <stdlib.h>
#include <string.h>

#include "connectors/file/split.h"

#define MOST 4096u
#define RECORDS 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct run {
    uint8_t buf[MOST + SPLIT_SPARE + 4];
    size_t at, len;
    uint8_t out[8 * MOST]; /* the records: each value, then its length */
    size_t used;
};

static void note(struct run *r, const void *bytes, size_t n) {
    if (r->used + n > sizeof r->out)
        abort();
    if (n != 0)
        memcpy(r->out + r->used, bytes, n);
    r->used += n;
}

/* Takes all that can be taken of the first `there` bytes. A line that can't be taken is passed
 * over. */
static void take(struct run *r, struct split *s, int encoding, size_t there, bool last,
                 size_t max) {
    static pawl_record records[RECORDS + SPLIT_ROOM];
    for (;;) {
        const uint8_t *from = r->buf + r->at, *end = split_last_end(encoding, from, there - r->at);
        if (end == NULL)
            return;
        struct split_job j = {.encoding = encoding,
                              .from = from,
                              .end = end,
                              .last = last,
                              .records = records,
                              .max = max,
                              .bytes = SIZE_MAX,
                              .now_ns = 1};
        memset(records, 0, sizeof records);
        enum split_result rc = split_take(s, &j);
        if (j.next < from || j.next > end || j.count > max + SPLIT_ROOM)
            abort();
        for (size_t i = 0; i < j.count; i++) {
            note(r, records[i].value, records[i].value_len);
            note(r, &records[i].value_len, sizeof records[i].value_len);
            for (size_t k = 0; k < records[i].header_count; k++)
                note(r, records[i].headers[k].value, records[i].headers[k].value_len);
        }
        r->at = (size_t)(j.next - r->buf);
        if (rc == SPLIT_OPEN && !last)
            return;
        if (rc == SPLIT_HOLE && j.next == from)
            while (r->at < there && r->buf[r->at] == 0)
                r->at++;
        else if (rc != SPLIT_DONE)
            r->at = (size_t)(split_first_end(encoding, from, (size_t)(end - from)) - r->buf);
    }
}

static struct split *make(uint8_t how) {
    pawl_error e;
    struct split_settings s = {.format = how & 3,
                               .encoding = how & 4 ? SPLIT_AUTO : SPLIT_BYTES,
                               .crlf = (how & 8) != 0,
                               .skip_blank = (how & 16) != 0,
                               .line_max = 700,
                               .lines_max = 5,
                               .bytes_max = MOST};
    if (how & 32)
        s.begin = matcher_new("^[0-9]", false, 1000, &e);
    else if (how & 64)
        s.go_on = matcher_new("^[ \t]", false, 1000, &e);
    return split_new(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct run whole, parts;
    size_t mark;
    if (size < 2 || size - 2 > MOST)
        return 0;
    struct run *runs[] = {&whole, &parts};
    for (size_t i = 0; i < 2; i++) {
        struct run *r = runs[i];
        memset(r->buf, 0, sizeof r->buf);
        memcpy(r->buf, data + 2, size - 2);
        r->len = size - 2;
        r->used = 0;
        struct split *s = make(data[0]);
        if (s == NULL)
            return 0;
        int encoding = split_encoding(s, r->buf, r->len, &mark);
        r->at = mark;
        size_t there = mark + (r->len - mark) * data[1] / 256;
        if (i == 1) {
            take(r, s, encoding, there, false, RECORDS);
            split_free(s); /* as after a restart */
            s = make(data[0]);
            if (s == NULL)
                return 0;
        }
        take(r, s, encoding, r->len, true, RECORDS);
        split_free(s);
    }
    if (whole.used != parts.used || memcmp(whole.out, parts.out, whole.used) != 0)
        abort();
    return 0;
}
