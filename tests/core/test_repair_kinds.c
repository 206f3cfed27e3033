/* SPDX-License-Identifier: Apache-2.0 */
/* test-timeout: 400
 *
 * A log with every kind of frame and every type of run in its oldest kept segment, in one between
 * and in the newest. Each is damaged alone. What repair says is compared with what was there; the
 * rest must be readable, no id may be given again, and a second repair changes nothing. What was
 * there is known from the bytes before the damage, by this file's own reading. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <unistd.h>

#include "tests/support/damage_log.h"
#undef fail
#include <cmocka.h>

static const char *const place_name[PLACES] = {"oldest", "middle", "newest"};

static char top[64], good[80], work_dir[80];

static void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void shell(const char *format, ...) {
    char command[400];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    assert_int_equal(system(command), 0);
}

/* ---- what can be read */

#define PARTS_MAX 64
struct part {
    uint32_t stream, partition;
    uint64_t first, end;
    uint64_t *numbers; /* by offset - first; 0: lost */
};
struct content {
    struct part parts[PARTS_MAX];
    int count;
};

static void read_part(pawl *log, struct part *p) {
    pawl_bounds b;
    pawl_reader *r;
    pawl_batch batch;
    pawl_error e;
    assert_int_equal(pawl_partition_bounds(log, p->stream, p->partition, &b), 0);
    p->first = b.first;
    p->end = b.end;
    p->numbers = calloc(b.end - b.first + 1, sizeof *p->numbers);
    assert_int_equal(pawl_reader_open(log, p->stream, p->partition, b.first, 0, &r), 0);
    for (;;) {
        int rc = pawl_read(r, 0, 0, &batch);
        if (rc == PAWL_LOST)
            continue;
        if (rc < 0) {
            pawl_last_error(&e);
            fail_msg("reading %u/%u: %s", p->stream, p->partition, e.message);
        }
        if (rc == 0)
            break;
        for (size_t i = 0; i < batch.count; i++)
            memcpy(&p->numbers[batch.from + i - p->first], batch.records[i].value, 8);
    }
    pawl_reader_close(r);
}

static void read_content(pawl *log, struct content *c) {
    pawl_stream_info s;
    c->count = 0;
    for (uint32_t i = 0; pawl_stream_at(log, i, &s) == 0; i++)
        for (uint32_t k = 0; k < s.partitions; k++) {
            assert_true(c->count < PARTS_MAX);
            c->parts[c->count] = (struct part){.stream = s.id, .partition = k};
            read_part(log, &c->parts[c->count++]);
        }
}

static void free_content(struct content *c) {
    for (int i = 0; i < c->count; i++)
        free(c->parts[i].numbers);
    c->count = 0;
}

static const struct part *part_of(const struct content *c, uint32_t stream, uint32_t partition) {
    for (int i = 0; i < c->count; i++)
        if (c->parts[i].stream == stream && c->parts[i].partition == partition)
            return &c->parts[i];
    return NULL;
}

/* ---- one case */

static struct content before;
static struct c_ids next_ids; /* of the log before the damage */

static char told[20000]; /* labels and messages */

static void note(void *arg, const pawl_finding *f) {
    (void)arg;
    size_t len = strlen(told);
    snprintf(told + len, sizeof told - len, "\n    %s at %llu: %s", f->label,
             (unsigned long long)f->lsn, f->message);
}

static pawl_check checked(const char *name, int (*call)(const char *, pawl_check *, pawl_error *)) {
    pawl_check c = PAWL_CHECK_INIT;
    pawl_error e = {0};
    told[0] = 0;
    c.finding = note;
    if (call(work_dir, &c, &e) != 0)
        fail_msg("%s: %s%s", name, e.message, told);
    return c;
}

static void flip(uint64_t segment, uint64_t at) {
    char path[160];
    uint8_t byte = 0;
    dl_file_name(path, work_dir, segment);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0 && pread(fd, &byte, 1, (off_t)at) == 1);
    byte ^= 0x10;
    assert_true(pwrite(fd, &byte, 1, (off_t)at) == 1);
    close(fd);
}

static bool lost_offset(const struct dl_range *lost, int n, const struct part *p, uint64_t offset) {
    for (int i = 0; i < n; i++)
        if (lost[i].stream == p->stream && lost[i].partition == p->partition &&
            offset >= lost[i].from && offset < lost[i].to)
            return true;
    return false;
}

/* Everything that wasn't lost is there, under its id, with its offset. */
static void check_content(const char *name, pawl *log, const struct dl_range *lost, int n) {
    struct content now;
    read_content(log, &now);
    for (int i = 0; i < before.count; i++) {
        const struct part *b = &before.parts[i], *a = part_of(&now, b->stream, b->partition);
        for (uint64_t o = b->first; o < b->end; o++) {
            bool gone = lost_offset(lost, n, b, o);
            if (b->numbers[o - b->first] == 0 && !gone)
                fail_msg("%s: offset %llu of %u/%u wasn't readable before the damage", name,
                         (unsigned long long)o, b->stream, b->partition);
            uint64_t got = a != NULL && o >= a->first && o < a->end ? a->numbers[o - a->first] : 0;
            if (got != (gone ? 0 : b->numbers[o - b->first]))
                fail_msg("%s: offset %llu of %u/%u is %s", name, (unsigned long long)o, b->stream,
                         b->partition, gone ? "there, and was lost" : "not there");
        }
        if (a != NULL && a->first != b->first)
            fail_msg("%s: %u/%u begins at %llu, not %llu", name, b->stream, b->partition,
                     (unsigned long long)a->first, (unsigned long long)b->first);
    }
    free_content(&now);
}

/* Does the frame have such an entry? op 0: a position of processor `id`; else a catalog change. */
static bool frame_has(const struct dl_frame *f, uint16_t op, uint32_t id) {
    for (uint32_t i = 0; i < f->h.runs; i++) {
        struct run r;
        const uint8_t *data;
        struct catalog_entry e;
        struct position_entry p;
        uint32_t at = 0;
        frame_run(f->data, &f->h, i, &r, &data);
        for (uint32_t k = 0; k < r.count; k++)
            if ((op != 0 && r.type == RUN_CATALOG && catalog_decode(data, r.len, &at, &e) &&
                 e.op == op && e.id == id) ||
                (op == 0 && r.type == RUN_POSITIONS && position_decode(data, r.len, &at, &p) &&
                 p.processor == id))
                return true;
    }
    return false;
}

struct row {
    uint32_t id;
    char name[128];
    uint64_t value; /* a producer's sequence */
};
struct rows {
    struct row of[3][32]; /* streams, producers, processors */
    int count[3];
    pawl_position positions[64];
    int position_count;
};
static struct rows rows_before;

static void read_rows(pawl *log, struct rows *x) {
    pawl_stream_info s;
    pawl_producer_info p;
    memset(x, 0, sizeof *x);
    for (; pawl_stream_at(log, (uint32_t)x->count[0], &s) == 0; x->count[0]++) {
        struct row *row = &x->of[0][x->count[0]];
        row->id = s.id;
        strcpy(row->name, s.name);
    }
    for (; pawl_producer_at(log, (uint32_t)x->count[1], &p) == 0; x->count[1]++) {
        struct row *row = &x->of[1][x->count[1]];
        row->id = p.id;
        row->value = p.sequence;
        strcpy(row->name, p.name);
    }
    for (struct row *row = x->of[2];
         pawl_processor_at(log, (uint32_t)x->count[2], &row->id, row->name) == 0; row++)
        x->count[2]++;
    while (pawl_position_at(log, (uint32_t)x->position_count, &x->positions[x->position_count]) ==
           0)
        x->position_count++;
    assert_true(x->count[0] < 32 && x->count[1] < 32 && x->count[2] < 32 && x->position_count < 64);
}

/* Every id is there, with its name; where the change that made it is lost and no checkpoint has it,
 * as lost-N. Returns how many have lost their names. */
static uint64_t check_rows(const char *name, pawl *log, int damaged) {
    static const char *const kinds[3] = {"stream", "producer", "processor"};
    const struct dl_frame *d = &dl_frames[damaged];
    struct rows now;
    uint64_t unnamed = 0;
    read_rows(log, &now);
    for (int kind = 0; kind < 3; kind++)
        for (int i = 0; i < rows_before.count[kind]; i++) {
            const struct row *b = &rows_before.of[kind][i], *a = now.of[kind];
            char lost[32];
            snprintf(lost, sizeof lost, "lost-%u", b->id);
            while (a < &now.of[kind][now.count[kind]] && a->id != b->id)
                a++;
            bool there = a < &now.of[kind][now.count[kind]];
            bool unused = dl_never_mentioned(b->name, strlen(b->name));
            bool gone = dl_place(d->h.lsn) == NEWEST && frame_has(d, (uint16_t)(kind + 1), b->id);
            if (gone && unused && !there)
                continue;
            if (!there || strcmp(a->name, gone ? lost : b->name) != 0 || a->value != b->value)
                fail_msg("%s: %s %u is %s", name, kinds[kind], b->id, there ? a->name : "gone");
            unnamed += gone;
        }
    for (int kind = 0; kind < 3; kind++)
        for (int i = 0; i < now.count[kind]; i++)
            for (int k = 0; k < i; k++)
                if (strcmp(now.of[kind][i].name, now.of[kind][k].name) == 0)
                    fail_msg("%s: two have the name %s", name, now.of[kind][i].name);
    for (int i = 0; i < rows_before.position_count; i++) {
        const pawl_position *b = &rows_before.positions[i];
        bool same = frame_has(d, 0, b->processor);
        for (int k = 0; k < now.position_count; k++)
            same |= now.positions[k].processor == b->processor &&
                    now.positions[k].stream == b->stream &&
                    now.positions[k].partition == b->partition &&
                    now.positions[k].offset == b->offset;
        if (!same)
            fail_msg("%s: the position of processor %u in %u/%u is not kept", name, b->processor,
                     b->stream, b->partition);
    }
    return unnamed;
}

/* A writer goes on, and gives no id again. */
static void check_new_ids(const char *name) {
    pawl *log = dl_open(work_dir, 0);
    uint32_t stream, processor;
    pawl_producer *producer;
    assert_int_equal(pawl_stream_create(log, "fresh", 1, &stream), 0);
    assert_int_equal(pawl_processor_register(log, "fresh", &processor), 0);
    assert_int_equal(pawl_producer_open(log, "fresh", &producer), 0);
    if (stream < next_ids.stream || processor < next_ids.processor ||
        producer->id < next_ids.producer)
        fail_msg("%s: ids are given again: stream %u, processor %u, producer %u", name, stream,
                 processor, producer->id);
    pawl_tx *tx = dl_begin(log);
    dl_put(tx, stream, 0, 10);
    assert_int_equal(pawl_tx_sequence(tx, producer, 1, 1, NULL, 0), 0);
    dl_commit(tx);
    pawl_producer_close(producer);
    assert_int_equal(pawl_close(log), 0);
    (void)checked(name, pawl_audit);
}

static bool same_files(void) {
    uint8_t *now = malloc(SEGMENT), *then = malloc(SEGMENT);
    char kept[100];
    bool same = true;
    snprintf(kept, sizeof kept, "%s/kept", top);
    for (uint64_t n = dl_first; n < dl_first + dl_count; n++)
        same &= dl_read_file(work_dir, n, now) && dl_read_file(kept, n, then) &&
                memcmp(now, then, SEGMENT) == 0;
    free(now);
    free(then);
    return same;
}

/* What repair said, against what was there. */
static void compare(const char *name, const pawl_check *c, int damaged, const struct dl_range *lost,
                    int n) {
    const struct dl_frame *d = &dl_frames[damaged];
    uint64_t records = 0, commits = d->h.kind == FRAME_COMMIT;
    for (int i = 0; i < n; i++)
        records += lost[i].told ? lost[i].to - lost[i].from : 0;
    if (c->repaired != 1 || c->lost_records != records || c->lost_commits != commits ||
        c->lost_changes != d->changes || c->lost_unknown != 0)
        fail_msg(
            "%s: %llu places, %llu records, %llu commits, %llu changes, %llu unknown, where 1, "
            "%llu, %llu, %llu, 0 are right%s",
            name, (unsigned long long)c->repaired, (unsigned long long)c->lost_records,
            (unsigned long long)c->lost_commits, (unsigned long long)c->lost_changes,
            (unsigned long long)c->lost_unknown, (unsigned long long)records,
            (unsigned long long)commits, (unsigned long long)d->changes, told);
}

static void run_case(const char *name, int damaged) {
    struct dl_range lost[32];
    int n = dl_ranges(damaged, lost);
    assert_true(n < 32);
    pawl_check c = checked(name, pawl_repair);
    compare(name, &c, damaged, lost, n);
    pawl_check v = checked(name, pawl_verify), a = checked(name, pawl_audit);
    if (v.lost_records != c.lost_records || v.lost_commits != c.lost_commits ||
        a.lost_records != c.lost_records || a.lost_names != c.lost_names)
        fail_msg("%s: verify and audit say otherwise than repair%s", name, told);
    shell("rm -rf '%s/kept' && cp -r '%s' '%s/kept'", top, work_dir, top);
    c = checked(name, pawl_repair);
    if (c.repaired != 0 || c.lost_records + c.lost_commits + c.lost_names != 0 || !same_files())
        fail_msg("%s: a second repair finds something to do%s", name, told);
    pawl *log = dl_open(work_dir, PAWL_OPEN_READ);
    check_content(name, log, lost, n);
    assert_int_equal(check_rows(name, log, damaged), a.lost_names);
    assert_int_equal(pawl_close(log), 0);
    log = dl_open(work_dir, 0);
    check_content(name, log, lost, n);
    assert_int_equal(pawl_close(log), 0);
    check_new_ids(name);
}

/* Is it the first frame of its label in its place, and does a later one vouch for it? */
static bool is_case(int k) {
    const struct dl_frame *f = &dl_frames[k];
    for (int i = 0; i < k; i++)
        if (dl_place(dl_frames[i].h.lsn) == dl_place(f->h.lsn) &&
            strcmp(dl_frames[i].label, f->label) == 0)
            return false;
    bool witnessed = dl_place(f->h.lsn) != NEWEST;
    for (int i = k + 1; !witnessed && i < dl_frame_count; i++)
        witnessed =
            dl_frames[i].h.durable > f->h.lsn && dl_frames[i].h.lsn / SEGMENT == f->h.lsn / SEGMENT;
    return witnessed;
}

static void copy_good(void) {
    shell("rm -rf '%s' && cp -r '%s' '%s'", work_dir, good, work_dir);
}

static void each_frame_damaged_alone(void **state) {
    (void)state;
    int cases = 0;
    char name[240];
    for (int k = 0; k < dl_frame_count; k++) {
        const struct dl_frame *f = &dl_frames[k];
        if (!is_case(k))
            continue;
        for (int body = 0; body < 2; body++) {
            uint64_t at = body == 0 ? 30 : frame_length(&f->h) - 8;
            if (body == 1 && frame_length(&f->h) == FRAME_HEADER_SIZE)
                continue;
            copy_good();
            snprintf(name, sizeof name, "%s, %s, %s", place_name[dl_place(f->h.lsn)], f->label,
                     body == 0 ? "header" : "body");
            flip(f->h.lsn / SEGMENT, f->h.lsn % SEGMENT + at);
            run_case(name, k);
            cases++;
        }
    }
    print_message("%d cases\n", cases);
    assert_true(cases > 80);
}

/* A LOST frame is damaged too: the second repair tells the same as the first. */
static void each_lost_frame_damaged_again(void **state) {
    (void)state;
    char name[240];
    for (int place = 0; place < PLACES; place++)
        for (int k = 0; k < dl_frame_count; k++) {
            const struct dl_frame *f = &dl_frames[k];
            bool wanted = strcmp(f->label, "COMMIT CATALOG(1)") == 0 ||
                          strcmp(f->label, "COMMIT RECORDS PRODUCERS") == 0 ||
                          f->h.kind == FRAME_CHECKPOINT || f->h.kind == FRAME_SPILL;
            if (dl_place(f->h.lsn) != place || !wanted || !is_case(k))
                continue;
            copy_good();
            snprintf(name, sizeof name, "%s, %s, lost twice", place_name[place], f->label);
            flip(f->h.lsn / SEGMENT, f->h.lsn % SEGMENT + 30);
            (void)checked(name, pawl_repair);
            flip(f->h.lsn / SEGMENT, f->h.lsn % SEGMENT + 30);
            run_case(name, k);
        }
}

/* Both copies of a header: it is what it was, and nothing is lost. */
static void each_header_damaged(void **state) {
    (void)state;
    char name[100];
    for (uint64_t n = dl_first; n < dl_first + dl_count; n++) {
        struct segment_header was, is;
        int bad;
        static uint8_t bytes[SEGMENT];
        copy_good();
        snprintf(name, sizeof name, "%s, header", place_name[dl_place(n * SEGMENT)]);
        flip(n, 20);
        flip(n, BLOCK + 20);
        pawl_check c = checked(name, pawl_repair);
        assert_int_equal(c.repaired, 1);
        assert_int_equal(c.lost_records + c.lost_commits + c.lost_unknown + c.lost_names, 0);
        assert_true(dl_read_file(work_dir, n, bytes));
        assert_int_equal(segment_decode(dl_image[n - dl_first], n, &was, &bad), SEGMENT_GOOD);
        assert_int_equal(segment_decode(bytes, n, &is, &bad), SEGMENT_GOOD);
        assert_true(is.link == was.link && is.epoch == was.epoch);
        assert_true(is.seal_lsn == (n == dl_first ? 0 : was.seal_lsn));
        assert_memory_equal(&is.ids, &was.ids, sizeof is.ids);
        assert_memory_equal(&is.features, &was.features, sizeof is.features);
        pawl *log = dl_open(work_dir, PAWL_OPEN_READ);
        check_content(name, log, NULL, 0);
        assert_int_equal(pawl_close(log), 0);
        check_new_ids(name);
    }
}

/* Nothing is left of a segment, but later ones are there: all of it is lost, and is told. */
static void each_whole_segment_wiped(void **state) {
    (void)state;
    char name[100], path[160];
    for (uint64_t n = dl_first; n < dl_first + dl_count - 1; n++) {
        uint64_t commits = 0;
        copy_good();
        snprintf(name, sizeof name, "%s, wiped", place_name[dl_place(n * SEGMENT)]);
        dl_file_name(path, work_dir, n);
        shell("truncate -s 0 '%s' && truncate -s %u '%s'", path, SEGMENT, path);
        for (int k = 0; k < dl_frame_count; k++)
            commits += dl_frames[k].h.kind == FRAME_COMMIT && dl_frames[k].h.lsn / SEGMENT == n;
        pawl_check c = checked(name, pawl_repair);
        bool oldest = n == dl_first;
        assert_int_equal(c.lost_commits, oldest ? 0 : commits);
        assert_int_equal(c.lost_unknown, oldest);
        assert_true(oldest || c.lost_records > 10);
        assert_int_equal(c.lost_names, 0);
        (void)checked(name, pawl_audit);
        pawl *log = dl_open(work_dir, PAWL_OPEN_READ);
        struct content now;
        read_content(log, &now);
        for (int i = 0; i < before.count; i++) {
            const struct part *b = &before.parts[i], *a = part_of(&now, b->stream, b->partition);
            assert_true(a != NULL && a->end == b->end);
            for (uint64_t o = a->first; o < a->end; o++)
                assert_true(a->numbers[o - a->first] == 0 ||
                            a->numbers[o - a->first] == b->numbers[o - b->first]);
        }
        free_content(&now);
        assert_int_equal(pawl_close(log), 0);
        check_new_ids(name);
    }
}

static void without_any_header(void **state) {
    (void)state;
    pawl_error e;
    pawl_check c = PAWL_CHECK_INIT;
    copy_good();
    for (uint64_t n = dl_first; n < dl_first + dl_count; n++) {
        flip(n, 20);
        flip(n, BLOCK + 20);
    }
    assert_int_equal(pawl_repair(work_dir, &c, &e), PAWL_DAMAGED);
    assert_non_null(strstr(e.message, "no segment has a good copy of its header"));
    assert_int_equal(c.repaired, 0);
}

/* No other checkpoint is left that knows the names: each partition begins at its first record, and
 * no id is given again. */
static void the_only_checkpoint_damaged(void **state) {
    (void)state;
    const char *name = "the only checkpoint";
    uint64_t newest = dl_first + dl_count - 1;
    copy_good();
    for (uint64_t n = dl_first; n < newest; n++)
        shell("rm '%s/%016llx.seg'", work_dir, (unsigned long long)n);
    flip(newest, SEGMENT_HEADER_SIZE + 100);
    pawl_check c = checked(name, pawl_repair);
    assert_int_equal(c.lost_unknown, 1);
    assert_int_equal(c.lost_commits + c.lost_records, 0);
    assert_in_range(c.lost_names, 1, 2); /* the others are made in this segment */
    (void)checked(name, pawl_audit);
    for (int writable = 0; writable < 2; writable++) {
        pawl *log = dl_open(work_dir, writable != 0 ? 0 : PAWL_OPEN_READ);
        struct content now;
        read_content(log, &now);
        assert_true(now.count > 3);
        for (int i = 0; i < now.count; i++) {
            const struct part *p = &now.parts[i], *b = part_of(&before, p->stream, p->partition);
            for (uint64_t o = p->first; o < p->end; o++)
                if (b == NULL || p->numbers[o - p->first] != b->numbers[o - b->first])
                    fail_msg("offset %llu of %u/%u", (unsigned long long)o, p->stream,
                             p->partition);
            if (b != NULL && p->end != b->end && p->end != 0)
                fail_msg("%u/%u ends at %llu", p->stream, p->partition, (unsigned long long)p->end);
        }
        const struct part *s = part_of(&now, 1, 0);
        assert_true(s != NULL && s->first > part_of(&before, 1, 0)->first && s->first < s->end);
        free_content(&now);
        assert_int_equal(pawl_close(log), 0);
    }
    check_new_ids(name);
}

static int setup(void **state) {
    (void)state;
    bool memory = access("/dev/shm", W_OK) == 0; /* many copies, and no power cut */
    strcpy(top, memory ? "/dev/shm/test_repair_kinds.XXXXXX" : "/var/tmp/test_repair_kinds.XXXXXX");
    if (mkdtemp(top) == NULL)
        return -1;
    snprintf(good, sizeof good, "%s/good", top);
    snprintf(work_dir, sizeof work_dir, "%s/work", top);
    dl_make(good);
    dl_read(good);
    assert_true(dl_count >= 3 && dl_first >= 1);
    pawl *log = dl_open(good, PAWL_OPEN_READ);
    read_content(log, &before);
    read_rows(log, &rows_before);
    next_ids = log->tables.ids;
    return pawl_close(log);
}

static int teardown(void **state) {
    (void)state;
    free_content(&before);
    for (int i = 0; i < SEGMENTS_MAX; i++)
        free(dl_image[i]);
    shell("rm -rf -- '%s'", top);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_frame_damaged_alone), cmocka_unit_test(each_lost_frame_damaged_again),
        cmocka_unit_test(each_header_damaged),      cmocka_unit_test(each_whole_segment_wiped),
        cmocka_unit_test(without_any_header),       cmocka_unit_test(the_only_checkpoint_damaged),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
