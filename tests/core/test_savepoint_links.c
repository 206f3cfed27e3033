/* SPDX-License-Identifier: Apache-2.0 */
/* A segment that gets a second name is not written over, whenever it gets it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#undef fail /* the library has one of its own */

#include "tests/support/test_dir.h"
#include "wal/wal.h"

static struct {
    const struct seam_ops *ops;
    struct seam *to;
} race;

/* Between the recycler's look at the names and its renaming. */
static int link_then_rename(struct seam *s, const char *from, const char *to) {
    int rc = race.ops->link(s, from, race.to);
    return rc < 0 ? rc : race.ops->rename(s, from, to);
}

static bool has(struct seam *s, const char *name) {
    int file = s->ops->open(s, name, SEAM_BUFFERED);
    if (file >= 0)
        s->ops->close(s, file);
    return file >= 0;
}

static void segment(struct seam *s, const char *name) {
    static char bytes[4096];
    memset(bytes, 'x', sizeof bytes);
    int file = s->ops->open(s, name, SEAM_CREATE | SEAM_RDWR | SEAM_BUFFERED);
    assert_true(file >= 0);
    assert_int_equal(s->ops->write(s, file, bytes, sizeof bytes, 0), sizeof bytes);
    s->ops->close(s, file);
}

static void while_it_is_recycled(void **state) {
    static const struct {
        const char *label;
        bool linked, raced, kept;
    } cases[] = {
        {"nobody else has it", false, false, false},
        {"it was linked before", true, false, true},
        {"it is linked meanwhile", false, true, true},
    };
    static struct seam_ops ops;
    struct points none = {NULL, NULL};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char log[64], other[64];
        struct seam *io;
        int file = 0;
        assert_int_equal(test_dir_make(log, "/tmp/test_links"), 0);
        assert_int_equal(test_dir_make(other, "/tmp/test_links"), 0);
        assert_int_equal(seam_create(log, false, PAWL_BACKEND_POSIX, PAWL_DIRECT_OFF, &io), 0);
        assert_int_equal(seam_create(other, false, PAWL_BACKEND_POSIX, PAWL_DIRECT_OFF, &race.to),
                         0);
        segment(io, "0000000000000000.seg");
        if (cases[i].linked)
            assert_int_equal(io->ops->link(io, "0000000000000000.seg", race.to), 0);
        race.ops = io->ops;
        ops = *io->ops;
        if (cases[i].raced)
            ops.rename = link_then_rename;
        io->ops = &ops;
        assert_int_equal(wal_drop_file(io, &none, 0, 4096, 5, &file), 0);
        io->ops = race.ops;
        if ((file >= 0) == cases[i].kept || has(io, "0000000000000005.seg") == cases[i].kept)
            print_error("%s\n", cases[i].label);
        assert_int_equal(file < 0, cases[i].kept);
        assert_int_equal(has(io, "0000000000000005.seg"), !cases[i].kept);
        assert_false(has(io, "0000000000000000.seg"));
        assert_int_equal(has(race.to, "0000000000000000.seg"), cases[i].kept);
        io->ops->destroy(io);
        race.to->ops->destroy(race.to);
        assert_int_equal(test_dir_remove(log), 0);
        assert_int_equal(test_dir_remove(other), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(while_it_is_recycled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
