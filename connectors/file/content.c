/* SPDX-License-Identifier: Apache-2.0
 *
 * content.c - see content.h.
 */
#include "connectors/file/content.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

int content_open(struct content *c, int fd, const char *name) {
    const struct decompress_format *format = decompress_format_of(fd);
    (void)name;
    *c = (struct content){.fd = fd};
    if (format == NULL || (c->unpack = decompress_new(fd, format)) != NULL)
        return 0;
    int error = errno;
    content_close(c);
    errno = error;
    return -1;
}

ssize_t content_read(struct content *c, void *buf, size_t size, uint64_t offset) {
    size_t done = 0;
    if (c->unpack != NULL)
        return decompress_read(c->unpack, buf, size, offset);
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

int content_may_have(const struct content *c, uint64_t size) {
    struct stat st;
    if (c->unpack != NULL)
        return 1;
    return fstat(c->fd, &st) != 0 ? -1 : (uint64_t)st.st_size >= size;
}

enum decompress_state content_state(const struct content *c) {
    return c->unpack != NULL ? decompress_state(c->unpack) : DECOMPRESS_WHOLE;
}

void content_why(const struct content *c, char *text, size_t size) {
    if (c->unpack != NULL)
        decompress_why(c->unpack, text, size);
    else if (size != 0)
        text[0] = 0;
}

void content_will_need(struct content *c, uint64_t offset, size_t size) {
    if (c->unpack == NULL) /* else it is read in order anyway */
        posix_fadvise(c->fd, (off_t)offset, (off_t)size, POSIX_FADV_WILLNEED);
}

void content_close(struct content *c) {
    decompress_free(c->unpack);
    if (c->fd >= 0)
        close(c->fd);
    *c = (struct content)CONTENT_INIT;
}
