/* SPDX-License-Identifier: Apache-2.0
 *
 * Standard output as a sink. Its kind is idempotent, but nothing after it drops duplicates, so it
 * is at-least-once: after a crash the last batch may be written twice.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "connectors/text/encode.h"

struct out {
    struct encoding encoding;
    struct buffer buffer;
    struct buffer shown; /* the same, as a terminal gets it */
};

static const pawl_setting_info settings[] = {
    ENCODE_SETTINGS,
    {NULL, 0, 0, NULL, NULL, NULL},
};
static int make_sink(const pawl_settings *s, pawl_sink_ops *out, pawl_error *err);
const pawl_connector connect_sink_stdout = {
    .type = "stdout",
    .help = "standard output; at-least-once: a crash may write the last batch twice",
    .settings = settings,
    .make_sink = make_sink,
};

static int out_begin(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    (void)b, (void)f;
    ((struct out *)self)->buffer.len = 0;
    return PAWL_DONE;
}

static int out_open(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    return out_begin(self, b, f);
}

static int out_write(void *self, const pawl_sink_batch *b, const pawl_record *records, size_t count,
                     pawl_fault *f) {
    struct out *o = self;
    int outcome = PAWL_DONE;
    (void)b;
    for (size_t i = 0; i < count && outcome == PAWL_DONE; i++)
        outcome = encode_record(&o->buffer, &o->encoding, &records[i], f);
    return outcome;
}

/* Is standard output a file that has no name any more? What is written to it is lost. */
static bool removed(void) {
    struct stat st;
    return fstat(STDOUT_FILENO, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 0;
}

/* A record must not drive a terminal: each line of the buffer goes through pawl_show(). */
static bool show_lines(struct out *o) {
    const char *at = o->buffer.bytes, *end = at + o->buffer.len;
    bool good = true;
    o->shown.len = 0;
    while (good && at < end) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        line_end = line_end != NULL ? line_end : end;
        while (good && at < line_end) {
            char text[512];
            size_t used, n = pawl_show(at, (size_t)(line_end - at), &used, text, sizeof text);
            good = buffer_add(&o->shown, text, n);
            at += used;
        }
        good = good && buffer_add(&o->shown, "\n", 1);
        at++;
    }
    return good;
}

static int out_commit(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    struct out *o = self;
    const struct buffer *out = &o->buffer;
    (void)b;
    if (isatty(STDOUT_FILENO)) {
        if (!show_lines(o))
            return pawl_fault_set(f, PAWL_RETRY, "no memory to show the records");
        out = &o->shown;
    }
    if (removed())
        return pawl_fault_set(f, PAWL_FATAL,
                              "standard output is a file that was removed: nobody would ever read "
                              "what is written to it; start again with another file");
    for (size_t done = 0; done < out->len;) {
        ssize_t put = write(STDOUT_FILENO, out->bytes + done, out->len - done);
        if (put < 0 && errno == EINTR)
            continue;
        /* A retry would certainly write the first part twice. EPIPE: the reader is gone. EBADF: an
         * operator has to look. */
        if (put < 0)
            return pawl_fault_set(
                f, done == 0 && errno != EPIPE && errno != EBADF ? PAWL_RETRY : PAWL_FATAL,
                "standard output: %s", strerror(errno));
        done += (size_t)put;
    }
    /* a pipe or a terminal has nothing to sync */
    if (fdatasync(STDOUT_FILENO) != 0 && errno != EINVAL && errno != EROFS)
        return pawl_fault_set(f, PAWL_FATAL, "standard output: fdatasync: %s", strerror(errno));
    return PAWL_DONE;
}

static void out_abort(void *self) {
    ((struct out *)self)->buffer.len = 0;
}

static void out_destroy(void *self) {
    buffer_free(&((struct out *)self)->buffer);
    buffer_free(&((struct out *)self)->shown);
    free(self);
}

static int make_sink(const pawl_settings *set, pawl_sink_ops *out, pawl_error *err) {
    struct out *o = calloc(1, sizeof *o);
    if (o == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory for a sink");
    encode_settings(&connect_sink_stdout, set, &o->encoding);
    out->kind = PAWL_SINK_IDEMPOTENT;
    out->type = "stdout";
    out->self = o;
    out->open = out_open;
    out->begin = out_begin;
    out->write = out_write;
    out->commit = out_commit;
    out->abort = out_abort;
    out->destroy = out_destroy;
    return 0;
}
