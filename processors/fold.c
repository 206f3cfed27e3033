/* SPDX-License-Identifier: Apache-2.0 */
#include "processors/fold.h"

#include <stdio.h>
#include <string.h>

#include "connectors/text/json_text.h"

const char *const fold_names[FOLD_NAMES] = {"count", "sum", "mean", "min", "max", "first", "last"};

uint32_t fold_parse(const char *list) {
    uint32_t what = 0;
    for (;;) {
        list += strspn(list, " ");
        size_t len = strcspn(list, ", ");
        uint32_t bit = 0;
        for (int i = 0; i < FOLD_NAMES; i++)
            if (strlen(fold_names[i]) == len && memcmp(fold_names[i], list, len) == 0)
                bit = 1u << i;
        if (bit == 0 || (what & bit) != 0)
            return 0;
        what |= bit;
        list += len;
        list += strspn(list, " ");
        if (*list == 0)
            return what;
        if (*list++ != ',')
            return 0;
    }
}

void fold_init(fold *f, uint32_t what) {
    *f = (fold){.what = what};
}

static int place_compare(const struct fold_place *a, const struct fold_place *b) {
    if (a->time != b->time)
        return a->time < b->time ? -1 : 1;
    if (a->stream != b->stream)
        return a->stream < b->stream ? -1 : 1;
    return a->offset < b->offset ? -1 : a->offset > b->offset;
}

static void take_end(struct fold_end *e, const struct fold_end *other, int sign) {
    if (other->set && (!e->set || place_compare(&other->at, &e->at) * sign > 0))
        *e = *other;
}

void fold_add(fold *f, const struct fold_value *v) {
    f->count++;
    if (v->bytes == NULL)
        return;
    f->values++;
    if ((f->what & (FOLD_SUM | FOLD_MEAN)) != 0)
        exact_add(&f->sum, v->n);
    if (f->values == 1 || number_compare(v->n, f->min) < 0)
        f->min = v->n;
    if (f->values == 1 || number_compare(v->n, f->max) > 0)
        f->max = v->n;
    struct fold_end end = {v->at, v->bytes, v->len, true};
    if ((f->what & FOLD_FIRST) != 0)
        take_end(&f->first, &end, -1);
    if ((f->what & FOLD_LAST) != 0)
        take_end(&f->last, &end, 1);
}

void fold_merge(fold *f, const fold *other) {
    exact_merge(&f->sum, &other->sum);
    if (other->values != 0 && (f->values == 0 || number_compare(other->min, f->min) < 0))
        f->min = other->min;
    if (other->values != 0 && (f->values == 0 || number_compare(other->max, f->max) > 0))
        f->max = other->max;
    take_end(&f->first, &other->first, -1);
    take_end(&f->last, &other->last, 1);
    f->count += other->count;
    f->values += other->values;
}

/* ---- as bytes: of this machine's byte order, as counters in tables are */

static bool put(struct buffer *out, const void *bytes, size_t size) {
    return buffer_add(out, bytes, size);
}

static bool put_number(struct buffer *out, number n) {
    unsigned char whole = n.whole;
    return put(out, &whole, 1) && (n.whole ? put(out, &n.n, 8) : put(out, &n.d, 8));
}

static bool put_end(struct buffer *out, const struct fold_end *e) {
    unsigned char set = e->set;
    return put(out, &set, 1) &&
           (!e->set ||
            (put(out, &e->at.time, 8) && put(out, &e->at.stream, 4) && put(out, &e->at.offset, 8) &&
             put(out, &e->len, 4) && put(out, e->bytes, e->len)));
}

bool fold_encode(const fold *f, struct buffer *out) {
    uint8_t sum[EXACT_SIZE_MAX];
    bool good = put(out, &f->count, 8) && put(out, &f->values, 8);
    if ((f->what & (FOLD_SUM | FOLD_MEAN)) != 0)
        good = good && put(out, sum, exact_encode(&f->sum, sum));
    if ((f->what & FOLD_MIN) != 0)
        good = good && put_number(out, f->min);
    if ((f->what & FOLD_MAX) != 0)
        good = good && put_number(out, f->max);
    if ((f->what & FOLD_FIRST) != 0)
        good = good && put_end(out, &f->first);
    if ((f->what & FOLD_LAST) != 0)
        good = good && put_end(out, &f->last);
    return good;
}

struct from {
    const char *data;
    size_t len, at;
};

static bool get(struct from *f, void *out, size_t size) {
    if (size > f->len - f->at)
        return false;
    memcpy(out, f->data + f->at, size);
    f->at += size;
    return true;
}

static bool get_number(struct from *f, number *n) {
    unsigned char whole;
    *n = (number){false, 0, 0};
    if (!get(f, &whole, 1) || whole > 1)
        return false;
    n->whole = whole == 1;
    return n->whole ? get(f, &n->n, 8) : get(f, &n->d, 8);
}

static bool get_end(struct from *f, struct fold_end *e) {
    unsigned char set;
    if (!get(f, &set, 1) || set > 1)
        return false;
    e->set = set == 1;
    if (!e->set)
        return true;
    if (!get(f, &e->at.time, 8) || !get(f, &e->at.stream, 4) || !get(f, &e->at.offset, 8) ||
        !get(f, &e->len, 4) || e->len > f->len - f->at)
        return false;
    e->bytes = f->data + f->at;
    f->at += e->len;
    return true;
}

bool fold_decode(fold *f, uint32_t what, const char *data, size_t len) {
    struct from from = {data, len, 0};
    fold_init(f, what);
    if (!get(&from, &f->count, 8) || !get(&from, &f->values, 8))
        return false;
    if ((what & (FOLD_SUM | FOLD_MEAN)) != 0) {
        size_t took = exact_decode(&f->sum, (const uint8_t *)data + from.at, len - from.at);
        if (took == 0)
            return false;
        from.at += took;
    }
    return ((what & FOLD_MIN) == 0 || get_number(&from, &f->min)) &&
           ((what & FOLD_MAX) == 0 || get_number(&from, &f->max)) &&
           ((what & FOLD_FIRST) == 0 || get_end(&from, &f->first)) &&
           ((what & FOLD_LAST) == 0 || get_end(&from, &f->last)) && from.at == len;
}

/* ---- as JSON */

static bool print_number(struct buffer *out, bool there, number n) {
    char text[NUMBER_TEXT_MAX];
    return there ? buffer_add(out, text, number_text(n, text)) : buffer_add_text(out, "null");
}

static bool print_mean(const fold *f, struct buffer *out) {
    number sum, mean = {true, 0, 0};
    bool there = f->values != 0 && exact_value(&f->sum, &sum);
    if (there) {
        double d = (sum.whole ? (double)sum.n : sum.d) / (double)f->values;
        mean = (number){false, 0, d};
        if (d > -1e15 && d < 1e15 && d == (double)(int64_t)d)
            mean = (number){true, (int64_t)d, 0};
    }
    return print_number(out, there, mean);
}

/* A value that is a number stays one. */
static bool print_end(const struct fold_end *e, struct buffer *out) {
    number n;
    if (!e->set)
        return buffer_add_text(out, "null");
    return number_parse(&n, e->bytes, e->len) ? buffer_add(out, e->bytes, e->len)
                                              : json_add_string(out, e->bytes, e->len);
}

bool fold_print(const fold *f, struct buffer *out) {
    char text[32];
    number sum = {true, 0, 0};
    bool good = true;
    for (int i = 0, n = 0; i < FOLD_NAMES; i++) {
        if ((f->what >> i & 1) == 0)
            continue;
        snprintf(text, sizeof text, "%s\"%s\":", n++ == 0 ? "" : ",", fold_names[i]);
        good = good && buffer_add_text(out, text);
        switch (1 << i) {
        case FOLD_COUNT:
            snprintf(text, sizeof text, "%llu", (unsigned long long)f->count);
            good = good && buffer_add_text(out, text);
            break;
        case FOLD_SUM:
            good = good && print_number(out, f->values != 0 && exact_value(&f->sum, &sum), sum);
            break;
        case FOLD_MEAN:
            good = good && print_mean(f, out);
            break;
        case FOLD_MIN:
            good = good && print_number(out, f->values != 0, f->min);
            break;
        case FOLD_MAX:
            good = good && print_number(out, f->values != 0, f->max);
            break;
        case FOLD_FIRST:
            good = good && print_end(&f->first, out);
            break;
        default:
            good = good && print_end(&f->last, out);
        }
    }
    return good;
}
