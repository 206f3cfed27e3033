/* SPDX-License-Identifier: Apache-2.0 */
/* A log forged with the key is verified, audited, shown frame by frame. What is called well opens,
 * and is well after a writer's work. */
#include "forge_target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint64_t problems, sum;
    target_make(data, size);
    (void)target_dump();
    int audit = target_check(TARGET_AUDIT, &problems);
    int verify = target_check(TARGET_VERIFY, &problems);
    target_must(audit != 0 || verify == 0, "the audit is content where verify isn't", verify);
    if (verify != 0)
        return 0;
    int rc = target_read(&sum);
    target_must(rc == 0 || rc == PAWL_MEMORY, "a log that is well can't be read", rc);
    if (target_write(size != 0 && (data[0] & 1) != 0, true) == 0) {
        verify = target_check(TARGET_VERIFY, &problems);
        target_must(verify == 0, "a log that was well isn't, after a writer's work", verify);
    }
    return 0;
}
