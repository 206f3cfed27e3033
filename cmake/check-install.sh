#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# check-install.sh BUILD_DIR CC CXX - installs into an empty directory, and from there compiles and
# runs the README's program and a user's: in C and in C++, through pkg-config (shared, static
# archives, and -static altogether) and through CMake's find_package(). Nothing tells the run-time
# linker where the library is but what pkg-config and CMake say.
set -euo pipefail
build=$1 cc=$2 cxx=$3
source=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT

cmake --install "$build" --prefix "$work/prefix" >/dev/null
library=$(dirname "$(find "$work/prefix" -name libpawl.so -print -quit)")
export PKG_CONFIG_PATH=$library/pkgconfig
unset LD_LIBRARY_PATH
header=$work/prefix/include/pawl.h
for file in "$work/prefix/bin/pawl" "$header" "$work/prefix/include/pawl_connect.h" \
    "$work/prefix/include/pawl_state.h" "$work/prefix/include/pawl_time.h" \
    "$library"/libpawl{,_connect}.{a,so.0} "$library"/pkgconfig/pawl{,_connect}.pc; do
    [ -e "$file" ] || { echo "not installed: ${file#"$work/prefix/"}"; exit 1; }
done
if ldd "$library/libpawl_connect.so" | grep 'libpawl.*not found'; then
    echo "libpawl_connect does not find libpawl beside it"
    exit 1
fi

sed -n '/^## In a C program/,/^## /{/^```c$/,/^```$/{/^```/!p}}' "$source/README.md" \
    >"$work/readme.c"
read -ra flags <<<"$(pkg-config --cflags --libs pawl)"
"$cc" "$work/readme.c" -o "$work/readme" "${flags[@]}"
(cd "$work" && ./readme)
"$work/prefix/bin/pawl" audit "$work/data" >/dev/null

cat >"$work/user.c" <<'C'
#include <pawl.h>
#include <pawl_connect.h>
#include <stdio.h>
#include <string.h>
int main(void)
{
    pawl_options options = PAWL_OPTIONS_INIT;
    pawl_processor_config config = PAWL_PROCESSOR_INIT;
    pawl_status status = PAWL_STATUS_INIT;
    pawl_check check = PAWL_CHECK_INIT;
    char version[32];
    pawl_sink_config sink = PAWL_SINK_CONFIG_INIT;
    pawl_sink_ops sink_ops = PAWL_SINK_OPS_INIT;
    pawl_source_config source = PAWL_SOURCE_CONFIG_INIT;
    pawl_source_ops source_ops = PAWL_SOURCE_OPS_INIT;
    if (sink.struct_size != sizeof sink || sink_ops.struct_size != sizeof sink_ops || sink_ops.destroy != NULL)
        return 1;
    if (source.struct_size != sizeof source || source_ops.struct_size != sizeof source_ops || source.partition != PAWL_ANY)
        return 1;
    if (strcmp(pawl_flow_name(PAWL_FLOW_WAITING), "waiting") != 0)
        return 1;
    snprintf(version, sizeof version, "%d.%d.%d", PAWL_VERSION_MAJOR, PAWL_VERSION_MINOR, PAWL_VERSION_PATCH);
    if (options.struct_size != sizeof options || config.struct_size != sizeof config)
        return 1;
    if (status.struct_size != sizeof status || check.struct_size != sizeof check)
        return 1;
    return strcmp(version, pawl_version()) == 0 ? 0 : 1;
}
C
cp "$work/user.c" "$work/user.cc"

read -ra flags <<<"$(pkg-config --cflags --libs pawl_connect)"
"$cc" -std=c11 -Wall -Wextra -Wpedantic -Werror "$work/user.c" -o "$work/user-c" "${flags[@]}"
"$work/user-c"
if command -v "$cxx" >/dev/null; then
    "$cxx" -std=c++11 -Wall -Wextra -Wno-missing-field-initializers -Werror "$work/user.cc" \
        -o "$work/user-cxx" "${flags[@]}"
    "$work/user-cxx"
else
    echo "SKIPPED in part: no C++ compiler: the header was not tried from C++"
fi
# The archive by its name, because -lpawl would take the shared one.
read -ra flags <<<"$(pkg-config --static --cflags --libs pawl_connect |
    sed "s|-lpawl_connect|$library/libpawl_connect.a|; s|-lpawl\b|$library/libpawl.a|")"
"$cc" -std=c11 "$work/user.c" -o "$work/user-static" "${flags[@]}"
"$work/user-static"

# Wholly static: what a program on a small device may want. It has to use the log, since a program
# that only reads constants would leave the library out.
cat >"$work/whole.c" <<'C'
#include <pawl.h>
#include <stdio.h>
int main(int argc, char **argv)
{
    pawl *log;
    pawl_error error;
    pawl_options options = PAWL_OPTIONS_INIT;
    options.flags = PAWL_OPEN_CREATE;
    options.segment_size = 1 << 20;
    if (argc != 2 || pawl_open(argv[1], &options, &log, &error) < 0)
        return 1;
    static char text[1000];
    uint32_t stream;
    pawl_record record = { .value = text, .value_len = sizeof text };
    int code = pawl_stream_create(log, "s", 1, &stream);
    if (code == 0)
        code = pawl_append(log, stream, PAWL_ANY, &record, NULL);
    return pawl_close(log) < 0 || code < 0;
}
C
archived() { # archived LIBRARY: is there a static one?
    [ "$("$cc" -print-file-name="lib$1.a")" != "lib$1.a" ]
}
if archived uring && archived xxhash; then
    read -ra flags <<<"$(pkg-config --static --cflags --libs pawl)"
    "$cc" -std=c11 -static "$work/whole.c" -o "$work/whole" "${flags[@]}"
    "$work/whole" "$work/data"
    "$work/prefix/bin/pawl" verify "$work/data" >/dev/null
else
    echo "SKIPPED in part: no static library of liburing or xxHash: not linked with -static"
fi
# libpq needs Kerberos and LDAP, which distributions have as shared libraries only.
without=()
read -ra flags <<<"$(pkg-config --static --libs pawl_connect)"
for flag in "${flags[@]}"; do
    name=${flag#-l}
    [ "$name" != "$flag" ] && [ "${name#pawl}" = "$name" ] || continue
    if [ "$name" = pq ] || ! archived "$name"; then
        without+=("$name")
    fi
done
if [ "${#without[@]}" -eq 0 ]; then
    read -ra flags <<<"$(pkg-config --static --cflags --libs pawl_connect)"
    "$cc" -std=c11 -static "$work/user.c" -o "$work/user-whole" "${flags[@]}"
    "$work/user-whole"
else
    echo "SKIPPED in part: no static library of ${without[*]}: connectors not linked with -static"
fi

cat >"$work/CMakeLists.txt" <<'CMAKE'
cmake_minimum_required(VERSION 3.25)
project(user C)
find_package(pawl 0.1 REQUIRED)
add_executable(user_shared user.c)
target_link_libraries(user_shared PRIVATE pawl::pawl_connect)
add_executable(user_static user.c)
target_link_libraries(user_static PRIVATE pawl::pawl_connect_static)
CMAKE
# With the tool that made the library: there may be no make.
cached() { sed -n "s/^$1:[A-Z]*=//p" "$build/CMakeCache.txt"; }
if ! { cmake -G "$(cached CMAKE_GENERATOR)" -DCMAKE_MAKE_PROGRAM="$(cached CMAKE_MAKE_PROGRAM)" \
    -S "$work" -B "$work/user-build" -DCMAKE_C_COMPILER="$cc" -DCMAKE_PREFIX_PATH="$work/prefix" &&
    cmake --build "$work/user-build"; } >"$work/log" 2>&1; then
    cat "$work/log"
    exit 1
fi
"$work/user-build/user_shared"
"$work/user-build/user_static"
"$work/prefix/bin/pawl" --version >/dev/null
if command -v python3 >/dev/null; then
    for page in man1/pawl.1 man3/pawl.3 man3/pawl_open.3 man3/pawl_sink_add.3; do
        [ -e "$work/prefix/share/man/$page" ] || { echo "not installed: share/man/$page"; exit 1; }
    done
fi
echo "the installed library works from C, C++, pkg-config and CMake"
