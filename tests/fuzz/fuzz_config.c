/* SPDX-License-Identifier: Apache-2.0 */
/* A pipeline's file: whatever is in it, it is read or refused with a message; what is read is put
 * to the types' own checks. Nothing is opened. */
#include <stdlib.h>
#include <string.h>

#include "cli/run/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void told(void *arg, uint32_t line, int severity, const char *message) {
    size_t *count = arg;
    if (message[0] == 0 || line > 1u << 21)
        abort();
    *count += severity != 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    config_file f = {0};
    size_t problems = 0;
    int rc = config_parse(&f, "f", (const char *)data, size, told, &problems);
    if ((rc == 0) != (problems == 0)) /* refused without a word, or taken with one */
        abort();
    for (size_t i = 0; rc == 0 && i < f.count; i++)
        if (f.pipelines[i].directory == NULL || f.pipelines[i].flow_count == 0)
            abort();
    config_free(&f);
    return 0;
}
