#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# old_header.sh - a program built against the headers of each release works with today's library.
set -euo pipefail
build=${PAWL_BUILD_DIR:?} source_dir=${PAWL_SOURCE_DIR:?}
frozen=$source_dir/tests/frozen
cc=${CC:-cc}
library=$build/libpawl.so connectors=$build/connectors/libpawl_connect.so
if [ ! -e "$library" ] || ! command -v "$cc" >/dev/null; then
    echo "SKIPPED: there is no shared library, or no compiler"
    exit 77
fi
if grep -q '^PAWL_SANITIZE:[^=]*=..*' "$build/CMakeCache.txt"; then
    echo "SKIPPED: the library is sanitized, the old program isn't"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
for header in "$frozen"/pawl-*.h; do
    version=$(basename "$header" .h)
    version=${version#pawl-}
    mkdir "$work/$version"
    cp "$header" "$work/$version/pawl.h"
    cp "$frozen/pawl_connect-$version.h" "$work/$version/pawl_connect.h"
    "$cc" -std=c11 -Wall -Wextra -Werror -I "$work/$version" "$frozen/old_program.c" \
        -o "$work/$version/program" "$connectors" "$library" -Wl,-rpath,"$build:${connectors%/*}"
    "$work/$version/program" "$work/$version/log"
    echo "a program of version $version works"
done
