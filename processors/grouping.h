/* SPDX-License-Identifier: Apache-2.0
 *
 * grouping.h - by what a processor puts records together: the setting `by` selects a part of the
 * record; with `match`, a regular expression, it is a piece of that part, or every such piece.
 */
#ifndef PAWL_PROCESSORS_GROUPING_H
#define PAWL_PROCESSORS_GROUPING_H

#include "processors/proc.h"

typedef struct grouping {
    selector by;
    matcher *match; /* NULL: the whole part */
    bool all;       /* every match, else the first one */
    bool must;      /* a record without any is refused, else passed over */
    bool by_key;    /* it is the whole key, which decides a record's partition */
} grouping;

#define GROUPING_SETTINGS \
    {"by", \
     PAWL_SETTING_TEXT, \
     0, \
     NULL, \
     "key", \
     "which records belong together, those with the same: key, value, json:PATH or header:NAME"}, \
        {"match", \
         PAWL_SETTING_TEXT, \
         0, \
         NULL, \
         NULL, \
         "regular expression (PCRE2, on bytes): not the whole of `by`, but what matches there; " \
         "if " \
         "it has a group in (), what that matched"}, \
        {"all", PAWL_SETTING_BOOL, 0, \
         NULL,  "false",           "every match in the record, not only the first"}, \
        {"caseless", PAWL_SETTING_BOOL, 0, \
         NULL,       "false",           "upper and lower case are the same to `match`"}, \
        {"match_limit", \
         PAWL_SETTING_NUMBER, \
         0, \
         NULL, \
         "1000000", \
         "steps that a match may take; beyond, the record fails"}, \
    { \
        "missing", PAWL_SETTING_CHOICE, 0, "skip|fail", "skip", \
            "a record in which `by` and `match` find nothing, or an empty text: pass over it, or " \
            "fail (on_error decides)" \
    }

/* From the settings above. To be freed also after an error. Errors: INVALID, MEMORY, NOT_FOUND (no
 * regular expressions in this build). */
int grouping_make(grouping *g, const pawl_connector *c, const pawl_settings *s, pawl_error *err);
void grouping_free(grouping *g);
/* Gets a text; 0, or an error with *why, which ends it. */
typedef int (*grouping_fn)(void *arg, const char *text, size_t size, const char **why);
/* Calls fn for each text of the record; none is empty. Errors: as a proc_one_fn. */
int grouping_each(const grouping *g, const pawl_record *r, struct scratch *s, grouping_fn fn,
                  void *arg, const char **why);

#endif
