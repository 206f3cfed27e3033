/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_ingest.c - `pawl ingest`: each line of a file or of standard input becomes a record.
 *
 * With --producer the line number is the producer's sequence, and the place after the last line is
 * its cookie. Both are in the same commit as the lines, so after a kill -9 the log itself says
 * where to go on: no line is lost and none is doubled. Commits are not waited for one by one; the
 * log's memory cap bounds how many are on their way, and one sync at the end (or when the input
 * pauses) waits for all.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/lines.h"

enum { PRODUCER, FOLLOW, BATCH };
static const cli_option options[] = {
    [PRODUCER] = {"producer", "NAME",
                  "remember under NAME how far the input was taken, and go on from there"},
    [FOLLOW] = {"follow", NULL, "at the end wait for more; only whole lines are taken"},
    [BATCH] = {"batch", "N", "lines a transaction at most, also at most 1 MiB (1000)"},
    {NULL, NULL, NULL},
};

#define BATCH_BYTES ((size_t)1 << 20)

/* The cookie: offset after the last line (8 bytes, little-endian); 1 if that line had no newline;
 * then, so that another file isn't taken for this one, how many of the line's last bytes are
 * hashed, and their hash (8 bytes). */
enum { COOKIE_SIZE = 18, MARK_MAX = 64 };

typedef struct place {
    uint64_t offset;
    bool unterminated;
    uint8_t mark_size;
    uint64_t mark;
} place;

typedef struct job {
    const cli_args *args;
    const char *dir, *source;
    pawl *log;
    pawl_stream_info stream;
    uint32_t partition;
    pawl_producer *producer; /* NULL: none */
    lines in;
    uint64_t batch_max;
    pawl_tx *tx; /* NULL: none begun */
    uint64_t batch_lines;
    size_t batch_bytes;
    place at;                          /* after the last line put */
    uint64_t named;                    /* place up to which the log says what was read */
    bool begun;                        /* it says where the input begins */
    uint64_t before;                   /* lines that were there already */
    uint64_t lines, bytes;             /* committed by this run */
    uint64_t pending_bytes;            /* of the batch, newlines included */
    uint64_t first_offset, end_offset; /* of one partition; first UINT64_MAX: nothing yet */
    bool unsynced;
    bool told_full;
} job;

/* ---- the cookie */

static uint64_t hash_mark(const char *bytes, size_t size) {
    /* FNV-1a: it needs to tell files apart, not to resist anyone */
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < size; i++)
        h = (h ^ (unsigned char)bytes[i]) * UINT64_C(0x100000001b3);
    return h;
}

static void put_u64(unsigned char *to, uint64_t n) {
    for (int i = 0; i < 8; i++)
        to[i] = (unsigned char)(n >> (8 * i));
}

static uint64_t get_u64(const unsigned char *from) {
    uint64_t n = 0;
    for (int i = 0; i < 8; i++)
        n |= (uint64_t)from[i] << (8 * i);
    return n;
}

static void encode_place(const place *p, unsigned char cookie[COOKIE_SIZE]) {
    put_u64(cookie, p->offset);
    cookie[8] = p->unterminated;
    cookie[9] = p->mark_size;
    put_u64(cookie + 10, p->mark);
}

static bool decode_place(place *p, const unsigned char *cookie, int size) {
    if (size != COOKIE_SIZE || cookie[8] > 1 || cookie[9] > MARK_MAX)
        return false;
    *p = (place){get_u64(cookie), cookie[8] == 1, cookie[9], get_u64(cookie + 10)};
    return true;
}

/* ---- going on where an earlier run ended */

static int other_source(const job *j, const char *why) {
    cli_error("%s: %s, so it is not the input that producer '%s' took %" PRIu64 " lines (%" PRIu64
              " bytes) from; give the right file, or another --producer for a new one",
              j->source, why, j->args->value[PRODUCER], j->before, j->at.offset);
    return CLI_PROBLEM;
}

/* The last line was taken at the end of the input, without its newline. Was it whole? */
static int check_unterminated(job *j) {
    char byte;
    enum lines_result got;
    do
        got = lines_peek(&j->in, &byte);
    while (got == LINES_WAIT && !cli_stopping());
    if (got != LINES_ONE)
        return CLI_OK; /* nothing new; whatever it is, the main loop meets it again */
    if (byte == '\n') {
        lines_drop_byte(&j->in);
        return CLI_OK;
    }
    cli_error(
        "%s: line %" PRIu64 " was taken without a newline, at the end of the input, and has grown "
        "since; what was taken "
        "can't be changed, nothing more was ingested. End that line with a newline at byte %" PRIu64
        ", or ingest the rest under another --producer",
        j->source, j->before, j->at.offset);
    return CLI_PROBLEM;
}

static int resume(job *j) {
    unsigned char cookie[32];
    int size = pawl_producer_cookie(j->producer, cookie, sizeof cookie);
    j->before = pawl_producer_sequence(j->producer);
    if (j->before == 0)
        return CLI_OK;
    j->begun = true;
    if (!decode_place(&j->at, cookie, size)) {
        cli_error("producer '%s' in %s was used by another program than `pawl ingest`, which can't "
                  "tell how "
                  "far that came; "
                  "use another --producer",
                  j->args->value[PRODUCER], j->dir);
        return CLI_PROBLEM;
    }
    j->named = j->at.offset;
    char tail[LINES_TAIL_MAX];
    size_t tail_size = 0, newline = j->at.unterminated ? 0 : 1;
    enum lines_result got = lines_skip(&j->in, j->at.offset, tail, &tail_size);
    if (got == LINES_SHRUNK)
        return other_source(j, "it is shorter than that");
    if (got == LINES_WAIT)
        return CLI_OK; /* told to stop */
    if (got != LINES_ONE) {
        cli_error("cannot read %s: %s", j->source, strerror(errno));
        return CLI_PROBLEM;
    }
    if (tail_size < newline + j->at.mark_size || (newline == 1 && tail[tail_size - 1] != '\n'))
        return other_source(j, "no line ends there");
    if (hash_mark(tail + tail_size - newline - j->at.mark_size, j->at.mark_size) != j->at.mark)
        return other_source(j, "the line there is another");
    return j->at.unterminated ? check_unterminated(j) : CLI_OK;
}

/* ---- batches */

/* Whether to try again. Following is for ever, and space may come; else the caller should know at
 * once. */
static bool wait_for_space(job *j, int code) {
    if (code != PAWL_FULL || !j->in.follow || cli_stopping())
        return false;
    if (!j->told_full)
        cli_error("the log %s is full; waiting for space (set retention, or free some)", j->dir);
    j->told_full = true;
    cli_sleep_ms(200);
    return true;
}

/* Names what was read from the last place named up to `to`: the batch's lines, or none. With a
 * producer the input is what the producer takes lines from, whatever its path; without one, each
 * run takes another. */
static int name_lines(job *j, uint64_t to, bool records) {
    pawl_outside o = PAWL_OUTSIDE_INIT;
    char thing[256], note[256];
    snprintf(thing, sizeof thing, "ingest %.200s",
             j->producer != NULL ? j->args->value[PRODUCER] : j->source);
    snprintf(note, sizeof note, "%.200s", j->source);
    o.thing = thing;
    o.note = j->producer != NULL ? note : NULL;
    o.from = j->named;
    o.to = to;
    o.flags = j->begun ? 0 : PAWL_OUTSIDE_BEGINS;
    o.stream = j->stream.id;
    o.mark_kind = records ? PAWL_MARKS_LINES : PAWL_MARKS_NONE;
    o.step = records ? 1 : 0;
    int code = pawl_tx_origin(j->tx, j->producer, &o);
    if (code < 0)
        return cli_library_error(code, "%s, bytes %" PRIu64 " to %" PRIu64, j->source, j->named,
                                 to);
    j->named = to;
    j->begun = true;
    return CLI_OK;
}

static int begin_batch(job *j, uint64_t line) {
    int code = pawl_begin(j->log, &j->tx);
    if (code < 0)
        j->tx = NULL;
    else
        code = pawl_tx_origin(j->tx, j->producer, NULL);
    if (code < 0)
        return cli_library_error(code, "beginning a transaction in %s", j->dir);
    /* the newline that the last line lacked */
    return line > j->named ? name_lines(j, line, false) : CLI_OK;
}

static int commit_batch(job *j) {
    if (j->batch_lines == 0)
        return CLI_OK;
    uint64_t last = j->before + j->lines + j->batch_lines;
    int code = name_lines(j, j->at.offset, true);
    if (code != CLI_OK)
        return code;
    if (j->producer != NULL) {
        unsigned char cookie[COOKIE_SIZE];
        encode_place(&j->at, cookie);
        code = pawl_tx_sequence(j->tx, j->producer, last - j->batch_lines + 1, last, cookie,
                                sizeof cookie);
        if (code < 0)
            return cli_library_error(code, "%s, lines up to %" PRIu64, j->source, last);
    }
    pawl_receipt receipt = {0};
    do
        code = pawl_commit_async(j->tx, NULL, NULL, &receipt);
    while (wait_for_space(j, code));
    if (code == PAWL_FULL)
        return cli_library_error(code,
                                 "%s: no room from line %" PRIu64
                                 " on (free space or set retention, then run this again)",
                                 j->source, last - j->batch_lines + 1);
    if (code == PAWL_MEMORY)
        pawl_abort(j->tx);
    j->tx = NULL;
    if (code < 0)
        return cli_library_error(code, "committing lines up to %" PRIu64 " of %s", last, j->source);
    if (j->first_offset == UINT64_MAX)
        j->first_offset = receipt.offset;
    j->end_offset = receipt.offset + j->batch_lines;
    j->lines += j->batch_lines;
    j->bytes += j->pending_bytes;
    j->batch_lines = j->pending_bytes = 0;
    j->batch_bytes = 0;
    j->unsynced = true;
    j->told_full = false;
    return CLI_OK;
}

static int sync_log(job *j) {
    if (!j->unsynced)
        return CLI_OK;
    j->unsynced = false;
    int code = pawl_sync(j->log);
    return code < 0 ? cli_library_error(code, "making %s durable", j->dir) : CLI_OK;
}

static int put_line(job *j, const char *line, size_t size, bool unterminated) {
    uint64_t begin = j->in.offset - size - !unterminated;
    int code = j->tx == NULL ? begin_batch(j, begin) : CLI_OK;
    if (code != CLI_OK)
        return code;
    pawl_record r = {.value = line, .value_len = (uint32_t)size};
    do
        code = pawl_put(j->tx, j->stream.id, j->partition, &r);
    while (wait_for_space(j, code));
    uint64_t number = j->before + j->lines + j->batch_lines + 1;
    if (code == PAWL_TOO_LARGE) {
        cli_error(
            "%s: line %" PRIu64 " has %zu bytes, more than a record of %s may have; nothing from "
            "that line on was ingested. "
            "Shorten it, or make the log with larger segments (or open it with more --memory)",
            j->source, number, size, j->dir);
        return CLI_PROBLEM;
    }
    if (code < 0)
        return cli_library_error(code, "%s, line %" PRIu64, j->source, number);
    size_t mark = size < MARK_MAX ? size : MARK_MAX;
    j->at = (place){j->in.offset, unterminated, (uint8_t)mark, hash_mark(line + size - mark, mark)};
    j->batch_lines++;
    j->batch_bytes += size;
    j->pending_bytes += size + !unterminated;
    return CLI_OK;
}

/* ---- the run */

static int source_problem(const job *j, enum lines_result what) {
    uint64_t line = j->before + j->lines + 1;
    if (what == LINES_TOO_LONG)
        cli_error("%s: line %" PRIu64 " is longer than 16 MiB, the most a record may have; nothing "
                  "from that line on was ingested. "
                  "Is this a file of lines?",
                  j->source, line);
    else if (what == LINES_SHRUNK)
        cli_error("%s was cut shorter while it was followed, after line %" PRIu64
                  "; follow the new content under another --producer",
                  j->source, line - 1);
    else if (what == LINES_REPLACED)
        cli_error("%s names another file now (rotated?); the old one was taken to its last whole "
                  "line, %" PRIu64 "; follow the new one under another --producer",
                  j->source, line - 1);
    else
        cli_error("cannot read %s after line %" PRIu64 ": %s", j->source, line - 1,
                  strerror(errno));
    return CLI_PROBLEM;
}

/* What comes after the last whole line. The lines before are kept whatever it is. */
static int end_of_source(job *j, enum lines_result what) {
    int exit_code = commit_batch(j);
    if (exit_code != CLI_OK)
        return exit_code;
    if (what != LINES_END)
        return source_problem(j, what);
    if (lines_partial(&j->in)) {
        cli_error("%s ended within line %" PRIu64
                  ", without a newline; with --follow only whole lines are taken, this one was not",
                  j->source, j->before + j->lines + 1);
        return CLI_PROBLEM;
    }
    return CLI_OK;
}

static int take_lines(job *j) {
    cli_progress progress;
    cli_progress_begin(&progress, "ingesting");
    uint64_t total = j->in.follow ? 0 : lines_total(&j->in);
    int exit_code = CLI_OK;
    while (exit_code == CLI_OK && !cli_stopping()) {
        const char *line;
        size_t size;
        enum lines_result got = lines_next(&j->in, &line, &size);
        if (got == LINES_WAIT) { /* the input pauses: what came so far must not wait for it */
            exit_code = commit_batch(j);
            if (exit_code == CLI_OK)
                exit_code = sync_log(j);
            continue;
        }
        if (got != LINES_ONE && got != LINES_UNTERMINATED) {
            cli_progress_clear(&progress);
            return end_of_source(j, got);
        }
        exit_code = put_line(j, line, size, got == LINES_UNTERMINATED);
        if (exit_code == CLI_OK && got == LINES_ONE && j->batch_lines < j->batch_max &&
            j->batch_bytes < BATCH_BYTES)
            continue;
        if (total > 0)
            cli_progress_show(&progress, j->in.offset, total);
        /* A line that the log refused is not in the transaction; the good ones before it still
         * are. */
        int committed = commit_batch(j);
        if (exit_code == CLI_OK)
            exit_code = committed;
        if (got == LINES_UNTERMINATED) {
            cli_progress_clear(&progress);
            return exit_code;
        }
    }
    cli_progress_clear(&progress);
    return exit_code == CLI_OK ? commit_batch(j) : exit_code;
}

static void tell(const job *j) {
    char where[96] = "";
    if (j->lines > 0 && j->stream.partitions == 1)
        snprintf(where, sizeof where, ", offsets %" PRIu64 " to %" PRIu64, j->first_offset,
                 j->end_offset - 1);
    else if (j->lines > 0)
        snprintf(where, sizeof where, ", over %" PRIu32 " partitions", j->stream.partitions);
    cli_print_to(stderr, "ingested %" PRIu64 " records, %" PRIu64 " bytes into %s%s", j->lines,
                 j->bytes, j->stream.name, where);
    if (j->producer != NULL)
        cli_print_to(stderr, " (%" PRIu64 " already there)", j->before);
    cli_print_to(stderr, "\n");
}

static int run_open_log(job *j) {
    int code = cli_find_stream(j->log, j->dir, j->args->positional[1], &j->stream);
    if (code != CLI_OK)
        return code;
    j->partition = j->stream.partitions == 1 ? 0 : PAWL_ANY;
    if (j->args->value[PRODUCER] != NULL) {
        int opened = pawl_producer_open(j->log, j->args->value[PRODUCER], &j->producer);
        if (opened < 0) {
            j->producer = NULL;
            return cli_library_error(opened, "opening producer '%s' in %s",
                                     j->args->value[PRODUCER], j->dir);
        }
        code = resume(j);
    }
    if (code == CLI_OK)
        code = take_lines(j);
    pawl_abort(j->tx);
    int synced = sync_log(j);
    if (code == CLI_OK)
        code = synced;
    if (code == CLI_OK && cli_stopping() && !j->in.follow) {
        cli_error("stopped on request before the end of %s; %s", j->source,
                  j->producer != NULL ? "run it again to go on"
                                      : "with --producer, running it again would go on");
        code = CLI_PROBLEM;
    }
    if (synced == CLI_OK)
        tell(j);
    pawl_producer_close(j->producer);
    return code;
}

static int run(cli_args *a) {
    job j = {.args = a, .dir = a->positional[0], .first_offset = UINT64_MAX, .batch_max = 1000};
    const char *path =
        a->count == 3 && strcmp(a->positional[2], "-") != 0 ? a->positional[2] : NULL;
    j.source = path != NULL ? path : "standard input";
    const char *batch = a->value[BATCH];
    if (batch != NULL &&
        (!cli_parse_number(batch, &j.batch_max) || j.batch_max < 1 || j.batch_max > 1000000))
        return cli_usage(a, "--batch takes a number from 1 to 1000000, not '%s'", batch);
    if (lines_open(&j.in, path, a->value[FOLLOW] != NULL) != 0) {
        cli_error("cannot open %s: %s", j.source, strerror(errno));
        lines_close(&j.in);
        return CLI_CANNOT_OPEN;
    }
    int code = cli_open(a, j.dir, 0, &j.log);
    if (code == CLI_OK) {
        cli_catch_signals(j.log);
        code = cli_close(j.log, j.dir, run_open_log(&j));
    }
    lines_close(&j.in);
    return code;
}

const cli_command cli_ingest = {
    .name = "ingest",
    .synopsis = "DIR STREAM [--producer NAME] [--follow] [--batch N] [FILE]",
    .summary = "Append each line of FILE (or of standard input) as a record",
    .details = "A line's newline is not part of the record; a carriage return before it is. A last "
               "line without a\n"
               "newline is a record too, except with --follow. With --producer an interrupted run, "
               "also one ended\n"
               "by kill -9, is simply run again: no line is lost or doubled.",
    .options = options,
    .min = 2,
    .max = 3,
    .opens = true,
    .run = run,
};
