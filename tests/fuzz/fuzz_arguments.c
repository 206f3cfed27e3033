/* SPDX-License-Identifier: Apache-2.0 */
/* What people type: sizes, durations, times, numbers. What is read and written again is read the
 * same. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char text[256];
    uint64_t n;
    if (size >= sizeof text)
        return 0;
    if (size != 0)
        memcpy(text, data, size);
    text[size] = 0;
    if (cli_parse_number(text, &n)) {
        char back[32];
        snprintf(back, sizeof back, "%llu", (unsigned long long)n);
        uint64_t again;
        if (!cli_parse_number(back, &again) || again != n)
            abort();
    }
    cli_parse_size(text, &n);
    cli_parse_duration(text, &n);
    return 0;
}
