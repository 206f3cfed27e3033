/* SPDX-License-Identifier: Apache-2.0 */
/* What is on disk is not to be trusted, even where its hash is right: each decoder refuses an entry
 * that is cut anywhere, and each field that another one or a limit contradicts (PAWL-2, PAWL-4).
 * An encoder without memory writes nothing. And each error code has a name and a text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "wal/error.h"
#include "wal/format.h"
#include "wal/mem.h"

#undef fail
#include <cmocka.h>

/* ---- one of each entry */

#define KIND(kind, ...) \
    static void encode_##kind(struct bytes *b) { \
        kind##_encode(b, &(__VA_ARGS__)); \
    } \
    static bool decode_##kind(const uint8_t *data, uint32_t len, uint32_t *at) { \
        struct kind##_entry e; \
        return kind##_decode(data, len, at, &e); \
    }
#define C_KIND(kind, ...) \
    static void encode_##kind(struct bytes *b) { \
        kind##_encode(b, &(struct kind)__VA_ARGS__); \
    } \
    static bool decode_##kind(const uint8_t *data, uint32_t len, uint32_t *at) { \
        struct kind e; \
        return kind##_decode(data, len, at, &e); \
    }

KIND(position, (struct position_entry){1, 2, 3, 10, 20})
KIND(producer, (struct producer_entry){.producer = 1, .epoch = 2, .first = 3, .last = 4})
KIND(catalog, (struct catalog_entry){CATALOG_STREAM, 1, 2, 3, "name", 4})
KIND(sink, (struct sink_entry){1, SINK_DECIDED, "name", 4})
KIND(index, (struct index_entry){1, 2, 3, 4})
/* 3 records, in order 1, 2 x 3; where they began: 100, 105, 103, each as twice its distance */
static const uint8_t order[] = {1, 2, 3}, marks[] = {0, 10, 3};
KIND(origin, (struct origin_entry){.stream = 1,
                                   .from = 100,
                                   .to = 110,
                                   .records = 3,
                                   .mark_kind = PAWL_MARKS_GIVEN,
                                   .thing = "file 7",
                                   .thing_len = 6,
                                   .note = "a",
                                   .note_len = 1,
                                   .order = order,
                                   .order_len = sizeof order,
                                   .marks = marks,
                                   .marks_len = sizeof marks})
C_KIND(c_stream, {1, 2, "name", 4})
C_KIND(c_producer, {.id = 1, .epoch = 2, .cookie_len = 3, .name = "name", .name_len = 4})
C_KIND(c_processor, {1, "name", 4})
C_KIND(c_next, {1, 2, 3})
C_KIND(c_position, {1, 2, 3, 4})
C_KIND(c_settings, {1, 2, 3})
C_KIND(c_sink, {1, "name", 4})
C_KIND(c_span, {8, 7})

static void encode_c_ids(struct bytes *b) {
    uint8_t *p = bytes_add(b, C_IDS_SIZE);
    if (p != NULL)
        c_ids_encode(p, &(struct c_ids){1, 2, 3, 4, 5, 6});
}
static bool decode_c_ids(const uint8_t *data, uint32_t len, uint32_t *at) {
    struct c_ids e;
    return c_ids_decode(data, len, at, &e);
}

static void encode_spilled(struct bytes *b) {
    spilled_encode(b, &(struct spilled_entry){1, 2, 3});
}
/* The only one in its run. */
static bool decode_spilled(const uint8_t *data, uint32_t len, uint32_t *at) {
    struct spilled_entry e;
    bool well = *at <= len && spilled_decode(data + *at, len - *at, &e);
    *at += well ? SPILLED_ENTRY_SIZE : 0;
    return well;
}

static void encode_record(struct bytes *b) {
    static const pawl_header h = {"h", "v", 1, 1};
    pawl_record r = {.key = "key",
                     .key_len = 3,
                     .value = "value",
                     .value_len = 5,
                     .headers = &h,
                     .header_count = 1};
    uint8_t *p = bytes_add(b, record_size(&r));
    if (p != NULL)
        record_encode(p, &r, 7);
}
static bool decode_record(const uint8_t *data, uint32_t len, uint32_t *at) {
    pawl_record r;
    return record_decode(data, len, at, &r);
}

enum kind {
    POSITION,
    PRODUCER,
    CATALOG,
    SINK,
    INDEX,
    ORIGIN,
    C_STREAM,
    C_PRODUCER,
    C_PROCESSOR,
    C_NEXT,
    C_POSITION,
    C_SETTINGS,
    C_SINK,
    C_SPAN,
    C_IDS,
    SPILLED,
    RECORD,
    KINDS
};
static const struct {
    const char *name;
    void (*encode)(struct bytes *b);
    bool (*decode)(const uint8_t *data, uint32_t len, uint32_t *at);
} kinds[KINDS] = {
    [POSITION] = {"position", encode_position, decode_position},
    [PRODUCER] = {"producer", encode_producer, decode_producer},
    [CATALOG] = {"catalog", encode_catalog, decode_catalog},
    [SINK] = {"sink", encode_sink, decode_sink},
    [INDEX] = {"index", encode_index, decode_index},
    [ORIGIN] = {"origin", encode_origin, decode_origin},
    [C_STREAM] = {"c_stream", encode_c_stream, decode_c_stream},
    [C_PRODUCER] = {"c_producer", encode_c_producer, decode_c_producer},
    [C_PROCESSOR] = {"c_processor", encode_c_processor, decode_c_processor},
    [C_NEXT] = {"c_next", encode_c_next, decode_c_next},
    [C_POSITION] = {"c_position", encode_c_position, decode_c_position},
    [C_SETTINGS] = {"c_settings", encode_c_settings, decode_c_settings},
    [C_SINK] = {"c_sink", encode_c_sink, decode_c_sink},
    [C_SPAN] = {"c_span", encode_c_span, decode_c_span},
    [C_IDS] = {"c_ids", encode_c_ids, decode_c_ids},
    [SPILLED] = {"spilled", encode_spilled, decode_spilled},
    [RECORD] = {"record", encode_record, decode_record},
};

#define BEFORE 8u /* bytes before the entry in its run */

static void make(enum kind k, struct mem *m, struct bytes *b) {
    mem_init(m, 0);
    bytes_init(b, m);
    assert_non_null(bytes_add(b, BEFORE));
    kinds[k].encode(b);
    assert_true(b->len > BEFORE && !b->failed);
}

static void cut_anywhere(void **state) {
    (void)state;
    for (enum kind k = 0; k < KINDS; k++) {
        struct mem m;
        struct bytes b;
        make(k, &m, &b);
        uint32_t len = (uint32_t)b.len;
        for (uint32_t n = 0; n <= len; n++) {
            uint32_t at = BEFORE;
            bool well = kinds[k].decode(b.data, n, &at);
            if (well != (n == len) || (well && at != len))
                fail_msg("%s, %u of %u bytes: %s, at %u", kinds[k].name, n, len,
                         well ? "taken" : "refused", at);
        }
        uint32_t far = UINT32_MAX;
        assert_false(kinds[k].decode(b.data, len, &far));
        bytes_free(&b);
    }
}

static void without_memory(void **state) {
    (void)state;
    for (enum kind k = 0; k < KINDS; k++) {
        struct mem m;
        struct bytes b;
        mem_init(&m, 1); /* no entry fits */
        bytes_init(&b, &m);
        kinds[k].encode(&b);
        assert_true(b.failed && b.len == 0);
        m.cap = 0;
        kinds[k].encode(&b); /* it stays failed */
        assert_true(b.failed && b.len == 0);
        bytes_free(&b);
    }
}

/* ---- fields that contradict each other */

static const struct lie {
    const char *label;
    enum kind kind;
    uint32_t at, width; /* in the entry */
    uint64_t value;
    bool taken;
} lies[] = {
    {"a position that is honest", POSITION, 16, 8, 20, true},
    {"its interval ends before it begins", POSITION, 16, 8, 21, false},
    {"reserved bytes of a position", POSITION, 12, 4, 1, false},
    {"a cookie at its limit", PRODUCER, 24, 4, COOKIE_MAX, true},
    {"a cookie above it", PRODUCER, 24, 4, COOKIE_MAX + 1, false},
    {"sequence 0", PRODUCER, 8, 8, 0, false},
    {"no sequence", PRODUCER, 8, 8, 5, true},
    {"sequences that go down", PRODUCER, 8, 8, 6, false},
    {"a catalog's name without bytes", CATALOG, 2, 2, 0, false}, /* and eight are left */
    {"a catalog's name above its limit", CATALOG, 2, 2, NAME_LEN_MAX + 1, false},
    {"a catalog's name beyond the run", CATALOG, 2, 2, 9, false},
    {"a sink's name without bytes", SINK, 6, 2, 0, false},
    {"a sink's name above its limit", SINK, 6, 2, SINK_NAME_MAX + 1, false},
    {"a sink's name beyond the run", SINK, 6, 2, 9, false},
    {"a stream's name above its limit", C_STREAM, 8, 4, NAME_LEN_MAX + 1, false},
    {"a stream's name beyond the run", C_STREAM, 8, 4, 9, false},
    {"a kept cookie above its limit", C_PRODUCER, 32, 4, COOKIE_MAX + 1, false},
    {"a producer's name above its limit", C_PRODUCER, 36, 4, NAME_LEN_MAX + 1, false},
    {"a producer's name beyond the run", C_PRODUCER, 36, 4, 9, false},
    {"a processor's name above its limit", C_PROCESSOR, 4, 4, NAME_LEN_MAX + 1, false},
    {"a processor's name beyond the run", C_PROCESSOR, 4, 4, 9, false},
    {"a kept sink's name without bytes", C_SINK, 6, 2, 0, false},
    {"a kept sink's name above its limit", C_SINK, 6, 2, SINK_NAME_MAX + 1, false},
    {"a kept sink's name beyond the run", C_SINK, 6, 2, 9, false},
    {"a span onto itself", C_SPAN, 8, 8, 8, false},
    {"reserved bytes of a spilled part", SPILLED, 20, 4, 1, false},
    {"a value above its limit", RECORD, 0, 4, RECORD_VALUE_MAX + 1u, false},
    {"a value beyond the run", RECORD, 0, 4, 6, false},
    /* origin: 48 bytes, thing at 48, note at 54, order at 55, marks at 58 */
    {"reserved bytes of an origin", ORIGIN, 44, 4, 1, false},
    {"an origin of no thing", ORIGIN, 32, 1, 0, false},
    {"an origin that ends before it begins", ORIGIN, 8, 8, 111, false},
    {"an origin's texts beyond the run", ORIGIN, 33, 1, 255, false},
    {"an order without records", ORIGIN, 24, 4, 0, false},
    {"a span of no records", ORIGIN, 57, 1, 0, false},
    {"an order that ends in a stream", ORIGIN, 55, 2, 0x8080, false},
    {"an order that ends in a partition", ORIGIN, 56, 2, 0x8080, false},
    {"an order that ends in a count", ORIGIN, 57, 1, 0x80, false},
    {"a mark below the interval", ORIGIN, 58, 1, 1, false},
    {"a mark above the interval", ORIGIN, 59, 1, 22, false},
    {"fewer marks than records", ORIGIN, 24, 4, 4, false},
    {"more marks than records", ORIGIN, 24, 4, 2, false},
    {"marks where the kind has none", ORIGIN, 31, 1, PAWL_MARKS_LINES, false},
    {"marks of a kind that is not known", ORIGIN, 31, 1, 9, true},
};

static void fields_that_contradict(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        const struct lie *l = &lies[i];
        struct mem m;
        struct bytes b;
        make(l->kind, &m, &b);
        uint32_t at = BEFORE;
        for (uint32_t k = 0; k < l->width; k++)
            b.data[BEFORE + l->at + k] = (uint8_t)(l->value >> 8 * k);
        bool taken = kinds[l->kind].decode(b.data, (uint32_t)b.len, &at);
        bool whole = l->kind != CATALOG || l->value != 0; /* decodes, and leaves its end */
        if (whole && taken != l->taken)
            fail_msg("%s: %s", l->label, taken ? "taken" : "refused");
        if (!whole)
            assert_true(taken && at < b.len);
        bytes_free(&b);
    }
}

/* Spans whose numbers need more than 32 bits, each alone. */
static void spans_beyond_their_numbers(void **state) {
    (void)state;
    for (int which = 0; which < 3; which++) {
        struct mem m;
        struct bytes b, o;
        mem_init(&m, 0);
        bytes_init(&b, &m);
        bytes_init(&o, &m);
        for (int k = 0; k < 3; k++)
            varint_put(&o, k == which ? UINT64_C(1) << 32 : 1);
        struct origin_entry e = {.records = 1,
                                 .thing = "t",
                                 .thing_len = 1,
                                 .order = o.data,
                                 .order_len = (uint32_t)o.len};
        origin_encode(&b, &e);
        uint32_t at = 0;
        assert_false(decode_origin(b.data, (uint32_t)b.len, &at));
        bytes_free(&b);
        bytes_free(&o);
    }
}

static void numbers_of_seven_bits(void **state) {
    (void)state;
    static const struct {
        uint8_t bytes[11];
        uint32_t len;
        bool taken;
        uint64_t value;
    } cases[] = {
        {{0}, 0, false, 0},
        {{0x7f}, 1, true, 127},
        {{0x80}, 1, false, 0},
        {{0x80, 1}, 2, true, 128},
        {{255, 255, 255, 255, 255, 255, 255, 255, 255, 1}, 10, true, UINT64_MAX},
        {{255, 255, 255, 255, 255, 255, 255, 255, 255, 2}, 10, false, 0},
        {{128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 0}, 11, false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t at = 0;
        uint64_t v;
        assert_int_equal(varint_get(cases[i].bytes, cases[i].len, &at, &v), cases[i].taken);
        assert_true(!cases[i].taken || (v == cases[i].value && at == cases[i].len));
    }
    assert_true(mark_fits(5, 3) && mark_fits(3, 5) && !mark_fits(0, UINT64_C(1) << 62) &&
                !mark_fits(UINT64_C(1) << 62, 0));
}

/* Where a record began: by number, by the given mark, or not known. */
static void marks_of_records(void **state) {
    (void)state;
    struct origin_entry e = {.from = 100, .to = 110, .records = 3, .mark_kind = PAWL_MARKS_GIVEN};
    uint64_t mark;
    e.marks = marks, e.marks_len = sizeof marks;
    static const uint64_t want[] = {100, 105, 103};
    for (uint32_t i = 0; i < 3; i++)
        assert_true(origin_mark(&e, i, &mark) && mark == want[i]);
    assert_false(origin_mark(&e, 3, &mark));
    e.marks_len = 2;
    assert_false(origin_mark(&e, 2, &mark));
    e.mark_kind = PAWL_MARKS_NUMBERS;
    assert_true(origin_mark(&e, 2, &mark) && mark == 102);
    assert_false(origin_mark(&e, 3, &mark));
    e.to = 101;
    assert_false(origin_mark(&e, 2, &mark));
    e.mark_kind = PAWL_MARKS_LINES;
    assert_false(origin_mark(&e, 0, &mark));
}

/* ---- records and headers */

static void headers_of_records(void **state) {
    (void)state;
    static const uint8_t raw[] = {1, 0, 2, 0, 'n', 'v', 'w', 0, 0, 1, 0, 'x'};
    pawl_record r = {.raw_headers = raw, .raw_headers_len = sizeof raw};
    pawl_header h;
    assert_int_equal(pawl_record_header(&r, 1, &h), 0);
    assert_true(h.name_len == 0 && h.value_len == 1 && *(const char *)h.value == 'x');
    assert_int_equal(pawl_record_header(&r, 2, &h), PAWL_NOT_FOUND);
    for (uint16_t n = 0; n <= sizeof raw; n++) {
        r.raw_headers_len = n;
        bool first = n >= 7, second = n >= 12;
        assert_int_equal(pawl_record_header(&r, 0, &h), first ? 0 : PAWL_NOT_FOUND);
        assert_int_equal(pawl_record_header(&r, 1, &h), second ? 0 : PAWL_NOT_FOUND);
        assert_int_equal(record_headers_whole(raw, n), n == 0 || n == 7 || n == 12);
    }
    r.raw_headers = NULL;
    assert_int_equal(pawl_record_header(&r, 0, &h), PAWL_NOT_FOUND);
    assert_int_equal(pawl_record_header(NULL, 0, &h), PAWL_INVALID);
    assert_int_equal(pawl_record_header(&r, 0, NULL), PAWL_INVALID);
    static const pawl_header two[] = {{"", "", 40000, 0}, {"", "", 40000, 0}};
    r.headers = two, r.header_count = 2;
    assert_true(record_size(&r) == 0);
    r.header_count = 0, r.value_len = RECORD_VALUE_MAX + 1u;
    assert_true(record_size(&r) == 0);
}

static void records_of_a_run(void **state) {
    (void)state;
    struct mem m;
    struct bytes b;
    mem_init(&m, 0);
    bytes_init(&b, &m);
    encode_record(&b);
    encode_record(&b);
    struct run r = {.count = 2, .len = (uint32_t)b.len};
    assert_true(records_whole(&r, b.data));
    r.count = 1; /* bytes are left */
    assert_false(records_whole(&r, b.data));
    r.count = 3;
    assert_false(records_whole(&r, b.data));
    r.count = 2, r.len--;
    assert_false(records_whole(&r, b.data));
    bytes_free(&b);
}

/* ---- segment headers */

enum copy_state { GOOD, ZERO, GARBAGE, NEWER, ELSEWHERE, WRONG };

static const struct header_case {
    enum copy_state a, b;
    enum segment_verdict want;
    int bad_copy;
} header_cases[] = {
    {GOOD, GOOD, SEGMENT_GOOD, -1},
    {GOOD, GARBAGE, SEGMENT_ONE_COPY, 1},
    {GARBAGE, GOOD, SEGMENT_ONE_COPY, 0},
    {ZERO, GOOD, SEGMENT_ONE_COPY, 0},
    {NEWER, NEWER, SEGMENT_UNKNOWN, -1},
    {NEWER, GARBAGE, SEGMENT_UNKNOWN, -1},
    {GARBAGE, NEWER, SEGMENT_UNKNOWN, -1},
    {ZERO, ZERO, SEGMENT_PREPARED, -1},
    {ELSEWHERE, ELSEWHERE, SEGMENT_PREPARED, -1},
    {ELSEWHERE, ZERO, SEGMENT_PREPARED, -1},
    {ZERO, GARBAGE, SEGMENT_BAD, -1},
    {GARBAGE, ZERO, SEGMENT_BAD, -1},
    {WRONG, WRONG, SEGMENT_BAD, -1},
};

static void put_copy(uint8_t *out, enum copy_state as) {
    static uint8_t both[SEGMENT_HEADER_SIZE];
    struct segment_header h = {.segment_size = MIB, .index = 3, .epoch = 1};
    h.features.read = as == NEWER ? UINT64_C(1) << 63 : 0;
    h.index = as == ELSEWHERE ? 2 : 3;
    segment_encode(both, &h);
    if (as == WRONG) /* a field, under its own hash */
        put64(both + 32, MIB + 1);
    put64(both + BLOCK - 8, format_hash(both, BLOCK - 8, 0));
    memcpy(out, both, BLOCK);
    if (as == ZERO)
        memset(out, 0, BLOCK);
    if (as == GARBAGE)
        out[100] ^= 1;
}

static void two_copies_of_a_header(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof header_cases / sizeof header_cases[0]; i++) {
        const struct header_case *c = &header_cases[i];
        uint8_t in[SEGMENT_HEADER_SIZE];
        struct segment_header h;
        int bad;
        put_copy(in, c->a);
        put_copy(in + BLOCK, c->b);
        enum segment_verdict got = segment_decode(in, 3, &h, &bad);
        if (got != c->want || bad != c->bad_copy)
            fail_msg("case %zu: %d, copy %d", i, (int)got, bad);
    }
}

/* Each field of a header, out of its bounds under a hash that is right. */
static void fields_of_a_header(void **state) {
    (void)state;
    static const struct {
        uint32_t at, width;
        uint64_t value;
        enum segment_verdict want;
    } cases[] = {
        {8, 4, FORMAT_VERSION, SEGMENT_GOOD}, {8, 4, FORMAT_VERSION + 1, SEGMENT_UNKNOWN},
        {12, 4, BLOCK * 2, SEGMENT_BAD},      {32, 8, 0, SEGMENT_BAD},
        {32, 8, MIB + 4096, SEGMENT_BAD},     {32, 8, 8192ull * MIB, SEGMENT_BAD},
        {40, 8, UINT64_MAX, SEGMENT_BAD},     {40, 8, 4, SEGMENT_PREPARED},
        {64, 8, 3 * MIB - 1, SEGMENT_GOOD},   {64, 8, 3 * MIB, SEGMENT_BAD},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t in[SEGMENT_HEADER_SIZE];
        struct segment_header h;
        int bad;
        put_copy(in, GOOD);
        for (uint32_t k = 0; k < cases[i].width; k++)
            in[cases[i].at + k] = (uint8_t)(cases[i].value >> 8 * k);
        put64(in + BLOCK - 8, format_hash(in, BLOCK - 8, 0));
        memcpy(in + BLOCK, in, BLOCK);
        if (segment_decode(in, 3, &h, &bad) != cases[i].want)
            fail_msg("case %zu", i);
    }
}

static void names_of_segments(void **state) {
    (void)state;
    uint64_t index;
    assert_true(segment_parse_name("00000000000000af.pawl", "pawl", &index) && index == 0xaf);
    static const char *const others[] = {"",
                                         "00000000000000AF.pawl",
                                         "00000000000000ag.pawl",
                                         "00000000000000a/.pawl",
                                         "00000000000000af-pawl",
                                         "00000000000000af.old",
                                         "00000000000000af.pawl2",
                                         "00000000000000a.pawl"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_false(segment_parse_name(others[i], "pawl", &index));
}

/* ---- codes */

static void each_code_has_a_name_and_a_text(void **state) {
    (void)state;
    static const struct {
        int code;
        const char *name;
    } codes[] = {{PAWL_OK, "OK"},
#define CODE(name, value, text) {PAWL_##name, #name},
                 PAWL_ERRORS(CODE)
#undef CODE
    };
    size_t n = sizeof codes / sizeof codes[0];
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(pawl_errname(codes[i].code), codes[i].name);
        assert_true(strlen(pawl_strerror(codes[i].code)) > 3);
        assert_string_not_equal(pawl_strerror(codes[i].code), "unknown error");
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(pawl_strerror(codes[i].code), pawl_strerror(codes[k].code));
    }
    assert_string_equal(pawl_errname(1), "UNKNOWN");
    assert_string_equal(pawl_strerror(-9999), "unknown error");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut_anywhere),           cmocka_unit_test(without_memory),
        cmocka_unit_test(fields_that_contradict), cmocka_unit_test(spans_beyond_their_numbers),
        cmocka_unit_test(numbers_of_seven_bits),  cmocka_unit_test(marks_of_records),
        cmocka_unit_test(headers_of_records),     cmocka_unit_test(records_of_a_run),
        cmocka_unit_test(two_copies_of_a_header), cmocka_unit_test(fields_of_a_header),
        cmocka_unit_test(names_of_segments),      cmocka_unit_test(each_code_has_a_name_and_a_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
