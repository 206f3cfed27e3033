/* SPDX-License-Identifier: Apache-2.0
 *
 * container.c - see container.h.
 *
 *   2016-10-06T00:17:09.669794202Z stdout P the beginning of a line
 *   2016-10-06T00:17:09.669794203Z stdout F and its end
 *   {"log":"a line\n","stream":"stderr","time":"2016-10-06T00:17:09.669794202Z"}
 *
 * CRI's tags are separated by colons; the first says whether the line is partial. Docker's partial
 * line is one whose text doesn't end with a newline.
 */
#include "connectors/file/container.h"

#include <string.h>

#include "connectors/text/json_scan.h"
#include "connectors/text/rfc3339.h"

static bool stream_of(const char *name, size_t n, int *stream) {
    *stream = n == 6 && memcmp(name, "stderr", 6) == 0 ? CONTAINER_STDERR : CONTAINER_STDOUT;
    return *stream == CONTAINER_STDERR || (n == 6 && memcmp(name, "stdout", 6) == 0);
}

/* The next word; false: no space follows it. */
static bool word(const char **at, const char *end, const char **from, size_t *n) {
    const char *space = *at < end ? memchr(*at, ' ', (size_t)(end - *at)) : NULL;
    if (space == NULL)
        return false;
    *from = *at;
    *n = (size_t)(space - *at);
    *at = space + 1;
    return true;
}

bool container_cri(const char *line, size_t n, struct container_line *out) {
    const char *at = line, *end = line + n, *from;
    size_t len;
    *out = (struct container_line){0};
    if (!word(&at, end, &from, &len) || !rfc3339_parse(from, len, &out->time_ns) ||
        !word(&at, end, &from, &len) || !stream_of(from, len, &out->stream))
        return false;
    if (!word(&at, end, &from, &len)) { /* an empty text may come without its space */
        from = at;
        len = (size_t)(end - at);
        at = end;
    }
    if (len == 0 || (from[0] != 'P' && from[0] != 'F') || (len > 1 && from[1] != ':'))
        return false;
    out->partial = from[0] == 'P';
    out->text = at;
    out->len = (size_t)(end - at);
    return true;
}

bool container_docker(const char *line, size_t n, char *room, struct container_line *out) {
    static const struct json_step steps[] = {{.key = "log", .key_len = 3},
                                             {.key = "stream", .key_len = 6},
                                             {.key = "time", .key_len = 4},
                                             {.key = "attrs", .key_len = 5}};
    struct json_path paths[4];
    struct json_found found[4];
    size_t where;
    bool whole = true;
    *out = (struct container_line){0};
    for (size_t i = 0; i < 4; i++) /* json_scan() only reads the steps */
        paths[i] = (struct json_path){(struct json_step *)(uintptr_t)&steps[i], 1, NULL};
    if (n == 0 || line[0] != '{' || json_scan(line, n, paths, 4, found, &where) != NULL ||
        found[0].type != FOUND_STRING || found[1].type != FOUND_STRING ||
        found[2].type != FOUND_STRING || !stream_of(found[1].at, found[1].len, &out->stream) ||
        !rfc3339_parse(found[2].at, found[2].len, &out->time_ns))
        return false;
    out->text = found[0].at;
    out->len = found[0].len;
    if (found[0].escaped) {
        out->text = room;
        out->len = json_unescape(found[0].at, found[0].len, room, &whole);
    }
    out->partial = out->len == 0 || out->text[out->len - 1] != '\n';
    out->len -= !out->partial;
    if (found[3].type == FOUND_OBJECT) {
        out->attrs = found[3].at;
        out->attrs_len = found[3].len;
    }
    return true;
}
