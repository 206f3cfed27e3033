/* SPDX-License-Identifier: Apache-2.0
 *
 * What json_scan() found wrong as a sentence, and whether a number fits a type.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connectors/text/json_scan.h"
#include "connectors/text/utf8.h"

#define SHOWN_MAX 24   /* bytes of the offending text */
#define DIGITS_MAX 800 /* no double has more significant digits */

void json_fault(const char *why, const char *text, size_t len, size_t where,
                char out[JSON_FAULT_MAX]) {
    size_t line = 1, column = 1;
    for (size_t i = 0; i < where && i < len; i++) {
        column = text[i] == '\n' ? 1 : column + 1;
        line += text[i] == '\n';
    }
    int n = snprintf(out, JSON_FAULT_MAX, "the value is not JSON: %s, at byte %zu", why, where);
    size_t at = n > 0 ? (size_t)n : 0;
    if (line > 1)
        at += (size_t)snprintf(out + at, JSON_FAULT_MAX - at, " (line %zu, column %zu)", line,
                               column);
    if (where >= len)
        return;
    at += (size_t)snprintf(out + at, JSON_FAULT_MAX - at, ": `");
    for (size_t i = where, step; i < len && i < where + SHOWN_MAX; i += step) {
        const unsigned char *c = (const unsigned char *)text + i;
        step = utf8_sequence(c, len - i);
        if (step == 0 || *c < 0x20 || *c == 0x7F) {
            at += (size_t)snprintf(out + at, JSON_FAULT_MAX - at, "\\x%02X", *c);
            step = 1;
        } else {
            memcpy(out + at, c, step);
            at += step;
        }
    }
    snprintf(out + at, JSON_FAULT_MAX - at, "`");
}

/* ---- numbers */

/* A number as 0.DIGITS times ten to the power `exponent`; no digits: zero. */
struct decimal {
    char digits[DIGITS_MAX];
    size_t count;
    long exponent;
};

/* False: more significant digits than any double has. */
static bool take_apart(const char *at, size_t len, struct decimal *d) {
    const char *end = at + len;
    bool point = false;
    *d = (struct decimal){.count = 0};
    for (at += *at == '-'; at < end && (*at | 0x20) != 'e'; at++) {
        if (*at < '0' || *at > '9') { /* a point, or what a locale has for it */
            point = true;
            continue;
        }
        d->exponent += !point && (d->count != 0 || *at != '0');
        d->exponent -= point && d->count == 0 && *at == '0';
        if (d->count == 0 && *at == '0')
            continue;
        if (d->count == DIGITS_MAX)
            return false;
        d->digits[d->count++] = *at;
    }
    if (at < end) {
        char exponent[24];
        size_t n = (size_t)(end - at - 1);
        if (n >= sizeof exponent)
            return d->count == 0; /* out of every range, unless it is zero */
        memcpy(exponent, at + 1, n);
        exponent[n] = 0;
        long e = strtol(exponent, NULL, 10);
        d->exponent += e > 100000000 ? 100000000 : e < -100000000 ? -100000000 : e;
    }
    while (d->count > 0 && d->digits[d->count - 1] == '0')
        d->count--;
    if (d->count == 0)
        d->exponent = 0;
    return true;
}

/* No locale has another word for it. */
static void without_point(const struct decimal *d, char *out, size_t size) {
    snprintf(out, size, "%.*se%ld", (int)d->count, d->digits, d->exponent - (long)d->count);
}

double json_double(const char *at, size_t len) {
    struct decimal d;
    char number[DIGITS_MAX + 64];
    if (!take_apart(at, len, &d))
        return 0;
    if (d.count == 0)
        return at[0] == '-' ? -0.0 : 0;
    without_point(&d, number, sizeof number);
    double value = strtod(number, NULL);
    return at[0] == '-' ? -value : value;
}

static bool fits(const char *at, size_t len, bool single) {
    struct decimal wanted, got;
    char number[DIGITS_MAX + 64], back[DIGITS_MAX + 64];
    if (!take_apart(at, len, &wanted))
        return false;
    if (wanted.count == 0)
        return true;
    if (wanted.exponent > 400 || wanted.exponent < -400)
        return false;
    without_point(&wanted, number, sizeof number);
    double value = single ? (double)strtof(number, NULL) : strtod(number, NULL);
    if (!isfinite(value) || value == 0)
        return false;
    if (memchr(at, '.', len) != NULL || memchr(at, 'e', len) != NULL ||
        memchr(at, 'E', len) != NULL)
        return true;
    int n = snprintf(back, sizeof back, "%.*e", (int)wanted.count - 1, value);
    return n > 0 && (size_t)n < sizeof back && take_apart(back, (size_t)n, &got) &&
           got.count == wanted.count && got.exponent == wanted.exponent &&
           memcmp(got.digits, wanted.digits, got.count) == 0;
}

bool json_fits_double(const char *at, size_t len) {
    return fits(at, len, false);
}

bool json_fits_float(const char *at, size_t len) {
    return fits(at, len, true);
}
