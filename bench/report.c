/* SPDX-License-Identifier: Apache-2.0
 *
 * report.c - prints figures for people, and as JSON.
 */
#include <math.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <time.h>

#include "bench.h"

/* The file system's name, from the numbers of statfs(2): "ext4". */
const char *file_system(const char *dir) {
    static const struct {
        unsigned long magic;
        const char *name;
    } known[] = {{0xEF53, "ext4"},      {0x58465342, "xfs"},     {0x9123683E, "btrfs"},
                 {0x01021994, "tmpfs"}, {0x794C7630, "overlay"}, {0xF2F52010, "f2fs"}};
    struct statfs s;
    if (statfs(dir, &s) != 0)
        return "unknown";
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if ((unsigned long)s.f_type == known[i].magic)
            return known[i].name;
    return "another";
}

static const char *scaled(double v, const char *suffix, char out[32]) {
    static const char *const units[] = {"", " k", " M", " G"};
    size_t unit = 0;
    for (; fabs(v) >= 1000 && unit < 3; unit++)
        v /= 1000;
    snprintf(out, 32,
             v >= 100 || (unit == 0 && v == floor(v)) ? "%.0f%s%s%s"
             : v >= 10                                ? "%.1f%s%s%s"
                                                      : "%.2f%s%s%s",
             v, units[unit], unit == 0 && suffix[0] != '\0' && suffix[0] != ' ' ? " " : "", suffix);
    return out;
}

static const char *value_text(enum unit unit, double v, char out[32]) {
    switch (unit) {
    case PER_SECOND_RECORDS:
        return scaled(v, " records/s", out);
    case PER_SECOND_COMMITS:
        return scaled(v, " commits/s", out);
    case PER_SECOND_BYTES:
        return scaled(v, "B/s", out);
    case BYTES_PER_RECORD:
        return scaled(v, "B/record", out);
    case LATENCY:
        break;
    }
    if (v >= 1e6)
        snprintf(out, 32, "%.2f ms", v / 1e6);
    else
        snprintf(out, 32, "%.1f us", v / 1e3);
    return out;
}

static double p50(const struct turn *t) {
    return (double)t->p50 / 1e3;
}
static double p99(const struct turn *t) {
    return (double)t->p99 / 1e3;
}
static double p999(const struct turn *t) {
    return (double)t->p999 / 1e3;
}
static double longest(const struct turn *t) {
    return (double)t->max / 1e3;
}
static double peak(const struct turn *t) {
    return (double)t->peak_memory / 1048576;
}
static double log_memory(const struct turn *t) {
    return (double)t->log_memory / 1048576;
}
static double allocations_per_record(const struct turn *t) {
    return t->allocations == UINT64_MAX || t->records == 0
               ? -1
               : (double)t->allocations / (double)t->records;
}
static double count(const struct turn *t) {
    return (double)t->count;
}
static double records(const struct turn *t) {
    return (double)t->records;
}
static double commits(const struct turn *t) {
    return (double)t->commits;
}

static void report_side(FILE *to, const struct bench *b, const struct bench_case *c,
                        const struct side *s) {
    char text[32];
    if (s->failed) {
        fprintf(to, "  %-16s failed: %s\n", s->name, s->why);
        return;
    }
    fprintf(to, "  %-16s %15s", s->name, value_text(c->unit, side_median(c, s), text));
    if (side_figure(c, s, count) > 0)
        fprintf(to, "  p50 %.0f p99 %.0f p99.9 %.0f max %.0f us", side_figure(c, s, p50),
                side_figure(c, s, p99), side_figure(c, s, p999), side_figure(c, s, longest));
    if (side_figure(c, s, records) > 0)
        fprintf(to, "  cpu %.0f ns/record", side_figure(c, s, cpu_ns_per_record));
    if (side_figure(c, s, commits) > 0)
        fprintf(to, "  %.3g flushes/commit", side_least(c, s, flushes_per_commit));
    if (side_figure(c, s, written_per_byte) > 0)
        fprintf(to, "  %.3g bytes/byte", side_figure(c, s, written_per_byte));
    fprintf(to, "  %.0f MiB", side_figure(c, s, peak));
    if (side_figure(c, s, allocations_per_record) >= 0)
        fprintf(to, "  %.3g allocations/record", side_figure(c, s, allocations_per_record));
    if (s->peer && !side_syncs(b, c, s))
        fprintf(to, "  NOT DURABLE");
    fprintf(to, "%s%s\n", s->turn[0].note[0] != '\0' ? "  " : "", s->turn[0].note);
}

static const char *number(double v, char out[32]) {
    if (fabs(v) >= 1000)
        return scaled(v, "", out);
    snprintf(out, 32, fabs(v) >= 100 ? "%.0f" : fabs(v) >= 10 ? "%.1f" : "%.2f", v);
    return out;
}

static void goal_text(const struct bench_case *c, const struct goal *g, char *out, size_t size) {
    char a[32], b[32], d[32], limit[32];
    if (!g->known) {
        snprintf(out, size, "not measured: %s", g->text);
        return;
    }
    bool plain = g->against == AGAINST_NOTHING;
    snprintf(out, size, "%s %s%s%s%s (%s to %s)",
             plain ? value_text(c->unit, g->median, a) : number(g->median, a), plain ? "" : g->text,
             g->name[0] != '\0' ? " (" : "", g->name, g->name[0] != '\0' ? ")" : "",
             plain ? value_text(c->unit, g->least, b) : number(g->least, b),
             plain ? value_text(c->unit, g->most, d) : number(g->most, d));
    size_t n = strlen(out);
    if (g->limit > 0)
        snprintf(out + n, size - n, "; goal %s %s: %s", g->at_least ? "at least" : "at most",
                 plain ? value_text(c->unit, g->limit, limit) : number(g->limit, limit),
                 g->reached ? "reached" : "NOT REACHED");
}

void report_case(FILE *to, const struct bench *b, const struct bench_case *c) {
    fprintf(to, "%s: %s\n", c->name, c->title);
    for (int i = 0; i < c->sides; i++)
        report_side(to, b, c, &c->side[i]);
    for (int i = 0; i < c->goals; i++) {
        char text[256];
        goal_text(c, &c->goal[i], text, sizeof text);
        fprintf(to, "  -> %s\n", text);
    }
    fprintf(to, "\n");
    fflush(to);
}

void report_brief(FILE *to, const struct bench_case *c) {
    char text[256];
    fprintf(to, "%s\n   ", c->title);
    for (int i = 0; i < c->sides; i++)
        fprintf(to, " %s %s%s", c->side[i].name,
                c->side[i].failed ? c->side[i].why
                                  : value_text(c->unit, side_median(c, &c->side[i]), text),
                i + 1 < c->sides ? "," : "\n");
    for (int i = 0; i < c->goals; i++) {
        if (!c->goal[i].known && c->goal[i].against != AGAINST_SIDE)
            continue;
        goal_text(c, &c->goal[i], text, sizeof text);
        fprintf(to, "    -> %s\n", text);
    }
    fflush(to);
}

void report_verdict(FILE *to, const struct bench *b) {
    int reached = 0, missed = 0, failed = 0;
    for (int i = 0; i < b->case_count; i++) {
        const struct bench_case *c = &b->cases[i];
        for (int k = 0; k < c->goals && c->rounds > 0; k++) {
            reached += c->goal[k].limit > 0 && c->goal[k].known && c->goal[k].reached;
            missed += c->goal[k].limit > 0 && c->goal[k].known && !c->goal[k].reached;
        }
        failed += c->rounds > 0 && c->side[0].failed;
    }
    fprintf(to, "\n%d of %d goals are reached on this disk.", reached, reached + missed);
    if (missed > 0) {
        fprintf(to, " Not by:");
        for (int i = 0; i < b->case_count; i++)
            for (int k = 0; k < b->cases[i].goals && b->cases[i].rounds > 0; k++)
                if (b->cases[i].goal[k].limit > 0 && b->cases[i].goal[k].known &&
                    !b->cases[i].goal[k].reached)
                    fprintf(to, " %s (%.3g %s);", b->cases[i].name, b->cases[i].goal[k].median,
                            b->cases[i].goal[k].text);
    }
    if (failed > 0)
        fprintf(to, " %d could not be measured.", failed);
    fprintf(to, "\nA ratio counts that stays on its side of the goal in run after run: look at the "
                "spread in "
                "brackets, and run it again when the machine is idle.\n");
    if (strcmp(b->file_system, "tmpfs") == 0)
        fprintf(to, "This directory is in memory: nothing in it is durable, and the ratios say "
                    "nothing of a disk.\n");
    if (b->flushes_per_write > 0)
        fprintf(to, "One durable write is %.2g device flushes here.\n", b->flushes_per_write);
}

void report_summary(FILE *to, const struct bench *b) {
    char limit[32], median[32], least[32], most[32];
    int reached = 0, missed = 0;
    fprintf(to, "%-20s %-30s %12s %22s %12s  %s\n", "case", "measured in", "median", "spread",
            "goal", "verdict");
    for (int i = 0; i < b->case_count; i++)
        for (int k = 0; k < b->cases[i].goals; k++) {
            const struct bench_case *c = &b->cases[i];
            const struct goal *g = &c->goal[k];
            char spread[72];
            if (g->limit <= 0 || c->rounds == 0)
                continue;
            bool time = g->against == AGAINST_NOTHING && c->unit == LATENCY;
            double unit = time ? 1e6 : 1;
            snprintf(spread, sizeof spread, "%s to %s", number(g->least / unit, least),
                     number(g->most / unit, most));
            fprintf(to, "%-20s %-30s %12s %22s %4s %7s  %s\n", c->name, time ? "ms" : g->text,
                    g->known ? number(g->median / unit, median) : "-", g->known ? spread : "-",
                    g->at_least ? ">=" : "<=", number(g->limit / unit, limit),
                    !g->known    ? "not measured"
                    : g->reached ? "reached"
                                 : "NOT REACHED");
            reached += g->known && g->reached, missed += g->known && !g->reached;
        }
    fprintf(to, "%d goals reached, %d not\n", reached, missed);
}

/* ---- JSON */

static void json_text(FILE *to, const char *text) {
    fputc('"', to);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', to);
        if ((unsigned char)*text >= ' ')
            fputc(*text, to);
    }
    fputc('"', to);
}

static void json_turn(FILE *to, const struct turn *t) {
    fprintf(
        to,
        "{\"value\": %.17g, \"ns\": %llu, \"records\": %llu, \"commits\": %llu, \"payload_bytes\": "
        "%llu, "
        "\"device_bytes\": %llu, "
        "\"device_writes\": %llu, \"device_flushes\": %llu, \"own_bytes\": %llu, \"cpu_ns\": %llu, "
        "\"peak_memory\": %llu, "
        "\"log_memory\": %llu",
        t->value, (unsigned long long)t->ns, (unsigned long long)t->records,
        (unsigned long long)t->commits, (unsigned long long)t->payload,
        (unsigned long long)t->device_bytes, (unsigned long long)t->device_writes,
        (unsigned long long)t->device_flushes, (unsigned long long)t->own_bytes,
        (unsigned long long)t->cpu_ns, (unsigned long long)t->peak_memory,
        (unsigned long long)t->log_memory);
    if (t->allocations != UINT64_MAX)
        fprintf(to, ", \"allocations\": %llu", (unsigned long long)t->allocations);
    if (t->count != 0)
        fprintf(to,
                ", \"latency_ns\": {\"count\": %llu, \"p50\": %llu, \"p99\": %llu, \"p99.9\": "
                "%llu, \"max\": %llu}",
                (unsigned long long)t->count, (unsigned long long)t->p50,
                (unsigned long long)t->p99, (unsigned long long)t->p999,
                (unsigned long long)t->max);
    if (t->note[0] != '\0') {
        fprintf(to, ", \"note\": ");
        json_text(to, t->note);
    }
    fputc('}', to);
}

static void json_side(FILE *to, const struct bench *b, const struct bench_case *c,
                      const struct side *s) {
    static const struct {
        const char *name;
        double (*of)(const struct turn *);
    } medians[] = {{"p50_us", p50},
                   {"p99_us", p99},
                   {"p99.9_us", p999},
                   {"max_us", longest},
                   {"peak_mib", peak},
                   {"log_memory_mib", log_memory},
                   {"cpu_ns_per_record", cpu_ns_per_record},
                   {"allocations_per_record", allocations_per_record},
                   {"written_per_byte", written_per_byte}};
    fprintf(to, "      {\"name\": ");
    json_text(to, s->name);
    fprintf(to, ", \"peer\": %s", s->peer ? "true" : "false");
    if (s->failed) {
        fprintf(to, ", \"failed\": ");
        json_text(to, s->why);
        fputc('}', to);
        return;
    }
    fprintf(to, ", \"value\": %.17g", side_median(c, s));
    for (size_t i = 0; i < sizeof medians / sizeof medians[0]; i++)
        fprintf(to, ", \"%s\": %.6g", medians[i].name, side_figure(c, s, medians[i].of));
    fprintf(to,
            ", \"flushes_per_commit\": %.6g, \"device_bytes_per_byte\": %.6g, \"syncs\": %s,\n     "
            "  \"turns\": [",
            side_least(c, s, flushes_per_commit), side_least(c, s, device_bytes_per_byte),
            side_syncs(b, c, s) ? "true" : "false");
    for (int i = 0; i < c->rounds; i++) {
        fprintf(to, "%s", i > 0 ? ",\n         " : "");
        json_turn(to, &s->turn[i]);
    }
    fputs("]}", to);
}

static void json_goal(FILE *to, const struct bench_case *c, const struct goal *g) {
    fprintf(to, "      {\"measured_in\": ");
    json_text(to, g->text);
    if (g->against == AGAINST_SIDE) {
        fprintf(to, ", \"against\": ");
        json_text(to, c->side[g->side].name);
    } else if (g->name[0] != '\0') {
        fprintf(to, ", \"against\": ");
        json_text(to, g->name);
    }
    if (g->known)
        fprintf(to, ", \"median\": %.6g, \"least\": %.6g, \"most\": %.6g", g->median, g->least,
                g->most);
    if (g->limit > 0)
        fprintf(to, ", \"at_%s\": %.6g, \"reached\": %s", g->at_least ? "least" : "most", g->limit,
                !g->known    ? "null"
                : g->reached ? "true"
                             : "false");
    fputc('}', to);
}

static void processor_name(char *out, size_t size) {
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "r");
    snprintf(out, size, "unknown");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon != NULL) {
            colon[strcspn(colon, "\n")] = '\0';
            snprintf(out, size, "%s", colon + 2);
            break;
        }
    }
    if (f != NULL)
        fclose(f);
}

static void json_machine(FILE *to, const struct bench *b) {
    struct utsname u;
    char date[32], cpu[200];
    time_t now = time(NULL);
    struct tm parts;
    uname(&u);
    gmtime_r(&now, &parts);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &parts);
    processor_name(cpu, sizeof cpu);
    fprintf(to, "  \"date\": \"%s\", \"kernel\": ", date);
    json_text(to, u.release);
    fprintf(to, ", \"processor\": ");
    json_text(to, cpu);
    fprintf(to, ", \"processors\": %ld, \"file_system\": \"%s\", \"floor\": ", measure_processors(),
            b->file_system);
    json_text(to, b->choice);
    fprintf(to, ",\n  \"load_before\": %.3g", b->load_before);
    fprintf(to,
            ",\n  \"flushes_per_durable_write\": %.6g, \"slice_s\": %g, \"slices\": %u, "
            "\"rounds\": %u,\n",
            b->flushes_per_write, (double)b->slice_ns / 1e9, b->slices, b->rounds);
}

void report_json(FILE *to, const struct bench *b) {
    static const char *const units[] = {"records/s", "commits/s", "bytes/s", "ns", "bytes/record"};
    fprintf(to, "{\n");
    json_machine(to, b);
    fprintf(to, "  \"cases\": [\n");
    for (int i = 0; i < b->case_count && b->cases[i].rounds > 0; i++) {
        const struct bench_case *c = &b->cases[i];
        fprintf(to, "%s    {\"name\": \"%s\", \"title\": ", i > 0 ? ",\n" : "", c->name);
        json_text(to, c->title);
        fprintf(to, ", \"unit\": \"%s\", \"rounds\": %d, \"contenders\": [\n", units[c->unit],
                c->rounds);
        for (int k = 0; k < c->sides; k++) {
            json_side(to, b, c, &c->side[k]);
            fputs(k + 1 < c->sides ? ",\n" : "],\n", to);
        }
        fprintf(to, "     \"ratios\": [\n");
        for (int k = 0; k < c->goals; k++) {
            json_goal(to, c, &c->goal[k]);
            fputs(k + 1 < c->goals ? ",\n" : "", to);
        }
        fputs("]}", to);
    }
    fprintf(to, "\n  ]\n}\n");
}
