/* SPDX-License-Identifier: Apache-2.0
 *
 * exact.h - numbers out of texts, and sums of them that don't depend on their order. A sum is kept
 * exactly, as a long fixed-point number that every double is a multiple of, and rounded once, when
 * it is shown; so (a + b) + c and a + (b + c) are the same, and so are the bytes that hold them.
 */
#ifndef PAWL_PROCESSORS_EXACT_H
#define PAWL_PROCESSORS_EXACT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A number: an integer of 63 bits, or a double that is none or is larger. */
typedef struct number {
    bool whole;
    int64_t n;
    double d;
} number;

/* From a number as JSON writes it. False: it is none, or no double holds it. */
bool number_parse(number *out, const char *text, size_t len);
int number_compare(number a, number b);
#define NUMBER_TEXT_MAX 48
/* As JSON, the shortest text that gives the same number again. Returns its length. */
size_t number_text(number a, char out[NUMBER_TEXT_MAX]);

/* Limbs of 32 bits, the lowest first; limb i counts 2^(32 i - 1088). */
#define EXACT_LIMBS 70
#define EXACT_ONE 34 /* the limb that counts ones */
typedef struct exact {
    uint8_t lo, hi; /* limbs from lo to hi - 1 are in use; the highest has the sign */
    int64_t limb[EXACT_LIMBS];
} exact;

void exact_init(exact *e);
void exact_add(exact *e, number a);
void exact_merge(exact *e, const exact *other);
/* The sum, rounded to a double if it isn't an integer of 63 bits. False: it is beyond all
 * doubles. */
bool exact_value(const exact *e, number *out);
/* As bytes, the same for the same sum. */
#define EXACT_SIZE_MAX (2 + 4 * EXACT_LIMBS)
size_t exact_encode(const exact *e, uint8_t out[EXACT_SIZE_MAX]);
/* Returns how many bytes it took; 0: they are not well formed. */
size_t exact_decode(exact *e, const uint8_t *data, size_t len);

#endif
