/* SPDX-License-Identifier: Apache-2.0
 *
 * Regular expressions by PCRE2, on bytes, with a limit on the cost of a match.
 */
#ifndef PAWL_CONNECTORS_MATCHER_H
#define PAWL_CONNECTORS_MATCHER_H

#include "connectors/runtime/connect.h"

typedef struct matcher matcher;
/* Compiles the pattern; NULL with the error. `limit`: steps that a match may take. NOT_FOUND: this
 * build has no PCRE2. */
matcher *matcher_new(const char *pattern, bool caseless, uint64_t limit, pawl_error *err);
void matcher_free(matcher *m);
/* 1: it matches; 0: it doesn't; -1: an error, with *why. Several threads may use one matcher, each
 * with its own space. */
typedef struct matcher_space matcher_space;
matcher_space *matcher_space_new(const matcher *m);
void matcher_space_free(matcher_space *s);
int matcher_run(const matcher *m, matcher_space *s, const char *bytes, size_t size,
                const char **why);
/* As above, from byte `at` on, which is not taken for the beginning. */
int matcher_run_from(const matcher *m, matcher_space *s, const char *bytes, size_t size, size_t at,
                     const char **why);
/* The groups by number: how many there are, named or not; and what one matched last, 0 the whole
 * pattern. */
uint32_t matcher_captures(const matcher *m);
bool matcher_span(const matcher *m, const matcher_space *s, uint32_t number, size_t *from,
                  size_t *to);
/* The named groups: their number, the name of each, and what it matched last (false: it took no
 * part). */
uint32_t matcher_groups(const matcher *m);
const char *matcher_group_name(const matcher *m, uint32_t index);
bool matcher_group(const matcher *m, const matcher_space *s, uint32_t index, size_t *from,
                   size_t *to);

#endif
