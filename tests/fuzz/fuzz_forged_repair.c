/* SPDX-License-Identifier: Apache-2.0 */
/* A log forged with the key, and damaged, is repaired. What repair calls well opens, as a reader
 * and as a writer; and a second repair has nothing to mend. */
#include "forge_target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint64_t problems, sum;
    target_make(data, size);
    if (target_check(TARGET_REPAIR, &problems) != 0)
        return 0;
    int rc = target_read(&sum);
    target_must(rc == 0, "repair says that a reader can open it", rc);
    rc = target_check(TARGET_VERIFY, &problems);
    target_must(rc == 0, "repair says that the log is well", rc);
    rc = target_check(TARGET_REPAIR, &problems);
    target_must(rc == 0 && problems == 0, "repair finds more the second time", rc);
    rc = target_write(size != 0 && (data[0] & 1) != 0, true);
    target_must(rc == 0 || rc == PAWL_FULL, "repair says that a writer can open it", rc);
    return 0;
}
