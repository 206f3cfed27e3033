# SPDX-License-Identifier: Apache-2.0
#
# C libraries other than glibc (musl) lack some functions that Linux has; cmake/libc.h makes up for
# them. It is included before every file, and only where something is missing.

include(CheckCSourceCompiles)
include(CheckSymbolExists)
set(CMAKE_REQUIRED_DEFINITIONS -D_GNU_SOURCE)
check_symbol_exists(pwritev2 sys/uio.h PAWL_HAVE_PWRITEV2)
check_symbol_exists(RWF_DSYNC sys/uio.h PAWL_HAVE_RWF_DSYNC)
check_symbol_exists(renameat2 stdio.h PAWL_HAVE_RENAMEAT2)
check_symbol_exists(statx sys/stat.h PAWL_HAVE_STATX)
check_symbol_exists(strerrordesc_np string.h PAWL_HAVE_STRERRORDESC)
check_c_source_compiles("#include <pthread.h>
    int main(void) { return PTHREAD_MUTEX_ADAPTIVE_NP; }" PAWL_HAVE_ADAPTIVE_MUTEX)
unset(CMAKE_REQUIRED_DEFINITIONS)

set(PAWL_LIBC_MISSING "")
foreach(thing PWRITEV2 RWF_DSYNC RENAMEAT2 STATX STRERRORDESC ADAPTIVE_MUTEX)
    if(NOT PAWL_HAVE_${thing})
        list(APPEND PAWL_LIBC_MISSING PAWL_NO_${thing})
    endif()
endforeach()
if(PAWL_LIBC_MISSING)
    target_compile_definitions(pawl_compile INTERFACE ${PAWL_LIBC_MISSING})
    target_compile_options(pawl_compile INTERFACE
        "SHELL:-include ${PROJECT_SOURCE_DIR}/cmake/libc.h")
endif()
