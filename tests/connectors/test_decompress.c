/* SPDX-License-Identifier: Apache-2.0
 *
 * Compressed files are read by offset as plain ones are, in reads of any size and order. A file
 * that is cut anywhere gives what is whole, says so, and goes on when the rest is there. A damaged
 * byte never passes for the end of the file. Memory is bounded. Formats are told by their bytes.
 *
 * The archives are in tests/fuzz/corpus/decompress/: text.* is one member, two.* are two.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "connectors/file/decompress.h"
#include "tests/support/measure.h"

static const char *const archives[] = {"text.gz", "two.gz", "text.zst", "two.zst",
                                       "text.xz", "two.xz", "text.bz2", "two.bz2"};
#define ARCHIVES (sizeof archives / sizeof archives[0])

static char text[8192]; /* what all of them hold */
static size_t text_len;

struct archive {
    const char *name;
    uint8_t bytes[4096];
    size_t len;
    int fd; /* a copy that may be changed */
};

static void contents(struct archive *a, const void *bytes, size_t n) {
    assert_int_equal(ftruncate(a->fd, 0), 0);
    assert_int_equal(pwrite(a->fd, bytes, n, 0), n);
}

static void open_archive(struct archive *a, const char *name) {
    char path[1024];
    snprintf(path, sizeof path, "%s/tests/fuzz/corpus/decompress/%s", getenv("PAWL_SOURCE_DIR"),
             name);
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    a->name = name;
    a->len = fread(a->bytes, 1, sizeof a->bytes, in);
    fclose(in);
    assert_in_range(a->len, 1, sizeof a->bytes - 1);
    a->fd = memfd_create("archive", MFD_CLOEXEC);
    assert_true(a->fd >= 0);
    contents(a, a->bytes, a->len);
}

/* False: this build lacks the library, which the test says. */
static bool readable(const struct archive *a) {
    const struct decompress_format *f = decompress_format_of(a->fd);
    assert_non_null(f);
    if (!f->available)
        print_message("SKIPPED: %s: this build has no %s\n", a->name, f->library);
    return f->available;
}

static struct decompress *begin(struct archive *a) {
    struct decompress *d = decompress_new(a->fd, decompress_format_of(a->fd));
    assert_non_null(d);
    return d;
}

/* Reads all in pieces of `size`; returns the length. More than `out` has room for is dropped. */
static size_t read_all(struct decompress *d, char *out, size_t size) {
    size_t n = 0;
    for (;;) {
        ssize_t got = decompress_read(d, out + (n < sizeof text ? n : 0), size, n);
        assert_true(got >= 0);
        n += (size_t)got;
        if ((size_t)got < size)
            return n;
    }
}

static void holds(const char *name, const char *out, size_t n) {
    if (n != text_len || memcmp(out, text, n) != 0)
        fail_msg("%s: read %zu bytes that are not the text", name, n);
}

static void every_size_and_order(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 7, 100, 1021, 8192};
    static char out[2 * sizeof text];
    for (size_t i = 0; i < ARCHIVES; i++) {
        struct archive a;
        open_archive(&a, archives[i]);
        if (readable(&a)) {
            struct decompress *d = begin(&a);
            for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
                holds(a.name, out, read_all(d, out, sizes[k]));
                assert_int_equal(decompress_state(d), DECOMPRESS_WHOLE);
            }
            for (size_t k = 0; k < 3000; k++) { /* anywhere, forwards and back */
                size_t at = k * 7919 % (text_len + 10), n = k * 31 % 500;
                ssize_t got = decompress_read(d, out, n, at);
                size_t want = at >= text_len ? 0 : text_len - at < n ? text_len - at : n;
                assert_int_equal(got, want);
                assert_memory_equal(out, text + (at < text_len ? at : 0), want);
            }
            decompress_free(d);
        }
        close(a.fd);
    }
}

static void cut_at_every_byte_and_grown_again(void **state) {
    (void)state;
    static char out[2 * sizeof text];
    for (size_t i = 0; i < ARCHIVES; i++) {
        struct archive a;
        size_t members = 0;
        open_archive(&a, archives[i]);
        for (size_t n = 0; readable(&a) && n < a.len; n++) {
            contents(&a, a.bytes, n);
            if (decompress_format_of(a.fd) == NULL) { /* not enough to tell */
                assert_true(n < DECOMPRESS_MAGIC);
                contents(&a, a.bytes, a.len);
                continue;
            }
            struct decompress *d = begin(&a);
            char why[200];
            uint64_t in, reached;
            size_t got = read_all(d, out, 333);
            assert_true(got <= text_len && memcmp(out, text, got) == 0);
            decompress_reached(d, &in, &reached);
            assert_true(in <= n && n - in < DECOMPRESS_MAGIC);
            assert_int_equal(reached, got);
            members += decompress_state(d) == DECOMPRESS_WHOLE;
            if (decompress_state(d) != DECOMPRESS_WHOLE)
                assert_int_equal(decompress_state(d), DECOMPRESS_CUT);
            decompress_why(d, why, sizeof why);
            assert_int_equal(strstr(why, "ends in the middle") != NULL,
                             decompress_state(d) == DECOMPRESS_CUT);
            contents(&a, a.bytes, a.len);
            got += (size_t)decompress_read(d, out + got, sizeof out - got, got);
            holds(a.name, out, got);
            assert_int_equal(decompress_state(d), DECOMPRESS_WHOLE);
            decompress_free(d);
        }
        /* cut between two members it is whole: nothing shows that there were more */
        if (readable(&a) && strncmp(a.name, "text", 4) == 0)
            assert_int_equal(members, 0);
        close(a.fd);
    }
}

static void one_byte_damaged_anywhere(void **state) {
    (void)state;
    static char out[2 * sizeof text];
    for (size_t i = 0; i < ARCHIVES; i++) {
        struct archive a;
        open_archive(&a, archives[i]);
        bool have = readable(&a);
        size_t found = 0;
        for (size_t n = 0; have && n < a.len; n++)
            for (int bit = 0; bit < 8; bit += 3) {
                a.bytes[n] ^= (uint8_t)(1u << bit);
                contents(&a, a.bytes, a.len);
                if (decompress_format_of(a.fd) != NULL &&
                    decompress_format_of(a.fd)->library != NULL) {
                    struct decompress *d = begin(&a);
                    size_t got = read_all(d, out, 5000);
                    if (decompress_state(d) == DECOMPRESS_WHOLE) {
                        /* a field that changes no content; the second frame has no checksum */
                        if (strcmp(a.name, "two.zst") != 0)
                            holds(a.name, out, got);
                    } else {
                        char why[200];
                        decompress_why(d, why, sizeof why);
                        assert_true(why[0] != 0);
                        found++;
                    }
                    decompress_free(d);
                }
                a.bytes[n] ^= (uint8_t)(1u << bit);
            }
        if (have)
            assert_true(found > a.len);
        close(a.fd);
    }
}

static void what_follows_a_member(void **state) {
    (void)state;
    static const struct {
        const char *label, *bytes;
        size_t len;
        int state;
    } cases[] = {
        {"nothing", "", 0, DECOMPRESS_WHOLE},
        {"NULs", "\0\0\0\0\0\0\0\0", 8, DECOMPRESS_WHOLE},
        {"a line of text", "tail\n", 5, DECOMPRESS_DAMAGED},
        {"a newline", "\n", 1, DECOMPRESS_DAMAGED},
    };
    static char out[2 * sizeof text];
    for (size_t i = 0; i < ARCHIVES; i++)
        for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
            struct archive a;
            open_archive(&a, archives[i]);
            if (readable(&a)) {
                memcpy(a.bytes + a.len, cases[k].bytes, cases[k].len);
                contents(&a, a.bytes, a.len + cases[k].len);
                struct decompress *d = begin(&a);
                holds(cases[k].label, out, read_all(d, out, 1000));
                assert_int_equal(decompress_state(d), cases[k].state);
                decompress_free(d);
            }
            close(a.fd);
        }
}

static void a_bomb_costs_no_memory(void **state) {
    (void)state;
    struct archive a;
    char out[4096], zeros[sizeof out] = {0};
    open_archive(&a, "zeros.bz2"); /* 100 MB in 113 bytes */
    if (readable(&a)) {
        uint64_t before = memory_kib();
        struct decompress *d = begin(&a);
        assert_int_equal(decompress_read(d, out, sizeof out, 99999000), 1000);
        assert_memory_equal(out, zeros, 1000);
        assert_int_equal(decompress_state(d), DECOMPRESS_WHOLE);
        assert_true(memory_kib() < before + 16 * 1024);
        decompress_free(d);
    }
    close(a.fd);
}

static void formats_are_told_by_their_bytes(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
        const char *name;
    } cases[] = {
        {"", 0, NULL},
        {"\x1F", 1, NULL},
        {"\x1F\x8B", 2, "gzip"},
        {"\x1F\x8B\x08\0", 4, "gzip"},
        {"\x1F\x8B\x07\0", 4, NULL},
        {"\x28\xB5\x2F\xFD", 4, "zstd"},
        {"(b) text", 8, NULL},
        {"\x5F\x2A\x4D\x18\1\0\0\0", 8, "zstd"},
        {"\xFD"
         "7zXZ\0\0",
         7, "xz"},
        {"BZh91AY&SY", 10, "bzip2"},
        {"BZh9 is text", 12, NULL},
        {"BZh\x39\x17\x72\x45\x38\x50\x90", 10, "bzip2"},
        {"BZh", 3, NULL},
        {"\x04\x22\x4D\x18", 4, "lz4"},
        {"\x1F\x9D\x90", 3, "compress"},
        {"PK\x03\x04", 4, "zip"},
        {"PK and text", 11, NULL},
        {"LZIP is text", 12, NULL},
        {"\xEF\xBB\xBFtext", 7, NULL},
        {"\xFF\xFEt\0", 4, NULL},
        {"\0\0\0\0", 4, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct decompress_format *f = decompress_format(cases[i].bytes, cases[i].len);
        if ((f == NULL) != (cases[i].name == NULL) ||
            (f != NULL && strcmp(f->name, cases[i].name) != 0))
            fail_msg("case %zu is taken for %s", i, f != NULL ? f->name : "plain");
        if (f != NULL && f->library == NULL) {
            errno = 0;
            assert_null(decompress_new(0, f));
            assert_int_equal(errno, ENOTSUP);
        }
    }
    assert_int_equal(decompress_stem("app.log.1.gz"), strlen("app.log.1"));
    assert_int_equal(decompress_stem("app.log.1.zst"), strlen("app.log.1"));
    assert_int_equal(decompress_stem("app.log.1"), 0);
    assert_int_equal(decompress_stem(".gz"), 0);
}

int main(void) {
    for (int i = 1; i <= 120; i++)
        text_len +=
            (size_t)snprintf(text + text_len, sizeof text - text_len, "line %d of the text\n", i);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_and_order),
        cmocka_unit_test(cut_at_every_byte_and_grown_again),
        cmocka_unit_test(one_byte_damaged_anywhere),
        cmocka_unit_test(what_follows_a_member),
        cmocka_unit_test(a_bomb_costs_no_memory),
        cmocka_unit_test(formats_are_told_by_their_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
