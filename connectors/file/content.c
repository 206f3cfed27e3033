/* SPDX-License-Identifier: Apache-2.0
 *
 * content.c - see content.h.
 */
#include "connectors/file/content.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int content_open(struct content *c, int fd, const char *name) {
    (void)name;
    *c = (struct content){.fd = fd};
    return 0;
}

ssize_t content_read(struct content *c, void *buf, size_t size, uint64_t offset) {
    size_t done = 0;
    while (done < size) {
        ssize_t n = pread(c->fd, (char *)buf + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

void content_will_need(struct content *c, uint64_t offset, size_t size) {
    posix_fadvise(c->fd, (off_t)offset, (off_t)size, POSIX_FADV_WILLNEED);
}

void content_close(struct content *c) {
    if (c->fd >= 0)
        close(c->fd);
    *c = (struct content)CONTENT_INIT;
}
