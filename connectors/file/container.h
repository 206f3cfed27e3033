/* SPDX-License-Identifier: Apache-2.0
 *
 * Lines of the logs that container runtimes write: CRI (containerd, CRI-O) and docker's json-file.
 * A runtime splits a long line of the program into partial lines.
 */
#ifndef PAWL_CONNECTORS_CONTAINER_H
#define PAWL_CONNECTORS_CONTAINER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CONTAINER_STDOUT = 0, CONTAINER_STDERR = 1, CONTAINER_STREAMS = 2 };

struct container_line {
    int stream;
    bool partial; /* more of this line follows */
    int64_t time_ns;
    const char *text; /* of the program, without its newline */
    size_t len;
    const char *attrs; /* docker: the JSON of its member attrs; NULL: none */
    size_t attrs_len;
};

/* Parse a line without its newline; false: it isn't of the format. The text is a part of the line,
 * or is written to `room`, which has `n` bytes. */
bool container_cri(const char *line, size_t n, struct container_line *out);
bool container_docker(const char *line, size_t n, char *room, struct container_line *out);

#endif
