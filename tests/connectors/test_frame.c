/* SPDX-License-Identifier: Apache-2.0
 *
 * Framing as a table: what a stream holds, and what must come out of it, however the bytes arrive:
 * all at once, one by one, and cut in two at each place. A message that is bad costs itself alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "connectors/net/frame.h"

#define MAX 20 /* bytes of a message in this table */

static const struct {
    const char *label;
    bool octets;
    const char *stream;
    size_t len;       /* 0: strlen() */
    const char *want; /* "whole|", "~long|", "!cut|" */
    bool broken;      /* the stream ends without an orderly end */
} cases[] = {
    /* lines */
    {"lines", false, "a\nbc\n", 0, "a|bc|", false},
    {"an empty line", false, "a\n\nb\n", 0, "a||b|", false},
    {"CR LF", true, "<1>a\r\n<1>b\n", 0, "<1>a\r|<1>b|", false},
    {"the last line has no end", false, "a\nb", 0, "a|b|", false},
    {"the last line is cut", false, "a\nb", 0, "a|!b|", true},
    {"NUL is a byte of a line", false, "a\0b\n", 4, "a.b|", false},
    {"NUL ends a message", true, "<1>a\0<1>b\0<1>c\n", 15, "<1>a|<1>b|<1>c|", false},
    {"LF and NUL end one", true, "<1>a\n\0<1>b\n\0", 12, "<1>a||<1>b||", false},
    {"as long as it may be", false, "12345678901234567890\nb\n", 0, "12345678901234567890|b|",
     false},
    {"the same, with CR", true, "<2345678901234567890\r\nb\n", 0, "<2345678901234567890\r|b|",
     false},
    {"one byte too long", false, "123456789012345678901\nb\n", 0, "~12345678901234567890|b|",
     false},
    {"too long, then others", true, "<1>aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n<1>b\n3 <1>", 0,
     "~<1>aaaaaaaaaaaaaaaaa|<1>b|<1>|", false},
    {"two too long", false, "aaaaaaaaaaaaaaaaaaaaaaaa\nbbbbbbbbbbbbbbbbbbbbbbbb\nc\n", 0,
     "~aaaaaaaaaaaaaaaaaaaa|~bbbbbbbbbbbbbbbbbbbb|c|", false},
    {"too long, and cut: said once", false, "aaaaaaaaaaaaaaaaaaaaaaaaaaa", 0,
     "~aaaaaaaaaaaaaaaaaaaa|", true},
    {"too long, ended by NUL", true, "<1>aaaaaaaaaaaaaaaaaaaaaaaa\0<1>b\n", 33,
     "~<1>aaaaaaaaaaaaaaaaa|<1>b|", false},
    /* counted octets */
    {"counted", true, "5 <1>ab3 <1>", 0, "<1>ab|<1>|", false},
    {"counted, with LF inside", true, "6 <1>a\nb5 <1>xy", 0, "<1>a\nb|<1>xy|", false},
    {"counted, with NUL inside", true, "6 <1>a\0b5 <1>xy", 15, "<1>a.b|<1>xy|", false},
    {"counted, LF after each", true, "5 <1>ab\n5 <1>cd\n", 0, "<1>ab||<1>cd||", false},
    {"mixed", true, "<1>a\n5 <1>bc<1>d\n4 <1>e", 0, "<1>a|<1>bc|<1>d|<1>e|", false},
    {"counted and too long", true, "30 <1>aaaaaaaaaaaaaaaaaaaaaaaaaaa5 <1>bc", 0,
     "~<1>aaaaaaaaaaaaaaaaa|<1>bc|", false},
    {"counted, too long, LF inside", true, "30 <1>aaaaaaaaaaaaa\naaaaaa\n<1>aaa5 <1>bc", 0,
     "~<1>aaaaaaaaaaaaa\naaa|<1>bc|", false},
    {"counted and cut", true, "5 <1>ab9 <1>c", 0, "<1>ab|!<1>c|", false},
    {"counted and broken", true, "5 <1>ab9 <1>c", 0, "<1>ab|!<1>c|", true},
    /* what looks like a count */
    {"digits, no <", true, "5 apples\n<1>b\n", 0, "5 apples|<1>b|", false},
    {"a time", true, "12:00:01 started\n<1>b\n", 0, "12:00:01 started|<1>b|", false},
    {"a number alone", true, "2026\n<1>b\n", 0, "2026|<1>b|", false},
    {"a number and a blank", true, "2026 \n<1>b\n", 0, "2026 |<1>b|", false},
    {"a number at the end", true, "<1>b\n2026", 0, "<1>b|2026|", false},
    {"a leading zero", true, "05 <1>ab\n<1>c\n", 0, "05 <1>ab|<1>c|", false},
    {"zero", true, "0 <1>ab\n<1>c\n", 0, "0 <1>ab|<1>c|", false},
    {"two blanks", true, "5  <1>ab\n<1>c\n", 0, "5  <1>ab|<1>c|", false},
    {"a count that is a lie", true, "99999999 <1>a\n<1>b\n", 0, "99999999 <1>a|<1>b|", false},
    {"a count that overflows", true, "18446744073709551621 <1>ab\n<1>b\n", 0,
     "~18446744073709551621|<1>b|", false},
    {"a date", true, "20261127 <x\n<1>b\n", 0, "20261127 <x|<1>b|", false},
};

/* Feeds [from, to) after what is there already. */
static size_t take_all(const struct frame_rule *r, struct frame_state *state, const uint8_t *buf,
                       size_t len, char *out) {
    size_t at = 0;
    for (;;) {
        struct frame f = frame_next(r, state, buf + at, len - at);
        if (f.kind == FRAME_NONE)
            return at;
        assert_true(f.used > 0 && f.used <= len - at);
        at += f.used;
        *state = f.next;
        if (f.kind == FRAME_SKIP)
            continue;
        size_t n = strlen(out);
        n += (size_t)sprintf(out + n, "%s", f.kind == FRAME_LONG ? "~" : "");
        for (size_t i = 0; i < f.len; i++)
            out[n++] = f.at[i] == 0 ? '.' : (char)f.at[i];
        strcpy(out + n, "|");
    }
}

static void try_cut(size_t index, const size_t *cuts, size_t cut_count) {
    struct frame_rule r = {.max = MAX, .octets = cases[index].octets};
    struct frame_state state = {0};
    const char *stream = cases[index].stream;
    size_t len = cases[index].len != 0 ? cases[index].len : strlen(stream), given = 0, have = 0;
    uint8_t buf[256];
    char out[512] = "";
    for (size_t i = 0; i <= cut_count; i++) {
        size_t to = i < cut_count ? cuts[i] : len;
        memcpy(buf + have, stream + given, to - given);
        have += to - given;
        given = to;
        size_t used = take_all(&r, &state, buf, have, out);
        memmove(buf, buf + used, have - used);
        have -= used;
        assert_true(have <= MAX + FRAME_PREFIX_MAX);
    }
    uint8_t *exact = malloc(have + 1); /* a sanitizer sees what is read beyond */
    memcpy(exact, buf, have);
    struct frame f = frame_last(&r, &state, exact, have, !cases[index].broken);
    if (f.kind != FRAME_NONE)
        sprintf(out + strlen(out), "%s%.*s|", f.kind == FRAME_CUT ? "!" : "", (int)f.len, f.at);
    free(exact);
    if (strcmp(out, cases[index].want) != 0)
        fail_msg("%s: %s instead of %s", cases[index].label, out, cases[index].want);
}

static void streams_are_framed_however_they_arrive(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t len = cases[i].len != 0 ? cases[i].len : strlen(cases[i].stream), each[256];
        try_cut(i, NULL, 0);
        for (size_t at = 0; at < len; at++) {
            each[at] = at;
            try_cut(i, &at, 1);
            for (size_t second = at; second < len; second++)
                try_cut(i, (size_t[]){at, second}, 2);
        }
        try_cut(i, each, len);
    }
}

static void the_length_of_a_counted_message_is_told(void **state) {
    (void)state;
    struct frame_rule r = {.max = MAX, .octets = true};
    struct frame_state at = {0};
    const uint8_t text[] = "80000 <1>aaaaaaaaaaaaaaaaaaaaaaa";
    struct frame f = frame_next(&r, &at, text, sizeof text - 1);
    assert_int_equal(f.kind, FRAME_LONG);
    assert_int_equal(f.length, 80000);
    assert_int_equal(f.next.skip, 80000 - MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_are_framed_however_they_arrive),
        cmocka_unit_test(the_length_of_a_counted_message_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
