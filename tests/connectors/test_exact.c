/* SPDX-License-Identifier: Apache-2.0 */
/* Sums that don't depend on the order: known ones, and random ones in many orders and groupings,
 * whose bytes must be the same and whose value is that of arithmetic that is exact by itself. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "processors/exact.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static number from(const char *text) {
    number n;
    if (!number_parse(&n, text, strlen(text)))
        fail_msg("\"%s\" is no number", text);
    return n;
}

static const char *shown(const exact *e) {
    static char text[NUMBER_TEXT_MAX];
    number n;
    if (!exact_value(e, &n))
        return "beyond";
    text[number_text(n, text)] = 0;
    return text;
}

static void known_sums(void **state) {
    (void)state;
    static const struct {
        const char *label, *terms[12], *sum;
    } cases[] = {
        {"nothing", {NULL}, "0"},
        {"ones", {"1", "2", "3"}, "6"},
        {"negative", {"-1", "-2"}, "-3"},
        {"to nothing", {"5", "-5"}, "0"},
        {"a tenth, ten times",
         {"0.1", "0.1", "0.1", "0.1", "0.1", "0.1", "0.1", "0.1", "0.1", "0.1"},
         "1"},
        {"a small one beside large ones", {"1e100", "1", "-1e100"}, "1"},
        {"the smallest beside the largest", {"1e308", "5e-324", "-1e308"}, "4.94065645841247e-324"},
        {"subnormals", {"5e-324", "5e-324"}, "9.88131291682493e-324"},
        {"just below zero", {"5e-324", "-1"}, "-1"},
        {"a tie goes to the even", {"9007199254740992.5", "0.5", "0.5"}, "9007199254740993"},
        {"a tie, the lower one is even", {"4503599627370496", "0.5"}, "4503599627370496"},
        {"a tie, the higher one is even", {"4503599627370497", "0.5"}, "4503599627370498"},
        {"more than 63 bits", {"9223372036854775807", "1"}, "9.223372036854776e+18"},
        {"18 digits", {"999999999999999999", "1"}, "1000000000000000000"},
        {"beyond all doubles", {"1.7e308", "1.7e308"}, "beyond"},
        {"back from beyond", {"1.7e308", "1.7e308", "-1.7e308"}, "1.7e+308"},
        {"across a limb", {"4294967295", "1"}, "4294967296"},
        {"below a limb", {"4294967296", "-1"}, "4294967295"},
        {"half a limb", {"2147483647", "1"}, "2147483648"},
        {"half a negative limb", {"-2147483648", "-1"}, "-2147483649"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        exact e;
        exact_init(&e);
        for (int k = 0; cases[i].terms[k] != NULL; k++)
            exact_add(&e, from(cases[i].terms[k]));
        if (strcmp(shown(&e), cases[i].sum) != 0)
            fail_msg("%s: %s, not %s", cases[i].label, shown(&e), cases[i].sum);
    }
}

static void numbers(void **state) {
    (void)state;
    static const char *const good[][2] = {
        {"0", "0"},
        {"-0", "0"},
        {"1.0", "1"},
        {"1e3", "1000"},
        {"0.5", "0.5"},
        {"-2.5e-3", "-0.0025"},
        {"0.1", "0.1"},
        {"1e22", "1e+22"},
        {"123456789012345678", "123456789012345678"},
        {"0.30000000000000004", "0.30000000000000004"},
    };
    static const char *const bad[] = {"",
                                      "-",
                                      "+1",
                                      "01",
                                      "1.",
                                      ".5",
                                      "1e",
                                      "1e+",
                                      "0x1",
                                      "1 ",
                                      "1e999",
                                      "NaN",
                                      "18446744073709551617",
                                      "1,5"};
    for (size_t i = 0; i < COUNT(good); i++) {
        char text[NUMBER_TEXT_MAX];
        text[number_text(from(good[i][0]), text)] = 0;
        assert_string_equal(text, good[i][1]);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        number n;
        if (number_parse(&n, bad[i], strlen(bad[i])))
            fail_msg("\"%s\" is a number", bad[i]);
    }
    assert_true(number_compare(from("9007199254740993"), from("9007199254740992")) > 0);
    assert_true(number_compare(from("0.5"), from("1")) < 0);
    assert_true(number_compare(from("-3"), from("-3.0")) == 0);
}

static double random_double(void) {
    double d =
        ldexp((double)(rand() - RAND_MAX / 2) + (double)rand() / RAND_MAX, rand() % 200 - 100);
    return d == 0 ? 1.5 : d;
}

static number of_double(double d) {
    char text[64];
    snprintf(text, sizeof text, "%.17g", d);
    return from(text);
}

static void any_order(void **state) {
    (void)state;
    srand(1);
    for (int round = 0; round < 300; round++) {
        number terms[40];
        uint8_t want[EXACT_SIZE_MAX], got[EXACT_SIZE_MAX];
        size_t n = 1 + (size_t)rand() % 40, want_len = 0;
        for (size_t i = 0; i < n; i++)
            terms[i] = of_double(random_double());
        for (int order = 0; order < 6; order++) {
            exact parts[3], all, again;
            for (int i = 0; i < 3; i++)
                exact_init(&parts[i]);
            for (size_t i = n; i > 1; i--) {
                size_t k = (size_t)rand() % i;
                number t = terms[k];
                terms[k] = terms[i - 1];
                terms[i - 1] = t;
            }
            for (size_t i = 0; i < n; i++)
                exact_add(&parts[rand() % 3], terms[i]);
            exact_init(&all);
            for (int i = 0; i < 3; i++)
                exact_merge(&all, &parts[i]);
            size_t len = exact_encode(&all, got);
            assert_int_equal(exact_decode(&again, got, len), len);
            exact_merge(&again, &parts[0]); /* it is as good as the one that was written */
            if (order == 0) {
                memcpy(want, got, len);
                want_len = len;
            }
            assert_int_equal(len, want_len);
            assert_memory_equal(got, want, len);
        }
        exact zero;
        exact_init(&zero);
        for (size_t i = 0; i < n; i++)
            exact_add(&zero, terms[i]);
        for (size_t i = 0; i < n; i++) { /* and back to nothing */
            number minus = {terms[i].whole, -terms[i].n, -terms[i].d};
            exact_add(&zero, minus);
        }
        assert_int_equal(zero.lo, zero.hi);
    }
}

static void as_exact_arithmetic(void **state) {
    (void)state;
    srand(2);
    for (int round = 0; round < 2000; round++) {
        exact e;
        int64_t units = 0; /* of 2^-12 */
        exact_init(&e);
        for (int i = rand() % 30; i >= 0; i--) {
            int64_t u = ((int64_t)rand() << 8 ^ rand()) - ((int64_t)RAND_MAX << 7);
            units += u;
            exact_add(&e, of_double((double)u / 4096));
        }
        number got, want = of_double((double)units / 4096); /* less than 2^53 units */
        assert_true(exact_value(&e, &got));
        assert_int_equal(number_compare(got, want), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_sums),
        cmocka_unit_test(numbers),
        cmocka_unit_test(any_order),
        cmocka_unit_test(as_exact_arithmetic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
