# SPDX-License-Identifier: Apache-2.0
#
# What makes a memory error in this project's code, or in a library that it loads, harder to use:
# every target is compiled and linked with it. Each flag is used only where the compiler and linker
# take it without a word. tests/hardened.py reads the built files and fails where a property is
# missing; docs/testing.md says what each costs.
#
# Flags of a distribution (CFLAGS, LDFLAGS) come first on the command line, so these win where both
# say something. PAWL_HARDEN=OFF leaves all of it to them. Sanitizers replace the checks and clash
# with some, so a build with PAWL_SANITIZE goes without.

set(PAWL_HARDENED "") # what this build has, in the words of tests/hardened.py
option(PAWL_HARDEN "Compile and link with the checks that make memory errors harder to use" ON)
if(PAWL_SANITIZE OR NOT PAWL_HARDEN)
    return()
endif()

include(CheckCCompilerFlag)
include(CheckCSourceCompiles)
include(CheckLinkerFlag)

# pawl_harden_compile(PROPERTY FLAG): a flag that is only warned about does nothing, so with -Werror
# it counts as refused.
function(pawl_harden_compile property flag)
    string(MAKE_C_IDENTIFIER "PAWL_TAKES${flag}" known)
    set(CMAKE_REQUIRED_FLAGS -Werror)
    check_c_compiler_flag(${flag} ${known})
    if(${known})
        target_compile_options(pawl_compile INTERFACE ${flag})
        set(PAWL_HARDENED ${PAWL_HARDENED} ${property} PARENT_SCOPE)
    endif()
endfunction()

function(pawl_harden_link property option)
    string(MAKE_C_IDENTIFIER "PAWL_LINKS_${option}" known)
    check_linker_flag(C LINKER:-z,${option} ${known})
    if(${known})
        target_link_options(pawl_compile INTERFACE LINKER:-z,${option})
        set(PAWL_HARDENED ${PAWL_HARDENED} ${property} PARENT_SCOPE)
    endif()
endfunction()

# Canaries; stacks that can't jump over their guard page; targets of indirect jumps and a shadow
# stack, on processors that know them (x86: CET, arm64: BTI and PAC).
pawl_harden_compile(canary -fstack-protector-strong)
pawl_harden_compile(clash -fstack-clash-protection)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|i[3-6]86)$")
    # The C library's start files may lack the note, and one file without it takes it from the
    # program. A shadow stack needs nothing of them; targets of indirect jumps (-z ibt) would.
    pawl_harden_link(shstk shstk)
    if(shstk IN_LIST PAWL_HARDENED)
        list(REMOVE_ITEM PAWL_HARDENED shstk)
        pawl_harden_compile(cet -fcf-protection=full)
    endif()
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
    pawl_harden_compile(bti -mbranch-protection=standard)
endif()

# Local variables without a value are zero: a length or pointer of chance becomes none. clang before
# 16 takes zero only under another flag; there it is a pattern.
pawl_harden_compile(init -ftrivial-auto-var-init=zero)
if(NOT init IN_LIST PAWL_HARDENED)
    pawl_harden_compile(init -ftrivial-auto-var-init=pattern)
endif()

# The C library's calls that know how large their target is check it. Its headers need a compiler
# that optimises, so they are asked with the flags of this kind of build; older ones know only 2. A
# target that defines such calls itself sets its property PAWL_NO_FORTIFY.
set(CMAKE_TRY_COMPILE_CONFIGURATION "${CMAKE_BUILD_TYPE}")
foreach(level 3 2)
    set(CMAKE_REQUIRED_FLAGS "-Werror -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=${level}")
    check_c_source_compiles("#include <string.h>
        #ifndef __OPTIMIZE__
        #error without optimisation there is nothing to check with
        #endif
        int main(int n, char **words) { char to[8]; return (int)strlen(strcpy(to, words[n - 1])); }"
        PAWL_TAKES_FORTIFY_${level})
    if(PAWL_TAKES_FORTIFY_${level})
        target_compile_options(pawl_compile INTERFACE -U_FORTIFY_SOURCE
            $<$<NOT:$<BOOL:$<TARGET_PROPERTY:PAWL_NO_FORTIFY>>>:-D_FORTIFY_SOURCE=${level}>)
        list(APPEND PAWL_HARDENED fortify)
        break()
    endif()
endforeach()
unset(CMAKE_REQUIRED_FLAGS)
unset(CMAKE_TRY_COMPILE_CONFIGURATION)

# Tables of the linker are read-only before main() begins; no stack is executable; code shares no
# page with data.
pawl_harden_link(relro relro)
pawl_harden_link(now now)
pawl_harden_link(nx noexecstack)
pawl_harden_link(separate separate-code)

# Programs go to a random address. (Objects of the libraries are position-independent anyway.)
include(CheckPIESupported)
check_pie_supported(LANGUAGES C)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(CMAKE_C_LINK_PIE_SUPPORTED)
    list(APPEND PAWL_HARDENED pie)
endif()
