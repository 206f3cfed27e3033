/* SPDX-License-Identifier: Apache-2.0
 *
 * report.c - counting, and what `pawl crashtest` prints in the end.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cli/crashtest/crashtest.h"

const char *const ct_guarantee_names[CT_GUARANTEES] = {"exactly-once", "at-least-once",
                                                       "at-most-once"};

/* ---- counting */

uint64_t ct_kills(const ct_result *r) {
    uint64_t n = 0;
    for (int i = 0; i < CT_GUARANTEES; i++)
        n += r->tally[i].kills;
    return n;
}

uint64_t ct_recovery_kills(const ct_result *r) {
    uint64_t n = 0;
    for (int i = 0; i < CT_GUARANTEES; i++)
        n += r->tally[i].recovery_kills;
    return n;
}

void ct_note_open(ct_result *r, uint64_t ns) {
    if (r->opens == r->open_cap) {
        size_t cap = r->open_cap * 2 + 1024;
        uint32_t *more = realloc(r->open_us, cap * sizeof *more);
        if (more == NULL)
            return;
        r->open_us = more;
        r->open_cap = cap;
    }
    uint64_t us = ns / 1000;
    r->open_us[r->opens++] = us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
}

bool ct_enough(const ct_result *r, const ct_limits *limits, cli_progress *progress) {
    static char what[64];
    uint64_t now = cli_now_ns(), kills = ct_kills(r);
    double s = (double)(now - r->begun_ns) / 1e9;
    snprintf(what, sizeof what, "crash test, %" PRIu64 " kills, %.0f/s", kills,
             s > 0 ? (double)kills / s : 0);
    progress->what = what;
    if (limits->kills != UINT64_MAX)
        cli_progress_show(progress, kills, limits->kills);
    else
        cli_progress_show(progress, now - r->begun_ns, limits->until_ns - r->begun_ns);
    return kills >= limits->kills || now >= limits->until_ns || cli_stopping() != 0;
}

/* ---- figures */

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* In milliseconds; the opens are in order. */
static double percentile(const ct_result *r, double share) {
    if (r->opens == 0)
        return 0;
    return r->open_us[(size_t)(share * (double)(r->opens - 1) + 0.5)] / 1e3;
}

static double seconds(const ct_result *r) {
    return (double)(r->ended_ns - r->begun_ns) / 1e9;
}

/* ---- JSON */

static json_t *number(uint64_t n) {
    return json_integer((json_int_t)n);
}

static json_t *tallies(const ct_result *r) {
    json_t *all = json_object();
    for (int i = 0; i < CT_GUARANTEES; i++) {
        const ct_tally *t = &r->tally[i];
        if (!t->used)
            continue;
        json_t *o = json_pack("{s:o,s:o,s:o,s:o}", "kills", number(t->kills), "recovery_kills",
                              number(t->recovery_kills), "ended_by_itself", number(t->ended),
                              "logs", number(t->logs));
        if (r->records) {
            json_object_set_new(o, "inputs", number(t->inputs));
            json_object_set_new(o, "outputs", number(t->outputs));
            json_object_set_new(o, "lost", number(t->lost));
            json_object_set_new(o, "doubled", number(t->doubled));
        }
        json_object_set_new(all, ct_guarantee_names[i], o);
    }
    return all;
}

static void report_json(const ct_result *r) {
    json_t *o = json_pack("{s:b,s:s,s:o,s:o,s:o,s:f,s:f,s:o}", "ok", r->problem.text[0] == '\0',
                          "directory", r->dir, "seed", number(r->seed), "kills",
                          number(ct_kills(r)), "recovery_kills", number(ct_recovery_kills(r)),
                          "seconds", seconds(r), "kills_per_second",
                          (double)ct_kills(r) / seconds(r), "bytes_verified", number(r->bytes));
    json_object_set_new(o, "opening_ms",
                        json_pack("{s:o,s:f,s:f,s:f}", "count", number(r->opens), "p50",
                                  percentile(r, 0.5), "p99", percentile(r, 0.99), "max",
                                  percentile(r, 1)));
    json_object_set_new(o, "records_checked", json_boolean(r->records));
    json_object_set_new(o, "guarantees", tallies(r));
    json_t *points = json_object();
    for (uint32_t i = 0; i < r->point_count; i++)
        json_object_set_new(points, r->points[i].name, number(r->points[i].kills));
    json_object_set_new(o, "points", points);
    if (r->problem.text[0] != '\0')
        json_object_set_new(
            o, "problem",
            json_pack("{s:s,s:o}", "text", r->problem.text, "cycle", number(r->cycle)));
    cli_write_json(json_dumps(o, JSON_INDENT(2)));
    json_decref(o);
}

/* ---- text */

static void print_points(const ct_result *r) {
    uint64_t named = 0;
    for (uint32_t i = 0; i < r->point_count; i++)
        named += r->points[i].kills;
    if (named == 0)
        return;
    cli_printf("%" PRIu64 " of them at named points:\n", named);
    for (uint32_t i = 0; i < r->point_count; i++)
        cli_printf("%-24s%8" PRIu64 "%s", r->points[i].name, r->points[i].kills,
                   i % 3 == 2 || i + 1 == r->point_count ? "\n" : "   ");
}

static void report_text(const ct_result *r) {
    char size[32];
    uint64_t kills = ct_kills(r), recovery = ct_recovery_kills(r);
    cli_printf("%" PRIu64 " kills in %.1f s, %.1f/s, each verified; %" PRIu64
               " (%.0f%%) before the log was open; %s read\n",
               kills, seconds(r), (double)kills / seconds(r), recovery,
               kills > 0 ? 100.0 * (double)recovery / (double)kills : 0,
               cli_format_size(r->bytes, size));
    print_points(r);
    if (r->opens > 0)
        cli_printf("opening: p50 %.1f ms, p99 %.1f ms, max %.1f ms, of %zu\n", percentile(r, 0.5),
                   percentile(r, 0.99), percentile(r, 1), r->opens);
    if (!r->records) {
        cli_printf("structure only: the program acknowledged nothing, so its records were not "
                   "looked at\n");
        return;
    }
    cli_printf("\n%-16s%10s%12s%12s%10s%10s\n", "guarantee", "kills", "inputs", "outputs", "lost",
               "doubled");
    for (int i = 0; i < CT_GUARANTEES; i++) {
        const ct_tally *t = &r->tally[i];
        if (t->used)
            cli_printf("%-16s%10" PRIu64 "%12" PRIu64 "%12" PRIu64 "%10" PRIu64 "%10" PRIu64 "\n",
                       ct_guarantee_names[i], t->kills, t->inputs, t->outputs, t->lost, t->doubled);
    }
}

void ct_report(const ct_result *r, bool json) {
    if (r->opens > 1)
        qsort(r->open_us, r->opens, sizeof *r->open_us, by_value);
    if (json)
        report_json(r);
    else
        report_text(r);
}
