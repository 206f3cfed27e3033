/* SPDX-License-Identifier: Apache-2.0 */
/* Compressed files: whatever the bytes, reading ends, and reading again in other pieces gives the
 * same. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "connectors/file/decompress.h"

#define MOST (1u << 20) /* bytes that are read of a bomb */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t read_all(struct decompress *d, uint8_t *out, size_t piece) {
    size_t n = 0;
    while (n + piece <= MOST) {
        ssize_t got = decompress_read(d, out + n, piece, n);
        if (got < 0)
            break;
        n += (size_t)got;
        if ((size_t)got < piece)
            break;
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t a[MOST], b[MOST];
    const struct decompress_format *f = decompress_format(data, size);
    if (f == NULL || !f->available)
        return 0;
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
        abort();
    struct decompress *d = decompress_new(fd, f);
    if (d != NULL) {
        size_t n = read_all(d, a, 4096), m = read_all(d, b, 4096 / 3);
        size_t least = n < m ? n : m;
        if (memcmp(a, b, least) != 0 || (n != m && m + 4096 / 3 <= MOST && n + 4096 <= MOST))
            abort();
        char why[200];
        decompress_why(d, why, sizeof why);
    }
    decompress_free(d);
    close(fd);
    return 0;
}
