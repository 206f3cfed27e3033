/* SPDX-License-Identifier: Apache-2.0
 *
 * skip.h - a case that can't run here ends with SKIP(reason, ...). The reason is printed in the
 * form that tests/skipped.awk collects for the summary. Include <cmocka.h> first.
 */
#ifndef TESTS_SUPPORT_SKIP_H
#define TESTS_SUPPORT_SKIP_H

#define SKIP(...) \
    do { \
        print_message("SKIPPED: " __VA_ARGS__); \
        print_message("\n"); \
        skip(); \
    } while (0)

#endif
