# SPDX-License-Identifier: Apache-2.0
#
# What every target of this project is compiled with. Warnings are errors unless
# CMAKE_COMPILE_WARNING_AS_ERROR is off.

add_library(pawl_compile INTERFACE)
target_compile_features(pawl_compile INTERFACE c_std_11)
target_compile_definitions(pawl_compile INTERFACE _GNU_SOURCE)
target_compile_options(pawl_compile INTERFACE
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla
    -Wundef)

# Assertions state what must hold; they stay on in release builds too, and cost little.
if(PAWL_ASSERTS)
    target_compile_options(pawl_compile INTERFACE -UNDEBUG)
endif()

if(PAWL_SANITIZE)
    target_compile_options(pawl_compile INTERFACE
        -fsanitize=${PAWL_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options(pawl_compile INTERFACE -fsanitize=${PAWL_SANITIZE})
    # clang's "undefined" leaves out what the standard allows and this project doesn't: a value that
    # changes in an implicit conversion, null where a declaration rules it out, an index outside of
    # an array whose size the optimiser knows, a division by 0.0.
    if(PAWL_SANITIZE MATCHES "undefined" AND CMAKE_C_COMPILER_ID MATCHES "Clang")
        set(pawl_strict implicit-conversion,nullability,local-bounds,float-divide-by-zero)
        target_compile_options(pawl_compile INTERFACE
            -fsanitize=${pawl_strict} -fno-sanitize-recover=all)
        target_link_options(pawl_compile INTERFACE -fsanitize=${pawl_strict})
    endif()
endif()
