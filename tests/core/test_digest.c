/* SPDX-License-Identifier: Apache-2.0 */
/* The digest of a table partition depends on its pairs only: not on their order, nor on what was
 * there meanwhile; and its value is that of the format. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "state/digest.h"

#include <cmocka.h>

/* By tests/oracle/xxh3_128.py, which shares no code with the library. */
static const struct {
    const char *label;
    size_t key_len, value_len;
    uint64_t low, high;
} vectors[] = {
    {"one byte, no value", 1, 0, UINT64_C(0x5E2D8CCB1A66989E), UINT64_C(0xC7D0C051804804F1)},
    {"counter", 16, 8, UINT64_C(0x3A1F4E84CA836719), UINT64_C(0xCB38818CD10B0AD4)},
    {"short", 3, 2, UINT64_C(0xF672B86DFBD369F5), UINT64_C(0x362C6BB9B34C8C4E)},
    {"up to 128 bytes", 24, 100, UINT64_C(0xA1EBB4F3D2355F98), UINT64_C(0x324B569FC29E5CCA)},
    {"up to 240 bytes", 16, 220, UINT64_C(0x04C57C617BC11BCF), UINT64_C(0xF70303E1525014C6)},
    {"one more than 240 bytes", 16, 221, UINT64_C(0xB8C2FD619E4E96F4),
     UINT64_C(0x4ADBB60D8A0353D7)},
    {"long value", 100, 70000, UINT64_C(0x95F985F6EEDE8D25), UINT64_C(0xC4977045DB81430E)},
    {"longest key", 8192, 0, UINT64_C(0xEA94BAEC3DA4A750), UINT64_C(0xBB579BF3B142B5B6)},
    {"a MiB", 8192, 1048576, UINT64_C(0xB3CF0FFA644BFA12), UINT64_C(0xC6D0ECA194A0BAAF)},
};

static uint8_t key[8192], value[1 << 20];

static void fill(void) {
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)(i * 31 + 7);
    for (size_t i = 0; i < sizeof value; i++)
        value[i] = (uint8_t)(i * 13 + i / 256 + 1);
}

static void vectors_of_the_oracle(void **state) {
    (void)state;
    fill();
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        struct state_sum d = {0};
        print_message("%s\n", vectors[i].label);
        digest_add(&d, key, vectors[i].key_len, value, vectors[i].value_len);
        assert_int_equal(d.low, vectors[i].low);
        assert_int_equal(d.high, vectors[i].high);
        assert_int_equal(d.pairs, 1);
        assert_int_equal(d.bytes, vectors[i].key_len + vectors[i].value_len);
    }
}

static void any_order(void **state) {
    (void)state;
    fill();
    const struct state_sum none = {0};
    struct state_sum up = {0}, down = {0}, low = {0}, high = {0};
    for (size_t i = 0; i < 1000; i++) {
        digest_add(&up, &key[i], 8, &value[i], i);
        digest_add(i < 300 ? &low : &high, &key[i], 8, &value[i], i);
        digest_add(&down, &key[999 - i], 8, &value[999 - i], 999 - i);
        digest_add(&down, &key[i], 20, NULL, 0); /* there meanwhile */
    }
    assert_false(digest_equal(&up, &down));
    for (size_t i = 0; i < 1000; i++)
        digest_subtract(&down, &key[i], 20, NULL, 0);
    assert_true(digest_equal(&up, &down));
    digest_join(&low, &high);
    assert_true(digest_equal(&up, &low));
    for (size_t i = 0; i < 1000; i++)
        digest_subtract(&up, &key[i], 8, &value[i], i);
    assert_true(digest_equal(&up, &none));
}

/* Each part counts: where the key ends, the number of equal pairs, one bit. */
static void each_part_counts(void **state) {
    (void)state;
    fill();
    struct state_sum a = {0}, b = {0}, twice = {0};
    digest_add(&a, key, 8, key + 8, 8);
    digest_add(&b, key, 9, key + 9, 7);
    assert_false(digest_equal(&a, &b));
    digest_add(&twice, key, 8, key + 8, 8);
    digest_add(&twice, key, 8, key + 8, 8);
    assert_false(digest_equal(&a, &twice));
    for (size_t bit = 0; bit < 128; bit++) {
        uint8_t text[16];
        memcpy(text, key, 16);
        text[bit / 8] ^= (uint8_t)(1 << bit % 8);
        struct state_sum c = {0};
        digest_add(&c, text, 8, text + 8, 8);
        assert_true(c.low != a.low && c.high != a.high);
    }
    struct state_sum d = a;
    d.pairs++;
    assert_false(digest_equal(&a, &d));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_of_the_oracle),
        cmocka_unit_test(any_order),
        cmocka_unit_test(each_part_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
