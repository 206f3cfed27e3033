/* SPDX-License-Identifier: Apache-2.0
 *
 * pawl_show() makes any bytes fit for a terminal and for a line of a log file, and every message of
 * the library goes through it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "connectors/runtime/connect.h"

/* clang-format off: one case a line */
static const struct {
    const char *label, *bytes, *shown;
} table[] = {
    {"ascii-stays", "a b~!\\ \"x\"", "a b~!\\ \"x\""},
    {"letters-of-the-world-stay", "gr\303\266\303\237e \316\224 \346\274\242 \360\237\230\200",
     "gr\303\266\303\237e \316\224 \346\274\242 \360\237\230\200"},
    {"newline", "a\nb", "a\\nb"},
    {"carriage-return", "a\rb", "a\\rb"},
    {"tab", "a\tb", "a\\tb"},
    {"escape-sequence", "\033[2J", "\\u001b[2J"},
    {"bell-backspace", "\a\b", "\\u0007\\u0008"},
    {"delete", "\177", "\\u007f"},
    {"c1-in-utf8",
     "\302\233"
     "31m",
     "\\u009b31m"},
    {"c1-as-a-byte",
     "\233"
     "31m",
     "\\x9b31m"},
    {"next-line", "\302\205", "\\u0085"},
    {"line-separator", "\342\200\250", "\\u2028"},
    {"paragraph-separator", "\342\200\251", "\\u2029"},
    {"override",
     "\342\200\256"
     "abc",
     "\\u202eabc"},
    {"embedding", "\342\200\252", "\\u202a"},
    {"isolate", "\342\201\246", "\\u2066"},
    {"isolate-end", "\342\201\251", "\\u2069"},
    {"arabic-mark", "\330\234", "\\u061c"},
    {"zero-width-space", "\342\200\213", "\\u200b"},
    {"byte-order-mark", "\357\273\277", "\\ufeff"},
    {"soft-hyphen", "\302\255", "\\u00ad"},
    {"tag", "\363\240\201\201", "\\udb40\\udc41"},
    {"no-character", "\357\277\277", "\\uffff"},
    {"overlong-newline", "\300\212", "\\xc0\\x8a"},
    {"overlong-escape", "\340\200\233", "\\xe0\\x80\\x9b"},
    {"surrogate", "\355\240\200", "\\xed\\xa0\\x80"},
    {"above-unicode", "\364\220\200\200", "\\xf4\\x90\\x80\\x80"},
    {"cut-sequence", "a\342\200", "a\\xe2\\x80"},
    {"continuation-alone", "\200", "\\x80"},
    {"not-utf8", "\377\376", "\\xff\\xfe"},
    {"just-beside-the-ranges", "\302\240\342\200\212\342\200\257\342\201\237\342\201\260",
     "\302\240\342\200\212\342\200\257\342\201\237\342\201\260"},
};
/* clang-format on */

static void shows_each_kind(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        char out[200], again[200];
        size_t used, size = strlen(table[i].bytes);
        size_t len = pawl_show(table[i].bytes, size, &used, out, sizeof out);
        if (strcmp(out, table[i].shown) != 0 || len != strlen(out) || used != size)
            fail_msg("%s: %s, not %s", table[i].label, out, table[i].shown);
        pawl_show(out, len, NULL, again, sizeof again);
        if (strcmp(out, again) != 0)
            fail_msg("%s: shown twice it is %s, not %s", table[i].label, again, out);
    }
}

/* Whatever there is room for: whole characters, and the rest the next time. */
static void pieces_join(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        for (size_t room = 14; room < 20; room++) {
            char all[300] = "", out[20];
            const char *at = table[i].bytes;
            for (size_t used, left = strlen(at); left > 0; at += used, left -= used) {
                assert_true(pawl_show(at, left, &used, out, room) < room);
                assert_true(used > 0);
                strcat(all, out);
            }
            assert_string_equal(all, table[i].shown);
        }
}

static void any_bytes_become_printable(void **state) {
    (void)state;
    unsigned char bytes[64];
    char out[6 * sizeof bytes + 1], again[6 * sizeof bytes + 1];
    uint64_t x = 1;
    for (int round = 0; round < 20000; round++) {
        for (size_t i = 0; i < sizeof bytes; i++) {
            x = x * UINT64_C(6364136223846793005) + 1442695040888963407u;
            bytes[i] = (unsigned char)(x >> 56);
        }
        size_t used, len = pawl_show(bytes, sizeof bytes, &used, out, sizeof out);
        assert_int_equal(used, sizeof bytes); /* at most 6 bytes come of one */
        for (size_t i = 0; i < len; i++)
            assert_true((unsigned char)out[i] >= ' ' && out[i] != 127);
        assert_int_equal(pawl_show(out, len, NULL, again, sizeof again), len);
        assert_string_equal(out, again);
    }
}

static void nothing_and_no_room(void **state) {
    (void)state;
    char out[4] = "xxx";
    size_t used = 7;
    assert_int_equal(pawl_show(NULL, 0, &used, out, sizeof out), 0);
    assert_int_equal(used, 0);
    assert_string_equal(out, "");
    assert_int_equal(pawl_show("abc", 3, &used, NULL, 0), 0);
    assert_int_equal(used, 0);
    assert_int_equal(pawl_show("ab\n", 3, &used, out, sizeof out), 2);
    assert_int_equal(used, 2);
}

#define EVIL "x\n<3>pawl: log: well\033[2J\342\200\256"
#define TAME "x\\n<3>pawl: log: well\\u001b[2J\\u202e"

static void messages_are_one_line(void **state) {
    (void)state;
    pawl_error e;
    pawl_fault f;
    pawl *log;
    assert_true(pawl_open("/dev/null/" EVIL, NULL, &log, &e) < 0);
    assert_non_null(strstr(e.message, "/dev/null/" TAME));
    pawl_fault_set(&f, PAWL_FATAL, "the server says %s", EVIL);
    assert_string_equal(f.message, "the server says " TAME);
    (void)connect_error(&e, PAWL_INVALID, "line 3: %s", EVIL);
    assert_string_equal(e.message, "line 3: " TAME);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shows_each_kind),
        cmocka_unit_test(pieces_join),
        cmocka_unit_test(any_bytes_become_printable),
        cmocka_unit_test(nothing_and_no_room),
        cmocka_unit_test(messages_are_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
