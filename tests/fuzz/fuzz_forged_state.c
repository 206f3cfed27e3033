/* SPDX-License-Identifier: Apache-2.0 */
/* A log with keyed state, its run file among what lies: it is checked, read, written to and read
 * again; or it is repaired first. */
#include "forge_target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint64_t problems, first, again;
    target_make_state(data, size);
    if (size != 0 && (data[0] & 6) == 6)
        (void)target_check(TARGET_REPAIR, &problems);
    (void)target_dump();
    int audit = target_check(TARGET_AUDIT, &problems);
    int verify = target_check(TARGET_VERIFY, &problems);
    target_must(audit != 0 || verify == 0, "the audit is content where verify isn't", verify);
    int rc = target_read(&first);
    (void)target_read(&again);
    target_must(first == again, "looking at the log changes it", rc);
    target_must(verify != 0 || rc == 0 || rc == PAWL_MEMORY, "a log that is well can't be read",
                rc);
    if (target_write(size != 0 && (data[0] & 1) != 0, verify == 0) != 0)
        return 0;
    /* damage in older segments, which verify has told, may keep a reader out, not a writer */
    bool out = rc != 0 && verify != 0;
    rc = target_read(&again);
    target_must(rc == 0 || out, "a log that a writer has closed can't be read", rc);
    return 0;
}
