/* SPDX-License-Identifier: Apache-2.0 */
/* A log forged with the key is opened: as a reader, twice, which changes nothing; then as a writer,
 * which works on it, closes it and finds it again. */
#include "forge_target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint64_t first, again;
    target_make(data, size);
    int rc = target_read(&first);
    (void)target_read(&again);
    target_must(first == again, "looking at the log changes it", rc);
    if (target_write(size != 0 && (data[0] & 1) != 0, false) != 0)
        return 0;
    rc = target_read(&again);
    target_must(rc == 0, "a log that a writer has closed can't be read", rc);
    return 0;
}
