/* SPDX-License-Identifier: Apache-2.0
 *
 * test_histogram.c - shows that the bench's histogram answers as a sorted list of the values does,
 * to within 0.1 %, and its maximum exactly.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "bench/hdr.h"

enum { VALUES = 20000 };

static struct hdr histogram, half;
static uint64_t values[VALUES];

static int by_size(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The smallest value that `percent` per cent of all do not exceed. */
static uint64_t exact(double percent) {
    size_t wanted = (size_t)((double)VALUES * percent / 100 + 0.999999);
    return values[wanted > 0 ? wanted - 1 : 0];
}

static void answers_as_a_sorted_list(void **state) {
    static const double percents[] = {0.01, 1, 50, 90, 99, 99.9, 99.99, 100};
    uint64_t random = 88172645463325252u;
    (void)state;
    hdr_clear(&histogram);
    hdr_clear(&half);
    for (size_t i = 0; i < VALUES; i++) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        values[i] = random >> (24 + random % 40); /* of every magnitude up to 18 minutes */
        if (values[i] >= UINT64_C(500) * 1000000000)
            values[i] = 1;
        hdr_add(i % 2 == 0 ? &histogram : &half, values[i]);
    }
    hdr_merge(&histogram, &half);
    qsort(values, VALUES, sizeof *values, by_size);
    assert_int_equal(histogram.count, VALUES);
    assert_int_equal(histogram.max, values[VALUES - 1]);
    assert_int_equal(hdr_at(&histogram, 100), values[VALUES - 1]);
    for (size_t i = 0; i < sizeof percents / sizeof percents[0]; i++) {
        uint64_t wanted = exact(percents[i]), got = hdr_at(&histogram, percents[i]);
        assert_in_range(got, wanted, wanted + wanted / 1000);
    }
}

static void small_values_are_exact(void **state) {
    (void)state;
    hdr_clear(&histogram);
    for (uint64_t v = 1; v <= 2000; v++)
        hdr_add(&histogram, v);
    assert_int_equal(hdr_at(&histogram, 50), 1000);
    assert_int_equal(hdr_at(&histogram, 99.9), 1998);
    assert_int_equal(hdr_at(&histogram, 0), 1);
}

static void empty_and_beyond_the_range(void **state) {
    (void)state;
    hdr_clear(&histogram);
    assert_int_equal(hdr_at(&histogram, 50), 0);
    hdr_add(&histogram, UINT64_MAX);
    assert_int_equal(histogram.max, UINT64_MAX);
    assert_int_equal(histogram.count, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_as_a_sorted_list),
        cmocka_unit_test(small_values_are_exact),
        cmocka_unit_test(empty_and_beyond_the_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
