/* SPDX-License-Identifier: Apache-2.0
 *
 * Structs of programs that were built against an older or a newer header: the rule that pawl.h
 * gives under *Structs*, in one place.
 */

#include <string.h>

#include "wal/error.h"

#define SIZE_MAX_SANE 4096u /* a larger value is not initialised */

static int size_of(const void *given, size_t smallest, const char *name, size_t *size) {
    if (given == NULL)
        return fail(PAWL_INVALID, "%s is NULL", name);
    memcpy(size, given, sizeof *size);
    if (*size < smallest || *size > SIZE_MAX_SANE)
        return fail(PAWL_INVALID,
                    "%s was not initialised: its struct_size is %zu, the first release's was %zu; "
                    "begin with its _INIT macro",
                    name, *size, smallest);
    return 0;
}

int pawl_struct_take(void *own, size_t own_size, const void *given, size_t smallest,
                     const char *name) {
    size_t size;
    TRY(size_of(given, smallest, name, &size));
    for (size_t i = own_size; i < size; i++)
        if (((const unsigned char *)given)[i] != 0)
            return fail(PAWL_UNSUPPORTED,
                        "%s asks for something that version %s doesn't know (byte %zu of %zu)",
                        name, pawl_version(), i, size);
    memset(own, 0, own_size);
    memcpy(own, given, size < own_size ? size : own_size);
    memcpy(own, &own_size, sizeof own_size);
    return 0;
}

int pawl_struct_give(void *given, size_t smallest, const void *own, size_t own_size,
                     const char *name) {
    size_t size, kept = sizeof size;
    TRY(size_of(given, smallest, name, &size));
    size_t most = size < own_size ? size : own_size;
    memcpy((unsigned char *)given + kept, (const unsigned char *)own + kept, most - kept);
    return 0;
}
