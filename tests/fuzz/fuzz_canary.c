/* SPDX-License-Identifier: Apache-2.0 */
/* A target with a bug in it, on purpose: if the fuzzer doesn't find this, its silence about the
 * others means nothing. */
#include <stdlib.h>
#include <string.h>

#include "wal/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size >= 8 && memcmp(data, "PWLF", 4) == 0 && get16(data + 6) == 0x1234)
        abort();
    return 0;
}
