/* SPDX-License-Identifier: Apache-2.0
 *
 * exact.c - see exact.h. After each change the limbs are canonical: all are from 0 to 2^32 - 1, but
 * for the highest, which has the sign and is from -2^31 to 2^31 - 1; no limb at either end can be
 * left out.
 */
#include "processors/exact.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "connectors/text/json_scan.h"

#define LIMB_BITS 32
#define LIMB_BASE (INT64_C(1) << LIMB_BITS)
#define LOWEST_BIT (-1088) /* what bit 0 of limb 0 counts */

/* ---- numbers */

static size_t digits(const char *text, size_t len, size_t at) {
    size_t n = 0;
    while (at + n < len && text[at + n] >= '0' && text[at + n] <= '9')
        n++;
    return n;
}

bool number_parse(number *out, const char *text, size_t len) {
    size_t at = len != 0 && text[0] == '-', whole = digits(text, len, at), end = at + whole;
    if (whole == 0 || (whole > 1 && text[at] == '0'))
        return false;
    if (end == len) {
        int64_t n = 0;
        bool fits = true;
        for (; at < len && fits; at++)
            fits = !__builtin_mul_overflow(n, 10, &n) &&
                   !__builtin_add_overflow(n, text[at] - '0', &n);
        *out = (number){true, text[0] == '-' ? -n : n, 0};
        if (fits)
            return true;
    }
    if (end < len && text[end] == '.') {
        size_t n = digits(text, len, end + 1);
        if (n == 0)
            return false;
        end += 1 + n;
    }
    if (end < len && (text[end] == 'e' || text[end] == 'E')) {
        size_t sign = end + 1 < len && (text[end + 1] == '+' || text[end + 1] == '-');
        size_t n = digits(text, len, end + 1 + sign);
        if (n == 0)
            return false;
        end += 1 + sign + n;
    }
    if (end != len || !json_fits_double(text, len))
        return false;
    double d = json_double(text, len);
    bool is_whole = d > -9e18 && d < 9e18 && d == (double)(int64_t)d;
    *out = (number){is_whole, is_whole ? (int64_t)d : 0, is_whole ? 0 : d};
    return isfinite(d);
}

int number_compare(number a, number b) {
    long double x = a.whole ? (long double)a.n : (long double)a.d;
    long double y = b.whole ? (long double)b.n : (long double)b.d;
    if (a.whole && b.whole)
        return a.n < b.n ? -1 : a.n > b.n;
    return x < y ? -1 : x > y;
}

size_t number_text(number a, char out[NUMBER_TEXT_MAX]) {
    if (a.whole)
        return (size_t)snprintf(out, NUMBER_TEXT_MAX, "%lld", (long long)a.n);
    size_t len = 0;
    for (int precision = 15; precision <= 17; precision++) {
        len = (size_t)snprintf(out, NUMBER_TEXT_MAX, "%.*g", precision, a.d);
        for (size_t i = 0; i < len; i++) /* the point is the locale's */
            if (strchr("0123456789+-e", out[i]) == NULL)
                out[i] = '.';
        if (json_double(out, len) == a.d)
            break;
    }
    return len;
}

/* ---- sums */

void exact_init(exact *e) {
    memset(e, 0, sizeof *e);
}

static void widen(exact *e, int lo, int hi) {
    if (e->lo == e->hi) {
        e->lo = (uint8_t)lo;
        e->hi = (uint8_t)lo;
    }
    for (; e->lo > lo; e->lo--)
        e->limb[e->lo - 1] = 0;
    for (; e->hi < hi; e->hi++)
        e->limb[e->hi] = 0;
}

static void canonical(exact *e) {
    int64_t carry = 0;
    int i = e->lo;
    for (; i < e->hi || (carry != 0 && carry != -1); i++) {
        assert(i < EXACT_LIMBS);
        int64_t sum = (i < e->hi ? e->limb[i] : 0) + carry;
        int64_t low = (int64_t)((uint64_t)sum & (LIMB_BASE - 1));
        carry = (sum - low) / LIMB_BASE;
        e->limb[i] = low;
    }
    e->hi = (uint8_t)i;
    /* the sign goes to the highest limb */
    if (carry == 0 && e->hi > e->lo && e->limb[e->hi - 1] >= LIMB_BASE / 2)
        e->limb[e->hi++] = 0;
    else if (carry == -1 && (e->hi == e->lo || e->limb[e->hi - 1] < LIMB_BASE / 2))
        e->limb[e->hi++] = -1;
    else if (carry == -1)
        e->limb[e->hi - 1] -= LIMB_BASE;
    assert(e->hi <= EXACT_LIMBS);
    while (e->hi > e->lo + 1) { /* a highest limb that only repeats the sign */
        int64_t top = e->limb[e->hi - 1], next = e->limb[e->hi - 2];
        if (top == 0 && next < LIMB_BASE / 2)
            e->hi--;
        else if (top == -1 && next >= LIMB_BASE / 2)
            e->limb[--e->hi - 1] -= LIMB_BASE;
        else
            break;
    }
    while (e->lo < e->hi && e->limb[e->lo] == 0)
        e->lo++;
    if (e->lo == e->hi)
        e->lo = e->hi = 0;
}

/* Adds m * 2^(bit + LOWEST_BIT). */
static void add_shifted(exact *e, int64_t m, int bit) {
    uint64_t size = m < 0 ? 0 - (uint64_t)m : (uint64_t)m;
    int at = bit / LIMB_BITS, shift = bit % LIMB_BITS;
    uint64_t low = size << shift, high = shift == 0 ? 0 : size >> (64 - shift);
    const uint64_t parts[3] = {low & (LIMB_BASE - 1), low >> LIMB_BITS, high};
    assert(at >= 0 && at + 3 <= EXACT_LIMBS);
    widen(e, at < e->lo || e->lo == e->hi ? at : e->lo, at + 3 > e->hi ? at + 3 : e->hi);
    for (int i = 0; i < 3; i++)
        e->limb[at + i] += m < 0 ? -(int64_t)parts[i] : (int64_t)parts[i];
    canonical(e);
}

void exact_add(exact *e, number a) {
    if (a.whole) {
        if (a.n != 0)
            add_shifted(e, a.n, EXACT_ONE * LIMB_BITS);
        return;
    }
    int power;
    double m = frexp(a.d, &power); /* a.d is not 0, which is whole */
    int64_t bits = (int64_t)ldexp(m, 53);
    int at = power - 53 - LOWEST_BIT;
    if (at < 0) { /* a subnormal has fewer bits, and none below 2^-1074 */
        bits /= INT64_C(1) << -at;
        at = 0;
    }
    add_shifted(e, bits, at);
}

void exact_merge(exact *e, const exact *other) {
    if (other->lo == other->hi)
        return;
    int lo = e->lo == e->hi || other->lo < e->lo ? other->lo : e->lo;
    widen(e, lo, other->hi > e->hi ? other->hi : e->hi);
    for (int i = other->lo; i < other->hi; i++)
        e->limb[i] += other->limb[i];
    canonical(e);
}

/* The size of the sum, as limbs from 0 to *hi - 1. */
static bool magnitude(const exact *e, uint32_t out[EXACT_LIMBS], int *hi) {
    bool negative = e->hi != 0 && e->limb[e->hi - 1] < 0;
    int64_t carry = 0;
    memset(out, 0, EXACT_LIMBS * sizeof *out);
    for (int i = e->lo; i < e->hi; i++) {
        int64_t sum = (negative ? -e->limb[i] : e->limb[i]) + carry;
        int64_t low = (int64_t)((uint64_t)sum & (LIMB_BASE - 1));
        out[i] = (uint32_t)low;
        carry = (sum - low) / LIMB_BASE;
    }
    assert(carry == 0);
    *hi = e->hi;
    while (*hi > 0 && out[*hi - 1] == 0)
        --*hi;
    return negative;
}

bool exact_value(const exact *e, number *out) {
    uint32_t size[EXACT_LIMBS];
    int hi;
    bool negative = magnitude(e, size, &hi);
    *out = (number){true, 0, 0};
    if (hi == 0)
        return true;
    if (e->lo >= EXACT_ONE && hi <= EXACT_ONE + 2 &&
        (hi < EXACT_ONE + 2 || size[EXACT_ONE + 1] < UINT32_C(1) << 31)) {
        int64_t n = (int64_t)((uint64_t)(hi > EXACT_ONE + 1 ? size[EXACT_ONE + 1] : 0) << 32 |
                              size[EXACT_ONE]);
        out->n = negative ? -n : n;
        return true;
    }
    /* the highest 64 bits, and whether a lower one is set */
    int top = hi * LIMB_BITS - __builtin_clz(size[hi - 1]), low = top > 64 ? top - 64 : 0;
    uint64_t bits = 0;
    bool more = false;
    for (int i = top - 1; i >= low; i--)
        bits = bits << 1 | (size[i / LIMB_BITS] >> (i % LIMB_BITS) & 1);
    for (int i = 0; i < low && !more; i++)
        more = (size[i / LIMB_BITS] >> (i % LIMB_BITS) & 1) != 0;
    /* 53 bits, rounded to the nearest, a tie to the even one */
    int drop = top - low > 53 ? top - low - 53 : 0;
    uint64_t rest = bits & ((UINT64_C(1) << drop) - 1),
             half = drop > 0 ? UINT64_C(1) << (drop - 1) : 0;
    bits >>= drop;
    if (drop > 0 && (rest > half || (rest == half && (more || (bits & 1) != 0))))
        bits++;
    double d = ldexp((double)bits, low + drop + LOWEST_BIT);
    *out = (number){false, 0, negative ? -d : d};
    return isfinite(d);
}

size_t exact_encode(const exact *e, uint8_t out[EXACT_SIZE_MAX]) {
    size_t len = 0;
    out[len++] = e->lo;
    out[len++] = e->hi;
    for (int i = e->lo; i < e->hi; i++)
        for (int b = 0; b < 4; b++)
            out[len++] = (uint8_t)((uint64_t)e->limb[i] >> (8 * b));
    return len;
}

size_t exact_decode(exact *e, const uint8_t *data, size_t len) {
    exact_init(e);
    if (len < 2 || data[0] > data[1] || data[1] > EXACT_LIMBS ||
        len < 2 + 4u * (size_t)(data[1] - data[0]))
        return 0;
    e->lo = data[0];
    e->hi = data[1];
    size_t at = 2;
    for (int i = e->lo; i < e->hi; i++, at += 4)
        e->limb[i] = (int64_t)((uint32_t)data[at] | (uint32_t)data[at + 1] << 8 |
                               (uint32_t)data[at + 2] << 16 | (uint32_t)data[at + 3] << 24);
    if (e->hi > e->lo && e->limb[e->hi - 1] >= LIMB_BASE / 2)
        e->limb[e->hi - 1] -= LIMB_BASE; /* it has the sign */
    return at;
}
