# SPDX-License-Identifier: Apache-2.0
#
# pawl_localised_library(TARGET OBJECTS MAP) - a static library of one object file, in which only
# the functions of MAP are global. A program that links it may have a mem_alloc() of its own.
#
# Not with sanitizers or with clang's link-time optimisation: then every object goes into the
# archive as it is, and the configuration says so.

option(PAWL_LOCALISE "Hide the internal names of the static libraries (ld -r, objcopy)" ON)
set(PAWL_LOCALISED ${PAWL_LOCALISE})
set(pawl_all_flags "${CMAKE_C_FLAGS} ${CMAKE_C_FLAGS_${CMAKE_BUILD_TYPE}}")
if(CMAKE_INTERPROCEDURAL_OPTIMIZATION OR pawl_all_flags MATCHES "-flto")
    set(pawl_lto ON)
endif()
if(PAWL_SANITIZE OR NOT CMAKE_OBJCOPY OR NOT CMAKE_LINKER OR
        (pawl_lto AND NOT CMAKE_C_COMPILER_ID STREQUAL "GNU"))
    set(PAWL_LOCALISED OFF)
endif()
if(NOT PAWL_LOCALISED)
    message(STATUS "static libraries: internal names stay visible in this build")
endif()

# Objects for link-time optimisation have to be compiled to the end before names can be hidden.
if(pawl_lto)
    separate_arguments(pawl_partial_link NATIVE_COMMAND "${CMAKE_C_COMPILER} ${pawl_all_flags}")
    list(APPEND pawl_partial_link -r -nostdlib -flinker-output=nolto-rel)
else()
    set(pawl_partial_link ${CMAKE_LINKER} -r)
endif()

function(pawl_localised_library target objects map)
    if(NOT PAWL_LOCALISED)
        add_library(${target} STATIC $<TARGET_OBJECTS:${objects}>)
        return()
    endif()
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${map})
    file(STRINGS ${map} names REGEX "^ +pawl_[a-z0-9_]+;")
    list(TRANSFORM names REPLACE "^ +(pawl_[a-z0-9_]+);.*" "\\1")
    list(JOIN names "\n" lines)
    set(list ${CMAKE_CURRENT_BINARY_DIR}/${target}.names)
    file(CONFIGURE OUTPUT ${list} CONTENT "${lines}\n" @ONLY)

    set(object ${CMAKE_CURRENT_BINARY_DIR}/${target}.o)
    add_custom_command(OUTPUT ${object}
        COMMAND ${pawl_partial_link} -o ${object} $<TARGET_OBJECTS:${objects}>
        COMMAND ${CMAKE_OBJCOPY} --keep-global-symbols=${list} ${object}
        DEPENDS $<TARGET_OBJECTS:${objects}> ${list}
        COMMENT "Hiding the internal names of ${target}"
        COMMAND_EXPAND_LISTS VERBATIM)
    add_library(${target} STATIC ${object})
    set_source_files_properties(${object} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
endfunction()
