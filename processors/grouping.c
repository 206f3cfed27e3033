/* SPDX-License-Identifier: Apache-2.0
 *
 * grouping.c - see grouping.h.
 */
#include "processors/grouping.h"

#include <string.h>

static int make_match(grouping *g, const pawl_connector *c, const pawl_settings *s,
                      pawl_error *err) {
    pawl_error why;
    uint32_t line = pawl_setting_line(s, "match");
    g->match =
        matcher_new(pawl_setting_text(c, s, "match"), pawl_setting_number(c, s, "caseless") != 0,
                    pawl_setting_number(c, s, "match_limit"), &why);
    if (g->match == NULL)
        return connect_error(err, why.code, "line %u: %s", line, why.message);
    if (matcher_captures(g->match) > 1)
        return connect_error(err, PAWL_INVALID,
                             "line %u: match has %u groups in (), and only one can be taken; write "
                             "(?:...) for the others",
                             line, matcher_captures(g->match));
    return 0;
}

int grouping_make(grouping *g, const pawl_connector *c, const pawl_settings *s, pawl_error *err) {
    static const char *const of_match[] = {"all", "caseless", "match_limit"};
    *g = (grouping){.match = NULL};
    int rc = selector_make(&g->by, c, s, "by", err);
    if (rc < 0)
        return rc;
    bool matches = pawl_setting_text(c, s, "match") != NULL;
    for (size_t i = 0; i < s->count && !matches; i++)
        for (size_t k = 0; k < sizeof of_match / sizeof of_match[0]; k++)
            if (strcmp(s->items[i].name, of_match[k]) == 0)
                return connect_error(err, PAWL_INVALID, "line %u: %s has no meaning without match",
                                     s->items[i].line, of_match[k]);
    g->all = pawl_setting_number(c, s, "all") != 0;
    g->must = connect_setting_choice(c, s, "missing") == 1;
    g->by_key = !matches && strcmp(pawl_setting_text(c, s, "by"), "key") == 0;
    return matches ? make_match(g, c, s, err) : 0;
}

void grouping_free(grouping *g) {
    selector_free(&g->by);
    matcher_free(g->match);
}

/* The matches in a part of a record. Returns how many texts there were. */
static int each_match(const grouping *g, const char *bytes, size_t size, struct scratch *s,
                      grouping_fn fn, void *arg, const char **why) {
    uint32_t group = matcher_captures(g->match);
    size_t from, to;
    int found = 0;
    for (size_t at = 0; at <= size;) {
        int rc = matcher_run_from(g->match, s->space, bytes, size, at, why);
        if (rc <= 0)
            return rc < 0 ? PAWL_PROCESSOR : found;
        bool set = matcher_span(g->match, s->space, group, &from, &to);
        if (set && to > from) {
            if ((rc = fn(arg, bytes + from, to - from, why)) < 0)
                return rc;
            found = 1;
        }
        if (!g->all)
            return found;
        /* an empty match would come again from where it ends */
        at = matcher_span(g->match, s->space, 0, &from, &to) && to > at ? to : at + 1;
    }
    return found;
}

int grouping_each(const grouping *g, const pawl_record *r, struct scratch *s, grouping_fn fn,
                  void *arg, const char **why) {
    const char *bytes;
    size_t size;
    int got = selector_get(&g->by, r, s, &bytes, &size, why);
    if (got == 1 && g->match != NULL)
        got = each_match(g, bytes, size, s, fn, arg, why);
    else if (got == 1 && size == 0)
        got = 0;
    else if (got == 1)
        return fn(arg, bytes, size, why);
    if (got != 0)
        return got < 0 ? got : 0;
    *why = g->match != NULL ? "nothing in it matches" : "it has nothing of what `by` names";
    return g->must ? PAWL_PROCESSOR : 0;
}
